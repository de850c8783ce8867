//! What of a query is in the key.

use smallvec::SmallVec;

use super::trackers::TRACKERS;
use crate::policy::pattern::{Pattern, Selection};

/// More than these stay in the order in which they were sent.
pub(super) const MOST_SORTED: usize = 256;

/// What of a query is in the key, and so what the inner service gets to see of it.
///
/// A query is what is between its `&`s, and nothing else separates: parts, each with the bytes before its first `=` for a name.
/// Bytes compare as they were sent. Nothing is decoded, so `utm%5Fid` is no `utm_id`, and stays in the key.
///
/// ```
/// use larder::StandardPolicy;
/// use larder::policy::QueryRules;
///
/// let policy = StandardPolicy::default().query(QueryRules::all().ignore_trackers().sorted());
/// let only = StandardPolicy::default().query(["page", "filter_*"]);
/// let none = StandardPolicy::default().query(QueryRules::none());
/// # let _ = (policy, only, none);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryRules {
    forwards_as_sent: bool,
    ignored: Names,
    is_cleaned: bool,
    is_sorted: bool,
    selection: Selection,
}

impl QueryRules {
    /// All of it, as sent: what keys are made of without rules.
    pub fn all() -> Self {
        Self::default()
    }

    /// Nothing: all queries of a path share what is stored, and the service sees none.
    pub fn none() -> Self {
        Selection::None.into()
    }

    /// The parameters that one of the patterns matches by name.
    pub fn allow_list<P: Into<Pattern>>(names: impl IntoIterator<Item = P>) -> Self {
        Selection::allow_list(names).into()
    }

    /// All parameters but those that one of the patterns matches by name.
    pub fn all_except<P: Into<Pattern>>(names: impl IntoIterator<Item = P>) -> Self {
        Selection::all_except(names).into()
    }

    /// Leaves out what has no bytes, as between the `&`s of `a&&b`. A query of which nothing remains is none, question mark
    /// included.
    #[must_use]
    pub fn cleaned(mut self) -> Self {
        self.is_cleaned = true;
        self
    }

    /// Lets the inner service see the query as it was sent, and not only what is in the key.
    ///
    /// **Then a client chooses what others get.** Whatever the service makes of a parameter that is not in the key is stored
    /// for those who have sent another one, or none: a page with the script that somebody has put into `utm_source`. Use it
    /// only if the service just counts or logs what the key leaves out.
    #[must_use]
    pub fn forward_as_sent(mut self) -> Self {
        self.forwards_as_sent = true;
        self
    }

    /// Leaves out the parameters that one of the patterns matches by name, in addition to others that are left out.
    #[must_use]
    pub fn ignore<P: Into<Pattern>>(mut self, names: impl IntoIterator<Item = P>) -> Self {
        self.ignored.extend(names.into_iter().map(Into::into));
        self
    }

    /// Leaves out what advertisers and mailers add to links: [`TRACKERS`].
    #[must_use]
    pub fn ignore_trackers(self) -> Self {
        self.ignore(TRACKERS.iter().copied())
    }

    /// Sorts by name. Parameters of one name keep their order, which a service may heed. More than 256 stay in the order in which
    /// they were sent, since a client could have others wait for it.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.is_sorted = true;
        self
    }

    /// Whether all queries stay as they are.
    pub(super) fn is_all(&self) -> bool {
        self.selection == Selection::All && self.ignored.is_empty() && !self.is_cleaned && !self.is_sorted
    }

    pub(super) fn is_none(&self) -> bool {
        self.selection == Selection::None
    }

    pub(super) fn forwards_as_sent(&self) -> bool {
        self.forwards_as_sent
    }

    /// Whether a query is another one in the key.
    pub(super) fn changes(&self, query: &str) -> bool {
        let (mut latest, mut is_unsorted) = (&b""[..], false);
        let leaves_out = parts(query).any(|part| {
            let name = name(part);
            is_unsorted |= name < latest;
            latest = name;
            !self.keeps(part, name)
        });
        leaves_out || (self.is_sorted && is_unsorted && parts(query).count() <= MOST_SORTED)
    }

    /// Appends what the key has of a query, with its question mark.
    pub(super) fn write(&self, query: &str, target: &mut String) {
        let kept = parts(query).filter(|part| self.keeps(part, name(part)));
        let mut kept: SmallVec<[&[u8]; 16]> = kept.collect();
        if self.is_sorted && kept.len() <= MOST_SORTED {
            kept.sort_by_key(|part| name(part));
        }
        for (at, part) in kept.into_iter().enumerate() {
            target.push(if at == 0 { '?' } else { '&' });
            // Between `&`s of a text is text.
            target.push_str(std::str::from_utf8(part).unwrap_or_default());
        }
    }

    fn keeps(&self, part: &[u8], name: &[u8]) -> bool {
        !(self.is_cleaned && part.is_empty()) && self.selection.admits(name) && !self.ignored.has(name)
    }
}

impl From<Selection> for QueryRules {
    /// The parameters whose names count.
    fn from(selection: Selection) -> Self {
        Self { selection, ..Self::default() }
    }
}

impl<P: Into<Pattern>, const N: usize> From<[P; N]> for QueryRules {
    /// [`QueryRules::allow_list`].
    fn from(names: [P; N]) -> Self {
        Self::allow_list(names)
    }
}

impl<P: Into<Pattern>> From<Vec<P>> for QueryRules {
    /// [`QueryRules::allow_list`].
    fn from(names: Vec<P>) -> Self {
        Self::allow_list(names)
    }
}

impl From<&str> for QueryRules {
    /// The parameters that the pattern matches.
    fn from(name: &str) -> Self {
        Self::allow_list([name])
    }
}

fn parts(query: &str) -> impl Iterator<Item = &[u8]> {
    query.as_bytes().split(|&byte| byte == b'&')
}

fn name(part: &[u8]) -> &[u8] {
    part.iter().position(|&byte| byte == b'=').map_or(part, |end| &part[..end])
}

/// Patterns of names, of which few are tried for each name: a client can send many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    /// By their first byte, where all names begin with it that they match. Without any, there are no lists.
    by_first: Vec<Vec<Pattern>>,
    /// Those of which a name may begin with any byte, or be empty.
    others: Vec<Pattern>,
}

impl Names {
    fn extend(&mut self, patterns: impl IntoIterator<Item = Pattern>) {
        for pattern in patterns {
            match pattern.as_str().as_bytes().first() {
                None | Some(b'*' | b'?') => self.others.push(pattern),
                Some(&first) => {
                    self.by_first.resize(256, Vec::new());
                    self.by_first[usize::from(first)].push(pattern);
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.by_first.is_empty() && self.others.is_empty()
    }

    fn has(&self, name: &[u8]) -> bool {
        let first = name.first().and_then(|&first| self.by_first.get(usize::from(first)));
        first.into_iter().flatten().chain(&self.others).any(|pattern| pattern.matches(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key_of(rules: &QueryRules, query: Option<&str>) -> Option<String> {
        let query = query?;
        let mut written = String::new();
        rules.write(query, &mut written);
        assert_eq!(rules.changes(query), written.strip_prefix('?') != Some(query), "{query:?}");
        written.strip_prefix('?').map(str::to_owned)
    }

    #[track_caller]
    fn check(rules: &QueryRules, cases: &[(&str, Option<&str>)]) {
        for (query, expected) in cases {
            assert_eq!(key_of(rules, Some(query)).as_deref(), *expected, "{query:?}");
        }
        assert_eq!(key_of(rules, None), None);
    }

    #[test]
    fn fa11_parameters_are_kept_by_name_and_bytes_stay_as_sent() {
        let same = |query| (query, Some(query));
        check(
            &QueryRules::all(),
            &[same("a=1&b"), same(""), same("&"), same("a&&=x&a=1"), same("a=%31;b=2")],
        );
        check(&QueryRules::none(), &[("a=1", None), ("", None), ("&", None)]);
        check(
            &QueryRules::allow_list(["a", "filter_*"]),
            &[
                ("b=1&a=2&a", Some("a=2&a")),
                ("filter_x=1&filter=2", Some("filter_x=1")),
                ("A=1&%61=1&a[]=1", None),
                ("a=1&&a=2&", Some("a=1&a=2")),
                // Only `&` separates, and only the first `=` ends a name.
                ("a=1;b=2", Some("a=1;b=2")),
                ("b;a=1", None),
                ("a==x", Some("a==x")),
            ],
        );
        check(
            &QueryRules::all_except(["a", "?b"]),
            &[
                ("a=1&b=2&xb=3", Some("b=2")),
                ("a", None),
                ("a&", Some("")),
                ("", Some("")),
                ("=1", Some("=1")),
            ],
        );
        check(&QueryRules::all_except(["*"]), &[("a&b=1", None), ("", None)]);
        check(&QueryRules::allow_list(["*"]).ignore(["*_x"]), &[("a_x=1&b", Some("b")), ("", Some(""))]);
    }

    #[test]
    fn fa11_queries_are_sorted_by_name_and_equal_names_keep_their_order() {
        check(
            &QueryRules::all().sorted(),
            &[
                ("b=1&a=2", Some("a=2&b=1")),
                ("b=2&a=9&b=1", Some("a=9&b=2&b=1")),
                ("a=2&a=1&a", Some("a=2&a=1&a")),
                ("b&a", Some("a&b")),
                ("b&", Some("&b")),
                // By bytes: capitals first, and `a=` is of the name `a`, which comes before `a-b`.
                ("a-b=1&a=1&B", Some("B&a=1&a-b=1")),
            ],
        );
        let many = (0..40).rev().map(|number| format!("{:02}={number}", number / 2)).collect::<Vec<_>>();
        let mut expected = many.clone();
        expected.sort_by_key(|part| part[..2].to_owned());
        check(&QueryRules::all().sorted(), &[(&many.join("&"), Some(&expected.join("&")))]);
        // What counts is counted, so that what is in the key is not changed again.
        let numbered =
            |count: usize| (0..count).rev().map(|number| format!("{number:03}")).collect::<Vec<_>>();
        let (most, more) = (numbered(MOST_SORTED), numbered(MOST_SORTED + 1).join("&"));
        let mut expected = most.clone();
        expected.sort_unstable();
        let rules = QueryRules::all().sorted().ignore(["x"]);
        check(&rules, &[(&format!("x&{}", most.join("&")), Some(&expected.join("&")))]);
        check(&rules, &[(&more, Some(&more)), (&format!("{more}&x"), Some(&more))]);
    }

    #[test]
    fn fa11_empty_parts_are_cleaned_away() {
        let cleaned = QueryRules::all().cleaned();
        check(
            &cleaned,
            &[("a&&b", Some("a&b")), ("&a=&", Some("a=")), ("", None), ("&&", None), ("=", Some("="))],
        );
        check(&cleaned.sorted().ignore(["x"]), &[("b&&x=1&a", Some("a&b")), ("x&", None)]);
    }

    #[test]
    fn fa11_trackers_are_ignored_and_nothing_like_them() {
        let rules = QueryRules::all().ignore_trackers();
        for tracker in TRACKERS {
            let name = tracker.replace('*', "source");
            check(&rules, &[(&format!("{name}=1&page=2&{name}"), Some("page=2")), (&name, None)]);
            let other = format!("x{name}=1");
            check(&rules, &[(&other, Some(&other))]);
        }
        for kept in
            ["utm=1", "UTM_source=1", "utm%5Fsource=1", "fbclid2=1", "ref=a", "ga=1", "=utm_x", "a;gclid=1"]
        {
            check(&rules, &[(kept, Some(kept))]);
        }
        let mut names = TRACKERS.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TRACKERS.len());
    }

    fn any_rules() -> impl Strategy<Value = QueryRules> {
        let names = || prop::collection::vec("[ab*?]{0,2}", 0..3);
        let selection = prop_oneof![
            Just(Selection::All),
            Just(Selection::None),
            names().prop_map(Selection::allow_list),
            names().prop_map(Selection::all_except),
        ];
        (selection, names(), any::<bool>(), any::<bool>()).prop_map(|(selection, ignored, sorts, cleans)| {
            let rules = QueryRules::from(selection).ignore(ignored);
            let rules = if sorts { rules.sorted() } else { rules };
            if cleans { rules.cleaned() } else { rules }
        })
    }

    fn any_query() -> impl Strategy<Value = Option<String>> {
        prop::option::of("([abA]?=?[12]?&?){0,5}")
    }

    /// What counts of a query, by the words of the documentation.
    fn counting(rules: &QueryRules, query: Option<&str>) -> Vec<String> {
        let mut kept: Vec<String> =
            query.map(|query| query.split('&')).into_iter().flatten().map(str::to_owned).collect();
        let ignored: Vec<_> = rules.ignored.by_first.iter().flatten().chain(&rules.ignored.others).collect();
        kept.retain(|part| {
            let own = part.split_once('=').map_or(&**part, |(name, _)| name);
            rules.selection.admits(own) && !ignored.iter().any(|pattern| pattern.matches(own))
        });
        if rules.is_cleaned {
            kept.retain(|part| !part.is_empty());
        }
        if rules.is_sorted {
            kept.sort_by(|one, other| one.split('=').next().cmp(&other.split('=').next()));
        }
        kept
    }

    proptest! {
        #[test]
        fn a03_queries_have_one_key_exactly_if_what_counts_of_them_is_the_same(
            rules in any_rules(), one in any_query(), other in any_query(),
        ) {
            let (key, other_key) = (key_of(&rules, one.as_deref()), key_of(&rules, other.as_deref()));
            let is_same = counting(&rules, one.as_deref()) == counting(&rules, other.as_deref());
            prop_assert_eq!(key == other_key, is_same);
            // What is in the key is not changed again.
            prop_assert_eq!(key_of(&rules, key.as_deref()), key);
        }
    }
}
