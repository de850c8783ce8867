//! Reported faults: the newer response counts (B3), and decisions use the time at which they are made (B8, B9, B16, B17).

use std::time::Duration;

use http::{Method, Request, Uri};
use http_body_util::Empty;
use larder::{FillLimits, MemoryStore, StandardPolicy};
use tower::{Layer, Service};

use super::validation::until_calls;
use crate::support::bench::read;
use crate::support::{
    Answer, Bench, Origin, Reply, Stage, Step, alone, cache_builder, cache_builder_over, settle,
};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

/// Why two calls for one key are not collapsed.
#[derive(Clone, Copy, Debug)]
enum Apart {
    /// The first one hangs.
    Hung,
    /// The key is known to give what nobody can share.
    Remembered,
}

/// The one of two calls that was sent first lands last. The dates are seconds from then on.
async fn first_call_lands_last(apart: Apart, dates: [Option<u64>; 2]) -> Stage {
    let stage = Stage::with(cache_builder().fill_limits(FillLimits::new().wait(Duration::from_secs(1))));
    if matches!(apart, Apart::Remembered) {
        let secret = Step::head(200, &[("cache-control", "no-store")]);
        stage.fill("/", &[secret, Step::End]).await;
    }
    let before = stage.origin.calls();
    let now = stage.clock.now();
    let heads = dates.map(|date| {
        let date = date.map(|seconds| httpdate::fmt_http_date(now + Duration::from_secs(seconds)));
        let date = date.as_deref().map(|date| ("date", date));
        let fields: Vec<_> = [FRESH].into_iter().chain(date).collect();
        Step::head(200, &fields)
    });
    let first = stage.get("/");
    settle().await;
    stage.later(10);
    let second = stage.get("/");
    settle().await;
    assert_eq!(stage.origin.calls(), before + 2, "{apart:?}");
    stage.origin.call(before + 1).steps(&[heads[1].clone(), Step::frame("second"), Step::End]);
    second.seen().await.has_body("second");
    stage.later(10);
    stage.origin.call(before).steps(&[heads[0].clone(), Step::frame("first"), Step::End]);
    first.seen().await.has_body("first");
    settle().await;
    stage
}

#[tokio::test(start_paused = true)]
async fn b03_the_response_of_a_later_call_stays_when_an_earlier_call_ends_last() {
    for apart in [Apart::Hung, Apart::Remembered] {
        for dates in
            [[Some(0), Some(10)], [Some(5), Some(5)], [None, None], [Some(3), None], [None, Some(10)]]
        {
            let stage = first_call_lands_last(apart, dates).await;
            let seen = stage.get("/").seen().await;
            assert!(seen.is_hit() && seen.body == "second", "{apart:?} {dates:?} {seen:?}");
        }
    }
    // The origin's own date says which is newer.
    let stage = first_call_lands_last(Apart::Remembered, [Some(15), Some(10)]).await;
    assert!(stage.get("/").seen().await.has_body("first").is_hit());
}

#[tokio::test]
async fn b03_a_background_validation_that_gets_another_response_ends_the_stale_window() {
    let stale = "max-age=60, stale-while-revalidate=600, stale-if-error=600";
    for news in [
        Reply::new("gone").status(404),
        Reply::new("gone").status(410),
        Reply::cc("one's own", "private"),
        Reply::cc("secret", "no-store"),
        Reply::cc("moved", "no-store").status(302),
        Reply::cc(&"large".repeat(1000), "max-age=60"),
        Reply::cc("", "max-age=60").frames(&["large".repeat(500).as_str(), "large".repeat(500).as_str()]),
    ] {
        let store = MemoryStore::builder().max_object(3000).build();
        let bench = Bench::with(cache_builder_over(store), [Reply::cc("old", stale).field("etag", "\"a\"")]);
        bench.get("/").await;
        bench.later(61);
        bench.origin.then(news.clone());
        assert!(bench.get("/").await.has_body("old").is_hit());
        until_calls(&bench, 2).await;
        // Neither while it is validated, nor in place of a failure, nor because a client would take it.
        bench.origin.then(Reply::refused());
        for directive in ["max-stale", "stale-if-error=1000"] {
            let next = bench.try_send(Method::GET, "/", &[("cache-control", directive)]).await;
            assert!(next.is_err() || next.unwrap().body != "old", "{news:?}");
        }
    }
}

#[tokio::test]
async fn b03_an_error_that_a_request_can_draw_does_not_end_the_stale_window() {
    for status in [400, 403, 405, 429, 500, 503] {
        let stale = "max-age=60, stale-while-revalidate=600";
        let bench = Bench::new([Reply::cc("old", stale)]);
        bench.get("/").await;
        bench.later(61);
        bench.origin.then(Reply::new("bad").status(status));
        assert!(bench.get("/").await.has_body("old").is_hit());
        until_calls(&bench, 2).await;
        assert!(bench.get("/").await.has_body("old").is_hit(), "{status}");
    }
}

#[tokio::test]
async fn b03_the_response_to_a_head_does_not_end_the_stale_window() {
    let stale = "max-age=60, stale-if-error=600, stale-while-revalidate=600";
    for answer in [Reply::new("").frames(&[]), Reply::new("").status(404)] {
        let bench = Bench::heeding([Reply::cc("", stale).frames(&["old"])]);
        bench.get("/").await.has_body("old");
        bench.origin.then(answer);
        bench.send(Method::HEAD, "/", &[("cache-control", "no-cache")]).await;
        bench.later(61);
        bench.origin.then(Reply::refused());
        assert!(bench.get("/").await.has_body("old").is_hit());
    }
}

#[tokio::test]
async fn b03_a_validation_with_credentials_takes_the_response_from_nobody() {
    let bench = Bench::rfc9111([Reply::cc("page", "max-age=60").field("etag", "\"a\"")]);
    let person = [("authorization", "Bearer x")];
    for answer in [Reply::new("").status(304).field("etag", "\"a\""), Reply::cc("page", "max-age=60")] {
        bench.get("/").await;
        bench.later(61);
        bench.origin.then(answer);
        assert_eq!(bench.get_with("/", &person).await.status, 200);
        bench.origin.then(Reply::refused());
        bench.get("/").await.has_body("page");
        bench.origin.then(Reply::cc("page", "max-age=60").field("etag", "\"a\""));
    }
}

#[tokio::test]
async fn b03_a_new_response_with_another_vary_ends_the_stale_window_of_the_old_one() {
    let bench = Bench::new([Reply::cc("old", "max-age=60, stale-while-revalidate=600")]);
    bench.get("/").await;
    bench.later(61);
    bench.origin.then(Reply::cc("english", "max-age=60").field("vary", "accept-language"));
    assert!(bench.get_with("/", &[("accept-language", "en")]).await.has_body("old").is_hit());
    until_calls(&bench, 2).await;
    assert!(bench.get_with("/", &[("accept-language", "en")]).await.has_body("english").is_hit());
    bench.origin.then(Reply::cc("deutsch", "max-age=60").field("vary", "accept-language"));
    bench.get_with("/", &[("accept-language", "de")]).await.has_body("deutsch");
}

#[tokio::test(start_paused = true)]
async fn b07_a_late_error_does_not_replace_a_response_that_came_meanwhile() {
    for status in [503, 600] {
        let stage = Stage::new();
        // The key is known to give what nobody can share: two calls side by side.
        stage.fill("/", &[Step::head(200, &[("cache-control", "no-store")]), Step::End]).await;
        let first = stage.get("/");
        settle().await;
        let second = stage.get("/");
        settle().await;
        stage.origin.call(2).steps(&[Step::head(200, &[FRESH]), Step::frame("good"), Step::End]);
        second.seen().await.has_body("good");
        stage.later(10);
        stage.origin.call(1).steps(&[Step::head(status, &[FRESH]), Step::frame("bad"), Step::End]);
        first.seen().await.has_body("bad");
        settle().await;
        assert!(stage.get("/").seen().await.has_body("good").is_hit(), "{status}");
    }
}

#[tokio::test]
async fn b03_a_fresh_response_stays_fresh_after_a_newer_one_that_is_not_stored() {
    let bench = Bench::heeding([Reply::cc("old", "max-age=60, stale-while-revalidate=600")]);
    bench.get("/").await;
    bench.origin.then(Reply::cc("new", "no-store"));
    bench.get_with("/", &[("cache-control", "no-cache")]).await.has_body("new");
    assert!(bench.get("/").await.has_body("old").is_hit());
    bench.later(61);
    bench.get("/").await.has_body("new");
}

#[tokio::test]
async fn b03_a_softly_purged_response_is_not_served_after_a_newer_one_that_is_not_stored() {
    let bench = Bench::new([Reply::cc("old", "max-age=60, stale-while-revalidate=600")]);
    bench.get("/").await;
    bench.handle.soft_purge(&Uri::from_static("http://example.com/")).await.unwrap();
    bench.origin.then(Reply::cc("new", "private"));
    assert!(bench.get("/").await.has_body("old").is_hit());
    until_calls(&bench, 2).await;
    bench.get("/").await.has_body("new");
}

#[tokio::test]
async fn b03_a_response_dated_in_the_future_is_not_preferred_for_ever() {
    let bench = Bench::heeding([]);
    let ahead = bench.date(86_400);
    bench.origin.then(Reply::cc("ahead", "max-age=600").field("vary", "x").field("date", &ahead));
    bench.get_with("/", &[("x", "1")]).await;
    bench.later(1);
    let now = bench.date(0);
    bench.origin.then(Reply::cc("newer", "max-age=600").field("date", &now));
    bench.get_with("/", &[("x", "1"), ("cache-control", "no-cache")]).await.has_body("newer");
    assert!(bench.get_with("/", &[("x", "1")]).await.has_body("newer").is_hit());
}

#[tokio::test]
async fn b08_the_ttl_of_a_purged_stand_in_counts_from_the_purge() {
    let bench = Bench::new([Reply::cc("x", "max-age=60, stale-if-error=600")]);
    bench.get("/").await;
    bench.later(10);
    bench.handle.soft_purge(&Uri::from_static("http://example.com/")).await.unwrap();
    bench.later(7);
    bench.origin.then(Reply::refused());
    bench.get("/").await.has_body("x").told("larder; fwd=stale; ttl=-7; detail=\"stale-if-error\"");
    bench.origin.then(Reply::new("").status(503));
    bench
        .get("/")
        .await
        .has_body("x")
        .told("larder; fwd=stale; fwd-status=503; ttl=-7; detail=\"stale-if-error\"");
}

#[tokio::test(start_paused = true)]
async fn b09_a_follower_decides_by_the_time_at_which_it_continues() {
    let limits = FillLimits::new().wait(Duration::from_secs(30));
    let stage = Stage::with(cache_builder().fill_limits(limits));
    let leader = stage.get("/").reading();
    settle().await;
    // The tag that decides is made of the whole.
    let follower = stage.get_with("/", &[("if-none-match", "\"x\"")]);
    settle().await;
    stage.later(10);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let call = stage.origin.call(0);
    call.head(&[FRESH, ("content-length", "6")]).frame("pan");
    settle().await;
    assert!(follower.is_waiting());
    call.frame("try").end();
    leader.await.unwrap().has_body("pantry");
    let seen = follower.seen().await.has_body("pantry");
    // Which it is depends on whether the store has it by then.
    let known = ["larder; hit; ttl=50", "larder; fwd=uri-miss; stored; collapsed; ttl=50"];
    assert!(known.contains(&seen.cache_status()), "{seen:?}");
    assert_eq!(stage.origin.calls(), 1);
}

#[test]
fn b16_without_a_runtime_a_stale_response_is_validated_before_the_answer() {
    let (clock, hand) = larder::Clock::manual();
    let origin = Origin::new([Reply::cc("old", "max-age=60, stale-while-revalidate=600")]);
    let policy = StandardPolicy::default().refresh_ahead(Some(Duration::from_secs(10)));
    let mut cache = cache_builder().policy(policy).clock(clock).build().layer(origin.clone());
    let mut get = || {
        let request = Request::get("http://a/").body(Empty::<bytes::Bytes>::new()).unwrap();
        let answer = cache.call(request);
        alone(async { read(answer.await.unwrap()).await })
    };
    get().has_body("old");
    hand.advance(Duration::from_secs(55));
    get().has_body("old").told("larder; hit; ttl=5");
    hand.advance(Duration::from_secs(10));
    origin.then(Reply::cc("new", "max-age=60"));
    get().has_body("new").told("larder; fwd=stale; stored; ttl=60");
    assert!(get().has_body("new").is_hit());
}

#[tokio::test(start_paused = true)]
async fn b17_a_herd_waits_no_longer_for_a_service_error_than_for_a_500() {
    let mut rounds = Vec::new();
    for failure in [Step::Refuse, Step::Panic, Step::head(500, &[])] {
        let stage = Stage::new();
        let herd = stage.herd(24, &[]);
        settle().await;
        let mut calls = Vec::new();
        let mut before = 0;
        while herd.iter().any(|client| client.is_waiting()) {
            calls.push(stage.origin.calls() - before);
            before = stage.origin.calls();
            assert!(calls.len() < 10, "{failure:?}");
            for call in stage.origin.calls_from(0) {
                call.step(failure.clone()).end();
            }
            settle().await;
        }
        for client in herd {
            let is_alike = match client.answer().await {
                Answer::Refused => matches!(failure, Step::Refuse),
                Answer::Panicked => matches!(failure, Step::Panic),
                Answer::Response(response) => response.status() == 500,
            };
            assert!(is_alike, "{failure:?}");
        }
        rounds.push(calls);
    }
    // One call, one more, and then a few at a time.
    assert_eq!(rounds, vec![vec![1, 1, 8, 8, 6]; 3]);
}

const RANGES: (&str, &str) = ("cache-control", "max-age=600");

/// The head of a 206 with these bytes of ten, of the representation with this tag.
fn part(range: &str, tag: &str) -> Step {
    let range = format!("bytes {range}/10");
    Step::head(206, &[RANGES, ("content-range", &range), ("etag", tag)])
}

#[tokio::test(start_paused = true)]
async fn b03_parts_that_arrive_in_any_order_are_combined_or_the_newer_one_stays() {
    for (tag_of_first, expected) in [("\"v2\"", "0123456789"), ("\"v1\"", "")] {
        let stage = Stage::with(cache_builder().policy(StandardPolicy::rfc9111()));
        let range = |range| stage.get_with("/", &[("range", range)]);
        let first = range("bytes=0-4");
        settle().await;
        stage.later(1);
        let second = range("bytes=5-9");
        settle().await;
        stage.origin.call(1).steps(&[part("5-9", "\"v2\""), Step::frame("56789"), Step::End]);
        second.seen().await.has_body("56789");
        stage.later(1);
        stage.origin.call(0).steps(&[part("0-4", tag_of_first), Step::frame("01234"), Step::End]);
        first.seen().await.has_body("01234");
        settle().await;
        let stored = |range| stage.get_with("/", &[("range", range), ("cache-control", "only-if-cached")]);
        assert!(stored("bytes=5-9").seen().await.has_body("56789").is_hit(), "{tag_of_first}");
        let whole = stage.get_with("/", &[("cache-control", "only-if-cached")]).seen().await;
        assert_eq!(whole.body, expected, "{tag_of_first}");
    }
}

#[tokio::test(start_paused = true)]
async fn b03_a_whole_response_that_was_requested_before_a_part_replaces_the_part() {
    let stage = Stage::with(cache_builder().policy(StandardPolicy::rfc9111()));
    let whole = stage.get("/").reading();
    settle().await;
    stage.later(1);
    let range = stage.get_with("/", &[("range", "bytes=5-9")]);
    settle().await;
    stage.origin.call(1).steps(&[part("5-9", "\"v1\""), Step::frame("56789"), Step::End]);
    range.seen().await.has_body("56789");
    stage.later(1);
    let call = stage.origin.call(0);
    call.head(&[RANGES, ("etag", "\"v1\"")]).frame("01234").frame("56789").end();
    whole.await.unwrap().has_body("0123456789");
    settle().await;
    assert!(stage.get("/").seen().await.has_body("0123456789").is_hit());
}
