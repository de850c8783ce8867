//! Caches whose store is outside of their process, and has bytes only: records, of one version of the library or of several.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use larder::semantics::range::ByteRange;
use larder::store::conformance::Nodes;
use larder::store::record::{Record, RecordNames, Recorded};
use larder::store::{
    BeginOutcome, Expected, Expired, Fence, Lookup, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget,
    PutOutcome, RemoteContent, Store, StoreLimits, StoreStatistics, Stored, StoredBody, StoredId, Variants,
};
use larder::{CacheKey, ResponseHead, StoreError, StoredResponse};

use tokio::time::Instant;

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

/// What a server or its nodes do wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flaw {
    /// When the nodes end, what is purged is dropped, and then purges are counted from the first one again.
    CountsAnew,
    /// No purge is remembered when the nodes end.
    ForgetsPurges,
    /// No record is there when the nodes begin again.
    ForgetsRecords,
    #[default]
    None,
    /// Each node has a log of its own.
    PurgesStayOnTheirNode,
    /// Purges concern what was stored since the nodes have begun.
    SparesWhatIsOlder,
    /// Whosever record is found is taken.
    TakesRecordsOfOtherKeys,
}

/// What all nodes share.
#[derive(Default)]
pub struct Records {
    bytes: Mutex<HashMap<String, Vec<u8>>>,
    log: Log,
    next: AtomicU64,
    /// One call at a time, as in a server's script.
    turn: Mutex<()>,
}

/// All purges, when they came and by which node. A fence is the number of those before it and one more, so that the default fence
/// stands before all.
#[derive(Default)]
struct Log(Mutex<Vec<(PurgeTarget, PurgeMode, Instant, u64)>>);

impl Records {
    /// The names and bytes of all records.
    pub fn all(&self) -> HashMap<String, Vec<u8>> {
        self.bytes.lock().unwrap().clone()
    }

    /// Writes over all records.
    pub fn overwrite(&self, with: impl Fn(&[u8]) -> Vec<u8>) {
        self.bytes.lock().unwrap().values_mut().for_each(|bytes| *bytes = with(bytes));
    }
}

/// One node's way to the records.
pub struct Node {
    flaw: Flaw,
    /// How long the purges of other nodes take to come here.
    knows_after: Duration,
    log: Option<Arc<Log>>,
    number: u64,
    records: Arc<Records>,
    version: Version,
}

const MAX_VARIANTS: usize = 8;

impl Node {
    pub fn of(records: &Arc<Records>, version: Version) -> Self {
        let number = records.next.fetch_add(1, Ordering::SeqCst);
        let records = Arc::clone(records);
        Self { flaw: Flaw::None, knows_after: Duration::ZERO, log: None, number, records, version }
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
        match self.flaw {
            Flaw::TakesRecordsOfOtherKeys => Record::decode_any(bytes.into()).map(|(_, record)| record),
            _ => Record::decode(key, bytes.into()),
        }
        .unwrap_or_default()
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

    fn log(&self) -> MutexGuard<'_, Vec<(PurgeTarget, PurgeMode, Instant, u64)>> {
        self.log.as_deref().unwrap_or(&self.records.log).0.lock().unwrap()
    }

    /// How many purges are known here. They come in their order.
    fn known(&self) -> usize {
        let is_known = |of: u64, at: Instant| of == self.number || at.elapsed() >= self.knows_after;
        let log = self.log();
        log.iter().rposition(|(.., at, of)| is_known(*of, *at)).map_or(0, |last| last + 1)
    }

    fn fence(&self) -> Fence {
        Fence::from_bits(self.known() as u128 + 1)
    }

    /// What the purges that are known have made of a response since a fence: `None` where it is gone.
    fn judged(&self, key: &CacheKey, response: &StoredResponse, since: Fence) -> Option<Option<Expired>> {
        let (before, known) = (usize::try_from(since.bits().saturating_sub(1)).unwrap(), self.known());
        let mut expired: Option<Expired> = None;
        for (target, mode, ..) in self.log()[..known].iter().skip(before) {
            if target.names(key, response.head().groups()) {
                let by_this = match *mode {
                    PurgeMode::Expire(at) => Expired::new(at, None),
                    PurgeMode::ExpireUntil { at, until } => Expired::new(at, Some(until)),
                    _ => return None,
                };
                expired = Some(expired.map_or(by_this, |expired| expired.and(by_this)));
            }
        }
        Some(expired)
    }

    fn found(&self, key: &CacheKey) -> Vec<Stored> {
        let recorded = self.read(key).variants.into_iter();
        let judged = recorded.filter_map(|recorded| {
            if self.flaw == Flaw::SparesWhatIsOlder && recorded.id.bits() < self.number {
                return Some(Stored::from(recorded));
            }
            let expired = self.judged(key, &recorded.response, recorded.fence)?;
            let mut stored = Stored::from(recorded);
            stored.expired = expired;
            Some(stored)
        });
        judged.collect()
    }

    /// In the place of those that are to be replaced.
    fn put_now(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
        replaces: impl Fn(&Stored) -> bool,
    ) -> PutOutcome {
        if response.payload().len() > self.limits().max_object {
            return PutOutcome::TooLarge;
        }
        let mut found = self.found(key);
        let Some(expired) = self.judged(key, &response, fence) else {
            return PutOutcome::Superseded;
        };
        let is_older = |stored: &Stored| {
            let is_older = stored.expired.is_none() && response.is_older_than(&stored.response);
            is_older || (expired.is_some() && stored.fence.bits() > fence.bits())
        };
        if found.iter().any(|stored| replaces(stored) && is_older(stored)) {
            return PutOutcome::Superseded;
        }
        found.retain(|stored| !replaces(stored));
        let revision = self.records.next.fetch_add(1, Ordering::SeqCst);
        let new = Stored::new(StoredId::from_bits(revision), fence, response);
        let variants = std::iter::once(&new).chain(&found).take(MAX_VARIANTS);
        self.write(key, &Record::new(revision, variants.map(Recorded::from)));
        PutOutcome::Stored
    }
}

impl Store for Node {
    fn try_get(&self, _: &CacheKey) -> Option<Lookup> {
        None
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        let _turn = self.records.turn.lock().unwrap();
        Ok(Lookup::new(self.fence(), Variants::new(self.found(key))))
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
        let _turn = self.records.turn.lock().unwrap();
        let selecting = response.head().reuse().selecting.clone();
        let replaces = |stored: &Stored| stored.response.head().reuse().selecting == selecting;
        Ok(self.put_now(key, response, fence, replaces))
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
        let _turn = self.records.turn.lock().unwrap();
        let found = self.found(key).into_iter().find(|stored| stored.id == of);
        Ok(found.map_or(PutOutcome::Superseded, |stored| {
            let response = StoredResponse::new(head, stored.response.payload().clone());
            self.put_now(key, response, fence, |stored| stored.id == of)
        }))
    }

    /// The log forgets nothing.
    fn expect(&self, _: &CacheKey) -> Expected {
        Expected::default()
    }

    /// By any purge, whatever it names.
    async fn purged_since(&self, _: &CacheKey, since: Fence, _: PurgeScope) -> Result<bool, StoreError> {
        Ok(self.fence().bits() > since.bits())
    }

    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<PurgeNumber, StoreError> {
        let mut log = self.log();
        let now = Instant::now();
        log.extend(targets.iter().map(|target| (target.clone(), mode, now, self.number)));
        Ok(if targets.is_empty() { PurgeNumber::default() } else { PurgeNumber::new(log.len() as u64) })
    }

    fn statistics(&self) -> StoreStatistics {
        let bytes = self.records.bytes.lock().unwrap();
        StoreStatistics::new(bytes.values().map(|bytes| bytes.len() as u64).sum(), bytes.len() as u64, 0)
    }

    fn limits(&self) -> StoreLimits {
        StoreLimits::new().max_object(1 << 20).max_variants(MAX_VARIANTS).waits(true)
    }
}

/// A server, to which two nodes connect.
#[derive(Default)]
pub struct Server {
    pub flaw: Flaw,
    pub knows_after: Duration,
    pub records: Arc<Records>,
}

impl Nodes for Server {
    type Store = Node;

    async fn open(&self) -> [Node; 2] {
        [(); 2].map(|()| {
            let log = (self.flaw == Flaw::PurgesStayOnTheirNode).then(Arc::default);
            let node = Node::of(&self.records, Version::Current);
            Node { flaw: self.flaw, knows_after: self.knows_after, log, ..node }
        })
    }

    async fn close(&self, [node, _]: [Node; 2]) {
        match self.flaw {
            Flaw::CountsAnew => {
                for bytes in self.records.all().into_values() {
                    let (key, _) = Record::decode_any(bytes.into()).unwrap();
                    let kept = node.found(&key).into_iter().filter(|stored| stored.expired.is_none());
                    let anew =
                        |stored: Stored| Recorded::new(stored.id, Fence::from_bits(1), stored.response);
                    node.write(&key, &Record::new(0, kept.map(anew)));
                }
                self.records.log.0.lock().unwrap().clear();
            }
            Flaw::ForgetsPurges => self.records.log.0.lock().unwrap().clear(),
            Flaw::ForgetsRecords => self.records.bytes.lock().unwrap().clear(),
            _ => {}
        }
    }

    async fn bytes(&self, key: &CacheKey) -> Option<Vec<u8>> {
        self.records.bytes.lock().unwrap().get(&RecordNames::new("nodes").of(key)).cloned()
    }

    async fn overwrite(&self, key: &CacheKey, bytes: Vec<u8>) {
        self.records.bytes.lock().unwrap().insert(RecordNames::new("nodes").of(key), bytes);
    }
}
