//! The small examples (`basic`, `client`, `own_store`, `per_route`, `purge`) do what they say.
#![allow(dead_code)]

#[path = "../../../examples/basic.rs"]
mod basic;
#[path = "../../../examples/client.rs"]
mod client;
#[path = "../../../examples/own_store.rs"]
mod own_store;
#[path = "../../../examples/per_route.rs"]
mod per_route;
#[path = "../../../examples/purge.rs"]
mod purge;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use http::{Method, Request};
use larder::store::conformance::{Capabilities, check_all};
use tower::ServiceExt;

use crate::support::wire;

async fn ask(app: &Router, method: Method, path: &str) -> (u16, String) {
    let uri = format!("http://example.com{path}");
    let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let said = response.headers().get("cache-status").map(|said| said.to_str().unwrap().to_owned());
    (response.status().as_u16(), said.unwrap_or_default())
}

#[tokio::test]
async fn the_basic_example_answers_its_second_request_from_storage() {
    let app = basic::app();
    assert_eq!(ask(&app, Method::GET, "/").await.1, "larder; fwd=uri-miss; stored; ttl=60");
    assert_eq!(ask(&app, Method::GET, "/").await.1, "larder; hit; ttl=60");
}

#[tokio::test]
async fn each_route_of_the_example_has_its_own_lifetime() {
    let app = per_route::app();
    for (path, said) in [
        ("/", "larder; fwd=uri-miss; stored; ttl=60"),
        ("/products/1", "larder; fwd=uri-miss; stored; ttl=3600"),
        ("/login", "larder; fwd=bypass; detail=\"route\""),
    ] {
        assert_eq!(ask(&app, Method::GET, path).await.1, said);
    }
}

#[tokio::test]
async fn the_handler_of_the_example_purges_what_has_the_tag() {
    let app = purge::app();
    for _ in 0..2 {
        assert!(!ask(&app, Method::GET, "/products/1").await.1.contains("hit"));
        assert!(ask(&app, Method::GET, "/products/1").await.1.contains("hit"));
        assert_eq!(ask(&app, Method::PUT, "/prices").await.0, 204);
    }
}

#[tokio::test]
async fn the_client_of_the_example_gets_its_second_answer_from_storage() {
    let address =
        wire::serve(crate::support::origin::always(crate::support::Reply::cc("four", "max-age=60"))).await;
    let answers = client::ask_twice(&format!("http://{address}/")).await.unwrap();
    let said: Vec<_> = answers.iter().map(|(said, content)| (said.as_str(), &content[..])).collect();
    assert_eq!(
        said,
        [("larder; fwd=uri-miss; stored; ttl=60", &b"four"[..]), ("larder; hit; ttl=60", b"four")]
    );
}

/// A directory of a test, which goes with it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("larder-own-store-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

#[tokio::test]
async fn the_store_of_the_example_keeps_the_contract() {
    let directories = std::sync::Mutex::new(Vec::new());
    let make = async || {
        let directory = Directory::new();
        let store = own_store::DirectoryStore::new(&directory.0);
        directories.lock().unwrap().push(directory);
        store
    };
    check_all(make, Capabilities::all()).await;
}

#[tokio::test]
async fn the_example_serves_stored_responses_after_a_restart() {
    let directory = Directory::new();
    let app = own_store::app(&directory.0);
    assert_eq!(ask(&app, Method::GET, "/").await.1, "larder; fwd=uri-miss; stored; ttl=3600");
    // The response is written after it has been answered.
    let is_written = || {
        let mut files = std::fs::read_dir(&directory.0).unwrap();
        files.any(|file| file.unwrap().path().extension().is_some_and(|kind| kind == "entry"))
    };
    while !is_written() {
        tokio::task::yield_now().await;
    }
    let restarted = own_store::app(&directory.0);
    assert!(ask(&restarted, Method::GET, "/").await.1.starts_with("larder; hit"));
}
