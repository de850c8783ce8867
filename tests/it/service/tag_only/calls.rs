//! Calls of the inner service, where nothing is stored.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Empty;
use larder::{CallLimits, KeyParts};
use tower::{Layer, Service};

use super::hooks::Editing;
use super::reports::observed;
use super::tag;
use crate::support::bench::read;
use crate::support::origin::always;
use crate::support::stepped::Answer;
use crate::support::{Bench, CacheBuilder, Reply, Stage, Step, cache_builder, settle};

#[tokio::test]
async fn an_error_or_a_panic_of_the_service_is_the_clients() {
    for step in [Step::Refuse, Step::Panic] {
        let stage = Stage::with(cache_builder().tag_only());
        stage.origin.script(std::slice::from_ref(&step));
        let answer = stage.get("/").answer().await;
        assert!(
            matches!((&step, answer), (Step::Refuse, Answer::Refused) | (Step::Panic, Answer::Panicked)),
            "{step:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_when_its_client_leaves() {
    for method in [Method::GET, Method::POST] {
        let stage = Stage::with(cache_builder().tag_only());
        let client = stage.send(method.clone(), "/", &[]);
        settle().await;
        assert_eq!(stage.origin.open(), 1);
        client.leave();
        settle().await;
        assert_eq!(stage.origin.open(), 0, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_share_no_call() {
    let stage = Stage::with(cache_builder().tag_only());
    let clients = stage.herd(5, &[]);
    settle().await;
    assert_eq!(stage.origin.calls(), 5);
    drop(clients);
}

/// A client's spelling is in no key, so nobody else gets to see what a service makes of it.
#[tokio::test]
async fn the_authority_is_forwarded_as_the_client_has_spelled_it() {
    for layer in [cache_builder(), observed(cache_builder()).1] {
        let bench = Bench::with(layer.tag_only(), [Reply::new("x")]);
        for method in [Method::GET, Method::POST] {
            bench.send(method, "/", &[("host", "Example.COM:80")]).await;
            assert_eq!(bench.origin.last().headers["host"], "Example.COM:80");
        }
    }
}

#[tokio::test]
async fn a_layer_inside_itself_tags_once() {
    let nested = |builder: CacheBuilder| {
        let layer = builder.build();
        layer.layer(layer.layer(always(Reply::new("x"))))
    };
    let get = async |builder: CacheBuilder, fields: &[(&str, &str)]| {
        let request = fields
            .iter()
            .fold(Request::get("http://a/"), |request, (name, value)| request.header(*name, *value));
        read(nested(builder).call(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()).await
    };
    let layer = || cache_builder().tag_only();
    for builder in [layer, || cache_builder().tag_only().cache_status(true)] {
        assert_eq!(get(builder(), &[]).await.has_body("x").field("etag"), Some(&*tag("x")));
        assert_eq!(get(builder(), &[("if-none-match", &tag("x"))]).await.has_body("").status, 304);
        assert_eq!(get(builder(), &[("if-match", "\"a\"")]).await.status, 412);
    }
    // Where anybody can see it, the inner one is known to be one.
    let seen = get(layer().cache_status(true), &[]).await;
    let members: Vec<_> = seen.fields.get_all("cache-status").iter().collect();
    assert_eq!(
        members,
        ["larder; fwd=bypass; detail=\"nested\"", "larder; fwd=bypass; detail=\"switched-off\""]
    );
    let (lines, observed) = observed(layer());
    get(observed, &[]).await;
    let lines = std::mem::take(&mut *lines.lock().unwrap());
    for event in ["answered", "body", "fetched"] {
        assert_eq!(lines.iter().filter(|line| line.starts_with(event)).count(), 1, "{event} {lines:?}");
    }
    let policy = Editing::default();
    get(layer().policy(policy.clone()), &[]).await;
    let notes = policy.notes();
    for hook in ["forward", "response", "deliver"] {
        assert_eq!(notes.iter().filter(|note| note.starts_with(hook)).count(), 1, "{hook} {notes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a35_calls_have_bounds_where_nothing_is_stored() {
    for limits in [CallLimits::new().total(1), CallLimits::new().per_key(1)] {
        let layer = cache_builder().call_limits(limits.wait(Duration::from_secs(1))).tag_only();
        let stage = Stage::with(layer);
        let (first, second) = (stage.get("/"), stage.get("/"));
        settle().await;
        assert_eq!(stage.origin.calls(), 1);
        assert_eq!(second.seen().await.status, 503);
        let call = stage.origin.call(0);
        call.head(&[("content-length", "6")]).frame("pan");
        settle().await;
        call.frame("try").end();
        assert_eq!(first.seen().await.has_body("pantry").field("etag"), Some(&*tag("pantry")));
        // The call is over with its content.
        stage.origin.script(&[Step::head(200, &[("content-length", "1")]), Step::frame("x"), Step::End]);
        assert_eq!(stage.get("/").seen().await.has_body("x").field("etag"), Some(&*tag("x")));
    }
}

#[tokio::test(start_paused = true)]
async fn a35_calls_for_keys_with_other_parts_do_not_wait_for_one_another() {
    let limits = CallLimits::new().per_key(1).wait(Duration::from_secs(1));
    let stage = Stage::with(cache_builder().call_limits(limits).tag_only());
    let call = |part: &'static str| {
        let mut request = Request::get("/").header("host", "a").body(Empty::<Bytes>::new()).unwrap();
        request.extensions_mut().insert(KeyParts::new().with("part", part));
        tokio::spawn(stage.cache.clone().call(request))
    };
    let (_one, _other) = (call("one"), call("other"));
    settle().await;
    assert_eq!(stage.origin.calls(), 2);
    assert_eq!(call("one").await.unwrap().unwrap().status(), 503);
}

#[tokio::test(start_paused = true)]
async fn a35_a_call_where_nothing_is_stored_is_over_with_its_content() {
    let limits = CallLimits::new().total(1).wait(Duration::from_secs(1));
    for length in [&[][..], &[("content-length", "100000")]] {
        let stage = Stage::with(cache_builder().call_limits(limits.clone()).tag_only());
        let first = stage.get("/");
        settle().await;
        let call = stage.origin.call(0);
        call.head(length).frame("pan");
        let mut body = first.body().await;
        assert_eq!(body.next().await.as_deref(), Some("pan"));
        assert_eq!(stage.get("/").seen().await.status, 503, "{length:?}");
        call.end();
        assert!(body.next().await.is_some(), "{length:?}");
        stage.origin.script(&[Step::head(200, &[]), Step::End]);
        assert_eq!(stage.get("/").seen().await.status, 200, "{length:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a35_a_tagging_layer_inside_of_itself_waits_for_no_call_of_its_own() {
    let layer = cache_builder().call_limits(CallLimits::new().total(1)).tag_only().build();
    let mut nested = layer.layer(layer.layer(always(Reply::new("x"))));
    let answer = nested.call(Request::get("/").body(Empty::<Bytes>::new()).unwrap());
    let answer = tokio::time::timeout(Duration::from_secs(1), answer).await.expect("it waits for nobody");
    assert_eq!(read(answer.unwrap()).await.has_body("x").field("etag"), Some(&*tag("x")));
}
