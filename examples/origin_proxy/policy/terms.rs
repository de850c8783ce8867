//! What a section says of lifetimes, and of what is stored at all, for policies of any profile.

use larder::policy::{Admission, ContentLimits, Lifetimes};
use larder::{CachePolicy, CachePolicyExt};

use crate::policy::rows::set;
use crate::policy::section::Section;

/// Rules that come after a policy has set the terms of a response.
#[derive(Clone, Default, PartialEq)]
pub struct TermRules {
    admission: Option<Admission>,
    content_limits: ContentLimits,
    lifetimes: Lifetimes,
}

impl TermRules {
    #[must_use]
    pub fn changed(self, section: &Section) -> Self {
        let lifetimes = self.lifetimes;
        let lifetimes = set(lifetimes, section.browser_lifetime, |it, time| it.browser_lifetime(time.0));
        let lifetimes =
            set(lifetimes, section.browser_lifetime_as_stated, |it, _| it.browser_lifetime_as_stated());
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
        let admission = section.admission.map(Into::into).or(self.admission);
        Self { admission, content_limits: limits, lifetimes }
    }

    /// The policy with these rules.
    pub fn over(self, policy: impl CachePolicy) -> Box<dyn CachePolicy> {
        let Self { admission, content_limits, lifetimes } = self;
        if lifetimes == Lifetimes::new() && content_limits == ContentLimits::new() {
            return admitting(policy, admission);
        }
        admitting(policy.lifetimes(lifetimes).content_limits(content_limits), admission)
    }
}

fn admitting(policy: impl CachePolicy, admission: Option<Admission>) -> Box<dyn CachePolicy> {
    match admission {
        Some(admission) => Box::new(policy.admit(admission)),
        None => Box::new(policy),
    }
}
