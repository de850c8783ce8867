//! What both levels of a tier have in common.

use crate::entry::StoredResponse;
use crate::entry::key::CacheKey;
use crate::store::{Expected, Fence, Store, Stored};

/// A fence of one level. While it is there, that level forgets no purge since then that concerns the key.
#[derive(Clone)]
pub(super) struct LevelFence {
    fence: Fence,
    _held: Expected,
}

impl LevelFence {
    /// One of a level that forgets nothing.
    pub(super) fn of(fence: Fence) -> Self {
        Self { fence, _held: Expected::default() }
    }

    /// Its bits. Not a field: a block that names only that would leave the rest behind, to be dropped.
    pub(super) fn fence(&self) -> Fence {
        self.fence
    }
}

/// The fence of a level now; `None` where it can't say.
pub(super) async fn fence<S: Store>(store: &S, key: &CacheKey) -> Option<LevelFence> {
    let held = store.expect(key);
    let fence = match held.fence() {
        Some(fence) => fence,
        None => store.get(key).await.ok()?.fence,
    };
    Some(LevelFence { fence, _held: held })
}

/// Whether two levels have the same response: one message, with the same head over it.
pub(super) fn is_same(one: &StoredResponse, other: &StoredResponse) -> bool {
    one.head() == other.head() && one.payload().len() == other.payload().len()
}

/// Whether what is near is no less than what is far.
pub(super) fn stands_for(near: &Stored, far: &Stored) -> bool {
    let is_stale = near.expired.is_some() && far.expired.is_none();
    is_for_same(near, far) && !is_stale && !near.response.is_older_than(&far.response)
}

/// Whether one replaces the other.
pub(super) fn is_for_same(one: &Stored, other: &Stored) -> bool {
    one.response.head().reuse().selecting == other.response.head().reuse().selecting
}

/// Adds a response to others, the newest first: before those that it stands before in `order`, or before older ones.
pub(super) fn insert(stored: Stored, order: &[Stored], variants: &mut Vec<Stored>) {
    let time = |stored: &Stored| stored.response.head().reuse().response_time;
    let later = order.iter().skip_while(|one| one.id != stored.id).skip(1);
    let later: Vec<_> = later.collect();
    let is_later = |one: &Stored| later.iter().any(|later| is_for_same(one, later));
    let at = variants.iter().position(is_later);
    let at = at.or_else(|| variants.iter().position(|one| time(one) < time(&stored)));
    variants.insert(at.unwrap_or(variants.len()), stored);
}
