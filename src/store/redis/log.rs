//! The log of purges in Redis, and what was announced to it. Its keys and their layout: `log_scripts.rs`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Value, cmd};

use super::batches::Batches;
use super::clocks::Clocks;
use super::config::{RedisConfig, Replicas};
use super::content::milliseconds;
use super::error::{LinkError, is_told_by_replica};
use super::link::{LONGEST_WAIT, Link};
use super::log_scripts::{KEYS, LogScript};
use super::scripts::Script;
use crate::error::StoreError;
use crate::runtime::Deadline;
use crate::store::log::{
    Announced, Appended, LogEntry, LogPage, LogState, Lost, Mark, MarkTable, NewEntry, PurgeLog,
};
use crate::store::random::random;
use crate::store::record::FORMAT;

/// How many entries the stream keeps; a few hundred more, as it is trimmed by whole nodes.
const LENGTH: &str = "65536";
/// The most fields of the table: two for each place, and some thousand prefixes. A table that has more is lost.
const FIELDS: &str = "136000";
/// The most entries of a page.
const PAGE: usize = 1_000;

/// The log of purges of a [`RedisStore`](super::RedisStore), for a near tier that follows it: each that the store
/// gives has a connection of its own for long polls.
#[derive(Clone)]
pub struct RedisLog {
    /// Its entries do not wait for those of others.
    is_alone: bool,
    link: Link,
    shared: Arc<Shared>,
}

struct Shared {
    announce: LogScript,
    append: LogScript,
    batches: Batches,
    clocks: Arc<Clocks>,
    /// How long a call may take.
    deadline: Duration,
    /// As the scripts get them.
    keys: [Box<[u8]>; KEYS.len()],
    /// How long it may take to load the table.
    load: Duration,
    read: LogScript,
    replicas: Option<Replicas>,
    state: LogScript,
    /// How many connections there were when a server knew no flags of scripts: the next one may lead to another server. So many that
    /// there never are where none has said so.
    plain_at: AtomicU64,
    timed_state: LogScript,
}

impl RedisLog {
    pub(super) fn new(link: Link, config: &RedisConfig, load: Duration, clocks: Arc<Clocks>) -> Self {
        let RedisConfig { deadline, namespace, replicas, .. } = config;
        let shared = Shared {
            announce: LogScript::announce(),
            append: LogScript::append(),
            batches: Batches::default(),
            clocks,
            deadline: *deadline,
            keys: KEYS.map(|name| key(namespace, name).into_bytes().into_boxed_slice()),
            load,
            read: LogScript::read(),
            replicas: *replicas,
            state: LogScript::state(),
            plain_at: AtomicU64::new(u64::MAX),
            timed_state: LogScript::timed_state(),
        };
        Self { is_alone: false, link, shared: Arc::new(shared) }
    }

    /// The log for what has to be done before the breaker closes.
    pub(super) fn anyway(&self) -> Self {
        Self { is_alone: true, link: self.link.anyway(), shared: Arc::clone(&self.shared) }
    }

    /// The log with a connection of its own for long polls, as those on one wait for each other.
    pub(super) fn with_own_polls(&self) -> Self {
        Self { link: self.link.with_own_polls(), ..self.clone() }
    }

    /// Whether the clock of this node is to be compared with the server's, which [`RedisLog::glance`] does.
    pub(super) fn is_time_due(&self) -> bool {
        self.shared.clocks.are_due(self.link.made())
    }

    /// The state, and the server's time where that is due.
    pub(super) async fn glance(&self) -> Result<LogState, LinkError> {
        let clocks = &self.shared.clocks;
        if !clocks.are_due(self.link.made()) {
            return self.glance_at_state().await;
        }
        let asked = clocks.here();
        match self.run(&self.shared.timed_state, &[], None).await {
            Ok(Value::Array(values)) if values.len() == 2 => {
                if let Value::Int(time) = values[1] {
                    clocks.compare(asked, Some(time), self.link.made());
                }
                state_of(&values[0])
            }
            Ok(other) => Err(LinkError::bad(format!("{other:?} as the state of the log and the time"))),
            // The server was a primary before, and purges of others come to it late or never.
            Err(LinkError::Refused(why)) if is_told_by_replica(&why) => Err(LinkError::Refused(why)),
            // A user who may not ask for the time: the clocks are not compared.
            Err(LinkError::Refused(why)) => {
                if may_not(&why) {
                    clocks.compare(asked, None, self.link.made());
                }
                self.glance_at_state().await
            }
            Err(error) => Err(error),
        }
    }

    /// The state by one plain command, as long as there is a log.
    async fn glance_at_state(&self) -> Result<LogState, LinkError> {
        let mut command = cmd("GET");
        command.arg(&*self.shared.keys[0]);
        match self.link.send(&command, self.shared.deadline).await? {
            Value::BulkString(text) => match read_state(&text) {
                Some(state) => Ok(state),
                None => self.begin().await,
            },
            Value::Nil => self.begin().await,
            other => Err(LinkError::bad(format!("{other:?} to GET"))),
        }
    }

    /// The state, and what is under these names, in their order: by one command, where all keys are on one server. What is no text
    /// there is nothing.
    pub(super) async fn glance_with(&self, names: &[&str]) -> Result<(LogState, Vec<Value>), LinkError> {
        let mut command = cmd("MGET");
        command.arg(&*self.shared.keys[0]).arg(names);
        let mut values = match self.link.send(&command, self.shared.deadline).await? {
            Value::Array(values) if values.len() == names.len() + 1 => values,
            other => return Err(LinkError::bad(format!("{other:?} to MGET"))),
        };
        let state = match &values[0] {
            Value::BulkString(text) => read_state(text),
            _ => None,
        };
        let state = match state {
            Some(state) => state,
            None => self.begin().await?,
        };
        values.remove(0);
        Ok((state, values))
    }

    async fn begin(&self) -> Result<LogState, LinkError> {
        state_of(&self.run(&self.shared.state, &[], None).await?)
    }

    async fn run(
        &self,
        script: &LogScript,
        more: &[&[u8]],
        replicas: Option<Replicas>,
    ) -> Result<Value, LinkError> {
        let incarnation = format!("{:016x}", random().max(1));
        let arguments: Vec<&[u8]> =
            [incarnation.as_bytes()].into_iter().chain(more.iter().copied()).collect();
        let (plain_at, made) = (&self.shared.plain_at, self.link.made());
        if plain_at.load(Ordering::Relaxed) != made {
            match self.run_form(&script.modern, &arguments, replicas).await {
                Err(LinkError::Refused(why)) if why.contains("compil") => {
                    plain_at.store(self.link.made(), Ordering::Relaxed);
                }
                ended => return ended,
            }
        }
        self.run_form(&script.plain, &arguments, replicas).await
    }

    async fn run_form(
        &self,
        script: &Script,
        arguments: &[&[u8]],
        replicas: Option<Replicas>,
    ) -> Result<Value, LinkError> {
        let Shared { deadline, keys, .. } = &*self.shared;
        let keys = keys.each_ref().map(|key| &**key);
        match replicas {
            Some(replicas) => self.link.run_and_wait(script, &keys, arguments, *deadline, replicas).await,
            None => self.link.run(script, &keys, arguments, *deadline).await,
        }
    }

    /// Adds entries in this order by one call, and says of each what became of it.
    pub(super) async fn add(&self, entries: &[NewEntry]) -> Result<Vec<Appended>, LinkError> {
        let mut words = vec![LENGTH.to_owned().into_bytes(), FIELDS.to_owned().into_bytes()];
        entries.iter().for_each(|entry| push_entry(&mut words, entry));
        let arguments: Vec<_> = words.iter().map(Vec::as_slice).collect();
        match self.run(&self.shared.append, &arguments, self.shared.replicas).await? {
            Value::Array(values) if values.len() == 2 * entries.len() => {
                values.chunks_exact(2).map(|ended| appended_of(&ended[0], &ended[1])).collect()
            }
            other => Err(LinkError::bad(format!("{other:?} to a purge"))),
        }
    }

    async fn add_in_time(&self, entry: &NewEntry) -> Result<Appended, LinkError> {
        if self.is_alone {
            let ended = self.add(std::slice::from_ref(entry)).await?;
            return ended.into_iter().next().ok_or_else(|| LinkError::bad("nothing to a purge"));
        }
        // The call before may still be on its way: the deadline is around both.
        let waiting = self.shared.replicas.map_or(Duration::ZERO, |replicas| replicas.limit);
        let limit = self.shared.deadline.saturating_add(waiting);
        let ended = Deadline::new(limit).in_time(self.shared.batches.add(self, entry)).await;
        ended.unwrap_or(Err(LinkError::Slow(limit)))
    }

    /// Announces, or only looks.
    pub(super) async fn announce_or_look(
        &self,
        uris: &[u64],
        time: Option<Duration>,
    ) -> Result<Announced, LinkError> {
        let mut words =
            vec![time.map(|time| milliseconds(time).to_string()).unwrap_or_default().into_bytes()];
        uris.iter().for_each(|name| push_name(&mut words, *name));
        let arguments: Vec<_> = words.iter().map(Vec::as_slice).collect();
        match self.run(&self.shared.announce, &arguments, None).await? {
            Value::Array(values) if values.len() == 2 => {
                Ok(Announced::new(state_of(&values[0])?, number_of(&values[1])?))
            }
            other => Err(LinkError::bad(format!("{other:?} to an announcement"))),
        }
    }

    async fn read(&self, number: u64) -> Result<LogPage, LinkError> {
        let (first, most) = (number.saturating_add(1).to_string(), PAGE.to_string());
        let page = self.run(&self.shared.read, &[first.as_bytes(), most.as_bytes()], None).await?;
        // Errors are written down by others, and what was purged is not for them.
        let bad = || LinkError::bad("something else than a page to a reading of the log");
        let Value::Array(values) = &page else { return Err(bad()) };
        let [state, Value::Array(entries)] = &values[..] else { return Err(bad()) };
        let state = state_of(state)?;
        Ok(LogPage::new(entries_of(entries, number, state), state))
    }
}

impl PurgeLog for RedisLog {
    async fn append(&self, entry: &NewEntry) -> Result<Appended, StoreError> {
        let unsure = Unsure(Some(&self.link));
        let appended = self.add_in_time(entry).await;
        if appended.is_ok() {
            unsure.has_arrived();
        }
        appended.map_err(|error| error.to("invalidate"))
    }

    async fn read_after(&self, number: u64, wait: Duration) -> Result<LogPage, StoreError> {
        const ACTION: &str = "read the log of purges";
        if !wait.is_zero() {
            let mut command = cmd("XREAD");
            command.arg("COUNT").arg(1).arg("BLOCK").arg(wait.as_millis().clamp(1, LONGEST_WAIT).to_string());
            command.arg("STREAMS").arg(&*self.shared.keys[1]).arg(format!("{number}-0"));
            // What it gives is read once more, together with the state.
            let waited = self.link.send_blocking(&command, self.shared.deadline.saturating_add(wait)).await;
            waited.map_err(|error| error.to(ACTION))?;
        }
        self.read(number).await.map_err(|error| error.to(ACTION))
    }

    async fn state(&self) -> Result<LogState, StoreError> {
        self.glance().await.map_err(|error| error.to("read the log of purges"))
    }

    async fn table(&self) -> Result<Option<MarkTable>, StoreError> {
        let mut command = cmd("HGETALL");
        command.arg(&*self.shared.keys[2]);
        let table = self.link.send(&command, self.shared.load).await.map(|value| table_of(&value));
        table.map_err(|error| error.to("load the table of purges"))
    }

    async fn announce(&self, uris: &[u64], time: Option<Duration>) -> Result<Announced, StoreError> {
        self.announce_or_look(uris, time).await.map_err(|error| error.to("announce to the log of purges"))
    }
}

/// A purge that may not have arrived, also where nobody waits for it any more. Whoever has asked for it keeps it, and appends it again
/// when the log can be read.
struct Unsure<'a>(Option<&'a Link>);

impl Unsure<'_> {
    fn has_arrived(mut self) {
        self.0 = None;
    }
}

impl Drop for Unsure<'_> {
    fn drop(&mut self) {
        if let Some(link) = self.0 {
            link.tend();
        }
    }
}

impl fmt::Debug for RedisLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = String::from_utf8_lossy(&self.shared.keys[1]);
        f.debug_struct("RedisLog").field("name", &name).finish_non_exhaustive()
    }
}

fn key(namespace: &str, name: &str) -> String {
    format!("{{{namespace}.{FORMAT}}}:{name}")
}

/// Reads the state, at the server that has the log: without that one nothing is known of anything.
pub(super) fn probe(namespace: &str) -> Cmd {
    let mut command = cmd("GET");
    command.arg(key(namespace, KEYS[0]));
    command
}

fn text(value: &Value) -> Result<&[u8], LinkError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.as_bytes()),
        other => Err(LinkError::bad(format!("{other:?} in the log of purges"))),
    }
}

fn number<T: FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The greatest number that a script counts up to exactly, which its clock shows in the year 2255. What is greater is of no script.
const GREATEST: u64 = 1 << 53;

fn log_number(text: &[u8]) -> Option<u64> {
    number(text).filter(|number| *number <= GREATEST)
}

fn number_of(value: &Value) -> Result<u64, LinkError> {
    log_number(text(value)?).ok_or_else(|| LinkError::bad(format!("{value:?} in the log of purges")))
}

fn state_of(value: &Value) -> Result<LogState, LinkError> {
    read_state(text(value)?).ok_or_else(|| LinkError::bad(format!("{value:?} as the state of the log")))
}

/// Whether a server says that the user has no right to a command; before 7.0 it has other words for that in a script.
fn may_not(why: &str) -> bool {
    why.contains("NOPERM") || why.contains("can't run this command")
}

fn read_state(state: &[u8]) -> Option<LogState> {
    let mut parts = std::str::from_utf8(state).ok()?.split(':');
    let incarnation = u64::from_str_radix(parts.next()?, 16).ok()?;
    let (base, last) = (log_number(parts.next()?.as_bytes())?, log_number(parts.next()?.as_bytes())?);
    let (clock, lost) = (log_number(parts.next()?.as_bytes())?, read_lost(parts.next()?)?);
    parts.next().is_none().then(|| LogState::new(incarnation, base, last).clock(clock).lost(lost))
}

fn read_lost(gaps: &str) -> Option<Lost> {
    gaps.split(',').filter(|gap| !gap.is_empty()).try_fold(Lost::default(), |lost, gap| {
        let (after, until) = gap.split_once('-')?;
        Some(lost.and(log_number(after.as_bytes())?, log_number(until.as_bytes())?))
    })
}

fn appended_of(state: &Value, predecessor: &Value) -> Result<Appended, LinkError> {
    let state = state_of(state)?;
    match text(predecessor)? {
        b"" => Ok(Appended::noted(state)),
        _ => Ok(Appended::new(number_of(predecessor)?, state)),
    }
}

fn push_entry(words: &mut Vec<Vec<u8>>, entry: &NewEntry) {
    let drops = if entry.marks.iter().any(Mark::is_hard_of_everything) { b"1" } else { b"0" };
    words.extend([entry.above.to_string().into_bytes(), drops.to_vec(), entry.purge.to_vec()]);
    words.push(entry.marks.len().to_string().into_bytes());
    words.extend(entry.marks.iter().map(Mark::to_bytes));
    words.push(entry.asks.len().to_string().into_bytes());
    for asked in &entry.asks {
        push_name(words, asked.uri);
        push_name(words, asked.path);
    }
}

/// Its low half and its high one: a script has numbers of 53 bits.
fn push_name(words: &mut Vec<Vec<u8>>, name: u64) {
    words.push((name & u64::from(u32::MAX)).to_string().into_bytes());
    words.push((name >> 32).to_string().into_bytes());
}

/// The entries of a page, the first of which follows the number `after`. What no script has written is none where its id is no number
/// of this log, and otherwise a purge of everything: nobody knows what was purged, nor what was trimmed before it.
fn entries_of(values: &[Value], after: u64, state: LogState) -> Vec<LogEntry> {
    let mut before = after;
    let entry = |value| {
        let (number, fields) = fields_of(value)?;
        let field = |name: &[u8]| {
            let mut pairs = fields.chunks_exact(2);
            pairs
                .find(|pair| text(&pair[0]).is_ok_and(|own| own == name))
                .and_then(|pair| text(&pair[1]).ok())
        };
        let entry = match field(b"p").and_then(log_number) {
            Some(predecessor) => {
                let purge = Bytes::copy_from_slice(field(b"t").unwrap_or_default());
                LogEntry::new(number, predecessor, purge)
            }
            None if number <= state.last => LogEntry::new(number, before, Bytes::new()),
            None => return None,
        };
        before = number;
        Some(entry)
    };
    values.iter().filter_map(entry).collect()
}

fn fields_of(value: &Value) -> Option<(u64, &[Value])> {
    let Value::Array(parts) = value else { return None };
    let [id, Value::Array(fields)] = &parts[..] else { return None };
    Some((text(id).ok()?.strip_suffix(b"-0").and_then(log_number)?, fields))
}

/// `None` where it can't be read, which is as if it were lost.
fn table_of(value: &Value) -> Option<MarkTable> {
    let pairs: Vec<(&Value, &Value)> = match value {
        Value::Map(pairs) => pairs.iter().map(|(field, value)| (field, value)).collect(),
        Value::Array(list) => list.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect(),
        _ => return None,
    };
    let (mut incarnation, mut marks) = (None, Vec::with_capacity(pairs.len()));
    for (field, value) in pairs {
        match (text(field).ok()?, text(value).ok()?) {
            (b"i", digits) => incarnation = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok(),
            (mark, digits) => marks.push((Mark::from_bytes(mark), log_number(digits)?)),
        }
    }
    Some(MarkTable::new(incarnation?, marks))
}
