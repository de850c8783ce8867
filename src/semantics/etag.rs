//! Entity tags (RFC 9110 8.8.3): comparison, and generation from content.

use std::fmt;
use std::hash::Hasher;

use http::HeaderValue;

use super::fields::Members;

/// A received entity tag: its bytes as they came, and whether it is weak.
///
/// Tags outside the grammar (without quotes, say) are kept and compared as they came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntityTag<'a> {
    opaque: &'a [u8],
    weak: bool,
}

impl<'a> EntityTag<'a> {
    /// Reads one tag; white space round it must be gone.
    pub(crate) fn new(tag: &'a [u8]) -> Self {
        match tag.strip_prefix(b"W/") {
            Some(opaque) => Self { opaque, weak: true },
            None => Self { opaque: tag, weak: false },
        }
    }

    /// Whether the tag is marked weak.
    pub(crate) fn is_weak(&self) -> bool {
        self.weak
    }

    /// Strong comparison (RFC 9110 8.8.3.2): both strong and equal.
    pub(crate) fn strong_eq(&self, other: &Self) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    /// Weak comparison (RFC 9110 8.8.3.2): equal but for the mark of weakness.
    pub(crate) fn weak_eq(&self, other: &Self) -> bool {
        self.opaque == other.opaque
    }
}

/// Whether a field line of `If-Match` or `If-None-Match` lists a tag that `equal` accepts.
pub(crate) fn any_member(line: &[u8], equal: impl Fn(&EntityTag<'_>) -> bool) -> bool {
    Members::new(line).any(|member| equal(&EntityTag::new(member)))
}

/// How a tag is generated from content.
///
/// FNV-1a is fast and incremental but not collision-resistant: whoever writes the content can make two
/// contents of one length with one tag. So its tag is weak by default: it answers `If-None-Match` and never
/// stands for a byte range. A strong tag needs a cryptographic hash, which the feature `blake3` brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TagKind {
    /// `"length-hash"` with the keyless hash BLAKE3, cut to 128 bits.
    #[cfg(feature = "blake3")]
    Blake3,
    /// `W/"length-hash"` with FNV-1a, 64 bits.
    Fnv1a,
}

/// Computes an entity tag while the content passes by.
///
/// ```
/// use larder::semantics::etag::{TagKind, Tagger};
/// let mut tagger = Tagger::new(TagKind::Fnv1a);
/// tagger.update(b"pan");
/// tagger.update(b"try");
/// assert_eq!(tagger.finish(), "W/\"6-2542a331590a1575\"");
/// ```
pub struct Tagger {
    length: u64,
    hash: Hash,
}

enum Hash {
    #[cfg(feature = "blake3")]
    Blake3(Box<blake3::Hasher>),
    Fnv1a(fnv::FnvHasher),
}

impl Tagger {
    /// Starts with no content.
    pub fn new(kind: TagKind) -> Self {
        let hash = match kind {
            #[cfg(feature = "blake3")]
            TagKind::Blake3 => Hash::Blake3(Box::default()),
            TagKind::Fnv1a => Hash::Fnv1a(fnv::FnvHasher::default()),
        };
        Self { length: 0, hash }
    }

    /// Takes the next piece of content.
    pub fn update(&mut self, content: &[u8]) {
        self.length = self.length.saturating_add(content.len() as u64);
        match &mut self.hash {
            #[cfg(feature = "blake3")]
            Hash::Blake3(hasher) => {
                hasher.update(content);
            }
            Hash::Fnv1a(hasher) => hasher.write(content),
        }
    }

    /// The tag of all content so far, as an `ETag` value: content length and hash in hexadecimal.
    pub fn finish(&self) -> HeaderValue {
        let length = self.length;
        let tag = match &self.hash {
            #[cfg(feature = "blake3")]
            Hash::Blake3(hasher) => {
                let hash = hasher.finalize().to_hex();
                format!("\"{length:x}-{}\"", &hash.as_str()[..32])
            }
            Hash::Fnv1a(hasher) => format!("W/\"{length:x}-{:016x}\"", hasher.finish()),
        };
        HeaderValue::from_maybe_shared(bytes::Bytes::from(tag))
            .unwrap_or_else(|_| HeaderValue::from_static("\"\""))
    }
}

impl fmt::Debug for Tagger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tagger").field("length", &self.length).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(one: &str, other: &str, strong: bool, weak: bool) {
        let (a, b) = (EntityTag::new(one.as_bytes()), EntityTag::new(other.as_bytes()));
        assert_eq!(a.strong_eq(&b), strong, "{one} {other} strong");
        assert_eq!(a.weak_eq(&b), weak, "{one} {other} weak");
        assert_eq!(b.strong_eq(&a), strong, "{other} {one} strong");
    }

    #[test]
    fn comparison() {
        // RFC 9110 8.8.3.2, table 3.
        check("W/\"1\"", "W/\"1\"", false, true);
        check("W/\"1\"", "W/\"2\"", false, false);
        check("W/\"1\"", "\"1\"", false, true);
        check("\"1\"", "\"1\"", true, true);
        // The mark is case-sensitive; other forms are compared as they came.
        check("w/\"1\"", "\"1\"", false, false);
        check("w/\"1\"", "w/\"1\"", true, true);
        check("1", "1", true, true);
        check("1", "\"1\"", false, false);
        check("\"\"", "\"\"", true, true);
        check("W/\"\"", "\"\"", false, true);
        check("\"1\"", "\"2\"", false, false);
        check("\"a\"", "\"A\"", false, false);
        check("\"a b\"", "\"a b\"", true, true);
        check("\"a,b\"", "\"a,b\"", true, true);
        check("\"a\\\"", "\"a\\\"", true, true);
        check("\"W/\"", "W/\"\"", false, false);
        check("\"W/1\"", "\"1\"", false, false);
        check("W/1", "1", false, true);
        check("W/W/\"1\"", "W/\"1\"", false, false);
        check("W\"1\"", "\"1\"", false, false);
        check("W\\\"1\"", "W\\\"1\"", true, true);
        check("W /\"1\"", "W/\"1\"", false, false);
        check("\"caf\u{e9}\"", "\"caf\u{e9}\"", true, true);
        check("\"caf\u{e9}\"", "\"cafe\"", false, false);
        check("*", "*", true, true);
        check("*", "\"*\"", false, false);
        check("\"1\"", "\"1", false, false);
        check("", "\"\"", false, false);
    }

    #[test]
    fn lists() {
        let lists = |line: &str, tag: &str| {
            any_member(line.as_bytes(), |member| member.weak_eq(&EntityTag::new(tag.as_bytes())))
        };
        assert!(lists("\"a\"", "\"a\""));
        assert!(lists("\"a\", W/\"b\",\"c\"", "\"b\""));
        assert!(lists("\"a,b\" , \"c\"", "\"c\""));
        assert!(!lists("\"a,b\"", "\"b\""));
        assert!(!lists("", "\"\""));
        for (line, tag, expected) in [
            ("\"a\"", "W/\"a\"", true),
            ("W/\"a\"", "\"a\"", true),
            ("\"a\",\"b\",\"c\"", "\"a\"", true),
            ("\"a\",\"b\",\"c\"", "\"b\"", true),
            ("\"a\",\"b\",\"c\"", "\"c\"", true),
            ("\"a\",\"b\",\"c\"", "\"d\"", false),
            ("\"a\" \"b\"", "\"b\"", false),
            ("\"a\";\"b\"", "\"b\"", false),
            (" \"a\" ", "\"a\"", true),
            ("\t\"a\"\t,\t\"b\"", "\"b\"", true),
            (",,\"a\",,", "\"a\"", true),
            ("\"a, b\"", "\"a, b\"", true),
            ("\"a, b\", \"c\"", "\"a, b\"", true),
            ("\"a, b\", \"c\"", "\"a\"", false),
            ("\"a\"", "a", false),
            ("a", "\"a\"", false),
            ("a, b", "b", true),
            ("a, b", "\"b\"", false),
            ("\"a", "\"a", true),
            ("\"a, \"b\"", "\"b\"", false),
            ("*", "\"a\"", false),
            ("\"*\"", "\"*\"", true),
            ("w/\"a\"", "\"a\"", false),
            ("w/\"a\"", "w/\"a\"", true),
            ("W/\"a\", w/\"a\"", "\"a\"", true),
            ("\"a\"x", "\"a\"", false),
            ("x\"a\"", "\"a\"", false),
            ("\"caf\u{e9}\"", "\"caf\u{e9}\"", true),
        ] {
            assert_eq!(lists(line, tag), expected, "{line} {tag}");
        }
    }

    proptest! {
        #[test]
        fn tags_never_panic(one: Vec<u8>, other: Vec<u8>) {
            let (a, b) = (EntityTag::new(&one), EntityTag::new(&other));
            prop_assert!(!a.strong_eq(&b) || a.weak_eq(&b), "strong equality is the stronger");
            prop_assert!(a.weak_eq(&a) && a.strong_eq(&a) != a.is_weak());
            let _ = any_member(&one, |member| member.weak_eq(&b));
        }

        #[test]
        fn a_generated_tag_is_found_in_a_list(content: Vec<u8>, others in "(\"[!#-~]{0,6}\" ?, ?){0,3}") {
            let mut tagger = Tagger::new(TagKind::Fnv1a);
            tagger.update(&content);
            let tag = tagger.finish();
            let line = [others.as_bytes(), tag.as_bytes()].concat();
            let own = EntityTag::new(tag.as_bytes());
            prop_assert!(own.is_weak() && any_member(&line, |member| member.weak_eq(&own)));
            prop_assert!(!any_member(&line, |member| member.strong_eq(&own)), "weak tags are never strong");
        }

        #[test]
        fn pieces_make_the_same_tag(content: Vec<u8>, cut: prop::sample::Index) {
            let mut whole = Tagger::new(TagKind::Fnv1a);
            whole.update(&content);
            let mut pieces = Tagger::new(TagKind::Fnv1a);
            let (first, second) = content.split_at(if content.is_empty() { 0 } else { cut.index(content.len()) });
            pieces.update(first);
            pieces.update(second);
            prop_assert_eq!(whole.finish(), pieces.finish());
        }
    }

    #[test]
    fn forged_contents_of_one_length_share_a_weak_tag() {
        // Two contents with one FNV-1a value, found by others in under a second: why the tag is weak.
        let one = hex("76272f46272c31342d325d6535753f5f2b2236457e27");
        let other = hex("7624255d6521307c2a357428323336473c2628445a23");
        let tag = |content: &[u8]| {
            let mut tagger = Tagger::new(TagKind::Fnv1a);
            tagger.update(content);
            tagger.finish()
        };
        assert_eq!(tag(&one), tag(&other));
        assert_eq!(tag(&one), "W/\"16-8b259611278abfbf\"");
    }

    #[cfg(feature = "blake3")]
    #[test]
    fn a05_strong_tags_tell_forged_contents_apart() {
        let tag = |content: &[u8]| {
            let mut tagger = Tagger::new(TagKind::Blake3);
            tagger.update(content);
            tagger.finish()
        };
        let one = tag(&hex("76272f46272c31342d325d6535753f5f2b2236457e27"));
        let other = tag(&hex("7624255d6521307c2a357428323336473c2628445a23"));
        assert_ne!(one, other);
        assert!(!EntityTag::new(one.as_bytes()).is_weak());
    }

    fn hex(text: &str) -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex"))
            .collect()
    }
}
