//! What was understood, for people to read.

use std::fmt::Write;

use toml::{Table, Value};

use crate::policy::Source;
use crate::policy::profile::Profile;
use crate::policy::section::{File, Section};

/// A line for each thing that is said.
pub fn file(source: &Source, profile: Profile, file: &File) -> String {
    let mut text = format!("profile {profile}\n");
    for name in &source.key_headers {
        let _ = writeln!(text, "in every key, by option: {name}");
    }
    text.push_str("every request:\n");
    section(&mut text, &file.default);
    for (number, behavior) in (1..).zip(&file.behavior) {
        let matcher = behavior.matcher.as_ref().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, "behavior {number}, {matcher}:");
        section(&mut text, behavior);
    }
    text
}

fn section(text: &mut String, section: &Section) {
    let table = Table::try_from(section).unwrap_or_default();
    if table.is_empty() {
        text.push_str("    as the profile says\n");
    }
    for (key, value) in table {
        let _ = writeln!(text, "    {key:<24} {}", shown(&value));
    }
}

/// A value on one line.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Boolean(true) => "yes".to_owned(),
        Value::Boolean(false) => "no".to_owned(),
        Value::Table(table) => {
            let pairs: Vec<_> = table.iter().map(|(key, value)| format!("{key} {}", shown(value))).collect();
            pairs.join("; ")
        }
        other => other.to_string(),
    }
}
