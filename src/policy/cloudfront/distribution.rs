//! A distribution: which requests get which behavior, and what is the same for all of them.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{self, HeaderName};
use http::uri::{Authority, Scheme};

use super::error_responses::CustomErrorResponse;
use super::forwarding::ForwardPlan;
use super::key::{KeyPlan, SIGNATURE};
use super::names::{CachePolicyConfig, ForwardedHeaders, Lifetimes, OriginRequestPolicyConfig};
use crate::entry::key::Site;
use crate::policy::data::Chooser;
use crate::policy::{KeyRules, Pattern, QueryRules, Selection};
use crate::semantics::{Credentials, FailureRest, Rules};

/// What CloudFront does with the requests of a site: a policy for [`CacheBuilder::policy`](crate::CacheBuilder::policy).
///
/// See the [module](super) for what it does, and where it is stricter than CloudFront.
///
/// ```
/// use larder::CacheBuilder;
/// use larder::policy::cloudfront::{CachePolicyConfig, Distribution, OriginRequestPolicyConfig};
///
/// let policy = Distribution::new(CachePolicyConfig::use_origin_cache_control_headers())
///     .origin_request_policy(OriginRequestPolicyConfig::all_viewer_except_host_header())
///     .behavior("/images/*", CachePolicyConfig::caching_optimized());
/// let layer = CacheBuilder::default().policy(policy).build();
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
pub struct Distribution {
    pub(super) behaviors: Vec<(Pattern, Behavior)>,
    pub(super) chooser: Chooser,
    pub(super) cache_tag_header: Option<HeaderName>,
    pub(super) default: Behavior,
    error_responses: Vec<CustomErrorResponse>,
    name: Authority,
    /// What of a file has no effect.
    pub(super) notes: Vec<String>,
    pub(super) origin_host: Option<Authority>,
    pub(super) origin_scheme: Option<Scheme>,
    pub(super) plan: Arc<Plan>,
    pub(super) switches: Switches,
}

/// What is on or off for all requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Switches {
    pub(super) guards_deception: bool,
    pub(super) ignores_vary: bool,
    pub(super) shares_credentials: bool,
    pub(super) strips_unkeyed: bool,
    pub(super) trusts_viewer_headers: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            guards_deception: true,
            ignores_vary: false,
            shares_credentials: false,
            strips_unkeyed: false,
            trusts_viewer_headers: false,
        }
    }
}

/// What is made of the configuration once, for all requests.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) default: BehaviorPlan,
    /// In the order of the behaviors.
    pub(super) others: Vec<BehaviorPlan>,
    pub(super) rules: Rules,
    /// Those of a behavior that caches answers to OPTIONS.
    pub(super) rules_with_options: Rules,
    pub(super) site: Site,
}

impl Plan {
    fn of(
        default: &Behavior,
        others: &[(Pattern, Behavior)],
        errors: &[CustomErrorResponse],
        switches: Switches,
        name: &Authority,
    ) -> Self {
        let (rules, strips_unkeyed) = (rules(errors, switches), switches.strips_unkeyed);
        Self {
            default: BehaviorPlan::of(default, strips_unkeyed, name),
            others: others
                .iter()
                .map(|(_, behavior)| BehaviorPlan::of(behavior, strips_unkeyed, name))
                .collect(),
            rules_with_options: Rules { options: true, ..rules.clone() },
            rules,
            site: Site::new(name),
        }
    }
}

#[derive(Debug)]
pub(super) struct BehaviorPlan {
    pub(super) caches_options: bool,
    pub(super) forward: ForwardPlan,
    pub(super) is_signed: bool,
    pub(super) key: KeyPlan,
    pub(super) lifetimes: Lifetimes,
    /// How purges are spelled.
    pub(super) spelling: KeyRules,
}

impl BehaviorPlan {
    fn of(behavior: &Behavior, strips_unkeyed: bool, name: &Authority) -> Self {
        let Behavior { cache_policy, caches_options, is_signed, origin_request_policy } = behavior;
        Self {
            caches_options: *caches_options,
            forward: ForwardPlan::of(cache_policy, origin_request_policy.as_ref(), strips_unkeyed),
            is_signed: *is_signed,
            key: KeyPlan::of(cache_policy),
            lifetimes: cache_policy.lifetimes(),
            spelling: spelling(name, &cache_policy.query_strings.0, *is_signed),
        }
    }
}

/// The URIs of keys, as rules: those of a site, with what counts of the query.
fn spelling(name: &Authority, query: &Selection, is_signed: bool) -> KeyRules {
    let query = QueryRules::from(query.clone());
    let query = if is_signed { query.ignore(SIGNATURE) } else { query };
    KeyRules::new().host(name.clone()).scheme(Scheme::HTTP).query(query)
}

/// What is done with some of the requests of a distribution (CloudFront's `CacheBehavior`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behavior {
    pub(super) caches_options: bool,
    pub(super) cache_policy: CachePolicyConfig,
    pub(super) is_signed: bool,
    pub(super) origin_request_policy: Option<OriginRequestPolicyConfig>,
}

impl Behavior {
    /// By this cache policy, without an origin request policy.
    pub fn new(cache_policy: CachePolicyConfig) -> Self {
        Self { cache_policy, caches_options: false, is_signed: false, origin_request_policy: None }
    }

    /// Whether answers to OPTIONS are cached (`CachedMethods`); default false. Each has a key of its own. For CORS, `Origin`,
    /// `Access-Control-Request-Headers` and `Access-Control-Request-Method` should be in it.
    #[must_use]
    pub fn cache_options(mut self, on: bool) -> Self {
        self.caches_options = on;
        self
    }

    /// With this origin request policy.
    #[must_use]
    pub fn origin_request_policy(mut self, policy: OriginRequestPolicyConfig) -> Self {
        self.origin_request_policy = Some(policy);
        self
    }

    /// Whether its URLs are signed (`TrustedKeyGroups`, `TrustedSigners`); default false. Then the parameters `Expires`,
    /// `Policy`, `Signature`, `Key-Pair-Id` and `Hash-Algorithm` are neither in the key nor forwarded. A layer in front of the
    /// cache has to check the signature: this does not.
    #[must_use]
    pub fn signed(mut self, on: bool) -> Self {
        self.is_signed = on;
        self
    }
}

impl From<CachePolicyConfig> for Behavior {
    fn from(cache_policy: CachePolicyConfig) -> Self {
        Self::new(cache_policy)
    }
}

/// How long CloudFront keeps an error, and leaves an origin alone that has failed.
pub(super) const ERROR_MIN_TTL: Duration = Duration::from_secs(10);

impl Distribution {
    /// A distribution of which every request gets this behavior (`DefaultCacheBehavior`), which may be a cache policy alone.
    pub fn new(default: impl Into<Behavior>) -> Self {
        let default = default.into();
        let name = Authority::from_static("distribution");
        let switches = Switches::default();
        let plan = Plan::of(&default, &[], &[], switches, &name);
        Self {
            behaviors: Vec::new(),
            chooser: Chooser::new(),
            cache_tag_header: None,
            default,
            error_responses: Vec::new(),
            name,
            notes: Vec::new(),
            origin_host: None,
            origin_scheme: None,
            plan: Arc::new(plan),
            switches,
        }
    }

    /// Requests whose path a pattern matches get this behavior, unless an earlier pattern matches, too (`CacheBehaviors`).
    ///
    /// `*` is any number of characters, also of `/`, and `?` is one. Cases differ, the slash at the beginning may be left out,
    /// and the query plays no part. The path is the one that was sent.
    #[must_use]
    pub fn behavior(mut self, pattern: impl AsRef<str>, behavior: impl Into<Behavior>) -> Self {
        let pattern = pattern.as_ref();
        let slash = if pattern.starts_with(['/', '*', '?']) { "" } else { "/" };
        // Its requests choose by other numbers than those of what it was cloned from.
        self.chooser = Chooser::new();
        self.behaviors.push((Pattern::new(format!("{slash}{pattern}")), behavior.into()));
        self.settled()
    }

    /// The field in which responses have their tags (`CacheTagConfig.HeaderName`); default none.
    ///
    /// Its members are separated by commas. 50 of them count for a response, and none that is longer than 256 bytes. Their case
    /// does not matter to [`PurgeTarget::tag_any_case`](crate::store::PurgeTarget::tag_any_case).
    #[must_use]
    pub fn cache_tag_header(mut self, name: HeaderName) -> Self {
        self.cache_tag_header = Some(name);
        self
    }

    /// Whether a response is refused that web cache deception may be behind; default true. CloudFront looks at no type
    /// of content, and keeps what a minimum or a default lifetime makes of such a page. See
    /// [`StandardPolicy::deception_guard`](crate::StandardPolicy::deception_guard).
    #[must_use]
    pub fn deception_guard(mut self, on: bool) -> Self {
        self.switches.guards_deception = on;
        self.settled()
    }

    /// Says what is special about errors with one status (`CustomErrorResponses`), in place of what was said of them before.
    #[must_use]
    pub fn custom_error_response(mut self, response: CustomErrorResponse) -> Self {
        self.error_responses.retain(|own| own.error_code != response.error_code);
        self.error_responses.push(response);
        self.settled()
    }

    /// How long an error with this status is kept at least (`ErrorCachingMinTTL`), and how long the origin is left alone after
    /// it where a stored response stands in; default 10 seconds. Zero is allowed.
    #[must_use]
    pub fn error_caching_min_ttl(self, status: StatusCode, ttl: Duration) -> Self {
        let own = self.error_responses.iter().find(|own| own.error_code == status).cloned();
        let response = own.unwrap_or_else(|| CustomErrorResponse::new(status));
        self.custom_error_response(response.error_caching_min_ttl(ttl))
    }

    /// What is special about errors.
    pub fn custom_error_responses(&self) -> &[CustomErrorResponse] {
        &self.error_responses
    }

    /// Whether `Vary` is of no importance, as for CloudFront; default false.
    ///
    /// **Warning:** a response whose `Vary` names a field that goes to the origin and is not in the key is then sent to
    /// clients for which it was not made, such as a German page to everybody. By default `Vary` selects among what is stored
    /// under one key, as far as the origin gets to see the fields that it names.
    #[must_use]
    pub fn ignore_vary(mut self, on: bool) -> Self {
        self.switches.ignores_vary = on;
        self
    }

    /// Adds a request field to the key of every behavior: [`CachePolicyConfig::key_header`].
    #[must_use]
    pub fn key_header(mut self, name: HeaderName) -> Self {
        let behaviors = self.behaviors.iter_mut().map(|(_, behavior)| behavior);
        for behavior in behaviors.chain([&mut self.default]) {
            let policy = std::mem::take(&mut behavior.cache_policy);
            behavior.cache_policy = policy.key_header(name.clone());
        }
        self.settled()
    }

    /// The name of the distribution, with which its keys begin; default `distribution`. Distributions that share a store need
    /// different ones.
    #[must_use]
    pub fn name(mut self, name: Authority) -> Self {
        self.name = name;
        self.settled()
    }

    /// The host of the origin, which `Host` names unless that is in the key or forwarded. By default a request then has no
    /// `Host` and names no host in its URI, so that an HTTP client fills in its own.
    #[must_use]
    pub fn origin_host(mut self, host: Authority) -> Self {
        self.origin_host = Some(host);
        self
    }

    /// The scheme that the origin gets to see of each request (`OriginProtocolPolicy`), in its URI and as the
    /// [`Scheme`] among its extensions.
    ///
    /// By default a request whose answer may be stored says `http`, since the key does not tell the schemes apart, and others say
    /// their own. Where `CloudFront-Forwarded-Proto` is in the key and believed, it is the scheme that this field names. An
    /// origin that redirects `http` to `https` needs that, or `https` here and the redirect in front of the cache.
    #[must_use]
    pub fn origin_scheme(mut self, scheme: Scheme) -> Self {
        self.origin_scheme = Some(scheme);
        self
    }

    /// What requests of the default behavior take to the origin beside what is in the key.
    #[must_use]
    pub fn origin_request_policy(mut self, policy: OriginRequestPolicyConfig) -> Self {
        self.default.origin_request_policy = Some(policy);
        self.settled()
    }

    /// Whether a response is shared between people whatever credentials their requests have, as CloudFront does it; default
    /// false.
    ///
    /// **Warning:** where cookies or `Authorization` go to the origin and are not in the key, one person's page is then sent to
    /// all others. By default such a response is stored only if it is `public` or has `s-maxage`, and so is one with
    /// `Set-Cookie`, unless no cookies are configured at all.
    #[must_use]
    pub fn share_credentials(mut self, on: bool) -> Self {
        self.switches.shares_credentials = on;
        self.settled()
    }

    /// Whether what `allViewer` and `allExcept` admit of a GET, HEAD, QUERY or cached OPTIONS goes to the origin without the fields that
    /// frameworks believe ([`unkeyed::BELIEVED`](crate::semantics::unkeyed::BELIEVED)), such as `X-Forwarded-Host`, and without
    /// those that have `_` in their names. What a policy names goes there anyway. Default false, as for CloudFront.
    #[must_use]
    pub fn strip_unkeyed(mut self, on: bool) -> Self {
        self.switches.strips_unkeyed = on;
        self.settled()
    }

    /// Whether a request's fields that begin with `CloudFront-` are believed; default false. Switch it on only behind a layer
    /// or a proxy that sets each of them that is in a policy, or removes it, whatever the client has sent. Those that the
    /// library's own layer for such fields has set are believed anyway.
    #[must_use]
    pub fn trust_viewer_headers(mut self, on: bool) -> Self {
        self.switches.trusts_viewer_headers = on;
        self
    }

    /// What deserves a second look: input that the origin gets and that is not in the key, names that have no effect.
    pub fn warnings(&self) -> Vec<String> {
        let others = self.behaviors.iter().map(|(pattern, behavior)| (pattern.as_str(), behavior));
        let mut warnings = self.notes.clone();
        for (pattern, behavior) in std::iter::once(("default", &self.default)).chain(others) {
            warnings.extend(behavior.warnings().into_iter().map(|warning| format!("{pattern}: {warning}")));
        }
        warnings
    }

    /// The minimum for errors with this status.
    pub(super) fn error_min_ttl(&self, status: StatusCode) -> Duration {
        error_min_ttl(&self.error_responses, status)
    }

    /// With what is made of the configuration.
    fn settled(mut self) -> Self {
        let Self { behaviors, default, error_responses, name, switches, .. } = &self;
        let plan = Plan::of(default, behaviors, error_responses, *switches, name);
        self.plan = Arc::new(plan);
        self
    }
}

fn error_min_ttl(errors: &[CustomErrorResponse], status: StatusCode) -> Duration {
    let own = errors.iter().find(|own| own.error_code == status);
    own.and_then(|own| own.error_caching_min_ttl).unwrap_or(ERROR_MIN_TTL)
}

/// The readings of RFC 9111 that CloudFront has.
fn rules(errors: &[CustomErrorResponse], switches: Switches) -> Rules {
    let min_ttls = errors.iter().filter_map(|own| Some((own.error_code, own.error_caching_min_ttl?)));
    // An origin that does not answer counts as one that takes too long.
    let unanswered = error_min_ttl(errors, StatusCode::GATEWAY_TIMEOUT);
    let rest = min_ttls.fold(FailureRest::of(ERROR_MIN_TTL), |rest, (status, ttl)| rest.status(status, ttl));
    Rules {
        client_directives: false,
        credentials: if switches.shares_credentials { Credentials::Rfc9111 } else { Credentials::Explicit },
        deception_guard: switches.guards_deception,
        drawn_errors: true,
        heuristic: None,
        max_error_lifetime: None,
        no_vary_search: false,
        partial: true,
        rest_after_failure: rest.unanswered(unanswered),
        targets: Vec::new(),
        ..Rules::default()
    }
}

impl Behavior {
    fn warnings(&self) -> Vec<String> {
        let Self { cache_policy, origin_request_policy, .. } = self;
        let mut warnings = Vec::new();
        if (cache_policy.gzip || cache_policy.brotli)
            && cache_policy.headers.0.contains(&header::ACCEPT_ENCODING)
        {
            warnings.push(
                "Accept-Encoding is in the key by the switches for gzip and Brotli, not as sent".into(),
            );
        }
        let Some(origin) = origin_request_policy.as_ref().filter(|_| !cache_policy.lifetimes().are_zero())
        else {
            return warnings;
        };
        let mut unkeyed = Vec::new();
        match &origin.headers.0 {
            ForwardedHeaders::None => {}
            ForwardedHeaders::AllowList(names) => {
                let missing = names.iter().filter(|name| !cache_policy.headers.0.contains(name));
                unkeyed.extend(missing.map(|name| name.as_str().to_owned()));
            }
            ForwardedHeaders::AllViewer(_) => unkeyed.push("all fields of the client".into()),
            ForwardedHeaders::AllExcept(_) => unkeyed.push("almost all fields of the client".into()),
        }
        for (what, keyed, forwarded) in [
            ("cookies", &cache_policy.cookies.0, &origin.cookies.0),
            ("query parameters", &cache_policy.query_strings.0, &origin.query_strings.0),
        ] {
            if *forwarded != Selection::None && *keyed != Selection::All && keyed != forwarded {
                unkeyed.push(what.to_owned());
            }
        }
        if !unkeyed.is_empty() {
            let unkeyed = unkeyed.join(", ");
            warnings.push(format!("goes to the origin and is not in the key, so that one client may shape what all get: {unkeyed}"));
        }
        warnings
    }
}
