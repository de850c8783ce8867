//! What a store on disk costs: hits, misses, opening, and content that is never held whole.
//!
//! `cargo bench --bench disk --features disk` prints
//!
//! - what a hit of 16 KiB and of 1 MiB leaves of the rate at which the same bytes are read from the page cache, and what a service for
//!   files does in its place;
//! - over HTTP, on one core, what it does against nginx (where that is installed) that has the same in its cache;
//! - what a miss costs that is stored, and how many bytes are written for each byte of content;
//! - how long it takes to open a folder with 1 GiB of small records;
//! - what is left of the throughput of a streaming proxy for content of 1 GiB, and the memory that the process takes for it.
//!
//! Variants take turns in short rounds, and ratios are medians over the rounds. It has goals, each printed with its figure, and fails if
//! one is missed. Folders are in memory where the disk is not what is measured.
//!
//! With `-- --quick`, or when it is not run by `cargo bench`, there is little of everything and no goals: then it is a test that all of
//! it works. `-- some NAME..` prints a part: `hits`, `http`, `large`, `reopening`, `writing`.
//! `-- only KIB TASKS read|file|layer ROUNDS` runs one way to a hit, for a profiler.
#![allow(clippy::print_stdout, clippy::unwrap_used, unreachable_pub)]

#[path = "../../tests/it/support/file.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod file;
#[path = "../support/http1.rs"]
#[allow(dead_code, reason = "another bench uses all of it")]
mod http1;
#[path = "../support/pages.rs"]
mod pages;
#[path = "../support/process.rs"]
#[allow(dead_code, reason = "another bench uses all of it")]
mod process;
#[path = "../support/report.rs"]
#[allow(dead_code, reason = "another bench uses all of it")]
mod report;
#[path = "../support/serve.rs"]
mod serve;

mod hits;
mod http;
mod large;
mod reopening;
mod writing;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use ::http::Response;
use http_body_util::BodyExt;
use larder::store::{DiskStore, GuardLimits};
use larder::{CacheService, Store};
use tokio::task::JoinSet;
use tower::{Service, ServiceExt};

use file::TempFolder;
use pages::{Pages, key, request, runtime};
use report::{Report, median};

/// A store that takes its time where the machine is busy with something else.
async fn open(folder: &Path, capacity: u64) -> DiskStore {
    let long = Duration::from_secs(60);
    let limits = GuardLimits::new().content(long).purge(long).read(long).write(long);
    DiskStore::builder(folder).capacity(capacity).guard_limits(limits).open().await.unwrap()
}

/// Sends a request and reads all of the answer; what the cache said.
async fn get<S: Store>(service: &mut CacheService<Pages, S>, path: &str) -> String {
    let response = service.ready().await.unwrap().call(request(path)).await.unwrap();
    let said = response.headers()["cache-status"].to_str().unwrap().to_owned();
    response.into_body().collect().await.unwrap();
    said
}

/// A path whose response is stored.
async fn store<S: Store>(service: &mut CacheService<Pages, S>, store: &S, path: &str) {
    let said = get(service, path).await;
    assert!(said.contains("; stored"), "{said}");
    // It is written in the background.
    while store.get(&key(path)).await.unwrap().variants.is_empty() {
        tokio::task::yield_now().await;
    }
}

/// So many goes of each of these tasks; how long it took, in seconds.
fn timed<W, F>(runtime: &tokio::runtime::Runtime, tasks: usize, goes: usize, way: &W) -> f64
where
    W: Fn(usize) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let begun = std::time::Instant::now();
    runtime.block_on(async {
        let mut set = JoinSet::new();
        for task in 0..tasks {
            let way = way.clone();
            set.spawn(async move {
                for go in 0..goes {
                    way(task * goes + go).await;
                }
            });
        }
        while let Some(done) = set.join_next().await {
            done.unwrap();
        }
    });
    begun.elapsed().as_secs_f64()
}

/// Reads content without keeping it.
async fn drain<B>(response: Response<B>)
where
    B: http_body::Body<Error: std::fmt::Debug>,
{
    let mut body = std::pin::pin!(response.into_body());
    while let Some(frame) = body.frame().await {
        drop(frame.unwrap());
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    let plain: Vec<_> = words.iter().copied().filter(|word| !word.starts_with("--")).collect();
    let mut report = Report::new(&words);
    match plain[..] {
        ["serve", kind, kib, ref folder @ ..] => http::serve(kind, kib.parse().unwrap(), folder),
        ["large", kind, ref of @ ..] => large::serve(kind, of),
        ["only", kib, tasks, name, rounds] => {
            let [kib, tasks, rounds] = [kib, tasks, rounds].map(|number| number.parse().unwrap());
            hits::only(kib, tasks, name, rounds);
        }
        ["some", ref names @ ..] => names.iter().for_each(|name| part(name, &mut report)),
        // The last one pins this process.
        _ => {
            ["hits", "writing", "reopening", "large", "http"].iter().for_each(|name| part(name, &mut report))
        }
    }
    report.end()
}

fn part(name: &str, report: &mut Report) {
    match name {
        "hits" => hits::report(report),
        "http" => http::report(report),
        "large" => large::report(report),
        "reopening" => reopening::report(report),
        "writing" => writing::report(report),
        other => panic!("{other} is no part"),
    }
}

/// In MiB.
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// In memory, unless the disk is measured.
fn folder() -> TempFolder {
    TempFolder::in_memory()
}

/// Of each round, by its own first way.
fn ratios(own: &[f64], first: &[f64]) -> f64 {
    median(own.iter().zip(first).map(|(own, first)| first / own))
}
