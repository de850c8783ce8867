//! A store in a folder that ends with it.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use larder::MemoryStore;
use larder::store::{DiskStore, DiskStoreBuilder, GuardLimits, Store};

use super::file::TempFolder;
use super::forward::forward;

/// Settings of a store that is waited for, however busy the disk is.
pub fn patient(folder: &Path) -> DiskStoreBuilder {
    let time = Duration::from_secs(20);
    let limits = GuardLimits::new().content(time).purge(time).read(time).write(time);
    DiskStore::builder(folder).capacity(256 << 20).guard_limits(limits)
}

#[derive(Clone)]
pub struct OnDisk {
    store: Arc<DiskStore>,
    _folder: Arc<TempFolder>,
}

impl OnDisk {
    /// With the limits of another store.
    pub fn like(store: &MemoryStore) -> Self {
        let limits = store.limits();
        let folder = TempFolder::in_memory();
        let builder = patient(folder.path()).max_object(limits.max_object).max_variants(limits.max_variants);
        // Those who make a store are in a runtime already, or in none.
        let opening = thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(builder.open()).unwrap()
        });
        Self { store: Arc::new(opening.join().unwrap()), _folder: Arc::new(folder) }
    }
}

impl Store for OnDisk {
    forward!(store: try_get, get, open, expect, put, begin, freshen, purged_since, invalidate, limits, statistics);
}
