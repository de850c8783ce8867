//! Records and content: read, judged, written, removed. All of this waits for the disk.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::content::{Reading, bytes_of, is_damage};
use super::folder::{Folder, FolderLock, Found, is_unreadable, remove};
use super::index::{Content, Entry, Index};
use super::jobs::Jobs;
use super::name::{Name, Namer};
use super::purges::{Purges, held, number, plain};
use super::writer::ContentFile;
use crate::entry::key::CacheKey;
use crate::entry::{RemoteContent, ResponseHead, StoredResponse};
use crate::runtime::{Mutex, MutexGuard, lock};
use crate::semantics::range::ByteRange;
use crate::store::log::Verdict;
use crate::store::random::random;
use crate::store::record::{Record, Recorded};
use crate::store::{Fence, Lookup, PutOutcome, Stored, StoredId, Variants};

/// How many keys are written at one time.
const WRITERS: usize = 256;
/// The most bytes of a record: older responses that do not fit into it are dropped.
const MAX_RECORD: usize = 16 << 20;
/// How much goes at least where the disk is full, and at most.
const ROOM: [u64; 2] = [1 << 20, 256 << 20];
/// A record of a key with more bytes than this gets no more content: that has a file of its own. What is served holds all of its record.
pub(super) const LARGE_RECORD: u64 = 256 << 10;
/// How many keys are swept at one time.
const SWEPT: usize = 256;

/// What a store was told.
pub(super) struct Settings {
    pub(super) max_object: u64,
    pub(super) max_variants: usize,
}

pub(super) struct Inner {
    pub(super) folder: Folder,
    pub(super) index: Arc<Index>,
    pub(super) jobs: Arc<Jobs>,
    /// Held as long as anybody may write to the folder.
    pub(super) lock: Mutex<Option<FolderLock>>,
    pub(super) namer: Namer,
    pub(super) purges: Arc<Purges>,
    pub(super) room: Room,
    pub(super) settings: Settings,
    pub(super) sweeps: Sweeps,
    /// Who writes the files of a key, or removes them, has its place here. Nobody has two.
    pub(super) writers: Box<[Mutex<()>]>,
}

/// What a response replaces.
pub(super) enum Replaces {
    /// The one with this identity, which has to be there.
    Id(StoredId),
    /// The one that the same fields select.
    SameSelection,
}

/// A response to be written.
pub(super) struct New {
    /// Its content where that is in a file.
    pub(super) content: Option<ContentFile>,
    pub(super) fence: Fence,
    pub(super) replaces: Replaces,
    pub(super) response: StoredResponse,
}

/// How often room was made, so that one does it for all whose writes have failed meanwhile.
#[derive(Default)]
pub(super) struct Room {
    making: Mutex<()>,
    times: AtomicU64,
}

impl Room {
    pub(super) fn times(&self) -> u64 {
        self.times.load(Ordering::SeqCst)
    }
}

/// The last purge of everything whose entries are being removed.
#[derive(Default)]
pub(super) struct Sweeps(Mutex<Option<u64>>);

impl Sweeps {
    /// Whether nobody sweeps yet.
    pub(super) fn ask(&self, purged: u64) -> bool {
        let mut swept = lock(&self.0);
        let before = *swept;
        *swept = Some(before.map_or(purged, |before| before.max(purged)));
        before.is_none()
    }

    fn until(&self) -> u64 {
        lock(&self.0).unwrap_or_default()
    }

    /// Whether that is all.
    fn has_swept(&self, purged: u64) -> bool {
        let mut swept = lock(&self.0);
        let is_all = *swept == Some(purged);
        if is_all {
            *swept = None;
        }
        is_all
    }
}

/// Somebody sweeps. Whoever purges everything after it was broken off begins anew.
struct Sweeping<'a> {
    inner: &'a Inner,
    is_over: bool,
}

impl Drop for Sweeping<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            *lock(&self.inner.sweeps.0) = None;
        }
    }
}

pub(super) fn writers() -> Box<[Mutex<()>]> {
    (0..WRITERS).map(|_| Mutex::new(())).collect()
}

impl Inner {
    /// Counts what was found when the store was opened, and removes what nobody can find.
    pub(super) fn count(&self, mut found: Vec<Found>) -> io::Result<()> {
        // Files of one key together, its record first.
        found.sort_unstable_by_key(|found| (found.name, found.content));
        let mut entries: Vec<(_, Name, Entry)> = Vec::new();
        let same_name = |one: &Found, other: &Found| one.name == other.name;
        for files in found.chunk_by(same_name) {
            let (record, contents) = match files {
                [record, contents @ ..] if record.content.is_none() => (Some(record.bytes), contents),
                contents => (None, contents),
            };
            let content = |found: &Found| found.content.map(|id| Content { bytes: found.bytes, id });
            let contents = contents.iter().filter_map(content).collect();
            let entry = Entry { contents, record: record.unwrap_or_default() };
            let used = files.iter().map(|found| found.used).max();
            if let (Some(used), Some(found)) = (used, files.first()) {
                // What can't be read is of no use.
                let is_useful = record.is_some_and(|bytes| bytes <= MAX_RECORD as u64);
                entries.push((is_useful.then_some(used), found.name, entry));
            }
        }
        // What was used last stays, as far as it fits.
        entries.sort_unstable_by_key(|(used, ..)| std::cmp::Reverse(*used));
        let mut weight = 0_u64;
        let (kept, surplus): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(used, _, entry)| {
            let more = weight.saturating_add(entry.weight());
            let is_kept = used.is_some() && more <= self.index.capacity();
            weight = if is_kept { more } else { weight };
            is_kept
        });
        for (_, name, entry) in &surplus {
            self.remove_files(*name, entry)?;
        }
        self.folder.sync_removed(surplus.iter().map(|(_, name, _)| *name))?;
        // Where there is no room for more, what was put last goes first: that is what was used least recently.
        let (newer, oldest) = kept.split_at(kept.len() - kept.len() / 32);
        for (_, name, entry) in newer.iter().rev().chain(oldest) {
            self.index.insert(*name, entry.clone());
        }
        self.remove_evicted();
        Ok(())
    }

    fn writing(&self, name: Name) -> MutexGuard<'_, ()> {
        lock(&self.writers[name.place(WRITERS)])
    }

    /// The record under a key: an empty one where there is none, or what is there is not one.
    fn record(&self, key: &CacheKey, name: Name) -> io::Result<Record> {
        let bytes = self.bytes(name)?;
        Ok(bytes.and_then(|bytes| Record::decode(key, bytes).ok()).unwrap_or_default())
    }

    /// What is in the place of a record, unless that is larger than any.
    fn bytes(&self, name: Name) -> io::Result<Option<Bytes>> {
        let file = match File::open(self.folder.record(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            // If it were not replaced, the key would be a miss for ever.
            Err(error) if is_unreadable(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        if length > MAX_RECORD || !metadata.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(length);
        match file.take(MAX_RECORD as u64).read_to_end(&mut bytes) {
            Err(error) if is_unreadable(&error) => Ok(None),
            read => read.map(|_| Some(bytes.into())),
        }
    }

    /// Those that no purge has removed, the newest first.
    fn judged(&self, key: &CacheKey, record: &Record) -> Vec<Stored> {
        let judged = record.variants.iter().filter_map(|recorded| {
            let mut stored = Stored::from(recorded.clone());
            match self.purges.judge(key, &stored.response, stored.fence) {
                Verdict::Removed => return None,
                Verdict::Expired(expired) => stored.expired = Some(expired),
                Verdict::Untouched => {}
            }
            Some(stored)
        });
        judged.collect()
    }

    pub(super) fn look_up(&self, key: &CacheKey) -> io::Result<Lookup> {
        let name = self.namer.of(key);
        // Before anything is judged: a purge in between counts as a later one.
        let fence = self.purges.fence();
        if self.index.get(name).is_none() {
            return Ok(Lookup::new(fence, Variants::default()));
        }
        let mut found = self.judged(key, &self.record(key, name)?);
        if found.is_empty() {
            // It is a miss, whether that can be tidied up or not.
            let _ = self.tidy(key, name);
        }
        // What is in the index has held its name since it was asked for.
        found.iter_mut().for_each(|stored| stored.fence = held(stored.fence));
        Ok(Lookup::new(fence, Variants::new(found)))
    }

    /// Removes the files of a key in which there is nothing that anybody could find.
    fn tidy(&self, key: &CacheKey, name: Name) -> io::Result<()> {
        // Whoever writes leaves something there, or is followed by somebody who finds nothing.
        let Ok(_writing) = self.writers[name.place(WRITERS)].try_lock() else { return Ok(()) };
        if self.judged(key, &self.record(key, name)?).is_empty() {
            // A record that can't be read now may be read another time, so no purge may be missed while it can come back.
            self.remove(name, || self.folder.sync_removed([name].into_iter()));
        }
        Ok(())
    }

    /// Removes the files of a key, by who has its place. The name is held until they are gone.
    fn remove(&self, name: Name, are_gone: impl FnOnce() -> io::Result<()>) {
        let indexed = self.index.remove(name);
        let entry = indexed.as_ref().map(|indexed| indexed.entry.clone()).unwrap_or_default();
        if self.remove_files(name, &entry).and_then(|()| are_gone()).is_err() {
            // Its bytes count, and it is tried again.
            self.index.insert(name, entry);
        }
        drop(indexed);
    }

    fn remove_files(&self, name: Name, entry: &Entry) -> io::Result<()> {
        remove(&self.folder.record(name))?;
        self.remove_contents(name, entry, &[])
    }

    /// Removes content that a key has no more.
    fn remove_contents(&self, name: Name, entry: &Entry, kept: &[Content]) -> io::Result<()> {
        let gone = entry.contents.iter().filter(|content| !kept.contains(content));
        gone.into_iter().try_for_each(|content| remove(&self.folder.content(name, content.id)))
    }

    /// Removes the files of what has gone to make room. What can't be removed is found when the store is opened next, so it holds
    /// its name until then.
    pub(super) fn remove_evicted(&self) {
        let (mut gone, mut left) = (Vec::new(), Vec::new());
        for (name, indexed) in self.index.evicted() {
            let _writing = self.writing(name);
            let removed = match self.index.peek(name) {
                Some(now) => self.remove_contents(name, &indexed.entry, &now.contents),
                None => {
                    self.index.count_eviction();
                    self.remove_files(name, &indexed.entry)
                }
            };
            if removed.is_ok() { gone.push((name, indexed)) } else { left.push((name, indexed)) }
        }
        // All names are held to the end of this.
        if self.folder.sync_removed(gone.iter().map(|(name, _)| *name)).is_err() {
            left.append(&mut gone);
        }
        left.iter().for_each(|(name, indexed)| self.index.leave(*name, indexed.entry.clone()));
    }

    /// Where the disk is full although the store is not, unless somebody else has made room since then.
    pub(super) fn make_room(&self, since: u64) {
        let _making = lock(&self.room.making);
        if self.room.times() == since {
            let [least, most] = ROOM;
            self.index.make_room((self.index.bytes() / 16).clamp(least, most));
            self.remove_evicted();
            self.room.times.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Removes everything that was there before the last purge of everything, some keys at a time: others write meanwhile.
    pub(super) async fn sweep(self: Arc<Self>) {
        const ACTION: &str = "sweep";
        let mut sweeping = Sweeping { inner: &self, is_over: false };
        loop {
            let (purged, inner) = (self.sweeps.until(), Arc::clone(&self));
            let Ok(names) = self.jobs.read(ACTION, move || Ok(inner.index.names())).await else { return };
            for names in names.chunks(SWEPT) {
                let (inner, names) = (Arc::clone(&self), names.to_vec());
                let sweep = move || {
                    names.iter().for_each(|name| inner.sweep_one(*name, purged));
                    Ok(())
                };
                if self.jobs.write(ACTION, sweep).await.is_err() {
                    return; // it was closed
                }
            }
            if self.sweeps.has_swept(purged) {
                sweeping.is_over = true;
                return;
            }
        }
    }

    /// What is left of it is judged when it is read.
    fn sweep_one(&self, name: Name, purged: u64) {
        let _writing = self.writing(name);
        let Ok(bytes) = self.bytes(name) else { return };
        // Of what can't be read, nothing is served.
        let record = bytes.and_then(|bytes| Record::decode_any(bytes).ok());
        let is_newer = record.is_some_and(|(_, record)| {
            record.variants.iter().any(|recorded| number(recorded.fence) >= purged)
        });
        if !is_newer {
            // Should it come back: the purge of everything is written.
            self.remove(name, || Ok(()));
        }
    }

    /// Writes a response before the others of its key.
    pub(super) fn write(&self, key: &CacheKey, new: New) -> io::Result<PutOutcome> {
        let name = self.namer.of(key);
        let New { mut content, fence, replaces, response } = new;
        let written = self.with_room(|| self.try_write(key, name, fence, &replaces, &response, &mut content));
        self.remove_evicted();
        written
    }

    fn try_write(
        &self,
        key: &CacheKey,
        name: Name,
        fence: Fence,
        replaces: &Replaces,
        response: &StoredResponse,
        content: &mut Option<ContentFile>,
    ) -> io::Result<PutOutcome> {
        let _writing = self.writing(name);
        let entry = self.index.peek(name).unwrap_or_default();
        let record = match entry.record {
            0 => Record::default(),
            _ => self.record(key, name)?,
        };
        let present = self.judged(key, &record);
        let response = match replaces {
            Replaces::SameSelection => response.clone(),
            Replaces::Id(id) => match present.iter().find(|stored| stored.id == *id) {
                // With the content that is there.
                Some(stored) => StoredResponse {
                    head: Arc::clone(&response.head),
                    payload: stored.response.payload().clone(),
                },
                None => return Ok(PutOutcome::Superseded),
            },
        };
        let is_lost = |content: RemoteContent| self.namer.is_own_content(content.id) && !entry.has(content);
        if content.is_none() && response.payload().as_remote().is_some_and(is_lost) {
            return Ok(PutOutcome::Superseded);
        }
        // Judged while this has the place of the key, and in the index or held: a purge that comes later concerns a record.
        let verdict = self.purges.judge_new(key, name, &response, fence);
        let new = Recorded::new(StoredId::from_bits(random()), plain(fence), response);
        let Some(list) = self.merged(&new, verdict, &present, replaces) else {
            return Ok(PutOutcome::Superseded);
        };
        let remote: Vec<RemoteContent> =
            list.iter().filter_map(|recorded| recorded.response.payload().as_remote()).collect();
        let bytes = Record::new(random(), list).encode(key).map_err(io::Error::other)?;
        let mut contents: Vec<Content> = remote
            .iter()
            .filter(|content| entry.has(**content))
            .map(|content| Content { bytes: bytes_of(content.length), id: content.id })
            .collect();
        if bytes.len() > MAX_RECORD {
            return Ok(PutOutcome::TooLarge);
        }
        // Where the disk is full, this is what fails, and nothing is changed.
        let staged = self.folder.stage_all(&bytes)?;
        let mut of_nobody = None;
        if let Some(ContentFile { content, staged, reserved }) = content.take() {
            let path = self.folder.content(name, content.id);
            staged.put(&path)?;
            of_nobody = Some(path);
            contents.push(Content { bytes: bytes_of(content.length), id: content.id });
            drop(reserved);
        }
        if let Err(error) = staged.put(&self.folder.record(name)) {
            let _ = of_nobody.map(|path| remove(&path));
            // It may have its name all the same.
            let is_gone = || {
                remove(&self.folder.record(name))?;
                self.folder.sync_removed([name].into_iter())
            };
            if entry.record == 0 && is_gone().is_err() {
                self.index.leave(name, Entry::default());
            }
            return Err(error);
        }
        // What can't be removed is found when the store is opened next.
        let _ = self.remove_contents(name, &entry, &contents);
        match self.index.insert(name, Entry { contents: contents.into(), record: bytes.len() as u64 }) {
            true => Ok(PutOutcome::Stored),
            false => Ok(PutOutcome::TooLarge),
        }
    }

    /// The responses of a new record, the newest first; `None` where the response is not to be stored.
    fn merged(
        &self,
        new: &Recorded,
        verdict: Verdict,
        present: &[Stored],
        replaces: &Replaces,
    ) -> Option<Vec<Recorded>> {
        if verdict == Verdict::Removed {
            return None;
        }
        let selecting = &new.response.head().reuse().selecting;
        let replaces = |stored: &Stored| match replaces {
            Replaces::Id(id) => stored.id == *id,
            Replaces::SameSelection => stored.response.head().reuse().selecting == *selecting,
        };
        // What was asked for before a soft purge does not replace what was asked for after it, and nothing replaces what is
        // newer.
        let is_newer = |stored: &Stored| {
            (verdict != Verdict::Untouched && number(stored.fence) > number(new.fence))
                || (stored.expired.is_none() && new.response.is_older_than(&stored.response))
        };
        if present.iter().any(|stored| replaces(stored) && is_newer(stored)) {
            return None;
        }
        // By the times of messages: the store reads no clock.
        let now = new.response.head().reuse().response_time;
        let mut size = new.response.weight();
        let mut list = vec![new.clone()];
        for stored in present.iter().filter(|stored| !replaces(stored) && !stored.is_gone(now)) {
            size += stored.response.weight();
            if list.len() >= self.settings.max_variants || size > MAX_RECORD / 2 {
                break; // the rest is older
            }
            list.push(Recorded::from(stored));
        }
        Some(list)
    }

    /// Content from its first to its last byte. `None` where it is gone, or is not what was written.
    pub(super) fn open(
        self: &Arc<Self>,
        key: &CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> io::Result<Option<(Reading, Vec<Bytes>)>> {
        let name = self.namer.of(key);
        let file = match File::open(self.folder.content(name, content.id)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let inner: Weak<Self> = Arc::downgrade(self);
        let on_damage = Arc::new(move || {
            if let Some(inner) = inner.upgrade() {
                inner.forget(name, content.id);
            }
        });
        let Some(mut reading) = Reading::new(file, content, range, on_damage)? else { return Ok(None) };
        match reading.read() {
            Ok(first) => Ok(Some((reading, first))),
            Err(error) if is_damage(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes content that is not what was written: its response is a miss from now on.
    fn forget(&self, name: Name, id: u128) {
        let writing = self.writing(name);
        if let Some(Entry { contents, record }) = self.index.peek(name) {
            let contents = contents.iter().filter(|content| content.id != id).copied().collect();
            self.index.insert(name, Entry { contents, record });
        }
        let _ = remove(&self.folder.content(name, id));
        drop(writing);
        self.remove_evicted();
    }

    pub(super) fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> io::Result<PutOutcome> {
        let response = StoredResponse::new(head, Default::default());
        self.write(key, New { content: None, fence, replaces: Replaces::Id(of), response })
    }
}
