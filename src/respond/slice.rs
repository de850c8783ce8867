//! A request that asks for a slice of a representation, and what of the store is for it.

use std::sync::Arc;
use std::time::Duration;

use crate::entry::slice::{SliceRequest, Sliced};
use crate::respond::request::CacheRequest;
use crate::semantics::fields::RequestFields;
use crate::semantics::vary::Selecting;
use crate::shared::Core;
use crate::store::{Fence, Lookup, Stored};

/// For how long a further slice counts as fresh: a transfer takes its time, and its first slice was judged.
const TRANSFER: Duration = Duration::from_secs(24 * 60 * 60);

impl CacheRequest {
    /// What it asks for as a request for a slice; `None` for all others, which are not looked through.
    #[inline]
    pub(crate) fn sliced(&self) -> Option<&Sliced> {
        if self.fields.range { self.parts.extensions.get() } else { None }
    }

    /// The request for a slice that a client's request becomes.
    pub(crate) fn slice(&self, asked: &Arc<SliceRequest>) -> Self {
        let mut request = self.clone();
        let (key, _) = Sliced::begin(&mut request.parts, self.key.clone(), Arc::clone(asked));
        request.key = key;
        (request.fields.conditions, request.fields.range) = (false, true);
        if !asked.is_first() {
            // The client has got what it asked for in the first slice, of which this is the rest.
            let directives = &mut request.directives;
            directives.no_cache = false;
            (directives.max_age, directives.min_fresh) = (None, None);
        }
        request
    }

    /// Becomes the client's request again.
    pub(crate) fn leave_slice(&mut self) {
        let Some(sliced) = self.sliced().cloned() else {
            return;
        };
        self.key = sliced.leave(&mut self.parts);
        let RequestFields { conditions, range, .. } = RequestFields::of(&self.parts.headers);
        (self.fields.conditions, self.fields.range) = (conditions, range);
    }

    /// Becomes the client's request again where something that is stored answers that, or can be validated for it: a whole
    /// response. One that is stale and is no 200 says nothing of what there is now.
    pub(crate) fn leave_slice_for(&mut self, lookup: &Lookup) {
        let is_first = self.sliced().is_some_and(|sliced| sliced.asked().is_first());
        if is_first && self.finds_whole(lookup) {
            self.leave_slice();
        }
    }

    /// Whether a whole response is stored for the request.
    pub(crate) fn finds_whole(&self, lookup: &Lookup) -> bool {
        lookup.variants.iter().any(|stored| {
            let head = stored.response.head();
            let is_fresh = || stored.ttl_at(head.reuse().age(self.now), self.now) > 0;
            let may_hold = || head.status == http::StatusCode::OK && !head.reuse().outdated;
            head.part.is_none() && (is_fresh() || may_hold()) && self.selects(head)
        })
    }

    /// What selects the variant that the request asks for, among those that share its key: the first slice has that of the whole,
    /// and is another one's call.
    pub(crate) fn variant(&self, selecting: &Selecting) -> Option<Box<[u8]>> {
        let signature = selecting.signature(&self.parts.headers);
        match self.first_slice() {
            Some(slice) => Some([slice.as_slice(), signature.as_deref().unwrap_or_default()].concat().into()),
            None => signature,
        }
    }

    /// What tells a call for a slice that has the key of the whole from a call for the whole.
    pub(crate) fn first_slice(&self) -> Option<[u8; 9]> {
        let asked = self.sliced()?.asked();
        let mut name = [b's'; 9];
        name[1..].copy_from_slice(&asked.size.to_le_bytes());
        (asked.index == 0).then_some(name)
    }

    /// What of a look-up a request for a slice may have; all of it for other requests. A slice that was confirmed, by the origin
    /// or by those before it in a transfer, is as fresh as what confirmed it.
    pub(crate) fn of_slice(&self, core: &Core, lookup: Lookup) -> Lookup {
        let Some(sliced) = self.sliced() else {
            return lookup;
        };
        let fence = lookup.fence;
        lookup.edited(|stored| {
            let head = stored.response.head();
            let is_joined = !sliced.asked().is_first();
            let is_meant = if is_joined { sliced.may_join(head) } else { head.part.is_some() };
            is_meant.then(|| self.confirmed(core, sliced, stored, fence).unwrap_or_else(|| stored.clone()))
        })
    }

    /// What a confirmation makes of a stored slice, where it does.
    fn confirmed(&self, core: &Core, sliced: &Sliced, stored: &Stored, fence: Fence) -> Option<Stored> {
        let (head, now) = (stored.response.head(), self.now);
        let (confirmed_from, age, left) = match &sliced.asked().joins {
            Some(joins) => (Fence::from_bits(joins.fence), Duration::ZERO, TRANSFER),
            None => {
                let validator = head.strong_validator()?;
                let confirmed = core.slices.confirmed(sliced.whole(), validator, now)?;
                let since = now.duration_since(confirmed.noted).ok()?;
                (confirmed.fence, confirmed.age + since, confirmed.until.duration_since(now).ok()?)
            }
        };
        let is_joined = !sliced.asked().is_first();
        let ttl = stored.ttl_at(head.reuse().age(now), now);
        // A response says when it was purged softly for the first time, not when for the last time.
        let is_same_state = fence == confirmed_from && fence != Fence::default();
        let is_purged = stored.expired.is_some() && !is_same_state;
        let is_as_fresh = u64::try_from(ttl).is_ok_and(|ttl| ttl >= left.as_secs());
        if is_purged || (!is_joined && (is_as_fresh || head.reuse().outdated)) {
            return None;
        }
        let mut stored = Stored { expired: None, ..stored.clone() };
        let reuse = &mut Arc::make_mut(&mut stored.response.head).reuse;
        (reuse.response_time, reuse.initial_age, reuse.lifetime) = (now, age, age + left);
        if is_joined {
            (reuse.no_cache, reuse.outdated) = (false, false);
        }
        Some(stored)
    }
}
