//! Validation behind a stale answer: one at a time for each key, and a bounded number in all.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::key::CacheKey;

/// How many validations run at once. Beyond that stale answers are served without one.
const MOST: usize = 1_024;

/// The keys that are being validated behind.
#[derive(Clone, Default)]
pub(crate) struct Validations {
    running: Arc<Mutex<HashSet<CacheKey>>>,
}

/// The right to validate one key; others may once it is dropped.
pub(crate) struct Validation {
    all: Validations,
    key: CacheKey,
}

impl Validations {
    /// `None` when the key is being validated already, or too many are.
    pub(crate) fn begin(&self, key: &CacheKey) -> Option<Validation> {
        let mut running = self.lock();
        if running.len() >= MOST || !running.insert(key.clone()) {
            return None;
        }
        Some(Validation { all: self.clone(), key: key.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<CacheKey>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Validation {
    fn drop(&mut self) {
        self.all.lock().remove(&self.key);
    }
}
