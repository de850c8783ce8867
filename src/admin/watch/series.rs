//! What happened when, for the last hours.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// How many seconds are one point.
pub(in crate::admin) const STEP: u64 = 10;
/// How many points are kept: four hours.
const POINTS: usize = 1_440;

/// Counts in a ring of points. Two threads that begin a point at the same time may lose a few counts of it.
pub(super) struct Series(Box<[Slot]>);

#[derive(Default)]
pub(super) struct Slot {
    /// Which point it is: seconds since 1970 / [`STEP`].
    number: AtomicU64,
    counts: [AtomicU64; Count::ALL.len()],
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admin) enum Count {
    /// Requests that were none of the cache's business.
    Bypassed,
    /// Bytes of content that the inner service did not have to send: from storage, or of another request's call.
    CacheBytes,
    Errors,
    Fetches,
    /// Answers from storage, fresh or stale, also where they stand in for a failure.
    Hits,
    /// Bytes of content that came from the inner service.
    OriginBytes,
    /// Requests with an end: not those whose client has left.
    Requests,
}

impl Count {
    pub(in crate::admin) const ALL: [Self; 7] = [
        Self::Bypassed,
        Self::CacheBytes,
        Self::Errors,
        Self::Fetches,
        Self::Hits,
        Self::OriginBytes,
        Self::Requests,
    ];

    pub(in crate::admin) fn name(self) -> &'static str {
        match self {
            Self::Bypassed => "bypassed",
            Self::CacheBytes => "cache_bytes",
            Self::Errors => "errors",
            Self::Fetches => "fetches",
            Self::Hits => "hits",
            Self::OriginBytes => "origin_bytes",
            Self::Requests => "requests",
        }
    }
}

/// One point: when it began, in seconds since 1970, and its counts, in the order of [`Count::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admin) struct Point {
    pub(in crate::admin) at: u64,
    pub(in crate::admin) counts: [u64; Count::ALL.len()],
}

impl Slot {
    pub(super) fn add(&self, what: Count, number: u64) {
        self.counts[what as usize].fetch_add(number, Ordering::Relaxed);
    }
}

impl Default for Series {
    fn default() -> Self {
        Self((0..POINTS).map(|_| Slot::default()).collect())
    }
}

impl Series {
    /// The point for what happens now.
    pub(super) fn at(&self, now: SystemTime) -> &Slot {
        let point = number_of(now);
        let slot = &self.0[index(point)];
        let before = slot.number.load(Ordering::Acquire);
        if before != point {
            // Whoever finds an old point first begins the new one.
            let begun = slot.number.compare_exchange(before, point, Ordering::AcqRel, Ordering::Acquire);
            if begun.is_ok() {
                slot.counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
            }
        }
        slot
    }

    /// The points of the last `most` steps in which something happened, the oldest first.
    pub(super) fn points(&self, now: SystemTime, most: usize) -> Vec<Point> {
        let last = number_of(now);
        let first = last.saturating_sub((most.min(POINTS) as u64).saturating_sub(1));
        let point = |number: u64| {
            let slot = &self.0[index(number)];
            let is_it = slot.number.load(Ordering::Acquire) == number;
            let counts = slot.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
            is_it.then_some(Point { at: number * STEP, counts })
        };
        (first..=last).filter_map(point).collect()
    }
}

fn number_of(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / STEP
}

fn index(number: u64) -> usize {
    usize::try_from(number % POINTS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_last_points_are_kept_and_older_ones_make_room() {
        let series = Series::default();
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(1_790_000_000 + seconds);
        series.at(at(0)).add(Count::Hits, 1);
        series.at(at(9)).add(Count::Hits, 2);
        series.at(at(10)).add(Count::Requests, 5);
        let points = series.points(at(15), 100);
        assert_eq!(points.len(), 2, "{points:?}");
        assert_eq!(points[0], Point { at: 1_790_000_000, counts: [0, 0, 0, 0, 3, 0, 0] });
        assert_eq!(points[1], Point { at: 1_790_000_010, counts: [0, 0, 0, 0, 0, 0, 5] });
        assert_eq!(series.points(at(15), 1), points[1..]);
        // Four hours later, they are gone, and their places are those of others.
        let later = STEP * POINTS as u64;
        assert_eq!(series.points(at(later + 10), 10_000), []);
        series.at(at(later)).add(Count::Hits, 7);
        let expected = Point { at: 1_790_000_000 + later, counts: [0, 0, 0, 0, 7, 0, 0] };
        assert_eq!(series.points(at(later), 10_000), [points[1], expected]);
    }
}
