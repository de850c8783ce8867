//! Cache policies and origin request policies.

use http::header;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny};

use super::values::{FieldName, List, Seconds};
use crate::policy::Selection;
use crate::policy::cloudfront::names::{
    CacheCookieBehavior, CacheHeaderBehavior, CachePolicyConfig, CacheQueryStringBehavior,
    OriginRequestCookieBehavior, OriginRequestHeaderBehavior, OriginRequestPolicyConfig,
    OriginRequestQueryStringBehavior, is_keyable,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct CachePolicyForm {
    comment: Option<String>,
    #[serde(rename = "DefaultTTL")]
    default_ttl: Option<Seconds>,
    #[serde(rename = "MaxTTL")]
    max_ttl: Option<Seconds>,
    #[serde(rename = "MinTTL")]
    min_ttl: Seconds,
    name: String,
    parameters_in_cache_key_and_forwarded_to_origin: Option<ParametersForm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ParametersForm {
    cookies_config: CookiesForm,
    #[serde(default)]
    enable_accept_encoding_brotli: bool,
    enable_accept_encoding_gzip: bool,
    headers_config: KeyedHeadersForm,
    query_strings_config: QueryStringsForm,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct OriginRequestPolicyForm {
    comment: Option<String>,
    cookies_config: CookiesForm,
    headers_config: ForwardedHeadersForm,
    name: String,
    query_strings_config: QueryStringsForm,
}

/// How names are chosen, of cookies and of query parameters.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum NameBehavior {
    None,
    Whitelist,
    AllExcept,
    All,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum KeyedHeaderBehavior {
    None,
    Whitelist,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum ForwardedHeaderBehavior {
    None,
    Whitelist,
    AllViewer,
    #[serde(rename = "allViewerAndWhitelistCloudFront")]
    AllViewerAndWhitelistCloudFront,
    AllExcept,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct CookiesFields {
    cookie_behavior: NameBehavior,
    cookies: Option<List<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct QueryStringsFields {
    query_string_behavior: NameBehavior,
    query_strings: Option<List<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct KeyedHeadersFields {
    header_behavior: KeyedHeaderBehavior,
    headers: Option<List<FieldName>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ForwardedHeadersFields {
    header_behavior: ForwardedHeaderBehavior,
    headers: Option<List<FieldName>>,
}

struct CookiesForm(Selection);
struct QueryStringsForm(Selection);
struct KeyedHeadersForm(CacheHeaderBehavior);
struct ForwardedHeadersForm(OriginRequestHeaderBehavior);

/// The names of a list that its behavior needs, or must not have.
fn named<T, E: Error>(
    list: Option<List<T>>,
    field: &str,
    behavior: &str,
    needs_names: bool,
) -> Result<Vec<T>, E> {
    let names = list.unwrap_or_default().0;
    match (needs_names, names.is_empty()) {
        (true, true) => Err(E::custom(format!("`{behavior}` needs names in `{field}`"))),
        (false, false) => Err(E::custom(format!("`{behavior}` has no use for `{field}`"))),
        _ => Ok(names),
    }
}

fn selection<E: Error>(
    behavior: NameBehavior,
    names: Option<List<String>>,
    field: &str,
) -> Result<Selection, E> {
    let names = |word, needs_names| named::<_, E>(names, field, word, needs_names);
    Ok(match behavior {
        NameBehavior::None => names("none", false).map(|_| Selection::None)?,
        NameBehavior::All => names("all", false).map(|_| Selection::All)?,
        NameBehavior::Whitelist => Selection::allow_list(names("whitelist", true)?),
        NameBehavior::AllExcept => Selection::all_except(names("allExcept", true)?),
    })
}

impl<'de> Deserialize<'de> for CookiesForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let CookiesFields { cookie_behavior, cookies } = CookiesFields::deserialize(deserializer)?;
        selection(cookie_behavior, cookies, "Cookies").map(Self)
    }
}

impl<'de> Deserialize<'de> for QueryStringsForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = QueryStringsFields::deserialize(deserializer)?;
        selection(fields.query_string_behavior, fields.query_strings, "QueryStrings").map(Self)
    }
}

impl<'de> Deserialize<'de> for KeyedHeadersForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let KeyedHeadersFields { header_behavior, headers } = KeyedHeadersFields::deserialize(deserializer)?;
        let names = match header_behavior {
            KeyedHeaderBehavior::None => named(headers, "Headers", "none", false)?,
            KeyedHeaderBehavior::Whitelist => named(headers, "Headers", "whitelist", true)?,
        };
        if let Some(FieldName(name)) = names.iter().find(|FieldName(name)| !is_keyable(name)) {
            return Err(D::Error::custom(format!("`{name}` cannot be in the key as a header")));
        }
        Ok(Self(CacheHeaderBehavior::allow_list(names.into_iter().map(|FieldName(name)| name))))
    }
}

impl<'de> Deserialize<'de> for ForwardedHeadersForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use ForwardedHeaderBehavior as Behavior;
        let fields = ForwardedHeadersFields::deserialize(deserializer)?;
        let (word, needs_names) = match fields.header_behavior {
            Behavior::None => ("none", false),
            Behavior::Whitelist => ("whitelist", true),
            Behavior::AllViewer => ("allViewer", false),
            Behavior::AllViewerAndWhitelistCloudFront => ("allViewerAndWhitelistCloudFront", true),
            Behavior::AllExcept => ("allExcept", true),
        };
        let names = named(fields.headers, "Headers", word, needs_names)?;
        let names: Vec<_> = names.into_iter().map(|FieldName(name)| name).collect();
        if matches!(fields.header_behavior, Behavior::Whitelist) {
            if names.contains(&header::AUTHORIZATION) {
                let message = "`Authorization` cannot be named here: put it into the key by the cache policy";
                return Err(D::Error::custom(message));
            }
            if names.contains(&header::COOKIE) {
                return Err(D::Error::custom("`Cookie` cannot be named here: see `CookiesConfig`"));
            }
        }
        Ok(Self(match fields.header_behavior {
            Behavior::None => OriginRequestHeaderBehavior::none(),
            Behavior::Whitelist => OriginRequestHeaderBehavior::allow_list(names),
            Behavior::AllViewer => OriginRequestHeaderBehavior::all(),
            Behavior::AllViewerAndWhitelistCloudFront => {
                OriginRequestHeaderBehavior::all_and_cloudfront(names)
            }
            Behavior::AllExcept => OriginRequestHeaderBehavior::all_except(names),
        }))
    }
}

/// As CloudFront's API and CloudFormation have it.
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl<'de> Deserialize<'de> for CachePolicyConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = CachePolicyForm::deserialize(deserializer)?;
        let min = form.min_ttl.0;
        if let Some(Seconds(max)) = form.max_ttl
            && max < min
        {
            let message = format!("`MinTTL` ({}) is longer than `MaxTTL` ({})", min.as_secs(), max.as_secs());
            return Err(D::Error::custom(message));
        }
        let mut policy = Self::new().name(form.name).comment(form.comment.unwrap_or_default()).min_ttl(min);
        policy.default_ttl = form.default_ttl.map(|Seconds(ttl)| ttl);
        policy.max_ttl = form.max_ttl.map(|Seconds(ttl)| ttl);
        let Some(parameters) = form.parameters_in_cache_key_and_forwarded_to_origin else {
            return Ok(policy);
        };
        Ok(policy
            .header_behavior(parameters.headers_config.0)
            .cookie_behavior(CacheCookieBehavior(parameters.cookies_config.0))
            .query_string_behavior(CacheQueryStringBehavior(parameters.query_strings_config.0))
            .enable_accept_encoding_gzip(parameters.enable_accept_encoding_gzip)
            .enable_accept_encoding_brotli(parameters.enable_accept_encoding_brotli))
    }
}

/// As CloudFront's API and CloudFormation have it.
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl<'de> Deserialize<'de> for OriginRequestPolicyConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = OriginRequestPolicyForm::deserialize(deserializer)?;
        Ok(Self::new()
            .name(form.name)
            .comment(form.comment.unwrap_or_default())
            .header_behavior(form.headers_config.0)
            .cookie_behavior(OriginRequestCookieBehavior(form.cookies_config.0))
            .query_string_behavior(OriginRequestQueryStringBehavior(form.query_strings_config.0)))
    }
}

/// A cache policy with the id that it has at CloudFront (`CachePolicy` of the API).
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct CachePolicyWithId {
    pub(super) cache_policy_config: CachePolicyConfig,
    pub(super) id: Option<String>,
    #[serde(rename = "LastModifiedTime")]
    _last_modified_time: Option<IgnoredAny>,
}

/// An origin request policy with the id that it has at CloudFront (`OriginRequestPolicy` of the API).
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct OriginRequestPolicyWithId {
    pub(super) id: Option<String>,
    #[serde(rename = "LastModifiedTime")]
    _last_modified_time: Option<IgnoredAny>,
    pub(super) origin_request_policy_config: OriginRequestPolicyConfig,
}
