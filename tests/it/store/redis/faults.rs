//! Servers that hang, are gone or refuse, and connections that break: requests are answered by the origin, and purges are not lost
//! (F10).

use std::time::Duration;

use larder::store::{PurgeMode, PurgeTarget, RedisAdvice, RedisConfig, RedisStore, Store};
use larder::{CacheKey, PurgeError};

use super::{HIT, Node, config, namespace, until};
use crate::support::Reply;
use crate::support::faulty::{Faults, Faulty};
use crate::support::servers::{Kind, Server, free_port};

/// Short, for a server that does not answer at all.
const DEADLINE: Duration = Duration::from_millis(40);

fn key() -> CacheKey {
    CacheKey::from_uri(&"http://example.com/".parse().unwrap()).unwrap()
}

fn short(url: &str) -> RedisConfig {
    config(url).deadline(DEADLINE).content_deadline(DEADLINE)
}

/// Requests are answered by the origin, the first few after a try, and then nothing is sent any more.
async fn is_left_alone(node: &Node) {
    node.bench.origin.then(Reply::cc("of the origin", "max-age=60"));
    let ask = async || {
        let before = node.bench.origin.calls();
        let seen = node.get("/").await.has_body("of the origin");
        assert!(seen.cache_status().starts_with("larder; fwd=miss"), "{seen:?}");
        assert_eq!(node.bench.origin.calls(), before + 1);
    };
    let mut tried = 0;
    while !node.health().is_open {
        ask().await;
        tried += 1;
    }
    assert!(tried <= 8, "eight failures are enough, and there were {tried} requests");
    let before = node.health().commands;
    for _ in 0..200 {
        ask().await;
    }
    // One for each request would be 200. A probe is sent four times a second.
    let sent = node.health().commands - before;
    assert!(sent < 100, "{sent} commands for 200 requests while nothing is sent");
}

#[tokio::test]
async fn f10_a_frozen_server_costs_the_first_requests_the_deadline_and_the_others_nothing() {
    let server = Server::start(Kind::Redis);
    let node = Node::new(short(&server.url()));
    // However slow it is to start.
    while node.store.get(&key()).await.is_err() {}
    server.freeze();
    is_left_alone(&node).await;
    server.thaw();
    until("the server was to be found", || !node.health().is_open).await;
}

#[tokio::test]
async fn f10_one_request_waits_for_a_frozen_server_once() {
    let server = Server::start(Kind::Redis);
    let (heard, mut advice) = tokio::sync::mpsc::unbounded_channel();
    let node = Node::new(short(&server.url()).on_advice(move |advice| drop(heard.send(advice.clone()))));
    while node.store.get(&key()).await.is_err() {}
    // The last command that nobody has asked for.
    while advice.recv().await != Some(RedisAdvice::NoReplica) {}
    server.freeze();
    node.bench.origin.then(Reply::cc("of the origin", "max-age=60"));
    let before = node.health().commands;
    node.get("/").await.has_body("of the origin");
    assert_eq!(node.health().commands - before, 1, "the record with the state of the log");
}

#[tokio::test]
async fn f10_a_server_that_is_gone_is_left_alone_until_it_is_back() {
    let mut server = Server::start(Kind::Valkey);
    let node = Node::new(config(&server.url()));
    node.fill("/", "before").await;
    server.kill();
    is_left_alone(&node).await;
    server.restart();
    until("the server was to be found", || !node.health().is_open).await;
    node.fill("/", "after").await;
    node.get("/").await.has_body("after").told(HIT);
}

#[tokio::test]
async fn f10_a_server_that_was_never_there_is_left_alone() {
    is_left_alone(&Node::new(config(&format!("redis://127.0.0.1:{}", free_port())))).await;
    is_left_alone(&Node::new(config(&format!("redis-cluster://127.0.0.1:{}", free_port())))).await;
    is_left_alone(&Node::new(config(&format!("redis-sentinel://127.0.0.1:{}/main", free_port())))).await;
}

#[tokio::test]
async fn f10_a_server_that_accepts_and_says_nothing_is_left_alone() {
    let server = Server::start(Kind::Redis);
    let proxy = Faulty::before(server.port);
    proxy.set(Faults { stalls: true, ..Faults::default() });
    let node = Node::new(short(&proxy.url()));
    is_left_alone(&node).await;
    proxy.set(Faults::default());
    until("the server was to be found", || !node.health().is_open).await;
}

#[tokio::test]
async fn a_connection_that_was_closed_is_made_again_without_a_request_that_fails() {
    let server = Server::start(Kind::Redis);
    let node = Node::new(config(&server.url()));
    node.fill("/", "x").await;
    for connections in 2..5 {
        server.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
        node.get("/").await.has_body("x").told(HIT);
        assert_eq!(node.health().connections, connections);
    }
}

#[tokio::test]
async fn a_connection_that_never_answers_is_dropped_and_another_one_made() {
    let server = Server::start(Kind::Redis);
    let proxy = Faulty::before(server.port);
    let node = Node::new(short(&proxy.url()));
    while node.store.get(&key()).await.is_err() {}
    let connections = node.health().connections;
    proxy.set(Faults { stalls: true, ..Faults::default() });
    is_left_alone(&node).await;
    proxy.set(Faults::default());
    until("the server was to be found", || !node.health().is_open).await;
    assert!(node.health().connections > connections);
}

/// Two nodes that share everything, one of which asks through a proxy.
async fn one_behind(server: &Server) -> (Node, Faulty, Node) {
    let namespace = namespace();
    let proxy = Faulty::before(server.port);
    let one = Node::new(config(&proxy.url()).namespace(&namespace));
    let other = Node::new(config(&server.url()).namespace(&namespace));
    one.fill("/", "old").await;
    other.get("/").await.has_body("old").told(HIT);
    (one, proxy, other)
}

#[tokio::test]
async fn f10_a_purge_that_can_not_arrive_is_an_error_and_arrives_before_anything_is_read() {
    let server = Server::start(Kind::Redis);
    let (one, proxy, other) = one_behind(&server).await;
    proxy.set(Faults { refuses: true, ..Faults::default() });
    proxy.cut();
    let purged = one.purge(PurgeTarget::tag("news")).await;
    assert!(matches!(purged, Err(PurgeError::Store(_))), "{purged:?}");
    assert_eq!(one.health().purges_to_repeat, 1);
    other.get("/").await.has_body("old").told(HIT);
    is_left_alone(&one).await;
    proxy.set(Faults::default());
    // From the first look-up on that is answered.
    until("the server was to be found", || !one.health().is_open).await;
    one.bench.origin.then(Reply::cc("new", "max-age=60"));
    one.get("/").await.has_body("new");
    assert_eq!(one.health().purges_to_repeat, 0);
    other.get("/").await.has_body("new").told(HIT);
}

#[tokio::test]
async fn f10_a_purge_whose_answer_is_lost_is_an_error_and_is_made_once_more() {
    let server = Server::start(Kind::Redis);
    let (one, proxy, other) = one_behind(&server).await;
    other.purge(PurgeTarget::tag("other")).await.unwrap(); // so that it has the script
    one.get("/").await.has_body("old").told(HIT);
    // The server does what it is asked, and nobody hears of it.
    let (_, down) = proxy.passed();
    proxy.set(Faults { cut_down: Some(down), refuses: true, ..Faults::default() });
    one.purge(PurgeTarget::All).await.unwrap_err();
    other.fill("/", "new").await;
    proxy.set(Faults::default());
    until("the purge was to be made", || one.health().purges_to_repeat == 0).await;
    // An equal entry in the log may be an earlier one of another node, so nobody relies on it.
    while one.get("/").await.body == "new" {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What a connection passes that is not cut, and then each number of bytes less, up and down.
async fn cut_everywhere(try_it: impl AsyncFn(Faults) -> (u64, u64)) {
    let (up, down) = try_it(Faults::default()).await;
    for bytes in 0..up {
        try_it(Faults { cut_up: Some(bytes), ..Faults::default() }).await;
    }
    for bytes in 0..down {
        try_it(Faults { cut_down: Some(bytes), ..Faults::default() }).await;
    }
}

#[tokio::test]
async fn f10_a_connection_that_is_cut_at_any_byte_of_a_look_up_gives_the_right_answer_or_none() {
    let server = Server::start(Kind::Redis);
    Node::new(config(&server.url())).fill("/", "stored").await;
    cut_everywhere(async |faults| {
        let proxy = Faulty::before(server.port);
        proxy.set(faults);
        if let Ok(found) = RedisStore::new(config(&proxy.url())).unwrap().get(&key()).await {
            let contents = found.variants.iter().map(|stored| stored.response.payload().to_bytes().unwrap());
            assert_eq!(contents.collect::<Vec<_>>(), ["stored"], "{faults:?}");
        }
        proxy.passed()
    })
    .await;
}

#[tokio::test]
async fn f10_a_connection_that_is_cut_at_any_byte_of_a_purge_loses_no_purge_that_has_succeeded() {
    let server = Server::start(Kind::Redis);
    let other = Node::new(config(&server.url()));
    other.purge(PurgeTarget::All).await.unwrap(); // so that the server has the script
    cut_everywhere(async |faults| {
        let is_stored = async || !other.store.get(&key()).await.unwrap().variants.is_empty();
        if !is_stored().await {
            other.fill("/", "stored").await;
        }
        let proxy = Faulty::before(server.port);
        proxy.set(faults);
        let store = RedisStore::new(config(&proxy.url())).unwrap();
        match store.invalidate(&[PurgeTarget::tag("news")], PurgeMode::Remove).await {
            Ok(_) => assert!(!is_stored().await, "{faults:?}"),
            Err(_) => assert_eq!(store.health().purges_to_repeat, 1, "{faults:?}"),
        }
        proxy.passed()
    })
    .await;
}

#[tokio::test]
async fn content_in_chunks_whose_connection_breaks_off_never_ends_cleanly() {
    let server = Server::start(Kind::Redis);
    let namespace = namespace();
    let of = |url: &str| config(url).namespace(&namespace).chunk(16 << 10);
    let content = "0123456789".repeat(20_000);
    Node::new(of(&server.url())).fill("/", &content).await;
    let proxy = Faulty::before(server.port);
    let node = Node::new(of(&proxy.url()));
    node.get("/").await.has_body(&content).told(HIT);
    let (_, down) = proxy.passed();
    for part in 1..16 {
        proxy.cut();
        let bytes = down / 16 * part;
        proxy.set(Faults { cut_down: Some(bytes), refuses: false, ..Faults::default() });
        let body = node.store.get(&key()).await.ok().and_then(|lookup| {
            lookup.variants.first().and_then(|stored| stored.response.payload().as_remote())
        });
        let Some(remote) = body else { continue };
        // Whoever reads gets all of it over another connection, or an error.
        if let Ok(Some(body)) = node.store.open(&key(), remote, None).await
            && let Ok(read) = http_body_util::BodyExt::collect(body).await
        {
            assert!(read.to_bytes() == content.as_bytes(), "cut after {bytes} bytes");
        }
    }
}
