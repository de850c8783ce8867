//! Stored responses in a folder: more content than memory, across restarts.
//!
//! Each key has a file with its record (`store/record`), which is judged when it is read by the purges since its fence (`store/log`).
//! Content of more than 64 KiB has a file of its own. What was purged is in a database of one file.
//!
//! | file | what |
//! |---|---|
//! | `builder.rs`, `error.rs` | settings, opening; why that failed |
//! | `name.rs`, `folder.rs` | names of files; the folder, and how files come into it |
//! | `index.rs`, `held.rs` | what is there, and what goes to make room; what a purge of a URI may concern |
//! | `meta.rs`, `purges.rs` | what was purged, on the disk and in memory |
//! | `content.rs`, `writer.rs` | content in blocks, and on its way into them |
//! | `inner.rs` | records: read, judged, written |
//! | `jobs.rs` | threads for what waits for the disk |

mod builder;
mod content;
mod error;
mod folder;
mod held;
mod index;
mod inner;
mod jobs;
mod meta;
mod name;
mod purges;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

pub use self::builder::DiskStoreBuilder;
use self::content::{BLOCK, Blocks};
pub use self::error::DiskError;
use self::inner::{Inner, New, Replaces};
use self::jobs::begin;
use self::purges::plain;
use self::writer::Writer;
use super::{
    BeginOutcome, Expected, Fence, Lookup, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget, PutOutcome,
    Store, StoreLimits, StoreStatistics, StoredBody, StoredId, Variants,
};
use crate::entry::key::CacheKey;
use crate::entry::{Payload, RemoteContent, ResponseHead, StoredResponse};
use crate::error::StoreError;
use crate::runtime::{from_now_on, lock};
use crate::semantics::range::ByteRange;

/// Keeps responses in a folder, the most useful ones within a bound in bytes.
///
/// What is stored is there after a restart, also after one by `kill -9` or a loss of power, and what was purged is not: a purge is on
/// the disk before it is answered. Nothing that a fault has changed is served. Content of more than 64 KiB is written while it comes
/// and read while it is sent, so videos are never held in memory.
///
/// One process has a folder open. docs/DISK.md says what is where in it, and what is promised. Clones share one store.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use larder::CacheLayer;
/// use larder::store::DiskStore;
/// # let folder = std::env::temp_dir().join(format!("larder-doc-{}", std::process::id()));
/// let store = DiskStore::builder(&folder).capacity(50 << 30).open().await?;
/// let layer = CacheLayer::new(store.clone());
/// # let _ = layer;
/// // ...
/// store.close().await;
/// # std::fs::remove_dir_all(folder).unwrap();
/// # Ok::<(), larder::store::DiskError>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct DiskStore(Arc<Inner>);

impl DiskStore {
    /// A store in this folder, which nothing else is in.
    pub fn builder(path: impl Into<PathBuf>) -> DiskStoreBuilder {
        DiskStoreBuilder::new(path.into())
    }

    /// Waits for what is being written, and closes the store: from then on each call fails. The folder can be opened again.
    ///
    /// It is not needed for right answers, and a process may end without it. Without it, the folder can be opened again a moment after
    /// the last clone was dropped.
    pub async fn close(&self) {
        self.0.jobs.end().await;
        let inner = Arc::clone(&self.0);
        // Where the runtime is shut down, the end of the process does it.
        let _ = jobs::run(move || inner.let_go()).await;
    }

    async fn put_whole(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        let Inner { jobs, namer, purges, settings, .. } = &*self.0;
        if response.payload().len() > settings.max_object {
            return Ok(PutOutcome::TooLarge);
        }
        // Until it is in the index, whatever becomes of the call.
        let holding = purges.held.holding(namer.of(key));
        let (inner, key) = (Arc::clone(&self.0), key.clone());
        let work = move || {
            let _holding = holding;
            inner.put(&key, response, fence)
        };
        jobs.run("put", work).await
    }
}

impl Inner {
    /// Content that does not fit into the record goes into a file first.
    fn put(&self, key: &CacheKey, response: StoredResponse, fence: Fence) -> std::io::Result<PutOutcome> {
        let payload = response.payload();
        let replaces = Replaces::SameSelection;
        // What another store keeps elsewhere is for that one to open.
        if payload.is_remote() || payload.len() <= BLOCK as u64 {
            return self.write(key, New { content: None, fence, replaces, response });
        }
        let blocks: Vec<Bytes> = payload.pieces().into_iter().flatten().cloned().collect();
        let Some(file) = self.write_blocks(None, &blocks)? else { return Ok(PutOutcome::TooLarge) };
        let remote = Payload::remote(file.content).with_trailers(payload.trailers().cloned());
        let response = StoredResponse { head: response.head, payload: remote };
        self.write(key, New { content: Some(file), fence, replaces, response })
    }

    /// Closes the files that are open all the time.
    fn let_go(&self) {
        self.purges.close();
        drop(lock(&self.lock).take());
    }
}

/// Futures are boxed: those of a request have those of its store in them, and these are large.
impl Store for DiskStore {
    /// Says that there is nothing, where that is so. What is there has to be read.
    fn try_get(&self, key: &CacheKey) -> Option<Lookup> {
        let Inner { index, jobs, namer, purges, .. } = &*self.0;
        let fence = purges.fence();
        let is_known = !jobs.have_ended() && !index.has(namer.of(key));
        is_known.then(|| Lookup::new(fence, Variants::default()))
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        if let Some(lookup) = self.try_get(key) {
            return Ok(lookup);
        }
        let (inner, key) = (Arc::clone(&self.0), key.clone());
        Box::pin(self.0.jobs.run("look up", move || inner.look_up(&key))).await
    }

    async fn open(
        &self,
        key: &CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        let (inner, key) = (Arc::clone(&self.0), key.clone());
        let opened = self.0.jobs.run("open content", move || inner.open(&key, content, range));
        let opened = Box::pin(opened).await?;
        Ok(opened.map(|(reading, first)| StoredBody::new(Blocks::new(reading, first))))
    }

    fn expect(&self, key: &CacheKey) -> Expected {
        let Inner { namer, purges, .. } = &*self.0;
        let holding = purges.held.holding(namer.of(key));
        Expected::new(purges.held_fence(), holding)
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        Box::pin(self.put_whole(key, response, fence)).await
    }

    async fn begin(
        &self,
        key: &CacheKey,
        expected_length: Option<u64>,
        fence: Fence,
    ) -> Result<BeginOutcome, StoreError> {
        let Inner { namer, purges, settings, .. } = &*self.0;
        if expected_length.is_some_and(|length| length > settings.max_object) {
            return Ok(BeginOutcome::Refused(PutOutcome::TooLarge));
        }
        if purges.concern(key, namer.of(key), fence, PurgeScope::Key) {
            return Ok(BeginOutcome::Refused(PutOutcome::Superseded));
        }
        Ok(BeginOutcome::Writer(Box::new(Writer::new(&self.0, key, fence))))
    }

    async fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        let Inner { jobs, namer, purges, .. } = &*self.0;
        let holding = purges.held.holding(namer.of(key));
        let (inner, key) = (Arc::clone(&self.0), key.clone());
        let work = move || {
            let _holding = holding;
            inner.freshen(&key, of, head, fence)
        };
        Box::pin(jobs.run("freshen", work)).await
    }

    async fn purged_since(
        &self,
        key: &CacheKey,
        since: Fence,
        scope: PurgeScope,
    ) -> Result<bool, StoreError> {
        let Inner { namer, purges, .. } = &*self.0;
        Ok(plain(since) == Fence::default() || purges.concern(key, namer.of(key), since, scope))
    }

    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<PurgeNumber, StoreError> {
        let Inner { jobs, namer, purges, .. } = &*self.0;
        let inner = Arc::clone(&self.0);
        let make_room = move || inner.make_room();
        let number = Box::pin(purges.purge(namer, jobs, targets, mode, make_room)).await?;
        if mode == PurgeMode::Remove && targets.contains(&PurgeTarget::All) {
            // The entry of the log alone does it; this gives the disk back.
            let store = self.clone();
            from_now_on(async move {
                let inner = Arc::clone(&store.0);
                // What is left of it is judged when it is read.
                let _ = store.0.jobs.run("sweep", move || inner.sweep(number.get())).await;
            });
        }
        Ok(number)
    }

    fn limits(&self) -> StoreLimits {
        let inner::Settings { max_object, max_variants } = self.0.settings;
        StoreLimits::new().max_object(max_object).max_variants(max_variants).takes_streams(true).waits(true)
    }

    /// Bytes on the disk.
    fn statistics(&self) -> StoreStatistics {
        let index = &self.0.index;
        StoreStatistics::new(index.bytes(), index.len(), index.evictions())
    }
}

/// The database is closed where that stops nobody.
impl Drop for Inner {
    fn drop(&mut self) {
        let purges = Arc::clone(&self.purges);
        let lock = lock(&self.lock).take();
        begin(move || {
            purges.close();
            drop(lock);
        });
    }
}

impl fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskStore").field("statistics", &self.statistics()).finish_non_exhaustive()
    }
}
