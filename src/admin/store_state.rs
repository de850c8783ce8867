//! What a store knows of its servers.

use serde_json::{Value, json};

/// How a store outside of the process does: [`Admin::store`](super::Admin::store). Exhaustive on purpose: whoever knows the store
/// makes it, for instance from `RedisStore::health`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreState {
    /// How many commands were sent.
    pub commands: u64,
    /// How many connections were made.
    pub connections: u64,
    /// Whether its servers are asked. They are left alone while they fail, and requests go to the inner service.
    pub is_healthy: bool,
    /// Whether what is kept in memory before it is served; `None` where nothing is kept there.
    pub is_near_open: Option<bool>,
    /// Where it is, in words. Not with a password in it.
    pub name: String,
    /// How many purges may not have arrived, and are made again when the servers answer.
    pub purges_to_repeat: usize,
}

impl StoreState {
    pub(super) fn json(&self) -> Value {
        let Self { commands, connections, is_healthy, is_near_open, name, purges_to_repeat } = self;
        json!({
            "commands": commands,
            "connections": connections,
            "healthy": is_healthy,
            "name": name,
            "near_open": is_near_open,
            "purges_to_repeat": purges_to_repeat,
        })
    }
}
