//! Reported faults: what keys are made of, and what a purge reaches (B10, B13, B14, B15).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{OriginalUri, Request as AxumRequest};
use axum::routing::get;
use bytes::Bytes;
use http::{Method, Request, Uri, request};
use http_body_util::Empty;
use larder::store::{PurgeMode, PurgeNumber, PurgeTarget, Store};
use larder::{BoxStore, CachePolicy, MemoryStore, PurgeError, RequestAction, StoreError};
use tokio::sync::Semaphore;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use crate::support::bench::read;
use crate::support::forward::forward;
use crate::support::{
    Bench, CacheHandle, CacheLayer, Reply, Seen, Step, cache_builder, cache_builder_over, cache_layer, settle,
};

const FRESH: [(&str, &str); 1] = [("cache-control", "max-age=60")];

/// A store whose invalidations wait until a test lets them go on.
#[derive(Clone)]
struct Gated {
    gate: Arc<Semaphore>,
    store: Arc<MemoryStore>,
}

impl Store for Gated {
    forward!(store: try_get, get, open, expect, put, begin, freshen, purged_since, limits, statistics);

    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<PurgeNumber, StoreError> {
        self.gate.acquire().await.unwrap().forget();
        self.store.invalidate(targets, mode).await
    }
}

#[tokio::test(start_paused = true)]
async fn b10_an_unsafe_request_invalidates_although_its_client_leaves() {
    let origin = crate::support::stepped::Stepped::default();
    let store = Gated { gate: Arc::new(Semaphore::new(0)), store: Arc::default() };
    let layer = CacheLayer::new(BoxStore::new(store.clone()));
    let cache = layer.layer(origin.clone());
    let send = |method: Method, path: &str| {
        let request = Request::builder().method(method).uri(format!("http://a{path}"));
        tokio::spawn(cache.clone().call(request.body(Empty::<Bytes>::new()).unwrap()))
    };
    let head = [("cache-control", "max-age=60"), ("cache-groups", "\"g\"")];
    for path in ["/", "/other", "/grouped"] {
        origin.script(&[Step::head(200, &head), Step::frame("old"), Step::End]);
        read(send(Method::GET, path).await.unwrap().unwrap()).await.has_body("old");
    }
    let answer = [("location", "/other"), ("cache-group-invalidation", "\"g\"")];
    origin.script(&[Step::head(201, &answer), Step::End]);
    let post = send(Method::POST, "/");
    settle().await;
    // It has its answer, and the store takes its time.
    post.abort();
    settle().await;
    store.gate.add_permits(100);
    settle().await;
    origin.script(&[Step::head(200, &FRESH), Step::frame("new"), Step::End]);
    for path in ["/", "/other", "/grouped"] {
        read(send(Method::GET, path).await.unwrap().unwrap()).await.has_body("new");
    }
}

/// Answers with the query that it sees.
fn echo_query() -> Router {
    let echo = |uri: Uri| async move {
        ([("cache-control", "max-age=60")], uri.query().unwrap_or_default().to_owned())
    };
    Router::new().route("/page", get(echo))
}

fn host(request: &mut AxumRequest) {
    request.headers_mut().insert("host", http::HeaderValue::from_static("a"));
}

/// Gives the router an original URI, as axum does on entry, and the tenant's field into the query.
async fn ask(router: Router, uri: &str, tenant: Option<&str>) -> Seen {
    let mut request = AxumRequest::new(axum::body::Body::empty());
    *request.uri_mut() = uri.parse().unwrap();
    host(&mut request);
    if let Some(tenant) = tenant {
        request.headers_mut().insert("x-tenant", tenant.parse().unwrap());
    }
    read(router.oneshot(request).await.unwrap()).await
}

#[tokio::test]
async fn b13_a_tenant_that_a_middleware_writes_into_the_uri_is_in_the_key() {
    let layer = cache_layer();
    let handle = layer.handle();
    // Inside of the router, so that axum has noted the original URI.
    let rewrite = tower::util::MapRequestLayer::new(|mut request: AxumRequest| {
        if let Some(tenant) = request.headers().get("x-tenant").and_then(|tenant| tenant.to_str().ok()) {
            *request.uri_mut() = format!("/page?tenant={tenant}").parse().unwrap();
        }
        request
    });
    let router = echo_query().layer(ServiceBuilder::new().layer(rewrite).layer(layer));
    let get = |tenant| ask(router.clone(), "/page", tenant);
    get(Some("a")).await.has_body("tenant=a");
    get(Some("b")).await.has_body("tenant=b");
    for (tenant, query) in [("a", "tenant=a"), ("b", "tenant=b")] {
        assert!(get(Some(tenant)).await.has_body(query).is_hit(), "{tenant}");
    }
    // A purge of either URI reaches it: the one as the handler sees it, one tenant's; the other one, everybody's.
    handle.purge(&Uri::from_static("http://a/page?tenant=a")).await.unwrap();
    assert!(!get(Some("a")).await.is_hit());
    assert!(get(Some("b")).await.is_hit());
    handle.purge(&Uri::from_static("http://a/page")).await.unwrap();
    assert!(!get(Some("a")).await.is_hit());
    assert!(!get(Some("b")).await.is_hit());
}

/// Sorts the query of the key.
struct Sorted;

impl CachePolicy for Sorted {
    fn request(&self, request: &mut request::Parts, _: &mut larder::PolicyData) -> RequestAction {
        let mut request = request.clone();
        let mut query: Vec<_> = request.uri.query().unwrap_or_default().split('&').collect();
        query.sort_unstable();
        request.uri = format!("{}?{}", request.uri.path(), query.join("&")).parse().unwrap();
        RequestAction::of(&request)
    }
}

#[tokio::test]
async fn b13_the_uri_of_a_policy_counts_below_a_nested_router() {
    let cached = |name: &'static str| {
        let page = get(move || async move { (FRESH, name) });
        Router::new().route("/page", page)
    };
    let layer = cache_builder().policy(Sorted).build();
    let router = Router::new()
        .nest("/one", cached("one").layer(layer.clone()))
        .nest("/two", cached("two").layer(layer.clone()))
        .merge(cached("top").layer(layer));
    for (path, name) in [("/one/page", "one"), ("/two/page", "two"), ("/page", "top")] {
        let first = ask(router.clone(), &format!("{path}?b=2&a=1"), None).await.has_body(name);
        assert!(!first.is_hit(), "{path}");
        assert!(
            ask(router.clone(), &format!("{path}?a=1&b=2"), None).await.has_body(name).is_hit(),
            "{path}"
        );
    }
}

#[tokio::test]
async fn b13_an_unsafe_request_invalidates_responses_under_either_uri() {
    let stored = |uri: &str, original: &str, method: Method| {
        let mut request = Request::new(Empty::<Bytes>::new());
        (*request.method_mut(), *request.uri_mut()) = (method, uri.parse().unwrap());
        request.headers_mut().insert("host", http::HeaderValue::from_static("a"));
        request.extensions_mut().insert(OriginalUri(original.parse().unwrap()));
        request
    };
    for (uri, original) in [("/page", "/page"), ("/page?tenant=a", "/page?tenant=a")] {
        let bench = Bench::new([Reply::cc("x", "max-age=60")]);
        let send = async |request| read(bench.cache.clone().call(request).await.unwrap()).await;
        send(stored("/page?tenant=a", "/page", Method::GET)).await;
        assert!(send(stored("/page?tenant=a", "/page", Method::GET)).await.is_hit());
        send(stored(uri, original, Method::POST)).await;
        assert!(!send(stored("/page?tenant=a", "/page", Method::GET)).await.is_hit(), "{uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn b14_a_layer_nested_in_itself_forwards_a_request_that_it_has_seen() {
    let layer = cache_layer();
    let inner = get(|| async { (FRESH, "page") });
    let router = Router::new().route("/", inner.layer(layer.clone())).layer(layer.clone());
    let begun = tokio::time::Instant::now();
    let seen = ask(router.clone(), "/", None).await.has_body("page");
    seen.told("larder; fwd=bypass; detail=\"nested\", larder; fwd=uri-miss; stored; ttl=60");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!(ask(router, "/", None).await.has_body("page").is_hit());
    // Two layers over one store have calls of their own, and each does its part.
    let store = MemoryStore::default();
    let (outer, inner) = (cache_builder_over(store.clone()).build(), cache_builder_over(store).build());
    let page = get(|| async { (FRESH, "page") });
    let router = Router::new().route("/", page.layer(inner)).layer(outer);
    let seen = ask(router, "/", None).await.has_body("page");
    assert!(!format!("{seen:?}").contains("nested"), "{seen:?}");
}

#[tokio::test]
async fn b15_a_purge_that_can_match_nothing_is_an_error() {
    let bench = Bench::new([Reply::cc("x", "max-age=60").field("cache-groups", "\"news\"")]);
    let handle: &CacheHandle = &bench.handle;
    bench.get("/page").await;
    for uri in ["/page", "example.com", "*"] {
        let uri: Uri = uri.parse().unwrap();
        for purged in [handle.purge(&uri).await, handle.soft_purge(&uri).await] {
            let error = purged.unwrap_err();
            assert!(matches!(error, PurgeError::NotAbsolute(_)), "{error}");
            assert!(error.to_string().contains("http://example.com/path"), "{error}");
        }
    }
    let userinfo: Uri = "http://user@example.com/page".parse().unwrap();
    assert!(matches!(handle.purge(&userinfo).await, Err(PurgeError::NoKey(_))));
    for target in [
        PurgeTarget::host("http://example.com"),
        PurgeTarget::host("user@example.com"),
        PurgeTarget::host("example.com/page"),
        PurgeTarget::path_prefix("pa"),
        PurgeTarget::prefix("/pa"),
        PurgeTarget::uri("example.com/page"),
    ] {
        assert!(handle.purge_target(&target).await.is_err(), "{target:?}");
        assert!(handle.soft_purge_target(&target).await.is_err(), "{target:?}");
        let both = [PurgeTarget::All, target.clone()];
        assert!(handle.purge_targets(&both).await.is_err(), "{target:?}, and all the others stay");
    }
    assert!(bench.get("/page").await.is_hit(), "nothing was purged");
}

#[tokio::test]
async fn b15_a_purge_reaches_its_target_whatever_the_spelling() {
    for target in [
        PurgeTarget::group("HTTP://Example.com:80", "news"),
        PurgeTarget::Group("news".into()),
        PurgeTarget::host("EXAMPLE.com"),
        PurgeTarget::path_prefix("/pa"),
        PurgeTarget::prefix("HTTP://EXAMPLE.com/pa"),
        PurgeTarget::prefix("http://example.com:80/"),
        PurgeTarget::tag("news"),
        PurgeTarget::tag_any_case("News"),
        PurgeTarget::uri("http://Example.com/page"),
        PurgeTarget::uri(Uri::from_static("http://Example.com/page")),
    ] {
        let bench = Bench::new([Reply::cc("x", "max-age=60").field("cache-groups", "\"news\"")]);
        bench.get("/page").await;
        bench.get_with("/page", &[("host", "example.org")]).await;
        bench.handle.purge_target(&target).await.unwrap();
        assert!(!bench.get("/page").await.is_hit(), "{target:?}");
        let of_every_origin =
            matches!(&target, PurgeTarget::PathPrefix(_) | PurgeTarget::Tag(_) | PurgeTarget::TagAnyCase(_))
                || target == PurgeTarget::Group("news".into());
        let other = bench.get_with("/page", &[("host", "example.org")]).await;
        assert_eq!(other.is_hit(), !of_every_origin, "{target:?}");
    }
}
