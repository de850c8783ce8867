//! Times, sizes, shares and statuses.

use std::time::Duration;

use http::StatusCode;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;

use super::OffOr;
use crate::units;

/// A time: a text such as `90s` or `1h30m`, or a number of seconds.
#[derive(Clone, Copy)]
pub struct Time(pub Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let time = match Value::deserialize(deserializer)? {
            Value::Integer(seconds) => u64::try_from(seconds)
                .map(Duration::from_secs)
                .map_err(|_| format!("'{seconds}' is not a time; it is below 0")),
            Value::String(text) => units::time(&text),
            other => Err(format!("{other} is not a time; one looks like \"90s\"")),
        };
        time.map(Self).map_err(D::Error::custom)
    }
}

impl OffOr for Time {
    const LOOKS: &str = "a time such as \"90s\"";
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
                u64::try_from(bytes).map_err(|_| format!("'{bytes}' is not a size; it is below 0"))
            }
            Value::String(text) => units::size(&text),
            other => Err(format!("{other} is not a size; one looks like \"64KiB\"")),
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

/// A status: a number.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Status(pub StatusCode);

impl TryFrom<u16> for Status {
    type Error = String;

    fn try_from(number: u16) -> Result<Self, String> {
        match StatusCode::from_u16(number) {
            Ok(status) if status.as_u16() < 600 => Ok(Self(status)),
            _ => Err(format!("'{number}' is not a status; they are 100 to 599")),
        }
    }
}

impl Status {
    /// Of an error, as a text: the key of a table.
    pub fn of_error(text: &str) -> Result<StatusCode, String> {
        let status = text.parse::<StatusCode>().ok();
        status
            .filter(|status| status.is_client_error() || status.is_server_error())
            .ok_or_else(|| format!("'{text}' is not a status of an error"))
    }
}

impl From<Status> for u16 {
    fn from(status: Status) -> Self {
        status.0.as_u16()
    }
}
