//! Leaders that leave, fail, panic or hang, and readers that stall: what followers get, and what becomes of the call.

use std::time::Duration;

use http::Method;
use larder::{FillLimits, FillStatistics, StandardPolicy};

use crate::support::stepped::Client;
use crate::support::{Answer, Stage, Step, cache_builder, cache_builder_over, settle};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

/// Nothing is being fetched, and nothing of it is held.
#[track_caller]
fn assert_idle(stage: &Stage) {
    let FillStatistics { detached, fills, held, in_flight, waiting, .. } = stage.handle.fills();
    assert_eq!((detached, fills, held, in_flight, waiting), (0, 0, 0, 0, 0));
    assert_eq!(stage.origin.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn f04_followers_get_the_answer_when_the_leaders_client_has_left() {
    let stage = Stage::new();
    let leader = stage.get("/");
    settle().await;
    let followers = stage.herd(10, &[]);
    settle().await;
    leader.leave();
    settle().await;
    assert_eq!((stage.origin.calls(), stage.origin.open()), (1, 1));
    assert_eq!(stage.handle.fills().detached, 0, "somebody waits for it");
    stage.origin.call(0).head(&[FRESH]).frame("all").end();
    for follower in followers {
        follower.seen().await.has_body("all");
    }
    assert_eq!(stage.origin.calls(), 1);
    assert_idle(&stage);
}

#[tokio::test(start_paused = true)]
async fn f04_a_fill_that_all_clients_have_left_is_completed_and_stored() {
    // Everybody leaves before the head, while content of known length is taken in, and while it streams.
    for (leaves_at, length) in
        [(0, None), (0, Some("6")), (1, None), (1, Some("6")), (2, None), (2, Some("6"))]
    {
        let stage = Stage::new();
        let mut clients = vec![stage.get("/")];
        settle().await;
        clients.extend(stage.herd(3, &[]));
        settle().await;
        let call = stage.origin.call(0);
        let fields: Vec<_> =
            [FRESH].into_iter().chain(length.map(|length| ("content-length", length))).collect();
        let steps = [Step::head(200, &fields), Step::frame("one"), Step::frame("two"), Step::End];
        call.steps(&steps[..leaves_at]);
        settle().await;
        // Dropped with what has come for them already.
        clients.into_iter().for_each(|client| client.leave());
        settle().await;
        assert_eq!((stage.origin.open(), stage.handle.fills().detached), (1, 1), "{leaves_at} {length:?}");
        call.steps(&steps[leaves_at..]);
        settle().await;
        assert!(stage.get("/").seen().await.has_body("onetwo").is_hit(), "{leaves_at} {length:?}");
        assert_idle(&stage);
    }
}

#[tokio::test(start_paused = true)]
async fn f04_a_fill_that_a_client_joins_again_no_longer_counts_as_detached() {
    let stage = Stage::with(cache_builder().fill_limits(FillLimits::new().detached(1)));
    for head in [None, Some(Step::head(200, &[FRESH]))] {
        let leader = stage.get("/");
        settle().await;
        let call = stage.origin.calls_from(0).pop().unwrap();
        call.steps(head.as_slice());
        settle().await;
        leader.leave();
        settle().await;
        assert_eq!(stage.handle.fills().detached, 1, "{head:?}");
        let before = stage.origin.calls();
        let back = stage.get("/");
        settle().await;
        assert_eq!((stage.origin.calls(), stage.handle.fills().detached), (before, 0), "{head:?}");
        // So there is room for another one.
        let other = stage.get("/other");
        settle().await;
        other.leave();
        settle().await;
        let other = stage.origin.calls_from(before).pop().unwrap();
        assert!(other.is_open(), "{head:?}");
        other.head(&[FRESH]).end();
        if head.is_none() {
            call.head(&[FRESH]);
        }
        call.frame("x").end();
        back.seen().await.has_body("x");
        assert_idle(&stage);
        stage.later(61);
    }
}

/// `count` requests for different resources whose clients leave as soon as the origin has them.
async fn abandon(stage: &Stage, count: usize, head: Option<&[(&str, &str)]>) {
    let clients: Vec<_> = (0..count).map(|number| stage.get(&format!("/?{number}"))).collect();
    settle().await;
    assert_eq!(stage.origin.open(), count);
    if let Some(head) = head {
        for call in stage.origin.calls_from(0) {
            call.head(head).frame("x");
        }
        settle().await;
    }
    clients.into_iter().for_each(|client| client.leave());
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn a17_of_ten_thousand_abandoned_calls_a_bounded_number_continues() {
    for head in [None, Some(&[FRESH][..]), Some(&[FRESH, ("content-length", "3")])] {
        let stage = Stage::new();
        abandon(&stage, 10_000, head).await;
        let fills = stage.handle.fills();
        assert_eq!((stage.origin.open(), fills.detached, fills.fills), (256, 256, 256), "{head:?}");
        for call in stage.origin.calls_from(0).iter().filter(|call| call.is_open()) {
            if head.is_none() {
                call.head(&[FRESH]).frame("x");
            }
            call.frame("yz").end();
        }
        settle().await;
        assert_idle(&stage);
        assert_eq!(stage.handle.statistics().entries, 256, "{head:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a17_abandoned_calls_with_unshareable_answers_are_cancelled() {
    for head in [
        &[("cache-control", "no-store")][..],
        &[("cache-control", "private")],
        // Taken in for an entity tag.
        &[("cache-control", "private"), ("content-length", "3")],
    ] {
        let stage = Stage::new();
        abandon(&stage, 1_000, Some(head)).await;
        assert_idle(&stage);
    }
    // Calls that are nobody else's from the beginning.
    let stage = Stage::new();
    let clients: Vec<_> = (0..1_000).map(|_| stage.get_with("/", &[("cache-control", "no-store")])).collect();
    settle().await;
    assert_eq!(stage.origin.open(), 1_000);
    clients.into_iter().for_each(|client| client.leave());
    settle().await;
    assert_idle(&stage);
}

#[tokio::test(start_paused = true)]
async fn a17_the_number_of_calls_that_outlive_a_latency_budget_is_bounded() {
    let policy = StandardPolicy::default().latency_budget(Some(Duration::from_millis(100)));
    // GETs share one call; a HEAD that validates can't.
    for method in [Method::GET, Method::HEAD] {
        let limits = FillLimits::new().detached(10);
        let stage = Stage::with(cache_builder().policy(policy.clone()).fill_limits(limits));
        let fields = [("cache-control", "max-age=60, stale-if-error=600"), ("etag", "\"a\"")];
        stage.fill("/", &[Step::head(200, &fields), Step::frame("x"), Step::End]).await;
        stage.later(61);
        for _ in 0..100 {
            let seen = stage.send(method.clone(), "/", &[]).seen().await;
            assert!(seen.cache_status().contains("latency-budget"), "{seen:?}");
        }
        settle().await;
        assert!(stage.origin.open() <= 10, "{method}: {} calls go on behind", stage.origin.open());
    }
}

#[tokio::test(start_paused = true)]
async fn f03_a_follower_takes_over_when_the_leader_fails() {
    for failure in [Step::Refuse, Step::Panic] {
        let stage = Stage::new();
        let leader = stage.get("/");
        settle().await;
        let followers = stage.herd(10, &[]);
        settle().await;
        stage.origin.call(0).step(failure.clone());
        settle().await;
        assert_eq!((stage.origin.calls(), stage.origin.open()), (2, 1), "{failure:?}: one other leads");
        let answer = leader.answer().await;
        assert!(matches!(
            (&failure, answer),
            (Step::Refuse, Answer::Refused) | (Step::Panic, Answer::Panicked)
        ));
        stage.origin.call(1).head(&[FRESH]).frame("x").end();
        for follower in followers {
            follower.seen().await.has_body("x");
        }
        assert_idle(&stage);
        assert!(stage.get("/").seen().await.is_hit());
    }
}

#[tokio::test(start_paused = true)]
async fn f03_followers_of_a_failing_origin_do_not_call_it_one_by_one() {
    for failure in [Step::Refuse, Step::Panic, Step::head(503, &[])] {
        let stage = Stage::new();
        let leader = stage.get("/");
        settle().await;
        let followers = stage.herd(100, &[]);
        settle().await;
        let (mut rounds, mut before) = (0, 0);
        while followers.iter().any(|client| client.is_waiting()) {
            rounds += 1;
            // The leader, another one, and then 8 at a time.
            assert!(rounds <= 2 + 99_usize.div_ceil(8), "{failure:?}");
            assert!(stage.origin.calls() - before <= 8, "{failure:?}");
            before = stage.origin.calls();
            for call in stage.origin.calls_from(0) {
                call.step(failure.clone()).end();
            }
            settle().await;
        }
        for client in followers.into_iter().chain([leader]) {
            match (&failure, client.answer().await) {
                (Step::Refuse, Answer::Refused) | (Step::Panic, Answer::Panicked) => {}
                (Step::Head(..), Answer::Response(response)) => assert_eq!(response.status(), 503),
                _ => panic!("{failure:?}: another answer"),
            }
        }
        assert_idle(&stage);
        // The key is free.
        stage.fill("/", &[Step::head(200, &[FRESH]), Step::frame("x"), Step::End]).await.has_body("x");
        assert!(stage.get("/").seen().await.is_hit());
    }
}

#[tokio::test(start_paused = true)]
async fn f03_a_panic_in_poll_ready_frees_the_key() {
    let stage = Stage::new();
    stage.origin.hold_readiness();
    let leader = stage.get("/");
    settle().await;
    let followers = stage.herd(10, &[]);
    settle().await;
    assert_eq!((stage.origin.calls(), stage.handle.fills().waiting), (0, 10));
    stage.origin.panic_in_readiness();
    settle().await;
    assert!(matches!(leader.answer().await, Answer::Panicked));
    assert_eq!(stage.origin.calls(), 1);
    stage.origin.call(0).head(&[FRESH]).frame("x").end();
    for follower in followers {
        follower.seen().await.has_body("x");
    }
    assert_idle(&stage);
}

#[tokio::test(start_paused = true)]
async fn f03_a_panic_in_the_body_is_an_error_for_every_reader() {
    let stage = Stage::new();
    let leader = stage.get("/");
    settle().await;
    let followers = stage.herd(10, &[]);
    settle().await;
    stage.origin.call(0).head(&[FRESH]).frame("x");
    settle().await;
    stage.origin.call(0).step(Step::Panic);
    for client in followers.into_iter().chain([leader]) {
        let seen = client.seen().await;
        assert!(seen.broken, "{seen:?}");
    }
    assert_idle(&stage);
    assert_eq!((stage.origin.calls(), stage.handle.statistics().entries), (1, 0));
    // Where content of known length is taken in first, the leader's client has no answer yet, and another leads.
    let stage = Stage::new();
    let leader = stage.get("/");
    settle().await;
    let followers = stage.herd(10, &[]);
    settle().await;
    stage.origin.script(&[Step::head(200, &[FRESH]), Step::frame("other"), Step::End]);
    stage.origin.call(0).head(&[FRESH, ("content-length", "2")]).frame("x").step(Step::Panic);
    assert!(matches!(leader.answer().await, Answer::Panicked));
    for follower in followers {
        follower.seen().await.has_body("other");
    }
    assert_eq!(stage.origin.calls(), 2);
    assert_idle(&stage);
}

#[tokio::test(start_paused = true)]
async fn f02_a_leader_that_hangs_delays_nobody_for_long() {
    let stage = Stage::new();
    let leader = stage.get("/");
    settle().await;
    let followers = stage.herd(3, &[]);
    stage.origin.script(&[Step::head(200, &[FRESH]), Step::frame("own"), Step::End]);
    for follower in followers {
        follower.seen().await.has_body("own");
    }
    assert!(leader.is_waiting());
    leader.leave();
    settle().await;
    assert!(stage.get("/").seen().await.is_hit());
}

fn large(length: usize) -> String {
    "x".repeat(length)
}

#[tokio::test(start_paused = true)]
async fn f02_content_that_stalls_does_not_delay_later_requests() {
    let stage = Stage::new();
    let leader = stage.get("/");
    settle().await;
    stage.origin.call(0).head(&[FRESH]).frame("ha");
    settle().await;
    let early = stage.get("/");
    settle().await;
    // It is slow, but it comes.
    for _ in 0..3 {
        stage.later(4);
        stage.origin.call(0).frame("l");
        settle().await;
        stage.get("/").response().await;
    }
    stage.later(4);
    stage.get("/").response().await;
    assert_eq!(stage.origin.calls(), 1);
    stage.later(2);
    let late = stage.herd(10, &[]);
    settle().await;
    assert_eq!(stage.origin.calls(), 2, "one other call for all of them");
    stage.origin.call(1).head(&[FRESH]).frame("whole").end();
    for client in late {
        client.seen().await.has_body("whole");
    }
    assert!(stage.get("/").seen().await.has_body("whole").is_hit());
    stage.origin.call(0).frame("f").end();
    for client in [leader, early] {
        client.seen().await.has_body("halllf");
    }
    assert_idle(&stage);
}

#[tokio::test(start_paused = true)]
async fn a16_a_stalled_reader_of_an_endless_body_is_cut_off_and_a_thousand_others_continue() {
    let most = 9 * 1024 * 1024 + 512 * 1024; // the largest object, and what a reader may be behind
    let stage = Stage::new();
    let stalled = stage.get("/");
    settle().await;
    let live = stage.herd(1_000, &[]);
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH]);
    let mut stalled = stalled.body().await;
    let mut bodies = Vec::new();
    for client in live {
        bodies.push(client.body().await);
    }
    assert_eq!(stage.origin.calls(), 1);
    let frame = bytes::Bytes::from(large(512 * 1024));
    for sent in 1..=40 {
        call.step(Step::Frame(frame.clone()));
        settle().await;
        // Time enough for who stalls to be cut off.
        tokio::time::sleep(Duration::from_secs(2)).await;
        for body in &mut bodies {
            assert_eq!(body.take(), frame.len(), "frame {sent}");
        }
        let held = stage.handle.fills().in_flight;
        assert!(held <= most, "{held} bytes after {sent} frames");
    }
    assert_eq!(stage.handle.fills().detached_readers, 1);
    call.end();
    settle().await;
    for body in &mut bodies {
        assert_eq!(body.next_now().as_deref(), Some("<end>"));
    }
    assert_eq!(stalled.next().await.as_deref(), Some("<error>"));
    drop((stalled, bodies));
    settle().await;
    assert_idle(&stage);
    assert_eq!(stage.handle.statistics().entries, 0);
}

#[tokio::test(start_paused = true)]
async fn f05_a_stalled_reader_delays_no_other_reader() {
    // What is to be stored is held anyway: whoever stalls reads on when it likes.
    let stage = Stage::new();
    let stalled = stage.get("/");
    settle().await;
    let other = stage.get("/");
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH]);
    let mut stalled = stalled.body().await;
    call.steps(&vec![Step::frame(large(100_000)); 32]);
    call.end();
    assert_eq!(other.seen().await.body.len(), 3_200_000);
    assert!(stage.get("/").seen().await.is_hit());
    let mut length = 0;
    while let Some(frame) = stalled.next().await.filter(|frame| frame != "<end>") {
        assert_ne!(frame, "<error>");
        length += frame.len();
    }
    assert_eq!(length, 3_200_000);
    assert_idle(&stage);
}

#[tokio::test(start_paused = true)]
async fn a16_content_that_arrives_at_once_cuts_off_no_active_reader() {
    let stage = Stage::with(cache_builder_over(larder::MemoryStore::builder().max_object(4 << 20).build()));
    let clients = stage.herd(50, &[]);
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH]);
    call.steps(&vec![Step::frame(large(100_000)); 200]);
    call.end();
    let reading: Vec<_> = clients.into_iter().map(|client| client.reading()).collect();
    for read in reading {
        let seen = read.await.unwrap();
        assert_eq!((seen.broken, seen.body.len()), (false, 20_000_000));
    }
    assert_eq!((stage.origin.calls(), stage.handle.fills().detached_readers), (1, 0));
}

/// As a runtime of several threads has it. Here the other readers give up most of their turns, so that the order is the
/// same each time.
#[tokio::test(start_paused = true)]
async fn a16_no_active_reader_is_cut_off_when_other_tasks_run_first() {
    let stage = Stage::with(cache_builder_over(larder::MemoryStore::builder().max_object(4 << 20).build()));
    let fast = stage.get("/").reading();
    settle().await;
    let slow: Vec<_> =
        stage.herd(19, &[]).into_iter().map(|client| tokio::spawn(length_read_slowly(client))).collect();
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH]);
    call.steps(&vec![Step::frame(large(100_000)); 120]);
    call.end();
    let fast = fast.await.unwrap();
    assert_eq!((fast.broken, fast.body.len()), (false, 12_000_000));
    for length in slow {
        assert_eq!(length.await.unwrap(), Some(12_000_000));
    }
    assert_eq!(stage.handle.fills().detached_readers, 0);
}

/// How much a client gets that takes a frame only in each hundredth of its turns; none if it is cut off.
async fn length_read_slowly(client: Client) -> Option<usize> {
    let mut body = client.body().await;
    let mut length = 0;
    loop {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        match body.next_now().as_deref() {
            None => {}
            Some("<end>") => return Some(length),
            Some("<error>") => return None,
            Some(frame) => length += frame.len(),
        }
    }
}

/// A permit, say, that is given back when the request is dropped.
#[tokio::test(start_paused = true)]
async fn f04_the_extensions_of_a_request_are_dropped_when_its_client_leaves() {
    let stage = Stage::new();
    let permit = std::sync::Arc::new(());
    let mut request = http::Request::get("/").header("host", "www.example.com");
    request.extensions_mut().unwrap().insert(std::sync::Arc::clone(&permit));
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    let mut cache = stage.cache.clone();
    let client = tokio::spawn(tower::Service::call(&mut cache, request));
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH]).frame("x");
    drop(client.await.unwrap().unwrap());
    settle().await;
    assert_eq!(stage.handle.fills().detached, 1);
    assert_eq!(std::sync::Arc::strong_count(&permit), 2, "ours, and what the origin was asked with");
    call.end();
}

/// There is no way to ask a runtime whether it has timers but to try, which is told as a panic.
#[test]
fn a_runtime_without_timers_is_detected_once() {
    async fn turns() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    const NAME: &str = "collapse::leaders::a_runtime_without_timers_is_detected_once";
    // In a process of its own, where nobody else panics: what it writes tells how often there was a panic.
    if std::env::var_os("LARDER_ALONE").is_none() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env("LARDER_ALONE", "1")
            .output()
            .unwrap();
        let (out, told) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success() && out.contains("1 passed"), "{out}{told}");
        assert_eq!(told.matches("timers are disabled").count(), 1, "{told}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let stage = Stage::new();
        for number in 0..10 {
            let client = stage.get(&format!("/{number}"));
            turns().await;
            stage.origin.call(number).head(&[FRESH, ("content-length", "6")]);
            turns().await;
            assert!(!client.is_waiting(), "nor is a moment for the first frame");
            stage.origin.call(number).frame("pantry").end();
        }
    });
}
