//! An observer with bounded memory: what the admin service knows of what has happened.

mod histogram;
mod series;
mod top;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use self::histogram::Histogram;
pub(super) use self::histogram::Latency;
use self::series::Series;
pub(super) use self::series::{Count, Point, STEP};
pub(super) use self::top::Frequent;
use self::top::Top;
use crate::entry::key::CacheKey;
use crate::observe::{Event, InvalidatedBy, Observer};
use crate::runtime::clock::Clock;
use crate::runtime::{Mutex, lock};
use crate::semantics::cache_status::{Forwarding, Outcome};
use crate::semantics::outcome_kind::OutcomeKind;

/// The most different reasons that are counted; a policy may make up any number of words. Others count as `other`.
const MOST_REASONS: usize = 128;
/// The longest reason, as in `Cache-Status`.
const LONGEST_REASON: usize = 64;
/// The longest method that is shown live. A client may make one up.
const LONGEST_METHOD: usize = 32;
/// How many events of one second are shown live.
const MOST_LIVE: u64 = 20;
/// How many events wait for a reader that is slow, before it misses some.
const LIVE_QUEUE: usize = 64;

/// How many readers there may be at one time.
pub(super) const MOST_READERS: usize = 16;

/// A reader of what happens, which has its place as long as it reads.
pub(super) struct Reader {
    pub(super) events: broadcast::Receiver<Arc<str>>,
    _place: OwnedSemaphorePermit,
}

/// Counts, times and lists of what a layer does, for the [`AdminService`](super::AdminService), in less than 5 MiB. Cheap to
/// clone: give one clone to [`CacheBuilder::observer`](crate::CacheBuilder::observer), and the other to
/// [`Admin::watch`](super::Admin::watch).
///
/// It keeps four hours of counts in steps of 10 seconds, and the most frequent keys of the last 10 to 20 minutes: of clients nothing
/// but the URLs that they ask for, and nothing of content. Counts are since it was made.
#[derive(Clone, Default)]
pub struct Watch(Arc<Inner>);

struct Inner {
    /// Requests whose client has left without an answer.
    abandoned: AtomicU64,
    began: SystemTime,
    clock: Clock,
    fetches: Histogram,
    hits: Histogram,
    hot_hits: Top,
    hot_misses: Top,
    /// Of live events: the second that it is, and how many it has had.
    live_rate: [AtomicU64; 2],
    live: broadcast::Sender<Arc<str>>,
    outcomes: [AtomicU64; OutcomeKind::ALL.len()],
    purges: AtomicU64,
    readers: Arc<Semaphore>,
    reasons: Mutex<BTreeMap<Box<str>, u64>>,
    series: Series,
    store_failures: AtomicU64,
    totals: [AtomicU64; Count::ALL.len()],
}

impl Default for Inner {
    fn default() -> Self {
        Self::new(Clock::default())
    }
}

impl Inner {
    fn new(clock: Clock) -> Self {
        Self {
            abandoned: AtomicU64::new(0),
            began: clock.now(),
            clock,
            fetches: Histogram::default(),
            hits: Histogram::default(),
            hot_hits: Top::default(),
            hot_misses: Top::default(),
            live_rate: Default::default(),
            live: broadcast::channel(LIVE_QUEUE).0,
            outcomes: Default::default(),
            purges: AtomicU64::new(0),
            readers: Arc::new(Semaphore::new(MOST_READERS)),
            reasons: Mutex::default(),
            series: Series::default(),
            store_failures: AtomicU64::new(0),
            totals: Default::default(),
        }
    }

    fn add(&self, now: SystemTime, what: Count, number: u64) {
        self.totals[what as usize].fetch_add(number, Ordering::Relaxed);
        self.series.at(now).add(what, number);
    }

    /// Counts a request that has an answer, or has got none from the inner service.
    fn has_ended(&self, now: SystemTime, kind: OutcomeKind) {
        self.outcomes[kind as usize].fetch_add(1, Ordering::Relaxed);
        let what = match kind {
            OutcomeKind::Bypass => Some(Count::Bypassed),
            OutcomeKind::Hit | OutcomeKind::Stale => Some(Count::Hits),
            _ => None,
        };
        let point = self.series.at(now);
        for what in std::iter::once(Count::Requests).chain(what) {
            self.totals[what as usize].fetch_add(1, Ordering::Relaxed);
            point.add(what, 1);
        }
    }

    fn has_reason(&self, reason: &str) {
        let reason = cut(reason, LONGEST_REASON);
        let mut reasons = lock(&self.reasons);
        if let Some(count) = reasons.get_mut(reason) {
            *count += 1;
        } else {
            let reason = if reasons.len() < MOST_REASONS { reason } else { "other" };
            *reasons.entry(reason.into()).or_default() += 1;
        }
    }

    /// Whether one more event may be shown in this second.
    fn may_show(&self, now: SystemTime) -> bool {
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let [is, shown] = &self.live_rate;
        let latest = is.fetch_max(second, Ordering::Relaxed);
        // Not by one that has read the clock a moment earlier. If it is much earlier, the clock was set back.
        if latest < second || latest - second > 2 {
            is.store(second, Ordering::Relaxed);
            shown.store(0, Ordering::Relaxed);
        }
        shown.fetch_add(1, Ordering::Relaxed) < MOST_LIVE
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// One that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One whose time is that of a layer with this clock.
    pub fn with_clock(clock: Clock) -> Self {
        Self(Arc::new(Inner::new(clock)))
    }

    /// How often a key was hit of late, where it is among the most frequent ones.
    pub(super) fn hits_of(&self, key: &CacheKey) -> Option<u64> {
        self.0.hot_hits.count(key.uri(), self.0.clock.now())
    }

    /// For how long it has watched.
    pub(super) fn watched(&self) -> Duration {
        self.0.clock.now().duration_since(self.0.began).unwrap_or_default()
    }

    pub(super) fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let words = OutcomeKind::ALL.iter().map(|kind| kind.as_str());
        let known = words.zip(&self.0.outcomes).chain([("abandoned", &self.0.abandoned)]);
        known.map(|(word, count)| (word, count.load(Ordering::Relaxed)))
    }

    pub(super) fn reasons(&self) -> Vec<(Box<str>, u64)> {
        lock(&self.0.reasons).iter().map(|(reason, count)| (reason.clone(), *count)).collect()
    }

    pub(super) fn total(&self, what: Count) -> u64 {
        self.0.totals[what as usize].load(Ordering::Relaxed)
    }

    pub(super) fn purges(&self) -> u64 {
        self.0.purges.load(Ordering::Relaxed)
    }

    pub(super) fn store_failures(&self) -> u64 {
        self.0.store_failures.load(Ordering::Relaxed)
    }

    /// What hits took, and calls of the inner service, until their heads were there.
    pub(super) fn latencies(&self) -> [Latency; 2] {
        [self.0.hits.latency(), self.0.fetches.latency()]
    }

    pub(super) fn points(&self, most: usize) -> Vec<Point> {
        self.0.series.points(self.0.clock.now(), most)
    }

    /// The keys with the most hits, and those with the most misses, of late.
    pub(super) fn hot(&self, number: usize) -> [Vec<Frequent>; 2] {
        let now = self.0.clock.now();
        [self.0.hot_hits.most(number, now), self.0.hot_misses.most(number, now)]
    }

    /// What happens from now on, each as a line of JSON; `None` where there are [`MOST_READERS`] already. A place is taken and the
    /// reader is one of them in one step, however many come at one time.
    pub(super) fn live(&self) -> Option<Reader> {
        let place = Arc::clone(&self.0.readers).try_acquire_owned().ok()?;
        Some(Reader { events: self.0.live.subscribe(), _place: place })
    }

    fn answered(
        &self,
        (key, method): (Option<&CacheKey>, &str),
        outcome: &Outcome,
        kind: OutcomeKind,
        status: u16,
        elapsed: Duration,
    ) {
        let inner = &*self.0;
        let now = inner.clock.now();
        inner.has_ended(now, kind);
        let (forward, detail) = words(outcome);
        if outcome.is_hit() {
            inner.hits.add(elapsed);
        } else {
            inner.has_reason(detail.unwrap_or(forward));
        }
        if kind == OutcomeKind::Error || status >= 500 {
            inner.add(now, Count::Errors, 1);
        }
        if let Some(key) = key {
            match kind {
                OutcomeKind::Hit | OutcomeKind::Stale => inner.hot_hits.add(key.uri(), now),
                // No rule of the cache would make them hits.
                OutcomeKind::Bypass | OutcomeKind::Error => {}
                _ => inner.hot_misses.add(key.uri(), now),
            }
        }
        self.show(now, (key, method), (kind, detail.unwrap_or(forward), Some(status)), elapsed);
    }

    /// A request has got the error of the inner service.
    fn failed(&self, request: (Option<&CacheKey>, &str), reason: &str, elapsed: Duration) {
        let inner = &*self.0;
        let now = inner.clock.now();
        inner.has_ended(now, OutcomeKind::Error);
        inner.add(now, Count::Errors, 1);
        inner.has_reason(reason);
        self.show(now, request, (OutcomeKind::Error, reason, None), elapsed);
    }

    /// Shows a request to those who read, if there is room in this second. One without a status has got no answer from the cache.
    fn show(
        &self,
        now: SystemTime,
        (key, method): (Option<&CacheKey>, &str),
        (kind, reason, status): (OutcomeKind, &str, Option<u16>),
        elapsed: Duration,
    ) {
        let inner = &*self.0;
        if inner.live.receiver_count() == 0 || !inner.may_show(now) {
            return;
        }
        let uri = key.map(|key| {
            let uri = key.uri();
            String::from_utf8_lossy(&uri[..uri.len().min(top::LONGEST)]).into_owned()
        });
        let at = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let event = json!({
            "at": at.as_secs_f64(),
            "method": cut(method, LONGEST_METHOD),
            "url": uri,
            "outcome": kind.as_str(),
            "reason": cut(reason, LONGEST_REASON),
            "status": status,
            "seconds": elapsed.as_secs_f64(),
        });
        // Nobody may listen any more.
        drop(inner.live.send(event.to_string().into()));
    }
}

/// The first `most` bytes of a text, or as many fewer as its characters have it.
fn cut(text: &str, most: usize) -> &str {
    let ends = text.char_indices().map(|(at, char)| at + char.len_utf8());
    &text[..ends.take_while(|end| *end <= most).last().unwrap_or(0)]
}

/// Why a request was forwarded, and the detail.
fn words(outcome: &Outcome) -> (&'static str, Option<&str>) {
    match outcome {
        Outcome::Forwarded(Forwarding { detail, forward, .. }) => {
            (forward.as_str(), detail.as_ref().map(|detail| detail.as_str()))
        }
        Outcome::Hit { detail, .. } => ("hit", detail.as_ref().map(|detail| detail.as_str())),
        Outcome::Unsatisfiable => ("only-if-cached", None),
    }
}

impl Observer for Watch {
    fn event(&self, event: &Event<'_>) {
        let inner = &*self.0;
        match event {
            Event::Answered { elapsed, key, method, outcome, status, .. } => {
                let kind = outcome.kind();
                self.answered((*key, method.as_str()), outcome, kind, status.as_u16(), *elapsed);
            }
            Event::BodyEnded { bytes, kind, .. } => {
                let is_saved = matches!(
                    kind,
                    OutcomeKind::Collapsed | OutcomeKind::Hit | OutcomeKind::Revalidated | OutcomeKind::Stale
                );
                let what = if is_saved { Count::CacheBytes } else { Count::OriginBytes };
                inner.add(inner.clock.now(), what, *bytes);
            }
            Event::Failed { elapsed, key, method, reason, .. } => {
                self.failed((*key, method.as_str()), reason, *elapsed);
            }
            Event::Dropped { .. } => {
                inner.abandoned.fetch_add(1, Ordering::Relaxed);
                inner.has_reason("client-left");
            }
            Event::Fetched { elapsed, .. } => {
                inner.add(inner.clock.now(), Count::Fetches, 1);
                inner.fetches.add(*elapsed);
            }
            // Unsafe requests, and answers that take back what was stored, are no purges.
            Event::Invalidated {
                by: InvalidatedBy::Handle | InvalidatedBy::Peer, succeeded: true, ..
            } => {
                inner.purges.fetch_add(1, Ordering::Relaxed);
            }
            Event::StoreFailed { .. } => {
                inner.store_failures.fetch_add(1, Ordering::Relaxed);
            }
            Event::Freshened { .. }
            | Event::Invalidated { .. }
            | Event::Put { .. }
            | Event::Resumed { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_bounded_in_number_and_length() {
        let watch = Watch::new();
        for number in 0..10_000 {
            watch.0.has_reason(&format!("{number}-{}", "é".repeat(1_000)));
        }
        let reasons = watch.reasons();
        assert!(reasons.len() <= MOST_REASONS + 1, "{}", reasons.len());
        assert!(reasons.iter().all(|(reason, _)| reason.len() <= LONGEST_REASON));
        assert_eq!(reasons.iter().map(|(_, count)| count).sum::<u64>(), 10_000);
    }

    #[test]
    fn live_events_of_one_second_are_bounded() {
        let watch = Watch::new();
        let shown = |second| {
            let now = UNIX_EPOCH + Duration::from_secs(second);
            (0..1_000).filter(|_| watch.0.may_show(now)).count() as u64
        };
        assert_eq!((shown(5), shown(5), shown(6)), (MOST_LIVE, 0, MOST_LIVE));
        assert_eq!(shown(1), MOST_LIVE, "the clock was set back");
        // At the turn of a second, some threads have read the one before.
        let at_the_turn: u64 = (0..100).map(|turn| shown(2 + turn % 2)).sum();
        assert_eq!(at_the_turn, 2 * MOST_LIVE);
    }

    #[test]
    fn a19_no_more_readers_get_a_place_than_there_are_however_many_come_at_one_time() {
        const THREADS: usize = 8;
        let watch = Watch::new();
        let barrier = std::sync::Barrier::new(THREADS);
        for _ in 0..100 {
            let readers = std::thread::scope(|scope| {
                let come = || {
                    barrier.wait();
                    (0..MOST_READERS).filter_map(|_| watch.live()).collect::<Vec<_>>()
                };
                let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(come)).collect();
                threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
            });
            assert_eq!((readers.len(), watch.0.live.receiver_count()), (MOST_READERS, MOST_READERS));
            assert!(watch.live().is_none());
        }
        assert!(watch.live().is_some(), "who has left leaves a place");
    }
}
