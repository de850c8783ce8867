//! `No-Vary-Search` (VA5): one response answers several queries.

use std::time::Duration;

use http::Method;
use larder::{MemoryStore, StandardPolicy};

use crate::support::{Bench, Reply, cache_builder, cache_builder_over, settle};

fn reply(body: &str, rule: &str) -> Reply {
    Reply::cc(body, "max-age=60").field("no-vary-search", rule)
}

#[tokio::test]
async fn va5_a_query_that_differs_only_in_ignored_parameters_is_a_hit() {
    let bench = Bench::new([reply("one", "key-order, params=(\"utm\")"), Reply::cc("other", "max-age=60")]);
    bench.get("/a?x=1&utm=mail&y=2").await.told("larder; fwd=uri-miss; stored; ttl=60");
    for same in ["/a?x=1&utm=mail&y=2", "/a?x=1&y=2", "/a?y=2&x=1", "/a?utm=web&y=2&x=1", "/a?x=%31&y=2&utm"]
    {
        bench.get(same).await.told("larder; hit; ttl=60").has_body("one");
    }
    for other in ["/a?x=2&y=2", "/a?x=1", "/a?x=1&y=2&x=3", "/b?x=1&y=2", "/a"] {
        bench.get(other).await.told("larder; fwd=uri-miss; stored; ttl=60").has_body("other");
    }
    let head = bench.send(Method::HEAD, "/a?y=2&x=1", &[]).await;
    assert!(head.is_hit(), "{head:?}");
}

#[tokio::test]
async fn va5_a_response_answers_other_queries_by_its_own_field_and_freshness() {
    let bench = Bench::new([reply("one", "params"), Reply::cc("two", "max-age=60")]);
    bench.get("/a?1").await;
    bench.get("/a?2").await.told("larder; hit; ttl=60");
    bench.later(60);
    // Stale: what comes of asking is about the query that was asked.
    bench.get("/a?2").await.told("larder; fwd=uri-miss; stored; ttl=60").has_body("two");
    bench.later(1);
    // Replaced under its own query by one without the field.
    bench.get("/a?1").await.told("larder; fwd=stale; stored; ttl=60");
    bench.get("/a?3").await.told("larder; fwd=uri-miss; stored; ttl=60");
}

#[tokio::test]
async fn va5_vary_and_credentials_still_count_for_other_queries() {
    let bench = Bench::new([reply("one", "params").field("vary", "accept"), reply("two", "params")]);
    bench.get_with("/a?1", &[("accept", "x")]).await;
    bench.get_with("/a?2", &[("accept", "x")]).await.told("larder; hit; ttl=60");
    bench
        .get_with("/a?2", &[("accept", "y")])
        .await
        .told("larder; fwd=uri-miss; stored; ttl=60")
        .has_body("two");
    // Nobody's cookie gets what was not said to be everybody's.
    let seen = bench.get_with("/a?3", &[("cookie", "a=b")]).await;
    assert!(!seen.is_hit(), "{seen:?}");
}

#[tokio::test]
async fn va5_a_purge_of_one_query_reaches_the_response_that_answers_for_it() {
    let bench = Bench::new([reply("one", "params"), reply("two", "params"), reply("three", "params")]);
    bench.get("/a?1").await;
    bench.get("/a?2").await.told("larder; hit; ttl=60");
    bench.handle.purge(&"http://example.com/a?2".parse().unwrap()).await.unwrap();
    bench.get("/a?2").await.has_body("two");
    bench.send(Method::POST, "/a?9", &[]).await;
    let seen = bench.get("/a?1").await;
    assert!(!seen.is_hit(), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn f08_a_purge_of_a_query_holds_although_its_alias_is_not_known() {
    // A purge while the answer is on its way, whose query is not known yet.
    let bench = Bench::new([reply("old", "params").after(Duration::from_millis(10)), reply("new", "params")]);
    let purge = async {
        settle().await;
        bench.handle.purge(&"http://example.com/a?2".parse().unwrap()).await.unwrap();
    };
    let (old, ()) = tokio::join!(bench.get("/a?1"), purge);
    assert_eq!(old.body, "old");
    bench.get("/a?2").await.told("larder; fwd=uri-miss; stored; ttl=60").has_body("new");
    // Two layers over one store, the second of which has never seen an answer.
    let store = MemoryStore::new();
    let one =
        Bench::with(cache_builder_over(store.clone()), [reply("old", "params"), reply("new", "params")]);
    let two = Bench::with(cache_builder_over(store), []);
    one.get("/b?1").await;
    one.get("/b?2").await.told("larder; hit; ttl=60");
    two.handle.purge(&"http://example.com/b?2".parse().unwrap()).await.unwrap();
    one.get("/b?2").await.told("larder; fwd=uri-miss; stored; ttl=60").has_body("new");
    one.get("/b?1").await.told("larder; hit; ttl=60").has_body("old");
}

#[tokio::test]
async fn va5_only_if_cached_finds_the_response_of_another_query() {
    let bench = Bench::new([reply("one", "params")]);
    bench.get("/a?1").await;
    let only = [("cache-control", "only-if-cached")];
    bench.get_with("/a?2", &only).await.told("larder; hit; ttl=60");
    assert_eq!(bench.get_with("/b?2", &only).await.status, 504);
}

#[tokio::test]
async fn va5_no_vary_search_can_be_switched_off() {
    let layer = cache_builder().policy(StandardPolicy::default().no_vary_search(false));
    let bench = Bench::with(layer, [reply("one", "params")]);
    bench.get("/a?1").await;
    bench.get("/a?2").await.told("larder; fwd=uri-miss; stored; ttl=60");
}

#[tokio::test]
async fn va5_after_a_flood_of_queries_the_latest_are_still_found() {
    let bench = Bench::new([reply("one", "params=(\"utm\")")]);
    for number in 0..20_000 {
        bench.get(&format!("/a?{number}")).await;
    }
    // The latest are found; the oldest, if they are, are right all the same.
    bench.get("/a?19999&utm=1").await.told("larder; hit; ttl=60");
    bench.get("/a?0&utm=1").await.has_body("one");
}
