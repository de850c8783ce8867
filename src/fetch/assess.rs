//! What the rules and the policy say of a response of the inner service.

use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap};
use http::{HeaderValue, StatusCode, response};

use super::Fetch;
use crate::entry::key::asked_path;
use crate::entry::{Part, ResponseHead};
use crate::observe::SERVER_TIMING;
use crate::policy::{Judged, OfOrigin, Terms};
use crate::respond::dated::date_value;
use crate::semantics::Rules;
use crate::semantics::cache_control::ResponseDirectives;
use crate::semantics::cache_status::Detail;
use crate::semantics::deception;
use crate::semantics::fields::{ResponseFields, hop_by_hop};
use crate::semantics::framing;
use crate::semantics::hint::CacheHint;
use crate::semantics::stored::{AddedFields, StoredFields};
use crate::semantics::storing::NotStored;
use crate::semantics::terms::{Fetched, ResponseView, Timing};
use crate::semantics::vary::Selecting;
use crate::store::{Store, Stored};

/// What the rules and the policy say of a response.
#[derive(Clone)]
pub(crate) struct Assessment {
    at_least: Option<(SystemTime, SystemTime)>,
    /// Its answers have a `Date` of their own, and no `Age`.
    counts_from_answers: bool,
    date: Option<SystemTime>,
    pub(crate) directives: ResponseDirectives,
    /// What fields it has, as clients get it.
    pub(crate) fields: ResponseFields,
    hint: Option<Box<CacheHint>>,
    part: Option<Part>,
    received_age: Option<Duration>,
    pub(crate) received_at: SystemTime,
    selecting: Selecting,
    of_origin: OfOrigin,
    pub(crate) terms: Terms,
}

impl<S: Store> Fetch<S> {
    /// Assesses a response that was received at `received_at`: the rules first, then the policy, then what no policy can
    /// lift.
    pub(super) fn assess(&self, response: &response::Parts, received_at: SystemTime) -> Assessment {
        let (request, max_object) = (&self.exchange.request, self.exchange.shared.store.limits().max_object);
        let (rules, status, headers) = (request.rules(), response.status, &response.headers);
        let judged = Judged {
            is_background: self.exchange.background.is_some(),
            max_body: max_object,
            method: &self.sent.method,
            names_target: self.sent.names_target,
            request: request.judged(),
            sent: self.sent.fields.as_ref(),
            store: Ok(()),
        };
        let (ResponseView { date, directives, fields, received_age, .. }, mut terms) =
            judged.terms(&request.policy, response, received_at);
        let is_whole = self.comes_whole(&terms);
        terms.max_body = terms.max_body.min(if is_whole { self.core().most_in_memory } else { max_object });
        if self.core().reporter.server_timing.is_some() && headers.contains_key(SERVER_TIMING) {
            terms.unstored.push(SERVER_TIMING); // it speaks of this call
        }
        let mut selecting = Selecting::default();
        if terms.store.is_ok() {
            let selectable = if fields.vary || fields.content_encoding {
                let judged = terms.edits.as_ref().and_then(|edits| edits.judged.as_ref());
                terms.vary.selecting(judged.unwrap_or(headers), &request.parts.headers, rules)
            } else {
                Ok(Selecting::default())
            };
            let fetched = Fetched {
                group_bytes: terms.groups.iter().map(|group| group.len()).sum(),
                groups: terms.groups.len(),
                has_transfer_coding: fields.transfer_encoding && framing::has_transfer_coding(headers),
                has_validator: fields.has_validator(),
                incumbent: self.sent.incumbent,
                is_known_part: self.sent.part.is_some(),
                method: &self.sent.method,
                names_target: self.sent.names_target,
                sent_range: self.sent.range,
                status,
            };
            let unselectable = selectable.as_ref().err().copied();
            let mut store = terms.of_reuse().enforce_invariants(&fetched, unselectable, rules);
            if store.is_ok() && rules.deception_guard {
                store = deception::check(&asked_path(&request.parts), status, headers);
            }
            selecting = selectable.unwrap_or_default();
            if self.sent.part == Some(Part::Replay) {
                selecting = selecting.with_field(&request.parts.headers, header::RANGE);
            }
            if terms.max_variants.is_some_and(|most| self.is_one_too_many(&selecting, most, received_at)) {
                store = store.and(Err(NotStored::Variants));
            }
            terms.store = store;
        }
        let (at_least, part) = (self.sent.at_least, self.sent.part.clone());
        Assessment {
            at_least,
            counts_from_answers: false,
            date,
            directives,
            fields,
            hint: response.extensions.get::<CacheHint>().cloned().map(Box::new),
            part,
            received_age,
            received_at,
            selecting,
            of_origin: OfOrigin::default(),
            terms,
        }
    }

    /// Whether a response that these fields select would be one more than `most` that are stored under its key and fresh.
    fn is_one_too_many(&self, selecting: &Selecting, most: usize, now: SystemTime) -> bool {
        let variants = &self.exchange.lookup.variants;
        let is_fresh =
            |stored: &&Stored| stored.expired.is_none() && stored.response.head().reuse().ttl(now) > 0;
        let is_replaced = |stored: &Stored| stored.response.head().reuse().selecting == *selecting;
        variants.iter().filter(is_fresh).count() >= most && !variants.iter().any(is_replaced)
    }

    /// Whether a response could be stored as far as the origin and the policy are concerned. `terms` is the verdict, which a
    /// client's `no-store` decides before anything else is looked at.
    pub(super) fn word_of_origin(
        &mut self,
        response: &response::Parts,
        received_at: SystemTime,
        terms: Result<(), NotStored>,
    ) -> Result<(), NotStored> {
        if !terms.is_err_and(NotStored::is_clients_wish) {
            return terms;
        }
        self.exchange.request.directives.no_store = false;
        let word = self.assess(response, received_at).terms.store;
        self.exchange.request.directives.no_store = true;
        word
    }
}

impl Assessment {
    /// How a refusal to store is reported.
    pub(crate) fn detail(&self, reason: NotStored) -> Detail {
        match &self.terms.reason {
            Some(word) if reason == NotStored::Policy => Detail::Refused(word.as_str().to_owned().into()),
            _ => Detail::NotStored(reason),
        }
    }

    /// Makes the fields of a response those that clients get, except for what is not stored.
    pub(crate) fn for_client(&mut self, status: StatusCode, headers: &mut HeaderMap, rules: &Rules) {
        let Self { of_origin, received_at, terms, .. } = self;
        let is_as_received = terms.strip.is_empty() && terms.replace.is_empty() && terms.edits.is_none();
        if is_as_received && terms.browser_lifetime.is_none() {
            return;
        }
        // `Connection`, which names some of them, may be taken away.
        terms.unstored.extend(hop_by_hop(headers));
        self.counts_from_answers = terms.for_client(status, headers, *received_at, &rules.targets, of_origin);
        of_origin.forget(&terms.unstored, headers);
        if self.counts_from_answers {
            headers.remove(header::AGE);
            headers.insert(header::DATE, date_value(*received_at));
        }
        self.fields = ResponseFields::of(headers, &[]);
    }

    /// Seconds of freshness left at reception.
    pub(crate) fn ttl(&self, sent_at: SystemTime) -> i64 {
        self.terms.of_reuse().ttl(&self.timing(sent_at))
    }

    fn timing(&self, sent_at: SystemTime) -> Timing {
        let Self { at_least, date, received_age, received_at, .. } = *self;
        Timing { age: self.terms.age, at_least, date, received_age, received_at, sent_at }
    }

    /// The head to store, and what it has that the response lacks. `headers` are those [for clients](Self::for_client);
    /// `length` is that of the whole content; `tag` one that was generated. What the head is made of is taken.
    pub(crate) fn head(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        sent_at: SystemTime,
        length: Option<usize>,
        tag: Tag,
    ) -> (ResponseHead, AddedFields) {
        let timing = self.timing(sent_at);
        let (immutable, selecting) = (self.directives.immutable, std::mem::take(&mut self.selecting));
        let reuse = self.terms.of_reuse().reuse(&timing, immutable, selecting);
        let mut fields = StoredFields::of(headers, self.fields, &self.terms.unstored);
        self.terms.replace.iter().for_each(|(name, _)| fields.keep(name));
        let mut date = self.date;
        if self.counts_from_answers {
            fields.leave_out(header::DATE);
            date = Some(self.received_at); // what the first client gets
        }
        fields.add_missing(date, self.received_at, length);
        if let Some(Part::Bytes(_)) = self.part {
            fields.remove_fields_of_part();
        }
        let tag_is_ours = match tag {
            Tag::New(tag) => fields.set_tag(tag),
            Tag::Ours => true,
            Tag::Theirs => false,
        };
        let mut head = ResponseHead::of(status, &fields, reuse);
        head.groups = std::mem::take(&mut self.terms.groups).into_boxed_slice();
        head.admission = self.terms.admission.take();
        head.counts_from_answers = self.counts_from_answers;
        head.hint = self.hint.take();
        head.levels = self.terms.levels;
        head.tag_is_ours = tag_is_ours;
        (
            head.with_part(self.part.take()).of_origin(&self.of_origin.fields, &self.of_origin.absent),
            fields.into_added(),
        )
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
