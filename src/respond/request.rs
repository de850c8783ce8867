//! A request as the cache reads it, and what is decided about it.

use std::time::SystemTime;

use http::Method;
use http::header;
use http::request::Parts;

use crate::entry::aliases;
use crate::entry::key::CacheKey;
use crate::entry::partial;
use crate::entry::{ResponseHead, StoredResponse};
use crate::policy::{JudgedRequest, RequestPolicy, TrustedPeer};
use crate::runtime::Runtime;
use crate::semantics::accept::accepts_media_type;
use crate::semantics::cache_control::RequestDirectives;
use crate::semantics::fields::RequestFields;
use crate::semantics::reuse::{self, Candidate, Coverage, Decision, Fallback, Forward};
use crate::semantics::{CredentialKinds, Rules, answer, collapse, outgoing};
use crate::shared::Core;
use crate::store::{Lookup, Stored, Variants};

/// A GET, HEAD or QUERY with all that was read from it.
#[derive(Clone)]
pub(crate) struct CacheRequest {
    /// How many calls for its key had ended before it was looked up; `None` where the store answered at once.
    pub(crate) calls_ended: Option<u32>,
    /// As far as the policy heeds them.
    pub(crate) directives: RequestDirectives,
    pub(crate) fields: RequestFields,
    pub(crate) key: CacheKey,
    /// When it arrived, or when the answer that it is judged by did.
    pub(crate) now: SystemTime,
    pub(crate) parts: Parts,
    pub(crate) policy: RequestPolicy,
}

impl CacheRequest {
    #[inline]
    pub(crate) fn new(
        parts: Parts,
        fields: RequestFields,
        key: CacheKey,
        now: SystemTime,
        policy: RequestPolicy,
    ) -> Self {
        let directives = if fields.directives {
            RequestDirectives::of(&parts.headers).heeded(policy.rules(&parts).client_directives)
        } else {
            RequestDirectives::default()
        };
        Self { calls_ended: None, directives, fields, key, now, parts, policy }
    }

    /// The readings of RFC 9111 that apply to it.
    #[inline]
    pub(crate) fn rules(&self) -> &Rules {
        self.policy.rules(&self.parts)
    }

    /// As a response to it is judged.
    pub(crate) fn judged(&self) -> JudgedRequest<'_> {
        JudgedRequest { directives: &self.directives, key: &self.key, now: self.now, parts: &self.parts }
    }

    /// The same for a request that takes its time.
    pub(crate) fn lasting(self) -> Self {
        Self { policy: self.policy.lasting(), ..self }
    }

    /// A POST whose response may answer later GETs. The request's own conditions and ranges are none of the cache's
    /// business (RFC 9110 13.2.1).
    pub(crate) fn post(parts: Parts, key: CacheKey, now: SystemTime, policy: RequestPolicy) -> Self {
        let directives = RequestDirectives::of(&parts.headers);
        Self { calls_ended: None, directives, fields: RequestFields::default(), key, now, parts, policy }
    }

    /// The credentials that the request carries and its key does not hold.
    #[inline]
    pub(crate) fn unkeyed(&self) -> CredentialKinds {
        if self.fields.credentials {
            CredentialKinds::of(&self.parts.headers).without(self.key.keyed_credentials(&self.parts.headers))
        } else {
            CredentialKinds::default()
        }
    }

    /// Whether its answer is a response as it is: nothing is evaluated, cut or left out.
    pub(crate) fn is_plain_get(&self) -> bool {
        self.parts.method == Method::GET && !self.fields.conditions && !self.fields.range
    }

    /// Whether its answer may have to be made of all of the content: a part that is cut from it, or a 304 by the entity
    /// tag, if that is still to be made.
    pub(crate) fn needs_whole(&self, is_to_be_tagged: bool) -> bool {
        answer::needs_whole(&self.parts.headers, self.fields, is_to_be_tagged)
    }

    /// Whether the answer to another request's call, made while this one waited, is an answer to it too.
    pub(crate) fn may_share(&self, response: &StoredResponse, is_validated: bool, now: SystemTime) -> bool {
        partial::coverage(response, &self.parts, self.fields) == Coverage::Full
            && self.may_share_head(response.head(), is_validated, now)
    }

    /// [`CacheRequest::may_share`] as far as the head says. `is_validated`: the origin has just said that it is still valid.
    pub(crate) fn may_share_head(&self, head: &ResponseHead, is_validated: bool, now: SystemTime) -> bool {
        collapse::may_share(&self.view(), head.reuse(), is_validated, self.rules(), now)
    }

    /// The request as reuse sees it.
    #[inline]
    fn view(&self) -> reuse::RequestView<'_> {
        reuse::RequestView {
            directives: &self.directives,
            headers: &self.parts.headers,
            unkeyed: self.unkeyed(),
        }
    }

    /// Whether a stored response could answer it, once the origin has said that it is still valid: then its validators ask
    /// about something that this request may have.
    pub(crate) fn may_have(&self, head: &ResponseHead) -> bool {
        let content_type = head.fields().get(&header::CONTENT_TYPE);
        self.selects(head) && content_type.is_none_or(|kind| accepts_media_type(&self.parts.headers, kind))
    }

    /// Whether a stored response is one of those that are for this request, fresh or not.
    pub(crate) fn selects(&self, head: &ResponseHead) -> bool {
        reuse::may_answer(&self.view(), head.reuse(), self.rules())
    }

    /// Leaves `Range` aside where the range might be one of another coding than the bytes that the client has.
    #[inline]
    pub(crate) fn keep_to_one_coding(&mut self, lookup: &Lookup) {
        if self.fields.range {
            self.keep_range_to_one_coding(lookup);
        }
    }

    #[cold]
    fn keep_range_to_one_coding(&mut self, lookup: &Lookup) {
        let stored = lookup.variants.iter().map(|stored| stored.response.head());
        if partial::may_mix_codings(stored, &self.parts.headers) {
            self.fields.range = false;
            for name in [header::RANGE, header::IF_RANGE] {
                self.parts.headers.remove(name);
            }
        }
    }

    #[inline]
    pub(crate) fn decide(&self, core: &Core, lookup: &Lookup) -> Decision {
        let candidates = self.candidates(lookup);
        let decision = reuse::decide(&self.view(), candidates, self.rules(), self.now);
        if matches!(decision, Decision::ServeStale(_)) && self.is_of_peer() {
            return self.decide_in_front(core, lookup);
        }
        self.as_remembered(core, lookup, decision)
    }

    /// What was decided, or, where there is no runtime to validate anything in the background, what is decided without that.
    pub(crate) fn as_tasks_allow(&self, core: &Core, lookup: &Lookup, decision: Decision) -> Decision {
        match decision {
            Decision::ServeAhead(_) | Decision::ServeStale(_) if Runtime::current().is_none() => {
                self.decide_in_front(core, lookup)
            }
            decision => decision,
        }
    }

    /// Whether another cache asks, which would store what it gets.
    fn is_of_peer(&self) -> bool {
        self.parts.extensions.get::<TrustedPeer>().is_some()
    }

    /// [`CacheRequest::decide`] where nothing can be validated in the background.
    fn decide_in_front(&self, core: &Core, lookup: &Lookup) -> Decision {
        let candidates = self.candidates(lookup);
        let decision = reuse::decide_in_front(&self.view(), candidates, self.rules(), self.now);
        self.as_remembered(core, lookup, decision)
    }

    #[inline]
    fn candidates<'a>(&'a self, lookup: &'a Lookup) -> impl ExactSizeIterator<Item = Candidate<'a>> {
        lookup.variants.iter().map(|stored| Candidate {
            coverage: partial::coverage(&stored.response, &self.parts, self.fields),
            expired: stored.expired.map(|expired| expired.at),
            reuse: stored.response.head().reuse(),
        })
    }

    /// What is decided with what is remembered of earlier calls. Nothing is completed for a while where what came did not fit,
    /// nor what is too large for that; and an inner service that has failed is left alone while a stored response stands in.
    #[inline]
    fn as_remembered(&self, core: &Core, lookup: &Lookup, decision: Decision) -> Decision {
        match decision {
            Decision::Complete(index)
                if core.unreliable.parts.has(&self.key, self.now)
                    || !core.can_load(lookup.variants[index].response.payload()) =>
            {
                Decision::Forward(Forward::Partial)
            }
            Decision::Validate(index, Forward::Stale, fallback)
                if fallback.with_stored(Some(lookup.variants[index].response.head().status))
                    == Fallback::StaleIfError
                    && core.resting.has(&self.key, self.now) =>
            {
                Decision::StandIn(index)
            }
            decision => decision,
        }
    }

    /// Which of the responses that are stored under the key of another query answers this one, by what it says of
    /// queries. Only a fresh response qualifies: validating it would fetch a response for the other URI's query.
    pub(crate) fn finds(&self, core: &Core, key: &CacheKey, found: &Lookup) -> Option<usize> {
        let answers = |stored: &Stored| aliases::answers(stored.response.head(), key.uri(), self.key.uri());
        let fitting: Vec<_> = (0..found.variants.len()).filter(|&at| answers(&found.variants[at])).collect();
        let candidates = Variants::new(fitting.iter().map(|&at| found.variants[at].clone()));
        match self.decide(core, &Lookup::new(found.fence, candidates)) {
            Decision::Serve(index) | Decision::ServeAhead(index) => fitting.get(index).copied(),
            _ => None,
        }
    }

    /// The request as a fetch for everybody: a HEAD asks for the whole, what the client already has does not matter, nor
    /// what it would rather not wait for.
    ///
    /// What is `about_part` is about the same range.
    pub(crate) fn for_everybody(mut self, about_part: bool) -> Self {
        let Parts { method, headers, .. } = &mut self.parts;
        outgoing::for_everybody(method, headers, &mut self.fields, &mut self.directives, about_part);
        self
    }
}
