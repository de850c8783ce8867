//! How long something is kept, and for which statuses.

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use larder::policy::{Admission, Lifetime, StatusRange};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;

use super::{Status, Time, inner};

/// Lifetimes by statuses, which are texts: `404`, `200-299` or `5xx`.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "BTreeMap<String, LifetimeValue>", into = "BTreeMap<String, LifetimeValue>")]
pub struct StatusLifetimes(pub Vec<(StatusRange, LifetimeValue)>);

impl TryFrom<BTreeMap<String, LifetimeValue>> for StatusLifetimes {
    type Error = String;

    fn try_from(table: BTreeMap<String, LifetimeValue>) -> Result<Self, String> {
        let has =
            |range: StatusRange, status| StatusCode::from_u16(status).is_ok_and(|it| range.contains(it));
        let read = |(text, lifetime): (String, LifetimeValue)| match text.parse() {
            Ok(range) if (600..=999).any(|status| has(range, status)) => {
                Err(format!("'{text}' is not a status; they are 100 to 599"))
            }
            Ok(range) => Ok((range, lifetime)),
            Err(error) => Err(format!("'{text}' is not a status: {error}")),
        };
        table.into_iter().map(read).collect::<Result<_, String>>().map(Self)
    }
}

impl From<StatusLifetimes> for BTreeMap<String, LifetimeValue> {
    fn from(lifetimes: StatusLifetimes) -> Self {
        lifetimes.0.into_iter().map(|(range, lifetime)| (range.to_string(), lifetime)).collect()
    }
}

/// Times by statuses of errors, which are texts: `404`.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "BTreeMap<String, Time>", into = "BTreeMap<String, Time>")]
pub struct StatusTimes(pub Vec<(StatusCode, Duration)>);

impl TryFrom<BTreeMap<String, Time>> for StatusTimes {
    type Error = String;

    fn try_from(table: BTreeMap<String, Time>) -> Result<Self, String> {
        let read = |(text, time): (String, Time)| Ok((Status::of_error(&text)?, time.0));
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

/// How long a server error is kept, and how long it is served stale then.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a table with 'lifetime' and 'stale'")]
pub struct ShortErrors {
    pub lifetime: Time,
    pub stale: Time,
}

/// After how many requests a response is stored, and within which time they count.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(try_from = "AdmissionTable", into = "AdmissionTable")]
pub struct AdmissionRule(AdmissionTable);

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a table with 'after', 'near_at_once' and 'within'")]
struct AdmissionTable {
    after: u8,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    near_at_once: bool,
    within: Option<Time>,
}

impl TryFrom<AdmissionTable> for AdmissionRule {
    type Error = &'static str;

    fn try_from(table: AdmissionTable) -> Result<Self, &'static str> {
        if table.after == 0 {
            return Err("'after' is 1 or more; with 1, the first request is enough");
        }
        if table.within.is_some_and(|time| time.0.is_zero()) {
            return Err("'within' is above 0; requests count for so long");
        }
        Ok(Self(table))
    }
}

impl From<AdmissionRule> for AdmissionTable {
    fn from(rule: AdmissionRule) -> Self {
        rule.0
    }
}

impl From<AdmissionRule> for Admission {
    fn from(rule: AdmissionRule) -> Self {
        let AdmissionTable { after, near_at_once, within } = rule.0;
        let admission = Self::after(after);
        let admission = if near_at_once { admission.near_at_once() } else { admission };
        within.map_or(admission.clone(), |time| admission.within(time.0))
    }
}
