//! What goes to the inner service in place of the client's conditions and range (RFC 9111 4.3.1, RFC 9110 13, 14).

use http::Method;
use http::header::{self, HeaderMap};

use super::cache_control::RequestDirectives;
use super::fields::RequestFields;
use super::range::SentRange;
use super::validation::{Validators, remove_conditions, set_conditions};

/// Whether a request goes out with the cache's own conditions, or none, instead of the client's. What is missing of a stored
/// part is asked for under a condition of its own.
pub(crate) fn replaces_conditions(sent_range: SentRange, has_selected: bool) -> bool {
    match sent_range {
        SentRange::Clients => has_selected,
        SentRange::Missing => false,
        SentRange::None => true,
    }
}

/// Which validators of a stored response go out with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AskedBy {
    All,
    Nothing,
    StrongTag,
}

impl AskedBy {
    /// All of the response that was selected for validation, and the strong tags of others that are whole and at hand
    /// (`is_whole`). None of a response that could not answer the request: so a 304 is always about something that the
    /// request may have.
    pub(crate) fn of(may_answer: bool, is_selected: bool, is_whole: bool) -> Self {
        match (may_answer, is_selected, is_whole) {
            (false, ..) | (true, false, false) => Self::Nothing,
            (true, true, _) => Self::All,
            (true, false, true) => Self::StrongTag,
        }
    }

    /// Of a response's validators those that go out.
    pub(crate) fn choose(self, own: Validators<'_>) -> Validators<'_> {
        match self {
            Self::All => own,
            Self::Nothing => Validators::default(),
            Self::StrongTag => own.strong(),
        }
    }
}

/// Replaces the client's conditions and range by those of the cache (RFC 9111 4.3.1). The client's `Range` stays where it is
/// what is asked for: if the stored part is no longer valid, the client wants the same range again, not the whole.
pub(crate) fn validate<'a>(
    headers: &mut HeaderMap,
    sent_range: SentRange,
    selected: Option<Validators<'a>>,
    stored: impl Iterator<Item = Validators<'a>>,
) {
    let range = if sent_range == SentRange::Clients { headers.get(header::RANGE).cloned() } else { None };
    set_conditions(headers, selected, stored);
    headers.extend(range.map(|range| (header::RANGE, range)));
}

/// Makes of a client's request one whose answer is for everybody: a HEAD asks for the whole, what the client already has
/// does not matter, nor what it would rather not wait for. `no-store` alone still counts. A request about a stored part
/// keeps its range.
pub(crate) fn for_everybody(
    method: &mut Method,
    headers: &mut HeaderMap,
    fields: &mut RequestFields,
    directives: &mut RequestDirectives,
    is_about_part: bool,
) {
    if *method == Method::HEAD {
        *method = Method::GET;
    }
    let range = headers.get(header::RANGE).filter(|_| is_about_part).cloned();
    remove_conditions(headers);
    fields.conditions = false;
    fields.range = range.is_some();
    headers.extend(range.map(|range| (header::RANGE, range)));
    *directives = RequestDirectives { no_store: directives.no_store, ..RequestDirectives::default() };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::map;

    const DATE: &str = "Tue, 01 Sep 2026 00:00:00 GMT";

    #[test]
    fn vl6_the_cache_replaces_the_clients_conditions_by_its_own() {
        use SentRange::{Clients, Missing, None};
        for (sent_range, has_selected, expected) in [
            (None, false, true),
            (None, true, true),
            // The inner service cuts the range, and evaluates the conditions that came with it.
            (Clients, false, false),
            // A stored part is validated for it.
            (Clients, true, true),
            (Missing, true, false),
            (Missing, false, false),
        ] {
            let found = replaces_conditions(sent_range, has_selected);
            assert_eq!(found, expected, "{sent_range:?} {has_selected}");
        }
    }

    #[track_caller]
    fn check_asked_by(may_answer: bool, is_selected: bool, is_whole: bool, expected: AskedBy) {
        assert_eq!(AskedBy::of(may_answer, is_selected, is_whole), expected);
    }

    #[test]
    fn b01_only_responses_that_could_answer_the_request_are_validated() {
        use AskedBy::{All, Nothing, StrongTag};
        // RFC 9111 4.3.1.
        check_asked_by(true, true, true, All);
        check_asked_by(true, true, false, All);
        check_asked_by(true, false, true, StrongTag);
        // A 304 about a part would say nothing about the whole.
        check_asked_by(true, false, false, Nothing);
        for (is_selected, is_whole) in [(true, false), (true, true), (false, false), (false, true)] {
            check_asked_by(false, is_selected, is_whole, Nothing);
        }
    }

    #[test]
    fn b01_only_strong_tags_of_other_responses_are_sent() {
        let modified = DATE.as_bytes();
        for (tag, asked_by, has_tag, has_date) in [
            ("\"a\"", AskedBy::All, true, true),
            ("W/\"a\"", AskedBy::All, true, true),
            ("\"a\"", AskedBy::StrongTag, true, false),
            ("W/\"a\"", AskedBy::StrongTag, false, false),
            ("\"a\"", AskedBy::Nothing, false, false),
        ] {
            let own = Validators { etag: Some(tag.as_bytes()), last_modified: Some(modified) };
            let sent = asked_by.choose(own);
            assert_eq!((sent.etag.is_some(), sent.last_modified.is_some()), (has_tag, has_date), "{tag:?}");
        }
    }

    #[track_caller]
    fn check_validate(
        request: &[(&'static str, &'static str)],
        sent_range: SentRange,
        expected: &[(&'static str, &'static str)],
    ) {
        let mut headers = map(request);
        let own = Validators { etag: Some(b"\"a\""), last_modified: None };
        validate(&mut headers, sent_range, Some(own), std::iter::once(own));
        assert_eq!(headers, map(expected), "{request:?} {sent_range:?}");
    }

    #[test]
    fn vl1_a_validation_keeps_the_requested_range() {
        let (range, tag) = (("range", "bytes=0-1"), ("if-none-match", "\"a\""));
        // RFC 9111 4.3.1.
        check_validate(&[("if-none-match", "\"client\""), range], SentRange::None, &[tag]);
        check_validate(&[("if-range", "\"client\""), range], SentRange::Clients, &[tag, range]);
        check_validate(&[("accept", "text/html")], SentRange::Clients, &[("accept", "text/html"), tag]);
    }

    #[track_caller]
    fn check_for_everybody(
        (method, request): (Method, &[(&'static str, &'static str)]),
        is_about_part: bool,
        (sent, expected): (Method, &[(&'static str, &'static str)]),
    ) {
        let (mut sent_method, mut headers) = (method, map(request));
        let mut fields = RequestFields::of(&headers);
        let mut directives = RequestDirectives::of(&headers);
        let no_store = directives.no_store;
        for_everybody(&mut sent_method, &mut headers, &mut fields, &mut directives, is_about_part);
        assert_eq!((sent_method, &headers), (sent, &map(expected)), "{request:?}");
        assert_eq!(fields.range, headers.contains_key("range"), "{request:?}");
        assert!(!fields.conditions, "{request:?}");
        assert_eq!(directives, RequestDirectives { no_store, ..RequestDirectives::default() });
    }

    #[test]
    fn a_background_request_has_no_conditions_and_directives_of_its_client() {
        let control = ("cache-control", "no-store, no-cache, max-age=0, max-stale=5, only-if-cached");
        let asked = [
            ("if-match", "\"a\""),
            ("if-modified-since", DATE),
            ("if-none-match", "\"a\""),
            ("if-range", "\"a\""),
            ("if-unmodified-since", DATE),
            ("range", "bytes=0-1"),
            ("accept", "text/html"),
            control,
        ];
        let left = [("accept", "text/html"), control];
        let (get, head, query) = (Method::GET, Method::HEAD, Method::QUERY);
        check_for_everybody((get.clone(), &asked), false, (get.clone(), &left));
        check_for_everybody((head, &asked), false, (get.clone(), &left));
        check_for_everybody((query.clone(), &asked), false, (query, &left));
        let kept = [("accept", "text/html"), control, ("range", "bytes=0-1")];
        check_for_everybody((get.clone(), &asked), true, (get.clone(), &kept));
        check_for_everybody((get.clone(), &[]), true, (get, &[]));
    }
}
