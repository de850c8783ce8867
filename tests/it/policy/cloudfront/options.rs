//! OPTIONS, cached by choice.

use http::{Method, header};
use larder::policy::cloudfront::{
    Behavior, CacheHeaderBehavior, CachePolicyConfig, Distribution, OriginRequestPolicyConfig,
};

use super::{bench, lifetimes};
use crate::support::{Bench, Reply};

/// A behavior for CORS, as CloudFront's guide has it.
fn cors() -> Behavior {
    let names =
        [header::ORIGIN, header::ACCESS_CONTROL_REQUEST_HEADERS, header::ACCESS_CONTROL_REQUEST_METHOD];
    Behavior::new(lifetimes(0, 60, 600).header_behavior(CacheHeaderBehavior::allow_list(names)))
}

const PREFLIGHT: [(&str, &str); 2] =
    [("origin", "https://a.example"), ("access-control-request-method", "PUT")];

async fn preflight(bench: &Bench, path: &str, fields: &[(&str, &str)]) -> crate::support::Seen {
    bench.send(Method::OPTIONS, path, fields).await
}

fn allowed() -> Reply {
    let reply = Reply::new("").status(204).field("access-control-allow-origin", "https://a.example");
    reply
        .field("access-control-allow-methods", "PUT")
        .field("access-control-max-age", "600")
        .field("etag", "\"1\"")
}

#[tokio::test]
async fn cf8_a_preflight_is_answered_from_storage_where_the_behavior_says_so() {
    let bench = bench(Distribution::new(cors().cache_options(true)), [allowed()]);
    preflight(&bench, "/a", &PREFLIGHT).await.told("larder; fwd=uri-miss; stored; ttl=60");
    let hit = preflight(&bench, "/a", &PREFLIGHT).await;
    assert_eq!(hit.status, 204);
    assert_eq!(hit.field("access-control-allow-origin"), Some("https://a.example"));
    assert_eq!(hit.field("access-control-max-age"), Some("600"));
    hit.told("larder; hit; ttl=60");
    // Each origin has its own.
    let other = [("origin", "https://b.example"), PREFLIGHT[1]];
    assert!(!preflight(&bench, "/a", &other).await.is_hit());
    // The origin is asked without conditions when it is stale.
    bench.later(60);
    preflight(&bench, "/a", &PREFLIGHT).await.told("larder; fwd=stale; stored; ttl=60");
    assert!(!bench.origin.last().headers.contains_key("if-none-match"));
    assert_eq!(bench.origin.last().method, Method::OPTIONS);
    // A purge of the URI reaches it.
    bench.handle.purge(&"http://example.com/a".parse().unwrap()).await.unwrap();
    assert!(!preflight(&bench, "/a", &PREFLIGHT).await.is_hit());
}

#[tokio::test]
async fn cf8_the_answers_to_options_and_to_get_are_two() {
    let bench = bench(Distribution::new(cors().cache_options(true)), [allowed(), Reply::new("content")]);
    preflight(&bench, "/a", &PREFLIGHT).await;
    bench.get_with("/a", &PREFLIGHT).await.has_body("content");
    assert_eq!(preflight(&bench, "/a", &PREFLIGHT).await.told("larder; hit; ttl=60").status, 204);
    bench.get_with("/a", &PREFLIGHT).await.has_body("content").told("larder; hit; ttl=60");
    bench.send(Method::HEAD, "/a", &PREFLIGHT).await.told("larder; hit; ttl=60");
}

#[tokio::test]
async fn cf8_conditions_and_ranges_of_an_options_request_mean_nothing() {
    let bench = bench(Distribution::new(cors().cache_options(true)), [allowed().status(200)]);
    preflight(&bench, "/a", &PREFLIGHT).await;
    for field in [("if-none-match", "\"1\""), ("if-match", "\"2\""), ("range", "bytes=0-0")] {
        let seen = preflight(&bench, "/a", &[PREFLIGHT[0], PREFLIGHT[1], field]).await;
        assert_eq!(seen.told("larder; hit; ttl=60").status, 200, "{field:?}");
    }
}

#[tokio::test]
async fn options_is_forwarded_where_nobody_says_otherwise_or_it_is_about_the_server() {
    let bench = bench(Distribution::new(cors()), [allowed()]);
    for _ in 0..2 {
        preflight(&bench, "/a", &PREFLIGHT).await.told("larder; fwd=method");
    }
    let bench = super::bench(Distribution::new(cors().cache_options(true)), [allowed()]);
    for _ in 0..2 {
        preflight(&bench, "*", &PREFLIGHT).await.told("larder; fwd=method");
    }
    let content = preflight(&bench, "/a", &[("content-length", "3")]).await;
    content.told("larder; fwd=bypass; detail=\"content\"");
    let plain = CachePolicyConfig::caching_optimized();
    let distribution = Distribution::new(cors().cache_options(true)).behavior("/plain", plain);
    let bench = super::bench(distribution, [allowed()]);
    preflight(&bench, "/plain", &PREFLIGHT).await.told("larder; fwd=method");
}

/// Which of these fields of an OPTIONS reach the origin.
async fn reaching(behavior: Behavior, path: &str) -> Vec<&'static str> {
    let bench = bench(Distribution::new(behavior).strip_unkeyed(true), [allowed()]);
    let names = ["content-language", "max-forwards", "x-forwarded-host", "x_host"];
    preflight(&bench, path, &names.map(|name| (name, "1"))).await;
    let last = bench.origin.last();
    names.into_iter().filter(|name| last.headers.contains_key(*name)).collect()
}

#[tokio::test]
async fn a36_an_options_that_may_be_stored_is_stripped_like_a_get() {
    let all = || cors().origin_request_policy(OriginRequestPolicyConfig::all_viewer());
    let none: [&str; 0] = [];
    assert_eq!(reaching(cors().cache_options(true), "/a").await, none);
    assert_eq!(reaching(all().cache_options(true), "/a").await, ["content-language"]);
    // What is not stored is its client's own business.
    let whole = ["content-language", "max-forwards", "x-forwarded-host", "x_host"];
    assert_eq!(reaching(all(), "/a").await, whole);
    assert_eq!(reaching(all().cache_options(true), "*").await, whole);
}
