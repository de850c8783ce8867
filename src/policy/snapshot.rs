//! The policy of a layer, which can be replaced while requests are under way.

use std::ops::Deref;
use std::sync::{Arc, LazyLock};

use arc_swap::{ArcSwap, Guard};
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::{Bypass, CachePolicy, Delivery, ForwardReason, PolicyData, RequestAction};
use crate::entry::key;
use crate::runtime::clock::Clock;
use crate::semantics::Rules;
use crate::semantics::cache_status::Outcome;
use crate::semantics::reuse::Forward;

type Shared = Arc<Box<dyn CachePolicy>>;

/// The policy that the next request gets.
pub(crate) struct CurrentPolicy(ArcSwap<Box<dyn CachePolicy>>);

impl CurrentPolicy {
    pub(crate) fn new(policy: Shared) -> Self {
        Self(ArcSwap::new(policy))
    }

    /// The policy now, without touching a count that other threads touch, too.
    #[inline]
    pub(crate) fn snapshot(&self) -> PolicySnapshot {
        PolicySnapshot(self.0.load())
    }

    pub(crate) fn replace(&self, policy: impl CachePolicy) {
        self.0.store(Arc::new(Box::new(policy)));
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
