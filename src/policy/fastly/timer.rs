//! `X-Timer`: when a request came, and how long its answer took.

use std::time::UNIX_EPOCH;

use http::HeaderValue;
use http::header::HeaderName;

use crate::policy::Delivery;
use crate::runtime::{Instant, moment};

const X_TIMER: HeaderName = HeaderName::from_static("x-timer");

/// The arrival of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer(Instant);

impl Timer {
    pub(super) fn begin() -> Self {
        Self(moment())
    }

    /// Adds the field to the answer, in the place of what a cache nearer to the origin has measured: that is in this time.
    pub(super) fn add(self, delivery: &mut Delivery<'_>) {
        let elapsed = moment().duration_since(self.0);
        let began = delivery.now().checked_sub(elapsed).unwrap_or(UNIX_EPOCH);
        let began = began.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, micros) = (began.as_secs(), began.subsec_micros());
        let value = format!("S{seconds}.{micros:06},VS0,VE{}", elapsed.as_millis());
        if let Ok(value) = HeaderValue::from_str(&value) {
            delivery.headers.insert(X_TIMER, value);
        }
    }
}
