//! What becomes of what is purged.

use std::time::Duration;

use http::HeaderName;

use super::call::Call;

/// Asks for a soft purge, whatever its value, as at Fastly.
const SOFT_PURGE: HeaderName = HeaderName::from_static("fastly-soft-purge");

/// How much of what is purged is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum How {
    Hard,
    Soft,
    /// Soft, and gone after this long.
    SoftFor(Duration),
}

impl How {
    /// As the fields of a request ask for it.
    pub(super) fn of(call: &Call) -> Self {
        if call.request.headers.contains_key(SOFT_PURGE) { Self::Soft } else { Self::Hard }
    }
}
