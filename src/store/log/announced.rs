//! What a log is told of URIs before anything is stored under them, and what it answers.

use super::LogState;
use super::names::Name;

/// How many gaps are kept apart.
const GAPS: usize = 4;

/// What a log says of URIs that were announced to it, or looked up ([`PurgeLog::announce`](super::PurgeLog::announce)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Announced {
    /// The greatest number that is noted for one of the URIs, or may have been: what was asked for under a smaller fence is not to
    /// be stored.
    pub noted: u64,
    /// The state of the log after it. The clock is the number of the announcement.
    pub state: LogState,
}

impl Announced {
    /// An announcement with the clock of `state` as its number.
    pub fn new(state: LogState, noted: u64) -> Self {
        Self { noted: noted.max(state.lost.until()), state }
    }
}

/// A URI that a purge names, for a log that has to find out whether it was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AskedUri {
    /// The name of the path that it has, whatever the query. It is announced with a response that answers for other queries.
    pub path: u64,
    /// The name of the URI: the number of the purge is noted for this.
    pub uri: u64,
}

impl AskedUri {
    pub(super) fn new(uri: Name, path: Name) -> Self {
        Self { path, uri }
    }
}

/// The numbers of announcements that a log may have lost: gaps, the earliest first.
///
/// ```
/// use larder::store::log::Lost;
/// let lost = Lost::default().and(10, 20);
/// assert!(!lost.has(10) && lost.has(11) && lost.has(20) && !lost.has(21));
/// assert_eq!(lost.until(), 20);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost([(u64, u64); GAPS]);

impl Lost {
    /// One more gap: all numbers after one, up to another one. It comes after those that are there. There are four at most; for a
    /// further one, the first two become one with all that lies between them.
    #[must_use]
    pub fn and(self, after: u64, until: u64) -> Self {
        let mut gaps = self.0;
        let [first, second, third, fourth] = self.0;
        match gaps.iter_mut().find(|gap| gap.1 == 0) {
            Some(free) => *free = (after, until),
            None => gaps = [(first.0, second.1), third, fourth, (after, until)],
        }
        Self(gaps)
    }

    /// The gaps, each the number before it and its last number.
    pub fn gaps(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.into_iter().filter(|gap| gap.1 > 0)
    }

    /// Whether an announcement of this number may be lost.
    pub fn has(&self, number: u64) -> bool {
        self.gaps().any(|(after, until)| after < number && number <= until)
    }

    /// The last number of the last gap; 0 where there is none.
    pub fn until(&self) -> u64 {
        self.gaps().last().map_or(0, |(_, until)| until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_a_fifth_gap_the_first_two_become_one() {
        let lost = (1..=4).fold(Lost::default(), |lost, gap| lost.and(gap * 10, gap * 10 + 2));
        assert_eq!(lost.gaps().collect::<Vec<_>>(), [(10, 12), (20, 22), (30, 32), (40, 42)]);
        let lost = lost.and(50, 52);
        assert_eq!(lost.gaps().collect::<Vec<_>>(), [(10, 22), (30, 32), (40, 42), (50, 52)]);
        assert!(lost.has(15) && !lost.has(25) && lost.has(52));
        assert_eq!(lost.until(), 52);
    }
}
