//! A policy file in TOML: a section for every request, and behaviors for some of them.

use http::header::HeaderName;
use larder::policy::cloudfront::{CachePolicyConfig, OriginRequestPolicyConfig};
use serde::{Deserialize, Serialize};

use crate::policy::cloudfront::Policy;
use crate::policy::key::KeySection;
use crate::policy::matcher::Matcher;
use crate::policy::profile::Profile;
use crate::policy::response::ResponseSection;
use crate::policy::values::{
    AdmissionRule, CodingsValue, Comparison, CredentialsValue, ErrorPages, ExcessTagsValue, HeuristicValue,
    LevelsValue, LifetimeValue, List, Name, Off, On, Percent, Secret, SecretField, ShortErrors, Size, Status,
    StatusLifetimes, StatusTimes, TagFieldName, Time, VaryChoices, Word,
};

/// A file.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// In their order: the first that matches a request counts.
    pub behavior: Vec<Section>,
    /// For every request, as far as its behavior says nothing else.
    pub default: Section,
    pub profile: Option<Profile>,
}

impl File {
    /// The names of response fields that are for caches: tags, and lifetimes.
    pub fn fields_for_caches(&self) -> Vec<HeaderName> {
        let sections = || [&self.default].into_iter().chain(&self.behavior);
        let tags = sections().flat_map(|it| {
            let of_rules = it.response.iter().flat_map(ResponseSection::tag_fields);
            of_rules.chain(it.tag_fields.iter().flat_map(|list| &list.0)).map(TagFieldName::name)
        });
        let named = sections()
            .flat_map(|it| it.cache_tag_header.iter().chain(it.targets.iter().flat_map(|list| &list.0)));
        tags.chain(named.map(|name| &name.0)).cloned().collect()
    }
}

/// What is said for all requests or for some of them. Each key is named after the switch of the library that it sets.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table of keys")]
pub struct Section {
    #[serde(rename = "match", skip_serializing)]
    pub matcher: Option<Matcher>,

    // Every profile.
    pub bypass: Option<Word>,
    /// Of all requests: a behavior has none.
    pub error_pages: Option<ErrorPages>,

    pub admission: Option<AdmissionRule>,
    pub browser_lifetime: Option<Time>,
    pub browser_lifetime_as_stated: Option<On>,
    pub deception_guard: Option<bool>,
    pub jitter: Option<Percent>,
    pub levels: Option<LevelsValue>,
    pub lifetime: Option<LifetimeValue>,
    pub max_body: Option<Size>,
    pub max_variants: Option<usize>,
    pub min_body: Option<Size>,
    pub only_types: Option<List<String>>,
    pub response: Option<ResponseSection>,
    pub status_lifetimes: Option<StatusLifetimes>,
    pub vary: Option<VaryChoices>,
    pub without_types: Option<List<String>>,

    // All except `cloudfront`.
    pub codings: Option<CodingsValue>,
    pub forward_fields: Option<List<Name>>,
    pub key: Option<KeySection>,
    pub pass_for: Option<Time>,
    pub strip_unkeyed: Option<bool>,
    pub targets: Option<List<Name>>,
    pub unkeyed_fields: Option<List<Name>>,

    // `default` and `rfc9111`.
    pub client_directives: Option<bool>,
    pub credentials: Option<CredentialsValue>,
    pub default_lifetime: Option<Time>,
    pub drawn_errors: Option<bool>,
    pub head_as_get: Option<bool>,
    pub heuristic: Option<Off<HeuristicValue>>,
    pub immutable: Option<bool>,
    pub languages: Option<Comparison>,
    pub latency_budget: Option<Off<Time>>,
    pub max_error_lifetime: Option<Off<Time>>,
    pub no_vary_search: Option<bool>,
    pub partial: Option<bool>,
    pub post: Option<bool>,
    pub private_by_key: Option<bool>,
    pub refresh_ahead: Option<Off<Time>>,
    pub rest_after_failure: Option<Time>,
    pub stale_if_error: Option<Time>,
    pub stale_while_revalidate: Option<Time>,

    // `cloudfront`.
    pub cache_options: Option<bool>,
    #[serde(skip_serializing)]
    pub cache_policy: Option<Policy<CachePolicyConfig>>,
    pub cache_tag_header: Option<Name>,
    pub error_caching_min_ttl: Option<StatusTimes>,
    pub ignore_vary: Option<bool>,
    #[serde(skip_serializing)]
    pub origin_request_policy: Option<Policy<OriginRequestPolicyConfig>>,
    pub share_credentials: Option<bool>,
    pub signed: Option<bool>,

    // `fastly`.
    pub brotli: Option<bool>,
    pub cacheable: Option<List<Status>>,
    pub cacheable_redirects: Option<On>,
    pub cacheable_success: Option<On>,
    pub debug_token: Option<Secret>,
    pub default_ttl: Option<Time>,
    pub excess_tags: Option<ExcessTagsValue>,
    pub must_revalidate_counts: Option<bool>,
    pub no_store_counts: Option<bool>,
    pub peer_token: Option<SecretField>,
    pub serve_stale: Option<Time>,
    pub short_errors: Option<ShortErrors>,
    pub tag_fields: Option<List<TagFieldName>>,
    pub timer: Option<bool>,
}

/// Keys that mean nearly the same as one of another profile: what to write instead.
pub const NAMESAKES: [(&str, Profile, &str); 8] = [
    ("cache_tag_header", Profile::Fastly, "'tag_fields'"),
    ("default_lifetime", Profile::CloudFront, "DefaultTTL of 'cache_policy'"),
    ("default_lifetime", Profile::Fastly, "'default_ttl'"),
    ("default_ttl", Profile::Default, "'default_lifetime'"),
    ("default_ttl", Profile::Rfc9111, "'default_lifetime'"),
    ("key", Profile::CloudFront, "part of 'cache_policy'"),
    ("stale_if_error", Profile::Fastly, "'serve_stale'"),
    ("tag_fields", Profile::CloudFront, "'cache_tag_header'"),
];

/// The keys of a section, by the profiles that have them. All have `match` in addition.
pub const KEYS: [(&[Profile], &[&str]); 6] = [
    (
        &Profile::ALL,
        &[
            "admission",
            "browser_lifetime",
            "browser_lifetime_as_stated",
            "bypass",
            "deception_guard",
            "error_pages",
            "jitter",
            "levels",
            "lifetime",
            "max_body",
            "max_variants",
            "min_body",
            "only_types",
            "response",
            "status_lifetimes",
            "vary",
            "without_types",
        ],
    ),
    (
        &[Profile::CloudFront],
        &[
            "cache_options",
            "cache_policy",
            "cache_tag_header",
            "error_caching_min_ttl",
            "ignore_vary",
            "origin_request_policy",
            "signed",
        ],
    ),
    (&[Profile::CloudFront, Profile::Fastly], &["share_credentials"]),
    (
        &[Profile::Default, Profile::Fastly, Profile::Rfc9111],
        &["codings", "forward_fields", "key", "pass_for", "strip_unkeyed", "targets", "unkeyed_fields"],
    ),
    (
        &[Profile::Default, Profile::Rfc9111],
        &[
            "client_directives",
            "credentials",
            "default_lifetime",
            "drawn_errors",
            "head_as_get",
            "heuristic",
            "immutable",
            "languages",
            "latency_budget",
            "max_error_lifetime",
            "no_vary_search",
            "partial",
            "post",
            "private_by_key",
            "refresh_ahead",
            "rest_after_failure",
            "stale_if_error",
            "stale_while_revalidate",
        ],
    ),
    (
        &[Profile::Fastly],
        &[
            "brotli",
            "cacheable",
            "cacheable_redirects",
            "cacheable_success",
            "debug_token",
            "default_ttl",
            "excess_tags",
            "must_revalidate_counts",
            "no_store_counts",
            "peer_token",
            "serve_stale",
            "short_errors",
            "tag_fields",
            "timer",
        ],
    ),
];
