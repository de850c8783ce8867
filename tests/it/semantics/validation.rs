//! Validation and stale responses (RFC 9111 4.2.4, 4.3; RFC 5861).

use http::Method;
use larder::{FillLimits, MemoryStore, StandardPolicy};
use std::time::Duration;

use crate::support::{Bench, Reply, Stage, Step, cache_builder, cache_builder_over, settle};

fn tagged(body: &str, cache_control: &str) -> Reply {
    Reply::cc(body, cache_control).field("etag", "\"a\"")
}

fn not_modified() -> Reply {
    Reply::new("").status(304).field("etag", "\"a\"")
}

#[tokio::test]
async fn vl1_a_stale_response_is_validated_with_the_origins_validators() {
    let bench = Bench::new([]);
    let modified = bench.date(-100);
    bench.origin.then(tagged("x", "max-age=60").field("last-modified", &modified).field("vary", "accept"));
    bench.get_with("/", &[("accept", "text/html")]).await;
    bench.later(61);
    bench.origin.then(not_modified().field("cache-control", "max-age=60").field("x-new", "1"));
    let seen = bench
        .get_with("/", &[("accept", "text/html"), ("if-none-match", "\"mine\""), ("range", "bytes=0-0")])
        .await
        .told("larder; fwd=stale; fwd-status=304; stored; ttl=60")
        .has_body("x");
    assert_eq!((seen.status.as_u16(), seen.field("x-new"), seen.age()), (206, Some("1"), Some(0)));
    let sent = bench.origin.last().headers;
    assert_eq!(sent["if-none-match"], "\"a\"");
    assert_eq!(sent["if-modified-since"], modified.as_str());
    assert_eq!(sent["accept"], "text/html");
    assert!(!sent.contains_key("range"));
    let hit = bench.get_with("/", &[("accept", "text/html")]).await.told("larder; hit; ttl=60");
    assert_eq!(hit.field("x-new"), Some("1"));
}

#[tokio::test]
async fn vl1_a_generated_tag_is_never_sent_upstream() {
    let bench = Bench::new([Reply::cc("x", "max-age=60")]);
    assert!(bench.get("/").await.field("etag").is_some());
    bench.later(61);
    bench.get("/").await.told("larder; fwd=stale; stored; ttl=60");
    assert!(!bench.origin.last().headers.contains_key("if-none-match"));
}

#[tokio::test]
async fn vl2_a_304_keeps_a_generated_tag() {
    let bench = Bench::new([]);
    let modified = bench.date(-100);
    bench.origin.then(Reply::cc("x", "max-age=60").field("last-modified", &modified));
    let tag = bench.get("/").await.field("etag").unwrap().to_owned();
    bench.later(61);
    bench.origin.then(
        Reply::new("").status(304).field("last-modified", &modified).field("cache-control", "max-age=9"),
    );
    let seen = bench.get("/").await.told("larder; fwd=stale; fwd-status=304; stored; ttl=9");
    assert_eq!(seen.field("etag"), Some(tag.as_str()));
    bench.later(10);
    bench.get("/").await;
    assert!(!bench.origin.last().headers.contains_key("if-none-match"));
}

#[tokio::test]
async fn vl2_a_304_for_an_unknown_tag_changes_nothing() {
    let bench = Bench::new([tagged("x", "max-age=60")]);
    bench.get("/").await;
    bench.later(61);
    bench.origin.then(Reply::new("").status(304).field("etag", "\"unknown\"").field("x-new", "1"));
    let seen = bench.get_with("/", &[("if-none-match", "\"unknown\"")]).await;
    assert_eq!((seen.status.as_u16(), seen.field("etag")), (304, Some("\"unknown\"")));
    let stale = bench.get_with("/", &[("cache-control", "only-if-cached, max-stale")]).await.has_body("x");
    assert_eq!(stale.field("x-new"), None);
}

#[tokio::test]
async fn vl3_a_full_response_replaces_the_stored_one() {
    let bench = Bench::new([tagged("old", "max-age=60"), tagged("new", "max-age=60")]);
    bench.get("/").await;
    bench.later(61);
    bench.get("/").await.has_body("new").told("larder; fwd=stale; stored; ttl=60");
    bench.get("/").await.has_body("new").told("larder; hit; ttl=60");
}

#[tokio::test]
async fn vl6_a_clients_conditions_do_not_affect_the_stored_response() {
    let bench = Bench::new([tagged("x", "max-age=60")]);
    let seen = bench.get_with("/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!((seen.status.as_u16(), seen.body.as_str()), (304, ""));
    assert!(!bench.origin.last().headers.contains_key("if-none-match"));
    bench.get("/").await.has_body("x").told("larder; hit; ttl=60");
}

#[tokio::test(start_paused = true)]
async fn vl6_a_stream_is_stored_although_its_client_gets_a_304() {
    let bench = Bench::new([tagged("", "max-age=60").frames(&["on", "e"])]);
    let seen = bench.get_with("/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!((seen.status.as_u16(), seen.body.as_str()), (304, ""));
    // The pump is a task of its own; let it run to its end.
    settle().await;
    assert_eq!(bench.handle.statistics().entries, 1);
    assert!(bench.get("/").await.has_body("one").is_hit());
}

#[tokio::test(start_paused = true)]
async fn re3_stale_while_revalidate_serves_at_once_and_validates_in_the_background() {
    let bench =
        Bench::new([tagged("old", "max-age=60, stale-while-revalidate=60"), tagged("new", "max-age=60")]);
    bench.get("/").await;
    bench.later(70);
    bench.get("/").await.has_body("old").told("larder; hit; ttl=-10; detail=\"stale-while-revalidate\"");
    settle().await;
    assert_eq!(bench.origin.calls(), 2);
    assert_eq!(bench.origin.last().headers["if-none-match"], "\"a\"");
    bench.get("/").await.told("larder; hit; ttl=60").has_body("new");
    assert_eq!(bench.origin.calls(), 2);
}

#[tokio::test]
async fn re3_after_its_window_a_stale_response_is_not_served() {
    let bench =
        Bench::new([tagged("old", "max-age=60, stale-while-revalidate=60"), tagged("new", "max-age=60")]);
    bench.get("/").await;
    bench.later(121);
    bench.get("/").await.has_body("new");
}

#[tokio::test]
async fn re4_stale_if_error_hides_a_failure_within_its_window() {
    for failure in [Reply::refused(), Reply::new("").status(500), Reply::new("").status(503)] {
        let bench = Bench::new([tagged("x", "max-age=60, stale-if-error=60")]);
        bench.get("/").await;
        bench.later(70);
        bench.origin.then(failure);
        let seen = bench.get("/").await.has_body("x");
        assert_eq!((seen.status.as_u16(), seen.age()), (200, Some(70)));
        assert!(seen.cache_status().contains("detail=\"stale-if-error\""), "{seen:?}");
        bench.later(60);
        let past_the_window = bench.try_send(Method::GET, "/", &[]).await;
        assert!(past_the_window.is_err() || past_the_window.unwrap().status.is_server_error());
    }
}

#[tokio::test]
async fn re4_an_option_of_the_policy_allows_stale_if_error() {
    let policy = StandardPolicy::default().stale_if_error(Duration::from_secs(300));
    let bench = Bench::with(cache_builder().policy(policy), [tagged("x", "max-age=60")]);
    bench.get("/").await;
    bench.later(200);
    bench.origin.then(Reply::refused());
    bench.get("/").await.has_body("x");
}

#[tokio::test]
async fn without_stale_if_error_the_failure_is_the_answer() {
    let bench = Bench::new([tagged("x", "max-age=60")]);
    bench.get("/").await;
    bench.later(61);
    bench.origin.then(Reply::new("broken").status(500));
    assert_eq!(bench.get("/").await.has_body("broken").status, 500);
    bench.origin.then(Reply::refused());
    assert!(bench.try_send(Method::GET, "/", &[]).await.is_err());
}

#[tokio::test]
async fn re2_must_revalidate_gives_504_when_the_origin_fails() {
    for directive in ["must-revalidate", "proxy-revalidate", "s-maxage=60"] {
        let cache_control =
            format!("max-age=60, stale-if-error=600, stale-while-revalidate=600, {directive}");
        let bench = Bench::new([tagged("x", &cache_control)]);
        bench.get("/").await;
        bench.later(61);
        bench.origin.then(Reply::refused());
        let seen = bench.get("/").await.told("larder; fwd=stale; detail=\"service-failed\"");
        assert_eq!(seen.status, 504, "{directive}");
    }
}

#[tokio::test]
async fn f15_a_5xx_never_replaces_a_stored_good_response() {
    let bench = Bench::new([tagged("good", "max-age=60")]);
    bench.get("/").await;
    bench.later(61);
    bench.origin.then(Reply::cc("bad", "max-age=60").status(503));
    bench.get("/").await.has_body("bad");
    bench.origin.then(not_modified().field("cache-control", "max-age=60"));
    bench.get("/").await.has_body("good").told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
}

#[tokio::test]
async fn x_cache_has_the_words_of_cloudfront() {
    let bench = Bench::with(cache_builder().x_cache(true), [tagged("x", "max-age=60")]);
    let x_cache = |seen: crate::support::Seen| seen.field("x-cache").unwrap().to_owned();
    assert_eq!(x_cache(bench.get("/").await), "Miss from larder");
    assert_eq!(x_cache(bench.get("/").await), "Hit from larder");
    bench.later(61);
    bench.origin.then(not_modified().field("cache-control", "max-age=60"));
    assert_eq!(x_cache(bench.get("/").await), "RefreshHit from larder");
    bench.origin.then(Reply::new("").status(404));
    assert_eq!(x_cache(bench.get("/missing").await), "Error from larder");
    assert_eq!(x_cache(bench.send(Method::POST, "/missing", &[]).await), "Error from larder");
}

#[tokio::test(start_paused = true)]
async fn re3_a_clients_no_store_holds_for_its_background_validation() {
    let bench =
        Bench::new([tagged("old", "max-age=60, stale-while-revalidate=60"), tagged("new", "max-age=60")]);
    bench.get("/").await;
    bench.later(70);
    bench.get_with("/", &[("cache-control", "no-store")]).await.has_body("old");
    settle().await;
    assert_eq!(bench.origin.calls(), 2);
    assert_eq!(bench.get_with("/", &[("cache-control", "only-if-cached")]).await.body, "old");
}

#[tokio::test]
async fn a_304_to_the_first_client_keeps_its_set_cookie() {
    let reply = tagged("x", "max-age=60, private=\"set-cookie\"").field("set-cookie", "a=b");
    let bench = Bench::new([reply]);
    let first = bench.get_with("/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!((first.status.as_u16(), first.field("set-cookie")), (304, Some("a=b")));
    let second = bench.get_with("/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!((second.status.as_u16(), second.field("set-cookie")), (304, None));
}

#[tokio::test(start_paused = true)]
async fn re4_a_latency_budget_serves_stale_and_the_call_continues() {
    let policy = StandardPolicy::default().latency_budget(Some(Duration::from_millis(100)));
    let fresh = Reply::cc("new", "max-age=60, stale-if-error=60");
    let bench = Bench::with(
        cache_builder().policy(policy),
        [Reply::cc("old", "max-age=60, stale-if-error=60"), fresh.clone().after(Duration::from_secs(2))],
    );
    bench.get("/").await;
    bench.later(61);
    let started = tokio::time::Instant::now();
    let seen = bench.get("/").await.told("larder; fwd=stale; ttl=-1; detail=\"latency-budget\"");
    assert_eq!((seen.body.as_str(), started.elapsed()), ("old", Duration::from_millis(100)));
    tokio::time::sleep(Duration::from_secs(3)).await;
    bench.get("/").await.told("larder; hit; ttl=60").has_body("new");
    assert_eq!(bench.origin.calls(), 2);
    // In time, it is an answer as any other; out of the window, it is waited for.
    bench.later(61);
    bench.origin.then(fresh.clone().after(Duration::from_millis(50)));
    bench.get("/").await.told("larder; fwd=stale; stored; ttl=60");
    bench.later(121);
    bench.origin.then(fresh.after(Duration::from_secs(2)));
    bench.get("/").await.told("larder; fwd=stale; stored; ttl=60");
}

#[tokio::test(start_paused = true)]
async fn re4_must_revalidate_outweighs_a_latency_budget() {
    let policy = StandardPolicy::rfc9111().latency_budget(Some(Duration::from_millis(100)));
    let reply = || Reply::cc("x", "max-age=60, must-revalidate");
    let layer = cache_builder().policy(policy);
    let bench = Bench::with(layer, [reply(), reply().after(Duration::from_secs(2))]);
    bench.get("/").await;
    bench.later(61);
    bench.get("/").await.told("larder; fwd=stale; stored; ttl=60");
}

#[tokio::test(start_paused = true)]
async fn re3_a_failed_background_validation_is_not_repeated_at_once() {
    let reply = || Reply::cc("x", "max-age=60, stale-while-revalidate=1000");
    let bench = Bench::new([reply(), Reply::new("").status(503)]);
    bench.get("/").await;
    bench.later(61);
    for _ in 0..20 {
        assert!(bench.get("/").await.is_hit());
        settle().await;
    }
    assert_eq!(bench.origin.calls(), 2, "one validation, which failed");
    bench.later(2);
    for expected in [3, 3] {
        assert!(bench.get("/").await.is_hit());
        settle().await;
        assert_eq!(bench.origin.calls(), expected);
    }
    bench.later(4);
    bench.origin.then(reply());
    assert!(bench.get("/").await.is_hit());
    settle().await;
    bench.get("/").await.told("larder; hit; ttl=60");
}

#[tokio::test(start_paused = true)]
async fn a_response_requested_shortly_before_it_expires_is_refreshed() {
    let policy = StandardPolicy::default().refresh_ahead(Some(Duration::from_secs(10)));
    let bench = Bench::with(
        cache_builder().policy(policy),
        [Reply::cc("old", "max-age=60"), Reply::cc("new", "max-age=60")],
    );
    bench.get("/").await;
    bench.later(49);
    bench.get("/").await.told("larder; hit; ttl=11");
    settle().await;
    assert_eq!(bench.origin.calls(), 1);
    bench.later(1);
    bench.get("/").await.told("larder; hit; ttl=10").has_body("old");
    settle().await;
    bench.get("/").await.told("larder; hit; ttl=60").has_body("new");
    assert_eq!(bench.origin.calls(), 2);
}

/// Its bound is that of validations; that of fills which nobody waits for is not its own.
#[tokio::test(start_paused = true)]
async fn re3_the_response_to_a_background_validation_is_stored_even_if_it_streams() {
    const SWR: (&str, &str) = ("cache-control", "max-age=60, stale-while-revalidate=600");
    for fields in [&[SWR][..], &[SWR, ("content-length", "6")]] {
        let stage = Stage::with(cache_builder().fill_limits(FillLimits::new().detached(0)));
        stage.fill("/", &[Step::head(200, &[SWR]), Step::frame("old"), Step::End]).await.has_body("old");
        stage.later(100);
        stage.get("/").seen().await.has_body("old");
        crate::support::settle().await;
        let call = stage.origin.call(1);
        for step in [Step::head(200, fields), Step::frame("pan"), Step::frame("try"), Step::End] {
            call.step(step);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(stage.get("/").seen().await.has_body("pantry").is_hit(), "{fields:?}");
        let fills = stage.handle.fills();
        assert_eq!((stage.origin.calls(), fills.fills, fills.detached, fills.in_flight), (2, 0, 0, 0));
    }
}

/// And what turns out too large for that is not fetched for nobody.
#[tokio::test(start_paused = true)]
async fn re3_a_background_validation_that_gets_too_large_content_is_cancelled() {
    let store = MemoryStore::builder().max_object(1_000).build();
    let stage = Stage::with(cache_builder_over(store));
    let swr = ("cache-control", "max-age=60, stale-while-revalidate=600");
    stage.fill("/", &[Step::head(200, &[swr]), Step::frame("old"), Step::End]).await.has_body("old");
    stage.later(100);
    stage.get("/").seen().await.has_body("old");
    crate::support::settle().await;
    let call = stage.origin.call(1);
    call.head(&[swr]).frame("x".repeat(900)).frame("x".repeat(900));
    crate::support::settle().await;
    assert!(!call.is_open());
}

/// Half of something new is worse than all of something stale.
#[tokio::test(start_paused = true)]
async fn re4_small_content_is_prefetched_if_there_is_a_stand_in() {
    const SIE: (&str, &str) = ("cache-control", "max-age=60, stale-if-error=600");
    for budget in [None, Some(Duration::from_millis(500))] {
        let policy = StandardPolicy::default().latency_budget(budget);
        let stage = Stage::with(cache_builder().policy(policy));
        stage.fill("/", &[Step::head(200, &[SIE]), Step::frame("old"), Step::End]).await.has_body("old");
        stage.later(100);
        let clients = stage.herd(10, &[]);
        crate::support::settle().await;
        let call = stage.origin.call(1);
        call.head(&[SIE, ("content-length", "6")]).frame("pan");
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert!(clients.iter().all(|client| client.is_waiting() == budget.is_none()));
        call.step(Step::Fail);
        let detail = if budget.is_some() { "latency-budget" } else { "stale-if-error" };
        let mut followers = 0;
        for client in clients {
            let seen = client.seen().await.has_body("old");
            let follows = seen.cache_status().contains("; collapsed");
            followers += usize::from(follows);
            let collapsed = if follows { " collapsed;" } else { "" };
            seen.told(&format!("larder; fwd=stale;{collapsed} ttl=-40; detail=\"{detail}\""));
        }
        assert_eq!(followers, 9);
    }
}

/// A second is enough: what takes longer is a stream, and the one that is stored when it is whole.
#[tokio::test(start_paused = true)]
async fn re4_slow_small_content_is_streamed_although_there_is_a_stand_in() {
    const SIE: (&str, &str) = ("cache-control", "max-age=60, stale-if-error=86400");
    let stage = Stage::new();
    stage.fill("/", &[Step::head(200, &[SIE]), Step::frame("old"), Step::End]).await.has_body("old");
    stage.later(100);
    let mut clients = Vec::new();
    for second in 0..8 {
        clients.push(stage.get("/").reading());
        crate::support::settle().await;
        let call = stage.origin.call(1);
        match second {
            0 => call.head(&[SIE, ("content-length", "6")]),
            1..=6 => call.frame("a"),
            _ => call.end(),
        };
        stage.later(1);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for client in clients {
        client.await.unwrap().has_body("aaaaaa");
    }
    assert!(stage.get("/").seen().await.has_body("aaaaaa").is_hit());
    assert_eq!(stage.origin.calls(), 2);
}

/// What is gone does not come back because the news of it broke off.
#[tokio::test(start_paused = true)]
async fn re4_only_broken_content_that_would_have_replaced_the_stand_in_gets_it() {
    const SIE: (&str, &str) = ("cache-control", "max-age=60, stale-if-error=86400");
    for (status, fields, is_old) in [
        (200, &[SIE][..], true),
        (203, &[SIE], true),
        (410, &[SIE], false),
        (404, &[], false),
        (301, &[SIE, ("location", "/b")], false),
        (200, &[("cache-control", "private")], false),
    ] {
        let stage = Stage::new();
        stage.fill("/", &[Step::head(200, &[SIE]), Step::frame("old"), Step::End]).await.has_body("old");
        stage.later(100);
        let client = stage.get("/");
        crate::support::settle().await;
        let fields: Vec<_> = fields.iter().copied().chain([("content-length", "6")]).collect();
        stage.origin.call(1).step(Step::head(status, &fields)).frame("pan").step(Step::Fail);
        let seen = client.seen().await;
        assert_eq!((seen.body == "old", seen.broken), (is_old, !is_old), "{status} {fields:?} {seen:?}");
    }
}

/// Nor do those wait on who have waited for it to become whole.
#[tokio::test(start_paused = true)]
async fn re4_followers_that_wait_for_the_whole_get_the_stand_in() {
    const TAG: (&str, &str) = ("etag", "\"1\"");
    let mine = ("cache-control", "stale-if-error=600");
    for fails in [true, false] {
        let stage = Stage::new();
        let fresh = ("cache-control", "max-age=60");
        stage
            .fill("/", &[Step::head(200, &[fresh, TAG]), Step::frame("old"), Step::End])
            .await
            .has_body("old");
        stage.later(100);
        let leader = stage.get("/").reading();
        crate::support::settle().await;
        let followers = stage.herd(20, &[("range", "bytes=0-1"), mine]);
        crate::support::settle().await;
        let call = stage.origin.call(1);
        call.head(&[fresh, ("content-length", "6")]).frame("pan");
        tokio::time::sleep(Duration::from_secs(1)).await;
        if fails {
            call.step(Step::Fail);
        }
        for follower in followers {
            let seen = follower.seen().await.has_body("ol");
            assert!(seen.cache_status().ends_with("detail=\"stale-if-error\""), "{seen:?}");
        }
        assert_eq!(stage.origin.calls(), 2);
        leader.abort();
    }
}
