//! What purges and unsafe requests reach where keys have other URIs than those that clients ask for.

use http::uri::{Authority, Scheme};
use http::{HeaderName, Method, Request, Uri};
use http_body_util::Empty;
use larder::policy::{KeyRules, Policies, PolicyData, QueryRules, Selection};
use larder::store::PurgeTarget;
use larder::{CacheKey, CachePolicy, CachePolicyExt, RequestAction, StandardPolicy};
use tower::Service;

use crate::support::bench::read;
use crate::support::{Bench, Reply, cache_builder};

const FRESH: &str = "max-age=60";

fn bench(policy: impl CachePolicy) -> Bench {
    Bench::with(cache_builder().policy(policy), [Reply::cc("x", FRESH)])
}

fn standard(rules: KeyRules) -> StandardPolicy {
    StandardPolicy::default().key(rules)
}

/// Which of these URIs are stored.
async fn stored(bench: &Bench, uris: &[&str]) -> Vec<bool> {
    let mut stored = Vec::new();
    for uri in uris {
        let host = uri.split('/').nth(2).unwrap();
        let fields = [("cache-control", "only-if-cached"), ("host", host)];
        stored.push(bench.get_with(uri, &fields).await.is_hit());
    }
    stored
}

async fn fill(bench: &Bench, uris: &[&str]) {
    for uri in uris {
        let host = uri.split('/').nth(2).unwrap();
        bench.get_with(uri, &[("host", host)]).await;
    }
    assert!(stored(bench, uris).await.iter().all(|is_stored| *is_stored), "{uris:?}");
}

/// What goes of what is stored under these URIs by each target, hard and soft.
async fn check(policy: &(impl CachePolicy + Clone), uris: &[&str], purges: &[(PurgeTarget, &[usize])]) {
    for (target, gone) in purges {
        let expected: Vec<_> = (0..uris.len()).map(|at| !gone.contains(&at)).collect();
        for is_soft in [false, true] {
            let bench = bench(policy.clone());
            fill(&bench, uris).await;
            if is_soft {
                bench.handle.soft_purge_target(target).await.unwrap();
            } else {
                bench.handle.purge_target(target).await.unwrap();
            }
            assert_eq!(stored(&bench, uris).await, expected, "{target:?} {is_soft}");
        }
    }
}

#[tokio::test]
async fn a_purge_reaches_what_is_stored_without_the_query_that_it_names() {
    let uris = ["http://a/x", "http://a/x/y", "http://a/xy", "http://b/x"];
    let purges: &[(PurgeTarget, &[usize])] = &[
        (PurgeTarget::uri("http://a/x?z=1"), &[0]),
        (PurgeTarget::uri("http://A:80/x"), &[0]),
        (PurgeTarget::prefix("http://a/x?z"), &[0]),
        (PurgeTarget::prefix("http://a/x/"), &[1]),
        (PurgeTarget::prefix("http://a/x"), &[0, 1, 2]),
        (PurgeTarget::path("/x?z"), &[0, 3]),
        (PurgeTarget::path("/x"), &[0, 3]),
        // Nobody can say which paths with a query begin like this.
        (PurgeTarget::path_prefix("/x?z"), &[0, 1, 2, 3]),
        (PurgeTarget::path_prefix("/xy"), &[2]),
        (PurgeTarget::host("a"), &[0, 1, 2]),
    ];
    check(&standard(KeyRules::new().query(QueryRules::none())), &uris, purges).await;
}

#[tokio::test]
async fn a_purge_reaches_what_is_stored_under_another_query_than_it_names() {
    let rules = KeyRules::new().query(QueryRules::all().ignore_trackers().sorted().cleaned());
    let uris = ["http://a/x?a=1&b=2", "http://a/x", "http://a/x?c", "http://a/y?a=1&b=2"];
    let purges: &[(PurgeTarget, &[usize])] = &[
        (PurgeTarget::uri("http://a/x?b=2&utm_id=7&a=1"), &[0]),
        (PurgeTarget::uri("http://a/x?utm_id=7"), &[1]),
        (PurgeTarget::uri("http://a/x?b=2"), &[]),
        // What was asked for like this may be stored under any query of the path.
        (PurgeTarget::prefix("http://a/x?b="), &[0, 1, 2]),
        (PurgeTarget::path_prefix("/x?b="), &[0, 1, 2]),
        (PurgeTarget::path("/x?b=2&utm_id=7&a=1"), &[0]),
        (PurgeTarget::path("/x?b=2"), &[]),
        (PurgeTarget::path_prefix("/y"), &[3]),
    ];
    check(&standard(rules), &uris, purges).await;
}

#[tokio::test]
async fn a_purge_of_one_host_reaches_what_all_hosts_share() {
    let fixed = KeyRules::new().host(Authority::from_static("www.example.com"));
    for rules in [fixed, KeyRules::new().any_host()] {
        let uris = ["http://a/x", "http://b/xy", "https://a/x"];
        let purges: &[(PurgeTarget, &[usize])] = &[
            (PurgeTarget::uri("http://c/x"), &[0, 2]),
            (PurgeTarget::uri("https://c:443/x"), &[0, 2]),
            (PurgeTarget::prefix("http://c/x"), &[0, 1, 2]),
            (PurgeTarget::prefix("https://c/xy"), &[1]),
            (PurgeTarget::host("c:8080"), &[0, 1, 2]),
            (PurgeTarget::path_prefix("/xy"), &[1]),
            (PurgeTarget::path("/x"), &[0, 2]),
            (PurgeTarget::uri("http://c/y"), &[]),
        ];
        check(&standard(rules), &uris, purges).await;
    }
}

#[tokio::test]
async fn a_purge_reaches_what_is_stored_under_the_other_scheme() {
    let uris = ["http://a/x", "https://a/x", "http://a:8080/x", "https://a:8080/x", "http://b/x"];
    let purges: &[(PurgeTarget, &[usize])] = &[
        (PurgeTarget::uri("https://a/x"), &[0, 1]),
        (PurgeTarget::uri("http://a/x"), &[0, 1]),
        (PurgeTarget::uri("https://a:443/x"), &[0, 1]),
        (PurgeTarget::uri("http://a:8080/x"), &[2, 3]),
        (PurgeTarget::prefix("https://a/"), &[0, 1]),
        (PurgeTarget::host("b"), &[4]),
    ];
    check(&StandardPolicy::default(), &uris, purges).await;
    for uri in ["https://b/x", "https://b:443/x", "http://b:80/x"] {
        let bench = bench(StandardPolicy::default());
        fill(&bench, &uris).await;
        bench.handle.purge(&uri.parse().unwrap()).await.unwrap();
        assert_eq!(stored(&bench, &uris).await, [true, true, true, true, false], "{uri}");
    }
}

#[tokio::test]
async fn a_purge_of_one_scheme_reaches_what_both_schemes_share() {
    for rules in [KeyRules::new().scheme(Scheme::HTTPS), KeyRules::new().any_scheme()] {
        let uris = ["http://a/x", "https://b/x", "http://a:8080/x"];
        let purges: &[(PurgeTarget, &[usize])] = &[
            (PurgeTarget::uri("https://a/x"), &[0]),
            (PurgeTarget::uri("http://b/x"), &[1]),
            (PurgeTarget::prefix("https://a/"), &[0]),
            (PurgeTarget::prefix("https://a"), &[0, 2]),
            (PurgeTarget::prefix("https://a:"), &[2]),
            (PurgeTarget::host("a"), &[0]),
        ];
        check(&standard(rules), &uris, purges).await;
    }
}

#[tokio::test]
async fn a_purge_of_a_uri_reaches_every_cookie_field_class_and_identity() {
    let rules = KeyRules::new()
        .cookies(Selection::All)
        .header(HeaderName::from_static("x"))
        .mobile()
        .identity("user", |extensions| extensions.get::<&'static str>().copied());
    let uri = Uri::from_static("http://example.com/x");
    let bench = bench(standard(rules));
    let ask = async |name: &str, value: &str| {
        let mut request = Request::get(&uri).header(name, value);
        if name == "x-user" {
            request = request.extension("alice");
        }
        read(bench.cache.clone().call(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap())
            .await
            .is_hit()
    };
    let all = [("cookie", "a=1"), ("cookie", "a=2"), ("x", "1"), ("sec-ch-ua-mobile", "?1"), ("x-user", "1")];
    for purge in 0..3 {
        for (name, value) in all {
            ask(name, value).await;
            assert!(ask(name, value).await, "{name}: {value}");
        }
        match purge {
            0 => drop(bench.handle.purge(&uri).await.unwrap()),
            1 => drop(bench.handle.soft_purge(&uri).await.unwrap()),
            // An unsafe request has parts of its own.
            _ => drop(bench.send(Method::POST, "/x", &[("x", "9"), ("cookie", "b=1")]).await),
        }
        for (name, value) in all {
            assert!(!ask(name, value).await, "{purge} {name}: {value}");
        }
    }
}

#[tokio::test]
async fn groups_belong_to_the_origin_of_the_keys() {
    for rules in [
        KeyRules::new().host(Authority::from_static("www.example.com")),
        KeyRules::new().any_host(),
        KeyRules::new().any_scheme(),
    ] {
        let grouped = || Reply::cc("x", FRESH).field("cache-groups", "\"news\"");
        let done = Reply::new("").field("cache-group-invalidation", "\"news\"");
        let bench =
            Bench::with(cache_builder().policy(standard(rules)), [grouped(), grouped(), done, grouped()]);
        bench.get("/x").await;
        assert!(bench.get("/x").await.is_hit());
        bench.handle.purge_target(&PurgeTarget::group("http://example.com", "news")).await.unwrap();
        assert!(!bench.get("/x").await.is_hit());
        bench.send(Method::POST, "/other", &[]).await;
        assert!(!bench.get("/x").await.is_hit());
    }
}

#[tokio::test]
async fn purges_and_unsafe_requests_reach_what_any_row_of_a_table_stores() {
    let none = StandardPolicy::default().query(QueryRules::none());
    let by_field = |request: &http::request::Parts| request.headers.contains_key("x-mobile");
    let other = |policy| Policies::new(StandardPolicy::default()).when(by_field, policy);
    let mobile = [("x-mobile", "1")];
    let exact = PurgeTarget::uri("http://example.com/x?1");
    let tables: [Box<dyn Fn() -> Box<dyn CachePolicy>>; 2] = [
        Box::new(|| Box::new(other(none.clone()))),
        Box::new(|| Box::new(StandardPolicy::default().when(by_field, none.clone()))),
    ];
    for table in tables {
        for how in 0..3 {
            let bench = bench(table());
            bench.get_with("/x?1", &mobile).await;
            assert!(bench.get_with("/x?2", &mobile).await.is_hit());
            match how {
                0 => drop(bench.handle.purge(&Uri::from_static("http://example.com/x?1")).await.unwrap()),
                1 => drop(bench.handle.purge_target(&exact).await.unwrap()),
                _ => drop(bench.send(Method::POST, "/x?1", &[]).await),
            }
            assert!(!bench.get_with("/x?2", &mobile).await.is_hit(), "{how}");
        }
    }
}

#[tokio::test]
async fn a_purge_of_a_page_spares_what_another_row_of_a_table_stores() {
    let none = StandardPolicy::default().query(QueryRules::none());
    let policy =
        Policies::new(none.clone()).path("/exact/*", StandardPolicy::default()).path("/none/*", none);
    let uris = ["http://a/exact/x", "http://a/exact/x?1", "http://a/none/x", "http://a/x"];
    let purges: &[(PurgeTarget, &[usize])] = &[
        (PurgeTarget::uri("http://a/exact/x?1"), &[1]),
        (PurgeTarget::uri("http://a/none/x?1"), &[2]),
        (PurgeTarget::uri("http://a/x?1"), &[3]),
        (PurgeTarget::path("/exact/x?1"), &[1]),
        (PurgeTarget::path("/none/x?1"), &[2]),
    ];
    check(&policy, &uris, purges).await;
}

/// A policy of somebody's own that has one content for two hosts.
#[derive(Clone)]
struct TwoHosts;

impl CachePolicy for TwoHosts {
    fn request(&self, request: &mut http::request::Parts, _: &mut PolicyData) -> RequestAction {
        match RequestAction::of(request) {
            RequestAction::Cache(key) => {
                let uri = String::from_utf8(key.uri().into()).unwrap().replace("//b/", "//a/");
                RequestAction::Cache(CacheKey::from_uri(&uri.parse().unwrap()).unwrap())
            }
            bypass => bypass,
        }
    }
}

#[tokio::test]
async fn a_purge_asks_the_policy_for_the_spelling_of_a_host_and_of_a_prefix() {
    let uris = ["http://a/x", "http://a/y?1", "http://c/x"];
    let purges: &[(PurgeTarget, &[usize])] = &[
        (PurgeTarget::host("b"), &[0, 1]),
        (PurgeTarget::prefix("http://b/y"), &[1]),
        (PurgeTarget::prefix("http://b/y?1"), &[1]),
        (PurgeTarget::prefix("http://b/"), &[0, 1]),
        (PurgeTarget::uri("http://b/x"), &[0]),
        (PurgeTarget::host("d"), &[]),
    ];
    check(&TwoHosts, &uris, purges).await;
    // What nobody respells is spelled as before.
    let uris = ["http://a/", "https://a/", "https://a:8443/"];
    let purges: &[(PurgeTarget, &[usize])] = &[
        (PurgeTarget::host("a:443"), &[]),
        (PurgeTarget::host("a:8443"), &[2]),
        (PurgeTarget::host("a"), &[0, 1]),
    ];
    check(&StandardPolicy::default(), &uris, purges).await;
}

#[tokio::test]
async fn what_answers_for_a_spelling_by_no_vary_search_is_purged_with_it() {
    let rules = KeyRules::new().query(QueryRules::all().sorted());
    let reply = Reply::cc("x", FRESH).field("no-vary-search", "params=(\"s\")");
    let bench = Bench::with(cache_builder().policy(standard(rules)), [reply]);
    bench.get("/x?s=1&a=1").await;
    assert!(bench.get("/x?s=2&a=1").await.is_hit());
    bench.handle.purge(&Uri::from_static("http://example.com/x?s=3&a=1")).await.unwrap();
    assert!(!bench.get("/x?a=1&s=1").await.is_hit());
}
