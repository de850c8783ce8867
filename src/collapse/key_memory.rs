//! A bounded memory of keys, each for a limited time.

use std::time::{Duration, SystemTime};

use quick_cache::sync::Cache;

use crate::entry::key::{CacheKey, KeyNames};

/// How many keys one memory holds; the least used are forgotten.
const MOST: usize = 16_384;

/// For how long something is remembered.
#[derive(Clone, Copy)]
pub(super) struct Lasting {
    pub(super) span: Duration,
    pub(super) until: SystemTime,
}

impl Lasting {
    /// A clock that was set back does not make it last longer.
    pub(super) fn has(self, now: SystemTime) -> bool {
        now < self.until && self.until.duration_since(now).is_ok_and(|left| left <= self.span)
    }
}

/// A memory of keys, bounded in number and in time. It may forget a key at any time.
pub(crate) struct KeyMemory {
    keys: Cache<u128, Lasting>,
    lasting: Duration,
    names: KeyNames,
}

impl KeyMemory {
    pub(crate) fn new(lasting: Duration) -> Self {
        Self { keys: Cache::new(MOST), lasting, names: KeyNames::default() }
    }

    pub(crate) fn remember(&self, key: &CacheKey, now: SystemTime) {
        self.remember_for(key, now, self.lasting);
    }

    /// Remembers a key for this long, at most as long as this memory lasts.
    pub(crate) fn remember_for(&self, key: &CacheKey, now: SystemTime, span: Duration) {
        let span = span.min(self.lasting);
        if !span.is_zero() {
            self.keys.insert(self.names.of(key), Lasting { span, until: now + span });
        }
    }

    pub(crate) fn forget(&self, key: &CacheKey) {
        if !self.keys.is_empty() {
            self.keys.remove(&self.names.of(key));
        }
    }

    pub(crate) fn has(&self, key: &CacheKey, now: SystemTime) -> bool {
        if self.keys.is_empty() {
            return false; // as it is most of the time
        }
        self.keys.get(&self.names.of(key)).is_some_and(|lasting| lasting.has(now))
    }
}
