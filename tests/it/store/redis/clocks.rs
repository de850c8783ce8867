//! Clocks that differ, and that are set: those of nodes, and that of a server.

use std::time::Duration;

use larder::store::{PurgeTarget, RedisAdvice, RedisStore};
use larder::{BoxStore, CacheLayer, Clock};
use tokio::sync::mpsc::UnboundedReceiver;

use super::{FILLED, HIT, Node, config, namespace};
use crate::support::servers::{Server, eventually};
use crate::support::stores::waited_for;
use crate::support::{Bench, Reply, Seen};

/// When manual clocks begin, in seconds since 1970.
fn beginning() -> u64 {
    Clock::manual().0.now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// A hit as old as that. The clock of the server stands still but for microseconds, by which it may count as a second less.
#[track_caller]
fn is_hit_after(seconds: u64, seen: &Seen) {
    let age = seen.age().expect("a hit has an age");
    assert!((seconds - 1..=seconds).contains(&age), "{seen:?}");
    assert_eq!(seen.cache_status(), format!("larder; hit; ttl={}", 60 - age));
}

const MINUTES: i64 = 5 * 60 * 1_000;

/// A server and nodes whose clocks move by hand only.
struct Fleet {
    advice: Vec<UnboundedReceiver<RedisAdvice>>,
    nodes: Vec<Node>,
    passed: u64,
    server: Server,
}

impl Fleet {
    /// Nodes whose clocks are so many milliseconds ahead of the server's.
    fn ahead<const N: usize>(milliseconds: [i64; N]) -> Self {
        let server = Server::with_clock(&beginning().to_string());
        let namespace = namespace();
        let node = |ahead: i64| {
            let (heard, advice) = tokio::sync::mpsc::unbounded_channel();
            let (clock, hand) = Clock::manual();
            let by = Duration::from_millis(ahead.unsigned_abs());
            if ahead < 0 {
                hand.set_back(by)
            } else {
                hand.advance(by)
            }
            let config = config(&server.url()).namespace(&namespace).clock(clock.clone());
            let store =
                RedisStore::new(config.on_advice(move |advice| drop(heard.send(advice.clone())))).unwrap();
            let builder = CacheLayer::builder(BoxStore::new(waited_for(store.clone())));
            (Node { bench: Bench::by((clock, hand), builder, []), store }, advice)
        };
        let (nodes, advice) = milliseconds.map(node).into_iter().unzip();
        Self { advice, nodes, passed: 0, server }
    }

    /// For all of them.
    fn later(&mut self, seconds: u64) {
        self.passed += seconds;
        let now = (beginning() + self.passed).to_string();
        self.server.set_clock(&now);
        // Threads of the server read the file each for itself.
        let shows = || self.server.ask(&["TIME"]).list().swap_remove(0).text() == now;
        eventually("the server was to show its new time", || (0..5).all(|_| shows()));
        self.nodes.iter().for_each(|node| node.bench.later(seconds));
    }

    /// What was said of the clocks, of each node.
    async fn heard(self) -> Vec<Vec<RedisAdvice>> {
        drop((self.nodes, self.server));
        let mut all = Vec::new();
        for mut advice in self.advice {
            let mut of_node = Vec::new();
            while let Some(advice) = advice.recv().await {
                of_node.extend(matches!(advice, RedisAdvice::ClockDiffers { .. }).then_some(advice));
            }
            all.push(of_node);
        }
        all
    }
}

#[tokio::test]
async fn what_a_node_stores_is_as_old_on_nodes_whose_clocks_differ_by_minutes() {
    let mut fleet = Fleet::ahead([0, MINUTES, -MINUTES]);
    for writer in 0..3 {
        let path = format!("/{writer}");
        fleet.nodes[writer].fill(&path, "first").await;
        fleet.later(10);
        for node in &fleet.nodes {
            is_hit_after(10, &node.get(&path).await.has_body("first"));
        }
        fleet.later(48);
        for node in &fleet.nodes {
            is_hit_after(58, &node.get(&path).await.has_body("first"));
        }
        // Nobody gives it any longer, be his clock behind, and who stores it anew does so for all.
        fleet.later(3);
        let reader = (writer + 1) % 3;
        fleet.nodes[reader].bench.origin.then(Reply::cc("second", "max-age=60"));
        let seen = fleet.nodes[reader].get(&path).await.has_body("second");
        seen.told("larder; fwd=stale; stored; ttl=60");
        for node in &fleet.nodes {
            node.get(&path).await.has_body("second").told(HIT);
        }
    }
    let heard = fleet.heard().await;
    let said = |advice: &[RedisAdvice]| advice.iter().map(ToString::to_string).collect::<Vec<_>>();
    let said: Vec<_> = heard.iter().map(|advice| said(advice)).collect();
    let warning =
        |how| format!("the clock of this node is 300 s {how} that of Redis: let a time service set both");
    assert_eq!(said, [vec![], vec![warning("ahead of")], vec![warning("behind")]], "each says it once");
}

#[tokio::test]
async fn what_is_validated_by_a_node_whose_clock_differs_is_fresh_for_all() {
    let mut fleet = Fleet::ahead([0, -MINUTES, MINUTES]);
    let first = Reply::cc("x", "max-age=60").field("etag", "\"1\"");
    fleet.nodes[0].bench.origin.then(first);
    fleet.nodes[0].get("/").await.told(FILLED);
    fleet.later(61);
    let validated = Reply::new("").status(304).field("cache-control", "max-age=60");
    fleet.nodes[1].bench.origin.not_modified(Some(validated));
    fleet.nodes[1].get("/").await.has_body("x").told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
    for node in &fleet.nodes {
        node.get("/").await.has_body("x").told(HIT);
    }
}

#[tokio::test]
async fn a_record_that_nodes_write_by_turns_keeps_its_times() {
    // Each differs from the next one by less than a second, and so from none as far as anybody cares.
    let fleet = Fleet::ahead([0, 900, 1_800]);
    let get = async |node: usize, language: &str| {
        fleet.nodes[node].bench.get_with("/", &[("accept-language", language)]).await
    };
    let fill = async |node: usize, language: &str| {
        let reply = Reply::cc(language, "max-age=60").field("vary", "accept-language");
        fleet.nodes[node].bench.origin.then(reply);
        get(node, language).await.has_body(language);
    };
    fill(0, "en").await;
    for round in 0..12 {
        fill(2 - round % 3, &format!("x-{round}")).await;
    }
    for node in 0..3 {
        let seen = get(node, "en").await.has_body("en");
        assert!(seen.is_hit() && seen.age().unwrap() <= 1, "{node}: {seen:?}");
    }
    get(0, "en").await.told(HIT);
}

#[tokio::test]
async fn a_purge_counts_whatever_the_clock_of_the_server_is_set_to() {
    let server = Server::with_clock("+0");
    let namespace = namespace();
    let node = || Node::new(config(&server.url()).namespace(&namespace));
    let (one, other) = (node(), node());
    // Both have compared their clocks with this one.
    one.fill("/", "first").await;
    other.get("/").await.has_body("first").told(HIT);
    one.purge(PurgeTarget::All).await.unwrap();
    for clock in ["-3600", "+0", "+3600", "-86400", "-86401"] {
        one.fill("/", "old").await;
        one.fill("/other", "kept").await;
        server.set_clock(clock);
        other.get("/").await.has_body("old").told(HIT);
        other.purge(PurgeTarget::uri("http://example.com/")).await.unwrap();
        // The same for who knows of it, who has to read of it, and who starts now.
        let late = node();
        for (round, asked) in [&other, &one, &late].into_iter().enumerate() {
            asked.bench.origin.then(Reply::cc("new", "max-age=60, no-store"));
            assert_eq!(asked.get("/").await.body, "new", "{round}: the clock is set to {clock}");
        }
        one.get("/other").await.has_body("kept").told(HIT);
        one.fill("/", "new").await;
        other.get("/").await.has_body("new").told(HIT);
        one.purge(PurgeTarget::All).await.unwrap();
        let state = server.ask(&["GET", &format!("{{{namespace}.1}}:n")]).text();
        let numbers: Vec<u64> =
            state.split(':').skip(1).take(2).map(|number| number.parse().unwrap()).collect();
        assert!(numbers[1] > numbers[0], "each number is greater than the last: {state}");
    }
}
