//! What clients get in the place of an error.

use std::time::Duration;

use http::StatusCode;
use http::uri::{InvalidUri, PathAndQuery};

/// What is special about an error (CloudFront's `CustomErrorResponse`): a page, another status, a time for which it is kept.
///
/// The time is the policy's business, the page that of a layer around the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomErrorResponse {
    pub(crate) error_code: StatusCode,
    pub(crate) error_caching_min_ttl: Option<Duration>,
    pub(crate) page: Option<(PathAndQuery, StatusCode)>,
}

impl CustomErrorResponse {
    /// For errors with this status (`ErrorCode`).
    pub fn new(error_code: StatusCode) -> Self {
        Self { error_code, error_caching_min_ttl: None, page: None }
    }

    /// How long such an error is kept at least (`ErrorCachingMinTTL`); default 10 seconds.
    #[must_use]
    pub fn error_caching_min_ttl(mut self, ttl: Duration) -> Self {
        self.error_caching_min_ttl = Some(ttl);
        self
    }

    /// What clients get in its place: the content at this path (`ResponsePagePath`), with this status (`ResponseCode`).
    ///
    /// # Errors
    ///
    /// When it is not a path that begins with `/`.
    pub fn page(mut self, path: &str, status: StatusCode) -> Result<Self, InvalidUri> {
        self.page = Some((page_path(path)?, status));
        Ok(self)
    }
}

/// A path that begins with `/`.
fn page_path(path: &str) -> Result<PathAndQuery, InvalidUri> {
    // `*` is a target, and `a` would be read as a host.
    let is_absolute = path.starts_with('/');
    PathAndQuery::try_from(if is_absolute { path } else { "\0" })
}
