//! Whether an upstream is fit to be asked.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many failures in a row, of calls or of checks, make an upstream sick.
pub const FALL: u32 = 3;

/// How long a sick upstream is left alone if nothing checks it. Then a single call finds out.
pub const REST: Duration = Duration::from_secs(10);

/// How an upstream becomes healthy again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// A check succeeds.
    ByCheck,
    /// Time passes ([`REST`]), after which the outcome of one call decides.
    ByRest,
    /// It is never sick: there is no other one, and nothing checks it.
    Unneeded,
}

/// What calls and checks have shown of one upstream.
pub struct Health {
    began: Instant,
    recovery: Recovery,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// In a row.
    failures: u32,
    /// The last call has failed, of one that is never sick.
    is_failing: bool,
    is_known: bool,
    /// Somebody was told that it fails.
    is_told: bool,
    /// Those whose requests are among the failures.
    paths: Vec<Box<str>>,
    sick_since: Option<Instant>,
    /// When somebody was told that it fails.
    told_at: Option<Instant>,
    /// When it was well, or was not, for the last time before what is so now.
    turned_at: Option<Instant>,
}

/// How a call has failed.
#[derive(Clone, Copy, Debug)]
pub enum Failure<'a> {
    /// There was no connection to send the request by, whatever the request was.
    Connecting,
    /// A request for this path was sent and not answered. That may be the fault of the request, which anybody can repeat.
    Answering(&'a str),
}

/// Whether an upstream can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// It has had its rest: whoever [begins a trial](Health::begin_trial) may ask it.
    Due,
    Healthy,
    Sick,
}

/// What has become of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// One that is never sick answers again, after somebody was told that it fails.
    Answers,
    /// One that is never sick fails. That is told once in a [`REST`] at most, however often it changes.
    Fails,
    Healthy,
    Sick,
}

impl Health {
    pub fn new(recovery: Recovery) -> Self {
        Self { began: Instant::now(), recovery, state: Mutex::default() }
    }

    pub fn is_checked(&self) -> bool {
        self.recovery == Recovery::ByCheck
    }

    /// Whether it is well, and since when that is so or not.
    pub fn standing(&self) -> (bool, Instant) {
        let state = self.state();
        (state.sick_since.is_none() && !state.is_failing, state.turned_at.unwrap_or(self.began))
    }

    pub fn fitness(&self, now: Instant) -> Fitness {
        match self.state().sick_since {
            None => Fitness::Healthy,
            Some(since) if self.recovery == Recovery::ByRest && since + REST <= now => Fitness::Due,
            Some(_) => Fitness::Sick,
        }
    }

    /// Whether the caller, and nobody else, may ask an upstream that is [due](Fitness::Due). A new rest begins with that, so a call that
    /// is never heard of again leads to another trial.
    pub fn begin_trial(&self, now: Instant) -> bool {
        let mut state = self.state();
        let is_due = state.sick_since.is_some_and(|since| since + REST <= now);
        if is_due {
            state.sick_since = Some(now);
        }
        is_due
    }

    /// A call was answered.
    pub fn answers(&self) -> Option<Change> {
        let mut state = self.state();
        if self.recovery == Recovery::Unneeded {
            return state.answers_again();
        }
        // An answer is no check.
        if state.sick_since.is_some() && self.is_checked() { None } else { state.succeeds() }
    }

    /// A call was not answered.
    pub fn fails(&self, failure: Failure<'_>, now: Instant) -> Option<Change> {
        let mut state = self.state();
        match (failure, self.recovery) {
            (_, Recovery::Unneeded) => state.fails_at_times(now),
            // Checks find out whether it is the upstream's fault. Calls need not guess.
            (Failure::Answering(_), Recovery::ByCheck) => None,
            (Failure::Answering(path), Recovery::ByRest) if state.sick_since.is_none() => {
                if state.paths.iter().any(|failed| **failed == *path) {
                    return None;
                }
                state.paths.push(path.into());
                state.fails(now, FALL)
            }
            _ => state.fails(now, FALL),
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
        self.paths = Vec::new();
        self.sick_since.take()?;
        self.turned_at = Some(Instant::now());
        Some(Change::Healthy)
    }

    /// A call has failed at one that is never sick.
    fn fails_at_times(&mut self, now: Instant) -> Option<Change> {
        if !std::mem::replace(&mut self.is_failing, true) {
            self.turned_at = Some(now);
        }
        if self.is_told || self.told_at.is_some_and(|told| now < told + REST) {
            return None;
        }
        self.is_told = true;
        self.told_at = Some(now);
        Some(Change::Fails)
    }

    /// A call was answered by one that is never sick.
    fn answers_again(&mut self) -> Option<Change> {
        if std::mem::take(&mut self.is_failing) {
            self.turned_at = Some(Instant::now());
        }
        std::mem::take(&mut self.is_told).then_some(Change::Answers)
    }

    fn fails(&mut self, now: Instant, fall: u32) -> Option<Change> {
        self.failures = self.failures.saturating_add(1);
        if self.failures < fall {
            return None;
        }
        // One that fails after its rest rests again.
        if self.sick_since.replace(now).is_some() {
            return None;
        }
        self.turned_at = Some(now);
        Some(Change::Sick)
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

        /// A call can't connect.
        fn fails(&self) -> Option<Change> {
            self.0.fails(Failure::Connecting, self.1)
        }

        fn does_not_answer(&self, path: &str) -> Option<Change> {
            self.0.fails(Failure::Answering(path), self.1)
        }

        fn check(&self, is_good: bool) -> Option<Change> {
            self.0.checked(is_good, self.1)
        }

        fn fitness(&self) -> Fitness {
            self.0.fitness(self.1)
        }
    }

    #[test]
    fn three_calls_in_a_row_that_fail_make_an_upstream_sick() {
        let bench = Bench::new(Recovery::ByRest);
        for _ in 0..2 {
            assert_eq!((bench.fails(), bench.fails(), bench.0.answers()), (None, None, None));
        }
        assert_eq!((bench.fails(), bench.fails()), (None, None));
        assert_eq!(bench.fitness(), Fitness::Healthy);
        assert_eq!(bench.fails(), Some(Change::Sick));
        assert_eq!(bench.fitness(), Fitness::Sick);
    }

    #[test]
    fn a42_calls_for_one_path_that_get_no_answer_count_once() {
        let bench = Bench::new(Recovery::ByRest);
        assert!((0..100).all(|_| bench.does_not_answer("/x").is_none()));
        assert_eq!(bench.does_not_answer("/y"), None);
        assert_eq!(bench.does_not_answer("/z"), Some(Change::Sick));
        assert_eq!(bench.0.answers(), Some(Change::Healthy));
        assert_eq!(
            (bench.does_not_answer("/x"), bench.fails()),
            (None, None),
            "it counts from the beginning"
        );
        assert_eq!(bench.fails(), Some(Change::Sick));
    }

    #[test]
    fn a42_where_checks_run_no_call_that_was_sent_makes_an_upstream_sick() {
        let bench = Bench::new(Recovery::ByCheck);
        assert!((0..100).all(|n| bench.does_not_answer(&format!("/{n}")).is_none()));
        assert_eq!((bench.fails(), bench.fails(), bench.fails()), (None, None, Some(Change::Sick)));
    }

    #[test]
    fn after_a_rest_one_call_alone_decides() {
        let mut bench = Bench::new(Recovery::ByRest);
        (0..FALL).for_each(|_| _ = bench.fails());
        bench.1 += REST - Duration::from_millis(1);
        assert_eq!((bench.fitness(), bench.0.begin_trial(bench.1)), (Fitness::Sick, false));
        bench.1 += Duration::from_millis(1);
        assert_eq!((bench.fitness(), bench.0.begin_trial(bench.1)), (Fitness::Due, true));
        assert_eq!((bench.fitness(), bench.0.begin_trial(bench.1)), (Fitness::Sick, false));
        // One failure is enough for another rest, and is nothing new.
        bench.1 += Duration::from_secs(1);
        assert_eq!(bench.does_not_answer("/x"), None);
        bench.1 += REST - Duration::from_secs(1);
        assert_eq!(bench.fitness(), Fitness::Sick);
        bench.1 += Duration::from_secs(1);
        assert!(bench.0.begin_trial(bench.1));
        assert_eq!(bench.0.answers(), Some(Change::Healthy));
        assert_eq!(bench.fitness(), Fitness::Healthy);
        assert_eq!(bench.fails(), None, "it counts from the beginning");
    }

    #[test]
    fn a_trial_that_is_never_heard_of_again_is_followed_by_another() {
        let mut bench = Bench::new(Recovery::ByRest);
        (0..FALL).for_each(|_| _ = bench.fails());
        bench.1 += REST;
        assert!(bench.0.begin_trial(bench.1));
        bench.1 += REST;
        assert!(bench.0.begin_trial(bench.1));
    }

    #[test]
    fn an_upstream_that_is_checked_becomes_healthy_by_a_check_alone() {
        let mut bench = Bench::new(Recovery::ByCheck);
        assert_eq!(bench.check(true), None);
        (0..FALL).for_each(|_| _ = bench.fails());
        bench.1 += 100 * REST;
        assert_eq!(bench.0.answers(), None);
        assert_eq!(bench.fitness(), Fitness::Sick);
        assert_eq!(bench.check(true), Some(Change::Healthy));
        assert_eq!(bench.fitness(), Fitness::Healthy);
        let changes: Vec<_> = (0..FALL).map(|_| bench.check(false)).collect();
        assert_eq!(changes, [None, None, Some(Change::Sick)]);
    }

    #[test]
    fn the_first_check_decides_by_itself() {
        let bench = Bench::new(Recovery::ByCheck);
        assert_eq!(bench.fitness(), Fitness::Healthy, "until there is a check");
        assert_eq!(bench.check(false), Some(Change::Sick));
        assert_eq!(bench.fitness(), Fitness::Sick);
    }

    #[test]
    fn an_only_upstream_that_nothing_checks_is_never_sick() {
        let bench = Bench::new(Recovery::Unneeded);
        (0..100).for_each(|_| _ = bench.fails());
        assert_eq!(bench.fitness(), Fitness::Healthy);
    }

    #[test]
    fn an_only_upstream_that_fails_is_told_once_and_once_when_it_answers_again() {
        let mut bench = Bench::new(Recovery::Unneeded);
        let is_well = |bench: &Bench| bench.0.standing().0;
        assert!(is_well(&bench));
        assert_eq!((bench.0.answers(), bench.fails(), bench.fails()), (None, Some(Change::Fails), None));
        assert!(!is_well(&bench));
        assert_eq!((bench.0.answers(), bench.0.answers()), (Some(Change::Answers), None));
        // However often it changes, that is told once in a while.
        for _ in 0..10 {
            assert_eq!((bench.does_not_answer("/x"), is_well(&bench)), (None, false));
            assert_eq!((bench.0.answers(), is_well(&bench)), (None, true));
        }
        bench.1 += REST;
        assert_eq!((bench.fails(), bench.0.answers()), (Some(Change::Fails), Some(Change::Answers)));
    }
}
