//! Large files in slices (`--slice`), over stores of every kind.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::any;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::disk::{HOST, on_disk};
use super::process::run;
use super::store::{Site, says, token};
use crate::support::file::TempFolder;
use crate::support::wire;

const SLICE: usize = 64 << 10;
const SLICES: usize = 20;
/// The last slice is a short one.
const LENGTH: usize = SLICE * (SLICES - 1) + 1_000;

/// An origin that has ranges of one file, and what it was asked for.
#[derive(Clone)]
struct Files {
    asked: Arc<Mutex<Vec<String>>>,
    content: Bytes,
}

impl Files {
    async fn start() -> (Self, String) {
        let content: Vec<u8> = (0..LENGTH).map(|place| (place / 3 % 241) as u8).collect();
        let files = Self { asked: Arc::default(), content: content.into() };
        let served = files.clone();
        let answer = move |headers: HeaderMap| {
            let response = served.answer(&headers);
            async move { response }
        };
        let address = wire::serve_router(Router::new().fallback(any(answer))).await;
        (files, format!("http://{address}"))
    }

    fn answer(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let range = headers.get("range").map_or("whole", |range| range.to_str().unwrap());
        self.asked.lock().unwrap().push(range.trim_start_matches("bytes=").to_owned());
        let response = Response::builder().header("etag", "\"1\"").header("cache-control", "max-age=600");
        let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
            return response.body(self.content.clone().into()).unwrap();
        };
        let first: usize = first.parse().unwrap();
        let end = (last.parse::<usize>().unwrap() + 1).min(LENGTH);
        response
            .status(StatusCode::PARTIAL_CONTENT)
            .header("content-range", format!("bytes {first}-{}/{LENGTH}", end - 1))
            .body(self.content.slice(first..end).into())
            .unwrap()
    }

    /// What it was asked for since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// The range of a slice.
fn slice(index: usize) -> String {
    format!("{}-{}", index * SLICE, (index + 1) * SLICE - 1)
}

/// A range of the file, as a client gets it.
async fn get_range(site: &Site, files: &Files, first: usize, length: usize) {
    let last = first + length - 1;
    let fields = [HOST[0], ("range", &*format!("bytes={first}-{last}"))];
    let (head, bytes) = wire::get_bytes(site.node.proxy.address, "/film", &fields).await;
    assert_eq!((head.status.as_u16(), &bytes), (206, &files.content.slice(first..=last)));
    let range = head.headers["content-range"].to_str().unwrap();
    assert_eq!(range, format!("bytes {first}-{last}/{LENGTH}"));
    site.node.has_stored();
}

/// All of the file, as a client gets it.
async fn get_all(site: &Site, files: &Files) {
    let (head, bytes) = wire::get_bytes(site.node.proxy.address, "/film", &HOST).await;
    assert_eq!((head.status.as_u16(), bytes.len()), (200, LENGTH));
    assert!(bytes == files.content, "byte by byte");
    site.node.has_stored();
}

fn purge(site: &Site) {
    site.operate("POST /purge", "{\"url\":\"http://a.example/film\"}").has("HTTP/1.1 200 OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_costs_one_slice_and_a_purge_takes_all_of_them_over_every_store() {
    let token = token();
    for is_on_disk in [false, true] {
        for near in [false, true] {
            let ((files, upstream), folder) = (Files::start().await, TempFolder::new());
            let store = on_disk(folder.path());
            let mut options = vec!["--slice", "64KiB"];
            options.extend(if is_on_disk { ["--store", &store] } else { ["--store", "memory"] });
            match (is_on_disk, near) {
                (true, true) => options.extend(["--near", "1MiB"]),
                (false, true) => continue,
                _ => {}
            }
            let site = Site::with(&upstream, &token, &options);
            get_range(&site, &files, 5 * SLICE + 100, 1024).await;
            assert_eq!(files.asked(), [slice(5)]);
            get_range(&site, &files, 6 * SLICE - 1024, 1024).await;
            assert_eq!(files.asked(), [""; 0]);
            get_all(&site, &files).await;
            let rest = (0..SLICES).filter(|index| *index != 5).map(slice);
            assert_eq!(files.asked(), rest.collect::<Vec<_>>());
            get_all(&site, &files).await;
            assert_eq!(files.asked(), [""; 0]);
            purge(&site);
            for index in [7, 0, SLICES - 1] {
                get_range(&site, &files, index * SLICE, 1000).await;
                assert_eq!(files.asked(), [slice(index)], "{options:?}");
            }
            // Also with gaps.
            purge(&site);
            get_range(&site, &files, 7 * SLICE, 1000).await;
            assert_eq!(files.asked(), [slice(7)], "{options:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_on_the_disk_are_hits_after_a_kill() {
    let ((files, upstream), folder, token) = (Files::start().await, TempFolder::new(), token());
    let store = on_disk(folder.path());
    let options = ["--slice", "64KiB", "--store", &store, "--near", "1MiB"];
    let site = Site::with(&upstream, &token, &options);
    get_all(&site, &files).await;
    assert_eq!(files.asked().len(), SLICES);
    drop(site);
    let site = Site::with(&upstream, &token, &options);
    get_range(&site, &files, 3 * SLICE, 2 * SLICE).await;
    get_all(&site, &files).await;
    assert_eq!(files.asked(), [""; 0]);
    // What was purged is gone after a kill.
    purge(&site);
    drop(site);
    let site = Site::with(&upstream, &token, &options);
    get_range(&site, &files, 9 * SLICE, 10).await;
    assert_eq!(files.asked(), [slice(9)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_named_paths_are_asked_for_in_slices() {
    let ((files, upstream), token) = (Files::start().await, token());
    let options = ["--slice", "64KiB", "--slice-path", "/other/*", "--slice-path", "/fil?"];
    let site = Site::with(&upstream, &token, &options);
    get_range(&site, &files, 0, 10).await;
    assert_eq!(files.asked(), [slice(0)]);
    let (head, bytes) = wire::get_bytes(site.node.proxy.address, "/page", &HOST).await;
    assert_eq!((head.status.as_u16(), bytes.len()), (200, LENGTH));
    assert_eq!(files.asked(), ["whole"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_service_shows_the_first_slice_and_counts_each() {
    let ((files, upstream), token) = (Files::start().await, token());
    let site = Site::with(&upstream, &token, &["--slice", "64KiB"]);
    get_all(&site, &files).await;
    let stats = site.node.stats();
    assert_eq!(stats["store"]["entries"], SLICES);
    assert_eq!(stats["watch"]["totals"]["requests"], SLICES);
    let asked = "GET /inspect?url=http://a.example/film";
    let answer = site.operate(asked, "").has("HTTP/1.1 200 OK");
    let inspected: Value = serde_json::from_str(&answer.content).unwrap();
    let first = &inspected["keys"][0]["variants"][0];
    assert_eq!(
        (&first["status"], &first["part"], &first["bytes"]),
        (&json!(206), &json!(true), &json!(SLICE))
    );
    let metrics = site.operate("GET /metrics", "").content;
    for line in [
        format!("larder_store_entries {SLICES}"),
        format!("larder_puts_total{{result=\"stored\"}} {SLICES}"),
        format!("larder_requests_total{{outcome=\"miss\",fwd=\"uri-miss\",method=\"GET\"}} {SLICES}"),
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} in {metrics}");
    }
}

#[test]
fn options_that_make_no_slices_are_reported_in_one_sentence() {
    for (arguments, said) in [
        (&["--slice", "1"][..], "'1' is not a size of slices; it is 1KiB to 1GiB"),
        (&["--slice", "2GiB"], "'2GiB' is not a size of slices"),
        (&["--slice", "big"], "'big' is not a size; one looks like 64MiB"),
        (&["--slice", "16MiB"], "--slice 16MiB is above the largest object stored, 8MiB"),
        (&["--slice-path", "/x"], "--slice-path goes with --slice"),
        (&["--slice", "1MiB", "--slice-path", "films"], "'films' matches no path; one looks like /films/*"),
        (&["--slice", "1MiB", "--slice", "2MiB"], "--slice is given twice"),
    ] {
        let upstream = ["proxy", "--upstream=http://127.0.0.1:1", "--listen", "127.0.0.1:0"];
        let output = run(&[&upstream, arguments].concat());
        let text = says(&output);
        assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{arguments:?}: {text}");
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
}
