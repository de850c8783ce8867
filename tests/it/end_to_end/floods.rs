//! Thousands of purges and unsafe requests (A33): they hit only what they name, and take no memory.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Method, Request, Response};
use http_body_util::{Empty, Full};
use larder::store::conformance::{Subject, check_all};
use larder::store::{Expected, Fence, Lookup, PurgeMode, PurgeScope, PurgeTarget, Store};
use larder::{CacheKey, CacheLayer, CacheService, MemoryStore, StoreError};
use tower::util::ServiceFn;
use tower::{Layer, Service, service_fn};

use crate::support::forward::forward;
use crate::support::{Bench, Reply, Stage, Step, alloc, settle};

const FRESH: [(&str, &str); 1] = [("cache-control", "max-age=600")];

fn uri(path: &str) -> PurgeTarget {
    PurgeTarget::Uri(format!("http://example.com{path}").into_bytes().into())
}

type Answer = Ready<Result<Response<Full<Bytes>>, Infallible>>;

/// Objects, and pages that send on whoever posts to them.
fn answer(request: Request<Empty<Bytes>>) -> Answer {
    let status = match (request.method(), request.uri().path().starts_with("/object/")) {
        (_, true) => 200,
        (&Method::POST, false) => 303,
        _ => 404,
    };
    let response = Response::builder().status(status).header("cache-control", "max-age=600");
    ready(Ok(response.body(Full::new(Bytes::from_static(b"x"))).unwrap()))
}

/// A cache before a service that answers everything at once.
fn cache(store: &MemoryStore) -> CacheService<ServiceFn<fn(Request<Empty<Bytes>>) -> Answer>> {
    CacheLayer::new(store.clone()).layer(service_fn(answer as fn(_) -> _))
}

/// What the cache says of a request that is answered at once.
fn told(
    cache: &mut CacheService<ServiceFn<fn(Request<Empty<Bytes>>) -> Answer>>,
    method: Method,
    path: &str,
) -> String {
    let answer = cache.call(request(method, path)).now_or_never().expect("it is there at once").unwrap();
    answer.headers()["cache-status"].to_str().unwrap().to_owned()
}

fn store() -> MemoryStore {
    MemoryStore::builder().capacity(64 << 20).max_object(1 << 20).build()
}

fn request(method: Method, path: &str) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = method;
    *request.uri_mut() = format!("http://example.com{path}").parse().unwrap();
    request
}

#[test]
fn a33_a_million_purges_of_other_uris_leave_the_stored_responses() {
    const OBJECTS: u32 = 10_000;
    let store = store();
    let mut cache = cache(&store);
    for number in 0..OBJECTS {
        told(&mut cache, Method::GET, &format!("/object/{number}"));
    }
    let purge = |numbers: Range<u32>| {
        for number in numbers {
            let target = uri(&format!("/{number}"));
            store.invalidate(&[target], PurgeMode::Remove).now_or_never().unwrap().unwrap();
        }
    };
    // Memory is counted in this thread.
    let (grown, ()) = alloc::growth(|| purge(0..100_000));
    std::thread::scope(|scope| {
        scope.spawn(|| purge(100_000..550_000));
        scope.spawn(|| purge(550_000..1_000_000));
    });
    assert!(grown.peak < 1 << 20, "{} bytes for purges of nothing", grown.peak);
    let hits = (0..OBJECTS)
        .filter(|number| told(&mut cache, Method::GET, &format!("/object/{number}")).contains("; hit"))
        .count();
    assert_eq!(hits, OBJECTS as usize, "none is over-purged");
}

#[test]
fn a33_thousands_of_unsafe_requests_invalidate_only_their_targets() {
    const OBJECTS: u32 = 500;
    let mut cache = cache(&store());
    for number in 0..OBJECTS {
        told(&mut cache, Method::GET, &format!("/object/{number}"));
    }
    // More than any fixed number of stamps.
    for number in 0..70_000 {
        told(&mut cache, Method::POST, &format!("/{number}"));
        if number % 700 == 0 {
            told(&mut cache, Method::POST, &format!("/object/{}", number / 700));
        }
    }
    for number in 0..OBJECTS {
        let is_hit = told(&mut cache, Method::GET, &format!("/object/{number}")).contains("; hit");
        assert_eq!(is_hit, number >= 100, "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn a33_thousands_of_purges_during_a_fetch_hit_it_only_if_they_name_it() {
    for (named, is_stored) in [(None, true), (Some("/x"), false), (Some("/"), true)] {
        let stage = Stage::new();
        let client = stage.get("/x");
        settle().await;
        let call = stage.origin.call(0);
        call.head(&[("cache-control", "max-age=60"), ("cache-groups", "\"g\"")]).frame("old");
        settle().await;
        for number in 0..70_000 {
            stage.handle.purge_target(&uri(&format!("/{number}"))).await.unwrap();
            if let (35_000, Some(named)) = (number, named) {
                stage.handle.purge_target(&uri(named)).await.unwrap();
            }
        }
        call.end();
        client.seen().await.has_body("old");
        let again = stage.get_with("/x", &[("cache-control", "only-if-cached")]).seen().await;
        assert_eq!(again.is_hit(), is_stored, "{named:?}: {again:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a33_a_group_that_is_purged_while_its_first_member_is_fetched_is_not_forgotten() {
    for flood in [0, 10_000] {
        let stage = Stage::new();
        let client = stage.get("/x");
        settle().await;
        stage.handle.purge_target(&PurgeTarget::Group("http://example.com g".into())).await.unwrap();
        for number in 0..flood {
            let group = PurgeTarget::Group(format!("http://example.com {number}").into());
            stage.handle.purge_target(&group).await.unwrap();
        }
        stage.origin.call(0).head(&[("cache-control", "max-age=60"), ("cache-groups", "\"g\"")]).end();
        client.seen().await;
        let again = stage.get_with("/x", &[("cache-control", "only-if-cached")]).seen().await;
        assert!(!again.is_hit(), "{flood}: {again:?}");
    }
}

#[tokio::test]
async fn a33_answers_that_purge_whole_origins_leave_other_origins_alone() {
    let bench = Bench::new([Reply::cc("x", "max-age=60")]);
    bench.get("/").await;
    let many = vec!["\"g\""; 129].join(", ");
    bench.origin.then(Reply::new("").field("cache-group-invalidation", &many));
    for number in 0..2_000 {
        let host = format!("host-{number}.example");
        bench.send(Method::POST, "/", &[("host", &host)]).await;
    }
    assert!(bench.get("/").await.is_hit());
    bench.send(Method::POST, "/other", &[]).await;
    assert!(!bench.get("/").await.is_hit(), "its own origin goes as a whole");
}

#[tokio::test]
async fn a33_a_flood_of_invalidated_queries_affects_only_their_path() {
    let reply = |body: &str| Reply::cc(body, "max-age=60").field("no-vary-search", "params=(\"utm\")");
    let bench = Bench::new([reply("one")]);
    bench.get("/a?x=1").await;
    bench.get("/b?x=1").await;
    bench.origin.then(reply("two"));
    for number in 2..10_000 {
        bench.send(Method::POST, &format!("/a?x={number}"), &[]).await;
    }
    for path in ["/a?x=1", "/b?x=1", "/b?x=1&utm=1"] {
        assert!(bench.get(path).await.has_body("one").is_hit(), "{path}");
    }
    // What is purged under one query is not answered by what is stored under another.
    bench.handle.purge_target(&uri("/b?x=1&utm=2")).await.unwrap();
    assert!(bench.get("/b?x=1&utm=3").await.has_body("one").is_hit(), "nobody has purged that");
    bench.get("/b?x=1&utm=2").await.has_body("two");
}

#[test]
fn a33_thousands_of_uris_and_their_purges_do_not_grow_memory() {
    const CAPACITY: u64 = 4 << 20;
    let (grown, (_kept, held)) = alloc::growth(|| {
        let store = MemoryStore::builder().capacity(CAPACITY).max_object(1 << 16).build();
        let mut cache = cache(&store);
        for number in 0..40_000 {
            told(&mut cache, Method::GET, &format!("/object/{number}"));
            told(&mut cache, Method::POST, &format!("/object/{number}"));
        }
        let held = store.statistics();
        (cache, held)
    });
    assert!(held.evictions > 30_000, "{held:?}");
    #[expect(clippy::cast_precision_loss)]
    let ratio = grown.live as f64 / held.bytes as f64;
    println!("{} bytes live, {} held, ratio {ratio:.3}", grown.live, held.bytes);
    assert!(ratio <= 1.25 && grown.peak <= CAPACITY / 100 * 130, "{ratio} {grown:?}");
}

/// A store around another one that says nothing of what is on its way, and knows no purge from another.
#[derive(Clone)]
struct Plain(Arc<MemoryStore>);

impl Store for Plain {
    forward!(0: get, open, put, begin, freshen, invalidate, limits, statistics);

    fn try_get(&self, _: &CacheKey) -> Option<Lookup> {
        None
    }

    fn expect(&self, _: &CacheKey) -> Expected {
        Expected::default()
    }

    async fn purged_since(&self, key: &CacheKey, since: Fence, _: PurgeScope) -> Result<bool, StoreError> {
        Ok(self.get(key).await?.fence != since)
    }
}

#[tokio::test(start_paused = true)]
async fn f08_no_purge_is_lost_in_a_store_that_does_not_implement_expect() {
    check_all(&Subject::new(async || Plain(Arc::default()))).await;
    for (purged, is_stored) in [("/x", false), ("/y", true)] {
        let origin = crate::support::stepped::Stepped::default();
        let layer = CacheLayer::new(Plain(Arc::default()));
        let mut cache = layer.layer(origin.clone());
        let client = tokio::spawn(cache.call(request(Method::GET, "/x")));
        settle().await;
        origin.call(0).head(&FRESH).frame("old");
        settle().await;
        layer.handle().purge_target(&uri(purged)).await.unwrap();
        let late = tokio::spawn(cache.call(request(Method::GET, "/x")));
        settle().await;
        origin.script(&[Step::head(200, &[("cache-control", "no-store")]), Step::frame("new"), Step::End]);
        assert_eq!(origin.calls(), 2, "any purge may concern it");
        origin.call(1).steps(&[
            Step::head(200, &[("cache-control", "no-store")]),
            Step::frame("new"),
            Step::End,
        ]);
        crate::support::bench::read(late.await.unwrap().unwrap()).await.has_body("new");
        origin.call(0).end();
        crate::support::bench::read(client.await.unwrap().unwrap()).await.has_body("old");
        let seen = crate::support::bench::read(cache.call(request(Method::GET, "/x")).await.unwrap()).await;
        // The later call supersedes the earlier one, which is not stored then whatever was purged.
        assert!(!seen.is_hit() || is_stored, "{purged}: {seen:?}");
    }
}
