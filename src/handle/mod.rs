//! Purging, statistics, and looking at what is stored and why, from outside the flow of requests.

pub(crate) mod explain;
pub(crate) mod inspect;
mod lease;
#[cfg(feature = "metrics")]
mod metrics;
pub(crate) mod target;

mod signpost;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
#[cfg(feature = "admin")]
use std::time::SystemTime;

use http::Uri;

use self::target::PurgeError;
use crate::error::StoreError;
use crate::limits::FillStatistics;
use crate::observe::InvalidatedBy;
use crate::policy::CachePolicy;
use crate::runtime::to_its_end;
use crate::shared::Shared;
use crate::store::target::distinct;
use crate::store::{MemoryStore, PurgeMode, PurgeReceipt, PurgeTarget, Store, StoreLimits, StoreStatistics};

/// The longest development mode: nobody forgets it for longer.
const LONGEST_BYPASS: Duration = Duration::from_secs(86_400);

/// Purges what a layer has stored, and reports how much that is. Cheap to clone.
///
/// A purge has taken effect when it returns, and gives a [`PurgeReceipt`]: under which number it is known, and what it has
/// reached. No request that begins later gets what was purged, nor does one that waits for a call from before the purge, and
/// what such a call brings is not stored as fresh. A purge that is repeated finds nothing and succeeds. In a tokio runtime, one that
/// has begun goes to its end and is reported, even if its future is dropped.
///
/// Each purge has a soft form, which makes stale instead of removing: it may be served while it is
/// validated, or when the origin fails, as far as its stale windows reach.
///
/// A purge names what clients ask for, and reaches everything that is stored for it, however the policy spells it in keys, and
/// whether keys say `http` or `https`: behind a server that ends TLS, the cache does not know what clients have asked for. Where
/// the query is not in the key, the purge of `/a?x=1` removes what all queries of `/a` share; where the host is not, the purge of
/// a URI, a prefix or a host removes what all hosts share. Where keys hold cookies, fields, classes or identities, all of them
/// go. See [`KeyRules`](crate::policy::KeyRules) and [`CachePolicy::spellings`].
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

    /// Removes every response for an absolute URI: all variants, whatever else the keys hold, and what answers for it because the
    /// policy, or the response's `No-Vary-Search`, makes no difference.
    ///
    /// # Errors
    ///
    /// When the store can't be sure that the purge has taken effect, and when the purge can't mean anything that is
    /// stored; so for all purges.
    pub async fn purge(&self, uri: &Uri) -> Result<PurgeReceipt, PurgeError> {
        self.invalidate_uri(uri, PurgeMode::Remove).await
    }

    /// Makes every response for an absolute URI stale.
    ///
    /// # Errors
    ///
    /// See [`CacheHandle::purge`].
    pub async fn soft_purge(&self, uri: &Uri) -> Result<PurgeReceipt, PurgeError> {
        self.invalidate_uri(uri, self.soft()).await
    }

    /// Makes every response for an absolute URI stale, and lets it go after `stale_for`: it may be served stale, or stand in
    /// for an error, no longer than that.
    ///
    /// # Errors
    ///
    /// See [`CacheHandle::purge`].
    pub async fn soft_purge_for(&self, uri: &Uri, stale_for: Duration) -> Result<PurgeReceipt, PurgeError> {
        self.invalidate_uri(uri, self.soft_for(stale_for)).await
    }

    /// Removes everything that is stored for what `target` names. Where the policy stores queries otherwise than they are asked
    /// for, a prefix that ends within a query reaches every query of that path, and a path prefix every path that begins like
    /// it.
    ///
    /// # Errors
    ///
    /// See [`CacheHandle::purge`].
    pub async fn purge_target(&self, target: &PurgeTarget) -> Result<PurgeReceipt, PurgeError> {
        self.purge_targets(std::slice::from_ref(target)).await
    }

    /// Makes everything stale that `target` names.
    ///
    /// # Errors
    ///
    /// See [`CacheHandle::purge`].
    pub async fn soft_purge_target(&self, target: &PurgeTarget) -> Result<PurgeReceipt, PurgeError> {
        self.soft_purge_targets(std::slice::from_ref(target)).await
    }

    /// Development mode: from now on every request is forwarded, for so long, at most a day; zero ends it. What is stored stays,
    /// and unsafe requests still invalidate it. `Cache-Status` says `fwd=bypass; detail="development-mode"`.
    ///
    /// Another call sets another end, and [`CacheHandle::set_policy`] changes nothing about it.
    pub fn bypass_for(&self, time: Duration) {
        let core = &self.shared.core;
        let until = core.clock.now() + time.min(LONGEST_BYPASS);
        core.policy.bypass_until((!time.is_zero()).then_some(until), &core.clock);
    }

    /// For how long every request is still forwarded, if it is.
    pub fn bypass_left(&self) -> Option<Duration> {
        let core = &self.shared.core;
        let until = core.policy.bypassed_until()?;
        until.duration_since(core.clock.now()).ok()
    }

    /// The name of the cache in `Cache-Status`.
    pub fn name(&self) -> &str {
        &self.shared.core.reporter.name
    }

    /// Replaces the secret that a request shows in `Larder-Debug` ([`CacheBuilder::debug_token`](crate::CacheBuilder::debug_token)):
    /// it counts for every request that comes from now on. Returns `false`, and changes nothing, where the layer was built without
    /// one, so that it reports to everybody. An empty secret is none, and nobody shows it.
    pub fn set_debug_token(&self, secret: &str) -> bool {
        self.shared.core.reporter.replace_limit(secret)
    }

    /// The time by the clock of the layer.
    #[cfg(feature = "admin")]
    pub(crate) fn now(&self) -> SystemTime {
        self.shared.core.clock.now()
    }

    /// Makes everything stale that `target` names, and lets it go after `stale_for`.
    ///
    /// # Errors
    ///
    /// See [`CacheHandle::purge`].
    pub async fn soft_purge_target_for(
        &self,
        target: &PurgeTarget,
        stale_for: Duration,
    ) -> Result<PurgeReceipt, PurgeError> {
        self.soft_purge_targets_for(std::slice::from_ref(target), stale_for).await
    }

    /// Replaces the policy of the layer. Requests under way keep the one that they have; what is stored keeps the terms under
    /// which it was stored.
    pub fn set_policy(&self, policy: impl CachePolicy) {
        self.shared.core.policy.replace(policy);
    }

    /// Removes everything that any of the targets names, by one call of the store.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use larder::CacheLayer;
    /// use larder::store::PurgeTarget;
    /// let handle = CacheLayer::default().handle();
    /// handle.purge_targets(&[PurgeTarget::tag("news"), PurgeTarget::path_prefix("/news/")]).await?;
    /// # Ok::<(), larder::PurgeError>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// See [`CacheHandle::purge`]. Where one of the targets can't mean anything that is stored, none is purged.
    pub async fn purge_targets(&self, targets: &[PurgeTarget]) -> Result<PurgeReceipt, PurgeError> {
        self.invalidate_targets(targets, PurgeMode::Remove).await
    }

    /// Makes everything stale that any of the targets names, by one call of the store.
    ///
    /// # Errors
    ///
    /// See [`CacheHandle::purge_targets`].
    pub async fn soft_purge_targets(&self, targets: &[PurgeTarget]) -> Result<PurgeReceipt, PurgeError> {
        self.invalidate_targets(targets, self.soft()).await
    }

    /// [`CacheHandle::soft_purge_targets`], and lets everything go after `stale_for`.
    ///
    /// # Errors
    ///
    /// See [`CacheHandle::purge_targets`].
    pub async fn soft_purge_targets_for(
        &self,
        targets: &[PurgeTarget],
        stale_for: Duration,
    ) -> Result<PurgeReceipt, PurgeError> {
        self.invalidate_targets(targets, self.soft_for(stale_for)).await
    }

    /// Carries out what was purged in another node, with the targets and mode that [`Event::Invalidated`] or a receipt of that
    /// node has. It is reported as [`InvalidatedBy::Peer`], so that an observer that hands purges on does not send it back.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use larder::CacheLayer;
    /// let (one, other) = (CacheLayer::default().handle(), CacheLayer::default().handle());
    /// let receipt = one.purge(&"http://example.com/".parse().unwrap()).await?;
    /// other.follow(&receipt.targets, receipt.mode).await?;
    /// # Ok::<(), larder::PurgeError>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// When the store can't be sure that the purge has taken effect. Targets are taken as they are: they were checked where
    /// they come from.
    ///
    /// [`Event::Invalidated`]: crate::Event::Invalidated
    pub async fn follow(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<PurgeReceipt, PurgeError> {
        self.carry_out(targets.to_vec(), mode, InvalidatedBy::Peer).await
    }

    /// What the store holds and how it has done.
    pub fn statistics(&self) -> StoreStatistics {
        self.shared.store.statistics()
    }

    /// What is being fetched now, and what came of collapsing requests.
    pub fn fills(&self) -> FillStatistics {
        self.shared.core.gauges.statistics()
    }

    /// What the store takes, and how it wants to be asked.
    pub fn store_limits(&self) -> StoreLimits {
        self.shared.store.limits()
    }

    /// Whether the policy keeps apart what other caches of the same owner get for a URI, and what clients do.
    #[cfg(feature = "admin")]
    pub(crate) fn keeps_peers_apart(&self, uri: &Uri) -> bool {
        self.shared.core.key_for_peers(uri.clone()).is_some()
    }

    /// Everything by which goes what is stored for an absolute URI.
    pub(crate) fn targets_of(&self, uri: &Uri) -> Result<Vec<PurgeTarget>, PurgeError> {
        target::absolute(uri)?;
        let core = &self.shared.core;
        let uris = [Some(uri.clone()), target::uri_by_other_scheme(uri)];
        let keys = uris.into_iter().flatten().flat_map(|uri| core.keys_of(uri));
        let targets = distinct(keys.flat_map(|key| core.targets_of(&key)).collect()); // the scheme may be in none of the keys
        if targets.is_empty() { Err(PurgeError::NoKey(uri.to_string())) } else { Ok(targets) }
    }

    fn soft(&self) -> PurgeMode {
        PurgeMode::Expire(self.shared.core.clock.now())
    }

    fn soft_for(&self, stale_for: Duration) -> PurgeMode {
        let at = self.shared.core.clock.now();
        // A time that is too late to be one has no end.
        at.checked_add(stale_for).map_or(PurgeMode::Expire(at), |until| PurgeMode::ExpireUntil { at, until })
    }

    async fn invalidate_targets(
        &self,
        targets: &[PurgeTarget],
        mode: PurgeMode,
    ) -> Result<PurgeReceipt, PurgeError> {
        let mut purged = Vec::with_capacity(targets.len());
        for target in targets {
            let target = target::checked(target)?;
            let twin = target::by_other_scheme(&target);
            for target in [Some(target), twin].into_iter().flatten() {
                purged.extend(target::spelled_by(|uri| self.shared.core.key_of(uri), &target));
                purged.push(target);
            }
        }
        self.carry_out(distinct(purged), mode, InvalidatedBy::Handle).await
    }

    async fn invalidate_uri(&self, uri: &Uri, mode: PurgeMode) -> Result<PurgeReceipt, PurgeError> {
        self.carry_out(self.targets_of(uri)?, mode, InvalidatedBy::Handle).await
    }

    /// A purge that has begun goes to its end and is reported, also where nobody waits for it any more.
    async fn carry_out(
        &self,
        targets: Vec<PurgeTarget>,
        mode: PurgeMode,
        by: InvalidatedBy,
    ) -> Result<PurgeReceipt, PurgeError> {
        let shared = Arc::clone(&self.shared);
        let purged = to_its_end(async move { shared.invalidate(&targets, mode, by).await }).await;
        purged
            .unwrap_or_else(|| Err(StoreError::new("invalidate", "the runtime shuts down")))
            .map_err(PurgeError::from)
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
