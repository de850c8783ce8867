//! Small content that is read before the answer begins, if it is available.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt;

use crate::body::incoming::Incoming;
use crate::entry::pieces::Pieces;
use crate::error::BodyError;
use crate::limits::FillLimits;
use crate::runtime::{Deadline, briefly, polled_once};
use crate::semantics::etag::{self, TagKind};

/// The complete content of a response.
pub(crate) struct Content {
    pub(crate) pieces: Pieces,
    pub(crate) tag: Option<http::HeaderValue>,
    pub(crate) trailers: Option<HeaderMap>,
}

/// How long to wait for content before the answer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitFor {
    /// Until the content is complete, but no longer than this.
    Whole(Duration),
    /// A moment for the first frame, without which there is nothing to read anyway. Content that takes longer is a
    /// stream.
    FirstFrame,
}

/// What takes longer is a stream, whatever for.
pub(crate) const LONG: Duration = Duration::from_secs(1);

impl WaitFor {
    /// Until content is whole that something needs the whole of. Followers wait meanwhile. Without a runtime there is no end
    /// to it.
    pub(crate) fn whole(limits: &FillLimits) -> Self {
        Self::Whole(LONG.min(limits.wait / 2))
    }
}

/// The result of prefetching content.
pub(crate) enum Prefetch {
    /// The rest is still to be received.
    Partial(Incoming),
    /// What was received before the body failed or turned out to be of another length, and the failure.
    Failed(Bytes, BodyError),
    Complete(Content),
}

/// Most heads arrive in one packet with the beginning of small content, or in two that follow each other.
const FIRST_FRAME_WAIT: Duration = Duration::from_millis(10);

/// Reads a small body before the answer begins. A body that turns out to be larger than `most` bytes becomes
/// [`Prefetch::Partial`].
pub(crate) async fn collect(
    mut body: Incoming,
    most: u64,
    tag: Option<TagKind>,
    wait_for: WaitFor,
) -> Prefetch {
    let mut capture = Capture::default();
    let mut deadline = None;
    let mut trailers = None;
    // A body may know that it has ended, but need a moment to say so.
    while !body.is_end_stream() {
        let frame = next_frame(&mut body);
        let frame = match wait_for {
            // Only the end can follow.
            _ if trailers.is_some() => Some(briefly(FIRST_FRAME_WAIT, frame).await.flatten()),
            WaitFor::Whole(limit) => {
                deadline.get_or_insert_with(|| Deadline::new(limit)).in_time(frame).await
            }
            WaitFor::FirstFrame if capture.len() == 0 => briefly(FIRST_FRAME_WAIT, frame).await,
            WaitFor::FirstFrame => polled_once(std::pin::pin!(frame)).await,
        };
        match frame {
            None => return Prefetch::Partial(body.returning(capture.into_bytes())),
            Some(None) => break,
            Some(Some(Err(error))) => return Prefetch::Failed(capture.into_bytes(), error),
            Some(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    capture.take(data);
                    if capture.len() as u64 > most {
                        return Prefetch::Partial(body.returning(capture.into_bytes()));
                    }
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    }
    Prefetch::Complete(capture.into_content(tag, trailers))
}

/// Reads whatever is available of a small body, without waiting for more.
pub(crate) fn at_once(mut body: Incoming, tag: Option<TagKind>) -> Prefetch {
    let mut capture = Capture::default();
    let mut trailers = None;
    // The reader of the rest registers its own waker.
    let mut nobody = Context::from_waker(Waker::noop());
    while !body.is_end_stream() {
        match Pin::new(&mut body).poll_frame(&mut nobody) {
            Poll::Pending if trailers.is_none() => {
                return Prefetch::Partial(body.returning(capture.into_bytes()));
            }
            Poll::Pending | Poll::Ready(None) => break,
            Poll::Ready(Some(Err(error))) => return Prefetch::Failed(capture.into_bytes(), error),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => capture.take(data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    }
    Prefetch::Complete(capture.into_content(tag, trailers))
}

/// The next frame that is not empty.
async fn next_frame(body: &mut Incoming) -> Option<Result<Frame<Bytes>, BodyError>> {
    loop {
        match body.frame().await {
            Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
            frame => return frame,
        }
    }
}

/// Keeps content while it is received: the first frame without copying it, because most content is one frame; more
/// frames are copied together.
#[derive(Default)]
struct Capture {
    first: Bytes,
    rest: BytesMut,
}

impl Capture {
    fn len(&self) -> usize {
        if self.rest.is_empty() { self.first.len() } else { self.rest.len() }
    }

    fn take(&mut self, data: Bytes) {
        if self.len() == 0 {
            self.first = data;
        } else {
            if self.rest.is_empty() {
                self.rest.extend_from_slice(&std::mem::take(&mut self.first));
            }
            self.rest.extend_from_slice(&data);
        }
    }

    /// All that was taken, as the whole.
    fn into_content(self, tag: Option<TagKind>, trailers: Option<HeaderMap>) -> Content {
        let bytes = self.into_bytes();
        let tag = tag.map(|kind| etag::tag_of(kind, &bytes));
        Content { pieces: Pieces::of(bytes), tag, trailers }
    }

    /// All content that was read, in one block.
    fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() { self.first } else { self.rest.freeze() }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::limits::calls::CallPermit;

    /// Frames that are there, then silence.
    struct Silent {
        frames: Vec<&'static str>,
        says_its_end: bool,
    }

    impl Body for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.frames.pop() {
                Some(frame) => Poll::Ready(Some(Ok(Frame::data(frame.into())))),
                None => Poll::Pending,
            }
        }

        fn is_end_stream(&self) -> bool {
            self.says_its_end && self.frames.is_empty()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_are_ready_are_prefetched_and_later_ones_are_not_awaited() {
        for (frames, says_its_end, expected) in [
            // A connection may need a moment to end a body that says by its length that it is at its end.
            (&["try", "pan"][..], true, Ok("pantry")),
            (&["try", "pan"], false, Err("pantry")),
            (&["pan"], false, Err("pan")),
            (&["pan", ""], false, Err("pan")),
            (&["", ""], false, Err("")),
            (&[], false, Err("")),
        ] {
            let silent = Silent { frames: frames.to_vec(), says_its_end };
            let body = Incoming::new(silent, Some(6), CallPermit::default());
            let begun = tokio::time::Instant::now();
            let found = match collect(body, 6, None, WaitFor::FirstFrame).await {
                Prefetch::Partial(mut body) => Err(body.take()),
                Prefetch::Failed(..) => panic!("{frames:?}"),
                Prefetch::Complete(content) => Ok(content.pieces.to_bytes()),
            };
            assert_eq!(found, expected.map(Bytes::from).map_err(Bytes::from), "{frames:?}");
            // Only the first of it is waited for, and not for long; empty frames are none.
            let is_none = frames.iter().all(|frame| frame.is_empty());
            let waits = if is_none {
                FIRST_FRAME_WAIT..=FIRST_FRAME_WAIT + Duration::from_millis(1)
            } else {
                Duration::ZERO..=Duration::ZERO
            };
            assert!(waits.contains(&begun.elapsed()), "{frames:?} {:?}", begun.elapsed());
        }
    }
}
