//! A store as remote ones are: told of nothing that is on its way, and read in vain at times.

use std::sync::Arc;

use super::one_of;
use crate::entry::key::CacheKey;
use crate::entry::{RemoteContent, ResponseHead, StoredResponse};
use crate::error::StoreError;
use crate::runtime::{Mutex, lock};
use crate::semantics::range::ByteRange;
use crate::store::{
    BeginOutcome, BoxStore, Expected, Fence, Lookup, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget,
    PutOutcome, Store, StoreLimits, StoreStatistics, StoredBody, StoredId,
};

/// Forgets no purge of what was ever looked up, so that it need not be told what is expected.
pub(super) struct Remote {
    /// Whether reads fail, as the schedule says.
    fails: bool,
    remembered: Arc<Mutex<Vec<Expected>>>,
    store: BoxStore,
}

impl Remote {
    /// This store, or a remote one: the schedule chooses.
    pub(super) fn or(store: BoxStore) -> BoxStore {
        if one_of(&[false, true]) { store } else { BoxStore::new(Self::of(store, false)) }
    }

    pub(super) fn failing(store: BoxStore) -> BoxStore {
        BoxStore::new(Self::of(store, true))
    }

    fn of(store: BoxStore, fails: bool) -> Self {
        Self { fails, remembered: Arc::default(), store }
    }

    fn read(&self) -> Result<(), StoreError> {
        let fails = self.fails && one_of(&[false, true, true]);
        if fails { Err(StoreError::new("read", "scripted")) } else { Ok(()) }
    }

    /// The purge state, after which nothing is forgotten that concerns the key.
    fn remember(&self, key: &CacheKey) -> Fence {
        let expected = self.store.expect(key);
        let fence = expected.fence().unwrap_or_default();
        lock(&self.remembered).push(expected);
        fence
    }
}

impl Store for Remote {
    fn try_get(&self, key: &CacheKey) -> Option<Lookup> {
        let fence = self.remember(key);
        let found = self.store.try_get(key)?;
        self.read().ok()?;
        Some(Lookup::new(fence, found.variants))
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        let fence = self.remember(key);
        let found = self.store.get(key).await?;
        self.read()?;
        Ok(Lookup::new(fence, found.variants))
    }

    async fn open(
        &self,
        key: &CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        self.store.open(key, content, range).await
    }

    fn expect(&self, _: &CacheKey) -> Expected {
        Expected::default()
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
        self.store.begin(key, expected_length, fence).await
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
        self.read()?;
        self.store.purged_since(key, since, scope).await
    }

    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<PurgeNumber, StoreError> {
        self.store.invalidate(targets, mode).await
    }

    fn limits(&self) -> StoreLimits {
        self.store.limits()
    }

    fn statistics(&self) -> StoreStatistics {
        self.store.statistics()
    }
}
