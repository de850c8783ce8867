//! A request that asks for a slice of a representation, and what of the store is for it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;

use crate::collapse::slices::Confirmation;
use crate::entry::slice::{SliceRequest, Sliced};
use crate::respond::request::CacheRequest;
use crate::semantics::fields::RequestFields;
use crate::semantics::vary::Selecting;
use crate::shared::{Core, Shared};
use crate::store::{Fence, Lookup, PurgeScope, Store, Stored};

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
            (directives.no_cache, directives.only_if_cached) = (false, false);
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
        let may_leave = self.sliced().is_some_and(|sliced| sliced.is_left_for(StatusCode::OK));
        if may_leave && self.finds_whole(lookup) {
            self.leave_slice();
        }
    }

    /// Whether a whole response is stored for the request.
    pub(crate) fn finds_whole(&self, lookup: &Lookup) -> bool {
        lookup.variants.iter().any(|stored| {
            let head = stored.response.head();
            let is_fresh = || stored.ttl_at(head.reuse().age(self.now), self.now) > 0;
            let may_hold = || head.status == StatusCode::OK && !head.reuse().outdated;
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
    pub(crate) async fn of_slice<S: Store>(&self, shared: &Shared<S>, lookup: Lookup) -> Lookup {
        let Some(sliced) = self.sliced() else {
            return lookup;
        };
        let is_joined = !sliced.asked().is_first();
        let mut list = Vec::with_capacity(lookup.variants.len());
        for stored in lookup.variants.iter() {
            let head = stored.response.head();
            let is_meant = if is_joined { sliced.may_join(head) } else { head.part.is_some() };
            if !is_meant {
                continue;
            }
            list.push(match self.confirmation(&shared.core, sliced, stored) {
                Some(confirmed) if self.is_of_now(shared, stored, confirmed.fence).await => {
                    confirmed.applied(stored, self.now, is_joined)
                }
                _ => stored.clone(),
            });
        }
        lookup.with_variants(list)
    }

    /// What confirms a stored slice, where that makes it fresher.
    fn confirmation(&self, core: &Core, sliced: &Sliced, stored: &Stored) -> Option<Confirmation> {
        let (head, now) = (stored.response.head(), self.now);
        if let Some(joins) = &sliced.asked().joins {
            let fence = Fence::from_bits(joins.fence);
            return Some(Confirmation { age: Duration::ZERO, fence, noted: now, until: now + TRANSFER });
        }
        let confirmed = core.slices.confirmed(sliced.whole(), head.strong_validator()?, now)?;
        let left = confirmed.until.duration_since(now).ok()?;
        let ttl = stored.ttl_at(head.reuse().age(now), now);
        let is_as_fresh = u64::try_from(ttl).is_ok_and(|ttl| ttl >= left.as_secs());
        (!is_as_fresh && !head.reuse().outdated).then_some(confirmed)
    }

    /// Whether no soft purge of a stored slice came after what confirms it. The response says only when it was purged for the
    /// first time.
    async fn is_of_now<S: Store>(&self, shared: &Shared<S>, stored: &Stored, fence: Fence) -> bool {
        stored.expired.is_none()
            || Box::pin(shared.is_untouched(&self.key, fence, PurgeScope::KeyOrAnyGroup)).await
    }
}

impl Confirmation {
    /// A stored slice as fresh as this. `is_joined`: it is part of an answer that has begun.
    fn applied(&self, stored: &Stored, now: SystemTime, is_joined: bool) -> Stored {
        let mut stored = Stored { expired: None, ..stored.clone() };
        let reuse = &mut Arc::make_mut(&mut stored.response.head).reuse;
        let since = now.duration_since(self.noted).unwrap_or_default();
        let left = self.until.duration_since(now).unwrap_or_default();
        (reuse.response_time, reuse.initial_age) = (now, self.age + since);
        reuse.lifetime = reuse.initial_age + left;
        if is_joined {
            (reuse.no_cache, reuse.outdated) = (false, false);
        }
        stored
    }
}
