//! Admission: what is asked for once is not worth storing.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::entry::key::CacheKey;

/// How many keys are told apart unless a policy says otherwise.
const KEYS: u32 = 1 << 14;
/// The most of them.
const MOST_KEYS: u32 = 1 << 24;
/// Counters for each of these keys, each of one byte: by that, fewer than one in a hundred keys is admitted too early.
const COUNTERS: usize = 16;
/// How many counters a key has; the smallest of them counts.
const OF_A_KEY: usize = 6;
/// Parts of the window, which are forgotten one by one.
const PARTS: usize = 4;

/// Stores a response only when its key has been asked for often enough, so that pages that are asked for once, as by a
/// crawler, do not push out those that others want; see [`CachePolicyExt::admit`](crate::CachePolicyExt::admit).
///
/// The answer to the n-th request within the window is stored. What counts is requests that storage can't answer, with those
/// that wait for another one's call, and only where nothing is stored under the key. A refused answer has `admission` in
/// `Cache-Status`, and nobody waits for another one because of it.
///
/// A request counts for three quarters of the window at least, and for the whole of it at most; and no longer than until as many
/// other keys have been asked for as are told apart ([`Admission::keys`]). The counts are a filter of fixed size, by which fewer than
/// one in a hundred keys is admitted too early, however many there are, and none too late as long as it is remembered. Clones count
/// together, and keys of several layers do as well.
///
/// ```
/// use std::time::Duration;
/// use larder::policy::Admission;
/// // What is asked for once stays in memory: the disk is for what is asked for again.
/// let again = Admission::after(2).within(Duration::from_secs(86_400)).keys(1_000_000).near_at_once();
/// # let _ = again;
/// ```
#[derive(Clone)]
pub struct Admission {
    after: u8,
    filter: Arc<Filter>,
    near_at_once: bool,
}

impl Admission {
    /// After so many requests within an hour; the first is enough for 0 and 1.
    pub fn after(requests: u8) -> Self {
        let filter = Filter::new(Duration::from_secs(3_600), KEYS);
        Self { after: requests, filter: Arc::new(filter), near_at_once: false }
    }

    /// How many keys are told apart within the window; default 16,384. Each takes 16 bytes of memory, whether or not it is asked
    /// for. Where there are more, the window is shorter. The counts begin anew.
    #[must_use]
    pub fn keys(self, count: u32) -> Self {
        let filter = Filter::new(self.filter.window(), count);
        Self { filter: Arc::new(filter), ..self }
    }

    /// Where the store has levels ([`TieredStore`](crate::store::TieredStore)), the near one keeps the response from the first
    /// request on, and the far one gets it when it is admitted: memory at once, the disk when it is worth that. Hits in the near
    /// store count as well, so what is hot there is written to the far one without being fetched again. A store without levels stores
    /// nothing until then.
    ///
    /// What the near level can't take ([`Levels::Near`](crate::store::Levels::Near)) is refused until then, and so is what a policy
    /// keeps in the far level alone. What it keeps in the near one alone is stored at once.
    #[must_use]
    pub fn near_at_once(self) -> Self {
        Self { near_at_once: true, ..self }
    }

    /// Whether the near level of a tier keeps what is not admitted.
    pub(crate) fn is_near_at_once(&self) -> bool {
        self.near_at_once
    }

    /// Within so much time instead. The counts begin anew.
    #[must_use]
    pub fn within(self, window: Duration) -> Self {
        let filter = Filter::new(window, self.filter.keys());
        Self { filter: Arc::new(filter), ..self }
    }

    /// Counts further requests for a key, and says whether there have been enough.
    pub(crate) fn admits(&self, key: &CacheKey, further: usize, now: SystemTime) -> bool {
        self.after <= 1 || self.filter.count(key, further, now) >= u32::from(self.after)
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut admission = f.debug_struct("Admission");
        admission.field("after", &self.after).field("within", &self.filter.window());
        admission.field("keys", &self.filter.keys()).field("near_at_once", &self.near_at_once).finish()
    }
}

impl Eq for Admission {}

/// Those that count together, up to the same number.
impl PartialEq for Admission {
    fn eq(&self, other: &Self) -> bool {
        self.after == other.after
            && self.near_at_once == other.near_at_once
            && Arc::ptr_eq(&self.filter, &other.filter)
    }
}

/// A count-min filter for each part of the window. The counts of threads that race may lack one another's, which costs a
/// key one more request.
struct Filter {
    /// Seeded, so that nobody can choose keys that share their counters.
    hasher: RandomState,
    /// Keys that the part that is counted in has at most. Beyond that, the next part begins before its time.
    most: u32,
    part: Duration,
    parts: [Part; PARTS],
    /// The part that is counted in, by its number.
    turn: AtomicU64,
    /// When it has begun: which part of time it was.
    time: AtomicU64,
}

/// The counts of one part of the window.
struct Part {
    counters: Box<[AtomicU8]>,
    /// Keys that are counted here, about.
    keys: AtomicU32,
    /// Which part of the window, of all that there have been.
    number: AtomicU64,
}

impl Filter {
    fn new(window: Duration, keys: u32) -> Self {
        let part = (window / PARTS as u32).max(Duration::from_millis(1));
        let most = (keys.min(MOST_KEYS) / PARTS as u32).max(64);
        let parts = std::array::from_fn(|_| Part::new(most as usize * COUNTERS));
        let (turn, time) = (AtomicU64::new(PARTS as u64), AtomicU64::new(0));
        Self { hasher: RandomState::new(), most, part, parts, turn, time }
    }

    fn keys(&self) -> u32 {
        self.most * PARTS as u32
    }

    fn window(&self) -> Duration {
        self.part * PARTS as u32
    }

    /// The requests for a key within the window, with these further ones.
    fn count(&self, key: &CacheKey, further: usize, now: SystemTime) -> u32 {
        self.count_hash(self.hasher.hash_one(key), further, now)
    }

    fn count_hash(&self, hash: u64, further: usize, now: SystemTime) -> u32 {
        let turn = self.turn_at(now);
        let places = self.places(hash);
        (0..PARTS as u64)
            .filter_map(|ago| {
                let number = turn.checked_sub(ago)?;
                let part = &self.parts[usize::try_from(number % PARTS as u64).unwrap_or_default()];
                match ago {
                    0 => Some(part.add(number, places, further)),
                    _ => part.get(number, places),
                }
            })
            .map(u32::from)
            .sum()
    }

    /// The part that is counted in now. It is the next one where its time is over, or it is full.
    fn turn_at(&self, now: SystemTime) -> u64 {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = u64::try_from(since.as_nanos() / self.part.as_nanos()).unwrap_or(u64::MAX);
        let (turn, begun) = (self.turn.load(Ordering::Acquire), self.time.load(Ordering::Acquire));
        let later = match time.checked_sub(begun) {
            Some(parts) => parts.min(PARTS as u64),
            // A clock that is set back a little stands still for a moment; beyond that, nothing is known of when it was.
            None if begun - time <= PARTS as u64 => 0,
            None => PARTS as u64,
        };
        if later > 0 {
            // Whoever is first says it.
            if self.time.compare_exchange(begun, time, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return self.turn.fetch_add(later, Ordering::AcqRel) + later;
            }
            return self.turn.load(Ordering::Acquire);
        }
        let part = &self.parts[usize::try_from(turn % PARTS as u64).unwrap_or_default()];
        let is_full =
            part.number.load(Ordering::Acquire) == turn && part.keys.load(Ordering::Relaxed) >= self.most;
        if is_full {
            let next = self.turn.compare_exchange(turn, turn + 1, Ordering::AcqRel, Ordering::Acquire);
            return next.map_or_else(|other| other, |_| turn + 1);
        }
        turn
    }

    /// Where the counters of a key are.
    fn places(&self, hash: u64) -> [usize; OF_A_KEY] {
        // Of two hashes, as many as are needed.
        let (first, step) = (hash as u32 as usize, (hash >> 32) as usize);
        let counters = self.parts[0].counters.len();
        std::array::from_fn(|at| first.wrapping_add(step.wrapping_mul(at)) % counters)
    }
}

impl Part {
    fn new(counters: usize) -> Self {
        let counters = (0..counters).map(|_| AtomicU8::new(0)).collect();
        Self { counters, keys: AtomicU32::new(0), number: AtomicU64::new(0) }
    }

    /// Counts further requests in this part of the window.
    fn add(&self, number: u64, places: [usize; OF_A_KEY], further: usize) -> u8 {
        let found = self.number.load(Ordering::Acquire);
        // A later one: whoever counts here has stood still for the whole window.
        if found > number {
            return u8::try_from(further).unwrap_or(u8::MAX);
        }
        if found != number
            && self.number.compare_exchange(found, number, Ordering::AcqRel, Ordering::Acquire).is_ok()
        {
            self.counters.iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
            self.keys.store(0, Ordering::Relaxed);
        }
        let before = self.least(places);
        let count = before.saturating_add(u8::try_from(further).unwrap_or(u8::MAX));
        if before == 0 && count > 0 {
            self.keys.fetch_add(1, Ordering::Relaxed);
        }
        for place in places {
            self.counters[place].fetch_max(count, Ordering::Relaxed);
        }
        count
    }

    /// The count in this part of the window; `None` where it is another one's.
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
        Filter::new(Duration::from_secs(seconds), KEYS)
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
        assert!(Filter::new(Duration::MAX, KEYS).count(&key("a"), 1, at(0)) == 1);
    }

    #[test]
    fn kx1_of_a_million_keys_that_are_asked_for_once_fewer_than_one_in_a_hundred_is_admitted() {
        for keys in [1_000, KEYS, 1 << 18] {
            let filter = Filter::new(Duration::from_secs(100), keys);
            let is_early = |name: &u32| filter.count_hash(filter.hasher.hash_one(name), 1, at(0)) > 1;
            let early = (0..1_000_000).filter(is_early).count();
            assert!(early < 10_000, "{early} of a million, where {keys} are told apart");
        }
    }

    #[test]
    fn kx1_a_key_is_remembered_until_three_quarters_of_those_that_are_told_apart_have_been_asked_for() {
        let filter = Filter::new(Duration::from_secs(100), 4_000);
        let count = |name: u32, further| filter.count_hash(filter.hasher.hash_one(name), further, at(0));
        let again = 1_000_000..1_000_100;
        for others in [0..2_900, 2_900..5_800, 5_800..8_700] {
            again.clone().for_each(|name| _ = count(name, 1));
            others.for_each(|name| _ = count(name, 1));
            again.clone().for_each(|name| assert!(count(name, 0) >= 1));
        }
        // A flood of keys costs admission, not memory; and nothing of it is left in the end.
        (10_000..20_000).for_each(|name| _ = count(name, 1));
        let left = again.filter(|name| count(*name, 0) > 0).count();
        assert!(left < 5, "{left} of 100");
    }

    #[test]
    fn kx1_a_clock_that_is_set_back_a_little_loses_nothing() {
        let filter = within(100);
        assert_eq!(filter.count(&key("a"), 1, at(25)), 1);
        assert_eq!(filter.count(&key("a"), 1, at(24)), 2);
        assert_eq!(filter.count(&key("a"), 1, at(25)), 3);
    }

    #[test]
    fn a26_two_filters_count_a_key_in_different_places() {
        let places = || {
            let filter = within(1);
            filter.places(filter.hasher.hash_one(key("a")))
        };
        assert_ne!(places(), places());
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
        assert_ne!(other, other.clone().near_at_once());
        assert_eq!(other.clone().keys(1 << 20).within(Duration::from_secs(4)).filter.keys(), 1 << 20);
        let shown = "Admission { after: 2, within: 8s, keys: 16384, near_at_once: false }";
        assert_eq!(format!("{other:?}"), shown);
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
