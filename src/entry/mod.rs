//! A response as it is kept: complete, compacted, immutable, with everything parsed that a hit needs.

pub(crate) mod aliases;
pub(crate) mod key;
pub(crate) mod partial;
pub(crate) mod pieces;
pub(crate) mod sections;
pub(crate) mod slice;
pub(crate) mod written;

mod admission;
#[cfg(test)]
pub(crate) mod arbitrary;
mod error;
mod fields;
mod head;
mod levels;
mod parts;
mod payload;

use std::sync::Arc;

use http::header::HeaderMap;

pub use self::admission::Admission;
pub use self::error::InvalidEntry;
pub use self::fields::Fields;
pub(crate) use self::fields::Purpose;
pub(crate) use self::head::NearUntil;
pub use self::head::{Part, ResponseHead};
pub use self::levels::Levels;
pub use self::parts::HeadParts;
pub use self::payload::{Payload, RemoteContent};
use crate::entry::fields::FieldLines;

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

    /// The same, with content in memory in blocks of its own: what was read from a record
    /// ([`Record::decode`](crate::store::record::Record::decode)) keeps all of that in memory otherwise. Content that has
    /// blocks of its own is not copied.
    #[must_use]
    pub fn compacted(self) -> Self {
        Self { payload: self.payload.compacted(), ..self }
    }

    /// Whether `other` is the newer word of the origin: see [`Reuse::is_older_than`](crate::semantics::reuse::Reuse::is_older_than).
    pub fn is_older_than(&self, other: &Self) -> bool {
        self.head.reuse.is_older_than(&other.head.reuse)
    }

    /// Whether it may say that it answers for other queries of its URI: a purge of one of those is about it, too.
    pub fn may_answer_for_other_queries(&self) -> bool {
        self.head.has_no_vary_search()
    }

    /// Bytes of memory that the response takes: fields, content, trailers and bookkeeping.
    pub fn weight(&self) -> usize {
        /// Two reference counts and allocator overhead of the head's and the content's blocks.
        const BOOKKEEPING: usize = 96;
        let trailers = self.payload.trailers().map_or(0, fields_weight);
        BOOKKEEPING + size_of::<Self>() + self.head.weight() + self.payload.weight() + trailers
    }
}

/// What [`HeaderMap`] takes for its entries, measured: a bucket each, an index slot each, and the values.
fn fields_weight(headers: &HeaderMap) -> usize {
    const BUCKET: usize = 112;
    let values: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    values + headers.len() * BUCKET + headers.capacity() * 8
}

/// The fields with all values in one buffer of their own. A received value is often a slice of its
/// connection's read buffer, which it would keep alive as a whole. `room` more fields fit without growing.
pub(crate) fn compact_fields(headers: &HeaderMap, room: usize) -> HeaderMap {
    FieldLines::of(headers).to_map(|_| true, room)
}
