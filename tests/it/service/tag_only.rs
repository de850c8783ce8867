//! Entity tags on answers that are not stored: `CacheBuilder::tag_only`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Extensions, HeaderName, HeaderValue, Method, Request, StatusCode, request};
use http_body_util::{Empty, Full};
use larder::semantics::Rules;
use larder::semantics::etag::{TagKind, Tagger};
use larder::{
    CachePolicy, CachePolicyExt, CallLimits, Delivery, Event, ForwardReason, KeyParts, Outcome,
    PolicyExchange, QueryLayer, RequestAction, StandardPolicy, Tagging, Terms,
};
use tower::{Layer, Service};

use crate::support::bench::read;
use crate::support::origin::always;
use crate::support::stepped::Answer;
use crate::support::{Bench, CacheBuilder, Reply, Stage, Step, cache_builder, settle};

fn tagging(replies: impl IntoIterator<Item = Reply>) -> Bench {
    Bench::with(cache_builder().tag_only(), replies)
}

/// The weak tag of some content.
fn tag(content: &str) -> String {
    let mut tagger = Tagger::new(TagKind::Fnv1a);
    tagger.update(content.as_bytes());
    tagger.finish().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_layer_stores_nothing_and_answers_a_condition_by_its_own_tag() {
    let bench = tagging([Reply::cc("x", "max-age=60")]);
    let first = bench.get("/").await.has_body("x");
    let tag = first.field("etag").unwrap();
    assert_eq!(tag, self::tag("x"));
    let seen = bench.get_with("/", &[("if-none-match", tag)]).await.has_body("");
    assert_eq!((seen.status, bench.origin.calls()), (StatusCode::NOT_MODIFIED, 2));
    assert_eq!((seen.field("etag"), seen.field("cache-control")), (Some(tag), Some("max-age=60")));
    // What the client sends reaches an origin that may know its own tags.
    assert_eq!(bench.origin.last().headers["if-none-match"], tag);
    assert_eq!(bench.handle.statistics().entries, 0);
    bench.origin.then(Reply::new("").status(304).field("etag", "\"own\""));
    assert_eq!(bench.get_with("/", &[("if-none-match", "\"own\"")]).await.status, 304);
}

#[tokio::test]
async fn the_layer_sends_cache_status_only_where_it_is_asked_for() {
    let requests: [(Method, &[(&str, &str)], u16, &str); 7] = [
        (Method::GET, &[], 200, "fwd=bypass; detail=\"switched-off\""),
        (Method::HEAD, &[], 200, "fwd=bypass; detail=\"switched-off\""),
        (Method::GET, &[("if-none-match", "*")], 304, "fwd=bypass; detail=\"switched-off\""),
        (Method::GET, &[("if-match", "\"other\"")], 412, "fwd=bypass; detail=\"switched-off\""),
        (Method::POST, &[], 200, "fwd=method"),
        (Method::GET, &[("upgrade", "x"), ("connection", "upgrade")], 200, "fwd=bypass; detail=\"upgrade\""),
        (Method::GET, &[("content-length", "1")], 200, "fwd=bypass; detail=\"content\""),
    ];
    let layer = cache_builder;
    for (layer, is_asked) in [
        (layer().tag_only(), false),
        (layer().tag_only().cache_status(true), true),
        (layer().cache_status(true).tag_only(), true),
        (layer().tag_only().cache_status(true).cache_status(false), false),
    ] {
        let bench = Bench::with(layer, [Reply::new("x").field("etag", "\"own\"")]);
        for (method, fields, status, member) in &requests {
            let seen = bench.send(method.clone(), "/", fields).await;
            let member = is_asked.then(|| format!("larder; {member}"));
            assert_eq!((seen.status.as_u16(), seen.field("cache-status")), (*status, member.as_deref()));
        }
    }
}

#[tokio::test]
async fn other_caches_members_pass_and_x_cache_has_an_option_of_its_own() {
    let reply = || Reply::new("x").field("cache-status", "origin; hit");
    let seen = tagging([reply()]).get("/").await;
    assert_eq!((seen.field("cache-status"), seen.field("x-cache")), (Some("origin; hit"), None));
    let bench = Bench::with(cache_builder().tag_only().x_cache(true), [reply()]);
    let seen = bench.get("/").await;
    assert_eq!(
        (seen.field("cache-status"), seen.field("x-cache")),
        (Some("origin; hit"), Some("Miss from larder"))
    );
}

#[tokio::test]
async fn the_key_is_in_cache_status_or_nowhere() {
    let layer = || cache_builder().tag_only().key_in_cache_status(true);
    let reply = || Reply::new("x").field("cache-status", "origin; hit");
    // No key is made that nobody gets to see: this policy would not give one.
    let seen = Bench::with(layer().policy(OutOfTheWay), [reply()]).get("/a").await;
    assert_eq!(seen.field("cache-status"), Some("origin; hit"));
    let bench = Bench::with(layer().cache_status(true), [Reply::new("x")]);
    bench.get("/a").await.told("larder; fwd=bypass; detail=\"switched-off\"; key=\"http://example.com/a\"");
}

#[tokio::test]
async fn only_small_answers_to_get_that_may_be_kept_and_have_no_tag_get_one() {
    let long = "x".repeat(65_537);
    let cases = [
        (Reply::new("x"), true),
        (Reply::new(""), true),
        (Reply::cc("x", "private"), true),
        (Reply::cc("x", "no-cache"), true),
        (Reply::new("x").status(203), true),
        (Reply::new(&long[1..]), true),
        (Reply::new(&long), false),
        (Reply::cc("x", "no-store"), false),
        (Reply::cc("x", "max-age=60, No-Store"), false),
        (Reply::new("x").field("cdn-cache-control", "no-store"), false),
        (Reply::cc("x", "no-store").field("cdn-cache-control", "max-age=60"), true),
        (Reply::new("x").status(201), false),
        (Reply::new("x").status(206), false),
        (Reply::new("x").status(404), false),
        (Reply::new("").status(204), false),
        (Reply::new("").frames(&["a", "b"]), false),
    ];
    for (reply, is_tagged) in cases {
        let bench = tagging([reply.clone()]);
        let (first, second) = (bench.get("/").await, bench.get("/").await);
        assert_eq!(first.field("etag").is_some(), is_tagged, "{:?}", reply.fields);
        assert_eq!(first.field("etag"), second.field("etag"));
        assert_eq!(first.body.len(), reply.frames.iter().map(Bytes::len).sum::<usize>());
        for method in [Method::HEAD, Method::POST, Method::PUT, Method::OPTIONS] {
            assert_eq!(bench.send(method, "/", &[]).await.field("etag"), None);
        }
    }
    for own in ["\"own\"", "W/\"own\"", "own"] {
        assert_eq!(tagging([Reply::new("x").field("etag", own)]).get("/").await.field("etag"), Some(own));
    }
    let untagged = Bench::with(cache_builder().tag_only().without_tagging(), [Reply::new("x")]);
    assert_eq!(untagged.get("/").await.has_body("x").field("etag"), None);
}

#[tokio::test]
async fn conditions_are_evaluated_on_successful_answers() {
    const MODIFIED: &str = "Tue, 01 Sep 2020 00:00:00 GMT";
    const LATER: &str = "Wed, 02 Sep 2020 00:00:00 GMT";
    const EARLIER: &str = "Mon, 31 Aug 2020 00:00:00 GMT";
    let own = || Reply::new("x").field("etag", "\"own\"").field("last-modified", MODIFIED);
    let dated = || Reply::new("x").field("last-modified", MODIFIED);
    let generated = tag("x");
    let listed = format!("\"a\", {generated}");
    // RFC 9110 13.1.
    let cases: [(Reply, &[(&str, &str)], u16); 18] = [
        (dated(), &[("if-none-match", &generated)], 304),
        (dated(), &[("if-none-match", &listed)], 304),
        (dated(), &[("if-none-match", "\"a\"")], 200),
        (dated(), &[("if-none-match", "*")], 304),
        (dated(), &[("if-none-match", "\"a\""), ("if-modified-since", LATER)], 200),
        (dated(), &[("if-modified-since", LATER)], 304),
        (dated(), &[("if-modified-since", EARLIER)], 200),
        (dated(), &[("if-unmodified-since", LATER)], 200),
        (dated(), &[("if-unmodified-since", EARLIER)], 412),
        // A weak tag never matches strongly.
        (dated(), &[("if-match", &generated)], 412),
        (dated(), &[("if-match", "*")], 200),
        (own(), &[("if-match", "\"own\"")], 200),
        (own(), &[("if-match", "\"a\", \"b\"")], 412),
        (own(), &[("if-none-match", "W/\"own\"")], 304),
        (own().status(404), &[("if-none-match", "\"own\"")], 404),
        (own().status(404), &[("if-match", "\"a\"")], 404),
        // A range is the origin's to cut, and so is what it says to conditions.
        (own(), &[("if-none-match", "\"own\""), ("range", "bytes=0-0")], 200),
        (own().status(206), &[("if-range", &generated), ("range", "bytes=0-0")], 206),
    ];
    for (reply, fields, status) in cases {
        for method in [Method::GET, Method::HEAD] {
            if method == Method::HEAD
                && fields
                    .iter()
                    .any(|(name, value)| *name == "range" || *value == generated || *value == listed)
            {
                continue; // it has no generated tag
            }
            let bench = tagging([reply.clone()]);
            let seen = bench.send(method.clone(), "/", fields).await;
            assert_eq!(seen.status.as_u16(), status, "{method} {fields:?}");
            let has_content = method == Method::GET && !matches!(status, 304 | 412);
            assert_eq!(seen.body, if has_content { "x" } else { "" }, "{method} {fields:?}");
            // The origin sees them too.
            for (name, value) in fields {
                assert_eq!(bench.origin.last().headers[*name], value);
            }
        }
    }
}

#[tokio::test]
async fn a_304_has_the_fields_that_were_sent_for_this_client() {
    let reply = Reply::cc("x", "private")
        .field("age", "7")
        .field("set-cookie", "a=b")
        .field("content-type", "text/plain")
        .field("last-modified", "Tue, 01 Sep 2020 00:00:00 GMT")
        .field("vary", "accept");
    let seen = tagging([reply]).get_with("/", &[("if-none-match", &tag("x"))]).await;
    let mut names: Vec<_> = seen.fields.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["age", "cache-control", "etag", "set-cookie", "vary"]);
}

/// There is no later answer to have the tag.
#[tokio::test(start_paused = true)]
async fn small_content_is_waited_for_up_to_a_second() {
    for (delay, is_tagged) in [(0, true), (900, true), (1100, false)] {
        let stage = Stage::with(cache_builder().tag_only());
        let client = stage.get("/");
        settle().await;
        let call = stage.origin.call(0);
        call.head(&[("cache-control", "max-age=60"), ("content-length", "6")]).frame("pan");
        tokio::time::sleep(Duration::from_millis(delay)).await;
        assert_eq!(client.is_waiting(), delay < 1000, "{delay}");
        let response = client.response();
        let response = if is_tagged {
            call.frame("try").end();
            response.await
        } else {
            let response = response.await;
            call.frame("try").end();
            response
        };
        let seen = read(response).await.has_body("pantry");
        assert_eq!(seen.field("etag").map(str::to_owned), is_tagged.then(|| tag("pantry")), "{delay}");
        assert!(!seen.broken, "{delay}");
    }
}

#[tokio::test]
async fn content_is_waited_for_where_there_is_no_runtime() {
    let stage = Stage::with(cache_builder().tag_only());
    let request = Request::get("/").body(Empty::<Bytes>::new()).unwrap();
    stage.origin.script(&[Step::head(200, &[("content-length", "6")]), Step::frame("pan")]);
    let mut cache = stage.cache.clone();
    let answered = std::thread::spawn(move || {
        let mut answer = Box::pin(cache.call(request));
        assert!(answer.as_mut().now_or_never().is_none());
        stage.origin.call(0).frame("try").end();
        answer.now_or_never().expect("the content is whole").unwrap()
    });
    let seen = read(answered.join().unwrap()).await.has_body("pantry");
    assert_eq!(seen.field("etag"), Some(&*tag("pantry")));
}

#[tokio::test]
async fn large_content_and_streams_pass_frame_by_frame() {
    for fields in [&[][..], &[("content-length", "100000")]] {
        let stage = Stage::with(cache_builder().tag_only());
        let client = stage.get("/");
        settle().await;
        let call = stage.origin.call(0);
        call.head(fields).frame("pan");
        let mut body = client.body().await;
        assert_eq!(body.next().await.as_deref(), Some("pan"), "{fields:?}");
        call.frame("try");
        assert_eq!(body.next().await.as_deref(), Some("try"), "{fields:?}");
    }
}

/// Content of several blocks is read, counted and taken away as that of a cache is.
#[tokio::test]
async fn content_of_any_length_is_tagged_where_the_limit_says_so() {
    let long = "x".repeat(150_000);
    for (limit, is_tagged) in [(150_000, true), (149_999, false)] {
        let layer = cache_builder().tag_only().tagging(Tagging::weak().small(limit));
        let length = long.len().to_string();
        let reply =
            Reply::new("").frames(&[&long[..70_000], &long[70_000..]]).field("content-length", &length);
        let seen = Bench::with(layer, [reply]).get("/").await.has_body(&long);
        assert_eq!(seen.field("etag").map(str::to_owned), is_tagged.then(|| tag(&long)), "{limit}");
    }
}

#[tokio::test]
async fn trailers_follow_tagged_content() {
    let seen = tagging([Reply::new("x").trailer("x-sum", "1")]).get("/").await.has_body("x");
    assert_eq!(seen.trailers.unwrap()["x-sum"], "1");
    assert_eq!(seen.fields["etag"], tag("x"));
}

#[tokio::test]
async fn content_that_breaks_or_is_not_as_long_as_declared_ends_in_an_error() {
    let x = || Reply::new("").frames(&["pan"]);
    for reply in [
        x().field("content-length", "3").failing(),
        x().field("content-length", "6"),
        x().field("content-length", "2"),
        x().field("content-length", "100000"),
        x().failing(),
    ] {
        let bench = tagging([reply.clone()]);
        for fields in [&[][..], &[("if-none-match", "\"other\"")]] {
            let seen = bench.get_with("/", fields).await;
            assert!(seen.broken && seen.status == 200, "{reply:?}");
            assert_eq!(seen.field("etag"), None, "{reply:?}");
        }
    }
}

#[tokio::test]
async fn an_error_or_a_panic_of_the_service_is_the_clients() {
    for step in [Step::Refuse, Step::Panic] {
        let stage = Stage::with(cache_builder().tag_only());
        stage.origin.script(std::slice::from_ref(&step));
        let answer = stage.get("/").answer().await;
        assert!(
            matches!((&step, answer), (Step::Refuse, Answer::Refused) | (Step::Panic, Answer::Panicked)),
            "{step:?}"
        );
    }
}

#[tokio::test]
async fn a_304_that_nobody_asked_for_is_a_502() {
    let bench = tagging([Reply::new("").status(304).field("etag", "\"a\"")]);
    assert_eq!(bench.get("/").await.status, 502);
    for tag in ["\"a\"", "\"b\""] {
        assert_eq!(bench.get_with("/", &[("if-match", tag)]).await.status, 502);
    }
    assert_eq!(bench.get_with("/", &[("if-none-match", "\"a\"")]).await.status, 304);
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_when_its_client_leaves() {
    for method in [Method::GET, Method::POST] {
        let stage = Stage::with(cache_builder().tag_only());
        let client = stage.send(method.clone(), "/", &[]);
        settle().await;
        assert_eq!(stage.origin.open(), 1);
        client.leave();
        settle().await;
        assert_eq!(stage.origin.open(), 0, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_share_no_call() {
    let stage = Stage::with(cache_builder().tag_only());
    let clients = stage.herd(5, &[]);
    settle().await;
    assert_eq!(stage.origin.calls(), 5);
    drop(clients);
}

/// Is for storing only, and keeps a field and a condition from the inner service.
struct OutOfTheWay;

impl CachePolicy for OutOfTheWay {
    fn request(&self, _: &mut request::Parts, _: &mut Extensions) -> RequestAction {
        panic!("nothing is keyed")
    }

    fn response(&self, _: &PolicyExchange<'_>, _: &mut Terms) {
        panic!("nothing is stored")
    }

    fn forward(&self, request: &mut request::Parts, reason: &ForwardReason<'_>) {
        assert_eq!(
            format!("{:?}", reason.forward),
            if request.method == Method::POST { "Method" } else { "Bypass" }
        );
        request.headers.remove("x-forwarded-host");
        request.headers.remove("if-none-match");
    }

    fn is_for_storing_only(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_policy_that_is_for_storing_only_says_what_goes_out() {
    let bench = Bench::with(cache_builder().policy(OutOfTheWay).tag_only(), [Reply::cc("x", "max-age=60")]);
    let fields = [("x-forwarded-host", "evil.example"), ("if-none-match", &*tag("x"))];
    let seen = bench.get_with("/", &fields).await;
    assert_eq!(seen.status, 304, "the client's condition counts all the same");
    let sent = bench.origin.last().headers;
    assert!(!sent.contains_key("x-forwarded-host") && !sent.contains_key("if-none-match"), "{sent:?}");
    assert_eq!(bench.send(Method::POST, "/", &[]).await.status, 200);
    // Nobody has asked the origin whether anything is modified; the client has.
    bench.origin.then(Reply::new("").status(304).field("etag", &tag("x")));
    assert_eq!(bench.get_with("/", &fields).await.status, 304);
    assert_eq!(bench.get_with("/", &[("if-none-match", "\"other\"")]).await.status, 502);
}

/// Edits in every hook, and takes notes.
#[derive(Clone, Default)]
struct Editing(Arc<Mutex<Vec<String>>>);

#[derive(Clone, Debug)]
struct Marked(#[expect(dead_code, reason = "it is shown")] u8);

impl Editing {
    fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    /// What has been noted since the last time.
    fn notes(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn bench(&self, reply: Reply) -> Bench {
        Bench::with(cache_builder().policy(self.clone()).tag_only(), [reply])
    }
}

impl CachePolicy for Editing {
    fn request(&self, request: &mut request::Parts, data: &mut Extensions) -> RequestAction {
        data.insert(Marked(7));
        request.headers.insert("x-asked", HeaderValue::from_static("1"));
        if request.uri.path() == "/bypassed" {
            RequestAction::bypass("mine")
        } else {
            RequestAction::of(request)
        }
    }

    fn forward(&self, request: &mut request::Parts, reason: &ForwardReason<'_>) {
        request.headers.insert("x-sent", HeaderValue::from_static("1"));
        request.headers.remove("if-none-match");
        self.note(format!("forward {:?} {:?}", reason.forward, reason.data::<Marked>()));
    }

    fn response(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        let has =
            |headers: &http::HeaderMap| (headers.contains_key("x-asked"), headers.contains_key("x-sent"));
        let (asked, sent) = (has(&exchange.request.headers), exchange.sent.map(has));
        let key = String::from_utf8_lossy(exchange.key.uri());
        self.note(format!("response {} {key} {asked:?} {sent:?}", exchange.response.status));
        terms.store = Ok(());
        terms.lifetime = Duration::from_secs(600);
        terms.strip.push(HeaderName::from_static("x-secret"));
        terms.replace.push((http::header::CACHE_CONTROL, HeaderValue::from_static("max-age=5")));
    }

    fn deliver(&self, delivery: &mut Delivery<'_>) {
        delivery.headers.insert("x-delivered", HeaderValue::from_static("1"));
        let outcome = delivery.outcome.render("larder", None);
        self.note(format!(
            "deliver {} {:?} {}",
            delivery.status,
            delivery.data::<Marked>(),
            outcome.to_str().unwrap()
        ));
    }

    fn needs_sent_fields(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn every_hook_of_a_policy_is_asked_and_heeded() {
    let policy = Editing::default();
    let bench = policy.bench(Reply::cc("x", "max-age=60").field("x-secret", "1"));
    let cases: [(Method, &str, &[(&str, &str)], u16, bool, &str, &str); 6] = [
        (Method::GET, "/", &[], 200, true, "Bypass", "fwd=bypass; detail=\"switched-off\""),
        (
            Method::GET,
            "/",
            &[("if-none-match", &tag("x"))],
            304,
            true,
            "Bypass",
            "fwd=bypass; detail=\"switched-off\"",
        ),
        (
            Method::GET,
            "/",
            &[("if-match", "\"a\"")],
            412,
            true,
            "Bypass",
            "fwd=bypass; detail=\"switched-off\"",
        ),
        (Method::HEAD, "/", &[], 200, true, "Bypass", "fwd=bypass; detail=\"switched-off\""),
        (Method::GET, "/bypassed", &[], 200, false, "Bypass", "fwd=bypass; detail=\"mine\""),
        (Method::POST, "/", &[], 200, false, "Method", "fwd=method"),
    ];
    for (method, path, fields, status, is_judged, forward, told) in cases {
        let seen = bench.send(method.clone(), path, fields).await;
        let case = format!("{method} {path} {fields:?}");
        assert_eq!(seen.status.as_u16(), status, "{case}");
        assert_eq!(seen.field("x-delivered"), Some("1"), "{case}");
        assert_eq!(seen.field("x-secret"), (!is_judged).then_some("1"), "{case}");
        if status != 412 {
            let cache_control = if is_judged { "max-age=5" } else { "max-age=60" };
            assert_eq!(seen.field("cache-control"), Some(cache_control), "{case}");
        }
        let is_tagged = is_judged && method == Method::GET && status != 412;
        assert_eq!(seen.field("etag"), is_tagged.then_some(&*tag("x")), "{case}");
        let sent = bench.origin.last().headers;
        assert!(sent.contains_key("x-asked") && sent.contains_key("x-sent"), "{case} {sent:?}");
        let mut expected = vec![format!("forward {forward} Some(Marked(7))")];
        if is_judged {
            expected.push("response 200 OK http://example.com/ (true, false) Some((true, true))".into());
        }
        expected.push(format!("deliver {} Some(Marked(7)) larder; {told}", seen.status));
        assert_eq!(policy.notes(), expected, "{case}");
        assert_eq!(bench.handle.statistics().entries, 0, "{case}");
    }
}

/// It is the client's own condition that the 304 meets, whoever has asked.
#[tokio::test]
async fn a_304_that_the_policy_did_not_let_be_asked_for_is_stripped_too() {
    let policy = Editing::default();
    let bench = policy.bench(Reply::new("").status(304).field("etag", "\"a\"").field("x-secret", "1"));
    let seen = bench.get_with("/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!(
        (seen.status.as_u16(), seen.field("x-secret"), seen.field("etag")),
        (304, None, Some("\"a\""))
    );
    assert_eq!(bench.get_with("/", &[("if-none-match", "\"b\"")]).await.status, 502);
}

/// What is stripped is gone before anything is made of the response, and what is put in is there.
#[tokio::test]
async fn a_tag_that_a_policy_takes_away_is_replaced_by_one_of_the_content() {
    let strips = StandardPolicy::default().map_terms(|_, terms| {
        terms.strip.push(http::header::ETAG);
    });
    let replaces = StandardPolicy::default().map_terms(|_, terms| {
        terms.replace.push((http::header::ETAG, HeaderValue::from_static("\"policy\"")));
    });
    let reply = || Reply::new("x").field("etag", "\"own\"");
    for (layer, expected) in [
        (cache_builder().policy(strips), tag("x")),
        (cache_builder().policy(replaces), "\"policy\"".to_owned()),
    ] {
        let bench = Bench::with(layer.tag_only(), [reply()]);
        assert_eq!(bench.get("/").await.field("etag"), Some(&*expected));
        assert_eq!(bench.get_with("/", &[("if-none-match", &*expected)]).await.status, 304);
        assert_eq!(bench.get_with("/", &[("if-none-match", "\"own\"")]).await.status, 200);
    }
}

#[tokio::test]
async fn one_policy_decides_about_a_request_to_its_end() {
    let named = |name: &'static str| {
        StandardPolicy::default().on_deliver(move |delivery| {
            delivery.headers.insert("x-policy", HeaderValue::from_static(name));
        })
    };
    let stage = Stage::with(cache_builder().policy(named("old")).tag_only());
    let first = stage.get("/");
    settle().await;
    stage.handle.set_policy(named("new"));
    let second = stage.get("/");
    settle().await;
    for (number, client, name) in [(0, first, "old"), (1, second, "new")] {
        stage.origin.call(number).head(&[("content-length", "1")]).frame("x").end();
        assert_eq!(client.seen().await.field("x-policy"), Some(name));
    }
}

/// Heeds another targeted field on one path.
struct ByPath([Rules; 2]);

impl CachePolicy for ByPath {
    fn rules(&self, request: &request::Parts) -> &Rules {
        &self.0[usize::from(request.uri.path() == "/edge")]
    }
}

#[tokio::test]
async fn the_rules_of_a_request_say_which_targeted_fields_count() {
    let edge = HeaderName::from_static("edge-cache-control");
    let parts = Request::get("/").body(()).unwrap().into_parts().0;
    let rules = |policy: StandardPolicy| policy.rules(&parts).clone();
    let [plain, targeted] =
        [StandardPolicy::default(), StandardPolicy::default().targets([edge.clone()])].map(rules);
    let reply = Reply::cc("x", "max-age=60").field(edge.as_str(), "no-store");
    let bench = Bench::with(cache_builder().policy(ByPath([plain, targeted])).tag_only(), [reply.clone()]);
    assert_eq!(bench.get("/").await.field("etag"), Some(&*tag("x")));
    assert_eq!(bench.get("/edge").await.field("etag"), None);
    let layer = cache_builder().policy(StandardPolicy::default().targets([edge])).tag_only();
    assert_eq!(Bench::with(layer, [reply]).get("/").await.field("etag"), None);
}

/// What an observer sees, a line an event.
fn observed(builder: CacheBuilder) -> (Arc<Mutex<Vec<String>>>, CacheBuilder) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&lines);
    let builder = builder.observer(move |event: &Event<'_>| {
        let key = |key: Option<&larder::CacheKey>| {
            key.map_or("-".into(), |key| String::from_utf8_lossy(key.uri()).into_owned())
        };
        seen.lock().unwrap().push(match event {
            Event::Answered { key: of, method, outcome, status, .. } => {
                let outcome = outcome.render("larder", None);
                format!("answered {method} {} {} {}", key(*of), status.as_u16(), outcome.to_str().unwrap())
            }
            Event::BodyEnded { bytes, is_whole, .. } => format!("body {bytes} {is_whole}"),
            Event::Dropped { key: of, method, .. } => format!("dropped {method} {}", key(*of)),
            Event::Failed { key: of, method, .. } => format!("failed {method} {}", key(*of)),
            Event::Fetched { forward, key: of, status, .. } => {
                format!("fetched {forward:?} {} {:?}", key(Some(of)), status.map(|status| status.as_u16()))
            }
            other => format!("{other:?}"),
        });
    });
    (lines, builder)
}

#[tokio::test]
async fn an_observer_sees_each_request_and_its_call() {
    let (lines, layer) = observed(cache_builder().tag_only());
    let take = || std::mem::take(&mut *lines.lock().unwrap());
    let bench = Bench::with(layer, [Reply::new("four")]);
    let switched_off = "larder; fwd=bypass; detail=\"switched-off\"";
    assert_eq!(bench.get("/a").await.field("cache-status"), None);
    assert_eq!(
        take(),
        [
            "fetched Bypass http://example.com/a Some(200)",
            &format!("answered GET http://example.com/a 200 {switched_off}"),
            "body 4 true",
        ]
    );
    bench.get_with("/a", &[("if-none-match", &tag("four"))]).await;
    assert_eq!(
        take(),
        [
            "fetched Bypass http://example.com/a Some(200)",
            &format!("answered GET http://example.com/a 304 {switched_off}"),
            "body 0 true",
        ]
    );
    // As in a cache, what passes is not called for the cache's sake.
    bench.send(Method::PUT, "/a", &[]).await;
    assert_eq!(take(), ["answered PUT http://example.com/a 200 larder; fwd=method", "body 4 true"]);
    // A request that has no key gets its tag all the same.
    let fields = [("host", "a.example"), ("host", "b.example")];
    assert_eq!(bench.get_with("/a", &fields).await.field("etag"), Some(&*tag("four")));
    assert_eq!(take(), [&format!("answered GET - 200 {switched_off}"), "body 4 true"]);
    bench.origin.then(Reply::refused());
    bench.try_send(Method::GET, "/b", &[]).await.unwrap_err();
    assert_eq!(take(), ["fetched Bypass http://example.com/b None", "failed GET http://example.com/b"]);
    bench.origin.then(Reply::new("").field("content-length", "6").frames(&["pan"]));
    bench.get("/c").await;
    assert_eq!(take().last().map(String::as_str), Some("body 3 false"));
}

#[tokio::test(start_paused = true)]
async fn an_observer_sees_a_client_that_leaves_before_or_while_content_is_waited_for() {
    for has_head in [false, true] {
        let (lines, layer) = observed(cache_builder().tag_only());
        let stage = Stage::with(layer);
        let client = stage.get("/");
        settle().await;
        if has_head {
            stage.origin.call(0).head(&[("content-length", "6")]).frame("pan");
            settle().await;
        }
        client.leave();
        settle().await;
        let seen = std::mem::take(&mut *lines.lock().unwrap());
        assert!(seen.last().is_some_and(|line| line.starts_with("dropped GET")), "{has_head} {seen:?}");
        assert_eq!(seen.len(), 1 + usize::from(has_head), "{seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_learns_how_long_the_call_took_without_the_wait_for_leave() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    let layer = cache_builder().tag_only().observer(move |event: &Event<'_>| match event {
        Event::Answered { elapsed, .. } | Event::Fetched { elapsed, .. } => {
            seen.lock().unwrap().push(elapsed.as_secs());
        }
        _ => {}
    });
    let limits = CallLimits::new().total(1).wait(Duration::from_secs(10));
    let stage = Stage::with(layer.call_limits(limits));
    let (first, second) = (stage.get("/a"), stage.get("/b"));
    settle().await;
    for number in 0..2 {
        tokio::time::advance(Duration::from_secs(3)).await;
        stage.origin.call(number).head(&[("content-length", "1")]).frame("x").end();
        settle().await;
    }
    (first.seen().await, second.seen().await);
    assert_eq!(*times.lock().unwrap(), [3, 3, 3, 6]);
}

#[tokio::test]
async fn the_outcome_is_in_the_extensions_where_that_was_asked_for() {
    for is_on in [false, true] {
        let bench = Bench::with(cache_builder().tag_only().outcome_in_extensions(is_on), [Reply::new("x")]);
        for (condition, status) in [("\"a\"", 200), ("*", 304)] {
            let request = Request::get("http://example.com/").header("if-none-match", condition);
            let request = request.body(Empty::<Bytes>::new()).unwrap();
            let response = bench.cache.clone().call(request).await.unwrap();
            assert_eq!(response.status(), status);
            assert!(!response.headers().contains_key("cache-status"));
            let outcome = response.extensions().get::<Outcome>();
            assert_eq!(outcome.map(|outcome| outcome.is_hit()), is_on.then_some(false), "{condition}");
        }
    }
}

/// A client's spelling is in no key, so nobody else gets to see what a service makes of it.
#[tokio::test]
async fn the_authority_is_forwarded_as_the_client_has_spelled_it() {
    for layer in [cache_builder(), observed(cache_builder()).1] {
        let bench = Bench::with(layer.tag_only(), [Reply::new("x")]);
        for method in [Method::GET, Method::POST] {
            bench.send(method, "/", &[("host", "Example.COM:80")]).await;
            assert_eq!(bench.origin.last().headers["host"], "Example.COM:80");
        }
    }
}

#[tokio::test]
async fn a_layer_inside_itself_tags_once() {
    let nested = |builder: CacheBuilder| {
        let layer = builder.build();
        layer.layer(layer.layer(always(Reply::new("x"))))
    };
    let get = async |builder: CacheBuilder, fields: &[(&str, &str)]| {
        let request = fields
            .iter()
            .fold(Request::get("http://a/"), |request, (name, value)| request.header(*name, *value));
        read(nested(builder).call(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()).await
    };
    let layer = || cache_builder().tag_only();
    for builder in [layer, || cache_builder().tag_only().cache_status(true)] {
        assert_eq!(get(builder(), &[]).await.has_body("x").field("etag"), Some(&*tag("x")));
        assert_eq!(get(builder(), &[("if-none-match", &tag("x"))]).await.has_body("").status, 304);
        assert_eq!(get(builder(), &[("if-match", "\"a\"")]).await.status, 412);
    }
    // Where anybody can see it, the inner one is known to be one.
    let seen = get(layer().cache_status(true), &[]).await;
    let members: Vec<_> = seen.fields.get_all("cache-status").iter().collect();
    assert_eq!(
        members,
        ["larder; fwd=bypass; detail=\"nested\"", "larder; fwd=bypass; detail=\"switched-off\""]
    );
    let (lines, observed) = observed(layer());
    get(observed, &[]).await;
    let lines = lines.lock().unwrap();
    for event in ["answered", "body", "fetched"] {
        assert_eq!(lines.iter().filter(|line| line.starts_with(event)).count(), 1, "{event} {lines:?}");
    }
    let policy = Editing::default();
    get(layer().policy(policy.clone()), &[]).await;
    let notes = policy.notes();
    for hook in ["forward", "response", "deliver"] {
        assert_eq!(notes.iter().filter(|note| note.starts_with(hook)).count(), 1, "{hook} {notes:?}");
    }
}

#[tokio::test]
async fn what_contradicts_itself_about_length_is_repaired() {
    let reply = Reply::new("x").field("content-length", "1").field("transfer-encoding", "chunked");
    let seen = tagging([reply]).get("/").await.has_body("x");
    assert_eq!((seen.field("content-length"), seen.field("etag")), (None, Some(&*tag("x"))));
}

#[tokio::test]
async fn the_answer_to_a_query_whose_content_is_known_gets_a_tag() {
    let layer = cache_builder().tag_only();
    let layer = layer.build();
    let plain = layer.layer(always(Reply::new("found")));
    let known = QueryLayer::new().layer(layer.layer(always(Reply::new("found"))));
    let request =
        || Request::builder().method(Method::QUERY).uri("/").body(Full::<Bytes>::from("a=b")).unwrap();
    let seen = read(known.clone().call(request()).await.unwrap()).await.has_body("found");
    assert_eq!(seen.field("etag"), Some(&*tag("found")));
    assert_eq!(read(plain.clone().call(request()).await.unwrap()).await.field("etag"), None);
}

#[tokio::test(start_paused = true)]
async fn a35_calls_have_bounds_where_nothing_is_stored() {
    for limits in [CallLimits::new().total(1), CallLimits::new().per_key(1)] {
        let layer = cache_builder().call_limits(limits.wait(Duration::from_secs(1))).tag_only();
        let stage = Stage::with(layer);
        let (first, second) = (stage.get("/"), stage.get("/"));
        settle().await;
        assert_eq!(stage.origin.calls(), 1);
        assert_eq!(second.seen().await.status, 503);
        let call = stage.origin.call(0);
        call.head(&[("content-length", "6")]).frame("pan");
        settle().await;
        call.frame("try").end();
        assert_eq!(first.seen().await.has_body("pantry").field("etag"), Some(&*tag("pantry")));
        // The call is over with its content.
        stage.origin.script(&[Step::head(200, &[("content-length", "1")]), Step::frame("x"), Step::End]);
        assert_eq!(stage.get("/").seen().await.has_body("x").field("etag"), Some(&*tag("x")));
    }
}

#[tokio::test(start_paused = true)]
async fn a35_calls_for_keys_with_other_parts_do_not_wait_for_one_another() {
    let limits = CallLimits::new().per_key(1).wait(Duration::from_secs(1));
    let stage = Stage::with(cache_builder().call_limits(limits).tag_only());
    let call = |part: &'static str| {
        let mut request = Request::get("/").header("host", "a").body(Empty::<Bytes>::new()).unwrap();
        request.extensions_mut().insert(KeyParts::new().with("part", part));
        tokio::spawn(stage.cache.clone().call(request))
    };
    let (_one, _other) = (call("one"), call("other"));
    settle().await;
    assert_eq!(stage.origin.calls(), 2);
    assert_eq!(call("one").await.unwrap().unwrap().status(), 503);
}

#[tokio::test(start_paused = true)]
async fn a35_a_call_where_nothing_is_stored_is_over_with_its_content() {
    let limits = CallLimits::new().total(1).wait(Duration::from_secs(1));
    for length in [&[][..], &[("content-length", "100000")]] {
        let stage = Stage::with(cache_builder().call_limits(limits.clone()).tag_only());
        let first = stage.get("/");
        settle().await;
        let call = stage.origin.call(0);
        call.head(length).frame("pan");
        let mut body = first.body().await;
        assert_eq!(body.next().await.as_deref(), Some("pan"));
        assert_eq!(stage.get("/").seen().await.status, 503, "{length:?}");
        call.end();
        assert!(body.next().await.is_some(), "{length:?}");
        stage.origin.script(&[Step::head(200, &[]), Step::End]);
        assert_eq!(stage.get("/").seen().await.status, 200, "{length:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a35_a_tagging_layer_inside_of_itself_waits_for_no_call_of_its_own() {
    let layer = cache_builder().call_limits(CallLimits::new().total(1)).tag_only().build();
    let mut nested = layer.layer(layer.layer(always(Reply::new("x"))));
    let answer = nested.call(Request::get("/").body(Empty::<Bytes>::new()).unwrap());
    let answer = tokio::time::timeout(Duration::from_secs(1), answer).await.expect("it waits for nobody");
    assert_eq!(read(answer.unwrap()).await.has_body("x").field("etag"), Some(&*tag("x")));
}

#[cfg(feature = "blake3")]
#[tokio::test]
async fn strong_tags_match_strongly() {
    let layer = cache_builder().tagging(Tagging::strong()).tag_only();
    let bench = Bench::with(layer, [Reply::new("x")]);
    let tag = bench.get("/").await.field("etag").unwrap().to_owned();
    assert!(tag.starts_with("\"1-") && tag.len() == 36, "{tag}");
    assert_eq!(bench.get_with("/", &[("if-match", &tag)]).await.status, 200);
    assert_eq!(bench.get_with("/", &[("if-none-match", &tag)]).await.status, 304);
}

#[tokio::test]
async fn a_cache_says_nothing_of_itself_where_its_cache_status_is_switched_off() {
    let layer = || cache_builder().cache_status(false);
    let bench = Bench::with(layer(), [Reply::cc("x", "max-age=60")]);
    for _ in 0..2 {
        assert_eq!(bench.get("/").await.has_body("x").field("cache-status"), None);
    }
    assert_eq!(bench.get_with("/", &[("if-none-match", "*")]).await.field("cache-status"), None);
    assert_eq!(bench.origin.calls(), 1, "the second was a hit");
    let reply = Reply::cc("x", "max-age=60").field("cache-status", "origin; hit");
    let bench = Bench::with(layer().x_cache(true), [reply]);
    for x_cache in ["Miss from larder", "Hit from larder"] {
        let seen = bench.get("/").await;
        assert_eq!(seen.field("cache-status"), Some("origin; hit"));
        assert_eq!(seen.field("x-cache"), Some(x_cache));
    }
}
