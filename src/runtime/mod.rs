//! Concurrency primitives: locks, tasks and waiting. Under `cfg(shuttle)` they are replaced by shuttle's.
//!
//! With `--cfg shuttle`, the same code runs under [shuttle](https://docs.rs/shuttle), which explores schedules; see
//! `src/schedules`.

pub(crate) mod clock;
pub(crate) mod slab;

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

#[cfg(not(shuttle))]
mod real {
    use std::cell::Cell;
    use std::pin::Pin;
    use std::task::Poll;
    use std::time::Duration;

    use tokio::runtime::Id;
    use tokio::time::Sleep;

    pub(crate) use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
    #[cfg(any(feature = "conformance", feature = "redis", test))]
    pub(crate) use tokio::task::yield_now;
    pub(crate) use tokio::time::Instant;

    /// Something that runs tasks.
    pub(crate) struct Runtime(tokio::runtime::Handle);

    /// A spawned task. Dropping this does not affect the task.
    pub(super) type Task<T> = tokio::task::JoinHandle<T>;

    impl Runtime {
        /// The runtime that this code runs in, if any.
        pub(crate) fn current() -> Option<Self> {
            tokio::runtime::Handle::try_current().ok().map(Self)
        }

        pub(crate) fn spawn<F>(&self, future: F) -> Task<F::Output>
        where
            F: Future + Send + 'static,
            F::Output: Send,
        {
            self.0.spawn(future)
        }

        /// Runs what blocks a thread on one where that stops nobody else.
        #[cfg(any(feature = "admin", feature = "disk", feature = "viewer"))]
        pub(crate) fn spawn_blocking<T: Send + 'static>(
            &self,
            work: impl FnOnce() -> T + Send + 'static,
        ) -> Task<T> {
            self.0.spawn_blocking(work)
        }
    }

    /// The output of a task; resumes its panic; `None` if the runtime shuts down first.
    pub(crate) async fn joined<T>(task: Task<T>) -> Option<T> {
        match task.await {
            Ok(output) => Some(output),
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => None,
            },
        }
    }

    /// A time limit; a runtime without timers has none.
    pub(crate) struct Deadline(Option<Pin<Box<Sleep>>>);

    impl Deadline {
        pub(crate) fn new(limit: Duration) -> Self {
            Self(timer(limit).map(Box::pin))
        }

        /// The output of `future`, or `None` if it takes longer.
        pub(crate) async fn in_time<F: Future>(&mut self, future: F) -> Option<F::Output> {
            match &mut self.0 {
                Some(late) => first(future, late.as_mut()).await,
                None => Some(future.await),
            }
        }
    }

    /// The output of `future`, or `None` if it takes longer; in a runtime without timers, `None` unless it is ready at
    /// once.
    pub(crate) async fn briefly<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        if let Some(output) = super::polled_once(future.as_mut()).await {
            return Some(output);
        }
        let late = std::pin::pin!(timer(limit)?);
        first(future, late).await
    }

    /// Waits. Returns whether that was possible: some runtimes have no timers.
    pub(crate) async fn pause(time: Duration) -> bool {
        match timer(time) {
            Some(timer) => {
                timer.await;
                true
            }
            None => false,
        }
    }

    std::thread_local! {
        /// The runtime that this thread has last found to have no timers.
        static WITHOUT_TIMERS: Cell<Option<Id>> = const { Cell::new(None) };
    }

    fn timer(limit: Duration) -> Option<Sleep> {
        let runtime = tokio::runtime::Handle::try_current().ok()?.id();
        if WITHOUT_TIMERS.get() == Some(runtime) {
            return None;
        }
        // There is no other way to ask whether there are timers. The panic hook sees each attempt.
        let timer = std::panic::catch_unwind(|| tokio::time::sleep(limit)).ok();
        if timer.is_none() {
            WITHOUT_TIMERS.set(Some(runtime));
        }
        timer
    }

    async fn first<F: Future>(future: F, mut late: Pin<&mut Sleep>) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => late.as_mut().poll(cx).map(|()| None),
        })
        .await
    }
}

#[cfg(shuttle)]
mod explored {
    use std::any::Any;
    use std::cell::{Cell, RefCell};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::pin::pin;
    use std::task::{Poll, Waker};
    use std::time::Duration;

    use shuttle::rand::{Rng, thread_rng};

    pub(crate) use shuttle::future::yield_now;
    pub(crate) use shuttle::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
    pub(crate) use std::time::Instant;

    /// A future that takes no more turns of the scheduler than this is in time.
    const MOST_TURNS: usize = 8;

    std::thread_local! {
        /// The number of tasks that have not ended, and the waker of the task that waits for them.
        static RUNNING: Cell<usize> = const { Cell::new(0) };
        static WAITING: RefCell<Option<Waker>> = const { RefCell::new(None) };
    }

    pub(crate) struct Runtime(());

    pub(super) type Task<T> = shuttle::future::JoinHandle<Result<T, Box<dyn Any + Send>>>;

    impl Runtime {
        pub(crate) fn current() -> Option<Self> {
            Some(Self(()))
        }

        pub(crate) fn spawn<F>(&self, future: F) -> Task<F::Output>
        where
            F: Future + Send + 'static,
            F::Output: Send + 'static,
        {
            let running = Running::new();
            shuttle::future::spawn(async move {
                let _running = running;
                // As tokio does: shuttle ends everything at a panic.
                let mut future = Box::pin(future);
                std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                    Ok(poll) => poll.map(Ok),
                    Err(panic) => Poll::Ready(Err(panic)),
                })
                .await
            })
        }
    }

    #[cfg(any(feature = "admin", feature = "disk", feature = "viewer"))]
    impl Runtime {
        pub(crate) fn spawn_blocking<T: Send + 'static>(
            &self,
            work: impl FnOnce() -> T + Send + 'static,
        ) -> Task<T> {
            self.spawn(async move { work() })
        }
    }

    pub(crate) async fn joined<T>(task: Task<T>) -> Option<T> {
        match task.await.ok()? {
            Ok(output) => Some(output),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// There is no time here: the schedule decides whether something is late. [`Duration::MAX`] is never over.
    pub(crate) async fn in_time<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
        if limit == Duration::MAX {
            return Some(future.await);
        }
        let turns = thread_rng().gen_range(0..=MOST_TURNS);
        let late = async {
            for _ in 0..turns {
                yield_now().await;
            }
        };
        let (mut late, mut future) = (pin!(late), pin!(future));
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => late.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    pub(crate) struct Deadline(Duration);

    impl Deadline {
        pub(crate) fn new(limit: Duration) -> Self {
            Self(limit)
        }

        pub(crate) async fn in_time<F: Future>(&mut self, future: F) -> Option<F::Output> {
            in_time(self.0, future).await
        }
    }

    pub(crate) async fn briefly<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
        in_time(limit, future).await
    }

    pub(crate) async fn pause(limit: Duration) -> bool {
        in_time(limit, std::future::pending::<()>()).await;
        true
    }

    /// A task that has not ended.
    struct Running(());

    impl Running {
        fn new() -> Self {
            RUNNING.set(RUNNING.get() + 1);
            Self(())
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            RUNNING.set(RUNNING.get() - 1);
            if RUNNING.get() == 0
                && let Some(waker) = WAITING.take()
            {
                waker.wake();
            }
        }
    }

    /// Forgets the tasks of a schedule that failed.
    #[cfg(test)]
    pub(crate) fn begin() {
        RUNNING.set(0);
        WAITING.set(None);
    }

    /// Waits for all tasks. One that never ends is a deadlock, which shuttle reports; by itself, shuttle does not wait
    /// for detached tasks.
    #[cfg(test)]
    pub(crate) async fn all_ended() {
        std::future::poll_fn(|cx| {
            if RUNNING.get() == 0 {
                return Poll::Ready(());
            }
            WAITING.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

#[cfg(all(shuttle, any(feature = "conformance", feature = "redis", test)))]
pub(crate) use explored::yield_now;
#[cfg(shuttle)]
pub(crate) use explored::{
    Deadline, Instant, Mutex, MutexGuard, Runtime, RwLock, RwLockReadGuard, RwLockWriteGuard, briefly,
    joined, pause,
};
#[cfg(all(test, shuttle))]
pub(crate) use explored::{all_ended, begin};
#[cfg(all(not(shuttle), any(feature = "conformance", feature = "redis", test)))]
pub(crate) use real::yield_now;
#[cfg(not(shuttle))]
pub(crate) use real::{
    Deadline, Instant, Mutex, MutexGuard, Runtime, RwLock, RwLockReadGuard, RwLockWriteGuard, briefly,
    joined, pause,
};

/// The present, to measure durations. Ages come from the [`clock`].
pub(crate) fn moment() -> Instant {
    Instant::now()
}

/// The output of `future` if it is ready at once.
pub(crate) async fn polled_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    std::future::poll_fn(|cx| match Pin::new(&mut future).poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Runs `future` to completion, even if the caller is dropped while it waits. `None` if the runtime shuts down first.
pub(crate) async fn to_its_end<F>(future: F) -> Option<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let mut future = Box::pin(future);
    if let Some(output) = polled_once(future.as_mut()).await {
        return Some(output);
    }
    match Runtime::current() {
        Some(runtime) => joined(runtime.spawn(future)).await,
        None => Some(future.await),
    }
}

/// Polls a future once, and runs the rest of it in a task if there is a runtime: for work that begins when something is
/// dropped.
pub(crate) fn from_now_on<F>(future: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut future = Box::pin(future);
    if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
        && let Some(runtime) = Runtime::current()
    {
        drop(runtime.spawn(future));
    }
}

/// No code under a lock can panic in the middle of a change, so a poisoned lock guards consistent data.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
