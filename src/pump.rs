//! The task that moves the frames of a response into its flight, and the whole of it into the store.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::HeaderValue;
use http_body::{Body, Frame};

use crate::collect::{Begun, Content, into_bytes};
use crate::error::{BodyError, BoxError, Failure};
use crate::flight::{End, Flight, Go, MOST_WAITS};
use crate::semantics::etag::{TagKind, Tagger};
use crate::sync::Runtime;

/// What the pump needs to know of the response.
pub(crate) struct Intake {
    /// `Content-Length`, where the response has one.
    pub(crate) declared: Option<u64>,
    /// Larger content is not stored.
    pub(crate) most: u64,
    /// How to tag the content; `None` where it is not to be tagged.
    pub(crate) tag: Option<TagKind>,
    /// The beginning of the content, where that is in the flight already.
    pub(crate) taken: Bytes,
}

/// Where the content of a flight goes.
pub(crate) trait Sink: Send + 'static {
    /// Takes the whole content, and gives it back as it is stored. It is awaited before a reader sees the end: a client
    /// that has its answer finds it stored.
    fn commit(self: Box<Self>, content: Content) -> impl Future<Output = Option<Bytes>> + Send;

    /// The content is larger than what is stored.
    fn refuse(self: Box<Self>);
}

/// Takes in `body` in a task of its own. What of it is there already is in the flight when this returns.
pub(crate) fn launch<B>(
    runtime: &Runtime,
    mut body: Begun<B>,
    mut intake: Intake,
    flight: Arc<Flight>,
    sink: Box<impl Sink>,
) where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let taken = body.taken.len() as u64;
    if taken > 0 && intake.declared != Some(taken) {
        intake.taken = std::mem::take(&mut body.taken);
        flight.push(intake.taken.clone());
    }
    // A panic in the body or the store must not leave the readers waiting.
    let landing = Landing { flight };
    drop(runtime.spawn(async move {
        if let Some(last) = pump(body, intake, &landing.flight, sink).await {
            landing.flight.finish(last.held, last.end, last.stored);
        }
    }));
}

/// Ends a flight whatever happens to its pump.
struct Landing {
    flight: Arc<Flight>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        if !self.flight.has_ended() {
            self.flight.finish(None, End::Failed(Failure::Abandoned.into()), None);
        }
    }
}

/// How a flight ends.
struct Last {
    end: End,
    /// The last frame, which is held back until the content is stored.
    held: Option<Bytes>,
    stored: Option<Bytes>,
}

impl Last {
    fn failed(error: BodyError) -> Option<Self> {
        // What is held back would look like the end of the whole.
        Some(Self { end: End::Failed(error), held: None, stored: None })
    }
}

/// Moves frames until the body ends; `None` when nobody is there any more to do it for.
async fn pump<B>(body: B, intake: Intake, flight: &Flight, sink: Box<impl Sink>) -> Option<Last>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let mut body = pin!(body);
    let mut sink = Some(sink);
    let mut received = intake.taken.len() as u64;
    let mut tagger = intake.tag.map(|kind| Behind { frame: intake.taken, tagger: Tagger::new(kind) });
    let mut trailers = None;
    let mut held: Option<Bytes> = None;
    let mut patience = MOST_WAITS;
    loop {
        let frame = match next_frame(body.as_mut(), &mut held, &mut tagger, flight).await {
            Next::End => break,
            Next::Frame(Err(error)) => return Last::failed(error),
            Next::Frame(Ok(frame)) => frame,
            Next::Nobody => return None,
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
            return Last::failed(Failure::Overrun { declared }.into());
        }
        if received > intake.most && sink.is_some() {
            flight.pass();
        }
        if flight.is_passing()
            && let Some(sink) = sink.take()
        {
            tagger = None;
            // Else it is the room for all flights that has run out, this time.
            if received > intake.most {
                sink.refuse();
            }
        }
        let untagged = tagger.is_some().then(|| data.clone());
        if intake.declared == Some(received) {
            // The frame by which a client knows that it has everything.
            held = Some(data);
        } else {
            flight.push(data);
            if flight.room(&mut patience).await == Go::Stop {
                return None;
            }
        }
        if let (Some(tagger), Some(data)) = (&mut tagger, untagged) {
            tagger.take(data);
        }
    }
    if let Some(declared) = intake.declared.filter(|&declared| declared != received) {
        return Last::failed(Failure::Short { declared, received }.into());
    }
    let mut stored = None;
    if let Some(sink) = sink.filter(|_| !flight.is_passing()) {
        let tag = tagger.map(Behind::finish);
        let content = Content { bytes: flight.content(held.as_ref()), tag, trailers: trailers.clone() };
        // Boxed, for it is large, and there is a pump for every response on its way in.
        stored = Box::pin(sink.commit(content)).await;
    }
    Some(Last { end: End::Complete(trailers.map(Arc::new)), held, stored })
}

/// Tags content a frame behind its readers: what is new goes to them first.
struct Behind {
    frame: Bytes,
    tagger: Tagger,
}

impl Behind {
    fn take(&mut self, data: Bytes) {
        self.catch_up();
        self.frame = data;
    }

    fn is_behind(&self) -> bool {
        !self.frame.is_empty()
    }

    fn catch_up(&mut self) {
        self.tagger.update(&std::mem::take(&mut self.frame));
    }

    fn finish(mut self) -> HeaderValue {
        self.catch_up();
        self.tagger.finish()
    }
}

enum Next {
    End,
    Frame(Result<Frame<Bytes>, BodyError>),
    Nobody,
}

/// The next frame. A frame that is held back goes out when the body, having all its declared bytes, does
/// not say at once that it is at its end. While there is nothing to take in, the tagger catches up.
async fn next_frame<B>(
    mut body: Pin<&mut B>,
    held: &mut Option<Bytes>,
    tagger: &mut Option<Behind>,
    flight: &Flight,
) -> Next
where
    B: Body,
    B::Error: Into<BoxError>,
{
    if held.is_some() && body.is_end_stream() {
        return Next::End;
    }
    let mut is_idle = false;
    std::future::poll_fn(|cx| {
        if is_idle && let Some(tagger) = tagger {
            tagger.catch_up();
        }
        if let Poll::Ready(frame) = body.as_mut().poll_frame(cx) {
            return Poll::Ready(
                frame.map_or(Next::End, |frame| Next::Frame(frame.map(into_bytes).map_err(BodyError::inner))),
            );
        }
        if let Some(data) = held.take() {
            flight.push(data);
        }
        if !is_idle && tagger.as_ref().is_some_and(Behind::is_behind) {
            // The readers have their turn first.
            is_idle = true;
            cx.waker().wake_by_ref();
        }
        if flight.waits_for_nobody(cx) { Poll::Ready(Next::Nobody) } else { Poll::Pending }
    })
    .await
}
