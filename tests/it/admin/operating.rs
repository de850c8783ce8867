//! Development mode, warming up, the policy as text, and where the service is mounted.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::routing::get;
use axum::{Router, http::Request};
use bytes::Bytes;
use http_body_util::Empty;
use larder::admin::Admin;
use larder::policy::Peers;
use larder::{CacheKey, CacheLayer, CachePolicy, CachePolicyExt, PolicyData, RequestAction, StandardPolicy};
use serde_json::json;
use tower::{Layer, ServiceExt};

use super::{BEARER, Desk, TOKEN};
use crate::support::{Origin, Reply, cache_builder, settle};

#[tokio::test]
async fn in_development_mode_every_request_is_forwarded_until_its_end() {
    let desk = Desk::new([Reply::cc("x", "max-age=600")]);
    desk.bench.get("/x").await;
    let json = desk.ask("POST", "/bypass?for=60", "").await.ok();
    assert_eq!(json, json!({"bypass": true, "seconds": 60}));
    let forwarded = "larder; fwd=bypass; detail=\"development-mode\"";
    desk.bench.get("/x").await.told(forwarded);
    desk.bench.get("/new").await.told(forwarded);
    let explained = desk.ask("GET", "/explain?url=http://example.com/x", "").await.ok();
    assert_eq!(explained["cache_status"], forwarded);
    desk.bench.later(30);
    assert_eq!(desk.ask("GET", "/bypass", "").await.ok()["seconds"], 30);
    assert_eq!(desk.ask("GET", "/stats", "").await.ok()["bypass"]["seconds"], 30);
    // Another policy does not end it.
    desk.bench.handle.set_policy(StandardPolicy::rfc9111());
    desk.bench.get("/x").await.told(forwarded);
    desk.bench.later(30);
    desk.bench.get("/x").await.told("larder; hit; ttl=540");
    assert_eq!(desk.ask("GET", "/bypass", "").await.ok(), json!({"bypass": false, "seconds": null}));
    desk.bench.get("/new").await.told("larder; fwd=uri-miss; stored; ttl=600");
    desk.ask("POST", "/bypass?for=60", "").await.ok();
    desk.ask("DELETE", "/bypass", "").await.ok();
    desk.bench.get("/x").await.told("larder; hit; ttl=540");
    for time in ["0", "86401", "-1", "1h", ""] {
        desk.ask("POST", &format!("/bypass?for={time}"), "").await.refused(400, "invalid");
    }
}

/// Stores all spellings of a path under one, which nobody but its hook `request` knows.
struct AnyCase;

impl CachePolicy for AnyCase {
    fn request(&self, request: &mut http::request::Parts, _: &mut PolicyData) -> RequestAction {
        let uri = format!("http://example.com{}", request.uri.path().to_lowercase());
        RequestAction::Cache(CacheKey::from_uri(&uri.parse().unwrap()).unwrap())
    }
}

#[tokio::test]
async fn what_is_purged_or_changed_in_development_mode_is_gone_afterwards() {
    let builder = cache_builder().policy(AnyCase);
    let desk = Desk::with(builder, [Reply::cc("x", "max-age=600")], |admin| admin);
    for path in ["/X", "/Y", "/Z"] {
        desk.bench.get(path).await;
    }
    desk.ask("POST", "/bypass?for=60", "").await.ok();
    desk.ask("POST", "/purge", "{\"url\": \"http://example.com/X\"}").await.ok();
    desk.bench.send(http::Method::POST, "/Y", &[]).await;
    desk.ask("DELETE", "/bypass", "").await.ok();
    assert_eq!(desk.stored(&["/x", "/y", "/z"]).await, [false, false, true]);
}

#[tokio::test]
async fn urls_are_warmed_through_a_service() {
    let layer = cache_builder().build();
    let origin = Origin::new([Reply::cc("content", "max-age=60")]);
    let cache = layer.layer(origin.clone());
    let request = |uri: &http::Uri| http::Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
    let desk = Desk::with(cache_builder(), [], |admin| admin.warm(cache.clone(), request));
    let order = json!({"urls": ["http://example.com/a", "http://example.com/b", "http://example.com/a"], "at_one_time": 1});
    let json = desk.ask("POST", "/warm", &order.to_string()).await.ok();
    assert_eq!((&json["asked"], &json["failed"]), (&json!(3), &json!(0)), "{json}");
    let first = &json["urls"][0];
    assert_eq!((&first["status"], &first["bytes"]), (&json!(200), &json!(7)), "{json}");
    assert_eq!(first["cache_status"], "larder; fwd=uri-miss; stored; ttl=60");
    assert_eq!(json["urls"][2]["cache_status"], "larder; hit; ttl=60");
    assert_eq!(origin.calls(), 2);
    Origin::then(&origin, Reply::refused());
    let json = desk.ask("POST", "/warm", "{\"urls\": [\"http://example.com/c\"]}").await.ok();
    assert_eq!(
        (&json["failed"], &json["urls"][0]["error"]),
        (&json!(1), &json!("the scripted origin refused"))
    );
    for order in [
        json!({"urls": []}),
        json!({"urls": ["/a"]}),
        json!({"urls": ["http://example.com/a"], "at_one_time": 0}),
        json!({"urls": ["http://example.com/a"], "at_one_time": 65}),
        json!({"urls": vec!["http://example.com/a"; 1_001]}),
    ] {
        desk.ask("POST", "/warm", &order.to_string()).await.refused(400, "invalid");
    }
    assert_eq!(origin.calls(), 3);
}

/// A cache at a shield, and a desk that warms it.
async fn warmed_shield(order: serde_json::Value, is_edge: bool) -> (Vec<(bool, String)>, [bool; 2]) {
    let peer = http::HeaderName::from_static("x-peer");
    let policy = StandardPolicy::default().with_peers(Peers::new().token(peer, "secret"));
    let layer = cache_builder().policy(policy).build();
    let cache = layer.layer(Origin::new([Reply::cc("content", "max-age=60")]));
    let service = cache.clone();
    let request = |uri: &http::Uri| http::Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
    let admin =
        Admin::new(layer.handle(), TOKEN).unwrap().warm_for_peers(!is_edge).warm(service, request).build();
    let order =
        Request::post("/warm").header(BEARER.0, BEARER.1).body(Body::from(order.to_string())).unwrap();
    let answer = admin.oneshot(order).await.unwrap();
    let content = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    let told: serde_json::Value = serde_json::from_slice(&content).unwrap();
    let urls = told["urls"].as_array().unwrap_or_else(|| panic!("{told}")).iter();
    let warmed = urls.map(|url| (url["peer"] == true, url["cache_status"].as_str().unwrap().to_owned()));
    settle().await;
    let mut stored = [false; 2];
    for (stored, fields) in stored.iter_mut().zip([("x-other", "1"), ("x-peer", "secret")]) {
        let mut request = request(&"http://example.com/a".parse().unwrap());
        request.headers_mut().insert(fields.0, fields.1.parse().unwrap());
        let response = cache.clone().oneshot(request).await.unwrap();
        *stored = response.headers()["cache-status"].to_str().unwrap().contains("hit");
    }
    (warmed.collect(), stored)
}

#[tokio::test(start_paused = true)]
async fn fa9_what_edges_get_is_warmed_as_well_as_what_clients_get() {
    let stored = "larder; fwd=uri-miss; stored; ttl=60".to_owned();
    let (peers, clients) = ((true, stored.clone()), (false, stored));
    let order = |peer: Option<bool>| match peer {
        None => json!({"urls": ["http://example.com/a"]}),
        Some(peer) => json!({"urls": ["http://example.com/a"], "peer": peer}),
    };
    let both = (vec![peers.clone(), clients.clone()], [true, true]);
    assert_eq!(warmed_shield(order(None), false).await, both);
    let only_peers = (vec![peers], [false, true]);
    assert_eq!(warmed_shield(order(Some(true)), false).await, only_peers);
    let only_clients = (vec![clients], [true, false]);
    assert_eq!(warmed_shield(order(Some(false)), false).await, only_clients);
    // Nobody asks an edge but clients, unless an order says otherwise.
    assert_eq!(warmed_shield(order(None), true).await, only_clients);
    assert_eq!(warmed_shield(order(Some(true)), true).await, only_peers);
    // A field that says so is a client's, unless it is the secret.
    let forged = json!({"urls": ["http://example.com/a"], "peer": false, "headers": ["x-peer: guess", "larder-peer: 1"]});
    assert_eq!(warmed_shield(forged, false).await, only_clients);
}

#[tokio::test(start_paused = true)]
async fn urls_are_warmed_for_the_fields_that_select_a_variant() {
    let layer = cache_builder().build();
    let reply = Reply::cc("content", "max-age=60").field("vary", "accept-language");
    let origin = Origin::new([reply]);
    let cache = layer.layer(origin.clone());
    let request = |uri: &http::Uri| {
        http::Request::get(uri).header("accept-language", "en").body(Empty::<Bytes>::new()).unwrap()
    };
    let desk = Desk::with(cache_builder(), [], |admin| admin.warm(cache.clone(), request));
    let order = |headers: &[&str]| json!({"urls": ["http://example.com/a"], "headers": headers}).to_string();
    desk.ask("POST", "/warm", &order(&["Accept-Language: de"])).await.ok();
    assert_eq!(origin.last().headers["accept-language"], "de");
    settle().await;
    let again = desk.ask("POST", "/warm", &order(&[])).await.ok();
    assert_eq!(again["urls"][0]["cache_status"], "larder; fwd=vary-miss; stored; ttl=60");
    settle().await;
    let again = desk.ask("POST", "/warm", &order(&["accept-language: de"])).await.ok();
    assert_eq!(again["urls"][0]["cache_status"], "larder; hit; ttl=60");
    for wrong in ["accept-language", "a b: c", "x: a\nb"] {
        desk.ask("POST", "/warm", &order(&[wrong])).await.refused(400, "invalid");
    }
}

#[tokio::test]
async fn the_policy_is_read_and_replaced_as_text() {
    let text = Arc::new(Mutex::new("old".to_owned()));
    let (read, replaced) = (Arc::clone(&text), Arc::clone(&text));
    let desk = Desk::with(cache_builder(), [], |admin| {
        admin.policy(
            move || Ok(read.lock().unwrap().clone()),
            move |new| match new {
                "wrong" => Err("line 1: <b>wrong</b>".to_owned()),
                new => {
                    new.clone_into(&mut replaced.lock().unwrap());
                    Ok(vec!["line 2: <b>odd</b>".to_owned()])
                }
            },
        )
    });
    let told = desk.ask("GET", "/policy", "").await;
    assert_eq!(
        (told.text.as_str(), &told.fields["content-type"]),
        ("old", &"text/plain; charset=utf-8".parse().unwrap())
    );
    let json = desk.ask("PUT", "/policy", "new").await.ok();
    assert_eq!(json, json!({"status": "ok", "warnings": ["line 2: <b>odd</b>"]}));
    assert_eq!(*text.lock().unwrap(), "new");
    let json = desk.ask("PUT", "/policy", "wrong").await.refused(422, "policy");
    assert_eq!(json["message"], "line 1: <b>wrong</b>");
    assert_eq!(*text.lock().unwrap(), "new");
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_is_no_policy() {
    let desk = Desk::with(cache_builder(), [], |admin| {
        admin.policy(|| Err("/etc/policy.toml: can't be read".to_owned()), |_| Ok(Vec::new()))
    });
    let json = desk.ask("GET", "/policy", "").await.refused(503, "policy");
    assert_eq!(json["message"], "/etc/policy.toml: can't be read");
}

#[tokio::test]
async fn metrics_are_what_a_recorder_renders() {
    let desk =
        Desk::with(cache_builder(), [], |admin| admin.metrics(|| "larder_requests_total 1\n".to_owned()));
    let told = desk.ask("GET", "/metrics", "").await;
    assert_eq!(told.text, "larder_requests_total 1\n");
    assert_eq!(told.fields["content-type"], "text/plain; version=0.0.4; charset=utf-8");
}

#[tokio::test]
async fn one_line_mounts_it_in_axum() {
    let layer = CacheLayer::default();
    let admin = Admin::new(layer.handle(), TOKEN).unwrap().build();
    let app: Router = Router::new()
        .route("/", get(|| async { ([("cache-control", "max-age=60")], "Hello") }))
        .layer(layer)
        .nest_service("/cache", admin);
    let ask = |method: &'static str, target: &'static str, token: Option<&str>| {
        let mut request = Request::builder().method(method).uri(target).header("host", "example.com");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        app.clone().oneshot(request.body(Body::empty()).unwrap())
    };
    let told = |response: http::Response<Body>| {
        (response.status().as_u16(), response.headers().contains_key("cache-status"))
    };
    ask("GET", "/", None).await.unwrap();
    assert!(ask("GET", "/", None).await.unwrap().headers()["cache-status"].to_str().unwrap().contains("hit"));
    assert_eq!(told(ask("GET", "/cache/stats", None).await.unwrap()), (401, false));
    assert_eq!(told(ask("GET", "/cache/stats", Some(TOKEN)).await.unwrap()), (200, false));
    assert_eq!(told(ask("GET", "/cache", None).await.unwrap()), (200, false));
    assert_eq!(told(ask("PURGE", "/cache/", Some(TOKEN)).await.unwrap()), (200, false));
    let after = ask("GET", "/", None).await.unwrap();
    assert!(after.headers()["cache-status"].to_str().unwrap().contains("uri-miss"));
}

#[tokio::test]
async fn a_token_opens_one_service_and_no_other() {
    let (one, other) = (CacheLayer::default(), CacheLayer::default());
    let _ = Admin::new(one.handle(), TOKEN).unwrap().build();
    let service = Admin::new(other.handle(), "another-token-of-another-service").unwrap().build();
    let request = Request::get("/stats").header(BEARER.0, BEARER.1).body(Body::empty()).unwrap();
    assert_eq!(service.oneshot(request).await.unwrap().status(), 403);
}
