//! The admin listener of the example proxy.

use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::process::{Proxy, SampleOrigin, run};
use crate::support::file::TempFile;
use crate::support::raw::GUARD;
use crate::support::wire::{HttpClient, client};

const TOKEN: &str = "a-token-of-the-admin-service-in-a-test";

/// A proxy with an admin listener.
struct Desk {
    client: HttpClient<Full<bytes::Bytes>>,
    _proxy: Proxy,
    /// The URLs of the proxy, and of its admin listener.
    site: String,
    admin: String,
}

impl Desk {
    fn start(upstream: &str, token: &TempFile, more: &[&str]) -> Self {
        let arguments = [&["--admin", "127.0.0.1:0", "--admin-token-file", token.name()], more].concat();
        let (proxy, lines) = Proxy::with_lines(upstream, &arguments);
        let admin = loop {
            let line = lines.recv_timeout(GUARD).expect("it says where its admin service listens");
            if let Some(url) = line.strip_prefix("larder: admin at ") {
                break url.to_owned();
            }
        };
        Self { client: client(), site: format!("http://{}", proxy.address), _proxy: proxy, admin }
    }

    async fn ask(&self, method: &str, target: &str, token: Option<&str>, content: &str) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(format!("{}{target}", self.admin));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::from(content.to_owned())).unwrap();
        let response = self.client.request(request).await.unwrap();
        let status = response.status().as_u16();
        let content = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(content.to_vec()).unwrap())
    }

    async fn ok(&self, method: &str, target: &str, content: &str) -> Value {
        let (status, text) = self.ask(method, target, Some(TOKEN), content).await;
        assert_eq!(status, 200, "{method} {target}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// What the cache did with a GET.
    async fn get(&self, path: &str) -> String {
        let request = Request::get(format!("{}{path}", self.site)).body(Full::default()).unwrap();
        let response = self.client.request(request).await.unwrap();
        let status = response.headers()["cache-status"].to_str().unwrap().to_owned();
        response.into_body().collect().await.unwrap();
        status
    }
}

fn token() -> TempFile {
    TempFile::new("token", format!("{TOKEN}\n"))
}

#[tokio::test]
async fn the_admin_listener_operates_the_proxy_for_whoever_has_the_token() {
    let (origin, token) = (SampleOrigin::start(), token());
    let desk = Desk::start(&origin.url, &token, &[]);
    assert_eq!(desk.ask("GET", "/health", None, "").await, (200, "ok\n".to_owned()));
    assert_eq!(desk.ask("POST", "/health", None, "").await.0, 405);
    for (token, status) in [(None, 401), (Some("another-token-of-no-service"), 403)] {
        assert_eq!(desk.ask("GET", "/stats", token, "").await.0, status);
        assert_eq!(desk.ask("POST", "/purge", token, "{\"all\": true}").await.0, status);
        assert_eq!(desk.ask("GET", "/metrics", token, "").await.0, status);
    }
    let url = format!("{}/warmed", desk.site);
    let warmed = desk.ok("POST", "/warm", &json!({ "urls": [url] }).to_string()).await;
    assert_eq!(warmed["failed"], 0, "{warmed}");
    let missed = desk.get("/fresh").await;
    assert!(missed.contains("uri-miss"), "{missed}");
    let stats = desk.ok("GET", "/stats", "").await;
    assert!(stats["watch"]["totals"]["requests"].as_u64().unwrap() >= 2, "{stats}");
    let explained = desk.ok("GET", &format!("/explain?url={}/fresh", desk.site), "").await;
    assert!(explained["cache_status"].is_string(), "{explained}");
    let purged =
        desk.ok("POST", "/purge", &json!({ "url": format!("{}/fresh", desk.site) }).to_string()).await;
    assert_eq!((&purged["status"], purged.get("edges")), (&json!("ok"), None), "{purged}");
    let (status, metrics) = desk.ask("GET", "/metrics", Some(TOKEN), "").await;
    assert_eq!(status, 200);
    for name in ["larder_requests_total{", "larder_store_usage_bytes", "larder_purges_total{"] {
        assert!(metrics.contains(name), "{name}: {metrics}");
    }
    let (status, page) = desk.ask("GET", "/", None, "").await;
    assert!(status == 200 && page.contains("Log in"), "{page}");
    // The cached listener knows nothing of it.
    let request =
        Request::get(format!("{}/stats", desk.site)).header("authorization", format!("Bearer {TOKEN}"));
    let response = desk.client.request(request.body(Full::default()).unwrap()).await.unwrap();
    assert!(response.headers().contains_key("cache-status"));
}

#[tokio::test]
async fn a_policy_is_replaced_with_its_file_if_it_is_one() {
    let (origin, token) = (SampleOrigin::start(), token());
    let policy = TempFile::new("toml", "[default]\n");
    let desk = Desk::start(&origin.url, &token, &["--policy", policy.name()]);
    assert_eq!(desk.ask("GET", "/policy", Some(TOKEN), "").await, (200, "[default]\n".to_owned()));
    let (status, text) = desk.ask("PUT", "/policy", Some(TOKEN), "[default]\nsurprise = 1\n").await;
    assert!(status == 422 && text.contains("surprise") && text.contains(policy.name()), "{text}");
    assert!(!text.contains(".new-"), "{text}");
    assert_eq!(std::fs::read_to_string(policy.path()).unwrap(), "[default]\n");
    let left = format!(".new-{}", policy.path().file_name().unwrap().display());
    let left = policy.path().with_file_name(left);
    assert!(!left.exists());
    let new = "[default]\ndefault_lifetime = 3600\n";
    desk.ok("PUT", "/policy", new).await;
    assert_eq!(std::fs::read_to_string(policy.path()).unwrap(), new);
    assert!(!left.exists());
}

#[test]
fn a19_the_proxy_does_not_start_with_an_admin_listener_and_no_good_token() {
    let short = TempFile::new("token", "short\n");
    let empty = TempFile::new("token", "");
    let upstream = ["proxy", "--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:9"];
    for (arguments, reason) in [
        (&["--admin", "127.0.0.1:0"][..], "--admin and --admin-token-file go together"),
        (&["--admin-token-file", short.name()], "--admin and --admin-token-file go together"),
        (&["--admin", "127.0.0.1:0", "--admin-token-file", short.name()], "fewer than 16 bytes"),
        (&["--admin", "127.0.0.1:0", "--admin-token-file", empty.name()], "fewer than 16 bytes"),
        (&["--admin", "127.0.0.1:0", "--admin-token-file", "/nowhere/token"], "can't be read"),
        (&["--edge", "http://127.0.0.1:9"], "--edge goes with --admin"),
    ] {
        let output = run(&[&upstream[..], arguments].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(reason), "{arguments:?}: {error}");
        assert!(!error.contains("short\n"), "the token is not shown: {error}");
    }
}

#[tokio::test]
async fn fa9_what_is_purged_at_the_shield_is_purged_at_its_edges() {
    let (origin, token) = (SampleOrigin::start(), token());
    let edge = Desk::start(&origin.url, &token, &[]);
    let shield = Desk::start(&origin.url, &token, &["--edge", &edge.admin]);
    let purged = shield.ok("POST", "/purge", "{\"all\": true}").await;
    assert_eq!(purged["edges"][0]["status"], 200, "{purged}");
    let stats = edge.ok("GET", "/stats", "").await;
    assert_eq!(stats["watch"]["purges"], 1, "{stats}");
    drop(edge);
    let (status, text) = shield.ask("POST", "/purge", Some(TOKEN), "{\"all\": true}").await;
    assert!(status == 502 && text.contains("purged here, but not at"), "{text}");
}
