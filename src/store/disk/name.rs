//! Names of files: hashes of keys, which may be long, and may hold credentials.

use std::fmt;
use std::num::NonZeroU64;

use crate::entry::key::CacheKey;
use crate::store::random::random_wide;
use crate::store::record::RecordNames;

/// What the files of a key are named by.
///
/// ```text
/// record   BASE KEY [BASE]         16, 32 and 16 hexadecimal digits: the hash of the URI without its query, the hash of the key, and
///                                  that of the rewritten URI without its query where the key has one
/// content  the same "." ID         32 hexadecimal digits
/// ```
///
/// Hashes are keyed by a secret of the folder. Two keys with one hash cost misses and nothing else, as a record says whose it is.
/// By the base it can be said whether anything is stored that a purge of a URI may concern, without reading a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name {
    bases: Bases,
    key: u128,
}

/// The hashes of the URIs of a key, without their queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Bases {
    asked: u64,
    rewritten: Option<NonZeroU64>,
}

impl Bases {
    pub(super) fn iter(self) -> impl Iterator<Item = u64> {
        std::iter::once(self.asked).chain(self.rewritten.map(NonZeroU64::get))
    }
}

/// Gives keys their names.
pub(super) struct Namer(RecordNames);

impl Namer {
    pub(super) fn new(secret: [u8; 16]) -> Self {
        Self(RecordNames::new("").secret(secret))
    }

    pub(super) fn of(&self, key: &CacheKey) -> Name {
        let rewritten = key.rewritten_uri().and_then(|uri| NonZeroU64::new(self.base(uri)));
        Name { bases: Bases { asked: self.base(key.uri()), rewritten }, key: self.0.hash(key.as_bytes()) }
    }

    /// An id for content, which no other one has. A head may be one of another store, with content of that.
    pub(super) fn new_content(&self) -> u128 {
        (random_wide() << 32) | self.mark()
    }

    pub(super) fn is_own_content(&self, id: u128) -> bool {
        id & u128::from(u32::MAX) == self.mark()
    }

    /// The last 32 bits of the ids of all content in the folder.
    fn mark(&self) -> u128 {
        self.0.hash(b"content") & u128::from(u32::MAX)
    }

    /// The hash of a URI without its query.
    pub(super) fn base(&self, uri: &[u8]) -> u64 {
        let path = uri.split(|&byte| byte == b'?').next().unwrap_or_default();
        u64::try_from(self.0.hash(path) >> 64).unwrap_or_default()
    }
}

impl Name {
    pub(super) fn bases(self) -> Bases {
        self.bases
    }

    /// Spreads names over so many places.
    pub(super) fn place(self, places: usize) -> usize {
        usize::try_from(self.key % places as u128).unwrap_or_default()
    }

    /// What was written by its `Display`. Nothing else is a name: capitals are not.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (base, rest) = text.split_at_checked(16)?;
        let (key, rewritten) = rest.split_at_checked(32)?;
        let rewritten = match rewritten.len() {
            0 => None,
            16 => Some(NonZeroU64::new(u64::try_from(hexadecimal(rewritten)?).ok()?)?),
            _ => return None,
        };
        let bases = Bases { asked: u64::try_from(hexadecimal(base)?).ok()?, rewritten };
        Some(Self { bases, key: hexadecimal(key)? })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:032x}", self.bases.asked, self.key)?;
        self.bases.rewritten.map_or(Ok(()), |base| write!(f, "{base:016x}"))
    }
}

/// Digits as they are written here.
pub(super) fn hexadecimal(digits: &str) -> Option<u128> {
    let are_digits = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if are_digits { u128::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(uri: &str) -> CacheKey {
        CacheKey::from_uri(&uri.parse().expect("a URI")).expect("a key")
    }

    #[test]
    fn a_name_is_read_as_it_was_written() {
        let namer = Namer::new([7; 16]);
        for key in [key("http://a/"), key("http://a/?q").rewritten_to(b"http://a/b?q")] {
            let name = namer.of(&key);
            assert_eq!(Name::read(&name.to_string()), Some(name));
        }
    }

    #[test]
    fn keys_share_a_base_if_only_their_queries_and_parts_differ() {
        let namer = Namer::new([7; 16]);
        let bases = |key: &CacheKey| namer.of(key).bases().iter().collect::<Vec<_>>();
        let plain = key("http://a/x");
        assert_eq!(bases(&plain), bases(&key("http://a/x?q")));
        assert_eq!(bases(&plain), bases(&plain.clone().with("part", b"1")));
        assert_eq!(bases(&plain), [namer.base(b"http://a/x?another")]);
        assert_ne!(bases(&plain), bases(&key("http://a/")));
        assert_ne!(namer.of(&plain), namer.of(&key("http://a/x?q")));
    }

    #[test]
    fn a23_what_is_no_name_is_not_read() {
        let name = Namer::new([7; 16]).of(&key("http://a/")).to_string();
        for text in [
            "",
            "../../etc/passwd",
            &name[1..],
            &format!("{name}0"),
            &name.replace(&name[..1], "G"),
            &format!("+{}", &name[1..]),
            &name.replacen(&name[..2], "é", 1),
        ] {
            assert_eq!(Name::read(text), None, "{text}");
        }
    }
}
