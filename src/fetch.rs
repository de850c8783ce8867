//! One call of the inner service for the cache's sake: what goes out, and what is made of what comes back.

use std::sync::Arc;
use std::time::Duration;

use http::header;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, response};
use http_body::Body;
use tower::{Service, ServiceExt};

use crate::body::CacheBody;
use crate::collapse::{Landing, Lead, Why};
use crate::error::BoxError;
use crate::fill;
use crate::judge::{Ask, Good, SentRange, Tag, judge};
use crate::measured::Measured;
use crate::observe::Place;
use crate::partial::Completion;
use crate::query::Query;
use crate::revalidate::Validation;
use crate::semantics::cache_status::{Detail, Forwarding, Outcome};
use crate::semantics::preconditions::{self, Representation};
use crate::semantics::reuse::{Fallback, Forward};
use crate::semantics::storing::NotStored;
use crate::semantics::validation::{self, Identified, Validators};
use crate::shared::Core;
use crate::store::{Lookup, Store, Stored, Write};
use crate::stored::StoredResponse;

/// What a fetch is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// What is missing of a stored part.
    Complete(usize),
    /// A response, whatever is stored.
    Get,
    /// Whether a stored response still holds, and what stands in if that can't be said.
    Validate(usize, Fallback),
}

impl Purpose {
    /// The stored response that it is about.
    pub(crate) fn selected(self) -> Option<usize> {
        match self {
            Self::Complete(index) | Self::Validate(index, _) => Some(index),
            Self::Get => None,
        }
    }

    /// What stands in when it fails. One failure does not stand in for another.
    pub(crate) fn fallback(self, lookup: &Lookup) -> Fallback {
        let Self::Validate(index, fallback) = self else {
            return Fallback::None;
        };
        let stored = lookup.variants.get(index);
        let is_failure = stored.is_some_and(|stored| stored.response.head().status.is_server_error());
        if is_failure && fallback == Fallback::StaleIfError { Fallback::None } else { fallback }
    }
}

/// One call of the inner service for the cache's sake.
pub(crate) struct Fetch<S> {
    /// Boxed: it is large, and goes from hand to hand.
    ask: Box<Ask>,
    completion: Option<Completion>,
    core: Arc<Core>,
    fallback: Fallback,
    lookup: Lookup,
    selected: Option<usize>,
    store: Arc<S>,
}

impl<S: Store> Fetch<S> {
    pub(crate) fn new(
        core: Arc<Core>,
        store: Arc<S>,
        query: Box<Query>,
        lookup: Lookup,
        forward: Forward,
        purpose: Purpose,
    ) -> Self {
        let (selected, fallback) = (purpose.selected(), purpose.fallback(&lookup));
        let completion = match purpose {
            Purpose::Complete(index) => {
                let stored = lookup.variants.get(index).map(|stored| &stored.response);
                stored.and_then(|stored| Completion::of(stored, &query.request.headers, query.fields))
            }
            _ => None,
        };
        // Without anything whole to validate, a range is the inner service's to cut.
        let is_get = query.request.method == Method::GET;
        let is_whole = |index: usize| {
            lookup.variants.get(index).is_some_and(|stored| stored.response.head().part.is_none())
        };
        let sent_range = if completion.is_some() {
            SentRange::Missing
        } else if query.fields.range && is_get && !selected.is_some_and(is_whole) {
            SentRange::Clients
        } else {
            SentRange::None
        };
        let becomes_get = query.request.method == Method::HEAD
            && selected.is_none()
            && core.storing
            && core.policy.rules().head_as_get;
        let sent_method = if becomes_get { Method::GET } else { query.request.method.clone() };
        let good = good(&query, &lookup);
        let stand_in = selected.filter(|_| fallback == Fallback::StaleIfError);
        let stand_in =
            stand_in.and_then(|index| lookup.variants.get(index)).map(|stored| stored.response.clone());
        let ask = Box::new(Ask {
            answered: None,
            collapsed: None,
            lead: None,
            fence: lookup.fence,
            forward,
            names_target: false,
            good,
            part: None,
            validation: None,
            query,
            sent_method,
            sent_range,
            stand_in,
        });
        Self { ask, completion, core, fallback, lookup, selected, store }
    }

    /// Others wait for the answer; `collapsed` as in [`Ask`]; and nobody validates behind until it is stored.
    pub(crate) fn leading(
        mut self,
        lead: Option<Lead>,
        collapsed: Option<bool>,
        validation: Option<Validation>,
    ) -> Self {
        self.ask.lead = lead;
        self.ask.collapsed = collapsed;
        self.ask.validation = validation;
        self
    }

    pub(crate) async fn run<I, Q, B>(self, inner: I, body: Q) -> Result<Response<CacheBody<B>>, I::Error>
    where
        I: Service<Request<Q>, Response = Response<B>>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let outgoing = self.outgoing();
        let validates = self.ask.sent_range == SentRange::None || self.selected.is_some();
        let is_conditional = validates
            && !self.lookup.variants.is_empty()
            && [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE]
                .iter()
                .any(|name| outgoing.headers.contains_key(name));
        let response = inner.oneshot(Request::from_parts(outgoing, body)).await;
        if let (Some(validation), Ok(response)) = (&self.ask.validation, &response)
            && !response.status().is_server_error()
        {
            validation.succeed();
        }
        match response {
            Err(error) => match self.fallback {
                Fallback::StaleIfError => Ok(self.stand_in(None)),
                Fallback::Forbidden => {
                    let outcome = Outcome::forwarded(self.ask.forward);
                    Ok(self.core.no_content(StatusCode::GATEWAY_TIMEOUT, &outcome))
                }
                Fallback::None => Err(error),
            },
            Ok(response) if self.fallback == Fallback::StaleIfError && is_failure(response.status()) => {
                Ok(self.stand_in(Some(response.status())))
            }
            Ok(response) if self.completion.is_some() && is_about_a_part(response.status()) => {
                Ok(Box::pin(self.complete(response)).await)
            }
            Ok(response) if response.status() == StatusCode::NOT_MODIFIED && is_conditional => {
                Ok(Box::pin(self.freshen(response)).await)
            }
            Ok(response) if self.is_head_about_stored(&response) => match self.agreement(&response) {
                Agreement::Holds => Ok(Box::pin(self.freshen_selected(response)).await),
                Agreement::Silent => Ok(fill::receive(self.core, self.store, self.ask, response).await),
                Agreement::Contradicts => {
                    self.expire_selected().await;
                    Ok(fill::receive(self.core, self.store, self.ask, response).await)
                }
            },
            Ok(response) => Ok(fill::receive(self.core, self.store, self.ask, response).await),
        }
    }

    /// The request as it goes to the inner service.
    fn outgoing(&self) -> Parts {
        let mut parts = self.ask.query.request.clone();
        parts.method = self.ask.sent_method.clone();
        if let Some(completion) = &self.completion {
            completion.set_range(&mut parts.headers);
        } else if self.core.storing && (self.ask.sent_range == SentRange::None || self.selected.is_some()) {
            let selected = self.selected().map(|stored| stored.response.head().validators());
            validation::set_conditions(&mut parts.headers, selected, self.validators());
            if self.ask.sent_range == SentRange::Clients {
                // A part that does not hold any more is worth its like, not the whole.
                let range = self.ask.query.request.headers.get(header::RANGE);
                parts.headers.extend(range.map(|range| (header::RANGE, range.clone())));
            }
        }
        self.core.policy.forward(&mut parts);
        parts
    }

    /// Those of all that is stored under the key and could be the answer: of a part, only if it was selected.
    fn validators(&self) -> impl Iterator<Item = Validators<'_>> + Clone {
        self.lookup.variants.iter().enumerate().map(|(index, stored)| {
            let head = stored.response.head();
            let counts = head.part.is_none() || self.selected == Some(index);
            if counts { head.validators() } else { Validators::default() }
        })
    }

    fn selected(&self) -> Option<&Stored> {
        self.lookup.variants.get(self.selected?)
    }

    /// Answers with what was stored and what was missing, together (RFC 9111 3.4).
    async fn complete<B>(mut self, response: Response<B>) -> Response<CacheBody<B>>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let status = response.status();
        let spliced = match (&self.completion, self.selected()) {
            (Some(completion), Some(stored)) if status == StatusCode::PARTIAL_CONTENT => {
                completion.splice(&stored.response, response)
            }
            _ => Err(response),
        };
        match spliced {
            Ok(spliced) => {
                let is_other = spliced.status() != StatusCode::PARTIAL_CONTENT;
                self.ask.answered = is_other.then_some(StatusCode::PARTIAL_CONTENT);
                let answer = fill::receive(self.core, self.store, self.ask, spliced).await;
                answer.map(CacheBody::flatten)
            }
            Err(misfit) => {
                if let Some(lead) = self.ask.lead.take() {
                    lead.part(Why::Error, self.core.clock.now());
                }
                self.core.misfits.insert(self.ask.query.key.clone(), ());
                let is_range = self.completion.as_ref().is_some_and(Completion::is_range);
                let tells_itself =
                    matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE);
                if is_range && tells_itself {
                    // Not what was asked for, but enough for who asked for a range.
                    return fill::receive(self.core, self.store, self.ask, misfit).await;
                }
                // Nothing for who wants the whole. The next one gets it: nothing is completed under this key.
                let outcome = Outcome::Forwarded(Forwarding {
                    status: Some(status),
                    ..Forwarding::new(self.ask.forward)
                });
                self.core.no_content(StatusCode::BAD_GATEWAY, &outcome)
            }
        }
    }

    /// Serves the stored response in place of a failure (RFC 5861 4).
    fn stand_in<B>(mut self, status: Option<StatusCode>) -> Response<CacheBody<B>> {
        if let Some(lead) = self.ask.lead.take() {
            lead.land(Landing::Failed(status));
        }
        let stored = self.selected().map(|stored| &stored.response);
        let Ask { forward, query, .. } = &*self.ask;
        self.core.stand_in(stored, &query.request, query.fields, *forward, Detail::StaleIfError, status)
    }

    /// A 200 to a HEAD that a stored GET could have answered.
    fn is_head_about_stored<B>(&self, response: &Response<B>) -> bool {
        self.ask.sent_method == Method::HEAD && self.selected.is_some() && response.status() == StatusCode::OK
    }

    fn agreement<B>(&self, response: &Response<B>) -> Agreement {
        let Some(stored) = self.selected().map(|stored| stored.response.head()) else {
            return Agreement::Silent;
        };
        let validators = stored.validators();
        let told = [
            (header::ETAG, validators.etag),
            (header::LAST_MODIFIED, validators.last_modified),
            (header::CONTENT_LENGTH, stored.headers.get(header::CONTENT_LENGTH)),
        ];
        let mut compared = told
            .iter()
            .filter_map(|(name, own)| response.headers().get(name).map(|value| Some(value) == *own))
            .peekable();
        if compared.peek().is_none() {
            Agreement::Silent
        } else if compared.all(|equal| equal) {
            Agreement::Holds
        } else {
            Agreement::Contradicts
        }
    }

    /// Makes the selected response stale, if it is still the one that is stored.
    async fn expire_selected(&self) {
        if let Some(stored) = self.selected() {
            let mut head = stored.response.head().clone();
            head.reuse.lifetime = Duration::ZERO;
            let expired = StoredResponse::new(head, stored.response.payload().clone());
            // Where that fails, it is as fresh as it was.
            let _ = self.store.freshen(&self.ask.query.key, stored.id, expired, self.ask.fence).await;
        }
    }

    /// Freshens the stored response that a 304 speaks of, and answers with it (RFC 9111 4.3.4).
    async fn freshen<B>(self, response: Response<B>) -> Response<CacheBody<B>> {
        let (not_modified, body) = response.into_parts();
        let index = match validation::identify(&not_modified.headers, self.selected, self.validators()) {
            Identified::Freshen(index) => index,
            Identified::Unknown => return self.not_modified_unknown(not_modified, body),
        };
        self.update(index, not_modified).await
    }

    /// Answers with a 304 whose tag is that of nothing stored. It changes nothing that is stored (RFC 9111 4.3.4).
    fn not_modified_unknown<B>(
        mut self,
        mut not_modified: response::Parts,
        body: B,
    ) -> Response<CacheBody<B>> {
        let lead = self.ask.lead.take();
        let core = &self.core;
        if let Some(lead) = lead {
            lead.part(Why::Error, core.clock.now());
        }
        let status = Some(StatusCode::NOT_MODIFIED);
        let outcome = Outcome::Forwarded(Forwarding { status, ..Forwarding::new(self.ask.forward) });
        let etag = not_modified.headers.get(header::ETAG).map(HeaderValue::as_bytes);
        let theirs = Representation { date: None, etag, last_modified: None };
        let now = core.clock.now();
        let request = &self.ask.query.request.headers;
        if self.ask.query.fields.conditions
            && preconditions::evaluate(request, &theirs, now) == preconditions::Outcome::NotModified
        {
            // The client knows the tag.
            core.voice.tell(&outcome, not_modified.status, &mut not_modified.headers, Place::Append);
            return Response::from_parts(not_modified, CacheBody::forwarded(Measured::new(body, None)));
        }
        match self.selected() {
            // Our own conditions were met, so what was selected holds (RFC 9111 4.3.3), this once.
            Some(stored) => {
                core.answer(&stored.response, &self.ask.query.request, self.ask.query.fields, &outcome, now)
            }
            // Nobody asked for what this is about.
            None => core.no_content(StatusCode::BAD_GATEWAY, &outcome),
        }
    }

    /// Freshens the selected response with what a HEAD told of it.
    async fn freshen_selected<B>(self, response: Response<B>) -> Response<CacheBody<B>> {
        let (head, _) = response.into_parts();
        let index = self.selected.unwrap_or_default();
        self.update(index, head).await
    }

    /// Gives a stored response the fields of a newer one about the same content, and answers with it.
    async fn update<B>(self, index: usize, mut news: response::Parts) -> Response<CacheBody<B>> {
        let core = &self.core;
        let received_at = core.clock.now();
        let old = &self.lookup.variants[index];
        let head = old.response.head();
        let stored_fields = head.own_fields();
        let tag = if head.tag_is_ours && !news.headers.contains_key(header::ETAG) {
            Tag::Ours
        } else {
            Tag::Theirs
        };
        let carried = news.headers.clone();
        news.headers = validation::freshen(&stored_fields, &news.headers);
        let status = std::mem::replace(&mut news.status, head.status);
        let max_object = self.store.max_object();
        let mut ask = self.ask;
        ask.sent_method = Method::GET; // whose response it is that is stored
        ask.part = head.part.clone();
        let judgement = judge(core, &ask, &news, max_object, received_at);
        let terms = judgement.terms.store;
        let unsent = judgement.terms.strip.clone();
        let head = judgement.head(core, head.status, news.headers, ask.query.now, None, tag);
        let ttl = head.reuse.ttl(received_at);
        let response = StoredResponse::new(head, old.response.payload().clone());
        let written = match terms {
            Err(reason) => Err(reason),
            Ok(()) => {
                let (store, key) = (&self.store, &ask.query.key);
                if core.policy.rules().no_vary_search {
                    core.searches.learn(key, response.head().headers());
                }
                let written = if self.selected == Some(index) {
                    store.freshen(key, old.id, response.clone(), ask.fence).await
                } else {
                    // Another variant's content answers this request's selecting fields too.
                    store.put(key, response.clone(), ask.fence).await
                };
                match written {
                    Ok(Write::Stored) => Ok(()),
                    _ => Err(NotStored::Store),
                }
            }
        };
        if let Some(lead) = ask.lead.take() {
            match terms {
                // Whether or not a purge came first: who waits has asked before it.
                Ok(()) => lead.land(Landing::Validated(response.clone())),
                Err(reason) => lead.part(fill::why_apart(reason, status), received_at),
            }
        }
        let outcome = Outcome::Forwarded(Forwarding {
            collapsed: ask.collapsed,
            detail: written.err().map(Detail::NotStored),
            status: (status != StatusCode::OK).then_some(status),
            stored: written.is_ok(),
            ttl: Some(ttl),
            ..Forwarding::new(ask.forward)
        });
        let mut answer = core.answer(&response, &ask.query.request, ask.query.fields, &outcome, received_at);
        // What is not stored, this client gets all the same: it was sent for it.
        if carried.contains_key(header::SET_COOKIE) && !unsent.contains(&header::SET_COOKIE) {
            fill::take_over(&carried, answer.headers_mut(), &header::SET_COOKIE);
        }
        answer
    }
}

/// The best that is stored for a request, as far as errors are concerned.
fn good(query: &Query, lookup: &Lookup) -> Good {
    let matching = lookup.variants.iter().filter(|stored| {
        let head = stored.response.head();
        head.status.is_success() && head.reuse.selecting.matches(&query.request.headers)
    });
    let is_fresh =
        |stored: &Stored| stored.expired.is_none() && stored.response.head().reuse.ttl(query.now) > 0;
    matching.fold(
        Good::None,
        |best, stored| {
            if best == Good::Fresh || is_fresh(stored) { Good::Fresh } else { Good::Stale }
        },
    )
}

/// Whether a status makes sense for a part only, or for who has one.
fn is_about_a_part(status: StatusCode) -> bool {
    matches!(status.as_u16(), 206 | 304 | 412 | 416)
}

/// Whether a response to HEAD is of the representation that is stored (RFC 9111 4.3.5).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Agreement {
    Contradicts,
    Holds,
    /// It has none of the fields by which that could be said.
    Silent,
}

/// RFC 5861 4.
fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}
