//! What comes of waiting for others' calls.

use std::sync::Arc;

use crate::collapse::{Call, Leader};
use crate::observe::Answer;

/// What came of waiting for a call of this node.
pub(super) enum Followed {
    /// Nobody can share that: at once a call of its own.
    Alone,
    /// Boxed: the others are small.
    Answer(Box<Answer>),
    /// Another call may do, or this one's.
    Again,
    /// Too much of the call's content has come in to share it: all who come now make another one together.
    Begun(Arc<Call>),
    /// Two calls were in vain: it makes a call of its own when its turn comes.
    InTurn,
    /// The call takes too long: all who wait make another one together.
    Late(Arc<Call>),
    /// What the call brought is too old for all that come now: they make another one together.
    TooOld(Arc<Call>),
}

/// What came of asking for the lease of a call, and of waiting for another node's.
pub(super) enum Led {
    /// Nobody can share what this request gets.
    Alone,
    /// Boxed: the others are small.
    Answer(Box<Answer>),
    /// The call is this node's to make, with a lease or without.
    Leader(Leader),
}
