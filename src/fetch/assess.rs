//! What is asked of the inner service for the cache's sake, and what the rules and the policy say of its answer.

use std::time::SystemTime;

use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, response};

use crate::collapse::Leader;
use crate::collapse::background::ValidationPermit;
use crate::entry::key::CacheKey;
use crate::entry::{ResponseHead, compact_fields, take_upstream_status};
use crate::limits::calls::CallPermit;
use crate::policy::Terms;
use crate::respond::request::CacheRequest;
use crate::semantics::cache_control::{RequestDirectives, ResponseDirectives};
use crate::semantics::fields::RequestFields;
use crate::semantics::freshness::{self, single_date};
use crate::semantics::incumbent::Incumbent;
use crate::semantics::parts::Part;
use crate::semantics::range::SentRange;
use crate::semantics::reuse::{Forward, Reuse};
use crate::semantics::stored;
use crate::semantics::storing::{Exchange, NotStored};
use crate::semantics::terms::{Fetched, ResponseView, Timing};
use crate::semantics::vary::Selecting;
use crate::shared::Core;
use crate::store::{Expected, Fence, Stored};

/// What the inner service is asked for the cache's sake.
pub(crate) struct FetchContext {
    pub(crate) fence: Fence,
    pub(crate) forward: Forward,
    /// The status of the inner service's answer, where it is not that of the response that was made of it.
    pub(crate) answered: Option<StatusCode>,
    /// The response is made of a stored part and of what was missing of it.
    pub(crate) is_completed: bool,
    /// Others wait for the answer.
    pub(crate) leader: Option<Leader>,
    /// Whether this request has waited in vain for another one's call.
    pub(crate) collapsed: Option<bool>,
    /// The response is to a POST, and names the target URI in `Content-Location`.
    pub(crate) names_target: bool,
    /// The answer counts as at least this new: as what is stored with times in the future, where the clock was set back.
    pub(crate) at_least: Option<(SystemTime, SystemTime)>,
    /// What is stored that an error must not replace.
    pub(crate) good: Incumbent,
    /// For the call, until its content has come in.
    pub(crate) permit: CallPermit,
    /// Held until the response is stored, or not.
    pub(crate) validation: Option<ValidationPermit>,
    /// As the client sent it.
    pub(crate) query: Box<CacheRequest>,
    /// The method as it was sent: a HEAD can go out as a GET.
    pub(crate) sent_method: Method,
    /// What a 206 has of the representation, where it can be stored.
    pub(crate) part: Option<Part>,
    pub(crate) sent_range: SentRange,
    /// What may be the answer in place of an error.
    pub(crate) stand_in: Option<Stored>,
    /// The stored response that the inner service is asked about, or that it is asked instead of.
    pub(crate) validated: Option<Stored>,
    /// Dropped last, after the leader: nobody joins a call of which the store may forget purges.
    pub(crate) expected: Expected,
}

/// A stored response as an error sees it.
pub(crate) fn as_incumbent(stored: &Stored) -> (StatusCode, &Reuse, Option<SystemTime>) {
    let head = stored.response.head();
    (head.status, &head.reuse, stored.expired)
}

impl FetchContext {
    /// A POST whose response may answer later GETs. The request's own conditions and ranges are none of
    /// the cache's business (RFC 9110 13.2.1).
    pub(crate) fn post(
        request: Parts,
        key: CacheKey,
        expected: Expected,
        fence: Fence,
        sent_at: SystemTime,
    ) -> Self {
        let directives = RequestDirectives::of(&request.headers);
        let query = CacheRequest { directives, fields: RequestFields::default(), key, now: sent_at, request };
        Self {
            answered: None,
            collapsed: None,
            is_completed: false,
            leader: None,
            fence,
            forward: Forward::Method,
            names_target: true,
            at_least: None,
            good: Incumbent::None,
            permit: CallPermit::default(),
            validation: None,
            query: Box::new(query),
            part: None,
            sent_method: Method::POST,
            sent_range: SentRange::None,
            stand_in: None,
            validated: None,
            expected,
        }
    }
}

/// What the rules and the policy say of a response.
#[derive(Clone)]
pub(crate) struct Assessment {
    at_least: Option<(SystemTime, SystemTime)>,
    date: Option<SystemTime>,
    pub(crate) directives: ResponseDirectives,
    part: Option<Part>,
    pub(crate) received_at: SystemTime,
    selecting: Selecting,
    stripped: HeaderMap,
    pub(crate) terms: Terms,
}

/// Judges a response to `ask`, received at `received_at`: by the standards, then by the policy, then by what no policy can
/// lift.
pub(crate) fn assess(
    core: &Core,
    ask: &FetchContext,
    response: &response::Parts,
    max_object: u64,
    received_at: SystemTime,
) -> Assessment {
    let rules = core.policy.rules();
    let (status, headers) = (response.status, &response.headers);
    let request = &ask.query.request;
    let ResponseView { date, directives, lifetime, source } =
        ResponseView::of(status, headers, received_at, rules);
    let exchange = Exchange {
        method: &ask.sent_method,
        names_target: ask.names_target,
        request: &request.headers,
        request_directives: &ask.query.directives,
        keyed: ask.query.key.keyed_credentials(),
        status,
        response: headers,
        directives: &directives,
        source,
    };
    let mut terms = Terms::standard(&exchange, lifetime, ask.query.key.uri(), max_object, rules);
    let switched_off = (!core.storing).then_some(NotStored::SwitchedOff);
    terms.store = switched_off.map_or(terms.store, Err);
    core.policy.response(request, response, &mut terms);
    terms.max_body = terms.max_body.min(max_object);
    terms.store = switched_off.map_or(terms.store, Err);
    let mut selecting = Selecting::default();
    if terms.store.is_ok() {
        let selectable = Selecting::of(headers, &request.headers, rules);
        let fetched = Fetched {
            headers,
            incumbent: ask.good,
            is_known_part: ask.part.is_some(),
            method: &ask.sent_method,
            names_target: ask.names_target,
            sent_range: ask.sent_range,
            status,
        };
        terms.store = terms.enforce_invariants(&fetched, selectable.as_ref().err().copied(), rules);
        selecting = selectable.unwrap_or_default();
        if ask.part == Some(Part::Replay) {
            selecting = selecting.with_field(&request.headers, header::RANGE);
        }
    }
    let (at_least, part) = (ask.at_least, ask.part.clone());
    Assessment { at_least, date, directives, part, received_at, selecting, stripped: HeaderMap::new(), terms }
}

/// Whether a response could be stored as far as the origin and the policy are concerned. `terms` is the verdict, which a
/// client's `no-store` decides before anything else is looked at.
pub(crate) fn word_of_origin(
    core: &Core,
    ask: &mut FetchContext,
    response: &response::Parts,
    max_object: u64,
    received_at: SystemTime,
    terms: Result<(), NotStored>,
) -> Result<(), NotStored> {
    if !terms.is_err_and(NotStored::is_clients_wish) {
        return terms;
    }
    ask.query.directives.no_store = false;
    let word = assess(core, ask, response, max_object, received_at).terms.store;
    ask.query.directives.no_store = true;
    word
}

impl Assessment {
    /// Takes away what nobody downstream gets to see.
    pub(crate) fn strip(&mut self, headers: &mut HeaderMap) {
        for name in &self.terms.strip {
            if let header::Entry::Occupied(field) = headers.entry(name) {
                let (name, values) = field.remove_entry_mult();
                for value in values {
                    self.stripped.append(&name, value);
                }
            }
        }
    }

    /// Seconds of freshness left at reception.
    pub(crate) fn ttl(&self, headers: &HeaderMap, sent_at: SystemTime) -> i64 {
        self.terms.ttl(&self.timing(headers, sent_at))
    }

    fn timing(&self, headers: &HeaderMap, sent_at: SystemTime) -> Timing {
        let Self { at_least, date, received_at, .. } = *self;
        Timing { at_least, date, received_age: freshness::received_age(headers), received_at, sent_at }
    }

    /// The head to store. `length` is that of the whole content; `tag` one that was generated.
    pub(crate) fn head(
        mut self,
        core: &Core,
        status: StatusCode,
        mut headers: HeaderMap,
        sent_at: SystemTime,
        length: Option<usize>,
        tag: Tag,
    ) -> ResponseHead {
        let timing = self.timing(&headers, sent_at);
        let reuse = self.terms.reuse(&timing, self.directives.immutable, self.selecting.clone());
        stored::remove_unstored(&mut headers, &self.directives);
        self.strip(&mut headers);
        stored::add_missing(&mut headers, self.date, self.received_at, length);
        if let Some(Part::Bytes(_)) = self.part {
            stored::remove_fields_of_part(&mut headers);
        }
        let tag_is_ours = match tag {
            Tag::New(tag) => headers.insert(header::ETAG, tag).is_none(),
            Tag::Ours => true,
            Tag::Theirs => false,
        };
        let upstream_status = take_upstream_status(&mut headers);
        let mut headers = compact_fields(&headers, core.status_writer.fields() + 1);
        headers.insert(header::AGE, HeaderValue::from_static("0"));
        core.status_writer.reserve(&mut headers);
        // A clone has no spare capacity.
        let headers = headers.clone();
        ResponseHead {
            groups: self.terms.groups.into_boxed_slice(),
            last_modified: single_date(&headers, &header::LAST_MODIFIED, self.received_at),
            headers,
            part: self.part,
            reuse,
            status,
            stripped: (!self.stripped.is_empty()).then(|| Box::new(compact_fields(&self.stripped, 0))),
            tag_is_ours,
            upstream_status,
        }
    }
}

/// The entity tag of a head.
pub(crate) enum Tag {
    /// Generated just now.
    New(HeaderValue),
    /// Among the fields, generated earlier.
    Ours,
    /// The origin's, or none.
    Theirs,
}

impl From<Option<HeaderValue>> for Tag {
    fn from(tag: Option<HeaderValue>) -> Self {
        tag.map_or(Self::Theirs, Self::New)
    }
}
