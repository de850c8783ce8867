//! Where the sections of a file are, and their keys.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// In which lines of a file its sections begin, and the keys in them; the first line is 1.
#[derive(Default)]
pub struct Places(BTreeMap<usize, Place>);

struct Place {
    keys: BTreeMap<String, usize>,
    line: usize,
}

/// The number of the section for every request. Behaviors are counted from 1.
pub const DEFAULT: usize = 0;

impl Places {
    pub fn of(text: &str, document: &DeTable<'_>) -> Self {
        let place = |(number, section, span): (usize, &DeTable<'_>, Range<usize>)| {
            let key = |key: &Spanned<_>| line(text, key.span().start);
            let keys = section.keys().map(|name| (name.get_ref().to_string(), key(name))).collect();
            (number, Place { keys, line: line(text, span.start) })
        };
        Self(sections(document).map(place).collect())
    }

    /// The keys of a section, in the order of their names.
    pub fn keys(&self, section: usize) -> impl Iterator<Item = &str> {
        self.0.get(&section).into_iter().flat_map(|place| place.keys.keys()).map(String::as_str)
    }

    /// Where a key of a section is, or the section if it does not have the key. `None` if there is no such section.
    pub fn line(&self, section: usize, key: &str) -> Option<usize> {
        self.0.get(&section).map(|place| place.keys.get(key).copied().unwrap_or(place.line))
    }
}

/// The sections of a file, with their numbers.
pub fn sections<'a, 'd>(
    document: &'a DeTable<'d>,
) -> impl Iterator<Item = (usize, &'a DeTable<'d>, Range<usize>)> {
    let default = document.get("default").into_iter().map(|section| (DEFAULT, section));
    let behaviors = match document.get("behavior").map(Spanned::get_ref) {
        Some(DeValue::Array(behaviors)) => &behaviors[..],
        _ => &[],
    };
    default.chain((1..).zip(behaviors)).filter_map(|(number, section)| match section.get_ref() {
        DeValue::Table(table) => Some((number, table, section.span())),
        _ => None,
    })
}

/// The line of a byte of a text.
pub fn line(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or_default();
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}
