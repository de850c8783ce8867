//! A head in parts that anybody can make and take, whatever it is in memory.

use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, StatusCode};

use super::fields::FieldLines;
use super::{InvalidEntry, Levels, Part, ResponseHead, StoredResponse};
use crate::entry::Payload;
use crate::semantics::cache_status::CACHE_STATUS;
use crate::semantics::fields::is_hop_by_hop;
use crate::semantics::hint::CacheHint;
use crate::semantics::range::number;
use crate::semantics::reuse::Reuse;

/// What a [`ResponseHead`] is made of. It depends on no layer's options.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use http::{HeaderMap, StatusCode};
/// use larder::semantics::reuse::Reuse;
/// use larder::semantics::vary::Selecting;
/// use larder::{HeadParts, ResponseHead};
///
/// let mut headers = HeaderMap::new();
/// headers.insert("content-type", "text/plain".parse().unwrap());
/// let received = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
/// let reuse = Reuse::new(received, received, Duration::from_secs(60), Selecting::default());
/// let mut parts = HeadParts::new(StatusCode::OK, headers, reuse);
/// parts.groups = vec!["http://example.com news".into()];
/// let head = ResponseHead::from_parts(parts.clone()).unwrap();
/// assert_eq!(head.to_parts(), parts);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeadParts {
    /// Fields among [`headers`](HeadParts::headers) that the origin has not sent: they do not count when the response is
    /// freshened.
    pub absent: Vec<HeaderName>,
    /// While it is fresh, its answers have a `Date` of their own, and no `Age`: they count from themselves. Without a `Date` among
    /// [`headers`](HeadParts::headers).
    pub counts_from_answers: bool,
    /// `ETag` was made by this cache, not by the origin.
    pub generated_tag: bool,
    /// The groups (tags) by which it can be purged; see [`ResponseHead::groups`].
    pub groups: Vec<Box<str>>,
    /// The fields that are sent, as they were received: without `Age` and `Cache-Status`, which are told in other ways,
    /// and without those of a connection. Of a part of a representation, without `Content-Range` and `Content-Length`.
    pub headers: HeaderMap,
    /// What the handler has said of it ([`CacheHint`]).
    pub hint: Option<CacheHint>,
    /// Which levels of a tier keep it.
    pub levels: Levels,
    /// What of the representation the content is; `None` for all of it.
    pub part: Option<Part>,
    /// The terms of reuse.
    pub reuse: Reuse,
    /// The status.
    pub status: StatusCode,
    /// Fields that are not sent, but count when the response is freshened.
    pub stripped: HeaderMap,
    /// `Cache-Status` of caches nearer to the origin.
    pub upstream_status: Option<HeaderValue>,
}

impl HeadParts {
    /// A head of a whole representation, in no group, with nothing stripped.
    pub fn new(status: StatusCode, headers: HeaderMap, reuse: Reuse) -> Self {
        Self {
            absent: Vec::new(),
            counts_from_answers: false,
            generated_tag: false,
            groups: Vec::new(),
            headers,
            hint: None,
            levels: Levels::default(),
            part: None,
            reuse,
            status,
            stripped: HeaderMap::new(),
            upstream_status: None,
        }
    }

    /// Refuses what no layer stores.
    fn check(&self) -> Result<(), InvalidEntry> {
        let is_whole = match &self.part {
            None => self.status != StatusCode::PARTIAL_CONTENT,
            Some(Part::Bytes(extent)) => {
                let is_made = [header::CONTENT_LENGTH, header::CONTENT_RANGE];
                if is_made.iter().any(|name| self.headers.contains_key(name)) {
                    return Err(InvalidEntry::Fields);
                }
                !extent.is_complete() && self.status == StatusCode::PARTIAL_CONTENT
            }
            // It is sent again for the same `Range` alone.
            Some(Part::Replay) => {
                self.status == StatusCode::PARTIAL_CONTENT && self.reuse.selecting.has(&header::RANGE)
            }
        };
        if !is_whole || self.status.is_informational() || self.status == StatusCode::NOT_MODIFIED {
            return Err(InvalidEntry::Part);
        }
        let is_told_otherwise =
            [header::AGE, CACHE_STATUS].iter().any(|name| self.headers.contains_key(name));
        let is_of_connection = self.headers.keys().any(is_hop_by_hop);
        let tags = self.headers.get_all(header::ETAG).iter().count();
        let is_dated_twice = self.counts_from_answers && self.headers.contains_key(header::DATE);
        if is_dated_twice || is_told_otherwise || is_of_connection || (self.generated_tag && tags != 1) {
            return Err(InvalidEntry::Fields);
        }
        Ok(())
    }
}

impl ResponseHead {
    /// Its parts, to be written down.
    pub fn to_parts(&self) -> HeadParts {
        let whole = |lines: &FieldLines| lines.to_map(|_| true, 0);
        HeadParts {
            absent: self.absent.to_vec(),
            counts_from_answers: self.counts_from_answers,
            generated_tag: self.tag_is_ours,
            groups: self.groups.to_vec(),
            headers: self.headers(),
            hint: self.hint.as_deref().cloned(),
            levels: self.levels,
            part: self.part().cloned(),
            reuse: self.reuse.clone(),
            status: self.status,
            stripped: self.stripped.as_deref().map(whole).unwrap_or_default(),
            upstream_status: self.upstream_status().and_then(|status| HeaderValue::from_bytes(status).ok()),
        }
    }

    /// The head that has these parts.
    ///
    /// # Errors
    ///
    /// [`InvalidEntry`] where no layer stores a response with such a head.
    pub fn from_parts(parts: HeadParts) -> Result<Self, InvalidEntry> {
        parts.check()?;
        let HeadParts {
            absent,
            counts_from_answers,
            generated_tag,
            groups,
            headers,
            hint,
            levels,
            part,
            reuse,
            status,
            stripped,
            upstream_status,
        } = parts;
        let mut head = Self::new(status, &headers, reuse).with_part(part).of_origin(&stripped, &absent);
        head.counts_from_answers = counts_from_answers;
        head.groups = groups.into_boxed_slice();
        head.hint = hint.map(Box::new);
        head.levels = levels;
        head.tag_is_ours = generated_tag;
        head.upstream_status = upstream_status.map(|status| status.as_bytes().into());
        Ok(head)
    }
}

impl StoredResponse {
    /// A response of a head and its content.
    ///
    /// # Errors
    ///
    /// [`InvalidEntry::Content`] where the content is not as long as the head says.
    pub fn from_parts(head: ResponseHead, payload: Payload) -> Result<Self, InvalidEntry> {
        let is_whole = match head.part() {
            Some(Part::Bytes(extent)) => extent.held() == payload.len(),
            None | Some(Part::Replay) => true,
        };
        let is_told =
            head.fields().get_all(&header::CONTENT_LENGTH).all(|line| number(line) == Some(payload.len()));
        if is_whole && is_told { Ok(Self::new(head, payload)) } else { Err(InvalidEntry::Content) }
    }
}
