//! Bodies that pass through the cache: each ends complete or with an error, and each frame is forwarded as it arrives.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use larder::{MemoryStore, StandardPolicy};
use tokio::sync::mpsc;
use tower::{Layer, Service};

use crate::support::stores::{at_rest, is_slow};
use crate::support::{Bench, Reply, cache_builder, cache_builder_over, cache_layer, settle};

#[tokio::test]
async fn st8_a_body_that_breaks_is_not_stored_and_does_not_end_cleanly() {
    for reply in [
        Reply::cc("half", "max-age=60").failing(),
        Reply::cc("half", "max-age=60").field("content-length", "9"),
        Reply::cc("half", "max-age=60").field("content-length", "2"),
        Reply::cc("", "max-age=60").frames(&["ha", "lf"]).failing(),
        Reply::cc("", "max-age=60").frames(&["ha", "lf"]).field("content-length", "9"),
        Reply::cc("", "max-age=60").frames(&["ha", "lf"]).field("content-length", "3"),
    ] {
        let bench = Bench::new([reply.clone()]);
        for _ in 0..2 {
            let seen = bench.get("/").await;
            assert!(seen.broken && !seen.is_hit(), "{reply:?} {seen:?}");
        }
        assert_eq!(bench.handle.statistics().entries, 0, "{reply:?}");
    }
}

#[tokio::test]
async fn a_large_body_that_breaks_is_not_stored() {
    let frame = "x".repeat(50_000);
    let broken = Reply::cc("", "max-age=60").frames(&[&frame, &frame]);
    for reply in [
        broken.clone().failing(),
        broken.clone().field("content-length", "99999"),
        broken.clone().field("content-length", "100001"),
        broken.clone().field("content-length", "100000").failing(),
    ] {
        let bench = Bench::new([reply.clone()]);
        let seen = bench.get("/").await;
        assert!(seen.broken, "{:?}", reply.fields);
        assert_eq!(bench.handle.statistics().entries, 0, "{:?}", reply.fields);
    }
}

#[tokio::test]
async fn trailers_are_forwarded_and_stored() {
    let bench = Bench::new([Reply::cc("", "max-age=60").frames(&["a", "b"]).trailer("x-sum", "2")]);
    for hit in [false, true] {
        let seen = bench.get("/").await.has_body("ab");
        assert_eq!(seen.trailers.as_ref().unwrap()["x-sum"], "2");
        assert_eq!(seen.field("content-length"), None);
        assert_eq!(seen.is_hit(), hit);
    }
}

#[tokio::test]
async fn content_larger_than_the_largest_object_passes_and_is_not_stored() {
    let layer = || cache_builder_over(MemoryStore::builder().max_object(100_000).build());
    let frame = "x".repeat(30_000);
    let frames = [frame.as_str(); 100];
    let known = Reply::cc("", "max-age=60").frames(&frames).field("content-length", "3000000");
    let unknown = Reply::cc("", "max-age=60").frames(&frames);
    for (reply, told) in [
        (known, "larder; fwd=uri-miss; detail=\"too-large\""),
        (unknown, "larder; fwd=uri-miss; stored; ttl=60"),
    ] {
        let bench = Bench::with(layer(), [reply]);
        let seen = bench.get("/").await.told(told);
        assert_eq!((seen.body.len(), seen.broken), (3_000_000, false));
        assert_eq!(bench.handle.statistics().entries, 0);
    }
}

/// An origin whose body releases a frame when it is told to.
fn stepped(
    cache_control: &'static str,
) -> (
    mpsc::UnboundedSender<&'static str>,
    impl Service<
        Request<Empty<Bytes>>,
        Response = Response<impl http_body::Body<Data = Bytes, Error = Infallible> + Send>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + Send,
) {
    let (sender, receiver) = mpsc::unbounded_channel::<&'static str>();
    let receiver = std::sync::Arc::new(std::sync::Mutex::new(Some(receiver)));
    let service = tower::service_fn(move |_: Request<Empty<Bytes>>| {
        let mut receiver = receiver.lock().unwrap().take().expect("asked once");
        async move {
            let frames = futures_util::stream::poll_fn(move |cx| {
                receiver
                    .poll_recv(cx)
                    .map(|frame| frame.map(|frame| Ok(Frame::data(Bytes::from_static(frame.as_bytes())))))
            });
            let response = Response::builder().header("cache-control", cache_control);
            Ok::<_, Infallible>(response.body(StreamBody::new(frames)).unwrap())
        }
    });
    (sender, service)
}

#[tokio::test]
async fn the_client_gets_each_frame_before_the_origin_sends_the_next() {
    for cache_control in ["max-age=60", "no-store", "private"] {
        let (origin, service) = stepped(cache_control);
        let mut cache = cache_layer().layer(service);
        let response = cache.call(Request::new(Empty::new())).await.unwrap();
        let mut body = Box::pin(response.into_body());
        for frame in ["one", "two", "three"] {
            origin.send(frame).unwrap();
            let received = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(received, frame, "{cache_control}");
        }
        drop(origin);
        assert!(body.frame().await.is_none(), "{cache_control}");
    }
}

#[tokio::test]
async fn a_response_that_a_client_has_read_to_its_end_is_stored() {
    let (origin, service) = stepped("max-age=60");
    let layer = cache_layer();
    let mut cache = layer.layer(service);
    let response = cache.call(Request::new(Empty::new())).await.unwrap();
    origin.send("all").unwrap();
    drop(origin);
    response.into_body().collect().await.unwrap();
    if !is_slow() {
        assert_eq!(layer.handle().statistics().entries, 1);
    }
    // A store that takes its time has it later; till then, the call has it.
    let request = Request::builder().method(Method::HEAD).body(Empty::new()).unwrap();
    let again = cache.call(request).await.unwrap();
    assert_eq!(again.headers()["content-length"], "3");
    at_rest().await;
    assert_eq!(layer.handle().statistics().entries, 1);
}

#[tokio::test(start_paused = true)]
async fn f04_a_fill_continues_when_its_client_leaves() {
    let (origin, service) = stepped("max-age=60");
    let layer = cache_layer();
    let mut cache = layer.layer(service);
    let response = cache.call(Request::new(Empty::new())).await.unwrap();
    origin.send("one").unwrap();
    drop(response);
    origin.send("two").unwrap();
    drop(origin);
    settle().await;
    assert_eq!(layer.handle().statistics().entries, 1);
    let hit = cache.call(Request::new(Empty::new())).await.unwrap();
    assert_eq!(hit.into_body().collect().await.unwrap().to_bytes(), "onetwo");
}

#[tokio::test]
async fn an_empty_last_frame_does_not_replace_the_frame_before_it() {
    // HTTP/2 ends a stream with an empty DATA frame as often as not.
    let half = "x".repeat(50_000);
    let reply = Reply::cc("", "max-age=60").frames(&[&half, &half, "", ""]).field("content-length", "100000");
    let bench = Bench::new([reply]);
    for _ in 0..2 {
        let seen = bench.get("/").await;
        assert_eq!((seen.body.len(), seen.broken), (100_000, false));
    }
    assert_eq!(bench.origin.calls(), 1);
}

#[tokio::test]
async fn a_failure_after_the_last_declared_byte_breaks_the_body() {
    let half = "x".repeat(50_000);
    let reply =
        Reply::cc("", "max-age=60").frames(&[&half, &half]).field("content-length", "100000").failing();
    let seen = Bench::new([reply]).get("/").await;
    assert!(seen.broken && seen.body.len() < 100_000, "{} bytes", seen.body.len());
}

/// Whoever reads it through the layer could not tell half of it from the whole.
#[tokio::test]
async fn f01_a_forwarded_body_is_checked_against_its_declared_length() {
    let ways = [
        (Method::GET, "no-store", &[][..]),
        (Method::GET, "private", &[]),
        (Method::GET, "max-age=60", &[("range", "bytes=0-1"), ("content-length", "0"), ("te", "trailers")]),
        (Method::GET, "max-age=60", &[("connection", "upgrade"), ("upgrade", "x")]),
        (Method::POST, "no-store", &[]),
        (Method::OPTIONS, "no-store", &[]),
    ];
    for (method, cache_control, fields) in ways {
        for (length, is_broken) in [("3", true), ("4", false), ("5", true), ("x", false)] {
            let bench = Bench::new([Reply::cc("", cache_control)
                .frames(&["ha", "lf"])
                .field("content-length", length)]);
            let seen = bench.send(method.clone(), "/", fields).await;
            assert_eq!(seen.broken, is_broken, "{method} {cache_control} {length} {seen:?}");
        }
    }
    // Here it is not about the content of this message.
    for (method, status) in
        [(Method::HEAD, 200), (Method::GET, 204), (Method::GET, 304), (Method::CONNECT, 200)]
    {
        for fields in [&[][..], &[("connection", "upgrade"), ("upgrade", "x")]] {
            let reply = Reply::cc("", "no-store").status(status).field("content-length", "9");
            let layer = cache_builder().policy(StandardPolicy::default().head_as_get(false));
            let seen = Bench::with(layer, [reply]).send(method.clone(), "/", fields).await;
            assert!(!seen.broken, "{method} {status} {seen:?}");
        }
    }
}

/// RFC 9110 8.6, RFC 9112 6.3.
#[tokio::test]
async fn a_content_length_without_meaning_is_neither_checked_nor_forwarded() {
    for cache_control in ["max-age=60", "private", "no-store"] {
        let reply = Reply::cc("pantry", cache_control).field("content-length", "3");
        let bench = Bench::new([reply.clone().field("transfer-encoding", "chunked")]);
        let first = bench.get("/").await.has_body("pantry");
        assert!(!first.broken && first.field("content-length") != Some("3"), "{cache_control} {first:?}");
        assert!(!bench.get("/").await.has_body("pantry").broken, "{cache_control}");
        let bench = Bench::new([reply.clone().field("content-length", "6")]);
        assert!(!bench.get("/").await.has_body("pantry").broken, "{cache_control}");
        let bench = Bench::new([Reply::cc("", cache_control).status(204).field("content-length", "3")]);
        for _ in 0..2 {
            let seen = bench.get("/").await;
            assert!(!seen.broken && seen.field("content-length").is_none(), "{cache_control} {seen:?}");
        }
    }
}
