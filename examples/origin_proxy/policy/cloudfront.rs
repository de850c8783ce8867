//! The profile `cloudfront`: policies by their names or in AWS's words, and distributions in AWS's JSON.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::time::Duration;

use http::StatusCode;
use http::header::HeaderName;
use http::uri::Authority;
use larder::CachePolicy;
use larder::policy::cloudfront::{
    Behavior, CachePolicyConfig, Distribution, OriginRequestPolicyConfig, is_keyable,
};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::policy::error::{PolicyError, explained, unknown};
use crate::policy::matcher::Matcher;
use crate::policy::rows::{Base, set};
use crate::policy::section::Section;
use crate::policy::terms::TermRules;

/// What CloudFront does with some of the requests.
#[derive(Clone)]
pub struct CloudFrontBase {
    cache_policy: CachePolicyConfig,
    caches_options: bool,
    error_min_ttls: Vec<(StatusCode, Duration)>,
    guards_deception: bool,
    ignores_vary: bool,
    is_signed: bool,
    key_headers: Vec<HeaderName>,
    name: Option<Authority>,
    origin_request_policy: Option<OriginRequestPolicyConfig>,
    shares_credentials: bool,
    tag_header: Option<HeaderName>,
    terms: TermRules,
}

/// What holds without a file: the origin says how long a response is kept, everything that the client asks for is in the key,
/// and the origin gets everything that the client has sent.
pub fn base() -> CloudFrontBase {
    CloudFrontBase {
        cache_policy: CachePolicyConfig::use_origin_cache_control_headers_query_strings(),
        caches_options: false,
        error_min_ttls: Vec::new(),
        guards_deception: true,
        ignores_vary: false,
        is_signed: false,
        key_headers: Vec::new(),
        name: None,
        origin_request_policy: Some(OriginRequestPolicyConfig::all_viewer()),
        shares_credentials: false,
        tag_header: None,
        terms: TermRules::default(),
    }
}

impl Base for CloudFrontBase {
    fn changed(mut self, section: &Section) -> Self {
        // Other hosts are another distribution, as its alternate domain names would be: their keys stay apart.
        self.name = section.matcher.as_ref().and_then(name_of).or(self.name);
        // As for CloudFront, a cache policy comes alone, unless an origin request policy is named beside it.
        if let Some(policy) = &section.cache_policy {
            self.cache_policy = policy.0.clone();
            self.origin_request_policy = None;
        }
        if let Some(policy) = &section.origin_request_policy {
            self.origin_request_policy = Some(policy.0.clone());
        }
        self.caches_options = section.cache_options.unwrap_or(self.caches_options);
        self.guards_deception = section.deception_guard.unwrap_or(self.guards_deception);
        self.ignores_vary = section.ignore_vary.unwrap_or(self.ignores_vary);
        self.is_signed = section.signed.unwrap_or(self.is_signed);
        self.shares_credentials = section.share_credentials.unwrap_or(self.shares_credentials);
        self.tag_header = section.cache_tag_header.as_ref().map(|name| name.0.clone()).or(self.tag_header);
        self.terms = self.terms.changed(section);
        self.error_min_ttls.extend(section.error_caching_min_ttl.iter().flat_map(|table| table.0.clone()));
        self
    }

    fn keyed(mut self, name: HeaderName) -> Self {
        self.key_headers.push(name);
        self
    }

    fn description(&self) -> String {
        self.behavior().to_string()
    }

    fn warnings(&self) -> Vec<String> {
        let warnings = self.distribution().warnings();
        warnings.iter().map(|warning| warning.trim_start_matches("default: ").to_owned()).collect()
    }

    fn policy(self) -> Box<dyn CachePolicy> {
        let distribution = guarded(self.distribution());
        self.terms.over(distribution)
    }
}

impl CloudFrontBase {
    fn behavior(&self) -> Behavior {
        let keys = self.key_headers.iter().cloned();
        let behavior = Behavior::new(keys.fold(self.cache_policy.clone(), CachePolicyConfig::key_header));
        let behavior = behavior.cache_options(self.caches_options).signed(self.is_signed);
        set(behavior, self.origin_request_policy.clone(), Behavior::origin_request_policy)
    }

    fn distribution(&self) -> Distribution {
        let distribution = Distribution::new(self.behavior())
            .deception_guard(self.guards_deception)
            .ignore_vary(self.ignores_vary)
            .share_credentials(self.shares_credentials);
        let distribution = set(distribution, self.name.clone(), Distribution::name);
        let distribution = set(distribution, self.tag_header.clone(), Distribution::cache_tag_header);
        let errors = self.error_min_ttls.iter().copied();
        errors.fold(distribution, |all, (status, ttl)| all.error_caching_min_ttl(status, ttl))
    }
}

/// The name of the distribution for the hosts of a matcher, such as `a.example+b.example`.
fn name_of(matcher: &Matcher) -> Option<Authority> {
    let name = matcher.hosts().collect::<Vec<_>>().join("+");
    // What no authority can have in it, and no host either.
    name.replace('*', "(any)").replace('?', "(one)").parse().ok()
}

/// A distribution as this proxy uses it: no proxy in front of it is trusted. What begins with `CloudFront-` is the proxy's own,
/// since it removes what clients send under such names.
fn guarded(distribution: Distribution) -> Distribution {
    distribution.strip_unkeyed(true).trust_viewer_headers(true)
}

/// A distribution in AWS's JSON.
///
/// # Errors
///
/// Where it is wrong, and why.
pub fn of_json(text: &str, key_headers: &[HeaderName]) -> Result<Distribution, PolicyError> {
    check_keys(key_headers)?;
    let distribution = Distribution::from_json(text).map_err(|error| {
        let place = if error.path() == "." { String::new() } else { format!("{}: ", error.path()) };
        let reason = PolicyError::new(format!("{place}{}", explained(error.message())));
        set(reason, error.line(), PolicyError::line)
    })?;
    Ok(guarded(key_headers.iter().cloned().fold(distribution, Distribution::key_header)))
}

/// The field with tags that AWS's JSON names.
pub fn tag_header(text: &str) -> Option<HeaderName> {
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    let name = ["/CacheTagConfig/HeaderName", "/DistributionConfig/CacheTagConfig/HeaderName"]
        .iter()
        .find_map(|path| json.pointer(path)?.as_str());
    name?.parse().ok()
}

/// Finds fields that CloudFront can't have in a key.
pub fn check_keys(key_headers: &[HeaderName]) -> Result<(), PolicyError> {
    match key_headers.iter().find(|name| !is_keyable(name)) {
        Some(name) => {
            Err(PolicyError::new(format!("--key-header {name}: CloudFront has no such field in a key")))
        }
        None => Ok(()),
    }
}

/// Whether a file is AWS's JSON.
pub fn is_json(path: &Path, text: &str) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"))
        || text.trim_start().starts_with('{')
}

/// A policy of CloudFront: the name or the id of a managed one, or a table with the names of AWS's API.
#[derive(Clone)]
pub struct Policy<T>(pub T);

pub trait Managed: Sized {
    fn managed(name: &str) -> Result<Self, String>;
}

impl Managed for CachePolicyConfig {
    fn managed(name: &str) -> Result<Self, String> {
        Self::managed(name).ok_or_else(|| unknown("managed cache policy", name, Self::managed_names()))
    }
}

impl Managed for OriginRequestPolicyConfig {
    fn managed(name: &str) -> Result<Self, String> {
        Self::managed(name)
            .ok_or_else(|| unknown("managed origin request policy", name, Self::managed_names()))
    }
}

impl<'de, T: DeserializeOwned + Managed> Deserialize<'de> for Policy<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable<T>(PhantomData<T>);

        impl<'de, T: DeserializeOwned + Managed> Visitor<'de> for NameOrTable<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a managed policy, or a table in AWS's words")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<T, E> {
                T::managed(name).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_any(NameOrTable(PhantomData)).map(Self)
    }
}
