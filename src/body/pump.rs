//! The task that moves the frames of a response into its flight, and the whole of it into the store.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::HeaderValue;
use http_body::{Body, Frame};

use crate::body::flight::{End, Flight, Go, MOST_WAITS, Reader};
use crate::body::incoming::Incoming;
use crate::body::prefetch::Content;
use crate::entry::pieces::Pieces;
use crate::error::{BodyError, Failure};
use crate::limits::Gauges;
use crate::runtime::Runtime;
use crate::semantics::etag::{TagKind, Tagger};

/// Where the content of a flight goes.
pub(crate) trait Sink: Send + 'static {
    /// Takes the whole content, and gives it back as it is stored. It is awaited before a reader sees the end: what a client
    /// has all of is stored, or joined by those that ask for it.
    fn commit(self: Box<Self>, content: Content) -> impl Future<Output = Option<Pieces>> + Send;

    /// The content is larger than what is stored.
    fn refuse(self: Box<Self>) -> impl Future<Output = ()> + Send;
}

/// Brings the content of a response into its flight, and ends that whatever happens.
pub(crate) struct Pump {
    /// `Content-Length`, where the response has one.
    declared: Option<u64>,
    flight: Arc<Flight>,
    /// Larger content is not stored.
    most: u64,
    /// How to tag the content; `None` where it is not to be tagged.
    tag: Option<TagKind>,
}

impl Pump {
    /// A pump with a new flight, and the first reader of that.
    pub(crate) fn new(
        declared: Option<u64>,
        most: u64,
        tag: Option<TagKind>,
        gauges: &Arc<Gauges>,
    ) -> (Self, Reader) {
        let (flight, reader) = Flight::new(declared, most, gauges);
        (Self { declared, flight, most, tag }, reader)
    }

    pub(crate) fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// Takes in `body` in a task of its own. What has been taken of it goes to the readers at once.
    pub(crate) fn launch(self, runtime: &Runtime, mut body: Incoming, sink: Box<impl Sink>) {
        let taken = body.take();
        let held = if taken.is_empty() { None } else { self.hand_on(taken.clone(), taken.len() as u64) };
        drop(runtime.spawn(async move {
            if let Some(last) = self.run(taken, held, body, sink).await {
                self.flight.finish(last.held, last.end, last.stored);
            }
        }));
    }

    /// Gives a frame to the readers, but for the one by which a client knows that it has everything: that is held back.
    fn hand_on(&self, data: Bytes, received: u64) -> Option<Bytes> {
        if self.declared == Some(received) {
            return Some(data);
        }
        self.flight.push(data);
        None
    }

    /// Moves frames until the body ends; `None` when nobody is there any more to do it for. `taken` was the first of
    /// them, and is `held` back, or not.
    async fn run(
        &self,
        taken: Bytes,
        mut held: Option<Bytes>,
        mut rest: Incoming,
        sink: Box<impl Sink>,
    ) -> Option<Last> {
        let flight = &self.flight;
        let mut sink = Some(sink);
        let mut received = taken.len() as u64;
        let mut tagger = self.tag.map(|kind| Behind { frame: taken, tagger: Tagger::new(kind) });
        let mut trailers = None;
        let mut wait_for = MOST_WAITS;
        loop {
            let frame = match next_frame(&mut rest, &mut held, &mut tagger, flight).await {
                Next::End => break,
                Next::Frame(Err(error)) => {
                    // What is held back would look like the end of the whole.
                    return Some(Last { end: End::Failed(error), held: None, stored: None });
                }
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
            if received > self.most && sink.is_some() {
                flight.pass();
            }
            if flight.is_passing()
                && let Some(sink) = sink.take()
            {
                tagger = None;
                // Else it is the room for all flights that has run out, this time.
                if received > self.most {
                    Box::pin(sink.refuse()).await;
                }
            }
            let untagged = tagger.is_some().then(|| data.clone());
            held = self.hand_on(data, received);
            if held.is_none() && flight.room(&mut wait_for).await == Go::Stop {
                return None;
            }
            if let (Some(tagger), Some(data)) = (&mut tagger, untagged) {
                tagger.take(data);
            }
        }
        let mut stored = None;
        if let Some(sink) = sink.filter(|_| !flight.is_passing()) {
            let tag = tagger.map(Behind::finish);
            let content = Content { pieces: flight.content(held.as_ref()), tag, trailers: trailers.clone() };
            // Boxed, for it is large, and there is a pump for every response on its way in.
            stored = Box::pin(sink.commit(content)).await;
        }
        Some(Last { end: End::Complete(trailers.map(Arc::new)), held, stored })
    }
}

/// A panic in the body or the store, or no task at all, must not leave the readers waiting.
impl Drop for Pump {
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
    stored: Option<Pieces>,
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
async fn next_frame(
    body: &mut Incoming,
    held: &mut Option<Bytes>,
    tagger: &mut Option<Behind>,
    flight: &Arc<Flight>,
) -> Next {
    if held.is_some() && body.is_end_stream() {
        return Next::End;
    }
    let mut is_idle = false;
    std::future::poll_fn(|cx| {
        if is_idle && let Some(tagger) = tagger {
            tagger.catch_up();
        }
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            return Poll::Ready(frame.map_or(Next::End, Next::Frame));
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
