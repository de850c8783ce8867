//! The policy of a layer, which can be replaced while requests are under way.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use arc_swap::{ArcSwap, Guard};
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::peer::Caller;
use super::words::DEVELOPMENT_MODE;
use super::{
    Bypass, CachePolicy, Delivery, ForwardReason, PolicyData, PolicyExchange, RequestAction, ResponseEdits,
    Terms,
};
use crate::entry::key;
use crate::runtime::clock::Clock;
use crate::runtime::{Mutex, lock};
use crate::semantics::Rules;
use crate::semantics::cache_status::Outcome;
use crate::semantics::reuse::Forward;
use crate::store::PurgeTarget;

type Shared = Arc<Box<dyn CachePolicy>>;

/// The policy that the next request gets.
pub(crate) struct CurrentPolicy {
    /// The one that was set, and until when it is bypassed. Who changes the other one holds this.
    chosen: Mutex<Chosen>,
    now: ArcSwap<Box<dyn CachePolicy>>,
}

struct Chosen {
    bypass: Option<Arc<BypassUntil>>,
    policy: Shared,
}

impl CurrentPolicy {
    pub(crate) fn new(policy: Shared) -> Self {
        let now = ArcSwap::new(Arc::clone(&policy));
        Self { chosen: Mutex::new(Chosen { bypass: None, policy }), now }
    }

    /// The policy now, without touching a count that other threads touch, too.
    #[inline]
    pub(crate) fn snapshot(&self) -> PolicySnapshot {
        PolicySnapshot(self.now.load())
    }

    /// Sets another policy. A bypass goes on to its end.
    pub(crate) fn replace(&self, policy: impl CachePolicy) {
        let mut chosen = lock(&self.chosen);
        chosen.policy = Arc::new(Box::new(policy));
        self.take_effect(&chosen);
    }

    /// Bypasses the policy until a time of the clock; `None` ends that. It is a policy around the one that was set, so that a hit
    /// costs nothing for it where it is not used.
    pub(crate) fn bypass_until(&self, until: Option<SystemTime>, clock: &Clock) {
        let mut chosen = lock(&self.chosen);
        chosen.bypass = until.map(|until| {
            Arc::new(BypassUntil { clock: clock.clone(), is_over: AtomicBool::new(false), until })
        });
        self.take_effect(&chosen);
    }

    /// Until when the policy is bypassed, if it is.
    pub(crate) fn bypassed_until(&self) -> Option<SystemTime> {
        let chosen = lock(&self.chosen);
        chosen.bypass.as_ref().filter(|bypass| bypass.is_on()).map(|bypass| bypass.until)
    }

    /// The policy that was set, bypassed or not: what is stored is stored by it, and purged by it.
    pub(crate) fn for_purges(&self) -> Shared {
        Arc::clone(&lock(&self.chosen).policy)
    }

    fn take_effect(&self, chosen: &Chosen) {
        let policy = Arc::clone(&chosen.policy);
        self.now.store(match chosen.bypass.as_ref().filter(|bypass| bypass.is_on()) {
            None => policy,
            Some(bypass) => Arc::new(Box::new(Bypassed { bypass: Arc::clone(bypass), policy })),
        });
    }
}

/// The policy of one request, from beginning to end.
pub(crate) struct PolicySnapshot(Guard<Shared>);

impl PolicySnapshot {
    /// The same policy for a request that takes its time: there are few snapshots of the cheap kind in a thread.
    #[must_use]
    pub(crate) fn lasting(self) -> Self {
        Self(Guard::from_inner(Guard::into_inner(self.0)))
    }
}

impl Clone for PolicySnapshot {
    fn clone(&self) -> Self {
        Self(Guard::from_inner(Arc::clone(&self.0)))
    }
}

impl Deref for PolicySnapshot {
    type Target = dyn CachePolicy;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &***self.0
    }
}

/// An end of a bypass.
struct BypassUntil {
    clock: Clock,
    /// Once over, the time is not read any more.
    is_over: AtomicBool,
    until: SystemTime,
}

impl BypassUntil {
    fn is_on(&self) -> bool {
        if self.is_over.load(Ordering::Relaxed) {
            return false;
        }
        let is_on = self.clock.now() < self.until;
        if !is_on {
            self.is_over.store(true, Ordering::Relaxed);
        }
        is_on
    }
}

/// Forwards every request until the bypass is over. What is stored stays, and unsafe requests invalidate it.
struct Bypassed {
    bypass: Arc<BypassUntil>,
    policy: Shared,
}

impl CachePolicy for Bypassed {
    fn request(&self, request: &mut Parts, data: &mut PolicyData) -> RequestAction {
        // It is asked in any case: it may edit the request, and keep data for the later hooks.
        let action = self.policy.request(request, data);
        if self.bypass.is_on() { RequestAction::bypass(DEVELOPMENT_MODE) } else { action }
    }

    fn rules(&self, request: &Parts, data: &PolicyData) -> &Rules {
        self.policy.rules(request, data)
    }

    fn receive(&self, exchange: &PolicyExchange<'_>, edits: &mut ResponseEdits<'_>) {
        self.policy.receive(exchange, edits);
    }

    fn response(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        self.policy.response(exchange, terms);
    }

    fn forward(&self, request: &mut Parts, reason: &ForwardReason<'_>) {
        self.policy.forward(request, reason);
    }

    fn deliver(&self, delivery: &mut Delivery<'_>) {
        self.policy.deliver(delivery);
    }

    fn is_for_storing_only(&self) -> bool {
        self.policy.is_for_storing_only()
    }

    fn needs_sent_fields(&self) -> bool {
        self.policy.needs_sent_fields()
    }

    fn spellings(&self, target: &PurgeTarget) -> Vec<PurgeTarget> {
        self.policy.spellings(target)
    }
}

/// Hooks that do nothing.
struct NoHooks;

impl CachePolicy for NoHooks {}

/// The policy of one request, and what it has left for its later hooks.
#[derive(Clone)]
pub(crate) struct RequestPolicy {
    pub(crate) data: PolicyData,
    pub(crate) hooks: PolicySnapshot,
}

impl RequestPolicy {
    /// For a request whose policy has been asked by the same layer before, further from the origin: nothing is done twice.
    pub(crate) fn asked_before() -> Self {
        static NOTHING: LazyLock<Shared> = LazyLock::new(|| Arc::new(Box::new(NoHooks)));
        let hooks = PolicySnapshot(Guard::from_inner(Arc::clone(&NOTHING)));
        Self { data: PolicyData::default(), hooks }
    }

    /// The policy now, which is not asked what is done with the request.
    #[inline]
    pub(crate) fn unasked(policy: &CurrentPolicy) -> Self {
        Self { data: PolicyData::default(), hooks: policy.snapshot() }
    }

    /// Asks the policy what is done with a request.
    #[inline]
    pub(crate) fn ask(policy: &CurrentPolicy, request: &mut Parts) -> (RequestAction, Self) {
        let mut policy = Self::unasked(policy);
        let action = policy.request(request);
        (action, policy)
    }

    /// Asks the policy what is done with the request, which it has not been asked yet.
    #[inline(always)] // a hit would move the key once more
    pub(crate) fn request(&mut self, request: &mut Parts) -> RequestAction {
        // First, so that the key of most requests is returned without being moved once more.
        if let Some(bypass) = request.extensions.get::<Bypass>() {
            let reason = bypass.reason().clone();
            self.hooks.request(request, &mut self.data);
            return RequestAction::Bypass(reason);
        }
        self.hooks.request(request, &mut self.data)
    }

    /// Whether the policy has recognised another cache of the same owner.
    pub(crate) fn is_for_peer(&self) -> bool {
        self.data.get::<Caller>().is_some_and(|caller| caller.is_peer)
    }

    /// For a request that takes its time.
    pub(crate) fn lasting(self) -> Self {
        Self { hooks: self.hooks.lasting(), ..self }
    }

    #[inline]
    pub(crate) fn rules(&self, request: &Parts) -> &Rules {
        self.hooks.rules(request, &self.data)
    }

    pub(crate) fn forward(&self, request: &mut Parts, forward: Forward, is_background: bool) {
        if matches!(forward, Forward::Bypass | Forward::Method) {
            // Nothing is stored, so the whole request may shape the answer.
            key::restore(request);
        }
        self.hooks.forward(request, &ForwardReason::new(forward, is_background, &self.data));
    }

    #[inline]
    pub(crate) fn deliver(
        &self,
        (cache, clock): (&str, &Clock),
        status: StatusCode,
        headers: &mut HeaderMap,
        outcome: &Outcome,
    ) {
        self.hooks.deliver(&mut Delivery::new((cache, clock), status, headers, outcome, &self.data));
    }
}
