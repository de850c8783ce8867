//! A near store before a far one that takes its time: what was replaced in both does not come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use super::stores::Slow;
use super::{below, explore, one_of};
use crate::entry::key::CacheKey;
use crate::entry::{ResponseHead, StoredResponse};
use crate::runtime;
use crate::store::conformance::{here, response};
use crate::store::{MemoryStore, PurgeMode, PurgeTarget, PutOutcome, Store, TierLimits, TieredStore};

type Tier = TieredStore<MemoryStore, Slow>;

/// A tier, and the version that somebody has seen, or has stored and been told so.
#[derive(Clone)]
struct Tiers {
    seen: Arc<AtomicU64>,
    tier: Tier,
}

/// All versions have the same age. Their lifetimes say which they are.
fn version(number: u64) -> StoredResponse {
    let response = response("content", "x");
    StoredResponse::new(head(number), response.payload().clone())
}

fn head(number: u64) -> ResponseHead {
    let mut head = response("content", "x").head().clone();
    head.reuse.lifetime = Duration::from_secs(number);
    head
}

impl Tiers {
    /// The first version is far, and may be near.
    async fn new() -> Self {
        let near = MemoryStore::builder().capacity(256 * 1024).max_object(1024).build();
        let far = Slow(MemoryStore::builder().capacity(256 * 1024).max_object(1024).build());
        let tiers = Self { seen: Arc::default(), tier: Tier::new(near, far, TierLimits::new()) };
        tiers.put(1).await;
        if one_of(&[false, true]) {
            let all = [PurgeTarget::Key(here())];
            tiers.tier.near().invalidate(&all, PurgeMode::Remove).await.expect("memory does not fail");
        }
        tiers
    }

    async fn put(&self, number: u64) {
        let fence = self.tier.get(&here()).await.expect("memory does not fail").fence;
        // What was asked for before a purge may be refused.
        let outcome = self.tier.put(&here(), version(number), fence).await.expect("memory does not fail");
        if outcome == PutOutcome::Stored {
            self.seen.fetch_max(number, Ordering::SeqCst);
        }
    }

    async fn freshen(&self, number: u64) {
        let found = self.tier.get(&here()).await.expect("memory does not fail");
        if let Some(stored) = found.variants.first() {
            self.tier
                .freshen(&here(), stored.id, head(number), found.fence)
                .await
                .expect("memory does not fail");
        }
    }

    /// Nothing older than what anybody has seen before is found. Nothing may be found.
    async fn look(&self) {
        for _ in 0..2 {
            let seen = self.seen.load(Ordering::SeqCst);
            let near = if one_of(&[false, true]) { self.tier.try_get(&here()) } else { None };
            let found = match near {
                Some(found) => found,
                None => self.tier.get(&here()).await.expect("memory does not fail"),
            };
            for stored in found.variants.iter() {
                let number = stored.response.head().reuse().lifetime.as_secs();
                assert!(number >= seen, "version {number} is back after version {seen}");
                self.seen.fetch_max(number, Ordering::SeqCst);
            }
        }
    }

    /// The near store is closed meanwhile, for all keys. A soft purge makes what is there stale, and it is found all the same.
    async fn purge(&self) {
        let other = CacheKey::from_uri(&http::Uri::from_static("http://example.org/")).expect("a key");
        let (key, mode) = match below(2) {
            0 => (other, PurgeMode::Remove),
            _ => (here(), PurgeMode::Expire(UNIX_EPOCH)),
        };
        self.tier.invalidate(&[PurgeTarget::Key(key)], mode).await.expect("memory does not fail");
    }
}

#[test]
fn what_was_replaced_in_both_levels_does_not_come_back() {
    explore(|| async {
        let tiers = Tiers::new().await;
        let looks = [(); 2].map(|()| {
            let tiers = tiers.clone();
            shuttle::future::spawn(async move { tiers.look().await })
        });
        let purge = shuttle::future::spawn({
            let tiers = tiers.clone();
            async move {
                if below(2) == 0 {
                    tiers.purge().await
                }
            }
        });
        match below(2) {
            0 => tiers.put(2).await,
            _ => tiers.freshen(2).await,
        }
        tiers.look().await;
        for task in looks {
            task.await.expect("a look-up");
        }
        purge.await.expect("a purge");
        tiers.look().await;
        drop(tiers);
        runtime::all_ended().await;
    });
}

#[test]
fn of_two_writes_at_one_time_the_same_one_is_last_in_both_levels() {
    explore(|| async {
        let tiers = Tiers::new().await;
        let other = shuttle::future::spawn({
            let tiers = tiers.clone();
            async move { if below(2) == 0 { tiers.put(2).await } else { tiers.freshen(2).await } }
        });
        tiers.put(3).await;
        other.await.expect("a write");
        let number = async |store: &MemoryStore| {
            let found = store.get(&here()).await.expect("memory does not fail");
            found.variants.first().map(|stored| stored.response.head().reuse().lifetime.as_secs())
        };
        let (near, far) = (number(tiers.tier.near()).await, number(&tiers.tier.far().0).await);
        assert!(near.is_none() || near == far, "{near:?} is near, and {far:?} far");
        drop(tiers);
        runtime::all_ended().await;
    });
}
