//! Content that goes into a store piece by piece, and comes out of it likewise.

use std::fmt;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};

use super::PutOutcome;
use crate::entry::ResponseHead;
use crate::error::{BodyError, BoxError, StoreError};

/// What a call of a store behind a `dyn` gives.
pub(super) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The content of a stored response, opened by [`Store::open`](crate::Store::open).
///
/// The cache reads it frame by frame, as the client takes it. It ends with an error where the store's body does.
pub struct StoredBody(Pin<Box<dyn Body<Data = Bytes, Error = BodyError> + Send>>);

impl StoredBody {
    /// Content from a body. Trailers in it do not count: those of a response are in its
    /// [`Payload`](crate::Payload::trailers).
    pub fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        Self(Box::pin(body.map_err(BodyError::inner)))
    }
}

/// Content that is in memory.
impl From<Bytes> for StoredBody {
    fn from(content: Bytes) -> Self {
        Self::new(Full::new(content))
    }
}

impl Body for StoredBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.as_mut().poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl fmt::Debug for StoredBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoredBody").field(&self.size_hint()).finish()
    }
}

/// What became of a [`Store::begin`](crate::Store::begin).
#[non_exhaustive]
pub enum BeginOutcome {
    /// The store takes this content whole, by [`Store::put`](crate::Store::put), if it fits into memory.
    PutWhole,
    /// It would not be stored, and why.
    Refused(PutOutcome),
    /// Takes the content.
    Writer(Box<dyn ContentWriter>),
}

impl fmt::Debug for BeginOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutWhole => f.write_str("PutWhole"),
            Self::Refused(outcome) => f.debug_tuple("Refused").field(outcome).finish(),
            Self::Writer(_) => f.write_str("Writer(..)"),
        }
    }
}

/// Takes content while it comes.
///
/// Dropped before [`ContentWriter::commit`] has returned, it leaves nothing behind; until then, nobody who reads the store
/// sees any of it. It is dropped where the content breaks off, where a later call is to bring what is stored, and where the
/// store has failed.
pub trait ContentWriter: Send {
    /// Takes the next bytes. `Break` says that the response will not be stored, and why: no more is to be written.
    ///
    /// The cache writes pieces of 64 KiB, each in memory of its own, and at the end what is left. It goes on at the pace of the
    /// store: while this waits, some of the content is kept in memory ([`FillLimits`](crate::FillLimits::in_flight)). When there
    /// is more, clients wait for up to a second, and then the writer is dropped.
    fn write(&mut self, data: Bytes) -> BoxFuture<'_, ControlFlow<PutOutcome>>;

    /// Stores the response, whose content is whole now. Purges count as in [`Store::put`](crate::Store::put), with the
    /// fence that [`Store::begin`](crate::Store::begin) was given.
    fn commit(
        self: Box<Self>,
        head: ResponseHead,
        trailers: Option<HeaderMap>,
    ) -> BoxFuture<'static, PutOutcome>;
}
