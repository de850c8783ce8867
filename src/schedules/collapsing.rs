//! One call for many: if a client leaves, or a call fails or panics, the others get their answers.

use std::time::Duration;

use super::origin::{Fault, Script};
use super::world::{MOST_POLLS, Seen, World, patient};
use super::{below, explore, one_of};
use crate::limits::FillLimits;

#[test]
fn clients_get_answers_when_the_leader_is_dropped_at_any_await() {
    explore(|| async {
        let world = World::new(Script::fresh());
        let leader = world.leaver(below(MOST_POLLS));
        let others = [world.client(), world.client()];
        for other in others {
            other.await.expect("a client").call();
        }
        leader.await.expect("a client");
        world.settle().await;
        assert_eq!(world.origin.calls(), 1, "calls");
    });
}

#[test]
fn clients_get_answers_when_no_detached_call_is_allowed() {
    explore(|| async {
        let world = World::with(Script::fresh(), patient().detached(0), 1024);
        let leaders = [world.leaver(below(MOST_POLLS)), world.leaver(below(MOST_POLLS))];
        let other = world.client();
        other.await.expect("a client").call();
        for leader in leaders {
            leader.await.expect("a client");
        }
        world.settle().await;
        assert!(world.origin.calls() <= 3, "one that stays, and one for each that leaves");
    });
}

#[test]
fn nothing_is_left_when_every_client_is_dropped() {
    explore(|| async {
        let world = World::with(Script::fresh(), patient().detached(one_of(&[0, 1])), 1024);
        let clients = [(); 3].map(|()| world.leaver(below(MOST_POLLS)));
        for client in clients {
            client.await.expect("a client");
        }
        world.settle().await;
    });
}

#[test]
fn a_hanging_call_ends_when_every_client_is_dropped() {
    explore(|| async {
        let script = Script::fresh().failing(0, Fault::Hang);
        let world = World::with(script, patient().detached(0), one_of(&[12, 1024]));
        for client in [(); 3].map(|()| world.leaver(1 + below(MOST_POLLS))) {
            client.await.expect("a client");
        }
        // Where the store answers at once, the first poll of the first one makes the call.
        let is_made = world.origin.calls() > 0;
        assert!(is_made || world.is_slow, "nobody has asked");
        if is_made {
            world.settle().await; // nobody after them gets what never comes
        }
    });
}

#[test]
fn clients_get_answers_when_followers_are_dropped() {
    explore(|| async {
        let world = World::new(Script::fresh());
        let leader = world.client();
        let followers = [world.leaver(below(MOST_POLLS)), world.leaver(below(MOST_POLLS))];
        let last = world.client();
        leader.await.expect("a client").call();
        last.await.expect("a client").call();
        for follower in followers {
            follower.await.expect("a client");
        }
        world.settle().await;
        assert_eq!(world.origin.calls(), 1, "calls");
    });
}

#[test]
fn clients_get_answers_when_the_leader_panics() {
    explore(|| a_call_fails(Fault::Panic));
}

#[test]
fn clients_get_answers_when_the_leader_fails() {
    explore(|| a_call_fails(Fault::Error));
}

/// One client gets the fault; others do only where they have begun to read what breaks off.
async fn a_call_fails(fault: Fault) {
    let world = World::new(Script::fresh().failing(0, fault));
    let mut hurt = 0;
    for client in [(); 3].map(|()| world.client()) {
        match client.await.expect("a client") {
            Seen::Failed | Seen::Panicked => hurt += 1,
            Seen::Broken | Seen::Whole { .. } => {}
        }
    }
    assert!(hurt <= 1, "{hurt} clients got one fault");
    world.settle().await;
    assert!(world.origin.calls() <= 3, "{} calls", world.origin.calls());
}

#[test]
fn each_client_of_an_uncacheable_herd_gets_its_own_answer() {
    explore(|| async {
        let world = World::new(Script::new(one_of(&["no-store", "private"])));
        let mut calls = Vec::new();
        for client in [(); 4].map(|()| world.client()) {
            calls.push(client.await.expect("a client").call());
        }
        calls.sort_unstable();
        assert_eq!(calls, [0, 1, 2, 3], "each has an answer of its own");
        world.settle().await;
    });
}

#[test]
fn a_herd_in_two_languages_makes_two_or_three_calls() {
    explore(|| async {
        let world = World::new(Script::fresh().varying());
        let clients = ["de", "en", "de", "en"].map(|language| {
            let world = world.clone();
            shuttle::future::spawn(world.ask_in(language))
        });
        for client in clients {
            client.await.expect("a client").call();
        }
        // One for each language, and one more for a client that asked before anybody knew that there are two.
        let calls = world.origin.calls();
        assert!((2..=3).contains(&calls), "{calls} calls");
        world.settle().await;
    });
}

#[test]
fn impatient_followers_make_their_own_calls() {
    explore(|| async {
        let world = World::with(Script::fresh(), FillLimits::new().wait(Duration::ZERO), 1024);
        for client in [(); 3].map(|()| world.client()) {
            client.await.expect("a client").call();
        }
        world.settle().await;
        assert!(world.origin.calls() <= 3, "{} calls", world.origin.calls());
    });
}

#[test]
fn the_bounds_of_fills_and_detached_calls_hold() {
    explore(|| async {
        let limits = patient().fills(1).detached(1).in_flight(one_of(&[8, 16, 64]));
        let world = World::with(Script::fresh().varying(), limits, 1024);
        let leavers = [world.leaver(below(MOST_POLLS)), world.leaver(below(MOST_POLLS))];
        let clients = ["de", "en"].map(|language| shuttle::future::spawn(world.clone().ask_in(language)));
        for client in clients {
            let fills = world.handle.fills();
            assert!(fills.fills <= 1 && fills.detached <= 1, "{fills:?}");
            client.await.expect("a client");
        }
        for leaver in leavers {
            leaver.await.expect("a client");
        }
        world.settle().await;
    });
}
