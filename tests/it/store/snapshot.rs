//! Snapshots of the store in memory: what survives a restart, and what must not.

use std::path::PathBuf;
use std::time::Duration;

use http::{Method, Uri};
use larder::store::PurgeTarget;
use larder::{BoxStore, CacheLayer, MemoryStore};

use crate::support::file::TempFolder;
use crate::support::{Bench, Reply};

const PAGE: &str = "http://example.com/page";

/// A process with a store of its own, at a moment of the same clock.
struct Life {
    bench: Bench,
    store: MemoryStore,
}

impl Life {
    fn new() -> Self {
        Self::with(MemoryStore::new())
    }

    fn with(store: MemoryStore) -> Self {
        let bench =
            Bench::with(CacheLayer::builder(BoxStore::new(store.clone())), [Reply::cc("new", "max-age=60")]);
        Self { bench, store }
    }

    async fn stores(&self, path: &str, reply: Reply) {
        self.bench.origin.then(reply);
        self.bench.get(path).await;
    }
}

fn file(folder: &TempFolder) -> PathBuf {
    folder.path().join("snapshot")
}

/// How many responses a store takes from a file of these bytes, and that store.
fn loads(bytes: &[u8], folder: &TempFolder) -> (u64, MemoryStore) {
    let store = MemoryStore::new();
    let path = folder.write("snapshot", bytes);
    (store.load_snapshot(&path).unwrap().responses, store)
}

#[tokio::test]
async fn what_was_stored_answers_after_a_restart_as_old_as_it_is() {
    let folder = TempFolder::new();
    let before = Life::new();
    let vary = |body: &str| {
        Reply::cc(body, "max-age=600")
            .field("vary", "accept-language")
            .field("x-own", "1")
            .field("x-own", "2")
    };
    before.bench.origin.then(vary("Brot"));
    before.bench.get_with("/page", &[("accept-language", "de")]).await;
    before.bench.origin.then(vary("bread"));
    before.bench.get_with("/page", &[("accept-language", "en")]).await;
    before.stores("/trailers", Reply::cc("x", "max-age=60").trailer("x-sum", "9").frames(&["a", "b"])).await;
    let counts = before.store.save_snapshot(file(&folder)).unwrap();
    assert_eq!((counts.responses, counts.skipped), (3, 0));
    assert_eq!(counts.bytes, std::fs::metadata(file(&folder)).unwrap().len());

    let after = Life::new();
    after.bench.later(40);
    assert_eq!(after.store.load_snapshot(file(&folder)).unwrap(), counts);
    let german = after.bench.get_with("/page", &[("accept-language", "de")]).await.has_body("Brot");
    assert_eq!((german.age(), german.fields.get_all("x-own").iter().count()), (Some(40), 2));
    german.told("larder; hit; ttl=560");
    after.bench.get_with("/page", &[("accept-language", "en")]).await.has_body("bread");
    let trailers = after.bench.get("/trailers").await.has_body("ab");
    assert_eq!(trailers.trailers.unwrap()["x-sum"], "9");
    assert_eq!(after.bench.origin.calls(), 0);
    assert_eq!(after.bench.handle.statistics().bytes, before.bench.handle.statistics().bytes);
}

#[tokio::test]
async fn what_was_purged_does_not_come_back() {
    let folder = TempFolder::new();
    let before = Life::new();
    before.stores("/page", Reply::cc("old", "max-age=600")).await;
    before.stores("/tagged", Reply::cc("old", "max-age=600").field("cache-groups", "\"news\"")).await;
    before.stores("/kept", Reply::cc("kept", "max-age=600")).await;
    before.bench.handle.purge(&Uri::from_static(PAGE)).await.unwrap();
    before.bench.handle.purge_target(&PurgeTarget::tag("news")).await.unwrap();
    assert_eq!(before.store.save_snapshot(file(&folder)).unwrap().responses, 1);

    let after = Life::new();
    after.store.load_snapshot(file(&folder)).unwrap();
    after.bench.get("/page").await.has_body("new").told("larder; fwd=uri-miss; stored; ttl=60");
    after.bench.get("/tagged").await.has_body("new").told("larder; fwd=uri-miss; stored; ttl=60");
    after.bench.get("/kept").await.has_body("kept").told("larder; hit; ttl=600");
}

#[tokio::test]
async fn what_was_purged_softly_is_stale_and_its_end_is_kept() {
    let folder = TempFolder::new();
    let before = Life::new();
    for path in ["/page", "/ending"] {
        before.stores(path, Reply::cc("old", "max-age=600").field("etag", "\"1\"")).await;
    }
    let ending = Uri::from_static("http://example.com/ending");
    before.bench.handle.soft_purge(&Uri::from_static(PAGE)).await.unwrap();
    before.bench.handle.soft_purge_for(&ending, Duration::from_secs(60)).await.unwrap();
    assert_eq!(before.store.save_snapshot(file(&folder)).unwrap().responses, 2);

    let after = Life::new();
    after.store.load_snapshot(file(&folder)).unwrap();
    after.bench.later(59);
    after.bench.origin.not_modified(Some(Reply::cc("", "max-age=600").status(304).field("etag", "\"1\"")));
    after.bench.get("/page").await.has_body("old").told("larder; fwd=stale; fwd-status=304; stored; ttl=600");
    after.bench.later(1);
    after.bench.get("/ending").await.has_body("new").told("larder; fwd=uri-miss; stored; ttl=60");
}

#[tokio::test]
async fn a_soft_purge_in_the_next_life_does_not_lengthen_what_has_an_end() {
    let folder = TempFolder::new();
    let before = Life::new();
    before.stores("/page", Reply::cc("old", "max-age=600, stale-if-error=600")).await;
    let uri = Uri::from_static(PAGE);
    before.bench.handle.soft_purge_for(&uri, Duration::from_secs(60)).await.unwrap();
    before.store.save_snapshot(file(&folder)).unwrap();

    let after = Life::new();
    after.store.load_snapshot(file(&folder)).unwrap();
    after.bench.handle.soft_purge(&uri).await.unwrap();
    after.bench.later(60);
    after.bench.origin.then(Reply::new("broken").status(503));
    after.bench.get("/page").await.has_body("broken");
}

#[tokio::test]
async fn an_unsafe_request_invalidates_what_a_snapshot_has_brought() {
    let folder = TempFolder::new();
    let before = Life::new();
    before.stores("/page", Reply::cc("old", "max-age=600")).await;
    before.store.save_snapshot(file(&folder)).unwrap();

    let after = Life::new();
    after.store.load_snapshot(file(&folder)).unwrap();
    after.bench.get("/page").await.has_body("old");
    after.bench.send(Method::POST, "/page", &[]).await;
    after.bench.get("/page").await.has_body("new");
}

#[tokio::test]
async fn what_the_store_has_by_itself_is_newer() {
    let folder = TempFolder::new();
    let before = Life::new();
    before.stores("/page", Reply::cc("old", "max-age=600")).await;
    before.store.save_snapshot(file(&folder)).unwrap();

    let after = Life::new();
    after.bench.get("/page").await.has_body("new");
    let counts = after.store.load_snapshot(file(&folder)).unwrap();
    assert_eq!((counts.responses, counts.skipped), (0, 1));
    after.bench.get("/page").await.has_body("new").told("larder; hit; ttl=60");
}

#[tokio::test]
async fn a_snapshot_is_read_once_and_no_snapshot_is_nothing_to_read() {
    let folder = TempFolder::new();
    let before = Life::new();
    before.stores("/page", Reply::cc("old", "max-age=600")).await;
    before.store.save_snapshot(file(&folder)).unwrap();
    before.store.save_snapshot(file(&folder)).unwrap();
    assert_eq!(before.store.load_snapshot(file(&folder)).unwrap().skipped, 1);
    let counts = MemoryStore::new().load_snapshot(file(&folder)).unwrap();
    assert_eq!((counts.responses, counts.bytes), (0, 0));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_a_snapshot_whatever_was_there() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempFolder::new();
    folder.write("snapshot", "something that everybody may read");
    folder.write("snapshot.new", "of a process that was killed");
    Life::new().store.save_snapshot(file(&folder)).unwrap();
    assert_eq!(std::fs::metadata(file(&folder)).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_snapshot_that_can_not_be_written_leaves_the_one_from_before() {
    let folder = TempFolder::new();
    // A folder is where the draft would be.
    std::fs::create_dir(folder.path().join("snapshot.new")).unwrap();
    folder.write("snapshot", "the one from before");
    assert!(Life::new().store.save_snapshot(file(&folder)).is_err());
    assert_eq!(std::fs::read(file(&folder)).unwrap(), b"the one from before");
}

#[tokio::test]
async fn a_store_takes_from_a_snapshot_what_it_has_room_for() {
    let folder = TempFolder::new();
    let before = Life::new();
    before.stores("/large", Reply::cc(&"x".repeat(200_000), "max-age=600")).await;
    before.stores("/small", Reply::cc("small", "max-age=600")).await;
    before.store.save_snapshot(file(&folder)).unwrap();

    let small = MemoryStore::builder().capacity(100_000).max_object(10_000).build();
    let counts = small.load_snapshot(file(&folder)).unwrap();
    assert_eq!((counts.responses, counts.skipped), (1, 1));
    Life::with(small).bench.get("/small").await.has_body("small");
}

#[tokio::test]
async fn a23_hostile_snapshots_are_read_as_far_as_they_are_right() {
    let folder = TempFolder::new();
    let before = Life::new();
    before.stores("/page", Reply::cc("old", "max-age=600")).await;
    before.bench.handle.soft_purge(&Uri::from_static(PAGE)).await.unwrap();
    before.store.save_snapshot(file(&folder)).unwrap();
    let bytes = std::fs::read(file(&folder)).unwrap();
    assert_eq!(loads(&bytes, &folder).0, 1);
    for cut in 0..bytes.len() {
        // The end is only a mark: without it, everything is there.
        let is_whole = cut >= bytes.len() - 8;
        assert_eq!(loads(&bytes[..cut], &folder).0, u64::from(is_whole), "cut at {cut}");
    }
    for place in 0..bytes.len() - 8 {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1 << bit;
            let (responses, store) = loads(&flipped, &folder);
            // Some bits of a record say nothing, such as those of its revision; then all is as it was, and stale.
            if responses > 0 {
                let life = Life::with(store);
                let seen = life.bench.get("/page").await;
                assert!(!seen.is_hit(), "a flip of bit {bit} at {place} has undone a soft purge");
            }
        }
    }
}
