//! Purging and statistics, from outside the flow of requests.

pub(crate) mod target;

use std::fmt;
use std::sync::Arc;

use http::Uri;

use self::target::PurgeError;
use crate::limits::FillStatistics;
use crate::shared::{Core, key_of, targets_of};
use crate::store::{MemoryStore, PurgeMode, PurgeTarget, Store, StoreStatistics};

/// Purges what a layer has stored, and tells how much that is. Cheap to clone.
///
/// Each purge has a soft form, which makes stale instead of removing: it may be served while it is
/// validated, or when the origin fails, as far as its stale windows reach.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use larder::CacheLayer;
/// let layer = CacheLayer::default();
/// let handle = layer.handle();
/// handle.purge(&"http://example.com/".parse().unwrap()).await?;
/// # Ok::<(), larder::PurgeError>(()) }).unwrap();
/// ```
pub struct CacheHandle<S = MemoryStore> {
    core: Arc<Core>,
    store: Arc<S>,
}

impl<S: Store> CacheHandle<S> {
    pub(crate) fn new(core: Arc<Core>, store: Arc<S>) -> Self {
        Self { core, store }
    }

    /// Removes every response for an absolute URI, all variants and whatever else the keys hold.
    ///
    /// # Errors
    ///
    /// When the store can't be sure that the purge has taken effect, and when the purge can't mean anything that is
    /// stored; so for all purges.
    pub async fn purge(&self, uri: &Uri) -> Result<(), PurgeError> {
        self.invalidate(uri, PurgeMode::Remove).await
    }

    /// Makes every response for an absolute URI stale.
    ///
    /// # Errors
    ///
    /// See [`CacheHandle::purge`].
    pub async fn soft_purge(&self, uri: &Uri) -> Result<(), PurgeError> {
        self.invalidate(uri, self.soft()).await
    }

    /// Removes everything that `target` names.
    ///
    /// # Errors
    ///
    /// See [`CacheHandle::purge`].
    pub async fn purge_target(&self, target: &PurgeTarget) -> Result<(), PurgeError> {
        Ok(self.store.invalidate(&[target::checked(target)?], PurgeMode::Remove).await?)
    }

    /// Makes everything stale that `target` names.
    ///
    /// # Errors
    ///
    /// See [`CacheHandle::purge`].
    pub async fn soft_purge_target(&self, target: &PurgeTarget) -> Result<(), PurgeError> {
        Ok(self.store.invalidate(&[target::checked(target)?], self.soft()).await?)
    }

    /// What the store holds and how it has done.
    pub fn statistics(&self) -> StoreStatistics {
        self.store.statistics()
    }

    /// What is being fetched now, and what came of collapsing requests.
    pub fn fills(&self) -> FillStatistics {
        self.core.gauges.statistics()
    }

    fn soft(&self) -> PurgeMode {
        PurgeMode::Expire(self.core.clock.now())
    }

    async fn invalidate(&self, uri: &Uri, how: PurgeMode) -> Result<(), PurgeError> {
        target::absolute(uri)?;
        // As the policy spells it in keys.
        let Some(key) = key_of(&self.core, uri.clone()) else {
            return Err(PurgeError::NoKey(uri.to_string()));
        };
        Ok(self.store.invalidate(&targets_of(&self.core, &key), how).await?)
    }
}

impl<S> Clone for CacheHandle<S> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core), store: Arc::clone(&self.store) }
    }
}

impl<S> fmt::Debug for CacheHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheHandle").finish_non_exhaustive()
    }
}
