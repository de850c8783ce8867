//! Why what was written down makes no entry.

use thiserror::Error;

/// What was written down is no entry: it was cut short or changed, or another version of this library wrote it. To a store
/// it is a miss.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidEntry {
    /// The checksum is another one: the bytes have changed since they were written.
    #[error("the bytes have changed since they were written")]
    Checksum,
    /// The content is not what the head says: longer or shorter than `Content-Length` or its parts.
    #[error("the content is not as long as the head says")]
    Content,
    /// The fields are none that a response is stored with: one that is told in another way, such as `Age`, one that
    /// belongs to a connection, or one that is not of the grammar.
    #[error("the fields are none of a stored response")]
    Fields,
    /// The bytes make no hint of a handler.
    #[error("the hint is not valid")]
    Hint,
    /// The bytes make no key, or they are a record of another one.
    #[error("the bytes are no cache key, or another one")]
    Key,
    /// Status and parts do not go together, or the parts are none of a representation.
    #[error("the status is none of a stored response, or the parts are none of a representation")]
    Part,
    /// A section is missing, comes twice, or is out of order.
    #[error("a section is missing, comes twice, or is out of order")]
    Sections,
    /// The selecting fields are none.
    #[error("the selecting fields are not valid")]
    Selecting,
    /// A time can't be represented.
    #[error("a time is out of range")]
    Time,
    /// It takes more bytes than the form can say.
    #[error("the entry takes more than 4 GiB without its content")]
    TooLarge,
    /// The bytes go on after the entry has ended.
    #[error("the bytes go on after the entry has ended")]
    Trailing,
    /// The bytes end too early.
    #[error("the bytes end before the entry does")]
    Truncated,
    /// Another version of this library wrote it, or something else.
    #[error("the entry is of an unknown version")]
    Version,
}
