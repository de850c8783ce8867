//! Answers made from a stored response, or from nothing.

pub(crate) mod open;
pub(crate) mod request;

use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body::Body;

use crate::body::CacheBody;
use crate::body::flight::Reader;
use crate::body::length::LengthChecked;
use crate::body::stored::OpenedBody;
use crate::entry::partial::{self, Cut, CutContent};
use crate::entry::{ResponseHead, StoredResponse};
use crate::error::BoxError;
use crate::limits::calls::CallPermit;
use crate::observe::Place;
use crate::respond::open::{Opened, OpenedContent};
use crate::semantics::cache_status::{Detail, Forwarding, Outcome};
use crate::semantics::fields::{RequestFields, keep_what_lets_pages_see, lets_pages_see};
use crate::semantics::framing;
use crate::semantics::freshness::age_value;
use crate::semantics::preconditions::{self, Outcome as Precondition};
use crate::semantics::reuse::Forward;
use crate::shared::Core;
use crate::store::Stored;

/// Where an answer's content comes from.
enum Source<'a> {
    Flight(&'a ResponseHead, Reader),
    /// With its content, where that was opened for this answer.
    Stored(&'a StoredResponse, Option<Opened>),
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
        opened: Option<Opened>,
    ) -> Response<CacheBody<B>> {
        let age = stored.head().reuse.age(now);
        self.answer_aged(stored, request, fields, outcome, now, age, opened)
    }

    /// [`Core::answer`] where the age is known already.
    #[expect(clippy::too_many_arguments)]
    pub(crate) fn answer_aged<B>(
        &self,
        stored: &StoredResponse,
        request: &Parts,
        fields: RequestFields,
        outcome: &Outcome,
        now: SystemTime,
        age: Option<Duration>,
        opened: Option<Opened>,
    ) -> Response<CacheBody<B>> {
        self.answer_with(Source::Stored(stored, opened), request, fields, outcome, now, age)
    }

    /// Answers with what is stored in place of a failure (RFC 5861 4), or of an answer that takes too long.
    pub(crate) fn stand_in<B>(
        &self,
        stored: Option<&Stored>,
        request: &Parts,
        fields: RequestFields,
        forwarding: Forwarding,
        opened: Option<Opened>,
    ) -> Response<CacheBody<B>> {
        let now = self.clock.now();
        let age = stored.and_then(|stored| stored.response.head().reuse.age(now));
        let ttl = stored.map(|stored| stored.ttl_at(age, now));
        let outcome = Outcome::Forwarded(Forwarding { ttl, ..forwarding });
        match stored {
            Some(stored) => self.answer_aged(&stored.response, request, fields, &outcome, now, age, opened),
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
            Source::Stored(stored, _) => stored.head(),
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
                Source::Stored(stored, opened) => {
                    let opened =
                        opened.and_then(|opened| opened.content(&open::needed(stored, request, fields, now)));
                    let is_range = fields.range && request.method == Method::GET;
                    match self.content(stored, request, is_range, opened) {
                        Some(content) => content,
                        // A part never passes for the whole, nor what is not opened for what is. Nothing that decides lets
                        // it come to this.
                        None => return self.no_content(StatusCode::BAD_GATEWAY, outcome),
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

    /// Status, fields and content of a stored response for a GET; `None` where it can't be answered by that.
    #[inline]
    fn content<B>(
        &self,
        stored: &StoredResponse,
        request: &Parts,
        is_range: bool,
        opened: Option<OpenedContent>,
    ) -> Option<(StatusCode, HeaderMap, CacheBody<B>)> {
        let (head, payload, held) = (stored.head(), stored.payload(), &self.gauges.held);
        let cut = if is_range || head.part.is_some() {
            let read = match &opened {
                Some(OpenedContent::Ranges(read)) => &read[..],
                _ => &[],
            };
            partial::cut(stored, &request.headers, read)
        } else {
            None
        };
        let of_store = |length, trailers: Option<HeaderMap>| match opened {
            Some(OpenedContent::Body(body)) => {
                Some(CacheBody::opened(held, OpenedBody::new(body, length, trailers)))
            }
            _ => None,
        };
        Some(match cut {
            None if head.part.is_some() => return None,
            None => {
                let body = if payload.is_remote() {
                    of_store(payload.len(), payload.trailers().cloned())?
                } else {
                    CacheBody::stored(held, payload)
                };
                (head.status, head.headers.clone(), body)
            }
            Some(Cut { content: CutContent::AtHand(content), headers, status }) => {
                (status, headers, CacheBody::whole(held, content))
            }
            Some(Cut { content: CutContent::Remote(length), headers, status }) => {
                (status, headers, of_store(length, None)?)
            }
        })
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

/// The fields of a 304 for a response with these fields (RFC 9110 15.4.5): those that guide the
/// update of what the client holds, and those by which a browser lets a page see it. `room` more fit without growing.
pub(crate) fn not_modified_fields(headers: &HeaderMap, room: usize) -> HeaderMap {
    /// `Cache-Control`, `Content-Location`, `Date`, `ETag`, `Expires`, `Vary`, or `Last-Modified` in the tag's place.
    const MOST: usize = 6;
    let mut kept = HeaderMap::with_capacity(MOST + room);
    let no_tag = !headers.contains_key(header::ETAG);
    for (name, value) in headers {
        let is_kept = match name.as_str() {
            "cache-control" | "content-location" | "date" | "etag" | "expires" | "vary" => true,
            "last-modified" => no_tag,
            name => lets_pages_see(name),
        };
        if is_kept {
            kept.append(name, value.clone());
        }
    }
    kept
}
