//! One call of the inner service for the cache's sake: what goes out, and what is made of what comes back.

pub(crate) mod collapsed;
pub(crate) mod exchange;
pub(crate) mod resume;

pub(crate) mod assess;
mod complete;
mod drive;
mod lease;
mod receive;
mod share;
mod stream;
mod validate;
mod waited;
mod write;

use std::time::{Duration, SystemTime};

use http::header::HeaderMap;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use tower::{Service, ServiceExt};

use self::exchange::{Exchange, Goal, as_incumbent};
use crate::body::incoming::{self, Incoming};
use crate::collapse::{CallResult, NotShareable};
use crate::entry::Part;
use crate::entry::key;
use crate::entry::partial::Completion;
use crate::error::BoxError;
use crate::limits::calls::CallPermit;
use crate::observe::span::{Cause, FetchSpan};
use crate::observe::{Answer, Event};
use crate::respond::no_content;
use crate::respond::request::CacheRequest;
use crate::runtime::moment;
use crate::semantics::cache_status::{Detail, Forwarding};
use crate::semantics::framing;
use crate::semantics::head::{self, Agreement};
use crate::semantics::incumbent::Incumbent;
use crate::semantics::methods::may_be_conditional;
use crate::semantics::outgoing::{self, AskedBy};
use crate::semantics::range::SentRange;
use crate::semantics::received::{Received, SentView};
use crate::semantics::reuse::{Fallback, Reuse};
use crate::semantics::status::{is_failure, is_server_error};
use crate::semantics::validation::{self, Validators};
use crate::shared::Core;
use crate::store::{Lookup, Store, Stored};

/// A service that can stand behind the cache: the bounds of [`CacheService`](crate::CacheService), once.
pub(crate) trait InnerService<Q>:
    Service<Request<Q>, Response = Response<Self::Body>, Future: Send, Error: Send + 'static>
    + Clone
    + Send
    + 'static
{
    type Body: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
}

impl<I, Q, B> InnerService<Q> for I
where
    I: Service<Request<Q>, Response = Response<B>, Future: Send, Error: Send + 'static>
        + Clone
        + Send
        + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Body = B;
}

/// One call of the inner service for the cache's sake.
pub(crate) struct Fetch<S> {
    exchange: Box<Exchange<S>>,
    sent: Box<Sent>,
}

/// What the inner service was asked, as far as the meaning of its answer depends on it.
struct Sent {
    /// The status of the inner service's answer, where it is not that of the response that was made of it.
    answered: Option<StatusCode>,
    /// By the positions of what is stored.
    asked_by: Vec<AskedBy>,
    /// The answer counts as at least this new: as what is stored with times in the future, where the clock was set back.
    at_least: Option<(SystemTime, SystemTime)>,
    /// The request for the bytes that a stored part lacks.
    completion: Option<Completion>,
    /// The fields of the request as it was sent, where the policy wants to see them.
    fields: Option<HeaderMap>,
    /// What is stored that an error must not replace.
    incumbent: Incumbent,
    /// The response is made of a stored part and of what was missing of it.
    is_completed: bool,
    /// The method as it was sent: a HEAD can go out as a GET.
    method: Method,
    /// The response is to a POST, and names the target URI in `Content-Location`.
    names_target: bool,
    /// What a 206 has of the representation, where it can be stored.
    part: Option<Part>,
    range: SentRange,
}

impl Sent {
    /// A POST whose answer may answer later GETs.
    fn post() -> Self {
        Self {
            answered: None,
            asked_by: Vec::new(),
            at_least: None,
            completion: None,
            fields: None,
            incumbent: Incumbent::None,
            is_completed: false,
            method: Method::POST,
            names_target: true,
            part: None,
            range: SentRange::None,
        }
    }

    fn of<S: Store>(exchange: &Exchange<S>) -> Self {
        let Exchange { lookup, plan, request, .. } = exchange;
        let (method, selected) = (&request.parts.method, exchange.selected());
        let is_about_whole = selected.is_some_and(|stored| stored.response.head().part.is_none());
        let completion = match plan.goal {
            Goal::Complete(_) => selected
                .and_then(|stored| Completion::of(&stored.response, &request.parts.headers, request.fields)),
            Goal::Get | Goal::Validate(_) => None,
        };
        let (has_selected, rules) = (plan.selected().is_some(), request.rules());
        let reuses = lookup.variants.iter().map(|stored| stored.response.head().reuse());
        Self {
            answered: None,
            asked_by: Vec::new(),
            at_least: Reuse::newest_from_the_future(reuses, request.now),
            fields: None,
            incumbent: incumbent(request, lookup),
            is_completed: false,
            method: head::sent_method(method, has_selected, rules),
            names_target: false,
            part: None,
            range: SentRange::of(method, request.fields.range, completion.is_some(), is_about_whole),
            completion,
        }
    }
}

impl<S: Store> Fetch<S> {
    pub(crate) fn new(exchange: Box<Exchange<S>>) -> Self {
        let sent = Box::new(Sent::of(&exchange));
        let mut fetch = Self { exchange, sent };
        if fetch.replaces_conditions() {
            fetch.sent.asked_by = fetch.asked_by();
        }
        fetch
    }

    /// What is made of the answer to a POST, which may answer later GETs.
    pub(crate) async fn receive_post(exchange: Box<Exchange<S>>, response: Response<Incoming>) -> Answer {
        let sent = Box::new(Sent::post());
        Self { exchange, sent }.receive(response).await
    }

    fn core(&self) -> &Core {
        &self.exchange.shared.core
    }

    pub(crate) async fn run<I, Q>(mut self, inner: I, body: Q) -> Result<Answer, I::Error>
    where
        I: InnerService<Q>,
    {
        let outgoing = self.outgoing();
        if self.exchange.request.policy.hooks.needs_sent_fields() {
            self.sent.fields = Some(outgoing.headers.clone());
        }
        let is_conditional = validation::is_conditional(&outgoing.headers);
        let cause = std::mem::take(&mut self.exchange.cause);
        let Some(permit) = self.permit().await else {
            return Ok(self.overloaded());
        };
        self.exchange.request.now = self.core().clock.now(); // the call begins here, however long the request has waited
        // Where nobody wants to know, no time is taken.
        let begun = self.core().reporter.measures().then(moment);
        let method = outgoing.method.clone();
        let span = self.span(cause);
        let response = span.around(inner.oneshot(Request::from_parts(outgoing, body))).await;
        self.end(span, response.as_ref().ok().map(Response::status));
        let elapsed = begun.map(|begun| moment().duration_since(begun));
        if let Some(elapsed) = elapsed {
            self.report(elapsed, response.as_ref().ok().map(Response::status));
        }
        let response = match response {
            Ok(response) => incoming::received(response, &method, permit),
            Err(error) => {
                self.rest(None);
                return self.failed().ok_or(error);
            }
        };
        Ok(Answer { origin: elapsed, ..self.answered(response, is_conditional).await })
    }

    /// The span of the call, which those that wait for it learn of.
    fn span(&self, cause: Cause) -> FetchSpan {
        let Exchange { background, leader, plan, request, .. } = &*self.exchange;
        let (method, uri) = (&self.sent.method, request.key.uri());
        let span = FetchSpan::begin(cause, method, uri, plan.forward, background.is_some());
        if let Some(leader) = leader {
            leader.call().waiting_spans.begin(&span);
        }
        span
    }

    fn end(&self, span: FetchSpan, status: Option<StatusCode>) {
        span.end(status);
        if let Some(leader) = &self.exchange.leader {
            leader.call().waiting_spans.end();
        }
    }

    /// Reports that the inner service has answered, or failed.
    fn report(&self, elapsed: Duration, status: Option<StatusCode>) {
        let Exchange { background, plan, request, shared, .. } = &*self.exchange;
        shared.core.reporter.event(&Event::Fetched {
            elapsed,
            forward: plan.forward,
            is_background: background.is_some(),
            key: &request.key,
            status,
        });
    }

    /// What is made of an answer: it stands for a failure, validates, completes or replaces what is stored.
    async fn answered(mut self, response: Response<Incoming>, is_conditional: bool) -> Answer {
        let status = response.status();
        if let Some(background) = &self.exchange.background
            && !is_server_error(status)
        {
            background.succeed();
        }
        if is_failure(status) {
            self.rest(Some(status));
        } else if self.exchange.selected().is_some() {
            self.core().resting.forget(&self.exchange.request.key);
        }
        let sent = SentView {
            fallback: self.exchange.plan.fallback,
            has_selected: self.exchange.plan.selected().is_some(),
            has_own_conditions: self.asks_conditionally(),
            is_completion: self.sent.completion.is_some(),
            is_conditional,
            method: &self.sent.method,
        };
        match Received::of(&sent, status) {
            Received::Completion => Box::pin(self.complete(response)).await,
            Received::Failure => self.stand_in(Detail::StaleIfError, Some(status)),
            Received::Head => match self.agreement(&response) {
                Agreement::Holds => Box::pin(self.freshen_selected(response)).await,
                agreement => {
                    let response = Box::pin(self.heed_head(agreement, response)).await;
                    self.receive(response).await
                }
            },
            Received::New => self.receive(response).await,
            Received::NotModified => Box::pin(self.freshen(response)).await,
            Received::Unexpected => self.not_modified_unexpectedly(response.into_parts().0),
        }
    }

    /// Leaves the inner service alone for a while after a failure, where a stored response can answer meanwhile.
    fn rest(&mut self, status: Option<StatusCode>) {
        let Exchange { background, request, .. } = &*self.exchange;
        if self.exchange.stands_in() || (background.is_some() && self.exchange.selected().is_some()) {
            let span = request.rules().rest_after_failure.after(status);
            self.core().resting.remember_for(&request.key, self.core().clock.now(), span);
            if let Some(leader) = &mut self.exchange.leader {
                leader.fail(span);
            }
        }
    }

    /// Answers where the call has failed; `None` where the failure is the answer.
    fn failed(self) -> Option<Answer> {
        match self.exchange.plan.fallback {
            Fallback::StaleIfError => Some(self.stand_in(Detail::StaleIfError, None)),
            Fallback::Forbidden => {
                let detail = Some(Detail::ServiceFailed);
                let outcome = Forwarding { detail, ..Forwarding::new(self.exchange.plan.forward) };
                Some(no_content(StatusCode::GATEWAY_TIMEOUT, outcome))
            }
            Fallback::None => None,
        }
    }

    /// Answers where the call can't be made, because as many as may be are under way.
    fn overloaded(mut self) -> Answer {
        if let Some(leader) = self.exchange.leader.take() {
            leader.publish(CallResult::Overloaded);
        }
        if self.exchange.stands_in() {
            self.stand_in(Detail::CallLimit, None)
        } else {
            self.core().overloaded(self.exchange.plan.forward, self.exchange.collapsed)
        }
    }

    /// Leave to make the call. It is waited for only where a client waits and there is nothing else for it.
    async fn permit(&self) -> Option<CallPermit> {
        let (calls, key) = (&self.core().gauges.calls, Some(&self.exchange.request.key));
        let permit = calls.try_begin(key);
        let waits = !self.exchange.stands_in() && self.exchange.background.is_none();
        if permit.is_none() && waits { Box::pin(calls.begin(key)).await } else { permit }
    }

    /// The request as it goes to the inner service.
    fn outgoing(&self) -> Parts {
        let client = &self.exchange.request.parts;
        let mut parts = client.clone();
        parts.method = self.sent.method.clone();
        if let Some(completion) = &self.sent.completion {
            completion.missing().ask(&mut parts.headers);
        } else if self.replaces_conditions() {
            let selected = self.exchange.plan.selected().and_then(|index| self.validators().nth(index));
            outgoing::validate(&mut parts.headers, self.sent.range, selected, self.validators());
        }
        let core = self.core();
        let is_background = self.exchange.background.is_some();
        let forward = self.exchange.plan.forward;
        self.exchange.request.policy.forward(&mut parts, forward, is_background);
        framing::repair_request(&mut parts.headers);
        core.mark(&mut parts);
        key::leave(&mut parts);
        parts
    }

    /// Whether the request goes out with the cache's own conditions, or none, in place of the client's.
    fn replaces_conditions(&self) -> bool {
        let has_selected = self.exchange.plan.selected().is_some();
        outgoing::replaces_conditions(self.sent.range, has_selected)
    }

    /// Whether a 304 speaks of what is stored.
    pub(crate) fn asks_conditionally(&self) -> bool {
        self.replaces_conditions() && self.validators().any(|validators| validators.any())
    }

    /// Chooses the validators that go out.
    fn asked_by(&self) -> Vec<AskedBy> {
        let Exchange { lookup, plan, request, .. } = &*self.exchange;
        // A POST whose condition fails gets a 412, and no 304 (RFC 9110 13.1.2).
        let may_ask = may_be_conditional(&self.sent.method) && !key::is_query_by_post(&request.parts);
        if lookup.variants.is_empty()
            || !may_ask
            || self.core().unreliable.validations.has(&request.key, request.now)
        {
            return Vec::new();
        }
        let asked_by = |(index, stored): (usize, &Stored)| {
            let (head, payload) = (stored.response.head(), stored.response.payload());
            // Nobody has opened what is remote.
            let is_at_hand = head.part.is_none() && !payload.is_remote();
            AskedBy::of(request.may_have(head), plan.selected() == Some(index), is_at_hand)
        };
        lookup.variants.iter().enumerate().map(asked_by).collect()
    }

    fn validators(&self) -> impl Iterator<Item = Validators<'_>> + Clone {
        let stored = self.exchange.lookup.variants.iter();
        let own = stored.map(|stored| stored.response.head().validators());
        own.zip(&self.sent.asked_by).map(|(own, asked_by)| asked_by.choose(own))
    }

    /// Serves the selected response in place of a failure (RFC 5861 4).
    fn stand_in(mut self, detail: Detail, status: Option<StatusCode>) -> Answer {
        if let Some(leader) = self.exchange.leader.take() {
            leader.publish(CallResult::Failed(status));
        }
        self.exchange.stand_in(detail, status)
    }

    /// Says that the answer is for nobody else. Those that wait make calls of their own.
    fn keep_apart(&mut self, reason: NotShareable, now: SystemTime, pass_for: Duration) {
        if let Some(leader) = self.exchange.leader.take() {
            leader.not_shareable(reason, now, pass_for);
        }
    }
}

/// The best that is stored for a request, as far as errors are concerned.
fn incumbent(request: &CacheRequest, lookup: &Lookup) -> Incumbent {
    let selects = |stored: &&Stored| stored.response.head().reuse.selecting.matches(&request.parts.headers);
    Incumbent::of(lookup.variants.iter().filter(selects).map(as_incumbent), request.now)
}
