//! Purge stamps: how a response is hit by a purge that came after it was asked for.
//!
//! A stamp is a number from one counter, not a time. It hits every response whose fence is older.

use std::time::SystemTime;

use super::PurgeMode;

/// What purges say of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Expired(SystemTime),
    Removed,
    Untouched,
}

/// The purges of one target.
#[derive(Clone, Default)]
pub(super) struct Stamp {
    /// The number of the latest hard purge; 0 for none.
    removed: u64,
    /// The latest soft purges, the oldest first: what was fetched before several is stale since the first of them.
    expired: Vec<(u64, SystemTime)>,
}

/// How many soft purges of one target are told apart; older ones count as the oldest of these.
const SOFT: usize = 8;

impl Stamp {
    pub(super) fn new(number: u64, how: PurgeMode) -> Self {
        match how {
            PurgeMode::Remove => Self { removed: number, expired: Vec::new() },
            PurgeMode::Expire(at) => Self { removed: 0, expired: vec![(number, at)] },
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.removed = self.removed.max(other.removed);
        self.expired.extend(&other.expired);
        self.expired.sort_unstable_by_key(|(number, _)| *number);
        let surplus = self.expired.len().saturating_sub(SOFT);
        self.expired.drain(..surplus);
    }

    /// What this stamp says of a response that was fetched under `fence`, on top of an earlier verdict.
    pub(super) fn judge(&self, fence: u64, so_far: Verdict) -> Verdict {
        if so_far == Verdict::Removed || self.removed > fence {
            return Verdict::Removed;
        }
        let first = self.expired.iter().find(|(number, _)| *number > fence).map(|(_, at)| *at);
        match (so_far, first) {
            (Verdict::Expired(earlier), Some(at)) => Verdict::Expired(at.min(earlier)),
            (_, Some(at)) => Verdict::Expired(at),
            (so_far, None) => so_far,
        }
    }
}
