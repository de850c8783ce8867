//! Preconditions of a request against a representation that the cache holds (RFC 9110 13, RFC 9111 4.3.2).

use std::time::SystemTime;

use http::header::{self, HeaderMap};
use http::{HeaderValue, StatusCode};

use super::etag::{EntityTag, any_member};
use super::freshness::single_date;

/// The validators of the representation at hand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Representation<'a> {
    /// Its `Date`, which stands in for a missing `Last-Modified` of a stored response (RFC 9111 4.3.2).
    pub(crate) date: Option<SystemTime>,
    /// Its `ETag` as received.
    pub(crate) etag: Option<&'a [u8]>,
    /// Its `Last-Modified`.
    pub(crate) last_modified: Option<SystemTime>,
}

/// What the preconditions say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 412: the representation is not the one that the request is meant for.
    Failed,
    /// 304: the client has it already.
    NotModified,
    /// Answer as if there were no preconditions.
    Proceed,
}

/// Evaluates the preconditions of a GET or HEAD in the order of RFC 9110 13.2.2.
///
/// An invalid date, or a date field with several lines, counts as absent. Of a list of tags, the lines within the first
/// 8 KiB are read: only an attack has more. Only for a representation that a 200 would carry.
pub(crate) fn evaluate(request: &HeaderMap, representation: &Representation<'_>, now: SystemTime) -> Outcome {
    let last_modified = representation.last_modified;
    if request.contains_key(header::IF_MATCH) {
        // 13.1.1: strong comparison; `*` matches any representation.
        let matched = lists(request, &header::IF_MATCH, representation.etag, |a, b| a.strong_eq(b));
        if !matched {
            return Outcome::Failed;
        }
    } else if let Some(since) = single_date(request, &header::IF_UNMODIFIED_SINCE, now)
        && last_modified.is_some_and(|modified| modified > since)
    {
        return Outcome::Failed; // 13.1.4
    }
    if request.contains_key(header::IF_NONE_MATCH) {
        // 13.1.2: weak comparison, and `If-Modified-Since` is ignored.
        if lists(request, &header::IF_NONE_MATCH, representation.etag, |a, b| a.weak_eq(b)) {
            return Outcome::NotModified;
        }
    } else if let Some(since) = single_date(request, &header::IF_MODIFIED_SINCE, now)
        && last_modified.or(representation.date).is_some_and(|modified| modified <= since)
    {
        return Outcome::NotModified; // 13.1.3
    }
    Outcome::Proceed
}

/// Evaluates the preconditions of a request on a response with this status. One that is no success is not conditional
/// (RFC 9110 13.2.1).
pub(crate) fn evaluate_on<'a>(
    request: &HeaderMap,
    status: StatusCode,
    representation: impl FnOnce() -> Representation<'a>,
    now: SystemTime,
) -> Outcome {
    if status.is_success() { evaluate(request, &representation(), now) } else { Outcome::Proceed }
}

impl<'a> Representation<'a> {
    /// That of a response that is not stored, whose `Date` stands in for nothing.
    pub(crate) fn of_received(response: &'a HeaderMap, now: SystemTime) -> Self {
        Self {
            date: None,
            etag: response.get(header::ETAG).map(HeaderValue::as_bytes),
            last_modified: single_date(response, &header::LAST_MODIFIED, now),
        }
    }
}

/// The most bytes of a list of tags that are read, which takes some microseconds.
const LONGEST: usize = 8192;

/// Whether the field lists the tag, or is `*`.
fn lists(
    request: &HeaderMap,
    name: &header::HeaderName,
    etag: Option<&[u8]>,
    equal: for<'a> fn(&EntityTag<'a>, &EntityTag<'a>) -> bool,
) -> bool {
    let tag = etag.map(EntityTag::new);
    let mut left = LONGEST;
    let is_read = |line: &&[u8]| {
        let rest = left.checked_sub(line.len());
        left = rest.unwrap_or_default();
        rest.is_some()
    };
    let lines = request.get_all(name).into_iter().map(HeaderValue::as_bytes);
    lines.take_while(is_read).any(|line| {
        super::fields::trim(line) == b"*"
            || tag.is_some_and(|tag| any_member(line, |member| equal(member, &tag)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::date;
    use crate::semantics::fields::RequestFields;
    use crate::semantics::tests::{any_value, map};
    use http::HeaderName;
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    const MODIFIED: &str = "Tue, 01 Sep 2026 00:00:00 GMT";
    const LATER: &str = "Wed, 02 Sep 2026 00:00:00 GMT";
    const EARLIER: &str = "Mon, 31 Aug 2026 00:00:00 GMT";

    fn time(text: &str) -> SystemTime {
        date::parse(text.as_bytes(), UNIX_EPOCH).expect("a date")
    }

    #[track_caller]
    fn check_with(etag: Option<&str>, modified: bool, fields: &[(&'static str, &str)], expected: Outcome) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_bytes(value.as_bytes()).expect("a value"),
            );
        }
        let representation = Representation {
            date: Some(time(LATER)),
            etag: etag.map(str::as_bytes),
            last_modified: modified.then(|| time(MODIFIED)),
        };
        assert_eq!(evaluate(&headers, &representation, time(LATER)), expected, "{fields:?}");
        assert_eq!(RequestFields::of(&headers).conditions, !fields.is_empty());
    }

    #[track_caller]
    fn check(fields: &[(&'static str, &str)], expected: Outcome) {
        check_with(Some("\"a\""), true, fields, expected);
    }

    use Outcome::{Failed, NotModified, Proceed};

    #[test]
    fn a39_a_list_that_is_too_long_to_read_matches_nothing() {
        let list = |length: usize| format!("\"a\"{}", ",".repeat(length - 3));
        check(&[("if-none-match", &list(LONGEST))], NotModified);
        check(&[("if-none-match", &list(LONGEST + 1))], Proceed);
        check(&[("if-match", &list(LONGEST))], Proceed);
        check(&[("if-match", &list(LONGEST + 1))], Failed);
        let long = list(LONGEST).replace("\"a\"", "\"b\"");
        check(&[("if-none-match", "\"a\""), ("if-none-match", &long)], NotModified);
        check(&[("if-none-match", &long), ("if-none-match", "\"a\"")], Proceed);
    }

    #[test]
    fn if_none_match_compares_tags_weakly() {
        // RFC 9110 13.1.2.
        check(&[], Proceed);
        check(&[("if-none-match", "\"a\"")], NotModified);
        check(&[("if-none-match", "W/\"a\"")], NotModified);
        check(&[("if-none-match", "\"b\"")], Proceed);
        check(&[("if-none-match", "\"b\", \"a\"")], NotModified);
        check(&[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")], NotModified);
        check(&[("if-none-match", "*")], NotModified);
        check(&[("if-none-match", " * ")], NotModified);
        check(&[("if-none-match", "a")], Proceed);
        check(&[("if-none-match", "\"a, b\"")], Proceed);
        check(&[("if-none-match", "")], Proceed);
        check_with(None, true, &[("if-none-match", "\"a\"")], Proceed);
        check_with(None, true, &[("if-none-match", "*")], NotModified);
        check_with(Some("W/\"a\""), true, &[("if-none-match", "\"a\"")], NotModified);
        check_with(Some("a"), true, &[("if-none-match", "a")], NotModified);
    }

    #[test]
    fn if_modified_since_compares_dates() {
        // RFC 9110 13.1.3, RFC 9111 4.3.2.
        check(&[("if-modified-since", MODIFIED)], NotModified);
        check(&[("if-modified-since", LATER)], NotModified);
        check(&[("if-modified-since", EARLIER)], Proceed);
        check(&[("if-modified-since", "Tuesday, 01-Sep-26 00:00:00 GMT")], NotModified);
        check(&[("if-modified-since", "Tue Sep  1 00:00:00 2026")], NotModified);
        check(&[("if-modified-since", "tomorrow")], Proceed);
        check(&[("if-modified-since", LATER), ("if-modified-since", LATER)], Proceed);
        check(&[("if-modified-since", LATER), ("if-none-match", "\"b\"")], Proceed);
        check(&[("if-modified-since", EARLIER), ("if-none-match", "\"a\"")], NotModified);
        // Without Last-Modified against Date.
        check_with(None, false, &[("if-modified-since", LATER)], NotModified);
        check_with(None, false, &[("if-modified-since", MODIFIED)], Proceed);
    }

    #[test]
    fn if_match_compares_tags_strongly_and_if_unmodified_since_compares_dates() {
        // RFC 9110 13.1.1, 13.1.4.
        check(&[("if-match", "\"a\"")], Proceed);
        check(&[("if-match", "\"b\", \"a\"")], Proceed);
        check(&[("if-match", "*")], Proceed);
        check(&[("if-match", "\"b\"")], Failed);
        check(&[("if-match", "W/\"a\"")], Failed);
        check_with(Some("W/\"a\""), true, &[("if-match", "W/\"a\"")], Failed);
        check(&[("if-match", "\"a\""), ("if-none-match", "\"a\"")], NotModified);
        check(&[("if-unmodified-since", MODIFIED)], Proceed);
        check(&[("if-unmodified-since", EARLIER)], Failed);
        check(&[("if-unmodified-since", "tomorrow")], Proceed);
        check(&[("if-unmodified-since", EARLIER), ("if-match", "\"a\"")], Proceed);
        check_with(None, false, &[("if-unmodified-since", EARLIER)], Proceed);
    }

    #[test]
    fn the_first_failing_precondition_decides() {
        // RFC 9110 13.2.2: what fails first decides, and `If-Match` goes before the other tag.
        check(&[("if-match", "\"b\""), ("if-none-match", "\"a\"")], Failed);
        check(&[("if-match", "*"), ("if-none-match", "*")], NotModified);
        check(&[("if-unmodified-since", EARLIER), ("if-none-match", "\"a\"")], Failed);
        check(&[("if-unmodified-since", LATER), ("if-modified-since", LATER)], NotModified);
        check(&[("if-match", "\"a\""), ("if-modified-since", LATER)], NotModified);
        check(&[("if-match", ""), ("if-unmodified-since", LATER)], Failed);
    }

    #[track_caller]
    fn check_on(code: u16, field: (&'static str, &'static str), expected: Outcome) {
        let response = map(&[("etag", "\"a\""), ("last-modified", MODIFIED), ("date", LATER)]);
        let status = StatusCode::from_u16(code).expect("a status");
        let theirs = || Representation::of_received(&response, time(LATER));
        let found = evaluate_on(&map(&[field]), status, theirs, time(LATER));
        assert_eq!(found, expected, "{code} {field:?}");
    }

    #[test]
    fn preconditions_apply_to_success_only() {
        let (holds, fails) = (("if-none-match", "\"a\""), ("if-match", "\"b\""));
        check_on(200, holds, NotModified);
        check_on(206, fails, Failed);
        check_on(200, ("if-none-match", "\"b\""), Proceed);
        // RFC 9110 13.2.1: whatever it answers without the condition stays as it is.
        for code in [301, 404, 412, 500] {
            check_on(code, holds, Proceed);
            check_on(code, fails, Proceed);
        }
        check_on(200, ("if-modified-since", MODIFIED), NotModified);
        check_on(200, ("if-modified-since", EARLIER), Proceed);
    }

    #[test]
    fn date_replaces_last_modified_for_stored_responses_only() {
        // RFC 9111 4.3.2 speaks of stored responses.
        let (request, response) = (map(&[("if-modified-since", LATER)]), map(&[("date", MODIFIED)]));
        let theirs = || Representation::of_received(&response, time(LATER));
        assert_eq!(evaluate_on(&request, StatusCode::OK, theirs, time(LATER)), Proceed);
    }

    const FIELDS: [HeaderName; 4] =
        [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE];

    fn any_condition() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
        let text =
            prop::sample::select(vec![MODIFIED, LATER, EARLIER, "\"a\"", "W/\"a\"", "\"b\"", "*", "a", ""]);
        let value = prop_oneof![3 => text.prop_map(HeaderValue::from_static), 1 => any_value()];
        (prop::sample::select(FIELDS.to_vec()), value)
    }

    /// Quoted, without quotes within (RFC 9110 8.8.3).
    const OPAQUE_TAG: &str = "\"[!#-~]{0,8}\"";

    proptest! {
        #[test]
        fn evaluating_preconditions_never_panics(
            conditions in prop::collection::vec(any_condition(), 0..5),
            etag in prop::option::of(any_value()),
            modified in any::<bool>(),
        ) {
            let mut request = HeaderMap::new();
            request.extend(conditions.iter().cloned());
            for (name, value) in &conditions {
                request.append(name, value.clone());
            }
            let etag = etag.as_ref().map(HeaderValue::as_bytes);
            let representation =
                Representation { date: Some(time(LATER)), etag, last_modified: modified.then(|| time(MODIFIED)) };
            let outcome = evaluate(&request, &representation, time(LATER));
            let has = |names: [HeaderName; 2]| names.iter().any(|name| request.contains_key(name));
            match outcome {
                Failed => prop_assert!(has([header::IF_MATCH, header::IF_UNMODIFIED_SINCE])),
                NotModified => prop_assert!(has([header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE])),
                Proceed => {}
            }
        }

        #[test]
        fn a_tag_is_found_in_any_list(
            tag in OPAQUE_TAG,
            before in prop::collection::vec(OPAQUE_TAG, 0..3),
            after in prop::collection::vec(OPAQUE_TAG, 0..3),
            weak in any::<bool>(),
        ) {
            let mark = if weak { "W/" } else { "" };
            let sent = format!("{mark}{tag}");
            let others: Vec<_> = before.iter().chain(&after).collect();
            let list: Vec<_> = before.iter().chain([&sent]).chain(&after).map(String::as_str).collect();
            let list = list.join(", ");
            let is_elsewhere = others.contains(&&tag);
            check_with(Some(&tag), true, &[("if-none-match", &list)], NotModified);
            check_with(Some(&tag), true, &[("if-match", &list)], if weak && !is_elsewhere { Failed } else { Proceed });
            let others = others.into_iter().map(String::as_str).collect::<Vec<_>>().join(",");
            let without = if is_elsewhere { NotModified } else { Proceed };
            check_with(Some(&tag), true, &[("if-none-match", &others)], without);
        }

        #[test]
        fn an_invalid_date_is_no_condition(text in "[A-Za-z0-9 ,:+-]{0,32}") {
            prop_assume!(date::parse(text.as_bytes(), time(LATER)).is_none());
            check(&[("if-modified-since", &text)], Proceed);
            check(&[("if-unmodified-since", &text)], Proceed);
        }
    }
}
