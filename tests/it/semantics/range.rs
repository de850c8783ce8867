//! Byte ranges (RFC 9110 14) of responses that are stored whole.

use http::Method;

use crate::support::{Bench, Reply, Seen};

async fn ten_digits() -> Bench {
    let bench = Bench::new([Reply::cc("0123456789", "max-age=60")
        .field("etag", "\"a\"")
        .field("content-type", "text/plain")
        .field("last-modified", "Tue, 01 Sep 2026 00:00:00 GMT")]);
    bench.get("/").await;
    bench
}

async fn range(bench: &Bench, range: &str) -> Seen {
    bench.get_with("/", &[("range", range)]).await.told("larder; hit; ttl=60")
}

#[tokio::test]
async fn ra1_a_stored_response_answers_a_single_range() {
    let bench = ten_digits().await;
    for (asked, body, told) in [
        ("bytes=0-1", "01", "bytes 0-1/10"),
        ("bytes=8-", "89", "bytes 8-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
        ("bytes=0-99", "0123456789", "bytes 0-9/10"),
    ] {
        let seen = range(&bench, asked).await.has_body(body);
        assert_eq!((seen.status.as_u16(), seen.field("content-range")), (206, Some(told)));
        assert_eq!(seen.field("content-length"), Some(body.len().to_string().as_str()));
        assert_eq!(seen.field("etag"), Some("\"a\""));
        assert_eq!(seen.age(), Some(0));
    }
    assert_eq!(bench.origin.calls(), 1);
}

#[tokio::test]
async fn ra1_a_stored_response_answers_several_ranges() {
    let bench = ten_digits().await;
    let seen = range(&bench, "bytes=0-1, -2").await;
    assert_eq!(seen.status, 206);
    let kind = seen.field("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let expected = format!(
        "--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n\
         --{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n--{boundary}--\r\n"
    );
    assert_eq!(seen.body, expected);
    assert_eq!(seen.field("content-length"), Some(expected.len().to_string().as_str()));
    assert_eq!(seen.field("content-range"), None);
}

#[tokio::test]
async fn ra1_an_unsatisfiable_range_gets_416() {
    let bench = ten_digits().await;
    let seen = range(&bench, "bytes=10-").await.has_body("");
    assert_eq!((seen.status.as_u16(), seen.field("content-range")), (416, Some("bytes */10")));
    // Nothing by which a cache downstream would keep the 416.
    for name in ["cache-control", "expires", "etag", "last-modified"] {
        assert_eq!(seen.field(name), None, "{name}");
    }
}

#[tokio::test]
async fn ra1_ra3_invalid_and_overlapping_ranges_are_ignored() {
    let bench = ten_digits().await;
    for asked in ["lines=1-2", "bytes=", "bytes=a-b", "bytes=5-1", "bytes=0-1,1-2"] {
        let seen = range(&bench, asked).await.has_body("0123456789");
        assert_eq!(seen.status, 200, "{asked}");
    }
    let head = bench.send(Method::HEAD, "/", &[("range", "bytes=0-1")]).await;
    assert_eq!((head.status.as_u16(), head.field("content-length")), (200, Some("10")));
}

#[tokio::test]
async fn ra1_if_range_and_preconditions_decide_about_the_range() {
    let bench = ten_digits().await;
    for (if_range, status) in [
        ("\"a\"", 206),
        ("\"b\"", 200),
        ("W/\"a\"", 200),
        ("Tue, 01 Sep 2026 00:00:00 GMT", 206),
        ("Tue, 01 Sep 2026 00:00:01 GMT", 200),
    ] {
        let seen = bench.get_with("/", &[("range", "bytes=0-1"), ("if-range", if_range)]).await;
        assert_eq!(seen.status, status, "{if_range}");
    }
    // A 304 outranks a range.
    let seen = bench.get_with("/", &[("range", "bytes=0-1"), ("if-none-match", "\"a\"")]).await;
    assert_eq!(seen.status, 304);
}

#[tokio::test]
async fn a_range_of_a_stored_404_is_ignored() {
    let bench = Bench::new([Reply::cc("gone", "max-age=60").status(404)]);
    bench.get("/").await;
    let seen = bench.get_with("/", &[("range", "bytes=0-1")]).await.has_body("gone");
    assert_eq!(seen.status, 404);
}

#[tokio::test]
async fn the_cache_cuts_the_range_that_the_origin_ignores() {
    let bench = Bench::new([Reply::cc("0123456789", "max-age=60")]);
    let seen = bench.get_with("/", &[("range", "bytes=2-3")]).await.has_body("23");
    assert_eq!(seen.status, 206);
    assert!(bench.get("/").await.has_body("0123456789").is_hit());
}

#[tokio::test]
async fn a_validated_response_answers_a_range() {
    let bench = ten_digits().await;
    bench.later(61);
    bench.origin.then(Reply::new("").status(304).field("etag", "\"a\"").field("cache-control", "max-age=60"));
    let seen = bench.get_with("/", &[("range", "bytes=2-3")]).await.has_body("23");
    assert_eq!(seen.status, 206);
    seen.told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
}

#[tokio::test]
async fn a14_attacks_by_range_are_ignored_or_refused() {
    let bench = ten_digits().await;
    let many: Vec<_> = (0..10_000).map(|number| format!("{number}-{number}")).collect();
    for (asked, status) in [
        (format!("bytes={}", many.join(",")), 200),
        (format!("bytes={}", ["0-"; 50].join(",")), 200),
        ("bytes=-18446744073709551615".to_owned(), 206),
        ("bytes=18446744073709551616-".to_owned(), 416),
        ("bytes=".to_owned(), 200),
    ] {
        let seen = range(&bench, &asked).await;
        assert_eq!(seen.status, status, "{:.40}", asked);
        assert!(seen.body.len() <= 10, "{:.40}", asked);
    }
}
