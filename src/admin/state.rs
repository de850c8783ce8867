//! What the functions of the admin service work with.

use std::fmt;
use std::sync::Arc;

use super::access::Token;
use super::invalidations::Invalidations;
use super::warmer::Warmer;
use super::watch::Watch;
use crate::handle::CacheHandle;

/// Everything that one admin service knows.
pub(super) struct State<S> {
    pub(super) handle: CacheHandle<S>,
    pub(super) invalidations: Invalidations,
    pub(super) metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    pub(super) policy: Option<PolicySource>,
    pub(super) token: Token,
    pub(super) warmer: Option<Warmer>,
    pub(super) watch: Option<Watch>,
}

type Replace = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// How the text of the policy is read and replaced.
pub(super) struct PolicySource {
    read: Arc<dyn Fn() -> String + Send + Sync>,
    replace: Arc<Replace>,
}

impl PolicySource {
    pub(super) fn new(
        read: impl Fn() -> String + Send + Sync + 'static,
        replace: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { read: Arc::new(read), replace: Arc::new(replace) }
    }
}

impl PolicySource {
    pub(super) fn text(&self) -> String {
        (self.read)()
    }

    pub(super) fn replace(&self, text: &str) -> Result<(), String> {
        (self.replace)(text)
    }
}

impl fmt::Debug for PolicySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicySource").finish_non_exhaustive()
    }
}
