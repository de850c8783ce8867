//! Opened content whose rest comes from elsewhere where the store can't give it to its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::body::incoming::Incoming;
use crate::body::length::LengthChecked;
use crate::error::{BodyError, Failure};
use crate::store::StoredBody;

/// What follows after the first bytes of some content; `None` where that can't be had.
pub(crate) type Rest = Box<dyn FnOnce(u64) -> Asking + Send>;
type Asking = Pin<Box<dyn Future<Output = Option<Incoming>> + Send>>;

/// Opened content, and where it breaks off, once, the rest of it. No more of that is read than is asked for here.
pub(crate) struct Resumed {
    /// Bytes that are still to come.
    left: u64,
    sent: u64,
    state: State,
}

enum State {
    /// The content has broken off, with this error.
    Asking(Asking, BodyError),
    Ended,
    Rest(LengthChecked<Incoming>),
    Stored(LengthChecked<StoredBody>, Option<Rest>),
}

impl Resumed {
    /// `length` bytes of content.
    pub(crate) fn new(content: StoredBody, length: u64, rest: Rest) -> Self {
        let content = LengthChecked::new(content, Some(length));
        Self { left: length, sent: 0, state: State::Stored(content, Some(rest)) }
    }

    /// Whether the rest is of use after this error: what was sent is right, and more is to come.
    fn can_go_on(&self, error: &BodyError) -> bool {
        self.left > 0 && !matches!(error.failure(), Failure::Overrun { .. })
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.state = State::Ended;
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for Resumed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            let polled = match &mut this.state {
                State::Asking(asking, error) => {
                    let rest = ready!(asking.as_mut().poll(cx));
                    let error = error.clone();
                    let Some(rest) = rest else { return this.fail(error) };
                    this.state = State::Rest(LengthChecked::new(rest, Some(this.left)));
                    continue;
                }
                State::Ended => return Poll::Ready(None),
                State::Rest(rest) => ready!(Pin::new(rest).poll_frame(cx)),
                State::Stored(content, rest) => match ready!(Pin::new(content).poll_frame(cx)) {
                    Some(Err(error)) => {
                        let rest = rest.take().filter(|_| this.can_go_on(&error));
                        let Some(rest) = rest else { return this.fail(error) };
                        this.state = State::Asking(rest(this.sent), error);
                        continue;
                    }
                    polled => polled,
                },
            };
            match polled {
                None => return Poll::Ready(None),
                Some(Err(error)) => return this.fail(error),
                // The trailers of a response are in its head.
                Some(Ok(frame)) if frame.is_trailers() => {}
                Some(Ok(frame)) => {
                    let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                    (this.left, this.sent) = (this.left - length, this.sent + length);
                    return Poll::Ready(Some(Ok(frame)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Asking(..) => false,
            State::Ended => true,
            State::Rest(rest) => rest.is_end_stream(),
            State::Stored(content, _) => content.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Ended => SizeHint::with_exact(0),
            _ => SizeHint::with_exact(self.left),
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use http::HeaderMap;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;
    use crate::limits::calls::CallPermit;

    type Scripted = Result<Frame<Bytes>, &'static str>;

    fn data(text: &'static str) -> Scripted {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    fn trailers() -> Scripted {
        Ok(Frame::trailers(HeaderMap::new()))
    }

    /// What comes of content of six bytes that is in these frames, and how much of it there was when the rest was asked for.
    async fn read(stored: Vec<Scripted>, rest: Option<Vec<Scripted>>) -> (String, bool, Option<u64>) {
        let stream = |frames: Vec<Scripted>| StreamBody::new(futures_util::stream::iter(frames));
        let (asked, at) = std::sync::mpsc::channel();
        let rest: Rest = Box::new(move |sent| {
            asked.send(sent).expect("somebody looks");
            Box::pin(async move { rest.map(|rest| Incoming::new(stream(rest), None, CallPermit::default())) })
        });
        let mut body = Resumed::new(StoredBody::new(stream(stored)), 6, rest);
        let (mut content, mut is_broken) = (String::new(), false);
        assert_eq!(body.size_hint().exact(), Some(6));
        while let Some(frame) = body.frame().await {
            match frame {
                Err(_) => is_broken = true,
                Ok(frame) => {
                    content.push_str(std::str::from_utf8(frame.data_ref().expect("data")).expect("ASCII"));
                }
            }
        }
        assert!(body.is_end_stream() && body.size_hint().exact() == Some(0));
        (content, is_broken, at.try_recv().ok())
    }

    #[tokio::test]
    async fn content_that_breaks_off_goes_on_with_the_rest_and_ends_cleanly_only_if_that_is_whole() {
        let ends = |stored, rest, expected: (&'static str, bool, Option<u64>)| async move {
            let (content, is_broken, asked) = read(stored, rest).await;
            assert_eq!((content.as_str(), is_broken, asked), expected);
        };
        let all = || vec![data("abc"), data("def")];
        ends(all(), None, ("abcdef", false, None)).await;
        let broken = || vec![data("ab"), data("cd"), Err("broken")];
        ends(broken(), Some(vec![data("e"), data("f")]), ("abcdef", false, Some(4))).await;
        ends(broken(), Some(vec![data("ef"), trailers()]), ("abcdef", false, Some(4))).await;
        ends(vec![Err("broken")], Some(all()), ("abcdef", false, Some(0))).await;
        // It ends early.
        ends(vec![data("abcd")], Some(vec![data("ef")]), ("abcdef", false, Some(4))).await;
        ends(vec![data("abcd"), trailers()], Some(vec![data("ef")]), ("abcdef", false, Some(4))).await;
        ends(vec![], Some(all()), ("abcdef", false, Some(0))).await;
        // The rest is no rest.
        ends(broken(), None, ("abcd", true, Some(4))).await;
        ends(broken(), Some(vec![]), ("abcd", true, Some(4))).await;
        ends(broken(), Some(vec![data("e")]), ("abcde", true, Some(4))).await;
        ends(broken(), Some(vec![data("efg")]), ("abcd", true, Some(4))).await;
        ends(broken(), Some(vec![data("e"), Err("again")]), ("abcde", true, Some(4))).await;
        // What has more than it says is not what it seems to be.
        ends(vec![data("abcd"), data("efg")], Some(vec![data("ef")]), ("abcd", true, None)).await;
        ends(vec![data("abcdef"), Err("late")], Some(vec![]), ("abcdef", true, None)).await;
    }
}
