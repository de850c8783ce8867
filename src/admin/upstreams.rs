//! What the service behind the cache knows of its upstreams.

use std::time::Duration;

use serde_json::{Value, json};

/// A server behind the cache: [`Admin::upstreams`](super::Admin::upstreams). Exhaustive on purpose: whoever knows the servers makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamState {
    /// How many calls are under way there.
    pub calls: usize,
    /// Whether it is thought to be well.
    pub is_healthy: bool,
    /// For how long that has been so.
    pub since: Duration,
    /// Its URL, or another name.
    pub url: String,
    /// Why it is not well, in words.
    pub why: Option<String>,
}

impl UpstreamState {
    pub(super) fn json(&self) -> Value {
        let Self { calls, is_healthy, since, url, why } = self;
        json!({ "url": url, "healthy": is_healthy, "since": since.as_secs(), "why": why, "calls": calls })
    }
}
