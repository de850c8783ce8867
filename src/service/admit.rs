//! Hits of what is near alone until it has been asked for often enough.

use std::sync::Arc;

use super::CacheService;
use crate::entry::{Admission, Levels};
use crate::respond::request::CacheRequest;
use crate::runtime::Runtime;
use crate::store::{Fence, Store, Stored};

impl<I, S: Store> CacheService<I, S> {
    /// Counts a hit in the near level, and has the far one get what was hit if that was often enough. A validation that follows does
    /// it by itself. `found` is the fence of the look-up.
    #[cold]
    pub(super) fn count_near(
        &self,
        request: &CacheRequest,
        stored: &Stored,
        found: Fence,
        is_validated: bool,
    ) {
        let mut head = stored.response.head().clone();
        let is_admitted = |admission: Admission| admission.admits(&request.key, 1, request.now);
        if !head.admission.take().is_some_and(is_admitted) || is_validated {
            return;
        }
        let Some(runtime) = Runtime::current() else {
            return;
        };
        // One at a time for each key.
        let Some(permit) = self.shared.core.background.begin(&request.key, request.now) else {
            return;
        };
        head.levels = Levels::Both;
        let (shared, key, id) = (Arc::clone(&self.shared), request.key.clone(), stored.id);
        let bytes = stored.response.payload().len();
        drop(runtime.spawn(async move {
            // Where that fails, the next hit tries it again.
            shared.spread(&key, id, head, bytes, found).await;
            permit.succeed();
        }));
    }
}
