//! The contract of stores, also where the store is closed and opened again, and where somebody changes what it keeps.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;

use larder::CacheKey;
use larder::store::conformance::concurrency::what_is_done_at_one_time_is_as_if_done_in_one_order;
use larder::store::conformance::{Capabilities, Nodes, Subject, check_all};
use larder::store::{DiskStore, DiskStoreBuilder};

use super::Place;

/// One process at a time has the folder open, so both nodes have clones of one store.
pub(super) struct Folder {
    pub(super) place: Place,
    /// Where the records were found that are looked for.
    records: Mutex<HashMap<Vec<u8>, PathBuf>>,
    settings: fn(DiskStoreBuilder) -> DiskStoreBuilder,
}

impl Folder {
    pub(super) fn with(settings: fn(DiskStoreBuilder) -> DiskStoreBuilder) -> Self {
        Self { place: Place::new(), records: Mutex::default(), settings }
    }
}

impl Folder {
    pub(super) async fn opened(&self) -> DiskStore {
        (self.settings)(self.place.builder()).open().await.unwrap()
    }
}

impl Nodes for Folder {
    type Store = DiskStore;

    async fn open(&self) -> [DiskStore; 2] {
        let store = self.opened().await;
        [store.clone(), store]
    }

    async fn close(&self, handles: [DiskStore; 2]) {
        handles[0].close().await;
    }

    async fn bytes(&self, key: &CacheKey) -> Option<Vec<u8>> {
        let path = self.place.record(key)?;
        let bytes = std::fs::read(&path).unwrap();
        self.records.lock().unwrap().insert(key.as_bytes().to_vec(), path);
        Some(bytes)
    }

    async fn overwrite(&self, key: &CacheKey, bytes: Vec<u8>) {
        let path = self.records.lock().unwrap()[key.as_bytes()].clone();
        std::fs::write(path, bytes).unwrap();
    }
}

/// Of more than 1,024 prefixes, the oldest count for their hosts, which share places with other names, or for everything.
pub(super) fn promises() -> Capabilities {
    Capabilities::all().exact_prefixes(1_024)
}

async fn keeps_the_contract(settings: fn(DiskStoreBuilder) -> DiskStoreBuilder) {
    let subject = || Subject::new(async || Folder::with(settings)).operations(50);
    check_all(&subject().capabilities(promises())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_store_keeps_the_contract() {
    keeps_the_contract(|builder| builder).await;
    let subject = Subject::new(async || Folder::with(|builder| builder)).operations(200);
    what_is_done_at_one_time_is_as_if_done_in_one_order(&subject).await;
}

#[tokio::test]
async fn a_small_disk_store_keeps_the_contract_on_one_thread() {
    keeps_the_contract(|builder| builder.capacity(16 << 20).max_object(1 << 20).max_variants(3)).await;
}
