//! The values of a policy file: what each may be, and how it is shown.

mod choices;
mod lifetimes;
mod numbers;
mod pages;
mod tags;

use std::time::Duration;

use http::Method;
use http::header::HeaderName;
use larder::policy::Pattern;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;

pub use self::choices::{
    CodingsValue, Comparison, CredentialsValue, HeuristicValue, LevelsValue, VaryChoices,
};
pub use self::lifetimes::{AdmissionRule, LifetimeValue, ShortErrors, StatusLifetimes, StatusTimes};
pub use self::numbers::{Percent, Size, Status, Time};
pub use self::pages::ErrorPages;
pub use self::tags::{ExcessTagsValue, TagFieldName};

/// Reads a value that a text stands for.
macro_rules! by_text {
    ($type:ident, $read:expr, $show:expr) => {
        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                let read: fn(&str) -> Result<Self, String> = $read;
                read(&text)
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                let show: fn($type) -> String = $show;
                show(value)
            }
        }
    };
}

pub(in crate::policy) use by_text;

/// A name of fields.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(pub HeaderName);

by_text!(
    Name,
    |text| text.parse().map(Self).map_err(|_| format!("'{text}' can't be the name of a field")),
    |name| name.0.as_str().to_owned()
);

/// The names of a list.
pub fn names(list: &List<Name>) -> impl Iterator<Item = HeaderName> {
    list.0.iter().map(|name| name.0.clone())
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct MethodName(pub Method);

by_text!(
    MethodName,
    |text| {
        let is_upper = !text.bytes().any(|byte| byte.is_ascii_lowercase());
        let method = text.parse().ok().filter(|_| is_upper);
        method.map(Self).ok_or_else(|| format!("'{text}' is not a method; one looks like GET"))
    },
    |method| method.0.as_str().to_owned()
);

/// A pattern with `*` and `?`.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PatternText(pub Pattern);

by_text!(PatternText, |text| Ok(Self(Pattern::new(text))), |pattern| pattern.0.as_str().to_owned());

/// A reason, as `Cache-Status` has it.
#[derive(Clone, Serialize)]
#[serde(into = "String")]
pub struct Word(pub String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = match Value::deserialize(deserializer)? {
            Value::String(text) => text.try_into(),
            other => Err(format!("{other} is not a reason; say a word, such as \"admin\"")),
        };
        word.map_err(D::Error::custom)
    }
}

by_text!(
    Word,
    |text| {
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        match text.bytes().all(is_word) && (1..=64).contains(&text.len()) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("'{text}' is not a reason; it is a word of a-z, 0-9 and -")),
        }
    },
    |word| word.0
);

/// One value, or a list of them.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct List<T>(pub Vec<T>);

impl List<String> {
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = match Value::deserialize(deserializer)? {
            Value::Array(values) => values,
            value => vec![value],
        };
        values.into_iter().map(inner).collect::<Result<_, _>>().map(Self)
    }
}

/// A value, or `false` for none.
#[derive(Clone, Copy)]
pub struct Off<T>(pub Option<T>);

/// What `false` can be in the place of.
pub trait OffOr: DeserializeOwned {
    /// What it looks like.
    const LOOKS: &str;
}

impl<'de, T: OffOr> Deserialize<'de> for Off<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Boolean(false) => Ok(Self(None)),
            Value::Boolean(true) => {
                Err(D::Error::custom(format!("'true' says too little; this is 'false', or {}", T::LOOKS)))
            }
            value => inner(value).map(|value| Self(Some(value))),
        }
    }
}

impl From<Off<Time>> for Option<Duration> {
    fn from(value: Off<Time>) -> Self {
        value.0.map(|time| time.0)
    }
}

impl<T: Serialize> Serialize for Off<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(value) => value.serialize(serializer),
            None => serializer.serialize_bool(false),
        }
    }
}

/// Reads a value that is part of another one.
pub(in crate::policy) fn inner<T: DeserializeOwned, E: serde::de::Error>(value: Value) -> Result<T, E> {
    T::deserialize(value).map_err(|error| E::custom(error.message()))
}

/// What can be switched on, and not off again.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(try_from = "bool", into = "bool")]
pub struct On;

impl TryFrom<bool> for On {
    type Error = &'static str;

    fn try_from(on: bool) -> Result<Self, &'static str> {
        if on { Ok(Self) } else { Err("this is 'true', or left out") }
    }
}

impl From<On> for bool {
    fn from(_: On) -> Self {
        true
    }
}

/// A secret, which is not shown.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("set")
    }
}

/// A field that has a secret.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a table with 'field' and 'secret'")]
pub struct SecretField {
    pub field: Name,
    pub secret: Secret,
}
