//! Several nodes over one store and one origin, which ask each other for leases.

use std::collections::HashMap;
use std::future::ready;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use larder::store::{Lease, LeaseAnswer, LeaseEnd, LeaseName, LeaseState, Leases};
use larder::{Clock, MemoryStore, StoreError};
use tokio::sync::oneshot;
use tower::Layer;

use super::stepped::{Stage, Stepped};
use super::stores::{CacheBuilder, CacheLayer, store_over};

/// Leases of nodes in one process: who has which, and who waits for its end.
#[derive(Clone, Default)]
pub struct Desk {
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    asked: usize,
    by_name: HashMap<Name, Vec<oneshot::Sender<LeaseEnd>>>,
    ends: Vec<LeaseEnd>,
    fails: bool,
    resting: Option<Duration>,
}

type Name = (Vec<u8>, Option<Vec<u8>>, bool);

struct HeldLease {
    desk: Desk,
    name: Name,
}

impl Lease for HeldLease {
    fn end(self: Box<Self>, end: LeaseEnd) {
        self.desk.end(&self.name, end);
    }
}

impl Desk {
    /// How often nodes have asked.
    pub fn asked(&self) -> usize {
        self.held.lock().unwrap().asked
    }

    /// How the leases have ended, in order.
    pub fn ends(&self) -> Vec<LeaseEnd> {
        self.held.lock().unwrap().ends.clone()
    }

    /// How many leases are held.
    pub fn held(&self) -> usize {
        self.held.lock().unwrap().by_name.len()
    }

    /// From now on nobody gets an answer.
    pub fn fail(&self) {
        self.held.lock().unwrap().fails = true;
    }

    /// From now on whoever asks is told that the last call has failed.
    pub fn rest(&self, rest: Duration) {
        self.held.lock().unwrap().resting = Some(rest);
    }

    /// The nodes that hold leases have died, and their time is over.
    pub fn expire(&self) {
        let held = std::mem::take(&mut self.held.lock().unwrap().by_name);
        tell(held.into_values().flatten(), LeaseEnd::Over);
    }

    fn end(&self, name: &Name, end: LeaseEnd) {
        let mut held = self.held.lock().unwrap();
        held.ends.push(end);
        let waiting = held.by_name.remove(name);
        drop(held);
        tell(waiting.into_iter().flatten(), end);
    }
}

fn tell(waiting: impl Iterator<Item = oneshot::Sender<LeaseEnd>>, end: LeaseEnd) {
    for waiting in waiting {
        let _ = waiting.send(end); // its request may be gone
    }
}

impl Leases for Desk {
    fn ask<'a>(
        &'a self,
        name: LeaseName<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<LeaseAnswer, StoreError>> + Send + 'a>> {
        let LeaseName { has_credentials, key, variant, .. } = name;
        let name = (key.as_bytes().to_vec(), variant.map(<[u8]>::to_vec), has_credentials);
        let mut held = self.held.lock().unwrap();
        held.asked += 1;
        if held.fails {
            return Box::pin(ready(Err(StoreError::new("ask for a lease", "nobody answers"))));
        }
        if let Some(rest) = held.resting {
            return Box::pin(ready(Ok(LeaseAnswer::Resting(rest))));
        }
        let answer = match held.by_name.get_mut(&name) {
            None => {
                held.by_name.insert(name.clone(), Vec::new());
                LeaseAnswer::Granted(Box::new(HeldLease { desk: self.clone(), name }))
            }
            Some(waiting) => {
                let (end, ended) = oneshot::channel();
                waiting.push(end);
                LeaseAnswer::Held(Box::pin(async { ended.await.unwrap_or(LeaseEnd::Over) }))
            }
        };
        Box::pin(ready(Ok(answer)))
    }

    fn look<'a>(
        &'a self,
        name: LeaseName<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<LeaseState, StoreError>> + Send + 'a>> {
        let LeaseName { has_credentials, key, variant, .. } = name;
        let name = (key.as_bytes().to_vec(), variant.map(<[u8]>::to_vec), has_credentials);
        let held = self.held.lock().unwrap();
        Box::pin(ready(match (held.fails, held.resting) {
            (true, _) => Err(StoreError::new("look at a lease", "nobody answers")),
            (_, Some(rest)) => Ok(LeaseState::Resting(rest)),
            _ if held.by_name.contains_key(&name) => Ok(LeaseState::Held),
            _ => Ok(LeaseState::Free),
        }))
    }
}

/// Nodes, each with a collapser of its own, before one origin and over one store.
pub struct Fleet {
    pub desk: Desk,
    pub nodes: Vec<Stage>,
    pub origin: Stepped,
}

impl Fleet {
    pub fn of(size: usize) -> Self {
        Self::with(size, |builder| builder)
    }

    pub fn with(size: usize, set_up: impl Fn(CacheBuilder) -> CacheBuilder) -> Self {
        let ((clock, hand), origin, desk) = (Clock::manual(), Stepped::default(), Desk::default());
        let store = store_over(MemoryStore::default());
        let node = |_| {
            let builder = set_up(CacheLayer::builder(store.clone()).leases(desk.clone()));
            let layer = builder.clock(clock.clone()).build();
            let (cache, handle) = (layer.layer(origin.clone()), layer.handle());
            Stage { cache, clock: hand.clone(), handle, origin: origin.clone() }
        };
        Self { nodes: (0..size).map(node).collect(), desk, origin }
    }

    pub fn later(&self, seconds: u64) {
        self.nodes[0].later(seconds);
    }
}
