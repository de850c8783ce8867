//! How long CloudFront keeps what, through the cache.

use larder::CachePolicyExt;
use larder::policy::Lifetimes;
use larder::policy::cloudfront::{CachePolicyConfig, Distribution};

use super::{bench, lifetimes};
use crate::support::{Bench, Reply, cache_builder};

const MAX: u64 = 31_536_000;
const DAY: u64 = 86_400;

/// What becomes of a response.
#[derive(Clone, Copy)]
enum Edge {
    /// It is fresh for so many seconds.
    For(u64),
    NotKept,
    /// Each use is validated.
    Validated,
}

use Edge::{For, NotKept, Validated};

fn is_fresh_for(seconds: u64) -> String {
    format!("larder; fwd=uri-miss; stored; ttl={seconds}")
}

async fn check(row: u8, distribution: Distribution, reply: Reply, edge: Edge) {
    let bench = bench(distribution, [reply]);
    match edge {
        For(seconds) => {
            assert_eq!(bench.get("/").await.cache_status(), is_fresh_for(seconds), "row {row}");
            if seconds > 0 {
                bench.later(seconds - 1);
                assert!(bench.get("/").await.is_hit(), "row {row}");
                bench.later(1);
            }
            assert!(bench.get("/").await.cache_status().starts_with("larder; fwd=stale"), "row {row}");
        }
        NotKept => {
            let first = bench.get("/").await;
            assert!(!first.cache_status().contains("stored"), "row {row}: {first:?}");
            let second = bench.get("/").await;
            assert!(second.cache_status().starts_with("larder; fwd=uri-miss"), "row {row}: {second:?}");
        }
        Validated => {
            bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=0");
            bench.origin.not_modified(Some(Reply::new("").status(304)));
            bench.get("/").await.told("larder; fwd=stale; fwd-status=304; stored; ttl=0");
        }
    }
}

#[tokio::test]
async fn cf2_the_rows_of_the_table_of_lifetimes_hold_through_the_cache() {
    for (row, (min, default, max), cache_control, edge) in [
        (1, (0, DAY, MAX), "max-age=60", For(60)),
        (2, (0, DAY, 30), "max-age=60", For(30)),
        (3, (100, DAY, MAX), "max-age=60", For(100)),
        (4, (10, DAY, 50), "max-age=60", For(50)),
        (5, (10, DAY, 100), "max-age=60", For(60)),
        (6, (0, DAY, MAX), "max-age=60, s-maxage=600", For(600)),
        (7, (0, DAY, MAX), "s-maxage=0, max-age=600", For(0)),
        (8, (0, DAY, MAX), "", For(DAY)),
        (9, (0, 0, DAY), "", For(0)),
        (10, (0, 0, DAY), "max-age=300", For(300)),
        (11, (7200, 3600, DAY), "", For(7200)),
        (12, (0, DAY, MAX), "no-store", NotKept),
        (13, (0, DAY, MAX), "private, max-age=60", NotKept),
        (14, (0, DAY, MAX), "no-cache", Validated),
        (15, (1, DAY, MAX), "no-cache, must-revalidate", For(1)),
        (16, (60, DAY, MAX), "no-store", For(60)),
        (17, (60, DAY, MAX), "private, max-age=600", For(60)),
    ] {
        let reply = Reply::new("x").field("etag", "\"1\"");
        let reply =
            if cache_control.is_empty() { reply } else { reply.field("cache-control", cache_control) };
        check(row, Distribution::new(lifetimes(min, default, max)), reply, edge).await;
    }
}

#[tokio::test]
async fn cf2_expires_counts_within_the_minimum_and_the_maximum() {
    for (row, (min, max), cache_control, expires, seconds) in [
        (18, (0, 100), None, 60, 60),
        (19, (0, 30), None, 60, 30),
        (20, (100, 1000), None, 60, 100),
        (21, (0, MAX), Some("max-age=60"), 600, 60),
    ] {
        let bench = bench(Distribution::new(lifetimes(min, DAY, max)), [Reply::new("x")]);
        let reply = Reply::new("x").field("expires", &bench.date(expires));
        bench.origin.then(match cache_control {
            None => reply,
            Some(said) => reply.field("cache-control", said),
        });
        let seen = bench.get("/").await;
        assert_eq!(seen.cache_status(), is_fresh_for(seconds), "row {row}");
    }
}

#[tokio::test]
async fn cf2_the_minimum_counts_from_reception_and_the_age_is_the_true_one() {
    // Row 22.
    let reply = Reply::cc("x", "max-age=10").field("age", "500");
    let bench = bench(Distribution::new(lifetimes(60, DAY, MAX)), [reply]);
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=60");
    bench.later(59);
    let hit = bench.get("/").await;
    assert_eq!(hit.age(), Some(559));
    hit.told("larder; hit; ttl=1");
    bench.later(1);
    assert!(!bench.get("/").await.is_hit());
}

#[tokio::test]
async fn cf2_a_stale_response_is_served_while_it_is_validated_but_not_past_the_maximum() {
    // Row 23.
    let reply = Reply::cc("x", "max-age=50, stale-while-revalidate=1000");
    for (seconds, is_served_stale) in [(99, true), (101, false)] {
        let bench = bench(Distribution::new(lifetimes(0, DAY, 100)), [reply.clone()]);
        bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=50");
        bench.later(seconds);
        assert_eq!(bench.get("/").await.is_hit(), is_served_stale, "{seconds}");
    }
}

#[tokio::test]
async fn cf2_a_policy_of_zeros_keeps_nothing() {
    // Row 24.
    let bench = bench(Distribution::new(lifetimes(0, 0, 0)), [Reply::cc("x", "max-age=60")]);
    for _ in 0..2 {
        bench.get("/").await.told("larder; fwd=bypass; detail=\"caching-disabled\"");
    }
}

#[tokio::test]
async fn cf3_errors_are_kept_as_their_status_says() {
    for (row, status, cache_control, edge) in [
        (25, 404, "", For(10)),
        (26, 404, "max-age=60", For(60)),
        (27, 404, "max-age=2", For(10)),
        (28, 404, "no-store", NotKept),
        (28, 410, "no-cache", NotKept),
        (28, 501, "private", NotKept),
        (29, 500, "no-store", For(10)),
        (29, 503, "private", For(10)),
        (29, 504, "no-cache", For(10)),
        (30, 403, "", NotKept),
        (31, 403, "max-age=60", For(60)),
        (31, 405, "s-maxage=60", For(60)),
        (33, 416, "max-age=60", NotKept),
        (33, 401, "max-age=60", NotKept),
        (33, 429, "max-age=60", NotKept),
    ] {
        let reply = Reply::new("x").status(status);
        let reply =
            if cache_control.is_empty() { reply } else { reply.field("cache-control", cache_control) };
        check(row, Distribution::new(lifetimes(0, DAY, MAX)), reply, edge).await;
    }
}

#[tokio::test]
async fn cf13_redirects_other_than_301_and_302_are_kept_only_with_a_cache_control() {
    for (row, status, cache_control, edge) in [
        (34, 302, "", For(DAY)),
        (34, 301, "", For(DAY)),
        (35, 307, "", NotKept),
        (35, 308, "", NotKept),
        (35, 303, "", NotKept),
        (36, 307, "public", For(DAY)),
        (36, 308, "max-age=60", For(60)),
    ] {
        let reply = Reply::new("x").status(status);
        let reply =
            if cache_control.is_empty() { reply } else { reply.field("cache-control", cache_control) };
        check(row, Distribution::new(lifetimes(0, DAY, MAX)), reply, edge).await;
    }
}

#[tokio::test]
async fn cf3_the_minimum_for_an_error_is_that_of_its_status_and_may_be_zero() {
    use http::StatusCode;
    let seconds = std::time::Duration::from_secs;
    let distribution = Distribution::new(CachePolicyConfig::new())
        .error_caching_min_ttl(StatusCode::NOT_FOUND, seconds(0))
        .error_caching_min_ttl(StatusCode::BAD_GATEWAY, seconds(300));
    // Row 37.
    check(37, distribution.clone(), Reply::new("x").status(404), NotKept).await;
    check(37, distribution.clone(), Reply::new("x").status(502), For(300)).await;
    check(37, distribution, Reply::new("x").status(503), For(10)).await;
}

#[tokio::test]
async fn cf2_a_client_cannot_ask_for_something_fresher() {
    let bench = Bench::with(
        crate::support::cache_builder().policy(Distribution::new(CachePolicyConfig::caching_optimized())),
        [Reply::cc("x", "max-age=60")],
    );
    bench.get("/").await;
    for field in [("cache-control", "no-cache"), ("cache-control", "max-age=0"), ("pragma", "no-cache")] {
        assert!(bench.get_with("/", &[field]).await.is_hit(), "{field:?}");
    }
}

#[tokio::test]
async fn cf3_what_forbids_to_keep_an_error_is_not_hidden_by_its_status() {
    let told = |detail| format!("larder; fwd=uri-miss; detail=\"{detail}\"");
    let stored = || "larder; fwd=uri-miss; stored; ttl=5".to_owned();
    for (status, cache_control, plain, lifted) in [
        (429, "public", told("status"), stored()),
        (429, "no-store", told("no-store"), told("no-store")),
        (429, "private", told("private"), told("private")),
        (520, "private", told("private"), told("private")),
        (416, "no-store, max-age=60", told("no-store"), told("no-store")),
    ] {
        let reply = || Reply::cc("x", cache_control).status(status);
        let distribution = || Distribution::new(lifetimes(0, 60, 60));
        bench(distribution(), [reply()]).get("/").await.told(&plain);
        let lifts = Lifetimes::new().status_lifetime(status, std::time::Duration::from_secs(5));
        let policy = distribution().lifetimes(lifts);
        Bench::with(cache_builder().policy(policy), [reply()]).get("/").await.told(&lifted);
    }
}
