//! One request that bypasses the cache, by an extension.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Empty;
use larder::policy::Bypass;
use larder::{KeyParts, StandardPolicy};
use tower::Service;

use crate::support::bench::{Seen, read};
use crate::support::{Bench, Reply, cache_builder};

async fn bypassing(bench: &Bench, method: Method, path: &str) -> Seen {
    let request = Request::builder().method(method).uri(format!("http://example.com{path}"));
    let request = request.extension(Bypass::new("preview")).body(Empty::<Bytes>::new()).unwrap();
    read(bench.cache.clone().call(request).await.unwrap()).await
}

const TOLD: &str = "larder; fwd=bypass; detail=\"preview\"";

#[tokio::test]
async fn a_request_with_the_extension_is_neither_answered_from_storage_nor_stored() {
    let replies = ["stored", "preview", "head", "preview"].map(|body| Reply::cc(body, "max-age=60"));
    let bench = Bench::new(replies);
    bench.get("/").await.has_body("stored");
    bypassing(&bench, Method::GET, "/").await.has_body("preview").told(TOLD);
    bypassing(&bench, Method::HEAD, "/").await.has_body("").told(TOLD);
    assert_eq!(bench.origin.last().method, Method::HEAD);
    // What is stored is not touched, and what is not stored stays so.
    bench.get("/").await.has_body("stored").told("larder; hit; ttl=60");
    bypassing(&bench, Method::GET, "/other").await.told(TOLD);
    assert!(!bench.get("/other").await.is_hit());
}

#[tokio::test]
async fn an_unsafe_request_with_the_extension_still_invalidates() {
    for (method, status, is_hit) in [
        (Method::POST, 200, false),
        (Method::DELETE, 204, false),
        (Method::PUT, 500, true),
        (Method::OPTIONS, 200, true),
    ] {
        let bench = Bench::new([Reply::cc("x", "max-age=60")]);
        bench.get("/").await;
        bench.origin.then(Reply::cc("", "max-age=60").status(status));
        bypassing(&bench, method.clone(), "/").await.told(TOLD);
        assert_eq!(bench.get("/").await.is_hit(), is_hit, "{method} {status}");
    }
    // Nor is the answer to a POST stored that may be otherwise.
    let reply = Reply::cc("x", "max-age=60").field("content-location", "/");
    let bench = Bench::rfc9111([reply]);
    bypassing(&bench, Method::POST, "/").await.told(TOLD);
    assert!(!bench.get("/").await.is_hit());
}

#[tokio::test]
async fn a_layer_that_stores_nothing_gives_no_tag_to_a_request_with_the_extension() {
    let judged = larder::policy::from_fn(|_, _| {});
    let tag_only = || cache_builder().tag_only().cache_status(true);
    for layer in [tag_only().policy(judged), tag_only().policy(StandardPolicy::default())] {
        let bench = Bench::with(layer, [Reply::new("x")]);
        assert!(bench.get("/").await.field("etag").is_some());
        assert_eq!(bypassing(&bench, Method::GET, "/").await.told(TOLD).field("etag"), None);
        bypassing(&bench, Method::HEAD, "/").await.told(TOLD);
    }
}

#[tokio::test]
async fn the_extension_outweighs_key_parts_and_any_policy() {
    let policy = larder::policy::request_fn(larder::RequestAction::of);
    let bench = Bench::with(cache_builder().policy(policy), [Reply::cc("x", "max-age=60")]);
    let request = Request::get("http://example.com/").extension(KeyParts::new().with("tenant", "1"));
    let request = request.extension(Bypass::new("preview")).body(Empty::<Bytes>::new()).unwrap();
    read(bench.cache.clone().call(request).await.unwrap()).await.told(TOLD);
}
