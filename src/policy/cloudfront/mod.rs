//! What CloudFront does, as a policy, in its own words: cache policies, origin request policies, behaviors.
//!
//! ```
//! use larder::CacheBuilder;
//! use larder::policy::cloudfront::{CachePolicyConfig, Distribution};
//!
//! let layer = CacheBuilder::default().policy(Distribution::new(CachePolicyConfig::caching_optimized())).build();
//! # let _ = layer;
//! ```
//!
//! With the feature `serde`, `Distribution::from_json` loads what `aws cloudfront get-distribution-config` or
//! `get-cache-policy` answers, and the same resources of CloudFormation.
//!
//! | CloudFront | here |
//! |---|---|
//! | distribution | [`Distribution`]; its `DomainName` is [`Distribution::name`] |
//! | cache behavior, path pattern | [`Behavior`], [`Distribution::behavior`] |
//! | cache policy: key, `MinTTL`, `DefaultTTL`, `MaxTTL` | [`CachePolicyConfig`] |
//! | `Headers`, `Cookies`, `QueryStrings` of a cache policy | [`CacheHeaderBehavior`], [`CacheCookieBehavior`], [`CacheQueryStringBehavior`] |
//! | `EnableAcceptEncodingGzip`, `-Brotli` | [`CachePolicyConfig::enable_accept_encoding_gzip`], `_brotli` |
//! | origin request policy | [`OriginRequestPolicyConfig`], with behaviors of the same kinds |
//! | managed policies | functions such as [`CachePolicyConfig::caching_optimized`]; by name or id [`CachePolicyConfig::managed`] |
//! | `CachedMethods` with `OPTIONS` | [`Behavior::cache_options`] |
//! | trusted key groups | [`Behavior::signed`] |
//! | custom error responses, `ErrorCachingMinTTL` | [`CustomErrorResponse`], [`Distribution::error_caching_min_ttl`]; the pages by [`ErrorPagesLayer::from`](crate::ErrorPagesLayer) around the cache |
//! | `ServerTimingHeadersConfig` | [`CacheBuilder::server_timing`](crate::CacheBuilder::server_timing) |
//! | `CacheTagConfig` | [`Distribution::cache_tag_header`] |
//! | `Host` of the origin | [`Distribution::origin_host`] |
//! | `OriginProtocolPolicy` | [`Distribution::origin_scheme`] |
//! | `User-Agent: Amazon CloudFront` | `User-Agent: larder` |
//!
//! # Lifetimes
//!
//! What a response says (`s-maxage`, else `max-age`, else `Expires`) is kept between the minimum and the maximum; a response
//! that says nothing is kept for the default, or the minimum, where that is longer. With a minimum of zero `no-store` and
//! `private` are obeyed, and what is `no-cache` is validated for each use; with a longer one such a response is kept for the
//! minimum. The minimum counts from the arrival of the response, however old it was then.
//!
//! An error is kept for its minimum (10 seconds), or for what it says itself, up to the maximum: 404, 410, 414 and 501 unless
//! they say `no-store`, `no-cache` or `private`; 500, 502, 503 and 504 in any case; 400, 403, 405, 412 and 415 if they have
//! `max-age` or `s-maxage`; no other. Of redirects, 301 and 302 are kept like good responses, others if they have a
//! `Cache-Control`.
//!
//! While the origin fails (500, 502, 503, 504, or no answer), a good response that is stored goes on being served, without an
//! end unless it says `stale-if-error` itself, and the origin is left alone for the minimum of that error. A 4xx always
//! reaches the client. An origin that cannot be reached has to answer with a 502 or a 504 for that to be kept, where nothing
//! is stored: where the inner service fails instead, put a layer inside of the cache that makes such an answer.
//!
//! # What the origin gets to see
//!
//! What is in the key, and what the origin request policy admits; beside these only the method, the path, content with its
//! fields (`Content-Type` and the like), conditions and ranges, `X-Forwarded-For`, `Via` and `CDN-Loop` as they came,
//! `Authorization` unless the request is a GET, HEAD or OPTIONS, and what a WebSocket is opened with. So it is for requests
//! that are not cached, too. Never forwarded are `Proxy-*`, `TE`, `Trailer`, other kinds of `Upgrade`, `X-Edge-*`, `X-Amz-Cf-*`,
//! `X-Forwarded-Proto` and `X-Real-IP`.
//!
//! A `CloudFront-*` field of a request is a client's word, and counts as absent, unless the library's `ViewerLayer` (feature
//! `viewer`) is in front of the cache, or [`Distribution::trust_viewer_headers`] says that somebody else vouches for it.
//!
//! # Where it is more careful
//!
//! - `Vary` selects among what is stored under one key, as far as the origin gets to see the fields that it names. CloudFront
//!   ignores it: [`Distribution::ignore_vary`]. A response with `Vary: *` is never stored.
//! - What belongs to one person is not shared: where cookies or `Authorization` go to the origin and are not in the key, an
//!   answer is stored only if it says `public` or `s-maxage`, and so is one with `Set-Cookie` where cookies are configured.
//!   CloudFront looks at none of these: [`Distribution::share_credentials`].
//! - What an origin codes by gzip or Brotli is for clients that accept that, whatever was asked for.
//! - `must-revalidate` and `proxy-revalidate` forbid stale answers, and a malformed `Cache-Control` forbids to store, since
//!   nobody can say what it means. `no-store` of a request is obeyed.
//! - An unsafe request that succeeds invalidates what is stored for its URI. Requests that have cookies share calls, too.
//! - A request that is forbidden there passes here: a GET with content bypasses the cache (403 there), and methods that are not
//!   among the `AllowedMethods` are forwarded. Refuse them in front of the cache.
//! - Content whose type does not fit the extension of its path is not stored: [`Distribution::deception_guard`].
//!
//! More careful still by choice: [`Distribution::strip_unkeyed`].
//!
//! And where it is not: with a minimum above zero it stores what `no-store` or `private` forbids, it stores answers to OPTIONS
//! where a behavior says so, and `s-maxage` does not forbid stale answers (RFC 9111 5.2.2.5, 5.2.2.7, 5.2.2.10, RFC 9110
//! 9.3.7). A [`CacheHint`](crate::CacheHint) counts as what the response says.

mod display;
mod distribution;
mod error_responses;
mod forwarding;
mod hooks;
#[cfg(feature = "serde")]
mod json;
mod key;
mod lifetimes;
mod managed;
mod names;
mod tags;

pub use self::distribution::{Behavior, Distribution};
pub use self::error_responses::CustomErrorResponse;
#[cfg(feature = "viewer")]
pub(crate) use self::hooks::VouchedFields;
#[cfg(feature = "serde")]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
pub use self::json::{JsonError, PolicySet};
pub use self::names::{
    CacheCookieBehavior, CacheHeaderBehavior, CachePolicyConfig, CacheQueryStringBehavior,
    OriginRequestCookieBehavior, OriginRequestHeaderBehavior, OriginRequestPolicyConfig,
    OriginRequestQueryStringBehavior, is_keyable,
};
