//! Clients that stop reading: what their bodies hold is counted and bounded, and they are cut off, polled or not (A29, A30).

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioExecutor;
use larder::store::PurgeTarget;
use larder::{BodyLimits, FillLimits, MemoryStore};

use tower::Layer;

use crate::support::{
    CacheBuilder, Client, Reading, Stage, Step, alloc, cache_builder, cache_builder_over, settle, wire,
};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const FRESH: (&str, &str) = ("cache-control", "max-age=600");
const STALL: Duration = Duration::from_secs(60);

fn store(capacity: u64) -> CacheBuilder {
    cache_builder_over(MemoryStore::builder().capacity(capacity).max_object(capacity / 4).build())
}

/// An endless body of frames in memory of their own.
fn endless() -> Step {
    Step::Endless(Bytes::from(vec![b'x'; 16 * KIB as usize]))
}

async fn fill(stage: &Stage, path: &str, length: u64) {
    let content = "x".repeat(length as usize);
    stage.fill(path, &[Step::head(200, &[FRESH]), Step::frame(content), Step::End]).await;
}

/// Has the store let go of all that it holds; who reads it goes on.
async fn forget(stage: &Stage) {
    stage.handle.purge_target(&PurgeTarget::All).await.unwrap();
    settle().await;
    assert_eq!(stage.handle.statistics().entries, 0);
}

async fn reading(client: Client) -> Reading {
    settle().await;
    client.body().await
}

/// Whether a body ends in an error when it is read to its end.
async fn is_cut_off(body: &mut Reading) -> bool {
    loop {
        match body.next().await.as_deref() {
            Some("<error>") => return true,
            Some("<end>") | None => return false,
            Some(_) => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a29_bodies_that_nobody_polls_hold_no_more_than_the_bound() {
    let capacity = 8 * MIB;
    let stage = Stage::with(store(capacity));
    let before = alloc::live();
    let mut bodies = Vec::new();
    for number in 0..100 {
        let path = format!("/{number}");
        fill(&stage, &path, MIB).await;
        bodies.push(reading(stage.get(&path)).await);
        // Longer than anybody needs to take the first of it.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(stage.handle.fills().held <= capacity + MIB, "{:?}", stage.handle.fills());
    }
    let growth = alloc::live() - before;
    assert!(growth < (2 * capacity + 2 * MIB) as i64, "{growth} bytes for 100 bodies of 1 MiB");
    let cut_off = stage.handle.fills().detached_readers as usize;
    assert!((80..=92).contains(&cut_off), "{cut_off}");
    // Those that came last are whole.
    for (number, mut body) in bodies.into_iter().enumerate().rev() {
        assert_eq!(is_cut_off(&mut body).await, number < cut_off, "{number}");
    }
    assert_eq!(stage.handle.fills().held, 0);
}

/// Nobody is cut off who only reads slowly, however many they are: what is new passes, and is not stored.
#[tokio::test(start_paused = true)]
async fn a29_slow_readers_are_not_cut_off_when_the_bound_is_reached() {
    let capacity = 8 * MIB;
    let stage = Stage::with(store(capacity));
    let mut bodies = Vec::new();
    let mut unstored = 0;
    for number in 0..40 {
        let path = format!("/{number}");
        let client = stage.get(&path);
        settle().await;
        let call = stage.origin.calls_from(0).pop().unwrap();
        call.head(&[FRESH, ("content-length", "1048576")]).frame("x".repeat(MIB as usize)).end();
        let response = client.response().await;
        let status = response.headers()["cache-status"].to_str().unwrap().to_owned();
        unstored += usize::from(status.contains("no-room"));
        bodies.push((Reading::of(response), 0));
        settle().await;
        // Each of them takes a piece every few seconds.
        for (body, taken) in &mut bodies {
            *taken += body.next_now().filter(|frame| frame.len() > 10).map_or(0, |frame| frame.len());
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let fills = stage.handle.fills();
        assert!(fills.held <= 2 * capacity, "{fills:?}");
        assert_eq!(fills.detached_readers, 0, "after {number}: {fills:?}");
    }
    assert!(unstored > 0);
    for (mut body, taken) in bodies {
        assert_eq!(taken + body.take(), MIB as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn a29_content_is_counted_once_whatever_the_number_of_its_readers() {
    let stage = Stage::with(store(8 * MIB));
    fill(&stage, "/popular", MIB).await;
    let mut bodies = Vec::new();
    for _ in 0..50 {
        bodies.push(reading(stage.get("/popular")).await);
        bodies.push(reading(stage.get_with("/popular", &[("range", "bytes=1-")])).await);
    }
    assert_eq!(stage.handle.fills().held, 0, "the store has it, too");
    forget(&stage).await;
    assert_eq!(stage.handle.fills().held, MIB);
    for body in &mut bodies {
        assert!(!is_cut_off(body).await);
    }
    drop(bodies);
    let fills = stage.handle.fills();
    assert_eq!((fills.held, fills.detached_readers), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a29_small_content_is_not_counted() {
    let stage = Stage::new();
    fill(&stage, "/small", 64 * KIB).await;
    fill(&stage, "/large", 64 * KIB + 1).await;
    let small = reading(stage.get("/small")).await;
    let range = reading(stage.get_with("/large", &[("range", "bytes=0-65535")])).await;
    let large = reading(stage.get("/large")).await;
    assert_eq!(stage.handle.fills().held, 0);
    forget(&stage).await;
    assert_eq!(stage.handle.fills().held, 64 * KIB + 1);
    drop((small, range, large));
    assert_eq!(stage.handle.fills().held, 0);
}

#[tokio::test(start_paused = true)]
async fn a29_content_made_for_one_reader_is_counted_whatever_its_length() {
    let stage = Stage::new();
    fill(&stage, "/", MIB).await;
    let several = ("range", "bytes=0-999,2000-2999");
    let mut body = reading(stage.get_with("/", &[several])).await;
    let held = stage.handle.fills().held;
    assert!((2_000..3_000).contains(&held), "{held}");
    tokio::time::sleep(STALL * 2).await;
    assert_eq!(stage.handle.fills().held, 0);
    assert!(is_cut_off(&mut body).await);
    // A range of few pieces does not keep the others.
    let range = reading(stage.get_with("/", &[("range", "bytes=65000-66000")])).await;
    assert_eq!(stage.handle.fills().held, 2 * 64 * KIB);
    drop(range);
}

#[tokio::test(start_paused = true)]
async fn a29_a_reader_that_has_read_nothing_is_cut_off_first() {
    let stage = Stage::with(cache_builder().body_limits(BodyLimits::new().held(2 * MIB)));
    for path in ["/slow", "/first", "/second"] {
        fill(&stage, path, MIB).await;
    }
    let mut slow = reading(stage.get("/slow")).await;
    assert!(slow.next_now().is_some());
    tokio::time::sleep(STALL / 4).await;
    let mut first = reading(stage.get("/first")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut second = reading(stage.get("/second")).await;
    forget(&stage).await;
    fill(&stage, "/another", MIB).await;
    assert!(is_cut_off(&mut first).await);
    assert!(!is_cut_off(&mut slow).await && !is_cut_off(&mut second).await);
}

#[tokio::test(start_paused = true)]
async fn a29_unread_small_content_releases_the_origin() {
    for head in [
        &[("cache-control", "no-store"), ("content-length", "2")][..],
        &[("cache-control", "private"), ("content-length", "2"), ("etag", "\"1\"")],
    ] {
        let stage = Stage::new();
        let client = stage.get("/");
        settle().await;
        let call = stage.origin.call(0);
        call.head(head).frame("o");
        let mut body = client.body().await;
        settle().await;
        assert_eq!(stage.origin.open(), 1, "{head:?}");
        tokio::time::sleep(STALL * 2).await;
        assert_eq!(stage.origin.open(), 0, "{head:?}");
        assert!(is_cut_off(&mut body).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a29_a_reader_without_progress_is_cut_off_and_a_slow_one_is_not() {
    let stage = Stage::new();
    for path in ["/idle", "/slow"] {
        fill(&stage, path, MIB).await;
    }
    let mut idle = reading(stage.get("/idle")).await;
    let mut slow = reading(stage.get("/slow")).await;
    forget(&stage).await;
    let mut taken = 0;
    for _ in 0..5 {
        tokio::time::sleep(STALL / 2).await;
        taken += slow.next_now().map_or(0, |frame| frame.len());
    }
    assert_eq!(stage.handle.fills().held, MIB, "that of who reads");
    assert!(is_cut_off(&mut idle).await);
    assert_eq!(taken + slow.take(), MIB as usize);
    assert_eq!(stage.handle.fills().detached_readers, 1);
}

#[tokio::test(start_paused = true)]
async fn a29_the_reader_that_has_stalled_longest_makes_room() {
    let limits = BodyLimits::new().held(3 * MIB);
    let stage = Stage::with(cache_builder().body_limits(limits));
    for path in ["/0", "/1", "/2", "/3"] {
        fill(&stage, path, MIB).await;
    }
    let mut bodies = Vec::new();
    for path in ["/0", "/1", "/2"] {
        bodies.push(reading(stage.get(path)).await);
    }
    bodies.iter_mut().for_each(|body| assert!(body.next_now().is_some()));
    bodies.push(reading(stage.get("/3")).await);
    forget(&stage).await;
    assert_eq!(stage.handle.fills().held, 4 * MIB);
    // Nobody stands for long yet. The others go on.
    tokio::time::sleep(STALL / 5).await;
    for number in [0, 2, 3] {
        assert!(bodies[number].next_now().is_some());
    }
    fill(&stage, "/4", MIB).await;
    assert_eq!(stage.handle.fills().held, 3 * MIB);
    for (number, body) in bodies.iter_mut().enumerate() {
        assert_eq!(is_cut_off(body).await, number == 1, "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn a29_content_with_an_active_reader_is_kept() {
    let limits = BodyLimits::new().held(2 * MIB);
    let stage = Stage::with(cache_builder().body_limits(limits));
    for path in ["/popular", "/other", "/new"] {
        fill(&stage, path, MIB).await;
    }
    let mut idle = reading(stage.get("/popular")).await;
    let mut other = reading(stage.get("/other")).await;
    let mut active = reading(stage.get("/popular")).await;
    let mut new = reading(stage.get("/new")).await;
    forget(&stage).await;
    tokio::time::sleep(STALL / 5).await;
    assert!(active.next_now().is_some() && new.next_now().is_some());
    fill(&stage, "/another", MIB).await;
    // To cut off who stands longest would free nothing.
    assert!(is_cut_off(&mut other).await);
    for body in [&mut idle, &mut active, &mut new] {
        assert!(!is_cut_off(body).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a29_a_stalled_client_releases_the_origin() {
    for (head, before) in [
        (&[("cache-control", "no-store")][..], 0),
        (&[("cache-control", "no-store"), ("content-length", "10000000000")], 0),
        (&[FRESH, ("content-length", "10000000000")], 0), // known to be too large
        (&[("cache-control", "no-store")], 3),
        (&[FRESH], 0), // found to be too large
        (&[FRESH], 3),
    ] {
        let stage = Stage::with(store(4 * MIB));
        let client = stage.get("/");
        settle().await;
        stage.origin.call(0).head(head).step(endless());
        let mut body = client.body().await;
        for _ in 0..before {
            settle().await;
            assert!(body.next_now().is_some());
        }
        settle().await;
        assert_eq!(stage.origin.open(), 1, "{head:?}");
        tokio::time::sleep(STALL * 2).await;
        assert_eq!(stage.origin.open(), 0, "{head:?}: the origin's connection is free");
        assert_eq!(stage.handle.fills().held, 0, "{head:?}");
        assert!(is_cut_off(&mut body).await, "{head:?}");
        assert_eq!(stage.handle.fills().detached_readers, 1, "{head:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a29_a_reader_that_waits_for_a_silent_origin_does_not_count_as_stalled() {
    for head in [&[("cache-control", "no-store")][..], &[FRESH]] {
        let stage = Stage::new();
        let client = stage.get("/events");
        settle().await;
        let call = stage.origin.call(0);
        call.head(head).frame("first");
        let mut body = client.body().await;
        assert_eq!(body.next().await.as_deref(), Some("first"), "{head:?}");
        assert_eq!(body.next().await, None);
        tokio::time::sleep(STALL * 10).await;
        call.frame("second").end();
        assert_eq!(body.next().await.as_deref(), Some("second"), "{head:?}");
        assert_eq!(body.next().await.as_deref(), Some("<end>"), "{head:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a29_a_reader_that_does_not_take_the_frame_it_waited_for_is_cut_off() {
    let stage = Stage::new();
    let client = stage.get("/");
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[("cache-control", "no-store")]).frame("first");
    let mut body = client.body().await;
    assert_eq!(body.next().await.as_deref(), Some("first"));
    assert_eq!(body.next().await, None, "it waits");
    call.frame("second");
    tokio::time::sleep(STALL * 2).await;
    assert_eq!(stage.origin.open(), 0);
    assert!(is_cut_off(&mut body).await);
}

#[tokio::test(start_paused = true)]
async fn a29_a_stalled_reader_of_a_completed_fill_is_cut_off() {
    let stage = Stage::new();
    let client = stage.get("/");
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH]).frame("x".repeat(MIB as usize));
    let mut body = client.body().await;
    call.end();
    settle().await;
    assert!(stage.get("/").seen().await.is_hit());
    forget(&stage).await;
    assert_eq!(stage.handle.fills().held, MIB, "held by who reads it");
    tokio::time::sleep(STALL * 2).await;
    assert_eq!(stage.handle.fills().held, 0);
    assert!(is_cut_off(&mut body).await);
}

/// One connection with a window of nothing, and in this thread the server with the cache, whose memory is counted.
#[tokio::test]
async fn a29_an_http2_connection_with_zero_windows_holds_no_more_than_the_bound() {
    const OBJECTS: usize = 60;
    let capacity = 16 * MIB;
    let layer = store(capacity).build();
    let handle = layer.handle();
    let content = Bytes::from(vec![b'x'; 2 * MIB as usize]);
    let origin = tower::service_fn(move |_: Request<Incoming>| {
        let response = Response::builder().header("cache-control", "max-age=600");
        std::future::ready(response.body(Full::new(content.clone())))
    });
    let address = wire::serve(layer.layer(origin)).await;
    let mut builder = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
    let client = builder.http2_only(true).http2_initial_stream_window_size(0).build_http();
    let before = alloc::live();
    let mut responses = Vec::new();
    for number in 0..OBJECTS {
        let path = format!("/{number}");
        assert_eq!(wire::get(address, &path, &[]).await.body.len(), 2 * MIB as usize);
        let request = Request::get(format!("http://{address}{path}")).body(Empty::<Bytes>::new()).unwrap();
        let response = client.request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        responses.push(response);
    }
    let held = alloc::live() - before;
    assert!(held < (2 * capacity + 12 * MIB) as i64, "{held} bytes for {OBJECTS} objects of 2 MiB");
    assert!(handle.fills().held <= capacity + 2 * MIB);
    drop(responses);
}

#[tokio::test(start_paused = true)]
async fn a30_stalled_readers_take_no_room_from_responses_to_be_stored() {
    let layer = store(16 * MIB).fill_limits(FillLimits::new().in_flight(8 * MIB));
    let stage = Stage::with(layer);
    let mut slow = Vec::new();
    for number in 0..40 {
        let client = stage.get(&format!("/large/{number}"));
        settle().await;
        stage.origin.call(number).head(&[FRESH]).step(endless());
        slow.push(client.body().await);
        settle().await;
    }
    // Longer than anybody needs to take the first of it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stage.handle.fills().in_flight, 0, "nothing of that is to be stored");
    // Somebody else's page is stored and shared, as small ones are in any case.
    let pages: Vec<_> = (0..50).map(|_| stage.get("/page")).collect();
    settle().await;
    assert_eq!(stage.origin.calls(), 41);
    stage.origin.call(40).head(&[FRESH]).frame("x".repeat(MIB as usize)).end();
    for page in pages {
        assert_eq!(page.seen().await.body.len(), MIB as usize);
    }
    assert!(stage.get("/page").seen().await.cache_status().contains("; hit"));
    drop(slow);
}

#[tokio::test(start_paused = true)]
async fn a30_stored_is_reported_if_there_is_room_and_counted_as_unstored_if_it_fails() {
    let layer = cache_builder().fill_limits(FillLimits::new().in_flight(MIB));
    let stage = Stage::with(layer);
    let first = stage.get("/first");
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH]).frame("x".repeat(MIB as usize));
    let first = first.reading();
    settle().await;
    for (number, length) in [(1, None), (2, Some("100000"))] {
        let client = stage.get(&format!("/{number}"));
        settle().await;
        let length = length.map(|length| ("content-length", length));
        let head: Vec<_> = [FRESH].into_iter().chain(length).collect();
        stage.origin.call(number).head(&head).frame("x".repeat(100_000)).end();
        let seen = client.seen().await;
        assert!(seen.cache_status().contains("detail=\"no-room\""), "{}", seen.cache_status());
        assert_eq!(seen.body.len(), 100_000);
    }
    assert_eq!(stage.handle.fills().unstored, 0);
    // What no room is left for later was told as stored.
    call.frame("x").end();
    let seen = first.await.unwrap();
    assert!(seen.cache_status().contains("; stored"), "{}", seen.cache_status());
    assert_eq!(seen.body.len(), MIB as usize + 1);
    assert_eq!(stage.handle.fills().unstored, 1);
    let client = stage.get("/broken");
    settle().await;
    stage.origin.call(3).head(&[FRESH]).frame("half").step(Step::Fail);
    client.seen().await;
    assert_eq!(stage.handle.fills().unstored, 2);
    assert_eq!(stage.handle.statistics().entries, 0);
}

#[tokio::test(start_paused = true)]
async fn a30_unread_content_without_room_releases_the_origin() {
    let stage = Stage::with(cache_builder().fill_limits(FillLimits::new().in_flight(MIB)));
    let client = stage.get("/");
    settle().await;
    stage.origin.call(0).head(&[FRESH]).step(endless());
    let mut body = client.body().await;
    settle().await;
    assert_eq!((stage.origin.open(), stage.handle.fills().in_flight), (1, 0));
    tokio::time::sleep(STALL * 2).await;
    assert_eq!((stage.origin.open(), stage.handle.fills().held), (0, 0));
    assert!(is_cut_off(&mut body).await);
}

#[tokio::test(start_paused = true)]
async fn a30_the_bytes_in_flight_equal_the_memory_held() {
    const EACH: usize = 4 * MIB as usize;
    const FILLS: usize = 8;
    for frame in [1_000, 16 * 1024, 300_000] {
        let limits = FillLimits::new().in_flight((FILLS * EACH) as u64 + MIB);
        let stage = Stage::with(store(64 * MIB).fill_limits(limits));
        let before = alloc::live();
        alloc::peak_from_now();
        let mut clients = Vec::new();
        for number in 0..FILLS {
            let client = stage.get(&format!("/{number}"));
            settle().await;
            stage.origin.call(number).head(&[FRESH]);
            clients.push(client.body().await);
        }
        // All of them at once; of the frames there is never more than one.
        for _ in 0..EACH / frame {
            for number in 0..FILLS {
                stage.origin.call(number).frame("x".repeat(frame));
            }
            settle().await;
            for client in &mut clients {
                client.take();
            }
        }
        // Who follows has pieces in crumbs, which are put together at the end.
        let counted = stage.handle.fills().in_flight as i64;
        let held = alloc::live() - before;
        assert!((counted - held).abs() < MIB as i64, "{counted} counted, {held} held, by {frame}");
        for number in 0..FILLS {
            stage.origin.call(number).end();
        }
        settle().await;
        let peak = alloc::peak_since() - before;
        assert!(peak < (FILLS * EACH) as i64 + 2 * MIB as i64, "{peak} at most, by {frame}");
        assert_eq!(stage.handle.statistics().entries, FILLS as u64);
        drop(clients);
    }
}
