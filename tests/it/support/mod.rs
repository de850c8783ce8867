//! What scenarios are made of.

use std::hash::{BuildHasher, RandomState};

use proptest::test_runner::{Config, RngSeed};

pub mod alloc;
pub mod bench;
pub mod elsewhere;
pub mod forward;
pub mod origin;
pub mod raw;
pub mod source;
pub mod stepped;
pub mod wire;

pub use bench::{Bench, Seen};
pub use origin::{Origin, Reply};
pub use stepped::{Answer, Client, Reading, Stage, Step, settle};

/// So many random cases, by the seed in `LARDER_SEED` if there is one. The seed is told with a failure, so that the same
/// cases can be had again.
#[expect(clippy::print_stderr, reason = "a test's output is shown when it fails, and only then")]
pub fn cases(cases: u32) -> Config {
    let seed = std::env::var("LARDER_SEED")
        .map_or_else(|_| RandomState::new().hash_one(cases), |seed| seed.parse().unwrap());
    eprintln!("LARDER_SEED={seed}");
    Config { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(seed), ..Config::default() }
}
