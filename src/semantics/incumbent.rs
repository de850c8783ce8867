//! A stored success, and which responses must not replace it (RFC 9111 4.3.3).

use std::time::SystemTime;

use http::StatusCode;

use super::reuse::Reuse;
use super::status::{is_error, is_server_error};
use super::storing::NotStored;

/// The best of what is stored for requests like this one, as far as errors are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incumbent {
    /// A success that is fresh.
    Fresh,
    /// No success.
    None,
    /// A success that is stale.
    Stale,
}

impl Incumbent {
    /// Of stored responses, each with its status, its terms, and whether it was purged softly.
    pub(crate) fn of<'a>(
        stored: impl Iterator<Item = (StatusCode, &'a Reuse, bool)>,
        now: SystemTime,
    ) -> Self {
        let successes = stored.filter(|(status, ..)| status.is_success());
        successes.fold(Self::None, |best, (_, reuse, is_purged)| {
            if best == Self::Fresh || (!is_purged && reuse.ttl(now) > 0) { Self::Fresh } else { Self::Stale }
        })
    }

    /// Whether a response with this status leaves it alone. A server error always does; any other error does
    /// while it is fresh: then the client alone, by its request, has brought the error about.
    pub(crate) fn blocks(self, status: StatusCode) -> bool {
        match self {
            Self::Fresh => is_error(status),
            Self::None => false,
            Self::Stale => is_server_error(status),
        }
    }
}

/// Whether the stored response that was validated may stand in where the content of its successor, with this status, breaks
/// off. A redirect or a 4xx is newer information, which the stale response must not hide; and so is a success that is not
/// stored.
pub(crate) fn may_stand_in_for(status: StatusCode, store: Result<(), NotStored>) -> bool {
    status.is_success() && store.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::vary::Selecting;
    use std::time::{Duration, UNIX_EPOCH};

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_790_000_000 + seconds)
    }

    fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).expect("a status")
    }

    /// Stored responses by status, lifetime from second 0 on, and whether purged softly; `now` is second 10.
    #[track_caller]
    fn check(stored: &[(u16, u64, bool)], expected: Incumbent) {
        let stored: Vec<_> = stored
            .iter()
            .map(|&(code, lifetime, is_expired)| {
                let reuse = Reuse::new(at(0), at(0), Duration::from_secs(lifetime), Selecting::default());
                (status(code), reuse, is_expired)
            })
            .collect();
        let views = stored.iter().map(|(status, reuse, is_expired)| (*status, reuse, *is_expired));
        assert_eq!(Incumbent::of(views, at(10)), expected, "{stored:?}");
    }

    #[test]
    fn the_best_stored_response_is_the_incumbent() {
        use Incumbent::{Fresh, None, Stale};
        check(&[], None);
        check(&[(200, 60, false)], Fresh);
        check(&[(206, 60, false)], Fresh);
        // RFC 9111 4.2: fresh while the lifetime exceeds the age.
        check(&[(200, 11, false)], Fresh);
        check(&[(200, 10, false)], Stale);
        check(&[(200, 60, true)], Stale);
        check(&[(200, 5, false), (200, 60, false)], Fresh);
        check(&[(200, 60, false), (200, 5, false)], Fresh);
        check(&[(200, 60, true), (200, 5, false)], Stale);
        // An error or a redirect may be replaced by an error.
        check(&[(404, 60, false), (500, 60, false), (301, 60, false)], None);
        check(&[(404, 60, false), (200, 5, false)], Stale);
    }

    #[track_caller]
    fn check_blocks(code: u16, by_fresh: bool, by_stale: bool) {
        let status = status(code);
        assert_eq!(Incumbent::Fresh.blocks(status), by_fresh, "{code}");
        assert_eq!(Incumbent::Stale.blocks(status), by_stale, "{code}");
        assert!(!Incumbent::None.blocks(status), "{code}");
    }

    #[test]
    fn a10_an_error_replaces_no_success() {
        for code in [200, 204, 206, 301, 302, 308] {
            check_blocks(code, false, false);
        }
        // RFC 9111 4.3.3: a server error says nothing about the stored response.
        for code in [500, 501, 502, 503, 599, 600, 999] {
            check_blocks(code, true, true);
        }
        // What one request draws while the target is fine.
        for code in [400, 403, 404, 410, 429, 451] {
            check_blocks(code, true, false);
        }
    }

    #[test]
    fn only_a_storable_success_has_a_stand_in() {
        for (code, store, expected) in [
            (200, Ok(()), true),
            (206, Ok(()), true),
            (200, Err(NotStored::NoStore), false),
            (301, Ok(()), false),
            (404, Ok(()), false),
            (410, Err(NotStored::Status), false),
            (500, Ok(()), false),
        ] {
            assert_eq!(may_stand_in_for(status(code), store), expected, "{code} {store:?}");
        }
    }
}
