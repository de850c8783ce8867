//! Purges by the admin service: its own, those of Fastly's API, and CloudFront's lists.

use serde_json::json;

use super::{BEARER, Desk};
use crate::support::Reply;

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
    let many = json!({"all": true, "tags": vec!["x"; 5_000]});
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
