//! When a stored response is made stale because nobody knows what an unsafe request has done to its target.
//!
//! This happens occasionally. A client that breaks off one request after the other must not be able to cause the
//! requests of all other clients to be validated, so a key is made stale at once, and then at most once in a [`PAUSE`].
//! Failures within the pause count together at its end, unless the runtime ends first.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::collapse::key_memory::KeyMemory;
use crate::entry::key::CacheKey;
use crate::runtime::{Mutex, lock};

/// How long a key is left alone after it has been made stale.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);
/// How many keys may wait to be made stale at one time. Beyond that, a key is made stale without waiting.
const MOST_WAITING: usize = 1_024;

/// The keys that have just been made stale, and those that will be.
pub(crate) struct UnknownOutcomes {
    recent: KeyMemory,
    waiting: Arc<Mutex<HashSet<CacheKey>>>,
}

/// When a key is to be made stale.
pub(crate) enum When {
    /// Another call does it, later.
    Another,
    /// After a [`PAUSE`].
    Later(Waiting),
    Now,
}

/// A key that is going to be made stale. It is dropped before that is done, so that a later failure does not rely on an
/// invalidation that has already begun.
pub(crate) struct Waiting {
    all: Arc<Mutex<HashSet<CacheKey>>>,
    key: CacheKey,
}

impl Default for UnknownOutcomes {
    fn default() -> Self {
        Self { recent: KeyMemory::new(PAUSE), waiting: Arc::default() }
    }
}

impl UnknownOutcomes {
    /// Says when to make a key stale. The caller that gets [`When::Now`] or [`When::Later`] has to do it.
    pub(crate) fn turn(&self, key: &CacheKey, now: SystemTime) -> When {
        if !self.recent.has(key, now) {
            self.recent.remember(key, now);
            return When::Now;
        }
        let mut waiting = lock(&self.waiting);
        if waiting.contains(key) {
            return When::Another;
        }
        if waiting.len() >= MOST_WAITING {
            return When::Now;
        }
        waiting.insert(key.clone());
        When::Later(Waiting { all: Arc::clone(&self.waiting), key: key.clone() })
    }

    /// Ends a pause, and begins the next one.
    pub(crate) fn end(&self, waiting: Waiting, now: SystemTime) {
        self.recent.remember(&waiting.key, now);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        lock(&self.all).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn a32_a_key_is_made_stale_at_once_and_then_at_most_once_per_pause() {
        let doubts = UnknownOutcomes::default();
        let key = |number: usize| {
            let request = http::Request::get(format!("http://a/{number}")).body(()).expect("a request");
            CacheKey::of(&request.into_parts().0).expect("a key")
        };
        let now = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        let turn = |number, now| doubts.turn(&key(number), now);
        assert!(matches!(turn(0, now), When::Now));
        let When::Later(waiting) = turn(0, now) else { panic!("it has just been made stale") };
        assert!(matches!(turn(0, now), When::Another));
        assert!(matches!(turn(1, now), When::Now), "another key");
        doubts.end(waiting, now + PAUSE);
        assert!(matches!(turn(0, now + PAUSE), When::Later(_)));
        assert!(matches!(turn(0, now + 2 * PAUSE), When::Now));
        // Beyond the bound they don't wait.
        let mut waiting = Vec::new();
        for number in 0..=MOST_WAITING {
            turn(number, now + 2 * PAUSE);
            waiting.push(turn(number, now + 2 * PAUSE));
        }
        assert!(matches!(waiting.pop(), Some(When::Now)));
    }
}
