//! What clients get that ask for all of a file, or for ranges of it.

use std::sync::{Arc, Mutex};

use http::Method;
use larder::{CachePolicyExt, Event, RequestAction, SliceLayer, StandardPolicy};

use super::media::{File, Odd, Theatre};
use crate::support::stores::is_slow;
use crate::support::{Seen, cache_builder};

const MISS: &str = "larder; fwd=uri-miss; stored; ttl=60";
const HIT: &str = "larder; hit; ttl=60";

#[track_caller]
fn check(seen: &Seen, status: u16, fields: &[(&str, Option<&str>)]) {
    assert_eq!(seen.status, status, "{seen:?}");
    for (name, value) in fields {
        assert_eq!(seen.field(name), *value, "{name}: {seen:?}");
    }
    assert!(!seen.broken, "{seen:?}");
}

#[tokio::test]
async fn ra4_a_get_is_joined_from_slices_and_costs_the_origin_nothing_again() {
    let file = File::new(2500).field("content-type", "video/mp4").field("content-md5", "of the slice");
    let theatre = Theatre::new(file.clone());
    let seen = theatre.get().await.told(MISS).has_body(&file.all());
    let fields = [
        ("content-length", Some("2500")),
        ("content-range", None),
        ("content-md5", None),
        ("content-type", Some("video/mp4")),
        ("etag", Some("\"a\"")),
    ];
    check(&seen, 200, &fields);
    assert_eq!(theatre.media.asked(), ["0-1023", "1024-2047", "2048-3071"]);
    let seen = theatre.get().await.told(HIT).has_body(&file.all());
    check(&seen, 200, &fields);
    assert_eq!(theatre.media.asked(), [""; 0]);
}

#[tokio::test]
async fn ra4_a_range_costs_the_slices_that_it_touches() {
    let file = File::new(10_000);
    let theatre = Theatre::new(file.clone());
    for (asked, first, last, cost) in [
        ("bytes=5000-5009", 5000, 5009, vec!["4096-5119"]),
        ("bytes=5100-5200", 5100, 5200, vec!["5120-6143"]),
        ("bytes=4096-6143", 4096, 6143, vec![]),
        ("bytes=9990-", 9990, 9999, vec!["9216-10239"]),
        ("bytes=-1", 9999, 9999, vec!["0-1023"]),
        ("bytes=-800", 9200, 9999, vec!["8192-9215"]),
        ("bytes=0-0", 0, 0, vec![]),
        ("bytes=9999-20000", 9999, 9999, vec![]),
    ] {
        let seen = theatre.range(asked).await.has_body(&file.bytes(first, last));
        let told = format!("bytes {first}-{last}/10000");
        let length = (last - first + 1).to_string();
        check(&seen, 206, &[("content-range", Some(&told)), ("content-length", Some(&length))]);
        assert_eq!(theatre.media.asked(), cost, "{asked}");
    }
}

#[tokio::test]
async fn ra4_a_kibibyte_of_ten_gibibytes_costs_one_slice() {
    let file = File::new(10 << 30);
    let theatre = Theatre::by(SliceLayer::new(), cache_builder(), file.clone());
    let first = 7 << 30;
    let asked = format!("bytes={first}-{}", first + 1023);
    let seen = theatre.range(&asked).await.told(MISS).has_body(&file.bytes(first, first + 1023));
    check(&seen, 206, &[("content-range", Some(&format!("bytes {first}-{}/{}", first + 1023, 10u64 << 30)))]);
    crate::support::settle().await;
    assert_eq!((theatre.media.asked().len(), theatre.media.sent()), (1, 1 << 20));
    theatre.range(&asked).await.told(HIT);
    assert_eq!(theatre.media.sent(), 1 << 20);
}

#[tokio::test]
async fn ra4_several_ranges_come_as_multipart_in_the_order_asked_for() {
    let file = File::new(5000).field("content-type", "video/mp4");
    let theatre = Theatre::new(file.clone());
    let seen = theatre.range("bytes=3000-3009,10-19,1020-1030,0-4").await;
    let kind = seen.field("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap().to_owned();
    let mut expected = String::new();
    for (first, last) in [(3000, 3009), (10, 19), (1020, 1030), (0, 4)] {
        let head = format!("Content-Type: video/mp4\r\nContent-Range: bytes {first}-{last}/5000\r\n\r\n");
        expected.push_str(&format!("--{boundary}\r\n{head}{}\r\n", file.bytes(first, last)));
    }
    expected.push_str(&format!("--{boundary}--\r\n"));
    let length = expected.len().to_string();
    check(&seen, 206, &[("content-length", Some(&length)), ("content-range", None)]);
    let seen = seen.has_body(&expected);
    assert!(seen.fields.get("content-range").is_none());
    assert_eq!(theatre.media.asked(), ["0-1023", "2048-3071", "1024-2047"]);
}

#[tokio::test]
async fn a15_ranges_that_overlap_get_the_whole_and_scattered_ones_are_left_to_the_origin() {
    let file = File::new(20_000);
    let theatre = Theatre::new(file.clone());
    let seen = theatre.range("bytes=0-10,5-15").await.has_body(&file.all());
    check(&seen, 200, &[]);
    let theatre = Theatre::new(file.clone());
    let scattered = (0..16).map(|slice| format!("{0}-{0}", slice * 1024)).collect::<Vec<_>>().join(",");
    // The origin of these tests answers with the first of several ranges.
    let seen = theatre.range(&format!("bytes={scattered}")).await.has_body(&file.bytes(0, 0));
    check(&seen, 206, &[]);
    assert_eq!(theatre.media.asked(), ["0-1023".to_owned(), scattered]);
    assert_eq!(theatre.media.sent(), 1025);
}

#[tokio::test]
async fn ra4_files_of_whole_slices_end_where_they_end() {
    for length in [1023, 1024, 1025, 2048, 4096] {
        let file = File::new(length);
        let theatre = Theatre::new(file.clone());
        let seen = theatre.get().await.told(MISS).has_body(&file.all());
        check(&seen, 200, &[("content-length", Some(&length.to_string()))]);
        assert_eq!(theatre.media.asked().len() as u64, length.div_ceil(1024), "{length}");
        theatre.get().await.told(HIT).has_body(&file.all());
        let seen = theatre.range(&format!("bytes={}-", length - 1)).await.told(HIT);
        seen.has_body(&file.bytes(length - 1, length - 1));
        assert_eq!(theatre.media.asked(), [""; 0], "{length}");
    }
}

#[tokio::test]
async fn ra4_a_file_of_one_slice_is_stored_whole() {
    // No validator is needed: nothing is joined.
    let file = File::new(700).without("etag").field("content-type", "text/html");
    let theatre = Theatre::with(cache_builder().without_tagging(), file.clone());
    let seen = theatre.get().await.told(MISS).has_body(&file.all());
    check(&seen, 200, &[("content-range", None), ("content-length", Some("700"))]);
    theatre.range("bytes=10-19").await.told(HIT).has_body(&file.bytes(10, 19));
    theatre.get().await.told(HIT).has_body(&file.all());
    assert_eq!(theatre.media.asked(), ["0-1023"]);
}

#[tokio::test]
async fn ra4_several_ranges_of_a_file_of_one_slice_without_a_validator_come_whole_in_any_order() {
    for stored in ["max-age=60", "no-store"] {
        for tag in ["", "W/\"a\""] {
            let file = File::new(700).field("cache-control", stored).field("etag", tag);
            let file = if tag.is_empty() { file.without("etag") } else { file };
            let theatre = Theatre::with(cache_builder().without_tagging(), file.clone());
            // The origin of these tests answers with the first of several ranges.
            let back = theatre.range("bytes=500-600,0-100").await;
            check(&back, 206, &[]);
            let asked = theatre.media.asked();
            // What is not stored goes to the origin as it is, and so does what a store that takes its time does not have yet.
            if stored == "no-store" || (is_slow() && asked.len() == 2) {
                assert_eq!(back.body, file.bytes(500, 600));
                assert_eq!(asked, ["0-1023", "500-600,0-100"]);
            } else {
                assert!(back.body.contains(&file.bytes(0, 100)) && back.body.contains(&file.bytes(500, 600)));
                assert_eq!(asked, ["0-1023"]);
            }
            let on = theatre.range("bytes=0-100,500-600").await;
            check(&on, 206, &[]);
            assert!(on.body.contains(&file.bytes(0, 100)) && on.body.contains(&file.bytes(500, 600)));
        }
    }
}

#[tokio::test]
async fn ra4_an_empty_file_is_asked_for_as_a_whole() {
    let theatre = Theatre::new(File::new(0));
    let seen = theatre.get().await.has_body("");
    check(&seen, 200, &[("content-range", None)]);
    assert_eq!(theatre.media.asked(), ["0-1023", "GET"]);
    let seen = theatre.range("bytes=0-9").await.told(HIT);
    check(&seen, 416, &[("content-range", Some("bytes */0"))]);
    assert_eq!(theatre.media.asked(), [""; 0]);
}

#[tokio::test]
async fn ra4_what_lies_beyond_the_end_is_not_satisfiable() {
    let file = File::new(2500);
    let theatre = Theatre::new(file.clone());
    // In a slice that there is.
    let seen = theatre.range("bytes=2600-").await.told(MISS).has_body("");
    check(&seen, 416, &[("content-range", Some("bytes */2500")), ("etag", None), ("content-type", None)]);
    assert_eq!(theatre.media.asked(), ["2048-3071"]);
    // In one that there is not.
    let seen = theatre.range("bytes=90000-").await.has_body("");
    check(&seen, 416, &[("content-range", Some("bytes */2500"))]);
    assert_eq!(theatre.media.asked(), ["89088-90111"]);
    let seen = theatre.range("bytes=-0").await;
    check(&seen, 416, &[("content-range", Some("bytes */2500"))]);
    // The conditions, and what else is asked for, come first.
    let seen = theatre.send(Method::GET, &[("range", "bytes=90000-"), ("if-range", "\"old\"")]).await;
    check(&seen, 200, &[]);
    let seen = theatre.send(Method::GET, &[("range", "bytes=90000-"), ("if-none-match", "\"a\"")]).await;
    check(&seen, 304, &[]);
}

#[tokio::test]
async fn ra4_head_is_answered_by_the_first_slice() {
    let file = File::new(5000);
    let theatre = Theatre::new(file.clone());
    let seen = theatre.send(Method::HEAD, &[("range", "bytes=4000-")]).await.told(MISS).has_body("");
    check(&seen, 200, &[("content-length", Some("5000")), ("content-range", None)]);
    assert_eq!(theatre.media.asked(), ["0-1023"]);
    theatre.send(Method::HEAD, &[]).await.told(HIT).has_body("");
    theatre.range("bytes=0-9").await.told(HIT).has_body(&file.bytes(0, 9));
    assert_eq!(theatre.media.asked(), [""; 0]);
    // Where a HEAD is not sent as a GET, it is sent as it is.
    let policy = StandardPolicy::default().head_as_get(false);
    let theatre = Theatre::with(cache_builder().policy(policy), file);
    let seen = theatre.send(Method::HEAD, &[]).await;
    check(&seen, 200, &[("content-range", None)]);
    assert_eq!(theatre.media.asked(), ["HEAD"]);
}

#[tokio::test]
async fn ra4_conditions_are_evaluated_once_on_the_first_slice() {
    let modified = "Sun, 06 Nov 1994 08:49:37 GMT";
    let file = File::new(5000).field("last-modified", modified).field("vary", "accept");
    let theatre = Theatre::new(file.clone());
    for (name, value, status) in [
        ("if-none-match", "\"a\"", 304),
        ("if-none-match", "W/\"a\"", 304),
        ("if-none-match", "\"b\"", 200),
        ("if-modified-since", modified, 304),
        ("if-match", "\"b\"", 412),
        ("if-match", "\"a\"", 200),
        ("if-unmodified-since", "Sun, 06 Nov 1994 08:49:36 GMT", 412),
    ] {
        let seen = theatre.send(Method::GET, &[(name, value)]).await;
        check(&seen, status, &[]);
        assert!(seen.field("cache-status").is_some(), "{name}: {value}");
        let has_content = status == 200;
        assert_eq!(seen.field("content-length").is_some(), has_content, "{name}: {value}");
        assert_eq!(seen.body.is_empty(), !has_content, "{name}: {value}");
        let is_head = theatre.send(Method::HEAD, &[(name, value)]).await;
        check(&is_head, status, &[]);
    }
    // No condition has gone to the origin, and each slice was asked for once.
    assert_eq!(theatre.media.asked().len(), 5);
    let seen = theatre.send(Method::GET, &[("if-none-match", "\"a\"")]).await.told(HIT);
    check(&seen, 304, &[("etag", Some("\"a\"")), ("vary", Some("accept")), ("content-range", None)]);
}

#[tokio::test]
async fn ra4_if_range_decides_between_the_range_and_the_whole() {
    let modified = "Sun, 06 Nov 1994 08:49:37 GMT";
    let file = File::new(3000).field("last-modified", modified);
    let theatre = Theatre::new(file.clone());
    let seen = theatre.send(Method::GET, &[("range", "bytes=2050-2059"), ("if-range", "\"a\"")]).await;
    check(&seen.has_body(&file.bytes(2050, 2059)), 206, &[]);
    assert_eq!(theatre.media.asked(), ["2048-3071"]);
    for if_range in ["\"b\"", "W/\"a\"", "Sun, 06 Nov 1994 08:49:36 GMT"] {
        let seen = theatre.send(Method::GET, &[("range", "bytes=2050-2059"), ("if-range", if_range)]).await;
        check(&seen.has_body(&file.all()), 200, &[("content-length", Some("3000"))]);
    }
    assert_eq!(theatre.media.asked(), ["0-1023", "1024-2047"]);
    let seen = theatre.send(Method::GET, &[("range", "bytes=5-9"), ("if-range", modified)]).await;
    check(&seen.has_body(&file.bytes(5, 9)), 206, &[]);
}

#[tokio::test]
async fn ra4_ranges_that_nobody_understands_get_the_whole() {
    let file = File::new(3000);
    let theatre = Theatre::new(file.clone());
    for range in ["lines=1-2", "bytes=", "bytes=9-5", "bytes=a-b"] {
        let seen = theatre.range(range).await.has_body(&file.all());
        check(&seen, 200, &[]);
    }
    assert_eq!(theatre.media.asked().len(), 3);
}

#[tokio::test]
async fn ra4_only_the_requests_that_are_meant_are_sliced() {
    let file = File::new(3000);
    let layer = SliceLayer::new().size(1024).when(|request| request.headers.contains_key("x-large"));
    let theatre = Theatre::by(layer, cache_builder(), file.clone());
    theatre.get().await.told(MISS).has_body(&file.all());
    assert_eq!(theatre.media.asked(), ["GET"]);
    // What is stored whole answers all.
    let seen = theatre.send(Method::GET, &[("x-large", "1"), ("range", "bytes=2000-2009")]).await;
    seen.told(HIT).has_body(&file.bytes(2000, 2009));
    theatre.send(Method::POST, &[("x-large", "1")]).await;
    assert_eq!(theatre.media.asked(), ["POST"]);
}

#[tokio::test]
async fn ra4_a_request_that_the_policy_bypasses_goes_as_it_is() {
    let file = File::new(3000);
    let policy = StandardPolicy::default().map_request(|request, action| {
        if request.headers.contains_key("x-by") { RequestAction::bypass("test") } else { action }
    });
    let theatre = Theatre::with(cache_builder().policy(policy), file.clone());
    let seen = theatre.send(Method::GET, &[("x-by", "1"), ("range", "bytes=2000-2009")]).await;
    check(&seen.has_body(&file.bytes(2000, 2009)), 206, &[]);
    assert_eq!(theatre.media.asked(), ["2000-2009"]);
}

#[tokio::test]
async fn ra4_observers_see_each_slice_as_a_request_for_the_uri() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let events = Arc::clone(&seen);
    let builder = cache_builder().observer(move |event: &Event<'_>| {
        if let Event::Answered { key: Some(key), outcome, .. } = event {
            let uri = String::from_utf8(key.uri().to_vec()).unwrap();
            events.lock().unwrap().push(format!("{uri} {}", outcome.kind().as_str()));
        }
    });
    let theatre = Theatre::with(builder, File::new(2000));
    theatre.get().await;
    theatre.range("bytes=0-9").await;
    let film = |kind: &str| format!("http://example.com/film {kind}");
    assert_eq!(*seen.lock().unwrap(), [film("miss"), film("miss"), film("hit")]);
}

#[tokio::test]
async fn ra4_a_slice_that_fails_ends_the_answer_and_the_rest_stays() {
    let file = File::new(4000);
    let theatre = Theatre::new(file.clone());
    for odd in [Odd::Refuses, Odd::Status(503)] {
        theatre.media.once("2048-3071", odd);
        let seen = theatre.get().await;
        assert_eq!((seen.status.as_u16(), seen.broken), (200, true), "{seen:?}");
        assert!(file.all().starts_with(&seen.body) && seen.body.len() >= 2048, "{seen:?}");
    }
    theatre.media.asked();
    theatre.get().await.told(HIT).has_body(&file.all());
    assert_eq!(theatre.media.asked(), ["2048-3071", "3072-4095"]);
    // A failure of the first slice is the answer.
    let theatre = Theatre::new(file.without("cache-control"));
    theatre.media.once("0-1023", Odd::Status(503));
    assert_eq!(theatre.get().await.status, 503);
    theatre.media.once("0-1023", Odd::Refuses);
    assert!(theatre.begin(Method::GET, &[]).await.is_err());
}

#[tokio::test]
async fn ra4_a_slice_that_breaks_off_is_asked_for_again_and_not_for_ever() {
    let file = File::new(4000);
    let theatre = Theatre::new(file.clone());
    theatre.media.once("2048-3071", Odd::Breaks(100));
    theatre.media.once("2048-3071", Odd::Breaks(0));
    theatre.get().await.has_body(&file.all());
    assert_eq!(theatre.media.asked().iter().filter(|asked| *asked == "2048-3071").count(), 3);
    theatre.handle.purge(&"http://example.com/film".parse().unwrap()).await.unwrap();
    for _ in 0..3 {
        theatre.media.once("2048-3071", Odd::Breaks(100));
    }
    let seen = theatre.get().await;
    assert!(seen.broken && seen.body.len() == 2148, "{seen:?}");
    // What comes instead is checked as any slice.
    theatre.handle.purge(&"http://example.com/film".parse().unwrap()).await.unwrap();
    theatre.range("bytes=0-2000").await;
    theatre.media.once("2048-3071", Odd::Breaks(100));
    theatre.media.once("2048-3071", Odd::ContentRange("bytes 0-9/4000"));
    let seen = theatre.get().await;
    assert!(seen.broken && seen.body == file.bytes(0, 2147), "{seen:?}");
}

#[tokio::test]
async fn ra4_trailers_of_slices_are_not_those_of_the_file() {
    let file = File::new(3000).field("trailer", "x-checksum");
    let theatre = Theatre::new(file.clone());
    for slice in ["0-1023", "1024-2047", "2048-3071"] {
        theatre.media.once(slice, Odd::Trailer);
    }
    for told in [MISS, HIT] {
        let seen = theatre.get().await.told(told).has_body(&file.all());
        check(&seen, 200, &[("trailer", None), ("content-length", Some("3000"))]);
        assert_eq!(seen.trailers, None);
    }
}
