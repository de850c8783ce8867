//! Which requests may be answered by one call, and which answers are for one request alone (RFC 9111 4).

use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};

use super::cache_control::RequestDirectives;
use super::reuse::{Candidate, Coverage, Decision, Forward, RequestView, Reuse, decide};
use super::rules::Rules;
use super::status::{is_error, is_server_error};
use super::storing::NotStored;

/// Why nobody else gets an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotShareable {
    /// The key has not been asked for often enough. Those that wait make calls of their own at once, and those that come
    /// later wait again: there may be enough of them.
    Admission,
    /// It is an error, or was made for the leader's request alone; another request may get an answer that can be
    /// shared. `says_so`: if such an answer comes twice, the target is assumed to always give one.
    Chance { says_so: bool },
    /// The leader's request has something that other requests need not have, such as a cookie.
    Request,
    /// The answer says so: it is nobody else's.
    Response,
}

impl NotShareable {
    /// Of a response that is not stored for this reason. `lifetime` is the one that it would have.
    pub(crate) fn of(reason: NotStored, status: StatusCode, lifetime: Duration) -> Self {
        match reason {
            NotStored::Admission => Self::Admission,
            NotStored::Authorization | NotStored::Cookie | NotStored::RequestNoStore => Self::Request,
            NotStored::DrawnError | NotStored::LongFields | NotStored::NoRoom => {
                Self::Chance { says_so: false }
            }
            NotStored::Hint
            | NotStored::NoStore
            | NotStored::Private
            | NotStored::Vary
            | NotStored::VaryBypass
                if status.is_success() =>
            {
                Self::Response
            }
            // Other answers are believed when they come twice, and errors only if they speak of the target.
            NotStored::Hint
            | NotStored::NoStore
            | NotStored::Private
            | NotStored::Vary
            | NotStored::VaryBypass => {
                let of_target = matches!(status.as_u16(), 404 | 410 | 414 | 451);
                Self::Chance { says_so: !is_error(status) || of_target }
            }
            // So are a length and a type that the policy does not store.
            NotStored::TooLarge
            | NotStored::TooSmall
            | NotStored::Type
            | NotStored::Runtime
            | NotStored::SwitchedOff
                if !is_error(status) =>
            {
                Self::Response
            }
            // Twice in a row, this is what the target always gives, with or without a cookie.
            NotStored::DeceptivePath
            | NotStored::NeverFresh
            | NotStored::Status
            | NotStored::TypeMismatch
            | NotStored::ZeroLifetime
                if status == StatusCode::OK =>
            {
                Self::Chance { says_so: true }
            }
            NotStored::SetCookie if status == StatusCode::OK => Self::Chance { says_so: lifetime.is_zero() },
            // Anything else, such as a redirect, may be what this request has drawn.
            _ => Self::Chance { says_so: false },
        }
    }
}

/// Whether an error that is not stored for this reason is fit to answer all who have waited for it. The leader's own fields
/// must have had no part in it.
pub(crate) fn answers_all(
    status: StatusCode,
    headers: &HeaderMap,
    reason: NotStored,
    leader_has_credentials: bool,
) -> bool {
    let is_of_target = is_server_error(status) || status == StatusCode::NOT_FOUND;
    is_of_target
        && !leader_has_credentials
        && matches!(reason, NotStored::NeverFresh | NotStored::Status)
        && !headers.contains_key(header::VARY)
}

/// Whether the call that a request makes could answer others. A part, and what completes one (`is_about_part`), is of use
/// to its own client only; so is what a HEAD brings that goes out as a HEAD, as one does that validates.
pub(crate) fn may_collapse(
    method: &Method,
    has_range: bool,
    directives: &RequestDirectives,
    is_validation: bool,
    is_about_part: bool,
    rules: &Rules,
) -> bool {
    if is_about_part || directives.no_store {
        return false;
    }
    match (*method == Method::HEAD, is_validation) {
        (true, true) => false,
        (true, false) => rules.head_as_get && !has_range,
        (false, true) => true,
        (false, false) => !has_range,
    }
}

/// Whether the response to another one's call, made while this request waited, answers this request too, as far as its terms
/// say. `is_validated`: the origin has just said that it holds.
pub(crate) fn may_share(
    request: &RequestView<'_>,
    reuse: &Reuse,
    is_validated: bool,
    rules: &Rules,
    now: SystemTime,
) -> bool {
    // The response is newer than this request, which is what a reload wants: a reload joins no call that has ended.
    let directives = RequestDirectives { no_cache: false, ..*request.directives };
    let request = RequestView { directives: &directives, ..*request };
    let candidate = Candidate { coverage: Coverage::Full, expired: None, reuse };
    match decide(&request, std::iter::once(candidate), rules, now) {
        Decision::Serve(_) | Decision::ServeAhead(_) | Decision::ServeStale(_) => true,
        Decision::Validate(_, Forward::Stale, _) => is_validated,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::map;
    use crate::semantics::vary::Selecting;
    use crate::semantics::{CredentialKinds, Credentials};
    use std::time::UNIX_EPOCH;

    const CHANCE: NotShareable = NotShareable::Chance { says_so: false };
    const BELIEVED: NotShareable = NotShareable::Chance { says_so: true };

    fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).expect("a status")
    }

    #[track_caller]
    fn check(reason: NotStored, codes: &[u16], lifetime: u64, expected: NotShareable) {
        for &code in codes {
            let found = NotShareable::of(reason, status(code), Duration::from_secs(lifetime));
            assert_eq!(found, expected, "{reason:?} {code} {lifetime}");
        }
    }

    #[test]
    fn a34_each_reason_not_to_store_says_for_whom_the_key_is_not_shareable() {
        use NotShareable::{Request, Response};
        // What only this request has said, or was let to have (RFC 9111 3.5, 5.2.1.5).
        for reason in [NotStored::Authorization, NotStored::Cookie, NotStored::RequestNoStore] {
            check(reason, &[200, 302, 404, 500], 60, Request);
        }
        // What this request, or this moment, has brought about.
        for reason in [NotStored::DrawnError, NotStored::LongFields, NotStored::NoRoom] {
            check(reason, &[200, 302, 400, 404, 500], 60, CHANCE);
        }
        // The response says that it is for one only (RFC 9111 4.1, 5.2.2.5, 5.2.2.7).
        use NotStored::{Hint, NoStore, Private, Vary, VaryBypass};
        for reason in [Hint, NoStore, Private, Vary, VaryBypass] {
            check(reason, &[200, 203, 204, 206], 60, Response);
            check(reason, &[301, 302, 307, 404, 410, 414, 451], 60, BELIEVED);
            check(reason, &[400, 403, 429, 500, 503, 600], 60, CHANCE);
        }
        use NotStored::{Runtime, SwitchedOff, TooLarge, TooSmall, Type};
        for reason in [Runtime, SwitchedOff, TooLarge, TooSmall, Type] {
            check(reason, &[200, 206, 302], 60, Response);
            check(reason, &[404, 500], 60, CHANCE);
        }
        use NotStored::{DeceptivePath, NeverFresh, Status, TypeMismatch, ZeroLifetime};
        for reason in [DeceptivePath, NeverFresh, Status, TypeMismatch, ZeroLifetime] {
            check(reason, &[200], 0, BELIEVED);
            check(reason, &[201, 302, 404, 500], 0, CHANCE);
        }
        // A page that is fresh for others sets a cookie for this one.
        check(NotStored::SetCookie, &[200], 0, BELIEVED);
        check(NotStored::SetCookie, &[200], 60, CHANCE);
        check(NotStored::SetCookie, &[302, 404], 0, CHANCE);
        use NotStored::{Groups, Malformed, Partial, Policy, Tag, Variants};
        for reason in [Groups, Malformed, Partial, Policy, Tag, Variants] {
            check(reason, &[200, 404, 500], 60, CHANCE);
        }
    }

    #[track_caller]
    fn check_answers_all(
        code: u16,
        fields: &[(&'static str, &'static str)],
        reason: NotStored,
        has_credentials: bool,
        expected: bool,
    ) {
        let found = answers_all(status(code), &map(fields), reason, has_credentials);
        assert_eq!(found, expected, "{code} {fields:?} {reason:?} {has_credentials}");
    }

    #[test]
    fn an_error_of_the_target_answers_all_waiting_requests() {
        use NotStored::{NeverFresh, NoStore, Private, Status};
        for code in [404, 500, 501, 502, 503, 504, 600] {
            check_answers_all(code, &[], Status, false, true);
            check_answers_all(code, &[], NeverFresh, false, true);
            check_answers_all(code, &[], Status, true, false);
            check_answers_all(code, &[], NoStore, false, false);
            check_answers_all(code, &[], Private, false, false);
            check_answers_all(code, &[("vary", "accept")], Status, false, false);
        }
        for code in [200, 302, 400, 401, 403, 410, 429] {
            check_answers_all(code, &[], Status, false, false);
        }
    }

    struct Asked {
        method: Method,
        has_range: bool,
        no_store: bool,
        is_validation: bool,
        is_about_part: bool,
        head_as_get: bool,
    }

    const PLAIN: Asked = Asked {
        method: Method::GET,
        has_range: false,
        no_store: false,
        is_validation: false,
        is_about_part: false,
        head_as_get: true,
    };

    #[track_caller]
    fn check_collapse(asked: Asked, expected: bool) {
        let rules = Rules { head_as_get: asked.head_as_get, ..Rules::default() };
        let directives = RequestDirectives { no_store: asked.no_store, ..RequestDirectives::default() };
        let Asked { method, has_range, is_validation, is_about_part, .. } = asked;
        let found = may_collapse(&method, has_range, &directives, is_validation, is_about_part, &rules);
        assert_eq!(found, expected);
    }

    #[test]
    fn requests_share_a_call_for_the_same_whole_response() {
        check_collapse(PLAIN, true);
        check_collapse(Asked { method: Method::QUERY, ..PLAIN }, true);
        check_collapse(Asked { is_validation: true, ..PLAIN }, true);
        // RFC 9111 5.2.1.5: what such a request brings is nobody else's.
        check_collapse(Asked { no_store: true, ..PLAIN }, false);
        check_collapse(Asked { no_store: true, is_validation: true, ..PLAIN }, false);
        // RFC 9110 14.2: a validation goes out without the range, and brings the whole.
        check_collapse(Asked { has_range: true, ..PLAIN }, false);
        check_collapse(Asked { has_range: true, is_validation: true, ..PLAIN }, true);
        check_collapse(Asked { is_about_part: true, ..PLAIN }, false);
        check_collapse(Asked { is_about_part: true, is_validation: true, ..PLAIN }, false);
        // RFC 9110 9.3.2: a HEAD that goes out as a HEAD has no content to share.
        let head = || Asked { method: Method::HEAD, ..PLAIN };
        check_collapse(head(), true);
        check_collapse(Asked { head_as_get: false, ..head() }, false);
        check_collapse(Asked { has_range: true, ..head() }, false);
        check_collapse(Asked { is_validation: true, ..head() }, false);
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_790_000_000 + seconds)
    }

    /// A response that is fresh for 60 s from second 0, at second `now`.
    #[track_caller]
    fn check_share(
        change: impl FnOnce(&mut Reuse, &mut RequestDirectives, &mut CredentialKinds),
        now: u64,
        (unvalidated, validated): (bool, bool),
    ) {
        let mut reuse = Reuse::new(at(0), at(0), Duration::from_secs(60), Selecting::default());
        let mut directives = RequestDirectives::default();
        let mut unkeyed = CredentialKinds::default();
        change(&mut reuse, &mut directives, &mut unkeyed);
        let headers = HeaderMap::new();
        let request = RequestView { directives: &directives, headers: &headers, unkeyed };
        let share = |is_validated| may_share(&request, &reuse, is_validated, &Rules::default(), at(now));
        assert_eq!((share(false), share(true)), (unvalidated, validated), "{reuse:?} {directives:?}");
    }

    #[test]
    fn a_follower_gets_an_answer_that_storage_could_give_it() {
        check_share(|_, _, _| {}, 1, (true, true));
        check_share(|_, _, _| {}, 61, (false, true));
        check_share(|reuse, _, _| reuse.stale_while_revalidate = Duration::from_secs(60), 61, (true, true));
        // RFC 9111 5.2.2.4: never without validation, which has just happened.
        check_share(|reuse, _, _| reuse.no_cache = true, 1, (false, true));
        // RFC 9111 5.2.1.4: the call was made after the reload came.
        check_share(|_, directives, _| directives.no_cache = true, 1, (true, true));
        // RFC 9111 5.2.1.1, 5.2.1.3: fresher than this response is.
        check_share(|_, directives, _| directives.max_age = Some(0), 1, (false, false));
        check_share(|_, directives, _| directives.min_fresh = Some(60), 1, (false, false));
        // RFC 9111 5.2.1.2.
        check_share(|_, directives, _| directives.max_stale = Some(10), 61, (true, true));
        // RFC 9111 5.2.1.7: nothing that is not stored.
        check_share(|_, directives, _| directives.only_if_cached = true, 61, (false, false));
        // A response that may not be shared in spite of a cookie.
        check_share(|_, _, unkeyed| unkeyed.cookie = true, 1, (false, false));
        check_share(
            |reuse, _, unkeyed| {
                (reuse.shared.cookie, unkeyed.cookie) = (true, true);
            },
            1,
            (true, true),
        );
        assert_eq!(Rules::default().credentials, Credentials::Explicit);
    }
}
