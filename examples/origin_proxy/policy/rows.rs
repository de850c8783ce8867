//! A table of policies: one for every request, and those of the behaviors, each made of it.

use http::header::HeaderName;
use larder::policy::Policies;
use larder::{CachePolicy, CachePolicyExt, RequestAction};

use crate::policy::section::{File, Section};

/// What a profile makes policies of.
pub trait Base: Clone {
    /// As a section changes it.
    #[must_use]
    fn changed(self, section: &Section) -> Self;

    /// With this field in every key.
    #[must_use]
    fn keyed(self, name: HeaderName) -> Self;

    fn policy(self) -> Box<dyn CachePolicy>;
}

/// The policy of a file, with these fields in every key.
pub fn table(base: impl Base, file: &File, key_headers: &[HeaderName]) -> Box<dyn CachePolicy> {
    let keyed = |base| key_headers.iter().cloned().fold(base, Base::keyed);
    let default = base.changed(&file.default);
    let otherwise = row(keyed(default.clone()), &file.default);
    if file.behavior.is_empty() {
        return otherwise;
    }
    Box::new(file.behavior.iter().fold(Policies::new(otherwise), |policies, section| {
        let policy = row(keyed(default.clone().changed(section)), section);
        match section.matcher.clone() {
            Some(matcher) => policies.when(move |request| matcher.matches(request), policy),
            None => policies,
        }
    }))
}

/// A policy, unless the section keeps its requests from the cache. They are forwarded as the policy says.
fn row(base: impl Base, section: &Section) -> Box<dyn CachePolicy> {
    match section.bypass.clone() {
        None => base.policy(),
        Some(reason) => {
            Box::new(base.policy().map_request(move |_, _| RequestAction::bypass(reason.0.clone())))
        }
    }
}

/// What it was before, with this where it is said.
pub fn set<P, T>(policy: P, value: Option<T>, change: impl FnOnce(P, T) -> P) -> P {
    match value {
        Some(value) => change(policy, value),
        None => policy,
    }
}
