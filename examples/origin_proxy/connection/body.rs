//! The content of a response, as the connection takes it.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::OpenRequest;

pin_project! {
    /// The body of a response. Its request is open until the body is dropped.
    pub struct ObservedBody<B> {
        #[pin]
        body: B,
        request: Option<OpenRequest>,
    }
}

impl<B> ObservedBody<B> {
    pub fn new(body: B, request: Option<OpenRequest>) -> Self {
        Self { body, request }
    }
}

impl<B: Body> Body for ObservedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = this.body.poll_frame(cx);
        if let Some(request) = this.request {
            request.set_waiting(frame.is_pending());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
