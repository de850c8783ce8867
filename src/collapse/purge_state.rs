//! What is known of the purges before a call, so that nobody who asks after a purge gets what was asked for before it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::Fence;

/// The purge state from which a call is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PurgeState {
    /// As the store gave it: the default one where the store could not say.
    pub(crate) fence: Fence,
    /// How many purges had gone through the layer.
    pub(crate) purges: u64,
}

impl PurgeState {
    /// Whether no purge lies between two states. Two default fences are equal without saying that: both look-ups may have
    /// failed. Then the layer's own count decides.
    pub(super) fn is_same(self, other: Self) -> bool {
        self.fence == other.fence && (self.fence != Fence::default() || self.purges == other.purges)
    }
}

/// How many purges have gone through a layer.
#[derive(Debug, Default)]
pub(crate) struct PurgeCount(AtomicU64);

impl PurgeCount {
    /// A purge has taken effect. Called before anybody learns of that.
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_default_fences_are_one_purge_state_only_if_no_purge_went_through_the_layer() {
        let state = |bits, purges| PurgeState { fence: Fence::from_bits(bits), purges };
        for (one, other, expected) in [
            (state(0, 0), state(0, 0), true),
            (state(0, 0), state(0, 1), false),
            (state(7, 0), state(7, 1), true),
            (state(7, 0), state(0, 0), false),
            (state(7, 0), state(8, 0), false),
        ] {
            assert_eq!(one.is_same(other), expected, "{one:?} {other:?}");
        }
    }
}
