//! Numbers that nobody else gives.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The hash of a count with a key that this process has from the system's random numbers.
pub(in crate::store) fn random() -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    KEY.hash_one(COUNT.fetch_add(1, Ordering::Relaxed))
}

pub(in crate::store) fn random_wide() -> u128 {
    (u128::from(random()) << 64) | u128::from(random())
}
