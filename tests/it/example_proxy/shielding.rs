//! Edges before a shield before an origin (FA6, FA9): real processes on loopback.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use axum::Router;
use axum::routing::get;
use http::StatusCode;
use tokio::sync::Notify;

use crate::example_proxy::process::{Proxy, in_time, run};
use crate::support::file::TempFile;
use crate::support::raw::{Client, GUARD, Message, Nobody, Origin};
use crate::support::tls::{Authority, TlsClient};
use crate::support::wire;

const SECRET: &str = "a-secret-of-the-owner";
const HOST: &str = "host: a.example\r\n";

/// The profiles of the example.
const PROFILES: [&str; 4] = ["default", "rfc9111", "cloudfront", "fastly"];

/// An origin, a shield before it, and an edge before that.
struct Site {
    edge: Proxy,
    origin: Origin,
    secret: TempFile,
    shield: Proxy,
}

impl Site {
    fn new(arguments: &[&str]) -> Self {
        Self::with(arguments, arguments)
    }

    fn with(of_shield: &[&str], of_edge: &[&str]) -> Self {
        let (origin, secret) = (Origin::new(), TempFile::new("txt", SECRET));
        let peers = ["--peer-token-file", secret.name()];
        let shield = origin.proxy(&[&peers, of_shield].concat());
        let edge = Proxy::behind(&shield.url(), &[&peers, of_edge].concat());
        Self { edge, origin, secret, shield }
    }
}

/// A proxy with an admin service, and where that is.
pub fn operated(
    start: impl FnOnce(&[&str]) -> (Proxy, mpsc::Receiver<String>),
    token: &TempFile,
) -> (Proxy, String) {
    let (proxy, lines) = start(&["--admin", "127.0.0.1:0", "--admin-token-file", token.name()]);
    let lines = std::iter::from_fn(|| lines.recv_timeout(GUARD).ok());
    let admin = lines.filter_map(|line| line.strip_prefix("larder: admin at ").map(str::to_owned)).next();
    (proxy, admin.expect("it says where its admin service listens"))
}

pub const TOKEN: &str = "a-token-of-the-admin-service";

/// A request to an admin service, and its answer.
#[track_caller]
pub fn operate(admin: &str, line: &str, content: &str) -> Message {
    let mut client = Client::over(TcpStream::connect(admin.trim_start_matches("http://")).unwrap());
    let head = format!("{line} HTTP/1.1\r\nhost: admin\r\nauthorization: Bearer {TOKEN}\r\n");
    client.send(&format!("{head}content-length: {}\r\n\r\n{content}", content.len()));
    client.next()
}

/// A response with a tag, for ten minutes.
fn page(content: &str) -> String {
    let fields = "cache-control: max-age=600\r\nsurrogate-key: news\r\ncontent-length: 3";
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{content}")
}

#[test]
fn fa9_the_shield_has_purged_before_an_edge_is_told() {
    let (origin, edge, token) = (Origin::new(), Origin::new(), TempFile::new("token", TOKEN));
    let started = |admin: &[&str]| {
        Proxy::with_lines(&origin.upstream(), &[&["--edge", &edge.upstream()], admin].concat())
    };
    let (shield, admin) = operated(started, &token);
    ask(&shield, &origin, "/x", "", Some(&page("old"))).is("HTTP/1.1 200 OK", "old");
    let purge =
        std::thread::spawn(move || operate(&admin, "POST /purge", "{\"url\":\"http://a.example/x\"}"));
    let mut question = edge.asked("/");
    assert!(!question.message.head.contains(TOKEN), "{}", question.message.head);
    question.answer("HTTP/1.1 401 Unauthorized\r\nlarder-admin: 1\r\ncontent-length: 0\r\n\r\n");
    let mut told = edge.asked("/purge");
    assert_eq!(told.message.content, "{\"url\":\"http://a.example/x\"}");
    // An edge that fills itself again before it has answered gets new content.
    ask(&shield, &origin, "/x", "", Some(&page("new"))).is("HTTP/1.1 200 OK", "new");
    told.answer("HTTP/1.1 200 OK\r\nlarder-admin: 1\r\ncontent-length: 2\r\n\r\n{}");
    purge.join().unwrap().has("HTTP/1.1 200 OK");
}

#[test]
fn fa9_one_purge_goes_to_the_shield_and_its_edges_and_names_the_one_that_does_not_answer() {
    let (origin, secret, token) =
        (Origin::new(), TempFile::new("txt", SECRET), TempFile::new("token", TOKEN));
    let peers = ["--peer-token-file", secret.name()];
    // The edges come before the shield, whose port nobody else gets meanwhile.
    let reserved = Nobody::reserving();
    let (shield_at, shield_url) = (reserved.address.to_string(), format!("http://{}", reserved.address));
    let edge = || operated(|admin| Proxy::behind_with_lines(&shield_url, &[&peers, admin].concat()), &token);
    let edges = [edge(), edge()];
    let named: Vec<_> = edges.iter().flat_map(|(_, admin)| ["--edge", admin]).collect();
    let started = |admin: &[&str]| {
        Proxy::with_lines(
            &origin.upstream(),
            &[&["--listen", &shield_at], &peers[..], &named, admin].concat(),
        )
    };
    let (_shield, admin) = operated(started, &token);
    let purge = |order: &str| operate(&admin, "POST /purge", order);
    ask(&edges[0].0, &origin, "/x", "", Some(&page("old"))).is("HTTP/1.1 200 OK", "old");
    ask(&edges[1].0, &origin, "/x", "", None).is("HTTP/1.1 200 OK", "old");
    let purged = purge("{\"url\":\"http://a.example/x\"}").has("HTTP/1.1 200 OK");
    for (_, admin) in &edges {
        assert!(purged.content.contains(&format!("{{\"edge\":\"{admin}/\",\"status\":200}}")), "{purged:?}");
    }
    ask(&edges[0].0, &origin, "/x", "", Some(&page("new"))).is("HTTP/1.1 200 OK", "new");
    ask(&edges[1].0, &origin, "/x", "", None).is("HTTP/1.1 200 OK", "new");
    // One is gone: the other one and the shield have purged, and the answer says so.
    let [(left, _), (gone, gone_admin)] = edges;
    drop(gone);
    let purged = purge("{\"all\":true}").has("HTTP/1.1 502 Bad Gateway");
    assert!(
        purged.content.contains(&format!("purged here, but not at {gone_admin}/ (it can't be reached")),
        "{purged:?}"
    );
    ask(&left, &origin, "/x", "", Some(&page("end"))).is("HTTP/1.1 200 OK", "end");
}

#[test]
fn a19_a_listener_for_clients_is_no_edge_and_its_origin_gets_no_token() {
    let (origin, token) = (Origin::new(), TempFile::new("token", TOKEN));
    let clients = origin.proxy(&[]);
    let edge = ["--edge", &clients.url()];
    let (_shield, admin) =
        operated(|admin| Proxy::with_lines(&origin.upstream(), &[&edge, admin].concat()), &token);
    let mut client = Client::over(TcpStream::connect(admin.trim_start_matches("http://")).unwrap());
    let head = format!("POST /purge HTTP/1.1\r\nhost: admin\r\nauthorization: Bearer {TOKEN}\r\n");
    client.send(&format!("{head}content-length: 12\r\n\r\n{{\"all\":true}}"));
    // It says that it is one, and the proxy before it does not repeat that.
    let mut asked = origin.any();
    assert!(
        asked.message.head.starts_with("GET / ") && !asked.message.head.contains(TOKEN),
        "{}",
        asked.message.head
    );
    asked.answer("HTTP/1.1 200 OK\r\nlarder-admin: 1\r\ncontent-length: 2\r\n\r\nok");
    let answer = client.next().has("HTTP/1.1 502 Bad Gateway");
    assert!(answer.content.contains("what answers there is not an admin service"), "{answer:?}");
    origin.was_not_asked();
}

/// What one request gets, which the origin answers if `answer` says how.
#[track_caller]
fn ask(proxy: &Proxy, origin: &Origin, path: &str, fields: &str, answer: Option<&str>) -> Message {
    let mut client = Client::of(proxy);
    client.send(&format!("GET {path} HTTP/1.1\r\n{HOST}{fields}\r\n"));
    if let Some(answer) = answer {
        origin.asked(path).answer(answer);
    }
    client.next()
}

/// The fields of an edge's request.
fn mark(secret: &str) -> String {
    format!("larder-peer: {secret}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn f06_a_thousand_cold_requests_at_each_of_two_edges_make_one_call_at_the_origin() {
    const CONNECTIONS: usize = 10;
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
    let (secret, token) = (TempFile::new("txt", SECRET), TempFile::new("token", TOKEN));
    let peers = ["--peer-token-file", secret.name()];
    let upstream = format!("http://{origin}");
    let (shield, shield_admin) =
        operated(|admin| Proxy::with_lines(&upstream, &[&peers, admin].concat()), &token);
    let edge =
        || operated(|admin| Proxy::behind_with_lines(&shield.url(), &[&peers, admin].concat()), &token);
    let [(one, one_admin), (other, other_admin)] = [edge(), edge()];
    let edges = [one, other];
    let addresses: Vec<_> = edges.iter().map(|edge| edge.address).collect();
    let asked = wire::herds(&addresses, CONNECTIONS, STREAMS, "http://a.example/x").await;
    // All of them are there before there is an answer: at each edge one asks the shield and the others wait, and at the shield one
    // edge waits for the call of the other.
    let waiting = |admin: &str| {
        let stats: serde_json::Value =
            serde_json::from_str(&operate(admin, "GET /stats", "").content).unwrap();
        stats["fills"]["waiting"].as_u64().unwrap()
    };
    let others = (CONNECTIONS * STREAMS - 1) as u64;
    let all_wait = move || {
        in_time("all requests wait", || {
            let waiting = [&one_admin, &other_admin, &shield_admin].map(|admin| waiting(admin));
            (waiting == [others, others, 1]).then_some(())
        });
    };
    let waits = async {
        tokio::task::spawn_blocking(all_wait).await.unwrap();
        release.notify_one();
    };
    let both = async { tokio::join!(asked, waits) };
    let (answers, ()) = tokio::time::timeout(GUARD, both).await.expect("one call is enough for all");
    assert_eq!(answers.len(), 2 * CONNECTIONS * STREAMS);
    for (head, content) in answers {
        assert_eq!((head.status, &content[..]), (StatusCode::OK, &b"cold"[..]), "{head:?}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[test]
fn fa9_tags_and_lifetimes_for_caches_reach_the_edge_and_no_client_in_any_profile() {
    let fields = "surrogate-key: a b\r\nsurrogate-control: max-age=600\r\ncache-tag: a\r\ncdn-cache-control: max-age=600\r\n";
    let answer =
        format!("HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\n{fields}content-length: 1\r\n\r\nx");
    for profile in PROFILES {
        let Site { edge, origin, shield, secret: _secret } = Site::new(&["--profile", profile]);
        for answer in [Some(&*answer), None] {
            let got = ask(&edge, &origin, "/x", "", answer);
            for field in fields.lines() {
                got.head.lines().for_each(|line| assert_ne!(line, field, "{profile}"));
            }
            // As the edge got it.
            let seen = ask(&shield, &origin, "/x", &mark(SECRET), None);
            assert!(seen.head.contains("\r\ncache-status: larder; hit; ttl="), "{profile}: {seen:?}");
            for field in fields.lines() {
                assert!(seen.head.lines().any(|line| line == field), "{profile}: {field} in {seen:?}");
            }
        }
        origin.was_not_asked();
    }
}

#[test]
fn cs2_cache_status_and_x_cache_have_a_member_for_each_hop() {
    let Site { edge, origin, secret: _secret, shield: _shield } = Site::new(&[]);
    let answer = "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 1\r\n\r\nx";
    let told = |message: &Message| {
        let lines = message.head.lines().filter_map(|line| line.strip_prefix("cache-status: "));
        lines.collect::<Vec<_>>().join(", ")
    };
    let stored = "larder; fwd=uri-miss; stored; ttl=600";
    let miss = ask(&edge, &origin, "/x", "", Some(answer));
    assert_eq!(told(&miss), format!("{stored}, {stored}"));
    miss.has("\r\nvia: 1.1 larder, 1.1 larder\r\n").has("\r\nx-cache: MISS, MISS\r\n");
    // The edge's copy still has what the shield did when it was fetched.
    let hit = ask(&edge, &origin, "/x", "", None).has("\r\nx-cache: MISS, HIT\r\n");
    assert!(told(&hit).starts_with(&format!("{stored}, larder; hit; ttl=")), "{hit:?}");
    hit.has("\r\nx-cache-hits: 0, 1\r\n");
    // What a proxy makes itself is a member of the list as well.
    let mut client = Client::of(&edge);
    client.send("GET /x HTTP/1.1\r\nhost: ,\r\n\r\n");
    client.next().is("HTTP/1.1 400 Bad Request", "").has("\r\nx-cache: MISS\r\n");
    origin.was_not_asked();
}

#[test]
fn cs2_each_node_has_a_name_of_its_own_where_it_is_given_one() {
    let log = TempFile::new("log", "");
    let of_edge = ["--name", "edge-1", "--access-log", log.name()];
    let Site { edge, origin, secret: _secret, shield: _shield } = Site::with(&["--name", "shield"], &of_edge);
    let answer = "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 1\r\n\r\nx";
    ask(&edge, &origin, "/x", "", Some(answer));
    let hit = ask(&edge, &origin, "/x", "", None)
        .has("\r\nvia: 1.1 shield, 1.1 edge-1\r\n")
        .has("\r\nx-served-by: shield, edge-1\r\n");
    let told: Vec<_> = hit.head.lines().filter_map(|line| line.strip_prefix("cache-status: ")).collect();
    let told = told.join(", ");
    assert!(told.starts_with("shield; fwd=uri-miss; stored; ttl=600, edge-1; hit; ttl="), "{told}");
    // What they send to the next one.
    let mut client = Client::of(&edge);
    client.send(&format!("GET /y HTTP/1.1\r\n{HOST}\r\n"));
    let mut asked = origin.asked("/y");
    asked.message = asked
        .message
        .has("\r\nvia: 1.1 edge-1, 1.1 shield\r\n")
        .has("\r\ncdn-loop: edge-1-")
        .has(", shield-");
    asked.answer("HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 1\r\n\r\nx");
    client.next().has("\r\nvia: 1.1 shield, 1.1 edge-1\r\n");
    // What they answer themselves.
    client.send(&format!("OPTIONS /x HTTP/1.1\r\n{HOST}max-forwards: 0\r\n\r\n"));
    client.next().has("\r\ncache-status: edge-1; detail=\"max-forwards\"\r\n").has("\r\nvia: 1.1 edge-1\r\n");
    let mut other = Client::of(&edge);
    other.send("GET /x HTTP/1.1\r\nhost: ,\r\n\r\n");
    other.next().has("\r\ncache-status: edge-1; detail=\"invalid-host\"\r\n").has("\r\nvia: 1.1 edge-1\r\n");
    in_time("the request is logged", || {
        std::fs::read_to_string(log.path()).unwrap().contains("\"edge-1; hit; ttl=").then_some(())
    });
}

#[test]
fn cs2_a_refused_connection_and_an_origin_that_is_away_are_answered_in_the_name_as_well() {
    let origin = Origin::new();
    let proxy = origin.proxy(&["--name", "a1", "--max-connections", "1"]);
    let mut client = Client::of(&proxy);
    client.get("/x");
    let mut asked = origin.asked("/x");
    // The only slot is that of a client who waits for an answer.
    let mut refused = Client::of(&proxy);
    let refused = refused.next().has("\r\nvia: 1.1 a1\r\n");
    refused.has("\r\ncache-status: a1; detail=\"too-many-connections\"\r\n");
    asked.answer("HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 1\r\n\r\nx");
    client.next().has("\r\nvia: 1.1 a1\r\n");
    let nobody = Nobody::new();
    let proxy = Proxy::before(&format!("http://{}", nobody.address), &["--name", "a1"]);
    let mut client = Client::of(&proxy);
    client.get("/x");
    client
        .next()
        .has("\r\ncache-status: a1; fwd=uri-miss; detail=\"origin-unreachable\"\r\n")
        .has("via: 1.1 a1\r\n");
}

#[test]
fn fa6_whoever_shows_the_debug_token_to_an_edge_learns_what_the_shield_did_and_nobody_else() {
    const DEBUG: &str = "larder-debug: a-token-of-whoever-debugs\r\n";
    let token = TempFile::new("token", "a-token-of-whoever-debugs");
    let Site { edge, origin, secret: _secret, shield } = Site::new(&["--debug-token-file", token.name()]);
    let answer = "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 1\r\n\r\nx";
    let knows_nothing = |message: Message| {
        ["cache-status", "x-cache", "x-served-by"]
            .into_iter()
            .fold(message, |message, name| message.lacks(name))
    };
    knows_nothing(ask(&edge, &origin, "/x", "", Some(answer)));
    let hit = ask(&edge, &origin, "/x", DEBUG, None).has("\r\nx-cache: MISS, HIT\r\n");
    hit.has("\r\ncache-status: larder; fwd=uri-miss; stored; ttl=600, larder; hit; ttl=");
    knows_nothing(ask(&edge, &origin, "/x", "", None));
    let miss = ask(&edge, &origin, "/y", DEBUG, Some(answer)).has("\r\nx-cache: MISS, MISS\r\n");
    miss.has("\r\nx-served-by: larder, larder\r\n");
    // At the shield, the same: an edge gets to know, and a client does not, also where the proxy itself answers.
    ask(&shield, &origin, "/x", &mark(SECRET), None)
        .has("\r\nx-cache: HIT\r\n")
        .has("\r\ncache-status: larder; hit;");
    knows_nothing(ask(&shield, &origin, "/z", "", Some(answer)));
    let loops = "cdn-loop: larder\r\nmax-forwards: 0\r\n";
    for (fields, is_told) in [(mark(SECRET), true), (String::new(), false)] {
        let mut client = Client::of(&shield);
        client.send(&format!("OPTIONS /x HTTP/1.1\r\n{HOST}{loops}{fields}\r\n"));
        let own = client.next().has("HTTP/1.1 200 OK");
        if is_told {
            own.has("detail=\"max-forwards\"")
        } else {
            knows_nothing(own)
        };
    }
}

#[test]
fn cs2_the_profile_fastly_says_x_cache_in_fastlys_form_without_peers() {
    let origin = Origin::new();
    let proxy = origin.proxy(&["--profile", "fastly"]);
    let answer = "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 1\r\n\r\nx";
    let miss = ask(&proxy, &origin, "/x", "", Some(answer));
    miss.has("\r\nx-cache: MISS\r\n").has("\r\nx-cache-hits: 0\r\n").has("\r\nx-served-by: larder\r\n");
    for hits in 1..3 {
        let hit = ask(&proxy, &origin, "/x", "", None).has("\r\nx-cache: HIT\r\n");
        hit.has(&format!("\r\nx-cache-hits: {hits}\r\n"));
    }
    let mut client = Client::of(&proxy);
    client.send("GET /x HTTP/1.1\r\nhost: ,\r\n\r\n");
    client.next().is("HTTP/1.1 400 Bad Request", "").has("\r\nx-cache: MISS\r\n");
}

#[test]
fn fa9_an_edge_says_who_its_client_is_and_the_origin_learns_it() {
    let (authority, secret, origin) = (Authority::new(), TempFile::new("txt", SECRET), Origin::new());
    let issued = authority.issue(&["localhost"]);
    let peers = ["--peer-token-file", secret.name(), "--viewer-headers"];
    let shield = origin.proxy(&[&peers[..], &["--host", "upstream"]].concat());
    let edge = Proxy::behind(&shield.url(), &[&peers, &issued.options()[..]].concat());
    let mut client = TlsClient::new(authority.client(&["http/1.1"]), edge.address, "localhost");
    let forged = "cloudfront-viewer-country: XX\r\nfastly-ssl: 1\r\nx-forwarded-proto: gopher\r\n";
    client.send(format!("GET /x HTTP/1.1\r\n{HOST}{forged}\r\n")).unwrap();
    let mut asked = origin.asked("/x");
    asked.message = asked
        .message
        .has("\r\nx-forwarded-proto: https\r\n")
        .has("\r\nx-forwarded-host: a.example\r\n")
        .has("\r\nx-forwarded-for: 127.0.0.1, 127.0.0.1\r\n")
        .has("\r\nvia: 1.1 larder, 1.1 larder\r\n")
        .has("\r\ncloudfront-forwarded-proto: https\r\n")
        .has(&format!("\r\ncloudfront-viewer-address: {}\r\n", client.0.get_ref().sock.local_addr().unwrap()))
        .lacks("cloudfront-viewer-country")
        .lacks("fastly-ssl")
        .lacks("larder-peer")
        .lacks(SECRET);
    // The shield knows what the origin is called, and by which name the client has asked.
    let location =
        format!("HTTP/1.1 302 Found\r\nlocation: {}/y\r\ncontent-length: 0\r\n\r\n", origin.upstream());
    asked.answer(&location);
    client.next().is("HTTP/1.1 302 Found", "").has("\r\nlocation: https://a.example/y\r\n");
}

#[test]
fn a_forged_mark_makes_no_peer_and_reaches_nobody() {
    let Site { edge, origin, secret: _secret, shield } = Site::new(&[]);
    let answer =
        "HTTP/1.1 200 OK\r\ncache-control: no-store\r\nsurrogate-key: a\r\ncontent-length: 1\r\n\r\nx";
    let (short, long) = (&SECRET[..SECRET.len() - 1], format!("{SECRET}x"));
    for forged in ["", "x", short, &long, &SECRET.to_uppercase(), &format!("{SECRET}, {SECRET}")] {
        for proxy in [&shield, &edge] {
            let mut client = Client::of(proxy);
            let fields =
                format!("{}x-forwarded-proto: https\r\ncloudfront-viewer-country: XX\r\n", mark(forged));
            client.send(&format!("GET /x HTTP/1.1\r\n{HOST}{fields}\r\n"));
            let mut asked = origin.asked("/x");
            asked.message = asked
                .message
                .lacks("larder-peer")
                .lacks("cloudfront-viewer-country")
                .has("\r\nx-forwarded-proto: http\r\n");
            asked.answer(answer);
            client.next().is("HTTP/1.1 200 OK", "x").lacks("surrogate-key");
        }
    }
    // Twice is no mark either.
    let twice = mark(SECRET) + &mark(SECRET);
    ask(&shield, &origin, "/x", &twice, Some(answer)).lacks("surrogate-key");
    // A proxy that knows no peers removes it as well.
    let alone = origin.proxy(&[]);
    let mut client = Client::of(&alone);
    client.send(&format!("GET /x HTTP/1.1\r\n{HOST}{}\r\n", mark(SECRET)));
    let mut asked = origin.asked("/x");
    asked.message = asked.message.lacks("larder-peer");
    asked.answer(answer);
    client.next().is("HTTP/1.1 200 OK", "x");
}

#[test]
fn the_secret_is_in_no_answer_to_a_trace() {
    let Site { edge, origin, secret: _secret, shield } = Site::new(&[]);
    for (proxy, left, fields) in [(&edge, 1, String::new()), (&shield, 0, mark(SECRET))] {
        let mut client = Client::of(proxy);
        client.send(&format!("TRACE /x HTTP/1.1\r\n{HOST}max-forwards: {left}\r\n{fields}\r\n"));
        let answer = client.next().has("HTTP/1.1 200 OK").has("detail=\"max-forwards\"");
        let text = format!("{}{}", answer.head, answer.content).to_lowercase();
        assert!(
            text.contains("trace /x") && !text.contains("larder-peer") && !text.contains(SECRET),
            "{text}"
        );
    }
    origin.was_not_asked();
}

#[test]
fn fa9_a_peer_gets_nothing_stale_while_it_is_validated_and_a_client_does_in_any_profile() {
    let answer = |content| {
        let windows = "max-age=0, stale-while-revalidate=600, stale-if-error=600";
        format!("HTTP/1.1 200 OK\r\ncache-control: {windows}\r\ncontent-length: 3\r\n\r\n{content}")
    };
    for profile in PROFILES {
        let Site { origin, secret: _secret, shield, .. } = Site::new(&["--profile", profile]);
        for fields in [String::new(), mark(SECRET)] {
            ask(&shield, &origin, "/x", &fields, Some(&answer("old"))).is("HTTP/1.1 200 OK", "old");
        }
        let client = ask(&shield, &origin, "/x", "", None).is("HTTP/1.1 200 OK", "old");
        client.has("detail=\"stale-while-revalidate\"");
        origin.asked("/x").answer(&answer("new"));
        let peer = ask(&shield, &origin, "/x", &mark(SECRET), Some(&answer("new")));
        peer.is("HTTP/1.1 200 OK", "new").has("; fwd=stale; ");
        let failed = "HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n";
        let peer = ask(&shield, &origin, "/x", &mark(SECRET), Some(failed));
        peer.is("HTTP/1.1 200 OK", "new").has("detail=\"stale-if-error\"");
    }
}

#[test]
fn fa9_what_is_made_for_browsers_is_made_at_the_edge_alone() {
    let policy = TempFile::new(
        "toml",
        "[default]\nbrowser_lifetime = \"5s\"\n[default.error_pages]\n503 = \"/sorry\"\n",
    );
    let Site { edge, origin, secret: _secret, shield } = Site::new(&["--policy", policy.name()]);
    let answer = "HTTP/1.1 200 OK\r\ncache-control: public, max-age=60\r\ncontent-length: 1\r\n\r\nx";
    let client = ask(&edge, &origin, "/x", "", Some(answer));
    client.has("\r\ncache-control: public, max-age=5\r\n");
    ask(&shield, &origin, "/x", &mark(SECRET), None).has("\r\ncache-control: public, max-age=60\r\n");
    // The edge asks for the page by itself, the shield gives the error.
    let lost = "HTTP/1.1 503 Away\r\ncontent-length: 4\r\n\r\nlost";
    let peer = ask(&shield, &origin, "/lost", &mark(SECRET), Some(lost));
    peer.is("HTTP/1.1 503 Away", "lost");
    let mut client = Client::of(&edge);
    client.get("/lost");
    origin.asked("/lost").answer(lost);
    origin.asked("/sorry").answer("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nsorry");
    let page = client.next();
    assert_eq!(page.content, "sorry", "{page:?}");
}

#[test]
fn a_loop_of_edge_and_shield_is_refused() {
    let secret = TempFile::new("txt", SECRET);
    let peers = ["--peer-token-file", secret.name()];
    let reserved = Nobody::reserving();
    let shield = Proxy::before(&format!("http://{}", reserved.address), &peers);
    let edge = Proxy::at(reserved.address, &[&["--shield", &shield.url()][..], &peers].concat());
    let edge = edge.expect("the port is reserved");
    for proxy in [&edge, &shield] {
        let mut client = Client::of(proxy);
        client.get("/x");
        client.next().is("HTTP/1.1 508 Loop Detected", "");
    }
}

#[test]
fn while_the_shield_is_away_the_origin_is_asked_directly_and_gets_no_mark() {
    let (origin, nobody, secret) = (Origin::new(), Nobody::new(), TempFile::new("txt", SECRET));
    let upstream = origin.upstream();
    let shield = format!("http://{}", nobody.address);
    let edge = Proxy::behind(&shield, &["--peer-token-file", secret.name(), "--upstream", &upstream]);
    let mut client = Client::of(&edge);
    for turn in 0..5 {
        let path = format!("/{turn}");
        client.get(&path);
        let mut asked = origin.asked(&path);
        asked.message = asked.message.lacks("larder-peer").lacks(SECRET);
        asked.answer("HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 1\r\n\r\nx");
        client.next().is("HTTP/1.1 200 OK", "x");
    }
    // With nobody else to ask, it is an error.
    let edge = Proxy::behind(&shield, &["--peer-token-file", secret.name()]);
    let mut client = Client::of(&edge);
    client.get("/x");
    client.next().is("HTTP/1.1 502 Bad Gateway", "").has("detail=\"origin-unreachable\"");
}

#[test]
fn a_secret_is_replaced_without_a_gap() {
    const NEW: &str = "another-secret-of-the-owner";
    let (origin, secret) = (Origin::new(), TempFile::new("txt", SECRET));
    let (shield, lines) = Proxy::with_lines(&origin.upstream(), &["--peer-token-file", secret.name()]);
    let answer =
        "HTTP/1.1 200 OK\r\ncache-control: no-store\r\nsurrogate-key: a\r\ncontent-length: 1\r\n\r\nx";
    let is_peer =
        |shown: &str| ask(&shield, &origin, "/x", &mark(shown), Some(answer)).head.contains("surrogate-key");
    assert_eq!((is_peer(SECRET), is_peer(NEW)), (true, false));
    for (content, expected) in [
        (format!("{SECRET}\n{NEW}\n"), (true, true)),
        (format!("{NEW}\n"), (false, true)),
        // What can't be used changes nothing.
        ("short".to_owned(), (false, true)),
    ] {
        secret.write(&content);
        shield.signal("HUP");
        let line = lines.recv_timeout(GUARD).unwrap();
        assert!(line.starts_with("larder: the peer tokens "), "{line}");
        assert!(!line.contains(SECRET) && !line.contains(NEW), "{line}");
        assert_eq!((is_peer(SECRET), is_peer(NEW)), expected, "{content}");
    }
}

#[test]
fn what_is_wrong_with_the_options_of_peers_is_said_at_the_start() {
    let file = |content| TempFile::new("txt", content);
    let shield = "--shield=http://127.0.0.1:1";
    for (content, said) in [
        ("", "has no token"),
        ("\n \n", "has no token"),
        ("short", "line 1 is not a token"),
        ("a-secret-of-the-owner\n\nwith a space in it", "line 3 is not a token"),
        ("a-secret-of-the-öwner", "line 1 is not a token"),
    ] {
        let file = file(content);
        let output = run(&["proxy", shield, "--listen=127.0.0.1:0", "--peer-token-file", file.name()]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{text}");
        assert!(text.contains(&format!("--peer-token-file {}: {said}", file.name())), "{said}: {text}");
        assert!(content.trim().is_empty() || !text.contains(content), "it is not shown: {text}");
    }
    for (arguments, said) in [
        (&[shield][..], "--shield goes with --peer-token-file"),
        (&[shield, "--peer-token-file=/no/such"], "--peer-token-file /no/such: can't be read"),
        (&["--shield=127.0.0.1"], "'127.0.0.1' is not an upstream URL"),
    ] {
        let output = run(&[&["proxy", "--listen=127.0.0.1:0"], arguments].concat());
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{text}");
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn a_peers_request_may_have_the_fields_that_its_edge_adds() {
    let Site { edge, origin, secret: _secret, shield } = Site::new(&["--max-fields", "10"]);
    // As many as a client may have, and more than it may have.
    for (count, status) in [(9, "HTTP/1.1 200 OK"), (10, "HTTP/1.1 431 Request Header Fields Too Large")] {
        let fields: String = (0..count).map(|number| format!("x-{number}: 1\r\n")).collect();
        for proxy in [&edge, &shield] {
            let mut stream = TcpStream::connect(proxy.address).unwrap();
            stream.write_all(format!("GET /{count} HTTP/1.1\r\n{HOST}{fields}\r\n").as_bytes()).unwrap();
            let mut client = Client::over(stream);
            if status.ends_with("OK") {
                origin
                    .asked(&format!("/{count}"))
                    .answer("HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 1\r\n\r\nx");
            }
            let head = client.try_head().unwrap();
            assert!(head.starts_with(status), "{count}: {head}");
        }
    }
}
