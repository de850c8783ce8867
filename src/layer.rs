//! The layer: its options, and the cache that all its services share.

use std::fmt;
use std::sync::Arc;

use tower::Layer;

use crate::collapse::Collapser;
use crate::collapse::background::BackgroundValidations;
use crate::collapse::unknown_outcomes::UnknownOutcomes;
use crate::handle::CacheHandle;
use crate::limits::calls::{CallLimits, CallPermits};
use crate::limits::held::{BodyLimits, Held};
use crate::limits::{FillLimits, Gauges};
use crate::observe::CacheStatusWriter;
use crate::policy::{CachePolicy, StandardPolicy};
use crate::runtime::clock::Clock;
use crate::semantics::cache_status::MOST_NAME;
use crate::semantics::fields::is_token;
use crate::service::CacheService;
use crate::shared::{Core, CoreId, Tagging, Unreliable};
use crate::store::{MemoryStore, Store};

/// Puts a shared HTTP cache in front of a service.
///
/// All services made by one layer and its clones share one store. The inner service must be `Clone` (each
/// call has a clone of its own, so that a saturated origin does not delay hits); bodies must be `Send`.
///
/// ```
/// use axum::{Router, routing::get};
/// use larder::CacheLayer;
///
/// let app: Router = Router::new()
///     .route("/", get(|| async { ([("cache-control", "max-age=60")], "Hello") }))
///     .layer(CacheLayer::default());
/// ```
pub struct CacheLayer<S = MemoryStore> {
    pub(crate) core: Arc<Core>,
    store: Arc<S>,
}

impl Default for CacheLayer {
    /// A cache in memory: 256 MiB, [`StandardPolicy::default`], weak tags.
    fn default() -> Self {
        Self::new(MemoryStore::default())
    }
}

impl<S: Store> CacheLayer<S> {
    /// A cache over a store, with [`StandardPolicy::default`] and weak tags.
    pub fn new(store: S) -> Self {
        let held = Held::new(&BodyLimits::default(), store.limits().capacity);
        let gauges = Arc::new(Gauges::new(
            FillLimits::default(),
            held,
            CallPermits::default(),
            store.limits().capacity,
        ));
        let core = Core {
            clock: Clock::default(),
            collapser: Arc::new(Collapser::new(Arc::clone(&gauges))),
            unknown_outcomes: UnknownOutcomes::default(),
            id: CoreId::default(),
            gauges,
            policy: Arc::new(StandardPolicy::default()),
            aliases: Arc::default(),
            storing: true,
            tagging: Some(Tagging::weak()),
            unreliable: Unreliable::default(),
            validations: BackgroundValidations::default(),
            status_writer: CacheStatusWriter { key: false, name: "larder".into(), x_cache: false },
        };
        Self { core: Arc::new(core), store: Arc::new(store) }
    }

    fn set(mut self, edit: impl FnOnce(&mut Core)) -> Self {
        edit(Arc::make_mut(&mut self.core));
        self
    }

    /// Decides what is cached; default [`StandardPolicy::default`].
    #[must_use]
    pub fn policy(self, policy: impl CachePolicy) -> Self {
        self.set(|core| core.policy = Arc::new(policy))
    }

    /// How entity tags are generated; default [`Tagging::weak`].
    #[must_use]
    pub fn tagging(self, tagging: Tagging) -> Self {
        self.set(|core| core.tagging = Some(tagging))
    }

    /// Generates no entity tags.
    #[must_use]
    pub fn without_tagging(self) -> Self {
        self.set(|core| core.tagging = None)
    }

    /// Stores nothing: only entity tags and `304`s.
    ///
    /// ```
    /// use larder::CacheLayer;
    /// let etags = CacheLayer::default().tag_only();
    /// # let _ = etags;
    /// ```
    #[must_use]
    pub fn tag_only(self) -> Self {
        self.set(|core| core.storing = false)
    }

    /// Sends `X-Cache: Hit|Miss|RefreshHit|Error from larder` beside `Cache-Status`; default off.
    #[must_use]
    pub fn x_cache(self, on: bool) -> Self {
        self.set(|core| core.status_writer.x_cache = on)
    }

    /// Tells the URI of the key in `Cache-Status`, cut at 1,024 bytes; default off. It shows what differences between
    /// requests the cache sees, and costs.
    #[must_use]
    pub fn key_in_cache_status(self, on: bool) -> Self {
        self.set(|core| core.status_writer.key = on)
    }

    /// The cache's name in `Cache-Status`; default `larder`.
    ///
    /// # Panics
    ///
    /// When the name is no token (RFC 9110 5.6.2) of at most 64 bytes.
    #[must_use]
    #[track_caller]
    pub fn name(self, name: &str) -> Self {
        assert!(
            is_token(name.as_bytes()) && name.len() <= MOST_NAME,
            "a cache's name is a token (letters, digits, - . _) of at most 64 bytes: {name:?}"
        );
        self.set(|core| core.status_writer.name = name.into())
    }

    /// The bounds of what is fetched at one time; default [`FillLimits::default`].
    #[must_use]
    pub fn fill_limits(self, limits: FillLimits) -> Self {
        let (held, calls) = (Arc::clone(&self.core.gauges.held), self.core.gauges.calls.clone());
        self.load(limits, held, calls)
    }

    /// How much the bodies of responses may hold, and for how long; default [`BodyLimits::default`].
    #[must_use]
    pub fn body_limits(self, limits: BodyLimits) -> Self {
        let Gauges { calls, limits: fills, .. } = &*self.core.gauges;
        let (fills, calls, held) =
            (fills.clone(), calls.clone(), Held::new(&limits, self.store.limits().capacity));
        self.load(fills, held, calls)
    }

    /// How many calls of the inner service are under way at one time; by default there is no bound.
    #[must_use]
    pub fn call_limits(self, limits: CallLimits) -> Self {
        let (fills, held) = (self.core.gauges.limits.clone(), Arc::clone(&self.core.gauges.held));
        self.load(fills, held, CallPermits::new(limits))
    }

    fn load(self, limits: FillLimits, held: Arc<Held>, calls: CallPermits) -> Self {
        let gauges = Arc::new(Gauges::new(limits, held, calls, self.store.limits().capacity));
        self.set(|core| {
            core.id = CoreId::default();
            core.collapser = Arc::new(Collapser::new(Arc::clone(&gauges)));
            core.gauges = gauges;
        })
    }

    /// Where the time comes from; default the system's clock.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        self.set(|core| core.clock = clock)
    }

    /// A handle to purge and to look at what is stored.
    pub fn handle(&self) -> CacheHandle<S> {
        CacheHandle::new(Arc::clone(&self.core), Arc::clone(&self.store))
    }
}

impl<S> Clone for CacheLayer<S> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core), store: Arc::clone(&self.store) }
    }
}

impl<S> fmt::Debug for CacheLayer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLayer")
            .field("storing", &self.core.storing)
            .field("tagging", &self.core.tagging)
            .field("voice", &self.core.status_writer)
            .finish_non_exhaustive()
    }
}

impl<S: Store, Inner> Layer<Inner> for CacheLayer<S> {
    type Service = CacheService<Inner, S>;

    fn layer(&self, inner: Inner) -> Self::Service {
        CacheService::new(inner, Arc::clone(&self.core), Arc::clone(&self.store))
    }
}
