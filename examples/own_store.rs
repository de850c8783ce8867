//! A store that survives a restart: `cargo run --example own_store DIRECTORY`, then `curl -i http://127.0.0.1:3000/`, again
//! after a restart. What is asked for often is in memory, and everything is in a directory, a file for each key.
//!
//! A purge reads every file, so it does not keep what the contract of `Store` says under *Cost*, and may take longer than the
//! cache waits for it. A store for many responses needs an index from names to files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use larder::semantics::range::ByteRange;
use larder::store::record::{Record, RecordNames, Recorded};
use larder::store::{
    BeginOutcome, Expected, Fence, Lookup, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget, PutOutcome,
    RemoteContent, Store, StoreLimits, StoreStatistics, StoredBody, StoredId,
};
use larder::{CacheKey, CacheLayer, MemoryStore, ResponseHead, StoreError, StoredResponse};
use tokio::fs;
use tokio::sync::Mutex;

/// A [`MemoryStore`] whose contents are in files as well. One task at a time reads or writes them.
#[derive(Clone)]
pub struct DirectoryStore {
    directory: Arc<Mutex<PathBuf>>,
    memory: MemoryStore,
}

impl DirectoryStore {
    /// A store over the files of a directory, which exists.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: Arc::new(Mutex::new(directory.into())), memory: MemoryStore::default() }
    }

    /// Changes what is in memory under a key, and writes down what is there then, in a task of its own. The cache drops a call that
    /// takes too long, and with it a lock that it holds, but the system goes on writing; the task holds the lock until the write
    /// has ended.
    async fn change(
        &self,
        key: &CacheKey,
        change: impl Future<Output = Result<PutOutcome, StoreError>> + Send + 'static,
    ) -> Result<PutOutcome, StoreError> {
        // Before the change: nobody else reads the file, which is older, over it.
        let directory = Arc::clone(&self.directory).lock_owned().await;
        let (store, key) = (self.clone(), key.clone());
        let written = tokio::spawn(async move {
            let outcome = change.await?;
            store.write(&directory, &key).await.map(|()| outcome)
        });
        written.await.map_err(|error| StoreError::new("write a file", error))?
    }

    async fn write(&self, directory: &Path, key: &CacheKey) -> Result<(), StoreError> {
        let found = self.memory.get(key).await?;
        let fresh = found.variants.iter().filter(|stored| stored.expired.is_none());
        let record = Record::new(0, fresh.map(Recorded::from));
        let bytes = record.encode(key).map_err(|error| StoreError::new("write a record", error))?;
        // A reader sees the old file or the new one, also after a crash.
        let (file, new) = (directory.join(name(key)), directory.join("new"));
        let written = match fs::write(&new, bytes).await {
            Ok(()) => fs::rename(new, &file).await,
            failed => failed,
        };
        if let Err(error) = written {
            // What the old file has was replaced, or is outdated, and must not come back.
            fs::remove_file(file).await.ok();
            return Err(StoreError::new("write a file", error));
        }
        Ok(())
    }
}

impl Store for DirectoryStore {
    fn try_get(&self, key: &CacheKey) -> Option<Lookup> {
        self.memory.try_get(key).filter(|found| !found.variants.is_empty())
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        // What is purged from now on is not put back by what is read here.
        let expected = self.memory.expect(key);
        let found = self.memory.get(key).await?;
        if !found.variants.is_empty() {
            return Ok(found);
        }
        let directory = self.directory.lock().await;
        let found = self.memory.get(key).await?;
        if !found.variants.is_empty() {
            return Ok(found); // it was put in the meantime
        }
        if let Some((own, responses)) = read(&directory.join(name(key))).await
            && own == *key
        {
            // The newest is put last, and comes first.
            for response in responses.into_iter().rev() {
                self.memory.put(key, response, expected.fence().unwrap_or_default()).await?;
            }
        }
        self.memory.get(key).await
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        let (memory, to) = (self.memory.clone(), key.clone());
        self.change(key, async move { memory.put(&to, response, fence).await }).await
    }

    async fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        let (memory, to) = (self.memory.clone(), key.clone());
        self.change(key, async move { memory.freshen(&to, of, head, fence).await }).await
    }

    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<PurgeNumber, StoreError> {
        let directory = self.directory.lock().await;
        let failed = |error| StoreError::new("look through the directory", error);
        let mut files = fs::read_dir(&*directory).await.map_err(failed)?;
        while let Some(file) = files.next_entry().await.map_err(failed)? {
            let Some((key, responses)) = read(&file.path()).await else {
                continue;
            };
            let is_named = |response: &StoredResponse| {
                targets.iter().any(|target| target.names(&key, response.head().groups()))
            };
            if responses.iter().any(is_named) {
                fs::remove_file(file.path()).await.map_err(failed)?;
            }
        }
        self.memory.invalidate(targets, mode).await
    }

    // The rest is the memory's.
    async fn open(
        &self,
        key: &CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        self.memory.open(key, content, range).await
    }

    fn expect(&self, key: &CacheKey) -> Expected {
        self.memory.expect(key)
    }

    async fn begin(&self, _: &CacheKey, _: Option<u64>, _: Fence) -> Result<BeginOutcome, StoreError> {
        Ok(BeginOutcome::PutWhole)
    }

    async fn purged_since(
        &self,
        key: &CacheKey,
        since: Fence,
        scope: PurgeScope,
    ) -> Result<bool, StoreError> {
        self.memory.purged_since(key, since, scope).await
    }

    fn limits(&self) -> StoreLimits {
        self.memory.limits().waits(true)
    }

    fn statistics(&self) -> StoreStatistics {
        self.memory.statistics()
    }
}

/// A key and the responses under it; `None` where there is no file, or one that this version of the library has not written.
async fn read(file: &Path) -> Option<(CacheKey, Vec<StoredResponse>)> {
    let (key, record) = Record::decode_any(fs::read(file).await.ok()?.into()).ok()?;
    Some((key, record.variants.into_iter().map(|recorded| recorded.response).collect()))
}

/// The name of a key's file. A client that wants two keys to have one name gains nothing but misses: the file says whose it is.
fn name(key: &CacheKey) -> String {
    RecordNames::new("own").of(key).replace(':', "-") + ".entry"
}

/// The application over a store in this directory.
pub fn app(directory: &Path) -> Router {
    let page = get(|| async { ([("cache-control", "max-age=3600")], "hello") });
    Router::new().route("/", page).layer(CacheLayer::new(DirectoryStore::new(directory)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args().nth(1).ok_or("usage: own_store DIRECTORY")?;
    std::fs::create_dir_all(&directory)?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    Ok(axum::serve(listener, app(Path::new(&directory))).await?)
}
