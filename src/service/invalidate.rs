//! Unsafe requests: they are forwarded, and their success makes invalid what is stored (RFC 9111 4.4).
//!
//! Invariant: an unsafe request removes what is stored only by the inner service's answer that it has succeeded. If
//! nobody learns what it has changed, what is stored for its target becomes stale, and the next request validates it.
//! So a client that sends requests and breaks them off causes no misses.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::HeaderMap;
use http::request::Parts;
use http::{Method, Request, StatusCode, Uri};
use tower::ServiceExt;

use crate::body::incoming;
use crate::collapse::unknown_outcomes::{PAUSE, Waiting, When};
use crate::entry::key::{self, CacheKey};
use crate::fetch::exchange::{Exchange, FetchPlan};
use crate::fetch::{Fetch, InnerService};
use crate::limits::Gauges;
use crate::observe::{Answer, InvalidatedBy};
use crate::policy::{Reason, RequestPolicy};
use crate::respond::request::CacheRequest;
use crate::runtime::{Runtime, from_now_on, moment, pause, to_its_end};
use crate::semantics::cache_status::{Detail, Forwarding};
use crate::semantics::framing;
use crate::semantics::invalidation::{MadeInvalid, is_named_by};
use crate::semantics::reuse::Forward;
use crate::semantics::validation;
use crate::shared::{Core, Shared};
use crate::store::{Expected, Fence, Lookup, PurgeMode, PurgeScope, PurgeTarget, Store, Variants};

/// An unsafe request on its way.
pub(crate) struct UnsafeCall<S> {
    /// Why the policy keeps it from the cache, if it does.
    bypass: Option<Reason>,
    policy: RequestPolicy,
    shared: Arc<Shared<S>>,
    target: Target,
}

/// What an unsafe request may change.
#[derive(Clone)]
struct Target {
    /// The request's own key.
    key: CacheKey,
    /// Its absolute URI, where it has one.
    uri: Option<Uri>,
}

impl Target {
    /// The request's own key, and those under which a GET of the same URI may be stored, where they are other ones.
    fn keys<'a>(&'a self, core: &'a Core) -> impl Iterator<Item = CacheKey> + 'a {
        let stored = self.uri.clone().into_iter().flat_map(|uri| core.keys_of(uri));
        let stored = stored.filter(|stored| stored.uri() != self.key.uri());
        std::iter::once(self.key.clone()).chain(stored)
    }

    /// The targets by which everything goes that is stored for it.
    fn purge_targets(&self, core: &Core) -> Vec<PurgeTarget> {
        self.keys(core).flat_map(|key| core.targets_of(&key)).collect()
    }
}

/// The targets that a successful unsafe request invalidates in any case: those of its own URI.
pub(crate) fn own_targets(core: &Core, key: CacheKey, request: &Parts) -> Vec<PurgeTarget> {
    Target { key, uri: key::absolute_uri(request) }.purge_targets(core)
}

/// What makes the answer to a POST one to later GETs, if it says so.
struct Storable {
    /// Keeps the store from forgetting purges that come while the request is under way.
    _expected: Expected,
    /// The purge state before the request went out, where the store could say.
    before: Option<Fence>,
    request: Parts,
}

impl<S: Store> UnsafeCall<S> {
    pub(crate) fn new(
        shared: Arc<Shared<S>>,
        key: CacheKey,
        bypass: Option<Reason>,
        policy: RequestPolicy,
    ) -> Self {
        Self { bypass, policy, shared, target: Target { key, uri: None } }
    }

    pub(crate) async fn run<I, Q>(
        mut self,
        mut inner: I,
        mut parts: Parts,
        body: Q,
    ) -> Result<Answer, I::Error>
    where
        I: InnerService<Q>,
        Q: Send + 'static,
    {
        let gauges = Arc::clone(&self.shared.core.gauges);
        let Some(permit) = gauges.calls.begin(Some(&self.target.key)).await else {
            return Ok(self.shared.core.overloaded(self.forwarding().forward, None));
        };
        let storable = self.storable(&parts).await;
        // A client that leaves before that has asked nothing of the inner service.
        inner.ready().await?;
        self.target.uri = key::absolute_uri(&parts);
        let is_conditional = validation::is_conditional(&parts.headers);
        let method = parts.method.clone();
        self.forward(&mut parts);
        let call = async move {
            let sent_at = self.shared.core.clock.now();
            let unknown = Unknown::new(&self);
            let begun = self.shared.core.reporter.measures().then(moment);
            let response = match inner.call(Request::from_parts(parts, body)).await {
                Ok(response) => incoming::received(response, &method, permit),
                Err(error) => {
                    unknown.expire().await;
                    return Err(error);
                }
            };
            let origin = begun.map(|begun| moment().duration_since(begun));
            let made_invalid = self.made_invalid(&method, response.status(), response.headers());
            let before = storable.as_ref().and_then(|storable| storable.before);
            unknown.settle();
            let (is_untouched, failed) = self.invalidate(before, made_invalid).await;
            let detail = failed.or_else(|| self.bypass.clone().map(Detail::from));
            if let Some(storable) = storable
                && is_untouched
                && detail.is_none()
                && self.target.uri.as_ref().is_some_and(|uri| is_named_by(uri, response.headers()))
                && let Some(mut exchange) = self.exchange(storable.request).await
            {
                exchange.request.now = sent_at;
                return Ok(Answer { origin, ..Fetch::receive_post(exchange, response).await });
            }
            let forwarding = Forwarding { detail, ..self.forwarding() };
            Ok(Answer { origin, ..self.shared.core.pass_on(response, &method, is_conditional, forwarding) })
        };
        Carried { call: Some(Box::pin(call)), gauges }.await
    }
}

impl<S: Store> UnsafeCall<S> {
    fn forwarding(&self) -> Forwarding {
        Forwarding::new(if self.bypass.is_some() { Forward::Bypass } else { Forward::Method })
    }

    /// Turns the request into what the inner service gets to see.
    fn forward(&self, request: &mut Parts) {
        key::settle_authority(request);
        let core = &self.shared.core;
        self.policy.forward(request, self.forwarding().forward, false);
        framing::repair_request(&mut request.headers);
        core.mark(request);
        key::leave(request);
    }

    /// A POST whose answer may be stored, if it says so and no purge comes meanwhile that can concern it.
    async fn storable(&self, request: &Parts) -> Option<Storable> {
        let may_be_stored = request.method == Method::POST && self.policy.rules(request).post;
        if !may_be_stored {
            return None;
        }
        let (expected, before) = self.expect().await;
        Some(Storable { _expected: expected, before, request: request.clone() })
    }

    /// From now on the store forgets no purge; and its purge state, where it can say.
    async fn expect(&self) -> (Expected, Option<Fence>) {
        let store = &self.shared.store;
        let expected = store.expect(&self.target.key);
        let fence = match expected.fence() {
            Some(fence) => Some(fence),
            None => self.shared.get(&self.target.key).await.map(|lookup| lookup.fence),
        };
        (expected, fence)
    }

    /// What the answer makes invalid: the request's target, and what the answer names.
    fn made_invalid(&self, method: &Method, status: StatusCode, response: &HeaderMap) -> Vec<PurgeTarget> {
        let (core, target) = (&self.shared.core, &self.target);
        let mut made_invalid = Vec::new();
        for key in target.keys(core) {
            let Some(MadeInvalid { groups, named }) =
                MadeInvalid::by(method, target.uri.as_ref(), key.uri(), (status, response))
            else {
                return Vec::new();
            };
            let named = named.into_iter().flat_map(|uri| core.keys_of(uri));
            let keys = std::iter::once(key).chain(named);
            made_invalid.extend(keys.flat_map(|key| core.targets_of(&key)));
            match groups {
                Ok(groups) => made_invalid.extend(groups.into_iter().map(PurgeTarget::Group)),
                Err(origin) => made_invalid.push(PurgeTarget::Prefix(origin)),
            }
        }
        made_invalid
    }

    /// Removes what the targets name. Whether no purge but this one has come since `before` that can concern the answer,
    /// and what went wrong, for the client must learn of it.
    async fn invalidate(&self, before: Option<Fence>, targets: Vec<PurgeTarget>) -> (bool, Option<Detail>) {
        let (shared, key) = (Arc::clone(&self.shared), self.target.key.clone());
        // What the request has changed has changed, whether or not its client still waits.
        let settled = to_its_end(async move {
            // A purge while the request was under way speaks of what it brings, too.
            let is_untouched = match before {
                None => false,
                Some(before) => shared.is_untouched(&key, before, PurgeScope::KeyOrAnyGroup).await,
            };
            let invalidated =
                shared.invalidate(&targets, PurgeMode::Remove, InvalidatedBy::UnsafeRequest).await;
            let failed = invalidated.is_err().then_some(Detail::NotInvalidated);
            (is_untouched, failed)
        });
        settled.await.unwrap_or((false, Some(Detail::NotInvalidated)))
    }

    /// The exchange in which the answer to a POST is stored for later GETs, under a fence from after its own invalidation.
    async fn exchange(&self, request: Parts) -> Option<Box<Exchange<S>>> {
        let (expected, fence) = self.expect().await;
        let request = CacheRequest::post(
            request,
            self.target.key.clone(),
            self.shared.core.clock.now(),
            self.policy.clone(),
        );
        let lookup = Lookup::new(fence?, Variants::default());
        let plan = FetchPlan::get(Forward::Method);
        let mut exchange = Exchange::new(Arc::clone(&self.shared), request, lookup, plan);
        exchange.expected = expected;
        Some(exchange)
    }
}

/// An unsafe request that the inner service has got, and of which nobody knows yet what it has done. Dropped like this, be
/// it because the call was dropped or has panicked, it makes stale what is stored for its target.
struct Unknown<S: Store>(Option<Doubt<S>>);

impl<S: Store> Unknown<S> {
    fn new(call: &UnsafeCall<S>) -> Self {
        let UnsafeCall { shared, target, .. } = call;
        Self(Some(Doubt { shared: Arc::clone(shared), target: target.clone() }))
    }

    /// The answer says what it has done.
    fn settle(mut self) {
        self.0 = None;
    }

    /// It has failed, so nobody will ever know.
    async fn expire(mut self) {
        let Some(doubt) = self.0.take() else {
            return;
        };
        match doubt.when() {
            When::Another => {}
            When::Later(waiting) => from_now_on(doubt.expire_later(waiting)),
            // Also if the client leaves meanwhile.
            When::Now => drop(to_its_end(doubt.expire()).await),
        }
    }
}

impl<S: Store> Drop for Unknown<S> {
    fn drop(&mut self) {
        if let Some(doubt) = self.0.take() {
            match doubt.when() {
                When::Another => {}
                When::Later(waiting) => from_now_on(doubt.expire_later(waiting)),
                When::Now => from_now_on(doubt.expire()),
            }
        }
    }
}

/// Something may have changed what a target gives.
struct Doubt<S> {
    shared: Arc<Shared<S>>,
    target: Target,
}

impl<S: Store> Doubt<S> {
    fn when(&self) -> When {
        let core = &self.shared.core;
        core.unknown_outcomes.turn(&self.target.key, core.clock.now())
    }

    /// Makes stale what is stored for the target. There is nobody to whom a failure could be reported.
    async fn expire(self) {
        let core = &self.shared.core;
        let (targets, mode) = (self.target.purge_targets(core), PurgeMode::Expire(core.clock.now()));
        let _ = self.shared.invalidate(&targets, mode, InvalidatedBy::UnknownOutcome).await;
    }

    async fn expire_later(self, waiting: Waiting) {
        let _ = pause(PAUSE).await;
        let core = &self.shared.core;
        core.unknown_outcomes.end(waiting, core.clock.now());
        self.expire().await;
    }
}

/// A call that continues in a task of its own if its client leaves, within [`FillLimits::abandoned`]. As long as the
/// client waits, it costs no task.
///
/// [`FillLimits::abandoned`]: crate::FillLimits::abandoned
struct Carried<F, E>
where
    F: Future<Output = Result<Answer, E>> + Send + 'static,
    E: Send,
{
    call: Option<Pin<Box<F>>>,
    gauges: Arc<Gauges>,
}

impl<F, E> Future for Carried<F, E>
where
    F: Future<Output = Result<Answer, E>> + Send + 'static,
    E: Send,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // A call that has panicked or finished is not there any more.
        let Some(mut call) = self.call.take() else {
            return Poll::Pending;
        };
        let poll = call.as_mut().poll(cx);
        if poll.is_pending() {
            self.call = Some(call);
        }
        poll
    }
}

impl<F, E> Drop for Carried<F, E>
where
    F: Future<Output = Result<Answer, E>> + Send + 'static,
    E: Send,
{
    fn drop(&mut self) {
        if let Some(call) = self.call.take()
            && let Some(runtime) = Runtime::current()
            && let Some(counted) = self.gauges.abandoned()
        {
            drop(runtime.spawn(async move {
                let _counted = counted;
                // What is stored on the way is all that counts.
                if let Ok(answer) = call.await {
                    answer.response.into_body().settled().await;
                }
            }));
        }
    }
}
