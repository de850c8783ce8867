//! A table of policies: one for every request, and those of the behaviors, each made of it.

use http::header::HeaderName;
use larder::policy::Policies;
use larder::{CachePolicy, CachePolicyExt, RequestAction};

use crate::policy::describe;
use crate::policy::section::{File, Section};

/// What a profile makes policies of.
pub trait Base: Clone {
    /// As a section changes it.
    #[must_use]
    fn changed(self, section: &Section) -> Self;

    /// With this field in every key.
    #[must_use]
    fn keyed(self, name: HeaderName) -> Self;

    /// What it says beside the values of a section; indented lines, or nothing.
    fn description(&self) -> String {
        String::new()
    }

    /// What of it deserves a second look.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    fn policy(self) -> Box<dyn CachePolicy>;
}

/// What was understood of a section.
pub struct Understood {
    /// Which requests it is for.
    pub heading: String,
    /// Indented lines.
    pub said: String,
    pub warnings: Vec<String>,
}

/// The policy of a file, with these fields in every key, and what was understood: of what is for every request, and of each
/// behavior.
pub fn table<B: Base>(
    base: B,
    file: &File,
    key_headers: &[HeaderName],
) -> (Box<dyn CachePolicy>, Vec<Understood>) {
    let keyed = |base: B| key_headers.iter().cloned().fold(base, B::keyed);
    let default = base.changed(&file.default);
    let mut understood = Vec::new();
    let mut row = |heading: String, base: B, section: &Section| {
        let base = keyed(base);
        let said = describe::section(section) + &base.description();
        let said = if said.is_empty() { "    as the profile says\n".to_owned() } else { said };
        understood.push(Understood { heading, said, warnings: base.warnings() });
        policy(base, section)
    };
    let otherwise = row("every request".to_owned(), default.clone(), &file.default);
    if file.behavior.is_empty() {
        return (otherwise, understood);
    }
    let mut policies = Policies::new(otherwise);
    for (number, section) in (1..).zip(&file.behavior) {
        if let Some(matcher) = section.matcher.clone() {
            let heading = format!("behavior {number}, {matcher}");
            let policy = row(heading, default.clone().changed(section), section);
            policies = policies.when(move |request| matcher.matches(request), policy);
        }
    }
    (Box::new(policies), understood)
}

/// A policy, unless the section keeps its requests from the cache. They are forwarded as the policy says.
fn policy(base: impl Base, section: &Section) -> Box<dyn CachePolicy> {
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
