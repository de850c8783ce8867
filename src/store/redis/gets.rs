//! Look-ups that are sent together, with the state of the log: one `MGET` for all who ask at the same time.
//!
//! Each command is a call of the system here and a wake-up at the server, which costs both more than the command itself. So who asks
//! while others wait for an answer is sent with those who ask in the same moment; who is alone is sent at once.
//!
//! Invariant: whoever asks gets what a command has found that was sent after that, and all of it at one moment.

use std::sync::{Arc, Weak};

use redis::Value;
use tokio::sync::oneshot;

use super::error::{LinkError, no_runtime};
use super::log::RedisLog;
use crate::runtime::{Mutex, Runtime, lock, yield_now};
use crate::store::log::LogState;

/// The most look-ups of a command: its answer comes as a whole.
const TOGETHER: usize = 32;

type Got = Result<(Value, LogState), LinkError>;

#[derive(Default)]
pub(super) struct Gets(Arc<Mutex<Rounds>>);

#[derive(Default)]
struct Rounds {
    is_gathering: bool,
    /// Commands whose answers have not come.
    on_their_way: usize,
    waiting: Vec<Waiting>,
}

struct Waiting {
    name: String,
    to: oneshot::Sender<Got>,
}

impl Gets {
    /// What is under a name, and the state of the log.
    pub(super) async fn get(&self, log: &RedisLog, name: String) -> Got {
        let Some(_way) = self.alone() else {
            return self.wait(log, name).await.unwrap_or_else(|_| Err(no_runtime()));
        };
        let (state, mut values) = log.glance_with(&[&name]).await?;
        Ok((values.pop().unwrap_or(Value::Nil), state))
    }

    /// The right to be sent at once, where nobody else is on the way.
    fn alone(&self) -> Option<OnItsWay> {
        let mut rounds = lock(&self.0);
        let is_alone = rounds.on_their_way == 0 && !rounds.is_gathering;
        is_alone.then(|| OnItsWay::of(&self.0, &mut rounds))
    }

    /// Waits among those that are sent together.
    fn wait(&self, log: &RedisLog, name: String) -> oneshot::Receiver<Got> {
        let (to, got) = oneshot::channel();
        let mut rounds = lock(&self.0);
        rounds.waiting.push(Waiting { name, to });
        let begins = !std::mem::replace(&mut rounds.is_gathering, true);
        drop(rounds);
        if begins {
            let gatherer = Gatherer { has_ended: false, rounds: Arc::downgrade(&self.0) };
            match Runtime::current() {
                Some(runtime) => drop(runtime.spawn(gatherer.run(log.clone()))),
                None => drop(gatherer),
            }
        }
        got
    }
}

/// Counts as a command on its way until it is dropped.
struct OnItsWay(Arc<Mutex<Rounds>>);

impl OnItsWay {
    fn of(rounds: &Arc<Mutex<Rounds>>, now: &mut Rounds) -> Self {
        now.on_their_way += 1;
        Self(Arc::clone(rounds))
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        lock(&self.0).on_their_way -= 1;
    }
}

/// Lets those ask who are about to, and sends for all of them.
struct Gatherer {
    has_ended: bool,
    rounds: Weak<Mutex<Rounds>>,
}

impl Gatherer {
    async fn run(mut self, log: RedisLog) {
        yield_now().await;
        let Some(rounds) = self.rounds.upgrade() else { return };
        let mut commands = {
            let mut now = lock(&rounds);
            let mut waiting = std::mem::take(&mut now.waiting);
            // Nobody waits for it any more.
            waiting.retain(|one| !one.to.is_closed());
            now.is_gathering = false;
            self.has_ended = true;
            let mut commands = Vec::with_capacity(waiting.len().div_ceil(TOGETHER));
            while !waiting.is_empty() {
                let some = waiting.split_off(waiting.len().saturating_sub(TOGETHER));
                commands.push((OnItsWay::of(&rounds, &mut now), some));
            }
            commands
        };
        let own = commands.pop();
        for (way, some) in commands {
            let sending = send(way, log.clone(), some);
            match Runtime::current() {
                Some(runtime) => drop(runtime.spawn(sending)),
                None => sending.await,
            }
        }
        if let Some((way, some)) = own {
            send(way, log, some).await;
        }
    }
}

async fn send(_way: OnItsWay, log: RedisLog, waiting: Vec<Waiting>) {
    let names: Vec<_> = waiting.iter().map(|one| one.name.as_str()).collect();
    match log.glance_with(&names).await {
        Ok((state, values)) => {
            for (one, value) in waiting.into_iter().zip(values) {
                let _ = one.to.send(Ok((value, state)));
            }
        }
        Err(error) => {
            for one in waiting {
                let _ = one.to.send(Err(error.clone()));
            }
        }
    }
}

/// With its runtime: those who wait are told so by the end of what they wait for.
impl Drop for Gatherer {
    fn drop(&mut self) {
        if !self.has_ended
            && let Some(rounds) = self.rounds.upgrade()
        {
            let mut rounds = lock(&rounds);
            rounds.is_gathering = false;
            rounds.waiting.clear();
        }
    }
}
