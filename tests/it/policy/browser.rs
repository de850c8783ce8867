//! A lifetime for browsers that is not the cache's.

use std::time::Duration;

use http::{HeaderValue, Method, header};
use larder::policy::{Admission, Policies};
use larder::{CacheHint, CachePolicy, CachePolicyExt, StandardPolicy};

use crate::reported::validation::until_calls;
use crate::support::{Bench, Reply, Seen, Stage, cache_builder, settle};

fn minute() -> StandardPolicy {
    StandardPolicy::default().browser_lifetime(Duration::from_secs(60))
}

fn bench(policy: StandardPolicy, reply: Reply) -> Bench {
    Bench::with(cache_builder().policy(policy), [reply])
}

/// The fields by which a client judges how old an answer is.
fn times(seen: &Seen) -> [Option<&str>; 5] {
    ["cache-control", "age", "date", "expires", "cdn-cache-control"].map(|name| seen.field(name))
}

#[tokio::test]
async fn kx7_every_answer_counts_from_itself() {
    let bench = bench(minute().partial(true), Reply::new("0123456789"));
    let old = bench.date(-300);
    let reply = Reply::cc("0123456789", "public, max-age=3600, s-maxage=7200, stale-if-error=9")
        .field("date", &old)
        .field("age", "500")
        .field("expires", &old)
        .field("cdn-cache-control", "max-age=1800, public")
        .field("etag", "\"a\"");
    bench.origin.then(reply.clone());
    let check = |seen: Seen| {
        let now = bench.date(0);
        assert_eq!(times(&seen), [Some("public, max-age=60"), None, Some(&*now), None, None], "{seen:?}");
        seen
    };
    check(bench.get("/").await).told("larder; fwd=uri-miss; stored; ttl=1300");
    for _ in 0..3 {
        bench.later(100);
        // The same fields, whatever is asked, and however often.
        for _ in 0..3 {
            assert!(check(bench.get("/").await).is_hit());
        }
        assert_eq!(check(bench.get_with("/", &[("if-none-match", "\"a\"")]).await).status, 304);
        assert_eq!(check(bench.get_with("/", &[("range", "bytes=1-2")]).await).has_body("12").status, 206);
        assert_eq!(check(bench.get_with("/", &[("range", "bytes=1-2, 4-4")]).await).status, 206);
        check(bench.send(Method::HEAD, "/", &[]).await).has_body("");
        let unsatisfiable = bench.get_with("/", &[("range", "bytes=50-")]).await;
        assert_eq!((unsatisfiable.status.as_u16(), unsatisfiable.age()), (416, None));
        assert_eq!(unsatisfiable.field("date"), Some(&*bench.date(0)));
    }
    // First answers that are made of the response, not the response itself.
    check(bench.send(Method::HEAD, "/head", &[]).await);
    assert_eq!(check(bench.get_with("/conditional", &[("if-none-match", "\"a\"")]).await).status, 304);
    bench.origin.then(Reply { known_length: false, ..reply });
    check(bench.get("/stream").await).has_body("0123456789");
    assert!(check(bench.get("/stream").await).is_hit());
}

#[tokio::test]
async fn kx7_a_request_that_shares_a_call_gets_the_same_fields() {
    let stage = Stage::with(cache_builder().policy(minute()));
    let (first, second) = (stage.get("/"), stage.get("/"));
    settle().await;
    stage
        .origin
        .call(0)
        .head(&[("cache-control", "max-age=3600"), ("content-length", "1"), ("age", "7")])
        .frame("x")
        .end();
    let (first, second) = (first.response().await, second.response().await);
    for response in [&first, &second] {
        assert_eq!(response.headers()["cache-control"], "max-age=60");
        assert!(!response.headers().contains_key("age"));
    }
    assert_eq!(stage.origin.calls(), 1, "{second:?}");
    assert_eq!(first.headers()["date"], second.headers()["date"]);
}

#[tokio::test]
async fn kx7_a_stale_answer_has_its_age_so_that_nobody_keeps_it() {
    let policy = minute().stale_while_revalidate(Duration::from_secs(100)).stale_if_error(Duration::MAX);
    let bench = bench(policy, Reply::cc("x", "max-age=600").field("etag", "\"a\""));
    let made = bench.date(0);
    bench.get("/").await;
    bench.later(650);
    let stale = bench.get("/").await;
    assert_eq!(times(&stale), [Some("max-age=60"), Some("650"), Some(&*made), None, None]);
    until_calls(&bench, 2).await;
    let fresh = bench.get("/").await;
    assert_eq!(times(&fresh), [Some("max-age=60"), None, Some(&*bench.date(0)), None, None]);
    // In place of a failure; and after a soft purge.
    let made = bench.date(0);
    bench.origin.then(Reply::refused());
    bench.later(1000);
    let stood_in = bench.get("/").await.told("larder; fwd=stale; ttl=-400; detail=\"stale-if-error\"");
    assert_eq!(times(&stood_in), [Some("max-age=60"), Some("1000"), Some(&*made), None, None]);
    bench.origin.then(Reply::cc("x", "max-age=600"));
    bench.get("/").await;
    bench.later(100);
    bench.handle.soft_purge(&"http://example.com/".parse().unwrap()).await.unwrap();
    assert_eq!(bench.get("/").await.age(), Some(100));
}

#[tokio::test]
async fn kx7_the_origins_own_lifetime_counts_when_the_response_is_freshened() {
    let default = minute().default_lifetime(Duration::from_secs(3600));
    for (control, ttl) in [(Some("max-age=1800"), 1800), (None, 3600)] {
        let reply = Reply::new("x").field("etag", "\"a\"");
        let reply = match control {
            Some(control) => reply.field("cache-control", control),
            None => reply,
        };
        let bench = bench(default.clone(), reply);
        bench.get("/").await.told(&format!("larder; fwd=uri-miss; stored; ttl={ttl}"));
        for _ in 0..2 {
            bench.later(ttl + 1);
            bench.origin.not_modified(Some(Reply::new("").status(304)));
            let seen = bench.get("/").await;
            assert_eq!(times(&seen)[..3], [Some("max-age=60"), None, Some(&*bench.date(0))]);
            seen.told(&format!("larder; fwd=stale; fwd-status=304; stored; ttl={ttl}"));
            let hit = bench.get("/").await.told(&format!("larder; hit; ttl={ttl}"));
            assert_eq!(times(&hit)[..3], [Some("max-age=60"), None, Some(&*bench.date(0))]);
        }
        // Once the policy has no such lifetime any more, the origin's fields are back with the next freshening.
        bench.handle.set_policy(StandardPolicy::default().default_lifetime(Duration::from_secs(3600)));
        bench.later(ttl + 1);
        bench.get("/").await;
        let hit = bench.get("/").await;
        assert_eq!((hit.field("cache-control"), hit.age()), (control, Some(0)), "{hit:?}");
    }
}

#[tokio::test]
async fn kx7_what_is_refused_at_last_gets_no_longer_lifetime() {
    let hour = StandardPolicy::default().browser_lifetime(Duration::from_secs(3600));
    let reply = Reply::cc("xyz", "max-age=10").field("age", "5").field("content-length", "3");
    for (policy, detail) in [
        (Box::new(hour.clone().max_body(1)) as Box<dyn CachePolicy>, "too-large"),
        (Box::new(hour.clone().admit(Admission::after(2))), "admission"),
        (Box::new(hour.map_terms(|_, terms| terms.refuse("mine"))), "mine"),
    ] {
        let bench = Bench::with(cache_builder().policy(policy), [reply.clone()]);
        let seen = bench.get("/").await.told(&format!("larder; fwd=uri-miss; detail=\"{detail}\""));
        assert_eq!((seen.field("cache-control"), seen.age()), (Some("max-age=10"), Some(5)));
    }
}

#[tokio::test]
async fn kx7_errors_and_what_is_not_stored_keep_what_they_say_or_less() {
    let cookie = [("cookie", "a=b")];
    for (reply, fields, expected) in [
        // Errors.
        (Reply::cc("x", "max-age=200").status(404), &[][..], Some("max-age=200")),
        (Reply::new("x").status(500), &[], None),
        // Not stored: nothing is lengthened, nor given to what has said nothing.
        (Reply::cc("x", "max-age=3600"), &cookie, Some("max-age=60")),
        (Reply::cc("x", "private, max-age=3600"), &[], Some("private, max-age=60")),
        (Reply::cc("x", "private, max-age=5"), &[], Some("private, max-age=5")),
        (Reply::cc("x", "private"), &[], Some("private")),
        (Reply::cc("x", "no-store"), &[], Some("no-store")),
        (Reply::new("x").field("set-cookie", "a=b"), &[], None),
        (Reply::new("x").status(302), &[], None),
        // Stored, to be validated.
        (Reply::cc("x", "no-cache").field("etag", "\"a\""), &[], Some("no-cache, max-age=60")),
        (Reply::new("x").field("etag", "\"a\""), &[], Some("max-age=60")),
    ] {
        for policy in [minute(), minute().jitter(0)] {
            let bench = bench(policy, reply.clone());
            for _ in 0..2 {
                let seen = bench.get_with("/", fields).await;
                assert_eq!(seen.field("cache-control"), expected, "{reply:?} {seen:?}");
            }
        }
        // Where nothing is stored at all.
        let layer = cache_builder().tag_only().policy(minute());
        let seen = Bench::with(layer, [reply.clone()]).get_with("/", fields).await;
        let as_sent = reply.fields.iter().find(|(name, _)| name == "cache-control");
        let as_sent = as_sent.map(|(_, value)| &**value);
        let shortened = as_sent.is_some_and(|control| control.contains("3600"));
        assert_eq!(seen.field("cache-control"), if shortened { expected } else { as_sent }, "{reply:?}");
    }
    let aged = bench(minute(), Reply::cc("x", "max-age=200").status(404));
    aged.get("/").await;
    aged.later(5);
    assert_eq!(aged.get("/").await.age(), Some(5));
    // Answers to bypassed and unsafe requests are the service's own.
    let passed = bench(minute(), Reply::cc("x", "max-age=3600"));
    let posted = passed.send(Method::POST, "/", &[]).await;
    assert_eq!(posted.field("cache-control"), Some("max-age=3600"));
}

#[tokio::test]
async fn kx7_a_hint_comes_before_the_switch_and_a_policys_own_field_before_both() {
    let hour = CacheHint::new().browser_lifetime(Duration::from_secs(3600));
    let reply = Reply::cc("x", "max-age=600").field("etag", "\"a\"").extension(hour);
    let own = || {
        minute().map_terms(|_, terms| {
            terms.replace.push((header::CACHE_CONTROL, HeaderValue::from_static("max-age=5, immutable")));
        })
    };
    let table = Policies::new(StandardPolicy::default()).path("/switch/*", minute()).path("/own/*", own());
    let bench = Bench::with(cache_builder().policy(table), [reply]);
    for (path, expected) in
        [("/", "max-age=3600"), ("/switch/", "max-age=3600"), ("/own/", "max-age=5, immutable")]
    {
        for _ in 0..2 {
            let seen = bench.get(path).await;
            assert_eq!(times(&seen)[..3], [Some(expected), None, Some(&*bench.date(0))], "{path}");
            bench.later(7);
        }
    }
    // A 304 without a hint leaves it.
    bench.later(601);
    bench.origin.not_modified(Some(Reply::new("").status(304)));
    let seen = bench.get("/switch/").await.told("larder; fwd=stale; fwd-status=304; stored; ttl=600");
    assert_eq!(seen.field("cache-control"), Some("max-age=3600"));
}

#[tokio::test]
async fn a_field_that_the_origin_has_not_sent_does_not_count_as_its_own() {
    let policy =
        StandardPolicy::default().default_lifetime(Duration::from_secs(100)).map_terms(|_, terms| {
            terms.replace.push((header::CACHE_CONTROL, HeaderValue::from_static("max-age=5")));
        });
    let bench = Bench::with(cache_builder().policy(policy), [Reply::new("x").field("etag", "\"a\"")]);
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=100");
    for _ in 0..2 {
        bench.later(101);
        bench.origin.not_modified(Some(Reply::new("").status(304)));
        let seen = bench.get("/").await.told("larder; fwd=stale; fwd-status=304; stored; ttl=100");
        assert_eq!(seen.field("cache-control"), Some("max-age=5"));
    }
}

#[tokio::test]
async fn kx7_a_lifetime_that_is_stated_for_clients_counts_from_each_answer_if_this_cache_has_another() {
    let policy = StandardPolicy::default()
        .browser_lifetime_as_stated()
        .lifetime_for("/policy", larder::policy::Lifetime::exactly(Duration::from_secs(600)));
    let targeted = Reply::cc("x", "max-age=10").field("cdn-cache-control", "max-age=600");
    for (path, reply, control, counts) in [
        ("/", Reply::cc("x", "public, max-age=10, s-maxage=600"), "public, max-age=10", true),
        ("/", targeted, "max-age=10", true),
        ("/policy", Reply::cc("x", "max-age=10"), "max-age=10", true),
        ("/", Reply::cc("x", "max-age=600"), "max-age=600", false),
        ("/", Reply::cc("x", "s-maxage=600"), "s-maxage=600", false),
    ] {
        let bench = bench(policy.clone(), reply.clone());
        bench.get(path).await;
        bench.later(100);
        let hit = bench.get(path).await.told("larder; hit; ttl=500");
        let expected = if counts { (None, bench.date(0)) } else { (Some(100), bench.date(-100)) };
        assert_eq!((hit.age(), hit.field("date").unwrap().to_owned()), expected, "{reply:?}");
        assert_eq!(hit.field("cache-control"), Some(control));
    }
}
