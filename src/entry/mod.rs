//! A response as it is kept: complete, compacted, immutable, with everything parsed that a hit needs.

pub(crate) mod aliases;
pub(crate) mod key;
pub(crate) mod partial;
pub(crate) mod pieces;

mod intern;
mod payload;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::BytesMut;
use http::header::{self, HeaderMap};
use http::{HeaderValue, StatusCode};

pub use self::payload::{Payload, RemoteContent};

use crate::entry::intern::intern;
use crate::semantics::cache_status::{CACHE_STATUS, X_CACHE};
use crate::semantics::no_vary_search::NO_VARY_SEARCH;
use crate::semantics::parts::Extent;
pub(crate) use crate::semantics::parts::Part;
use crate::semantics::preconditions::Representation;
use crate::semantics::reuse::Reuse;
use crate::semantics::validation::Validators;

/// A complete stored response. Cloning shares head and content.
#[derive(Clone, Debug)]
pub struct StoredResponse {
    pub(crate) head: Arc<ResponseHead>,
    pub(crate) payload: Payload,
}

impl StoredResponse {
    /// A head over content, in memory or elsewhere.
    pub fn new(head: ResponseHead, payload: Payload) -> Self {
        Self { head: Arc::new(head), payload }
    }

    /// Everything but the content.
    pub fn head(&self) -> &ResponseHead {
        &self.head
    }

    /// The content and what follows it.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Whether `other` is the newer word of the origin: see [`Reuse::is_older_than`].
    pub fn is_older_than(&self, other: &Self) -> bool {
        self.head.reuse.is_older_than(&other.head.reuse)
    }

    /// Whether it may say that it answers for other queries of its URI: a purge of one of those is about it, too.
    pub fn may_answer_for_other_queries(&self) -> bool {
        self.head.headers.contains_key(NO_VARY_SEARCH)
    }

    /// Bytes of memory that the response takes: fields, content, trailers and bookkeeping.
    pub fn weight(&self) -> usize {
        /// Two reference counts and allocator overhead of the head's and the content's blocks.
        const BOOKKEEPING: usize = 96;
        let trailers = self.payload.trailers().map_or(0, fields_weight);
        BOOKKEEPING
            + size_of::<Self>()
            + size_of::<ResponseHead>()
            + fields_weight(&self.head.headers)
            + self.head.stripped.as_deref().map_or(0, fields_weight)
            + self.head.reuse.selecting.weight()
            + self.head.part.as_ref().map_or(0, Part::weight)
            + self.head.groups.iter().map(|group| size_of::<Box<str>>() + group.len()).sum::<usize>()
            + self.payload.weight()
            + trailers
    }
}

/// What [`HeaderMap`] takes for its entries, measured: a bucket each, an index slot each, and the values.
fn fields_weight(headers: &HeaderMap) -> usize {
    const BUCKET: usize = 112;
    let values: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    values + headers.len() * BUCKET + headers.capacity() * 8
}

/// Status, fields and terms of a stored response.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    pub(crate) groups: Box<[Box<str>]>,
    /// With slots for `Age` and `Cache-Status`, so that an answer's clone never grows.
    pub(crate) headers: HeaderMap,
    pub(crate) last_modified: Option<SystemTime>,
    /// What of the representation is there; `None` for all of it.
    pub(crate) part: Option<Part>,
    pub(crate) reuse: Reuse,
    pub(crate) status: StatusCode,
    /// Fields that are not sent, but count when the response is freshened.
    pub(crate) stripped: Option<Box<HeaderMap>>,
    /// `ETag` was made by this cache, not by the origin: it is never sent upstream.
    pub(crate) tag_is_ours: bool,
    /// `Cache-Status` of caches nearer to the origin.
    pub(crate) upstream_status: Option<HeaderValue>,
}

impl ResponseHead {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The fields; `Age` and `Cache-Status` have no meaning here.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// What reuse depends on.
    pub fn reuse(&self) -> &Reuse {
        &self.reuse
    }

    /// The groups (tags) by which it can be purged.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(AsRef::as_ref)
    }

    /// The head of what has these bytes; all of them make it a 200.
    #[must_use]
    pub(crate) fn having(mut self, extent: Extent) -> Self {
        self.headers.remove(header::CONTENT_RANGE);
        self.headers.remove(header::CONTENT_LENGTH);
        if extent.is_complete() {
            self.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(extent.length()));
            self.status = StatusCode::OK;
            self.part = None;
        } else {
            self.part = Some(Part::Bytes(extent));
        }
        self
    }

    /// The fields as they were received, those that are not sent included.
    pub(crate) fn own_fields(&self) -> HeaderMap {
        let mut fields = self.headers.clone();
        fields.remove(CACHE_STATUS);
        fields.remove(X_CACHE);
        if let Some(stripped) = &self.stripped {
            fields.extend(stripped.as_ref().clone());
        }
        fields
    }

    pub(crate) fn validators(&self) -> Validators<'_> {
        Validators {
            etag: self.headers.get(header::ETAG).filter(|_| !self.tag_is_ours),
            last_modified: self.headers.get(header::LAST_MODIFIED),
        }
    }

    pub(crate) fn representation(&self) -> Representation<'_> {
        Representation {
            date: Some(self.reuse.date),
            etag: self.headers.get(header::ETAG).map(HeaderValue::as_bytes),
            last_modified: self.last_modified,
        }
    }
}

/// The fields with all values in one buffer of their own. A received value is often a slice of its
/// connection's read buffer, which it would keep alive as a whole. `room` more fields fit without growing.
pub(crate) fn compact_fields(headers: &HeaderMap, room: usize) -> HeaderMap {
    let mut buffer = BytesMut::with_capacity(headers.values().map(HeaderValue::len).sum());
    let mut compacted = HeaderMap::with_capacity(headers.keys_len() + room);
    for (name, value) in headers {
        let copy = intern(name, value).or_else(|| {
            buffer.extend_from_slice(value.as_bytes());
            let mut copy = HeaderValue::from_maybe_shared(buffer.split().freeze()).ok()?;
            copy.set_sensitive(value.is_sensitive());
            Some(copy)
        });
        // What was a field value is one.
        if let Some(copy) = copy {
            compacted.append(name, copy);
        }
    }
    compacted
}

/// Joins the lines of `Cache-Status`, which each answer puts its own member behind.
pub(crate) fn take_upstream_status(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let lines: Vec<_> = headers.get_all(CACHE_STATUS).into_iter().map(HeaderValue::as_bytes).collect();
    if lines.is_empty() {
        return None;
    }
    let joined = HeaderValue::from_bytes(&lines.join(&b", "[..])).ok();
    headers.remove(CACHE_STATUS);
    joined
}
