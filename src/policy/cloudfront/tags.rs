//! The tags of a response, in a field of the distribution's choice.

use http::header::{HeaderMap, HeaderName};

use crate::semantics::fields::trim;

/// The longest tag.
const LONGEST: usize = 256;
/// How many tags of a response count.
const MOST: usize = 50;

/// The tags of a response. They are compared without case when they are purged.
pub(super) fn of(headers: &HeaderMap, name: &HeaderName) -> Vec<Box<str>> {
    let lines = headers.get_all(name).into_iter();
    let members = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b',').map(trim));
    let is_tag = |member: &&[u8]| {
        (1..=LONGEST).contains(&member.len()) && member.iter().all(|byte| (b'!'..=b'~').contains(byte))
    };
    let tags = members.filter(is_tag).take(MOST);
    tags.filter_map(|tag| std::str::from_utf8(tag).ok().map(Box::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const NAME: HeaderName = HeaderName::from_static("x-amz-meta-cache-tag");

    #[track_caller]
    fn check(lines: &[&str], expected: &[&str]) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(NAME, HeaderValue::from_bytes(line.as_bytes()).expect("a value"));
        }
        let tags = of(&headers, &NAME);
        assert_eq!(tags.iter().map(|tag| &**tag).collect::<Vec<_>>(), expected, "{lines:?}");
    }

    #[test]
    fn cf12_tags_are_separated_by_commas() {
        check(&["a, B,c "], &["a", "B", "c"]);
        check(&["a", "b"], &["a", "b"]);
        check(&["", ",,", "a b", "\u{e9}", "a\"b"], &["a\"b"]);
        check(&["https://example.com/a"], &["https://example.com/a"]);
    }

    #[test]
    fn a20_no_tag_is_longer_than_256_bytes_and_no_response_has_more_than_50() {
        let (longest, longer) = ("x".repeat(256), "x".repeat(257));
        check(&[&longer, &longest], &[&longest]);
        let many: Vec<_> = (0..1_000).map(|number| number.to_string()).collect();
        let first: Vec<_> = many[..50].iter().map(|tag| &**tag).collect();
        check(&[&many.join(",")], &first);
    }
}
