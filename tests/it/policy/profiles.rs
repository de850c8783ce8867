//! What goes with any policy goes with the profiles of CloudFront and Fastly, too.

use std::time::Duration;

use http::header;
use larder::policy::cloudfront::{CachePolicyConfig, Distribution};
use larder::policy::fastly::Fastly;
use larder::policy::{ContentLimits, Lifetime, Lifetimes, Policies, ResponseRules, VaryField, VaryRules};
use larder::store::PurgeTarget;
use larder::{CacheControl, CacheHint, CachePolicy, CachePolicyExt, StandardPolicy};

use crate::support::{Bench, CacheBuilder, Reply, Seen, cache_builder};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A layer for each profile, and for a table that leaves everything to it, with what `change` makes of it.
fn layers<P: CachePolicy, Q: CachePolicy>(
    fastly: impl Fn(Fastly) -> P,
    cloudfront: impl Fn(Distribution) -> Q,
) -> [CacheBuilder; 4] {
    let distribution = || Distribution::new(CachePolicyConfig::caching_optimized());
    let table = || Policies::new(StandardPolicy::default());
    [
        cache_builder().policy(fastly(Fastly::new())),
        cache_builder().policy(cloudfront(distribution())),
        cache_builder().policy(table().path("/*", fastly(Fastly::new()))),
        cache_builder().policy(table().path("/*", cloudfront(distribution()))),
    ]
}

async fn twice(layer: CacheBuilder, reply: &Reply) -> (Bench, Seen, Seen) {
    let bench = Bench::with(layer, [reply.clone()]);
    let first = bench.get("/page").await;
    bench.later(5);
    let second = bench.get("/page").await;
    (bench, first, second)
}

#[tokio::test]
async fn kx2_responses_are_edited_before_a_profile_judges_them() {
    let rules = || {
        ResponseRules::new()
            .remove_directives(["private", "no-store"])
            .set_directives(CacheControl::new().max_age(seconds(600)))
            .strip_set_cookie()
            .tag_paths("/page", "pages")
    };
    let reply = Reply::cc("x", "private, no-store").field("set-cookie", "a=b");
    for layer in layers(|policy| policy.response_rules(rules()), |policy| policy.response_rules(rules())) {
        let (bench, first, second) = twice(layer, &reply).await;
        for seen in [&first, &second] {
            assert_eq!((seen.field("cache-control"), seen.field("set-cookie")), (Some("max-age=600"), None));
        }
        assert!(second.told("larder; hit; ttl=595").field("etag").is_some());
        bench.handle.purge_target(&PurgeTarget::tag("pages")).await.unwrap();
        assert!(!bench.get("/page").await.is_hit());
    }
}

#[tokio::test]
async fn kx7_a_profile_has_a_lifetime_for_browsers_and_lifetimes_of_paths() {
    let lifetimes = || {
        Lifetimes::new().browser_lifetime(seconds(60)).lifetime_for("/page", Lifetime::exactly(seconds(300)))
    };
    let reply = Reply::cc("x", "max-age=3600, s-maxage=7200").field("age", "100");
    for layer in layers(|policy| policy.lifetimes(lifetimes()), |policy| policy.lifetimes(lifetimes())) {
        let (bench, first, second) = twice(layer, &reply).await;
        for seen in [&first, &second] {
            assert_eq!((seen.field("cache-control"), seen.age()), (Some("max-age=60"), None), "{seen:?}");
        }
        assert_eq!(second.told("larder; hit; ttl=295").field("date"), Some(&*bench.date(0)));
    }
}

#[tokio::test]
async fn kx3_a_profile_has_rules_about_vary_and_limits_of_content() {
    let vary = || VaryRules::new().vary(header::ACCEPT, VaryField::Bypass).max_variants(1);
    let limits = || ContentLimits::new().max_body(3);
    let named = Reply::cc("x", "max-age=60").field("vary", "accept");
    for layer in layers(|policy| policy.vary_rules(vary()), |policy| policy.vary_rules(vary())) {
        let (_, first, _) = twice(layer, &named).await;
        first.told("larder; fwd=uri-miss; detail=\"vary-bypass\"");
    }
    let large = Reply::cc("four", "max-age=60");
    for layer in layers(|policy| policy.content_limits(limits()), |policy| policy.content_limits(limits())) {
        let (_, first, _) = twice(layer, &large).await;
        first.told("larder; fwd=uri-miss; detail=\"too-large\"");
    }
}

#[tokio::test]
async fn kx11_a_hint_counts_for_a_profile() {
    let hint = CacheHint::new().lifetime(seconds(300)).browser_lifetime(seconds(60)).tag("page:1");
    let reply = Reply::cc("x", "max-age=3600").extension(hint);
    for layer in layers(|policy| policy, |policy| policy) {
        let (bench, first, second) = twice(layer, &reply).await;
        for seen in [&first, &second] {
            assert_eq!((seen.field("cache-control"), seen.age()), (Some("max-age=60"), None), "{seen:?}");
        }
        second.told("larder; hit; ttl=295");
        bench.handle.purge_target(&PurgeTarget::tag("page:1")).await.unwrap();
        assert!(!bench.get("/page").await.is_hit());
        bench.origin.then(Reply::cc("x", "max-age=60").extension(CacheHint::new().no_store()));
        bench.get("/other").await.told("larder; fwd=uri-miss; detail=\"hint\"");
    }
}
