//! The Fastly profile.

use std::time::Duration;

use http::{Method, StatusCode};
use larder::policy::Fastly;
use larder::policy::fastly::{ExcessTags, TagField};
use larder::semantics::accept::Codings;
use larder::store::PurgeTarget;

use crate::reported::validation::until_calls;
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
    kept(Fastly::new().cacheable([StatusCode::FORBIDDEN]), 403, &[("cache-control", "max-age=60")], 60).await;
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
    let letter = bench(Fastly::new().share_with_credentials(true), [Reply::new("x")]);
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
