//! A store that several nodes share: records outside of each process, judged by a log of purges.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use larder::semantics::range::ByteRange;
use larder::store::log::{Followed, MemoryLog, PurgeLog, Replica, Verdict};
use larder::store::record::{Record, RecordNames, Recorded};
use larder::store::{
    BeginOutcome, Expected, Fence, Lookup, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget, PutOutcome,
    RemoteContent, Store, StoreLimits, StoreStatistics, Stored, StoredBody, StoredId, Variants,
};
use larder::{CacheKey, ResponseHead, StoreError, StoredResponse};

use super::logs::{Link, SECRET};
use super::turn;

/// What all nodes share.
#[derive(Clone, Default)]
pub struct Shared {
    pub log: MemoryLog,
    ids: Arc<AtomicU64>,
    records: Arc<Mutex<HashMap<String, Vec<u8>>>>,
}

/// One node's way to what is shared.
#[derive(Clone)]
pub struct FarNode {
    pub link: Arc<Link>,
    names: RecordNames,
    replica: Arc<Replica>,
    shared: Shared,
}

/// The most responses under one key.
const VARIANTS: usize = 16;
const MIB: u64 = 1 << 20;

fn number(fence: Fence) -> u64 {
    u64::try_from(fence.bits() & u128::from(u64::MAX)).unwrap_or_default()
}

impl FarNode {
    pub fn of(shared: &Shared) -> Self {
        Self {
            link: Arc::new(Link::to(&shared.log)),
            names: RecordNames::new("fleet").secret(SECRET),
            replica: Arc::new(Replica::new(SECRET)),
            shared: shared.clone(),
        }
    }

    /// All purges that had returned when this was called are known after it.
    async fn know(&self) -> Result<(), StoreError> {
        turn().await;
        let state = self.link.state().await?;
        turn().await;
        if !self.replica.is_at(state) {
            self.replica.catch_up(&*self.link).await?;
        }
        Ok(())
    }

    fn read(&self, key: &CacheKey, records: &HashMap<String, Vec<u8>>) -> Record {
        let bytes = records.get(&self.names.of(key)).cloned().unwrap_or_default();
        Record::decode(key, bytes.into()).unwrap_or_default()
    }

    /// What is there, as the log judges it.
    fn judged(&self, key: &CacheKey, record: Record) -> Vec<Stored> {
        let judge = |recorded: Recorded| {
            let verdict = self.replica.judge(key, &recorded.response, recorded.fence);
            let mut stored = Stored::from(recorded);
            if let Verdict::Expired(expired) = verdict {
                stored.expired = Some(expired);
            }
            (verdict != Verdict::Removed).then_some(stored)
        };
        record.variants.into_iter().filter_map(judge).collect()
    }

    /// Puts what `make` makes of the response that it takes the place of.
    fn write(
        &self,
        key: &CacheKey,
        fence: Fence,
        make: impl Fn(&[Stored]) -> Option<StoredResponse>,
    ) -> Result<PutOutcome, StoreError> {
        let mut records = self.shared.records.lock().unwrap();
        let record = self.read(key, &records);
        let revision = record.revision + 1;
        let present = self.judged(key, record);
        let Some(response) = make(&present) else {
            return Ok(PutOutcome::Superseded);
        };
        if response.payload().len() > 2 * MIB {
            return Ok(PutOutcome::TooLarge);
        }
        let verdict = self.replica.judge(key, &response, fence);
        let selecting = &response.head().reuse().selecting;
        let replaces = |stored: &Stored| stored.response.head().reuse().selecting == *selecting;
        let is_newer = |stored: &Stored| {
            (verdict != Verdict::Untouched && number(stored.fence) > number(fence))
                || (stored.expired.is_none() && response.is_older_than(&stored.response))
        };
        if verdict == Verdict::Removed || present.iter().any(|stored| replaces(stored) && is_newer(stored)) {
            return Ok(PutOutcome::Superseded);
        }
        let others = present.iter().filter(|stored| !replaces(stored)).take(VARIANTS - 1).map(Recorded::from);
        let id = StoredId::from_bits(self.shared.ids.fetch_add(1, Ordering::SeqCst));
        let new = Recorded::new(id, fence, response.clone());
        let record = Record::new(revision, std::iter::once(new).chain(others));
        let bytes = record.encode(key).map_err(|error| StoreError::new("put", error))?;
        records.insert(self.names.of(key), bytes);
        Ok(PutOutcome::Stored)
    }
}

impl Followed for FarNode {
    type Log = Link;

    fn log(&self) -> Arc<Link> {
        Arc::clone(&self.link)
    }

    fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }
}

impl Store for FarNode {
    fn try_get(&self, _: &CacheKey) -> Option<Lookup> {
        None
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        self.know().await?;
        let fence = self.replica.fence();
        let record = self.read(key, &self.shared.records.lock().unwrap());
        turn().await;
        Ok(Lookup::new(fence, Variants::new(self.judged(key, record))))
    }

    async fn open(
        &self,
        _: &CacheKey,
        _: RemoteContent,
        _: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        Ok(None)
    }

    fn expect(&self, _: &CacheKey) -> Expected {
        Expected::default()
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        self.know().await?;
        let outcome = self.write(key, fence, |_| Some(response.clone()));
        turn().await;
        outcome
    }

    async fn begin(&self, _: &CacheKey, _: Option<u64>, _: Fence) -> Result<BeginOutcome, StoreError> {
        Ok(BeginOutcome::PutWhole)
    }

    async fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        self.know().await?;
        let outcome = self.write(key, fence, |present| {
            let stored = present.iter().find(|stored| stored.id == of)?;
            Some(StoredResponse::new(head.clone(), stored.response.payload().clone()))
        });
        turn().await;
        outcome
    }

    async fn purged_since(
        &self,
        key: &CacheKey,
        since: Fence,
        scope: PurgeScope,
    ) -> Result<bool, StoreError> {
        self.know().await?;
        Ok(self.replica.concerns(key, since, scope))
    }

    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<PurgeNumber, StoreError> {
        turn().await;
        let purged = self.replica.purge(&*self.link, targets, mode).await;
        turn().await;
        purged
    }

    fn limits(&self) -> StoreLimits {
        StoreLimits::new().waits(true).max_object(2 * MIB).max_variants(VARIANTS)
    }

    fn statistics(&self) -> StoreStatistics {
        StoreStatistics::default()
    }
}
