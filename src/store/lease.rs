//! One call for many nodes: which of them makes it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::content::BoxFuture;
use crate::entry::key::CacheKey;

/// Decides which of many nodes over one store makes a call of the inner service, and which ones wait for it
/// ([`CacheBuilder::leases`](crate::CacheBuilder::leases)).
///
/// A lease saves calls, and nothing is right or wrong because of it: what may be stored and served, the fences of the store
/// decide. So a lease may be given to two nodes at a time, or be lost; that costs a call.
///
/// A node asks once for all requests that wait for one call there, after its own look-up found nothing of use. When it gets the
/// lease, it looks into the store again, makes the call, and ends the lease as soon as the result is stored, or known not to be.
/// When another node has it, it waits for that end, looks into the store, and asks again if there is nothing of use. It never
/// waits longer than a request waits for another one's call ([`FillLimits::wait`](crate::FillLimits::wait)).
///
/// A node that has died ends no lease: an implementation takes a lease away that has not been renewed for a while, and renews
/// those of its own node as long as they are held.
pub trait Leases: Send + Sync + 'static {
    /// Asks for the lease of this name. It waits for the answer alone, never for the end of another node's lease. An error means
    /// that nobody knows: the node makes the call without a lease.
    fn ask<'a>(&'a self, name: LeaseName<'a>) -> BoxFuture<'a, LeaseAnswer>;

    /// What becomes of the lease of this name at the moment, for explanations
    /// ([`CacheHandle::explain`](crate::CacheHandle::explain)). It gives no lease and ends none, and the node that has it is not
    /// told that somebody waits.
    fn look<'a>(&'a self, name: LeaseName<'a>) -> BoxFuture<'a, LeaseState>;
}

impl<L: Leases + ?Sized> Leases for Arc<L> {
    fn ask<'a>(&'a self, name: LeaseName<'a>) -> BoxFuture<'a, LeaseAnswer> {
        (**self).ask(name)
    }

    fn look<'a>(&'a self, name: LeaseName<'a>) -> BoxFuture<'a, LeaseState> {
        (**self).look(name)
    }
}

/// What requests of all nodes that may share one call have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LeaseName<'a> {
    /// The requests carry something that is not in the key, such as a cookie. What comes of such a call may be for one of them
    /// alone, so they do not wait for calls of others, nor others for theirs.
    pub has_credentials: bool,
    /// The key of the response.
    pub key: &'a CacheKey,
    /// What selects the response, where the selecting fields are known, in bytes that are the same on every node.
    pub variant: Option<&'a [u8]>,
}

impl<'a> LeaseName<'a> {
    /// The name of what a plain request for a key shares with others.
    pub fn new(key: &'a CacheKey) -> Self {
        Self { has_credentials: false, key, variant: None }
    }
}

/// The answer to [`Leases::ask`].
#[non_exhaustive]
pub enum LeaseAnswer {
    /// This node makes the call.
    Granted(Box<dyn Lease>),
    /// Another node makes it. What is in here ends with that call, or when the other node has lost its lease.
    Held(Pin<Box<dyn Future<Output = LeaseEnd> + Send>>),
    /// The last call has failed, and nobody is to make another one for this long where a stored response can answer meanwhile.
    Resting(Duration),
}

impl fmt::Debug for LeaseAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted(_) => f.write_str("Granted(..)"),
            Self::Held(_) => f.write_str("Held(..)"),
            Self::Resting(rest) => f.debug_tuple("Resting").field(rest).finish(),
        }
    }
}

/// What [`Leases::look`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseState {
    /// No node has it.
    Free,
    /// A node makes the call.
    Held,
    /// The last answer could not be shared: for this long, each request makes a call of its own.
    NotShareable(Duration),
    /// The last call has failed: for this long, no node is to make another one where a stored response can answer meanwhile.
    Resting(Duration),
}

/// The right to make a call, until it is ended.
pub trait Lease: Send + Sync {
    /// Gives the right back and tells the nodes that wait. It is called once, also if the call has failed, and does not wait:
    /// what takes time goes on in the background. An implementation that is dropped without it gives the right back likewise.
    fn end(self: Box<Self>, end: LeaseEnd);
}

/// What came of a call, as far as other nodes are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseEnd {
    /// The inner service has failed. For this long, nobody is to ask it again where a stored response can answer meanwhile; a
    /// node that has none may.
    Failed(Duration),
    /// Each request needs a call of its own, and those that come in this time do, too.
    NotShareable(Duration),
    /// The store has the result, or never will.
    Over,
}
