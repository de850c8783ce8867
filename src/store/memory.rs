//! Stored responses in memory, bounded in bytes.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};
use smallvec::{SmallVec, smallvec};

use super::purges::{HeldNames, Purges, number};
use super::stamp::Verdict;
use super::{
    BeginOutcome, Expected, Expired, Fence, Lookup, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget,
    PutOutcome, Store, StoreLimits, StoreStatistics, Stored, StoredBody, StoredId, Variants,
};
use crate::entry::key::CacheKey;
use crate::entry::{RemoteContent, ResponseHead, StoredResponse};
use crate::error::StoreError;
use crate::runtime::{Mutex, MutexGuard, lock};
use crate::semantics::range::ByteRange;

const MIB: u64 = 1024 * 1024;

/// Keeps responses in this process's memory, the most useful ones within a bound in bytes.
///
/// Keys, fields, content and bookkeeping count. Eviction is [quick_cache]'s, which resists scans.
/// Clones share one store.
///
/// ```
/// use larder::{CacheLayer, MemoryStore};
/// let store = MemoryStore::builder()
///     .capacity(64 * 1024 * 1024)
///     .max_object(1024 * 1024)
///     .build();
/// let layer = CacheLayer::new(store);
/// # let _ = layer;
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

struct Inner {
    cache: Cache<CacheKey, Entry, ByWeight, DefaultHashBuilder, Evictions>,
    evictions: AtomicU64,
    ids: AtomicU64,
    max_object: u64,
    max_variants: usize,
    /// The most that one key may weigh, all variants together.
    max_key: u64,
    purges: Arc<Purges>,
    /// Writers of one key take turns; readers never wait for them.
    writers: [Mutex<()>; WRITERS],
    writer_hasher: DefaultHashBuilder,
}

/// One where schedules are explored, so that the random hash of a key has no part in them.
const WRITERS: usize = if cfg!(shuttle) { 1 } else { 64 };

/// All responses under one key.
#[derive(Clone)]
struct Entry {
    variants: Variants,
    weight: u64,
}

/// A response of a former life of the store, and what soft purges had made of it.
pub(super) type Former = (StoredResponse, Option<Expired>);

#[derive(Clone)]
struct ByWeight;

impl Weighter<CacheKey, Entry> for ByWeight {
    fn weight(&self, _: &CacheKey, entry: &Entry) -> u64 {
        entry.weight
    }
}

/// Collects what a write drops, so that it is freed outside the shard's lock.
#[derive(Clone)]
struct Evictions;

/// What one write drops: keys that make room, and the key itself where it was there before.
#[derive(Default)]
struct Dropped(Vec<(CacheKey, Entry)>);

impl Lifecycle<CacheKey, Entry> for Evictions {
    type RequestState = Dropped;

    fn on_evict(&self, dropped: &mut Dropped, key: CacheKey, entry: Entry) {
        dropped.0.push((key, entry));
    }
}

/// Settings of a [`MemoryStore`].
#[derive(Clone, Debug)]
pub struct MemoryStoreBuilder {
    capacity: u64,
    max_object: u64,
    max_variants: usize,
}

impl MemoryStoreBuilder {
    /// The most bytes held; default 256 MiB.
    #[must_use]
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = bytes;
        self
    }

    /// The largest content that is stored, in bytes; default 8 MiB, and
    /// never more than three quarters of the capacity.
    #[must_use]
    pub fn max_object(mut self, bytes: u64) -> Self {
        self.max_object = bytes;
        self
    }

    /// The most responses under one key, at least 1; default 64. The oldest is dropped.
    #[must_use]
    pub fn max_variants(mut self, count: usize) -> Self {
        self.max_variants = count.max(1);
        self
    }

    /// Makes the store.
    pub fn build(self) -> MemoryStore {
        /// Room in addition to the content for key, fields and bookkeeping of the largest object.
        const HEAD: u64 = 64 * 1024;
        let max_object = self.max_object.min(self.capacity / 4 * 3);
        // A shard takes no item heavier than its hot part, 97 % of its share of the capacity. So there
        // are as many shards as leave each the room for two of the largest objects, and at least one.
        let heaviest = max_object.saturating_add(HEAD).saturating_mul(2);
        let shards = (self.capacity / heaviest.max(1)).clamp(1, 64);
        let shards = 1 << shards.ilog2(); // quick_cache rounds up to a power of two
        let shard_share = self.capacity / shards;
        // An estimate for the size of its index and its memory of evicted keys; 32 to a shard at least, or
        // quick_cache halves the number of shards.
        let items = (self.capacity / (16 * 1024)).clamp(shards * 32, 1 << 20);
        let options = OptionsBuilder::new()
            .shards(usize::try_from(shards).unwrap_or(1))
            .estimated_items_capacity(usize::try_from(items).unwrap_or(1 << 20))
            .weight_capacity(self.capacity)
            .hot_allocation(HOT)
            .build();
        let cache = match options {
            Ok(options) => Cache::with_options(options, ByWeight, DefaultHashBuilder::default(), Evictions),
            // Both capacities are set, which is all that `build` asks for.
            Err(_) => Cache::with(1 << 16, self.capacity, ByWeight, DefaultHashBuilder::default(), Evictions),
        };
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let max_key = (shard_share as f64 * HOT) as u64;
        MemoryStore {
            inner: Arc::new(Inner {
                cache,
                evictions: AtomicU64::new(0),
                ids: AtomicU64::new(1),
                max_object,
                max_variants: self.max_variants,
                max_key,
                purges: Arc::default(),
                writers: std::array::from_fn(|_| Mutex::new(())),
                writer_hasher: DefaultHashBuilder::default(),
            }),
        }
    }
}

/// The share of a shard that quick_cache gives to keys used more than once.
const HOT: f64 = 0.97;

impl Default for MemoryStoreBuilder {
    fn default() -> Self {
        Self { capacity: 256 * MIB, max_object: 8 * MIB, max_variants: 64 }
    }
}

impl MemoryStore {
    /// A store with a capacity of 256 MiB, objects up to 8 MiB, 64 variants a key.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A store with other settings.
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder::default()
    }

    /// Gives back the memory of what everything that was purged took, in the background where there is one:
    /// the purge itself costs the same whatever is stored.
    fn sweep(&self, purged: u64) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let store = self.clone();
            runtime.spawn_blocking(move || {
                let keeps = |stored: &Stored| number(stored.fence) >= purged;
                store.inner.cache.retain(|_, entry| entry.variants.iter().any(keeps));
            });
        }
    }

    /// The purge state now.
    pub(super) fn fence(&self) -> Fence {
        self.inner.purges.state().0
    }

    /// All that is stored and was not purged, key by key. What is written meanwhile may be among it or not.
    pub(super) fn entries(&self) -> impl Iterator<Item = (CacheKey, Variants)> + '_ {
        self.inner.cache.iter().map(|(key, _)| {
            let present = self.inner.present(&key);
            (key, present)
        })
    }

    /// The most bytes that one key may weigh.
    pub(super) fn max_key(&self) -> u64 {
        self.inner.max_key
    }

    /// Puts back what was under a key in a former life of the store, the newest first, unless something is there already. Purges
    /// since the fence count. Says how many responses are there now.
    pub(super) fn put_back(&self, key: &CacheKey, former: Vec<Former>, fence: Fence) -> usize {
        self.inner.put_back(key, former, fence)
    }

    /// The number of names that are held.
    #[cfg(all(test, shuttle))]
    pub(crate) fn names(&self) -> usize {
        self.inner.purges.names()
    }

    fn look_up(&self, key: &CacheKey) -> Lookup {
        let inner = &*self.inner;
        // Before the look-up: a purge after this moment is newer than the fence.
        let (fence, stamped) = inner.purges.state();
        let variants = match inner.cache.get(key) {
            None => Variants::default(),
            Some(entry) if is_checked(&entry.variants, stamped) => entry.variants,
            Some(entry) => inner.judged(key, &entry.variants, stamped),
        };
        Lookup::new(fence, variants)
    }
}

/// Whether no variant can have been hit by a purge up to number `latest`, by the mark of the variants. Without the mark, a
/// hit would look for the stamps of its key and groups each time: 240 instructions (3 %) as long as nothing was purged, and
/// more from then on.
fn is_checked(variants: &Variants, latest: u64) -> bool {
    variants.mark().is_none_or(|mark| mark.load(Ordering::Acquire) >= latest)
}

impl Inner {
    /// [`Inner::without_purged`], and where nothing is left the key goes, so that it is judged once.
    fn judged(&self, key: &CacheKey, variants: &Variants, latest: u64) -> Variants {
        let kept = self.without_purged(key, variants, latest);
        if kept.is_empty() {
            let _writing = self.writer(key);
            drop(self.cache.remove_if(key, |entry| entry.variants.is(variants)));
        }
        kept
    }

    /// The variants that no purge has removed, with those marked that one has expired.
    fn without_purged(&self, key: &CacheKey, variants: &Variants, latest: u64) -> Variants {
        if variants.advance_mark(key, latest) {
            return variants.clone();
        }
        let verdicts: Vec<_> =
            variants.iter().map(|stored| self.purges.judge(key, &stored.response, stored.fence)).collect();
        if verdicts.iter().all(|verdict| *verdict == Verdict::Untouched) {
            if let Some(mark) = variants.mark() {
                mark.fetch_max(latest, Ordering::AcqRel);
            }
            return variants.clone();
        }
        let kept = variants.iter().zip(verdicts).filter_map(|(stored, verdict)| {
            let mut stored = stored.clone();
            match verdict {
                Verdict::Removed => return None,
                // What a former life of the store has brought may have been purged softly then.
                Verdict::Expired(now) => {
                    stored.expired = Some(stored.expired.map_or(now, |former| former.and(now)));
                }
                Verdict::Untouched => {}
            }
            Some(stored)
        });
        variants.of_these(kept)
    }

    fn writer(&self, key: &CacheKey) -> MutexGuard<'_, ()> {
        let hash = self.writer_hasher.hash_one(key);
        let stripe = usize::try_from(hash % self.writers.len() as u64).unwrap_or_default();
        lock(&self.writers[stripe])
    }

    fn put(&self, key: &CacheKey, response: StoredResponse, fence: Fence) -> PutOutcome {
        let response = response.compacted();
        let head = Arc::clone(&response.head);
        let replaces = |stored: &Stored| stored.response.head().reuse().selecting == head.reuse.selecting;
        let writing = self.writer(key);
        self.write(writing, key, response, fence, replaces, false)
    }

    fn freshen(&self, key: &CacheKey, of: StoredId, head: ResponseHead, fence: Fence) -> PutOutcome {
        let writing = self.writer(key);
        let present = self.present(key);
        let Some(stored) = present.iter().find(|stored| stored.id == of) else {
            return PutOutcome::Superseded;
        };
        let response = StoredResponse::new(head, stored.response.payload().clone());
        self.write(writing, key, response, fence, |stored| stored.id == of, true)
    }

    /// What is there, judged by all purges so far.
    fn present(&self, key: &CacheKey) -> Variants {
        let (_, stamped) = self.purges.state();
        match self.cache.peek(key) {
            Some(entry) => self.without_purged(key, &entry.variants, stamped),
            None => Variants::default(),
        }
    }

    /// Puts `response` before the others of its key, in place of those that `replaces` accepts, one of which has to be there
    /// where it `only_replaces`.
    fn write(
        &self,
        writing: MutexGuard<'_, ()>,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
        replaces: impl Fn(&Stored) -> bool,
        only_replaces: bool,
    ) -> PutOutcome {
        let weight = base_weight(key) + weight_of(&response);
        if response.payload().len() > self.max_object || weight > self.max_key {
            return PutOutcome::TooLarge;
        }
        // Held before it is judged: a purge that comes later finds it.
        let mut held = self.purges.hold(key, &response);
        let verdict = self.purges.judge_new(key, &response, fence);
        if verdict == Verdict::Removed {
            return PutOutcome::Superseded;
        }
        let present = self.present(key);
        // What was asked for before a soft purge does not replace what was asked for after it, and nothing replaces what is
        // newer.
        let is_newer = |stored: &Stored| {
            (verdict != Verdict::Untouched && number(stored.fence) > number(fence))
                || (stored.expired.is_none() && response.is_older_than(&stored.response))
        };
        let is_missing = only_replaces && !present.iter().any(&replaces);
        if is_missing || present.iter().any(|stored| replaces(stored) && is_newer(stored)) {
            return PutOutcome::Superseded;
        }
        // By the times of messages: the store reads no clock.
        let received_at = response.head().reuse().response_time;
        let mut total = weight;
        let mut list: SmallVec<[_; 1]> = smallvec![Stored::new(self.next_id(), fence, response)];
        let oldest = present.iter().map(|stored| number(stored.fence)).min();
        for stored in present.iter().filter(|stored| !replaces(stored) && !stored.is_gone(received_at)) {
            let more = weight_of(&stored.response);
            if list.len() >= self.max_variants || total + more > self.max_key {
                break; // the rest is older
            }
            total += more;
            held.add_response(key, &stored.response);
            list.push(stored.clone());
        }
        let checked = oldest.map_or(number(fence), |oldest| oldest.min(number(fence)));
        let entry = Entry { variants: Variants::checked(list, checked, Some(held)), weight: total };
        self.insert(writing, key, entry);
        PutOutcome::Stored
    }

    fn insert(&self, writing: MutexGuard<'_, ()>, key: &CacheKey, entry: Entry) {
        let mut dropped = Dropped::default();
        self.cache.insert_with_lifecycle(key.clone(), entry, &mut dropped);
        drop(writing);
        let evicted = dropped.0.iter().filter(|(other, _)| other != key).count();
        self.evictions.fetch_add(evicted as u64, Ordering::Relaxed);
    }

    fn put_back(&self, key: &CacheKey, former: Vec<Former>, fence: Fence) -> usize {
        let writing = self.writer(key);
        if self.cache.peek(key).is_some() {
            return 0; // and newer than anything of a former life
        }
        let mut held = self.purges.hold_key(key);
        let mut total = base_weight(key);
        let mut list: SmallVec<[Stored; 1]> = SmallVec::new();
        for (response, expired) in former {
            let response = response.compacted();
            let weight = weight_of(&response);
            if list.len() >= self.max_variants || total + weight > self.max_key {
                break; // the rest is older
            }
            if response.payload().len() > self.max_object || response.payload().is_remote() {
                continue;
            }
            held.add_response(key, &response);
            let expired = match self.purges.judge_new(key, &response, fence) {
                Verdict::Removed => continue,
                Verdict::Expired(since) => Some(expired.map_or(since, |expired| expired.and(since))),
                Verdict::Untouched => expired,
            };
            total += weight;
            list.push(Stored { expired, ..Stored::new(self.next_id(), fence, response) });
        }
        let count = list.len();
        if count > 0 {
            let variants = Variants::checked(list, number(fence), Some(held));
            self.insert(writing, key, Entry { variants, weight: total });
        }
        count
    }

    fn next_id(&self) -> StoredId {
        StoredId::from_bits(self.ids.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a key takes before there is a response.
fn base_weight(key: &CacheKey) -> u64 {
    let own_name = if key.is_uri_only() { 0 } else { NAME };
    key.weight() as u64 + ENTRY + own_name
}

/// What a name by which a response can be purged takes in the table of those: its place, at the table's usual load.
const NAME: u64 = 48;
/// What an entry takes in addition to its key and its responses: the slot in quick_cache's table, the block of the
/// variants with the purge mark and the names, and the places of the names of its URI and path.
const ENTRY: u64 = 144 + size_of::<HeldNames>() as u64 + 2 * NAME;

fn weight_of(response: &StoredResponse) -> u64 {
    let names = 2 * response.head().groups().count() + usize::from(response.may_answer_for_other_queries());
    (response.weight() + size_of::<Stored>()) as u64 + names as u64 * NAME
}

impl Store for MemoryStore {
    fn try_get(&self, key: &CacheKey) -> Option<Lookup> {
        Some(self.look_up(key))
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        Ok(self.look_up(key))
    }

    /// It keeps no content apart. What another store keeps elsewhere, and has put here as a head, is for that one to open.
    async fn open(
        &self,
        _: &CacheKey,
        _: RemoteContent,
        _: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        Ok(None)
    }

    fn expect(&self, key: &CacheKey) -> Expected {
        let (fence, on_its_way) = self.inner.purges.expect(key);
        Expected::new(fence, on_its_way)
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        Ok(self.inner.put(key, response, fence))
    }

    /// Content goes into memory anyway.
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
        Ok(self.inner.freshen(key, of, head, fence))
    }

    async fn purged_since(
        &self,
        key: &CacheKey,
        since: Fence,
        scope: PurgeScope,
    ) -> Result<bool, StoreError> {
        Ok(self.inner.purges.concern(key, since, scope))
    }

    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<PurgeNumber, StoreError> {
        let mut number = PurgeNumber::default();
        for target in targets {
            let purged = self.inner.purges.purge(target, mode);
            number = PurgeNumber::new(purged);
            if mode == PurgeMode::Remove {
                // The stamp alone does it; this gives the memory back at once where that is cheap.
                match target {
                    PurgeTarget::All => self.sweep(purged),
                    PurgeTarget::Key(key) => drop(self.inner.cache.remove(key)),
                    _ => {}
                }
            }
        }
        Ok(number)
    }

    fn limits(&self) -> StoreLimits {
        let Inner { cache, max_object, max_variants, .. } = &*self.inner;
        StoreLimits::new().capacity(cache.capacity()).max_object(*max_object).max_variants(*max_variants)
    }

    fn statistics(&self) -> StoreStatistics {
        let Inner { cache, evictions, .. } = &*self.inner;
        StoreStatistics::new(cache.weight(), cache.len() as u64, evictions.load(Ordering::Relaxed))
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("statistics", &self.statistics()).finish_non_exhaustive()
    }
}
