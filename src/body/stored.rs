//! Content that a store has opened.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::body::length::LengthChecked;
use crate::error::BodyError;
use crate::store::StoredBody;

/// Opened content, checked against the length that its head promises, followed by the head's trailers.
pub(crate) struct OpenedBody {
    content: LengthChecked<StoredBody>,
    trailers: Option<HeaderMap>,
}

impl OpenedBody {
    pub(crate) fn new(content: StoredBody, length: u64, trailers: Option<HeaderMap>) -> Self {
        Self { content: LengthChecked::new(content, Some(length)), trailers }
    }
}

impl Body for OpenedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match ready!(Pin::new(&mut self.content).poll_frame(cx)) {
                None => return Poll::Ready(self.trailers.take().map(|fields| Ok(Frame::trailers(fields)))),
                Some(Err(error)) => {
                    self.trailers = None;
                    return Poll::Ready(Some(Err(error)));
                }
                // The trailers of a response are in its head.
                Some(Ok(frame)) if frame.is_trailers() => {}
                Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.trailers.is_none() && self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.content.size_hint();
        if self.trailers.is_none() {
            return left;
        }
        // An exact size would become a Content-Length, and that leaves no place for trailers.
        let mut hint = SizeHint::new();
        hint.set_lower(left.lower());
        hint
    }
}

/// Opened content that has to come to its end, and says so once where it does not.
pub(crate) struct Watched<F> {
    content: LengthChecked<StoredBody>,
    on_error: Option<F>,
}

impl<F: FnOnce(&BodyError)> Watched<F> {
    pub(crate) fn new(content: StoredBody, length: u64, on_error: F) -> Self {
        Self { content: LengthChecked::new(content, Some(length)), on_error: Some(on_error) }
    }
}

impl<F: FnOnce(&BodyError) + Unpin> Body for Watched<F> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.content).poll_frame(cx));
        if let Some(Err(error)) = &frame
            && let Some(on_error) = self.on_error.take()
        {
            on_error(error);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http_body_util::BodyExt;

    use super::*;

    type Scripted = Result<Frame<Bytes>, &'static str>;

    struct Frames(std::vec::IntoIter<Scripted>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Scripted>> {
            Poll::Ready(self.0.next())
        }
    }

    fn body(frames: Vec<Scripted>, length: u64) -> OpenedBody {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-trailer", HeaderValue::from_static("1"));
        OpenedBody::new(StoredBody::new(Frames(frames.into_iter())), length, Some(trailers))
    }

    async fn read(mut body: OpenedBody) -> (String, bool, bool) {
        let (mut content, mut has_trailers) = (String::new(), false);
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::into_data) {
                Err(_) => return (content, has_trailers, true),
                Ok(Ok(data)) => content.push_str(std::str::from_utf8(&data).expect("ASCII")),
                Ok(Err(trailers)) => has_trailers = trailers.is_trailers(),
            }
        }
        (content, has_trailers, false)
    }

    #[tokio::test]
    async fn opened_content_ends_cleanly_only_if_it_has_its_declared_length() {
        let data = |text: &'static str| Ok(Frame::data(Bytes::from_static(text.as_bytes())));
        let foreign = || Ok(Frame::trailers(HeaderMap::new()));
        for (frames, length, expected) in [
            (vec![data("ab"), data("cd")], 4, ("abcd", true, false)),
            (vec![data("abcd"), foreign()], 4, ("abcd", true, false)),
            (vec![], 0, ("", true, false)),
            (vec![data("ab")], 4, ("ab", false, true)),
            (vec![data("ab"), foreign()], 4, ("ab", false, true)),
            (vec![data("ab"), data("cde")], 4, ("ab", false, true)),
            (vec![data("ab"), Err("broken")], 4, ("ab", false, true)),
        ] {
            let (content, has_trailers, is_broken) = read(body(frames, length)).await;
            assert_eq!((content.as_str(), has_trailers, is_broken), expected);
        }
    }
}
