//! A log of purges that the nodes of a fleet share, and what one node knows of it: for stores outside of this process.
//!
//! Each purge is an entry with a number. A record in the store has the fence under which it was put: the number of the last
//! entry that its writer knew. Whoever reads the record judges it by the entries since then, which it knows from the log
//! ([`Replica`]). So a purge costs one entry, whatever it hits, and records need not lie where the log does.
//!
//! ```text
//! fence  u64 incarnation of the log | u64 number     (the high and the low half)
//!
//! a record is gone if    its incarnation is not that of the log,
//!                        or its number is below the base of the log,
//!                        or an entry with a greater number names it
//! ```
//!
//! A log may lose what it has, and a node finds out:
//!
//! | what happens | how a node sees it | what it does |
//! |---|---|---|
//! | the log begins anew | another incarnation | everything older is gone |
//! | entries are trimmed before a node has read them | an entry's predecessor is greater than the number up to which the node has read | reads the table of marks, which is coarser |
//! | the table of marks is lost, too | the base is greater | everything below the base is gone |
//! | an entry is lost by a failover | the predecessor, or the last number, is smaller | keeps what it knows, and appends the entry again |
//!
//! This module is public for stores over other engines: a table of a database, a subject of a message broker.
//! [`MemoryLog`] is a log within one process.

mod follower;
mod known;
mod mark;
mod memory;
mod names;
mod prefixes;
mod replica;
mod stamps;

use std::time::Duration;

use bytes::Bytes;

pub(super) use self::follower::Hearer;
pub use self::follower::{FollowLimits, Followed, Follower};
pub use self::mark::Mark;
pub use self::memory::MemoryLog;
pub use self::replica::{Changes, Replica};
pub use super::stamp::Verdict;
use crate::error::StoreError;

/// A log of purges. Its calls end within a time of their own, or fail.
///
/// Entries are numbered: each number is greater than those of all entries before it in the log, and none is 0. A log whose
/// numbers are times of its server (microseconds, one more than the last where the clock stands) never gives a number again
/// that it has lost.
pub trait PurgeLog: Send + Sync + 'static {
    /// Adds an entry, with a number that is greater than the last one and than [`NewEntry::above`], and writes that number to
    /// each of its marks in the table. Both happen, or neither does.
    ///
    /// Where the table is lost, it begins a new one and the number becomes the base of the log. Where there is no log, it
    /// begins one.
    fn append(&self, entry: &NewEntry) -> impl Future<Output = Result<Appended, StoreError>> + Send;

    /// The entries whose numbers are greater than `number`, in order, from the first one on: as many as fit a page. Where
    /// there are none, it waits for one, for so long. Where there is no log, it begins one.
    fn read_after(
        &self,
        number: u64,
        wait: Duration,
    ) -> impl Future<Output = Result<LogPage, StoreError>> + Send;

    /// The state of the log. Where there is no log, it begins one.
    fn state(&self) -> impl Future<Output = Result<LogState, StoreError>> + Send;

    /// The table of marks; `None` where it is lost.
    fn table(&self) -> impl Future<Output = Result<Option<MarkTable>, StoreError>> + Send;
}

/// Where a log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogState {
    /// Another one each time that a log begins; random, and not 0.
    pub incarnation: u64,
    /// What was put under a smaller number can't be judged, and is gone. A log begins with the number at which it is.
    pub base: u64,
    /// The number of the last entry; the base where there is none.
    pub last: u64,
}

impl LogState {
    /// A state.
    pub fn new(incarnation: u64, base: u64, last: u64) -> Self {
        Self { incarnation, base, last }
    }
}

/// What [`PurgeLog::append`] is to add.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewEntry {
    /// The greatest number that its writer knows, be it of an entry that the log has lost.
    pub above: u64,
    /// The places in the table that get its number.
    pub marks: Vec<Mark>,
    /// What was purged: [`Purge::to_bytes`](super::Purge::to_bytes).
    pub purge: Bytes,
}

/// An entry that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// The number of the entry before it.
    pub predecessor: u64,
    /// The state of the log with it as the last entry.
    pub state: LogState,
}

impl Appended {
    /// An entry with the last number of `state`.
    pub fn new(predecessor: u64, state: LogState) -> Self {
        Self { predecessor, state }
    }
}

/// An entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogEntry {
    /// Its number.
    pub number: u64,
    /// The number of the entry before it, or the base of the log at its beginning.
    pub predecessor: u64,
    /// What was purged. Where the bytes are no purge that this version can read, it is a purge of everything.
    pub purge: Bytes,
}

impl LogEntry {
    /// An entry.
    pub fn new(number: u64, predecessor: u64, purge: Bytes) -> Self {
        Self { number, predecessor, purge }
    }
}

/// What [`PurgeLog::read_after`] has found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogPage {
    /// The entries, in the order of their numbers.
    pub entries: Vec<LogEntry>,
    /// The state of the log when the entries were read, or later.
    pub state: LogState,
}

impl LogPage {
    /// A page.
    pub fn new(entries: Vec<LogEntry>, state: LogState) -> Self {
        Self { entries, state }
    }
}

/// What remains of entries that were trimmed: for each mark, the number of the last entry that has it. A log may drop the marks
/// that are older than a hard mark of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MarkTable {
    /// The incarnation of the log that wrote it.
    pub incarnation: u64,
    /// Marks and numbers, in any order.
    pub marks: Vec<(Mark, u64)>,
}

impl MarkTable {
    /// A table.
    pub fn new(incarnation: u64, marks: Vec<(Mark, u64)>) -> Self {
        Self { incarnation, marks }
    }
}
