//! Nodes that share a log of purges, and what befalls it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, StatusCode};
use larder::semantics::reuse::Reuse;
use larder::semantics::vary::Selecting;
use larder::store::log::{
    Announced, Appended, LogPage, LogState, MarkTable, MemoryLog, NewEntry, PurgeLog, Replica, Verdict,
};
use larder::store::{Fence, PurgeMode, PurgeNumber, PurgeTarget};
use larder::{CacheKey, HeadParts, Payload, ResponseHead, StoreError, StoredResponse};

/// One node's way to a log, which can be cut.
#[derive(Clone, Default)]
pub struct Link {
    is_cut: Arc<AtomicBool>,
    pub log: MemoryLog,
}

impl Link {
    pub fn to(log: &MemoryLog) -> Self {
        Self { is_cut: Arc::default(), log: log.clone() }
    }

    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
    }

    pub fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }

    /// What has come back has gone over the link when it was whole.
    fn whole<T>(&self, come_back: T) -> Result<T, StoreError> {
        match self.is_cut.load(Ordering::SeqCst) {
            true => Err(StoreError::new("reach the log", "the link is cut")),
            false => Ok(come_back),
        }
    }
}

impl PurgeLog for Link {
    async fn append(&self, entry: &NewEntry) -> Result<Appended, StoreError> {
        self.whole(())?;
        self.log.append(entry).await
    }

    async fn read_after(&self, number: u64, wait: Duration) -> Result<LogPage, StoreError> {
        self.whole(())?;
        let page = self.log.read_after(number, wait).await?;
        self.whole(page)
    }

    async fn state(&self) -> Result<LogState, StoreError> {
        self.whole(())?;
        self.log.state().await
    }

    async fn table(&self) -> Result<Option<MarkTable>, StoreError> {
        self.whole(())?;
        self.log.table().await
    }

    async fn announce(&self, uris: &[u64], time: Option<Duration>) -> Result<Announced, StoreError> {
        self.whole(())?;
        self.log.announce(uris, time).await
    }
}

pub const SECRET: [u8; 16] = *b"sixteen bytes...";

/// What one node knows of a log.
pub struct Node {
    pub link: Link,
    pub replica: Replica,
}

impl Node {
    /// One that has read the log.
    pub async fn of(log: &MemoryLog) -> Self {
        let node = Self { link: Link::to(log), replica: Replica::new(SECRET) };
        node.read().await;
        node
    }

    pub async fn read(&self) {
        self.replica.catch_up(&self.link).await.unwrap();
    }

    pub async fn purge(&self, target: &PurgeTarget) -> PurgeNumber {
        self.purge_as(target, PurgeMode::Remove).await
    }

    pub async fn purge_as(&self, target: &PurgeTarget, mode: PurgeMode) -> PurgeNumber {
        self.replica.purge(&self.link, std::slice::from_ref(target), mode).await.unwrap()
    }

    pub fn verdict(&self, uri: &str, since: Fence) -> Verdict {
        self.replica.judge(&key(uri), &response(&[]), since)
    }

    pub fn has(&self, uri: &str, since: Fence) -> bool {
        self.verdict(uri, since) == Verdict::Untouched
    }
}

pub fn key(uri: &str) -> CacheKey {
    CacheKey::from_uri(&uri.parse().unwrap()).unwrap()
}

/// A response in these groups.
pub fn response(groups: &[&str]) -> StoredResponse {
    response_with(groups, "", 0)
}

/// A response with this content, which came at this second.
pub fn response_with(groups: &[&str], content: &str, second: u64) -> StoredResponse {
    let at = UNIX_EPOCH + Duration::from_secs(second);
    let reuse = Reuse::new(at, at, Duration::ZERO, Selecting::default());
    let mut parts = HeadParts::new(StatusCode::OK, HeaderMap::new(), reuse);
    parts.groups = groups.iter().map(|group| (*group).into()).collect();
    let payload = Payload::from_bytes(content.to_owned().into());
    StoredResponse::from_parts(ResponseHead::from_parts(parts).unwrap(), payload).unwrap()
}
