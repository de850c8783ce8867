//! Queues that admit a few requests at a time for each key.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::entry::key::{CacheKey, KeyNames};
use crate::runtime::{Mutex, lock};

/// A queue for each key that a request holds a turn of, or waits for; first come, first served.
pub(crate) struct KeyQueues {
    names: KeyNames,
    queues: Mutex<HashMap<u128, Queue>>,
    /// How many have their turn at one time.
    size: usize,
}

struct Queue {
    semaphore: Arc<Semaphore>,
    /// The number of requests that have a turn or wait for one.
    users: usize,
}

/// A turn, which ends when this is dropped.
pub(crate) struct QueueTurn {
    permit: Option<OwnedSemaphorePermit>,
    place: Place,
}

/// A place in the queue of one key.
struct Place {
    name: u128,
    turns: Arc<KeyQueues>,
}

impl KeyQueues {
    pub(crate) fn new(size: usize) -> Arc<Self> {
        let size = size.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self { names: KeyNames::default(), queues: Mutex::default(), size })
    }

    fn queue(self: &Arc<Self>, key: &CacheKey) -> (Place, Arc<Semaphore>) {
        let name = self.names.of(key);
        let mut queues = lock(&self.queues);
        let new = || Queue { semaphore: Arc::new(Semaphore::new(self.size)), users: 0 };
        let queue = queues.entry(name).or_insert_with(new);
        queue.users += 1;
        (Place { name, turns: Arc::clone(self) }, Arc::clone(&queue.semaphore))
    }

    /// Waits for a turn.
    pub(crate) async fn turn(self: &Arc<Self>, key: &CacheKey) -> QueueTurn {
        let (place, semaphore) = self.queue(key);
        // The semaphore is never closed.
        let permit = semaphore.acquire_owned().await.ok();
        QueueTurn { permit, place }
    }

    /// A turn, if there is one now.
    pub(crate) fn try_turn(self: &Arc<Self>, key: &CacheKey) -> Option<QueueTurn> {
        let (place, semaphore) = self.queue(key);
        match semaphore.try_acquire_owned() {
            Ok(permit) => Some(QueueTurn { permit: Some(permit), place }),
            Err(TryAcquireError::Closed | TryAcquireError::NoPermits) => None,
        }
    }

    /// Whether nobody gets a turn at once.
    pub(crate) fn is_full(&self, key: &CacheKey) -> bool {
        let queues = lock(&self.queues);
        queues.get(&self.names.of(key)).is_some_and(|queue| queue.semaphore.available_permits() == 0)
    }

    /// How many keys have a queue.
    #[cfg(test)]
    fn len(&self) -> usize {
        lock(&self.queues).len()
    }
}

impl QueueTurn {
    /// Admits one more request at a time for this key, as long as the queue exists.
    pub(crate) fn widen(&self) {
        let queues = lock(&self.place.turns.queues);
        if let Some(queue) = queues.get(&self.place.name)
            && self.permit.is_some()
        {
            queue.semaphore.add_permits(1);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queues = lock(&self.turns.queues);
        if let Some(queue) = queues.get_mut(&self.name) {
            queue.users -= 1;
            if queue.users == 0 {
                queues.remove(&self.name);
            }
        }
    }
}

impl std::fmt::Debug for KeyQueues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turns").field("size", &self.size).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for QueueTurn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::polled_once;

    fn key(path: &str) -> CacheKey {
        let request = http::Request::get(format!("http://a{path}")).body(()).expect("a request");
        CacheKey::of(&request.into_parts().0).expect("a key")
    }

    #[tokio::test]
    async fn each_key_has_its_own_queue_which_exists_only_while_it_is_used() {
        let turns = KeyQueues::new(2);
        let (a, b) = (key("/a"), key("/b"));
        let held = [turns.turn(&a).await, turns.turn(&a).await];
        assert!(turns.try_turn(&a).is_none() && turns.try_turn(&b).is_some());
        let mut waiting = Box::pin(turns.turn(&a));
        let mut next = Box::pin(turns.turn(&a));
        assert!(polled_once(waiting.as_mut()).await.is_none());
        assert!(polled_once(next.as_mut()).await.is_none());
        // A request that leaves the queue lets the next one in.
        drop(waiting);
        drop(held);
        assert!(polled_once(next.as_mut()).await.is_some());
        drop(next);
        assert_eq!(turns.len(), 0);
    }

    #[tokio::test]
    async fn a_widened_queue_is_narrow_again_once_nobody_uses_it() {
        let turns = KeyQueues::new(1);
        let key = key("/");
        let first = turns.turn(&key).await;
        assert!(turns.try_turn(&key).is_none());
        first.widen();
        let second = turns.try_turn(&key);
        assert!(second.is_some() && turns.try_turn(&key).is_none());
        drop((first, second));
        let _only = turns.turn(&key).await;
        assert!(turns.try_turn(&key).is_none());
    }
}
