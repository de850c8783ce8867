//! One call of the inner service for the cache's sake: what goes out, and what is made of what comes back.

pub(crate) mod assess;
pub(crate) mod collapsed;
pub(crate) mod receive;
pub(crate) mod write;

mod complete;
mod drive;
mod validate;

use std::sync::Arc;

use http::header;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use tower::{Service, ServiceExt};

use self::validate::Agreement;
use crate::body::CacheBody;
use crate::collapse::background::ValidationPermit;
use crate::collapse::{CallResult, Leader};
use crate::entry::key;
use crate::entry::partial::Completion;
use crate::error::BoxError;
use crate::fetch::assess::{FetchContext, Incumbent, SentRange};
use crate::limits::calls::CallPermit;
use crate::respond::open::OpenedOnce;
use crate::respond::request::CacheRequest;
use crate::semantics::cache_status::{Detail, Forwarding};
use crate::semantics::framing;
use crate::semantics::reuse::{Fallback, Forward};
use crate::semantics::status::{is_failure, is_server_error};
use crate::semantics::validation::{self, Validators};
use crate::shared::Core;
use crate::store::{Expected, Lookup, Store, Stored};

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
        let is_failure = stored.is_some_and(|stored| is_server_error(stored.response.head().status));
        if is_failure && fallback == Fallback::StaleIfError { Fallback::None } else { fallback }
    }
}

/// One call of the inner service for the cache's sake.
pub(crate) struct Fetch<S> {
    /// Boxed: it is large, and goes from hand to hand.
    ask: Box<FetchContext>,
    completion: Option<Completion>,
    core: Arc<Core>,
    fallback: Fallback,
    lookup: Lookup,
    selected: Option<usize>,
    store: Arc<S>,
    /// By the positions of what is stored.
    validators: Vec<AskedBy>,
}

/// Which validators of a stored response go out with a request.
#[derive(Clone, Copy)]
enum AskedBy {
    All,
    Nothing,
    StrongTag,
}

impl<S: Store> Fetch<S> {
    pub(crate) fn new(
        core: Arc<Core>,
        store: Arc<S>,
        query: Box<CacheRequest>,
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
        let from_the_future = lookup.variants.iter().map(|stored| stored.response.head().reuse());
        let from_the_future = from_the_future.filter(|reuse| reuse.age(query.now).is_none());
        let at_least = from_the_future.map(|reuse| (reuse.generated, reuse.request_time)).max();
        let validated = selected.and_then(|index| lookup.variants.get(index)).cloned();
        let stand_in = validated.clone().filter(|_| fallback == Fallback::StaleIfError);
        let ask = Box::new(FetchContext {
            answered: None,
            collapsed: None,
            is_completed: false,
            leader: None,
            expected: Expected::default(),
            fence: lookup.fence,
            forward,
            names_target: false,
            at_least,
            good,
            permit: CallPermit::default(),
            opened: OpenedOnce::default(),
            part: None,
            validation: None,
            query,
            sent_method,
            sent_range,
            stand_in,
            validated,
        });
        let mut fetch =
            Self { ask, completion, core, fallback, lookup, selected, store, validators: Vec::new() };
        if fetch.replaces_conditions() {
            fetch.validators = fetch.asked_by();
        }
        fetch
    }

    /// The store forgets no purge from a moment before the call until its answer is stored, or not.
    pub(crate) fn expecting(mut self, expected: Expected) -> Self {
        self.ask.fence = expected.fence().unwrap_or(self.ask.fence);
        self.ask.expected = expected;
        self
    }

    /// Others wait for the answer; `collapsed` as in [`FetchContext`]; and nobody validates behind until it is stored.
    pub(crate) fn leading(
        mut self,
        leader: Option<Leader>,
        collapsed: Option<bool>,
        validation: Option<ValidationPermit>,
    ) -> Self {
        self.ask.leader = leader;
        self.ask.collapsed = collapsed;
        self.ask.validation = validation;
        self
    }

    /// What the store has opened of the selected response, if its content is remote.
    pub(crate) fn having_opened(mut self, opened: OpenedOnce) -> Self {
        self.ask.opened = opened;
        self
    }

    pub(crate) async fn run<I, Q, B>(mut self, inner: I, body: Q) -> Result<Response<CacheBody<B>>, I::Error>
    where
        I: Service<Request<Q>, Response = Response<B>>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let outgoing = self.outgoing();
        let is_conditional = validation::is_conditional(&outgoing.headers);
        let method = outgoing.method.clone();
        let Some(permit) = self.leave().await else {
            if let Some(leader) = self.ask.leader.take() {
                leader.publish(CallResult::Overloaded);
            }
            let collapsed = self.ask.collapsed;
            return Ok(match self.fallback {
                Fallback::StaleIfError => self.stand_in(Detail::CallLimit, None),
                Fallback::Forbidden | Fallback::None => self.core.overloaded(self.ask.forward, collapsed),
            });
        };
        self.ask.permit = permit;
        self.ask.query.now = self.core.clock.now(); // the call begins here, however long the request has waited
        let mut response = inner.oneshot(Request::from_parts(outgoing, body)).await;
        if let Ok(response) = &mut response {
            framing::repair(&method, response.status(), response.headers_mut());
            if let Some(validation) = &self.ask.validation
                && !is_server_error(response.status())
            {
                validation.succeed();
            }
        }
        match response {
            Err(error) => match self.fallback {
                Fallback::StaleIfError => Ok(self.stand_in(Detail::StaleIfError, None)),
                Fallback::Forbidden => {
                    let detail = Some(Detail::ServiceFailed);
                    let outcome = Forwarding { detail, ..Forwarding::new(self.ask.forward) };
                    Ok(self.core.no_content(StatusCode::GATEWAY_TIMEOUT, &outcome.into()))
                }
                Fallback::None => Err(error),
            },
            Ok(response) if self.fallback == Fallback::StaleIfError && is_failure(response.status()) => {
                Ok(self.stand_in(Detail::StaleIfError, Some(response.status())))
            }
            Ok(response) if self.completion.is_some() && is_about_a_part(response.status()) => {
                Ok(Box::pin(self.complete(response)).await)
            }
            Ok(response) if response.status() == StatusCode::NOT_MODIFIED && !is_conditional => {
                let (not_modified, body) = response.into_parts();
                Ok(self.not_modified_unexpectedly(not_modified, body))
            }
            Ok(response) if response.status() == StatusCode::NOT_MODIFIED && self.asks_conditionally() => {
                Ok(Box::pin(self.freshen(response)).await)
            }
            Ok(response) if self.is_head_about_stored(&response) => match self.agreement(&response) {
                Agreement::Holds => Ok(Box::pin(self.freshen_selected(response)).await),
                agreement => {
                    let response = Box::pin(self.heed_head(agreement, response)).await;
                    Ok(receive::receive(self.core, self.store, self.ask, response).await)
                }
            },
            Ok(response) => Ok(receive::receive(self.core, self.store, self.ask, response).await),
        }
    }

    /// CallPermit to make the call. It is waited for only where a client waits and there is nothing else for it.
    async fn leave(&self) -> Option<CallPermit> {
        let (calls, key) = (&self.core.gauges.calls, Some(&self.ask.query.key));
        if self.fallback == Fallback::StaleIfError || self.ask.validation.is_some() {
            return calls.try_begin(key);
        }
        match calls.try_begin(key) {
            Some(permit) => Some(permit),
            None => Box::pin(calls.begin(key)).await,
        }
    }

    /// The request as it goes to the inner service.
    fn outgoing(&self) -> Parts {
        let mut parts = self.ask.query.request.clone();
        parts.method = self.ask.sent_method.clone();
        if let Some(completion) = &self.completion {
            completion.set_range(&mut parts.headers);
        } else if self.replaces_conditions() {
            let selected = self.selected.and_then(|index| self.validators().nth(index));
            validation::set_conditions(&mut parts.headers, selected, self.validators());
            if self.ask.sent_range == SentRange::Clients {
                // A part that does not hold any more is worth its like, not the whole.
                let range = self.ask.query.request.headers.get(header::RANGE);
                parts.headers.extend(range.map(|range| (header::RANGE, range.clone())));
            }
        }
        self.core.policy.forward(&mut parts);
        framing::repair_request(&mut parts.headers);
        self.core.mark(&mut parts);
        key::leave(&mut parts);
        parts
    }

    /// Whether the request goes out with the cache's own conditions, or none, in place of the client's.
    fn replaces_conditions(&self) -> bool {
        self.core.storing
            && self.completion.is_none()
            && (self.ask.sent_range == SentRange::None || self.selected.is_some())
    }

    /// Whether a 304 speaks of what is stored.
    fn asks_conditionally(&self) -> bool {
        self.replaces_conditions() && self.validators().any(|validators| validators.any())
    }

    /// Chooses the validators that go out: all of the selected response, and the strong tags of other responses that could
    /// answer this request. So a 304 is always about something that the request may have. A part counts only if it was
    /// selected.
    fn asked_by(&self) -> Vec<AskedBy> {
        let query = &self.ask.query;
        if self.core.unreliable.validations.has(&query.key, query.now) {
            return Vec::new();
        }
        let asked_by = |(index, stored): (usize, &Stored)| {
            let head = stored.response.head();
            if !query.may_have(&self.core, head) {
                AskedBy::Nothing
            } else if self.selected == Some(index) {
                AskedBy::All
            } else if head.part.is_none() && !stored.response.payload().is_remote() {
                AskedBy::StrongTag // nobody has opened what is remote
            } else {
                AskedBy::Nothing
            }
        };
        self.lookup.variants.iter().enumerate().map(asked_by).collect()
    }

    fn validators(&self) -> impl Iterator<Item = Validators<'_>> + Clone {
        self.lookup.variants.iter().zip(&self.validators).map(|(stored, asked_by)| match asked_by {
            AskedBy::All => stored.response.head().validators(),
            AskedBy::Nothing => Validators::default(),
            AskedBy::StrongTag => stored.response.head().validators().strong(),
        })
    }

    fn selected(&self) -> Option<&Stored> {
        self.lookup.variants.get(self.selected?)
    }

    /// Serves the stored response in place of a failure (RFC 5861 4).
    fn stand_in<B>(mut self, detail: Detail, status: Option<StatusCode>) -> Response<CacheBody<B>> {
        if let Some(leader) = self.ask.leader.take() {
            leader.publish(CallResult::Failed(status));
        }
        let FetchContext { collapsed, forward, query, .. } = &*self.ask;
        let forwarding =
            Forwarding { collapsed: *collapsed, detail: Some(detail), status, ..Forwarding::new(*forward) };
        let opened = self.ask.opened.take();
        self.core.stand_in(self.selected(), &query.request, query.fields, forwarding, opened)
    }
}

/// The best that is stored for a request, as far as errors are concerned.
fn good(query: &CacheRequest, lookup: &Lookup) -> Incumbent {
    let selects = |stored: &&Stored| stored.response.head().reuse.selecting.matches(&query.request.headers);
    Incumbent::of(lookup.variants.iter().filter(selects), query.now)
}

/// Whether a status makes sense for a part only, or for who has one.
fn is_about_a_part(status: StatusCode) -> bool {
    matches!(status.as_u16(), 206 | 304 | 412 | 416)
}
