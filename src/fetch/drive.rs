//! The task in which a call goes on that others wait for.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::collapse::{Audience, Call};
use crate::limits::{Counted, Load};

/// A call in a task of its own. It ends before its time when nobody waits for it, and either nobody may ever have the
/// answer or there are too many such calls.
pub(super) struct Driven<F> {
    call: Arc<Call>,
    detached: Option<Counted>,
    future: Pin<Box<F>>,
    load: Arc<Load>,
}

impl<F> Driven<F> {
    pub(super) fn new(call: Arc<Call>, future: Pin<Box<F>>, load: Arc<Load>) -> Self {
        Self { call, detached: None, future, load }
    }

    fn is_deserted(&mut self, cx: &Context<'_>) -> bool {
        match self.call.audience(cx) {
            Audience::NobodyEver => true,
            Audience::NobodyNow => {
                if self.detached.is_none() {
                    self.detached = self.load.detached();
                }
                self.detached.is_none()
            }
            Audience::Somebody => {
                self.detached = None;
                false
            }
        }
    }
}

/// What became of it.
pub(super) enum Driving<T> {
    Deserted,
    Done(T),
    Panicked(Box<dyn Any + Send>),
}

impl<F: Future> Future for Driven<F> {
    type Output = Driving<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.is_deserted(cx) {
            return Poll::Ready(Driving::Deserted);
        }
        let future = &mut this.future;
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            // On the way it may have turned out that the answer is nobody else's.
            Ok(Poll::Pending) if this.is_deserted(cx) => Poll::Ready(Driving::Deserted),
            Ok(poll) => poll.map(Driving::Done),
            Err(panic) => Poll::Ready(Driving::Panicked(panic)),
        }
    }
}
