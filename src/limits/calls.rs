//! How many calls of the inner service are under way at one time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::entry::key::CacheKey;
use crate::limits::key_queues::{KeyQueues, QueueTurn};
use crate::runtime::Deadline;

/// Bounds of the calls of the inner service that are under way at one time; by default there are none.
///
/// A call is under way until its response has been received completely, or is dropped. A request whose call would
/// exceed a bound is answered with a stale response if that is allowed; otherwise it waits, and if that takes too long,
/// the answer is a 503 with `Retry-After` and `detail="call-limit"`. This is the only case in which a request fails
/// although the inner service would have answered it.
///
/// ```
/// use larder::{CacheBuilder, CallLimits};
/// let layer = CacheBuilder::default().call_limits(CallLimits::new().total(256).per_key(16)).build();
/// # let _ = layer;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallLimits {
    per_key: Option<usize>,
    total: Option<usize>,
    wait: Duration,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self { per_key: None, total: None, wait: Duration::from_secs(5) }
    }
}

impl CallLimits {
    /// No bounds. If one is set, requests wait for up to 5 s.
    pub fn new() -> Self {
        Self::default()
    }

    /// The most calls for one key, at least 1. Requests that bypass the cache have no key.
    #[must_use]
    pub fn per_key(mut self, count: usize) -> Self {
        self.per_key = Some(count);
        self
    }

    /// The most calls in all, at least 1; those for requests that bypass the cache are among them.
    #[must_use]
    pub fn total(mut self, count: usize) -> Self {
        self.total = Some(count);
        self
    }

    /// How long a request waits for its call; default 5 s.
    #[must_use]
    pub fn wait(mut self, limit: Duration) -> Self {
        self.wait = limit;
        self
    }
}

/// Grants permits to call the inner service.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallPermits {
    keys: Option<Arc<KeyQueues>>,
    limits: CallLimits,
    total: Option<Arc<Semaphore>>,
}

/// The permit to make one call, until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct CallPermit {
    _granted: Option<Box<Granted>>,
}

#[derive(Debug)]
struct Granted {
    _total: Option<OwnedSemaphorePermit>,
    _turn: Option<QueueTurn>,
}

impl CallPermits {
    pub(crate) fn new(limits: CallLimits) -> Self {
        let semaphore = |count: usize| Arc::new(Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS)));
        Self { keys: limits.per_key.map(KeyQueues::new), total: limits.total.map(semaphore), limits }
    }

    pub(crate) fn is_bounded(&self) -> bool {
        self.keys.is_some() || self.total.is_some()
    }

    /// Seconds after which it makes sense to try again.
    pub(crate) fn retry_after(&self) -> u64 {
        self.limits.wait.as_secs().max(1)
    }

    /// How long a request waits for its call.
    pub(crate) fn wait_limit(&self) -> Duration {
        self.limits.wait
    }

    /// Whether there is no room for a call now.
    pub(crate) fn is_full(&self, key: Option<&CacheKey>) -> bool {
        let of_key = self.keys.as_ref().zip(key).is_some_and(|(keys, key)| keys.is_full(key));
        of_key || self.total.as_ref().is_some_and(|total| total.available_permits() == 0)
    }

    /// A permit to call, if there is room now.
    pub(crate) fn try_begin(&self, key: Option<&CacheKey>) -> Option<CallPermit> {
        if !self.is_bounded() {
            return Some(CallPermit::default());
        }
        let turn = match self.keys.as_ref().zip(key) {
            Some((keys, key)) => Some(keys.try_turn(key)?),
            None => None,
        };
        let total = match &self.total {
            Some(total) => Some(Arc::clone(total).try_acquire_owned().ok()?),
            None => None,
        };
        Some(CallPermit { _granted: Some(Box::new(Granted { _total: total, _turn: turn })) })
    }

    /// Waits for a permit to call; `None` if that takes too long.
    pub(crate) async fn begin(&self, key: Option<&CacheKey>) -> Option<CallPermit> {
        if let Some(permit) = self.try_begin(key) {
            return Some(permit);
        }
        Deadline::new(self.limits.wait).in_time(self.wait(key)).await
    }

    async fn wait(&self, key: Option<&CacheKey>) -> CallPermit {
        // The key's turn comes first, so that a request that waits for it takes no permit from others.
        let turn = match self.keys.as_ref().zip(key) {
            Some((keys, key)) => Some(keys.turn(key).await),
            None => None,
        };
        let total = match &self.total {
            Some(total) => Arc::clone(total).acquire_owned().await.ok(),
            None => None,
        };
        CallPermit { _granted: Some(Box::new(Granted { _total: total, _turn: turn })) }
    }
}
