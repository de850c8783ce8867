//! Preconditions of a request against a representation that the cache holds (RFC 9110 13, RFC 9111 4.3.2).

use std::time::SystemTime;

use http::header::{self, HeaderMap};

use super::etag::{EntityTag, any_member};
use super::freshness::single_date;

/// The validators of the representation at hand.
#[derive(Clone, Copy, Debug)]
pub struct Representation<'a> {
    /// Its `Date`, which stands in for a missing `Last-Modified` of a stored response (RFC 9111 4.3.2).
    pub date: Option<SystemTime>,
    /// Its `ETag` as it came.
    pub etag: Option<&'a [u8]>,
    /// Its `Last-Modified`.
    pub last_modified: Option<SystemTime>,
}

/// What the preconditions say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 412: the representation is not the one the request is meant for.
    Failed,
    /// 304: the client has it already.
    NotModified,
    /// Answer as if there were no preconditions.
    Proceed,
}

/// Evaluates the preconditions of a GET or HEAD in the order of RFC 9110 13.2.2.
///
/// A date that is invalid, or a date field with several lines, is as if it were absent. To be used
/// only with a representation that a 200 would carry.
pub fn evaluate(request: &HeaderMap, representation: &Representation<'_>, now: SystemTime) -> Outcome {
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

/// Whether the field lists the tag, or is `*`.
fn lists(
    request: &HeaderMap,
    name: &header::HeaderName,
    etag: Option<&[u8]>,
    equal: for<'a> fn(&EntityTag<'a>, &EntityTag<'a>) -> bool,
) -> bool {
    let tag = etag.map(EntityTag::new);
    request.get_all(name).into_iter().any(|line| {
        let line = line.as_bytes();
        super::fields::trim(line) == b"*"
            || tag.is_some_and(|tag| any_member(line, |member| equal(member, &tag)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::date;
    use crate::semantics::fields::RequestFields;
    use http::{HeaderName, HeaderValue};
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
    fn if_none_match() {
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
    fn if_modified_since() {
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
    fn if_match_and_if_unmodified_since() {
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
}
