//! Stores that wait, hang and fail by a script, around another one; and the store that a run of the scenarios is over.
//!
//! `LARDER_STORE=slow` runs the scenarios over [`slow`], which answers nothing at once, [`Remembering`], which is told of half
//! of what is on its way, and [`Written`], which keeps what it has read of what it has written; `LARDER_STORE=elsewhere` over
//! [`Elsewhere`], which takes content while it comes and opens it on demand; `LARDER_STORE=streams` over a slow one of those.
//! `LARDER_STORE=disk` over a [`DiskStore`](larder::store::DiskStore) in a folder of its own, `LARDER_STORE=tiers` over memory before one.
//! Scenarios whose premise is content in
//! memory fail over the last four.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};
use std::thread::{self, ThreadId};

use larder::store::Store;
use larder::store::chaos::{Chaos, ChaosStore, Fault, Gate, StoreCall};
#[cfg(feature = "disk")]
use larder::store::{TierLimits, TieredStore};
use larder::{BoxStore, Clock, MemoryStore};
use tokio::runtime::{Handle, Id};
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
    CacheLayer::builder(store_over(store)).clock(Clock::manual().0)
}

/// The store of this run over this one. Nodes that share a store share this.
pub fn store_over(store: MemoryStore) -> BoxStore {
    match kind() {
        #[cfg(feature = "disk")]
        Kind::Disk => BoxStore::new(waited_for(super::on_disk::OnDisk::like(&store))),
        Kind::Elsewhere => BoxStore::new(Elsewhere::of(store)),
        Kind::Memory => BoxStore::new(store),
        Kind::Slow => BoxStore::new(slow(Remembering::half_of(Written::of(store)))),
        Kind::Streams => BoxStore::new(slow(Elsewhere::of(store))),
        #[cfg(feature = "disk")]
        Kind::Tiers => {
            let disk = super::on_disk::OnDisk::like(&store);
            BoxStore::new(waited_for(TieredStore::new(store, disk, TierLimits::new())))
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    #[cfg(feature = "disk")]
    Disk,
    Elsewhere,
    Memory,
    Slow,
    Streams,
    #[cfg(feature = "disk")]
    Tiers,
}

/// The store of this run.
fn kind() -> Kind {
    static KIND: LazyLock<Kind> = LazyLock::new(|| match std::env::var("LARDER_STORE").as_deref() {
        #[cfg(feature = "disk")]
        Ok("disk") => Kind::Disk,
        Ok("elsewhere") => Kind::Elsewhere,
        Ok("memory") | Err(_) => Kind::Memory,
        Ok("slow") => Kind::Slow,
        Ok("streams") => Kind::Streams,
        #[cfg(feature = "disk")]
        Ok("tiers") => Kind::Tiers,
        Ok(other) => {
            panic!(
                "LARDER_STORE is `memory`, `slow`, `elsewhere`, `streams`, `disk` or `tiers`, not `{other}`"
            )
        }
    });
    *KIND
}

/// Whether the store of this run takes its time.
pub fn is_slow() -> bool {
    match kind() {
        #[cfg(feature = "disk")]
        Kind::Disk | Kind::Tiers => true,
        Kind::Slow | Kind::Streams => true,
        Kind::Elsewhere | Kind::Memory => false,
    }
}

/// A store some of whose calls go wrong.
pub fn faulty<S: Store>(store: S, faults: impl IntoIterator<Item = Fault>) -> ChaosStore<S> {
    by(store, &Chaos::new(), faults)
}

fn by<S: Store>(store: S, chaos: &Chaos, faults: impl IntoIterator<Item = Fault>) -> ChaosStore<S> {
    faults.into_iter().for_each(|fault| chaos.add(fault));
    ChaosStore::new(store, chaos.clone())
}

/// A store whose calls all come to their ends without the test's help, so that [`at_rest`] waits for them.
fn restless<S: Store>(store: S, seed: u64, faults: impl IntoIterator<Item = Fault>) -> ChaosStore<S> {
    let chaos = Chaos::with_seed(seed);
    for test in Test::here() {
        RESTLESS.lock().unwrap().entry(test).or_default().push(chaos.clone());
    }
    by(store, &chaos, faults)
}

/// A store to which nothing is done, except that whoever reads an answer waits until what comes of it is stored.
#[cfg(any(feature = "disk", feature = "redis"))]
pub fn waited_for<S: Store>(store: S) -> ChaosStore<S> {
    restless(store, 0, [])
}

/// A store each of whose calls waits for one to three turns of the other tasks before it has its effect, and for up to two
/// afterwards, by the seed in `LARDER_SEED`.
pub fn slow<S: Store>(store: S) -> ChaosStore<S> {
    let calls = || StoreCall::ALL.iter().copied().filter(|call| *call != StoreCall::Read);
    let faults = [Fault::turns(1..=3), Fault::turns(0..=2).after_effect()];
    restless(store, seed(), faults.map(|fault| fault.in_calls(calls())))
}

/// A store whose calls fail of which this is true: it is asked with the call, and with how many calls of its kind there were
/// before.
pub fn flaky<S: Store>(store: S, fails: fn(StoreCall, u64) -> bool) -> ChaosStore<S> {
    restless(store, 0, [Fault::turns(1..=1), Fault::error().when(fails)])
}

/// A store whose chosen calls never return.
pub fn hanging<S: Store>(store: S, calls: &[StoreCall]) -> ChaosStore<S> {
    faulty(store, [Fault::hang().in_calls(calls.iter().copied())])
}

/// A closed gate, where the chosen calls wait before they have their effect.
pub fn before(calls: &[StoreCall]) -> (Gate, Fault) {
    let gate = Gate::closed();
    let fault = Fault::gate(&gate).in_calls(calls.iter().copied());
    (gate, fault)
}

/// A closed gate, where the chosen calls wait when they have had their effect.
pub fn after(calls: &[StoreCall]) -> (Gate, Fault) {
    let (gate, fault) = before(calls);
    (gate, fault.after_effect())
}

/// What tells one test from the others: each has a thread of its own, and its runtimes.
#[derive(PartialEq, Eq, Hash)]
enum Test {
    Runtime(Id),
    Thread(ThreadId),
}

impl Test {
    /// All that the test has here: a store may be made outside of the runtime in which it is used.
    fn here() -> impl Iterator<Item = Self> {
        let runtime = Handle::try_current().ok().map(|runtime| Self::Runtime(runtime.id()));
        runtime.into_iter().chain([Self::Thread(thread::current().id())])
    }
}

/// What to wait for.
static RESTLESS: LazyLock<Mutex<HashMap<Test, Vec<Chaos>>>> = LazyLock::new(Mutex::default);

/// Waits until no store of this test has anything to do: what was answered is stored then.
pub async fn at_rest() {
    let is_busy = || {
        let restless = RESTLESS.lock().unwrap();
        Test::here()
            .any(|test| restless.get(&test).is_some_and(|all| all.iter().any(|chaos| chaos.under_way() > 0)))
    };
    while is_busy() {
        yield_now().await;
    }
}
