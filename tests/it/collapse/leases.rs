//! One call for many nodes: who makes it, what the others get, and what happens when the node that makes it fails or dies.

use std::time::Duration;

use http::StatusCode;
use larder::store::LeaseEnd;
use larder::{ExplainedCall, FillLimits, StandardPolicy};

use crate::support::leasing::Fleet;
use crate::support::{Client, Stage, Step, settle};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");
const STALE_IF_ERROR: (&str, &str) = ("cache-control", "max-age=60, stale-if-error=600");

/// `count` requests at each node, in turn.
async fn herds(fleet: &Fleet, count: usize, fields: &[(&str, &str)]) -> Vec<Client> {
    let mut clients = Vec::new();
    for node in &fleet.nodes {
        clients.extend(node.herd(count, fields));
        settle().await;
    }
    clients
}

#[track_caller]
fn assert_idle(fleet: &Fleet) {
    assert_eq!((fleet.desk.held(), fleet.origin.open()), (0, 0));
    for node in &fleet.nodes {
        let fills = node.handle.fills();
        assert_eq!((fills.fills, fills.waiting, fills.held), (0, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_herd_at_many_nodes_makes_one_call() {
    let fleet = Fleet::of(4);
    let clients = herds(&fleet, 50, &[]).await;
    assert_eq!((fleet.origin.calls(), fleet.desk.asked()), (1, 4), "the leader of each node asks");
    fleet.origin.call(0).head(&[FRESH]).frame("all").end();
    for client in clients {
        client.seen().await.has_body("all");
    }
    assert_eq!((fleet.origin.calls(), fleet.desk.ends()), (1, vec![LeaseEnd::Over]));
    assert_idle(&fleet);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_waited_for_another_ones_call_answers_from_the_store() {
    let fleet = Fleet::of(2);
    let first = fleet.nodes[0].get("/");
    settle().await;
    let second = fleet.nodes[1].get("/");
    settle().await;
    fleet.origin.call(0).head(&[FRESH]).frame("x").end();
    first.seen().await.told("larder; fwd=uri-miss; stored; ttl=60");
    second.seen().await.told("larder; hit; ttl=60").has_body("x");
    assert_eq!(fleet.nodes[1].handle.fills().collapsed, 1);
    assert_idle(&fleet);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_gets_the_lease_finds_what_was_stored_since_it_looked() {
    let fleet = Fleet::of(2);
    // The second node looks up, and finds nothing, while the first one's call is under way.
    let first = fleet.nodes[0].get("/");
    settle().await;
    let second = fleet.nodes[1].get("/");
    settle().await;
    // The lease is lost, so the second one asks again and gets it; the first call is stored nonetheless.
    fleet.origin.call(0).head(&[FRESH]).frame("x").end();
    first.seen().await.has_body("x");
    fleet.desk.expire();
    second.seen().await.told("larder; hit; ttl=60");
    assert_eq!(fleet.origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_shared_lets_all_go_at_once_and_is_remembered_by_every_node() {
    let fleet = Fleet::of(3);
    let clients = herds(&fleet, 2, &[]).await;
    assert_eq!(fleet.origin.calls(), 1);
    fleet.origin.call(0).head(&[("cache-control", "private")]).frame("0").end();
    settle().await;
    assert_eq!(fleet.origin.calls(), 6, "everybody else makes a call");
    for number in 1..6 {
        fleet.origin.call(number).head(&[("cache-control", "private")]).frame("x").end();
    }
    for client in clients {
        assert_eq!(client.seen().await.status, StatusCode::OK);
    }
    assert_eq!(fleet.desk.ends(), [LeaseEnd::NotShareable(Duration::from_secs(30))]);
    // Nobody asks for a lease while that is remembered.
    let asked = fleet.desk.asked();
    let clients = herds(&fleet, 2, &[]).await;
    assert_eq!((fleet.origin.calls(), fleet.desk.asked()), (12, asked));
    drop(clients);
}

#[tokio::test(start_paused = true)]
async fn a_dead_node_costs_the_others_no_more_than_its_lease() {
    let fleet = Fleet::of(3);
    let dead = fleet.nodes[0].get("/");
    settle().await;
    let others: Vec<_> = fleet.nodes[1..].iter().map(|node| node.get("/")).collect();
    settle().await;
    assert_eq!(fleet.origin.calls(), 1);
    fleet.desk.expire();
    settle().await;
    assert_eq!(fleet.origin.calls(), 2, "one of the others makes a call for both");
    fleet.origin.call(1).head(&[FRESH]).frame("x").end();
    for other in others {
        other.seen().await.has_body("x");
    }
    assert_eq!(fleet.origin.calls(), 2);
    drop(dead);
}

#[tokio::test(start_paused = true)]
async fn a_node_waits_no_longer_than_a_request_waits_and_then_makes_its_own_call() {
    let limits = FillLimits::new().wait(Duration::from_secs(5));
    let fleet = Fleet::with(2, |builder| builder.fill_limits(limits.clone()));
    let hanging = fleet.nodes[0].get("/");
    settle().await;
    let waiting = fleet.nodes[1].get("/");
    settle().await;
    tokio::time::advance(Duration::from_secs(4)).await;
    settle().await;
    assert_eq!(fleet.origin.calls(), 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    settle().await;
    assert_eq!(fleet.origin.calls(), 2);
    fleet.origin.call(1).head(&[FRESH]).frame("x").end();
    waiting.seen().await.told("larder; fwd=uri-miss; stored; collapsed=?0; ttl=60").has_body("x");
    drop(hanging);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_knows_who_has_the_lease_each_node_makes_a_call() {
    let fleet = Fleet::of(3);
    fleet.desk.fail();
    let clients = herds(&fleet, 10, &[]).await;
    assert_eq!(fleet.origin.calls(), 3);
    for number in 0..3 {
        fleet.origin.call(number).head(&[FRESH]).frame("x").end();
    }
    for client in clients {
        client.seen().await.has_body("x");
    }
    assert_idle(&fleet);
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_whatever_becomes_of_the_call() {
    enum Fate {
        Abandoned,
        Broken,
        Refused,
        Unstorable,
    }
    for fate in [Fate::Abandoned, Fate::Broken, Fate::Refused, Fate::Unstorable] {
        let fleet = Fleet::with(1, |builder| builder.fill_limits(FillLimits::new().detached(0)));
        let node: &Stage = &fleet.nodes[0];
        let client = node.get("/");
        settle().await;
        let call = fleet.origin.call(0);
        assert_eq!(fleet.desk.held(), 1);
        match fate {
            Fate::Abandoned => client.leave(),
            Fate::Broken => {
                call.head(&[FRESH]).frame("x").step(Step::Fail);
                drop(client.seen().await);
            }
            Fate::Refused => {
                call.step(Step::Refuse);
                drop(client.answer().await);
            }
            Fate::Unstorable => {
                call.head(&[("cache-control", "no-store")]).end();
                drop(client.seen().await);
            }
        }
        settle().await;
        assert_eq!((fleet.desk.held(), fleet.desk.ends().len()), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_answers_the_requests_of_all_nodes_that_have_waited_with_what_is_stored() {
    for rest in [Duration::ZERO, Duration::from_secs(10)] {
        let policy = || StandardPolicy::default().rest_after_failure(rest);
        let fleet = Fleet::with(3, |builder| builder.policy(policy()));
        fleet.nodes[0].fill("/", &[Step::head(200, &[STALE_IF_ERROR]), Step::End]).await;
        fleet.later(61);
        let clients = herds(&fleet, 2, &[]).await;
        assert_eq!(fleet.origin.calls(), 2);
        fleet.origin.call(1).steps(&[Step::head(503, &[]), Step::End]);
        for client in clients {
            let seen = client.seen().await;
            assert!(seen.cache_status().contains("stale-if-error"), "{}", seen.cache_status());
        }
        assert_eq!(fleet.desk.ends(), [LeaseEnd::Over, LeaseEnd::Failed(rest)]);
        assert_idle(&fleet);
        // Whoever has heard of it lets the origin rest.
        drop(herds(&fleet, 2, &[]).await);
        assert_eq!(fleet.origin.calls(), if rest.is_zero() { 3 } else { 2 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_asks_while_the_fleet_rests_answers_with_what_is_stored() {
    let fleet = Fleet::of(2);
    fleet.nodes[0].fill("/", &[Step::head(200, &[STALE_IF_ERROR]), Step::End]).await;
    fleet.later(61);
    fleet.desk.rest(Duration::from_secs(5));
    let seen = fleet.nodes[1].get("/").seen().await;
    assert!(seen.cache_status().contains("stale-if-error"), "{}", seen.cache_status());
    assert_eq!(fleet.origin.calls(), 1);
    // Where nothing is stored, an origin that has just failed is asked all the same.
    let other = fleet.nodes[1].get("/other");
    settle().await;
    assert_eq!(fleet.origin.calls(), 2);
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_is_validated_in_the_background_by_one_node() {
    let fleet = Fleet::of(3);
    let stale_while_revalidate = ("cache-control", "max-age=60, stale-while-revalidate=600");
    let steps = [Step::head(200, &[stale_while_revalidate]), Step::End];
    fleet.nodes[0].fill("/", &steps).await;
    fleet.later(61);
    for client in herds(&fleet, 5, &[]).await {
        let seen = client.seen().await;
        assert!(seen.is_hit(), "{}", seen.cache_status());
    }
    assert_eq!(fleet.origin.calls(), 2);
    fleet.origin.call(1).head(&[stale_while_revalidate]).frame("new").end();
    settle().await;
    for node in &fleet.nodes {
        node.get("/").seen().await.told("larder; hit; ttl=60").has_body("new");
    }
    assert_eq!(fleet.origin.calls(), 2);
    assert_idle(&fleet);
}

#[tokio::test(start_paused = true)]
async fn requests_with_credentials_do_not_wait_for_those_without() {
    let fleet = Fleet::of(2);
    let plain = fleet.nodes[0].get("/");
    settle().await;
    let with_cookie = fleet.nodes[1].get_with("/", &[("cookie", "a=1")]);
    settle().await;
    assert_eq!(fleet.origin.calls(), 2);
    drop((plain, with_cookie));
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_after_a_purge_is_not_answered_with_a_call_from_before_it() {
    let fleet = Fleet::of(2);
    let before = fleet.nodes[0].get("/");
    settle().await;
    fleet.nodes[1].handle.purge(&"http://example.com/".parse().unwrap()).await.unwrap();
    let after = fleet.nodes[1].get("/");
    settle().await;
    fleet.origin.call(0).head(&[FRESH]).frame("old").end();
    before.seen().await.has_body("old");
    settle().await;
    assert_eq!(fleet.origin.calls(), 2);
    fleet.origin.call(1).head(&[FRESH]).frame("new").end();
    after.seen().await.has_body("new");
    fleet.nodes[0].get("/").seen().await.has_body("new");
    assert_idle(&fleet);
}

#[tokio::test(start_paused = true)]
async fn variants_that_are_known_have_leases_of_their_own() {
    let fleet = Fleet::of(2);
    let vary = ("vary", "accept-language");
    let steps = [Step::head(200, &[FRESH, vary]), Step::End];
    fleet.nodes[0].fill("/", &steps).await;
    let german = fleet.nodes[0].get_with("/", &[("accept-language", "de")]);
    settle().await;
    let french = fleet.nodes[1].get_with("/", &[("accept-language", "fr")]);
    settle().await;
    assert_eq!(fleet.origin.calls(), 3);
    fleet.origin.call(1).head(&[FRESH, vary]).frame("de").end();
    fleet.origin.call(2).head(&[FRESH, vary]).frame("fr").end();
    german.seen().await.has_body("de");
    french.seen().await.has_body("fr");
}

#[tokio::test(start_paused = true)]
async fn an_explanation_says_who_has_the_lease_and_asks_for_none() {
    let fleet = Fleet::of(2);
    let explained = async |of: usize, path: &str| {
        let request = crate::handle::explain::request(http::Method::GET, path, &[]);
        let explanation = fleet.nodes[of].handle.explain(&request).await;
        let step = explanation.steps.iter().find(|step| step.name == "lease");
        (explanation.call, step.map(|step| step.finding.clone()), explanation.status)
    };
    let own_call = ExplainedCall::Foreground { is_conditional: false };
    let free = "no node has the lease of the call: this one would get it".to_owned();
    assert_eq!(explained(1, "/").await, (own_call, Some(free), None));
    let first = fleet.nodes[0].get("/");
    settle().await;
    let held = "another node has the lease of the call: the request waits, and gets what that has stored";
    assert_eq!(explained(1, "/").await, (ExplainedCall::Shared, Some(held.to_owned()), None));
    assert_eq!(explained(0, "/").await, (ExplainedCall::Shared, None, None), "its own call is under way");
    assert_eq!(fleet.desk.asked(), 1);
    fleet.origin.call(0).head(&[STALE_IF_ERROR]).frame("x").end();
    first.seen().await.has_body("x");
    fleet.later(61);
    fleet.desk.rest(Duration::from_secs(7));
    let rests = "a call of another node has failed: for 7000 ms more, what is stored stands in if it may";
    let stands_in = (ExplainedCall::None, Some(rests.to_owned()), Some(StatusCode::OK));
    assert_eq!(explained(1, "/").await, stands_in);
    assert_eq!(explained(1, "/other").await, (own_call, Some(rests.to_owned()), None));
    fleet.desk.fail();
    assert_eq!(explained(1, "/other").await, (own_call, None, None), "nobody knows");
    assert_eq!((fleet.desk.asked(), fleet.origin.calls()), (1, 1));
}
