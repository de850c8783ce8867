//! Answers from what another request's call has brought.
//!
//! Invariant: none before the head has been judged for this request by the same rules as anything that is stored.

use std::sync::Arc;
use std::time::SystemTime;

use crate::body::flight::Flight;
use crate::collapse::CallResult;
use crate::entry::{Part, ResponseHead, StoredResponse};
use crate::fetch::exchange::Exchange;
use crate::observe::Answer;
use crate::respond::Source;
use crate::semantics::cache_status::{Detail, Forwarding};
use crate::store::Store;

/// Why what is on its way does not answer a request.
pub(super) enum Unshared {
    /// The beginning of it is gone.
    Begun,
    /// It is not for this request, or for nobody else.
    Unfit,
}

impl<S: Store> Exchange<S> {
    /// An error that is shared with those that waited for it, and not stored.
    pub(super) fn answer_error(&self, response: &StoredResponse, why: &Detail) -> Answer {
        let (collapsed, detail) = (Some(true), Some(why.clone()));
        let outcome = Forwarding { collapsed, detail, ..Forwarding::new(self.plan.forward) };
        let now = self.shared.core.clock.now();
        self.request.respond(&self.shared.core, Source::Stored(response, None), outcome, now)
    }

    /// The answer from a response that another request's call has brought, if this request may have it.
    pub(super) async fn share(&self, response: &StoredResponse, is_validated: bool) -> Option<Answer> {
        let (core, now, request) = (&self.shared.core, self.shared.core.clock.now(), &self.request);
        if !request.may_share(response, is_validated, now) {
            return None;
        }
        let opened = request.open(&self.shared, response).await.ok()?;
        let outcome = self.shared_outcome(response.head(), now);
        Some(request.respond(core, Source::Stored(response, opened), outcome, now))
    }

    /// Whether the answer to this request has to be made of the whole of what is on its way, and that is soon there.
    pub(super) fn waits_for_whole(&self, head: &ResponseHead, flight: &Flight, is_tagged: bool) -> bool {
        let (core, request) = (&self.shared.core, &self.request);
        let is_small = flight.declared().is_some_and(|length| length <= core.small());
        is_small
            && head.part.is_none()
            && request.needs_whole(is_tagged)
            && !request.directives.no_cache
            && request.may_share_head(head, false, core.clock.now())
    }

    /// The answer from what is on its way, if this request may have it.
    pub(super) fn share_flight(&self, head: &ResponseHead, flight: &Arc<Flight>) -> Result<Answer, Unshared> {
        let (core, request) = (&self.shared.core, &self.request);
        let now = core.clock.now();
        // What is not there yet can't be cut. A slice is there as it is asked for.
        let is_cut = match (request.sliced(), head.part()) {
            (Some(sliced), Some(Part::Bytes(extent))) => !sliced.asked().is(extent),
            (_, part) => part.is_some() || request.fields.range,
        };
        if is_cut || !request.may_share_head(head, false, now) {
            return Err(Unshared::Unfit);
        }
        let reader = match flight.join() {
            None if !flight.is_draining() => return Err(Unshared::Unfit),
            None if request.needs_content(head, now) => return Err(Unshared::Begun),
            reader => reader,
        };
        Ok(request.respond(core, Source::Flight(head, reader), self.shared_outcome(head, now), now))
    }

    /// Becomes the client's request again, where what another request for the same slice got is an answer to that.
    pub(super) fn leave_slice_for(&mut self, result: &CallResult) {
        let Some(sliced) = self.request.sliced() else {
            return;
        };
        let status = match result {
            CallResult::Error(response, _)
            | CallResult::Validated(response)
            | CallResult::Whole(response) => response.head().status,
            CallResult::Streaming(head, ..) => head.status,
            _ => return,
        };
        if sliced.is_left_for(status) {
            self.request.leave_slice();
        }
    }

    /// What there is to report of an answer that was shared.
    fn shared_outcome(&self, head: &ResponseHead, now: SystemTime) -> Forwarding {
        Forwarding {
            collapsed: Some(true),
            stored: true,
            ttl: Some(head.reuse().ttl(now)),
            ..Forwarding::new(self.plan.forward)
        }
    }
}
