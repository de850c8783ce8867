//! Background validations: one at a time for each key, a bounded number in all, and after a failure not again at once.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quick_cache::sync::Cache;

use crate::entry::key::{CacheKey, KeyNames};
use crate::runtime::{Mutex, lock};

/// How many validations run at once. Beyond that, answers are sent without one.
const MOST: usize = 1_024;
/// How many keys with failures are remembered; the least used are forgotten.
const MOST_RESTING: usize = 16_384;
/// How long a key rests after its first failure, about; twice as long after each further one.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// The keys that are being validated in the background, and those that rest after a failure.
#[derive(Clone)]
pub(crate) struct BackgroundValidations {
    inner: Arc<Inner>,
}

struct Inner {
    names: KeyNames,
    random: RandomState,
    resting: Cache<u128, Rest>,
    running: Mutex<HashSet<CacheKey>>,
}

#[derive(Clone, Copy)]
struct Rest {
    failures: u32,
    until: SystemTime,
}

/// What a validation that is due would find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValidationProspect {
    /// It would begin.
    Begins,
    /// As many are running as may be.
    Full,
    /// The last one of the key has failed.
    Resting,
    /// One of the key is running.
    Running,
}

/// The right to validate one key, until it is dropped. The validation counts as failed unless
/// [`ValidationPermit::succeed`] is called.
pub(crate) struct ValidationPermit {
    all: BackgroundValidations,
    key: CacheKey,
}

impl Default for BackgroundValidations {
    fn default() -> Self {
        let inner = Inner {
            names: KeyNames::default(),
            random: RandomState::new(),
            resting: Cache::new(MOST_RESTING),
            running: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }
}

impl BackgroundValidations {
    /// `None` if the key is being validated already, has just failed, or too many keys are being validated.
    pub(crate) fn begin(&self, key: &CacheKey, now: SystemTime) -> Option<ValidationPermit> {
        let rest = self.rest(key);
        let mut running = lock(&self.inner.running);
        if rest.is_some_and(|rest| rest.is_on(now)) || running.len() >= MOST || !running.insert(key.clone()) {
            return None;
        }
        drop(running);
        let failures = rest.map_or(0, |rest| rest.failures).saturating_add(1);
        let until = now + self.pause(key, failures, now);
        self.inner.resting.insert(self.inner.names.of(key), Rest { failures, until });
        Some(ValidationPermit { all: self.clone(), key: key.clone() })
    }

    /// What [`BackgroundValidations::begin`] would find, which changes nothing.
    pub(crate) fn prospect(&self, key: &CacheKey, now: SystemTime) -> ValidationProspect {
        let running = lock(&self.inner.running);
        // First, since a key rests from the moment that one begins until it has succeeded.
        if running.contains(key) {
            ValidationProspect::Running
        } else if self.rest(key).is_some_and(|rest| rest.is_on(now)) {
            ValidationProspect::Resting
        } else if running.len() >= MOST {
            ValidationProspect::Full
        } else {
            ValidationProspect::Begins
        }
    }

    fn rest(&self, key: &CacheKey) -> Option<Rest> {
        self.inner.resting.get(&self.inner.names.of(key))
    }

    /// Between half and one and a half of what is due, so that keys that failed together do not come back together.
    fn pause(&self, key: &CacheKey, failures: u32, now: SystemTime) -> Duration {
        let due = FIRST_REST.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_REST);
        let share = self.inner.random.hash_one((key, failures, now)) % 1000;
        due / 2 + due * u32::try_from(share).unwrap_or_default() / 1000
    }
}

impl Rest {
    /// A clock that was set back does not make it rest for long.
    fn is_on(self, now: SystemTime) -> bool {
        self.until.duration_since(now).is_ok_and(|left| left <= 2 * LONGEST_REST)
    }
}

impl ValidationPermit {
    /// The origin has answered: the key need not rest.
    pub(crate) fn succeed(&self) {
        self.all.inner.resting.remove(&self.all.inner.names.of(&self.key));
    }
}

impl Drop for ValidationPermit {
    fn drop(&mut self) {
        lock(&self.all.inner.running).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn each_failed_validation_lengthens_the_pause_of_its_key() {
        let validations = BackgroundValidations::default();
        let (parts, ()) = http::Request::get("http://a/").body(()).expect("a request").into_parts();
        let key = CacheKey::of(&parts).expect("a key");
        let mut now = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        for due in [1, 2, 4, 8, 16, 32, 60, 60] {
            drop(validations.begin(&key, now).expect("rested"));
            let due = Duration::from_secs(due);
            assert!(validations.begin(&key, now + due / 2 - Duration::from_millis(1)).is_none(), "{due:?}");
            now += due * 3 / 2;
        }
        let validation = validations.begin(&key, now).expect("rested");
        assert!(validations.begin(&key, now).is_none(), "one at a time");
        validation.succeed();
        drop(validation);
        assert!(validations.begin(&key, now).is_some(), "nothing to rest from");
    }

    #[test]
    fn a_prospect_is_what_the_next_validation_finds() {
        let validations = BackgroundValidations::default();
        let key = |number: usize| {
            let request = http::Request::get(format!("http://a/{number}"));
            CacheKey::of(&request.body(()).expect("a request").into_parts().0).expect("a key")
        };
        let now = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        let finds = |number: usize, now: SystemTime| {
            let found = validations.prospect(&key(number), now);
            assert_eq!(validations.prospect(&key(number), now), found, "it changes nothing");
            let begun = validations.begin(&key(number), now);
            assert_eq!(begun.is_some(), found == ValidationProspect::Begins);
            (found, begun)
        };
        let (found, first) = finds(0, now);
        assert_eq!(found, ValidationProspect::Begins);
        assert_eq!(finds(0, now).0, ValidationProspect::Running);
        drop(first);
        assert_eq!(finds(0, now).0, ValidationProspect::Resting, "it has failed");
        let all: Vec<_> = (1..=MOST).map(|number| finds(number, now).1.expect("room")).collect();
        let later = now + LONGEST_REST;
        assert_eq!(
            [finds(0, later).0, finds(1, later).0],
            [ValidationProspect::Full, ValidationProspect::Running]
        );
        drop(all);
        assert_eq!(finds(0, later).0, ValidationProspect::Begins);
    }
}
