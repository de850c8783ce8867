//! Where stored responses are kept: the contract, and the stores that keep it.

#[cfg(any(feature = "conformance", test))]
pub mod chaos;
#[cfg(any(feature = "conformance", test))]
pub mod conformance;
pub mod log;
pub mod record;

mod boxed;
mod breaker;
mod content;
#[cfg(feature = "disk")]
mod disk;
mod guarded;
mod lease;
mod lookup;
mod memory;
mod notation;
mod places;
mod purge;
mod purges;
mod random;
mod receipt;
#[cfg(feature = "redis")]
mod redis;
mod snapshot;
mod stamp;
pub(crate) mod target;
mod tiered;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

#[cfg(feature = "disk")]
pub use self::disk::{DiskError, DiskStore, DiskStoreBuilder};
#[cfg(feature = "redis")]
pub use self::redis::{
    InvalidRedisConfig, RedisAdvice, RedisConfig, RedisHealth, RedisLeases, RedisLog, RedisStore,
};
pub use boxed::BoxStore;
pub use content::{BeginOutcome, ContentWriter, StoredBody};
pub use guarded::{GuardLimits, Guarded};
pub use lease::{Lease, LeaseAnswer, LeaseEnd, LeaseName, LeaseState, Leases};
pub use lookup::{Expired, Fence, Lookup, Stored, StoredId, Variants};
pub use memory::{MemoryStore, MemoryStoreBuilder};
pub use notation::InvalidItem;
pub use purge::{InvalidPurge, Purge};
pub use receipt::{PurgeNumber, PurgeReceipt};
pub use snapshot::SnapshotCounts;
pub use target::{PurgeMode, PurgeScope, PurgeTarget};
pub use tiered::{TierLimits, TieredStore};

use crate::entry::key::CacheKey;
pub use crate::entry::{Levels, RemoteContent};
use crate::entry::{ResponseHead, StoredResponse};
use crate::error::StoreError;
use crate::semantics::range::ByteRange;

/// A place for stored responses, shared by all clones of a layer.
///
/// # The contract
///
/// A store knows nothing of HTTP: it neither judges freshness nor reads fields, and it reads no clock. It gets complete,
/// immutable responses and gives them back whole, or not at all. It may drop any of them at any time. Whoever *reads* a
/// store sees complete responses only.
///
/// *Variants.* Several responses live under one key; their selecting fields distinguish them. [`Store::get`] gives all of
/// them, the newest first. A store bounds their number ([`StoreLimits::max_variants`]) and drops the oldest.
///
/// *Content.* [`Store::get`] gives heads. Their content is in memory, or it is remote ([`Payload::remote`]): then the cache
/// opens it by [`Store::open`], the whole or one range, before it sends the head to a client. Content that is gone by then
/// is a miss. What was opened can be read to its end, also when the response is removed meanwhile; where it can't be, it
/// ends with an error. A store whose responses all come with their content is never asked to open any.
///
/// *Streams.* A store whose limits say so ([`StoreLimits::takes_streams`]) gets content of more than 64 KiB while it comes, by
/// [`Store::begin`]: any number of responses at one time, under one key or several, at the pace of the inner service and of the
/// store itself. Nobody sees any of it before it is committed, and dropped before that, it leaves nothing. Everything else comes
/// whole, by [`Store::put`].
///
/// *Purge and fill.* [`Lookup::fence`] is the store's purge state at the moment of a look-up. Whoever fetches on the
/// strength of a look-up hands its fence back with the result, and the store refuses the result
/// ([`PutOutcome::Superseded`]) if a purge after that fence names the key or one of the response's groups. After a soft
/// purge it may store the result all the same, as expired, but not in place of one that was asked for after it. So no
/// purge is lost to a fetch under way. This holds for [`Store::put`], for [`Store::freshen`] and for what
/// [`Store::begin`] writes.
///
/// *What is on its way.* A store may forget a purge as soon as nothing that it holds, and nothing that is on its way, can
/// be concerned by it: purges come from strangers, too, by unsafe requests for URIs that do not exist. The cache says what
/// is on its way by [`Store::expect`]: it calls that before it sends a request, and keeps what it gets until the result is
/// put or not. The fence of that ([`Expected::fence`]) is the one that it hands to `put` and to `purged_since`. A purge
/// that ends before `expect` need not be remembered for its sake, since the request goes out afterwards. A fence from
/// elsewhere says nothing of what was forgotten, so the store refuses a result where it can't be sure.
///
/// *Order.* A response does not replace one that is the origin's newer word ([`StoredResponse::is_older_than`]), be it by
/// `put` or by `freshen`, unless that one was purged softly. Of two calls, the first one made may be the last to land.
///
/// *Visibility.* When [`Store::invalidate`] has returned, no later `get` gives an affected response (removed), or
/// gives it without [`Stored::expired`] (expired), not even one whose `put` was under way. When it can't be sure
/// that the purge has taken effect, it returns an error.
///
/// *Numbers.* Each purge has a number of its own ([`PurgeNumber`]), greater than those of all purges that had returned when it
/// began. A store with a log of purges gives the number of the log. A purge that is repeated has the same effect under another
/// number.
///
/// *What it does not know.* Targets and modes may be added. A store that meets one that it does not know purges more, never
/// less: for a target, everything that the target may name, and everything where it can't tell; for a mode, as
/// [`PurgeMode::Remove`] does. An error is right only where even that fails.
///
/// *Cost.* A purge costs the same whatever the number of stored responses.
///
/// *Failure.* No method panics. An error of a read costs a miss, one of a write means that nothing is stored. The cache
/// drops the future of a call that takes too long ([`Guarded`]); whether a write or a purge has taken effect then is open.
///
/// No method has a default: a store around another one that forgets to pass a call on does not compile.
/// [`conformance`] (feature `conformance`) puts a store through all of this.
///
/// [`Payload::remote`]: crate::Payload::remote
pub trait Store: Send + Sync + 'static {
    /// [`Store::get`] where that needs no waiting. `None` means "ask `get`", not "nothing there": a store that has to wait
    /// for its answers always gives it.
    fn try_get(&self, key: &CacheKey) -> Option<Lookup>;

    /// All responses under the key, the newest first, with their content or without ([`Payload::is_remote`]).
    ///
    /// [`Payload::is_remote`]: crate::Payload::is_remote
    fn get(&self, key: &CacheKey) -> impl Future<Output = Result<Lookup, StoreError>> + Send;

    /// Opens the content of a response that [`Store::get`] gave without it: the whole, or a range of what is stored.
    /// `None` where it is gone.
    ///
    /// What it gives ends with an error where it is shorter or longer than that: the cache holds it to its length.
    fn open(
        &self,
        key: &CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> impl Future<Output = Result<Option<StoredBody>, StoreError>> + Send;

    /// Says that a response under the key is on its way, or will be, until the last clone of what this gives is dropped.
    /// [`Expected::default`] says nothing: right for a store that remembers every purge.
    fn expect(&self, key: &CacheKey) -> Expected;

    /// Adds a response, in place of one with the same selecting fields, if that is not newer.
    fn put(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> impl Future<Output = Result<PutOutcome, StoreError>> + Send;

    /// Begins to add a response whose content is still on its way, `expected_length` bytes where that is known. A store
    /// that does not take content piece by piece ([`StoreLimits::takes_streams`]) answers [`BeginOutcome::PutWhole`], and is not
    /// asked.
    ///
    /// Where the length is known, it is called before the client is answered. An answer that needs no waiting is heeded there: what
    /// is refused is not reported as stored.
    fn begin(
        &self,
        key: &CacheKey,
        expected_length: Option<u64>,
        fence: Fence,
    ) -> impl Future<Output = Result<BeginOutcome, StoreError>> + Send;

    /// Gives a stored response a new head over the same content, provided it is still the one with the id `of` (compare
    /// and swap). The fence is that of what is known now, or the one with which the response was found ([`Stored::fence`]): then the
    /// new head says nothing newer of it, and what was purged softly stays stale.
    fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> impl Future<Output = Result<PutOutcome, StoreError>> + Send;

    /// Whether a purge since the fence was taken, hard or soft, concerns a response under the key: one that is in none of
    /// the groups that are known elsewhere, or as `scope` says. `true` where the store can't say, which costs a response
    /// that could have been stored or served. It reads no responses.
    ///
    /// It is asked about what has been expected under the key since the fence, and about what is stored under another
    /// query of the same path, with its fence, if that may answer for the key
    /// ([`StoredResponse::may_answer_for_other_queries`]). A purge that no longer concerns either may be forgotten.
    fn purged_since(
        &self,
        key: &CacheKey,
        since: Fence,
        scope: PurgeScope,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Makes everything that the targets name go, or go stale, and gives the number of that purge, the default one where
    /// there are no targets. An error says that this may not have taken effect for any of them.
    fn invalidate(
        &self,
        targets: &[PurgeTarget],
        mode: PurgeMode,
    ) -> impl Future<Output = Result<PurgeNumber, StoreError>> + Send;

    /// What the store takes, and how it wants to be asked. Asked often: it only reads a field.
    fn limits(&self) -> StoreLimits;

    /// Counts, as far as the store keeps them.
    fn statistics(&self) -> StoreStatistics;
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

/// What became of a [`Store::put`] or [`Store::freshen`], or of what [`Store::begin`] began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutOutcome {
    /// It is stored.
    Stored,
    /// A purge or a newer response came first; nothing was changed.
    Superseded,
    /// The store does not hold responses as large as this one; nothing was changed.
    TooLarge,
}

/// What a store takes, and how it wants to be asked.
///
/// ```
/// use larder::store::StoreLimits;
/// let limits = StoreLimits::new().max_object(1 << 20).waits(true);
/// assert_eq!((limits.max_object, limits.max_variants), (1 << 20, 64));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreLimits {
    /// The most bytes that the store holds in memory; `None`, the default, where that can't be said. What responses on
    /// their way hold besides the store is bounded by it, unless that is set ([`FillLimits`], [`BodyLimits`]).
    ///
    /// [`BodyLimits`]: crate::BodyLimits
    /// [`FillLimits`]: crate::FillLimits
    pub capacity: Option<u64>,
    /// Calls of the store end within a time of its own, or fail: nobody has to guard it. Default `false`.
    pub is_guarded: bool,
    /// [`Store::try_get`] looks into a near part of what there is: where nothing there answers a request, [`Store::get`] is asked
    /// before the request is forwarded. Default `false`.
    pub is_tiered: bool,
    /// The most bytes of content that the store takes in one response; default 8 MiB. It bounds what one fill keeps in
    /// memory, unless the store takes content piece by piece.
    pub max_object: u64,
    /// The most responses that the store keeps under one key; default 64. A request looks through all of them.
    pub max_variants: usize,
    /// Takes content piece by piece ([`Store::begin`]); default `false`. Right for a store that has it elsewhere than in memory.
    pub takes_streams: bool,
    /// Calls may wait for something outside of this process: [`Store::try_get`] gives `None`, at least sometimes.
    /// [`CacheLayer`](crate::CacheLayer) puts a guard ([`Guarded`]) around a store that waits. Default `false`.
    pub waits: bool,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            capacity: None,
            is_guarded: false,
            is_tiered: false,
            max_object: 8 * 1024 * 1024,
            max_variants: 64,
            takes_streams: false,
            waits: false,
        }
    }
}

impl StoreLimits {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`StoreLimits::capacity`].
    #[must_use]
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = Some(bytes);
        self
    }

    /// Sets [`StoreLimits::is_guarded`]: for a store that waits and has deadlines of its own.
    #[must_use]
    pub fn is_guarded(mut self, is_guarded: bool) -> Self {
        self.is_guarded = is_guarded;
        self
    }

    /// Sets [`StoreLimits::is_tiered`].
    #[must_use]
    pub fn is_tiered(mut self, is_tiered: bool) -> Self {
        self.is_tiered = is_tiered;
        self
    }

    /// Sets [`StoreLimits::max_object`].
    #[must_use]
    pub fn max_object(mut self, bytes: u64) -> Self {
        self.max_object = bytes;
        self
    }

    /// Sets [`StoreLimits::max_variants`].
    #[must_use]
    pub fn max_variants(mut self, count: usize) -> Self {
        self.max_variants = count;
        self
    }

    /// Sets [`StoreLimits::takes_streams`].
    #[must_use]
    pub fn takes_streams(mut self, takes: bool) -> Self {
        self.takes_streams = takes;
        self
    }

    /// Sets [`StoreLimits::waits`].
    #[must_use]
    pub fn waits(mut self, waits: bool) -> Self {
        self.waits = waits;
        self
    }
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
}

impl StoreStatistics {
    /// Bytes and keys held, and keys dropped to make room.
    pub fn new(bytes: u64, entries: u64, evictions: u64) -> Self {
        Self { bytes, entries, evictions }
    }
}
