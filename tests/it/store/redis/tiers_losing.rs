//! What a server loses, or a link does not carry, while a near tier has what is purged: nothing of that comes back (F17).
//!
//! A node that is away has what is purged in its near tier, and hears nothing: the connections to its server are stalled or refused,
//! not those of the others.

use std::time::{Duration, Instant};

use larder::store::record::RecordNames;
use larder::store::{PurgeMode, PurgeTarget, Store, TierLimits};

use super::losing::Pair;
use super::tiers::{Node, key, patient};
use super::{FILLED, config, namespace, until};
use crate::support::Reply;
use crate::support::faulty::{Faults, Faulty};
use crate::support::servers::{Answer, Cluster, Kind, Server, eventually};

/// For how long a near tier answers by default without having heard from the log.
const BOUND: Duration = Duration::from_millis(250);

fn short() -> TierLimits {
    TierLimits::new()
}

async fn moments() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

impl Node {
    fn answers_with(&self, body: &str) {
        self.bench.origin.then(Reply::cc(body, "max-age=60").field("cache-groups", "\"news\""));
    }

    async fn fill(&self, body: &str) {
        self.answers_with(body);
        self.bench.get("/").await.has_body(body).told(FILLED);
        self.bring_near(body).await;
    }

    async fn purge(&self) {
        self.tier.invalidate(&[PurgeTarget::tag("news")], PurgeMode::Remove).await.unwrap();
    }

    /// Asks until the answer comes from its store. Whatever is answered is this.
    async fn gives_only(&self, body: &str) {
        self.answers_with(body);
        while !self.bench.get("/").await.has_body(body).is_hit() {
            moments().await;
        }
    }

    /// Asks until it is near. Whatever is answered is this; a purge that is appended again may make it go once more.
    async fn has_near_only(&self, body: &str) {
        self.answers_with(body);
        let asking = async {
            while !self.is_near() {
                self.bench.get("/").await.has_body(body);
                moments().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), asking).await.expect("it is near within a minute");
    }
}

/// Of one namespace: a node that purges, and one that is to be away.
struct Two {
    away: Node,
    here: Node,
    namespace: String,
    way: Faulty,
}

impl Two {
    async fn with(server: &Server, limits: TierLimits) -> Self {
        let (namespace, way) = (namespace(), Faulty::before(server.port));
        let here = Node::new(&server.url(), &namespace, patient());
        let away = Node::new(&way.url(), &namespace, limits);
        here.fill("old").await;
        away.bring_near("old").await;
        Self { away, here, namespace, way }
    }

    /// From now on, one of them can't reach the server.
    fn part(&self) {
        self.way.set(Faults { refuses: true, ..Faults::default() });
        self.way.cut();
    }

    /// They can again, when one of them has heard nothing for longer than the bound. What it had near is gone as soon as that
    /// answers again, though nobody has asked for anything meanwhile.
    async fn meet(&self) {
        until("the bound was to be over", || !self.away.is_near()).await;
        self.way.set(Faults::default());
        until("the near tier was to answer again", || {
            assert!(!self.away.is_near(), "it gives what was purged");
            self.away.tier.is_near_open()
        })
        .await;
    }
}

#[tokio::test]
async fn a_purge_that_came_while_the_link_was_down_is_heard_of_when_it_is_back() {
    for kind in Kind::ALL {
        let server = Server::start(kind);
        // The bound is a minute: it is not by that that it goes.
        let two = Two::with(&server, patient()).await;
        two.part();
        two.here.purge().await;
        two.way.set(Faults::default());
        until("the purge was to be heard of", || !two.away.is_near()).await;
        two.away.has_near_only("new").await;
    }
}

/// A purge that nobody can have heard of is out of the near tier by the time of its bound, whatever the machine does meanwhile:
/// nothing is asserted of how long anything takes, only of what is answered to whoever asks later.
async fn nothing_is_near_after_the_bound(node: &Node, purged: Instant) {
    loop {
        let asked = Instant::now();
        let is_near = node.is_near();
        if asked > purged + BOUND {
            assert!(!is_near, "{:?} after the purge", asked - purged);
        }
        if asked > purged + 3 * BOUND {
            return;
        }
        moments().await;
    }
}

#[tokio::test]
async fn a_near_tier_that_hears_nothing_does_not_answer_beyond_its_bound() {
    let server = Server::start(Kind::Redis);
    let two = Two::with(&server, short()).await;
    // Connections that stay open, and on which nothing comes.
    two.way.set(Faults { stalls: true, ..Faults::default() });
    two.here.purge().await;
    nothing_is_near_after_the_bound(&two.away, Instant::now()).await;
    two.meet().await;
    two.away.has_near_only("new").await;
}

#[tokio::test]
async fn a_near_tier_that_can_not_connect_does_not_answer_beyond_its_bound() {
    let server = Server::start(Kind::Redis);
    let two = Two::with(&server, short()).await;
    two.part();
    two.here.purge().await;
    nothing_is_near_after_the_bound(&two.away, Instant::now()).await;
    // Nor does the far one, which it can't reach.
    two.away.answers_with("of the origin");
    two.away.bench.get("/").await.has_body("of the origin");
    two.meet().await;
    two.here.gives_only("new").await;
    two.away.has_near_only("new").await;
}

#[tokio::test]
async fn a_purge_right_before_the_server_freezes_is_out_of_every_near_tier_within_the_bound() {
    let server = Server::start(Kind::Redis);
    let two = Two::with(&server, short()).await;
    two.here.purge().await;
    let purged = Instant::now();
    server.freeze();
    nothing_is_near_after_the_bound(&two.away, purged).await;
    assert!(!two.here.is_near(), "who has purged");
    server.thaw();
    two.away.has_near_only("new").await;
    two.here.has_near_only("new").await;
}

#[tokio::test]
async fn f17_a_purge_that_an_empty_restart_has_lost_stays_in_effect() {
    for kind in Kind::ALL {
        let mut server = Server::start(kind);
        let two = Two::with(&server, short()).await;
        two.part();
        two.here.purge().await;
        server.restart();
        two.meet().await;
        two.away.has_near_only("new").await;
        two.here.has_near_only("new").await;
    }
}

#[tokio::test]
async fn f17_a_server_that_starts_empty_makes_near_tiers_forget_what_they_had() {
    let mut server = Server::start(Kind::Redis);
    // A minute, so that the near tier would go on answering.
    let two = Two::with(&server, patient()).await;
    server.restart();
    until("near tiers were to be emptied", || !two.away.is_near() && !two.here.is_near()).await;
    two.away.has_near_only("new").await;
    two.here.has_near_only("new").await;
}

#[tokio::test]
async fn f17_without_the_counter_of_purges_nothing_that_was_purged_is_near() {
    without_keys(&["n"]).await;
}

#[tokio::test]
async fn f17_without_the_log_of_purges_nothing_that_was_purged_is_near() {
    without_keys(&["l"]).await;
}

#[tokio::test]
async fn f17_without_the_table_of_purges_nothing_that_was_purged_is_near() {
    without_keys(&["s"]).await;
}

#[tokio::test]
async fn f17_without_the_log_of_purges_and_its_table_nothing_that_was_purged_is_near() {
    without_keys(&["l", "s"]).await;
}

async fn without_keys(names: &[&str]) {
    for kind in Kind::ALL {
        let server = Server::start(kind);
        let two = Two::with(&server, short()).await;
        two.part();
        two.here.purge().await;
        for name in names {
            assert_eq!(server.ask(&["DEL", &format!("{{{}.1}}:{name}", two.namespace)]).number(), 1);
        }
        two.meet().await;
        two.away.has_near_only("new").await;
        // Nor is it for one that starts then, and everything goes on.
        let late = Node::new(&server.url(), &two.namespace, short());
        late.has_near_only("new").await;
        late.purge().await;
        for node in [&two.away, &two.here, &late] {
            until("the purge was to be heard of", || !node.is_near()).await;
            node.has_near_only("newer").await;
        }
    }
}

#[tokio::test]
async fn f17_a_log_that_was_trimmed_past_a_near_tier_makes_it_give_nothing_that_was_purged() {
    for kind in Kind::ALL {
        let server = Server::start(kind);
        let two = Two::with(&server, short()).await;
        two.part();
        two.here.purge().await;
        let log = format!("{{{}.1}}:l", two.namespace);
        assert_eq!(server.ask(&["XTRIM", &log, "MAXLEN", "0"]).number(), 1);
        two.meet().await;
        two.away.has_near_only("new").await;
    }
}

/// The node that has purged, and others, through the way to whichever server is the primary.
fn nodes<const N: usize>(pair: &Pair, namespace: &str) -> [Node; N] {
    // Their bound is a minute: what is not near any more has been heard of.
    [(); N].map(|()| Node::new(&pair.way.url(), namespace, patient()))
}

/// Whether the replica has the record, by which a failover would bring back what is purged.
fn has_record(pair: &Pair, namespace: &str) -> bool {
    let name = RecordNames::new(namespace).of(&key());
    pair.replica.ask(&["EXISTS", &name]) == Answer::Number(1)
}

#[tokio::test]
async fn f17_a_purge_that_a_failover_has_lost_stays_out_of_near_tiers_and_comes_back_far_by_one_read() {
    let mut pair = Pair::start();
    let namespace = namespace();
    let [purger, heard] = nodes(&pair, &namespace);
    purger.fill("old").await;
    heard.bring_near("old").await;
    eventually("the replica was to have the record", || has_record(&pair, &namespace));
    pair.part();
    purger.purge().await;
    until("the purge was to be heard of", || !heard.is_near()).await;
    drop(purger);
    pair.fail_over();
    assert!(has_record(&pair, &namespace), "the record has survived, and the purge has not");
    // One look-up that is answered has read the log.
    while heard.tier.get(&key()).await.map_or(true, |found| {
        assert!(found.variants.is_empty(), "the node that has heard of it gives it");
        false
    }) {
        moments().await;
    }
    let [third] = nodes(&pair, &namespace);
    third.has_near_only("new").await;
    heard.has_near_only("new").await;
}

#[tokio::test]
async fn f17_a_purge_that_a_replica_was_waited_for_is_never_lost_by_a_failover() {
    let mut pair = Pair::start();
    let namespace = namespace();
    let waiting = config(&pair.way.url()).namespace(&namespace).wait_for_replicas(1, Duration::from_secs(20));
    let purger = Node::of(waiting, short());
    purger.fill("old").await;
    eventually("the replica was to have the record", || has_record(&pair, &namespace));
    purger.purge().await;
    // Nobody who knows of it is left.
    drop(purger);
    pair.fail_over();
    assert!(has_record(&pair, &namespace));
    let [third] = nodes(&pair, &namespace);
    third.has_near_only("new").await;
}

#[tokio::test]
async fn f17_a_purge_that_no_replica_has_is_an_error_and_takes_effect_after_the_failover_all_the_same() {
    let mut pair = Pair::start();
    let namespace = namespace();
    let waiting =
        config(&pair.way.url()).namespace(&namespace).wait_for_replicas(1, Duration::from_millis(20));
    let purger = Node::of(waiting, short());
    purger.fill("old").await;
    eventually("the replica was to have the record", || has_record(&pair, &namespace));
    pair.part();
    purger.tier.invalidate(&[PurgeTarget::tag("news")], PurgeMode::Remove).await.unwrap_err();
    assert!(!purger.is_near(), "here it is in effect");
    pair.fail_over();
    // The promoted server has no replica, so that waiting for one fails; what it has, it has.
    purger.answers_with("new");
    let log = format!("{{{namespace}.1}}:l");
    until("the purge was to be appended again", || {
        matches!(pair.replica.ask(&["XLEN", &log]), Answer::Number(1..))
    })
    .await;
    purger.bench.get("/").await.has_body("new");
    let [third] = nodes(&pair, &namespace);
    third.has_near_only("new").await;
}

#[tokio::test]
async fn f17_a_node_of_a_cluster_that_has_the_log_and_starts_empty_makes_everything_go() {
    let mut cluster = Cluster::start();
    // None of them takes over: the server itself comes back, without what it had.
    cluster.replicas.iter().for_each(|replica| replica.set("cluster-replica-no-failover", "yes"));
    let place = |name: &str| {
        let slot = cluster.primaries[0].ask(&["CLUSTER", "KEYSLOT", name]).number();
        usize::from(slot > 5_460) + usize::from(slot > 10_922)
    };
    // One whose log is not where the record is.
    let (namespace, log) = loop {
        let namespace = namespace();
        let log = place(&format!("{{{namespace}.1}}:n"));
        if log != place(&RecordNames::new(&namespace).of(&key())) {
            break (namespace, log);
        }
    };
    let [one, other] = [(); 2].map(|()| Node::new(&cluster.url(), &namespace, short()));
    one.fill("old").await;
    other.bring_near("old").await;
    one.bench.origin.then(Reply::cc("kept", "max-age=60"));
    one.bench.get("/kept").await.told(FILLED);
    one.purge().await;
    // While it is gone, nothing can be judged, be it stored on another one.
    cluster.primaries[log].kill();
    until("the bound was to be over", || !one.tier.is_near_open()).await;
    one.bench.origin.then(Reply::cc("of the origin", "max-age=60"));
    one.bench.get("/kept").await.has_body("of the origin");
    one.tier.invalidate(&[PurgeTarget::tag("other")], PurgeMode::Remove).await.unwrap_err();
    cluster.primaries[log].restart();
    // Also for one that has never heard of the purge.
    let late = Node::new(&cluster.url(), &namespace, short());
    for node in [&late, &one, &other] {
        node.has_near_only("new").await;
    }
}
