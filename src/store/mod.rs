//! Where stored responses are kept: the contract, and the stores that keep it.

pub mod conformance;

mod boxed;
mod memory;
mod places;
mod purges;
mod stamp;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

pub use boxed::BoxStore;
pub use memory::MemoryStore;

use self::purges::HeldNames;
use crate::entry::StoredResponse;
use crate::entry::key::CacheKey;
use crate::error::StoreError;

/// A place for stored responses, shared by all clones of a layer.
///
/// # The contract
///
/// A store knows nothing of HTTP: it neither judges freshness nor reads fields. It gets complete, immutable
/// responses and gives them back whole, or not at all. It may drop any of them at any time.
///
/// *Variants.* Several responses live under one key, told apart by their selecting fields. [`Store::get`] gives
/// all of them, the newest first. A store bounds their number and drops the oldest.
///
/// *Purge and fill.* [`Lookup::fence`] is the store's purge state at the moment of a look-up. Whoever fetches
/// on the strength of a look-up hands its fence back with the result, and the store refuses the result
/// ([`PutOutcome::Superseded`]) if the key, its URI, a prefix of it, one of the response's groups or everything was
/// purged after the fence was taken; after a soft purge it may store the result all the same, as expired, but
/// not in place of one that was asked for after it. So no purge is lost to a fetch under way.
///
/// *What is on its way.* A store may forget a purge as soon as nothing that it holds, and nothing that is on its way, can
/// be concerned by it: purges come from strangers, too, by unsafe requests for URIs that do not exist. What is on its way
/// the cache says by [`Store::expect`]: it calls that before it sends a request, and keeps what it gets until the result is
/// put or not. The fence of that ([`Expected::fence`]) is the one it hands to `put` and to `is_untouched`. A purge that
/// ends before `expect` need not be remembered for its sake, since the request goes out afterwards. A fence from
/// elsewhere says nothing of what was forgotten, so the store refuses a result where it can't be sure.
///
/// *Order.* A response does not replace one that is the origin's newer word ([`StoredResponse::is_older_than`]), be it by
/// `put` or by `freshen`, unless that one was purged softly. Of two calls, the first one made may be the last to land.
///
/// *Visibility.* When [`Store::invalidate`] has returned, no later `get` gives an affected response (removed), or
/// gives it without [`Stored::expired`] (expired), not even one whose `put` was under way. When it can't be sure
/// that the purge has taken effect, it returns an error.
///
/// *Cost.* A purge costs the same whatever the number of stored responses.
///
/// *Failure.* No method panics. An error of `get`, `put` or `freshen` costs a miss and nothing else.
///
/// [`conformance::check`] puts a store through all of this.
pub trait Store: Send + Sync + 'static {
    /// [`Store::get`] where that needs no waiting. `None` means "ask `get`", not "nothing there".
    fn try_get(&self, key: &CacheKey) -> Option<Lookup> {
        let _ = key;
        None
    }

    /// [`Store::try_get`] for who has looked before, and is not to be counted twice.
    fn try_again(&self, key: &CacheKey) -> Option<Lookup> {
        self.try_get(key)
    }

    /// All responses under the key, the newest first.
    fn get(&self, key: &CacheKey) -> impl Future<Output = Result<Lookup, StoreError>> + Send;

    /// Says that a response under the key is on its way, or will be, until the last clone of what this gives is dropped.
    /// A store that wraps another one passes this on. The default says nothing: right for a store that remembers every
    /// purge.
    fn expect(&self, key: &CacheKey) -> Expected {
        let _ = key;
        Expected::default()
    }

    /// Adds a response, in place of one with the same selecting fields, if that is not newer.
    fn put(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> impl Future<Output = Result<PutOutcome, StoreError>> + Send;

    /// Gives a stored response a new head over the same content, provided it is still the one with
    /// the id `of` (compare and swap). `response` has the old payload.
    fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        response: StoredResponse,
        fence: Fence,
    ) -> impl Future<Output = Result<PutOutcome, StoreError>> + Send;

    /// Whether no purge since the fence was taken, hard or soft, concerns a response under the key. It is in none of
    /// the groups that are known elsewhere; where `of_any_group`, a purge of any group may concern it. `false` where
    /// the store can't tell, which costs a response that could have been stored or served.
    ///
    /// It is asked about what has been expected under the key since the fence, and about what is stored under another
    /// query of the same path, with its fence, if that may answer for the key
    /// ([`StoredResponse::may_answer_for_other_queries`]). A purge that no longer concerns either may be forgotten.
    fn is_untouched(
        &self,
        key: &CacheKey,
        of_any_group: bool,
        since: Fence,
    ) -> impl Future<Output = bool> + Send {
        let _ = of_any_group;
        async move { self.get(key).await.is_ok_and(|now| now.fence == since) }
    }

    /// Makes everything that the target names go, or go stale.
    fn invalidate(
        &self,
        target: &PurgeTarget,
        how: PurgeMode,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The most bytes of content that the store takes in one response; default 8 MiB.
    fn max_object(&self) -> u64 {
        8 * 1024 * 1024
    }

    /// The most bytes that the store holds in memory; `None`, the default, where that can't be said. What responses on their
    /// way hold beside the store is bounded by it, unless it is set ([`FillLimits`], [`BodyLimits`]).
    ///
    /// [`BodyLimits`]: crate::BodyLimits
    /// [`FillLimits`]: crate::FillLimits
    fn capacity(&self) -> Option<u64> {
        None
    }

    /// Counts, as far as the store keeps them.
    fn statistics(&self) -> StoreStatistics {
        StoreStatistics::default()
    }
}

/// Keeps a store from forgetting purges that concern a response on its way (see [`Store::expect`]). Cheap to clone.
#[derive(Clone, Default)]
#[must_use = "dropped, it lets the store forget"]
pub struct Expected {
    fence: Option<Fence>,
    /// The store's own; what counts is when it is dropped.
    _held: Option<Arc<dyn Any + Send + Sync>>,
}

impl Expected {
    /// `held` is dropped with the last clone. The fence is the purge state at a moment at which `held` was there.
    pub fn new(fence: Fence, held: impl Send + Sync + 'static) -> Self {
        Self { fence: Some(fence), _held: Some(Arc::new(held)) }
    }

    /// The purge state at the moment from which on the store forgets nothing. `None` where it never forgets: the fence of
    /// a look-up is as good then.
    pub fn fence(&self) -> Option<Fence> {
        self.fence
    }
}

impl fmt::Debug for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expected").field("fence", &self.fence).finish_non_exhaustive()
    }
}

/// The purge state of a store at one moment. Its meaning is the store's own, but that the default one stands
/// before every purge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fence(pub u128);

/// Tells one stored response from all others that the store has held or will hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredId(pub u64);

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
}

/// Responses under one key, the newest first. Cheap to clone.
#[derive(Clone, Default)]
pub struct Variants(Option<Arc<Shelf>>);

/// What clones of [`Variants`] share.
struct Shelf {
    /// A store's own mark: the purge number up to which all are known to be untouched.
    checked: AtomicU64,
    /// Keeps the stamps of purges that concern these responses, for as long as anybody has them.
    held: Option<Arc<HeldNames>>,
    list: Box<[Stored]>,
}

impl Variants {
    /// Takes the responses in their order.
    pub fn new(list: impl IntoIterator<Item = Stored>) -> Self {
        Self::checked(list, 0, None)
    }

    fn checked(list: impl IntoIterator<Item = Stored>, number: u64, held: Option<Arc<HeldNames>>) -> Self {
        let list: Box<[Stored]> = list.into_iter().collect();
        let checked = AtomicU64::new(number);
        Self((!list.is_empty()).then(|| Arc::new(Shelf { checked, held, list })))
    }

    /// Some of these responses, purged softly or not, with a mark that says nothing yet.
    fn of_these(&self, list: impl IntoIterator<Item = Stored>) -> Self {
        Self::checked(list, 0, self.0.as_ref().and_then(|shelf| shelf.held.clone()))
    }

    /// Whether both are the same shelf, not only equal ones.
    fn is(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    fn mark(&self) -> Option<&AtomicU64> {
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

/// One response in a store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stored {
    /// When it was purged softly; it is stale from then on, whatever its freshness lifetime.
    pub expired: Option<SystemTime>,
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

    /// Seconds of freshness left, negative when stale, where the age is known already.
    #[inline]
    pub(crate) fn ttl_at(&self, age: Option<Duration>, now: SystemTime) -> i64 {
        let ttl = self.response.head().reuse().ttl_at(age);
        // After a soft purge it has been stale since then, however long it would have lived.
        self.expired.map_or(ttl, |expired| {
            let since = now.duration_since(expired).unwrap_or_default();
            ttl.min(-i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
        })
    }
}

/// What became of a [`Store::put`] or [`Store::freshen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// It is stored.
    Stored,
    /// A purge or a newer response came first; nothing was changed.
    Superseded,
    /// The store does not hold responses as large as this one; nothing was changed.
    TooLarge,
}

/// What an invalidation is aimed at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PurgeTarget {
    /// Everything.
    All,
    /// Every response in a group, by its full name: those of `Cache-Groups` are in the scope of their origin (see
    /// [`groups::scoped`](crate::semantics::groups::scoped)). A [`CacheHandle`](crate::CacheHandle) takes a name without
    /// an origin for a [`PurgeTarget::Tag`].
    Group(Box<str>),
    /// Every response under one key.
    Key(CacheKey),
    /// Every response whose key has a URI that starts with these bytes (see [`CacheKey::uris`]).
    Prefix(Box<[u8]>),
    /// Every response in a group of this name, whatever its origin (see [`groups::tag`](crate::semantics::groups::tag)).
    Tag(Box<str>),
    /// Every response whose key has this URI, whatever its other parts (see [`CacheKey::uris`]).
    Uri(Box<[u8]>),
}

/// What an invalidation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PurgeMode {
    /// Soft: stale from the given time on.
    Expire(SystemTime),
    /// Hard: gone.
    Remove,
}

/// Counts of a store since it was made, and its contents now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStatistics {
    /// Bytes held.
    pub bytes: u64,
    /// Keys held.
    pub entries: u64,
    /// Keys dropped to make room.
    pub evictions: u64,
    /// Look-ups that found something.
    pub hits: u64,
    /// Look-ups that found nothing.
    pub misses: u64,
}
