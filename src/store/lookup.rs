//! What a look-up finds.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use smallvec::SmallVec;

use super::purges::HeldNames;
use crate::entry::StoredResponse;
use crate::entry::key::CacheKey;

/// The purge state of a store at one moment. Its meaning is the store's own, except that the default one stands before
/// every purge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fence(u128);

impl Fence {
    /// A fence from a store's own bits. 0 is the default one.
    pub fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// What [`Fence::from_bits`] was given.
    pub fn bits(self) -> u128 {
        self.0
    }
}

/// Distinguishes one stored response from all others that the store has held or will hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoredId(u64);

impl StoredId {
    /// An identity from a store's own bits.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// What [`StoredId::from_bits`] was given.
    pub fn bits(self) -> u64 {
        self.0
    }
}

/// What a look-up found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Lookup {
    /// The purge state at the moment of the look-up.
    pub fence: Fence,
    /// The responses, the newest first.
    pub variants: Variants,
}

impl Lookup {
    /// A look-up's result.
    pub fn new(fence: Fence, variants: Variants) -> Self {
        Self { fence, variants }
    }

    /// Without what an expiry with an end has made go by `now`: a store that reads no clock still gives it.
    #[inline]
    pub(crate) fn living(self, now: SystemTime) -> Self {
        if self.variants.iter().any(|stored| stored.is_gone(now)) {
            return self.where_stored(|stored| !stored.is_gone(now));
        }
        self
    }

    /// Without one response, whose content can't be had.
    pub(crate) fn without(self, id: StoredId) -> Self {
        self.where_stored(|stored| stored.id != id)
    }

    /// With another form of one response.
    pub(crate) fn with_response(self, id: StoredId, response: StoredResponse) -> Self {
        let list = self.variants.iter().map(|stored| match stored.id == id {
            true => Stored { response: response.clone(), ..stored.clone() },
            false => stored.clone(),
        });
        Self { variants: self.variants.of_these(list), ..self }
    }

    /// With these in place of its responses, of which they are forms.
    pub(crate) fn with_variants(self, list: Vec<Stored>) -> Self {
        Self { variants: self.variants.of_these(list), ..self }
    }

    fn where_stored(self, keeps: impl Fn(&Stored) -> bool) -> Self {
        let kept = self.variants.iter().filter(|stored| keeps(stored)).cloned();
        Self { variants: self.variants.of_these(kept), ..self }
    }
}

/// Responses under one key, the newest first. Cheap to clone.
#[derive(Clone, Default)]
pub struct Variants(Option<Arc<Shelf>>);

/// What clones of [`Variants`] share.
struct Shelf {
    /// A store's own mark: the purge number up to which all are known to be untouched.
    checked: AtomicU64,
    /// Keeps the stamps of purges that concern these responses, for as long as anybody has them.
    held: Option<HeldNames>,
    /// In the same block, as most keys have one response.
    list: SmallVec<[Stored; 1]>,
}

impl Variants {
    /// Takes the responses in their order.
    pub fn new(list: impl IntoIterator<Item = Stored>) -> Self {
        Self::checked(list, 0, None)
    }

    pub(super) fn checked(
        list: impl IntoIterator<Item = Stored>,
        number: u64,
        held: Option<HeldNames>,
    ) -> Self {
        let list: SmallVec<[Stored; 1]> = list.into_iter().collect();
        let checked = AtomicU64::new(number);
        Self((!list.is_empty()).then(|| Arc::new(Shelf { checked, held, list })))
    }

    /// Some of these responses, purged softly or not, with a mark that says nothing yet.
    pub(super) fn of_these(&self, list: impl IntoIterator<Item = Stored>) -> Self {
        Self::checked(list, 0, self.0.as_ref().and_then(|shelf| shelf.held.clone()))
    }

    /// Whether both are the same shelf, not only equal ones.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// Whether no purge beyond their mark can concern any of them, as far as their names say; if so, the mark is `latest` then.
    pub(super) fn advance_mark(&self, key: &CacheKey, latest: u64) -> bool {
        let Some(Shelf { checked, held: Some(held), .. }) = self.0.as_deref() else {
            return false;
        };
        let are_untouched = held.are_untouched(key, checked.load(Ordering::Acquire));
        if are_untouched {
            checked.fetch_max(latest, Ordering::AcqRel);
        }
        are_untouched
    }

    pub(super) fn mark(&self) -> Option<&AtomicU64> {
        self.0.as_ref().map(|shelf| &shelf.checked)
    }
}

impl std::ops::Deref for Variants {
    type Target = [Stored];

    fn deref(&self) -> &[Stored] {
        self.0.as_ref().map_or(&[], |shelf| &shelf.list)
    }
}

impl fmt::Debug for Variants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// What soft purges have made of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Expired {
    /// It is stale from then on, whatever its freshness lifetime.
    pub at: SystemTime,
    /// From then on it is gone. A store that still gives it then has not broken its contract: the cache looks at this.
    pub until: Option<SystemTime>,
}

impl Expired {
    /// Stale from `at` on, and gone from `until` on.
    pub fn new(at: SystemTime, until: Option<SystemTime>) -> Self {
        Self { at, until }
    }

    /// What both say together: the earlier of each.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let ends = self.until.into_iter().chain(other.until);
        Self { at: self.at.min(other.at), until: ends.min() }
    }
}

/// One response in a store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stored {
    /// What soft purges have made of it.
    pub expired: Option<Expired>,
    /// The fence under which it was put.
    pub fence: Fence,
    /// Its identity.
    pub id: StoredId,
    /// The response.
    pub response: StoredResponse,
}

impl Stored {
    /// A response as a store holds it.
    pub fn new(id: StoredId, fence: Fence, response: StoredResponse) -> Self {
        Self { expired: None, fence, id, response }
    }

    /// Whether an expiry with an end has made it go by `now`.
    pub(crate) fn is_gone(&self, now: SystemTime) -> bool {
        self.expired.and_then(|expired| expired.until).is_some_and(|until| until <= now)
    }

    /// Seconds of freshness left, negative when stale, where the age is known already.
    #[inline]
    pub(crate) fn ttl_at(&self, age: Option<Duration>, now: SystemTime) -> i64 {
        let ttl = self.response.head().reuse().ttl_at(age);
        // After a soft purge it has been stale since then, however long it would have lived.
        self.expired.map_or(ttl, |expired| {
            let since = now.duration_since(expired.at).unwrap_or_default();
            ttl.min(-i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
        })
    }
}
