//! What a request goes through that storage can't answer: it makes a call of the inner service, or waits for another
//! one's.
//!
//! Invariant: no byte of another request's answer is sent before its head has been judged for this request by the same
//! rules as anything that is stored.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};

use crate::collapse::{
    Because, Call, CallResult, CollapseKey, Follower, Interest, Leader, NotShareable, Role,
};
use crate::fetch::Fetch;
use crate::fetch::InnerService;
use crate::fetch::drive::{DetachedCall, Ended};
use crate::fetch::exchange::{Exchange, FetchPlan, Goal};
use crate::fetch::share::Unshared;
use crate::fetch::waited::{Followed, Led};
use crate::limits::key_queues::QueueTurn;
use crate::observe::Answer;
use crate::respond::no_content;
use crate::runtime::{Deadline, Runtime, joined, moment, polled_once};
use crate::semantics::cache_status::{Detail, Forwarding};
use crate::semantics::collapse::may_collapse;
use crate::semantics::reuse::{Decision, Fallback};
use crate::semantics::status::{is_error, is_server_error};
use crate::semantics::storing::NotStored;
use crate::shared::Core;
use crate::store::{PurgeScope, Store};

/// How often a request waits for others' calls before it makes its own in any case.
const MOST_ROUNDS: usize = 3;

/// A request that joins a call for the same response, or leads one.
pub(crate) struct CollapsedFetch<S> {
    pub(super) deadline: Option<Deadline>,
    pub(super) exchange: Box<Exchange<S>>,
    /// How many calls that this request has waited for have failed.
    failures: u32,
    /// This request has waited for a call whose answer was stored without being fresh.
    has_seen_stale: bool,
    /// This request has waited for as long as requests wait.
    pub(super) is_late: bool,
}

impl<S: Store> CollapsedFetch<S> {
    pub(crate) fn new(exchange: Box<Exchange<S>>) -> Self {
        Self { deadline: None, exchange, failures: 0, has_seen_stale: false, is_late: false }
    }

    /// The request, which joins no call.
    pub(crate) fn into_exchange(self) -> Box<Exchange<S>> {
        self.exchange
    }

    pub(crate) async fn run<I, Q>(mut self, inner: I, body: Q) -> Result<Answer, I::Error>
    where
        I: InnerService<Q>,
        Q: Send + 'static,
    {
        self.exchange.expect();
        let Some(mut ticket) = self.ticket() else {
            self.exchange.open_selected().await;
            return self.call(None, inner, body).await;
        };
        let mut rounds = 0;
        let mut role = self.join(&ticket).await;
        let is_alone = loop {
            match role {
                Role::Leader(leader) => {
                    if let Some(answer) = self.look_again(Some(&leader), false).await {
                        return Ok(answer);
                    }
                    let leader = match self.core().leases.clone() {
                        None => leader,
                        Some(leases) => match Box::pin(self.lead(leader, &*leases)).await {
                            Led::Alone => break true,
                            Led::Answer(answer) => return Ok(*answer),
                            Led::Leader(leader) => leader,
                        },
                    };
                    let leader = leader.after_failure(self.failures > 0);
                    self.exchange.open_selected().await;
                    return self.call(Some(leader), inner, body).await;
                }
                // Boxed, as is what else is rare: the future has room for all that it may wait for, and is moved.
                Role::Follow(follower) => match Box::pin(self.follow(follower, &mut ticket)).await {
                    Followed::Again => rounds += 1,
                    Followed::Alone => break true,
                    Followed::Answer(answer) => return Ok(*answer),
                    Followed::InTurn => break false,
                    Followed::Late(call) => {
                        self.is_late = true;
                        role = self.supersede(&ticket, &call, Because::Late);
                        continue;
                    }
                    Followed::Begun(call) if rounds < MOST_ROUNDS => {
                        rounds += 1;
                        role = self.supersede(&ticket, &call, Because::Begun);
                        continue;
                    }
                    Followed::TooOld(call) if rounds < MOST_ROUNDS => {
                        rounds += 1;
                        role = self.supersede(&ticket, &call, Because::Older);
                        continue;
                    }
                    Followed::Begun(_) | Followed::TooOld(_) => break true,
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
        if self.has_waited()
            && let Some(answer) = self.look_again(None, false).await
        {
            return Ok(answer);
        }
        self.exchange.open_selected().await;
        let wait = self.core().gauges.limits.wait;
        let answer = self.call(None, inner, body).await;
        if let Some((turn, waited)) = turn {
            // An origin that fails gets no more load for longer.
            let is_failure = answer.as_ref().map_or(true, |answer| is_server_error(answer.response.status()));
            if waited > if is_failure { wait * 4 } else { wait } {
                turn.widen();
            }
        }
        answer
    }

    /// Waits for its turn among the requests whose waiting was in vain. Returns how long that took.
    async fn turn(&self) -> Option<(QueueTurn, Duration)> {
        let begun = moment();
        let turn = self.core().gauges.retries.as_ref()?.turn(&self.exchange.request.key).await;
        Some((turn, moment().duration_since(begun)))
    }

    pub(super) fn core(&self) -> &Core {
        &self.exchange.shared.core
    }

    fn has_waited(&self) -> bool {
        self.exchange.collapsed.is_some()
    }

    /// What this request has in common with others that may share a call; `None` where nobody could share it.
    pub(crate) fn ticket(&self) -> Option<CollapseKey> {
        let Exchange { lookup, plan, request, .. } = &*self.exchange;
        // All who ask for a slice ask for the same range.
        let is_slice = request.sliced().is_some();
        let about_part = self.exchange.selected().is_some_and(|stored| stored.response.head().part.is_some());
        let may_collapse = may_collapse(
            &request.parts.method,
            request.fields.range && !is_slice,
            &request.directives,
            matches!(plan.goal, Goal::Validate(_)),
            (about_part && !is_slice) || matches!(plan.goal, Goal::Complete(_)),
            request.rules(),
        );
        // Without tasks, a call depends on its client.
        if !may_collapse || Runtime::current().is_none() {
            return None;
        }
        let known = match plan.goal {
            Goal::Validate(index) => lookup.variants.get(index),
            _ => lookup.variants.first(),
        };
        let selecting = known.map(|stored| &stored.response.head().reuse().selecting);
        let variant = selecting.and_then(|selecting| request.variant(selecting));
        let variant = variant.or_else(|| request.first_slice().map(Into::into));
        Some(CollapseKey { key: request.key.clone(), variant })
    }

    async fn join(&self, ticket: &CollapseKey) -> Role {
        let (collapser, purged) = (&self.core().collapser, self.exchange.purged());
        let has_credentials = self.exchange.request.unkeyed().any();
        let now = self.core().clock.now();
        let follower = match collapser.join(ticket, has_credentials, purged, now) {
            Role::Follow(follower) => follower,
            // Requests that come after a purge do not get what was asked for before it.
            Role::Outdated(call)
                if Box::pin(self.exchange.shared.is_untouched(
                    &ticket.key,
                    call.fence(),
                    PurgeScope::KeyOrAnyGroup,
                ))
                .await =>
            {
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
        let has_credentials = self.exchange.request.unkeyed().any();
        let (purged, now) = (self.exchange.purged(), self.core().clock.now());
        self.core().collapser.supersede(ticket, has_credentials, purged, now, call, because)
    }

    /// Why this request needs another call than the one that it could join; `None` if it does not.
    fn wants_another(&self, call: &Call, now: SystemTime) -> Option<Because> {
        // A reload does not get what the origin said before it (RFC 9111 5.2.1.4).
        let is_reload = self.exchange.request.directives.no_cache;
        let is_older = (is_reload && call.has_result()).then_some(Because::Older);
        is_older.or_else(|| call.has_stalled(now, self.core().gauges.limits.wait))
    }

    /// Looks into the store again: between the first look and the lead, another call may have ended.
    ///
    /// `may_find_more`: it waits for a store that takes its time.
    pub(super) async fn look_again(
        &mut self,
        leader: Option<&Leader>,
        may_find_more: bool,
    ) -> Option<Answer> {
        let may_find_more = may_find_more || self.has_waited() || self.may_have_missed();
        let has_waited = self.has_waited();
        let exchange = &mut *self.exchange;
        if has_waited {
            exchange.expect();
        }
        let shared = &exchange.shared;
        let has_far = (may_find_more || exchange.background.is_some()) && shared.store.limits().is_tiered;
        let looked_up = match shared.store.try_get(&exchange.request.key).filter(|_| !has_far) {
            None if may_find_more || has_far => shared.get(&exchange.request.key).await,
            looked_up => looked_up,
        };
        if may_find_more {
            // What has come in meanwhile lies in the future of the request's arrival.
            exchange.request.now = shared.core.clock.now();
        }
        let lookup = looked_up?.living(exchange.request.now);
        exchange.request.leave_slice_for(&lookup);
        exchange.lookup = match exchange.request.sliced() {
            None => lookup,
            Some(_) => Box::pin(exchange.request.of_slice(shared, lookup)).await,
        };
        let is_in_background = exchange.background.is_some();
        let decision = match exchange.request.decide(&shared.core, &exchange.lookup) {
            // This is the validation in the background.
            Decision::ServeAhead(index) | Decision::ServeStale(index) if is_in_background => {
                exchange.plan = FetchPlan::in_background(index);
                return None;
            }
            Decision::Serve(index) | Decision::ServeAhead(index) | Decision::ServeStale(index) => {
                match Box::pin(self.serve_found(index, None, leader)).await {
                    Ok(answer) => return Some(*answer),
                    Err(decision) => decision,
                }
            }
            // Another call has just failed.
            Decision::StandIn(index) if !is_in_background => {
                if let Some(leader) = leader {
                    leader.publish(CallResult::Failed(None));
                }
                match Box::pin(self.serve_found(index, Some(Detail::StaleIfError), None)).await {
                    Ok(answer) => return Some(*answer),
                    Err(decision) => decision,
                }
            }
            decision => decision,
        };
        let exchange = &mut *self.exchange;
        if let Some(plan) = FetchPlan::of(decision, &exchange.lookup) {
            exchange.plan = plan;
        }
        if is_in_background {
            exchange.plan.fallback = Fallback::None;
        }
        None
    }

    /// Whether a call that has stored what this request wants may have ended while it waited for its look-up.
    fn may_have_missed(&self) -> bool {
        let request = &self.exchange.request;
        request.calls_ended.is_some_and(|before| before != self.core().collapser.ended(&request.key))
    }

    /// Answers with what is stored by now.
    ///
    /// # Errors
    ///
    /// What is decided without it, where its content is gone.
    async fn serve_found(
        &mut self,
        mut index: usize,
        detail: Option<Detail>,
        leader: Option<&Leader>,
    ) -> Result<Box<Answer>, Decision> {
        let has_waited = self.has_waited();
        let exchange = &mut *self.exchange;
        let core = &exchange.shared.core;
        let opened = loop {
            let stored = &exchange.lookup.variants[index];
            if let Ok(opened) = exchange.request.open(&exchange.shared, &stored.response).await {
                break opened;
            }
            let (id, lookup) = (stored.id, exchange.lookup.clone());
            let (lookup, decision) = exchange.request.decide_without(core, lookup, id);
            exchange.lookup = lookup;
            match decision {
                Decision::Serve(next)
                | Decision::ServeAhead(next)
                | Decision::ServeStale(next)
                | Decision::StandIn(next) => index = next,
                decision => return Err(decision),
            }
        };
        let stored = &exchange.lookup.variants[index];
        // What was purged softly is fresh to nobody, as its head would say.
        if let Some(leader) = leader
            && stored.expired.is_none()
            && stored.response.head().part.is_none()
        {
            leader.publish(CallResult::Whole(stored.response.clone()));
        }
        if let Some(background) = &exchange.background {
            background.succeed();
        }
        if has_waited {
            core.gauges.collapsed();
        }
        Ok(Box::new(exchange.request.hit(core, stored, detail, opened)))
    }

    /// Waits for another request's call.
    async fn follow(&mut self, mut follower: Follower, ticket: &mut CollapseKey) -> Followed {
        self.exchange.collapsed = Some(false);
        follower.call().waiting_spans.add(&self.exchange.cause);
        // It is open only until the store has what it brought.
        let is_over = follower.call().has_result();
        let budget = self.budget();
        let limit = budget.unwrap_or(self.core().gauges.limits.wait);
        let late = budget.map_or(Detail::StaleIfError, |_| Detail::LatencyBudget);
        // One for all that it waits.
        let deadline = self.deadline.get_or_insert_with(|| Deadline::new(limit));
        let Some(mut result) = deadline.in_time(follower.result()).await else {
            if let Some(answer) = self.stand_in(late, None).await {
                return Followed::Answer(answer);
            }
            self.deadline = None;
            return Followed::Late(Arc::clone(follower.call()));
        };
        if let CallResult::Streaming(head, flight, is_tagged) = &result
            && self.exchange.waits_for_whole(head, flight, *is_tagged)
            && let Some(reader) = flight.join()
        {
            let deadline = self.deadline.get_or_insert_with(|| Deadline::new(limit));
            let settled = deadline.in_time(reader.settled()).await;
            if settled == Some(true) {
                match follower.call().whole_until_stored() {
                    Some(whole) => result = whole,
                    None => return Followed::Again, // storage can give the answer
                }
            } else {
                let detail = if settled.is_none() { late } else { Detail::StaleIfError };
                if let Some(answer) = self.stand_in(detail, None).await {
                    return Followed::Answer(answer);
                }
                if settled.is_some() {
                    return Followed::Again;
                }
                // What can be shared is shared all the same.
            }
        }
        self.exchange.leave_slice_for(&result);
        let has_unkeyed = self.exchange.request.unkeyed().any();
        let shared = match &result {
            CallResult::Error(response, why) if !has_unkeyed => {
                Some(self.exchange.answer_error(response, why))
            }
            CallResult::NotShareable(NotShareable::Chance { .. }) | CallResult::Error(..) => {
                return self.followed_a_failure();
            }
            CallResult::NotShareable(NotShareable::Request) if !has_unkeyed => return Followed::Again,
            CallResult::NotShareable(NotShareable::Admission) => {
                self.exchange.is_counted = true;
                return Followed::Alone;
            }
            CallResult::NotShareable(_) | CallResult::Pending => return Followed::Alone,
            CallResult::Overloaded => {
                let overloaded = self.core().overloaded(self.exchange.plan.forward, Some(true));
                let stands_in = self.stand_in(Detail::CallLimit, None).await;
                return Followed::Answer(stands_in.unwrap_or_else(|| Box::new(overloaded)));
            }
            CallResult::Failed(status) => {
                return match self.stand_in(Detail::StaleIfError, *status).await {
                    Some(answer) => Followed::Answer(answer),
                    None => self.followed_a_failure(),
                };
            }
            CallResult::Streaming(head, flight, _) => match self.exchange.share_flight(head, flight) {
                Ok(answer) => Some(answer),
                Err(Unshared::Begun) if flight.has_ended() => {
                    // It is all there, and the store is about to have it.
                    let deadline = self.deadline.get_or_insert_with(|| Deadline::new(limit));
                    deadline.in_time(follower.ended()).await;
                    return Followed::Again;
                }
                Err(Unshared::Begun) => return Followed::Begun(Arc::clone(follower.call())),
                Err(Unshared::Unfit) => None,
            },
            // Who comes when the answer is there already has not waited for that validation.
            CallResult::Validated(response) => self.exchange.share(response, !is_over).await,
            CallResult::Whole(response) => self.exchange.share(response, false).await,
        };
        if let Some(answer) = shared {
            self.core().gauges.collapsed();
            if let Some(background) = &self.exchange.background {
                background.succeed();
            }
            return Followed::Answer(Box::new(answer));
        }
        let followed = self.followed_another(&mut follower, &result, ticket, limit).await;
        match (followed, &result) {
            (Followed::Alone, CallResult::Validated(response) | CallResult::Whole(response))
                if is_over && !has_unkeyed && response.head().reuse().ttl(self.core().clock.now()) <= 0 =>
            {
                Followed::TooOld(Arc::clone(follower.call()))
            }
            (followed, _) => followed,
        }
    }

    /// What to do where the response of the call is not for this request.
    async fn followed_another(
        &mut self,
        follower: &mut Follower,
        result: &CallResult,
        ticket: &mut CollapseKey,
        limit: Duration,
    ) -> Followed {
        let head = match result {
            CallResult::Streaming(head, ..) => head,
            CallResult::Validated(response) | CallResult::Whole(response) => response.head(),
            _ => return Followed::Alone,
        };
        // Another variant: those that want the same one find each other by what selects it.
        let variant = self.exchange.request.variant(&head.reuse().selecting);
        let request = &self.exchange.request.parts;
        let is_other = !head.reuse().selecting.matches(&request.headers);
        if is_other && variant != ticket.variant {
            ticket.variant = variant;
            return Followed::Again;
        }
        // The answer is stored without being fresh. An error counts as a failure, as one that is not stored does. Anything
        // else is validated once for all that came while nothing was stored.
        let is_error = is_error(head.status());
        let is_get = request.method == Method::GET;
        let is_news =
            self.exchange.lookup.variants.is_empty() && !std::mem::replace(&mut self.has_seen_stale, true);
        let is_validated = is_news && is_get && head.validators().any();
        if !is_error && !is_validated {
            return Followed::Alone;
        }
        // The validation has to find it in the store.
        let deadline = self.deadline.get_or_insert_with(|| Deadline::new(limit));
        let is_stored = async {
            if let CallResult::Streaming(_, flight, _) = result
                && let Some(reader) = flight.join()
            {
                reader.settled().await;
            }
            follower.ended().await;
        };
        deadline.in_time(is_stored).await;
        if is_error { self.followed_a_failure() } else { Followed::Again }
    }

    /// A call has failed, by an error, a panic, or an answer that is for its own request alone. One more call is made for all
    /// that waited; if that fails, too, they go a few at a time.
    fn followed_a_failure(&mut self) -> Followed {
        self.failures += 1;
        if self.failures == 1 { Followed::Again } else { Followed::InTurn }
    }

    /// How long an answer is waited for, where a stored one may stand in.
    pub(super) fn budget(&self) -> Option<Duration> {
        self.exchange.request.rules().latency_budget.filter(|_| self.exchange.stands_in())
    }

    /// The stored response in place of the answer of the call that this request has waited for. `None` where nothing may
    /// stand in, or its content is gone.
    pub(super) async fn stand_in(&self, detail: Detail, status: Option<StatusCode>) -> Option<Box<Answer>> {
        let exchange = &*self.exchange;
        let stored = exchange.selected().filter(|_| exchange.stands_in())?;
        let opened = exchange.request.open(&exchange.shared, &stored.response).await.ok()?;
        let forwarding = Forwarding {
            collapsed: Some(true),
            detail: Some(detail),
            status,
            ..Forwarding::new(exchange.plan.forward)
        };
        let (core, request) = (&exchange.shared.core, &exchange.request);
        Some(Box::new(request.stand_in(core, Some(stored), forwarding, opened)))
    }

    /// Makes the call. One that others wait for, or that may outlast its client, is driven by a task of its own.
    fn call<I, Q>(
        mut self,
        leader: Option<Leader>,
        inner: I,
        body: Q,
    ) -> impl Future<Output = Result<Answer, I::Error>> + Send
    where
        I: InnerService<Q>,
        Q: Send + 'static,
    {
        let budget = self.budget();
        let shared = Arc::clone(&self.exchange.shared);
        let forward = self.exchange.plan.forward;
        // The call takes the request with it.
        let stand_in = budget.map(|budget| {
            let deadline = self.deadline.take().unwrap_or_else(|| Deadline::new(budget));
            let (request, selected) = (self.exchange.request.clone(), self.exchange.selected().cloned());
            Box::new((deadline, request, selected, self.exchange.opened.clone()))
        });
        let call = match (&leader, budget) {
            (None, None) => None,
            // Nobody can join it, but it may outlast its client all the same.
            (None, Some(_)) => Some(Call::new(self.exchange.purged(), self.exchange.request.now)),
            (Some(leader), _) => Some(Arc::clone(leader.call())),
        };
        let interest = call.as_ref().map(Interest::of_leader);
        self.exchange.leader = leader;
        // A task in the background outlives every client already.
        let is_detached = self.exchange.background.is_some();
        let runtime = call.as_ref().filter(|_| !is_detached).and_then(|_| Runtime::current());
        // Boxed: it is large, and what waits for it is moved about.
        let mut future = Box::pin(Fetch::new(self.exchange).run(inner, body));
        async move {
            let (Some(call), Some(runtime)) = (call, runtime) else {
                return future.await;
            };
            // What is there at once needs no task.
            if let Some(answer) = polled_once(future.as_mut()).await {
                return answer;
            }
            let task =
                joined(runtime.spawn(DetachedCall::new(call, future, Arc::clone(&shared.core.gauges))));
            let answer = match stand_in {
                Some(mut stand_in) => match stand_in.0.in_time(task).await {
                    Some(answer) => answer,
                    None => {
                        let (_, request, stored, opened) = &*stand_in;
                        let detail = Some(Detail::LatencyBudget);
                        let forwarding = Forwarding { detail, ..Forwarding::new(forward) };
                        return Ok(request.stand_in(
                            &shared.core,
                            stored.as_ref(),
                            forwarding,
                            opened.take(),
                        ));
                    }
                },
                None => task.await,
            };
            drop(interest);
            match answer {
                Some(Ended::Done(answer)) => answer,
                Some(Ended::Panicked(panic)) => resume_unwind(panic),
                // The runtime shuts down; nobody deserts a call that is waited for here.
                Some(Ended::Deserted) | None => {
                    let detail = Some(Detail::NotStored(NotStored::Runtime));
                    let outcome = Forwarding { detail, ..Forwarding::new(forward) };
                    Ok(no_content(StatusCode::BAD_GATEWAY, outcome))
                }
            }
        }
    }
}
