//! Names of records.

use std::fmt::{self, Write as _};
use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::FORMAT;
use crate::entry::key::CacheKey;

/// Gives keys the names of their records: a namespace, the format, and 128 bits of a keyed hash (SipHash-1-3).
///
/// A name also has a hash of the key's URI, in braces: a Cluster keeps all names with the same braces on one node, so whatever has
/// to be changed together with a record, or is said of its URI, can be there, too ([`RecordNames::slot`]).
///
/// A version that writes another format uses other names, so old and new run side by side over one store and neither reads nor
/// overwrites what the other one writes. Names are short, and say nothing of a key, which may hold credentials. All who share a
/// store need the same namespace and the same secret. Two keys with one name cost misses and nothing else, because a record says
/// whose it is. Without a secret, anybody can look for such keys and keep a page out of the cache by them.
///
/// ```
/// use larder::CacheKey;
/// use larder::store::record::RecordNames;
/// let names = RecordNames::new("shop").secret(*b"sixteen bytes...");
/// let key = CacheKey::from_uri(&"http://example.com/".parse().unwrap()).unwrap();
/// let name = names.of(&key);
/// assert!(name.starts_with(&format!("shop.1:e{}", names.slot(&key))) && name.len() == "shop.1:e".len() + 18 + 32);
/// ```
#[derive(Clone)]
pub struct RecordNames {
    prefix: Box<str>,
    secret: [u8; 16],
}

impl RecordNames {
    /// Names in a namespace, without a secret.
    pub fn new(namespace: &str) -> Self {
        Self { prefix: format!("{namespace}.{FORMAT}:e").into(), secret: [0; 16] }
    }

    /// The same with a secret that clients do not know.
    #[must_use]
    pub fn secret(self, secret: [u8; 16]) -> Self {
        Self { secret, ..self }
    }

    /// The name of a key's record: the namespace, `.`, the format, `:e`, the [slot](RecordNames::slot), and 32 hexadecimal
    /// digits.
    pub fn of(&self, key: &CacheKey) -> String {
        let mut name = String::with_capacity(self.prefix.len() + 18 + 32);
        name.push_str(&self.prefix);
        self.push_slot(&mut name, key);
        // A string takes all that is written.
        let _ = write!(name, "{:032x}", self.hash(key.as_bytes()));
        name
    }

    /// What the names of all records have in common whose keys have the same URI: 16 hexadecimal digits in braces.
    pub fn slot(&self, key: &CacheKey) -> String {
        let mut slot = String::with_capacity(18);
        self.push_slot(&mut slot, key);
        slot
    }

    fn push_slot(&self, name: &mut String, key: &CacheKey) {
        let half = self.hash(key.uri()) >> 64;
        let _ = write!(name, "{{{half:016x}}}");
    }

    pub(crate) fn hash(&self, bytes: &[u8]) -> u128 {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        hasher.write(bytes);
        hasher.finish128().as_u128()
    }
}

/// Without the secret.
impl fmt::Debug for RecordNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordNames").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(uri: &str) -> CacheKey {
        CacheKey::from_uri(&uri.parse().expect("a URI")).expect("a key")
    }

    /// Nodes of one fleet are of different builds: should this fail, the format has to be raised.
    #[test]
    fn f14_a_name_has_the_format_and_is_the_same_in_each_build() {
        let names = RecordNames::new("shop").secret(*b"0123456789abcdef");
        assert_eq!(names.of(&key("http://a/")), "shop.1:e{16ca89c41712433a}69c44b7eff083623cafdadd114b8f3aa");
    }

    #[test]
    fn names_differ_by_key_by_secret_and_by_namespace() {
        let names = RecordNames::new("shop");
        let name = names.of(&key("http://a/"));
        assert_eq!(name, names.clone().of(&key("http://a/")));
        for other in [
            names.of(&key("http://a/b")),
            names.secret([1; 16]).of(&key("http://a/")),
            RecordNames::new("news").of(&key("http://a/")),
        ] {
            assert_ne!(name, other);
        }
    }

    #[test]
    fn keys_of_one_uri_have_one_slot() {
        let names = RecordNames::new("shop");
        let (plain, with_part) = (key("http://a/?q"), key("http://a/?q").with("part", b"1"));
        let slot = names.slot(&plain);
        assert_eq!(slot, names.slot(&with_part));
        assert_ne!(names.of(&plain), names.of(&with_part));
        for name in [names.of(&plain), names.of(&with_part)] {
            assert!(name.starts_with(&format!("shop.1:e{slot}")), "{name}");
        }
        assert_ne!(slot, names.slot(&key("http://a/")));
    }

    #[test]
    fn the_secret_is_not_shown() {
        let shown = format!("{:?}", RecordNames::new("shop").secret([7; 16]));
        assert_eq!(shown, "RecordNames { prefix: \"shop.1:e\", .. }");
    }
}
