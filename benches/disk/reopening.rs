//! How long it takes to open a folder.

use std::path::Path;
use std::time::Instant;

use larder::{CacheLayer, Store};
use tower::Layer;

use crate::file::TempFolder;
use crate::{Pages, Report, get, median, open, runtime, timed};

/// 1 GiB, of which each record takes one cluster of 4 KiB.
const RECORDS: usize = 1 << 18;
const CONTENT: usize = 3_000;
const GOAL: f64 = 2.0;

pub fn report(report: &mut Report) {
    let runtime = runtime();
    let records = if report.is_quick { 1_000 } else { RECORDS };
    let folder = TempFolder::new();
    let cache = runtime.block_on(open(folder.path(), 4 << 30));
    let pages = Pages { content: vec![b'x'; CONTENT].into(), ..Pages::of(0) };
    let service = CacheLayer::new(cache.clone()).layer(pages);
    let fill = move |number| {
        let mut service = service.clone();
        async move {
            let said = get(&mut service, &format!("/articles/{number}")).await;
            assert!(said.contains("stored"), "{said}");
        }
    };
    let time = timed(&runtime, 64, records / 64, &fill);
    runtime.block_on(cache.close());
    drop((fill, cache));
    let records = records / 64 * 64;
    let figure = format!("{:.0} us each", time * 1e6 / records as f64);
    report.line(&format!("{records} misses of 3 KB, stored"), &figure, None);
    let rounds = if report.is_quick { 1 } else { 5 };
    let (mut listed, mut opened) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begun = Instant::now();
        assert!(list(folder.path()) >= records);
        listed.push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let cache = runtime.block_on(open(folder.path(), 4 << 30));
        opened.push(begun.elapsed().as_secs_f64());
        assert_eq!(cache.statistics().entries, records as u64);
        runtime.block_on(cache.close());
    }
    let time = median(opened);
    let figure = format!("{time:.2} s (a look at each file: {:.2} s)", median(listed));
    let what = format!("opening a folder with {records} records of 4 KiB");
    report.line(&what, &figure, Some(("< 2 s", time < GOAL)));
}

/// A look at each file, by one thread.
fn list(folder: &Path) -> usize {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { list(&entry.path()) } else { usize::from(metadata.len() > 0) }
        })
        .sum()
}
