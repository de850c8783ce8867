//! [`DiskStore`] in real folders.
//!
//! Most of them are in memory, where the system has such a place, so that a test does not wait for a disk. Nothing here depends on how
//! fast anything is: the deadlines of the guard are 20 seconds.

mod admission;
mod completed;
mod conformance;
mod damage;
mod flood;
mod hostile;
mod killed;
mod large;
mod many;
mod opening;
mod permissions;
mod settings;
mod shutdown;
mod tiers;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use larder::store::record::Record;
use larder::store::{DiskStore, DiskStoreBuilder, PurgeTarget, Store};
use larder::{BoxStore, CacheKey, CacheLayer};

use crate::support::file::TempFolder;
use crate::support::on_disk::patient;
use crate::support::stores::waited_for;
use crate::support::{Bench, Reply, Seen};

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
        patient(self.path())
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

/// A cache over a store, with its own origin.
struct Node {
    bench: Bench,
    store: DiskStore,
}

const HIT: &str = "larder; hit; ttl=60";
const FILLED: &str = "larder; fwd=uri-miss; stored; ttl=60";

impl Node {
    async fn open(place: &Place) -> Self {
        Self::with(place.builder()).await
    }

    async fn with(builder: DiskStoreBuilder) -> Self {
        let store = builder.open().await.unwrap();
        let waited_for = BoxStore::new(waited_for(store.clone()));
        Self { bench: Bench::with(CacheLayer::builder(waited_for), []), store }
    }

    async fn get(&self, path: &str) -> Seen {
        self.bench.get(path).await
    }

    /// Gets what the origin answers now.
    async fn fetch(&self, path: &str, body: &str) -> Seen {
        let reply = Reply::cc(body, "max-age=60").field("etag", "\"1\"").field("cache-groups", "\"news\"");
        self.bench.origin.then(reply);
        is(self.get(path).await, body)
    }

    /// Stores what the origin answers now.
    async fn fill(&self, path: &str, body: &str) {
        assert_eq!(self.fetch(path, body).await.cache_status(), FILLED, "{path}");
    }

    async fn hits(&self, path: &str, body: &str) {
        assert_eq!(is(self.get(path).await, body).cache_status(), HIT, "{path}");
    }

    async fn purge(&self, target: PurgeTarget) {
        self.bench.handle.purge_target(&target).await.unwrap();
    }

    /// Bytes and keys that the store has.
    fn held(&self) -> (u64, u64) {
        let statistics = self.store.statistics();
        (statistics.bytes, statistics.entries)
    }

    /// Closes the store, and opens it again.
    async fn again(self, place: &Place) -> Self {
        self.store.close().await;
        Self::open(place).await
    }
}

/// The answer has this content. It is not shown where it has not: there is much of it.
#[track_caller]
fn is(seen: Seen, body: &str) -> Seen {
    assert!(
        !seen.broken && seen.body == body,
        "{} of {} bytes, {:?}",
        seen.body.len(),
        body.len(),
        seen.fields
    );
    seen
}

/// Content of 300 KB that has a file of its own, of five blocks, with other bytes at each place.
fn large() -> String {
    (0..50_000).map(|number| format!("{number:05};")).collect()
}

/// Whatever becomes of a test, its child ends.
struct Process(Child);

impl Process {
    /// Runs the test of that name, which is ignored otherwise, in a process of its own.
    fn of_test(module: &str, name: &str, place: &Place, arguments: &[(&str, String)]) -> Self {
        Self(Self::command(module, name, place, arguments).spawn().unwrap())
    }

    fn command(module: &str, name: &str, place: &Place, arguments: &[(&str, String)]) -> Command {
        let module = module.split_once("::").map_or(module, |(_, rest)| rest);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", &format!("{module}::{name}"), "--ignored", "--nocapture", "--test-threads=1"])
            .env("LARDER_TEST_FOLDER", place.path())
            .envs(arguments.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        command
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In the process of [`Process::of_test`].
fn place_of_parent() -> Option<PathBuf> {
    std::env::var_os("LARDER_TEST_FOLDER").map(PathBuf::from)
}
