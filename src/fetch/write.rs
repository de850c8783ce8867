//! What is written to the store for a response: itself, and what it takes out of use.

use std::pin::Pin;
use std::sync::Arc;

use crate::collapse::Leader;
use crate::collapse::background::ValidationPermit;
use crate::entry::key::CacheKey;
use crate::entry::partial::{Joined, joined};
use crate::entry::{Part, ResponseHead, StoredResponse};
use crate::fetch::exchange::{Exchange, as_incumbent};
use crate::limits::Gauges;
use crate::observe::InvalidatedBy;
use crate::respond::open;
use crate::runtime::{Runtime, polled_once, to_its_end};
use crate::semantics::incumbent::Incumbent;
use crate::semantics::status::is_error;
use crate::shared::Shared;
use crate::store::{Expected, Fence, PurgeMode, PurgeTarget, PutOutcome, Store, Stored, StoredId};

/// What it takes to write a response: nothing else of the request is held while its content comes in. What is rare is boxed:
/// with all else that a write may wait for, this is one block of less than 1 KiB, and an allocator is slow with larger ones.
pub(super) struct EntryWrite<S> {
    _background: Option<Box<ValidationPermit>>,
    fence: Fence,
    has_credentials: bool,
    joins_parts: bool,
    key: CacheKey,
    pub(super) leader: Option<Leader>,
    records_queries: bool,
    shared: Arc<Shared<S>>,
    /// The stored response that the inner service was asked about, or that it was asked instead of.
    validated: Option<Box<Stored>>,
    /// Dropped last, as in [`Exchange`].
    _expected: Expected,
}

impl<S: Store> EntryWrite<S> {
    /// Takes over what an exchange holds for the write.
    pub(super) fn of(exchange: &mut Exchange<S>) -> Self {
        Self {
            _background: exchange.background.take(),
            fence: exchange.fence(),
            has_credentials: exchange.request.unkeyed().any(),
            joins_parts: exchange.request.rules().partial,
            key: exchange.request.key.clone(),
            leader: exchange.leader.take(),
            records_queries: exchange.request.rules().no_vary_search,
            shared: Arc::clone(&exchange.shared),
            validated: exchange.selected().cloned().map(Box::new),
            _expected: std::mem::take(&mut exchange.expected),
        }
    }

    /// Stores a response, unless a later call is to bring what is stored.
    pub(super) async fn put(&mut self, response: StoredResponse) -> PutOutcome {
        if self.leader.as_ref().is_some_and(Leader::is_superseded) {
            return PutOutcome::Superseded;
        }
        if let Some(validated) = self.validated.take()
            && validated.response.head().reuse().selecting != response.head().reuse().selecting
        {
            // Other fields select it, so it would still answer requests that the new one does not match. Before the new one
            // is stored, so that the new one is the newest of its key.
            end_stale_use(&self.shared, &self.key, *validated).await;
        }
        let put = self.put_unless_worse(response).await;
        self.shared.core.collapser.forget(&self.key, self.has_credentials);
        put
    }

    /// Stores a complete response, or merges a 206 with the stored parts of the same representation.
    async fn put_unless_worse(&self, response: StoredResponse) -> PutOutcome {
        let Self { fence, key, shared, .. } = self;
        let status = response.head().status();
        if is_error(status) && Box::pin(incumbent_now(shared, key, &response)).await.blocks(status) {
            return PutOutcome::Superseded; // a good response was stored while the error was on its way
        }
        if self.records_queries {
            shared.core.aliases.record(key, response.head());
        }
        match response.head().part.as_deref().cloned() {
            // Not the bytes that its head speaks of.
            Some(Part::Bytes(extent)) if extent.held() != response.payload().len() => PutOutcome::Superseded,
            Some(Part::Bytes(extent)) => {
                let head = response.head().clone().having(extent);
                let response = StoredResponse::new(head, response.payload().clone());
                Box::pin(put_joined(shared, key, response, *fence)).await
            }
            None if self.joins_parts => Box::pin(put_joined(shared, key, response, *fence)).await,
            Some(Part::Replay) | None => shared.put(key, response, *fence).await,
        }
    }

    /// Gives a stored response a new head.
    pub(super) async fn freshen(&self, of: StoredId, head: ResponseHead) -> PutOutcome {
        self.shared.freshen(&self.key, of, head, self.fence).await
    }

    /// The content is larger than what is stored.
    pub(super) async fn refuse(self) {
        if let Some(validated) = self.validated {
            end_stale_use(&self.shared, &self.key, *validated).await;
        }
    }
}

/// Writes what is at hand. Nobody waits for a store that takes its time: the write goes on in the background then, and
/// counts as one that is done. It needs a runtime for that, and room for so many bytes among what is in flight.
/// `reported` is there where clients have got the report that it is stored already.
pub(super) async fn soon<F>(
    gauges: &Arc<Gauges>,
    bytes: usize,
    reported: Option<ReportedStored>,
    mut write: Pin<Box<F>>,
) -> PutOutcome
where
    F: Future<Output = PutOutcome> + Send + 'static,
{
    let outcome = match polled_once(write.as_mut()).await {
        Some(outcome) => outcome,
        None => match (Runtime::current(), gauges.in_flight(bytes)) {
            (Some(runtime), Some(in_flight)) => {
                let reported = reported.unwrap_or_else(|| ReportedStored::new(gauges));
                drop(runtime.spawn(async move {
                    let _in_flight = in_flight;
                    reported.settle(write.await);
                }));
                return PutOutcome::Stored;
            }
            _ => write.await,
        },
    };
    if let Some(reported) = reported {
        reported.settle(outcome);
    }
    outcome
}

/// Clients got the report that a response is stored. Dropped before it is, this counts that it was not.
pub(super) struct ReportedStored {
    gauges: Arc<Gauges>,
    is_true: bool,
}

impl ReportedStored {
    pub(super) fn new(gauges: &Arc<Gauges>) -> Self {
        Self { gauges: Arc::clone(gauges), is_true: false }
    }

    fn settle(mut self, outcome: PutOutcome) {
        self.is_true = outcome == PutOutcome::Stored;
    }
}

impl Drop for ReportedStored {
    fn drop(&mut self) {
        if !self.is_true {
            self.gauges.unstored();
        }
    }
}

/// Takes what is stored under a key out of use. Returns whether that has taken effect.
pub(super) async fn withdraw<S: Store>(shared: &Arc<Shared<S>>, key: &CacheKey) -> bool {
    let (shared, targets) = (Arc::clone(shared), [PurgeTarget::Key(key.clone())]);
    let withdrawn = to_its_end(async move {
        shared.invalidate(&targets, PurgeMode::Remove, InvalidatedBy::Origin).await.is_ok()
    });
    withdrawn.await.unwrap_or(false)
}

/// Keeps a stored response from being served stale: the origin has said something newer (RFC 9111 4.3.3).
///
/// Boxed, as it is rare, and a future has room for everything that it may wait for.
pub(super) fn end_stale_use<S: Store>(
    shared: &Arc<Shared<S>>,
    key: &CacheKey,
    validated: Stored,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let (shared, key) = (Arc::clone(shared), key.clone());
    Box::pin(async move {
        let mut head = validated.response.head().clone();
        if !head.reuse.outdated {
            head.reuse.outdated = true;
            // With its own fence, so that a soft purge still counts. Where the store fails, it is served as before.
            let freshened = async move {
                shared.freshen(&key, validated.id, head, validated.fence).await;
            };
            to_its_end(freshened).await;
        }
    })
}

/// The best that is stored by now under the same selecting fields: an error must not replace it.
async fn incumbent_now<S: Store>(shared: &Shared<S>, key: &CacheKey, error: &StoredResponse) -> Incumbent {
    let present = shared.get(key).await.unwrap_or_default();
    let selecting = &error.head().reuse().selecting;
    let alike = present.variants.iter();
    let alike = alike.filter(|stored| stored.response.head().reuse().selecting == *selecting);
    Incumbent::of(alike.map(as_incumbent), shared.core.clock.now())
}

/// Stores a response together with what is stored of the same representation.
async fn put_joined<S: Store>(
    shared: &Shared<S>,
    key: &CacheKey,
    response: StoredResponse,
    fence: Fence,
) -> PutOutcome {
    let Some(present) = shared.get(key).await else {
        return PutOutcome::Superseded;
    };
    let most = shared.store.limits().max_object;
    let selecting = &response.head().reuse().selecting;
    let is_same = |stored: &&Stored| stored.response.head().reuse().selecting == *selecting;
    let fits = |joined: &StoredResponse| joined.payload().len() <= most;
    let old = match present.variants.iter().find(is_same) {
        Some(old) if old.response.head().part.is_some() && response.head().part.is_some() => {
            // What is gone has nothing to give.
            open::load(shared, key, &old.response, most).await.ok()
        }
        old => old.map(|old| old.response.clone()),
    };
    let response = match old.map(|old| joined(&old, &response)) {
        Some(Joined::Old) => return PutOutcome::Superseded,
        Some(Joined::Both(both)) if fits(&both) => both,
        Some(Joined::Both(_) | Joined::New) | None => response,
    };
    shared.put(key, response, fence).await
}
