//! Time limits that count from the last progress: a transfer that makes progress may take any time.
//!
//! Each byte that is read from or written to the connection to the origin is progress of a call. While the call waits
//! for the client's content, which has a limit of its own (`stall`), the origin is not late.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Extensions;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::client::legacy::connect::CaptureConnection;
use pin_project_lite::pin_project;
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::traffic::Traffic;

/// The progress of a call to the origin.
#[derive(Clone)]
pub struct Progress(Arc<State>);

struct State {
    begun: Instant,
    /// `None` before there is a connection.
    connection: Mutex<Option<CaptureConnection>>,
    limit: Duration,
    /// When the client's content was last available.
    content_at: Mutex<Instant>,
    /// Whether the origin waits for content that the client has not sent yet.
    waits_for_client: AtomicBool,
}

impl Progress {
    /// `limit` is the longest time without progress.
    pub fn new(limit: Duration) -> Self {
        let now = Instant::now();
        Self(Arc::new(State {
            begun: now,
            connection: Mutex::new(None),
            limit,
            content_at: Mutex::new(now),
            waits_for_client: AtomicBool::new(false),
        }))
    }

    /// Names the connection whose progress counts.
    pub fn observe(&self, connection: CaptureConnection) {
        *lock(&self.0.connection) = Some(connection);
    }

    /// The result of `answer`; `None` if there was no progress for too long.
    pub async fn limit<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let mut answer = std::pin::pin!(answer);
        loop {
            match timeout_at(self.due(), &mut answer).await {
                Ok(answer) => return Some(answer),
                Err(_) if self.due() <= Instant::now() => return None,
                Err(_) => {}
            }
        }
    }

    /// When the origin is late, unless there is progress before.
    fn due(&self) -> Instant {
        let last = if self.0.waits_for_client.load(Ordering::SeqCst) { Instant::now() } else { self.last() };
        last + self.0.limit
    }

    fn last(&self) -> Instant {
        let content_at = *lock(&self.0.content_at);
        let connection = lock(&self.0.connection);
        let mut extras = Extensions::new();
        if let Some(connection) = connection.as_ref()
            && let Some(connected) = connection.connection_metadata().as_ref()
        {
            connected.get_extras(&mut extras);
        }
        // A connection that was used before has moved bytes before this call.
        let moved = extras.get::<Traffic>().map_or(self.0.begun, Traffic::moved);
        moved.max(self.0.begun).max(content_at)
    }

    fn waits_for_client(&self, waits: bool) {
        if self.0.waits_for_client.swap(waits, Ordering::SeqCst) && !waits {
            *lock(&self.0.content_at) = Instant::now();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pin_project! {
    /// The content of a request on its way to the origin.
    pub struct SentContent<B> {
        #[pin]
        body: B,
        progress: Progress,
    }

    impl<B> PinnedDrop for SentContent<B> {
        fn drop(this: Pin<&mut Self>) {
            this.progress.waits_for_client(false);
        }
    }
}

impl<B> SentContent<B> {
    pub fn new(body: B, progress: Progress) -> Self {
        Self { body, progress }
    }
}

impl<B: Body> Body for SentContent<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = this.body.poll_frame(cx);
        this.progress.waits_for_client(frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why the origin's content ends early.
#[derive(Debug, Error)]
pub enum OriginError {
    #[error("the origin's content breaks off: {0}")]
    Broken(#[from] hyper::Error),
    #[error("the origin's content stalls")]
    TooSlow,
}

pin_project! {
    /// Content of the origin, which has to make progress. `held` is dropped at its end.
    pub struct OriginBody<H> {
        #[pin]
        body: Incoming,
        held: Option<H>,
        late: Option<Pin<Box<Sleep>>>,
        progress: Progress,
    }
}

impl<H> OriginBody<H> {
    pub fn new(body: Incoming, progress: Progress, held: H) -> Self {
        let held = Some(held).filter(|_| !body.is_end_stream());
        Self { body, held, late: None, progress }
    }
}

impl<H> Body for OriginBody<H> {
    type Data = Bytes;
    type Error = OriginError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OriginError>>> {
        let this = self.project();
        // A frame that is there is taken, however late it is polled for: then the reader was slow, not the origin.
        if let Poll::Ready(frame) = this.body.poll_frame(cx) {
            *this.late = None;
            if !matches!(frame, Some(Ok(_))) {
                this.held.take();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(OriginError::Broken)));
        }
        let now = Instant::now();
        let late = this.late.get_or_insert_with(|| Box::pin(sleep_until(now + this.progress.0.limit)));
        loop {
            ready!(late.as_mut().poll(cx));
            let due = this.progress.due();
            if due <= Instant::now() {
                this.held.take();
                return Poll::Ready(Some(Err(OriginError::TooSlow)));
            }
            late.as_mut().reset(due);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
