//! The calls of a store that can go wrong.

/// A call of a [`Store`](crate::Store), of a [`ContentWriter`](crate::store::ContentWriter), or of content that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreCall {
    /// [`Store::begin`](crate::Store::begin)
    Begin,
    /// [`ContentWriter::commit`](crate::store::ContentWriter::commit)
    Commit,
    /// [`Store::freshen`](crate::Store::freshen)
    Freshen,
    /// [`Store::get`](crate::Store::get)
    Get,
    /// [`Store::invalidate`](crate::Store::invalidate)
    Invalidate,
    /// [`Store::open`](crate::Store::open)
    Open,
    /// [`Store::purged_since`](crate::Store::purged_since)
    PurgedSince,
    /// [`Store::put`](crate::Store::put)
    Put,
    /// A frame of what [`Store::open`](crate::Store::open) has given is read.
    Read,
    /// [`ContentWriter::write`](crate::store::ContentWriter::write)
    Write,
}

impl StoreCall {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Begin,
        Self::Commit,
        Self::Freshen,
        Self::Get,
        Self::Invalidate,
        Self::Open,
        Self::PurgedSince,
        Self::Put,
        Self::Read,
        Self::Write,
    ];

    /// What an error says that the store was to do.
    pub(super) fn action(self) -> &'static str {
        match self {
            Self::Begin => "begin to write",
            Self::Commit => "commit",
            Self::Freshen => "freshen",
            Self::Get => "look up",
            Self::Invalidate => "invalidate",
            Self::Open => "open content",
            Self::PurgedSince => "look for purges",
            Self::Put => "put",
            Self::Read => "read content",
            Self::Write => "write content",
        }
    }
}
