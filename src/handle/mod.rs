//! Purging and statistics, from outside the flow of requests.

pub(crate) mod target;

use std::fmt;
use std::sync::Arc;

use http::Uri;

use self::target::PurgeError;
use crate::limits::FillStatistics;
use crate::observe::InvalidatedBy;
use crate::policy::CachePolicy;
use crate::shared::Shared;
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
    shared: Arc<Shared<S>>,
}

impl<S: Store> CacheHandle<S> {
    pub(crate) fn new(shared: Arc<Shared<S>>) -> Self {
        Self { shared }
    }

    /// Removes every response for an absolute URI, all variants and whatever else the keys hold.
    ///
    /// # Errors
    ///
    /// When the store can't be sure that the purge has taken effect, and when the purge can't mean anything that is
    /// stored; so for all purges.
    pub async fn purge(&self, uri: &Uri) -> Result<(), PurgeError> {
        self.invalidate_uri(uri, PurgeMode::Remove).await
    }

    /// Makes every response for an absolute URI stale.
    ///
    /// # Errors
    ///
    /// See [`CacheHandle::purge`].
    pub async fn soft_purge(&self, uri: &Uri) -> Result<(), PurgeError> {
        self.invalidate_uri(uri, self.soft()).await
    }

    /// Removes everything that `target` names.
    ///
    /// # Errors
    ///
    /// See [`CacheHandle::purge`].
    pub async fn purge_target(&self, target: &PurgeTarget) -> Result<(), PurgeError> {
        self.invalidate(&[target::checked(target)?], PurgeMode::Remove).await
    }

    /// Makes everything stale that `target` names.
    ///
    /// # Errors
    ///
    /// See [`CacheHandle::purge`].
    pub async fn soft_purge_target(&self, target: &PurgeTarget) -> Result<(), PurgeError> {
        self.invalidate(&[target::checked(target)?], self.soft()).await
    }

    /// Replaces the policy of the layer. Requests under way keep the one that they have; what is stored keeps the terms under
    /// which it was stored.
    pub fn set_policy(&self, policy: impl CachePolicy) {
        self.shared.core.policy.replace(policy);
    }

    /// What the store holds and how it has done.
    pub fn statistics(&self) -> StoreStatistics {
        self.shared.store.statistics()
    }

    /// What is being fetched now, and what came of collapsing requests.
    pub fn fills(&self) -> FillStatistics {
        self.shared.core.gauges.statistics()
    }

    fn soft(&self) -> PurgeMode {
        PurgeMode::Expire(self.shared.core.clock.now())
    }

    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<(), PurgeError> {
        Ok(self.shared.invalidate(targets, mode, InvalidatedBy::Handle).await?)
    }

    async fn invalidate_uri(&self, uri: &Uri, how: PurgeMode) -> Result<(), PurgeError> {
        target::absolute(uri)?;
        // As the policy spells it in keys.
        let Some(key) = self.shared.core.key_of(uri.clone()) else {
            return Err(PurgeError::NoKey(uri.to_string()));
        };
        self.invalidate(&self.shared.core.targets_of(&key), how).await
    }
}

impl<S> Clone for CacheHandle<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S> fmt::Debug for CacheHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheHandle").finish_non_exhaustive()
    }
}
