//! A store outside of the crate, as plain as can be: a map, and a list of all purges there ever were, by which it judges what
//! it reads. It waits, keeps contents apart, takes streams, and by choice it has one flaw.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use larder::semantics::range::ByteRange;
use larder::semantics::reuse::Reuse;
use larder::semantics::vary::Selecting;
use larder::store::{
    BeginOutcome, ContentWriter, Expected, Expired, Fence, Lookup, PurgeMode, PurgeNumber, PurgeScope,
    PurgeTarget, PutOutcome, RemoteContent, Store, StoreLimits, StoreStatistics, Stored, StoredBody,
    StoredId, Variants,
};
use larder::{CacheKey, HeadParts, Payload, ResponseHead, StoreError, StoredResponse};
use tokio::time::Instant;

/// What a store of these does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flaw {
    AllSparesOtherHosts,
    BreaksOffWhenPurgedWithoutAnError,
    CountsNothing,
    CutsContent,
    DefaultFenceIsFromTheFuture,
    DropsAfterLifetime,
    DropsWhatIsNeverFresh,
    FenceOfGetIsFromTheFuture,
    FenceOfTryGetIsFromTheFuture,
    FindsWhatNobodyPut,
    ForgetsEnds,
    ForgetsPurgesButTheLast,
    FreshenIgnoresFence,
    FreshensAnything,
    FreshensWithOtherContent,
    FreshensWithoutSwap,
    GroupsAreInEveryOrigin,
    GroupsPurgeTheKey,
    HostsHaveASchemeEach,
    HostsSpareOthers,
    KeepsAllVariants,
    KeepsDroppedStreams,
    KeepsWhatIsReplaced,
    KeysAreUris,
    KeysSpareSlices,
    KnowsOneUri,
    LastPurgeCounts,
    LosesTrailers,
    ManyPurgesPurgeAll,
    MixesStreams,
    #[default]
    None,
    NoTargetsMeanAll,
    NumbersPurgesAlike,
    OldestComesFirst,
    OldReplacesNewAfterSoftPurge,
    OldReplacesNewer,
    OpensAnything,
    OpensRangesShort,
    PathPrefixesAreOfOneHost,
    PrefixesSpareFurtherParts,
    PurgesTheFirstTargetOnly,
    RefusesTheLimit,
    RefusesOwnFences,
    ReusesIdentities,
    SaysItTakesNoStreams,
    SeesNoPurges,
    ShowsStreamsBeforeTheirEnd,
    SoftPurgesLast,
    SoftPurgesRemove,
    SoftPurgesSpareWhatIsOnItsWay,
    StreamsForgetTheirFence,
    TagsAreOfOneOrigin,
    TagsHaveACase,
    TakesWhatIsTooLarge,
    UriSparesFurtherParts,
}

#[derive(Clone, Default)]
pub struct Naive {
    flaw: Flaw,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    contents: HashMap<u128, Bytes>,
    entries: HashMap<CacheKey, Vec<Stored>>,
    mixed: BytesMut,
    next: u64,
    purges: Vec<(PurgeTarget, PurgeMode)>,
    written: HashMap<StoredId, Instant>,
}

const MAX_OBJECT: u64 = 300_000;
const MAX_VARIANTS: usize = 8;
const FUTURE: u128 = u128::MAX;

enum Verdict {
    Expired(Expired),
    Gone,
    Untouched,
}

impl Naive {
    pub fn with(flaw: Flaw) -> Self {
        Self { flaw, ..Self::default() }
    }

    fn concerns(&self, target: &PurgeTarget, key: &CacheKey, groups: &[&str]) -> bool {
        let groups = groups.iter().copied();
        match (self.flaw, target) {
            (Flaw::HostsHaveASchemeEach, PurgeTarget::Host(host)) => {
                PurgeTarget::prefix(format!("https://{host}/")).names(key, groups)
            }
            (Flaw::TagsHaveACase, PurgeTarget::TagAnyCase(tag)) => {
                PurgeTarget::tag(tag.clone()).names(key, groups)
            }
            (Flaw::KeysSpareSlices, PurgeTarget::Key(purged)) => purged == key,
            (Flaw::UriSparesFurtherParts, PurgeTarget::Uri(_)) => {
                let is_plain = key.is_uri_only() || key.uris().count() > 1;
                is_plain && target.names(key, groups)
            }
            (Flaw::AllSparesOtherHosts, PurgeTarget::All) => {
                !key.uri().starts_with(b"https:") && target.names(key, groups)
            }
            (Flaw::GroupsAreInEveryOrigin, PurgeTarget::Group(group)) => {
                let name = group.split_once(' ').map_or("", |(_, name)| name);
                PurgeTarget::tag(name.to_owned()).names(key, groups)
            }
            (Flaw::HostsSpareOthers | Flaw::PathPrefixesAreOfOneHost, _) if self.spares(target, key) => false,
            (Flaw::KnowsOneUri, target) if !matches!(target, PurgeTarget::Key(_)) => {
                target.names(&plain(key), groups)
            }
            (Flaw::PrefixesSpareFurtherParts, PurgeTarget::Prefix(_)) => {
                key.is_uri_only() && target.names(key, groups)
            }
            (Flaw::TagsAreOfOneOrigin, PurgeTarget::Tag(tag)) => {
                PurgeTarget::group("http://example.com", tag).names(key, groups)
            }
            _ => target.names(key, groups),
        }
    }

    /// What a target leaves out that is right only of keys under example.com.
    fn spares(&self, target: &PurgeTarget, key: &CacheKey) -> bool {
        let is_of_flaw = match self.flaw {
            Flaw::HostsSpareOthers => matches!(target, PurgeTarget::Host(_)),
            _ => matches!(target, PurgeTarget::PathPrefix(_)),
        };
        is_of_flaw && key.uri().starts_with(b"https:")
    }

    fn judge(&self, state: &State, key: &CacheKey, head: &ResponseHead, fence: Fence) -> Verdict {
        const MANY: usize = 10_000;
        let groups: Vec<_> = head.groups().collect();
        let before = match self.flaw {
            Flaw::DefaultFenceIsFromTheFuture if fence == Fence::default() => usize::MAX,
            Flaw::ForgetsPurgesButTheLast => {
                usize::try_from(fence.bits()).unwrap_or(usize::MAX).max(state.purges.len().saturating_sub(1))
            }
            _ => usize::try_from(fence.bits()).unwrap_or(usize::MAX),
        };
        if self.flaw == Flaw::ManyPurgesPurgeAll && state.purges.len() > MANY {
            return Verdict::Gone;
        }
        let since = state.purges.iter().enumerate().filter(|(number, (_, mode))| {
            let lasts = self.flaw == Flaw::SoftPurgesLast && !matches!(mode, PurgeMode::Remove);
            lasts || *number >= before
        });
        let since = since.map(|(_, purge)| purge);
        let mut verdict = Verdict::Untouched;
        for (_, mode) in since.filter(|(target, _)| self.concerns(target, key, &groups)) {
            let expired = match *mode {
                _ if self.flaw == Flaw::SoftPurgesRemove => return Verdict::Gone,
                PurgeMode::Expire(at) => Expired::new(at, None),
                PurgeMode::ExpireUntil { at, .. } if self.flaw == Flaw::ForgetsEnds => Expired::new(at, None),
                PurgeMode::ExpireUntil { at, until } => Expired::new(at, Some(until)),
                _ if self.flaw == Flaw::LastPurgeCounts => {
                    verdict = Verdict::Gone;
                    continue;
                }
                _ => return Verdict::Gone,
            };
            verdict = Verdict::Expired(match verdict {
                Verdict::Expired(earlier) => earlier.and(expired),
                _ => expired,
            });
        }
        verdict
    }

    fn look_up(&self, state: &State, key: &CacheKey) -> Lookup {
        let key = if self.flaw == Flaw::KeysAreUris { &plain(key) } else { key };
        let stored = state.entries.get(key).into_iter().flatten().filter(|stored| {
            let lifetime = stored.response.head().reuse().lifetime;
            match self.flaw {
                Flaw::DropsAfterLifetime => {
                    lifetime.is_zero() || state.written[&stored.id].elapsed() < lifetime
                }
                Flaw::DropsWhatIsNeverFresh => !lifetime.is_zero(),
                _ => true,
            }
        });
        let found = stored.filter_map(|stored| {
            let mut stored = stored.clone();
            match self.judge(state, key, stored.response.head(), stored.fence) {
                Verdict::Expired(expired) => stored.expired = Some(expired),
                Verdict::Gone => return None,
                Verdict::Untouched => {}
            }
            Some(stored)
        });
        let mut found: Vec<_> = found.collect();
        let held = state.entries.get(key).map_or(0, Vec::len);
        match self.flaw {
            Flaw::FindsWhatNobodyPut if held == 0 => found.push(made_up()),
            Flaw::GroupsPurgeTheKey if found.len() < held => found.clear(),
            Flaw::OldestComesFirst => found.reverse(),
            _ => {}
        }
        Lookup::new(Fence::from_bits(state.purges.len() as u128), Variants::new(found))
    }

    /// Stores a head over content, in place of what `replaces` says.
    fn write(
        &self,
        state: &mut State,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
        replaces: impl Fn(&Stored) -> bool,
    ) -> PutOutcome {
        let key = if self.flaw == Flaw::KeysAreUris { &plain(key) } else { key };
        let verdict = self.judge(state, key, response.head(), fence);
        let present = self.look_up(state, key).variants;
        let is_older = |stored: &Stored| {
            let is_older = stored.expired.is_none()
                && self.flaw != Flaw::OldReplacesNewer
                && response.is_older_than(&stored.response);
            let is_overtaken = matches!(verdict, Verdict::Expired(_))
                && self.flaw != Flaw::OldReplacesNewAfterSoftPurge
                && stored.fence.bits() > fence.bits();
            is_older || is_overtaken
        };
        if matches!(verdict, Verdict::Gone)
            || present.iter().any(|stored| replaces(stored) && is_older(stored))
        {
            return PutOutcome::Superseded;
        }
        state.next += 1;
        let fence = match (self.flaw, &verdict) {
            (Flaw::SoftPurgesSpareWhatIsOnItsWay, Verdict::Expired(_)) => {
                Fence::from_bits(state.purges.len() as u128)
            }
            _ => fence,
        };
        let id = if self.flaw == Flaw::ReusesIdentities { key.as_bytes().len() as u64 } else { state.next };
        let new = Stored::new(StoredId::from_bits(id), fence, response);
        state.written.insert(new.id, Instant::now());
        let most = if self.flaw == Flaw::KeepsAllVariants { usize::MAX } else { MAX_VARIANTS };
        let keeps = |stored: &&Stored| self.flaw == Flaw::KeepsWhatIsReplaced || !replaces(stored);
        let others = present.iter().filter(keeps).cloned();
        let list = std::iter::once(new).chain(others).take(most).collect();
        state.entries.insert(key.clone(), list);
        PutOutcome::Stored
    }

    fn put_now(&self, key: &CacheKey, response: &StoredResponse, fence: Fence) -> PutOutcome {
        let mut state = self.state.lock().unwrap();
        let payload = response.payload();
        let is_too_large = match self.flaw {
            Flaw::RefusesTheLimit => payload.len() >= MAX_OBJECT,
            Flaw::TakesWhatIsTooLarge => false,
            _ => payload.len() > MAX_OBJECT,
        };
        if is_too_large {
            return PutOutcome::TooLarge;
        }
        state.next += 1;
        let mut content = payload.to_bytes().expect("content comes in memory");
        if self.flaw == Flaw::CutsContent {
            content.truncate(65_536);
        }
        let remote = RemoteContent::new(state.next.into(), content.len() as u64);
        state.contents.insert(remote.id, content);
        let trailers = payload.trailers().filter(|_| self.flaw != Flaw::LosesTrailers);
        let payload = Payload::remote(remote).with_trailers(trailers.cloned());
        let selecting = response.head().reuse().selecting.clone();
        let replaces = |stored: &Stored| stored.response.head().reuse().selecting == selecting;
        self.write(&mut state, key, StoredResponse::new(response.head().clone(), payload), fence, replaces)
    }
}

impl Store for Naive {
    fn try_get(&self, key: &CacheKey) -> Option<Lookup> {
        // A look at all where it would be from the future, so that the flaw has an effect.
        (self.flaw == Flaw::FenceOfTryGetIsFromTheFuture).then(|| {
            let state = self.state.lock().unwrap();
            Lookup::new(Fence::from_bits(FUTURE), self.look_up(&state, key).variants)
        })
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        tokio::task::yield_now().await;
        let mut lookup = self.look_up(&self.state.lock().unwrap(), key);
        if self.flaw == Flaw::FenceOfGetIsFromTheFuture {
            lookup.fence = Fence::from_bits(FUTURE);
        }
        tokio::task::yield_now().await;
        Ok(lookup)
    }

    async fn open(
        &self,
        _: &CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        tokio::task::yield_now().await;
        let state = self.state.lock().unwrap();
        let Some(content) = state.contents.get(&content.id) else {
            return Ok((self.flaw == Flaw::OpensAnything).then(|| Bytes::from_static(b"anything").into()));
        };
        let content = range.map_or(content.clone(), |range| {
            let end = if self.flaw == Flaw::OpensRangesShort { range.last } else { range.last + 1 };
            content.slice(usize::try_from(range.first).unwrap()..usize::try_from(end).unwrap())
        });
        if self.flaw == Flaw::BreaksOffWhenPurgedWithoutAnError {
            let (state, purges) = (Arc::clone(&self.state), state.purges.len());
            let late = futures_util::stream::once(async move {
                let is_purged = state.lock().unwrap().purges.len() > purges;
                let content = if is_purged { content.slice(..content.len() / 2) } else { content };
                Ok::<_, StoreError>(http_body::Frame::data(content))
            });
            return Ok(Some(StoredBody::new(http_body_util::StreamBody::new(Box::pin(late)))));
        }
        Ok(Some(content.into()))
    }

    fn expect(&self, _: &CacheKey) -> Expected {
        Expected::default() // no purge is ever forgotten
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        tokio::task::yield_now().await;
        Ok(self.put_now(key, &response, fence))
    }

    async fn begin(&self, key: &CacheKey, _: Option<u64>, fence: Fence) -> Result<BeginOutcome, StoreError> {
        let (content, key, store) = (BytesMut::new(), key.clone(), self.clone());
        Ok(BeginOutcome::Writer(Box::new(Writer { content, fence, key, seen: None, store })))
    }

    async fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        let seen = self.look_up(&self.state.lock().unwrap(), key).variants;
        tokio::task::yield_now().await;
        let mut state = self.state.lock().unwrap();
        let present = self.look_up(&state, key).variants;
        let present = if self.flaw == Flaw::FreshensWithoutSwap { seen } else { present };
        let found = present.iter().find(|stored| stored.id == of);
        let found = found.or(present.first().filter(|_| self.flaw == Flaw::FreshensAnything));
        let Some(Stored { fence: own, id, response, .. }) = found else {
            return Ok(PutOutcome::Superseded);
        };
        if self.flaw == Flaw::RefusesOwnFences && fence == *own {
            return Ok(PutOutcome::Superseded);
        }
        let fence = if self.flaw == Flaw::FreshenIgnoresFence { Fence::from_bits(FUTURE) } else { fence };
        let response = StoredResponse::new(head, response.payload().clone());
        if self.flaw == Flaw::FreshensWithOtherContent
            && let Some(remote) = response.payload().as_remote()
        {
            state.contents.remove(&remote.id);
        }
        let selecting = response.head().reuse().selecting.clone();
        let replaces = |stored: &Stored| match self.flaw {
            Flaw::FreshensWithoutSwap => stored.response.head().reuse().selecting == selecting,
            _ => stored.id == *id,
        };
        Ok(self.write(&mut state, key, response, fence, replaces))
    }

    async fn purged_since(
        &self,
        key: &CacheKey,
        since: Fence,
        scope: PurgeScope,
    ) -> Result<bool, StoreError> {
        tokio::task::yield_now().await;
        let state = self.state.lock().unwrap();
        let mut since = state.purges.iter().skip(usize::try_from(since.bits()).unwrap_or(usize::MAX));
        let is_group = |target: &PurgeTarget| {
            matches!(target, PurgeTarget::Group(_) | PurgeTarget::Tag(_) | PurgeTarget::TagAnyCase(_))
        };
        Ok(self.flaw != Flaw::SeesNoPurges
            && since.any(|(target, _)| match scope {
                PurgeScope::KeyOrAnyGroup if is_group(target) => true,
                // What is stored under this may be answered by another query of its path.
                _ => match target {
                    PurgeTarget::Uri(uri) => base(uri) == base(key.uri()),
                    PurgeTarget::Key(purged) => base(purged.uri()) == base(key.uri()),
                    target => self.concerns(target, key, &[]),
                },
            }))
    }

    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<PurgeNumber, StoreError> {
        tokio::task::yield_now().await;
        let is_none = targets.is_empty();
        let all = [PurgeTarget::All];
        let targets = if is_none && self.flaw == Flaw::NoTargetsMeanAll { &all } else { targets };
        let most = if self.flaw == Flaw::PurgesTheFirstTargetOnly { 1 } else { targets.len() };
        let targets = targets.iter().take(most).map(|target| (target.clone(), mode));
        let number = {
            let purges = &mut self.state.lock().unwrap().purges;
            purges.extend(targets);
            purges.len() as u64
        };
        tokio::task::yield_now().await;
        Ok(match self.flaw {
            _ if is_none => PurgeNumber::default(),
            Flaw::NumbersPurgesAlike => PurgeNumber::new(1),
            _ => PurgeNumber::new(number),
        })
    }

    fn limits(&self) -> StoreLimits {
        let limits = StoreLimits::new().max_object(MAX_OBJECT).max_variants(MAX_VARIANTS);
        limits.takes_streams(self.flaw != Flaw::SaysItTakesNoStreams).waits(true)
    }

    fn statistics(&self) -> StoreStatistics {
        if self.flaw == Flaw::CountsNothing {
            return StoreStatistics::default();
        }
        let state = self.state.lock().unwrap();
        let bytes = state.contents.values().map(|content| content.len() as u64).sum();
        StoreStatistics::new(bytes, state.entries.len() as u64, 0)
    }
}

/// A key that has no more than one URI.
fn plain(key: &CacheKey) -> CacheKey {
    CacheKey::from_uri(&key.uri().try_into().unwrap()).unwrap()
}

/// A response that nobody has put.
fn made_up() -> Stored {
    let reuse = Reuse::new(UNIX_EPOCH, UNIX_EPOCH, Duration::ZERO, Selecting::default());
    let parts = HeadParts::new(StatusCode::OK, HeaderMap::new(), reuse);
    let head = ResponseHead::from_parts(parts).unwrap();
    Stored::new(StoredId::from_bits(0), Fence::default(), StoredResponse::new(head, Payload::default()))
}

/// A URI without its query.
fn base(uri: &[u8]) -> &[u8] {
    uri.split(|&byte| byte == b'?').next().unwrap_or_default()
}

struct Writer {
    content: BytesMut,
    fence: Fence,
    key: CacheKey,
    /// A head from another stream, by which what is not whole yet is shown.
    seen: Option<ResponseHead>,
    store: Naive,
}

type Written<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

impl ContentWriter for Writer {
    fn write(&mut self, data: Bytes) -> Written<'_, ControlFlow<PutOutcome>> {
        self.content.extend_from_slice(&data);
        if self.store.flaw == Flaw::MixesStreams {
            let mixed = &mut self.store.state.lock().unwrap().mixed;
            mixed.extend_from_slice(&data);
            self.content.clone_from(mixed);
        }
        if self.store.flaw == Flaw::ShowsStreamsBeforeTheirEnd {
            let state = self.store.state.lock().unwrap();
            let known = state.entries.get(&self.key).and_then(|stored| stored.first());
            self.seen = known.map(|stored| stored.response.head().clone());
            drop(state);
            if let Some(head) = &self.seen {
                let content = Payload::from_bytes(self.content.clone().freeze());
                self.store.put_now(&self.key, &StoredResponse::new(head.clone(), content), self.fence);
            }
        }
        Box::pin(std::future::ready(Ok(ControlFlow::Continue(()))))
    }

    fn commit(
        mut self: Box<Self>,
        head: ResponseHead,
        trailers: Option<HeaderMap>,
    ) -> Written<'static, PutOutcome> {
        let payload = Payload::from_bytes(std::mem::take(&mut self.content).freeze()).with_trailers(trailers);
        let mut fence = self.fence;
        if self.store.flaw == Flaw::StreamsForgetTheirFence {
            fence = Fence::from_bits(self.store.state.lock().unwrap().purges.len() as u128);
        }
        if self.store.flaw == Flaw::MixesStreams {
            self.store.state.lock().unwrap().mixed.clear();
        }
        Box::pin(async move {
            tokio::task::yield_now().await;
            Ok(self.store.put_now(&self.key, &StoredResponse::new(head, payload), fence))
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.store.flaw == Flaw::KeepsDroppedStreams && !self.content.is_empty() {
            let state = self.store.state.lock().unwrap();
            let known = state.entries.get(&self.key).and_then(|stored| stored.first());
            let head = known.map(|stored| stored.response.head().clone());
            drop(state);
            if let Some(head) = head {
                let content = Payload::from_bytes(self.content.clone().freeze());
                self.store.put_now(&self.key, &StoredResponse::new(head, content), self.fence);
            }
        }
    }
}
