//! The profiles `default` and `rfc9111`.

use http::header::HeaderName;
use larder::policy::{KeyRules, ResponseRules, TagField};
use larder::{CachePolicy, StandardPolicy};

use crate::policy::profile::Profile;
use crate::policy::response::ResponseSection;
use crate::policy::rows::{Base, set};
use crate::policy::section::Section;
use crate::policy::terms::TermRules;
use crate::policy::values::names;

#[derive(Clone)]
pub struct StandardBase {
    /// Whether a section says which fields have tags.
    has_tag_fields: bool,
    /// `None` for the URI alone.
    key: Option<KeyRules>,
    policy: StandardPolicy,
    terms: TermRules,
}

/// What the profile says. No proxy in front of this one is trusted, and this one's own fields are added between the cache and
/// the origin.
pub fn base(profile: Profile) -> StandardBase {
    let policy = match profile {
        Profile::Rfc9111 => StandardPolicy::rfc9111(),
        _ => StandardPolicy::default(),
    };
    let policy = policy.strip_unkeyed(true);
    StandardBase { has_tag_fields: false, key: None, policy, terms: TermRules::default() }
}

/// Tags as origins behind Fastly and behind Cloudflare, Akamai or CloudFront name them: without them, a purge by tag is carried out
/// and reaches nothing.
fn usual_tags() -> ResponseRules {
    let [spaced, listed] = ["surrogate-key", "cache-tag"].map(HeaderName::from_static);
    ResponseRules::new().tags_from(TagField::spaced(spaced)).tags_from(TagField::listed(listed))
}

impl Base for StandardBase {
    fn changed(self, section: &Section) -> Self {
        type P = StandardPolicy;
        let policy = set(self.policy, section.client_directives, P::client_directives);
        let policy = set(policy, section.codings.clone(), |policy, codings| policy.codings(codings.into()));
        let policy = set(policy, section.credentials, |policy, what| policy.credentials(what.into()));
        let policy = set(policy, section.deception_guard, P::deception_guard);
        let policy = set(policy, section.drawn_errors, P::drawn_errors);
        let policy = set(policy, section.forward_fields.as_ref(), |policy, list| {
            names(list).fold(policy, P::forward_field)
        });
        let policy = set(policy, section.head_as_get, P::head_as_get);
        let policy = set(policy, section.heuristic, |policy, how| policy.heuristic(how.0.map(Into::into)));
        let policy = set(policy, section.immutable, P::immutable);
        let policy = set(policy, section.languages, |policy, how| policy.languages(how.into()));
        let policy = set(policy, section.latency_budget, |policy, time| policy.latency_budget(time.into()));
        let policy =
            set(policy, section.max_error_lifetime, |policy, time| policy.max_error_lifetime(time.into()));
        let policy = set(policy, section.no_vary_search, P::no_vary_search);
        let policy = set(policy, section.partial, P::partial);
        let policy = set(policy, section.pass_for, |policy, time| policy.pass_for(time.0));
        let policy = set(policy, section.post, P::post);
        let policy = set(policy, section.private_by_key, P::private_by_key);
        let policy = set(policy, section.refresh_ahead, |policy, time| policy.refresh_ahead(time.into()));
        let policy =
            set(policy, section.rest_after_failure, |policy, time| policy.rest_after_failure(time.0));
        let policy = set(policy, section.stale_if_error, |policy, time| policy.stale_if_error(time.0));
        let policy = set(policy, section.strip_unkeyed, P::strip_unkeyed);
        let policy = set(policy, section.targets.as_ref(), |policy, list| policy.targets(names(list)));
        let policy =
            set(policy, section.stale_while_revalidate, |policy, time| policy.stale_while_revalidate(time.0));
        let policy =
            set(policy, section.unkeyed_fields.as_ref(), |policy, list| policy.unkeyed_fields(names(list)));
        let key = set(self.key, section.key.as_ref(), |key, it| Some(it.changed(key.unwrap_or_default())));
        let has_tag_fields =
            self.has_tag_fields || section.response.as_ref().is_some_and(ResponseSection::names_tag_fields);
        Self { has_tag_fields, key, policy, terms: self.terms.changed(section) }
    }

    fn keyed(self, name: HeaderName) -> Self {
        Self { key: Some(self.key.unwrap_or_default().header(name)), ..self }
    }

    fn policy(self) -> Box<dyn CachePolicy> {
        let policy = set(self.policy, self.key, StandardPolicy::key);
        let terms = if self.has_tag_fields { self.terms } else { self.terms.then(usual_tags()) };
        terms.over(policy)
    }
}
