//! Opened content, each frame of which is a call.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use super::call::StoreCall;
use super::script::Chaos;
use crate::error::{BodyError, StoreError};
use crate::store::StoredBody;

pub(super) struct ChaosBody {
    chaos: Chaos,
    hint: SizeHint,
    /// `None` where it has ended, well or not.
    next: Option<Next>,
}

type Polled = Option<Result<Frame<Bytes>, BodyError>>;

/// The next frame, and the rest.
type Next = Pin<Box<dyn Future<Output = Result<(Polled, StoredBody), StoreError>> + Send>>;

impl ChaosBody {
    pub(super) fn new(chaos: Chaos, body: StoredBody) -> Self {
        Self { hint: body.size_hint(), next: Some(next(chaos.clone(), body)), chaos }
    }
}

fn next(chaos: Chaos, mut body: StoredBody) -> Next {
    Box::pin(async move {
        let read = async {
            let frame = body.frame().await;
            Ok((frame, body))
        };
        chaos.during(StoreCall::Read, read).await
    })
}

impl Body for ChaosBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Polled> {
        let Some(mut reading) = self.next.take() else {
            return Poll::Ready(None);
        };
        match reading.as_mut().poll(cx) {
            Poll::Pending => {
                self.next = Some(reading);
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(BodyError::inner(error)))),
            Poll::Ready(Ok((None, _))) => Poll::Ready(None),
            Poll::Ready(Ok((Some(frame), rest))) => {
                self.hint = rest.size_hint();
                self.next = Some(next(self.chaos.clone(), rest));
                Poll::Ready(Some(frame))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}
