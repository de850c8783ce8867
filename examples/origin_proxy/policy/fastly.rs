//! The profile `fastly`.

use http::header::HeaderName;
use larder::policy::{Fastly, KeyRules};
use larder::semantics::unkeyed::UnkeyedFields;
use larder::{CachePolicy, CachePolicyExt};

use crate::policy::rows::{Base, set};
use crate::policy::section::Section;
use crate::policy::terms::TermRules;
use crate::policy::values::names;

/// What a Fastly service does. As in the other profiles, no proxy in front of this one is trusted.
#[derive(Clone)]
pub struct FastlyBase {
    key: KeyRules,
    policy: Fastly,
    terms: TermRules,
    unkeyed: UnkeyedFields,
}

pub fn base() -> FastlyBase {
    let mut unkeyed = UnkeyedFields::default();
    unkeyed.strip(true);
    FastlyBase {
        key: KeyRules::new().any_scheme(),
        policy: Fastly::new(),
        terms: TermRules::default(),
        unkeyed,
    }
}

impl Base for FastlyBase {
    fn changed(mut self, section: &Section) -> Self {
        let policy = set(self.policy, section.brotli, Fastly::brotli);
        let policy = set(policy, section.cacheable.clone(), |policy, list| {
            list.0.into_iter().fold(policy, |policy, status| policy.cacheable(status.0))
        });
        let policy = set(policy, section.cacheable_redirects, |policy, _| policy.cacheable_redirects());
        let policy = set(policy, section.cacheable_success, |policy, _| policy.cacheable_success());
        let policy = set(policy, section.codings.clone(), |policy, codings| policy.codings(codings.into()));
        let policy = set(policy, section.debug_token.as_ref(), |policy, token| policy.debug_token(&token.0));
        let policy = set(policy, section.deception_guard, Fastly::deception_guard);
        let policy = set(policy, section.default_ttl, |policy, time| policy.default_ttl(time.0));
        let policy = set(policy, section.excess_tags, |policy, what| policy.excess_tags(what.into()));
        let policy = set(policy, section.must_revalidate_counts, Fastly::must_revalidate_counts);
        let policy = set(policy, section.no_store_counts, Fastly::no_store_counts);
        let policy = set(policy, section.peer_token.as_ref(), |policy, token| {
            policy.peer_token(token.field.0.clone(), &token.secret.0)
        });
        let policy = set(policy, section.pass_for, |policy, time| policy.pass_for(time.0));
        let policy = set(policy, section.serve_stale, |policy, time| policy.serve_stale(time.0));
        let policy = set(policy, section.share_credentials, Fastly::share_credentials);
        let policy = set(policy, section.short_errors, |policy, errors| {
            policy.short_errors(errors.lifetime.0, errors.stale.0)
        });
        let policy = set(policy, section.tag_fields.clone(), |policy, list| {
            policy.tag_fields(list.0.into_iter().map(Into::into))
        });
        let policy = set(policy, section.timer, Fastly::timer);
        self.policy = set(policy, section.targets.as_ref(), |policy, list| policy.targets(names(list)));
        self.terms = self.terms.changed(section);
        if let Some(on) = section.strip_unkeyed {
            self.unkeyed.strip(on);
        }
        if let Some(list) = &section.unkeyed_fields {
            self.unkeyed.list(names(list));
        }
        section.forward_fields.iter().flat_map(names).for_each(|name| self.unkeyed.keep(name));
        if let Some(key) = &section.key {
            key.headers().for_each(|name| self.unkeyed.keep(name));
            self.key = key.changed(self.key);
        }
        self
    }

    fn keyed(mut self, name: HeaderName) -> Self {
        self.unkeyed.keep(name.clone());
        self.key = self.key.header(name);
        self
    }

    fn policy(self) -> Box<dyn CachePolicy> {
        let Self { key, policy, terms, unkeyed } = self;
        let policy = terms.over(policy.key(key));
        Box::new(
            policy.before_request(move |request, _| unkeyed.remove(&request.method, &mut request.headers)),
        )
    }
}
