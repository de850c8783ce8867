//! Values that CloudFront spells in several ways.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use http::StatusCode;
use http::header::HeaderName;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A list: plain, as CloudFormation has it, or with its length, as the API does.
#[derive(Debug)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(ListVisitor { extras: &[], of: PhantomData })
            .map(|list| Self(list.items))
    }
}

/// A list with further members beside its items.
pub(super) struct ListVisitor<T> {
    /// Members that do not matter here.
    pub(super) extras: &'static [&'static str],
    pub(super) of: PhantomData<T>,
}

/// What a [`ListVisitor`] finds.
pub(super) struct Listed<T> {
    /// `Enabled`, where that is an extra member.
    pub(super) enabled: Option<bool>,
    /// `CachedMethods`, where that is an extra member.
    pub(super) cached: Option<Vec<T>>,
    pub(super) items: Vec<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = Listed<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list, or an object with `Quantity` and `Items`")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Listed { enabled: None, cached: None, items: Vec::new() })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = members.next_element()? {
            items.push(item);
        }
        Ok(Listed { enabled: None, cached: None, items })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let (mut quantity, mut items) = (None, None);
        let mut listed = Listed { enabled: None, cached: None, items: Vec::new() };
        while let Some(name) = members.next_key::<String>()? {
            let is_extra = self.extras.contains(&&*name);
            match &*name {
                "Quantity" => quantity = Some(members.next_value::<usize>()?),
                "Items" => items = members.next_value::<Option<Vec<T>>>()?,
                "Enabled" if is_extra => listed.enabled = Some(members.next_value()?),
                "CachedMethods" if is_extra => listed.cached = Some(members.next_value::<List<T>>()?.0),
                _ if is_extra => drop(members.next_value::<IgnoredAny>()?),
                _ => {
                    return Err(A::Error::custom(format!(
                        "unknown field `{name}`, expected `Quantity` or `Items`"
                    )));
                }
            }
        }
        let items = items.unwrap_or_default();
        match quantity {
            None => Err(A::Error::missing_field("Quantity")),
            Some(quantity) if quantity != items.len() => {
                let message = format!("`Quantity` is {quantity}, but there are {} `Items`", items.len());
                Err(A::Error::custom(message))
            }
            Some(_) => Ok(Listed { items, ..listed }),
        }
    }
}

/// Seconds, up to a hundred years.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seconds(pub(super) Duration);

const MOST_SECONDS: u64 = 100 * 31_536_000;

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = Seconds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds from 0 to 3153600000 (a hundred years)")
            }

            fn visit_u64<E: Error>(self, seconds: u64) -> Result<Seconds, E> {
                if seconds > MOST_SECONDS {
                    return Err(E::invalid_value(serde::de::Unexpected::Unsigned(seconds), &self));
                }
                Ok(Seconds(Duration::from_secs(seconds)))
            }

            /// For formats with signed numbers only, such as TOML.
            fn visit_i64<E: Error>(self, seconds: i64) -> Result<Seconds, E> {
                match u64::try_from(seconds) {
                    Ok(seconds) => self.visit_u64(seconds),
                    Err(_) => Err(E::invalid_value(serde::de::Unexpected::Signed(seconds), &self)),
                }
            }

            /// `60.0` is what some tools make of `60`.
            fn visit_f64<E: Error>(self, seconds: f64) -> Result<Seconds, E> {
                let whole = Duration::try_from_secs_f64(seconds).ok().filter(|time| time.subsec_nanos() == 0);
                match whole {
                    Some(time) => self.visit_u64(time.as_secs()),
                    None => Err(E::invalid_value(serde::de::Unexpected::Float(seconds), &self)),
                }
            }
        }

        deserializer.deserialize_any(Number)
    }
}

/// The name of a field.
#[derive(Debug)]
pub(super) struct FieldName(pub(super) HeaderName);

impl<'de> Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let parsed = HeaderName::from_bytes(name.as_bytes());
        parsed.map(Self).map_err(|_| D::Error::custom(format!("`{name}` is not the name of a header")))
    }
}

/// A status, as a number or as text; empty text is none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Status(pub(super) Option<StatusCode>);

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Code;

        impl Visitor<'_> for Code {
            type Value = Status;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an HTTP status such as 404")
            }

            fn visit_u64<E: Error>(self, code: u64) -> Result<Status, E> {
                let status = u16::try_from(code).ok().filter(|code| (200..600).contains(code));
                match status.and_then(|code| StatusCode::from_u16(code).ok()) {
                    Some(status) => Ok(Status(Some(status))),
                    None => Err(E::invalid_value(serde::de::Unexpected::Unsigned(code), &self)),
                }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Status, E> {
                match text.parse() {
                    _ if text.is_empty() => Ok(Status(None)),
                    Ok(code) => self.visit_u64(code),
                    Err(_) => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(Code)
    }
}
