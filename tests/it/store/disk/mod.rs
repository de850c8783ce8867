//! [`DiskStore`] in real folders.

mod conformance;

use std::path::{Path, PathBuf};

use larder::CacheKey;
use larder::store::record::Record;
use larder::store::{DiskStore, DiskStoreBuilder};

use crate::support::file::TempFolder;

/// A folder that a store is in.
struct Place(TempFolder);

impl Place {
    fn new() -> Self {
        Self(TempFolder::in_memory())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn builder(&self) -> DiskStoreBuilder {
        DiskStore::builder(self.path()).capacity(256 << 20)
    }

    async fn open(&self) -> DiskStore {
        self.builder().open().await.unwrap()
    }

    /// All files of entries: records, and content.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for folder in std::fs::read_dir(self.path().join("entries")).unwrap() {
            for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
                files.push(file.unwrap().path());
            }
        }
        files.sort();
        files
    }

    fn records(&self) -> Vec<PathBuf> {
        self.files().into_iter().filter(|path| path.extension().is_none()).collect()
    }

    fn contents(&self) -> Vec<PathBuf> {
        self.files().into_iter().filter(|path| path.extension().is_some()).collect()
    }

    /// Where the record of a key is.
    fn record(&self, key: &CacheKey) -> Option<PathBuf> {
        self.records().into_iter().find(|path| {
            let bytes = std::fs::read(path).unwrap();
            Record::decode_any(bytes.into()).is_ok_and(|(own, _)| own == *key)
        })
    }
}
