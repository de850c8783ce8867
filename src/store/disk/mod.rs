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
//! | `inner.rs`, `core.rs` | records: read, judged, written; the store without its guard |
//! | `jobs.rs` | threads for what waits for the disk |

mod builder;
mod content;
mod core;
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

pub use self::builder::DiskStoreBuilder;
use self::core::Core;
pub use self::error::DiskError;
use super::boxed::pass_on;
use super::{
    BeginOutcome, Expected, Fence, Guarded, Lookup, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget,
    PutOutcome, Store, StoreLimits, StoreStatistics, StoredBody, StoredId,
};
use crate::entry::key::CacheKey;
use crate::entry::{RemoteContent, ResponseHead, StoredResponse};
use crate::error::StoreError;
use crate::semantics::range::ByteRange;

/// Keeps responses in a folder, the most useful ones within a bound in bytes.
///
/// What is stored is there after a restart, also after one by `kill -9`, and what was purged is not: a purge is on the disk before it
/// is answered. For a loss of power to change nothing of that, set [`DiskStoreBuilder::sync`]. Nothing that a fault has changed is served. Content of more than 64 KiB is written while it comes
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
pub struct DiskStore {
    core: Core,
    guarded: Arc<Guarded<Core>>,
}

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
        let inner = Arc::clone(&self.core.0);
        inner.jobs.end().await;
        // Where the runtime is shut down, the end of the process does it.
        let _ = jobs::run(move || inner.let_go()).await;
    }

    fn guarded(&self) -> &Guarded<Core> {
        &self.guarded
    }
}

impl Store for DiskStore {
    pass_on!(guarded);
}

impl fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskStore").field("statistics", &self.statistics()).finish_non_exhaustive()
    }
}
