//! What becomes of the first slice: the head of the client's answer, and what has to be joined for its content (RFC 9110 13.2.2,
//! 14, 15.3.7).

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, response};
use http_body::Body;

use super::joined::{Ask, Joined, JoinedBody, Piece, length_of};
use super::transfer::Transfer;
use crate::semantics::answer::{self, content_range, keep_not_modified};
use crate::semantics::cache_status::{CACHE_STATUS, X_CACHE};
use crate::semantics::coding;
use crate::semantics::date;
use crate::semantics::fields::{keep_what_lets_pages_see, remove_content_digests};
use crate::semantics::preconditions::{self, Outcome, Representation};
use crate::semantics::range::{self, Asked, ByteRange};

/// So many slices for the ranges of one request are never too many.
const FEW: u64 = 8;
/// How many times the bytes of several ranges may be fetched for them.
const MOST_FOR_A_BYTE: u64 = 4;

/// What an answer is.
pub(super) enum Made<B: Body> {
    Answer(Box<Response<JoinedBody<B>>>),
    /// The client's request is better sent as it is.
    Own,
}

/// The content of an answer.
enum Content {
    Pieces(VecDeque<Piece>),
    Nothing,
}

impl Transfer {
    /// The answer to the client's request, which begins with the first slice.
    pub(super) fn answer<B: Body>(self, request: &Parts, first: Response<B>, ask: Ask<B>) -> Made<B> {
        let (mut parts, body) = first.into_parts();
        remove_content_digests(&mut parts.headers);
        parts.headers.remove(header::TRAILER);
        parts.headers.remove(header::CONTENT_RANGE);
        let content = match self.precondition(request, &parts.headers) {
            Outcome::Failed => {
                edit(&mut parts, StatusCode::PRECONDITION_FAILED, keep_what_pages_see);
                Content::Nothing
            }
            Outcome::NotModified => {
                edit(&mut parts, StatusCode::NOT_MODIFIED, keep_not_modified);
                Content::Nothing
            }
            Outcome::Proceed => match self.content(request, &mut parts) {
                Some(content) => content,
                None => return Made::Own,
            },
        };
        let body = match content {
            Content::Nothing => JoinedBody::empty(),
            Content::Pieces(pieces) => {
                let current = self.current(self.first.index, body);
                JoinedBody::joined(Joined::new(ask, current, pieces, self))
            }
        };
        Made::Answer(Box::new(Response::from_parts(parts, body)))
    }

    fn precondition(&self, request: &Parts, headers: &HeaderMap) -> Outcome {
        let now = self.found.now;
        preconditions::evaluate(&request.headers, &Representation::of_received(headers, now), now)
    }

    /// The content of an answer that sends some, and the head that tells of it. `None` where it is better got from the origin as it
    /// was asked for.
    fn content(&self, request: &Parts, parts: &mut response::Parts) -> Option<Content> {
        let length = self.found.length;
        let asked = match request.method {
            Method::HEAD => Asked::Everything,
            _ if !self.may_have_ranges(&request.headers, &parts.headers) => Asked::Everything,
            _ => range::asked(&request.headers, length),
        };
        let pieces = match asked {
            Asked::Everything => {
                parts.status = StatusCode::OK;
                parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
                if request.method == Method::HEAD {
                    return Some(Content::Nothing);
                }
                VecDeque::from([Piece::Range(ByteRange { first: 0, last: length.saturating_sub(1) })])
            }
            Asked::Ranges(ranges) => match ranges.as_slice() {
                [range] => {
                    answer::set_single_range(&mut parts.headers, *range, length);
                    VecDeque::from([Piece::Range(*range)])
                }
                ranges if self.is_too_scattered(ranges) || self.goes_back_in_vain(ranges) => return None,
                ranges => several(ranges, length, &mut parts.headers),
            },
            Asked::Unsatisfiable => {
                edit(parts, StatusCode::RANGE_NOT_SATISFIABLE, |headers| {
                    let date = headers.get(header::DATE).cloned();
                    keep_what_pages_see(headers);
                    headers.extend(date.map(|date| (header::DATE, date)));
                });
                answer::set_unsatisfiable(&mut parts.headers, length);
                return Some(Content::Nothing);
            }
        };
        Some(Content::Pieces(pieces))
    }

    /// Whether the client may have a range, as far as `If-Range` says and it can't have bytes of another coding (RFC 9110 13.1.5).
    fn may_have_ranges(&self, request: &HeaderMap, headers: &HeaderMap) -> bool {
        let now = self.found.now;
        let parsed = |name| headers.get(name).and_then(|field| date::parse(field.as_bytes(), now));
        let coding = headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
        let etag = headers.get(header::ETAG).map(HeaderValue::as_bytes);
        // The date of a coding is that of the plain content, too.
        let modified = parsed(header::LAST_MODIFIED).filter(|_| !coding::is_coded(coding));
        let of_other_coding = request.contains_key(header::IF_RANGE) && !coding::is_accepted(coding, request);
        let date = parsed(header::DATE).unwrap_or(now);
        !self.found.may_mix_codings
            && !of_other_coding
            && range::if_range_holds(request, etag, modified, date)
    }

    /// Whether bytes that were passed over would be needed again, of a representation that can't be asked for again: it has no
    /// validator, and so no other slice either.
    fn goes_back_in_vain(&self, ranges: &[ByteRange]) -> bool {
        let ascends = |pair: &[ByteRange]| matches!(pair, [before, after] if before.last < after.first);
        self.found.validator.is_none() && !ranges.windows(2).all(ascends)
    }

    /// Whether several ranges would cost far more bytes than they have: a request of some bytes could have all slices fetched
    /// (A15).
    fn is_too_scattered(&self, ranges: &[ByteRange]) -> bool {
        let size = self.size();
        let slices_of = |range: &ByteRange| range.last / size - range.first / size + 1;
        // A range that goes on in the slice in which the one before it has ended costs no other.
        let goes_on = |pair: &[ByteRange]| match pair {
            [before, after] => before.last < after.first && before.last / size == after.first / size,
            _ => false,
        };
        let again = ranges.windows(2).filter(|pair| goes_on(pair)).count() as u64;
        let slices = ranges.iter().map(slices_of).sum::<u64>().saturating_sub(again);
        let bytes: u64 = ranges.iter().map(ByteRange::len).fold(0, u64::saturating_add);
        slices > FEW && slices.saturating_mul(size) > bytes.saturating_mul(MOST_FOR_A_BYTE)
    }
}

/// Several ranges as `multipart/byteranges` (RFC 9110 14.6), and the head that says so.
fn several(ranges: &[ByteRange], length: u64, headers: &mut HeaderMap) -> VecDeque<Piece> {
    // Random, so that nobody can write content that has it.
    let random = RandomState::new();
    let boundary = format!("{:016x}{:016x}", random.hash_one(0), random.hash_one(1));
    let kind = headers.get(header::CONTENT_TYPE).cloned();
    let mut pieces = VecDeque::new();
    let mut before = String::new();
    for range in ranges {
        before.push_str(&format!("--{boundary}\r\n"));
        let mut text = std::mem::take(&mut before).into_bytes();
        if let Some(kind) = &kind {
            text.extend_from_slice(b"Content-Type: ");
            text.extend_from_slice(kind.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"Content-Range: ");
        text.extend_from_slice(content_range(*range, length).as_bytes());
        text.extend_from_slice(b"\r\n\r\n");
        pieces.push_back(Piece::Text(Bytes::from(text)));
        pieces.push_back(Piece::Range(*range));
        before.push_str("\r\n");
    }
    before.push_str(&format!("--{boundary}--\r\n"));
    pieces.push_back(Piece::Text(Bytes::from(before)));
    answer::set_several_ranges(headers, &boundary, length_of(&pieces));
    pieces
}

fn keep_what_pages_see(headers: &mut HeaderMap) {
    let mut seen = HeaderMap::new();
    keep_what_lets_pages_see(headers, &mut seen);
    *headers = seen;
}

/// Makes of a head one without content. What the cache reports of the first slice stays.
fn edit(parts: &mut response::Parts, status: StatusCode, keep: impl FnOnce(&mut HeaderMap)) {
    const REPORTED: [HeaderName; 5] = [
        CACHE_STATUS,
        HeaderName::from_static("server-timing"),
        X_CACHE,
        HeaderName::from_static("x-cache-hits"),
        HeaderName::from_static("x-served-by"),
    ];
    let mut reported = HeaderMap::new();
    for name in REPORTED {
        for line in parts.headers.get_all(&name) {
            reported.append(name.clone(), line.clone());
        }
    }
    keep(&mut parts.headers);
    parts.headers.extend(reported);
    parts.status = status;
}
