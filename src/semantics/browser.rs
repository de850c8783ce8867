//! A lifetime for clients that is not this cache's, counted from each answer.

use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap};
use http::{HeaderValue, StatusCode};

use super::cache_control::{CacheControl, ResponseDirectives, edited};
use super::freshness::{self, single_date};

/// The `Cache-Control` that clients get of a stored response: this lifetime in place of those that it has, and no stale
/// windows; what restricts, and what it says of itself, stays.
pub(crate) fn cache_control(headers: &HeaderMap, lifetime: Duration) -> HeaderValue {
    let is_kept =
        |name: &str| !matches!(name, "max-age" | "s-maxage" | "stale-if-error" | "stale-while-revalidate");
    let own = CacheControl::new().max_age(lifetime);
    edited(headers, is_kept, &own.to_string()).unwrap_or_else(|| own.to_value())
}

/// The `Cache-Control` that the client gets of a response that is not stored, received at `received_at`: with this lifetime, if
/// the response states a longer one. `None` if it stays as it is.
pub(crate) fn shortened(
    status: StatusCode,
    headers: &HeaderMap,
    lifetime: Duration,
    received_at: SystemTime,
) -> Option<HeaderValue> {
    let directives = ResponseDirectives { s_maxage: None, ..ResponseDirectives::of(headers) };
    let date = single_date(headers, &header::DATE, received_at).unwrap_or(received_at);
    let (stated, _) = freshness::lifetime(status, headers, &directives, date, None);
    if directives.no_store || stated <= lifetime {
        return None;
    }
    edited(headers, |name| name != "max-age", &CacheControl::new().max_age(lifetime).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::map;
    use std::time::UNIX_EPOCH;

    #[track_caller]
    fn check(control: &'static str, stored: &str, unstored: Option<&str>) {
        let headers = map(&[("cache-control", control)]);
        let minute = Duration::from_secs(60);
        assert_eq!(cache_control(&headers, minute), stored, "{control}");
        let found = shortened(StatusCode::OK, &headers, minute, UNIX_EPOCH);
        assert_eq!(found.as_ref().map(|value| value.to_str().expect("text")), unstored, "{control}");
    }

    #[test]
    fn kx7_clients_get_the_lifetime_for_them_and_every_restriction() {
        check("max-age=3600", "max-age=60", Some("max-age=60"));
        check("max-age=5", "max-age=60", None);
        check("", "max-age=60", None);
        check("s-maxage=3600", "max-age=60", None);
        check(
            "public, s-maxage=9, max-age=900",
            "public, max-age=60",
            Some("public, s-maxage=9, max-age=60"),
        );
        check(
            "max-age=900, stale-while-revalidate=9, stale-if-error=9",
            "max-age=60",
            Some("stale-while-revalidate=9, stale-if-error=9, max-age=60"),
        );
        for kept in [
            "private",
            "no-cache",
            "no-cache=\"x\"",
            "must-revalidate",
            "proxy-revalidate",
            "no-transform",
            "immutable",
            "x-own=\"1, 2\"",
        ] {
            let (control, expected) = (format!("max-age=900, {kept}").leak(), format!("{kept}, max-age=60"));
            check(control, &expected, Some(&expected));
        }
        check("no-store, max-age=900", "no-store, max-age=60", None);
        // Nobody can say what it means without a part of it.
        check("max-age=900, \"", "max-age=60", None);
    }

    #[test]
    fn kx7_expires_is_a_lifetime_that_a_response_states() {
        let minute = Duration::from_secs(60);
        let expires = |text| map(&[("expires", text), ("date", "Tue, 01 Sep 2026 00:00:00 GMT")]);
        let found = |headers| shortened(StatusCode::OK, &headers, minute, UNIX_EPOCH);
        assert_eq!(found(expires("Tue, 01 Sep 2026 01:00:00 GMT")).expect("a bound"), "max-age=60");
        assert_eq!(found(expires("Tue, 01 Sep 2026 00:00:30 GMT")), None);
        assert_eq!(found(expires("0")), None);
    }
}
