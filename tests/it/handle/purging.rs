//! Purges through the handle, and invalidation by unsafe requests (RFC 9111 4.4, RFC 9875).

use http::{Method, Uri};
use larder::StandardPolicy;
use larder::store::PurgeTarget;

use crate::support::{Bench, Reply, cache_builder};

async fn filled() -> Bench {
    let bench = Bench::new([Reply::cc("x", "max-age=60").field("vary", "accept")]);
    for path in ["/a", "/b", "/c"] {
        bench.get(path).await;
    }
    bench.get_with("/a", &[("accept", "text/html")]).await;
    bench
}

async fn hits(bench: &Bench) -> [bool; 3] {
    let only = [("cache-control", "only-if-cached")];
    let mut hits = [false; 3];
    for (path, hit) in ["/a", "/b", "/c"].into_iter().zip(&mut hits) {
        *hit = bench.get_with(path, &only).await.is_hit();
    }
    hits
}

#[tokio::test]
async fn in1_a_successful_unsafe_request_invalidates_its_target() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "FROB"] {
        for (status, gone) in [(200, true), (204, true), (303, true), (404, false), (500, false)] {
            let bench = filled().await;
            bench.origin.then(Reply::new("").status(status));
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            bench.send(method.clone(), "/a", &[]).await;
            assert_eq!(hits(&bench).await, [!gone, true, true], "{method} {status}");
        }
    }
}

#[tokio::test]
async fn in1_location_and_content_location_of_the_same_origin_are_invalidated() {
    let bench = filled().await;
    bench.origin.then(
        Reply::new("").status(201).field("location", "/b").field("content-location", "http://example.com/c"),
    );
    bench.send(Method::POST, "/a", &[]).await;
    assert_eq!(hits(&bench).await, [false, false, false]);

    let bench = filled().await;
    bench.origin.then(
        Reply::new("")
            .field("location", "http://elsewhere.example/b")
            .field("content-location", "https://example.com/c"),
    );
    bench.send(Method::POST, "/x", &[]).await;
    assert_eq!(hits(&bench).await, [true, true, true]);
}

#[tokio::test]
async fn safe_requests_invalidate_nothing() {
    let bench = filled().await;
    for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
        bench
            .send(Method::from_bytes(method.as_bytes()).unwrap(), "/a", &[("cache-control", "no-store")])
            .await;
    }
    assert_eq!(hits(&bench).await, [true, true, true]);
}

#[tokio::test]
async fn a_purge_of_a_uri_removes_the_responses_of_all_users() {
    let policy = StandardPolicy::default().key_field(http::header::AUTHORIZATION);
    let bench = Bench::with(cache_builder().policy(policy), [Reply::cc("x", "max-age=60")]);
    for user in ["one", "two"] {
        bench.get_with("/me", &[("authorization", user)]).await;
        assert!(bench.get_with("/me", &[("authorization", user)]).await.is_hit());
    }
    bench.handle.purge(&Uri::from_static("http://example.com/me")).await.unwrap();
    for user in ["one", "two"] {
        assert!(!bench.get_with("/me", &[("authorization", user)]).await.is_hit());
    }
}

#[tokio::test]
async fn responses_are_purged_by_uri_by_prefix_and_all() {
    let bench = filled().await;
    bench.handle.purge(&Uri::from_static("http://Example.com:80/a")).await.unwrap();
    assert_eq!(hits(&bench).await, [false, true, true]);
    bench.handle.purge_target(&PurgeTarget::Prefix(b"http://example.com/b"[..].into())).await.unwrap();
    assert_eq!(hits(&bench).await, [false, false, true]);
    bench.handle.purge_target(&PurgeTarget::All).await.unwrap();
    assert_eq!(hits(&bench).await, [false, false, false]);
    // What is fetched after a purge is stored as ever.
    bench.get("/a").await;
    assert_eq!(hits(&bench).await, [true, false, false]);
}

#[tokio::test]
async fn a_soft_purge_makes_a_response_stale() {
    let bench = Bench::new([Reply::cc("x", "max-age=60, stale-if-error=60").field("etag", "\"a\"")]);
    bench.get("/").await;
    let uri = Uri::from_static("http://example.com/");
    bench.handle.soft_purge(&uri).await.unwrap();
    bench.later(5);
    bench.origin.then(Reply::new("").status(503));
    let seen = bench.get("/").await.has_body("x");
    assert!(seen.cache_status().contains("stale-if-error"), "{seen:?}");
    bench.origin.then(Reply::new("").status(304).field("cache-control", "max-age=60"));
    bench.get("/").await.told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
    bench.get("/").await.told("larder; hit; ttl=60");
}

#[tokio::test]
async fn in2_the_responses_of_a_group_are_invalidated_together() {
    let grouped = |groups: &str| Reply::cc("x", "max-age=60").field("cache-groups", groups);
    let bench = Bench::new([grouped("\"news\", \"sport\""), grouped("\"News\""), grouped("\"sport\"")]);
    for path in ["/a", "/b", "/c"] {
        bench.get(path).await;
    }
    let elsewhere = [("host", "other.example")];
    bench.origin.then(grouped("\"news\""));
    bench.get_with("/a", &elsewhere).await;
    // On the answer to a safe request the field means nothing.
    bench.origin.then(Reply::cc("y", "no-store").field("cache-group-invalidation", "\"news\""));
    bench.get("/d").await;
    assert_eq!(hits(&bench).await, [true, true, true]);
    bench.origin.then(Reply::new("").field("cache-group-invalidation", "\"news\""));
    bench.send(Method::POST, "/d", &[]).await;
    assert_eq!(hits(&bench).await, [false, true, true], "case-sensitive, and no cascade to sport");
    assert!(bench.get_with("/a", &elsewhere).await.is_hit(), "another origin's group of that name");
    bench.origin.then(Reply::new("").field("cache-group-invalidation", "\"sport\"").status(500));
    bench.send(Method::POST, "/d", &[]).await;
    assert_eq!(hits(&bench).await, [false, true, true], "a failure invalidates nothing");
}

#[tokio::test]
async fn in2_too_many_groups_are_reported_and_invalidate_the_whole_origin() {
    let many = vec!["\"g\""; 129].join(", ");
    let bench = Bench::new([Reply::cc("x", "max-age=60").field("cache-groups", &many)]);
    bench.get("/").await.told("larder; fwd=uri-miss; detail=\"too-many-groups\"");
    let bench = filled().await;
    bench.origin.then(Reply::new("").field("cache-group-invalidation", &many));
    bench.send(Method::POST, "/x", &[]).await;
    assert_eq!(hits(&bench).await, [false, false, false]);
}
