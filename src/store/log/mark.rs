//! What remains of an entry when it has been trimmed from a log.

use super::names::Name;

/// A place in the table of marks of a log: coarser than what was purged, and never narrower.
///
/// A mark that is not hard is that of soft purges without an end ([`PurgeMode::Expire`](crate::store::PurgeMode::Expire)). It keeps
/// no time: what it hits is stale since ever. Everything else is hard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    pub(super) is_hard: bool,
    pub(super) place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    Everything,
    /// All names with the same low 16 bits.
    Name(u16),
    Prefix(Box<[u8]>),
}

impl Mark {
    pub(super) fn everything(is_hard: bool) -> Self {
        Self { is_hard, place: Place::Everything }
    }

    pub(super) fn name(is_hard: bool, name: Name) -> Self {
        Self { is_hard, place: Place::Name(place_of(name)) }
    }

    pub(super) fn prefix(is_hard: bool, prefix: &[u8]) -> Self {
        Self { is_hard, place: Place::Prefix(prefix.into()) }
    }

    /// Whether a log may drop all marks that are older than this one.
    pub fn is_hard_of_everything(&self) -> bool {
        self.is_hard && self.place == Place::Everything
    }

    /// The mark in bytes, for a field of a hash or a column of a table:
    ///
    /// ```text
    /// "ar" | "ae"               everything, hard or soft
    /// "<0 to 65535>" "r" | "e"  the names of one place
    /// "pr" | "pe" <prefix>      a prefix of URIs, or of paths
    /// ```
    pub fn to_bytes(&self) -> Vec<u8> {
        let how = if self.is_hard { b'r' } else { b'e' };
        match &self.place {
            Place::Everything => vec![b'a', how],
            Place::Name(place) => [place.to_string().as_bytes(), &[how]].concat(),
            Place::Prefix(prefix) => [&[b'p', how][..], prefix].concat(),
        }
    }

    /// The mark that has these bytes. Any others are those of a later version, and a hard mark of everything.
    ///
    /// ```
    /// use larder::store::log::Mark;
    /// assert_eq!(Mark::from_bytes(b"513e").to_bytes(), b"513e");
    /// assert!(Mark::from_bytes(b"whatever comes").is_hard_of_everything());
    /// ```
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::read(bytes).unwrap_or(Self::everything(true))
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let is_hard = |how| match how {
            b'e' => Some(false),
            b'r' => Some(true),
            _ => None,
        };
        match bytes {
            [b'a', how] => Some(Self::everything(is_hard(*how)?)),
            [b'p', how, prefix @ ..] => Some(Self::prefix(is_hard(*how)?, prefix)),
            [digits @ .., how] if digits.iter().all(u8::is_ascii_digit) => {
                let place = std::str::from_utf8(digits).ok()?.parse().ok()?;
                Some(Self { is_hard: is_hard(*how)?, place: Place::Name(place) })
            }
            _ => None,
        }
    }
}

/// The place of a name.
pub(super) fn place_of(name: Name) -> u16 {
    let [low, high, ..] = name.to_le_bytes();
    u16::from_le_bytes([low, high])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_written_as_its_format_says() {
        for (mark, bytes) in [
            (Mark::everything(true), &b"ar"[..]),
            (Mark::everything(false), b"ae"),
            (Mark::name(true, 0x1_0201), b"513r"),
            (Mark::name(false, 0), b"0e"),
            (Mark::prefix(true, b"/x"), b"pr/x"),
            (Mark::prefix(false, b""), b"pe"),
        ] {
            assert_eq!(mark.to_bytes(), bytes);
            assert_eq!(Mark::from_bytes(bytes), mark);
        }
    }

    #[test]
    fn what_a_later_version_has_written_is_a_mark_of_everything() {
        for bytes in [&b""[..], b"a", b"ax", b"p", b"px/x", b"65536r", b"7", b"7x", b"r", b"\xffr", b"-1r"] {
            assert_eq!(Mark::from_bytes(bytes), Mark::everything(true), "{bytes:?}");
        }
    }
}
