//! What goes near, with what is far or alone.

use std::sync::Arc;
use std::time::Duration;

use super::level::{LevelFence, is_same};
use super::turns::Writing;
use super::{Inner, Link};
use crate::entry::key::CacheKey;
use crate::entry::{Levels, ResponseHead, StoredResponse};
use crate::error::StoreError;
use crate::runtime::Runtime;
use crate::store::log::Verdict;
use crate::store::{Fence, PutOutcome, Store, Stored, StoredId};

impl<N: Store, F: Store> Inner<N, F> {
    /// What may answer for other queries is judged by its fence for each of them, and stays with the fence that it has far.
    pub(super) fn may_be_near(&self, response: &StoredResponse) -> bool {
        response.head().levels() != Levels::Far
            && response.payload().len() <= self.limits.near_object
            && !response.may_answer_for_other_queries()
    }

    /// Puts near; what is not for the near store is too large for it.
    pub(super) async fn put_near(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        fence: &LevelFence,
    ) -> PutOutcome {
        if !self.may_be_near(response) {
            return PutOutcome::TooLarge;
        }
        let mut response = response.clone();
        let until = self.near_until(response.head());
        if until.0.is_some() {
            Arc::make_mut(&mut response.head).near_until = until;
        }
        self.near.store().put(key, response, fence.fence()).await.unwrap_or(PutOutcome::TooLarge)
    }

    /// Puts near what is far, or makes what was there go.
    pub(super) async fn put_near_instead(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Option<LevelFence>,
    ) {
        let is_near = match fence {
            Some(fence) => self.put_near(key, &response, &fence).await == PutOutcome::Stored,
            None => false,
        };
        if !is_near {
            self.forget_key(key).await;
        }
    }

    /// Puts what is for the near store alone, and ends the use of what that replaces far.
    pub(super) async fn put_near_alone(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
        near_fence: Option<LevelFence>,
    ) -> Result<PutOutcome, StoreError> {
        let Some(near_fence) = near_fence else {
            return Err(StoreError::new("put", "the near store does not say what was purged"));
        };
        let is_purged = self.replica.judge(key, &response, fence) != Verdict::Untouched;
        if is_purged || (self.is_own() && self.may_be_purged_elsewhere(&response, fence)) {
            return Ok(PutOutcome::Superseded);
        }
        if !self.announce(key, &response, &LevelFence::of(fence)).await? {
            return Ok(PutOutcome::Superseded);
        }
        let outcome = self.put_near(key, &response, &near_fence).await;
        if outcome == PutOutcome::Stored && !self.end_use_far(key, &response).await {
            self.forget_key(key).await;
            return Ok(PutOutcome::Superseded);
        }
        Ok(outcome)
    }

    /// Ends the use of what a response that is near replaces far: that is not served any more when the response has left the near
    /// store. By its head, not by a purge: other nodes keep what they have near. Returns `false` where the far one is the newer.
    ///
    /// Where the far store fails, its response stays as it is. A cache may lose the newest one.
    async fn end_use_far(&self, key: &CacheKey, response: &StoredResponse) -> bool {
        let Ok(found) = self.far.get(key).await else { return true };
        let selecting = &response.head().reuse().selecting;
        let far = found.variants.iter();
        for far in far.filter(|far| far.response.head().reuse().selecting == *selecting) {
            if response.is_older_than(&far.response) {
                return false;
            }
            let mut head = far.response.head().clone();
            if !(head.reuse.outdated && head.reuse.lifetime.is_zero()) {
                (head.reuse.outdated, head.reuse.lifetime) = (true, Duration::ZERO);
                _ = self.far.freshen(key, far.id, head, far.fence).await;
            }
        }
        true
    }

    /// Gives what is only near a new head, and puts it far with that.
    pub(super) async fn freshen_near_alone(
        &self,
        key: &CacheKey,
        of: StoredId,
        response: &StoredResponse,
        near_fence: Option<&LevelFence>,
        far_fence: &LevelFence,
    ) -> Result<PutOutcome, StoreError> {
        match self.freshen_near(key, of, response, near_fence, far_fence).await? {
            PutOutcome::Stored => self.far.put(key, response.clone(), far_fence.fence()).await,
            outcome => Ok(outcome),
        }
    }

    /// Gives what is near, and not far, a new head.
    pub(super) async fn freshen_near(
        &self,
        key: &CacheKey,
        of: StoredId,
        response: &StoredResponse,
        near_fence: Option<&LevelFence>,
        far_fence: &LevelFence,
    ) -> Result<PutOutcome, StoreError> {
        let Some(near_fence) = near_fence else { return Ok(PutOutcome::Superseded) };
        if !self.announce(key, response, far_fence).await? {
            return Ok(PutOutcome::Superseded);
        }
        let mut head = response.head().clone();
        head.near_until = self.near_until(&head);
        self.near.store().freshen(key, of, head, near_fence.fence()).await
    }

    /// [`Store::freshen`] with the fence that the response was found with: `None` where it is another one. It is that of one level and
    /// says nothing in the other, or of the log. So each level judges what it has by its own.
    pub(super) async fn freshen_as_found(
        &self,
        key: &CacheKey,
        of: StoredId,
        near: Option<&Stored>,
        head: &ResponseHead,
        fence: Fence,
    ) -> Result<Option<PutOutcome>, StoreError> {
        let is_found_far = near.is_none() && self.is_own() && !self.replica.has_given(fence);
        if !(is_found_far || near.is_some_and(|near| near.fence == fence)) {
            return Ok(None);
        }
        let found = self.far.get(key).await?;
        let is_it = |far: &&Stored| match near {
            Some(near) => is_same(&far.response, &near.response),
            None => far.id == self.far_id(of) && far.fence == fence,
        };
        let outcome = match found.variants.iter().find(is_it) {
            Some(far) => {
                let outcome = self.far.freshen(key, far.id, head.clone(), far.fence).await?;
                if outcome == PutOutcome::Stored {
                    self.forget_key(key).await;
                }
                outcome
            }
            None => match near {
                Some(near) => {
                    let mut head = head.clone();
                    head.near_until = near.response.head().near_until;
                    self.near.store().freshen(key, of, head, fence).await?
                }
                None => PutOutcome::Superseded,
            },
        };
        Ok(Some(outcome))
    }

    /// Announces what is going to be near before it is far; `false` where it has been purged.
    async fn announce(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        fence: &LevelFence,
    ) -> Result<bool, StoreError> {
        match &self.link {
            Link::Followed(following) => {
                (following.announce)(key.clone(), response.clone(), fence.fence()).await
            }
            Link::Own(_) => Ok(true),
        }
    }

    /// Makes what is near under a key go: the far store has something else.
    pub(super) async fn forget_key(&self, key: &CacheKey) {
        if self.near.store().try_get(key).is_none_or(|found| !found.variants.is_empty()) {
            self.near.forget_key(key).await;
        }
    }
}

impl<N: Store, F: Store> Inner<N, F> {
    /// Puts near, and into the far store in a task, which takes the turn; `None` where that is not possible. What is near and not yet
    /// far has to be announced, which is a round trip.
    pub(super) async fn put_in_background(
        self: &Arc<Self>,
        key: &CacheKey,
        response: &StoredResponse,
        near_fence: &LevelFence,
        far_fence: &LevelFence,
        writing: &mut Option<Writing>,
    ) -> Result<Option<PutOutcome>, StoreError> {
        if !self.is_near_open() {
            return Ok(None);
        }
        let Some(runtime) = Runtime::current() else { return Ok(None) };
        let Ok(permit) = Arc::clone(&self.background).try_acquire_owned() else { return Ok(None) };
        if !self.announce(key, response, far_fence).await? {
            self.forget_key(key).await;
            return Ok(Some(PutOutcome::Superseded));
        }
        // Whoever finds it near may look far next.
        writing.iter().for_each(Writing::is_near_first);
        match self.put_near(key, response, near_fence).await {
            PutOutcome::Stored => {}
            PutOutcome::Superseded => return Ok(Some(PutOutcome::Superseded)),
            PutOutcome::TooLarge => return Ok(None),
        }
        let (tier, key, response) = (Arc::clone(self), key.clone(), response.clone());
        let (far_fence, writing) = (far_fence.clone(), writing.take());
        drop(runtime.spawn(async move {
            let put = tier.far.put(&key, response, far_fence.fence()).await;
            if let Ok(PutOutcome::Superseded) = put {
                tier.forget_key(&key).await; // another node has what is newer
            }
            drop((writing, far_fence, permit));
        }));
        Ok(Some(PutOutcome::Stored))
    }
}
