//! The standard policies with their switches, and custom policies.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, header, request};
use larder::semantics::storing::NotStored;
use larder::{
    CachePolicy, CachePolicyExt, ForwardReason, PolicyExchange, RequestAction, StandardPolicy, Terms,
};
use tower::Service;

use crate::reported::validation::until_calls;
use crate::support::bench::{heeding, read};
use crate::support::{Bench, Reply, cache_builder};

#[tokio::test]
async fn the_careful_policy_answers_a_cookie_only_with_a_shared_response() {
    let cookie = [("cookie", "session=1")];
    let bench = Bench::new([Reply::cc("x", "max-age=60")]);
    bench.get("/").await;
    assert!(bench.get("/").await.is_hit());
    bench.get_with("/", &cookie).await.told("larder; fwd=request; detail=\"cookie\"");

    let bench = Bench::new([Reply::cc("x", "public, max-age=60")]);
    bench.get_with("/", &cookie).await;
    assert!(bench.get_with("/", &[("cookie", "session=2")]).await.is_hit());
}

#[tokio::test]
async fn the_rfc9111_policy_reuses_what_the_rfc_permits() {
    let cookie = [("cookie", "session=1")];
    let bench = Bench::rfc9111([Reply::cc("x", "max-age=60").field("set-cookie", "a=b")]);
    bench.get_with("/", &cookie).await;
    let hit = bench.get_with("/", &cookie).await;
    assert!(hit.is_hit());
    assert_eq!(hit.field("set-cookie"), Some("a=b"));
    let authorized = [("authorization", "Basic eA==")];
    assert!(bench.get_with("/", &authorized).await.is_hit());
    bench.get_with("/other", &authorized).await.told("larder; fwd=uri-miss; detail=\"authorization\"");
}

#[tokio::test]
async fn a_credential_in_the_key_separates_users() {
    let policy = StandardPolicy::default().key_field(header::AUTHORIZATION).private_by_key(true);
    let bench = Bench::with(
        cache_builder().policy(policy),
        [Reply::cc("one's", "private, max-age=60"), Reply::cc("two's", "private, max-age=60")],
    );
    for _ in 0..2 {
        bench.get_with("/me", &[("authorization", "user:one")]).await.has_body("one's");
        bench.get_with("/me", &[("authorization", "user:two")]).await.has_body("two's");
    }
    assert_eq!(bench.origin.calls(), 2);
}

#[tokio::test]
async fn a_key_with_an_identity_shares_private_pages_between_the_sessions_of_one_person() {
    #[derive(Clone)]
    struct User(&'static str);
    let policy = StandardPolicy::default().private_by_key(true).map_request(|request, action| {
        match (action, request.extensions.get()) {
            (RequestAction::Cache(key), Some(User(id))) => {
                RequestAction::Cache(key.with_identity("user", id.as_bytes()))
            }
            (action, _) => action,
        }
    });
    let replies = [Reply::cc("one's", "private, max-age=60"), Reply::cc("two's", "private, max-age=60")];
    let bench = Bench::with(cache_builder().policy(policy), replies);
    let ask = async |user, cookie| {
        let request = http::Request::get("http://example.com/me").header("cookie", cookie);
        let request = request.extension(User(user)).body(http_body_util::Empty::<bytes::Bytes>::new());
        read(bench.cache.clone().call(request.unwrap()).await.unwrap()).await
    };
    ask("one", "session=1").await.has_body("one's");
    ask("two", "session=2").await.has_body("two's");
    assert!(ask("one", "session=3").await.has_body("one's").is_hit());
    // Without an identity, the page is nobody's.
    bench.get_with("/me", &[("cookie", "session=1")]).await.told("larder; fwd=uri-miss; detail=\"private\"");
    bench.handle.purge(&"http://example.com/me".parse().unwrap()).await.unwrap();
    assert!(!ask("one", "session=1").await.is_hit());
}

#[tokio::test]
async fn a_request_whose_cookies_are_all_in_the_key_is_answered_from_storage() {
    let policy = StandardPolicy::default().map_request(|request, action| match action {
        RequestAction::Cache(key) => RequestAction::Cache(key.with_cookie("theme", &request.headers)),
        action => action,
    });
    let replies = [Reply::cc("dark", "max-age=60"), Reply::cc("light", "max-age=60")];
    let bench = Bench::with(cache_builder().policy(policy), replies);
    bench.get_with("/", &[("cookie", "theme=dark")]).await.has_body("dark");
    bench.get_with("/", &[("cookie", "theme=light")]).await.has_body("light");
    assert!(bench.get_with("/", &[("cookie", "theme=dark")]).await.has_body("dark").is_hit());
    let further = bench.get_with("/", &[("cookie", "theme=dark; session=1")]).await;
    further.told("larder; fwd=request; detail=\"cookie\"");
}

/// What asks for something fresher than what is stored.
const DEMANDS: [(&str, &str); 4] = [
    ("cache-control", "no-cache"),
    ("cache-control", "max-age=0"),
    ("cache-control", "min-fresh=600"),
    ("pragma", "no-cache"),
];

#[tokio::test]
async fn a36_a_client_gets_a_fresher_response_only_if_the_policy_heeds_its_directives() {
    let off = StandardPolicy::rfc9111().client_directives(false);
    for (layer, heeds) in [
        (cache_builder(), false),
        (cache_builder().policy(off), false),
        (cache_builder().policy(Mine::default()), false),
        (heeding(), true),
        (cache_builder().policy(StandardPolicy::rfc9111()), true),
    ] {
        let bench = Bench::with(layer, [Reply::cc("x", "max-age=60")]);
        bench.get("/").await;
        for demand in DEMANDS {
            bench.later(5);
            assert_eq!(bench.get_with("/", &[demand]).await.is_hit(), !heeds, "{demand:?}");
        }
        assert_eq!(bench.origin.calls(), if heeds { 5 } else { 1 });
    }
}

#[tokio::test]
async fn a36_directives_that_cost_nobody_else_always_count() {
    for layer in [cache_builder(), heeding()] {
        let bench = Bench::with(layer, [Reply::cc("x", "max-age=60")]);
        let refused = bench.get_with("/", &[("cache-control", "only-if-cached")]).await;
        assert_eq!(refused.status, 504);
        let unstored = bench.get_with("/", &[("cache-control", "no-store")]).await;
        unstored.told("larder; fwd=uri-miss; detail=\"request-no-store\"");
        bench.get("/").await;
        bench.later(70);
        bench.get_with("/", &[("cache-control", "max-stale=10")]).await.told("larder; hit; ttl=-10");
        bench.origin.then(Reply::refused());
        let stood_in = bench.get_with("/", &[("cache-control", "stale-if-error=60")]).await;
        stood_in.told("larder; fwd=stale; ttl=-10; detail=\"stale-if-error\"");
    }
}

#[tokio::test]
async fn a36_an_error_that_a_request_can_draw_is_not_stored_unless_the_policy_says_so() {
    const DRAWN: [u16; 18] =
        [400, 401, 403, 405, 406, 408, 412, 413, 415, 416, 417, 421, 422, 426, 428, 429, 431, 501];
    let bad = |status| Reply::cc("bad", "max-age=60").status(status);
    for status in DRAWN {
        let bench = Bench::new([bad(status), Reply::cc("good", "max-age=60")]);
        bench.get("/").await.has_body("bad").told("larder; fwd=uri-miss; detail=\"drawn-error\"");
        bench.get("/").await.has_body("good").told("larder; fwd=uri-miss; stored; ttl=60");
        let drawn = StandardPolicy::default().drawn_errors(true);
        for layer in [drawn, StandardPolicy::rfc9111()].map(|policy| cache_builder().policy(policy)) {
            let bench = Bench::with(layer, [bad(status)]);
            bench.get("/").await;
            assert!(bench.get("/").await.is_hit(), "{status}");
        }
    }
    for status in [404, 410, 414, 451, 500, 503] {
        let bench = Bench::new([bad(status)]);
        bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=60");
        assert!(bench.get("/").await.is_hit(), "{status}");
    }
}

#[tokio::test]
async fn a36_a_policy_can_lift_the_refusal_of_a_drawn_error_and_no_other_one() {
    /// Stores what the service refuses to everybody.
    struct Forbidden;
    impl CachePolicy for Forbidden {
        fn response(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
            let response = exchange.response;
            if response.status == 403 && terms.store == Err(NotStored::DrawnError) {
                terms.store = Ok(());
            }
        }
    }
    let bad = |status, cache_control| Reply::cc("bad", cache_control).status(status);
    let too_many: Vec<_> = (0..200).map(|group| format!("\"{group}\"")).collect();
    for (reply, told) in [
        (bad(403, "max-age=60"), "stored; ttl=60"),
        (bad(400, "max-age=60"), "detail=\"drawn-error\""),
        (bad(403, "private, max-age=60"), "detail=\"private\""),
        (bad(403, "max-age=60").field("set-cookie", "a=b"), "detail=\"set-cookie\""),
        (bad(403, "max-age=60").field("cache-groups", &too_many.join(", ")), "detail=\"too-many-groups\""),
        (bad(403, "max-age=60").field("vary", "*"), "detail=\"vary\""),
    ] {
        let bench = Bench::with(cache_builder().policy(Forbidden), [reply]);
        bench.get("/").await.told(&format!("larder; fwd=uri-miss; {told}"));
    }
}

#[tokio::test]
async fn a_response_is_as_old_as_it_came_also_where_no_client_gets_its_age() {
    /// Takes `Age` from everybody.
    struct Ageless;
    impl CachePolicy for Ageless {
        fn response(&self, _: &PolicyExchange<'_>, terms: &mut Terms) {
            terms.strip.push(header::AGE);
        }
    }
    let reply = Reply::cc("x", "max-age=60").field("age", "50");
    let bench = Bench::with(cache_builder().policy(Ageless), [reply]);
    // RFC 9111 4.2.3.
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=10");
    bench.later(11);
    bench.get("/").await.told("larder; fwd=stale; stored; ttl=10");
}

fn stripping() -> StandardPolicy {
    StandardPolicy::default().strip_unkeyed(true)
}

/// One field of each kind that is stripped, and one that is not.
const FORGED: [(&str, &str); 5] = [
    ("x-forwarded-host", "evil"),
    ("forwarded", "host=evil"),
    ("x-http-method-override", "EVIL"),
    ("x_tenant", "evil"),
    ("x-forwarded-for", "192.0.2.1"),
];

#[track_caller]
fn saw_nothing_forged(bench: &Bench) {
    let seen = bench.origin.last();
    let names: Vec<_> = seen.headers.keys().map(header::HeaderName::as_str).collect();
    assert!(FORGED[..4].iter().all(|(name, _)| !names.contains(name)), "{names:?}");
    assert_eq!(seen.headers["x-forwarded-for"], "192.0.2.1");
}

#[tokio::test]
async fn a36_unkeyed_fields_are_stripped_from_requests_whose_answer_may_be_stored() {
    let reply = Reply::cc("x", "max-age=60, stale-while-revalidate=60").field("etag", "\"a\"");
    let bench = Bench::with(cache_builder().policy(stripping()), [reply.clone()]);
    bench.get_with("/", &FORGED).await.told("larder; fwd=uri-miss; stored; ttl=60");
    saw_nothing_forged(&bench);
    bench.send(Method::HEAD, "/other", &FORGED).await.told("larder; fwd=uri-miss; stored; ttl=60");
    saw_nothing_forged(&bench);
    // In the background, and in front.
    bench.later(61);
    assert!(bench.get_with("/", &FORGED).await.is_hit());
    until_calls(&bench, 3).await;
    saw_nothing_forged(&bench);
    assert_eq!(bench.origin.last().headers["if-none-match"], "\"a\"");
    bench.later(500);
    bench.get_with("/", &FORGED).await.told("larder; fwd=stale; stored; ttl=60");
    saw_nothing_forged(&bench);
    // A GET that passes.
    let upgrade = [&FORGED[..], &[("upgrade", "x")]].concat();
    bench.get_with("/", &upgrade).await.told("larder; fwd=bypass; detail=\"upgrade\"");
    saw_nothing_forged(&bench);
    // What other methods mean by these fields is theirs to say.
    for method in [Method::POST, Method::PUT, Method::OPTIONS] {
        bench.send(method, "/", &FORGED).await;
        assert_eq!(bench.origin.last().headers["x-http-method-override"], "EVIL");
    }
    // By default all of them reach it.
    let bench = Bench::new([reply]);
    bench.get_with("/", &FORGED).await;
    assert_eq!(bench.origin.last().headers["x-forwarded-host"], "evil");
}

#[tokio::test]
async fn a36_a_field_that_the_origin_does_not_see_does_not_select() {
    let reply = |body| Reply::cc(body, "max-age=60").field("vary", "x-forwarded-host, accept");
    let bench = Bench::with(cache_builder().policy(stripping()), [reply("page"), reply("other")]);
    bench.get_with("/", &FORGED).await.has_body("page");
    assert!(bench.get("/").await.has_body("page").is_hit());
    assert!(bench.get_with("/", &[("x-forwarded-host", "b.example")]).await.has_body("page").is_hit());
    bench.get_with("/", &[("accept", "text/plain")]).await.told("larder; fwd=vary-miss; stored; ttl=60");
    // Where it is seen, it does.
    let bench = Bench::new([reply("evil"), reply("good")]);
    bench.get_with("/", &FORGED).await.has_body("evil");
    bench.get("/").await.has_body("good");
}

#[tokio::test]
async fn a36_a_field_that_is_keyed_or_forwarded_by_name_reaches_the_origin() {
    let keyed = header::HeaderName::from_static("x-forwarded-host");
    let forwarded = header::HeaderName::from_static("x_tenant");
    for policy in [
        stripping().key_field(keyed.clone()).forward_field(forwarded.clone()),
        StandardPolicy::default().key_field(keyed).forward_field(forwarded).strip_unkeyed(true),
    ] {
        let bench =
            Bench::with(cache_builder().policy(policy), ["evil", "good"].map(|x| Reply::cc(x, "max-age=60")));
        bench.get_with("/", &FORGED).await.has_body("evil");
        let seen = bench.origin.last().headers;
        assert_eq!(
            (&seen["x-forwarded-host"], &seen["x_tenant"]),
            (&"evil".parse().unwrap(), &"evil".parse().unwrap())
        );
        assert!(!seen.contains_key("forwarded"));
        bench.get("/").await.has_body("good");
    }
    // A list of one's own.
    let policy = stripping().unkeyed_fields([header::ORIGIN]);
    let bench = Bench::with(cache_builder().policy(policy), [Reply::cc("x", "max-age=60")]);
    bench.get_with("/", &[("origin", "https://evil"), ("x-forwarded-host", "evil")]).await;
    let seen = bench.origin.last().headers;
    assert!(!seen.contains_key("origin") && seen.contains_key("x-forwarded-host"));
}

#[tokio::test]
async fn a36_the_answer_to_a_post_with_unkeyed_fields_is_not_stored() {
    let reply = Reply::cc("x", "max-age=60").field("content-location", "/");
    for (fields, is_hit) in [(&[][..], true), (&FORGED[..1], false)] {
        let policy = StandardPolicy::rfc9111().strip_unkeyed(true);
        let bench = Bench::with(cache_builder().policy(policy), [reply.clone()]);
        bench.send(Method::POST, "/", fields).await;
        assert_eq!(bench.get("/").await.is_hit(), is_hit, "{fields:?}");
    }
}

/// Remembers the terms it was given, and gives its own.
#[derive(Clone, Default)]
struct Mine(Arc<Mutex<Vec<Terms>>>);

impl CachePolicy for Mine {
    fn request(&self, request: &mut request::Parts, _: &mut larder::PolicyData) -> RequestAction {
        if request.uri.path().starts_with("/admin") {
            RequestAction::bypass("admin")
        } else {
            RequestAction::of(request)
        }
    }

    fn response(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        let request = exchange.request;
        self.0.lock().unwrap().push(terms.clone());
        match request.uri.path() {
            "/never" => terms.store = Err(NotStored::Policy),
            "/always" => {
                terms.store = Ok(());
                terms.lifetime = Duration::from_secs(600);
            }
            "/tagged" => terms.groups.push("news".into()),
            "/small" => terms.max_body = 3,
            "/stripped" => terms.strip.push(header::SERVER),
            "/hidden" => {
                terms.strip.extend(["cache-groups", "cdn-cache-control"].map(header::HeaderName::from_static))
            }
            _ => {}
        }
    }

    fn forward(&self, request: &mut request::Parts, _: &ForwardReason<'_>) {
        request.headers.insert("x-forwarded-by", header::HeaderValue::from_static("mine"));
    }
}

#[tokio::test]
async fn a_custom_policy_decides_about_requests_and_responses() {
    let policy = Mine::default();
    let bench = Bench::with(cache_builder().policy(policy.clone()), [Reply::cc("four", "max-age=60")]);
    bench.get("/admin").await.told("larder; fwd=bypass; detail=\"admin\"");
    assert_eq!(bench.origin.last().headers["x-forwarded-by"], "mine");
    bench.get("/never").await.told("larder; fwd=uri-miss; detail=\"policy\"");
    bench.get("/small").await.told("larder; fwd=uri-miss; detail=\"too-large\"");
    bench.get("/tagged").await.told("larder; fwd=uri-miss; stored; ttl=60");
    assert_eq!(bench.origin.last().headers["x-forwarded-by"], "mine");
    let terms = policy.0.lock().unwrap().last().cloned().unwrap();
    assert_eq!((terms.lifetime, terms.store), (Duration::from_secs(60), Ok(())));
    bench.origin.then(Reply::cc("secret", "no-store"));
    bench.get("/always").await.told("larder; fwd=uri-miss; stored; ttl=600");
    bench.get("/always").await.told("larder; hit; ttl=600");

    let news = larder::store::PurgeTarget::Group("news".into());
    assert!(bench.get("/tagged").await.is_hit());
    bench.handle.purge_target(&news).await.unwrap();
    assert!(!bench.get("/tagged").await.is_hit());
    assert!(bench.get("/always").await.is_hit());
}

#[tokio::test]
async fn the_name_in_cache_status_is_settable() {
    let bench = Bench::with(cache_builder().name("edge-1"), [Reply::cc("x", "max-age=60")]);
    bench.get("/").await.told("edge-1; fwd=uri-miss; stored; ttl=60");
    bench.get("/").await.told("edge-1; hit; ttl=60");
}

#[tokio::test]
async fn stripped_response_fields_reach_no_client() {
    let layer = || cache_builder().policy(Mine::default());
    for cache_control in ["max-age=60", "private", "no-store"] {
        let reply = Reply::cc("x", cache_control).field("server", "secret").field("etag", "\"a\"");
        let bench = Bench::with(layer(), [reply]);
        assert!(bench.get("/other").await.field("server").is_some());
        for _ in 0..2 {
            assert_eq!(bench.get("/stripped").await.field("server"), None, "{cache_control}");
        }
        bench.later(61);
        bench
            .origin
            .then(Reply::new("").status(304).field("server", "secret").field("cache-control", cache_control));
        assert_eq!(bench.get("/stripped").await.field("server"), None, "{cache_control}");
    }
}

#[tokio::test]
async fn stripped_response_fields_count_when_the_response_is_freshened() {
    let reply = Reply::cc("x", "no-store")
        .field("cdn-cache-control", "max-age=60")
        .field("cache-groups", "\"news\"")
        .field("etag", "\"a\"");
    let bench = Bench::with(cache_builder().policy(Mine::default()), [reply]);
    bench.get("/hidden").await;
    bench.later(61);
    bench.origin.then(Reply::new("").status(304).field("etag", "\"a\""));
    let seen = bench.get("/hidden").await.told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
    assert_eq!((seen.field("cdn-cache-control"), seen.field("cache-groups")), (None, None));
    bench.origin.then(Reply::new("").field("cache-group-invalidation", "\"news\""));
    bench.send(http::Method::POST, "/other", &[]).await;
    assert!(!bench.get("/hidden").await.is_hit());
}

#[tokio::test]
async fn an_unsafe_request_that_bypasses_the_cache_still_invalidates() {
    /// Bypasses everything but GET with a certain field: so also the requests that purges are made of.
    struct Picky;
    impl CachePolicy for Picky {
        fn request(&self, request: &mut request::Parts, _: &mut larder::PolicyData) -> RequestAction {
            if request.headers.contains_key("x-cache-me") {
                RequestAction::of(request)
            } else {
                RequestAction::bypass("picky")
            }
        }
    }
    let bench = Bench::with(cache_builder().policy(Picky), [Reply::cc("x", "max-age=60")]);
    let mine = [("x-cache-me", "1")];
    for purge in ["POST", "by hand"] {
        bench.get_with("/", &mine).await;
        assert!(bench.get_with("/", &mine).await.is_hit());
        if purge == "POST" {
            bench.send(http::Method::POST, "/", &[]).await;
        } else {
            bench.handle.purge(&http::Uri::from_static("http://example.com/")).await.unwrap();
        }
        assert!(!bench.get_with("/", &mine).await.is_hit(), "{purge}");
    }
}

#[tokio::test]
async fn a_key_with_cookies_does_not_cover_authorization() {
    let policy = StandardPolicy::default().key_field(header::COOKIE);
    let bench = Bench::with(cache_builder().policy(policy), [Reply::cc("x", "max-age=60")]);
    bench.get_with("/", &[("cookie", "a=b")]).await;
    assert!(bench.get_with("/", &[("cookie", "a=b")]).await.is_hit());
    let both = [("cookie", "a=b"), ("authorization", "user:one")];
    bench.get_with("/", &both).await.told("larder; fwd=request; detail=\"authorization\"");
}

#[tokio::test]
async fn st5_must_revalidate_permits_sharing_by_rfc9111_and_not_by_default() {
    let authorized = [("authorization", "user:one")];
    let bench = Bench::rfc9111([Reply::cc("x", "max-age=60, must-revalidate")]);
    bench.get_with("/", &authorized).await;
    assert!(bench.get_with("/", &[("authorization", "user:two")]).await.is_hit());
    let bench = Bench::new([Reply::cc("x", "max-age=60, must-revalidate")]);
    bench.get_with("/", &authorized).await.told("larder; fwd=uri-miss; detail=\"authorization\"");
}

#[tokio::test]
async fn cs1_the_key_is_reported_by_option() {
    let bench = Bench::with(cache_builder().key_in_cache_status(true), [Reply::cc("x", "max-age=60")]);
    let key = "; key=\"http://example.com/a?b=%22\"";
    bench.get("/a?b=%22").await.told(&format!("larder; fwd=uri-miss; stored; ttl=60{key}"));
    bench.get("/a?b=%22").await.told(&format!("larder; hit; ttl=60{key}"));
    let seen = bench.send(http::Method::OPTIONS, "/a?b=%22", &[]).await;
    seen.told(&format!("larder; fwd=method{key}"));
}
