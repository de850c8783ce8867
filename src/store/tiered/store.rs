//! What a tier does with each call of a store.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::level::{self, LevelFence, insert, is_for_same, is_same, stands_for};
use super::turns::Look;
use super::under_way::UnderWay;
use super::writer::TierWriter;
use super::{ANNOUNCED_FOR, Inner, Link, TieredStore};
use crate::entry::key::CacheKey;
use crate::entry::{Levels, NearUntil, RemoteContent, ResponseHead, StoredResponse};
use crate::error::StoreError;
use crate::runtime::moment;
use crate::semantics::range::ByteRange;
use crate::store::log::{Hearer, Verdict};
use crate::store::{
    BeginOutcome, Expected, Fence, Lookup, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget, PutOutcome,
    Store, StoreLimits, StoreStatistics, Stored, StoredBody, StoredId, Variants,
};

impl<N: Store, F: Store> Store for TieredStore<N, F> {
    fn try_get(&self, key: &CacheKey) -> Option<Lookup> {
        self.inner.near_answer(key)
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        let inner = &*self.inner;
        inner.hear().await;
        let fence = inner.fence();
        if inner.is_own() {
            inner.turns.catch_up(key).await;
        }
        // Before the far store is asked: what is purged after its answer is purged near after this, and what is put comes near.
        let near_fence = level::fence(inner.near.store(), key).await;
        let look = inner.turns.look(key);
        match inner.far.get(key).await {
            Ok(found) => Ok(inner.found_far(key, found, fence, near_fence, &look).await),
            Err(error) => inner.near_answer(key).ok_or(error),
        }
    }

    async fn open(
        &self,
        key: &CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        let Inner { near, far, .. } = &*self.inner;
        // What is near has its content with it, or in a place of the near store's or of the far one's.
        if near.store().limits().waits
            && let Some(body) = near.store().open(key, content, range).await?
        {
            return Ok(Some(body));
        }
        far.open(key, content, range).await
    }

    /// The log remembers.
    fn expect(&self, _: &CacheKey) -> Expected {
        Expected::default()
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        let inner = &self.inner;
        inner.hear().await;
        let writing = inner.turns.write(key).await;
        let near_fence = level::fence(inner.near.store(), key).await;
        if response.head().levels() == Levels::Near {
            return inner.put_near_alone(key, response, fence, near_fence).await;
        }
        let Some(far_fence) = inner.far_fence(key, fence).await else {
            return Err(StoreError::new("put", "the far store does not say what was purged"));
        };
        let verdict = inner.replica.judge(key, &response, fence);
        if inner.is_own()
            && (verdict != Verdict::Untouched || inner.may_be_purged_elsewhere(&response, fence))
        {
            return Ok(PutOutcome::Superseded);
        }
        let near_fence =
            near_fence.filter(|_| verdict == Verdict::Untouched && inner.is_for_near(key, &response));
        // Whoever waits for the end of a lease looks far then, and what is put after it has no token.
        let mut writing = Some(writing);
        if inner.limits.far_in_background
            && !(inner.has_lease)(&inner.far, key)
            && let Some(near_fence) = &near_fence
            && let Some(outcome) =
                inner.put_in_background(key, &response, near_fence, &far_fence, &mut writing).await?
        {
            return Ok(outcome);
        }
        let outcome = inner.far.put(key, response.clone(), far_fence.fence()).await?;
        match outcome {
            PutOutcome::Stored => inner.put_near_instead(key, response, near_fence).await,
            // Another node has what is newer.
            PutOutcome::Superseded => inner.forget_key(key).await,
            PutOutcome::TooLarge => {}
        }
        Ok(outcome)
    }

    async fn begin(
        &self,
        key: &CacheKey,
        expected_length: Option<u64>,
        fence: Fence,
    ) -> Result<BeginOutcome, StoreError> {
        let inner = &self.inner;
        let Some(far_fence) = inner.far_fence(key, fence).await else {
            return Ok(BeginOutcome::PutWhole);
        };
        if inner.is_own() && inner.replica.concerns(key, fence, PurgeScope::Key) {
            return Ok(BeginOutcome::Refused(PutOutcome::Superseded));
        }
        Ok(match inner.far.begin(key, expected_length, far_fence.fence()).await? {
            BeginOutcome::Writer(writer) => {
                let tier = Arc::clone(inner);
                BeginOutcome::Writer(Box::new(TierWriter {
                    far_fence,
                    fence,
                    key: key.clone(),
                    tier,
                    writer,
                }))
            }
            other => other,
        })
    }

    async fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        let inner = &*self.inner;
        inner.hear().await;
        let _writing = inner.turns.write(key).await;
        let near_fence = level::fence(inner.near.store(), key).await;
        let Some(far_fence) = inner.far_fence(key, fence).await else {
            return Err(StoreError::new("freshen", "the far store does not say what was purged"));
        };
        let near = inner.near_variants(key).await;
        let near = near.iter().find(|stored| stored.id == of);
        let response = near.map(|near| StoredResponse::new(head.clone(), near.response.payload().clone()));
        if let (Some(near), Some(response)) = (near, &response)
            && near.expired.is_none()
            && response.is_older_than(&near.response)
        {
            return Ok(PutOutcome::Superseded);
        }
        if let Some(outcome) = inner.freshen_as_found(key, of, near, &head, fence).await? {
            return Ok(outcome);
        }
        let is_near_alone = near.is_some() && head.levels() == Levels::Near;
        if inner.is_own() || is_near_alone {
            let far = match near {
                Some(_) => None,
                None => {
                    inner.far.get(key).await?.variants.iter().find(|far| far.id == inner.far_id(of)).cloned()
                }
            };
            let Some(before) = near.or(far.as_ref()).map(|stored| &stored.response) else {
                return Ok(PutOutcome::Superseded);
            };
            // In the groups that its head names from now on, and in those that it has named.
            let after = StoredResponse::new(head.clone(), before.payload().clone());
            let is_purged = [before, &after].into_iter().any(|one| {
                inner.may_be_purged_elsewhere(one, fence)
                    || inner.replica.judge(key, one, fence) != Verdict::Untouched
            });
            if is_purged || inner.replica.concerns(key, fence, PurgeScope::Key) {
                return Ok(PutOutcome::Superseded);
            }
        }
        if let Some(response) = response.as_ref().filter(|_| is_near_alone) {
            return inner.freshen_near(key, of, response, near_fence.as_ref(), &far_fence).await;
        }
        let mut is_behind = false;
        let outcome = match (near, &response) {
            (Some(near), Some(response)) => {
                let found = inner.far.get(key).await?;
                let far = found.variants.iter().find(|far| is_same(&far.response, &near.response));
                let is_newer =
                    |far: &Stored| is_for_same(far, near) && near.response.is_older_than(&far.response);
                is_behind = found.variants.iter().any(is_newer);
                let is_replaced = || {
                    let mut alike = found.variants.iter().filter(|far| is_for_same(far, near));
                    alike.any(|far| !far.response.is_older_than(&near.response))
                };
                match far {
                    Some(far) => inner.far.freshen(key, far.id, head, far_fence.fence()).await?,
                    None if is_replaced() => PutOutcome::Superseded,
                    // The far store has dropped it, or does not have it yet.
                    None => {
                        inner.freshen_near_alone(key, of, response, near_fence.as_ref(), &far_fence).await?
                    }
                }
            }
            _ => inner.far.freshen(key, inner.far_id(of), head, far_fence.fence()).await?,
        };
        let is_untouched =
            |response: &StoredResponse| inner.replica.judge(key, response, fence) == Verdict::Untouched;
        match response {
            Some(response) if outcome == PutOutcome::Stored && is_untouched(&response) => {
                inner.put_near_instead(key, response, near_fence).await;
            }
            // What is near has an older head, or the far store what is newer.
            _ if is_behind => inner.forget_key(key).await,
            _ if outcome == PutOutcome::Stored => inner.forget_key(key).await,
            _ => {}
        }
        Ok(outcome)
    }

    async fn purged_since(
        &self,
        key: &CacheKey,
        since: Fence,
        scope: PurgeScope,
    ) -> Result<bool, StoreError> {
        let inner = &*self.inner;
        // A near fence is that of a response that was found near: a store in memory has few bits in it, and a log many.
        let may_be_near = since.bits() >> 64 <= 1 && since != Fence::default();
        let is_purged_near = async || {
            if !inner.is_near_open() {
                return Ok(true);
            }
            inner.near.store().purged_since(key, since, scope).await
        };
        match inner.link {
            Link::Followed(..) if may_be_near => is_purged_near().await,
            Link::Followed(..) => inner.far.purged_since(key, since, scope).await,
            Link::Own(_) if inner.replica.has_given(since) => Ok(inner.replica.concerns(key, since, scope)),
            // Of one of both levels, which is the one that says so.
            Link::Own(_) => Ok(is_purged_near().await? || inner.far.purged_since(key, since, scope).await?),
        }
    }

    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<PurgeNumber, StoreError> {
        let inner = &*self.inner;
        match &inner.link {
            Link::Followed(..) => {
                let purged = inner.far.invalidate(targets, mode).await;
                if purged.is_err() {
                    // Here it takes effect all the same.
                    inner.near.store().invalidate(targets, mode).await?;
                }
                inner.hear().await;
                purged
            }
            Link::Own(log) => {
                let under_way = UnderWay::new(&inner.under_way, inner.replica.fence());
                inner.replica.purge(log, targets, mode).await?;
                // Its number is that of the far store, which goes on counting where that is durable. This log begins with the tier.
                let purged = inner.far.invalidate(targets, mode).await;
                inner.near.store().invalidate(targets, mode).await?;
                drop(under_way);
                purged
            }
        }
    }

    fn limits(&self) -> StoreLimits {
        self.inner.store_limits
    }

    /// Of the near store: the far one has its own, and other nodes fill it, too.
    fn statistics(&self) -> StoreStatistics {
        self.inner.near.store().statistics()
    }
}

/// What is in the near store.
enum NearNow {
    /// It may answer with it.
    Open(Variants),
    /// It may not.
    Closed(Variants),
}

impl NearNow {
    fn variants(&self) -> &Variants {
        match self {
            Self::Open(near) | Self::Closed(near) => near,
        }
    }
}

impl<N: Store, F: Store> Inner<N, F> {
    pub(super) fn is_own(&self) -> bool {
        matches!(self.link, Link::Own(_))
    }

    /// A fence before all purges that do not count in both levels yet.
    fn fence(&self) -> Fence {
        let fence = self.replica.fence();
        self.under_way.first().unwrap_or(fence)
    }

    /// Whether a purge since a fence may concern a response as one that answers for another query. The fence of its level says
    /// nothing of that, so it is not stored where it would be judged by that.
    pub(super) fn may_be_purged_elsewhere(&self, response: &StoredResponse, fence: Fence) -> bool {
        response.may_answer_for_other_queries() && fence != self.replica.fence()
    }

    /// Makes what the log is known to have count near. The purges of a log of its own are made near by who purges.
    pub(super) async fn hear(&self) {
        if !self.is_own() {
            self.follow();
            self.near.hear().await;
        }
    }

    /// What the near store has, where it may answer and has something.
    fn near_answer(&self, key: &CacheKey) -> Option<Lookup> {
        // Before the look: what is in effect has been known before.
        let fence = self.replica.fence();
        let now = self.near_lifetime().map(|_| moment());
        if !self.is_near_open_at(|| now.unwrap_or_else(moment)) {
            self.follow();
            return None;
        }
        let found = self.near.store().try_get(key)?;
        let is_late = |stored: &Stored| {
            now.is_some_and(|now| stored.response.head().near_until.0.is_some_and(|until| until <= now))
        };
        if found.variants.is_empty() || found.variants.iter().any(is_late) {
            return None;
        }
        Some(Lookup { fence, ..found })
    }

    /// How long a response may be answered from the near store before the far one is asked again.
    fn near_lifetime(&self) -> Option<Duration> {
        match self.is_own() {
            true => self.limits.near_lifetime,
            false => Some(self.limits.near_lifetime.map_or(ANNOUNCED_FOR, |time| time.min(ANNOUNCED_FOR))),
        }
    }

    /// How long a response with this head may be answered from the near store. What is there alone is not asked for far, so only its
    /// announcement bounds that.
    fn near_time(&self, head: &ResponseHead) -> Option<Duration> {
        match head.levels() {
            Levels::Near => (!self.is_own()).then_some(ANNOUNCED_FOR),
            _ => self.near_lifetime(),
        }
    }

    /// Of what goes near now.
    pub(super) fn near_until(&self, head: &ResponseHead) -> NearUntil {
        NearUntil(self.near_time(head).and_then(|time| moment().checked_add(time)))
    }

    /// Whether the announcement of what is near may not count any more, so that purges may have been missed. What the far store
    /// has comes near again before that.
    fn is_forgotten(&self, near: &Stored) -> bool {
        let head = near.response.head();
        let longer = ANNOUNCED_FOR.saturating_sub(self.near_time(head).unwrap_or_default());
        let until = head.near_until.0.and_then(|until| until.checked_add(longer));
        !self.is_own() && until.is_none_or(|until| until <= moment())
    }

    /// What the near store has and may answer with, whatever its time.
    pub(super) async fn near_variants(&self, key: &CacheKey) -> Variants {
        match self.near_now(key).await {
            NearNow::Open(near) => near,
            NearNow::Closed(_) => Variants::default(),
        }
    }

    /// What the near store has, whatever its time.
    async fn near_now(&self, key: &CacheKey) -> NearNow {
        // Before the look: what is found then has been near while that was open.
        let is_open = self.is_near_open();
        let found = self.near.store().get(key).await.map(|found| found.variants).unwrap_or_default();
        if is_open { NearNow::Open(found) } else { NearNow::Closed(found) }
    }

    /// The fence for the far store, with which nothing is put there that the log does not know to be purged. Of a store that
    /// has the log, it is that of the log.
    async fn far_fence(&self, key: &CacheKey, fence: Fence) -> Option<LevelFence> {
        match self.is_own() {
            true => level::fence(&self.far, key).await,
            false => Some(LevelFence::of(fence)),
        }
    }

    /// Ids of the far store are marked: the near one may give the same.
    pub(super) fn far_id(&self, id: StoredId) -> StoredId {
        StoredId::from_bits(id.bits() ^ self.far_mark)
    }

    /// What the far store has found, and what is newer or only there near; and brings it near if that is due.
    async fn found_far(
        &self,
        key: &CacheKey,
        found: Lookup,
        fence: Fence,
        near_fence: Option<LevelFence>,
        look: &Look,
    ) -> Lookup {
        let fence = if self.is_own() { fence } else { found.fence };
        // Held until it is clear what is near.
        let turn = look.turn();
        let mut order = self.near_now(key).await;
        if turn.is_some() && self.is_behind(&order, &found.variants) {
            self.forget_key(key).await;
            order = self.near_now(key).await;
        }
        if let Some(near_fence) = near_fence
            && turn.is_some()
            && self.is_due(key, &found.variants)
        {
            // The oldest first, so that the newest is the last that was put.
            for stored in found.variants.iter().rev().filter(|stored| stored.expired.is_none()) {
                if order.variants().iter().all(|near| !stands_for(near, stored) || self.is_late(near)) {
                    self.put_near(key, &stored.response, &near_fence).await;
                }
            }
        }
        let near = self.near_now(key).await;
        // One response has one identity: that of the near store where it is there.
        let named = |far: &Stored| match &near {
            NearNow::Open(near) => {
                // What is about to replace it may be far already, and nobody else finds that before it is near.
                let answers = |near: &&Stored| match self.is_own() {
                    true => is_for_same(near, far),
                    false => stands_for(near, far),
                };
                let near = near.iter().find(|near| answers(near) && !self.is_late(near));
                Some(near.cloned().unwrap_or_else(|| Stored { id: self.far_id(far.id), ..far.clone() }))
            }
            // A write has come as far as the far store. What it replaces is found near again when the purge is over.
            NearNow::Closed(near) if near.iter().any(|near| self.hides(near, far)) => None,
            NearNow::Closed(_) => Some(Stored { id: self.far_id(far.id), ..far.clone() }),
        };
        let mut variants = found.variants.iter().filter_map(named).collect();
        if let NearNow::Open(near) = &near {
            // Not there any more, or still on its way there.
            let is_only_near = |near: &&Stored| {
                !self.is_forgotten(near) && !found.variants.iter().any(|far| is_for_same(near, far))
            };
            near.iter()
                .filter(is_only_near)
                .rev()
                .for_each(|stored| insert(stored.clone(), order.variants(), &mut variants));
        }
        variants.truncate(self.store_limits.max_variants);
        Lookup::new(fence, Variants::new(variants))
    }

    /// Whether a write has not come as far as the near store, although it is over: it has failed half-way, or nobody has waited for its
    /// end. For nobody else writes into the far store.
    fn is_behind(&self, near: &NearNow, found: &[Stored]) -> bool {
        let is_behind = |near: &Stored, far: &Stored| match near.response.head().levels() {
            Levels::Near => !stands_for(near, far),
            _ => !is_same(&near.response, &far.response),
        };
        let mut near = near.variants().iter();
        self.is_own()
            && near.any(|near| found.iter().any(|far| is_for_same(near, far) && is_behind(near, far)))
    }

    /// Whether a response is not to be found far for now, as another one is near in its place, which is closed. Where other nodes
    /// write into the far store, these may differ for long, and what is far is found.
    fn hides(&self, near: &Stored, far: &Stored) -> bool {
        self.is_own()
            && is_for_same(near, far)
            && !is_same(&near.response, &far.response)
            && !self.is_late(near)
    }

    fn is_late(&self, near: &Stored) -> bool {
        self.near_lifetime().is_some()
            && near.response.head().near_until.0.is_some_and(|until| until <= moment())
    }

    /// Whether what was found far goes near now. Each look counts.
    fn is_due(&self, key: &CacheKey, found: &[Stored]) -> bool {
        if found.is_empty() || self.limits.promote_at <= 1 {
            return !found.is_empty();
        }
        let place =
            usize::try_from(self.random.hash_one(key) % self.hits.len().max(1) as u64).unwrap_or_default();
        let Some(hits) = self.hits.get(place) else { return true };
        let is_due = hits.fetch_add(1, Ordering::Relaxed) + 1 >= self.limits.promote_at;
        if is_due {
            hits.store(0, Ordering::Relaxed);
        }
        is_due
    }

    /// Whether a new response goes near at once.
    fn is_for_near(&self, key: &CacheKey, response: &StoredResponse) -> bool {
        let is_near = || self.near.store().try_get(key).is_some_and(|found| !found.variants.is_empty());
        self.may_be_near(response) && (self.limits.promote_at <= 1 || is_near())
    }
}
