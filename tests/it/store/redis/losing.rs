//! Servers that lose what they have: nothing that was purged comes back.

use std::time::Duration;

use larder::CacheKey;
use larder::store::record::RecordNames;
use larder::store::{PurgeMode, PurgeTarget, Store};

use super::{HIT, Node, config, namespace};
use crate::support::Reply;
use crate::support::faulty::Faulty;
use crate::support::servers::{Answer, Cluster, Kind, Server, eventually, ok};

fn key() -> CacheKey {
    CacheKey::from_uri(&"http://example.com/".parse().unwrap()).unwrap()
}

/// Nodes that have read and purged: the first two before something is lost, the third one not at all.
fn three_nodes(url: &str) -> [Node; 3] {
    let namespace = namespace();
    [(); 3].map(|()| Node::new(config(url).namespace(&namespace)))
}

#[tokio::test]
async fn f17_a_server_that_starts_empty_is_a_cold_cache_for_all_nodes() {
    for kind in Kind::ALL {
        let mut server = Server::start(kind);
        let [one, other, third] = three_nodes(&server.url());
        one.fill("/", "before").await;
        other.purge(PurgeTarget::tag("other")).await.unwrap();
        server.restart();
        for (node, path) in [(&one, "/1"), (&other, "/2"), (&third, "/3")] {
            node.fill(path, "after").await;
            node.get(path).await.has_body("after").told(HIT);
        }
        other.purge(PurgeTarget::tag("news")).await.unwrap();
        for (node, path) in [(&one, "/1"), (&other, "/2"), (&third, "/3"), (&third, "/")] {
            node.fill(path, "anew").await;
        }
    }
}

#[tokio::test]
async fn f17_without_any_one_of_the_stamp_keys_nothing_that_was_purged_comes_back() {
    let server = Server::start(Kind::Redis);
    for name in ["n", "l", "s"] {
        let namespace = namespace();
        let node = || Node::new(config(&server.url()).namespace(&namespace));
        let (one, other) = (node(), node());
        one.fill("/purged", "old").await;
        one.fill("/expired", "old").await;
        one.fill("/other", "old").await;
        other.purge(PurgeTarget::uri("http://example.com/purged")).await.unwrap();
        other.bench.handle.soft_purge_target(&PurgeTarget::uri("http://example.com/expired")).await.unwrap();
        assert_eq!(server.ask(&["DEL", &format!("{{{namespace}.1}}:{name}")]).number(), 1);
        // One that knows nothing yet, one that has purged, and one that has read.
        for asked in [node(), other, one] {
            for path in ["/purged", "/expired"] {
                asked.bench.origin.then(Reply::cc("new", "max-age=60, no-store"));
                let seen = asked.get(path).await;
                assert_eq!(seen.body, "new", "{name} is lost: {seen:?}");
            }
        }
        // And all goes on.
        let (one, other) = (node(), node());
        one.purge(PurgeTarget::All).await.unwrap();
        one.fill("/other", "new").await;
        other.get("/other").await.has_body("new").told(HIT);
        other.purge(PurgeTarget::tag("news")).await.unwrap();
        one.fill("/other", "newer").await;
    }
}

#[tokio::test]
async fn what_was_purged_is_gone_for_a_node_that_starts_when_the_log_was_trimmed() {
    let server = Server::start(Kind::Redis);
    let namespace = namespace();
    let node = || Node::new(config(&server.url()).namespace(&namespace));
    let one = node();
    one.fill("/", "old").await;
    one.purge(PurgeTarget::uri("http://example.com/")).await.unwrap();
    let late = node();
    server.ask(&["XTRIM", &format!("{{{namespace}.1}}:l"), "MAXLEN", "0"]);
    late.fill("/", "new").await;
    one.get("/").await.has_body("new").told(HIT);
}

#[tokio::test]
async fn a_node_that_starts_reads_more_than_there_is_time_for_in_one_look_up() {
    let server = Server::start(Kind::Redis);
    let namespace = namespace();
    let one = Node::new(config(&server.url()).namespace(&namespace));
    one.fill("/", "old").await;
    one.purge(PurgeTarget::tag("other")).await.unwrap();
    // All places but one have a stamp, that of the last purge, and the log has been trimmed.
    let [log, table] = ["l", "s"].map(|name| format!("{{{namespace}.1}}:{name}"));
    let all = "local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][1] \
        for place = 0, 65535 do redis.call('HSET', KEYS[2], place .. 'r', string.sub(last, 1, -3)) end \
        return redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)";
    assert_eq!(server.ask(&["EVAL", all, "2", &log, &table]).number(), 1);
    let late = Node::new(config(&server.url()).namespace(&namespace).deadline(Duration::from_millis(10)));
    assert!(found(&late).await.is_empty(), "it knows the table");
}

#[tokio::test]
async fn where_memory_is_full_nothing_is_stored_and_purges_take_effect() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let server = Server::start(kind);
        let [one, other, _] = three_nodes(&server.url());
        one.fill("/", "old").await;
        server.set("maxmemory", "1");
        for body in ["of the origin", "of the origin again"] {
            one.fetch("/new", body).await;
        }
        other.get("/").await.has_body("old").told(HIT);
        other.purge(PurgeTarget::tag("news")).await.unwrap();
        for body in ["of the origin", "of the origin again"] {
            one.fetch("/", body).await;
        }
        assert!(!one.health().is_open, "a server that refuses to store is well");
        server.set("maxmemory", "0");
        one.fill("/", "new").await;
    }
}

#[tokio::test]
async fn where_an_old_server_is_full_a_purge_is_an_error_and_is_made_again() {
    let server = Server::start(Kind::Old);
    let [one, other, _] = three_nodes(&server.url());
    one.fill("/", "old").await;
    server.set("maxmemory", "1");
    one.purge(PurgeTarget::tag("news")).await.unwrap_err();
    server.set("maxmemory", "0");
    while one.health().purges_to_repeat > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    other.fill("/", "new").await;
}

#[tokio::test]
async fn a_server_that_evicts_anything_gives_nothing_that_was_purged_and_nothing_wrong() {
    for policy in ["allkeys-random", "volatile-lfu", "allkeys-lfu"] {
        let server = Server::with(Kind::Redis, &["--maxmemory-policy", policy, "--maxmemory", "2mb"]);
        let [one, other, _] = three_nodes(&server.url());
        let content = |path: usize, round: usize| format!("{path} {round} ").repeat(1_000);
        for round in 0..3 {
            for path in 0..200 {
                let (node, reader) = if path % 2 == 0 { (&one, &other) } else { (&other, &one) };
                let body = content(path, round);
                node.bench.origin.then(Reply::cc(&body, "max-age=60").field("cache-groups", "\"news\""));
                node.get(&format!("/{path}")).await.has_body(&body);
                reader.bench.origin.then(Reply::cc(&body, "max-age=60, no-store"));
                reader.get(&format!("/{path}")).await.has_body(&body);
            }
            one.purge(PurgeTarget::tag("news")).await.unwrap();
        }
        let evicted = server.ask(&["INFO", "stats"]).text();
        let evicted = evicted.lines().find_map(|line| line.strip_prefix("evicted_keys:")).unwrap().to_owned();
        assert_ne!(evicted, "0", "{policy}");
    }
}

/// What is found, at last.
async fn found(node: &Node) -> Vec<larder::store::Stored> {
    loop {
        if let Ok(lookup) = node.store.get(&key()).await {
            return lookup.variants.to_vec();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A server, its replica, and the way to whichever is the primary.
pub(super) struct Pair {
    primary: Server,
    pub(super) replica: Server,
    pub(super) way: Faulty,
}

impl Pair {
    pub(super) fn start() -> Self {
        let primary = Server::with(Kind::Redis, &["--repl-diskless-sync-delay", "0"]);
        let port = primary.port.to_string();
        let replica = Server::with(Kind::Redis, &["--replicaof", "127.0.0.1", &port]);
        eventually("a replica was waited for", || {
            replica.ask(&["INFO", "replication"]).text().contains("master_link_status:up")
        });
        Self { way: Faulty::before(primary.port), primary, replica }
    }

    /// From now on, the replica hears nothing. What is in the sockets would still reach it, but for the second command.
    pub(super) fn part(&self) {
        self.replica.freeze();
        self.primary.ask(&["CLIENT", "KILL", "TYPE", "replica"]);
    }

    pub(super) fn fail_over(&mut self) {
        self.primary.kill();
        self.replica.thaw();
        ok(&self.replica.ask(&["REPLICAOF", "NO", "ONE"]));
        self.way.lead_to(self.replica.port);
    }
}

#[tokio::test]
async fn f17_a_purge_that_a_failover_has_lost_is_made_again_by_a_node_that_knows_it() {
    // By the node that has purged, and by one that has only read of it.
    for reads in [false, true] {
        let mut pair = Pair::start();
        let namespace = namespace();
        let node = || Node::new(config(&pair.way.url()).namespace(&namespace));
        let (one, other, third) = (node(), node(), node());
        one.fill("/", "old").await;
        other.get("/").await.has_body("old").told(HIT);
        third.get("/").await.has_body("old").told(HIT);
        let name = RecordNames::new(&namespace).of(&key());
        let is_there = |pair: &Pair| pair.replica.ask(&["EXISTS", &name]) == Answer::Number(1);
        eventually("the replica was to have the record", || is_there(&pair));
        pair.part();
        one.purge(PurgeTarget::tag("news")).await.unwrap();
        let knows = match reads {
            true => {
                assert!(other.store.get(&key()).await.unwrap().variants.is_empty());
                drop(one);
                &other
            }
            false => &one,
        };
        pair.fail_over();
        assert!(is_there(&pair), "the record has survived, and the purge has not");
        // Whoever knows it gives nothing, and the log has it again then.
        assert!(found(knows).await.is_empty(), "by the node that knows of it");
        assert!(found(&third).await.is_empty(), "by a node that does not");
        third.fill("/", "new").await;
        knows.get("/").await.has_body("new").told(HIT);
    }
}

#[tokio::test]
async fn f10_a_node_of_a_cluster_that_is_gone_is_replaced_by_its_replica_and_no_purge_is_lost() {
    let mut cluster = Cluster::start();
    let namespace = namespace();
    let config = config(&cluster.url()).namespace(&namespace).wait_for_replicas(1, Duration::from_secs(20));
    let patient = Node::new(config.clone());
    for path in 0..12 {
        patient.fill(&format!("/{path}"), "old").await;
    }
    let purged = (0..6).map(|path| PurgeTarget::uri(format!("http://example.com/{path}")));
    patient.store.invalidate(&purged.collect::<Vec<_>>(), PurgeMode::Remove).await.unwrap();
    // That which has the log.
    let name = format!("{{{namespace}.1}}:n");
    let has_log = |server: &Server| server.ask(&["EXISTS", &name]) == Answer::Number(1);
    let place = cluster.primaries.iter().position(has_log).unwrap();
    cluster.primaries[place].kill();
    let node = || {
        Node::new(config.clone().deadline(Duration::from_secs(1)).content_deadline(Duration::from_secs(1)))
    };
    for node in [patient, node()] {
        // Whatever is asked meanwhile, the origin answers, or what is right.
        let back = async {
            loop {
                node.bench.origin.then(Reply::cc("new", "max-age=60"));
                let seen = node.get("/0").await.has_body("new");
                if seen.is_hit() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), back).await.expect("the replica takes over");
        for path in 1..6 {
            node.get(&format!("/{path}")).await.has_body("new");
        }
    }
}
