//! What was purged: numbers, the log in the file, and what is judged by it.
//!
//! ```text
//! fence  u64 incarnation | 1 bit: the name has been held since | 63 bits: number
//! ```
//!
//! Records have fences without that bit. Numbers are counted. A purge that concerns nothing that is stored or on its way gets a
//! number, and is not written: so that no number is given twice, some are reserved in the file beforehand.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::folder::is_full;
use super::held::Held;
use super::jobs::Jobs;
use super::meta::{Meta, Opened};
use super::name::{Name, Namer};
use crate::entry::StoredResponse;
use crate::entry::key::CacheKey;
use crate::error::StoreError;
use crate::runtime::{Mutex, lock};
use crate::store::log::{
    Announced, Appended, LogEntry, LogPage, LogState, MarkTable, NewEntry, PurgeLog, Replica, Verdict,
};
use crate::store::{Fence, Purge, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget};

/// How many purges are written in one transaction.
const TOGETHER: usize = 256;
/// How many numbers are reserved with each write.
const RESERVED: u64 = 65_536;
/// In a fence: the name has been held since, so no purge that concerns it is missed.
const HELD: u128 = 1 << 63;

pub(super) struct Purges {
    pub(super) held: Arc<Held>,
    /// A writer has this from the beginning of a transaction to its end.
    meta: Mutex<Meta>,
    numbers: Mutex<Numbers>,
    replica: Replica,
    /// The number of the last purge that was not written, if no other one was being written when it was given.
    skipped: AtomicU64,
    /// One writer at a time, who writes for all who wait.
    turns: Arc<tokio::sync::Mutex<()>>,
    waiting: Mutex<Vec<Waiting>>,
}

struct Numbers {
    given: u64,
    /// A purge has a number and may be unknown.
    is_writing: bool,
    reserved: u64,
}

struct Waiting {
    purge: Bytes,
    written: oneshot::Sender<Result<u64, Arc<io::Error>>>,
}

/// A fence without its mark.
pub(super) fn plain(fence: Fence) -> Fence {
    Fence::from_bits(fence.bits() & !HELD)
}

/// A fence of somebody who has held the name since then.
pub(super) fn held(fence: Fence) -> Fence {
    Fence::from_bits(fence.bits() | HELD)
}

fn is_held(fence: Fence) -> bool {
    fence.bits() & HELD != 0
}

/// The number of a fence.
pub(super) fn number(fence: Fence) -> u64 {
    u64::try_from(plain(fence).bits() & u128::from(u64::MAX)).unwrap_or_default()
}

impl Purges {
    /// Knows all that was purged before.
    pub(super) async fn new(opened: Opened) -> Result<Self, StoreError> {
        let Opened { entries, marks, meta, secret } = opened;
        let replica = Replica::new(secret);
        replica.catch_up(&Loaded { entries, marks, state: meta.state }).await?;
        let reserved = meta.reserved;
        Ok(Self {
            held: Arc::default(),
            // All that may have been given.
            numbers: Mutex::new(Numbers {
                given: reserved.max(meta.state.last),
                is_writing: false,
                reserved,
            }),
            meta: Mutex::new(meta),
            replica,
            skipped: AtomicU64::new(0),
            turns: Arc::default(),
            waiting: Mutex::default(),
        })
    }

    /// The purge state.
    pub(super) fn fence(&self) -> Fence {
        let fence = self.replica.fence();
        let skipped = self.skipped.load(Ordering::SeqCst);
        let incarnation = fence.bits() >> 64 << 64;
        Fence::from_bits(incarnation | u128::from(number(fence).max(skipped)))
    }

    pub(super) fn judge(&self, key: &CacheKey, response: &StoredResponse, fence: Fence) -> Verdict {
        self.replica.judge(key, response, plain(fence))
    }

    /// What purges say of a response that is about to be stored, whose name is held by now.
    pub(super) fn judge_new(
        &self,
        key: &CacheKey,
        name: Name,
        response: &StoredResponse,
        fence: Fence,
    ) -> Verdict {
        match self.may_have_missed(name, fence) {
            true => Verdict::Removed,
            false => self.judge(key, response, fence),
        }
    }

    fn may_have_missed(&self, name: Name, fence: Fence) -> bool {
        !is_held(fence) && self.held.may_have_missed(name, number(fence))
    }

    pub(super) fn concern(&self, key: &CacheKey, name: Name, since: Fence, scope: PurgeScope) -> bool {
        self.may_have_missed(name, since) || self.replica.concerns(key, plain(since), scope)
    }

    /// Purges, and says by which number. `make_room` is called where the disk is full.
    pub(super) async fn purge(
        self: &Arc<Self>,
        namer: &Namer,
        jobs: &Jobs,
        targets: &[PurgeTarget],
        mode: PurgeMode,
        make_room: impl Fn() + Send + 'static,
    ) -> Result<PurgeNumber, StoreError> {
        const ACTION: &str = "purge";
        let (mut number, mut rest) = (PurgeNumber::default(), Vec::new());
        for target in targets {
            match self.skip(namer, target) {
                Some(skipped) => number = PurgeNumber::new(skipped),
                None => rest.push(target.clone()),
            }
        }
        if rest.is_empty() {
            return Ok(number);
        }
        let (written, mut outcome) = oneshot::channel();
        let purge = Purge::new(rest, mode).to_bytes().into();
        lock(&self.waiting).push(Waiting { purge, written });
        let turn = Arc::clone(&self.turns).lock_owned().await;
        let written = match outcome.try_recv() {
            Ok(written) => written,
            // Nobody has written it yet.
            Err(_) => {
                let purges = Arc::clone(self);
                let write = move || {
                    // To its end, whoever waits for it.
                    let _turn = turn;
                    purges.write_all(&make_room);
                    Ok(())
                };
                jobs.purge(ACTION, write).await?;
                outcome.await.map_err(|error| StoreError::new(ACTION, error))?
            }
        };
        written.map(PurgeNumber::new).map_err(|error| StoreError::new(ACTION, error))
    }

    /// A number for a purge that concerns nothing that is stored or on its way; `None` where it has to be written.
    fn skip(&self, namer: &Namer, target: &PurgeTarget) -> Option<u64> {
        let bases: Vec<_> = match target {
            PurgeTarget::Key(key) => namer.of(key).bases().iter().collect(),
            PurgeTarget::Uri(uri) => vec![namer.base(uri)],
            _ => return None,
        };
        let mut numbers = lock(&self.numbers);
        let number = numbers.given + 1;
        if number > numbers.reserved || !bases.iter().all(|base| self.held.miss(*base, number)) {
            return None;
        }
        numbers.given = number;
        if !numbers.is_writing {
            // Whoever has a fence with this number has asked after all purges with smaller ones.
            self.skipped.store(number, Ordering::SeqCst);
        }
        Some(number)
    }

    /// Writes what waits now. What comes meanwhile has its own turn, or nobody would hear of what was written while others go on
    /// purging.
    fn write_all(&self, make_room: &dyn Fn()) {
        let mut meta = lock(&self.meta);
        let mut waiting = std::mem::take(&mut *lock(&self.waiting));
        // Of what was given up, nobody knows whether it was written.
        waiting.retain(|waiting| !waiting.written.is_closed());
        while !waiting.is_empty() {
            let together = waiting.drain(..waiting.len().min(TOGETHER)).collect();
            self.write_together(&mut meta, together, make_room);
        }
    }

    fn write_together(&self, meta: &mut Meta, waiting: Vec<Waiting>, make_room: &dyn Fn()) {
        let mut write = || {
            // The crate may panic over a file that somebody has changed.
            let written = catch_unwind(AssertUnwindSafe(|| self.write_numbered(meta, &waiting)));
            written.unwrap_or_else(|_| Err(io::Error::other("the database has failed")))
        };
        let mut written = write();
        if written.as_ref().is_err_and(is_full) {
            make_room();
            written = write();
        }
        let mut numbers = lock(&self.numbers);
        numbers.is_writing = false;
        numbers.reserved = meta.reserved;
        drop(numbers);
        let first = written.map_err(Arc::new);
        for (place, waiting) in (0..).zip(waiting) {
            // Nobody may wait for it any more.
            let _ = waiting.written.send(first.clone().map(|first| first + place));
        }
    }

    /// Writes purges with the next numbers, and gives the first one. Those of a write that failed are not used again, as it may
    /// have written them.
    fn write_numbered(&self, meta: &mut Meta, waiting: &[Waiting]) -> io::Result<u64> {
        let (first, reserved) = {
            let mut numbers = lock(&self.numbers);
            let first = numbers.given.max(meta.state.last) + 1;
            numbers.given = first + waiting.len() as u64 - 1;
            numbers.is_writing = true;
            (first, numbers.given + RESERVED)
        };
        let entries = waiting.iter().map(|waiting| self.replica.entry(waiting.purge.clone()));
        self.append(meta, &(first..).zip(entries).collect::<Vec<_>>(), reserved)?;
        Ok(first)
    }

    /// Closes the file: from then on, purges fail.
    pub(super) fn close(&self) {
        lock(&self.meta).close();
    }

    fn append(&self, meta: &mut Meta, new: &[(u64, NewEntry)], reserved: u64) -> io::Result<()> {
        let incarnation = meta.state.incarnation;
        let mut before = meta.state.last;
        let mut learn = |number: u64, purge: &Bytes, base: u64| {
            let state = LogState::new(incarnation, base, number);
            self.replica.take_appended(purge.clone(), Appended::new(before, state));
            before = number;
        };
        let base = meta.state.base;
        // Known in any case: the log goes on after them, whatever becomes of the new ones.
        for entry in meta.found()? {
            learn(entry.number, &entry.purge, base);
        }
        meta.append(new, reserved)?;
        for (number, entry) in new {
            learn(*number, &entry.purge, base);
        }
        Ok(())
    }
}

/// The log as it was when the store was opened.
struct Loaded {
    entries: Vec<LogEntry>,
    marks: MarkTable,
    state: LogState,
}

impl PurgeLog for Loaded {
    /// It is not written to.
    async fn append(&self, _: &NewEntry) -> Result<Appended, StoreError> {
        Err(StoreError::new("purge", "the store is being opened"))
    }

    /// The store knows what it holds.
    async fn announce(&self, _: &[u64], _: Option<Duration>) -> Result<Announced, StoreError> {
        Ok(Announced::new(self.state, 0))
    }

    async fn read_after(&self, number: u64, _: Duration) -> Result<LogPage, StoreError> {
        let after = self.entries.iter().filter(|entry| entry.number > number);
        Ok(LogPage::new(after.cloned().collect(), self.state))
    }

    async fn state(&self) -> Result<LogState, StoreError> {
        Ok(self.state)
    }

    async fn table(&self) -> Result<Option<MarkTable>, StoreError> {
        Ok(Some(self.marks.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::super::folder::Folder;
    use super::*;

    #[tokio::test]
    async fn f11_a_purge_that_fails_once_it_is_in_the_database_does_not_hold_up_those_after_it() {
        let root = std::env::temp_dir().join(format!("larder-purges-{}", std::process::id()));
        let folder = Folder::new(&root, false);
        folder.make().expect("a folder");
        let opened = Meta::open(&folder).expect("a database");
        let namer = Namer::new(opened.secret);
        let purges = Arc::new(Purges::new(opened).await.expect("an empty log"));
        let jobs = Jobs::default();
        let purge = async || purges.purge(&namer, &jobs, &[PurgeTarget::All], PurgeMode::Remove, || ()).await;
        let is_known = async || purge().await.is_ok_and(|purged| purged.get() == number(purges.fence()));
        assert!(is_known().await);
        // A file that can't be written.
        let read_only = File::open(folder.path("last")).expect("a file");
        let last = lock(&purges.meta).replace_last_file(Some(read_only));
        let before = number(purges.fence());
        assert!(purge().await.is_err());
        assert!(purge().await.is_err(), "the first one is found, and known from now on");
        assert!(number(purges.fence()) > before);
        lock(&purges.meta).replace_last_file(last);
        assert!(is_known().await);
        assert!(is_known().await);
        purges.close();
        let again = Meta::open(&folder).expect("the same database");
        assert_eq!(again.entries.len(), 5, "those that failed are purges, too");
        drop(again);
        std::fs::remove_dir_all(root).expect("it is there");
    }
}
