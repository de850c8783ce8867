//! One call that requests wait for: its result, and those that wait.

use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::purge_state::PurgeState;
use crate::body::flight::Flight;
use crate::entry::{ResponseHead, StoredResponse};
use crate::limits::{GaugeGuard, Gauges};
use crate::observe::span::Waiting;
use crate::runtime::slab::Slab;
use crate::runtime::{Mutex, lock};
use crate::semantics::cache_status::Detail;
use crate::semantics::collapse::NotShareable;
use crate::store::Fence;

/// One call of the inner service that others wait for.
pub(crate) struct Call {
    began: SystemTime,
    pub(super) purged: PurgeState,
    pub(super) state: Mutex<State>,
    pub(crate) waiting_spans: Waiting,
}

pub(super) struct State {
    /// Wakes the task that makes the call.
    driver: Option<Waker>,
    /// Wakers of those that wait for its end.
    ending: Slab<Waker>,
    /// A later call, made because this one takes long. If this one is answered first, its answer is for the followers of
    /// the later one, too.
    pub(super) heir: Option<Arc<Call>>,
    /// The number of clients that wait for an answer, including the leader's own.
    interested: usize,
    /// Its result is stored, or never will be.
    is_over: bool,
    /// A later call has replaced it: its result is older, and is not stored.
    pub(super) is_superseded: bool,
    /// It was answered with the result of the call that it is the heir of, and is still under way itself.
    is_answered_elsewhere: bool,
    result: CallResult,
    waiting: Slab<Waker>,
}

/// What became of a call.
#[derive(Clone)]
pub(crate) enum CallResult {
    /// Only its own request may have the answer.
    NotShareable(NotShareable),
    /// An error that is not stored, and why; it answers all requests that waited.
    Error(StoredResponse, Box<Detail>),
    /// It failed; with this status, if it was an answer.
    Failed(Option<StatusCode>),
    /// The call was not made, because as many calls as allowed are under way.
    Overloaded,
    Pending,
    /// A response that is to be stored and whose content is still being received; the flag says whether it gets a
    /// generated entity tag.
    Streaming(Arc<LazyHead>, Arc<Flight>, bool),
    /// A stored response that the origin has just confirmed.
    Validated(StoredResponse),
    /// A response that is stored.
    Whole(StoredResponse),
}

/// Whether anybody still waits for the answer to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// All clients have left, and nobody else may have the answer.
    None,
    /// All clients have left, but a later request may use the answer.
    Paused,
    /// Somebody waits, or the answer has arrived already.
    Active,
}

/// A head that is made when somebody asks for it. To make one costs some 5,000 instructions, an eighth of a miss, and most
/// calls have nobody who waits.
pub(crate) type LazyHead = LazyLock<ResponseHead, Box<dyn FnOnce() -> ResponseHead + Send>>;

/// Why a later call replaces one that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Because {
    /// The beginning of its content is gone. The results of both are stored.
    Begun,
    /// The first call takes too long. The results of both are put.
    Late,
    /// The result of the first call is too old for the request that asks, and is not stored.
    Older,
}

impl Call {
    /// A call that nobody can join yet, and whose leader's client waits for it.
    pub(crate) fn new(purged: PurgeState, began: SystemTime) -> Arc<Self> {
        let state = State {
            driver: None,
            ending: Slab::default(),
            heir: None,
            interested: 1,
            is_over: false,
            is_superseded: false,
            is_answered_elsewhere: false,
            result: CallResult::Pending,
            waiting: Slab::default(),
        };
        Arc::new(Self { began, purged, state: Mutex::new(state), waiting_spans: Waiting::default() })
    }

    /// The purge state from which it was made, as the store gave it.
    pub(crate) fn fence(&self) -> Fence {
        self.purged.fence
    }

    pub(crate) fn publish(&self, result: CallResult) {
        let mut state = lock(&self.state);
        let heir = state.heir.take();
        if !matches!(state.result, CallResult::Pending) {
            state.is_answered_elsewhere = false;
        }
        match (&state.result, &result) {
            // A stream that has all of its content is as good as what is stored.
            (CallResult::Pending, _) | (CallResult::Streaming(..), CallResult::Whole(_)) => {
                state.result = result.clone();
            }
            _ => {}
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.iter().for_each(Waker::wake_by_ref);
        if let Some(heir) = heir
            && matches!(result, CallResult::Streaming(..) | CallResult::Validated(_) | CallResult::Whole(_))
        {
            heir.inherit(result);
        }
    }

    /// Nothing comes of it any more.
    pub(super) fn end(&self) {
        self.publish(CallResult::Failed(None)); // unless it has a result
        let mut state = lock(&self.state);
        state.is_over = true;
        let ending = std::mem::take(&mut state.ending);
        drop(state);
        ending.iter().for_each(Waker::wake_by_ref);
    }

    /// Publishes the result of the call that it is the heir of, unless it has its own by now.
    fn inherit(&self, result: CallResult) {
        let is_pending = {
            let mut state = lock(&self.state);
            let is_pending = matches!(state.result, CallResult::Pending);
            state.is_answered_elsewhere |= is_pending;
            is_pending
        };
        if is_pending {
            self.publish(result);
        }
    }

    /// How many clients wait for it, with the leader's own.
    pub(crate) fn interested(&self) -> usize {
        lock(&self.state).interested
    }

    /// Its response, where all of that is here and the store does not have it yet.
    pub(crate) fn whole_until_stored(&self) -> Option<CallResult> {
        let state = lock(&self.state);
        let is_whole = !state.is_over && matches!(state.result, CallResult::Whole(_));
        is_whole.then(|| state.result.clone())
    }

    /// Whether the call has a result.
    pub(crate) fn has_result(&self) -> bool {
        !matches!(lock(&self.state).result, CallResult::Pending)
    }

    /// Why another call should be made: this one has taken longer than a request waits, or its content has stopped
    /// arriving.
    pub(crate) fn has_stalled(&self, now: SystemTime, wait: Duration) -> Option<Because> {
        let result = lock(&self.state).result.clone();
        match result {
            CallResult::Pending if now.duration_since(self.began).is_ok_and(|since| since > wait) => {
                Some(Because::Late)
            }
            CallResult::Streaming(_, flight, _) if flight.has_stalled(now) => Some(Because::Older),
            _ => None,
        }
    }

    fn enter(&self) {
        let mut state = lock(&self.state);
        state.interested += 1;
        let driver = if state.interested == 1 { state.driver.take() } else { None };
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    fn leave(&self) {
        let mut state = lock(&self.state);
        state.interested -= 1;
        let driver = if state.interested == 0 { state.driver.take() } else { None };
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// The current demand for the answer. Wakes the task that makes the call when the number of waiting clients drops
    /// to zero or rises from it.
    pub(crate) fn demand(&self, cx: &Context<'_>) -> Demand {
        let mut state = lock(&self.state);
        state.driver = Some(cx.waker().clone());
        match state.result {
            CallResult::NotShareable(_) if state.interested == 0 => Demand::None,
            CallResult::Pending if state.interested == 0 => Demand::Paused,
            _ if state.is_answered_elsewhere && state.interested == 0 => Demand::Paused,
            _ => Demand::Active,
        }
    }
}

/// Counts the leader's client, as long as it waits.
pub(crate) struct Interest(Arc<Call>);

impl Interest {
    /// A new call counts it already.
    pub(crate) fn of_leader(call: &Arc<Call>) -> Self {
        Self(Arc::clone(call))
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// A request that waits for another one's call.
pub(crate) struct Follower {
    _counted: Option<GaugeGuard>,
    /// Where its waker for the end is.
    ending_place: Option<usize>,
    interest: Interest,
    /// Where its waker for the result is.
    place: Option<usize>,
}

impl Follower {
    pub(super) fn of(call: &Arc<Call>, gauges: &Arc<Gauges>) -> Self {
        call.enter();
        let interest = Interest(Arc::clone(call));
        Self { _counted: gauges.waiting(), ending_place: None, interest, place: None }
    }

    pub(crate) fn call(&self) -> &Arc<Call> {
        &self.interest.0
    }

    /// The result of the call; never [`CallResult::Pending`].
    pub(crate) async fn result(&mut self) -> CallResult {
        std::future::poll_fn(|cx| self.poll_landing(cx)).await
    }

    /// Waits until what the call brought is stored, or is known not to be. The end of another call, from which this one has
    /// its result, is not waited for.
    pub(crate) async fn ended(&mut self) {
        std::future::poll_fn(|cx| self.poll_end(cx)).await;
    }

    fn poll_end(&mut self, cx: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.interest.0.state);
        if state.is_over || state.is_answered_elsewhere {
            return Poll::Ready(());
        }
        match self.ending_place.and_then(|place| state.ending.get_mut(place)) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.ending_place = Some(state.ending.add(cx.waker().clone())),
        }
        Poll::Pending
    }

    fn poll_landing(&mut self, cx: &Context<'_>) -> Poll<CallResult> {
        let mut state = lock(&self.interest.0.state);
        if !matches!(state.result, CallResult::Pending) {
            return Poll::Ready(state.result.clone());
        }
        match self.place.and_then(|place| state.waiting.get_mut(place)) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.place = Some(state.waiting.add(cx.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if self.place.is_none() && self.ending_place.is_none() {
            return;
        }
        // Gone already, if there is a result, or the call has ended.
        let mut state = lock(&self.interest.0.state);
        if let Some(place) = self.place {
            state.waiting.remove(place);
        }
        if let Some(place) = self.ending_place {
            state.ending.remove(place);
        }
    }
}
