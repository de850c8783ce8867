//! Entity tags (RFC 9110 8.8.3): comparison, and generation from content.

mod lanes;

use std::fmt;

use http::HeaderValue;

use self::lanes::FnvLanes;
use super::fields::Members;

/// A received entity tag: its bytes as received, and whether it is weak.
///
/// Tags outside the grammar (without quotes, for example) are kept and compared as received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntityTag<'a> {
    opaque: &'a [u8],
    weak: bool,
}

impl<'a> EntityTag<'a> {
    /// Reads one tag, without white space around it.
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

    /// Weak comparison (RFC 9110 8.8.3.2): equal except for the mark of weakness.
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
/// FNV-1a is fast and incremental but not collision-resistant: an author of the content can make two contents of one
/// length with one tag. So its tag is weak: it answers `If-None-Match` and never stands for a byte range. A strong tag
/// needs a cryptographic hash, which the feature `blake3` brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TagKind {
    /// `"length-hash"` with the keyless hash BLAKE3, cut to 128 bits.
    #[cfg(feature = "blake3")]
    Blake3,
    /// `W/"length-hash"` with twelve lanes of FNV-1a, folded to 64 bits.
    ///
    /// The format, so that it can be computed elsewhere:
    ///
    /// 1. FNV-1a is that of 64 bits: it starts from `cbf29ce484222325`, and for each byte exclusive-ors the byte into the
    ///    low bits and then multiplies by `100000001b3`, modulo 2^64.
    /// 2. The content is cut into words of eight bytes, the last of which may be shorter. The words go to the lanes 0 to 11
    ///    in turn: byte `i`, counted from 0, belongs to lane `(i / 8) % 12`.
    /// 3. The value of a lane is FNV-1a over its bytes, in their order. A lane without bytes has the start value.
    /// 4. The hash is FNV-1a over 104 bytes: the values of the lanes 0 to 11, then the number of bytes of the content, each
    ///    as eight bytes with the least significant first.
    /// 5. The tag is `W/"`, the number of bytes of the content in hexadecimal without leading zeros, `-`, the hash in 16
    ///    hexadecimal digits, `"`. Digits above 9 are in lower case.
    ///
    /// | content | tag |
    /// |---|---|
    /// | none | `W/"0-265cf2d3dee36ac5"` |
    /// | `a` | `W/"1-cf5342683bda4050"` |
    /// | `pantry` | `W/"6-b2316fe1d9023834"` |
    /// | the bytes 0 to 95 | `W/"60-a3827a73c960aa32"` |
    /// | the bytes 0 to 96 | `W/"61-e4b04b18eba76ca9"` |
    /// | 65,536 times `x` | `W/"10000-4f136e9661f2ab6c"` |
    Fnv1a,
}

/// Computes an entity tag, piece by piece.
///
/// ```
/// use larder::semantics::etag::{TagKind, Tagger};
/// let mut tagger = Tagger::new(TagKind::Fnv1a);
/// tagger.update(b"pan");
/// tagger.update(b"try");
/// assert_eq!(tagger.finish(), "W/\"6-b2316fe1d9023834\"");
/// ```
pub struct Tagger {
    length: u64,
    hash: Hash,
}

enum Hash {
    #[cfg(feature = "blake3")]
    Blake3(Box<blake3::Hasher>),
    Fnv1a(FnvLanes),
}

impl Tagger {
    /// Starts with no content.
    pub fn new(kind: TagKind) -> Self {
        let hash = match kind {
            #[cfg(feature = "blake3")]
            TagKind::Blake3 => Hash::Blake3(Box::default()),
            TagKind::Fnv1a => Hash::Fnv1a(FnvLanes::default()),
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
            Hash::Fnv1a(lanes) => lanes.update(content),
        }
    }

    /// The tag of all content so far, as an `ETag` value: content length and hash in hexadecimal.
    pub fn finish(&self) -> HeaderValue {
        match &self.hash {
            #[cfg(feature = "blake3")]
            Hash::Blake3(hasher) => strong(self.length, &hasher.finalize()),
            Hash::Fnv1a(lanes) => weak(self.length, lanes),
        }
    }
}

/// The tag of content that is there as a whole, in one block. No [`Tagger`] is allocated for it.
pub(crate) fn tag_of(kind: TagKind, content: &[u8]) -> HeaderValue {
    match kind {
        #[cfg(feature = "blake3")]
        TagKind::Blake3 => strong(content.len() as u64, &blake3::hash(content)),
        TagKind::Fnv1a => {
            let mut lanes = FnvLanes::default();
            lanes.update(content);
            weak(content.len() as u64, &lanes)
        }
    }
}

#[cfg(feature = "blake3")]
fn strong(length: u64, hash: &blake3::Hash) -> HeaderValue {
    let mut text = TagText::new();
    text.push(b"\"");
    text.push_tag(length, &hash.as_bytes()[..16]);
    text.into_value()
}

fn weak(length: u64, lanes: &FnvLanes) -> HeaderValue {
    let mut text = TagText::new();
    text.push(b"W/\"");
    text.push_tag(length, &lanes.folded_with(length).to_be_bytes());
    text.into_value()
}

/// The text of a tag while it is written: on the stack and without `format!`, which takes as long as the hash of small
/// content does.
struct TagText {
    bytes: [u8; Self::MOST],
    length: usize,
}

impl TagText {
    /// `"`, a length of 16 digits, `-`, a hash of 32 digits, `"`; a weak tag has a shorter hash.
    const MOST: usize = 51;

    fn new() -> Self {
        Self { bytes: [0; Self::MOST], length: 0 }
    }

    fn push(&mut self, text: &[u8]) {
        self.bytes[self.length..self.length + text.len()].copy_from_slice(text);
        self.length += text.len();
    }

    /// The lower half of a byte as a digit.
    fn push_digit(&mut self, value: u8) {
        self.push(&[b"0123456789abcdef"[usize::from(value & 0xf)]]);
    }

    /// All of a tag that comes after its first quote.
    fn push_tag(&mut self, length: u64, hash: &[u8]) {
        let digits = (u64::BITS - length.leading_zeros()).div_ceil(4).max(1);
        for place in (0..digits).rev() {
            self.push_digit((length >> (4 * place)) as u8);
        }
        self.push(b"-");
        for byte in hash {
            self.push_digit(byte >> 4);
            self.push_digit(*byte);
        }
        self.push(b"\"");
    }

    fn into_value(self) -> HeaderValue {
        HeaderValue::from_bytes(&self.bytes[..self.length])
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
    fn tags_are_compared_strongly_and_weakly() {
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
    fn a_tag_is_found_in_a_list() {
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
            let tag = tag(TagKind::Fnv1a, &content);
            let line = [others.as_bytes(), tag.as_bytes()].concat();
            let own = EntityTag::new(tag.as_bytes());
            prop_assert!(own.is_weak() && any_member(&line, |member| member.weak_eq(&own)));
            prop_assert!(!any_member(&line, |member| member.strong_eq(&own)), "weak tags are never strong");
        }

        #[test]
        fn content_in_any_pieces_gets_the_tag_of_the_whole(
            content in prop::collection::vec(any::<u8>(), 0..400),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(content.len() + 1)).collect();
            cuts.extend([0, content.len()]);
            cuts.sort_unstable();
            for kind in KINDS {
                let mut pieces = Tagger::new(*kind);
                for cut in cuts.windows(2) {
                    pieces.update(&content[cut[0]..cut[1]]);
                }
                prop_assert_eq!(pieces.finish(), tag(*kind, &content));
                prop_assert_eq!(tag_of(*kind, &content), tag(*kind, &content));
            }
        }

        #[test]
        fn a_weak_tag_has_the_documented_format(content in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(tag(TagKind::Fnv1a, &content), as_documented(&content));
        }
    }

    /// The format of [`TagKind::Fnv1a`], step by step.
    fn as_documented(content: &[u8]) -> String {
        let fnv1a = |bytes: &[u8]| {
            let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, step)
        };
        let mut lanes = [const { Vec::new() }; 12];
        for (position, &byte) in content.iter().enumerate() {
            lanes[position / 8 % 12].push(byte);
        }
        let length = content.len() as u64;
        let values = lanes.iter().map(|lane| fnv1a(lane)).chain([length]);
        let folded: Vec<u8> = values.flat_map(u64::to_le_bytes).collect();
        format!("W/\"{length:x}-{:016x}\"", fnv1a(&folded))
    }

    #[test]
    fn weak_tags_equal_those_of_another_program() {
        // By a program of 15 lines in another language, from the documentation of the format.
        let check = |content: &[u8], expected: &str| assert_eq!(tag(TagKind::Fnv1a, content), expected);
        let counted = |length: usize| -> Vec<u8> { (0..length).map(|at| (at % 251) as u8).collect() };
        check(b"", "W/\"0-265cf2d3dee36ac5\"");
        check(b"a", "W/\"1-cf5342683bda4050\"");
        check(b"pantry", "W/\"6-b2316fe1d9023834\"");
        check(b"0123456789", "W/\"a-cc02d62f4873ade8\"");
        check(&counted(96), "W/\"60-a3827a73c960aa32\"");
        check(&counted(97), "W/\"61-e4b04b18eba76ca9\"");
        check(&counted(1000), "W/\"3e8-a92b813e81c62a33\"");
        check(&[0xff; 512], "W/\"200-bedef8edc2c43637\"");
        check(&[b'x'; 65536], "W/\"10000-4f136e9661f2ab6c\"");
    }

    #[test]
    fn a_length_is_written_without_leading_zeros() {
        for length in [0, 1, 0xf, 0x10, 0xff, 0x100, 0x1_0000, u64::from(u32::MAX), 1 << 60, u64::MAX] {
            let tag = weak(length, &FnvLanes::default());
            let expected = format!("W/\"{length:x}-{:016x}\"", FnvLanes::default().folded_with(length));
            assert_eq!(tag, expected.as_str());
        }
        let mut text = TagText::new();
        text.push(b"\"");
        text.push_tag(u64::MAX, &[0xa5; 16]);
        assert_eq!(text.length, TagText::MOST);
        assert_eq!(text.into_value(), format!("\"{:x}-{}\"", u64::MAX, "a5".repeat(16)).as_str());
    }

    #[cfg(feature = "blake3")]
    #[test]
    fn a_strong_tag_is_half_of_the_hash() {
        let expected = format!("\"6-{}\"", &blake3::hash(b"pantry").to_hex()[..32]);
        assert_eq!(tag(TagKind::Blake3, b"pantry"), expected.as_str());
    }

    #[cfg(not(feature = "blake3"))]
    const KINDS: &[TagKind] = &[TagKind::Fnv1a];
    #[cfg(feature = "blake3")]
    const KINDS: &[TagKind] = &[TagKind::Blake3, TagKind::Fnv1a];

    fn tag(kind: TagKind, content: &[u8]) -> HeaderValue {
        let mut tagger = Tagger::new(kind);
        tagger.update(content);
        tagger.finish()
    }

    /// Two contents with one FNV-1a value, found by others in under a second.
    const COLLIDING: [&str; 2] =
        ["76272f46272c31342d325d6535753f5f2b2236457e27", "7624255d6521307c2a357428323336473c2628445a23"];

    /// Two contents of one length with one weak tag: those that collide are the bytes of the first lane, and all else is
    /// the same.
    fn forged() -> [Vec<u8>; 2] {
        COLLIDING.map(hex).map(|content| {
            let words: Vec<_> = content.chunks(8).collect();
            words.join(&[b'.'; 88][..])
        })
    }

    #[test]
    fn a05_forged_contents_of_one_length_share_a_weak_tag() {
        // Why the tag is weak.
        let [one, other] = forged();
        assert_ne!(one, other);
        assert_eq!(tag(TagKind::Fnv1a, &one), tag(TagKind::Fnv1a, &other));
        assert_eq!(tag(TagKind::Fnv1a, &one), "W/\"c6-e2d1ccd5427f1846\"");
    }

    #[cfg(feature = "blake3")]
    #[test]
    fn a05_strong_tags_distinguish_forged_contents() {
        let [one, other] = forged().map(|content| tag(TagKind::Blake3, &content));
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
