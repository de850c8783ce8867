//! The body of a response that is being received from the inner service, together with the bytes that the cache already
//! has.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Method, Response};
use http_body::{Body, Frame, SizeHint};

use crate::body::length::LengthChecked;
use crate::entry::pieces::Run;
use crate::error::{BodyError, BoxError};
use crate::limits::calls::CallPermit;
use crate::limits::held::{Held, Shared};
use crate::semantics::framing;

type BoxBody = Pin<Box<dyn Body<Data = Bytes, Error = BodyError> + Send>>;

/// A body of the inner service: the bytes that have been prefetched, and the rest, which is checked against its length.
/// For a completion, the missing bytes of a stored part come between stored bytes.
pub(crate) struct Incoming {
    taken: Bytes,
    rest: BoxBody,
    /// Boxed: most bodies have none.
    stored: Option<Box<StoredAround>>,
}

/// The stored bytes before and after the missing part of a representation.
struct StoredAround {
    before: Run,
    is_received: bool,
    after: Run,
    _shared: Vec<Shared>,
}

impl Incoming {
    /// `declared` is the length that the body is checked against, if it is known. The call is under way until the body
    /// ends.
    pub(crate) fn new<B>(body: B, declared: Option<u64>, permit: CallPermit) -> Self
    where
        B: Body<Error: Into<BoxError>> + Send + 'static,
    {
        let rest = LengthChecked::new(body, declared).by_permit(permit);
        Self { taken: Bytes::new(), rest: Box::pin(rest), stored: None }
    }

    /// Puts `missing` bytes of content between `before` and `after`, which are stored.
    pub(crate) fn between(self, held: &Arc<Held>, before: Run, missing: u64, after: Run) -> Self {
        let large = [&before, &after].into_iter().filter_map(|run| run.content().large());
        let shared = large.map(|content| held.share(content)).collect();
        let stored = StoredAround { before, is_received: false, after, _shared: shared };
        let rest = LengthChecked::new(self.rest, Some(missing));
        Self { taken: Bytes::new(), rest: Box::pin(rest), stored: Some(Box::new(stored)) }
    }

    /// Returns prefetched bytes to the body.
    pub(crate) fn returning(mut self, taken: Bytes) -> Self {
        self.taken = taken;
        self
    }

    /// Takes the prefetched bytes out. The body then yields the rest only.
    pub(crate) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.taken)
    }
}

/// A response of the inner service to a request with `method`, with its framing repaired and its body checked against
/// its length.
pub(crate) fn received<B>(response: Response<B>, method: &Method, permit: CallPermit) -> Response<Incoming>
where
    B: Body<Error: Into<BoxError>> + Send + 'static,
{
    let (mut parts, body) = response.into_parts();
    let declared = framing::repair(method, parts.status, &mut parts.headers);
    let declared = declared.or_else(|| body.size_hint().exact());
    Response::from_parts(parts, Incoming::new(body, declared, permit))
}

impl StoredAround {
    fn poll_frame(
        &mut self,
        missing: &mut BoxBody,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(data) = self.before.next() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        while !self.is_received {
            match ready!(missing.as_mut().poll_frame(cx)) {
                None => self.is_received = true,
                Some(Err(error)) => {
                    self.is_received = true;
                    self.after = Run::default(); // nothing comes after a failure
                    return Poll::Ready(Some(Err(error)));
                }
                // Trailers describe the message that they came with.
                Some(Ok(frame)) if frame.is_trailers() => {}
                Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
            }
        }
        Poll::Ready(self.after.next().map(|data| Ok(Frame::data(data))))
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if !this.taken.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(this.take()))));
        }
        match &mut this.stored {
            Some(stored) => stored.poll_frame(&mut this.rest, cx),
            None => this.rest.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_at_end = match &self.stored {
            None => self.rest.is_end_stream(),
            Some(stored) => {
                let is_received = stored.is_received || self.rest.is_end_stream();
                stored.before.is_empty() && is_received && stored.after.is_empty()
            }
        };
        self.taken.is_empty() && is_at_end
    }

    fn size_hint(&self) -> SizeHint {
        let stored = self.stored.as_ref().map_or(0, |stored| stored.before.len() + stored.after.len());
        let (ahead, rest) = ((self.taken.len() + stored) as u64, self.rest.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(ahead));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(ahead)) {
            hint.set_upper(upper);
        }
        hint
    }
}
