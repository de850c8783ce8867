//! Admission: what is asked for once is not worth storing.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::entry::key::CacheKey;

/// Counters in a part of the window, each of one byte.
const COUNTERS: usize = 1 << 16;
/// How many counters a key has; the smallest of them counts.
const OF_A_KEY: usize = 4;
/// Parts of the window, which are forgotten one by one.
const PARTS: usize = 4;

/// Stores a response only when its key has been asked for often enough, so that pages that are asked for once, as by a
/// crawler, do not push out those that others want; see [`CachePolicyExt::admit`](crate::CachePolicyExt::admit).
///
/// The answer to the n-th request within the window is stored. What counts is requests that storage can't answer, with those
/// that wait for another one's call, and only where nothing is stored under the key. A refused answer has `admission` in
/// `Cache-Status`, and nobody waits for another one because of it.
///
/// A request counts for three quarters of the window at least, and for the whole of it at most. The counts take 256 KiB,
/// however many keys there are: they are a filter, by which some keys are admitted too early when there are tens of
/// thousands in a window, and none too late. Clones count together, and keys of several layers do as well.
#[derive(Clone)]
pub struct Admission {
    after: u8,
    filter: Arc<Filter>,
}

impl Admission {
    /// After so many requests within an hour; the first is enough for 0 and 1.
    pub fn after(requests: u8) -> Self {
        Self { after: requests, filter: Arc::new(Filter::new(Duration::from_secs(3_600))) }
    }

    /// Within so much time instead. The counts begin anew.
    #[must_use]
    pub fn within(self, window: Duration) -> Self {
        Self { filter: Arc::new(Filter::new(window)), ..self }
    }

    /// Counts further requests for a key, and says whether there have been enough.
    pub(crate) fn admits(&self, key: &CacheKey, further: usize, now: SystemTime) -> bool {
        self.after <= 1 || self.filter.count(key, further, now) >= u32::from(self.after)
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut admission = f.debug_struct("Admission");
        admission.field("after", &self.after).field("within", &(self.filter.part * PARTS as u32)).finish()
    }
}

impl Eq for Admission {}

/// Those that count together, up to the same number.
impl PartialEq for Admission {
    fn eq(&self, other: &Self) -> bool {
        self.after == other.after && Arc::ptr_eq(&self.filter, &other.filter)
    }
}

/// A count-min filter for each part of the window. The counts of threads that race may lack one another's, which costs a
/// key one more request.
struct Filter {
    /// Seeded, so that nobody can choose keys that share their counters.
    hasher: RandomState,
    part: Duration,
    parts: [Part; PARTS],
}

/// The counts of one part of time.
struct Part {
    counters: Box<[AtomicU8]>,
    /// Which part of time, by its number.
    number: AtomicU64,
}

impl Filter {
    fn new(window: Duration) -> Self {
        let part = (window / PARTS as u32).max(Duration::from_millis(1));
        let counters = || (0..COUNTERS).map(|_| AtomicU8::new(0)).collect();
        let parts = std::array::from_fn(|_| Part { counters: counters(), number: AtomicU64::new(0) });
        Self { hasher: RandomState::new(), part, parts }
    }

    /// The requests for a key within the window, with these further ones.
    fn count(&self, key: &CacheKey, further: usize, now: SystemTime) -> u32 {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let number = u64::try_from(since.as_nanos() / self.part.as_nanos()).unwrap_or(u64::MAX);
        let places = self.places(key);
        (0..PARTS as u64)
            .filter_map(|ago| {
                let number = number.checked_sub(ago)?;
                let part = &self.parts[usize::try_from(number % PARTS as u64).unwrap_or_default()];
                match ago {
                    0 => Some(part.add(number, places, further)),
                    _ => part.get(number, places),
                }
            })
            .map(u32::from)
            .sum()
    }

    /// Where the counters of a key are.
    fn places(&self, key: &CacheKey) -> [usize; OF_A_KEY] {
        let hash = self.hasher.hash_one(key);
        // Sixteen bits for each.
        std::array::from_fn(|at| (hash >> (16 * at)) as usize % COUNTERS)
    }
}

impl Part {
    /// Counts further requests in this part of time.
    fn add(&self, number: u64, places: [usize; OF_A_KEY], further: usize) -> u8 {
        let found = self.number.load(Ordering::Acquire);
        if found != number
            && self.number.compare_exchange(found, number, Ordering::AcqRel, Ordering::Acquire).is_ok()
        {
            self.counters.iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
        }
        let count = self.least(places).saturating_add(u8::try_from(further).unwrap_or(u8::MAX));
        for place in places {
            self.counters[place].fetch_max(count, Ordering::Relaxed);
        }
        count
    }

    /// The count in this part of time; `None` where it is another one's.
    fn get(&self, number: u64, places: [usize; OF_A_KEY]) -> Option<u8> {
        (self.number.load(Ordering::Acquire) == number).then(|| self.least(places))
    }

    fn least(&self, places: [usize; OF_A_KEY]) -> u8 {
        places.iter().map(|&place| self.counters[place].load(Ordering::Relaxed)).min().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(name: impl fmt::Display) -> CacheKey {
        CacheKey::from_uri(&format!("http://example.com/{name}").parse().expect("a URI")).expect("a key")
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_790_000_000 + seconds)
    }

    fn within(seconds: u64) -> Filter {
        Filter::new(Duration::from_secs(seconds))
    }

    #[test]
    fn kx1_the_requests_of_the_window_count() {
        let filter = within(100);
        let counts = [(0, 1), (1, 2), (24, 3), (74, 4), (75, 5)];
        for (seconds, count) in counts {
            assert_eq!(filter.count(&key("a"), 1, at(seconds)), count, "{seconds} s");
        }
        assert_eq!(filter.count(&key("b"), 1, at(75)), 1);
        // A part of the window is forgotten as a whole: by now, that of the first 25 s.
        assert_eq!(filter.count(&key("a"), 0, at(100)), 2);
        assert_eq!(filter.count(&key("a"), 3, at(174)), 4);
        assert_eq!(filter.count(&key("a"), 0, at(175)), 3);
        assert_eq!(filter.count(&key("a"), 0, at(1_000)), 0);
    }

    #[test]
    fn kx1_counts_saturate() {
        let filter = within(100);
        assert_eq!(filter.count(&key("a"), usize::MAX, at(0)), 255);
        assert_eq!(filter.count(&key("a"), 1, at(0)), 255);
        assert_eq!(filter.count(&key("a"), 1, at(25)), 256);
        let most = Admission::after(u8::MAX);
        assert!(!most.admits(&key("a"), 254, at(0)));
        assert!(most.admits(&key("a"), 1, at(0)));
        for first in [0, 1] {
            assert!(Admission::after(first).admits(&key("a"), 0, at(0)));
        }
    }

    #[test]
    fn kx1_a_clock_that_is_set_back_loses_counts_and_nothing_else() {
        let filter = within(100);
        filter.count(&key("a"), 5, at(1_000));
        assert_eq!(filter.count(&key("a"), 1, at(0)), 1);
        assert_eq!(filter.count(&key("a"), 1, UNIX_EPOCH), 1);
        assert_eq!(filter.count(&key("a"), 1, UNIX_EPOCH - Duration::from_secs(1)), 2);
        assert!(within(0).count(&key("a"), 1, at(0)) == 1);
        assert!(Filter::new(Duration::MAX).count(&key("a"), 1, at(0)) == 1);
    }

    #[test]
    fn kx1_few_keys_are_admitted_too_early_among_many() {
        let filter = within(100);
        let early =
            |keys: std::ops::Range<u32>| keys.filter(|name| filter.count(&key(name), 1, at(0)) > 1).count();
        let few = early(0..10_000);
        assert!(few < 300, "{few} of 10,000");
        // A flood of keys costs admission, not memory; and it is over with the window.
        early(10_000..200_000);
        assert_eq!(filter.count(&key("another"), 1, at(100)), 1);
    }

    #[test]
    fn a26_two_filters_count_a_key_in_different_places() {
        assert_ne!(within(1).places(&key("a")), within(1).places(&key("a")));
    }

    #[test]
    fn clones_count_together() {
        let admission = Admission::after(2);
        let clone = admission.clone();
        assert!(!admission.admits(&key("a"), 1, at(0)));
        assert!(clone.admits(&key("a"), 1, at(0)));
        assert_eq!(admission, clone);
        assert_ne!(admission, Admission::after(2));
        let other = clone.within(Duration::from_secs(8));
        assert!(!other.admits(&key("a"), 1, at(0)));
        assert_eq!(format!("{other:?}"), "Admission { after: 2, within: 8s }");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// None is admitted too late.
        #[test]
        fn kx1_no_count_is_too_small(asked in prop::collection::vec((0..50_u8, 0..75_u64), 0..300)) {
            let filter = within(100);
            let mut asked = asked;
            asked.sort_by_key(|(_, seconds)| *seconds);
            for (place, (name, seconds)) in asked.iter().enumerate() {
                let least = asked[..=place].iter().filter(|(other, _)| other == name).count();
                let found = filter.count(&key(name), 1, at(*seconds));
                prop_assert!(usize::try_from(found).unwrap_or(usize::MAX) >= least);
            }
        }
    }
}
