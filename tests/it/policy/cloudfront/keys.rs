//! What is in CloudFront's keys.

use http::uri::Authority;
use http::{HeaderName, Method, header};
use larder::policy::cloudfront::{
    Behavior, CacheCookieBehavior, CacheHeaderBehavior, CachePolicyConfig, CacheQueryStringBehavior,
    Distribution, OriginRequestPolicyConfig,
};
use larder::store::PurgeTarget;

use super::{bench, lifetimes};
use crate::support::{Bench, Reply};

/// Query all, two headers, and the cookie `ab`.
fn keyed() -> Distribution {
    let names = ["x", "y"].map(HeaderName::from_static);
    let policy = lifetimes(0, 86_400, 86_400)
        .header_behavior(CacheHeaderBehavior::allow_list(names))
        .cookie_behavior(CacheCookieBehavior::allow_list(["ab"]))
        .query_string_behavior(CacheQueryStringBehavior::all())
        .enable_accept_encoding_gzip(true)
        .enable_accept_encoding_brotli(true);
    Distribution::new(policy)
}

type Asked<'a> = (&'a str, &'a [(&'a str, &'a str)]);

/// Whether the second request gets what the first one has stored.
async fn are_same(distribution: Distribution, one: Asked<'_>, other: Asked<'_>) -> bool {
    let bench = bench(distribution, [Reply::cc("x", "public, max-age=60")]);
    bench.get_with(one.0, one.1).await.told("larder; fwd=uri-miss; stored; ttl=60");
    bench.get_with(other.0, other.1).await.is_hit()
}

#[tokio::test]
async fn cf1_requests_that_differ_in_what_is_keyed_do_not_share_a_response() {
    for (one, other) in [
        (("/?a=1&b=2", &[][..]), ("/?b=2&a=1", &[][..])),
        (("/?a", &[]), ("/?a=", &[])),
        (("/?A=1", &[]), ("/?a=1", &[])),
        (("/?a=1", &[]), ("/?a=%31", &[])),
        (("/", &[("x", "1")]), ("/", &[("x", "01")])),
        (("/", &[("x", "1")]), ("/", &[])),
        (("/", &[("cookie", "ab=1")]), ("/", &[("cookie", "ab=2")])),
        (("/", &[]), ("/", &[("cookie", "ab=")])),
        (("/", &[("accept-encoding", "gzip")]), ("/", &[("accept-encoding", "br")])),
        (("/", &[("accept-encoding", "gzip")]), ("/", &[])),
    ] {
        assert!(!are_same(keyed(), one, other).await, "{one:?} {other:?}");
    }
}

#[tokio::test]
async fn cf1_requests_that_do_not_differ_in_what_is_keyed_share_a_response() {
    for (one, other) in [
        (("/", &[("x", "1")][..]), ("/", &[("X", "1")][..])),
        (("/", &[("x", "1"), ("y", "2")]), ("/", &[("y", "2"), ("x", "1")])),
        (("/", &[("cookie", "ab=1; c=2")]), ("/", &[("cookie", "d=3; ab=1")])),
        (("/", &[]), ("/", &[("cookie", "session=1")])),
        (("http://a.example/", &[("host", "a.example")]), ("https://b.example/", &[("host", "b.example")])),
        (("/", &[("accept-encoding", "gzip, br")]), ("/", &[("accept-encoding", "br;q=1, gzip")])),
        (("/", &[("accept-encoding", "gzip, br")]), ("/", &[("accept-encoding", "zstd, br, gzip")])),
        (("/", &[("accept-encoding", "deflate")]), ("/", &[])),
        (("/", &[("accept-language", "de")]), ("/", &[("accept-language", "en")])),
    ] {
        assert!(are_same(keyed(), one, other).await, "{one:?} {other:?}");
    }
}

#[tokio::test]
async fn cf1_get_and_head_share_a_response() {
    let bench = bench(keyed(), [Reply::cc("x", "max-age=60")]);
    bench.send(Method::HEAD, "/", &[]).await;
    assert!(bench.get("/").await.is_hit());
    assert!(bench.send(Method::HEAD, "/", &[]).await.is_hit());
}

#[tokio::test]
async fn a03_a11_the_parts_of_a_key_are_distinct_whatever_their_values_are() {
    for (one, other) in [
        (("/", &[("x", "1"), ("y", "2")][..]), ("/", &[("x", "1y"), ("y", "2")][..])),
        (("/", &[("x", "1,2")]), ("/", &[("x", "1"), ("x", "2")])),
        (("/", &[("x", "1")]), ("/", &[("y", "1")])),
        (("/", &[("x", "ab=1")]), ("/", &[("cookie", "ab=1")])),
        (("/?x=1", &[]), ("/", &[("x", "1")])),
        (("/", &[("cookie", "ab=1; ab=2")]), ("/", &[("cookie", "ab=1;2")])),
    ] {
        assert!(!are_same(keyed(), one, other).await, "{one:?} {other:?}");
    }
}

#[tokio::test]
async fn cf1_what_is_not_keyed_is_not_forwarded_and_does_not_matter() {
    let distribution = Distribution::new(CachePolicyConfig::caching_optimized_for_uncompressed_objects());
    let bench = bench(distribution, [Reply::cc("x", "max-age=60")]);
    bench.get_with("/?a=1", &[("cookie", "a=1"), ("accept-encoding", "gzip")]).await;
    let sent = bench.origin.last();
    assert_eq!(sent.uri, "/");
    assert!(!sent.headers.contains_key("cookie") && !sent.headers.contains_key("accept-encoding"));
    assert!(bench.get_with("/?a=2", &[("authorization", "Basic eA==")]).await.is_hit());
}

#[tokio::test]
async fn cf1_the_key_has_the_parameters_that_are_listed_or_not_left_out_in_their_order() {
    let listed = |names: CacheQueryStringBehavior| {
        Distribution::new(lifetimes(0, 60, 60).query_string_behavior(names))
    };
    let only = || listed(CacheQueryStringBehavior::allow_list(["a", "b"]));
    assert!(are_same(only(), ("/?a=1&c=3&b=2", &[]), ("/?a=1&b=2&d", &[])).await);
    assert!(!are_same(only(), ("/?a=1&b=2", &[]), ("/?b=2&a=1", &[])).await);
    let except = || listed(CacheQueryStringBehavior::all_except(["utm_*"]));
    assert!(are_same(except(), ("/?a=1&utm_source=x", &[]), ("/?utm_medium=y&a=1", &[])).await);
    assert!(!are_same(except(), ("/?a=1", &[]), ("/?A=1", &[])).await);
}

#[tokio::test]
async fn cf1_a_signature_is_neither_in_the_key_nor_forwarded() {
    let policy = lifetimes(0, 60, 60).query_string_behavior(CacheQueryStringBehavior::all());
    let signed = || Distribution::new(Behavior::new(policy.clone()).signed(true));
    let (one, other) = ("/?a=1&Expires=1&Signature=x&Key-Pair-Id=k", "/?Policy=p&Hash-Algorithm=SHA256&a=1");
    assert!(are_same(signed(), (one, &[]), (other, &[])).await);
    let bench = bench(signed(), [Reply::new("x")]);
    bench.get(one).await;
    assert_eq!(bench.origin.last().uri, "/?a=1");
    assert!(!are_same(Distribution::new(policy.clone()), (one, &[]), (other, &[])).await);
}

#[tokio::test]
async fn cf1_accept_encoding_goes_into_the_key_and_to_the_origin_in_its_normal_form() {
    for (gzip, brotli, sent, expected) in [
        (true, true, Some("gzip, deflate, br"), Some("br,gzip")),
        (true, true, Some("gzip"), Some("gzip")),
        (true, true, Some("br;q=0.5"), Some("br")),
        (true, true, Some("gzip;q=0, br"), Some("br")),
        (true, true, Some("deflate, zstd"), Some("identity")),
        (true, true, None, None),
        (true, false, Some("br, gzip"), Some("gzip")),
        (true, false, Some("br"), Some("identity")),
        (false, true, Some("br, gzip"), Some("br")),
        (false, false, Some("br, gzip"), None),
    ] {
        let policy =
            lifetimes(0, 60, 60).enable_accept_encoding_gzip(gzip).enable_accept_encoding_brotli(brotli);
        let bench = bench(Distribution::new(policy), [Reply::new("x")]);
        let fields: Vec<_> = sent.iter().map(|line| ("accept-encoding", *line)).collect();
        bench.get_with("/", &fields).await;
        let forwarded = bench.origin.last().headers.get("accept-encoding").cloned();
        assert_eq!(
            forwarded.as_ref().map(|line| line.to_str().unwrap()),
            expected,
            "{gzip} {brotli} {sent:?}"
        );
    }
}

#[tokio::test]
async fn cf1_a_vary_on_accept_encoding_adds_nothing_to_what_is_keyed_of_it() {
    let distribution = Distribution::new(CachePolicyConfig::caching_optimized())
        .origin_request_policy(OriginRequestPolicyConfig::all_viewer());
    let bench = bench(distribution, [Reply::cc("x", "max-age=60").field("vary", "accept-encoding")]);
    bench.get_with("/", &[("accept-encoding", "gzip, br")]).await;
    for same in ["br;q=1, gzip", "zstd, br, gzip", "gzip, deflate, br"] {
        assert!(bench.get_with("/", &[("accept-encoding", same)]).await.is_hit(), "{same}");
    }
    assert!(!bench.get_with("/", &[("accept-encoding", "gzip")]).await.is_hit());
}

#[tokio::test]
async fn cf1_content_in_a_coding_is_for_those_who_accept_it_whatever_vary_says() {
    let distribution = Distribution::new(CachePolicyConfig::caching_optimized());
    let coded = |coding| Reply::cc(coding, "max-age=60").field("content-encoding", coding);
    let bench = bench(distribution, [coded("gzip"), coded("br"), Reply::cc("plain", "max-age=60")]);
    for (accepts, body) in [("gzip", "gzip"), ("br", "br"), ("identity", "plain"), ("gzip, zstd", "gzip")] {
        bench.get_with("/", &[("accept-encoding", accepts)]).await.has_body(body);
    }
    assert_eq!(bench.origin.calls(), 3);
    // An origin that codes for a client without the field has not made that for one that accepts nothing.
    let gzip = Reply::cc("gzip", "max-age=60").field("content-encoding", "gzip");
    let bench = super::bench(
        Distribution::new(CachePolicyConfig::caching_optimized()),
        [gzip, Reply::cc("plain", "max-age=60")],
    );
    bench.get("/").await.has_body("gzip");
    bench.get_with("/", &[("accept-encoding", "identity")]).await.has_body("plain");
}

#[tokio::test]
async fn cf8_the_first_pattern_that_matches_chooses_the_behavior() {
    let keeps = |seconds| lifetimes(0, seconds, seconds);
    let distribution = Distribution::new(keeps(1))
        .behavior("/images/*.jpg", keeps(2))
        .behavior("images/*", keeps(3))
        .behavior("*.php", CachePolicyConfig::caching_disabled())
        .behavior("/a?c", keeps(4));
    let bench = bench(distribution, [Reply::new("x").field("content-type", "image/png")]);
    for (path, ttl) in [
        ("/", 1),
        ("/images/a/b.jpg", 2),
        ("/images/b.png?x=.jpg", 3),
        ("/Images/b.png", 1),
        ("/abc", 4),
        ("/abbc", 1),
    ] {
        bench.get(path).await.told(&format!("larder; fwd=uri-miss; stored; ttl={ttl}"));
    }
    bench.get("/x.php").await.told("larder; fwd=bypass; detail=\"caching-disabled\"");
}

#[tokio::test]
async fn cf1_a_purge_reaches_a_uri_whatever_host_scheme_and_query_it_was_stored_for() {
    let distribution = Distribution::new(CachePolicyConfig::caching_optimized())
        .name(Authority::from_static("d111111abcdef8.cloudfront.net"));
    let bench = bench(distribution, [Reply::cc("x", "max-age=60")]);
    bench.get_with("/a?x=1", &[("host", "www.example.com"), ("accept-encoding", "br")]).await;
    assert!(bench.get_with("/a", &[("accept-encoding", "br")]).await.is_hit());
    bench.handle.purge(&"https://example.com/a?y".parse().unwrap()).await.unwrap();
    assert!(!bench.get_with("/a", &[("accept-encoding", "br")]).await.is_hit());
    // So does a successful POST.
    bench.send(Method::POST, "/a?z", &[]).await;
    assert!(!bench.get_with("/a", &[("accept-encoding", "br")]).await.is_hit());
}

#[tokio::test]
async fn cf1_a_purge_of_a_prefix_a_host_or_a_group_reaches_every_behavior() {
    let reply = || Reply::cc("x", "max-age=60").field("cache-groups", "\"news\"");
    // What is not cached has no say in how purges are spelled.
    let distribution = || {
        Distribution::new(CachePolicyConfig::caching_disabled())
            .name(Authority::from_static("D111.cloudfront.net"))
            .behavior("/images/*", CachePolicyConfig::caching_optimized())
            .behavior("/all/*", lifetimes(0, 60, 60).query_string_behavior(CacheQueryStringBehavior::all()))
            .behavior(
                "/signed/*",
                Behavior::new(lifetimes(0, 60, 60).query_string_behavior(CacheQueryStringBehavior::all()))
                    .signed(true),
            )
    };
    let paths = ["/images/a?x", "/all/a?x", "/signed/a?Policy=1&x"];
    for (target, gone) in [
        (PurgeTarget::prefix("https://www.example.com/"), [true; 3]),
        (PurgeTarget::prefix("https://www"), [true; 3]),
        (PurgeTarget::prefix("http://example.com/images/a?y"), [true, false, false]),
        (PurgeTarget::prefix("http://example.com/all/a?x"), [false, true, false]),
        (PurgeTarget::uri("http://example.com/all/a?x"), [false, true, false]),
        (PurgeTarget::uri("http://example.com/all/a?y"), [false; 3]),
        (PurgeTarget::uri("http://example.com/signed/a?x&Signature=2"), [false, false, true]),
        (PurgeTarget::host("example.com"), [true; 3]),
        (PurgeTarget::path_prefix("/signed/a?Signature"), [false, false, true]),
        (PurgeTarget::group("https://www.example.com", "news"), [true; 3]),
    ] {
        let bench = bench(distribution(), [reply()]);
        for path in paths {
            bench.get(path).await;
            assert!(bench.get(path).await.is_hit(), "{path}");
        }
        bench.handle.purge_target(&target).await.unwrap();
        for (path, is_gone) in paths.into_iter().zip(gone) {
            assert_eq!(!bench.get(path).await.is_hit(), is_gone, "{target:?} {path}");
        }
    }
}

#[tokio::test]
async fn cf1_a_host_that_is_keyed_separates_sites_and_reaches_the_origin() {
    let policy = lifetimes(0, 60, 60).header_behavior(CacheHeaderBehavior::allow_list([header::HOST]));
    let bench = bench(Distribution::new(policy), [Reply::new("x")]);
    bench.get_with("/", &[("host", "A.example:80")]).await;
    assert_eq!(bench.origin.last().headers["host"], "a.example");
    assert!(bench.get_with("/", &[("host", "a.example")]).await.is_hit());
    assert!(bench.get_with("http://a.example/", &[("host", "a.example")]).await.is_hit());
    assert!(!bench.get_with("/", &[("host", "b.example")]).await.is_hit());
}

#[tokio::test]
async fn vary_selects_by_what_the_origin_sees_unless_it_is_ignored() {
    let forwards = OriginRequestPolicyConfig::user_agent_referer_headers();
    let distribution = || Distribution::new(lifetimes(0, 60, 60)).origin_request_policy(forwards.clone());
    let varied = || Reply::new("x").field("vary", "referer, accept-language");
    let ask = async |bench: &Bench, referer, language| {
        bench.get_with("/", &[("referer", referer), ("accept-language", language)]).await.is_hit()
    };
    let bench = bench(distribution(), [varied()]);
    ask(&bench, "a", "de").await;
    assert!(ask(&bench, "a", "en").await, "the origin has not seen the language");
    assert!(!ask(&bench, "b", "en").await);
    let bench = super::bench(distribution().ignore_vary(true), [varied()]);
    ask(&bench, "a", "de").await;
    assert!(ask(&bench, "b", "en").await);
    let bench = super::bench(distribution().ignore_vary(true), [Reply::new("x").field("vary", "*")]);
    bench.get("/").await.told("larder; fwd=uri-miss; detail=\"vary\"");
}

#[tokio::test]
async fn a11_what_is_forwarded_of_accept_encoding_is_what_is_keyed_however_long_it_is() {
    let many = |codings: &str, member: &str, times: usize| format!("{codings}{}", member.repeat(times));
    for (sent, forwarded) in [
        (many("gzip, br", ", deflate", 40), "br,gzip"),
        (many("gzip;q=0.5, br", ", deflate", 40), "br,gzip"),
        (many("gzip, br", ", deflate", 400), "br,gzip"),
        (many("gzip;q=0.5, br", ", deflate", 400), "identity"),
        (many("gzip, br;q=0", ",x", 100), "gzip"),
        (many("br, a b", ",x", 1), "identity"),
    ] {
        let bench = bench(Distribution::new(CachePolicyConfig::caching_optimized()), [Reply::new("x")]);
        bench.get_with("/", &[("accept-encoding", &sent)]).await;
        assert_eq!(bench.origin.last().headers["accept-encoding"], forwarded, "{sent}");
        // Whoever is forwarded with the same shares it, and nobody else.
        for other in ["br,gzip", "gzip", "identity"] {
            let is_hit = bench.get_with("/", &[("accept-encoding", other)]).await.is_hit();
            assert_eq!(is_hit, other == forwarded, "{sent} {other}");
        }
    }
}
