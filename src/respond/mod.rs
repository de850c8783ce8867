//! Answers made from a stored response, or from nothing.

pub(crate) mod request;

use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body::Body;

use crate::body::CacheBody;
use crate::body::flight::Reader;
use crate::body::length::LengthChecked;
use crate::entry::partial::{self, Cut};
use crate::entry::{ResponseHead, StoredResponse};
use crate::error::BoxError;
use crate::limits::calls::CallPermit;
use crate::observe::Place;
use crate::semantics::answer::not_modified_fields;
use crate::semantics::cache_status::{Detail, Forwarding, Outcome};
use crate::semantics::fields::{RequestFields, keep_what_lets_pages_see};
use crate::semantics::framing;
use crate::semantics::freshness::age_value;
use crate::semantics::preconditions::{self, Outcome as Precondition};
use crate::semantics::reuse::Forward;
use crate::shared::Core;
use crate::store::Stored;

/// Where an answer's content comes from.
enum Source<'a> {
    Flight(&'a ResponseHead, Reader),
    Stored(&'a StoredResponse),
}

impl Core {
    /// Answers a GET or HEAD from a stored response: with what it is, or 206, 304, 412 or 416.
    pub(crate) fn answer<B>(
        &self,
        stored: &StoredResponse,
        request: &Parts,
        fields: RequestFields,
        outcome: &Outcome,
        now: SystemTime,
    ) -> Response<CacheBody<B>> {
        let age = stored.head().reuse.age(now);
        self.answer_aged(stored, request, fields, outcome, now, age)
    }

    /// [`Core::answer`] where the age is known already.
    pub(crate) fn answer_aged<B>(
        &self,
        stored: &StoredResponse,
        request: &Parts,
        fields: RequestFields,
        outcome: &Outcome,
        now: SystemTime,
        age: Option<Duration>,
    ) -> Response<CacheBody<B>> {
        self.answer_with(Source::Stored(stored), request, fields, outcome, now, age)
    }

    /// Answers with what is stored in place of a failure (RFC 5861 4), or of an answer that takes too long.
    pub(crate) fn stand_in<B>(
        &self,
        stored: Option<&Stored>,
        request: &Parts,
        fields: RequestFields,
        forwarding: Forwarding,
    ) -> Response<CacheBody<B>> {
        let now = self.clock.now();
        let age = stored.and_then(|stored| stored.response.head().reuse.age(now));
        let ttl = stored.map(|stored| stored.ttl_at(age, now));
        let outcome = Outcome::Forwarded(Forwarding { ttl, ..forwarding });
        match stored {
            Some(stored) => self.answer_aged(&stored.response, request, fields, &outcome, now, age),
            None => self.no_content(StatusCode::GATEWAY_TIMEOUT, &outcome),
        }
    }

    /// Answers from a response whose content is on its way in.
    pub(crate) fn answer_from_flight<B>(
        &self,
        head: &ResponseHead,
        reader: Reader,
        request: &Parts,
        fields: RequestFields,
        outcome: &Outcome,
        now: SystemTime,
    ) -> Response<CacheBody<B>> {
        let age = head.reuse.age(now);
        self.answer_with(Source::Flight(head, reader), request, fields, outcome, now, age)
    }

    #[inline]
    fn answer_with<B>(
        &self,
        source: Source<'_>,
        request: &Parts,
        fields: RequestFields,
        outcome: &Outcome,
        now: SystemTime,
        age: Option<Duration>,
    ) -> Response<CacheBody<B>> {
        let head = match &source {
            Source::Flight(head, _) => head,
            Source::Stored(stored) => stored.head(),
        };
        let precondition = if fields.conditions && head.status.is_success() {
            preconditions::evaluate(&request.headers, &head.representation(), now)
        } else {
            Precondition::Proceed
        };
        let (status, mut headers, body) = match precondition {
            Precondition::Failed => return self.precondition_failed(&head.headers, outcome),
            Precondition::NotModified => {
                let room = self.status_writer.fields() + 1;
                let headers = not_modified_fields(&head.headers, room);
                (StatusCode::NOT_MODIFIED, headers, CacheBody::empty())
            }
            Precondition::Proceed if request.method == Method::HEAD => {
                (head.status, head.headers.clone(), CacheBody::empty())
            }
            Precondition::Proceed => match source {
                Source::Flight(_, reader) => (head.status, head.headers.clone(), CacheBody::flight(reader)),
                Source::Stored(stored) => {
                    let is_range = fields.range && request.method == Method::GET;
                    let is_cut = is_range || head.part.is_some();
                    let cut = if is_cut { partial::cut(stored, &request.headers) } else { None };
                    match cut {
                        // A part never passes for the whole. Nothing that decides lets it come to this.
                        None if head.part.is_some() => {
                            return self.no_content(StatusCode::BAD_GATEWAY, outcome);
                        }
                        None => (
                            head.status,
                            head.headers.clone(),
                            CacheBody::stored(&self.gauges.held, stored.payload()),
                        ),
                        Some(Cut { content, headers, status }) => {
                            (status, headers, CacheBody::whole(&self.gauges.held, content))
                        }
                    }
                }
            },
        };
        // A response from the future has no age that could be told.
        headers.insert(header::AGE, age_value(age.unwrap_or_default()));
        let upstream = head.upstream_status.as_ref();
        self.status_writer.tell(outcome, status, &mut headers, Place::Slot { upstream });
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    /// Passes on the answer to a request that the cache does not handle.
    pub(crate) fn pass_on<B>(
        &self,
        response: Response<B>,
        method: &Method,
        is_conditional: bool,
        outcome: &Outcome,
        permit: CallPermit,
    ) -> Response<CacheBody<B>>
    where
        B: Body + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (mut parts, body) = response.into_parts();
        framing::repair(method, parts.status, &mut parts.headers);
        if parts.status == StatusCode::NOT_MODIFIED
            && !is_conditional
            && let Outcome::Forwarded(forwarding) = outcome
        {
            let outcome = Outcome::Forwarded(Forwarding {
                detail: Some(Detail::UnexpectedNotModified),
                status: Some(parts.status),
                ..*forwarding
            });
            return self.no_content(StatusCode::BAD_GATEWAY, &outcome);
        }
        let body = if framing::has_no_content(method, parts.status) {
            CacheBody::empty()
        } else {
            let body = LengthChecked::of(body, method, parts.status, &parts.headers).by_permit(permit);
            CacheBody::forwarded(&self.gauges.held, body)
        };
        self.status_writer.tell(outcome, parts.status, &mut parts.headers, Place::Append);
        Response::from_parts(parts, body)
    }

    /// A 412 in place of a response with these fields.
    pub(crate) fn precondition_failed<B>(
        &self,
        headers: &HeaderMap,
        outcome: &Outcome,
    ) -> Response<CacheBody<B>> {
        let mut response = self.no_content(StatusCode::PRECONDITION_FAILED, outcome);
        keep_what_lets_pages_see(headers, response.headers_mut());
        response
    }

    /// The answer where no call can be made because as many as may be are under way.
    pub(crate) fn overloaded<B>(&self, forward: Forward, collapsed: Option<bool>) -> Response<CacheBody<B>> {
        let detail = Some(Detail::CallLimit);
        let outcome = Forwarding { collapsed, detail, ..Forwarding::new(forward) };
        let mut response = self.no_content(StatusCode::SERVICE_UNAVAILABLE, &outcome.into());
        let seconds = HeaderValue::from(self.gauges.calls.retry_after());
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
        response
    }

    /// An answer of the cache's own.
    pub(crate) fn no_content<B>(&self, status: StatusCode, outcome: &Outcome) -> Response<CacheBody<B>> {
        let mut response = Response::new(CacheBody::empty());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        self.status_writer.tell(outcome, status, headers, Place::Append);
        response
    }
}
