//! What all services and handles of a layer share beside the store.

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
use crate::limits::Gauges;
use crate::observe::CacheStatusWriter;
use crate::policy::{CachePolicy, RequestAction};
use crate::runtime::clock::Clock;
use crate::semantics::etag::TagKind;
use crate::store::PurgeTarget;

/// The options of a layer.
pub(crate) struct Core {
    pub(crate) clock: Clock,
    pub(crate) collapser: Arc<Collapser>,
    pub(crate) unknown_outcomes: UnknownOutcomes,
    pub(crate) id: CoreId,
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) policy: Arc<dyn CachePolicy>,
    pub(crate) aliases: Arc<QueryAliases>,
    pub(crate) storing: bool,
    pub(crate) tagging: Option<Tagging>,
    pub(crate) unreliable: Unreliable,
    pub(crate) validations: BackgroundValidations,
    pub(crate) status_writer: CacheStatusWriter,
}

impl Clone for Core {
    /// The options; each layer has its own calls and counts.
    fn clone(&self) -> Self {
        let gauges = Arc::new(self.gauges.anew());
        Self {
            clock: self.clock.clone(),
            collapser: Arc::new(Collapser::new(Arc::clone(&gauges))),
            unknown_outcomes: UnknownOutcomes::default(),
            id: CoreId::default(),
            gauges,
            policy: Arc::clone(&self.policy),
            aliases: Arc::default(),
            storing: self.storing,
            tagging: self.tagging,
            unreliable: Unreliable::default(),
            validations: BackgroundValidations::default(),
            status_writer: CacheStatusWriter {
                key: self.status_writer.key,
                name: self.status_writer.name.clone(),
                x_cache: self.status_writer.x_cache,
            },
        }
    }
}

impl Core {
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

/// The key under which a policy stores the plain GET of a URI; that of the URI alone where the policy
/// bypasses such a request.
pub(crate) fn key_of(core: &Core, uri: Uri) -> Option<CacheKey> {
    let request = key::get(uri);
    match core.policy.request(&request) {
        RequestAction::Cache(key) => Some(key),
        RequestAction::Bypass(_) => CacheKey::of(&request).ok(),
    }
}

/// Identifies the calls and limits of one layer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct CoreId(u64);

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

/// The targets by which everything goes that answers for a URI: its own, and that of what answers for it because
/// the difference in the query does not matter.
pub(crate) fn targets_of(core: &Core, key: &CacheKey) -> Vec<PurgeTarget> {
    let same = core.aliases.lookup(key);
    let uris = key.uris().chain(same.as_ref().map(CacheKey::uri));
    uris.map(|uri| PurgeTarget::Uri(uri.into())).collect()
}
