//! Why there is no response from the origin.

use std::error::Error;
use std::io;

use http::StatusCode;
use hyper_util::client::legacy;
use rustls::CertificateError;
use thiserror::Error;

use crate::content::ContentError;
use crate::tls;

/// What failed between this proxy and the origin, or at the origin.
#[derive(Debug, Error)]
pub enum UpstreamError {
    #[error("the origin breaks off: {}", innermost(.0))]
    Broken(legacy::Error),
    #[error("the client has too many calls under way at the origin")]
    Busy,
    #[error("the origin's certificate is not accepted: {0}")]
    Certificate(CertificateError),
    #[error("the origin's content is in a transfer coding that nobody asked for")]
    Coded,
    #[error("the client's content breaks off: {}", innermost(.0))]
    Content(legacy::Error),
    #[error("the origin does not answer in HTTP: {}", innermost(.0))]
    Invalid(legacy::Error),
    #[error("every origin is sick")]
    Sick,
    #[error("the client's content stalls")]
    Stalled,
    #[error("the origin switches protocols, unasked")]
    Switches,
    #[error("TLS with the origin fails: {}", innermost(.0))]
    Tls(legacy::Error),
    #[error("the origin takes too long")]
    TooSlow,
    #[error("the origin can't be reached: {}", innermost(.0))]
    Unreachable(legacy::Error),
}

impl UpstreamError {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Busy | Self::Sick => StatusCode::SERVICE_UNAVAILABLE,
            Self::Content(_) => StatusCode::BAD_REQUEST,
            Self::Stalled => StatusCode::REQUEST_TIMEOUT,
            Self::TooSlow => StatusCode::GATEWAY_TIMEOUT,
            Self::Broken(_)
            | Self::Certificate(_)
            | Self::Coded
            | Self::Invalid(_)
            | Self::Switches
            | Self::Tls(_)
            | Self::Unreachable(_) => StatusCode::BAD_GATEWAY,
        }
    }

    /// Whether there was no connection by which the origin could have got the request.
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::Certificate(_) | Self::Tls(_) | Self::Unreachable(_))
    }

    /// Whether the origin is to blame.
    pub fn is_origins(&self) -> bool {
        !matches!(self, Self::Busy | Self::Content(_) | Self::Sick | Self::Stalled)
    }

    /// The word in `Cache-Status` (RFC 9211 2.8), which distinguishes these failures from the cache's own.
    pub fn detail(&self) -> &'static str {
        match self {
            Self::Broken(_) => "origin-broken",
            Self::Busy => "too-many-calls",
            Self::Certificate(error) => tls::detail(error),
            Self::Content(_) => "client-broken",
            Self::Sick => "origin-sick",
            Self::Stalled => "client-timeout",
            Self::Coded | Self::Invalid(_) => "origin-invalid",
            Self::Switches => "origin-switches",
            Self::Tls(_) => "origin-tls",
            Self::TooSlow => "origin-timeout",
            Self::Unreachable(_) => "origin-unreachable",
        }
    }
}

impl From<legacy::Error> for UpstreamError {
    fn from(error: legacy::Error) -> Self {
        let is_io = |kind| all::<io::Error>(&error).any(|error| error.kind() == kind);
        let is_stalled = all(&error).any(|error| matches!(error, ContentError::Stalled));
        let hyper = all::<hyper::Error>(&error).next();
        let (is_invalid, is_ours) = hyper.map_or((false, false), |error| (error.is_parse(), error.is_user()));
        let tls = all::<rustls::Error>(&error).next().cloned();
        match (error.is_connect(), tls) {
            (_, Some(rustls::Error::InvalidCertificate(why))) => Self::Certificate(why),
            (_, Some(_)) => Self::Tls(error),
            (true, _) if is_io(io::ErrorKind::TimedOut) => Self::TooSlow,
            // There is a connection, and the origin ends it in the handshake.
            (true, _) if is_io(io::ErrorKind::UnexpectedEof) => Self::Tls(error),
            (true, _) => Self::Unreachable(error),
            (false, _) if is_stalled => Self::Stalled,
            (false, _) if is_invalid => Self::Invalid(error),
            // hyper fails on what it was given: the content of the request.
            (false, _) if is_ours => Self::Content(error),
            (false, _) => Self::Broken(error),
        }
    }
}

/// What has failed in the end, which says more than that a client has: "Connection refused".
fn innermost(error: &legacy::Error) -> String {
    let first = error.source().map(|first| first as &(dyn Error + 'static));
    let last = std::iter::successors(first, |&error| cause(error)).last();
    last.map_or_else(|| error.to_string(), ToString::to_string)
}

/// All errors of one type among the causes of `error`.
fn all<E: Error + 'static>(error: &dyn Error) -> impl Iterator<Item = &E> {
    std::iter::successors(error.source(), |&error| cause(error)).filter_map(|cause| cause.downcast_ref())
}

/// What caused an error. [`io::Error::source`] leaves out the error that the [`io::Error`] wraps.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}
