//! The values of a policy file: what each may be, and how it is shown.

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::HeaderName;
use http::{Method, StatusCode};
use larder::policy::fastly::{ExcessTags, TagField};
use larder::policy::{Admission, Lifetime, Pattern, StatusRange};
use larder::semantics::Credentials;
use larder::semantics::accept::{Codings, Languages};
use larder::semantics::freshness::Heuristic;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;

use crate::units;

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

pub(super) use by_text;

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
        method.map(Self).ok_or_else(|| format!("'{text}' is no method; one looks like GET"))
    },
    |method| method.0.as_str().to_owned()
);

/// A pattern with `*` and `?`.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PatternText(pub Pattern);

by_text!(PatternText, |text| Ok(Self(Pattern::new(text))), |pattern| pattern.0.as_str().to_owned());

/// A reason, as `Cache-Status` has it.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Word(pub String);

by_text!(
    Word,
    |text| {
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        match text.bytes().all(is_word) && (1..=64).contains(&text.len()) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("'{text}' is no reason; it is a word of a-z, 0-9 and -")),
        }
    },
    |word| word.0
);

/// A time: a text such as `90s` or `1h30m`, or a number of seconds.
#[derive(Clone, Copy)]
pub struct Time(pub Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let time = match Value::deserialize(deserializer)? {
            Value::Integer(seconds) => u64::try_from(seconds)
                .map(Duration::from_secs)
                .map_err(|_| format!("'{seconds}' is no time; it is below 0")),
            Value::String(text) => units::time(&text),
            other => Err(format!("{other} is no time; one looks like \"90s\"")),
        };
        time.map(Self).map_err(D::Error::custom)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&units::show_time(self.0))
    }
}

/// A number of bytes: a text such as `64KiB`, or a number.
#[derive(Clone, Copy)]
pub struct Size(pub u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let size = match Value::deserialize(deserializer)? {
            Value::Integer(bytes) => {
                u64::try_from(bytes).map_err(|_| format!("'{bytes}' is no size; it is below 0"))
            }
            Value::String(text) => units::size(&text),
            other => Err(format!("{other} is no size; one looks like \"64KiB\"")),
        };
        size.map(Self).map_err(D::Error::custom)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&units::show_size(self.0))
    }
}

/// A share, from 0 to 100.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Percent(pub u8);

impl TryFrom<u8> for Percent {
    type Error = String;

    fn try_from(percent: u8) -> Result<Self, String> {
        if percent <= 100 { Ok(Self(percent)) } else { Err(format!("'{percent}' is more than 100 percent")) }
    }
}

impl From<Percent> for u8 {
    fn from(percent: Percent) -> Self {
        percent.0
    }
}

/// Lifetimes by statuses, which are texts: `404`, `200-299` or `5xx`.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "BTreeMap<String, LifetimeValue>", into = "BTreeMap<String, LifetimeValue>")]
pub struct StatusLifetimes(pub Vec<(StatusRange, LifetimeValue)>);

impl TryFrom<BTreeMap<String, LifetimeValue>> for StatusLifetimes {
    type Error = String;

    fn try_from(table: BTreeMap<String, LifetimeValue>) -> Result<Self, String> {
        let read = |(text, lifetime): (String, LifetimeValue)| match text.parse() {
            Ok(range) => Ok((range, lifetime)),
            Err(error) => Err(format!("'{text}' is no status: {error}")),
        };
        table.into_iter().map(read).collect::<Result<_, String>>().map(Self)
    }
}

impl From<StatusLifetimes> for BTreeMap<String, LifetimeValue> {
    fn from(lifetimes: StatusLifetimes) -> Self {
        lifetimes.0.into_iter().map(|(range, lifetime)| (range.to_string(), lifetime)).collect()
    }
}

/// Times by statuses, which are texts: `404`.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "BTreeMap<String, Time>", into = "BTreeMap<String, Time>")]
pub struct StatusTimes(pub Vec<(StatusCode, Duration)>);

impl TryFrom<BTreeMap<String, Time>> for StatusTimes {
    type Error = String;

    fn try_from(table: BTreeMap<String, Time>) -> Result<Self, String> {
        let read = |(text, time): (String, Time)| match text.parse() {
            Ok(status) => Ok((status, time.0)),
            Err(_) => Err(format!("'{text}' is no status")),
        };
        table.into_iter().map(read).collect::<Result<_, String>>().map(Self)
    }
}

impl From<StatusTimes> for BTreeMap<String, Time> {
    fn from(times: StatusTimes) -> Self {
        times.0.into_iter().map(|(status, time)| (status.as_u16().to_string(), Time(time))).collect()
    }
}

/// A lifetime: a time, which counts where the response states none, or a table that says how it counts.
#[derive(Clone, Copy)]
pub struct LifetimeValue(How);

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum How {
    AtLeast(Time),
    AtMost(Time),
    Exactly(Time),
    UnlessStated(Time),
}

impl<'de> Deserialize<'de> for LifetimeValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            table @ Value::Table(_) => inner(table).map(Self),
            time => inner(time).map(|time| Self(How::UnlessStated(time))),
        }
    }
}

impl Serialize for LifetimeValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            How::UnlessStated(time) => time.serialize(serializer),
            how => how.serialize(serializer),
        }
    }
}

impl From<LifetimeValue> for Lifetime {
    fn from(value: LifetimeValue) -> Self {
        match value.0 {
            How::AtLeast(time) => Self::at_least(time.0),
            How::AtMost(time) => Self::at_most(time.0),
            How::Exactly(time) => Self::exactly(time.0),
            How::UnlessStated(time) => Self::unless_stated(time.0),
        }
    }
}

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

impl<'de, T: DeserializeOwned> Deserialize<'de> for Off<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Boolean(false) => Ok(Self(None)),
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
pub(super) fn inner<T: DeserializeOwned, E: serde::de::Error>(value: Value) -> Result<T, E> {
    T::deserialize(value).map_err(|error| E::custom(error.message()))
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(
    untagged,
    expecting = "codings are \"as-sent\", \"negotiated\", a list of names, or a list under 'cloudfront', 'fastly' or 'one_of'"
)]
pub enum CodingsValue {
    How(Comparison),
    Known(Vec<String>),
    Form(CodingsForm),
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CodingsForm {
    Cloudfront(Vec<String>),
    Fastly(Vec<String>),
    OneOf(Vec<String>),
}

/// How a field of negotiation is compared.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    AsSent,
    Negotiated,
}

impl From<CodingsValue> for Codings {
    fn from(value: CodingsValue) -> Self {
        match &value {
            CodingsValue::How(Comparison::AsSent) => Self::AsSent,
            CodingsValue::How(Comparison::Negotiated) => Self::Negotiated,
            CodingsValue::Known(names) => Self::known(texts(names)),
            CodingsValue::Form(CodingsForm::Cloudfront(names)) => Self::cloudfront(texts(names)),
            CodingsValue::Form(CodingsForm::Fastly(names)) => Self::fastly(texts(names)),
            CodingsValue::Form(CodingsForm::OneOf(names)) => Self::one_of(texts(names)),
        }
    }
}

fn texts(names: &[String]) -> impl Iterator<Item = &str> {
    names.iter().map(String::as_str)
}

impl From<Comparison> for Languages {
    fn from(value: Comparison) -> Self {
        match value {
            Comparison::AsSent => Self::AsSent,
            Comparison::Negotiated => Self::Negotiated,
        }
    }
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialsValue {
    Explicit,
    Rfc9111,
}

impl From<CredentialsValue> for Credentials {
    fn from(value: CredentialsValue) -> Self {
        match value {
            CredentialsValue::Explicit => Self::Explicit,
            CredentialsValue::Rfc9111 => Self::Rfc9111,
        }
    }
}

/// Heuristic freshness; what is left out is as by default.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HeuristicValue {
    errors: Option<bool>,
    most: Option<Time>,
    percent: Option<u32>,
}

impl From<HeuristicValue> for Heuristic {
    fn from(value: HeuristicValue) -> Self {
        let mut heuristic = Self::default();
        heuristic.errors = value.errors.unwrap_or(heuristic.errors);
        heuristic.most = value.most.map_or(heuristic.most, |most| most.0);
        heuristic.percent = value.percent.unwrap_or(heuristic.percent);
        heuristic
    }
}

/// A status: a number.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Status(pub StatusCode);

impl TryFrom<u16> for Status {
    type Error = String;

    fn try_from(number: u16) -> Result<Self, String> {
        StatusCode::from_u16(number).map(Self).map_err(|_| format!("'{number}' is no status"))
    }
}

impl From<Status> for u16 {
    fn from(status: Status) -> Self {
        status.0.as_u16()
    }
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

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExcessTagsValue {
    Ignore,
    Refuse,
}

impl From<ExcessTagsValue> for ExcessTags {
    fn from(value: ExcessTagsValue) -> Self {
        match value {
            ExcessTagsValue::Ignore => Self::Ignore,
            ExcessTagsValue::Refuse => Self::Refuse,
        }
    }
}

/// How long a server error is kept, and how long it is served stale then.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ShortErrors {
    pub lifetime: Time,
    pub stale: Time,
}

/// A field with tags: its name, with a comma at the end if commas are between the tags, and not spaces.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct TagFieldName {
    is_listed: bool,
    name: Name,
}

by_text!(
    TagFieldName,
    |text| {
        let (name, is_listed) = text.strip_suffix(',').map_or((text, false), |name| (name, true));
        Ok(Self { is_listed, name: name.to_owned().try_into()? })
    },
    |field| format!("{}{}", field.name.0, if field.is_listed { "," } else { "" })
);

impl From<TagFieldName> for TagField {
    fn from(field: TagFieldName) -> Self {
        if field.is_listed { Self::listed(field.name.0) } else { Self::spaced(field.name.0) }
    }
}

/// After how many requests a response is stored, and within which time they count.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AdmissionRule {
    after: u8,
    within: Option<Time>,
}

impl From<AdmissionRule> for Admission {
    fn from(rule: AdmissionRule) -> Self {
        let admission = Self::after(rule.after);
        rule.within.map_or(admission.clone(), |time| admission.within(time.0))
    }
}
