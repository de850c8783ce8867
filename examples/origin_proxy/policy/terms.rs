//! What a section says of lifetimes, and of what is stored at all, for policies of any profile.

use larder::policy::{Admission, ContentLimits, Lifetimes, ResponseRules, VaryRules};
use larder::store::Levels;
use larder::{CachePolicy, CachePolicyExt};

use crate::policy::rows::set;
use crate::policy::section::Section;

/// Rules that come before and after those of a policy.
#[derive(Clone, Default)]
pub struct TermRules {
    admission: Option<Admission>,
    content_limits: ContentLimits,
    levels: Option<Levels>,
    lifetimes: Lifetimes,
    responses: Option<ResponseRules>,
    vary: Option<VaryRules>,
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
        let levels = section.levels.map(Into::into).or(self.levels);
        let responses = set(self.responses, section.response.as_ref(), |before, it| {
            Some(before.unwrap_or_default().and(it.rules()))
        });
        let vary =
            set(self.vary, section.max_variants, |it, most| Some(it.unwrap_or_default().max_variants(most)));
        let vary = set(vary, section.vary.as_ref(), |it, fields| {
            let fields = fields.0.iter().cloned();
            Some(fields.fold(it.unwrap_or_default(), |it, (name, field)| it.vary(name, field.into())))
        });
        Self { admission, content_limits: limits, levels, lifetimes, responses, vary }
    }

    /// With further rules for responses, after the others.
    #[must_use]
    pub fn then(self, rules: ResponseRules) -> Self {
        Self { responses: Some(self.responses.unwrap_or_default().and(rules)), ..self }
    }

    /// The policy with these rules.
    pub fn over(self, policy: impl CachePolicy) -> Box<dyn CachePolicy> {
        let mut policy: Box<dyn CachePolicy> = Box::new(policy);
        if self.lifetimes != Lifetimes::new() {
            policy = Box::new(policy.lifetimes(self.lifetimes));
        }
        if self.content_limits != ContentLimits::new() {
            policy = Box::new(policy.content_limits(self.content_limits));
        }
        if let Some(rules) = self.vary {
            policy = Box::new(policy.vary_rules(rules));
        }
        if let Some(rules) = self.responses {
            policy = Box::new(policy.response_rules(rules));
        }
        if let Some(levels) = self.levels {
            policy = Box::new(policy.map_terms(move |_, terms| terms.levels = levels));
        }
        if let Some(admission) = self.admission {
            policy = Box::new(policy.admit(admission));
        }
        policy
    }
}
