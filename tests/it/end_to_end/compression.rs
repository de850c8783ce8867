//! tower-http's compression on either side of the cache, over the wire, with clients of each coding.
//!
//! Inside the cache, as CloudFront does it: every coding is made once and stored as a variant, told apart by the normalised
//! `Accept-Encoding`. Outside of it: one stored response, coded for each answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full};
use larder::StandardPolicy;
use larder::semantics::accept::Codings;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_http::compression::CompressionLayer;
use tower_http::decompression::DecompressionLayer;
use tower_http::services::ServeDir;
use tower_http::set_header::SetResponseHeaderLayer;

use super::codings::{self, Folder};
use crate::support::{cache_builder, wire};

fn page() -> String {
    (0..400).map(|line| format!("{line}: {}\n", line * line % 1009)).collect()
}

/// An answer, as it came over the wire.
#[derive(Debug)]
struct Got {
    status: StatusCode,
    fields: HeaderMap,
    body: Bytes,
}

impl Got {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().unwrap())
    }

    fn coding(&self) -> Option<&str> {
        self.field("content-encoding")
    }

    fn told(&self) -> &str {
        self.field("cache-status").unwrap()
    }

    /// The content, as a client that knows every coding reads it.
    async fn decoded(&self) -> String {
        let (body, coding) = (self.body.clone(), self.fields.get(header::CONTENT_ENCODING).cloned());
        let coded = service_fn(move |_: Request<Empty<Bytes>>| {
            let mut response = Response::new(Full::new(body.clone()));
            response.headers_mut().extend(coding.clone().map(|coding| (header::CONTENT_ENCODING, coding)));
            std::future::ready(Ok::<_, std::convert::Infallible>(response))
        });
        let decoded =
            DecompressionLayer::new().layer(coded).oneshot(Request::new(Empty::new())).await.unwrap();
        let bytes = decoded.into_body().collect().await.expect("the coding of its field").to_bytes();
        String::from_utf8(bytes.into()).unwrap()
    }
}

/// A service over the wire, and how often it was called.
struct Served {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
    client: wire::HttpClient<Empty<Bytes>>,
}

impl Served {
    /// Compression inside the cache.
    async fn inside<R: IntoResponse + 'static>(codings: Codings, page: fn() -> R) -> Self {
        let policy = StandardPolicy::default().codings(codings);
        let cache = cache_builder().policy(policy).build();
        Self::new(page, |router| router.layer(CompressionLayer::new()).layer(cache)).await
    }

    /// Compression outside of it.
    async fn outside<R: IntoResponse + 'static>(page: fn() -> R) -> Self {
        Self::new(page, |router| router.layer(cache_builder().build()).layer(CompressionLayer::new())).await
    }

    async fn new<R: IntoResponse + 'static>(page: fn() -> R, layers: impl FnOnce(Router) -> Router) -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let router = Router::new().route(
            "/",
            get(move || {
                count.fetch_add(1, Ordering::SeqCst);
                std::future::ready(page().into_response())
            }),
        );
        let address = wire::serve_router(layers(router)).await;
        Self { address, calls, client: wire::client() }
    }

    fn over_http2(self) -> Self {
        Self { client: wire::http2_client(), ..self }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    async fn get(&self, accepts: Option<&str>, fields: &[(&str, &str)]) -> Got {
        self.send(Method::GET, accepts, fields).await
    }

    async fn send(&self, method: Method, accepts: Option<&str>, fields: &[(&str, &str)]) -> Got {
        let mut request = Request::builder().method(method).uri(format!("http://{}/", self.address));
        if let Some(accepts) = accepts {
            request = request.header("accept-encoding", accepts);
        }
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let response = self.client.request(request.body(Empty::new()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("the stream ends cleanly").to_bytes();
        crate::support::stores::at_rest().await;
        Got { status: parts.status, fields: parts.headers, body }
    }
}

fn fresh() -> impl IntoResponse {
    ([("cache-control", "max-age=60"), ("content-type", "text/plain")], page())
}

const ALL: [&str; 3] = ["zstd", "br", "gzip"];

#[tokio::test]
async fn va3_each_coding_is_made_once_however_clients_spell_what_they_accept() {
    let served = Served::inside(Codings::one_of(ALL), fresh).await;
    let spelled: [(Option<&str>, Option<&str>); 12] = [
        (Some("gzip, deflate, br, zstd"), Some("zstd")),
        (Some("gzip, deflate, br"), Some("br")),
        (Some("gzip, deflate"), Some("gzip")),
        (Some("identity"), None),
        (None, None),
        (Some("zstd"), Some("zstd")),
        (Some("br;q=0.1, gzip"), Some("br")),
        (Some("GZIP;q=0.5"), Some("gzip")),
        (Some("x-gzip, br;q=0"), Some("gzip")),
        (Some("*"), Some("zstd")),
        (Some("deflate"), None),
        (Some("identity;q=1, *;q=0"), None),
    ];
    for round in 0..2 {
        for (accepts, coding) in spelled {
            let got = served.get(accepts, &[]).await;
            assert_eq!(got.coding(), coding, "{accepts:?}");
            assert_eq!(got.decoded().await, page(), "{accepts:?}");
            assert_eq!(got.field("vary"), Some("accept-encoding"), "{accepts:?}");
            assert!(round == 0 || got.told().starts_with("larder; hit"), "{accepts:?}: {}", got.told());
        }
    }
    assert_eq!(served.calls(), 4, "zstd, br, gzip and plain");
}

#[tokio::test]
async fn va3_clients_of_cloudfronts_codings_get_what_they_accept() {
    let served = Served::inside(Codings::cloudfront(["br", "gzip"]), fresh).await;
    let spelled: [(Option<&str>, Option<&str>); 9] = [
        (Some("gzip, deflate, br, zstd"), Some("br")),
        (Some("br, gzip"), Some("br")),
        (Some("br"), Some("br")),
        (Some("br, zstd"), Some("br")),
        (Some("gzip"), Some("gzip")),
        (Some("deflate, gzip;q=0.1"), Some("gzip")),
        (Some("deflate"), None),
        (Some("identity"), None),
        (None, None),
    ];
    for _ in 0..2 {
        for (accepts, coding) in spelled {
            let got = served.get(accepts, &[]).await;
            assert_eq!(got.coding(), coding, "{accepts:?}");
            assert_eq!(got.decoded().await, page(), "{accepts:?}");
        }
    }
    assert_eq!(served.calls(), 5, "br and gzip, br alone, gzip alone, none of them, and no field");
}

#[tokio::test]
async fn va3_a_tag_of_one_coding_validates_that_coding_alone() {
    let served = Served::inside(Codings::one_of(ALL), fresh).await;
    let mut tags = Vec::new();
    for coding in ["zstd", "br", "gzip", "identity"] {
        served.get(Some(coding), &[]).await;
        tags.push((coding, served.get(Some(coding), &[]).await.field("etag").unwrap().to_owned()));
    }
    for (coding, tag) in &tags {
        for (other, others) in &tags {
            let got = served.get(Some(coding), &[("if-none-match", others)]).await;
            if coding != other {
                assert_ne!(tag, others, "{coding} {other}");
                assert_eq!(
                    (got.status, got.coding().unwrap_or("identity")),
                    (StatusCode::OK, *coding),
                    "{other}"
                );
                continue;
            }
            assert_eq!(got.status, StatusCode::NOT_MODIFIED, "{coding}");
            assert_eq!((got.field("etag"), got.field("vary")), (Some(tag.as_str()), Some("accept-encoding")));
            assert!(got.body.is_empty());
        }
    }
    assert_eq!(served.calls(), 4);
}

#[tokio::test]
async fn ra1_a_range_of_a_coding_with_a_weak_tag_is_a_range_of_what_is_coded() {
    let served = Served::inside(Codings::one_of(ALL), fresh).await;
    for coding in ALL {
        let whole = served.get(Some(coding), &[]).await;
        let part = served.get(Some(coding), &[("range", "bytes=10-19")]).await;
        assert_eq!((part.status, part.coding()), (StatusCode::PARTIAL_CONTENT, Some(coding)));
        assert_eq!(part.body, whole.body.slice(10..20));
        let range = format!("bytes 10-19/{}", whole.body.len());
        assert_eq!(part.field("content-range"), Some(range.as_str()));
        assert_eq!(part.field("vary"), Some("accept-encoding"));
        // Nobody joins parts by a weak tag.
        let tag = whole.field("etag").unwrap_or("W/\"none\"").to_owned();
        let got = served.get(Some(coding), &[("range", "bytes=10-19"), ("if-range", &tag)]).await;
        assert_eq!((got.status, &got.body), (StatusCode::OK, &whole.body), "{coding}");
    }
    assert_eq!(served.calls(), 3);
}

#[tokio::test]
async fn a_head_request_gets_the_fields_of_its_coding() {
    let served = Served::inside(Codings::one_of(ALL), fresh).await;
    for coding in ["zstd", "br", "gzip", "identity"] {
        served.get(Some(coding), &[]).await;
        let (got, head) =
            (served.get(Some(coding), &[]).await, served.send(Method::HEAD, Some(coding), &[]).await);
        for name in ["content-encoding", "content-length", "etag", "vary"] {
            assert_eq!(head.field(name), got.field(name), "{coding}: {name}");
        }
        assert!(head.body.is_empty() && head.told().starts_with("larder; hit"), "{coding}");
    }
    assert_eq!(served.calls(), 4);
}

#[tokio::test]
async fn content_that_is_coded_already_passes_and_goes_to_those_who_accept_it() {
    fn coded() -> impl IntoResponse {
        (
            [("cache-control", "max-age=60"), ("content-encoding", "gzip")],
            Bytes::from_static(b"\x1f\x8b coded by the handler"),
        )
    }
    let served = Served::inside(Codings::one_of(ALL), coded).await;
    for _ in 0..2 {
        let got = served.get(Some("gzip, br"), &[]).await;
        assert_eq!((got.coding(), &got.body[..2]), (Some("gzip"), &b"\x1f\x8b"[..]));
    }
    assert_eq!(served.calls(), 1);
    // The handler gives this to everybody, but the cache does not.
    assert!(!served.get(Some("br"), &[]).await.told().contains("; hit"));
    assert_eq!(served.calls(), 2);
}

#[tokio::test]
async fn small_content_is_not_coded_and_one_copy_is_for_everybody() {
    fn small() -> impl IntoResponse {
        ([("cache-control", "max-age=60")], "small")
    }
    let served = Served::inside(Codings::one_of(ALL), small).await;
    for accepts in [Some("gzip"), Some("br"), Some("identity"), None] {
        let got = served.get(accepts, &[]).await;
        assert_eq!(
            (got.coding(), &got.body[..], got.field("vary")),
            (None, &b"small"[..], None),
            "{accepts:?}"
        );
    }
    assert_eq!(served.calls(), 1);
}

#[tokio::test]
async fn a36_a_client_that_refuses_every_coding_changes_nothing_for_the_others() {
    // By known codings, the service is asked for plain content.
    let served = Served::inside(Codings::one_of(ALL), fresh).await;
    for accepts in ["identity;q=0", "*;q=0", "identity;q=0, *;q=0"] {
        let got = served.get(Some(accepts), &[]).await;
        assert_eq!((got.status, got.coding()), (StatusCode::OK, None), "{accepts}");
    }
    let got = served.get(Some("identity;q=0, br"), &[]).await;
    assert_eq!((got.status, got.coding()), (StatusCode::OK, Some("br")));
    // As sent, tower-http refuses, and that is nobody else's.
    let served = Served::inside(Codings::AsSent, fresh).await;
    for accepts in ["identity;q=0", "*;q=0"] {
        for _ in 0..2 {
            let got = served.get(Some(accepts), &[]).await;
            assert_eq!(
                (got.status, got.told()),
                (StatusCode::NOT_ACCEPTABLE, "larder; fwd=uri-miss; detail=\"drawn-error\"")
            );
        }
    }
    let got = served.get(Some("gzip"), &[]).await;
    assert_eq!((got.status, got.coding()), (StatusCode::OK, Some("gzip")));
    assert_eq!(got.decoded().await, page());
}

/// Each answer of the layers in that order, over both versions of HTTP.
async fn check_outside(over_http2: bool) {
    let mut served = Served::outside(fresh).await;
    if over_http2 {
        served = served.over_http2();
    }
    let plain = served.get(Some("identity"), &[]).await;
    assert_eq!((plain.coding(), plain.decoded().await), (None, page()));
    let tag = served.get(Some("identity"), &[]).await.field("etag").unwrap().to_owned();
    for coding in ALL {
        let got = served.get(Some(coding), &[]).await;
        assert_eq!((got.coding(), got.decoded().await), (Some(coding), page()));
        assert_eq!(got.field("vary"), Some("accept-encoding"));
        assert!(got.told().starts_with("larder; hit"));
        // Nothing is coded where there is no content.
        let not_modified = served.get(Some(coding), &[("if-none-match", &tag)]).await;
        assert_eq!(
            (not_modified.status, not_modified.coding()),
            (StatusCode::NOT_MODIFIED, None),
            "{coding}"
        );
        assert!(not_modified.body.is_empty());
        let failed = served.get(Some(coding), &[("if-match", "\"other\"")]).await;
        assert_eq!((failed.status, failed.coding()), (StatusCode::PRECONDITION_FAILED, None), "{coding}");
        assert!(failed.body.is_empty());
        let head = served.send(Method::HEAD, Some(coding), &[]).await;
        assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0), "{coding}");
        // A range is one of the plain content.
        let part = served.get(Some(coding), &[("range", "bytes=10-19")]).await;
        assert_eq!((part.status, part.coding()), (StatusCode::PARTIAL_CONTENT, None), "{coding}");
        assert_eq!(part.body, page()[10..20]);
        let beyond = served.get(Some(coding), &[("range", "bytes=999999-")]).await;
        assert_eq!((beyond.status, beyond.coding()), (StatusCode::RANGE_NOT_SATISFIABLE, None), "{coding}");
        assert!(beyond.body.is_empty());
    }
    assert_eq!(served.calls(), 1, "one copy for all codings");
}

#[tokio::test]
async fn compression_outside_the_cache_codes_what_has_content_over_http1() {
    check_outside(false).await;
}

#[tokio::test]
async fn compression_outside_the_cache_codes_what_has_content_over_http2() {
    check_outside(true).await;
}

#[tokio::test]
async fn answers_without_content_are_not_coded_outside_of_the_cache_where_nothing_is_stored() {
    fn no_content() -> impl IntoResponse {
        StatusCode::NO_CONTENT
    }
    fn not_stored() -> impl IntoResponse {
        ([("cache-control", "no-store"), ("etag", "\"x\"")], page())
    }
    for over_http2 in [false, true] {
        let served = |served: Served| if over_http2 { served.over_http2() } else { served };
        let got = served(Served::outside(no_content).await).get(Some("gzip"), &[]).await;
        assert_eq!((got.status, got.coding()), (StatusCode::NO_CONTENT, None));
        let not_stored = served(Served::outside(not_stored).await);
        for (method, fields) in [(Method::GET, &[("if-none-match", "\"x\"")][..]), (Method::HEAD, &[])] {
            let got = not_stored.send(method.clone(), Some("gzip"), fields).await;
            assert!(got.body.is_empty(), "{method} {fields:?}");
            assert!(method == Method::HEAD || (got.status, got.coding()) == (StatusCode::NOT_MODIFIED, None));
        }
        let only = "only-if-cached";
        let got = not_stored.get(Some("gzip"), &[("cache-control", only)]).await;
        assert_eq!((got.status, got.coding()), (StatusCode::GATEWAY_TIMEOUT, None));
    }
}

#[tokio::test]
async fn va3_ranges_of_files_under_compression_never_mix_two_codings() {
    let folder = Folder::new();
    for partial in [false, true] {
        let policy = StandardPolicy::default().codings(Codings::one_of(["gzip"])).partial(partial);
        let origin = ServiceBuilder::new()
            .layer(SetResponseHeaderLayer::overriding(
                header::CACHE_CONTROL,
                HeaderValue::from_static("max-age=60"),
            ))
            .layer(CompressionLayer::new())
            .service(ServeDir::new(&folder.0));
        let address = wire::serve(cache_builder().policy(policy).build().layer(origin)).await;
        let get = async |fields: &[(&str, &str)]| {
            let fields = [&[("accept-encoding", "gzip")], fields].concat();
            wire::get_bytes(address, "/large.txt", &fields).await
        };
        // The first half is one of the file, as no range is coded, under the tag that the coded file has as well.
        let (first, beginning) = get(&[("range", "bytes=0-9999")]).await;
        let tag = first.headers["etag"].to_str().unwrap().to_owned();
        assert_eq!(
            (first.status, first.headers.get("content-encoding")),
            (StatusCode::PARTIAL_CONTENT, None)
        );
        assert_eq!(beginning, codings::content(7_000).as_bytes()[..10_000]);
        // Another client has the coded file stored.
        for _ in 0..2 {
            get(&[]).await;
        }
        let (rest, bytes) = get(&[("range", "bytes=10000-"), ("if-range", &tag)]).await;
        match rest.status {
            StatusCode::OK => assert!(rest.headers.get("content-range").is_none()),
            _ => assert_eq!([beginning, bytes].concat(), codings::content(7_000).as_bytes(), "{rest:?}"),
        }
    }
}
