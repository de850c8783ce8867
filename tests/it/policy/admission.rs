//! Admission: what is stored only when it has been asked for often enough.

use std::time::Duration;

use larder::policy::{Admission, Fastly, Policies};
use larder::{CachePolicyExt, StandardPolicy};

use crate::support::{Bench, Reply, Stage, cache_builder, settle};

const REFUSED: &str = "larder; fwd=uri-miss; detail=\"admission\"";
const STORED: &str = "larder; fwd=uri-miss; stored; ttl=60";
const FRESH: (&str, &str) = ("cache-control", "max-age=60");

fn after(requests: u8) -> impl larder::CachePolicy {
    StandardPolicy::default().admit(Admission::after(requests).within(Duration::from_secs(100)))
}

fn bench(policy: impl larder::CachePolicy) -> Bench {
    Bench::with(cache_builder().policy(policy), [Reply::cc("x", "max-age=60").field("etag", "\"a\"")])
}

#[tokio::test]
async fn kx1_the_nth_answer_within_the_window_is_stored() {
    let bench = bench(after(3));
    for told in [REFUSED, REFUSED, STORED, "larder; hit; ttl=60"] {
        bench.get("/").await.told(told);
    }
    bench.get("/other").await.told(REFUSED);
    assert_eq!(bench.origin.calls(), 4);
}

#[tokio::test]
async fn kx1_requests_before_the_window_do_not_count() {
    let bench = bench(after(2));
    bench.get("/").await.told(REFUSED);
    bench.later(100);
    bench.get("/").await.told(REFUSED);
    bench.later(74);
    bench.get("/").await.told(STORED);
}

#[tokio::test]
async fn kx1_what_is_stored_stays_admitted() {
    let bench = bench(after(2));
    bench.get("/").await;
    bench.get("/").await.told(STORED);
    bench.get("/").await.told("larder; hit; ttl=60");
    // Long after the window, it is validated, ...
    bench.later(1_000);
    bench.origin.not_modified(Some(Reply::cc("", "max-age=60").status(304).field("etag", "\"a\"")));
    bench.get("/").await.told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
    // ... and replaced.
    bench.origin.not_modified(None);
    bench.later(1_000);
    bench.origin.then(Reply::cc("new", "max-age=60"));
    bench.get("/").await.told("larder; fwd=stale; stored; ttl=60");
    bench.get("/").await.has_body("new").told("larder; hit; ttl=60");
}

#[tokio::test]
async fn kx1_a_hit_does_not_count_and_a_purge_forgets_nothing() {
    let bench = bench(after(2));
    bench.get("/").await;
    bench.get("/").await;
    bench.handle.purge(&"http://example.com/".parse().unwrap()).await.unwrap();
    bench.get("/").await.told(STORED);
}

#[tokio::test]
async fn kx1_what_is_refused_for_another_reason_does_not_count() {
    let bench = Bench::with(cache_builder().policy(after(2)), [Reply::cc("x", "no-store")]);
    for _ in 0..3 {
        bench.get("/").await.told("larder; fwd=uri-miss; detail=\"no-store\"");
    }
    bench.origin.then(Reply::cc("x", "max-age=60"));
    bench.get("/").await.told(REFUSED);
}

#[tokio::test]
async fn kx1_any_policy_can_ask_for_it_and_for_some_paths_only() {
    let by_path = Fastly::new().admit(Admission::after(2));
    let policy = Policies::new(StandardPolicy::default()).path("/search/*", by_path);
    let rare = Admission::after(2);
    let in_terms = StandardPolicy::default().map_terms(move |exchange, terms| {
        terms.admission = exchange.request.uri.path().starts_with("/search/").then(|| rare.clone());
    });
    for bench in [bench(policy), bench(in_terms)] {
        bench.get("/").await.told(STORED);
        bench.get("/search/a").await.told(REFUSED);
        bench.get("/search/a").await.told(STORED);
    }
}

#[tokio::test(start_paused = true)]
async fn kx1_requests_that_wait_for_one_call_count() {
    let stage = Stage::with(cache_builder().policy(after(20)));
    let herd = stage.herd(20, &[]);
    settle().await;
    stage.origin.call(0).head(&[FRESH]).frame("x").end();
    for client in herd {
        client.seen().await.has_body("x");
    }
    assert_eq!((stage.origin.calls(), stage.handle.statistics().entries), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn kx1_requests_that_are_not_admitted_do_not_wait_for_each_other_and_count_once() {
    let stage = Stage::with(cache_builder().policy(after(30)));
    let herd = stage.herd(20, &[]);
    settle().await;
    assert_eq!(stage.origin.calls(), 1);
    stage.origin.call(0).head(&[FRESH]).frame("0").end();
    settle().await;
    assert_eq!(stage.origin.calls(), 20, "all others at once");
    for call in stage.origin.calls_from(1) {
        call.head(&[FRESH]).frame("x").end();
    }
    for client in herd {
        assert!(client.seen().await.cache_status().ends_with("detail=\"admission\""));
    }
    // Ten more are enough, and they share one call: that nobody could share the first answer is not remembered.
    let herd = stage.herd(9, &[]);
    settle().await;
    assert_eq!(stage.origin.calls(), 21);
    stage.origin.call(20).head(&[FRESH]).frame("x").end();
    settle().await;
    assert_eq!(stage.origin.calls(), 29, "one is missing");
    for call in stage.origin.calls_from(21) {
        call.head(&[FRESH]).frame("x").end();
    }
    herd.into_iter().for_each(drop);
    settle().await;
    let last = stage.get("/");
    settle().await;
    stage.origin.call(29).head(&[FRESH]).frame("x").end();
    last.seen().await.told(STORED);
}
