//! The contract, with two nodes, on each kind of server.

use std::time::Duration;

use larder::CacheKey;
use larder::store::conformance::{Capabilities, Nodes, Subject, check_all};
use larder::store::record::RecordNames;
use larder::store::{RedisConfig, RedisStore};

use super::{config, namespace};
use crate::support::servers::{Cluster, Kind, Server, ask_any, ok};

/// A namespace that two nodes share.
struct Place<'a> {
    names: RecordNames,
    namespace: String,
    ports: &'a [u16],
    settings: fn(RedisConfig) -> RedisConfig,
    url: &'a str,
}

impl<'a> Place<'a> {
    fn new(url: &'a str, ports: &'a [u16], settings: fn(RedisConfig) -> RedisConfig) -> Self {
        let namespace = namespace();
        Self { names: RecordNames::new(&namespace), namespace, ports, settings, url }
    }
}

impl Nodes for Place<'_> {
    type Store = RedisStore;

    async fn open(&self) -> [RedisStore; 2] {
        let store = || {
            let config = config(self.url).namespace(&self.namespace);
            RedisStore::new((self.settings)(config)).unwrap()
        };
        [store(), store()]
    }

    async fn bytes(&self, key: &CacheKey) -> Option<Vec<u8>> {
        ask_any(self.ports, &[b"GET", self.names.of(key).as_bytes()]).bytes()
    }

    async fn overwrite(&self, key: &CacheKey, bytes: Vec<u8>) {
        ok(&ask_any(self.ports, &[b"SET", self.names.of(key).as_bytes(), &bytes]));
    }
}

async fn check(url: &str, ports: &[u16], settings: fn(RedisConfig) -> RedisConfig) {
    // Redis removes what has a time to live when that is over.
    let promises = Capabilities::all().statistics(false).reads_no_clock(false);
    let subject = Subject::new(async || Place::new(url, ports, settings)).capabilities(promises);
    check_all(&subject.operations(20)).await;
}

async fn check_on(kind: Kind, settings: fn(RedisConfig) -> RedisConfig) {
    let server = Server::start(kind);
    check(&server.url(), &[server.port], settings).await;
}

#[tokio::test]
async fn the_contract_is_kept_over_redis() {
    check_on(Kind::Redis, |config| config).await;
}

#[tokio::test]
async fn the_contract_is_kept_over_valkey() {
    check_on(Kind::Valkey, |config| config).await;
}

#[tokio::test]
async fn the_contract_is_kept_over_an_old_redis() {
    check_on(Kind::Old, |config| config).await;
}

#[tokio::test]
async fn the_contract_is_kept_where_all_content_is_in_chunks() {
    check_on(Kind::Redis, |config| config.inline(0).chunk(16 << 10).max_object(1 << 20)).await;
}

#[tokio::test]
async fn the_contract_is_kept_where_all_content_is_in_the_record() {
    check_on(Kind::Valkey, |config| config.inline(1 << 30).max_object(1 << 20).max_variants(3)).await;
}

#[tokio::test]
async fn the_contract_is_kept_over_a_cluster() {
    let cluster = Cluster::shared();
    check(&cluster.url(), &cluster.ports(), |config| config).await;
}

#[tokio::test]
async fn the_contract_is_kept_where_a_purge_waits_for_a_replica() {
    let cluster = Cluster::shared();
    let waits = |config: RedisConfig| config.wait_for_replicas(1, Duration::from_secs(20));
    check(&cluster.url(), &cluster.ports(), waits).await;
}
