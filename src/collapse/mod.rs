//! Requests that are answered by one call (RFC 9111 4: "collapsed" requests).
//!
//! Invariant: the request that leads a call holds a [`Leader`]. Whatever happens to the call (a result, a client that
//! leaves, a panic), every follower learns of it, and the key becomes free.

pub(crate) mod background;
pub(crate) mod broken_contents;
mod call;
pub(crate) mod key_memory;
mod not_shared;
pub(crate) mod purge_state;
pub(crate) mod slices;
pub(crate) mod unknown_outcomes;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

pub(crate) use self::call::{Because, Call, CallResult, Demand, Follower, Interest, LazyHead};
use self::not_shared::NotShared;
use self::purge_state::PurgeState;
use crate::entry::key::CacheKey;
use crate::limits::{GaugeGuard, Gauges};
use crate::runtime::{Mutex, lock};
pub(crate) use crate::semantics::collapse::NotShareable;
use crate::store::{Fence, Lease, LeaseEnd};

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
            lease: None,
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

/// The right, and the duty, to make a call that others may wait for.
pub(crate) struct Leader {
    call: Arc<Call>,
    collapser: Arc<Collapser>,
    _counted: GaugeGuard,
    has_credentials: bool,
    /// The leader's own request waited for a call that failed.
    has_seen_failure: bool,
    /// The right to make the call for all nodes, where they ask for it. Boxed: it is rare.
    lease: Option<Box<HeldLease>>,
    /// Boxed: a leader is moved about, and lies in futures.
    ticket: Box<CollapseKey>,
}

/// A lease, and how it ends.
struct HeldLease {
    end: LeaseEnd,
    lease: Box<dyn Lease>,
}

impl Leader {
    pub(crate) fn after_failure(mut self, is_after: bool) -> Self {
        self.has_seen_failure = is_after;
        self
    }

    pub(crate) fn has_credentials(&self) -> bool {
        self.has_credentials
    }

    /// The leader among all nodes, until it is dropped.
    pub(crate) fn with_lease(mut self, lease: Box<dyn Lease>) -> Self {
        self.lease = Some(Box::new(HeldLease { end: LeaseEnd::Over, lease }));
        self
    }

    /// What other nodes are told when this is dropped.
    fn end_lease_with(&mut self, end: LeaseEnd) {
        if let Some(held) = &mut self.lease {
            held.end = end;
        }
    }

    /// The call has failed, and no node is to make another one for a while, where a stored response stands in.
    pub(crate) fn fail(&mut self, rest: Duration) {
        self.end_lease_with(LeaseEnd::Failed(rest));
    }

    /// What those that may follow have in common.
    pub(crate) fn ticket(&self) -> &CollapseKey {
        &self.ticket
    }

    /// Publishes the result to all followers, and to requests that join until this is dropped.
    pub(crate) fn publish(&self, result: CallResult) {
        self.call.publish(result);
    }

    /// Says that the answer cannot be shared. The collapser remembers that for as long as `pass_for` says, unless other
    /// requests may get answers that can be shared.
    pub(crate) fn not_shareable(mut self, why: NotShareable, now: SystemTime, pass_for: Duration) {
        let why = match why {
            // It has come twice.
            NotShareable::Chance { says_so: true } if self.has_seen_failure => NotShareable::Response,
            why => why,
        };
        match why {
            NotShareable::Admission => self.end_lease_with(LeaseEnd::NotShareable(Duration::ZERO)),
            NotShareable::Chance { .. } => {}
            NotShareable::Request if !self.has_credentials => {}
            NotShareable::Request | NotShareable::Response => {
                self.end_lease_with(LeaseEnd::NotShareable(pass_for));
                self.remember(now, pass_for);
            }
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
        if let Some(held) = self.lease.take() {
            held.lease.end(held.end);
        }
    }
}
