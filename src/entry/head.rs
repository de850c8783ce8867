//! Everything of a stored response but its content.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, StatusCode};

use super::fields::{FieldLines, Fields, Purpose};
use super::{Admission, Levels};
use crate::runtime::Instant;
use crate::semantics::coding;
use crate::semantics::date;
use crate::semantics::fields::{ResponseFields, lets_pages_see};
use crate::semantics::hint::CacheHint;
use crate::semantics::no_vary_search::{NO_VARY_SEARCH, NoVarySearch};
pub use crate::semantics::parts::Part;
use crate::semantics::parts::{Extent, strong_validator};
use crate::semantics::preconditions::Representation;
use crate::semantics::reuse::Reuse;
use crate::semantics::stored::StoredFields;
use crate::semantics::validation::Validators;

/// Status, fields and terms of a stored response, whichever layer stored it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Fields that are sent and that the origin has not sent: they do not count when the response is freshened.
    pub(super) absent: Box<[HeaderName]>,
    /// Near alone until this admits its key to the far level. It is not written down.
    pub(crate) admission: Option<Admission>,
    /// While it is fresh, its answers have a `Date` of their own and no `Age`. There is no `Date` among its fields then.
    pub(crate) counts_from_answers: bool,
    fields: FieldLines,
    pub(crate) groups: Box<[Box<str>]>,
    /// Looked for in the fields, it would cost a miss 500 instructions.
    has_no_vary_search: bool,
    /// What its handler has said of it, which still counts when it is freshened.
    pub(crate) hint: Option<Box<CacheHint>>,
    pub(crate) last_modified: Option<SystemTime>,
    pub(crate) levels: Levels,
    /// A near tier asks for it again from then on. It says nothing of the response, and is not written down.
    pub(crate) near_until: NearUntil,
    /// What of the representation is there; `None` for all of it.
    pub(crate) part: Option<Box<Part>>,
    pub(crate) reuse: Reuse,
    pub(crate) status: StatusCode,
    /// Fields that are not sent, but count when the response is freshened.
    pub(super) stripped: Option<Box<FieldLines>>,
    /// `ETag` was made by this cache, not by the origin: it is never sent upstream.
    pub(crate) tag_is_ours: bool,
    /// `Cache-Status` of caches nearer to the origin.
    pub(super) upstream_status: Option<Box<[u8]>>,
}

/// A moment, or none. Heads that differ by it alone are the same.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NearUntil(pub(crate) Option<Instant>);

impl PartialEq for NearUntil {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for NearUntil {}

impl ResponseHead {
    /// A head with the fields as they were received. `Age` and `Cache-Status` are kept apart from them.
    pub(crate) fn new(status: StatusCode, headers: &HeaderMap, reuse: Reuse) -> Self {
        Self::of(status, &StoredFields::all(headers, ResponseFields::of(headers, &[])), reuse)
    }

    /// A head with these fields.
    pub(crate) fn of(status: StatusCode, fields: &StoredFields<'_>, reuse: Reuse) -> Self {
        Self {
            absent: Box::default(),
            admission: None,
            counts_from_answers: false,
            groups: Box::default(),
            has_no_vary_search: fields.has_no_vary_search(),
            hint: None,
            last_modified: fields
                .last_modified()
                .and_then(|date| date::parse(date.as_bytes(), reuse.response_time)),
            fields: FieldLines::of(fields.iter()),
            levels: Levels::default(),
            near_until: NearUntil::default(),
            part: None,
            reuse,
            status,
            stripped: None,
            tag_is_ours: false,
            upstream_status: fields.upstream_status(),
        }
    }

    #[must_use]
    pub(crate) fn with_part(mut self, part: Option<Part>) -> Self {
        self.part = part.map(Box::new);
        self
    }

    /// With what the origin has said: fields that clients get otherwise or not at all, and names of those that it has not sent.
    #[must_use]
    pub(crate) fn of_origin(mut self, stripped: &HeaderMap, absent: &[HeaderName]) -> Self {
        self.absent = absent.into();
        self.stripped = (!stripped.is_empty()).then(|| Box::new(FieldLines::of(stripped)));
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The fields that are sent, without `Age` and `Cache-Status`, which each answer has of its own.
    pub fn fields(&self) -> Fields<'_> {
        self.fields.view()
    }

    /// [`ResponseHead::fields`] as a map, which is made anew each time.
    pub fn headers(&self) -> HeaderMap {
        self.headers_of(|_| true, 0)
    }

    /// What reuse depends on.
    pub fn reuse(&self) -> &Reuse {
        &self.reuse
    }

    /// The groups (tags) by which it can be purged.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(AsRef::as_ref)
    }

    /// Which levels of a tier keep it.
    pub fn levels(&self) -> Levels {
        self.levels
    }

    /// What of the representation the content is; `None` for all of it.
    pub fn part(&self) -> Option<&Part> {
        self.part.as_deref()
    }

    pub(crate) fn upstream_status(&self) -> Option<&[u8]> {
        self.upstream_status.as_deref()
    }

    /// The fields of an answer, and its content. See [`FieldLines::to_answer`].
    #[inline]
    pub(crate) fn to_answer(
        &self,
        purpose: Purpose,
        time: HeaderValue,
        content: Option<&Bytes>,
    ) -> (HeaderMap, Option<Bytes>) {
        self.fields.to_answer(purpose, time, content)
    }

    /// The fields whose names are kept, with room for more.
    pub(crate) fn headers_of(&self, keeps: impl Fn(&str) -> bool, room: usize) -> HeaderMap {
        self.fields.to_map(keeps, room)
    }

    /// The fields by which a browser lets a page see an answer that is made of this response.
    pub(crate) fn seen_by_pages(&self) -> HeaderMap {
        self.headers_of(lets_pages_see, 0)
    }

    /// The head of what has these bytes; all of them make it a 200.
    #[must_use]
    pub(crate) fn having(mut self, extent: Extent) -> Self {
        let mut headers = self.headers_of(|_| true, 1);
        headers.remove(header::CONTENT_RANGE);
        headers.remove(header::CONTENT_LENGTH);
        if extent.is_complete() {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(extent.length()));
            self.status = StatusCode::OK;
            self.part = None;
        } else {
            self.part = Some(Box::new(Part::Bytes(extent)));
        }
        self.fields = FieldLines::of(&headers);
        self
    }

    /// The fields as they were received, those that are not sent included.
    pub(crate) fn own_fields(&self) -> HeaderMap {
        let mut fields = self.headers_of(|name| !self.absent.iter().any(|absent| absent == name), 0);
        if let Some(stripped) = &self.stripped {
            fields.extend(stripped.to_map(|_| true, 0));
        }
        fields
    }

    pub(crate) fn validators(&self) -> Validators<'_> {
        Validators {
            etag: self.get(&header::ETAG).filter(|_| !self.tag_is_ours),
            last_modified: self.get(&header::LAST_MODIFIED),
        }
    }

    /// `Content-Encoding`.
    pub(crate) fn coding(&self) -> Option<&[u8]> {
        self.get(&header::CONTENT_ENCODING)
    }

    /// Whether its content is in a coding that was chosen for the request.
    fn is_in_negotiated_coding(&self) -> bool {
        self.reuse.selecting.has(&header::ACCEPT_ENCODING) && coding::is_coded(self.coding())
    }

    /// Whether a strong validator of it may be that of its plain content as well. Frameworks code content and leave its tag
    /// and its date, and they do not code ranges: a client that asks for one, and later for another, could put bytes of two
    /// codings together.
    pub(crate) fn may_share_validator(&self) -> bool {
        self.part.is_none()
            && !self.tag_is_ours
            && self.strong_validator().is_some()
            && self.is_in_negotiated_coding()
    }

    /// The date by which a client may put its parts together (`If-Range`): of a coding, it is that of the plain content.
    pub(crate) fn date_of_parts(&self) -> Option<SystemTime> {
        self.last_modified.filter(|_| !self.is_in_negotiated_coding())
    }

    /// The validator by which the parts of one representation know each other; see [`strong_validator`].
    pub(crate) fn strong_validator(&self) -> Option<&[u8]> {
        strong_validator(self.get(&header::ETAG), self.get(&header::LAST_MODIFIED), self.reuse.date)
    }

    pub(crate) fn representation(&self) -> Representation<'_> {
        Representation {
            date: Some(self.reuse.date),
            etag: self.get(&header::ETAG),
            last_modified: self.last_modified,
        }
    }

    /// Whether it says anything of other queries of its URI.
    pub(crate) fn has_no_vary_search(&self) -> bool {
        self.has_no_vary_search
    }

    /// What it says of other queries of its URI.
    pub(crate) fn no_vary_search(&self) -> Option<NoVarySearch> {
        self.has_no_vary_search
            .then(|| self.headers_of(|name| name == NO_VARY_SEARCH.as_str(), 1))
            .and_then(|headers| NoVarySearch::of(&headers))
    }

    fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        self.fields().get(name)
    }

    /// Bytes of memory held, the value itself included.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>()
            + self.fields.weight()
            + self.absent.iter().map(|name| size_of::<HeaderName>() + name.as_str().len()).sum::<usize>()
            + self.stripped.as_ref().map_or(0, |stripped| size_of::<FieldLines>() + stripped.weight())
            + self.reuse.selecting.weight()
            + self.hint.as_ref().map_or(0, |hint| size_of::<CacheHint>() + hint.weight())
            + self.part().map_or(0, Part::weight)
            + self.groups.iter().map(|group| size_of::<Box<str>>() + group.len()).sum::<usize>()
            + self.upstream_status.as_ref().map_or(0, |status| status.len())
    }
}
