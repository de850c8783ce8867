//! A body of the inner service that is forwarded to a client.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::entry::pieces::PIECE;
use crate::error::{BodyError, Failure};
use crate::limits::held::{Held, Pace, Reading, Watched, address};
use crate::runtime::{Instant, Mutex, lock, moment};

/// A body of the inner service that may be large.
pub(crate) struct Passing {
    /// The size hint after the last poll.
    hint: SizeHint,
    is_end: bool,
    place: Arc<PassingPlace>,
    _watched: Watched,
}

type BoxBody = Pin<Box<dyn Body<Data = Bytes, Error = BodyError> + Send>>;

/// Holds a body so that it can be taken away from its client. It is also the waker of that body: a client that is woken
/// and does not ask for more stands still.
struct PassingPlace {
    body: Mutex<Option<BoxBody>>,
    held: Arc<Held>,
    state: Mutex<PassingState>,
}

#[derive(Default)]
struct PassingState {
    client: Option<Waker>,
    /// Since when the client has not asked for what is there; `None` while it waits for more.
    since: Option<Instant>,
    /// More content has arrived since the client asked.
    was_woken: bool,
}

/// How much a forwarded body holds, roughly, while its client does not take it.
const IN_HAND: u64 = PIECE as u64;

impl Passing {
    pub(crate) fn new<B>(held: &Arc<Held>, body: B) -> Self
    where
        B: Body<Data = Bytes, Error = BodyError> + Send + 'static,
    {
        let (hint, is_end) = (body.size_hint(), body.is_end_stream());
        let body: BoxBody = Box::pin(body);
        let place = Arc::new(PassingPlace {
            body: Mutex::new(Some(body)),
            held: Arc::clone(held),
            state: Mutex::default(),
        });
        place.stands();
        let watched = held.watch(address(&place), Arc::downgrade(&place) as Weak<dyn Reading>);
        Self { hint, is_end, place, _watched: watched }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let place = &self.place;
        let mut body = lock(&place.body);
        let Some(inner) = &mut *body else {
            let was_cut_off = !std::mem::replace(&mut self.is_end, true);
            return Poll::Ready(was_cut_off.then(|| Err(Failure::TooSlow.into())));
        };
        {
            let mut state = lock(&place.state);
            state.client = Some(cx.waker().clone());
            state.was_woken = false;
        }
        let waker = Waker::from(Arc::clone(place));
        let polled = inner.as_mut().poll_frame(&mut Context::from_waker(&waker));
        (self.hint, self.is_end) = (inner.size_hint(), inner.is_end_stream());
        match &polled {
            Poll::Pending => place.waits(),
            Poll::Ready(Some(Ok(_))) if !self.is_end => place.stands(),
            // A server does not poll a body again that says it is at its end.
            Poll::Ready(_) => {
                self.is_end = true;
                let body = body.take();
                place.goes();
                drop(body);
            }
        }
        polled
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.is_end
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

impl PassingPlace {
    /// There is content for the client from now on.
    fn stands(&self) {
        let was_there = lock(&self.state).since.replace(moment()).is_some();
        if !was_there {
            self.held.take(IN_HAND);
        }
    }

    /// The client waits for more, unless that arrived while it asked.
    fn waits(&self) {
        let mut state = lock(&self.state);
        if !state.was_woken && state.since.take().is_some() {
            self.held.give_back(IN_HAND);
        }
    }

    fn goes(&self) {
        let mut state = lock(&self.state);
        let client = state.client.take();
        if state.since.take().is_some() {
            self.held.give_back(IN_HAND);
        }
        drop(state);
        drop(client);
    }
}

impl Wake for PassingPlace {
    fn wake(self: Arc<Self>) {
        let client = {
            let mut state = lock(&self.state);
            state.was_woken = true;
            if state.since.is_none() && state.client.is_some() {
                state.since = Some(moment());
                self.held.take(IN_HAND);
            }
            state.client.clone()
        };
        if let Some(client) = client {
            client.wake();
        }
    }
}

impl Reading for PassingPlace {
    fn pace(&self) -> Pace {
        let state = lock(&self.state);
        match state.since {
            None => Pace::Waits,
            Some(since) if state.client.is_none() => Pace::Begins(since),
            Some(since) => Pace::Stands(since),
        }
    }

    fn cut_off(&self, since: Instant) {
        // A client that asks for more at this moment does not stand still, and this very thread may be asking.
        let Ok(mut body) = self.body.try_lock() else {
            return;
        };
        if lock(&self.state).since.is_some_and(|stands| stands <= since) {
            let body = body.take();
            self.goes();
            if body.is_some() {
                self.held.count_cut_off();
            }
        }
    }
}

/// The body may hold its waker, which holds the place of the body.
impl Drop for Passing {
    fn drop(&mut self) {
        let body = lock(&self.place.body).take();
        self.place.goes();
        drop(body);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limits::held::BodyLimits;

    /// Yields before each frame, like a body that has more.
    #[derive(Default)]
    struct Yielding {
        has_yielded: bool,
    }

    impl Body for Yielding {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            self.has_yielded = !self.has_yielded;
            if self.has_yielded {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"more")))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a29_a_reader_that_is_woken_during_a_poll_and_never_polls_again_is_cut_off() {
        let stall = Duration::from_secs(60);
        let held = Held::new(&BodyLimits::new().stall(stall), None);
        let mut body = Passing::new(&held, Yielding::default());
        let mut next = async || std::future::poll_fn(|cx| body.poll_frame(cx)).await;
        for _ in 0..10 {
            assert!(matches!(next().await, Some(Ok(_))));
            tokio::time::sleep(stall / 2).await;
        }
        // Asks once.
        assert!(crate::runtime::polled_once(std::pin::pin!(next())).await.is_none());
        assert_eq!(held.beyond_the_store(), IN_HAND);
        tokio::time::sleep(stall * 2).await;
        assert!(matches!(next().await, Some(Err(_))));
        assert_eq!((held.beyond_the_store(), held.cut_off()), (0, 1));
        assert!(next().await.is_none());
    }
}
