//! A circuit breaker: what has failed too often of late is left alone, except for a probe now and then.

use std::time::Duration;

use crate::runtime::{Instant, Mutex, lock, moment};

/// After some failures in a row, or when half of at least 20 calls within one second have failed, the circuit is open.
pub(super) struct Breaker {
    circuit: Mutex<Circuit>,
    /// How many in a row are too many.
    failures: u32,
    /// From one probe to the next.
    pause: Duration,
}

enum Circuit {
    Closed(Recent),
    /// Not called since then, or probed then; `None` where something says that it may be well again.
    Open {
        is_probed: bool,
        since: Option<Instant>,
    },
}

/// How calls have ended of late.
struct Recent {
    calls: u32,
    failures: u32,
    in_a_row: u32,
    since: Instant,
}

impl Recent {
    /// Calls are counted for so long at a time.
    const WINDOW: Duration = Duration::from_secs(1);
    /// Of fewer calls, half say nothing.
    const ENOUGH: u32 = 20;

    fn new(since: Instant) -> Self {
        Self { calls: 0, failures: 0, in_a_row: 0, since }
    }

    /// Counts a call. Whether it was one failure too many.
    fn add(&mut self, has_failed: bool, most_in_a_row: u32, now: Instant) -> bool {
        if now.duration_since(self.since) >= Self::WINDOW {
            *self = Self { in_a_row: self.in_a_row, ..Self::new(now) };
        }
        self.calls += 1;
        self.failures += u32::from(has_failed);
        self.in_a_row = if has_failed { self.in_a_row + 1 } else { 0 };
        has_failed
            && (self.in_a_row >= most_in_a_row
                || (self.calls >= Self::ENOUGH && self.failures * 2 >= self.calls))
    }
}

/// Leave to make one call. Dropped before the end of the call, it says nothing of what is called.
pub(super) struct Turn<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
}

impl Breaker {
    pub(super) fn new(failures: u32, pause: Duration) -> Self {
        Self { circuit: Mutex::new(Circuit::Closed(Recent::new(moment()))), failures, pause }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(*lock(&self.circuit), Circuit::Open { .. })
    }

    /// `None` while the circuit is open and no probe is due.
    pub(super) fn turn(&self) -> Option<Turn<'_>> {
        let mut circuit = lock(&self.circuit);
        let is_probe = match &mut *circuit {
            Circuit::Closed(_) => false,
            Circuit::Open { is_probed, since } => {
                let is_early = |since| moment().duration_since(since) < self.pause;
                if *is_probed || since.is_some_and(is_early) {
                    return None;
                }
                *is_probed = true;
                true
            }
        };
        Some(Turn { breaker: self, is_probe })
    }

    /// Counts a call that has had no turn.
    pub(super) fn count(&self, has_failed: bool) {
        let mut circuit = lock(&self.circuit);
        if let Circuit::Closed(recent) = &mut *circuit {
            let now = moment();
            if recent.add(has_failed, self.failures, now) {
                *circuit = Circuit::Open { is_probed: false, since: Some(now) };
            }
        }
    }

    /// The next call may probe.
    pub(super) fn probe_now(&self) {
        if let Circuit::Open { since, .. } = &mut *lock(&self.circuit) {
            *since = None;
        }
    }
}

impl Turn<'_> {
    pub(super) fn end(mut self, has_failed: bool) {
        if !std::mem::take(&mut self.is_probe) {
            return self.breaker.count(has_failed);
        }
        let now = moment();
        *lock(&self.breaker.circuit) = if has_failed {
            Circuit::Open { is_probed: false, since: Some(now) }
        } else {
            Circuit::Closed(Recent::new(now))
        };
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Another call may probe.
        if self.is_probe
            && let Circuit::Open { is_probed, .. } = &mut *lock(&self.breaker.circuit)
        {
            *is_probed = false;
        }
    }
}
