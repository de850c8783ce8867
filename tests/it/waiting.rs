//! Stores that have to be waited for: what they may hold up, what they may not, and what their failures cost.

use http::{Method, Uri};
use larder::store::conformance;
use larder::{BoxStore, FillLimits, MemoryStore};

use crate::support::stores::{Flaky, Gate, Gated, Hanging, Op, Slow};
use crate::support::{Bench, CacheBuilder, CacheLayer, Reply, Stage, Step, settle};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

/// A stage over a store whose calls wait at a gate.
fn gated(gate: &Gate) -> Stage {
    Stage::with(CacheLayer::builder(BoxStore::new(Gated::new(MemoryStore::default(), gate.clone()))))
}

fn flaky(fails: fn(Op, usize) -> bool) -> CacheBuilder {
    CacheLayer::builder(BoxStore::new(Flaky::by(MemoryStore::default(), fails)))
}

#[tokio::test]
async fn a_slow_store_keeps_the_contract() {
    let slow = async || Slow::of(MemoryStore::default());
    conformance::check_all(slow, conformance::Capabilities::all()).await;
}

#[tokio::test]
async fn a_look_up_that_fails_is_a_miss_and_the_answer_is_stored() {
    let bench = Bench::with(flaky(|op, number| op == Op::Get && number == 0), [Reply::cc("x", "max-age=60")]);
    bench.get("/").await.told("larder; fwd=miss; stored; ttl=60");
    bench.get("/").await.told("larder; hit; ttl=60");
    assert_eq!(bench.origin.calls(), 1);
}

#[tokio::test]
async fn a_validation_is_reported_as_not_stored_when_the_store_does_not_take_the_new_head() {
    let layer = flaky(|op, number| op == Op::Freshen && number == 0);
    let bench = Bench::with(layer, [Reply::cc("x", "max-age=60").field("etag", "\"a\"")]);
    bench.get("/").await;
    bench.later(61);
    let holds = Reply::new("").status(304).field("etag", "\"a\"").field("cache-control", "max-age=60");
    bench.origin.then(holds);
    let seen = bench.get("/").await.has_body("x");
    seen.told("larder; fwd=stale; fwd-status=304; ttl=60; detail=\"store\"");
    bench.get("/").await.has_body("x").told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
    bench.get("/").await.told("larder; hit; ttl=60");
}

#[tokio::test]
async fn a_purge_that_fails_is_reported() {
    let bench = Bench::with(flaky(|op, _| op == Op::Invalidate), [Reply::cc("x", "max-age=60")]);
    let uri = Uri::from_static("http://example.com/");
    assert!(bench.handle.purge(&uri).await.is_err() && bench.handle.soft_purge(&uri).await.is_err());
    let seen = bench.send(Method::POST, "/", &[]).await;
    seen.told("larder; fwd=method; detail=\"not-invalidated\"");
}

/// Without a deadline, a request waits for its look-up as long as that takes, but nothing is left of it when it leaves.
#[tokio::test(start_paused = true)]
async fn a_client_leaves_a_look_up_that_hangs_and_leaves_nothing_behind() {
    let store = Hanging::in_calls(MemoryStore::default(), &[Op::Get]);
    let stage = Stage::with(CacheLayer::builder(BoxStore::new(store)));
    let herd = stage.herd(10, &[]);
    settle().await;
    assert!(herd.iter().all(|client| client.is_waiting()));
    herd.into_iter().for_each(|client| client.leave());
    stage.origin.script(&[Step::head(204, &[]), Step::End]);
    // What the cache only passes on asks nothing of the store.
    assert_eq!(stage.send(Method::OPTIONS, "/", &[]).seen().await.status, 204);
    let fills = stage.handle.fills();
    assert_eq!((stage.origin.calls(), fills.fills, fills.waiting), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_goes_on_when_its_client_leaves_and_no_request_may_go_on_alone() {
    let gate = Gate::before(&[Op::Invalidate]);
    let store = Gated::new(MemoryStore::default(), gate.clone());
    let layer = CacheLayer::builder(BoxStore::new(store)).fill_limits(FillLimits::new().abandoned(0));
    let stage = Stage::with(layer);
    stage.fill("/", &[Step::head(200, &[FRESH]), Step::frame("old"), Step::End]).await;
    assert!(stage.get("/").seen().await.is_hit());
    let post = stage.send(Method::POST, "/", &[]);
    settle().await;
    stage.origin.call(1).step(Step::head(200, &[])).end();
    settle().await;
    assert!(post.is_waiting() && gate.arrived() == 1, "it has its answer, and the store takes its time");
    post.leave();
    settle().await;
    gate.open();
    stage.fill("/", &[Step::head(200, &[FRESH]), Step::frame("new"), Step::End]).await.has_body("new");
}

#[tokio::test(start_paused = true)]
async fn a_miss_is_looked_up_once_where_no_call_has_ended_meanwhile() {
    let gate = Gate::after(&[Op::Get]);
    gate.open();
    let stage = gated(&gate);
    for path in ["/", "/other"] {
        stage.fill(path, &[Step::head(200, &[FRESH]), Step::frame("x"), Step::End]).await;
    }
    assert_eq!(gate.arrived(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_leader_looks_again_when_a_call_for_its_key_has_ended_since_its_look_up() {
    for length in [None, Some(("content-length", "1"))] {
        let gate = Gate::after(&[Op::Get]);
        let stage = gated(&gate);
        gate.open();
        let first = stage.get("/");
        settle().await;
        gate.close();
        let herd = stage.herd(3, &[]);
        settle().await;
        assert_eq!(gate.arrived(), 4, "they have seen that nothing is stored, and don't know yet");
        let fields: Vec<_> = [FRESH].into_iter().chain(length).collect();
        stage.origin.call(0).head(&fields).frame("x").end();
        first.seen().await.has_body("x");
        settle().await;
        stage.later(10);
        gate.open();
        settle().await;
        assert_eq!(stage.origin.calls(), 1);
        for client in herd {
            let seen = client.seen().await.has_body("x");
            let status = seen.cache_status();
            let is_known = status == "larder; hit; ttl=50"
                || status == "larder; fwd=uri-miss; stored; collapsed; ttl=50";
            assert!(is_known, "{status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_herd_on_what_is_never_fresh_validates_when_the_store_has_it_and_once() {
    for status in [200, 404] {
        let gate = Gate::before(&[Op::Put]);
        let stage = gated(&gate);
        let herd = stage.herd(10, &[]);
        settle().await;
        let tag = ("etag", "\"a\"");
        let head = Step::head(status, &[tag, ("content-length", "4")]);
        stage.origin.call(0).steps(&[head.clone(), Step::frame("page"), Step::End]);
        settle().await;
        let answered = herd.iter().filter(|client| !client.is_waiting()).count();
        assert_eq!((answered, gate.arrived(), stage.origin.calls()), (1, 1, 1), "{status}");
        gate.open();
        settle().await;
        assert_eq!(stage.origin.calls(), 2, "{status}: one call for all that are left");
        stage.origin.call(1).steps(&[Step::head(304, &[tag]), Step::End]);
        for client in herd {
            assert_eq!(client.seen().await.has_body("page").status.as_u16(), status);
        }
        assert_eq!(stage.origin.calls(), 2, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_herd_validates_once_what_has_become_stale_while_the_call_that_stored_it_is_still_open() {
    let gate = Gate::after(&[Op::Put]);
    let stage = gated(&gate);
    let tag = ("etag", "\"a\"");
    let steps = [Step::head(200, &[FRESH, tag, ("content-length", "4")]), Step::frame("page"), Step::End];
    stage.fill("/", &steps).await.told("larder; fwd=uri-miss; stored; ttl=60");
    assert_eq!(stage.handle.fills().fills, 1, "the store has it, and has not said so");
    stage.later(61);
    let herd = stage.herd(10, &[]);
    settle().await;
    assert_eq!(stage.origin.calls(), 2, "one validation for all");
    stage.origin.call(1).steps(&[Step::head(304, &[FRESH, tag]), Step::End]);
    for client in herd {
        client.seen().await.has_body("page");
    }
    gate.open();
    settle().await;
    assert_eq!((stage.origin.calls(), stage.handle.fills().fills), (2, 0));
}
