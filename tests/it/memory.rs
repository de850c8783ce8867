//! The memory store's bounds.

use std::process::Command;

use larder::{CacheLayer, MemoryStore};

use crate::support::{Bench, Reply};

const MIB: u64 = 1024 * 1024;

#[tokio::test]
async fn the_largest_object_is_never_refused_because_of_sharding() {
    // Whatever the ratio of capacity and largest object, an object of the largest size is stored.
    for (capacity, max_object) in [(256, 8), (64, 8), (16, 8), (8, 6), (4, 3), (32, 1), (1024, 16)] {
        let store = MemoryStore::builder().capacity(capacity * MIB).max_object(max_object * MIB).build();
        let content = "x".repeat((max_object * MIB) as usize);
        let bench = Bench::with(CacheLayer::new(store), [Reply::cc(&content, "max-age=60")]);
        for path in ["/a", "/b", "/c", "/d"] {
            bench.get(path).await;
            assert!(bench.get(path).await.is_hit(), "{capacity} MiB, objects of {max_object} MiB, {path}");
        }
    }
}

#[tokio::test]
async fn one_byte_more_than_the_largest_object_is_told() {
    let store = MemoryStore::builder().max_object(1000).build();
    let bench = Bench::with(CacheLayer::new(store), [Reply::cc(&"x".repeat(1001), "max-age=60")]);
    bench.get("/").await.told("larder; fwd=uri-miss; detail=\"too-large\"");
    bench.origin.then(Reply::cc(&"x".repeat(1000), "max-age=60"));
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=60");
}

#[tokio::test]
async fn statistics() {
    let store = MemoryStore::builder().capacity(MIB).max_object(MIB / 8).build();
    let bench = Bench::with(CacheLayer::new(store), [Reply::cc(&"x".repeat(10_000), "max-age=60")]);
    bench.get("/0").await;
    bench.get("/0").await;
    let first = bench.handle.statistics();
    assert_eq!((first.entries, first.hits, first.misses, first.evictions), (1, 1, 1, 0));
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

/// Resident memory is a process's; so each measurement runs in one of its own.
#[test]
fn f13_three_times_the_capacity_stays_within_the_bound() {
    for sizes in ["200", "3000", "40000", "300000", "100,5000,150000,20,30000,1000000,900"] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory::fill_and_measure", "--ignored", "--nocapture", "--test-threads=1"])
            .env("FILL_SIZES", sizes)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        println!("{}", text.lines().filter(|line| line.contains("MiB")).collect::<String>());
    }
}

#[test]
#[ignore = "run by f13_three_times_the_capacity_stays_within_the_bound in a process of its own"]
fn fill_and_measure() {
    const CAPACITY: u64 = 64 * MIB;
    let sizes = std::env::var("FILL_SIZES").unwrap();
    let sizes: Vec<usize> = sizes.split(',').map(|size| size.parse().unwrap()).collect();
    let replies: Vec<_> = sizes.iter().map(|size| Reply::cc(&"x".repeat(*size), "max-age=600")).collect();
    let store = MemoryStore::builder().capacity(CAPACITY).build();
    let bench = Bench::with(CacheLayer::new(store), []);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let before = resident();
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
    let grown = resident().saturating_sub(before);
    println!("objects of {sizes:?} bytes: {} MiB resident for {} MiB held", grown / MIB, held.bytes / MIB);
    assert!(held.bytes <= CAPACITY && held.evictions > 0, "{held:?}");
    assert!(grown <= CAPACITY / 100 * 115, "{} MiB grown", grown / MIB);
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
