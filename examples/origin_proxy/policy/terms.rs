//! What a section says of lifetimes, and of the content that is stored, for policies of any profile.

use larder::policy::{ContentLimits, Lifetimes};
use larder::{CachePolicy, CachePolicyExt};

use crate::policy::rows::set;
use crate::policy::section::Section;

/// Lifetimes and limits of content, which a policy gets after it has set the terms.
#[derive(Clone, Default, PartialEq)]
pub struct TermRules {
    content_limits: ContentLimits,
    lifetimes: Lifetimes,
}

impl TermRules {
    #[must_use]
    pub fn changed(self, section: &Section) -> Self {
        let lifetimes = self.lifetimes;
        let lifetimes = set(lifetimes, section.default_lifetime, |it, time| it.default_lifetime(time.0));
        let lifetimes = set(lifetimes, section.jitter, |it, percent| it.jitter(percent.0));
        let lifetimes = set(lifetimes, section.lifetime, |it, lifetime| it.lifetime_for("*", lifetime));
        let lifetimes = set(lifetimes, section.status_lifetimes.clone(), |it, table| {
            table.0.into_iter().fold(it, |it, (statuses, lifetime)| it.status_lifetime(statuses, lifetime))
        });
        let limits = self.content_limits;
        let limits = set(limits, section.max_body, |it, size| it.max_body(size.0));
        let limits = set(limits, section.min_body, |it, size| it.min_body(size.0));
        let limits = set(limits, section.only_types.as_ref(), |it, types| it.only_types(types.texts()));
        let limits = set(limits, section.without_types.as_ref(), |it, types| it.without_types(types.texts()));
        Self { content_limits: limits, lifetimes }
    }

    /// The policy with these rules.
    pub fn over(self, policy: impl CachePolicy) -> Box<dyn CachePolicy> {
        if self == Self::default() {
            return Box::new(policy);
        }
        Box::new(policy.lifetimes(self.lifetimes).content_limits(self.content_limits))
    }
}
