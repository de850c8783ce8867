//! Options of the proxy as they are given: on the command line, or in a file of TOML whose keys have the names of options.
//!
//! ```toml
//! listen = "0.0.0.0:443"
//! upstream = ["http://10.0.0.1:8080", "http://10.0.0.2:8080"]
//! health-path = "/health"
//! ```

use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::policy::{PolicyError as FileError, explained, unknown};
use crate::store;
use crate::usage::options;

/// Options that may be given more than once.
pub const LISTS: [&str; 7] = ["asn-db", "edge", "geo-db", "key-header", "slice-path", "store", "upstream"];

/// Options without a value.
pub const SWITCHES: [&str; 3] = ["graphql", "lease", "viewer-headers"];

/// An option as it was given.
pub struct Given {
    pub name: String,
    value: OsString,
    place: Place,
}

/// Where an option was given.
#[derive(Clone)]
enum Place {
    CommandLine,
    Line { file: PathBuf, line: usize },
}

impl Given {
    pub fn flag(name: &str, value: OsString) -> Self {
        Self { name: name.to_owned(), value, place: Place::CommandLine }
    }

    pub fn text(&self) -> Result<&str, String> {
        self.value.to_str().ok_or_else(|| format!("the value of --{} is not text", self.name))
    }

    /// A path in a file is relative to the file's folder.
    pub fn path(&self) -> PathBuf {
        self.relative(&self.value)
    }

    /// A path that is a part of the value.
    pub fn relative(&self, path: impl AsRef<Path>) -> PathBuf {
        match &self.place {
            Place::CommandLine => path.as_ref().to_owned(),
            Place::Line { file, .. } => file.parent().unwrap_or(Path::new("")).join(path),
        }
    }

    /// A path, or `-`, which is no file.
    pub fn file_or_dash(&self) -> PathBuf {
        if self.value == "-" { PathBuf::from("-") } else { self.path() }
    }

    /// What is wrong with it, and where it stands if it is in a file.
    pub fn wrong(&self, reason: String) -> String {
        match &self.place {
            Place::CommandLine => reason,
            Place::Line { file, line } => FileError::new(reason).file(file).line(*line).to_string(),
        }
    }
}

/// As in a file; on one line.
impl std::fmt::Display for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.value.to_string_lossy();
        match self.name.as_str() {
            name if SWITCHES.contains(&name) => write!(f, "{name} = true"),
            name @ "store" => write!(f, "{name} = {:?}", store::without_password(&value)),
            name => write!(f, "{name} = {value:?}"),
        }
    }
}

/// The options of a file, and then those of the command line, as far as they are not the same ones: these outweigh the file.
pub fn merged(file: Option<&Path>, flags: Vec<Given>) -> Result<Vec<Given>, String> {
    let mut given = match file {
        Some(file) => read(file).map_err(|error| error.file(file).to_string())?,
        None => Vec::new(),
    };
    given.retain(|given| flags.iter().all(|flag| flag.name != given.name));
    given.extend(flags);
    Ok(given)
}

fn read(file: &Path) -> Result<Vec<Given>, FileError> {
    let text =
        std::fs::read_to_string(file).map_err(|error| FileError::new(format!("can't be read: {error}")))?;
    let wrong = |reason: String, span: Option<Range<usize>>| FileError::new(reason).at(&text, span);
    let document = DeTable::parse(&text).map_err(|error| wrong(explained(error.message()), error.span()))?;
    let mut given = Vec::new();
    for (key, value) in document.get_ref() {
        let (name, span) = (key.get_ref().as_ref(), value.span());
        if name == "config" || !options().any(|known| known == name) {
            let known = options().filter(|known| *known != "config");
            return Err(wrong(unknown("option", name, known), Some(key.span())));
        }
        let values = values(name, value).map_err(|reason| wrong(reason, Some(span)))?;
        for (value, span) in values {
            let line = text.as_bytes()[..span.start].iter().filter(|byte| **byte == b'\n').count() + 1;
            let place = Place::Line { file: file.to_owned(), line };
            given.push(Given { name: name.to_owned(), value, place });
        }
    }
    Ok(given)
}

/// The values of one key, each with its place.
fn values(name: &str, value: &Spanned<DeValue<'_>>) -> Result<Vec<(OsString, Range<usize>)>, String> {
    if SWITCHES.contains(&name) {
        return match value.get_ref() {
            DeValue::Boolean(true) => Ok(vec![(OsString::new(), value.span())]),
            DeValue::Boolean(false) => Ok(Vec::new()),
            _ => Err(format!("'{name}' is true or false")),
        };
    }
    match value.get_ref() {
        DeValue::Array(list) if LISTS.contains(&name) => list.iter().map(|value| one(name, value)).collect(),
        DeValue::Array(_) => Err(format!("'{name}' has one value, not a list")),
        _ => one(name, value).map(|one| vec![one]),
    }
}

fn one(name: &str, value: &Spanned<DeValue<'_>>) -> Result<(OsString, Range<usize>), String> {
    let text = match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        // TOML has them with `_` between digits.
        DeValue::Integer(number) => number.to_string().replace('_', ""),
        DeValue::Float(number) => number.to_string().replace('_', ""),
        _ => return Err(format!("'{name}' needs a text or a number")),
    };
    Ok((text.into(), value.span()))
}
