//! What a request goes through that storage can't answer: it makes a call of the inner service, or waits for another
//! one's.
//!
//! Invariant: no byte of another request's answer is sent before its head has been judged for this request by the same
//! rules as anything that is stored.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use tower::Service;

use crate::body::CacheBody;
use crate::body::flight::Flight;
use crate::collapse::background::ValidationPermit;
use crate::collapse::{Because, Call, CallResult, CollapseKey, Follower, Interest, Leader, Role};
use crate::entry::{ResponseHead, StoredResponse};
use crate::error::BoxError;
use crate::fetch::drive::{DetachedCall, Ended};
use crate::fetch::{Fetch, Purpose};
use crate::limits::key_queues::QueueTurn;
use crate::respond::request::CacheRequest;
use crate::runtime::{Deadline, Runtime, joined, moment, polled_once};
use crate::semantics::cache_status::{Detail, Forwarding, Outcome};
use crate::semantics::collapse::{NotShareable, may_collapse};
use crate::semantics::reuse::{Decision, Fallback, Forward};
use crate::semantics::status::{is_error, is_server_error};
use crate::shared::Core;
use crate::store::{Expected, Fence, Lookup, Store, Stored};

/// How often a request waits for others' calls before it makes its own in any case.
const MOST_ROUNDS: usize = 3;

/// A request on its way to an answer that is not stored.
pub(crate) struct CollapsedFetch<S> {
    core: Arc<Core>,
    deadline: Option<Deadline>,
    /// What the store is not to forget meanwhile: from before this joins, or leads, or makes a call.
    expected: Expected,
    /// How many calls that this request has waited for have failed.
    failures: u32,
    forward: Forward,
    /// This request has waited for a call whose answer was stored without being fresh.
    has_seen_stale: bool,
    has_waited: bool,
    lookup: Lookup,
    purpose: Purpose,
    /// Boxed: it is large, and goes from hand to hand.
    query: Box<CacheRequest>,
    store: Arc<S>,
    validation: Option<ValidationPermit>,
}

/// What came of waiting.
enum Followed<B> {
    /// Nobody can share that: at once a call of its own.
    Alone,
    Answer(Response<CacheBody<B>>),
    /// Another call may do, or this one's.
    Again,
    /// Two calls were in vain: it makes a call of its own when its turn comes.
    InTurn,
    /// The call takes too long: all who wait make another one together.
    Late(Arc<Call>),
}

impl<S: Store> CollapsedFetch<S> {
    pub(crate) fn new(
        core: Arc<Core>,
        store: Arc<S>,
        query: CacheRequest,
        lookup: Lookup,
        forward: Forward,
        purpose: Purpose,
    ) -> Self {
        Self {
            core,
            deadline: None,
            expected: Expected::default(),
            failures: 0,
            forward,
            has_seen_stale: false,
            has_waited: false,
            lookup,
            purpose,
            query: Box::new(query),
            store,
            validation: None,
        }
    }

    /// Keeps others from validating behind until what comes of this is stored.
    pub(crate) fn holding(mut self, validation: ValidationPermit) -> Self {
        self.validation = Some(validation);
        self
    }

    pub(crate) async fn run<I, Q, B>(mut self, inner: I, body: Q) -> Result<Response<CacheBody<B>>, I::Error>
    where
        I: Service<Request<Q>, Response = Response<B>> + Send + 'static,
        I::Future: Send,
        I::Error: Send,
        Q: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        self.expect();
        let Some(mut ticket) = self.ticket() else {
            return self.call(None, inner, body).await;
        };
        let mut rounds = 0;
        let mut role = self.join(&ticket).await;
        let is_alone = loop {
            match role {
                Role::Leader(leader) => {
                    if let Some(answer) = self.look_again(Some(&leader)).await {
                        return Ok(answer);
                    }
                    let leader = leader.after_failure(self.failures > 0);
                    return self.call(Some(leader), inner, body).await;
                }
                Role::Follow(follower) => match self.follow(follower, &mut ticket).await {
                    Followed::Again => rounds += 1,
                    Followed::Alone => break true,
                    Followed::Answer(answer) => return Ok(answer),
                    Followed::InTurn => break false,
                    Followed::Late(call) => {
                        role = self.supersede(&ticket, &call, Because::Late);
                        continue;
                    }
                },
                Role::Alone | Role::Outdated(_) => break true,
            }
            if rounds == MOST_ROUNDS {
                break false;
            }
            role = self.join(&ticket).await;
        };
        // Many have waited, and what one of them gets may do for all the others, so they go a few at a time.
        let turn = if is_alone { None } else { self.turn().await };
        if self.has_waited
            && let Some(answer) = self.look_again(None).await
        {
            return Ok(answer);
        }
        let wait = self.core.gauges.limits.wait;
        let answer = self.call(None, inner, body).await;
        if let Some((turn, waited)) = turn {
            // An origin that fails gets no more load for longer.
            let is_failure = answer.as_ref().map_or(true, |answer| is_server_error(answer.status()));
            if waited > if is_failure { wait * 4 } else { wait } {
                turn.widen();
            }
        }
        answer
    }

    /// Waits for its turn among the requests whose waiting was in vain. Returns how long that took.
    async fn turn(&self) -> Option<(QueueTurn, Duration)> {
        let begun = moment();
        let turn = self.core.gauges.retries.as_ref()?.turn(&self.query.key).await;
        Some((turn, moment().duration_since(begun)))
    }

    /// Purges from now on count for what this request brings, and for what it finds.
    fn expect(&mut self) {
        if self.core.storing {
            self.expected = self.store.expect(&self.query.key);
        }
    }

    fn fence(&self) -> Fence {
        self.expected.fence().unwrap_or(self.lookup.fence)
    }

    /// What this request has in common with others that may share a call; `None` where nobody could share it.
    fn ticket(&self) -> Option<CollapseKey> {
        let CacheRequest { directives, fields, key, request, .. } = &*self.query;
        let is_completion = matches!(self.purpose, Purpose::Complete(_));
        let about_part = self.selected().is_some_and(|stored| stored.response.head().part.is_some());
        let may_collapse = may_collapse(
            &request.method,
            fields.range,
            directives,
            matches!(self.purpose, Purpose::Validate(..)),
            is_completion || about_part,
            self.core.policy.rules(),
        );
        // Without tasks, a call depends on its client.
        if !may_collapse || !self.core.storing || Runtime::current().is_none() {
            return None;
        }
        let known = match self.purpose {
            Purpose::Validate(index, _) => self.lookup.variants.get(index),
            _ => self.lookup.variants.first(),
        };
        let selecting = known.map(|stored| &stored.response.head().reuse().selecting);
        let variant = selecting.and_then(|selecting| selecting.signature(&request.headers));
        Some(CollapseKey { key: key.clone(), variant })
    }

    async fn join(&self, ticket: &CollapseKey) -> Role {
        let (collapser, fence) = (&self.core.collapser, self.fence());
        let has_credentials = self.query.unkeyed().any();
        let now = self.core.clock.now();
        let follower = match collapser.join(ticket, has_credentials, fence, now) {
            Role::Follow(follower) => follower,
            // Requests that come after a purge do not get what was asked for before it.
            Role::Outdated(call) if self.store.is_untouched(&ticket.key, true, call.fence()).await => {
                collapser.follow(&call)
            }
            Role::Outdated(call) => return self.supersede(ticket, &call, Because::Older),
            role => return role,
        };
        match self.wants_another(follower.call(), now) {
            Some(because) => self.supersede(ticket, follower.call(), because),
            None => Role::Follow(follower),
        }
    }

    fn supersede(&self, ticket: &CollapseKey, call: &Arc<Call>, because: Because) -> Role {
        let (has_credentials, now) = (self.query.unkeyed().any(), self.core.clock.now());
        self.core.collapser.supersede(ticket, has_credentials, self.fence(), now, call, because)
    }

    /// NotShareable this request needs another call than the one that it could join; `None` if it does not.
    fn wants_another(&self, call: &Call, now: SystemTime) -> Option<Because> {
        // A reload does not get what the origin said before it (RFC 9111 5.2.1.4).
        let is_reload = self.query.directives.no_cache;
        let is_older = (is_reload && call.has_result()).then_some(Because::Older);
        is_older.or_else(|| call.has_stalled(now, self.core.gauges.limits.wait))
    }

    /// Looks into the store again: between the first look and the leader, another call may have come to its end.
    async fn look_again<B>(&mut self, leader: Option<&Leader>) -> Option<Response<CacheBody<B>>> {
        if self.has_waited {
            self.expect();
        }
        let looked_up = match self.store.try_again(&self.query.key) {
            None if self.has_waited => self.store.get(&self.query.key).await.ok(),
            looked_up => looked_up,
        };
        if self.has_waited {
            // What has come in meanwhile lies in the future of the request's arrival.
            self.query.now = self.core.clock.now();
        }
        self.lookup = looked_up?;
        match self.query.decide(&self.core, &self.lookup) {
            // This is the validation behind it.
            Decision::ServeAhead(index) | Decision::ServeStale(index) if self.validation.is_some() => {
                (self.forward, self.purpose) = (Forward::Stale, Purpose::Validate(index, Fallback::None));
            }
            Decision::Serve(index) | Decision::ServeAhead(index) | Decision::ServeStale(index) => {
                let stored = &self.lookup.variants[index];
                // What was purged softly is fresh to nobody, as its head would say.
                if let Some(leader) = leader
                    && stored.expired.is_none()
                    && stored.response.head().part.is_none()
                {
                    leader.publish(CallResult::Whole(stored.response.clone()));
                }
                if let Some(validation) = &self.validation {
                    validation.succeed();
                }
                if self.has_waited {
                    self.core.gauges.collapsed();
                }
                return Some(self.query.hit(&self.core, stored, None));
            }
            Decision::Complete(index) => {
                (self.forward, self.purpose) = (Forward::Partial, Purpose::Complete(index));
            }
            Decision::Forward(forward) => (self.forward, self.purpose) = (forward, Purpose::Get),
            Decision::Validate(index, forward, fallback) => {
                // What is validated behind has no fallback, whoever asks.
                let fallback = if self.validation.is_some() { Fallback::None } else { fallback };
                (self.forward, self.purpose) = (forward, Purpose::Validate(index, fallback));
            }
            Decision::Unsatisfiable => {}
        }
        None
    }

    /// Waits for another one's call.
    async fn follow<B>(&mut self, mut follower: Follower, ticket: &mut CollapseKey) -> Followed<B> {
        self.has_waited = true;
        let budget = self.budget();
        let limit = budget.unwrap_or(self.core.gauges.limits.wait);
        let late = budget.map_or(Detail::StaleIfError, |_| Detail::LatencyBudget);
        // One for all that it waits.
        let deadline = self.deadline.get_or_insert_with(|| Deadline::new(limit));
        let Some(result) = deadline.in_time(follower.result()).await else {
            return match self.fallback() {
                Fallback::StaleIfError => Followed::Answer(self.stand_in(late, None)),
                Fallback::Forbidden | Fallback::None => {
                    self.deadline = None;
                    Followed::Late(Arc::clone(follower.call()))
                }
            };
        };
        if let CallResult::Streaming(head, flight, is_tagged) = &result
            && self.waits_for_whole(head, flight, *is_tagged)
            && let Some(reader) = flight.join()
        {
            let deadline = self.deadline.get_or_insert_with(|| Deadline::new(limit));
            match (deadline.in_time(reader.settled()).await, self.fallback()) {
                (Some(true), _) => return Followed::Again, // storage can give the answer
                (None, Fallback::StaleIfError) => return Followed::Answer(self.stand_in(late, None)),
                (Some(false), Fallback::StaleIfError) => {
                    return Followed::Answer(self.stand_in(Detail::StaleIfError, None));
                }
                (Some(false), _) => return Followed::Again,
                (None, _) => {} // what can be shared is shared all the same
            }
        }
        let shared = match &result {
            CallResult::NotShareable(NotShareable::Chance { .. }) => return self.followed_a_failure(),
            CallResult::Error(_) if self.query.unkeyed().any() => return self.followed_a_failure(),
            CallResult::Error(response) => {
                let outcome = Forwarding { collapsed: Some(true), ..Forwarding::new(self.forward) };
                Some(self.answer_collapsed(response, &outcome.into(), self.core.clock.now()))
            }
            CallResult::NotShareable(NotShareable::Request) if !self.query.unkeyed().any() => {
                return Followed::Again;
            }
            CallResult::NotShareable(_) | CallResult::Pending => return Followed::Alone,
            CallResult::Overloaded => {
                return Followed::Answer(match self.fallback() {
                    Fallback::StaleIfError => self.stand_in(Detail::CallLimit, None),
                    Fallback::Forbidden | Fallback::None => self.core.overloaded(self.forward, Some(true)),
                });
            }
            CallResult::Failed(status) if self.fallback() == Fallback::StaleIfError => {
                return Followed::Answer(self.stand_in(Detail::StaleIfError, *status));
            }
            CallResult::Failed(_) => return self.followed_a_failure(),
            CallResult::Streaming(head, flight, _) => self.share_flight(head, flight),
            CallResult::Validated(response) => self.share(response, true),
            CallResult::Whole(response) => self.share(response, false),
        };
        if let Some(answer) = shared {
            self.core.gauges.collapsed();
            if let Some(validation) = &self.validation {
                validation.succeed();
            }
            return Followed::Answer(answer);
        }
        let head = match &result {
            CallResult::Streaming(head, ..) => head,
            CallResult::Validated(response) | CallResult::Whole(response) => response.head(),
            _ => return Followed::Alone,
        };
        // Another variant: those that want the same one find each other by what selects it.
        let variant = head.reuse().selecting.signature(&self.query.request.headers);
        let is_other = !head.reuse().selecting.matches(&self.query.request.headers);
        if is_other && variant != ticket.variant {
            ticket.variant = variant;
            return Followed::Again;
        }
        // The answer is stored without being fresh. An error counts as a failure, as one that is not stored does. Anything
        // else is validated once for all who came while nothing was stored.
        let is_error = is_error(head.status());
        let is_news = self.lookup.variants.is_empty() && !std::mem::replace(&mut self.has_seen_stale, true);
        if is_error || (is_news && head.validators().any() && self.query.request.method == Method::GET) {
            if let CallResult::Streaming(_, flight, _) = &result
                && let Some(reader) = flight.join()
            {
                // The validation has to find it in the store.
                let deadline = self.deadline.get_or_insert_with(|| Deadline::new(limit));
                deadline.in_time(reader.settled()).await;
            }
            return if is_error { self.followed_a_failure() } else { Followed::Again };
        }
        Followed::Alone
    }

    /// A call has failed, by an error, a panic, or an answer that is for its own request alone. One more call is made for all
    /// that waited; if that fails, too, they go a few at a time.
    fn followed_a_failure<B>(&mut self) -> Followed<B> {
        self.failures += 1;
        if self.failures == 1 { Followed::Again } else { Followed::InTurn }
    }

    /// The answer from a response that another one's call has brought, if this request may have it.
    fn share<B>(&self, response: &StoredResponse, is_validated: bool) -> Option<Response<CacheBody<B>>> {
        let now = self.core.clock.now();
        if !self.query.may_share(&self.core, response, is_validated, now) {
            return None;
        }
        Some(self.answer_collapsed(response, &self.collapsed(response.head(), now), now))
    }

    fn answer_collapsed<B>(
        &self,
        response: &StoredResponse,
        outcome: &Outcome,
        now: SystemTime,
    ) -> Response<CacheBody<B>> {
        self.core.answer(response, &self.query.request, self.query.fields, outcome, now)
    }

    /// Whether the answer to this request has to be made of the whole of what is on its way, and that is soon there.
    fn waits_for_whole(&self, head: &ResponseHead, flight: &Flight, is_tagged: bool) -> bool {
        let is_small = flight.declared().is_some_and(|length| length <= self.core.small());
        is_small
            && head.part.is_none()
            && self.query.needs_whole(is_tagged)
            && !self.query.directives.no_cache
            && self.query.may_share_head(&self.core, head, false, self.core.clock.now())
    }

    fn share_flight<B>(&self, head: &ResponseHead, flight: &Arc<Flight>) -> Option<Response<CacheBody<B>>> {
        let now = self.core.clock.now();
        // What is not there yet can't be cut.
        let is_part = head.part.is_some();
        if is_part || self.query.fields.range || !self.query.may_share_head(&self.core, head, false, now) {
            return None;
        }
        let reader = flight.join()?;
        let outcome = self.collapsed(head, now);
        let CacheRequest { fields, request, .. } = &*self.query;
        Some(self.core.answer_from_flight(head, reader, request, *fields, &outcome, now))
    }

    fn collapsed(&self, head: &ResponseHead, now: SystemTime) -> Outcome {
        Outcome::Forwarded(Forwarding {
            collapsed: Some(true),
            stored: true,
            ttl: Some(head.reuse().ttl(now)),
            ..Forwarding::new(self.forward)
        })
    }

    /// What stands in when a validation fails.
    fn fallback(&self) -> Fallback {
        self.purpose.fallback(&self.lookup)
    }

    /// How long an answer is waited for, where a stored one may stand in.
    fn budget(&self) -> Option<Duration> {
        self.core.policy.rules().latency_budget.filter(|_| self.fallback() == Fallback::StaleIfError)
    }

    /// The stored response that it is about.
    fn selected(&self) -> Option<&Stored> {
        self.lookup.variants.get(self.purpose.selected()?)
    }

    fn stand_in<B>(&self, detail: Detail, status: Option<StatusCode>) -> Response<CacheBody<B>> {
        let CacheRequest { fields, request, .. } = &*self.query;
        // It has waited for another one's call.
        let forwarding = Forwarding {
            collapsed: Some(true),
            detail: Some(detail),
            status,
            ..Forwarding::new(self.forward)
        };
        self.core.stand_in(self.selected(), request, *fields, forwarding)
    }

    /// Makes the call. One that others wait for, or that may outlast its client, is driven by a task of its own.
    fn call<I, Q, B>(
        self,
        leader: Option<Leader>,
        inner: I,
        body: Q,
    ) -> impl Future<Output = Result<Response<CacheBody<B>>, I::Error>> + Send
    where
        I: Service<Request<Q>, Response = Response<B>> + Send + 'static,
        I::Future: Send,
        I::Error: Send,
        Q: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let budget = self.budget();
        let fields = self.query.fields;
        // The call takes the request with it.
        let stand_in = budget.map(|_| (self.query.request.clone(), self.selected().cloned()));
        let core = Arc::clone(&self.core);
        let forward = self.forward;
        let call = match (&leader, budget) {
            (None, None) => None,
            // Nobody can join it, but it may outlast its client all the same.
            (None, Some(_)) => Some(Call::new(self.fence(), self.query.now)),
            (Some(leader), _) => Some(Arc::clone(leader.call())),
        };
        let deadline = budget.map(|budget| self.deadline.unwrap_or_else(|| Deadline::new(budget)));
        let interest = call.as_ref().map(Interest::of_leader);
        let collapsed = self.has_waited.then_some(false);
        let fetch = Fetch::new(self.core, self.store, self.query, self.lookup, self.forward, self.purpose);
        let fetch = fetch.expecting(self.expected).leading(leader, collapsed, self.validation);
        let runtime = call.as_ref().and_then(|_| Runtime::current());
        // Boxed: it is large, and what waits for it is moved about.
        let mut future = Box::pin(fetch.run(inner, body));
        async move {
            let (Some(call), Some(runtime)) = (call, runtime) else {
                return future.await;
            };
            // What is there at once needs no task.
            if let Some(answer) = polled_once(future.as_mut()).await {
                return answer;
            }
            let driven = DetachedCall::new(call, future, Arc::clone(&core.gauges));
            let task = joined(runtime.spawn(driven));
            let answer = match (deadline, stand_in) {
                (Some(mut deadline), Some((request, stored))) => match deadline.in_time(task).await {
                    Some(answer) => answer,
                    None => {
                        let detail = Some(Detail::LatencyBudget);
                        let forwarding = Forwarding { detail, ..Forwarding::new(forward) };
                        return Ok(core.stand_in(stored.as_ref(), &request, fields, forwarding));
                    }
                },
                _ => task.await,
            };
            drop(interest);
            match answer {
                Some(Ended::Done(answer)) => answer,
                Some(Ended::Panicked(panic)) => resume_unwind(panic),
                // The runtime shuts down; nobody deserts a call that is waited for here.
                Some(Ended::Deserted) | None => {
                    Ok(core.no_content(StatusCode::BAD_GATEWAY, &Outcome::forwarded(forward)))
                }
            }
        }
    }
}
