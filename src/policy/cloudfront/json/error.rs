//! What is wrong with a file.

use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

/// Why CloudFront's JSON cannot be loaded: where, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    message: String,
    path: String,
    place: Option<(usize, usize)>,
}

impl JsonError {
    /// At a path, without a line.
    pub(super) fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { message: message.into(), path: path.into(), place: None }
    }

    /// The same with the line of its path in a text.
    pub(super) fn in_text(mut self, text: &str) -> Self {
        self.place = self.place.or_else(|| place_of(text, &self.path));
        self
    }

    /// The same about the member that the message begins with, where it is about what members say together.
    fn about_member(self, text: &str) -> Self {
        let member = self.message.strip_prefix('`').and_then(|rest| rest.split('`').next());
        let Some(member) = member else {
            return self;
        };
        let path = if self.path == "." { member.to_owned() } else { format!("{}.{member}", self.path) };
        match place_of(text, &path) {
            None => self,
            place => Self { path, place, ..self },
        }
    }

    /// The path to the value, such as `CachePolicyConfig.MinTTL`; `.` for the whole.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The line, from 1, where it is known.
    pub fn line(&self) -> Option<usize> {
        self.place.map(|(line, _)| line)
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        match &*self.path {
            "." => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

impl std::error::Error for JsonError {}

/// Reads a whole text.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, JsonError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        of(error.inner(), path).about_member(text)
    })?;
    reader.end().map_err(|error| of(&error, ".".into()))?;
    Ok(value)
}

fn of(error: &serde_json::Error, path: String) -> JsonError {
    let place = (error.line() > 0).then(|| (error.line(), error.column()));
    let whole = error.to_string();
    // It is said apart.
    let message = whole.rsplit_once(" at line ").map_or(&*whole, |(message, _)| message).to_owned();
    JsonError { message, path, place }
}

/// The line and the column of the value at a path, such as `CacheBehaviors[0].PathPattern`.
fn place_of(text: &str, path: &str) -> Option<(usize, usize)> {
    let segments: Vec<_> = path.split(['.', '[']).map(|name| name.trim_end_matches(']')).collect();
    let mut reader = serde_json::Deserializer::from_str(text);
    let error = Walk(&segments).deserialize(&mut reader).err()?;
    // Where nothing is at the path, reading ends with another error.
    (error.to_string().starts_with(HERE) && error.line() > 0).then(|| (error.line(), error.column()))
}

const HERE: &str = "here";

/// Goes down a path, and fails at its end: an error knows where it is.
struct Walk<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.0.is_empty() {
            return Err(D::Error::custom(HERE));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what a path leads to")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<String>()? {
            match self.0 {
                [next, rest @ ..] if *next == name => return members.next_value_seed(Walk(rest)),
                // A list with its length.
                [next, ..] if name == "Items" && next.parse::<usize>().is_ok() => {
                    return members.next_value_seed(Walk(self.0));
                }
                _ => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Some((Ok(index), rest)) = self.0.split_first().map(|(next, rest)| (next.parse::<usize>(), rest))
        else {
            return Ok(());
        };
        for _ in 0..index {
            let _ = items.next_element::<IgnoredAny>()?;
        }
        items.next_element_seed(Walk(rest)).map(|_| ())
    }
}
