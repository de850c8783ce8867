//! `Surrogate-Key`: tags by which a response can be purged.

use std::collections::HashSet;

use http::HeaderMap;
use http::header::HeaderName;

use crate::policy::TagField;
use crate::semantics::fields::trim;

pub(super) const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

/// The most bytes of all these fields together that count, with the spaces that join their lines; a tag that goes beyond does
/// not count.
const MOST_BYTES: usize = 16_384;
/// The longest tag; no purge names a longer one.
const LONGEST_TAG: usize = 1_024;

/// What is done with a response that has more tags than count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExcessTags {
    /// It is stored, and cannot be purged by those that exceed the limits, as at Fastly.
    #[default]
    Ignore,
    /// It is not stored, so that every purge is complete.
    Refuse,
}

/// The tags of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tags {
    /// Whether there are others, which exceed the limits.
    pub(super) has_excess: bool,
    pub(super) names: Vec<Box<str>>,
}

impl Tags {
    /// Those of these fields, each once, in their order; at most `most` count.
    pub(super) fn of(headers: &HeaderMap, fields: &[TagField], most: usize) -> Self {
        let mut tags = Self::default();
        let mut seen = HashSet::new(); // seeded
        let mut end = 0;
        for field in fields {
            let lines = headers.get_all(field.name()).into_iter();
            for tag in lines.flat_map(|line| field.split(line.as_bytes())) {
                end += tag.len();
                let (is_within, tag) = (end <= MOST_BYTES, trim(tag));
                end += 1;
                let Some(tag) = visible(tag) else {
                    continue;
                };
                if seen.contains(tag) {
                    continue;
                }
                if !is_within || tag.len() > LONGEST_TAG || tags.names.len() == most {
                    tags.has_excess = true;
                } else {
                    seen.insert(tag);
                    tags.names.push(tag.into());
                }
                if !is_within {
                    return tags; // however much is left
                }
            }
        }
        tags
    }
}

/// A tag of visible ASCII characters, at least one.
fn visible(tag: &[u8]) -> Option<&str> {
    let is_visible = !tag.is_empty() && tag.iter().all(u8::is_ascii_graphic);
    if is_visible { std::str::from_utf8(tag).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn tags(lines: &[&[u8]]) -> Tags {
        let value = |line: &&[u8]| HeaderValue::from_bytes(line).expect("a value");
        let headers = lines.iter().map(|line| (SURROGATE_KEY, value(line))).collect();
        Tags::of(&headers, &[TagField::spaced(SURROGATE_KEY)], 8_192)
    }

    #[track_caller]
    fn check(lines: &[&str], names: &[&str], has_excess: bool) {
        let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
        let found = tags(&lines);
        assert_eq!(found.names.iter().map(|name| &**name).collect::<Vec<_>>(), names, "{lines:?}");
        assert_eq!(found.has_excess, has_excess, "{lines:?}");
    }

    #[test]
    fn fa4_tags_are_separated_by_spaces_and_count_once() {
        check(&[], &[], false);
        check(&["", "  "], &[], false);
        check(&["a b\tc"], &["a", "b", "c"], false);
        check(&["  a  b a ", "b c"], &["a", "b", "c"], false);
        // Case counts, and so does every visible character.
        check(&["A a x,y \"q\" ~!"], &["A", "a", "x,y", "\"q\"", "~!"], false);
        // A tag with anything else is none.
        check(&["a \u{e9}t\u{e9} b"], &["a", "b"], false);
    }

    #[test]
    fn fa4_tags_beyond_16_384_bytes_or_longer_than_1_024_do_not_count() {
        // 16 bytes with the space: the last that fits ends at byte 16,383.
        let names: Vec<_> = (0..1_100).map(|number| format!("tag-{number:011}")).collect();
        let found = tags(&[names.join(" ").as_bytes()]);
        assert_eq!((found.names.len(), found.has_excess), (1_024, true));
        assert_eq!(&*found.names[1_023], names[1_023]);
        // The same in many lines.
        let lines: Vec<_> = names.iter().map(|name| name.as_bytes()).collect();
        assert_eq!(tags(&lines), found);
        // To the byte: the boundary is the end of the tag.
        let filler = "f ".repeat(8_189);
        for (last, counts) in [("123456", true), ("1234567", false)] {
            let found = tags(&[format!("{filler}{last}").as_bytes()]);
            assert_eq!(found.names.iter().any(|name| **name == *last), counts, "{last}");
            assert_eq!(found.has_excess, !counts, "{last}");
        }
        let (longest, too_long) = ("x".repeat(1_024), "y".repeat(1_025));
        check(&[&format!("a {longest} b")], &["a", &longest, "b"], false);
        check(&[&format!("a {too_long} b")], &["a", "b"], true);
        // What is repeated beyond the limit is no excess.
        check(&[&"a ".repeat(10_000)], &["a"], false);
    }

    #[test]
    fn fa4_tags_come_from_several_fields_and_their_number_is_bounded() {
        let name = HeaderName::from_static;
        let headers: HeaderMap = [
            (name("surrogate-key"), HeaderValue::from_static("a b")),
            (name("cache-tag"), HeaderValue::from_static("c d, e ,, b,f")),
        ]
        .into_iter()
        .collect();
        let fields = [TagField::spaced(SURROGATE_KEY), TagField::listed(name("cache-tag"))];
        let found = |most| {
            let found = Tags::of(&headers, &fields, most);
            (found.names.iter().map(|name| name.to_string()).collect::<Vec<_>>().join(" "), found.has_excess)
        };
        assert_eq!(found(9), ("a b e f".to_owned(), false));
        assert_eq!(found(4), ("a b e f".to_owned(), false));
        assert_eq!(found(3), ("a b e".to_owned(), true));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a20_tags_are_visible_and_within_the_limits(
            lines in prop::collection::vec(prop::collection::vec(prop_oneof![32..=126_u8, 128..=255_u8], 0..3_000), 0..9),
        ) {
            let lines: Vec<_> = lines.iter().map(Vec::as_slice).collect();
            let found = tags(&lines);
            let bytes: usize = found.names.iter().map(|name| name.len() + 1).sum();
            prop_assert!(bytes <= MOST_BYTES + 1);
            for name in &found.names {
                prop_assert!(!name.is_empty() && name.len() <= LONGEST_TAG);
                prop_assert!(name.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
