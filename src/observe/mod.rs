//! What became of a request: the one place where it is reported, to its client and to an observer.

mod event;
mod failures;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
mod server_timing;
pub(crate) mod span;
#[cfg(feature = "tracing")]
pub(crate) mod tracing;
mod x_cache;

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

pub use self::event::{Event, InvalidatedBy, Observer};
pub use self::failures::FailedBy;
pub(crate) use self::failures::Failures;
pub(crate) use self::server_timing::SERVER_TIMING;
pub use self::server_timing::ServerTiming;
pub use self::x_cache::XCache;
use self::x_cache::{HitCounts, X_CACHE_HITS, X_SERVED_BY};
use crate::body::{CacheBody, WhenEnded};
use crate::entry::Purpose;
use crate::entry::key::CacheKey;
use crate::policy::{RequestPolicy, TrustedPeer};
use crate::runtime::clock::Clock;
use crate::runtime::{Instant, moment};
use crate::semantics::cache_status::{CACHE_STATUS, Outcome, X_CACHE};
use crate::semantics::hint::CacheHint;
use crate::semantics::outcome_kind::OutcomeKind;
use crate::semantics::reuse::Forward;
use crate::semantics::token::TokenField;

/// What a request has come to whose client has left before there was an answer, in place of an
/// [`OutcomeKind`].
#[cfg(any(feature = "metrics", feature = "tracing"))]
const ABANDONED: &str = "abandoned";

/// The field by which a request shows the debug token.
const LARDER_DEBUG: HeaderName = HeaderName::from_static("larder-debug");

/// The longest URI that is reported whole.
const LONGEST_KEY: usize = 1024;

/// A response with what became of its request, which is not reported yet.
#[derive(Debug)]
pub(crate) struct Answer {
    /// How long the inner service took, where it was called for this answer and somebody wants to know.
    pub(crate) origin: Option<Duration>,
    pub(crate) outcome: Outcome,
    pub(crate) response: Response<CacheBody>,
    pub(crate) upstream: Upstream,
}

/// Where an answer has the `Cache-Status` of caches nearer to the origin.
#[derive(Debug)]
pub(crate) enum Upstream {
    /// Among its fields, if anywhere.
    InFields,
    /// With the stored response, if anywhere.
    Stored(Option<Box<[u8]>>),
}

impl Answer {
    /// An answer with a status and fields, whose `Cache-Status` is among them if there is one.
    pub(crate) fn new(status: StatusCode, headers: HeaderMap, body: CacheBody, outcome: Outcome) -> Self {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Self { origin: None, outcome, response, upstream: Upstream::InFields }
    }

    /// A response that was received for this client.
    pub(crate) fn received(response: Response<CacheBody>, outcome: impl Into<Outcome>) -> Self {
        Self { origin: None, outcome: outcome.into(), response, upstream: Upstream::InFields }
    }
}

/// What became of a request, for what is wrapped around it in this crate.
#[derive(Clone)]
pub(crate) struct KeptOutcome(pub(crate) Outcome);

/// Two observers, one after the other.
struct Both(Arc<dyn Observer>, Arc<dyn Observer>);

impl Observer for Both {
    fn event(&self, event: &Event<'_>) {
        self.0.event(event);
        self.1.event(event);
    }
}

/// How a cache reports.
#[derive(Clone)]
pub(crate) struct Reporter {
    /// Whether `Cache-Status` is sent.
    pub(crate) cache_status: bool,
    /// That of the layer.
    pub(crate) clock: Clock,
    /// What a request has to show so that its answer reports anything in fields.
    debug_token: Option<Arc<ArcSwap<TokenField>>>,
    /// What errors of the inner service mean.
    pub(crate) failures: Option<Failures>,
    /// How often each key was hit, where the form of `X-Cache` says so.
    hits: Option<Arc<HitCounts>>,
    /// Every request has a report, because of what is configured.
    is_wanted: bool,
    /// Whether `Cache-Status`, where it is sent, has the key's URI.
    pub(crate) key: bool,
    /// The cache's name: a token.
    pub(crate) name: Box<str>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    /// Whether an answer has its [`Outcome`] among its extensions.
    pub(crate) outcome_in_extensions: bool,
    /// Which answers have a `Server-Timing`.
    pub(crate) server_timing: Option<ServerTiming>,
    /// How `X-Cache` is sent as well.
    pub(crate) x_cache: XCache,
}

impl Default for Reporter {
    fn default() -> Self {
        Self {
            cache_status: true,
            clock: Clock::default(),
            debug_token: None,
            failures: None,
            hits: None,
            is_wanted: false,
            key: false,
            name: "larder".into(),
            observer: None,
            outcome_in_extensions: false,
            server_timing: None,
            x_cache: XCache::Off,
        }
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporter").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Reporter {
    /// What the fields of an answer from storage are for: with places for what is reported.
    #[inline]
    pub(crate) fn purpose(&self) -> Purpose {
        Purpose {
            cache_status: self.cache_status,
            counts_from_itself: false,
            not_modified: false,
            x_cache: self.x_cache == XCache::CloudFront,
        }
    }

    /// What follows from the configuration, once that is complete.
    pub(crate) fn settle(&mut self) {
        self.key &= self.cache_status;
        // Of this layer alone, whatever else was built from the same configuration.
        self.debug_token = self.debug_token.take().map(|token| Arc::new(ArcSwap::new(token.load_full())));
        self.hits = (self.x_cache == XCache::Fastly).then(Arc::default);
        self.is_wanted = self.key || self.measures() || self.debug_token.is_some() || self.hits.is_some();
    }

    /// Reports in fields only where a request shows a secret, or comes from a peer.
    pub(crate) fn limit_to(&mut self, secret: &str) {
        self.debug_token = Some(Arc::new(ArcSwap::from_pointee(TokenField::new(LARDER_DEBUG, secret))));
    }

    /// Makes another secret the one that counts; `false` where nobody has to show one.
    pub(crate) fn replace_limit(&self, secret: &str) -> bool {
        let Some(token) = &self.debug_token else { return false };
        token.store(Arc::new(TokenField::new(LARDER_DEBUG, secret)));
        true
    }

    /// Reports to one more.
    pub(crate) fn add_observer(&mut self, observer: Arc<dyn Observer>) {
        self.observer = Some(match self.observer.take() {
            None => observer,
            Some(earlier) => Arc::new(Both(earlier, observer)),
        });
    }

    /// Whether anybody gets to see what became of a request, except by its answer.
    pub(crate) fn shows_outcomes(&self) -> bool {
        self.cache_status || self.outcome_in_extensions || self.observer.is_some()
    }

    pub(crate) fn event(&self, event: &Event<'_>) {
        if let Some(observer) = &self.observer {
            observer.event(event);
        }
    }

    /// What is stored under the key is about to be replaced, or to get a new head: its hits are counted from here.
    #[inline]
    pub(crate) fn replaces(&self, key: &CacheKey) {
        if let Some(hits) = &self.hits {
            hits.forget(key);
        }
    }

    /// A request has arrived. What becomes of it is reported by what this gives.
    #[inline]
    pub(crate) fn begin(&self, request: &mut Parts) -> RequestReport {
        if self.is_wanted { self.begin_wanted(request) } else { RequestReport(None) }
    }

    #[inline(never)] // so that a request of which nobody wants to know more is short
    fn begin_wanted(&self, request: &mut Parts) -> RequestReport {
        let is_hidden = self.debug_token.as_ref().is_some_and(|token| {
            let token = token.load();
            let is_hidden = !token.is_in(&request.headers);
            // Nobody else gets to see it.
            request.headers.remove(token.name());
            is_hidden && request.extensions.get::<TrustedPeer>().is_none()
        });
        let is_timed = self.server_timing.as_ref().is_some_and(|timing| timing.wants(&request.headers));
        let (method, observer) = (request.method.clone(), self.observer.clone());
        let arrived = Arrived {
            at: moment(),
            called: None,
            failures: self.failures.clone(),
            is_hidden,
            is_timed,
            keeps_outcome: false,
            key: None,
            kind: None,
            method,
            observer,
        };
        let is_wanted = arrived.is_wanted() || self.key || self.hits.is_some();
        RequestReport(is_wanted.then(|| Box::new(arrived)))
    }

    /// Whether anybody wants to know how long the inner service takes.
    #[inline]
    pub(crate) fn measures(&self) -> bool {
        self.observer.is_some() || self.server_timing.is_some()
    }

    /// Reports an answer in its own fields.
    #[inline]
    fn write(&self, answer: Answer, policy: &RequestPolicy, more: Option<&More<'_>>) -> Response<CacheBody> {
        let Answer { outcome, mut response, upstream, .. } = answer;
        let status = response.status();
        // It is for the nearest cache. Where the outer pass of a layer through itself answers, that is this one.
        if !response.extensions().is_empty() && !outcome.is_nested() {
            response.extensions_mut().remove::<CacheHint>();
        }
        let headers = response.headers_mut();
        if more.is_some_and(|more| more.is_hidden) {
            self.hide(headers);
        } else {
            self.write_fields(headers, upstream, &outcome, status, more);
        }
        policy.deliver((&self.name, &self.clock), status, headers, &outcome);
        if self.outcome_in_extensions {
            response.extensions_mut().insert(outcome);
        }
        response
    }

    /// Takes away what this cache and those nearer to the origin report.
    fn hide(&self, headers: &mut HeaderMap) {
        headers.remove(CACHE_STATUS);
        if self.x_cache != XCache::Off {
            for name in [X_CACHE, X_CACHE_HITS, X_SERVED_BY] {
                headers.remove(name);
            }
        }
    }

    #[inline]
    fn write_fields(
        &self,
        headers: &mut HeaderMap,
        upstream: Upstream,
        outcome: &Outcome,
        status: StatusCode,
        more: Option<&More<'_>>,
    ) {
        if self.cache_status {
            match upstream {
                Upstream::InFields => {
                    headers.append(CACHE_STATUS, outcome.render(&self.name, None));
                }
                Upstream::Stored(upstream) => {
                    put(headers, &CACHE_STATUS, outcome.render(&self.name, upstream.as_deref()));
                }
            }
            if let Some(key) = more.and_then(|more| more.key).filter(|_| self.key) {
                add_key(key.uri(), headers);
            }
        } else if let Upstream::Stored(Some(upstream)) = upstream {
            headers.extend(HeaderValue::from_bytes(&upstream).ok().map(|upstream| (CACHE_STATUS, upstream)));
        }
        match self.x_cache {
            XCache::CloudFront => put(headers, &X_CACHE, HeaderValue::from_static(outcome.x_cache(status))),
            XCache::Fastly => {
                x_cache::append(headers, outcome, &self.name, more.and_then(|more| more.hits));
            }
            XCache::Off => {}
        }
        if let Some(timing) = more.and_then(|more| more.timing.clone()) {
            headers.append(SERVER_TIMING, timing);
        }
    }
}

/// What is rarely reported in an answer's fields.
struct More<'a> {
    /// How often what is stored under the key has answered, where that is counted.
    hits: Option<u64>,
    /// Nothing is reported in fields.
    is_hidden: bool,
    key: Option<&'a CacheKey>,
    timing: Option<HeaderValue>,
}

/// Sets a field that has a place among the first ones, where the answer is from storage.
#[inline]
fn put(headers: &mut HeaderMap, name: &HeaderName, value: HeaderValue) {
    match headers.iter_mut().take(3).find(|(own, _)| *own == name) {
        Some((_, place)) => *place = value,
        None => drop(headers.insert(name, value)),
    }
}

/// What is reported of one request. Where nobody wants to know more than its answer says by itself, this is empty.
///
/// Dropped without an answer, it reports that the client has left.
#[derive(Default)]
pub(crate) struct RequestReport(Option<Box<Arrived>>);

struct Arrived {
    at: Instant,
    called: Option<Called>,
    failures: Option<Failures>,
    /// Its answer says nothing of the cache, unless the policy recognises a peer.
    is_hidden: bool,
    /// Its answer has a `Server-Timing`.
    is_timed: bool,
    /// Its outcome is among the extensions of its answer.
    keeps_outcome: bool,
    key: Option<CacheKey>,
    /// What became of it, once it has its answer.
    kind: Option<OutcomeKind>,
    method: Method,
    observer: Option<Arc<dyn Observer>>,
}

/// A call of the inner service that nothing else knows of.
#[derive(Clone, Copy)]
struct Called {
    at: Instant,
    took: Option<Duration>,
}

impl RequestReport {
    /// The key under which the request is looked up.
    #[inline]
    pub(crate) fn set_key(&mut self, key: &CacheKey) {
        if let Some(arrived) = &mut self.0 {
            arrived.key = Some(key.clone());
        }
    }

    /// The same, with its outcome among the extensions of its answer, as [`KeptOutcome`].
    pub(crate) fn keeping_outcome(mut self, method: &Method) -> Self {
        let arrived = self.0.get_or_insert_with(|| {
            Box::new(Arrived {
                at: moment(),
                called: None,
                failures: None,
                is_hidden: false,
                is_timed: false,
                keeps_outcome: true,
                key: None,
                kind: None,
                method: method.clone(),
                observer: None,
            })
        });
        arrived.keeps_outcome = true;
        self
    }

    /// Whether anybody wants to know more of the request than its answer says.
    #[inline]
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// The inner service is called, for a request that is looked up nowhere.
    #[inline]
    pub(crate) fn calls(&mut self) {
        if let Some(arrived) = &mut self.0 {
            arrived.called = Some(Called { at: moment(), took: None });
        }
    }

    /// The inner service has answered that call with `status`, or failed.
    #[inline]
    pub(crate) fn called(&mut self, forward: Forward, status: Option<StatusCode>) {
        if let Some(arrived) = &mut self.0 {
            arrived.called(forward, status);
        }
    }

    /// The request has its answer.
    #[inline]
    pub(crate) fn answered(
        mut self,
        reporter: &Reporter,
        policy: &RequestPolicy,
        answer: Answer,
    ) -> Response<CacheBody> {
        match self.0.take() {
            None => reporter.write(answer, policy, None),
            Some(arrived) => arrived.answered(reporter, policy, answer),
        }
    }

    /// The request gets the error of the inner service.
    pub(crate) fn failed(mut self, error: &dyn Any) {
        if let Some(arrived) = self.0.take() {
            let Arrived { at, failures, key, method, .. } = &*arrived;
            let (elapsed, key) = (moment().duration_since(*at), key.as_ref());
            arrived.event(&match Failures::read(failures.as_ref(), error) {
                FailedBy::Client => Event::Dropped { elapsed, key, method },
                FailedBy::Service(reason) => Event::Failed { elapsed, key, method, reason },
            });
        }
    }
}

impl Arrived {
    /// Whether there is anything about it that its answer does not say by itself.
    fn is_wanted(&self) -> bool {
        self.is_hidden || self.is_timed || self.observer.is_some()
    }

    fn event(&self, event: &Event<'_>) {
        if let Some(observer) = &self.observer {
            observer.event(event);
        }
    }

    /// What has no key was not called for the cache's sake.
    fn called(&mut self, forward: Forward, status: Option<StatusCode>) {
        let Some(called) = &mut self.called else {
            return;
        };
        let elapsed = moment().duration_since(called.at);
        called.took = Some(elapsed);
        if let Some(key) = &self.key {
            self.event(&Event::Fetched { elapsed, forward, is_background: false, key, status });
        }
    }

    /// [`Arrived::event`] where something is dropped, be it by a panic: a second one would end the process.
    fn last_event(&self, event: &Event<'_>) {
        drop(catch_unwind(AssertUnwindSafe(|| self.event(event))));
    }

    fn answered(
        mut self: Box<Self>,
        reporter: &Reporter,
        policy: &RequestPolicy,
        answer: Answer,
    ) -> Response<CacheBody> {
        let Self { at, key, method, observer, .. } = &*self;
        if observer.is_some() {
            let (elapsed, status) = (moment().duration_since(*at), answer.response.status());
            let outcome = &answer.outcome;
            self.event(&Event::Answered { elapsed, key: key.as_ref(), method, outcome, status });
        }
        // The policy may have recognised a peer by what it does not have any more.
        let is_hidden = self.is_hidden && !policy.is_for_peer();
        let is_timed = self.is_timed && !is_hidden;
        let timing =
            if is_timed { server_timing::value(&answer.outcome, self.origin(&answer)) } else { None };
        let kind = answer.outcome.kind();
        // Also where the client does not get to know.
        let hits =
            key.as_ref().zip(reporter.hits.as_ref()).map(|(key, hits)| hits.count(key, &answer.outcome));
        let more = More { hits, is_hidden, key: key.as_ref(), timing };
        let kept = self.keeps_outcome.then(|| KeptOutcome(answer.outcome.clone()));
        let mut response = reporter.write(answer, policy, Some(&more));
        if let Some(kept) = kept {
            response.extensions_mut().insert(kept);
        }
        if observer.is_some() {
            self.kind = Some(kind);
            response.body_mut().when_ended(self);
        }
        response
    }
}

impl WhenEnded for Arrived {
    fn ended(self: Box<Self>, bytes: u64, is_whole: bool) {
        let Self { at, key, kind, method, .. } = &*self;
        if let Some(kind) = *kind {
            let (elapsed, key) = (moment().duration_since(*at), key.as_ref());
            self.last_event(&Event::BodyEnded { bytes, elapsed, is_whole, key, kind, method });
        }
    }
}

impl Arrived {
    /// How long the inner service took.
    fn origin(&self, answer: &Answer) -> Option<Duration> {
        let called = |called: Called| called.took.unwrap_or_else(|| moment().duration_since(called.at));
        answer.origin.or_else(|| self.called.map(called))
    }
}

impl Drop for RequestReport {
    fn drop(&mut self) {
        if let Some(arrived) = self.0.take() {
            let Arrived { at, key, method, .. } = &*arrived;
            let elapsed = moment().duration_since(*at);
            arrived.last_event(&Event::Dropped { elapsed, key: key.as_ref(), method });
        }
    }
}

/// Adds the URI of the key to the last member of `Cache-Status` (RFC 9211 2.7).
fn add_key(uri: &[u8], headers: &mut HeaderMap) {
    let mut lines: Vec<HeaderValue> = headers.get_all(CACHE_STATUS).into_iter().cloned().collect();
    let Some(last) = lines.pop() else {
        return;
    };
    let mut line = last.as_bytes().to_vec();
    line.extend_from_slice(b"; key=\"");
    for &byte in uri.iter().take(LONGEST_KEY) {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => line.push(byte),
            _ => line.push(b'-'),
        }
    }
    line.push(b'"');
    lines.extend(HeaderValue::from_bytes(&line));
    headers.remove(CACHE_STATUS);
    for line in lines {
        headers.append(CACHE_STATUS, line);
    }
}
