//! The content of a client's request, which has to make progress.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use pin_project_lite::pin_project;
use thiserror::Error;
use tokio::time::{Sleep, sleep};

/// Why a client's content ends early.
#[derive(Debug, Error)]
pub enum ContentError {
    #[error("the client's content breaks off: {0}")]
    Broken(#[from] hyper::Error),
    #[error("the client's content stalls")]
    Stalled,
}

pin_project! {
    /// Content of a client. It fails when it is polled and no frame comes for `stall`. How long it takes in all does not
    /// matter, nor how long it is not polled.
    pub struct RequestContent<B = Incoming> {
        #[pin]
        body: Option<B>,
        late: Option<Pin<Box<Sleep>>>,
        stall: Duration,
    }
}

impl<B> RequestContent<B> {
    pub fn new(body: B, stall: Duration) -> Self {
        Self { body: Some(body), late: None, stall }
    }
}

impl<B> Default for RequestContent<B> {
    /// None.
    fn default() -> Self {
        Self { body: None, late: None, stall: Duration::ZERO }
    }
}

impl<B> Body for RequestContent<B>
where
    B: Body<Data = Bytes>,
    ContentError: From<B::Error>,
{
    type Data = Bytes;
    type Error = ContentError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ContentError>>> {
        let this = self.project();
        let Some(body) = this.body.as_pin_mut() else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = body.poll_frame(cx) {
            *this.late = None;
            return Poll::Ready(frame.map(|frame| Ok(frame?)));
        }
        let late = this.late.get_or_insert_with(|| Box::pin(sleep(*this.stall)));
        ready!(late.as_mut().poll(cx));
        Poll::Ready(Some(Err(ContentError::Stalled)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}
