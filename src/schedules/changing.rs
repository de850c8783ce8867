//! Content that changes while it is fetched, served and validated.

use std::time::Duration;

use shuttle::future::yield_now;

use super::origin::{Fault, Script};
use super::world::{MOST_POLLS, Seen, World};
use super::{below, explore, one_of};
use crate::store::PurgeTarget;

/// The ways to say that what is stored does not hold any more.
#[derive(Clone, Copy)]
enum Purge {
    All,
    Post,
    Soft,
    Uri,
}

/// Changes the content and says so. What is asked from then on is answered with the new content.
async fn change(world: World) {
    match one_of(&[Purge::All, Purge::Post, Purge::Soft, Purge::Uri]) {
        Purge::Post => {
            world.clone().post().await;
            world.promise(1);
        }
        purge => {
            let version = world.origin.change();
            match purge {
                Purge::All => world.handle.purge_target(&PurgeTarget::All).await,
                Purge::Soft => world.handle.soft_purge(&World::uri()).await,
                _ => world.handle.purge(&World::uri()).await,
            }
            .expect("the store in memory is sure");
            world.promise(version);
        }
    }
}

#[test]
fn a_purge_during_a_fill_reaches_its_response() {
    explore(|| async {
        let world = World::new(Script::fresh());
        let early = [world.client(), world.client()];
        let purge = shuttle::future::spawn(change(world.clone()));
        let late = shuttle::future::spawn({
            let world = world.clone();
            async move {
                world.clone().ask().await.call();
                world.ask().await.call();
            }
        });
        for client in early {
            client.await.expect("a client").call();
        }
        late.await.expect("a client");
        purge.await.expect("a purge");
        // One before and one after the change, and one for each that asked while the purge was under way, which takes its
        // turns: what comes of that is not stored.
        let calls = world.origin.calls();
        assert!(calls <= 4, "{calls} calls");
        for _ in 0..2 {
            world.clone().ask().await.call();
        }
        assert!(world.origin.calls() <= calls + 1, "{} calls", world.origin.calls());
        world.settle().await;
    });
}

/// The end of a call takes nothing away from the one that has come in its place.
#[test]
fn a_call_that_a_purge_has_overtaken_does_not_end_its_successor() {
    explore(|| async {
        let world = World::new(Script::fresh());
        let early = world.client();
        for _ in 0..below(MOST_POLLS) {
            yield_now().await;
        }
        let version = world.origin.change();
        world.handle.purge(&World::uri()).await.expect("the store in memory is sure");
        world.promise(version);
        let late = [world.client(), world.client(), world.client()];
        for client in late {
            client.await.expect("a client").call();
        }
        early.await.expect("a client").call();
        assert!(world.origin.calls() <= 2, "{} calls", world.origin.calls());
        world.settle().await;
    });
}

#[test]
fn clients_get_answers_after_a_purge_and_a_dropped_leader() {
    explore(|| async {
        let world = World::new(Script::fresh());
        let leader = world.leaver(below(MOST_POLLS));
        let purge = shuttle::future::spawn(change(world.clone()));
        let others = [world.client(), world.client()];
        for client in others {
            client.await.expect("a client").call();
        }
        leader.await.expect("a client");
        purge.await.expect("a purge");
        world.settle().await;
    });
}

#[test]
fn a_herd_shares_one_validation() {
    explore(|| async {
        let world = World::new(Script::fresh());
        world.clone().ask().await.call();
        world.later(61);
        for client in [(); 3].map(|()| world.client()) {
            client.await.expect("a client").call();
        }
        world.settle().await;
        assert_eq!(world.origin.calls(), 2, "calls");
    });
}

#[test]
fn a_purge_during_a_validation_holds() {
    explore(|| async {
        let world = World::new(Script::fresh());
        world.clone().ask().await.call();
        world.later(61);
        let early = [world.client(), world.client()];
        let purge = shuttle::future::spawn(change(world.clone()));
        let leaver = world.leaver(below(MOST_POLLS));
        for client in early {
            client.await.expect("a client").call();
        }
        leaver.await.expect("a client");
        purge.await.expect("a purge");
        world.settle().await;
        assert!(world.origin.calls() <= 5, "{} calls", world.origin.calls());
    });
}

#[test]
fn a_herd_starts_one_background_validation() {
    explore(|| async {
        let world = World::new(Script::new("max-age=60, stale-while-revalidate=60"));
        world.clone().ask().await.call();
        world.later(61);
        for client in [(); 3].map(|()| world.client()) {
            client.await.expect("a client").call();
        }
        world.settle().await;
        assert_eq!(world.origin.calls(), 2, "calls");
    });
}

#[test]
fn racing_clients_find_a_change_by_one_validation() {
    explore(|| async {
        let world = World::new(Script::new(one_of(&["max-age=60", "max-age=60, stale-while-revalidate=60"])));
        world.clone().ask().await.call();
        world.later(61);
        world.origin.change();
        let clients = [world.client(), world.client()];
        let leaver = world.leaver(below(MOST_POLLS));
        for client in clients {
            client.await.expect("a client").call();
        }
        leaver.await.expect("a client");
        world.settle().await;
        world.promise(1);
        world.clone().ask().await.call();
        assert_eq!(world.origin.calls(), 2, "calls");
    });
}

#[test]
fn a_failed_validation_is_answered_with_the_stand_in() {
    explore(|| async {
        let fault = one_of(&[Fault::Error, Fault::Panic]);
        let world = World::standing_in(Script::fresh().failing(1, fault), None);
        world.clone().ask().await.call();
        world.later(61);
        let mut panicked = 0;
        for client in [(); 3].map(|()| world.client()) {
            match client.await.expect("a client") {
                Seen::Panicked => panicked += 1,
                seen => assert!(seen.is_whole(), "what is stored stands in, but a client got {seen:?}"),
            }
        }
        assert!(panicked <= 1, "{panicked} clients got one panic");
        world.settle().await;
    });
}

#[test]
fn a_latency_budget_serves_the_stale_response() {
    explore(|| async {
        let world = World::standing_in(Script::fresh(), Some(Duration::ZERO));
        world.clone().ask().await.call();
        world.later(61);
        let change = one_of(&[false, true]).then(|| world.origin.change());
        for client in [(); 3].map(|()| world.client()) {
            client.await.expect("a client").call();
        }
        world.settle().await;
        world.promise(change.unwrap_or_default());
        world.clone().ask().await.call();
        assert_eq!(world.origin.calls(), 2, "calls");
    });
}
