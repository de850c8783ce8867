//! Web cache deception.

use std::time::Duration;

use http::header;
use larder::policy::cloudfront::{CachePolicyConfig, Distribution};
use larder::policy::{Fastly, Policies};
use larder::{CachePolicy, CachePolicyExt, StandardPolicy, policy};

use crate::support::{Bench, Reply, Stage, cache_builder, settle};

fn page(content_type: &str) -> Reply {
    Reply::cc("hers", "public, max-age=60").field("content-type", content_type)
}

fn bench(policy: impl CachePolicy, reply: Reply) -> Bench {
    Bench::with(cache_builder().policy(policy), [reply])
}

const HER: [(&str, &str); 1] = [("cookie", "session=hers")];

/// Somebody is led to the path with a cookie; then somebody else asks for it.
async fn refused(bench: &Bench, path: &str, detail: &str) {
    for fields in [&HER[..], &[]] {
        bench.get_with(path, fields).await.told(&format!("larder; fwd=uri-miss; detail=\"{detail}\""));
    }
}

#[tokio::test]
async fn a12_a_page_under_the_name_of_a_file_is_not_stored_whatever_it_says() {
    for (path, detail) in [
        ("/account/x.css", "type-mismatch"),
        ("/account;x.js", "type-mismatch"),
        ("/account%3fx.png", "type-mismatch"),
        ("/account%00.css", "deceptive-path"),
        ("/static/..%2faccount", "deceptive-path"),
        ("/static/%252e%252e/account", "deceptive-path"),
    ] {
        for content_type in ["text/html; charset=utf-8", "application/json"] {
            refused(&bench(StandardPolicy::default(), page(content_type)), path, detail).await;
        }
        // Also where the policy gives lifetimes by the path, and is what lets it be shared.
        let by_path = StandardPolicy::default().map_terms(|_, terms| {
            terms.lifetime = Duration::from_secs(86_400);
            (terms.store, terms.shared) = (Ok(()), larder::semantics::CredentialKinds::ALL);
        });
        refused(&bench(by_path, page("text/html")), path, detail).await;
        refused(&bench(Fastly::new().share_credentials(true), page("text/html")), path, detail).await;
        let distribution = Distribution::new(CachePolicyConfig::caching_optimized()).share_credentials(true);
        refused(&bench(distribution, page("text/html")), path, detail).await;
        refused(&bench(policy::from_fn(|_, _| {}), page("text/html")), path, detail).await;
    }
}

#[tokio::test]
async fn a12_the_guard_can_be_switched_off_and_is_off_where_everything_is_stored() {
    let off = StandardPolicy::default().deception_guard(false);
    for bench in [
        bench(off.clone(), page("text/html")),
        bench(StandardPolicy::rfc9111(), page("text/html")),
        bench(Fastly::new().deception_guard(false), page("text/html")),
        bench(Policies::new(StandardPolicy::default()).path("/package/*", off), page("text/html")),
    ] {
        bench.get("/package/chart.js").await;
        bench.get("/package/chart.js").await.told("larder; hit; ttl=60");
    }
    let on = bench(StandardPolicy::rfc9111().deception_guard(true), page("text/html"));
    refused(&on, "/package/chart.js", "type-mismatch").await;
}

#[tokio::test]
async fn a12_files_and_error_pages_are_stored() {
    for (path, reply) in [
        ("/app.css", page("text/css")),
        ("/app.js?v=1", page("text/javascript; charset=utf-8")),
        ("/@scope%2fname", page("application/json")),
        ("/gone.css", page("text/html").status(404)),
        ("/moved.css", page("text/html").status(301)),
    ] {
        let bench = bench(StandardPolicy::default(), reply);
        bench.get(path).await;
        bench.get(path).await.told("larder; hit; ttl=60");
    }
}

/// The application answers for a file that is gone.
#[tokio::test]
async fn a12_a_page_in_place_of_a_stored_file_ends_its_stale_use() {
    let policy = StandardPolicy::default().stale_if_error(Duration::from_secs(600));
    let bench = bench(policy, page("text/css").field("etag", "\"a\""));
    bench.get("/app.css").await;
    bench.later(61);
    bench.origin.then(page("text/html"));
    bench.get("/app.css").await.told("larder; fwd=stale; detail=\"type-mismatch\"");
    bench.origin.then(Reply::new("sorry").status(503));
    bench.get("/app.css").await.has_body("sorry");
}

#[tokio::test]
async fn a12_a_304_with_another_type_withdraws_the_stored_response() {
    let bench = bench(StandardPolicy::default(), page("text/css").field("etag", "\"a\""));
    bench.get("/app.css").await;
    bench.later(61);
    let (content_type, reply) = (header::CONTENT_TYPE.as_str(), Reply::cc("", "max-age=60").status(304));
    bench.origin.not_modified(Some(reply.field(content_type, "text/html")));
    bench.get("/app.css").await.told("larder; fwd=stale; fwd-status=304; ttl=60; detail=\"type-mismatch\"");
    bench.origin.not_modified(None);
    assert!(!bench.get("/app.css").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a12_requests_that_wait_for_a_deceptive_path_get_answers_of_their_own() {
    let stage = Stage::new();
    let herd: Vec<_> = (0..20).map(|_| stage.get_with("/account/x.css", &[])).collect();
    settle().await;
    assert_eq!(stage.origin.calls(), 1);
    let fields = [("cache-control", "public, max-age=60"), ("content-type", "text/html")];
    let mut answered = 0;
    while answered < 20 {
        for call in stage.origin.calls_from(answered) {
            answered += 1;
            call.head(&fields).frame(answered.to_string()).end();
        }
        settle().await;
    }
    let mut bodies = Vec::new();
    for client in herd {
        bodies.push(client.seen().await.body);
    }
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 20, "each its own");
}
