//! The bounds and statistics of the store in memory.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use larder::semantics::reuse::Reuse;
use larder::semantics::vary::Selecting;
use larder::store::record::{Record, Recorded};
use larder::store::{Fence, PutOutcome, Store, StoredId};
use larder::{CacheKey, HeadParts, MemoryStore, Payload, ResponseHead, StoredResponse};

use crate::support::{Bench, Reply, alloc, cache_builder_over};

const MIB: u64 = 1024 * 1024;

#[tokio::test]
async fn the_largest_object_is_never_refused_because_of_sharding() {
    // Whatever the ratio of capacity and largest object, an object of the largest size is stored.
    for (capacity, max_object) in [(256, 8), (64, 8), (16, 8), (8, 6), (4, 3), (32, 1), (1024, 16)] {
        let store = MemoryStore::builder().capacity(capacity * MIB).max_object(max_object * MIB).build();
        let content = "x".repeat((max_object * MIB) as usize);
        let bench = Bench::with(cache_builder_over(store), [Reply::cc(&content, "max-age=60")]);
        for path in ["/a", "/b", "/c", "/d"] {
            bench.get(path).await;
            assert!(bench.get(path).await.is_hit(), "{capacity} MiB, objects of {max_object} MiB, {path}");
        }
    }
}

#[tokio::test]
async fn content_larger_than_the_largest_object_is_reported_as_too_large() {
    let store = MemoryStore::builder().max_object(1000).build();
    let bench = Bench::with(cache_builder_over(store), [Reply::cc(&"x".repeat(1001), "max-age=60")]);
    bench.get("/").await.told("larder; fwd=uri-miss; detail=\"too-large\"");
    bench.origin.then(Reply::cc(&"x".repeat(1000), "max-age=60"));
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=60");
}

#[tokio::test]
async fn the_statistics_count_entries_bytes_and_evictions() {
    let store = MemoryStore::builder().capacity(MIB).max_object(MIB / 8).build();
    let bench = Bench::with(cache_builder_over(store), [Reply::cc(&"x".repeat(10_000), "max-age=60")]);
    bench.get("/0").await;
    bench.get("/0").await;
    let first = bench.handle.statistics();
    assert_eq!((first.entries, first.evictions), (1, 0));
    assert!((10_000..12_000).contains(&first.bytes), "{first:?}");
    // Written again, it takes the place of itself: no eviction.
    bench.later(61);
    bench.get("/0").await;
    assert_eq!(bench.handle.statistics().evictions, 0);
    for number in 1..200 {
        bench.get(&format!("/{number}")).await;
    }
    let full = bench.handle.statistics();
    assert!(full.bytes <= MIB && full.bytes > MIB / 2, "{full:?}");
    assert_eq!(full.entries + full.evictions, 200, "{full:?}");
}

/// What is live is counted block by block in this thread: the same in every run, whatever the allocator and the other
/// tests make of the process's resident memory, which `benches/memory.rs` shows.
#[test]
fn f13_storing_three_times_the_capacity_stays_within_the_bound() {
    const MIXED: &[usize] = &[100, 5_000, 150_000, 20, 30_000, 1_000_000, 900];
    for sizes in [&[200][..], &[3_000], &[40_000], &[300_000], MIXED] {
        three_times_the_capacity(sizes);
    }
}

fn three_times_the_capacity(sizes: &[usize]) {
    const CAPACITY: u64 = 16 * MIB;
    let replies: Vec<_> = sizes.iter().map(|size| Reply::cc(&"x".repeat(*size), "max-age=600")).collect();
    // On one thread, pumps included: nobody else frees what was allocated here.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (grown, (_kept, held)) = alloc::growth(|| {
        // Objects so much smaller than the capacity that there are several shards, as by default.
        let store = MemoryStore::builder().capacity(CAPACITY).max_object(MIB).build();
        let bench = Bench::with(cache_builder_over(store), []);
        let held = runtime.block_on(async {
            let mut written = 0;
            let mut number = 0;
            while written < 3 * CAPACITY {
                let reply = &replies[number % replies.len()];
                bench.origin.then(reply.clone());
                bench.get(&format!("/object/{number}")).await;
                number += 1;
                // What a small object takes is mostly its head.
                written += reply.frames[0].len() as u64 + 1_000;
            }
            bench.handle.statistics()
        });
        (bench, held)
    });
    #[expect(clippy::cast_precision_loss)]
    let [live, peak, bytes] = [grown.live, grown.peak, held.bytes].map(|bytes| bytes as f64 / MIB as f64);
    let ratio = live / bytes;
    let figures = format!(
        "objects of {sizes:?} bytes: {live:.2} MiB live, {peak:.2} MiB at most, {bytes:.2} MiB held, ratio {ratio:.3}"
    );
    println!("{figures}");
    assert!(held.bytes <= CAPACITY && held.evictions > 0, "{figures}, {held:?}");
    // The most includes what is live, and the object that was on its way in.
    assert!(grown.peak <= CAPACITY / 100 * 115, "{figures}");
    assert!(ratio <= 1.15, "the store weighs too little: {figures}");
}

#[tokio::test]
async fn a_response_whose_expiry_has_ended_makes_room_for_a_later_one() {
    let vary = |body: &str| Reply::cc(body, "max-age=3600").field("vary", "x-kind");
    let bench = Bench::new([vary("old"), vary("new")]);
    bench.get_with("/", &[("x-kind", "1")]).await;
    let one = bench.handle.statistics().bytes;
    let uri = "http://example.com/".parse().unwrap();
    bench.handle.soft_purge_for(&uri, Duration::from_secs(60)).await.unwrap();
    bench.later(60);
    bench.get_with("/", &[("x-kind", "2")]).await.has_body("new");
    assert_eq!(bench.handle.statistics().bytes, one, "the old one is not there any more");
}

/// What was read from elsewhere, in a buffer that is larger than one response.
struct ReadBuffer {
    bytes: Vec<u8>,
    _held: Arc<()>,
}

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[tokio::test]
async fn what_is_stored_does_not_keep_the_buffer_that_it_was_read_into() {
    let head = || {
        let reuse = Reuse::new(UNIX_EPOCH, UNIX_EPOCH, Duration::from_secs(60), Selecting::default());
        ResponseHead::from_parts(HeadParts::new(StatusCode::OK, HeaderMap::new(), reuse)).unwrap()
    };
    let key = CacheKey::from_uri(&"http://a/".parse().unwrap()).unwrap();
    for length in [1, 1_000, 64 * 1024, 64 * 1024 + 1] {
        let content = Bytes::from(vec![b'x'; length]);
        let whole = StoredResponse::from_parts(head(), Payload::from_bytes(content.clone())).unwrap();
        for is_written in [true, false] {
            let recorded = Recorded::new(StoredId::from_bits(1), Fence::default(), whole.clone());
            let record = Record::new(1, [recorded]).encode(&key).unwrap();
            let part = if is_written { record } else { content.to_vec() };
            let held = Arc::new(());
            let mut bytes = vec![0; 1024 * 1024];
            bytes.extend_from_slice(&part);
            let buffer = Bytes::from_owner(ReadBuffer { bytes, _held: Arc::clone(&held) });
            let part = buffer.slice(1024 * 1024..);
            let read = if is_written {
                Record::decode(&key, part).unwrap().variants.remove(0).response
            } else {
                StoredResponse::from_parts(head(), Payload::from_bytes(part)).unwrap()
            };
            drop(buffer);
            let store = MemoryStore::default();
            let fence = store.expect(&key).fence().unwrap();
            assert_eq!(store.put(&key, read, fence).await.unwrap(), PutOutcome::Stored);
            assert_eq!(Arc::strong_count(&held), 1, "{length} bytes, written: {is_written}");
        }
    }
}
