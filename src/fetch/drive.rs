//! The task in which a call goes on that others wait for.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::collapse::{Call, Demand};
use crate::limits::{GaugeGuard, Gauges};

/// A call in a task of its own. It ends before its time when nobody waits for it, and either nobody may ever have the
/// answer or there are too many such calls.
pub(super) struct DetachedCall<F> {
    call: Arc<Call>,
    detached: Option<GaugeGuard>,
    future: Pin<Box<F>>,
    gauges: Arc<Gauges>,
}

impl<F> DetachedCall<F> {
    pub(super) fn new(call: Arc<Call>, future: Pin<Box<F>>, gauges: Arc<Gauges>) -> Self {
        Self { call, detached: None, future, gauges }
    }

    fn is_deserted(&mut self, cx: &Context<'_>) -> bool {
        match self.call.demand(cx) {
            Demand::None => true,
            Demand::Paused => {
                if self.detached.is_none() {
                    self.detached = self.gauges.detached();
                }
                self.detached.is_none()
            }
            Demand::Active => {
                self.detached = None;
                false
            }
        }
    }
}

/// What became of it.
pub(super) enum Ended<T> {
    Deserted,
    Done(T),
    Panicked(Box<dyn Any + Send>),
}

impl<F: Future> Future for DetachedCall<F> {
    type Output = Ended<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.is_deserted(cx) {
            return Poll::Ready(Ended::Deserted);
        }
        let future = &mut this.future;
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            // On the way it may have turned out that the answer is nobody else's.
            Ok(Poll::Pending) if this.is_deserted(cx) => Poll::Ready(Ended::Deserted),
            Ok(poll) => poll.map(Ended::Done),
            Err(panic) => Poll::Ready(Ended::Panicked(panic)),
        }
    }
}
