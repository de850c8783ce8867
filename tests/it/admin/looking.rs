//! Inspections and explanations by the admin service.

use serde_json::json;

use super::Desk;
use crate::support::{Reply, cache_builder};

fn reply() -> Reply {
    Reply::cc("x", "public, max-age=60")
        .field("set-cookie", "id=hidden-from-operators")
        .field("vary", "accept-language")
        .field("cache-groups", "\"<script>\"")
        .field("x-evil", "<img src=x onerror=alert(1)>")
}

#[tokio::test]
async fn a_url_is_explained_before_and_after_it_is_stored() {
    let desk = Desk::new([reply()]);
    let target = "/explain?url=http://example.com/x&header=Accept-Language:de";
    let json = desk.ask("GET", target, "").await.ok();
    assert_eq!((&json["hit"], &json["call"]), (&json!(false), &json!("before-the-answer")), "{json}");
    assert_eq!(json["cache_status"], "larder; fwd=uri-miss");
    assert_eq!(json["key"], json!({"uri": "http://example.com/x", "parts": []}));
    assert_eq!(json["request"], json!({"method": "GET", "url": "http://example.com/x"}));
    assert!(json["unknown"].as_array().unwrap().len() >= 2, "{json}");
    assert_eq!(desk.bench.origin.calls(), 0);
    desk.bench.get_with("/x", &[("accept-language", "de")]).await;
    let json = desk.ask("GET", target, "").await.ok();
    assert_eq!(
        (&json["hit"], &json["call"], &json["status"]),
        (&json!(true), &json!("none"), &json!(200)),
        "{json}"
    );
    assert_eq!(json["cache_status"], "larder; hit; ttl=60");
    let steps: Vec<_> =
        json["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["policy", "key", "store", "variant", "decision", "answer"]);
    let other = desk.ask("GET", "/explain?url=http://example.com/x&header=Accept-Language:fr", "").await.ok();
    assert_eq!(other["cache_status"], "larder; fwd=vary-miss");
    let post = desk.ask("GET", "/explain?url=http://example.com/x&method=POST", "").await.ok();
    assert_eq!(post["cache_status"], "larder; fwd=method");
    desk.ask("GET", "/explain", "").await.refused(400, "invalid");
}

#[tokio::test]
async fn an_explanation_has_the_name_of_the_cache() {
    let desk = Desk::with(cache_builder().name("edge-1"), [reply()], |admin| admin);
    let json = desk.ask("GET", "/explain?url=http://example.com/x", "").await.ok();
    assert_eq!(json["cache_status"], "edge-1; fwd=uri-miss");
}

#[tokio::test]
async fn a19_an_inspection_shows_what_is_stored_without_secrets_and_as_text() {
    let desk = Desk::new([reply()]);
    desk.bench.get_with("/x", &[("accept-language", "de")]).await;
    desk.bench.later(7);
    desk.bench.get_with("/x", &[("accept-language", "de")]).await;
    let told = desk.ask("GET", "/inspect?url=http://example.com/x&header=accept-language:de", "").await;
    assert!(!told.text.contains("hidden-from-operators"), "{told:?}");
    assert_eq!(told.fields["content-type"], "application/json");
    let json = told.ok();
    let key = &json["keys"][0];
    assert_eq!((&key["uri"], &key["hits"]), (&json!("http://example.com/x"), &json!(1)), "{json}");
    let variant = &key["variants"][0];
    assert_eq!((&variant["age"], &variant["ttl"], &variant["fresh"]), (&json!(7), &json!(53), &json!(true)));
    assert_eq!(
        (&variant["bytes"], &variant["status"], &variant["selected"]),
        (&json!(1), &json!(200), &json!(true))
    );
    assert_eq!(variant["tags"], json!(["http://example.com <script>"]));
    assert_eq!(variant["selecting"], json!([["accept-language", "de"]]));
    let fields = variant["fields"].as_array().unwrap();
    assert!(fields.contains(&json!(["set-cookie", {"hidden": true}])), "{json}");
    assert!(fields.contains(&json!(["x-evil", "<img src=x onerror=alert(1)>"])), "{json}");
    let none = desk.ask("GET", "/inspect?url=http://example.com/y", "").await.ok();
    assert_eq!(none["keys"][0]["variants"], json!([]));
}
