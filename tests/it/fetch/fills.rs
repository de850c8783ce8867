//! Responses while they are received to be stored: when content is read from the origin, what breaks them, what is counted and
//! bounded, and what is left if the runtime ends.

use larder::store::PurgeTarget;
use larder::{FillStatistics, MemoryStore};

use crate::support::stores::{at_rest, is_slow};
use crate::support::{Answer, Reading, Stage, Step, cache_builder, cache_builder_over, settle};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

fn large(length: usize) -> String {
    "x".repeat(length)
}

#[track_caller]
fn assert_idle(stage: &Stage, case: &str) {
    let FillStatistics { detached, fills, held, in_flight, waiting, .. } = stage.handle.fills();
    assert_eq!((detached, fills, held, in_flight, waiting), (0, 0, 0, 0, 0), "{case}");
    assert_eq!(stage.origin.open(), 0, "{case}");
}

#[tokio::test(start_paused = true)]
async fn each_frame_is_received_before_the_next_is_released() {
    for fields in [
        &[FRESH][..],
        &[FRESH, ("content-length", "90000")],
        &[("cache-control", "no-store"), ("content-length", "90000")],
        &[("cache-control", "private")],
        &[FRESH, ("content-length", "90000000")],
        // Small content is taken in first, where it is there.
        &[FRESH, ("content-length", "90")],
        &[FRESH, ("content-length", "90"), ("etag", "\"1\"")],
        &[("cache-control", "private"), ("content-length", "90")],
    ] {
        let length = if fields.contains(&("content-length", "90")) { 30 } else { 30_000 };
        let stage = Stage::new();
        let client = stage.get("/");
        settle().await;
        let call = stage.origin.call(0);
        call.head(fields);
        let mut body = client.body().await;
        for _ in 0..2 {
            assert_eq!(body.next().await, None, "{fields:?}");
            call.frame(large(length));
            assert_eq!(received(&mut body).await, length, "{fields:?}");
        }
        // The last one, too: with it the client has everything.
        call.frame(large(length));
        assert_eq!(received(&mut body).await, length, "{fields:?}");
        call.end();
        let is_short = fields.contains(&("content-length", "90000000"));
        let end = body.next().await;
        assert_eq!(end.as_deref(), Some(if is_short { "<error>" } else { "<end>" }), "{fields:?}");
        let stored = usize::from(fields[0] == FRESH && !is_short);
        assert_eq!(stage.handle.statistics().entries, stored as u64, "{fields:?}");
    }
}

/// The length of what is there now.
async fn received(body: &mut Reading) -> usize {
    settle().await;
    body.take()
}

/// Whether so many bytes of memory are taken by content of that length: its last block may have room for more.
fn is_about(taken: u64, content: u64) -> bool {
    (content..content + 64 * 1024).contains(&taken)
}

#[tokio::test(start_paused = true)]
async fn content_that_is_not_stored_is_read_only_when_the_client_asks_for_it() {
    let frame = bytes::Bytes::from(large(16 * 1024));
    let endless = Step::Endless(frame.clone());
    for head in [
        &[("cache-control", "no-store")][..],
        &[("cache-control", "private")],
        // Known to be too large.
        &[FRESH, ("content-length", "10000000000")],
    ] {
        let stage = Stage::new();
        let client = stage.get("/");
        settle().await;
        let call = stage.origin.call(0);
        call.head(head).step(endless.clone());
        let mut body = client.body().await;
        settle().await;
        assert_eq!(call.taken(), 0, "{head:?}");
        for read in 1..=100 {
            assert!(body.next_now().is_some());
            assert_eq!(call.taken(), read * frame.len(), "{head:?}");
        }
        drop(body);
        settle().await;
        assert_idle(&stage, &format!("{head:?}"));
    }
    // Not known before it is. What was taken in till then, and a bounded number of bytes on top.
    let most = 1024 * 1024;
    let stage = Stage::with(cache_builder_over(MemoryStore::builder().max_object(most as u64).build()));
    let client = stage.get("/");
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH]).step(endless);
    let mut body = client.body().await;
    let mut read = 0;
    for _ in 0..1_000 {
        settle().await;
        let ahead = call.taken() - read;
        assert!(ahead <= most + 2 * frame.len(), "{ahead} bytes ahead after {read}");
        if read > 2 * most {
            assert!(ahead <= 256 * 1024 + 2 * frame.len(), "{ahead} bytes ahead after {read}");
        }
        read += body.next_now().map_or(0, |frame| frame.len());
    }
    assert!(read >= 1_000 * frame.len());
    assert!(stage.handle.fills().in_flight <= 512 * 1024);
    drop(body);
    settle().await;
    assert_idle(&stage, "passed on");
}

#[tokio::test(start_paused = true)]
async fn trailers_reach_all_clients_and_are_stored() {
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", http::HeaderValue::from_static("2"));
    for (cache_control, frame) in
        [("max-age=60", 1), ("max-age=60", 2_000_000), ("no-store", 1), ("private", 2_000_000)]
    {
        let stage = Stage::with(cache_builder_over(MemoryStore::builder().max_object(3_000_000).build()));
        let clients = stage.herd(if cache_control == "max-age=60" { 5 } else { 1 }, &[]);
        settle().await;
        let call = stage.origin.call(0);
        call.head(&[("cache-control", cache_control)]);
        let reading: Vec<_> = clients.into_iter().map(|client| client.reading()).collect();
        settle().await;
        for _ in 0..2 {
            call.frame(large(frame));
            settle().await;
        }
        call.step(Step::Trailers(trailers.clone())).end();
        for read in reading {
            let seen = read.await.unwrap();
            assert_eq!((seen.body.len(), seen.broken), (2 * frame, false), "{cache_control} {frame}");
            assert_eq!(seen.trailers.as_ref().unwrap()["x-sum"], "2", "{cache_control} {frame}");
        }
        if cache_control == "max-age=60" && frame == 1 {
            let hit = stage.get("/").seen().await;
            assert!(hit.is_hit() && hit.trailers.unwrap()["x-sum"] == "2");
        }
        assert_idle(&stage, cache_control);
    }
}

/// An answer of three frames that goes wrong after so many of them, with a `Content-Length` or none. Readers are there
/// from the beginning, or join at each moment.
async fn goes_wrong(offset: usize, wrong: &[Step], declared: Option<usize>, length: usize) {
    let case = format!("{wrong:?} after {offset} frames of {length}, of {declared:?}");
    let stage = Stage::new();
    let leader = stage.get("/");
    settle().await;
    let mut clients = stage.herd(3, &[]);
    settle().await;
    let declared = declared.map(|declared| declared.to_string());
    let fields: Vec<_> =
        [FRESH].into_iter().chain(declared.as_deref().map(|declared| ("content-length", declared))).collect();
    let mut steps = vec![Step::head(200, &fields)];
    steps.extend((0..offset).map(|_| Step::frame(large(length))));
    steps.extend_from_slice(wrong);
    // Whoever asks again gets the same.
    stage.origin.script(&steps);
    let call = stage.origin.call(0);
    for step in steps {
        call.step(step);
        clients.push(stage.get("/"));
        settle().await;
    }
    clients.push(leader);
    for client in clients {
        match client.answer().await {
            Answer::Panicked => assert!(wrong.iter().any(|step| matches!(step, Step::Panic)), "{case}"),
            Answer::Refused => panic!("{case}: the call was answered"),
            Answer::Response(response) => {
                let seen = crate::support::bench::read(response).await;
                assert!(seen.broken && !seen.is_hit(), "{case}: {} bytes, and a clean end", seen.body.len());
            }
        }
    }
    assert_eq!(stage.handle.statistics().entries, 0, "{case}");
    settle().await;
    assert_idle(&stage, &case);
    // The key is free.
    stage.origin.script(&[]);
    let next = stage.get("/");
    settle().await;
    stage.origin.calls_from(0).last().unwrap().head(&[FRESH]).frame("good").end();
    next.seen().await.has_body("good");
}

#[tokio::test(start_paused = true)]
async fn f01_a_body_that_breaks_anywhere_breaks_for_all_readers_and_is_not_stored() {
    // Taken in at once where the length is known; streamed.
    for length in [2, 30_000] {
        for wrong in [Step::Fail, Step::Panic] {
            for offset in 0..=3 {
                goes_wrong(offset, std::slice::from_ref(&wrong), None, length).await;
                goes_wrong(offset, std::slice::from_ref(&wrong), Some(3 * length), length).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f01_a_body_shorter_or_longer_than_declared_breaks_and_is_not_stored() {
    for length in [2, 30_000] {
        for offset in 0..=3 {
            goes_wrong(offset, &[Step::End], Some(3 * length + 1), length).await;
            if offset > 0 {
                goes_wrong(offset, &[Step::End], Some(offset * length - 1), length).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f06_ten_thousand_requests_for_a_cold_key_make_one_call() {
    let stage = Stage::new();
    let herd = stage.herd(10_000, &[]);
    settle().await;
    assert_eq!((stage.origin.calls(), stage.handle.fills().waiting), (1, 9_999));
    stage.origin.call(0).head(&[FRESH]).frame("one").frame("two").end();
    for client in herd {
        client.seen().await.has_body("onetwo");
    }
    assert_eq!((stage.origin.calls(), stage.handle.fills().collapsed), (1, 9_999));
    assert_idle(&stage, "a herd");
}

#[tokio::test(start_paused = true)]
async fn f07_a_herd_on_an_unstorable_response_does_not_call_one_by_one() {
    let stage = Stage::new();
    let herd = stage.herd(1_000, &[]);
    settle().await;
    let started = tokio::time::Instant::now();
    let head = Step::head(200, &[("cache-control", "no-store")]);
    let mut answered = 0;
    // Each round is one latency of the origin.
    let mut rounds = 0;
    while answered < stage.origin.calls() {
        rounds += 1;
        let calls = stage.origin.calls_from(answered);
        answered += calls.len();
        for call in calls {
            call.step(head.clone()).frame("x").end();
        }
        settle().await;
    }
    assert_eq!((rounds, stage.origin.calls()), (2, 1_000));
    assert!(started.elapsed() < std::time::Duration::from_secs(1), "nobody has waited for a limit");
    for client in herd {
        client.seen().await.has_body("x");
    }
    assert_idle(&stage, "a herd");
}

#[tokio::test(start_paused = true)]
async fn f13_bytes_in_flight_are_counted_and_released() {
    let stage = Stage::new();
    let leader = stage.get("/");
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH]);
    let mut reader = leader.body().await;
    for frames in 1..=10 {
        call.frame(large(100_000));
        settle().await;
        assert!(
            is_about(stage.handle.fills().in_flight, frames * 100_000),
            "read or not, it is to be stored"
        );
        assert!(reader.next_now().is_some());
    }
    let follower = stage.get("/");
    settle().await;
    assert!(is_about(stage.handle.fills().in_flight, 1_000_000), "held once, however many read");
    call.end();
    settle().await;
    at_rest().await;
    let fills = stage.handle.fills();
    // A store that writes it down has a copy of its own; what the readers have is then nobody else's.
    let held = if is_slow() { 1_000_000 } else { 0 };
    assert_eq!((fills.in_flight, fills.held), (0, held), "complete and stored, and not yet read by all");
    assert_eq!(follower.seen().await.body.len(), 1_000_000);
    reader.take();
    assert_idle(&stage, "read by all");
    // Every other way out.
    for way in [Step::Fail, Step::Panic, Step::End] {
        let stage = Stage::new();
        let client = stage.get("/");
        settle().await;
        let call = stage.origin.call(0);
        call.head(&[FRESH]).frame(large(100_000));
        settle().await;
        assert!(is_about(stage.handle.fills().in_flight, 100_000));
        assert_eq!(stage.handle.fills().fills, 1);
        client.leave();
        call.step(way.clone());
        settle().await;
        assert_idle(&stage, &format!("{way:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn f13_beyond_the_bound_of_bytes_in_flight_content_is_not_stored() {
    let limits = larder::FillLimits::new().in_flight(250_000);
    let stage = Stage::with(cache_builder().fill_limits(limits));
    let clients: Vec<_> = ["/a", "/b"].map(|path| stage.get(path).reading()).into();
    settle().await;
    for _ in 0..5 {
        for call in stage.origin.calls_from(0) {
            if call.taken() == 0 {
                call.head(&[FRESH]);
            }
            call.frame(large(50_000));
            settle().await;
            assert!(stage.handle.fills().in_flight <= 300_000);
        }
    }
    for call in stage.origin.calls_from(0) {
        call.end();
    }
    for client in clients {
        let seen = client.await.unwrap();
        assert_eq!((seen.body.len(), seen.broken), (250_000, false), "it fails for nobody");
    }
    assert!(stage.handle.statistics().entries < 2);
    assert_idle(&stage, "bounded");
    // It was the moment, not the keys: their next requests wait for one another again.
    stage.handle.purge_target(&PurgeTarget::All).await.unwrap();
    let calls = stage.origin.calls();
    let clients: Vec<_> = ["/a", "/a", "/b", "/b"].map(|path| stage.get(path)).into();
    settle().await;
    assert_eq!(stage.origin.calls(), calls + 2);
    for call in stage.origin.calls_from(calls) {
        call.head(&[FRESH]).frame("x").end();
    }
    for client in clients {
        client.seen().await.has_body("x");
    }
}

#[tokio::test(start_paused = true)]
async fn f13_beyond_the_bound_of_fills_each_request_makes_its_own_call() {
    let limits = larder::FillLimits::new().fills(2);
    let stage = Stage::with(cache_builder().fill_limits(limits));
    let mut clients: Vec<_> = ["/a", "/b"].map(|path| stage.get(path)).into();
    settle().await;
    clients.extend(["/c", "/a", "/c"].map(|path| stage.get(path)));
    settle().await;
    assert_eq!((stage.origin.calls(), stage.handle.fills().fills), (4, 2));
    for call in stage.origin.calls_from(0) {
        call.head(&[FRESH]).frame("x").end();
    }
    for client in clients {
        client.seen().await.has_body("x");
    }
    assert_idle(&stage, "bounded");
}

#[test]
fn f16_a_runtime_that_ends_during_fills_leaves_nothing_behind() {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let first = runtime();
    // Before the head, with a follower; in the content, streamed and taken in first; abandoned.
    let (stage, clients) = first.block_on(async {
        let stage = Stage::new();
        // Only of the whole can be said whether that is what the client has.
        let whole = &[("if-none-match", "\"1\"")][..];
        let paths =
            [("/head", &[][..]), ("/head", &[]), ("/streamed", &[]), ("/first", whole), ("/abandoned", &[])];
        let mut clients: Vec<_> = paths.map(|(path, fields)| stage.get_with(path, fields)).into();
        settle().await;
        for (path, fields) in [
            ("/streamed", &[FRESH][..]),
            ("/first", &[FRESH, ("content-length", "9")]),
            ("/abandoned", &[FRESH]),
        ] {
            stage.origin.call_for(path).head(fields).frame("half");
        }
        settle().await;
        clients.pop().unwrap().leave();
        settle().await;
        let fills = stage.handle.fills();
        // Two streams, each in a block of its own.
        assert_eq!((fills.fills, fills.waiting, fills.detached, fills.in_flight), (4, 1, 1, 2 * 4096));
        (stage, clients)
    });
    drop((first, clients));
    assert_idle(&stage, "shut down");
    assert_eq!(stage.handle.statistics().entries, 0);
    runtime().block_on(async {
        for path in ["/head", "/streamed", "/first", "/abandoned"] {
            let steps = [Step::head(200, &[FRESH]), Step::frame("whole"), Step::End];
            stage.fill(path, &steps).await.has_body("whole").told("larder; fwd=uri-miss; stored; ttl=60");
        }
        assert_idle(&stage, "after it");
    });
}
