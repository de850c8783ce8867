//! What was understood of a section, for people to read.

use toml::{Table, Value};

use crate::policy::section::Section;

/// A line for each key that is there.
pub fn section(section: &Section) -> String {
    let table = Table::try_from(section).unwrap_or_default();
    table.iter().map(|(key, value)| format!("    {key:<24} {}\n", shown(value))).collect()
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
