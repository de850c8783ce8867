//! One request on its way to an answer that storage alone can't give: what is known of it, from the look-up to the write.

use std::sync::Arc;

use http::StatusCode;

use crate::collapse::Leader;
use crate::collapse::background::ValidationPermit;
use crate::collapse::purge_state::PurgeState;
use crate::observe::Answer;
use crate::observe::span::Cause;
use crate::respond::open::{self, Gone, OpenedOnce};
use crate::respond::request::CacheRequest;
use crate::semantics::cache_status::{Detail, Forwarding};
use crate::semantics::reuse::{Decision, Fallback, Forward, Reuse};
use crate::shared::Shared;
use crate::store::{Expected, Fence, Lookup, Store, Stored, StoredId};

/// Why the inner service is asked, what for, and what answers if that fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchPlan {
    pub(crate) fallback: Fallback,
    pub(crate) forward: Forward,
    pub(crate) goal: Goal,
}

/// What the inner service is asked for. The index is that of the stored response that the request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// What is missing of a stored part.
    Complete(usize),
    /// A response, whatever is stored.
    Get,
    /// Whether a stored response is still valid.
    Validate(usize),
}

impl FetchPlan {
    pub(crate) fn get(forward: Forward) -> Self {
        Self { fallback: Fallback::None, forward, goal: Goal::Get }
    }

    /// Validation in the background: nobody waits for it, so nothing has to stand in.
    pub(crate) fn in_background(index: usize) -> Self {
        Self { fallback: Fallback::None, forward: Forward::Stale, goal: Goal::Validate(index) }
    }

    /// What a decision about a look-up asks of the inner service; `None` where it asks nothing.
    pub(crate) fn of(decision: Decision, lookup: &Lookup) -> Option<Self> {
        match decision {
            Decision::Complete(index) => {
                Some(Self { goal: Goal::Complete(index), ..Self::get(Forward::Partial) })
            }
            Decision::Forward(forward) => Some(Self::get(forward)),
            Decision::Validate(index, forward, fallback) => {
                let stored = lookup.variants.get(index).map(|stored| stored.response.head().status);
                let fallback = fallback.with_stored(stored);
                Some(Self { fallback, forward, goal: Goal::Validate(index) })
            }
            Decision::Serve(_)
            | Decision::ServeAhead(_)
            | Decision::ServeStale(_)
            | Decision::StandIn(_)
            | Decision::Unsatisfiable => None,
        }
    }

    /// The stored response that it is about.
    pub(crate) fn selected(&self) -> Option<usize> {
        match self.goal {
            Goal::Complete(index) | Goal::Validate(index) => Some(index),
            Goal::Get => None,
        }
    }
}

/// A request that is forwarded for the cache's sake. It is made by the service and handed down, boxed, to the write.
pub(crate) struct Exchange<S> {
    /// The right to validate in the background, held until the response is stored, or not.
    /// Boxed, as it is rare.
    pub(crate) background: Option<Box<ValidationPermit>>,
    /// In which span the request was made.
    pub(crate) cause: Cause,
    /// `Some(false)` where it has waited in vain for another request's call.
    pub(crate) collapsed: Option<bool>,
    /// It was counted as a request for its key while it waited for another one's call.
    pub(crate) is_counted: bool,
    /// Others wait for the answer.
    pub(crate) leader: Option<Leader>,
    pub(crate) lookup: Lookup,
    /// The content of the selected response, where the store has opened it.
    pub(crate) opened: OpenedOnce,
    pub(crate) plan: FetchPlan,
    /// How many purges had gone through the layer when the response came to be expected.
    purges: u64,
    /// As the client sent it.
    pub(crate) request: CacheRequest,
    pub(crate) shared: Arc<Shared<S>>,
    /// The store forgets no purge from before the call until the response is stored. Dropped last, after the leader: nobody
    /// joins a call of which the store may forget purges.
    pub(crate) expected: Expected,
}

impl<S: Store> Exchange<S> {
    pub(crate) fn new(
        shared: Arc<Shared<S>>,
        request: CacheRequest,
        lookup: Lookup,
        plan: FetchPlan,
    ) -> Box<Self> {
        let purges = shared.core.purges.now();
        Box::new(Self {
            background: None,
            cause: Cause::current(),
            collapsed: None,
            is_counted: false,
            leader: None,
            lookup,
            opened: OpenedOnce::default(),
            plan,
            purges,
            request,
            shared,
            expected: Expected::default(),
        })
    }

    /// Purges from now on count for what this request brings, and for what it finds.
    pub(crate) fn expect(&mut self) {
        self.purges = self.shared.core.purges.now();
        self.expected = self.shared.store.expect(&self.request.key);
    }

    /// The purge state under which the response is stored.
    pub(crate) fn fence(&self) -> Fence {
        self.expected.fence().unwrap_or(self.lookup.fence)
    }

    /// The purge state from which a call is made.
    pub(crate) fn purged(&self) -> PurgeState {
        PurgeState { fence: self.fence(), purges: self.purges }
    }

    /// The stored response that it is about.
    pub(crate) fn selected(&self) -> Option<&Stored> {
        self.lookup.variants.get(self.plan.selected()?)
    }

    /// Whether the selected response answers where the inner service fails.
    pub(crate) fn stands_in(&self) -> bool {
        self.plan.fallback == Fallback::StaleIfError
    }

    /// What there is to report of it so far.
    pub(crate) fn forwarding(&self) -> Forwarding {
        Forwarding { collapsed: self.collapsed, ..Forwarding::new(self.plan.forward) }
    }

    /// Answers with the selected response in place of a failure (RFC 5861 4), or of an answer that takes too long.
    pub(crate) fn stand_in(&self, detail: Detail, status: Option<StatusCode>) -> Answer {
        let forwarding = Forwarding { detail: Some(detail), status, ..self.forwarding() };
        self.request.stand_in(&self.shared.core, self.selected(), forwarding, self.opened.take())
    }

    /// Opens what a call may need of the selected response before it is made: the request can't be sent again where its
    /// content turns out to be gone after a 304. What is gone is not validated, and stands in for nothing.
    pub(crate) async fn open_selected(&mut self) {
        let Some(stored) = self.selected().filter(|stored| stored.response.payload().is_remote()).cloned()
        else {
            return;
        };
        let (shared, response) = (&self.shared, &stored.response);
        let opened = match self.plan.goal {
            Goal::Complete(_) => {
                let most = shared.core.most_in_memory;
                let loaded = Box::pin(open::load(shared, &self.request.key, response, most)).await;
                loaded.map(|loaded| {
                    self.lookup = std::mem::take(&mut self.lookup).with_response(stored.id, loaded);
                    None
                })
            }
            // Nobody gets the answer.
            _ if self.background.is_some() => return,
            _ => Box::pin(self.request.open(shared, response)).await,
        };
        match opened {
            Ok(opened) => self.opened = OpenedOnce::new(opened),
            Err(Gone) => self.forget(stored.id),
        }
    }

    /// Goes on without a stored response, whose content is gone.
    pub(crate) fn forget(&mut self, id: StoredId) {
        self.lookup = std::mem::take(&mut self.lookup).without(id);
        self.plan = FetchPlan::get(Forward::Miss);
    }
}

/// A stored response as an error sees it.
pub(super) fn as_incumbent(stored: &Stored) -> (StatusCode, &Reuse, bool) {
    let head = stored.response.head();
    (head.status, &head.reuse, stored.expired.is_some())
}
