//! CloudFront, as a policy: cache policies, origin request policies and behaviors in its own words.

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
#[cfg(feature = "serde")]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
pub use self::json::{JsonError, PolicySet};
pub use self::names::{
    CacheCookieBehavior, CacheHeaderBehavior, CachePolicyConfig, CacheQueryStringBehavior,
    OriginRequestCookieBehavior, OriginRequestHeaderBehavior, OriginRequestPolicyConfig,
    OriginRequestQueryStringBehavior, is_keyable,
};
