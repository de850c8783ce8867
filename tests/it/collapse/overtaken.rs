//! Calls that a later request must not join: they are too old, too slow, or bring something else.

use std::time::Duration;

use larder::StandardPolicy;

use crate::support::{Stage, Step, cache_builder, cache_builder_over, settle};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");
const RELOAD: (&str, &str) = ("cache-control", "no-cache");

async fn purge_another(stage: &Stage) {
    stage.handle.purge(&"http://example.com/other".parse().unwrap()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_a_purge_of_something_else_a_reload_does_not_join_an_older_call() {
    let stage = Stage::heeding();
    let _open = stage.get("/");
    settle().await;
    stage.origin.call(0).head(&[FRESH]).frame("old");
    settle().await;
    purge_another(&stage).await;
    let _reload = stage.get_with("/", &[RELOAD]);
    settle().await;
    assert_eq!(stage.origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn f02_only_one_request_waits_for_a_call_that_hangs() {
    let stage = Stage::new();
    let _hung = stage.get("/");
    settle().await;
    let begin = tokio::time::Instant::now();
    for _ in 0..4 {
        stage.origin.script(&[Step::head(200, &[("cache-control", "no-store")]), Step::End]);
        stage.get("/").seen().await;
        stage.later(6);
    }
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn f02_the_limit_covers_all_calls_that_a_request_waits_for() {
    let stage = Stage::new();
    let _herd = stage.herd(6, &[]);
    settle().await;
    tokio::time::sleep(Duration::from_millis(4900)).await;
    stage.origin.call(0).step(Step::Refuse);
    settle().await;
    assert_eq!(stage.origin.calls(), 2, "another takes the lead");
    tokio::time::sleep(Duration::from_millis(200)).await;
    settle().await;
    assert_eq!(stage.origin.calls(), 3, "nobody waits for longer than 5 s without another call");
}

#[tokio::test(start_paused = true)]
async fn f09_the_answer_of_an_earlier_call_does_not_replace_that_of_a_later_one() {
    let stage = Stage::heeding();
    let earlier = stage.get("/");
    settle().await;
    stage.origin.call(0).head(&[FRESH]).frame("old");
    settle().await;
    stage.later(5);
    let later = stage.get_with("/", &[RELOAD]);
    settle().await;
    stage.origin.call(1).head(&[FRESH]).frame("new").end();
    later.seen().await.has_body("new");
    stage.origin.call(0).end();
    earlier.seen().await.has_body("old");
    assert!(stage.get("/").seen().await.has_body("new").is_hit());
}

#[tokio::test(start_paused = true)]
async fn a07_a_part_in_flight_does_not_answer_a_request_for_the_whole() {
    let policy = StandardPolicy::default().partial(true);
    let stage = Stage::with(cache_builder().policy(policy));
    let part = [("cache-control", "max-age=10"), ("content-range", "bytes 0-2/1000")];
    let range = [("range", "bytes=0-2")];
    let first = stage.get_with("/", &range);
    settle().await;
    stage.origin.call(0).step(Step::head(206, &part)).frame("abc").end();
    first.seen().await;
    stage.later(20);
    let again = stage.get_with("/", &range);
    settle().await;
    let whole = stage.get("/");
    settle().await;
    assert_eq!(stage.origin.calls(), 3, "each its own");
    stage.origin.call(1).step(Step::head(206, &part)).frame("xyz").end();
    assert_eq!(again.seen().await.status, 206);
    stage.origin.call(2).head(&[FRESH]).frame("all").end();
    assert_eq!(whole.seen().await.has_body("all").status, 200);
}

fn small() -> Stage {
    Stage::with(cache_builder_over(larder::MemoryStore::builder().max_object(1 << 20).build()))
}

#[tokio::test(start_paused = true)]
async fn a16_the_last_remaining_reader_is_not_cut_off() {
    let stage = small();
    let slow = stage.get("/");
    settle().await;
    let fast = stage.get("/");
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH]);
    let (mut slow, mut fast) = (slow.body().await, fast.body().await);
    for _ in 0..5 {
        call.frame("x".repeat(256 * 1024));
        settle().await;
        fast.take();
    }
    drop(fast);
    settle().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(stage.handle.fills().detached_readers, 0);
    assert_ne!(slow.next().await.as_deref(), Some("<error>"));
}

#[tokio::test(start_paused = true)]
async fn a16_a_deliberately_slow_reader_is_cut_off_in_the_end() {
    let stage = small();
    let slow = stage.get("/");
    settle().await;
    let fast = stage.get("/");
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH]);
    let mut slow = slow.body().await;
    call.step(Step::Endless(bytes::Bytes::from("x".repeat(16 * 1024))));
    let mut fast = fast.body().await;
    let reading = tokio::spawn(async move {
        loop {
            fast.take();
            settle().await;
        }
    });
    // A frame whenever it is about to be cut off.
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(900)).await;
        slow.next_now();
    }
    assert_eq!(stage.handle.fills().detached_readers, 1);
    reading.abort();
}
