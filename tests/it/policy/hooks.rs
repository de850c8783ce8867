//! The hooks of a policy: what each one sees and changes, and for which requests.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{Extensions, Method, Request, request};
use larder::policy::{
    Admission, ContentLimits, Lifetimes, Policies, ResponseEdits, ResponseRules, VaryRules,
};
use larder::semantics::Rules;
use larder::semantics::storing::NotStored;
use larder::store::PurgeTarget;
use larder::{
    CachePolicy, CachePolicyExt, Delivery, ForwardReason, PolicyData, PolicyExchange, RequestAction,
    StandardPolicy, Terms, VaryRule,
};

use crate::support::stores::{at_rest, cache_builder};
use crate::support::{Bench, Reply, Stage, settle};

const DEVICE: HeaderName = HeaderName::from_static("x-device");

/// Folds `User-Agent` to a device, once for each request, and uses it in every hook.
#[derive(Clone, Default)]
struct Devices(Arc<Mutex<Vec<String>>>);

#[derive(Clone)]
struct Device(&'static str);

impl Devices {
    fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

impl CachePolicy for Devices {
    fn request(&self, request: &mut request::Parts, data: &mut PolicyData) -> RequestAction {
        let agent = request.headers.remove(header::USER_AGENT);
        let is_phone = agent.is_some_and(|agent| agent.as_bytes().starts_with(b"phone"));
        let device = if is_phone { "phone" } else { "other" };
        request.headers.insert(DEVICE, HeaderValue::from_static(device));
        data.insert(Device(device));
        if request.uri.path() == "/bypassed" {
            return RequestAction::bypass("mine".to_owned());
        }
        RequestAction::of(request)
    }

    fn response(&self, exchange: &PolicyExchange<'_>, _: &mut Terms) {
        let device = exchange.data::<Device>().unwrap().0;
        let sent = exchange.sent.map(|sent| sent.contains_key("x-forwarded-by"));
        self.note(format!("response {device} {sent:?} {}", exchange.is_background));
    }

    fn forward(&self, request: &mut request::Parts, reason: &ForwardReason<'_>) {
        request.headers.insert("x-forwarded-by", HeaderValue::from_static("mine"));
        let device = reason.data::<Device>().unwrap().0;
        self.note(format!("forward {device} {:?} {}", reason.forward, reason.is_background));
    }

    fn deliver(&self, delivery: &mut Delivery<'_>) {
        let device = delivery.data::<Device>().unwrap().0;
        delivery.headers.insert(DEVICE, HeaderValue::from_static(device));
        self.note(format!("deliver {device} {} {}", delivery.status, delivery.outcome.is_hit()));
    }

    fn needs_sent_fields(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn each_hook_sees_the_request_as_the_request_hook_left_it() {
    let policy = Devices::default();
    let notes = || std::mem::take(&mut *policy.0.lock().unwrap());
    let reply = Reply::cc("page", "max-age=60, stale-while-revalidate=60").field("vary", "x-device");
    let bench = Bench::with(cache_builder().policy(policy.clone()), [reply]);
    let phone = [("user-agent", "phone 7")];
    assert_eq!(bench.get_with("/", &phone).await.field("x-device"), Some("phone"));
    assert_eq!(
        notes(),
        ["forward phone UriMiss false", "response phone Some(true) false", "deliver phone 200 OK false"]
    );
    // The inner service gets the request as it was normalised, and `Vary` selects by that.
    assert_eq!(bench.origin.last().headers.get("user-agent"), None);
    assert!(bench.get_with("/", &[("user-agent", "phone 8")]).await.is_hit());
    assert_eq!(notes(), ["deliver phone 200 OK true"]);
    assert!(!bench.get("/").await.is_hit());
    notes();
    bench.later(61);
    bench.get_with("/", &phone).await;
    settle().await;
    let seen = notes();
    assert_eq!(seen.iter().filter(|note| note.starts_with("deliver")).count(), 1, "{seen:?}");
    assert!(seen.contains(&"forward phone Stale true".to_owned()), "{seen:?}");
    assert!(seen.contains(&"response phone Some(true) true".to_owned()), "{seen:?}");
}

#[tokio::test]
async fn every_answer_is_delivered_through_the_policy() {
    let policy = Devices::default();
    let bench = Bench::with(cache_builder().policy(policy.clone()), [Reply::cc("x", "no-store")]);
    for (method, path, fields) in [
        (Method::GET, "/bypassed", &[][..]),
        (Method::GET, "/", &[]),
        (Method::OPTIONS, "/", &[]),
        (Method::POST, "/", &[]),
        (Method::POST, "/bypassed", &[]),
        (Method::GET, "/only", &[("cache-control", "only-if-cached")]),
    ] {
        let seen = bench.send(method.clone(), path, fields).await;
        assert_eq!(seen.field("x-device"), Some("other"), "{method} {path}");
    }
    bench.send(Method::GET, "/bypassed", &[]).await.told("larder; fwd=bypass; detail=\"mine\"");
}

/// Says how long responses are stored, and counts who asks.
struct Lifetime(u64);

impl CachePolicy for Lifetime {
    fn response(&self, _: &PolicyExchange<'_>, terms: &mut Terms) {
        terms.lifetime = Duration::from_secs(self.0);
        terms.store = Ok(());
    }

    fn deliver(&self, delivery: &mut Delivery<'_>) {
        delivery.headers.insert("x-lifetime", self.0.into());
    }
}

#[tokio::test]
async fn a_replaced_policy_still_decides_about_requests_under_way() {
    let stage = Stage::with(cache_builder().policy(Lifetime(10)));
    let first = stage.get("/a");
    settle().await;
    stage.handle.set_policy(Lifetime(20));
    stage.origin.call(0).head(&[("content-length", "1")]).frame("x").end();
    let first = first.response().await;
    assert_eq!(first.headers()["cache-status"], "larder; fwd=uri-miss; stored; ttl=10");
    assert_eq!(first.headers()["x-lifetime"], "10");
    let next = stage.get("/b");
    settle().await;
    stage.origin.call(1).head(&[("content-length", "1")]).frame("x").end();
    let next = next.response().await;
    assert_eq!(next.headers()["cache-status"], "larder; fwd=uri-miss; stored; ttl=20");
    // What is stored keeps its terms, and is delivered by the policy of now.
    let hit = stage.get("/a").response().await;
    assert_eq!(
        (hit.headers()["cache-status"].as_bytes(), &hit.headers()["x-lifetime"]),
        (&b"larder; hit; ttl=10"[..], &HeaderValue::from(20))
    );
}

#[tokio::test]
async fn a_combinator_changes_one_thing_and_keeps_everything_else() {
    let policy = StandardPolicy::default()
        .key_field(header::ACCEPT)
        .strip_unkeyed(true)
        .map_terms(|_, terms| terms.lifetime *= 2)
        .map_request(|request, action| match request.uri.path() {
            "/never" => RequestAction::bypass("never"),
            _ => action,
        })
        .on_deliver(|delivery| {
            delivery.headers.insert("x-edge", HeaderValue::from_static("1"));
        });
    let bench = Bench::with(cache_builder().policy(policy), [Reply::cc("x", "max-age=60")]);
    bench.get("/never").await.told("larder; fwd=bypass; detail=\"never\"");
    let seen = bench.get_with("/", &[("accept", "a"), ("x-forwarded-host", "evil")]).await;
    assert_eq!(seen.field("x-edge"), Some("1"));
    seen.told("larder; fwd=uri-miss; stored; ttl=120");
    assert_eq!(bench.origin.last().headers.get("x-forwarded-host"), None);
    bench.get_with("/", &[("accept", "a")]).await.told("larder; hit; ttl=120");
    bench.get_with("/", &[("accept", "b")]).await.told("larder; fwd=uri-miss; stored; ttl=120");
}

#[tokio::test]
async fn matching_requests_get_the_rules_and_hooks_of_the_other_policy() {
    let other = || Lifetime(5).when(|request| request.uri.path() == "/a/b", Lifetime(7));
    let policy = Lifetime(3).when(|request| request.uri.path().starts_with("/a"), other());
    let policy = policy.when(|request| request.uri.path() == "/rfc", StandardPolicy::rfc9111());
    let reply = Reply::cc("x", "max-age=60");
    let bench = Bench::with(cache_builder().policy(policy), [reply]);
    for (path, lifetime) in [("/", 3), ("/a", 5), ("/a/b", 7)] {
        for told in ["fwd=uri-miss; stored", "hit"] {
            let seen = bench.get(path).await;
            assert_eq!(seen.field("x-lifetime"), Some(&*lifetime.to_string()), "{path}");
            seen.told(&format!("larder; {told}; ttl={lifetime}"));
        }
    }
    // RFC 9111 knows nothing of cookies; the careful rules do.
    let cookie = [("cookie", "a=b")];
    for (path, is_hit) in [("/rfc", true), ("/a", false)] {
        bench.get(path).await;
        assert_eq!(bench.get_with(path, &cookie).await.is_hit(), is_hit, "{path}");
    }
}

/// Sets terms by the path.
struct Termed;

impl CachePolicy for Termed {
    fn rules(&self, request: &request::Parts, _: &PolicyData) -> &Rules {
        StandardRules::of(request)
    }

    fn response(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        match exchange.request.uri.path() {
            "/vary/none" => terms.vary = VaryRule::Ignore,
            "/vary/some" => terms.vary = VaryRule::Only(vec![header::ACCEPT]),
            "/age" => terms.age = Some(Duration::from_secs(50)),
            "/unstored" => terms.unstored.push(HeaderName::from_static("x-first")),
            "/named" => terms.unstored.clear(),
            "/replaced" => {
                terms.replace.push((header::CACHE_CONTROL, HeaderValue::from_static("max-age=5")));
            }
            "/refused" => terms.refuse("too-odd".to_owned()),
            "/groups" => terms.groups.extend((0..=Terms::MAX_GROUPS).map(|group| group.to_string().into())),
            "/names" => terms.groups.push("x".repeat(Terms::MAX_GROUP_BYTES + 1).into()),
            _ => {}
        }
    }
}

struct StandardRules;

impl StandardRules {
    fn of(request: &request::Parts) -> &'static Rules {
        static PLAIN: std::sync::LazyLock<Rules> = std::sync::LazyLock::new(Rules::default);
        static HEEDING: std::sync::LazyLock<Rules> = std::sync::LazyLock::new(|| {
            StandardPolicy::rfc9111().rules(&parts(), &PolicyData::default()).clone()
        });
        if request.uri.path() == "/heeds" { &HEEDING } else { &PLAIN }
    }
}

fn parts() -> request::Parts {
    Request::get("http://a/").body(()).unwrap().into_parts().0
}

fn termed(reply: Reply) -> Bench {
    Bench::with(cache_builder().policy(Termed), [reply])
}

#[tokio::test]
async fn a_policy_chooses_its_rules_by_request() {
    let bench = termed(Reply::cc("x", "max-age=60"));
    for (path, is_hit) in [("/plain", true), ("/heeds", false)] {
        bench.get(path).await;
        assert_eq!(bench.get_with(path, &[("cache-control", "no-cache")]).await.is_hit(), is_hit, "{path}");
    }
}

#[tokio::test]
async fn terms_say_which_fields_select_a_response() {
    let bench = termed(Reply::cc("x", "max-age=60").field("vary", "accept, user-agent"));
    let one = [("accept", "a"), ("user-agent", "1")];
    for (path, other, is_hit) in [
        ("/vary/none", [("accept", "b"), ("user-agent", "2")], true),
        ("/vary/some", [("accept", "a"), ("user-agent", "2")], true),
        ("/vary/some", [("accept", "b"), ("user-agent", "1")], false),
        ("/vary", [("accept", "a"), ("user-agent", "2")], false),
    ] {
        bench.handle.purge_target(&larder::store::PurgeTarget::All).await.unwrap();
        bench.get_with(path, &one).await;
        assert_eq!(bench.get_with(path, &other).await.is_hit(), is_hit, "{path} {other:?}");
    }
    let bench = termed(Reply::cc("x", "max-age=60").field("vary", "*"));
    bench.get("/vary/none").await;
    assert!(bench.get("/vary/none").await.is_hit());
}

#[tokio::test]
async fn terms_say_how_old_a_received_response_is() {
    let bench = termed(Reply::cc("x", "max-age=60").field("age", "20"));
    bench.get("/age").await.told("larder; fwd=uri-miss; stored; ttl=10");
    assert_eq!(bench.get("/age").await.age(), Some(50));
    bench.get("/other").await.told("larder; fwd=uri-miss; stored; ttl=40");
}

#[tokio::test]
async fn terms_say_which_fields_are_not_stored() {
    let bench = termed(Reply::cc("x", "max-age=60").field("x-first", "1"));
    for (path, stored) in [("/unstored", None), ("/other", Some("1"))] {
        assert_eq!(bench.get(path).await.field("x-first"), Some("1"));
        assert_eq!(bench.get(path).await.field("x-first"), stored, "{path}");
    }
    // What `no-cache` names is not stored, unless the policy reads it otherwise.
    let bench = termed(Reply::cc("x", "max-age=60, no-cache=\"x-first\"").field("x-first", "1"));
    for (path, stored) in [("/other", None), ("/named", Some("1"))] {
        bench.get(path).await;
        assert_eq!(bench.get(path).await.field("x-first"), stored, "{path}");
    }
}

#[tokio::test]
async fn clients_get_replaced_fields_while_the_origins_fields_count() {
    let bench = termed(Reply::cc("x", "max-age=60").field("etag", "\"a\""));
    for told in ["fwd=uri-miss; stored; ttl=60", "hit; ttl=60"] {
        let seen = bench.get("/replaced").await;
        assert_eq!(seen.field("cache-control"), Some("max-age=5"));
        seen.told(&format!("larder; {told}"));
    }
    bench.later(61);
    bench.origin.not_modified(Some(Reply::new("").status(304).field("etag", "\"a\"")));
    // A 304 without Cache-Control leaves the origin's lifetime, not the one that clients get.
    let seen = bench.get("/replaced").await;
    assert_eq!(seen.field("cache-control"), Some("max-age=5"));
    seen.told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
    let seen = bench.get("/replaced").await;
    assert_eq!(seen.field("cache-control"), Some("max-age=5"));
    seen.told("larder; hit; ttl=60");
}

#[tokio::test]
async fn a_policy_gives_its_own_reason_and_its_groups_are_bounded() {
    let bench = termed(Reply::cc("x", "max-age=60"));
    bench.get("/refused").await.told("larder; fwd=uri-miss; detail=\"too-odd\"");
    for path in ["/groups", "/names"] {
        bench.get(path).await.told("larder; fwd=uri-miss; detail=\"too-many-groups\"");
    }
    assert_eq!(NotStored::Policy.as_str(), "policy");
}

#[tokio::test]
async fn a_layer_that_is_switched_off_changes_nothing() {
    let reply = Reply::cc("four", "max-age=60").field("cache-status", "edge; hit");
    let bench = Bench::with(cache_builder().enabled(false), [reply]);
    for calls in [1, 2] {
        let seen = bench.get_with("/", &[("if-none-match", "*")]).await.has_body("four").told("edge; hit");
        assert_eq!((seen.status.as_u16(), seen.field("etag"), bench.origin.calls()), (200, None, calls));
        assert_eq!(bench.origin.last().headers["if-none-match"], "*");
    }
    let broken = Bench::with(
        cache_builder().enabled(false),
        [Reply::cc("", "max-age=60").frames(&["ab"]).trailer("x-end", "1")],
    );
    let seen = broken.get("/").await.has_body("ab");
    assert!(seen.trailers.is_some());
}

#[tokio::test]
async fn key_parts_from_an_outer_layer_are_in_the_key() {
    use http_body_util::Empty;
    use tower::ServiceExt;
    let bench = Bench::new([Reply::cc("x", "max-age=60")]);
    let get = async |parts: Option<larder::KeyParts>| {
        let mut request = Request::get("http://example.com/").body(Empty::<bytes::Bytes>::new()).unwrap();
        request.extensions_mut().extend(parts.into_iter().fold(Extensions::new(), |mut all, parts| {
            all.insert(parts);
            all
        }));
        let response = bench.cache.clone().oneshot(request).await.unwrap();
        let is_hit = response.headers()["cache-status"].to_str().unwrap().contains("; hit");
        crate::support::stores::at_rest().await;
        is_hit
    };
    let part = |value: &'static str| Some(larder::KeyParts::new().with("experiment", value));
    for parts in [None, part("a"), part("b")] {
        assert!(!get(parts.clone()).await, "{parts:?}");
        assert!(get(parts.clone()).await, "{parts:?}");
    }
    // All of them go by their URI.
    bench.handle.purge(&"http://example.com/".parse().unwrap()).await.unwrap();
    for parts in [None, part("a"), part("b")] {
        assert!(!get(parts.clone()).await, "{parts:?}");
    }
}

/// Records which of its hooks were asked.
#[derive(Clone, Default)]
struct Recording {
    asked: Arc<Mutex<BTreeSet<&'static str>>>,
    default: StandardPolicy,
}

impl Recording {
    fn note(&self, hook: &'static str) {
        self.asked.lock().unwrap().insert(hook);
    }
}

impl CachePolicy for Recording {
    fn request(&self, request: &mut request::Parts, data: &mut PolicyData) -> RequestAction {
        self.note("request");
        self.default.request(request, data)
    }

    fn rules(&self, request: &request::Parts, data: &PolicyData) -> &Rules {
        self.note("rules");
        self.default.rules(request, data)
    }

    fn receive(&self, exchange: &PolicyExchange<'_>, edits: &mut ResponseEdits<'_>) {
        self.note("receive");
        self.default.receive(exchange, edits);
    }

    fn response(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        self.note("response");
        self.default.response(exchange, terms);
    }

    fn forward(&self, request: &mut request::Parts, reason: &ForwardReason<'_>) {
        self.note("forward");
        self.default.forward(request, reason);
    }

    fn deliver(&self, delivery: &mut Delivery<'_>) {
        self.note("deliver");
        self.default.deliver(delivery);
    }

    fn needs_sent_fields(&self) -> bool {
        self.note("needs_sent_fields");
        true
    }

    fn spellings(&self, target: &PurgeTarget) -> Vec<PurgeTarget> {
        self.note("spellings");
        self.default.spellings(target)
    }
}

#[tokio::test]
async fn each_combinator_asks_every_hook_of_what_it_is_made_of() {
    type Wrap = fn(Recording) -> Box<dyn CachePolicy>;
    let combinators: [(&str, Wrap); 14] = [
        ("itself", |policy| Box::new(policy)),
        ("admit", |policy| Box::new(policy.admit(Admission::after(1)))),
        ("arc", |policy| Box::new(Arc::new(policy))),
        ("before_request", |policy| Box::new(policy.before_request(|_, _| ()))),
        ("content_limits", |policy| Box::new(policy.content_limits(ContentLimits::new()))),
        ("lifetimes", |policy| Box::new(policy.lifetimes(Lifetimes::new()))),
        ("map_request", |policy| Box::new(policy.map_request(|_, action| action))),
        ("map_terms", |policy| Box::new(policy.map_terms(|_, _| ()))),
        ("on_deliver", |policy| Box::new(policy.on_deliver(|_| ()))),
        ("on_forward", |policy| Box::new(policy.on_forward(|_, _| ()))),
        ("report_only", |policy| Box::new(policy.report_only(StandardPolicy::default()))),
        ("response_rules", |policy| Box::new(policy.response_rules(ResponseRules::new()))),
        ("table", |policy| Box::new(Policies::new(StandardPolicy::default()).path("*", policy))),
        ("vary_rules and when", |policy| {
            Box::new(StandardPolicy::default().when(|_| true, policy.vary_rules(VaryRules::new())))
        }),
    ];
    for (name, wrap) in combinators {
        let recording = Recording::default();
        let asked = Arc::clone(&recording.asked);
        let bench = Bench::with(cache_builder().policy(wrap(recording)), [Reply::cc("x", "max-age=60")]);
        bench.get("/").await;
        at_rest().await;
        bench.handle.purge(&"http://example.com/".parse().unwrap()).await.unwrap();
        let asked: Vec<_> = asked.lock().unwrap().iter().copied().collect();
        let all = [
            "deliver",
            "forward",
            "needs_sent_fields",
            "receive",
            "request",
            "response",
            "rules",
            "spellings",
        ];
        assert_eq!(asked, all, "{name}");
    }
}
