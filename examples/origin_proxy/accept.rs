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
use crate::limits::Limits;
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
    /// How many connections beyond these there may be, by each of which a probe may ask.
    spare: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    by_address: HashMap<IpAddr, Vec<Arc<Activity>>>,
    in_all: usize,
    /// Connections beyond the limits, the oldest first.
    spare: Vec<(IpAddr, Arc<Activity>)>,
}

/// The most of them that one address keeps, where there is another one.
const SPARE_PER_ADDRESS: usize = 4;

impl Slots {
    pub fn new(limits: &Limits, busy: Option<Manner>) -> Self {
        let Limits { connections, connections_per_address, spare_connections, .. } = *limits;
        let (limit, limit_per_address) = (connections, connections_per_address);
        Self { busy, limit, limit_per_address, spare: spare_connections, taken: Mutex::default() }
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
        let has_room = if of_address >= self.limit_per_address {
            taken.free(Some(address)).is_some()
        } else {
            taken.in_all < self.limit || taken.free(None).is_some()
        };
        let activity = Arc::new(Activity::new());
        if has_room {
            taken.by_address.entry(address).or_default().push(Arc::clone(&activity));
            taken.in_all += 1;
        } else if self.spare > 0 {
            taken.add_spare(address, &activity, self.spare);
        } else {
            return None;
        }
        Some(Slot { address, client, activity, is_spare: !has_room, slots: Arc::clone(self) })
    }

    /// Asks all connections to end when their open requests are answered.
    pub fn drain(&self) {
        let taken = self.taken();
        for activity in taken.by_address.values().flatten().chain(taken.spare.iter().map(|(_, spare)| spare))
        {
            activity.shut_down(Shutdown::Graceful);
        }
    }

    /// Asks clients of HTTP/2 to open other connections for what they ask for next.
    pub fn drain_http2(&self) {
        for activity in self.taken().by_address.values().flatten().filter(|activity| activity.is_http2()) {
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

    /// Takes a connection beyond the limits. If there are as many as there may be, the oldest one ends: of its own address if that
    /// has a few, otherwise of all. A probe needs none for long.
    fn add_spare(&mut self, address: IpAddr, activity: &Arc<Activity>, most: usize) {
        let mut own =
            self.spare.iter().enumerate().filter(|(_, (of, _))| *of == address).map(|(index, _)| index);
        let first = own.next();
        let has_few = first.is_some() && 1 + own.count() >= SPARE_PER_ADDRESS;
        if has_few || self.spare.len() >= most {
            let (_, oldest) = self.spare.remove(first.filter(|_| has_few).unwrap_or(0));
            oldest.shut_down(Shutdown::Now);
        }
        self.spare.push((address, Arc::clone(activity)));
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
    /// It is one beyond the limits, for a probe.
    pub is_spare: bool,
    slots: Arc<Slots>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        if self.is_spare {
            taken.spare.retain(|(_, spare)| !Arc::ptr_eq(spare, &self.activity));
        } else {
            taken.remove(self.address, &self.activity);
        }
    }
}
