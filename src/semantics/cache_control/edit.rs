//! `Cache-Control` with some directives removed, and others added.

use http::HeaderValue;
use http::header::{self, HeaderMap};

use super::Directives;

/// The directives of all lines of `Cache-Control` whose names `keeps` accepts, as they were written, and then `added`. `None`
/// where a line is outside the grammar, so that nobody can say what it means without a part of it.
pub(crate) fn edited(headers: &HeaderMap, keeps: impl Fn(&str) -> bool, added: &str) -> Option<HeaderValue> {
    let mut text: Vec<u8> = Vec::new();
    let mut put = |member: &[u8]| {
        if !text.is_empty() {
            text.extend_from_slice(b", ");
        }
        text.extend_from_slice(member);
    };
    for line in headers.get_all(header::CACHE_CONTROL) {
        let mut members = Directives::new(line.as_bytes());
        for directive in members.by_ref() {
            let name = String::from_utf8_lossy(directive.name).to_ascii_lowercase(); // a token
            if keeps(&name) {
                put(directive.written);
            }
        }
        if members.malformed {
            return None;
        }
    }
    if !added.is_empty() {
        put(added.as_bytes());
    }
    HeaderValue::from_bytes(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::cache_control::ResponseDirectives;
    use crate::semantics::tests::any_value;
    use proptest::prelude::*;

    #[track_caller]
    fn check(lines: &[&'static str], added: &str, expected: Option<&str>) {
        let headers =
            lines.iter().map(|line| (header::CACHE_CONTROL, HeaderValue::from_static(line))).collect();
        let kept = |name: &str| !matches!(name, "max-age" | "private");
        let found = edited(&headers, kept, added);
        assert_eq!(found.as_ref().map(|value| value.to_str().expect("text")), expected, "{lines:?}");
    }

    #[test]
    fn what_is_kept_stays_as_it_was_written() {
        check(&[], "", Some(""));
        check(&[], "max-age=5", Some("max-age=5"));
        check(&["max-age=60"], "", Some(""));
        check(&["Public, MAX-AGE=60,x=\"a, b\""], "max-age=5", Some("Public, x=\"a, b\", max-age=5"));
        check(&["private=\"set-cookie\", no-cache = 5"], "", Some("no-cache = 5"));
        check(&[" , public ,", "must-revalidate"], "", Some("public, must-revalidate"));
        check(
            &["a-directive-that-is-longer-than-any=1, private"],
            "",
            Some("a-directive-that-is-longer-than-any=1"),
        );
        check(&["public, x=\"open"], "max-age=5", None);
        check(&["public, \"x\""], "", None);
    }

    proptest! {
        #[test]
        fn an_edit_is_read_as_the_rest_of_what_was_there(lines in prop::collection::vec(any_value(), 0..3)) {
            let headers: HeaderMap = lines.into_iter().map(|line| (header::CACHE_CONTROL, line)).collect();
            let before = ResponseDirectives::of(&headers);
            let after = edited(&headers, |name| name != "max-age", "max-age=7");
            prop_assert_eq!(after.is_none(), before.malformed);
            if let Some(after) = after {
                let after: HeaderMap = [(header::CACHE_CONTROL, after)].into_iter().collect();
                let expected = ResponseDirectives { max_age: Some(7), ..before };
                prop_assert_eq!(ResponseDirectives::of(&after), expected);
            }
        }
    }
}
