//! A store that takes its time, as the schedule says.

use std::sync::LazyLock;

use shuttle::future::yield_now;

use super::{below, one_of};
use crate::entry::key::CacheKey;
use crate::entry::{RemoteContent, ResponseHead, StoredResponse};
use crate::error::StoreError;
use crate::semantics::range::ByteRange;
use crate::store::{
    BeginOutcome, Expected, Fence, Lookup, MemoryStore, PurgeMode, PurgeScope, PurgeTarget, PutOutcome,
    Store, StoreLimits, StoreStatistics, StoredBody, StoredId,
};

/// Whether a scenario's store is slow: the schedule chooses, unless `LARDER_STORE` says so.
pub(super) fn is_slow() -> bool {
    static CHOSEN: LazyLock<Option<bool>> =
        LazyLock::new(|| match std::env::var("LARDER_STORE").as_deref() {
            Ok("slow") => Some(true),
            Ok("memory") => Some(false),
            Ok(other) => panic!("LARDER_STORE is `memory` or `slow`, not `{other}`"),
            Err(_) => None,
        });
    CHOSEN.unwrap_or_else(|| one_of(&[false, true]))
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

    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<(), StoreError> {
        Self::call(self.0.invalidate(targets, mode)).await
    }

    fn limits(&self) -> StoreLimits {
        self.0.limits().waits(true)
    }

    fn statistics(&self) -> StoreStatistics {
        self.0.statistics()
    }
}
