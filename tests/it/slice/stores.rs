//! Slices over other stores, for many clients at once, and what they take.

use std::time::Duration;

use http::Method;
use http_body_util::BodyExt;
use larder::store::Store;
use larder::{BoxStore, MemoryStore, SliceLayer};
use tower::Layer;

use super::media::{File, SLICE, Theatre, request};
use crate::support::bench::read;
use crate::support::elsewhere::{Elsewhere, Ending, Fault};
use crate::support::stepped::Stepped;
use crate::support::stores::{is_slow, slow};
use crate::support::{CacheLayer, Step, alloc, cache_builder, settle};

const MIB: u64 = 1 << 20;
const HIT: &str = "larder; hit; ttl=60";
const SHARED: &str = "larder; fwd=uri-miss; stored; collapsed; ttl=60";

fn over(store: impl Store, size: u64, file: File) -> Theatre {
    Theatre::by(SliceLayer::new().size(size), CacheLayer::builder(BoxStore::new(store)), file)
}

fn stores() -> [BoxStore; 3] {
    let memory = || MemoryStore::builder().capacity(64 * MIB).build();
    [
        BoxStore::new(slow(memory())),
        BoxStore::new(Elsewhere::of(memory())),
        BoxStore::new(slow(Elsewhere::of(memory()))),
    ]
}

#[tokio::test(start_paused = true)]
async fn ra4_slices_are_stored_and_joined_over_every_store() {
    for store in stores() {
        // Larger than what is put whole, so that a store which takes streams takes one.
        let (size, file) = (200_000, File::new(700_001));
        let theatre = over(store, size, file.clone());
        theatre.get().await.has_body(&file.all());
        settle().await;
        assert_eq!(theatre.media.asked().len(), 4);
        theatre.get().await.told(HIT).has_body(&file.all());
        theatre.range("bytes=199990-600010").await.told(HIT).has_body(&file.bytes(199_990, 600_010));
        let seen = theatre.range("bytes=0-9,650000-650009").await.told(HIT);
        assert!(seen.body.contains(&file.bytes(650_000, 650_009)), "{seen:?}");
        theatre.later(61);
        theatre.get().await.has_body(&file.all());
        assert_eq!(theatre.media.asked(), ["0-199999 unless \"a\""]);
        theatre.handle.purge(&"http://example.com/film".parse().unwrap()).await.unwrap();
        theatre.get().await.has_body(&file.all());
        assert_eq!(theatre.media.asked().len(), 4);
    }
}

#[tokio::test]
async fn ra4_of_a_stored_slice_that_breaks_off_the_rest_is_asked_for() {
    let store = Elsewhere::of(MemoryStore::builder().capacity(64 * MIB).build());
    let file = File::new(700_001);
    let theatre = over(store.clone(), 200_000, file.clone());
    theatre.get().await.has_body(&file.all());
    theatre.media.asked();
    store.set_fault(Fault::At(1_000, Ending::Error));
    theatre.get().await.told(HIT).has_body(&file.all());
    let mut asked = theatre.media.asked();
    asked.sort();
    assert_eq!(asked, ["1000-199999", "201000-399999", "401000-599999", "601000-"]);
    // They are replaced.
    store.set_fault(Fault::None);
    theatre.get().await.has_body(&file.all());
    assert_eq!(theatre.media.asked().len(), 4);
    theatre.get().await.told(HIT).has_body(&file.all());
    assert_eq!(theatre.media.asked(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn ra4_many_clients_share_the_calls_for_each_slice() {
    // Small slices are taken in before they are answered, large ones are shared while they come.
    for size in [SLICE, 200_000] {
        let file = File::new(3 * size + 10);
        let theatre = over(slow(MemoryStore::default()), size, file.clone());
        theatre.media.takes_its_time();
        let clients: Vec<_> = (0..20)
            .map(|client| {
                let fields: &[_] = if client % 2 == 0 { &[] } else { &[("range", "bytes=0-")] };
                let response =
                    tower::Service::call(&mut theatre.service.clone(), request(Method::GET, fields));
                tokio::spawn(async move { read(response.await.unwrap()).await })
            })
            .collect();
        for client in clients {
            client.await.unwrap().has_body(&file.all());
        }
        let mut asked = theatre.media.asked();
        asked.sort();
        let of = |slice: u64| format!("{}-{}", slice * size, (slice + 1) * size - 1);
        let mut expected = [of(0), of(1), of(2), of(3)];
        expected.sort();
        assert_eq!(asked, expected);
        // So is the validation of what is stale.
        theatre.later(61);
        let clients: Vec<_> = (0..20)
            .map(|_| {
                let response = tower::Service::call(&mut theatre.service.clone(), request(Method::GET, &[]));
                tokio::spawn(async move { read(response.await.unwrap()).await })
            })
            .collect();
        for client in clients {
            client.await.unwrap().has_body(&file.all());
        }
        assert_eq!(theatre.media.asked(), [format!("{} unless \"a\"", of(0))]);
    }
}

#[tokio::test(start_paused = true)]
async fn ra4_a_slice_is_shared_while_it_comes() {
    let origin = Stepped::default();
    let service = SliceLayer::new().size(200_000).layer(cache_builder().build().layer(origin.clone()));
    let begin = || tokio::spawn(tower::Service::call(&mut service.clone(), request(Method::GET, &[])));
    let clients = [begin(), begin()];
    settle().await;
    let fields = [
        ("cache-control", "max-age=60"),
        ("content-length", "200000"),
        ("content-range", "bytes 0-199999/500000"),
        ("etag", "\"a\""),
    ];
    origin.call(0).step(Step::head(206, &fields)).frame("x".repeat(60_000));
    settle().await;
    let mut told = Vec::new();
    for client in clients {
        assert!(client.is_finished());
        let (parts, mut body) = client.await.unwrap().unwrap().into_parts();
        assert_eq!(
            (parts.status.as_u16(), &parts.headers["content-length"]),
            (200, &"500000".parse().unwrap())
        );
        told.push(parts.headers["cache-status"].to_str().unwrap().to_owned());
        assert!(!body.frame().await.unwrap().unwrap().into_data().unwrap().is_empty());
    }
    // Whose look-up ends first makes the call.
    told.sort_unstable_by_key(String::len);
    assert_eq!(told, ["larder; fwd=uri-miss; stored; ttl=60", SHARED]);
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn ra4_the_next_slice_is_asked_for_when_the_client_gets_near_it_and_no_other() {
    let size = 512 * 1024;
    let file = File::new(10 * size);
    let theatre = Theatre::by(SliceLayer::new().size(size), cache_builder(), file);
    let mut body = theatre.begin(Method::GET, &[]).await.unwrap().into_body();
    let mut received = 0;
    for slices in 1..10 {
        while received < slices * size - size / 4 {
            let frame = body.frame().await.unwrap().unwrap();
            received += frame.into_data().unwrap().len() as u64;
            let asked = theatre.media.sent().div_ceil(size);
            assert!(asked <= received / size + 2, "{asked} slices were asked for at {received} bytes");
        }
        settle().await;
        // It is there before it is needed; over a store that takes its time, as soon as the body is asked again.
        if !is_slow() {
            assert_eq!(theatre.media.sent(), (slices + 1) * size);
        }
    }
    drop(body);
}

#[tokio::test(start_paused = true)]
async fn ra4_a_client_that_leaves_costs_the_slices_that_it_has_begun() {
    let size = 512 * 1024;
    let theatre = Theatre::by(SliceLayer::new().size(size), cache_builder(), File::new(100 * size));
    let mut body = theatre.begin(Method::GET, &[]).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    settle().await;
    assert_eq!(theatre.media.sent(), size);
    theatre.range("bytes=0-0").await.told(HIT);
    let fills = theatre.handle.fills();
    assert_eq!((fills.fills, fills.in_flight, fills.held), (0, 0, 0), "{fills:?}");
}

#[test]
fn fa8_memory_stays_flat_for_a_file_that_is_larger_than_the_store() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = MemoryStore::builder().capacity(8 * MIB).max_object(2 * MIB).build();
    let theatre =
        Theatre::by(SliceLayer::new(), CacheLayer::builder(BoxStore::new(store)), File::new(64 * MIB));
    let (peak, received) = alloc::peak(|| {
        runtime.block_on(async {
            let mut body = theatre.begin(Method::GET, &[]).await.unwrap().into_body();
            let mut received = 0;
            while let Some(frame) = body.frame().await {
                received += frame.unwrap().into_data().unwrap().len() as u64;
            }
            received
        })
    });
    assert_eq!(received, 64 * MIB);
    assert!(peak < 16 * MIB, "{peak} bytes were held at one time, of which the store keeps up to 8 MiB");
}

#[tokio::test(start_paused = true)]
async fn ra4_the_first_bytes_do_not_wait_for_the_whole_file() {
    let theatre = Theatre::by(SliceLayer::new(), cache_builder(), File::new(1 << 40));
    let begun = tokio::time::Instant::now();
    let response = theatre.begin(Method::GET, &[]).await.unwrap();
    assert_eq!(response.headers()["content-length"], (1u64 << 40).to_string().as_str());
    let frame = response.into_body().frame().await.unwrap().unwrap();
    assert!(!frame.into_data().unwrap().is_empty());
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(theatre.media.sent() <= MIB);
}
