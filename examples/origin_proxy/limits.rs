//! Limits on what clients and the origin may do.

use std::time::Duration;

use crate::descriptors::{Shares, descriptors};
use crate::{client_calls, connection, pool};

/// Each of these is an option.
#[derive(Clone, Copy)]
pub struct Limits {
    /// How long a request may wait for its call to begin.
    pub call_wait: Duration,
    pub calls: client_calls::Bounds,
    /// At each upstream; `None` for as many as there are in all.
    pub calls_per_upstream: Option<usize>,
    pub connections: usize,
    pub connections_per_address: usize,
    /// The most fields of a request.
    pub fields: usize,
    /// The most bytes of a request head.
    pub head_size: u32,
    /// Calls to the origin, of all clients.
    pub max_calls: usize,
    pub origin: pool::Bounds,
    pub timeouts: connection::Timeouts,
    /// How long an HTTP/2 connection may be silent before it is pinged, and how long the answer may take.
    pub ping: Duration,
    /// The most bytes of a QUERY's content that are stored.
    pub query: usize,
    /// Connections beyond these, which are for probes alone.
    pub spare_connections: usize,
    /// The most open requests of an HTTP/2 connection.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let shares = Shares::of(descriptors());
        Self {
            call_wait: Duration::from_secs(2),
            // One address cannot use them all.
            calls: client_calls::Bounds {
                per_address: shares.calls.div_ceil(2).min(256),
                per_connection: shares.calls.div_ceil(4).min(64),
            },
            calls_per_upstream: None,
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
            spare_connections: 0,
            streams: 100,
        }
    }
}
