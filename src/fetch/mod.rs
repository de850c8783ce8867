//! One call of the inner service for the cache's sake: what goes out, and what is made of what comes back.

pub(crate) mod assess;
pub(crate) mod collapsed;
pub(crate) mod receive;
pub(crate) mod write;

mod complete;
mod drive;
mod validate;

use std::sync::Arc;

use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body;
use tower::{Service, ServiceExt};

use crate::body::CacheBody;
use crate::collapse::background::ValidationPermit;
use crate::collapse::{CallResult, Leader};
use crate::entry::key;
use crate::entry::partial::Completion;
use crate::error::BoxError;
use crate::fetch::assess::{FetchContext, as_incumbent};
use crate::limits::calls::CallPermit;
use crate::respond::request::CacheRequest;
use crate::semantics::cache_status::{Detail, Forwarding};
use crate::semantics::framing;
use crate::semantics::head::{self, Agreement};
use crate::semantics::incumbent::Incumbent;
use crate::semantics::outgoing::{self, AskedBy};
use crate::semantics::range::SentRange;
use crate::semantics::received::{Received, Sent};
use crate::semantics::reuse::{Fallback, Forward, Reuse};
use crate::semantics::status::is_server_error;
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
        fallback.with_stored(lookup.variants.get(index).map(|stored| stored.response.head().status))
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
        let is_whole = |index: usize| {
            lookup.variants.get(index).is_some_and(|stored| stored.response.head().part.is_none())
        };
        let sent_range = SentRange::of(
            &query.request.method,
            query.fields.range,
            completion.is_some(),
            selected.is_some_and(is_whole),
        );
        let rules = core.policy.rules();
        let sent_method = head::sent_method(&query.request.method, selected.is_some(), core.storing, rules);
        let good = good(&query, &lookup);
        let reuses = lookup.variants.iter().map(|stored| stored.response.head().reuse());
        let at_least = Reuse::newest_from_the_future(reuses, query.now);
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
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                return match self.fallback {
                    Fallback::StaleIfError => Ok(self.stand_in(Detail::StaleIfError, None)),
                    Fallback::Forbidden => {
                        let outcome = Forwarding::new(self.ask.forward).with_detail(Detail::ServiceFailed);
                        Ok(self.core.no_content(StatusCode::GATEWAY_TIMEOUT, &outcome.into()))
                    }
                    Fallback::None => Err(error),
                };
            }
        };
        let sent = Sent {
            fallback: self.fallback,
            has_selected: self.selected.is_some(),
            has_own_conditions: self.asks_conditionally(),
            is_completion: self.completion.is_some(),
            is_conditional,
            method: &self.ask.sent_method,
        };
        Ok(match Received::of(&sent, response.status()) {
            Received::Completion => Box::pin(self.complete(response)).await,
            Received::Failure => self.stand_in(Detail::StaleIfError, Some(response.status())),
            Received::Head => match self.agreement(&response) {
                Agreement::Holds => Box::pin(self.freshen_selected(response)).await,
                agreement => {
                    let response = Box::pin(self.heed_head(agreement, response)).await;
                    receive::receive(self.core, self.store, self.ask, response).await
                }
            },
            Received::New => receive::receive(self.core, self.store, self.ask, response).await,
            Received::NotModified => Box::pin(self.freshen(response)).await,
            Received::Unexpected => {
                let (not_modified, body) = response.into_parts();
                self.not_modified_unexpectedly(not_modified, body)
            }
        })
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
            outgoing::validate(&mut parts.headers, self.ask.sent_range, selected, self.validators());
        }
        self.core.policy.forward(&mut parts);
        framing::repair_request(&mut parts.headers);
        self.core.mark(&mut parts);
        key::leave(&mut parts);
        parts
    }

    /// Whether the request goes out with the cache's own conditions, or none, in place of the client's.
    fn replaces_conditions(&self) -> bool {
        outgoing::replaces_conditions(self.core.storing, self.ask.sent_range, self.selected.is_some())
    }

    /// Whether a 304 speaks of what is stored.
    fn asks_conditionally(&self) -> bool {
        self.replaces_conditions() && self.validators().any(|validators| validators.any())
    }

    /// Chooses the validators that go out.
    fn asked_by(&self) -> Vec<AskedBy> {
        let query = &self.ask.query;
        if self.core.unreliable.validations.has(&query.key, query.now) {
            return Vec::new();
        }
        let asked_by = |(index, stored): (usize, &Stored)| {
            let head = stored.response.head();
            AskedBy::of(query.may_have(&self.core, head), self.selected == Some(index), head.part.is_some())
        };
        self.lookup.variants.iter().enumerate().map(asked_by).collect()
    }

    fn validators(&self) -> impl Iterator<Item = Validators<'_>> + Clone {
        let stored = self.lookup.variants.iter().map(|stored| stored.response.head().validators());
        stored.zip(&self.validators).map(|(own, asked_by)| asked_by.choose(own))
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
        self.core.stand_in(self.selected(), &query.request, query.fields, forwarding)
    }
}

/// The best that is stored for a request, as far as errors are concerned.
fn good(query: &CacheRequest, lookup: &Lookup) -> Incumbent {
    let selects = |stored: &&Stored| stored.response.head().reuse.selecting.matches(&query.request.headers);
    Incumbent::of(lookup.variants.iter().filter(selects).map(as_incumbent), query.now)
}
