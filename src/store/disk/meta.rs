//! What was purged, in a file that survives whatever ends the process.
//!
//! ```text
//! purges.redb  "properties"  "format", "incarnation", "last", "reserved", "secret"
//!              "entries"     number -> u64 predecessor | purge (`store/purge.rs`)
//!              "marks"       mark (`store/log/mark.rs`) -> number of the last entry that has it
//! last         u64 incarnation | u64 last number | u64 reserved | u64 XXH3 of these
//! ```
//!
//! A purge is an entry, and is there once its transaction has been written to the disk. `last` is written after it, so that a
//! `purges.redb` that has gone back to an older state, by a fault or a copy, is found out. Where anything is wrong with either, the
//! store begins anew: what can't be shown not to be purged is not served.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use redb::{Builder, Database, DatabaseError, ReadableDatabase as _, TableDefinition, WriteTransaction};
use twox_hash::XxHash3_64;

use super::content::BLOCK;
use super::error::Cause;
use super::folder::{Folder, open_private, remove};
use crate::store::log::{LogEntry, LogState, Mark, MarkTable, NewEntry};
use crate::store::random::{random, random_wide};
use crate::store::record::FORMAT as RECORDS;

/// The format of a folder: of its files' names, of content, and of what is in here.
const FORMAT: u16 = 1;

const PROPERTIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("properties");
const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
const MARKS: TableDefinition<'_, &[u8], u64> = TableDefinition::new("marks");

/// How many entries are kept. Of older ones there are the marks.
const MOST_ENTRIES: usize = 65_536;
/// How many bytes of entries, one of which may have many targets.
const MOST_BYTES: usize = 16 << 20;
/// Pages of the database in memory.
const CACHE: usize = 1 << 20;
/// The number at which a log begins.
const BASE: u64 = 1;

pub(super) struct Meta {
    /// `None` after it has failed: it is opened again when it is needed next.
    database: Option<Database>,
    /// Bytes of each entry, the oldest first.
    entries: VecDeque<usize>,
    entry_bytes: usize,
    /// `None` once the store is closed.
    last_file: Option<File>,
    path: PathBuf,
    pub(super) state: LogState,
    /// No greater number was given when this was written.
    pub(super) reserved: u64,
}

/// What is so once a transaction and all that follows it are written.
struct After {
    entries: VecDeque<usize>,
    entry_bytes: usize,
    state: LogState,
}

/// What was there when the store was opened.
pub(super) struct Opened {
    pub(super) entries: Vec<LogEntry>,
    pub(super) marks: MarkTable,
    pub(super) meta: Meta,
    pub(super) secret: [u8; 16],
}

impl Meta {
    /// Opens what is there. Where that is of no use, all entries of the folder go, and it begins anew.
    pub(super) fn open(folder: &Folder) -> Result<Opened, Cause> {
        // The crate may panic over a file that somebody has changed.
        let there = catch_unwind(AssertUnwindSafe(|| load(folder)));
        if let Some(opened) = there.unwrap_or(Ok(None))? {
            return Ok(opened);
        }
        // In this order: entries without what was purged would be served if this were interrupted.
        folder.clear_entries()?;
        remove(&folder.path("last"))?;
        remove(&folder.path("purges.redb"))?;
        let made = load_from(folder, create(folder)?)?;
        made.ok_or_else(|| io::Error::other("what was written can't be read").into())
    }

    pub(super) fn close(&mut self) {
        (self.database, self.last_file) = (None, None);
    }

    /// Opens the database unless it is open, and gives the entries that are in it although they seemed to fail. They are part of the
    /// log from now on.
    pub(super) fn found(&mut self) -> io::Result<Vec<LogEntry>> {
        if self.last_file.is_none() {
            return Err(closed());
        }
        let mut found = Vec::new();
        let database = match self.database.take() {
            Some(database) => database,
            None => {
                let database = builder().open(&self.path).map_err(of_redb)?;
                let read = read(&database)?.filter(|read| {
                    read.state.incarnation == self.state.incarnation && read.state.last >= self.state.last
                });
                let Some(read) = read else {
                    return Err(io::Error::other("the purges of this store have been changed by somebody"));
                };
                found.extend(read.entries.into_iter().filter(|entry| entry.number > self.state.last));
                database
            }
        };
        for entry in &found {
            self.count(entry.purge.len());
            self.state.last = entry.number;
        }
        self.database = Some(database);
        Ok(found)
    }

    fn count(&mut self, bytes: usize) {
        self.entries.push_back(bytes);
        self.entry_bytes += bytes;
    }

    /// Appends entries with their numbers, all or none, and reserves numbers; after [`Meta::found`]. Entries whose numbers fail may
    /// be found later, so nothing else gets these numbers.
    pub(super) fn append(&mut self, new: &[(u64, NewEntry)], reserved: u64) -> io::Result<()> {
        let reserved = self.reserved.max(reserved);
        let written = catch_unwind(AssertUnwindSafe(|| self.write(new, reserved)));
        let written = written.unwrap_or_else(|_| Err(io::Error::other("the database has failed")));
        let written = written.and_then(|after| self.write_last(after.state, reserved).map(|()| after));
        match written {
            Ok(after) => {
                (self.entries, self.entry_bytes) = (after.entries, after.entry_bytes);
                (self.state, self.reserved) = (after.state, reserved);
                Ok(())
            }
            Err(error) => {
                // What it has of these entries is found when it is opened next.
                self.database = None;
                Err(error)
            }
        }
    }

    fn write(&self, new: &[(u64, NewEntry)], reserved: u64) -> io::Result<After> {
        let Some(database) = &self.database else { return Err(closed()) };
        let transaction = database.begin_write().map_err(of_redb)?;
        let (mut counts, mut bytes) = (self.entries.clone(), self.entry_bytes);
        let mut last = self.state.last;
        {
            let mut entries = transaction.open_table(ENTRIES).map_err(of_redb)?;
            let mut marks = transaction.open_table(MARKS).map_err(of_redb)?;
            for (number, entry) in new {
                let value = [&last.to_le_bytes()[..], &entry.purge].concat();
                entries.insert(number, &value[..]).map_err(of_redb)?;
                last = *number;
                counts.push_back(entry.purge.len());
                bytes += entry.purge.len();
                for mark in &entry.marks {
                    if mark.is_hard_of_everything() {
                        marks.retain(|_, _| false).map_err(of_redb)?;
                    }
                    marks.insert(&mark.to_bytes()[..], number).map_err(of_redb)?;
                }
            }
            while counts.len() > MOST_ENTRIES || bytes > MOST_BYTES {
                let Some(oldest) = counts.pop_front() else { break };
                bytes -= oldest;
                entries.pop_first().map_err(of_redb)?;
            }
        }
        put(&transaction, "last", &last.to_le_bytes())?;
        put(&transaction, "reserved", &reserved.to_le_bytes())?;
        transaction.commit().map_err(of_redb)?;
        let state = LogState::new(self.state.incarnation, self.state.base, last);
        Ok(After { entries: counts, entry_bytes: bytes, state })
    }

    /// After the transaction, and before anybody hears of it.
    fn write_last(&mut self, state: LogState, reserved: u64) -> io::Result<()> {
        let bytes = last_of(state, reserved);
        let file = self.last_file.as_mut().ok_or_else(closed)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&bytes)
    }

    /// For tests of what fails: gives the file that was there.
    #[cfg(test)]
    pub(super) fn replace_last_file(&mut self, file: Option<File>) -> Option<File> {
        std::mem::replace(&mut self.last_file, file)
    }
}

fn closed() -> io::Error {
    io::Error::other("it was closed")
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder
}

fn last_of(state: LogState, reserved: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (place, number) in bytes.chunks_exact_mut(8).zip([state.incarnation, state.last, reserved]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    let checksum = XxHash3_64::oneshot(&bytes[..24]);
    bytes[24..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// `None` where it is not what it has to be.
fn load(folder: &Folder) -> Result<Option<Opened>, Cause> {
    match builder().open(folder.path("purges.redb")) {
        Ok(database) => load_from(folder, database),
        Err(DatabaseError::DatabaseAlreadyOpen) => Err(Cause::InUse),
        Err(error) => is_of_no_use(of_redb(error)),
    }
}

fn load_from(folder: &Folder, database: Database) -> Result<Option<Opened>, Cause> {
    let read = match read(&database) {
        Ok(Some(read)) => read,
        Ok(None) => return Ok(None),
        Err(error) => return is_of_no_use(error),
    };
    let mut last_file = open_private(&folder.path("last"))?;
    let mut last = Vec::new();
    last_file.read_to_end(&mut last)?;
    let number = |at: usize| last.get(at..at + 8)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let (Some(last_number), Some(reserved)) = (number(8), number(16)) else { return Ok(None) };
    let written = LogState::new(read.state.incarnation, BASE, last_number);
    let is_older = last_number > read.state.last || reserved > read.reserved;
    if last != last_of(written, reserved) || is_older {
        return Ok(None);
    }
    let mut meta = Meta {
        database: Some(database),
        entries: Default::default(),
        entry_bytes: 0,
        last_file: Some(last_file),
        path: folder.path("purges.redb"),
        state: read.state,
        reserved: read.reserved,
    };
    read.entries.iter().for_each(|entry| meta.count(entry.purge.len()));
    let marks = MarkTable::new(read.state.incarnation, read.marks);
    Ok(Some(Opened { entries: read.entries, marks, meta, secret: read.secret }))
}

/// The store begins anew without what is missing or is no database. What the system says of a file is another matter.
fn is_of_no_use<T>(error: io::Error) -> Result<Option<T>, Cause> {
    match error.raw_os_error() {
        Some(_) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(None),
    }
}

/// All that is in a database.
struct Read {
    entries: Vec<LogEntry>,
    marks: Vec<(Mark, u64)>,
    reserved: u64,
    secret: [u8; 16],
    state: LogState,
}

fn read(database: &Database) -> io::Result<Option<Read>> {
    let transaction = database.begin_read().map_err(of_redb)?;
    let properties = transaction.open_table(PROPERTIES).map_err(of_redb)?;
    let property = |name: &str| -> io::Result<Vec<u8>> {
        let value = properties.get(name).map_err(of_redb)?;
        Ok(value.map(|value| value.value().to_vec()).unwrap_or_default())
    };
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_le_bytes);
    if property("format")? != format() {
        return Ok(None);
    }
    let [incarnation, last, reserved] =
        ["incarnation", "last", "reserved"].map(|name| property(name).map(|bytes| number(&bytes)));
    let (Some(incarnation), Some(last), Some(reserved), Ok(secret)) =
        (incarnation?, last?, reserved?, <[u8; 16]>::try_from(property("secret")?))
    else {
        return Ok(None);
    };
    let mut entries = Vec::new();
    for entry in transaction.open_table(ENTRIES).map_err(of_redb)?.range::<u64>(..).map_err(of_redb)? {
        let (key, value) = entry.map_err(of_redb)?;
        let Some((predecessor, purge)) = value.value().split_first_chunk::<8>() else { return Ok(None) };
        let predecessor = u64::from_le_bytes(*predecessor);
        entries.push(LogEntry::new(key.value(), predecessor, purge.to_vec().into()));
    }
    let mut marks = Vec::new();
    for mark in transaction.open_table(MARKS).map_err(of_redb)?.range::<&[u8]>(..).map_err(of_redb)? {
        let (mark, number) = mark.map_err(of_redb)?;
        marks.push((Mark::from_bytes(mark.value()), number.value()));
    }
    Ok(Some(Read { entries, marks, reserved, secret, state: LogState::new(incarnation, BASE, last) }))
}

/// What has to be the same for what is stored to be read.
fn format() -> Vec<u8> {
    let formats = [FORMAT, RECORDS].into_iter().flat_map(u16::to_le_bytes);
    formats.chain((BLOCK as u64).to_le_bytes()).collect()
}

fn create(folder: &Folder) -> io::Result<Database> {
    let path = folder.path("purges.redb");
    // Made here, for the owner only: the crate finds an empty file, which is as good as none.
    drop(open_private(&path)?);
    let database = builder().create(&path).map_err(of_redb)?;
    let transaction = database.begin_write().map_err(of_redb)?;
    transaction.open_table(ENTRIES).map_err(of_redb)?;
    transaction.open_table(MARKS).map_err(of_redb)?;
    let incarnation = random().max(1);
    put(&transaction, "format", &format())?;
    put(&transaction, "incarnation", &incarnation.to_le_bytes())?;
    put(&transaction, "last", &BASE.to_le_bytes())?;
    put(&transaction, "reserved", &BASE.to_le_bytes())?;
    put(&transaction, "secret", &random_wide().to_le_bytes())?;
    transaction.commit().map_err(of_redb)?;
    open_private(&folder.path("last"))?.write_all(&last_of(LogState::new(incarnation, BASE, BASE), BASE))?;
    Ok(database)
}

fn put(transaction: &WriteTransaction, name: &str, value: &[u8]) -> io::Result<()> {
    let mut properties = transaction.open_table(PROPERTIES).map_err(of_redb)?;
    properties.insert(name, value).map_err(of_redb)?;
    Ok(())
}

/// With its kind, by which a full disk is known.
fn of_redb(error: impl Into<redb::Error>) -> io::Error {
    match error.into() {
        redb::Error::Io(error) => error,
        error => io::Error::other(error),
    }
}
