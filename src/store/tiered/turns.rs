//! Who changes what is under a key in both levels, one at a time.
//!
//! The far store and the near one take a change one after the other. Were another one made in between, the levels could end with two
//! different responses of the same age; and what was found far before a change could come near after it, and replace what has come.
//! So whoever writes has the turn of its key from before the far store is asked until the near one has followed, and a promotion
//! needs that nobody has had it since before the look at the far store.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::entry::key::CacheKey;
use crate::runtime::briefly;

/// How long a look-up waits for what is on its way to the far store.
const MOST_BEHIND: Duration = Duration::from_secs(1);
/// In how many places keys take turns. One where schedules are explored, so that the random hash of a key has no part in them.
const PLACES: usize = if cfg!(shuttle) { 1 } else { 1_024 };

pub(super) struct Turns {
    places: Box<[Arc<Place>]>,
    random: RandomState,
}

#[derive(Default)]
struct Place {
    /// Odd while somebody writes.
    changes: AtomicU64,
    /// What is near is on its way to the far store.
    is_far_behind: AtomicBool,
    turn: Arc<Mutex<()>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { places: (0..PLACES).map(|_| Arc::default()).collect(), random: RandomState::new() }
    }
}

impl Turns {
    fn place(&self, key: &CacheKey) -> &Arc<Place> {
        let hash = self.random.hash_one(key);
        &self.places[usize::try_from(hash % self.places.len() as u64).unwrap_or_default()]
    }

    /// Waits for the turn to write under a key.
    pub(super) async fn write(&self, key: &CacheKey) -> Writing {
        let place = Arc::clone(self.place(key));
        let turn = Arc::clone(&place.turn).lock_owned().await;
        place.changes.fetch_add(1, Ordering::SeqCst);
        Writing { place, _turn: turn }
    }

    /// Before a look at the far store.
    pub(super) fn look(&self, key: &CacheKey) -> Look {
        let place = Arc::clone(self.place(key));
        let seen = place.changes.load(Ordering::SeqCst);
        Look { place, seen }
    }

    /// Waits until the far store has what was told to be stored and is near so far.
    pub(super) async fn catch_up(&self, key: &CacheKey) {
        let place = self.place(key);
        if place.is_far_behind.load(Ordering::SeqCst) {
            // Where the far store hangs, what is near has been looked for by then.
            drop(briefly(MOST_BEHIND, place.turn.lock()).await);
        }
    }
}

/// The turn to write.
pub(super) struct Writing {
    place: Arc<Place>,
    _turn: OwnedMutexGuard<()>,
}

impl Writing {
    /// The near store has it, and this is kept until the far one has it.
    pub(super) fn is_near_first(&self) {
        self.place.is_far_behind.store(true, Ordering::SeqCst);
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.place.is_far_behind.store(false, Ordering::SeqCst);
        self.place.changes.fetch_add(1, Ordering::SeqCst);
    }
}

/// Somebody has looked at what is under a key.
pub(super) struct Look {
    place: Arc<Place>,
    seen: u64,
}

impl Look {
    /// The turn to bring near what was found; `None` where it may not be what the far store has now. As long as it is held, it is.
    pub(super) fn turn(&self) -> Option<OwnedMutexGuard<()>> {
        let turn = Arc::clone(&self.place.turn).try_lock_owned().ok()?;
        let is_as_seen =
            self.seen.is_multiple_of(2) && self.place.changes.load(Ordering::SeqCst) == self.seen;
        is_as_seen.then_some(turn)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn key() -> CacheKey {
        CacheKey::from_uri(&http::Uri::from_static("http://a/x")).expect("a key")
    }

    #[tokio::test]
    async fn what_was_seen_before_or_during_a_write_gets_no_turn() {
        let (key, turns) = (key(), Turns::default());
        let before = turns.look(&key);
        assert!(before.turn().is_some());
        let writing = turns.write(&key).await;
        let during = turns.look(&key);
        assert!(before.turn().is_none() && during.turn().is_none());
        drop(writing);
        assert!(before.turn().is_none() && during.turn().is_none());
        assert!(turns.look(&key).turn().is_some());
    }

    #[tokio::test]
    async fn who_writes_waits_for_what_comes_near() {
        let (key, turns) = (key(), Turns::default());
        let promoting = turns.look(&key).turn();
        let mut writing = Box::pin(turns.write(&key));
        assert!((&mut writing).now_or_never().is_none());
        drop(promoting);
        assert!((&mut writing).now_or_never().is_some());
    }
}
