//! Errors. The cache has none of its own for a request: `Service::Error` is the inner service's.

use std::sync::Arc;

use thiserror::Error;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why the body of a response ended before it was whole.
#[derive(Clone, Debug, Error)]
#[error(transparent)]
pub struct BodyError(#[from] Failure);

impl BodyError {
    /// Whether the inner service's body ended early or overran its `Content-Length`, rather than
    /// failing with an error of its own.
    pub fn is_length_mismatch(&self) -> bool {
        matches!(self.0, Failure::Overrun { .. } | Failure::Short { .. })
    }

    /// The error of an inner body, which may be one of these already.
    pub(crate) fn inner(error: impl Into<BoxError>) -> Self {
        match error.into().downcast::<Self>() {
            Ok(error) => *error,
            Err(error) => Self(Failure::Inner(Arc::from(error))),
        }
    }
}

#[derive(Clone, Debug, Error)]
pub(crate) enum Failure {
    #[error("the task that reads the response body ended before the body did")]
    Abandoned,
    #[error("the response body failed: {0}")]
    Inner(#[source] Arc<dyn std::error::Error + Send + Sync>),
    #[error("the response body is longer than the {declared} bytes of its Content-Length")]
    Overrun { declared: u64 },
    #[error("the response body was not read fast enough to be kept for this reader")]
    TooSlow,
    #[error("the response body ended after {received} of the {declared} bytes of its Content-Length")]
    Short { declared: u64, received: u64 },
}

/// A store could not do what it was asked.
///
/// On a read it makes a miss, on a write nothing is stored; on an invalidation the caller sees it, for what
/// was to go may still be there.
#[derive(Debug, Error)]
#[error("the store failed to {action}: {source}")]
pub struct StoreError {
    action: &'static str,
    source: BoxError,
}

impl StoreError {
    /// An error of a store: what it was to do (an infinitive without "to") and what went wrong.
    pub fn new(action: &'static str, source: impl Into<BoxError>) -> Self {
        Self { action, source: source.into() }
    }
}
