//! Admission: a pass over an archive does not wear the disk, alone and behind memory.

use std::time::{Duration, Instant};

use larder::policy::Admission;
use larder::store::{DiskStore, Store, TierLimits, TieredStore};
use larder::{BoxStore, CacheLayer, CachePolicyExt, MemoryStore, StandardPolicy};
use tokio::task::yield_now;

use super::{FILLED, HIT, Place};
use crate::support::stores::waited_for;
use crate::support::{Bench, Reply};

const REFUSED: &str = "larder; fwd=uri-miss; detail=\"admission\"";
/// How many URLs there are, and how many of them are asked for again.
const ALL: usize = 10_000;
const AGAIN: usize = 100;

/// A cache that stores what is asked for twice, or has it in memory until then.
fn bench(store: BoxStore) -> Bench {
    let twice = Admission::after(2).keys(1 << 20).near_at_once();
    let policy = StandardPolicy::default().admit(twice);
    let reply = Reply::cc("x", "max-age=60").field("etag", "\"1\"");
    Bench::with(CacheLayer::builder(store).policy(policy), [reply])
}

fn before(store: &DiskStore, memory: u64) -> BoxStore {
    let near = MemoryStore::builder().capacity(memory).build();
    BoxStore::new(TieredStore::new(near, waited_for(store.clone()), TierLimits::new()))
}

fn staged(place: &Place) -> usize {
    std::fs::read_dir(place.path().join("staged")).unwrap().count()
}

/// Asks for all URLs once, which leaves nothing in the folder.
async fn pass(bench: &Bench, place: &Place, said: &str) {
    for url in 0..ALL {
        bench.get(&format!("/{url}")).await.told(said);
    }
    assert_eq!((place.files().len(), staged(place)), (0, 0));
}

/// What is written after a hit is there soon.
async fn have(place: &Place, records: usize) {
    let begun = Instant::now();
    while place.records().len() < records {
        assert!(begun.elapsed() < Duration::from_secs(30), "{records} records");
        yield_now().await;
    }
}

#[tokio::test]
async fn kx1_one_pass_over_ten_thousand_urls_writes_nothing_and_a_hundred_that_are_asked_for_again_are_written()
 {
    let place = Place::new();
    let store = place.builder().open().await.unwrap();
    let bench = bench(BoxStore::new(waited_for(store.clone())));
    pass(&bench, &place, REFUSED).await;
    for url in 0..AGAIN {
        bench.get(&format!("/{url}")).await.told(FILLED);
    }
    assert_eq!(place.records().len(), AGAIN);
    for url in 0..AGAIN {
        bench.get(&format!("/{url}")).await.told(HIT);
    }
    assert_eq!(bench.origin.calls(), ALL + AGAIN);
}

#[tokio::test]
async fn kx1_behind_memory_the_hits_there_bring_to_the_disk_what_is_asked_for_again() {
    let place = Place::new();
    let store = place.builder().open().await.unwrap();
    let cache = bench(before(&store, 256 << 20));
    pass(&cache, &place, FILLED).await;
    for url in 0..AGAIN {
        cache.get(&format!("/{url}")).await.told(HIT);
    }
    have(&place, AGAIN).await;
    // Further hits change nothing.
    for url in 0..AGAIN {
        cache.get(&format!("/{url}")).await.told(HIT);
    }
    assert_eq!((place.records().len(), cache.origin.calls()), (AGAIN, ALL));
    // They are there for the next process.
    store.close().await;
    let store = place.builder().open().await.unwrap();
    let cache = bench(before(&store, 256 << 20));
    for url in 0..AGAIN {
        cache.get(&format!("/{url}")).await.told(HIT);
    }
    cache.get(&format!("/{AGAIN}")).await.told(FILLED);
    assert_eq!(cache.origin.calls(), 1);
}

#[tokio::test]
async fn kx1_behind_little_memory_what_has_left_it_is_written_when_it_is_asked_for_again() {
    let place = Place::new();
    let store = place.builder().open().await.unwrap();
    let cache = bench(before(&store, 1 << 20));
    pass(&cache, &place, FILLED).await;
    for url in 0..AGAIN {
        cache.get(&format!("/{url}")).await;
    }
    have(&place, AGAIN).await;
    assert_eq!(place.records().len(), AGAIN);
}

#[tokio::test]
async fn kx1_large_content_that_is_not_admitted_has_no_file_on_its_way() {
    for memory in [None, Some(1 << 20)] {
        let place = Place::new();
        let store = place.builder().open().await.unwrap();
        let cache = bench(match memory {
            None => BoxStore::new(waited_for(store.clone())),
            Some(memory) => before(&store, memory),
        });
        // An eighth of the memory is the most that is kept of one response.
        let content = "x".repeat(1 << 20);
        cache.origin.then(Reply::cc(&content, "max-age=60").field("etag", "\"1\""));
        let bytes = store_bytes(&store);
        cache.get("/film").await.has_body(&content).told(REFUSED);
        assert_eq!((place.files().len(), staged(&place), store_bytes(&store)), (0, 0, bytes));
        cache.get("/film").await.has_body(&content).told(FILLED);
        cache.get("/film").await.has_body(&content).told(HIT);
        assert_eq!((place.records().len(), place.contents().len()), (1, 1));
        // What is stored is validated and replaced as ever.
        cache.later(10_000);
        cache.origin.not_modified(Some(Reply::cc("", "max-age=60").status(304).field("etag", "\"1\"")));
        cache.get("/film").await.told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
        cache.origin.not_modified(None);
        cache.later(10_000);
        cache.origin.then(Reply::cc("new", "max-age=60"));
        cache.get("/film").await.has_body("new").told("larder; fwd=stale; stored; ttl=60");
        assert_eq!((place.records().len(), place.contents().len()), (1, 0));
    }
}

fn store_bytes(store: &DiskStore) -> u64 {
    store.statistics().bytes
}
