//! Which cookies are in the key.

use http::HeaderValue;
use http::header::{self, HeaderMap};
use smallvec::SmallVec;

use super::query::MOST_SORTED;
use crate::entry::key::{CacheKey, Edited};
use crate::policy::pattern::Selection;

/// Which cookies are in the key. The inner service sees no others, and those sorted by name.
#[derive(Clone, Debug)]
pub(super) struct CookieRules {
    /// Those whose presence alone is in the key.
    pub(super) present: Vec<Box<str>>,
    pub(super) selection: Selection,
}

/// The cookies of a request as they were sent, each with its name. What has no `=` is no cookie.
fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = headers.get_all(header::COOKIE).into_iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b';').map(<[u8]>::trim_ascii));
    pairs.filter_map(|pair| Some((&pair[..pair.iter().position(|&byte| byte == b'=')?], pair)))
}

/// Whether a request has a cookie of a name.
pub(super) fn has(name: &str, headers: &HeaderMap) -> bool {
    pairs(headers).any(|(own, _)| own == name.as_bytes())
}

impl CookieRules {
    /// Leaves the cookies that count.
    pub(super) fn edit(&self, edited: &mut Edited<'_>) {
        if let Some(cookies) = self.edited(&edited.request().headers) {
            edited.cookies(cookies);
        }
    }

    /// The cookies that count, if others came: in one line, sorted by name unless they are many. Those of one name keep their
    /// order.
    fn edited(&self, headers: &HeaderMap) -> Option<Option<HeaderValue>> {
        let mut lines = headers.get_all(header::COOKIE).into_iter();
        let first = lines.next()?;
        let is_single = lines.next().is_none();
        let counts = |name: &[u8]| {
            self.selection.admits(name) || self.present.iter().any(|own| own.as_bytes() == name)
        };
        let mut kept: SmallVec<[_; 8]> = pairs(headers).filter(|(name, _)| counts(name)).collect();
        if kept.len() <= MOST_SORTED {
            kept.sort_by_key(|(name, _)| *name);
        }
        let pieces = || {
            let separated = |(at, (_, pair))| [if at == 0 { &b""[..] } else { b"; " }, pair];
            kept.iter().copied().enumerate().flat_map(separated)
        };
        let mut rest = first.as_bytes();
        let is_prefix = pieces().all(|piece| rest.strip_prefix(piece).map(|after| rest = after).is_some());
        if is_single && is_prefix && rest.is_empty() && !kept.is_empty() {
            return None;
        }
        if kept.is_empty() {
            return Some(None);
        }
        let line: Vec<u8> = pieces().flatten().copied().collect();
        // Of the bytes of a field's value.
        Some(HeaderValue::from_bytes(&line).ok())
    }

    /// Adds the cookies of a request that was edited.
    pub(super) fn add(&self, key: CacheKey, headers: &HeaderMap) -> CacheKey {
        let counting = pairs(headers).filter(|(name, _)| self.selection.admits(name));
        counting.fold(key, |key, (name, pair)| key.with_cookie_pair(name, &pair[name.len() + 1..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(rules: &CookieRules, lines: &[&'static str]) -> Option<Option<String>> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, HeaderValue::from_static(line));
        }
        let text = |value: HeaderValue| value.to_str().expect("ASCII").to_owned();
        rules.edited(&headers).map(|cookies| cookies.map(text))
    }

    #[track_caller]
    fn check(rules: &CookieRules, lines: &[&'static str], expected: Option<&str>) {
        let found = edited(rules, lines);
        let is_unchanged = lines.len() == 1 && expected == Some(lines[0]);
        let expected = (!is_unchanged).then(|| expected.map(str::to_owned));
        assert_eq!(found, expected, "{lines:?}");
    }

    #[test]
    fn cookies_that_count_are_left_in_one_line_sorted_by_name() {
        let rules = |selection| CookieRules { present: vec!["seen".into()], selection };
        let some = rules(Selection::allow_list(["id", "ab_*"]));
        check(&some, &["id=1"], Some("id=1"));
        check(&some, &["_ga=x; id=1;ab_y=2"], Some("ab_y=2; id=1"));
        check(&some, &["id=1", "ab_y=2"], Some("ab_y=2; id=1"));
        check(&some, &["id=2; id=1"], Some("id=2; id=1"));
        check(&some, &["id=1;"], Some("id=1"));
        check(&some, &[" id=1"], Some("id=1"));
        check(&some, &["id=1; seen=5"], Some("id=1; seen=5"));
        check(&some, &["_ga=x"], None);
        check(&some, &[""], None);
        check(&some, &["ID=1; id; =id"], None);
        check(&some, &["id=a=b; id=\"x"], Some("id=a=b; id=\"x"));
        check(&rules(Selection::None), &["id=1; seen=5"], Some("seen=5"));
        check(&rules(Selection::All), &["b=1; a=2; c"], Some("a=2; b=1"));
        check(&rules(Selection::all_except(["_ga*"])), &["_ga=1; _ga_X=2; id=1"], Some("id=1"));
        assert_eq!(edited(&some, &[]), None);
    }
}
