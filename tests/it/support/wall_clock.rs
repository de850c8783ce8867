//! `Cache-Status` of a cache whose clock no test can hold: lifetimes count down while the test runs.

use std::time::Instant;

pub struct WallClock {
    begun: Instant,
}

impl WallClock {
    /// To be called before the first request.
    pub fn start() -> Self {
        Self { begun: Instant::now() }
    }

    /// This is said, or the same with less of the lifetime left: by at most the time since the start, and by the second that
    /// a `Date` leaves out.
    #[track_caller]
    pub fn told(&self, said: &str, expected: &str) {
        let (Some((said_before, said_ttl)), Some((before, ttl))) = (split(said), split(expected)) else {
            return assert_eq!(said, expected);
        };
        assert_eq!(said_before, before, "{said}");
        let at_most = self.begun.elapsed().as_secs() + 2;
        assert!((ttl.saturating_sub(at_most)..=ttl).contains(&said_ttl), "{said} instead of {expected}");
    }
}

/// What is before the number of `ttl`, the last member, and the number.
fn split(said: &str) -> Option<(&str, u64)> {
    let (before, ttl) = said.split_once("; ttl=")?;
    Some((before, ttl.parse().ok()?))
}
