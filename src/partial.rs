//! Parts of a representation that is held whole (RFC 9110 14, 15.3.7).

use std::hash::{BuildHasher, RandomState};

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap};
use http::{HeaderValue, StatusCode};

use crate::semantics::range::{self, Asked, ByteRange};
use crate::stored::{ResponseHead, StoredResponse};

/// What a GET with `Range` gets instead of the whole.
pub(crate) struct Part {
    pub(crate) content: Bytes,
    pub(crate) headers: HeaderMap,
    pub(crate) status: StatusCode,
}

/// The part of a stored response that a request asks for; `None` where it gets the whole.
pub(crate) fn cut(stored: &StoredResponse, request: &HeaderMap) -> Option<Part> {
    let (head, content) = (stored.head(), stored.payload().content());
    let etag = head.headers().get(header::ETAG).map(HeaderValue::as_bytes);
    let date = head.reuse().date;
    if head.status() != StatusCode::OK || !range::if_range_holds(request, etag, head.last_modified, date) {
        return None;
    }
    let length = content.len() as u64;
    match range::asked(request, length) {
        Asked::Everything => None,
        Asked::Ranges(ranges) => Some(match ranges.as_slice() {
            [range] => single(head, content, *range),
            ranges => several(head, content, ranges),
        }),
        Asked::Unsatisfiable => {
            // Nothing of the representation's own: it would pass for fields of the 416.
            let mut headers = HeaderMap::new();
            headers.extend(head.headers().get(header::DATE).map(|date| (header::DATE, date.clone())));
            headers.insert(header::CONTENT_RANGE, value(format!("bytes */{length}")));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            Some(Part { content: Bytes::new(), headers, status: StatusCode::RANGE_NOT_SATISFIABLE })
        }
    }
}

fn single(head: &ResponseHead, content: &Bytes, range: ByteRange) -> Part {
    let mut headers = head.headers().clone();
    headers.insert(header::CONTENT_RANGE, content_range(range, content.len()));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.len()));
    Part { content: slice(content, range), headers, status: StatusCode::PARTIAL_CONTENT }
}

/// `multipart/byteranges` (RFC 9110 14.6).
fn several(head: &ResponseHead, content: &Bytes, ranges: &[ByteRange]) -> Part {
    // Random, so that nobody can write content that has it.
    let random = RandomState::new();
    let boundary = format!("{:016x}{:016x}", random.hash_one(0), random.hash_one(1));
    let kind = head.headers().get(header::CONTENT_TYPE);
    let mut body = BytesMut::new();
    for range in ranges {
        body.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        if let Some(kind) = kind {
            body.extend_from_slice(b"Content-Type: ");
            body.extend_from_slice(kind.as_bytes());
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"Content-Range: ");
        body.extend_from_slice(content_range(*range, content.len()).as_bytes());
        body.extend_from_slice(b"\r\n\r\n");
        body.extend_from_slice(&slice(content, *range));
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let mut headers = head.headers().clone();
    headers.insert(header::CONTENT_TYPE, value(format!("multipart/byteranges; boundary={boundary}")));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    Part { content: body.freeze(), headers, status: StatusCode::PARTIAL_CONTENT }
}

fn content_range(range: ByteRange, length: usize) -> HeaderValue {
    value(format!("bytes {}-{}/{length}", range.first, range.last))
}

/// The range is within the content, so its ends are positions in memory.
fn slice(content: &Bytes, range: ByteRange) -> Bytes {
    let position = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).min(content.len());
    content.slice(position(range.first)..position(range.last.saturating_add(1)))
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
