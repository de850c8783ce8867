//! Risks in how the servers are set up, said once at the start.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{Value, cmd};

use super::link::Link;
use crate::runtime::Runtime;

/// Hears of risks in how the servers are set up.
pub(super) type Listener = Arc<dyn Fn(&RedisAdvice) + Send + Sync>;

/// Something in the set-up of the servers that loses responses or purges where it need not
/// ([`RedisConfig::on_advice`](super::RedisConfig::on_advice)). The store works all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedisAdvice {
    /// The clock of this node differs from that of the server by more than a second. Stored responses are as old here as they are on
    /// other nodes all the same; but a response with a `Date` counts as older than it is where the clock is ahead, and soft purges
    /// end early or late. Let a time service set the clocks.
    ClockDiffers {
        /// By how much.
        by: Duration,
        /// Whether the clock of this node is the one that is ahead.
        is_ahead: bool,
    },
    /// `maxmemory-policy` is this one, by which the server may evict the log of purges, with which the whole cache is lost each
    /// time. Set `volatile-lfu` or `allkeys-lfu`.
    EvictionPolicy(String),
    /// `maxmemory-policy` is `noeviction`: when the memory is full nothing is stored any more. Set `volatile-lfu`.
    NoEviction,
    /// `maxmemory` is 0: the server takes memory until the system ends it.
    NoMemoryLimit,
    /// The primary has no replica: what it has is lost with it, and purges wait until it is back.
    NoReplica,
}

impl fmt::Display for RedisAdvice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClockDiffers { by, is_ahead } => write!(
                f,
                "the clock of this node is {:.0} s {} that of Redis: let a time service set both",
                by.as_secs_f64(),
                if *is_ahead { "ahead of" } else { "behind" }
            ),
            Self::EvictionPolicy(policy) => write!(
                f,
                "the maxmemory-policy of Redis is {policy}, which may evict the log of purges, and with it the whole cache: \
                 set volatile-lfu or allkeys-lfu"
            ),
            Self::NoEviction => f.write_str(
                "the maxmemory-policy of Redis is noeviction, so nothing is stored when the memory is full: set volatile-lfu",
            ),
            Self::NoMemoryLimit => {
                f.write_str("Redis has no maxmemory, and takes memory until the system ends it: set one")
            }
            Self::NoReplica => f.write_str(
                "Redis has no replica: where it is lost, so is everything stored, and purges fail until it is back",
            ),
        }
    }
}

/// Looks at the set-up of the servers once, when they have answered for the first time.
pub(super) struct Adviser {
    has_looked: AtomicBool,
    limit: Duration,
    link: Link,
    listener: Option<Listener>,
}

impl Adviser {
    pub(super) fn new(link: Link, limit: Duration, listener: Option<Listener>) -> Self {
        let is_heard = listener.is_some() || cfg!(feature = "tracing");
        Self { has_looked: AtomicBool::new(!is_heard), limit, link, listener }
    }

    pub(super) fn look(&self) {
        if !self.has_looked.load(Ordering::Relaxed)
            && !self.has_looked.swap(true, Ordering::AcqRel)
            && let Some(runtime) = Runtime::current()
        {
            drop(runtime.spawn(advise(self.link.clone(), self.limit, self.listener.clone())));
        }
    }
}

/// A user that may not ask gets no advice.
async fn advise(link: Link, limit: Duration, listener: Option<Listener>) {
    let mut given = Vec::new();
    for section in ["memory", "replication"] {
        let Ok(answer) = link.send(cmd("INFO").arg(section), limit).await else { return };
        for information in texts(&answer) {
            for advice in advice(&information) {
                if !given.contains(&advice) {
                    given.push(advice);
                }
            }
        }
    }
    given.iter().for_each(|advice| give(advice, listener.as_ref()));
}

pub(super) fn give(advice: &RedisAdvice, listener: Option<&Listener>) {
    #[cfg(feature = "tracing")]
    tracing::warn!("{advice}");
    if let Some(listener) = listener {
        listener(advice);
    }
}

/// The answer of one server, or those of all in a Cluster.
fn texts(answer: &Value) -> Vec<String> {
    match answer {
        Value::BulkString(bytes) => vec![String::from_utf8_lossy(bytes).into_owned()],
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => vec![text.clone()],
        Value::Map(servers) => servers.iter().flat_map(|(_, answer)| texts(answer)).collect(),
        Value::Array(servers) => servers.iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

fn advice(information: &str) -> Vec<RedisAdvice> {
    let field = |name: &str| {
        let mut fields = information.lines().filter_map(|line| line.trim_end().split_once(':'));
        fields.find_map(|(own, value)| (own == name).then_some(value))
    };
    let mut advice = Vec::new();
    if field("maxmemory") == Some("0") {
        advice.push(RedisAdvice::NoMemoryLimit);
    } else {
        match field("maxmemory_policy") {
            Some("noeviction") => advice.push(RedisAdvice::NoEviction),
            Some(policy @ ("allkeys-random" | "volatile-ttl")) => {
                advice.push(RedisAdvice::EvictionPolicy(policy.to_owned()));
            }
            _ => {}
        }
    }
    if field("role") == Some("master") && field("connected_slaves") == Some("0") {
        advice.push(RedisAdvice::NoReplica);
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_given_about_what_the_server_says_of_itself() {
        let of = |policy: &str| RedisAdvice::EvictionPolicy(policy.to_owned());
        for (information, expected) in [
            ("maxmemory:0\r\nmaxmemory_policy:noeviction\r\n", vec![RedisAdvice::NoMemoryLimit]),
            ("maxmemory:9\r\nmaxmemory_policy:noeviction\r\n", vec![RedisAdvice::NoEviction]),
            ("maxmemory:9\r\nmaxmemory_policy:allkeys-random\r\n", vec![of("allkeys-random")]),
            ("maxmemory:9\r\nmaxmemory_policy:volatile-ttl\r\n", vec![of("volatile-ttl")]),
            ("maxmemory:9\r\nmaxmemory_policy:volatile-lfu\r\n", vec![]),
            ("role:master\r\nconnected_slaves:0\r\n", vec![RedisAdvice::NoReplica]),
            ("role:master\r\nconnected_slaves:1\r\n", vec![]),
            ("role:slave\r\nconnected_slaves:0\r\n", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(advice(information), expected, "{information}");
        }
    }
}
