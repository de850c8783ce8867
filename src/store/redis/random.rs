//! Numbers that no other node gives.

pub(super) use crate::store::random::random;

pub(super) fn random_wide() -> u128 {
    (u128::from(random()) << 64) | u128::from(random())
}
