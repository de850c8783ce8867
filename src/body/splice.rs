//! A body in three pieces: stored bytes, what is on its way in, stored bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::body::length::LengthChecked;
use crate::entry::pieces::Run;
use crate::error::{BodyError, BoxError};
use crate::limits::held::{Held, Shared};

pin_project! {
    /// The missing part of a representation, received between two that are stored.
    pub(crate) struct Splice<B> {
        before: Run,
        #[pin]
        missing: LengthChecked<B>,
        is_received: bool,
        after: Run,
        _shared: Vec<Shared>,
    }
}

impl<B> Splice<B> {
    /// `declared` bytes of `missing` go between `before` and `after`.
    pub(crate) fn new(held: &Arc<Held>, before: Run, missing: B, declared: u64, after: Run) -> Self {
        let large = [&before, &after].into_iter().filter_map(|run| run.content().large());
        let shared = large.map(|content| held.share(content)).collect();
        let missing = LengthChecked::new(missing, Some(declared));
        Self { before, missing, is_received: false, after, _shared: shared }
    }
}

impl<B> Body for Splice<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut this = self.project();
        if let Some(data) = this.before.next() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        while !*this.is_received {
            match ready!(this.missing.as_mut().poll_frame(cx)) {
                None => *this.is_received = true,
                Some(Err(error)) => {
                    *this.is_received = true;
                    *this.after = Run::default(); // nothing comes after a failure
                    return Poll::Ready(Some(Err(error)));
                }
                // Trailers speak of the message that they came with.
                Some(Ok(frame)) if frame.is_trailers() => {}
                Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
            }
        }
        Poll::Ready(this.after.next().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        let is_received = self.is_received || self.missing.is_end_stream();
        self.before.is_empty() && is_received && self.after.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let stored = (self.before.len() + self.after.len()) as u64;
        SizeHint::with_exact(stored + self.missing.left().unwrap_or_default())
    }
}
