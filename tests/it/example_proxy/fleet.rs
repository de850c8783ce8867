//! Several proxies over one store with leases, each a process of its own; and the walk through such a fleet.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use http::StatusCode;
use serde_json::Value;
use tokio::sync::Notify;

use super::process::{Proxy, example, in_time};
use super::shielding::{TOKEN, operate, operated};
use crate::support::file::{TempFile, TempFolder};
use crate::support::raw::{Client, GUARD, Message, Origin};
use crate::support::servers::{Answer, Cluster, Kind, Server};
use crate::support::wire;

/// A proxy with an admin service.
pub struct Node {
    pub admin: String,
    pub proxy: Proxy,
}

impl Node {
    pub fn of((proxy, admin): (Proxy, String)) -> Self {
        Self { admin, proxy }
    }

    /// What `GET /stats` says.
    pub fn stats(&self) -> Value {
        serde_json::from_str(&operate(&self.admin, "GET /stats", "").content).unwrap()
    }

    /// What one request gets, for which the origin is not asked, or answers by itself. What it has brought is stored after this.
    #[track_caller]
    pub fn get(&self, path: &str) -> Message {
        let mut client = Client::of(&self.proxy);
        client.get(path);
        let answer = client.next();
        self.has_stored();
        answer
    }

    /// What one request gets, which the origin answers like that. It is stored after this.
    #[track_caller]
    pub fn fill(&self, origin: &Origin, path: &str, answer: &str) -> Message {
        let mut client = Client::of(&self.proxy);
        client.get(path);
        origin.asked(path).answer(answer);
        let answer = client.next();
        self.has_stored();
        answer
    }

    /// A client may have the last byte before the store has it.
    #[track_caller]
    pub fn has_stored(&self) {
        in_time("it is stored", || (self.stats()["fills"]["fills"] == 0).then_some(()));
    }
}

/// Proxies before one origin that share a store and leases.
fn fleet<const N: usize>(upstream: &str, store: &str, more: &[&str]) -> [Node; N] {
    let token = TempFile::new("token", TOKEN);
    // Whatever else the machine has to do.
    let options = [&["--store", store, "--lease", "--store-deadline", "20"], more].concat();
    let start = |admin: &[&str]| Proxy::with_lines(upstream, &[&options, admin].concat());
    [(); N].map(|()| Node::of(operated(start, &token)))
}

/// 500 requests at each of four proxies for what none has, all of which wait until all of them are there.
async fn one_call(store: &str, more: &[&str]) {
    const CONNECTIONS: usize = 5;
    const STREAMS: usize = 100;
    let (calls, release) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (called, released) = (Arc::clone(&calls), Arc::clone(&release));
    let slow = get(move || {
        let (called, released) = (called.clone(), released.clone());
        async move {
            called.fetch_add(1, Ordering::SeqCst);
            released.notified().await;
            ([("cache-control", "max-age=600")], "cold")
        }
    });
    let origin = wire::serve_router(Router::new().route("/x", slow)).await;
    let nodes: [_; 4] = fleet(&format!("http://{origin}"), store, more);
    let addresses: Vec<_> = nodes.iter().map(|node| node.proxy.address).collect();
    let asked = wire::herds(&addresses, CONNECTIONS, STREAMS, "http://a.example/x").await;
    // Before there is an answer: at each proxy one asks for the lease, and the others wait for that one.
    let others = CONNECTIONS * STREAMS - 1;
    let all_wait = move || {
        let waits = |node: &Node| node.stats()["fills"]["waiting"] == others;
        in_time("all requests wait", || nodes.iter().all(waits).then_some(()));
        nodes
    };
    let waits = async {
        let nodes = tokio::task::spawn_blocking(all_wait).await.unwrap();
        release.notify_one();
        nodes
    };
    let both = async { tokio::join!(asked, waits) };
    let (answers, _nodes) = tokio::time::timeout(GUARD, both).await.expect("one call is enough for all");
    assert_eq!(answers.len(), 4 * CONNECTIONS * STREAMS);
    for (head, content) in answers {
        assert_eq!((head.status, &content[..]), (StatusCode::OK, &b"cold"[..]), "{head:?}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn f06_500_cold_requests_at_each_of_four_proxies_over_redis_make_one_call_at_the_origin() {
    let server = Server::start(Kind::Redis);
    one_call(&server.url(), &[]).await;
    one_call(&server.url(), &["--near", "1MiB", "--store-namespace", "near"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f06_500_cold_requests_at_each_of_four_proxies_over_a_cluster_make_one_call_at_the_origin() {
    one_call(&Cluster::shared().url(), &["--store-namespace", "herds-of-proxies"]).await;
}

#[test]
fn when_the_origin_has_failed_one_proxy_no_other_one_asks_it_for_a_while() {
    let (server, origin) = (Server::start(Kind::Redis), Origin::new());
    let policy = TempFile::new("toml", "[default]\nrest_after_failure = \"10m\"\n");
    let [one, other] = fleet(&origin.upstream(), &server.url(), &["--policy", policy.name()]);
    // Stale from the beginning, and good for when the origin fails.
    let stale = "HTTP/1.1 200 OK\r\ncache-control: max-age=60, stale-if-error=6000\r\nage: 120\r\n\
                 content-length: 3\r\n\r\nold";
    one.fill(&origin, "/x", stale).is("HTTP/1.1 200 OK", "old");
    let failure = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    one.fill(&origin, "/x", failure).is("HTTP/1.1 200 OK", "old");
    for node in [&other, &one, &other] {
        node.get("/x").is("HTTP/1.1 200 OK", "old");
    }
    origin.was_not_asked();
}

#[test]
fn what_is_refreshed_ahead_is_refreshed_by_one_proxy_for_all() {
    let (server, origin) = (Server::start(Kind::Redis), Origin::new());
    let policy = TempFile::new("toml", "[default]\nrefresh_ahead = \"10h\"\n");
    let [one, other] = fleet(&origin.upstream(), &server.url(), &["--policy", policy.name()]);
    let answer = |age: u32, content: &str| {
        let fields = format!("cache-control: max-age=86400\r\nage: {age}\r\ncontent-length: 3");
        format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{content}")
    };
    let ask = |node: &Node| {
        let mut client = Client::of(&node.proxy);
        client.get("/x");
        client.next().has("larder; hit; ttl=").content
    };
    // Fresh for five hours more.
    one.fill(&origin, "/x", &answer(68_400, "old")).is("HTTP/1.1 200 OK", "old");
    assert_eq!(ask(&one), "old");
    let mut asked = origin.asked("/x");
    assert_eq!(ask(&other), "old");
    in_time("the other one waits for the lease", || match server.ask(&["KEYS", "*:q"]) {
        Answer::List(waited_for) => (!waited_for.is_empty()).then_some(()),
        other => panic!("{other:?}"),
    });
    asked.answer(&answer(0, "new"));
    for node in [&one, &other] {
        in_time("the new one is stored", || (ask(node) == "new").then_some(()));
    }
    assert_eq!((ask(&one), ask(&other)), ("new".to_owned(), "new".to_owned()));
    origin.was_not_asked();
}

/// The walk, whose folders are in this one.
fn walk(folder: &TempFolder, arguments: &[&str]) -> Command {
    let mut command = example();
    command.arg("fleet").args(arguments).env("TMPDIR", folder.path());
    command
}

/// Whether no process works in a folder, or in one inside of it.
fn nobody_works_in(folder: &Path) -> bool {
    let folder = folder.canonicalize().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    // Of those that end meanwhile, and those of others, nothing can be read.
    let places = processes.filter_map(|process| std::fs::read_link(process.path().join("cwd")).ok());
    places.into_iter().all(|place| !place.starts_with(&folder))
}

#[test]
fn the_walk_through_a_fleet_prints_the_expected_rows_and_leaves_nothing_behind() {
    for arguments in [&[][..], &["--server", "target/servers/valkey-server"]] {
        let folder = TempFolder::new();
        let mut walk = walk(&folder, arguments);
        let output = walk.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("16 of 16 rows as expected"), "{text}");
        assert!(nobody_works_in(folder.path()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_walk_that_is_ended_takes_what_it_has_started_with_it() {
    for signal in ["-INT", "-KILL"] {
        let folder = TempFolder::new();
        let mut walk = walk(&folder, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Nor does what it prints later find nobody.
        let mut lines = BufReader::new(walk.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("the origin was asked")), "it walks");
        assert!(!nobody_works_in(folder.path()));
        assert!(Command::new("kill").args([signal, &walk.id().to_string()]).status().unwrap().success());
        let status = walk.wait().unwrap();
        assert_eq!(status.code(), (signal == "-INT").then_some(2));
        in_time("what it has started ends", || nobody_works_in(folder.path()).then_some(()));
        // Nobody can do that whom the system has ended.
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, usize::from(signal == "-KILL"));
    }
}

#[test]
fn a_walk_without_servers_says_what_is_missing() {
    let folder = TempFolder::new();
    for (arguments, said) in [
        (&["--server", "/no/such-server"][..], "/no/such-server can't be started: No such file"),
        (&["--server"], "--server needs a value"),
        (&["--frob"], "there is no option 'frob' here"),
    ] {
        let output = walk(&folder, arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{text}");
        assert!(text.contains(said), "{text}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
