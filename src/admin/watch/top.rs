//! The keys with the most hits, or misses, of late, in bounded memory: the algorithm Space-Saving (Metwally, Agrawal,
//! El Abbadi, 2005), in two windows.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::mem;
use std::time::{Duration, SystemTime};

use quick_cache::DefaultHashBuilder;

use crate::runtime::{Mutex, lock};

/// Keys are divided among so many lists, so that threads seldom wait for each other.
const SHARDS: usize = 16;
/// How many keys each list counts at one time.
const KEYS: usize = 64;
/// The most bytes of a key that count.
pub(super) const LONGEST: usize = 1_024;
/// How long a window is. What is reported is of the present one and of the one before.
const WINDOW: Duration = Duration::from_secs(600);

/// Counts of the most frequent keys.
pub(super) struct Top {
    hasher: DefaultHashBuilder,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    began: Option<SystemTime>,
    before: Counts,
    now: Counts,
}

/// One of the most frequent keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::admin) struct Frequent {
    /// How often, at most.
    pub(in crate::admin) count: u64,
    /// By how much that may be too many.
    pub(in crate::admin) excess: u64,
    pub(in crate::admin) key: Box<[u8]>,
}

/// At most [`KEYS`] keys: the number of times each was seen, and by how much that may be too many.
#[derive(Default)]
struct Counts(HashMap<Box<[u8]>, (u64, u64), DefaultHashBuilder>);

impl Counts {
    fn add(&mut self, key: &[u8]) {
        if let Some((count, _)) = self.0.get_mut(key) {
            *count += 1;
            return;
        }
        let mut place = (1, 0);
        if self.0.len() == KEYS
            && let Some((rarest, count)) = self
                .0
                .iter()
                .min_by_key(|(_, (count, _))| *count)
                .map(|(key, (count, _))| (key.clone(), *count))
        {
            // It may have been seen as often as the one whose place it takes.
            self.0.remove(&rarest);
            place = (count + 1, count);
        }
        self.0.insert(key.into(), place);
    }
}

impl Shard {
    fn turn(&mut self, now: SystemTime) {
        let began = *self.began.get_or_insert(now);
        match now.duration_since(began) {
            Ok(passed) if passed < WINDOW => {}
            Ok(passed) => {
                let last = mem::take(&mut self.now);
                self.before = if passed < 2 * WINDOW { last } else { Counts::default() };
                self.began = Some(now);
            }
            // The clock was set back.
            Err(_) => self.began = Some(now),
        }
    }
}

impl Default for Top {
    fn default() -> Self {
        Self { hasher: DefaultHashBuilder::default(), shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Top {
    pub(super) fn add(&self, key: &[u8], now: SystemTime) {
        let key = &key[..key.len().min(LONGEST)];
        let mut shard = lock(self.shard(key));
        shard.turn(now);
        shard.now.add(key);
    }

    /// How often a key was seen of late, where it is among the most frequent ones.
    pub(super) fn count(&self, key: &[u8], now: SystemTime) -> Option<u64> {
        let key = &key[..key.len().min(LONGEST)];
        let mut shard = lock(self.shard(key));
        shard.turn(now);
        let counts = [&shard.now, &shard.before].map(|counts| counts.0.get(key).map(|(count, _)| *count));
        counts.into_iter().flatten().reduce(|one, other| one + other)
    }

    /// The most frequent keys, the first one first.
    pub(super) fn most(&self, number: usize, now: SystemTime) -> Vec<Frequent> {
        let mut all: HashMap<Box<[u8]>, (u64, u64)> = HashMap::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.turn(now);
            for (key, (count, excess)) in shard.now.0.iter().chain(&shard.before.0) {
                let sum = all.entry(key.clone()).or_default();
                *sum = (sum.0 + count, sum.1 + excess);
            }
        }
        let frequent = |(key, (count, excess))| Frequent { count, excess, key };
        let mut all: Vec<_> = all.into_iter().map(frequent).collect();
        all.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.key.cmp(&other.key)));
        all.truncate(number);
        all
    }

    fn shard(&self, key: &[u8]) -> &Mutex<Shard> {
        let hash = self.hasher.hash_one(key);
        &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or_default()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn the_most_frequent_keys_are_known_among_any_number_of_others() {
        let (top, now) = (Top::default(), UNIX_EPOCH);
        for round in 0..1_000u64 {
            for hot in ["/a", "/b", "/b"] {
                top.add(hot.as_bytes(), now);
            }
            for rare in 0..20 {
                top.add(format!("/{round}/{rare}").as_bytes(), now);
            }
        }
        let most = top.most(2, now);
        assert_eq!(most.iter().map(|frequent| &*frequent.key).collect::<Vec<_>>(), [&b"/b"[..], b"/a"]);
        // A count is never too small, and never too large by more than it says.
        for (frequent, exact) in most.iter().zip([2_000, 1_000]) {
            assert!(frequent.count >= exact && frequent.count - frequent.excess <= exact, "{frequent:?}");
        }
        let held: usize = top.shards.iter().map(|shard| lock(shard).now.0.len()).sum();
        assert!(held <= SHARDS * KEYS, "{held}");
        assert!(top.count(b"/b", now) >= Some(2_000) && top.count(b"/never", now).is_none());
    }

    #[test]
    fn what_was_frequent_half_an_hour_ago_is_forgotten() {
        let (top, at) = (Top::default(), |minutes: u64| UNIX_EPOCH + Duration::from_secs(minutes * 60));
        top.add(b"/a", at(0));
        top.add(b"/a", at(9));
        assert_eq!(top.count(b"/a", at(9)), Some(2));
        top.add(b"/a", at(11));
        assert_eq!(top.count(b"/a", at(11)), Some(3));
        assert_eq!(top.count(b"/a", at(22)), Some(1));
        assert_eq!(top.most(10, at(43)), []);
    }

    #[test]
    fn a_long_key_takes_no_more_room_than_a_bounded_one() {
        let (top, now) = (Top::default(), UNIX_EPOCH);
        let long = vec![b'x'; 100_000];
        top.add(&long, now);
        assert_eq!(top.most(1, now)[0].key.len(), LONGEST);
        assert_eq!(top.count(&long, now), Some(1));
    }
}
