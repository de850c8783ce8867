//! Locks, tasks and waiting: what a schedule explorer takes the place of.
//!
//! With `--cfg shuttle` the same code runs under [shuttle](https://docs.rs/shuttle), which tries out schedules; see
//! `src/explore.rs`.

#[cfg(not(shuttle))]
mod real {
    use std::task::Poll;
    use std::time::Duration;

    pub(crate) use std::sync::{Mutex, MutexGuard};

    /// Something that runs tasks.
    pub(crate) struct Runtime(tokio::runtime::Handle);

    /// A task that was spawned. Dropped, it leaves the task alone.
    pub(super) type Task<T> = tokio::task::JoinHandle<T>;

    impl Runtime {
        /// The one that this code runs in, if any.
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
    }

    /// The output of a task, or its panic; `None` when the runtime shuts down first.
    pub(crate) async fn joined<T>(task: Task<T>) -> Option<T> {
        match task.await {
            Ok(output) => Some(output),
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => None,
            },
        }
    }

    /// What `future` gives, or `None` when it takes longer. In a runtime without timers nothing takes too long.
    pub(crate) async fn in_time<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
        // There is no other way to ask whether there are timers.
        match std::panic::catch_unwind(|| tokio::time::sleep(limit)) {
            Ok(late) => {
                let (mut late, mut future) = (std::pin::pin!(late), std::pin::pin!(future));
                std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
                    Poll::Ready(output) => Poll::Ready(Some(output)),
                    Poll::Pending => late.as_mut().poll(cx).map(|()| None),
                })
                .await
            }
            Err(_) => Some(future.await),
        }
    }
}

#[cfg(shuttle)]
mod explored {
    use std::time::Duration;

    pub(crate) use shuttle::sync::{Mutex, MutexGuard};

    pub(crate) struct Runtime(());

    pub(super) type Task<T> = shuttle::future::JoinHandle<T>;

    impl Runtime {
        pub(crate) fn current() -> Option<Self> {
            Some(Self(()))
        }

        pub(crate) fn spawn<F>(&self, future: F) -> Task<F::Output>
        where
            F: Future + Send + 'static,
            F::Output: Send + 'static,
        {
            shuttle::future::spawn(future)
        }
    }

    pub(crate) async fn joined<T>(task: Task<T>) -> Option<T> {
        task.await.ok()
    }

    /// There is no time here: nothing is ever late.
    pub(crate) async fn in_time<F: Future>(_: Duration, future: F) -> Option<F::Output> {
        Some(future.await)
    }
}

#[cfg(shuttle)]
pub(crate) use explored::{Mutex, MutexGuard, Runtime, in_time, joined};
#[cfg(not(shuttle))]
pub(crate) use real::{Mutex, MutexGuard, Runtime, in_time, joined};

/// No code under a lock can panic half-way through a change, so a poisoned one is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
