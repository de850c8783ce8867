//! How far the clock of this node is from that of the servers, by which the times in records are put right.
//!
//! The times of a response are those of the clock of the node that has stored it, and its record says by how much that clock was
//! ahead of the server's ([`Recorded::ahead`](crate::store::record::Recorded::ahead)). Whoever reads it knows the same of its own
//! clock, so the difference of both is that of the two nodes, whatever the server's clock says. The times in the record are never
//! written anew, so what is read and written many times does not drift.
//!
//! The server that is asked is the one that has the log of purges. Where its clock is set, or another server takes over whose clock
//! differs, what was stored before is as far off as that, until it is stored again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::advice::{Listener, RedisAdvice, give};
use crate::entry::StoredResponse;
use crate::runtime::clock::Clock;
use crate::runtime::{Instant, Mutex, lock, moment};

/// What is less is no difference: an answer takes its time, and `Age` counts seconds.
const NOTICED: Duration = Duration::from_secs(1);
/// Clocks are compared so often, and after each new connection.
const EVERY: Duration = Duration::from_secs(60);

/// Of a clock of which nothing is known.
const UNKNOWN: i64 = i64::MIN;

pub(super) struct Clocks {
    /// By how many microseconds the clock of this node is ahead.
    ahead: AtomicI64,
    clock: Clock,
    compared: Mutex<Option<Compared>>,
    listener: Option<Listener>,
    was_told: AtomicBool,
}

#[derive(Clone, Copy)]
struct Compared {
    /// How many connections there were.
    connections: u64,
    here: Here,
}

/// A moment by the clock of this node, and by one that nobody sets.
#[derive(Clone, Copy)]
pub(super) struct Here {
    clock: SystemTime,
    moment: Instant,
}

impl Here {
    /// Whether the clock has been set between two moments.
    fn was_set_until(self, later: Self) -> bool {
        let passed = later.moment.saturating_duration_since(self.moment);
        microseconds(self.clock + passed).abs_diff(microseconds(later.clock))
            > as_micros(NOTICED).unsigned_abs()
    }
}

impl Clocks {
    pub(super) fn new(clock: Clock, listener: Option<Listener>) -> Self {
        let (ahead, was_told) = (AtomicI64::new(UNKNOWN), AtomicBool::new(false));
        Self { ahead, clock, compared: Mutex::default(), listener, was_told }
    }

    pub(super) fn here(&self) -> Here {
        Here { clock: self.clock.now(), moment: moment() }
    }

    /// Whether to compare now: for the first time, after a while, after a new connection, or after the clock has been set.
    pub(super) fn are_due(&self, connections: u64) -> bool {
        let Some(last) = *lock(&self.compared) else { return true };
        let now = self.here();
        last.connections != connections
            || now.moment.saturating_duration_since(last.here.moment) >= EVERY
            || last.here.was_set_until(now)
    }

    /// Takes the server's time, in microseconds since 1970, for which it was asked then; `None` where it does not say.
    pub(super) fn compare(&self, asked: Here, server: Option<i64>, connections: u64) {
        let here = self.here();
        // Where the answer took longer, or the clock was set meanwhile, the time is not known well enough.
        let is_known =
            here.moment.saturating_duration_since(asked.moment) < NOTICED && !asked.was_set_until(here);
        if server.is_some() && !is_known {
            return;
        }
        let middle = i64::midpoint(microseconds(asked.clock), microseconds(here.clock));
        let ahead = server.map(|server| middle.saturating_sub(server));
        self.ahead.store(ahead.unwrap_or(UNKNOWN), Ordering::Relaxed);
        *lock(&self.compared) = Some(Compared { connections, here });
        if let Some(ahead) = ahead.filter(|ahead| is_noticed(*ahead))
            && !self.was_told.swap(true, Ordering::Relaxed)
        {
            let by = Duration::from_micros(ahead.unsigned_abs());
            give(&RedisAdvice::ClockDiffers { by, is_ahead: ahead > 0 }, self.listener.as_ref());
        }
    }

    /// By how many microseconds the clock of this node is ahead of the server's.
    pub(super) fn ahead(&self) -> Option<i64> {
        Some(self.ahead.load(Ordering::Relaxed)).filter(|ahead| *ahead != UNKNOWN)
    }

    /// Gives a response whose times are of a clock that is `ahead` by so much the times of this node's clock.
    pub(super) fn put_right(&self, response: &mut StoredResponse, ahead: Option<i64>) {
        let by = self.ahead().zip(ahead).map_or(0, |(own, other)| own.saturating_sub(other));
        if is_noticed(by) {
            let reuse = response.head().reuse().by_another_clock(by);
            Arc::make_mut(&mut response.head).reuse = reuse;
        }
    }
}

fn is_noticed(difference: i64) -> bool {
    difference.unsigned_abs() > as_micros(NOTICED).unsigned_abs()
}

fn as_micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// Since 1970.
fn microseconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => as_micros(since),
        Err(until) => -as_micros(until.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{HeadParts, Payload, ResponseHead};
    use crate::semantics::reuse::Reuse;
    use crate::semantics::vary::Selecting;

    const MINUTES: i64 = 5 * 60 * 1_000_000;

    fn at(clocks: &Clocks, ahead: i64) {
        let here = clocks.here();
        clocks.compare(here, Some(microseconds(here.clock) - ahead), 0);
    }

    fn response(clock: &Clock) -> StoredResponse {
        let now = clock.now();
        let reuse = Reuse::new(now, now, Duration::from_secs(60), Selecting::default());
        let parts = HeadParts::new(http::StatusCode::OK, http::HeaderMap::new(), reuse);
        StoredResponse::new(ResponseHead::from_parts(parts).expect("a head"), Payload::default())
    }

    #[test]
    fn a_response_of_a_clock_that_differs_is_as_old_as_it_is() {
        for (written, read) in [(0, MINUTES), (0, -MINUTES), (MINUTES, -MINUTES), (-MINUTES, 0)] {
            let (clock, hand) = Clock::manual();
            let mut response = response(&clock);
            let clocks = Clocks::new(clock.clone(), None);
            // Another node's clock, ten seconds later.
            let by = Duration::from_micros((read - written).unsigned_abs());
            if read > written {
                hand.advance(by)
            } else {
                hand.set_back(by)
            }
            hand.advance(Duration::from_secs(10));
            at(&clocks, read);
            clocks.put_right(&mut response, Some(written));
            let age = response.head().reuse().age(clock.now());
            assert_eq!(age, Some(Duration::from_secs(10)), "{written} {read}");
        }
    }

    #[test]
    fn what_is_less_than_a_second_or_not_known_changes_nothing() {
        let (clock, _) = Clock::manual();
        let original = response(&clock);
        for (own, other) in
            [(Some(900_000), Some(0)), (Some(0), Some(900_000)), (Some(MINUTES), None), (None, Some(0))]
        {
            let clocks = Clocks::new(clock.clone(), None);
            match own {
                Some(own) => at(&clocks, own),
                None => clocks.compare(clocks.here(), None, 0),
            }
            let mut response = original.clone();
            clocks.put_right(&mut response, other);
            assert_eq!(response.head().reuse(), original.head().reuse());
        }
    }

    #[test]
    fn times_that_no_clock_has_do_not_panic() {
        let (clock, _) = Clock::manual();
        let clocks = Clocks::new(clock.clone(), None);
        for own in [i64::MAX, i64::MIN, 0] {
            clocks.compare(clocks.here(), Some(own), 0);
            for other in [i64::MAX, i64::MIN, 0] {
                clocks.put_right(&mut response(&clock), Some(other));
            }
        }
    }

    #[test]
    fn clocks_are_compared_again_after_a_new_connection_and_after_this_one_has_been_set() {
        let (clock, hand) = Clock::manual();
        let clocks = Clocks::new(clock, None);
        assert!(clocks.are_due(0), "for the first time");
        at(&clocks, 0);
        assert!(!clocks.are_due(0));
        assert!(clocks.are_due(1), "after a new connection");
        hand.set_back(Duration::from_secs(3_600));
        assert!(clocks.are_due(0), "after the clock has been set");
        at(&clocks, -MINUTES);
        assert!(!clocks.are_due(0));
        assert_eq!(clocks.ahead(), Some(-MINUTES));
    }
}
