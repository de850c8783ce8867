//! Purges by the admin service: its own, those of Fastly's API, and CloudFront's lists.

use std::sync::Arc;

use larder::policy::KeyRules;
use larder::policy::cloudfront::{CachePolicyConfig, Distribution};
use larder::store::chaos::StoreCall;
use larder::{BoxStore, CacheLayer, MemoryStore, StandardPolicy};
use serde_json::{Value, json};

use super::{BEARER, Desk};
use crate::support::stores::{before, faulty};
use crate::support::{Reply, cache_builder, settle};

const PATHS: [&str; 4] = ["/a", "/a?x=1", "/images/1", "/b"];

/// Four responses; `/a` has the tags `news` and `Shop`.
async fn desk() -> Desk {
    let fresh = || Reply::cc("x", "max-age=60, stale-if-error=1000");
    let tagged = fresh().field("cache-groups", "\"news\", \"Shop\"");
    let desk = Desk::new([tagged, fresh()]);
    for path in PATHS {
        desk.bench.get(path).await;
    }
    assert_eq!(desk.stored(&PATHS).await, [true; 4]);
    desk
}

/// What is left of [`PATHS`] after a request.
async fn check(
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
    content: &str,
    left: [bool; 4],
) -> serde_json::Value {
    let desk = desk().await;
    let fields = [&[BEARER], fields].concat();
    let told = desk.ask_with(method, target, &fields, content).await;
    assert!(told.status.is_success(), "{method} {target} {content}: {told:?}");
    assert_eq!(desk.stored(&PATHS).await, left, "{method} {target} {content}");
    told.json()
}

#[tokio::test]
async fn fa5_the_method_purge_names_a_url_by_its_target() {
    let example = ("host", "example.com");
    check("PURGE", "http://example.com/a", &[], "", [false, true, true, true]).await;
    check("PURGE", "/a", &[example], "", [false, true, true, true]).await;
    check("PURGE", "/a?x=1", &[example], "", [true, false, true, true]).await;
    check("PURGE", "/http://example.com/b", &[("host", "admin.example")], "", [true, true, true, false])
        .await;
    check("PURGE", "/a", &[("host", "other.example")], "", [true; 4]).await;
    let json = check("PURGE", "/stats", &[example], "", [true; 4]).await;
    assert_eq!(json["status"], "ok");
    assert!(json["id"].as_str().unwrap().parse::<u64>().is_ok(), "{json}");
}

#[tokio::test]
async fn fa5_a_url_may_have_another_one_in_its_query() {
    const LOGIN: &str = "/login?next=https://b.example/";
    for (method, target, host, order) in [
        ("PURGE", LOGIN, "example.com", None),
        ("POST", "/purge/example.com/login?next=https://b.example/", "admin.example", None),
        (
            "POST",
            "/purge",
            "admin.example",
            Some(json!({"url": "example.com/login?next=https://b.example/"})),
        ),
        (
            "POST",
            "/purge",
            "admin.example",
            Some(json!({"url": "http://example.com/login?next=https://b.example/"})),
        ),
    ] {
        let desk = Desk::new([Reply::cc("x", "max-age=60")]);
        desk.bench.get(LOGIN).await;
        assert_eq!(desk.stored(&[LOGIN]).await, [true]);
        let content = order.map(|order| order.to_string()).unwrap_or_default();
        desk.ask_with(method, target, &[BEARER, ("host", host)], &content).await.ok();
        assert_eq!(desk.stored(&[LOGIN]).await, [false], "{method} {target} {content}");
    }
}

#[tokio::test]
async fn an_order_in_json_names_what_goes() {
    for (order, left) in [
        (json!({"url": "http://example.com/a"}), [false, true, true, true]),
        (json!({"url": "example.com/a"}), [false, true, true, true]),
        (json!({"urls": ["http://example.com/a", "http://example.com/b"]}), [false, true, true, false]),
        (json!({"tag": "news"}), [false, true, true, true]),
        (json!({"tags": ["nothing", "Shop"]}), [false, true, true, true]),
        (json!({"tag": "shop"}), [true; 4]),
        (json!({"prefix": "/images/"}), [true, true, false, true]),
        (json!({"prefix": "http://example.com/a"}), [false, false, true, true]),
        (json!({"host": "Example.com"}), [false; 4]),
        (json!({"items": ["/images/*", "#SHOP"]}), [false, true, false, true]),
        (json!({"all": true}), [false; 4]),
        (json!({"tag": "news", "url": "http://example.com/b"}), [false, true, true, false]),
    ] {
        let json = check("POST", "/purge", &[], &order.to_string(), left).await;
        assert_eq!((&json["status"], &json["mode"]), (&json!("ok"), &json!("hard")), "{order}");
        assert!(json["number"].as_u64().unwrap() > 0 && json["targets"].is_array(), "{json}");
    }
}

#[tokio::test]
async fn a_soft_purge_leaves_what_may_stand_in() {
    for (fields, order, gone_later) in [
        (&[][..], json!({"all": true, "soft": true}), false),
        (&[], json!({"all": true, "soft_for": 30}), true),
        (&[("fastly-soft-purge", "1")], json!({"all": true}), false),
    ] {
        let desk = desk().await;
        let fields = [&[BEARER], fields].concat();
        let json = desk.ask_with("POST", "/purge", &fields, &order.to_string()).await.ok();
        assert_eq!(json["mode"], "soft", "{order}");
        desk.bench.origin.then(Reply::new("").status(500));
        let status = desk.bench.get("/a").await.status.as_u16();
        desk.bench.later(40);
        assert_eq!(
            (status, desk.bench.get("/b").await.status.as_u16()),
            (200, if gone_later { 500 } else { 200 })
        );
    }
    let desk = desk().await;
    desk.ask("POST", "/purge", "{\"all\": true, \"soft_for\": 99999999999}").await.refused(400, "invalid");
}

#[tokio::test]
async fn nothing_is_purged_where_one_target_is_wrong() {
    let desk = desk().await;
    for order in [
        json!({"all": true, "url": "/a"}),
        json!({"all": true, "prefix": "images"}),
        json!({"all": true, "host": "a/b"}),
        json!({"all": true, "items": ["nothing"]}),
        json!({"all": true, "url": "http://user@example.com/"}),
    ] {
        desk.ask("POST", "/purge", &order.to_string()).await.refused(400, "invalid");
    }
    let many = json!({"all": true, "tags": vec!["x"; 3_000]});
    let refused = desk.ask("POST", "/purge", &many.to_string()).await.refused(400, "invalid");
    assert_eq!(refused["message"], "the request names 3001 things to purge, more than 3000");
    let many = json!({"items": (0..1_025).map(|number| format!("/{number}/*")).collect::<Vec<_>>()});
    desk.ask("POST", "/purge", &many.to_string()).await.refused(400, "invalid");
    assert_eq!(desk.stored(&PATHS).await, [true; 4]);
}

#[tokio::test]
async fn fa13_what_speaks_fastlys_api_is_understood() {
    let key = ("fastly-key", super::TOKEN);
    let json = check("POST", "/purge/example.com/a", &[], "", [false, true, true, true]).await;
    assert_eq!((&json["status"], json["id"].is_string()), (&json!("ok"), true), "{json}");
    check("POST", "/purge/example.com/a?x=1", &[], "", [true, false, true, true]).await;
    check("POST", "/purge/http://example.com/b", &[], "", [true, true, true, false]).await;
    let json =
        check("POST", "/service/SU1Z0isxPaozGVKXdv0eY/purge/news", &[], "", [false, true, true, true]).await;
    assert_eq!((&json["status"], json["id"].is_string()), (&json!("ok"), true), "{json}");
    let keys = json!({"surrogate_keys": ["Shop", "nothing"]}).to_string();
    let json = check("POST", "/service/1/purge", &[], &keys, [false, true, true, true]).await;
    assert_eq!(json.as_object().unwrap().keys().collect::<Vec<_>>(), ["Shop", "nothing"], "{json}");
    let json =
        check("POST", "/service/1/purge", &[("surrogate-key", "a news")], "", [false, true, true, true])
            .await;
    assert_eq!(json.as_object().unwrap().len(), 2, "{json}");
    let json = check("POST", "/service/1/purge_all", &[("fastly-soft-purge", "1")], "", [false; 4]).await;
    assert_eq!(json, json!({"status": "ok"}));
    // With the token in Fastly's field.
    let desk = desk().await;
    desk.ask_with("POST", "/service/1/purge/news", &[key], "").await.ok();
    assert_eq!(desk.stored(&PATHS).await, [false, true, true, true]);
    let many = json!({"surrogate_keys": (0..257).map(|number| number.to_string()).collect::<Vec<_>>()});
    for content in [&*many.to_string(), "{\"surrogate_keys\": []}", "", "{\"surrogate_keys\": [\"a b\"]}"] {
        desk.ask("POST", "/service/1/purge", content).await.refused(400, "invalid");
    }
    desk.ask("POST", "/service/1/purge/a%20b", "").await.refused(400, "invalid");
}

#[tokio::test]
async fn fa13_a_soft_purge_of_fastlys_api_keeps_what_may_stand_in() {
    let desk = desk().await;
    let fields = [BEARER, ("fastly-soft-purge", "1")];
    desk.ask_with("POST", "/service/1/purge/news", &fields, "").await.ok();
    desk.bench.origin.then(Reply::new("").status(500));
    assert_eq!(desk.bench.get("/a").await.status.as_u16(), 200);
}

fn list(reference: &str, items: &[&str]) -> String {
    json!({"CallerReference": reference, "Paths": {"Quantity": items.len(), "Items": items}}).to_string()
}

#[tokio::test]
async fn cf6_an_invalidation_list_of_cloudfront_is_carried_out_once() {
    check("POST", "/invalidation", &[], &list("1", &["/a"]), [false, true, true, true]).await;
    check("POST", "/invalidation", &[], &list("1", &["/a*"]), [false, false, true, true]).await;
    check("POST", "/invalidation", &[], &list("1", &["#shop", "/b"]), [false, true, true, false]).await;
    check("POST", "/invalidation", &[], &list("1", &["/*"]), [false; 4]).await;
    let desk = desk().await;
    let first = desk.ask("POST", "/invalidation", &list("1", &["/a"])).await;
    assert_eq!((first.status.as_u16(), &first.json()["Invalidation"]["Status"]), (201, &json!("Completed")));
    desk.bench.get("/a").await;
    let again = desk.ask("POST", "/invalidation", &list("1", &["/a"])).await;
    assert_eq!(first.json(), again.json(), "the same list is the same invalidation");
    assert_eq!(desk.stored(&["/a"]).await, [true], "and is not carried out once more");
    desk.ask("POST", "/invalidation", &list("1", &["/b"])).await.refused(409, "caller-reference");
    assert_eq!(desk.stored(&["/b"]).await, [true]);
    desk.ask("POST", "/invalidation", &list("2", &["/a"])).await;
    assert_eq!(desk.stored(&["/a"]).await, [false]);
    let location = first.fields["location"].to_str().unwrap().to_owned();
    assert_eq!(desk.ask("GET", &format!("/{location}"), "").await.ok(), first.json());
    desk.ask("GET", "/invalidation/999999", "").await.refused(404, "not-found");
    for wrong in [
        list("", &["/a"]),
        list("3", &[]),
        list("3", &["a"]),
        json!({"CallerReference": "3", "Paths": {"Quantity": 2, "Items": ["/a"]}}).to_string(),
        json!({"CallerReference": "x".repeat(300), "Paths": {"Items": ["/a"]}}).to_string(),
        json!({"Paths": {"Items": ["/a"]}}).to_string(),
    ] {
        desk.ask("POST", "/invalidation", &wrong).await.refused(400, "invalid");
    }
    // Only so many are remembered.
    for number in 0..300 {
        desk.ask("POST", "/invalidation", &list(&format!("many-{number}"), &["/nothing"])).await;
    }
    desk.ask("POST", "/invalidation", &list("1", &["/b"])).await.json();
    assert_eq!(desk.stored(&["/b"]).await, [false]);
}

#[tokio::test]
async fn a_list_counts_by_what_it_names_and_each_target_is_answered_once() {
    for (policy, url, expected) in [
        (StandardPolicy::default(), "http://example.com/a", &["http", "https"][..]),
        (StandardPolicy::default(), "example.com/a", &["http", "https"]),
        (
            StandardPolicy::default().key(KeyRules::new().any_scheme()),
            "example.com/a",
            &["any", "http", "https"],
        ),
    ] {
        let desk = Desk::with(cache_builder().policy(policy), [Reply::cc("x", "max-age=60")], |admin| admin);
        let told = desk.ask("POST", "/purge", &json!({"urls": [url, url]}).to_string()).await.ok();
        let mut targets: Vec<_> = told["targets"].as_array().unwrap().iter().map(Value::as_str).collect();
        targets.sort_unstable();
        let expected: Vec<_> = expected.iter().map(|scheme| format!("{scheme}://example.com/a")).collect();
        assert_eq!(targets, expected.iter().map(|url| Some(&**url)).collect::<Vec<_>>(), "{url}");
        let urls: Vec<_> = (0..3_000).map(|number| format!("example.com/{number}")).collect();
        let told = desk.ask("POST", "/purge", &json!({ "urls": urls }).to_string()).await.ok();
        assert_eq!(told["targets"].as_array().unwrap().len(), 3_000 * expected.len());
    }
}

#[tokio::test]
async fn cf6_a_list_of_3000_paths_purges_these_and_nothing_else() {
    let desk = Desk::new([Reply::cc("x", "max-age=60")]);
    let others = ["/other/z", "/p0", "/p3000/x", "/p7/x?y"];
    let named = ["/p0/x", "/p7/x", "/p2999/x"];
    for path in others.iter().chain(&named) {
        desk.bench.get(path).await;
    }
    let paths: Vec<_> = (0..3_000).map(|number| format!("/p{number}/x")).collect();
    let paths: Vec<_> = paths.iter().map(|path| &**path).collect();
    for reference in ["1", "2"] {
        let told = desk.ask("POST", "/invalidation", &list(reference, &paths)).await;
        assert_eq!(told.status.as_u16(), 201, "{told:?}");
        assert_eq!(desk.stored(&others).await, [true; 4]);
        assert_eq!(desk.stored(&named).await, [false; 3]);
    }
}

#[tokio::test]
async fn cf12_in_cloudfronts_profile_a_tag_has_no_case_however_it_is_purged() {
    let name = http::HeaderName::from_static("cache-tag");
    for (target, content) in [
        ("/purge", json!({"tag": "news"})),
        ("/purge", json!({"tags": ["nothing", "NEWS"]})),
        ("/purge", json!({"items": ["#news"]})),
        ("/service/1/purge/news", json!("")),
        ("/service/1/purge", json!({"surrogate_keys": ["nEWS"]})),
        ("/invalidation", serde_json::from_str(&list("1", &["#news"])).unwrap()),
    ] {
        let distribution =
            Distribution::new(CachePolicyConfig::caching_optimized()).cache_tag_header(name.clone());
        let tagged = Reply::cc("x", "max-age=60").field("cache-tag", "News, sport");
        let desk = Desk::with(
            cache_builder().policy(distribution),
            [tagged, Reply::cc("x", "max-age=60")],
            |admin| admin,
        );
        desk.bench.get("/a").await;
        desk.bench.get("/b").await;
        let told = desk.ask("POST", target, &content.to_string()).await;
        assert!(told.status.is_success(), "{told:?}");
        assert_eq!(desk.stored(&["/a", "/b"]).await, [false, true], "{target} {content}");
    }
}

#[tokio::test]
async fn b15_what_looks_like_a_purge_of_more_than_it_names_is_refused_on_every_route() {
    let desk = desk().await;
    let items = |refused: Value| refused["help"].as_str().unwrap().contains("items");
    for order in [
        json!({"prefix": "/images/*"}),
        json!({"prefix": "http://example.com/images/*"}),
        json!({"url": "http://example.com/images/*"}),
        json!({"urls": ["example.com/*"]}),
    ] {
        let refused = desk.ask("POST", "/purge", &order.to_string()).await.refused(400, "invalid");
        assert!(items(refused), "{order}");
    }
    for (method, target) in
        [("PURGE", "http://example.com/images/*"), ("POST", "/purge/example.com/images/*")]
    {
        assert!(items(desk.ask(method, target, "").await.refused(400, "invalid")), "{target}");
    }
    let long = "x".repeat(1_025);
    for tag in ["", "a,b", " news", "news ", "a\u{7}", &*long, "http://example.com news"] {
        for order in [json!({"tag": tag}), json!({"tags": ["news", tag]})] {
            let refused = desk.ask("POST", "/purge", &order.to_string()).await.refused(400, "invalid");
            assert!(refused["help"].as_str().unwrap().starts_with("name each tag by itself"), "{refused}");
        }
    }
    for key in ["", "a b", "\u{e9}", &*long] {
        let keys = json!({"surrogate_keys": ["news", key]});
        desk.ask("POST", "/service/1/purge", &keys.to_string()).await.refused(400, "invalid");
    }
    for order in [json!({"host": "*.example.com"}), json!({"prefix": "/a b"}), json!({"prefix": "/a#b"})] {
        desk.ask("POST", "/purge", &order.to_string()).await.refused(400, "invalid");
    }
    assert_eq!(desk.stored(&PATHS).await, [true; 4]);
    // Surrogate keys are separated by spaces, and groups are quoted.
    desk.ask("POST", "/service/1/purge/a,b", "").await.ok();
    desk.ask("POST", "/purge", "{\"tag\": \"two words\"}").await.ok();
}

#[tokio::test]
async fn cf6_a_reference_is_that_of_one_list_in_one_mode() {
    let desk = desk().await;
    let soft = [BEARER, ("fastly-soft-purge", "1")];
    let mut batch: Value = serde_json::from_str(&list("1", &["/a"])).unwrap();
    batch["Paths"].as_object_mut().unwrap().remove("Quantity");
    let told = desk.ask_with("POST", "/invalidation", &soft, &batch.to_string()).await;
    assert_eq!(told.status.as_u16(), 201, "{told:?}");
    assert_eq!(told.json()["Invalidation"]["InvalidationBatch"]["Paths"]["Quantity"], 1, "{told:?}");
    desk.ask("POST", "/invalidation", &list("1", &["/a"])).await.refused(409, "caller-reference");
    let again = desk.ask_with("POST", "/invalidation", &soft, &list("1", &["/a"])).await;
    assert_eq!(again.json(), told.json());
    let id = told.json()["Invalidation"]["Id"].as_str().unwrap().to_owned();
    assert_eq!(desk.ask("GET", &format!("/invalidation/{id}?x"), "").await.ok(), told.json());
    // Of a long list, the items are not remembered, but that it was carried out.
    let long: Vec<_> = (0..2_000).map(|number| format!("/{number}/{}", "x".repeat(20))).collect();
    let long: Vec<_> = long.iter().map(|item| &**item).collect();
    let first = desk.ask("POST", "/invalidation", &list("2", &long)).await.json();
    assert_eq!(first["Invalidation"]["InvalidationBatch"]["Paths"]["Items"], json!(long));
    assert_eq!(desk.ask("POST", "/invalidation", &list("2", &long)).await.json(), first);
    desk.ask("POST", "/invalidation", &list("2", &long[1..])).await.refused(409, "caller-reference");
    let id = first["Invalidation"]["Id"].as_str().unwrap();
    let shown = desk.ask("GET", &format!("/invalidation/{id}"), "").await.ok();
    assert_eq!(shown["Invalidation"]["InvalidationBatch"]["Paths"], json!({"Quantity": 2_000}));
}

#[tokio::test(start_paused = true)]
async fn b15_a_purge_whose_client_leaves_goes_to_its_end() {
    let (gate, at_gate) = before(&[StoreCall::Invalidate]);
    let store = BoxStore::new(faulty(MemoryStore::default(), [at_gate]));
    let desk = Desk::with(CacheLayer::builder(store), [Reply::cc("x", "max-age=60")], |admin| admin);
    let desk = Arc::new(desk);
    let asked = list("1", &["/a"]);
    for (round, (target, content)) in
        [("/purge", "{\"all\": true}"), ("/invalidation", &asked), ("/purge/example.com/a", "")]
            .into_iter()
            .enumerate()
    {
        desk.bench.get("/a").await;
        let (client, content) = (Arc::clone(&desk), content.to_owned());
        let client = tokio::spawn(async move { client.ask("POST", target, &content).await });
        settle().await;
        assert_eq!(gate.arrived(), round + 1);
        client.abort();
        assert!(client.await.is_err());
        gate.pass(1);
        settle().await;
        assert_eq!(desk.stored(&["/a"]).await, [false], "{target}");
        let purges = desk.ask("GET", "/stats", "").await.ok()["watch"]["purges"].clone();
        assert_eq!(purges, round + 1, "it is reported");
    }
    // The list is known: nothing waits at the gate.
    assert_eq!(desk.ask("POST", "/invalidation", &asked).await.status.as_u16(), 201);
    assert_eq!(gate.arrived(), 3);
}
