//! The length and the transfer coding of a message (RFC 9112 6, RFC 9110 8.6).

use http::header::{self, HeaderMap};
use http::{HeaderValue, Method, StatusCode, Version};

use super::fields::list;
use super::range::number;

/// Whether the answer to a request with this method has no content, whatever its fields say (RFC 9112 6.3).
pub(crate) fn has_no_content(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Removes `Content-Length` from a response to `method` if it is not allowed or means nothing: next to
/// `Transfer-Encoding`, which overrides it; in a 1xx, a 204 and a 2xx to CONNECT; and in a 304, where it would describe
/// content that is not sent. A repeated length becomes one line; one that contradicts itself is removed.
///
/// Returns the length that is declared for the content of this message, where one is (RFC 9110 8.6, 9.3.6; RFC 9112 6.3).
pub(crate) fn repair(method: &Method, status: StatusCode, headers: &mut HeaderMap) -> Option<u64> {
    let is_tunnel = *method == Method::CONNECT && status.is_success();
    let is_bare =
        status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    // One pass costs less than to look for each.
    let (mut has_coding, mut has_length) = (false, false);
    for name in headers.keys() {
        has_coding |= name == header::TRANSFER_ENCODING;
        has_length |= name == header::CONTENT_LENGTH;
    }
    if !has_length {
        return None;
    }
    if is_tunnel || is_bare || has_coding {
        headers.remove(header::CONTENT_LENGTH);
        return None;
    }
    let length = say_once(headers)?;
    (!has_no_content(method, status) && *method != Method::CONNECT).then_some(length)
}

/// RFC 9110 8.6: a length that is repeated, in lines or as a list, is replaced by a single one. Returns the length.
fn say_once(headers: &mut HeaderMap) -> Option<u64> {
    let mut lines = headers.get_all(header::CONTENT_LENGTH).into_iter();
    let line = lines.next()?;
    if let (Some(_), None) = (number(line.as_bytes()), lines.next()) {
        // One that is larger than any is no length that a body could be held to.
        return line.to_str().ok()?.parse().ok();
    }
    let members: Vec<_> = list(headers, &header::CONTENT_LENGTH).map(number).collect();
    let length = members.first().copied().flatten();
    let length = length.filter(|_| members.iter().all(|member| *member == length));
    match length {
        Some(length) => headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length)),
        None => headers.remove(header::CONTENT_LENGTH),
    };
    length
}

/// Whether the content is in a registered transfer coding that clients do not remove with the framing: then its bytes are
/// not those of the representation (RFC 9112 6.1, 7). Unknown names are ignored.
pub(crate) fn has_transfer_coding(headers: &HeaderMap) -> bool {
    const CODINGS: [&[u8]; 5] = [b"compress", b"deflate", b"gzip", b"x-compress", b"x-gzip"];
    list(headers, &header::TRANSFER_ENCODING).any(|member| {
        let name = member.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        CODINGS.iter().any(|coding| name.eq_ignore_ascii_case(coding))
    })
}

/// Removes `Content-Length` from a request that has `Transfer-Encoding`.
pub(crate) fn repair_request(headers: &mut HeaderMap) {
    // Most requests have neither, and one pass costs less than to look for each.
    if !headers.keys().any(|name| name == header::CONTENT_LENGTH || name == header::TRANSFER_ENCODING) {
        return;
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    say_once(headers);
}

/// Whether a request has content (RFC 9110 9.3.1: content in a GET has no meaning, and yet some service may look at it).
/// `has_fields`: a `Content-Length` other than 0, or `Transfer-Encoding`. Without these, HTTP/1 has none; later versions say
/// so only by their frames, which the body knows: at least `least` bytes are to come, or it has ended.
pub(crate) fn request_has_content(
    version: Version,
    has_fields: bool,
    least: u64,
    is_end_stream: bool,
) -> bool {
    has_fields || least > 0 || (version >= Version::HTTP_2 && !is_end_stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    #[track_caller]
    fn check(method: &Method, status: u16, fields: &[(&'static str, &'static str)], expected: Option<u64>) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        repair(method, status, &mut headers);
        let kept = headers.get("content-length").map(|value| value.to_str().expect("ASCII").parse());
        assert_eq!(kept.transpose(), Ok(expected), "{method} {status} {fields:?}");
    }

    #[test]
    fn b04_a_content_length_without_meaning_is_removed() {
        let length = ("content-length", "31");
        let both = [length, ("transfer-encoding", "chunked")];
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            for status in [200, 201, 206, 404, 503, 999] {
                check(&method, status, &[length], Some(31));
                check(&method, status, &both, None); // RFC 9112 6.3
            }
            check(&method, 101, &[length], None); // RFC 9110 8.6
            check(&method, 204, &[length], None);
            check(&method, 304, &[length], None);
        }
        check(&Method::CONNECT, 200, &[length], None); // RFC 9110 9.3.6
        check(&Method::CONNECT, 404, &[length], Some(31));
        check(&Method::HEAD, 200, &[length], Some(31));
        check(&Method::HEAD, 200, &both, None);
        for (lines, expected) in [
            (&["20, 20"][..], Some(20)),
            (&["20,20 ,20"], Some(20)),
            (&["20", "20"], Some(20)),
            (&["20", "20, 20"], Some(20)),
            (&["020", "20"], Some(20)),
            (&["20, 21"], None),
            (&["20", "21"], None),
            (&["20, x"], None),
            (&["-1"], None),
            (&[""], None),
        ] {
            let fields: Vec<_> = lines.iter().map(|line| ("content-length", *line)).collect();
            check(&Method::GET, 200, &fields, expected);
            check(&Method::POST, 404, &fields, expected);
        }
    }

    #[test]
    fn a11_fields_and_stream_say_whether_a_request_has_content() {
        for (version, has_fields, least, is_end_stream, expected) in [
            // RFC 9112 6.3: without the fields the length is zero.
            (Version::HTTP_10, false, 0, true, false),
            (Version::HTTP_11, false, 0, true, false),
            (Version::HTTP_11, false, 0, false, false),
            (Version::HTTP_11, true, 0, true, true),
            (Version::HTTP_11, true, 5, false, true),
            (Version::HTTP_11, false, 5, false, true),
            // RFC 9113 8.1: the stream's end says it.
            (Version::HTTP_2, false, 0, true, false),
            (Version::HTTP_2, false, 0, false, true),
            (Version::HTTP_2, true, 0, true, true),
            (Version::HTTP_3, false, 0, false, true),
        ] {
            let found = request_has_content(version, has_fields, least, is_end_stream);
            assert_eq!(found, expected, "{version:?} {has_fields} {least} {is_end_stream}");
        }
    }

    #[test]
    fn b04_a_response_declares_its_length_by_one_valid_content_length() {
        let length = ("content-length", "31");
        for (method, code, fields, expected) in [
            // RFC 9112 6.3.
            (Method::GET, 200, &[length][..], Some(31)),
            (Method::POST, 404, &[length], Some(31)),
            (Method::GET, 200, &[], None),
            (Method::GET, 200, &[length, length], Some(31)),
            (Method::GET, 200, &[length, ("content-length", "32")], None),
            (Method::GET, 200, &[length, ("transfer-encoding", "chunked")], None),
            (Method::GET, 200, &[("content-length", " 31 ")], Some(31)),
            (Method::GET, 200, &[("content-length", "+31")], None),
            (Method::GET, 200, &[("content-length", "31, 31")], Some(31)),
            (Method::GET, 200, &[("content-length", "31, 32")], None),
            (Method::GET, 200, &[("content-length", "")], None),
            (Method::GET, 200, &[("content-length", "99999999999999999999")], None),
            // RFC 9110 8.6: about content that is not sent.
            (Method::HEAD, 200, &[length], None),
            (Method::GET, 204, &[length], None),
            (Method::GET, 304, &[length], None),
            (Method::GET, 103, &[length], None),
            // RFC 9110 9.3.6.
            (Method::CONNECT, 200, &[length], None),
        ] {
            let status = StatusCode::from_u16(code).expect("a status");
            let mut headers = crate::semantics::tests::map(fields);
            assert_eq!(repair(&method, status, &mut headers), expected, "{method} {code} {fields:?}");
        }
    }

    #[test]
    fn b04_a_transfer_coding_is_distinguished_from_chunked_framing() {
        for (codings, expected) in [
            ("chunked", false),
            ("Chunked", false),
            ("identity", false),
            ("gzip, chunked", true),
            ("gzip", true),
            ("chunked, gzip", true),
            ("GZip;q=1, chunked", true),
            ("unknown", false),
            ("chunked;q=1", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static(codings));
            assert_eq!(has_transfer_coding(&headers), expected, "{codings}");
        }
    }
}
