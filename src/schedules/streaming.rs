//! A store that takes content while it comes, and answers of which less is kept than they have.

use shuttle::future::yield_now;

use super::origin::{Fault, Script};
use super::stores::Streams;
use super::world::{MOST_POLLS, Seen, World};
use super::{below, explore, one_of};

/// It has all of an answer, or has fallen behind another client.
fn is_right(seen: &Seen) {
    assert!(seen.is_whole() || matches!(seen, Seen::Broken), "{seen:?}");
}

async fn turns(most: usize) {
    for _ in 0..below(most) {
        yield_now().await;
    }
}

#[test]
fn who_comes_late_makes_another_call() {
    explore(|| async {
        let world = World::streaming(Script::fresh(), Streams::Yes);
        let clients = [(); 3].map(|()| {
            let world = world.clone();
            shuttle::future::spawn(async move {
                turns(MOST_POLLS).await;
                world.ask().await
            })
        });
        for client in clients {
            is_right(&client.await.expect("a client"));
        }
        world.settle().await;
        // The last one asks when it may turn out that the store was too slow.
        assert!(world.origin.calls() <= 4, "{} calls", world.origin.calls());
    });
}

#[test]
fn readers_leave_what_is_drained() {
    explore(|| async {
        let world = World::streaming(Script::fresh(), Streams::Yes);
        let leavers = [world.leaver(below(MOST_POLLS)), world.leaver(below(MOST_POLLS))];
        let slow = world.clone();
        let slow = shuttle::future::spawn(async move { slow.ask_slowly(below(32)).await });
        is_right(&world.client().await.expect("a client"));
        for leaver in leavers {
            leaver.await.expect("a client");
        }
        slow.await.expect("a client");
        world.settle().await;
    });
}

#[test]
fn a_purge_while_the_store_takes_content() {
    explore(|| async {
        let world = World::streaming(Script::fresh(), Streams::Yes);
        let early = [world.client(), world.client()];
        turns(MOST_POLLS).await;
        let version = world.origin.change();
        world.handle.purge(&World::uri()).await.expect("the store in memory is sure");
        world.promise(version);
        let late = [world.client(), world.client()];
        for client in early.into_iter().chain(late) {
            is_right(&client.await.expect("a client"));
        }
        world.settle().await;
    });
}

#[test]
fn an_origin_that_fails_while_the_store_takes_content() {
    explore(|| async {
        let fault = one_of(&[Fault::Error, Fault::Panic]);
        let world = World::streaming(Script::fresh().failing(0, fault), Streams::Yes);
        let mut hurt = 0;
        for client in [(); 3].map(|()| world.client()) {
            match client.await.expect("a client") {
                Seen::Failed | Seen::Panicked => hurt += 1,
                Seen::Broken | Seen::Whole { .. } => {}
            }
        }
        assert!(hurt <= 1, "{hurt} clients got one fault");
        world.settle().await;
    });
}

#[test]
fn a_store_that_fails_while_it_takes_content_hurts_nobody() {
    explore(|| async {
        let world = World::streaming(Script::fresh(), Streams::Fail);
        let slow = world.clone();
        let slow = shuttle::future::spawn(async move { slow.ask_slowly(below(8)).await });
        for client in [world.client(), world.client()] {
            is_right(&client.await.expect("a client"));
        }
        slow.await.expect("a client");
        world.settle().await;
    });
}
