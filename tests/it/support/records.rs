//! Caches whose store is outside of their process, and has bytes only: records, of one version of the library or of several.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use larder::semantics::range::ByteRange;
use larder::store::record::{Record, RecordNames, Recorded};
use larder::store::{
    BeginOutcome, Expected, Fence, Lookup, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget, PutOutcome,
    RemoteContent, Store, StoreLimits, StoreStatistics, Stored, StoredBody, StoredId, Variants,
};
use larder::{CacheKey, ResponseHead, StoreError, StoredResponse};

use super::hostile::{with_format, with_sections};

/// A version of the library, as far as a record shows it.
#[derive(Clone, Copy, Debug)]
pub enum Version {
    /// That of this crate.
    Current,
    /// A later one that writes the same format and more: these sections.
    More(&'static [u8]),
    /// A later one that writes another format under the names of this one.
    Other,
    /// A later one that writes another format under names of its own.
    Renamed,
}

/// The format of a later version.
const OTHER: u16 = 9;

/// What all nodes share.
#[derive(Default)]
pub struct Records {
    bytes: Mutex<HashMap<String, Vec<u8>>>,
    /// All purges. A fence is the number of those before it and one more, so that the default fence stands before all.
    log: Mutex<Vec<PurgeTarget>>,
}

impl Records {
    /// The names and bytes of all records.
    pub fn all(&self) -> HashMap<String, Vec<u8>> {
        self.bytes.lock().unwrap().clone()
    }

    fn fence(&self) -> Fence {
        Fence::from_bits(self.log.lock().unwrap().len() as u128 + 1)
    }

    fn is_purged(&self, key: &CacheKey, response: Option<&StoredResponse>, since: Fence) -> bool {
        let before = usize::try_from(since.bits().saturating_sub(1)).unwrap();
        let groups = || response.into_iter().flat_map(|response| response.head().groups());
        self.log.lock().unwrap().iter().skip(before).any(|target| target.names(key, groups()))
    }

    /// Writes over all records.
    pub fn overwrite(&self, with: impl Fn(&[u8]) -> Vec<u8>) {
        self.bytes.lock().unwrap().values_mut().for_each(|bytes| *bytes = with(bytes));
    }
}

/// One node's way to the records.
pub struct Node {
    records: Arc<Records>,
    version: Version,
}

impl Node {
    pub fn of(records: &Arc<Records>, version: Version) -> Self {
        Self { records: Arc::clone(records), version }
    }

    fn name(&self, key: &CacheKey) -> String {
        let namespace = if let Version::Renamed = self.version { "other" } else { "nodes" };
        RecordNames::new(namespace).of(key)
    }

    /// An empty record where there is none that this version reads.
    fn read(&self, key: &CacheKey) -> Record {
        let bytes = self.records.bytes.lock().unwrap().get(&self.name(key)).cloned().unwrap_or_default();
        let bytes = match self.version {
            Version::Current | Version::More(_) => bytes,
            Version::Other | Version::Renamed if bytes.get(6..8) == Some(&OTHER.to_le_bytes()) => {
                with_format(&bytes, larder::store::record::FORMAT)
            }
            Version::Other | Version::Renamed => Vec::new(),
        };
        Record::decode(key, bytes.into()).unwrap_or_default()
    }

    fn write(&self, key: &CacheKey, record: &Record) {
        let bytes = record.encode(key).expect("short");
        let bytes = match self.version {
            Version::Current => bytes,
            Version::More(sections) => with_sections(&bytes, sections),
            Version::Other | Version::Renamed => with_format(&bytes, OTHER),
        };
        self.records.bytes.lock().unwrap().insert(self.name(key), bytes);
    }
}

impl Store for Node {
    fn try_get(&self, _: &CacheKey) -> Option<Lookup> {
        None
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        let fence = self.records.fence();
        let mut found = self.read(key).variants;
        found.retain(|recorded| !self.records.is_purged(key, Some(&recorded.response), recorded.fence));
        Ok(Lookup::new(fence, Variants::new(found.into_iter().map(Stored::from))))
    }

    async fn open(
        &self,
        _: &CacheKey,
        _: RemoteContent,
        _: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        Ok(None)
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        if self.records.is_purged(key, Some(&response), fence) {
            return Ok(PutOutcome::Superseded);
        }
        let mut record = self.read(key);
        let selecting = &response.head().reuse().selecting;
        record.variants.retain(|recorded| recorded.response.head().reuse().selecting != *selecting);
        record.revision += 1;
        let id = StoredId::from_bits(record.revision);
        record.variants.insert(0, Recorded::new(id, fence, response));
        self.write(key, &record);
        Ok(PutOutcome::Stored)
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
        match self.read(key).variants.iter().find(|recorded| recorded.id == of) {
            None => Ok(PutOutcome::Superseded),
            Some(recorded) => {
                let payload = recorded.response.payload().clone();
                self.put(key, StoredResponse::new(head, payload), fence).await
            }
        }
    }

    /// The log forgets nothing.
    fn expect(&self, _: &CacheKey) -> Expected {
        Expected::default()
    }

    async fn purged_since(
        &self,
        key: &CacheKey,
        since: Fence,
        scope: PurgeScope,
    ) -> Result<bool, StoreError> {
        let is_purged = match scope {
            PurgeScope::Key => self.records.is_purged(key, None, since),
            _ => self.records.fence() != since,
        };
        Ok(is_purged)
    }

    /// Everything goes for good: more than a soft purge asks for.
    async fn invalidate(&self, targets: &[PurgeTarget], _: PurgeMode) -> Result<PurgeNumber, StoreError> {
        let mut log = self.records.log.lock().unwrap();
        log.extend_from_slice(targets);
        Ok(PurgeNumber::new(log.len() as u64))
    }

    fn statistics(&self) -> StoreStatistics {
        StoreStatistics::default()
    }

    fn limits(&self) -> StoreLimits {
        StoreLimits::new().waits(true)
    }
}
