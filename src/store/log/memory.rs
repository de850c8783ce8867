//! A log of purges in this process.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::{Announced, Appended, LogEntry, LogPage, LogState, Mark, MarkTable, NewEntry, PurgeLog};
use crate::error::StoreError;
use crate::runtime::{Mutex, briefly, lock};
use crate::store::random::random;

/// How many entries a page has.
const PAGE: usize = 1_000;
/// How many entries are kept.
const ENTRIES: usize = 65_536;

/// A log of purges in this process; clones share it. For tests of stores: it can be made to lose what logs lose.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use larder::store::log::{MemoryLog, PurgeLog, Replica};
/// use larder::store::{PurgeMode, PurgeTarget};
///
/// let (log, node) = (MemoryLog::default(), Replica::new([7; 16]));
/// node.purge(&log, &[PurgeTarget::All], PurgeMode::Remove).await?;
/// let purged = log.state().await?;
/// log.lose(1); // a failover
/// assert!(log.state().await?.last < purged.last);
/// node.catch_up(&log).await?; // finds that out, and appends the purge again
/// assert!(log.state().await?.last > purged.last);
/// # Ok::<(), larder::StoreError>(()) }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct MemoryLog {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    appended: Notify,
    log: Mutex<Log>,
}

struct Log {
    /// Names of URIs, each with the number of its last announcement. None is ever forgotten.
    announced: HashMap<u64, u64>,
    entries: VecDeque<Kept>,
    /// Names of URIs, each with the number of the last purge that was only noted.
    noted: HashMap<u64, u64>,
    /// Its clock is the greatest number that was ever given.
    state: LogState,
    /// Of which incarnation, and the marks; `None` where it is lost.
    table: Option<HashMap<Mark, u64>>,
}

/// An entry, and what its marks replaced.
struct Kept {
    entry: LogEntry,
    replaced: Vec<(Mark, Option<u64>)>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            announced: HashMap::new(),
            entries: VecDeque::new(),
            noted: HashMap::new(),
            state: beginning(),
            table: Some(HashMap::new()),
        }
    }
}

/// The state of a log that has no entry yet.
fn beginning() -> LogState {
    LogState::new(random().max(1), 1, 1)
}

impl Log {
    fn append(&mut self, new: &NewEntry) -> Appended {
        let predecessor = self.state.last;
        let number = self.state.clock.max(new.above).saturating_add(1);
        self.state.clock = number;
        let is_announced = |name| self.announced.contains_key(name);
        if self.table.is_some()
            && !new.asks.is_empty()
            && !new.asks.iter().any(|asked| is_announced(&asked.uri) || is_announced(&asked.path))
        {
            self.noted.extend(new.asks.iter().map(|asked| (asked.uri, number)));
            return Appended::noted(self.state);
        }
        self.state.last = number;
        let table = self.table.get_or_insert_with(|| {
            self.state.base = number;
            HashMap::new()
        });
        let replaced =
            new.marks.iter().map(|mark| (mark.clone(), table.insert(mark.clone(), number))).collect();
        let entry = LogEntry::new(number, predecessor, new.purge.clone());
        self.entries.push_back(Kept { entry, replaced });
        self.trim(ENTRIES);
        Appended::new(predecessor, self.state)
    }

    fn announce(&mut self, uris: &[u64], is_to_be_stored: bool) -> Announced {
        if self.table.is_none() {
            self.begin_table();
        }
        if is_to_be_stored {
            self.state.clock += 1;
            self.announced.extend(uris.iter().map(|name| (*name, self.state.clock)));
        }
        let noted = uris.iter().filter_map(|name| self.noted.get(name)).max();
        Announced::new(self.state, noted.copied().unwrap_or_default())
    }

    /// Without the table, nothing can be said of what was before.
    fn begin_table(&mut self) {
        self.state.clock += 1;
        (self.state.base, self.state.last) = (self.state.clock, self.state.clock);
        self.table = Some(HashMap::new());
    }

    fn trim(&mut self, keep: usize) {
        let surplus = self.entries.len().saturating_sub(keep);
        self.entries.drain(..surplus);
    }

    fn page_after(&self, number: u64) -> LogPage {
        let new = self.entries.iter().map(|kept| &kept.entry).filter(|entry| entry.number > number);
        LogPage::new(new.take(PAGE).cloned().collect(), self.state)
    }
}

impl MemoryLog {
    /// Its state.
    pub(in crate::store) fn now(&self) -> LogState {
        lock(&self.inner.log).state
    }

    /// Begins anew, without any entry, as a server that has kept nothing.
    pub fn restart(&self) {
        *lock(&self.inner.log) = Log::default();
    }

    /// Loses the last entries and their marks, and whatever came after them, as by a failover to a server that has not got them.
    pub fn lose(&self, count: usize) {
        let mut log = lock(&self.inner.log);
        let log = &mut *log;
        for _ in 0..count {
            let Some(Kept { entry, replaced }) = log.entries.pop_back() else { break };
            log.state.last = entry.predecessor;
            if let Some(table) = &mut log.table {
                for (mark, number) in replaced.into_iter().rev() {
                    match number {
                        Some(number) => table.insert(mark, number),
                        None => table.remove(&mark),
                    };
                }
            }
        }
        let (last, clock) = (log.state.last, log.state.clock);
        log.announced.retain(|_, number| *number <= last);
        log.noted.retain(|_, number| *number <= last);
        log.state.lost = log.state.lost.and(last, clock);
    }

    /// Keeps so many of the last entries.
    pub fn trim(&self, keep: usize) {
        lock(&self.inner.log).trim(keep);
    }

    /// Loses the table of marks, and all that was announced and noted.
    pub fn drop_table(&self) {
        let mut log = lock(&self.inner.log);
        log.announced.clear();
        log.noted.clear();
        log.table = None;
    }
}

impl PurgeLog for MemoryLog {
    async fn append(&self, entry: &NewEntry) -> Result<Appended, StoreError> {
        let appended = lock(&self.inner.log).append(entry);
        self.inner.appended.notify_waiters();
        Ok(appended)
    }

    async fn read_after(&self, number: u64, wait: Duration) -> Result<LogPage, StoreError> {
        let mut appended = pin!(self.inner.appended.notified());
        // From here on: an entry between the look and the wait is not missed.
        appended.as_mut().enable();
        let page = lock(&self.inner.log).page_after(number);
        if !page.entries.is_empty() || wait.is_zero() {
            return Ok(page);
        }
        briefly(wait, appended).await;
        Ok(lock(&self.inner.log).page_after(number))
    }

    async fn state(&self) -> Result<LogState, StoreError> {
        Ok(self.now())
    }

    async fn table(&self) -> Result<Option<MarkTable>, StoreError> {
        let log = lock(&self.inner.log);
        let marks =
            |table: &HashMap<Mark, u64>| table.iter().map(|(mark, number)| (mark.clone(), *number)).collect();
        Ok(log.table.as_ref().map(|table| MarkTable::new(log.state.incarnation, marks(table))))
    }

    async fn announce(&self, uris: &[u64], time: Option<Duration>) -> Result<Announced, StoreError> {
        Ok(lock(&self.inner.log).announce(uris, time.is_some()))
    }
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLog").field("state", &lock(&self.inner.log).state).finish_non_exhaustive()
    }
}
