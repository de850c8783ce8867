//! Errors. The cache has none of its own for a request: `Service::Error` is the inner service's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

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

    /// Whether the representation changed while slices of it were sent ([`SliceLayer`](crate::SliceLayer)).
    pub fn is_change(&self) -> bool {
        matches!(self.0, Failure::Changed)
    }

    /// The error of an inner body, which may be one of these already.
    pub(crate) fn inner(error: impl Into<BoxError>) -> Self {
        match error.into().downcast::<Self>() {
            Ok(error) => *error,
            Err(error) => Self(Failure::Inner(Arc::from(error))),
        }
    }

    pub(crate) fn failure(&self) -> &Failure {
        &self.0
    }

    /// The error of content that a store has opened, as one of the store.
    pub(crate) fn as_store_error(&self, with: impl FnOnce(&StoreError)) {
        if let Failure::Inner(error) = &self.0
            && let Some(error) = error.downcast_ref()
        {
            return with(error);
        }
        with(&StoreError::new("read content", self.clone()));
    }
}

#[derive(Clone, Debug, Error)]
pub(crate) enum Failure {
    #[error("the task that reads the response body ended before the body did")]
    Abandoned,
    #[error("the representation changed while slices of it were sent")]
    Changed,
    #[error("the response body failed: {0}")]
    Inner(#[source] Arc<dyn std::error::Error + Send + Sync>),
    #[error("a slice of the response could not be had")]
    NoSlice,
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
#[derive(Debug)]
pub struct StoreError {
    action: &'static str,
    cause: StoreFailure,
}

#[derive(Debug)]
enum StoreFailure {
    CircuitOpen,
    Other(BoxError),
    TimedOut(Duration),
    Unreachable(BoxError),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store failed to {}: ", self.action)?;
        match &self.cause {
            StoreFailure::CircuitOpen => {
                f.write_str("it has failed too often of late, and is not called for a moment")
            }
            StoreFailure::Other(error) | StoreFailure::Unreachable(error) => error.fmt(f),
            StoreFailure::TimedOut(limit) => write!(f, "it took longer than {limit:?}"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            StoreFailure::Other(error) | StoreFailure::Unreachable(error) => Some(&**error),
            StoreFailure::CircuitOpen | StoreFailure::TimedOut(_) => None,
        }
    }
}

impl StoreError {
    /// An error of a store: what it was to do (an infinitive without "to") and what went wrong.
    pub fn new(action: &'static str, source: impl Into<BoxError>) -> Self {
        Self { action, cause: StoreFailure::Other(source.into()) }
    }

    /// The store has not answered in time.
    pub fn timed_out(action: &'static str, limit: Duration) -> Self {
        Self { action, cause: StoreFailure::TimedOut(limit) }
    }

    /// The store could not be reached, which says nothing of what it has: content that breaks off for this reason is asked for again,
    /// and other content that breaks off is not.
    pub fn unreachable(action: &'static str, source: impl Into<BoxError>) -> Self {
        Self { action, cause: StoreFailure::Unreachable(source.into()) }
    }

    pub(crate) fn circuit_open(action: &'static str) -> Self {
        Self { action, cause: StoreFailure::CircuitOpen }
    }

    /// What the store was to do.
    pub fn action(&self) -> &'static str {
        self.action
    }

    /// Whether the store was not called, because it had failed too often ([`GuardLimits`](crate::store::GuardLimits)).
    pub fn is_circuit_open(&self) -> bool {
        matches!(self.cause, StoreFailure::CircuitOpen)
    }

    /// Whether the store has not answered in time.
    pub fn is_timeout(&self) -> bool {
        matches!(self.cause, StoreFailure::TimedOut(_))
    }

    /// Whether the store could not be reached ([`StoreError::unreachable`]).
    pub fn is_unreachable(&self) -> bool {
        matches!(self.cause, StoreFailure::Unreachable(_))
    }

    /// Whether it says something of what the store has, and not only of the way there.
    pub(crate) fn is_of_content(&self) -> bool {
        matches!(self.cause, StoreFailure::Other(_))
    }

    /// The time within which the store has not answered.
    #[cfg(feature = "redis")]
    pub(crate) fn timeout(&self) -> Option<Duration> {
        match self.cause {
            StoreFailure::TimedOut(limit) => Some(limit),
            _ => None,
        }
    }
}
