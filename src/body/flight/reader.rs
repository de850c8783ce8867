//! A reader of a flight: the body of one client.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{End, Flight};
use crate::error::{BodyError, Failure};
use crate::runtime::{lock, moment};

/// Reads a flight from its first byte on.
pub(crate) struct Reader {
    /// `None` after the end, clean or not: the reader holds nothing any more.
    seat: Option<Seat>,
}

/// A reader's place among those of its flight.
struct Seat {
    flight: Arc<Flight>,
    number: usize,
}

impl Reader {
    pub(super) fn new(flight: Arc<Flight>, number: usize) -> Self {
        Self { seat: Some(Seat { flight, number }) }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(seat) = &self.seat else {
            return Poll::Ready(None);
        };
        let data = match seat.poll_data(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(data) => data,
        };
        let end = match data {
            Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
            Err(end) => end,
        };
        self.seat = None;
        Poll::Ready(match end {
            End::Complete(trailers) => {
                trailers.map(|trailers| Ok(Frame::trailers(trailers.as_ref().clone())))
            }
            End::Failed(error) => Some(Err(error)),
        })
    }

    /// Reads until all content has been received, or the flight has stopped storing. Returns whether the content is
    /// complete.
    pub(crate) async fn settled(mut self) -> bool {
        while let Some(frame) = std::future::poll_fn(|cx| self.poll_frame(cx)).await {
            if frame.is_err() || self.seat.as_ref().is_some_and(|seat| seat.flight.is_passing()) {
                return false;
            }
        }
        true
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        let Some(Seat { flight, number }) = &self.seat else {
            return true;
        };
        let state = lock(&flight.state);
        match (state.readers.get(*number), &state.end) {
            (Some(reader), Some(End::Complete(None))) => {
                !reader.is_cut_off && reader.position == state.buffer.received()
            }
            _ => false,
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let left = self.seat.as_ref().and_then(|Seat { flight, number }| {
            let (declared, state) = (flight.declared?, lock(&flight.state));
            let reader = state.readers.get(*number).filter(|reader| !reader.is_cut_off)?;
            declared.checked_sub(reader.position)
        });
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Seat {
    /// What comes next, or the end.
    fn poll_data(&self, cx: &mut Context<'_>) -> Poll<Result<Bytes, End>> {
        let mut state = lock(&self.flight.state);
        let state = &mut *state;
        let Some(reader) = state.readers.get(self.number) else {
            return Poll::Ready(Err(End::Complete(None)));
        };
        if reader.is_cut_off {
            return Poll::Ready(Err(End::Failed(Failure::TooSlow.into())));
        }
        let position = reader.position;
        let data = state.from(position);
        let Some(reader) = state.readers.get_mut(self.number) else {
            return Poll::Ready(Err(End::Complete(None)));
        };
        match (data, &state.end) {
            (Some(data), _) => {
                reader.position += data.len() as u64;
                reader.since = Some(moment());
                if let Some(pump) = state.pump.take() {
                    pump.wake();
                }
                Poll::Ready(Ok(data))
            }
            (None, Some(end)) => Poll::Ready(Err(end.clone())),
            (None, None) => {
                reader.waker = Some(cx.waker().clone());
                reader.since = None;
                Poll::Pending
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = lock(&self.flight.state);
        state.readers.remove(self.number);
        state.drop_what_is_done(&self.flight.gauges);
        let pump = state.pump.take();
        drop(state);
        if let Some(pump) = pump {
            pump.wake();
        }
    }
}
