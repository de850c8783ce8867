//! Numbers that nobody else gives, and times by which nodes do not do the same at one moment.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The hash of a count with a key that this process has from the system's random numbers.
pub(super) fn random() -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    KEY.hash_one(COUNT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(any(feature = "disk", feature = "redis"))]
pub(super) fn random_wide() -> u128 {
    (u128::from(random()) << 64) | u128::from(random())
}

/// A time between none and this.
pub(super) fn random_time(most: Duration) -> Duration {
    let share = u32::try_from(random() % 1_024).unwrap_or_default();
    most.saturating_mul(share) / 1_024
}
