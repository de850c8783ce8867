//! What a folder has is input (A23): others may have written there.

use std::cell::RefCell;
use std::fs;

use larder::store::record::Record;
use larder::store::{RemoteContent, Store};
use larder::{CacheKey, Payload, StoredResponse};

use super::{Node, Place, large};
use crate::support::Reply;

fn key(path: &str) -> CacheKey {
    CacheKey::from_uri(&format!("http://example.com{path}").parse().unwrap()).unwrap()
}

/// Content of the same length as [`large`].
fn other() -> String {
    large().replace('0', "x")
}

#[tokio::test]
async fn a23_a_record_or_content_in_the_place_of_another_one_is_a_miss() {
    let place = Place::new();
    let node = Node::open(&place).await;
    for (path, body) in [("/a", "one"), ("/b", "two"), ("/c", &large()), ("/d", &other())] {
        node.fill(path, body).await;
    }
    node.store.close().await;
    let swap = |one: &std::path::Path, two: &std::path::Path| {
        let bytes = (fs::read(one).unwrap(), fs::read(two).unwrap());
        fs::write(one, bytes.1).unwrap();
        fs::write(two, bytes.0).unwrap();
    };
    swap(&place.record(&key("/a")).unwrap(), &place.record(&key("/b")).unwrap());
    let contents = place.contents();
    swap(&contents[0], &contents[1]);
    let node = Node::open(&place).await;
    for path in ["/a", "/b", "/c", "/d"] {
        let seen = node.fetch(path, "of the origin").await;
        assert!(!seen.is_hit(), "{path}: {seen:?}");
        node.hits(path, "of the origin").await;
    }
}

#[tokio::test]
async fn a23_a_record_that_says_that_its_content_is_huge_or_elsewhere_is_a_miss_and_takes_no_memory() {
    let place = Place::new();
    let node = Node::open(&place).await;
    node.fill("/large", &large()).await;
    let node = node.again(&place).await;
    let path = place.record(&key("/large")).unwrap();
    let (own, record) = Record::decode_any(fs::read(&path).unwrap().into()).unwrap();
    let remote = record.variants[0].response.payload().as_remote().unwrap();
    for (id, length) in [
        (remote.id, 1 << 60),
        (remote.id, u64::MAX),
        (remote.id, 1),
        (remote.id, 0),
        (remote.id + 1, 300_000),
        (0, 300_000),
        (u128::MAX, u64::MAX),
    ] {
        let mut forged = record.clone();
        let head = forged.variants[0].response.head().clone();
        forged.variants[0].response =
            StoredResponse::new(head, Payload::remote(RemoteContent::new(id, length)));
        fs::write(&path, forged.encode(&own).unwrap()).unwrap();
        node.bench.origin.then(Reply::cc("of the origin", "no-store"));
        let seen = node.get("/large").await;
        // Of content without a length there is nothing to open.
        assert!(
            seen.body == "of the origin" || (length == 0 && (seen.broken || seen.body.is_empty())),
            "{length}"
        );
        let range = node.bench.get_with("/large", &[("range", "bytes=70000-70009")]).await;
        assert!(range.status != 206 || range.body == large()[70_000..70_010], "{length}: {range:?}");
    }
}

#[tokio::test]
async fn a23_records_of_random_bytes_are_misses() {
    use proptest::test_runner::TestRunner;

    let place = Place::new();
    let node = Node::open(&place).await;
    node.fill("/", "stored").await;
    let path = place.record(&key("/")).unwrap();
    let whole = fs::read(&path).unwrap();
    let forged = RefCell::new(Vec::new());
    let mut runner = TestRunner::new(crate::support::cases(60));
    runner
        .run(&(0..whole.len(), proptest::collection::vec(proptest::num::u8::ANY, 1..40)), |(at, bytes)| {
            let mut changed = whole.clone();
            let end = changed.len().min(at + bytes.len());
            changed[at..end].copy_from_slice(&bytes[..end - at]);
            forged.borrow_mut().push(changed);
            forged.borrow_mut().push(bytes);
            Ok(())
        })
        .unwrap();
    for bytes in forged.take() {
        let is_same = bytes == whole;
        fs::write(&path, bytes).unwrap();
        node.bench.origin.then(Reply::cc("of the origin", "no-store"));
        let seen = node.get("/").await;
        assert_eq!(seen.body, if is_same { "stored" } else { "of the origin" });
    }
}

#[tokio::test]
async fn a23_no_url_names_a_file() {
    let place = Place::new();
    let node = Node::open(&place).await;
    node.fill("/", "stored").await;
    let response = node.store.get(&key("/")).await.unwrap().variants[0].response.clone();
    let long = "/..".repeat(2_000);
    let paths = [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/x",
        "/entries/00/x",
        "/a%00b",
        "/lock",
        "/a//b",
        "/..;/staged/x",
        &long,
    ];
    for path in paths {
        let expected = node.store.expect(&key(path));
        node.store.put(&key(path), response.clone(), expected.fence().unwrap()).await.unwrap();
    }
    let mut top: Vec<_> = fs::read_dir(place.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    top.sort();
    assert_eq!(top, ["entries", "last", "lock", "purges.redb", "staged"]);
    assert_eq!(place.records().len(), paths.len() + 1);
    for path in place.files() {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'.'), "{name}");
        assert_eq!(path.parent().unwrap().parent().unwrap(), place.path().join("entries"));
    }
    let node = node.again(&place).await;
    for path in paths {
        assert_eq!(node.store.get(&key(path)).await.unwrap().variants.len(), 1, "{path}");
    }
}
