//! Stores that take content while it comes: what they see and when, who may see it, and what their pace and their failures
//! cost.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Uri};
use larder::store::chaos::{ChaosStore, StoreCall};
use larder::store::{PutOutcome, Store};
use larder::{BoxStore, Event, FillLimits, MemoryStore, StandardPolicy};

use crate::support::elsewhere::Elsewhere;
use crate::support::stores::{before, faulty, flaky, hanging};
use crate::support::streaming::{Noting, Refusal, Saw};
use crate::support::{Answer, CacheBuilder, CacheLayer, Client, Stage, Step, settle};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// As much as a store gets at a time.
const PIECE: usize = 64 * KIB;
const FRESH: (&str, &str) = ("cache-control", "max-age=60");
const STORED: &str = "larder; fwd=uri-miss; stored; ttl=60";
const HIT: &str = "larder; hit; ttl=60";

/// A store of up to 64 MiB in one response that takes content while it comes.
fn elsewhere() -> Elsewhere {
    let heads = MemoryStore::builder().capacity(256 * MIB as u64).max_object(64 * MIB as u64);
    Elsewhere::of(heads.build())
}

fn over(store: impl Store) -> CacheBuilder {
    CacheLayer::builder(BoxStore::new(store))
}

/// Of which an eighth is kept of each response.
fn in_flight(bytes: usize) -> FillLimits {
    FillLimits::new().in_flight(bytes as u64)
}

/// Content that shows where something is missing, or comes twice.
fn text(length: usize) -> String {
    (0..length).map(|at| char::from(b'a' + ((at / 997 + at % 7) % 26) as u8)).collect()
}

fn length_of(length: usize) -> (&'static str, String) {
    ("content-length", length.to_string())
}

/// A head that is fresh, with a length or without.
fn fresh(length: Option<usize>) -> Step {
    let length = length.map(length_of);
    let length = length.as_ref().map(|(name, value)| (*name, value.as_str()));
    Step::head(200, &[FRESH].into_iter().chain(length).collect::<Vec<_>>())
}

fn here() -> Uri {
    Uri::from_static("http://example.com/")
}

/// Failures of a store, and what it has made of responses.
#[derive(Clone, Default)]
struct Watched(Arc<Mutex<Vec<String>>>);

impl Watched {
    fn by(&self, builder: CacheBuilder) -> CacheBuilder {
        let Self(seen) = self.clone();
        builder.observer(move |event: &Event<'_>| match event {
            Event::Put { bytes, outcome, .. } => {
                seen.lock().unwrap().push(format!("{outcome:?} {bytes}"));
            }
            Event::StoreFailed { error, .. } => {
                seen.lock().unwrap().push(format!("failed to {}", error.action()))
            }
            _ => {}
        })
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Nothing is left of what was fetched.
#[track_caller]
fn assert_idle(stage: &Stage) {
    let fills = stage.handle.fills();
    assert_eq!((fills.fills, fills.detached, fills.in_flight, fills.held), (0, 0, 0, 0), "{fills:?}");
    assert_eq!(stage.origin.open(), 0, "calls of the origin");
}

#[tokio::test(start_paused = true)]
async fn a_store_has_each_piece_before_the_next_one_comes() {
    for length in [Some(300_000), None] {
        let store = Noting::of(elsewhere());
        let stage = Stage::with(over(store.clone()));
        let content = text(300_000);
        let client = stage.get("/");
        settle().await;
        let call = stage.origin.call(0);
        call.step(fresh(length));
        settle().await;
        // What may be small is put whole.
        let begins = length.map(|length| Saw::Begin(Some(length as u64)));
        assert_eq!(store.saw(), Vec::from_iter(begins));
        let mut body = client.body().await;
        let mut pieces = Vec::new();
        for part in content.as_bytes().chunks(100_000) {
            call.frame(std::str::from_utf8(part).unwrap());
            assert_eq!(body.next().await.map_or(0, |data| data.len()) + body.take(), 100_000);
            assert_eq!(stage.handle.statistics().entries, 0, "nobody sees half of it");
            pieces.push(store.saw().iter().filter(|saw| matches!(saw, Saw::Write(PIECE))).count());
        }
        // With its length, the last frame is sent when it turns out that nothing follows at once.
        assert_eq!(pieces, [1, 2, 1], "{length:?}");
        call.end();
        assert_eq!(body.next().await.as_deref(), Some("<end>"));
        assert_eq!(store.saw(), [Saw::Write(300_000 - 4 * PIECE), Saw::Commit(PutOutcome::Stored)]);
        stage.get("/").seen().await.told(HIT).has_body(&content);
        assert_eq!((stage.origin.calls(), stage.handle.fills().unstored), (1, 0));
        assert_idle(&stage);
    }
}

#[tokio::test(start_paused = true)]
async fn small_content_is_put_whole() {
    for (length, frames) in [(None, 3), (Some(3_000), 3), (None, 1)] {
        let store = Noting::of(elsewhere());
        let stage = Stage::with(over(store.clone()));
        let client = stage.get("/").reading();
        settle().await;
        stage.origin.call(0).step(fresh(length));
        for _ in 0..frames {
            settle().await;
            stage.origin.call(0).frame(text(3_000 / frames));
        }
        stage.origin.call(0).end();
        client.await.unwrap().told(STORED);
        assert_eq!(store.saw(), [Saw::Put(3_000)], "{length:?}, {frames} frames");
        assert_idle(&stage);
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_is_seen_when_it_is_committed_and_not_before() {
    for length in [Some(200_000), None] {
        let (gate, at_gate) = before(&[StoreCall::Commit]);
        let stage = Stage::with(over(faulty(elsewhere(), [at_gate])));
        let clients = stage.herd(3, &[]);
        settle().await;
        let content = text(200_000);
        stage.origin.call(0).step(fresh(length)).frame(&*content).end();
        for client in clients {
            client.seen().await.has_body(&content);
        }
        assert_eq!((gate.arrived(), stage.handle.statistics().entries), (1, 0), "{length:?}");
        // Until then the call can be joined, and answers as what is stored does.
        let collapsed = "larder; fwd=uri-miss; stored; collapsed; ttl=60";
        let seen = stage.get("/").seen().await.told(collapsed).has_body(&content);
        let tag = seen.field("etag").expect("a generated tag").to_owned();
        assert_eq!(stage.get_with("/", &[("if-none-match", &tag)]).seen().await.status, 304);
        let range = stage.get_with("/", &[("range", "bytes=0-9")]);
        settle().await;
        assert_eq!(stage.origin.calls(), 2, "what is not stored yet is not cut for others");
        range.leave();
        gate.open();
        settle().await;
        let seen = stage.get("/").seen().await.told(HIT).has_body(&content);
        assert_eq!(seen.field("etag"), Some(&*tag));
        settle().await;
        assert_idle(&stage);
    }
}

#[tokio::test(start_paused = true)]
async fn tags_and_trailers_are_those_of_any_store() {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("2"));
    for (has_trailers, frame) in [(false, 1_000), (true, 50_000), (false, 400_000)] {
        let mut seen = Vec::new();
        // The beginning of it is gone when it ends, is there, and is in the store as any other content.
        let builders =
            [over(elsewhere()).fill_limits(in_flight(MIB)), over(elsewhere()), over(MemoryStore::default())];
        for builder in builders {
            let stage = Stage::with(builder);
            let client = stage.get("/").reading();
            settle().await;
            let call = stage.origin.call(0);
            call.step(fresh(None));
            for part in text(400_000).as_bytes().chunks(frame) {
                call.frame(std::str::from_utf8(part).unwrap());
            }
            if has_trailers {
                call.step(Step::Trailers(trailers.clone()));
            }
            call.end();
            assert_eq!(client.await.unwrap().trailers.is_some(), has_trailers);
            let hit = stage.get("/").seen().await.told(HIT).has_body(&text(400_000));
            assert!(hit.field("etag").is_some());
            seen.push((hit.fields, hit.trailers));
        }
        assert_eq!(seen[0], seen[2], "{frame}");
        assert_eq!(seen[1], seen[2], "{frame}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_breaks_off_leaves_nothing_in_the_store() {
    for wrong in [Step::Fail, Step::Panic, Step::End] {
        for length in [Some(300_000), None] {
            if length.is_none() && matches!(wrong, Step::End) {
                continue; // that is its end
            }
            let store = Noting::of(elsewhere());
            let stage = Stage::with(over(store.clone()));
            let clients = stage.herd(2, &[]);
            settle().await;
            stage.origin.call(0).step(fresh(length)).frame(text(200_000)).step(wrong.clone());
            for client in clients {
                assert!(client.seen().await.broken, "{wrong:?}");
            }
            let saw = store.saw();
            assert!(matches!(
                saw[..],
                [Saw::Begin(_), Saw::Write(_), Saw::Write(_), Saw::Write(_), Saw::Drop]
            ));
            assert_eq!((stage.handle.statistics().entries, stage.handle.fills().unstored), (0, 1));
            assert_idle(&stage);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_everybody_has_left_the_store_gets_the_rest_within_the_bound_of_such_calls() {
    for may_go_on in [true, false] {
        let store = Noting::of(elsewhere());
        let limits = in_flight(MIB).detached(u64::from(may_go_on));
        let stage = Stage::with(over(store.clone()).fill_limits(limits));
        let client = stage.get("/");
        settle().await;
        let (call, content) = (stage.origin.call(0), text(2 * MIB));
        call.step(fresh(None)).frame(&content[..MIB]);
        drop(client.body().await);
        settle().await;
        call.frame(&content[MIB..]).end();
        settle().await;
        let expected = if may_go_on { Saw::Commit(PutOutcome::Stored) } else { Saw::Drop };
        assert_eq!(store.saw().last(), Some(&expected));
        assert_eq!(stage.handle.statistics().entries, u64::from(may_go_on));
        if may_go_on {
            stage.get("/").seen().await.told(HIT).has_body(&content);
        }
        assert_idle(&stage);
    }
}

#[tokio::test(start_paused = true)]
async fn a_purge_reaches_what_the_store_is_taking() {
    for (is_soft, kept) in [(false, 64 * MIB), (true, 64 * MIB), (false, MIB), (true, MIB)] {
        let store = Noting::of(elsewhere());
        let stage = Stage::with(over(store.clone()).fill_limits(in_flight(kept)));
        let client = stage.get("/").reading();
        settle().await;
        let content = text(400_000);
        let call = stage.origin.call(0);
        call.step(fresh(Some(400_000))).frame(&content[..300_000]);
        settle().await;
        assert!(store.saw().contains(&Saw::Write(PIECE)));
        let handle = &stage.handle;
        if is_soft { handle.soft_purge(&here()).await } else { handle.purge(&here()).await }.unwrap();
        call.frame(&content[300_000..]).end();
        client.await.unwrap().has_body(&content);
        settle().await;
        if !is_soft {
            assert_eq!(store.saw().last(), Some(&Saw::Commit(PutOutcome::Superseded)));
            assert_eq!((handle.statistics().entries, handle.fills().unstored), (0, 1));
        }
        // Nobody gets it who asks from now on.
        let next = stage.get("/");
        settle().await;
        assert_eq!(stage.origin.calls(), 2, "soft: {is_soft}");
        stage.origin.call(1).step(fresh(Some(3))).frame("new").end();
        next.seen().await.has_body("new");
        assert_idle(&stage);
    }
}

/// A store that fails in some of its calls.
fn failing(fails: fn(StoreCall, u64) -> bool) -> ChaosStore<Noting<Elsewhere>> {
    flaky(Noting::of(elsewhere()), fails)
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_costs_its_clients_nothing_and_reports_it() {
    for (fails, action) in [
        ((|op, _| op == StoreCall::Begin) as fn(StoreCall, u64) -> bool, "failed to begin to write"),
        (|op, number| op == StoreCall::Write && number == 0, "failed to write content"),
        (|op, number| op == StoreCall::Write && number == 20, "failed to write content"),
        (|op, _| op == StoreCall::Commit, "failed to commit"),
    ] {
        let watched = Watched::default();
        // Of more content than is kept.
        let stage = Stage::with(watched.by(over(failing(fails)).fill_limits(in_flight(MIB))));
        let clients: Vec<_> = stage.herd(2, &[]).into_iter().map(|client| client.reading()).collect();
        settle().await;
        let content = text(2 * MIB);
        stage.origin.call(0).step(fresh(Some(2 * MIB)));
        for part in content.as_bytes().chunks(100_000) {
            settle().await;
            stage.origin.call(0).frame(std::str::from_utf8(part).unwrap());
        }
        stage.origin.call(0).end();
        for client in clients {
            let seen = client.await.unwrap();
            assert!(!seen.broken);
            seen.has_body(&content);
        }
        settle().await;
        assert_eq!(watched.seen(), [action]);
        assert_eq!((stage.handle.statistics().entries, stage.handle.fills().unstored), (0, 1));
        assert_idle(&stage);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_still_in_memory_is_put_where_the_store_has_failed_to_take_it() {
    type Fails = fn(StoreCall, u64) -> bool;
    for (fails, action) in [
        ((|op, _| op == StoreCall::Begin) as Fails, "failed to begin to write"),
        (|op, number| op == StoreCall::Write && number == 1, "failed to write content"),
    ] {
        let watched = Watched::default();
        let stage = Stage::with(watched.by(over(failing(fails))));
        let content = text(200_000);
        let client = stage.get("/").reading();
        settle().await;
        let call = stage.origin.call(0);
        call.step(fresh(Some(200_000))).frame(&content[..150_000]);
        settle().await;
        call.frame(&content[150_000..]).end();
        client.await.unwrap().told(STORED).has_body(&content);
        settle().await;
        assert_eq!(watched.seen(), [action, "Stored 200000"]);
        stage.get("/").seen().await.told(HIT).has_body(&content);
        assert_idle(&stage);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_at_once_is_heard_before_anything_is_answered() {
    let missed = "larder; fwd=uri-miss; detail=";
    for (refusal, status, saw) in [
        (Refusal::Begin(PutOutcome::TooLarge), &*format!("{missed}\"too-large\""), None),
        (Refusal::Begin(PutOutcome::Superseded), &*format!("{missed}\"store\""), None),
        (Refusal::Pieces, STORED, Some(Saw::Put(200_000))),
    ] {
        let (store, watched) = (Noting::of(elsewhere()).refusing(refusal), Watched::default());
        let stage = Stage::with(watched.by(over(store.clone())));
        let seen = stage.fill("/", &[fresh(Some(200_000)), Step::frame(text(200_000)), Step::End]).await;
        seen.told(status).has_body(&text(200_000));
        let begun = Saw::Begin(Some(200_000));
        assert_eq!(store.saw(), Vec::from_iter([begun].into_iter().chain(saw)));
        assert_eq!(stage.handle.fills().unstored, 0, "{refusal:?}");
        let outcome = match refusal {
            Refusal::Begin(outcome) => outcome,
            _ => PutOutcome::Stored,
        };
        assert_eq!(watched.seen(), [format!("{outcome:?} 200000")]);
        assert_idle(&stage);
    }
}

#[tokio::test(start_paused = true)]
async fn content_that_turns_out_too_large_for_the_store_is_passed_on() {
    for kept in [MIB, 64 * MIB] {
        let (refusal, watched) = (Refusal::Write(150_000, PutOutcome::TooLarge), Watched::default());
        let store = Noting::of(elsewhere()).refusing(refusal);
        let stage = Stage::with(watched.by(over(store.clone()).fill_limits(in_flight(kept))));
        let client = stage.get("/").reading();
        settle().await;
        let call = stage.origin.call(0);
        call.step(fresh(None));
        for part in text(500_000).as_bytes().chunks(100_000) {
            call.frame(std::str::from_utf8(part).unwrap());
            settle().await;
        }
        // Nobody waits for it any more.
        let other = stage.get("/");
        settle().await;
        assert_eq!(stage.origin.calls(), 2);
        other.leave();
        call.end();
        client.await.unwrap().has_body(&text(500_000));
        let saw = store.saw();
        assert_eq!(saw[saw.len() - 2..], [Saw::Write(PIECE), Saw::Drop]);
        assert_eq!(watched.seen(), ["TooLarge 196608"]);
        assert_eq!(stage.handle.fills().unstored, 1);
        settle().await;
        assert_idle(&stage);
    }
}

/// A client reads what comes in frames of 64 KiB; how long that took in all.
async fn read_through(stage: &Stage, content: &str) -> Duration {
    let begun = tokio::time::Instant::now();
    let client = stage.get("/");
    settle().await;
    let call = stage.origin.call(0);
    call.step(fresh(Some(content.len())));
    for part in content.as_bytes().chunks(PIECE) {
        call.frame(std::str::from_utf8(part).unwrap());
    }
    call.end();
    client.seen().await.told(STORED).has_body(content);
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_client_does_not_wait_for_a_slow_store_while_there_is_room() {
    // As much is kept as there is content.
    for op in [StoreCall::Begin, StoreCall::Write, StoreCall::Commit] {
        let (gate, at_gate) = before(match op {
            StoreCall::Begin => &[StoreCall::Begin],
            StoreCall::Write => &[StoreCall::Write],
            _ => &[StoreCall::Commit],
        });
        let stage = Stage::with(over(faulty(elsewhere(), [at_gate])).fill_limits(in_flight(32 * MIB)));
        let content = text(4 * MIB);
        let took = read_through(&stage, &content).await;
        assert!(took < Duration::from_millis(10), "{op:?}: {took:?}");
        assert_eq!((gate.arrived(), stage.handle.statistics().entries), (1, 0));
        assert!(stage.handle.fills().in_flight >= 4 * MIB as u64, "it is not stored yet");
        gate.open();
        settle().await;
        assert_eq!(stage.handle.fills().unstored, 0, "{op:?}");
        stage.get("/").seen().await.told(HIT).has_body(&content);
        assert_idle(&stage);
    }
}

#[tokio::test(start_paused = true)]
async fn beyond_that_a_client_waits_for_a_store_that_takes_content_and_a_second_for_one_that_does_not() {
    for takes in [true, false] {
        let ((gate, at_gate), watched) = (before(&[StoreCall::Write]), Watched::default());
        let builder = over(faulty(elsewhere(), [at_gate])).fill_limits(in_flight(8 * MIB));
        let stage = Stage::with(watched.by(builder));
        let content = text(6 * MIB);
        // 16 pieces in 100 ms.
        let pace = takes.then(|| {
            let gate = gate.clone();
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    gate.pass(16);
                }
            })
        });
        let took = read_through(&stage, &content).await;
        let expected = if takes { 400..700 } else { 1_000..1_100 };
        assert!(expected.contains(&took.as_millis()), "takes: {takes}, {took:?}");
        let fills = stage.handle.fills();
        assert!(fills.in_flight <= MIB as u64 + 2 * PIECE as u64, "{fills:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        if takes {
            assert_eq!(watched.seen(), [format!("Stored {}", 6 * MIB)]);
            stage.get("/").seen().await.told(HIT).has_body(&content);
        } else {
            assert_eq!(watched.seen(), ["failed to take content"]);
            assert_eq!(stage.handle.fills().unstored, 1);
        }
        assert_idle(&stage);
        pace.into_iter().for_each(|pace| pace.abort());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_given_up_by_its_guard() {
    for op in [StoreCall::Begin, StoreCall::Write, StoreCall::Commit] {
        let watched = Watched::default();
        let hangs: &[StoreCall] = match op {
            StoreCall::Begin => &[StoreCall::Begin, StoreCall::Put],
            StoreCall::Write => &[StoreCall::Write, StoreCall::Put],
            _ => &[StoreCall::Commit, StoreCall::Put],
        };
        let stage = Stage::with(watched.by(over(hanging(elsewhere(), hangs))));
        let took = read_through(&stage, &text(MIB)).await;
        assert!(took < Duration::from_millis(10), "{op:?}: {took:?}");
        tokio::time::sleep(Duration::from_secs(10)).await;
        let failed = match op {
            StoreCall::Begin => &["failed to begin to put", "failed to put"][..],
            StoreCall::Write => &["failed to write content", "failed to put"],
            _ => &["failed to commit content"],
        };
        assert_eq!(watched.seen(), failed);
        assert_eq!(stage.handle.fills().unstored, 1);
        assert_idle(&stage);
    }
}

#[tokio::test(start_paused = true)]
async fn content_larger_than_what_may_be_in_flight_is_stored() {
    for length in [Some(8 * MIB), None] {
        let store = Noting::of(elsewhere());
        let stage = Stage::with(over(store.clone()).fill_limits(in_flight(MIB)));
        let clients = stage.herd(3, &[]);
        settle().await;
        let call = stage.origin.call(0);
        call.step(fresh(length));
        let mut bodies = Vec::new();
        for client in clients {
            bodies.push((client.body().await, 0));
        }
        let content = text(8 * MIB);
        for part in content.as_bytes().chunks(50_000) {
            call.frame(std::str::from_utf8(part).unwrap());
            settle().await;
            for (body, read) in &mut bodies {
                *read += body.take();
            }
            let fills = stage.handle.fills();
            assert!(fills.in_flight <= 3 * PIECE as u64 && fills.held <= 3 * PIECE as u64, "{fills:?}");
        }
        call.end();
        settle().await;
        for (mut body, read) in bodies {
            assert_eq!(read + body.take(), 8 * MIB);
            assert_eq!(body.next().await.as_deref(), Some("<end>"));
        }
        assert_eq!(store.saw().last(), Some(&Saw::Commit(PutOutcome::Stored)));
        let hit = stage.get("/").seen().await.told(HIT);
        assert!(hit.body == content && hit.field("etag").is_some());
        assert_eq!(
            stage.get_with("/", &[("range", "bytes=7000000-7000099")]).seen().await.body,
            content[7_000_000..7_000_100]
        );
        assert_eq!(stage.origin.calls(), 1);
        assert_idle(&stage);
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_the_beginning_is_there_shares_it_and_who_comes_later_makes_another_call() {
    let store = Noting::of(elsewhere());
    let stage = Stage::with(over(store.clone()).fill_limits(in_flight(8 * MIB)));
    let content = text(3 * MIB);
    let tag = ("etag", "\"1\"");
    let first = stage.get("/").reading();
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH, tag]).frame(&content[..MIB / 2]);
    settle().await;
    let second = stage.get("/").reading();
    settle().await;
    call.frame(&content[MIB / 2..2 * MIB]);
    settle().await;
    assert_eq!(stage.origin.calls(), 1);
    // What needs nothing of the content is answered by the head.
    let head = stage.send(Method::HEAD, "/", &[]).seen().await;
    assert_eq!((head.status.as_u16(), head.field("etag")), (200, Some("\"1\"")));
    assert_eq!(stage.get_with("/", &[("if-none-match", "\"1\"")]).seen().await.status, 304);
    assert_eq!(stage.origin.calls(), 1);
    // All that come now make one call together.
    let late: Vec<_> = (0..3).map(|_| stage.get("/").reading()).collect();
    settle().await;
    assert_eq!(stage.origin.calls(), 2);
    stage.origin.call(1).head(&[FRESH, tag]).frame(&content[..MIB / 2]);
    call.frame(&content[2 * MIB..]).end();
    for client in [first, second] {
        client.await.unwrap().has_body(&content);
    }
    // The first is stored, and answers whoever comes, though the other one still goes on.
    stage.get("/").seen().await.told(HIT).has_body(&content);
    stage.origin.call(1).frame(&content[MIB / 2..]).end();
    for client in late {
        client.await.unwrap().has_body(&content);
    }
    settle().await;
    let saw = store.saw();
    let commits = saw.iter().filter(|saw| matches!(saw, Saw::Commit(PutOutcome::Stored)));
    assert_eq!((commits.count(), stage.origin.calls(), stage.handle.fills().unstored), (2, 2, 0));
    assert_idle(&stage);
}

#[tokio::test(start_paused = true)]
async fn who_comes_when_all_has_come_waits_for_the_store_to_have_it() {
    let (gate, at_gate) = before(&[StoreCall::Commit]);
    let stage = Stage::with(over(faulty(elsewhere(), [at_gate])).fill_limits(in_flight(MIB)));
    let content = text(2 * MIB);
    stage.fill("/", &[fresh(None), Step::frame(&*content), Step::End]).await.has_body(&content);
    let clients = stage.herd(3, &[]);
    settle().await;
    assert!(clients.iter().all(|client| client.is_waiting()) && gate.arrived() == 1);
    gate.open();
    for client in clients {
        client.seen().await.told(HIT).has_body(&content);
    }
    assert_eq!(stage.origin.calls(), 1);
    assert_idle(&stage);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stands_is_cut_off_and_the_store_gets_the_rest() {
    let store = Noting::of(elsewhere());
    let stage = Stage::with(over(store.clone()).fill_limits(in_flight(MIB)));
    let client = stage.get("/");
    settle().await;
    let (call, content) = (stage.origin.call(0), text(4 * MIB));
    call.step(fresh(None));
    for part in content.as_bytes().chunks(PIECE) {
        call.frame(std::str::from_utf8(part).unwrap());
    }
    call.end();
    let mut body = client.body().await;
    settle().await;
    // The origin waits for it.
    assert!((128 * KIB..MIB).contains(&call.taken()), "{}", call.taken());
    let fills = stage.handle.fills();
    assert!(fills.in_flight <= PIECE as u64 && fills.held <= 512 * KIB as u64, "{fills:?}");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(body.take() > 0);
    settle().await;
    assert_eq!(stage.handle.statistics().entries, 0);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(stage.handle.fills().detached_readers, 1);
    assert_eq!(store.saw().last(), Some(&Saw::Commit(PutOutcome::Stored)));
    assert_eq!(body.next().await.as_deref(), Some("<error>"));
    stage.get("/").seen().await.told(HIT).has_body(&content);
    assert_idle(&stage);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_reader_pauses_is_not_given_up_for_another_one() {
    let store = Noting::of(elsewhere());
    let stage = Stage::with(over(store.clone()).fill_limits(in_flight(MIB)));
    let (content, first) = (text(2 * MIB), stage.get("/"));
    settle().await;
    let call = stage.origin.call(0);
    call.step(fresh(None));
    for part in content.as_bytes().chunks(PIECE) {
        call.frame(std::str::from_utf8(part).unwrap());
    }
    call.end();
    let mut first = first.body().await;
    first.take();
    // Nothing comes in meanwhile, as those see who need no more than its head.
    for _ in 0..2 {
        assert_eq!(stage.send(Method::HEAD, "/", &[]).seen().await.status, 200);
        stage.later(10);
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let another = stage.get("/");
    settle().await;
    assert_eq!(stage.origin.calls(), 2);
    another.leave();
    stage.origin.call(1).step(Step::Refuse);
    settle().await;
    for _ in 0..20 {
        first.take();
        settle().await;
    }
    assert_eq!(store.saw().last(), Some(&Saw::Commit(PutOutcome::Stored)));
    assert!(stage.get("/").seen().await.is_hit());
    drop(first);
    assert_idle(&stage);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_slow_costs_no_other_one_and_no_store_more_than_a_moment() {
    let stage = Stage::with(over(elsewhere()).fill_limits(in_flight(MIB)));
    let clients = stage.herd(2, &[]);
    settle().await;
    let (call, content) = (stage.origin.call(0), text(8 * MIB));
    call.step(fresh(None));
    for part in content.as_bytes().chunks(PIECE) {
        call.frame(std::str::from_utf8(part).unwrap());
    }
    call.end();
    let mut clients = clients.into_iter();
    let mut slow = clients.next().unwrap().body().await;
    let begun = tokio::time::Instant::now();
    clients.next().unwrap().seen().await.has_body(&content);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    settle().await;
    assert_eq!(slow.next().await.as_deref(), Some("<error>"));
    stage.get("/").seen().await.told(HIT).has_body(&content);
    assert_idle(&stage);
}

#[tokio::test(start_paused = true)]
async fn a_head_has_the_content_stored_in_the_background() {
    let store = Noting::of(elsewhere());
    let stage = Stage::with(over(store.clone()).fill_limits(in_flight(MIB)));
    let content = text(2 * MIB);
    stage.origin.script(&[fresh(Some(2 * MIB)), Step::frame(&*content), Step::End]);
    let head = stage.send(Method::HEAD, "/", &[]).seen().await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    settle().await;
    assert_eq!(store.saw().last(), Some(&Saw::Commit(PutOutcome::Stored)));
    stage.get("/").seen().await.told(HIT).has_body(&content);
    assert_eq!(stage.origin.calls(), 1);
    assert_idle(&stage);
}

/// A part of a representation of 8 MiB.
fn part(content: &str, first: usize, last: usize) -> [Step; 3] {
    let range = format!("bytes {first}-{last}/{}", content.len());
    let length = (last + 1 - first).to_string();
    let fields = [FRESH, ("etag", "\"1\""), ("content-range", &*range), ("content-length", &*length)];
    [Step::head(206, &fields), Step::frame(&content[first..=last]), Step::End]
}

async fn get_range(stage: &Stage, range: &str) -> crate::support::Seen {
    stage.get_with("/", &[("range", range)]).seen().await
}

#[tokio::test(start_paused = true)]
async fn small_parts_are_joined_and_large_ones_are_stored_as_they_come() {
    let store = Noting::of(elsewhere());
    let builder = over(store.clone()).fill_limits(in_flight(8 * MIB)).policy(StandardPolicy::rfc9111());
    let stage = Stage::with(builder);
    let content = text(8 * MIB);
    for (first, last) in [(0, 199_999), (200_000, 399_999)] {
        stage.origin.script(&part(&content, first, last));
        get_range(&stage, &format!("bytes={first}-{last}")).await.has_body(&content[first..=last]);
        settle().await;
    }
    assert_eq!(store.saw(), [Saw::Put(200_000), Saw::Put(400_000)]);
    get_range(&stage, "bytes=150000-250000").await.told(HIT).has_body(&content[150_000..=250_000]);
    // More than is taken into memory: it takes the place of what it can't be joined with.
    stage.origin.script(&part(&content, MIB, 4 * MIB - 1));
    get_range(&stage, "bytes=1048576-4194303").await.has_body(&content[MIB..4 * MIB]);
    settle().await;
    let saw = store.saw();
    assert_eq!(saw[0], Saw::Begin(Some(3 * MIB as u64)));
    assert_eq!(saw.last(), Some(&Saw::Commit(PutOutcome::Stored)));
    get_range(&stage, "bytes=2000000-2000099").await.told(HIT).has_body(&content[2_000_000..2_000_100]);
    // What has less to give does not take its place.
    stage.origin.script(&part(&content, 0, 199_999));
    get_range(&stage, "bytes=0-199999").await.has_body(&content[..200_000]);
    settle().await;
    get_range(&stage, "bytes=2000000-2000099").await.told(HIT);
    // Too large to be completed in memory, it is fetched anew, by one call for all.
    stage.origin.script(&[]);
    let calls = stage.origin.calls();
    let clients = stage.herd(3, &[]);
    settle().await;
    assert_eq!(stage.origin.calls(), calls + 1);
    assert_eq!(stage.origin.call(calls).field("range"), None);
    stage.origin.call(calls).step(Step::Refuse);
    clients.into_iter().for_each(Client::leave);
    settle().await;
    // All of it makes it a whole.
    stage.origin.script(&part(&content, 0, 8 * MIB - 1));
    get_range(&stage, "bytes=0-").await.has_body(&content);
    settle().await;
    let seen = stage.get("/").seen().await.told(HIT);
    assert_eq!((seen.status.as_u16(), seen.body == content), (200, true));
    assert_idle(&stage);
}

#[tokio::test(start_paused = true)]
async fn the_result_of_a_call_that_a_reload_has_overtaken_is_dropped() {
    let store = Noting::of(elsewhere());
    let stage = Stage::with(over(store.clone()).policy(StandardPolicy::rfc9111()));
    let old = stage.get("/").reading();
    settle().await;
    let call = stage.origin.call(0);
    call.step(fresh(Some(300_000))).frame(text(200_000));
    settle().await;
    let reload = stage.get_with("/", &[("cache-control", "no-cache")]).reading();
    settle().await;
    stage.origin.call(1).step(fresh(Some(200_000))).frame(text(200_000)).end();
    reload.await.unwrap().has_body(&text(200_000));
    store.saw();
    call.frame(&text(300_000)[200_000..]).end();
    old.await.unwrap().has_body(&text(300_000));
    settle().await;
    assert_eq!(store.saw().last(), Some(&Saw::Drop));
    stage.get("/").seen().await.told(HIT).has_body(&text(200_000));
    assert_idle(&stage);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_comes_piece_by_piece_does_not_replace_what_is_good() {
    let store = Noting::of(elsewhere());
    let (stage, another) = (Stage::with(over(store.clone())), Stage::with(over(store.clone())));
    let client = stage.get("/").reading();
    settle().await;
    let call = stage.origin.call(0);
    call.step(Step::head(404, &[FRESH])).frame(text(100_000));
    settle().await;
    // Another cache over the same store has got something good meanwhile.
    another.fill("/", &[fresh(None), Step::frame("good"), Step::End]).await.told(STORED);
    call.frame(text(100_000)).end();
    assert_eq!(client.await.unwrap().status, 404);
    settle().await;
    assert_eq!(store.saw().last(), Some(&Saw::Drop));
    stage.get("/").seen().await.told(HIT).has_body("good");
    assert_eq!(stage.handle.fills().unstored, 1);
    assert_idle(&stage);
}

#[tokio::test(start_paused = true)]
async fn where_the_origin_refuses_nothing_is_begun() {
    let store = Noting::of(elsewhere());
    let stage = Stage::with(over(store.clone()));
    let client = stage.get("/");
    settle().await;
    stage.origin.call(0).step(Step::Refuse);
    assert!(matches!(client.answer().await, Answer::Refused));
    stage.origin.script(&[
        Step::head(200, &[("cache-control", "no-store")]),
        Step::frame(text(MIB)),
        Step::End,
    ]);
    stage.get("/").seen().await;
    assert_eq!(store.saw(), []);
    assert_idle(&stage);
}
