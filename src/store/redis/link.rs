//! The link to the servers: a deadline around everything, and a breaker, with which a server that hangs or is gone costs requests
//! nothing after the first few.
//!
//! While the breaker is open nothing is sent but a probe now and then, in a task. When that is answered, what the store has kept for
//! this moment is sent first, and only then the breaker closes: a purge that had not arrived is in effect before anything is read.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use redis::{Cmd, Pipeline, Value};
use tokio::sync::Semaphore;

use super::channel::Channel;
use super::config::Replicas;
use super::connect::Target;
use super::error::LinkError;
use super::scripts::Script;
use crate::runtime::{Deadline, Mutex, Runtime, lock, pause};
use crate::store::breaker::Breaker;

/// After so many failures in a row nothing is sent for a moment.
const FAILURES: u32 = 8;
/// How often a server is probed while the breaker is open.
const PROBES: Duration = Duration::from_millis(250);
/// The most milliseconds for which a server is told to wait: it refuses what its clock can't show.
pub(super) const LONGEST_WAIT: u128 = 1 << 40;
/// The most commands that wait for their answers. A command that nobody waits for any more is answered all the same (R19).
const IN_FLIGHT: usize = 4_096;

/// Sends what was kept while the link was down, by way of [`Link::anyway`]. An error says that not all of it has arrived.
pub(super) type Resend =
    Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), Unsent>> + Send>> + Send + Sync>;

/// Why something has not arrived.
pub(super) enum Unsent {
    /// The link has failed.
    Link,
    /// The server does not take it.
    Refused,
}

impl From<LinkError> for Unsent {
    fn from(error: LinkError) -> Self {
        if error.is_failure_of_link() { Self::Link } else { Self::Refused }
    }
}

#[derive(Clone)]
pub(super) struct Link {
    /// Which of the channels it sends by. The log of purges has the first one.
    channel: usize,
    /// Sends also while the breaker is open, and says nothing to it.
    is_anyway: bool,
    /// Another connection for commands that wait: those on one wait for each other.
    polls: Option<Arc<Channel>>,
    shared: Arc<Shared>,
}

struct Shared {
    /// A connection of its own for commands that wait, which would hold up all others (R7).
    blocking: Channel,
    breaker: Breaker,
    channels: Box<[Channel]>,
    in_flight: Semaphore,
    /// One more for the ends of leases: commands that wait on one connection wait for each other.
    listening: Channel,
    probe: Cmd,
    probe_limit: Duration,
    resend: OnceLock<Resend>,
    sent: AtomicU64,
    tended: Mutex<Tended>,
    /// Another one, for purges that wait for replicas: `WAIT` counts those that have what its own connection has sent.
    waiting: Channel,
}

impl Link {
    /// `probe` is a command that says whether the servers are well, and takes no longer than `probe_limit`; `within` is the longest
    /// that any command takes. Of the channels, whose number is `channels`, there is at least one.
    pub(super) fn new(
        target: Target,
        channels: usize,
        probe: Cmd,
        probe_limit: Duration,
        within: Duration,
    ) -> Self {
        let target = Arc::new(target);
        let shared = Shared {
            blocking: Channel::new(Arc::clone(&target), within),
            breaker: Breaker::new(FAILURES, PROBES),
            channels: (0..channels.max(1)).map(|_| Channel::new(Arc::clone(&target), within)).collect(),
            in_flight: Semaphore::new(IN_FLIGHT),
            listening: Channel::new(Arc::clone(&target), within),
            probe,
            probe_limit,
            resend: OnceLock::new(),
            sent: AtomicU64::new(0),
            tended: Mutex::default(),
            waiting: Channel::new(target, within),
        };
        Self { channel: 0, is_anyway: false, polls: None, shared: Arc::new(shared) }
    }

    /// The link with another connection for commands that wait.
    pub(super) fn with_own_polls(&self) -> Self {
        Self { polls: Some(Arc::new(self.shared.blocking.another())), ..self.clone() }
    }

    /// The link for what has this hash.
    pub(super) fn of(&self, hash: u128) -> Self {
        let channels = self.shared.channels.len() as u128;
        let channel = usize::try_from(hash % channels).unwrap_or_default();
        Self { channel, ..self.clone() }
    }

    fn channel(&self) -> &Channel {
        &self.shared.channels[self.channel]
    }

    /// The link for what has to be sent before the breaker closes.
    pub(super) fn anyway(&self) -> Self {
        Self { is_anyway: true, ..self.clone() }
    }

    /// What is sent when the link is back.
    pub(super) fn set_resend(&self, resend: Resend) {
        let _ = self.shared.resend.set(resend);
    }

    pub(super) fn is_open(&self) -> bool {
        self.shared.breaker.is_open()
    }

    /// Commands that were sent, probes included.
    pub(super) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Connections that were made.
    pub(super) fn made(&self) -> u64 {
        let Shared { blocking, channels, listening, waiting, .. } = &*self.shared;
        channels.iter().chain([blocking, listening, waiting]).map(Channel::made).sum()
    }

    /// Sends a command. `limit` is around everything: for a turn, for the connection, and for the answer.
    pub(super) async fn send(&self, command: &Cmd, limit: Duration) -> Result<Value, LinkError> {
        self.check()?;
        self.counted(self.shared.send(self.channel(), command, limit).await)
    }

    /// Sends a command that waits for something at the server.
    pub(super) async fn send_blocking(&self, command: &Cmd, limit: Duration) -> Result<Value, LinkError> {
        self.check()?;
        let polls = self.polls.as_deref().unwrap_or(&self.shared.blocking);
        self.counted(self.shared.send(polls, command, limit).await)
    }

    /// Sends a command that waits for the end of a lease.
    pub(super) async fn send_listening(&self, command: &Cmd, limit: Duration) -> Result<Value, LinkError> {
        self.check()?;
        self.counted(self.shared.send(&self.shared.listening, command, limit).await)
    }

    /// Runs a script by its hash, or whole where the server does not have it.
    pub(super) async fn run(
        &self,
        script: &Script,
        keys: &[&[u8]],
        arguments: &[&[u8]],
        limit: Duration,
    ) -> Result<Value, LinkError> {
        self.check()?;
        let channel = self.channel();
        let both = async {
            match self.shared.send(channel, &script.by_hash(keys, arguments), limit).await {
                // A server that was started anew, or was a replica before, has none.
                Err(LinkError::NoScript) => {
                    self.shared.send(channel, &script.whole(keys, arguments), limit).await
                }
                ended => ended,
            }
        };
        let ended = Deadline::new(limit).in_time(both).await;
        self.counted(ended.unwrap_or(Err(LinkError::Slow(limit))))
    }

    /// Runs a script, and waits until replicas have what it has written.
    pub(super) async fn run_and_wait(
        &self,
        script: &Script,
        keys: &[&[u8]],
        arguments: &[&[u8]],
        limit: Duration,
        replicas: Replicas,
    ) -> Result<Value, LinkError> {
        self.check()?;
        // Both at once over one connection, and the script whole: what is sent after another answer may take another connection, on
        // which there is nothing to wait for.
        let mut pipeline = Pipeline::new();
        pipeline.add_command(script.whole(keys, arguments));
        pipeline
            .cmd("WAIT")
            .arg(replicas.count)
            .arg(replicas.limit.as_millis().min(LONGEST_WAIT).to_string());
        let waiting = &self.shared.waiting;
        let sent = self.shared.in_time(
            waiting,
            limit.saturating_add(replicas.limit),
            waiting.send_together(&pipeline),
        );
        let mut values = self.counted(sent.await)?.into_iter();
        match (values.next(), values.next()) {
            (Some(value), Some(Value::Int(count)))
                if usize::try_from(count).is_ok_and(|count| count >= replicas.count) =>
            {
                Ok(value)
            }
            (_, Some(Value::Int(count))) => {
                let why = format!("{count} replicas have the purge, of {} that have to", replicas.count);
                Err(LinkError::Refused(why.into()))
            }
            other => Err(LinkError::bad(format!("{other:?} to WAIT"))),
        }
    }

    /// Several commands together took longer than this.
    pub(super) fn was_slow(&self, limit: Duration) -> LinkError {
        self.channel().was_too_late();
        let slow = LinkError::Slow(limit);
        let _ = self.counted::<()>(Err(slow.clone()));
        slow
    }

    fn check(&self) -> Result<(), LinkError> {
        match self.shared.breaker.is_open() && !self.is_anyway {
            true => Err(LinkError::Open),
            false => Ok(()),
        }
    }

    fn counted<T>(&self, ended: Result<T, LinkError>) -> Result<T, LinkError> {
        if !self.is_anyway {
            self.shared.breaker.count(ended.as_ref().is_err_and(LinkError::is_failure_of_link));
            if self.shared.breaker.is_open() {
                self.tend();
            }
        }
        ended
    }

    /// Sees to it that the breaker closes again, and that what was kept arrives.
    pub(super) fn tend(&self) {
        let mut tended = lock(&self.shared.tended);
        tended.wishes += 1;
        if !std::mem::replace(&mut tended.is_running, true) {
            drop(tended);
            let tending = Tending { has_ended: false, shared: Arc::downgrade(&self.shared) };
            match Runtime::current() {
                Some(runtime) => drop(runtime.spawn(tending.run())),
                None => drop(tending),
            }
        }
    }
}

impl Shared {
    async fn send(&self, channel: &Channel, command: &Cmd, limit: Duration) -> Result<Value, LinkError> {
        self.in_time(channel, limit, channel.send(command)).await
    }

    async fn in_time<T>(
        &self,
        channel: &Channel,
        limit: Duration,
        sending: impl Future<Output = Result<T, LinkError>>,
    ) -> Result<T, LinkError> {
        let whole = async {
            let _permit = self.in_flight.acquire().await;
            self.sent.fetch_add(1, Ordering::Relaxed);
            sending.await
        };
        ended_in_time(channel, limit, whole).await
    }

    /// Asks whether the servers are well, however many commands are on their way.
    async fn probe(&self) -> Result<(), LinkError> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let channel = &self.channels[0];
        match ended_in_time(channel, self.probe_limit, channel.send(&self.probe)).await {
            Ok(_) => Ok(()),
            // Whatever somebody else has put there, the server has answered.
            Err(LinkError::Refused(why)) if why.contains("WRONGTYPE") => Ok(()),
            Err(error) => Err(error),
        }
    }
}

async fn ended_in_time<T>(
    channel: &Channel,
    limit: Duration,
    sending: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    match Deadline::new(limit).in_time(sending).await {
        Some(ended) => ended,
        None => {
            channel.was_too_late();
            Err(LinkError::Slow(limit))
        }
    }
}

/// Whether a task tends to the breaker and to what was kept, and how often one was wished for.
#[derive(Default)]
struct Tended {
    is_running: bool,
    wishes: u64,
}

struct Tending {
    has_ended: bool,
    shared: Weak<Shared>,
}

impl Tending {
    async fn run(mut self) {
        while pause(PROBES).await {
            let Some(shared) = self.shared.upgrade() else { return };
            let wishes = lock(&shared.tended).wishes;
            if shared.is_done().await {
                let mut tended = lock(&shared.tended);
                if tended.wishes == wishes {
                    tended.is_running = false;
                    self.has_ended = true;
                    return;
                }
            }
        }
    }
}

impl Drop for Tending {
    fn drop(&mut self) {
        if !self.has_ended
            && let Some(shared) = self.shared.upgrade()
        {
            lock(&shared.tended).is_running = false;
        }
    }
}

impl Shared {
    /// Probes the server, and sends what was kept. Whether nothing is left to do.
    async fn is_done(&self) -> bool {
        let Some(turn) = self.breaker.turn() else {
            return false;
        };
        let mut ended = self.probe().await.map_err(Unsent::from);
        if let (Ok(()), Some(resend)) = (&ended, self.resend.get()) {
            ended = resend().await;
        }
        // What the server refuses is tried again, but reads need not wait for it: whoever purged has seen the error.
        turn.end(matches!(ended, Err(Unsent::Link)));
        ended.is_ok()
    }
}
