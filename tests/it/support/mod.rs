//! What scenarios are made of.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use proptest::test_runner::{Config, RngSeed};

pub mod alloc;
pub mod bench;
#[cfg(feature = "admin")]
pub mod browser;
pub mod elsewhere;
#[cfg(feature = "redis")]
pub mod faulty;
pub mod file;
pub mod fleet;
pub mod forward;
pub mod hostile;
pub mod leasing;
pub mod logs;
#[cfg(feature = "viewer")]
pub mod mmdb;
pub mod naive;
#[cfg(feature = "disk")]
pub mod on_disk;
pub mod origin;
pub mod raw;
#[cfg(feature = "metrics")]
pub mod recorder;
pub mod records;
pub mod remembering;
#[cfg(feature = "redis")]
pub mod servers;
pub mod source;
#[cfg(feature = "tracing")]
pub mod spans;
pub mod stepped;
pub mod stores;
pub mod streaming;
pub mod tls;
pub mod wall_clock;
pub mod wire;
pub mod written;

pub use bench::{Bench, Seen};
pub use origin::{Origin, Refused, Reply};
pub use stepped::{Answer, Client, Reading, Stage, Step, settle};
pub use stores::{
    CacheBuilder, CacheHandle, CacheLayer, CacheService, cache_builder, cache_builder_over, cache_layer,
};
pub use wall_clock::WallClock;

/// What a future gives where there is no runtime, and nothing outside of it to wait for.
#[track_caller]
pub fn alone<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    (0..1_000)
        .find_map(|_| match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
        .expect("it comes to its end by itself")
}

/// Lets others go first: here, they go when this waits.
pub async fn turn() {}

/// So many random cases, by the [`seed`].
pub fn cases(cases: u32) -> Config {
    Config { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(seed()), ..Config::default() }
}

/// The seed of this run: that in `LARDER_SEED`, or a random one, which is shown with a failure, so that the same cases can
/// be had again.
#[expect(clippy::print_stderr, reason = "a test's output is shown when it fails, and only then")]
pub fn seed() -> u64 {
    static SEED: LazyLock<u64> = LazyLock::new(|| {
        std::env::var("LARDER_SEED")
            .map_or_else(|_| RandomState::new().hash_one("seed"), |seed| seed.parse().unwrap())
    });
    eprintln!("LARDER_SEED={}", *SEED);
    *SEED
}
