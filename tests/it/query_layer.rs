//! QUERY (RFC 10008): the content of the request is part of the key.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::routing::any;
use futures_util::stream;
use http::{Method, Request};
use larder::QueryLayer;
use tower::ServiceExt;

use crate::support::bench::read;
use crate::support::{Seen, cache_layer};

/// Answers with what it was asked, and counts.
struct Echo {
    app: Router,
    calls: Arc<AtomicUsize>,
}

impl Echo {
    fn new(layer: QueryLayer) -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        let echo = async |State(calls): State<Arc<AtomicUsize>>, content: Bytes| {
            calls.fetch_add(1, Ordering::SeqCst);
            ([("cache-control", "max-age=60")], content)
        };
        let app = Router::new().route("/", any(echo)).with_state(Arc::clone(&calls));
        Self { app: app.layer(cache_layer()).layer(layer), calls }
    }

    async fn send(&self, method: Method, fields: &[(&str, &str)], content: impl Into<Body>) -> Seen {
        let mut request = Request::builder().method(method).uri("http://example.com/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(content.into()).unwrap();
        read(self.app.clone().oneshot(request).await.unwrap()).await
    }

    async fn query(&self, kind: &str, content: &'static str) -> Seen {
        self.send(Method::QUERY, &[("content-type", kind)], content).await
    }
}

#[tokio::test]
async fn qy_the_content_is_part_of_the_key() {
    let echo = Echo::new(QueryLayer::new());
    echo.query("text/plain", "a").await.told("larder; fwd=uri-miss; stored; ttl=60").has_body("a");
    echo.query("text/plain", "a").await.told("larder; hit; ttl=60").has_body("a");
    echo.query("text/plain", "b").await.told("larder; fwd=uri-miss; stored; ttl=60").has_body("b");
    echo.query("application/json", "a").await.told("larder; fwd=uri-miss; stored; ttl=60");
    let coded = [("content-type", "text/plain"), ("content-encoding", "x")];
    echo.send(Method::QUERY, &coded, "a").await.told("larder; fwd=uri-miss; stored; ttl=60");
    echo.query("text/plain", "a").await.told("larder; hit; ttl=60");
    // Neither the other way round.
    echo.send(Method::GET, &[], "").await.told("larder; fwd=uri-miss; stored; ttl=60");
    echo.query("text/plain", "").await.told("larder; fwd=uri-miss; stored; ttl=60");
    assert_eq!(echo.calls.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn qy_content_in_pieces_or_of_unknown_length_makes_the_same_key() {
    let echo = Echo::new(QueryLayer::new());
    let pieces = |list: [&'static str; 2]| Body::from_stream(stream::iter(list.map(Ok::<_, std::io::Error>)));
    echo.send(Method::QUERY, &[], pieces(["on", "e"])).await.has_body("one");
    echo.send(Method::QUERY, &[], pieces(["o", "ne"])).await.told("larder; hit; ttl=60").has_body("one");
    echo.send(Method::QUERY, &[], "one").await.told("larder; hit; ttl=60");
}

#[tokio::test]
async fn qy_large_content_is_forwarded_as_it_comes() {
    let echo = Echo::new(QueryLayer::new().max_content(4));
    for _ in 0..2 {
        let pieces = stream::iter(["abc", "def", "g"].map(Ok::<_, std::io::Error>));
        for content in [Body::from("abcdefg"), Body::from_stream(pieces)] {
            let seen = echo.send(Method::QUERY, &[], content).await;
            seen.told("larder; fwd=method").has_body("abcdefg");
        }
    }
    echo.query("", "abcd").await.told("larder; fwd=uri-miss; stored; ttl=60");
}

#[tokio::test]
async fn qy_content_that_breaks_reaches_the_service_as_broken() {
    let echo = Echo::new(QueryLayer::new());
    let broken = stream::iter([Ok("ab"), Err(std::io::Error::other("broke"))]);
    let seen = echo.send(Method::QUERY, &[], Body::from_stream(broken)).await;
    assert_eq!(seen.status, 400, "{seen:?}");
    echo.query("", "ab").await.told("larder; fwd=uri-miss; stored; ttl=60").has_body("ab");
}

#[tokio::test]
async fn qy_conditions_are_answered_from_storage_and_a_post_invalidates() {
    let echo = Echo::new(QueryLayer::new());
    let first = echo.query("", "a").await;
    let tag = first.field("etag").expect("a generated tag").to_owned();
    let again = echo.send(Method::QUERY, &[("content-type", ""), ("if-none-match", &tag)], "a").await;
    assert_eq!(again.status, 304);
    // Ranges are GET's (RFC 9110 14.2).
    let ranged = echo.send(Method::QUERY, &[("content-type", ""), ("range", "bytes=0-0")], "a").await;
    assert_eq!(ranged.told("larder; hit; ttl=60").status, 200);
    echo.send(Method::POST, &[], "x").await.told("larder; fwd=method");
    echo.query("", "a").await.told("larder; fwd=uri-miss; stored; ttl=60");
}

#[tokio::test]
async fn qy_without_the_layer_nothing_is_stored() {
    let app = Router::new().route("/", any(async || ([("cache-control", "max-age=60")], "x")));
    let app = app.layer(cache_layer());
    for _ in 0..2 {
        let request =
            Request::builder().method(Method::QUERY).uri("http://example.com/").body(Body::from("q"));
        let seen = read(app.clone().oneshot(request.unwrap()).await.unwrap()).await;
        seen.told("larder; fwd=method");
    }
}
