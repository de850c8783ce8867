//! The configuration of a distribution.

use std::marker::PhantomData;

use http::StatusCode;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny};

use super::error::JsonError;
use super::set::PolicySet;
use super::values::{FieldName, List, ListVisitor, Listed, Seconds, Status};
use crate::policy::cloudfront::distribution::{Behavior, Distribution};
use crate::policy::cloudfront::error_responses::CustomErrorResponse;

/// `DistributionConfig`. What is no cache's business is known by name, and not looked at.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct DistributionForm {
    #[serde(default)]
    cache_behaviors: List<BehaviorForm>,
    cache_tag_config: Option<CacheTagForm>,
    #[serde(default)]
    custom_error_responses: List<ErrorResponseForm>,
    default_cache_behavior: BehaviorForm,
    default_root_object: Option<String>,
    enabled: Option<bool>,
    #[serde(default)]
    origin_groups: List<IgnoredAny>,
    #[serde(default)]
    origins: List<OriginForm>,
    restrictions: Option<RestrictionsForm>,
    #[serde(default)]
    staging: bool,
    #[serde(rename = "WebACLId")]
    web_acl_id: Option<String>,
    #[serde(rename = "Aliases")]
    _aliases: Option<IgnoredAny>,
    #[serde(rename = "AnycastIpListId")]
    _anycast_ip_list_id: Option<IgnoredAny>,
    #[serde(rename = "CallerReference")]
    _caller_reference: Option<IgnoredAny>,
    #[serde(rename = "CNAMEs")]
    _cnames: Option<IgnoredAny>,
    #[serde(rename = "Comment")]
    _comment: Option<IgnoredAny>,
    #[serde(rename = "ConnectionFunctionAssociation")]
    _connection_function_association: Option<IgnoredAny>,
    #[serde(rename = "ConnectionMode")]
    _connection_mode: Option<IgnoredAny>,
    #[serde(rename = "ContinuousDeploymentPolicyId")]
    _continuous_deployment_policy_id: Option<IgnoredAny>,
    #[serde(rename = "HttpVersion")]
    _http_version: Option<IgnoredAny>,
    #[serde(rename = "IPV6Enabled")]
    _ipv6_enabled: Option<IgnoredAny>,
    #[serde(rename = "IsIPV6Enabled")]
    _is_ipv6_enabled: Option<IgnoredAny>,
    #[serde(rename = "Logging")]
    _logging: Option<IgnoredAny>,
    #[serde(rename = "PriceClass")]
    _price_class: Option<IgnoredAny>,
    #[serde(rename = "TenantConfig")]
    _tenant_config: Option<IgnoredAny>,
    #[serde(rename = "ViewerCertificate")]
    _viewer_certificate: Option<IgnoredAny>,
    #[serde(rename = "ViewerMtlsConfig")]
    _viewer_mtls_config: Option<IgnoredAny>,
}

/// `Origin`, of which the cache has to know what changes requests.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OriginForm {
    custom_headers: Option<List<IgnoredAny>>,
    /// `CustomHeaders` of CloudFormation.
    origin_custom_headers: Option<List<IgnoredAny>>,
    origin_path: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RestrictionsForm {
    geo_restriction: Option<GeoRestrictionForm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct GeoRestrictionForm {
    restriction_type: String,
    #[serde(rename = "Items")]
    _items: Option<IgnoredAny>,
    #[serde(rename = "Locations")]
    _locations: Option<IgnoredAny>,
    #[serde(rename = "Quantity")]
    _quantity: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct CacheTagForm {
    header_name: FieldName,
}

/// `CacheBehavior`, and `DefaultCacheBehavior`, which has no pattern.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct BehaviorForm {
    #[serde(default)]
    allowed_methods: AllowedMethods,
    cache_policy_id: Option<String>,
    #[serde(default)]
    cached_methods: List<CachedMethod>,
    #[serde(default)]
    compress: bool,
    #[serde(default)]
    function_associations: List<IgnoredAny>,
    #[serde(default)]
    lambda_function_associations: List<IgnoredAny>,
    origin_request_policy_id: Option<String>,
    path_pattern: Option<String>,
    response_headers_policy_id: Option<String>,
    target_origin_id: Option<String>,
    #[serde(default)]
    trusted_key_groups: Signers,
    #[serde(default)]
    trusted_signers: Signers,
    viewer_protocol_policy: Option<String>,
    #[serde(rename = "DefaultTTL")]
    default_ttl: Option<IgnoredAny>,
    field_level_encryption_id: Option<String>,
    forwarded_values: Option<IgnoredAny>,
    #[serde(rename = "MaxTTL")]
    max_ttl: Option<IgnoredAny>,
    #[serde(rename = "MinTTL")]
    min_ttl: Option<IgnoredAny>,
    #[serde(rename = "GrpcConfig")]
    _grpc_config: Option<IgnoredAny>,
    #[serde(rename = "RealtimeLogConfigArn")]
    _realtime_log_config_arn: Option<IgnoredAny>,
    #[serde(rename = "SmoothStreaming")]
    _smooth_streaming: Option<IgnoredAny>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
enum AllowedMethod {
    Delete,
    Get,
    Head,
    Options,
    Patch,
    Post,
    Put,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
enum CachedMethod {
    Get,
    Head,
    Options,
}

/// `AllowedMethods`, among which the API has `CachedMethods`.
#[derive(Default)]
struct AllowedMethods {
    caches_options: bool,
    /// Some methods are named, and others are missing.
    leaves_out: bool,
}

impl<'de> Deserialize<'de> for AllowedMethods {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = ListVisitor { extras: &["CachedMethods"], of: PhantomData::<AllowedMethod> };
        let Listed { cached, items, .. } = deserializer.deserialize_any(list)?;
        let is_options = |method: &AllowedMethod| matches!(method, AllowedMethod::Options);
        let is_cacheable = |method: &AllowedMethod| {
            matches!(method, AllowedMethod::Get | AllowedMethod::Head | AllowedMethod::Options)
        };
        let cached = cached.unwrap_or_default();
        if !cached.iter().all(is_cacheable) {
            return Err(D::Error::custom("`CachedMethods` are `GET`, `HEAD` and `OPTIONS`"));
        }
        let leaves_out = !items.is_empty() && !items.contains(&AllowedMethod::Post);
        Ok(Self { caches_options: cached.iter().any(is_options), leaves_out })
    }
}

/// `TrustedKeyGroups` and `TrustedSigners`.
#[derive(Default)]
struct Signers {
    any: bool,
}

impl<'de> Deserialize<'de> for Signers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = ListVisitor { extras: &["Enabled"], of: PhantomData::<IgnoredAny> };
        let Listed { enabled, items, .. } = deserializer.deserialize_any(list)?;
        Ok(Self { any: enabled.unwrap_or(!items.is_empty()) })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ErrorResponseFields {
    #[serde(rename = "ErrorCachingMinTTL")]
    error_caching_min_ttl: Option<Seconds>,
    error_code: Status,
    #[serde(default)]
    response_code: Status,
    response_page_path: Option<String>,
}

struct ErrorResponseForm(CustomErrorResponse);

impl<'de> Deserialize<'de> for ErrorResponseForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = ErrorResponseFields::deserialize(deserializer)?;
        let code = fields.error_code.0.filter(|code| is_custom(*code)).ok_or_else(|| {
            let message = "`ErrorCode` is 400, 403, 404, 405, 414, 416, 500, 501, 502, 503 or 504";
            D::Error::custom(message)
        })?;
        let mut response = CustomErrorResponse::new(code);
        match (fields.response_page_path.filter(|path| !path.is_empty()), fields.response_code.0) {
            (None, None) => {}
            (None, Some(_)) => return Err(D::Error::custom("`ResponseCode` needs a `ResponsePagePath`")),
            (Some(_), None) => return Err(D::Error::custom("`ResponsePagePath` needs a `ResponseCode`")),
            (Some(path), Some(status)) => {
                if !is_custom(status) && status != StatusCode::OK {
                    let message =
                        "`ResponseCode` is 200, 400, 403, 404, 405, 414, 416, 500, 501, 502, 503 or 504";
                    return Err(D::Error::custom(message));
                }
                response = response
                    .page(&path, status)
                    .map_err(|_| D::Error::custom(format!("`ResponsePagePath` is not a path: `{path}`")))?;
            }
        }
        if let Some(Seconds(ttl)) = fields.error_caching_min_ttl {
            response = response.error_caching_min_ttl(ttl);
        }
        Ok(Self(response))
    }
}

/// Whether there can be a custom error response for a status.
fn is_custom(code: StatusCode) -> bool {
    matches!(code.as_u16(), 400 | 403 | 404 | 405 | 414 | 416 | 500..=504)
}

impl DistributionForm {
    /// The distribution, with the policies that its behaviors name.
    pub(super) fn resolve(self, at: &str, policies: &PolicySet) -> Result<Distribution, JsonError> {
        let mut notes = Vec::new();
        let is_said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let origin = &self.default_cache_behavior.target_origin_id;
        let has_origins = self.cache_behaviors.0.iter().any(|behavior| behavior.target_origin_id != *origin);
        for (is_there, note) in [
            (
                is_said(&self.default_root_object),
                "DefaultRootObject is not acted on: let the origin answer for /",
            ),
            (self.staging, "Staging is not acted on: give a staging distribution a name of its own"),
            (
                has_origins,
                "TargetOriginId is not acted on, and behaviors name different origins: route to them inside of the cache",
            ),
            (
                self.origins.0.iter().any(|origin| is_said(&origin.origin_path)),
                "OriginPath is not acted on: put it before the path inside of the cache",
            ),
            (
                self.origins.0.iter().any(|origin| {
                    let lists = [&origin.custom_headers, &origin.origin_custom_headers];
                    lists.into_iter().flatten().any(|list| !list.0.is_empty())
                }),
                "CustomHeaders of an origin are not acted on: set them inside of the cache",
            ),
            (self.enabled == Some(false), "Enabled is not acted on: this distribution answers all the same"),
            (
                !self.origin_groups.0.is_empty(),
                "OriginGroups are not acted on: let the service inside of the cache try the next origin",
            ),
            (
                self.restrictions
                    .and_then(|all| all.geo_restriction)
                    .is_some_and(|only| only.restriction_type != "none"),
                "GeoRestriction is not acted on: refuse these countries in front of the cache",
            ),
            (is_said(&self.web_acl_id), "WebACLId is not acted on: put the firewall in front of the cache"),
        ] {
            if is_there {
                notes.push(note.to_owned());
            }
        }
        let path = format!("{at}DefaultCacheBehavior");
        if self.default_cache_behavior.path_pattern.is_some() {
            let message = "the default behavior has no pattern";
            return Err(JsonError::at(format!("{path}.PathPattern"), message));
        }
        let default = self.default_cache_behavior.resolve(&path, "default", policies, &mut notes)?;
        let mut distribution = Distribution::new(default);
        for (index, behavior) in self.cache_behaviors.0.into_iter().enumerate() {
            let path = format!("{at}CacheBehaviors[{index}]");
            let Some(pattern) = behavior.path_pattern.clone() else {
                return Err(JsonError::at(path, "missing field `PathPattern`"));
            };
            let behavior = behavior.resolve(&path, &pattern, policies, &mut notes)?;
            distribution = distribution.behavior(&pattern, behavior);
        }
        for (index, ErrorResponseForm(response)) in self.custom_error_responses.0.into_iter().enumerate() {
            let others = distribution.custom_error_responses();
            if others.iter().any(|other| other.error_code == response.error_code) {
                let path = format!("{at}CustomErrorResponses[{index}].ErrorCode");
                return Err(JsonError::at(
                    path,
                    format!("{} was there before", response.error_code.as_u16()),
                ));
            }
            distribution = distribution.custom_error_response(response);
        }
        if let Some(CacheTagForm { header_name: FieldName(name) }) = self.cache_tag_config {
            distribution = distribution.cache_tag_header(name);
        }
        distribution.notes = notes;
        Ok(distribution)
    }
}

impl BehaviorForm {
    fn resolve(
        self,
        at: &str,
        pattern: &str,
        policies: &PolicySet,
        notes: &mut Vec<String>,
    ) -> Result<Behavior, JsonError> {
        let has_old_ttl = self.default_ttl.is_some() || self.max_ttl.is_some() || self.min_ttl.is_some();
        let Some(id) = self.cache_policy_id else {
            let message = if self.forwarded_values.is_some() || has_old_ttl {
                "`ForwardedValues` and lifetimes of a behavior are of the time before cache policies: give it a \
                 `CachePolicyId`"
            } else {
                "missing field `CachePolicyId`"
            };
            return Err(JsonError::at(at, message));
        };
        if self.forwarded_values.is_some() || has_old_ttl {
            let message =
                "`ForwardedValues` and lifetimes of a behavior cannot be there beside a `CachePolicyId`";
            return Err(JsonError::at(at, message));
        }
        let Some(cache_policy) = policies.find_cache_policy(&id) else {
            return Err(unknown(format!("{at}.CachePolicyId"), "cache policy", &id));
        };
        let is_signed = self.trusted_key_groups.any || self.trusted_signers.any;
        let mut behavior = Behavior::new(cache_policy).signed(is_signed).cache_options(
            self.allowed_methods.caches_options || self.cached_methods.0.contains(&CachedMethod::Options),
        );
        if let Some(id) = self.origin_request_policy_id.filter(|id| !id.is_empty()) {
            let Some(policy) = policies.find_origin_request_policy(&id) else {
                return Err(unknown(format!("{at}.OriginRequestPolicyId"), "origin request policy", &id));
            };
            behavior = behavior.origin_request_policy(policy);
        }
        let has_functions =
            !(self.function_associations.0.is_empty() && self.lambda_function_associations.0.is_empty());
        for (is_there, note) in [
            (
                is_signed,
                "the signatures of TrustedKeyGroups and TrustedSigners are not checked: refuse what is not signed in front of \
                 the cache, or everybody gets it",
            ),
            (self.compress, "Compress is not acted on: put a compressing layer inside of the cache"),
            (
                self.field_level_encryption_id.is_some_and(|id| !id.is_empty()),
                "FieldLevelEncryptionId is not acted on: what clients send reaches the origin as it is",
            ),
            (
                self.allowed_methods.leaves_out,
                "AllowedMethods is not acted on: POST and other unsafe methods reach the origin unless you refuse them in front \
                 of the cache",
            ),
            (has_functions, "functions are not run"),
            (
                self.response_headers_policy_id.is_some_and(|id| !id.is_empty()),
                "ResponseHeadersPolicyId is not acted on: put a layer that sets fields in front of the cache",
            ),
            (
                self.viewer_protocol_policy.is_some_and(|policy| policy != "allow-all"),
                "ViewerProtocolPolicy is not acted on: refuse or redirect http in front of the cache",
            ),
        ] {
            if is_there {
                notes.push(format!("{pattern}: {note}"));
            }
        }
        Ok(behavior)
    }
}

fn unknown(path: String, kind: &str, id: &str) -> JsonError {
    JsonError::at(
        path,
        format!("there is no {kind} `{id}`, neither managed nor given beside the distribution"),
    )
}
