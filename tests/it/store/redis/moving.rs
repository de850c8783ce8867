//! Addresses that do not answer, servers that have become replicas, and servers that another one replaces.

use std::time::Duration;

use larder::store::{PurgeTarget, Store};
use larder::{CacheKey, Clock};

use super::{HIT, Node, config, namespace, until};
use crate::support::faulty::{Faults, Faulty};
use crate::support::servers::{Answer, Cluster, Kind, Server, Watched, eventually, ok};

fn key(path: &str) -> CacheKey {
    CacheKey::from_uri(&format!("http://example.com{path}").parse().unwrap()).unwrap()
}

/// A proxy that accepts, and passes nothing on.
fn stalled(port: u16) -> Faulty {
    let proxy = Faulty::before(port);
    proxy.set(Faults { stalls: true, ..Faults::default() });
    proxy
}

async fn is_found(url: &str) {
    let node = Node::new(config(url));
    let found = async { while node.store.get(&key("/")).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(60), found).await.expect("the others answer");
    node.fill("/", "x").await;
    node.get("/").await.told(HIT);
}

#[tokio::test]
async fn f10_a_sentinel_that_does_not_answer_keeps_nobody_from_asking_the_next_one() {
    let watched = Watched::start();
    let silent = [stalled(watched.sentinel_port), stalled(watched.sentinel_port)];
    let [first, second] = silent.each_ref().map(|proxy| proxy.port);
    let third = watched.sentinel_port;
    is_found(&format!("redis-sentinel://127.0.0.1:{first},127.0.0.1:{second},127.0.0.1:{third}/larder"))
        .await;
}

#[tokio::test]
async fn f10_a_node_of_a_cluster_that_does_not_answer_keeps_nobody_from_the_others() {
    let ports = Cluster::shared().ports();
    let silent = stalled(ports[0]);
    is_found(&format!("redis-cluster://127.0.0.1:{},127.0.0.1:{}", silent.port, ports[1])).await;
}

/// A primary that becomes the replica of its replica, and the way to whichever is the primary. Connections stay as they are.
struct Swapped {
    old: Server,
    new: Server,
    way: Faulty,
}

fn is_in_sync(replica: &Server) -> bool {
    replica.ask(&["INFO", "replication"]).text().contains("master_link_status:up")
}

impl Swapped {
    fn start(kind: Kind) -> Self {
        let old = Server::with(kind, &["--repl-diskless-sync-delay", "0"]);
        let port = old.port.to_string();
        let more = ["--repl-diskless-sync-delay", "0", "--replicaof", "127.0.0.1", &port];
        let new = Server::with(kind, &more);
        eventually("a replica was waited for", || is_in_sync(&new));
        Self { way: Faulty::before(old.port), old, new }
    }

    fn swap(&self) {
        let offset = |server: &Server| {
            let info = server.ask(&["INFO", "replication"]).text();
            let offset = info.lines().find_map(|line| line.strip_prefix("master_repl_offset:"));
            offset.map(str::to_owned)
        };
        eventually("the replica was to have everything", || offset(&self.old) == offset(&self.new));
        ok(&self.new.ask(&["REPLICAOF", "NO", "ONE"]));
        ok(&self.old.ask(&["REPLICAOF", "127.0.0.1", &self.new.port.to_string()]));
        self.way.lead_next_to(self.new.port);
        eventually("the old primary was to be a replica", || is_in_sync(&self.old));
    }
}

#[tokio::test]
async fn f17_a_purge_that_finds_a_replica_where_the_primary_was_looks_for_the_primary() {
    for kind in Kind::ALL {
        let servers = Swapped::start(kind);
        let namespace = namespace();
        let node = Node::new(config(&servers.way.url()).namespace(&namespace));
        node.fill("/", "old").await;
        node.purge(PurgeTarget::tag("other")).await.unwrap(); // so that it has the script
        servers.swap();
        node.purge(PurgeTarget::tag("news")).await.unwrap();
        assert_eq!(node.health().connections, 2);
        let other = Node::new(config(&servers.new.url()).namespace(&namespace));
        other.fill("/", "new").await;
        node.get("/").await.has_body("new").told(HIT);
    }
}

#[tokio::test]
async fn f17_a_node_that_only_reads_finds_out_that_the_server_is_a_replica_when_it_compares_clocks() {
    let servers = Swapped::start(Kind::Redis);
    let (clock, hand) = Clock::manual();
    let node = Node::new(config(&servers.way.url()).clock(clock));
    node.fill("/", "x").await;
    servers.swap();
    hand.advance(Duration::from_secs(100));
    assert_eq!(node.store.get(&key("/")).await.unwrap().variants.len(), 1);
    assert_eq!(node.health().connections, 2);
}

#[tokio::test]
async fn a_server_that_is_replaced_by_a_newer_one_is_used_as_one() {
    let (old, new) = (Server::start(Kind::Old), Server::start(Kind::Redis));
    let way = Faulty::before(old.port);
    let node = Node::new(config(&way.url()));
    node.fill("/", "x").await;
    node.purge(PurgeTarget::tag("news")).await.unwrap();
    // What only scripts with flags are allowed to do.
    new.set("maxmemory", "1");
    way.lead_to(new.port);
    node.purge(PurgeTarget::tag("news")).await.unwrap();
}

#[tokio::test]
async fn f10_the_part_of_a_cluster_that_is_well_is_used_while_another_one_is_gone() {
    let mut cluster = Cluster::start();
    for server in cluster.primaries.iter().chain(&cluster.replicas) {
        server.set("cluster-require-full-coverage", "no");
    }
    let namespace = namespace();
    let node = Node::new(config(&cluster.url()).namespace(&namespace));
    for path in 0..12 {
        node.fill(&format!("/{path}"), "x").await;
    }
    let log = format!("{{{namespace}.1}}:n");
    let has = |server: &Server, name: &str| server.ask(&["EXISTS", name]) == Answer::Number(1);
    let lost = cluster.primaries.iter().position(|server| !has(server, &log)).unwrap();
    let names = larder::store::record::RecordNames::new(&namespace);
    let is_lost: Vec<_> =
        (0..12).map(|path| has(&cluster.primaries[lost], &names.of(&key(&format!("/{path}"))))).collect();
    let (gone, there) = (is_lost.iter().position(|lost| *lost), is_lost.iter().position(|lost| !lost));
    let (gone, there) = (format!("/{}", gone.unwrap()), format!("/{}", there.unwrap()));
    let port = cluster.primaries[lost].port.to_string();
    let is_its_replica = |server: &Server| {
        server.ask(&["INFO", "replication"]).text().contains(&format!("master_port:{port}\r"))
    };
    let replica = cluster.replicas.iter().position(is_its_replica).unwrap();
    cluster.replicas[replica].kill();
    cluster.primaries[lost].kill();
    while !node.health().is_open {
        let _ = node.store.get(&key(&gone)).await;
    }
    until("what is left was to be found", || !node.health().is_open).await;
    node.get(&there).await.has_body("x").told(HIT);
}
