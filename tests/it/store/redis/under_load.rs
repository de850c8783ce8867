//! Servers that move what they have, end or hang while requests and purges come: no request gets an error or what was purged, and
//! when that is over, hits come back.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::{join, join_all};
use larder::store::record::RecordNames;
use larder::store::{PurgeMode, PurgeTarget, RedisConfig, RedisStore, Store};
use larder::{BoxStore, CacheKey, CacheLayer};
use tokio::task::yield_now;

use super::{config, namespace};
use crate::support::faulty::{Faults, Faulty};
use crate::support::servers::{Answer, Cluster, Kind, Server};
use crate::support::{Bench, Reply};

const PATHS: usize = 12;

/// Nodes whose origins all answer with the number of one version, which is purged whenever it changes.
struct Site {
    answered: Cell<usize>,
    nodes: Vec<(Bench, RedisStore)>,
    /// No request that begins from now on gets an older version.
    purged: Cell<u64>,
    purges: Cell<u64>,
    version: Cell<u64>,
}

impl Site {
    fn new(config: &RedisConfig) -> Self {
        let node = |_| {
            let store = RedisStore::new(config.clone()).unwrap();
            (Bench::with(CacheLayer::builder(BoxStore::new(store.clone())), []), store)
        };
        let site = Self {
            answered: Cell::new(0),
            nodes: (0..3).map(node).collect(),
            purged: Cell::new(0),
            purges: Cell::new(0),
            version: Cell::new(0),
        };
        site.publish();
        site
    }

    fn publish(&self) {
        self.version.set(self.version.get() + 1);
        let reply =
            Reply::cc(&self.version.get().to_string(), "max-age=600").field("cache-groups", "\"all\"");
        self.nodes.iter().for_each(|(bench, _)| bench.origin.then(reply.clone()));
    }

    /// Whether the answer was a hit.
    async fn get(&self, node: usize, path: usize) -> bool {
        let least = self.purged.get();
        let (bench, _) = &self.nodes[node];
        let seen = bench.get(&format!("/{path}")).await;
        let version: u64 = seen.body.parse().unwrap_or_else(|_| panic!("{seen:?}"));
        assert!(seen.status == 200 && version >= least, "{seen:?} after version {least} was purged for");
        self.answered.set(self.answered.get() + 1);
        seen.is_hit()
    }

    /// Publishes a version, and purges the one before. A purge that fails is for later.
    async fn change(&self, node: usize) {
        self.publish();
        let version = self.version.get();
        let (_, store) = &self.nodes[node];
        if store.invalidate(&[PurgeTarget::tag("all")], PurgeMode::Remove).await.is_ok() {
            self.purged.set(self.purged.get().max(version));
            self.purges.set(self.purges.get() + 1);
        }
    }

    /// Waits until so many more requests have been answered.
    async fn goes_on(&self, requests: usize) {
        let until = self.answered.get() + requests;
        while self.answered.get() < until {
            yield_now().await;
        }
    }

    /// Requests of twelve clients and purges of one, all the time until something is done.
    async fn during<T>(&self, event: impl Future<Output = T>) -> T {
        let is_over = Cell::new(false);
        let client = async |number: usize| {
            for round in 0.. {
                if is_over.get() {
                    return;
                }
                self.get((number + round) % self.nodes.len(), (number * 5 + round) % PATHS).await;
                yield_now().await;
            }
        };
        let purging = async {
            for round in 0.. {
                if is_over.get() {
                    return;
                }
                self.change(round % self.nodes.len()).await;
                self.goes_on_or(40, &is_over).await;
            }
        };
        let event = async {
            self.goes_on(100).await;
            let done = event.await;
            self.goes_on(100).await;
            is_over.set(true);
            done
        };
        let (done, _) = join(event, join(join_all((0..12).map(client)), purging)).await;
        done
    }

    async fn goes_on_or(&self, requests: usize, is_over: &Cell<bool>) {
        let until = self.answered.get() + requests;
        while self.answered.get() < until && !is_over.get() {
            yield_now().await;
        }
    }

    /// When all is well again, purges that had failed are made, and each node has hits.
    async fn recovers(&self) {
        let recovered = async {
            while self.nodes.iter().any(|(_, store)| store.health().purges_to_repeat > 0) {
                join_all((0..3).map(|node| self.get(node, 0))).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            for (node, path) in (0..3).flat_map(|node| (0..PATHS).map(move |path| (node, path))) {
                while !self.get(node, path).await {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            let before = self.purges.get();
            self.change(0).await;
            assert_eq!(self.purges.get(), before + 1, "a purge succeeds");
            self.get(1, 0).await;
        };
        tokio::time::timeout(Duration::from_secs(60), recovered).await.expect("hits come back");
    }
}

/// Moves a slot, one key after the other.
async fn reshard(site: &Site, cluster: &Cluster, slot: i64) {
    let slot = &slot.to_string();
    let ids: Vec<_> =
        cluster.primaries.iter().map(|server| server.ask(&["CLUSTER", "MYID"]).text()).collect();
    let count = |server: &Server| server.ask(&["CLUSTER", "COUNTKEYSINSLOT", slot]).number();
    let from = cluster.primaries.iter().position(|server| count(server) > 0).expect("it has keys");
    let to = (from + 1) % 3;
    let (source, target) = (&cluster.primaries[from], &cluster.primaries[to]);
    let done = |answer: Answer| assert_eq!(answer, Answer::Text(b"OK".to_vec()));
    done(target.ask(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &ids[from]]));
    done(source.ask(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &ids[to]]));
    site.goes_on(50).await;
    let port = target.port.to_string();
    while let Some(key) = source.ask(&["CLUSTER", "GETKEYSINSLOT", slot, "1"]).list().into_iter().next() {
        let key = key.text();
        let moved = source.ask(&["MIGRATE", "127.0.0.1", &port, &key, "0", "20000", "REPLACE"]);
        assert!(matches!(&moved, Answer::Text(_)), "{key}: {moved:?}");
        site.goes_on(30).await;
    }
    for server in [target, source, &cluster.primaries[(from + 2) % 3]] {
        done(server.ask(&["CLUSTER", "SETSLOT", slot, "NODE", &ids[to]]));
    }
}

#[tokio::test]
async fn slots_of_a_cluster_that_move_under_load_lose_no_purge_and_no_request() {
    let cluster = Cluster::start();
    let namespace = namespace();
    let site = Site::new(&config(&cluster.url()).namespace(&namespace));
    let slot_of = |name: &str| cluster.primaries[0].ask(&["CLUSTER", "KEYSLOT", name]).number();
    let key = CacheKey::from_uri(&"http://example.com/0".parse().unwrap()).unwrap();
    // That of the log, that of a record, and that of the log again, back or on.
    let log = slot_of(&format!("{{{namespace}.1}}:n"));
    for slot in [log, slot_of(&RecordNames::new(&namespace).of(&key)), log] {
        site.during(reshard(&site, &cluster, slot)).await;
        site.recovers().await;
    }
}

#[tokio::test]
async fn a_server_that_is_killed_under_load_and_starts_empty_loses_no_request_and_gives_nothing_purged() {
    for kind in Kind::ALL {
        let mut server = Server::start(kind);
        let site = Site::new(&config(&server.url()).namespace(&namespace()));
        for _ in 0..3 {
            let event = async {
                server.kill();
                site.goes_on(200).await;
                server.restart();
            };
            site.during(event).await;
            site.recovers().await;
        }
    }
}

/// Long enough for an answer, and no longer than it takes to see that there is none.
fn hasty(url: &str) -> RedisConfig {
    let limit = Duration::from_millis(100);
    config(url).namespace(&namespace()).deadline(limit).content_deadline(limit)
}

#[tokio::test]
async fn a_server_that_freezes_under_load_loses_no_purge_and_no_request() {
    let server = Server::start(Kind::Redis);
    let site = Site::new(&hasty(&server.url()));
    for _ in 0..3 {
        let event = async {
            server.freeze();
            site.goes_on(400).await;
            server.thaw();
        };
        site.during(event).await;
        site.recovers().await;
    }
}

#[tokio::test]
async fn connections_that_break_answer_late_or_stall_under_load_lose_no_purge_and_no_request() {
    let server = Server::start(Kind::Redis);
    let way = Faulty::before(server.port);
    let site = Site::new(&hasty(&way.url()));
    let event = async {
        for faults in [
            Faults { delay: Duration::from_millis(1), ..Faults::default() },
            // Longer than the deadline: each answer comes when nobody waits for it any more.
            Faults { delay: Duration::from_millis(150), ..Faults::default() },
            Faults { cut_down: Some(5_000), ..Faults::default() },
            Faults { cut_up: Some(5_000), ..Faults::default() },
            Faults { stalls: true, ..Faults::default() },
            Faults { refuses: true, ..Faults::default() },
        ] {
            way.set(faults);
            way.cut();
            site.goes_on(200).await;
            way.set(Faults::default());
            site.goes_on(200).await;
        }
    };
    site.during(event).await;
    site.recovers().await;
}
