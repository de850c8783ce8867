//! Which levels of a tier keep a response.

/// Which levels of a [`TieredStore`](crate::store::TieredStore) keep a response; the policy says it
/// ([`Terms::levels`](crate::policy::Terms::levels)). A store that has no levels keeps the response whatever this says.
///
/// It counts when a response is stored, and when it is brought near. A validation moves no content: after it, what is far stays far,
/// and what is near stays there unless its level is [`Levels::Far`] from then on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Levels {
    /// All of them, as the limits of the tier say.
    #[default]
    Both,
    /// The far one alone: it is never brought near, so each hit waits for the far store.
    Far,
    /// The near one alone: the far store, and other nodes, get nothing of it, and it is lost when it is evicted. It comes whole, so
    /// it is no larger than what is kept in memory, and is not stored where the near store does not take it. Of a tier before
    /// another one, it is the first level.
    Near,
}

impl Levels {
    /// The word of policy files and of the admin service: `both`, `far` or `near`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Far => "far",
            Self::Near => "near",
        }
    }
}
