//! Stores that take their time, and content while it comes, as the schedule says.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use shuttle::future::yield_now;

use super::{below, one_of};
use crate::entry::key::CacheKey;
use crate::entry::{Payload, RemoteContent, ResponseHead, StoredResponse};
use crate::error::StoreError;
use crate::semantics::range::ByteRange;
use crate::store::{
    BeginOutcome, BoxStore, ContentWriter, Expected, Fence, Lookup, MemoryStore, PurgeMode, PurgeNumber,
    PurgeScope, PurgeTarget, PutOutcome, Store, StoreLimits, StoreStatistics, StoredBody, StoredId,
};

/// What a scenario's store is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// It answers nothing at once.
    pub(super) is_slow: bool,
    pub(super) streams: Streams,
}

/// Whether a store takes content while it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Streams {
    /// It may say that it does, and fail or refuse at any moment.
    Fail,
    No,
    Yes,
}

impl Kind {
    /// The schedule chooses, unless `LARDER_STORE` says so.
    pub(super) fn chosen() -> Self {
        static CHOSEN: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("LARDER_STORE").ok());
        let (is_slow, streams) = (one_of(&[false, true]), one_of(&[Streams::No, Streams::Yes]));
        match CHOSEN.as_deref() {
            None => Self { is_slow, streams },
            Some("memory") => Self { is_slow: false, streams: Streams::No },
            Some("slow") => Self { is_slow: true, streams: Streams::No },
            Some("streams") => Self { is_slow, streams: Streams::Yes },
            Some(other) => panic!("LARDER_STORE is `memory`, `slow` or `streams`, not `{other}`"),
        }
    }

    pub(super) fn store(self, store: MemoryStore) -> BoxStore {
        match (self.is_slow, self.streams) {
            (false, Streams::No) => BoxStore::new(store),
            (true, Streams::No) => BoxStore::new(Slow(store)),
            (false, streams) => BoxStore::new(Streaming { store, streams }),
            (true, streams) => BoxStore::new(Streaming { store: Slow(store), streams }),
        }
    }
}

/// Answers nothing at once: the others have turns before a call has its effect, and before anybody knows.
#[derive(Clone)]
pub(super) struct Slow(pub(super) MemoryStore);

impl Slow {
    async fn call<T>(call: impl Future<Output = T>) -> T {
        for _ in 0..below(3) {
            yield_now().await;
        }
        let output = call.await;
        for _ in 0..below(3) {
            yield_now().await;
        }
        output
    }
}

impl Store for Slow {
    fn try_get(&self, _: &CacheKey) -> Option<Lookup> {
        None
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        Self::call(self.0.get(key)).await
    }

    async fn open(
        &self,
        key: &CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        Self::call(self.0.open(key, content, range)).await
    }

    fn expect(&self, key: &CacheKey) -> Expected {
        self.0.expect(key)
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        Self::call(self.0.put(key, response, fence)).await
    }

    async fn begin(
        &self,
        key: &CacheKey,
        expected_length: Option<u64>,
        fence: Fence,
    ) -> Result<BeginOutcome, StoreError> {
        Self::call(self.0.begin(key, expected_length, fence)).await
    }

    async fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        Self::call(self.0.freshen(key, of, head, fence)).await
    }

    async fn purged_since(
        &self,
        key: &CacheKey,
        since: Fence,
        scope: PurgeScope,
    ) -> Result<bool, StoreError> {
        Self::call(self.0.purged_since(key, since, scope)).await
    }

    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<PurgeNumber, StoreError> {
        Self::call(self.0.invalidate(targets, mode)).await
    }

    fn limits(&self) -> StoreLimits {
        self.0.limits().waits(true)
    }

    fn statistics(&self) -> StoreStatistics {
        self.0.statistics()
    }
}

/// A store around another one that takes content while it comes.
#[derive(Clone)]
struct Streaming<S> {
    store: S,
    streams: Streams,
}

impl<S> Streaming<S> {
    /// Whether something goes wrong now.
    fn strikes(&self) -> bool {
        self.streams == Streams::Fail && one_of(&[false, false, false, true])
    }
}

/// What goes wrong.
fn wrong<T>(refused: impl FnOnce(PutOutcome) -> T) -> Result<T, StoreError> {
    match below(3) {
        0 => Ok(refused(PutOutcome::Superseded)),
        1 => Ok(refused(PutOutcome::TooLarge)),
        _ => Err(StoreError::new("write", "scripted")),
    }
}

impl<S: Store + Clone> Store for Streaming<S> {
    fn try_get(&self, key: &CacheKey) -> Option<Lookup> {
        self.store.try_get(key)
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        self.store.get(key).await
    }

    async fn open(
        &self,
        key: &CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        self.store.open(key, content, range).await
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
        self.store.put(key, response, fence).await
    }

    async fn begin(
        &self,
        key: &CacheKey,
        expected_length: Option<u64>,
        fence: Fence,
    ) -> Result<BeginOutcome, StoreError> {
        let whole = self.store.begin(key, expected_length, fence).await?;
        if self.strikes() {
            return if one_of(&[false, true]) { Ok(whole) } else { wrong(BeginOutcome::Refused) };
        }
        let (key, store) = (key.clone(), self.clone());
        Ok(BeginOutcome::Writer(Box::new(Writer { content: BytesMut::new(), fence, key, store })))
    }

    async fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        self.store.freshen(key, of, head, fence).await
    }

    async fn purged_since(
        &self,
        key: &CacheKey,
        since: Fence,
        scope: PurgeScope,
    ) -> Result<bool, StoreError> {
        self.store.purged_since(key, since, scope).await
    }

    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<PurgeNumber, StoreError> {
        self.store.invalidate(targets, mode).await
    }

    fn limits(&self) -> StoreLimits {
        self.store.limits().takes_streams(true)
    }

    fn statistics(&self) -> StoreStatistics {
        self.store.statistics()
    }
}

struct Writer<S> {
    content: BytesMut,
    fence: Fence,
    key: CacheKey,
    store: Streaming<S>,
}

type Written<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

impl<S: Store + Clone> ContentWriter for Writer<S> {
    fn write(&mut self, data: Bytes) -> Written<'_, ControlFlow<PutOutcome>> {
        Box::pin(async move {
            if self.store.store.limits().waits {
                Slow::call(std::future::ready(())).await;
            }
            self.content.extend_from_slice(&data);
            if self.store.strikes() { wrong(ControlFlow::Break) } else { Ok(ControlFlow::Continue(())) }
        })
    }

    fn commit(
        self: Box<Self>,
        head: ResponseHead,
        trailers: Option<HeaderMap>,
    ) -> Written<'static, PutOutcome> {
        Box::pin(async move {
            let Self { content, fence, key, store } = *self;
            if store.strikes() {
                return wrong(|outcome| outcome);
            }
            let payload = Payload::from_bytes(content.freeze()).with_trailers(trailers);
            store.put(&key, StoredResponse::new(head, payload), fence).await
        })
    }
}
