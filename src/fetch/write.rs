//! What is written to the store for a response: itself, and what it takes out of use.

use std::pin::Pin;
use std::sync::Arc;

use http::HeaderMap;

use crate::collapse::Leader;
use crate::collapse::background::ValidationPermit;
use crate::entry::key::CacheKey;
use crate::entry::partial::{self, Joined, joined};
use crate::entry::{Part, ResponseHead, StoredResponse};
use crate::fetch::exchange::{Exchange, as_incumbent};
use crate::limits::{BytesInFlight, Gauges};
use crate::observe::InvalidatedBy;
use crate::respond::open;
use crate::runtime::{Runtime, polled_once, to_its_end};
use crate::semantics::incumbent::Incumbent;
use crate::semantics::status::is_error;
use crate::shared::{Shared, StreamWriter};
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
            joins_parts: exchange.request.rules().partial || exchange.request.sliced().is_some(),
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
        self.store(NewEntry::Whole(response)).await
    }

    /// [`EntryWrite::put`] for a response whose content is written already.
    pub(super) async fn commit(&mut self, response: WrittenResponse<S>) -> PutOutcome {
        self.store(NewEntry::Written(Box::new(response))).await
    }

    async fn store(&mut self, new: NewEntry<S>) -> PutOutcome {
        if self.leader.as_ref().is_some_and(Leader::is_superseded) {
            return PutOutcome::Superseded;
        }
        if let Some(validated) = self.validated.take()
            && validated.response.head().reuse().selecting != new.head().reuse().selecting
        {
            // Other fields select it, so it would still answer requests that the new one does not match. Before the new one
            // is stored, so that the new one is the newest of its key.
            end_stale_use(&self.shared, &self.key, *validated).await;
        }
        self.shared.core.reporter.replaces(&self.key);
        let stored = self.store_unless_worse(new).await;
        self.shared.core.collapser.forget(&self.key, self.has_credentials);
        stored
    }

    /// Stores a complete response, or merges a 206 with the stored parts of the same representation.
    async fn store_unless_worse(&self, new: NewEntry<S>) -> PutOutcome {
        let Self { fence, key, shared, .. } = self;
        let status = new.head().status();
        if is_error(status)
            && Box::pin(incumbent_now(shared, key, new.head())).await.is_none_or(|now| now.blocks(status))
        {
            return PutOutcome::Superseded; // a good response was stored while the error was on its way, or may have been
        }
        if self.records_queries {
            shared.core.aliases.record(key, new.head());
        }
        match new.head().part.as_deref().cloned() {
            // Not the bytes that its head speaks of.
            Some(Part::Bytes(extent)) if extent.held() != new.length() => PutOutcome::Superseded,
            Some(Part::Bytes(extent)) => {
                let head = new.head().clone().having(extent);
                Box::pin(store_joined(shared, key, new.with_head(head), *fence)).await
            }
            None if self.joins_parts => Box::pin(store_joined(shared, key, new, *fence)).await,
            Some(Part::Replay) | None => new.store(shared, key, *fence).await,
        }
    }

    /// Gives a stored response a new head.
    pub(super) async fn freshen(&self, of: StoredId, head: ResponseHead) -> PutOutcome {
        self.shared.core.reporter.replaces(&self.key);
        self.shared.freshen(&self.key, of, head, self.fence).await
    }

    /// The content is larger than what is stored.
    pub(super) async fn refuse(self) {
        if let Some(validated) = self.validated {
            end_stale_use(&self.shared, &self.key, *validated).await;
        }
    }
}

/// A response whose content the store has, and nobody sees yet.
pub(super) struct WrittenResponse<S> {
    pub(super) head: ResponseHead,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) writer: StreamWriter<S>,
}

/// A response that is to be stored.
enum NewEntry<S> {
    Whole(StoredResponse),
    Written(Box<WrittenResponse<S>>),
}

impl<S: Store> NewEntry<S> {
    fn head(&self) -> &ResponseHead {
        match self {
            Self::Whole(response) => response.head(),
            Self::Written(response) => &response.head,
        }
    }

    fn length(&self) -> u64 {
        match self {
            Self::Whole(response) => response.payload().len(),
            Self::Written(response) => response.writer.written(),
        }
    }

    fn with_head(self, head: ResponseHead) -> Self {
        match self {
            Self::Whole(response) => Self::Whole(StoredResponse::new(head, response.payload)),
            Self::Written(response) => Self::Written(Box::new(WrittenResponse { head, ..*response })),
        }
    }

    async fn store(self, shared: &Shared<S>, key: &CacheKey, fence: Fence) -> PutOutcome {
        match self {
            Self::Whole(response) => shared.put(key, response, fence).await,
            Self::Written(response) => {
                let WrittenResponse { head, trailers, writer } = *response;
                writer.commit(head, trailers).await
            }
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
        None => match (Runtime::current(), room(gauges, bytes, reported.is_some())) {
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

/// Room for what is written in the background. What came in as a stream is counted by its flight until that ends, which is
/// when this returns.
fn room(gauges: &Arc<Gauges>, bytes: usize, is_streamed: bool) -> Option<BytesInFlight> {
    if is_streamed { Some(gauges.handed_over(bytes)) } else { gauges.in_flight(bytes) }
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

/// The best that is stored by now under the same selecting fields: an error must not replace it. `None` where the store can't
/// say.
async fn incumbent_now<S: Store>(
    shared: &Shared<S>,
    key: &CacheKey,
    error: &ResponseHead,
) -> Option<Incumbent> {
    let present = shared.get(key).await?;
    let selecting = &error.reuse().selecting;
    let alike = present.variants.iter();
    let alike = alike.filter(|stored| stored.response.head().reuse().selecting == *selecting);
    Some(Incumbent::of(alike.map(as_incumbent), shared.core.clock.now()))
}

/// Stores a response together with what is stored of the same representation.
async fn store_joined<S: Store>(
    shared: &Shared<S>,
    key: &CacheKey,
    new: NewEntry<S>,
    fence: Fence,
) -> PutOutcome {
    let Some(present) = shared.get(key).await else {
        return PutOutcome::Superseded;
    };
    let selecting = &new.head().reuse().selecting;
    let is_same = |stored: &&Stored| stored.response.head().reuse().selecting == *selecting;
    let Some(old) = present.variants.iter().find(is_same).map(|stored| &stored.response) else {
        return new.store(shared, key, fence).await;
    };
    let new = match new {
        NewEntry::Whole(response) => join(shared, key, old, response).await.map(NewEntry::Whole),
        new => partial::beside(old, new.head(), new.length()).map(|head| new.with_head(head)),
    };
    match new {
        Some(new) => new.store(shared, key, fence).await,
        None => PutOutcome::Superseded,
    }
}

/// What is to be stored where a response comes to an old one with the same selecting fields; `None` where that has more to
/// give.
async fn join<S: Store>(
    shared: &Shared<S>,
    key: &CacheKey,
    old: &StoredResponse,
    new: StoredResponse,
) -> Option<StoredResponse> {
    let are_parts = old.head().part.is_some() && new.head().part.is_some();
    let loaded = if are_parts {
        if !shared.core.can_load(old.payload()) {
            let head = partial::beside(old, new.head(), new.payload().len())?;
            return Some(StoredResponse::new(head, new.payload));
        }
        open::load(shared, key, old, shared.core.most_in_memory).await.ok()
    } else {
        Some(old.clone())
    };
    // What is gone has nothing to give.
    let Some(old) = loaded else {
        return Some(new);
    };
    let fits = |joined: &StoredResponse| joined.payload().len() <= shared.store.limits().max_object;
    match joined(&old, &new) {
        Joined::Old => None,
        Joined::Both(both) if fits(&both) => Some(both),
        Joined::Both(_) | Joined::New => Some(new),
    }
}
