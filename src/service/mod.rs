//! The flow of a request, verb by verb.

pub(crate) mod future;

mod invalidate;

use std::sync::Arc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use tower::{Service, ServiceExt};

use crate::body::CacheBody;
use crate::entry::key::{self, CacheKey};
use crate::error::BoxError;
use crate::fetch::Purpose;
use crate::fetch::collapsed::CollapsedFetch;
use crate::policy::RequestAction;
use crate::query_layer::QueryContent;
use crate::respond::request::CacheRequest;
use crate::runtime::Runtime;
use crate::semantics::cache_status::{Detail, Forwarding, Outcome};
use crate::semantics::fields::RequestFields;
use crate::semantics::framing;
use crate::semantics::methods::is_unsafe;
use crate::semantics::reuse::{Decision, Fallback, Forward};
use crate::semantics::validation;
use crate::service::future::ResponseFuture;
use crate::service::invalidate::UnsafeCall;
use crate::shared::Core;
use crate::store::{Lookup, MemoryStore, Store};

/// A service with a cache in front, made by [`CacheLayer`](crate::CacheLayer).
///
/// It is always ready; the readiness of the inner service is awaited where the inner service is called. Its
/// error is the inner service's.
#[derive(Debug)]
pub struct CacheService<I, S = MemoryStore> {
    cache: Cache<S>,
    inner: I,
}

/// The cache that all services of a layer share.
struct Cache<S> {
    core: Arc<Core>,
    store: Arc<S>,
}

impl<I, S> CacheService<I, S> {
    pub(crate) fn new(inner: I, core: Arc<Core>, store: Arc<S>) -> Self {
        let cache = Cache { core, store };
        Self { cache, inner }
    }
}

impl<I: Clone, S> Clone for CacheService<I, S> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), inner: self.inner.clone() }
    }
}

impl<S> Clone for Cache<S> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core), store: Arc::clone(&self.store) }
    }
}

impl<S> std::fmt::Debug for Cache<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

impl<I, S, Q, B> Service<Request<Q>> for CacheService<I, S>
where
    I: Service<Request<Q>, Response = Response<B>> + Clone + Send + 'static,
    I::Future: Send,
    I::Error: Send,
    S: Store,
    Q: Body + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<CacheBody<B>>;
    type Error = I::Error;
    type Future = ResponseFuture<I, Q, B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), I::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        key::enter(&mut parts);
        if self.cache.core.status_writer.key {
            let key = match self.cache.core.policy.request(&parts) {
                RequestAction::Cache(key) => Some(Box::new(key)),
                RequestAction::Bypass(_) => None,
            };
            return self.answer(parts, body).telling(key);
        }
        self.answer(parts, body)
    }
}

impl<I, S> CacheService<I, S>
where
    S: Store,
{
    /// `call`, but for what it tells of the key.
    #[inline(always)] // a hit would move the request's head once more
    fn answer<Q, B>(&self, parts: Parts, body: Q) -> ResponseFuture<I, Q, B>
    where
        I: Service<Request<Q>, Response = Response<B>> + Clone + Send + 'static,
        I::Future: Send,
        I::Error: Send,
        Q: Body + Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let core = &self.cache.core;
        if core.is_nested(&parts) {
            return self.pass(parts, body, Forward::Bypass, Some(Detail::Nested));
        }
        let key = match core.policy.request(&parts) {
            RequestAction::Bypass(reason) => {
                // An unsafe request invalidates its target all the same (RFC 9111 4.4).
                if is_unsafe(&parts.method)
                    && let Ok(key) = CacheKey::of(&parts)
                {
                    return self.invalidate(key, parts, body, Some(reason));
                }
                return self.pass(parts, body, Forward::Bypass, Some(Detail::Bypass(reason)));
            }
            RequestAction::Cache(key) => key,
        };
        let content = match parts.method {
            Method::QUERY => parts.extensions.get::<QueryContent>().cloned(),
            _ => None,
        };
        if parts.method != Method::GET && parts.method != Method::HEAD && content.is_none() {
            return if is_unsafe(&parts.method) {
                self.invalidate(key, parts, body, None)
            } else {
                self.pass(parts, body, Forward::Method, None)
            };
        }
        let fields = RequestFields::of(&parts.headers);
        if fields.upgrade {
            return self.pass(parts, body, Forward::Bypass, Some(Detail::Bypass("upgrade")));
        }
        let (least, is_end) = (body.size_hint().lower(), body.is_end_stream());
        if content.is_none() && framing::request_has_content(parts.version, fields.content, least, is_end) {
            return self.pass(parts, body, Forward::Bypass, Some(Detail::Bypass("content")));
        }
        let key = match content {
            None => key,
            Some(content) => content.key(key, &parts.headers),
        };
        let now = core.clock.now();
        let query = CacheRequest::new(core, parts, fields, key, now);
        if !core.storing {
            return self.fetch(query, body, Lookup::default(), Forward::Bypass, Purpose::Get);
        }
        let Some(lookup) = self.cache.store.try_get(&query.key) else {
            return self.look_up(query, body);
        };
        match query.decide(core, &lookup) {
            // Short, because it is the way of most requests: nothing large is moved.
            Decision::Serve(index) => ResponseFuture::ready(query.hit(core, &lookup.variants[index], None)),
            decision => self.carry_out(decision, query, body, lookup),
        }
    }

    /// Carries out what was decided, with what was found.
    fn carry_out<Q, B>(
        &self,
        decision: Decision,
        query: CacheRequest,
        body: Q,
        lookup: Lookup,
    ) -> ResponseFuture<I, Q, B>
    where
        I: Service<Request<Q>, Response = Response<B>> + Clone + Send + 'static,
        I::Future: Send,
        I::Error: Send,
        Q: Body + Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let core = &self.cache.core;
        match decision {
            Decision::Serve(index) => ResponseFuture::ready(query.hit(core, &lookup.variants[index], None)),
            Decision::ServeAhead(_) | Decision::ServeStale(_) if Runtime::current().is_none() => {
                // Without a runtime, nothing can be validated in the background.
                let decision = query.decide_in_front(core, &lookup);
                self.carry_out(decision, query, body, lookup)
            }
            Decision::ServeAhead(index) => {
                let response = query.hit(core, &lookup.variants[index], None);
                self.validate_behind(query, body, lookup, index);
                ResponseFuture::ready(response)
            }
            Decision::ServeStale(index) => {
                let detail = Some(Detail::StaleWhileRevalidate);
                let response = query.hit(core, &lookup.variants[index], detail);
                self.validate_behind(query, body, lookup, index);
                ResponseFuture::ready(response)
            }
            Decision::Forward(Forward::UriMiss) | Decision::Unsatisfiable if lookup.variants.is_empty() => {
                match (core.aliases.lookup(&query.key), decision) {
                    (Some(key), otherwise) => self.search(query, body, lookup, key, otherwise),
                    (None, Decision::Unsatisfiable) => ResponseFuture::ready(self.unsatisfiable()),
                    (None, _) => self.fetch(query, body, lookup, Forward::UriMiss, Purpose::Get),
                }
            }
            Decision::Unsatisfiable => ResponseFuture::ready(self.unsatisfiable()),
            Decision::Complete(index) => {
                self.fetch(query, body, lookup, Forward::Partial, Purpose::Complete(index))
            }
            Decision::Forward(forward) => self.fetch(query, body, lookup, forward, Purpose::Get),
            Decision::Validate(index, forward, fallback) => {
                self.fetch(query, body, lookup, forward, Purpose::Validate(index, fallback))
            }
        }
    }

    /// Looks for an answer under the key of an equivalent query; `otherwise` is what was decided without one.
    fn search<Q, B>(
        &self,
        query: CacheRequest,
        body: Q,
        missed: Lookup,
        key: CacheKey,
        otherwise: Decision,
    ) -> ResponseFuture<I, Q, B>
    where
        I: Service<Request<Q>, Response = Response<B>> + Clone + Send + 'static,
        I::Future: Send,
        I::Error: Send,
        Q: Body + Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let service = self.clone();
        ResponseFuture::boxed(async move {
            let (core, store) = (&service.cache.core, &service.cache.store);
            let found = store.get(&key).await.unwrap_or_default();
            if let Some(index) = query.finds(core, &key, &found) {
                let stored = &found.variants[index];
                // A purge of what is asked for reaches what answers for it, whatever was known when it was purged.
                if store.is_untouched(&query.key, false, stored.fence).await {
                    return Ok(query.hit(core, stored, None));
                }
            }
            match otherwise {
                Decision::Unsatisfiable => Ok(service.unsatisfiable()),
                _ => service.fetch(query, body, missed, Forward::UriMiss, Purpose::Get).await,
            }
        })
    }

    fn unsatisfiable<B>(&self) -> Response<CacheBody<B>> {
        self.cache.core.no_content(StatusCode::GATEWAY_TIMEOUT, &Outcome::Unsatisfiable)
    }

    /// Asks a store that has to be waited for.
    fn look_up<Q, B>(&self, mut query: CacheRequest, body: Q) -> ResponseFuture<I, Q, B>
    where
        I: Service<Request<Q>, Response = Response<B>> + Clone + Send + 'static,
        I::Future: Send,
        I::Error: Send,
        Q: Body + Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let service = self.clone();
        ResponseFuture::boxed(async move {
            let looked_up = service.cache.store.get(&query.key).await;
            query.now = service.cache.core.clock.now();
            match looked_up {
                Ok(lookup) => {
                    let decision = query.decide(&service.cache.core, &lookup);
                    service.carry_out(decision, query, body, lookup).await
                }
                // Reads fail open: it is a miss, whose result may be stored or not.
                Err(_) => {
                    let missed = query.decide(&service.cache.core, &Lookup::default());
                    let decision = match missed {
                        Decision::Forward(_) => Decision::Forward(Forward::Miss),
                        decision => decision,
                    };
                    service.carry_out(decision, query, body, Lookup::default()).await
                }
            }
        })
    }

    /// Forwards a request that is none of the cache's business.
    fn pass<Q, B>(
        &self,
        mut parts: Parts,
        body: Q,
        forward: Forward,
        detail: Option<Detail>,
    ) -> ResponseFuture<I, Q, B>
    where
        I: Service<Request<Q>, Response = Response<B>> + Clone + Send + 'static,
        I::Future: Send,
        I::Error: Send,
        Q: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let outcome = Outcome::Forwarded(Forwarding { detail, ..Forwarding::new(forward) });
        key::settle_authority(&mut parts);
        self.cache.core.policy.forward(&mut parts);
        framing::repair_request(&mut parts.headers);
        if self.cache.core.gauges.calls.is_bounded() {
            self.cache.core.mark(&mut parts);
        }
        key::leave(&mut parts);
        let (core, request) = (Arc::clone(&self.cache.core), Request::from_parts(parts, body));
        let inner = self.inner.clone();
        // A call that goes through the same layer again has its leave already.
        if !core.gauges.calls.is_bounded() || detail == Some(Detail::Nested) {
            return ResponseFuture::pass(inner, request, core, outcome);
        }
        ResponseFuture::boxed(async move {
            let Some(permit) = core.gauges.calls.begin(None).await else {
                return Ok(core.overloaded(forward, None));
            };
            let is_conditional = validation::is_conditional(request.headers());
            let method = request.method().clone();
            let response = inner.oneshot(request).await?;
            Ok(core.pass_on(response, &method, is_conditional, &outcome, permit))
        })
    }

    /// Asks the inner service: for a new response, or whether a stored one still holds.
    fn fetch<Q, B>(
        &self,
        mut query: CacheRequest,
        body: Q,
        lookup: Lookup,
        forward: Forward,
        purpose: Purpose,
    ) -> ResponseFuture<I, Q, B>
    where
        I: Service<Request<Q>, Response = Response<B>> + Clone + Send + 'static,
        I::Future: Send,
        I::Error: Send,
        Q: Body + Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        // What selects what is stored is what the inner service sees.
        key::settle_authority(&mut query.request);
        let (core, store) = (Arc::clone(&self.cache.core), Arc::clone(&self.cache.store));
        let errand = CollapsedFetch::new(core, store, query, lookup, forward, purpose);
        ResponseFuture::boxed(errand.run(self.inner.clone(), body))
    }

    /// Validates a stored response that has been served stale (RFC 5861 3), or shortly before it will be.
    fn validate_behind<Q, B>(&self, query: CacheRequest, body: Q, lookup: Lookup, index: usize)
    where
        I: Service<Request<Q>, Response = Response<B>> + Clone + Send + 'static,
        I::Future: Send,
        I::Error: Send,
        Q: Body + Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let Some(runtime) = Runtime::current() else {
            return;
        };
        let Some(validation) = self.cache.core.validations.begin(&query.key, query.now) else {
            return;
        };
        let purpose = Purpose::Validate(index, Fallback::None);
        let (core, store) = (Arc::clone(&self.cache.core), Arc::clone(&self.cache.store));
        let about_part = lookup.variants[index].response.head().part.is_some();
        let mut query = query.for_everybody(about_part);
        key::settle_authority(&mut query.request);
        let errand = CollapsedFetch::new(core, store, query, lookup, Forward::Stale, purpose);
        let errand = errand.holding(validation);
        let answer = errand.run(self.inner.clone(), body);
        drop(runtime.spawn(async move {
            // What is stored on the way is all that counts.
            if let Ok(response) = answer.await {
                response.into_body().settled().await;
            }
        }));
    }

    /// Forwards an unsafe request, and invalidates what its success makes invalid (RFC 9111 4.4).
    fn invalidate<Q, B>(
        &self,
        key: CacheKey,
        parts: Parts,
        body: Q,
        bypass: Option<&'static str>,
    ) -> ResponseFuture<I, Q, B>
    where
        I: Service<Request<Q>, Response = Response<B>> + Clone + Send + 'static,
        I::Future: Send,
        I::Error: Send,
        Q: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let (core, store) = (Arc::clone(&self.cache.core), Arc::clone(&self.cache.store));
        let call = UnsafeCall::new(core, store, key, bypass);
        ResponseFuture::boxed(call.run(self.inner.clone(), parts, body))
    }
}
