//! What is wrong with a file: where, and what was meant perhaps.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::policy::places;

/// What is wrong with a file.
#[derive(Debug)]
pub struct PolicyError {
    file: Option<PathBuf>,
    line: Option<usize>,
    reason: String,
}

impl PolicyError {
    /// Of options alone.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { file: None, line: None, reason: reason.into() }
    }

    /// In this file.
    #[must_use]
    pub fn file(mut self, file: &Path) -> Self {
        self.file = Some(file.to_owned());
        self
    }

    /// In this line, the first being 1.
    #[must_use]
    pub fn line(mut self, line: usize) -> Self {
        self.line = Some(line);
        self
    }

    /// At these bytes of a text.
    #[must_use]
    pub fn at(self, text: &str, span: Option<Range<usize>>) -> Self {
        match span {
            Some(span) => self.line(places::line(text, span.start)),
            None => self,
        }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}", file.display())?;
            match self.line {
                Some(line) => write!(f, ":{line}: ")?,
                None => f.write_str(": ")?,
            }
        }
        f.write_str(&self.reason)
    }
}

/// The message of serde about a name that is not known, with the names that it may be; other messages as they are.
pub fn explained(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    let is_unknown = |what: &str| message.strip_prefix(what).map(|rest| rest.split('`').skip(1).step_by(2));
    let (kind, mut names) = match (is_unknown("unknown field "), is_unknown("unknown variant ")) {
        (Some(names), _) => ("key", names),
        (None, Some(names)) => ("value", names),
        // In the words of TOML.
        (None, None) => {
            let words = [
                ("a map", "a table"),
                ("type: map", "type: table"),
                ("a sequence", "a list"),
                ("type: sequence", "type: list"),
            ];
            return words
                .iter()
                .fold(message.to_owned(), |message, (serdes, tomls)| message.replace(serdes, tomls));
        }
    };
    let name = names.next().unwrap_or_default();
    unknown(kind, name, names)
}

/// Says that a name is not known, with the nearest of those that are, or all of them if none is near.
pub fn unknown<'a>(kind: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut known: Vec<_> = known.into_iter().map(|known| (distance(name, known), known)).collect();
    known.sort_unstable();
    let near: Vec<_> =
        known.iter().take_while(|(distance, _)| *distance <= 1 + name.len() / 4).take(3).collect();
    if near.is_empty() {
        known.sort_unstable_by_key(|(_, name)| *name);
        format!("unknown {kind} '{name}'; known are {}", listed(known.iter().map(|(_, name)| *name), "and"))
    } else {
        let near = listed(near.into_iter().map(|(_, name)| *name), "or");
        format!("unknown {kind} '{name}'; did you mean {near}?")
    }
}

/// A name of an open list that is so near to one that is known that it is a mistake.
pub fn mistaken<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let nearest = known.iter().map(|known| (distance(name, known), *known)).min()?;
    (1..=2).contains(&nearest.0).then_some(nearest.1)
}

/// Names in quotation marks, with a word before the last one.
pub fn listed<'a>(names: impl Iterator<Item = &'a str>, last: &str) -> String {
    joined(&names.map(|name| format!("'{name}'")).collect::<Vec<_>>(), last)
}

/// Names as they are, with a word before the last one.
pub fn joined<S: Borrow<str>>(names: &[S], last: &str) -> String {
    match names.split_last() {
        Some((end, rest)) if !rest.is_empty() => format!("{} {last} {}", rest.join(", "), end.borrow()),
        _ => names.concat(),
    }
}

/// How many characters are to be put in, left out, replaced or swapped with the next one to make one name of the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<_>, Vec<_>) = (one.chars().collect(), other.chars().collect());
    let mut rows = vec![(0..=other.len()).collect::<Vec<_>>()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(a != b);
            let mut least = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_edits() {
        for (one, other, edits) in [
            ("", "", 0),
            ("a", "", 1),
            ("lifetime", "lifetmie", 1),
            ("jiter", "jitter", 1),
            ("abc", "xyz", 3),
        ] {
            assert_eq!(distance(one, other), edits, "{one} {other}");
            assert_eq!(distance(other, one), edits, "{one} {other}");
        }
    }

    #[test]
    fn an_unknown_name_is_explained_by_the_nearest_known_ones() {
        for (message, explanation) in [
            (
                "unknown field `jiter`, expected one of `jitter`, `key`, `bypass`",
                "unknown key 'jiter'; did you mean 'jitter'?",
            ),
            (
                "unknown field `x`, expected `query` or `headers`",
                "unknown key 'x'; known are 'headers' and 'query'",
            ),
            ("unknown variant `fastli`, expected `fastly`", "unknown value 'fastli'; did you mean 'fastly'?"),
            ("invalid type: integer `1`, expected a string", "invalid type: integer `1`, expected a string"),
            ("invalid type: sequence, expected a map", "invalid type: list, expected a table"),
        ] {
            assert_eq!(explained(message), explanation);
        }
    }

    #[test]
    fn an_error_names_its_file_and_line() {
        let error = PolicyError::new("wrong").file(Path::new("a.toml"));
        assert_eq!(error.to_string(), "a.toml: wrong");
        assert_eq!(error.at("one\ntwo\nthree", Some(5..6)).to_string(), "a.toml:2: wrong");
    }
}
