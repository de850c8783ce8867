//! A distribution decides about requests and responses.

use http::header::{self, HeaderMap, HeaderName};
use http::{Method, request};

use super::distribution::{BehaviorPlan, Distribution};
use super::forwarding::{ForwardBy, is_websocket};
use super::lifetimes::{NotKept, Said, kept};
use super::tags;
use crate::entry::key::asked_path;
use crate::policy::key::path_of;
use crate::policy::words::{CACHING_DISABLED, NO_CACHE};
use crate::policy::{
    CachePolicy, Delivery, ForwardReason, PolicyData, PolicyExchange, RequestAction, Terms, VaryRule,
};
use crate::semantics::Rules;
use crate::semantics::cache_status::{Forwarding, Outcome};
use crate::semantics::fields::list;
use crate::semantics::reuse::Forward;
use crate::semantics::storing::NotStored;
use crate::store::PurgeTarget;

/// What of a request's fields the policy looks at.
#[derive(Default)]
struct Present {
    authorization: bool,
    cookie: bool,
    upgrade: bool,
}

impl Present {
    fn of(headers: &HeaderMap) -> Self {
        // One pass costs less than to look for each.
        headers.keys().fold(Self::default(), |mut present, name| {
            match *name {
                header::AUTHORIZATION => present.authorization = true,
                header::COOKIE => present.cookie = true,
                header::UPGRADE => present.upgrade = true,
                _ => {}
            }
            present
        })
    }
}

/// Among the extensions of a request: its fields that begin with `CloudFront-` are what a layer has set, not its client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VouchedFields;

impl Distribution {
    /// Chooses the behavior of a request, for all hooks.
    #[inline]
    fn choose(&self, request: &request::Parts, data: &mut PolicyData) -> &BehaviorPlan {
        if self.behaviors.is_empty() {
            return &self.plan.default;
        }
        let path = asked_path(request);
        match self.behaviors.iter().position(|(pattern, _)| pattern.matches(&*path)) {
            None => &self.plan.default,
            Some(at) => {
                data.choose(self.chooser, at);
                &self.plan.others[at]
            }
        }
    }

    /// The behavior that was chosen.
    #[inline]
    fn chosen(&self, data: &PolicyData) -> &BehaviorPlan {
        let other = data.choice(self.chooser).and_then(|at| self.plan.others.get(at));
        other.unwrap_or(&self.plan.default)
    }

    /// Whether CloudFront's own fields are more than a client's word.
    fn believes(&self, request: &request::Parts) -> bool {
        self.switches.trusts_viewer_headers || request.extensions.get::<VouchedFields>().is_some()
    }
}

impl CachePolicy for Distribution {
    fn request(&self, request: &mut request::Parts, data: &mut PolicyData) -> RequestAction {
        let behavior = self.choose(request, data);
        let present = Present::of(&request.headers);
        if behavior.lifetimes.are_zero() {
            return RequestAction::bypass(CACHING_DISABLED);
        }
        if matches!(request.method, Method::GET | Method::HEAD | Method::QUERY | Method::OPTIONS) {
            // What the origin does not get to see is nobody's credential.
            if present.cookie {
                behavior.forward.edit_cookies(&mut request.headers);
            }
            if present.upgrade && !is_websocket(&request.headers) {
                request.headers.remove(header::UPGRADE);
            }
            if present.authorization && !behavior.forward.admits(&header::AUTHORIZATION) {
                request.headers.remove(header::AUTHORIZATION);
            }
        }
        let is_believed = behavior.key.has_cloudfronts && self.believes(request);
        match behavior.key.key(&self.plan.site, request, behavior.is_signed, is_believed) {
            Ok(key) => RequestAction::Cache(key),
            Err(error) => RequestAction::bypass(error.as_str()),
        }
    }

    fn rules(&self, request: &request::Parts, data: &PolicyData) -> &Rules {
        if request.method == Method::OPTIONS && self.chosen(data).caches_options {
            &self.plan.rules_with_options
        } else {
            &self.plan.rules
        }
    }

    fn response(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        let response = exchange.response;
        let behavior = self.chosen(exchange.data);
        if !behavior.forward.has_cookies() {
            terms.strip.push(header::SET_COOKIE);
        }
        terms.store = self.unless_lifted(behavior, terms);
        self.keep(behavior, exchange, terms);
        terms.vary = self.vary(behavior, &response.headers);
        if let Some(name) = &self.cache_tag_header {
            terms.groups.extend(tags::of(&response.headers, name));
        }
    }

    fn forward(&self, request: &mut request::Parts, reason: &ForwardReason<'_>) {
        let behavior = self.chosen(reason.data);
        let by = ForwardBy {
            is_believed: self.believes(request),
            is_signed: behavior.is_signed,
            may_be_stored: !matches!(reason.forward, Forward::Bypass | Forward::Method),
            origin_host: self.origin_host.as_ref(),
            origin_scheme: self.origin_scheme.as_ref(),
        };
        behavior.forward.edit(request, &by);
    }

    fn deliver(&self, delivery: &mut Delivery<'_>) {
        // Other answers have lost it when they were judged.
        let is_passed_on = matches!(
            delivery.outcome,
            Outcome::Forwarded(Forwarding { forward: Forward::Bypass | Forward::Method, .. })
        );
        if is_passed_on && !self.chosen(delivery.data).forward.has_cookies() {
            delivery.headers.remove(header::SET_COOKIE);
        }
    }

    /// Those of the behavior that a path has; of whatever else is purged, those of all. A tag has no case.
    fn spellings(&self, target: &PurgeTarget) -> Vec<PurgeTarget> {
        if let PurgeTarget::Tag(tag) = target {
            return vec![PurgeTarget::TagAnyCase(tag.clone())];
        }
        let mut others = self.behaviors.iter().zip(&self.plan.others);
        if let Some(path) = path_of(target) {
            let matching = others.find(|((pattern, _), _)| pattern.matches(path));
            let behavior = matching.map_or(&self.plan.default, |(_, behavior)| behavior);
            return behavior.spelling.spellings(target);
        }
        let all = others.map(|(_, behavior)| behavior).chain([&self.plan.default]);
        all.flat_map(|behavior| behavior.spelling.spellings(target)).collect()
    }
}

impl Distribution {
    /// What forbids to store a response whatever CloudFront does: of what the rules say, a cache policy lifts what the
    /// response's status and its directives say, and nothing else.
    fn unless_lifted(&self, behavior: &BehaviorPlan, terms: &Terms) -> Result<(), NotStored> {
        match terms.store {
            Ok(())
            | Err(
                NotStored::Authorization
                | NotStored::Cookie
                | NotStored::DrawnError
                | NotStored::NoStore
                | NotStored::Private
                | NotStored::SetCookie
                | NotStored::Status,
            ) => {}
            store => return store,
        }
        terms.firm?;
        match terms.credentials {
            // Nobody gets the field.
            Err(NotStored::SetCookie) if !behavior.forward.has_cookies() => Ok(()),
            Err(_) if self.switches.shares_credentials => Ok(()),
            credentials => credentials,
        }
    }

    /// Sets how long a response is kept, and for what.
    fn keep(&self, behavior: &BehaviorPlan, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        let (status, directives) = (exchange.response.status, exchange.directives);
        let said = Said::of(&exchange.response.headers, directives, terms);
        match kept(behavior.lifetimes, self.error_min_ttl(status), status, &said) {
            Ok(kept) => {
                terms.fresh_for(kept.fresh_for);
                terms.no_cache = kept.no_cache;
                // `s-maxage` is for CloudFront what `max-age` is, and forbids nothing (RFC 9111 5.2.2.10).
                terms.must_revalidate = directives.must_revalidate || directives.proxy_revalidate;
                terms.stale_if_error = Some(kept.stale_if_error);
                terms.stale_while_revalidate = Some(kept.stale_while_revalidate);
            }
            Err(_) if terms.store.is_err() => {}
            Err(NotKept::NoCache) => terms.refuse(NO_CACHE),
            Err(NotKept::NoStore) => terms.store = Err(NotStored::NoStore),
            Err(NotKept::Private) => terms.store = Err(NotStored::Private),
            Err(NotKept::Status) => terms.store = Err(NotStored::Status),
        }
    }

    /// The fields by which a response is selected: those that its `Vary` names, as far as the origin gets to see them. What is
    /// in the key in a normal form selects nothing more.
    fn vary(&self, behavior: &BehaviorPlan, headers: &HeaderMap) -> VaryRule {
        let mut names = Vec::new();
        for member in list(headers, &header::VARY) {
            match HeaderName::from_bytes(member) {
                Ok(header::COOKIE) if behavior.forward.has_cookies() => names.push(header::COOKIE),
                Ok(header::ACCEPT_ENCODING) if behavior.forward.normalises_codings() => {}
                Ok(name) if behavior.forward.admits(&name) => names.push(name),
                Ok(name) if name != "*" => {}
                // Nobody knows what it depends on.
                _ => return VaryRule::AsSent,
            }
        }
        if self.switches.ignores_vary { VaryRule::Ignore } else { VaryRule::Only(names) }
    }
}
