//! A near store in memory before one on the disk.

use larder::store::conformance::concurrency::what_is_done_at_one_time_is_as_if_done_in_one_order;
use larder::store::conformance::{Capabilities, Nodes, Subject, check_all};
use larder::store::{DiskStore, DiskStoreBuilder, PurgeMode, PurgeTarget, Store, TierLimits, TieredStore};
use larder::{CacheKey, MemoryStore};

use super::Place;
use super::conformance::Folder;
use crate::support::logs::{key, response};

type Tier = TieredStore<MemoryStore, DiskStore>;

/// One process at a time has the folder open, so both nodes have clones of one tier.
struct Levels {
    folder: Folder,
    limits: TierLimits,
}

impl Nodes for Levels {
    type Store = Tier;

    async fn open(&self) -> [Tier; 2] {
        let near = MemoryStore::builder().capacity(16 << 20).build();
        let tier = TieredStore::new(near, self.folder.opened().await, self.limits.clone());
        [tier.clone(), tier]
    }

    async fn close(&self, handles: [Tier; 2]) {
        handles[0].settle().await;
        handles[0].far().close().await;
    }

    async fn bytes(&self, key: &CacheKey) -> Option<Vec<u8>> {
        self.folder.bytes(key).await
    }

    async fn overwrite(&self, key: &CacheKey, bytes: Vec<u8>) {
        self.folder.overwrite(key, bytes).await;
    }
}

fn subject<'a>(
    limits: TierLimits,
    settings: fn(DiskStoreBuilder) -> DiskStoreBuilder,
) -> Subject<'a, Levels> {
    let make = async move || Levels { folder: Folder::with(settings), limits: limits.clone() };
    // Its statistics are those of the near store.
    Subject::new(make).capabilities(Capabilities::all().statistics(false).exact_purges(false)).operations(50)
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_before_disk_keeps_the_contract() {
    check_all(&subject(TierLimits::new(), |builder| builder)).await;
}

#[tokio::test]
async fn memory_before_disk_keeps_the_contract_on_one_thread() {
    let limits = TierLimits::new().promote_at(2);
    let small = |builder: DiskStoreBuilder| builder.capacity(16 << 20).max_object(1 << 20).max_variants(3);
    check_all(&subject(limits, small)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_before_disk_keeps_the_contract_where_only_small_content_comes_near() {
    check_all(&subject(TierLimits::new().near_object(1_000), |builder| builder)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_before_disk_keeps_the_contract_where_it_is_written_in_the_background() {
    check_all(&subject(TierLimits::new().far_in_background(true), |builder| builder)).await;
}

/// Many times what the whole suite does, as what goes wrong here does so seldom.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_at_one_time_in_memory_and_on_disk_is_as_if_done_in_one_order() {
    for limits in [TierLimits::new(), TierLimits::new().promote_at(2)] {
        let subject = subject(limits, |builder| builder).operations(1_000);
        what_is_done_at_one_time_is_as_if_done_in_one_order(&subject).await;
    }
}

#[tokio::test]
async fn what_was_put_in_the_background_is_on_the_disk_when_the_tier_has_settled() {
    let place = Place::new();
    let disk = place.builder().open().await.unwrap();
    let tier =
        TieredStore::new(MemoryStore::default(), disk.clone(), TierLimits::new().far_in_background(true));
    let count = 100;
    for number in 0..count {
        let key = key(&format!("http://a/{number}"));
        let fence = tier.get(&key).await.unwrap().fence;
        tier.put(&key, response(&[]), fence).await.unwrap();
    }
    tier.settle().await;
    assert_eq!(disk.statistics().entries, count);
    disk.close().await;
}

/// The tier's own log begins with the process.
#[tokio::test]
async fn the_number_of_a_purge_is_that_of_the_disk_and_goes_on_after_a_restart() {
    let place = Place::new();
    let mut last = Default::default();
    for _ in 0..3 {
        let disk = place.builder().open().await.unwrap();
        let tier = TieredStore::new(MemoryStore::default(), disk.clone(), TierLimits::new());
        for _ in 0..3 {
            let number = tier.invalidate(&[PurgeTarget::All], PurgeMode::Remove).await.unwrap();
            assert!(number > last, "{number} after {last}");
            last = number;
        }
        disk.close().await;
    }
}
