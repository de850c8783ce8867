//! Cache policies: the standard ones, and one's own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{header, request, response};
use larder::semantics::storing::NotStored;
use larder::{CacheLayer, CachePolicy, StandardPolicy, Terms, Use};

use crate::support::{Bench, Reply};

#[tokio::test]
async fn the_careful_policy_reuses_for_cookies_only_what_is_marked_as_shared() {
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
async fn a_key_with_the_credential_tells_users_apart() {
    let policy = StandardPolicy::default().key_field(header::AUTHORIZATION).private_by_key(true);
    let bench = Bench::with(
        CacheLayer::default().policy(policy),
        [Reply::cc("one's", "private, max-age=60"), Reply::cc("two's", "private, max-age=60")],
    );
    for _ in 0..2 {
        bench.get_with("/me", &[("authorization", "user:one")]).await.has_body("one's");
        bench.get_with("/me", &[("authorization", "user:two")]).await.has_body("two's");
    }
    assert_eq!(bench.origin.calls(), 2);
}

#[tokio::test]
async fn client_directives_can_be_switched_off() {
    let policy = StandardPolicy::default().client_directives(false);
    let bench = Bench::with(CacheLayer::default().policy(policy), [Reply::cc("x", "max-age=60")]);
    bench.get("/").await;
    bench.later(5);
    for directive in ["no-cache", "max-age=0", "min-fresh=600"] {
        assert!(bench.get_with("/", &[("cache-control", directive)]).await.is_hit());
    }
}

/// Remembers the terms it was given, and gives its own.
#[derive(Clone, Default)]
struct Mine(Arc<Mutex<Vec<Terms>>>);

impl CachePolicy for Mine {
    fn request(&self, request: &request::Parts) -> Use {
        if request.uri.path().starts_with("/admin") { Use::Bypass("admin") } else { Use::of(request) }
    }

    fn response(&self, request: &request::Parts, _: &response::Parts, terms: &mut Terms) {
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

    fn forward(&self, request: &mut request::Parts) {
        request.headers.insert("x-forwarded-by", header::HeaderValue::from_static("mine"));
    }
}

#[tokio::test]
async fn a_policy_of_ones_own() {
    let policy = Mine::default();
    let bench = Bench::with(CacheLayer::default().policy(policy.clone()), [Reply::cc("four", "max-age=60")]);
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

    let news = larder::store::Target::Group("news".into());
    assert!(bench.get("/tagged").await.is_hit());
    bench.handle.purge_target(&news).await.unwrap();
    assert!(!bench.get("/tagged").await.is_hit());
    assert!(bench.get("/always").await.is_hit());
}

#[tokio::test]
async fn the_name_in_cache_status_is_settable() {
    let bench = Bench::with(CacheLayer::default().name("edge-1"), [Reply::cc("x", "max-age=60")]);
    bench.get("/").await.told("edge-1; fwd=uri-miss; stored; ttl=60");
    bench.get("/").await.told("edge-1; hit; ttl=60");
}

#[tokio::test]
async fn stripped_fields_reach_nobody() {
    let layer = || CacheLayer::default().policy(Mine::default());
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
async fn what_is_stripped_counts_when_the_response_is_freshened() {
    let reply = Reply::cc("x", "no-store")
        .field("cdn-cache-control", "max-age=60")
        .field("cache-groups", "\"news\"")
        .field("etag", "\"a\"");
    let bench = Bench::with(CacheLayer::default().policy(Mine::default()), [reply]);
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
async fn an_unsafe_request_that_is_bypassed_invalidates_all_the_same() {
    /// Bypasses everything but GET with a certain field: so also the requests that purges are made of.
    struct Picky;
    impl CachePolicy for Picky {
        fn request(&self, request: &request::Parts) -> Use {
            if request.headers.contains_key("x-cache-me") { Use::of(request) } else { Use::Bypass("picky") }
        }
    }
    let bench = Bench::with(CacheLayer::default().policy(Picky), [Reply::cc("x", "max-age=60")]);
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
async fn a_key_that_holds_cookies_says_nothing_of_authorization() {
    let policy = StandardPolicy::default().key_field(header::COOKIE);
    let bench = Bench::with(CacheLayer::default().policy(policy), [Reply::cc("x", "max-age=60")]);
    bench.get_with("/", &[("cookie", "a=b")]).await;
    assert!(bench.get_with("/", &[("cookie", "a=b")]).await.is_hit());
    let both = [("cookie", "a=b"), ("authorization", "user:one")];
    bench.get_with("/", &both).await.told("larder; fwd=request; detail=\"authorization\"");
}

#[tokio::test]
async fn st5_must_revalidate_shares_by_the_rfc_and_not_by_the_careful_rule() {
    let authorized = [("authorization", "user:one")];
    let bench = Bench::rfc9111([Reply::cc("x", "max-age=60, must-revalidate")]);
    bench.get_with("/", &authorized).await;
    assert!(bench.get_with("/", &[("authorization", "user:two")]).await.is_hit());
    let bench = Bench::new([Reply::cc("x", "max-age=60, must-revalidate")]);
    bench.get_with("/", &authorized).await.told("larder; fwd=uri-miss; detail=\"authorization\"");
}

#[tokio::test]
async fn cs1_the_key_is_told_by_option() {
    let bench = Bench::with(CacheLayer::default().key_in_cache_status(true), [Reply::cc("x", "max-age=60")]);
    let key = "; key=\"http://example.com/a?b=%22\"";
    bench.get("/a?b=%22").await.told(&format!("larder; fwd=uri-miss; stored; ttl=60{key}"));
    bench.get("/a?b=%22").await.told(&format!("larder; hit; ttl=60{key}"));
    let seen = bench.send(http::Method::OPTIONS, "/a?b=%22", &[]).await;
    seen.told(&format!("larder; fwd=method{key}"));
}
