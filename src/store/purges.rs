//! Purge stamps: what was purged, and when, in the store's own count.
//!
//! A purge writes one stamp, whatever the number of responses it hits; a response is hit by every stamp that is
//! newer than the fence under which it was fetched. Stamps are numbers from one counter, not times.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::SystemTime;

use super::{How, Target};
use crate::key::CacheKey;
use crate::semantics::groups;

/// How many targets are remembered one by one. Older ones share places, so that a purge of one may take others with
/// it; nothing that was purged ever comes back.
const EXACT: usize = 65_536;
/// Places for older targets.
const COARSE: usize = 65_536;
/// How many prefixes are remembered. What comes on top makes the oldest one count for everything.
const PREFIXES: usize = 1_024;

/// What purges say of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Expired(SystemTime),
    Removed,
    Untouched,
}

#[derive(Default)]
pub(super) struct Purges {
    /// The number of the latest purge; read without the lock.
    latest: AtomicU64,
    hashers: [RandomState; 2],
    stamps: RwLock<Stamps>,
}

#[derive(Default)]
struct Stamps {
    all: Stamp,
    coarse: Option<Box<[Stamp]>>,
    exact: HashMap<Name, Stamp>,
    /// The number of the latest purge of a group.
    latest_group: u64,
    order: VecDeque<Name>,
    prefixes: Vec<(Box<[u8]>, Stamp)>,
}

/// A target's kind and bytes by their seeded hash: a name may be as long as a URI, and comes from clients. Two
/// targets with one hash are purged together, which costs a fetch and shows nobody anything.
type Name = u128;

#[derive(Clone, Copy)]
enum Kind {
    Group = 1,
    Key = 2,
    Uri = 3,
    Tag = 4,
}

/// The purges of one target.
#[derive(Clone, Default)]
struct Stamp {
    /// The number of the latest hard purge; 0 for none.
    removed: u64,
    /// The latest soft purges, the oldest first: what was fetched before several is stale since the first of them.
    expired: Vec<(u64, SystemTime)>,
}

/// How many soft purges of one target are told apart; older ones count as the oldest of these.
const SOFT: usize = 8;

impl Stamp {
    fn new(number: u64, how: How) -> Self {
        match how {
            How::Remove => Self { removed: number, expired: Vec::new() },
            How::Expire(at) => Self { removed: 0, expired: vec![(number, at)] },
        }
    }

    fn add(&mut self, other: Self) {
        self.removed = self.removed.max(other.removed);
        self.expired.extend(other.expired);
        self.expired.sort_unstable_by_key(|(number, _)| *number);
        let surplus = self.expired.len().saturating_sub(SOFT);
        self.expired.drain(..surplus);
    }

    /// What this stamp says of a response that was fetched under `fence`, on top of an earlier verdict.
    fn judge(&self, fence: u64, so_far: Verdict) -> Verdict {
        if so_far == Verdict::Removed || self.removed > fence {
            return Verdict::Removed;
        }
        let first = self.expired.iter().find(|(number, _)| *number > fence).map(|(_, at)| *at);
        match (so_far, first) {
            (Verdict::Expired(earlier), Some(at)) => Verdict::Expired(at.min(earlier)),
            (_, Some(at)) => Verdict::Expired(at),
            (so_far, None) => so_far,
        }
    }
}

impl Purges {
    fn name(&self, kind: Kind, bytes: &[u8]) -> Name {
        let [high, low] = &self.hashers;
        let half = |hasher: &RandomState| u128::from(hasher.hash_one((kind as u8, bytes)));
        (half(high) << 64) | half(low)
    }

    /// The purge state now.
    pub(super) fn latest(&self) -> u64 {
        self.latest.load(Ordering::Acquire)
    }

    /// Writes the stamp of a purge.
    pub(super) fn purge(&self, target: &Target, how: How) {
        let mut stamps = self.stamps.write().unwrap_or_else(PoisonError::into_inner);
        let number = self.latest.load(Ordering::Relaxed) + 1;
        let stamp = Stamp::new(number, how);
        match target {
            Target::All => stamps.all.add(stamp),
            Target::Group(group) => {
                stamps.latest_group = number;
                stamps.add(self.name(Kind::Group, group.as_bytes()), stamp);
            }
            Target::Key(key) => stamps.add(self.name(Kind::Key, key.as_bytes()), stamp),
            Target::Prefix(prefix) => stamps.add_prefix(prefix, stamp),
            Target::Tag(tag) => {
                stamps.latest_group = number;
                stamps.add(self.name(Kind::Tag, tag.as_bytes()), stamp);
            }
            Target::Uri(uri) => stamps.add(self.name(Kind::Uri, uri), stamp),
        }
        // After the stamp: whoever sees the number finds the stamp.
        self.latest.store(number, Ordering::Release);
    }

    /// What the purges since `fence` say of a response.
    pub(super) fn judge<'a>(
        &self,
        key: &CacheKey,
        groups: impl Iterator<Item = &'a str>,
        fence: u64,
    ) -> Verdict {
        if fence >= self.latest() {
            return Verdict::Untouched;
        }
        let stamps = self.stamps.read().unwrap_or_else(PoisonError::into_inner);
        self.judge_by(&stamps, key, groups, fence)
    }

    /// Whether no purge since `fence` concerns a key; where `of_any_group`, any purge of a group does.
    pub(super) fn is_untouched(&self, key: &CacheKey, of_any_group: bool, fence: u64) -> bool {
        if fence >= self.latest() {
            return true;
        }
        let stamps = self.stamps.read().unwrap_or_else(PoisonError::into_inner);
        let by_group = of_any_group && stamps.latest_group > fence;
        !by_group && self.judge_by(&stamps, key, std::iter::empty(), fence) == Verdict::Untouched
    }

    fn judge_by<'a>(
        &self,
        stamps: &Stamps,
        key: &CacheKey,
        groups: impl Iterator<Item = &'a str>,
        fence: u64,
    ) -> Verdict {
        let mut verdict = stamps.all.judge(fence, Verdict::Untouched);
        verdict = stamps.judge(self.name(Kind::Key, key.as_bytes()), fence, verdict);
        for group in groups {
            verdict = stamps.judge(self.name(Kind::Group, group.as_bytes()), fence, verdict);
            verdict = stamps.judge(self.name(Kind::Tag, groups::tag(group).as_bytes()), fence, verdict);
        }
        for uri in key.uris() {
            verdict = stamps.judge(self.name(Kind::Uri, uri), fence, verdict);
            for (prefix, stamp) in &stamps.prefixes {
                if uri.starts_with(prefix) {
                    verdict = stamp.judge(fence, verdict);
                }
            }
        }
        verdict
    }
}

impl Stamps {
    fn add(&mut self, name: Name, stamp: Stamp) {
        if let Some(known) = self.exact.get_mut(&name) {
            known.add(stamp);
            return;
        }
        if self.order.len() >= EXACT
            && let Some(oldest) = self.order.pop_front()
            && let Some(old) = self.exact.remove(&oldest)
        {
            let place = place(oldest);
            let coarse = self.coarse.get_or_insert_with(|| vec![Stamp::default(); COARSE].into_boxed_slice());
            coarse[place].add(old);
        }
        self.exact.insert(name, stamp);
        self.order.push_back(name);
    }

    fn add_prefix(&mut self, prefix: &[u8], stamp: Stamp) {
        if let Some((_, known)) = self.prefixes.iter_mut().find(|(known, _)| **known == *prefix) {
            known.add(stamp);
            return;
        }
        if self.prefixes.len() >= PREFIXES {
            let (_, old) = self.prefixes.remove(0);
            self.all.add(old);
        }
        self.prefixes.push((prefix.into(), stamp));
    }

    fn judge(&self, name: Name, fence: u64, so_far: Verdict) -> Verdict {
        let mut verdict = so_far;
        if let Some(stamp) = self.exact.get(&name) {
            verdict = stamp.judge(fence, verdict);
        }
        if let Some(coarse) = &self.coarse {
            verdict = coarse[place(name)].judge(fence, verdict);
        }
        verdict
    }
}

fn place(name: Name) -> usize {
    usize::try_from(name % COARSE as u128).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn key(path: &str) -> CacheKey {
        let (parts, ()) =
            http::Request::get(format!("http://a{path}")).body(()).expect("a request").into_parts();
        CacheKey::of(&parts).expect("a key")
    }

    fn uri(path: &str) -> Target {
        Target::Uri(key(path).uri().into())
    }

    #[test]
    fn a_stamp_hits_what_was_fetched_before_it() {
        let purges = Purges::default();
        let before = purges.latest();
        purges.purge(&uri("/x"), How::Remove);
        let after = purges.latest();
        let judge = |path, fence| purges.judge(&key(path), ["g"].into_iter(), fence);
        assert_eq!(judge("/x", before), Verdict::Removed);
        assert_eq!(judge("/x", after), Verdict::Untouched);
        assert_eq!(judge("/y", before), Verdict::Untouched);
        purges.purge(&Target::Group("g".into()), How::Expire(UNIX_EPOCH));
        assert_eq!(judge("/y", after), Verdict::Expired(UNIX_EPOCH));
        purges.purge(&Target::Prefix(b"http://a/im"[..].into()), How::Remove);
        assert_eq!(judge("/images", after), Verdict::Removed);
        purges.purge(&Target::All, How::Remove);
        assert_eq!(judge("/y", after), Verdict::Removed);
    }

    #[test]
    fn the_first_soft_purge_after_the_fetch_is_the_one_that_counts() {
        let purges = Purges::default();
        let at = |second| UNIX_EPOCH + std::time::Duration::from_secs(second);
        let mut fences = Vec::new();
        for second in 0..20 {
            fences.push(purges.latest());
            purges.purge(&uri("/x"), How::Expire(at(second)));
        }
        let judge = |fence| purges.judge(&key("/x"), std::iter::empty(), fence);
        assert_eq!(judge(fences[19]), Verdict::Expired(at(19)));
        assert_eq!(judge(fences[15]), Verdict::Expired(at(15)));
        assert_eq!(judge(fences[0]), Verdict::Expired(at(12)), "older than all that are told apart");
        assert_eq!(judge(purges.latest()), Verdict::Untouched);
    }

    #[test]
    fn stamps_stay_bounded_and_none_is_forgotten() {
        let purges = Purges::default();
        let before = purges.latest();
        for number in 0..EXACT + 100 {
            purges.purge(&uri(&format!("/{number}")), How::Remove);
        }
        for number in 0..PREFIXES + 10 {
            purges.purge(&Target::Prefix(format!("p{number}").into_bytes().into()), How::Remove);
        }
        {
            let stamps = purges.stamps.read().expect("not poisoned");
            assert_eq!(stamps.exact.len(), EXACT);
            assert_eq!(stamps.prefixes.len(), PREFIXES);
        }
        for number in [0, 50, 99, 100, EXACT] {
            let verdict = purges.judge(&key(&format!("/{number}")), std::iter::empty(), before);
            assert_eq!(verdict, Verdict::Removed, "{number}");
        }
    }
}
