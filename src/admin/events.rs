//! What happens, as a stream of server-sent events.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast::error::RecvError;

use super::watch::Reader;
use crate::runtime::pause;

/// After so long without an event, a comment says that the stream is alive.
const QUIET: Duration = Duration::from_secs(15);

type Received = (Result<Arc<str>, RecvError>, Reader);

/// What happens from now on. A reader that is slow misses events, and learns how many.
pub(super) struct Live {
    greeting: Option<Bytes>,
    next: Pin<Box<dyn Future<Output = Received> + Send>>,
    quiet: Pin<Box<dyn Future<Output = bool> + Send>>,
}

impl Live {
    pub(super) fn of(reader: Reader) -> Self {
        Self {
            greeting: Some(Bytes::from_static(b": live\n\n")),
            next: Box::pin(receive(reader)),
            quiet: Box::pin(pause(QUIET)),
        }
    }

    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(greeting) = self.greeting.take() {
            return Poll::Ready(Some(greeting)); // so that the head goes out at once
        }
        if let Poll::Ready((received, reader)) = self.next.as_mut().poll(cx) {
            self.next = Box::pin(receive(reader));
            self.quiet = Box::pin(pause(QUIET));
            return Poll::Ready(match received {
                // JSON has no line breaks of its own.
                Ok(event) => Some(format!("data: {event}\n\n").into()),
                Err(RecvError::Lagged(missed)) => Some(format!("event: missed\ndata: {missed}\n\n").into()),
                Err(RecvError::Closed) => None,
            });
        }
        match self.quiet.as_mut().poll(cx) {
            Poll::Ready(true) => {
                self.quiet = Box::pin(pause(QUIET));
                Poll::Ready(Some(Bytes::from_static(b": quiet\n\n")))
            }
            // A runtime without timers.
            Poll::Ready(false) => {
                self.quiet = Box::pin(std::future::pending());
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

async fn receive(mut reader: Reader) -> Received {
    let received = reader.events.recv().await;
    (received, reader)
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}
