//! A body that is checked against the length that its message declares.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::error::{BodyError, BoxError, Failure};
use crate::limits::calls::CallPermit;

/// A frame with its data as `Bytes`, without copying if they are `Bytes` already.
pub(crate) fn into_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

pin_project! {
    /// A body of the inner service. It ends with an error if it has less or more content than declared, and yields
    /// nothing after an error.
    pub(crate) struct LengthChecked<B> {
        #[pin]
        body: B,
        declared: Option<u64>,
        has_ended: bool,
        permit: CallPermit,
        received: u64,
    }
}

impl<B> LengthChecked<B> {
    /// `declared` is the length that the body is checked against; `None` if it is not known.
    pub(crate) fn new(body: B, declared: Option<u64>) -> Self {
        Self { body, declared, has_ended: false, permit: CallPermit::default(), received: 0 }
    }

    /// Keeps the permit until the body has ended.
    pub(crate) fn by_permit(mut self, permit: CallPermit) -> Self {
        self.permit = permit;
        self
    }

    /// The number of bytes that are left.
    fn left(&self) -> Option<u64> {
        self.declared.map(|declared| declared.saturating_sub(self.received))
    }

    fn is_short(declared: Option<u64>, received: u64) -> Option<Failure> {
        let declared = declared.filter(|&declared| received < declared)?;
        Some(Failure::Short { declared, received })
    }
}

impl<B> Body for LengthChecked<B>
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
        let this = self.project();
        if *this.has_ended {
            return Poll::Ready(None);
        }
        let frame = match ready!(this.body.poll_frame(cx)) {
            Some(Ok(frame)) => into_bytes(frame),
            Some(Err(error)) => {
                (*this.has_ended, *this.permit) = (true, CallPermit::default());
                return Poll::Ready(Some(Err(BodyError::inner(error))));
            }
            None => {
                (*this.has_ended, *this.permit) = (true, CallPermit::default());
                let short = Self::is_short(*this.declared, *this.received);
                return Poll::Ready(short.map(|short| Err(short.into())));
            }
        };
        let failure = match frame.data_ref() {
            Some(data) => {
                *this.received += data.len() as u64;
                let overrun = this.declared.filter(|&declared| *this.received > declared);
                overrun.map(|declared| Failure::Overrun { declared })
            }
            // No content follows trailers.
            None => Self::is_short(*this.declared, *this.received),
        };
        Poll::Ready(Some(match failure {
            Some(failure) => {
                (*this.has_ended, *this.permit) = (true, CallPermit::default());
                Err(failure.into())
            }
            None => Ok(frame),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || (self.left().unwrap_or_default() == 0 && self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match self.left() {
            Some(left) if !self.has_ended => SizeHint::with_exact(left),
            _ if self.has_ended => SizeHint::with_exact(0),
            _ => self.body.size_hint(),
        }
    }
}
