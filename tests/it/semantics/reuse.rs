//! Which requests are answered from storage (RFC 9111 4): freshness, age, request directives, preconditions.

use crate::support::{Bench, Reply, cache_builder};

#[tokio::test]
async fn fr1_the_lifetime_comes_from_s_maxage_expires_or_the_heuristic() {
    let bench = Bench::new([Reply::cc("x", "max-age=10, s-maxage=60")]);
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=60");

    let bench = Bench::new([]);
    let expires = bench.date(100);
    bench.origin.then(Reply::new("x").field("expires", &expires));
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=100");
    bench.later(99);
    bench.get("/").await.told("larder; hit; ttl=1");

    let bench = Bench::new([]);
    let modified = bench.date(-1000);
    bench.origin.then(Reply::new("x").field("last-modified", &modified));
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=100");
}

#[tokio::test]
async fn fr4_the_age_includes_the_time_spent_upstream() {
    let bench = Bench::new([Reply::cc("x", "max-age=60").field("age", "30")]);
    let miss = bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=30");
    assert_eq!(miss.age(), Some(30));
    bench.later(20);
    let hit = bench.get("/").await.told("larder; hit; ttl=10");
    assert_eq!(hit.age(), Some(50));
    bench.later(10);
    bench.get("/").await.told("larder; fwd=stale; stored; ttl=30");
}

#[tokio::test]
async fn fr6_date_expires_and_cache_control_are_sent_as_stored() {
    let bench = Bench::new([]);
    let (date, expires) = (bench.date(-5), bench.date(60));
    bench.origin.then(Reply::cc("x", "max-age=60").field("date", &date).field("expires", &expires));
    bench.get("/").await;
    bench.later(7);
    let hit = bench.get("/").await;
    assert_eq!(hit.field("date"), Some(date.as_str()));
    assert_eq!(hit.field("expires"), Some(expires.as_str()));
    assert_eq!(hit.field("cache-control"), Some("max-age=60"));
    assert_eq!(hit.age(), Some(12));
    assert_eq!(hit.fields.get_all("age").iter().count(), 1);
}

#[tokio::test]
async fn re1_request_directives_are_honoured() {
    let bench = Bench::heeding([Reply::cc("x", "max-age=60")]);
    bench.get("/").await;
    bench.later(30);
    let cases = [
        ("max-age=30", "larder; hit; ttl=30"),
        ("min-fresh=30", "larder; hit; ttl=30"),
        ("only-if-cached", "larder; hit; ttl=30"),
        ("no-store", "larder; hit; ttl=30"),
        ("min-fresh=31", "larder; fwd=request; stored; ttl=60"),
    ];
    for (directive, told) in cases {
        bench.get_with("/", &[("cache-control", directive)]).await.told(told);
    }
    bench.later(1);
    for directive in ["max-age=0", "no-cache"] {
        bench
            .get_with("/", &[("cache-control", directive)])
            .await
            .told("larder; fwd=request; stored; ttl=60");
        bench.later(1);
    }
    bench.get_with("/", &[("pragma", "no-cache")]).await.told("larder; fwd=request; stored; ttl=60");
    bench.later(70);
    bench.get_with("/", &[("cache-control", "max-stale=10")]).await.told("larder; hit; ttl=-10");
    bench.get_with("/", &[("cache-control", "max-stale=9")]).await.told("larder; fwd=stale; stored; ttl=60");
}

#[tokio::test]
async fn re1_only_if_cached_gets_504_if_nothing_is_stored() {
    let bench = Bench::new([Reply::cc("x", "max-age=60")]);
    let seen = bench.get_with("/", &[("cache-control", "only-if-cached")]).await;
    assert_eq!(seen.status, 504);
    seen.told("larder; detail=\"only-if-cached\"");
    assert_eq!(bench.origin.calls(), 0);
}

#[tokio::test]
async fn re2_no_cache_is_stored_and_validated_each_time() {
    let bench = Bench::new([
        Reply::cc("x", "no-cache").field("etag", "\"a\""),
        Reply::new("").status(304).field("etag", "\"a\"").field("cache-control", "no-cache"),
    ]);
    bench.get("/").await;
    for _ in 0..2 {
        bench.get("/").await.has_body("x").told("larder; fwd=stale; fwd-status=304; stored; ttl=0");
    }
    assert_eq!(bench.origin.calls(), 3);
}

#[tokio::test]
async fn vl4_preconditions_are_answered_from_storage() {
    let bench = Bench::new([]);
    let modified = bench.date(-1000);
    let earlier = bench.date(-2000);
    bench.origin.then(
        Reply::cc("x", "max-age=60")
            .field("etag", "\"a\"")
            .field("last-modified", &modified)
            .field("content-type", "text/html")
            .field("vary", "accept"),
    );
    bench.get("/").await;
    for (name, value, status) in [
        ("if-none-match", "\"a\"", 304),
        ("if-none-match", "W/\"a\"", 304),
        ("if-none-match", "\"b\", \"a\"", 304),
        ("if-none-match", "*", 304),
        ("if-none-match", "\"b\"", 200),
        ("if-modified-since", &modified, 304),
        ("if-modified-since", &earlier, 200),
        ("if-modified-since", "nonsense", 200),
        ("if-match", "\"a\"", 200),
        ("if-match", "\"b\"", 412),
        ("if-unmodified-since", &earlier, 412),
    ] {
        let seen = bench.get_with("/", &[(name, value)]).await.told("larder; hit; ttl=60");
        assert_eq!(seen.status, status, "{name}: {value}");
        assert_eq!(seen.body.is_empty(), status != 200, "{name}: {value}");
    }
    assert_eq!(bench.origin.calls(), 1);
}

#[tokio::test]
async fn vl5_a_304_has_only_the_fields_that_it_needs() {
    let bench = Bench::new([Reply::cc("x", "max-age=60")
        .field("etag", "\"a\"")
        .field("content-location", "/y")
        .field("content-type", "text/html")
        .field("expires", "0")
        .field("last-modified", "Tue, 01 Sep 2026 00:00:00 GMT")
        .field("vary", "accept")
        .field("x-other", "1")]);
    bench.get("/").await;
    bench.later(3);
    let seen = bench.get_with("/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!(seen.status, 304);
    let mut names: Vec<_> = seen.fields.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    let expected =
        ["age", "cache-control", "cache-status", "content-location", "date", "etag", "expires", "vary"];
    assert_eq!(names, expected);
    assert_eq!(seen.age(), Some(3));
}

#[tokio::test]
async fn vl5_a_304_without_a_tag_has_last_modified() {
    let layer = cache_builder().without_tagging();
    let bench = Bench::with(layer, []);
    let modified = bench.date(-100);
    bench.origin.then(Reply::cc("x", "max-age=60").field("last-modified", &modified));
    bench.get("/").await;
    let seen = bench.get_with("/", &[("if-modified-since", &modified)]).await;
    assert_eq!(seen.status, 304);
    assert_eq!(seen.field("last-modified"), Some(modified.as_str()));
}

#[tokio::test]
async fn re5_immutable_outweighs_a_reload() {
    let bench = Bench::heeding([Reply::cc("x", "max-age=60, immutable")]);
    bench.get("/").await;
    assert!(bench.get_with("/", &[("cache-control", "no-cache")]).await.is_hit());
}

#[tokio::test]
async fn f12_a_response_from_the_future_is_validated() {
    // The clock is set back, by an hour and by ten years, or forward as far.
    for seconds in [3600, 315_360_000] {
        let bench = Bench::new([Reply::cc("x", "max-age=60")]);
        bench.get("/").await;
        bench.later(seconds);
        bench.get("/").await.told("larder; fwd=stale; stored; ttl=60");
        let bench = Bench::new([Reply::cc("x", "max-age=60")]);
        bench.get("/").await;
        bench.clock.set_back(std::time::Duration::from_secs(seconds));
        let seen = bench.get("/").await;
        assert!(!seen.is_hit(), "{seen:?}");
        assert!(bench.get("/").await.is_hit());
    }
}
