//! Content that is too large to store: it is passed on, and a reader that is too slow for that is cut off.

use super::origin::Script;
use super::world::{MOST_POLLS, Seen, World, patient};
use super::{below, explore};

/// Less than an answer has.
const MAX_OBJECT: u64 = 12;

#[test]
fn a_reader_that_falls_behind_is_detached() {
    explore(|| async {
        let world = World::with(Script::fresh().streaming(), patient(), MAX_OBJECT);
        let slow = world.clone();
        let slow = shuttle::future::spawn(async move { slow.ask_slowly(below(32)).await });
        let fast = [world.client(), world.client()];
        for client in fast {
            let seen = client.await.expect("a client");
            assert!(seen.is_whole() || matches!(seen, Seen::Broken), "{seen:?}");
        }
        slow.await.expect("a client");
        world.settle().await;
        assert!(world.origin.calls() <= 4, "{} calls", world.origin.calls());
    });
}

#[test]
fn readers_may_leave_content_that_is_too_large_to_store() {
    explore(|| async {
        let world = World::with(Script::fresh().streaming(), patient(), MAX_OBJECT);
        let leavers = [world.leaver(below(MOST_POLLS)), world.leaver(below(MOST_POLLS))];
        world.client().await.expect("a client");
        for leaver in leavers {
            leaver.await.expect("a client");
        }
        world.settle().await;
    });
}
