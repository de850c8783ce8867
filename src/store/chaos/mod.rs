//! A store that is slow, fails or hangs by a script (feature `conformance`): to see in a test what an application does then.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use larder::store::chaos::{Chaos, ChaosStore, Fault, StoreCall};
//! use larder::store::PurgeTarget;
//! use larder::{CacheLayer, MemoryStore};
//!
//! let chaos = Chaos::new();
//! let layer = CacheLayer::new(ChaosStore::new(MemoryStore::default(), chaos.clone()));
//! chaos.add(Fault::error().in_calls([StoreCall::Invalidate]).times(1));
//! let purge = async || layer.handle().purge_target(&PurgeTarget::All).await;
//! assert!(purge().await.is_err(), "the application has to know, and to purge again");
//! assert!(purge().await.is_ok());
//! assert_eq!(chaos.calls(StoreCall::Invalidate), 2);
//! # });
//! ```

mod body;
mod call;
mod script;

use std::fmt;
use std::ops::ControlFlow;

use bytes::Bytes;
use http::HeaderMap;

pub use self::call::StoreCall;
pub use self::script::{Chaos, Fault, Gate};

use self::body::ChaosBody;
use super::content::BoxFuture;
use super::{
    BeginOutcome, ContentWriter, Expected, Fence, Lookup, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget,
    PutOutcome, Store, StoreLimits, StoreStatistics, StoredBody, StoredId,
};
use crate::entry::key::CacheKey;
use crate::entry::{RemoteContent, ResponseHead, StoredResponse};
use crate::error::StoreError;
use crate::semantics::range::ByteRange;

/// A store around another one, whose calls go wrong as a script says.
///
/// It never answers at once ([`Store::try_get`]), as a store outside of the process does not: every look-up is a
/// [`StoreCall::Get`].
pub struct ChaosStore<S> {
    chaos: Chaos,
    store: S,
}

impl<S> ChaosStore<S> {
    /// A store around this one, by this script.
    pub fn new(store: S, chaos: Chaos) -> Self {
        Self { chaos, store }
    }
}

impl<S> fmt::Debug for ChaosStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChaosStore").field("chaos", &self.chaos).finish_non_exhaustive()
    }
}

impl<S: Store> Store for ChaosStore<S> {
    fn try_get(&self, _: &CacheKey) -> Option<Lookup> {
        None
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        self.chaos.during(StoreCall::Get, self.store.get(key)).await
    }

    async fn open(
        &self,
        key: &CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        let opened = self.chaos.during(StoreCall::Open, self.store.open(key, content, range)).await?;
        Ok(opened.map(|body| StoredBody::new(ChaosBody::new(self.chaos.clone(), body))))
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
        self.chaos.during(StoreCall::Put, self.store.put(key, response, fence)).await
    }

    async fn begin(
        &self,
        key: &CacheKey,
        expected_length: Option<u64>,
        fence: Fence,
    ) -> Result<BeginOutcome, StoreError> {
        let begun = self.store.begin(key, expected_length, fence);
        Ok(match self.chaos.during(StoreCall::Begin, begun).await? {
            BeginOutcome::Writer(writer) => {
                BeginOutcome::Writer(Box::new(ChaosWriter { chaos: self.chaos.clone(), writer }))
            }
            begun => begun,
        })
    }

    async fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        self.chaos.during(StoreCall::Freshen, self.store.freshen(key, of, head, fence)).await
    }

    async fn purged_since(
        &self,
        key: &CacheKey,
        since: Fence,
        scope: PurgeScope,
    ) -> Result<bool, StoreError> {
        self.chaos.during(StoreCall::PurgedSince, self.store.purged_since(key, since, scope)).await
    }

    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<PurgeNumber, StoreError> {
        self.chaos.during(StoreCall::Invalidate, self.store.invalidate(targets, mode)).await
    }

    fn limits(&self) -> StoreLimits {
        self.store.limits().waits(true)
    }

    fn statistics(&self) -> StoreStatistics {
        self.store.statistics()
    }
}

struct ChaosWriter {
    chaos: Chaos,
    writer: Box<dyn ContentWriter>,
}

impl ContentWriter for ChaosWriter {
    fn write(&mut self, data: Bytes) -> BoxFuture<'_, ControlFlow<PutOutcome>> {
        Box::pin(self.chaos.during(StoreCall::Write, self.writer.write(data)))
    }

    fn commit(
        self: Box<Self>,
        head: ResponseHead,
        trailers: Option<HeaderMap>,
    ) -> BoxFuture<'static, PutOutcome> {
        let Self { chaos, writer } = *self;
        Box::pin(async move {
            // Only when the script lets it: what is not committed yet is dropped with its future.
            chaos.during(StoreCall::Commit, async { writer.commit(head, trailers).await }).await
        })
    }
}
