//! `Policies`: each request gets the first row that matches, with all its hooks.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::request::Parts;
use http::{Method, Request, header};
use larder::policy::cloudfront::{CachePolicyConfig, Distribution};
use larder::policy::{self, Bypass, KeyRules, Policies, QueryRules};
use larder::store::PurgeTarget;
use larder::{CachePolicy, CachePolicyExt, StandardPolicy};
use tower::ServiceExt;

use crate::support::stores::at_rest;
use crate::support::{Bench, Origin, Reply, cache_builder};

/// What keeps every response so long, whatever it says.
fn keeping(seconds: u64) -> impl CachePolicy {
    policy::from_fn(move |_, terms| terms.lifetime = Duration::from_secs(seconds))
}

fn bench(policies: Policies) -> Bench {
    Bench::with(cache_builder().policy(policies), [Reply::cc("x", "max-age=9")])
}

#[tokio::test]
async fn the_first_row_that_matches_decides() {
    let bench = bench(
        Policies::new(StandardPolicy::default())
            .path("/a/b*", keeping(1))
            .path("/a/*", keeping(2))
            .path("/a/bc", keeping(3)),
    );
    let told = |seconds| format!("larder; fwd=uri-miss; stored; ttl={seconds}");
    bench.get("/a/bc").await.told(&told(1));
    bench.get("/a/c").await.told(&told(2));
    bench.get("/a").await.told(&told(9));
    bench.get("/A/b").await.told(&told(9));
    // The query is no part of a path.
    bench.get("/c?/a/b").await.told(&told(9));
    bench.get("/a/b?x").await.told(&told(1));
}

#[tokio::test]
async fn a_row_is_chosen_by_method_host_or_predicate() {
    let bench = bench(
        Policies::new(StandardPolicy::default())
            .method(Method::HEAD, Bypass::new("head"))
            .host("*.static.Example", keeping(1))
            .when(|request| request.headers.contains_key("x-preview"), Bypass::new("preview")),
    );
    bench.send(Method::HEAD, "/", &[]).await.told("larder; fwd=bypass; detail=\"head\"");
    let of = |host| [("host", host)];
    bench.get_with("/", &of("a.STATIC.example:8080")).await.told("larder; fwd=uri-miss; stored; ttl=1");
    bench.get_with("/", &of("static.example")).await.told("larder; fwd=uri-miss; stored; ttl=9");
    bench.get_with("/", &of("a.static.example.org")).await.told("larder; fwd=uri-miss; stored; ttl=9");
    bench.get_with("/x", &[("x-preview", "1")]).await.told("larder; fwd=bypass; detail=\"preview\"");
    bench.get("/x").await.told("larder; fwd=uri-miss; stored; ttl=9");
}

#[tokio::test]
async fn a_request_has_the_hooks_and_rules_of_one_row_from_beginning_to_end() {
    // The row edits what the others would match by.
    let row = StandardPolicy::rfc9111()
        .before_request(|request, _| {
            request.uri = "/other".parse().unwrap();
            request.headers.remove("x-row");
        })
        .on_forward(|request, _| _ = request.headers.insert("x-forwarded-by", "row".parse().unwrap()))
        .on_deliver(|delivery| _ = delivery.headers.insert("x-row", "yes".parse().unwrap()));
    let policies = Policies::new(StandardPolicy::default())
        .when(|request| request.headers.contains_key("x-row"), row)
        .path("/other", Bypass::new("other"));
    let bench = bench(policies);
    let first = bench.get_with("/page", &[("x-row", "1")]).await.told("larder; fwd=uri-miss; stored; ttl=9");
    assert_eq!(first.field("x-row"), Some("yes"));
    assert_eq!(bench.origin.last().headers["x-forwarded-by"], "row");
    // RFC 9111 lets a client with a cookie have it; the careful default does not.
    let hit = bench.get_with("/page", &[("x-row", "1"), ("cookie", "a=b")]).await;
    assert_eq!(hit.told("larder; hit; ttl=9").field("x-row"), Some("yes"));
    bench.get("/other").await.told("larder; fwd=bypass; detail=\"other\"");
}

#[tokio::test]
async fn a_table_within_a_table_and_its_clones_keep_their_choices_apart() {
    let inner = Policies::new(keeping(1)).path("/*/b", keeping(2)).path("/*/c", keeping(3));
    let outer = Policies::new(inner.clone()).path("/in/*", inner.clone()).path("/own/*", keeping(4));
    let bench = bench(outer.clone());
    for (path, seconds) in [("/x", 1), ("/x/b", 2), ("/in/c", 3), ("/in/x", 1), ("/own/b", 4)] {
        bench.get(path).await.told(&format!("larder; fwd=uri-miss; stored; ttl={seconds}"));
    }
    let shown = format!("{outer:?}");
    assert!(shown.contains("path /in/*") && shown.contains("path /own/*"), "{shown}");
}

#[tokio::test]
async fn an_unsafe_request_invalidates_what_the_row_of_a_get_stores() {
    let without_query = StandardPolicy::default().before_request(|request, _| {
        let path = request.uri.path().to_owned();
        request.uri = path.parse().unwrap();
    });
    let bench = bench(Policies::new(StandardPolicy::default()).path("/list", without_query));
    bench.get("/list?page=1").await;
    bench.get("/list?page=2").await.told("larder; hit; ttl=9");
    bench.send(Method::POST, "/list?page=3", &[]).await;
    bench.get("/list").await.told("larder; fwd=uri-miss; stored; ttl=9");
    // So does a purge of whatever spelling.
    bench.handle.purge(&"http://example.com/list?page=7".parse().unwrap()).await.unwrap();
    bench.get("/list").await.told("larder; fwd=uri-miss; stored; ttl=9");
}

#[tokio::test]
async fn rows_match_the_path_and_route_that_the_client_asked_for_in_nested_routers() {
    let policies = Policies::new(StandardPolicy::default())
        .path("/v2/api/pictures/*", keeping(1))
        .route("/v2/api/users/{id}", keeping(2));
    let page = || get(|| async { ([(header::CACHE_CONTROL, "max-age=9")], "x") });
    let api = Router::new()
        .route("/pictures/{name}", page())
        .route("/users/{id}", page())
        .route("/others/{id}", page())
        .route_layer(cache_builder().policy(policies).build());
    let app = Router::new().nest("/v2", Router::new().nest("/api", api));
    for (path, seconds) in [("pictures/1", 1), ("users/7", 2), ("others/7", 9)] {
        let uri = format!("http://example.com/v2/api/{path}");
        let answer = app.clone().oneshot(Request::get(uri).body(Body::empty()).unwrap()).await.unwrap();
        let told = answer.headers()["cache-status"].to_str().unwrap();
        assert_eq!(told, format!("larder; fwd=uri-miss; stored; ttl={seconds}"), "{path}");
    }
}

#[tokio::test]
async fn a_closure_is_a_policy() {
    let policy = policy::request_fn(|request| match request.uri.path() {
        "/admin" => larder::RequestAction::bypass("admin"),
        _ => larder::RequestAction::of(request),
    });
    let bench = Bench::with(cache_builder().policy(policy), [Reply::cc("x", "max-age=9")]);
    bench.get("/admin").await.told("larder; fwd=bypass; detail=\"admin\"");
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=9");
    // Its rules are those of the careful default.
    bench.get_with("/", &[("cookie", "a=b")]).await.told("larder; fwd=request; detail=\"cookie\"");
}

#[tokio::test]
async fn a01_no_host_or_scheme_of_a_client_makes_the_key_of_a_row_that_leaves_them_out() {
    let row = |request: &Parts| {
        let is_shop = request.headers.get("host").is_some_and(|host| host == "www.example.com");
        is_shop && request.uri.scheme_str() != Some("any")
    };
    let keyed = |rules| StandardPolicy::default().key(rules);
    let table = |rules| Policies::new(StandardPolicy::default()).when(row, keyed(rules));
    let plain = CachePolicyConfig::caching_optimized_for_uncompressed_objects();
    let distribution = Policies::new(StandardPolicy::default()).when(row, Distribution::new(plain));
    for (table, uri, host) in [
        (table(KeyRules::new().any_host()), "/x", ""),
        (table(KeyRules::new().any_scheme()), "any://www.example.com/x", "www.example.com"),
        (distribution, "/x", "distribution"),
    ] {
        let bench = bench(table);
        let told = "larder; fwd=uri-miss; stored; ttl=9";
        let shop = [("host", "www.example.com")];
        bench.get_with(uri, &[("host", host)]).await.told(told);
        bench.get_with(uri, &[("host", host)]).await.told("larder; hit; ttl=9");
        bench.get_with("/x", &shop).await.told(told);
        bench.get_with("/x", &shop).await.told("larder; hit; ttl=9");
        // Purges reach it by what clients ask for.
        for target in [
            PurgeTarget::uri("http://www.example.com/x"),
            PurgeTarget::prefix("http://www.example.com/"),
            PurgeTarget::host("www.example.com"),
        ] {
            bench.handle.purge_target(&target).await.unwrap();
            bench.get_with("/x", &shop).await.told(told);
        }
        bench.handle.purge(&"http://www.example.com/x".parse().unwrap()).await.unwrap();
        bench.get_with("/x", &shop).await.told(told);
    }
}

#[tokio::test]
async fn a_table_within_the_table_that_it_was_cloned_from_keeps_its_own_choices() {
    let shop = Policies::new(keeping(1)).path("/x", keeping(2));
    let bench = bench(shop.clone().path("/shop/*", shop.path("/shop/b", keeping(3)).path("*", keeping(4))));
    for (path, seconds) in [("/shop/b", 3), ("/shop/c", 4), ("/x", 2), ("/y", 1)] {
        bench.get(path).await.told(&format!("larder; fwd=uri-miss; stored; ttl={seconds}"));
    }
}

#[tokio::test]
async fn a_purge_reaches_what_a_row_stores_for_requests_that_have_more_than_a_uri() {
    // The last row leaves the query out of its keys; the other one, which is chosen by a field, does not.
    let without_query = StandardPolicy::default().query(QueryRules::none());
    let policies = Policies::new(without_query)
        .when(|request| request.headers.contains_key("x-all"), StandardPolicy::default());
    let bench = bench(policies);
    let (own, uri) = ([("x-all", "1")], "http://example.com/search?q=1");
    for purge in 0..3 {
        bench.get_with("/search?q=1", &own).await.told("larder; fwd=uri-miss; stored; ttl=9");
        at_rest().await;
        bench.get_with("/search?q=1", &own).await.told("larder; hit; ttl=9");
        match purge {
            0 => drop(bench.handle.purge(&uri.parse().unwrap()).await.unwrap()),
            1 => drop(bench.send(Method::POST, "/search?q=1", &[]).await),
            _ => {
                Origin::then(&bench.origin, Reply::new("").field("location", "/search?q=1"));
                bench.send(Method::POST, "/orders", &[]).await;
                Origin::then(&bench.origin, Reply::cc("x", "max-age=9"));
                bench.get_with("/search?q=1", &own).await.told("larder; fwd=uri-miss; stored; ttl=9");
            }
        }
    }
}
