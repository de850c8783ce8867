//! Events for observers, and the outcome in `Cache-Status` and in extensions.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, request};
use http_body_util::Empty;
use larder::store::PurgeTarget;
use larder::{BoxStore, CacheLayer, CachePolicy, Delivery, Event, ForwardReason, Outcome, StandardPolicy};
use tower::{Layer, Service, ServiceExt};

use crate::store::failing::Down;
use crate::support::bench::read;
use crate::support::origin::always;
use crate::support::stores::{at_rest, cache_builder};
use crate::support::{Bench, Origin, Reply, Stage, settle};

/// Everything that was observed, a line an event.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// What has come since the last time.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn observer(&self) -> impl Fn(&Event<'_>) + Send + Sync + 'static {
        let lines = Arc::clone(&self.0);
        move |event| lines.lock().unwrap().push(line(event))
    }
}

fn line(event: &Event<'_>) -> String {
    match event {
        Event::Answered { key, method, outcome, status, .. } => {
            let key = key.map_or("-".into(), |key| String::from_utf8_lossy(key.uri()).into_owned());
            let outcome = outcome.render("larder", None);
            format!("answered {method} {key} {status} {}", outcome.to_str().unwrap())
        }
        Event::BodyEnded { bytes, is_whole, key, .. } => {
            let key = key.map_or("-".into(), |key| String::from_utf8_lossy(key.uri()).into_owned());
            format!("body {key} {bytes} whole={is_whole}")
        }
        Event::Dropped { method, .. } => format!("dropped {method}"),
        Event::Failed { method, .. } => format!("failed {method}"),
        Event::Fetched { forward, is_background, status, .. } => {
            format!(
                "fetched {forward:?} background={is_background} {:?}",
                status.map(|status| status.as_u16())
            )
        }
        Event::Invalidated { by, succeeded, targets, .. } => {
            format!("invalidated {by:?} {} {succeeded}", targets.len())
        }
        Event::Freshened { outcome, .. } => format!("freshened {outcome:?}"),
        Event::Put { bytes, outcome, .. } => format!("stored {bytes} {outcome:?}"),
        Event::StoreFailed { error, .. } => format!("store failed: {error}"),
        other => format!("{other:?}"),
    }
}

/// The bodies that have ended since the last time.
fn bodies(log: &Log) -> Vec<String> {
    log.take().into_iter().filter(|line| line.starts_with("body")).collect()
}

fn observed(log: &Log) -> crate::support::stores::CacheBuilder {
    cache_builder().observer(log.observer())
}

#[tokio::test]
async fn a_miss_and_a_hit_report_each_step_once() {
    let log = Log::default();
    let bench = Bench::with(observed(&log), [Reply::cc("four", "max-age=60")]);
    bench.get("/a").await;
    let mut seen = log.take();
    // A store that takes its time stores after the answer.
    seen.sort_unstable();
    assert_eq!(
        seen,
        [
            "answered GET http://example.com/a 200 OK larder; fwd=uri-miss; stored; ttl=60",
            "body http://example.com/a 4 whole=true",
            "fetched UriMiss background=false Some(200)",
            "stored 4 Stored",
        ]
    );
    bench.get("/a").await;
    assert_eq!(
        log.take(),
        [
            "answered GET http://example.com/a 200 OK larder; hit; ttl=60",
            "body http://example.com/a 4 whole=true"
        ]
    );
}

#[tokio::test]
async fn a_background_validation_is_not_reported_as_an_answer() {
    let log = Log::default();
    let reply = Reply::cc("four", "max-age=60, stale-while-revalidate=60").field("etag", "\"a\"");
    let bench = Bench::with(observed(&log), [reply]);
    bench.get("/").await;
    bench.later(61);
    log.take();
    bench.get("/").await;
    settle().await;
    let seen = log.take();
    let answered = seen.iter().filter(|line| line.starts_with("answered")).count();
    assert_eq!(answered, 1, "{seen:?}");
    assert!(seen.contains(&"fetched Stale background=true Some(200)".to_owned()), "{seen:?}");
}

#[tokio::test]
async fn a_response_that_is_still_valid_is_reported_as_freshened() {
    let log = Log::default();
    let bench = Bench::with(observed(&log), [Reply::cc("four", "max-age=60").field("etag", "\"a\"")]);
    bench.get("/").await;
    bench.later(61);
    bench.origin.not_modified(Some(Reply::cc("", "max-age=60").status(304)));
    log.take();
    bench.get("/").await.has_body("four");
    at_rest().await;
    let seen = log.take();
    assert!(seen.contains(&"freshened Stored".to_owned()), "{seen:?}");
    assert!(!seen.iter().any(|line| line.starts_with("stored")), "{seen:?}");
}

#[tokio::test]
async fn a_forwarded_or_unsafe_request_is_reported_with_its_outcome() {
    let log = Log::default();
    let bench = Bench::with(observed(&log), [Reply::cc("four", "max-age=60")]);
    bench.send(Method::OPTIONS, "/", &[]).await;
    assert_eq!(
        log.take(),
        [
            "answered OPTIONS http://example.com/ 200 OK larder; fwd=method",
            "body http://example.com/ 4 whole=true"
        ]
    );
    bench.send(Method::PUT, "/", &[]).await;
    assert_eq!(
        log.take(),
        [
            "invalidated UnsafeRequest 1 true",
            "answered PUT http://example.com/ 200 OK larder; fwd=method",
            "body http://example.com/ 4 whole=true",
        ]
    );
    bench.handle.purge_target(&PurgeTarget::All).await.unwrap();
    assert_eq!(log.take(), ["invalidated Handle 1 true"]);
}

/// Counts the requests that it forwards, and marks each answer that it delivers.
struct Marking(Arc<AtomicUsize>);

impl CachePolicy for Marking {
    fn forward(&self, _: &mut request::Parts, _: &ForwardReason<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn deliver(&self, delivery: &mut Delivery<'_>) {
        delivery.headers.append("x-edge", HeaderValue::from_static("1"));
    }
}

#[tokio::test]
async fn a_request_that_meets_the_same_layer_twice_is_reported_and_delivered_once() {
    let (log, forwarded) = (Log::default(), Arc::new(AtomicUsize::new(0)));
    let policy = Marking(Arc::clone(&forwarded));
    let layer = observed(&log).policy(policy).build();
    let origin = Origin::new([Reply::cc("four", "max-age=60")]);
    let cache = layer.layer(layer.layer(origin));
    for method in [Method::GET, Method::GET, Method::OPTIONS, Method::PUT] {
        forwarded.store(0, Ordering::Relaxed);
        let request = Request::builder().method(method.clone()).uri("http://example.com/");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let seen = read(cache.clone().oneshot(request).await.unwrap()).await;
        at_rest().await;
        assert_eq!(seen.fields.get_all("x-edge").iter().count(), 1, "{method}");
        let events = log.take();
        for event in ["answered", "body"] {
            assert_eq!(
                events.iter().filter(|line| line.starts_with(event)).count(),
                1,
                "{method}: {events:?}"
            );
        }
        assert_eq!(forwarded.load(Ordering::Relaxed), usize::from(!seen.is_hit()), "{method}");
    }
}

#[tokio::test]
async fn an_error_of_the_inner_service_is_reported_as_a_failure() {
    let log = Log::default();
    let bench = Bench::with(observed(&log), [Reply::refused()]);
    for method in [Method::GET, Method::OPTIONS, Method::POST] {
        bench.try_send(method.clone(), "/", &[]).await.unwrap_err();
        let seen = log.take();
        assert_eq!(seen.last(), Some(&format!("failed {method}")), "{seen:?}");
        assert_eq!(
            seen.iter().filter(|line| !line.starts_with("fetched")).count(),
            1 + usize::from(method == Method::POST)
        );
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_reported_once() {
    let log = Log::default();
    let stage = Stage::with(observed(&log));
    for method in ["GET", "OPTIONS"] {
        let request = Request::builder().method(method).uri("http://example.com/");
        let mut call = Box::pin(stage.cache.clone().call(request.body(Empty::<Bytes>::new()).unwrap()));
        let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::pin::Pin::new(&mut call).poll(&mut nobody).is_pending());
        drop(call);
        assert_eq!(log.take(), [format!("dropped {method}")]);
    }
}

#[tokio::test]
async fn a_body_that_is_not_read_to_its_end_is_not_reported_as_whole() {
    let log = Log::default();
    let bench = Bench::with(observed(&log), [Reply::cc("", "max-age=60").frames(&["ab", "cd"]).failing()]);
    let seen = bench.get("/").await;
    assert!(seen.broken);
    assert_eq!(bodies(&log).last().map(String::as_str), Some("body http://example.com/ 4 whole=false"));
    let bench = Bench::with(observed(&log), [Reply::cc("four", "max-age=60")]);
    let request = Request::get("http://example.com/").body(Empty::<Bytes>::new()).unwrap();
    let response = bench.cache.clone().oneshot(request).await.unwrap();
    drop(response);
    assert_eq!(bodies(&log).last().map(String::as_str), Some("body http://example.com/ 0 whole=false"));
    bench.send(Method::HEAD, "/", &[]).await;
    assert_eq!(bodies(&log).last().map(String::as_str), Some("body http://example.com/ 0 whole=true"));
}

#[tokio::test]
async fn each_failure_of_the_store_is_reported_as_an_event() {
    let log = Log::default();
    let layer = CacheLayer::builder(BoxStore::new(Down)).observer(log.observer()).build();
    let mut cache = layer.layer(always(Reply::cc("four", "max-age=60")));
    for method in [Method::GET, Method::PUT] {
        let request = Request::builder().method(method).uri("http://example.com/");
        read(cache.call(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()).await;
    }
    layer.handle().purge_target(&PurgeTarget::All).await.unwrap_err();
    let seen = log.take();
    let failed: Vec<_> = seen.iter().filter(|line| line.starts_with("store failed")).collect();
    for action in ["look up", "put", "invalidate"] {
        assert!(failed.iter().any(|line| line.contains(action)), "{action}: {seen:?}");
    }
    assert!(seen.contains(&"invalidated Handle 1 false".to_owned()), "{seen:?}");
}

#[tokio::test]
async fn cache_status_is_sent_unless_it_is_switched_off() {
    let builder = || cache_builder().cache_status(false);
    let upstream = "edge; hit";
    for (reply, expected) in [
        (Reply::cc("four", "max-age=60"), None),
        (Reply::cc("four", "max-age=60").field("cache-status", upstream), Some(upstream)),
        (Reply::cc("four", "no-store").field("cache-status", upstream), Some(upstream)),
    ] {
        let bench = Bench::with(builder(), [reply]);
        for _ in 0..2 {
            assert_eq!(bench.get("/").await.field("cache-status"), expected);
        }
    }
}

#[tokio::test]
async fn x_cache_is_sent_whether_or_not_cache_status_is() {
    for is_on in [false, true] {
        let layer = cache_builder().cache_status(is_on).x_cache(true);
        let bench = Bench::with(layer, [Reply::cc("four", "max-age=60")]);
        for (condition, x_cache) in [("\"a\"", "Miss"), ("\"a\"", "Hit"), ("*", "Hit")] {
            let seen = bench.get_with("/", &[("if-none-match", condition)]).await;
            assert_eq!(seen.field("x-cache"), Some(&*format!("{x_cache} from larder")));
            assert_eq!(seen.field("cache-status").is_some(), is_on, "{condition}");
        }
    }
}

#[tokio::test]
async fn the_outcome_is_in_the_extensions_if_the_option_is_on() {
    for is_on in [false, true] {
        let builder = cache_builder().outcome_in_extensions(is_on);
        let bench = Bench::with(builder, [Reply::cc("four", "max-age=60")]);
        let get = async || {
            let request = Request::get("http://example.com/").body(Empty::<Bytes>::new()).unwrap();
            bench.cache.clone().oneshot(request).await.unwrap().extensions().get::<Outcome>().cloned()
        };
        get().await;
        at_rest().await;
        assert_eq!(get().await.map(|outcome| outcome.is_hit()), is_on.then_some(true));
    }
}

#[tokio::test(start_paused = true)]
async fn events_report_the_elapsed_time() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    let builder = cache_builder().policy(StandardPolicy::default()).observer(move |event: &Event<'_>| {
        if let Event::Answered { elapsed, .. } | Event::Fetched { elapsed, .. } = event {
            seen.lock().unwrap().push(*elapsed);
        }
    });
    let stage = Stage::with(builder);
    let client = stage.get("/");
    settle().await;
    tokio::time::advance(Duration::from_secs(3)).await;
    stage.origin.call(0).head(&[("cache-control", "max-age=60")]).frame("x").end();
    client.response().await;
    let times = times.lock().unwrap();
    assert_eq!(times.len(), 2);
    assert!(times.iter().all(|time| (3..4).contains(&time.as_secs())), "{times:?}");
}

#[tokio::test]
async fn an_observer_that_panics_at_the_end_of_a_request_breaks_nothing_else() {
    let observer = |event: &Event<'_>| match event {
        Event::BodyEnded { .. } | Event::Dropped { .. } => panic!("an observer's own fault"),
        _ => {}
    };
    let builder = cache_builder().observer(observer);
    let bench = Bench::with(builder, [Reply::cc("x", "max-age=60")]);
    bench.get("/").await.has_body("x");
    assert!(bench.get("/").await.has_body("x").is_hit());
    // A panic of the inner service drops the report while the thread unwinds: a second panic would end the process.
    let layer = cache_builder().observer(observer).build();
    let broken = tower::service_fn(
        async |_: Request<Empty<Bytes>>| -> Result<http::Response<Empty<Bytes>>, Infallible> {
            panic!("the service's own fault")
        },
    );
    let request = Request::builder().method(Method::OPTIONS).uri("http://a/").body(Empty::new()).unwrap();
    let call = tokio::spawn(layer.layer(broken).oneshot(request));
    assert!(call.await.unwrap_err().is_panic());
}
