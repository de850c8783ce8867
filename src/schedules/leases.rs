//! One call for many nodes: if a client leaves, a call fails, or a lease is lost, the clients of all nodes get their answers.

use shuttle::future::yield_now;

use super::desk::Desk;
use super::origin::{Fault, Script};
use super::world::{MOST_POLLS, Seen, World};
use super::{below, explore, one_of};
use crate::runtime;

/// Nothing is left at any node, nor of any lease.
async fn settle(nodes: &[World], desk: &Desk) {
    for node in nodes {
        node.settle().await;
    }
    runtime::all_ended().await;
    assert!(desk.is_empty(), "leases");
}

#[test]
fn clients_of_two_nodes_share_one_call() {
    explore(|| async {
        let desk = Desk::default();
        let nodes: [World; 2] = World::fleet(Script::fresh(), &desk);
        let clients = [&nodes[0], &nodes[1], &nodes[0], &nodes[1]].map(World::client);
        for client in clients {
            assert_eq!(client.await.expect("a client").call(), 0);
        }
        settle(&nodes, &desk).await;
        assert_eq!(nodes[0].origin.calls(), 1);
    });
}

#[test]
fn clients_of_two_nodes_get_answers_when_a_leader_leaves() {
    explore(|| async {
        let desk = Desk::default();
        let nodes: [World; 2] = World::fleet(Script::fresh(), &desk);
        let leavers = [&nodes[0], &nodes[1]].map(|node| node.leaver(below(MOST_POLLS)));
        let others = [&nodes[0], &nodes[1]].map(World::client);
        for other in others {
            other.await.expect("a client").call();
        }
        for leaver in leavers {
            leaver.await.expect("a client");
        }
        settle(&nodes, &desk).await;
        assert!(nodes[0].origin.calls() <= 4, "one that stays at each node, and one for each that leaves");
    });
}

#[test]
fn clients_of_two_nodes_get_answers_when_a_call_fails() {
    explore(|| async {
        let desk = Desk::default();
        let script = Script::fresh().failing(0, one_of(&[Fault::Error, Fault::Panic]));
        let nodes: [World; 2] = World::fleet(script, &desk);
        let mut hurt = 0;
        for client in [&nodes[0], &nodes[1], &nodes[0]].map(World::client) {
            match client.await.expect("a client") {
                Seen::Failed | Seen::Panicked => hurt += 1,
                Seen::Broken | Seen::Whole { .. } => {}
            }
        }
        assert!(hurt <= 1, "{hurt} clients got one fault");
        settle(&nodes, &desk).await;
    });
}

#[test]
fn each_client_of_two_nodes_gets_its_own_private_answer() {
    explore(|| async {
        let desk = Desk::default();
        let nodes: [World; 2] = World::fleet(Script::new(one_of(&["no-store", "private"])), &desk);
        let mut calls = Vec::new();
        for client in [&nodes[0], &nodes[1], &nodes[0], &nodes[1]].map(World::client) {
            calls.push(client.await.expect("a client").call());
        }
        calls.sort_unstable();
        assert_eq!(calls, [0, 1, 2, 3], "each has an answer of its own");
        settle(&nodes, &desk).await;
    });
}

#[test]
fn a_purge_counts_at_every_node_whoever_holds_the_lease() {
    explore(|| async {
        let desk = Desk::default();
        let nodes: [World; 2] = World::fleet(Script::fresh(), &desk);
        let before = nodes[0].client();
        let purging = shuttle::future::spawn({
            let nodes = nodes.clone();
            async move {
                let version = nodes[1].origin.change();
                nodes[1].handle.purge(&World::uri()).await.expect("it is in memory");
                nodes.iter().for_each(|node| node.promise(version));
                nodes[1].clone().ask().await.call();
            }
        });
        before.await.expect("a client").call();
        purging.await.expect("a client");
        settle(&nodes, &desk).await;
    });
}

#[test]
fn clients_get_answers_when_leases_are_lost() {
    explore(|| async {
        let desk = Desk::default();
        let nodes: [World; 2] = World::fleet(Script::fresh(), &desk);
        let clients = [&nodes[0], &nodes[1], &nodes[1]].map(World::client);
        let losing = shuttle::future::spawn({
            let desk = desk.clone();
            async move {
                for _ in 0..2 {
                    for _ in 0..below(12) {
                        yield_now().await;
                    }
                    desk.expire();
                }
            }
        });
        for client in clients {
            client.await.expect("a client").call();
        }
        losing.await.expect("no client");
        settle(&nodes, &desk).await;
    });
}
