//! Files that change, and purges: no answer has bytes of two versions, and a purge of the URL takes every slice.

use http::{Method, Uri};
use larder::CacheKey;
use larder::store::PurgeTarget;

use super::media::{File, Odd, Theatre};

const MISS: &str = "larder; fwd=uri-miss; stored; ttl=60";
const HIT: &str = "larder; hit; ttl=60";

fn film() -> Uri {
    Uri::from_static("http://example.com/film")
}

#[tokio::test]
async fn ra4_a_change_between_two_slices_ends_the_answer_and_purges_them() {
    let old = File::new(4000);
    let changes: [fn(File) -> File; 4] = [
        File::changed,
        // The same tag, and another length.
        |file| File { length: 5000, ..file },
        |file| file.field("content-encoding", "gzip"),
        |file| file.without("etag").field("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ];
    for change in changes {
        let new = change(old.clone());
        let theatre = Theatre::new(old.clone());
        theatre.range("bytes=0-1100").await.told(MISS);
        theatre.media.becomes(new.clone());
        let seen = theatre.get().await.told(HIT);
        assert!(seen.broken, "{seen:?}");
        assert_eq!(seen.body, old.bytes(0, 2047), "no byte of the new one");
        theatre.media.asked();
        let seen = theatre.get().await.told(MISS).has_body(&new.all());
        assert!(!seen.broken, "{seen:?}");
        assert_eq!(theatre.media.asked().len() as u64, new.length.div_ceil(1024));
    }
}

#[tokio::test]
async fn ra4_a_file_that_is_gone_in_between_ends_the_answer_and_purges_the_slices() {
    for odd in [Odd::Status(404), Odd::Status(416), Odd::ContentRange("bytes 0-9/4000")] {
        let file = File::new(4000);
        let theatre = Theatre::new(file.clone());
        theatre.media.once("2048-3071", odd);
        let seen = theatre.get().await.told(MISS);
        assert!(seen.broken && seen.body == file.bytes(0, 2047), "{seen:?}");
        theatre.media.asked();
        theatre.get().await.told(MISS).has_body(&file.all());
        assert_eq!(theatre.media.asked().len(), 4);
    }
}

#[tokio::test]
async fn ra4_a_stored_slice_of_another_version_is_asked_for_again() {
    // The slice of an old version is still fresh, and nothing of it is sent.
    let (old, new) = (File::new(4000), File::new(4000).changed());
    let theatre = Theatre::new(old.clone());
    theatre.range("bytes=2048-2049").await.told(MISS);
    theatre.media.becomes(new.clone());
    theatre.media.asked();
    let seen = theatre.get().await.told(MISS).has_body(&new.all());
    assert!(!seen.broken, "{seen:?}");
    assert_eq!(theatre.media.asked(), ["0-1023", "1024-2047", "2048-3071", "3072-4095"]);
    theatre.get().await.told(HIT).has_body(&new.all());
    assert_eq!(theatre.media.asked(), [""; 0]);
}

#[tokio::test]
async fn ra4_an_origin_with_two_versions_at_once_is_asked_for_the_whole() {
    let (one, other) = (File::new(4000), File::new(4000).changed());
    let theatre = Theatre::new(one.clone());
    for _ in 0..2 {
        theatre.media.becomes(one.clone());
        theatre.range("bytes=0-9").await;
        theatre.media.becomes(other.clone());
        assert!(theatre.get().await.broken);
    }
    theatre.media.asked();
    theatre.get().await.told(MISS).has_body(&other.all());
    assert_eq!(theatre.media.asked(), ["GET"]);
}

/// Slices 0, 2 and 4 of a file of 6: there are gaps, and the last ones are missing.
async fn with_gaps() -> Theatre {
    let file = File::new(6000).field("surrogate-key", "films").field("cache-groups", "\"films\"");
    let theatre = Theatre::new(file);
    for first in [0, 2048, 4096] {
        theatre.range(&format!("bytes={first}-{first}")).await.told(MISS);
    }
    assert_eq!(theatre.handle.statistics().entries, 3);
    theatre.media.asked();
    theatre
}

/// trafficserver#13475, #4790: a purge stopped at the first slice that was not there, or took the first one only.
#[tokio::test]
async fn ra4_a_purge_of_the_url_takes_every_slice_also_behind_gaps() {
    let purges: Vec<(&str, PurgeTarget)> = vec![
        ("URI", PurgeTarget::Uri(b"http://example.com/film".as_slice().into())),
        ("tag", PurgeTarget::tag("films")),
        ("prefix", PurgeTarget::Prefix(b"http://example.com/fi".as_slice().into())),
        ("host", PurgeTarget::Host("example.com".into())),
        ("path", PurgeTarget::Path(b"/film".as_slice().into())),
        ("key", PurgeTarget::Key(CacheKey::from_uri(&film()).unwrap())),
        ("all", PurgeTarget::All),
    ];
    for (name, target) in purges {
        let theatre = with_gaps().await;
        theatre.handle.purge_target(&target).await.unwrap();
        for first in [4096, 0, 2048] {
            let seen = theatre.range(&format!("bytes={first}-{first}")).await;
            assert!(!seen.is_hit(), "{name} {first}: {seen:?}");
        }
        assert_eq!(theatre.media.asked(), ["4096-5119", "0-1023", "2048-3071"], "{name}");
    }
    let theatre = with_gaps().await;
    theatre.handle.purge(&film()).await.unwrap();
    theatre.range("bytes=4096-4096").await.told(MISS);
}

#[tokio::test]
async fn ra4_a_successful_unsafe_request_takes_every_slice() {
    let theatre = with_gaps().await;
    for method in [Method::DELETE, Method::PATCH, Method::POST, Method::PUT] {
        theatre.send(method.clone(), &[]).await;
        theatre.media.asked();
        for first in [4096, 0, 2048] {
            theatre.range(&format!("bytes={first}-{first}")).await.told(MISS);
        }
        assert_eq!(theatre.media.asked(), ["4096-5119", "0-1023", "2048-3071"], "{method}");
    }
}

#[tokio::test]
async fn ra4_what_was_purged_softly_is_validated_before_it_is_sent() {
    let theatre = with_gaps().await;
    theatre.later(5);
    theatre.handle.soft_purge(&film()).await.unwrap();
    let told = "larder; fwd=stale; fwd-status=304; stored; ttl=60";
    theatre.range("bytes=2048-2048").await.told(told);
    assert_eq!(theatre.media.asked(), ["2048-3071 unless \"a\""]);
    // That was a validation of all slices.
    theatre.range("bytes=0-0").await.told(HIT);
    theatre.range("bytes=4096-4096").await.told(HIT);
    assert_eq!(theatre.media.asked(), [""; 0]);
    // A validation from before the purge is none.
    theatre.later(5);
    theatre.handle.soft_purge(&film()).await.unwrap();
    theatre.media.becomes(File::new(6000).changed());
    theatre.range("bytes=0-0").await.told("larder; fwd=stale; stored; ttl=60");
    assert_eq!(theatre.media.asked(), ["0-1023 unless \"a\""]);
}

#[tokio::test]
async fn ra4_a_soft_purge_within_an_answer_counts_for_the_slices_that_follow() {
    let file = File::new(4000);
    let theatre = Theatre::new(file.clone());
    theatre.get().await;
    theatre.media.asked();
    let response = theatre.begin(Method::GET, &[]).await.unwrap();
    theatre.later(5);
    theatre.handle.soft_purge(&film()).await.unwrap();
    theatre.media.becomes(file.clone().changed());
    let seen = crate::support::bench::read(response).await;
    assert!(seen.broken, "the rest is of another version by now: {seen:?}");
    assert_eq!(seen.body, file.bytes(0, 1023));
}
