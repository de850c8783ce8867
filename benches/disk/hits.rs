//! Hits, against reading the same bytes from the page cache.

use std::hint::black_box;
use std::path::PathBuf;

use larder::store::DiskStore;
use larder::{CacheLayer, CacheService};
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceExt};
use tower_http::services::ServeFile;

use crate::file::TempFolder;
use crate::{Pages, Report, drain, folder, get, median, open, ratios, request, runtime, store, timed};

const PATH: &str = "/articles/some-article?page=2";
/// How much of the rate of reads is left.
const GOAL: f64 = 0.8;

/// One of the ways to the same bytes.
#[derive(Clone)]
enum Way {
    /// A file that is read as a whole, by a thread where that stops nobody.
    Read(PathBuf),
    /// A service that sends files.
    File(ServeFile),
    Layer(CacheService<Pages, DiskStore>),
}

impl Way {
    async fn go(mut self) {
        match &mut self {
            Self::Read(path) => drop(black_box(tokio::fs::read(path).await.unwrap())),
            Self::File(service) => drain(service.call(request(PATH)).await.unwrap()).await,
            Self::Layer(service) => {
                drain(service.ready().await.unwrap().call(request(PATH)).await.unwrap()).await;
            }
        }
    }
}

/// All ways to so many KiB, and what they are in.
fn ways(runtime: &Runtime, kib: usize) -> ([Way; 3], DiskStore, TempFolder) {
    let folder = folder();
    let plain = folder.write("plain", vec![b'x'; kib * 1024]);
    let cache = runtime.block_on(open(&folder.path().join("cache"), 1 << 30));
    let service = CacheLayer::new(cache.clone()).layer(Pages::of(kib));
    runtime.block_on(async {
        store(&mut service.clone(), &cache, PATH).await;
        let said = get(&mut service.clone(), PATH).await;
        assert!(said.starts_with("larder; hit"), "{said}");
    });
    ([Way::Read(plain.clone()), Way::File(ServeFile::new(plain)), Way::Layer(service)], cache, folder)
}

pub fn report(report: &mut Report) {
    let runtime = runtime();
    for (kib, goes) in [(16, 100), (1024, 8)] {
        let (ways, cache, _folder) = ways(&runtime, kib);
        for (tasks, goes) in [(32, goes), (1, goes * 8)] {
            compare(&runtime, &ways, kib, tasks, goes, report);
        }
        runtime.block_on(cache.close());
    }
}

/// One way, for a profiler.
pub fn only(kib: usize, tasks: usize, name: &str, rounds: usize) {
    let runtime = runtime();
    let ([read, file, layer], _cache, _folder) = ways(&runtime, kib);
    let way = match name {
        "read" => read,
        "file" => file,
        _ => layer,
    };
    println!("{:.3} s", timed(&runtime, tasks, rounds, &move |_| way.clone().go()));
}

fn compare(runtime: &Runtime, ways: &[Way; 3], kib: usize, tasks: usize, goes: usize, report: &mut Report) {
    let (rounds, goes) = if report.is_quick { (2, 2) } else { (40, goes) };
    let mut times = [const { Vec::new() }; 3];
    for round in 0..rounds + 2 {
        for (way, times) in ways.iter().zip(&mut times) {
            let way = way.clone();
            let time = timed(runtime, tasks, goes, &move |_| way.clone().go());
            if round >= 2 {
                times.push(time);
            }
        }
    }
    let [read, file, layer] = times;
    let each = |times: &[f64]| median(times.iter().copied()) * 1e6 / (tasks * goes) as f64;
    let names = [("a hit", &layer), ("ServeFile of tower-http", &file)];
    for (what, times) in names {
        let ratio = ratios(times, &read);
        let figure = format!("{ratio:.2} ({:.0} us, {:.0} us)", each(times), each(&read));
        let what = format!("{what}, {kib} KiB, {tasks} at one time, of reading the file");
        let goal = (what.starts_with("a hit")).then_some((">= 0.8", ratio >= GOAL));
        report.line(&what, &figure, goal);
    }
}
