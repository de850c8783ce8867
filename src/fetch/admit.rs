//! What is stored when it has been asked for often enough, and where it is until then.

use super::Fetch;
use super::assess::Assessment;
use crate::entry::{Admission, Levels, ResponseHead};
use crate::semantics::storing::NotStored;
use crate::store::{Store, Stored};

impl<S: Store> Fetch<S> {
    /// Refuses a new response that has not been asked for often enough, or keeps it near until then. All who wait for the answer
    /// count, once each; where something is stored under the key, it has been admitted, except for what is near alone until then.
    pub(super) fn admit(&self, assessment: &mut Assessment, length: Option<u64>) {
        let Some(admission) = assessment.terms.admission.take() else {
            return;
        };
        let waits_near = self.is_near_meanwhile(&admission);
        let is_admitted = |stored: &Stored| !waits_near || stored.response.head().admission.is_none();
        let is_for_near_alone = waits_near && assessment.terms.levels == Levels::Near;
        if assessment.terms.store.is_err()
            || is_for_near_alone
            || self.exchange.lookup.variants.iter().any(is_admitted)
            || admission.admits(&self.exchange.request.key, self.asked(), assessment.received_at)
        {
            return;
        }
        let most = self.core().most_in_memory;
        let fits_near = assessment.terms.levels == Levels::Both && length.is_none_or(|length| length <= most);
        if waits_near && fits_near {
            keep_near(assessment, admission);
            assessment.terms.max_body = assessment.terms.max_body.min(most);
        } else {
            assessment.terms.store = Err(NotStored::Admission);
        }
    }

    /// Keeps near what was near alone, and has not been asked for often enough by now. What was stored before it is always
    /// freshened.
    pub(super) fn admit_freshened(&self, assessment: &mut Assessment, before: &ResponseHead) {
        let Some(admission) = assessment.terms.admission.take() else {
            return;
        };
        if before.admission.is_some()
            && assessment.terms.store.is_ok()
            && assessment.terms.levels == Levels::Both
            && self.is_near_meanwhile(&admission)
            && !admission.admits(&self.exchange.request.key, self.asked(), assessment.received_at)
        {
            keep_near(assessment, admission);
        }
    }

    /// Whether what is not admitted is near until then.
    fn is_near_meanwhile(&self, admission: &Admission) -> bool {
        admission.is_near_at_once() && self.exchange.shared.store.limits().is_tiered
    }

    /// How many requests ask for the answer that have not been counted. One in the background is nobody's: whose hit it follows was
    /// counted.
    fn asked(&self) -> usize {
        let exchange = &*self.exchange;
        if exchange.background.is_some() {
            return 0;
        }
        let waiting = exchange.leader.as_ref().map_or(1, |leader| leader.call().interested().max(1));
        waiting - usize::from(exchange.is_counted)
    }
}

/// Has the near level alone keep it, which counts its hits.
fn keep_near(assessment: &mut Assessment, admission: Admission) {
    assessment.terms.levels = Levels::Near;
    assessment.terms.admission = Some(admission);
}
