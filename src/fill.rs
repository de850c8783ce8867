//! From the inner service's response to the client's, and to the store.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, Method, Response, StatusCode, response};
use http_body::Body;

use crate::answer::not_modified_fields;
use crate::body::CacheBody;
use crate::collapse::{Landing, LateHead, Lead, Why};
use crate::collect::{self, Content};
use crate::error::{BoxError, StoreError};
use crate::flight::Flight;
use crate::judge::{Ask, Judgement, SentRange, Tag, judge};
use crate::key::CacheKey;
use crate::observe::Place;
use crate::partial;
use crate::pump::{self, Intake};
use crate::semantics::cache_status::{Detail, Forwarding, Outcome};
use crate::semantics::etag::TagKind;
use crate::semantics::freshness::single_date;
use crate::semantics::is_retrieval;
use crate::semantics::parts::Extent;
use crate::semantics::preconditions::{self, Outcome as Precondition, Representation};
use crate::semantics::storing::NotStored;
use crate::shared::{Core, SMALL};
use crate::store::{Fence, Store, Write};
use crate::stored::{Part, Payload, StoredResponse, compact_content};

/// `Content-Length`, where it is a number.
fn declared_length(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_LENGTH)?;
    std::str::from_utf8(value.as_bytes()).ok()?.trim().parse().ok()
}

/// Answers the client with what the inner service answered, and stores it where that is allowed.
pub(crate) async fn receive<B, S>(
    core: Arc<Core>,
    store: Arc<S>,
    mut ask: Box<Ask>,
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
    let length = declared_length(&parts.headers).or_else(|| body.size_hint().exact());
    ask.part = part_of(&core, &ask, &parts, length);
    let mut judgement = judge(&core, &ask, &parts, store.max_object(), received_at);
    judgement.strip(&mut parts.headers);
    let terms = &mut judgement.terms;
    if terms.store.is_ok() && length.is_some_and(|length| length > terms.max_body) {
        terms.store = Err(NotStored::TooLarge);
    }
    if let Err(reason) = judgement.terms.store
        && let Some(lead) = ask.lead.take()
    {
        lead.part(why_apart(reason, parts.status), received_at);
    }
    let tag = tag_kind(&core, &ask, &parts, &judgement);
    let small = length.filter(|&length| length <= core.tagging.map_or(SMALL, |tagging| tagging.small));
    match (judgement.terms.store, small) {
        (Err(reason), Some(length)) if tag.is_some() => {
            tag_and_forward(&core, &ask, parts, body, length, tag, reason).await
        }
        (Err(reason), _) => forward(&core, &ask, parts, body, reason, received_at),
        (Ok(()), Some(length)) => {
            let fill = Fill { core, store, ask, parts, judgement };
            fill.at_once(body, length, tag).await
        }
        (Ok(()), None) => {
            let fill = Fill { core, store, ask, parts, judgement };
            fill.streaming(body, length, tag)
        }
    }
}

/// Why an answer that is not stored is nobody else's: whose doing it is.
pub(crate) fn why_apart(reason: NotStored, status: StatusCode) -> Why {
    match reason {
        NotStored::Authorization | NotStored::Cookie | NotStored::RequestNoStore => Why::Request,
        _ if status.is_server_error() => Why::Error,
        _ => Why::Response,
    }
}

/// What of the representation a 206 has, where it is one that may be stored.
fn part_of(core: &Core, ask: &Ask, response: &response::Parts, length: Option<u64>) -> Option<Part> {
    /// A longer `Range` is nobody's again.
    const LONGEST: usize = 256;
    let is_part = response.status == StatusCode::PARTIAL_CONTENT && ask.sent_method == Method::GET;
    // RFC 9110 15.3.7: to a client that has the rest, as `If-Range` says, the fields of the whole need not be sent.
    let is_sparse =
        ask.sent_range == SentRange::Clients && ask.request.headers.contains_key(header::IF_RANGE);
    if is_sparse || !is_part || !core.policy.rules().partial {
        return None;
    }
    let is_whole_part = |extent: &Extent| length.is_none_or(|length| length == extent.held());
    let extent = Extent::of(&response.headers).filter(is_whole_part).map(Part::Bytes);
    match (ask.sent_range, extent) {
        (SentRange::None, _) | (SentRange::Missing, None) => None,
        (_, Some(part)) => Some(part),
        (SentRange::Clients, None) => {
            let mut lines = ask.request.headers.get_all(header::RANGE).into_iter();
            let is_short = lines.next().is_some_and(|line| line.len() <= LONGEST);
            (is_short && lines.next().is_none()).then_some(Part::Replay)
        }
    }
}

/// How to tag a response; `None` where it has a tag, or is of a kind that gets none.
fn tag_kind(core: &Core, ask: &Ask, parts: &response::Parts, judgement: &Judgement) -> Option<TagKind> {
    let tagging = core.tagging?;
    let taggable = is_retrieval(&ask.sent_method)
        && matches!(parts.status, StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION)
        && !parts.headers.contains_key(header::ETAG)
        && !(judgement.directives.no_store && judgement.terms.store.is_err());
    taggable.then_some(tagging.kind)
}

/// A response that is stored while the client gets it.
struct Fill<S> {
    ask: Box<Ask>,
    core: Arc<Core>,
    judgement: Judgement,
    parts: response::Parts,
    store: Arc<S>,
}

impl<S: Store> Fill<S> {
    /// Small content of known length: taken in first, so that the first answer is as good as any later one.
    async fn at_once<B>(self, body: B, length: u64, tag: Option<TagKind>) -> Response<CacheBody<B>>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let Self { mut ask, core, judgement, parts, store } = self;
        let content = match collect::collect(body, length, tag).await {
            Ok(content) => content,
            Err((received, error)) => {
                let body = CacheBody::broken(received, error);
                return told(&core, &ask, parts, body, &not_stored(&ask, NotStored::Incomplete));
            }
        };
        let received_at = judgement.received_at;
        let outcome = stored(&ask, judgement.ttl(&parts.headers, ask.sent_at));
        let response = complete(&core, judgement, parts.status, &parts.headers, ask.sent_at, content);
        let written = if ask.lead.as_ref().is_some_and(Lead::is_superseded) {
            Ok(Write::Superseded)
        } else {
            keep(&core, &*store, &ask.key, response.clone(), ask.fence).await
        };
        core.collapser.forget(&ask.key, ask.has_unkeyed_credentials());
        if let Some(lead) = ask.lead.take() {
            // Also if a purge came first: who waits has asked before it.
            lead.land(Landing::Whole(response.clone()));
        }
        let outcome = match written {
            Ok(Write::Stored) => outcome,
            Ok(Write::TooLarge) => not_stored(&ask, NotStored::TooLarge),
            Ok(Write::Superseded) | Err(_) => not_stored(&ask, NotStored::Store),
        };
        if parts.status == StatusCode::PARTIAL_CONTENT {
            // What the client asked for, or as much of it as the inner service gave.
            return conditional(&core, &ask, &parts, &outcome, received_at).unwrap_or_else(|| {
                told(&core, &ask, parts, CacheBody::stored(response.payload()), &outcome)
            });
        }
        let mut answer = core.answer(&response, &ask.request, ask.fields, &outcome, received_at);
        if answer.status().is_success() || answer.status() == parts.status {
            restore_unstored(&parts.headers, answer.headers_mut());
        } else {
            take_over(&parts.headers, answer.headers_mut(), &header::SET_COOKIE);
        }
        *answer.extensions_mut() = parts.extensions;
        answer
    }

    /// Anything else passes to the client as it comes in, and is stored when it is whole.
    fn streaming<B>(self, body: B, length: Option<u64>, tag: Option<TagKind>) -> Response<CacheBody<B>>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let Self { mut ask, core, judgement, parts, store } = self;
        let received_at = judgement.received_at;
        let outcome = stored(&ask, judgement.ttl(&parts.headers, ask.sent_at));
        let intake = Intake { declared: length, most: judgement.terms.max_body, tag };
        let (status, headers) = (parts.status, parts.headers.clone());
        let (key, fence, sent_at) = (ask.key.clone(), ask.fence, ask.sent_at);
        let validation = ask.validation.take();
        let has_credentials = ask.has_unkeyed_credentials();
        let commit_core = Arc::clone(&core);
        let lead = ask.lead.take();
        let waiting = lead.as_ref().map(|lead| {
            let (core, judgement, headers) = (Arc::clone(&core), judgement.clone(), headers.clone());
            let head = move || {
                let mut head = judgement.head(&core, status, headers, sent_at, None, Tag::Theirs);
                if let Some(length) = length {
                    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
                }
                head
            };
            (Arc::clone(lead.call()), LateHead::new(Box::new(head)))
        });
        let begin = |flight: &Arc<Flight>| {
            if let Some((call, head)) = waiting {
                call.land(Landing::Streaming(Arc::new(head), Arc::clone(flight)));
            }
        };
        let commit = move |content: Option<Content>| async move {
            let Some(content) = content else {
                // Too large for anybody else to wait for.
                if let Some(lead) = lead {
                    lead.remember(commit_core.clock.now());
                }
                return None;
            };
            if lead.as_ref().is_some_and(Lead::is_superseded) {
                return None; // what a later call brings is newer
            }
            let response = complete(&commit_core, judgement, status, &headers, sent_at, content);
            let stored = response.payload().content().clone();
            // Where it can't be stored, the next request is a miss.
            let _ = keep(&commit_core, &*store, &key, response, fence).await;
            commit_core.collapser.forget(&key, has_credentials);
            drop(lead);
            drop(validation);
            Some(stored)
        };
        match pump::launch(body, intake, &core.load, begin, commit) {
            Ok(reader) => {
                if let Some(answer) = conditional(&core, &ask, &parts, &outcome, received_at) {
                    return answer; // the content goes to the store all the same
                }
                told(&core, &ask, parts, CacheBody::flight(reader), &outcome)
            }
            Err(body) => forward(&core, &ask, parts, body, NotStored::Runtime, received_at),
        }
    }
}

/// A whole response, compacted.
fn complete(
    core: &Core,
    judgement: Judgement,
    status: StatusCode,
    headers: &HeaderMap,
    sent_at: SystemTime,
    content: Content,
) -> StoredResponse {
    let Content { bytes, tag, trailers } = content;
    // With trailers the message has to be chunked, and may not have a length.
    let length = trailers.is_none().then_some(bytes.len());
    let length = length.filter(|_| status != StatusCode::NO_CONTENT);
    let payload = Payload::new(compact_content(bytes), trailers);
    let head = judgement.head(core, status, headers.clone(), sent_at, length, tag.into());
    StoredResponse::new(head, payload)
}

/// Puts a whole response, or a part to its like.
async fn keep<S: Store>(
    core: &Core,
    store: &S,
    key: &CacheKey,
    response: StoredResponse,
    fence: Fence,
) -> Result<Write, StoreError> {
    if core.policy.rules().no_vary_search {
        core.searches.learn(key, response.head().headers());
    }
    match response.head().part.clone() {
        // Not the bytes that its head speaks of.
        Some(Part::Bytes(extent)) if extent.held() != response.payload().content().len() as u64 => {
            Ok(Write::Superseded)
        }
        Some(Part::Bytes(extent)) => {
            let head = response.head().clone().having(extent);
            let response = StoredResponse::new(head, response.payload().clone());
            partial::put(store, key, response, fence).await
        }
        Some(Part::Replay) | None => store.put(key, response, fence).await,
    }
}

/// The first client gets the fields that are not stored: they were sent for it.
fn restore_unstored(received: &HeaderMap, answered: &mut HeaderMap) {
    for name in received.keys() {
        take_over(received, answered, name);
    }
    match received.get(header::AGE) {
        Some(age) => answered.insert(header::AGE, age.clone()),
        None => answered.remove(header::AGE),
    };
}

/// All lines of a field that the answer lacks.
pub(crate) fn take_over(received: &HeaderMap, answered: &mut HeaderMap, name: &HeaderName) {
    if !answered.contains_key(name) {
        for line in received.get_all(name) {
            answered.append(name, line.clone());
        }
    }
}

/// A response that is not stored: frame by frame, unless the client's preconditions make it shorter.
fn forward<B>(
    core: &Core,
    ask: &Ask,
    parts: response::Parts,
    body: B,
    reason: NotStored,
    received_at: SystemTime,
) -> Response<CacheBody<B>> {
    let outcome = not_stored(ask, reason);
    conditional(core, ask, &parts, &outcome, received_at)
        .unwrap_or_else(|| told(core, ask, parts, CacheBody::forwarded(body), &outcome))
}

/// A response that is not stored, but small enough to get an entity tag.
async fn tag_and_forward<B>(
    core: &Core,
    ask: &Ask,
    mut parts: response::Parts,
    body: B,
    length: u64,
    tag: Option<TagKind>,
    reason: NotStored,
) -> Response<CacheBody<B>>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let received_at = core.clock.now();
    let outcome = not_stored(ask, reason);
    match collect::collect(body, length, tag).await {
        Ok(Content { bytes, tag, trailers }) => {
            if let Some(tag) = tag {
                parts.headers.insert(header::ETAG, tag);
            }
            let body = CacheBody::stored(&Payload::new(bytes, trailers));
            conditional(core, ask, &parts, &outcome, received_at)
                .unwrap_or_else(|| told(core, ask, parts, body, &outcome))
        }
        Err((received, error)) => told(core, ask, parts, CacheBody::broken(received, error), &outcome),
    }
}

/// The answer to the client's preconditions, evaluated on a response of the inner service.
fn conditional<B>(
    core: &Core,
    ask: &Ask,
    parts: &response::Parts,
    outcome: &Outcome,
    now: SystemTime,
) -> Option<Response<CacheBody<B>>> {
    if !ask.fields.conditions || !parts.status.is_success() || ask.sent_range == SentRange::Clients {
        return None;
    }
    let representation = Representation {
        date: None,
        etag: parts.headers.get(header::ETAG).map(HeaderValue::as_bytes),
        last_modified: single_date(&parts.headers, &header::LAST_MODIFIED, now),
    };
    match preconditions::evaluate(&ask.request.headers, &representation, now) {
        Precondition::Failed => Some(core.no_content(StatusCode::PRECONDITION_FAILED, outcome)),
        Precondition::NotModified => {
            let mut headers = not_modified_fields(&parts.headers, core.voice.fields());
            let status = StatusCode::NOT_MODIFIED;
            take_over(&parts.headers, &mut headers, &header::AGE);
            take_over(&parts.headers, &mut headers, &header::SET_COOKIE);
            core.voice.tell(outcome, status, &mut headers, Place::Append);
            let mut response = Response::new(CacheBody::unsent());
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
    ask: &Ask,
    mut parts: response::Parts,
    body: CacheBody<B>,
    outcome: &Outcome,
) -> Response<CacheBody<B>> {
    core.voice.tell(outcome, parts.status, &mut parts.headers, Place::Append);
    // A HEAD may have gone out as a GET, but it is answered as what it is.
    let body = if ask.request.method == Method::HEAD { CacheBody::unsent() } else { body };
    Response::from_parts(parts, body)
}

fn stored(ask: &Ask, ttl: i64) -> Outcome {
    Outcome::Forwarded(Forwarding { stored: true, ttl: Some(ttl), ..forwarding(ask) })
}

fn not_stored(ask: &Ask, reason: NotStored) -> Outcome {
    Outcome::Forwarded(Forwarding { detail: Some(Detail::NotStored(reason)), ..forwarding(ask) })
}

fn forwarding(ask: &Ask) -> Forwarding {
    Forwarding { collapsed: ask.collapsed, status: ask.answered, ..Forwarding::new(ask.forward) }
}
