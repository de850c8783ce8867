//! What became of a request, in one word.

/// What became of a request, in one word: few enough to count each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutcomeKind {
    /// The request was none of the cache's business, by its method or by the policy.
    Bypass,
    /// Another request's call has brought the answer.
    Collapsed,
    /// The cache itself answers with an error: the inner service has failed or could not be called, or its answer fits no
    /// question.
    Error,
    /// From storage, and fresh.
    Hit,
    /// The inner service was called, and gave the answer. Or the client wanted none but a stored one, and there was none.
    Miss,
    /// Part of the answer was stored, and the inner service gave the rest.
    Partial,
    /// What is stored was stale, and still holds.
    Revalidated,
    /// From storage, and stale: it is validated in the background, or stands in for a failure or for a slow answer.
    Stale,
}

impl OutcomeKind {
    /// Each of them.
    pub const ALL: &'static [Self] = &[
        Self::Bypass,
        Self::Collapsed,
        Self::Error,
        Self::Hit,
        Self::Miss,
        Self::Partial,
        Self::Revalidated,
        Self::Stale,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Collapsed => "collapsed",
            Self::Error => "error",
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Partial => "partial",
            Self::Revalidated => "revalidated",
            Self::Stale => "stale",
        }
    }
}
