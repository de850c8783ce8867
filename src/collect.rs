//! Content that is taken in whole.

use std::pin::pin;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt;

use crate::error::{BodyError, BoxError, Failure};
use crate::semantics::etag::{TagKind, Tagger};

/// The content of a response, whole.
pub(crate) struct Content {
    pub(crate) bytes: Bytes,
    pub(crate) tag: Option<http::HeaderValue>,
    pub(crate) trailers: Option<HeaderMap>,
}

/// A frame with its data as `Bytes`: without copying where they are `Bytes` already.
pub(crate) fn into_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

/// Keeps content while it comes in: the first frame as it is, for most content is one; more are copied together.
struct Capture {
    first: Bytes,
    rest: BytesMut,
    tagger: Option<Tagger>,
}

impl Capture {
    fn new(tag: Option<TagKind>) -> Self {
        Self { first: Bytes::new(), rest: BytesMut::new(), tagger: tag.map(Tagger::new) }
    }

    fn len(&self) -> usize {
        if self.rest.is_empty() { self.first.len() } else { self.rest.len() }
    }

    fn take(&mut self, data: Bytes) {
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

    fn finish(mut self, trailers: Option<HeaderMap>) -> Content {
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
