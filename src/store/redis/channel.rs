//! One connection that is kept up: made when it is first needed, and made again in a task when it is lost.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::{Cmd, Pipeline, RedisResult, Value};
use tokio::sync::watch;

use super::connect::{Connection, Target, WhenLost, too_late};
use super::error::{LinkError, is_of_replica, needs_another_connection, no_runtime};
use crate::runtime::{Deadline, Instant, Mutex, Runtime, lock, moment, pause};
use crate::store::random::random_time;

/// A connection on which so many commands in a row were too late is dropped: a timeout by itself never does that (R2).
const TOO_LATE: u32 = 8;
/// The longest pause before the second attempt to connect; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long one attempt to connect may take: longer than a command, which does not wait for it, and than it takes to find out that
/// one of several addresses does not answer.
const ATTEMPT: Duration = Duration::from_secs(2);
/// A server that has become a replica is left so often at most: its name may lead to the primary by then.
const LEAVES: Duration = Duration::from_secs(1);

pub(super) struct Channel(Arc<Shared>);

struct Shared {
    /// When a server was left that had become a replica.
    left: Mutex<Option<Instant>>,
    /// Of connections that were made.
    made: Arc<AtomicU64>,
    state: watch::Sender<State>,
    target: Arc<Target>,
    /// Commands in a row that were too late.
    too_late: AtomicU32,
    /// The longest that a command takes.
    within: Duration,
}

#[derive(Clone)]
enum State {
    /// The attempt before failed, and another one follows.
    Failed(Box<str>),
    /// Nobody makes a connection.
    Idle,
    /// A first attempt goes on, or one after a connection was lost.
    Making,
    Made {
        connection: Connection,
        number: u64,
    },
}

impl Channel {
    pub(super) fn new(target: Arc<Target>, within: Duration) -> Self {
        Self::counted(target, within, Arc::default())
    }

    fn counted(target: Arc<Target>, within: Duration, made: Arc<AtomicU64>) -> Self {
        Self(Arc::new(Shared {
            left: Mutex::default(),
            made,
            state: watch::Sender::new(State::Idle),
            target,
            too_late: AtomicU32::new(0),
            within,
        }))
    }

    /// Another connection to the same servers, which is counted with this one.
    pub(super) fn another(&self) -> Self {
        let Shared { made, target, within, .. } = &*self.0;
        Self::counted(Arc::clone(target), *within, Arc::clone(made))
    }

    /// Sends a command, twice where the connection turned out to be lost: each command of this store may be repeated.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, LinkError> {
        let mut attempts = Attempts::default();
        loop {
            let (mut connection, number) = self.connection().await?;
            if let Some(ended) = attempts.end(&self.0, number, connection.send(command).await) {
                return ended;
            }
        }
    }

    /// Sends commands one right after the other over one connection.
    pub(super) async fn send_together(&self, commands: &Pipeline) -> Result<Vec<Value>, LinkError> {
        let mut attempts = Attempts::default();
        loop {
            let (mut connection, number) = self.connection().await?;
            if let Some(ended) = attempts.end(&self.0, number, connection.send_together(commands).await) {
                return ended;
            }
        }
    }

    /// A command was not answered in time.
    pub(super) fn was_too_late(&self) {
        if self.0.too_late.fetch_add(1, Ordering::Relaxed) + 1 >= TOO_LATE {
            self.0.too_late.store(0, Ordering::Relaxed);
            let number = match &*self.0.state.borrow() {
                State::Made { number, .. } => *number,
                _ => return,
            };
            self.0.lost(number);
        }
    }

    /// How many connections were made.
    pub(super) fn made(&self) -> u64 {
        self.0.made.load(Ordering::Relaxed)
    }

    /// The connection, or the one that is being made, unless the attempt before has failed.
    async fn connection(&self) -> Result<(Connection, u64), LinkError> {
        let mut state = self.0.state.subscribe();
        self.0.begin();
        let decided = state.wait_for(|state| !matches!(state, State::Making)).await;
        match decided.as_deref() {
            Ok(State::Made { connection, number }) => Ok((connection.clone(), *number)),
            Ok(State::Failed(why)) => Err(LinkError::Down(why.clone())),
            _ => Err(no_runtime()),
        }
    }
}

/// Of one command.
#[derive(Default)]
struct Attempts {
    is_repeated: bool,
}

impl Attempts {
    /// What became of an attempt; `None` where another connection may answer.
    fn end<T>(
        &mut self,
        shared: &Arc<Shared>,
        number: u64,
        ended: RedisResult<T>,
    ) -> Option<Result<T, LinkError>> {
        match ended {
            Ok(value) => {
                shared.too_late.store(0, Ordering::Relaxed);
                Some(Ok(value))
            }
            Err(error) => {
                let is_lost =
                    needs_another_connection(&error) || (is_of_replica(&error) && shared.leaves_replica());
                if is_lost {
                    shared.lost(number);
                }
                let is_last = !is_lost || std::mem::replace(&mut self.is_repeated, true);
                is_last.then(|| Err(LinkError::of(&error)))
            }
        }
    }
}

impl Shared {
    /// Begins to make a connection where nobody does.
    fn begin(self: &Arc<Self>) {
        let begins = self.state.send_if_modified(|state| {
            let is_idle = matches!(state, State::Idle);
            if is_idle {
                *state = State::Making;
            }
            is_idle
        });
        if begins {
            let making = Making { shared: Arc::downgrade(self), has_ended: false };
            match Runtime::current() {
                Some(runtime) => drop(runtime.spawn(making.run(Arc::clone(&self.target), self.within))),
                None => drop(making),
            }
        }
    }

    /// Whether to leave a server that is a replica. Sentinel knows who is the primary now (R17), and the name of one server may lead
    /// to another one by now. A Cluster finds out by itself.
    fn leaves_replica(&self) -> bool {
        if self.target.is_cluster() {
            return false;
        }
        let (mut left, now) = (lock(&self.left), moment());
        let leaves = self.target.has_sentinel()
            || left.is_none_or(|left| now.saturating_duration_since(left) >= LEAVES);
        if leaves {
            *left = Some(now);
        }
        leaves
    }

    /// This connection is of no use any more.
    fn lost(self: &Arc<Self>, lost: u64) {
        let was_used = self.state.send_if_modified(|state| {
            let is_used = matches!(state, State::Made { number, .. } if *number == lost);
            if is_used {
                *state = State::Idle;
            }
            is_used
        });
        if was_used {
            self.begin();
        }
    }
}

/// Makes a connection. Dropped before it has one, as with its runtime, it leaves that to the next who needs one.
struct Making {
    has_ended: bool,
    shared: Weak<Shared>,
}

impl Making {
    async fn run(mut self, target: Arc<Target>, within: Duration) {
        let mut longest = FIRST_PAUSE;
        while self.shared.strong_count() > 0 {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let shared = self.shared.clone();
            let when_lost: WhenLost = Arc::new(move || {
                if let Some(shared) = shared.upgrade() {
                    shared.lost(number);
                }
            });
            // Around everything: resolving names, asking Sentinel, and a Cluster that never answers (R1, R11).
            let attempt = Deadline::new(ATTEMPT).in_time(target.connect(ATTEMPT, within, &when_lost)).await;
            let Some(shared) = self.shared.upgrade() else { return };
            match attempt.unwrap_or_else(|| Err(too_late(ATTEMPT))) {
                Ok(connection) => {
                    shared.made.fetch_add(1, Ordering::Relaxed);
                    shared.too_late.store(0, Ordering::Relaxed);
                    self.has_ended = true;
                    shared.state.send_replace(State::Made { connection, number });
                    return;
                }
                Err(error) => drop(shared.state.send_replace(State::Failed(error.to_string().into()))),
            }
            drop(shared);
            // Between nothing and the longest pause: nodes that lost a server together do not come back together.
            if !pause(random_time(longest)).await {
                return;
            }
            longest = (longest * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Connections are numbered, so that what is said of an old one does not end a new one.
static NEXT: AtomicU64 = AtomicU64::new(1);

impl Drop for Making {
    fn drop(&mut self) {
        if !self.has_ended
            && let Some(shared) = self.shared.upgrade()
        {
            shared.state.send_replace(State::Idle);
        }
    }
}
