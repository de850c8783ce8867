//! `Server-Timing`.

use std::time::Duration;

use http::Method;
use larder::ServerTiming;

use crate::support::{Bench, CacheBuilder, Reply, Seen, cache_builder};

fn timed() -> CacheBuilder {
    cache_builder().server_timing(ServerTiming::always())
}

/// All lines of the field.
fn timing(seen: &Seen) -> Vec<&str> {
    seen.fields.get_all("server-timing").iter().map(|line| line.to_str().unwrap()).collect()
}

fn slow(reply: Reply) -> Reply {
    reply.after(Duration::from_millis(1_500))
}

#[tokio::test(start_paused = true)]
async fn cf15_a_client_learns_what_the_cache_did_and_how_long_the_origin_took() {
    let bench = Bench::with(timed(), [slow(Reply::cc("x", "max-age=60").field("etag", "\"1\""))]);
    assert_eq!(timing(&bench.get("/").await), ["cache;desc=miss, origin;dur=1500.0"]);
    assert_eq!(timing(&bench.get("/").await), ["cache;desc=hit"]);
    assert_eq!(timing(&bench.send(Method::HEAD, "/", &[]).await), ["cache;desc=hit"]);
    bench.later(60);
    bench.origin.not_modified(Some(slow(Reply::cc("", "max-age=60").status(304))));
    assert_eq!(timing(&bench.get("/").await), ["cache;desc=refresh, origin;dur=1500.0"]);
    let posted = bench.send(Method::POST, "/", &[]).await;
    assert_eq!(timing(&posted), ["cache;desc=pass, origin;dur=1500.0"]);
    let options = bench.send(Method::OPTIONS, "/", &[]).await;
    assert_eq!(timing(&options), ["cache;desc=pass, origin;dur=1500.0"]);
}

#[tokio::test]
async fn cf15_what_the_origin_says_of_its_own_call_comes_with_that_answer_only() {
    let said = |content| Reply::cc(content, "max-age=60").field("server-timing", "db;dur=5");
    let bench = Bench::with(timed(), [said("x")]);
    let miss = bench.get("/").await;
    assert_eq!(timing(&miss).len(), 2);
    assert_eq!(timing(&miss)[0], "db;dur=5");
    assert_eq!(timing(&bench.get("/").await), ["cache;desc=hit"]);
    // Without the option, the field is one like any other.
    let bench = Bench::new([said("x")]);
    bench.get("/").await;
    assert_eq!(timing(&bench.get("/").await), ["db;dur=5"]);
}

#[tokio::test]
async fn cf15_answers_have_it_as_far_as_they_are_sampled_or_it_is_asked_for() {
    let none = cache_builder().server_timing(ServerTiming::sampled(0.0).by_pragma(true));
    let bench = Bench::with(none, [Reply::cc("x", "max-age=60").field("server-timing", "db;dur=5")]);
    assert_eq!(timing(&bench.get("/").await), ["db;dur=5"]);
    assert_eq!(timing(&bench.get("/").await), [""; 0]);
    assert_eq!(timing(&bench.get_with("/", &[("pragma", "server-timing")]).await), ["cache;desc=hit"]);
    let some = cache_builder().server_timing(ServerTiming::sampled(50.0));
    let bench = Bench::with(some, [Reply::cc("x", "max-age=60")]);
    let mut timed = 0;
    for _ in 0..10 {
        timed += timing(&bench.get_with("/", &[("pragma", "server-timing")]).await).len();
    }
    assert_eq!(timed, 5);
}

#[tokio::test(start_paused = true)]
async fn cf15_a_layer_that_stores_nothing_and_one_with_bounded_calls_report_it_too() {
    let bench = Bench::with(timed().tag_only(), [slow(Reply::new("x"))]);
    assert_eq!(timing(&bench.get("/").await), ["cache;desc=pass, origin;dur=1500.0"]);
    let bounded = timed().call_limits(larder::CallLimits::new().total(1));
    let bench = Bench::with(bounded, [slow(Reply::cc("x", "no-store"))]);
    assert_eq!(timing(&bench.get("/").await), ["cache;desc=miss, origin;dur=1500.0"]);
    let options = bench.send(Method::OPTIONS, "/", &[]).await;
    assert_eq!(timing(&options), ["cache;desc=pass, origin;dur=1500.0"]);
}
