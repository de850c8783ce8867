//! The flow of a request, verb by verb.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use tower::{Service, ServiceExt};

use crate::body::CacheBody;
use crate::error::BoxError;
use crate::fill::{self, Ask, Tag};
use crate::future::ResponseFuture;
use crate::key::{self, CacheKey};
use crate::layer::Core;
use crate::observe::Place;
use crate::policy::Use;
use crate::semantics::cache_control::RequestDirectives;
use crate::semantics::cache_status::{Detail, Outcome};
use crate::semantics::fields::RequestFields;
use crate::semantics::reuse::{self, Candidate, Decision, Fallback, Forward};
use crate::semantics::validation::{self, Identified};
use crate::semantics::{invalidation, storing};
use crate::store::{How, Lookup, MemoryStore, Store, Stored, Target, Write};
use crate::stored::StoredResponse;

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
        let core = &self.cache.core;
        let (parts, body) = request.into_parts();
        let fields = RequestFields::of(&parts.headers);
        let key = match core.policy.request(&parts) {
            Use::Bypass(reason) => return self.pass(parts, body, Forward::Bypass, Some(reason)),
            Use::Cache(key) => key,
        };
        if parts.method != Method::GET && parts.method != Method::HEAD {
            return if invalidation::is_safe(&parts.method) || parts.method == Method::CONNECT {
                self.pass(parts, body, Forward::Method, None)
            } else {
                self.invalidate(key, parts, body)
            };
        }
        if fields.upgrade {
            return self.pass(parts, body, Forward::Bypass, Some("upgrade"));
        }
        if has_content(&parts, fields, &body) {
            return self.pass(parts, body, Forward::Bypass, Some("content"));
        }
        let now = core.clock.now();
        let query = Query::new(parts, fields, key, now);
        if !core.storing {
            return self.fetch(query, body, Lookup::default(), Decision::Forward(Forward::Bypass));
        }
        match self.cache.store.try_get(&query.key) {
            Some(lookup) => self.resolve(query, body, lookup),
            None => self.look_up(query, body),
        }
    }
}

impl<I, S> CacheService<I, S>
where
    S: Store,
{
    /// Carries out what is decided, with what was found.
    fn resolve<Q, B>(&self, query: Query, body: Q, lookup: Lookup) -> ResponseFuture<I, Q, B>
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
        match query.decide(core, &lookup) {
            Decision::Serve(index) => ResponseFuture::ready(query.hit(core, &lookup.variants[index], None)),
            Decision::ServeStale(index) => {
                let detail = Some(Detail::StaleWhileRevalidate);
                let response = query.hit(core, &lookup.variants[index], detail);
                self.validate_behind(query, body, lookup, index);
                ResponseFuture::ready(response)
            }
            Decision::Unsatisfiable => {
                let status = StatusCode::GATEWAY_TIMEOUT;
                ResponseFuture::ready(core.no_content(status, &Outcome::Unsatisfiable))
            }
            decision @ (Decision::Forward(_) | Decision::Validate(..)) => {
                self.fetch(query, body, lookup, decision)
            }
        }
    }

    /// Asks a store that has to be waited for.
    fn look_up<Q, B>(&self, query: Query, body: Q) -> ResponseFuture<I, Q, B>
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
            match service.cache.store.get(&query.key).await {
                Ok(lookup) => service.resolve(query, body, lookup).await,
                Err(_) => {
                    let outcome = Outcome::Forwarded {
                        collapsed: false,
                        detail: Some(Detail::StoreFailed),
                        forward: Forward::Miss,
                        status: None,
                        stored: false,
                        ttl: None,
                    };
                    let request = Request::from_parts(query.request, body);
                    ResponseFuture::pass(service.inner, request, service.cache.core, outcome).await
                }
            }
        })
    }

    /// Forwards a request that is none of the cache's business.
    fn pass<Q, B>(
        &self,
        parts: Parts,
        body: Q,
        forward: Forward,
        reason: Option<&'static str>,
    ) -> ResponseFuture<I, Q, B>
    where
        I: Service<Request<Q>, Response = Response<B>> + Clone,
    {
        let outcome = Outcome::Forwarded {
            collapsed: false,
            detail: reason.map(Detail::Bypass),
            forward,
            status: None,
            stored: false,
            ttl: None,
        };
        let mut parts = parts;
        self.cache.core.policy.forward(&mut parts);
        let core = Arc::clone(&self.cache.core);
        ResponseFuture::pass(self.inner.clone(), Request::from_parts(parts, body), core, outcome)
    }

    /// Asks the inner service: for a new response, or whether a stored one still holds.
    fn fetch<Q, B>(
        &self,
        query: Query,
        body: Q,
        lookup: Lookup,
        decision: Decision,
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
        let fetch = Fetch::new(self.cache.clone(), query, lookup, decision);
        ResponseFuture::boxed(fetch.run(self.inner.clone(), body))
    }

    /// Validates a stored response that has been served stale (RFC 5861 3).
    fn validate_behind<Q, B>(&self, query: Query, body: Q, lookup: Lookup, index: usize)
    where
        I: Service<Request<Q>, Response = Response<B>> + Clone + Send + 'static,
        I::Future: Send,
        I::Error: Send,
        Q: Body + Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let Some(validation) = self.cache.core.validations.begin(&query.key) else {
            return;
        };
        let decision = Decision::Validate(index, Forward::Stale, Fallback::None);
        let fetch = Fetch::new(self.cache.clone(), query.for_everybody(), lookup, decision);
        let answer = fetch.run(self.inner.clone(), body);
        runtime.spawn(async move {
            // What is stored on the way is all that counts; content on its way in goes on without readers.
            drop(answer.await);
            drop(validation);
        });
    }

    /// Forwards an unsafe request, and invalidates what its success makes invalid (RFC 9111 4.4).
    fn invalidate<Q, B>(&self, key: CacheKey, mut parts: Parts, body: Q) -> ResponseFuture<I, Q, B>
    where
        I: Service<Request<Q>, Response = Response<B>> + Clone + Send + 'static,
        I::Future: Send,
        I::Error: Send,
        Q: Send + 'static,
        B: Send + 'static,
    {
        let (cache, inner) = (self.cache.clone(), self.inner.clone());
        ResponseFuture::boxed(async move {
            let method = parts.method.clone();
            let target = key::absolute_uri(&parts);
            cache.core.policy.forward(&mut parts);
            let response = inner.oneshot(Request::from_parts(parts, body)).await?;
            let (mut parts, body) = response.into_parts();
            let mut detail = None;
            if invalidation::invalidates(&method, parts.status) && cache.core.storing {
                let named = target
                    .map(|target| invalidation::named_targets(&target, &parts.headers))
                    .unwrap_or_default();
                let mut keys = vec![key];
                keys.extend(named.into_iter().filter_map(
                    |uri| match cache.core.policy.request(&key::get(uri)) {
                        Use::Cache(key) => Some(key),
                        Use::Bypass(_) => None,
                    },
                ));
                for key in keys {
                    let target = Target::Uri(key.uri().into());
                    if cache.store.invalidate(&target, How::Remove).await.is_err() {
                        detail = Some(Detail::NotInvalidated);
                    }
                }
            }
            let outcome = Outcome::Forwarded {
                collapsed: false,
                detail,
                forward: Forward::Method,
                status: None,
                stored: false,
                ttl: None,
            };
            cache.core.voice.tell(&outcome, parts.status, &mut parts.headers, Place::Append);
            Ok(Response::from_parts(parts, CacheBody::forwarded(body)))
        })
    }
}

/// A GET or HEAD with all that was read from it.
struct Query {
    directives: RequestDirectives,
    fields: RequestFields,
    key: CacheKey,
    now: SystemTime,
    request: Parts,
}

impl Query {
    fn new(request: Parts, fields: RequestFields, key: CacheKey, now: SystemTime) -> Self {
        let directives = if fields.directives {
            RequestDirectives::of(&request.headers)
        } else {
            RequestDirectives::default()
        };
        Self { directives, fields, key, now, request }
    }

    fn decide(&self, core: &Core, lookup: &Lookup) -> Decision {
        let unkeyed_credentials = self.fields.credentials
            && storing::has_unkeyed_credentials(&self.request.headers, self.key.keyed_credentials());
        let ask =
            reuse::Ask { directives: &self.directives, headers: &self.request.headers, unkeyed_credentials };
        let candidates = lookup
            .variants
            .iter()
            .map(|stored| Candidate { expired: stored.expired, reuse: stored.response.head().reuse() });
        reuse::decide(&ask, candidates, core.policy.rules(), self.now)
    }

    fn hit<B>(&self, core: &Core, stored: &Stored, detail: Option<Detail>) -> Response<CacheBody<B>> {
        let ttl = stored.response.head().reuse.ttl(self.now);
        // After a soft purge it has been stale since then, however long it would have lived.
        let ttl = stored.expired.map_or(ttl, |expired| {
            let since = self.now.duration_since(expired).unwrap_or_default();
            ttl.min(-i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
        });
        let outcome = Outcome::Hit { ttl, detail };
        core.answer(&stored.response, &self.request, self.fields, &outcome, self.now)
    }

    /// The request as a fill for everybody: a HEAD asks for the whole, what the client already has does not
    /// matter, nor what it would rather not wait for.
    fn for_everybody(mut self) -> Self {
        self.request.method = Method::GET;
        validation::remove_conditions(&mut self.request.headers);
        self.fields.conditions = false;
        self.fields.range = false;
        self.directives = RequestDirectives::default();
        self
    }
}

/// RFC 9110 9.3.1: content in a GET has no meaning, and yet some service may look at it. Without a length,
/// HTTP/1 has none; later versions tell only by their frames.
fn has_content<Q: Body>(request: &Parts, fields: RequestFields, body: &Q) -> bool {
    fields.content || (request.version >= http::Version::HTTP_2 && !body.is_end_stream())
}

/// One call of the inner service for the cache's sake.
struct Fetch<S> {
    ask: Ask,
    cache: Cache<S>,
    fallback: Fallback,
    lookup: Lookup,
    selected: Option<usize>,
}

impl<S: Store> Fetch<S> {
    fn new(cache: Cache<S>, query: Query, lookup: Lookup, decision: Decision) -> Self {
        let (selected, forward, fallback) = match decision {
            Decision::Validate(index, forward, fallback) => (Some(index), forward, fallback),
            Decision::Forward(forward) => (None, forward, Fallback::None),
            _ => (None, Forward::Miss, Fallback::None),
        };
        // Without anything stored to validate, a range is the inner service's to cut.
        let sent_range = query.fields.range && selected.is_none();
        let ask = Ask {
            directives: query.directives,
            fence: lookup.fence,
            fields: query.fields,
            forward,
            key: query.key,
            validating: selected.is_some(),
            request: query.request,
            sent_at: query.now,
            sent_range,
        };
        Self { ask, cache, fallback, lookup, selected }
    }

    async fn run<I, Q, B>(self, inner: I, body: Q) -> Result<Response<CacheBody<B>>, I::Error>
    where
        I: Service<Request<Q>, Response = Response<B>>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let request = Request::from_parts(self.outgoing(), body);
        match inner.oneshot(request).await {
            Err(error) => match self.fallback {
                Fallback::StaleIfError => Ok(self.stand_in(None)),
                Fallback::Forbidden => {
                    let outcome = Outcome::forwarded(self.ask.forward);
                    Ok(self.cache.core.no_content(StatusCode::GATEWAY_TIMEOUT, &outcome))
                }
                Fallback::None => Err(error),
            },
            Ok(response) if self.fallback == Fallback::StaleIfError && is_failure(response.status()) => {
                Ok(self.stand_in(Some(response.status())))
            }
            Ok(response) if response.status() == StatusCode::NOT_MODIFIED && self.is_conditional() => {
                Ok(self.freshen(response).await)
            }
            Ok(response) => {
                let Cache { core, store } = self.cache;
                Ok(fill::receive(core, store, self.ask, response).await)
            }
        }
    }

    /// The request as it goes to the inner service.
    fn outgoing(&self) -> Parts {
        let mut parts = self.ask.request.clone();
        if self.cache.core.storing && !self.ask.sent_range {
            let stored = self.lookup.variants.iter().map(|stored| stored.response.head().validators());
            let selected = self.selected().map(|stored| stored.response.head().validators());
            validation::set_conditions(&mut parts.headers, selected, stored);
        }
        self.cache.core.policy.forward(&mut parts);
        parts
    }

    fn selected(&self) -> Option<&Stored> {
        self.lookup.variants.get(self.selected?)
    }

    /// Whether a 304 would be the answer to conditions of the cache's own.
    fn is_conditional(&self) -> bool {
        !self.ask.sent_range && !self.lookup.variants.is_empty()
    }

    /// Serves the stored response in place of a failure (RFC 5861 4).
    fn stand_in<B>(&self, status: Option<StatusCode>) -> Response<CacheBody<B>> {
        let core = &self.cache.core;
        let now = core.clock.now();
        let outcome = Outcome::Forwarded {
            collapsed: false,
            detail: Some(Detail::StaleIfError),
            forward: self.ask.forward,
            status,
            stored: false,
            ttl: self.selected().map(|stored| stored.response.head().reuse.ttl(now)),
        };
        match self.selected() {
            Some(stored) => core.answer(&stored.response, &self.ask.request, self.ask.fields, &outcome, now),
            None => core.no_content(StatusCode::GATEWAY_TIMEOUT, &outcome),
        }
    }

    /// Freshens the stored response that a 304 speaks of, and answers with it (RFC 9111 4.3.4).
    async fn freshen<B>(self, response: Response<B>) -> Response<CacheBody<B>> {
        let core = &self.cache.core;
        let received_at = core.clock.now();
        let (mut not_modified, body) = response.into_parts();
        let stored = self.lookup.variants.iter().map(|stored| stored.response.head().validators());
        let index = match validation::identify(&not_modified.headers, self.selected, stored) {
            Identified::Freshen(index) => index,
            Identified::Unknown => {
                // It changes nothing that is stored. The client that asked for its own tag may know it.
                let outcome = Outcome::forwarded(self.ask.forward);
                if self.ask.fields.conditions || self.selected.is_none() {
                    let headers = &mut not_modified.headers;
                    core.voice.tell(&outcome, not_modified.status, headers, Place::Append);
                    return Response::from_parts(not_modified, CacheBody::forwarded(body));
                }
                return self.stand_in(Some(StatusCode::NOT_MODIFIED));
            }
        };
        let old = &self.lookup.variants[index];
        let head = old.response.head();
        let mut stored_fields = head.headers.clone();
        stored_fields.remove(crate::semantics::cache_status::CACHE_STATUS);
        stored_fields.remove(crate::observe::X_CACHE);
        let tag = if head.tag_is_ours && !not_modified.headers.contains_key(http::header::ETAG) {
            Tag::Ours
        } else {
            Tag::Theirs
        };
        not_modified.headers = validation::freshen(&stored_fields, &not_modified.headers);
        not_modified.status = head.status;
        let max_object = self.cache.store.max_object();
        let mut ask = self.ask;
        let method = std::mem::replace(&mut ask.request.method, Method::GET);
        let judgement = fill::judge(core, &ask, &not_modified, max_object, received_at);
        ask.request.method = method;
        let terms = judgement.terms.store;
        let head = judgement.head(core, head.status, not_modified.headers, ask.sent_at, None, tag);
        let ttl = head.reuse.ttl(received_at);
        let response = StoredResponse::new(head, old.response.payload().clone());
        let written = match terms {
            Err(reason) => Err(reason),
            Ok(()) => {
                let (store, key) = (&self.cache.store, &ask.key);
                let written = if self.selected == Some(index) {
                    store.freshen(key, old.id, response.clone(), ask.fence).await
                } else {
                    // Another variant's content answers this request's selecting fields too.
                    store.put(key, response.clone(), ask.fence).await
                };
                match written {
                    Ok(Write::Stored) => Ok(()),
                    _ => Err(storing::NotStored::Store),
                }
            }
        };
        let outcome = Outcome::Forwarded {
            collapsed: false,
            detail: written.err().map(Detail::NotStored),
            forward: ask.forward,
            status: Some(StatusCode::NOT_MODIFIED),
            stored: written.is_ok(),
            ttl: Some(ttl),
        };
        core.answer(&response, &ask.request, ask.fields, &outcome, received_at)
    }
}

/// RFC 5861 4.
fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}
