//! Two stores, one before the other: memory before whatever all nodes share.
//!
//! Each level has purges and fences of its own; what both are measured by is a log of purges ([`Replica`]). Its numbers are the
//! fences of the tier. Invariants:
//!
//! - A purge is in the log, then in effect in the far store, and then in the near one.
//! - Whoever puts into a level takes a fence of that level first, and then asks the log whether the response is purged. So a
//!   purge that comes before that fence is seen by the log, and one that comes after it by the level.
//! - What is near was announced to the log before, and not longer ago than the announcement is sure to count: a purge of something
//!   that was not announced need not be in the log.
//! - Whoever writes under a key has its turn (`turns.rs`) from before the far store is asked until the near one has followed; and what
//!   is found far comes near only if nobody has had that turn since before the look.
//! - The near store answers only while all that the log is known to have is in effect there, and only where the log was seen whole
//!   within the bound.
//!
//! A purge that has returned on another node is therefore out of the near tier within the bound, whatever happens to the link.

mod level;
mod limits;
mod near;
mod putting;
mod store;
mod turns;
mod under_way;
mod writer;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tokio::sync::Semaphore;

pub use self::limits::TierLimits;
use self::near::Near;
use self::turns::Turns;
use self::under_way::PurgesUnderWay;
use super::content::BoxFuture;
use super::log::{Followed, Follower, MemoryLog, Replica};
use super::{Fence, Store, StoreLimits};
use crate::entry::StoredResponse;
use crate::entry::key::CacheKey;
use crate::runtime::{Instant, Mutex, lock, moment};

/// How long what is near may be answered, where a log is followed, before the far store is asked whether it still has it. What
/// the far store has is announced for a day longer than it is there ([`PurgeLog::announce`](super::log::PurgeLog::announce)).
const ANNOUNCED_FOR: Duration = Duration::from_secs(12 * 60 * 60);
/// In how many places keys are counted that are found far.
const PLACES: usize = 4_096;
/// How many responses may be on their way to the far store in the background; a further one is waited for.
const IN_BACKGROUND: u32 = 64;

/// Two stores, one before the other: a near one that answers at once, as a [`MemoryStore`](crate::MemoryStore), and a far one that
/// has more, or that other nodes share.
///
/// What is found near costs no waiting. What is not, or is not fresh there, is looked for far, and brought near for the next time.
/// What is stored goes to both, and so do purges: far, and then near.
///
/// ```
/// use larder::store::{TierLimits, TieredStore};
/// use larder::{CacheLayer, MemoryStore};
/// # let disk = MemoryStore::default();
/// let near = MemoryStore::builder().capacity(64 << 20).build();
/// let layer = CacheLayer::new(TieredStore::new(near, disk, TierLimits::new()));
/// # let _ = layer;
/// ```
///
/// The near store answers without waiting, so it is one in memory. One that waits ([`StoreLimits::waits`]) is asked together with the far
/// one, and saves nothing.
pub struct TieredStore<N, F> {
    inner: Arc<Inner<N, F>>,
}

impl<N, F> Clone for TieredStore<N, F> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

struct Inner<N, F> {
    /// Permits to put into the far store in the background.
    background: Arc<Semaphore>,
    far: F,
    /// Marks the ids of the far store.
    far_mark: u64,
    /// Whether this node has the lease of the call that brings what is put.
    has_lease: fn(&F, &CacheKey) -> bool,
    /// How often keys were found far, by the place of their hash; none where that does not matter.
    hits: Box<[AtomicU32]>,
    limits: TierLimits,
    link: Link,
    near: Arc<Near<N>>,
    random: RandomState,
    replica: Arc<Replica>,
    /// Of both stores together.
    store_limits: StoreLimits,
    turns: Turns,
    /// Of a far store whose log is here.
    under_way: PurgesUnderWay,
}

/// Announces to the log what is going to be near before it is far. `false` where a purge has come meanwhile.
type Announce = Box<dyn Fn(CacheKey, StoredResponse, Fence) -> BoxFuture<'static, bool> + Send + Sync>;

/// Where the log is.
enum Link {
    /// In the far store, which other nodes purge, too.
    Followed(Box<Following>),
    /// Here: all purges of the far store go by way of this tier.
    Own(MemoryLog),
}

/// What a tier does with a log that other nodes share.
struct Following {
    announce: Announce,
    follower: Mutex<Option<Follower>>,
    start: Box<dyn Fn() -> Option<Follower> + Send + Sync>,
}

impl<N: Store, F: Store> TieredStore<N, F> {
    /// A near store before a far one that is purged by way of this tier, and its clones, only.
    pub fn new(near: N, far: F, limits: TierLimits) -> Self {
        let log = MemoryLog::default();
        let replica = Replica::new([0; 16]);
        replica.begin(log.now());
        let near = Arc::new(Near::new(near, Arc::new(replica), limits.bound));
        Self::with(near, far, limits, Link::Own(log), |_, _| false)
    }

    /// A near store before one whose log of purges tells what other nodes purge. What the near store has from before goes, as it has not
    /// heard of purges since. The log is followed in a task, which begins when the
    /// tier is made or first used in a runtime, and ends with the tier.
    pub fn following(near: N, far: F, limits: TierLimits) -> Self
    where
        F: Followed,
    {
        let near = Arc::new(Near::new(near, Arc::clone(far.replica()), limits.bound));
        let start = {
            let (near, log, limits) = (Arc::clone(&near), far.log(), limits.follow.clone());
            move || {
                let replica = Arc::clone(near.replica());
                Follower::start_for(Arc::clone(&log), replica, limits.clone(), Arc::clone(&near))
            }
        };
        let announce: Announce = {
            let (log, replica) = (far.log(), Arc::clone(far.replica()));
            Box::new(move |key, response, fence| {
                let (log, replica) = (Arc::clone(&log), Arc::clone(&replica));
                Box::pin(async move {
                    let announced = replica.announce(&*log, &key, &response, fence, ANNOUNCED_FOR).await;
                    announced.map(|number| number.is_some())
                })
            })
        };
        let following = Following { announce, follower: Mutex::new(None), start: Box::new(start) };
        let link = Link::Followed(Box::new(following));
        let tier = Self::with(near, far, limits, link, F::has_lease);
        tier.inner.follow();
        tier
    }

    fn with(
        near: Arc<Near<N>>,
        far: F,
        limits: TierLimits,
        link: Link,
        has_lease: fn(&F, &CacheKey) -> bool,
    ) -> Self {
        let random = RandomState::new();
        let replica = Arc::clone(near.replica());
        let places = if limits.promote_at > 1 { PLACES } else { 0 };
        let inner = Inner {
            store_limits: store_limits(&near.store().limits(), far.limits()),
            has_lease,
            background: Arc::new(Semaphore::new(IN_BACKGROUND as usize)),
            far,
            far_mark: random.hash_one("far"),
            hits: (0..places).map(|_| AtomicU32::new(0)).collect(),
            limits,
            link,
            near,
            random,
            replica,
            turns: Turns::default(),
            under_way: PurgesUnderWay::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The far store.
    pub fn far(&self) -> &F {
        &self.inner.far
    }

    /// The near store. What is done to it is not done to the far one.
    pub fn near(&self) -> &N {
        self.inner.near.store()
    }

    /// Waits until what was put in the background ([`TierLimits::far_in_background`]) is in the far store: at the end of a process, before
    /// a durable far store is closed.
    pub async fn settle(&self) {
        // Nobody closes it, so there are permits.
        let _ = self.inner.background.acquire_many(IN_BACKGROUND).await;
    }

    /// Whether the near store answers now: where a log is followed, that was seen whole within the bound, and what is new in it is
    /// in effect.
    pub fn is_near_open(&self) -> bool {
        self.inner.is_near_open()
    }
}

impl<N: Store, F: Store> Inner<N, F> {
    /// Begins to follow, unless that goes on.
    fn follow(&self) {
        if let Link::Followed(following) = &self.link {
            let Following { follower, start, .. } = &**following;
            let mut follower = lock(follower);
            if !follower.as_ref().is_some_and(Follower::is_running) {
                *follower = start();
            }
        }
    }

    fn is_near_open(&self) -> bool {
        self.is_near_open_at(moment)
    }

    /// The clock is only read where that matters: a hit does it once.
    fn is_near_open_at(&self, now: impl FnOnce() -> Instant) -> bool {
        match self.link {
            Link::Followed(..) => self.near.is_open(now()),
            Link::Own(_) => self.under_way.are_none(),
        }
    }
}

fn store_limits(near: &StoreLimits, far: StoreLimits) -> StoreLimits {
    let capacity = match (near.capacity, far.capacity) {
        (Some(near), Some(far)) => Some(near.saturating_add(far)),
        (near, far) => near.or(far),
    };
    let max_variants = near.max_variants.max(far.max_variants);
    StoreLimits { capacity, is_tiered: true, max_variants, ..far }
}

impl<N, F> fmt::Debug for TieredStore<N, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredStore").field("limits", &self.inner.limits).finish_non_exhaustive()
    }
}
