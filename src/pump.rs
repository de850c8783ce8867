//! The task that moves the frames of a response into its flight, and the whole of it into the store.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http_body::{Body, Frame};

use crate::collect::{Content, into_bytes};
use crate::error::{BodyError, BoxError, Failure};
use crate::flight::{End, Flight, Go, MOST_WAITS, Reader};
use crate::load::Load;
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
}

/// Takes in `body` in a task of its own, after `begin` has seen the flight. `commit` gets the whole content, or `None`
/// once it is known that there will be none to store. It gives back the content as it is stored, and is awaited
/// before a reader sees the end: a client that has its answer finds it stored.
///
/// # Errors
///
/// Gives the body back when there is no runtime to run the task.
pub(crate) fn launch<B, C>(
    body: B,
    intake: Intake,
    load: &Arc<Load>,
    begin: impl FnOnce(&Arc<Flight>),
    commit: impl FnOnce(Option<Content>) -> C + Send + 'static,
) -> Result<Reader, B>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    C: Future<Output = Option<Bytes>> + Send,
{
    let Some(runtime) = Runtime::current() else {
        return Err(body);
    };
    let (flight, reader) = Flight::new(intake.declared, intake.most, load);
    begin(&flight);
    // A panic in the body or the store must not leave the readers waiting.
    let landing = Landing { flight: Arc::clone(&flight) };
    drop(runtime.spawn(async move {
        if let Some(last) = pump(body, &intake, &landing.flight, commit).await {
            landing.flight.finish(last.held, last.end, last.stored);
        }
    }));
    Ok(reader)
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
async fn pump<B, C>(
    body: B,
    intake: &Intake,
    flight: &Flight,
    commit: impl FnOnce(Option<Content>) -> C,
) -> Option<Last>
where
    B: Body,
    B::Error: Into<BoxError>,
    C: Future<Output = Option<Bytes>>,
{
    let mut body = pin!(body);
    let mut commit = Some(commit);
    let mut tagger = intake.tag.map(Tagger::new);
    let mut received = 0u64;
    let mut trailers = None;
    let mut held: Option<Bytes> = None;
    let mut patience = MOST_WAITS;
    loop {
        let frame = match next_frame(body.as_mut(), &mut held, flight).await {
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
        if received > intake.most && commit.is_some() {
            flight.pass();
        }
        if flight.is_passing()
            && let Some(commit) = commit.take()
        {
            tagger = None;
            commit(None).await;
        }
        if let Some(tagger) = &mut tagger {
            tagger.update(&data);
        }
        if intake.declared == Some(received) {
            // The frame by which a client knows that it has everything.
            held = Some(data);
        } else {
            flight.push(data);
            if flight.room(&mut patience).await == Go::Stop {
                return None;
            }
        }
    }
    if let Some(declared) = intake.declared.filter(|&declared| declared != received) {
        return Last::failed(Failure::Short { declared, received }.into());
    }
    let mut stored = None;
    if let Some(commit) = commit.filter(|_| !flight.is_passing()) {
        let tag = tagger.as_ref().map(Tagger::finish);
        stored =
            commit(Some(Content { bytes: flight.content(held.as_ref()), tag, trailers: trailers.clone() }))
                .await;
    }
    Some(Last { end: End::Complete(trailers.map(Arc::new)), held, stored })
}

enum Next {
    End,
    Frame(Result<Frame<Bytes>, BodyError>),
    Nobody,
}

/// The next frame. A frame that is held back goes out when the body, having all its declared bytes, does
/// not say at once that it is at its end.
async fn next_frame<B>(mut body: Pin<&mut B>, held: &mut Option<Bytes>, flight: &Flight) -> Next
where
    B: Body,
    B::Error: Into<BoxError>,
{
    if held.is_some() && body.is_end_stream() {
        return Next::End;
    }
    std::future::poll_fn(|cx| {
        if let Poll::Ready(frame) = body.as_mut().poll_frame(cx) {
            return Poll::Ready(
                frame.map_or(Next::End, |frame| Next::Frame(frame.map(into_bytes).map_err(BodyError::inner))),
            );
        }
        if let Some(data) = held.take() {
            flight.push(data);
        }
        if flight.waits_for_nobody(cx) { Poll::Ready(Next::Nobody) } else { Poll::Pending }
    })
    .await
}
