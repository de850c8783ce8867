//! What all services and handles of a layer share beside the store.

use std::sync::Arc;

use http::Uri;
use quick_cache::sync::Cache;

use crate::clock::Clock;
use crate::collapse::Collapser;
use crate::key::{self, CacheKey};
use crate::load::Load;
use crate::observe::Voice;
use crate::policy::{CachePolicy, Use};
use crate::revalidate::Validations;
use crate::search::Searches;
use crate::semantics::etag::TagKind;
use crate::store::Target;

/// The options of a layer.
pub(crate) struct Core {
    pub(crate) clock: Clock,
    pub(crate) collapser: Arc<Collapser>,
    pub(crate) load: Arc<Load>,
    /// Keys whose parts could not be completed: what came did not fit.
    pub(crate) misfits: Arc<Cache<CacheKey, ()>>,
    pub(crate) policy: Arc<dyn CachePolicy>,
    pub(crate) searches: Arc<Searches>,
    pub(crate) storing: bool,
    pub(crate) tagging: Option<Tagging>,
    pub(crate) validations: Validations,
    pub(crate) voice: Voice,
}

impl Clone for Core {
    /// The options; each layer has its own calls and counts.
    fn clone(&self) -> Self {
        let load = Arc::new(Load::new(self.load.limits.clone()));
        Self {
            clock: self.clock.clone(),
            collapser: Arc::new(Collapser::new(Arc::clone(&load))),
            load,
            misfits: misfits(),
            policy: Arc::clone(&self.policy),
            searches: Arc::default(),
            storing: self.storing,
            tagging: self.tagging,
            validations: Validations::default(),
            voice: Voice { key: self.voice.key, name: self.voice.name.clone(), x_cache: self.voice.x_cache },
        }
    }
}

impl Core {
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
        Use::Cache(key) => Some(key),
        Use::Bypass(_) => CacheKey::of(&request).ok(),
    }
}

pub(crate) fn misfits() -> Arc<Cache<CacheKey, ()>> {
    Arc::new(Cache::new(1024))
}

/// The targets by which everything goes that answers for a URI: its own, and that of what answers for it because
/// the difference in the query does not matter.
pub(crate) fn targets_of(core: &Core, key: &CacheKey) -> impl Iterator<Item = Target> {
    let same = core.searches.same(key);
    std::iter::once(Target::Uri(key.uri().into())).chain(same.map(|key| Target::Uri(key.uri().into())))
}
