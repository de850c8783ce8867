//! Soft purges, by every kind of target and over every kind of store, and purges of everything.

use std::time::Duration;

use larder::store::{GuardLimits, Guarded, PurgeTarget};
use larder::{BoxStore, CacheLayer, MemoryStore};

use crate::support::elsewhere::Elsewhere;
use crate::support::naive::Naive;
use crate::support::remembering::Remembering;
use crate::support::stores::slow;
use crate::support::written::Written;
use crate::support::{Bench, Reply};

const KINDS: [&str; 8] =
    ["memory", "guarded", "boxed", "slow", "remembering", "written down", "elsewhere", "streams, by a log"];

/// A new store of a kind. Those that wait are counted, so that a scenario goes on when they rest.
fn store(kind: &str) -> BoxStore {
    let memory = MemoryStore::default;
    match kind {
        "memory" => BoxStore::new(memory()),
        "guarded" => BoxStore::new(Guarded::new(slow(memory()), GuardLimits::new())),
        "boxed" => BoxStore::new(BoxStore::new(memory())),
        "slow" => BoxStore::new(slow(memory())),
        "remembering" => BoxStore::new(slow(Remembering::of(memory()))),
        "written down" => BoxStore::new(slow(Written::of(memory()))),
        "elsewhere" => BoxStore::new(slow(Elsewhere::of(memory()))),
        _ => BoxStore::new(slow(Naive::default())),
    }
}

fn targets() -> Vec<PurgeTarget> {
    vec![
        PurgeTarget::All,
        PurgeTarget::group("http://example.com", "g"),
        PurgeTarget::host("example.com"),
        PurgeTarget::path("/page"),
        PurgeTarget::path_prefix("/pa"),
        PurgeTarget::prefix("http://example.com/pa"),
        PurgeTarget::tag("g"),
        PurgeTarget::tag_any_case("G"),
        PurgeTarget::uri("http://example.com/page"),
    ]
}

/// A page with two variants is stored.
async fn filled(kind: &str) -> Bench {
    let reply = Reply::cc("old", "max-age=60, stale-if-error=300").field("cache-groups", "\"g\"");
    let bench =
        Bench::with(CacheLayer::builder(store(kind)), [reply.field("vary", "accept").field("etag", "\"a\"")]);
    for accept in ["x", "y"] {
        bench.get_with("/page", &[("accept", accept)]).await;
        assert!(bench.get_with("/page", &[("accept", accept)]).await.is_hit(), "{kind}");
    }
    bench
}

#[tokio::test]
async fn a_soft_purge_by_any_target_over_any_store_makes_stale_and_keeps_what_can_be_validated() {
    for kind in KINDS {
        for target in targets() {
            let bench = filled(kind).await;
            bench.handle.soft_purge_target(&target).await.unwrap();
            bench.later(5);
            for accept in ["x", "y"] {
                let ask = async || bench.get_with("/page", &[("accept", accept)]).await;
                // It stands in for an error as long as its window reaches,
                bench.origin.then(Reply::new("").status(503));
                assert_eq!(
                    ask().await.has_body("old").cache_status(),
                    "larder; fwd=stale; fwd-status=503; ttl=-5; detail=\"stale-if-error\"",
                    "{kind} {target}"
                );
                // and is validated, not fetched again.
                bench.origin.then(Reply::new("").status(304).field("cache-control", "max-age=60"));
                let validated = ask().await.has_body("old");
                assert_eq!(
                    validated.cache_status(),
                    "larder; fwd=stale; fwd-status=304; stored; ttl=60",
                    "{kind} {target}"
                );
                assert_eq!(ask().await.cache_status(), "larder; hit; ttl=60", "{kind} {target}");
            }
        }
    }
}

#[tokio::test]
async fn a_soft_purge_with_an_end_by_any_target_over_any_store_is_a_hard_one_from_then_on() {
    for kind in KINDS {
        for target in targets() {
            let bench = filled(kind).await;
            let ten = Duration::from_secs(10);
            bench.handle.soft_purge_target_for(&target, ten).await.unwrap();
            bench.later(9);
            bench.origin.then(Reply::new("").status(503));
            let seen = bench.get_with("/page", &[("accept", "x")]).await.has_body("old");
            assert_eq!(seen.status, 200, "{kind} {target}");
            bench.later(1);
            bench.origin.then(Reply::new("").status(503));
            let seen = bench.get_with("/page", &[("accept", "y")]).await;
            assert_eq!(seen.status, 503, "{kind} {target}: {seen:?}");
            let last = bench.origin.last();
            assert!(
                !last.headers.contains_key("if-none-match"),
                "{kind} {target}: nothing is left to validate"
            );
        }
    }
}

#[tokio::test]
async fn a_purge_of_everything_over_any_store_leaves_nothing_and_what_comes_after_it_is_stored() {
    for kind in KINDS {
        let bench = filled(kind).await;
        for number in 0..20 {
            bench.get(&format!("/{number}")).await;
        }
        let before = bench.origin.calls();
        bench.handle.purge_target(&PurgeTarget::All).await.unwrap();
        bench.origin.then(Reply::cc("new", "max-age=60"));
        for number in 0..20 {
            let path = format!("/{number}");
            bench.get(&path).await.has_body("new").told("larder; fwd=uri-miss; stored; ttl=60");
            bench.get(&path).await.has_body("new").told("larder; hit; ttl=60");
        }
        assert_eq!(bench.origin.calls(), before + 20, "{kind}");
    }
}
