//! The hit-for-pass memory: keys whose answers cannot be shared, so that requests for them do not wait for each other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use quick_cache::sync::Cache;

use super::key_memory::Lasting;
use crate::entry::key::{CacheKey, KeyNames};

/// How many keys are remembered; the least used are forgotten.
const MOST: usize = 16_384;

/// A key by its name, and whether the request carried credentials that are not in the key.
type Kind = (u128, bool);

pub(super) struct NotShared {
    /// Whether there ever was any: the cache itself takes 220 instructions to say that it is empty.
    has_any: AtomicBool,
    keys: Cache<Kind, Lasting>,
    names: KeyNames,
}

impl Default for NotShared {
    fn default() -> Self {
        Self { has_any: AtomicBool::new(false), keys: Cache::new(MOST), names: KeyNames::default() }
    }
}

impl NotShared {
    /// Whether answers to requests for this key, with credentials or without, cannot be shared.
    pub(super) fn has(&self, key: &CacheKey, has_credentials: bool, now: SystemTime) -> bool {
        self.has_any.load(Ordering::Acquire)
            && self.keys.get(&(self.names.of(key), has_credentials)).is_some_and(|lasting| lasting.has(now))
    }

    /// What an answer to a request with credentials says, it says of such requests only.
    pub(super) fn remember(&self, key: &CacheKey, has_credentials: bool, now: SystemTime, span: Duration) {
        let Some(until) = now.checked_add(span).filter(|until| *until > now) else {
            return;
        };
        let kinds: &[bool] = if has_credentials { &[true] } else { &[false, true] };
        self.has_any.store(true, Ordering::Release);
        for &kind in kinds {
            self.keys.insert((self.names.of(key), kind), Lasting { span, until });
        }
    }

    /// Its answers can be shared after all. An answer to a request without credentials says nothing about requests with
    /// them.
    pub(super) fn forget(&self, key: &CacheKey, has_credentials: bool) {
        if !self.has_any.load(Ordering::Acquire) {
            return;
        }
        let kinds: &[bool] = if has_credentials { &[false, true] } else { &[false] };
        for &kind in kinds {
            self.keys.remove(&(self.names.of(key), kind));
        }
    }
}
