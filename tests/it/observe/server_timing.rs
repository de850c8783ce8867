//! `Server-Timing`: what the cache did, for a browser's own tools.

use std::time::Duration;

use http::Method;
use larder::ServerTiming;

use crate::support::bench::Seen;
use crate::support::stores::at_rest;
use crate::support::{Bench, Reply, cache_builder};

fn bench(timing: ServerTiming, replies: impl IntoIterator<Item = Reply>) -> Bench {
    Bench::with(cache_builder().server_timing(timing), replies)
}

fn lines(seen: &Seen) -> Vec<&str> {
    seen.fields.get_all("server-timing").into_iter().map(|line| line.to_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn cf15_an_answer_says_what_the_cache_did_and_how_long_the_origin_took() {
    let slow =
        Reply::cc("x", "max-age=60").field("server-timing", "db;dur=53").after(Duration::from_millis(250));
    let bench = bench(ServerTiming::always(), [slow.field("etag", "\"1\"")]);
    let miss = bench.get("/").await;
    assert_eq!(lines(&miss), ["db;dur=53", "cache;desc=miss, origin;dur=250.0"]);
    at_rest().await;
    // The origin's own tells of another request.
    assert_eq!(lines(&bench.get("/").await), ["cache;desc=hit"]);
    let condition = [("if-none-match", "\"1\"")];
    let unchanged = bench.get_with("/", &condition).await;
    assert_eq!((unchanged.status.as_u16(), lines(&unchanged)), (304, vec!["cache;desc=hit"]));
    bench.later(61);
    bench.origin.not_modified(Some(Reply::cc("", "max-age=60").status(304)));
    let refreshed = bench.get("/").await;
    assert_eq!(refreshed.cache_status(), "larder; fwd=stale; fwd-status=304; stored; ttl=60");
    assert!(
        lines(&refreshed).last().unwrap().starts_with("cache;desc=refresh, origin;dur="),
        "{refreshed:?}"
    );
    let passed = bench.send(Method::POST, "/", &[]).await;
    assert_eq!(lines(&passed), ["db;dur=53", "cache;desc=pass, origin;dur=250.0"]);
    let none = bench.get_with("/other", &[("cache-control", "only-if-cached")]).await;
    assert_eq!(lines(&none), ["cache;desc=none"]);
}

#[tokio::test]
async fn cf15_what_is_not_sampled_has_the_origins_own_on_a_miss_and_nothing_on_a_hit() {
    let reply = Reply::cc("x", "max-age=60").field("server-timing", "db;dur=53");
    let bench = bench(ServerTiming::sampled(0.0).on_request(true), [reply]);
    assert_eq!(lines(&bench.get("/").await), ["db;dur=53"]);
    at_rest().await;
    assert!(lines(&bench.get("/").await).is_empty());
    let asked = bench.get_with("/", &[("pragma", "server-timing")]).await;
    assert_eq!(lines(&asked), ["cache;desc=hit"]);
}

#[tokio::test]
async fn without_the_option_server_timing_is_a_field_like_others() {
    let reply = Reply::cc("x", "max-age=60").field("server-timing", "db;dur=53");
    let bench = Bench::new([reply]);
    bench.get("/").await;
    at_rest().await;
    assert_eq!(lines(&bench.get("/").await), ["db;dur=53"]);
}
