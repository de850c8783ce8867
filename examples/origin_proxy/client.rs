//! The client of a request: the server puts it into the extensions of each request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use http::uri::Scheme;

use crate::client_calls::ConnectionCalls;
use crate::interim::Exchange;
use crate::serve::DrainGuard;
use crate::stop::Draining;

/// What the requests of one connection have in common.
pub struct ClientConnection {
    pub address: SocketAddr,
    pub calls: ConnectionCalls,
    /// The cache may continue a request after its connection has ended. Such a request must not hold up a drain.
    pub drain_guard: Weak<DrainGuard>,
    pub draining: Draining,
    /// There is no room for it but for a probe.
    pub is_spare: bool,
    /// `https` if it speaks TLS.
    pub scheme: Scheme,
}

/// The client of one request. One value has it all: each further extension would cost an allocation.
#[derive(Clone)]
pub struct Client {
    /// The scheme of its own client, where it is another proxy of ours.
    behind_peer: Option<Scheme>,
    request: Arc<Request>,
}

struct Request {
    connection: Arc<ClientConnection>,
    exchange: Option<Exchange>,
    is_answered: AtomicBool,
}

impl Client {
    pub fn new(connection: &Arc<ClientConnection>, exchange: Option<Exchange>) -> Self {
        let connection = Arc::clone(connection);
        let request = Request { connection, exchange, is_answered: AtomicBool::new(false) };
        Self { behind_peer: None, request: Arc::new(request) }
    }

    pub fn address(&self) -> SocketAddr {
        self.request.connection.address
    }

    /// Whether there is no room for its connection but for a probe.
    pub fn is_spare(&self) -> bool {
        self.request.connection.is_spare
    }

    /// Whether the server was asked to stop.
    pub fn is_of_ending_server(&self) -> bool {
        self.request.connection.draining.has_begun()
    }

    pub fn scheme(&self) -> &Scheme {
        self.behind_peer.as_ref().unwrap_or(&self.request.connection.scheme)
    }

    /// The limits on calls for this request; `None` once it is answered, since a call that begins then is not for its
    /// client, and for another proxy of ours, which has them for its own clients.
    pub fn calls(&self) -> Option<&ConnectionCalls> {
        let is_answered = self.request.is_answered.load(Ordering::Acquire);
        (!is_answered && self.behind_peer.is_none()).then_some(&self.request.connection.calls)
    }

    /// It is another proxy of ours, whose client has asked by this scheme.
    pub fn is_behind_peer(&mut self, scheme: Scheme) {
        self.behind_peer = Some(scheme);
    }

    /// How interim responses reach the client, if they can.
    pub fn exchange(&self) -> Option<&Exchange> {
        self.request.exchange.as_ref()
    }

    /// Holds up a drain, and keeps the connection's slot, until the value is dropped. `None` once the connection has
    /// ended.
    pub fn drain_guard(&self) -> Option<Arc<DrainGuard>> {
        self.request.connection.drain_guard.upgrade()
    }

    pub fn set_answered(&self) {
        self.request.is_answered.store(true, Ordering::Release);
        self.end_exchange();
    }

    /// No interim response is sent any more.
    pub fn end_exchange(&self) {
        if let Some(exchange) = &self.request.exchange {
            exchange.close();
        }
    }
}
