//! `Server-Timing` (W3C): what the cache did, for the tools of browsers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::semantics::cache_status::Outcome;
use crate::semantics::fields::list;

pub(crate) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Which answers have a `Server-Timing` that reports what the cache did, and how long the inner service took:
/// `cache;desc=miss, origin;dur=12.3`, in milliseconds. Browsers show it beside their own timings.
///
/// `desc` is `hit`, `miss`, `refresh` (validated) or `pass` (none of the cache's business). The inner service's own field is not
/// stored: what it says of one call is not true of later answers. An answer for which it was called has both.
///
/// ```
/// use larder::{CacheBuilder, ServerTiming};
/// // One answer in a hundred, and all that somebody asks for by `Pragma: server-timing`.
/// let timing = ServerTiming::sampled(1.0).by_pragma(true);
/// let layer = CacheBuilder::default().server_timing(timing).build();
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
pub struct ServerTiming {
    by_pragma: bool,
    /// Moved on for each request by the share: where it overflows, the request is sampled.
    position: Arc<AtomicU32>,
    /// Of 2^32; `None` for all.
    share: Option<u32>,
}

impl ServerTiming {
    /// Each answer.
    pub fn always() -> Self {
        Self::sampled(100.0)
    }

    /// This share of the answers, in percent from 0 to 100, in even distances. What is no such number is the nearest, or 0.
    pub fn sampled(percent: f64) -> Self {
        let share = percent.clamp(0.0, 100.0) / 100.0 * 4_294_967_296.0;
        // A number that is too large for the type becomes its largest; one that is none becomes 0.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0 and 2^32")]
        let share = if percent >= 100.0 { None } else { Some(share as u32) };
        Self { by_pragma: false, position: Arc::default(), share }
    }

    /// Whether a request with `Pragma: server-timing` gets it in any case, as with CloudFront; default false, for then every
    /// client can ask for it.
    #[must_use]
    pub fn by_pragma(mut self, on: bool) -> Self {
        self.by_pragma = on;
        self
    }

    /// Whether the answer to a request has it.
    pub(super) fn wants(&self, request: &HeaderMap) -> bool {
        let is_sampled = self.share.is_none_or(|share| {
            let before = self.position.fetch_add(share, Ordering::Relaxed);
            before.checked_add(share).is_none()
        });
        let asks = |member: &[u8]| member.eq_ignore_ascii_case(b"server-timing");
        is_sampled || (self.by_pragma && list(request, &header::PRAGMA).any(asks))
    }
}

/// What is reported of an answer. `origin` is how long the inner service took, if it was called for it.
pub(super) fn value(outcome: &Outcome, origin: Option<Duration>) -> Option<HeaderValue> {
    let cache = outcome.word();
    let value = match origin {
        None => return Some(HeaderValue::from_static(cache.server_timing())),
        Some(origin) => format!("{}, origin;dur={:.1}", cache.server_timing(), origin.as_secs_f64() * 1000.0),
    };
    HeaderValue::from_str(&value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(timing: &ServerTiming, requests: usize) -> usize {
        (0..requests).filter(|_| timing.wants(&HeaderMap::new())).count()
    }

    #[test]
    fn cf15_answers_are_sampled_in_even_distances() {
        assert_eq!(wanted(&ServerTiming::always(), 100), 100);
        assert_eq!(wanted(&ServerTiming::sampled(0.0), 100), 0);
        assert_eq!(wanted(&ServerTiming::sampled(25.0), 100), 25);
        assert_eq!(wanted(&ServerTiming::sampled(0.0001), 3_000_000), 2);
        assert_eq!(wanted(&ServerTiming::sampled(1_000.0), 10), 10);
        assert_eq!(wanted(&ServerTiming::sampled(-1.0), 10), 0);
        assert_eq!(wanted(&ServerTiming::sampled(f64::NAN), 10), 0);
        // A clone goes on where the other is.
        let timing = ServerTiming::sampled(50.0);
        assert_eq!(wanted(&timing, 1) + wanted(&timing.clone(), 1), 1);
    }

    #[test]
    fn cf15_a_request_can_ask_for_it_where_that_is_allowed() {
        let mut request = HeaderMap::new();
        request.insert(header::PRAGMA, HeaderValue::from_static("no-cache, Server-Timing"));
        assert!(ServerTiming::sampled(0.0).by_pragma(true).wants(&request));
        assert!(!ServerTiming::sampled(0.0).wants(&request));
        assert!(!ServerTiming::sampled(0.0).by_pragma(true).wants(&HeaderMap::new()));
    }
}
