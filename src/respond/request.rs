//! A request as the cache reads it, and the answers that storage alone can give.

use std::time::SystemTime;

use http::Response;
use http::header;
use http::request::Parts;

use crate::body::CacheBody;
use crate::entry::aliases;
use crate::entry::key::CacheKey;
use crate::entry::partial;
use crate::entry::{ResponseHead, StoredResponse};
use crate::semantics::accept::accepts_media_type;
use crate::semantics::cache_control::RequestDirectives;
use crate::semantics::cache_status::{Detail, Outcome};
use crate::semantics::fields::RequestFields;
use crate::semantics::reuse::{self, Candidate, Coverage, Decision, Forward};
use crate::semantics::{CredentialKinds, answer, collapse, outgoing};
use crate::shared::Core;
use crate::store::{Lookup, Stored, Variants};

/// A GET, HEAD or QUERY with all that was read from it.
pub(crate) struct CacheRequest {
    /// As far as they count.
    pub(crate) directives: RequestDirectives,
    pub(crate) fields: RequestFields,
    pub(crate) key: CacheKey,
    pub(crate) now: SystemTime,
    pub(crate) request: Parts,
}

impl CacheRequest {
    #[inline]
    pub(crate) fn new(
        core: &Core,
        request: Parts,
        fields: RequestFields,
        key: CacheKey,
        now: SystemTime,
    ) -> Self {
        let directives = if fields.directives {
            RequestDirectives::of(&request.headers).heeded(core.policy.rules().client_directives)
        } else {
            RequestDirectives::default()
        };
        Self { directives, fields, key, now, request }
    }

    /// The credentials that the request carries and its key does not hold.
    #[inline]
    pub(crate) fn unkeyed(&self) -> CredentialKinds {
        if self.fields.credentials {
            CredentialKinds::of(&self.request.headers).without(self.key.keyed_credentials())
        } else {
            CredentialKinds::default()
        }
    }

    /// Whether its answer may have to be made of all of the content: a part that is cut from it, or a 304 by the entity
    /// tag, if that is still to be made.
    pub(crate) fn needs_whole(&self, is_to_be_tagged: bool) -> bool {
        answer::needs_whole(&self.request.headers, self.fields, is_to_be_tagged)
    }

    /// Whether the answer to another one's call, made while this request waited, is an answer to it too.
    pub(crate) fn may_share(
        &self,
        core: &Core,
        response: &StoredResponse,
        is_validated: bool,
        now: SystemTime,
    ) -> bool {
        partial::coverage(response, &self.request, self.fields) == Coverage::Full
            && self.may_share_head(core, response.head(), is_validated, now)
    }

    /// [`Query::may_share`] as far as the head says. `is_validated`: the origin has just said that it holds.
    pub(crate) fn may_share_head(
        &self,
        core: &Core,
        head: &ResponseHead,
        is_validated: bool,
        now: SystemTime,
    ) -> bool {
        collapse::may_share(&self.ask(), head.reuse(), is_validated, core.policy.rules(), now)
    }

    /// The request as reuse sees it.
    #[inline]
    fn ask(&self) -> reuse::RequestView<'_> {
        reuse::RequestView {
            directives: &self.directives,
            headers: &self.request.headers,
            unkeyed: self.unkeyed(),
        }
    }

    /// Whether a stored response could answer it, once the origin has said that it holds: then its validators ask about
    /// something that this request may have.
    pub(crate) fn may_have(&self, core: &Core, head: &ResponseHead) -> bool {
        let content_type = head.headers().get(header::CONTENT_TYPE);
        reuse::may_answer(&self.ask(), head.reuse(), core.policy.rules())
            && content_type.is_none_or(|kind| accepts_media_type(&self.request.headers, kind))
    }

    #[inline]
    pub(crate) fn decide(&self, core: &Core, lookup: &Lookup) -> Decision {
        let candidates = self.candidates(lookup);
        let decision = reuse::decide(&self.ask(), candidates, core.policy.rules(), self.now);
        self.as_far_as_completed(core, decision)
    }

    /// [`Query::decide`] where nothing can be validated in the background.
    pub(crate) fn decide_in_front(&self, core: &Core, lookup: &Lookup) -> Decision {
        let candidates = self.candidates(lookup);
        let decision = reuse::decide_in_front(&self.ask(), candidates, core.policy.rules(), self.now);
        self.as_far_as_completed(core, decision)
    }

    #[inline]
    fn candidates<'a>(&'a self, lookup: &'a Lookup) -> impl ExactSizeIterator<Item = Candidate<'a>> {
        lookup.variants.iter().map(|stored| Candidate {
            coverage: partial::coverage(&stored.response, &self.request, self.fields),
            expired: stored.expired,
            reuse: stored.response.head().reuse(),
        })
    }

    /// Nothing is completed for a while where what came did not fit.
    #[inline]
    fn as_far_as_completed(&self, core: &Core, decision: Decision) -> Decision {
        match decision {
            Decision::Complete(_) if core.unreliable.parts.has(&self.key, self.now) => {
                Decision::Forward(Forward::Partial)
            }
            decision => decision,
        }
    }

    pub(crate) fn hit<B>(
        &self,
        core: &Core,
        stored: &Stored,
        detail: Option<Detail>,
    ) -> Response<CacheBody<B>> {
        let age = stored.response.head().reuse.age(self.now);
        let outcome = Outcome::Hit { ttl: stored.ttl_at(age, self.now), detail };
        core.answer_aged(&stored.response, &self.request, self.fields, &outcome, self.now, age)
    }

    /// Which of the responses that are stored under the key of another query answers this one, by what it says of
    /// queries. Only what needs no asking will do: what comes of asking is about the query that was asked.
    pub(crate) fn finds(&self, core: &Core, key: &CacheKey, found: &Lookup) -> Option<usize> {
        let answers =
            |stored: &Stored| aliases::answers(stored.response.head().headers(), key.uri(), self.key.uri());
        let fitting: Vec<_> = (0..found.variants.len()).filter(|&at| answers(&found.variants[at])).collect();
        let candidates = Variants::new(fitting.iter().map(|&at| found.variants[at].clone()));
        match self.decide(core, &Lookup::new(found.fence, candidates)) {
            Decision::Serve(index) | Decision::ServeAhead(index) => fitting.get(index).copied(),
            _ => None,
        }
    }

    /// The request as a fill for everybody: a HEAD asks for the whole, what the client already has does not
    /// matter, nor what it would rather not wait for.
    ///
    /// What is `about_part` is about the same range.
    pub(crate) fn for_everybody(mut self, about_part: bool) -> Self {
        let Parts { method, headers, .. } = &mut self.request;
        outgoing::for_everybody(method, headers, &mut self.fields, &mut self.directives, about_part);
        self
    }
}
