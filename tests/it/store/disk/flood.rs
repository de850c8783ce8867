//! Many purges: of what does not exist, which are not written, and of what does, which are few in memory.

use http::Method;
use larder::store::{Fence, PurgeMode, PurgeScope, PurgeTarget, Store};

use super::{Node, Place};
use crate::support::Reply;

fn written(place: &Place) -> Vec<u8> {
    std::fs::read(place.path().join("purges.redb")).unwrap()
}

#[tokio::test]
async fn a33_unsafe_requests_for_uris_that_do_not_exist_write_nothing_and_purge_nothing() {
    let place = Place::new();
    let node = Node::open(&place).await;
    node.fill("/", "kept").await;
    node.purge(PurgeTarget::host("a.example")).await; // reserves numbers
    let before = written(&place);
    for number in 0..2_000 {
        node.bench.origin.then(Reply::new("done"));
        node.bench.send(Method::POST, &format!("/{number}"), &[]).await;
    }
    assert!(written(&place) == before, "nothing was written");
    node.hits("/", "kept").await;
    // One for something that is there is written, and counts.
    node.bench.origin.then(Reply::new("done"));
    node.bench.send(Method::POST, "/", &[]).await;
    assert!(written(&place) != before);
    let node = node.again(&place).await;
    node.fetch("/", "new").await;
}

#[tokio::test]
async fn a33_a_flood_of_purges_of_nothing_hits_nothing_that_is_stored_or_on_its_way() {
    let place = Place::new();
    let node = Node::open(&place).await;
    node.fill("/kept", "kept").await;
    let key = larder::CacheKey::from_uri(&http::Uri::from_static("http://example.com/coming")).unwrap();
    let expected = node.store.expect(&key);
    let mut last = larder::store::PurgeNumber::default();
    // More than there are numbers in reserve.
    for number in 0..150_000 {
        let target = PurgeTarget::uri(format!("http://example.com/none/{number}"));
        let number = node.store.invalidate(&[target], PurgeMode::Remove).await.unwrap();
        assert!(number > last);
        last = number;
    }
    let fence = expected.fence().unwrap();
    let is_purged = async |key, since| node.store.purged_since(key, since, PurgeScope::Key).await.unwrap();
    assert!(!is_purged(&key, fence).await);
    // What is stored is known not to be purged, also where it is asked for under another query.
    let kept = larder::CacheKey::from_uri(&http::Uri::from_static("http://example.com/kept")).unwrap();
    let stored = node.store.get(&kept).await.unwrap().variants[0].fence;
    assert!(!is_purged(&kept, stored).await);
    let query = larder::CacheKey::from_uri(&http::Uri::from_static("http://example.com/kept?q")).unwrap();
    assert!(!is_purged(&query, stored).await);
    // Of who has said nothing, it is not known.
    assert!(is_purged(&key, Fence::from_bits(stored.bits() & !(1 << 63))).await);
    node.hits("/kept", "kept").await;
    // Numbers of purges that were not written are not given again.
    let node = node.again(&place).await;
    let all = node.store.invalidate(&[PurgeTarget::All], PurgeMode::Remove).await.unwrap();
    assert!(all > last);
    node.fetch("/kept", "new").await;
}

/// What was purged first is known by a mark alone when its entry has made room for others.
#[tokio::test]
async fn a33_many_large_purges_take_a_bounded_place_on_the_disk_and_none_is_forgotten() {
    let place = Place::new();
    let node = Node::open(&place).await;
    node.fill("/", "old").await;
    node.purge(PurgeTarget::host("example.com")).await;
    // 48 MiB of names.
    for purge in 0..96 {
        let targets: Vec<_> = (0..1_024)
            .map(|target| PurgeTarget::tag(format!("{purge:03} {target:04} {}", "x".repeat(503))))
            .collect();
        node.store.invalidate(&targets, PurgeMode::Remove).await.unwrap();
    }
    let bytes = written(&place).len();
    assert!(bytes < 40 << 20, "{bytes} bytes");
    let node = node.again(&place).await;
    assert!(written(&place).len() < 40 << 20);
    node.fetch("/", "new").await.told("larder; fwd=miss; stored; ttl=60");
    // Of what was stored after all that, nothing is purged.
    node.again(&place).await.hits("/", "new").await;
}
