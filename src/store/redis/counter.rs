//! The state of the log, read once for all who ask at the same time.
//!
//! Invariant: whoever asks gets a reading that began after that. So one reading is on its way, and at most one more is waited for.

use std::sync::{Arc, Weak};

use tokio::sync::watch;

use super::error::{LinkError, no_runtime};
use super::log::RedisLog;
use crate::runtime::{Mutex, Runtime, lock};
use crate::store::log::LogState;

type Reading = Option<Result<LogState, LinkError>>;

pub(super) struct Counter {
    log: RedisLog,
    rounds: Arc<Mutex<Rounds>>,
}

#[derive(Default)]
struct Rounds {
    is_reading: bool,
    /// Those who wait for a reading that has not begun.
    next: Option<watch::Sender<Reading>>,
}

/// What a reading will give.
pub(super) struct Coming(watch::Receiver<Reading>);

impl Counter {
    pub(super) fn new(log: RedisLog) -> Self {
        Self { log, rounds: Arc::default() }
    }

    /// Begins a reading, or joins one that has not begun.
    pub(super) fn read(&self) -> Coming {
        let mut rounds = lock(&self.rounds);
        let coming = Coming(rounds.next.get_or_insert_with(|| watch::Sender::new(None)).subscribe());
        if !std::mem::replace(&mut rounds.is_reading, true) {
            drop(rounds);
            let reader = Reader { has_ended: false, rounds: Arc::downgrade(&self.rounds) };
            match Runtime::current() {
                Some(runtime) => drop(runtime.spawn(reader.run(self.log.clone()))),
                None => drop(reader),
            }
        }
        coming
    }
}

impl Coming {
    pub(super) async fn state(mut self) -> Result<LogState, LinkError> {
        match self.0.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(reading)) => reading.clone(),
            _ => Err(no_runtime()),
        }
    }
}

/// Reads as long as somebody waits.
struct Reader {
    has_ended: bool,
    rounds: Weak<Mutex<Rounds>>,
}

impl Reader {
    async fn run(mut self, log: RedisLog) {
        while let Some(rounds) = self.rounds.upgrade() {
            let next = {
                let mut rounds = lock(&rounds);
                let next = rounds.next.take();
                rounds.is_reading = next.is_some();
                self.has_ended = next.is_none();
                next
            };
            drop(rounds);
            let Some(next) = next else { return };
            let reading = log.glance().await;
            next.send_replace(Some(reading));
        }
    }
}

/// With its runtime: those who wait are told so by the end of what they wait for.
impl Drop for Reader {
    fn drop(&mut self) {
        if !self.has_ended
            && let Some(rounds) = self.rounds.upgrade()
        {
            *lock(&rounds) = Rounds::default();
        }
    }
}
