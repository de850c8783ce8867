//! CloudFront as a policy.

use std::time::Duration;

use larder::policy::cloudfront::{CachePolicyConfig, Distribution};

use crate::support::{Bench, Reply, cache_builder};

mod failures;
#[cfg(feature = "serde")]
mod files;
mod forwarding;
mod keys;
mod lifetimes;
mod options;

/// A cache policy with these lifetimes, in seconds.
fn lifetimes(min: u64, default: u64, max: u64) -> CachePolicyConfig {
    let seconds = Duration::from_secs;
    CachePolicyConfig::new().min_ttl(seconds(min)).default_ttl(seconds(default)).max_ttl(seconds(max))
}

fn bench(distribution: Distribution, replies: impl IntoIterator<Item = Reply>) -> Bench {
    Bench::with(cache_builder().policy(distribution), replies)
}
