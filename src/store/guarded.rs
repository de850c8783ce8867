//! A deadline for each call of a store, and a circuit breaker: a store that hangs or fails costs requests little.
//!
//! Invariant: what fails open is reading, what fails closed is purging. A look-up that is not answered is a miss; a purge
//! that is not answered is an error, for what was to go may still be there.

use std::fmt;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::breaker::Breaker;
use super::content::BoxFuture;
use super::{
    BeginOutcome, ContentWriter, Expected, Fence, Lookup, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget,
    PutOutcome, RemoteContent, Store, StoreLimits, StoreStatistics, StoredBody, StoredId,
};
use crate::entry::key::CacheKey;
use crate::entry::{ResponseHead, StoredResponse};
use crate::error::{BodyError, StoreError};
use crate::runtime::Deadline;
use crate::semantics::range::ByteRange;

/// How long calls of a store may take, and when it is not called any more.
///
/// After [`GuardLimits::failures`] failures in a row, or when half of at least 20 calls within one second have failed, the
/// circuit is open: calls fail at once. Every [`GuardLimits::pause`] one call is let through as a probe, and when that
/// succeeds the circuit is closed. A time-out is a failure. Purges are made all the same, and one that succeeds lets the next
/// call through as a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardLimits {
    content: Option<Duration>,
    failures: u32,
    pause: Duration,
    purge: Duration,
    read: Duration,
    write: Duration,
}

/// Where schedules are explored, what is late is for the schedule to say, and no store is late by default.
const fn by_default(limit: Duration) -> Duration {
    if cfg!(shuttle) { Duration::MAX } else { limit }
}

impl Default for GuardLimits {
    fn default() -> Self {
        Self {
            content: None,
            failures: 8,
            pause: Duration::from_millis(250),
            purge: by_default(Duration::from_secs(2)),
            read: by_default(Duration::from_millis(250)),
            write: by_default(Duration::from_secs(2)),
        }
    }
}

impl GuardLimits {
    /// 250 ms for a read, 2 s for a write, 2 s for a purge; 8 failures in a row; a probe every 250 ms.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long the next frame of opened content may take; default as long as a [read](Self::read). A client to whom a part of the
    /// content was sent gains nothing by an early end.
    #[must_use]
    pub fn content(mut self, limit: Duration) -> Self {
        self.content = Some(limit);
        self
    }

    /// After how many failures in a row the circuit is open; default 8, at least 1.
    #[must_use]
    pub fn failures(mut self, count: u32) -> Self {
        self.failures = count.max(1);
        self
    }

    /// How long the store is left alone between two probes while the circuit is open; default 250 ms.
    #[must_use]
    pub fn pause(mut self, time: Duration) -> Self {
        self.pause = time;
        self
    }

    /// How long [`Store::invalidate`] may take, also while the circuit is open; default 2 s. Unsafe requests and callers that
    /// purge wait for it.
    #[must_use]
    pub fn purge(mut self, limit: Duration) -> Self {
        self.purge = limit;
        self
    }

    /// How long [`Store::get`], [`Store::open`] and [`Store::purged_since`] may take, and how long the next frame of opened
    /// content, unless [that](Self::content) is set; default 250 ms. It is what a request loses where the store hangs.
    #[must_use]
    pub fn read(mut self, limit: Duration) -> Self {
        self.read = limit;
        self
    }

    /// How long [`Store::put`], [`Store::freshen`], [`Store::begin`] and each step of a [`ContentWriter`] may take; default
    /// 2 s.
    #[must_use]
    pub fn write(mut self, limit: Duration) -> Self {
        self.write = limit;
        self
    }
}

/// A store with a deadline for each of its calls, and a circuit breaker.
///
/// [`CacheLayer`](crate::CacheLayer) puts one around each store that [waits](StoreLimits::waits) and is not
/// [guarded](StoreLimits::is_guarded) already, so it is only needed within other stores. What needs no waiting, such as
/// [`Store::try_get`], passes untouched.
///
/// ```
/// use std::time::Duration;
/// use larder::MemoryStore;
/// use larder::store::{GuardLimits, Guarded, Store};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let limits = GuardLimits::new().read(Duration::from_millis(100));
/// let store = Guarded::new(MemoryStore::default(), limits);
/// assert!(store.limits().is_guarded && !store.is_open());
/// # });
/// ```
pub struct Guarded<S> {
    /// `None` where the store needs none: then each call is the store's own.
    guard: Option<Arc<Guard>>,
    store: S,
}

impl<S: Store> Guarded<S> {
    /// Guards a store, whether or not it waits.
    pub fn new(store: S, limits: GuardLimits) -> Self {
        Self { guard: Some(Arc::new(Guard::new(limits))), store }
    }

    /// Guards a store that waits and has no guard of its own.
    pub(crate) fn where_needed(store: S, limits: GuardLimits) -> Self {
        let StoreLimits { is_guarded, waits, .. } = store.limits();
        let guard = (waits && !is_guarded).then(|| Arc::new(Guard::new(limits)));
        Self { guard, store }
    }

    /// Whether the circuit is open: the store is not called, except for purges and by a probe now and then.
    pub fn is_open(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.breaker.is_open())
    }

    #[inline]
    async fn call<T>(
        &self,
        action: &'static str,
        limit: fn(&GuardLimits) -> Duration,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match &self.guard {
            None => call.await,
            Some(guard) => guard.call(action, limit(&guard.limits), call).await,
        }
    }
}

fn read(limits: &GuardLimits) -> Duration {
    limits.read
}

fn write(limits: &GuardLimits) -> Duration {
    limits.write
}

impl<S: Store> Store for Guarded<S> {
    #[inline]
    fn try_get(&self, key: &CacheKey) -> Option<Lookup> {
        self.store.try_get(key)
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        self.call("look up", read, self.store.get(key)).await
    }

    async fn open(
        &self,
        key: &CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        let opened = self.call("open content", read, self.store.open(key, content, range)).await?;
        Ok(match &self.guard {
            None => opened,
            Some(guard) => opened.map(|body| StoredBody::new(GuardedBody::new(Arc::clone(guard), body))),
        })
    }

    fn expect(&self, key: &CacheKey) -> Expected {
        self.store.expect(key)
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        match &self.guard {
            // Not by way of `call`: each future that another one is given has two places in it, and this one is part of
            // every miss.
            None => self.store.put(key, response, fence).await,
            Some(_) => Box::pin(self.call("put", write, self.store.put(key, response, fence))).await,
        }
    }

    async fn begin(
        &self,
        key: &CacheKey,
        expected_length: Option<u64>,
        fence: Fence,
    ) -> Result<BeginOutcome, StoreError> {
        let begun = self.call("begin to put", write, self.store.begin(key, expected_length, fence)).await?;
        Ok(match (&self.guard, begun) {
            (Some(guard), BeginOutcome::Writer(writer)) => {
                BeginOutcome::Writer(Box::new(GuardedWriter { guard: Arc::clone(guard), writer }))
            }
            (_, begun) => begun,
        })
    }

    async fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        self.call("freshen", write, self.store.freshen(key, of, head, fence)).await
    }

    async fn purged_since(
        &self,
        key: &CacheKey,
        since: Fence,
        scope: PurgeScope,
    ) -> Result<bool, StoreError> {
        self.call("look for purges", read, self.store.purged_since(key, since, scope)).await
    }

    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<PurgeNumber, StoreError> {
        let purge = self.store.invalidate(targets, mode);
        match &self.guard {
            None => purge.await,
            Some(guard) => guard.purge(purge).await,
        }
    }

    fn limits(&self) -> StoreLimits {
        let limits = self.store.limits();
        StoreLimits { is_guarded: limits.is_guarded || self.guard.is_some(), ..limits }
    }

    fn statistics(&self) -> StoreStatistics {
        self.store.statistics()
    }
}

impl<S> fmt::Debug for Guarded<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = self.guard.as_ref().map(|guard| &guard.limits);
        f.debug_struct("Guarded").field("limits", &limits).finish_non_exhaustive()
    }
}

struct Guard {
    breaker: Breaker,
    limits: GuardLimits,
}

/// A call within its deadline.
async fn in_time<T>(
    action: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, StoreError>> + Send,
) -> Result<T, StoreError> {
    let ended = Deadline::new(limit).in_time(call).await;
    ended.unwrap_or_else(|| Err(StoreError::timed_out(action, limit)))
}

impl Guard {
    fn new(limits: GuardLimits) -> Self {
        Self { breaker: Breaker::new(limits.failures, limits.pause), limits }
    }

    async fn call<T>(
        &self,
        action: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let turn = self.breaker.turn().ok_or_else(|| StoreError::circuit_open(action))?;
        let ended = in_time(action, limit, call).await;
        turn.end(ended.is_err());
        ended
    }

    /// Purges also while the circuit is open: reads that fail say nothing of purges, and what is not purged now is served when
    /// they succeed again. Where it succeeds, the next call may probe.
    async fn purge(
        &self,
        purge: impl Future<Output = Result<PurgeNumber, StoreError>> + Send,
    ) -> Result<PurgeNumber, StoreError> {
        let ended = in_time("invalidate", self.limits.purge, purge).await;
        self.breaker.count(ended.is_err());
        if ended.is_ok() {
            self.breaker.probe_now();
        }
        ended
    }
}

/// Opened content whose frames have a deadline, from when they are asked for.
struct GuardedBody {
    guard: Arc<Guard>,
    hint: SizeHint,
    state: BodyState,
}

enum BodyState {
    Ended,
    Ready(StoredBody),
    Waiting(Pin<Box<dyn Future<Output = Awaited> + Send>>),
}

type Polled = Result<Frame<Bytes>, BodyError>;

/// A body, and its next frame; `None` where that takes too long.
type Awaited = (StoredBody, Option<Option<Polled>>);

impl GuardedBody {
    fn new(guard: Arc<Guard>, body: StoredBody) -> Self {
        Self { guard, hint: body.size_hint(), state: BodyState::Ready(body) }
    }
}

async fn next_in_time(mut body: StoredBody, limit: Duration) -> Awaited {
    let next = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
    let next = Deadline::new(limit).in_time(next).await;
    (body, next)
}

impl Body for GuardedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Polled>> {
        let limit = self.guard.limits.content.unwrap_or(self.guard.limits.read);
        loop {
            let (body, polled) = match std::mem::replace(&mut self.state, BodyState::Ended) {
                BodyState::Ended => return Poll::Ready(None),
                BodyState::Ready(mut body) => match Pin::new(&mut body).poll_frame(cx) {
                    Poll::Ready(polled) => (body, Some(polled)),
                    Poll::Pending => {
                        self.state = BodyState::Waiting(Box::pin(next_in_time(body, limit)));
                        continue;
                    }
                },
                BodyState::Waiting(mut waiting) => match waiting.as_mut().poll(cx) {
                    Poll::Ready(next) => next,
                    Poll::Pending => {
                        self.state = BodyState::Waiting(waiting);
                        return Poll::Pending;
                    }
                },
            };
            self.hint = body.size_hint();
            return Poll::Ready(match polled {
                Some(Some(Ok(frame))) => {
                    self.state = BodyState::Ready(body);
                    Some(Ok(frame))
                }
                // As where the response was removed meanwhile: that says nothing of the store.
                Some(Some(Err(error))) => Some(Err(error)),
                Some(None) => None,
                None => {
                    self.guard.breaker.count(true);
                    Some(Err(BodyError::inner(StoreError::timed_out("read content", limit))))
                }
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            BodyState::Ended => true,
            BodyState::Ready(body) => body.is_end_stream(),
            BodyState::Waiting(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

struct GuardedWriter {
    guard: Arc<Guard>,
    writer: Box<dyn ContentWriter>,
}

impl ContentWriter for GuardedWriter {
    fn write(&mut self, data: Bytes) -> BoxFuture<'_, ControlFlow<PutOutcome>> {
        let limit = self.guard.limits.write;
        Box::pin(self.guard.call("write content", limit, self.writer.write(data)))
    }

    fn commit(
        self: Box<Self>,
        head: ResponseHead,
        trailers: Option<HeaderMap>,
    ) -> BoxFuture<'static, PutOutcome> {
        let Self { guard, writer } = *self;
        Box::pin(async move {
            let limit = guard.limits.write;
            guard.call("commit content", limit, writer.commit(head, trailers)).await
        })
    }
}
