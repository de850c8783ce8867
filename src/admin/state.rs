//! What the functions of the admin service work with.

use std::sync::Arc;

use super::access::Token;
use super::cloudfront::Invalidations;
use super::policy::PolicySource;
use super::warm::Warmer;
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
