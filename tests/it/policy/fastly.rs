//! The Fastly profile.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{Method, Request, StatusCode};
use larder::CacheHint;
use larder::policy::fastly::ExcessTags;
use larder::policy::{Fastly, KeyRules, QueryRules, TagField, TrustedPeer};
use larder::semantics::accept::Codings;
use larder::store::PurgeTarget;

use crate::reported::validation::until_calls;
use tower::{Layer, Service};

use crate::support::bench::{Seen, read};
use crate::support::{Bench, Reply, cache_builder};

fn bench(policy: Fastly, replies: impl IntoIterator<Item = Reply>) -> Bench {
    Bench::with(cache_builder().policy(policy), replies)
}

const SECOND: Duration = Duration::from_secs(1);

/// A response with these fields is kept for so many seconds.
async fn kept(policy: Fastly, status: u16, fields: &[(&str, &str)], seconds: u64) {
    let reply =
        fields.iter().fold(Reply::new("x").status(status), |reply, (name, value)| reply.field(name, value));
    let bench = bench(policy, [reply]);
    let told = format!("larder; fwd=uri-miss; stored; ttl={seconds}");
    bench.get("/").await.told(&told);
    bench.later(seconds - 1);
    bench.get("/").await.told("larder; hit; ttl=1");
    bench.later(1);
    assert!(!bench.get("/").await.is_hit(), "{status} {fields:?}");
    assert_eq!(bench.origin.calls(), 2, "{status} {fields:?}");
}

async fn passed(policy: Fastly, status: u16, fields: &[(&str, &str)], detail: &str) {
    let reply =
        fields.iter().fold(Reply::new("x").status(status), |reply, (name, value)| reply.field(name, value));
    let bench = bench(policy, [reply]);
    for _ in 0..2 {
        bench.get("/").await.told(&format!("larder; fwd=uri-miss; detail=\"{detail}\""));
    }
    assert_eq!(bench.origin.calls(), 2, "{status} {fields:?}");
}

async fn purge_tag(bench: &Bench, tag: &str) {
    bench.handle.purge_target(&PurgeTarget::Tag(tag.into())).await.unwrap();
}

#[tokio::test]
async fn fa1_a_response_is_kept_for_as_long_as_the_first_of_its_fields_says() {
    for policy in [Fastly::new, Fastly::classic] {
        let (cc, sc) = ("cache-control", "surrogate-control");
        kept(policy(), 200, &[(cc, "no-cache"), (sc, "max-age=3600")], 3_600).await;
        kept(policy(), 200, &[(cc, "max-age=60, s-maxage=600")], 600).await;
        kept(policy(), 200, &[(cc, "s-maxage=600"), (sc, "max-age=10")], 10).await;
        kept(policy(), 200, &[], 3_600).await;
        kept(policy(), 200, &[(cc, "no-cache")], 3_600).await;
        kept(policy(), 404, &[], 3_600).await;
    }
    kept(Fastly::platform(), 200, &[], 120).await;
}

#[tokio::test]
async fn fa1_the_age_that_a_response_comes_with_is_subtracted() {
    let bench =
        bench(Fastly::new(), [Reply::new("x").field("surrogate-control", "max-age=600").field("age", "590")]);
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=10");
    bench.later(10);
    assert!(!bench.get("/").await.is_hit());
}

#[tokio::test]
async fn fa1_expires_counts_from_the_date_of_the_response() {
    let bench = bench(Fastly::new(), []);
    bench.origin.then(Reply::new("x").field("expires", &bench.date(60)));
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=60");
    bench.later(59);
    bench.get("/").await.told("larder; hit; ttl=1");
}

#[tokio::test]
async fn fa2_a_status_that_is_not_cacheable_is_not_kept_unless_it_is_named() {
    for status in [204, 307, 500] {
        for fields in [&[][..], &[("cache-control", "max-age=60")]] {
            passed(Fastly::new(), status, fields, "status").await;
        }
    }
    kept(Fastly::new().cacheable_success(), 204, &[], 3_600).await;
    kept(Fastly::new().cacheable_redirects(), 307, &[("cache-control", "max-age=60")], 60).await;
    kept(Fastly::new().cacheable(403), 403, &[("cache-control", "max-age=60")], 60).await;
}

#[tokio::test]
async fn fa3_private_no_store_and_set_cookie_pass_whatever_surrogate_control_says() {
    let long = ("surrogate-control", "max-age=3600");
    passed(Fastly::new(), 200, &[("cache-control", "private, s-maxage=60"), long], "private").await;
    passed(Fastly::classic(), 200, &[("cache-control", "private, s-maxage=60"), long], "private").await;
    passed(Fastly::new(), 200, &[("cache-control", "no-store"), long], "no-store").await;
    kept(Fastly::classic(), 200, &[("cache-control", "no-store"), long], 3_600).await;
    passed(Fastly::new(), 200, &[("cache-control", "s-maxage=60"), ("set-cookie", "a=b")], "set-cookie")
        .await;
}

#[tokio::test]
async fn fa3_browsers_get_cache_control_as_the_origin_has_sent_it() {
    let fields = [("cache-control", "no-cache, must-revalidate"), ("surrogate-control", "max-age=3600")];
    let reply = fields.iter().fold(Reply::new("x"), |reply, (name, value)| reply.field(name, value));
    let bench = bench(Fastly::new(), [reply]);
    for _ in 0..2 {
        let seen = bench.get("/").await;
        assert_eq!(seen.field("cache-control"), Some("no-cache, must-revalidate"));
    }
    assert_eq!(bench.origin.calls(), 1);
}

#[tokio::test]
async fn fa4_a_response_is_purged_by_each_of_its_surrogate_keys() {
    let bench = bench(
        Fastly::new(),
        [Reply::new("x").field("surrogate-key", "all page/1").field("surrogate-key", "two")],
    );
    for tag in ["all", "page/1", "two"] {
        assert!(!bench.get("/").await.is_hit());
        assert!(bench.get("/").await.is_hit());
        purge_tag(&bench, "page").await;
        assert!(bench.get("/").await.is_hit());
        purge_tag(&bench, tag).await;
    }
    assert!(!bench.get("/").await.is_hit());
}

#[tokio::test]
async fn fa4_a_response_with_17_000_bytes_of_keys_is_kept_and_purged_by_those_in_the_first_16_384() {
    let keys: Vec<_> = (0..1_063).map(|number| format!("key-{number:011}")).collect();
    let reply = || Reply::new("x").field("surrogate-key", &keys.join(" "));
    assert_eq!(keys.join(" ").len(), 17_007);
    let kept = bench(Fastly::new(), [reply()]);
    kept.get("/").await;
    purge_tag(&kept, &keys[1_024]).await;
    assert!(kept.get("/").await.is_hit());
    purge_tag(&kept, &keys[1_023]).await;
    assert!(!kept.get("/").await.is_hit());
    let refused = bench(Fastly::new().excess_tags(ExcessTags::Refuse), [reply()]);
    refused.get("/").await.told("larder; fwd=uri-miss; detail=\"too-many-groups\"");
}

#[tokio::test]
async fn fa4_tags_come_from_the_fields_that_the_policy_names() {
    let name = http::HeaderName::from_static;
    let fields = [TagField::spaced(name("x-amz-meta-surrogate-key")), TagField::listed(name("cache-tag"))];
    let reply =
        Reply::new("x").field("x-amz-meta-surrogate-key", "one two").field("cache-tag", "three, four");
    let bench = bench(Fastly::new().tag_fields(fields), [reply.field("surrogate-key", "five")]);
    for tag in ["one", "two", "three", "four"] {
        bench.get("/").await;
        purge_tag(&bench, tag).await;
        let seen = bench.get("/").await;
        assert!(!seen.is_hit(), "{tag}");
        assert_eq!((seen.field("cache-tag"), seen.field("surrogate-key")), (None, Some("five")));
    }
    purge_tag(&bench, "five").await;
    assert!(bench.get("/").await.is_hit());
}

#[tokio::test]
async fn a20_a_megabyte_of_tags_is_capped_and_no_client_gets_it() {
    let megabyte = "tag ".repeat(1 << 18);
    let bench =
        bench(Fastly::new(), [Reply::new("x").field("surrogate-key", &format!("first {megabyte} last"))]);
    // Tags in a request are nobody's.
    let forged = [("surrogate-key", "forged"), ("surrogate-control", "max-age=1")];
    let first = bench.get_with("/", &forged).await.told("larder; fwd=uri-miss; stored; ttl=3600");
    assert_eq!(first.field("surrogate-key"), None);
    assert_eq!(bench.get("/").await.told("larder; hit; ttl=3600").field("surrogate-key"), None);
    for tag in ["forged", "last"] {
        purge_tag(&bench, tag).await;
        assert!(bench.get("/").await.is_hit(), "{tag}");
    }
    purge_tag(&bench, "first").await;
    assert!(!bench.get("/").await.is_hit());
}

#[tokio::test]
async fn fa4_fields_for_caches_never_reach_a_client() {
    let marked = |reply: Reply| reply.field("surrogate-control", "max-age=60").field("surrogate-key", "a b");
    let tagged = || marked(Reply::new("x").field("etag", "\"a\""));
    let check = async |bench: &Bench, method: Method, fields: &[(&str, &str)], told: &str| {
        let seen = bench.send(method, "/", fields).await.told(told);
        for field in ["surrogate-control", "surrogate-key"] {
            assert_eq!(seen.field(field), None, "{told}");
        }
        seen.status
    };
    let bench = bench(Fastly::new(), [tagged()]);
    check(&bench, Method::GET, &[], "larder; fwd=uri-miss; stored; ttl=60").await;
    check(&bench, Method::GET, &[], "larder; hit; ttl=60").await;
    check(&bench, Method::HEAD, &[], "larder; hit; ttl=60").await;
    let not_modified = check(&bench, Method::GET, &[("if-none-match", "\"a\"")], "larder; hit; ttl=60").await;
    assert_eq!(not_modified, 304);
    check(&bench, Method::GET, &[("range", "bytes=0-0")], "larder; hit; ttl=60").await;
    for method in [Method::POST, Method::OPTIONS, Method::PUT] {
        check(&bench, method, &[], "larder; fwd=method").await;
    }
    bench.get("/").await;
    bench.later(60);
    bench.origin.not_modified(Some(marked(Reply::new("").status(304))));
    check(&bench, Method::GET, &[], "larder; fwd=stale; fwd-status=304; stored; ttl=60").await;
    check(&bench, Method::GET, &[], "larder; hit; ttl=60").await;
    bench.origin.not_modified(None);
    bench.later(60);
    bench.origin.then(marked(Reply::new("sorry").status(503)));
    check(&bench, Method::GET, &[], "larder; fwd=stale; detail=\"status\"").await;
    // Nothing of the cache's business, or nothing stored at all.
    let upgrade = [("connection", "upgrade"), ("upgrade", "x")];
    check(&bench, Method::GET, &upgrade, "larder; fwd=bypass; detail=\"upgrade\"").await;
    let builder = cache_builder().policy(Fastly::new()).tag_only();
    let bare = Bench::with(builder, [tagged()]);
    let seen = bare.get("/").await;
    assert_eq!((seen.field("surrogate-control"), seen.field("surrogate-key")), (None, None));
}

#[tokio::test]
async fn fa7_stale_while_revalidate_of_surrogate_control_counts_before_stale_if_error() {
    let reply = |body| {
        let control = "max-age=60, stale-while-revalidate=30, stale-if-error=600";
        Reply::cc(body, "stale-while-revalidate=6000").field("surrogate-control", control)
    };
    let bench = bench(Fastly::new(), [reply("one"), reply("two")]);
    bench.get("/").await;
    bench.later(61);
    bench.get("/").await.has_body("one").told("larder; hit; ttl=-1; detail=\"stale-while-revalidate\"");
    until_calls(&bench, 2).await;
    bench.get("/").await.has_body("two").told("larder; hit; ttl=60");
    bench.later(60 + 31);
    bench.origin.then(Reply::new("sorry").status(503));
    bench
        .get("/")
        .await
        .has_body("two")
        .told("larder; fwd=stale; fwd-status=503; ttl=-31; detail=\"stale-if-error\"");
}

#[tokio::test]
async fn fa7_serve_stale_is_a_default_that_the_origin_outweighs() {
    let policy = || Fastly::new().serve_stale(Duration::from_secs(43_200));
    let bench = bench(policy(), [Reply::cc("x", "max-age=60"), Reply::new("sorry").status(503)]);
    bench.get("/").await;
    bench.later(43_000);
    bench.get("/").await.has_body("x");
    bench.later(1_000);
    bench.get("/").await.has_body("sorry");
    for value in ["max-age=60, must-revalidate", "max-age=60, stale-if-error=0"] {
        let strict = Bench::with(
            cache_builder().policy(policy()),
            [Reply::cc("x", value), Reply::new("sorry").status(503)],
        );
        strict.get("/").await;
        strict.later(61);
        strict.get("/").await.has_body("sorry");
    }
}

#[tokio::test]
async fn fa12_a_herd_sees_one_error_a_second() {
    let errors = || Fastly::new().short_errors(SECOND, 5 * SECOND);
    let bench = bench(errors(), [Reply::new("sorry").status(503)]);
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=1");
    bench.get("/").await.told("larder; hit; ttl=1");
    bench.later(2);
    // Meanwhile, one request asks the origin again.
    bench.origin.then(Reply::cc("fine", "max-age=60"));
    bench.get("/").await.has_body("sorry").told("larder; hit; ttl=-1; detail=\"stale-while-revalidate\"");
    until_calls(&bench, 2).await;
    bench.get("/").await.has_body("fine").told("larder; hit; ttl=60");
    assert_eq!(bench.origin.calls(), 2);
    // It never replaces a good response.
    bench.later(61);
    bench.origin.then(Reply::new("sorry").status(503));
    bench.get("/").await.has_body("sorry").told("larder; fwd=stale; detail=\"status\"");
}

#[tokio::test]
async fn vary_is_honoured_by_the_profile() {
    let bench = bench(Fastly::new(), [Reply::new("x").field("vary", "x-device")]);
    bench.get_with("/", &[("x-device", "mobile")]).await;
    bench.get_with("/", &[("x-device", "desktop")]).await.told("larder; fwd=vary-miss; stored; ttl=3600");
    assert!(bench.get_with("/", &[("x-device", "mobile")]).await.is_hit());
}

#[tokio::test]
async fn a_client_with_credentials_shares_only_what_says_so() {
    let cookie = [("cookie", "session=1")];
    passed_to(Fastly::new(), &cookie, "cookie").await;
    passed_to(Fastly::new(), &[("authorization", "Basic eA==")], "authorization").await;
    let letter = bench(Fastly::new().share_credentials(true), [Reply::new("x")]);
    letter.get_with("/", &cookie).await;
    letter.get("/").await.told("larder; hit; ttl=3600");
    letter.get_with("/", &[("authorization", "Basic eA==")]).await.told("larder; hit; ttl=3600");
}

async fn passed_to(policy: Fastly, request: &[(&str, &str)], detail: &str) {
    let bench = bench(policy, [Reply::cc("x", "max-age=60")]);
    for _ in 0..2 {
        bench.get_with("/", request).await.told(&format!("larder; fwd=uri-miss; detail=\"{detail}\""));
    }
}

#[tokio::test]
async fn requests_are_told_apart_and_forwarded_by_one_coding() {
    for (policy, asked, sent) in [
        (Fastly::new(), "gzip, deflate, br", Some("gzip")),
        (Fastly::new(), "deflate, br", Some("deflate")),
        (Fastly::new(), "br, gzip;q=0", None),
        (Fastly::new().brotli(true), "gzip, deflate, br", Some("br")),
        (Fastly::new().codings(Codings::AsSent), "gzip, br", Some("gzip, br")),
    ] {
        let bench = bench(policy, [Reply::new("x").field("vary", "accept-encoding")]);
        bench.get_with("/", &[("accept-encoding", asked)]).await;
        let seen = bench.origin.last();
        assert_eq!(seen.headers.get("accept-encoding").map(|value| value.to_str().unwrap()), sent, "{asked}");
        assert!(bench.get_with("/", &[("accept-encoding", asked)]).await.is_hit());
    }
}

const PEER: (&str, &str) = ("x-peer", "secret");

fn with_peers() -> Fastly {
    Fastly::new().peer_token(http::HeaderName::from_static(PEER.0), PEER.1)
}

#[tokio::test]
async fn fa9_peers_get_the_fields_for_caches_on_hits_misses_and_passes() {
    let reply = Reply::new("x").field("surrogate-control", "max-age=60").field("surrogate-key", "a b");
    let bench = bench(with_peers(), [reply]);
    let fields = async |method: Method, fields: &[(&str, &str)], told: &str| {
        let seen = bench.send(method, "/", fields).await.told(told);
        (seen.field("surrogate-control").is_some(), seen.field("surrogate-key").is_some())
    };
    // The client's answer is made of the same stored response as the peer's.
    let hit = "larder; hit; ttl=60";
    assert_eq!(fields(Method::GET, &[], "larder; fwd=uri-miss; stored; ttl=60").await, (false, false));
    assert_eq!(fields(Method::GET, &[PEER], hit).await, (true, true));
    assert_eq!(fields(Method::GET, &[], hit).await, (false, false));
    assert_eq!(fields(Method::POST, &[PEER], "larder; fwd=method").await, (true, true));
    assert_eq!(fields(Method::GET, &[PEER], "larder; fwd=uri-miss; stored; ttl=60").await, (true, true));
    assert_eq!(fields(Method::GET, &[], hit).await, (false, false));
    for forged in ["", "secre", "secret2", "SECRET"] {
        assert_eq!(fields(Method::GET, &[("x-peer", forged)], hit).await, (false, false), "{forged}");
    }
    for forged in
        [("fastly-ff", "secret"), ("fastly-client", "1"), ("fastly-debug", "1"), ("fastly-key", "x")]
    {
        assert_eq!(fields(Method::GET, &[forged], hit).await, (false, false), "{forged:?}");
    }
}

#[tokio::test]
async fn fa9_a_mark_among_the_extensions_makes_a_peer_whatever_the_fields_say() {
    let reply = Reply::new("x").field("surrogate-key", "a b");
    let bench = bench(Fastly::new(), [reply]);
    let request = http::Request::get("http://example.com/").extension(TrustedPeer::new());
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    let seen = read(bench.cache.clone().call(request).await.unwrap()).await;
    assert_eq!(seen.field("surrogate-key"), Some("a b"));
    let closure = Fastly::new().peers(|request| request.headers.contains_key("x-verified-by-the-proxy"));
    let bench = self::bench(closure, [Reply::new("x").field("surrogate-key", "a b")]);
    let seen = bench.get_with("/", &[("x-verified-by-the-proxy", "1")]).await;
    assert_eq!(seen.field("surrogate-key"), Some("a b"));
    assert_eq!(bench.get("/").await.field("surrogate-key"), None);
}

#[tokio::test]
async fn what_a_client_says_in_fastlys_name_reaches_no_origin() {
    let forged = [
        ("fastly-ff", "x!PAR!cache-par"),
        ("fastly-client", "1"),
        ("fastly-client-ip", "127.0.0.1"),
        ("fastly-ssl", "1"),
        ("fastly-debug", "1"),
        ("fastly_client_ip", "127.0.0.1"),
    ];
    let bench = bench(with_peers(), [Reply::cc("x", "no-store")]);
    for method in [Method::GET, Method::HEAD, Method::POST, Method::OPTIONS, Method::DELETE] {
        bench.send(method.clone(), "/", &forged).await;
        for (name, _) in forged {
            assert!(!bench.origin.last().headers.contains_key(name), "{method} {name}");
        }
        let peers: Vec<_> = forged.iter().copied().chain([PEER]).collect();
        bench.send(method.clone(), "/", &peers).await;
        let sent = bench.origin.last().headers;
        assert!(
            sent.contains_key("fastly-ff") && !sent.contains_key(PEER.0),
            "{method}: the secret stays here"
        );
    }
    // It selects nothing, either.
    let bench = self::bench(Fastly::new(), [Reply::new("x").field("vary", "fastly-ssl")]);
    bench.get_with("/", &[("fastly-ssl", "1")]).await;
    assert!(bench.get("/").await.is_hit());
}

#[tokio::test]
async fn fa10_a_request_with_the_token_gets_to_know_path_lifetime_key_and_tags() {
    let reply = || Reply::new("x").field("surrogate-control", "max-age=300").field("surrogate-key", "a b");
    let bench = bench(Fastly::new().debug_token("secret"), [reply()]);
    let token = [("fastly-debug", "secret")];
    let miss = bench.get_with("/", &token).await.told("larder; fwd=uri-miss; stored; ttl=300");
    let field = |seen: &Seen, name| seen.field(name).map(str::to_owned);
    assert_eq!(miss.field("fastly-debug-ttl"), Some("(M larder - - -)"));
    assert_eq!(miss.field("fastly-debug-path"), Some("(D larder 1790000000) (F larder 1790000000)"));
    assert!(!bench.origin.last().headers.contains_key("fastly-debug"));
    bench.later(12);
    let hit = bench.get_with("/", &token).await.told("larder; hit; ttl=288");
    assert_eq!(hit.field("fastly-debug-ttl"), Some("(H larder 288.000 - 12)"));
    assert_eq!(hit.field("fastly-debug-path"), Some("(D larder 1790000012) (F larder 1790000000)"));
    assert_eq!(
        (hit.field("surrogate-control"), hit.field("surrogate-key")),
        (Some("max-age=300"), Some("a b"))
    );
    if cfg!(feature = "blake3") {
        let other = bench.get_with("/other", &token).await;
        let digests = [&miss, &hit, &other].map(|seen| field(seen, "fastly-debug-digest").unwrap());
        assert_eq!(digests[0].len(), 64);
        assert!(digests[0] == digests[1] && digests[1] != digests[2]);
    }
    // Nobody else: not with another word, and not where no token is set.
    let plain = self::bench(Fastly::new(), [reply()]);
    for (bench, word) in [(&bench, "1"), (&bench, ""), (&plain, "1"), (&plain, ""), (&plain, "secret")] {
        let seen = bench.get_with("/", &[("fastly-debug", word)]).await;
        let names = seen.fields.keys().filter(|name| name.as_str().contains("fastly")).count();
        assert_eq!((names, seen.field("surrogate-key")), (0, None), "{word}");
    }
}

#[tokio::test]
async fn http_and_https_share_what_is_stored_unless_the_key_says_otherwise() {
    let bench = bench(Fastly::new(), [Reply::new("x")]);
    bench.get("http://example.com/").await;
    bench.get("https://example.com/").await.told("larder; hit; ttl=3600");
    bench
        .get_with("https://other.example/", &[("host", "other.example")])
        .await
        .told("larder; fwd=uri-miss; stored; ttl=3600");
    bench.handle.purge(&"http://example.com/".parse().unwrap()).await.unwrap();
    assert!(!bench.get("https://example.com/").await.is_hit());
    let bench = self::bench(Fastly::new().key(KeyRules::new()), [Reply::new("x")]);
    bench.get("http://example.com/").await;
    assert!(!bench.get("https://example.com/").await.is_hit());
}

#[tokio::test]
async fn a_redirect_to_another_scheme_is_not_stored_where_schemes_share_a_key() {
    let to = |location: &str| Reply::new("").status(301).field("location", location);
    for location in ["https://example.com/a?b", "https://EXAMPLE.com:443/a?b"] {
        let bench = bench(Fastly::new(), [to(location)]);
        bench.get("http://example.com/a?b").await.told("larder; fwd=uri-miss; detail=\"scheme-redirect\"");
    }
    for location in ["https://example.com/", "https://www.example.com/a?b", "/a?b", "https://example.com/a"] {
        let bench = bench(Fastly::new(), [to(location)]);
        bench.get("http://example.com/a?b").await.told("larder; fwd=uri-miss; stored; ttl=3600");
    }
    let apart = bench(Fastly::new().key(KeyRules::new()), [to("https://example.com/a?b")]);
    apart.get("http://example.com/a?b").await.told("larder; fwd=uri-miss; stored; ttl=3600");
}

#[tokio::test]
async fn a_redirect_to_another_scheme_is_not_stored_below_a_nested_router() {
    let to = || async { (StatusCode::MOVED_PERMANENTLY, [("location", "https://example.com/api/x")]) };
    let layer = cache_builder().policy(Fastly::new()).build();
    let mut app: Router = Router::new().nest("/api", Router::new().route("/x", get(to)).layer(layer));
    for scheme in ["http", "https"] {
        let request = Request::get(format!("{scheme}://example.com/api/x")).body(Body::empty()).unwrap();
        let answer = app.call(request).await.unwrap();
        assert_eq!(answer.headers()["cache-status"], "larder; fwd=uri-miss; detail=\"scheme-redirect\"");
    }
}

#[tokio::test]
async fn fa11_queries_are_sorted_filtered_and_cleaned_by_the_key() {
    let query = QueryRules::all().sorted().cleaned().ignore(["utm_*", "fbclid"]);
    let bench = bench(Fastly::new().key(KeyRules::new().any_scheme().query(query)), [Reply::new("x")]);
    bench.get("/?b=2&a=1").await;
    for same in ["/?a=1&b=2", "/?a=1&utm_source=x&b=2&fbclid=y", "/?&a=1&&b=2&"] {
        assert!(bench.get(same).await.is_hit(), "{same}");
    }
    assert!(!bench.get("/?a=2&b=1").await.is_hit());
    // `querystring.filter_except`.
    let some = Fastly::new().key(KeyRules::new().query(QueryRules::allow_list(["page"])));
    let bench = self::bench(some, [Reply::new("x")]);
    bench.get("/?page=1&x=1").await;
    assert!(bench.get("/?x=2&page=1").await.is_hit());
    assert_eq!(bench.origin.last().uri.query(), Some("page=1"));
}

#[tokio::test]
async fn fa2_a_handlers_hint_outweighs_the_fields() {
    let answer = |status: u16, hint: CacheHint, fields: &[(&str, &str)]| {
        let mut response = http::Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        response.extension(hint).body(http_body_util::Full::new(bytes::Bytes::from("x"))).unwrap()
    };
    let told = async |status: u16, hint: CacheHint, fields: &'static [(&str, &str)]| {
        let origin = tower::service_fn(move |_: http::Request<http_body_util::Empty<bytes::Bytes>>| {
            std::future::ready(Ok::<_, std::convert::Infallible>(answer(status, hint.clone(), fields)))
        });
        let mut cache = cache_builder().policy(Fastly::new()).build().layer(origin);
        let request = http::Request::get("http://example.com/").body(http_body_util::Empty::new()).unwrap();
        read(cache.call(request).await.unwrap()).await.cache_status().to_owned()
    };
    let minute = || CacheHint::new().lifetime(Duration::from_secs(60));
    let stored = "larder; fwd=uri-miss; stored; ttl=60";
    assert_eq!(told(200, minute(), &[("surrogate-control", "max-age=3600")]).await, stored);
    assert_eq!(told(200, minute(), &[("cache-control", "no-store")]).await, stored);
    assert_eq!(told(204, minute(), &[]).await, stored);
    assert_eq!(
        told(200, minute().public(), &[("cache-control", "private"), ("set-cookie", "a=b")]).await,
        stored
    );
    for fields in [
        &[("surrogate-control", "no-store")],
        &[("surrogate-control", "max-age=0")],
        &[("cdn-cache-control", "private")],
        &[("cdn-cache-control", "no-store")],
        &[("cache-control", "private=\"a")],
    ] {
        assert_eq!(told(200, minute().public(), fields).await, stored, "{fields:?}");
    }
    let refused = |detail| format!("larder; fwd=uri-miss; detail=\"{detail}\"");
    assert_eq!(told(200, minute(), &[("cache-control", "private")]).await, refused("private"));
    assert_eq!(told(200, minute(), &[("set-cookie", "a=b")]).await, refused("set-cookie"));
    assert_eq!(told(200, CacheHint::new().no_store(), &[]).await, refused("hint"));
    assert_eq!(told(200, CacheHint::new().tag("a"), &[]).await, "larder; fwd=uri-miss; stored; ttl=3600");
}

#[tokio::test]
async fn x_timer_has_fastlys_form_where_it_is_switched_on() {
    // What a cache nearer to the origin has measured, when this was stored, is over.
    let reply = Reply::cc("x", "max-age=60").field("x-timer", "S1.000001,VS0,VE9999999");
    let silent = bench(Fastly::new(), [Reply::cc("x", "max-age=60")]);
    assert_eq!(silent.get("/").await.field("x-timer"), None);
    let bench = bench(Fastly::new().timer(true), [reply]);
    for is_hit in [false, true] {
        let seen = bench.get("/").await;
        assert_eq!(seen.is_hit(), is_hit);
        let value = seen.field("x-timer").unwrap();
        let [began, node, took] = value.split(',').collect::<Vec<_>>()[..] else { panic!("{value}") };
        let (seconds, micros) = began.strip_prefix('S').unwrap().split_once('.').unwrap();
        let now = bench.clock.now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let took: u64 = took.strip_prefix("VE").unwrap().parse().unwrap();
        // It has begun before now, by what it took.
        let began: u64 = seconds.parse().unwrap();
        assert!(began <= now && began + took / 1_000 + 1 >= now, "{value}, now {now}");
        assert_eq!((node, micros.len(), micros.parse::<u32>().is_ok()), ("VS0", 6, true), "{value}");
        assert!(took < 9_999_999, "{value}");
    }
    assert_eq!(bench.origin.calls(), 1);
}
