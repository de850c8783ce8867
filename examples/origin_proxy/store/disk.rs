//! A folder of this proxy's own for what it stores.

use std::path::PathBuf;

use larder::store::{DiskStore, DiskStoreBuilder, StoreStatistics};

use crate::config::Given;
use crate::units::{show_size, size};

/// Bytes on the disk, unless an option says something else.
const CAPACITY: u64 = 10 << 30;
/// What stands before the path in `--store`.
pub const PREFIX: &str = "disk:";

/// A folder, and how much may be in it.
pub struct Disk {
    capacity: u64,
    path: PathBuf,
}

impl Disk {
    /// `PATH` or `PATH,SIZE`: what is behind the last comma is a size.
    ///
    /// # Errors
    ///
    /// One sentence: there is no path, or no size behind the comma.
    pub fn of(text: &str, given: &Given) -> Result<Self, String> {
        let (path, capacity) = match text.rsplit_once(',') {
            None => (text, CAPACITY),
            Some((path, bytes)) => (path, size(bytes.trim()).map_err(|reason| format!("--store: {reason}"))?),
        };
        if path.is_empty() {
            return Err(
                "--store disk: names no folder; one looks like disk:/var/cache/larder,50GiB".to_owned()
            );
        }
        if capacity < DiskStoreBuilder::LEAST_CAPACITY {
            let least = show_size(DiskStoreBuilder::LEAST_CAPACITY);
            return Err(format!("--store disk: {} is too small; {least} is the least", show_size(capacity)));
        }
        Ok(Self { capacity, path: given.relative(path) })
    }

    fn builder(&self) -> DiskStoreBuilder {
        DiskStore::builder(&self.path).capacity(self.capacity)
    }

    /// The largest object that it can store.
    pub fn most_object(&self) -> u64 {
        self.builder().most_object()
    }

    /// The largest object that it stores, unless an option says something else.
    pub fn default_object(&self) -> u64 {
        self.capacity / 4
    }

    /// Opens the folder.
    ///
    /// # Errors
    ///
    /// One sentence: it can't be used, or another process does.
    pub async fn open(&self, max_object: u64) -> Result<DiskStore, String> {
        let opened = self.builder().max_object(max_object).open().await;
        opened.map_err(|error| match error.is_in_use() {
            true => format!("--store disk: {error}; each proxy needs a folder of its own"),
            false => format!("--store disk: {error}"),
        })
    }

    /// Finds out whether something is in the way of the folder. A proxy that runs may have it open.
    ///
    /// # Errors
    ///
    /// One sentence: what is there is no folder.
    pub fn check(&self) -> Result<(), String> {
        match self.path.metadata() {
            Ok(metadata) if !metadata.is_dir() => {
                Err(format!("--store disk: {} is not a folder", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// What is in a folder, in the text format of Prometheus.
pub fn metrics(StoreStatistics { bytes, entries, evictions, .. }: StoreStatistics) -> String {
    let metrics = [
        ("larder_store_disk_entries", "Keys on the disk", "gauge", entries),
        (
            "larder_store_disk_evictions_total",
            "Keys dropped from the disk to make room",
            "counter",
            evictions,
        ),
        ("larder_store_disk_usage_bytes", "Bytes on the disk", "gauge", bytes),
    ];
    metrics
        .map(|(name, help, kind, value)| {
            format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
        })
        .concat()
}

impl std::fmt::Display for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {}", show_size(self.capacity), self.path.display())
    }
}
