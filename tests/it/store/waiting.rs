//! Stores whose calls take time: what waits for them, what does not, and what their failures cause.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Uri};
use http_body_util::Empty;
use larder::store::chaos::{Fault, StoreCall};
use larder::store::conformance::{Subject, check_all};
use larder::{BoxStore, FillLimits, MemoryStore};
use tower::{Layer, Service};

use crate::support::bench::read;
use crate::support::origin::always;
use crate::support::stores::{after, before, faulty, flaky, hanging, slow};
use crate::support::written::Written;
use crate::support::{Answer, Bench, CacheBuilder, CacheLayer, Reply, Stage, Step, alone, settle};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

/// A stage over a store whose calls wait at a gate.
fn gated(at_gate: Fault) -> Stage {
    Stage::with(CacheLayer::builder(BoxStore::new(faulty(MemoryStore::default(), [at_gate]))))
}

fn failing(fails: fn(StoreCall, u64) -> bool) -> CacheBuilder {
    CacheLayer::builder(BoxStore::new(flaky(MemoryStore::default(), fails)))
}

#[tokio::test]
async fn a_slow_store_keeps_the_contract() {
    check_all(&Subject::new(async || Arc::new(slow(MemoryStore::default()))).operations(200)).await;
}

#[tokio::test]
async fn a_store_that_keeps_responses_as_bytes_keeps_the_contract() {
    check_all(&Subject::new(async || Arc::new(Written::of(MemoryStore::default()))).operations(200)).await;
}

#[tokio::test]
async fn a_look_up_that_fails_is_a_miss_and_the_answer_is_stored() {
    let bench = Bench::with(
        failing(|op, number| op == StoreCall::Get && number == 0),
        [Reply::cc("x", "max-age=60")],
    );
    bench.get("/").await.told("larder; fwd=miss; stored; ttl=60");
    bench.get("/").await.told("larder; hit; ttl=60");
    assert_eq!(bench.origin.calls(), 1);
}

#[tokio::test]
async fn a_freshening_that_fails_after_the_answer_is_counted_as_unstored() {
    let layer = failing(|op, number| op == StoreCall::Freshen && number == 0);
    let bench = Bench::with(layer, [Reply::cc("x", "max-age=60").field("etag", "\"a\"")]);
    bench.get("/").await;
    bench.later(61);
    let holds = Reply::new("").status(304).field("etag", "\"a\"").field("cache-control", "max-age=60");
    bench.origin.then(holds);
    for unstored in [1, 1] {
        let seen = bench.get("/").await.has_body("x");
        seen.told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
        assert_eq!(bench.handle.fills().unstored, unstored);
    }
    bench.get("/").await.told("larder; hit; ttl=60");
}

#[tokio::test]
async fn a_purge_that_fails_is_reported() {
    let bench = Bench::with(failing(|op, _| op == StoreCall::Invalidate), [Reply::cc("x", "max-age=60")]);
    let uri = Uri::from_static("http://example.com/");
    assert!(bench.handle.purge(&uri).await.is_err() && bench.handle.soft_purge(&uri).await.is_err());
    let seen = bench.send(Method::POST, "/", &[]).await;
    seen.told("larder; fwd=method; detail=\"not-invalidated\"");
}

/// Without a deadline, a request waits for its look-up as long as that takes, but nothing is left of it when it leaves.
#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_a_hanging_look_up_leaves_nothing_behind() {
    let store = hanging(MemoryStore::default(), &[StoreCall::Get]);
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
async fn an_invalidation_continues_without_its_client_beyond_the_bound_of_abandoned_requests() {
    let (gate, at_gate) = before(&[StoreCall::Invalidate]);
    let store = faulty(MemoryStore::default(), [at_gate]);
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
async fn a_miss_is_looked_up_once_if_no_call_has_ended_meanwhile() {
    let (gate, at_gate) = after(&[StoreCall::Get]);
    gate.open();
    let stage = gated(at_gate);
    for path in ["/", "/other"] {
        stage.fill(path, &[Step::head(200, &[FRESH]), Step::frame("x"), Step::End]).await;
    }
    assert_eq!(gate.arrived(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_leader_looks_up_again_if_a_call_for_its_key_has_ended_meanwhile() {
    for length in [None, Some(("content-length", "1"))] {
        let (gate, at_gate) = after(&[StoreCall::Get]);
        let stage = gated(at_gate);
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
async fn a_herd_on_a_response_that_is_never_fresh_validates_once_after_it_is_stored() {
    for status in [200, 404] {
        let (gate, at_gate) = before(&[StoreCall::Put]);
        let stage = gated(at_gate);
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
async fn a_herd_validates_once_a_response_that_expires_before_its_call_has_ended() {
    let (gate, at_gate) = after(&[StoreCall::Put]);
    let stage = gated(at_gate);
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

fn small(content: &str) -> [Step; 3] {
    let length = content.len().to_string();
    [Step::head(200, &[FRESH, ("content-length", &length)]), Step::frame(content), Step::End]
}

#[tokio::test(start_paused = true)]
async fn no_client_waits_for_the_store_once_small_content_is_received() {
    let (gate, at_gate) = before(&[StoreCall::Put]);
    let stage = gated(at_gate);
    let clients = stage.herd(3, &[]);
    settle().await;
    stage.origin.call(0).steps(&small("page"));
    let mut statuses = Vec::new();
    for client in clients {
        statuses.push(client.seen().await.has_body("page").cache_status().to_owned());
    }
    statuses.sort();
    let collapsed = "larder; fwd=uri-miss; stored; collapsed; ttl=60";
    assert_eq!(statuses, [collapsed, collapsed, "larder; fwd=uri-miss; stored; ttl=60"]);
    assert_eq!(gate.arrived(), 1);
    // The call can be joined until the store has its answer, whoever asks and whatever of it.
    stage.later(10);
    stage.get("/").seen().await.has_body("page").told("larder; fwd=uri-miss; stored; collapsed; ttl=50");
    let range = stage.get_with("/", &[("range", "bytes=0-1")]);
    settle().await;
    assert_eq!(stage.origin.calls(), 2, "ranges of what is not stored yet are not collapsed");
    range.leave();
    assert_eq!(stage.handle.statistics().entries, 0);
    gate.open();
    settle().await;
    stage.get("/").seen().await.has_body("page").told("larder; hit; ttl=50");
    let fills = stage.handle.fills();
    assert_eq!((stage.origin.calls(), fills.fills, fills.in_flight, fills.unstored), (2, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn small_content_is_stored_although_its_client_has_left() {
    let (gate, at_gate) = before(&[StoreCall::Put]);
    let stage = gated(at_gate);
    // Nobody else can wait for the second one.
    for fields in [&[][..], &[("range", "bytes=0-1")]] {
        gate.close();
        let client = stage.get_with("/", fields);
        settle().await;
        stage.origin.calls_from(0).pop().unwrap().steps(&small("page"));
        settle().await;
        assert!(!client.is_waiting());
        client.leave();
        gate.open();
        settle().await;
        stage.get("/").seen().await.has_body("page").told("larder; hit; ttl=60");
        stage.handle.purge(&Uri::from_static("http://example.com/")).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_that_fails_after_the_answer_is_counted_as_unstored() {
    let stage = Stage::with(failing(|op, number| op == StoreCall::Put && number == 0));
    stage.fill("/", &small("page")).await.told("larder; fwd=uri-miss; stored; ttl=60");
    assert_eq!(stage.handle.fills().unstored, 1);
    stage.fill("/", &small("page")).await.told("larder; fwd=uri-miss; stored; ttl=60");
    assert_eq!((stage.handle.fills().unstored, stage.origin.calls()), (1, 2));
    stage.get("/").seen().await.told("larder; hit; ttl=60");
}

#[tokio::test(start_paused = true)]
async fn a_purge_reaches_a_response_that_the_store_is_still_writing() {
    for is_soft in [false, true] {
        let (gate, at_gate) = before(&[StoreCall::Put]);
        let stage = gated(at_gate);
        stage.fill("/", &small("old")).await;
        let uri = Uri::from_static("http://example.com/");
        let handle = &stage.handle;
        if is_soft { handle.soft_purge(&uri).await } else { handle.purge(&uri).await }.unwrap();
        // What is asked for from now on is not answered with it, be it stored by then or not.
        let after = stage.get("/");
        settle().await;
        assert_eq!(stage.origin.calls(), 2, "soft: {is_soft}");
        gate.open();
        settle().await;
        stage.origin.call(1).steps(&small("new"));
        after.seen().await.has_body("new");
        settle().await;
        stage.get("/").seen().await.has_body("new").told("larder; hit; ttl=60");
    }
}

#[tokio::test(start_paused = true)]
async fn beyond_the_bound_of_bytes_in_flight_clients_wait_for_the_store() {
    let (gate, at_gate) = before(&[StoreCall::Put]);
    let store = faulty(MemoryStore::default(), [at_gate]);
    let limits = FillLimits::new().in_flight(4096);
    let stage = Stage::with(CacheLayer::builder(BoxStore::new(store)).fill_limits(limits));
    stage.origin.script(&small(&"x".repeat(1000)));
    let clients: Vec<_> = (0..10).map(|number| stage.get(&format!("/{number}"))).collect();
    settle().await;
    let answered = clients.iter().filter(|client| !client.is_waiting()).count();
    let in_flight = stage.handle.fills().in_flight;
    assert!((2..=4).contains(&answered) && in_flight <= 4096, "{answered}, {in_flight} bytes");
    gate.open();
    for client in clients {
        client.seen().await.told("larder; fwd=uri-miss; stored; ttl=60");
    }
    let fills = stage.handle.fills();
    assert_eq!((stage.handle.statistics().entries, fills.in_flight, fills.unstored), (10, 0, 0));
}

#[test]
fn without_a_runtime_a_client_gets_its_answer_once_it_is_stored() {
    let origin = always(Reply::cc("page", "max-age=60"));
    let mut cache = CacheLayer::new(BoxStore::new(slow(MemoryStore::default()))).layer(origin.clone());
    let mut get = || {
        let request = Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap();
        let answer = cache.call(request);
        alone(async { read(answer.await.unwrap()).await.has_body("page") })
    };
    get().told("larder; fwd=uri-miss; stored; ttl=60");
    get().told("larder; hit; ttl=60");
}

#[tokio::test(start_paused = true)]
async fn no_client_waits_for_the_store_after_a_304() {
    let (gate, at_gate) = before(&[StoreCall::Freshen]);
    let stage = gated(at_gate);
    let tag = ("etag", "\"a\"");
    stage.fill("/", &[Step::head(200, &[FRESH, tag]), Step::frame("page"), Step::End]).await;
    stage.later(61);
    let clients = stage.herd(3, &[]);
    settle().await;
    stage.origin.call(1).steps(&[Step::head(304, &[FRESH, tag]), Step::End]);
    for client in clients {
        client.seen().await.has_body("page");
    }
    stage.later(10);
    stage.get("/").seen().await.has_body("page").told("larder; fwd=stale; stored; collapsed; ttl=50");
    assert_eq!((gate.arrived(), stage.origin.calls()), (1, 2));
    gate.open();
    settle().await;
    stage.get("/").seen().await.has_body("page").told("larder; hit; ttl=50");
    assert_eq!(stage.handle.fills().unstored, 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_after_a_validation_does_not_share_it_although_its_call_is_open() {
    let (_gate, at_gate) = before(&[StoreCall::Freshen]);
    let stage = gated(at_gate);
    let never_fresh = [("cache-control", "no-cache"), ("etag", "\"a\"")];
    stage.fill("/", &[Step::head(200, &never_fresh), Step::frame("page"), Step::End]).await;
    for calls in 2..5 {
        let herd = stage.herd(3, &[]);
        settle().await;
        assert_eq!(stage.origin.calls(), calls, "one for those that come together");
        stage.origin.call(calls - 1).steps(&[Step::head(304, &never_fresh), Step::End]);
        for client in herd {
            client.seen().await.has_body("page");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_stream_does_not_wait_for_the_store() {
    for length in [None, Some(("content-length", "6"))] {
        let (gate, at_gate) = before(&[StoreCall::Put]);
        let stage = gated(at_gate);
        let clients = stage.herd(3, &[]);
        settle().await;
        let fields: Vec<_> = [FRESH].into_iter().chain(length).collect();
        stage.origin.call(0).head(&fields).frame("pan");
        settle().await;
        stage.origin.call(0).frame("try").end();
        for client in clients {
            client.seen().await.has_body("pantry");
        }
        assert_eq!((gate.arrived(), stage.handle.statistics().entries), (1, 0));
        // Until it is stored, it answers as what is stored does.
        let mut tag = None;
        for fields in [&[][..], &[("if-none-match", "\"other\"")]] {
            let seen = stage.get_with("/", fields).seen().await.has_body("pantry");
            tag = seen.field("etag").map(str::to_owned);
            seen.told("larder; fwd=uri-miss; stored; collapsed; ttl=60");
        }
        let known = stage.get_with("/", &[("if-none-match", &tag.expect("a generated tag"))]).seen().await;
        assert_eq!(known.status, 304);
        gate.open();
        settle().await;
        stage.get("/").seen().await.has_body("pantry").told("larder; hit; ttl=60");
        let fills = stage.handle.fills();
        let counts = (stage.origin.calls(), fills.fills, fills.in_flight, fills.unstored);
        assert_eq!(counts, (1, 0, 0, 0), "{length:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn content_too_large_to_store_streams_while_the_store_is_slow() {
    let (gate, at_gate) = before(&[StoreCall::Freshen]);
    let store = faulty(MemoryStore::builder().max_object(100_000).build(), [at_gate]);
    let stage = Stage::with(CacheLayer::builder(BoxStore::new(store)));
    let stale = ("cache-control", "max-age=60, stale-if-error=600");
    stage.fill("/", &[Step::head(200, &[stale]), Step::frame("old"), Step::End]).await;
    stage.later(61);
    let client = stage.get("/").reading();
    settle().await;
    let call = stage.origin.call(1);
    call.head(&[FRESH]);
    for _ in 0..10 {
        call.frame("x".repeat(50_000));
    }
    call.end();
    assert_eq!(client.await.unwrap().body.len(), 500_000);
    assert_eq!(gate.arrived(), 1, "the old one is not to stand in any more");
    gate.open();
    settle().await;
    let next = stage.get("/");
    settle().await;
    stage.origin.call(2).step(Step::Refuse);
    assert!(matches!(next.answer().await, Answer::Refused));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_expires_during_its_look_up_answers_no_other_query() {
    let (gate, at_gate) = after(&[StoreCall::Get]);
    gate.open();
    let stage = gated(at_gate);
    let head = [FRESH, ("no-vary-search", "params")];
    stage.fill("/?1", &[Step::head(200, &head), Step::frame("old"), Step::End]).await;
    stage.get("/?2").seen().await.has_body("old").told("larder; hit; ttl=60");
    stage.later(50);
    gate.close();
    let client = stage.get("/?3");
    settle().await;
    // Nothing is stored under its own query; the look-up under the other one takes its time.
    gate.pass(1);
    settle().await;
    assert_eq!(gate.arrived(), 5);
    stage.later(20);
    gate.open();
    settle().await;
    assert_eq!(stage.origin.calls(), 2, "it is stale by now");
    stage.origin.call(1).steps(&[Step::head(200, &head), Step::frame("new"), Step::End]);
    client.seen().await.has_body("new");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_stream_does_not_wait_for_room_to_count_its_bytes_twice() {
    let (gate, at_gate) = before(&[StoreCall::Put]);
    let store = faulty(MemoryStore::default(), [at_gate]);
    let limits = FillLimits::new().in_flight(1 << 20);
    let stage = Stage::with(CacheLayer::builder(BoxStore::new(store)).fill_limits(limits));
    let client = stage.get("/").reading();
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH]);
    for _ in 0..10 {
        call.frame("x".repeat(60_000));
    }
    call.end();
    settle().await;
    assert!(client.is_finished() && gate.arrived() == 1, "the store has not answered");
    assert_eq!(client.await.unwrap().body.len(), 600_000);
    let in_flight = stage.handle.fills().in_flight;
    assert!((600_000..1 << 20).contains(&in_flight), "once: {in_flight}");
    gate.open();
    settle().await;
    assert!(stage.get("/").seen().await.is_hit());
    assert_eq!(stage.handle.fills().in_flight, 0);
}
