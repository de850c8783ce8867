//! Limits on the calls that one client has in progress at the origin, so that no client takes up the whole origin.
//!
//! The limits hold inside the cache: a response from storage, or from the call of another request, takes no call. What
//! the cache asks for when the client has its response, to validate in the background, is for everybody and does not
//! count.

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

/// The limits of all clients.
pub struct ClientCalls {
    addresses: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
    bounds: Bounds,
}

impl ClientCalls {
    pub fn new(bounds: Bounds) -> Self {
        Self { addresses: Mutex::default(), bounds }
    }

    /// The limits of a new connection.
    pub fn connection(&self, client: IpAddr) -> ConnectionCalls {
        ConnectionCalls {
            address: self.address(client),
            connection: Arc::new(Semaphore::new(self.bounds.per_connection)),
        }
    }

    /// All connections of an address share one semaphore, which lives as long as any of them or of their calls.
    fn address(&self, client: IpAddr) -> Arc<Semaphore> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(semaphore) = addresses.get(&client).and_then(Weak::upgrade) {
            return semaphore;
        }
        if addresses.len() == addresses.capacity() {
            addresses.retain(|_, semaphore| semaphore.strong_count() > 0);
        }
        let semaphore = Arc::new(Semaphore::new(self.bounds.per_address));
        addresses.insert(client, Arc::downgrade(&semaphore));
        semaphore
    }
}

/// The limits of one connection: each call needs a permit of the connection and one of its address.
pub struct ConnectionCalls {
    address: Arc<Semaphore>,
    connection: Arc<Semaphore>,
}

/// A call in progress. It ends when the value is dropped.
pub struct ClientCall {
    _permits: [OwnedSemaphorePermit; 2],
}

impl ConnectionCalls {
    /// Begins a call as soon as there are permits for it; `None` if that takes longer than `wait`.
    pub async fn begin(&self, wait: Duration) -> Option<ClientCall> {
        let permits = async {
            // The connection's first: a connection that waits for its own calls takes no permit from the other
            // connections of its address.
            let connection = Arc::clone(&self.connection).acquire_owned().await.ok()?;
            let address = Arc::clone(&self.address).acquire_owned().await.ok()?;
            Some(ClientCall { _permits: [connection, address] })
        };
        timeout(wait, permits).await.ok().flatten()
    }
}
