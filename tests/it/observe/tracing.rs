//! Events and spans of `tracing`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Empty;
use larder::policy::{Policies, request_fn};
use larder::store::PurgeTarget;
use larder::{CacheLayer, CallLimits, RequestAction, StandardPolicy, TracingObserver};
use tokio::task::JoinHandle;
use tower::Layer;
use tracing::{Instrument, Level};

use crate::support::bench::read;
use crate::support::spans::{Span, Spans};
use crate::support::stepped::Stepped;
use crate::support::{Bench, CacheBuilder, CacheService, Reply, Seen, Stage, Step, cache_builder, settle};

fn observed() -> CacheBuilder {
    cache_builder().observer(TracingObserver::new())
}

/// The events about requests since the last time.
fn requests(spans: &Spans) -> Vec<String> {
    let events = spans.take(Level::DEBUG).into_iter();
    events.filter(|event| event.get("message") == Some("request")).map(|event| event.to_string()).collect()
}

#[tokio::test]
async fn each_request_is_one_event_with_every_member_of_cache_status() {
    let (spans, _guard) = Spans::capture();
    let replies = [Reply::cc("four", "max-age=60").field("etag", "\"a\"")];
    let bench = Bench::with(observed(), replies);
    let both = "http.request.method=GET http.response.status_code=200 larder.cache=larder";
    bench.get("/a").await;
    assert_eq!(
        requests(&spans),
        [format!(
            "{both} larder.fwd=uri-miss larder.outcome=miss larder.stored=true larder.ttl=60 message=request"
        )]
    );
    bench.get("/a").await;
    assert_eq!(requests(&spans), [format!("{both} larder.outcome=hit larder.ttl=60 message=request")]);
    bench.later(61);
    bench.origin.not_modified(Some(Reply::cc("", "max-age=60").status(304)));
    bench.get("/a").await;
    assert_eq!(
        requests(&spans),
        [format!(
            "{both} larder.fwd=stale larder.fwd_status=304 larder.outcome=revalidated larder.stored=true larder.ttl=60 \
             message=request"
        )]
    );
    bench.origin.then(Reply::cc("mine", "private"));
    bench.get("/b").await;
    assert_eq!(
        requests(&spans),
        [format!(
            "{both} larder.detail=private larder.fwd=uri-miss larder.outcome=miss larder.stored=false message=request"
        )]
    );
    bench.origin.then(Reply::refused());
    bench.try_send(Method::PUT, "/b", &[]).await.unwrap_err();
    assert_eq!(
        requests(&spans),
        ["http.request.method=PUT larder.cache=larder larder.outcome=error message=request"]
    );
}

#[tokio::test]
async fn a41_a_url_and_a_tag_are_reported_at_trace_alone_and_escaped() {
    let (spans, _guard) = Spans::capture();
    let policy = Policies::new(StandardPolicy::default()).path(
        "/echo/*",
        request_fn(|_| RequestAction::bypass("evil\u{1b}[2Jword\r\nlarder.outcome=hit".to_owned())),
    );
    let bench = Bench::with(observed().policy(policy), [Reply::cc("four", "max-age=60")]);
    bench.get("/secret?token=evil%0A").await;
    bench.get("/echo/secret").await;
    let tag = PurgeTarget::tag("secret \u{e9}vil\u{1b}");
    let targets = [tag, PurgeTarget::uri("http://example.com/secret"), PurgeTarget::path_prefix("/secret/")];
    bench.handle.purge_targets(&targets).await.unwrap();
    let visible: Vec<_> =
        [Level::DEBUG, Level::WARN].into_iter().flat_map(|level| spans.take(level)).collect();
    assert_eq!(visible.len(), 3, "{visible:?}");
    for event in &visible {
        let event = event.to_string();
        assert!(!event.contains("secret"), "{event}");
        assert!(event.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{event:?}");
    }
    assert_eq!(visible[1].get("larder.detail"), Some("evil-[2Jword--larder.outcome=hit"));
    let hidden: Vec<_> = spans.take(Level::TRACE).iter().map(ToString::to_string).collect();
    assert!(
        hidden.contains(&"message=request url.full=http://example.com/secret?token=evil%0A".to_owned()),
        "{hidden:?}"
    );
    for target in ["tag secret \\xc3\\xa9vil\\\\u{1b}", "http://example.com/secret", "/secret/*"] {
        let event = format!("larder.target={target} message=purge");
        assert!(hidden.contains(&event), "{event} {hidden:?}");
    }
    assert!(hidden.concat().bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{hidden:?}");
    for (_, span) in spans.named("larder.fetch") {
        assert!(!span.fields.to_string().contains("secret"), "{span:?}");
    }
}

/// A client with a span of its own, and what it gets.
fn client(cache: &CacheService<Stepped>, path: &str) -> (u64, JoinHandle<Seen>) {
    let span = tracing::info_span!(target: "test", parent: None, "client");
    let id = span.id().expect("it is looked at").into_u64();
    let request = Request::get(format!("http://example.com{path}")).body(Empty::<Bytes>::new()).unwrap();
    let cache = cache.clone();
    let seen = async move { read(tower::ServiceExt::oneshot(cache, request).await.unwrap()).await };
    (id, tokio::spawn(seen.instrument(span)))
}

/// The only call that was made, and its id.
#[track_caller]
fn fetch(spans: &Spans) -> (u64, Span) {
    let mut fetches = spans.named("larder.fetch");
    assert_eq!(fetches.len(), 1, "{fetches:?}");
    fetches.remove(0)
}

#[tokio::test]
async fn the_call_is_a_child_of_the_span_of_its_request_and_ends_with_the_head() {
    let (spans, _guard) = Spans::capture();
    let stage = Stage::new();
    let (id, client) = client(&stage.cache, "/");
    settle().await;
    let (_, span) = fetch(&spans);
    assert_eq!((span.parent, span.follows.len()), (Some(id), 0));
    assert!(span.handles > 0, "the call is under way");
    assert_eq!(
        span.fields.to_string(),
        "http.request.method=GET larder.background=false larder.fwd=uri-miss otel.kind=client"
    );
    stage.origin.call(0).head(&[("cache-control", "max-age=60")]);
    settle().await;
    let (_, span) = fetch(&spans);
    assert_eq!(span.handles, 0, "its content is still on its way");
    assert_eq!(span.fields.get("http.response.status_code"), Some("200"));
    stage.origin.call(0).frame("x").end();
    client.await.unwrap();
}

#[tokio::test]
async fn a_call_that_fails_ends_its_span_with_an_error() {
    let (spans, _guard) = Spans::capture();
    let bench = Bench::new([Reply::refused()]);
    bench.try_send(Method::GET, "/", &[]).await.unwrap_err();
    let (_, span) = fetch(&spans);
    assert_eq!((span.handles, span.fields.get("otel.status_code")), (0, Some("ERROR")));
}

#[tokio::test]
async fn the_spans_of_requests_that_wait_follow_from_that_of_the_call() {
    let (spans, _guard) = Spans::capture();
    let stage = Stage::new();
    let (leader, first) = client(&stage.cache, "/");
    settle().await;
    let waiting: Vec<_> = (0..3).map(|_| client(&stage.cache, "/")).collect();
    settle().await;
    let (id, span) = fetch(&spans);
    assert_eq!(span.parent, Some(leader));
    stage.origin.call(0).head(&[("cache-control", "max-age=60")]).frame("x").end();
    first.await.unwrap();
    let clients: BTreeMap<_, _> = spans.named("client").into_iter().collect();
    assert_eq!(clients[&leader].follows, [0u64; 0]);
    for (waiter, seen) in waiting {
        seen.await.unwrap();
        assert_eq!(clients[&waiter].follows, [id]);
    }
    assert_eq!(fetch(&spans).1.handles, 0);
}

#[tokio::test]
async fn the_spans_of_requests_that_wait_before_the_call_is_made_follow_from_it_as_well() {
    let (spans, _guard) = Spans::capture();
    let stage = Stage::with(cache_builder().call_limits(CallLimits::new().total(1)));
    let (_, busy) = client(&stage.cache, "/other");
    settle().await;
    let (leader, first) = client(&stage.cache, "/");
    settle().await;
    let (waiter, second) = client(&stage.cache, "/");
    settle().await;
    assert_eq!(stage.origin.calls(), 1, "the call of both waits for its permit");
    for call in 0..2 {
        stage.origin.call(call).head(&[("cache-control", "max-age=60")]).frame("x").end();
        settle().await;
    }
    for client in [busy, first, second] {
        client.await.unwrap();
    }
    let (id, span) = spans.named("larder.fetch").remove(1);
    assert_eq!((span.parent, span.handles), (Some(leader), 0));
    let clients: BTreeMap<_, _> = spans.named("client").into_iter().collect();
    assert_eq!(clients[&waiter].follows, [id]);
    assert!(clients.values().all(|span| span.handles == 0), "{clients:?}");
}

#[tokio::test]
async fn a_validation_in_the_background_is_a_root_that_follows_from_its_cause() {
    let (spans, _guard) = Spans::capture();
    let stage = Stage::new();
    let lifetime = [("cache-control", "max-age=60, stale-while-revalidate=60"), ("etag", "\"a\"")];
    stage.fill("/", &[Step::head(200, &lifetime), Step::frame("x"), Step::End]).await;
    stage.later(61);
    let (cause, seen) = client(&stage.cache, "/");
    settle().await;
    seen.await.unwrap();
    stage.origin.call(1).step(Step::head(304, &lifetime)).end();
    settle().await;
    let (_, span) = spans.named("larder.fetch").remove(1);
    assert_eq!((span.parent, &span.follows[..], span.handles), (None, &[cause][..], 0));
    assert_eq!(span.fields.get("larder.background"), Some("true"));
    assert_eq!(span.fields.get("http.response.status_code"), Some("304"));
}

/// Otherwise spans would end late, and a herd would be held.
#[tokio::test]
async fn no_span_of_a_request_is_kept_by_a_call_whose_span_has_ended_or_is_none() {
    for is_looked_at in [true, false] {
        let (spans, _guard) = if is_looked_at { Spans::capture() } else { Spans::capture_target("test") };
        let stage = Stage::new();
        let (_, first) = client(&stage.cache, "/");
        settle().await;
        let handles =
            |id: u64| spans.named("client").into_iter().find(|(own, _)| *own == id).unwrap().1.handles;
        if is_looked_at {
            // The span ends with the head, and what comes then reads the content as it comes.
            stage.origin.call(0).head(&[("cache-control", "max-age=60")]);
            settle().await;
        }
        let waiting: Vec<_> = (0..3).map(|_| client(&stage.cache, "/")).collect();
        settle().await;
        for (waiter, seen) in waiting {
            seen.abort();
            assert!(seen.await.is_err_and(|error| error.is_cancelled()));
            assert_eq!(handles(waiter), 0, "the call goes on without it: {is_looked_at}");
        }
        if !is_looked_at {
            stage.origin.call(0).head(&[("cache-control", "max-age=60")]);
        }
        stage.origin.call(0).frame("x").end();
        first.await.unwrap();
    }
}

/// The call goes on in a task of its own.
#[tokio::test]
async fn the_call_is_made_in_the_span_of_its_request_where_nobody_looks_at_its_own() {
    let (spans, _guard) = Spans::capture_target("test");
    let seen = Arc::new(Mutex::new(None));
    let inner = tower::service_fn({
        let seen = Arc::clone(&seen);
        move |_: Request<Empty<Bytes>>| {
            let seen = Arc::clone(&seen);
            async move {
                tokio::task::yield_now().await;
                *seen.lock().unwrap() = tracing::Span::current().id();
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        }
    });
    let cache = CacheLayer::default().layer(inner);
    let span = tracing::info_span!(target: "test", "client");
    let request = Request::get("http://example.com/").body(Empty::new()).unwrap();
    tower::ServiceExt::oneshot(cache, request).instrument(span.clone()).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), span.id());
    assert!(spans.named("larder.fetch").is_empty());
}
