//! What a store does with its link, the log of purges and its records.

use std::future::poll_fn;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use redis::{Value, cmd};

use super::advice::Adviser;
use super::clocks::Clocks;
use super::config::{InvalidRedisConfig, RedisConfig};
use super::connect::Target;
use super::content::{Contents, LINGER, milliseconds};
use super::counter::{Coming, Counter};
use super::error::{LinkError, no_runtime};
use super::gets::Gets;
use super::leases::{Desk, Tokens};
use super::link::Link;
use super::log::{RedisLog, probe};
use super::scripts::Script;
use crate::entry::key::CacheKey;
use crate::entry::{ResponseHead, StoredResponse};
use crate::runtime::{Deadline, Instant, Mutex, Runtime, joined, moment};
use crate::store::log::{Announced, LogState, Replica, Verdict, is_noted};
use crate::store::random::random;
use crate::store::record::{FORMAT, Record, RecordNames, Recorded};
use crate::store::{Fence, Lookup, PutOutcome, Stored, StoredId, Variants};

/// KEYS: a record. ARGV: its first 16 bytes, as they have to be; a new record; how long it lives, in milliseconds. 1, or what is
/// there instead.
const SWAP: &str = "
local now = redis.pcall('GETRANGE', KEYS[1], 0, 15)
if type(now) == 'table' then now = '' end
if now ~= ARGV[1] then return redis.call('GET', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
";
/// How many bytes of a record are compared.
const COMPARED: usize = 16;
/// How often a record is written anew where another node was faster. With two nodes that write one record all the time, each attempt
/// is in vain half of the time.
const ATTEMPTS: usize = 64;
/// How many records a node writes at one time.
const WRITERS: usize = 256;
/// The most bytes of a record: older responses that do not fit into it are dropped. Each look-up gets all of it, so it is not much
/// more than a few responses need with the content that records may have.
const RECORD: RangeInclusive<usize> = (1 << 20)..=(8 << 20);

pub(super) struct Inner {
    pub(super) adviser: Adviser,
    clocks: Arc<Clocks>,
    pub(super) config: RedisConfig,
    pub(super) counter: Counter,
    /// One for all who use leases, so that one reader hears of their ends.
    pub(super) desk: Mutex<Weak<Desk>>,
    gets: Gets,
    pub(super) link: Link,
    pub(super) log: RedisLog,
    pub(super) names: RecordNames,
    pub(super) replica: Arc<Replica>,
    swap: Script,
    /// Of leases that this node holds.
    pub(super) tokens: Tokens,
    /// One look-up at a time reads the log, and the others find that it was read.
    turns: tokio::sync::Mutex<()>,
    /// Tasks of one node that write one record take turns, or many of them would write it in vain.
    writers: Box<[tokio::sync::Mutex<()>]>,
}

/// What is under a key.
#[derive(Default)]
struct Found {
    /// The first bytes of what is there, by which it is replaced.
    compared: Vec<u8>,
    /// Nothing where it is no record.
    record: Record,
}

impl Found {
    fn read(key: &CacheKey, value: Value) -> Result<Self, LinkError> {
        let bytes = match value {
            Value::BulkString(bytes) => Bytes::from(bytes),
            Value::Nil => return Ok(Self::default()),
            other => return Err(LinkError::bad(format!("{other:?} to GET"))),
        };
        let compared = bytes.iter().copied().take(COMPARED).collect();
        // The bytes are a copy of the crate's (R18), and the last one. What can't be read is a miss, and is written over.
        Ok(Self { compared, record: Record::decode(key, bytes).unwrap_or_default() })
    }
}

/// What a response replaces.
pub(super) enum Replaces {
    /// The one with this identity, which has to be there.
    Id(StoredId),
    /// The one that the same fields select.
    SameSelection,
}

/// [`Inner::content_deadline`].
pub(super) struct ContentDeadline {
    deadline: Deadline,
    limit: Duration,
}

impl ContentDeadline {
    pub(super) async fn in_time<T>(
        &mut self,
        steps: impl Future<Output = Result<T, LinkError>>,
    ) -> Result<T, LinkError> {
        let ended = self.deadline.in_time(steps).await;
        ended.unwrap_or(Err(LinkError::Slow(self.limit)))
    }
}

/// Waits for two at the same time.
async fn both<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut first, mut second) = (None, None);
    poll_fn(move |cx| {
        if first.is_none()
            && let Poll::Ready(ended) = one.as_mut().poll(cx)
        {
            first = Some(ended);
        }
        if second.is_none()
            && let Poll::Ready(ended) = other.as_mut().poll(cx)
        {
            second = Some(ended);
        }
        match (first.take(), second.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            ended => {
                (first, second) = ended;
                Poll::Pending
            }
        }
    })
    .await
}

impl Inner {
    pub(super) fn new(config: RedisConfig) -> Result<Self, InvalidRedisConfig> {
        config.check()?;
        let content = config.content_deadline.max(config.deadline);
        let waiting = config.replicas.map_or(Duration::ZERO, |replicas| replicas.limit);
        let within = content.saturating_add(waiting);
        let link = Link::new(
            Target::of(&config)?,
            config.connections,
            probe(&config.namespace),
            config.deadline,
            within,
        );
        let clocks = Arc::new(Clocks::new(config.clock.clone(), config.listener.clone()));
        let log = RedisLog::new(link.clone(), &config, content, Arc::clone(&clocks));
        Ok(Self {
            adviser: Adviser::new(link.clone(), content, config.listener.clone()),
            clocks,
            counter: Counter::new(log.clone()),
            desk: Mutex::default(),
            gets: Gets::default(),
            link,
            log,
            names: RecordNames::new(&config.namespace).secret(config.secret),
            replica: Arc::new(Replica::new(config.secret)),
            swap: Script::new(SWAP),
            tokens: Tokens::default(),
            turns: tokio::sync::Mutex::new(()),
            writers: (0..WRITERS).map(|_| tokio::sync::Mutex::new(())).collect(),
            config: RedisConfig { content_deadline: content, ..config },
        })
    }

    /// Everything that was purged before a reading of the state began is known when this returns.
    pub(super) async fn catch_up(self: &Arc<Self>, coming: Coming) -> Result<(), LinkError> {
        self.catch_up_to(coming.state().await?).await
    }

    /// Everything that a state of the log speaks of is known when this returns.
    async fn catch_up_to(self: &Arc<Self>, state: LogState) -> Result<(), LinkError> {
        if self.replica.sees(state) {
            return Ok(());
        }
        let seen = moment();
        // In a task: a node that starts may have more to read than there is time for in one look-up.
        let (inner, runtime) = (Arc::clone(self), Runtime::current());
        let reading = runtime.map(|runtime| runtime.spawn(async move { inner.read_to(state, seen).await }));
        match reading {
            Some(reading) => joined(reading).await.unwrap_or_else(|| Err(no_runtime())),
            None => Err(no_runtime()),
        }
    }

    async fn read_to(&self, state: LogState, seen: Instant) -> Result<(), LinkError> {
        let _turn = self.turns.lock().await;
        // A reading that has begun since has found what the state speaks of, and maybe more: then the replica is not in that state,
        // and need not be.
        if self.replica.was_complete_after(seen) || self.replica.sees(state) {
            return Ok(());
        }
        self.replica.catch_up(&self.log).await.map_err(|error| LinkError::of_store(&error))
    }

    async fn find(&self, key: &CacheKey, limit: Duration) -> Result<Found, LinkError> {
        let mut command = cmd("GET");
        command.arg(self.names.of(key));
        match self.link_of(key).send(&command, limit).await {
            Ok(value) => Found::read(key, value),
            // Another type of value, of which nobody in this namespace knows.
            Err(LinkError::Refused(why)) if why.contains("WRONGTYPE") => Ok(Found::default()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn look_up(self: &Arc<Self>, key: &CacheKey) -> Result<Lookup, LinkError> {
        let found = if self.config.is_cluster() || self.config.connections > 1 {
            // The record is in another slot than the log, or comes over another connection: so there are two commands (R15). The
            // state is always read where the entries are. Begun before the record is asked for, so that both are on their way at one
            // time.
            let coming = self.counter.read();
            let found = self.find(key, self.config.deadline).await?;
            self.catch_up(coming).await?;
            found
        } else {
            if self.log.is_time_due() {
                self.counter.read().state().await?;
            }
            let (value, state) = self.gets.get(&self.log, self.names.of(key)).await?;
            self.catch_up_to(state).await?;
            Found::read(key, value)?
        };
        // Before anything is judged: a purge in between counts as a later one.
        let fence = self.replica.fence();
        self.adviser.look();
        Ok(Lookup::new(fence, Variants::new(self.judged(key, &found.record))))
    }

    /// Those that no purge has removed, the newest first, with the times of this node's clock.
    fn judged(&self, key: &CacheKey, record: &Record) -> Vec<Stored> {
        let is_announced = |recorded: &&Recorded| self.replica.is_announced(recorded.id.bits());
        let judged = record.variants.iter().filter(is_announced).filter_map(|recorded| {
            let mut stored = Stored::from(recorded.clone());
            match self.replica.judge(key, &stored.response, stored.fence) {
                Verdict::Removed => return None,
                Verdict::Expired(expired) => stored.expired = Some(expired),
                Verdict::Untouched => {}
            }
            self.clocks.put_right(&mut stored.response, recorded.ahead);
            Some(stored)
        });
        judged.collect()
    }

    /// By which connection what is under a key is sent: always the same, where that has a connection of its own.
    fn link_of(&self, key: &CacheKey) -> Link {
        match self.config.connections {
            1 => self.link.clone(),
            _ => self.link.of(self.names.hash(key.as_bytes())),
        }
    }

    pub(super) fn contents(&self, key: &CacheKey) -> Contents {
        let Inner { config, names, .. } = self;
        let prefix = format!("{}.{FORMAT}:b{}", config.namespace, names.slot(key));
        Contents { limit: config.content_deadline, link: self.link_of(key), most: config.max_object, prefix }
    }

    /// The deadline of a call that sends content, around all its steps. What it has to wait for here says nothing of the link.
    pub(super) fn content_deadline(&self) -> ContentDeadline {
        let limit = self.config.content_deadline;
        ContentDeadline { deadline: Deadline::new(limit), limit }
    }

    /// Writes a response before the others of its key.
    pub(super) async fn write(
        self: &Arc<Self>,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
        replaces: &Replaces,
    ) -> Result<PutOutcome, LinkError> {
        let writer = usize::try_from(self.names.hash(key.as_bytes()) % WRITERS as u128).unwrap_or_default();
        let _turn = self.writers[writer].lock().await;
        let mut answers_for_others = response.may_answer_for_other_queries();
        // Until this has been answered nothing is written: a purge that comes then finds that it has something to purge.
        let announced = self.announce(key, &response, answers_for_others);
        let found = self.find(key, self.config.content_deadline);
        let (announced, found) = both(announced, found).await;
        let (announced, mut found) = (announced?, found?);
        self.catch_up_to(announced.state).await?;
        if is_noted(&announced, fence) {
            return Ok(PutOutcome::Superseded);
        }
        let order = self.tokens.of(key);
        let new = Recorded::new(StoredId::from_bits(announced.state.clock), fence, response);
        let response = Recorded { ahead: self.clocks.ahead(), order, ..new };
        for _ in 0..ATTEMPTS {
            let mut variants = found.record.variants.iter();
            if !answers_for_others
                && variants.any(|recorded| recorded.response.may_answer_for_other_queries())
            {
                // It may live for longer now, in a record with this one.
                answers_for_others = true;
                self.announce(key, &response.response, true).await?;
            }
            let present = self.judged(key, &found.record);
            let Some((list, time)) = self.merged(key, &response, &present, &found.record, replaces) else {
                return Ok(PutOutcome::Superseded);
            };
            let record = Record::new(random(), list);
            let bytes = record.encode(key).map_err(|error| LinkError::bad(error.to_string()))?;
            match self.swap(key, &found.compared, &bytes, time).await? {
                Value::Int(_) => {
                    self.let_go(key, &found.record, &record).await;
                    return Ok(PutOutcome::Stored);
                }
                now => found = Found::read(key, now)?,
            }
            if bytes.starts_with(&found.compared) && found.compared.len() == COMPARED {
                // It was sent twice.
                return Ok(PutOutcome::Stored);
            }
        }
        Err(LinkError::bad("other nodes write the same record all the time"))
    }

    /// Says to the log that a response will be under a key, for as long as it is of use.
    async fn announce(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        answers_for_others: bool,
    ) -> Result<Announced, LinkError> {
        let uris = self.replica.uris(key, answers_for_others);
        let time = self.time_of_use(response.head()).saturating_add(LINGER);
        self.log.announce_or_look(&uris, Some(time)).await
    }

    /// Whether a purge since the fence may concern a response on its way that the log has no entry of. All entries are known then.
    pub(super) async fn is_noted(self: &Arc<Self>, key: &CacheKey, since: Fence) -> Result<bool, LinkError> {
        let announced = self.log.announce_or_look(&self.replica.uris(key, false), None).await?;
        self.catch_up_to(announced.state).await?;
        Ok(is_noted(&announced, since))
    }

    async fn swap(
        &self,
        key: &CacheKey,
        compared: &[u8],
        bytes: &[u8],
        time: Duration,
    ) -> Result<Value, LinkError> {
        let (name, time) = (self.names.of(key), milliseconds(time).to_string());
        let arguments = [compared, bytes, time.as_bytes()];
        let link = self.link_of(key);
        link.run(&self.swap, &[name.as_bytes()], &arguments, self.config.content_deadline).await
    }

    /// The responses of a new record, the newest first, and how long it is of use; `None` where the response is not to be stored.
    fn merged(
        &self,
        key: &CacheKey,
        new: &Recorded,
        present: &[Stored],
        record: &Record,
        replaces: &Replaces,
    ) -> Option<(Vec<Recorded>, Duration)> {
        let verdict = self.replica.judge(key, &new.response, new.fence);
        if verdict == Verdict::Removed {
            return None;
        }
        let only_replaces = matches!(replaces, Replaces::Id(_));
        let selecting = &new.response.head().reuse().selecting;
        let replaces = |stored: &Stored| match replaces {
            Replaces::Id(id) => stored.id == *id,
            Replaces::SameSelection => stored.response.head().reuse().selecting == *selecting,
        };
        // As it is written, whatever its times are by the clock of this node.
        let recorded = |stored: &Stored| record.variants.iter().find(|recorded| recorded.id == stored.id);
        let order = |stored: &Stored| recorded(stored).map_or(0, |recorded| recorded.order);
        // What was asked for before a soft purge does not replace what was asked for after it, and nothing replaces what is
        // newer.
        let is_newer = |stored: &Stored| {
            (verdict != Verdict::Untouched && stored.fence.bits() > new.fence.bits())
                || (stored.expired.is_none() && new.response.is_older_than(&stored.response))
                // Of two calls with leases, the first one made does not replace what the second one brought.
                || (stored.expired.is_none() && new.order > 0 && order(stored) > new.order)
        };
        let is_missing = only_replaces && !present.iter().any(&replaces);
        if is_missing || present.iter().any(|stored| replaces(stored) && is_newer(stored)) {
            return None;
        }
        let now = new.response.head().reuse().response_time;
        let mut size = new.response.weight();
        let most = usize::try_from(self.config.inline.saturating_mul(4)).unwrap_or(usize::MAX);
        let most = most.clamp(*RECORD.start(), *RECORD.end());
        let mut list = vec![new.clone()];
        let mut longest = self.time_left(&new.response, new);
        for stored in present.iter().filter(|stored| !replaces(stored) && !stored.is_gone(now)) {
            size += stored.response.weight();
            if list.len() >= self.config.max_variants || size > most {
                break; // the rest is older
            }
            let time = self.time_left(&stored.response, new);
            if let Some(recorded) = recorded(stored).filter(|_| !time.is_zero()) {
                list.push(recorded.clone());
                longest = longest.max(time);
            }
        }
        Some((list, longest))
    }

    /// How long a response is of use from the reception of the new one on. The store reads no clock: by the times of messages.
    fn time_left(&self, response: &StoredResponse, new: &Recorded) -> Duration {
        let (reuse, now) = (response.head().reuse(), new.response.head().reuse().response_time);
        let time = self.time_of_use(response.head());
        match now.duration_since(reuse.response_time) {
            Ok(since) => time.saturating_sub(since),
            Err(until) => time.saturating_add(until.duration()),
        }
    }

    /// How long a response is of use after its reception.
    pub(super) fn time_of_use(&self, head: &ResponseHead) -> Duration {
        let reuse = head.reuse();
        let stale =
            self.config.keep.max(reuse.stale_while_revalidate).max(reuse.stale_if_error.unwrap_or_default());
        reuse.lifetime.saturating_sub(reuse.initial_age).saturating_add(stale)
    }

    /// Content of which the new record says nothing goes when those who read it have ended.
    async fn let_go(&self, key: &CacheKey, before: &Record, after: &Record) {
        let remote = |recorded: &Recorded| recorded.response.payload().as_remote();
        let kept: Vec<_> = after.variants.iter().filter_map(remote).collect();
        for content in before.variants.iter().filter_map(remote).filter(|content| !kept.contains(content)) {
            // Where that fails it goes when its time is over.
            let _ = self.contents(key).expire(content, LINGER).await;
        }
    }

    pub(super) async fn freshen(
        self: &Arc<Self>,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> Result<PutOutcome, LinkError> {
        let found = self.find(key, self.config.content_deadline).await?;
        let Some(recorded) = found.record.variants.iter().find(|recorded| recorded.id == of) else {
            return Ok(PutOutcome::Superseded);
        };
        let payload = recorded.response.payload().clone();
        if let Some(content) = payload.as_remote() {
            let time = self.time_of_use(&head).saturating_add(LINGER);
            if !self.contents(key).expire(content, time).await? {
                return Ok(PutOutcome::Superseded);
            }
        }
        self.write(key, StoredResponse::new(head, payload), fence, &Replaces::Id(of)).await
    }
}
