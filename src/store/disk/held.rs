//! What is stored or on its way, by the hashes of URIs without queries: a purge of a URI that concerns none of it costs nothing.
//!
//! Purges come from strangers, by unsafe requests for URIs that do not exist. Each of them would be an entry in the log, and a write
//! to the disk that is waited for.

use std::collections::HashMap;
use std::sync::Arc;

use super::name::{Bases, Name};
use crate::runtime::{Mutex, lock};

const STRIPES: usize = 64;
/// How many numbers of purges that found nothing a stripe keeps apart.
const MISSED: usize = 64;

pub(super) struct Held(Box<[Mutex<Stripe>]>);

struct Stripe {
    counts: HashMap<u64, usize>,
    /// By the hash of the URI: the last purge that found nothing and was not written. It is of interest to those only who were on
    /// their way without saying so.
    missed: [u64; MISSED],
}

impl Default for Held {
    fn default() -> Self {
        let stripe = || Mutex::new(Stripe { counts: HashMap::new(), missed: [0; MISSED] });
        Self((0..STRIPES).map(|_| stripe()).collect())
    }
}

fn place(base: u64, of: usize) -> usize {
    usize::try_from(base % of as u64).unwrap_or_default()
}

impl Held {
    fn stripe(&self, base: u64) -> &Mutex<Stripe> {
        &self.0[place(base, STRIPES)]
    }

    fn hold(&self, bases: Bases) {
        for base in bases.iter() {
            *lock(self.stripe(base)).counts.entry(base).or_default() += 1;
        }
    }

    fn release(&self, bases: Bases) {
        for base in bases.iter() {
            let mut stripe = lock(self.stripe(base));
            if let Some(count) = stripe.counts.get_mut(&base) {
                *count -= 1;
                if *count == 0 {
                    stripe.counts.remove(&base);
                }
            }
        }
    }

    /// Holds a name until what this gives is dropped.
    pub(super) fn holding(self: &Arc<Self>, name: Name) -> Holding {
        self.hold(name.bases());
        Holding { bases: name.bases(), held: Arc::clone(self) }
    }

    /// Notes the number of a purge that finds nothing. Whether it does.
    pub(super) fn miss(&self, base: u64, number: u64) -> bool {
        let mut stripe = lock(self.stripe(base));
        let finds_nothing = !stripe.counts.contains_key(&base);
        if finds_nothing {
            stripe.missed[place(base / STRIPES as u64, MISSED)] = number;
        }
        finds_nothing
    }

    /// Whether a purge since that number may have found nothing because the name was not held yet.
    pub(super) fn may_have_missed(&self, name: Name, since: u64) -> bool {
        name.bases()
            .iter()
            .any(|base| lock(self.stripe(base)).missed[place(base / STRIPES as u64, MISSED)] > since)
    }
}

/// Holds a name.
pub(super) struct Holding {
    bases: Bases,
    held: Arc<Held>,
}

impl Clone for Holding {
    fn clone(&self) -> Self {
        self.held.hold(self.bases);
        Self { bases: self.bases, held: Arc::clone(&self.held) }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.held.release(self.bases);
    }
}
