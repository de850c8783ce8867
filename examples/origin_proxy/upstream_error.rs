//! Why there is no response from the origin.

use std::error::Error;
use std::io;

use http::StatusCode;
use hyper_util::client::legacy;
use thiserror::Error;

use crate::content::ContentError;

/// What failed between this proxy and the origin, or at the origin.
#[derive(Debug, Error)]
pub enum UpstreamError {
    #[error("the origin breaks off: {0}")]
    Broken(legacy::Error),
    #[error("the client has too many calls under way at the origin")]
    Busy,
    #[error("the origin's content is in a transfer coding that nobody asked for")]
    Coded,
    #[error("the client's content breaks off: {0}")]
    Content(legacy::Error),
    #[error("the origin does not answer in HTTP: {0}")]
    Invalid(legacy::Error),
    #[error("the client's content stalls")]
    Stalled,
    #[error("the origin switches protocols, unasked")]
    Switches,
    #[error("the origin takes too long")]
    TooSlow,
    #[error("the origin can't be reached: {0}")]
    Unreachable(legacy::Error),
}

impl UpstreamError {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Content(_) => StatusCode::BAD_REQUEST,
            Self::Stalled => StatusCode::REQUEST_TIMEOUT,
            Self::TooSlow => StatusCode::GATEWAY_TIMEOUT,
            Self::Broken(_) | Self::Coded | Self::Invalid(_) | Self::Switches | Self::Unreachable(_) => {
                StatusCode::BAD_GATEWAY
            }
        }
    }

    /// The word in `Cache-Status` (RFC 9211 2.8), which distinguishes these failures from the cache's own.
    pub fn detail(&self) -> &'static str {
        match self {
            Self::Broken(_) => "origin-broken",
            Self::Busy => "too-many-calls",
            Self::Content(_) => "client-broken",
            Self::Stalled => "client-timeout",
            Self::Coded | Self::Invalid(_) => "origin-invalid",
            Self::Switches => "origin-switches",
            Self::TooSlow => "origin-timeout",
            Self::Unreachable(_) => "origin-unreachable",
        }
    }
}

impl From<legacy::Error> for UpstreamError {
    fn from(error: legacy::Error) -> Self {
        let is_late = sources(&error)
            .filter_map(|source| source.downcast_ref::<io::Error>())
            .any(|source| source.kind() == io::ErrorKind::TimedOut);
        let source = sources(&error).find_map(|source| source.downcast_ref::<hyper::Error>());
        let (is_invalid, is_ours) =
            source.map_or((false, false), |source| (source.is_parse(), source.is_user()));
        let is_stalled = sources(&error)
            .filter_map(|source| source.downcast_ref::<ContentError>())
            .any(|source| matches!(source, ContentError::Stalled));
        match error.is_connect() {
            true if is_late => Self::TooSlow,
            true => Self::Unreachable(error),
            false if is_stalled => Self::Stalled,
            false if is_invalid => Self::Invalid(error),
            // hyper fails on what it was given: the content of the request.
            false if is_ours => Self::Content(error),
            false => Self::Broken(error),
        }
    }
}

fn sources(error: &dyn Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |&source| source.source())
}
