//! Any store behind one type.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use super::{Expected, Fence, Lookup, PurgeMode, PurgeTarget, PutOutcome, Store, StoreStatistics, StoredId};
use crate::entry::StoredResponse;
use crate::entry::key::CacheKey;
use crate::error::StoreError;

/// A store whose type is erased, to choose one while running. Each call that waits costs a box.
///
/// ```
/// use larder::{BoxStore, CacheLayer, MemoryStore};
/// let store = BoxStore::new(MemoryStore::default());
/// let layer = CacheLayer::new(store);
/// # let _ = layer;
/// ```
#[derive(Clone)]
pub struct BoxStore(Arc<dyn DynStore>);

impl BoxStore {
    /// Erases the type of a store.
    pub fn new(store: impl Store) -> Self {
        Self(Arc::new(store))
    }
}

impl fmt::Debug for BoxStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxStore").finish_non_exhaustive()
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// [`Store`] in a form that `dyn` can take.
trait DynStore: Send + Sync {
    fn try_get(&self, key: &CacheKey) -> Option<Lookup>;
    fn try_again(&self, key: &CacheKey) -> Option<Lookup>;
    fn get<'a>(&'a self, key: &'a CacheKey) -> BoxFuture<'a, Lookup>;
    fn expect(&self, key: &CacheKey) -> Expected;
    fn put<'a>(
        &'a self,
        key: &'a CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> BoxFuture<'a, PutOutcome>;
    fn freshen<'a>(
        &'a self,
        key: &'a CacheKey,
        of: StoredId,
        response: StoredResponse,
        fence: Fence,
    ) -> BoxFuture<'a, PutOutcome>;
    fn is_untouched<'a>(&'a self, key: &'a CacheKey, of_any_group: bool, since: Fence)
    -> BoxFuture<'a, bool>;
    fn invalidate<'a>(&'a self, target: &'a PurgeTarget, how: PurgeMode) -> BoxFuture<'a, ()>;
    fn capacity(&self) -> Option<u64>;
    fn max_object(&self) -> u64;
    fn statistics(&self) -> StoreStatistics;
}

impl<S: Store> DynStore for S {
    fn try_get(&self, key: &CacheKey) -> Option<Lookup> {
        Store::try_get(self, key)
    }

    fn try_again(&self, key: &CacheKey) -> Option<Lookup> {
        Store::try_again(self, key)
    }

    fn get<'a>(&'a self, key: &'a CacheKey) -> BoxFuture<'a, Lookup> {
        Box::pin(Store::get(self, key))
    }

    fn expect(&self, key: &CacheKey) -> Expected {
        Store::expect(self, key)
    }

    fn put<'a>(
        &'a self,
        key: &'a CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> BoxFuture<'a, PutOutcome> {
        Box::pin(Store::put(self, key, response, fence))
    }

    fn freshen<'a>(
        &'a self,
        key: &'a CacheKey,
        of: StoredId,
        response: StoredResponse,
        fence: Fence,
    ) -> BoxFuture<'a, PutOutcome> {
        Box::pin(Store::freshen(self, key, of, response, fence))
    }

    fn is_untouched<'a>(
        &'a self,
        key: &'a CacheKey,
        of_any_group: bool,
        since: Fence,
    ) -> BoxFuture<'a, bool> {
        Box::pin(async move { Ok(Store::is_untouched(self, key, of_any_group, since).await) })
    }

    fn invalidate<'a>(&'a self, target: &'a PurgeTarget, how: PurgeMode) -> BoxFuture<'a, ()> {
        Box::pin(Store::invalidate(self, target, how))
    }

    fn capacity(&self) -> Option<u64> {
        Store::capacity(self)
    }

    fn max_object(&self) -> u64 {
        Store::max_object(self)
    }

    fn statistics(&self) -> StoreStatistics {
        Store::statistics(self)
    }
}

impl Store for BoxStore {
    fn try_get(&self, key: &CacheKey) -> Option<Lookup> {
        self.0.try_get(key)
    }

    fn try_again(&self, key: &CacheKey) -> Option<Lookup> {
        self.0.try_again(key)
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        self.0.get(key).await
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
        self.0.put(key, response, fence).await
    }

    async fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        self.0.freshen(key, of, response, fence).await
    }

    async fn is_untouched(&self, key: &CacheKey, of_any_group: bool, since: Fence) -> bool {
        self.0.is_untouched(key, of_any_group, since).await.unwrap_or(false)
    }

    async fn invalidate(&self, target: &PurgeTarget, how: PurgeMode) -> Result<(), StoreError> {
        self.0.invalidate(target, how).await
    }

    fn capacity(&self) -> Option<u64> {
        self.0.capacity()
    }

    fn max_object(&self) -> u64 {
        self.0.max_object()
    }

    fn statistics(&self) -> StoreStatistics {
        self.0.statistics()
    }
}
