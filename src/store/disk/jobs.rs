//! What waits for the disk, on threads where that stops nobody else.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::StoreError;
use crate::runtime::{Runtime, joined};

/// How much reads at one time, and how much writes besides: a hit does not wait for those that write.
const READS: u32 = 64;
const WRITES: u32 = 32;

/// What comes of work that has begun.
pub(super) type Begun<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// Runs work until the store is closed.
pub(super) struct Jobs {
    /// One at a time writes what was purged, and waits for no other one that writes.
    purges: Places,
    reads: Places,
    writes: Places,
}

/// So much of one kind is done at one time.
#[derive(Clone)]
struct Places(Arc<Semaphore>);

/// A place for work. Nobody keeps one who is not about to begin: others wait for it.
pub(super) struct Permit {
    _place: Option<OwnedSemaphorePermit>,
}

const NO_PLACE: Permit = Permit { _place: None };

impl Default for Jobs {
    fn default() -> Self {
        let places = |count: u32| Places(Arc::new(Semaphore::new(count as usize)));
        Self { purges: places(1), reads: places(READS), writes: places(WRITES) }
    }
}

impl Places {
    async fn permit(&self, action: &'static str) -> Result<Permit, StoreError> {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        permit.map(|place| Permit { _place: Some(place) }).map_err(|_| closed(action))
    }
}

impl Permit {
    /// Begins some work, which goes on to its end, whoever waits for it.
    pub(super) fn begin<T: Send + 'static>(
        self,
        action: &'static str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Begun<T> {
        let begun = run(move || {
            let _permit = self;
            work()
        });
        Box::pin(async move { begun.await?.map_err(|error| StoreError::new(action, error)) })
    }
}

impl Jobs {
    /// Reads, to the end also where nobody waits for it any more.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.reads.permit(action).await?.begin(action, work).await
    }

    /// Writes, in the same way.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.to_write(action).await?.begin(action, work).await
    }

    /// Writes what was purged, in the same way.
    pub(super) async fn purge<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.purges.permit(action).await?.begin(action, work).await
    }

    /// Waits for a place among those that write.
    pub(super) async fn to_write(&self, action: &'static str) -> Result<Permit, StoreError> {
        self.writes.permit(action).await
    }

    /// Reads on from what is open, also when the store has been closed.
    pub(super) fn read_on<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Begun<T> {
        if let Ok(place) = Arc::clone(&self.reads.0).try_acquire_owned() {
            return Permit { _place: Some(place) }.begin(action, work);
        }
        let Some(runtime) = Runtime::current() else { return NO_PLACE.begin(action, work) };
        let reads = self.reads.clone();
        // Whoever reads may stop for a while: a task takes the place when it is its turn, and nobody waits for the reader.
        let begun = joined(runtime.spawn(async move {
            let permit = reads.permit(action).await.unwrap_or(NO_PLACE);
            permit.begin(action, work).await
        }));
        Box::pin(async move { begun.await.unwrap_or_else(|| Err(shut_down())) })
    }

    /// Waits for what is being done; from then on, nothing is.
    pub(super) async fn end(&self) {
        let kinds = [(&self.reads, READS), (&self.writes, WRITES), (&self.purges, 1)];
        let mut all = Vec::new();
        for (places, count) in kinds {
            // Who comes later waits for this.
            all.push(places.0.acquire_many(count).await);
        }
        kinds.iter().for_each(|(places, _)| places.0.close());
        drop(all);
    }

    pub(super) fn have_ended(&self) -> bool {
        self.writes.0.is_closed()
    }

    /// For what does not wait for the disk, but fails once the store is closed as all else: what is in memory may be right no more.
    pub(super) fn check(&self, action: &'static str) -> Result<(), StoreError> {
        if self.have_ended() { Err(closed(action)) } else { Ok(()) }
    }
}

fn closed(action: &'static str) -> StoreError {
    StoreError::new(action, "it was closed")
}

const USE: &str = "use the disk";

fn shut_down() -> StoreError {
    StoreError::new(USE, "the runtime is shut down")
}

/// Begins some work at once, whether the store is closed or not, and gives what comes of it.
pub(super) fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, StoreError>> + Send + 'static {
    let begun = Runtime::current().map(|runtime| joined(runtime.spawn_blocking(work)));
    async move {
        match begun {
            Some(begun) => begun.await.ok_or_else(shut_down),
            None => Err(StoreError::new(USE, "there is no runtime")),
        }
    }
}

/// Begins some work for which nobody waits.
pub(super) fn begin(work: impl FnOnce() + Send + 'static) {
    match Runtime::current() {
        Some(runtime) => drop(runtime.spawn_blocking(work)),
        // Nobody else is here to be stopped.
        None => work(),
    }
}
