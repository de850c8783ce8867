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
use std::time::{Duration, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use futures_util::FutureExt;
use http::{HeaderMap, Method, Request, StatusCode};
use larder::semantics::reuse::Reuse;
use larder::semantics::vary::Selecting;
use larder::store::Store;
use larder::store::conformance::{Capabilities, Nodes, Subject, check_all};
use larder::{CacheKey, HeadParts, Payload, ResponseHead, StoredResponse};
use tower::ServiceExt;

use crate::support::{WallClock, wire};

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
    let clock = WallClock::start();
    clock.told(&ask(&app, Method::GET, "/").await.1, "larder; fwd=uri-miss; stored; ttl=60");
    clock.told(&ask(&app, Method::GET, "/").await.1, "larder; hit; ttl=60");
}

#[tokio::test]
async fn each_route_of_the_example_has_its_own_lifetime() {
    let app = per_route::app();
    let clock = WallClock::start();
    for (path, said) in [
        ("/", "larder; fwd=uri-miss; stored; ttl=60"),
        ("/products/1", "larder; fwd=uri-miss; stored; ttl=3600"),
        ("/login", "larder; fwd=bypass; detail=\"route\""),
    ] {
        clock.told(&ask(&app, Method::GET, path).await.1, said);
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
    let clock = WallClock::start();
    let answers = client::ask_twice(&format!("http://{address}/")).await.unwrap();
    for ((said, content), expected) in
        answers.iter().zip(["larder; fwd=uri-miss; stored; ttl=60", "larder; hit; ttl=60"])
    {
        clock.told(said, expected);
        assert_eq!(&content[..], b"four");
    }
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

impl Nodes for Directory {
    type Store = own_store::DirectoryStore;

    async fn open(&self) -> [own_store::DirectoryStore; 2] {
        let store = own_store::DirectoryStore::new(&self.0);
        [store.clone(), store]
    }
}

#[tokio::test]
async fn the_store_of_the_example_keeps_the_contract() {
    // One process has it to itself: purges are carried out in its files, and their numbers begin anew with it.
    let promises = Capabilities::all().durable_fences(false);
    check_all(&Subject::new(async || Directory::new()).capabilities(promises).operations(20)).await;
}

#[tokio::test]
async fn the_example_serves_stored_responses_after_a_restart() {
    let directory = Directory::new();
    let app = own_store::app(&directory.0);
    let clock = WallClock::start();
    clock.told(&ask(&app, Method::GET, "/").await.1, "larder; fwd=uri-miss; stored; ttl=3600");
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

fn page(content: &'static str) -> StoredResponse {
    let reuse = Reuse::new(UNIX_EPOCH, UNIX_EPOCH, Duration::from_secs(60), Selecting::default());
    let head = ResponseHead::from_parts(HeadParts::new(StatusCode::OK, HeaderMap::new(), reuse)).unwrap();
    StoredResponse::from_parts(head, Payload::from_bytes(content.into())).unwrap()
}

async fn put(
    store: &own_store::DirectoryStore,
    uri: &str,
    content: &'static str,
) -> Result<(), larder::StoreError> {
    let key = CacheKey::from_uri(&uri.parse().unwrap()).unwrap();
    let expected = store.expect(&key);
    store.put(&key, page(content), expected.fence().unwrap()).await.map(drop)
}

/// What a store over the same directory finds after a restart.
async fn found(directory: &Directory, uri: &str) -> Vec<String> {
    let key = CacheKey::from_uri(&uri.parse().unwrap()).unwrap();
    let found = own_store::DirectoryStore::new(&directory.0).get(&key).await.unwrap();
    let content = |response: &StoredResponse| response.payload().to_bytes().unwrap().to_vec();
    let content = found.variants.iter().map(|stored| String::from_utf8(content(&stored.response)).unwrap());
    content.collect()
}

#[tokio::test]
async fn a_write_of_the_example_that_is_dropped_holds_its_lock_to_the_end() {
    let directory = Directory::new();
    let store = own_store::DirectoryStore::new(&directory.0);
    assert!(put(&store, "http://a/1", "one").now_or_never().is_none(), "the file takes its time");
    put(&store, "http://a/2", "two").await.unwrap();
    assert_eq!(found(&directory, "http://a/1").await, ["one"], "it was written before the other");
    assert_eq!(found(&directory, "http://a/2").await, ["two"]);
}

#[tokio::test]
async fn a_write_of_the_example_that_fails_leaves_no_older_response_behind() {
    let directory = Directory::new();
    let store = own_store::DirectoryStore::new(&directory.0);
    put(&store, "http://a/", "old").await.unwrap();
    assert_eq!(found(&directory, "http://a/").await, ["old"]);
    // No file can be written where a directory is.
    std::fs::create_dir(directory.0.join("new")).unwrap();
    put(&store, "http://a/", "new").await.unwrap_err();
    std::fs::remove_dir(directory.0.join("new")).unwrap();
    assert_eq!(found(&directory, "http://a/").await, Vec::<String>::new());
}
