//! What the origin gets to see.

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderName, Method, Request, header};
use http_body_util::Empty;
use larder::KeyParts;
use larder::policy::cloudfront::{
    CacheCookieBehavior, CacheHeaderBehavior, CachePolicyConfig, CacheQueryStringBehavior, Distribution,
    OriginRequestCookieBehavior, OriginRequestHeaderBehavior, OriginRequestPolicyConfig,
    OriginRequestQueryStringBehavior,
};

use tower::Service;

use super::{bench, lifetimes};
use crate::support::bench::{Seen, read};
use crate::support::stores::at_rest;
use crate::support::{Bench, Reply, cache_builder};

/// The fields that the origin has got, by name.
fn seen(bench: &Bench) -> Vec<(String, String)> {
    let last = bench.origin.last();
    let mut seen: Vec<_> = last
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    seen.sort();
    seen
}

fn has(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What a browser sends, and what nobody should.
const BROWSERS: [(&str, &str); 22] = [
    ("accept", "text/html"),
    ("accept-language", "de"),
    ("authorization", "Basic eA=="),
    ("cache-control", "max-age=0"),
    ("cdn-loop", "edge"),
    ("cloudfront-viewer-country", "DE"),
    ("content-type", "text/plain"),
    ("cookie", "z=1; a=2"),
    ("expect", "x"),
    ("origin", "https://a.example"),
    ("proxy-authorization", "Basic eA=="),
    ("referer", "https://a.example/"),
    ("te", "trailers"),
    ("user-agent", "browser"),
    ("via", "1.1 edge"),
    ("x-amz-cf-id", "1"),
    ("x-edge-location", "1"),
    ("x-forwarded-for", "192.0.2.1"),
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-proto", "https"),
    ("x-http-method-override", "DELETE"),
    ("x-real-ip", "192.0.2.1"),
];

#[tokio::test]
async fn cf14_without_an_origin_request_policy_the_origin_sees_the_key_and_the_fixed_fields() {
    let bench = bench(Distribution::new(CachePolicyConfig::caching_optimized()), [Reply::new("x")]);
    bench.get_with("/a?b", &BROWSERS).await;
    let fixed = [
        ("cdn-loop", "edge"),
        ("user-agent", "larder"),
        ("via", "1.1 edge"),
        ("x-forwarded-for", "192.0.2.1"),
    ];
    assert_eq!(seen(&bench), has(&fixed));
    assert_eq!(bench.origin.last().uri, "/a");
}

#[tokio::test]
async fn cf4_everything_of_the_viewer_is_forwarded_except_what_never_is() {
    let distribution = Distribution::new(lifetimes(0, 60, 60))
        .origin_request_policy(OriginRequestPolicyConfig::all_viewer());
    let bench = bench(distribution, [Reply::new("x")]);
    bench.get_with("/a?b", &BROWSERS).await;
    let expected = [
        ("accept", "text/html"),
        ("accept-language", "de"),
        ("authorization", "Basic eA=="),
        ("cache-control", "max-age=0"),
        ("cdn-loop", "edge"),
        ("content-type", "text/plain"),
        ("cookie", "a=2; z=1"),
        ("expect", "x"),
        ("host", "example.com"),
        ("origin", "https://a.example"),
        ("referer", "https://a.example/"),
        ("user-agent", "browser"),
        ("via", "1.1 edge"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "evil.example"),
        ("x-http-method-override", "DELETE"),
    ];
    assert_eq!(seen(&bench), has(&expected));
    assert_eq!(bench.origin.last().uri, "/a?b");
}

/// What of `a`, `b` and `c` goes to the origin, as query parameters, cookies and header fields.
async fn forwarded(
    policy: CachePolicyConfig,
    origin: Option<OriginRequestPolicyConfig>,
) -> (String, String, String) {
    let distribution = Distribution::new(policy);
    let distribution = match origin {
        Some(origin) => distribution.origin_request_policy(origin),
        None => distribution,
    };
    let bench = bench(distribution, [Reply::new("x")]);
    let fields = [("cookie", "a=1; b=1; c=1"), ("a", "1"), ("b", "1"), ("c", "1")];
    bench.get_with("/?a&b&c", &fields).await;
    let last = bench.origin.last();
    let query = last.uri.query().unwrap_or_default().replace('&', "");
    let cookies = last.headers.get("cookie").map(|line| line.to_str().unwrap()).unwrap_or_default();
    let cookies = cookies.replace("=1", "").replace("; ", "");
    let fields = ["a", "b", "c"].into_iter().filter(|name| last.headers.contains_key(*name)).collect();
    (query, cookies, fields)
}

#[tokio::test]
async fn cf4_what_is_keyed_or_admitted_goes_to_the_origin() {
    use CacheCookieBehavior as Keyed;
    use OriginRequestCookieBehavior as Sent;
    let name = HeaderName::from_static;
    for (keyed, keyed_query, sent, sent_query, expected) in [
        (Keyed::allow_list(["a"]), CacheQueryStringBehavior::allow_list(["a"]), None, None, "a"),
        (
            Keyed::allow_list(["a"]),
            CacheQueryStringBehavior::allow_list(["a"]),
            Some(Sent::allow_list(["b"])),
            Some(OriginRequestQueryStringBehavior::allow_list(["b"])),
            "ab",
        ),
        (
            Keyed::allow_list(["a"]),
            CacheQueryStringBehavior::allow_list(["a"]),
            Some(Sent::all()),
            Some(OriginRequestQueryStringBehavior::all()),
            "abc",
        ),
        (
            Keyed::allow_list(["a"]),
            CacheQueryStringBehavior::allow_list(["a"]),
            Some(Sent::all_except(["a", "b"])),
            Some(OriginRequestQueryStringBehavior::all_except(["a", "b"])),
            "ac",
        ),
        (
            Keyed::all_except(["a"]),
            CacheQueryStringBehavior::all_except(["a"]),
            Some(Sent::allow_list(["a"])),
            Some(OriginRequestQueryStringBehavior::allow_list(["a"])),
            "abc",
        ),
        (
            Keyed::all_except(["a", "b"]),
            CacheQueryStringBehavior::all_except(["a", "b"]),
            Some(Sent::deny_list(["b", "c"])),
            Some(OriginRequestQueryStringBehavior::deny_list(["b", "c"])),
            "ac",
        ),
        (Keyed::all(), CacheQueryStringBehavior::all(), Some(Sent::none()), None, "abc"),
        (
            Keyed::none(),
            CacheQueryStringBehavior::none(),
            Some(Sent::allow_list(["c"])),
            Some(OriginRequestQueryStringBehavior::allow_list(["c"])),
            "c",
        ),
    ] {
        let policy = lifetimes(0, 60, 60).cookie_behavior(keyed).query_string_behavior(keyed_query);
        let origin = sent.map(|sent| {
            let origin = OriginRequestPolicyConfig::new().cookie_behavior(sent);
            origin.query_string_behavior(sent_query.unwrap_or_default())
        });
        let (query, cookies, fields) = forwarded(policy, origin).await;
        assert_eq!((&*query, &*cookies, &*fields), (expected, expected, ""));
    }
    for (sent, expected) in [
        (OriginRequestHeaderBehavior::none(), "a"),
        (OriginRequestHeaderBehavior::allow_list([name("b")]), "ab"),
        (OriginRequestHeaderBehavior::all(), "abc"),
        (OriginRequestHeaderBehavior::all_except([name("a"), name("b")]), "ac"),
    ] {
        let policy = lifetimes(0, 60, 60).header_behavior(CacheHeaderBehavior::allow_list([name("a")]));
        let origin = OriginRequestPolicyConfig::new().header_behavior(sent);
        let (query, cookies, fields) = forwarded(policy, Some(origin)).await;
        assert_eq!((&*query, &*cookies, &*fields), ("", "", expected));
    }
}

#[tokio::test]
async fn cf14_the_host_is_the_origins_unless_it_is_forwarded() {
    let distribution = || Distribution::new(lifetimes(0, 60, 60));
    let of = async |distribution: Distribution, uri: &str| {
        let bench = bench(distribution, [Reply::new("x")]);
        bench.get(uri).await;
        let last = bench.origin.last();
        (last.headers.get("host").map(|host| host.to_str().unwrap().to_owned()), last.uri.to_string())
    };
    let host = Authority::from_static("origin.example");
    assert_eq!(of(distribution(), "/a").await, (None, "/a".into()));
    assert_eq!(of(distribution(), "http://example.com/a").await, (None, "/a".into()));
    let own = Some("origin.example".to_owned());
    assert_eq!(of(distribution().origin_host(host.clone()), "/a").await, (own.clone(), "/a".into()));
    let settled = of(distribution().origin_host(host.clone()), "http://example.com/a").await;
    assert_eq!(settled, (own, "http://origin.example/a".into()));
    let forwards =
        distribution().origin_host(host).origin_request_policy(OriginRequestPolicyConfig::host_header_only());
    let kept = of(forwards, "http://example.com/a").await;
    assert_eq!(kept, (Some("example.com".into()), "http://example.com/a".into()));
}

#[tokio::test]
async fn a_post_reaches_the_origin_with_its_content_fields_and_its_credentials() {
    let bench = bench(Distribution::new(CachePolicyConfig::caching_optimized()), [Reply::new("x")]);
    let fields = [
        ("authorization", "Basic eA=="),
        ("content-length", "3"),
        ("content-type", "text/plain"),
        ("cookie", "a=1"),
        ("if-match", "\"1\""),
        ("x-csrf", "1"),
    ];
    bench.send(Method::POST, "/a?b", &fields).await;
    let expected = [
        ("authorization", "Basic eA=="),
        ("content-length", "3"),
        ("content-type", "text/plain"),
        ("if-match", "\"1\""),
        ("user-agent", "larder"),
    ];
    assert_eq!(seen(&bench), has(&expected));
    assert_eq!(bench.origin.last().uri, "/a");
}

#[tokio::test]
async fn cf14_authorization_reaches_the_origin_unasked_by_what_is_no_get_head_or_options() {
    let authorization = [("authorization", "Basic eA=="), ("upgrade", "h2c")];
    for (method, is_seen) in [
        (Method::GET, false),
        (Method::HEAD, false),
        (Method::OPTIONS, false),
        (Method::DELETE, true),
        (Method::PATCH, true),
    ] {
        for policy in [CachePolicyConfig::caching_optimized(), CachePolicyConfig::caching_disabled()] {
            let bench = bench(Distribution::new(policy), [Reply::new("x")]);
            bench.send(method.clone(), "/", &authorization).await;
            let sent = bench.origin.last().headers;
            assert_eq!(sent.contains_key("authorization"), is_seen, "{method}");
            assert!(!sent.contains_key("upgrade"), "{method}");
        }
    }
}

#[tokio::test]
async fn cf11_where_no_cookies_are_configured_none_goes_up_and_none_comes_down() {
    let reply = || Reply::cc("x", "max-age=60").field("set-cookie", "s=1");
    let disabled = CachePolicyConfig::caching_disabled();
    let distribution = Distribution::new(CachePolicyConfig::caching_optimized()).behavior("/off/*", disabled);
    let bench = bench(distribution, [reply()]);
    for (method, path) in [
        (Method::GET, "/"),
        (Method::GET, "/"),
        (Method::POST, "/"),
        (Method::GET, "/off/x"),
        (Method::PUT, "/off/x"),
    ] {
        let seen = bench.send(method.clone(), path, &[("cookie", "s=1")]).await;
        assert_eq!(seen.field("set-cookie"), None, "{method} {path}");
        assert!(!bench.origin.last().headers.contains_key("cookie"), "{method} {path}");
    }
    // Also where the response is validated, and where it is not stored.
    bench.origin.then(reply().field("cache-control", "no-store"));
    assert_eq!(bench.get("/other").await.field("set-cookie"), None);
}

#[tokio::test]
async fn cf11_where_cookies_are_configured_a_cookie_is_set_for_all_only_if_the_response_says_so() {
    let policy = lifetimes(0, 60, 60).cookie_behavior(CacheCookieBehavior::allow_list(["lang"]));
    let sets = |cache_control| Reply::cc("x", cache_control).field("set-cookie", "lang=de");
    let of = |distribution| bench(distribution, [sets("max-age=60")]);
    let bench = of(Distribution::new(policy.clone()));
    let seen = bench.get("/").await;
    assert_eq!(seen.field("set-cookie"), Some("lang=de"));
    seen.told("larder; fwd=uri-miss; detail=\"set-cookie\"");
    bench.origin.then(sets("public, max-age=60"));
    bench.get("/").await;
    assert_eq!(bench.get("/").await.told("larder; hit; ttl=60").field("set-cookie"), Some("lang=de"));
    bench.origin.then(sets("max-age=60, no-cache=\"set-cookie\""));
    bench.get("/one").await;
    assert_eq!(bench.get("/one").await.told("larder; hit; ttl=60").field("set-cookie"), None);
    let bench = of(Distribution::new(policy).share_credentials(true));
    bench.get("/").await;
    assert_eq!(bench.get("/").await.told("larder; hit; ttl=60").field("set-cookie"), Some("lang=de"));
}

#[tokio::test]
async fn what_a_person_gets_is_shared_only_if_the_key_has_the_credential_or_the_switch_says_so() {
    let distribution = || {
        Distribution::new(lifetimes(0, 60, 60)).origin_request_policy(OriginRequestPolicyConfig::all_viewer())
    };
    let person = [("authorization", "Basic eA==")];
    let bench = bench(distribution(), [Reply::cc("x", "max-age=60")]);
    bench.get_with("/", &person).await.told("larder; fwd=uri-miss; detail=\"authorization\"");
    bench.get_with("/", &[("cookie", "a=1")]).await.told("larder; fwd=uri-miss; detail=\"cookie\"");
    let bench = super::bench(distribution().share_credentials(true), [Reply::cc("x", "max-age=60")]);
    bench.get_with("/", &person).await.told("larder; fwd=uri-miss; stored; ttl=60");
    assert!(bench.get_with("/", &[("authorization", "Basic eQ=="), ("cookie", "a=1")]).await.is_hit());
    // A minimum lifts what the response says of storing, and not this.
    let forced = Distribution::new(lifetimes(60, 60, 60))
        .origin_request_policy(OriginRequestPolicyConfig::all_viewer());
    let bench = super::bench(forced, [Reply::cc("x", "no-store")]);
    bench.get_with("/", &person).await.told("larder; fwd=uri-miss; detail=\"authorization\"");
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=60");
    let keyed =
        lifetimes(0, 60, 60).header_behavior(CacheHeaderBehavior::allow_list([header::AUTHORIZATION]));
    let bench = super::bench(Distribution::new(keyed), [Reply::cc("x", "max-age=60")]);
    bench.get_with("/", &person).await;
    assert!(bench.get_with("/", &person).await.is_hit());
    assert!(!bench.get_with("/", &[("authorization", "Basic eQ==")]).await.is_hit());
}

#[tokio::test]
async fn a11_cloudfronts_own_fields_count_only_where_somebody_vouches_for_them() {
    let country = HeaderName::from_static("cloudfront-viewer-country");
    let policy = lifetimes(0, 60, 60).header_behavior(CacheHeaderBehavior::allow_list([country]));
    let forged = [("cloudfront-viewer-country", "DE")];
    let bench = bench(Distribution::new(policy.clone()), [Reply::new("x")]);
    bench.get_with("/", &forged).await;
    assert!(!bench.origin.last().headers.contains_key("cloudfront-viewer-country"));
    assert!(bench.get("/").await.is_hit(), "a forged field is as good as none");
    let everything = OriginRequestPolicyConfig::all_viewer_and_cloudfront_headers_2022_06();
    let distribution = Distribution::new(lifetimes(0, 60, 60)).origin_request_policy(everything);
    let bench = super::bench(distribution, [Reply::new("x")]);
    bench.get_with("/", &forged).await;
    assert!(!bench.origin.last().headers.contains_key("cloudfront-viewer-country"));
    let bench = super::bench(Distribution::new(policy).trust_viewer_headers(true), [Reply::new("x")]);
    bench.get_with("/", &forged).await;
    assert_eq!(bench.origin.last().headers["cloudfront-viewer-country"], "DE");
    assert!(!bench.get("/").await.is_hit());
}

#[tokio::test]
async fn a36_what_all_viewer_admits_goes_without_believed_fields_unless_a_policy_names_them() {
    let names = |bench: &Bench| seen(bench).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let believed =
        [("x-forwarded-host", "a"), ("x-http-method", "b"), ("x_forwarded_host", "c"), ("origin", "d")];
    let keyed = CachePolicyConfig::use_origin_cache_control_headers();
    let distribution =
        Distribution::new(keyed).origin_request_policy(OriginRequestPolicyConfig::all_viewer());
    let careful = distribution.clone().strip_unkeyed(true);
    for (distribution, expected) in [
        (
            distribution.clone(),
            &["host", "origin", "x-forwarded-host", "x-http-method", "x_forwarded_host"][..],
        ),
        (careful.clone(), &["host", "origin", "x-http-method"]),
        (
            careful.key_header(HeaderName::from_static("x-forwarded-host")),
            &["host", "origin", "x-forwarded-host", "x-http-method"],
        ),
    ] {
        let reply = Reply::cc("x", "max-age=60").field("vary", "x-forwarded-host");
        let bench = bench(distribution.clone(), [reply, Reply::new("y")]);
        bench.get_with("/a", &believed).await;
        assert_eq!(names(&bench), expected, "{distribution}");
        // What does not go to the origin does not select.
        let other = [("x-forwarded-host", "b"), ("x-http-method", "b"), ("origin", "d")];
        let is_seen = expected.contains(&"x-forwarded-host");
        assert_eq!(bench.get_with("/a", &other).await.is_hit(), !is_seen, "{distribution}");
        // An unsafe request keeps what its client means by it.
        bench.send(Method::POST, "/a", &believed).await;
        assert!(names(&bench).contains(&"x-forwarded-host".to_owned()));
    }
}

#[tokio::test]
async fn cf4_a_header_can_be_added_to_the_key_of_every_behavior() {
    let name = HeaderName::from_static("x-team");
    let distribution = Distribution::new(lifetimes(0, 60, 60))
        .behavior("/b/*", CachePolicyConfig::caching_optimized())
        .key_header(name.clone())
        .key_header(name)
        .key_header(header::COOKIE);
    let said = distribution.to_string();
    assert_eq!(said.matches("key: headers x-team,").count(), 2, "{said}");
    let bench = bench(distribution, ["1", "2", "3", "4"].map(|content| Reply::cc(content, "max-age=60")));
    for (path, team, content) in [("/a", "1", "1"), ("/a", "2", "2"), ("/b/", "1", "3"), ("/b/", "2", "4")] {
        bench.get_with(path, &[("x-team", team)]).await.has_body(content);
        assert!(bench.get_with(path, &[("x-team", team)]).await.is_hit());
        assert_eq!(bench.origin.last().headers["x-team"], team);
    }
}

#[tokio::test]
async fn a11_a_get_with_content_goes_past_the_cache() {
    let bench =
        bench(Distribution::new(CachePolicyConfig::caching_optimized()), [Reply::cc("x", "max-age=60")]);
    bench.get("/").await;
    let content = [("content-length", "3"), ("content-type", "text/plain")];
    bench.get_with("/", &content).await.told("larder; fwd=bypass; detail=\"content\"");
    assert_eq!(bench.origin.last().headers["content-type"], "text/plain");
    // Without content, the field is unkeyed input.
    bench.get_with("/other", &content[1..]).await;
    assert!(!bench.origin.last().headers.contains_key("content-type"));
}

#[tokio::test]
async fn a_websocket_is_opened_and_other_upgrades_are_not() {
    let bench =
        bench(Distribution::new(CachePolicyConfig::caching_optimized()), [Reply::cc("x", "max-age=60")]);
    let websocket = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "k"),
        ("sec-websocket-version", "13"),
    ];
    bench.get_with("/", &websocket).await.told("larder; fwd=bypass; detail=\"upgrade\"");
    let opened = [websocket[0], websocket[2], websocket[3], websocket[1], ("user-agent", "larder")];
    assert_eq!(seen(&bench), has(&opened));
    let other = [("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "x")];
    bench.get_with("/", &other).await.told("larder; fwd=uri-miss; stored; ttl=60");
    assert!(!bench.origin.last().headers.contains_key("upgrade"));
    assert!(bench.get("/").await.is_hit());
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_what_is_coded_for_nobody() {
    let bench =
        bench(Distribution::new(CachePolicyConfig::caching_optimized()), [Reply::cc("x", "max-age=60")]);
    let request = Request::get("/").version(http::Version::HTTP_10).header("accept-encoding", "gzip");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    read(bench.cache.clone().call(request).await.unwrap()).await;
    assert!(!bench.origin.last().headers.contains_key("accept-encoding"));
    assert!(bench.get("/").await.is_hit());
}

#[tokio::test]
async fn a_hint_of_a_handler_counts_as_what_the_response_says_within_the_policy() {
    use http::Response;
    use larder::CacheHint;
    use tower::{Layer, ServiceExt, service_fn};
    let seconds = std::time::Duration::from_secs;
    for (hint, expected) in [
        (CacheHint::new().lifetime(seconds(30)), "larder; fwd=uri-miss; stored; ttl=30"),
        (CacheHint::new().lifetime(seconds(300)), "larder; fwd=uri-miss; stored; ttl=100"),
        (CacheHint::new().lifetime(seconds(1)), "larder; fwd=uri-miss; stored; ttl=10"),
        (CacheHint::new().no_store(), "larder; fwd=uri-miss; detail=\"hint\""),
        (CacheHint::new().tag("\u{1}"), "larder; fwd=uri-miss; detail=\"bad-tag\""),
    ] {
        let handler = service_fn(move |_: Request<Empty<Bytes>>| {
            let response = Response::builder().header("cache-control", "no-store").extension(hint.clone());
            let response = response.body(http_body_util::Full::new(Bytes::from("x"))).unwrap();
            std::future::ready(Ok::<_, std::convert::Infallible>(response))
        });
        let layer = cache_builder().policy(Distribution::new(lifetimes(10, 60, 100))).build();
        let request = Request::get("http://example.com/").body(Empty::new()).unwrap();
        let answer = layer.layer(handler).oneshot(request).await.unwrap();
        read(answer).await.told(expected);
    }
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn a11_below_a_nested_router_the_original_uri_has_nothing_unkeyed_either() {
    use axum::Router;
    use axum::extract::OriginalUri;
    use axum::routing::get;
    use tower::ServiceExt;
    let page = |OriginalUri(original): OriginalUri, uri: http::Uri| async move {
        ([("cache-control", "max-age=60")], format!("{original} {uri}"))
    };
    let cache = cache_builder().policy(Distribution::new(CachePolicyConfig::caching_optimized())).build();
    let app: Router = Router::new().nest("/api", Router::new().route("/a", get(page)).layer(cache));
    let ask = async |uri: &str| {
        let request = Request::get(uri).body(axum::body::Body::empty()).unwrap();
        read(app.clone().oneshot(request).await.unwrap()).await
    };
    ask("http://evil.example/api/a?x")
        .await
        .has_body("/api/a /a")
        .told("larder; fwd=uri-miss; stored; ttl=60");
    ask("http://example.com/api/a?y").await.has_body("/api/a /a").told("larder; hit; ttl=60");
}

#[tokio::test]
async fn a_set_cookie_that_was_taken_away_does_not_come_back_when_cookies_are_forwarded_later() {
    let without = Distribution::new(CachePolicyConfig::caching_optimized());
    let reply = Reply::cc("x", "public, max-age=60").field("etag", "\"a\"").field("set-cookie", "sid=alice");
    let bench = Bench::with(cache_builder().policy(without.clone()), [reply]);
    let seen = bench.get("/a").await;
    assert_eq!(seen.field("set-cookie"), None);
    seen.told("larder; fwd=uri-miss; stored; ttl=60");
    at_rest().await;
    bench.handle.set_policy(without.origin_request_policy(OriginRequestPolicyConfig::all_viewer()));
    bench.later(61);
    bench.origin.not_modified(Some(Reply::cc("", "public, max-age=60").status(304).field("etag", "\"a\"")));
    for told in ["fwd=stale; fwd-status=304; stored", "hit"] {
        let seen = bench.get("/a").await;
        assert_eq!(seen.field("set-cookie"), None, "{told}");
        seen.told(&format!("larder; {told}; ttl=60"));
        at_rest().await;
    }
}

async fn send(bench: &Bench, request: http::request::Builder) -> Seen {
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    read(bench.cache.clone().call(request).await.unwrap()).await
}

/// The URI, the scheme among the extensions and the host that the origin has got.
fn origin_seen(bench: &Bench) -> (String, Option<Scheme>, String) {
    let last = bench.origin.last();
    let host = last.headers.get("host").map(|host| host.to_str().unwrap().to_owned());
    (last.uri.to_string(), last.extensions.get().cloned(), host.unwrap_or_default())
}

fn forwards_host() -> Distribution {
    Distribution::new(lifetimes(0, 60, 60))
        .origin_request_policy(OriginRequestPolicyConfig::host_header_only())
}

#[tokio::test]
async fn a37_a_request_that_may_be_stored_has_one_scheme_for_the_origin() {
    for (host, own) in [(None, false), (Some("origin.example"), false), (None, true)] {
        let distribution = match (host, own) {
            (Some(host), _) => {
                Distribution::new(lifetimes(0, 60, 60)).origin_host(Authority::from_static(host))
            }
            (None, true) => Distribution::new(lifetimes(0, 60, 60)),
            (None, false) => forwards_host(),
        };
        let expected = match (host, own) {
            (Some(host), _) => format!("http://{host}/a"),
            (None, true) => "/a".into(),
            (None, false) => "http://example.com/a".into(),
        };
        let bench = bench(distribution, [Reply::new("x")]);
        for method in [Method::GET, Method::HEAD] {
            for scheme in [Scheme::HTTPS, Scheme::HTTP] {
                bench.handle.purge_target(&larder::store::PurgeTarget::All).await.unwrap();
                let uri = format!("{scheme}://example.com/a");
                send(&bench, Request::builder().method(&method).uri(uri)).await;
                let (uri, extension, _) = origin_seen(&bench);
                assert_eq!((uri, extension), (expected.clone(), Some(Scheme::HTTP)), "{method} {scheme}");
            }
        }
    }
    // In a request of HTTP/1.1 only the extension says it.
    let bench = bench(forwards_host(), [Reply::new("x")]);
    let request = || Request::get("/a").extension(Scheme::HTTPS).header("host", "Example.com:443");
    send(&bench, request()).await;
    assert_eq!(origin_seen(&bench), ("/a".into(), Some(Scheme::HTTP), "example.com".into()));
    assert!(bench.get("http://example.com/a").await.is_hit());
}

#[tokio::test]
async fn a37_what_is_for_its_client_alone_keeps_its_scheme() {
    let disabled = Distribution::new(CachePolicyConfig::caching_disabled())
        .origin_request_policy(OriginRequestPolicyConfig::host_header_only());
    for (method, distribution) in
        [(Method::POST, forwards_host()), (Method::OPTIONS, forwards_host()), (Method::GET, disabled)]
    {
        let bench = bench(distribution, [Reply::new("x")]);
        let request = Request::builder().method(&method).uri("https://example.com/a");
        send(&bench, request.extension(Scheme::HTTPS)).await;
        let (uri, extension, _) = origin_seen(&bench);
        assert_eq!((&*uri, extension), ("https://example.com/a", Some(Scheme::HTTPS)), "{method}");
    }
    // Unless every request has that of the origin.
    let bench = bench(forwards_host().origin_scheme(Scheme::HTTPS), [Reply::new("x")]);
    for method in [Method::POST, Method::GET] {
        send(&bench, Request::builder().method(&method).uri("http://example.com/a")).await;
        let (uri, extension, _) = origin_seen(&bench);
        assert_eq!((&*uri, extension), ("https://example.com/a", Some(Scheme::HTTPS)), "{method}");
    }
}

#[tokio::test]
async fn a37_the_origin_sees_the_scheme_that_is_in_the_key() {
    let name = HeaderName::from_static("cloudfront-forwarded-proto");
    let policy = lifetimes(0, 60, 60).header_behavior(CacheHeaderBehavior::allow_list([name]));
    let distribution =
        Distribution::new(policy).origin_request_policy(OriginRequestPolicyConfig::host_header_only());
    let ask = async |bench: &Bench, scheme: &str| {
        let request = Request::get(format!("{scheme}://example.com/a"));
        let is_hit = send(bench, request.header("cloudfront-forwarded-proto", scheme)).await.is_hit();
        (is_hit, origin_seen(bench).0)
    };
    let believing = bench(distribution.clone().trust_viewer_headers(true), [Reply::new("x")]);
    assert_eq!(ask(&believing, "https").await, (false, "https://example.com/a".into()));
    assert_eq!(ask(&believing, "http").await, (false, "http://example.com/a".into()));
    let doubting = bench(distribution, [Reply::new("x")]);
    assert_eq!(ask(&doubting, "https").await, (false, "http://example.com/a".into()));
    assert!(ask(&doubting, "http").await.0, "a client's word is in no key");
}

#[tokio::test]
async fn a_query_is_forwarded_with_the_fields_of_its_content_that_are_in_the_key() {
    let bench = bench(Distribution::new(lifetimes(0, 60, 60)), [Reply::new("x")]);
    let request = Request::builder().method(Method::QUERY).uri("/a").extension(KeyParts::new().content("q"));
    let fields = [
        ("content-disposition", "x"),
        ("content-language", "de"),
        ("content-location", "/b"),
        ("content-type", "text/plain"),
        ("digest", "x"),
    ];
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    send(&bench, request).await.told("larder; fwd=uri-miss; stored; ttl=60");
    let expected = [("content-language", "de"), ("content-type", "text/plain"), ("user-agent", "larder")];
    assert_eq!(seen(&bench), has(&expected));
}

#[tokio::test]
async fn max_forwards_goes_to_the_origin_only_where_the_answer_is_for_its_client() {
    let distribution = Distribution::new(lifetimes(0, 60, 60))
        .origin_request_policy(OriginRequestPolicyConfig::all_viewer())
        .behavior("/off", CachePolicyConfig::caching_disabled());
    let bench = bench(distribution, [Reply::new("x")]);
    for (method, path, is_there) in [
        (Method::GET, "/", false),
        (Method::OPTIONS, "/", true),
        (Method::TRACE, "/", true),
        (Method::GET, "/off", true),
    ] {
        bench.send(method.clone(), path, &[("max-forwards", "0")]).await;
        let last = bench.origin.last();
        assert_eq!(last.headers.contains_key("max-forwards"), is_there, "{method} {path}");
    }
}

#[cfg(feature = "viewer")]
#[tokio::test]
async fn a11_the_fields_of_the_viewer_layer_are_believed_and_those_of_its_client_are_not() {
    use larder::ViewerLayer;
    use larder::viewer::ViewerField;
    use tower::{Layer, ServiceExt};
    let mobile = HeaderName::from_static("cloudfront-is-mobile-viewer");
    let policy = lifetimes(0, 60, 60).header_behavior(CacheHeaderBehavior::allow_list([mobile]));
    let bench = bench(Distribution::new(policy), [Reply::new("x")]);
    let service = ViewerLayer::new().only([ViewerField::IsMobile]).layer(bench.cache.clone());
    let ask = async |agent: &str| {
        let request = Request::get("/").header("user-agent", agent);
        let request = request.header("cloudfront-is-mobile-viewer", "forged");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        read(service.clone().oneshot(request).await.unwrap()).await.is_hit()
    };
    assert!(!ask("a (iPhone)").await);
    assert_eq!(bench.origin.last().headers["cloudfront-is-mobile-viewer"], "true");
    assert!(ask("b (iPhone)").await);
    assert!(!ask("a (X11)").await);
}

#[tokio::test]
async fn a11_a_clients_fields_with_underscores_do_not_pass_for_cloudfronts_own() {
    let fields = [
        ("cloudfront_viewer_country", "XX"),
        ("cloudfront-viewer_country", "XX"),
        ("x_forwarded_proto", "https"),
        ("x_real_ip", "192.0.2.1"),
        ("x_amz_cf_id", "1"),
        ("x_edge_location", "1"),
        ("x_own", "kept"),
    ];
    let policy = Distribution::new(CachePolicyConfig::caching_optimized())
        .origin_request_policy(OriginRequestPolicyConfig::all_viewer());
    let bench = Bench::with(cache_builder().policy(policy), [Reply::cc("x", "max-age=60")]);
    for method in [Method::GET, Method::POST] {
        bench.send(method, "/a", &fields).await;
        let seen = bench.origin.last().headers;
        let with_underscores: Vec<_> = seen.keys().filter(|name| name.as_str().contains('_')).collect();
        assert_eq!(with_underscores, ["x_own"]);
    }
}
