//! Why what was written down makes no entry.

use thiserror::Error;

/// What was written down is no entry of this library, or of another version of it. To a store it is a miss.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidEntry {
    /// The bytes make no key, or not the one that was expected.
    #[error("the bytes are no cache key")]
    Key,
    /// The bytes end too early.
    #[error("the bytes end before the entry does")]
    Truncated,
}
