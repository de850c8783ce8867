//! What the process takes of the machine's memory for what a store says it holds.
//!
//! `cargo bench --bench memory` writes three times its capacity into a store of 64 MiB, for objects of one size after
//! the other, and prints MiB resident for MiB held. Each size has a process of its own, for resident memory is a
//! process's. The figures include what the allocator keeps in reserve and what it can't reuse; they scatter by some
//! per cent, so nothing here is a goal. That the store weighs right is asserted in `tests/it/store/memory.rs`, which counts
//! bytes. `cargo test --bench memory` does the same with a store of 4 MiB.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::convert::Infallible;
use std::process::Command;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use larder::{CacheLayer, MemoryStore};
use tower::{Layer, Service, service_fn};

const MIB: u64 = 1024 * 1024;
const MIXED: &str = "100,5000,150000,20,30000,1000000,900";

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let Some(only) = arguments.iter().position(|argument| argument == "only") {
        let sizes: Vec<usize> = arguments[only + 1].split(',').map(|size| size.parse().unwrap()).collect();
        return fill(&sizes, arguments[only + 2].parse().unwrap());
    }
    // Only `cargo bench` says so.
    let capacity = if arguments.iter().any(|argument| argument == "--bench") { 64 * MIB } else { 4 * MIB };
    println!("{:<40} {:>12} {:>12} {:>8}", "bytes of content", "MiB held", "MiB resident", "ratio");
    for sizes in ["200", "3000", "40000", "300000", MIXED] {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["only", sizes, &capacity.to_string()])
            .status()
            .unwrap();
        assert!(status.success(), "{sizes}");
    }
}

/// Writes three times `capacity` and prints one row.
fn fill(sizes: &[usize], capacity: u64) {
    let contents: Vec<_> = sizes.iter().map(|size| vec![b'x'; *size]).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let before = resident();
    let layer = CacheLayer::new(MemoryStore::builder().capacity(capacity).build());
    let handle = layer.handle();
    let origin = service_fn(move |request: Request<Empty<Bytes>>| {
        let number: usize = request.uri().path().trim_start_matches("/object/").parse().unwrap();
        // Copied: as from a connection, the content is the cache's alone.
        let content = Bytes::copy_from_slice(&contents[number % contents.len()]);
        let response = Response::builder().header("cache-control", "max-age=600").body(Full::new(content));
        std::future::ready(Ok::<_, Infallible>(response.unwrap()))
    });
    let mut cache = layer.layer(origin);
    runtime.block_on(async {
        let mut written = 0;
        let mut number = 0;
        while written < 3 * capacity {
            let mut request = Request::new(Empty::new());
            *request.uri_mut() = format!("http://a.example/object/{number}").parse().unwrap();
            let response = cache.call(request).await.unwrap();
            let content = response.into_body().collect().await.unwrap().to_bytes();
            // What a small object takes is mostly its head.
            written += content.len() as u64 + 1_000;
            number += 1;
        }
    });
    #[expect(clippy::cast_precision_loss)]
    let [held, grown] =
        [handle.statistics().bytes, resident().saturating_sub(before)].map(|b| b as f64 / MIB as f64);
    let sizes: Vec<_> = sizes.iter().map(usize::to_string).collect();
    println!("{:<40} {held:>12.1} {grown:>12.1} {:>8.2}", sizes.join(","), grown / held);
}

/// Bytes; only Linux says so.
fn resident() -> u64 {
    let status =
        std::fs::read_to_string("/proc/self/status").expect("this bench reads /proc, so it runs on Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
