//! The hooks of a policy, where nothing is stored.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Request, request};
use larder::semantics::Rules;
use larder::{
    CachePolicy, CachePolicyExt, Delivery, ForwardReason, PolicyData, PolicyExchange, RequestAction,
    StandardPolicy, Terms,
};

use super::tag;
use crate::support::{Bench, Reply, Stage, cache_builder, settle};

/// Is for storing only, and keeps a field and a condition from the inner service.
pub(super) struct OutOfTheWay;

impl CachePolicy for OutOfTheWay {
    fn request(&self, _: &mut request::Parts, _: &mut PolicyData) -> RequestAction {
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
pub(super) struct Editing(Arc<Mutex<Vec<String>>>);

#[derive(Clone, Debug)]
struct Marked(#[expect(dead_code, reason = "it is shown")] u8);

impl Editing {
    fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    /// What has been noted since the last time.
    pub(super) fn notes(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn bench(&self, reply: Reply) -> Bench {
        Bench::with(cache_builder().policy(self.clone()).tag_only(), [reply])
    }
}

impl CachePolicy for Editing {
    fn request(&self, request: &mut request::Parts, data: &mut PolicyData) -> RequestAction {
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
    fn rules(&self, request: &request::Parts, _: &PolicyData) -> &Rules {
        &self.0[usize::from(request.uri.path() == "/edge")]
    }
}

#[tokio::test]
async fn the_rules_of_a_request_say_which_targeted_fields_count() {
    let edge = HeaderName::from_static("edge-cache-control");
    let parts = Request::get("/").body(()).unwrap().into_parts().0;
    let rules = |policy: StandardPolicy| policy.rules(&parts, &PolicyData::default()).clone();
    let [plain, targeted] =
        [StandardPolicy::default(), StandardPolicy::default().targets([edge.clone()])].map(rules);
    let reply = Reply::cc("x", "max-age=60").field(edge.as_str(), "no-store");
    let bench = Bench::with(cache_builder().policy(ByPath([plain, targeted])).tag_only(), [reply.clone()]);
    assert_eq!(bench.get("/").await.field("etag"), Some(&*tag("x")));
    assert_eq!(bench.get("/edge").await.field("etag"), None);
    let layer = cache_builder().policy(StandardPolicy::default().targets([edge])).tag_only();
    assert_eq!(Bench::with(layer, [reply]).get("/").await.field("etag"), None);
}
