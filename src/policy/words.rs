//! The words by which this crate itself bypasses requests and refuses responses, as a policy does.

/// All lifetimes of a CloudFront behavior are zero.
pub(super) const CACHING_DISABLED: &str = "caching-disabled";
/// A GET or HEAD has content.
pub(crate) const CONTENT: &str = "content";
/// Every request is forwarded for a while ([`CacheHandle::bypass_for`](crate::CacheHandle::bypass_for)).
pub(super) const DEVELOPMENT_MODE: &str = "development-mode";
/// CloudFront does not keep an error that says `no-cache`.
pub(super) const NO_CACHE: &str = "no-cache";
/// A redirect of a URI to itself under another scheme, which shares its key.
pub(super) const SCHEME_REDIRECT: &str = "scheme-redirect";
/// A request asks for an upgrade.
pub(crate) const UPGRADE: &str = "upgrade";

/// Each of them.
#[cfg(any(test, feature = "metrics"))]
pub(crate) const ALL: [&str; 6] =
    [CACHING_DISABLED, CONTENT, DEVELOPMENT_MODE, NO_CACHE, SCHEME_REDIRECT, UPGRADE];
