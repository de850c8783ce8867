//! The names by which stored and expected responses can be purged, and the purge stamps of these names.
//!
//! Invariant: a name has a place exactly as long as something holds it, and its stamps live in that place. So a purge
//! of a name that nothing holds leaves nothing behind, and there are never more stamps than there are names to purge.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::PoisonError;

use super::stamp::{Stamp, Verdict};
use crate::runtime::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The seeded hash of a name's kind and bytes: a name may be as long as a URI, and comes from clients. Two names with
/// the same hash share a place and are purged together, which costs a fetch and leaks nothing.
pub(super) type Name = u64;

/// One where schedules are explored, so that the random hash of a name has no part in them.
const SHARDS: usize = if cfg!(shuttle) { 1 } else { 64 };
/// How many targets narrower than its name a place keeps apart; beyond that, the oldest counts for the whole place.
const NARROWER: usize = 64;
/// A shard's table with room for at most this many places never shrinks.
const ROOM: usize = 256;
/// The number of groups of names for which a shard remembers the latest purge that found no place.
const BYGONE: usize = 256;

/// All places.
pub(super) struct Places {
    shards: [RwLock<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    /// For each group of names, the number of the latest purge that had no place, or whose place is gone; empty until
    /// there is one. Only responses that were fetched without a guard are judged by it.
    bygone: Box<[u64]>,
    on_their_way: Fences,
    places: HashMap<Name, Place, BuildHasherDefault<AsItIs>>,
}

impl Shard {
    /// Records a purge that has no place. A holder that takes the name later sees the number, and one that took it
    /// before has a stamp, because all of this happens under one lock.
    fn miss(&mut self, name: Name, number: u64) -> bool {
        if self.bygone.is_empty() {
            self.bygone = vec![0; BYGONE].into_boxed_slice();
        }
        let latest = &mut self.bygone[group(name)];
        *latest = number.max(*latest);
        false
    }
}

/// A name that something holds.
#[derive(Default)]
struct Place {
    holders: u32,
    /// Boxed: most names are never purged.
    stamps: Option<Box<Stamps>>,
}

/// The purges of one name.
#[derive(Default)]
struct Stamps {
    /// Those of narrower targets, the oldest first: of one query of a path.
    narrower: VecDeque<(Name, Stamp)>,
    /// The number of the latest.
    latest: u64,
    whole: Stamp,
}

impl Stamps {
    fn add(&mut self, narrower: Option<Name>, stamp: &Stamp, number: u64) {
        self.latest = number;
        let Some(narrower) = narrower else {
            return self.whole.add(stamp);
        };
        if let Some((_, known)) = self.narrower.iter_mut().find(|(known, _)| *known == narrower) {
            return known.add(stamp);
        }
        if self.narrower.len() >= NARROWER
            && let Some((_, oldest)) = self.narrower.pop_front()
        {
            self.whole.add(&oldest);
        }
        self.narrower.push_back((narrower, stamp.clone()));
    }
}

impl Default for Places {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| RwLock::default()) }
    }
}

impl Places {
    fn shard(&self, name: Name) -> &RwLock<Shard> {
        // The map takes its bits from both ends.
        &self.shards[usize::try_from((name >> 24) % SHARDS as u64).unwrap_or_default()]
    }

    /// Keeps the stamps of a name from now on.
    pub(super) fn hold(&self, name: Name) {
        write(self.shard(name)).places.entry(name).or_default().holders += 1;
    }

    /// Undoes one [`Places::hold`].
    pub(super) fn release(&self, name: Name) {
        let mut shard = write(self.shard(name));
        let Some(place) = shard.places.get_mut(&name) else {
            return;
        };
        place.holders -= 1;
        let forgotten = if place.holders == 0 { shard.places.remove(&name) } else { None };
        if let Some(stamps) = forgotten.as_ref().and_then(|place| place.stamps.as_deref()) {
            shard.miss(name, stamps.latest);
        }
        let (used, room) = (shard.places.len(), shard.places.capacity());
        if room > ROOM && used * 8 < room {
            shard.places.shrink_to(ROOM.max(used * 2));
        }
        drop(shard);
        drop(forgotten);
    }

    /// Records an expected response that was requested after the purge with this number. `name` is one of its names.
    pub(super) fn depart(&self, name: Name, fence: u64) {
        write(self.shard(name)).on_their_way.add(fence);
    }

    /// Undoes one [`Places::depart`].
    pub(super) fn arrive(&self, name: Name, fence: u64) {
        write(self.shard(name)).on_their_way.remove(fence);
    }

    /// The oldest fence of all expected responses.
    pub(super) fn oldest_on_its_way(&self) -> Option<u64> {
        self.shards.iter().filter_map(|shard| read(shard).on_their_way.oldest()).min()
    }

    pub(super) fn is_held(&self, name: Name) -> bool {
        read(self.shard(name)).places.contains_key(&name)
    }

    /// Whether a purge beyond number `since` has stamped a name, or a narrower target in it.
    pub(super) fn is_stamped_since(&self, name: Name, since: u64) -> bool {
        let shard = read(self.shard(name));
        let stamps = shard.places.get(&name).and_then(|place| place.stamps.as_deref());
        stamps.is_some_and(|stamps| stamps.latest > since)
    }

    /// Stamps a name, or only the `narrower` target in it. Returns whether anything holds the name; if not, only the
    /// `number` of the purge remains.
    pub(super) fn stamp(&self, name: Name, narrower: Option<Name>, stamp: &Stamp, number: u64) -> bool {
        let mut shard = write(self.shard(name));
        match shard.places.get_mut(&name) {
            Some(place) => {
                place.stamps.get_or_insert_default().add(narrower, stamp, number);
                true
            }
            None => shard.miss(name, number),
        }
    }

    /// Whether anything holds a name; like [`Places::stamp`], it records the number if not.
    pub(super) fn find(&self, name: Name, number: u64) -> bool {
        let mut shard = write(self.shard(name));
        shard.places.contains_key(&name) || shard.miss(name, number)
    }

    /// Whether anything holds any name at all.
    pub(super) fn are_held(&self) -> bool {
        self.shards.iter().any(|shard| !read(shard).places.is_empty())
    }

    /// What the stamps of a name say about a response, added to an earlier verdict. `is_meant` says whether a narrower
    /// target is the response's.
    pub(super) fn judge(
        &self,
        name: Name,
        is_meant: impl Fn(Name) -> bool,
        fence: u64,
        so_far: Verdict,
    ) -> Verdict {
        let shard = read(self.shard(name));
        let Some(stamps) = shard.places.get(&name).and_then(|place| place.stamps.as_deref()) else {
            return so_far;
        };
        let meant = stamps.narrower.iter().filter(|(narrower, _)| is_meant(*narrower));
        let stamps = std::iter::once(&stamps.whole).chain(meant.map(|(_, stamp)| stamp));
        stamps.fold(so_far, |verdict, stamp| stamp.judge(fence, verdict))
    }

    /// Whether a purge may have found no place for a name since `fence`.
    pub(super) fn may_have_missed(&self, name: Name, fence: u64) -> bool {
        read(self.shard(name)).bygone.get(group(name)).is_some_and(|number| *number > fence)
    }

    /// The number of places, and of those that have stamps.
    #[cfg(test)]
    pub(super) fn count(&self) -> (usize, usize) {
        let count = |shard: &RwLock<Shard>| {
            let shard = read(shard);
            (shard.places.len(), shard.places.values().filter(|place| place.stamps.is_some()).count())
        };
        self.shards.iter().map(count).fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }
}

fn group(name: Name) -> usize {
    usize::try_from((name >> 32) % BYGONE as u64).unwrap_or_default()
}

// No code under these locks can panic in the middle of a change, so a poisoned lock guards consistent data.

pub(super) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Fences in ascending order, each with its count.
#[derive(Default)]
struct Fences(VecDeque<(u64, u32)>);

impl Fences {
    fn add(&mut self, fence: u64) {
        let at = self.0.partition_point(|(known, _)| *known < fence);
        match self.0.get_mut(at) {
            Some((known, count)) if *known == fence => *count += 1,
            _ => self.0.insert(at, (fence, 1)),
        }
    }

    fn remove(&mut self, fence: u64) {
        let at = self.0.partition_point(|(known, _)| *known < fence);
        if let Some((known, count)) = self.0.get_mut(at)
            && *known == fence
        {
            *count -= 1;
            if *count == 0 {
                self.0.remove(at);
            }
        }
    }

    fn oldest(&self) -> Option<u64> {
        self.0.front().map(|(fence, _)| *fence)
    }
}

/// Names are hashes already, and seeded.
#[derive(Clone, Copy, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // A name is written by `write_u64`.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, name: u64) {
        self.0 = name;
    }
}
