//! The task that moves the frames of a response into its flight, and the complete content into the store.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};

use crate::body::flight::{Complete, End, Flight, Go, MOST_WAITS, PATIENCE, Reader};
use crate::body::incoming::Incoming;
use crate::entry::pieces::Pieces;
use crate::error::{BodyError, Failure};
use crate::limits::Gauges;
use crate::runtime::Runtime;
use crate::semantics::etag::{TagKind, Tagger};

/// Where the content of a flight goes.
pub(crate) trait Sink: Send + 'static {
    /// Lets the store take what is there, where it takes content while it comes. Ready when it takes nothing more before all has
    /// come in, and why; it is not polled again then.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Unwritten>;

    /// Stores the content, and gives it back as it is stored, where it is in memory. It is awaited before a reader sees the end:
    /// what a client has all of is stored, or joined by those that ask for it.
    fn commit(self: Box<Self>, content: Received) -> impl Future<Output = Option<Pieces>> + Send;

    /// The content is larger than what is stored.
    fn refuse(self: Box<Self>) -> impl Future<Output = ()> + Send;

    /// The store has held up whoever reads for longer than `limit`.
    fn give_up(self: Box<Self>, limit: Duration);
}

/// Why a store takes no content while it comes, or no more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwritten {
    /// The store has failed.
    Failed,
    /// A purge or a newer response came first.
    Superseded,
    TooLarge,
    /// The store wants the whole.
    Whole,
}

/// Content that has come in whole.
pub(crate) struct Received {
    pub(crate) content: Complete,
    pub(crate) tag: Option<HeaderValue>,
    pub(crate) trailers: Option<HeaderMap>,
}

/// How much of a response is kept in memory, and how much is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// So much is kept, where the store takes it while it comes.
    pub(crate) kept: u64,
    /// The store takes it while it comes.
    pub(crate) is_streamed: bool,
    /// Larger content is not stored.
    pub(crate) most: u64,
}

/// Moves the content of a response into its flight, and ends the flight whatever happens.
pub(crate) struct Pump {
    bounds: Bounds,
    /// `Content-Length`, if the response has one.
    declared: Option<u64>,
    flight: Arc<Flight>,
    /// How to generate the entity tag; `None` if there is to be none.
    tag: Option<TagKind>,
}

impl Pump {
    /// A pump with a new flight, and the flight's first reader.
    pub(crate) fn new(
        declared: Option<u64>,
        bounds: Bounds,
        tag: Option<TagKind>,
        gauges: &Arc<Gauges>,
    ) -> (Self, Reader) {
        let kept = if bounds.is_streamed { bounds.kept.min(bounds.most) } else { bounds.most };
        let (flight, reader) = Flight::new(declared, kept, bounds.is_streamed, gauges);
        (Self { bounds, declared, flight, tag }, reader)
    }

    pub(crate) fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// Reads `body` in a task of its own. The bytes that were prefetched go to the readers at once.
    pub(crate) fn launch(self, runtime: &Runtime, mut body: Incoming, sink: Box<impl Sink>) {
        let taken = body.take();
        let begun = Begun {
            left: self.hand_on(taken.clone(), taken.len() as u64),
            received: taken.len() as u64,
            taken,
        };
        drop(runtime.spawn(async move {
            if let Some(last) = self.run(begun, body, sink).await {
                self.flight.finish(last.held, last.end, last.stored);
            }
        }));
    }

    /// Gives a frame to the readers, except the last one, by which a client knows that it has everything: that one is
    /// returned, to be held back.
    fn hand_on(&self, data: Bytes, received: u64) -> Left {
        if data.is_empty() {
            return Left::Nothing;
        }
        if self.declared == Some(received) {
            return Left::HeldBack(data);
        }
        self.flight.push(data).map_or(Left::Nothing, Left::Unpushed)
    }

    /// Moves frames until the body ends; `None` when nobody is there any more to do it for.
    async fn run<S: Sink>(&self, begun: Begun, mut rest: Incoming, sink: Box<S>) -> Option<Last> {
        let flight = &self.flight;
        let mut store = StoreEnd::new(sink, self.bounds);
        let Begun { left, mut received, taken } = begun;
        let mut tagger = self.tag.map(Tagger::new);
        // Here as below, content is tagged when its readers have it.
        tagger.iter_mut().for_each(|tagger| tagger.update(&taken));
        drop(taken);
        let mut held = store.make_room(flight, left).await;
        let mut trailers = None;
        let mut wait_for = MOST_WAITS;
        loop {
            let next = next_frame(&mut rest, &mut held, flight);
            let frame = match store.during(flight, next).await {
                Next::End => break,
                Next::Frame(Err(error)) => {
                    // The frame that is held back would look like the end of complete content.
                    return Some(Last { end: End::Failed(error), held: None, stored: None });
                }
                Next::Frame(Ok(frame)) => frame,
                Next::Nobody => return None,
                Next::Unpushed(data) => {
                    store.make_room(flight, Left::Unpushed(data)).await;
                    continue;
                }
            };
            let data = match frame.into_data() {
                // An empty frame would replace the one that is held back.
                Ok(data) if data.is_empty() => continue,
                Ok(data) => data,
                Err(frame) => {
                    trailers = frame.into_trailers().ok();
                    continue;
                }
            };
            received = received.saturating_add(data.len() as u64);
            if !store.may_take(flight, received).await {
                tagger = None;
            }
            let untagged = tagger.is_some().then(|| data.clone());
            held = store.make_room(flight, self.hand_on(data, received)).await;
            if held.is_none() {
                match store.during(flight, flight.room(&mut wait_for)).await {
                    Go::On => {}
                    Go::Stop => return None,
                    Go::WithoutStore => store.give_up(flight),
                }
            }
            if let (Some(tagger), Some(data)) = (&mut tagger, untagged) {
                tagger.update(&data);
            }
        }
        let mut stored = None;
        if let Some(sink) = store.into_sink(flight) {
            let (tag, content) = (tagger.map(|tagger| tagger.finish()), flight.complete(held.as_ref()));
            let received = Received { content, tag, trailers: trailers.clone() };
            // Boxed, because it is large, and there is a pump for every response that is being received.
            stored = Box::pin(sink.commit(received)).await;
        }
        Some(Last { end: End::Complete(trailers.map(Arc::new)), held, stored })
    }
}

/// What there is of a body before the task of its pump begins.
struct Begun {
    left: Left,
    received: u64,
    /// What it had taken in already.
    taken: Bytes,
}

/// What becomes of a frame that does not go to the readers at once.
enum Left {
    HeldBack(Bytes),
    Nothing,
    /// There is no room for it, unless the store makes some.
    Unpushed(Bytes),
}

/// The store's end of a flight.
struct StoreEnd<S> {
    bounds: Bounds,
    is_too_large: bool,
    /// More is passed on: as much as is stored, or as is kept where the store takes it no more.
    limit: u64,
    /// `None` when nothing is stored any more.
    sink: Option<Box<S>>,
    /// The store takes content while it comes.
    takes_more: bool,
}

impl<S: Sink> StoreEnd<S> {
    fn new(sink: Box<S>, bounds: Bounds) -> Self {
        let (limit, takes_more) = (bounds.most, bounds.is_streamed);
        Self { bounds, is_too_large: false, limit, sink: Some(sink), takes_more }
    }

    /// Waits for something, while the store takes what is there.
    async fn during<T>(&mut self, flight: &Arc<Flight>, wait: impl Future<Output = T>) -> T {
        let mut wait = std::pin::pin!(wait);
        std::future::poll_fn(|cx| {
            self.write(flight, cx);
            wait.as_mut().poll(cx)
        })
        .await
    }

    fn write(&mut self, flight: &Arc<Flight>, cx: &mut Context<'_>) {
        let Some(sink) = self.sink.as_mut().filter(|_| self.takes_more) else {
            return;
        };
        let Poll::Ready(unwritten) = sink.poll_write(cx) else {
            return;
        };
        self.takes_more = false;
        match unwritten {
            Unwritten::TooLarge => {
                self.is_too_large = true;
                flight.pass();
            }
            // It is still shared as long as there is room for it, and where it is in memory when it ends, it may be put.
            Unwritten::Failed | Unwritten::Superseded => self.limit = self.limit.min(self.bounds.kept),
            Unwritten::Whole => {}
        }
    }

    /// Whether so much content may still be stored.
    async fn may_take(&mut self, flight: &Arc<Flight>, received: u64) -> bool {
        if self.sink.is_some() && received > self.limit {
            self.is_too_large |= received > self.bounds.most;
            flight.pass();
        }
        if flight.is_passing()
            && let Some(sink) = self.sink.take()
            // Otherwise the room for all flights has run out, this time.
            && self.is_too_large
        {
            Box::pin(sink.refuse()).await;
        }
        self.sink.is_some()
    }

    /// Takes care of what does not go to the readers at once. Returns what is held back.
    async fn make_room(&mut self, flight: &Arc<Flight>, left: Left) -> Option<Bytes> {
        let mut data = match left {
            Left::HeldBack(data) => return Some(data),
            Left::Nothing => return None,
            Left::Unpushed(data) => data,
        };
        loop {
            if !self.during(flight, flight.store_takes_more()).await {
                self.give_up(flight);
            }
            data = flight.push(data)?;
        }
    }

    /// Nothing is stored: the store is too slow.
    fn give_up(&mut self, flight: &Arc<Flight>) {
        flight.pass();
        if let Some(sink) = self.sink.take() {
            sink.give_up(PATIENCE);
        }
    }

    /// The sink, if the content is to be stored.
    fn into_sink(self, flight: &Flight) -> Option<Box<S>> {
        self.sink.filter(|_| !flight.is_passing())
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

enum Next {
    End,
    Frame(Result<Frame<Bytes>, BodyError>),
    Nobody,
    /// What was held back goes out, and there is no room for it.
    Unpushed(Bytes),
}

/// The next frame. A frame that is held back goes out when the body, having all its declared bytes, does
/// not say at once that it is at its end.
async fn next_frame(body: &mut Incoming, held: &mut Option<Bytes>, flight: &Arc<Flight>) -> Next {
    if held.is_some() && body.is_end_stream() {
        return Next::End;
    }
    std::future::poll_fn(|cx| {
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            return Poll::Ready(frame.map_or(Next::End, Next::Frame));
        }
        if let Some(data) = held.take() {
            if let Some(left) = flight.push(data) {
                return Poll::Ready(Next::Unpushed(left));
            }
            cx.waker().wake_by_ref(); // for the store, which takes what is there
        }
        if flight.waits_for_nobody(cx) { Poll::Ready(Next::Nobody) } else { Poll::Pending }
    })
    .await
}
