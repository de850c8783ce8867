//! Origins that say what is not so, refuse, fail or change their minds while a file is sent in slices; and the numbers at the edge.

use http::Method;
use http_body_util::BodyExt;
use larder::{CacheKey, MemoryStore, SliceLayer, StandardPolicy};

use super::media::{File, Odd, SLICE, Theatre};
use crate::support::bench::{heeding, read};
use crate::support::cache_builder;
use crate::support::stores::cache_builder_over;

const MISS: &str = "larder; fwd=uri-miss; stored; ttl=60";
const HIT: &str = "larder; hit; ttl=60";

#[tokio::test]
async fn ra4_an_origin_that_refuses_one_client_takes_no_slices_from_the_others() {
    for status in [302, 400, 401, 403, 407, 429, 451] {
        let file = File::new(4000);
        let theatre = Theatre::new(file.clone());
        theatre.range("bytes=0-1100").await.told(MISS);
        theatre.media.once("2048-3071", Odd::Status(status));
        let seen = theatre.get().await.told(HIT);
        assert!(seen.broken && seen.body == file.bytes(0, 2047), "{status}: {seen:?}");
        theatre.media.asked();
        theatre.get().await.told(HIT).has_body(&file.all());
        let asked = theatre.media.asked();
        assert!(
            !asked.contains(&"0-1023".to_owned()) && !asked.contains(&"1024-2047".to_owned()),
            "{asked:?}"
        );
    }
    // Where it says that there is nothing any more, they go.
    for status in [301, 308, 404, 410] {
        let theatre = Theatre::new(File::new(4000));
        theatre.range("bytes=0-1100").await.told(MISS);
        theatre.media.once("2048-3071", Odd::Status(status));
        assert!(theatre.get().await.told(HIT).broken, "{status}");
        theatre.get().await.told(MISS);
    }
}

#[tokio::test]
async fn ra4_a_slice_whose_content_is_not_as_long_as_it_says_never_makes_a_clean_end() {
    for has_length in [false, true] {
        for bytes in [0, 500, 1023, 1025, 5000] {
            let file = File::new(4000);
            let lies = Odd::Content { bytes, has_length };
            // Once it is asked for again, and what comes of that is right; where it can't be, the answer ends with an error.
            for times in [1, 3] {
                let theatre = Theatre::new(file.clone());
                theatre.range("bytes=0-9").await.told(MISS);
                (0..times).for_each(|_| theatre.media.once("1024-2047", lies.clone()));
                let seen = theatre.get().await.told(HIT);
                match seen.broken {
                    true => assert!(file.all().starts_with(&seen.body), "{lies:?}: {seen:?}"),
                    false => drop(seen.has_body(&file.all())),
                }
                theatre.get().await.has_body(&file.all());
            }
            // The first slice: the client's request is sent as it is, or it ends with an error.
            let theatre = Theatre::new(file.clone());
            theatre.media.once("0-1023", lies.clone());
            let seen = theatre.get().await;
            assert!(seen.broken || seen.body == file.all(), "{lies:?}: {seen:?}");
            assert!(file.all().starts_with(&seen.body), "{lies:?}: {seen:?}");
            theatre.get().await.has_body(&file.all());
        }
    }
}

#[tokio::test]
async fn ra4_several_parts_are_no_slice() {
    let file = File::new(4000);
    let theatre = Theatre::new(file.clone());
    theatre.media.once("0-1023", Odd::Multipart);
    theatre.get().await.has_body(&file.all());
    assert_eq!(theatre.media.asked(), ["0-1023", "GET"]);
    let theatre = Theatre::new(file.clone());
    theatre.media.once("1024-2047", Odd::Multipart);
    let seen = theatre.get().await.told(MISS);
    assert!(seen.broken && seen.body == file.bytes(0, 1023), "{seen:?}");
    theatre.get().await.told(MISS).has_body(&file.all());
}

#[tokio::test]
async fn ra4_a_slice_that_may_not_be_stored_is_sent_all_the_same() {
    for control in ["no-store", "private, max-age=60"] {
        let file = File::new(4000);
        let theatre = Theatre::new(file.clone());
        theatre.range("bytes=0-9").await.told(MISS);
        theatre.media.becomes(file.clone().field("cache-control", control));
        theatre.media.asked();
        theatre.get().await.told(HIT).has_body(&file.all());
        assert_eq!(theatre.media.asked(), ["1024-2047", "2048-3071", "3072-4095"]);
        assert_eq!(theatre.handle.statistics().entries, 1, "{control}: nothing of it is stored");
        // When the first one is stale, the origin says so of the whole.
        theatre.later(61);
        theatre.get().await.has_body(&file.all());
        theatre.media.asked();
        theatre.get().await.has_body(&file.all());
        assert_eq!(theatre.media.asked(), ["GET"], "{control}");
    }
}

#[tokio::test]
async fn ra4_what_is_stored_stands_in_for_an_origin_that_is_down() {
    let file = File::new(4000).field("cache-control", "max-age=60, stale-if-error=600");
    let theatre = Theatre::new(file.clone());
    theatre.get().await.told(MISS);
    theatre.later(70);
    for (range, odd) in [("0-1023", Odd::Refuses), ("0-1023", Odd::Status(503))] {
        theatre.media.once(range, odd);
        let seen = theatre.get().await.has_body(&file.all());
        assert!(seen.cache_status().contains("detail=\"stale-if-error\""), "{seen:?}");
    }
    theatre.later(60);
    theatre.media.once("2048-3071", Odd::Status(500));
    let seen = theatre.range("bytes=3000-3500").await.has_body(&file.bytes(3000, 3500));
    assert!(seen.status == 206 && seen.cache_status().contains("detail=\"stale-if-error\""), "{seen:?}");
    // A slice that is not stored can't stand in.
    let theatre = Theatre::new(file.clone());
    theatre.range("bytes=0-1100").await;
    theatre.later(70);
    theatre.media.once("0-1023", Odd::Refuses);
    theatre.media.once("2048-3071", Odd::Refuses);
    let seen = theatre.get().await;
    assert!(seen.broken && seen.body == file.bytes(0, 2047), "{seen:?}");
}

#[tokio::test]
async fn ra4_what_has_no_room_in_slices_is_asked_for_as_it_is() {
    let file = File::new(300_000);
    let store = MemoryStore::builder().capacity(16 << 20).max_object(50_000).build();
    let theatre = Theatre::by(SliceLayer::new().size(100_000), cache_builder_over(store), file.clone());
    theatre.range("bytes=100000-100009").await.has_body(&file.bytes(100_000, 100_009));
    assert_eq!(theatre.media.asked(), ["100000-199999", "100000-100009"]);
    theatre.range("bytes=100000-100009").await.has_body(&file.bytes(100_000, 100_009));
    assert_eq!(theatre.media.asked(), ["100000-100009"]);
    // That is forgotten after half a minute.
    theatre.later(31);
    theatre.range("bytes=100000-100009").await;
    assert_eq!(theatre.media.asked()[0], "100000-199999");
}

#[tokio::test]
async fn ra4_what_is_asked_for_if_it_is_stored_begins_only_if_it_is_and_is_sent_to_its_end() {
    let file = File::new(4000);
    let theatre = Theatre::with(heeding(), file.clone());
    let stored = [("cache-control", "only-if-cached")];
    assert_eq!(theatre.send(Method::GET, &stored).await.status, 504);
    assert_eq!(theatre.media.asked(), [""; 0]);
    theatre.range("bytes=0-1100").await.told(MISS);
    theatre.media.asked();
    theatre.send(Method::GET, &stored).await.told(HIT).has_body(&file.all());
    assert_eq!(theatre.media.asked(), ["2048-3071", "3072-4095"]);
}

#[tokio::test]
async fn ra4_a_hard_purge_within_an_answer_ends_it_only_if_the_file_has_changed() {
    for is_changed in [false, true] {
        for target in [None, Some(())] {
            let file = File::new(4000);
            let theatre = Theatre::new(file.clone());
            theatre.get().await.told(MISS);
            let response = theatre.begin(Method::GET, &[]).await.unwrap();
            let film = http::Uri::from_static("http://example.com/film");
            if is_changed {
                theatre.media.becomes(file.clone().changed());
            }
            match target {
                None => theatre.handle.purge(&film).await.unwrap(),
                Some(()) => {
                    let key = CacheKey::from_uri(&film).unwrap();
                    theatre.handle.purge_target(&larder::store::PurgeTarget::Key(key)).await.unwrap()
                }
            };
            theatre.media.asked();
            let seen = read(response).await;
            assert_eq!(seen.broken, is_changed, "{seen:?}");
            if !is_changed {
                assert_eq!(seen.body, file.all());
                assert_eq!(theatre.media.asked(), ["1024-2047", "2048-3071", "3072-4095"]);
            }
        }
    }
}

#[tokio::test]
async fn ra4_the_latest_word_of_the_origin_holds_for_slices_that_came_before() {
    let file = File::new(4000);
    let theatre = Theatre::new(file.clone().field("cache-control", "max-age=3600"));
    theatre.range("bytes=0-9").await;
    theatre.later(100);
    theatre.media.becomes(file.clone());
    theatre.range("bytes=2048-2050").await.told(MISS);
    // A hit on the older slice, which counts as fresh for long, says nothing of the newer one.
    theatre.later(50);
    theatre.range("bytes=0-9").await.told("larder; hit; ttl=3450");
    theatre.media.asked();
    theatre.later(11);
    let validated = "larder; fwd=stale; fwd-status=304; stored; ttl=60";
    theatre.range("bytes=2048-2050").await.told(validated);
    assert_eq!(theatre.media.asked(), ["2048-3071 unless \"a\""]);
    // What has to be validated each time by now is not fresh by an earlier word.
    let theatre = Theatre::with(heeding(), file.clone());
    theatre.range("bytes=0-2000").await;
    theatre.later(61);
    theatre.media.becomes(file.clone().field("cache-control", "max-age=3600"));
    theatre.range("bytes=0-9").await;
    theatre.range("bytes=1024-1030").await.told("larder; hit; ttl=3600");
    theatre.media.becomes(file.field("cache-control", "no-cache"));
    theatre.send(Method::GET, &[("range", "bytes=0-9"), ("cache-control", "no-cache")]).await;
    theatre.media.asked();
    theatre.range("bytes=1024-1030").await;
    assert_eq!(theatre.media.asked(), ["1024-2047 unless \"a\""]);
}

#[tokio::test]
async fn ra4_lengths_at_the_edge_of_all_numbers_are_no_trouble() {
    let length = u64::MAX - 1;
    let file = File::new(length);
    let theatre = Theatre::by(SliceLayer::new().size(SLICE), cache_builder(), file.clone());
    for (range, first) in
        [("bytes=-10", length - 10), ("bytes=18446744073709551600-", 18_446_744_073_709_551_600)]
    {
        let seen = theatre.range(range).await.has_body(&file.bytes(first, length - 1));
        assert_eq!(seen.status, 206, "{range}");
    }
    let response = theatre.begin(Method::GET, &[]).await.unwrap();
    assert_eq!(response.headers()["content-length"], length.to_string().as_str());
    assert!(response.into_body().frame().await.unwrap().is_ok());
    // Together with what stands between them, they are longer than any number.
    let both = [("range", "bytes=0-9223372036854775807,9223372036854775808-")];
    let response = theatre.begin(Method::GET, &both).await.unwrap();
    assert_eq!(response.headers()["content-length"], u64::MAX.to_string().as_str());
    assert!(response.into_body().frame().await.unwrap().is_ok());
}

#[tokio::test]
async fn a15_many_ranges_in_one_slice_cost_one_slice() {
    let file = File::new(20_000);
    let theatre = Theatre::with(cache_builder().policy(StandardPolicy::default()), file.clone());
    let ranges = (0..40).map(|at| format!("{0}-{0}", 2048 + 20 * at)).collect::<Vec<_>>().join(",");
    for _ in 0..2 {
        let seen = theatre.range(&format!("bytes={ranges}")).await;
        assert_eq!(seen.status, 206);
        assert_eq!(seen.body.matches("Content-Range: bytes").count(), 40);
    }
    assert_eq!(theatre.media.asked(), ["2048-3071"]);
    // Backwards, each of them asks for it again.
    let back = (0..40).rev().map(|at| format!("{0}-{0}", 2048 + 20 * at)).collect::<Vec<_>>().join(",");
    theatre.range(&format!("bytes={back}")).await;
    assert_eq!(theatre.media.asked(), [back]);
}
