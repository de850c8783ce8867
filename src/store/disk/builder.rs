//! How a store is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::DiskStore;
use super::core::Core;
use super::error::{Cause, DiskError};
use super::folder::{Folder, FolderLock};
use super::index::Index;
use super::inner::{Inner, Settings, writers};
use super::jobs::{Jobs, run};
use super::meta::{Meta, Opened};
use super::name::Namer;
use super::purges::Purges;
use crate::runtime::Mutex;
use crate::store::{GuardLimits, Guarded};

/// Settings of a [`DiskStore`].
#[derive(Clone, Debug)]
pub struct DiskStoreBuilder {
    capacity: u64,
    guard_limits: GuardLimits,
    max_object: Option<u64>,
    max_variants: usize,
    path: PathBuf,
    sync: bool,
}

impl DiskStoreBuilder {
    pub(super) fn new(path: PathBuf) -> Self {
        let seconds = Duration::from_secs;
        let guard_limits =
            GuardLimits::new().content(seconds(30)).purge(seconds(10)).read(seconds(1)).write(seconds(10));
        Self { capacity: 10 << 30, guard_limits, max_object: None, max_variants: 64, path, sync: false }
    }

    /// The most bytes on the disk; default 10 GiB, at least 1 MiB.
    ///
    /// Records, content and what is being written count, in units of 4 KiB. What was purged is in the folder besides: some 30 MiB at
    /// most. Where the folder has more when it is opened, what was used least recently goes.
    #[must_use]
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = bytes;
        self
    }

    /// The deadlines of calls, and when the disk is left alone for a moment; default 1 s for a read, 30 s for the next frame of
    /// content, 10 s for a write or a purge.
    ///
    /// A busy disk may take long for a single read. Until it is over, a request waits for it, and then it goes to the origin.
    #[must_use]
    pub fn guard_limits(mut self, limits: GuardLimits) -> Self {
        self.guard_limits = limits;
        self
    }

    /// The largest content that is stored, in bytes; default a quarter of the capacity, and never more than nine twentieths of it.
    #[must_use]
    pub fn max_object(mut self, bytes: u64) -> Self {
        self.max_object = Some(bytes);
        self
    }

    /// The most responses under one key, at least 1; default 64. The oldest is dropped.
    #[must_use]
    pub fn max_variants(mut self, count: usize) -> Self {
        self.max_variants = count.max(1);
        self
    }

    /// Whether files are on the disk (`fsync`) before they are found, and gone from it before they are forgotten; default `false`.
    ///
    /// What a loss of power has torn has a wrong checksum, and is a miss. With this, what was stored before a loss of power is there
    /// afterwards, and what was evicted is not. Without it, what was evicted in the seconds before may be back, although it was purged
    /// after that. All other purges are on the disk before they are answered, in any case.
    #[must_use]
    pub fn sync(mut self, sync: bool) -> Self {
        self.sync = sync;
        self
    }

    /// Opens the folder, and makes it if there is none.
    ///
    /// What another version or a fault has left there that can't be read goes, up to all of it: the store is empty then.
    ///
    /// # Errors
    ///
    /// Where another process has the folder open ([`DiskError::is_in_use`]), or it can't be read or written.
    pub async fn open(self) -> Result<DiskStore, DiskError> {
        let (path, limits) = (self.path.clone(), self.guard_limits.clone());
        let failed = |cause: Cause| DiskError::new(&path, cause);
        let opened = run(move || self.open_folder()).await.map_err(|_| failed(Cause::NoRuntime))?;
        let (builder, folder, lock, opened) = opened.map_err(failed)?;
        let namer = Namer::new(opened.secret);
        let purges = Purges::new(opened).await;
        let purges = purges.map_err(|error| failed(std::io::Error::other(error).into()))?;
        let counted = run(move || builder.count(folder, lock, namer, purges)).await;
        let core = Core(counted.map_err(|_| failed(Cause::NoRuntime))?.map_err(failed)?);
        Ok(DiskStore { core: core.clone(), guarded: Arc::new(Guarded::new(core, limits)) })
    }

    fn open_folder(self) -> Result<(Self, Folder, FolderLock, Opened), Cause> {
        let folder = Folder::new(Path::new(&self.path), self.sync);
        folder.make()?;
        let lock = folder.lock()?.ok_or(Cause::InUse)?;
        folder.clear_staged()?;
        let opened = Meta::open(&folder)?;
        Ok((self, folder, lock, opened))
    }

    fn count(
        self,
        folder: Folder,
        lock: FolderLock,
        namer: Namer,
        purges: Purges,
    ) -> Result<Arc<Inner>, Cause> {
        let capacity = self.capacity.max(1 << 20);
        // Half of the capacity is set aside for what is being written, with its checksums.
        let most = capacity / 20 * 9;
        let max_object = self.max_object.unwrap_or(capacity / 4).min(most);
        let found = folder.scan()?;
        let inner = Inner {
            index: Arc::new(Index::new(capacity, Arc::clone(&purges.held))),
            folder,
            jobs: Jobs::default(),
            lock: Mutex::new(Some(lock)),
            namer,
            purges: Arc::new(purges),
            settings: Settings { max_object, max_variants: self.max_variants },
            writers: writers(),
        };
        inner.count(found)?;
        Ok(Arc::new(inner))
    }
}
