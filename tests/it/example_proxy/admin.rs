//! The admin listener of the example proxy.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};

use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::process::{Proxy, SampleOrigin, run};
use crate::support::file::TempFile;
use crate::support::raw::{Client, GUARD, Nobody, Origin};
use crate::support::tls::{Authority, TlsClient};
use crate::support::wire::{HttpClient, client, http2_client, serve_router};

const TOKEN: &str = "a-token-of-the-admin-service-in-a-test";

/// A proxy with an admin listener.
struct Desk {
    client: HttpClient<Full<Bytes>>,
    /// What the proxy says.
    lines: Mutex<mpsc::Receiver<String>>,
    proxy: Proxy,
    /// The URLs of the proxy, and of its admin listener.
    site: String,
    admin: String,
}

impl Desk {
    fn start(upstream: &str, token: &TempFile, more: &[&str]) -> Self {
        Self::by(token, more, |arguments| Proxy::with_lines(upstream, arguments))
    }

    fn by(
        token: &TempFile,
        more: &[&str],
        start: impl FnOnce(&[&str]) -> (Proxy, mpsc::Receiver<String>),
    ) -> Self {
        let listen = if more.contains(&"--admin") { &[][..] } else { &["--admin", "127.0.0.1:0"] };
        let arguments = [listen, &["--admin-token-file", token.name()], more].concat();
        let (proxy, lines) = start(&arguments);
        let admin = loop {
            let line = lines.recv_timeout(GUARD).expect("it says where its admin service listens");
            if let Some(url) = line.strip_prefix("larder: admin at ") {
                break url.to_owned();
            }
        };
        Self {
            client: client(),
            lines: lines.into(),
            site: format!("http://{}", proxy.address),
            proxy,
            admin,
        }
    }

    /// Has files read again, and gives what is said of it.
    fn hang_up(&self) -> String {
        self.proxy.signal("HUP");
        self.lines.lock().unwrap().recv_timeout(GUARD).expect("it says what has changed")
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
async fn probes_learn_that_every_upstream_is_sick_and_that_the_process_lives() {
    let (nobody, token) = (Nobody::new(), token());
    let upstream = format!("http://{}", nobody.address);
    let desk = Desk::start(&upstream, &token, &["--health-path", "/", "--health-interval", "0.05"]);
    let sick = (503, "every upstream is sick\n".to_owned());
    while desk.ask("GET", "/health", None, "").await != sick {}
    assert_eq!(desk.ask("GET", "/health/live", None, "").await, (200, "ok\n".to_owned()));
    assert_eq!(desk.ask("POST", "/health/live", None, "").await.0, 405);
}

#[tokio::test]
async fn probes_learn_that_the_process_drains() {
    let (origin, token) = (Origin::new(), token());
    let desk = Desk::start(&origin.upstream(), &token, &["--drain", "600"]);
    let mut client = Client::of(&desk.proxy);
    client.get("/open");
    let mut asked = origin.asked("/open");
    assert_eq!(desk.ask("GET", "/health", None, "").await, (200, "ok\n".to_owned()));
    desk.proxy.signal("TERM");
    desk.proxy.listens_no_more();
    assert_eq!(desk.ask("GET", "/health", None, "").await, (503, "draining\n".to_owned()));
    assert_eq!(desk.ask("HEAD", "/health", None, "").await, (503, String::new()));
    assert_eq!(desk.ask("GET", "/health/live", None, "").await, (200, "ok\n".to_owned()));
    asked.answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    client.next().is("HTTP/1.1 200 OK", "");
}

const STORED: &str = "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 1\r\n\r\nx";

/// Warms a URL, which the origin is asked for so many times, and gives what is told of it and what the origin has got.
async fn warmed(
    desk: &Arc<Desk>,
    origin: &Origin,
    order: Value,
    path: &str,
    calls: usize,
) -> (Value, Vec<String>) {
    let desk = desk.clone();
    let warming = tokio::spawn(async move { desk.ok("POST", "/warm", &order.to_string()).await });
    let mut heads = Vec::new();
    for _ in 0..calls {
        let mut asked = origin.asked(path);
        asked.answer(STORED);
        heads.push(asked.message.head);
    }
    let told = warming.await.unwrap();
    assert_eq!((&told["failed"], told["urls"].as_array().unwrap().len()), (&json!(0), calls), "{told}");
    (told, heads)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warmed_url_is_stored_where_clients_find_it_whatever_its_scheme() {
    let (origin, token) = (Origin::new(), token());
    let desk = Arc::new(Desk::start(&origin.upstream(), &token, &[]));
    for scheme in ["https", "http"] {
        let order = json!({ "urls": [format!("{scheme}://a.example/{scheme}")] });
        let (told, heads) = warmed(&desk, &origin, order, &format!("/{scheme}"), 1).await;
        assert_eq!(told["urls"][0]["cache_status"], "larder; fwd=uri-miss; stored; ttl=600", "{told}");
        // As that of a client: the listener speaks plain HTTP.
        assert!(heads[0].contains("\r\nx-forwarded-proto: http\r\n"), "{}", heads[0]);
        let mut client = Client::of(&desk.proxy);
        client.send(&format!("GET /{scheme} HTTP/1.1\r\nhost: a.example\r\n\r\n"));
        client.next().is("HTTP/1.1 200 OK", "x").has("\r\ncache-status: larder; hit; ttl=");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warmed_url_is_stored_under_the_scheme_of_a_listener_with_tls() {
    let (authority, origin, token) = (Authority::new(), Origin::new(), token());
    let issued = authority.issue(&["a.example"]);
    let tls = ["--tls-cert", issued.certificate.name(), "--tls-key", issued.key.name()];
    let desk = Arc::new(Desk::start(&origin.upstream(), &token, &tls));
    let (_, heads) = warmed(&desk, &origin, json!({ "urls": ["http://a.example/x"] }), "/x", 1).await;
    assert!(heads[0].contains("\r\nx-forwarded-proto: https\r\n"), "{}", heads[0]);
    let (config, address) = (authority.client(&[]), desk.proxy.address);
    let hit = tokio::task::spawn_blocking(move || {
        let mut client = TlsClient::new(config, address, "a.example");
        client.send("GET /x HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
        client.next()
    });
    hit.await.unwrap().has("\r\ncache-status: larder; hit; ttl=");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warmed_url_takes_the_way_of_a_clients_request() {
    let (origin, token, debug) = (Origin::new(), token(), TempFile::new("token", "0123456789abcdef"));
    let more = ["--viewer-headers", "--debug-token-file", debug.name()];
    let desk = Arc::new(Desk::start(&origin.upstream(), &token, &more));
    let fields = ["CloudFront-Viewer-Country: XX", "Larder-Peer: guess", "User-Agent: iPhone Mobile/15E148"];
    let order = json!({ "urls": ["http://a.example/x"], "headers": fields });
    let (told, heads) = warmed(&desk, &origin, order, "/x", 1).await;
    let head = &heads[0];
    // What the proxy finds out about a client, by its fields; nobody has an address here.
    for field in ["cloudfront-is-mobile-viewer: true", "cloudfront-forwarded-proto: http", "host: a.example"]
    {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{field} in {head}");
    }
    for field in [
        "cloudfront-viewer-country",
        "cloudfront-viewer-address",
        "x-forwarded-for",
        "larder-peer",
        "larder-debug",
    ] {
        assert!(!head.contains(field), "{field} in {head}");
    }
    // Who has the token of the admin service may know what the cache did, and nobody else.
    assert_eq!(told["urls"][0]["cache_status"], "larder; fwd=uri-miss; stored; ttl=600", "{told}");
    // Nor does it get anything that no client would.
    let refused = json!({ "urls": ["http://a.example/x"], "headers": ["Host: a b"] });
    let told = desk.ok("POST", "/warm", &refused.to_string()).await;
    assert_eq!((&told["urls"][0]["status"], &told["failed"]), (&json!(400), &json!(0)), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fa9_a_url_that_is_warmed_at_a_shield_answers_edges_under_their_clients_scheme() {
    const SECRET: &str = "a-secret-of-the-owner";
    let (origin, token, secret) = (Origin::new(), token(), TempFile::new("txt", SECRET));
    let peers = ["--peer-token-file", secret.name()];
    let desk = Arc::new(Desk::start(&origin.upstream(), &token, &peers));
    let edge = |desk: &Desk, path: &str, scheme: &str| {
        let mut client = Client::of(&desk.proxy);
        let mark = format!("larder-peer: {SECRET}\r\nx-forwarded-proto: {scheme}\r\n");
        client.send(&format!("GET {path} HTTP/1.1\r\nhost: a.example\r\n{mark}\r\n"));
        if path == "/any" {
            origin.asked(path).answer(STORED);
        }
        client.next().is("HTTP/1.1 200 OK", "x")
    };
    // Before any edge has asked, the URL says the scheme.
    let order = |path: &str| json!({ "urls": [format!("https://a.example{path}")] });
    let (told, _) = warmed(&desk, &origin, order("/first"), "/first", 2).await;
    let whose: Vec<_> = told["urls"].as_array().unwrap().iter().map(|url| &url["peer"]).collect();
    assert_eq!(whose, [true, false], "{told}");
    edge(&desk, "/first", "https").has("\r\ncache-status: larder; hit; ttl=");
    // As `https` has been asked for, it goes on to be believed.
    warmed(&desk, &origin, order("/second"), "/second", 2).await;
    edge(&desk, "/second", "https").has("\r\ncache-status: larder; hit; ttl=");

    // Edges behind TLS servers say `http` of everything.
    let desk = Arc::new(Desk::start(&origin.upstream(), &token, &peers));
    edge(&desk, "/any", "http");
    warmed(&desk, &origin, order("/third"), "/third", 2).await;
    edge(&desk, "/third", "http").has("\r\ncache-status: larder; hit; ttl=");
    let explained = desk.ok("GET", "/explain?url=https://a.example/third", "").await;
    assert_eq!(
        explained["other_scheme"]["as_peer"].as_str().unwrap().find("larder; hit"),
        Some(0),
        "{explained}"
    );
    // Nothing that a client says is the mark, and nothing of it is remembered.
    let forged = ["larder-peer: a-guess-of-somebody", "x-forwarded-proto: https"];
    let order = json!({ "urls": ["http://a.example/forged"], "headers": forged, "peer": false });
    let (told, heads) = warmed(&desk, &origin, order, "/forged", 1).await;
    assert!(heads[0].contains("\r\nx-forwarded-proto: http\r\n"), "{}", heads[0]);
    assert_eq!(told["urls"][0]["peer"], false, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fa9_an_edge_is_warmed_for_its_clients_alone() {
    let (origin, token, secret) = (Origin::new(), token(), TempFile::new("txt", "a-secret-of-the-owner"));
    let peers = ["--peer-token-file", secret.name()];
    let shield = origin.proxy(&peers);
    let edge = Desk::by(&token, &peers, |arguments| Proxy::behind_with_lines(&shield.url(), arguments));
    let edge = Arc::new(edge);
    let (told, _) = warmed(&edge, &origin, json!({ "urls": ["https://a.example/x"] }), "/x", 1).await;
    let status = told["urls"][0]["cache_status"].as_str().unwrap();
    assert_eq!(status.matches("fwd=uri-miss; stored").count(), 2, "at the shield and at the edge: {status}");
    let mut client = Client::of(&edge.proxy);
    client.send("GET /x HTTP/1.1\r\nhost: a.example\r\n\r\n");
    client.next().has("larder; hit; ttl=");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a19_tokens_are_replaced_on_sighup_and_what_is_none_changes_nothing() {
    const NEW: &str = "another-token-of-the-admin-service";
    let (origin, token) = (SampleOrigin::start(), token());
    let desk = Desk::start(&origin.url, &token, &[]);
    let opens = async || {
        let status = async |token| desk.ask("GET", "/stats", Some(token), "").await.0;
        (status(TOKEN).await, status(NEW).await)
    };
    assert_eq!(opens().await, (200, 403));
    let (said, name) = ("larder: the admin tokens are those of", token.name());
    let wrong = "larder: the admin tokens stay as they were: --admin-token-file";
    for (content, line, expected) in [
        // For a while, both will do.
        (format!("{NEW}\n\n{TOKEN}\n"), format!("{said} {name} now"), (200, 200)),
        (format!("{NEW}\nshort\n"), format!("{wrong} {name}: line 2: "), (200, 200)),
        (NEW.to_owned(), format!("{said} {name} now"), (403, 200)),
        ("\n".to_owned(), format!("{wrong} {name}: "), (403, 200)),
    ] {
        token.write(&content);
        let told = desk.hang_up();
        assert!(told.starts_with(&line), "{told}");
        assert!(!told.contains(TOKEN) && !told.contains(NEW), "{told}");
        assert_eq!(opens().await, expected, "{content}");
    }
    std::fs::remove_file(token.path()).unwrap();
    assert!(desk.hang_up().contains("can't be read"));
    assert_eq!(opens().await, (403, 200));
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

#[tokio::test(flavor = "multi_thread")]
async fn policies_that_are_sent_at_one_time_come_one_after_the_other() {
    let page = axum::routing::get(|| async { "no lifetime" });
    let origin = serve_router(axum::Router::new().route("/{path}", page)).await;
    let (token, policy) = (token(), TempFile::new("toml", "[default]\n"));
    let desk = Desk::start(&format!("http://{origin}"), &token, &["--policy", policy.name()]);
    for round in 0..5 {
        let text = |number| format!("[default]\ndefault_lifetime = {number}\n");
        let texts: Vec<_> = (1..=50).map(|number| text(100 * round + number)).collect();
        let answers = join_all(texts.iter().map(|text| desk.ok("PUT", "/policy", text))).await;
        assert_eq!(answers.len(), 50);
        // The one that came last is in the file, and in force.
        let in_file = std::fs::read_to_string(policy.path()).unwrap();
        assert!(texts.contains(&in_file), "{in_file}");
        let lifetime = in_file.trim_end().rsplit(' ').next().unwrap();
        let expected = format!("larder; fwd=uri-miss; stored; ttl={lifetime}");
        assert_eq!(desk.get(&format!("/{round}")).await, expected);
    }
}

#[tokio::test]
async fn a_policy_file_that_is_gone_is_no_policy_to_send_back() {
    let (origin, token) = (SampleOrigin::start(), token());
    let policy = TempFile::new("toml", "[default]\n");
    let desk = Desk::start(&origin.url, &token, &["--policy", policy.name()]);
    std::fs::remove_file(policy.path()).unwrap();
    let (status, text) = desk.ask("GET", "/policy", Some(TOKEN), "").await;
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &json["error"]), (503, &json!("policy")), "{text}");
    assert!(json["message"].as_str().unwrap().contains("can't be read"), "{text}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_policy_that_is_replaced_keeps_its_mode_and_its_place() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (origin, token) = (SampleOrigin::start(), token());
    let policy = TempFile::new("toml", "[default]\n");
    std::fs::set_permissions(policy.path(), PermissionsExt::from_mode(0o640)).unwrap();
    let link = policy.path().with_extension("link.toml");
    symlink(policy.path(), &link).unwrap();
    let desk = Desk::start(&origin.url, &token, &["--policy", link.to_str().unwrap()]);
    let new = "[default]\ndefault_lifetime = 60\n";
    let answer = desk.ask("PUT", "/policy", Some(TOKEN), new).await;
    let is_link = std::fs::symlink_metadata(&link).unwrap().is_symlink();
    std::fs::remove_file(&link).unwrap();
    assert_eq!((answer.0, is_link), (200, true), "{answer:?}");
    assert_eq!(std::fs::read_to_string(policy.path()).unwrap(), new);
    assert_eq!(std::fs::metadata(policy.path()).unwrap().permissions().mode() & 0o777, 0o640);
}

#[tokio::test]
async fn what_the_dashboard_asks_for_is_rendered() {
    let (origin, token) = (SampleOrigin::start(), token());
    let desk = Desk::start(&origin.url, &token, &[]);
    desk.get("/fresh").await;
    desk.get("/fresh").await;
    desk.ok("POST", "/purge", "{\"all\": true}").await;
    let (_, metrics) = desk.ask("GET", "/metrics", Some(TOKEN), "").await;
    let rendered: BTreeSet<_> = metrics
        .lines()
        .filter_map(|line| line.split(['{', ' ']).next())
        .filter(|name| *name != "#")
        .collect();
    let dashboard = include_str!("../../../docs/grafana/larder.json");
    let words = dashboard.split(|part: char| !part.is_ascii_alphanumeric() && part != '_');
    let histograms = words
        .filter(|word| word.starts_with("larder_") && (word.ends_with("_bucket") || word.ends_with("_sum")));
    let asked: BTreeSet<_> = histograms.collect();
    assert!(asked.len() >= 3, "{asked:?}");
    assert_eq!(asked.difference(&rendered).collect::<Vec<_>>(), Vec::<&&str>::new(), "{metrics}");
}

#[tokio::test]
async fn a19_without_the_token_no_content_is_waited_for() {
    let (origin, token) = (SampleOrigin::start(), token());
    let edge = ["--edge", "http://127.0.0.1:9"];
    for more in [&[][..], &edge] {
        let desk = Desk::start(&origin.url, &token, more);
        let mut client = Client::over(TcpStream::connect(desk.admin.trim_start_matches("http://")).unwrap());
        // Nothing of the content is sent.
        client.send("POST /purge HTTP/1.1\r\nhost: admin\r\ncontent-length: 1000000\r\n\r\n");
        client.next().has("HTTP/1.1 401 Unauthorized");
    }
}

#[tokio::test]
async fn fa9_one_purge_goes_once_around_proxies_that_name_each_other() {
    let (origin, token) = (SampleOrigin::start(), token());
    let reserved = Nobody::reserving();
    let (at, url) = (reserved.address.to_string(), format!("http://{}", reserved.address));
    let one = Desk::start(&origin.url, &token, &["--edge", &url]);
    let other = Desk::start(&origin.url, &token, &["--admin", &at, "--edge", &one.admin]);
    let purged = one.ok("POST", "/purge", "{\"all\": true}").await;
    assert_eq!(purged["edges"], json!([{ "edge": format!("{url}/"), "status": 200 }]), "{purged}");
    // The first one gets it back, and keeps it.
    for (desk, purges) in [(&one, 2), (&other, 1)] {
        let stats = desk.ok("GET", "/stats", "").await;
        assert_eq!(stats["watch"]["purges"], purges, "{stats}");
    }
}

#[tokio::test]
async fn fa5_a_purge_reaches_edges_by_either_version_of_http() {
    let (origin, token) = (SampleOrigin::start(), token());
    let edge = Desk::start(&origin.url, &token, &[]);
    let shield = Desk::start(&origin.url, &token, &["--edge", &edge.admin]);
    let page = format!("{}/article/1", edge.site);
    for (client, version) in [(client::<Full<Bytes>>(), "HTTP/1"), (http2_client(), "HTTP/2")] {
        for (method, target, content) in [
            ("PURGE", format!("/{page}"), String::new()),
            ("POST", format!("/purge/{page}"), String::new()),
            ("POST", "/purge".to_owned(), json!({ "url": page }).to_string()),
        ] {
            edge.get("/article/1").await;
            let stored = edge.get("/article/1").await;
            assert!(stored.contains("hit"), "{stored}");
            let request = Request::builder().method(method).uri(format!("{}{target}", shield.admin));
            let request = request.header("authorization", format!("Bearer {TOKEN}"));
            let request = request.header("origin", &*shield.admin).body(Full::from(content)).unwrap();
            let answer = client.request(request).await.unwrap();
            assert_eq!(answer.status(), 200, "{version} {method} {target}");
            let purged = edge.get("/article/1").await;
            assert!(purged.contains("uri-miss"), "{version} {method} {target}: {purged}");
        }
    }
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
