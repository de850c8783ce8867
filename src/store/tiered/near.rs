//! The near store, and what it has heard of the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex as Turns;

use crate::entry::key::CacheKey;
use crate::runtime::Instant;
use crate::store::log::{Hearer, Replica};
use crate::store::{PurgeMode, PurgeTarget, Store};

/// Nobody knows what is in effect: everything has to go.
const NOTHING: u64 = u64::MAX;

pub(super) struct Near<N> {
    bound: Duration,
    /// How many changes of the replica are in effect here; at first none, not even those that it knows.
    heard: AtomicU64,
    replica: Arc<Replica>,
    store: N,
    turns: Turns<()>,
}

impl<N: Store> Near<N> {
    pub(super) fn new(store: N, replica: Arc<Replica>, bound: Duration) -> Self {
        // What is there from a former life was not told of the purges since, so it goes when it hears for the first time.
        let heard = AtomicU64::new(NOTHING);
        Self { bound, heard, replica, store, turns: Turns::new(()) }
    }

    pub(super) fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    pub(super) fn store(&self) -> &N {
        &self.store
    }

    /// Whether all that is known is in effect here, and was all there was within the bound.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        // In this order: what the log was proven by is heard.
        self.replica.is_proven_at(now, self.bound) && self.has_heard()
    }

    fn has_heard(&self) -> bool {
        self.heard.load(Ordering::SeqCst) == self.replica.changed()
    }

    /// Makes everything go: nobody knows what is to.
    async fn forget(&self) -> bool {
        self.store.invalidate(&[PurgeTarget::All], PurgeMode::Remove).await.is_ok()
    }

    /// Makes a key go. What can't be made to go keeps the near store closed.
    pub(super) async fn forget_key(&self, key: &CacheKey) {
        let target = [PurgeTarget::Key(key.clone())];
        if self.store.invalidate(&target, PurgeMode::Remove).await.is_err() {
            self.heard.store(NOTHING, Ordering::SeqCst);
        }
    }
}

impl<N: Store> Hearer for Near<N> {
    async fn hear(&self) {
        while !self.has_heard() {
            let _turn = self.turns.lock().await;
            let changes = self.replica.changes_since(self.heard.load(Ordering::SeqCst));
            let is_done = match changes.purges {
                None => self.forget().await,
                Some(purges) => {
                    let mut is_done = true;
                    for purge in purges {
                        is_done &= self.store.invalidate(&purge.targets, purge.mode).await.is_ok();
                    }
                    is_done
                }
            };
            if !is_done {
                return; // the near store stays closed, and the next one tries again
            }
            self.heard.store(changes.seen, Ordering::SeqCst);
        }
    }
}
