//! What is reported, where nothing is stored.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Empty;
use larder::{CallLimits, Event, Outcome};
use tower::Service;

use super::hooks::OutOfTheWay;
use super::{tag, tagging};
use crate::support::{Bench, CacheBuilder, Reply, Stage, cache_builder, settle};

#[tokio::test]
async fn the_layer_sends_cache_status_only_where_it_is_asked_for() {
    let requests: [(Method, &[(&str, &str)], u16, &str); 7] = [
        (Method::GET, &[], 200, "fwd=bypass; detail=\"switched-off\""),
        (Method::HEAD, &[], 200, "fwd=bypass; detail=\"switched-off\""),
        (Method::GET, &[("if-none-match", "*")], 304, "fwd=bypass; detail=\"switched-off\""),
        (Method::GET, &[("if-match", "\"other\"")], 412, "fwd=bypass; detail=\"switched-off\""),
        (Method::POST, &[], 200, "fwd=method"),
        (Method::GET, &[("upgrade", "x"), ("connection", "upgrade")], 200, "fwd=bypass; detail=\"upgrade\""),
        (Method::GET, &[("content-length", "1")], 200, "fwd=bypass; detail=\"content\""),
    ];
    let layer = cache_builder;
    for (layer, is_asked) in [
        (layer().tag_only(), false),
        (layer().tag_only().cache_status(true), true),
        (layer().cache_status(true).tag_only(), true),
        (layer().tag_only().cache_status(true).cache_status(false), false),
    ] {
        let bench = Bench::with(layer, [Reply::new("x").field("etag", "\"own\"")]);
        for (method, fields, status, member) in &requests {
            let seen = bench.send(method.clone(), "/", fields).await;
            let member = is_asked.then(|| format!("larder; {member}"));
            assert_eq!((seen.status.as_u16(), seen.field("cache-status")), (*status, member.as_deref()));
        }
    }
}

#[tokio::test]
async fn other_caches_members_pass_and_x_cache_has_an_option_of_its_own() {
    let reply = || Reply::new("x").field("cache-status", "origin; hit");
    let seen = tagging([reply()]).get("/").await;
    assert_eq!((seen.field("cache-status"), seen.field("x-cache")), (Some("origin; hit"), None));
    let bench = Bench::with(cache_builder().tag_only().x_cache(true), [reply()]);
    let seen = bench.get("/").await;
    assert_eq!(
        (seen.field("cache-status"), seen.field("x-cache")),
        (Some("origin; hit"), Some("Miss from larder"))
    );
}

#[tokio::test]
async fn the_key_is_in_cache_status_or_nowhere() {
    let layer = || cache_builder().tag_only().key_in_cache_status(true);
    let reply = || Reply::new("x").field("cache-status", "origin; hit");
    // No key is made that nobody gets to see: this policy would not give one.
    let seen = Bench::with(layer().policy(OutOfTheWay), [reply()]).get("/a").await;
    assert_eq!(seen.field("cache-status"), Some("origin; hit"));
    let bench = Bench::with(layer().cache_status(true), [Reply::new("x")]);
    bench.get("/a").await.told("larder; fwd=bypass; detail=\"switched-off\"; key=\"http://example.com/a\"");
}

/// What an observer sees, a line an event.
pub(super) fn observed(builder: CacheBuilder) -> (Arc<Mutex<Vec<String>>>, CacheBuilder) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&lines);
    let builder = builder.observer(move |event: &Event<'_>| {
        let key = |key: Option<&larder::CacheKey>| {
            key.map_or("-".into(), |key| String::from_utf8_lossy(key.uri()).into_owned())
        };
        seen.lock().unwrap().push(match event {
            Event::Answered { key: of, method, outcome, status, .. } => {
                let outcome = outcome.render("larder", None);
                format!("answered {method} {} {} {}", key(*of), status.as_u16(), outcome.to_str().unwrap())
            }
            Event::BodyEnded { bytes, is_whole, .. } => format!("body {bytes} {is_whole}"),
            Event::Dropped { key: of, method, .. } => format!("dropped {method} {}", key(*of)),
            Event::Failed { key: of, method, .. } => format!("failed {method} {}", key(*of)),
            Event::Fetched { forward, key: of, status, .. } => {
                format!("fetched {forward:?} {} {:?}", key(Some(of)), status.map(|status| status.as_u16()))
            }
            other => format!("{other:?}"),
        });
    });
    (lines, builder)
}

#[tokio::test]
async fn an_observer_sees_each_request_and_its_call() {
    let (lines, layer) = observed(cache_builder().tag_only());
    let take = || std::mem::take(&mut *lines.lock().unwrap());
    let bench = Bench::with(layer, [Reply::new("four")]);
    let switched_off = "larder; fwd=bypass; detail=\"switched-off\"";
    assert_eq!(bench.get("/a").await.field("cache-status"), None);
    assert_eq!(
        take(),
        [
            "fetched Bypass http://example.com/a Some(200)",
            &format!("answered GET http://example.com/a 200 {switched_off}"),
            "body 4 true",
        ]
    );
    bench.get_with("/a", &[("if-none-match", &tag("four"))]).await;
    assert_eq!(
        take(),
        [
            "fetched Bypass http://example.com/a Some(200)",
            &format!("answered GET http://example.com/a 304 {switched_off}"),
            "body 0 true",
        ]
    );
    // As in a cache, what passes is not called for the cache's sake.
    bench.send(Method::PUT, "/a", &[]).await;
    assert_eq!(take(), ["answered PUT http://example.com/a 200 larder; fwd=method", "body 4 true"]);
    // A request that has no key gets its tag all the same.
    let fields = [("host", "a.example"), ("host", "b.example")];
    assert_eq!(bench.get_with("/a", &fields).await.field("etag"), Some(&*tag("four")));
    assert_eq!(take(), [&format!("answered GET - 200 {switched_off}"), "body 4 true"]);
    bench.origin.then(Reply::refused());
    bench.try_send(Method::GET, "/b", &[]).await.unwrap_err();
    assert_eq!(take(), ["fetched Bypass http://example.com/b None", "failed GET http://example.com/b"]);
    bench.origin.then(Reply::new("").field("content-length", "6").frames(&["pan"]));
    bench.get("/c").await;
    assert_eq!(take().last().map(String::as_str), Some("body 3 false"));
}

#[tokio::test(start_paused = true)]
async fn an_observer_sees_a_client_that_leaves_before_or_while_content_is_waited_for() {
    for has_head in [false, true] {
        let (lines, layer) = observed(cache_builder().tag_only());
        let stage = Stage::with(layer);
        let client = stage.get("/");
        settle().await;
        if has_head {
            stage.origin.call(0).head(&[("content-length", "6")]).frame("pan");
            settle().await;
        }
        client.leave();
        settle().await;
        let seen = std::mem::take(&mut *lines.lock().unwrap());
        assert!(seen.last().is_some_and(|line| line.starts_with("dropped GET")), "{has_head} {seen:?}");
        assert_eq!(seen.len(), 1 + usize::from(has_head), "{seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_learns_how_long_the_call_took_without_the_wait_for_leave() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    let layer = cache_builder().tag_only().observer(move |event: &Event<'_>| match event {
        Event::Answered { elapsed, .. } | Event::Fetched { elapsed, .. } => {
            seen.lock().unwrap().push(elapsed.as_secs());
        }
        _ => {}
    });
    let limits = CallLimits::new().total(1).wait(Duration::from_secs(10));
    let stage = Stage::with(layer.call_limits(limits));
    let (first, second) = (stage.get("/a"), stage.get("/b"));
    settle().await;
    for number in 0..2 {
        tokio::time::advance(Duration::from_secs(3)).await;
        stage.origin.call(number).head(&[("content-length", "1")]).frame("x").end();
        settle().await;
    }
    for client in [first, second] {
        client.seen().await;
    }
    assert_eq!(*times.lock().unwrap(), [3, 3, 3, 6]);
}

#[tokio::test]
async fn the_outcome_is_in_the_extensions_where_that_was_asked_for() {
    for is_on in [false, true] {
        let bench = Bench::with(cache_builder().tag_only().outcome_in_extensions(is_on), [Reply::new("x")]);
        for (condition, status) in [("\"a\"", 200), ("*", 304)] {
            let request = Request::get("http://example.com/").header("if-none-match", condition);
            let request = request.body(Empty::<Bytes>::new()).unwrap();
            let response = bench.cache.clone().call(request).await.unwrap();
            assert_eq!(response.status(), status);
            assert!(!response.headers().contains_key("cache-status"));
            let outcome = response.extensions().get::<Outcome>();
            assert_eq!(outcome.map(|outcome| outcome.is_hit()), is_on.then_some(false), "{condition}");
        }
    }
}
