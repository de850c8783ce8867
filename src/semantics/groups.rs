//! Cache groups (RFC 9875): responses that are invalidated together.

use http::HeaderMap;
use http::header::HeaderName;
use sfv::{BareItem, List, ListEntry, Parser};

use super::fields::combined;

/// The groups of a response.
pub(crate) const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
/// The groups that the answer to an unsafe request invalidates.
pub(crate) const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// The most groups that one field may name, and the most bytes in the name of one. The RFC asks for 32 each.
pub(crate) const MOST_GROUPS: usize = 128;
/// See [`MOST_GROUPS`].
pub(crate) const MOST_NAME: usize = 256;

/// The most groups that a stored response is in, those that a policy adds included, and the most bytes of their names. As
/// many as 16 KiB of `Surrogate-Key` can name: 94 of one byte, and for the rest two bytes and a space.
pub(crate) const MOST_STORED: usize = 6 * 1_024;
/// See [`MOST_STORED`].
pub(crate) const MOST_STORED_BYTES: usize = 32 * 1024;

/// A field names more groups, or longer ones, than are supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// The groups that a field names: strings, case-sensitive. A field that is not a structured-fields list of strings
/// names none (RFC 9875 2).
///
/// # Errors
///
/// [`TooMany`] if the response could not be purged by all of these groups.
pub(crate) fn of(headers: &HeaderMap, name: &HeaderName) -> Result<Vec<String>, TooMany> {
    let Some(field) = combined(headers, name) else {
        return Ok(Vec::new());
    };
    let Ok(list) = Parser::new(&field).parse::<List>() else {
        return Ok(Vec::new());
    };
    let mut groups = Vec::new();
    for entry in &list {
        let ListEntry::Item(item) = entry else {
            return Ok(Vec::new());
        };
        let BareItem::String(group) = &item.bare_item else {
            return Ok(Vec::new());
        };
        if groups.len() == MOST_GROUPS || group.as_str().len() > MOST_NAME {
            return Err(TooMany);
        }
        groups.push(group.as_str().to_owned());
    }
    Ok(groups)
}

/// The name under which a store knows a group: groups of different origins are different (RFC 9875 2).
/// `uri` is a key's: `scheme://authority/path?query`.
pub fn scoped(uri: &[u8], group: &str) -> Box<str> {
    let uri = String::from_utf8_lossy(uri);
    let authority = uri.find("://").map_or(0, |scheme| scheme + 3);
    let end = uri[authority..].find('/').map_or(uri.len(), |path| authority + path);
    // An origin contains no space, so the two parts can be separated again.
    format!("{} {group}", &uri[..end]).into_boxed_str()
}

/// The name of a group without the scope of its origin; a name that has none is itself a tag.
pub fn tag(group: &str) -> &str {
    match group.split_once(' ') {
        Some((origin, name)) if origin.contains("://") => name,
        _ => group,
    }
}

/// Whether a name is a tag by which a response can be purged: text without control characters that does not pass for the
/// group of an origin.
pub(crate) fn is_tag(name: &str) -> bool {
    !name.is_empty() && tag(name) == name && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::any_value;
    use http::HeaderValue;
    use proptest::prelude::*;

    #[track_caller]
    fn check(lines: &[&str], expected: &[&str]) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_GROUPS, HeaderValue::from_str(line).expect("a value"));
        }
        let groups = of(&headers, &CACHE_GROUPS).expect("few groups");
        assert_eq!(groups, expected, "{lines:?}");
    }

    #[test]
    fn in2_fields_with_groups_are_parsed() {
        // RFC 9875 2, RFC 9651.
        check(&[], &[]);
        check(&[""], &[]);
        check(&["\"a\""], &["a"]);
        check(&["\"a\", \"B b\";x=1"], &["a", "B b"]);
        check(&["\"a\"", "\"b\""], &["a", "b"]);
        check(&["a"], &[]);
        check(&["\"a\", 5"], &[]);
        check(&["\"a\", (\"b\")"], &[]);
        check(&["\"a\", \"b"], &[]);
    }

    #[test]
    fn in2_the_number_and_length_of_groups_are_bounded() {
        let mut headers = HeaderMap::new();
        let name = "x".repeat(32);
        let many = |count: usize| vec![format!("\"{name}\""); count].join(", ");
        headers.insert(CACHE_GROUPS, HeaderValue::from_str(&many(MOST_GROUPS)).expect("a value"));
        assert_eq!(of(&headers, &CACHE_GROUPS).map(|groups| groups.len()), Ok(MOST_GROUPS));
        headers.insert(CACHE_GROUPS, HeaderValue::from_str(&many(MOST_GROUPS + 1)).expect("a value"));
        assert_eq!(of(&headers, &CACHE_GROUPS), Err(TooMany));
        let long = format!("\"{}\"", "x".repeat(MOST_NAME + 1));
        headers.insert(CACHE_GROUPS, HeaderValue::from_str(&long).expect("a value"));
        assert_eq!(of(&headers, &CACHE_GROUPS), Err(TooMany));
    }

    #[test]
    fn in2_groups_are_scoped_to_their_origin() {
        assert_eq!(&*scoped(b"http://a.example/x?y", "g"), "http://a.example g");
        assert_eq!(&*scoped(b"http://a.example", "g"), "http://a.example g");
        assert_ne!(scoped(b"http://a.example/", "g"), scoped(b"https://a.example/", "g"));
        assert_ne!(scoped(b"http://a/", "g"), scoped(b"http://a:8080/", "g"));
    }

    proptest! {
        #[test]
        fn parsing_groups_never_panics(lines in prop::collection::vec(any_value(), 0..3), uri: Vec<u8>, group: String) {
            let headers = lines.into_iter().map(|line| (CACHE_GROUPS, line)).collect();
            if let Ok(groups) = of(&headers, &CACHE_GROUPS) {
                prop_assert!(groups.len() <= MOST_GROUPS);
            }
            let _ = scoped(&uri, &group);
        }

        #[test]
        fn in2_any_groups_are_read_as_given(groups in prop::collection::vec("[ -~]{0,12}", 0..6)) {
            let quoted = |group: &String| format!("\"{}\"", group.replace('\\', "\\\\").replace('"', "\\\""));
            let line = groups.iter().map(quoted).collect::<Vec<_>>().join(", ");
            let expected: Vec<_> = groups.iter().map(String::as_str).collect();
            check(&[&line], &expected);
        }
    }
}
