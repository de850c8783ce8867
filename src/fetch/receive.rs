//! From the inner service's response to the client's, and to the store.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap};
use http::{Method, Response, StatusCode, response};
use http_body::Body;

use crate::body::CacheBody;
use crate::body::length::LengthChecked;
use crate::body::prefetch::{self, Content, Prefetch, Prefetched, WaitFor};
use crate::body::pump::{Pump, Sink};
use crate::collapse::background::ValidationPermit;
use crate::collapse::{CallResult, LazyHead, Leader};
use crate::entry::key::CacheKey;
use crate::entry::pieces::{PIECE, Pieces};
use crate::entry::{Payload, StoredResponse};
use crate::error::BoxError;
use crate::fetch::assess::{Assessment, FetchContext, Tag, assess, word_of_origin};
use crate::fetch::write;
use crate::limits::Gauges;
use crate::observe::Place;
use crate::respond::request::CacheRequest;
use crate::runtime::Runtime;
use crate::semantics::answer::{received_not_modified_fields, restore_unstored};
use crate::semantics::cache_status::{Detail, Forwarding, Outcome};
use crate::semantics::collapse::{self, NotShareable};
use crate::semantics::etag::TagKind;
use crate::semantics::framing::{self, declared_length};
use crate::semantics::incumbent::may_stand_in_for;
use crate::semantics::is_retrieval;
use crate::semantics::parts::Part;
use crate::semantics::preconditions::{self, Outcome as Precondition};
use crate::semantics::storing::{Effect, NotStored};
use crate::semantics::tagging::is_taggable;
use crate::shared::Core;
use crate::store::{Expected, Fence, PutOutcome, Store, Stored};

/// Answers the client with what the inner service answered, and stores it where that is allowed.
pub(crate) async fn receive<B, S>(
    core: Arc<Core>,
    store: Arc<S>,
    mut ask: Box<FetchContext>,
    response: Response<B>,
) -> Response<CacheBody<B>>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    S: Store,
{
    let received_at = core.clock.now();
    let (mut parts, body) = response.into_parts();
    let length = declared_length(&ask.sent_method, parts.status, &parts.headers);
    let length = length.or_else(|| body.size_hint().exact());
    ask.part = part_of(&core, &ask, &parts, length);
    let mut assessment = Box::new(assess(&core, &ask, &parts, store.max_object(), received_at));
    assessment.strip(&mut parts.headers);
    let terms = &mut assessment.terms;
    if terms.store.is_ok() && length.is_some_and(|length| length > terms.max_body) {
        terms.store = Err(NotStored::TooLarge);
    }
    let is_wanted = ask.query.request.method != Method::HEAD
        || ask.leader.as_ref().is_some_and(|leader| leader.call().has_followers());
    // To store it may evict content that is being read.
    let is_large = length.is_none_or(|length| length > PIECE as u64);
    let is_full = terms.store.is_ok() && is_large && core.gauges.held.is_full();
    let is_capped = length.is_none() && (!is_wanted || is_full) && terms.max_body > PIECE as u64;
    if is_capped {
        // It may turn out to be too large for the store, and no client waits for it, or there is no room for more.
        terms.max_body = PIECE as u64;
    }
    let is_small = length.is_some_and(|length| length <= core.small());
    let has_room = core.gauges.has_room(length.unwrap_or(PIECE as u64)) && !(is_full && length.is_some());
    if terms.store.is_ok() && !is_small && !has_room {
        terms.store = Err(NotStored::NoRoom);
    }
    let (lifetime, terms) = (assessment.terms.lifetime, assessment.terms.store);
    let mut is_for_all = false;
    if let Err(reason) = terms {
        heed_unstored(&core, &store, &mut ask, &parts, reason, received_at).await;
        is_for_all = answers_all(&core, &ask, &parts, reason);
        if !is_for_all && let Some(leader) = ask.leader.take() {
            leader.not_shareable(NotShareable::of(reason, parts.status, lifetime), received_at);
        }
    }
    let tag = tag_kind(&core, &ask, &parts, &assessment);
    let reason = assessment.terms.store.err();
    if !may_stand_in_for(parts.status, assessment.terms.store) {
        ask.stand_in = None;
    }
    let body = LengthChecked::new(body, length).by_permit(std::mem::take(&mut ask.permit));
    let is_taken_in = is_small && (reason.is_none() || tag.is_some());
    let body = if is_taken_in || is_for_all {
        let wait_for = if is_for_all { WaitFor::Whole(LONG) } else { wait_for(&core, &ask, tag) };
        match prefetch::collect(body, core.small(), tag, wait_for).await {
            Prefetch::Partial(body) => {
                if let (Some(reason), Some(leader)) = (reason, ask.leader.take_if(|_| is_for_all)) {
                    leader.not_shareable(NotShareable::of(reason, parts.status, lifetime), received_at);
                }
                body
            }
            Prefetch::Failed(received, error) => {
                if let Some(stored) = &ask.stand_in {
                    let CacheRequest { fields, request, .. } = &*ask.query;
                    let detail = Some(Detail::StaleIfError);
                    let forwarding = Forwarding { detail, ..Forwarding::new(ask.forward) };
                    return core.stand_in(Some(stored), request, *fields, forwarding);
                }
                let outcome = not_stored(&ask, reason.unwrap_or(NotStored::Incomplete));
                return told(&core, &ask, parts, CacheBody::broken(received, error), &outcome);
            }
            Prefetch::Complete(content) => {
                let Some(reason) = reason else {
                    return Fill { core, store, ask, parts, assessment, is_capped }.at_once(content).await;
                };
                if let Some(leader) = ask.leader.take() {
                    let Content { pieces, trailers, .. } = &content;
                    let (pieces, trailers) = (pieces.clone(), trailers.clone());
                    let shared = Content { pieces, tag: content.tag.clone(), trailers };
                    let (status, sent_at) = (parts.status, ask.query.now);
                    let response = complete(&core, *assessment, status, &parts.headers, sent_at, shared);
                    leader.publish(CallResult::Error(response));
                }
                let body = tag_on(&core, &mut parts, content);
                return forward(&core, &ask, parts, body, reason, received_at);
            }
        }
    } else if let Some(reason) = reason {
        return forward(
            &core,
            &ask,
            parts,
            CacheBody::forwarded(&core.gauges.held, body),
            reason,
            received_at,
        );
    } else {
        Prefetched::new(body)
    };
    match (reason, Runtime::current()) {
        (None, Some(runtime)) => {
            Fill { core, store, ask, parts, assessment, is_capped }.streaming(&runtime, body, length, tag)
        }
        (reason, _) => {
            let reason = reason.unwrap_or(NotStored::Runtime);
            forward(&core, &ask, parts, CacheBody::begun(&core.gauges.held, body), reason, received_at)
        }
    }
}

/// Applies what a response that is not stored means for the stored one that the inner service was asked about.
async fn heed_unstored<S: Store>(
    core: &Core,
    store: &Arc<S>,
    ask: &mut FetchContext,
    parts: &response::Parts,
    reason: NotStored,
    received_at: SystemTime,
) {
    // A HEAD need not be answered as a GET is.
    let Some(validated) = ask.validated.clone().filter(|_| is_retrieval(&ask.sent_method)) else {
        return;
    };
    let word = word_of_origin(core, ask, parts, store.max_object(), received_at, Err(reason));
    let Err(reason) = word else {
        return;
    };
    let shared = validated.response.head().reuse().shared;
    match reason.effect(parts.status, shared, ask.is_completed) {
        Effect::Withdraw => drop(write::withdraw(store, &ask.query.key).await),
        Effect::EndStaleUse => write::end_stale_use(store, &ask.query.key, validated).await,
        Effect::Expire | Effect::None => {}
    }
}

/// What takes longer is a stream, whatever for.
const LONG: Duration = Duration::from_secs(1);

/// How long small content is waited for. What is made of it for this request may need the whole; where something stored
/// stands in, a client is better off with that than with something broken; and where nothing is ever stored, there is
/// no later answer to have a tag.
fn wait_for(core: &Core, ask: &FetchContext, tag: Option<TagKind>) -> WaitFor {
    if Runtime::current().is_none() {
        return WaitFor::Whole(Duration::MAX); // there is no other way to store it
    }
    let needs_whole = ask.query.needs_whole(tag.is_some()) || ask.query.request.method == Method::HEAD;
    if needs_whole || ask.stand_in.is_some() || !core.storing {
        // Followers wait meanwhile.
        WaitFor::Whole(LONG.min(core.gauges.limits.wait / 2))
    } else {
        WaitFor::FirstFrame
    }
}

/// Whether an error that is not stored is to answer all who have waited for it.
fn answers_all(core: &Core, ask: &FetchContext, response: &response::Parts, reason: NotStored) -> bool {
    core.gauges.limits.share_errors
        && ask.leader.as_ref().is_some_and(|leader| {
            let response::Parts { status, headers, .. } = response;
            collapse::answers_all(*status, headers, reason, leader.has_credentials())
        })
}

/// What of the representation a 206 has, where it is one that may be stored.
fn part_of(core: &Core, ask: &FetchContext, response: &response::Parts, length: Option<u64>) -> Option<Part> {
    let (request, response) = (&ask.query.request.headers, (response.status, &response.headers));
    let part = || Part::of(&ask.sent_method, ask.sent_range, request, response, length);
    if core.policy.rules().partial { part() } else { None }
}

/// How to tag a response; `None` where it has a tag, or is of a kind that gets none.
fn tag_kind(
    core: &Core,
    ask: &FetchContext,
    parts: &response::Parts,
    assessment: &Assessment,
) -> Option<TagKind> {
    let Assessment { directives, terms, .. } = assessment;
    let tagging = core.tagging?;
    is_taggable(&ask.sent_method, parts.status, &parts.headers, directives, terms.store)
        .then_some(tagging.kind)
}

/// A response that is stored while the client gets it.
struct Fill<S> {
    ask: Box<FetchContext>,
    core: Arc<Core>,
    /// Less of it is taken in than could be stored.
    is_capped: bool,
    assessment: Box<Assessment>,
    parts: response::Parts,
    store: Arc<S>,
}

impl<S: Store> Fill<S> {
    /// Small content that has been taken in first, so that the first answer is as good as any later one.
    async fn at_once<B>(self, content: Content) -> Response<CacheBody<B>> {
        let Self { mut ask, core, assessment, parts, store, .. } = self;
        let received_at = assessment.received_at;
        let outcome = stored(&ask, assessment.ttl(&parts.headers, ask.query.now));
        let response = complete(&core, *assessment, parts.status, &parts.headers, ask.query.now, content);
        write::end_stale_use_beside(&store, &ask.query.key, ask.validated.take(), &response).await;
        let written = if ask.leader.as_ref().is_some_and(Leader::is_superseded) {
            Ok(PutOutcome::Superseded)
        } else {
            write::put(&core, &*store, &ask.query.key, response.clone(), ask.fence).await
        };
        core.collapser.forget(&ask.query.key, ask.query.unkeyed().any());
        if let Some(leader) = ask.leader.take() {
            // Also if a purge came first: who waits has asked before it.
            leader.publish(CallResult::Whole(response.clone()));
        }
        let outcome = match written {
            Ok(PutOutcome::Stored) => outcome,
            Ok(PutOutcome::TooLarge) => not_stored(&ask, NotStored::TooLarge),
            Ok(PutOutcome::Superseded) | Err(_) => not_stored(&ask, NotStored::Store),
        };
        if parts.status == StatusCode::PARTIAL_CONTENT {
            // What the client asked for, or as much of it as the inner service gave.
            return conditional(&core, &ask, &parts, &outcome, received_at).unwrap_or_else(|| {
                told(&core, &ask, parts, CacheBody::stored(&core.gauges.held, response.payload()), &outcome)
            });
        }
        let mut answer = core.answer(&response, &ask.query.request, ask.query.fields, &outcome, received_at);
        let status = answer.status();
        restore_unstored((parts.status, &parts.headers), (status, answer.headers_mut()));
        *answer.extensions_mut() = parts.extensions;
        answer
    }

    /// Anything else passes to the client as it comes in, and is stored when it is whole.
    fn streaming<B>(
        self,
        runtime: &Runtime,
        body: Prefetched<B>,
        length: Option<u64>,
        tag: Option<TagKind>,
    ) -> Response<CacheBody<B>>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let Self { ask, core, is_capped, assessment, parts, store } = self;
        let received_at = assessment.received_at;
        let outcome = stored(&ask, assessment.ttl(&parts.headers, ask.query.now));
        let (pump, reader) = Pump::new(length, assessment.terms.max_body, tag, &core.gauges);
        let (status, headers, sent_at) = (parts.status, parts.headers.clone(), ask.query.now);
        let received = Arc::new(Received { headers, assessment, sent_at, status });
        if let Some(leader) = &ask.leader {
            let head = lazy_head(Arc::clone(&core), Arc::clone(&received));
            leader.publish(CallResult::Streaming(Arc::new(head), Arc::clone(pump.flight()), tag.is_some()));
        }
        // Where it is a 304, the content goes to the store all the same, as that of a fill that nobody waits for.
        let answer = conditional(&core, &ask, &parts, &outcome, received_at)
            .unwrap_or_else(|| told(&core, &ask, parts, CacheBody::flight(reader), &outcome));
        pump.launch(runtime, body, Box::new(Keep::new(*ask, core, is_capped, received, store)));
        answer
    }
}

/// A response that is to be stored, as it came.
struct Received {
    headers: HeaderMap,
    assessment: Box<Assessment>,
    sent_at: SystemTime,
    status: StatusCode,
}

/// The head for those who wait, of content that is on its way.
fn lazy_head(core: Arc<Core>, received: Arc<Received>) -> LazyHead {
    LazyHead::new(Box::new(move || {
        let Received { headers, assessment, sent_at, status } = &*received;
        Assessment::clone(assessment).head(&core, *status, headers.clone(), *sent_at, None, Tag::Theirs)
    }))
}

/// What becomes of content that comes in as a stream. Nothing else of the request is held for so long.
struct Keep<S> {
    core: Arc<Core>,
    fence: Fence,
    has_credentials: bool,
    is_capped: bool,
    key: CacheKey,
    leader: Option<Leader>,
    received: Arc<Received>,
    store: Arc<S>,
    told: Told,
    validated: Option<Stored>,
    validation: Option<ValidationPermit>,
    /// Dropped last, as in [`FetchContext`].
    expected: Expected,
}

/// Clients were told that a response is stored. Dropped before it is, this counts that it was not.
struct Told {
    is_true: bool,
    gauges: Arc<Gauges>,
}

impl Drop for Told {
    fn drop(&mut self) {
        if !self.is_true {
            self.gauges.unstored();
        }
    }
}

impl<S> Keep<S> {
    fn new(
        ask: FetchContext,
        core: Arc<Core>,
        is_capped: bool,
        received: Arc<Received>,
        store: Arc<S>,
    ) -> Self {
        let FetchContext { expected, fence, leader, query, validated, validation, .. } = ask;
        let has_credentials = query.unkeyed().any();
        let told = Told { is_true: false, gauges: Arc::clone(&core.gauges) };
        Self {
            core,
            fence,
            has_credentials,
            is_capped,
            key: query.key,
            leader,
            received,
            store,
            told,
            validated,
            validation,
            expected,
        }
    }
}

impl<S: Store> Sink for Keep<S> {
    async fn commit(mut self: Box<Self>, content: Content) -> Option<Pieces> {
        // First, so that it is dropped last where the store panics.
        let expected = std::mem::take(&mut self.expected);
        let Self {
            core,
            fence,
            has_credentials,
            key,
            leader,
            received,
            store,
            mut told,
            validated,
            validation,
            ..
        } = *self;
        if leader.as_ref().is_some_and(Leader::is_superseded) {
            return None; // what a later call brings is newer
        }
        let Received { headers, assessment, sent_at, status } = &*received;
        let response = complete(&core, Assessment::clone(assessment), *status, headers, *sent_at, content);
        let stored = response.payload().content().clone();
        write::end_stale_use_beside(&store, &key, validated, &response).await;
        // Where it can't be stored, the next request is a miss.
        told.is_true =
            matches!(write::put(&core, &*store, &key, response, fence).await, Ok(PutOutcome::Stored));
        core.collapser.forget(&key, has_credentials);
        drop((leader, validation)); // not before it is stored
        drop(expected);
        Some(stored)
    }

    async fn refuse(self: Box<Self>) {
        // For a while, nobody is to wait for what this key gives.
        if let Some(leader) = self.leader.as_ref().filter(|_| !self.is_capped) {
            leader.remember(self.core.clock.now());
        }
        if let Some(validated) = self.validated {
            write::end_stale_use(&self.store, &self.key, validated).await;
        }
    }
}

/// A whole response, compacted.
fn complete(
    core: &Core,
    assessment: Assessment,
    status: StatusCode,
    headers: &HeaderMap,
    sent_at: SystemTime,
    content: Content,
) -> StoredResponse {
    let Content { pieces, tag, trailers } = content;
    // With trailers the message has to be chunked, and may not have a length.
    let length = trailers.is_none().then_some(pieces.len());
    let length = length.filter(|_| status != StatusCode::NO_CONTENT);
    let payload = Payload::new(pieces.compacted(), trailers);
    let head = assessment.head(core, status, headers.clone(), sent_at, length, tag.into());
    StoredResponse::new(head, payload)
}

/// A response that is not stored, unless the client's preconditions make it shorter.
fn forward<B>(
    core: &Core,
    ask: &FetchContext,
    parts: response::Parts,
    body: CacheBody<B>,
    reason: NotStored,
    received_at: SystemTime,
) -> Response<CacheBody<B>> {
    let outcome = not_stored(ask, reason);
    conditional(core, ask, &parts, &outcome, received_at)
        .unwrap_or_else(|| told(core, ask, parts, body, &outcome))
}

/// The body of a response that is not stored, but small enough to get an entity tag.
fn tag_on<B>(core: &Core, parts: &mut response::Parts, content: Content) -> CacheBody<B> {
    let Content { pieces, tag, trailers } = content;
    if let Some(tag) = tag {
        parts.headers.insert(header::ETAG, tag);
    }
    CacheBody::stored(&core.gauges.held, &Payload::new(pieces, trailers))
}

/// The answer to the client's preconditions, evaluated on a response of the inner service.
fn conditional<B>(
    core: &Core,
    ask: &FetchContext,
    parts: &response::Parts,
    outcome: &Outcome,
    now: SystemTime,
) -> Option<Response<CacheBody<B>>> {
    if !ask.query.fields.conditions {
        return None;
    }
    let (request, received) = (&ask.query.request.headers, (parts.status, &parts.headers));
    match preconditions::evaluate_received(request, received, ask.sent_range, now) {
        Precondition::Failed => Some(core.precondition_failed(&parts.headers, outcome)),
        Precondition::NotModified => {
            let mut headers = received_not_modified_fields(&parts.headers, core.status_writer.fields());
            let status = StatusCode::NOT_MODIFIED;
            core.status_writer.tell(outcome, status, &mut headers, Place::Append);
            let mut response = Response::new(CacheBody::empty());
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            Some(response)
        }
        Precondition::Proceed => None,
    }
}

/// The inner service's response with our outcome in its fields.
fn told<B>(
    core: &Core,
    ask: &FetchContext,
    mut parts: response::Parts,
    body: CacheBody<B>,
    outcome: &Outcome,
) -> Response<CacheBody<B>> {
    core.status_writer.tell(outcome, parts.status, &mut parts.headers, Place::Append);
    // A HEAD may have gone out as a GET, but it is answered as what it is.
    let has_no_content = framing::has_no_content(&ask.query.request.method, parts.status);
    let body = if has_no_content { CacheBody::empty() } else { body };
    Response::from_parts(parts, body)
}

fn stored(ask: &FetchContext, ttl: i64) -> Outcome {
    forwarding(ask).stored(ttl).into()
}

fn not_stored(ask: &FetchContext, reason: NotStored) -> Outcome {
    forwarding(ask).not_stored(reason).into()
}

fn forwarding(ask: &FetchContext) -> Forwarding {
    Forwarding::new(ask.forward).collapsed(ask.collapsed).with_status(ask.answered)
}
