//! The body of a response that went through the cache.

pub(crate) mod flight;
pub(crate) mod incoming;
pub(crate) mod length;
pub(crate) mod passing;
pub(crate) mod prefetch;
pub(crate) mod pump;
pub(crate) mod resumed;
pub(crate) mod stored;

mod large;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use self::incoming::Incoming;
use self::large::LargeReader;
use self::passing::Passing;
use self::prefetch::{Content, Prefetch};
use crate::body::flight::Reader;
use crate::body::stored::OpenedBody;
use crate::entry::Payload;
use crate::entry::pieces::{PIECE, Run};
use crate::error::{BodyError, Failure};
use crate::limits::held::Held;

/// The body of every response of [`CacheService`](crate::CacheService): empty, from storage, from a response on its way in,
/// or the inner service's own, frame by frame.
///
/// It ends with an error, never cleanly, if the inner body did not end cleanly. The inner body has to be `Send`, and
/// its error has to convert to a boxed one; there are no other requirements.
pub struct CacheBody {
    /// Boxed, and most of the time nobody wants to know.
    ending: Option<Box<Ending>>,
    kind: Kind,
}

/// Says how a body ended, when it is dropped.
struct Ending {
    bytes: u64,
    is_whole: bool,
    then: Option<Box<dyn WhenEnded>>,
}

/// Is told, once, how many bytes of content were read of a body, and whether that was all.
pub(crate) trait WhenEnded: Send {
    fn ended(self: Box<Self>, bytes: u64, is_whole: bool);
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(then) = self.then.take() {
            then.ended(self.bytes, self.is_whole);
        }
    }
}

enum Kind {
    Empty,
    Failed { error: Option<BodyError> },
    Flight { reader: Reader },
    Large { reader: LargeReader, end: End },
    Passing { body: Passing },
    Plain { body: Incoming },
    Stored { content: Bytes, end: End },
}

/// What follows the content of a body that is held in memory.
enum End {
    Clean,
    Failed(BodyError),
    Trailers(Box<HeaderMap>),
}

impl End {
    /// What comes after the content, once.
    fn take(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        match std::mem::replace(self, Self::Clean) {
            Self::Clean => None,
            Self::Failed(error) => Some(Err(error)),
            Self::Trailers(trailers) => Some(Ok(Frame::trailers(*trailers))),
        }
    }

    /// The hint for a body with `left` bytes of content left.
    fn size_hint(&self, left: u64) -> SizeHint {
        match self {
            Self::Clean => SizeHint::with_exact(left),
            Self::Failed(_) => SizeHint::default(),
            // An exact size would become a Content-Length, and that leaves no place for trailers.
            Self::Trailers(_) => {
                let mut hint = SizeHint::new();
                hint.set_lower(left);
                hint
            }
        }
    }
}

impl CacheBody {
    /// No content, and a size that says so: a layer that compresses, and a server for HTTP/2, ask for it before they read.
    /// The length of the content that a HEAD or a 304 refers to is in its fields, if anywhere.
    pub(crate) fn empty() -> Self {
        Kind::Empty.into()
    }

    pub(crate) fn flight(reader: Reader) -> Self {
        Kind::Flight { reader }.into()
    }

    /// Waits until content that is being received is stored, or known not to be stored.
    pub(crate) async fn settled(self) {
        if let Kind::Flight { reader } = self.kind {
            reader.settled().await;
        }
    }

    pub(crate) fn whole(held: &Arc<Held>, content: Run) -> Self {
        Self::ending(held, content, End::Clean)
    }

    /// Content from memory. Content of more than one piece is kept where it can be taken away from a reader that stands
    /// still.
    fn ending(held: &Arc<Held>, mut content: Run, end: End) -> Self {
        match content.content().large().map(Arc::clone) {
            None => Kind::Stored { content: content.next().unwrap_or_default(), end }.into(),
            Some(large) => Kind::Large { reader: LargeReader::new(held, &large, content), end }.into(),
        }
    }

    pub(crate) fn stored(held: &Arc<Held>, payload: &Payload) -> Self {
        let end = match payload.trailers() {
            None => End::Clean,
            Some(trailers) => End::Trailers(Box::new(trailers.clone())),
        };
        let Some(content) = payload.content() else {
            return Self::broken(Bytes::new(), Failure::Abandoned.into()); // not opened
        };
        match content.small() {
            Some(content) => Kind::Stored { content: content.clone(), end }.into(),
            None => Self::ending(held, Run::of(content), end),
        }
    }

    /// Content that the store has opened.
    pub(crate) fn opened(held: &Arc<Held>, body: OpenedBody) -> Self {
        Kind::Passing { body: Passing::new(held, body) }.into()
    }

    /// Has this told how it ends.
    pub(crate) fn when_ended(&mut self, then: Box<dyn WhenEnded>) {
        let is_whole = self.is_end_stream();
        self.ending = Some(Box::new(Ending { bytes: 0, is_whole, then: Some(then) }));
    }

    /// Small content from memory.
    pub(crate) fn of_bytes(content: Bytes) -> Self {
        Kind::Stored { content, end: End::Clean }.into()
    }

    /// What came before the failure, then the failure.
    pub(crate) fn broken(content: Bytes, error: BodyError) -> Self {
        Kind::Stored { content, end: End::Failed(error) }.into()
    }

    /// A body that is none of the cache's business.
    pub(crate) fn plain(body: Incoming) -> Self {
        Kind::Plain { body }.into()
    }

    /// A body that is forwarded as it arrives.
    pub(crate) fn passing(held: &Arc<Held>, body: Incoming) -> Self {
        Kind::Passing { body: Passing::new(held, body) }.into()
    }

    /// A body of the inner service. Whatever is available of a small one is read at once, which may end the call,
    /// whether or not its client reads.
    pub(crate) fn forwarded(held: &Arc<Held>, body: Incoming) -> Self {
        if body.size_hint().exact().is_none_or(|length| length > PIECE as u64) {
            return Self::passing(held, body);
        }
        Self::taken_in(held, prefetch::at_once(body, None))
    }

    /// Content of the inner service that was taken in for one client, as far as it was.
    pub(crate) fn taken_in(held: &Arc<Held>, taken: Prefetch) -> Self {
        let Content { pieces, trailers, .. } = match taken {
            Prefetch::Complete(content) => content,
            Prefetch::Failed(content, error) => return Self::broken(content, error),
            Prefetch::Partial(body) => return Self::passing(held, body),
        };
        let end = trailers.map_or(End::Clean, |trailers| End::Trailers(Box::new(trailers)));
        match pieces.into_small() {
            Ok(content) => Kind::Stored { content, end }.into(),
            Err(pieces) => Self::ending(held, Run::of(&pieces), end),
        }
    }
}

/// Empty; layers that answer by themselves, such as time-outs, ask for it.
impl Default for CacheBody {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Kind> for CacheBody {
    fn from(kind: Kind) -> Self {
        Self { ending: None, kind }
    }
}

impl CacheBody {
    /// The next frame, or the failure as soon as it is known.
    fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Failed { error } => Poll::Ready(error.take().map(Err)),
            Kind::Flight { reader } => reader.poll_frame(cx),
            Kind::Large { reader, end } => Poll::Ready(match reader.next() {
                Some(data) => Some(data.map(Frame::data)),
                None => end.take(),
            }),
            Kind::Passing { body } => body.poll_frame(cx),
            Kind::Plain { body } => Pin::new(body).poll_frame(cx),
            Kind::Stored { content, end } => {
                if !content.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(std::mem::take(content)))));
                }
                Poll::Ready(end.take())
            }
        }
    }
}

impl Body for CacheBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let is_told = matches!(self.kind, Kind::Failed { .. });
        let polled = self.poll_kind(cx);
        if let (Poll::Ready(Some(Err(error))), false) = (&polled, is_told) {
            // In the next poll: a server that sees the error drops everything that it has not sent by then, even the
            // head.
            let error = Some(error.clone());
            self.kind = Kind::Failed { error };
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.ending.is_some() {
            let is_end = match &polled {
                Poll::Pending | Poll::Ready(Some(Err(_))) => false,
                Poll::Ready(Some(Ok(_))) => self.is_end_stream(),
                // After an error there is nothing more, either.
                Poll::Ready(None) => !is_told,
            };
            if let Some(ending) = &mut self.ending {
                if let Poll::Ready(Some(Ok(frame))) = &polled {
                    ending.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                }
                ending.is_whole |= is_end;
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Failed { error } => error.is_none(),
            Kind::Flight { reader } => reader.is_end_stream(),
            Kind::Large { reader, end } => reader.left() == 0 && matches!(end, End::Clean),
            Kind::Passing { body } => body.is_end_stream(),
            Kind::Plain { body } => body.is_end_stream(),
            Kind::Stored { content, end } => content.is_empty() && matches!(end, End::Clean),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Failed { .. } => SizeHint::default(),
            Kind::Flight { reader } => reader.size_hint(),
            Kind::Large { reader, end } => end.size_hint(reader.left()),
            Kind::Passing { body } => body.size_hint(),
            Kind::Plain { body } => body.size_hint(),
            Kind::Stored { content, end } => end.size_hint(content.len() as u64),
        }
    }
}

impl std::fmt::Debug for CacheBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.kind {
            Kind::Empty => "Empty",
            Kind::Failed { .. } => "Failed",
            Kind::Flight { .. } => "Flight",
            Kind::Large { .. } => "Large",
            Kind::Passing { .. } => "Passing",
            Kind::Plain { .. } => "Plain",
            Kind::Stored { .. } => "Stored",
        };
        f.debug_tuple("CacheBody").field(&kind).finish()
    }
}
