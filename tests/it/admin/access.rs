//! Who may use the admin service (A19).

use larder::admin::{Admin, TokenError};

use super::{BEARER, Desk, TOKEN};
use crate::support::{Reply, cache_layer};

const FRESH: &str = "max-age=60";
/// One of each function, with what it does if it is done.
const REQUESTS: [(&str, &str, &str); 19] = [
    ("GET", "/stats", ""),
    ("GET", "/hot", ""),
    ("GET", "/metrics", ""),
    ("GET", "/live", ""),
    ("GET", "/inspect?url=http://example.com/x", ""),
    ("GET", "/explain?url=http://example.com/x", ""),
    ("HEAD", "/stats", ""),
    ("PURGE", "http://example.com/x", ""),
    ("POST", "/purge", "{\"all\": true}"),
    ("POST", "/purge/example.com/x", ""),
    ("POST", "/service/1/purge", "{\"surrogate_keys\": [\"a\"]}"),
    ("POST", "/service/1/purge/a", ""),
    ("POST", "/service/1/purge_all", ""),
    ("POST", "/invalidation", "{\"CallerReference\": \"1\", \"Paths\": {\"Items\": [\"/*\"]}}"),
    ("POST", "/warm", "{\"urls\": [\"http://example.com/x\"]}"),
    ("POST", "/bypass?for=60", ""),
    ("GET", "/policy", ""),
    ("PUT", "/policy", "x"),
    ("GET", "/nothing", ""),
];

async fn desk() -> Desk {
    let desk = Desk::new([Reply::cc("x", FRESH).field("cache-groups", "\"a\"")]);
    desk.bench.get("/x").await;
    desk
}

#[test]
fn a19_without_a_token_there_is_no_service() {
    for (token, error) in
        [("", TokenError::Short), ("short", TokenError::Short), ("0123456789abcde\n", TokenError::Bytes)]
    {
        let refused = Admin::new(cache_layer().handle(), token).unwrap_err();
        assert_eq!(refused, error, "{token:?}");
    }
}

#[tokio::test]
async fn a19_nothing_is_done_or_told_without_the_token() {
    let desk = desk().await;
    let wrong = format!("Bearer {}", "x".repeat(TOKEN.len()));
    let in_query = format!("?token={TOKEN}&access_token={TOKEN}");
    for (method, target, content) in REQUESTS {
        let none: &[(&str, &str)] =
            &[("host", "localhost"), ("x-forwarded-for", "127.0.0.1"), ("x-real-ip", "127.0.0.1")];
        let told = desk.ask_with(method, target, none, content).await;
        if method != "HEAD" {
            told.refused(401, "no-token");
        }
        assert_eq!(told.status.as_u16(), 401, "{method} {target}");
        assert_eq!(told.fields["www-authenticate"], "Bearer realm=\"larder\"");
        let told = desk.ask_with(method, target, &[("authorization", &wrong)], content).await;
        assert_eq!(told.status.as_u16(), 403, "{method} {target}");
        let told = desk.ask_with(method, target, &[("fastly-key", "x")], content).await;
        assert_eq!(told.status.as_u16(), 403, "{method} {target}");
        if !target.contains('?') && target.starts_with('/') {
            let told = desk.ask_with(method, &format!("{target}{in_query}"), &[], content).await;
            assert_eq!(told.status.as_u16(), 401, "{method} {target}");
        }
    }
    assert_eq!(desk.stored(&["/x"]).await, [true], "nothing was purged");
    assert_eq!(desk.bench.handle.bypass_left(), None);
    assert_eq!(desk.bench.origin.calls(), 1);
}

#[tokio::test]
async fn a19_fields_of_a_proxy_do_not_replace_what_they_speak_of() {
    let desk = desk().await;
    for field in [
        ("x-http-method-override", "PURGE"),
        ("x-original-url", "/service/1/purge_all"),
        ("x-rewrite-url", "/service/1/purge_all"),
        ("x-forwarded-host", "example.com"),
        ("forwarded", "for=127.0.0.1;host=example.com"),
    ] {
        let told = desk.ask_with("PURGE", "/x", &[BEARER, field], "").await;
        told.refused(400, "invalid"); // no `Host`
        let told = desk.ask_with("GET", "/stats", &[BEARER, field], "").await;
        told.ok();
    }
    assert_eq!(desk.stored(&["/x"]).await, [true]);
}

#[tokio::test]
async fn a19_a_page_of_another_site_is_refused_even_with_the_token() {
    let desk = desk().await;
    let host = ("host", "admin.example");
    for (method, target, content) in REQUESTS {
        for foreign in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "https://admin.example.evil.example"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let told = desk.ask_with(method, target, &[host, BEARER, foreign], content).await;
            assert_eq!(told.status.as_u16(), 403, "{method} {target} {foreign:?}");
            assert!(told.fields.keys().all(|name| !name.as_str().starts_with("access-control-")), "{told:?}");
        }
    }
    let preflight = [host, ("origin", "https://evil.example"), ("access-control-request-method", "POST")];
    let told = desk.ask_with("OPTIONS", "/purge", &preflight, "").await;
    told.refused(403, "other-site");
    // What to do where the page is this service's own, and a proxy has changed `Host`.
    let other_host = [("host", "inside:9000"), BEARER, ("origin", "https://admin.example")];
    let told =
        desk.ask_with("POST", "/purge", &other_host, "{\"all\": true}").await.refused(403, "other-site");
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("https://admin.example") && message.contains("inside:9000"), "{message}");
    assert!(told["help"].as_str().unwrap().contains("proxy_set_header Host $http_host"), "{told}");
    assert_eq!(desk.stored(&["/x"]).await, [true]);
    let own = [host, BEARER, ("origin", "https://admin.example"), ("sec-fetch-site", "same-origin")];
    desk.ask_with("POST", "/purge", &own, "{\"all\": true}").await.ok();
    assert_eq!(desk.stored(&["/x"]).await, [false]);
}

#[tokio::test]
async fn a19_no_answer_may_be_kept_framed_or_run() {
    let desk = desk().await;
    for (method, target, fields) in [
        ("GET", "/", &[][..]),
        ("GET", "/stats", &[BEARER][..]),
        ("GET", "/stats", &[]),
        ("GET", "/nothing", &[BEARER]),
        ("GET", "/policy", &[BEARER]),
        ("POST", "/stats", &[BEARER]),
    ] {
        let told = desk.ask_with(method, target, fields, "").await;
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(told.fields[name], value, "{method} {target}");
        }
        let policy = told.fields["content-security-policy"].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}

#[tokio::test]
async fn what_is_asked_wrongly_is_answered_with_what_to_do() {
    let desk = desk().await;
    let json = desk.ask("GET", "/nothing", "").await.refused(404, "not-found");
    assert!(json["help"].as_str().unwrap().contains("GET /stats"), "{json}");
    let told = desk.ask("GET", "/purge", "").await;
    told.refused(405, "method");
    assert_eq!(told.fields["allow"], "POST");
    assert_eq!(
        desk.ask("POST", "/bypass", "").await.refused(400, "invalid")["message"],
        "a bypass has an end"
    );
    for (method, target) in [("GET", "/metrics"), ("GET", "/policy"), ("PUT", "/policy"), ("POST", "/warm")] {
        desk.ask(method, target, "{\"urls\": []}").await.refused(404, "not-set-up");
    }
    let long = format!("{{\"tag\": \"{}\"}}", "x".repeat(1 << 20));
    desk.ask("POST", "/purge", &long).await.refused(413, "content");
    for content in ["", "{", "[]", "{\"tags\": \"a\"}", "{\"surprise\": 1}", "{\"soft\": true}", "{}"] {
        desk.ask("POST", "/purge", content).await.refused(400, "invalid");
    }
    assert_eq!(desk.ask("HEAD", "/stats", "").await.text, "");
}
