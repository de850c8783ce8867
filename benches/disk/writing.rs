//! Misses that are stored, and what is written for them.

use std::time::Instant;

use larder::store::PurgeTarget;
use larder::{CacheLayer, MemoryStore, Store};
use tower::{Layer, Service, ServiceExt};

use crate::file::TempFolder;
use crate::{Pages, Report, drain, folder, get, median, mib, open, ratios, request, runtime, store, timed};

pub fn report(report: &mut Report) {
    for (kib, goes) in [(16, 100), (1024, 4)] {
        misses(kib, goes, report);
        written(kib, report);
    }
}

/// Each miss is of another path, and the store is full after a while.
fn misses(kib: usize, goes: usize, report: &mut Report) {
    const TASKS: usize = 16;
    let runtime = runtime();
    let folder = folder();
    let capacity = 64 << 20;
    let disk = runtime.block_on(open(folder.path(), capacity));
    let memory = MemoryStore::builder().capacity(capacity).max_object(2 << 20).build();
    let bare = Pages::of(kib);
    let (rounds, goes) = if report.is_quick { (1, 1) } else { (20, goes) };
    let mut times = [const { Vec::new() }; 3];
    for round in 0..rounds + 1 {
        let path = move |number: usize| format!("/articles/{round}/{number}");
        let (layer, other) = (CacheLayer::new(disk.clone()), CacheLayer::new(memory.clone()));
        let (layer, other) = (layer.layer(bare.clone()), other.layer(bare.clone()));
        let bare = bare.clone();
        let taken = [
            timed(&runtime, TASKS, goes, &move |number| {
                let mut service = bare.clone();
                async move {
                    drain(service.ready().await.unwrap().call(request(&path(number))).await.unwrap()).await
                }
            }),
            timed(&runtime, TASKS, goes, &move |number| {
                let mut service = other.clone();
                async move { assert!(get(&mut service, &path(number)).await.contains("stored")) }
            }),
            timed(&runtime, TASKS, goes, &move |number| {
                let mut service = layer.clone();
                async move { assert!(get(&mut service, &path(number)).await.contains("stored")) }
            }),
        ];
        if round > 0 {
            times.iter_mut().zip(taken).for_each(|(times, taken)| times.push(taken));
        }
    }
    let each = |times: &[f64]| median(times.iter().copied()) * 1e6 / (TASKS * goes) as f64;
    let [bare, memory, own] = &times;
    let figure = format!(
        "{:.0} us, {:.1} times one in memory, bare {:.0} us",
        each(own),
        1.0 / ratios(own, memory),
        each(bare)
    );
    report.line(&format!("a miss of {kib} KiB that is stored, {TASKS} at one time"), &figure, None);
    runtime.block_on(disk.close());
}

/// Bytes that this process has written to files, and of pages that it has changed, as far as the system says that.
fn io() -> Option<[u64; 2]> {
    let io = std::fs::read_to_string("/proc/self/io").ok()?;
    let of = |name: &str| io.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Some([of("wchar:")?, of("write_bytes:")?])
}

/// On a disk, in a folder that holds all of it.
fn written(kib: usize, report: &mut Report) {
    let runtime = runtime();
    let folder = TempFolder::new();
    let disk = runtime.block_on(open(folder.path(), 1 << 30));
    let count: usize = if report.is_quick { 8 } else { (256 << 10) / kib };
    let service = CacheLayer::new(disk.clone()).layer(Pages::of(kib));
    let Some(before) = io() else { return println!("the system does not say what is written") };
    timed(&runtime, 8, count / 8, &{
        let disk = disk.clone();
        move |number| {
            let (mut service, disk) = (service.clone(), disk.clone());
            async move { store(&mut service, &disk, &format!("/articles/{number}")).await }
        }
    });
    runtime.block_on(disk.close());
    let after = io().unwrap();
    let content = (count * kib) as f64 / 1024.0;
    let [written, changed] = [0, 1].map(|at| mib(after[at] - before[at]) / content);
    let figure = format!("{written:.3} written, {changed:.3} in changed pages");
    report.line(&format!("bytes for each byte of content, {kib} KiB"), &figure, None);
    purged(count, folder, report);
}

/// What a purge of a stored URL writes.
fn purged(count: usize, folder: TempFolder, report: &mut Report) {
    let runtime = runtime();
    let disk = runtime.block_on(open(folder.path(), 1 << 30));
    let Some(before) = io() else { return };
    let begun = Instant::now();
    let purges = count.min(64);
    for number in 0..purges {
        let target = PurgeTarget::uri(format!("http://www.example.com/articles/{number}"));
        runtime.block_on(disk.invalidate(&[target], larder::store::PurgeMode::Remove)).unwrap();
    }
    let time = begun.elapsed().as_secs_f64() * 1e3 / purges as f64;
    let after = io().unwrap();
    let [written, changed] = [0, 1].map(|at| (after[at] - before[at]) as f64 / 1024.0 / purges as f64);
    let figure = format!("{time:.2} ms, {written:.1} KiB, {changed:.1} KiB in changed pages");
    report.line("a purge of one stored URL, alone", &figure, None);
    runtime.block_on(disk.close());
}
