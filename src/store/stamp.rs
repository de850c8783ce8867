//! Purge stamps: how a purge reaches a response that was requested before it.
//!
//! A stamp is a number from one counter, not a time. It hits every response whose fence is older.

use super::{Expired, PurgeMode};

/// What purges say about a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Soft purges have made it stale.
    Expired(Expired),
    /// It is gone.
    Removed,
    /// No purge concerns it.
    Untouched,
}

impl Verdict {
    /// The same after a further soft purge.
    pub(super) fn and(self, expired: Expired) -> Self {
        match self {
            Self::Expired(earlier) => Self::Expired(earlier.and(expired)),
            Self::Removed => Self::Removed,
            Self::Untouched => Self::Expired(expired),
        }
    }
}

/// The purges of one target.
#[derive(Clone, Default)]
pub(super) struct Stamp {
    /// The number of the latest hard purge; 0 for none.
    removed: u64,
    /// The latest soft purges, the oldest first: a response that was fetched before several of them is stale since the
    /// first.
    expired: Vec<(u64, Expired)>,
}

/// How many soft purges of one target are kept apart; older ones count as the oldest of these.
const SOFT: usize = 8;

impl Stamp {
    pub(super) fn new(number: u64, mode: PurgeMode) -> Self {
        let soft = |at, until| Self { removed: 0, expired: vec![(number, Expired::new(at, until))] };
        match mode {
            PurgeMode::Expire(at) => soft(at, None),
            PurgeMode::ExpireUntil { at, until } => soft(at, Some(until)),
            PurgeMode::Remove => Self { removed: number, expired: Vec::new() },
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.removed = self.removed.max(other.removed);
        self.expired.extend(&other.expired);
        self.expired.sort_unstable_by_key(|(number, _)| *number);
        let surplus = self.expired.len().saturating_sub(SOFT);
        let ends = self.expired.drain(..surplus).filter_map(|(_, expired)| expired.until).min();
        if let Some((_, oldest)) = self.expired.first_mut() {
            // No promised end is lost.
            *oldest = oldest.and(Expired::new(oldest.at, ends));
        }
    }

    /// The number of the latest purge.
    pub(super) fn latest(&self) -> u64 {
        self.numbers().map(|(number, _)| number).max().unwrap_or_default()
    }

    /// The numbers of the purges that count, and whether each is a hard one or, for what follows from it, like one.
    pub(super) fn numbers(&self) -> impl Iterator<Item = (u64, bool)> {
        let hard = (self.removed > 0).then_some((self.removed, true));
        hard.into_iter()
            .chain(self.expired.iter().map(|(number, expired)| (*number, expired.until.is_some())))
    }

    /// What this stamp says about a response that was fetched under `fence`, added to an earlier verdict.
    pub(super) fn judge(&self, fence: u64, so_far: Verdict) -> Verdict {
        if so_far == Verdict::Removed || self.removed > fence {
            return Verdict::Removed;
        }
        let since = self.expired.iter().filter(|(number, _)| *number > fence);
        since.fold(so_far, |so_far, (_, expired)| so_far.and(*expired))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::*;

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn the_end_of_an_expiry_survives_any_number_of_soft_purges() {
        let mut stamp = Stamp::new(1, PurgeMode::ExpireUntil { at: at(1), until: at(60) });
        for number in 2..100 {
            stamp.add(&Stamp::new(number, PurgeMode::Expire(at(number))));
        }
        assert_eq!(stamp.expired.len(), SOFT);
        let judged = |fence| match stamp.judge(fence, Verdict::Untouched) {
            Verdict::Expired(expired) => expired.until,
            other => panic!("{other:?}"),
        };
        assert_eq!(judged(0), Some(at(60)));
        assert_eq!(judged(98), None, "what was fetched after that purge is none of its business");
    }
}
