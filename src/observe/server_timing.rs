//! `Server-Timing` (W3C Server Timing): what the cache did, where a browser's own tools show it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{self, HeaderMap};
use http::{HeaderName, HeaderValue, request};

use crate::semantics::cache_status::{Forwarding, Outcome};
use crate::semantics::fields::list;
use crate::semantics::reuse::Forward;

pub(super) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What all answers are a share of.
const WHOLE: u64 = 1_000_000;

/// Which answers say in `Server-Timing` what the cache did: [`CacheBuilder::server_timing`](crate::CacheBuilder::server_timing).
///
/// An answer gets `cache;desc=hit`, or `stale`, `refresh` (validated by a 304), `miss`, `pass` (none of the cache's business) or
/// `none` (`only-if-cached`); and `origin;dur=12.3` if it was forwarded: the milliseconds until the inner service answered,
/// or another request's call that this one waited for. On an answer from storage the origin's own `Server-Timing` is left out,
/// because it tells of another request; on others both are there.
///
/// Pages of other origins see it only where `Timing-Allow-Origin` says so. It does tell clients how fast the origin is.
#[derive(Clone, Debug)]
pub struct ServerTiming {
    asked: Arc<AtomicU64>,
    on_request: bool,
    /// How many of a million answers.
    share: u64,
}

impl ServerTiming {
    /// Every answer.
    pub fn always() -> Self {
        Self::sampled(100.0)
    }

    /// So many percent of the answers, evenly: from 0 to 100 with four decimals, as CloudFront's `SamplingRate`. A number
    /// outside is taken for the nearer end, and what is no number for 0.
    pub fn sampled(percent: f64) -> Self {
        // Within 0 to a million, and 0 for what is no number.
        let share = (percent.clamp(0.0, 100.0) * 10_000.0).round() as u64;
        Self { asked: Arc::default(), on_request: false, share }
    }

    /// Also each answer to a request with `Pragma: server-timing`, which anybody may send; default false.
    #[must_use]
    pub fn on_request(mut self, on: bool) -> Self {
        self.on_request = on;
        self
    }

    /// Whether the answer to a request is one of them.
    pub(super) fn is_for(&self, request: &request::Parts) -> bool {
        let before = self.asked.fetch_add(1, Ordering::Relaxed) % WHOLE * self.share;
        let is_sampled = before / WHOLE != (before + self.share) / WHOLE;
        is_sampled || self.on_request && asks(&request.headers)
    }
}

fn asks(headers: &HeaderMap) -> bool {
    list(headers, &header::PRAGMA).any(|member| member.eq_ignore_ascii_case(b"server-timing"))
}

/// What is said of a request that took so long.
pub(super) fn value(outcome: &Outcome, elapsed: Duration) -> HeaderValue {
    let (what, is_forwarded) = match outcome {
        Outcome::Hit { ttl, .. } if *ttl > 0 => ("hit", false),
        Outcome::Hit { .. } => ("stale", false),
        Outcome::Unsatisfiable => ("none", false),
        Outcome::Forwarded(Forwarding { forward: Forward::Bypass | Forward::Method, .. }) => ("pass", true),
        Outcome::Forwarded(Forwarding { status: Some(http::StatusCode::NOT_MODIFIED), .. }) => {
            ("refresh", true)
        }
        Outcome::Forwarded(_) => ("miss", true),
    };
    let origin =
        if is_forwarded { format!(", origin;dur={:.1}", elapsed.as_secs_f64() * 1e3) } else { String::new() };
    let value = HeaderValue::try_from(format!("cache;desc={what}{origin}"));
    value.unwrap_or_else(|_| HeaderValue::from_static("cache"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn sampled(timing: &ServerTiming, pragma: Option<&str>, requests: usize) -> usize {
        let request =
            pragma.into_iter().fold(Request::get("/"), |request, value| request.header("pragma", value));
        let (request, ()) = request.body(()).expect("a request").into_parts();
        (0..requests).filter(|_| timing.is_for(&request)).count()
    }

    #[test]
    fn cf15_the_rate_is_kept_exactly() {
        for (percent, of_a_million) in [
            (100.0, 1_000_000),
            (50.0, 500_000),
            (0.0001, 1),
            (33.3333, 333_333),
            (0.0, 0),
            (-1.0, 0),
            (1e9, 1_000_000),
        ] {
            assert_eq!(sampled(&ServerTiming::sampled(percent), None, 1_000_000), of_a_million, "{percent}");
        }
        assert_eq!(sampled(&ServerTiming::sampled(f64::NAN), None, 1_000), 0);
        // Evenly: each second one.
        let half = ServerTiming::sampled(50.0);
        assert_eq!([(); 6].map(|()| sampled(&half, None, 1)), [0, 1, 0, 1, 0, 1]);
    }

    #[test]
    fn cf15_a_client_gets_it_by_asking_only_where_that_is_switched_on() {
        let never = ServerTiming::sampled(0.0);
        assert_eq!(sampled(&never, Some("server-timing"), 10), 0);
        let asked = never.on_request(true);
        assert_eq!(sampled(&asked, Some("no-cache, Server-Timing"), 10), 10);
        assert_eq!(sampled(&asked, Some("no-cache"), 10) + sampled(&asked, None, 10), 0);
    }
}
