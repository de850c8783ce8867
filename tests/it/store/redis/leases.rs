//! Leases on real servers: one call for all nodes, whatever becomes of the node that makes it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, StatusCode};
use larder::semantics::reuse::Reuse;
use larder::semantics::vary::Selecting;
use larder::store::{
    Fence, Lease, LeaseAnswer, LeaseEnd, LeaseName, LeaseState, Leases, PutOutcome, RedisConfig, RedisLeases,
    RedisStore, Store,
};
use larder::{BoxStore, CacheKey, CacheLayer, Clock, HeadParts, Payload, ResponseHead, StoredResponse};
use tower::Layer;

use crate::support::Stage;
use crate::support::servers::{Answer, Cluster, Kind, Server};
use crate::support::stepped::Stepped;

/// Nodes of a namespace that nobody else has.
fn nodes<const N: usize>(url: &str) -> [RedisStore; N] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let namespace = format!("leases-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    [(); N].map(|()| {
        let config: RedisConfig = url.parse().unwrap();
        RedisStore::new(config.namespace(&namespace).deadline(Duration::from_secs(20))).unwrap()
    })
}

/// Waits for what tasks and servers do.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited)
        .await
        .unwrap_or_else(|_| panic!("{what} for a minute"));
}

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

fn key(path: &str) -> CacheKey {
    CacheKey::from_uri(&format!("http://example.com{path}").parse().unwrap()).unwrap()
}

async fn granted(leases: &RedisLeases, name: LeaseName<'_>) -> Box<dyn Lease> {
    match leases.ask(name).await.unwrap() {
        LeaseAnswer::Granted(lease) => lease,
        other => panic!("{other:?}"),
    }
}

/// Waits for the end of a lease that another node has.
fn held(answer: LeaseAnswer) -> tokio::task::JoinHandle<LeaseEnd> {
    match answer {
        LeaseAnswer::Held(held) => tokio::spawn(held),
        other => panic!("{other:?}"),
    }
}

/// Leases of two nodes of one namespace.
async fn are_given_to_one_node_at_a_time(first: &RedisStore, second: &RedisStore) {
    let (first, second) = (first.leases(), second.leases());
    let (key, other) = (key("/"), key("/other"));
    let name = LeaseName::new(&key);
    assert_eq!(second.look(name).await.unwrap(), LeaseState::Free);
    let lease = granted(&first, name).await;
    assert_eq!(second.look(name).await.unwrap(), LeaseState::Held);
    let mut ends = Vec::new();
    for _ in 0..3 {
        ends.push(held(second.ask(name).await.unwrap()));
    }
    // Other names are other leases.
    let mut with_credentials = LeaseName::new(&key);
    with_credentials.has_credentials = true;
    let mut variant = LeaseName::new(&key);
    variant.variant = Some(b"de");
    for name in [with_credentials, variant, LeaseName::new(&other)] {
        drop(granted(&second, name).await);
    }
    assert!(ends.iter().all(|end| !end.is_finished()));
    lease.end(LeaseEnd::Over);
    for end in ends {
        assert_eq!(end.await.unwrap(), LeaseEnd::Over);
    }
    // What other nodes have to know for a while, those learn who ask later, too.
    let minute = Duration::from_secs(60);
    let lease = granted(&second, name).await;
    let end = held(first.ask(name).await.unwrap());
    lease.end(LeaseEnd::NotShareable(minute));
    for end in [end, held(first.ask(name).await.unwrap())] {
        match end.await.unwrap() {
            LeaseEnd::NotShareable(left) => assert!(left <= minute && !left.is_zero()),
            other => panic!("{other:?}"),
        }
    }
    let found = first.look(name).await.unwrap();
    assert!(matches!(found, LeaseState::NotShareable(left) if left <= minute && !left.is_zero()));
    let name = LeaseName::new(&other);
    let lease = loop {
        // The one from above is given back in the background.
        match first.ask(name).await.unwrap() {
            LeaseAnswer::Granted(lease) => break lease,
            LeaseAnswer::Held(held) => drop(held.await),
            other => panic!("{other:?}"),
        }
    };
    let end = held(second.ask(name).await.unwrap());
    lease.end(LeaseEnd::Failed(minute));
    assert!(matches!(end.await.unwrap(), LeaseEnd::Failed(left) if left <= minute && !left.is_zero()));
    let found = second.look(name).await.unwrap();
    assert!(matches!(found, LeaseState::Resting(left) if left <= minute && !left.is_zero()));
    match second.ask(name).await.unwrap() {
        LeaseAnswer::Resting(left) => assert!(left <= minute && !left.is_zero()),
        other => panic!("{other:?}"),
    }
}

async fn two_nodes(url: &str) {
    let [first, second] = nodes(url);
    are_given_to_one_node_at_a_time(&first, &second).await;
}

#[tokio::test]
async fn leases_are_given_to_one_node_at_a_time_by_redis() {
    two_nodes(&Server::start(Kind::Redis).url()).await;
}

#[tokio::test]
async fn leases_are_given_to_one_node_at_a_time_by_valkey() {
    two_nodes(&Server::start(Kind::Valkey).url()).await;
}

#[tokio::test]
async fn leases_are_given_to_one_node_at_a_time_by_an_old_redis() {
    two_nodes(&Server::start(Kind::Old).url()).await;
}

#[tokio::test]
async fn leases_are_given_to_one_node_at_a_time_by_a_cluster() {
    two_nodes(&Cluster::shared().url()).await;
}

#[tokio::test]
async fn a_node_that_is_to_end_waits_until_the_servers_know_of_the_ends_of_its_leases() {
    let server = Server::start(Kind::Redis);
    let [store] = nodes(&server.url());
    let leases = store.leases();
    leases.given_back().await; // there are none
    let key = key("/");
    let lease = granted(&leases, LeaseName::new(&key)).await;
    let given_back = tokio::spawn(async move { leases.given_back().await });
    tokio::task::yield_now().await;
    assert!(!given_back.is_finished());
    lease.end(LeaseEnd::Over);
    given_back.await.unwrap();
    assert_eq!(server.ask(&["KEYS", "*:w*"]), Answer::List(Vec::new()));
}

#[tokio::test]
async fn all_who_use_the_leases_of_a_store_share_them() {
    let server = Server::start(Kind::Redis);
    let [store] = nodes(&server.url());
    let key = key("/");
    let lease = granted(&store.leases(), LeaseName::new(&key)).await;
    let leases = store.leases();
    let given_back = tokio::spawn(async move { leases.given_back().await });
    tokio::task::yield_now().await;
    assert!(!given_back.is_finished());
    lease.end(LeaseEnd::Over);
    given_back.await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_gone_before_it_gets_its_lease_leaves_none() {
    let server = Server::start(Kind::Redis);
    let [store] = nodes(&server.url());
    let leases = store.leases().time(Duration::from_secs(60));
    let (key, other) = (key("/"), key("/other"));
    // The connection is made, and the server knows the script.
    drop(granted(&leases, LeaseName::new(&other)).await);
    assert!(leases.ask(LeaseName::new(&key)).now_or_never().is_none());
    leases.given_back().await;
    // What was sent before this over the same connection has been done.
    drop(granted(&leases, LeaseName::new(&other)).await);
    leases.given_back().await;
    assert_eq!(server.ask(&["KEYS", "*:w*"]), Answer::List(Vec::new()));
}

#[tokio::test]
async fn whoever_waits_hears_of_the_end_of_the_lease_that_follows_the_one_it_was_told_of() {
    let server = Server::start(Kind::Redis);
    let [first, second, third] =
        nodes(&server.url()).map(|store| store.leases().time(Duration::from_secs(600)));
    let key = key("/");
    let lease = granted(&first, LeaseName::new(&key)).await;
    let waiting = third.ask(LeaseName::new(&key)).await.unwrap();
    lease.end(LeaseEnd::Over);
    first.given_back().await;
    let lease = granted(&second, LeaseName::new(&key)).await;
    let somebody_waits = || {
        let names = server.ask(&["KEYS", "*:q"]).list();
        names.into_iter().any(|name| server.ask(&["GET", &name.text()]).text() == "1")
    };
    assert!(!somebody_waits());
    let end = held(waiting);
    until("nobody waited", somebody_waits).await;
    lease.end(LeaseEnd::Over);
    assert_eq!(tokio::time::timeout(Duration::from_secs(60), end).await.unwrap().unwrap(), LeaseEnd::Over);
}

#[tokio::test]
async fn a_lease_that_has_ended_leaves_no_task() {
    let server = Server::start(Kind::Redis);
    let [store] = nodes(&server.url());
    let leases = store.leases().time(Duration::from_secs(600));
    let (key, other) = (key("/"), key("/other"));
    drop(granted(&leases, LeaseName::new(&other)).await);
    leases.given_back().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let held = granted(&leases, LeaseName::new(&key)).await;
    let before = tasks();
    drop(held);
    until("its task was to end", || tasks() < before).await;
}

#[tokio::test]
async fn a_lease_that_is_held_for_longer_than_its_time_is_renewed() {
    let server = Server::start(Kind::Redis);
    let [store] = nodes(&server.url());
    let leases = store.leases().time(Duration::from_millis(600));
    let key = key("/");
    let lease = granted(&leases, LeaseName::new(&key)).await;
    let end = held(leases.ask(LeaseName::new(&key)).await.unwrap());
    // Far longer than it would last by itself.
    let renewals = || {
        let statistics = server.ask(&["INFO", "commandstats"]).text();
        let calls = statistics.split("cmdstat_pexpire:calls=").nth(1).unwrap_or("0");
        calls.split(',').next().unwrap().parse::<u64>().unwrap()
    };
    until("the lease was to be renewed", || renewals() >= 6).await;
    assert!(!end.is_finished());
    lease.end(LeaseEnd::Over);
    assert_eq!(end.await.unwrap(), LeaseEnd::Over);
}

#[test]
fn a_node_that_dies_keeps_a_lease_no_longer_than_its_time() {
    let server = Server::start(Kind::Redis);
    let ([first, second], key) = (nodes(&server.url()), key("/"));
    let dying = tokio::runtime::Runtime::new().unwrap();
    let leases = first.leases().time(Duration::from_millis(500));
    std::mem::forget(dying.block_on(granted(&leases, LeaseName::new(&key))));
    dying.shutdown_background();
    let living = tokio::runtime::Runtime::new().unwrap();
    living.block_on(async {
        let second = second.leases();
        match second.ask(LeaseName::new(&key)).await.unwrap() {
            LeaseAnswer::Held(held) => assert_eq!(held.await, LeaseEnd::Over),
            LeaseAnswer::Granted(_) => return, // the machine was as slow as that
            other => panic!("{other:?}"),
        }
        granted(&second, LeaseName::new(&key)).await.end(LeaseEnd::Over);
    });
}

fn response(text: &str) -> StoredResponse {
    let now = std::time::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    let reuse = Reuse::new(now, now, Duration::from_secs(60), Selecting::default());
    let head = ResponseHead::from_parts(HeadParts::new(StatusCode::OK, HeaderMap::new(), reuse)).unwrap();
    StoredResponse::from_parts(head, Payload::from_bytes(Bytes::copy_from_slice(text.as_bytes()))).unwrap()
}

#[tokio::test]
async fn a_call_that_has_lost_its_lease_does_not_replace_what_a_later_one_has_brought() {
    let server = Server::start(Kind::Redis);
    let [first, second, third] = nodes(&server.url());
    let key = key("/");
    let fence = first.get(&key).await.unwrap().fence;
    let lost = granted(&first.leases(), LeaseName::new(&key)).await;
    for name in server.ask(&["KEYS", "*:w*"]).list() {
        server.ask(&["DEL", &name.text()]);
    }
    let lease = granted(&second.leases(), LeaseName::new(&key)).await;
    assert_eq!(second.put(&key, response("new"), fence).await.unwrap(), PutOutcome::Stored);
    assert_eq!(first.put(&key, response("old"), fence).await.unwrap(), PutOutcome::Superseded);
    lease.end(LeaseEnd::Over);
    lost.end(LeaseEnd::Over);
    // A call without a lease says nothing of order.
    assert_eq!(
        third.put(&key, response("third"), Fence::from_bits(fence.bits())).await.unwrap(),
        PutOutcome::Stored
    );
}

#[tokio::test]
async fn a_server_that_is_gone_makes_each_node_lead() {
    let mut server = Server::start(Kind::Redis);
    let [store] = nodes(&server.url());
    let leases = store.leases();
    let key = key("/");
    drop(granted(&leases, LeaseName::new(&key)).await);
    server.kill();
    assert!(leases.ask(LeaseName::new(&key)).await.is_err());
}

#[tokio::test]
async fn a_herd_at_four_nodes_over_redis_makes_one_call() {
    let server = Server::start(Kind::Redis);
    let (clock, hand) = Clock::manual();
    let origin = Stepped::default();
    let node = |store: RedisStore| {
        let leases = store.leases();
        let layer = CacheLayer::builder(BoxStore::new(store)).leases(leases).clock(clock.clone()).build();
        let (cache, handle) = (layer.layer(origin.clone()), layer.handle());
        Stage { cache, clock: hand.clone(), handle, origin: origin.clone() }
    };
    let nodes: [Stage; 4] = nodes(&server.url()).map(node);
    let clients: Vec<_> = nodes.iter().flat_map(|node| node.herd(50, &[])).collect();
    // Three of them wait for the end of a lease.
    until("three nodes were to listen", || {
        let clients = server.ask(&["INFO", "clients"]).text();
        clients.contains("blocked_clients:3")
    })
    .await;
    assert_eq!(origin.calls(), 1);
    origin.call(0).head(&[FRESH]).frame("all").end();
    for client in clients {
        client.seen().await.has_body("all");
    }
    assert_eq!(origin.calls(), 1);
    for node in &nodes {
        node.get("/").seen().await.told("larder; hit; ttl=60");
    }
}
