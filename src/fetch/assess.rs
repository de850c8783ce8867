//! What is asked of the inner service for the cache's sake, and what the rules and the policy say of its answer.

use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, response};

use crate::collapse::Leader;
use crate::collapse::background::ValidationPermit;
use crate::entry::key::CacheKey;
use crate::entry::{Part, ResponseHead};
use crate::limits::calls::CallPermit;
use crate::policy::Terms;
use crate::respond::request::CacheRequest;
use crate::semantics::cache_control::{RequestDirectives, ResponseDirectives};
use crate::semantics::date;
use crate::semantics::fields::{RequestFields, remove_content_digests, remove_hop_by_hop};
use crate::semantics::framing;
use crate::semantics::freshness::{self, single_date};
use crate::semantics::groups::{self, CACHE_GROUPS};
use crate::semantics::reuse::{Forward, Reuse};
use crate::semantics::status::is_server_error;
use crate::semantics::storing::{self, Exchange, NotStored};
use crate::semantics::targeted;
use crate::semantics::vary::{NeverMatches, Selecting};
use crate::semantics::{Rules, is_retrieval};
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

/// The `Range` with which the inner service is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SentRange {
    /// As the client sent it, with the client's conditions.
    Clients,
    /// What is missing of a stored part. The answer, put together with it, has this status of its own to tell.
    Missing,
    None,
}

/// A stored response with a successful status that could have answered the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incumbent {
    Fresh,
    None,
    Stale,
}

impl Incumbent {
    /// The best of what is stored, as far as errors are concerned.
    pub(crate) fn of<'a>(stored: impl Iterator<Item = &'a Stored>, now: SystemTime) -> Self {
        let good = stored.filter(|stored| stored.response.head().status.is_success());
        good.fold(Self::None, |best, stored| {
            let is_fresh = stored.expired.is_none() && stored.response.head().reuse.ttl(now) > 0;
            if best == Self::Fresh || is_fresh { Self::Fresh } else { Self::Stale }
        })
    }

    /// Whether a response with this status leaves it alone. A server error always does; any other error does
    /// while it is fresh: then the client alone, by its request, has brought the error about.
    pub(crate) fn blocks(self, status: StatusCode) -> bool {
        match self {
            Self::Fresh => status.is_client_error() || is_server_error(status),
            Self::None => false,
            Self::Stale => is_server_error(status),
        }
    }
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

/// Judges a response to `ask`, received at `received_at`.
pub(crate) fn assess(
    core: &Core,
    ask: &FetchContext,
    response: &response::Parts,
    max_object: u64,
    received_at: SystemTime,
) -> Assessment {
    let rules = core.policy.rules();
    let (status, headers) = (response.status, &response.headers);
    let directives = targeted::directives(headers, &rules.targets);
    let date = single_date(headers, &header::DATE, received_at);
    let (lifetime, source) = freshness::lifetime(
        status,
        headers,
        &directives,
        date.unwrap_or(received_at),
        rules.heuristic.as_ref(),
    );
    let is_error = status.is_client_error() || is_server_error(status);
    let lifetime = match rules.max_error_lifetime {
        Some(most) if is_error => lifetime.min(most),
        _ => lifetime,
    };
    let keyed = ask.query.key.keyed_credentials();
    let store = if core.storing {
        let exchange = Exchange {
            method: &ask.sent_method,
            names_target: ask.names_target,
            request: &ask.query.request.headers,
            request_directives: &ask.query.directives,
            keyed,
            status,
            response: headers,
            directives: &directives,
            source,
        };
        storing::admit(&exchange, rules)
    } else {
        Err(NotStored::SwitchedOff)
    };
    let groups = groups::of(headers, &CACHE_GROUPS);
    let store = match store {
        // A policy that lifts the refusal of an error lifts no other one.
        Ok(()) | Err(NotStored::DrawnError) if groups.is_err() => Err(NotStored::Groups),
        store => store,
    };
    let groups = groups.unwrap_or_default();
    let seconds = |seconds: Option<u32>| Duration::from_secs(seconds.unwrap_or_default().into());
    let mut terms = Terms {
        groups: groups.iter().map(|group| groups::scoped(ask.query.key.uri(), group)).collect(),
        lifetime,
        max_body: max_object,
        must_revalidate: directives.must_revalidate
            || directives.proxy_revalidate
            || directives.s_maxage.is_some(), // RFC 9111 5.2.2.10
        no_cache: directives.no_cache,
        shared: storing::shared_with(&directives, rules.credentials),
        source,
        stale_if_error: directives.stale_if_error.map(|seconds| Duration::from_secs(seconds.into())),
        stale_while_revalidate: seconds(directives.stale_while_revalidate),
        store,
        strip: Vec::new(),
    };
    core.policy.response(&ask.query.request, response, &mut terms);
    terms.max_body = terms.max_body.min(max_object);
    if !core.storing {
        terms.store = Err(NotStored::SwitchedOff);
    }
    let mut selecting = Selecting::default();
    if terms.store.is_ok() {
        let selectable = Selecting::of(headers, &ask.query.request.headers, rules);
        terms.store = enforce_invariants(ask, response, &terms, selectable.as_ref().err(), rules);
        selecting = selectable.unwrap_or_default();
        if ask.part == Some(Part::Replay) {
            selecting = selecting.with_field(&ask.query.request.headers, header::RANGE);
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
    if terms != Err(NotStored::RequestNoStore) {
        return terms;
    }
    ask.query.directives.no_store = false;
    let word = assess(core, ask, response, max_object, received_at).terms.store;
    ask.query.directives.no_store = true;
    word
}

/// What no policy can lift.
fn enforce_invariants(
    ask: &FetchContext,
    response: &response::Parts,
    terms: &Terms,
    unselectable: Option<&NeverMatches>,
    rules: &Rules,
) -> Result<(), NotStored> {
    let has_validator =
        [header::ETAG, header::LAST_MODIFIED].iter().any(|name| response.headers.contains_key(name));
    let stands_in = terms.stale_if_error.unwrap_or(rules.stale_if_error);
    let stale_windows = stands_in.max(terms.stale_while_revalidate);
    let stale_windows = if terms.must_revalidate { Duration::ZERO } else { stale_windows };
    let is_of_use = has_validator || !(terms.no_cache || terms.lifetime.is_zero() && stale_windows.is_zero());
    match unselectable {
        None => {}
        Some(NeverMatches::TooLong) => return Err(NotStored::LongFields),
        Some(NeverMatches::Vary) => return Err(NotStored::Vary),
    }
    if framing::has_transfer_coding(&response.headers) {
        return Err(NotStored::TransferCoding);
    }
    if response.status.is_informational() || response.status == StatusCode::NOT_MODIFIED {
        return Err(NotStored::Status);
    }
    if !is_retrieval(&ask.sent_method) && !ask.names_target {
        return Err(NotStored::Method);
    }
    let is_part = response.status == StatusCode::PARTIAL_CONTENT;
    let is_of_range = ask.sent_range != SentRange::None && response.status != StatusCode::OK;
    if (is_part || is_of_range) && ask.part.is_none() {
        return Err(NotStored::Partial);
    }
    if ask.good.blocks(response.status) {
        return Err(NotStored::Status); // RFC 9111 4.3.3: what is stored may still do
    }
    if !is_of_use {
        return Err(NotStored::NeverFresh);
    }
    Ok(())
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
        self.reuse(headers, sent_at).ttl(self.received_at)
    }

    fn reuse(&self, headers: &HeaderMap, sent_at: SystemTime) -> Reuse {
        let date = self.date.unwrap_or(self.received_at);
        // RFC 9111 4.2.3 has the time of reception for a missing date. A call that was made first and lands last would pass
        // for the newest by that.
        let generated = self.date.map_or(sent_at, |date| date.min(self.received_at));
        let (generated, request_time) =
            self.at_least.map_or((generated, sent_at), |least| least.max((generated, sent_at)));
        Reuse {
            date,
            generated,
            immutable: self.directives.immutable,
            initial_age: freshness::initial_age(
                freshness::received_age(headers),
                date,
                sent_at,
                self.received_at,
            ),
            lifetime: self.terms.lifetime,
            must_revalidate: self.terms.must_revalidate,
            no_cache: self.terms.no_cache,
            outdated: false,
            request_time,
            response_time: self.received_at,
            selecting: self.selecting.clone(),
            shared: self.terms.shared,
            stale_if_error: self.terms.stale_if_error,
            stale_while_revalidate: self.terms.stale_while_revalidate,
        }
    }

    /// The head to store. `length` is that of the whole content; `tag` one that was generated.
    pub(crate) fn head(
        mut self,
        status: StatusCode,
        mut headers: HeaderMap,
        sent_at: SystemTime,
        length: Option<usize>,
        tag: Tag,
    ) -> ResponseHead {
        let reuse = self.reuse(&headers, sent_at);
        remove_hop_by_hop(&mut headers);
        self.strip(&mut headers);
        for name in self.directives.private_fields.iter().chain(&self.directives.no_cache_fields) {
            headers.remove(name);
        }
        if self.date.is_none() {
            // RFC 9110 6.6.1: a response without a date gets the time of its reception.
            if let Ok(date) = HeaderValue::try_from(date::format(self.received_at)) {
                headers.insert(header::DATE, date);
            }
        }
        if let Some(length) = length {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        if let Some(Part::Bytes(_)) = self.part {
            // Made for each answer, of what it has.
            headers.remove(header::CONTENT_RANGE);
            headers.remove(header::CONTENT_LENGTH);
            remove_content_digests(&mut headers);
        }
        let tag_is_ours = match tag {
            Tag::New(tag) => headers.insert(header::ETAG, tag).is_none(),
            Tag::Ours => true,
            Tag::Theirs => false,
        };
        let mut head = ResponseHead::new(status, headers, reuse);
        head.groups = self.terms.groups.into_boxed_slice();
        head.tag_is_ours = tag_is_ours;
        head.with_part(self.part).with_stripped(&self.stripped)
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
