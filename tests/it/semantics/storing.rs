//! Which responses are stored, and what of them (RFC 9111 3).

use http::Method;

use crate::support::{Bench, Reply, cache_builder, settle};

#[tokio::test]
async fn a_fresh_response_is_stored_and_reused() {
    let bench = Bench::new([Reply::cc("one", "max-age=60")]);
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=60").has_body("one");
    bench.later(10);
    let hit = bench.get("/").await.told("larder; hit; ttl=50").has_body("one");
    assert_eq!(hit.age(), Some(10));
    assert_eq!(bench.origin.calls(), 1);
}

#[tokio::test]
async fn each_reason_not_to_store_is_reported() {
    let hint = larder::CacheHint::new().no_store();
    let cases: [(&str, &[(&str, &str)], Reply, &str); 14] = [
        ("no-store", &[], Reply::cc("x", "no-store"), "no-store"),
        ("private", &[], Reply::cc("x", "private, max-age=60"), "private"),
        ("hint", &[], Reply::cc("x", "max-age=60").extension(hint), "hint"),
        ("status", &[], Reply::new("x").status(201), "status"),
        ("never fresh", &[], Reply::new("x"), "never-fresh"),
        ("vary", &[], Reply::cc("x", "max-age=60").field("vary", "*"), "vary"),
        ("malformed", &[], Reply::cc("x", "max-age=60, private=\"a"), "malformed-cache-control"),
        ("drawn error", &[], Reply::cc("x", "max-age=60").status(400), "drawn-error"),
        ("partial", &[], Reply::cc("x", "max-age=60").status(206), "partial"),
        ("cookie", &[("cookie", "a=b")], Reply::cc("x", "max-age=60"), "cookie"),
        ("set-cookie", &[], Reply::cc("x", "max-age=60").field("set-cookie", "a=b"), "set-cookie"),
        ("authorization", &[("authorization", "x")], Reply::cc("x", "max-age=60"), "authorization"),
        ("request", &[("cache-control", "no-store")], Reply::cc("x", "max-age=60"), "request-no-store"),
        ("no-cache", &[], Reply::cc("x", "no-cache"), "never-fresh"),
    ];
    for (name, request, reply, detail) in cases {
        let bench = Bench::new([reply]);
        for _ in 0..2 {
            bench.get_with("/", request).await.told(&format!("larder; fwd=uri-miss; detail=\"{detail}\""));
        }
        assert_eq!(bench.origin.calls(), 2, "{name}");
    }
}

#[tokio::test]
async fn st2_any_final_status_with_explicit_freshness_is_stored() {
    for status in [200, 203, 204, 299, 301, 302, 307, 308, 400, 404, 410, 499, 500, 503, 599] {
        let bench = Bench::rfc9111([Reply::cc("", "max-age=60").status(status)]);
        bench.get("/").await;
        let hit = bench.get("/").await.told("larder; hit; ttl=60");
        assert_eq!(hit.status.as_u16(), status);
    }
}

#[tokio::test]
async fn st7_connection_specific_fields_are_not_stored_and_everything_else_is() {
    let bench = Bench::rfc9111([Reply::cc("x", "max-age=60")
        .field("connection", "a, b")
        .field("a", "1")
        .field("b", "2")
        .field("keep-alive", "timeout=5")
        .field("proxy-authenticate", "Basic")
        .field("c", "3")
        .field("set-cookie", "a=b")
        .field("set-cookie", "c=d")
        .field("clear-site-data", "cookies")
        .field("content-foo", "4")]);
    bench.get("/").await;
    let hit = bench.get("/").await;
    for name in ["connection", "a", "b", "keep-alive", "proxy-authenticate"] {
        assert_eq!(hit.field(name), None, "{name}");
    }
    for (name, value) in [("c", "3"), ("clear-site-data", "cookies"), ("content-foo", "4")] {
        assert_eq!(hit.field(name), Some(value));
    }
    assert_eq!(hit.fields.get_all("set-cookie").iter().count(), 2);
}

#[tokio::test]
async fn st4_st7_the_fields_of_qualified_directives_are_not_stored() {
    let bench = Bench::new([Reply::cc("x", "max-age=60, private=\"a\", no-cache=\"b, c\"")
        .field("a", "1")
        .field("b", "2")
        .field("c", "3")
        .field("d", "4")]);
    let first = bench.get("/").await;
    let hit = bench.get("/").await.told("larder; hit; ttl=60");
    assert_eq!(first.field("a"), Some("1"), "the first client was meant to have it");
    for name in ["a", "b", "c"] {
        assert_eq!(hit.field(name), None, "{name}");
    }
    assert_eq!(hit.field("d"), Some("4"));
}

#[tokio::test]
async fn st11_a_newer_response_that_is_not_stored_leaves_the_older_one_in_place() {
    let bench = Bench::heeding([Reply::cc("old", "max-age=60"), Reply::cc("new", "no-store")]);
    bench.get("/").await.has_body("old");
    bench
        .get_with("/", &[("cache-control", "no-cache")])
        .await
        .has_body("new")
        .told("larder; fwd=request; detail=\"no-store\"");
    assert!(bench.get("/").await.has_body("old").is_hit());
}

#[tokio::test]
async fn st10_pragma_on_a_response_is_ignored() {
    let bench = Bench::new([Reply::cc("x", "max-age=60").field("pragma", "no-cache")]);
    bench.get("/").await;
    assert!(bench.get("/").await.is_hit());
}

#[tokio::test]
async fn a_head_is_answered_from_a_stored_get_and_not_stored_itself() {
    let policy = larder::StandardPolicy::default().head_as_get(false);
    let bench = Bench::with(cache_builder().policy(policy), [Reply::cc("four", "max-age=60")]);
    bench.send(Method::HEAD, "/", &[]).await.told("larder; fwd=uri-miss; detail=\"method\"");
    assert_eq!(bench.origin.last().method, Method::HEAD);
    bench.get("/").await;
    let head = bench.send(Method::HEAD, "/", &[]).await.told("larder; hit; ttl=60").has_body("");
    assert_eq!(head.field("content-length"), Some("4"));
}

#[tokio::test]
async fn other_methods_are_forwarded() {
    let bench = Bench::new([Reply::cc("x", "max-age=60")]);
    for method in ["OPTIONS", "POST", "DELETE", "FROB"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        bench.send(method.clone(), "/", &[]).await.told("larder; fwd=method");
        assert_eq!(bench.origin.last().method, method);
    }
}

#[tokio::test]
async fn a_websocket_handshake_is_forwarded() {
    let bench = Bench::new([Reply::new("").status(101).field("upgrade", "websocket")]);
    let seen = bench.get_with("/", &[("upgrade", "websocket"), ("connection", "upgrade")]).await;
    assert_eq!(seen.status, 101);
    assert_eq!(seen.field("upgrade"), Some("websocket"));
    assert!(bench.origin.last().headers.contains_key("upgrade"));
}

#[tokio::test]
async fn a_range_on_a_miss_is_forwarded_and_its_answer_is_not_stored() {
    let bench = Bench::new([
        Reply::cc("part", "max-age=60").status(206).field("content-range", "bytes 0-3/9"),
        Reply::cc("", "max-age=60").status(416),
        Reply::cc("the whole", "max-age=60"),
    ]);
    let range = [("range", "bytes=0-3")];
    bench.get_with("/", &range).await.told("larder; fwd=uri-miss; detail=\"partial\"").has_body("part");
    assert_eq!(bench.origin.last().headers["range"], "bytes=0-3");
    bench.get_with("/", &range).await.told("larder; fwd=uri-miss; detail=\"drawn-error\"");
    bench.get("/").await.has_body("the whole");
    assert!(bench.get("/").await.has_body("the whole").is_hit());
}

#[tokio::test]
async fn a_stored_response_has_a_date_and_a_length() {
    let bench = Bench::new([Reply::cc("x", "max-age=60").frames(&["on", "e"])]);
    let now = bench.date(0);
    bench.get("/").await.has_body("one");
    bench.later(5);
    let hit = bench.get("/").await.has_body("one");
    assert_eq!(hit.field("date"), Some(now.as_str()));
    assert_eq!(hit.field("content-length"), Some("3"));
}

#[tokio::test]
async fn upstream_cache_status_comes_first() {
    let bench = Bench::new([Reply::cc("x", "max-age=60")
        .field("cache-status", "a; hit")
        .field("cache-status", "b; fwd=miss")]);
    let miss = bench.get("/").await;
    let lines: Vec<_> = miss.fields.get_all("cache-status").iter().collect();
    assert_eq!(lines, ["a; hit, b; fwd=miss, larder; fwd=uri-miss; stored; ttl=60"]);
    bench.get("/").await.told("a; hit, b; fwd=miss, larder; hit; ttl=60");
}

#[tokio::test]
async fn the_query_of_a_uri_is_part_of_the_key() {
    let bench = Bench::new([Reply::cc("x", "max-age=60")]);
    bench.get("/?a=1").await;
    assert!(!bench.get("/?a=2").await.is_hit());
    assert!(!bench.get("/").await.is_hit());
    assert!(bench.get("/?a=1").await.is_hit());
}

#[tokio::test]
async fn st1_a_post_that_names_its_target_answers_later_gets() {
    let reply = |location: &str| Reply::cc("made", "max-age=60").field("content-location", location);
    for location in ["/x", "http://example.com/x", ""] {
        let bench = Bench::rfc9111([reply(location)]);
        bench
            .send(Method::POST, "/x", &[("content-length", "5")])
            .await
            .told("larder; fwd=method; stored; ttl=60");
        assert!(bench.get("/x").await.has_body("made").is_hit(), "{location:?}");
    }
    let bench = Bench::rfc9111([reply("/y")]);
    bench.send(Method::POST, "/x", &[]).await.told("larder; fwd=method");
    bench.get("/x").await.told("larder; fwd=uri-miss; stored; ttl=60");
    // The careful policy does not take that risk.
    let bench = Bench::new([reply("/x")]);
    bench.send(Method::POST, "/x", &[]).await.told("larder; fwd=method");
    assert!(!bench.get("/x").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn re6_a_head_is_forwarded_as_a_get_if_nothing_is_stored() {
    for reply in [Reply::cc("four", "max-age=60"), Reply::cc("", "max-age=60").frames(&["fo", "ur"])] {
        let bench = Bench::new([reply]);
        let head = bench
            .send(Method::HEAD, "/", &[])
            .await
            .has_body("")
            .told("larder; fwd=uri-miss; stored; ttl=60");
        assert_eq!((head.status.as_u16(), bench.origin.last().method), (200, Method::GET));
        settle().await;
        assert_eq!(bench.handle.statistics().entries, 1);
        assert!(bench.get("/").await.has_body("four").is_hit());
    }
    let bench = Bench::new([Reply::cc("four", "no-store")]);
    bench.send(Method::HEAD, "/", &[]).await.has_body("").told("larder; fwd=uri-miss; detail=\"no-store\"");
}

#[tokio::test]
async fn re6_the_response_to_a_head_freshens_if_it_agrees_and_expires_if_it_contradicts() {
    let stored = || Reply::cc("four", "max-age=60").field("etag", "\"a\"");
    let agreeing = stored().field("x-new", "1").field("content-length", "4");
    for (reply, agrees) in [
        (agreeing.clone(), true),
        (Reply::cc("", "max-age=60"), false), // it says nothing either way
        (Reply::cc("", "max-age=60").field("etag", "\"b\""), false),
        (Reply::cc("", "max-age=60").field("content-length", "5"), false),
        (Reply::cc("", "max-age=60").field("last-modified", "Tue, 01 Sep 2026 00:00:00 GMT"), false),
    ] {
        let bench = Bench::new([stored()]);
        bench.get("/").await;
        bench.later(61);
        bench.origin.then(reply.clone());
        bench.send(Method::HEAD, "/", &[]).await.has_body("");
        assert_eq!(bench.origin.last().method, Method::HEAD);
        assert_eq!(
            bench.get_with("/", &[("cache-control", "only-if-cached")]).await.is_hit(),
            agrees,
            "{reply:?}"
        );
    }
    // Even while it is fresh: the contradiction counts.
    let bench = Bench::heeding([stored()]);
    bench.get("/").await;
    bench.origin.then(Reply::cc("", "max-age=60").field("etag", "\"b\""));
    bench.send(Method::HEAD, "/", &[("cache-control", "no-cache")]).await;
    bench.origin.then(stored());
    bench.get("/").await.told("larder; fwd=stale; stored; ttl=60");
}

#[tokio::test]
async fn tc1_targeted_cache_control_outranks_cache_control() {
    let bench = Bench::new([Reply::cc("x", "no-store").field("cdn-cache-control", "max-age=60")]);
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=60");
    let hit = bench.get("/").await.told("larder; hit; ttl=60");
    assert_eq!(hit.field("cdn-cache-control"), Some("max-age=60"), "passed downstream");
    let bench = Bench::new([Reply::cc("x", "max-age=60").field("cdn-cache-control", "no-store")]);
    bench.get("/").await.told("larder; fwd=uri-miss; detail=\"no-store\"");
    let bench = Bench::new([Reply::cc("x", "max-age=60").field("cdn-cache-control", "&&&")]);
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=60");
}

#[tokio::test]
async fn the_range_of_a_head_is_ignored() {
    let bench = Bench::new([Reply::cc("0123456789", "max-age=60")]);
    let head = bench.send(Method::HEAD, "/", &[("range", "bytes=0-1")]).await.has_body("");
    assert_eq!((head.status.as_u16(), head.field("content-length")), (200, Some("10")));
    assert!(!bench.origin.last().headers.contains_key("range"));
}
