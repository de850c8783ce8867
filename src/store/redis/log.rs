//! The log of purges in Redis: three keys in one slot, without a time to live.
//!
//! ```text
//! {NS.F}:n   string   INCARNATION:BASE:LAST                     16 hexadecimal digits, two numbers
//! {NS.F}:l   stream   NUMBER-0  p PREDECESSOR  t PURGE          the entries, trimmed to about the last 65,536
//! {NS.F}:s   hash     i INCARNATION, and for each mark its last number
//! ```
//!
//! A number is the time of the server in microseconds, or one more than the last where that is greater. So a number that a failover
//! has lost is not given again, whatever the clocks are. Everything is read and written by scripts, each of which is one step.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use redis::{Value, cmd};

use super::config::Replicas;
use super::error::LinkError;
use super::link::Link;
use super::scripts::Script;
use crate::error::StoreError;
use crate::store::log::{Appended, LogEntry, LogPage, LogState, Mark, MarkTable, NewEntry, PurgeLog};
use crate::store::random::random;
use crate::store::record::FORMAT;

/// The state, which begins the log where there is none: a table without the log says nothing, and no more does a log without it.
const BEGIN: &str = "
local function state()
  local now = redis.call('GET', KEYS[1])
  if now then
    local incarnation, base, last = string.match(now, '^(%x+):(%d+):(%d+)$')
    if incarnation then return incarnation, base, last end
  end
  local time = redis.call('TIME')
  local first = string.format('%.0f', time[1] * 1000000 + time[2])
  redis.call('DEL', KEYS[2], KEYS[3])
  redis.call('HSET', KEYS[3], 'i', ARGV[1])
  redis.call('SET', KEYS[1], ARGV[1] .. ':' .. first .. ':' .. first)
  return ARGV[1], first, first
end
";

/// KEYS: n, l, s. ARGV: a new incarnation.
const STATE: &str = "
local incarnation, base, last = state()
return incarnation .. ':' .. base .. ':' .. last
";

/// KEYS: n, l, s. ARGV: a new incarnation, the first number, the most entries.
const READ: &str = "
local incarnation, base, last = state()
local entries = redis.call('XRANGE', KEYS[2], ARGV[2] .. '-0', '+', 'COUNT', ARGV[3])
return {incarnation .. ':' .. base .. ':' .. last, entries}
";

/// KEYS: n, l, s. ARGV: a new incarnation, the length of the stream, the most fields of the table, a number, the purge, `1` to drop
/// older marks, marks.
const APPEND: &str = "
local incarnation, base, last = state()
local time = redis.call('TIME')
local number = math.max(time[1] * 1000000 + time[2], tonumber(last) + 1, tonumber(ARGV[4]) + 1)
number = string.format('%.0f', number)
local is_lost = redis.call('HGET', KEYS[3], 'i') ~= incarnation
if is_lost or redis.call('HLEN', KEYS[3]) > tonumber(ARGV[3]) then base = number end
if base == number or ARGV[6] == '1' then
  redis.call('DEL', KEYS[3])
  redis.call('HSET', KEYS[3], 'i', incarnation)
end
for mark = 7, #ARGV do redis.call('HSET', KEYS[3], ARGV[mark], number) end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], number .. '-0', 'p', last, 't', ARGV[5])
local now = incarnation .. ':' .. base .. ':' .. number
redis.call('SET', KEYS[1], now)
return {now, last}
";

/// Where the memory is full, a purge may go beyond it. Servers before 7.0 have no such word, and refuse the script.
const ALLOW_OOM: &str = "#!lua flags=allow-oom\n";

/// How many entries the stream keeps; a few hundred more, as it is trimmed by whole nodes.
const LENGTH: &str = "65536";
/// The most fields of the table: two for each place, and some thousand prefixes. A table that has more is lost.
const FIELDS: &str = "136000";
/// The most entries of a page.
const PAGE: usize = 1_000;

/// A script in two forms, of which a server takes the first one or the second one.
struct LogScript {
    modern: Script,
    plain: Script,
}

impl LogScript {
    fn new(code: &str) -> Self {
        let plain = format!("{BEGIN}{code}");
        Self { modern: Script::new(format!("{ALLOW_OOM}{plain}")), plain: Script::new(plain) }
    }
}

/// The log of purges of a [`RedisStore`](super::RedisStore), for a near tier that follows it: its long polls have a connection of their
/// own.
#[derive(Clone)]
pub struct RedisLog {
    link: Link,
    shared: Arc<Shared>,
}

struct Shared {
    append: LogScript,
    /// How long a call may take.
    deadline: Duration,
    /// `n`, `l` and `s`.
    keys: [Box<[u8]>; 3],
    /// How long it may take to load the table.
    load: Duration,
    read: LogScript,
    replicas: Option<Replicas>,
    state: LogScript,
    /// The server knows no flags of scripts.
    takes_plain: AtomicBool,
}

impl RedisLog {
    pub(super) fn new(
        link: Link,
        namespace: &str,
        deadline: Duration,
        load: Duration,
        replicas: Option<Replicas>,
    ) -> Self {
        let key = |name: char| format!("{{{namespace}.{FORMAT}}}:{name}").into_bytes().into_boxed_slice();
        let shared = Shared {
            append: LogScript::new(APPEND),
            deadline,
            keys: ['n', 'l', 's'].map(key),
            load,
            read: LogScript::new(READ),
            replicas,
            state: LogScript::new(STATE),
            takes_plain: AtomicBool::new(false),
        };
        Self { link, shared: Arc::new(shared) }
    }

    /// The log for what has to be done before the breaker closes.
    pub(super) fn anyway(&self) -> Self {
        Self { link: self.link.anyway(), shared: Arc::clone(&self.shared) }
    }

    /// The state by one plain command, as long as there is a log.
    pub(super) async fn glance(&self) -> Result<LogState, LinkError> {
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
        let takes_plain = &self.shared.takes_plain;
        if !takes_plain.load(Ordering::Relaxed) {
            match self.run_form(&script.modern, &arguments, replicas).await {
                Err(LinkError::Refused(why)) if why.contains("compil") => {
                    takes_plain.store(true, Ordering::Relaxed);
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

    async fn add(&self, entry: &NewEntry) -> Result<Appended, LinkError> {
        let above = entry.above.to_string();
        let marks: Vec<_> = entry.marks.iter().map(Mark::to_bytes).collect();
        let drops: &[u8] = if entry.marks.iter().any(Mark::is_hard_of_everything) { b"1" } else { b"0" };
        let mut arguments: Vec<&[u8]> =
            vec![LENGTH.as_bytes(), FIELDS.as_bytes(), above.as_bytes(), &entry.purge, drops];
        arguments.extend(marks.iter().map(Vec::as_slice));
        match self.run(&self.shared.append, &arguments, self.shared.replicas).await? {
            Value::Array(values) if values.len() == 2 => {
                Ok(Appended::new(number_of(&values[1])?, state_of(&values[0])?))
            }
            other => Err(LinkError::bad(format!("{other:?} to a purge"))),
        }
    }

    async fn read(&self, number: u64) -> Result<LogPage, LinkError> {
        let (first, most) = (number.saturating_add(1).to_string(), PAGE.to_string());
        let page = self.run(&self.shared.read, &[first.as_bytes(), most.as_bytes()], None).await?;
        let Value::Array(values) = &page else {
            return Err(LinkError::bad(format!("{page:?} to a reading of the log")));
        };
        let [state, Value::Array(entries)] = &values[..] else {
            return Err(LinkError::bad(format!("{page:?} to a reading of the log")));
        };
        let entries = entries.iter().map(entry_of).collect::<Result<_, _>>()?;
        Ok(LogPage::new(entries, state_of(state)?))
    }
}

impl PurgeLog for RedisLog {
    async fn append(&self, entry: &NewEntry) -> Result<Appended, StoreError> {
        let unsure = Unsure(Some(&self.link));
        let appended = self.add(entry).await;
        if appended.is_ok() {
            unsure.has_arrived();
        }
        appended.map_err(|error| error.to("invalidate"))
    }

    async fn read_after(&self, number: u64, wait: Duration) -> Result<LogPage, StoreError> {
        const ACTION: &str = "read the log of purges";
        if !wait.is_zero() {
            let mut command = cmd("XREAD");
            command.arg("COUNT").arg(1).arg("BLOCK").arg(wait.as_millis().max(1).to_string());
            command.arg("STREAMS").arg(&*self.shared.keys[1]).arg(format!("{number}-0"));
            // What it gives is read once more, together with the state.
            let waited = self.link.send_blocking(&command, self.shared.deadline + wait).await;
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

fn number_of(value: &Value) -> Result<u64, LinkError> {
    number(text(value)?).ok_or_else(|| LinkError::bad(format!("{value:?} in the log of purges")))
}

fn state_of(value: &Value) -> Result<LogState, LinkError> {
    read_state(text(value)?).ok_or_else(|| LinkError::bad(format!("{value:?} as the state of the log")))
}

fn read_state(state: &[u8]) -> Option<LogState> {
    let mut parts = std::str::from_utf8(state).ok()?.split(':');
    let incarnation = u64::from_str_radix(parts.next()?, 16).ok()?;
    let (base, last) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then(|| LogState::new(incarnation, base, last))
}

/// An entry without a purge is one of everything, as nobody knows what was purged.
fn entry_of(value: &Value) -> Result<LogEntry, LinkError> {
    let bad = || LinkError::bad(format!("{value:?} as an entry of the log"));
    let Value::Array(parts) = value else { return Err(bad()) };
    let [id, Value::Array(fields)] = &parts[..] else { return Err(bad()) };
    let id = text(id)?.strip_suffix(b"-0").and_then(number).ok_or_else(bad)?;
    let field = |name: &[u8]| {
        fields.chunks_exact(2).find(|pair| text(&pair[0]).is_ok_and(|own| own == name)).map(|pair| &pair[1])
    };
    let predecessor = field(b"p").ok_or_else(bad).and_then(number_of)?;
    let purge = field(b"t").and_then(|purge| text(purge).ok()).unwrap_or_default();
    Ok(LogEntry::new(id, predecessor, Bytes::copy_from_slice(purge)))
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
            (mark, digits) => marks.push((Mark::from_bytes(mark), number(digits)?)),
        }
    }
    Some(MarkTable::new(incarnation?, marks))
}
