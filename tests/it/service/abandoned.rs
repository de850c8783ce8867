//! Unsafe requests that end without an answer, because the client leaves or the service fails (A32).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Method, Request, Response};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use larder::{Clock, FillLimits, MemoryStore, StandardPolicy};
use tokio::sync::Semaphore;
use tower::{Layer, Service, service_fn};

use crate::support::raw;
use crate::support::stepped::Answer;
use crate::support::wire;
use crate::support::{Stage, Step, cache_builder, cache_layer, settle};

const FRESH: [(&str, &str); 2] = [("cache-control", "max-age=60"), ("etag", "\"a\"")];

async fn fill(stage: &Stage, path: &str) {
    let head: Vec<_> = FRESH.into_iter().chain([("cache-groups", "\"g\"")]).collect();
    stage.fill(path, &[Step::head(200, &head), Step::frame("old"), Step::End]).await;
}

/// What is stored at a path: `hit`, or what the origin is asked for it.
async fn state(stage: &Stage, path: &str) -> &'static str {
    let calls = stage.origin.calls();
    let client = stage.get(path);
    settle().await;
    if stage.origin.calls() == calls {
        client.seen().await.has_body("old");
        return "hit";
    }
    let call = stage.origin.call(calls);
    if call.field("if-none-match") == Some("\"a\"") {
        call.step(Step::head(304, &FRESH)).end();
        client.seen().await.has_body("old");
        return "validated";
    }
    call.head(&[("cache-control", "no-store")]).end();
    client.seen().await;
    "fetched"
}

/// A request that the origin has got, and whose client has left.
async fn abandon(stage: &Stage, method: Method, path: &str) -> crate::support::stepped::Call {
    let calls = stage.origin.calls();
    let client = stage.send(method, path, &[]);
    settle().await;
    client.leave();
    settle().await;
    stage.origin.call(calls)
}

#[tokio::test(start_paused = true)]
async fn a32_an_unsafe_request_continues_without_its_client_and_its_status_decides() {
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::from_bytes(b"FROB").unwrap()] {
        for (status, expected) in
            [(200, "fetched"), (204, "fetched"), (303, "fetched"), (404, "hit"), (405, "hit"), (500, "hit")]
        {
            let stage = Stage::new();
            for path in ["/", "/location", "/group", "/other"] {
                fill(&stage, path).await;
            }
            let call = abandon(&stage, method.clone(), "/").await;
            assert!(call.is_open() && stage.handle.fills().abandoned == 1, "{method} {status}");
            assert_eq!(state(&stage, "/").await, "hit", "{method} {status}: nobody knows anything yet");
            let answer = [("location", "/location"), ("content-location", "http://example.com/group")];
            call.step(Step::head(status, &answer)).end();
            settle().await;
            for (path, expected) in
                [("/", expected), ("/location", expected), ("/group", expected), ("/other", "hit")]
            {
                assert_eq!(state(&stage, path).await, expected, "{method} {status} {path}");
            }
            assert_eq!(stage.handle.fills().abandoned, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a32_groups_that_an_answer_names_are_invalidated_although_the_client_has_left() {
    let stage = Stage::new();
    for path in ["/", "/other"] {
        fill(&stage, path).await;
    }
    let call = abandon(&stage, Method::POST, "/elsewhere").await;
    call.step(Step::head(200, &[("cache-group-invalidation", "\"g\"")])).end();
    settle().await;
    for path in ["/", "/other"] {
        assert_eq!(state(&stage, path).await, "fetched", "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a32_three_hundred_aborted_requests_cause_no_miss() {
    let stage = Stage::new();
    fill(&stage, "/").await;
    let mut calls = Vec::new();
    for _ in 0..300 {
        calls.push(abandon(&stage, Method::POST, "/").await);
        assert_eq!(state(&stage, "/").await, "hit");
    }
    assert_eq!(stage.handle.fills().abandoned, 300);
    for call in &calls {
        call.step(Step::head(405, &[])).end();
    }
    settle().await;
    assert_eq!(state(&stage, "/").await, "hit");
    assert_eq!((stage.handle.fills().abandoned, stage.origin.calls()), (0, 301));
}

#[tokio::test(start_paused = true)]
async fn a32_beyond_the_bound_the_stored_response_becomes_stale_and_stays() {
    let stage = Stage::with(cache_builder().fill_limits(FillLimits::new().abandoned(2)));
    fill(&stage, "/").await;
    let going_on = [abandon(&stage, Method::POST, "/").await, abandon(&stage, Method::POST, "/").await];
    assert_eq!(state(&stage, "/").await, "hit");
    for _ in 0..300 {
        assert!(!abandon(&stage, Method::POST, "/").await.is_open());
    }
    assert_eq!(stage.handle.fills().abandoned, 2);
    // One validation for all of them, which a herd shares.
    let calls = stage.origin.calls();
    let herd = stage.herd(100, &[]);
    settle().await;
    assert_eq!(stage.origin.calls(), calls + 1);
    assert_eq!(stage.origin.call(calls).field("if-none-match"), Some("\"a\""));
    stage.origin.call(calls).step(Step::head(304, &FRESH)).end();
    for client in herd {
        client.seen().await.has_body("old");
    }
    assert_eq!(state(&stage, "/").await, "hit");
    for call in going_on {
        call.step(Step::head(405, &[])).end();
    }
    settle().await;
    assert_eq!(state(&stage, "/").await, "hit");
    assert_eq!(stage.handle.fills().abandoned, 0);
    assert!(abandon(&stage, Method::POST, "/").await.is_open(), "there is room again");
}

#[tokio::test(start_paused = true)]
async fn a32_a_request_aborted_before_the_service_is_ready_has_no_effect() {
    let stage = Stage::with(cache_builder().fill_limits(FillLimits::new().abandoned(0)));
    fill(&stage, "/").await;
    stage.origin.hold_readiness();
    let post = stage.send(Method::POST, "/", &[]);
    settle().await;
    post.leave();
    settle().await;
    stage.get("/").seen().await.has_body("old").told("larder; hit; ttl=60");
    assert_eq!(stage.origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a32_a_failed_request_only_makes_the_stored_response_stale() {
    for leaves in [false, true] {
        for end in [Step::Refuse, Step::Panic] {
            let stage = Stage::new();
            for path in ["/", "/other"] {
                fill(&stage, path).await;
            }
            if leaves {
                abandon(&stage, Method::POST, "/").await.step(end.clone());
            } else {
                stage.origin.script(std::slice::from_ref(&end));
                let answer = stage.send(Method::POST, "/", &[]).answer().await;
                assert!(!matches!(answer, Answer::Response(_)), "{end:?}");
                stage.origin.script(&[]);
            }
            settle().await;
            assert_eq!(state(&stage, "/").await, "validated", "{end:?}, leaves: {leaves}");
            assert_eq!(state(&stage, "/").await, "hit", "{end:?}, leaves: {leaves}");
            assert_eq!(state(&stage, "/other").await, "hit", "{end:?}, leaves: {leaves}");
            assert_eq!(stage.handle.fills().abandoned, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a32_repeated_failures_cause_a_validation_only_once_per_pause() {
    let stage = Stage::with(cache_builder().fill_limits(FillLimits::new().abandoned(0)));
    for path in ["/", "/other"] {
        fill(&stage, path).await;
    }
    let mut validated = 0;
    for number in 0..100 {
        if number % 2 == 0 {
            abandon(&stage, Method::POST, "/").await;
        } else {
            stage.origin.script(&[Step::Refuse]);
            assert!(matches!(stage.send(Method::PUT, "/", &[]).answer().await, Answer::Refused));
            stage.origin.script(&[]);
        }
        match state(&stage, "/").await {
            "hit" => {}
            state => {
                assert_eq!(state, "validated");
                validated += 1;
            }
        }
    }
    assert_eq!(validated, 1, "at once, and then not for a second");
    // None is forgotten: what came in that second counts at its end.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(state(&stage, "/").await, "validated");
    assert_eq!(state(&stage, "/").await, "hit");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!([state(&stage, "/").await, state(&stage, "/other").await], ["hit"; 2]);
    stage.later(2);
    abandon(&stage, Method::POST, "/").await;
    assert_eq!(state(&stage, "/").await, "validated", "at once again");
}

#[tokio::test(start_paused = true)]
async fn a32_an_unknown_outcome_does_not_forbid_serving_stale() {
    let stage = Stage::with(cache_builder().fill_limits(FillLimits::new().abandoned(0)));
    let head = [("cache-control", "max-age=60, stale-while-revalidate=60"), ("etag", "\"a\"")];
    stage.fill("/", &[Step::head(200, &head), Step::frame("old"), Step::End]).await;
    abandon(&stage, Method::POST, "/").await;
    let seen = stage.get("/").seen().await.has_body("old");
    assert!(seen.cache_status().contains("stale-while-revalidate"), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a32_the_answer_to_a_post_is_stored_although_its_client_has_left() {
    let stage = Stage::with(cache_builder().policy(StandardPolicy::default().post(true)));
    let call = abandon(&stage, Method::POST, "/").await;
    let head = [("cache-control", "max-age=60"), ("content-location", "/")];
    call.step(Step::head(200, &head)).frame("po");
    settle().await;
    assert_eq!(stage.handle.fills().abandoned, 1);
    call.frame("st").end();
    settle().await;
    stage.get("/").seen().await.has_body("post").told("larder; hit; ttl=60");
    assert_eq!(stage.handle.fills().abandoned, 0);
}

/// An origin that answers everything but a POST.
fn hangs_on_post()
-> impl Service<Request<Empty<Bytes>>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    service_fn(|request: Request<Empty<Bytes>>| async move {
        if request.method() == Method::POST {
            std::future::pending::<()>().await;
        }
        let is_validated = request.headers().contains_key("if-none-match");
        let response = Response::builder().status(if is_validated { 304 } else { 200 });
        let response = response.header("cache-control", "max-age=60").header("etag", "\"a\"");
        Ok(response.body(Full::new(Bytes::from_static(b"x"))).unwrap())
    })
}

fn request(method: Method) -> Request<Empty<Bytes>> {
    Request::builder().method(method).uri("http://a/").body(Empty::new()).unwrap()
}

/// A layer whose store answers at once, and whose clock stands still.
fn in_memory() -> larder::CacheLayer {
    larder::CacheLayer::builder(MemoryStore::default()).clock(Clock::manual().0).build()
}

#[test]
fn a32_without_a_runtime_a_dropped_request_only_makes_the_stored_response_stale() {
    // Where there is nothing to wait in, only a store that answers at once can be asked when something is dropped.
    let cache = in_memory().layer(hangs_on_post());
    let send = |method| cache.clone().call(request(method));
    let told = |method| {
        let response = send(method).now_or_never().expect("it is there at once").unwrap();
        response.headers()["cache-status"].to_str().unwrap().to_owned()
    };
    told(Method::GET);
    assert_eq!(told(Method::GET), "larder; hit; ttl=60");
    drop(send(Method::POST));
    assert_eq!(told(Method::GET), "larder; hit; ttl=60", "it was never begun");
    assert!(send(Method::POST).now_or_never().is_none());
    assert_eq!(told(Method::GET), "larder; fwd=stale; fwd-status=304; stored; ttl=60");
    assert_eq!(told(Method::GET), "larder; hit; ttl=60");
}

#[tokio::test]
async fn a32_a_request_costs_no_task_while_its_client_waits() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let layer = cache_layer();
    let mut cache = layer.layer(hangs_on_post());
    let before = tasks();
    let mut post = Box::pin(cache.call(request(Method::POST)));
    assert!((&mut post).now_or_never().is_none());
    tokio::task::yield_now().await;
    assert!((&mut post).now_or_never().is_none());
    assert_eq!((tasks(), layer.handle().fills().abandoned), (before, 0));
    drop(post);
    assert_eq!((tasks(), layer.handle().fills().abandoned), (before + 1, 1));
}

#[test]
fn a32_an_abandoned_request_ends_with_its_runtime_and_only_makes_stale() {
    // Only a store that answers at once can be asked when the runtime has ended.
    let layer = in_memory();
    let cache = layer.layer(hangs_on_post());
    let told = || {
        let response = cache.clone().call(request(Method::GET)).now_or_never().expect("at once").unwrap();
        response.headers()["cache-status"].to_str().unwrap().to_owned()
    };
    told();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let post = cache.clone().call(request(Method::POST));
    let left = runtime.spawn(async move { assert!(Box::pin(post).now_or_never().is_none()) });
    runtime.block_on(left).unwrap();
    assert_eq!(layer.handle().fills().abandoned, 1);
    assert_eq!(told(), "larder; hit; ttl=60");
    drop(runtime);
    assert_eq!(layer.handle().fills().abandoned, 0);
    assert_eq!(told(), "larder; fwd=stale; fwd-status=304; stored; ttl=60");
}

#[tokio::test]
async fn a32_aborted_requests_on_one_http2_connection_cause_no_miss() {
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let refusals = Arc::new(Semaphore::new(0));
    let origin = service_fn({
        let refusals = Arc::clone(&refusals);
        move |request: Request<Incoming>| {
            let (arrived, refusals) = (arrived.clone(), Arc::clone(&refusals));
            async move {
                let mut response = Response::builder().header("cache-control", "max-age=600");
                if request.method() == Method::POST {
                    arrived.send(()).unwrap();
                    refusals.acquire().await.unwrap().forget();
                    response = Response::builder().status(405);
                }
                Ok::<_, Infallible>(response.body(Full::new(Bytes::from_static(b"x"))).unwrap())
            }
        }
    });
    let layer = cache_layer();
    let address = wire::serve(layer.layer(origin)).await;
    assert!(!wire::get(address, "/x", &[]).await.is_hit());
    let attacker = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Empty<Bytes>>();
    let gone_on = |count: u64| {
        let handle = layer.handle();
        async move {
            let all = async {
                while handle.fills().abandoned != count {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(raw::GUARD, all).await.expect("so many requests without their clients");
        }
    };
    for count in 1..=300 {
        let post = Request::post(format!("http://{address}/x")).body(Empty::new()).unwrap();
        let post = tokio::spawn(attacker.request(post));
        arrivals.recv().await.unwrap();
        post.abort();
        gone_on(count).await;
        if count % 30 == 0 {
            assert!(wire::get(address, "/x", &[]).await.is_hit(), "{count}");
        }
    }
    refusals.add_permits(300);
    gone_on(0).await;
    assert!(wire::get(address, "/x", &[]).await.is_hit());
}

#[test]
fn a32_an_aborted_post_on_a_real_socket_removes_nothing() {
    let origin = raw::Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = raw::Client::of(&proxy);
    client.get("/x");
    let ok = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\netag: \"a\"\r\ncontent-length: 3\r\n\r\nold";
    origin.asked("/x").answer(ok);
    client.next().is("HTTP/1.1 200 OK", "old");
    for _ in 0..10 {
        let mut leaver = raw::Client::of(&proxy);
        leaver.send("POST /x HTTP/1.1\r\nhost: a.example\r\ncontent-length: 0\r\n\r\n");
        let mut asked = origin.asked("/x");
        drop(leaver);
        client.get("/x");
        client.next().is("HTTP/1.1 200 OK", "old").has("\r\ncache-status: larder; hit");
        asked.answer("HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n");
    }
}
