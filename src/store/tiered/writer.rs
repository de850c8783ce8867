//! Content that goes into the far store while it comes.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::Inner;
use super::level::LevelFence;
use crate::entry::key::CacheKey;
use crate::entry::{Levels, Payload, ResponseHead, StoredResponse};
use crate::store::content::BoxFuture;
use crate::store::log::Verdict;
use crate::store::{ContentWriter, Fence, PutOutcome, Store};

/// It comes near when it is asked for.
pub(super) struct TierWriter<N, F> {
    pub(super) far_fence: LevelFence,
    pub(super) fence: Fence,
    pub(super) key: CacheKey,
    pub(super) tier: Arc<Inner<N, F>>,
    pub(super) writer: Box<dyn ContentWriter>,
}

impl<N: Store, F: Store> ContentWriter for TierWriter<N, F> {
    fn write(&mut self, data: Bytes) -> BoxFuture<'_, ControlFlow<PutOutcome>> {
        self.writer.write(data)
    }

    fn commit(
        self: Box<Self>,
        head: ResponseHead,
        trailers: Option<HeaderMap>,
    ) -> BoxFuture<'static, PutOutcome> {
        Box::pin(async move {
            let Self { far_fence, fence, key, tier, writer } = *self;
            if head.levels() == Levels::Near {
                return Ok(PutOutcome::TooLarge); // what is only near comes whole
            }
            let _writing = tier.turns.write(&key).await;
            // The groups are known by now.
            let response = StoredResponse::new(head.clone(), Payload::default());
            let is_purged = || tier.replica.judge(&key, &response, fence) != Verdict::Untouched;
            if tier.is_own() && (tier.may_be_purged_elsewhere(&response, fence) || is_purged()) {
                return Ok(PutOutcome::Superseded);
            }
            let outcome = writer.commit(head, trailers).await?;
            drop(far_fence);
            if outcome != PutOutcome::TooLarge {
                tier.forget_key(&key).await;
            }
            Ok(outcome)
        })
    }
}
