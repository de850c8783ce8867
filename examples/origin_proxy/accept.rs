//! Who gets in: how many connections there are, in all and of one address, and which one ends where there are too many.
//!
//! Where a new connection finds no place, the one that has been idle the longest ends for it, so that many silent
//! connections keep nobody out. Where none is idle, the new one is refused.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::life::{End, Life};
use crate::network;

/// How long nothing is accepted where the system has no descriptor left.
const REST: Duration = Duration::from_millis(100);

const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nvia: 1.1 larder\r\n\
    cache-status: larder; detail=\"too-many-connections\"\r\nx-cache: Error from larder\r\n\
    connection: close\r\ncontent-length: 0\r\n\r\n";

/// The places for connections.
pub struct Places {
    bound: usize,
    bound_per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    by_address: HashMap<IpAddr, Vec<Arc<Life>>>,
    in_all: usize,
}

impl Places {
    pub fn new(bound: usize, bound_per_address: usize) -> Self {
        Self { bound, bound_per_address, taken: Mutex::default() }
    }

    /// The next connection that has a place. Never fails: where nothing can be accepted, it is tried again later.
    pub async fn accept(self: &Arc<Self>, listener: &TcpListener) -> (TcpStream, Place) {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => match self.take(address.ip()) {
                    Some(place) => return (stream, place),
                    None => refuse(stream),
                },
                Err(error) if ended_early(&error) => {}
                // Out of descriptors, most likely. Without a rest, this would spin.
                Err(_) => {
                    self.taken().free(None);
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    fn take(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let address = network::of(client);
        let mut taken = self.taken();
        let of_address = taken.by_address.get(&address).map_or(0, Vec::len);
        if of_address >= self.bound_per_address {
            taken.free(Some(address))?;
        } else if taken.in_all >= self.bound {
            taken.free(None)?;
        }
        let life = Arc::new(Life::new());
        taken.by_address.entry(address).or_default().push(Arc::clone(&life));
        taken.in_all += 1;
        Some(Place { address, client, life, places: Arc::clone(self) })
    }

    /// Tells all connections to end when their open requests are answered.
    pub fn drain(&self) {
        for life in self.taken().by_address.values().flatten() {
            life.tell(End::WhenDone);
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Ends the connection that has been idle the longest, of one address or of all, and frees its place. None where
    /// no connection is idle.
    fn free(&mut self, address: Option<IpAddr>) -> Option<()> {
        let of_one = address.and_then(|address| self.by_address.get_key_value(&address));
        let of_all = self.by_address.iter().filter(|_| address.is_none());
        let idle = of_one
            .into_iter()
            .chain(of_all)
            .flat_map(|(of, lives)| lives.iter().filter_map(move |life| Some((life.idle()?, of, life))));
        let (_, of, life) = idle.min_by_key(|(since, ..)| *since)?;
        let (of, life) = (*of, Arc::clone(life));
        life.tell(End::Now);
        self.remove(of, &life);
        Some(())
    }

    /// What was told to end for another one has no place any more.
    fn remove(&mut self, address: IpAddr, life: &Arc<Life>) {
        let Some(lives) = self.by_address.get_mut(&address) else {
            return;
        };
        if let Some(index) = lives.iter().position(|known| Arc::ptr_eq(known, life)) {
            lives.swap_remove(index);
            self.in_all -= 1;
        }
        if lives.is_empty() {
            self.by_address.remove(&address);
        }
    }
}

fn ended_early(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

/// Answers before anything is asked. An HTTP/2 client sees that the connection ends.
fn refuse(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write_all(BUSY);
        // A connection that ends with something unread is reset, and the client may not get to see the answer.
        let _ = stream.read(&mut [0; 4096]);
    }
}

/// A connection's place, which is free again when this is dropped.
pub struct Place {
    /// By which it is counted.
    pub address: IpAddr,
    pub client: IpAddr,
    pub life: Arc<Life>,
    places: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().remove(self.address, &self.life);
    }
}
