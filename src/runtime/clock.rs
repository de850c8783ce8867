//! The only place where time is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the cache gets the time from: the system, or a hand in a test.
///
/// ```
/// use std::time::Duration;
/// use larder::Clock;
/// let (clock, hand) = Clock::manual();
/// let before = clock.now();
/// hand.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().duration_since(before).unwrap(), Duration::from_secs(60));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Clock {
    source: Source,
}

#[derive(Clone, Debug, Default)]
enum Source {
    /// Milliseconds since 1970.
    Manual(Arc<AtomicU64>),
    #[default]
    System,
}

impl Clock {
    /// A clock that moves only by its [`ClockHand`]; it starts in 2026.
    pub fn manual() -> (Self, ClockHand) {
        let time = Arc::new(AtomicU64::new(1_790_000_000_000));
        let source = Source::Manual(Arc::clone(&time));
        (Self { source }, ClockHand { time })
    }

    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// The time now.
    pub fn now(&self) -> SystemTime {
        match &self.source {
            Source::Manual(time) => UNIX_EPOCH + Duration::from_millis(time.load(Ordering::SeqCst)),
            Source::System => SystemTime::now(),
        }
    }
}

/// Moves a manual [`Clock`].
#[derive(Clone, Debug)]
pub struct ClockHand {
    time: Arc<AtomicU64>,
}

impl ClockHand {
    /// Moves the clock forward, by whole milliseconds.
    pub fn advance(&self, by: Duration) {
        self.step(|time| time.saturating_add(millis(by)));
    }

    /// Moves the clock back, by whole milliseconds, at most to 1970.
    pub fn set_back(&self, by: Duration) {
        self.step(|time| time.saturating_sub(millis(by)));
    }

    /// The time that the clock shows.
    pub fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.time.load(Ordering::SeqCst))
    }

    fn step(&self, step: impl Fn(u64) -> u64) {
        // `fetch_update` with an update that never declines can't fail.
        let _ = self.time.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |time| Some(step(time)));
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
