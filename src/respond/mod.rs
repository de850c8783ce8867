//! Answers: from what is stored, on its way in or just received, and from nothing.

pub(crate) mod dated;
pub(crate) mod open;
pub(crate) mod request;
pub(crate) mod slice;

use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap};
use http::{HeaderValue, Method, Response, StatusCode, response};

use self::dated::date_value;
use self::open::{Opened, OpenedContent};
use self::request::CacheRequest;
use crate::body::CacheBody;
use crate::body::flight::Reader;
use crate::body::incoming::Incoming;
use crate::body::stored::OpenedBody;
use crate::entry::partial::{self, Cut, CutContent};
use crate::entry::pieces::Pieces;
use crate::entry::{Part, Purpose, ResponseHead, StoredResponse};
use crate::observe::{Answer, Upstream};
use crate::semantics::answer::{self, keep_not_modified};
use crate::semantics::cache_status::{Detail, Forwarding, Outcome};
use crate::semantics::fields::keep_what_lets_pages_see;
use crate::semantics::framing;
use crate::semantics::freshness::age_value;
use crate::semantics::preconditions::{self, Outcome as Precondition, Representation};
use crate::semantics::reuse::Forward;
use crate::shared::Core;
use crate::store::Stored;

/// What an answer is made of.
pub(crate) enum Source<'a> {
    /// A head, and content on its way in, if that is needed.
    Flight(&'a ResponseHead, Option<Reader>),
    /// A response of the inner service.
    Received(Received),
    /// With its content, where that was opened for this answer.
    Stored(&'a StoredResponse, Option<Opened>),
}

/// A response of the inner service on its way to a client.
pub(crate) struct Received {
    pub(crate) body: CacheBody,
    /// The client's own conditions went out with the request, so they have been evaluated.
    pub(crate) is_evaluated: bool,
    pub(crate) parts: response::Parts,
}

impl Received {
    /// Answers a request with `method`: with the response as it is, or 304 or 412 as the client's `conditions` have it.
    pub(crate) fn answer(
        self,
        method: &Method,
        conditions: Option<&HeaderMap>,
        outcome: Outcome,
        now: impl FnOnce() -> SystemTime,
    ) -> Answer {
        let Self { body, is_evaluated, parts } = self;
        let precondition = match conditions {
            Some(conditions) if !is_evaluated => {
                let now = now();
                let theirs = || Representation::of_received(&parts.headers, now);
                preconditions::evaluate_on(conditions, parts.status, theirs, now)
            }
            _ => Precondition::Proceed,
        };
        match precondition {
            Precondition::Failed => {
                let mut seen = HeaderMap::new();
                keep_what_lets_pages_see(&parts.headers, &mut seen);
                precondition_failed(seen, outcome)
            }
            Precondition::NotModified => {
                let mut headers = parts.headers;
                keep_not_modified(&mut headers);
                Answer::new(StatusCode::NOT_MODIFIED, headers, CacheBody::empty(), outcome)
            }
            Precondition::Proceed => {
                // A HEAD may have gone out as a GET, but it is answered as what it is.
                let has_no_content = framing::has_no_content(method, parts.status);
                let body = if has_no_content { CacheBody::empty() } else { body };
                Answer::received(Response::from_parts(parts, body), outcome)
            }
        }
    }
}

/// When a stored head answers.
#[derive(Clone, Copy)]
struct Moment {
    /// Of the response; `None` for one from the future.
    age: Option<Duration>,
    is_stale: bool,
    now: SystemTime,
}

/// The content of a stored head.
enum Content<'a> {
    Flight(Option<Reader>),
    Stored(&'a StoredResponse, Option<Opened>),
}

impl CacheRequest {
    /// Answers from storage.
    #[inline]
    pub(crate) fn hit(
        &self,
        core: &Core,
        stored: &Stored,
        detail: Option<Detail>,
        opened: Option<Opened>,
    ) -> Answer {
        let age = stored.response.head().reuse.age(self.now);
        let ttl = stored.ttl_at(age, self.now);
        let outcome = Outcome::Hit { ttl, detail };
        let (head, content) = (stored.response.head(), Content::Stored(&stored.response, opened));
        self.respond_stored(core, head, content, outcome, Moment { age, is_stale: ttl <= 0, now: self.now })
    }

    /// Answers with what is stored in place of a failure, or of an answer that takes too long.
    pub(crate) fn stand_in(
        &self,
        core: &Core,
        stored: Option<&Stored>,
        forwarding: Forwarding,
        opened: Option<Opened>,
    ) -> Answer {
        let now = core.clock.now();
        let age = stored.and_then(|stored| stored.response.head().reuse.age(now));
        let ttl = stored.map(|stored| stored.ttl_at(age, now));
        let outcome = Outcome::Forwarded(Forwarding { ttl, ..forwarding });
        let Some(stored) = stored else {
            return no_content(StatusCode::GATEWAY_TIMEOUT, outcome);
        };
        let (head, content) = (stored.response.head(), Content::Stored(&stored.response, opened));
        self.respond_stored(core, head, content, outcome, Moment { age, is_stale: true, now })
    }

    /// Answers the client: with what the source is, or 206, 304, 412 or 416.
    pub(crate) fn respond(
        &self,
        core: &Core,
        source: Source<'_>,
        outcome: impl Into<Outcome>,
        now: SystemTime,
    ) -> Answer {
        let (head, content) = match source {
            Source::Flight(head, reader) => (head, Content::Flight(reader)),
            Source::Received(received) => return self.respond_received(received, outcome.into(), now),
            Source::Stored(stored, opened) => (stored.head(), Content::Stored(stored, opened)),
        };
        let age = head.reuse.age(now);
        let is_stale = head.reuse.ttl_at(age) <= 0;
        self.respond_stored(core, head, content, outcome.into(), Moment { age, is_stale, now })
    }

    fn respond_received(&self, received: Received, outcome: Outcome, now: SystemTime) -> Answer {
        let conditions = self.fields.conditions.then_some(&self.parts.headers);
        received.answer(&self.parts.method, conditions, outcome, || now)
    }

    #[inline]
    fn respond_stored(
        &self,
        core: &Core,
        head: &ResponseHead,
        content: Content<'_>,
        outcome: Outcome,
        moment: Moment,
    ) -> Answer {
        let Moment { age, is_stale, now } = moment;
        let precondition = self.precondition(head.status, || head.representation(), now);
        let counts_from_itself = head.counts_from_answers && !is_stale;
        let time = if counts_from_itself { date_value(now) } else { age_value(age.unwrap_or_default()) };
        let purpose = Purpose { counts_from_itself, ..core.reporter.purpose() };
        let (status, mut headers, body) = match (precondition, content) {
            (Precondition::Failed, _) => return precondition_failed(head.seen_by_pages(), outcome),
            (Precondition::NotModified, _) => {
                let purpose = Purpose { not_modified: true, ..purpose };
                (StatusCode::NOT_MODIFIED, head.to_answer(purpose, time, None).0, CacheBody::empty())
            }
            (Precondition::Proceed, _) if self.parts.method == Method::HEAD => {
                (head.status, head.to_answer(purpose, time, None).0, CacheBody::empty())
            }
            (Precondition::Proceed, Content::Flight(reader)) => {
                let Some(reader) = reader else {
                    return no_content(StatusCode::BAD_GATEWAY, outcome); // as below
                };
                let mut headers = head.to_answer(purpose, time, None).0;
                if let Some(Part::Bytes(extent)) = head.part()
                    && let [range] = extent.parts()
                {
                    answer::set_single_range(&mut headers, *range, extent.length());
                }
                (head.status, headers, CacheBody::flight(reader))
            }
            (Precondition::Proceed, Content::Stored(stored, opened)) => {
                match self.content(stored, opened, core, (purpose, time), now) {
                    Some(content) => content,
                    // A part never passes for the whole, nor what is not opened for what is. Nothing that decides lets it come
                    // to this.
                    None => return no_content(StatusCode::BAD_GATEWAY, outcome),
                }
            }
        };
        if head.counts_from_answers && is_stale {
            // Its age says that it is not to be kept, and is counted from here.
            headers.insert(header::DATE, date_value(head.reuse.date));
        }
        let upstream = Upstream::Stored(head.upstream_status().map(Into::into));
        Answer { upstream, ..Answer::new(status, headers, body, outcome) }
    }

    #[inline]
    fn precondition<'a>(
        &self,
        status: StatusCode,
        theirs: impl FnOnce() -> Representation<'a>,
        now: SystemTime,
    ) -> Precondition {
        if self.fields.conditions {
            preconditions::evaluate_on(&self.parts.headers, status, theirs, now)
        } else {
            Precondition::Proceed
        }
    }

    /// What a GET gets of a stored response: the whole, or a part. `None` where it can't be answered by that.
    #[inline]
    fn content(
        &self,
        stored: &StoredResponse,
        opened: Option<Opened>,
        core: &Core,
        (purpose, time): (Purpose, HeaderValue),
        now: SystemTime,
    ) -> Option<(StatusCode, HeaderMap, CacheBody)> {
        let (head, payload, held) = (stored.head(), stored.payload(), &core.gauges.held);
        let opened = opened.and_then(|opened| opened.content(&self.needed(stored, now)));
        let is_range = self.fields.range && self.parts.method == Method::GET;
        let cut = if is_range || head.part.is_some() {
            let read = match &opened {
                Some(OpenedContent::Ranges(read)) => &read[..],
                _ => &[],
            };
            partial::cut(stored, &self.parts.headers, read)
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
            None if payload.is_remote() => {
                let body = of_store(payload.len(), payload.trailers().cloned())?;
                (head.status, head.to_answer(purpose, time, None).0, body)
            }
            None => {
                let small = payload.content().and_then(Pieces::small);
                let small = small.filter(|_| payload.trailers().is_none());
                let (headers, content) = head.to_answer(purpose, time, small);
                let body = content.map_or_else(|| CacheBody::stored(held, payload), CacheBody::of_bytes);
                (head.status, headers, body)
            }
            Some(Cut { content, mut headers, status }) => {
                headers.insert(purpose.time(), time);
                let body = match content {
                    CutContent::AtHand(content) => CacheBody::whole(held, content),
                    CutContent::Remote(length) => of_store(length, None)?,
                };
                (status, headers, body)
            }
        })
    }
}

impl Core {
    /// Passes on the answer to a request that the cache does not handle.
    pub(crate) fn pass_on(
        &self,
        response: Response<Incoming>,
        method: &Method,
        is_conditional: bool,
        forwarding: Forwarding,
    ) -> Answer {
        let (parts, body) = response.into_parts();
        if parts.status == StatusCode::NOT_MODIFIED && !is_conditional {
            let detail = Some(Detail::UnexpectedNotModified);
            let forwarding = Forwarding { detail, status: Some(parts.status), ..forwarding };
            return no_content(StatusCode::BAD_GATEWAY, forwarding);
        }
        let body = if framing::has_no_content(method, parts.status) {
            CacheBody::empty()
        } else {
            CacheBody::forwarded(&self.gauges.held, body)
        };
        Answer::received(Response::from_parts(parts, body), forwarding)
    }

    /// The answer where no call can be made because as many as may be are under way.
    pub(crate) fn overloaded(&self, forward: Forward, collapsed: Option<bool>) -> Answer {
        let detail = Some(Detail::CallLimit);
        let outcome = Forwarding { collapsed, detail, ..Forwarding::new(forward) };
        let mut answer = no_content(StatusCode::SERVICE_UNAVAILABLE, outcome);
        let seconds = HeaderValue::from(self.gauges.calls.retry_after());
        answer.response.headers_mut().insert(header::RETRY_AFTER, seconds);
        answer
    }
}

/// An answer of the cache's own.
pub(crate) fn no_content(status: StatusCode, outcome: impl Into<Outcome>) -> Answer {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    Answer::new(status, headers, CacheBody::empty(), outcome.into())
}

/// A 412 in place of a response that pages see by these fields.
fn precondition_failed(seen: HeaderMap, outcome: Outcome) -> Answer {
    let mut answer = no_content(StatusCode::PRECONDITION_FAILED, outcome);
    answer.response.headers_mut().extend(seen);
    answer
}
