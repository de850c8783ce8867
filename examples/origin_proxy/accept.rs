//! Which connections are accepted: how many there may be, in all and of one address, and which one ends if there are
//! too many.
//!
//! If a new connection finds no slot, the one that has been idle the longest ends for it, so that many silent
//! connections keep nobody out. If none is idle, the new one is refused.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::connection::{Activity, Shutdown};
use crate::local_reply::Manner;
use crate::network;

/// How long nothing is accepted when the system has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// The slots for connections.
pub struct Slots {
    /// How it is said to a connection that there is no slot; `None` where nothing can be said.
    busy: Option<Manner>,
    limit: usize,
    limit_per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    by_address: HashMap<IpAddr, Vec<Arc<Activity>>>,
    in_all: usize,
}

impl Slots {
    pub fn new(limit: usize, limit_per_address: usize, busy: Option<Manner>) -> Self {
        Self { busy, limit, limit_per_address, taken: Mutex::default() }
    }

    /// The next connection that gets a slot. Never fails: if nothing can be accepted, it tries again later.
    pub async fn accept(self: &Arc<Self>, listener: &TcpListener) -> (TcpStream, Slot) {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => match self.take(address) {
                    Some(slot) => return (stream, slot),
                    None => refuse(stream, self.busy),
                },
                Err(error) if ended_early(&error) => {}
                // Out of descriptors, most likely. Without a pause, this would spin.
                Err(_) => {
                    self.taken().free(None);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn take(self: &Arc<Self>, client: SocketAddr) -> Option<Slot> {
        let address = network::of(client.ip());
        let mut taken = self.taken();
        let of_address = taken.by_address.get(&address).map_or(0, Vec::len);
        if of_address >= self.limit_per_address {
            taken.free(Some(address))?;
        } else if taken.in_all >= self.limit {
            taken.free(None)?;
        }
        let activity = Arc::new(Activity::new());
        taken.by_address.entry(address).or_default().push(Arc::clone(&activity));
        taken.in_all += 1;
        Some(Slot { address, client, activity, slots: Arc::clone(self) })
    }

    /// Asks all connections to end when their open requests are answered.
    pub fn drain(&self) {
        for activity in self.taken().by_address.values().flatten() {
            activity.shut_down(Shutdown::Graceful);
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Ends the connection that has been idle the longest, of one address or of all, and frees its slot. `None` if no
    /// connection is idle.
    fn free(&mut self, address: Option<IpAddr>) -> Option<()> {
        let of_one = address.and_then(|address| self.by_address.get_key_value(&address));
        let of_all = self.by_address.iter().filter(|_| address.is_none());
        let idle = of_one.into_iter().chain(of_all).flat_map(|(of, known)| {
            known.iter().filter_map(move |activity| Some((activity.idle_since()?, of, activity)))
        });
        let (_, of, activity) = idle.min_by_key(|(since, ..)| *since)?;
        let (of, activity) = (*of, Arc::clone(activity));
        activity.shut_down(Shutdown::Now);
        self.remove(of, &activity);
        Some(())
    }

    /// Frees a slot, unless it is free: a connection that has to end for another one has none any more.
    fn remove(&mut self, address: IpAddr, activity: &Arc<Activity>) {
        let Some(known) = self.by_address.get_mut(&address) else {
            return;
        };
        if let Some(index) = known.iter().position(|one| Arc::ptr_eq(one, activity)) {
            known.swap_remove(index);
            self.in_all -= 1;
        }
        if known.is_empty() {
            self.by_address.remove(&address);
        }
    }
}

fn ended_early(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

/// The answer where there is no slot. What the connection would have asked, nobody knows.
fn answer(manner: Manner) -> String {
    let name = manner.name;
    let told = match manner.is_discreet {
        true => String::new(),
        false => format!(
            "cache-status: {}\r\nx-cache: {}\r\n",
            name.with_detail("too-many-connections"),
            manner.of_error()
        ),
    };
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nvia: 1.1 {}\r\n{told}\
         connection: close\r\ncontent-length: 0\r\n\r\n",
        name.as_str()
    )
}

/// Answers before a request has come. An HTTP/2 client sees only that the connection ends.
fn refuse(stream: TcpStream, busy: Option<Manner>) {
    if let (Some(manner), Ok(mut stream)) = (busy, stream.into_std()) {
        let _ = stream.write_all(answer(manner).as_bytes());
        // A connection that is closed with something unread is reset, and the client may lose the answer.
        let _ = stream.read(&mut [0; 4096]);
    }
}

/// A connection's slot, which is free again when the value is dropped.
pub struct Slot {
    /// The address that the connection is counted by.
    pub address: IpAddr,
    pub client: SocketAddr,
    pub activity: Arc<Activity>,
    slots: Arc<Slots>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.taken().remove(self.address, &self.activity);
    }
}
