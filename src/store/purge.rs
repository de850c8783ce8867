//! A purge that is written down, for another node or a log.
//!
//! ```text
//! u8 version (1) | u8 mode | times of the mode | u32 number of targets | for each: u8 kind | u32 length | bytes
//!
//! times: none to remove; since when it is stale; and with an end, from when on it is gone
//! a time: u64 seconds since 1970 | u32 nanoseconds
//! ```
//!
//! Integers are little-endian. The bytes of a target are its name, URI or path, or those of its key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;

use super::{PurgeMode, PurgeTarget};
use crate::entry::key::CacheKey;

const VERSION: u8 = 1;

/// What was purged and how, to be sent to another node or written into a log: see
/// [`CacheHandle::follow`](crate::CacheHandle::follow).
///
/// ```
/// use larder::store::{Purge, PurgeMode, PurgeTarget};
/// let purge = Purge::new(vec![PurgeTarget::tag("news"), PurgeTarget::path("/")], PurgeMode::Remove);
/// assert_eq!(Purge::from_bytes(&purge.to_bytes()), Ok(purge));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Purge {
    /// What was done with what the targets name.
    pub mode: PurgeMode,
    /// What was named, as keys spell it.
    pub targets: Vec<PurgeTarget>,
}

/// Why bytes are no purge that this version of the crate can read. Nobody knows then what was purged: purge everything.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidPurge {
    /// A key's bytes make no key.
    #[error("the bytes of a key are no cache key")]
    Key,
    /// A kind of target or of mode that this version does not know.
    #[error("a target or mode of an unknown kind")]
    Kind,
    /// A name that is not UTF-8.
    #[error("a name is not UTF-8")]
    Name,
    /// A time can't be represented.
    #[error("a time is out of range")]
    Time,
    /// The bytes go on after the purge has ended.
    #[error("the bytes go on after the purge has ended")]
    Trailing,
    /// The bytes end too early.
    #[error("the bytes end before the purge does")]
    Truncated,
    /// Another version of this crate wrote it.
    #[error("the purge is of an unknown version")]
    Version,
}

impl Purge {
    /// What an event or a receipt says.
    pub fn new(targets: Vec<PurgeTarget>, mode: PurgeMode) -> Self {
        Self { mode, targets }
    }

    /// The purge in bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        let (mode, times) = match self.mode {
            PurgeMode::Remove => (0, [None, None]),
            PurgeMode::Expire(at) => (1, [Some(at), None]),
            PurgeMode::ExpireUntil { at, until } => (2, [Some(at), Some(until)]),
        };
        bytes.push(mode);
        for time in times.into_iter().flatten() {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            bytes.extend_from_slice(&since.as_secs().to_le_bytes());
            bytes.extend_from_slice(&since.subsec_nanos().to_le_bytes());
        }
        let count = u32::try_from(self.targets.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&count.to_le_bytes());
        for target in self.targets.iter().take(count as usize) {
            let (kind, name): (u8, &[u8]) = match target {
                PurgeTarget::All => (0, b""),
                PurgeTarget::Group(group) => (1, group.as_bytes()),
                PurgeTarget::Host(authority) => (2, authority.as_bytes()),
                PurgeTarget::Key(key) => (3, key.as_bytes()),
                PurgeTarget::Path(path) => (4, path),
                PurgeTarget::PathPrefix(prefix) => (5, prefix),
                PurgeTarget::Prefix(prefix) => (6, prefix),
                PurgeTarget::Tag(tag) => (7, tag.as_bytes()),
                PurgeTarget::TagAnyCase(tag) => (8, tag.as_bytes()),
                PurgeTarget::Uri(uri) => (9, uri),
            };
            bytes.push(kind);
            // No request has a head of 4 GiB; what is cut there is the beginning of the same name.
            let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend(name.iter().take(length as usize));
        }
        bytes
    }

    /// The purge that has these bytes: the inverse of [`Purge::to_bytes`].
    ///
    /// # Errors
    ///
    /// Where they are none, or those of a kind that this version does not know.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidPurge> {
        let mut reader = Reader(bytes);
        if reader.byte()? != VERSION {
            return Err(InvalidPurge::Version);
        }
        let mode = match reader.byte()? {
            0 => PurgeMode::Remove,
            1 => PurgeMode::Expire(reader.time()?),
            2 => PurgeMode::ExpireUntil { at: reader.time()?, until: reader.time()? },
            _ => return Err(InvalidPurge::Kind),
        };
        let count = u32::from_le_bytes(reader.array()?);
        // Nothing is allocated on the word of a number.
        let targets = (0..count).map(|_| reader.target()).collect::<Result<_, _>>()?;
        if reader.0.is_empty() { Ok(Self { mode, targets }) } else { Err(InvalidPurge::Trailing) }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], InvalidPurge> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(InvalidPurge::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], InvalidPurge> {
        self.take(N)?.try_into().map_err(|_| InvalidPurge::Truncated)
    }

    fn byte(&mut self) -> Result<u8, InvalidPurge> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn time(&mut self) -> Result<SystemTime, InvalidPurge> {
        let seconds = u64::from_le_bytes(self.array()?);
        let nanoseconds = u32::from_le_bytes(self.array()?);
        if nanoseconds >= 1_000_000_000 {
            return Err(InvalidPurge::Time);
        }
        UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds)).ok_or(InvalidPurge::Time)
    }

    fn target(&mut self) -> Result<PurgeTarget, InvalidPurge> {
        let kind = self.byte()?;
        let length = u32::from_le_bytes(self.array()?);
        let bytes = self.take(usize::try_from(length).map_err(|_| InvalidPurge::Truncated)?)?;
        let name = || std::str::from_utf8(bytes).map(Box::<str>::from).map_err(|_| InvalidPurge::Name);
        Ok(match kind {
            0 => PurgeTarget::All,
            1 => PurgeTarget::Group(name()?),
            2 => PurgeTarget::Host(name()?),
            3 => PurgeTarget::Key(CacheKey::from_bytes(bytes).map_err(|_| InvalidPurge::Key)?),
            4 => PurgeTarget::Path(bytes.into()),
            5 => PurgeTarget::PathPrefix(bytes.into()),
            6 => PurgeTarget::Prefix(bytes.into()),
            7 => PurgeTarget::Tag(name()?),
            8 => PurgeTarget::TagAnyCase(name()?),
            9 => PurgeTarget::Uri(bytes.into()),
            _ => return Err(InvalidPurge::Kind),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_target() -> impl Strategy<Value = PurgeTarget> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Box::from);
        let name = || "[a-zé ]{0,9}".prop_map(Box::from);
        let key = |part: Vec<u8>| {
            let uri = http::Uri::from_static("http://a/x?y");
            CacheKey::from_uri(&uri).expect("a key").with("part", &part)
        };
        prop_oneof![
            Just(PurgeTarget::All),
            name().prop_map(PurgeTarget::Group),
            name().prop_map(PurgeTarget::Host),
            any::<Vec<u8>>().prop_map(move |part| PurgeTarget::Key(key(part))),
            bytes().prop_map(PurgeTarget::Path),
            bytes().prop_map(PurgeTarget::PathPrefix),
            bytes().prop_map(PurgeTarget::Prefix),
            name().prop_map(PurgeTarget::Tag),
            name().prop_map(PurgeTarget::TagAnyCase),
            bytes().prop_map(PurgeTarget::Uri),
        ]
    }

    fn any_purge() -> impl Strategy<Value = Purge> {
        let time =
            || (0..(1_u64 << 40), 0..1_000_000_000_u32).prop_map(|(s, n)| UNIX_EPOCH + Duration::new(s, n));
        let mode = prop_oneof![
            Just(PurgeMode::Remove),
            time().prop_map(PurgeMode::Expire),
            (time(), time()).prop_map(|(at, until)| PurgeMode::ExpireUntil { at, until }),
        ];
        (prop::collection::vec(any_target(), 0..4), mode).prop_map(|(targets, mode)| Purge { mode, targets })
    }

    #[test]
    fn kx8_a_purge_has_the_bytes_that_its_format_says() {
        let at = UNIX_EPOCH + Duration::new(1, 2);
        let purge = Purge::new(vec![PurgeTarget::All, PurgeTarget::tag("news")], PurgeMode::Expire(at));
        let bytes = b"\x01\x01\x01\0\0\0\0\0\0\0\x02\0\0\0\x02\0\0\0\0\0\0\0\0\x07\x04\0\0\0news";
        assert_eq!(purge.to_bytes(), bytes);
        for (at, byte, error) in [
            (0, 2, InvalidPurge::Version),
            (1, 3, InvalidPurge::Kind),
            (13, 0xff, InvalidPurge::Time),
            (14, 1, InvalidPurge::Trailing),
            (14, 3, InvalidPurge::Truncated),
            (17, 0xff, InvalidPurge::Truncated),
            (18, 10, InvalidPurge::Kind),
            (18, 3, InvalidPurge::Key),
            (24, 0xff, InvalidPurge::Truncated),
            (28, 0xff, InvalidPurge::Name),
        ] {
            let mut changed = bytes.to_vec();
            changed[at] = byte;
            assert_eq!(Purge::from_bytes(&changed), Err(error), "{at}");
        }
    }

    proptest! {
        #[test]
        fn kx8_a_purge_that_was_written_down_is_read_as_it_was(purge in any_purge()) {
            prop_assert_eq!(Purge::from_bytes(&purge.to_bytes()), Ok(purge));
        }

        #[test]
        fn a23_any_bytes_are_read_or_refused_and_no_purge_that_is_cut_short_is_read(
            bytes: Vec<u8>,
            purge in any_purge(),
            cut in any::<prop::sample::Index>(),
        ) {
            let _ = Purge::from_bytes(&bytes);
            let whole = purge.to_bytes();
            let cut = &whole[..cut.index(whole.len())];
            prop_assert!(Purge::from_bytes(cut).is_err());
        }
    }
}
