//! Which content is stored, by its size and its type.

use larder::policy::ContentLimits;
use larder::{CachePolicyExt, StandardPolicy};

use crate::support::{Bench, Reply, cache_builder};

fn typed(kind: &str) -> Reply {
    Reply::cc("0123456789", "max-age=60").field("content-type", kind)
}

#[tokio::test]
async fn content_of_types_that_are_left_out_passes() {
    let without = || StandardPolicy::default().without_types(["video/*", "Text/Event-Stream"]);
    let only = || StandardPolicy::default().only_types(["text/*", "application/json"]);
    let none = || Reply::cc("0123456789", "max-age=60");
    for (policy, reply, is_stored) in [
        (without(), typed("text/html; charset=utf-8"), true),
        (without(), typed("VIDEO/mp4"), false),
        (without(), typed("text/event-stream"), false),
        (without(), none(), true),
        (only(), typed("Text/HTML; charset=utf-8"), true),
        (only(), typed("application/json"), true),
        (only(), typed("image/png"), false),
        (only(), none(), false),
        // Nobody knows which of two counts.
        (only(), typed("text/html").field("content-type", "image/png"), false),
        (without().only_types(["video/*"]), typed("video/mp4"), true),
        (only().without_types(["image/*"]), typed("video/mp4"), true),
    ] {
        let bench = Bench::with(cache_builder().policy(policy), [reply.clone()]);
        let told = if is_stored { "stored; ttl=60" } else { "detail=\"content-type\"" };
        bench.get("/").await.told(&format!("larder; fwd=uri-miss; {told}"));
        assert_eq!(bench.get("/").await.is_hit(), is_stored, "{reply:?}");
    }
}

#[tokio::test]
async fn content_outside_the_limits_of_the_policy_passes() {
    let policy = || StandardPolicy::default().min_body(5).max_body(10);
    for (content, told) in [
        ("1234", "detail=\"too-small\""),
        ("12345", "stored; ttl=60"),
        ("1234567890", "stored; ttl=60"),
        ("12345678901", "detail=\"too-large\""),
    ] {
        let bench = Bench::with(cache_builder().policy(policy()), [Reply::cc(content, "max-age=60")]);
        bench.get("/").await.has_body(content).told(&format!("larder; fwd=uri-miss; {told}"));
        assert_eq!(bench.get("/").await.is_hit(), told.starts_with("stored"), "{content}");
    }
    // The store's bound is not lifted.
    let small = larder::MemoryStore::builder().max_object(10).build();
    let layer = crate::support::cache_builder_over(small).policy(StandardPolicy::default().max_body(100));
    let bench = Bench::with(layer, [Reply::cc("12345678901", "max-age=60")]);
    bench.get("/").await.told("larder; fwd=uri-miss; detail=\"too-large\"");
}

#[tokio::test]
async fn a_stream_that_turns_out_too_small_is_not_kept() {
    for (frames, is_stored) in [(&["12", "34"][..], false), (&["12", "345"], true)] {
        let policy = StandardPolicy::default().min_body(5);
        let reply = Reply::cc("", "max-age=60").frames(frames);
        let bench = Bench::with(cache_builder().policy(policy), [reply]);
        bench.get("/").await.has_body(&frames.concat());
        assert_eq!(bench.get("/").await.is_hit(), is_stored, "{frames:?}");
    }
}

#[tokio::test]
async fn limits_go_with_any_policy_and_add_up() {
    let limits = ContentLimits::new().max_body(10).without_types(["image/*"]);
    let policy = StandardPolicy::default().min_body(5).without_types(["video/*"]).content_limits(limits);
    let bench = Bench::with(cache_builder().policy(policy), [Reply::new("")]);
    for (reply, told) in [
        (typed("video/mp4"), "detail=\"content-type\""),
        (typed("image/png"), "detail=\"content-type\""),
        (Reply::cc("1234", "max-age=60"), "detail=\"too-small\""),
        (Reply::cc("12345678901", "max-age=60"), "detail=\"too-large\""),
        (typed("text/html"), "stored; ttl=60"),
    ] {
        bench.origin.then(reply.clone());
        bench.get("/").await.told(&format!("larder; fwd=uri-miss; {told}"));
    }
}
