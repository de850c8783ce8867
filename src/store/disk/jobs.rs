//! What waits for the disk, on threads where that stops nobody else.

use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::error::StoreError;
use crate::runtime::{Runtime, joined};

/// How much waits for the disk at one time. What is opened is read besides.
const JOBS: u32 = 64;

/// Runs work until the store is closed.
pub(super) struct Jobs(Arc<Semaphore>);

impl Default for Jobs {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(JOBS as usize)))
    }
}

impl Jobs {
    /// Does some work, to its end also where nobody waits for it any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        let permit = permit.map_err(|_| closed(action))?;
        let work = move || {
            let _permit = permit;
            work()
        };
        run(work).await.and_then(|done| done.map_err(|error| StoreError::new(action, error)))
    }

    /// Waits for what is being done; from then on, nothing is.
    pub(super) async fn end(&self) {
        let all = self.0.acquire_many(JOBS).await;
        self.0.close();
        drop(all);
    }

    pub(super) fn have_ended(&self) -> bool {
        self.0.is_closed()
    }

    /// For what does not wait for the disk, but fails once the store is closed as all else: what is in memory may be right no more.
    pub(super) fn check(&self, action: &'static str) -> Result<(), StoreError> {
        if self.have_ended() { Err(closed(action)) } else { Ok(()) }
    }
}

fn closed(action: &'static str) -> StoreError {
    StoreError::new(action, "it was closed")
}

/// Does some work, whether the store is closed or not.
pub(super) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    const ACTION: &str = "use the disk";
    let Some(runtime) = Runtime::current() else {
        return Err(StoreError::new(ACTION, "there is no runtime"));
    };
    let done = joined(runtime.spawn_blocking(work)).await;
    done.ok_or_else(|| StoreError::new(ACTION, "the runtime is shut down"))
}

/// Begins some work for which nobody waits.
pub(super) fn begin(work: impl FnOnce() + Send + 'static) {
    match Runtime::current() {
        Some(runtime) => drop(runtime.spawn_blocking(work)),
        // Nobody else is here to be stopped.
        None => work(),
    }
}
