//! What is in the folder, and what has to go to make room: all keys with the bytes of their files, in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use super::held::{Held, Holding};
use super::name::Name;
use crate::entry::RemoteContent;
use crate::runtime::{Mutex, lock};

/// What a file takes is a multiple of this.
const CLUSTER: u64 = 4096;
/// What a key takes in the folder besides.
const ENTRY: u64 = 256;

/// The files of a key.
#[derive(Clone, Default)]
pub(super) struct Entry {
    pub(super) contents: Arc<[Content]>,
    /// Bytes of its record.
    pub(super) record: u64,
}

/// The files of a key that are in the index, or are to be removed. As long as this is there, the name is held: a purge of it is
/// written, so that files that come back, by the end of the process, come back purged.
#[derive(Clone)]
pub(super) struct Indexed {
    pub(super) entry: Entry,
    _holding: Holding,
}

/// A file with content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) bytes: u64,
    pub(super) id: u128,
}

impl Entry {
    pub(super) fn weight(&self) -> u64 {
        let contents = self.contents.iter().map(|content| on_disk(content.bytes));
        contents.fold(on_disk(self.record).saturating_add(ENTRY), u64::saturating_add)
    }

    pub(super) fn has(&self, content: RemoteContent) -> bool {
        self.contents.iter().any(|own| own.id == content.id)
    }
}

/// Bytes that a file takes.
pub(super) fn on_disk(bytes: u64) -> u64 {
    bytes.div_ceil(CLUSTER).saturating_mul(CLUSTER)
}

#[derive(Clone)]
struct ByWeight;

impl Weighter<Name, Indexed> for ByWeight {
    fn weight(&self, _: &Name, indexed: &Indexed) -> u64 {
        indexed.entry.weight()
    }
}

/// Collects what is to go, so that files are removed by who has no lock. What was replaced may be among it.
#[derive(Clone, Default)]
struct Evicted(Arc<Mutex<Vec<(Name, Indexed)>>>);

impl Lifecycle<Name, Indexed> for Evicted {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), name: Name, indexed: Indexed) {
        lock(&self.0).push((name, indexed));
    }
}

pub(super) struct Index {
    cache: Cache<Name, Indexed, ByWeight, DefaultHashBuilder, Evicted>,
    capacity: u64,
    evicted: Evicted,
    evictions: AtomicU64,
    held: Arc<Held>,
    /// What is not in the index although its files may be there.
    left: Mutex<HashMap<Name, Indexed>>,
    /// Bytes that are set aside for what is being written.
    reserved: Mutex<u64>,
}

/// Bytes that are set aside until this is dropped.
pub(super) struct Reserved {
    bytes: u64,
    index: Arc<Index>,
}

impl Index {
    /// A key in it holds its name.
    pub(super) fn new(capacity: u64, held: Arc<Held>) -> Self {
        // For the size of its table and of its memory of evicted keys.
        let items = usize::try_from((capacity / (16 * 1024)).clamp(64, 1 << 20)).unwrap_or(1 << 20);
        let evicted = Evicted::default();
        let hasher = DefaultHashBuilder::default();
        // One, or the largest object would have to fit into a part of the capacity.
        let options =
            OptionsBuilder::new().shards(1).estimated_items_capacity(items).weight_capacity(capacity).build();
        let cache = match options {
            Ok(options) => Cache::with_options(options, ByWeight, hasher, evicted.clone()),
            // Both capacities are set, which is all that `build` asks for.
            Err(_) => Cache::with(items, capacity, ByWeight, hasher, evicted.clone()),
        };
        Self {
            cache,
            capacity,
            evicted,
            evictions: AtomicU64::new(0),
            held,
            left: Mutex::default(),
            reserved: Mutex::new(0),
        }
    }

    /// The files of a key; this counts as a use of it.
    pub(super) fn get(&self, name: Name) -> Option<Entry> {
        self.cache.get(&name).map(|indexed| indexed.entry)
    }

    /// The files of a key.
    pub(super) fn peek(&self, name: Name) -> Option<Entry> {
        self.cache.peek(&name).map(|indexed| indexed.entry)
    }

    pub(super) fn has(&self, name: Name) -> bool {
        self.cache.contains_key(&name)
    }

    /// The files of a key from now on. Whether there is room for them: others go for it, if all that is written at one time lets them.
    pub(super) fn insert(&self, name: Name, entry: Entry) -> bool {
        let is_small = entry.weight() <= self.capacity / 4;
        self.cache.insert(name, self.holding(name, entry));
        is_small || self.cache.contains_key(&name)
    }

    fn holding(&self, name: Name, entry: Entry) -> Indexed {
        Indexed { entry, _holding: self.held.holding(name) }
    }

    pub(super) fn remove(&self, name: Name) -> Option<Indexed> {
        self.cache.remove(&name).map(|(_, indexed)| indexed)
    }

    /// Holds a name until the store is opened next: files of it are there that are not in the index, and could not be removed.
    pub(super) fn leave(&self, name: Name, entry: Entry) {
        let indexed = self.holding(name, entry);
        lock(&self.left).insert(name, indexed);
    }

    /// All keys.
    pub(super) fn names(&self) -> Vec<Name> {
        self.cache.iter().map(|(name, _)| name).collect()
    }

    /// What has gone to make room or was replaced, each once: its files are to be removed, unless it is there.
    /// Its name is held until this is dropped.
    pub(super) fn evicted(&self) -> Vec<(Name, Indexed)> {
        std::mem::take(&mut *lock(&self.evicted.0))
    }

    pub(super) fn count_eviction(&self) {
        self.evictions.fetch_add(1, Ordering::Relaxed);
    }

    /// So many bytes less, at once.
    pub(super) fn make_room(&self, bytes: u64) {
        let reserved = lock(&self.reserved);
        self.cache.set_capacity(self.cache.weight().saturating_sub(bytes));
        self.cache.set_capacity(self.capacity.saturating_sub(*reserved));
    }

    /// Sets nothing aside yet.
    pub(super) fn reservation(self: &Arc<Self>) -> Reserved {
        Reserved { bytes: 0, index: Arc::clone(self) }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(super) fn bytes(&self) -> u64 {
        self.cache.weight() + *lock(&self.reserved)
    }

    pub(super) fn len(&self) -> u64 {
        self.cache.len() as u64
    }

    pub(super) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }
}

impl Reserved {
    /// How many bytes are set aside at one time, at most: one more write changes little.
    const STEP: u64 = 4 << 20;
    /// And which part of the capacity, so that several that have just begun leave room for others.
    const PART: u64 = 256;

    /// Sets aside at least so many bytes. `false` where that is more than half of the capacity, with all that others write.
    pub(super) fn grow_to(&mut self, bytes: u64) -> bool {
        if bytes <= self.bytes {
            return true;
        }
        let mut reserved = lock(&self.index.reserved);
        let (least, most) = (bytes - self.bytes, (self.index.capacity / 2).saturating_sub(*reserved));
        if least > most {
            return false;
        }
        let step = Self::STEP.min(self.index.capacity / Self::PART).max(1);
        let more = least.div_ceil(step).saturating_mul(step).min(most);
        *reserved += more;
        self.bytes += more;
        self.index.cache.set_capacity(self.index.capacity - *reserved);
        true
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.bytes > 0 {
            let mut reserved = lock(&self.index.reserved);
            *reserved -= self.bytes;
            self.index.cache.set_capacity(self.index.capacity - *reserved);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64) -> Name {
        Name::read(&format!("{number:016x}{number:032x}")).expect("a name")
    }

    #[test]
    fn f11_what_was_evicted_holds_its_name_until_its_files_are_gone() {
        let held = Arc::new(Held::default());
        let index = Index::new(1 << 20, Arc::clone(&held));
        let entry = || Entry { contents: Arc::default(), record: 1 << 18 };
        for number in 0..8 {
            index.insert(name(number), entry());
        }
        let evicted = index.evicted();
        assert!(evicted.len() >= 4, "{} are evicted", evicted.len());
        let finds_nothing =
            |name: Name| name.bases().iter().all(|base| held.miss(base, 1)) && !index.has(name);
        let names: Vec<_> = evicted.iter().map(|(name, _)| *name).collect();
        assert!(!names.iter().any(|name| finds_nothing(*name)), "their files may be there");
        let (stays, indexed) = (names[0], evicted[0].1.entry.clone());
        index.leave(stays, indexed);
        drop(evicted);
        for name in names {
            assert_eq!(finds_nothing(name), name != stays);
        }
    }
}
