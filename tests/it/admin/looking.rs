//! Inspections and explanations by the admin service.

use std::time::Duration;

use larder::policy::{KeyRules, Peers};
use larder::{CachePolicyExt, StandardPolicy};
use serde_json::json;

use super::Desk;
use crate::support::{Reply, cache_builder, settle};

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
    assert_eq!(json["request"], json!({"method": "GET", "url": "http://example.com/x", "peer": false}));
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
async fn a19_an_explanation_shows_no_secret_of_the_request_and_of_what_is_stored() {
    let reply = || reply().field("vary", "authorization, cookie").field("www-authenticate", "stored-secret");
    let policy = StandardPolicy::default().key(KeyRules::new().cookies(["id"]));
    let desk = Desk::with(cache_builder().policy(policy), [reply()], |admin| admin);
    let fields = [("authorization", "Basic asked-secret"), ("cookie", "id=asked-secret")];
    let target = "/explain?url=http://example.com/x&header=Authorization:Basic%20asked-secret\
                  &header=Cookie:id=asked-secret&header=X-Token:asked-secret";
    let of = async |expected: &str| {
        let told = desk.ask("GET", target, "").await;
        assert!(told.text.contains(expected), "{told:?}");
        for secret in ["asked-secret", "stored-secret", "hidden-from-operators"] {
            assert!(!told.text.contains(secret), "{secret}: {told:?}");
        }
    };
    of("larder; fwd=uri-miss").await;
    desk.bench.get_with("/x", &fields).await;
    of("larder; hit; ttl=60").await;
    desk.bench.get_with("/x", &[("authorization", "Basic other"), fields[1]]).await;
    desk.bench.later(61);
    of("larder; fwd=stale").await;
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

#[tokio::test(start_paused = true)]
async fn a_call_that_is_under_way_is_said_to_be_shared() {
    let desk = Desk::new([reply().after(Duration::from_secs(3_600))]);
    let mut first = std::pin::pin!(desk.bench.get("/x"));
    let explained = async {
        while desk.bench.origin.calls() == 0 {
            settle().await;
        }
        desk.ask("GET", "/explain?url=http://example.com/x", "").await.ok()
    };
    let json = tokio::select! {
        answer = first.as_mut() => panic!("it waits for an hour: {answer:?}"),
        json = explained => json,
    };
    assert_eq!((&json["call"], &json["conditional"]), (&json!("shared"), &json!(false)), "{json}");
    first.await;
}

#[tokio::test]
async fn a_default_port_hides_nothing_that_is_stored_under_the_other_scheme() {
    let desk = Desk::new([Reply::cc("x", "max-age=60")]);
    desk.bench.get("/x").await; // by http
    for own in ["https://example.com:443/x", "https://example.com/x"] {
        let json = desk.ask("GET", &format!("/explain?url={own}"), "").await.ok();
        assert_eq!(json["other_scheme"]["url"], "http://example.com/x", "{own}: {json}");
        assert_eq!(json["other_scheme"]["cache_status"], "larder; hit; ttl=60");
        let json = desk.ask("GET", &format!("/inspect?url={own}"), "").await.ok();
        assert_eq!(json["keys"].as_array().unwrap().len(), 2, "{own}: {json}");
    }
    // Another port is another site, under both schemes.
    desk.bench.get_with("/x", &[("host", "example.com:8080")]).await;
    let json = desk.ask("GET", "/explain?url=https://example.com:8080/x", "").await.ok();
    assert_eq!(json["other_scheme"]["url"], "http://example.com:8080/x", "{json}");
    let json = desk.ask("GET", "/explain?url=https://example.com:8443/x", "").await.ok();
    assert_eq!(json["other_scheme"], json!(null), "{json}");
}

#[tokio::test]
async fn what_is_stored_under_the_other_scheme_is_found_and_said() {
    let desk = Desk::new([Reply::cc("x", "max-age=60")]);
    for target in ["/explain?url=https://example.com/x", "/explain?url=http://example.com/x"] {
        let json = desk.ask("GET", target, "").await.ok();
        assert_eq!(json["other_scheme"], json!(null), "nothing is stored: {json}");
    }
    desk.bench.get("/x").await; // by http
    let json = desk.ask("GET", "/explain?url=https://example.com/x", "").await.ok();
    assert_eq!((&json["hit"], &json["cache_status"]), (&json!(false), &json!("larder; fwd=uri-miss")));
    let other =
        json!({"url": "http://example.com/x", "cache_status": "larder; hit; ttl=60", "as_peer": null});
    assert_eq!(json["other_scheme"], other, "{json}");
    let step = json["steps"].as_array().unwrap().last().unwrap();
    assert_eq!(step["step"], "scheme");
    assert!(step["finding"].as_str().unwrap().contains("http://example.com/x"), "{json}");
    let json = desk.ask("GET", "/inspect?url=https://example.com/x", "").await.ok();
    let keys = json["keys"].as_array().unwrap();
    let shown: Vec<_> =
        keys.iter().map(|key| (&key["uri"], &key["of_request"], &key["other_scheme"])).collect();
    let [own, other] = ["https://example.com/x", "http://example.com/x"].map(|uri| json!(uri));
    assert_eq!(shown, [(&own, &json!(true), &json!(false)), (&other, &json!(false), &json!(true))]);
    assert_eq!(
        (keys[0]["variants"].as_array().unwrap().len(), &keys[1]["variants"][0]["status"]),
        (0, &json!(200))
    );
    let json = desk.ask("GET", "/inspect?url=http://example.com/x", "").await.ok();
    assert_eq!(json["keys"].as_array().unwrap().len(), 1, "{json}");
}

#[tokio::test]
async fn fa9_at_a_shield_what_edges_would_get_is_found_without_knowing_of_it() {
    let peer = http::HeaderName::from_static("x-peer");
    let policy = StandardPolicy::default().with_peers(Peers::new().token(peer, "secret"));
    let desk = Desk::with(cache_builder().policy(policy), [Reply::cc("x", "max-age=60")], |admin| admin);
    desk.bench.get_with("/x", &[("x-peer", "secret")]).await;
    let json = desk.ask("GET", "/explain?url=http://example.com/x", "").await.ok();
    let (hit, miss) = (json!("larder; hit; ttl=60"), json!("larder; fwd=uri-miss"));
    assert_eq!((&json["cache_status"], &json["as_peer"]["cache_status"]), (&miss, &hit), "{json}");
    assert_eq!((&json["as_peer"]["hit"], &json["as_peer"]["status"]), (&json!(true), &json!(200)));
    let step = json["steps"].as_array().unwrap().last().unwrap();
    assert_eq!(step["step"], "peers", "{json}");
    let json = desk.ask("GET", "/explain?url=http://example.com/x&peer=1", "").await.ok();
    assert_eq!((&json["cache_status"], &json["as_peer"]), (&hit, &json!(null)), "{json}");
    assert_eq!(json["request"]["peer"], true);
    // Behind a TLS server in front of the edges.
    let json = desk.ask("GET", "/explain?url=https://example.com/x", "").await.ok();
    assert_eq!((&json["other_scheme"]["cache_status"], &json["other_scheme"]["as_peer"]), (&miss, &hit));

    let shown = async |target: &str| {
        let json = desk.ask("GET", target, "").await.ok();
        let keys = json["keys"].as_array().unwrap().iter();
        let number = |key: &serde_json::Value| key["variants"].as_array().unwrap().len();
        let shown = keys.map(|key| (key["of_request"] == true, key["for_peers"] == true, number(key)));
        shown.collect::<Vec<_>>()
    };
    let url = "/inspect?url=http://example.com/x";
    assert_eq!(shown(url).await, [(true, false, 0), (false, true, 1)]);
    assert_eq!(shown(&format!("{url}&peer=1")).await, [(true, true, 1), (false, false, 0)]);
    // No field is a mark: not that of the proxy, and not one that is guessed.
    let forged = format!("{url}&header=larder-peer:1&header=x-peer:guess");
    assert_eq!(shown(&forged).await, [(true, false, 0), (false, true, 1)]);
    for target in ["/inspect", "/explain"] {
        desk.ask("GET", &format!("{target}?url=http://example.com/x&peer=yes"), "")
            .await
            .refused(400, "invalid");
    }
    assert_eq!(desk.bench.origin.calls(), 1);
}
