//! What the functions of the admin service work with.

use std::fmt;
use std::sync::Arc;

use super::access::Tokens;
use super::answer::Refusal;
use super::audit::Audit;
use super::invalidations::Invalidations;
use super::store_state::StoreState;
use super::upstreams::UpstreamState;
use super::warmer::Warmer;
use super::watch::Watch;
use crate::handle::CacheHandle;
use crate::runtime::{Runtime, joined};
use crate::store::StoreStatistics;

/// Everything that one admin service knows.
pub(super) struct State<S> {
    pub(super) audit: Audit,
    pub(super) disk: Option<Box<dyn Fn() -> StoreStatistics + Send + Sync>>,
    pub(super) handle: CacheHandle<S>,
    pub(super) invalidations: Arc<Invalidations>,
    pub(super) metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    pub(super) policy: Option<PolicySource>,
    pub(super) store: Option<Box<dyn Fn() -> StoreState + Send + Sync>>,
    pub(super) tokens: Tokens,
    pub(super) upstreams: Option<Box<Upstreams>>,
    pub(super) warmer: Option<Warmer>,
    pub(super) warms_for_peers: bool,
    pub(super) watch: Option<Watch>,
}

/// Why a text has not become the policy, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyFault {
    /// The text can't be kept: a file can't be written, or another fault that no other text would mend.
    File(String),
    /// The text is no policy.
    Text(String),
}

type Read = dyn Fn() -> Result<String, String> + Send + Sync;
type Replace = dyn Fn(&str) -> Result<Vec<String>, PolicyFault> + Send + Sync;
type Upstreams = dyn Fn() -> Vec<UpstreamState> + Send + Sync;

/// How the text of the policy is read and replaced.
pub(super) struct PolicySource {
    read: Arc<Read>,
    replace: Arc<Replace>,
}

impl PolicySource {
    pub(super) fn new(
        read: impl Fn() -> Result<String, String> + Send + Sync + 'static,
        replace: impl Fn(&str) -> Result<Vec<String>, PolicyFault> + Send + Sync + 'static,
    ) -> Self {
        Self { read: Arc::new(read), replace: Arc::new(replace) }
    }
}

impl PolicySource {
    pub(super) async fn text(&self) -> Result<Result<String, String>, Refusal> {
        let read = Arc::clone(&self.read);
        aside(move || read()).await
    }

    /// Once it has begun it ends, also where the client leaves.
    pub(super) async fn replace(&self, text: String) -> Result<Result<Vec<String>, PolicyFault>, Refusal> {
        let replace = Arc::clone(&self.replace);
        aside(move || replace(&text)).await
    }
}

/// Calls what may wait for a disk, where no other request waits for it.
async fn aside<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    match Runtime::current() {
        None => Ok(call()),
        Some(runtime) => joined(runtime.spawn_blocking(call)).await.ok_or_else(Refusal::ending),
    }
}

impl fmt::Debug for PolicySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicySource").finish_non_exhaustive()
    }
}
