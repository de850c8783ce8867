//! Whether an upstream is fit to be asked.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many failures in a row, of calls and checks, make an upstream sick.
pub const FALL: u32 = 3;

/// How long a sick upstream is left alone if nothing checks it. Then calls find out.
pub const REST: Duration = Duration::from_secs(10);

/// How an upstream becomes healthy again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// A check succeeds.
    ByCheck,
    /// Time passes ([`REST`]), after which one success or failure decides.
    ByRest,
    /// It is never sick: there is no other one, and nothing checks it.
    Unneeded,
}

/// What calls and checks have shown of one upstream.
pub struct Health {
    recovery: Recovery,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// In a row.
    failures: u32,
    is_known: bool,
    sick_since: Option<Instant>,
}

/// That an upstream has become sick or healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Healthy,
    Sick,
}

impl Health {
    pub fn new(recovery: Recovery) -> Self {
        Self { recovery, state: Mutex::default() }
    }

    pub fn is_healthy(&self, now: Instant) -> bool {
        self.state().sick_since.is_none_or(|since| self.recovery == Recovery::ByRest && since + REST <= now)
    }

    /// A call has got an answer, or has not.
    pub fn called(&self, is_answered: bool, now: Instant) -> Option<Change> {
        let mut state = self.state();
        match is_answered {
            // An answer is no check.
            true if state.sick_since.is_some() && self.recovery == Recovery::ByCheck => None,
            true => state.succeeds(),
            false if self.recovery == Recovery::Unneeded => None,
            false => state.fails(now, FALL),
        }
    }

    /// A check has succeeded, or has not. The first one decides by itself: before it, nothing is known.
    pub fn checked(&self, is_good: bool, now: Instant) -> Option<Change> {
        let mut state = self.state();
        let fall = if state.is_known { FALL } else { 1 };
        state.is_known = true;
        if is_good { state.succeeds() } else { state.fails(now, fall) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn succeeds(&mut self) -> Option<Change> {
        self.failures = 0;
        self.sick_since.take().map(|_| Change::Healthy)
    }

    fn fails(&mut self, now: Instant, fall: u32) -> Option<Change> {
        self.failures = self.failures.saturating_add(1);
        if self.failures < fall {
            return None;
        }
        // One that fails after its rest rests again.
        self.sick_since.replace(now).is_none().then_some(Change::Sick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A health and the time, which moves by hand.
    struct Bench(Health, Instant);

    impl Bench {
        fn new(recovery: Recovery) -> Self {
            Self(Health::new(recovery), Instant::now())
        }

        fn call(&self, is_answered: bool) -> Option<Change> {
            self.0.called(is_answered, self.1)
        }

        fn check(&self, is_good: bool) -> Option<Change> {
            self.0.checked(is_good, self.1)
        }

        fn is_healthy(&self) -> bool {
            self.0.is_healthy(self.1)
        }
    }

    #[test]
    fn three_calls_in_a_row_that_fail_make_an_upstream_sick() {
        let bench = Bench::new(Recovery::ByRest);
        for _ in 0..2 {
            assert_eq!((bench.call(false), bench.call(false), bench.call(true)), (None, None, None));
        }
        assert_eq!((bench.call(false), bench.call(false)), (None, None));
        assert!(bench.is_healthy());
        assert_eq!(bench.call(false), Some(Change::Sick));
        assert!(!bench.is_healthy());
    }

    #[test]
    fn an_upstream_that_nothing_checks_is_asked_again_after_a_rest() {
        let mut bench = Bench::new(Recovery::ByRest);
        (0..FALL).for_each(|_| _ = bench.call(false));
        bench.1 += REST - Duration::from_millis(1);
        assert!(!bench.is_healthy());
        bench.1 += Duration::from_millis(1);
        assert!(bench.is_healthy());
        // One failure is enough for another rest, and is nothing new.
        assert_eq!(bench.call(false), None);
        assert!(!bench.is_healthy());
        bench.1 += REST;
        assert_eq!(bench.call(true), Some(Change::Healthy));
        assert!(bench.is_healthy());
        assert_eq!(bench.call(false), None, "it counts from the beginning");
    }

    #[test]
    fn an_upstream_that_is_checked_becomes_healthy_by_a_check_alone() {
        let mut bench = Bench::new(Recovery::ByCheck);
        assert_eq!(bench.check(true), None);
        (0..FALL).for_each(|_| _ = bench.call(false));
        bench.1 += 100 * REST;
        assert_eq!(bench.call(true), None);
        assert!(!bench.is_healthy());
        assert_eq!(bench.check(true), Some(Change::Healthy));
        assert!(bench.is_healthy());
        let changes: Vec<_> = (0..FALL).map(|_| bench.check(false)).collect();
        assert_eq!(changes, [None, None, Some(Change::Sick)]);
    }

    #[test]
    fn the_first_check_decides_by_itself() {
        let bench = Bench::new(Recovery::ByCheck);
        assert!(bench.is_healthy(), "until there is a check");
        assert_eq!(bench.check(false), Some(Change::Sick));
        assert!(!bench.is_healthy());
    }

    #[test]
    fn an_only_upstream_that_nothing_checks_is_never_sick() {
        let bench = Bench::new(Recovery::Unneeded);
        assert!((0..100).all(|_| bench.call(false).is_none()));
        assert!(bench.is_healthy());
    }
}
