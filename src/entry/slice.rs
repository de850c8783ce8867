//! Slices: a representation is asked for in pieces of one size, each of which is stored, validated and purged like a response
//! of its own.
//!
//! [`SliceLayer`](crate::SliceLayer) asks, wrapped around the cache, and the cache answers. This is what the two say to each
//! other, by extensions that nobody else can make or read.
//!
//! The first slice is stored under the key of the whole: where the origin answers with the whole all the same, or the
//! representation is no larger than a slice, that is where it belongs. Each other slice has a key of its own.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};

use crate::entry::key::CacheKey;
use crate::entry::{Part, ResponseHead};
use crate::semantics::parts::{Extent, strong_validator};
use crate::semantics::range::ByteRange;
use crate::semantics::validation::remove_conditions;

/// Which slice a request asks for. The request itself is the client's, unchanged: whatever keeps it from the cache, it is
/// answered as if nobody had asked for a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SliceRequest {
    /// 0 for the first slice of the representation.
    pub(crate) index: u64,
    /// What the slices before this one were of; `None` for the first one of a transfer.
    pub(crate) joins: Option<Joins>,
    /// Bytes in each slice but the last.
    pub(crate) size: u64,
}

/// The representation to which a further slice of a transfer has to belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joins {
    /// The bits of the fence from which the origin was asked for what confirmed it; 0 where that is not known. What was purged
    /// softly after that is not confirmed.
    pub(crate) fence: u128,
    pub(crate) validator: HeaderValue,
}

impl SliceRequest {
    /// Whether the transfer begins with it.
    pub(crate) fn is_first(&self) -> bool {
        self.joins.is_none()
    }

    /// The bytes of the slice, as far as the representation has them.
    pub(crate) fn range(&self) -> ByteRange {
        let first = self.index.saturating_mul(self.size);
        ByteRange { first, last: first.saturating_add(self.size - 1) }
    }

    /// Whether these are the bytes of the slice, all of them and no others.
    pub(crate) fn is(&self, extent: &Extent) -> bool {
        let ByteRange { first, last } = self.range();
        extent.parts() == [ByteRange { first, last: last.min(extent.length().saturating_sub(1)) }]
    }

    /// The key of the slice, where `whole` is that of the whole.
    fn key(&self, whole: &CacheKey) -> CacheKey {
        let whole = whole.clone();
        if self.index == 0 { whole } else { whole.for_slice(self.index, self.size) }
    }

    /// What a 206 has of the slice, where it can be joined with others: nothing but its bytes, of a representation that is
    /// known by a strong validator. What is complete is joined with nothing.
    pub(crate) fn part_of(&self, part: Part, response: &HeaderMap, now: SystemTime) -> Option<Part> {
        match &part {
            Part::Bytes(extent) if self.is(extent) => {
                let is_known = extent.is_complete() || validator_of(response, now).is_some();
                is_known.then_some(part)
            }
            Part::Bytes(_) | Part::Replay => None,
        }
    }
}

/// The strong validator of a response that was received or is being sent (RFC 9110 8.8.2.2).
pub(crate) fn validator_of(response: &HeaderMap, now: SystemTime) -> Option<HeaderValue> {
    let get = |name| response.get(name).map(HeaderValue::as_bytes);
    let date = get(header::DATE).and_then(|date| crate::semantics::date::parse(date, now)).unwrap_or(now);
    let own = strong_validator(get(header::ETAG), get(header::LAST_MODIFIED), date)?;
    HeaderValue::from_bytes(own).ok()
}

/// A request that has become one for a slice, among its extensions.
#[derive(Clone, Debug)]
pub(crate) struct Sliced(Arc<SlicedRequest>);

#[derive(Debug)]
struct SlicedRequest {
    asked: Arc<SliceRequest>,
    /// The client's request is answered after all.
    is_left: AtomicBool,
    /// The client's own range and conditions.
    own_fields: HeaderMap,
    own_method: Method,
    whole: CacheKey,
}

impl Sliced {
    /// Makes a client's request one for a slice, with the key of that. The client's conditions are evaluated on what comes of
    /// the first slice, so they shape none.
    pub(crate) fn begin(parts: &mut Parts, whole: CacheKey, asked: Arc<SliceRequest>) -> (CacheKey, Self) {
        let mut own_fields = HeaderMap::new();
        for name in OWN {
            for line in parts.headers.get_all(&name) {
                own_fields.append(name.clone(), line.clone());
            }
        }
        remove_conditions(&mut parts.headers);
        let ByteRange { first, last } = asked.range();
        let range = HeaderValue::try_from(format!("bytes={first}-{last}"));
        parts.headers.extend(range.ok().map(|range| (header::RANGE, range)));
        let own_method = std::mem::replace(&mut parts.method, Method::GET);
        let key = asked.key(&whole);
        let is_left = AtomicBool::new(false);
        let sliced = Self(Arc::new(SlicedRequest { asked, is_left, own_fields, own_method, whole }));
        parts.extensions.insert(sliced.clone());
        (key, sliced)
    }

    /// Makes it the client's request again, with the key of the whole.
    pub(crate) fn leave(&self, parts: &mut Parts) -> CacheKey {
        let SlicedRequest { is_left, own_fields, own_method, whole, .. } = &*self.0;
        is_left.store(true, Ordering::Release);
        parts.extensions.remove::<Self>();
        parts.method = own_method.clone();
        remove_conditions(&mut parts.headers);
        for (name, line) in own_fields {
            parts.headers.append(name, line.clone());
        }
        whole.clone()
    }

    pub(crate) fn asked(&self) -> &SliceRequest {
        &self.0.asked
    }

    /// The client's own conditions and range.
    pub(crate) fn own_fields(&self) -> &HeaderMap {
        &self.0.own_fields
    }

    /// Whether what was answered is the client's request after all.
    pub(crate) fn is_left(&self) -> bool {
        self.0.is_left.load(Ordering::Acquire)
    }

    /// The key of the whole.
    pub(crate) fn whole(&self) -> &CacheKey {
        &self.0.whole
    }

    /// Whether a response with this status is an answer to the client's request, not to that for the slice: the origin has no
    /// ranges, or nothing to make one of. Where slices have been sent already, nothing else can be.
    pub(crate) fn is_left_for(&self, status: StatusCode) -> bool {
        let asked = self.asked();
        let is_about_slice =
            matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE);
        asked.is_first() && asked.index == 0 && !is_about_slice
    }

    /// Whether a stored part may be joined with the slices before it.
    pub(crate) fn may_join(&self, head: &ResponseHead) -> bool {
        self.asked()
            .joins
            .as_ref()
            .is_none_or(|joins| head.strong_validator() == Some(joins.validator.as_bytes()))
    }
}

/// What a client's request has of its own.
const OWN: [header::HeaderName; 6] = [
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::RANGE,
];

/// What the cache says of its answer to a request for a slice, among the extensions of the response. Without it, the answer
/// is one to the client's request.
#[derive(Clone, Debug)]
pub(crate) enum SliceAnswer {
    /// It is the slice.
    Slice(Arc<SliceFound>),
    /// It is of no use: the client's request has to be sent as it is.
    Whole,
}

/// What is known of a slice.
pub(crate) struct SliceFound {
    /// Called where a further slice does not belong to it: all slices are purged.
    pub(crate) changed: Box<Changed>,
    /// As in [`Joins`].
    pub(crate) fence: u128,
    /// Bytes of the whole representation.
    pub(crate) length: u64,
    /// A range might be one of another coding than the bytes that the client has, so that it gets none.
    pub(crate) may_mix_codings: bool,
    /// By the clock of the cache.
    pub(crate) now: SystemTime,
    /// `None` for what is whole.
    pub(crate) validator: Option<HeaderValue>,
}

pub(crate) type Changed = dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

impl fmt::Debug for SliceFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { length, validator, .. } = self;
        f.debug_struct("SliceFound")
            .field("length", length)
            .field("validator", validator)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;
    use std::time::{Duration, UNIX_EPOCH};

    fn slice(index: u64, size: u64) -> SliceRequest {
        SliceRequest { index, joins: None, size }
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn ra4_a_slice_is_its_bytes_and_no_others() {
        for (index, told, expected) in [
            (0, "bytes 0-9/100", true),
            (0, "bytes 0-9/10", true),
            (0, "bytes 0-4/5", true),
            (9, "bytes 90-94/95", true),
            (1, "bytes 0-9/100", false),
            (0, "bytes 0-8/100", false),
            (0, "bytes 0-10/100", false),
            (9, "bytes 90-93/95", false),
        ] {
            let extent = Extent::of(&headers(&[("content-range", told)])).expect("an extent");
            assert_eq!(slice(index, 10).is(&extent), expected, "{index} {told}");
        }
        // Beyond all numbers.
        let ByteRange { first, last } = slice(u64::MAX, 10).range();
        assert_eq!((first, last), (u64::MAX, u64::MAX));
    }

    #[test]
    fn ra4_only_what_is_known_by_a_strong_validator_is_joined() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777 + 60);
        let (old, new) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:50:37 GMT");
        for (told, fields, expected) in [
            ("bytes 0-9/100", &[("etag", "\"a\"")][..], true),
            ("bytes 0-9/100", &[("last-modified", old), ("date", new)], true),
            ("bytes 0-9/100", &[("last-modified", old)], true),
            ("bytes 0-9/100", &[("etag", "W/\"a\"")], false),
            ("bytes 0-9/100", &[("last-modified", new), ("date", new)], false),
            ("bytes 0-9/100", &[], false),
            ("bytes 0-9/10", &[], true),
            ("bytes 0-8/100", &[("etag", "\"a\"")], false),
        ] {
            let mut response = headers(fields);
            response.insert(header::CONTENT_RANGE, HeaderValue::from_static(told));
            let part = Part::Bytes(Extent::of(&response).expect("an extent"));
            let found = slice(0, 10).part_of(part, &response, now);
            assert_eq!(found.is_some(), expected, "{told} {fields:?}");
        }
        assert_eq!(slice(0, 10).part_of(Part::Replay, &headers(&[("etag", "\"a\"")]), now), None);
    }

    #[test]
    fn ra4_a_request_for_a_slice_becomes_the_clients_again() {
        let own =
            [("if-none-match", "\"a\""), ("if-range", "\"a\""), ("range", "bytes=5-6"), ("accept", "*/*")];
        let (mut parts, ()) = http::Request::head("http://a/x").body(()).expect("a request").into_parts();
        parts.headers = headers(&own);
        let whole = CacheKey::of(&parts).expect("a key");
        let (key, sliced) = Sliced::begin(&mut parts, whole.clone(), Arc::new(slice(2, 10)));
        assert_eq!(key, whole.clone().for_slice(2, 10));
        assert_eq!(
            (&parts.method, &parts.headers),
            (&Method::GET, &headers(&[("range", "bytes=20-29"), ("accept", "*/*")]))
        );
        assert!(parts.extensions.get::<Sliced>().is_some() && !sliced.is_left());
        assert_eq!(sliced.leave(&mut parts), whole);
        assert_eq!((&parts.method, &parts.headers), (&Method::HEAD, &headers(&own)));
        assert!(parts.extensions.get::<Sliced>().is_none() && sliced.is_left());
        let (key, _) = Sliced::begin(&mut parts, whole.clone(), Arc::new(slice(0, 10)));
        assert_eq!(key, whole, "the first slice is stored where the whole is");
    }
}
