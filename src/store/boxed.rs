//! Any store behind one type.

use std::fmt;
use std::sync::Arc;

use super::content::BoxFuture;
use super::{
    BeginOutcome, Expected, Fence, Lookup, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget, PutOutcome,
    Store, StoreLimits, StoreStatistics, StoredBody, StoredId,
};
use crate::entry::key::CacheKey;
use crate::entry::{RemoteContent, ResponseHead, StoredResponse};
use crate::error::StoreError;
use crate::semantics::range::ByteRange;

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

/// [`Store`] in a form that `dyn` can take.
trait DynStore: Send + Sync {
    fn try_get(&self, key: &CacheKey) -> Option<Lookup>;
    fn get<'a>(&'a self, key: &'a CacheKey) -> BoxFuture<'a, Lookup>;
    fn open<'a>(
        &'a self,
        key: &'a CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> BoxFuture<'a, Option<StoredBody>>;
    fn expect(&self, key: &CacheKey) -> Expected;
    fn put<'a>(
        &'a self,
        key: &'a CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> BoxFuture<'a, PutOutcome>;
    fn begin<'a>(
        &'a self,
        key: &'a CacheKey,
        expected_length: Option<u64>,
        fence: Fence,
    ) -> BoxFuture<'a, BeginOutcome>;
    fn freshen<'a>(
        &'a self,
        key: &'a CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> BoxFuture<'a, PutOutcome>;
    fn purged_since<'a>(&'a self, key: &'a CacheKey, since: Fence, scope: PurgeScope) -> BoxFuture<'a, bool>;
    fn invalidate<'a>(&'a self, targets: &'a [PurgeTarget], mode: PurgeMode) -> BoxFuture<'a, PurgeNumber>;
    fn limits(&self) -> StoreLimits;
    fn statistics(&self) -> StoreStatistics;
}

impl<S: Store> DynStore for S {
    fn try_get(&self, key: &CacheKey) -> Option<Lookup> {
        Store::try_get(self, key)
    }

    fn get<'a>(&'a self, key: &'a CacheKey) -> BoxFuture<'a, Lookup> {
        Box::pin(Store::get(self, key))
    }

    fn open<'a>(
        &'a self,
        key: &'a CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> BoxFuture<'a, Option<StoredBody>> {
        Box::pin(Store::open(self, key, content, range))
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

    fn begin<'a>(
        &'a self,
        key: &'a CacheKey,
        expected_length: Option<u64>,
        fence: Fence,
    ) -> BoxFuture<'a, BeginOutcome> {
        Box::pin(Store::begin(self, key, expected_length, fence))
    }

    fn freshen<'a>(
        &'a self,
        key: &'a CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> BoxFuture<'a, PutOutcome> {
        Box::pin(Store::freshen(self, key, of, head, fence))
    }

    fn purged_since<'a>(&'a self, key: &'a CacheKey, since: Fence, scope: PurgeScope) -> BoxFuture<'a, bool> {
        Box::pin(Store::purged_since(self, key, since, scope))
    }

    fn invalidate<'a>(&'a self, targets: &'a [PurgeTarget], mode: PurgeMode) -> BoxFuture<'a, PurgeNumber> {
        Box::pin(Store::invalidate(self, targets, mode))
    }

    fn limits(&self) -> StoreLimits {
        Store::limits(self)
    }

    fn statistics(&self) -> StoreStatistics {
        Store::statistics(self)
    }
}

/// A store that passes every call on to the one that `$inner` gives.
macro_rules! pass_on {
    ($inner:ident) => {
        fn try_get(&self, key: &CacheKey) -> Option<Lookup> {
            self.$inner().try_get(key)
        }

        async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
            self.$inner().get(key).await
        }

        async fn open(
            &self,
            key: &CacheKey,
            content: RemoteContent,
            range: Option<ByteRange>,
        ) -> Result<Option<StoredBody>, StoreError> {
            self.$inner().open(key, content, range).await
        }

        fn expect(&self, key: &CacheKey) -> Expected {
            self.$inner().expect(key)
        }

        async fn put(
            &self,
            key: &CacheKey,
            response: StoredResponse,
            fence: Fence,
        ) -> Result<PutOutcome, StoreError> {
            self.$inner().put(key, response, fence).await
        }

        async fn begin(
            &self,
            key: &CacheKey,
            expected_length: Option<u64>,
            fence: Fence,
        ) -> Result<BeginOutcome, StoreError> {
            self.$inner().begin(key, expected_length, fence).await
        }

        async fn freshen(
            &self,
            key: &CacheKey,
            of: StoredId,
            head: ResponseHead,
            fence: Fence,
        ) -> Result<PutOutcome, StoreError> {
            self.$inner().freshen(key, of, head, fence).await
        }

        async fn purged_since(
            &self,
            key: &CacheKey,
            since: Fence,
            scope: PurgeScope,
        ) -> Result<bool, StoreError> {
            self.$inner().purged_since(key, since, scope).await
        }

        async fn invalidate(
            &self,
            targets: &[PurgeTarget],
            mode: PurgeMode,
        ) -> Result<PurgeNumber, StoreError> {
            self.$inner().invalidate(targets, mode).await
        }

        fn limits(&self) -> StoreLimits {
            self.$inner().limits()
        }

        fn statistics(&self) -> StoreStatistics {
            self.$inner().statistics()
        }
    };
}

#[cfg(feature = "disk")]
pub(super) use pass_on;

impl BoxStore {
    fn inner(&self) -> &dyn DynStore {
        &*self.0
    }
}

impl Store for BoxStore {
    pass_on!(inner);
}

/// A store that several layers share: each of them is a cache of its own (see [`MemoryStore`](super::MemoryStore), whose
/// clones do the same).
impl<S: Store> Store for Arc<S> {
    pass_on!(as_ref);
}
