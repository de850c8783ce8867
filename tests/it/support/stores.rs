//! Stores that wait, hang and fail by a script, around another one; and the store that a run of the scenarios is over.
//!
//! `LARDER_STORE=slow` runs the scenarios over [`Slow`], which answers nothing at once, [`Remembering`], which is told of half
//! of what is on its way, and [`Written`], which keeps what it has read of what it has written; `LARDER_STORE=elsewhere` over
//! [`Elsewhere`], which takes content while it comes and opens it on demand; `LARDER_STORE=streams` over a slow one of those.
//! Scenarios whose premise is content in memory fail over the last two.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use http::HeaderMap;
use larder::semantics::range::ByteRange;
use larder::store::{
    BeginOutcome, ContentWriter, Expected, Fence, Lookup, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget,
    PutOutcome, RemoteContent, Store, StoreLimits, StoreStatistics, StoredBody, StoredId,
};
use larder::{BoxStore, CacheKey, Clock, MemoryStore, ResponseHead, StoreError, StoredResponse};
use tokio::runtime::{Handle, Id};
use tokio::sync::Semaphore;
use tokio::task::yield_now;

use super::elsewhere::Elsewhere;
use super::remembering::Remembering;
use super::seed;
use super::written::Written;

pub type CacheBuilder = larder::CacheBuilder<BoxStore>;
pub type CacheHandle = larder::CacheHandle<BoxStore>;
pub type CacheLayer = larder::CacheLayer<BoxStore>;
pub type CacheService<I> = larder::CacheService<I, BoxStore>;

/// A layer over the store of this run.
pub fn cache_layer() -> CacheLayer {
    cache_builder().build()
}

/// Sets up a layer over the store of this run.
pub fn cache_builder() -> CacheBuilder {
    cache_builder_over(MemoryStore::default())
}

/// Sets up a layer over this store, as it is, slow and writing all down, or as the place for heads alone. Its clock stands
/// still.
pub fn cache_builder_over(store: MemoryStore) -> CacheBuilder {
    CacheLayer::builder(match kind() {
        Kind::Elsewhere => BoxStore::new(Elsewhere::of(store)),
        Kind::Memory => BoxStore::new(store),
        Kind::Slow => BoxStore::new(Slow::of(Remembering::half_of(Written::of(store)))),
        Kind::Streams => BoxStore::new(Slow::of(Elsewhere::of(store))),
    })
    .clock(Clock::manual().0)
}

#[derive(Clone, Copy)]
enum Kind {
    Elsewhere,
    Memory,
    Slow,
    Streams,
}

/// The store of this run.
fn kind() -> Kind {
    static KIND: LazyLock<Kind> = LazyLock::new(|| match std::env::var("LARDER_STORE").as_deref() {
        Ok("elsewhere") => Kind::Elsewhere,
        Ok("memory") | Err(_) => Kind::Memory,
        Ok("slow") => Kind::Slow,
        Ok("streams") => Kind::Streams,
        Ok(other) => panic!("LARDER_STORE is `memory`, `slow`, `elsewhere` or `streams`, not `{other}`"),
    });
    *KIND
}

/// Whether the store of this run takes its time.
pub fn is_slow() -> bool {
    matches!(kind(), Kind::Slow | Kind::Streams)
}

/// A call of a store that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    Begin,
    Commit,
    Freshen,
    Get,
    Invalidate,
    Open,
    PurgedSince,
    Put,
    Write,
}

/// What happens around each call of a store.
pub trait Script: Send + Sync + 'static {
    /// Whether each call ends without the test's help, so that [`at_rest`] waits for it.
    const ENDS_BY_ITSELF: bool = true;

    /// Before the call has any effect. An error takes the place of the call.
    fn before(&self, op: Op) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// When the call has had its effect, and nobody knows yet.
    fn after(&self, op: Op) -> impl Future<Output = ()> + Send {
        let _ = op;
        std::future::ready(())
    }
}

/// A store that is never there at once, and follows a script.
pub struct Scripted<S, P> {
    store: S,
    script: Arc<P>,
}

async fn call<T, P: Script>(
    script: &P,
    op: Op,
    call: impl Future<Output = Result<T, StoreError>> + Send,
) -> Result<T, StoreError> {
    let _busy = P::ENDS_BY_ITSELF.then(Busy::new);
    script.before(op).await?;
    let output = call.await;
    script.after(op).await;
    output
}

impl<S: Store, P: Script> Scripted<S, P> {
    pub fn new(store: S, script: P) -> Self {
        Self { store, script: Arc::new(script) }
    }

    async fn call<T>(
        &self,
        op: Op,
        of_store: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        call(&*self.script, op, of_store).await
    }
}

impl<S: Store, P: Script> Store for Scripted<S, P> {
    fn try_get(&self, _: &CacheKey) -> Option<Lookup> {
        None
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        self.call(Op::Get, self.store.get(key)).await
    }

    async fn open(
        &self,
        key: &CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        self.call(Op::Open, self.store.open(key, content, range)).await
    }

    fn expect(&self, key: &CacheKey) -> Expected {
        self.store.expect(key)
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        self.call(Op::Put, self.store.put(key, response, fence)).await
    }

    async fn begin(
        &self,
        key: &CacheKey,
        expected_length: Option<u64>,
        fence: Fence,
    ) -> Result<BeginOutcome, StoreError> {
        let begun = self.call(Op::Begin, self.store.begin(key, expected_length, fence)).await?;
        Ok(match begun {
            BeginOutcome::Writer(writer) => {
                let script = Arc::clone(&self.script);
                BeginOutcome::Writer(Box::new(ScriptedWriter { script, writer }))
            }
            begun => begun,
        })
    }

    async fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        self.call(Op::Freshen, self.store.freshen(key, of, head, fence)).await
    }

    async fn purged_since(
        &self,
        key: &CacheKey,
        since: Fence,
        scope: PurgeScope,
    ) -> Result<bool, StoreError> {
        self.call(Op::PurgedSince, self.store.purged_since(key, since, scope)).await
    }

    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<PurgeNumber, StoreError> {
        self.call(Op::Invalidate, self.store.invalidate(targets, mode)).await
    }

    fn limits(&self) -> StoreLimits {
        self.store.limits().waits(true)
    }

    fn statistics(&self) -> StoreStatistics {
        self.store.statistics()
    }
}

struct ScriptedWriter<P> {
    script: Arc<P>,
    writer: Box<dyn ContentWriter>,
}

type OfWriter<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

impl<P: Script> ContentWriter for ScriptedWriter<P> {
    fn write(&mut self, data: Bytes) -> OfWriter<'_, ControlFlow<PutOutcome>> {
        Box::pin(call(&*self.script, Op::Write, self.writer.write(data)))
    }

    fn commit(
        self: Box<Self>,
        head: ResponseHead,
        trailers: Option<HeaderMap>,
    ) -> OfWriter<'static, PutOutcome> {
        let Self { script, writer } = *self;
        Box::pin(async move {
            // Only now: what is not committed yet is dropped with its future.
            call(&*script, Op::Commit, async { writer.commit(head, trailers).await }).await
        })
    }
}

/// A store each of whose calls takes its turns, by the seed in `LARDER_SEED`.
pub type Slow<S> = Scripted<S, Turns>;

impl<S: Store> Slow<S> {
    pub fn of(store: S) -> Self {
        Self::new(store, Turns { calls: AtomicUsize::new(0), seed: seed() })
    }
}

/// Each call waits for one to three turns of the other tasks before it has its effect, and for up to two afterwards.
pub struct Turns {
    calls: AtomicUsize,
    seed: u64,
}

impl Turns {
    async fn wait(&self, op: Op, least: u64) {
        let mut hasher = DefaultHasher::new();
        (self.seed, op, self.calls.fetch_add(1, Ordering::SeqCst)).hash(&mut hasher);
        for _ in 0..least + hasher.finish() % 3 {
            yield_now().await;
        }
    }
}

impl Script for Turns {
    async fn before(&self, op: Op) -> Result<(), StoreError> {
        self.wait(op, 1).await;
        Ok(())
    }

    async fn after(&self, op: Op) {
        self.wait(op, 0).await;
    }
}

/// A store some of whose calls wait until a test lets them go on.
pub type Gated<S> = Scripted<S, Gate>;

/// Where the chosen calls wait. Clones are the same gate.
#[derive(Clone)]
pub struct Gate {
    arrived: Arc<AtomicUsize>,
    is_after: bool,
    ops: &'static [Op],
    passes: Arc<Semaphore>,
}

impl Gate {
    /// A closed one, where a call waits before it has its effect.
    pub fn before(ops: &'static [Op]) -> Self {
        Self { arrived: Arc::default(), is_after: false, ops, passes: Arc::new(Semaphore::new(0)) }
    }

    /// A closed one, where a call waits when it has had its effect.
    pub fn after(ops: &'static [Op]) -> Self {
        Self { is_after: true, ..Self::before(ops) }
    }

    pub fn open(&self) {
        self.pass(1_000_000);
    }

    pub fn close(&self) {
        self.passes.forget_permits(usize::MAX);
    }

    /// Lets so many calls pass.
    pub fn pass(&self, calls: usize) {
        self.passes.add_permits(calls);
    }

    /// How many calls have come to the gate so far.
    pub fn arrived(&self) -> usize {
        self.arrived.load(Ordering::SeqCst)
    }

    async fn wait(&self, op: Op, is_after: bool) {
        if self.is_after == is_after && self.ops.contains(&op) {
            self.arrived.fetch_add(1, Ordering::SeqCst);
            self.passes.acquire().await.expect("it is never closed for good").forget();
        }
    }
}

impl Script for Gate {
    const ENDS_BY_ITSELF: bool = false;

    async fn before(&self, op: Op) -> Result<(), StoreError> {
        self.wait(op, false).await;
        Ok(())
    }

    async fn after(&self, op: Op) {
        self.wait(op, true).await;
    }
}

/// A store whose chosen calls never return.
pub type Hanging<S> = Scripted<S, Gate>;

impl<S: Store> Hanging<S> {
    pub fn in_calls(store: S, ops: &'static [Op]) -> Self {
        Self::new(store, Gate::before(ops))
    }
}

/// A store whose chosen calls fail.
pub type Flaky<S> = Scripted<S, Fails>;

/// Fails by a script: it is asked with the call, and with how many calls of its kind there were before.
pub struct Fails {
    calls: Mutex<HashMap<Op, usize>>,
    fails: fn(Op, usize) -> bool,
}

impl<S: Store> Flaky<S> {
    pub fn by(store: S, fails: fn(Op, usize) -> bool) -> Self {
        Self::new(store, Fails { calls: Mutex::default(), fails })
    }
}

impl Script for Fails {
    async fn before(&self, op: Op) -> Result<(), StoreError> {
        let number = {
            let mut calls = self.calls.lock().unwrap();
            let number = calls.entry(op).or_default();
            *number += 1;
            *number - 1
        };
        yield_now().await;
        if (self.fails)(op, number) { Err(StoreError::new("answer", "its script says so")) } else { Ok(()) }
    }
}

/// How many calls of scripted stores are under way, by the runtime that waits: one for each test.
static BUSY: LazyLock<Mutex<HashMap<Id, usize>>> = LazyLock::new(Mutex::default);

struct Busy(Option<Id>);

impl Busy {
    fn new() -> Self {
        let runtime = Handle::try_current().ok().map(|runtime| runtime.id());
        if let Some(runtime) = runtime {
            *BUSY.lock().unwrap().entry(runtime).or_default() += 1;
        }
        Self(runtime)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(runtime) = self.0 {
            let mut busy = BUSY.lock().unwrap();
            let count = busy.entry(runtime).or_default();
            *count -= 1;
            if *count == 0 {
                busy.remove(&runtime);
            }
        }
    }
}

/// Waits until no scripted store of this test has anything to do: what was answered is stored then.
pub async fn at_rest() {
    if let Ok(runtime) = Handle::try_current() {
        while BUSY.lock().unwrap().contains_key(&runtime.id()) {
            yield_now().await;
        }
    }
}
