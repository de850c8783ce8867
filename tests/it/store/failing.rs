//! Stores that fail or hang (F10): reads fail open, purges fail closed; deadlines and the circuit breaker of `Guarded`.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use http::{HeaderMap, Method, Request};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use larder::semantics::range::ByteRange;
use larder::store::chaos::StoreCall;
use larder::store::{
    BeginOutcome, ContentWriter, Expected, Fence, GuardLimits, Guarded, Lookup, PurgeMode, PurgeNumber,
    PurgeScope, PurgeTarget, PutOutcome, RemoteContent, Store, StoreLimits, StoreStatistics, StoredBody,
    StoredId,
};
use larder::{
    BoxStore, CacheKey, CacheLayer, CachePolicy, CacheService, Event, ForwardReason, MemoryStore, PurgeError,
    ResponseHead, StoreError, StoredResponse,
};
use tower::{Layer, Service};

use crate::support::bench::read;
use crate::support::forward::forward;
use crate::support::origin::always;
use crate::support::stores::flaky;
use crate::support::{Bench, Origin, Reply, Seen};

pub struct Down;

fn down<T>(action: &'static str) -> Result<T, StoreError> {
    Err(StoreError::new(action, "it is down"))
}

impl Store for Down {
    fn try_get(&self, _: &CacheKey) -> Option<Lookup> {
        None
    }
    async fn get(&self, _: &CacheKey) -> Result<Lookup, StoreError> {
        down("look up")
    }
    async fn open(
        &self,
        _: &CacheKey,
        _: RemoteContent,
        _: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        down("open")
    }
    fn expect(&self, _: &CacheKey) -> Expected {
        Expected::default()
    }
    async fn put(&self, _: &CacheKey, _: StoredResponse, _: Fence) -> Result<PutOutcome, StoreError> {
        down("put")
    }
    async fn begin(&self, _: &CacheKey, _: Option<u64>, _: Fence) -> Result<BeginOutcome, StoreError> {
        down("begin")
    }
    async fn freshen(
        &self,
        _: &CacheKey,
        _: StoredId,
        _: ResponseHead,
        _: Fence,
    ) -> Result<PutOutcome, StoreError> {
        down("freshen")
    }
    async fn purged_since(&self, _: &CacheKey, _: Fence, _: PurgeScope) -> Result<bool, StoreError> {
        down("look for purges")
    }
    async fn invalidate(&self, _: &[PurgeTarget], _: PurgeMode) -> Result<PurgeNumber, StoreError> {
        down("invalidate")
    }
    fn limits(&self) -> StoreLimits {
        StoreLimits::new().waits(true)
    }
    fn statistics(&self) -> StoreStatistics {
        StoreStatistics::default()
    }
}

struct Marks;

impl CachePolicy for Marks {
    fn forward(&self, request: &mut http::request::Parts, _: &ForwardReason<'_>) {
        request.headers.insert("x-marked", http::HeaderValue::from_static("1"));
    }
}

async fn ask(method: Method, fields: &[(&'static str, &'static str)]) -> (Seen, bool) {
    let origin = always(Reply::cc("x", "max-age=60"));
    let mut cache = CacheLayer::builder(Down).policy(Marks).build().layer(origin.clone());
    let mut request = Request::builder().method(method).uri("http://a/");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let seen = read(cache.call(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()).await;
    let marked = origin.calls() > 0 && origin.last().headers.contains_key("x-marked");
    (seen, marked)
}

#[tokio::test]
async fn reads_fail_open() {
    let (seen, marked) = ask(Method::GET, &[]).await;
    let seen = seen.has_body("x").told("larder; fwd=miss; detail=\"store\"");
    assert!(marked && seen.field("etag").is_some());
    let (seen, marked) = ask(Method::GET, &[("cache-control", "only-if-cached")]).await;
    assert_eq!((seen.status.as_u16(), marked), (504, false));
}

#[tokio::test]
async fn purges_fail_closed() {
    let (seen, _) = ask(Method::POST, &[]).await;
    seen.has_body("x").told("larder; fwd=method; detail=\"not-invalidated\"");
    let purged = CacheLayer::new(Down).handle().purge_target(&PurgeTarget::All).await;
    assert_eq!(purged.unwrap_err().to_string(), "the store failed to invalidate: it is down");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Fails,
    Fine,
    Hangs,
}

/// A store that waits, and whose calls go as its mood says.
#[derive(Clone)]
struct Moody {
    calls: Arc<AtomicUsize>,
    mood: Arc<Mutex<Mood>>,
    store: Arc<MemoryStore>,
}

impl Moody {
    fn new(mood: Mood) -> Self {
        Self { calls: Arc::default(), mood: Arc::new(Mutex::new(mood)), store: Arc::default() }
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// How often it was called since the last call of this.
    fn calls(&self) -> usize {
        self.calls.swap(0, Ordering::SeqCst)
    }

    async fn called(&self) -> Result<(), StoreError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Fails => down("do anything"),
            Mood::Fine => Ok(()),
            Mood::Hangs => std::future::pending().await,
        }
    }
}

impl Store for Moody {
    forward!(store: expect, statistics);

    fn try_get(&self, key: &CacheKey) -> Option<Lookup> {
        self.store.try_get(key).filter(|lookup| !lookup.variants.is_empty())
    }
    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        self.called().await?;
        self.store.get(key).await
    }
    async fn open(
        &self,
        _: &CacheKey,
        content: RemoteContent,
        _: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        // One frame, and then what the mood says.
        let store = self.clone();
        let first = stream::iter([Ok::<_, StoreError>(Frame::data(Bytes::from_static(b"first")))]);
        let rest = stream::once(async move {
            store.called().await?;
            let rest = usize::try_from(content.length).unwrap() - 5;
            Ok(Frame::data(Bytes::from("x".repeat(rest))))
        });
        Ok(Some(StoredBody::new(StreamBody::new(first.chain(Box::pin(rest))))))
    }
    async fn put(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        self.called().await?;
        self.store.put(key, response, fence).await
    }
    async fn begin(&self, _: &CacheKey, _: Option<u64>, _: Fence) -> Result<BeginOutcome, StoreError> {
        Ok(BeginOutcome::Writer(Box::new(self.clone())))
    }
    async fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        self.called().await?;
        self.store.freshen(key, of, head, fence).await
    }
    async fn purged_since(
        &self,
        key: &CacheKey,
        since: Fence,
        scope: PurgeScope,
    ) -> Result<bool, StoreError> {
        self.called().await?;
        self.store.purged_since(key, since, scope).await
    }
    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<PurgeNumber, StoreError> {
        self.called().await?;
        self.store.invalidate(targets, mode).await
    }
    fn limits(&self) -> StoreLimits {
        self.store.limits().waits(true)
    }
}

type Written<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

impl ContentWriter for Moody {
    fn write(&mut self, _: Bytes) -> Written<'_, ControlFlow<PutOutcome>> {
        Box::pin(async { self.called().await.map(ControlFlow::Continue) })
    }
    fn commit(self: Box<Self>, _: ResponseHead, _: Option<HeaderMap>) -> Written<'static, PutOutcome> {
        Box::pin(async move { self.called().await.map(|()| PutOutcome::Stored) })
    }
}

fn key() -> CacheKey {
    CacheKey::of(&Request::get("http://a/").body(()).unwrap().into_parts().0).unwrap()
}

/// How many milliseconds it takes, of a time that is stopped otherwise.
async fn timed<T>(future: impl Future<Output = T>) -> (u128, T) {
    let begun = tokio::time::Instant::now();
    let output = future.await;
    (begun.elapsed().as_millis(), output)
}

async fn get(cache: &mut CacheService<Origin, impl Store>) -> Seen {
    read(cache.call(Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap()).await.unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_delays_a_few_requests_until_the_circuit_opens() {
    let store = Moody::new(Mood::Hangs);
    let mut cache = CacheLayer::new(store.clone()).layer(always(Reply::cc("x", "no-store")));
    let mut took = Vec::new();
    for _ in 0..20 {
        let (milliseconds, seen) = timed(get(&mut cache)).await;
        seen.has_body("x").told("larder; fwd=miss; detail=\"no-store\"");
        took.push(milliseconds);
    }
    assert!(took.iter().all(|milliseconds| [0, 250].contains(milliseconds)), "{took:?}");
    assert_eq!(took.iter().sum::<u128>(), 8 * 250, "eight failures in a row: {took:?}");
    assert_eq!(store.calls(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_probe_finds_a_store_that_has_recovered() {
    let store = Moody::new(Mood::Fails);
    let guarded = Guarded::new(store.clone(), GuardLimits::new().failures(3));
    for _ in 0..5 {
        guarded.get(&key()).await.unwrap_err();
    }
    assert!(guarded.is_open() && store.calls() == 3);
    tokio::time::advance(Duration::from_millis(250)).await;
    let (failed, refused) = (guarded.get(&key()).await, guarded.get(&key()).await);
    assert!(!failed.unwrap_err().is_circuit_open() && refused.unwrap_err().is_circuit_open());
    assert_eq!(store.calls(), 1, "one probe");
    store.set(Mood::Fine);
    tokio::time::advance(Duration::from_millis(249)).await;
    assert!(guarded.get(&key()).await.unwrap_err().is_circuit_open());
    tokio::time::advance(Duration::from_millis(1)).await;
    for _ in 0..3 {
        guarded.get(&key()).await.unwrap();
    }
    assert!(!guarded.is_open() && store.calls() == 3);
}

#[tokio::test(start_paused = true)]
async fn another_probe_replaces_one_that_is_dropped() {
    let store = Moody::new(Mood::Hangs);
    let guarded = Guarded::new(store.clone(), GuardLimits::new().failures(1).read(Duration::from_secs(1)));
    assert!(guarded.get(&key()).await.unwrap_err().is_timeout());
    tokio::time::advance(Duration::from_secs(1)).await;
    {
        let key = key();
        let mut probe = std::pin::pin!(guarded.get(&key));
        assert!(probe.as_mut().now_or_never().is_none());
        assert!(guarded.get(&key).await.unwrap_err().is_circuit_open(), "one at a time");
    }
    store.set(Mood::Fine);
    guarded.get(&key()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_circuit_opens_when_half_of_many_calls_fail() {
    let store = Moody::new(Mood::Fine);
    let guarded = Guarded::new(store.clone(), GuardLimits::new());
    for call in 0..20 {
        assert!(!guarded.is_open(), "after {call} calls");
        store.set(if call % 2 == 0 { Mood::Fine } else { Mood::Fails });
        let _ = guarded.get(&key()).await;
    }
    assert!(guarded.is_open());
    // As many in more time do not.
    let guarded = Guarded::new(store.clone(), GuardLimits::new());
    for call in 0..100 {
        store.set(if call % 2 == 0 { Mood::Fine } else { Mood::Fails });
        let _ = guarded.get(&key()).await;
        assert!(!guarded.is_open(), "after {call} calls");
        tokio::time::advance(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn purges_of_a_store_that_hangs_fail_closed_and_report_why() {
    let store = Moody::new(Mood::Hangs);
    let layer = CacheLayer::builder(store.clone()).guard_limits(GuardLimits::new().failures(1)).build();
    let purge = async || layer.handle().purge_target(&PurgeTarget::All).await.unwrap_err();
    let (milliseconds, error) = timed(purge()).await;
    assert_eq!(milliseconds, 2_000);
    assert!(
        matches!(&error, PurgeError::Store(error) if error.is_timeout() && error.action() == "invalidate")
    );
    assert_eq!(error.to_string(), "the store failed to invalidate: it took longer than 2s");
    // The circuit is open now; a purge is made all the same.
    store.calls();
    let (milliseconds, error) = timed(purge()).await;
    assert!(milliseconds == 2_000 && matches!(&error, PurgeError::Store(error) if error.is_timeout()));
    assert_eq!(store.calls(), 1);
    // An unsafe request reports it, and waits no longer either.
    let mut cache = layer.layer(always(Reply::new("x")));
    let post = Request::post("http://a/").body(Empty::<Bytes>::new()).unwrap();
    let (milliseconds, response) = timed(cache.call(post)).await;
    assert_eq!(milliseconds, 2_000);
    read(response.unwrap()).await.told("larder; fwd=method; detail=\"not-invalidated\"");
    store.set(Mood::Fine);
    layer.handle().purge_target(&PurgeTarget::All).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hit_that_needs_no_waiting_passes_an_open_circuit() {
    let store = Moody::new(Mood::Fine);
    let layer = CacheLayer::builder(store.clone()).guard_limits(GuardLimits::new().failures(1)).build();
    let mut cache = layer.layer(always(Reply::cc("x", "max-age=60")));
    get(&mut cache).await;
    store.set(Mood::Hangs);
    layer.handle().purge_target(&PurgeTarget::tag("t")).await.unwrap_err();
    store.calls();
    let (milliseconds, seen) = timed(get(&mut cache)).await;
    assert!(seen.is_hit() && milliseconds == 0 && store.calls() == 0, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn opened_content_that_hangs_ends_with_an_error_in_time() {
    for (mood, milliseconds) in [(Mood::Hangs, 250), (Mood::Fails, 0), (Mood::Fine, 0)] {
        let guarded = Guarded::new(Moody::new(mood), GuardLimits::new().failures(1));
        let body = guarded.open(&key(), RemoteContent::new(1, 10), None).await.unwrap().unwrap();
        let (took, content) = timed(body.collect()).await;
        assert_eq!((took, content.is_ok()), (milliseconds, mood == Mood::Fine), "{mood:?}");
        assert_eq!(guarded.is_open(), mood == Mood::Hangs, "{mood:?}");
    }
    // A client that takes its time is none of the store's business.
    let guarded = Guarded::new(Moody::new(Mood::Fine), GuardLimits::new());
    let mut body = guarded.open(&key(), RemoteContent::new(1, 10), None).await.unwrap().unwrap();
    for expected in [5, 5] {
        tokio::time::advance(Duration::from_secs(60)).await;
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap().len(), expected);
    }
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_hangs_fails_in_time() {
    let store = Moody::new(Mood::Hangs);
    let begin = async || {
        let guarded = Guarded::new(store.clone(), GuardLimits::new().write(Duration::from_secs(1)));
        match guarded.begin(&key(), None, Fence::default()).await {
            Ok(BeginOutcome::Writer(writer)) => writer,
            other => panic!("no writer: {other:?}"),
        }
    };
    let (milliseconds, written) = timed(begin().await.write(Bytes::from_static(b"x"))).await;
    assert!(milliseconds == 1_000 && written.unwrap_err().is_timeout());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_guarded_already_is_not_guarded_again() {
    for milliseconds in [10, 1_000] {
        let limits = GuardLimits::new().read(Duration::from_millis(milliseconds));
        let store = Guarded::new(Moody::new(Mood::Hangs), limits);
        let mut cache = CacheLayer::new(store).layer(always(Reply::cc("x", "no-store")));
        assert_eq!(timed(get(&mut cache)).await.0, u128::from(milliseconds));
    }
}

#[tokio::test(start_paused = true)]
async fn a_purge_is_made_while_reads_fail_and_lets_the_next_read_probe() {
    let store = Moody::new(Mood::Fails);
    let guarded = Guarded::new(store.clone(), GuardLimits::new().failures(2));
    let purge = async || guarded.invalidate(&[PurgeTarget::All], PurgeMode::Remove).await;
    for _ in 0..3 {
        guarded.get(&key()).await.unwrap_err();
    }
    assert!(guarded.is_open() && store.calls() == 2);
    // A purge that fails is no reason to wait longer for the next probe.
    tokio::time::advance(Duration::from_millis(249)).await;
    purge().await.unwrap_err();
    assert!(guarded.get(&key()).await.unwrap_err().is_circuit_open() && store.calls() == 1);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(!guarded.get(&key()).await.unwrap_err().is_circuit_open() && store.calls() == 1);
    // One that succeeds says that the store may be there again. The next call finds out.
    store.set(Mood::Fine);
    purge().await.unwrap();
    assert!(guarded.is_open(), "a purge says nothing of reads");
    store.set(Mood::Fails);
    assert!(!guarded.get(&key()).await.unwrap_err().is_circuit_open());
    assert!(guarded.get(&key()).await.unwrap_err().is_circuit_open());
    store.set(Mood::Fine);
    purge().await.unwrap();
    guarded.get(&key()).await.unwrap();
    assert!(!guarded.is_open());
}

#[tokio::test]
async fn an_unsafe_request_that_failed_purges_nothing_and_reports_nothing_of_the_store() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let layer = CacheLayer::builder(Down).observer(move |event: &Event<'_>| {
        if matches!(event, Event::Invalidated { .. } | Event::StoreFailed { .. }) {
            log.lock().unwrap().push(format!("{event:?}"));
        }
    });
    let mut cache = layer.build().layer(always(Reply::new("x").status(404)));
    let request = Request::post("http://a/").body(Empty::<Bytes>::new()).unwrap();
    read(cache.call(request).await.unwrap()).await.told("larder; fwd=method");
    assert_eq!(*seen.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn an_error_does_not_replace_what_is_stored_while_that_cannot_be_read() {
    // The look-ups of the second request, and of its write.
    let fails = |op, number| op == StoreCall::Get && (1..3).contains(&number);
    let layer = CacheLayer::builder(BoxStore::new(flaky(MemoryStore::default(), fails)));
    let replies = [Reply::cc("good", "max-age=600"), Reply::cc("gone", "max-age=60").status(404)];
    let bench = Bench::with(layer, replies);
    bench.get("/").await.has_body("good");
    bench.get("/").await.has_body("gone");
    bench.get("/").await.has_body("good").told("larder; hit; ttl=600");
    assert_eq!(bench.origin.calls(), 2);
}
