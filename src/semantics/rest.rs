//! How long a failed service is left alone.

use std::time::Duration;

use http::StatusCode;

/// How long the inner service is left alone after it has failed while a stored response stands in for it: during that time
/// the requests for the same key get the stored response at once, as long as that may stand in.
///
/// ```
/// use std::time::Duration;
/// use http::StatusCode;
/// use larder::semantics::FailureRest;
/// let rest = FailureRest::of(Duration::from_secs(10)).status(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(60));
/// # let _ = rest;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureRest {
    by_status: Vec<(StatusCode, Duration)>,
    otherwise: Duration,
    unanswered: Duration,
}

impl FailureRest {
    /// This long after each failure: an answer with a server error, or none. Zero for not at all.
    pub fn of(rest: Duration) -> Self {
        Self { by_status: Vec::new(), otherwise: rest, unanswered: rest }
    }

    /// This long after an answer with this status.
    #[must_use]
    pub fn status(mut self, status: StatusCode, rest: Duration) -> Self {
        self.by_status.retain(|(own, _)| *own != status);
        self.by_status.push((status, rest));
        self
    }

    /// This long after a call that has brought no answer.
    #[must_use]
    pub fn unanswered(mut self, rest: Duration) -> Self {
        self.unanswered = rest;
        self
    }

    /// How long after a failure, which is an answer with this status, or none.
    pub(crate) fn after(&self, status: Option<StatusCode>) -> Duration {
        let Some(status) = status else {
            return self.unanswered;
        };
        let own = self.by_status.iter().find(|(own, _)| *own == status);
        own.map_or(self.otherwise, |(_, rest)| *rest)
    }
}

impl From<Duration> for FailureRest {
    fn from(rest: Duration) -> Self {
        Self::of(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_after_a_failure_is_that_of_its_status() {
        let seconds = Duration::from_secs;
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        let rest =
            FailureRest::of(seconds(10)).status(unavailable, seconds(60)).status(unavailable, seconds(5));
        assert_eq!(rest.after(Some(unavailable)), seconds(5));
        assert_eq!(rest.after(Some(StatusCode::BAD_GATEWAY)), seconds(10));
        assert_eq!(rest.after(None), seconds(10));
        assert_eq!(rest.unanswered(seconds(3)).after(None), seconds(3));
        assert_eq!(FailureRest::default().after(None), seconds(0));
    }
}
