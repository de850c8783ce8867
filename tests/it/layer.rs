//! The layer with axum, plain services, hyper, other layers and an HTTP client.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use larder::{BoxStore, MemoryStore};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_http::compression::CompressionLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

use crate::support::bench::read;
use crate::support::wire;
use crate::support::{CacheLayer, cache_layer};

/// Counts calls of a handler.
#[derive(Clone, Default)]
struct Calls(Arc<AtomicUsize>);

impl Calls {
    fn one(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn handler(calls: &Calls) -> axum::routing::MethodRouter {
    let calls = calls.clone();
    get(move || {
        let calls = calls.clone();
        async move { ([("cache-control", "max-age=60")], format!("answer {}", calls.one())) }
    })
}

#[tokio::test]
async fn the_layer_caches_an_axum_router() {
    let calls = Calls::default();
    let router = Router::new().route("/", handler(&calls)).layer(cache_layer());
    let address = wire::serve_router(router).await;
    let miss = wire::get(address, "/", &[]).await;
    assert_eq!((miss.status, miss.body.as_str(), miss.is_hit()), (StatusCode::OK, "answer 1", false));
    let hit = wire::get(address, "/", &[]).await;
    assert_eq!((hit.body.as_str(), hit.is_hit()), ("answer 1", true));
    assert_eq!(hit.field("content-type"), Some("text/plain; charset=utf-8"));
    let tag = hit.field("etag").unwrap().to_owned();
    let unchanged = wire::get(address, "/", &[("if-none-match", &tag)]).await;
    assert_eq!((unchanged.status, unchanged.body.as_str()), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(calls.count(), 1);
}

#[tokio::test]
async fn the_layer_caches_axum_streams_of_unknown_length() {
    let router = Router::new()
        .route(
            "/",
            get(|| async {
                let frames = futures(["one ", "two ", "three"]);
                ([("cache-control", "max-age=60")], Body::from_stream(frames))
            }),
        )
        .layer(cache_layer());
    let address = wire::serve_router(router).await;
    wire::get(address, "/", &[]).await.has_body("one two three");
    let hit = wire::get(address, "/", &[]).await.has_body("one two three");
    assert!(hit.is_hit() && hit.field("etag").is_some(), "{hit:?}");
}

fn futures<const N: usize>(
    frames: [&'static str; N],
) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
    futures_util::stream::iter(frames.map(|frame| Ok(Bytes::from_static(frame.as_bytes()))))
}

#[tokio::test]
async fn one_layer_over_several_routes_shares_one_store() {
    let (calls, layer) = (Calls::default(), cache_layer());
    let router = Router::new()
        .route("/a", handler(&calls).layer(layer.clone()))
        .route("/b", handler(&calls).layer(layer.clone()));
    let address = wire::serve_router(router).await;
    for path in ["/a", "/b", "/a", "/b"] {
        wire::get(address, path, &[]).await;
    }
    assert_eq!(calls.count(), 2);
    assert_eq!(layer.handle().statistics().entries, 2);
}

#[tokio::test]
async fn the_layer_caches_a_plain_service_with_full_bodies() {
    let calls = Calls::default();
    let counted = calls.clone();
    let service = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let calls = counted.clone();
        async move {
            let body = Full::new(Bytes::from(format!("answer {}", calls.one())));
            let response = Response::builder().header("cache-control", "max-age=60").body(body);
            response.map_err(|_| "never")
        }
    });
    let cache = cache_layer().layer(service);
    for _ in 0..2 {
        let request = Request::get("http://a.example/").body(Full::default()).unwrap();
        let response: Result<_, &'static str> = cache.clone().oneshot(request).await;
        read(response.unwrap()).await.has_body("answer 1");
    }
    assert_eq!(calls.count(), 1);
}

#[tokio::test]
async fn the_layer_caches_boxed_bodies_sync_or_not() {
    let sync = tower::service_fn(|_: Request<BoxBody<Bytes, Infallible>>| async {
        let body: BoxBody<Bytes, Infallible> = Full::from("sync").boxed();
        let response = Response::builder().header("cache-control", "max-age=60").body(body);
        Ok::<_, Infallible>(response.unwrap())
    });
    let unsync = tower::service_fn(|_: Request<UnsyncBoxBody<Bytes, Infallible>>| async {
        let body: UnsyncBoxBody<Bytes, Infallible> = Full::from("unsync").boxed_unsync();
        let response = Response::builder().header("cache-control", "max-age=60").body(body);
        Ok::<_, Infallible>(response.unwrap())
    });
    let (sync, unsync) = (cache_layer().layer(sync), cache_layer().layer(unsync));
    for hit in [false, true] {
        let request = Request::get("http://a/").body(Empty::new().boxed()).unwrap();
        let seen = read(sync.clone().oneshot(request).await.unwrap()).await.has_body("sync");
        assert_eq!(seen.is_hit(), hit);
        let request = Request::get("http://a/").body(Empty::new().boxed_unsync()).unwrap();
        let seen = read(unsync.clone().oneshot(request).await.unwrap()).await.has_body("unsync");
        assert_eq!(seen.is_hit(), hit);
    }
}

#[tokio::test]
async fn the_layer_caches_hypers_incoming_bodies() {
    // A caching reverse proxy in a few lines: Incoming on both sides, round a pooled client.
    let calls = Calls::default();
    let origin = wire::serve_router(Router::new().route("/x", handler(&calls))).await;
    let client = wire::client::<Incoming>();
    let upstream = tower::service_fn(move |mut request: Request<Incoming>| {
        let client = client.clone();
        async move {
            let path = request.uri().path_and_query().unwrap().clone();
            *request.uri_mut() = format!("http://{origin}{path}").parse().unwrap();
            client.request(request).await
        }
    });
    let proxy = wire::serve(cache_layer().layer(upstream)).await;
    let miss = wire::get(proxy, "/x", &[]).await.has_body("answer 1");
    assert!(!miss.is_hit());
    let hit = wire::get(proxy, "/x", &[]).await.has_body("answer 1");
    assert!(hit.is_hit());
    assert_eq!(calls.count(), 1);
}

#[tokio::test]
async fn the_layer_wraps_an_http_client() {
    let calls = Calls::default();
    let origin = wire::serve_router(Router::new().route("/x", handler(&calls))).await;
    let mut client = ServiceBuilder::new().layer(cache_layer()).service(wire::client::<Empty<Bytes>>());
    for _ in 0..2 {
        let request = Request::get(format!("http://{origin}/x")).body(Empty::new()).unwrap();
        let response: Result<_, hyper_util::client::legacy::Error> = client.call(request).await;
        read(response.unwrap()).await.has_body("answer 1");
    }
    assert_eq!(calls.count(), 1);
}

#[tokio::test]
async fn the_layer_works_inside_and_outside_of_trace_compression_and_timeout() {
    let calls = Calls::default();
    let timeout = || TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(30));
    let outside = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(CompressionLayer::new().compress_when(tower_http::compression::predicate::SizeAbove::new(1)))
        .layer(timeout())
        .layer(cache_layer());
    let inside = ServiceBuilder::new()
        .layer(cache_layer())
        .layer(TraceLayer::new_for_http())
        .layer(CompressionLayer::new().compress_when(tower_http::compression::predicate::SizeAbove::new(1)))
        .layer(timeout());
    let router = Router::new()
        .route("/outside", handler(&calls).layer(outside))
        .route("/inside", handler(&calls).layer(inside));
    let address = wire::serve_router(router).await;
    for path in ["/outside", "/inside"] {
        for turn in 0..2 {
            let plain = wire::get(address, path, &[]).await;
            assert_eq!(plain.field("content-encoding"), None, "{path} {turn}");
            assert_eq!(plain.is_hit(), turn == 1, "{path} {plain:?}");
        }
        let request = Request::get(format!("http://{address}{path}"))
            .header("accept-encoding", "gzip")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let response = wire::client().request(request).await.unwrap();
        assert_eq!(response.headers()["content-encoding"], "gzip", "{path}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&body[..2], b"\x1f\x8b", "{path}");
    }
}

#[tokio::test]
async fn the_cache_can_be_a_boxed_clone_service() {
    let service = tower::service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(
            Response::builder().header("cache-control", "max-age=9").body(Body::from("x")).unwrap(),
        )
    });
    let mut boxed = cache_layer().layer(service).boxed_clone();
    let request = Request::get("http://a/").body(Body::empty()).unwrap();
    read(boxed.ready().await.unwrap().call(request).await.unwrap()).await.has_body("x");
}

#[tokio::test]
async fn the_layer_works_over_a_boxed_store() {
    let calls = Calls::default();
    let layer = CacheLayer::new(BoxStore::new(MemoryStore::default()));
    let address = wire::serve_router(Router::new().route("/", handler(&calls)).layer(layer)).await;
    wire::get(address, "/", &[]).await.has_body("answer 1");
    assert!(wire::get(address, "/", &[]).await.has_body("answer 1").is_hit());
}

#[tokio::test]
async fn the_cache_is_ready_while_the_origin_is_not() {
    // An inner service that is never ready delays misses, not hits.
    #[derive(Clone)]
    struct Saturated<S>(S, bool);
    impl<S, Q> Service<Request<Q>> for Saturated<S>
    where
        S: Service<Request<Q>>,
    {
        type Response = S::Response;
        type Error = S::Error;
        type Future = S::Future;
        fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
            if self.1 { std::task::Poll::Pending } else { self.0.poll_ready(cx) }
        }
        fn call(&mut self, request: Request<Q>) -> S::Future {
            self.0.call(request)
        }
    }
    let origin = crate::support::Origin::new([crate::support::Reply::cc("x", "max-age=60")]);
    let layer = cache_layer();
    let request = || Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap();
    read(layer.layer(Saturated(origin.clone(), false)).oneshot(request()).await.unwrap()).await;
    let mut cache = layer.layer(Saturated(origin, true));
    let hit = cache.call(request()).await.unwrap();
    assert!(read(hit).await.is_hit());
}

#[tokio::test]
async fn a_304_over_the_wire_has_no_content_length() {
    let calls = Calls::default();
    // Outside of the router, which gives an answer without content the length 0, whatever its status.
    let router = Router::new().route("/", handler(&calls));
    let address = wire::serve(cache_layer().layer(router)).await;
    let tag = wire::get(address, "/", &[]).await.field("etag").unwrap().to_owned();
    for version in [http::Version::HTTP_11, http::Version::HTTP_2] {
        let http2 = version == http::Version::HTTP_2;
        let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
            .http2_only(http2)
            .build_http();
        let request = |method| {
            let request = Request::builder().method(method).uri(format!("http://{address}/"));
            request.header("if-none-match", if method == "GET" { &tag } else { "x" })
        };
        let get = request("GET").body(Empty::<Bytes>::new()).unwrap();
        let seen = read(client.request(get).await.unwrap()).await;
        assert_eq!((seen.status.as_u16(), seen.field("content-length")), (304, None), "{version:?}");
        let head = request("HEAD").body(Empty::<Bytes>::new()).unwrap();
        let seen = read(client.request(head).await.unwrap()).await;
        assert_eq!((seen.status.as_u16(), seen.field("content-length")), (200, Some("8")), "{version:?}");
    }
}

#[tokio::test]
async fn a_get_with_content_to_a_wrapped_client_bypasses_the_cache() {
    let layer = cache_layer();
    let origin = crate::support::Origin::new([crate::support::Reply::cc("x", "max-age=60")]);
    let mut cache = layer.layer(origin);
    for query in ["one", "two"] {
        let request = Request::get("http://a/search").body(Full::new(Bytes::from(query))).unwrap();
        read(cache.call(request).await.unwrap()).await.told("larder; fwd=bypass; detail=\"content\"");
    }
}

#[tokio::test]
async fn stored_trailers_are_sent_over_the_wire() {
    let reply = crate::support::Reply::cc("", "max-age=60").frames(&["a", "b"]).trailer("x-sum", "2");
    let address = wire::serve(cache_layer().layer(crate::support::Origin::new([reply]))).await;
    for hit in [false, true] {
        // A client has to say that it takes trailers.
        let seen = wire::get(address, "/", &[("te", "trailers")]).await.has_body("ab");
        assert_eq!(seen.is_hit(), hit);
        assert_eq!(seen.field("content-length"), None);
    }
}
