//! What a response is to the request that brought it.

use http::{Method, StatusCode};

use super::head;
use super::reuse::Fallback;
use super::status::{is_about_a_part, is_failure};

/// A request as it was sent, as far as it says what its answer can be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentView<'a> {
    /// What stands in for a failure.
    pub(crate) fallback: Fallback,
    /// A stored response was selected for validation.
    pub(crate) has_selected: bool,
    /// Validators of stored responses went out as conditions.
    pub(crate) has_own_conditions: bool,
    /// It was for what is missing of a stored part.
    pub(crate) is_completion: bool,
    /// It had a condition that a 304 answers, the client's or the cache's.
    pub(crate) is_conditional: bool,
    pub(crate) method: &'a Method,
}

/// What a response is to the request that brought it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// What was missing of a stored part, or what the inner service has to say of that part (RFC 9111 3.4).
    Completion,
    /// A failure for which the stored response stands in (RFC 5861 4).
    Failure,
    /// The 200 to a HEAD, about the selected response (RFC 9111 4.3.5).
    Head,
    /// A response of its own, such as the 304 to a condition of the client's.
    New,
    /// A 304 about a stored response (RFC 9111 4.3.4).
    NotModified,
    /// A 304 that nobody asked for.
    Unexpected,
}

impl Received {
    pub(crate) fn of(sent: &SentView<'_>, status: StatusCode) -> Self {
        if sent.fallback == Fallback::StaleIfError && is_failure(status) {
            Self::Failure
        } else if sent.is_completion && is_about_a_part(status) {
            Self::Completion
        } else if status == StatusCode::NOT_MODIFIED && !sent.is_conditional {
            Self::Unexpected // RFC 9110 15.4.5
        } else if status == StatusCode::NOT_MODIFIED && sent.has_own_conditions {
            Self::NotModified
        } else if head::is_about_stored(sent.method, sent.has_selected, status) {
            Self::Head
        } else {
            Self::New
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: SentView<'_> = SentView {
        fallback: Fallback::None,
        has_selected: false,
        has_own_conditions: false,
        is_completion: false,
        is_conditional: false,
        method: &Method::GET,
    };

    #[track_caller]
    fn check(sent: SentView<'_>, codes: &[u16], expected: Received) {
        for &code in codes {
            let status = StatusCode::from_u16(code).expect("a status");
            assert_eq!(Received::of(&sent, status), expected, "{code} {sent:?}");
        }
    }

    #[test]
    fn a_response_is_classified_by_the_request_that_was_sent() {
        use Received::{Completion, Failure, Head, New, NotModified, Unexpected};
        check(GET, &[200, 206, 301, 404, 412, 416, 500, 503], New);
        // RFC 9110 15.4.5: a 304 answers a condition.
        check(GET, &[304], Unexpected);
        let own = SentView { has_selected: true, has_own_conditions: true, is_conditional: true, ..GET };
        check(own, &[304], NotModified);
        check(own, &[200, 206, 404, 500, 503], New);
        check(SentView { is_conditional: true, ..GET }, &[304], New);
        // RFC 5861 4: where something stands in for them, failures are not answered with.
        let backed = SentView { fallback: Fallback::StaleIfError, ..own };
        check(backed, &[500, 502, 503, 504, 600], Failure);
        check(backed, &[200, 404, 429, 501, 505], New);
        check(backed, &[304], NotModified);
        check(SentView { fallback: Fallback::Forbidden, ..own }, &[500, 503], New);
        // RFC 9111 3.4.
        let completion = SentView { has_selected: true, is_completion: true, ..GET };
        check(completion, &[206, 304, 412, 416], Completion);
        check(completion, &[200, 404, 500], New);
        // RFC 9111 4.3.5.
        let head = SentView { method: &Method::HEAD, ..own };
        check(head, &[200], Head);
        check(head, &[304], NotModified);
        check(head, &[203, 404, 500], New);
        check(SentView { has_selected: false, ..head }, &[200], New);
    }
}
