//! The fields of a stored response (RFC 9111 3.1).

use std::time::SystemTime;

use http::HeaderValue;
use http::header::{self, HeaderMap, HeaderName};

use super::fields::{remove_content_digests, remove_hop_by_hop};
use super::{date, freshness};

/// Removes what must not be stored: the fields of one connection, and those that are named, as by `private` or `no-cache`
/// (RFC 9111 3.1, 5.2.2.4, 5.2.2.7).
pub(crate) fn remove_unstored<'a>(headers: &mut HeaderMap, named: impl IntoIterator<Item = &'a HeaderName>) {
    remove_hop_by_hop(headers);
    for name in named {
        headers.remove(name);
    }
}

/// Adds what a stored response has that the received one may lack: a `Date`, and the `Content-Length` of the whole content,
/// where it is known.
pub(crate) fn add_missing(
    headers: &mut HeaderMap,
    date: Option<SystemTime>,
    received_at: SystemTime,
    length: Option<usize>,
) {
    // RFC 9110 6.6.1: a response without a valid date gets the time of its reception.
    if date.is_none()
        && let Ok(date) = HeaderValue::from_bytes(&date::format(received_at))
    {
        headers.insert(header::DATE, date);
    }
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, freshness::length_value(length as u64));
    }
}

/// Removes what is made for each answer from a stored part, of what that answer has.
pub(crate) fn remove_fields_of_part(headers: &mut HeaderMap) {
    headers.remove(header::CONTENT_RANGE);
    headers.remove(header::CONTENT_LENGTH);
    remove_content_digests(headers);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::cache_control::ResponseDirectives;
    use crate::semantics::tests::map;
    use std::time::UNIX_EPOCH;

    type Fields = [(&'static str, &'static str)];

    #[track_caller]
    fn check_unstored(fields: &Fields, expected: &Fields) {
        let mut headers = map(fields);
        let directives = ResponseDirectives::of(&headers);
        remove_unstored(&mut headers, directives.unstored());
        assert_eq!(headers, map(expected), "{fields:?}");
    }

    #[test]
    fn st7_connection_specific_and_qualified_fields_are_not_stored() {
        let own = ("x-own", "1");
        check_unstored(&[own, ("set-cookie", "a=b")], &[own, ("set-cookie", "a=b")]);
        // RFC 9110 7.6.1.
        check_unstored(&[own, ("connection", "x-hop"), ("x-hop", "1"), ("keep-alive", "timeout=5")], &[own]);
        // RFC 9111 5.2.2.4, 5.2.2.7.
        for control in ["private=\"set-cookie\"", "no-cache=\"x, Set-Cookie\"", "private=\"set-cookie, x\""] {
            let control = ("cache-control", control);
            check_unstored(&[control, own, ("set-cookie", "a=b"), ("set-cookie", "c=d")], &[control, own]);
        }
        for control in ["private", "no-cache"] {
            let control = ("cache-control", control);
            check_unstored(&[control, own], &[control, own]);
        }
    }

    #[track_caller]
    fn check_missing(fields: &Fields, has_date: bool, length: Option<usize>, expected: &Fields) {
        let mut headers = map(fields);
        let received_at = UNIX_EPOCH + std::time::Duration::from_secs(784_111_777);
        add_missing(&mut headers, has_date.then_some(UNIX_EPOCH), received_at, length);
        assert_eq!(headers, map(expected), "{fields:?}");
    }

    #[test]
    fn fr2_a_stored_response_has_a_date_and_its_known_length() {
        // RFC 9110 6.6.1, 8.6.
        let (sent, received) =
            (("date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("date", "Sun, 06 Nov 1994 08:49:37 GMT"));
        check_missing(&[], false, None, &[received]);
        check_missing(&[sent], true, None, &[sent]);
        check_missing(&[("date", "yesterday")], false, None, &[received]);
        check_missing(&[sent, sent], false, None, &[received]);
        check_missing(&[sent], true, Some(5), &[sent, ("content-length", "5")]);
        check_missing(&[sent, ("content-length", "4")], true, Some(5), &[sent, ("content-length", "5")]);
        check_missing(&[sent, ("content-length", "4")], true, None, &[sent, ("content-length", "4")]);
    }

    #[test]
    fn ra2_a_stored_part_has_no_fields_about_its_single_message() {
        // RFC 9110 14.4, 15.3.7; RFC 9530 2.
        let mut headers = map(&[
            ("content-range", "bytes 0-1/2"),
            ("content-length", "2"),
            ("content-digest", "x"),
            ("content-md5", "x"),
            ("repr-digest", "x"),
            ("content-type", "text/plain"),
        ]);
        remove_fields_of_part(&mut headers);
        assert_eq!(headers, map(&[("repr-digest", "x"), ("content-type", "text/plain")]));
    }
}
