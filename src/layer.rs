//! The layer: its options, and the cache that all its services share.

use std::fmt;
use std::sync::Arc;

use tower::Layer;

use crate::clock::Clock;
use crate::handle::CacheHandle;
use crate::observe::Voice;
use crate::policy::{CachePolicy, StandardPolicy};
use crate::revalidate::Validations;
use crate::semantics::cache_status::MOST_NAME;
use crate::semantics::etag::TagKind;
use crate::semantics::fields::is_token;
use crate::service::CacheService;
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
    core: Arc<Core>,
    store: Arc<S>,
}

/// What all services of a layer share beside the store.
pub(crate) struct Core {
    pub(crate) clock: Clock,
    pub(crate) policy: Arc<dyn CachePolicy>,
    pub(crate) storing: bool,
    pub(crate) tagging: Option<Tagging>,
    pub(crate) validations: Validations,
    pub(crate) voice: Voice,
}

impl Clone for Core {
    /// The options; each layer has its own count of validations.
    fn clone(&self) -> Self {
        Self {
            clock: self.clock.clone(),
            policy: Arc::clone(&self.policy),
            storing: self.storing,
            tagging: self.tagging,
            validations: Validations::default(),
            voice: Voice { name: self.voice.name.clone(), x_cache: self.voice.x_cache },
        }
    }
}

/// How entity tags are generated for responses that have none.
///
/// Tagged are answers to GET with status 200 or 203 that are not `no-store`: at once where the length of the
/// content is known and at most [`Tagging::small`]; otherwise content passes untouched, and if it is
/// stored, later answers have the tag.
#[derive(Clone, Copy, Debug)]
pub struct Tagging {
    pub(crate) kind: TagKind,
    pub(crate) small: u64,
}

impl Tagging {
    /// Weak tags: `W/"length-hash"` with 64-bit FNV-1a. Fast; not proof against forged content, which is why
    /// they are weak and never stand for byte ranges.
    pub fn weak() -> Self {
        Self { kind: TagKind::Fnv1a, small: SMALL }
    }

    /// Strong tags: `"length-hash"` with BLAKE3, cut to 128 bits.
    #[cfg(feature = "blake3")]
    #[cfg_attr(docsrs, doc(cfg(feature = "blake3")))]
    pub fn strong() -> Self {
        Self { kind: TagKind::Blake3, small: SMALL }
    }

    /// The most bytes of content that are taken in before the first answer, so that it has a tag
    /// already; default 64 KiB.
    #[must_use]
    pub fn small(mut self, bytes: u64) -> Self {
        self.small = bytes;
        self
    }
}

/// Content up to this length is taken in before it is answered.
pub(crate) const SMALL: u64 = 64 * 1024;

impl Default for CacheLayer {
    /// A cache in memory: 256 MiB, [`StandardPolicy::default`], weak tags.
    fn default() -> Self {
        Self::new(MemoryStore::default())
    }
}

impl<S: Store> CacheLayer<S> {
    /// A cache over a store, with [`StandardPolicy::default`] and weak tags.
    pub fn new(store: S) -> Self {
        let core = Core {
            clock: Clock::default(),
            policy: Arc::new(StandardPolicy::default()),
            storing: true,
            tagging: Some(Tagging::weak()),
            validations: Validations::default(),
            voice: Voice { name: "larder".into(), x_cache: false },
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
        self.set(|core| core.voice.x_cache = on)
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
        self.set(|core| core.voice.name = name.into())
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
            .field("voice", &self.core.voice)
            .finish_non_exhaustive()
    }
}

impl<S: Store, Inner> Layer<Inner> for CacheLayer<S> {
    type Service = CacheService<Inner, S>;

    fn layer(&self, inner: Inner) -> Self::Service {
        CacheService::new(inner, Arc::clone(&self.core), Arc::clone(&self.store))
    }
}
