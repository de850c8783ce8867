//! From the inner service's response to the client's, and to the store.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, response};
use http_body::Body;

use crate::answer::not_modified_fields;
use crate::body::CacheBody;
use crate::error::BoxError;
use crate::flight::{self, Content, Intake};
use crate::key::CacheKey;
use crate::observe::Place;
use crate::policy::Terms;
use crate::revalidate::Validation;
use crate::semantics::cache_control::{RequestDirectives, ResponseDirectives};
use crate::semantics::cache_status::{Detail, Outcome};
use crate::semantics::date;
use crate::semantics::etag::TagKind;
use crate::semantics::fields::{RequestFields, remove_hop_by_hop};
use crate::semantics::freshness::{self, single_date};
use crate::semantics::groups::{self, CACHE_GROUPS};
use crate::semantics::preconditions::{self, Outcome as Precondition, Representation};
use crate::semantics::reuse::{Forward, Reuse};
use crate::semantics::storing::{self, Exchange, NotStored};
use crate::semantics::targeted;
use crate::semantics::vary::Selecting;
use crate::shared::{Core, SMALL};
use crate::store::{Fence, Store, Write};
use crate::stored::{
    Payload, ResponseHead, StoredResponse, compact_content, compact_fields, take_upstream_status,
};

/// What the inner service is asked for the cache's sake.
pub(crate) struct Ask {
    pub(crate) directives: RequestDirectives,
    pub(crate) fence: Fence,
    pub(crate) fields: RequestFields,
    pub(crate) forward: Forward,
    pub(crate) key: CacheKey,
    /// The response is to a POST, and names the target URI in `Content-Location`.
    pub(crate) names_target: bool,
    /// What is stored that an error must not take the place of.
    pub(crate) good: Good,
    /// Held until the response is stored, or not.
    pub(crate) validation: Option<Validation>,
    /// As the client sent it.
    pub(crate) request: Parts,
    pub(crate) sent_at: SystemTime,
    /// The method as it was sent: a HEAD can go out as a GET.
    pub(crate) sent_method: Method,
    /// `Range` went to the inner service: only a whole answer is of use to others.
    pub(crate) sent_range: bool,
}

/// A stored response with a successful status that could have answered the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Good {
    Fresh,
    None,
    Stale,
}

impl Good {
    /// Whether a response with this status leaves it alone. A server error always does; any other error does
    /// while it is fresh: then the client alone, by its request, has brought the error about.
    fn outweighs(self, status: StatusCode) -> bool {
        match self {
            Self::Fresh => status.is_client_error() || status.is_server_error(),
            Self::None => false,
            Self::Stale => status.is_server_error(),
        }
    }
}

impl Ask {
    /// A POST whose response may answer later GETs. The request's own conditions and ranges are none of
    /// the cache's business (RFC 9110 13.2.1).
    pub(crate) fn post(request: Parts, key: CacheKey, fence: Fence, sent_at: SystemTime) -> Self {
        Self {
            directives: RequestDirectives::of(&request.headers),
            fence,
            fields: RequestFields::default(),
            forward: Forward::Method,
            key,
            names_target: true,
            good: Good::None,
            validation: None,
            request,
            sent_at,
            sent_method: Method::POST,
            sent_range: false,
        }
    }
}

/// What the rules and the policy say of a response.
pub(crate) struct Judgement {
    date: Option<SystemTime>,
    directives: ResponseDirectives,
    received_at: SystemTime,
    selecting: Selecting,
    stripped: HeaderMap,
    pub(crate) terms: Terms,
}

/// Judges a response to `ask`, received at `received_at`.
pub(crate) fn judge(
    core: &Core,
    ask: &Ask,
    response: &response::Parts,
    max_object: u64,
    received_at: SystemTime,
) -> Judgement {
    let rules = core.policy.rules();
    let (status, headers) = (response.status, &response.headers);
    let directives = targeted::directives(headers, &rules.targets);
    let date = single_date(headers, &header::DATE, received_at);
    let (lifetime, source) = freshness::lifetime(
        status,
        headers,
        &directives,
        date.unwrap_or(received_at),
        rules.heuristic.as_ref(),
    );
    let keyed = ask.key.keyed_credentials();
    let store = if core.storing {
        let exchange = Exchange {
            method: &ask.sent_method,
            names_target: ask.names_target,
            request: &ask.request.headers,
            request_directives: &ask.directives,
            keyed,
            status,
            response: headers,
            directives: &directives,
            source,
        };
        storing::admit(&exchange, rules)
    } else {
        Err(NotStored::SwitchedOff)
    };
    let groups = groups::of(headers, &CACHE_GROUPS);
    let store = store.and(groups.as_ref().map(|_| ()).map_err(|_| NotStored::Groups));
    let groups = groups.unwrap_or_default();
    let seconds = |seconds: Option<u32>| Duration::from_secs(seconds.unwrap_or_default().into());
    let mut terms = Terms {
        groups: groups.iter().map(|group| groups::scoped(ask.key.uri(), group)).collect(),
        lifetime,
        max_body: max_object,
        must_revalidate: directives.must_revalidate
            || directives.proxy_revalidate
            || directives.s_maxage.is_some(), // RFC 9111 5.2.2.10
        no_cache: directives.no_cache,
        shared: storing::shared_with(&directives, rules.credentials),
        source,
        stale_if_error: seconds(directives.stale_if_error),
        stale_while_revalidate: seconds(directives.stale_while_revalidate),
        store,
        strip: Vec::new(),
    };
    core.policy.response(&ask.request, response, &mut terms);
    terms.max_body = terms.max_body.min(max_object);
    if !core.storing {
        terms.store = Err(NotStored::SwitchedOff);
    }
    let mut selecting = Selecting::default();
    if terms.store.is_ok() {
        let selectable = Selecting::of(headers, &ask.request.headers, rules.languages);
        terms.store = last_look(ask, response, &terms, selectable.is_ok());
        selecting = selectable.unwrap_or_default();
    }
    Judgement { date, directives, received_at, selecting, stripped: HeaderMap::new(), terms }
}

/// What no policy can lift.
fn last_look(
    ask: &Ask,
    response: &response::Parts,
    terms: &Terms,
    selectable: bool,
) -> Result<(), NotStored> {
    let has_validator =
        [header::ETAG, header::LAST_MODIFIED].iter().any(|name| response.headers.contains_key(name));
    let stale_windows = terms.stale_if_error.max(terms.stale_while_revalidate);
    let is_of_use = has_validator || !(terms.no_cache || terms.lifetime.is_zero() && stale_windows.is_zero());
    if !selectable {
        return Err(NotStored::Vary);
    }
    if response.status.is_informational() || response.status == StatusCode::NOT_MODIFIED {
        return Err(NotStored::Status);
    }
    if ask.sent_method != Method::GET && !ask.names_target {
        return Err(NotStored::Method);
    }
    if response.status == StatusCode::PARTIAL_CONTENT || (ask.sent_range && response.status != StatusCode::OK)
    {
        return Err(NotStored::Partial);
    }
    if ask.good.outweighs(response.status) {
        return Err(NotStored::Status); // RFC 9111 4.3.3: what is stored may still do
    }
    if !is_of_use {
        return Err(NotStored::NeverFresh);
    }
    Ok(())
}

impl Judgement {
    /// Takes away what nobody downstream gets to see.
    fn strip(&mut self, headers: &mut HeaderMap) {
        for name in &self.terms.strip {
            if let header::Entry::Occupied(field) = headers.entry(name) {
                let (name, values) = field.remove_entry_mult();
                for value in values {
                    self.stripped.append(&name, value);
                }
            }
        }
    }

    /// Seconds of freshness left at reception.
    fn ttl(&self, headers: &HeaderMap, sent_at: SystemTime) -> i64 {
        self.reuse(headers, sent_at).ttl(self.received_at)
    }

    fn reuse(&self, headers: &HeaderMap, sent_at: SystemTime) -> Reuse {
        let date = self.date.unwrap_or(self.received_at);
        Reuse {
            date,
            immutable: self.directives.immutable,
            initial_age: freshness::initial_age(
                freshness::received_age(headers),
                date,
                sent_at,
                self.received_at,
            ),
            lifetime: self.terms.lifetime,
            must_revalidate: self.terms.must_revalidate,
            no_cache: self.terms.no_cache,
            response_time: self.received_at,
            selecting: self.selecting.clone(),
            shared: self.terms.shared,
            stale_if_error: self.terms.stale_if_error,
            stale_while_revalidate: self.terms.stale_while_revalidate,
        }
    }

    /// The head to store. `length` is that of the whole content; `tag` one that was generated.
    pub(crate) fn head(
        mut self,
        core: &Core,
        status: StatusCode,
        mut headers: HeaderMap,
        sent_at: SystemTime,
        length: Option<usize>,
        tag: Tag,
    ) -> ResponseHead {
        let reuse = self.reuse(&headers, sent_at);
        remove_hop_by_hop(&mut headers);
        self.strip(&mut headers);
        for name in self.directives.private_fields.iter().chain(&self.directives.no_cache_fields) {
            headers.remove(name);
        }
        if self.date.is_none() {
            // RFC 9110 6.6.1: a response without a date gets the time of its reception.
            if let Ok(date) = HeaderValue::try_from(date::format(self.received_at)) {
                headers.insert(header::DATE, date);
            }
        }
        if let Some(length) = length {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        let tag_is_ours = match tag {
            Tag::New(tag) => headers.insert(header::ETAG, tag).is_none(),
            Tag::Ours => true,
            Tag::Theirs => false,
        };
        let upstream_status = take_upstream_status(&mut headers);
        let mut headers = compact_fields(&headers, core.voice.fields() + 1);
        headers.insert(header::AGE, HeaderValue::from_static("0"));
        core.voice.reserve(&mut headers);
        // A clone has no spare capacity.
        let headers = headers.clone();
        ResponseHead {
            groups: self.terms.groups.into_boxed_slice(),
            last_modified: single_date(&headers, &header::LAST_MODIFIED, self.received_at),
            headers,
            reuse,
            status,
            stripped: (!self.stripped.is_empty()).then(|| Box::new(compact_fields(&self.stripped, 0))),
            tag_is_ours,
            upstream_status,
        }
    }
}

/// The entity tag of a head.
pub(crate) enum Tag {
    /// Generated just now.
    New(HeaderValue),
    /// Among the fields, generated earlier.
    Ours,
    /// The origin's, or none.
    Theirs,
}

impl From<Option<HeaderValue>> for Tag {
    fn from(tag: Option<HeaderValue>) -> Self {
        tag.map_or(Self::Theirs, Self::New)
    }
}

/// `Content-Length`, where it is a number.
fn declared_length(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_LENGTH)?;
    std::str::from_utf8(value.as_bytes()).ok()?.trim().parse().ok()
}

/// Answers the client with what the inner service answered, and stores it where that is allowed.
pub(crate) async fn receive<B, S>(
    core: Arc<Core>,
    store: Arc<S>,
    ask: Box<Ask>,
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
    let mut judgement = judge(&core, &ask, &parts, store.max_object(), received_at);
    judgement.strip(&mut parts.headers);
    let length = declared_length(&parts.headers).or_else(|| body.size_hint().exact());
    let terms = &mut judgement.terms;
    if terms.store.is_ok() && length.is_some_and(|length| length > terms.max_body) {
        terms.store = Err(NotStored::TooLarge);
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

/// How to tag a response; `None` where it has a tag, or is of a kind that gets none.
fn tag_kind(core: &Core, ask: &Ask, parts: &response::Parts, judgement: &Judgement) -> Option<TagKind> {
    let tagging = core.tagging?;
    let taggable = ask.sent_method == Method::GET
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
        let Self { ask, core, judgement, parts, store } = self;
        let content = match flight::collect(body, length, tag).await {
            Ok(content) => content,
            Err((received, error)) => {
                let body = CacheBody::broken(received, error);
                return told(&core, &ask, parts, body, &not_stored(&ask, NotStored::Incomplete));
            }
        };
        let received_at = judgement.received_at;
        let outcome = stored(&ask, judgement.ttl(&parts.headers, ask.sent_at));
        let response = complete(&core, judgement, parts.status, &parts.headers, ask.sent_at, content);
        let written = store.put(&ask.key, response.clone(), ask.fence).await;
        let outcome = match written {
            Ok(Write::Stored) => outcome,
            Ok(Write::TooLarge) => not_stored(&ask, NotStored::TooLarge),
            Ok(Write::Superseded) | Err(_) => not_stored(&ask, NotStored::Store),
        };
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
        let commit_core = Arc::clone(&core);
        let commit = move |content: Content| async move {
            let response = complete(&commit_core, judgement, status, &headers, sent_at, content);
            // Where it can't be stored, the next request is a miss.
            let _ = store.put(&key, response, fence).await;
            drop(validation);
        };
        match flight::launch(body, intake, commit) {
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
    match flight::collect(body, length, tag).await {
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
    if !ask.fields.conditions || !parts.status.is_success() || ask.sent_range {
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
    Outcome::Forwarded {
        collapsed: false,
        detail: None,
        forward: ask.forward,
        status: None,
        stored: true,
        ttl: Some(ttl),
    }
}

fn not_stored(ask: &Ask, reason: NotStored) -> Outcome {
    Outcome::Forwarded {
        collapsed: false,
        detail: Some(Detail::NotStored(reason)),
        forward: ask.forward,
        status: None,
        stored: false,
        ttl: None,
    }
}
