//! The fields of what a client gets: 200, 206, 304 and 416 made from a response, and what only the first client gets.

use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, StatusCode};

use super::fields::{RequestFields, is_in_not_modified, lets_pages_see, remove_content_digests};
use super::range::ByteRange;

/// Makes of the fields of a response that was received for this client those of a 304 (RFC 9110 15.4.5): those that guide the
/// update of what the client holds, those by which a browser lets a page see it, and what was set for this client.
pub(crate) fn keep_not_modified(received: &mut HeaderMap) {
    let has_tag = received.contains_key(header::ETAG);
    let is_kept = |name: &HeaderName| {
        is_in_not_modified(name.as_str(), has_tag) || *name == header::AGE || *name == header::SET_COOKIE
    };
    let others: Vec<_> = received.keys().filter(|name| !is_kept(name)).cloned().collect();
    for name in others {
        received.remove(name);
    }
}

/// Adds all lines of a field that the answer lacks.
pub(crate) fn take_over(received: &HeaderMap, answered: &mut HeaderMap, name: &HeaderName) {
    if !answered.contains_key(name) {
        for line in received.get_all(name) {
            answered.append(name, line.clone());
        }
    }
}

/// Gives the first client the fields that are not stored: they were sent for it. `answered` is made from the stored form of a
/// response that was `received`; each with its status. An answer that is no success, and not the response itself, gets its
/// cookies only.
pub(crate) fn restore_unstored(
    (received_status, received): (StatusCode, &HeaderMap),
    (answered_status, answered): (StatusCode, &mut HeaderMap),
) {
    if !answered_status.is_success() && answered_status != received_status {
        take_over(received, answered, &header::SET_COOKIE);
        return;
    }
    for name in received.keys() {
        take_over(received, answered, name);
    }
    match received.get(header::AGE) {
        Some(age) => answered.insert(header::AGE, age.clone()),
        None => answered.remove(header::AGE),
    };
    if answered_status == StatusCode::PARTIAL_CONTENT {
        remove_content_digests(answered); // cut here from a whole
    }
}

/// `Content-Range` of a part (RFC 9110 14.4).
pub(crate) fn content_range(range: ByteRange, length: u64) -> HeaderValue {
    value(format!("bytes {}-{}/{length}", range.first, range.last))
}

/// Makes of the fields of a 200 those of a 206 with one range of it (RFC 9110 15.3.7.1).
pub(crate) fn set_single_range(headers: &mut HeaderMap, range: ByteRange, length: u64) {
    remove_content_digests(headers);
    headers.insert(header::CONTENT_RANGE, content_range(range, length));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.len()));
}

/// Makes of the fields of a 200 those of a 206 with several ranges of it (RFC 9110 14.6, 15.3.7.2). `length` is that of all
/// the content, with what stands between the parts.
pub(crate) fn set_several_ranges(headers: &mut HeaderMap, boundary: &str, length: u64) {
    remove_content_digests(headers);
    headers.remove(header::CONTENT_RANGE);
    headers.insert(header::CONTENT_TYPE, value(format!("multipart/byteranges; boundary={boundary}")));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
}

/// Whether a 416 has this field of the response that it is about (RFC 9110 15.5.17). None is the representation's own: it
/// would pass for a field of the 416.
pub(crate) fn is_in_unsatisfiable(name: &str) -> bool {
    name == "date" || lets_pages_see(name)
}

/// Adds to these fields what else a 416 has, for a representation of this length.
pub(crate) fn set_unsatisfiable(headers: &mut HeaderMap, length: u64) {
    headers.insert(header::CONTENT_RANGE, value(format!("bytes */{length}")));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
}

/// Whether the answer to a request may have to be made of all of the content: a part that is cut from it, or a 304 by the
/// entity tag, if that is still to be made.
pub(crate) fn needs_whole(request: &HeaderMap, fields: RequestFields, is_to_be_tagged: bool) -> bool {
    let by_tag = || request.contains_key(header::IF_NONE_MATCH) || request.contains_key(header::IF_MATCH);
    fields.range || (fields.conditions && is_to_be_tagged && by_tag())
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::map;

    type Fields = [(&'static str, &'static str)];

    const DATE: (&str, &str) = ("date", "Tue, 01 Sep 2026 00:00:00 GMT");

    #[track_caller]
    fn check_not_modified(of: &Fields, kept: &Fields) {
        let mut fields = map(of);
        keep_not_modified(&mut fields);
        assert_eq!(fields, map(kept), "{of:?}");
    }

    #[test]
    fn vl5_a_304_has_the_fields_that_update_the_clients_copy() {
        // RFC 9110 15.4.5.
        let guiding = [
            ("cache-control", "max-age=60"),
            ("content-location", "/a"),
            DATE,
            ("etag", "\"a\""),
            ("expires", "0"),
            ("vary", "accept"),
            ("vary", "origin"),
        ];
        check_not_modified(&guiding, &guiding);
        check_not_modified(&[], &[]);
        for field in [
            ("content-encoding", "gzip"),
            ("content-length", "5"),
            ("content-range", "bytes 0-1/2"),
            ("content-type", "text/plain"),
            ("link", "<a>"),
            ("server", "x"),
        ] {
            check_not_modified(&[field], &[]);
        }
        // The date of change, where no tag tells the copies apart.
        let modified = ("last-modified", "Tue, 01 Sep 2026 00:00:00 GMT");
        check_not_modified(&[modified], &[modified]);
        check_not_modified(&[modified, ("etag", "\"a\"")], &[("etag", "\"a\"")]);
    }

    #[test]
    fn b05_a_304_and_a_416_have_the_cors_fields() {
        let cors = [
            ("access-control-allow-origin", "https://a.example"),
            ("access-control-expose-headers", "x-a"),
            ("cross-origin-resource-policy", "same-site"),
            ("timing-allow-origin", "*"),
        ];
        check_not_modified(&cors, &cors);
        assert!(cors.iter().all(|(name, _)| is_in_unsatisfiable(name)));
    }

    #[test]
    fn a_304_for_the_first_client_has_its_cookies_and_the_age_as_received() {
        let own = [("etag", "\"a\""), ("set-cookie", "a=b"), ("set-cookie", "c=d"), ("age", "7")];
        check_not_modified(&[&[("content-type", "text/plain")], &own[..]].concat(), &own);
        assert!(!is_in_not_modified("set-cookie", true), "one from storage is for everybody");
    }

    #[track_caller]
    fn check_restored(received: (u16, &Fields), answered: (u16, &Fields), expected: &Fields) {
        let status = |code| StatusCode::from_u16(code).expect("a status");
        let mut fields = map(answered.1);
        restore_unstored((status(received.0), &map(received.1)), (status(answered.0), &mut fields));
        assert_eq!(fields, map(expected), "{received:?} {answered:?}");
    }

    #[test]
    fn the_first_client_gets_the_fields_that_are_not_stored() {
        let sent: &Fields =
            &[("x-own", "1"), ("x-own", "2"), ("etag", "\"a\""), ("set-cookie", "a=b"), ("age", "7")];
        // What the stored form has stays as it is there.
        check_restored(
            (200, sent),
            (200, &[("etag", "\"b\""), ("age", "0")]),
            &[("etag", "\"b\""), ("x-own", "1"), ("x-own", "2"), ("set-cookie", "a=b"), ("age", "7")],
        );
        // RFC 9111 5.1: a response that came without `Age` is not from a cache.
        check_restored((200, &[]), (200, &[("age", "0"), ("etag", "\"b\"")]), &[("etag", "\"b\"")]);
        // The answer is the error that was received.
        check_restored((404, &[("x-own", "1")]), (404, &[]), &[("x-own", "1")]);
        // RFC 9530 2: the digest of other content. That of the whole representation holds.
        let digests: &Fields = &[("content-digest", "x"), ("repr-digest", "y"), ("content-md5", "z")];
        check_restored((200, digests), (206, &[]), &[("repr-digest", "y")]);
        check_restored((200, digests), (200, &[]), digests);
        // A 304, 412 or 416 is made here: only the cookies were for this client in any case.
        for code in [304, 412, 416] {
            check_restored(
                (200, sent),
                (code, &[("etag", "\"b\"")]),
                &[("etag", "\"b\""), ("set-cookie", "a=b")],
            );
        }
    }

    #[test]
    fn a_field_is_taken_over_as_a_whole_or_not_at_all() {
        for (answered, expected) in [
            (&[][..], &[("set-cookie", "a=b"), ("set-cookie", "c=d")][..]),
            (&[("set-cookie", "e=f")], &[("set-cookie", "e=f")]),
        ] {
            let mut fields = map(answered);
            let received = map(&[("set-cookie", "a=b"), ("x", "1"), ("set-cookie", "c=d")]);
            take_over(&received, &mut fields, &header::SET_COOKIE);
            assert_eq!(fields, map(expected), "{answered:?}");
        }
    }

    #[test]
    fn ra1_a_206_of_one_range_has_its_content_range_and_length() {
        // RFC 9110 14.4, 15.3.7.1.
        for (first, last, length, range, size) in [
            (0, 0, 1, "bytes 0-0/1", "1"),
            (2, 5, 10, "bytes 2-5/10", "4"),
            (0, 9, 10, "bytes 0-9/10", "10"),
            (
                0,
                u64::MAX - 2,
                u64::MAX,
                "bytes 0-18446744073709551613/18446744073709551615",
                "18446744073709551614",
            ),
        ] {
            let mut headers = map(&[("content-length", "10"), ("content-digest", "x"), ("etag", "\"a\"")]);
            set_single_range(&mut headers, ByteRange { first, last }, length);
            assert_eq!(
                (&headers["content-range"], &headers["content-length"]),
                (&value(range.into()), &value(size.into()))
            );
            assert!(headers.contains_key("etag") && !headers.contains_key("content-digest"));
        }
    }

    #[test]
    fn ra1_a_206_of_several_ranges_is_a_multipart_message() {
        // RFC 9110 14.6, 15.3.7.2: the ranges stand in the content.
        let mut headers = map(&[
            ("content-type", "text/plain"),
            ("content-length", "10"),
            ("content-range", "bytes 0-5/10"),
            ("content-md5", "x"),
            ("etag", "\"a\""),
        ]);
        set_several_ranges(&mut headers, "b", 123);
        let expected = map(&[
            ("content-type", "multipart/byteranges; boundary=b"),
            ("content-length", "123"),
            ("etag", "\"a\""),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn ra1_a_416_has_no_fields_of_the_stored_content() {
        // RFC 9110 15.5.17.
        for (name, expected) in [
            ("date", true),
            ("etag", false),
            ("cache-control", false),
            ("content-type", false),
            ("content-length", false),
            ("set-cookie", false),
        ] {
            assert_eq!(is_in_unsatisfiable(name), expected, "{name}");
        }
        let mut headers = map(&[DATE]);
        set_unsatisfiable(&mut headers, 10);
        assert_eq!(headers, map(&[DATE, ("content-range", "bytes */10"), ("content-length", "0")]));
    }

    #[track_caller]
    fn check_whole(fields: &Fields, untagged: bool, to_be_tagged: bool) {
        let headers = map(fields);
        let found = |is_to_be_tagged| needs_whole(&headers, RequestFields::of(&headers), is_to_be_tagged);
        assert_eq!((found(false), found(true)), (untagged, to_be_tagged), "{fields:?}");
    }

    #[test]
    fn a_range_or_a_condition_on_a_generated_tag_needs_the_whole_content() {
        check_whole(&[], false, false);
        check_whole(&[("range", "bytes=0-1")], true, true);
        check_whole(&[("if-none-match", "\"a\"")], false, true);
        check_whole(&[("if-match", "\"a\"")], false, true);
        check_whole(&[("if-modified-since", DATE.1)], false, false);
        check_whole(&[("if-unmodified-since", DATE.1)], false, false);
        check_whole(&[("if-range", "\"a\"")], false, false);
    }
}
