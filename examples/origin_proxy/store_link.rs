//! The way to the servers of a store that several proxies share: how it does, and what is said of it.

use std::sync::Arc;
use std::time::Duration;

use larder::admin::StoreState;
use larder::store::{RedisLeases, RedisStore};
use larder::{CacheKey, Store, StoreError};
use tokio::time::{MissedTickBehavior, interval};

use crate::say::{say, tell};
use crate::store::IsNearOpen;

/// How often it is looked at.
const LOOKS: Duration = Duration::from_millis(250);
/// What is looked up to find out whether the servers answer. Nothing is stored under it.
const NOTHING: &str = "http://larder.invalid/";

/// The way to the servers. Cheap to clone.
#[derive(Clone)]
pub struct StoreLink(Arc<Inner>);

struct Inner {
    /// Whether memory before the servers answers, where there is some.
    is_near_open: Option<IsNearOpen>,
    /// What shares calls with other proxies.
    leases: Option<RedisLeases>,
    /// The store, as it may be shown.
    name: String,
    redis: RedisStore,
}

impl StoreLink {
    pub fn new(
        redis: RedisStore,
        leases: Option<RedisLeases>,
        name: String,
        is_near_open: Option<IsNearOpen>,
    ) -> Self {
        Self(Arc::new(Inner { is_near_open, leases, name, redis }))
    }

    pub fn state(&self) -> StoreState {
        let Inner { is_near_open, name, redis, .. } = &*self.0;
        let health = redis.health();
        StoreState {
            commands: health.commands,
            connections: health.connections,
            is_healthy: !health.is_open,
            is_near_open: is_near_open.as_ref().map(|is_open| is_open()),
            name: name.clone(),
            purges_to_repeat: health.purges_to_repeat,
        }
    }

    /// Says now, and whenever that changes, whether the servers answer. The first look-up also has the store look at how the
    /// servers are set up.
    pub fn watch(&self) {
        tokio::spawn(watch(self.clone()));
    }

    /// Whether the servers are asked.
    pub fn is_well(&self) -> bool {
        !self.0.redis.health().is_open
    }

    /// Gives leases back, for which other proxies may wait.
    pub async fn give_leases_back(&self) {
        if let Some(leases) = &self.0.leases {
            leases.given_back().await;
        }
    }

    /// Says what is lost with the process.
    pub fn say_what_is_lost(&self) {
        let purges = self.0.redis.health().purges_to_repeat;
        if purges > 0 {
            say(format_args!("purges that may not have arrived in the store: {purges}; send them again"));
        }
    }

    async fn ask(&self) -> Result<(), StoreError> {
        let Ok(key) = NOTHING.parse().map_err(drop).and_then(|uri| CacheKey::from_uri(&uri).map_err(drop))
        else {
            return Ok(());
        };
        self.0.redis.get(&key).await.map(drop)
    }
}

async fn watch(link: StoreLink) {
    let mut was_well = match link.ask().await {
        Ok(()) => true,
        Err(error) => {
            say(format_args!("the store does not answer, so requests go to the origin: {error}"));
            false
        }
    };
    let mut looks = interval(LOOKS);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let is_left_alone = link.0.redis.health().is_open;
        let is_well = !is_left_alone && (was_well || link.ask().await.is_ok());
        match (was_well, is_well) {
            (true, false) => {
                say("the store does not answer, so it is left alone, and requests go to the origin")
            }
            (false, true) => tell("the store answers again"),
            _ => {}
        }
        was_well = is_well;
    }
}

/// How it does, in the text format of Prometheus.
pub fn metrics(state: &StoreState) -> String {
    let near = state.is_near_open.map(|is_open| {
        (
            "larder_store_near_open",
            "Whether memory before the servers of the store answers",
            "gauge",
            u64::from(is_open),
        )
    });
    let healthy = u64::from(state.is_healthy);
    let purges = state.purges_to_repeat as u64;
    let metrics = [
        (
            "larder_store_commands_total",
            "Commands sent to the servers of the store",
            "counter",
            state.commands,
        ),
        (
            "larder_store_connections_total",
            "Connections made to the servers of the store",
            "counter",
            state.connections,
        ),
        ("larder_store_healthy", "Whether the servers of the store are asked", "gauge", healthy),
        ("larder_store_purges_to_repeat", "Purges that may not have arrived in the store", "gauge", purges),
    ];
    let line =
        |(name, help, kind, value)| format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    metrics.into_iter().chain(near).map(line).collect()
}
