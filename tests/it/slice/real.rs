//! Slices over real stores: a Redis server, a folder, and tiers before both; also after the store was opened again.
//!
//! Time is that of the cache, which stands still; nothing depends on how fast a store is.

#[cfg(feature = "disk")]
use std::path::Path;
#[cfg(any(feature = "disk", feature = "redis"))]
use std::sync::Arc;
#[cfg(feature = "redis")]
use std::time::Duration;

use http::{Method, Uri};
#[cfg(feature = "disk")]
use larder::store::DiskStore;
use larder::store::{PurgeTarget, Store, TierLimits, TieredStore};
#[cfg(feature = "redis")]
use larder::store::{RedisConfig, RedisStore};
use larder::{BoxStore, CacheKey, MemoryStore, SliceLayer};

use super::media::{File, Theatre};
use crate::support::CacheLayer;
#[cfg(feature = "disk")]
use crate::support::file::TempFolder;
#[cfg(feature = "disk")]
use crate::support::on_disk::patient;
#[cfg(feature = "redis")]
use crate::support::servers::{Cluster, Kind, Server};
use crate::support::stores::waited_for;

/// So large that each store takes a slice in pieces.
const SIZE: u64 = 100_000;
const LENGTH: u64 = 4 * SIZE + 321;

const MISS: &str = "larder; fwd=uri-miss; stored; ttl=60";
const HIT: &str = "larder; hit; ttl=60";
const VALIDATED: &str = "larder; fwd=stale; fwd-status=304; stored; ttl=60";

fn film() -> Uri {
    Uri::from_static("http://example.com/film")
}

/// A store that can be opened again, with what it has.
struct Opened {
    close: Box<dyn AsyncClose>,
    store: BoxStore,
}

/// Closes a store.
trait AsyncClose {
    fn close(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + '_>>;
}

impl<F: AsyncFn()> AsyncClose for F {
    fn close(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(self())
    }
}

impl Opened {
    fn new(store: impl Store, close: impl AsyncFn() + 'static) -> Self {
        Self { close: Box::new(close), store: BoxStore::new(waited_for(store)) }
    }
}

fn theatre(store: BoxStore, file: &File) -> Theatre {
    Theatre::by(SliceLayer::new().size(SIZE), CacheLayer::builder(store), file.clone())
}

fn slice(index: u64) -> String {
    format!("{}-{}", index * SIZE, (index + 1) * SIZE - 1)
}

/// All that slices promise, over a store.
async fn check(open: impl AsyncFn() -> Opened) {
    let file = File::new(LENGTH).field("content-type", "video/mp4").field("cache-groups", "\"films\"");
    let opened = open().await;
    let theatre = theatre(opened.store, &file);
    sends_what_is_asked_for(&theatre, &file).await;
    drop(theatre);
    opened.close.close().await;
    drop(opened.close);

    let opened = open().await;
    let theatre = self::theatre(opened.store, &file);
    is_validated_once_after_reopening(&theatre, &file).await;
    a_purge_takes_all(&theatre, &file).await;
    no_versions_are_mixed(&theatre, &file).await;
    drop(theatre);
    opened.close.close().await;
}

async fn sends_what_is_asked_for(theatre: &Theatre, file: &File) {
    theatre.range("bytes=150000-150009").await.told(MISS).has_body(&file.bytes(150_000, 150_009));
    assert_eq!(theatre.media.asked(), [slice(1)]);
    theatre.get().await.told(MISS).has_body(&file.all());
    assert_eq!(theatre.media.asked(), [0, 2, 3, 4].map(slice));
    let seen = theatre.get().await.told(HIT).has_body(&file.all());
    assert_eq!((seen.status.as_u16(), seen.field("content-length")), (200, Some(&*LENGTH.to_string())));
    let seen = theatre.range("bytes=99990-300009").await.told(HIT).has_body(&file.bytes(99_990, 300_009));
    assert_eq!(seen.field("content-range"), Some(&*format!("bytes 99990-300009/{LENGTH}")));
    theatre.range("bytes=-400").await.told(HIT).has_body(&file.bytes(LENGTH - 400, LENGTH - 1));
    let seen = theatre.range("bytes=0-9,250000-250009").await.told(HIT);
    assert!(seen.field("content-type").unwrap().starts_with("multipart/byteranges"), "{seen:?}");
    for part in [file.bytes(0, 9), file.bytes(250_000, 250_009)] {
        assert!(seen.body.contains(&part), "{seen:?}");
    }
    theatre.send(Method::HEAD, &[]).await.told(HIT).has_body("");
    let seen = theatre.range("bytes=900000-").await;
    assert_eq!((seen.status.as_u16(), seen.body.as_str()), (416, ""));
    theatre.media.asked();
    theatre.later(61);
    theatre.get().await.told(VALIDATED).has_body(&file.all());
    assert_eq!(theatre.media.asked(), [slice(0) + " unless \"a\""]);
}

/// What confirmed the slices is forgotten, and they are there.
async fn is_validated_once_after_reopening(theatre: &Theatre, file: &File) {
    theatre.later(61);
    theatre.range("bytes=300000-300009").await.told(VALIDATED).has_body(&file.bytes(300_000, 300_009));
    assert_eq!(theatre.media.asked(), [slice(3) + " unless \"a\""]);
    theatre.range("bytes=200000-200009").await.told(HIT).has_body(&file.bytes(200_000, 200_009));
    theatre.get().await.told(HIT).has_body(&file.all());
    assert_eq!(theatre.media.asked(), [""; 0]);
}

async fn a_purge_takes_all(theatre: &Theatre, file: &File) {
    let key = CacheKey::from_uri(&film()).unwrap();
    let targets = [PurgeTarget::Uri(key.uri().into()), PurgeTarget::Key(key), PurgeTarget::tag("films")];
    for target in targets {
        theatre.handle.purge_target(&target).await.unwrap();
        // There is a gap between those that are stored, and one behind them.
        for index in [3, 0] {
            let (first, last) = (index * SIZE, index * SIZE + 9);
            let seen = theatre.range(&format!("bytes={first}-{last}")).await.told(MISS);
            seen.has_body(&file.bytes(first, last));
        }
        assert_eq!(theatre.media.asked(), [slice(3), slice(0)], "{target:?}");
    }
}

async fn no_versions_are_mixed(theatre: &Theatre, file: &File) {
    let new = file.clone().changed();
    theatre.media.becomes(new.clone());
    let seen = theatre.get().await.told(HIT);
    assert!(seen.broken, "{seen:?}");
    assert_eq!(seen.body, file.bytes(0, SIZE - 1), "no byte of the new one");
    theatre.media.asked();
    theatre.get().await.told(MISS).has_body(&new.all());
    assert_eq!(theatre.media.asked(), [0, 1, 2, 3, 4].map(slice));
    theatre.get().await.told(HIT).has_body(&new.all());
}

#[cfg(feature = "redis")]
fn config(url: &str, namespace: &str) -> RedisConfig {
    let config: RedisConfig = url.parse().unwrap();
    let time = Duration::from_secs(20);
    config.namespace(namespace).deadline(time).content_deadline(time).keep(Duration::from_secs(3_600))
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn ra4_slices_keep_their_promises_over_redis() {
    let server = Server::start(Kind::Redis);
    check(async || Opened::new(RedisStore::new(config(&server.url(), "one")).unwrap(), async || {})).await;
    let url = Cluster::shared().url();
    check(async || Opened::new(RedisStore::new(config(&url, "slices")).unwrap(), async || {})).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn ra4_slices_keep_their_promises_over_memory_before_redis() {
    let server = Server::start(Kind::Redis);
    check(async || {
        let far = RedisStore::new(config(&server.url(), "tier")).unwrap();
        let limits = TierLimits::new().bound(Duration::from_secs(60));
        Opened::new(TieredStore::following(MemoryStore::default(), far, limits), async || {})
    })
    .await;
}

#[cfg(feature = "disk")]
async fn opened(folder: &Path) -> Arc<DiskStore> {
    Arc::new(patient(folder).open().await.unwrap())
}

#[cfg(feature = "disk")]
#[tokio::test]
async fn ra4_slices_keep_their_promises_over_a_disk() {
    let folder = TempFolder::in_memory();
    check(async || {
        let store = opened(folder.path()).await;
        let closed = Arc::clone(&store);
        Opened::new(store, async move || closed.close().await)
    })
    .await;
}

#[cfg(feature = "disk")]
#[tokio::test]
async fn ra4_slices_keep_their_promises_over_memory_before_a_disk() {
    let folder = TempFolder::in_memory();
    check(async || {
        let far = opened(folder.path()).await;
        let closed = Arc::clone(&far);
        let tier = TieredStore::new(MemoryStore::default(), far, TierLimits::new());
        Opened::new(tier, async move || closed.close().await)
    })
    .await;
}
