//! Other caches of the same owner, which ask this one in place of the origin (FA9).

use std::time::Duration;

use http::{HeaderName, Method};
use larder::policy::cloudfront::{Behavior, CachePolicyConfig, Distribution};
use larder::policy::{Fastly, Peers, ResponseRules, TagField};
use larder::store::PurgeTarget;
use larder::{CachePolicy, CachePolicyExt, RequestAction, StandardPolicy};

use crate::support::{Bench, Reply, Seen, cache_builder};

const PEER: (&str, &str) = ("x-peer", "secret");
const SECOND: Duration = Duration::from_secs(1);

/// The fields that are for caches, and `Cache-Control` of the origin.
const FOR_CACHES: [&str; 4] = ["cache-tag", "cdn-cache-control", "surrogate-control", "surrogate-key"];

fn peers() -> Peers {
    Peers::new().token(HeaderName::from_static(PEER.0), PEER.1)
}

fn bench(policy: impl CachePolicy, reply: Reply) -> Bench {
    Bench::with(cache_builder().policy(policy.with_peers(peers())), [reply])
}

/// One of each profile.
fn profiles() -> [(&'static str, Box<dyn CachePolicy>); 4] {
    let behavior = Behavior::new(CachePolicyConfig::use_origin_cache_control_headers());
    [
        ("default", Box::new(StandardPolicy::default())),
        ("rfc9111", Box::new(StandardPolicy::rfc9111())),
        ("cloudfront", Box::new(Distribution::new(behavior))),
        ("fastly", Box::new(Fastly::new())),
    ]
}

fn shown(seen: &Seen) -> Vec<&'static str> {
    FOR_CACHES.into_iter().filter(|name| seen.field(name).is_some()).collect()
}

fn tagged(cache_control: &str) -> Reply {
    FOR_CACHES.iter().fold(Reply::cc("x", cache_control), |reply, name| match *name {
        "cdn-cache-control" | "surrogate-control" => reply.field(name, "max-age=60"),
        name => reply.field(name, "a"),
    })
}

#[tokio::test]
async fn fa9_peers_get_the_fields_for_caches_and_clients_do_not_in_every_profile() {
    for (profile, policy) in profiles() {
        let bench = bench(policy, tagged("max-age=60"));
        for hit in [false, true] {
            let client = bench.get("/").await;
            assert_eq!((client.is_hit(), shown(&client)), (hit, vec![]), "{profile}");
            let peer = bench.get_with("/", &[PEER]).await;
            assert_eq!((peer.is_hit(), shown(&peer)), (hit, FOR_CACHES.to_vec()), "{profile}");
        }
        // What is not stored, and what passes.
        bench.origin.then(tagged("private"));
        for (fields, expected) in [(&[][..], vec![]), (&[PEER], FOR_CACHES.to_vec())] {
            let private = bench.get_with("/private", fields).await;
            assert_eq!(shown(&private), expected, "{profile}");
            let passed = bench.send(Method::POST, "/form", fields).await;
            assert_eq!(shown(&passed), expected, "{profile}");
        }
        assert!(!bench.origin.last().headers.contains_key(PEER.0), "{profile}: the secret stays here");
    }
}

#[tokio::test]
async fn fa9_a_forged_mark_makes_no_peer_in_any_profile() {
    for (profile, policy) in profiles() {
        let bench = bench(policy, tagged("max-age=60"));
        for forged in ["", "secre", "secret2", "SECRET", "secret, secret"] {
            let seen = bench.get_with("/", &[(PEER.0, forged)]).await;
            assert_eq!(shown(&seen), [""; 0], "{profile}: {forged}");
            assert!(!bench.origin.last().headers.contains_key(PEER.0), "{profile}");
        }
        let seen = bench.get_with("/", &[PEER, PEER]).await;
        assert_eq!(shown(&seen), [""; 0], "{profile}");
        assert_eq!(bench.origin.calls(), 1, "{profile}: clients share what is stored for them");
    }
}

#[tokio::test]
async fn fa9_a_peer_gets_no_stale_response_except_in_place_of_an_error_in_any_profile() {
    for (profile, policy) in profiles() {
        let window = "max-age=10, stale-while-revalidate=600, stale-if-error=600";
        let bench = bench(policy, Reply::cc("old", window));
        for fields in [&[][..], &[PEER]] {
            bench.get_with("/", fields).await.has_body("old");
        }
        bench.later(20);
        bench.origin.then(Reply::cc("new", window));
        let peer = bench.get_with("/", &[PEER]).await.has_body("new");
        assert_eq!(peer.cache_status(), "larder; fwd=stale; stored; ttl=10", "{profile}");
        let client = bench.get("/").await.has_body("old");
        assert!(client.cache_status().contains("stale-while-revalidate"), "{profile}: {client:?}");
        bench.later(20);
        bench.origin.then(Reply::refused());
        let peer = bench.get_with("/", &[PEER]).await.has_body("new");
        assert!(peer.cache_status().contains("detail=\"stale-if-error\""), "{profile}: {peer:?}");
    }
}

#[tokio::test]
async fn fa9_fastlys_own_switches_make_peers_that_get_nothing_stale_either() {
    let policy = Fastly::new().peer_token(HeaderName::from_static(PEER.0), PEER.1);
    let reply = |body| Reply::cc(body, "max-age=10, stale-while-revalidate=600, stale-if-error=600");
    let bench = Bench::with(cache_builder().policy(policy), [reply("old"), reply("new"), Reply::refused()]);
    bench.get("/").await;
    bench.later(20);
    bench.get_with("/", &[PEER]).await.told("larder; fwd=stale; stored; ttl=10").has_body("new");
    bench.later(20);
    let seen = bench.get_with("/", &[PEER]).await.has_body("new");
    assert!(seen.cache_status().contains("detail=\"stale-if-error\""), "{seen:?}");
}

#[tokio::test]
async fn fa9_what_is_made_for_browsers_is_made_for_clients_alone() {
    let rules = ResponseRules::new().tags_from(TagField::listed(HeaderName::from_static("cache-tag")));
    let policy = StandardPolicy::default().browser_lifetime(5 * SECOND).response_rules(rules);
    let of_origin = "public, max-age=60, s-maxage=600";
    let bench = bench(policy, Reply::cc("x", of_origin).field("cache-tag", "a,b").field("age", "30"));
    for told in ["larder; fwd=uri-miss; stored; ttl=570", "larder; hit; ttl=570"] {
        let client = bench.get("/").await.told(told);
        assert_eq!((client.field("cache-control"), client.age()), (Some("public, max-age=5"), None));
        assert_eq!(client.field("cache-tag"), None);
        // The age counts at the next cache.
        let peer = bench.get_with("/", &[PEER]).await.told(told);
        assert_eq!((peer.field("cache-control"), peer.age()), (Some(of_origin), Some(30)));
        assert_eq!(peer.field("cache-tag"), Some("a,b"));
    }
}

#[tokio::test]
async fn fa9_what_a_policy_does_for_peers_does_not_share_what_is_personal() {
    // A rule that makes a response everybody's by taking its cookie away takes it from peers, too.
    let policy = StandardPolicy::default().response_rules(ResponseRules::new().strip_set_cookie());
    let bench = bench(policy, Reply::cc("x", "max-age=60").field("set-cookie", "user=one"));
    for fields in [&[][..], &[PEER]] {
        for _ in 0..2 {
            assert_eq!(bench.get_with("/", fields).await.field("set-cookie"), None, "{fields:?}");
        }
    }
    let behavior = Behavior::new(CachePolicyConfig::caching_optimized());
    let bench =
        self::bench(Distribution::new(behavior), Reply::cc("x", "max-age=60").field("set-cookie", "a=b"));
    for _ in 0..2 {
        assert_eq!(bench.get_with("/", &[PEER]).await.field("set-cookie"), None);
    }
}

#[tokio::test]
async fn fa9_a_purge_goes_for_peers_and_clients() {
    let tags = ResponseRules::new().tags_from(TagField::listed(HeaderName::from_static("cache-tag")));
    let policy = || StandardPolicy::default().response_rules(tags.clone()).with_peers(peers());
    let reply = || Reply::cc("x", "max-age=600").field("cache-tag", "a");
    let key = || {
        let mut request = http::Request::get("http://example.com/").body(()).unwrap().into_parts().0;
        match policy().request(&mut request, &mut larder::PolicyData::default()) {
            RequestAction::Cache(key) => key,
            RequestAction::Bypass(reason) => panic!("{reason:?}"),
        }
    };
    for target in [
        PurgeTarget::All,
        PurgeTarget::uri("http://example.com/"),
        PurgeTarget::prefix("http://example.com/"),
        PurgeTarget::tag("a"),
        PurgeTarget::Key(key()),
    ] {
        let bench = Bench::with(cache_builder().policy(policy()), [reply()]);
        for fields in [&[][..], &[PEER]] {
            bench.get_with("/", fields).await;
            assert!(bench.get_with("/", fields).await.is_hit());
        }
        bench.handle.purge_target(&target).await.unwrap();
        for fields in [&[][..], &[PEER]] {
            assert!(!bench.get_with("/", fields).await.is_hit(), "{target:?} {fields:?}");
        }
    }
}

#[tokio::test]
async fn fa9_further_fields_can_be_for_caches() {
    let name = HeaderName::from_static("x-tags");
    let policy = StandardPolicy::default().with_peers(peers().fields([name]));
    let bench = Bench::with(cache_builder().policy(policy), [tagged("max-age=60").field("x-tags", "a")]);
    let (client, peer) = (bench.get("/").await, bench.get_with("/", &[PEER]).await);
    assert_eq!((client.field("x-tags"), peer.field("x-tags")), (None, Some("a")));
    assert_eq!(shown(&client), [""; 0]);
}

#[tokio::test]
async fn fa10_whoever_looks_for_a_fault_sees_the_fields_for_caches() {
    let policy = Fastly::new().debug_token("debug").with_peers(peers());
    let bench = Bench::with(cache_builder().policy(policy), [tagged("max-age=60")]);
    for _ in 0..2 {
        let seen = bench.get_with("/", &[("fastly-debug", "debug")]).await;
        assert_eq!(shown(&seen), FOR_CACHES);
        assert_eq!(shown(&bench.get("/").await), [""; 0]);
    }
}
