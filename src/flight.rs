//! One response on its way in: its content goes to whoever reads it and, whole, to the store.
//!
//! Streaming -> Complete | Failed. A task of its own, the pump, moves frames from the inner body into the
//! flight, and the client's body takes them from there at its own pace. While the content is to be stored the pump
//! goes on at the origin's pace, short of a flood of tiny frames; once it turns out too large to store, it waits for its
//! reader.
//!
//! Invariant: a reader sees the clean end of a body only after the inner body has come to its own.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::error::{BodyError, BoxError, Failure};
use crate::semantics::etag::{TagKind, Tagger};

/// How many bytes the pump may be ahead of its reader when content is only passed on.
const AHEAD: usize = 256 * 1024;

/// How many frames it may be ahead in any case: a frame of one byte takes the room of many.
const MOST_FRAMES: usize = 16 * 1024;

/// The content of a response, whole.
pub(crate) struct Content {
    pub(crate) bytes: Bytes,
    pub(crate) tag: Option<http::HeaderValue>,
    pub(crate) trailers: Option<HeaderMap>,
}

/// What the pump needs to know of the response.
pub(crate) struct Intake {
    /// `Content-Length`, where the response has one.
    pub(crate) declared: Option<u64>,
    /// Larger content is not stored.
    pub(crate) most: u64,
    /// How to tag the content; `None` where it is not to be tagged.
    pub(crate) tag: Option<TagKind>,
}

/// The buffer between the pump and its reader.
#[derive(Default)]
struct Flight {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bytes in `frames`.
    ahead: usize,
    end: Option<End>,
    /// What the reader has not taken yet.
    frames: VecDeque<Bytes>,
    /// Nothing is stored any more: the content is only passed on.
    passing: bool,
    pump: Option<Waker>,
    reader: Option<ReaderState>,
}

#[derive(Clone)]
enum End {
    Complete(Option<Arc<HeaderMap>>),
    Failed(BodyError),
}

#[derive(Default)]
struct ReaderState {
    has_read: bool,
    waker: Option<Waker>,
}

impl Flight {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, data: Bytes) {
        let mut state = self.lock();
        state.push(data);
        state.wake_reader();
    }

    /// From now on the pump waits for its reader.
    fn pass(&self) {
        self.lock().passing = true;
    }

    fn finish(&self, last: Option<Bytes>, end: End) {
        let mut state = self.lock();
        if let Some(last) = last {
            state.push(last);
        }
        state.end = Some(end);
        state.wake_reader();
    }

    /// Waits until the reader has taken enough; `false` when it has left and content is only passed on.
    async fn wait_for_reader(&self) -> bool {
        std::future::poll_fn(|cx| {
            let mut state = self.lock();
            if state.reader.is_none() {
                return Poll::Ready(!state.passing);
            }
            let is_far_ahead = state.passing && state.ahead > AHEAD;
            if !is_far_ahead && state.frames.len() < MOST_FRAMES {
                return Poll::Ready(true);
            }
            state.pump = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl State {
    fn push(&mut self, data: Bytes) {
        // Without a reader nobody will ever take it from here.
        if self.reader.is_some() {
            self.ahead += data.len();
            self.frames.push_back(data);
        }
    }

    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.as_mut().and_then(|reader| reader.waker.take()) {
            waker.wake();
        }
    }

    fn wake_pump(&mut self) {
        if let Some(pump) = self.pump.take() {
            pump.wake();
        }
    }
}

/// Reads a flight from its first frame on.
pub(crate) struct Reader {
    flight: Arc<Flight>,
    declared: Option<u64>,
}

impl Reader {
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.flight.lock();
        let state = &mut *state;
        let Some(reader) = state.reader.as_mut() else {
            return Poll::Ready(None);
        };
        if let Some(frame) = state.frames.pop_front() {
            reader.has_read = true;
            state.ahead -= frame.len();
            state.wake_pump();
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        match &state.end {
            None => {
                reader.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(end) => {
                let last = match end {
                    End::Complete(None) => None,
                    End::Complete(Some(trailers)) => Some(Ok(Frame::trailers(trailers.as_ref().clone()))),
                    End::Failed(error) => Some(Err(error.clone())),
                };
                state.reader = None;
                Poll::Ready(last)
            }
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        let state = self.flight.lock();
        match (&state.reader, &state.end) {
            (None, _) => true,
            (Some(_), Some(End::Complete(None))) => state.frames.is_empty(),
            _ => false,
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let Some(declared) = self.declared else {
            return SizeHint::default();
        };
        let state = self.flight.lock();
        // Only the first frame's size hint matters to a server, which asks before it reads.
        match &state.reader {
            Some(reader) if !reader.has_read => SizeHint::with_exact(declared),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.flight.lock();
        state.reader = None;
        state.frames.clear();
        state.wake_pump();
    }
}

/// Takes in `body` in a task of its own. `commit` gets the whole content, and what it returns is awaited
/// before the reader sees the end: a client that has its answer finds it stored.
///
/// # Errors
///
/// Gives the body back when there is no runtime to run the task.
pub(crate) fn launch<B, C>(
    body: B,
    intake: Intake,
    commit: impl FnOnce(Content) -> C + Send + 'static,
) -> Result<Reader, B>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    C: Future<Output = ()> + Send,
{
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return Err(body);
    };
    let flight = Arc::new(Flight::default());
    flight.lock().reader = Some(ReaderState::default());
    let reader = Reader { flight: Arc::clone(&flight), declared: intake.declared };
    runtime.spawn(async move {
        // A panic in the body or the store must not leave the reader waiting.
        let landing = Landing { flight };
        let end = pump(body, &intake, &landing.flight, commit).await;
        if let Some((last, end)) = end {
            landing.flight.finish(last, end);
        }
    });
    Ok(reader)
}

/// Ends a flight whatever happens to its pump.
struct Landing {
    flight: Arc<Flight>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        if self.flight.lock().end.is_none() {
            let end = End::Failed(Failure::Abandoned.into());
            self.flight.finish(None, end);
        }
    }
}

/// Moves frames until the body ends. Gives the last frame, which is held back until the content is
/// stored, and the end; `None` when nobody is there any more to read what is only passed on.
async fn pump<B, C>(
    body: B,
    intake: &Intake,
    flight: &Flight,
    commit: impl FnOnce(Content) -> C,
) -> Option<(Option<Bytes>, End)>
where
    B: Body,
    B::Error: Into<BoxError>,
    C: Future<Output = ()>,
{
    let mut body = pin!(body);
    let mut capture = Some(Capture::new(intake.tag));
    let mut received = 0u64;
    let mut trailers = None;
    let mut held: Option<Bytes> = None;
    loop {
        let frame = match next_frame(body.as_mut(), &mut held, flight).await {
            None => break,
            // What is held back would look like the end of the whole.
            Some(Err(error)) => return Some((None, End::Failed(error))),
            Some(Ok(frame)) => frame,
        };
        let data = match frame.into_data() {
            // An empty frame would take the place of one that is held back.
            Ok(data) if data.is_empty() => continue,
            Ok(data) => data,
            Err(frame) => {
                trailers = frame.into_trailers().ok();
                continue;
            }
        };
        received = received.saturating_add(data.len() as u64);
        if let Some(declared) = intake.declared.filter(|&declared| received > declared) {
            return Some((None, End::Failed(Failure::Overrun { declared }.into())));
        }
        if received > intake.most && capture.take().is_some() {
            flight.pass();
        }
        if let Some(capture) = &mut capture {
            capture.take(data.clone());
        }
        if !flight.wait_for_reader().await {
            return None;
        }
        if intake.declared == Some(received) {
            // The frame by which a client knows that it has everything.
            held = Some(data);
        } else {
            flight.push(data);
        }
    }
    if let Some(declared) = intake.declared.filter(|&declared| declared != received) {
        return Some((None, End::Failed(Failure::Short { declared, received }.into())));
    }
    if let Some(capture) = capture {
        commit(capture.finish(trailers.clone())).await;
    }
    Some((held, End::Complete(trailers.map(Arc::new))))
}

/// The next frame. A frame that is held back goes out when the body, having all its declared bytes, does
/// not say at once that it is at its end.
async fn next_frame<B>(
    mut body: Pin<&mut B>,
    held: &mut Option<Bytes>,
    flight: &Flight,
) -> Option<Result<Frame<Bytes>, BodyError>>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    if held.is_some() && body.is_end_stream() {
        return None;
    }
    std::future::poll_fn(|cx| {
        let frame = body.as_mut().poll_frame(cx);
        if frame.is_pending()
            && let Some(data) = held.take()
        {
            flight.push(data);
        }
        frame
    })
    .await
    .map(|frame| frame.map(into_bytes).map_err(BodyError::inner))
}

/// A frame with its data as `Bytes`: without copying where they are `Bytes` already.
pub(crate) fn into_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

/// Keeps content while it passes by: the first frame as it is, for most content is one; more are copied together.
pub(crate) struct Capture {
    first: Bytes,
    rest: BytesMut,
    tagger: Option<Tagger>,
}

impl Capture {
    pub(crate) fn new(tag: Option<TagKind>) -> Self {
        Self { first: Bytes::new(), rest: BytesMut::new(), tagger: tag.map(Tagger::new) }
    }

    fn len(&self) -> usize {
        if self.rest.is_empty() { self.first.len() } else { self.rest.len() }
    }

    pub(crate) fn take(&mut self, data: Bytes) {
        if let Some(tagger) = &mut self.tagger {
            tagger.update(&data);
        }
        if self.len() == 0 {
            self.first = data;
        } else {
            if self.rest.is_empty() {
                self.rest.extend_from_slice(&std::mem::take(&mut self.first));
            }
            self.rest.extend_from_slice(&data);
        }
    }

    /// All that was taken, in one piece.
    fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() { self.first } else { self.rest.freeze() }
    }

    pub(crate) fn finish(mut self, trailers: Option<HeaderMap>) -> Content {
        let tag = self.tagger.take().map(|tagger| tagger.finish());
        Content { bytes: self.into_bytes(), tag, trailers }
    }
}

/// Takes in a body whose length is known and small before anything is answered.
///
/// # Errors
///
/// What was received before the body failed or turned out to be of another length, and the failure.
pub(crate) async fn collect<B>(
    body: B,
    declared: u64,
    tag: Option<TagKind>,
) -> Result<Content, (Bytes, BodyError)>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let mut body = pin!(body);
    let mut capture = Capture::new(tag);
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => into_bytes(frame),
            Err(error) => return Err((capture.into_bytes(), BodyError::inner(error))),
        };
        match frame.into_data() {
            Ok(data) => {
                if capture.len() as u64 + data.len() as u64 > declared {
                    return Err((capture.into_bytes(), Failure::Overrun { declared }.into()));
                }
                capture.take(data);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    let received = capture.len() as u64;
    if received != declared {
        return Err((capture.into_bytes(), Failure::Short { declared, received }.into()));
    }
    Ok(capture.finish(trailers))
}
