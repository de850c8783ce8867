//! How much is being fetched: the bounds of that, and the counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The bounds of what is fetched for the cache's sake at one time.
///
/// Beyond them nothing fails: requests are answered without the cache's help, or not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FillLimits {
    pub(crate) abandoned: u64,
    pub(crate) detached: u64,
    pub(crate) fills: u64,
    pub(crate) in_flight: u64,
    pub(crate) wait: Duration,
}

impl Default for FillLimits {
    fn default() -> Self {
        Self {
            abandoned: 1_024,
            detached: 256,
            fills: 16_384,
            in_flight: 256 * 1024 * 1024,
            wait: Duration::from_secs(5),
        }
    }
}

impl FillLimits {
    /// 16,384 fills, 256 of them with nobody waiting, 256 MiB in flight, 5 s of waiting; 1,024 unsafe requests without
    /// their clients.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many unsafe requests go on when their clients have left, so that their answers say what they make invalid;
    /// default 1,024. Others are cancelled then, and as nobody knows what they have done, what is stored for their URIs is
    /// made stale.
    #[must_use]
    pub fn abandoned(mut self, count: u64) -> Self {
        self.abandoned = count;
        self
    }

    /// How many fills go on when everybody who asked for them has left; default 256. Others are cancelled then.
    /// Validations behind a stale answer have a bound of their own, 1,024.
    #[must_use]
    pub fn detached(mut self, count: u64) -> Self {
        self.detached = count;
        self
    }

    /// How many fills others can wait for; default 16,384. Beyond that each request makes a call of its own.
    #[must_use]
    pub fn fills(mut self, count: u64) -> Self {
        self.fills = count;
        self
    }

    /// How many bytes of content are held that are neither stored yet nor read by everybody; default 256 MiB. What
    /// would take more is passed on, and not stored.
    #[must_use]
    pub fn in_flight(mut self, bytes: u64) -> Self {
        self.in_flight = bytes;
        self
    }

    /// How long a request waits for another one's call to get an answer, before it makes one of its own; default 5 s.
    #[must_use]
    pub fn wait(mut self, limit: Duration) -> Self {
        self.wait = limit;
        self
    }
}

/// What is being fetched now, and what came of collapsing since the layer was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FillStatistics {
    /// Unsafe requests whose clients have left.
    pub abandoned: u64,
    /// Requests that were answered by another one's call.
    pub collapsed: u64,
    /// Fills with nobody waiting.
    pub detached: u64,
    /// Readers that fell too far behind the others, and were cut off.
    pub detached_readers: u64,
    /// Fills that others can wait for.
    pub fills: u64,
    /// Bytes of content that are neither stored yet nor read by everybody.
    pub in_flight: u64,
    /// Requests that wait for another one's call.
    pub waiting: u64,
}

/// Counts against bounds.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) limits: FillLimits,
    abandoned: AtomicU64,
    collapsed: AtomicU64,
    detached: AtomicU64,
    detached_readers: AtomicU64,
    fills: AtomicU64,
    in_flight: AtomicU64,
    waiting: AtomicU64,
}

/// One of a counted kind. Dropped, it counts no more.
#[derive(Debug)]
pub(crate) struct Counted {
    kind: Kind,
    load: Arc<Load>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Abandoned,
    Detached,
    Fill,
    Waiting,
}

impl Load {
    pub(crate) fn new(limits: FillLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub(crate) fn statistics(&self) -> FillStatistics {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        FillStatistics {
            abandoned: read(&self.abandoned),
            collapsed: read(&self.collapsed),
            detached: read(&self.detached),
            detached_readers: read(&self.detached_readers),
            fills: read(&self.fills),
            in_flight: read(&self.in_flight),
            waiting: read(&self.waiting),
        }
    }

    fn count(&self, kind: Kind) -> &AtomicU64 {
        match kind {
            Kind::Abandoned => &self.abandoned,
            Kind::Detached => &self.detached,
            Kind::Fill => &self.fills,
            Kind::Waiting => &self.waiting,
        }
    }

    fn begin(self: &Arc<Self>, kind: Kind, most: u64) -> Option<Counted> {
        let count = self.count(kind);
        let raised = |count: u64| (count < most).then_some(count + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised).ok()?;
        Some(Counted { kind, load: Arc::clone(self) })
    }

    /// An unsafe request whose client has left.
    pub(crate) fn abandoned(self: &Arc<Self>) -> Option<Counted> {
        self.begin(Kind::Abandoned, self.limits.abandoned)
    }

    /// A fill that others can wait for.
    pub(crate) fn fill(self: &Arc<Self>) -> Option<Counted> {
        self.begin(Kind::Fill, self.limits.fills)
    }

    /// A fill that nobody waits for any more.
    pub(crate) fn detached(self: &Arc<Self>) -> Option<Counted> {
        self.begin(Kind::Detached, self.limits.detached)
    }

    /// A request that waits.
    pub(crate) fn waiting(self: &Arc<Self>) -> Option<Counted> {
        self.begin(Kind::Waiting, u64::MAX)
    }

    pub(crate) fn collapsed(&self) {
        self.collapsed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn reader_detached(&self) {
        self.detached_readers.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes that came in. Whether they are within the bound.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        self.in_flight.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.limits.in_flight
    }

    /// Counts bytes that are held no more.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.in_flight.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.load.count(self.kind).fetch_sub(1, Ordering::Relaxed);
    }
}
