//! The profiles `default` and `rfc9111`.

use http::header::HeaderName;
use larder::{CachePolicy, StandardPolicy};

use crate::policy::profile::Profile;
use crate::policy::rows::{Base, set};
use crate::policy::section::Section;
use crate::policy::values::names;

/// What the profile says. No proxy in front of this one is trusted, and this one's own fields are added between the cache and
/// the origin.
pub fn base(profile: Profile) -> StandardPolicy {
    let policy = match profile {
        Profile::Rfc9111 => StandardPolicy::rfc9111(),
        _ => StandardPolicy::default(),
    };
    policy.strip_unkeyed(true)
}

impl Base for StandardPolicy {
    fn changed(self, section: &Section) -> Self {
        let policy = set(self, section.client_directives, Self::client_directives);
        let policy = set(policy, section.codings.clone(), |policy, codings| policy.codings(codings.into()));
        let policy = set(policy, section.credentials, |policy, what| policy.credentials(what.into()));
        let policy = set(policy, section.drawn_errors, Self::drawn_errors);
        let policy = set(policy, section.forward_fields.as_ref(), |policy, list| {
            names(list).fold(policy, Self::forward_field)
        });
        let policy = set(policy, section.head_as_get, Self::head_as_get);
        let policy = set(policy, section.heuristic, |policy, how| policy.heuristic(how.0.map(Into::into)));
        let policy = set(policy, section.immutable, Self::immutable);
        let policy = set(policy, section.key_fields.as_ref(), |policy, list| {
            names(list).fold(policy, Self::key_field)
        });
        let policy = set(policy, section.languages, |policy, how| policy.languages(how.into()));
        let policy = set(policy, section.latency_budget, |policy, time| policy.latency_budget(time.into()));
        let policy =
            set(policy, section.max_error_lifetime, |policy, time| policy.max_error_lifetime(time.into()));
        let policy = set(policy, section.no_vary_search, Self::no_vary_search);
        let policy = set(policy, section.partial, Self::partial);
        let policy = set(policy, section.pass_for, |policy, time| policy.pass_for(time.0));
        let policy = set(policy, section.post, Self::post);
        let policy = set(policy, section.private_by_key, Self::private_by_key);
        let policy = set(policy, section.refresh_ahead, |policy, time| policy.refresh_ahead(time.into()));
        let policy = set(policy, section.stale_if_error, |policy, time| policy.stale_if_error(time.0));
        let policy = set(policy, section.strip_unkeyed, Self::strip_unkeyed);
        let policy = set(policy, section.targets.as_ref(), |policy, list| policy.targets(names(list)));
        set(policy, section.unkeyed_fields.as_ref(), |policy, list| policy.unkeyed_fields(names(list)))
    }

    fn keyed(self, name: HeaderName) -> Self {
        self.key_field(name)
    }

    fn policy(self) -> Box<dyn CachePolicy> {
        Box::new(self)
    }
}
