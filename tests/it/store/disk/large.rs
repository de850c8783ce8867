//! Content that is never held whole: written while it comes, read while it is sent.

use std::ops::ControlFlow;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use larder::store::{BeginOutcome, PurgeTarget, PutOutcome, Store};
use larder::{CacheKey, HeadParts, Payload, ResponseHead, StoredResponse};

use super::{HIT, Node, Place, Process, large, place_of_parent};
use crate::support::on_disk::patient;

fn key() -> CacheKey {
    CacheKey::from_uri(&http::Uri::from_static("http://example.com/large")).unwrap()
}

#[tokio::test]
async fn a_range_is_read_from_the_file_and_so_are_several() {
    let place = Place::new();
    let node = Node::open(&place).await;
    let body = large();
    node.fill("/large", &body).await;
    for (range, expected) in [
        ("bytes=0-0", &body[..1]),
        ("bytes=65535-65536", &body[65_535..=65_536]),
        ("bytes=70000-299999", &body[70_000..]),
        ("bytes=-6", "49999;"),
    ] {
        let seen = node.bench.get_with("/large", &[("range", range)]).await.has_body(expected);
        assert_eq!(seen.status, 206, "{range}");
    }
    let seen = node.bench.get_with("/large", &[("range", "bytes=6-11,299994-299999")]).await;
    assert!(seen.body.contains("00001;") && seen.body.contains("49999;"), "{}", seen.body);
    let seen = node.bench.send(Method::HEAD, "/large", &[]).await.told(HIT);
    assert_eq!(seen.field("content-length"), Some("300000"));
    assert_eq!(node.bench.origin.calls(), 1);
}

#[tokio::test]
async fn content_that_is_put_whole_has_a_file_of_its_own_above_64_kib() {
    let place = Place::new();
    let node = Node::open(&place).await;
    node.fill("/small", "small").await;
    let small = CacheKey::from_uri(&http::Uri::from_static("http://example.com/small")).unwrap();
    let head = node.store.get(&small).await.unwrap().variants[0].response.head().clone();
    let mut fields = head.headers();
    fields.remove("content-length");
    let parts = HeadParts::new(head.status(), fields, head.reuse().clone());
    let head = ResponseHead::from_parts(parts).unwrap();
    for (length, files) in [(65_536, 0), (65_537, 1)] {
        let response = StoredResponse::new(head.clone(), Payload::from_bytes(vec![b'x'; length].into()));
        let expected = node.store.expect(&key());
        let put = node.store.put(&key(), response, expected.fence().unwrap()).await.unwrap();
        assert_eq!((put, place.contents().len()), (PutOutcome::Stored, files));
        node.hits("/large", &"x".repeat(length)).await;
    }
}

#[tokio::test]
async fn who_reads_content_reads_it_to_its_end_although_it_goes_meanwhile() {
    let place = Place::new();
    let node = Node::open(&place).await;
    let body = large().repeat(4);
    for purges in [true, false] {
        node.fill("/large", &body).await;
        let lookup = node.store.get(&key()).await.unwrap();
        let remote = lookup.variants[0].response.payload().as_remote().unwrap();
        let mut opened = node.store.open(&key(), remote, None).await.unwrap().unwrap();
        let first = opened.frame().await.unwrap().unwrap().into_data().unwrap();
        if purges {
            node.purge(PurgeTarget::uri("http://example.com/large")).await;
            assert!(node.store.get(&key()).await.unwrap().variants.is_empty());
        } else {
            // It makes room for others.
            node.store.close().await;
            let node = Node::with(place.builder().capacity(1 << 20)).await;
            assert_eq!(node.held().1, 0);
        }
        assert_eq!(place.files(), [] as [std::path::PathBuf; 0]);
        let rest = opened.collect().await.unwrap().to_bytes();
        assert!([first, rest].concat() == body.as_bytes());
    }
}

#[tokio::test]
async fn a_purge_of_everything_gives_the_disk_back() {
    let place = Place::new();
    let node = Node::open(&place).await;
    for number in 0..20 {
        node.fill(&format!("/{number}"), &large()).await;
        node.fill(&format!("/small/{number}"), "small").await;
    }
    node.purge(PurgeTarget::All).await;
    while !place.files().is_empty() || node.held() != (0, 0) {
        tokio::task::yield_now().await; // it is removed in the background
    }
    node.fill("/0", "new").await;
}

#[tokio::test]
async fn f16_what_is_on_its_way_leaves_nothing_where_it_is_dropped_or_the_store_is_closed() {
    let place = Place::new();
    let node = Node::open(&place).await;
    let staged = || std::fs::read_dir(place.path().join("staged")).unwrap().count();
    let begin = async || {
        let expected = node.store.expect(&key());
        let BeginOutcome::Writer(mut writer) =
            node.store.begin(&key(), None, expected.fence().unwrap()).await.unwrap()
        else {
            panic!("no writer")
        };
        for _ in 0..6 {
            let written = writer.write(Bytes::from(vec![7; 65_536])).await.unwrap();
            assert_eq!(written, ControlFlow::Continue(()));
        }
        writer
    };
    let writer = begin().await;
    while staged() == 0 || node.held().0 == 0 {
        tokio::task::yield_now().await; // it is written in the background, and counts
    }
    drop(writer);
    while staged() > 0 {
        tokio::task::yield_now().await; // it is removed in the background
    }
    let mut writer = begin().await;
    node.store.close().await;
    assert!(writer.write(Bytes::from(vec![7; 65_536])).await.is_err());
    let node = Node::open(&place).await;
    assert_eq!((staged(), place.files().len(), node.held()), (0, 0, (0, 0)));
    drop(writer);
}

#[tokio::test]
async fn what_is_being_written_takes_half_of_the_capacity_at_most() {
    let place = Place::new();
    let node = Node::with(place.builder().capacity(16 << 20)).await;
    for number in 0..40 {
        node.fill(&format!("/{number}"), &large()).await;
    }
    let mut writers = Vec::new();
    let piece = Bytes::from(vec![7; 65_536]);
    let mut outcome = ControlFlow::Continue(());
    while outcome.is_continue() {
        let expected = node.store.expect(&key());
        let begun = node.store.begin(&key(), None, expected.fence().unwrap()).await.unwrap();
        let BeginOutcome::Writer(mut writer) = begun else { panic!("no writer") };
        for _ in 0..32 {
            if outcome.is_continue() {
                outcome = writer.write(piece.clone()).await.unwrap();
            }
        }
        writers.push((writer, expected));
        let on_disk: u64 = std::fs::read_dir(place.path().join("staged"))
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .chain(place.files().iter().map(|path| path.metadata().unwrap().len()))
            .sum();
        assert!(on_disk <= 16 << 20, "{on_disk} bytes");
    }
    // Not for ever: it is no larger than what is stored.
    assert_eq!(outcome, ControlFlow::Break(PutOutcome::Superseded));
    // Of each, some blocks may not be written yet.
    assert!((3..9).contains(&writers.len()), "{}", writers.len());
}

/// The most memory that this process has had, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

const MIB: u64 = 1 << 20;
/// Bytes of a video.
const VIDEO: u64 = 128 * MIB;

#[tokio::test]
#[ignore = "the process of f13_a_large_body_is_stored_and_served_in_little_memory"]
async fn the_process_with_a_large_body() {
    use http::{Request, Response};
    use http_body_util::{Empty, StreamBody};
    use tower::{Layer, ServiceExt};

    let Some(folder) = place_of_parent() else { return };
    let store = patient(&folder).capacity(1 << 30).open().await.unwrap();
    let layer = larder::CacheLayer::builder(store).build();
    let origin = tower::service_fn(|_: Request<Empty<Bytes>>| async {
        let frames = (0..VIDEO / MIB).map(|number| {
            let data = Bytes::from(vec![number as u8; MIB as usize]);
            Ok::<_, std::convert::Infallible>(http_body::Frame::data(data))
        });
        let body = StreamBody::new(futures_util::stream::iter(frames));
        Ok::<_, std::convert::Infallible>(
            Response::builder().header("cache-control", "max-age=60").body(body).unwrap(),
        )
    });
    let before = peak();
    let mut is_hit = false;
    // Where the disk is far behind, content is not stored: then it is asked for again.
    while !is_hit {
        let request = Request::get("http://example.com/video").body(Empty::new()).unwrap();
        let response = layer.layer(origin).oneshot(request).await.unwrap();
        is_hit = response.headers()["cache-status"].to_str().unwrap().contains("; hit;");
        let (mut body, mut length) = (response.into_body(), 0);
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data.iter().all(|byte| u64::from(*byte) == length / MIB));
            length += data.len() as u64;
        }
        assert_eq!(length, VIDEO);
        while layer.handle().fills().fills > 0 {
            tokio::task::yield_now().await;
        }
    }
    let grown = peak() - before;
    assert!(grown < 48 * 1024, "{grown} KiB");
    println!("{VIDEO} bytes stored and served in {grown} KiB");
}

#[tokio::test]
async fn f13_a_large_body_is_stored_and_served_in_little_memory() {
    // The pages of a file are none of the process's memory, be they on a disk or not.
    let place = Place::new();
    let mut process = Process::of_test(module_path!(), "the_process_with_a_large_body", &place, &[]);
    assert!(process.0.wait().unwrap().success());
}
