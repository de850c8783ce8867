//! Lifetimes that a policy gives: by default, by status, by path, and shortened by chance.

use std::time::Duration;

use larder::policy::{self, Lifetime, Lifetimes, Policies, StatusRange};
use larder::{CachePolicy, CachePolicyExt, StandardPolicy};

use crate::reported::validation::until_calls;
use crate::support::{Bench, Reply, cache_builder};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn bench(policy: impl CachePolicy, reply: Reply) -> Bench {
    Bench::with(cache_builder().policy(policy), [reply])
}

/// What `Cache-Status` says of the first answer, after `fwd=uri-miss; `.
async fn first(policy: impl CachePolicy, path: &str, reply: Reply) -> String {
    let seen = bench(policy, reply).get(path).await;
    seen.cache_status().strip_prefix("larder; fwd=uri-miss; ").unwrap().to_owned()
}

#[tokio::test]
async fn a_default_lifetime_is_for_what_states_none_and_is_no_error() {
    let default = || StandardPolicy::default().default_lifetime(seconds(60));
    let old = "Mon, 01 Jan 2024 00:00:00 GMT";
    for (reply, told) in [
        (Reply::new("x"), "stored; ttl=60"),
        (Reply::cc("x", "public"), "stored; ttl=60"),
        (Reply::new("x").status(301), "stored; ttl=60"),
        // It replaces what the cache would assume: a day here.
        (Reply::new("x").field("last-modified", old), "stored; ttl=60"),
        (Reply::cc("x", "max-age=5"), "stored; ttl=5"),
        (Reply::cc("x", "s-maxage=7"), "stored; ttl=7"),
        (Reply::new("x").field("cdn-cache-control", "max-age=8"), "stored; ttl=8"),
        (Reply::new("x").field("expires", "0"), "detail=\"never-fresh\""),
        // What forbids storing still does.
        (Reply::cc("x", "private"), "detail=\"private\""),
        (Reply::cc("x", "no-store"), "detail=\"no-store\""),
        (Reply::new("x").field("set-cookie", "a=b"), "detail=\"set-cookie\""),
        (Reply::new("x").status(302), "detail=\"status\""),
        (Reply::new("x").status(201), "detail=\"status\""),
        (Reply::new("x").status(404), "detail=\"never-fresh\""),
        (Reply::new("x").status(500), "detail=\"status\""),
    ] {
        assert_eq!(first(default(), "/", reply.clone()).await, told, "{reply:?}");
    }
    let cookie = bench(default(), Reply::new("x")).get_with("/", &[("cookie", "a=b")]).await;
    cookie.told("larder; fwd=uri-miss; detail=\"cookie\"");
    let validated = bench(default(), Reply::cc("x", "no-cache").field("etag", "\"a\""));
    validated.get("/").await.told("larder; fwd=uri-miss; stored; ttl=60");
    validated.get("/").await.told("larder; fwd=stale; stored; ttl=60");
    let zero = StandardPolicy::default().default_lifetime(Duration::ZERO);
    let reply = Reply::new("x").field("last-modified", old);
    assert_eq!(first(zero, "/", reply).await, "stored; ttl=0");
}

#[tokio::test]
async fn kx6_a_lifetime_by_status_admits_its_statuses_and_zero_keeps_them_out() {
    let by_status = || {
        StandardPolicy::default()
            .status_lifetime(StatusRange::SUCCESS, seconds(3600))
            .status_lifetime(404, seconds(10))
            .status_lifetime("5xx".parse::<StatusRange>().unwrap(), seconds(1))
            .status_lifetime(301..=302, seconds(20))
            .status_lifetime(204, Duration::ZERO)
    };
    for (status, told) in [
        (200, "stored; ttl=3600"),
        (201, "stored; ttl=3600"),
        (204, "detail=\"zero-lifetime\""),
        (301, "stored; ttl=20"),
        (302, "stored; ttl=20"),
        (307, "detail=\"status\""),
        (404, "stored; ttl=10"),
        (410, "detail=\"never-fresh\""),
        (500, "stored; ttl=1"),
        (503, "stored; ttl=1"),
    ] {
        assert_eq!(first(by_status(), "/", Reply::new("x").status(status)).await, told, "{status}");
        // What the response states comes first, an error's within its bound.
        let stated = Reply::cc("x", "max-age=600").status(status);
        let told = if status >= 400 { "stored; ttl=300" } else { "stored; ttl=600" };
        assert_eq!(first(by_status(), "/", stated).await, told, "{status}");
    }
    for (reply, told) in [
        (Reply::cc("x", "no-store").status(404), "detail=\"no-store\""),
        (Reply::cc("x", "private").status(500), "detail=\"private\""),
        (Reply::new("x").status(404).field("set-cookie", "a=b"), "detail=\"set-cookie\""),
        (Reply::new("x").status(404).field("vary", "*"), "detail=\"vary\""),
    ] {
        assert_eq!(first(by_status(), "/", reply.clone()).await, told, "{reply:?}");
    }
    let not_found = bench(by_status(), Reply::new("none").status(404));
    not_found.get("/").await;
    not_found.later(9);
    not_found.get("/").await.has_body("none").told("larder; hit; ttl=1");
    not_found.later(1);
    not_found.get("/").await.told("larder; fwd=stale; stored; ttl=10");
}

#[tokio::test]
async fn kx6_an_error_that_a_request_can_draw_is_stored_only_if_its_status_is_named_by_itself() {
    let standard = StandardPolicy::default();
    let range = || standard.clone().status_lifetime(StatusRange::CLIENT_ERROR, seconds(10));
    let named = || range().status_lifetime(403, seconds(5));
    let drawn = || range().drawn_errors(true);
    for (policy, status, told) in [
        (range(), 403, "detail=\"drawn-error\""),
        (range(), 404, "stored; ttl=10"),
        (named(), 403, "stored; ttl=5"),
        (named(), 400, "detail=\"drawn-error\""),
        (drawn(), 403, "stored; ttl=10"),
    ] {
        assert_eq!(first(policy, "/", Reply::new("x").status(status)).await, told, "{status}");
    }
    // A lifetime of its own does not make it anybody else's either.
    let stated = || Reply::cc("x", "max-age=60").status(403);
    assert_eq!(first(range(), "/", stated()).await, "detail=\"drawn-error\"");
    assert_eq!(first(named(), "/", stated()).await, "stored; ttl=60");
    let groups: Vec<_> = (0..200).map(|group| format!("\"{group}\"")).collect();
    let groups = Reply::new("x").status(403).field("cache-groups", &groups.join(", "));
    assert_eq!(first(named(), "/", groups).await, "detail=\"too-many-groups\"");
}

#[tokio::test]
async fn the_smallest_range_of_statuses_counts_and_of_two_equal_ones_the_later() {
    let policy = || {
        StandardPolicy::default()
            .status_lifetime(404, seconds(1))
            .status_lifetime(StatusRange::CLIENT_ERROR, seconds(2))
            .status_lifetime(400..=599, seconds(3))
    };
    for (status, ttl) in [(404, 1), (410, 2), (500, 3)] {
        let told = format!("stored; ttl={ttl}");
        assert_eq!(first(policy(), "/", Reply::new("x").status(status)).await, told, "{status}");
    }
    let changed = policy().status_lifetime(404, seconds(9));
    assert_eq!(first(changed, "/", Reply::new("x").status(404)).await, "stored; ttl=9");
}

#[tokio::test]
async fn a_lifetime_by_path_comes_before_one_by_status_except_for_errors() {
    let policy = || {
        StandardPolicy::default()
            .default_lifetime(seconds(1))
            .status_lifetime(StatusRange::SUCCESS, seconds(2))
            .status_lifetime(404, seconds(3))
            .lifetime_for("/img/*", seconds(4))
            .lifetime_for("/img/secret/*", seconds(5))
            .lifetime_for("/exact/*", Lifetime::exactly(seconds(6)))
            .lifetime_for("/least/*", Lifetime::at_least(seconds(7)))
            .lifetime_for("/most/*", Lifetime::at_most(seconds(8)))
            .lifetime_for("/never/*", Lifetime::exactly(Duration::ZERO))
    };
    let stated = |seconds: u64| Reply::cc("x", &format!("max-age={seconds}"));
    for (path, reply, told) in [
        ("/", Reply::new("x"), "stored; ttl=2"),
        ("/", Reply::new("x").status(301), "stored; ttl=1"),
        ("/img/a", Reply::new("x"), "stored; ttl=4"),
        // The pattern that was given first.
        ("/img/secret/a", Reply::new("x"), "stored; ttl=4"),
        ("/img/a", stated(60), "stored; ttl=60"),
        ("/img/a", Reply::new("x").status(404), "stored; ttl=3"),
        ("/img/a", Reply::new("x").status(302), "detail=\"status\""),
        ("/exact/a", Reply::new("x"), "stored; ttl=6"),
        ("/exact/a", stated(60), "stored; ttl=6"),
        ("/exact/a", stated(60).status(404), "stored; ttl=60"),
        ("/exact/a", stated(60).status(302), "stored; ttl=6"),
        ("/exact/a", Reply::cc("x", "no-store"), "detail=\"no-store\""),
        ("/least/a", Reply::new("x"), "stored; ttl=7"),
        ("/least/a", stated(1), "stored; ttl=7"),
        ("/least/a", stated(60), "stored; ttl=60"),
        ("/most/a", stated(1), "stored; ttl=1"),
        ("/most/a", stated(60), "stored; ttl=8"),
        ("/never/a", stated(60), "detail=\"zero-lifetime\""),
    ] {
        assert_eq!(first(policy(), path, reply.clone()).await, told, "{path} {reply:?}");
    }
    let changed = policy().lifetime_for("/img/*", seconds(9));
    assert_eq!(first(changed, "/img/secret/a", Reply::new("x")).await, "stored; ttl=9");
}

#[tokio::test]
async fn a_lifetime_that_a_policy_gives_counts_from_the_arrival() {
    let policy = StandardPolicy::default().default_lifetime(seconds(60));
    let bench = bench(policy, Reply::new("x").field("age", "1000"));
    assert_eq!(bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=60").age(), Some(1000));
    bench.later(59);
    assert_eq!(bench.get("/").await.told("larder; hit; ttl=1").age(), Some(1059));
    bench.later(1);
    assert!(!bench.get("/").await.is_hit());
}

#[tokio::test]
async fn what_says_nothing_of_it_is_served_stale_by_the_default_window() {
    let policy = || StandardPolicy::default().stale_while_revalidate(seconds(30));
    for (control, is_served) in [
        ("max-age=60", true),
        ("max-age=60, stale-while-revalidate=5", false),
        ("max-age=60, stale-while-revalidate=0", false),
        ("max-age=60, must-revalidate", false),
        ("max-age=60, proxy-revalidate", false),
        ("s-maxage=60", false),
        ("max-age=60, no-cache", false),
    ] {
        let bench = bench(policy(), Reply::cc("x", control).field("etag", "\"a\""));
        bench.get("/").await;
        bench.later(70);
        assert_eq!(bench.get("/").await.is_hit(), is_served, "{control}");
        until_calls(&bench, 2).await;
    }
    let bench = bench(policy(), Reply::cc("x", "max-age=60"));
    bench.get("/").await;
    bench.later(89);
    bench.get("/").await.told("larder; hit; ttl=-29; detail=\"stale-while-revalidate\"");
    until_calls(&bench, 2).await;
    bench.get("/").await.told("larder; hit; ttl=60");
    bench.later(91);
    bench.get("/").await.told("larder; fwd=stale; stored; ttl=60");
    // What was never fresh is not stored to be served stale; by a lifetime of the policy's, it is.
    for reply in [Reply::new("x"), Reply::cc("x", "max-age=0")] {
        assert_eq!(first(policy(), "/", reply).await, "detail=\"never-fresh\"");
    }
    let both = policy().default_lifetime(seconds(60));
    let by_default = self::bench(both, Reply::new("x"));
    by_default.get("/").await;
    by_default.later(70);
    by_default.get("/").await.told("larder; hit; ttl=-10; detail=\"stale-while-revalidate\"");
}

#[tokio::test]
async fn jitter_shortens_lifetimes_by_the_key_and_lengthens_none() {
    let ttls = async |policy: StandardPolicy, reply: Reply| {
        let bench = bench(policy, reply);
        let mut ttls = Vec::new();
        for key in 0..40 {
            let seen = bench.get(&format!("/{key}")).await;
            let ttl: u64 = seen.cache_status().split("ttl=").nth(1).unwrap().parse().unwrap();
            ttls.push(ttl);
        }
        ttls
    };
    let reply = || Reply::cc("x", "max-age=1000");
    let jitter = |seed| StandardPolicy::default().jitter_seeded(20, seed);
    let first = ttls(jitter(1), reply()).await;
    assert!(first.iter().all(|ttl| (800..=1000).contains(ttl)), "{first:?}");
    let distinct: std::collections::BTreeSet<_> = first.iter().collect();
    assert!(
        distinct.len() > 20 && first.iter().max() > Some(&900) && first.iter().min() < Some(&900),
        "{first:?}"
    );
    assert_eq!(ttls(jitter(1), reply()).await, first, "by the seed");
    assert_ne!(ttls(jitter(2), reply()).await, first, "by another seed");
    // Lifetimes that the policy gives are shortened too, and only what is left of them.
    let given = jitter(1).default_lifetime(seconds(1000));
    assert_eq!(ttls(given, Reply::new("x").field("age", "100000")).await, first);
    assert_eq!(ttls(StandardPolicy::default().jitter(0), reply()).await, [1000; 40]);
    let whole = ttls(StandardPolicy::default().jitter(200), reply()).await;
    assert!(whole.iter().all(|ttl| *ttl <= 1000), "{whole:?}");
}

#[tokio::test]
async fn lifetimes_go_with_any_policy_and_change_nothing_else() {
    let lifetimes = || Lifetimes::new().default_lifetime(seconds(60)).status_lifetime(404, seconds(5));
    let refusing = || policy::from_fn(|_, terms| terms.refuse("mine"));
    assert_eq!(first(refusing().lifetimes(lifetimes()), "/", Reply::new("x")).await, "detail=\"mine\"");
    let standard = StandardPolicy::default().jitter(0).key_field(http::header::ACCEPT);
    let table = || {
        Policies::new(standard.clone())
            .path("/a/*", standard.clone().lifetimes(lifetimes()))
            .path("/b/*", standard.clone().default_lifetime(seconds(7)))
            .path(
                "/c/*",
                standard.clone().lifetimes(lifetimes()).lifetimes(lifetimes().default_lifetime(seconds(9))),
            )
    };
    for (path, status, told) in [
        ("/a/", 200, "stored; ttl=60"),
        ("/a/", 404, "stored; ttl=5"),
        ("/b/", 200, "stored; ttl=7"),
        ("/b/", 404, "detail=\"never-fresh\""),
        // What a policy has given is stated for the next one.
        ("/c/", 200, "stored; ttl=60"),
        ("/", 200, "detail=\"never-fresh\""),
    ] {
        assert_eq!(first(table(), path, Reply::new("x").status(status)).await, told, "{path} {status}");
    }
    let bench = bench(table(), Reply::new("x"));
    bench.get_with("/a/", &[("accept", "a")]).await;
    assert!(bench.get_with("/a/", &[("accept", "a")]).await.is_hit());
    assert!(!bench.get_with("/a/", &[("accept", "b")]).await.is_hit(), "the key has the field all the same");
}
