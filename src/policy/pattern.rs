//! Patterns of paths and of names, and which names of a list count.

use std::fmt;

/// A pattern of text: `*` is any number of bytes, `?` is exactly one, everything else is itself. Cases differ.
///
/// ```
/// use larder::policy::Pattern;
/// let images = Pattern::new("/images/*.jp?g");
/// assert!(images.matches("/images/2026/cat.jpeg") && !images.matches("/Images/cat.jpeg"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    /// How much of it comes before the first `*` or `?`: most patterns are decided by that.
    plain: usize,
    text: Box<str>,
}

impl Pattern {
    /// Any text is a pattern.
    pub fn new(pattern: impl Into<Box<str>>) -> Self {
        let text = pattern.into();
        Self { plain: text.find(['*', '?']).unwrap_or(text.len()), text }
    }

    /// The pattern as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether all of a text is as the pattern says. Takes at most time in proportion to both lengths multiplied, and no memory.
    pub fn matches(&self, text: impl AsRef<[u8]>) -> bool {
        let (plain, pattern) = self.text.as_bytes().split_at(self.plain);
        let Some(text) = text.as_ref().strip_prefix(plain) else {
            return false;
        };
        match pattern {
            [] => text.is_empty(),
            [b'*'] => true,
            _ => matches(pattern, text),
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl<T: Into<Box<str>>> From<T> for Pattern {
    fn from(pattern: T) -> Self {
        Self::new(pattern)
    }
}

/// Each `*` but the last one takes as little as it can: what it leaves, the next one may take. The last one takes whatever
/// is between what comes before it and the end of the pattern.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut parts = pattern.split(|byte| *byte == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(last) = parts.next_back() else {
        return text.len() == first.len() && begins_with(text, first);
    };
    if text.len() < first.len() + last.len() || !begins_with(text, first) {
        return false;
    }
    let (mut middle, end) = text[first.len()..].split_at(text.len() - first.len() - last.len());
    if !begins_with(end, last) {
        return false;
    }
    for part in parts {
        let Some(at) =
            (0..=middle.len().saturating_sub(part.len())).find(|at| begins_with(&middle[*at..], part))
        else {
            return false;
        };
        middle = &middle[at + part.len()..];
    }
    true
}

/// Whether a text begins with a part of a pattern, in which `?` is any byte.
fn begins_with(text: &[u8], part: &[u8]) -> bool {
    text.len() >= part.len()
        && part.iter().zip(text).all(|(of_part, byte)| of_part == byte || *of_part == b'?')
}

/// Which of some names count: of query parameters, cookies or fields.
///
/// ```
/// use larder::policy::Selection;
/// let wanted = Selection::all_except(["utm_*", "fbclid"]);
/// assert!(wanted.admits("page") && !wanted.admits("utm_source"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a list of names is empty, whole, given or left out")]
pub enum Selection {
    /// None.
    None,
    /// All.
    #[default]
    All,
    /// Those that one of the patterns matches.
    AllowList(Vec<Pattern>),
    /// Those that none of the patterns matches.
    AllExcept(Vec<Pattern>),
}

impl Selection {
    /// Those that one of the patterns matches.
    pub fn allow_list<P: Into<Pattern>>(names: impl IntoIterator<Item = P>) -> Self {
        Self::AllowList(names.into_iter().map(Into::into).collect())
    }

    /// Those that none of the patterns matches.
    pub fn all_except<P: Into<Pattern>>(names: impl IntoIterator<Item = P>) -> Self {
        Self::AllExcept(names.into_iter().map(Into::into).collect())
    }

    /// Whether a name counts.
    pub fn admits(&self, name: impl AsRef<[u8]>) -> bool {
        let name = name.as_ref();
        let has = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(name));
        match self {
            Self::None => false,
            Self::All => true,
            Self::AllowList(names) => has(names),
            Self::AllExcept(names) => !has(names),
        }
    }
}

impl<P: Into<Pattern>, const N: usize> From<[P; N]> for Selection {
    /// [`Selection::allow_list`].
    fn from(names: [P; N]) -> Self {
        Self::allow_list(names)
    }
}

impl<P: Into<Pattern>> From<Vec<P>> for Selection {
    /// [`Selection::allow_list`].
    fn from(names: Vec<P>) -> Self {
        Self::allow_list(names)
    }
}

impl From<&str> for Selection {
    /// Those that the pattern matches.
    fn from(name: &str) -> Self {
        Self::allow_list([name])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], other: &[&str]) {
        let pattern = Pattern::new(pattern);
        for text in matching {
            assert!(pattern.matches(text), "{pattern:?} {text}");
        }
        for text in other {
            assert!(!pattern.matches(text), "{pattern:?} {text}");
        }
    }

    #[test]
    fn a_star_is_anything_and_a_question_mark_is_one_byte() {
        check("/a", &["/a"], &["/A", "/ab", "/", ""]);
        check("", &[""], &["a"]);
        check("*", &["", "/", "/a/b"], &[]);
        check("/images/*", &["/images/", "/images/a/b"], &["/images", "/Images/a", "x/images/"]);
        check("*.jp?g", &["/a/b.jpeg", ".jp.g"], &["/a.jpg", "/a.jpeg?"]);
        check("/a*b*c", &["/abc", "/aXbXbc", "/abbcc"], &["/acb", "/ab"]);
        check("a?*", &["ab", "abc"], &["a", ""]);
    }

    #[test]
    fn many_stars_take_no_more_than_the_product_of_both_lengths() {
        let (pattern, text) = ("a*".repeat(5_000), "a".repeat(20_000));
        assert!(Pattern::new(pattern.clone()).matches(&text));
        assert!(!Pattern::new(pattern + "b").matches(&text));
    }

    #[test]
    fn a_selection_admits_names_by_its_patterns() {
        let names = ["a", "ab", "utm_x"];
        let admitted = |selection: Selection| names.map(|name| selection.admits(name));
        assert_eq!(admitted(Selection::None), [false; 3]);
        assert_eq!(admitted(Selection::default()), [true; 3]);
        assert_eq!(admitted(Selection::allow_list(["a", "utm_*"])), [true, false, true]);
        assert_eq!(admitted(Selection::all_except(["a", "utm_*"])), [false, true, false]);
        assert_eq!(admitted(Selection::allow_list([""; 0])), [false; 3]);
    }

    /// The definition.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|from| slow(rest, &text[from..])),
            Some((byte, rest)) => text
                .split_first()
                .is_some_and(|(own, after)| (*byte == b'?' || byte == own) && slow(rest, after)),
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_its_definition_matches(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(Pattern::new(&*pattern).matches(&text), slow(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
