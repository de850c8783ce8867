//! Admission to the far level of a tier: the near one keeps a response at once, the far one when it has been asked for often
//! enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use larder::policy::Admission;
use larder::store::{Levels, PurgeMode, PurgeTarget, Store, TierLimits, TieredStore};
use larder::{BoxStore, CacheKey, CachePolicyExt, Event, MemoryStore, StandardPolicy};

use crate::support::elsewhere::Elsewhere;
use crate::support::{Bench, CacheLayer, Reply, cache_builder, settle};

const FILLED: &str = "larder; fwd=uri-miss; stored; ttl=60";
const HIT: &str = "larder; hit; ttl=60";
const REFUSED: &str = "larder; fwd=uri-miss; detail=\"admission\"";
const FRESHENED: &str = "larder; fwd=stale; fwd-status=304; stored; ttl=60";

fn page() -> Reply {
    Reply::cc("x", "max-age=60").field("etag", "\"1\"")
}

fn not_modified() -> Reply {
    Reply::cc("", "max-age=60").status(304).field("etag", "\"1\"")
}

fn after(requests: u8) -> Admission {
    Admission::after(requests).near_at_once()
}

/// A cache over two levels.
struct Tiered {
    bench: Bench,
    far: MemoryStore,
    near: MemoryStore,
}

impl Tiered {
    fn new(policy: impl larder::CachePolicy, replies: impl IntoIterator<Item = Reply>) -> Self {
        let (near, far) = (MemoryStore::default(), MemoryStore::default());
        let tier = TieredStore::new(near.clone(), far.clone(), TierLimits::new());
        let bench = Bench::with(CacheLayer::builder(BoxStore::new(tier)).policy(policy), replies);
        Self { bench, far, near }
    }

    fn admitting(admission: Admission, replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::new(StandardPolicy::default().admit(admission), replies)
    }

    /// What a request gets, and how many keys each level has afterwards.
    #[track_caller]
    fn get(&self, path: &str) -> impl Future<Output = (String, [u64; 2])> {
        let asked = self.bench.get(path);
        async move {
            let told = asked.await.cache_status().to_owned();
            settle().await;
            (told, [self.near.statistics().entries, self.far.statistics().entries])
        }
    }

    async fn empty(&self, store: &MemoryStore) {
        store.invalidate(&[PurgeTarget::All], PurgeMode::Remove).await.unwrap();
    }
}

fn told(said: &str, levels: [u64; 2]) -> (String, [u64; 2]) {
    (said.to_owned(), levels)
}

#[tokio::test(start_paused = true)]
async fn kx1_the_near_level_keeps_a_response_at_once_and_the_far_one_after_enough_requests() {
    let tiered = Tiered::admitting(after(3), [page()]);
    assert_eq!(tiered.get("/").await, told(FILLED, [1, 0]));
    assert_eq!(tiered.get("/").await, told(HIT, [1, 0]));
    assert_eq!(tiered.get("/").await, told(HIT, [1, 1]));
    // It is there for a process that starts with nothing in memory.
    tiered.empty(&tiered.near).await;
    assert_eq!(tiered.get("/").await, told(HIT, [1, 1]));
    assert_eq!(tiered.bench.origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn kx1_what_has_left_the_near_level_goes_far_when_it_is_asked_for_again() {
    let tiered = Tiered::admitting(after(2), [page()]);
    assert_eq!(tiered.get("/").await, told(FILLED, [1, 0]));
    tiered.empty(&tiered.near).await;
    assert_eq!(tiered.get("/").await, told(FILLED, [1, 1]));
    assert_eq!(tiered.get("/other").await, told(FILLED, [2, 1]));
}

#[tokio::test(start_paused = true)]
async fn kx1_validations_and_what_replaces_a_response_count_as_requests() {
    for replaces in [false, true] {
        let tiered = Tiered::admitting(after(3), [page()]);
        if replaces {
            tiered.bench.origin.then(page());
        } else {
            tiered.bench.origin.not_modified(Some(not_modified()));
        }
        let stale = if replaces { "larder; fwd=stale; stored; ttl=60" } else { FRESHENED };
        assert_eq!(tiered.get("/").await, told(FILLED, [1, 0]));
        tiered.bench.later(61);
        assert_eq!(tiered.get("/").await, told(stale, [1, 0]), "{replaces}");
        tiered.bench.later(61);
        assert_eq!(tiered.get("/").await, told(stale, [1, 1]), "{replaces}");
        // What was admitted is freshened, whoever has forgotten how often it was asked for.
        tiered.bench.later(10_000);
        assert_eq!(tiered.get("/").await, told(stale, [1, 1]), "{replaces}");
        tiered.empty(&tiered.near).await;
        assert_eq!(tiered.get("/").await, told(HIT, [1, 1]), "{replaces}");
    }
}

#[tokio::test(start_paused = true)]
async fn kx1_a_validation_in_the_background_is_no_further_request() {
    let reply = || Reply::cc("x", "max-age=60, stale-while-revalidate=60").field("etag", "\"1\"");
    let tiered = Tiered::admitting(after(3), [reply()]);
    tiered.bench.origin.not_modified(Some(reply().status(304)));
    assert_eq!(tiered.get("/").await, told(FILLED, [1, 0]));
    tiered.bench.later(61);
    let stale = "larder; hit; ttl=-1; detail=\"stale-while-revalidate\"";
    assert_eq!(tiered.get("/").await, told(stale, [1, 0]));
    assert_eq!(tiered.bench.origin.calls(), 2);
    // The third one is admitted by what it finds, or by the validation that follows.
    tiered.bench.later(61);
    assert_eq!(tiered.get("/").await, told(stale, [1, 1]));
}

#[tokio::test(start_paused = true)]
async fn kx1_a_purge_takes_what_is_near_alone_and_forgets_no_request() {
    let tiered = Tiered::admitting(after(2), [page()]);
    tiered.get("/").await;
    tiered.bench.handle.purge(&"http://example.com/".parse().unwrap()).await.unwrap();
    assert_eq!(tiered.get("/").await, told(FILLED, [1, 1]));
    tiered.bench.handle.purge(&"http://example.com/".parse().unwrap()).await.unwrap();
    tiered.bench.get("/").await.told(FILLED);
}

#[tokio::test(start_paused = true)]
async fn kx1_what_a_policy_keeps_in_one_level_goes_nowhere_else() {
    let by_level = |levels| StandardPolicy::default().levels(levels).admit(after(2));
    let near = Tiered::new(by_level(Levels::Near), [page()]);
    for said in [FILLED, HIT, HIT] {
        assert_eq!(near.get("/").await, told(said, [1, 0]));
    }
    let far = Tiered::new(by_level(Levels::Far), [page()]);
    assert_eq!(far.get("/").await, told(REFUSED, [0, 0]));
    assert_eq!(far.get("/").await, told(FILLED, [0, 1]));
}

#[tokio::test]
async fn kx1_a_store_without_levels_stores_nothing_until_then() {
    let builder = cache_builder().policy(StandardPolicy::default().admit(after(2)));
    let bench = Bench::with(builder, [page()]);
    for said in [REFUSED, FILLED, HIT] {
        bench.get("/").await.told(said);
    }
}

#[tokio::test(start_paused = true)]
async fn kx1_content_that_is_too_large_for_memory_is_refused_until_the_far_level_takes_it_in_pieces() {
    let content = "x".repeat(200_000);
    let far = Elsewhere::default();
    let near = MemoryStore::builder().capacity(1 << 20).build();
    let tier = TieredStore::new(near.clone(), far.clone(), TierLimits::new());
    let builder = CacheLayer::builder(BoxStore::new(tier))
        .fill_limits(larder::FillLimits::new().in_flight(800_000))
        .policy(StandardPolicy::default().admit(after(2)));
    let bench = Bench::with(builder, [Reply::cc(&content, "max-age=60")]);
    // An eighth of that is kept in memory.
    bench.get("/").await.told(REFUSED).has_body(&content);
    assert_eq!((near.statistics().entries, far.statistics().entries), (0, 0));
    bench.get("/").await.told(FILLED).has_body(&content);
    bench.get("/").await.told(HIT).has_body(&content);
    assert_eq!(far.statistics().entries, 1);
}

#[tokio::test(start_paused = true)]
async fn kx1_a_purge_while_a_hit_is_written_far_wins() {
    let tiered = Tiered::admitting(after(2), [page()]);
    tiered.get("/").await;
    // The write is a task, which has not begun.
    let hit = tiered.bench.get("/").await;
    hit.told(HIT);
    tiered.bench.handle.purge(&"http://example.com/".parse().unwrap()).await.unwrap();
    settle().await;
    let key = CacheKey::from_uri(&"http://example.com/".parse().unwrap()).unwrap();
    assert!(tiered.far.get(&key).await.unwrap().variants.is_empty());
    assert!(tiered.near.get(&key).await.unwrap().variants.is_empty());
    tiered.bench.later(2);
    tiered.bench.get("/").await.told(FILLED);
}

#[tokio::test(start_paused = true)]
async fn kx1_one_hit_of_many_at_one_time_writes_far() {
    let (near, far, puts) = (MemoryStore::default(), MemoryStore::default(), Arc::new(AtomicUsize::new(0)));
    let tier = TieredStore::new(near, far.clone(), TierLimits::new());
    let counted = Arc::clone(&puts);
    let builder = CacheLayer::builder(BoxStore::new(tier))
        .policy(StandardPolicy::default().admit(after(2).within(Duration::from_secs(60))))
        .observer(move |event: &Event<'_>| {
            if matches!(event, Event::Put { .. }) {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
    let bench = Bench::with(builder, [page()]);
    bench.get("/").await.told(FILLED);
    for _ in 0..20 {
        // No task gets its turn meanwhile.
        bench.get("/").now_or_never().expect("a hit waits for nothing").told(HIT);
    }
    settle().await;
    bench.get("/").await.told(HIT);
    settle().await;
    assert_eq!((far.statistics().entries, puts.load(Ordering::SeqCst)), (1, 2));
    let request = crate::handle::explain::request(http::Method::GET, "/", &[]);
    assert_eq!(bench.handle.inspect(&request).await.keys[0].variants[0].levels, Levels::Both);
}
