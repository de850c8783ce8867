//! What is remembered of representations that are asked for in slices. All of it is bounded, and may be forgotten at any time,
//! which costs a call.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use quick_cache::sync::Cache;

use super::key_memory::KeyMemory;
use super::not_shared::NotShared;
use crate::entry::key::{CacheKey, KeyNames};
use crate::store::Fence;

/// How many confirmations are remembered; the least used are forgotten.
const MOST: usize = 16_384;
/// For how long something is asked for as a whole, once slices of it were of no use.
const WHOLE: Duration = Duration::from_secs(30);
/// `Age` has no fractions of a second.
const SECOND: Duration = Duration::from_secs(1);
/// Two changes of one representation within this time mean that its origin has two versions of it at once.
const CHANGING: Duration = Duration::from_secs(60);

pub(crate) struct SliceMemory {
    changed: KeyMemory,
    /// By the key of the whole and the validator: variants have validators of their own.
    confirmed: Cache<(u128, u64), Confirmation>,
    hasher: RandomState,
    names: KeyNames,
    whole: NotShared,
}

/// What an origin has said of one representation: for as long as that is fresh, each of its slices is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Confirmation {
    /// Its age when it was noted.
    pub(crate) age: Duration,
    /// The purge state from which the origin was asked for it; the default one where that is not known.
    pub(crate) fence: Fence,
    /// When it was noted.
    pub(crate) noted: SystemTime,
    /// It is fresh until then.
    pub(crate) until: SystemTime,
}

impl Confirmation {
    fn said_at(&self) -> SystemTime {
        self.noted.checked_sub(self.age).unwrap_or(self.noted)
    }
}

impl Default for SliceMemory {
    fn default() -> Self {
        Self {
            changed: KeyMemory::new(CHANGING),
            confirmed: Cache::new(MOST),
            hasher: RandomState::new(),
            names: KeyNames::default(),
            whole: NotShared::default(),
        }
    }
}

impl SliceMemory {
    fn name(&self, key: &CacheKey, validator: &[u8]) -> (u128, u64) {
        (self.names.of(key), self.hasher.hash_one(validator))
    }

    /// Notes for how long a representation is fresh. Where it was answered from what is stored, `new` has the default fence, and
    /// what the origin has said of another slice since then holds. Returns the fence of the origin's word.
    pub(crate) fn confirm(&self, key: &CacheKey, validator: &[u8], new: Confirmation) -> Fence {
        let name = self.name(key, validator);
        let mut fence = new.fence;
        if fence == Fence::default()
            && let Some(earlier) = self.confirmed.get(&name)
        {
            fence = earlier.fence;
            if new.said_at() <= earlier.said_at() + SECOND {
                return fence;
            }
        }
        // Also where it is not fresh: something older may say that it is.
        self.confirmed.insert(name, Confirmation { fence, ..new });
        fence
    }

    /// What an origin has said of a representation, while that is fresh.
    pub(crate) fn confirmed(
        &self,
        key: &CacheKey,
        validator: &[u8],
        now: SystemTime,
    ) -> Option<Confirmation> {
        let confirmed = self.confirmed.get(&self.name(key, validator))?;
        (confirmed.noted <= now && now < confirmed.until).then_some(confirmed)
    }

    /// Whether what is stored under a key is asked for as a whole.
    pub(crate) fn is_whole(&self, key: &CacheKey, has_credentials: bool, now: SystemTime) -> bool {
        self.whole.has(key, has_credentials, now)
    }

    /// Slices of it are of no use: for a while it is asked for as a whole.
    pub(crate) fn keep_whole(&self, key: &CacheKey, has_credentials: bool, now: SystemTime) {
        self.whole.remember(key, has_credentials, now, WHOLE);
    }

    /// A representation has changed while its slices were sent. Where that happens again at once, its origin has two versions of
    /// it, and only a whole one is certainly of one version.
    pub(crate) fn change(&self, key: &CacheKey, now: SystemTime) {
        if self.changed.has(key, now) {
            self.keep_whole(key, false, now);
        }
        self.changed.remember(key, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> CacheKey {
        CacheKey::from_uri(&"http://a/".parse().expect("a URI")).expect("a key")
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000 + seconds)
    }

    fn confirmation(noted: u64, until: u64) -> Confirmation {
        let (age, fence) = (Duration::ZERO, Fence::from_bits(noted.into()));
        Confirmation { age, fence, noted: at(noted), until: at(until) }
    }

    #[test]
    fn ra4_a_confirmation_holds_for_its_validator_while_it_is_fresh() {
        let memory = SliceMemory::default();
        memory.confirm(&key(), b"\"a\"", confirmation(0, 60));
        assert_eq!(memory.confirmed(&key(), b"\"a\"", at(59)), Some(confirmation(0, 60)));
        assert_eq!(memory.confirmed(&key(), b"\"a\"", at(60)), None);
        assert_eq!(memory.confirmed(&key(), b"\"b\"", at(0)), None);
        let before = SystemTime::UNIX_EPOCH;
        assert_eq!(memory.confirmed(&key(), b"\"a\"", before), None, "the clock was set back");
        memory.confirm(&key(), b"\"a\"", confirmation(1, 1));
        assert_eq!(
            memory.confirmed(&key(), b"\"a\"", at(1)),
            None,
            "it has to be validated each time by now"
        );
    }

    #[test]
    fn ra4_a_hit_is_no_news_of_the_origin() {
        let memory = SliceMemory::default();
        let hit = |noted| {
            let age = Duration::from_secs(noted);
            Confirmation { age, fence: Fence::default(), ..confirmation(noted, 60) }
        };
        let confirm = |new| memory.confirm(&key(), b"\"a\"", new);
        assert_eq!(confirm(hit(0)), Fence::default());
        assert_eq!(confirm(confirmation(5, 60)), Fence::from_bits(5));
        assert_eq!(confirm(hit(10)), Fence::from_bits(5));
        // A slice that was received earlier may count as fresh for longer.
        assert_eq!(confirm(Confirmation { until: at(3_600), ..hit(10) }), Fence::from_bits(5));
        assert_eq!(memory.confirmed(&key(), b"\"a\"", at(10)), Some(confirmation(5, 60)));
        assert_eq!(memory.confirmed(&key(), b"\"a\"", at(60)), None);
        // It was validated in the background meanwhile.
        let validated = Confirmation { age: Duration::ZERO, until: at(130), ..hit(70) };
        assert_eq!(confirm(validated), Fence::from_bits(5));
        let expected = Confirmation { fence: Fence::from_bits(5), ..validated };
        assert_eq!(memory.confirmed(&key(), b"\"a\"", at(70)), Some(expected));
    }

    #[test]
    fn ra4_what_changes_twice_is_asked_for_as_a_whole() {
        let memory = SliceMemory::default();
        memory.change(&key(), at(0));
        assert!(!memory.is_whole(&key(), false, at(0)));
        memory.change(&key(), at(60));
        assert!(!memory.is_whole(&key(), false, at(60)), "a minute later that is another change");
        memory.change(&key(), at(61));
        assert!(memory.is_whole(&key(), false, at(61)));
        assert!(!memory.is_whole(&key(), false, at(61) + WHOLE));
    }
}
