//! What is written to the store for a response: itself, and what it takes out of use.

use std::sync::Arc;

use crate::entry::StoredResponse;
use crate::entry::key::CacheKey;
use crate::entry::partial::{Joined, joined};
use crate::error::StoreError;
use crate::fetch::assess::as_incumbent;
use crate::runtime::to_its_end;
use crate::semantics::incumbent::Incumbent;
use crate::semantics::parts::Part;
use crate::semantics::status::is_error;
use crate::shared::Core;
use crate::store::{Fence, PurgeMode, PurgeTarget, PutOutcome, Store, Stored};

/// Takes what is stored under a key out of use. Returns whether that has taken effect.
pub(crate) async fn withdraw<S: Store>(store: &Arc<S>, key: &CacheKey) -> bool {
    let (store, target) = (Arc::clone(store), PurgeTarget::Key(key.clone()));
    let withdrawn = to_its_end(async move { store.invalidate(&target, PurgeMode::Remove).await.is_ok() });
    withdrawn.await.unwrap_or(false)
}

/// Keeps a stored response from being served stale: the origin has said something newer (RFC 9111 4.3.3).
pub(crate) async fn end_stale_use<S: Store>(store: &Arc<S>, key: &CacheKey, validated: Stored) {
    let mut head = validated.response.head().clone();
    if head.reuse.outdated {
        return;
    }
    head.reuse.outdated = true;
    let response = StoredResponse::new(head, validated.response.payload().clone());
    let (store, key) = (Arc::clone(store), key.clone());
    // With its own fence, so that a soft purge still counts. Where the store fails, it is served as before.
    let freshened = to_its_end(async move {
        let _ = store.freshen(&key, validated.id, response, validated.fence).await;
    });
    freshened.await;
}

/// [`end_stale_use`] for the response that was validated, where the new one does not replace it in the store: other fields
/// select it, so it would still answer requests that the new one does not match. Called before the new one is stored, so
/// that the new one is the newest of its key.
pub(crate) async fn end_stale_use_beside<S: Store>(
    store: &Arc<S>,
    key: &CacheKey,
    validated: Option<Stored>,
    new: &StoredResponse,
) {
    let is_other = |old: &Stored| old.response.head().reuse().selecting != new.head().reuse().selecting;
    if let Some(validated) = validated.filter(is_other) {
        end_stale_use(store, key, validated).await;
    }
}

/// The best that is stored by now under the same selecting fields: an error must not replace it.
async fn good_now<S: Store>(core: &Core, store: &S, key: &CacheKey, error: &StoredResponse) -> Incumbent {
    let present = store.get(key).await.unwrap_or_default();
    let selecting = &error.head().reuse().selecting;
    let is_alike = |stored: &&Stored| stored.response.head().reuse().selecting == *selecting;
    Incumbent::of(present.variants.iter().filter(is_alike).map(as_incumbent), core.clock.now())
}

/// Puts a whole response, or a part to its like.
pub(crate) async fn put<S: Store>(
    core: &Core,
    store: &S,
    key: &CacheKey,
    response: StoredResponse,
    fence: Fence,
) -> Result<PutOutcome, StoreError> {
    let status = response.head().status();
    if is_error(status) && good_now(core, store, key, &response).await.blocks(status) {
        return Ok(PutOutcome::Superseded); // a good response was stored while the error was on its way
    }
    if core.policy.rules().no_vary_search {
        core.aliases.record(key, response.head().headers());
    }
    match response.head().part.clone() {
        // Not the bytes that its head speaks of.
        Some(Part::Bytes(extent)) if extent.held() != response.payload().len() as u64 => {
            Ok(PutOutcome::Superseded)
        }
        Some(Part::Bytes(extent)) => {
            let head = response.head().clone().having(extent);
            let response = StoredResponse::new(head, response.payload().clone());
            put_joined(store, key, response, fence).await
        }
        None if core.policy.rules().partial => put_joined(store, key, response, fence).await,
        Some(Part::Replay) | None => store.put(key, response, fence).await,
    }
}

/// Stores a response together with what is stored of the same representation.
async fn put_joined<S: Store>(
    store: &S,
    key: &CacheKey,
    response: StoredResponse,
    fence: Fence,
) -> Result<PutOutcome, StoreError> {
    let present = store.get(key).await?;
    let selecting = &response.head().reuse().selecting;
    let is_same = |stored: &&Stored| stored.response.head().reuse().selecting == *selecting;
    let fits = |joined: &StoredResponse| joined.payload().len() as u64 <= store.max_object();
    let response = match present.variants.iter().find(is_same).map(|old| joined(&old.response, &response)) {
        Some(Joined::Old) => return Ok(PutOutcome::Superseded),
        Some(Joined::Both(both)) if fits(&both) => both,
        Some(Joined::Both(_) | Joined::New) | None => response,
    };
    store.put(key, response, fence).await
}
