//! Files that can't be had in slices, or must not be: they are asked for as they are, and that is remembered.

use http::Method;
use larder::{MemoryStore, StandardPolicy};

use super::media::{File, Odd, Theatre};
use crate::support::cache_builder;
use crate::support::stores::cache_builder_over;

const MISS: &str = "larder; fwd=uri-miss; stored; ttl=60";
const HIT: &str = "larder; hit; ttl=60";

#[tokio::test]
async fn ra4_an_origin_without_ranges_gives_the_whole_and_is_remembered() {
    let file = File::new(5000);
    let theatre = Theatre::new(file.clone());
    theatre.media.has_no_ranges();
    theatre.get().await.told(MISS).has_body(&file.all());
    assert_eq!(theatre.media.asked(), ["0-1023"]);
    theatre.get().await.told(HIT).has_body(&file.all());
    // Ranges of it are cut from the whole.
    let seen = theatre.range("bytes=2000-2999").await.told(HIT).has_body(&file.bytes(2000, 2999));
    assert_eq!(seen.status, 206);
    let seen = theatre.send(Method::GET, &[("if-none-match", "\"a\"")]).await.told(HIT);
    assert_eq!(seen.status, 304);
    // When it is stale, the whole is validated.
    theatre.later(61);
    theatre.range("bytes=2000-2999").await.told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
    assert_eq!(theatre.media.asked(), ["GET unless \"a\""]);
}

#[tokio::test]
async fn ra4_a_range_from_an_origin_without_ranges_is_asked_for_as_a_whole_from_then_on() {
    let file = File::new(5000);
    let theatre = Theatre::new(file.clone());
    theatre.media.has_no_ranges();
    // Small content is there at once, and cut.
    let seen = theatre.range("bytes=3000-3009").await;
    assert_eq!((seen.status.as_u16(), seen.body.len()), (206, 10), "{seen:?}");
    assert_eq!(theatre.media.asked(), ["2048-3071", "3000-3009"]);
    theatre.get().await.told(HIT).has_body(&file.all());
    assert_eq!(theatre.media.asked(), [""; 0]);
}

#[tokio::test]
async fn ra4_conditions_hold_for_what_comes_whole() {
    let theatre = Theatre::new(File::new(5000));
    theatre.media.has_no_ranges();
    let seen = theatre.send(Method::GET, &[("if-none-match", "\"a\"")]).await.told(MISS);
    assert_eq!((seen.status.as_u16(), seen.body.as_str()), (304, ""));
    assert_eq!(theatre.media.asked(), ["0-1023"]);
    theatre.send(Method::HEAD, &[]).await.told(HIT).has_body("");
}

#[tokio::test]
async fn ra4_what_is_too_large_for_the_store_and_has_no_ranges_is_remembered() {
    let file = File::new(300_000);
    let store = MemoryStore::builder().capacity(16 << 20).max_object(100_000).build();
    let theatre = Theatre::with(cache_builder_over(store), file.clone());
    theatre.media.has_no_ranges();
    let too_large = "larder; fwd=uri-miss; detail=\"too-large\"";
    theatre.get().await.told(too_large).has_body(&file.all());
    theatre.range("bytes=200000-200001").await;
    theatre.media.asked();
    for _ in 0..2 {
        theatre.get().await.told(too_large).has_body(&file.all());
    }
    assert_eq!(theatre.media.asked(), ["GET", "GET"]);
    // After half a minute it is tried again.
    theatre.later(31);
    theatre.get().await;
    assert_eq!(theatre.media.asked(), ["0-1023"]);
}

#[tokio::test]
async fn ra4_parts_that_cannot_be_joined_are_not_joined() {
    let odd = |file: File, told| {
        let theatre = Theatre::new(file);
        theatre.media.once("0-1023", Odd::ContentRange(told));
        theatre
    };
    let now = "Tue, 22 Sep 2026 00:00:00 GMT";
    let theatres = [
        // Without a strong validator.
        Theatre::new(File::new(5000).without("etag")),
        Theatre::new(File::new(5000).field("etag", "W/\"a\"")),
        Theatre::new(File::new(5000).without("etag").field("last-modified", now).field("date", now)),
        // Of unknown length, or another part.
        odd(File::new(5000), "bytes 0-9/*"),
        odd(File::new(5000), "bytes 0-9/5000"),
        odd(File::new(5000), "bytes 10-19/5000"),
        odd(File::new(5000), "lines 0-9/5000"),
    ];
    for theatre in theatres {
        let file = File::new(5000);
        let seen = theatre.get().await.has_body(&file.all());
        assert_eq!((seen.status.as_u16(), seen.field("content-range")), (200, None), "{seen:?}");
        assert_eq!(theatre.media.asked(), ["0-1023", "GET"]);
        let seen = theatre.range("bytes=2000-2009").await.told(HIT).has_body(&file.bytes(2000, 2009));
        assert_eq!(seen.status, 206);
        assert_eq!(theatre.media.asked(), [""; 0], "it is stored whole");
    }
}

#[tokio::test]
async fn ra4_what_may_not_be_stored_is_not_sliced() {
    for (name, value) in [
        ("cache-control", "no-store"),
        ("cache-control", "private, max-age=60"),
        ("set-cookie", "id=1"),
        ("vary", "*"),
    ] {
        let file = File::new(5000).field(name, value);
        let theatre = Theatre::new(file.clone());
        let seen = theatre.range("bytes=2000-2999").await.has_body(&file.bytes(2000, 2999));
        assert!(seen.cache_status().contains("detail="), "{name}: {value}: {seen:?}");
        assert_eq!(theatre.media.asked(), ["1024-2047", "2000-2999"], "{name}: {value}");
        theatre.range("bytes=2000-2999").await.has_body(&file.bytes(2000, 2999));
        theatre.get().await.has_body(&file.all());
        assert_eq!(theatre.media.asked(), ["2000-2999", "GET"], "{name}: {value}");
        assert_eq!(theatre.handle.statistics().entries, 0);
    }
}

#[tokio::test]
async fn ra4_what_one_user_gets_is_joined_with_nothing_that_others_get() {
    let file = File::new(5000);
    let theatre = Theatre::new(file.clone());
    let cookie = ("cookie", "id=1");
    // A response to a request with a cookie is not stored, and says nothing of requests without.
    theatre.send(Method::GET, &[cookie]).await.has_body(&file.all());
    assert_eq!(theatre.media.asked(), ["0-1023", "GET"]);
    theatre.get().await.told(MISS).has_body(&file.all());
    assert_eq!(theatre.media.asked().len(), 5);
    theatre.get().await.told(HIT);
    // The user gets nothing of what is stored for others, nor the other way around.
    let own = file.clone().changed();
    theatre.media.becomes(own.clone());
    theatre.send(Method::GET, &[cookie]).await.has_body(&own.all());
    assert_eq!(theatre.media.asked(), ["GET"]);
    theatre.get().await.told(HIT).has_body(&file.all());
}

#[tokio::test]
async fn ra4_variants_have_slices_of_their_own() {
    let file = File::new(3000).field("vary", "accept-language");
    let theatre = Theatre::new(file.clone());
    let german = file.clone().changed();
    theatre.send(Method::GET, &[("accept-language", "en")]).await.told(MISS).has_body(&file.all());
    theatre.media.becomes(german.clone());
    let told = "larder; fwd=vary-miss; stored; ttl=60";
    theatre.send(Method::GET, &[("accept-language", "de")]).await.told(told).has_body(&german.all());
    theatre.media.asked();
    theatre.send(Method::GET, &[("accept-language", "en")]).await.told(HIT).has_body(&file.all());
    theatre.send(Method::GET, &[("accept-language", "de")]).await.told(HIT).has_body(&german.all());
    assert_eq!(theatre.media.asked(), [""; 0]);
}

#[tokio::test]
async fn ra4_errors_and_redirects_are_answered_and_stored_as_they_are() {
    for status in [404, 301, 410] {
        let theatre = Theatre::new(File::new(0));
        theatre.media.once("0-1023", Odd::Status(status));
        assert_eq!(theatre.get().await.told(MISS).status, status);
        assert_eq!(theatre.get().await.told(HIT).status, status);
        assert_eq!(theatre.range("bytes=9000-").await.told(HIT).status, status);
        assert_eq!(theatre.media.asked(), ["0-1023"]);
    }
    // When it is stale, it says nothing of what there is.
    let file = File::new(5000);
    let theatre = Theatre::new(file.clone());
    theatre.media.once("0-1023", Odd::Status(404));
    theatre.get().await;
    theatre.later(61);
    theatre.media.asked();
    theatre.get().await.has_body(&file.all());
    assert_eq!(theatre.media.asked().len(), 5);
}

#[tokio::test]
async fn ra4_a_cache_that_is_switched_off_passes_everything() {
    let file = File::new(5000);
    for builder in [cache_builder().enabled(false), cache_builder().tag_only()] {
        let theatre = Theatre::with(builder, file.clone());
        theatre.range("bytes=2000-2009").await.has_body(&file.bytes(2000, 2009));
        assert_eq!(theatre.media.asked(), ["2000-2009"]);
    }
}

#[tokio::test]
async fn ra4_what_is_admitted_on_the_second_request_is_admitted_slice_by_slice() {
    let file = File::new(3000);
    let admission = larder::policy::Admission::after(2);
    let policy = larder::CachePolicyExt::admit(StandardPolicy::default(), admission);
    let theatre = Theatre::with(cache_builder().policy(policy), file.clone());
    let refused = "larder; fwd=uri-miss; detail=\"admission\"";
    theatre.get().await.told(refused).has_body(&file.all());
    theatre.get().await.told(MISS).has_body(&file.all());
    theatre.media.asked();
    theatre.get().await.told(HIT).has_body(&file.all());
    assert_eq!(theatre.media.asked(), [""; 0]);
}

#[tokio::test]
async fn ra4_no_client_has_a_file_fetched_whole_for_the_others() {
    let file = File::new(5000);
    let theatre = Theatre::new(file.clone());
    theatre.send(Method::GET, &[("cache-control", "no-store")]).await.has_body(&file.all());
    assert_eq!(theatre.media.asked(), ["0-1023", "GET"]);
    theatre.get().await.told(MISS);
    assert_eq!(theatre.media.asked().len(), 5);
    // An origin that has no ranges of what it codes.
    let file = File::new(300_000);
    let store = MemoryStore::builder().capacity(16 << 20).max_object(100_000).build();
    let theatre = Theatre::with(cache_builder_over(store), file.clone());
    theatre.media.has_no_ranges();
    theatre.send(Method::GET, &[("accept-encoding", "br"), ("range", "bytes=3000-3009")]).await;
    theatre.media.has_ranges();
    theatre.media.asked();
    theatre.range("bytes=3000-3009").await.told(MISS).has_body(&file.bytes(3000, 3009));
    assert_eq!(theatre.media.asked(), ["2048-3071"]);
}
