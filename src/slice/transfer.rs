//! Which slices belong together: those of one representation.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header;
use http::{HeaderValue, Response, StatusCode};
use http_body::Body;

use crate::entry::slice::{Joins, SliceAnswer, SliceFound, SliceRequest};
use crate::error::{BodyError, Failure};
use crate::semantics::coding;

/// One answer that is made of slices.
pub(super) struct Transfer {
    coding: Option<HeaderValue>,
    pub(super) first: SliceRequest,
    pub(super) found: Arc<SliceFound>,
}

/// The purge of a representation that has changed.
pub(super) type Purging = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Why a slice can't be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is not of the representation that the others are of.
    Changed,
    /// There is no answer to the request for it, or that of a failure.
    Failed,
}

impl From<Refused> for BodyError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Changed => Failure::Changed.into(),
            Refused::Failed => Failure::NoSlice.into(),
        }
    }
}

/// The slice that is being sent.
pub(super) struct Current<B> {
    /// Where the next byte of it lies in the representation.
    pub(super) at: u64,
    pub(super) body: Pin<Box<B>>,
    /// After its last byte.
    pub(super) end: u64,
    /// What came of it and is not sent yet.
    pub(super) held: Bytes,
    pub(super) index: u64,
}

impl<B> Current<B> {
    pub(super) fn new(index: u64, body: B, begin: u64, end: u64) -> Self {
        Self { at: begin, body: Box::pin(body), end, held: Bytes::new(), index }
    }
}

impl Transfer {
    /// By the answer to the request for its first slice.
    pub(super) fn new<B>(first: SliceRequest, response: &Response<B>, found: Arc<SliceFound>) -> Self {
        let coding = response.headers().get(header::CONTENT_ENCODING).cloned();
        Self { coding, first, found }
    }

    /// The request for another slice of the same representation; `None` where that has no other.
    pub(super) fn slice(&self, index: u64) -> Option<SliceRequest> {
        let validator = self.found.validator.clone()?;
        let joins = Some(Joins { fence: self.found.fence, validator });
        Some(SliceRequest { index, joins, size: self.first.size })
    }

    pub(super) fn size(&self) -> u64 {
        self.first.size
    }

    /// Purges what there is of the representation.
    pub(super) fn changed(&self) -> Purging {
        (self.found.changed)()
    }

    /// The content of another slice, where it is one of the same representation.
    pub(super) fn open<B: Body>(
        &self,
        index: u64,
        response: Option<Response<B>>,
    ) -> Result<Current<B>, Refused> {
        let mut response = response.ok_or(Refused::Failed)?;
        let own = |name| response.headers().get(name).map(HeaderValue::as_bytes);
        let is_same_coding =
            coding::is_same(own(header::CONTENT_ENCODING), self.coding.as_ref().map(HeaderValue::as_bytes));
        match response.extensions_mut().remove() {
            Some(SliceAnswer::Slice(slice))
                if is_same_coding
                    && slice.length == self.found.length
                    && slice.validator == self.found.validator =>
            {
                Ok(self.current(index, response.into_body()))
            }
            Some(_) => Err(Refused::Changed),
            None if says_that_it_is_gone(response.status()) => Err(Refused::Changed),
            // Of a request that is kept from the cache by now, or of an origin that refuses this client: the others may have what
            // is stored.
            None => Err(Refused::Failed),
        }
    }

    pub(super) fn current<B>(&self, index: u64, body: B) -> Current<B> {
        let begin = index.saturating_mul(self.size());
        Current::new(index, body, begin, begin.saturating_add(self.size()).min(self.found.length))
    }
}

/// Whether there is nothing any more of which the slices were. Other errors may concern a client alone (401, 403), or pass (429).
fn says_that_it_is_gone(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND
            | StatusCode::GONE
            | StatusCode::MOVED_PERMANENTLY
            | StatusCode::PERMANENT_REDIRECT
    )
}
