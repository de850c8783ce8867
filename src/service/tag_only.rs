//! A layer that stores nothing: an answer gets its entity tag, and the client's conditions are evaluated on it
//! (RFC 9110 8.8.3, 13).
//!
//! Nothing that storing needs happens here: no look-up, no call that others share, no task, and no key or terms where nobody
//! asks for them.

use std::any::Any;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, response};
use http_body::Body;
use tower::ServiceExt;

use crate::body::CacheBody;
use crate::body::incoming::Incoming;
use crate::body::prefetch::{self, Content, Prefetch, WaitFor};
use crate::entry::key::CacheKey;
use crate::error::BoxError;
use crate::fetch::InnerService;
use crate::limits::calls::CallPermit;
use crate::observe::{Answer, RequestReport};
use crate::policy::{Judged, OfOrigin, RequestPolicy};
use crate::respond::request::CacheRequest;
use crate::respond::{Received, no_content};
use crate::semantics::cache_control::ResponseDirectives;
use crate::semantics::cache_status::{Detail, Forwarding, Outcome};
use crate::semantics::etag::TagKind;
use crate::semantics::fields::{RequestFields, TagFields};
use crate::semantics::range::SentRange;
use crate::semantics::reuse::Forward;
use crate::semantics::storing::NotStored;
use crate::semantics::tagging::is_taggable;
use crate::semantics::targeted::DEFAULT_TARGETS;
use crate::semantics::{framing, targeted, validation};
use crate::shared::{Core, Shared};

/// What counts of a GET, HEAD or QUERY until it is answered.
pub(super) struct TagOnly<S> {
    /// Those of the client.
    conditions: Option<Box<HeaderMap>>,
    /// The request that went out has a condition that a 304 answers.
    is_conditional: bool,
    /// The inner service cuts the range that is asked for, and evaluates the conditions that came with it.
    is_evaluated: bool,
    judged: Option<Box<JudgedRequest>>,
    method: Method,
    policy: RequestPolicy,
    report: RequestReport,
    shared: Arc<Shared<S>>,
    /// The targeted fields that count (RFC 9213); `None` for the default, as most policies have it.
    targets: Option<Box<[HeaderName]>>,
}

/// A request by which the policy judges the response.
struct JudgedRequest {
    request: CacheRequest,
    /// The fields as they were sent, where the policy wants to see them.
    sent: Option<HeaderMap>,
}

/// What becomes of an answer of the inner service.
pub(super) enum Tagged<S> {
    Answer(Response<CacheBody>),
    /// Not all of its content is there.
    Awaited(Box<Awaited<S>>),
}

/// An answer that gets its tag when its content is whole.
pub(super) struct Awaited<S> {
    body: Incoming,
    exchange: TagOnly<S>,
    kind: TagKind,
    parts: response::Parts,
}

impl<S> TagOnly<S> {
    /// Reads a request, and makes of it the one that goes out. `key` is the one by which the policy judges the response, if
    /// it does.
    pub(super) fn new(
        shared: &Arc<Shared<S>>,
        request: &mut Parts,
        fields: RequestFields,
        key: Option<&CacheKey>,
        policy: RequestPolicy,
        mut report: RequestReport,
    ) -> Self {
        let judged = key.filter(|_| !policy.hooks.is_for_storing_only()).map(|key| {
            let (request, now) = (request.clone(), shared.core.clock.now());
            CacheRequest::new(request, fields, key.clone(), now, policy.clone())
        });
        let targets = &policy.rules(request).targets[..];
        let targets = (*targets != DEFAULT_TARGETS).then(|| targets.into());
        let conditions = fields.conditions.then(|| Box::new(validation::conditions(&request.headers)));
        let method = request.method.clone();
        let is_evaluated = SentRange::of(&method, fields.range, false, false) == SentRange::Clients;
        policy.forward(request, Forward::Bypass, false);
        if fields.content {
            framing::repair_request(&mut request.headers);
        }
        let judged = judged.map(|judged| {
            let sent = policy.hooks.needs_sent_fields().then(|| request.headers.clone());
            Box::new(JudgedRequest { request: judged, sent })
        });
        report.calls();
        Self {
            conditions,
            is_conditional: fields.conditions && validation::is_conditional(&request.headers),
            is_evaluated,
            judged,
            method,
            policy,
            report,
            shared: Arc::clone(shared),
            targets,
        }
    }

    /// Calls the inner service where calls are bounded. They are counted by keys.
    pub(super) async fn call_by_permit<I, Q>(
        mut self,
        key: Option<CacheKey>,
        inner: I,
        request: Request<Q>,
    ) -> Result<Response<CacheBody>, I::Error>
    where
        I: InnerService<Q>,
    {
        let Some(permit) = self.core().gauges.calls.begin(key.as_ref()).await else {
            let answer = self.core().overloaded(Forward::Bypass, None);
            return Ok(self.report(answer));
        };
        self.report.calls(); // the call begins here, however long the request has waited
        match inner.oneshot(request).await {
            Ok(response) => match self.answer(response, permit) {
                Tagged::Answer(answer) => Ok(answer),
                Tagged::Awaited(awaited) => Ok(awaited.answer().await),
            },
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    /// The inner service has failed.
    pub(super) fn failed(mut self, error: &dyn Any) {
        self.report.called(Forward::Bypass, None);
        self.report.failed(error);
    }

    /// Answers with what the inner service answered. The call is under way until its body ends.
    pub(super) fn answer<B>(mut self, response: Response<B>, permit: CallPermit) -> Tagged<S>
    where
        B: Body<Error: Into<BoxError>> + Send + 'static,
    {
        self.report.called(Forward::Bypass, Some(response.status()));
        let (mut parts, body) = response.into_parts();
        let targets = self.targets.as_deref().unwrap_or(&DEFAULT_TARGETS);
        let fields = TagFields::of(&parts.headers, targets);
        let declared = if fields.framing {
            framing::repair(&self.method, parts.status, &mut parts.headers)
        } else {
            None
        };
        if parts.status == StatusCode::NOT_MODIFIED && !self.is_conditional {
            return Tagged::Answer(self.unexpected_not_modified(parts));
        }
        let directives = if fields.no_store {
            targeted::directives(&parts.headers, targets)
        } else {
            ResponseDirectives::default()
        };
        self.judge(&mut parts);
        if framing::has_no_content(&self.method, parts.status) {
            return Tagged::Answer(self.pass_on(parts, CacheBody::empty()));
        }
        let length = declared.or_else(|| body.size_hint().exact());
        let body = Incoming::new(body, length, permit);
        let kind = self.tag_kind(&parts, &directives, length);
        let Some(kind) = kind else {
            let body = CacheBody::forwarded(&self.core().gauges.held, body);
            return Tagged::Answer(self.pass_on(parts, body));
        };
        match prefetch::at_once(body, Some(kind)) {
            Prefetch::Partial(body) => {
                Tagged::Awaited(Box::new(Awaited { body, exchange: self, kind, parts }))
            }
            taken => Tagged::Answer(self.tag(parts, taken)),
        }
    }

    fn core(&self) -> &Core {
        &self.shared.core
    }

    /// Lets the policy say which fields the client gets. Nothing is stored, whatever it says.
    fn judge(&self, response: &mut response::Parts) {
        let Some(JudgedRequest { request, sent }) = self.judged.as_deref() else {
            return;
        };
        let judged = Judged {
            is_background: false,
            max_body: 0,
            method: &self.method,
            names_target: false,
            request: request.judged(),
            sent: sent.as_ref(),
            store: Err(NotStored::SwitchedOff),
        };
        let now = self.core().clock.now();
        let (_, terms) = judged.terms(&request.policy, response, now);
        let (headers, of_origin) = (&mut response.headers, &mut OfOrigin::default());
        terms.for_client(response.status, headers, now, &request.rules().targets, of_origin);
    }

    /// How to tag a response with content of this length; `None` where it has a tag, or is of a kind that gets none.
    fn tag_kind(
        &self,
        response: &response::Parts,
        directives: &ResponseDirectives,
        length: Option<u64>,
    ) -> Option<TagKind> {
        let tagging = self.core().tagging?;
        let is_small = length.is_some_and(|length| length <= tagging.small);
        let store = Err(NotStored::SwitchedOff);
        let has_tag = response.headers.contains_key(header::ETAG);
        (is_small && is_taggable(&self.method, response.status, has_tag, directives, store))
            .then_some(tagging.kind)
    }

    /// Answers with content that was taken in.
    fn tag(self, mut parts: response::Parts, mut taken: Prefetch) -> Response<CacheBody> {
        if let Prefetch::Complete(Content { tag, .. }) = &mut taken
            && let Some(tag) = tag.take()
        {
            parts.headers.insert(header::ETAG, tag);
        }
        let body = CacheBody::taken_in(&self.core().gauges.held, taken);
        self.pass_on(parts, body)
    }

    /// Answers with a response, unless the client's conditions make it shorter.
    fn pass_on(self, parts: response::Parts, body: CacheBody) -> Response<CacheBody> {
        let received = Received { body, is_evaluated: self.is_evaluated, parts };
        let answer =
            received.answer(&self.method, self.conditions.as_deref(), outcome(), || self.core().clock.now());
        self.report(answer)
    }

    /// A 304 that the request has not asked for is no answer, unless it meets a condition that the policy has kept from the
    /// inner service.
    fn unexpected_not_modified(self, mut not_modified: response::Parts) -> Response<CacheBody> {
        let outcome = Forwarding {
            detail: Some(Detail::UnexpectedNotModified),
            status: Some(StatusCode::NOT_MODIFIED),
            ..Forwarding::new(Forward::Bypass)
        };
        let now = self.core().clock.now();
        let is_met = self.conditions.as_ref().is_some_and(|conditions| {
            validation::meets_clients_condition(conditions, &not_modified.headers, now)
        });
        let answer = if is_met {
            self.judge(&mut not_modified);
            let response = Response::from_parts(not_modified, CacheBody::empty());
            Answer::received(response, outcome)
        } else {
            no_content(StatusCode::BAD_GATEWAY, outcome)
        };
        self.report(answer)
    }

    fn report(self, answer: Answer) -> Response<CacheBody> {
        let Self { policy, report, shared, .. } = self;
        report.answered(&shared.core.reporter, &policy, answer)
    }
}

impl<S> Awaited<S> {
    /// Waits for the content, no longer than is sensible: there is no later answer to have the tag.
    pub(super) async fn answer(self) -> Response<CacheBody> {
        let Self { body, exchange, kind, parts } = self;
        let core = exchange.core();
        let wait_for = WaitFor::whole(&core.gauges.limits);
        let taken = prefetch::collect(body, core.small(), Some(kind), wait_for).await;
        exchange.tag(parts, taken)
    }
}

fn outcome() -> Outcome {
    let detail = Some(Detail::NotStored(NotStored::SwitchedOff));
    Forwarding { detail, ..Forwarding::new(Forward::Bypass) }.into()
}
