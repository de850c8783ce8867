//! What a section says of RFC 9111.

use larder::StandardPolicy;

use crate::policy::profile::Profile;
use crate::policy::section::Section;
use crate::policy::values::{List, Name};

/// What the profile says. No proxy in front of this one is trusted, and this one's own fields are added between the cache and
/// the origin.
pub fn base(profile: Profile) -> StandardPolicy {
    let policy = match profile {
        Profile::Rfc9111 => StandardPolicy::rfc9111(),
        _ => StandardPolicy::default(),
    };
    policy.strip_unkeyed(true)
}

/// The policy as the section changes it.
pub fn changed(policy: StandardPolicy, section: &Section) -> StandardPolicy {
    type P = StandardPolicy;
    let names = |names: &List<Name>| names.0.iter().map(|name| name.0.clone()).collect::<Vec<_>>();
    let policy = set(policy, section.client_directives, P::client_directives);
    let policy = set(policy, section.codings.clone(), |policy, codings| policy.codings(codings.into()));
    let policy = set(policy, section.credentials, |policy, what| policy.credentials(what.into()));
    let policy = set(policy, section.drawn_errors, P::drawn_errors);
    let policy = set(policy, section.forward_fields.as_ref(), |policy, list| {
        names(list).into_iter().fold(policy, P::forward_field)
    });
    let policy = set(policy, section.head_as_get, P::head_as_get);
    let policy = set(policy, section.heuristic, |policy, how| policy.heuristic(how.0.map(Into::into)));
    let policy = set(policy, section.immutable, P::immutable);
    let policy = set(policy, section.key_fields.as_ref(), |policy, list| {
        names(list).into_iter().fold(policy, P::key_field)
    });
    let policy = set(policy, section.languages, |policy, how| policy.languages(how.into()));
    let policy =
        set(policy, section.latency_budget, |policy, time| policy.latency_budget(time.0.map(|time| time.0)));
    let policy = set(policy, section.max_error_lifetime, |policy, time| {
        policy.max_error_lifetime(time.0.map(|time| time.0))
    });
    let policy = set(policy, section.no_vary_search, P::no_vary_search);
    let policy = set(policy, section.partial, P::partial);
    let policy = set(policy, section.post, P::post);
    let policy = set(policy, section.private_by_key, P::private_by_key);
    let policy =
        set(policy, section.refresh_ahead, |policy, time| policy.refresh_ahead(time.0.map(|time| time.0)));
    let policy = set(policy, section.stale_if_error, |policy, time| policy.stale_if_error(time.0));
    let policy = set(policy, section.strip_unkeyed, P::strip_unkeyed);
    let policy = set(policy, section.targets.as_ref(), |policy, list| policy.targets(names(list)));
    set(policy, section.unkeyed_fields.as_ref(), |policy, list| policy.unkeyed_fields(names(list)))
}

/// The policy with this, where it is said.
pub fn set<P, T>(policy: P, value: Option<T>, change: impl FnOnce(P, T) -> P) -> P {
    match value {
        Some(value) => change(policy, value),
        None => policy,
    }
}
