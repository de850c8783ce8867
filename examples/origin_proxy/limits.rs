//! What the proxy bears from its clients and from the origin.

use std::time::Duration;

use crate::descriptors::{Shares, descriptors};
use crate::{calls, connection, pool};

/// Each of these is an option.
#[derive(Clone, Copy)]
pub struct Limits {
    /// How long a request waits for its call to begin.
    pub call_wait: Duration,
    pub calls: calls::Bounds,
    pub connections: usize,
    pub connections_per_address: usize,
    /// The fields of a request.
    pub fields: usize,
    /// The bytes of a request's head.
    pub head_size: u32,
    /// Calls to the origin in all.
    pub max_calls: usize,
    pub origin: pool::Bounds,
    pub timeouts: connection::Timeouts,
    /// How long an HTTP/2 connection may be silent before it is asked for a sign of life, and may take to give it.
    pub ping: Duration,
    /// The bytes of a QUERY's content that are taken in.
    pub query: usize,
    /// The requests that an HTTP/2 connection may have open.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let shares = Shares::of(descriptors());
        Self {
            call_wait: Duration::from_secs(2),
            // No address takes them all.
            calls: calls::Bounds {
                per_address: shares.calls.div_ceil(2).min(256),
                per_connection: shares.calls.div_ceil(4).min(64),
            },
            connections: shares.connections,
            connections_per_address: shares.connections.div_ceil(2),
            fields: 100,
            head_size: 64 << 10,
            max_calls: shares.calls,
            origin: pool::Bounds { fields: 1000, idle: shares.idle },
            timeouts: connection::Timeouts {
                head: Duration::from_secs(20),
                idle: Duration::from_secs(60),
                stall: Duration::from_secs(30),
            },
            ping: Duration::from_secs(20),
            query: 16 << 10,
            streams: 100,
        }
    }
}
