//! How long things take, in buckets whose widths grow with them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A quarter of an octave each: a bucket is at most 25 % wide, and the last one ends after 19 hours.
const BUCKETS: usize = 4 * 35;

/// Counts of durations, in microseconds.
pub(super) struct Histogram(Box<[AtomicU64]>);

/// What a histogram says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::admin) struct Latency {
    pub(in crate::admin) count: u64,
    /// Upper bounds, in seconds, of what half, nine tenths and 99 hundredths took at most.
    pub(in crate::admin) p50: f64,
    pub(in crate::admin) p90: f64,
    pub(in crate::admin) p99: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Histogram {
    pub(super) fn add(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.0[bucket(micros)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn latency(&self) -> Latency {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let count = counts.iter().sum();
        let at = |percent: u64| {
            let rank = count * percent / 100;
            let mut seen = 0;
            let reached = counts.iter().position(|own| {
                seen += own;
                seen > rank || (seen == count && count > 0)
            });
            reached.map_or(0.0, |bucket| bound(bucket) as f64 / 1e6)
        };
        Latency { count, p50: at(50), p90: at(90), p99: at(99) }
    }
}

/// The bucket of so many microseconds: those below 4 have their own, and each octave after that has four.
fn bucket(micros: u64) -> usize {
    let bucket = if micros < 4 {
        micros
    } else {
        let octave = u64::from(micros.ilog2());
        (octave - 1) * 4 + ((micros >> (octave - 2)) & 3)
    };
    usize::try_from(bucket).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The first number of microseconds that is beyond a bucket.
fn bound(bucket: usize) -> u64 {
    let next = bucket as u64 + 1;
    if next < 4 { next } else { (4 + next % 4) << (next / 4 - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_below_the_bound_of_its_bucket_and_not_far() {
        let mut before = 0;
        for micros in (0..100_000).chain((17..34).map(|octave| (1 << octave) + 12_345)) {
            let bucket = bucket(micros);
            assert!(bucket >= before, "{micros}");
            before = bucket;
            assert!(micros < bound(bucket), "{micros} {bucket}");
            assert!(bound(bucket) <= micros + micros / 4 + 1, "{micros} {bucket}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_bounds_of_what_they_say() {
        let histogram = Histogram::default();
        assert_eq!(histogram.latency(), Latency::default());
        for micros in 1..=1_000 {
            histogram.add(Duration::from_micros(micros));
        }
        let Latency { count, p50, p90, p99 } = histogram.latency();
        assert_eq!(count, 1_000);
        for (found, exact) in [(p50, 500e-6), (p90, 900e-6), (p99, 990e-6)] {
            assert!(found >= exact && found <= exact * 1.25 + 2e-6, "{found} {exact}");
        }
    }
}
