//! The store that is put to the test, and how it is opened.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use super::capabilities::Capabilities;
use crate::entry::key::CacheKey;
use crate::runtime;
use crate::store::Store;

/// Where a store has its responses: two nodes open it there.
///
/// A store that is in one process is its own place, and both nodes get a clone of it: every store that can be cloned is one
/// (`Arc` makes that of any). A store whose nodes are processes of their own gives two handles that share nothing but what is
/// outside of them, as two connections to one server do.
///
/// ```
/// use larder::MemoryStore;
/// use larder::store::conformance::{Nodes, Subject, check_all};
///
/// /// A server that nodes connect to. Here it is in this process.
/// struct Server(MemoryStore);
///
/// impl Nodes for Server {
///     type Store = MemoryStore; // one that has a connection
///
///     async fn open(&self) -> [MemoryStore; 2] {
///         [self.0.clone(), self.0.clone()]
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// check_all(&Subject::new(async || Server(MemoryStore::default())).operations(50)).await;
/// # });
/// ```
pub trait Nodes {
    /// A node's handle.
    type Store: Store;

    /// Two handles on the store that is here. The first time, that is empty; after [`Nodes::close`], it has what it keeps
    /// ([`Capabilities::durable`]).
    fn open(&self) -> impl Future<Output = [Self::Store; 2]>;

    /// Ends both handles, so that the store can be opened again. By default, they are dropped.
    fn close(&self, handles: [Self::Store; 2]) -> impl Future<Output = ()> {
        async move { drop(handles) }
    }

    /// The bytes that the store has under a key; `None`, the default, where there are none that could be had.
    fn bytes(&self, key: &CacheKey) -> impl Future<Output = Option<Vec<u8>>> {
        let _ = key;
        std::future::ready(None)
    }

    /// Puts other bytes in the place of those under a key, as a fault or a stranger does. Called where [`Nodes::bytes`] gives some.
    fn overwrite(&self, key: &CacheKey, bytes: Vec<u8>) -> impl Future<Output = ()> {
        let _ = (key, bytes);
        std::future::ready(())
    }
}

impl<S: Store + Clone> Nodes for S {
    type Store = S;

    async fn open(&self) -> [S; 2] {
        [self.clone(), self.clone()]
    }
}

/// What the rules are run on: a factory of empty stores, each for two nodes, and what these promise.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use larder::MemoryStore;
/// use larder::store::conformance::{Subject, purging};
///
/// let subject = Subject::new(async || MemoryStore::default());
/// purging::one_call_purges_many_targets(&subject).await;
/// # });
/// ```
pub struct Subject<'a, N> {
    pub(super) capabilities: Capabilities,
    make: Box<dyn Make<N> + 'a>,
    pub(super) operations: usize,
    sleep: Option<Box<dyn Sleep + 'a>>,
}

type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// An [`AsyncFn`] in a form that `dyn` can take.
trait Sleep {
    fn sleep(&self, time: Duration) -> Local<'_, ()>;
}

impl<F: AsyncFn(Duration)> Sleep for F {
    fn sleep(&self, time: Duration) -> Local<'_, ()> {
        Box::pin(self(time))
    }
}

/// Another one.
trait Make<N> {
    fn make(&self) -> Local<'_, N>;
}

impl<N, F: AsyncFn() -> N> Make<N> for F {
    fn make(&self) -> Local<'_, N> {
        Box::pin(self())
    }
}

impl<'a, N: Nodes> Subject<'a, N> {
    /// Stores that promise everything. Each call of `make` gives an empty one.
    pub fn new(make: impl AsyncFn() -> N + 'a) -> Self {
        Self { capabilities: Capabilities::all(), make: Box::new(make), operations: 2_000, sleep: None }
    }

    /// What the stores promise; default [`Capabilities::all`].
    #[must_use]
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// How many operations each of the 32 tasks does that use the store at one time; default 2,000.
    #[must_use]
    pub fn operations(mut self, of_each_task: usize) -> Self {
        self.operations = of_each_task;
        self
    }

    /// How to wait ([`Capabilities::staleness`], [`Capabilities::reads_no_clock`]). By default, tokio's timers are used, so a
    /// runtime without these has to say it.
    #[must_use]
    pub fn sleep(mut self, sleep: impl AsyncFn(Duration) + 'a) -> Self {
        self.sleep = Some(Box::new(sleep));
        self
    }

    pub(super) async fn make(&self) -> N {
        self.make.make().await
    }

    pub(super) async fn wait(&self, time: Duration) {
        match &self.sleep {
            Some(sleep) => sleep.sleep(time).await,
            None => {
                let has_waited = runtime::pause(time).await;
                assert!(has_waited, "this runtime has no timers: say how to wait by Subject::sleep");
            }
        }
    }
}

impl<N> fmt::Debug for Subject<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("capabilities", &self.capabilities).finish_non_exhaustive()
    }
}
