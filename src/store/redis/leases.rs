//! Leases in Redis: one call for all nodes of a namespace.
//!
//! ```text
//! NS.F:w{URI}NAME   string   OWNER, `f` after a failure, or `n` where a call's result can't be shared; with a time to live
//! NS.F:w{URI}NAME:q string   `1` if somebody waits for its end; the OWNER that has ended it, for a moment
//! NS.F:c{URI}KEY    string   the last token of the key
//! {NS.F}:d          stream   w NAME  e END    ends that somebody waits for, trimmed to about the last 4,096
//! ```
//!
//! A lease is renewed at a third of its time as long as it is held. Whoever waits for its end listens to the stream before it looks
//! at the lease once more, so no end is missed; and where the time of a lease is over, it looks again, so a node that has died costs
//! no more than that time. All else is a matter of fences.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::{Value, cmd};
use tokio::sync::{oneshot, watch};

use super::content::milliseconds;
use super::error::LinkError;
use super::inner::Inner;
use super::scripts::Script;
use crate::entry::key::CacheKey;
use crate::runtime::{Deadline, Mutex, Runtime, lock, pause};
use crate::store::content::BoxFuture;
use crate::store::random::random;
use crate::store::record::FORMAT;
use crate::store::{Lease, LeaseAnswer, LeaseEnd, LeaseName, LeaseState, Leases};

/// KEYS: lease, token. ARGV: owner, milliseconds. `{1, token}`, or `{0, what is there, milliseconds}`. A token is the server's time in
/// microseconds or one more than the last, so it grows also where the last one is forgotten. What has no time to live is no lease.
const ASK: &str = "
local now = redis.call('GET', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if now and now ~= ARGV[1] and left >= 0 then
  redis.call('SET', KEYS[1] .. ':q', 1, 'PX', math.max(left, 1) + 60000)
  return {0, now, left}
end
local time = redis.call('TIME')
local token = math.max(time[1] * 1000000 + time[2], tonumber(redis.call('GET', KEYS[2]) or 0) + 1)
token = string.format('%.0f', token)
redis.call('SET', KEYS[2], token, 'PX', 86400000)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1, token}
";
/// KEYS: lease. ARGV: owner, milliseconds. 0 where the lease is lost.
const RENEW: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
";
/// KEYS: lease. ARGV: owner, what stays in its place or nothing, milliseconds. Whether somebody waits: also where it is sent once more,
/// as its answer was lost. Those who wait for a later lease are not told.
const END: &str = "
local now, waits = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[1] .. ':q')
if now == ARGV[1] then
  if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
elseif waits == ARGV[1] then
  return 1
elseif now then
  return 0
end
if waits ~= '1' then return 0 end
redis.call('SET', KEYS[1] .. ':q', ARGV[1], 'PX', 10000)
return 1
";
/// KEYS: lease. ARGV: `1` for one who waits for its end. What is there, and milliseconds.
const LOOK: &str = "
local now, left = redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])
if ARGV[1] == '1' and now and left >= 0 then
  redis.call('SET', KEYS[1] .. ':q', 1, 'PX', math.max(left, 1) + 60000)
end
return {now, left}
";

const FAILED: &str = "f";
const NOT_SHAREABLE: &str = "n";

/// How long a node that listens waits for an end in one call.
const POLL: Duration = Duration::from_secs(1);
/// How many ends the stream keeps; a node that misses some looks again when the leases' time is over.
const ENDS: &str = "4096";

/// The leases of a [`RedisStore`](super::RedisStore), by [`RedisStore::leases`](super::RedisStore::leases).
///
/// One command more for a miss, and two more when its result is stored. Clones are the same leases.
#[derive(Clone)]
pub struct RedisLeases {
    desk: Arc<Desk>,
    time: Duration,
}

impl RedisLeases {
    pub(super) fn new(desk: Arc<Desk>) -> Self {
        Self { desk, time: Duration::from_secs(3) }
    }

    /// How long a lease lasts that is not renewed; default 3 s. A node that dies keeps others from making its calls for that long
    /// at most.
    #[must_use]
    pub fn time(mut self, time: Duration) -> Self {
        self.time = time.max(Duration::from_millis(10));
        self
    }
}

impl RedisLeases {
    /// Waits until this node holds no lease, and has told the servers of the ends of all that it had. A process that is about to end
    /// does so, and no other node waits for it in vain. There is no time limit: put one around it.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use larder::store::RedisStore;
    /// let leases = RedisStore::new("redis://127.0.0.1:6379".parse()?)?.leases();
    /// // Serve with these leases, and then:
    /// let _ = tokio::time::timeout(Duration::from_millis(500), leases.given_back()).await;
    /// # Ok::<(), larder::store::InvalidRedisConfig>(())
    /// # }).unwrap();
    /// ```
    pub async fn given_back(&self) {
        // The sender is in the desk, so it does not end.
        let _ = self.desk.outstanding.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Leases for RedisLeases {
    fn ask<'a>(&'a self, name: LeaseName<'a>) -> BoxFuture<'a, LeaseAnswer> {
        Box::pin(async move {
            let asked = self.desk.ask(name, self.time).await;
            asked.map_err(|error| error.to("ask for a lease"))
        })
    }

    fn look<'a>(&'a self, name: LeaseName<'a>) -> BoxFuture<'a, LeaseState> {
        Box::pin(async move {
            let found = self.desk.look(&self.desk.name(name), false).await;
            let state = found.map(|(there, left)| match there {
                There::Held => LeaseState::Held,
                There::Ended(LeaseEnd::Failed(_)) => LeaseState::Resting(left),
                There::Ended(LeaseEnd::NotShareable(_)) => LeaseState::NotShareable(left),
                There::Ended(LeaseEnd::Over) => LeaseState::Free,
            });
            state.map_err(|error| error.to("look at a lease"))
        })
    }
}

impl std::fmt::Debug for RedisLeases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisLeases").field("time", &self.time).finish_non_exhaustive()
    }
}

/// What a node knows of leases: the tokens of its own, and who waits for the ends of others'.
pub(super) struct Desk {
    inner: Arc<Inner>,
    listening: Mutex<Listening>,
    /// How many leases are held, or have ended without the servers knowing.
    outstanding: watch::Sender<usize>,
    scripts: Scripts,
    stream: String,
}

/// Counts as outstanding for as long as it is there.
struct Outstanding(Arc<Desk>);

impl Outstanding {
    fn at(desk: &Arc<Desk>) -> Self {
        desk.outstanding.send_modify(|count| *count += 1);
        Self(Arc::clone(desk))
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.0.outstanding.send_modify(|count| *count -= 1);
    }
}

struct Scripts {
    ask: Script,
    end: Script,
    look: Script,
    renew: Script,
}

#[derive(Default)]
struct Listening {
    /// Whether a task reads the stream, and has begun to: `None` where there is none.
    begun: Option<watch::Receiver<bool>>,
    waiting: HashMap<String, Vec<oneshot::Sender<LeaseEnd>>>,
}

/// What is there in place of a lease.
enum There {
    Held,
    Ended(LeaseEnd),
}

impl There {
    fn of(value: &Value, left: &Value) -> Result<(Self, Duration), LinkError> {
        let left = match left {
            Value::Int(..0) => return Ok((Self::Ended(LeaseEnd::Over), Duration::ZERO)),
            Value::Int(left) => Duration::from_millis(u64::try_from(*left).unwrap_or_default()),
            other => return Err(LinkError::bad(format!("{other:?} as the time of a lease"))),
        };
        let there = match value {
            Value::Nil => Self::Ended(LeaseEnd::Over),
            Value::BulkString(text) if text == FAILED.as_bytes() => Self::Ended(LeaseEnd::Failed(left)),
            Value::BulkString(text) if text == NOT_SHAREABLE.as_bytes() => {
                Self::Ended(LeaseEnd::NotShareable(left))
            }
            Value::BulkString(_) => Self::Held,
            other => return Err(LinkError::bad(format!("{other:?} as a lease"))),
        };
        Ok((there, left))
    }
}

impl Desk {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        let stream = format!("{{{}.{FORMAT}}}:d", inner.config.namespace);
        let [ask, end, look, renew] = [ASK, END, LOOK, RENEW].map(Script::new);
        let (outstanding, scripts) = (watch::Sender::new(0), Scripts { ask, end, look, renew });
        Self { inner, listening: Mutex::default(), outstanding, scripts, stream }
    }

    fn name(&self, name: LeaseName<'_>) -> String {
        let LeaseName { has_credentials, key, variant } = name;
        let Inner { config, names, .. } = &*self.inner;
        let length = (key.as_bytes().len() as u64).to_le_bytes();
        let kind = [u8::from(has_credentials), u8::from(variant.is_some())];
        let bytes = [&length[..], key.as_bytes(), &kind, variant.unwrap_or_default()].concat();
        format!("{}.{FORMAT}:w{}{:032x}", config.namespace, names.slot(key), names.hash(&bytes))
    }

    fn token_name(&self, key: &CacheKey) -> String {
        let Inner { config, names, .. } = &*self.inner;
        format!("{}.{FORMAT}:c{}{:032x}", config.namespace, names.slot(key), names.hash(key.as_bytes()))
    }

    async fn run(&self, script: &Script, keys: &[&str], arguments: &[&str]) -> Result<Value, LinkError> {
        let keys: Vec<_> = keys.iter().map(|key| key.as_bytes()).collect();
        let arguments: Vec<_> = arguments.iter().map(|argument| argument.as_bytes()).collect();
        self.inner.link.run(script, &keys, &arguments, self.inner.config.deadline).await
    }

    async fn ask(self: &Arc<Self>, name: LeaseName<'_>, time: Duration) -> Result<LeaseAnswer, LinkError> {
        let (lease, token) = (self.name(name), self.token_name(name.key));
        let owner = format!("{:016x}", random());
        let limit = milliseconds(time).to_string();
        let mut asked = HeldLease::asked_for(self, &lease, &owner);
        let answer = match self.run(&self.scripts.ask, &[&lease, &token], &[&owner, &limit]).await {
            Err(error @ (LinkError::Open | LinkError::Refused(_))) => {
                asked.is_not_held();
                return Err(error);
            }
            ended => ended?,
        };
        let bad = || LinkError::bad(format!("{answer:?} to a question for a lease"));
        let Value::Array(values) = &answer else { return Err(bad()) };
        match &values[..] {
            [Value::Int(1), Value::BulkString(token)] => {
                let token = std::str::from_utf8(token).ok().and_then(|token| token.parse().ok());
                asked.has_token(name.key, token.ok_or_else(bad)?);
                asked.renew(time);
                Ok(LeaseAnswer::Granted(Box::new(asked)))
            }
            [Value::Int(0), there, left] => {
                asked.is_not_held();
                Ok(match There::of(there, left)? {
                    (There::Ended(LeaseEnd::Failed(rest)), _) => LeaseAnswer::Resting(rest),
                    (There::Ended(end), _) => LeaseAnswer::Held(Box::pin(std::future::ready(end))),
                    (There::Held, _) => LeaseAnswer::Held(Box::pin(Arc::clone(self).wait(lease))),
                })
            }
            _ => Err(bad()),
        }
    }

    /// Waits until a lease has ended, or its time is over. What nobody can tell counts as an end: the store knows more.
    async fn wait(self: Arc<Self>, lease: String) -> LeaseEnd {
        let (mut ended, mut begun) = self.listen(&lease);
        // An end that comes from now on is heard.
        if begun.wait_for(|begun| *begun).await.is_err() {
            return LeaseEnd::Over;
        }
        loop {
            let left = match self.look(&lease, true).await {
                Ok((There::Held, left)) => left,
                Ok((There::Ended(end), _)) => return end,
                Err(_) => return LeaseEnd::Over,
            };
            // When its time is over, it may have been renewed.
            if let Some(end) = Deadline::new(left.max(Duration::from_millis(1))).in_time(&mut ended).await {
                return end.unwrap_or(LeaseEnd::Over);
            }
        }
    }

    /// What is there. Whoever waits says so: another node may have got the lease since it was asked for, and tells of its end only
    /// if somebody waits.
    async fn look(&self, lease: &str, waits: bool) -> Result<(There, Duration), LinkError> {
        match self.run(&self.scripts.look, &[lease], &[if waits { "1" } else { "" }]).await? {
            Value::Array(values) if values.len() == 2 => There::of(&values[0], &values[1]),
            other => Err(LinkError::bad(format!("{other:?} to a look at a lease"))),
        }
    }

    /// Waits among those that a task tells of ends, which it begins where there is none.
    fn listen(self: &Arc<Self>, lease: &str) -> (oneshot::Receiver<LeaseEnd>, watch::Receiver<bool>) {
        let (end, ended) = oneshot::channel();
        let mut listening = lock(&self.listening);
        listening.waiting.entry(lease.to_owned()).or_default().push(end);
        if let Some(begun) = &listening.begun {
            return (ended, begun.clone());
        }
        let (begin, begun) = watch::channel(false);
        listening.begun = Some(begun.clone());
        drop(listening);
        let reader = Reader { begin, desk: Arc::downgrade(self), has_ended: false };
        match Runtime::current() {
            Some(runtime) => drop(runtime.spawn(reader.run())),
            None => drop(reader),
        }
        (ended, begun)
    }

    /// The last entry of the stream: what comes after it has not been read.
    async fn last_end(&self) -> Result<String, LinkError> {
        let mut command = cmd("XREVRANGE");
        command.arg(&self.stream).arg("+").arg("-").arg("COUNT").arg(1);
        let last = self.inner.link.send(&command, self.inner.config.deadline).await?;
        Ok(entries(&last).last().map_or_else(|| "0-0".to_owned(), |(id, ..)| (*id).to_owned()))
    }

    async fn ends_after(&self, last: &str) -> Result<Value, LinkError> {
        let mut command = cmd("XREAD");
        command.arg("COUNT").arg(1_000).arg("BLOCK").arg(milliseconds(POLL).to_string());
        command.arg("STREAMS").arg(&self.stream).arg(last);
        self.inner.link.send_listening(&command, self.inner.config.deadline + POLL).await
    }

    fn tell(&self, lease: &str, end: LeaseEnd) {
        let waiting = lock(&self.listening).waiting.remove(lease);
        for waiting in waiting.into_iter().flatten() {
            let _ = waiting.send(end); // its request may be gone
        }
    }

    /// Gives a lease back, and tells those that wait.
    async fn end(&self, lease: &str, owner: &str, end: LeaseEnd) -> Result<(), LinkError> {
        let (stays, time) = match end {
            LeaseEnd::Failed(rest) if !rest.is_zero() => (FAILED, rest),
            LeaseEnd::NotShareable(time) if !time.is_zero() => (NOT_SHAREABLE, time),
            _ => ("", Duration::ZERO),
        };
        let time = milliseconds(time).to_string();
        let ended = self.run(&self.scripts.end, &[lease], &[owner, stays, &time]).await?;
        if ended != Value::Int(0) {
            let mut command = cmd("XADD");
            command.arg(&self.stream).arg("MAXLEN").arg("~").arg(ENDS).arg("*");
            command.arg("w").arg(lease).arg("e").arg(written(end));
            self.inner.link.send(&command, self.inner.config.deadline).await?;
        }
        Ok(())
    }
}

fn written(end: LeaseEnd) -> String {
    match end {
        LeaseEnd::Failed(rest) => format!("{FAILED}{}", milliseconds(rest)),
        LeaseEnd::NotShareable(time) => format!("{NOT_SHAREABLE}{}", milliseconds(time)),
        LeaseEnd::Over => "o".to_owned(),
    }
}

/// An end that a later version has written is one: the store knows more.
fn read(end: &str) -> LeaseEnd {
    let time = || end.get(1..).and_then(|time| time.parse().ok()).map(Duration::from_millis);
    match (end.get(..1), time()) {
        (Some(FAILED), Some(rest)) => LeaseEnd::Failed(rest),
        (Some(NOT_SHAREABLE), Some(time)) => LeaseEnd::NotShareable(time),
        _ => LeaseEnd::Over,
    }
}

/// The entries of a stream, with their fields.
fn entries(value: &Value) -> Vec<(&str, Vec<&str>)> {
    fn text(value: &Value) -> Option<&str> {
        match value {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
    fn entry(entry: &Value) -> Option<(&str, Vec<&str>)> {
        match entry {
            Value::Array(parts) => match &parts[..] {
                [id, Value::Array(fields)] => Some((text(id)?, fields.iter().filter_map(text).collect())),
                _ => None,
            },
            _ => None,
        }
    }
    match value {
        Value::Array(list) => list.iter().filter_map(entry).collect(),
        _ => Vec::new(),
    }
}

/// What XREAD gives of its only stream: a map in RESP3, a list of pairs in RESP2.
fn of_stream(value: &Value) -> Option<&Value> {
    match value {
        Value::Map(streams) => streams.first().map(|(_, entries)| entries),
        Value::Array(streams) => match streams.first()? {
            Value::Array(pair) => pair.get(1),
            _ => None,
        },
        _ => None,
    }
}

/// Tells those that wait, as long as there are any.
struct Reader {
    begin: watch::Sender<bool>,
    desk: Weak<Desk>,
    has_ended: bool,
}

impl Reader {
    async fn run(mut self) {
        let Some(mut last) = self.first().await else { return };
        self.begin.send_replace(true);
        loop {
            let Some(desk) = self.desk.upgrade() else { return };
            {
                let mut listening = lock(&desk.listening);
                listening.waiting.retain(|_, waiting| {
                    waiting.retain(|waiting| !waiting.is_closed());
                    !waiting.is_empty()
                });
                if listening.waiting.is_empty() {
                    listening.begun = None;
                    self.has_ended = true;
                    return;
                }
            }
            let Ok(ends) = desk.ends_after(&last).await else {
                // Those that wait look again when the time of what they wait for is over.
                if !pause(POLL / 10).await {
                    return;
                }
                continue;
            };
            for (id, fields) in of_stream(&ends).map(entries).unwrap_or_default() {
                last = id.to_owned();
                let field = |name| fields.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| pair[1]);
                if let (Some(lease), Some(end)) = (field("w"), field("e")) {
                    desk.tell(lease, read(end));
                }
            }
        }
    }

    async fn first(&self) -> Option<String> {
        self.desk.upgrade()?.last_end().await.ok()
    }
}

/// Those that wait are told so by the end of what they wait for.
impl Drop for Reader {
    fn drop(&mut self) {
        if !self.has_ended
            && let Some(desk) = self.desk.upgrade()
        {
            let waiting = std::mem::take(&mut *lock(&desk.listening));
            drop(waiting);
        }
    }
}

/// A lease that is held, or may be: from when it is asked for, as the answer may be lost, and whoever has asked may be gone before it.
struct HeldLease {
    /// Until it has ended.
    alive: Option<Outstanding>,
    desk: Arc<Desk>,
    /// Where there is a token of it.
    key: Option<CacheKey>,
    name: String,
    owner: String,
    /// Dropped, it ends the task that renews the lease.
    renewed: Option<oneshot::Sender<()>>,
}

impl HeldLease {
    fn asked_for(desk: &Arc<Desk>, name: &str, owner: &str) -> Self {
        Self {
            alive: Some(Outstanding::at(desk)),
            desk: Arc::clone(desk),
            key: None,
            name: name.to_owned(),
            owner: owner.to_owned(),
            renewed: None,
        }
    }

    fn has_token(&mut self, key: &CacheKey, token: u64) {
        self.desk.inner.tokens.add(key, token);
        self.key = Some(key.clone());
    }

    /// The servers say so.
    fn is_not_held(&mut self) {
        self.alive = None;
    }

    /// Renews it in a task, as long as it is held.
    fn renew(&mut self, time: Duration) {
        let Some(runtime) = Runtime::current() else { return };
        let (renewed, mut ended) = oneshot::channel::<()>();
        self.renewed = Some(renewed);
        let (desk, name, owner) = (Arc::downgrade(&self.desk), self.name.clone(), self.owner.clone());
        let limit = milliseconds(time).to_string();
        drop(runtime.spawn(async move {
            // Without timers, that waits until it has ended.
            while Deadline::new(time / 3).in_time(&mut ended).await.is_none() {
                let Some(desk) = desk.upgrade() else { return };
                let renewed = desk.run(&desk.scripts.renew, &[&name], &[&owner, &limit]).await;
                if renewed.is_ok_and(|renewed| renewed == Value::Int(0)) {
                    return; // it is lost
                }
            }
        }));
    }

    fn give_back(&mut self, end: LeaseEnd) {
        self.renewed = None;
        if let Some(key) = self.key.take() {
            self.desk.inner.tokens.remove(&key);
        }
        let Some(outstanding) = self.alive.take() else { return };
        let (desk, name, owner) =
            (Arc::clone(&self.desk), std::mem::take(&mut self.name), std::mem::take(&mut self.owner));
        if let Some(runtime) = Runtime::current() {
            // Where that fails, its time is over soon.
            drop(runtime.spawn(async move {
                drop(desk.end(&name, &owner, end).await);
                drop(outstanding);
            }));
        }
    }
}

impl Lease for HeldLease {
    fn end(mut self: Box<Self>, end: LeaseEnd) {
        self.give_back(end);
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.give_back(LeaseEnd::Over);
    }
}

/// The tokens of the leases that this node holds: a call's result has the token of its lease.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<CacheKey, (u64, usize)>>);

impl Tokens {
    fn add(&self, key: &CacheKey, token: u64) {
        let mut tokens = lock(&self.0);
        let (last, leases) = tokens.entry(key.clone()).or_default();
        *last = token.max(*last);
        *leases += 1;
    }

    fn remove(&self, key: &CacheKey) {
        let mut tokens = lock(&self.0);
        if let Some((_, leases)) = tokens.get_mut(key) {
            *leases -= 1;
            if *leases == 0 {
                tokens.remove(key);
            }
        }
    }

    /// 0 where there is none.
    pub(super) fn of(&self, key: &CacheKey) -> u64 {
        lock(&self.0).get(key).map_or(0, |(token, _)| *token)
    }
}
