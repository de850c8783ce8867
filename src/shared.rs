//! What all services and handles of a layer share: its configuration, its state and its store.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Uri};
use smallvec::SmallVec;

use crate::body::pump::Unwritten;
use crate::body::stored::Watched;
use crate::collapse::Collapser;
use crate::collapse::background::BackgroundValidations;
use crate::collapse::broken_contents::BrokenContents;
use crate::collapse::key_memory::KeyMemory;
use crate::collapse::purge_state::PurgeCount;
use crate::collapse::slices::SliceMemory;
use crate::collapse::unknown_outcomes::UnknownOutcomes;
use crate::entry::aliases::QueryAliases;
use crate::entry::key::{self, CacheKey};
use crate::entry::{Payload, ResponseHead, StoredResponse};
use crate::error::StoreError;
use crate::limits::calls::{CallLimits, CallPermits};
use crate::limits::held::{BodyLimits, Held};
use crate::limits::{FillLimits, Gauges};
use crate::observe::{Event, InvalidatedBy, Reporter};
use crate::policy::{CachePolicy, CurrentPolicy, PolicyData, RequestAction, StandardPolicy, TrustedPeer};
use crate::runtime::clock::Clock;
use crate::runtime::moment;
use crate::semantics::etag::TagKind;
use crate::semantics::range::ByteRange;
use crate::store::target::distinct;
use crate::store::{
    BeginOutcome, ContentWriter, Fence, GuardLimits, Guarded, LeaseAnswer, LeaseName, LeaseState, Leases,
    Lookup, PurgeMode, PurgeNumber, PurgeReceipt, PurgeScope, PurgeTarget, PutOutcome, RemoteContent, Store,
    StoreLimits, StoredBody, StoredId,
};

/// The cache that all services of a layer share.
pub(crate) struct Shared<S> {
    pub(crate) core: Core,
    pub(crate) store: Guarded<S>,
}

/// The store as the flow uses it: its failures are reported here, and what they mean is the caller's to say.
impl<S: Store> Shared<S> {
    /// What is stored under a key, without what is gone by now; `None` where the store fails.
    pub(crate) async fn get(&self, key: &CacheKey) -> Option<Lookup> {
        let found = self.reported(self.store.get(key).await)?;
        Some(found.living(self.core.clock.now()))
    }

    /// Opens remote content; `None` where it is gone, or the store fails. Content that does not come to its end is a failure,
    /// too, and reported when it breaks off; it is gone from then on, unless the store could not be reached.
    pub(crate) async fn open(
        &self,
        key: &CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> Option<StoredBody> {
        let (broken, clock) = (Arc::clone(&self.core.broken), self.core.clock.clone());
        let name = broken.name(key, content);
        if broken.has(name, || clock.now()) {
            return None;
        }
        let body = self.reported(self.store.open(key, content, range).await)??;
        let observer = self.core.reporter.observer.clone();
        let length = range.map_or(content.length, |range| range.len());
        let watched = Watched::new(body, length, move |error| {
            error.as_store_error(|error| {
                if error.is_of_content() {
                    broken.remember(name, clock.now());
                }
                if let Some(observer) = observer {
                    observer.event(&Event::StoreFailed { error });
                }
            });
        });
        Some(StoredBody::new(watched))
    }

    /// Stores a response. A failure reads like [`PutOutcome::Superseded`].
    pub(crate) async fn put(&self, key: &CacheKey, response: StoredResponse, fence: Fence) -> PutOutcome {
        let bytes = response.payload().len();
        match self.reported(self.store.put(key, response, fence).await) {
            Some(outcome) => {
                self.core.reporter.event(&Event::Put { bytes, key, outcome });
                outcome
            }
            None => PutOutcome::Superseded,
        }
    }

    /// Begins to store a response whose content is on its way, `length` bytes where that is known.
    pub(crate) async fn begin(
        self: Arc<Self>,
        key: CacheKey,
        length: Option<u64>,
        fence: Fence,
    ) -> Result<StreamWriter<S>, Unwritten> {
        match self.reported(self.store.begin(&key, length, fence).await) {
            None => Err(Unwritten::Failed),
            Some(BeginOutcome::PutWhole) => Err(Unwritten::Whole),
            Some(BeginOutcome::Refused(outcome)) => {
                let bytes = length.unwrap_or_default();
                self.core.reporter.event(&Event::Put { bytes, key: &key, outcome });
                Err(unwritten(outcome))
            }
            Some(BeginOutcome::Writer(writer)) => Ok(StreamWriter { bytes: 0, key, shared: self, writer }),
        }
    }

    /// Gives a stored response a new head. A failure reads like [`PutOutcome::Superseded`].
    pub(crate) async fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> PutOutcome {
        match self.reported(self.store.freshen(key, of, head, fence).await) {
            Some(outcome) => {
                self.core.reporter.event(&Event::Freshened { key, outcome });
                outcome
            }
            None => PutOutcome::Superseded,
        }
    }

    /// Whether no purge since the fence can concern what is stored under the key, as far as the store can say.
    pub(crate) async fn is_untouched(&self, key: &CacheKey, since: Fence, scope: PurgeScope) -> bool {
        self.reported(self.store.purged_since(key, since, scope).await) == Some(false)
    }

    /// Makes everything go, or go stale, that is stored for what the targets name, however the policy spells it in keys. Where
    /// they name nothing, the store is not asked.
    pub(crate) async fn invalidate(
        &self,
        targets: &[PurgeTarget],
        mode: PurgeMode,
        by: InvalidatedBy,
    ) -> Result<PurgeReceipt, StoreError> {
        if targets.is_empty() {
            return Ok(PurgeReceipt { mode, number: PurgeNumber::default(), targets: Vec::new() });
        }
        let targets = self.core.with_spellings(targets);
        let begun = moment();
        let invalidated = self.store.invalidate(&targets, mode).await;
        match &invalidated {
            Ok(_) => self.core.purges.add(),
            Err(error) => self.core.reporter.event(&Event::StoreFailed { error }),
        }
        let elapsed = moment().duration_since(begun);
        let (number, succeeded) =
            (*invalidated.as_ref().unwrap_or(&PurgeNumber::default()), invalidated.is_ok());
        self.core.reporter.event(&Event::Invalidated {
            by,
            elapsed,
            mode,
            number,
            succeeded,
            targets: &targets,
        });
        invalidated.map(|number| PurgeReceipt { mode, number, targets })
    }

    /// Asks which node makes a call; `None` where nobody knows.
    pub(crate) async fn lease(&self, leases: &dyn Leases, name: LeaseName<'_>) -> Option<LeaseAnswer> {
        self.reported(leases.ask(name).await)
    }

    /// What a lease is at the moment; `None` where nobody knows.
    pub(crate) async fn look_at_lease(&self, leases: &dyn Leases, name: LeaseName<'_>) -> Option<LeaseState> {
        self.reported(leases.look(name).await)
    }

    fn reported<T>(&self, result: Result<T, StoreError>) -> Option<T> {
        result.inspect_err(|error| self.core.reporter.event(&Event::StoreFailed { error })).ok()
    }
}

/// Stores a response whose content is on its way. Dropped before it is committed, nothing is stored.
pub(crate) struct StreamWriter<S> {
    bytes: u64,
    key: CacheKey,
    shared: Arc<Shared<S>>,
    writer: Box<dyn ContentWriter>,
}

impl<S: Store> StreamWriter<S> {
    /// How much was written.
    pub(crate) fn written(&self) -> u64 {
        self.bytes
    }

    /// Writes the next piece.
    ///
    /// # Errors
    ///
    /// Where nothing more is to be written.
    pub(crate) async fn write(&mut self, piece: Bytes) -> Result<(), Unwritten> {
        let Self { bytes, key, shared, writer } = self;
        *bytes += piece.len() as u64;
        match shared.reported(writer.write(piece).await) {
            None => Err(Unwritten::Failed),
            Some(ControlFlow::Continue(())) => Ok(()),
            Some(ControlFlow::Break(outcome)) => {
                shared.core.reporter.event(&Event::Put { bytes: *bytes, key, outcome });
                Err(unwritten(outcome))
            }
        }
    }

    /// Stores the response. A failure reads like [`PutOutcome::Superseded`].
    pub(crate) async fn commit(self, head: ResponseHead, trailers: Option<HeaderMap>) -> PutOutcome {
        let Self { bytes, key, shared, writer } = self;
        let committed = shared.reported(writer.commit(head, trailers).await);
        if let Some(outcome) = committed {
            shared.core.reporter.event(&Event::Put { bytes, key: &key, outcome });
        }
        committed.unwrap_or(PutOutcome::Superseded)
    }
}

/// What it means where a store refuses content before it has all of it.
fn unwritten(outcome: PutOutcome) -> Unwritten {
    match outcome {
        PutOutcome::Stored | PutOutcome::Superseded => Unwritten::Superseded,
        PutOutcome::TooLarge => Unwritten::TooLarge,
    }
}

/// What a layer is built from. It is plain data: state comes with [`Core`].
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) body_limits: BodyLimits,
    /// Whether `Cache-Status` is sent, where anybody has said.
    pub(crate) cache_status: Option<bool>,
    pub(crate) call_limits: CallLimits,
    pub(crate) clock: Clock,
    pub(crate) enabled: bool,
    pub(crate) fill_limits: FillLimits,
    pub(crate) guard_limits: GuardLimits,
    pub(crate) leases: Option<Arc<dyn Leases>>,
    pub(crate) policy: Arc<Box<dyn CachePolicy>>,
    pub(crate) reporter: Reporter,
    pub(crate) storing: bool,
    pub(crate) tagging: Option<Tagging>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            body_limits: BodyLimits::default(),
            cache_status: None,
            call_limits: CallLimits::default(),
            clock: Clock::default(),
            enabled: true,
            fill_limits: FillLimits::default(),
            guard_limits: GuardLimits::default(),
            leases: None,
            policy: Arc::new(Box::new(StandardPolicy::default())),
            reporter: Reporter::default(),
            storing: true,
            tagging: Some(Tagging::weak()),
        }
    }
}

/// The configuration of a layer and its state, except for the store.
pub(crate) struct Core {
    pub(crate) aliases: QueryAliases,
    pub(crate) background: BackgroundValidations,
    broken: Arc<BrokenContents>,
    pub(crate) clock: Clock,
    pub(crate) collapser: Arc<Collapser>,
    pub(crate) enabled: bool,
    pub(crate) gauges: Arc<Gauges>,
    id: CoreId,
    /// Decides which node makes a call, where nodes ask each other.
    pub(crate) leases: Option<Arc<dyn Leases>>,
    /// The most content of one response that is taken into memory.
    pub(crate) most_in_memory: u64,
    pub(crate) policy: CurrentPolicy,
    pub(crate) purges: PurgeCount,
    pub(crate) reporter: Reporter,
    /// Keys for which the inner service has failed while a stored response stood in.
    pub(crate) resting: KeyMemory,
    /// Made when the first slice is asked for.
    pub(crate) slices: LazyLock<SliceMemory>,
    pub(crate) storing: bool,
    pub(crate) tagging: Option<Tagging>,
    pub(crate) unknown_outcomes: UnknownOutcomes,
    pub(crate) unreliable: Unreliable,
}

impl Core {
    /// `limits` are those of the store.
    pub(crate) fn new(config: Config, limits: &StoreLimits) -> Self {
        let StoreLimits { capacity, max_object, takes_streams, .. } = *limits;
        let Config {
            body_limits,
            cache_status,
            call_limits,
            clock,
            enabled,
            fill_limits,
            leases,
            policy,
            mut reporter,
            storing,
            tagging,
            ..
        } = config;
        let (held, calls) = (Held::new(&body_limits, capacity), CallPermits::new(call_limits));
        let gauges = Arc::new(Gauges::new(fill_limits, held, calls, capacity));
        reporter.cache_status = cache_status.unwrap_or(storing);
        reporter.clock = clock.clone();
        reporter.settle();
        let most_in_memory = if takes_streams { max_object.min(gauges.kept()) } else { max_object };
        Self {
            aliases: QueryAliases::default(),
            background: BackgroundValidations::default(),
            broken: Arc::default(),
            clock,
            collapser: Arc::new(Collapser::new(Arc::clone(&gauges))),
            enabled,
            gauges,
            id: CoreId::default(),
            leases,
            most_in_memory,
            policy: CurrentPolicy::new(policy),
            purges: PurgeCount::default(),
            reporter,
            resting: KeyMemory::new(LONGEST_REST),
            slices: LazyLock::new(SliceMemory::default),
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

    /// Whether all of some content can be taken into memory.
    pub(crate) fn can_load(&self, payload: &Payload) -> bool {
        !payload.is_remote() || payload.len() <= self.most_in_memory
    }

    /// Content up to this length is taken in before it is answered, where it is there.
    pub(crate) fn small(&self) -> u64 {
        self.tagging.map_or(SMALL, |tagging| tagging.small)
    }

    /// The key under which the policy stores the plain GET of a URI; that of the URI alone where the policy bypasses such
    /// a request.
    pub(crate) fn key_of(&self, uri: Uri) -> Option<CacheKey> {
        self.key_of_plain(key::get(uri))
    }

    /// The key under which the policy stores what another cache of the same owner gets for a GET of a URI; `None` where that is
    /// what clients get.
    pub(crate) fn key_for_peers(&self, uri: Uri) -> Option<CacheKey> {
        let of_clients = self.key_of(uri.clone());
        let mut request = key::get(uri);
        request.extensions.insert(TrustedPeer::new());
        self.key_of_plain(request).filter(|key| of_clients.as_ref() != Some(key))
    }

    fn key_of_plain(&self, mut request: Parts) -> Option<CacheKey> {
        match self.policy.for_purges().request(&mut request, &mut PolicyData::default()) {
            RequestAction::Cache(key) => Some(key),
            RequestAction::Bypass(_) => CacheKey::of(&request).ok(),
        }
    }

    /// The targets, and those under which the policy stores what they name, each of them once.
    fn with_spellings(&self, targets: &[PurgeTarget]) -> Vec<PurgeTarget> {
        let policy = self.policy.for_purges();
        let mut all = targets.to_vec();
        for spelling in targets.iter().flat_map(|target| policy.spellings(target)) {
            if let PurgeTarget::Uri(uri) = &spelling {
                all.extend(self.aliases.lookup_uri(uri).map(PurgeTarget::Uri));
            }
            all.push(spelling);
        }
        distinct(all)
    }

    /// Other keys under which the policy says that what has this key is stored.
    pub(crate) fn spellings_of(&self, key: &CacheKey) -> Vec<CacheKey> {
        let policy = self.policy.for_purges();
        let named = [PurgeTarget::Key(key.clone()), PurgeTarget::Uri(key.uri().into())];
        let spelled = named.iter().flat_map(|target| policy.spellings(target));
        let keys = spelled.filter_map(|target| match target {
            PurgeTarget::Key(key) => Some(key),
            PurgeTarget::Uri(uri) => CacheKey::from_uri(&Uri::try_from(&*uri).ok()?).ok(),
            _ => None,
        });
        keys.collect()
    }

    /// The keys under which a GET of a URI may be stored: as the policy spells it for a GET with nothing but `Host`, and as
    /// it is. What decides about a request by more than its URI, such as a row for a route, may spell it in either way.
    pub(crate) fn keys_of(&self, uri: Uri) -> impl Iterator<Item = CacheKey> {
        let plain = CacheKey::from_uri(&uri).ok();
        let spelled = self.key_of(uri);
        let is_other = |plain: &CacheKey| spelled.as_ref().is_none_or(|spelled| spelled.uri() != plain.uri());
        let plain = plain.filter(is_other);
        spelled.into_iter().chain(plain)
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
    /// Weak tags: `W/"length-hash"` with 64-bit FNV-1a in twelve lanes. Fast; not proof against forged content, which is
    /// why they are weak and never stand for byte ranges. The format is at
    /// [`TagKind::Fnv1a`].
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
    /// ([`CacheBuilder::tag_only`](crate::CacheBuilder::tag_only)).
    #[must_use]
    pub fn small(mut self, bytes: u64) -> Self {
        self.small = bytes;
        self
    }
}

/// The default of [`Tagging::small`].
const SMALL: u64 = 64 * 1024;

/// How long a policy can have the inner service left alone after a failure.
const LONGEST_REST: Duration = Duration::from_secs(86_400);

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
