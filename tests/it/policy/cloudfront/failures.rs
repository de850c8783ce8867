//! What CloudFront does while its origin fails.

use http::StatusCode;
use larder::policy::cloudfront::Distribution;

use super::{bench, lifetimes};
use crate::support::{Bench, Reply};

fn distribution() -> Distribution {
    Distribution::new(lifetimes(0, 60, 86_400))
}

/// A page that is stored and was so for so many seconds when the origin began to give something else.
async fn stored(distribution: Distribution, cache_control: &str, seconds: u64, then: Reply) -> Bench {
    let bench = bench(distribution, [Reply::cc("page", cache_control)]);
    bench.get("/").await;
    bench.later(seconds);
    bench.origin.then(then);
    bench
}

fn failing() -> Reply {
    Reply::new("failed").status(503)
}

#[tokio::test]
async fn cf3_a_stored_page_hides_a_failure_and_the_origin_is_left_alone_for_ten_seconds() {
    for (then, status) in [(failing(), "; fwd-status=503"), (Reply::refused(), "")] {
        let bench = stored(distribution(), "max-age=60", 60, then).await;
        let first = bench.get("/").await.has_body("page");
        first.told(&format!("larder; fwd=stale{status}; ttl=0; detail=\"stale-if-error\""));
        bench.later(9);
        for _ in 0..3 {
            let seen = bench.get("/").await.has_body("page");
            seen.told("larder; hit; ttl=-9; detail=\"stale-if-error\"");
        }
        assert_eq!(bench.origin.calls(), 2);
        bench.later(1);
        bench.get("/").await.has_body("page");
        assert_eq!(bench.origin.calls(), 3);
        // Without an end.
        bench.later(10_000_000);
        bench.get("/").await.has_body("page");
        bench.origin.then(Reply::cc("new", "max-age=60"));
        bench.get("/").await.has_body("page");
        bench.later(10);
        bench.get("/").await.has_body("new");
        bench.later(60);
        bench.origin.then(Reply::cc("newer", "max-age=60"));
        bench.get("/").await.has_body("newer");
    }
}

#[tokio::test]
async fn cf3_the_origin_rests_for_the_minimum_of_the_status_that_it_gave() {
    let seconds = std::time::Duration::from_secs;
    let of = |ttl| distribution().error_caching_min_ttl(StatusCode::SERVICE_UNAVAILABLE, seconds(ttl));
    let bench = stored(of(300), "max-age=60", 60, failing()).await;
    bench.get("/").await;
    bench.later(299);
    assert!(bench.get("/").await.is_hit());
    bench.later(1);
    assert!(!bench.get("/").await.is_hit());
    let bench = stored(of(0), "max-age=60", 60, failing()).await;
    for calls in 2..5 {
        bench.get("/").await.has_body("page");
        assert_eq!(bench.origin.calls(), calls);
    }
}

#[tokio::test]
async fn cf3_how_long_a_page_hides_a_failure_is_for_the_origin_to_say() {
    for (cache_control, seconds, body) in [
        ("max-age=60, stale-if-error=0", 61, "failed"),
        ("max-age=60, stale-if-error=30", 80, "page"),
        ("max-age=60, stale-if-error=30", 100, "failed"),
        ("max-age=60, must-revalidate", 61, "failed"),
        ("max-age=60, proxy-revalidate", 61, "failed"),
        ("s-maxage=60", 61, "page"),
    ] {
        let bench = stored(distribution(), cache_control, seconds, failing()).await;
        bench.get("/").await.has_body(body);
    }
}

#[tokio::test]
async fn cf3_a_4xx_reaches_the_client_and_is_kept_in_its_turn() {
    let bench = stored(distribution(), "max-age=60", 60, Reply::new("gone").status(404)).await;
    let seen = bench.get("/").await.has_body("gone");
    assert_eq!(seen.status, 404);
    seen.told("larder; fwd=stale; stored; ttl=10");
    assert!(bench.get("/").await.has_body("gone").is_hit());
    // What is no good page hides nothing.
    bench.later(10);
    bench.origin.then(failing());
    bench.get("/").await.has_body("failed");
}

#[tokio::test]
async fn cf2_what_is_kept_in_spite_of_no_store_hides_a_failure_unless_it_says_no() {
    let forced = || Distribution::new(lifetimes(60, 60, 86_400));
    for (cache_control, body) in [
        ("no-store", "page"),
        ("private", "page"),
        ("no-cache", "page"),
        ("no-store, stale-if-error=0", "failed"),
    ] {
        let bench = stored(forced(), cache_control, 1_000, failing()).await;
        bench.get("/").await.has_body(body);
    }
}

#[tokio::test]
async fn cf3_an_error_without_a_page_is_kept_for_its_minimum() {
    let bench = bench(distribution(), [failing(), Reply::new("page")]);
    bench.get("/").await.has_body("failed");
    bench.later(9);
    assert!(bench.get("/").await.has_body("failed").is_hit());
    bench.later(1);
    bench.get("/").await.has_body("page");
}

#[tokio::test]
async fn cf3_a_purge_ends_the_rest_of_the_origin() {
    let bench = stored(distribution(), "max-age=60", 60, failing()).await;
    bench.get("/").await.has_body("page");
    bench.handle.purge(&"http://example.com/".parse().unwrap()).await.unwrap();
    bench.get("/").await.has_body("failed");
}

#[tokio::test]
async fn cf3_a_validation_in_the_background_that_fails_gives_the_origin_its_rest_too() {
    let bench = stored(distribution(), "max-age=60, stale-while-revalidate=600", 60, failing()).await;
    bench.get("/").await.has_body("page").told("larder; hit; ttl=0; detail=\"stale-while-revalidate\"");
    crate::reported::validation::until_calls(&bench, 2).await;
    for _ in 0..3 {
        bench.later(3);
        bench.get("/").await.has_body("page");
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.origin.calls(), 2);
    bench.later(1);
    bench.get("/").await.has_body("page");
    crate::reported::validation::until_calls(&bench, 3).await;
}
