//! A near store in memory before one on the disk.

use std::time::Duration;

use http_body_util::BodyExt;
use larder::store::conformance::concurrency::what_is_done_at_one_time_is_as_if_done_in_one_order;
use larder::store::conformance::{Nodes, Subject, check_all};
use larder::store::log::Followed;
use larder::store::{
    DiskStore, DiskStoreBuilder, PurgeMode, PurgeTarget, PutOutcome, Store, TierLimits, TieredStore,
};
use larder::{CacheKey, MemoryStore};

use super::conformance::{Folder, promises};
use super::{Place, large};
use crate::support::fleet::{FarNode, Shared};
use crate::support::logs::{key, response, response_with};

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
    Subject::new(make).capabilities(promises().statistics(false)).operations(50)
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

/// Content of the disk, which is near here.
async fn read<S: Store>(store: &S, key: &CacheKey) -> Vec<String> {
    let mut contents = Vec::new();
    for stored in store.get(key).await.unwrap().variants.iter() {
        let payload = stored.response.payload();
        let content = match payload.as_remote() {
            None => payload.to_bytes().unwrap(),
            Some(remote) => {
                let body = store.open(key, remote, None).await.unwrap().expect("it is there");
                body.collect().await.unwrap().to_bytes()
            }
        };
        contents.push(String::from_utf8(content.to_vec()).unwrap());
    }
    contents
}

async fn fill<S: Store>(store: &S, key: &CacheKey, content: &str) {
    let fence = store.get(key).await.unwrap().fence;
    let stored = store.put(key, response_with(&[], content, 1), fence).await.unwrap();
    assert_eq!(stored, PutOutcome::Stored);
}

/// A node whose near level is on its disk, and another one without one.
async fn what_is_near_on_a_disk_goes_at_a_restart<F: Followed>(far: impl Fn() -> F) {
    let (place, key) = (Place::new(), key("http://a/x"));
    let other = far();
    let node = async || {
        let disk = place.builder().open().await.unwrap();
        let tier = TieredStore::following(disk, far(), TierLimits::new().bound(Duration::from_secs(60)));
        while !tier.is_near_open() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tier
    };
    for content in ["short", &large()] {
        let tier = node().await;
        let old = format!("old {content}");
        fill(&tier, &key, &old).await;
        assert_eq!(read(tier.near(), &key).await, [&*old], "it is on the disk");
        assert!(read(&tier, &key).await == [old], "and is read from there");
        tier.near().close().await;
        drop(tier);
        // Of the same age, so that only the purge says which one it is to be.
        other.invalidate(&[PurgeTarget::Key(key.clone())], PurgeMode::Remove).await.unwrap();
        let tier = node().await;
        assert!(read(&tier, &key).await.is_empty(), "it was purged while the node was away");
        fill(&other, &key, "new").await;
        assert!(read(&tier, &key).await == ["new"]);
        tier.near().close().await;
        drop(tier);
        other.invalidate(&[PurgeTarget::Key(key.clone())], PurgeMode::Remove).await.unwrap();
    }
}

#[tokio::test]
async fn what_other_nodes_purged_while_this_one_was_away_is_not_served_from_its_disk() {
    let shared = Shared::default();
    what_is_near_on_a_disk_goes_at_a_restart(|| FarNode::of(&shared)).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn what_other_nodes_purged_in_redis_while_this_one_was_away_is_not_served_from_its_disk() {
    use larder::store::{RedisConfig, RedisStore};

    use crate::support::servers::{Kind, Server};

    let server = Server::start(Kind::Redis);
    let time = Duration::from_secs(20);
    let far = || {
        let config: RedisConfig = server.url().parse().unwrap();
        RedisStore::new(config.deadline(time).content_deadline(time)).unwrap()
    };
    what_is_near_on_a_disk_goes_at_a_restart(far).await;
}

#[cfg(feature = "redis")]
mod before_redis {
    use larder::store::conformance::Capabilities;
    use larder::store::{RedisConfig, RedisStore};

    use super::*;
    use crate::support::servers::{Kind, Server};

    type Near = TieredStore<MemoryStore, DiskStore>;
    type Three = TieredStore<Near, RedisStore>;

    /// Memory before a disk before Redis, as the example proxy has it. Both nodes have clones of one.
    struct ThreeLevels {
        folder: Folder,
        server: Server,
    }

    impl Nodes for ThreeLevels {
        type Store = Three;

        async fn open(&self) -> [Three; 2] {
            let near =
                TieredStore::new(MemoryStore::default(), self.folder.opened().await, TierLimits::new());
            let time = Duration::from_secs(20);
            let config: RedisConfig = self.server.url().parse().unwrap();
            let far = RedisStore::new(config.deadline(time).content_deadline(time)).unwrap();
            let limits = TierLimits::new().bound(Duration::from_secs(60));
            let tier = TieredStore::following(near, far, limits);
            [tier.clone(), tier]
        }

        async fn close(&self, handles: [Three; 2]) {
            handles[0].settle().await;
            handles[0].near().far().close().await;
        }
    }

    async fn keeps_the_contract() {
        let make = async || ThreeLevels {
            folder: Folder::with(|builder| builder),
            server: Server::start(Kind::Redis),
        };
        // Redis removes what has a time to live when that is over.
        let promises = Capabilities::all().statistics(false).reads_no_clock(false);
        check_all(&Subject::new(make).capabilities(promises).operations(20)).await;
    }

    /// The futures of all rules over three stores are large where nothing is optimized.
    #[test]
    fn memory_before_disk_before_redis_keeps_the_contract() {
        const STACK: usize = 64 << 20;
        let check = || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.thread_stack_size(STACK).enable_all();
            runtime.build().unwrap().block_on(keeps_the_contract());
        };
        std::thread::Builder::new().stack_size(STACK).spawn(check).unwrap().join().unwrap();
    }
}
