//! Requests that are answered by one call (RFC 9111 4: "collapsed" requests).
//!
//! Invariant: the request that leads a call holds a [`Leader`]. Whatever happens to the call (a result, a client that
//! leaves, a panic), every follower learns of it, and the key becomes free.

pub(crate) mod background;
pub(crate) mod key_memory;
mod not_shared;
pub(crate) mod purge_state;
pub(crate) mod unknown_outcomes;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use http::StatusCode;

use self::not_shared::NotShared;
use self::purge_state::PurgeState;
use crate::body::flight::Flight;
use crate::entry::key::CacheKey;
use crate::entry::{ResponseHead, StoredResponse};
use crate::limits::{GaugeGuard, Gauges};
use crate::observe::span::Waiting;
use crate::runtime::slab::Slab;
use crate::runtime::{Mutex, lock};
use crate::semantics::cache_status::Detail;
pub(crate) use crate::semantics::collapse::NotShareable;
use crate::store::Fence;

/// One where schedules are explored, so that the random hash of a collapse key has no part in them.
const SHARDS: usize = if cfg!(shuttle) { 1 } else { 16 };

/// How many counts of ended calls there are. Keys share them, which at worst costs a look-up.
const COUNTS: usize = 1024;

/// What requests that may share one call have in common: the key, and the selecting values if the selecting fields are
/// known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CollapseKey {
    pub(crate) key: CacheKey,
    pub(crate) variant: Option<Box<[u8]>>,
}

/// Decides which request leads a call and which ones follow, and remembers the keys whose answers cannot be shared (a
/// hit-for-pass memory).
pub(crate) struct Collapser {
    /// How many calls have ended, by their keys' hashes.
    ended: Box<[AtomicU32]>,
    hasher: RandomState,
    gauges: Arc<Gauges>,
    not_shared: NotShared,
    shards: [Mutex<HashMap<CollapseKey, Arc<Call>>>; SHARDS],
}

/// One call of the inner service that others wait for.
pub(crate) struct Call {
    began: SystemTime,
    purged: PurgeState,
    state: Mutex<State>,
    pub(crate) waiting_spans: Waiting,
}

struct State {
    /// Wakes the task that makes the call.
    driver: Option<Waker>,
    /// Wakers of those that wait for its end.
    ending: Slab<Waker>,
    /// A later call, made because this one takes long. If this one is answered first, its answer is for the followers of
    /// the later one, too.
    heir: Option<Arc<Call>>,
    /// The number of clients that wait for an answer, including the leader's own.
    interested: usize,
    /// Its result is stored, or never will be.
    is_over: bool,
    /// A later call has replaced it: its result is older, and is not stored.
    is_superseded: bool,
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

/// What a request has to do.
pub(crate) enum Role {
    /// Make a call of its own: answers for the key cannot be shared, or there are too many calls.
    Alone,
    /// There is a call with another fence: the caller has to find out whether a purge since then concerns the key.
    Outdated(Arc<Call>),
    Follow(Follower),
    Leader(Leader),
}

/// What a request would find that does not join yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prospect {
    /// No call: it would make one, and others could wait for it.
    First,
    /// Answers for the key cannot be shared.
    NotShared,
    /// A call that was made before a purge, with this purge state: it could wait for it if that purge does not concern the key.
    Outdated(Fence),
    /// A call that it could wait for.
    UnderWay,
}

impl Collapser {
    pub(crate) fn new(gauges: Arc<Gauges>) -> Self {
        Self {
            ended: (0..COUNTS).map(|_| AtomicU32::new(0)).collect(),
            hasher: RandomState::new(),
            gauges,
            not_shared: NotShared::default(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    fn shard(&self, ticket: &CollapseKey) -> &Mutex<HashMap<CollapseKey, Arc<Call>>> {
        let hash = self.hasher.hash_one(ticket);
        &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or_default()]
    }

    /// How many calls have ended for this key, and for some others. A request that reads another number after its look-up
    /// than before may have missed what such a call has stored.
    pub(crate) fn ended(&self, key: &CacheKey) -> u32 {
        self.ended_count(key).load(Ordering::Acquire)
    }

    fn ended_count(&self, key: &CacheKey) -> &AtomicU32 {
        let hash = self.hasher.hash_one(key);
        &self.ended[usize::try_from(hash % COUNTS as u64).unwrap_or_default()]
    }

    /// Whether requests for the key wait for each other, and whether there is a call to wait for.
    pub(crate) fn prospect(
        &self,
        ticket: &CollapseKey,
        has_credentials: bool,
        purged: PurgeState,
        now: SystemTime,
    ) -> Prospect {
        if self.not_shared.has(&ticket.key, has_credentials, now) {
            return Prospect::NotShared;
        }
        match lock(self.shard(ticket)).get(ticket) {
            Some(call) if call.purged.is_same(purged) => Prospect::UnderWay,
            Some(call) => Prospect::Outdated(call.fence()),
            None => Prospect::First,
        }
    }

    /// Finds a call to wait for, or begins one. `purged` is that of the look-up that found nothing of use.
    pub(crate) fn join(
        self: &Arc<Self>,
        ticket: &CollapseKey,
        has_credentials: bool,
        purged: PurgeState,
        now: SystemTime,
    ) -> Role {
        if self.not_shared.has(&ticket.key, has_credentials, now) {
            return Role::Alone;
        }
        let mut calls = lock(self.shard(ticket));
        match calls.get(ticket) {
            Some(call) if call.purged.is_same(purged) => Role::Follow(Follower::of(call, &self.gauges)),
            Some(call) => Role::Outdated(Arc::clone(call)),
            None => self.begin(&mut calls, ticket, has_credentials, purged, now),
        }
    }

    /// Begins a call that replaces one whose answer is of no use to the request.
    pub(crate) fn supersede(
        self: &Arc<Self>,
        ticket: &CollapseKey,
        has_credentials: bool,
        purged: PurgeState,
        now: SystemTime,
        old: &Arc<Call>,
        because: Because,
    ) -> Role {
        let mut calls = lock(self.shard(ticket));
        match calls.get(ticket) {
            // Another request was faster.
            Some(call) if !Arc::ptr_eq(call, old) => Role::Follow(Follower::of(call, &self.gauges)),
            // The old call was answered in the meantime.
            _ if because == Because::Late && old.has_result() => {
                Role::Follow(Follower::of(old, &self.gauges))
            }
            _ => {
                let role = self.begin(&mut calls, ticket, has_credentials, purged, now);
                let mut old = lock(&old.state);
                match (because, &role) {
                    (Because::Older, _) => old.is_superseded = true,
                    (Because::Late, Role::Leader(leader)) => old.heir = Some(Arc::clone(leader.call())),
                    (Because::Begun | Because::Late, _) => {}
                }
                drop(old);
                role
            }
        }
    }

    /// Waits for a call that [`Role::Outdated`] named, and that no purge concerns.
    pub(crate) fn follow(&self, call: &Arc<Call>) -> Follower {
        Follower::of(call, &self.gauges)
    }

    fn begin(
        self: &Arc<Self>,
        calls: &mut HashMap<CollapseKey, Arc<Call>>,
        ticket: &CollapseKey,
        has_credentials: bool,
        purged: PurgeState,
        now: SystemTime,
    ) -> Role {
        let Some(counted) = self.gauges.fill() else {
            return Role::Alone;
        };
        let call = Call::new(purged, now);
        calls.insert(ticket.clone(), Arc::clone(&call));
        Role::Leader(Leader {
            call,
            collapser: Arc::clone(self),
            _counted: counted,
            has_credentials,
            has_seen_failure: false,
            ticket: Box::new(ticket.clone()),
        })
    }

    /// Removes a key from the hit-for-pass memory, because its answers can be shared after all.
    pub(crate) fn forget(&self, key: &CacheKey, has_credentials: bool) {
        self.not_shared.forget(key, has_credentials);
    }

    fn close(&self, ticket: &CollapseKey, call: &Arc<Call>) {
        let mut calls = lock(self.shard(ticket));
        if calls.get(ticket).is_some_and(|open| Arc::ptr_eq(open, call)) {
            calls.remove(ticket);
        }
    }

    /// The number of calls that can be joined.
    #[cfg(all(test, shuttle))]
    pub(crate) fn open(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }
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
    fn end(&self) {
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

/// The right, and the duty, to make a call that others may wait for.
pub(crate) struct Leader {
    call: Arc<Call>,
    collapser: Arc<Collapser>,
    _counted: GaugeGuard,
    has_credentials: bool,
    /// The leader's own request waited for a call that failed.
    has_seen_failure: bool,
    /// Boxed: a leader is moved about, and lies in futures.
    ticket: Box<CollapseKey>,
}

impl Leader {
    pub(crate) fn after_failure(mut self, is_after: bool) -> Self {
        self.has_seen_failure = is_after;
        self
    }

    pub(crate) fn has_credentials(&self) -> bool {
        self.has_credentials
    }

    /// Publishes the result to all followers, and to requests that join until this is dropped.
    pub(crate) fn publish(&self, result: CallResult) {
        self.call.publish(result);
    }

    /// Says that the answer cannot be shared. The collapser remembers that for as long as `pass_for` says, unless other
    /// requests may get answers that can be shared.
    pub(crate) fn not_shareable(self, why: NotShareable, now: SystemTime, pass_for: Duration) {
        let why = match why {
            // It has come twice.
            NotShareable::Chance { says_so: true } if self.has_seen_failure => NotShareable::Response,
            why => why,
        };
        match why {
            NotShareable::Admission | NotShareable::Chance { .. } => {}
            NotShareable::Request if !self.has_credentials => {}
            NotShareable::Request | NotShareable::Response => self.remember(now, pass_for),
        }
        // An answer to a request with credentials says nothing about requests without.
        let why =
            if why == NotShareable::Response && self.has_credentials { NotShareable::Request } else { why };
        // A request that arrives now finds no call to wait for.
        self.collapser.close(&self.ticket, &self.call);
        self.call.publish(CallResult::NotShareable(why));
    }

    /// For a while, requests for this key do not wait for each other.
    pub(crate) fn remember(&self, now: SystemTime, pass_for: Duration) {
        self.collapser.not_shared.remember(&self.ticket.key, self.has_credentials, now, pass_for);
    }

    /// Whether a later call has replaced this one, so that the result of this one is not stored.
    pub(crate) fn is_superseded(&self) -> bool {
        lock(&self.call.state).is_superseded
    }

    pub(crate) fn call(&self) -> &Arc<Call> {
        &self.call
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        // First: a request that finds nothing to join afterwards has to see that there was something.
        self.collapser.ended_count(&self.ticket.key).fetch_add(1, Ordering::Release);
        self.collapser.close(&self.ticket, &self.call);
        self.call.end();
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
    fn of(call: &Arc<Call>, gauges: &Arc<Gauges>) -> Self {
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
