//! The layer, and the builder that makes it.

use std::fmt;
use std::sync::Arc;

use tower::Layer;

use crate::handle::CacheHandle;
use crate::limits::FillLimits;
use crate::limits::calls::CallLimits;
use crate::limits::held::BodyLimits;
use crate::observe::{Observer, ServerTiming, XCache};
use crate::policy::CachePolicy;
use crate::runtime::clock::Clock;
use crate::semantics::cache_status::MOST_NAME;
use crate::semantics::fields::is_token;
use crate::service::CacheService;
use crate::shared::{Config, Core, Shared, Tagging};
use crate::store::{GuardLimits, Guarded, MemoryStore, Store};

/// Puts a shared HTTP cache in front of a service.
///
/// All services made by one layer and its clones share one cache: its store, its policy, and the calls that requests can
/// join. The inner service must be `Clone` (each call has a clone of its own, so that a saturated origin does not delay
/// hits); bodies must be `Send`.
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
    pub(crate) shared: Arc<Shared<S>>,
}

impl Default for CacheLayer {
    /// A cache in memory: 256 MiB, [`StandardPolicy::default`](crate::StandardPolicy::default), weak tags.
    fn default() -> Self {
        CacheBuilder::default().build()
    }
}

impl<S: Store> CacheLayer<S> {
    /// A cache over a store, with the defaults of [`CacheBuilder`].
    pub fn new(store: S) -> Self {
        Self::builder(store).build()
    }

    /// Sets up a cache over a store.
    pub fn builder(store: S) -> CacheBuilder<S> {
        CacheBuilder { config: Config::default(), store }
    }

    /// A handle to purge and to look at what is stored.
    pub fn handle(&self) -> CacheHandle<S> {
        CacheHandle::new(Arc::clone(&self.shared))
    }
}

impl<S> Clone for CacheLayer<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S> fmt::Debug for CacheLayer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = &self.shared.core;
        f.debug_struct("CacheLayer")
            .field("storing", &core.storing)
            .field("tagging", &core.tagging)
            .field("reporter", &core.reporter)
            .finish_non_exhaustive()
    }
}

impl<S: Store, Inner> Layer<Inner> for CacheLayer<S> {
    type Service = CacheService<Inner, S>;

    fn layer(&self, inner: Inner) -> Self::Service {
        CacheService::new(inner, Arc::clone(&self.shared))
    }
}

/// The options of a [`CacheLayer`]. What is built from it is fixed.
///
/// ```
/// use larder::{CacheLayer, MemoryStore, StandardPolicy};
/// let layer = CacheLayer::builder(MemoryStore::default())
///     .policy(StandardPolicy::rfc9111())
///     .x_cache(true)
///     .build();
/// # let _ = layer;
/// ```
#[must_use = "`build` makes the layer"]
pub struct CacheBuilder<S = MemoryStore> {
    config: Config,
    store: S,
}

impl Default for CacheBuilder {
    /// A cache in memory: 256 MiB, [`StandardPolicy::default`](crate::StandardPolicy::default), weak tags.
    fn default() -> Self {
        CacheLayer::builder(MemoryStore::default())
    }
}

impl<S: Clone> Clone for CacheBuilder<S> {
    fn clone(&self) -> Self {
        Self { config: self.config.clone(), store: self.store.clone() }
    }
}

impl<S: Store> CacheBuilder<S> {
    /// Makes the layer.
    pub fn build(self) -> CacheLayer<S> {
        let Self { config, store } = self;
        let store = Guarded::where_needed(store, config.guard_limits.clone());
        let core = Core::new(config, &store.limits());
        CacheLayer { shared: Arc::new(Shared { core, store }) }
    }

    fn set(mut self, edit: impl FnOnce(&mut Config)) -> Self {
        edit(&mut self.config);
        self
    }

    /// Bounds how much the bodies of responses may hold, and for how long; default [`BodyLimits::default`].
    pub fn body_limits(self, limits: BodyLimits) -> Self {
        self.set(|config| config.body_limits = limits)
    }

    /// Bounds how many calls of the inner service are under way at one time; by default there is no bound.
    pub fn call_limits(self, limits: CallLimits) -> Self {
        self.set(|config| config.call_limits = limits)
    }

    /// Sends `Cache-Status` (RFC 9211); default on, and off with [`CacheBuilder::tag_only`]. Switched off, what caches nearer
    /// to the origin say is passed on.
    pub fn cache_status(self, on: bool) -> Self {
        self.set(|config| config.cache_status = Some(on))
    }

    /// Says where the time comes from; default the system's clock.
    pub fn clock(self, clock: Clock) -> Self {
        self.set(|config| config.clock = clock)
    }

    /// Reports what the cache does only to requests that show this secret in the field `Larder-Debug`, and to those of a
    /// [`TrustedPeer`](crate::policy::TrustedPeer), which reports it to its own clients or does not; by default to everybody.
    ///
    /// Answers to all others have no `Cache-Status`, whichever cache on the way has sent it, no `Server-Timing` of this cache, and where
    /// [`CacheBuilder::x_cache`] is on, no `X-Cache`. The secret is compared in constant time, and no policy and no inner service gets
    /// to see it. An empty secret is none, and nobody shows it.
    ///
    /// ```
    /// # let secret = "from the configuration";
    /// use larder::CacheBuilder;
    /// let layer = CacheBuilder::default().debug_token(secret).key_in_cache_status(true).build();
    /// # let _ = layer;
    /// ```
    pub fn debug_token(self, secret: &str) -> Self {
        self.set(|config| config.reporter.limit_to(secret))
    }

    /// Switched off, requests go to the inner service and responses to their clients as if there were no cache, but with the
    /// same types; default on.
    pub fn enabled(self, on: bool) -> Self {
        self.set(|config| config.enabled = on)
    }

    /// Bounds what is fetched at one time; default [`FillLimits::default`].
    pub fn fill_limits(self, limits: FillLimits) -> Self {
        self.set(|config| config.fill_limits = limits)
    }

    /// How long calls of a store that waits may take, and when it is not called any more; default [`GuardLimits::default`].
    pub fn guard_limits(self, limits: GuardLimits) -> Self {
        self.set(|config| config.guard_limits = limits)
    }

    /// Reports the URI of the key in `Cache-Status`, cut at 1,024 bytes; default off. It shows what differences between
    /// requests the cache sees, and costs.
    pub fn key_in_cache_status(self, on: bool) -> Self {
        self.set(|config| config.reporter.key = on)
    }

    /// The cache's name in `Cache-Status`; default `larder`.
    ///
    /// # Panics
    ///
    /// When the name is no token (RFC 9110 5.6.2) of at most 64 bytes.
    #[track_caller]
    pub fn name(self, name: &str) -> Self {
        assert!(
            is_token(name.as_bytes()) && name.len() <= MOST_NAME,
            "a cache's name is a token (letters, digits, - . _) of at most 64 bytes: {name:?}"
        );
        self.set(|config| config.reporter.name = name.into())
    }

    /// Reports every [`Event`](crate::Event) to an observer, and to those that were added before, in this order; default
    /// none.
    pub fn observer(self, observer: impl Observer) -> Self {
        self.set(|config| config.reporter.add_observer(Arc::new(observer)))
    }

    /// Puts the [`Outcome`](crate::Outcome) of each request among the extensions of its response, for layers that are
    /// wrapped around this one; default off, for it allocates.
    pub fn outcome_in_extensions(self, on: bool) -> Self {
        self.set(|config| config.reporter.outcome_in_extensions = on)
    }

    /// Decides what is cached; default [`StandardPolicy::default`](crate::StandardPolicy::default).
    pub fn policy(self, policy: impl CachePolicy) -> Self {
        self.set(|config| config.policy = Arc::new(Box::new(policy)))
    }

    /// Sends `Server-Timing` with what the cache did, and how long the inner service took; default not at all.
    pub fn server_timing(self, timing: ServerTiming) -> Self {
        self.set(|config| config.reporter.server_timing = Some(timing))
    }

    /// Stores nothing: only entity tags and `304`s.
    ///
    /// An answer to GET with small content ([`Tagging::small`]) gets its tag, and the client's conditions are evaluated on
    /// every successful answer: 304, or 412. Everything else passes. Nothing is looked up, no call is shared, and the
    /// authority is forwarded as the client has spelled it. There is no `Cache-Status` unless
    /// [`CacheBuilder::cache_status`] asks for it.
    ///
    /// The hooks of the policy, the observer and the other options work as they do for a cache, with the outcome
    /// `fwd=bypass; detail="switched-off"`. A key is made where somebody asks for it: an observer,
    /// [`CacheBuilder::call_limits`], or a policy that is not [for storing only](CachePolicy::is_for_storing_only).
    ///
    /// ```
    /// use larder::CacheBuilder;
    /// let etags = CacheBuilder::default().tag_only().build();
    /// # let _ = etags;
    /// ```
    pub fn tag_only(self) -> Self {
        self.set(|config| config.storing = false)
    }

    /// How entity tags are generated; default [`Tagging::weak`].
    pub fn tagging(self, tagging: Tagging) -> Self {
        self.set(|config| config.tagging = Some(tagging))
    }

    /// Generates no entity tags.
    pub fn without_tagging(self) -> Self {
        self.set(|config| config.tagging = None)
    }

    /// Sends `X-Cache` as well as `Cache-Status`, in the form of CloudFront (`true` means that, too) or of Fastly; default off.
    pub fn x_cache(self, form: impl Into<XCache>) -> Self {
        self.set(|config| config.reporter.x_cache = form.into())
    }
}

impl<S> fmt::Debug for CacheBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("storing", &self.config.storing)
            .field("tagging", &self.config.tagging)
            .field("reporter", &self.config.reporter)
            .finish_non_exhaustive()
    }
}
