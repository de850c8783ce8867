//! What an explanation says of leases: whether another node makes the call.

use std::time::Duration;

use crate::collapse::{CollapseKey, Prospect};
use crate::shared::Shared;
use crate::store::{LeaseName, LeaseState, Store};

/// What a request that would make a call finds of the lease for it; `None` where it asks for none, or nobody knows.
pub(super) async fn state_of<S: Store>(
    shared: &Shared<S>,
    ticket: &CollapseKey,
    prospect: Prospect,
    has_credentials: bool,
) -> Option<LeaseState> {
    let leases = shared.core.leases.as_deref()?;
    match prospect {
        Prospect::First | Prospect::Outdated(_) => {}
        Prospect::NotShared | Prospect::UnderWay => return None,
    }
    let name = LeaseName { has_credentials, key: &ticket.key, variant: ticket.variant.as_deref() };
    shared.look_at_lease(leases, name).await
}

/// What it is to the request.
pub(super) fn finding(state: LeaseState) -> String {
    let left = |time: Duration| format!("for {} ms more", time.as_millis());
    match state {
        LeaseState::Free => "no node has the lease of the call: this one would get it".to_owned(),
        LeaseState::Held => {
            "another node has the lease of the call: the request waits, and gets what that has stored"
                .to_owned()
        }
        LeaseState::NotShareable(time) => {
            format!("another node has found that answers can't be shared: no lease is given {}", left(time))
        }
        LeaseState::Resting(time) => {
            format!("a call of another node has failed: {}, what is stored stands in if it may", left(time))
        }
    }
}
