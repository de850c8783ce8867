//! The page for people, in a real browser.

use std::fs;
use std::path::Path;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::middleware;
use axum::response::Response;
use axum::routing::get;
use axum::{Router, extract::Query};
use futures_util::StreamExt;
use larder::admin::{Admin, Watch};
use larder::policy::{Policies, request_fn};
use larder::{CacheBuilder, CacheHandle, RequestAction, StandardPolicy};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Notify;

use super::TOKEN;
use crate::support::browser::Browser;
use crate::support::wire::serve_router;

/// What would run if any of it became markup.
const HOSTILE: &str =
    "<img src=x onerror=\"document.title='stolen'\"><script>document.title='stolen'</script>";

async fn answer(Query(query): Query<HashMap<String, String>>) -> (HeaderMap, &'static str) {
    let mut fields = HeaderMap::new();
    let is_private = query.contains_key("private");
    let control = if is_private { "private" } else { "max-age=600" };
    fields.insert("cache-control", control.parse().unwrap());
    fields.insert("cache-groups", "\"news\", \"<b onclick=alert(1)>\"".parse().unwrap());
    fields.insert("x-hostile", HOSTILE.parse().unwrap());
    (fields, "some content of this page")
}

struct Site {
    /// A request for `/waits` has come.
    asked: Arc<Notify>,
    /// Ends all live streams.
    cut: Arc<Notify>,
    handle: CacheHandle,
    url: String,
}

/// A cached site with its admin service under `/cache`.
async fn site() -> Site {
    let watch = Watch::new();
    let policy = Policies::new(StandardPolicy::default())
        .path("/reason/*", request_fn(|_| RequestAction::bypass(HOSTILE.to_owned())));
    let layer = CacheBuilder::default().observer(watch.clone()).policy(policy).build();
    let handle = layer.handle();
    let asked = Arc::new(Notify::new());
    let has_come = Arc::clone(&asked);
    let waits = get(move || async move {
        has_come.notify_one();
        std::future::pending::<()>().await;
    });
    let app = Router::new().route("/waits", waits).route("/{*path}", get(answer)).layer(layer.clone());
    let admin = Admin::new(layer.handle(), TOKEN).unwrap().watch(watch).build();
    let cut = Arc::new(Notify::new());
    let until = Arc::clone(&cut);
    let cuttable = middleware::map_response(move |response: Response| {
        let cut = Box::pin(Arc::clone(&until).notified_owned());
        async move { response.map(|body| Body::from_stream(body.into_data_stream().take_until(cut))) }
    });
    let admin = Router::new().fallback_service(admin).layer(cuttable);
    let address = serve_router(app.nest_service("/cache", admin)).await;
    Site { asked, cut, handle, url: format!("http://{address}") }
}

impl Site {
    async fn post(&self, path: &str) {
        let client = crate::support::wire::client::<http_body_util::Empty<bytes::Bytes>>();
        let request = http::Request::post(format!("{}{path}", self.url)).body(Default::default()).unwrap();
        crate::support::bench::read(client.request(request).await.unwrap()).await;
    }

    async fn get(&self, path: &str) -> String {
        let client = crate::support::wire::client::<http_body_util::Empty<bytes::Bytes>>();
        let uri = format!("{}{path}", self.url).parse().unwrap();
        let response = client.get(uri).await.unwrap();
        let status = response.headers()["cache-status"].to_str().unwrap().to_owned();
        crate::support::bench::read(response).await;
        status
    }
}

async fn log_in(browser: &Browser, site: &Site) {
    browser.open(&format!("{}/cache/", site.url)).await;
    browser.keys("#token", TOKEN).await;
    browser.click("#enter button").await;
    browser.until("return document.querySelector('#requests')").await;
    // From now on nothing is missed of what happens.
    browser.until("return document.querySelector('#live[data-open]')").await;
}

fn keep(name: &str, picture: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/admin-page");
    fs::create_dir_all(&folder).unwrap();
    assert!(picture.starts_with(b"\x89PNG"), "a picture");
    fs::write(folder.join(name), picture).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_logs_in_sees_numbers_move_explains_a_url_and_purges_a_tag() {
    let site = site().await;
    let browser = Browser::start(1280, 1600).await;
    // Without a token, there is a log-in and nothing else; with a wrong one, too.
    browser.open(&format!("{}/cache/", site.url)).await;
    let text = browser.text().await;
    assert!(text.contains("Log in") && !text.contains("Purge") && !text.contains("Hit ratio"), "{text}");
    browser.keys("#token", "not-the-token-of-it").await;
    browser.click("#enter button").await;
    browser.until("return document.querySelector('#refused').textContent").await;
    assert_eq!(browser.run("return document.querySelector('#desk').childElementCount").await, json!(0));

    log_in(&browser, &site).await;
    let requests = "return Number(document.querySelector('#requests').textContent)";
    assert_eq!(browser.run(requests).await, json!(0));
    for _ in 0..20 {
        site.get("/hot").await;
    }
    for _ in 0..4 {
        site.get("/own?private=1").await;
    }
    site.post("/form").await;
    browser.until("return Number(document.querySelector('#requests').textContent) >= 25").await;
    // 19 of 24: what bypasses the cache is neither a hit nor a miss.
    assert_eq!(browser.run("return document.querySelector('#hit-ratio').textContent").await, json!("79.2 %"));
    browser.until("return document.querySelector('#reasons').textContent.includes('private: 4')").await;
    browser.until("return document.querySelector('#hot-hits').textContent.includes('/hot')").await;
    browser.until("return document.querySelectorAll('#live tr').length >= 20").await;
    assert!(
        browser
            .run("return document.querySelector('#plot title').textContent")
            .await
            .to_string()
            .contains("Hit ratio")
    );

    let url = format!("{}/hot", site.url);
    browser.keys("#url", &url).await;
    browser.click("#explain").await;
    browser
        .until("return document.querySelector('#explained')?.textContent.startsWith('larder; hit; ttl=')")
        .await;
    assert!(browser.text().await.contains("It would be a hit"));
    keep("desk.png", &browser.picture().await);

    let waits = tokio::spawn({
        let uri: axum::http::Uri = format!("{}/waits", site.url).parse().unwrap();
        async move { crate::support::wire::client::<http_body_util::Empty<bytes::Bytes>>().get(uri).await }
    });
    site.asked.notified().await;
    browser.run("document.querySelector('#url').value = ''").await;
    browser.keys("#url", &format!("{}/waits", site.url)).await;
    browser.click("#explain").await;
    let said = "The origin is being asked already";
    browser.until(&format!("return document.querySelector('#found').textContent.includes('{said}')")).await;
    waits.abort();

    browser.keys("#target", "news").await;
    browser.click("#purge button").await;
    browser.until("return document.querySelector('#sure').open").await;
    assert!(browser.text().await.contains("Purge: a tag news?"));
    // The question is answered by no first.
    browser.keys("#sure button", "\u{e007}").await;
    browser.until("return !document.querySelector('#sure').open").await;
    assert!(site.get("/hot").await.contains("hit"));
    browser.click("#purge button").await;
    browser.until("return document.querySelector('#sure').open").await;
    browser.click("#yes").await;
    browser.until("return document.querySelector('#purged').textContent.startsWith('Done, as number')").await;
    assert!(site.get("/hot").await.contains("uri-miss"));

    browser.click("#leave").await;
    assert_eq!(browser.run("return document.querySelector('#desk').childElementCount").await, json!(0));
    // Nothing was refused by the page's own policy, and no error was thrown.
    let complaints = browser.complaints().await;
    let others =
        complaints.iter().filter(|line| !line["message"].as_str().unwrap().contains("status of 403"));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&serde_json::Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a19_hostile_text_is_shown_as_text() {
    let site = site().await;
    let browser = Browser::start(1280, 1200).await;
    log_in(&browser, &site).await;
    let hostile = "/%3Cscript%3E?%3Cimg%20src=x%20onerror=alert(1)%3E";
    site.get(hostile).await;
    site.get(hostile).await;
    // A policy can give a reason that it has read in the request.
    site.get("/reason/x").await;
    browser.until("return document.querySelectorAll('#live tr').length >= 3").await;
    browser.until("return document.querySelector('#live').textContent.includes('<img src=x')").await;
    browser.until("return document.querySelector('#reasons').textContent.includes('<img src=x')").await;
    browser.keys("#url", &format!("{}/reason/x", site.url)).await;
    browser.click("#explain").await;
    browser.until("return document.querySelector('#found').textContent.includes('<img src=x')").await;
    browser.run("document.querySelector('#url').value = ''").await;
    browser.keys("#url", &format!("{}{hostile}", site.url)).await;
    browser.click("#inspect").await;
    browser.until("return document.querySelector('#found').textContent.includes('x-hostile')").await;
    let text = browser.text().await;
    assert!(text.contains(HOSTILE) && text.contains("<b onclick=alert(1)>"), "{text}");
    browser.click("#explain").await;
    browser.until("return document.querySelector('#explained')").await;
    // Also where an error quotes what was asked.
    browser
        .run("document.querySelector('#fields').value = arguments[0] || '<img src=x onerror=alert(1)>'")
        .await;
    browser.click("#explain").await;
    browser.until("return document.querySelector('#found').textContent.includes('is not a field')").await;
    let count =
        "return document.querySelectorAll('#desk img, #desk script, #desk b, #desk [onerror]').length";
    assert_eq!(browser.run(count).await, json!(0));
    assert_eq!(browser.run("return document.title").await, json!("larder"));
    // And if some became markup, the policy of the page would not run it.
    browser.run("const made = document.createElement('script'); made.textContent = \"document.title = 'stolen'\"; document.body.append(made)").await;
    browser.run("const made = document.createElement('div'); made.innerHTML = \"<img src=x onerror=\\\"document.title='stolen'\\\">\"; document.body.append(made)").await;
    assert_eq!(browser.run("return document.title").await, json!("larder"));
    let refused = browser.complaints().await;
    let by_policy =
        refused.iter().filter(|line| line["message"].as_str().unwrap().contains("Content Security Policy"));
    assert!(by_policy.count() >= 2, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_usable_by_keyboard_on_a_phone_dark_and_light() {
    let site = site().await;
    let browser = Browser::start(390, 844).await;
    browser.open(&format!("{}/cache/", site.url)).await;
    // The field has the focus, and Enter logs in.
    assert_eq!(browser.run("return document.activeElement.id").await, json!("token"));
    browser.keys("#token", &format!("{TOKEN}\u{e007}")).await;
    browser.until("return document.querySelector('#requests')").await;
    for _ in 0..5 {
        site.get(
            "/a/long/path/that/would/be/wider/than/a/phone/if/nothing/broke/it?with=a&query=of&many=parts",
        )
        .await;
    }
    browser.until("return document.querySelector('#hot-hits').textContent.includes('phone')").await;
    let overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert_eq!(browser.run(overflow).await, json!(0), "nothing has to be scrolled sideways");
    let small = "return [...document.querySelectorAll('button, input:not([type=checkbox]), select')] \
                 .filter((one) => one.offsetParent && one.getBoundingClientRect().height < 40).map((one) => one.id)";
    assert_eq!(browser.run(small).await, json!([]), "what is touched is large enough");
    let unnamed = "return [...document.querySelectorAll('input, select, textarea')] \
                   .filter((one) => one.offsetParent && !one.labels.length).map((one) => one.id)";
    assert_eq!(browser.run(unnamed).await, json!([]), "each field has its label");
    let back = "return getComputedStyle(document.body).backgroundColor";
    browser.dark(false).await;
    let light = browser.run(back).await;
    keep("phone-light.png", &browser.picture().await);
    browser.dark(true).await;
    assert_ne!(browser.run(back).await, light);
    keep("phone-dark.png", &browser.picture().await);
    // A page that is loaded again is still logged in, until somebody logs out.
    browser.open(&format!("{}/cache", site.url)).await;
    browser.until("return document.querySelector('#requests')").await;
    assert!(site.handle.statistics().entries > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_stream_waits_for_a_place_and_comes_back_after_an_interruption() {
    let site = site().await;
    let client = crate::support::wire::client::<http_body_util::Empty<bytes::Bytes>>();
    let mut readers = Vec::new();
    for _ in 0..16 {
        let request = http::Request::get(format!("{}/cache/live", site.url));
        let request = request.header("authorization", format!("Bearer {TOKEN}"));
        let reader = client.request(request.body(http_body_util::Empty::new()).unwrap()).await.unwrap();
        assert_eq!(reader.status(), 200);
        readers.push(reader);
    }
    let browser = Browser::start(1280, 1600).await;
    browser.open(&format!("{}/cache/", site.url)).await;
    browser.keys("#token", TOKEN).await;
    browser.click("#enter button").await;
    let state = "document.querySelector('#live-state')?.textContent";
    browser
        .until(&format!(
            "return {state}?.startsWith('16 readers have a live stream already: asked again in')"
        ))
        .await;
    drop(readers);
    browser.until("return document.querySelector('#live').dataset.open === '1'").await;
    browser.until(&format!("return {state} === 'connected'")).await;
    site.get("/before").await;
    browser.until("return document.querySelectorAll('#live tr').length === 1").await;
    site.cut.notify_waiters();
    // It has happened before anybody listens again.
    browser.until(&format!("return {state} === 'the stream was interrupted: asked again in 1 s'")).await;
    browser.until("return document.querySelector('#live').dataset.open === '2'").await;
    site.get("/after").await;
    browser.until("return document.querySelector('#live tr')?.textContent.includes('/after')").await;
    assert_eq!(browser.run("return document.querySelectorAll('#live tr').length").await, json!(2));
    // Whoever has left and comes back has one stream, not two.
    browser.click("#leave").await;
    browser.keys("#token", TOKEN).await;
    browser.click("#enter button").await;
    browser.until("return document.querySelector('#live')?.dataset.open === '1'").await;
    site.get("/again").await;
    browser.until("return document.querySelectorAll('#live tr').length === 1").await;
    site.get("/last").await;
    browser.until("return document.querySelectorAll('#live tr').length === 2").await;
    assert!(
        browser.run("return document.querySelector('#live').textContent.split('/again').length").await
            == json!(2)
    );
}
