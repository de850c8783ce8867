//! Attacks (A1 to A39), each replayed as far as a layer sees it. Other tests with these ids stand next to the rules that
//! stop the attack.

use axum::Router;
use axum::routing::get;
use http::Version;
use larder::StandardPolicy;

use crate::reported::validation::until_calls;
use crate::support::stores::at_rest;
use crate::support::{Bench, Reply, cache_builder, cache_layer, wire};

#[tokio::test]
async fn a01_one_path_on_two_hosts_has_two_entries() {
    let bench = Bench::new(["a", "b", "c"].map(|body| Reply::cc(body, "max-age=60")));
    bench.get_with("/x", &[("host", "a.example")]).await.has_body("a");
    bench.get_with("/x", &[("host", "b.example")]).await.has_body("b");
    assert!(bench.get_with("/x", &[("host", "A.Example:80")]).await.has_body("a").is_hit());
    // HTTP/2 has the authority in the URI, and its scheme.
    assert!(bench.get_with("http://a.example/x", &[("host", "a.example")]).await.has_body("a").is_hit());
    bench.get_with("https://a.example/x", &[("host", "a.example")]).await.has_body("c");
    assert!(
        bench.get_with("https://A.example:443/x", &[("host", "A.example:443")]).await.has_body("c").is_hit()
    );
}

#[tokio::test]
async fn a02_a_request_with_contradicting_authorities_bypasses_the_cache() {
    let bench = Bench::new([Reply::cc("x", "public, max-age=60")]);
    let contradiction = [("host", "b.example")];
    let two_lines = [("host", "a.example"), ("host", "b.example")];
    for _ in 0..2 {
        bench
            .get_with("http://a.example/x", &contradiction)
            .await
            .told("larder; fwd=bypass; detail=\"ambiguous-authority\"");
        bench.get_with("/x", &two_lines).await.told("larder; fwd=bypass; detail=\"ambiguous-authority\"");
    }
    assert_eq!(bench.handle.statistics().entries, 0);
}

#[tokio::test]
async fn a08_every_spelling_of_private_and_no_store_forbids_storing() {
    for value in [
        "Private, max-age=60",
        "NO-STORE, max-age=60",
        "max-age=60, pRiVaTe",
        "max-age=60,no-store=",
        "max-age=60, private=\"\"",
        "max-age=60, private=\"x",
        "max-age=60; private",
        "private, public\u{b}, max-age=60",
        "max-age=60, \"private\"",
        "max-age=60, no-store=\"a\"\"b\"",
    ] {
        for request in [&[][..], &[("authorization", "Basic eA==")]] {
            if http::HeaderValue::from_str(value).is_err() {
                continue;
            }
            let bench = Bench::new([Reply::cc("secret", value)]);
            bench.get_with("/", request).await;
            assert!(!bench.get_with("/", request).await.is_hit(), "{value:?} {request:?}");
            assert_eq!(bench.handle.statistics().entries, 0, "{value:?}");
        }
    }
    // Over two lines, and a field that is private to one person.
    let bench = Bench::new([Reply::cc("x", "max-age=60").field("cache-control", "private")]);
    bench.get("/").await;
    assert!(!bench.get("/").await.is_hit());
    let bench = Bench::new([
        Reply::cc("x", "public, max-age=60, private=\" set-cookie \"").field("set-cookie", "a=b")
    ]);
    bench.get("/").await;
    assert_eq!(bench.get("/").await.told("larder; hit; ttl=60").field("set-cookie"), None);
}

#[tokio::test]
async fn a09_no_user_gets_the_page_of_another() {
    for vary in [None, Some("cookie")] {
        let reply = |body: &str| {
            let reply = Reply::cc(body, "max-age=60");
            vary.map_or(reply.clone(), |vary| reply.field("vary", vary))
        };
        let bench = Bench::new([reply("one"), reply("two"), reply("nobody")]);
        bench.get_with("/", &[("cookie", "user=one")]).await.has_body("one");
        bench.get_with("/", &[("cookie", "user=two")]).await.has_body("two");
        bench.get("/").await.has_body("nobody");
        bench.origin.then(reply("fresh"));
        bench.get_with("/", &[("cookie", "user=one")]).await.has_body("fresh");
        bench.get_with("/", &[("authorization", "user:one")]).await.has_body("fresh");
    }
    // A session that is opened for one is not handed to the next.
    let bench = Bench::new([Reply::cc("x", "max-age=60").field("set-cookie", "session=1")]);
    bench.get("/").await;
    assert!(!bench.get("/").await.is_hit());
}

#[tokio::test]
async fn a12_a_misleading_path_is_no_reason_to_store() {
    for path in ["/account;.css", "/static/..%2faccount", "/account%00.js", "//account", "/account/x.png"] {
        let bench = Bench::new([Reply::new("mine").field("content-type", "text/css")]);
        bench.get(path).await;
        bench.get(path).await.told("larder; fwd=uri-miss; detail=\"never-fresh\"");
    }
    let bench = Bench::new([Reply::cc("x", "max-age=60")]);
    bench.get("/static/..%2faccount").await;
    for other in ["/account", "/static/../account", "/static/..%2Faccount", "//static/..%2faccount"] {
        assert!(!bench.get(other).await.is_hit(), "{other}");
    }
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn a13_nested_routers_under_one_layer_do_not_share_entries() {
    let layer = cache_layer();
    let inner = |name: &'static str| {
        Router::new()
            .route("/page", get(move || async move { ([("cache-control", "max-age=60")], name) }))
            .layer(layer.clone())
    };
    let router = Router::new().nest("/shop", inner("shop")).nest("/blog", inner("blog"));
    let address = wire::serve_router(router).await;
    for _ in 0..2 {
        wire::get(address, "/shop/page", &[]).await.has_body("shop");
        wire::get(address, "/blog/page", &[]).await.has_body("blog");
    }
    assert_eq!(layer.handle().statistics().entries, 2);
    let uri = format!("http://{address}/shop/page").parse().unwrap();
    layer.handle().purge(&uri).await.unwrap();
    assert!(!wire::get(address, "/shop/page", &[]).await.is_hit());
    assert!(wire::get(address, "/blog/page", &[]).await.is_hit());
}

#[tokio::test]
async fn a11_a_get_with_content_bypasses_the_cache() {
    let bench = Bench::new([Reply::cc("x", "max-age=60")]);
    bench.get("/").await;
    for field in [("content-length", "5"), ("transfer-encoding", "chunked")] {
        bench.get_with("/", &[field]).await.told("larder; fwd=bypass; detail=\"content\"");
    }
    assert!(bench.get_with("/", &[("content-length", "0")]).await.is_hit());

    // HTTP/2 tells only by its frames that there is content.
    let mut request = http::Request::get("http://example.com/").version(Version::HTTP_2);
    request = request.header("x", "y");
    let body = http_body_util::Full::new(bytes::Bytes::from_static(b"content"));
    let layer = cache_layer();
    let origin = crate::support::origin::always(Reply::cc("x", "max-age=60"));
    let mut cache = tower::Layer::layer(&layer, origin);
    let response = tower::Service::call(&mut cache, request.body(body).unwrap()).await.unwrap();
    crate::support::bench::read(response).await.told("larder; fwd=bypass; detail=\"content\"");
}

#[tokio::test]
async fn a21_connection_cannot_nominate_fields_that_caching_needs() {
    let bench = Bench::new([Reply::cc("en", "max-age=60")
        .field("connection", "vary, cache-control, age, content-length, x-hop")
        .field("age", "10")
        .field("vary", "accept-language")
        .field("x-hop", "1")]);
    bench.get_with("/", &[("accept-language", "en")]).await;
    let hit = bench.get_with("/", &[("accept-language", "en")]).await.told("larder; hit; ttl=50");
    assert_eq!(hit.field("vary"), Some("accept-language"));
    assert_eq!(hit.field("cache-control"), Some("max-age=60"));
    assert_eq!((hit.field("x-hop"), hit.field("connection")), (None, None));
    assert!(!bench.get_with("/", &[("accept-language", "de")]).await.is_hit());

    // Nominated on the request, `Host` and `Cache-Control` still count.
    let fields =
        [("connection", "host, cache-control"), ("cache-control", "no-store"), ("host", "b.example")];
    bench.get_with("/y", &fields).await.told("larder; fwd=uri-miss; detail=\"request-no-store\"");
}

#[tokio::test]
async fn a24_stacked_codings_are_stored_and_answered_as_they_are() {
    // Whoever decoded it would do so thousands of times, and the last time get gigabytes.
    let stacked = vec!["gzip"; 4_000].join(", ");
    let accepts = [("accept-encoding", "gzip, br")];
    let reply = Reply::cc("\u{1f}bomb", "max-age=60").field("content-encoding", &stacked);
    let bench = Bench::new([reply]);
    for told in ["larder; fwd=uri-miss; stored; ttl=60", "larder; hit; ttl=60"] {
        let seen = bench.get_with("/", &accepts).await.told(told).has_body("\u{1f}bomb");
        assert_eq!(seen.field("content-encoding"), Some(&*stacked));
        at_rest().await;
    }
    // Who does not accept it does not get it from storage.
    assert!(!bench.get_with("/", &[("accept-encoding", "identity")]).await.is_hit());
    assert!(!bench.get_with("/", &[("accept-encoding", "br")]).await.is_hit());
}

#[tokio::test]
async fn a25_extreme_numbers_and_dates_give_no_extreme_age() {
    for (name, value) in [
        ("cache-control", "max-age=18446744073709551616"),
        ("cache-control", "max-age=-1"),
        ("cache-control", "max-age=99999999999999999999999999999999999999"),
        ("cache-control", "max-age=60, stale-while-revalidate=18446744073709551616"),
        ("cache-control", "max-age=caf\u{e9}"),
        ("age", "-1"),
        ("age", "18446744073709551616"),
        ("age", "\u{663}"),
        ("expires", "Fri, 31 Dec 9999 23:59:59 GMT"),
        ("expires", "Thu, 01 Jan 0000 00:00:00 GMT"),
        ("last-modified", "Thu, 01 Jan 0001 00:00:00 GMT"),
        ("date", "Fri, 31 Dec 9999 23:59:59 GMT"),
        ("date", "Thu, 01 Jan 0000 00:00:00 GMT"),
        ("content-length", "1"),
        ("vary", "\u{e9}"),
    ] {
        let bench = Bench::rfc9111([Reply::new("x").field(name, value)]);
        for _ in 0..3 {
            let seen = bench.get("/").await;
            assert!(!seen.is_hit() || seen.age().unwrap() <= 1 << 31, "{name}: {value} {seen:?}");
            bench.later(1 << 30);
        }
    }
    for value in
        ["max-age=18446744073709551616", "max-stale=99999999999999999999", "min-fresh=-1", "caf\u{e9}"]
    {
        let bench = Bench::heeding([Reply::cc("x", "max-age=60")]);
        bench.get("/").await;
        bench.get_with("/", &[("cache-control", value)]).await;
    }
}

#[tokio::test]
async fn a18_a_flood_of_variants_stays_within_its_bound() {
    let bench = Bench::new([Reply::cc("x", "max-age=60").field("vary", "accept-language")]);
    let mut most = 0;
    for number in 0..1_000 {
        bench.get_with("/", &[("accept-language", &number.to_string())]).await;
        most = most.max(bench.handle.statistics().bytes);
    }
    assert_eq!(bench.handle.statistics().entries, 1);
    assert!(most < 64 * 4_096, "64 variants of a few hundred bytes each, not {most}");
}

#[test]
fn a26_equal_keys_hash_differently_in_each_process() {
    // The table's hasher is seeded: two of them disagree, so nobody can prepare colliding keys.
    use std::hash::BuildHasher;
    let one = quick_cache::DefaultHashBuilder::default();
    let other = quick_cache::DefaultHashBuilder::default();
    let key =
        larder::CacheKey::of(&http::Request::get("http://a/").body(()).unwrap().into_parts().0).unwrap();
    assert_ne!(one.hash_one(&key), other.hash_one(&key));
    assert_eq!(one.hash_one(&key), one.hash_one(&key));
}

#[tokio::test]
async fn a10_an_error_replaces_no_good_response() {
    // Also where clients may force a call, and errors that they draw may be stored.
    let lenient = || {
        let policy = StandardPolicy::default().client_directives(true).drawn_errors(true);
        cache_builder().policy(policy)
    };
    for status in [400, 404, 405, 413, 431, 500, 501, 503] {
        // No error is stored without explicit freshness, whatever it looks like.
        let plain = Reply::new("bad").status(status).field("last-modified", "Tue, 01 Sep 2020 00:00:00 GMT");
        let bench = Bench::new([plain]);
        bench.get("/").await;
        assert!(!bench.get("/").await.is_hit(), "{status}");
        // By a request of her own making, nobody gets an error stored over what is fresh.
        let replies =
            [Reply::cc("good", "max-age=60"), Reply::cc("bad", "public, max-age=60").status(status)];
        let bench = Bench::with(lenient(), replies);
        bench.get("/").await;
        bench.get_with("/", &[("cache-control", "no-cache"), ("x-oversize", "1")]).await.has_body("bad");
        assert!(bench.get("/").await.has_body("good").is_hit(), "{status}");
        // Nor where credentials kept the stored one from being selected.
        bench.get_with("/", &[("cookie", "a=b")]).await.has_body("bad");
        assert!(bench.get("/").await.has_body("good").is_hit(), "{status}");
    }
    // An error that is stored is replaced by the next, and by what is good.
    let bench = Bench::new([
        Reply::cc("bad", "max-age=60").status(503),
        Reply::cc("worse", "max-age=60").status(503),
    ]);
    bench.get("/").await;
    bench.later(61);
    bench.get("/").await.has_body("worse").told("larder; fwd=stale; stored; ttl=60");
    bench.later(61);
    bench.origin.then(Reply::cc("good", "max-age=60"));
    bench.get("/").await.has_body("good");
    assert!(bench.get("/").await.has_body("good").is_hit());
}

#[tokio::test]
async fn a07_a_leaders_conditions_do_not_affect_the_stored_response() {
    let whole = || Reply::cc("0123456789", "max-age=60").field("etag", "\"a\"");
    for (method, fields) in [
        ("GET", [("range", "bytes=0-1")]),
        ("GET", [("if-none-match", "\"a\"")]),
        ("GET", [("if-modified-since", "Tue, 01 Sep 2099 00:00:00 GMT")]),
        ("GET", [("if-match", "\"b\"")]),
        ("HEAD", [("range", "bytes=0-1")]),
        ("HEAD", [("if-none-match", "\"a\"")]),
    ] {
        let bench = Bench::new([whole()]);
        bench.send(http::Method::from_bytes(method.as_bytes()).unwrap(), "/", &fields).await;
        let plain = bench.get("/").await.has_body("0123456789");
        assert_eq!(plain.status, 200, "{method} {fields:?}");
    }
    for status in [206, 304, 416] {
        let bench = Bench::new([Reply::cc("odd", "public, max-age=60").status(status), whole()]);
        bench.get_with("/", &[("range", "bytes=0-1")]).await;
        bench.get("/").await.has_body("0123456789");
    }
}

#[tokio::test]
async fn a27_a_flood_of_no_cache_requests_makes_no_call() {
    let bench = Bench::new([Reply::cc("good", "max-age=60"), Reply::cc("bad", "max-age=60")]);
    bench.get("/").await;
    for _ in 0..166 {
        for field in [("cache-control", "no-cache"), ("cache-control", "max-age=0"), ("pragma", "no-cache")] {
            let fields = [field, ("x-forwarded-host", "evil")];
            assert!(bench.get_with("/", &fields).await.has_body("good").is_hit());
        }
    }
    assert_eq!(bench.origin.calls(), 1);
}

#[tokio::test]
async fn a15_a_small_range_of_large_content_does_not_fetch_the_whole() {
    // The range goes to the origin as it is, and what comes back passes; nothing large is taken in.
    let part = Reply::cc("x", "max-age=60").status(206).field("content-range", "bytes 0-0/1073741824");
    let bench = Bench::new([part]);
    for number in 0..100 {
        let seen = bench.get_with(&format!("/?rnd={number}"), &[("range", "bytes=0-0")]).await.has_body("x");
        assert_eq!(seen.status, 206);
        assert_eq!(bench.origin.last().headers["range"], "bytes=0-0");
    }
    assert_eq!(bench.handle.statistics().bytes, 0);
}

#[tokio::test]
async fn a10_the_lifetime_of_an_error_is_bounded() {
    let bad = || Reply::cc("bad", "max-age=86400").status(404);
    let bench = Bench::new([bad()]);
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=300");
    bench.later(300);
    bench.get("/").await.told("larder; fwd=stale; stored; ttl=300");
    let layer = cache_builder().policy(StandardPolicy::default().max_error_lifetime(None));
    Bench::with(layer, [bad()]).get("/").await.told("larder; fwd=uri-miss; stored; ttl=86400");
}

#[tokio::test]
async fn a11_a_keyed_field_that_the_origin_reflects_poisons_nobody() {
    let host = http::HeaderName::from_static("x-forwarded-host");
    let layer = cache_builder().policy(StandardPolicy::default().key_field(host));
    let bench =
        Bench::with(layer, [Reply::cc("evil.example", "max-age=60"), Reply::cc("good", "max-age=60")]);
    bench.get_with("/", &[("x-forwarded-host", "evil.example")]).await.has_body("evil.example");
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=60").has_body("good");
    // The query is keyed as it came, whatever a server takes for a separator.
    let seen = bench.get("/?utm=a;cb=x").await;
    assert!(!seen.is_hit());
    assert!(!bench.get("/?utm=a&cb=x").await.is_hit());
}

#[tokio::test]
async fn a37_the_origin_sees_the_authority_of_the_key() {
    let reply = || Reply::cc("x", "max-age=60, stale-while-revalidate=60").field("etag", "\"a\"");
    for spelled in ["S.test:80", "s.test:", "S.TEST", "s.test"] {
        let host = [("host", spelled)];
        let bench = Bench::new([reply()]);
        let saw = |calls: usize| {
            assert_eq!(
                (bench.origin.calls(), bench.origin.last().headers["host"].to_str().unwrap()),
                (calls, "s.test")
            );
        };
        bench.get_with("/x", &host).await;
        saw(1);
        assert!(bench.get_with("/x", &[("host", "s.test")]).await.is_hit());
        bench.later(61);
        assert!(bench.get_with("/x", &host).await.is_hit());
        until_calls(&bench, 2).await;
        saw(2);
        bench.later(500);
        bench.get_with("/x", &host).await.told("larder; fwd=stale; stored; ttl=60");
        saw(3);
        // What is not stored is told the same.
        bench.get_with("/x", &[("host", spelled), ("upgrade", "x")]).await;
        saw(4);
        bench.send(http::Method::POST, "/x", &host).await;
        saw(5);
        // In absolute form.
        bench.get_with(&format!("http://{spelled}/y?Z"), &host).await;
        saw(6);
        assert_eq!(bench.origin.last().uri, "http://s.test/y?Z");
    }
    // And that is what selects.
    let bench = Bench::new([reply().field("vary", "host")]);
    bench.get_with("/x", &[("host", "S.test:80")]).await;
    assert!(bench.get_with("/x", &[("host", "s.test")]).await.is_hit());
    // Another port is another server.
    let bench = Bench::new([reply()]);
    bench.get_with("/x", &[("host", "s.test:8080")]).await;
    assert_eq!(bench.origin.last().headers["host"], "s.test:8080");
}

#[tokio::test]
async fn a38_the_scheme_is_that_of_the_connection() {
    use http::uri::Scheme;
    let layer = cache_layer();
    let origin = crate::support::origin::always(Reply::cc("x", "max-age=60"));
    let cache = tower::Layer::layer(&layer, origin.clone());
    let get = async |accepted: Scheme, uri: &str| {
        let mut request = http::Request::get(uri)
            .header("host", "s.test")
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .unwrap();
        request.extensions_mut().insert(accepted);
        let response = tower::Service::call(&mut cache.clone(), request).await.unwrap();
        crate::support::bench::read(response).await
    };
    for _ in 0..2 {
        let seen = get(Scheme::HTTP, "https://s.test/x").await;
        seen.told("larder; fwd=bypass; detail=\"other-scheme\"");
        get(Scheme::HTTPS, "http://s.test/x").await.told("larder; fwd=bypass; detail=\"other-scheme\"");
    }
    assert_eq!((origin.calls(), layer.handle().statistics().entries), (4, 0));
    get(Scheme::HTTP, "/x").await.told("larder; fwd=uri-miss; stored; ttl=60");
    assert!(get(Scheme::HTTP, "http://s.test/x").await.is_hit());
    get(Scheme::HTTPS, "/x").await.told("larder; fwd=uri-miss; stored; ttl=60");
    assert!(get(Scheme::HTTPS, "https://s.test/x").await.is_hit());
}

#[tokio::test]
async fn a37_asterisk_form_and_an_asterisk_path_have_two_entries() {
    let bench = Bench::new(["asterisk", "path"].map(|body| Reply::cc(body, "max-age=60")));
    for _ in 0..2 {
        bench.get("*").await.has_body("asterisk");
        bench.get("/*").await.has_body("path");
    }
    assert_eq!(bench.origin.calls(), 2);
    bench.send(http::Method::OPTIONS, "*", &[]).await.told("larder; fwd=method");
}

#[tokio::test]
async fn a39_the_long_fields_of_one_client_do_not_affect_others() {
    let long = "a".repeat(5_000);
    let reply = |body: &str| {
        Reply::cc(body, "max-age=60, stale-while-revalidate=600").field("vary", "x").field("etag", "\"a\"")
    };
    let bench = Bench::new([reply("page")]);
    bench.get("/").await.has_body("page");
    for _ in 0..2 {
        let seen = bench.get_with("/", &[("x", &long)]).await;
        seen.told("larder; fwd=vary-miss; detail=\"long-request-fields\"").has_body("page");
    }
    assert!(bench.get("/").await.is_hit());
    // Nor does a 304 to such a request withdraw what is stored, or end its stale window.
    bench.origin.then(Reply::new("").status(304).field("etag", "\"a\"").field("vary", "x, accept"));
    bench.later(61);
    bench.get_with("/", &[("accept", &long), ("x", &long)]).await;
    bench.origin.then(Reply::refused());
    assert!(bench.get("/").await.has_body("page").is_hit());
    // The bounds of what is compared with nothing.
    let bench = Bench::new([reply("page").field("content-length", "4")]);
    bench.get("/").await;
    for (name, line, status) in [
        ("if-none-match", "\"b\",".repeat(3_000) + "\"a\"", 200),
        ("range", format!("bytes={}1-2", "0".repeat(5_000)), 200),
        ("cookie2", "a".repeat(100_000), 200),
    ] {
        let seen = bench.get_with("/", &[(name, &line)]).await;
        assert!(seen.is_hit(), "{name}");
        assert_eq!(seen.status, status, "{name}");
    }
    // A field of directives that is too long forbids to store, and nothing else by default.
    let directives = [("cache-control", &*"a,".repeat(3_000))];
    assert!(bench.get_with("/", &directives).await.is_hit());
    bench.get_with("/other", &directives).await.told("larder; fwd=uri-miss; detail=\"request-no-store\"");
}
