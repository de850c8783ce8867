//! Policies by their ids.

use crate::policy::cloudfront::names::{CachePolicyConfig, OriginRequestPolicyConfig};

/// The policies that the behaviors of a distribution name: those that it is given, and all managed ones.
///
/// ```
/// use larder::policy::cloudfront::{CachePolicyConfig, PolicySet};
/// let policies = PolicySet::new().cache_policy("11111111-2222-3333-4444-555555555555", CachePolicyConfig::new());
/// # let _ = policies;
/// ```
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    cache_policies: Vec<(Box<str>, CachePolicyConfig)>,
    origin_request_policies: Vec<(Box<str>, OriginRequestPolicyConfig)>,
}

impl PolicySet {
    /// The managed policies.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a cache policy under an id.
    #[must_use]
    pub fn cache_policy(mut self, id: impl Into<Box<str>>, policy: CachePolicyConfig) -> Self {
        self.cache_policies.push((id.into(), policy));
        self
    }

    /// Adds an origin request policy under an id.
    #[must_use]
    pub fn origin_request_policy(
        mut self,
        id: impl Into<Box<str>>,
        policy: OriginRequestPolicyConfig,
    ) -> Self {
        self.origin_request_policies.push((id.into(), policy));
        self
    }

    /// The cache policy with this id, or else this name.
    pub(super) fn find_cache_policy(&self, id: &str) -> Option<CachePolicyConfig> {
        let own = &self.cache_policies;
        let by_id = own.iter().find(|(known, _)| **known == *id);
        let found = by_id.or_else(|| own.iter().find(|(_, policy)| policy.own_name() == id));
        found.map(|(_, policy)| policy.clone()).or_else(|| CachePolicyConfig::managed(id))
    }

    /// The origin request policy with this id, or else this name.
    pub(super) fn find_origin_request_policy(&self, id: &str) -> Option<OriginRequestPolicyConfig> {
        let own = &self.origin_request_policies;
        let by_id = own.iter().find(|(known, _)| **known == *id);
        let found = by_id.or_else(|| own.iter().find(|(_, policy)| policy.own_name() == id));
        found.map(|(_, policy)| policy.clone()).or_else(|| OriginRequestPolicyConfig::managed(id))
    }
}
