//! Nodes that share a store and a log of purges, each with a near tier that follows the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use shuttle::future::yield_now;

use super::{below, explore, one_of};
use crate::entry::key::CacheKey;
use crate::entry::{RemoteContent, ResponseHead, StoredResponse};
use crate::error::StoreError;
use crate::runtime::{self, Instant, Mutex, lock, moment};
use crate::semantics::range::ByteRange;
use crate::store::conformance::{here, response, targets};
use crate::store::log::{Followed, MemoryLog, PurgeLog, Replica, Verdict};
use crate::store::{
    BeginOutcome, Expected, Fence, Lookup, MemoryStore, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget,
    PutOutcome, Store, StoreLimits, StoreStatistics, Stored, StoredBody, StoredId, TierLimits, TieredStore,
    Variants,
};

/// What all nodes share.
#[derive(Clone, Default)]
struct Shared {
    log: MemoryLog,
    stored: Arc<Mutex<HashMap<CacheKey, Vec<Stored>>>>,
}

/// One node's way to what is shared, each step of which takes its time.
struct Far {
    log: Arc<MemoryLog>,
    replica: Arc<Replica>,
    shared: Shared,
}

async fn turns() {
    for _ in 0..below(3) {
        yield_now().await;
    }
}

impl Far {
    fn of(shared: &Shared) -> Self {
        let replica = Arc::new(Replica::new([7; 16]));
        Self { log: Arc::new(shared.log.clone()), replica, shared: shared.clone() }
    }

    /// All purges that had returned when this was called are known after it.
    async fn know(&self) -> Result<(), StoreError> {
        turns().await;
        let state = self.log.state().await?;
        turns().await;
        if !self.replica.sees(state) {
            self.replica.catch_up(&*self.log).await?;
        }
        Ok(())
    }

    fn judged(&self, key: &CacheKey, stored: &[Stored]) -> Vec<Stored> {
        let judge = |stored: &Stored| match self.replica.judge(key, &stored.response, stored.fence) {
            _ if !self.replica.is_announced(stored.id.bits()) => None,
            Verdict::Expired(expired) => Some(Stored { expired: Some(expired), ..stored.clone() }),
            Verdict::Removed => None,
            Verdict::Untouched => Some(stored.clone()),
        };
        stored.iter().filter_map(judge).collect()
    }
}

impl Followed for Far {
    type Log = MemoryLog;

    fn log(&self) -> Arc<MemoryLog> {
        Arc::clone(&self.log)
    }

    fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }
}

impl Store for Far {
    fn try_get(&self, _: &CacheKey) -> Option<Lookup> {
        None
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        self.know().await?;
        let fence = self.replica.fence();
        let stored = {
            let all = lock(&self.shared.stored);
            all.get(key).cloned().unwrap_or_default()
        };
        turns().await;
        Ok(Lookup::new(fence, Variants::new(self.judged(key, &stored))))
    }

    async fn open(
        &self,
        _: &CacheKey,
        _: RemoteContent,
        _: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        Ok(None)
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
        turns().await;
        let announced = self.replica.announce(&*self.log, key, &response, fence, Duration::MAX).await?;
        let Some(number) = announced else { return Ok(PutOutcome::Superseded) };
        turns().await;
        let outcome = {
            let mut all = lock(&self.shared.stored);
            let stored = all.entry(key.clone()).or_default();
            let mut kept = self.judged(key, stored);
            let selecting = &response.head().reuse().selecting;
            let replaced = kept.iter().position(|one| one.response.head().reuse().selecting == *selecting);
            let verdict = self.replica.judge(key, &response, fence);
            let is_later = |at: usize| kept[at].fence.bits() > fence.bits();
            match verdict {
                Verdict::Removed => PutOutcome::Superseded,
                Verdict::Expired(_) if replaced.is_some_and(is_later) => PutOutcome::Superseded,
                _ => {
                    replaced.into_iter().for_each(|at| drop(kept.remove(at)));
                    let id = StoredId::from_bits(number);
                    kept.insert(0, Stored::new(id, fence, response));
                    *stored = kept;
                    PutOutcome::Stored
                }
            }
        };
        turns().await;
        Ok(outcome)
    }

    async fn begin(&self, _: &CacheKey, _: Option<u64>, _: Fence) -> Result<BeginOutcome, StoreError> {
        Ok(BeginOutcome::PutWhole)
    }

    async fn freshen(
        &self,
        _: &CacheKey,
        _: StoredId,
        _: ResponseHead,
        _: Fence,
    ) -> Result<PutOutcome, StoreError> {
        Ok(PutOutcome::Superseded)
    }

    async fn purged_since(
        &self,
        key: &CacheKey,
        since: Fence,
        scope: PurgeScope,
    ) -> Result<bool, StoreError> {
        self.know().await?;
        Ok(self.replica.concerns(key, since, scope) || self.replica.is_noted(&*self.log, key, since).await?)
    }

    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<PurgeNumber, StoreError> {
        turns().await;
        let purged = self.replica.purge_announced(&*self.log, targets, mode).await;
        turns().await;
        purged
    }

    fn limits(&self) -> StoreLimits {
        StoreLimits::new().waits(true)
    }

    fn statistics(&self) -> StoreStatistics {
        StoreStatistics::default()
    }
}

type Tier = TieredStore<MemoryStore, Far>;

/// Two nodes, and what they are filled from.
#[derive(Clone)]
struct Fleet {
    has_changed: Arc<AtomicBool>,
    shared: Shared,
    tiers: [Tier; 2],
}

impl Fleet {
    fn new() -> Self {
        let shared = Shared::default();
        let limits = TierLimits::new().far_in_background(one_of(&[false, true]));
        let tier = || {
            let near = MemoryStore::builder().capacity(256 * 1024).max_object(1024).build();
            TieredStore::following(near, Far::of(&shared), limits.clone())
        };
        let tiers = [tier(), tier()];
        Self { has_changed: Arc::default(), shared, tiers }
    }

    /// Asks for what there is now, and stores it; then looks at it.
    async fn fill(self, node: usize) {
        let (tier, key, accept) = (&self.tiers[node], here(), one_of(&["x", "y"]));
        let found = tier.get(&key).await.expect("the log does not fail");
        let content = if self.has_changed.load(Ordering::SeqCst) { "new" } else { "old" };
        turns().await;
        tier.put(&key, response(content, accept), found.fence).await.expect("the log does not fail");
        turns().await;
        tier.get(&key).await.expect("the log does not fail");
    }

    /// Makes everything that was there go, and gives the moment of the promise.
    async fn purge(&self, node: usize) -> Instant {
        self.purge_by(node, &targets()[below(targets().len())]).await
    }

    async fn purge_by(&self, node: usize, target: &PurgeTarget) -> Instant {
        self.has_changed.store(true, Ordering::SeqCst);
        let how = one_of(&[PurgeMode::Remove, PurgeMode::Expire(UNIX_EPOCH)]);
        let purged = self.tiers[node].invalidate(std::slice::from_ref(target), how).await;
        purged.expect("the log does not fail");
        moment()
    }

    async fn is_new(&self, node: usize) {
        let tier = &self.tiers[node];
        let found = tier.get(&here()).await.expect("the log does not fail");
        new_only(&found, "by waiting");
    }

    fn is_new_near(&self, node: usize) {
        if let Some(found) = self.tiers[node].try_get(&here()) {
            new_only(&found, "near");
        }
    }

    /// Waits until a node has proven that it knew everything at a moment, as it has within the bound after that.
    async fn is_proven(&self, node: usize, since: Instant) {
        let replica = self.tiers[node].far().replica();
        while !replica.is_proven(moment().saturating_duration_since(since)) {
            yield_now().await;
        }
    }

    /// Waits until no node has anything to append any more, and all know the same.
    async fn settle(&self) {
        loop {
            let state = self.shared.log.state().await.expect("the log does not fail");
            let is_settled = |tier: &Tier| {
                let replica = tier.far().replica();
                replica.unsure() == 0 && replica.is_at(state)
            };
            if self.tiers.iter().all(is_settled) {
                return;
            }
            yield_now().await;
        }
    }

    /// Nobody follows any more.
    async fn end(self) {
        drop(self);
        runtime::all_ended().await;
    }
}

/// Nothing older than the change is fresh.
#[track_caller]
fn new_only(found: &Lookup, how: &str) {
    for stored in found.variants.iter() {
        let content = stored.response.payload().to_bytes().expect("content in memory");
        assert!(stored.expired.is_some() || content == "new", "fresh {how} after its purge");
    }
}

#[test]
fn a_purge_on_one_node_is_in_effect_on_another_when_that_has_read_the_log() {
    explore(|| async {
        let fleet = Fleet::new();
        let fills = [0, 1].map(|node| shuttle::future::spawn(fleet.clone().fill(node)));
        let purge = shuttle::future::spawn({
            let fleet = fleet.clone();
            async move {
                let promised = fleet.purge(0).await;
                fleet.is_new_near(0);
                fleet.is_new(1).await;
                fleet.is_proven(1, promised).await;
                fleet.is_new_near(1);
                fleet.is_new(0).await;
            }
        });
        for fill in fills {
            fill.await.expect("a fill");
        }
        purge.await.expect("a purge");
        fleet.is_new_near(0);
        fleet.is_new_near(1);
        fleet.end().await;
    });
}

#[test]
fn nothing_that_was_purged_comes_back_when_the_log_loses_what_it_has() {
    explore(|| async {
        let fleet = Fleet::new();
        let fills = [0, 1].map(|node| shuttle::future::spawn(fleet.clone().fill(node)));
        let loss = shuttle::future::spawn({
            let log = fleet.shared.log.clone();
            async move {
                for _ in 0..2 {
                    turns().await;
                    match below(4) {
                        0 => log.restart(),
                        1 => log.trim(0),
                        2 => log.drop_table(),
                        _ => {}
                    }
                }
            }
        });
        let promised = fleet.purge(one_of(&[0, 1])).await;
        for node in [0, 1] {
            fleet.is_new(node).await;
            fleet.is_proven(node, promised).await;
            fleet.is_new_near(node);
        }
        for task in fills.into_iter().chain([loss]) {
            task.await.expect("a fill, or a loss");
        }
        for node in [0, 1] {
            fleet.is_new(node).await;
            fleet.is_new_near(node);
        }
        fleet.end().await;
    });
}

#[test]
fn a_purge_that_the_log_loses_is_appended_again_by_whoever_knows_it() {
    explore(|| async {
        let fleet = Fleet::new();
        let fills = [0, 1].map(|node| shuttle::future::spawn(fleet.clone().fill(node)));
        fleet.purge(0).await;
        turns().await;
        fleet.shared.log.lose(1);
        fleet.is_new_near(0);
        fleet.is_new(0).await;
        for fill in fills {
            fill.await.expect("a fill");
        }
        fleet.settle().await;
        for node in [0, 1] {
            fleet.is_new(node).await;
            fleet.is_new_near(node);
        }
        fleet.end().await;
    });
}

/// As by an unsafe request, while nothing is stored, while it is, and while it is on its way.
async fn purged_by_uri(loses: bool) {
    let fleet = Fleet::new();
    let fills = [0, 1].map(|node| shuttle::future::spawn(fleet.clone().fill(node)));
    let loss = shuttle::future::spawn({
        let log = fleet.shared.log.clone();
        async move {
            for _ in 0..2 * below(2) * usize::from(loses) {
                turns().await;
                log.lose(0); // what came after the last entry
            }
        }
    });
    turns().await;
    let purger = one_of(&[0, 1]);
    let promised = fleet.purge_by(purger, &PurgeTarget::Uri(here().uri().into())).await;
    fleet.is_new_near(purger);
    for node in [0, 1] {
        fleet.is_new(node).await;
        fleet.is_proven(node, promised).await;
        fleet.is_new_near(node);
    }
    for task in fills.into_iter().chain([loss]) {
        task.await.expect("a fill, or a loss");
    }
    for node in [0, 1] {
        fleet.is_new(node).await;
        fleet.is_new_near(node);
    }
    fleet.end().await;
}

#[test]
fn a_purge_of_a_uri_is_in_effect_whether_it_is_an_entry_or_only_noted() {
    explore(|| purged_by_uri(false));
}

#[test]
fn a_purge_of_a_uri_is_in_effect_when_what_was_announced_is_lost() {
    explore(|| purged_by_uri(true));
}
