//! A tier in memory before the store.

use std::time::Duration;

use larder::store::log::FollowLimits;
use larder::store::{
    LeaseAnswer, LeaseName, Leases as _, Levels, PurgeMode, PurgeTarget, PutOutcome, RedisConfig, RedisStore,
    Store, TierLimits, TieredStore,
};
use larder::{BoxStore, CacheKey, CacheLayer, MemoryStore, StandardPolicy};

use super::{FILLED, HIT, config, namespace};
use crate::support::logs::response;
use crate::support::servers::{Cluster, Kind, Server};
use crate::support::stores::waited_for;
use crate::support::{Bench, Reply};

pub(super) type Tier = TieredStore<MemoryStore, RedisStore>;

pub(super) fn key() -> CacheKey {
    CacheKey::from_uri(&"http://example.com/".parse().unwrap()).unwrap()
}

/// So long that no machine is too slow for it.
pub(super) fn patient() -> TierLimits {
    TierLimits::new().bound(Duration::from_secs(60))
}

pub(super) struct Node {
    pub(super) bench: Bench,
    pub(super) tier: std::sync::Arc<Tier>,
}

impl Node {
    pub(super) fn new(url: &str, namespace: &str, limits: TierLimits) -> Self {
        Self::of(config(url).namespace(namespace), limits)
    }

    pub(super) fn of(config: RedisConfig, limits: TierLimits) -> Self {
        Self::keeping(config, limits, Levels::Both)
    }

    /// One that keeps responses in these levels.
    fn keeping(config: RedisConfig, limits: TierLimits, levels: Levels) -> Self {
        let far = RedisStore::new(config).unwrap();
        let tier = std::sync::Arc::new(TieredStore::following(MemoryStore::default(), far, limits));
        let store = BoxStore::new(waited_for(std::sync::Arc::clone(&tier)));
        let policy = StandardPolicy::default().levels(levels);
        Self { bench: Bench::with(CacheLayer::builder(store).policy(policy), []), tier }
    }

    /// Whether it is found without waiting.
    pub(super) fn is_near(&self) -> bool {
        self.tier.try_get(&key()).is_some_and(|lookup| !lookup.variants.is_empty())
    }

    /// Asks until it is near, as the log has to be followed first.
    pub(super) async fn bring_near(&self, body: &str) {
        while !self.is_near() {
            self.bench.get("/").await.has_body(body).told(HIT);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn purge_reaches_near_tiers(url: &str) {
    let namespace = namespace();
    let [one, other] = [(); 2].map(|()| Node::new(url, &namespace, patient()));
    for round in 0..3 {
        let body = round.to_string();
        one.bench.origin.then(Reply::cc(&body, "max-age=60").field("cache-groups", "\"news\""));
        one.bench.get("/").await.has_body(&body).told(FILLED);
        one.bring_near(&body).await;
        other.bring_near(&body).await;
        one.tier.invalidate(&[PurgeTarget::tag("news")], PurgeMode::Remove).await.unwrap();
        assert!(!one.is_near(), "where it is purged it is gone at once");
        // The bound is a minute; what follows the log takes milliseconds, and does not wait for that.
        while other.is_near() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn a_purge_of_another_node_reaches_the_near_tier_by_the_log() {
    for kind in Kind::ALL {
        purge_reaches_near_tiers(&Server::start(kind).url()).await;
    }
    purge_reaches_near_tiers(&Cluster::shared().url()).await;
}

/// The servers have nothing of it, and still they have to pass on that it is to go.
#[tokio::test]
async fn what_is_near_alone_goes_when_another_node_purges_it_or_sends_an_unsafe_request() {
    for kind in Kind::ALL {
        let (server, namespace) = (Server::start(kind), namespace());
        let [one, other] = [(); 2]
            .map(|()| Node::keeping(config(&server.url()).namespace(&namespace), patient(), Levels::Near));
        for method in [None, Some(http::Method::POST)] {
            one.bench.origin.then(Reply::cc("x", "max-age=60"));
            one.bench.get("/").await.has_body("x").told(FILLED);
            one.bring_near("x").await;
            match method {
                None => {
                    _ = other.tier.invalidate(&[PurgeTarget::Key(key())], PurgeMode::Remove).await.unwrap()
                }
                Some(method) => {
                    other.bench.origin.then(Reply::new("done"));
                    other.bench.send(method, "/", &[]).await.has_body("done");
                }
            }
            while one.is_near() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

#[tokio::test]
async fn while_the_server_is_frozen_the_near_tier_gives_nothing_older_than_the_bound() {
    let server = Server::start(Kind::Redis);
    let limits = TierLimits::new().bound(Duration::from_millis(250));
    let node = Node::new(&server.url(), &namespace(), limits);
    node.bench.origin.then(Reply::cc("x", "max-age=60"));
    node.bench.get("/").await.has_body("x");
    node.bring_near("x").await;
    server.freeze();
    let frozen = std::time::Instant::now();
    while node.is_near() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // What was proven just before is as old as the bound at most. The machine may be slow, so this is the one thing that can be said.
    assert!(frozen.elapsed() < Duration::from_secs(20));
    server.thaw();
    node.bring_near("x").await;
}

#[tokio::test]
async fn what_a_call_with_a_lease_brings_is_far_before_the_lease_ends() {
    let (server, namespace) = (Server::start(Kind::Redis), namespace());
    let [one, other] =
        [(); 2].map(|()| Node::new(&server.url(), &namespace, patient().far_in_background(true)));
    while !one.tier.is_near_open() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let key = key();
    other.tier.far().get(&key).await.unwrap();
    let fence = one.tier.get(&key).await.unwrap().fence;
    let asked = one.tier.far().leases().ask(LeaseName::new(&key)).await.unwrap();
    assert!(matches!(asked, LeaseAnswer::Granted(_)));
    assert_eq!(one.tier.put(&key, response(&[]), fence).await.unwrap(), PutOutcome::Stored);
    assert_eq!(other.tier.far().get(&key).await.unwrap().variants.len(), 1);
}

#[tokio::test]
async fn tiers_of_one_store_do_not_wait_for_each_others_polls() {
    let server = Server::start(Kind::Redis);
    let store = RedisStore::new(config(&server.url()).namespace(&namespace())).unwrap();
    let limits = patient().follow(FollowLimits::new().poll(Duration::from_secs(20)));
    let tiers =
        [(); 2].map(|()| TieredStore::following(MemoryStore::default(), store.clone(), limits.clone()));
    let both = async {
        while !server.ask(&["INFO", "clients"]).text().contains("blocked_clients:2") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), both).await.unwrap();
    drop(tiers);
}
