//! The contract, on each kind of server.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use larder::store::conformance::{Capabilities, check_all};
use larder::store::{RedisConfig, RedisStore};

use crate::support::servers::{Cluster, Kind, Server};

/// A store that nobody else has. What is tried here does not depend on how fast a server is.
pub fn empty(url: &str) -> RedisStore {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let namespace = format!("empty-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let config: RedisConfig = url.parse().unwrap();
    RedisStore::new(config.namespace(&namespace).deadline(Duration::from_secs(20))).unwrap()
}

async fn check(url: &str) {
    check_all(async || empty(url), Capabilities::all()).await;
}

#[tokio::test]
async fn the_contract_is_kept_over_redis() {
    check(&Server::start(Kind::Redis).url()).await;
}

#[tokio::test]
async fn the_contract_is_kept_over_valkey() {
    check(&Server::start(Kind::Valkey).url()).await;
}

#[tokio::test]
async fn the_contract_is_kept_over_an_old_redis() {
    check(&Server::start(Kind::Old).url()).await;
}

#[tokio::test]
async fn the_contract_is_kept_over_a_cluster() {
    check(&Cluster::shared().url()).await;
}
