//! Ranges of statuses.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use http::StatusCode;
use thiserror::Error;

/// Statuses from one to another, both included: `404`, `200..=299`, [`StatusRange::SERVER_ERROR`]; as text `404`, `200-299` or
/// `5xx`.
///
/// ```
/// use http::StatusCode;
/// use larder::policy::StatusRange;
/// assert!(StatusRange::from(200..=204).contains(StatusCode::CREATED));
/// assert_eq!("5xx".parse(), Ok(StatusRange::SERVER_ERROR));
/// assert_eq!(StatusRange::from(404).to_string(), "404");
/// assert!("4x4".parse::<StatusRange>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StatusRange {
    first: u16,
    last: u16,
}

/// A text is no range of statuses.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a status, such as 404, a class of them, such as 5xx, or a range, such as 200-299, is expected")]
pub struct InvalidStatusRange;

impl StatusRange {
    /// 4xx.
    pub const CLIENT_ERROR: Self = Self { first: 400, last: 499 };
    /// 3xx.
    pub const REDIRECTION: Self = Self { first: 300, last: 399 };
    /// 5xx.
    pub const SERVER_ERROR: Self = Self { first: 500, last: 599 };
    /// 2xx.
    pub const SUCCESS: Self = Self { first: 200, last: 299 };

    /// Whether a status is in the range.
    pub fn contains(self, status: StatusCode) -> bool {
        (self.first..=self.last).contains(&status.as_u16())
    }

    /// Whether it is one status.
    pub(super) fn is_one(self) -> bool {
        self.first == self.last
    }

    /// How many statuses are in it.
    pub(super) fn len(self) -> u16 {
        (self.first..=self.last).len().try_into().unwrap_or(u16::MAX)
    }
}

impl From<RangeInclusive<u16>> for StatusRange {
    fn from(range: RangeInclusive<u16>) -> Self {
        Self { first: *range.start(), last: *range.end() }
    }
}

impl From<StatusCode> for StatusRange {
    fn from(status: StatusCode) -> Self {
        status.as_u16().into()
    }
}

impl From<u16> for StatusRange {
    fn from(status: u16) -> Self {
        Self { first: status, last: status }
    }
}

impl FromStr for StatusRange {
    type Err = InvalidStatusRange;

    fn from_str(text: &str) -> Result<Self, InvalidStatusRange> {
        let code = |text: &str| match text.as_bytes() {
            [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] => text.parse().map_err(|_| InvalidStatusRange),
            _ => Err(InvalidStatusRange),
        };
        if let Some((first, last)) = text.split_once('-') {
            let (first, last) = (code(first)?, code(last)?);
            return if first <= last { Ok(Self { first, last }) } else { Err(InvalidStatusRange) };
        }
        match text.as_bytes() {
            [class @ b'1'..=b'9', b'x' | b'X', b'x' | b'X'] => {
                let first = u16::from(class - b'0') * 100;
                Ok(Self { first, last: first + 99 })
            }
            _ => code(text).map(Self::from),
        }
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        if first == last {
            write!(f, "{first}")
        } else if first % 100 == 0 && u32::from(*last) == u32::from(*first) + 99 {
            write!(f, "{}xx", first / 100)
        } else {
            write!(f, "{first}-{last}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(u16, u16)>) {
        let range = text.parse::<StatusRange>().ok();
        assert_eq!(range.map(|range| (range.first, range.last)), expected, "{text:?}");
        if let Some(range) = range {
            assert_eq!(range.to_string().parse(), Ok(range), "{text:?}");
        }
    }

    #[test]
    fn kx6_a_range_of_statuses_is_one_status_a_class_or_a_span() {
        check("404", Some((404, 404)));
        check("5xx", Some((500, 599)));
        check("2XX", Some((200, 299)));
        check("200-299", Some((200, 299)));
        check("301-302", Some((301, 302)));
        check("404-404", Some((404, 404)));
        for invalid in [
            "", "4", "40", "4040", "099", "0xx", "4x4", "xx", "299-200", "200-", "-299", "200-2xx",
            "200..299",
        ] {
            check(invalid, None);
        }
        let status = |code| StatusCode::from_u16(code).expect("a status");
        let range = StatusRange::from(200..=204);
        assert!([200, 204].iter().all(|code| range.contains(status(*code))));
        assert!([199, 205].iter().all(|code| !range.contains(status(*code))));
        assert!(StatusRange::SUCCESS.len() == 100 && StatusRange::from(StatusCode::OK).is_one());
        #[expect(clippy::reversed_empty_ranges, reason = "it has no status in it")]
        let empty = StatusRange::from(300..=200);
        assert!(!empty.contains(status(250)) && !empty.contains(status(300)) && empty.len() == 0);
    }
}
