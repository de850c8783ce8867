//! [`RedisStore`](larder::store::RedisStore) on real servers.
//!
//! Nothing here depends on how fast anything is: where a deadline is not the point of a test, it is 20 seconds; where it is, the
//! server does not answer at all, and what is asserted is what was sent and what was answered.

mod bounds;
mod clocks;
mod conformance;
mod faults;
mod floods;
mod hostile;
mod leases;
mod losing;
mod moving;
mod reading;
mod setting_up;
mod tiers;
mod tiers_losing;
mod under_load;
mod versions;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use larder::store::{PurgeTarget, RedisConfig, RedisHealth, RedisStore};
use larder::{BoxStore, CacheLayer};

use crate::support::stores::waited_for;
use crate::support::{Bench, Reply, Seen};

/// A namespace that nobody else has.
fn namespace() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn config(url: &str) -> RedisConfig {
    let config: RedisConfig = url.parse().unwrap();
    config.deadline(Duration::from_secs(20)).content_deadline(Duration::from_secs(20))
}

/// A cache over a store, with its own origin.
struct Node {
    bench: Bench,
    store: RedisStore,
}

impl Node {
    fn new(config: RedisConfig) -> Self {
        let store = RedisStore::new(config).unwrap();
        let waited_for = BoxStore::new(waited_for(store.clone()));
        Self { bench: Bench::with(CacheLayer::builder(waited_for), []), store }
    }

    fn health(&self) -> RedisHealth {
        self.store.health()
    }

    async fn get(&self, path: &str) -> Seen {
        self.bench.get(path).await
    }

    /// Gets what the origin answers now.
    async fn fetch(&self, path: &str, body: &str) -> Seen {
        self.bench.origin.then(Reply::cc(body, "max-age=60").field("cache-groups", "\"news\""));
        self.get(path).await.has_body(body)
    }

    /// Stores what the origin answers now.
    async fn fill(&self, path: &str, body: &str) {
        self.fetch(path, body).await.told(FILLED);
    }

    async fn purge(&self, target: PurgeTarget) -> Result<(), larder::PurgeError> {
        self.bench.handle.purge_target(&target).await.map(drop)
    }
}

const HIT: &str = "larder; hit; ttl=60";
const FILLED: &str = "larder; fwd=uri-miss; stored; ttl=60";

/// Waits for what tasks do.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited)
        .await
        .unwrap_or_else(|_| panic!("{what} for a minute"));
}
