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
//! # Purges that need no entry
//!
//! Unsafe requests purge by URIs, and strangers choose these. So a store may *announce* to the log under which URIs it is going to
//! store something ([`PurgeLog::announce`]), before it does, and purge by [`Replica::purge_announced`]: a purge of URIs of which none
//! was announced adds no entry. The log only *notes* its number for these URIs, and refuses by that what was asked for before it and
//! is announced after it. Both are one step of the log each, so for each response and each purge either the purge finds the
//! announcement and adds an entry, or the announcement finds the note.
//!
//! An announcement that a failover loses leaves a gap in the state ([`Lost`]). A response was announced under a number, and where
//! that lies in a gap, it is gone.
//!
//! This module is public for stores over other engines: a table of a database, a subject of a message broker.
//! [`MemoryLog`] is a log within one process.

mod announced;
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

pub use self::announced::{Announced, AskedUri, Lost};
pub(super) use self::follower::Hearer;
pub use self::follower::{FollowLimits, Followed, Follower};
pub use self::mark::Mark;
pub use self::memory::MemoryLog;
#[cfg(feature = "redis")]
pub(super) use self::replica::is_noted;
pub use self::replica::{Changes, Replica};
pub use super::stamp::Verdict;
use crate::error::StoreError;

/// A log of purges. Its calls end within a time of their own, or fail.
///
/// Entries are numbered: each number is greater than those of all entries before it in the log, and none is 0. A log whose
/// numbers are times of its server (microseconds, one more than the last where the clock stands) does not give a number again
/// that it has lost, unless another server with a slower clock has taken over: such a log goes on after a gap ([`Lost`]) that is
/// wider than clocks differ.
pub trait PurgeLog: Send + Sync + 'static {
    /// Adds an entry, with a number that is greater than the last one and than [`NewEntry::above`], and writes that number to
    /// each of its marks in the table. Both happen, or neither does.
    ///
    /// Where the table is lost, it begins a new one and the number becomes the base of the log. Where there is no log, it
    /// begins one.
    ///
    /// Where the entry [asks](NewEntry::asks) for URIs, and none of them was announced, it may note the number for these URIs instead
    /// ([`Appended::noted`]). A log that can't tell adds the entry.
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

    /// Says that something will be stored under URIs with these names, and kept for no longer than so long from now on; and looks
    /// for what was noted for them. Without a time it only looks. Each announcement gets a number of its own, the clock of the
    /// state that is given back, and has been made when this returns.
    ///
    /// A log that adds each entry, whether it asks or not, only reads its state and has noted nothing: 0.
    fn announce(
        &self,
        uris: &[u64],
        time: Option<Duration>,
    ) -> impl Future<Output = Result<Announced, StoreError>> + Send;
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
    /// The last number that was given to anything: to an entry, to a purge that was only noted, or to an announcement.
    pub clock: u64,
    /// The numbers of announcements that the log may have lost.
    pub lost: Lost,
}

impl LogState {
    /// A state in which nothing but entries has a number, and nothing is lost.
    pub fn new(incarnation: u64, base: u64, last: u64) -> Self {
        Self { incarnation, base, last, clock: last.max(base), lost: Lost::default() }
    }

    /// The same with another [`LogState::clock`].
    #[must_use]
    pub fn clock(self, number: u64) -> Self {
        Self { clock: number, ..self }
    }

    /// The same with another [`LogState::lost`].
    #[must_use]
    pub fn lost(self, lost: Lost) -> Self {
        Self { lost, ..self }
    }
}

/// What [`PurgeLog::append`] is to add.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewEntry {
    /// The greatest number that its writer knows, be it of an entry that the log has lost.
    pub above: u64,
    /// The URIs that it names, where it need not be added unless one of them was announced; empty where it has to be added.
    pub asks: Vec<AskedUri>,
    /// The places in the table that get its number.
    pub marks: Vec<Mark>,
    /// What was purged: [`Purge::to_bytes`](super::Purge::to_bytes).
    pub purge: Bytes,
}

/// What became of a new entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// The number of the entry before it; `None` where it was not added, and its number was noted.
    pub predecessor: Option<u64>,
    /// The state of the log after it. The clock is its number.
    pub state: LogState,
}

impl Appended {
    /// An entry with the last number of `state`.
    pub fn new(predecessor: u64, state: LogState) -> Self {
        Self { predecessor: Some(predecessor), state }
    }

    /// A purge of nothing that was announced. Its number is the clock of `state`.
    pub fn noted(state: LogState) -> Self {
        Self { predecessor: None, state }
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
