//! CloudFront's JSON, in the forms that its API, its command line and CloudFormation have.

mod distribution;
mod error;
mod policies;
mod set;
mod values;

use std::collections::BTreeMap;

use http::uri::Authority;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use self::distribution::DistributionForm;
use self::error::read;
use self::policies::{CachePolicyWithId, OriginRequestPolicyWithId};

pub use self::error::JsonError;
pub use self::set::PolicySet;
use super::distribution::Distribution;
use super::names::{CachePolicyConfig, OriginRequestPolicyConfig};

/// What `aws cloudfront get-...` answers, what a file has that is made of it, or a resource of CloudFormation: each of the
/// members may be there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Wrapped {
    cache_policies: Option<Vec<CachePolicyMember>>,
    cache_policy: Option<CachePolicyWithId>,
    cache_policy_config: Option<CachePolicyConfig>,
    distribution: Option<WithDistribution>,
    distribution_config: Option<DistributionForm>,
    origin_request_policies: Option<Vec<OriginRequestPolicyMember>>,
    origin_request_policy: Option<OriginRequestPolicyWithId>,
    origin_request_policy_config: Option<OriginRequestPolicyConfig>,
    properties: Option<Properties>,
    #[serde(rename = "ETag")]
    _etag: Option<IgnoredAny>,
    #[serde(rename = "Type")]
    _type: Option<IgnoredAny>,
}

/// `Properties` of CloudFormation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Properties {
    cache_policy_config: Option<CachePolicyConfig>,
    distribution_config: Option<DistributionForm>,
    origin_request_policy_config: Option<OriginRequestPolicyConfig>,
    #[serde(rename = "Tags")]
    _tags: Option<IgnoredAny>,
}

/// `Distribution` of the API.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct WithDistribution {
    distribution_config: DistributionForm,
    domain_name: Option<String>,
    #[serde(rename = "ActiveTrustedKeyGroups")]
    _active_trusted_key_groups: Option<IgnoredAny>,
    #[serde(rename = "ActiveTrustedSigners")]
    _active_trusted_signers: Option<IgnoredAny>,
    #[serde(rename = "AliasICPRecordals")]
    _alias_icp_recordals: Option<IgnoredAny>,
    #[serde(rename = "ARN")]
    _arn: Option<IgnoredAny>,
    #[serde(rename = "Id")]
    _id: Option<IgnoredAny>,
    #[serde(rename = "InProgressInvalidationBatches")]
    _in_progress_invalidation_batches: Option<IgnoredAny>,
    #[serde(rename = "LastModifiedTime")]
    _last_modified_time: Option<IgnoredAny>,
    #[serde(rename = "Status")]
    _status: Option<IgnoredAny>,
}

/// A member of a list of policies, as it is, or as `list-cache-policies` has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct CachePolicyMember {
    cache_policy: Option<CachePolicyWithId>,
    cache_policy_config: Option<CachePolicyConfig>,
    id: Option<String>,
    #[serde(rename = "LastModifiedTime")]
    _last_modified_time: Option<IgnoredAny>,
    #[serde(rename = "Type")]
    _type: Option<IgnoredAny>,
}

/// The same of origin request policies.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct OriginRequestPolicyMember {
    id: Option<String>,
    origin_request_policy: Option<OriginRequestPolicyWithId>,
    origin_request_policy_config: Option<OriginRequestPolicyConfig>,
    #[serde(rename = "LastModifiedTime")]
    _last_modified_time: Option<IgnoredAny>,
    #[serde(rename = "Type")]
    _type: Option<IgnoredAny>,
}

impl Wrapped {
    /// The members of a text that has one of these names; `None` where it has none, and is a configuration itself.
    fn read(text: &str, names: &[&str]) -> Result<Option<Self>, JsonError> {
        let members: BTreeMap<String, IgnoredAny> = read(text)?;
        if names.iter().any(|name| members.contains_key(*name)) { read(text).map(Some) } else { Ok(None) }
    }

    fn cache_policy(&mut self) -> Option<CachePolicyConfig> {
        let with_id = self.cache_policy.take().map(|policy| policy.cache_policy_config);
        let in_properties = self.properties.as_mut().and_then(|all| all.cache_policy_config.take());
        with_id.or(self.cache_policy_config.take()).or(in_properties)
    }

    fn origin_request_policy(&mut self) -> Option<OriginRequestPolicyConfig> {
        let with_id = self.origin_request_policy.take().map(|policy| policy.origin_request_policy_config);
        let in_properties = self.properties.as_mut().and_then(|all| all.origin_request_policy_config.take());
        with_id.or(self.origin_request_policy_config.take()).or(in_properties)
    }

    /// Finds a configuration that would have no effect beside another one.
    fn check_one(&self) -> Result<(), JsonError> {
        let properties = self.properties.as_ref();
        let of_properties = |has: fn(&Properties) -> bool| properties.is_some_and(has);
        let distributions = [
            ("Distribution", self.distribution.is_some()),
            ("DistributionConfig", self.distribution_config.is_some()),
            ("Properties.DistributionConfig", of_properties(|all| all.distribution_config.is_some())),
        ];
        let cache_policies = [
            ("CachePolicyConfig", self.cache_policy_config.is_some()),
            ("Properties.CachePolicyConfig", of_properties(|all| all.cache_policy_config.is_some())),
        ];
        let origin_request_policies = [
            ("OriginRequestPolicyConfig", self.origin_request_policy_config.is_some()),
            (
                "Properties.OriginRequestPolicyConfig",
                of_properties(|all| all.origin_request_policy_config.is_some()),
            ),
        ];
        let named = |all: &[(&'static str, bool)]| -> Vec<&'static str> {
            all.iter().filter(|(_, is_there)| *is_there).map(|(name, _)| *name).collect()
        };
        let [of_distribution, of_cache, of_origin] =
            [named(&distributions), named(&cache_policies), named(&origin_request_policies)];
        let second = |names: &[&'static str], has_other: bool| names.get(usize::from(!has_other)).copied();
        let beside =
            |path| Err(JsonError::at(path, "there is another configuration beside it, and one can count"));
        if let Some(path) = second(&of_distribution, false) {
            return beside(path);
        }
        if let (Some(path), true) = (of_cache.first().or(of_origin.first()), !of_distribution.is_empty()) {
            let message = "beside a distribution it has no id by which a behavior could name it: put it into \
                           `CachePolicies` or `OriginRequestPolicies`";
            return Err(JsonError::at(*path, message));
        }
        if let Some(path) = second(&of_cache, self.cache_policy.is_some()) {
            return beside(path);
        }
        match second(&of_origin, self.origin_request_policy.is_some()) {
            Some(path) => beside(path),
            None => Ok(()),
        }
    }

    /// Adds the policies that are there beside a distribution.
    fn add_to(&mut self, mut policies: PolicySet) -> Result<PolicySet, JsonError> {
        for (index, member) in self.cache_policies.take().unwrap_or_default().into_iter().enumerate() {
            let inner = member.cache_policy.map(|policy| (policy.id, policy.cache_policy_config));
            let own = member.cache_policy_config.map(|policy| (member.id, policy));
            let path = format!("CachePolicies[{index}]");
            let (id, policy) = inner.or(own).ok_or_else(|| missing(&path, "CachePolicyConfig"))?;
            policies = policies.cache_policy(id.unwrap_or_default(), policy);
        }
        let members = self.origin_request_policies.take().unwrap_or_default();
        for (index, member) in members.into_iter().enumerate() {
            let inner =
                member.origin_request_policy.map(|policy| (policy.id, policy.origin_request_policy_config));
            let own = member.origin_request_policy_config.map(|policy| (member.id, policy));
            let path = format!("OriginRequestPolicies[{index}]");
            let (id, policy) = inner.or(own).ok_or_else(|| missing(&path, "OriginRequestPolicyConfig"))?;
            policies = policies.origin_request_policy(id.unwrap_or_default(), policy);
        }
        if let Some(CachePolicyWithId { cache_policy_config, id: Some(id), .. }) = &self.cache_policy {
            policies = policies.cache_policy(&**id, cache_policy_config.clone());
        }
        if let Some(OriginRequestPolicyWithId { origin_request_policy_config, id: Some(id), .. }) =
            &self.origin_request_policy
        {
            policies = policies.origin_request_policy(&**id, origin_request_policy_config.clone());
        }
        Ok(policies)
    }
}

fn missing(path: &str, field: &str) -> JsonError {
    JsonError::at(path, format!("missing field `{field}`"))
}

/// The names of what a cache policy, or an origin request policy, is wrapped into.
const WRAPPERS: [&str; 5] =
    ["CachePolicy", "CachePolicyConfig", "OriginRequestPolicy", "OriginRequestPolicyConfig", "Properties"];

impl CachePolicyConfig {
    /// Reads a cache policy: `CachePolicyConfig` by itself, what `aws cloudfront get-cache-policy` or
    /// `get-cache-policy-config` answers, or a resource of CloudFormation.
    ///
    /// ```
    /// use larder::policy::cloudfront::CachePolicyConfig;
    /// let policy = CachePolicyConfig::from_json(
    ///     r#"{"CachePolicyConfig": {"Name": "private-dynamic-content", "MinTTL": 0, "DefaultTTL": 0, "MaxTTL": 86400,
    ///         "ParametersInCacheKeyAndForwardedToOrigin": {
    ///           "EnableAcceptEncodingGzip": true,
    ///           "HeadersConfig": {"HeaderBehavior": "whitelist", "Headers": {"Quantity": 1, "Items": ["Authorization"]}},
    ///           "CookiesConfig": {"CookieBehavior": "none"},
    ///           "QueryStringsConfig": {"QueryStringBehavior": "all"}}}}"#,
    /// )?;
    /// # let _ = policy;
    /// let error = CachePolicyConfig::from_json(r#"{"CachePolicyConfig": {"Name": "x", "MinTTL": -1}}"#).unwrap_err();
    /// assert_eq!(error.path(), "CachePolicyConfig.MinTTL");
    /// # Ok::<(), larder::policy::cloudfront::JsonError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`JsonError`] with the path and the line: text that is no JSON, fields that are unknown or missing, values that
    /// CloudFront does not have.
    #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
    pub fn from_json(text: &str) -> Result<Self, JsonError> {
        only(text, Wrapped::cache_policy, "CachePolicyConfig")
    }
}

impl OriginRequestPolicyConfig {
    /// Reads an origin request policy, in the forms of [`CachePolicyConfig::from_json`].
    ///
    /// # Errors
    ///
    /// As there.
    #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
    pub fn from_json(text: &str) -> Result<Self, JsonError> {
        only(text, Wrapped::origin_request_policy, "OriginRequestPolicyConfig")
    }
}

/// Reads a configuration by itself, or in its wrapper.
fn only<T: DeserializeOwned>(
    text: &str,
    take: impl Fn(&mut Wrapped) -> Option<T>,
    field: &str,
) -> Result<T, JsonError> {
    match Wrapped::read(text, &WRAPPERS)? {
        None => read(text),
        Some(mut wrapped) => take(&mut wrapped).ok_or_else(|| missing(".", field)),
    }
}

impl Distribution {
    /// Reads a distribution: `DistributionConfig` by itself, what `aws cloudfront get-distribution` or
    /// `get-distribution-config` answers, or a resource of CloudFormation. Its behaviors name managed policies, and those that
    /// the same text has beside it in `CachePolicies` and `OriginRequestPolicies`: lists of objects with `Id` and
    /// `CachePolicyConfig` or `OriginRequestPolicyConfig`.
    ///
    /// A cache policy in one of the forms of [`CachePolicyConfig::from_json`], with or without an origin request policy beside
    /// it, is a distribution with that for all requests.
    ///
    /// What is no cache's business, such as `Origins` and `ViewerCertificate`, is not looked at.
    /// [`Distribution::warnings`] says what of the rest has no effect.
    ///
    /// ```
    /// use larder::policy::cloudfront::Distribution;
    /// let distribution = Distribution::from_json(
    ///     r#"{"DefaultCacheBehavior": {"TargetOriginId": "web", "ViewerProtocolPolicy": "allow-all",
    ///           "CachePolicyId": "83da9c7e-98b4-4e11-a168-04f0df8e2c65"},
    ///         "CacheBehaviors": {"Quantity": 1, "Items": [
    ///           {"PathPattern": "/images/*", "TargetOriginId": "web", "CachePolicyId": "Managed-CachingOptimized"}]},
    ///         "CustomErrorResponses": {"Quantity": 1, "Items": [{"ErrorCode": 404, "ErrorCachingMinTTL": 60}]}}"#,
    /// )?;
    /// # let _ = distribution;
    /// # Ok::<(), larder::policy::cloudfront::JsonError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`CachePolicyConfig::from_json`], and where a policy is named that nobody knows.
    #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
    pub fn from_json(text: &str) -> Result<Self, JsonError> {
        Self::from_json_with(text, &PolicySet::new())
    }

    /// [`Distribution::from_json`] with policies that are given beside the text.
    ///
    /// # Errors
    ///
    /// As there.
    #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
    pub fn from_json_with(text: &str, policies: &PolicySet) -> Result<Self, JsonError> {
        Self::read_json(text, policies).map_err(|error| error.in_text(text))
    }

    fn read_json(text: &str, policies: &PolicySet) -> Result<Self, JsonError> {
        let mut names = WRAPPERS.to_vec();
        names.extend(["Distribution", "DistributionConfig"]);
        let Some(mut wrapped) = Wrapped::read(text, &names)? else {
            let members: BTreeMap<String, IgnoredAny> = read(text)?;
            return if members.contains_key("MinTTL") || members.contains_key("Name") {
                read::<CachePolicyConfig>(text).map(Self::new)
            } else {
                read::<DistributionForm>(text)?.resolve("", policies)
            };
        };
        wrapped.check_one()?;
        let policies = wrapped.add_to(policies.clone())?;
        if let Some(WithDistribution { distribution_config, domain_name, .. }) = wrapped.distribution.take() {
            let distribution = distribution_config.resolve("Distribution.DistributionConfig.", &policies)?;
            let name = domain_name.and_then(|name| Authority::try_from(name).ok());
            return Ok(match name {
                Some(name) => distribution.name(name),
                None => distribution,
            });
        }
        if let Some(form) = wrapped.distribution_config.take() {
            return form.resolve("DistributionConfig.", &policies);
        }
        if let Some(form) = wrapped.properties.as_mut().and_then(|all| all.distribution_config.take()) {
            return form.resolve("Properties.DistributionConfig.", &policies);
        }
        let Some(cache_policy) = wrapped.cache_policy() else {
            return Err(missing(".", "CachePolicyConfig"));
        };
        let distribution = Self::new(cache_policy);
        Ok(match wrapped.origin_request_policy() {
            Some(policy) => distribution.origin_request_policy(policy),
            None => distribution,
        })
    }
}
