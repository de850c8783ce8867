//! A request enters: it is looked up and decided, then served, passed, or handed to the inner service.

pub(crate) mod classify;
pub(crate) mod future;
pub(crate) mod invalidate;

mod slices;
mod tag_only;

use std::sync::Arc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use tower::{Service, ServiceExt};

use crate::body::{CacheBody, incoming};
use crate::entry::key::{self, CacheKey, KeyParts};
use crate::entry::slice::SliceRequest;
use crate::error::BoxError;
use crate::fetch::InnerService;
use crate::fetch::collapsed::CollapsedFetch;
use crate::fetch::exchange::{Exchange, FetchPlan};
use crate::fetch::resume;
use crate::observe::{Answer, RequestReport};
use crate::policy::{Bypass, Reason, RequestAction, RequestPolicy};
use crate::respond::no_content;
use crate::respond::open::{Gone, Opened};
use crate::respond::request::CacheRequest;
use crate::runtime::Runtime;
use crate::semantics::cache_status::{Detail, Forwarding, Outcome};
use crate::semantics::fields::RequestFields;
use crate::semantics::framing;
use crate::semantics::reuse::{Decision, Forward};
use crate::semantics::validation;
use crate::service::classify::{Ways, classify, kept_apart};
use crate::service::future::{Reported, ResponseFuture};
use crate::service::invalidate::UnsafeCall;
use crate::service::tag_only::TagOnly;
use crate::shared::{Core, Shared};
use crate::store::{Lookup, MemoryStore, PurgeScope, Store, Stored};

/// A service with a cache in front, made by [`CacheLayer`](crate::CacheLayer).
///
/// It is always ready; the readiness of the inner service is awaited where the inner service is called. Its
/// error is the inner service's.
pub struct CacheService<I, S = MemoryStore> {
    inner: I,
    shared: Arc<Shared<S>>,
}

impl<I, S> CacheService<I, S> {
    pub(crate) fn new(inner: I, shared: Arc<Shared<S>>) -> Self {
        Self { inner, shared }
    }
}

impl<I: Clone, S> Clone for CacheService<I, S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<I: std::fmt::Debug, S> std::fmt::Debug for CacheService<I, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<I, S, Q, B> Service<Request<Q>> for CacheService<I, S>
where
    I: Service<Request<Q>, Response = Response<B>, Future: Send, Error: Send> + Clone + Send + 'static,
    S: Store,
    Q: Body + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<CacheBody>;
    type Error = I::Error;
    type Future = ResponseFuture<I, Q, S>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), I::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        if !self.shared.core.enabled {
            return ResponseFuture::plain(self.inner.clone(), request);
        }
        let (mut parts, body) = request.into_parts();
        if !self.shared.core.storing {
            return self.tag(parts, body);
        }
        key::enter(&mut parts);
        let core = &self.shared.core;
        if core.is_nested(&parts) {
            // The outer pass asks the policy, and reports.
            let (policy, report) = (RequestPolicy::asked_before(), RequestReport::default());
            return self.pass(parts, body, Forward::Bypass, Some(Detail::Nested), policy, report);
        }
        let report = core.reporter.begin(&mut parts);
        classify(core, parts, Entering { body, report, service: self })
    }
}

impl<I, S: Store> CacheService<I, S> {
    /// Carries out what was decided, with what was found.
    fn carry_out<Q>(
        &self,
        decision: Decision,
        request: CacheRequest,
        body: Q,
        lookup: Lookup,
        report: RequestReport,
    ) -> ResponseFuture<I, Q, S>
    where
        I: InnerService<Q>,
        Q: Body + Send + 'static,
    {
        match request.as_tasks_allow(&self.shared.core, &lookup, decision) {
            decision @ (Decision::Serve(index)
            | Decision::ServeAhead(index)
            | Decision::ServeStale(index)
            | Decision::StandIn(index)) => {
                if request.has_to_open(&lookup.variants[index].response) {
                    self.open_or_miss(decision, index, request, body, lookup, report)
                } else {
                    let policy = request.policy.clone();
                    let answer = self.serve(decision, index, request, body, lookup, None);
                    ResponseFuture::ready(report.answered(&self.shared.core.reporter, &policy, answer))
                }
            }
            decision => match alias_for(&self.shared.core, &request, &lookup, decision) {
                Some(key) => self.search(request, body, lookup, key, decision, report),
                None => self.fetch_or_refuse(request, body, lookup, decision, report),
            },
        }
    }

    /// Answers with what is stored, and validates it in the background where that was decided.
    fn serve<Q>(
        &self,
        decision: Decision,
        index: usize,
        request: CacheRequest,
        body: Q,
        lookup: Lookup,
        opened: Option<Opened>,
    ) -> Answer
    where
        I: InnerService<Q>,
        Q: Body + Send + 'static,
    {
        let answer = request.hit(&self.shared.core, &lookup.variants[index], detail_of(decision), opened);
        if matches!(decision, Decision::ServeAhead(_) | Decision::ServeStale(_)) {
            self.validate_in_background(request, body, lookup, index);
        }
        answer
    }

    /// [`CacheService::serve`] for content that the store has to open. Where it is gone, the request goes on as if the
    /// response were not there.
    fn open_or_miss<Q>(
        &self,
        decision: Decision,
        index: usize,
        request: CacheRequest,
        body: Q,
        lookup: Lookup,
        report: RequestReport,
    ) -> ResponseFuture<I, Q, S>
    where
        I: InnerService<Q>,
        Q: Body + Send + 'static,
    {
        let (service, request) = (self.clone(), request.lasting());
        ResponseFuture::boxed(async move {
            let core = &service.shared.core;
            let Stored { id, response, .. } = &lookup.variants[index];
            match request.open(&service.shared, response).await {
                Ok(opened) => {
                    let policy = request.policy.clone();
                    let answer = match decision {
                        // Nobody else needs the body.
                        Decision::Serve(_) => {
                            let way = (service.inner.clone(), body);
                            resume::hit(&service.shared, request, &lookup, index, opened, way)
                        }
                        _ => service.serve(decision, index, request, body, lookup, opened),
                    };
                    Ok(report.answered(&core.reporter, &policy, answer))
                }
                Err(Gone) => {
                    let id = *id;
                    let (lookup, decision) = request.decide_without(core, lookup, id);
                    service.carry_out(decision, request, body, lookup, report).await
                }
            }
        })
    }

    /// Asks the inner service, unless the client wants an answer from storage only.
    fn fetch_or_refuse<Q>(
        &self,
        request: CacheRequest,
        body: Q,
        lookup: Lookup,
        decision: Decision,
        report: RequestReport,
    ) -> ResponseFuture<I, Q, S>
    where
        I: InnerService<Q>,
        Q: Body + Send + 'static,
    {
        match FetchPlan::of(decision, &lookup) {
            Some(plan) => self.fetch(request, body, lookup, plan, report),
            None => {
                let answer = no_content(StatusCode::GATEWAY_TIMEOUT, Outcome::Unsatisfiable);
                ResponseFuture::ready(report.answered(&self.shared.core.reporter, &request.policy, answer))
            }
        }
    }

    /// Looks for an answer under the key of an equivalent query; `otherwise` is what was decided without one.
    fn search<Q>(
        &self,
        request: CacheRequest,
        body: Q,
        missed: Lookup,
        key: CacheKey,
        otherwise: Decision,
        report: RequestReport,
    ) -> ResponseFuture<I, Q, S>
    where
        I: InnerService<Q>,
        Q: Body + Send + 'static,
    {
        let (service, mut request) = (self.clone(), request.lasting());
        ResponseFuture::boxed(async move {
            let shared = &service.shared;
            let core = &shared.core;
            if let Some(stored) = equivalent(shared, &mut request, &key).await
                && let Ok(opened) = request.open_under(shared, &key, &stored.response).await
            {
                let answer = request.hit(core, &stored, None, opened);
                return Ok(report.answered(&core.reporter, &request.policy, answer));
            }
            service.fetch_or_refuse(request, body, missed, otherwise, report).await
        })
    }

    /// Asks a store that has to be waited for.
    fn look_up<Q>(&self, request: CacheRequest, body: Q, report: RequestReport) -> ResponseFuture<I, Q, S>
    where
        I: InnerService<Q>,
        Q: Body + Send + 'static,
    {
        let (service, mut request) = (self.clone(), request.lasting());
        ResponseFuture::boxed(async move {
            let core = &service.shared.core;
            request.calls_ended = Some(core.collapser.ended(&request.key));
            let looked_up = service.shared.get(&request.key).await;
            request.now = core.clock.now();
            let (lookup, decision) = request.decide_on(core, looked_up);
            service.carry_out(decision, request, body, lookup, report).await
        })
    }

    /// Forwards a request where nothing is stored, for an answer with an entity tag.
    fn tag<Q>(&self, mut parts: Parts, body: Q) -> ResponseFuture<I, Q, S>
    where
        I: InnerService<Q>,
        Q: Body + Send + 'static,
    {
        let core = &self.shared.core;
        if core.is_nested(&parts) {
            let (policy, report) = (RequestPolicy::asked_before(), RequestReport::default());
            return self.pass(parts, body, Forward::Bypass, Some(Detail::Nested), policy, report);
        }
        let mut report = core.reporter.begin(&mut parts);
        key::as_query(&mut parts);
        let mut policy = RequestPolicy::unasked(&core.policy);
        let is_bounded = core.gauges.calls.is_bounded();
        let is_judged = !policy.hooks.is_for_storing_only();
        let mut key = None;
        if is_judged || is_bounded || report.is_wanted() {
            key::enter(&mut parts);
            match policy.request(&mut parts) {
                RequestAction::Bypass(reason) if is_judged => {
                    return self.bypass(parts, body, reason, policy, report);
                }
                RequestAction::Bypass(_) => {} // it would have no key in a store
                RequestAction::Cache(of_policy) => key = Some(of_policy),
            }
        }
        if let Some(bypass) = parts.extensions.get::<Bypass>() {
            let reason = bypass.reason().clone();
            return self.bypass(parts, body, reason, policy, report);
        }
        if let Some(key) = &key {
            report.set_key(key);
        }
        let further = parts.extensions.get::<KeyParts>();
        let has_content = further.is_some_and(KeyParts::has_content);
        let is_query = parts.method == Method::QUERY && has_content;
        if parts.method != Method::GET && parts.method != Method::HEAD && !is_query {
            return self.pass(parts, body, Forward::Method, None, policy, report);
        }
        let fields = RequestFields::of(&parts.headers);
        if let Some(reason) = kept_apart(&parts, fields, has_content, &body) {
            return self.bypass(parts, body, reason.into(), policy, report);
        }
        if let (Some(of_policy), Some(further)) = (&mut key, further) {
            *of_policy = further.key(of_policy.clone(), &parts.headers);
            report.set_key(of_policy);
        }
        // Where nobody can see a difference, a layer inside itself need not know that it is.
        if is_bounded || is_judged || core.reporter.shows_outcomes() {
            core.mark(&mut parts);
        }
        let exchange = TagOnly::new(&self.shared, &mut parts, fields, key.as_ref(), policy.lasting(), report);
        key::leave(&mut parts);
        let (inner, request) = (self.inner.clone(), Request::from_parts(parts, body));
        if is_bounded {
            ResponseFuture::boxed(exchange.call_by_permit(key, inner, request))
        } else {
            ResponseFuture::tag(inner, request, exchange)
        }
    }

    fn bypass<Q>(
        &self,
        parts: Parts,
        body: Q,
        reason: Reason,
        policy: RequestPolicy,
        report: RequestReport,
    ) -> ResponseFuture<I, Q, S>
    where
        I: InnerService<Q>,
        Q: Send + 'static,
    {
        self.pass(parts, body, Forward::Bypass, Some(reason.into()), policy, report)
    }

    /// Forwards a request that is none of the cache's business.
    fn pass<Q>(
        &self,
        mut parts: Parts,
        body: Q,
        forward: Forward,
        detail: Option<Detail>,
        policy: RequestPolicy,
        mut report: RequestReport,
    ) -> ResponseFuture<I, Q, S>
    where
        I: InnerService<Q>,
        Q: Send + 'static,
    {
        let is_nested = detail == Some(Detail::Nested);
        let forwarding = Forwarding { detail, ..Forwarding::new(forward) };
        let policy = policy.lasting();
        let core = &self.shared.core;
        if core.storing {
            key::settle_authority(&mut parts);
        }
        policy.forward(&mut parts, forward, false);
        framing::repair_request(&mut parts.headers);
        core.mark(&mut parts);
        key::leave(&mut parts);
        let (shared, request) = (Arc::clone(&self.shared), Request::from_parts(parts, body));
        let inner = self.inner.clone();
        // A call that goes through the same layer again has its leave already.
        if !core.gauges.calls.is_bounded() || is_nested {
            report.calls();
            return ResponseFuture::pass(inner, request, shared, forwarding, policy, report);
        }
        ResponseFuture::boxed(async move {
            let core = &shared.core;
            let Some(permit) = core.gauges.calls.begin(None).await else {
                let answer = core.overloaded(forward, None);
                return Ok(report.answered(&core.reporter, &policy, answer));
            };
            report.calls();
            let is_conditional = validation::is_conditional(request.headers());
            let method = request.method().clone();
            match inner.oneshot(request).await {
                Ok(response) => {
                    let response = incoming::received(response, &method, permit);
                    let answer = core.pass_on(response, &method, is_conditional, forwarding);
                    Ok(report.answered(&core.reporter, &policy, answer))
                }
                Err(error) => {
                    report.failed(&error);
                    Err(error)
                }
            }
        })
    }

    /// Asks the inner service: for a new response, or whether a stored one is still valid.
    fn fetch<Q>(
        &self,
        request: CacheRequest,
        body: Q,
        lookup: Lookup,
        plan: FetchPlan,
        report: RequestReport,
    ) -> ResponseFuture<I, Q, S>
    where
        I: InnerService<Q>,
        Q: Send + 'static,
    {
        let mut request = request.lasting();
        // What selects what is stored is what the inner service sees.
        key::settle_authority(&mut request.parts);
        let policy = request.policy.clone();
        let shared = Arc::clone(&self.shared);
        let fetch = CollapsedFetch::new(Exchange::new(Arc::clone(&shared), request, lookup, plan));
        let answer = fetch.run(self.inner.clone(), body);
        reported(shared, policy, answer, report)
    }

    /// Validates a stored response that has been served stale (RFC 5861 3), or shortly before it will be.
    fn validate_in_background<Q>(&self, request: CacheRequest, body: Q, lookup: Lookup, index: usize)
    where
        I: InnerService<Q>,
        Q: Send + 'static,
    {
        let Some(runtime) = Runtime::current() else {
            return;
        };
        let core = &self.shared.core;
        if core.resting.has(&request.key, request.now) {
            return; // it has just failed
        }
        let Some(permit) = core.background.begin(&request.key, request.now) else {
            return;
        };
        let about_part = lookup.variants[index].response.head().part.is_some();
        let mut request = request.lasting().for_everybody(about_part);
        key::settle_authority(&mut request.parts);
        let plan = FetchPlan::in_background(index);
        let mut exchange = Exchange::new(Arc::clone(&self.shared), request, lookup, plan);
        exchange.background = Some(Box::new(permit));
        let answer = CollapsedFetch::new(exchange).run(self.inner.clone(), body);
        drop(runtime.spawn(async move {
            // What is stored on the way is all that counts.
            if let Ok(answer) = answer.await {
                answer.response.into_body().settled().await;
            }
        }));
    }

    /// Forwards an unsafe request, and invalidates what its success makes invalid (RFC 9111 4.4).
    fn invalidate<Q>(
        &self,
        key: CacheKey,
        parts: Parts,
        body: Q,
        bypass: Option<Reason>,
        policy: RequestPolicy,
        report: RequestReport,
    ) -> ResponseFuture<I, Q, S>
    where
        I: InnerService<Q>,
        Q: Send + 'static,
    {
        let (shared, policy) = (Arc::clone(&self.shared), policy.lasting());
        let call = UnsafeCall::new(Arc::clone(&shared), key, bypass, policy.clone());
        reported(shared, policy, call.run(self.inner.clone(), parts, body), report)
    }
}

/// What is to be said of an answer from storage.
pub(crate) fn detail_of(decision: Decision) -> Option<Detail> {
    match decision {
        Decision::ServeStale(_) => Some(Detail::StaleWhileRevalidate),
        Decision::StandIn(_) => Some(Detail::StaleIfError),
        _ => None,
    }
}

/// The key of an equivalent query under which a request that finds nothing may be answered.
pub(crate) fn alias_for(
    core: &Core,
    request: &CacheRequest,
    lookup: &Lookup,
    decision: Decision,
) -> Option<CacheKey> {
    let finds_nothing = matches!(decision, Decision::Forward(Forward::UriMiss) | Decision::Unsatisfiable);
    if finds_nothing && lookup.variants.is_empty() { core.aliases.lookup(&request.key) } else { None }
}

/// What is stored under the key of an equivalent query and answers the request.
pub(crate) async fn equivalent<S: Store>(
    shared: &Shared<S>,
    request: &mut CacheRequest,
    key: &CacheKey,
) -> Option<Stored> {
    let found = shared.get(key).await.unwrap_or_default();
    request.now = shared.core.clock.now();
    let index = request.finds(&shared.core, key, &found)?;
    let stored = found.variants[index].clone();
    // A purge of what is asked for reaches what answers for it, whatever was known when it was purged.
    shared.is_untouched(&request.key, stored.fence, PurgeScope::Key).await.then_some(stored)
}

/// A request that has just entered.
struct Entering<'a, I, Q, S> {
    body: Q,
    report: RequestReport,
    service: &'a CacheService<I, S>,
}

impl<I, Q, S> Ways for Entering<'_, I, Q, S>
where
    I: InnerService<Q>,
    Q: Body + Send + 'static,
    S: Store,
{
    type Content = Q;
    type End = ResponseFuture<I, Q, S>;

    #[inline(always)]
    fn content(&self) -> &Q {
        &self.body
    }

    #[inline(always)]
    fn keyed(&mut self, key: &CacheKey) {
        self.report.set_key(key);
    }

    fn change(
        self,
        key: CacheKey,
        request: Parts,
        bypass: Option<Reason>,
        policy: RequestPolicy,
    ) -> Self::End {
        self.service.invalidate(key, request, self.body, bypass, policy, self.report)
    }

    #[inline(always)] // the way of most requests
    fn look_up(self, mut request: CacheRequest) -> Self::End {
        let Self { body, report, service } = self;
        let core = &service.shared.core;
        let Some(lookup) = service.shared.store.try_get(&request.key) else {
            return service.look_up(request, body, report);
        };
        let lookup = lookup.living(request.now);
        request.keep_to_one_coding(&lookup);
        let decision = request.decide(core, &lookup);
        if let Decision::Serve(index) = decision
            && let Some(stored) = lookup.variants.get(index)
            && !stored.response.payload().is_remote()
        {
            // Short, because it is the way of most requests: nothing large is moved.
            let answer = request.hit(core, stored, None, None);
            return ResponseFuture::ready(report.answered(&core.reporter, &request.policy, answer));
        }
        // A far tier may have what answers, or what is newer.
        if !matches!(decision, Decision::Serve(_) | Decision::ServeAhead(_))
            && service.shared.store.limits().is_tiered
        {
            return service.look_up(request, body, report);
        }
        service.carry_out(decision, request, body, lookup, report)
    }

    fn look_up_slice(self, request: CacheRequest, slice: Arc<SliceRequest>) -> Self::End {
        self.service.look_up_slice(request, slice, self.body, self.report)
    }

    fn pass(
        self,
        request: Parts,
        forward: Forward,
        detail: Option<Detail>,
        policy: RequestPolicy,
    ) -> Self::End {
        self.service.pass(request, self.body, forward, detail, policy, self.report)
    }
}

/// The future of an answer that is reported when it is there.
fn reported<I, Q, S>(
    shared: Arc<Shared<S>>,
    policy: RequestPolicy,
    answer: impl Future<Output = Result<Answer, I::Error>> + Send + 'static,
    report: RequestReport,
) -> ResponseFuture<I, Q, S>
where
    I: InnerService<Q>,
    S: Store,
{
    ResponseFuture::boxed(Reported { answer, policy, report, shared })
}
