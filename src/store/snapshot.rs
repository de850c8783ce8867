//! What a [`MemoryStore`] holds, written to a file at shutdown and read at the next start.
//!
//! ```text
//!  0  6  "larder"
//!  6  4  "snap"
//! 10  2  u16 format: 1
//! 12     a key after the other:
//!          u64 length of what follows; 0 at the end
//!          u32 length | what soft purges have made of responses: u32 how many times
//!            u32 which response | moment of `at` | u8 1, moment of `until`; or 0
//!          u64 XXH3 of that
//!          a record (`record/mod.rs`)
//! ```
//!
//! Integers are little-endian, a moment is a duration since 1970. Everything is checked by checksums, and what is not as it was
//! written is not read, nor is anything that follows a length that can't be right.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use twox_hash::XxHash3_64;

use super::lookup::{Expired, Fence, Stored};
use super::memory::{Former, MemoryStore};
use super::record::{Record, Recorded};
use crate::entry::key::CacheKey;
use crate::semantics::bytes::{Reader, put, put_count, put_duration};

const MAGIC: [u8; 12] = *b"lardersnap\x01\x00";
/// Beyond what a key weighs in memory, for a record and what is around it.
const SLACK: u64 = 64 * 1024;
/// How often a snapshot begins anew because something was purged meanwhile.
const ATTEMPTS: usize = 3;

/// What went into a snapshot, or came out of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotCounts {
    /// Bytes of the file that were written or read.
    pub bytes: u64,
    /// Responses that are in the file, or that were put into the store.
    pub responses: u64,
    /// Responses that were left out: their content is elsewhere; or they are not as they were written, the store has no room for
    /// ones as large, it has something newer under the key, or they were purged meanwhile.
    pub skipped: u64,
}

/// Snapshots: what is stored survives a restart of the process.
///
/// ```
/// # let folder = std::env::temp_dir().join(format!("larder-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("snapshot");
/// use larder::MemoryStore;
///
/// let store = MemoryStore::new();
/// // ... serves requests; at its end, when nobody asks or purges any more:
/// store.save_snapshot(&path)?;
///
/// // In the next process, before it serves:
/// let store = MemoryStore::new();
/// store.load_snapshot(&path)?;
/// // It is read once.
/// assert!(!path.exists());
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), std::io::Error>(())
/// ```
impl MemoryStore {
    /// Writes all that is stored into a file, in place of what was there: whole, or not at all. Only the owner of the process may
    /// read it. What was purged is not in it, and what was purged softly is stale when it comes back.
    ///
    /// Purges that come later do not reach the file. So this is the last that a process does with the store, when the server has
    /// drained and takes no purges any more. It blocks: call it outside of async tasks, or by `spawn_blocking`.
    ///
    /// A near level of a [`TieredStore`](super::TieredStore) can't be kept like this: what other nodes purge while the process is
    /// not there would come back.
    ///
    /// # Errors
    ///
    /// Those of the file system, after which there is no file or the one from before. Purges that come again and again while it
    /// writes are one, too: then no moment can be found at which the file is right.
    pub fn save_snapshot(&self, path: impl AsRef<Path>) -> io::Result<SnapshotCounts> {
        let path = path.as_ref();
        let draft = beside(path, ".new");
        let written = self.draft_snapshot(&draft).and_then(|counts| {
            fs::rename(&draft, path)?;
            sync_folder_of(path)?;
            Ok(counts)
        });
        if written.is_err() {
            // What can't be removed is replaced by the next one.
            let _ = fs::remove_file(&draft);
        }
        written
    }

    /// Reads what [`MemoryStore::save_snapshot`] has written, and removes the file first: what is purged from now on must not come
    /// back from it at another start. So a process that ends without writing one starts empty the next time.
    ///
    /// What the store has by itself stays. Requests may come meanwhile, and purges count for what is read later. Lifetimes go on
    /// as if the process had been there, by the clock of the system. It blocks: call it before the server starts, outside of async
    /// tasks, or by `spawn_blocking`.
    ///
    /// No file is nothing to read. A file that is damaged, or that another version has written, is read as far as that can be
    /// done.
    ///
    /// # Errors
    ///
    /// Those of the file system. What was read before stays in the store.
    pub fn load_snapshot(&self, path: impl AsRef<Path>) -> io::Result<SnapshotCounts> {
        let path = path.as_ref();
        // Everything that is purged after this moment stays purged.
        let fence = self.fence();
        let taken = beside(path, ".read");
        match fs::rename(path, &taken) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(SnapshotCounts::default()),
            renamed => renamed?,
        }
        sync_folder_of(path)?;
        let counts = self.read_snapshot(BufReader::new(File::open(&taken)?), fence);
        fs::remove_file(&taken)?;
        counts
    }

    fn draft_snapshot(&self, draft: &Path) -> io::Result<SnapshotCounts> {
        self.between_purges(|| {
            // The permissions are those of a new file.
            match fs::remove_file(draft) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut target = BufWriter::new(private_file(draft)?);
            let counts = self.write_snapshot(&mut target)?;
            target.into_inner()?.sync_all()?;
            Ok(counts)
        })
    }

    /// What is read of the store without a purge meanwhile, which may have missed what was read before.
    fn between_purges<T>(&self, mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        for _ in 0..ATTEMPTS {
            let fence = self.fence();
            let result = read()?;
            if self.fence() == fence {
                return Ok(result);
            }
        }
        Err(io::Error::other("responses were purged again and again while the snapshot was written"))
    }

    fn write_snapshot(&self, target: &mut impl Write) -> io::Result<SnapshotCounts> {
        let mut counts = SnapshotCounts { bytes: MAGIC.len() as u64 + 8, ..SnapshotCounts::default() };
        target.write_all(&MAGIC)?;
        for (key, variants) in self.entries() {
            let here: Vec<_> =
                variants.iter().filter(|stored| !stored.response.payload().is_remote()).collect();
            counts.skipped += (variants.len() - here.len()) as u64;
            if here.is_empty() {
                continue;
            }
            let Some(entry) = entry_of(&key, &here) else {
                counts.skipped += here.len() as u64;
                continue;
            };
            target.write_all(&(entry.len() as u64).to_le_bytes())?;
            target.write_all(&entry)?;
            counts.bytes += 8 + entry.len() as u64;
            counts.responses += here.len() as u64;
        }
        target.write_all(&0u64.to_le_bytes())?;
        Ok(counts)
    }

    fn read_snapshot(&self, mut source: impl Read, fence: Fence) -> io::Result<SnapshotCounts> {
        let mut counts = SnapshotCounts::default();
        if next_bytes(&mut source, MAGIC.len() as u64, &mut counts)?.is_none_or(|magic| magic != MAGIC) {
            return Ok(counts);
        }
        while let Some(length) = next_length(&mut source, &mut counts)? {
            if length > self.max_key().saturating_add(SLACK) {
                counts.bytes += io::copy(&mut source.by_ref().take(length), &mut io::sink())?;
                counts.skipped += 1;
                continue;
            }
            let Some(entry) = next_bytes(&mut source, length, &mut counts)? else {
                break;
            };
            match read_entry(entry.into()) {
                Some(Entry { key, responses, unread }) => {
                    let count = responses.len();
                    let restored = self.put_back(&key, responses, fence);
                    counts.responses += restored as u64;
                    counts.skipped += (unread + count - restored) as u64;
                }
                None => counts.skipped += 1,
            }
        }
        Ok(counts)
    }
}

/// A key of the file, and what was stored under it.
struct Entry {
    key: CacheKey,
    responses: Vec<Former>,
    unread: usize,
}

/// A key as it is in the file, after its length. `None` for what no record can hold.
fn entry_of(key: &CacheKey, variants: &[&Stored]) -> Option<Vec<u8>> {
    let record = Record::new(0, variants.iter().map(|stored| Recorded::from(*stored))).encode(key).ok()?;
    let expiries: Vec<_> = (0u32..)
        .zip(variants)
        .filter_map(|(place, stored)| stored.expired.map(|expired| (place, expired)))
        .collect();
    let mut soft = Vec::new();
    put_count(&mut soft, expiries.len());
    for (place, Expired { at, until }) in expiries {
        soft.extend_from_slice(&place.to_le_bytes());
        put_moment(&mut soft, at);
        soft.push(until.is_some().into());
        if let Some(until) = until {
            put_moment(&mut soft, until);
        }
    }
    let mut entry = Vec::with_capacity(4 + soft.len() + 8 + record.len());
    put(&mut entry, Some(&soft));
    entry.extend_from_slice(&XxHash3_64::oneshot(&soft).to_le_bytes());
    entry.extend_from_slice(&record);
    Some(entry)
}

fn read_entry(bytes: Bytes) -> Option<Entry> {
    let mut reader = Reader(&bytes);
    let soft = reader.bytes()?;
    if reader.u64()? != XxHash3_64::oneshot(soft) {
        return None;
    }
    let expiries = Reader(soft).list(|reader| {
        let (place, at) = (reader.u32()?, read_moment(reader)?);
        let until = match reader.u8()? {
            0 => None,
            _ => Some(read_moment(reader)?),
        };
        Some((usize::try_from(place).ok()?, Expired::new(at, until)))
    })?;
    let (key, record) = Record::decode_any(bytes.slice(bytes.len() - reader.0.len()..)).ok()?;
    if record.unread > 0 && !expiries.is_empty() {
        return None; // which response they are about can't be told
    }
    let mut responses: Vec<Former> =
        record.variants.into_iter().map(|recorded| (recorded.response, None)).collect();
    for (place, expired) in expiries {
        responses.get_mut(place)?.1 = Some(expired);
    }
    Some(Entry { key, responses, unread: record.unread })
}

fn put_moment(target: &mut Vec<u8>, moment: SystemTime) {
    put_duration(target, moment.duration_since(UNIX_EPOCH).unwrap_or_default());
}

fn read_moment(reader: &mut Reader<'_>) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(reader.duration()?)
}

/// The length of what follows; `None` at the end.
fn next_length(source: &mut impl Read, counts: &mut SnapshotCounts) -> io::Result<Option<u64>> {
    let bytes = next_bytes(source, 8, counts)?;
    let length = bytes.and_then(|bytes| Reader(&bytes).u64()).unwrap_or_default();
    Ok((length > 0).then_some(length))
}

/// As many bytes; `None` where fewer are left. Memory grows with what comes, not with what the length says.
fn next_bytes(
    source: &mut impl Read,
    length: u64,
    counts: &mut SnapshotCounts,
) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let read = source.by_ref().take(length).read_to_end(&mut bytes)? as u64;
    counts.bytes += read;
    Ok((read == length).then_some(bytes))
}

/// A file beside another one.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// A new file that only its owner may read: responses may hold what is for some people only.
fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// A renamed file survives a loss of power only when its folder is written.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, StatusCode, Uri};

    use super::*;
    use crate::entry::{HeadParts, Payload, ResponseHead, StoredResponse};
    use crate::semantics::reuse::Reuse;
    use crate::semantics::vary::Selecting;
    use crate::store::{PurgeMode, PurgeTarget, Store};

    fn key() -> CacheKey {
        CacheKey::from_uri(&Uri::from_static("http://example.com/")).expect("a key")
    }

    async fn filled() -> MemoryStore {
        let store = MemoryStore::new();
        let reuse = Reuse::new(UNIX_EPOCH, UNIX_EPOCH, Duration::from_secs(60), Selecting::default());
        let head = ResponseHead::from_parts(HeadParts::new(StatusCode::OK, HeaderMap::new(), reuse));
        let payload = Payload::from_bytes("content".into());
        let response = StoredResponse::from_parts(head.expect("a head"), payload).expect("a response");
        store.put(&key(), response, store.fence()).await.expect("stored");
        store
    }

    async fn purge(store: &MemoryStore, mode: PurgeMode) {
        store.invalidate(&[PurgeTarget::Key(key())], mode).await.expect("purged");
    }

    #[tokio::test]
    async fn purges_while_a_snapshot_is_read_count_for_all_of_it() {
        let mut bytes = Vec::new();
        filled().await.write_snapshot(&mut bytes).expect("written");
        let at = UNIX_EPOCH + Duration::from_secs(1);
        for (mode, left) in [(PurgeMode::Remove, 0), (PurgeMode::Expire(at), 1)] {
            let store = MemoryStore::new();
            let fence = store.fence();
            purge(&store, mode).await;
            // Of a key under which nothing was held: the store can't be sure which purges have come.
            assert_eq!(store.read_snapshot(&*bytes, fence).expect("read").responses, 0, "{mode:?}");
            let held = store.expect(&key());
            let fence = store.fence();
            purge(&store, mode).await;
            assert_eq!(store.read_snapshot(&*bytes, fence).expect("read").responses, left, "{mode:?}");
            let found = store.get(&key()).await.expect("read").variants;
            assert!(found.iter().all(|stored| stored.expired.is_some()), "{mode:?}");
            drop(held);
        }
    }

    #[tokio::test]
    async fn a_snapshot_begins_anew_where_something_is_purged_meanwhile() {
        let store = filled().await;
        let mut written = Vec::new();
        let mut purges = 1;
        let counts = store.between_purges(|| {
            written.clear();
            let counts = store.write_snapshot(&mut written);
            if purges > 0 {
                purges -= 1;
                at_once(purge(&store, PurgeMode::Remove));
            }
            counts
        });
        assert_eq!(counts.expect("written").responses, 0, "what was purged has gone from it");
        let restless = store.between_purges(|| {
            at_once(purge(&store, PurgeMode::Remove));
            Ok(())
        });
        assert!(restless.is_err());
    }

    /// The store in memory waits for nothing.
    fn at_once<T>(future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match future.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(value) => value,
            std::task::Poll::Pending => panic!("it waits"),
        }
    }
}
