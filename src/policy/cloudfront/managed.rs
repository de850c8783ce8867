//! The policies that CloudFront comes with.

use std::time::Duration;

use http::header::{self, HeaderName};

use super::names::{
    CacheCookieBehavior, CacheHeaderBehavior, CachePolicyConfig, CacheQueryStringBehavior,
    OriginRequestCookieBehavior, OriginRequestHeaderBehavior, OriginRequestPolicyConfig,
    OriginRequestQueryStringBehavior,
};

const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(31_536_000);

/// The prefix with which the API names managed policies.
const PREFIX: &str = "Managed-";

/// A policy that CloudFront comes with.
struct Managed<T> {
    id: &'static str,
    make: fn() -> T,
    name: &'static str,
}

/// Finds a policy by its name or its id.
fn find<T>(policies: &[Managed<T>], name_or_id: &str) -> Option<T> {
    let name = name_or_id.strip_prefix(PREFIX).unwrap_or(name_or_id);
    let found = policies.iter().find(|policy| policy.name == name || policy.id == name_or_id);
    found.map(|policy| (policy.make)())
}

/// The functions that make the policies of a type, and the table of them.
macro_rules! managed {
    ($type:ident, $table:ident; $($name:literal, $id:literal, $function:ident => $make:expr;)+) => {
        static $table: &[Managed<$type>] =
            &[$(Managed { id: $id, make: $type::$function, name: $name }),+];

        /// The policies that CloudFront comes with.
        impl $type {
            $(
                #[doc = concat!("The managed policy `", $name, "`.")]
                pub fn $function() -> Self {
                    let make: fn() -> Self = $make;
                    make().name($name)
                }
            )+
        }
    };
}

/// A cache policy with these lifetimes, and a normalised `Accept-Encoding`.
fn cache_policy(min: u64, default: Duration, max: Duration) -> CachePolicyConfig {
    let policy = CachePolicyConfig::new().min_ttl(Duration::from_secs(min)).default_ttl(default).max_ttl(max);
    policy.enable_accept_encoding_gzip(true).enable_accept_encoding_brotli(true)
}

fn use_origin_cache_control_headers() -> CachePolicyConfig {
    const OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
    let names = [header::HOST, header::ORIGIN].into_iter().chain(OVERRIDES.map(HeaderName::from_static));
    cache_policy(0, Duration::ZERO, YEAR)
        .header_behavior(CacheHeaderBehavior::allow_list(names))
        .cookie_behavior(CacheCookieBehavior::all())
}

managed! {
    CachePolicyConfig, CACHE_POLICIES;
    "CachingOptimized", "658327ea-f89d-4fab-a63d-7e88639e58f6", caching_optimized => || cache_policy(1, DAY, YEAR);
    "CachingOptimizedForUncompressedObjects", "b2884449-e4de-46a7-ac36-70bc7f1ddd6d",
        caching_optimized_for_uncompressed_objects => || {
            cache_policy(1, DAY, YEAR).enable_accept_encoding_gzip(false).enable_accept_encoding_brotli(false)
        };
    "CachingDisabled", "4135ea2d-6df8-44a3-9df3-4b5a84be39ad", caching_disabled => || {
        let none = Duration::ZERO;
        cache_policy(0, none, none).enable_accept_encoding_gzip(false).enable_accept_encoding_brotli(false)
    };
    "UseOriginCacheControlHeaders", "83da9c7e-98b4-4e11-a168-04f0df8e2c65",
        use_origin_cache_control_headers => use_origin_cache_control_headers;
    "UseOriginCacheControlHeaders-QueryStrings", "4cc15a8a-d715-48a4-82b8-cc0b614638fe",
        use_origin_cache_control_headers_query_strings => || {
            use_origin_cache_control_headers().query_string_behavior(CacheQueryStringBehavior::all())
        };
    "Amplify", "2e54312d-136d-493c-8eb9-b001f22f67d2", amplify => || {
        let country = HeaderName::from_static("cloudfront-viewer-country");
        let names = [header::AUTHORIZATION, country, header::HOST];
        cache_policy(2, Duration::from_secs(2), Duration::from_secs(600))
            .header_behavior(CacheHeaderBehavior::allow_list(names))
            .cookie_behavior(CacheCookieBehavior::all())
            .query_string_behavior(CacheQueryStringBehavior::all())
    };
    "Elemental-MediaPackage", "08627262-05a9-4f76-9ded-b50ca2e3a84f", elemental_media_package => || {
        let parameters = ["aws.manifestfilter", "start", "end", "m"];
        cache_policy(0, DAY, YEAR)
            .enable_accept_encoding_brotli(false)
            .header_behavior(CacheHeaderBehavior::allow_list([header::ORIGIN]))
            .query_string_behavior(CacheQueryStringBehavior::allow_list(parameters))
    };
}

/// An origin request policy with these fields, all cookies and the whole query.
fn everything(headers: OriginRequestHeaderBehavior) -> OriginRequestPolicyConfig {
    OriginRequestPolicyConfig::new()
        .header_behavior(headers)
        .cookie_behavior(OriginRequestCookieBehavior::all())
        .query_string_behavior(OriginRequestQueryStringBehavior::all())
}

/// An origin request policy with these fields, and nothing else.
fn fields<const N: usize>(names: [HeaderName; N]) -> OriginRequestPolicyConfig {
    OriginRequestPolicyConfig::new().header_behavior(OriginRequestHeaderBehavior::allow_list(names))
}

/// The fields of CloudFront's own that `AllViewerAndCloudFrontHeaders-2022-06` forwards.
const VIEWER_FIELDS: [&str; 21] = [
    "cloudfront-forwarded-proto",
    "cloudfront-is-android-viewer",
    "cloudfront-is-desktop-viewer",
    "cloudfront-is-ios-viewer",
    "cloudfront-is-mobile-viewer",
    "cloudfront-is-smarttv-viewer",
    "cloudfront-is-tablet-viewer",
    "cloudfront-viewer-address",
    "cloudfront-viewer-asn",
    "cloudfront-viewer-city",
    "cloudfront-viewer-country",
    "cloudfront-viewer-country-name",
    "cloudfront-viewer-country-region",
    "cloudfront-viewer-country-region-name",
    "cloudfront-viewer-http-version",
    "cloudfront-viewer-latitude",
    "cloudfront-viewer-longitude",
    "cloudfront-viewer-metro-code",
    "cloudfront-viewer-postal-code",
    "cloudfront-viewer-time-zone",
    "cloudfront-viewer-tls",
];

managed! {
    OriginRequestPolicyConfig, ORIGIN_REQUEST_POLICIES;
    "AllViewer", "216adef6-5c7f-47e4-b989-5492eafa07d3", all_viewer => || everything(OriginRequestHeaderBehavior::all());
    "AllViewerAndCloudFrontHeaders-2022-06", "33f36d7e-f396-46d9-90e0-52428a34d9dc",
        all_viewer_and_cloudfront_headers_2022_06 => || {
            let own = VIEWER_FIELDS.map(HeaderName::from_static);
            everything(OriginRequestHeaderBehavior::all_and_cloudfront(own))
        };
    "AllViewerExceptHostHeader", "b689b0a8-53d0-40ab-baf2-68738e2966ac",
        all_viewer_except_host_header => || everything(OriginRequestHeaderBehavior::all_except([header::HOST]));
    "CORS-CustomOrigin", "59781a5b-3903-41f3-afcb-af62929ccde1", cors_custom_origin => || fields([header::ORIGIN]);
    "CORS-S3Origin", "88a5eaf4-2fd4-4709-b370-b4c650ea3fcf", cors_s3_origin => || fields(CORS);
    "Elemental-MediaTailor-PersonalizedManifests", "775133bc-15f2-49f9-abea-afb2e0bf67d2",
        elemental_media_tailor_personalized_manifests => || {
            let [origin, headers, method] = CORS;
            let forwarded_for = HeaderName::from_static("x-forwarded-for");
            fields([origin, headers, method, header::USER_AGENT, forwarded_for])
                .query_string_behavior(OriginRequestQueryStringBehavior::all())
        };
    "HostHeaderOnly", "bf0718e1-ba1e-49d1-88b1-f726733018ae", host_header_only => || fields([header::HOST]);
    "UserAgentRefererHeaders", "acba4595-bd28-49b8-b9fe-13317c0390fa",
        user_agent_referer_headers => || fields([header::USER_AGENT, header::REFERER]);
}

const CORS: [HeaderName; 3] =
    [header::ORIGIN, header::ACCESS_CONTROL_REQUEST_HEADERS, header::ACCESS_CONTROL_REQUEST_METHOD];

impl CachePolicyConfig {
    /// The managed policy with this name or id, such as `CachingOptimized`, `Managed-CachingOptimized` or
    /// `658327ea-f89d-4fab-a63d-7e88639e58f6`.
    ///
    /// ```
    /// use larder::policy::cloudfront::CachePolicyConfig;
    /// let by_id = CachePolicyConfig::managed("658327ea-f89d-4fab-a63d-7e88639e58f6");
    /// assert_eq!(by_id, Some(CachePolicyConfig::caching_optimized()));
    /// ```
    pub fn managed(name_or_id: &str) -> Option<Self> {
        find(CACHE_POLICIES, name_or_id)
    }

    /// The names of all managed policies, without the prefix.
    pub fn managed_names() -> impl Iterator<Item = &'static str> {
        CACHE_POLICIES.iter().map(|policy| policy.name)
    }
}

impl OriginRequestPolicyConfig {
    /// The managed policy with this name or id, such as `AllViewer`, `Managed-AllViewer` or
    /// `216adef6-5c7f-47e4-b989-5492eafa07d3`.
    pub fn managed(name_or_id: &str) -> Option<Self> {
        find(ORIGIN_REQUEST_POLICIES, name_or_id)
    }

    /// The names of all managed policies, without the prefix.
    pub fn managed_names() -> impl Iterator<Item = &'static str> {
        ORIGIN_REQUEST_POLICIES.iter().map(|policy| policy.name)
    }
}
