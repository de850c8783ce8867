//! A candidate policy is asked and counted, and never acted on.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use larder::policy::{self, Bypass, Policies, Report, ReportCounts};
use larder::{CachePolicy, CachePolicyExt, Clock, StandardPolicy};
use tower::Layer;

use crate::support::stores::at_rest;
use crate::support::{Bench, Origin, Reply, cache_builder};

fn bench(
    policy: impl CachePolicy,
    candidate: impl CachePolicy,
    replies: impl IntoIterator<Item = Reply>,
) -> (Bench, Report) {
    let (clock, hand) = Clock::manual();
    let policy = policy.report_only(candidate).clock(clock.clone());
    let report = policy.report();
    let layer = cache_builder().policy(policy).clock(clock).build();
    let origin = Origin::new(replies);
    let bench = Bench { cache: layer.layer(origin.clone()), handle: layer.handle(), clock: hand, origin };
    (bench, report)
}

/// Requests, and of these: hits, misses, gained and lost.
fn figures(report: &Report) -> [u64; 5] {
    let ReportCounts { gained, hits, lost, misses, requests, .. } = report.counts();
    [requests, hits, misses, gained, lost]
}

#[tokio::test]
async fn a_candidate_that_keeps_longer_is_counted_and_changes_nothing() {
    let longer = policy::from_fn(|_, terms| terms.lifetime = Duration::from_secs(100));
    let (bench, report) = bench(StandardPolicy::default(), longer, [Reply::cc("x", "max-age=10")]);
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=10");
    at_rest().await;
    bench.get("/").await.told("larder; hit; ttl=10");
    assert_eq!(figures(&report), [2, 1, 1, 0, 0]);
    bench.later(50);
    bench.get("/").await.told("larder; fwd=stale; stored; ttl=10");
    assert_eq!(figures(&report), [3, 2, 1, 1, 0]);
    at_rest().await;
    // It would not have fetched what was fetched meanwhile.
    bench.later(49);
    bench.get("/").await;
    assert_eq!(figures(&report), [4, 3, 1, 2, 0]);
    bench.later(1);
    bench.get("/").await;
    assert_eq!(figures(&report), [5, 3, 2, 2, 1]);
    bench.later(98);
    bench.get("/").await;
    assert_eq!(figures(&report), [6, 4, 2, 3, 1]);
    assert_eq!(report.counts().stored, 2);
}

#[tokio::test]
async fn a_candidate_that_bypasses_less_is_judged_by_what_clients_get() {
    let now = Policies::new(StandardPolicy::default()).path("/adm/*", Bypass::new("admin"));
    let replies = [Reply::cc("x", "max-age=10")];
    let (bench, report) = bench(now, StandardPolicy::default(), replies);
    for _ in 0..10 {
        bench.get("/adm/x").await.told("larder; fwd=bypass; detail=\"admin\"");
    }
    assert_eq!(figures(&report), [10, 9, 1, 9, 0]);
    assert_eq!(report.counts().stored, 1);
}

#[tokio::test]
async fn a_candidate_that_keys_more_finely_loses_hits() {
    let finer = StandardPolicy::default().key_field("x-beta".parse().unwrap());
    let (bench, report) = bench(StandardPolicy::default(), finer, [Reply::cc("x", "max-age=10")]);
    bench.get("/").await;
    at_rest().await;
    bench.get_with("/", &[("x-beta", "1")]).await.told("larder; hit; ttl=10");
    assert_eq!(figures(&report), [2, 0, 2, 0, 1]);
    // It would have fetched it then, and had it from there on.
    bench.get_with("/", &[("x-beta", "1")]).await;
    assert_eq!(figures(&report), [3, 1, 2, 0, 1]);
}

#[tokio::test]
async fn a_candidate_that_bypasses_edits_and_refuses_has_no_effect() {
    let candidate = Policies::new(
        StandardPolicy::default()
            .before_request(|request, _| {
                request.uri = "/elsewhere".parse().unwrap();
                request.headers.clear();
            })
            .map_terms(|_, terms| terms.refuse("no"))
            .on_forward(|request, _| request.headers.clear())
            .on_deliver(|delivery| delivery.headers.clear()),
    )
    .path("/admin", Bypass::new("admin"));
    let (bench, report) = bench(
        StandardPolicy::default(),
        candidate,
        [Reply::cc("x", "max-age=10"), Reply::cc("y", "no-store"), Reply::cc("z", "max-age=10")],
    );
    bench.get_with("/", &[("x-a", "1")]).await.told("larder; fwd=uri-miss; stored; ttl=10");
    assert_eq!(
        (bench.origin.last().uri.path(), &bench.origin.last().headers["x-a"]),
        ("/", &"1".parse().unwrap())
    );
    bench.get("/admin").await.told("larder; fwd=uri-miss; detail=\"no-store\"");
    bench.send(Method::POST, "/", &[]).await;
    let counts = report.counts();
    assert_eq!((counts.requests, counts.bypassed, counts.misses, counts.stored), (2, 1, 1, 0));
    assert_eq!(counts.not_stored, BTreeMap::from([("policy", 1)]));
}

#[tokio::test]
async fn a_purge_is_no_request() {
    let (bench, report) =
        bench(StandardPolicy::default(), StandardPolicy::rfc9111(), [Reply::cc("x", "max-age=10")]);
    bench.get("/").await;
    bench.handle.purge(&"http://example.com/".parse().unwrap()).await.unwrap();
    assert_eq!(figures(&report), [1, 0, 1, 0, 0]);
}

#[tokio::test]
async fn one_report_within_another_counts_for_itself() {
    let short = policy::from_fn(|_, terms| terms.lifetime = Duration::from_secs(1));
    let long = policy::from_fn(|_, terms| terms.lifetime = Duration::from_secs(100));
    let (clock, hand) = Clock::manual();
    let inner = StandardPolicy::default().report_only(short).clock(clock.clone());
    let (of_short, outer) = (inner.report(), inner.report_only(long).clock(clock.clone()));
    let of_long = outer.report();
    let layer = cache_builder().policy(outer).clock(clock).build();
    let origin = Origin::new([Reply::cc("x", "max-age=10")]);
    let bench = Bench { cache: layer.layer(origin.clone()), handle: layer.handle(), clock: hand, origin };
    bench.get("/").await;
    at_rest().await;
    bench.later(5);
    bench.get("/").await.told("larder; hit; ttl=5");
    assert_eq!(figures(&of_short), [2, 0, 2, 0, 1]);
    assert_eq!(figures(&of_long), [2, 1, 1, 0, 0]);
}

#[tokio::test]
async fn what_no_policy_lifts_and_what_is_too_large_is_not_counted_as_stored() {
    let plain = || Reply::cc("x", "max-age=10");
    let sizes = || StandardPolicy::default().min_body(2).max_body(3);
    for (candidate, path, reply, reason) in [
        (StandardPolicy::default(), "/", plain().field("vary", "*"), Some("vary")),
        (
            StandardPolicy::default(),
            "/a.css",
            plain().field("content-type", "text/html"),
            Some("type-mismatch"),
        ),
        (StandardPolicy::default(), "/a.css", plain().field("content-type", "text/css"), None),
        (StandardPolicy::default(), "/", Reply::cc("x", "no-cache"), Some("never-fresh")),
        (sizes(), "/", Reply::cc("x", "max-age=10").field("content-length", "1"), Some("too-small")),
        (sizes(), "/", Reply::cc("xyz", "max-age=10").field("content-length", "3"), None),
        (sizes(), "/", Reply::cc("wxyz", "max-age=10").field("content-length", "4"), Some("too-large")),
    ] {
        let (bench, report) = bench(StandardPolicy::default(), candidate, [reply]);
        bench.get(path).await;
        let counts = report.counts();
        assert_eq!(counts.not_stored, BTreeMap::from_iter(reason.map(|reason| (reason, 1))), "{path}");
        assert_eq!(counts.stored, u64::from(reason.is_none()), "{path} {reason:?}");
        bench.get(path).await;
        assert_eq!(report.counts().hits, u64::from(reason.is_none()), "{path} {reason:?}");
    }
}
