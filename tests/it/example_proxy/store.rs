//! Where the proxy stores responses: options, servers that several proxies share, and what becomes of it when they fail.

use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;

use axum::Router;
use axum::routing::any;
use serde_json::{Value, json};

use super::fleet::Node;
use super::process::{Proxy, in_time, run};
use super::shielding::{TOKEN, operate, operated};
use crate::support::file::{TempFile, TempFolder};
use crate::support::raw::{Client, GUARD, Message, Origin};
use crate::support::servers::{Answer, Kind, Server, Watched, free_port};
use crate::support::tls::Authority;
use crate::support::wire;

/// Whatever else the machine has to do.
const PATIENT: [&str; 2] = ["--store-deadline", "20"];

/// A response with a tag, for ten minutes.
pub fn page(content: &str) -> String {
    let fields = "cache-control: max-age=600\r\nsurrogate-key: news\r\ncontent-length: 3";
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{content}")
}

/// A proxy with these options, whose store is here, and its admin service.
fn at(store: &str, origin: &Origin, token: &TempFile, more: &[&str]) -> Node {
    let options = [&["--store", store], &PATIENT[..], more].concat();
    let start = |admin: &[&str]| Proxy::with_lines(&origin.upstream(), &[&options, admin].concat());
    Node::of(operated(start, token))
}

pub fn token() -> TempFile {
    TempFile::new("token", TOKEN)
}

pub fn says(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn options_that_make_no_store_are_reported_in_one_sentence_without_a_password() {
    let no_certificate = TempFile::new("pem", "nothing");
    let short = TempFile::new("txt", "too-short-secret");
    short.write("too-short");
    let upstream = "--upstream=http://127.0.0.1:1";
    for (arguments, said) in [
        (
            &["--store", "disk"][..],
            "--store is memory, disk:PATH or disk:PATH,SIZE, or a URL that begins with redis://, redis-sentinel://",
        ),
        (&["--store", "http://me:hidden@a"], "or a URL that begins with redis://"),
        (&["--store", "redis://me:hid/hidden@a"], "the user or the password is not percent-encoded"),
        (&["--store", "redis://me:hidden@a/x"], "--store: the path `x` is not understood"),
        (&["--store", "redis-cluster://a/1"], "--store: a Cluster has database 0 alone"),
        (&["--store", "redis-sentinel://a"], "the name of a primary is missing"),
        (&["--store"], "--store needs a value"),
        (&["--store", "memory", "--store", "memory"], "--store memory is given twice"),
        (&["--store", "redis://a", "--store", "memory"], "--store memory is nearer than Redis"),
        (&["--store", "redis://a", "--store", "redis://b"], "there is one --store in Redis at most"),
        (
            &["--store", "memory", "--store", "redis://a", "--store", "redis://b"],
            "one --store in Redis at most",
        ),
        (&["--store", "redis://a", "--memory", "1MiB"], "--memory is for --store memory alone"),
        (
            &["--store", "memory", "--store", "redis://a", "--memory", "1MiB"],
            "--near says how much of it is before another store",
        ),
        (&["--store", "redis://a", "--near", "lots"], "'lots' is not a size"),
        (&["--near", "1MiB"], "--near goes with a --store on disk or in Redis"),
        (&["--store", "memory", "--lease"], "--lease goes with a --store in Redis"),
        (&["--lease"], "--lease goes with a --store in Redis"),
        (&["--store", "redis://a", "--lease", "--lease"], "--lease is given twice"),
        (&["--store-deadline", "1"], "--store-deadline goes with a --store in Redis"),
        (&["--store", "redis://a", "--store-deadline", "0"], "'0' is not a time limit"),
        (&["--store-replicas", "1"], "--store-replicas goes with a --store in Redis"),
        (&["--store", "redis://a", "--store-replicas", "0"], "'0' is not a number for a limit"),
        (&["--store-namespace", "a"], "--store-namespace goes with a --store in Redis"),
        (&["--store", "redis://a", "--store-namespace", "a b"], "--store-namespace: the namespace `a b`"),
        (&["--store-secret-file", "a"], "--store-secret-file goes with a --store in Redis"),
        (&["--store", "redis://a", "--store-secret-file", "/no/such"], "/no/such: can't be read"),
        (&["--store", "redis://a", "--store-secret-file", short.name()], "has to be 16 characters or more"),
        (&["--store-ca", "a"], "--store-ca goes with a --store in Redis"),
        (&["--store", "redis://a", "--store-ca", "a"], "--store-ca goes with a --store of rediss"),
        (&["--store", "rediss://a", "--store-ca", "/no/such.pem"], "--store-ca /no/such.pem: can't be read"),
        (&["--store", "rediss://a", "--store-ca", no_certificate.name()], "has no certificate"),
        (&["--store", "redis://a", "--snapshot", "a"], "--snapshot is for --store memory alone"),
        (&["--store", "redis://a", "--max-object", "0"], "--max-object is zero"),
    ] {
        let output = run(&[&["proxy", upstream, "--listen", "127.0.0.1:0"], arguments].concat());
        let text = says(&output);
        assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{arguments:?}: {text}");
        assert!(text.contains(said), "{arguments:?}: {text}");
        assert!(!text.contains("hid"), "{arguments:?}: {text}");
    }
}

#[test]
fn a_file_may_name_stores_the_nearest_first_and_their_passwords_are_not_printed() {
    let secret = TempFile::new("txt", "a-secret-of-this-fleet\n");
    let name = secret.path().file_name().unwrap().to_str().unwrap();
    let content = format!(
        "upstream = 'http://a.example'\nstore = ['memory', 'redis-cluster://me:hidden@a,b:1']\nnear = '1MiB'\n\
         lease = true\nstore-namespace = 'shop'\nstore-secret-file = '{name}'\nstore-deadline = 0.5\n\
         store-replicas = 1\n"
    );
    let file = TempFile::new("toml", &content);
    let check = |content: &str| {
        file.write(content);
        let output = run(&["check-config", file.name()]);
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (status, text) = check(&content);
    assert_eq!(status, Some(0), "{text}");
    for line in
        ["store = \"memory\"", "store = \"redis-cluster://me:***@a,b:1\"", "lease = true", "near = \"1MiB\""]
    {
        assert!(text.lines().any(|other| other == line), "{line} in {text}");
    }
    assert!(!text.contains("hidden"), "{text}");
    let upstream = "upstream = 'http://a.example'\n";
    for (content, line, said) in [
        ("store = 'redis://me:hidden@a/x'\n", 2, "the path `x` is not understood"),
        ("store = [\n  'memory',\n  'redis:me:hidden@a',\n]\n", 4, "--store is memory, disk:PATH"),
        ("lease = 1\n", 2, "'lease' is true or false"),
    ] {
        let (status, text) = check(&format!("{upstream}{content}"));
        assert!(text.starts_with(&format!("{}:{line}: ", file.name())) && text.contains(said), "{text}");
        assert!(status == Some(1) && !text.contains("hidden"), "{text}");
    }
    let (status, text) = check(&format!("{upstream}store = 'redis://a'\nstore-secret-file = 'no-such'\n"));
    assert!(status == Some(1) && text.contains("no-such: can't be read"), "{text}");
}

/// What one proxy has stored another one serves, and what one has purged neither serves.
fn proxies_share(store: &str, more: &[&str]) {
    let (origin, token) = (Origin::new(), token());
    let [one, other] = [(); 2].map(|()| at(store, &origin, &token, more));
    one.fill(&origin, "/x", &page("old")).is("HTTP/1.1 200 OK", "old");
    other.get("/x").is("HTTP/1.1 200 OK", "old").has("larder; hit; ttl=");
    origin.was_not_asked();
    operate(&other.admin, "POST /purge", "{\"tag\":\"news\"}").has("HTTP/1.1 200 OK");
    one.fill(&origin, "/x", &page("new")).is("HTTP/1.1 200 OK", "new");
    other.get("/x").is("HTTP/1.1 200 OK", "new").has("larder; hit; ttl=");
    origin.was_not_asked();
}

#[test]
fn proxies_share_what_they_store_and_purge_in_one_server() {
    let server = Server::with(Kind::Redis, &["--requirepass", "a/b c"]);
    let url = format!("redis://:a%2Fb%20c@127.0.0.1:{}/3", server.port);
    proxies_share(&url, &[]);
    let secret = TempFile::new("txt", "a-secret-of-this-fleet\n");
    proxies_share(&url, &["--lease", "--store-namespace", "shop", "--store-secret-file", secret.name()]);
}

#[test]
fn proxies_share_what_they_store_and_purge_in_the_primary_that_sentinel_names() {
    proxies_share(&Watched::start().url(), &["--store-replicas", "1"]);
}

#[test]
fn proxies_share_what_they_store_and_purge_in_a_server_of_tls() {
    let authority = Authority::new();
    let issued = authority.issue(&["localhost"]);
    let port = free_port().to_string();
    let arguments = [
        ["--tls-port", &port],
        ["--tls-cert-file", issued.certificate.name()],
        ["--tls-key-file", issued.key.name()],
        ["--tls-ca-cert-file", authority.file.name()],
        ["--tls-auth-clients", "no"],
    ];
    let _server = Server::with(Kind::Redis, arguments.as_flattened());
    let url = format!("rediss://localhost:{port}");
    proxies_share(&url, &["--store-ca", authority.file.name()]);
    // Without it, nobody that is trusted has signed the certificate.
    let origin = Origin::new();
    let (_proxy, lines) = Proxy::with_lines(&origin.upstream(), &["--store", &url]);
    let line = next(&lines, "the store does not answer");
    assert!(line.contains("certificate") || line.contains("UnknownIssuer"), "{line}");
}

#[test]
fn proxies_of_another_namespace_or_secret_share_nothing() {
    let (server, origin, token) = (Server::start(Kind::Redis), Origin::new(), token());
    let secret = TempFile::new("txt", "a-secret-of-this-fleet\n");
    let plain = at(&server.url(), &origin, &token, &[]);
    plain.fill(&origin, "/x", &page("one")).is("HTTP/1.1 200 OK", "one");
    for more in [&["--store-namespace", "shop"], &["--store-secret-file", secret.name()]] {
        let other = at(&server.url(), &origin, &token, more);
        other.fill(&origin, "/x", &page("two")).is("HTTP/1.1 200 OK", "two");
    }
    plain.get("/x").is("HTTP/1.1 200 OK", "one");
}

/// The next line that a proxy prints of which this is a part.
#[track_caller]
pub fn next(lines: &Receiver<String>, part: &str) -> String {
    let mut lines = std::iter::from_fn(|| lines.recv_timeout(GUARD).ok());
    lines.find(|line| line.contains(part)).unwrap_or_else(|| panic!("it says \"{part}\""))
}

/// An origin whose content is how often it was asked, and its URL.
pub async fn counting() -> (String, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let answer = move || {
        let call = counted.fetch_add(1, Ordering::SeqCst) + 1;
        async move { ([("cache-control", "max-age=600")], call.to_string()) }
    };
    let origin = wire::serve_router(Router::new().fallback(any(answer))).await;
    (format!("http://{origin}"), calls)
}

/// A proxy with an admin service, and all that it prints.
pub struct Site {
    pub lines: Receiver<String>,
    pub node: Node,
    /// What it had printed when it was ready, apart from its first line.
    pub said: Vec<String>,
}

impl Site {
    /// One whose store is in Redis.
    pub fn start(upstream: &str, token: &TempFile, options: &[&str]) -> Self {
        Self::with(upstream, token, &[&PATIENT[..], options].concat())
    }

    pub fn with(upstream: &str, token: &TempFile, options: &[&str]) -> Self {
        let admin = ["--admin", "127.0.0.1:0", "--admin-token-file", token.name()];
        let (proxy, lines) = Proxy::with_lines(upstream, &[&admin, options].concat());
        let mut said = Vec::new();
        loop {
            let line = lines.recv_timeout(GUARD).expect("it says where its admin service listens");
            if let Some(admin) = line.strip_prefix("larder: admin at ") {
                return Self { lines, node: Node::of((proxy, admin.to_owned())), said };
            }
            said.push(line);
        }
    }

    pub fn get(&self, path: &str) -> Message {
        self.node.get(path).has("HTTP/1.1 200 OK\r\n")
    }

    pub fn operate(&self, line: &str, content: &str) -> Message {
        operate(&self.node.admin, line, content)
    }

    /// What `GET /stats` says of the store's servers.
    fn servers(&self) -> Value {
        self.node.stats()["store"]["servers"].clone()
    }

    /// All that it prints until it ends.
    pub fn ends(self) -> Vec<String> {
        let Self { lines, node, mut said } = self;
        node.proxy.signal("TERM");
        assert!(node.proxy.ends_well());
        said.extend(lines);
        said
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_before_redis_answers_and_goes_by_the_purges_of_others() {
    let (server, token) = (Server::start(Kind::Redis), token());
    // The nearest comes first, or its size alone says that it is there.
    for near in [&["--store", "memory"][..], &["--near", "1MiB"], &["--near", "1MiB", "--store", "memory"]] {
        let (upstream, calls) = counting().await;
        let url = server.url();
        let options = [near, &["--store", &url]].concat();
        let [one, other] = [(); 2].map(|()| Site::start(&upstream, &token, &options));
        assert_eq!(one.get("/x").content, "1");
        in_time("memory has what it answers", || {
            assert_eq!(other.get("/x").content, "1");
            let is_near = other.node.stats()["store"]["entries"] == 1;
            (is_near && other.servers()["near_open"] == true).then_some(())
        });
        one.operate("POST /purge", "{\"url\":\"http://a.example/x\"}").has("HTTP/1.1 200 OK");
        assert_eq!(one.get("/x").content, "2");
        in_time("the other one has heard of the purge", || (other.get("/x").content == "2").then_some(()));
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        one.operate("POST /purge", "{\"all\":true}").has("HTTP/1.1 200 OK");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_memory_survives_a_restart_without_what_was_purged_and_not_a_kill() {
    let (folder, token, (upstream, calls)) = (TempFolder::new(), token(), counting().await);
    let file = folder.path().join("snapshot");
    let options = ["--snapshot", file.to_str().unwrap()];
    let site = Site::with(&upstream, &token, &options);
    assert_eq!([site.get("/kept").content, site.get("/purged").content], ["1", "2"]);
    site.operate("POST /purge", "{\"url\":\"http://a.example/purged\"}").has("HTTP/1.1 200 OK");
    let said = site.ends();
    let written = format!("larder: 1 responses into {}", file.display());
    assert!(said.contains(&written), "{said:?}");

    let site = Site::with(&upstream, &token, &options);
    let read = format!("larder: 1 responses from {}", file.display());
    assert!(site.said.contains(&read), "{:?}", site.said);
    assert_eq!([site.get("/kept").content, site.get("/purged").content], ["1", "3"]);
    // What is killed leaves nothing: what was purged since it has started can't come back.
    drop(site);
    let site = Site::with(&upstream, &token, &options);
    assert_eq!(site.get("/kept").content, "4");
    assert_eq!(calls.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_redis_gone_the_origin_answers_and_whoever_purges_gets_an_error_until_it_is_back() {
    let (mut server, token, (upstream, calls)) = (Server::start(Kind::Redis), token(), counting().await);
    let site = Site::start(&upstream, &token, &["--store", &server.url(), "--lease"]);
    assert_eq!((site.get("/x").content, site.get("/x").content), ("1".to_owned(), "1".to_owned()));
    let servers = site.servers();
    assert_eq!((&servers["healthy"], &servers["near_open"]), (&json!(true), &Value::Null), "{servers}");
    server.kill();
    assert_eq!(site.get("/x").content, "2");
    let refused = site.operate("POST /purge", "{\"all\":true}").has("HTTP/1.1 503 Service Unavailable");
    assert!(refused.content.contains("can't say that the purge has taken effect"), "{refused:?}");
    in_time("Redis is left alone", || {
        site.get("/x");
        (site.servers()["healthy"] == false).then_some(())
    });
    next(&site.lines, "the store does not answer, so it is left alone, and requests go to the origin");
    // The proxy is a good one to send clients to all the same.
    site.operate("GET /health", "").is("HTTP/1.1 200 OK", "ok\n");
    assert_eq!(site.servers()["purges_to_repeat"], 1);
    let metrics = site.operate("GET /metrics", "").content;
    for line in [
        "larder_store_healthy 0",
        "larder_store_purges_to_repeat 1",
        "# TYPE larder_store_commands_total counter",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} in {metrics}");
    }
    assert!(!metrics.contains("larder_store_near_open"), "there is no memory before it");
    // Nothing is stored meanwhile.
    let before = calls.load(Ordering::SeqCst);
    for _ in 0..2 {
        site.get("/new").has("\r\ncache-status: larder; fwd=miss; detail=\"store\"\r\n");
    }
    assert_eq!(calls.load(Ordering::SeqCst), before + 2);
    server.restart();
    next(&site.lines, "the store answers again");
    in_time("the purge is made again", || (site.servers()["purges_to_repeat"] == 0).then_some(()));
    let stored = site.get("/x");
    site.get("/x").is("HTTP/1.1 200 OK", &stored.content).has("larder; hit; ttl=");
    site.operate("POST /purge", "{\"all\":true}").has("HTTP/1.1 200 OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_starts_without_redis_and_uses_it_when_it_is_there() {
    let (mut server, token, (upstream, _)) = (Server::start(Kind::Redis), token(), counting().await);
    server.kill();
    let site = Site::start(&upstream, &token, &["--near", "1MiB", "--store", &server.url()]);
    let said = "the store does not answer, so requests go to the origin: ";
    if !site.said.iter().any(|line| line.contains(said)) {
        next(&site.lines, said);
    }
    assert_eq!((site.get("/x").content, site.get("/x").content), ("1".to_owned(), "2".to_owned()));
    server.restart();
    next(&site.lines, "the store answers again");
    in_time("it is stored", || site.get("/x").head.contains("larder; hit; ttl=").then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_lost_by_the_set_up_is_said_once_and_no_password_ever_is() {
    let server = Server::with(Kind::Redis, &["--requirepass", "hidden"]);
    let (token, (upstream, _)) = (token(), counting().await);
    let url = format!("redis://:hidden@127.0.0.1:{}", server.port);
    let site = Site::start(&upstream, &token, &["--near", "2MiB", "--lease", "--store", &url]);
    site.get("/x");
    site.get("/x").has("larder; hit; ttl=");
    let shown = format!("2MiB of memory before redis://:***@127.0.0.1:{}, with leases", server.port);
    assert_eq!(site.servers()["name"], shown);
    // The second warning is the last one.
    let mut seen = site.said.iter().filter(|line| line.contains("has no replica")).count();
    let mut lines = Vec::new();
    while seen == 0 {
        let line = site.lines.recv_timeout(GUARD).expect("it warns of what it found");
        seen += usize::from(line.contains("has no replica"));
        lines.push(line);
    }
    lines.extend(site.ends());
    for (line, count) in [
        ("larder: warning: Redis has no maxmemory", 1),
        ("larder: warning: Redis has no replica", 1),
        (&*format!("larder: stored in {shown}"), 1),
        ("hidden", 0),
    ] {
        assert_eq!(lines.iter().filter(|other| other.contains(line)).count(), count, "{line} in {lines:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_ends_says_which_purges_may_be_lost_with_it() {
    let (mut server, token, (upstream, _)) = (Server::start(Kind::Redis), token(), counting().await);
    let site = Site::start(&upstream, &token, &["--store", &server.url()]);
    site.get("/x");
    server.kill();
    site.operate("POST /purge", "{\"all\":true}").has("HTTP/1.1 503 Service Unavailable");
    let said = "larder: purges that may not have arrived in the store: 1; send them again";
    let lines = site.ends();
    assert!(lines.iter().any(|line| line == said), "{lines:#?}");
}

#[test]
fn what_is_under_way_when_a_proxy_is_stopped_is_stored_for_the_others() {
    let (server, origin, token) = (Server::start(Kind::Redis), Origin::new(), token());
    let site = Site::start(&origin.upstream(), &token, &["--store", &server.url(), "--lease"]);
    site.node.proxy.signal("HUP");
    next(&site.lines, "the admin tokens are those of");
    let mut client = Client::of(&site.node.proxy);
    client.get("/x");
    let mut asked = origin.asked("/x");
    site.node.proxy.signal("TERM");
    site.node.proxy.listens_no_more();
    asked.answer(&page("end"));
    client.next().is("HTTP/1.1 200 OK", "end");
    assert!(site.node.proxy.ends_well());
    // Nor does the lease keep anybody waiting.
    assert_eq!(server.ask(&["KEYS", "*:w*"]), Answer::List(Vec::new()));
    let other = at(&server.url(), &origin, &token, &["--lease"]);
    other.get("/x").is("HTTP/1.1 200 OK", "end").has("larder; hit; ttl=");
    origin.was_not_asked();
}
