//! A folder with many entries.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, StatusCode};
use larder::semantics::reuse::Reuse;
use larder::semantics::vary::Selecting;
use larder::store::{DiskStore, PurgeMode, PurgeTarget, Store};
use larder::{CacheKey, HeadParts, Payload, ResponseHead, StoredResponse};

use super::Place;

const ENTRIES: u64 = 100_000;

fn uri(number: u64) -> String {
    format!("http://{}.example/{}/{number}", number % 10, number / 1_000 % 10)
}

fn key(number: u64) -> CacheKey {
    CacheKey::from_uri(&uri(number).parse().unwrap()).unwrap()
}

fn content(number: u64) -> String {
    format!("entry {number};").repeat(1 + usize::try_from(number % 5).unwrap())
}

async fn put(store: &DiskStore, number: u64) {
    let reuse = Reuse::new(UNIX_EPOCH, UNIX_EPOCH, Duration::from_secs(60), Selecting::default());
    let mut parts = HeadParts::new(StatusCode::OK, HeaderMap::new(), reuse);
    parts.groups = vec![format!("tag{}", number % 97).into()];
    let payload = Payload::from_bytes(Bytes::from(content(number)));
    let response = StoredResponse::new(ResponseHead::from_parts(parts).unwrap(), payload);
    let key = key(number);
    let expected = store.expect(&key);
    store.put(&key, response, expected.fence().unwrap()).await.unwrap();
}

/// What was purged, and whether an entry is among it.
fn purges() -> [PurgeTarget; 4] {
    [
        PurgeTarget::prefix("http://3.example/7/"),
        PurgeTarget::host("8.example"),
        PurgeTarget::tag("tag5"),
        PurgeTarget::Uri(uri(12_345).into_bytes().into()),
    ]
}

fn is_purged(number: u64) -> bool {
    let is_prefixed = number % 10 == 3 && number / 1_000 % 10 == 7;
    is_prefixed || number % 10 == 8 || number % 97 == 5 || number == 12_345
}

async fn found(store: &DiskStore, number: u64) -> Option<String> {
    let lookup = store.get(&key(number)).await.unwrap();
    let response = &lookup.variants.first()?.response;
    Some(String::from_utf8(response.payload().to_bytes().unwrap().into()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_a_hundred_thousand_entries_are_there_when_a_store_is_opened_again_and_what_was_purged_is_not() {
    let place = Place::new();
    let builder = || place.builder().capacity(1 << 30);
    let store = builder().open().await.unwrap();
    stream::iter(0..ENTRIES).for_each_concurrent(64, |number| put(&store, number)).await;
    for target in purges() {
        store.invalidate(&[target], PurgeMode::Remove).await.unwrap();
    }
    let before = store.statistics();
    assert_eq!((before.entries, before.evictions), (ENTRIES, 0));
    store.close().await;
    let store = builder().open().await.unwrap();
    let after = store.statistics();
    assert_eq!((after.entries, after.bytes), (ENTRIES, before.bytes));
    for number in 0..ENTRIES {
        // What is not in the folder is known at once not to be there.
        assert!(store.try_get(&key(number)).is_none(), "{number}");
    }
    let thousandths = (0..ENTRIES).step_by(1_000);
    let purged = (0..ENTRIES).filter(|number| is_purged(*number)).step_by(13);
    let mut counts = [0; 2];
    for number in thousandths.chain(purged).chain([12_345]) {
        let expected = (!is_purged(number)).then(|| content(number));
        counts[usize::from(expected.is_some())] += 1;
        assert_eq!(found(&store, number).await, expected, "{number}");
    }
    assert!(counts[0] > 800 && counts[1] > 80, "{counts:?}");
}
