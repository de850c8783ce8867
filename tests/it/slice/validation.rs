//! One validation for all slices of a file.

use http::Method;
use larder::StandardPolicy;

use super::media::{File, Theatre};
use crate::support::bench::heeding;
use crate::support::cache_builder;

const HIT: &str = "larder; hit; ttl=60";
const VALIDATED: &str = "larder; fwd=stale; fwd-status=304; stored; ttl=60";

/// trafficserver#12092, #12047: each slice of a file that had become stale was validated, and its head was written again.
#[tokio::test]
async fn ra4_one_validation_is_for_all_slices_of_an_answer() {
    let file = File::new(5000);
    let theatre = Theatre::new(file.clone());
    theatre.get().await;
    theatre.media.asked();
    theatre.later(61);
    theatre.get().await.told(VALIDATED).has_body(&file.all());
    assert_eq!(theatre.media.asked(), ["0-1023 unless \"a\""]);
}

#[tokio::test]
async fn ra4_a_validation_is_for_later_answers_too_while_it_is_fresh() {
    let file = File::new(5000);
    let theatre = Theatre::new(file.clone());
    theatre.get().await;
    theatre.later(61);
    theatre.range("bytes=0-9").await.told(VALIDATED);
    theatre.media.asked();
    theatre.later(20);
    let seen =
        theatre.range("bytes=4096-4100").await.told("larder; hit; ttl=40").has_body(&file.bytes(4096, 4100));
    assert_eq!(seen.age(), Some(20), "the age of what confirmed it");
    assert_eq!(theatre.media.asked(), [""; 0]);
    theatre.later(40);
    theatre.range("bytes=4096-4100").await.told(VALIDATED);
    assert_eq!(theatre.media.asked(), ["4096-5119 unless \"a\""]);
    // That is one for the first slice as well.
    theatre.range("bytes=0-9").await.told(HIT);
    theatre.get().await.told(HIT).has_body(&file.all());
    assert_eq!(theatre.media.asked(), [""; 0]);
}

#[tokio::test]
async fn ra4_a_validation_says_nothing_of_another_validator() {
    let file = File::new(5000);
    let theatre = Theatre::new(file.clone());
    theatre.get().await;
    theatre.later(61);
    theatre.media.becomes(file.clone().changed());
    theatre.range("bytes=0-9").await.told("larder; fwd=stale; stored; ttl=60");
    theatre.media.asked();
    let seen = theatre.range("bytes=4096-4100").await.told("larder; fwd=stale; stored; ttl=60");
    seen.has_body(&file.clone().changed().bytes(4096, 4100));
    assert_eq!(theatre.media.asked(), ["4096-5119 unless \"a\""]);
    theatre.get().await.told(HIT).has_body(&file.changed().all());
}

#[tokio::test]
async fn ra4_what_has_to_be_validated_each_time_is_validated_once_an_answer() {
    let file = File::new(5000).field("cache-control", "no-cache, max-age=60");
    let theatre = Theatre::new(file.clone());
    theatre.get().await;
    theatre.media.asked();
    for _ in 0..2 {
        theatre.get().await.has_body(&file.all());
        assert_eq!(theatre.media.asked(), ["0-1023 unless \"a\""]);
        theatre.range("bytes=2000-3000").await.has_body(&file.bytes(2000, 3000));
        assert_eq!(theatre.media.asked(), ["1024-2047 unless \"a\""]);
    }
}

#[tokio::test]
async fn ra4_a_reload_validates_the_first_slice_only() {
    let file = File::new(5000);
    let theatre = Theatre::with(heeding(), file.clone());
    theatre.get().await;
    theatre.media.asked();
    let seen = theatre.send(Method::GET, &[("cache-control", "no-cache")]).await;
    seen.told("larder; fwd=request; fwd-status=304; stored; ttl=60").has_body(&file.all());
    assert_eq!(theatre.media.asked(), ["0-1023 unless \"a\""]);
}

#[tokio::test]
async fn ra4_a_date_that_is_a_strong_validator_will_do() {
    let modified = "Sun, 06 Nov 1994 08:49:37 GMT";
    let file = File::new(5000).without("etag").field("last-modified", modified);
    let theatre = Theatre::new(file.clone());
    theatre.get().await.has_body(&file.all());
    assert_eq!(theatre.media.asked().len(), 5);
    theatre.later(61);
    theatre.get().await.told(VALIDATED).has_body(&file.all());
    assert_eq!(theatre.media.asked(), [format!("0-1023 unless {modified}")]);
}

#[tokio::test]
async fn ra4_stale_slices_are_served_while_the_first_one_is_validated() {
    let file = File::new(5000).field("cache-control", "max-age=60, stale-while-revalidate=60");
    let theatre = Theatre::new(file.clone());
    theatre.get().await;
    theatre.media.asked();
    theatre.later(70);
    let told = "larder; hit; ttl=-10; detail=\"stale-while-revalidate\"";
    theatre.get().await.told(told).has_body(&file.all());
    crate::support::settle().await;
    assert_eq!(theatre.media.asked(), ["0-1023 unless \"a\""]);
    theatre.get().await.told(HIT);
}

#[tokio::test]
async fn ra4_what_was_purged_softly_is_validated_once_in_the_background() {
    let file = File::new(5000).field("cache-control", "max-age=60, stale-while-revalidate=60");
    let theatre = Theatre::new(file.clone());
    theatre.get().await;
    theatre.media.asked();
    theatre.later(5);
    theatre.handle.soft_purge(&"http://example.com/film".parse().unwrap()).await.unwrap();
    theatre.later(5);
    let told = "larder; hit; ttl=-5; detail=\"stale-while-revalidate\"";
    theatre.get().await.told(told).has_body(&file.all());
    crate::support::settle().await;
    assert_eq!(theatre.media.asked(), ["0-1023 unless \"a\""]);
    theatre.get().await.told(HIT).has_body(&file.all());
}

#[tokio::test]
async fn ra4_slices_are_stored_by_the_other_rules_of_the_policy() {
    // Whether parts are stored makes no difference.
    for partial in [false, true] {
        let file = File::new(3000);
        let policy = StandardPolicy::default().partial(partial);
        let theatre = Theatre::with(cache_builder().policy(policy), file.clone());
        theatre.get().await.has_body(&file.all());
        theatre.get().await.told(HIT).has_body(&file.all());
        assert_eq!(theatre.media.asked().len(), 3, "{partial}");
    }
}
