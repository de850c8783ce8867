//! The task by which a node follows a log.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{PurgeLog, Replica};
use crate::entry::key::CacheKey;
use crate::error::StoreError;
use crate::runtime::{Deadline, Runtime, pause};
use crate::store::Store;
use crate::store::random::random_time;

/// A store whose purges are in a log, which a near tier can follow.
pub trait Followed: Store {
    /// Its log, for one long poll at a time: by a connection of its own, where a connection carries one call at a time.
    type Log: PurgeLog;

    /// The log.
    fn log(&self) -> Arc<Self::Log>;

    /// Whether this node has the lease of a call under a key ([`Leases`](crate::store::Leases)), whose result other nodes wait for: a
    /// tier puts that at once. Default `false`.
    fn has_lease(&self, _key: &CacheKey) -> bool {
        false
    }

    /// What this node knows of the log. It is by this that the store judges, and its fences are those of this.
    fn replica(&self) -> &Arc<Replica>;
}

/// How a log is followed.
///
/// ```
/// use std::time::Duration;
/// use larder::store::log::FollowLimits;
/// let limits = FollowLimits::new().poll(Duration::from_millis(50));
/// # let _ = limits;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowLimits {
    poll: Duration,
    slack: Duration,
}

impl Default for FollowLimits {
    fn default() -> Self {
        // Where schedules are explored, what is late is for the schedule to say.
        let slack = if cfg!(shuttle) { Duration::MAX } else { Duration::from_secs(1) };
        Self { poll: Duration::from_millis(100), slack }
    }
}

impl FollowLimits {
    /// 100 ms for a poll, and a second more for its answer.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a call waits for an entry; default 100 ms. After each call, with entries or without, the node is known to have
    /// missed nothing.
    #[must_use]
    pub fn poll(mut self, time: Duration) -> Self {
        self.poll = time;
        self
    }

    /// How much longer than that a call may take before it has failed; default 1 s.
    #[must_use]
    pub fn slack(mut self, time: Duration) -> Self {
        self.slack = time;
        self
    }
}

/// Follows a log until it is dropped: a [`Replica`] gets each entry as soon as it is in the log, and is proven complete all the
/// time.
#[derive(Debug)]
pub struct Follower {
    _alive: Arc<()>,
    /// The task has the other end.
    running: Weak<()>,
}

/// Whoever takes what a replica has learned.
pub(in crate::store) trait Hearer: Send + Sync + 'static {
    /// Takes what is new.
    fn hear(&self) -> impl Future<Output = ()> + Send;
}

/// Nobody.
impl Hearer for () {
    async fn hear(&self) {}
}

impl Follower {
    /// Follows in a task. `None` outside of a runtime.
    pub fn start<L: PurgeLog>(log: Arc<L>, replica: Arc<Replica>, limits: FollowLimits) -> Option<Self> {
        Self::start_for(log, replica, limits, Arc::new(()))
    }

    pub(in crate::store) fn start_for<L: PurgeLog>(
        log: Arc<L>,
        replica: Arc<Replica>,
        limits: FollowLimits,
        hearer: Arc<impl Hearer>,
    ) -> Option<Self> {
        let runtime = Runtime::current()?;
        let (alive, running) = (Arc::new(()), Arc::new(()));
        let follower = Self { running: Arc::downgrade(&running), _alive: alive };
        let alive = Arc::downgrade(&follower._alive);
        drop(runtime.spawn(async move {
            follow(log, replica, limits, hearer, alive).await;
            drop(running);
        }));
        Some(follower)
    }

    /// Whether its task goes on: it ends with the runtime.
    pub fn is_running(&self) -> bool {
        self.running.strong_count() > 0
    }
}

async fn follow<L: PurgeLog>(
    log: Arc<L>,
    replica: Arc<Replica>,
    limits: FollowLimits,
    hearer: Arc<impl Hearer>,
    alive: Weak<()>,
) {
    let mut failures = 0;
    while alive.strong_count() > 0 {
        let limit = limits.poll.saturating_add(limits.slack);
        let read = Deadline::new(limit).in_time(step(&*log, &replica, limits.poll)).await;
        failures = match read {
            Some(Ok(())) => 0,
            Some(Err(_)) | None => failures + 1,
        };
        hearer.hear().await;
        if failures > 0 && !pause(backoff(failures)).await {
            return; // without timers, it would ask all the time
        }
    }
}

/// Reads, and appends what the log lacks.
async fn step<L: PurgeLog>(log: &L, replica: &Replica, poll: Duration) -> Result<(), StoreError> {
    replica.read_on(log, poll).await?;
    if replica.unsure() > 0 {
        // All nodes have found that out at the same moment, and one is enough.
        pause(random_time(Duration::from_millis(20))).await;
        replica.read_on(log, Duration::ZERO).await?;
        replica.append_again(log).await?;
    }
    Ok(())
}

/// How long a node waits after so many failures: up to 20 ms, and twice that each time up to 1 s, so that not all come back at
/// one time.
fn backoff(failures: u32) -> Duration {
    let most = Duration::from_millis(20).saturating_mul(1 << (failures - 1).min(6));
    random_time(most.min(Duration::from_secs(1)))
}
