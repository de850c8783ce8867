//! Purges against what is on its way, in the store alone, or while it can't be read; and unsafe requests whose clients leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::UNIX_EPOCH;

use shuttle::future::yield_now;

use super::origin::Script;
use super::stores::Slow;
use super::world::{MOST_POLLS, World, patient};
use super::{below, explore, one_of};
use crate::store::conformance::{here, response, targets};
use crate::store::{MemoryStore, PurgeMode, PurgeTarget, Store};

/// A store, and whether what it is filled from has changed.
#[derive(Clone)]
struct Shelves {
    has_changed: Arc<AtomicBool>,
    store: Slow,
}

impl Shelves {
    fn new() -> Self {
        let store = MemoryStore::builder().capacity(256 * 1024).max_object(1024).build();
        Self { has_changed: Arc::default(), store: Slow(store) }
    }

    /// Asks for what there is now, and stores it.
    async fn fill(self) {
        let (key, accept) = (here(), one_of(&["x", "y"]));
        let expected = self.store.expect(&key);
        let content = if self.has_changed.load(Ordering::SeqCst) { "new" } else { "old" };
        yield_now().await;
        let fence = expected.fence().expect("the store in memory forgets purges");
        let written = self.store.put(&key, response(content, accept), fence).await;
        written.expect("the store in memory does not fail");
    }

    async fn purge(&self, target: &PurgeTarget, how: PurgeMode) {
        self.store.invalidate(std::slice::from_ref(target), how).await.expect("the store in memory is sure");
    }

    /// Nothing older than the change is fresh.
    async fn is_new(&self) {
        let lookup = self.store.get(&here()).await.expect("the store in memory does not fail");
        for stored in lookup.variants.iter() {
            let content = stored.response.payload().to_bytes().expect("content in memory");
            assert!(stored.expired.is_some() || content == "new", "fresh after its purge");
        }
    }

    /// When nothing is stored or on its way any more, no name is held.
    async fn is_empty(&self) {
        self.purge(&PurgeTarget::All, PurgeMode::Remove).await;
        self.purge(&PurgeTarget::Tag("other".into()), PurgeMode::Remove).await;
        self.is_new().await;
        assert_eq!(self.store.0.names(), 0, "names that are held for nothing");
    }
}

#[test]
fn a_purge_reaches_responses_on_their_way_to_the_store() {
    explore(|| async {
        let shelves = Shelves::new();
        let fills = [(); 2].map(|()| shuttle::future::spawn(shelves.clone().fill()));
        let purge = shuttle::future::spawn({
            let shelves = shelves.clone();
            async move {
                shelves.has_changed.store(true, Ordering::SeqCst);
                let how = one_of(&[PurgeMode::Remove, PurgeMode::Expire(UNIX_EPOCH)]);
                shelves.purge(&targets()[below(targets().len())], how).await;
                shelves.is_new().await;
            }
        });
        // Removes what is stored, so that its names are let go of.
        let another = shuttle::future::spawn({
            let shelves = shelves.clone();
            async move {
                shelves.purge(&PurgeTarget::Key(here()), PurgeMode::Remove).await;
                shelves.clone().fill().await;
            }
        });
        for fill in fills {
            fill.await.expect("a fill");
        }
        purge.await.expect("a purge");
        shelves.is_new().await;
        another.await.expect("a purge and a fill");
        shelves.is_new().await;
        shelves.is_empty().await;
    });
}

#[test]
fn abandoned_posts_leave_no_outdated_response() {
    explore(|| async {
        let world = World::with(Script::fresh(), patient().abandoned(one_of(&[0, 1, 2])), 1024);
        let clients = [world.client(), world.client()];
        let posts = [(); 2].map(|()| world.post_leaver(below(MOST_POLLS)));
        for post in posts {
            post.await.expect("a client");
        }
        for client in clients {
            client.await.expect("a client").call();
        }
        world.settle().await;
        // Whatever a request has changed before it ended or was dropped is seen by then.
        world.promise(world.origin.version());
        world.settle().await;
    });
}

#[test]
fn a_purge_counts_while_reads_of_the_store_fail() {
    explore(|| async {
        let world = World::unreadable(Script::fresh());
        let early = [world.client(), world.client()];
        let purge = shuttle::future::spawn({
            let world = world.clone();
            async move {
                let version = world.origin.change();
                let uri = World::uri();
                let purged = match one_of(&[false, true]) {
                    false => world.handle.purge(&uri).await,
                    true => world.handle.soft_purge(&uri).await,
                };
                purged.expect("purges of this store do not fail");
                world.promise(version);
                world.ask().await.call();
            }
        });
        let late = [world.client(), world.client()];
        for client in early.into_iter().chain(late) {
            client.await.expect("a client").call();
        }
        purge.await.expect("a purge");
        world.settle().await;
    });
}
