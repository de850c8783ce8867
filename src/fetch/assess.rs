//! What the rules and the policy say of a response of the inner service.

use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap};
use http::{HeaderValue, StatusCode, response};

use super::{Fetch, Sent};
use crate::entry::{Part, ResponseHead};
use crate::policy::{PolicyExchange, Terms, VaryRule};
use crate::semantics::cache_control::ResponseDirectives;
use crate::semantics::cache_status::Detail;
use crate::semantics::date;
use crate::semantics::fields::{list, remove_content_digests, remove_hop_by_hop};
use crate::semantics::framing;
use crate::semantics::freshness::{self, single_date};
use crate::semantics::groups::{self, CACHE_GROUPS};
use crate::semantics::reuse::Reuse;
use crate::semantics::status::is_server_error;
use crate::semantics::storing::{self, NotStored};
use crate::semantics::targeted;
use crate::semantics::vary::{NeverMatches, Selecting};
use crate::semantics::{Rules, is_retrieval};
use crate::store::{Store, Stored};

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

impl<S: Store> Fetch<S> {
    /// Assesses a response that was received at `received_at`: the rules first, then the policy, then what no policy can
    /// lift.
    pub(super) fn assess(&self, response: &response::Parts, received_at: SystemTime) -> Assessment {
        let (core, request) = (self.core(), &self.exchange.request);
        let (rules, max_object) = (request.rules(), self.exchange.shared.store.limits().max_object);
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
        let keyed = request.key.keyed_credentials();
        let store = if core.storing {
            let exchange = storing::Exchange {
                method: &self.sent.method,
                names_target: self.sent.names_target,
                request: &request.parts.headers,
                request_directives: &request.directives,
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
        let unstored = [&directives.private_fields, &directives.no_cache_fields];
        let mut terms = Terms {
            age: None,
            groups: groups.iter().map(|group| groups::scoped(request.key.uri(), group)).collect(),
            lifetime,
            max_body: max_object,
            must_revalidate: directives.must_revalidate
                || directives.proxy_revalidate
                || directives.s_maxage.is_some(), // RFC 9111 5.2.2.10
            no_cache: directives.no_cache,
            reason: None,
            replace: Vec::new(),
            shared: storing::shared_with(&directives, rules.credentials),
            source,
            stale_if_error: directives.stale_if_error.map(|seconds| Duration::from_secs(seconds.into())),
            stale_while_revalidate: seconds(directives.stale_while_revalidate),
            store,
            strip: Vec::new(),
            unstored: unstored.into_iter().flatten().cloned().collect(),
            vary: VaryRule::AsSent,
        };
        let policy = &request.policy;
        let mut exchange = PolicyExchange::new(&request.key, &request.parts, response, &policy.data);
        exchange.is_background = self.exchange.background.is_some();
        exchange.sent = self.sent.fields.as_ref();
        policy.hooks.response(&exchange, &mut terms);
        terms.max_body = terms.max_body.min(max_object);
        if !core.storing {
            terms.store = Err(NotStored::SwitchedOff);
        }
        let mut selecting = Selecting::default();
        if terms.store.is_ok() {
            let selectable = selecting_by(&terms.vary, headers, &request.parts.headers, rules);
            terms.store = enforce_invariants(&self.sent, response, &terms, selectable.as_ref().err(), rules);
            selecting = selectable.unwrap_or_default();
            if self.sent.part == Some(Part::Replay) {
                selecting = selecting.with_field(&request.parts.headers, header::RANGE);
            }
        }
        let (at_least, part) = (self.sent.at_least, self.sent.part.clone());
        Assessment {
            at_least,
            date,
            directives,
            part,
            received_at,
            selecting,
            stripped: HeaderMap::new(),
            terms,
        }
    }

    /// Whether a response could be stored as far as the origin and the policy are concerned. `terms` is the verdict, which a
    /// client's `no-store` decides before anything else is looked at.
    pub(super) fn word_of_origin(
        &mut self,
        response: &response::Parts,
        received_at: SystemTime,
        terms: Result<(), NotStored>,
    ) -> Result<(), NotStored> {
        if terms != Err(NotStored::RequestNoStore) {
            return terms;
        }
        self.exchange.request.directives.no_store = false;
        let word = self.assess(response, received_at).terms.store;
        self.exchange.request.directives.no_store = true;
        word
    }
}

/// What selects a response, as far as the policy lets it.
fn selecting_by(
    rule: &VaryRule,
    response: &HeaderMap,
    request: &HeaderMap,
    rules: &Rules,
) -> Result<Selecting, NeverMatches> {
    match rule {
        VaryRule::AsSent => Selecting::of(response, request, rules),
        VaryRule::Ignore => Ok(Selecting::default()),
        VaryRule::Only(names) => {
            let named: Vec<_> = list(response, &header::VARY).map(<[u8]>::to_ascii_lowercase).collect();
            let kept = names.iter().filter(|name| named.iter().any(|line| line == name.as_str().as_bytes()));
            let mut only = HeaderMap::new();
            for name in kept {
                only.append(header::VARY, HeaderValue::from(name.clone()));
            }
            Selecting::of(&only, request, rules)
        }
    }
}

/// What no policy can lift.
fn enforce_invariants(
    sent: &Sent,
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
    if !is_retrieval(&sent.method) && !sent.names_target {
        return Err(NotStored::Method);
    }
    let is_part = response.status == StatusCode::PARTIAL_CONTENT;
    let is_of_range = sent.range != SentRange::None && response.status != StatusCode::OK;
    if (is_part || is_of_range) && sent.part.is_none() {
        return Err(NotStored::Partial);
    }
    if sent.incumbent.blocks(response.status) {
        return Err(NotStored::Status); // RFC 9111 4.3.3: what is stored may still do
    }
    if !is_of_use {
        return Err(NotStored::NeverFresh);
    }
    let group_bytes: usize = terms.groups.iter().map(|group| group.len()).sum();
    if terms.groups.len() > Terms::MAX_GROUPS || group_bytes > Terms::MAX_GROUP_BYTES {
        return Err(NotStored::Groups); // a purge of one that was left out would miss it
    }
    Ok(())
}

impl Assessment {
    /// How a refusal to store is reported.
    pub(crate) fn detail(&self, reason: NotStored) -> Detail {
        match &self.terms.reason {
            Some(word) if reason == NotStored::Policy => Detail::Refused(word.as_str().to_owned().into()),
            _ => Detail::NotStored(reason),
        }
    }

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

    /// Puts in what every client gets in the place of the origin's fields.
    fn replace(&mut self, headers: &mut HeaderMap) {
        for (name, value) in &self.terms.replace {
            if headers.get(name) == Some(value) {
                continue; // as it was put in for the first client
            }
            if let header::Entry::Occupied(field) = headers.entry(name) {
                let (name, values) = field.remove_entry_mult();
                for value in values {
                    self.stripped.append(&name, value);
                }
            }
            headers.insert(name, value.clone());
        }
    }

    /// Makes the fields of a response those that clients get, except for what is not stored.
    pub(crate) fn for_client(&mut self, headers: &mut HeaderMap) {
        self.strip(headers);
        self.replace(headers);
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
            initial_age: self.terms.age.unwrap_or_else(|| {
                let received = freshness::received_age(headers);
                freshness::initial_age(received, date, sent_at, self.received_at)
            }),
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
        for name in &self.terms.unstored {
            headers.remove(name);
        }
        self.replace(&mut headers);
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
