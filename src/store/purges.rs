//! What was purged, for as long as a stored or expected response exists that it concerns.
//!
//! A purge writes one stamp, whatever the number of responses it hits; a response is hit by every stamp that is newer
//! than the fence under which it was fetched. Each stored or expected response holds the names that it can be purged by
//! ([`HeldNames`]), and stamps live with the names ([`Places`]).
//!
//! Invariant: a fetch holds the names of its response from before the call until the response is stored, which then
//! holds them itself. So a purge that finds a name without a holder came before every call whose response will have
//! that name.

use std::cell::LazyCell;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smallvec::SmallVec;

use super::places::{Name, Places, read, write};
use super::stamp::{Stamp, Verdict};
use super::{Fence, PurgeMode, PurgeScope, PurgeTarget};
use crate::entry::StoredResponse;
use crate::entry::key::CacheKey;
use crate::runtime::RwLock;
use crate::semantics::groups;

/// How many prefixes are remembered. Beyond that, the oldest one counts for its whole origin, or for the first segment
/// of its path if it has no origin.
const PREFIXES: usize = 1_024;
/// How many first segments of paths are remembered. Beyond that, the oldest one counts for everything.
const SEGMENTS: usize = 64;
/// How many purges of groups are remembered for expected responses, whose groups nobody knows yet. Beyond that, a
/// response that was requested before the oldest of them is not stored if it is in any group.
const PINNED: usize = 1_024;
/// Marks the fence of an [`Expected`](super::Expected): the names of what is fetched under it are held.
const GUARDED: u128 = 1 << 64;

#[derive(Default)]
pub(super) struct Purges {
    counts: Counts,
    hasher: RandomState,
    places: Places,
    /// A purge holds this from beginning to end, so that purges are numbered in the order in which they are written.
    wide: RwLock<Wide>,
}

/// Read on every look-up, so both are in one cache line, which only purges write.
#[derive(Default)]
#[repr(align(16))]
struct Counts {
    /// The number of the latest purge.
    latest: AtomicU64,
    /// The number of the latest purge that may concern anything stored.
    stamped: AtomicU64,
}

/// Purges that concern many names.
#[derive(Default)]
struct Wide {
    all: Stamp,
    /// The number of the latest purge of a prefix of paths when nothing was held at all.
    bygone_prefix: u64,
    /// A response that was requested before this purge, and is in a group, may have been purged by it.
    forgotten_group: u64,
    /// The number of the latest purge of a group.
    latest_group: u64,
    /// Names of groups that are held for responses that were expected when the groups were purged, the oldest purge
    /// first.
    pinned: VecDeque<(u64, Name)>,
    /// Of URIs; and of paths, which start with a slash.
    prefixes: Prefixes,
    /// What older prefixes of paths have become.
    segments: Prefixes,
}

type Prefixes = VecDeque<(Box<[u8]>, Stamp)>;

impl Wide {
    fn prefixes(&self) -> impl Iterator<Item = &(Box<[u8]>, Stamp)> {
        self.prefixes.iter().chain(&self.segments)
    }
}

/// What a name is of. No two kinds have one name for the same bytes.
#[derive(Clone, Copy)]
enum Kind {
    /// A URI without its query: a stored response may say that it answers for other queries.
    Base = 1,
    /// A tag in lower case, whatever its origin.
    FoldedTag = 2,
    Group = 3,
    /// An authority.
    Host = 4,
    Key = 5,
    /// `scheme://authority/`, narrower than the host.
    Origin = 6,
    /// The path and query of a URI, whatever its origin.
    Path = 7,
    /// A tag as it is spelled, narrower than the folded one.
    Tag = 8,
    Uri = 9,
}

/// The names of a URI.
struct UriNames {
    base: Name,
    host: Option<Name>,
    uri: Name,
}

/// The names of a group.
struct GroupNames {
    folded_tag: Name,
    group: Name,
    /// Narrower than the folded one.
    tag: Name,
}

impl GroupNames {
    /// Those that have places.
    fn held(&self) -> [Name; 2] {
        [self.group, self.folded_tag]
    }
}

/// Names that are held until this is dropped.
pub(super) struct HeldNames {
    /// Most have the three of one URI.
    names: SmallVec<[Name; 3]>,
    purges: Arc<Purges>,
}

impl HeldNames {
    fn new(purges: &Arc<Purges>) -> Self {
        Self { names: SmallVec::new(), purges: Arc::clone(purges) }
    }

    fn add(&mut self, name: Name) {
        self.purges.places.hold(name);
        self.names.push(name);
    }

    /// Returns the name that the key has in common with other queries.
    fn add_key(&mut self, key: &CacheKey) -> Name {
        let base = self.add_uri(key.uri());
        if !key.is_uri_only() {
            if let Some(uri) = key.rewritten_uri() {
                self.add_uri(uri);
            }
            self.add(self.purges.name(Kind::Key, key.as_bytes()));
            if let Some(whole) = self.purges.whole(key) {
                self.add(whole);
            }
        }
        base
    }

    fn add_uri(&mut self, uri: &[u8]) -> Name {
        let names = self.purges.uri_names(uri);
        self.add(names.uri);
        if let Some(host) = names.host {
            self.add(host);
        }
        if let Some(path) = self.purges.path_of(uri) {
            self.add(path);
        }
        names.base
    }

    /// Whether no purge beyond number `since` can concern what holds these names under a key, as far as they say. Nothing is hashed
    /// again, so the first hit after a purge of something else takes 1,400 instructions less than by [`Purges::judge`], and 3,300
    /// less if the response has three tags.
    pub(super) fn are_untouched(&self, key: &CacheKey, since: u64) -> bool {
        self.purges.judge_wide(key, since) == Verdict::Untouched
            && !self.names.iter().any(|name| self.purges.places.is_stamped_since(*name, since))
    }

    /// Holds the names by which a further response under the same key can be purged.
    pub(super) fn add_response(&mut self, key: &CacheKey, response: &StoredResponse) {
        for group in response.head().groups() {
            self.purges.group_names(group).held().into_iter().for_each(|name| self.add(name));
        }
        if response.may_answer_for_other_queries() {
            self.add(self.purges.uri_names(key.uri()).base);
        }
    }
}

/// The names are held once more.
impl Clone for HeldNames {
    fn clone(&self) -> Self {
        let mut held = Self::new(&self.purges);
        self.names.iter().for_each(|name| held.add(*name));
        held
    }
}

impl Drop for HeldNames {
    fn drop(&mut self) {
        for name in &self.names {
            self.purges.places.release(*name);
        }
    }
}

/// An expected response: holds all names that it can have, and groups that are purged meanwhile.
pub(super) struct OnItsWay {
    fence: u64,
    held: HeldNames,
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        if let Some(first) = self.held.names.first() {
            self.held.purges.places.arrive(*first, self.fence);
        }
    }
}

/// The part of a fence that is the number of a purge.
pub(super) fn number(fence: Fence) -> u64 {
    u64::try_from(fence.bits() & u128::from(u64::MAX)).unwrap_or_default()
}

impl Purges {
    /// The purge state now, and the number of the latest purge that may concern anything stored, which is as new or newer.
    pub(super) fn state(&self) -> (Fence, u64) {
        let latest = self.counts.latest.load(Ordering::Acquire);
        (Fence::from_bits(latest.into()), self.counts.stamped.load(Ordering::Acquire))
    }

    /// Holds the names by which any response under a key can be purged.
    pub(super) fn expect(self: &Arc<Self>, key: &CacheKey) -> (Fence, OnItsWay) {
        // Taken before the names: a purge in between counts, although it came before the call.
        let (fence, _) = self.state();
        let mut held = HeldNames::new(self);
        let base = held.add_key(key);
        held.add(base);
        let on_its_way = OnItsWay { fence: number(fence), held };
        if let Some(first) = on_its_way.held.names.first() {
            self.places.depart(*first, on_its_way.fence);
        }
        (Fence::from_bits(fence.bits() | GUARDED), on_its_way)
    }

    /// Holds the names by which a response under a key can be purged.
    pub(super) fn hold(self: &Arc<Self>, key: &CacheKey, response: &StoredResponse) -> HeldNames {
        let mut held = self.hold_key(key);
        held.add_response(key, response);
        held
    }

    /// Holds the names by which every response under a key can be purged.
    pub(super) fn hold_key(self: &Arc<Self>, key: &CacheKey) -> HeldNames {
        let mut held = HeldNames::new(self);
        held.add_key(key);
        held
    }

    /// Writes the stamp of a purge, if a stored or expected response exists that it may concern. Returns its number.
    pub(super) fn purge(&self, target: &PurgeTarget, mode: PurgeMode) -> u64 {
        let mut wide = write(&self.wide);
        let number = self.counts.latest.load(Ordering::Relaxed) + 1;
        let stamp = Stamp::new(number, mode);
        let concerns_stored = match target {
            PurgeTarget::All => {
                wide.all.add(&stamp);
                if mode == PurgeMode::Remove {
                    (wide.prefixes, wide.segments) = Default::default(); // what they concern is gone
                }
                true
            }
            PurgeTarget::Group(group) => {
                let name = self.name(Kind::Group, group.as_bytes());
                self.purge_group(&mut wide, name, None, &stamp, number)
            }
            PurgeTarget::Host(authority) => {
                self.places.stamp(self.host(authority.as_bytes()), None, &stamp, number)
            }
            PurgeTarget::Key(key) => {
                let (names, own) = (self.uri_names(key.uri()), self.name(Kind::Key, key.as_bytes()));
                self.places.stamp(names.base, Some(own), &stamp, number);
                // A key that is only a URI, as most are, has no name of its own.
                if key.is_uri_only() {
                    self.places.stamp(names.uri, Some(own), &stamp, number)
                } else {
                    self.places.stamp(own, None, &stamp, number)
                }
            }
            PurgeTarget::Path(path) => self.places.stamp(self.name(Kind::Path, path), None, &stamp, number),
            PurgeTarget::PathPrefix(prefix) => self.purge_path_prefix(&mut wide, prefix, stamp, number),
            PurgeTarget::Prefix(prefix) => self.purge_prefix(&mut wide, prefix, stamp, number),
            PurgeTarget::Tag(tag) => {
                let (folded, tag) = self.tag_names(tag);
                self.purge_group(&mut wide, folded, Some(tag), &stamp, number)
            }
            PurgeTarget::TagAnyCase(tag) => {
                let (folded, _) = self.tag_names(tag);
                self.purge_group(&mut wide, folded, None, &stamp, number)
            }
            PurgeTarget::Uri(uri) => {
                let names = self.uri_names(uri);
                // For a response that is stored under another query and may answer for this one. Under its own URI it
                // stays as it was.
                self.places.stamp(names.base, Some(names.uri), &stamp, number);
                self.places.stamp(names.uri, None, &stamp, number)
            }
        };
        // Written after the stamp: a reader that sees the number finds the stamp.
        if concerns_stored {
            self.counts.stamped.store(number, Ordering::Release);
        }
        self.counts.latest.store(number, Ordering::Release);
        number
    }

    fn purge_group(
        &self,
        wide: &mut Wide,
        name: Name,
        narrower: Option<Name>,
        stamp: &Stamp,
        number: u64,
    ) -> bool {
        wide.latest_group = number;
        let oldest = self.places.oldest_on_its_way();
        // A purge does not concern responses that were requested after it.
        while let Some(&(purged, pinned)) = wide.pinned.front()
            && oldest.is_none_or(|oldest| purged <= oldest)
        {
            wide.pinned.pop_front();
            self.places.release(pinned);
        }
        if oldest.is_some() {
            if wide.pinned.len() >= PINNED
                && let Some((purged, pinned)) = wide.pinned.pop_front()
            {
                wide.forgotten_group = purged;
                self.places.release(pinned);
            }
            self.places.hold(name);
            wide.pinned.push_back((number, name));
        }
        self.places.stamp(name, narrower, stamp, number)
    }

    fn purge_prefix(&self, wide: &mut Wide, prefix: &[u8], stamp: Stamp, number: u64) -> bool {
        if prefix.starts_with(b"/") {
            return false; // no URI of a key is like that
        }
        if let Some((host, origin)) = self.host_and_origin(prefix) {
            if prefix.iter().filter(|&&byte| byte == b'/').count() == 3 && prefix.ends_with(b"/") {
                return self.places.stamp(host, Some(origin), &stamp, number);
            }
            if !self.places.find(host, number) {
                return false;
            }
        }
        self.remember_prefix(wide, prefix, stamp, number);
        true
    }

    fn purge_path_prefix(&self, wide: &mut Wide, prefix: &[u8], stamp: Stamp, number: u64) -> bool {
        if !prefix.starts_with(b"/") {
            return false;
        }
        if !self.places.are_held() {
            wide.bygone_prefix = number;
            return false;
        }
        if prefix == b"/" {
            wide.all.add(&stamp);
        } else {
            self.remember_prefix(wide, prefix, stamp, number);
        }
        true
    }

    /// Among stored and expected responses, the prefix concerns only those with the name of its host, if it has one.
    fn remember_prefix(&self, wide: &mut Wide, prefix: &[u8], stamp: Stamp, number: u64) {
        if let Some((_, known)) = wide.prefixes.iter_mut().find(|(known, _)| **known == *prefix) {
            return known.add(&stamp);
        }
        if wide.prefixes.len() >= PREFIXES {
            let host = |prefix: &[u8]| self.uri_names(prefix).host;
            wide.prefixes.retain(|(known, _)| host(known).is_none_or(|host| self.places.is_held(host)));
        }
        if wide.prefixes.len() >= PREFIXES
            && let Some((oldest, its_stamp)) = wide.prefixes.pop_front()
        {
            match (self.host_and_origin(&oldest), first_segment(&oldest)) {
                (Some((host, origin)), _) => {
                    self.places.stamp(host, Some(origin), &its_stamp, number);
                }
                (None, Some(segment)) => wide.add_segment(segment, its_stamp),
                (None, None) => wide.all.add(&its_stamp),
            }
        }
        wide.prefixes.push_back((prefix.into(), stamp));
    }

    /// What the purges since its fence say about a stored response.
    pub(super) fn judge(&self, key: &CacheKey, response: &StoredResponse, fence: Fence) -> Verdict {
        let fence = number(fence);
        if fence >= self.counts.stamped.load(Ordering::Acquire) {
            return Verdict::Untouched;
        }
        response.head().groups().fold(self.judge_key(key, fence), |verdict, group| {
            let GroupNames { folded_tag, group, tag } = self.group_names(group);
            let verdict = self.places.judge(group, |_| false, fence, verdict);
            self.places.judge(folded_tag, |narrower| narrower == tag, fence, verdict)
        })
    }

    /// What the purges since its fence say about a response that is about to be stored, and whose names are held
    /// already.
    pub(super) fn judge_new(&self, key: &CacheKey, response: &StoredResponse, fence: Fence) -> Verdict {
        let mut groups = response.head().groups().peekable();
        let in_forgotten = groups.peek().is_some() && read(&self.wide).forgotten_group > number(fence);
        let names = groups.flat_map(|group| self.group_names(group).held());
        if in_forgotten || (!is_guarded(fence) && self.may_have_missed(key, names, fence)) {
            return Verdict::Removed;
        }
        self.judge(key, response, fence)
    }

    /// Whether a purge since `fence` concerns a key.
    pub(super) fn concern(&self, key: &CacheKey, fence: Fence, scope: PurgeScope) -> bool {
        let since = number(fence);
        if since >= self.counts.latest.load(Ordering::Acquire) {
            return false;
        }
        if (scope == PurgeScope::KeyOrAnyGroup && read(&self.wide).latest_group > since)
            || (!is_guarded(fence) && self.may_have_missed(key, std::iter::empty(), fence))
        {
            return true;
        }
        let (names, own) = (self.uri_names(key.uri()), self.key(key));
        let is_meant = |narrower| narrower == names.uri || own.contains(&narrower);
        let verdict = self.places.judge(names.base, is_meant, since, self.judge_key(key, since));
        verdict != Verdict::Untouched
    }

    #[cfg(all(test, shuttle))]
    pub(super) fn names(&self) -> usize {
        self.places.count().0
    }

    fn judge_key(&self, key: &CacheKey, fence: u64) -> Verdict {
        let mut verdict = self.judge_wide(key, fence);
        let own = self.key(key);
        for uri in key.uris() {
            let names = self.uri_names(uri);
            verdict = self.places.judge(names.uri, |narrower| own.contains(&narrower), fence, verdict);
            if let Some((host, origin)) = self.host_and_origin(uri) {
                verdict = self.places.judge(host, |narrower| narrower == origin, fence, verdict);
            }
            if let Some(path) = self.path_of(uri) {
                verdict = self.places.judge(path, |_| false, fence, verdict);
            }
        }
        if !key.is_uri_only() {
            verdict =
                own.iter().fold(verdict, |verdict, own| self.places.judge(*own, |_| false, fence, verdict));
        }
        verdict
    }

    fn judge_wide(&self, key: &CacheKey, fence: u64) -> Verdict {
        let wide = read(&self.wide);
        let of_prefixes = wide.prefixes().filter(|(prefix, _)| key.uris().any(|uri| has_prefix(uri, prefix)));
        let stamps = std::iter::once(&wide.all).chain(of_prefixes.map(|(_, stamp)| stamp));
        stamps.fold(Verdict::Untouched, |verdict, stamp| stamp.judge(fence, verdict))
    }

    /// Whether a purge since `fence` found no holder for a name of a response that was fetched without holding its
    /// names.
    fn may_have_missed(&self, key: &CacheKey, groups: impl Iterator<Item = Name>, fence: Fence) -> bool {
        let own = (!key.is_uri_only()).then(|| self.name(Kind::Key, key.as_bytes()));
        let own = own.into_iter().chain(self.whole(key));
        let of_uris = key.uris().flat_map(|uri| {
            let names = self.uri_names(uri);
            std::iter::once(names.uri).chain(names.host).chain(self.path_of(uri))
        });
        read(&self.wide).bygone_prefix > number(fence)
            || of_uris.chain(own).chain(groups).any(|name| self.places.may_have_missed(name, number(fence)))
    }

    fn name(&self, kind: Kind, bytes: &[u8]) -> Name {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(bytes);
        name_of(hasher.finish(), kind)
    }

    /// The names of a key, and of that of the whole where it is a slice's, computed on demand: most keys have none of their own,
    /// and few are purged.
    fn key(&self, key: &CacheKey) -> LazyCell<SmallVec<[Name; 2]>, impl FnOnce() -> SmallVec<[Name; 2]>> {
        LazyCell::new(|| {
            [Some(key.as_bytes()), key.whole()]
                .into_iter()
                .flatten()
                .map(|key| self.name(Kind::Key, key))
                .collect()
        })
    }

    /// The name of the key of the whole, where this is a slice's and that has one of its own.
    fn whole(&self, key: &CacheKey) -> Option<Name> {
        key.whole().filter(|_| !key.is_slice_of_uri_only()).map(|whole| self.name(Kind::Key, whole))
    }

    fn host(&self, authority: &[u8]) -> Name {
        self.name(Kind::Host, authority)
    }

    /// The names of a group, and of its tag, which is the same in every origin.
    fn group_names(&self, group: &str) -> GroupNames {
        let (folded_tag, tag) = self.tag_names(groups::tag(group));
        GroupNames { folded_tag, group: self.name(Kind::Group, group.as_bytes()), tag }
    }

    /// The names of a tag in any case, and as it is spelled.
    fn tag_names(&self, tag: &str) -> (Name, Name) {
        let mut folded = SmallVec::<[u8; 64]>::from_slice(tag.as_bytes());
        folded.make_ascii_lowercase();
        (self.name(Kind::FoldedTag, &folded), self.name(Kind::Tag, tag.as_bytes()))
    }

    /// The names of a URI.
    fn uri_names(&self, uri: &[u8]) -> UriNames {
        let host = origin_of(uri).map(|(_, authority, _)| self.host(authority));
        let query = uri.iter().position(|&byte| byte == b'?').unwrap_or(uri.len());
        let mut hasher = self.hasher.build_hasher();
        hasher.write(&uri[..query]);
        let mut hash = hasher.finish();
        let base = name_of(hash, Kind::Base);
        if query < uri.len() {
            hasher.write(&uri[query..]);
            hash = hasher.finish();
        }
        UriNames { base, host, uri: name_of(hash, Kind::Uri) }
    }

    /// The name of a URI's path and query.
    fn path_of(&self, uri: &[u8]) -> Option<Name> {
        origin_of(uri).map(|(_, _, path)| self.name(Kind::Path, path))
    }

    /// The name of a URI's host, and that of its origin, which is narrower.
    fn host_and_origin(&self, uri: &[u8]) -> Option<(Name, Name)> {
        let (scheme, authority, _) = origin_of(uri)?;
        let origin = self.name(Kind::Origin, &uri[..scheme.len() + authority.len()]);
        Some((self.host(authority), origin))
    }
}

impl Wide {
    fn add_segment(&mut self, segment: &[u8], stamp: Stamp) {
        if let Some((_, known)) = self.segments.iter_mut().find(|(known, _)| **known == *segment) {
            return known.add(&stamp);
        }
        if self.segments.len() >= SEGMENTS
            && let Some((_, oldest)) = self.segments.pop_front()
        {
            self.all.add(&oldest);
        }
        self.segments.push_back((segment.into(), stamp));
    }
}

fn is_guarded(fence: Fence) -> bool {
    fence.bits() & GUARDED != 0
}

/// The kind is added to the hash, not hashed itself: so one hash does for all kinds, which saves 960 of the 2,480 instructions
/// that the names of a URI cost a miss.
fn name_of(hash: u64, kind: Kind) -> Name {
    hash ^ (kind as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Scheme with `://`, authority, and path with query, of an absolute URI that has a path. A prefix of paths is none, also where
/// it has a URI in it.
fn origin_of(uri: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    if uri.starts_with(b"/") {
        return None;
    }
    let scheme = uri.windows(3).position(|three| three == b"://")? + 3;
    let path = scheme + uri[scheme..].iter().position(|&byte| byte == b'/')?;
    Some((&uri[..scheme], &uri[scheme..path], &uri[path..]))
}

/// Whether a prefix of URIs, or of paths, is that of a URI.
fn has_prefix(uri: &[u8], prefix: &[u8]) -> bool {
    if prefix.starts_with(b"/") {
        origin_of(uri).is_some_and(|(_, _, path)| path.starts_with(prefix))
    } else {
        uri.starts_with(prefix)
    }
}

/// `/segment/` of a longer prefix of paths.
fn first_segment(prefix: &[u8]) -> Option<&[u8]> {
    let path = prefix.strip_prefix(b"/")?;
    let end = path.iter().position(|&byte| byte == b'/')?;
    Some(&prefix[..end + 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Payload, ResponseHead};
    use crate::semantics::reuse::Reuse;
    use crate::semantics::vary::Selecting;
    use crate::store::Expired;
    use std::time::{Duration, UNIX_EPOCH};

    fn key(uri: &str) -> CacheKey {
        let (parts, ()) =
            http::Request::get(format!("http://a{uri}")).body(()).expect("a request").into_parts();
        CacheKey::of(&parts).expect("a key")
    }

    fn uri(path: &str) -> PurgeTarget {
        PurgeTarget::Uri(key(path).uri().into())
    }

    fn prefix(prefix: &str) -> PurgeTarget {
        PurgeTarget::Prefix(prefix.as_bytes().into())
    }

    fn response(group: Option<&str>) -> StoredResponse {
        let reuse = Reuse::new(UNIX_EPOCH, UNIX_EPOCH, Duration::ZERO, Selecting::default());
        let mut head = ResponseHead::new(http::StatusCode::OK, &http::HeaderMap::new(), reuse);
        head.groups = group.into_iter().map(Into::into).collect();
        StoredResponse::new(head, Payload::default())
    }

    /// A response that is stored, as far as purges are concerned.
    struct Kept {
        fence: Fence,
        _held: HeldNames,
        key: CacheKey,
        response: StoredResponse,
    }

    impl Kept {
        fn new(purges: &Arc<Purges>, path: &str, group: Option<&str>) -> Self {
            let (key, response) = (key(path), response(group));
            let (fence, _on_its_way) = purges.expect(&key);
            Self { fence, _held: purges.hold(&key, &response), key, response }
        }

        fn verdict(&self, purges: &Purges) -> Verdict {
            purges.judge(&self.key, &self.response, self.fence)
        }
    }

    #[test]
    fn a_stamp_hits_responses_that_were_fetched_before_it() {
        let purges = Arc::<Purges>::default();
        let kept = |path| Kept::new(&purges, path, Some("http://a g"));
        let (early, other) = (kept("/x"), kept("/y"));
        purges.purge(&uri("/x"), PurgeMode::Remove);
        let late = kept("/x");
        assert_eq!(early.verdict(&purges), Verdict::Removed);
        assert_eq!([late.verdict(&purges), other.verdict(&purges)], [Verdict::Untouched; 2]);
        purges.purge(&PurgeTarget::Group("http://a g".into()), PurgeMode::Expire(UNIX_EPOCH));
        let expired = Verdict::Expired(Expired::new(UNIX_EPOCH, None));
        assert_eq!([late.verdict(&purges), other.verdict(&purges)], [expired; 2]);
        purges.purge(&prefix("http://a/y"), PurgeMode::Remove);
        assert_eq!(late.verdict(&purges), expired);
        assert_eq!(other.verdict(&purges), Verdict::Removed);
        purges.purge(&PurgeTarget::All, PurgeMode::Remove);
        assert_eq!(late.verdict(&purges), Verdict::Removed);
    }

    #[test]
    fn the_first_soft_purge_after_the_fetch_counts() {
        let purges = Arc::<Purges>::default();
        let at = |second| UNIX_EPOCH + Duration::from_secs(second);
        let kept: Vec<_> = (0..20)
            .map(|second| {
                let kept = Kept::new(&purges, "/x", None);
                purges.purge(&uri("/x"), PurgeMode::Expire(at(second)));
                kept
            })
            .collect();
        let since = |second| Verdict::Expired(Expired::new(at(second), None));
        assert_eq!(kept[19].verdict(&purges), since(19));
        assert_eq!(kept[15].verdict(&purges), since(15));
        assert_eq!(kept[0].verdict(&purges), since(12), "older than all that are told apart");
        assert_eq!(Kept::new(&purges, "/x", None).verdict(&purges), Verdict::Untouched);
    }

    #[test]
    fn a33_a_purge_of_a_name_that_nobody_holds_leaves_nothing_behind() {
        let purges = Arc::<Purges>::default();
        let kept = Kept::new(&purges, "/kept", Some("http://a g"));
        let (_, stamped) = purges.state();
        for number in 0..10_000 {
            purges.purge(&uri(&format!("/{number}")), PurgeMode::Remove);
            purges.purge(&PurgeTarget::Key(key(&format!("/{number}")).with("part", b"")), PurgeMode::Remove);
            purges.purge(&PurgeTarget::Group(format!("http://a {number}").into()), PurgeMode::Remove);
            purges.purge(&PurgeTarget::Tag(number.to_string().into()), PurgeMode::Remove);
            purges.purge(&prefix(&format!("http://host-{number}/")), PurgeMode::Remove);
            purges.purge(&prefix(&format!("http://host-{number}/x")), PurgeMode::Remove);
            purges.purge(&PurgeTarget::host(format!("host-{number}")), PurgeMode::Remove);
            purges.purge(&PurgeTarget::tag_any_case(number.to_string()), PurgeMode::Remove);
            purges.purge(&PurgeTarget::path(format!("/{number}")), PurgeMode::Remove);
        }
        assert_eq!(purges.state().1, stamped, "nobody who looks up has to judge anything again");
        assert_eq!(
            purges.places.count(),
            (5, 0),
            "the names of what is stored: URI, host, path, group and tag"
        );
        assert!(read(&purges.wide).pinned.is_empty() && read(&purges.wide).prefixes.is_empty());
        assert_eq!(kept.verdict(&purges), Verdict::Untouched);
        drop(kept);
        assert_eq!(purges.places.count(), (0, 0));
        // Of prefixes of paths, nobody knows whose they would be, but that nothing is there at all.
        purges.purge(&PurgeTarget::path_prefix("/kept"), PurgeMode::Remove);
        assert!(read(&purges.wide).prefixes.is_empty());
    }

    #[test]
    fn a_host_is_purged_under_every_scheme_and_an_origin_under_its_own() {
        let purges = Arc::<Purges>::default();
        let expected = |uri: &'static str| {
            let key = CacheKey::of(&crate::entry::key::get(http::Uri::from_static(uri))).expect("a key");
            let (fence, on_its_way) = purges.expect(&key);
            (key, fence, on_its_way)
        };
        let all = [
            expected("http://a/x"),
            expected("https://a/x"),
            expected("http://a:8080/x"),
            expected("http://b/x"),
        ];
        let hit = || all.each_ref().map(|(key, fence, _)| purges.concern(key, *fence, PurgeScope::Key));
        purges.purge(&prefix("https://a/"), PurgeMode::Remove);
        assert_eq!(hit(), [false, true, false, false]);
        purges.purge(&PurgeTarget::host("a"), PurgeMode::Remove);
        assert_eq!(hit(), [true, true, false, false]);
        purges.purge(&PurgeTarget::path_prefix("/y"), PurgeMode::Remove);
        purges.purge(&PurgeTarget::path("/"), PurgeMode::Remove);
        purges.purge(&PurgeTarget::path_prefix("/x "), PurgeMode::Remove); // no URI has a space
        assert_eq!(hit(), [true, true, false, false]);
        purges.purge(&PurgeTarget::path_prefix("/"), PurgeMode::Remove);
        assert_eq!(hit(), [true; 4]);
    }

    #[test]
    fn a_tag_is_purged_in_its_own_case_or_in_any_case() {
        let purges = Arc::<Purges>::default();
        let kept = ["News", "NEWS", "new"].map(|tag| Kept::new(&purges, "/x", Some(tag)));
        let hit = || kept.each_ref().map(|kept| kept.verdict(&purges) == Verdict::Removed);
        purges.purge(&PurgeTarget::tag("news"), PurgeMode::Remove);
        assert_eq!(hit(), [false; 3]);
        purges.purge(&PurgeTarget::tag("News"), PurgeMode::Remove);
        assert_eq!(hit(), [true, false, false]);
        purges.purge(&PurgeTarget::tag_any_case("nEWS"), PurgeMode::Remove);
        assert_eq!(hit(), [true, true, false]);
    }

    #[test]
    fn too_many_path_prefixes_hit_older_responses_by_first_segment_and_then_all() {
        let purges = Arc::<Purges>::default();
        let purge = |path: String| {
            purges.purge(&PurgeTarget::path_prefix(path), PurgeMode::Remove);
        };
        let oldest = ["/s/x", "/t/x"].map(|path| Kept::new(&purges, path, None));
        purge("/s/y".to_owned());
        let younger = Kept::new(&purges, "/s/x", None);
        (0..PREFIXES).for_each(|number| purge(format!("/u/{number}")));
        let verdicts = [&oldest[0], &oldest[1], &younger].map(|kept| kept.verdict(&purges));
        assert_eq!(verdicts, [Verdict::Removed, Verdict::Untouched, Verdict::Untouched]);
        let youngest = Kept::new(&purges, "/t/x", None);
        (0..PREFIXES + SEGMENTS).for_each(|number| purge(format!("/{number}/")));
        {
            let wide = read(&purges.wide);
            assert_eq!((wide.prefixes.len(), wide.segments.len()), (PREFIXES, SEGMENTS));
        }
        let verdicts = [&oldest[1], &younger, &youngest].map(|kept| kept.verdict(&purges));
        let expected = [Verdict::Removed, Verdict::Removed, Verdict::Untouched];
        assert_eq!(verdicts, expected, "what is younger than the oldest segments' purges is not hit");
        purges.purge(&PurgeTarget::All, PurgeMode::Remove);
        assert!(read(&purges.wide).prefixes().next().is_none());
    }

    #[test]
    fn a_path_prefix_with_a_url_in_it_is_of_no_host() {
        for held in [Some("http://b/"), None] {
            let purges = Arc::<Purges>::default();
            let kept = Kept::new(&purges, "/img/http://b/x", None);
            let of_other_host = held.map(|uri| {
                purges
                    .hold(&CacheKey::from_uri(&uri.parse().expect("a URI")).expect("a key"), &response(None))
            });
            purges.purge(&PurgeTarget::path_prefix("/img/http://b/"), PurgeMode::Remove);
            (0..PREFIXES + SEGMENTS).for_each(|number| {
                purges.purge(&PurgeTarget::path_prefix(format!("/{number}/")), PurgeMode::Remove);
            });
            assert_eq!(kept.verdict(&purges), Verdict::Removed, "{held:?}");
            drop(of_other_host);
        }
    }

    #[test]
    fn a33_a_stamp_is_dropped_with_the_last_response_it_can_concern() {
        let purges = Arc::<Purges>::default();
        let (kept, (_, on_its_way)) = (Kept::new(&purges, "/x", None), purges.expect(&key("/x")));
        purges.purge(&uri("/x"), PurgeMode::Remove);
        purges.purge(&PurgeTarget::Key(key("/x")), PurgeMode::Remove);
        assert_eq!(purges.places.count().1, 2, "the URI's, and that of other queries");
        drop(kept);
        assert_eq!(purges.places.count().1, 2);
        drop(on_its_way);
        assert_eq!(purges.places.count(), (0, 0));
    }

    #[test]
    fn a33_a_group_that_is_purged_during_a_fetch_is_remembered_for_that_fetch() {
        let purges = Arc::<Purges>::default();
        let (fence, on_its_way) = purges.expect(&key("/x"));
        let purged = Kept::new(&purges, "/y", Some("http://a g"));
        purges.purge(&PurgeTarget::Group("http://a g".into()), PurgeMode::Remove);
        purges.purge(&PurgeTarget::Tag("t".into()), PurgeMode::Remove);
        drop(purged);
        for (group, verdict) in
            [("http://a g", Verdict::Removed), ("t", Verdict::Removed), ("http://b g", Verdict::Untouched)]
        {
            let response = response(Some(group));
            let _held = purges.hold(&key("/x"), &response);
            assert_eq!(purges.judge_new(&key("/x"), &response, fence), verdict, "{group}");
        }
        // Once it has come in, the next purge forgets what nobody needs any more.
        drop(on_its_way);
        purges.purge(&PurgeTarget::Tag("u".into()), PurgeMode::Remove);
        assert_eq!(purges.places.count(), (0, 0));
    }

    #[test]
    fn a33_only_a_fetch_that_hangs_while_many_groups_are_purged_is_refused() {
        let purges = Arc::<Purges>::default();
        let (fence, _on_its_way) = purges.expect(&key("/x"));
        let kept = Kept::new(&purges, "/y", Some("kept"));
        for number in 0..PINNED + 10 {
            purges.purge(&PurgeTarget::Tag(number.to_string().into()), PurgeMode::Remove);
        }
        assert!(read(&purges.wide).pinned.len() == PINNED && purges.places.count().0 < PINNED + 10);
        let judged = |group: &str| {
            let response = response(Some(group));
            let _held = purges.hold(&key("/x"), &response);
            purges.judge_new(&key("/x"), &response, fence)
        };
        assert_eq!([judged("0"), judged("other")], [Verdict::Removed; 2], "nobody can say any more");
        assert_eq!(purges.judge_new(&key("/x"), &response(None), fence), Verdict::Untouched);
        assert_eq!(kept.verdict(&purges), Verdict::Untouched);
    }

    #[test]
    fn a33_thousands_of_purged_keys_and_groups_hit_only_themselves() {
        let purges = Arc::<Purges>::default();
        let of_user = |user: &str| key("/x").with("user", user.as_bytes());
        let plain = Kept::new(&purges, "/x", Some("http://a g"));
        let (fence, _on_its_way) = purges.expect(&of_user("1"));
        for number in 0..1_000 {
            purges.purge(&PurgeTarget::Key(of_user(&number.to_string())), PurgeMode::Remove);
            purges.purge(&PurgeTarget::Group(format!("http://host-{number} g").into()), PurgeMode::Remove);
        }
        assert_eq!(purges.judge(&of_user("1"), &plain.response, fence), Verdict::Removed);
        assert_eq!(plain.verdict(&purges), Verdict::Untouched);
        purges.purge(&PurgeTarget::Key(key("/x")), PurgeMode::Remove);
        assert_eq!(plain.verdict(&purges), Verdict::Removed);
    }

    #[test]
    fn a33_too_many_prefixes_of_one_origin_hit_no_other_origin() {
        let purges = Arc::<Purges>::default();
        let there = Kept::new(&purges, "/y", None);
        let (parts, ()) = http::Request::get("http://b/x").body(()).expect("a request").into_parts();
        let elsewhere = CacheKey::of(&parts).expect("a key");
        let (fence, _on_its_way) = purges.expect(&elsewhere);
        for number in 0..PREFIXES + 10 {
            purges.purge(&prefix(&format!("http://a/{number}/")), PurgeMode::Remove);
        }
        assert_eq!(read(&purges.wide).prefixes.len(), PREFIXES);
        assert_eq!(there.verdict(&purges), Verdict::Removed, "the oldest prefixes count for their origin");
        assert!(!purges.concern(&elsewhere, fence, PurgeScope::Key));
    }

    #[test]
    fn a33_a_flood_of_purged_paths_hits_these_paths_alone_and_leaves_nothing_behind() {
        let purges = Arc::<Purges>::default();
        let kept = ["/u/x", "/v/x", "/p10000/x"].map(|path| Kept::new(&purges, path, None));
        let purged = ["/p0/x", "/p3000/x?y"].map(|path| Kept::new(&purges, path, None));
        let (places, stamps) = purges.places.count();
        for number in 0..10_000 {
            purges.purge(&PurgeTarget::path(format!("/p{number}/x")), PurgeMode::Remove);
            purges.purge(&PurgeTarget::path(format!("/p{number}/x?y")), PurgeMode::Remove);
        }
        assert_eq!(kept.each_ref().map(|kept| kept.verdict(&purges)), [Verdict::Untouched; 3]);
        assert_eq!(purged.each_ref().map(|kept| kept.verdict(&purges)), [Verdict::Removed; 2]);
        assert_eq!(purges.places.count(), (places, stamps + 2));
        assert!(read(&purges.wide).prefixes().next().is_none());
    }

    #[test]
    fn a_path_is_purged_on_every_host_and_for_what_is_expected() {
        let purges = Arc::<Purges>::default();
        let expected = |uri: &'static str| {
            let key = CacheKey::of(&crate::entry::key::get(http::Uri::from_static(uri))).expect("a key");
            let (fence, on_its_way) = purges.expect(&key);
            (key, fence, on_its_way)
        };
        let all =
            ["http://a/x", "https://b:81/x", "http://a/x?", "http://a/x/", "http://a/y/x"].map(expected);
        purges.purge(&PurgeTarget::path("/x"), PurgeMode::Remove);
        let hit = all.each_ref().map(|(key, fence, _)| purges.concern(key, *fence, PurgeScope::Key));
        assert_eq!(hit, [true, true, false, false, false]);
    }

    #[test]
    fn a33_a_flood_of_purged_queries_affects_only_their_path() {
        let purges = Arc::<Purges>::default();
        let (fence, _on_its_way) = purges.expect(&key("/x?1"));
        let kept = Kept::new(&purges, "/x?1", None);
        let (_, stamped) = purges.state();
        for number in 2..1_000 {
            purges.purge(&uri(&format!("/x?{number}")), PurgeMode::Remove);
        }
        assert!(purges.concern(&key("/x?2"), fence, PurgeScope::Key), "what is stored for another query");
        assert!(purges.concern(&key("/x?999"), fence, PurgeScope::Key));
        assert_eq!(kept.verdict(&purges), Verdict::Untouched, "under its own URI it is what it was");
        assert_eq!(purges.state().1, stamped);
    }

    #[test]
    fn a_fetch_without_a_guard_is_hit_by_purges_that_found_no_holder() {
        let purges = Arc::<Purges>::default();
        let (before, _) = purges.state();
        purges.purge(&uri("/x"), PurgeMode::Remove);
        purges.purge(&PurgeTarget::path("/z"), PurgeMode::Remove);
        purges.purge(&PurgeTarget::Tag("t".into()), PurgeMode::Remove);
        let (after, _) = purges.state();
        for (fence, path, group, verdict) in [
            (before, "/x", None, Verdict::Removed),
            (before, "/z", None, Verdict::Removed),
            (before, "/y", Some("t"), Verdict::Removed),
            (before, "/y", None, Verdict::Untouched),
            (after, "/x", Some("t"), Verdict::Untouched),
            (Fence::default(), "/x", None, Verdict::Removed),
        ] {
            let (key, response) = (key(path), response(group));
            let _held = purges.hold(&key, &response);
            assert_eq!(purges.judge_new(&key, &response, fence), verdict, "{fence:?} {path} {group:?}");
        }
    }
}
