//! Reported faults: how messages are framed, and which fields the cache's own responses have (B4, B5, B6, B12).

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::{Method, Request, Version};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use larder::StandardPolicy;
use tower::{Layer, Service, ServiceBuilder};
use tower_http::compression::CompressionLayer;

use crate::support::bench::read;
use crate::support::{Bench, Reply, cache_builder, cache_layer, wire};

#[tokio::test]
async fn b04_a_content_length_beside_a_transfer_coding_is_removed_for_every_method() {
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "FROB", "PATCH"] {
        let reply = Reply::new("")
            .field("content-length", "31")
            .field("transfer-encoding", "chunked")
            .frames(&["twenty bytes ", "it was."]);
        let bench = Bench::new([reply]);
        let seen = bench.send(Method::from_bytes(method.as_bytes()).unwrap(), "/", &[]).await;
        assert_eq!((seen.field("content-length"), seen.broken), (None, false), "{method} {seen:?}");
        seen.has_body("twenty bytes it was.");
    }
    let bench = Bench::new([Reply::new("").status(204).field("content-length", "5")]);
    for (method, fields) in
        [(Method::PUT, &[][..]), (Method::GET, &[("upgrade", "x"), ("connection", "upgrade")])]
    {
        let seen = bench.send(method, "/", fields).await;
        assert_eq!((seen.field("content-length"), seen.broken), (None, false), "{seen:?}");
    }
    // A 2xx to CONNECT has none (RFC 9110 9.3.6).
    let bench = Bench::new([Reply::new("").field("content-length", "5")]);
    let seen = bench.send(Method::CONNECT, "example.com:443", &[("host", "example.com:443")]).await;
    assert_eq!(seen.field("content-length"), None, "{seen:?}");
}

#[tokio::test]
async fn b04_a_repeated_content_length_is_sent_once() {
    for method in [Method::GET, Method::POST, Method::OPTIONS] {
        for cache_control in ["no-store", "max-age=60"] {
            let reply = Reply::cc("twenty bytes it was.", cache_control).field("content-length", "20, 20");
            let bench = Bench::new([reply.field("content-length", "20")]);
            let seen = bench.send(method.clone(), "/", &[]).await.has_body("twenty bytes it was.");
            let lengths: Vec<_> = seen.fields.get_all("content-length").into_iter().collect();
            assert_eq!(lengths, ["20"], "{method} {cache_control}");
            assert!(!seen.broken, "{method} {cache_control}");
        }
    }
}

#[tokio::test]
async fn b04_content_in_a_transfer_coding_is_not_stored() {
    let reply = Reply::cc("coded", "max-age=60").field("transfer-encoding", "gzip, chunked");
    let bench = Bench::new([reply]);
    bench.get("/").await.has_body("coded").told("larder; fwd=uri-miss; detail=\"transfer-coding\"");
}

/// Over both versions of HTTP, to a real client.
#[tokio::test]
async fn b04_a_client_gets_the_whole_content_of_a_message_with_two_framings() {
    let reply = Reply::cc("", "no-store")
        .field("content-length", "31")
        .field("transfer-encoding", "chunked")
        .frames(&["twenty bytes ", "it was."]);
    // An origin over HTTP/1.1 has had its frames taken off, and both fields are still there.
    let cache = cache_layer().layer(crate::support::origin::always(reply));
    let edge = tower::util::MapResponseLayer::new(|mut response: http::Response<_>| {
        response.headers_mut().remove("transfer-encoding");
        response
    });
    let address = wire::serve(edge.layer(cache)).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let client = Client::builder(TokioExecutor::new())
            .http2_only(version == Version::HTTP_2)
            .build_http::<Empty<Bytes>>();
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "FROB"] {
            let request = Request::builder().method(method).uri(format!("http://{address}/"));
            let response = client.request(request.body(Empty::new()).unwrap()).await.unwrap();
            let seen = read(response).await.has_body("twenty bytes it was.");
            assert!(!seen.broken, "{version:?} {method}");
        }
    }
}

const SEEN_BY_PAGES: [(&str, &str); 5] = [
    ("access-control-allow-origin", "*"),
    ("access-control-allow-credentials", "true"),
    ("access-control-expose-headers", "etag"),
    ("cross-origin-resource-policy", "cross-origin"),
    ("timing-allow-origin", "*"),
];

#[tokio::test]
async fn b05_responses_made_by_the_cache_keep_the_cors_fields() {
    let reply = |cache_control: &str, frames: Option<&[&str]>| {
        let mut reply = Reply::cc("0123456789", cache_control).field("etag", "\"a\"");
        if let Some(frames) = frames {
            reply = reply.frames(frames);
        }
        SEEN_BY_PAGES.iter().fold(reply, |reply, (name, value)| reply.field(name, value))
    };
    for (condition, status) in [
        (("if-none-match", "\"a\""), 304),
        (("if-match", "\"b\""), 412),
        (("range", "bytes=20-"), 416),
        (("range", "bytes=0-1"), 206),
    ] {
        for (cache_control, frames) in
            [("max-age=60", None), ("no-store", None), ("max-age=60", Some(&["01234", "56789"][..]))]
        {
            if frames.is_some() && (status == 416 || status == 206) {
                continue; // nothing is cut from what is not there yet
            }
            let bench = Bench::new([reply(cache_control, frames)]);
            for _ in 0..2 {
                let seen = bench.get_with("/", &[condition]).await;
                if cache_control == "no-store" && matches!(status, 206 | 416) {
                    break; // ranges are the origin's to answer
                }
                assert_eq!(seen.status.as_u16(), status, "{seen:?}");
                for (name, value) in SEEN_BY_PAGES {
                    assert_eq!(seen.field(name), Some(value), "{status} {cache_control} {name}");
                }
            }
        }
    }
}

#[tokio::test]
async fn b06_a_part_has_no_digest_of_the_whole() {
    let digests = [
        ("content-digest", "sha-256=:x:"),
        ("content-md5", "x"),
        ("repr-digest", "sha-256=:y:"),
        ("digest", "y"),
    ];
    let with = |reply: Reply| digests.iter().fold(reply, |reply, (name, value)| reply.field(name, value));
    let has = |seen: &crate::support::Seen, names: [bool; 4]| {
        assert_eq!(digests.map(|(name, _)| seen.field(name).is_some()), names, "{seen:?}");
    };
    let bench = Bench::new([with(Reply::cc("0123456789", "max-age=60"))]);
    has(&bench.get("/").await, [true; 4]);
    has(&bench.get("/").await, [true; 4]);
    for range in ["bytes=0-3", "bytes=0-1, 4-5"] {
        let part = bench.get_with("/", &[("range", range)]).await;
        assert_eq!(part.status, 206);
        has(&part, [false, false, true, true]);
    }
    // The first answer is cut here, too, where the origin ignores the range.
    for range in ["bytes=0-3", "bytes=0-1, 4-5"] {
        let bench = Bench::new([with(Reply::cc("0123456789", "max-age=60"))]);
        let part = bench.get_with("/", &[("range", range)]).await;
        assert_eq!(part.status, 206);
        has(&part, [false, false, true, true]);
    }
    // Parts that are put together, and the whole that they make.
    let policy = StandardPolicy::default().partial(true);
    let bench = Bench::with(cache_builder().policy(policy), []);
    let part = |content: &str, range: &str| {
        let reply = Reply::cc(content, "max-age=60").status(206).field("content-range", range);
        with(reply.field("etag", "\"a\""))
    };
    bench.origin.then(part("01234", "bytes 0-4/10"));
    has(&bench.get_with("/", &[("range", "bytes=0-4")]).await, [true; 4]);
    has(&bench.get_with("/", &[("range", "bytes=1-2")]).await, [false, false, true, true]);
    bench.origin.then(part("56789", "bytes 5-9/10"));
    let spliced = bench.get("/").await.has_body("0123456789");
    has(&spliced, [false, false, true, true]);
    let whole = bench.get("/").await.has_body("0123456789");
    assert!(whole.is_hit());
    has(&whole, [false, false, true, true]);
}

#[tokio::test]
async fn b06_a_304_does_not_replace_the_digest_of_the_content() {
    let bench =
        Bench::new([Reply::cc("x", "max-age=60").field("etag", "\"a\"").field("content-digest", "own")]);
    bench.get("/").await;
    bench.later(61);
    let not_modified =
        Reply::new("").status(304).field("etag", "\"a\"").field("content-digest", "of nothing");
    bench.origin.then(not_modified);
    assert_eq!(bench.get("/").await.has_body("x").field("content-digest"), Some("own"));
}

#[tokio::test]
async fn b12_an_answer_without_content_is_not_compressed() {
    let page = get(|| async { ([("cache-control", "max-age=60"), ("etag", "\"v1\"")], "x".repeat(1000)) });
    for layer in [cache_layer(), cache_builder().tag_only().build()] {
        let router = Router::new().route("/", page.clone());
        let router = router.layer(ServiceBuilder::new().layer(CompressionLayer::new()).layer(layer));
        let address = wire::serve_router(router).await;
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let client = Client::builder(TokioExecutor::new())
                .http2_only(version == Version::HTTP_2)
                .build_http::<Empty<Bytes>>();
            for (method, condition, status) in [
                ("GET", None, 200),
                ("GET", Some(("if-none-match", "\"v1\"")), 304),
                ("GET", Some(("if-match", "\"v2\"")), 412),
                ("GET", Some(("range", "bytes=5000-")), 416),
                ("HEAD", None, 200),
                ("HEAD", Some(("if-none-match", "\"v1\"")), 304),
            ] {
                let mut request = Request::builder().method(method).uri(format!("http://{address}/"));
                for (name, value) in condition.into_iter().chain([("accept-encoding", "gzip")]) {
                    request = request.header(name, value);
                }
                let request = request.body(Empty::new()).unwrap();
                let response = client.request(request).await.unwrap();
                let coding = response.headers().get("content-encoding").cloned();
                let got = response.status().as_u16();
                if got == 200 && status == 416 {
                    continue; // nothing is stored, and the handler knows of no ranges
                }
                let length = response.into_body().collect().await.unwrap().to_bytes().len();
                assert_eq!(got, status, "{version:?} {method} {condition:?}");
                if status == 200 && method == "GET" {
                    assert!(coding.is_some());
                } else {
                    assert_eq!((coding, length), (None, 0), "{version:?} {method} {condition:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn b12_a_body_of_known_length_has_an_exact_size_hint() {
    let bench = Bench::heeding([Reply::cc("0123456789", "max-age=60").field("etag", "\"a\"")]);
    bench.get("/").await;
    let check = async |method: &str, fields: &[(&str, &str)], status: u16, length: u64| {
        let mut request = Request::builder().method(method).uri("/").header("host", "example.com");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let response = bench.cache.clone().call(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        let body = response.body();
        let told = (body.size_hint().exact(), body.is_end_stream());
        assert_eq!(told, (Some(length), length == 0), "{method} {fields:?} {status}");
        read(response).await
    };
    check("GET", &[], 200, 10).await;
    check("HEAD", &[], 200, 0).await;
    check("GET", &[("if-none-match", "\"a\"")], 304, 0).await;
    check("GET", &[("if-match", "\"b\"")], 412, 0).await;
    check("GET", &[("range", "bytes=0-3")], 206, 4).await;
    check("GET", &[("range", "bytes=10-")], 416, 0).await;
    check("GET", &[("cache-control", "only-if-cached, no-cache")], 504, 0).await;
    // Passed on, with the length in a field, and as a stream that is stored.
    bench.origin.then(Reply::new("").field("content-length", "6").frames(&["pan", "try"]));
    check("POST", &[], 200, 6).await;
    check("HEAD", &[("upgrade", "x"), ("connection", "upgrade")], 200, 0).await;
    bench.origin.then(Reply::cc("", "no-store").field("content-length", "6").frames(&["pan", "try"]));
    check("GET", &[("cache-control", "no-cache")], 200, 6).await;
    bench.origin.then(Reply::cc("", "max-age=60").status(204));
    check("PUT", &[], 204, 0).await;
    let large = "x".repeat(100_000);
    let length = large.len().to_string();
    bench.origin.then(Reply::cc("", "max-age=60").field("content-length", &length).frames(&[&large]));
    check("GET", &[("cache-control", "no-cache")], 200, 100_000).await.has_body(&large);
}

#[tokio::test]
async fn b12_a_tag_only_layer_keeps_the_exact_size_hint() {
    let origin = crate::support::origin::always(Reply::new("0123456789"));
    let mut cache = cache_builder().tag_only().build().layer(origin);
    for (condition, length) in [(None, 10), (Some("W/\"a-4b8cf17a69b0b4ec\""), 10), (Some("*"), 0)] {
        let mut request = Request::get("http://a/");
        if let Some(condition) = condition {
            request = request.header("if-none-match", condition);
        }
        let response = cache.call(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(response.body().size_hint().exact(), Some(length), "{condition:?}");
    }
}
