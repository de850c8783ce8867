//! Requests share calls while the store can't be read, and a purge counts all the same.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use larder::store::PurgeTarget;
use larder::store::chaos::StoreCall;
use larder::store::conformance::{Subject, check_all};
use larder::{BoxStore, CacheLayer, MemoryStore};

use crate::support::remembering::Remembering;
use crate::support::stores::flaky;
use crate::support::{Client, Stage, Step, settle};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

/// Over a store that forgets no purge, and whose calls fail by a script.
fn stage(fails: fn(StoreCall, u64) -> bool) -> Stage {
    let store = flaky(Remembering::of(MemoryStore::default()), fails);
    Stage::with(CacheLayer::builder(BoxStore::new(store)))
}

async fn asked(stage: &Stage) -> Client {
    let client = stage.get("/");
    settle().await;
    client
}

#[tokio::test]
async fn a_store_that_forgets_no_purge_keeps_the_contract() {
    check_all(&Subject::new(async || Arc::new(Remembering::of(MemoryStore::default())))).await;
}

#[tokio::test(start_paused = true)]
async fn a_herd_shares_one_call_while_look_ups_fail() {
    let stage = stage(|op, _| op == StoreCall::Get);
    let herd = stage.herd(10, &[]);
    settle().await;
    assert_eq!(stage.origin.calls(), 1);
    stage.origin.call(0).head(&[FRESH]).frame("x").end();
    for client in herd {
        client.seen().await.has_body("x");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_after_a_purge_does_not_join_an_older_call_if_both_look_ups_have_failed() {
    let uri = "http://example.com/".parse().unwrap();
    for way in ["purge", "soft purge", "purge of everything", "POST"] {
        // Also where the store can't say whether anything was purged.
        for fails in [(|op, _| op == StoreCall::Get) as fn(StoreCall, u64) -> bool, |op, _| {
            matches!(op, StoreCall::Get | StoreCall::PurgedSince)
        }] {
            let stage = stage(fails);
            let old = asked(&stage).await;
            match way {
                "purge" => drop(stage.handle.purge(&uri).await.unwrap()),
                "soft purge" => drop(stage.handle.soft_purge(&uri).await.unwrap()),
                "purge of everything" => drop(stage.handle.purge_target(&PurgeTarget::All).await.unwrap()),
                _ => {
                    let post = stage.send(Method::POST, "/", &[]);
                    settle().await;
                    stage.origin.call(1).step(Step::head(204, &[])).end();
                    post.seen().await.told("larder; fwd=method");
                }
            }
            let before = stage.origin.calls();
            let new = [asked(&stage).await, asked(&stage).await];
            assert_eq!(stage.origin.calls(), before + 1, "both make one call of their own: {way}");
            stage.origin.call(0).head(&[FRESH]).frame("old").end();
            old.seen().await.has_body("old");
            stage.origin.call(before).head(&[FRESH]).frame("new").end();
            for client in new {
                client.seen().await.has_body("new");
            }
        }
    }
}

/// What answers the earlier call is for those that wait for the later one, too, so that one is as old.
#[tokio::test(start_paused = true)]
async fn a_request_after_a_purge_does_not_join_a_call_that_inherits_an_older_answer() {
    let stage = stage(|op, _| matches!(op, StoreCall::Get | StoreCall::PurgedSince));
    let [first, second, third] = [asked(&stage).await, asked(&stage).await, asked(&stage).await];
    stage.handle.purge(&"http://example.com/".parse().unwrap()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    settle().await;
    assert_eq!(stage.origin.calls(), 2, "those that wait for the first call have lost their patience");
    let new = asked(&stage).await;
    assert_eq!(stage.origin.calls(), 3);
    stage.origin.call(0).head(&[FRESH]).frame("old").end();
    first.seen().await.has_body("old");
    stage.origin.call(1).head(&[FRESH]).frame("later").end();
    let mut others = [second.seen().await.body, third.seen().await.body];
    others.sort_unstable();
    assert_eq!(
        others,
        ["later", "old"],
        "one leads the second call, and the other one has its answer from the first"
    );
    stage.origin.call(2).head(&[FRESH]).frame("new").end();
    new.seen().await.has_body("new");
}
