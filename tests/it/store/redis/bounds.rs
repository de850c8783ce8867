//! What a client, a record or a caller can take up: no more than its share.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use http_body_util::BodyExt;
use larder::CacheKey;
use larder::store::record::RecordNames;
use larder::store::{PurgeTarget, RedisStore, Store};

use super::{HIT, Node, config, namespace, until};
use crate::support::Reply;
use crate::support::faulty::{Faults, Faulty};
use crate::support::servers::{Kind, Server};

fn key(path: &str) -> CacheKey {
    CacheKey::from_uri(&format!("http://example.com{path}").parse().unwrap()).unwrap()
}

#[tokio::test]
async fn clients_that_stop_reading_keep_nobody_from_the_server() {
    /// Two chunks ahead for each are more than the commands that may be on their way.
    const CLIENTS: usize = 2_100;
    let server = Server::start(Kind::Redis);
    let node = Node::new(config(&server.url()).chunk(16 << 10));
    let content = "0123456789".repeat(10_000);
    node.fill("/", &content).await;
    let found = node.store.get(&key("/")).await.unwrap();
    let remote = found.variants[0].response.payload().as_remote().unwrap();
    let mut bodies = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        let mut body = node.store.open(&key("/"), remote, None).await.unwrap().unwrap();
        body.frame().await.unwrap().unwrap();
        bodies.push(body);
    }
    node.store.get(&key("/")).await.unwrap();
    node.purge(PurgeTarget::tag("other")).await.unwrap();
    // And whoever goes on reading gets the rest.
    let rest = bodies.pop().unwrap().collect().await.unwrap().to_bytes();
    assert!(rest == content.as_bytes()[16 << 10..]);
}

#[tokio::test]
async fn f10_a_put_that_has_to_wait_for_another_one_of_its_node_waits_no_longer_than_its_deadline() {
    let server = Server::start(Kind::Redis);
    let namespace = namespace();
    let of = |limit| config(&server.url()).namespace(&namespace).deadline(limit).content_deadline(limit);
    Node::new(of(Duration::from_secs(20))).fill("/", "x").await;
    let store = RedisStore::new(of(Duration::from_millis(40))).unwrap();
    let found = loop {
        if let Ok(found) = store.get(&key("/")).await {
            break found;
        }
    };
    let (at, stored) = (key("/"), &found.variants[0]);
    let put = || store.put(&at, stored.response.clone(), found.fence);
    let mut stopped = Box::pin(put());
    assert!((&mut stopped).now_or_never().is_none());
    let freshening = store.freshen(&at, stored.id, stored.response.head().clone(), found.fence);
    for error in [put().await.unwrap_err(), freshening.await.unwrap_err()] {
        assert!(error.is_timeout(), "{error}");
    }
    assert!(!store.health().is_open, "the server is well");
}

#[tokio::test]
async fn look_ups_that_saw_the_log_before_the_last_purge_share_a_reading_of_it() {
    const LOOK_UPS: usize = 64;
    let server = Server::start(Kind::Redis);
    let namespace = namespace();
    let proxy = Faulty::before(server.port);
    let one = Node::new(config(&proxy.url()).namespace(&namespace));
    let other = Node::new(config(&server.url()).namespace(&namespace));
    one.fill("/", "x").await;
    one.get("/").await.told(HIT);
    other.purge(PurgeTarget::tag("other")).await.unwrap();
    let asked = || {
        let calls = server.ask(&["INFO", "commandstats"]).text();
        let calls = calls.lines().filter(|line| line.starts_with("cmdstat_mget:"));
        calls.map(str::to_owned).collect::<String>()
    };
    let (before, sent) = (asked(), one.health().commands);
    proxy.set(Faults { stalls_down: true, ..Faults::default() });
    let look_ups = join_all((0..LOOK_UPS).map(|_| async { one.store.get(&key("/")).await.unwrap() }));
    let purge = async {
        // Their answers are on the way, and say nothing of this one.
        until("the server was to be asked", || asked() != before).await;
        other.purge(PurgeTarget::tag("other again")).await.unwrap();
        proxy.set(Faults::default());
    };
    futures_util::future::join(look_ups, purge).await;
    let sent = one.health().commands - sent;
    assert!(sent < 16, "{sent} commands for {LOOK_UPS} look-ups");
}

#[tokio::test]
async fn a_record_that_grows_with_each_variant_loses_the_oldest_ones_before_it_is_large() {
    let server = Server::start(Kind::Redis);
    let namespace = namespace();
    let node = Node::new(config(&server.url()).namespace(&namespace));
    let content = "x".repeat(30_000);
    let language = |number: usize| format!("x-{number}");
    for number in 0..60 {
        node.bench.origin.then(Reply::cc(&content, "max-age=60").field("vary", "accept-language"));
        node.bench.get_with("/", &[("accept-language", &language(number))]).await.has_body(&content);
    }
    let length = server.ask(&["STRLEN", &RecordNames::new(&namespace).of(&key("/"))]).number();
    assert!((900_000..1_100_000).contains(&length), "{length} bytes");
    node.bench.get_with("/", &[("accept-language", &language(59))]).await.told(HIT);
}

#[tokio::test]
async fn times_without_an_end_are_times() {
    let server = Server::start(Kind::Redis);
    let config = config(&server.url()).deadline(Duration::MAX).content_deadline(Duration::MAX);
    let node = Node::new(config.clone());
    node.fill("/", "x").await;
    node.purge(PurgeTarget::tag("news")).await.unwrap();
    let waiting = RedisStore::new(config.wait_for_replicas(1, Duration::MAX)).unwrap();
    let purge = [PurgeTarget::tag("news")];
    let mut purge = Box::pin(waiting.invalidate(&purge, larder::store::PurgeMode::Remove));
    // There is no replica, so it is waited for.
    assert!((&mut purge).now_or_never().is_none());
    until("the purge was to be there", || {
        server.ask(&["INFO", "clients"]).text().contains("blocked_clients:1")
    })
    .await;
    assert!((&mut purge).now_or_never().is_none());
}
