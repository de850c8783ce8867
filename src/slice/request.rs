//! The body of a request that goes on.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The request body that [`SliceService`](crate::SliceService) passes on: the one that it received, or none, since a request
    /// for a slice has no content.
    pub struct SliceBody<Q> {
        #[pin]
        body: Option<Q>,
    }
}

impl<Q> SliceBody<Q> {
    pub(super) fn of(body: Q) -> Self {
        Self { body: Some(body) }
    }

    pub(super) fn nothing() -> Self {
        Self { body: None }
    }
}

impl<Q: Body> Body for SliceBody<Q> {
    type Data = Q::Data;
    type Error = Q::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Q::Data>, Q::Error>>> {
        match self.project().body.as_pin_mut() {
            Some(body) => body.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<Q> Default for SliceBody<Q> {
    fn default() -> Self {
        Self::nothing()
    }
}

impl<Q> std::fmt::Debug for SliceBody<Q> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SliceBody").finish_non_exhaustive()
    }
}
