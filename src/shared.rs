//! What all services and handles of a layer share: its configuration, its state and its store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Uri;
use http::request::Parts;
use smallvec::SmallVec;

use crate::collapse::Collapser;
use crate::collapse::background::BackgroundValidations;
use crate::collapse::key_memory::KeyMemory;
use crate::collapse::unknown_outcomes::UnknownOutcomes;
use crate::entry::aliases::QueryAliases;
use crate::entry::key::{self, CacheKey};
use crate::limits::calls::{CallLimits, CallPermits};
use crate::limits::held::{BodyLimits, Held};
use crate::limits::{FillLimits, Gauges};
use crate::observe::Reporter;
use crate::policy::{CachePolicy, RequestAction, StandardPolicy};
use crate::runtime::clock::Clock;
use crate::semantics::etag::TagKind;
use crate::store::{GuardLimits, Guarded, PurgeTarget};

/// The cache that all services of a layer share.
pub(crate) struct Shared<S> {
    pub(crate) core: Core,
    pub(crate) store: Guarded<S>,
}

/// What a layer is built from. It is plain data: state comes with [`Core`].
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) body_limits: BodyLimits,
    pub(crate) call_limits: CallLimits,
    pub(crate) clock: Clock,
    pub(crate) fill_limits: FillLimits,
    pub(crate) guard_limits: GuardLimits,
    pub(crate) policy: Arc<dyn CachePolicy>,
    pub(crate) reporter: Reporter,
    pub(crate) storing: bool,
    pub(crate) tagging: Option<Tagging>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            body_limits: BodyLimits::default(),
            call_limits: CallLimits::default(),
            clock: Clock::default(),
            fill_limits: FillLimits::default(),
            guard_limits: GuardLimits::default(),
            policy: Arc::new(StandardPolicy::default()),
            reporter: Reporter { key: false, name: "larder".into(), x_cache: false },
            storing: true,
            tagging: Some(Tagging::weak()),
        }
    }
}

/// The configuration of a layer and its state, except for the store.
pub(crate) struct Core {
    pub(crate) aliases: QueryAliases,
    pub(crate) background: BackgroundValidations,
    pub(crate) clock: Clock,
    pub(crate) collapser: Arc<Collapser>,
    pub(crate) gauges: Arc<Gauges>,
    id: CoreId,
    pub(crate) policy: Arc<dyn CachePolicy>,
    pub(crate) reporter: Reporter,
    pub(crate) storing: bool,
    pub(crate) tagging: Option<Tagging>,
    pub(crate) unknown_outcomes: UnknownOutcomes,
    pub(crate) unreliable: Unreliable,
}

impl Core {
    /// `capacity` is that of the store.
    pub(crate) fn new(config: Config, capacity: Option<u64>) -> Self {
        let Config {
            body_limits, call_limits, clock, fill_limits, policy, reporter, storing, tagging, ..
        } = config;
        let (held, calls) = (Held::new(&body_limits, capacity), CallPermits::new(call_limits));
        let gauges = Arc::new(Gauges::new(fill_limits, held, calls, capacity));
        Self {
            aliases: QueryAliases::default(),
            background: BackgroundValidations::default(),
            clock,
            collapser: Arc::new(Collapser::new(Arc::clone(&gauges))),
            gauges,
            id: CoreId::default(),
            policy,
            reporter,
            storing,
            tagging,
            unknown_outcomes: UnknownOutcomes::default(),
            unreliable: Unreliable::default(),
        }
    }

    /// Whether a request has already passed these calls and limits: a layer around a router and a clone of it around a
    /// route share them, so the inner one would wait for the outer one's call.
    #[inline]
    pub(crate) fn is_nested(&self, request: &Parts) -> bool {
        request.extensions.get().is_some_and(|Passed(cores)| cores.contains(&self.id))
    }

    /// Marks a request that is forwarded.
    pub(crate) fn mark(&self, request: &mut Parts) {
        if !self.is_nested(request) {
            request.extensions.get_or_insert_default::<Passed>().0.push(self.id);
        }
    }

    /// Content up to this length is taken in before it is answered, where it is there.
    pub(crate) fn small(&self) -> u64 {
        self.tagging.map_or(SMALL, |tagging| tagging.small)
    }

    /// The key under which the policy stores the plain GET of a URI; that of the URI alone where the policy bypasses such
    /// a request.
    pub(crate) fn key_of(&self, uri: Uri) -> Option<CacheKey> {
        let request = key::get(uri);
        match self.policy.request(&request) {
            RequestAction::Cache(key) => Some(key),
            RequestAction::Bypass(_) => CacheKey::of(&request).ok(),
        }
    }

    /// The targets by which everything goes that answers for a URI: its own, and that of what answers for it because
    /// the difference in the query does not matter.
    pub(crate) fn targets_of(&self, key: &CacheKey) -> Vec<PurgeTarget> {
        let same = self.aliases.lookup(key);
        let uris = key.uris().chain(same.as_ref().map(CacheKey::uri));
        uris.map(|uri| PurgeTarget::Uri(uri.into())).collect()
    }
}

/// How entity tags are generated for responses that have none.
///
/// Tagged are answers to GET with status 200 or 203 that are not `no-store`: at once where the length of the
/// content is known and at most [`Tagging::small`], and all of it is there when its first frame is, or the answer has
/// to wait for all of it anyway (a condition, a range, HEAD, a stored response that stands in for an error); otherwise
/// content passes untouched, and if it is stored, later answers have the tag.
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
    /// already; default 64 KiB. Content that comes bit by bit is not held up for it, but where nothing is stored
    /// ([`CacheLayer::tag_only`](crate::CacheLayer::tag_only)).
    #[must_use]
    pub fn small(mut self, bytes: u64) -> Self {
        self.small = bytes;
        self
    }
}

/// The default of [`Tagging::small`].
const SMALL: u64 = 64 * 1024;

/// Identifies the calls and limits of one layer.
#[derive(Clone, Copy, PartialEq, Eq)]
struct CoreId(u64);

impl Default for CoreId {
    /// A new one, which no other layer has.
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The calls and limits that a request has passed, in its extensions.
#[derive(Clone, Default)]
struct Passed(SmallVec<[CoreId; 2]>);

/// Keys whose origin has given an answer that does not fit its question.
pub(crate) struct Unreliable {
    /// What completed a stored part did not fit.
    pub(crate) parts: KeyMemory,
    /// A 304 was about nothing that it was asked about.
    pub(crate) validations: KeyMemory,
}

impl Default for Unreliable {
    fn default() -> Self {
        let keys = || KeyMemory::new(Duration::from_secs(600));
        Self { parts: keys(), validations: keys() }
    }
}
