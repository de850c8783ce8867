//! Bounds on the calls that one client has under way at the origin, so that no client takes the origin for itself.
//!
//! The bounds hold inside the cache: what is answered from storage, or by the call of another request, is no call. What
//! the cache asks when the client has its answer, to validate in the background, is for everybody and not counted here.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How many calls at once.
#[derive(Clone, Copy)]
pub struct Bounds {
    pub per_address: usize,
    pub per_connection: usize,
}

/// The calls of all clients.
pub struct Calls {
    addresses: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
    bounds: Bounds,
}

impl Calls {
    pub fn new(bounds: Bounds) -> Self {
        Self { addresses: Mutex::default(), bounds }
    }

    /// The turns of one connection of a client.
    pub fn of(&self, client: IpAddr) -> Turns {
        Turns {
            address: self.address(client),
            connection: Arc::new(Semaphore::new(self.bounds.per_connection)),
        }
    }

    /// What all connections of an address share, for as long as any of them or of their calls is there.
    fn address(&self, client: IpAddr) -> Arc<Semaphore> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = addresses.get(&client).and_then(Weak::upgrade) {
            return calls;
        }
        if addresses.len() == addresses.capacity() {
            addresses.retain(|_, calls| calls.strong_count() > 0);
        }
        let calls = Arc::new(Semaphore::new(self.bounds.per_address));
        addresses.insert(client, Arc::downgrade(&calls));
        calls
    }
}

/// By what the requests of one connection get their calls: each has to have a turn of its connection and one of its
/// address.
#[derive(Clone)]
pub struct Turns {
    address: Arc<Semaphore>,
    connection: Arc<Semaphore>,
}

/// A call under way. It is over when this is dropped.
pub struct Call {
    _turns: [OwnedSemaphorePermit; 2],
}

impl Turns {
    /// Begins a call when there is a turn for it; none where that takes longer than `wait`.
    pub async fn begin(&self, wait: Duration) -> Option<Call> {
        let turns = async {
            // The connection's first, so that one which waits for itself keeps no turn from others of its address.
            let connection = Arc::clone(&self.connection).acquire_owned().await.ok()?;
            let address = Arc::clone(&self.address).acquire_owned().await.ok()?;
            Some(Call { _turns: [connection, address] })
        };
        timeout(wait, turns).await.ok().flatten()
    }
}
