//! A bounded memory of keys, each for a limited time.

use std::time::{Duration, SystemTime};

use quick_cache::sync::Cache;

use crate::entry::key::{CacheKey, KeyNames};

/// How many keys one memory holds; the least used are forgotten.
const MOST: usize = 16_384;

/// A memory of keys, bounded in number and in time. It may forget a key at any time.
pub(crate) struct KeyMemory {
    keys: Cache<u128, SystemTime>,
    lasting: Duration,
    names: KeyNames,
}

impl KeyMemory {
    pub(crate) fn new(lasting: Duration) -> Self {
        Self { keys: Cache::new(MOST), lasting, names: KeyNames::default() }
    }

    pub(crate) fn remember(&self, key: &CacheKey, now: SystemTime) {
        self.keys.insert(self.names.of(key), now + self.lasting);
    }

    pub(crate) fn has(&self, key: &CacheKey, now: SystemTime) -> bool {
        if self.keys.is_empty() {
            return false; // as it is most of the time
        }
        let until = self.keys.get(&self.names.of(key));
        // A clock that was set back does not make it last longer.
        until.is_some_and(|until| {
            now < until && until.duration_since(now).is_ok_and(|left| left <= self.lasting)
        })
    }
}
