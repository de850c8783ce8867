//! The bounds of what is fetched at one time, and the counts.

pub(crate) mod calls;
pub(crate) mod held;
pub(crate) mod key_queues;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::entry::pieces::PIECE;
use crate::limits::calls::CallPermits;
use crate::limits::held::{Held, UNKNOWN_CAPACITY};
use crate::limits::key_queues::KeyQueues;

/// The bounds of what is fetched for the cache at one time.
///
/// No request fails beyond them: requests are answered without the cache's help, or their answers are not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FillLimits {
    pub(crate) abandoned: u64,
    pub(crate) detached: u64,
    pub(crate) fills: u64,
    pub(crate) in_flight: Option<u64>,
    pub(crate) retries: usize,
    pub(crate) share_errors: bool,
    pub(crate) wait: Duration,
}

impl Default for FillLimits {
    fn default() -> Self {
        Self {
            abandoned: 1_024,
            detached: 256,
            fills: 16_384,
            in_flight: None,
            retries: 8,
            share_errors: false,
            wait: Duration::from_secs(5),
        }
    }
}

impl FillLimits {
    /// 16,384 fills, 256 of them with nobody waiting, as many bytes in flight as the store's capacity, 5 s of waiting; 1,024
    /// unsafe requests without their clients.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many unsafe requests continue when their clients have left, so that their answers say what they invalidate;
    /// default 1,024. Others are cancelled, and because nobody knows what they have done, the responses stored for
    /// their URIs are made stale.
    #[must_use]
    pub fn abandoned(mut self, count: u64) -> Self {
        self.abandoned = count;
        self
    }

    /// How many fills continue when all clients that asked for them have left; default 256. Others are cancelled.
    /// Background validations have a bound of their own, 1,024.
    #[must_use]
    pub fn detached(mut self, count: u64) -> Self {
        self.detached = count;
        self
    }

    /// How many fills other requests can wait for; default 16,384. Beyond that, each request makes a call of its own.
    #[must_use]
    pub fn fills(mut self, count: u64) -> Self {
        self.fills = count;
        self
    }

    /// How many bytes of content may be held that are to be stored and are not stored yet; default as many as the
    /// store's capacity ([`StoreLimits::capacity`]), or 256 MiB if the store has none. Content beyond that is forwarded
    /// and not stored. The memory that is really taken counts.
    ///
    /// Where the store takes content while it comes ([`StoreLimits::takes_streams`]), one response takes an eighth of that at
    /// most, and no more than 8 MiB, whatever its length. So much of its beginning is kept for requests that come later.
    ///
    /// [`StoreLimits::capacity`]: crate::store::StoreLimits::capacity
    /// [`StoreLimits::takes_streams`]: crate::store::StoreLimits::takes_streams
    #[must_use]
    pub fn in_flight(mut self, bytes: u64) -> Self {
        self.in_flight = Some(bytes);
        self
    }

    /// How many requests for one key make calls of their own at one time after they have waited for two calls in vain;
    /// default 8, at least 1. A call was in vain if it brought an error, or an answer that only its own request may
    /// have and that does not say so by `private`, `no-store` or `Vary: *`. If requests queue for longer than
    /// [`FillLimits::wait`] (four times as long if the inner service fails), more of them are admitted at a time.
    #[must_use]
    pub fn retries(mut self, count: usize) -> Self {
        self.retries = count;
        self
    }

    /// Whether a small server error, or a 404 that can't be stored, answers all requests that have waited for its call;
    /// default false. An error that has `Vary` or sets a cookie, or says `private` or `no-store`, never does.
    #[must_use]
    pub fn share_errors(mut self, on: bool) -> Self {
        self.share_errors = on;
        self
    }

    /// How long requests wait for the answer to another request's call; default 5 s. Then one of them makes another
    /// call, and the others wait for that. If the first call is answered before the second, its answer is for them as
    /// well.
    #[must_use]
    pub fn wait(mut self, limit: Duration) -> Self {
        self.wait = limit;
        self
    }
}

/// What is being fetched now, and counts since the layer was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FillStatistics {
    /// Unsafe requests whose clients have left.
    pub abandoned: u64,
    /// Requests that were answered by another one's call.
    pub collapsed: u64,
    /// Fills that nobody waits for.
    pub detached: u64,
    /// Readers that fell too far behind the others or took nothing for too long, and were cut off.
    pub detached_readers: u64,
    /// Fills that other requests can wait for.
    pub fills: u64,
    /// Bytes of content that bodies hold and the store does not; see [`BodyLimits`](crate::BodyLimits).
    pub held: u64,
    /// Bytes of content that are to be stored and are not stored yet.
    pub in_flight: u64,
    /// Responses that were reported as `stored` when their content began to come in, and were not stored in the end: it
    /// broke off or turned out too large, there was no room for it, or the store refused it.
    pub unstored: u64,
    /// Requests that wait for another one's call.
    pub waiting: u64,
}

/// Counts against bounds.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) calls: CallPermits,
    pub(crate) limits: FillLimits,
    abandoned: AtomicU64,
    collapsed: AtomicU64,
    detached: AtomicU64,
    detached_readers: AtomicU64,
    fills: AtomicU64,
    pub(crate) held: Arc<Held>,
    in_flight: AtomicU64,
    most_in_flight: u64,
    /// The queues of requests that have waited in vain.
    pub(crate) retries: Option<Arc<KeyQueues>>,
    unstored: AtomicU64,
    waiting: AtomicU64,
}

/// Counts one of a kind, until it is dropped.
#[derive(Debug)]
pub(crate) struct GaugeGuard {
    kind: Kind,
    gauges: Arc<Gauges>,
}

/// Bytes that are to be stored. Dropped, they count no more.
#[derive(Debug)]
pub(crate) struct BytesInFlight {
    bytes: usize,
    gauges: Arc<Gauges>,
}

impl Drop for BytesInFlight {
    fn drop(&mut self) {
        self.gauges.give_back(self.bytes);
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Abandoned,
    Detached,
    Fill,
    Waiting,
}

impl Gauges {
    /// `capacity` is that of the store.
    pub(crate) fn new(
        limits: FillLimits,
        held: Arc<Held>,
        calls: CallPermits,
        capacity: Option<u64>,
    ) -> Self {
        let most_in_flight = limits.in_flight.or(capacity).unwrap_or(UNKNOWN_CAPACITY);
        let retries = Some(KeyQueues::new(limits.retries));
        Self { calls, limits, held, most_in_flight, retries, ..Self::default() }
    }

    pub(crate) fn statistics(&self) -> FillStatistics {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        FillStatistics {
            abandoned: read(&self.abandoned),
            collapsed: read(&self.collapsed),
            detached: read(&self.detached),
            detached_readers: read(&self.detached_readers) + self.held.cut_off(),
            fills: read(&self.fills),
            held: self.held.beyond_the_store(),
            in_flight: read(&self.in_flight),
            unstored: read(&self.unstored),
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

    fn begin(self: &Arc<Self>, kind: Kind, most: u64) -> Option<GaugeGuard> {
        let count = self.count(kind);
        let raised = |count: u64| (count < most).then_some(count + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised).ok()?;
        Some(GaugeGuard { kind, gauges: Arc::clone(self) })
    }

    /// An unsafe request whose client has left.
    pub(crate) fn abandoned(self: &Arc<Self>) -> Option<GaugeGuard> {
        self.begin(Kind::Abandoned, self.limits.abandoned)
    }

    /// A fill that others can wait for.
    pub(crate) fn fill(self: &Arc<Self>) -> Option<GaugeGuard> {
        self.begin(Kind::Fill, self.limits.fills)
    }

    /// A fill that nobody waits for any more.
    pub(crate) fn detached(self: &Arc<Self>) -> Option<GaugeGuard> {
        self.begin(Kind::Detached, self.limits.detached)
    }

    /// A request that waits.
    pub(crate) fn waiting(self: &Arc<Self>) -> Option<GaugeGuard> {
        self.begin(Kind::Waiting, u64::MAX)
    }

    pub(crate) fn collapsed(&self) {
        self.collapsed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn reader_detached(&self) {
        self.detached_readers.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a response that was reported as stored, and is not.
    pub(crate) fn unstored(&self) {
        self.unstored.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there is room for content of that length now.
    pub(crate) fn has_room(&self, length: u64) -> bool {
        self.in_flight.load(Ordering::Relaxed).saturating_add(length) <= self.most_in_flight
    }

    /// Counts bytes that are to be stored until what this gives is dropped; `None` where there is no room for them.
    pub(crate) fn in_flight(self: &Arc<Self>, bytes: usize) -> Option<BytesInFlight> {
        self.take(bytes).then(|| BytesInFlight { bytes, gauges: Arc::clone(self) })
    }

    /// [`Gauges::in_flight`] for bytes that are counted already, by what gives them back in a moment.
    pub(crate) fn handed_over(self: &Arc<Self>, bytes: usize) -> BytesInFlight {
        self.in_flight.fetch_add(bytes as u64, Ordering::Relaxed);
        BytesInFlight { bytes, gauges: Arc::clone(self) }
    }

    /// Counts bytes that are to be stored, if there is room for them.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let raised = |taken: u64| taken.checked_add(bytes as u64).filter(|sum| *sum <= self.most_in_flight);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised).is_ok()
    }

    /// Counts bytes that are to be stored, whether or not there is room for them.
    pub(crate) fn add(&self, bytes: usize) {
        self.in_flight.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How much of one response is kept in memory from its first byte on, where the store takes it while it comes: so much may
    /// be shared by requests that come later, and be on its way to the store.
    pub(crate) fn kept(&self) -> u64 {
        const MOST: u64 = if cfg!(shuttle) { 64 } else { 8 * 1024 * 1024 };
        const SHARE: u64 = 8;
        (self.most_in_flight / SHARE).clamp(PIECE as u64, MOST)
    }

    /// Counts bytes that are held no more.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.in_flight.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.gauges.count(self.kind).fetch_sub(1, Ordering::Relaxed);
    }
}
