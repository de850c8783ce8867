//! Byte ranges of a representation of known length (RFC 9110 14).

use std::time::SystemTime;

use http::Method;
use http::header::{self, HeaderMap};

use super::date;
use super::etag::EntityTag;
use super::fields::trim;

/// More ranges than this in one request are ignored: no client needs them, and they are expensive.
const MOST: usize = 64;

/// A longer field is ignored: the most ranges with the largest numbers are shorter.
const LONGEST: usize = 4096;

/// Bytes `first..=last` of a representation; never empty, never beyond its end. Exhaustive on purpose: there is nothing else
/// to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub first: u64,
    /// The last byte.
    pub last: u64,
}

impl ByteRange {
    /// The number of bytes.
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub fn len(&self) -> u64 {
        self.last - self.first + 1
    }
}

/// The `Range` with which the inner service is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SentRange {
    /// As the client sent it, with the client's conditions.
    Clients,
    /// What is missing of a stored part. The status of this answer is reported, because the client gets another one.
    Missing,
    None,
}

impl SentRange {
    /// Of a request that `has_range`, or of one for what is missing of a stored part (`is_completion`). Without anything
    /// whole to validate (`has_whole`), a range is the inner service's to cut.
    pub(crate) fn of(method: &Method, has_range: bool, is_completion: bool, has_whole: bool) -> Self {
        if is_completion {
            Self::Missing
        } else if has_range && *method == Method::GET && !has_whole {
            Self::Clients
        } else {
            Self::None
        }
    }
}

/// What `Range` asks of a representation of known length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// All of it: the field is absent, of an unknown unit, malformed, or a set that no honest client sends.
    Everything,
    /// These ranges, in the order asked for; at least one, none overlapping another.
    Ranges(Vec<ByteRange>),
    /// Nothing that exists: 416.
    Unsatisfiable,
}

/// Reads `Range` of a GET (RFC 9110 14.2).
///
/// A field that is malformed anywhere is ignored as a whole. So are fields of more than 4 KiB, sets of more than 64 ranges
/// and sets that ask for a byte twice, which only an attack does (RFC 9110 17.15).
pub(crate) fn asked(request: &HeaderMap, length: u64) -> Asked {
    let mut lines = request.get_all(header::RANGE).into_iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Asked::Everything;
    };
    if line.len() > LONGEST {
        return Asked::Everything;
    }
    match parse(line.as_bytes(), length) {
        None => Asked::Everything,
        Some(ranges) if ranges.is_empty() => Asked::Unsatisfiable,
        Some(ranges) if overlap(&ranges) => Asked::Everything,
        Some(ranges) => Asked::Ranges(ranges),
    }
}

/// Where the first of the bytes lies that a GET asks for, as far as that can be said of a representation whose length nobody
/// knows: at the beginning, where one of its ranges is counted from the end, or there is none.
pub(crate) fn begins_at(request: &HeaderMap) -> u64 {
    let is_suffix = |spec: &[u8]| trim(spec).starts_with(b"-");
    let has_suffix = |line: &[u8]| line.split(|&byte| byte == b',' || byte == b'=').any(is_suffix);
    match asked(request, u64::MAX) {
        Asked::Ranges(ranges)
            if !request.get_all(header::RANGE).iter().any(|line| has_suffix(line.as_bytes())) =>
        {
            ranges.iter().map(|range| range.first).min().unwrap_or_default()
        }
        _ => 0,
    }
}

/// The satisfiable ranges; `None` if the field has to be ignored.
fn parse(line: &[u8], length: u64) -> Option<Vec<ByteRange>> {
    let (unit, set) = line.split_at_checked(line.iter().position(|&byte| byte == b'=')?)?;
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut ranges = Vec::new();
    let mut named = 0;
    for spec in set[1..].split(|&byte| byte == b',').map(trim) {
        if spec.is_empty() {
            continue; // RFC 9110 5.6.1.2
        }
        named += 1;
        if named > MOST {
            return None;
        }
        let dash = spec.iter().position(|&byte| byte == b'-')?;
        let (first, last) = (&spec[..dash], &spec[dash + 1..]);
        let range = match (first, last) {
            (b"", suffix) => {
                let suffix = number(suffix)?.min(length);
                (suffix > 0).then(|| ByteRange { first: length - suffix, last: length - 1 })
            }
            (first, b"") => open_end(number(first)?, length),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                if last < first {
                    return None;
                }
                open_end(first, length).map(|range| ByteRange { last: range.last.min(last), ..range })
            }
        };
        ranges.extend(range);
    }
    (named > 0).then_some(ranges)
}

fn open_end(first: u64, length: u64) -> Option<ByteRange> {
    (first < length).then(|| ByteRange { first, last: length - 1 })
}

/// Digits only, saturating.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        digits
            .iter()
            .fold(0u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))),
    )
}

fn overlap(ranges: &[ByteRange]) -> bool {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| range.first);
    sorted.windows(2).any(|pair| pair[1].first <= pair[0].last)
}

/// Whether `If-Range` lets a range of this representation be sent (RFC 9110 13.1.5): it is absent, or its
/// tag matches by strong comparison, or its date is exactly the `Last-Modified`, which is a strong validator
/// only when it lies at least a second before `date`, the response's `Date` (8.8.2.2).
pub(crate) fn if_range_holds(
    request: &HeaderMap,
    etag: Option<&[u8]>,
    last_modified: Option<SystemTime>,
    date: SystemTime,
) -> bool {
    let mut lines = request.get_all(header::IF_RANGE).into_iter();
    let line = match (lines.next(), lines.next()) {
        (None, _) => return true,
        (Some(line), None) => trim(line.as_bytes()),
        _ => return false,
    };
    if line.starts_with(b"\"") || line.starts_with(b"W/") {
        return etag.is_some_and(|tag| EntityTag::new(tag).strong_eq(&EntityTag::new(line)));
    }
    let Some(modified) = last_modified else {
        return false;
    };
    is_strong_date(modified, date) && date::parse(line, date) == Some(modified)
}

/// Whether a `Last-Modified` is a strong validator in a response with this `Date` (RFC 9110 8.8.2.2).
pub(crate) fn is_strong_date(modified: SystemTime, date: SystemTime) -> bool {
    date.duration_since(modified).is_ok_and(|age| age.as_secs() >= 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::any_value;
    use http::HeaderValue;
    use proptest::prelude::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn ask(lines: &[&str], length: u64) -> Asked {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::RANGE, HeaderValue::from_bytes(line.as_bytes()).expect("a value"));
        }
        asked(&headers, length)
    }

    fn ranges(list: &[(u64, u64)]) -> Asked {
        Asked::Ranges(list.iter().map(|&(first, last)| ByteRange { first, last }).collect())
    }

    #[test]
    fn a39_a_range_that_is_too_long_to_read_is_ignored() {
        let line = |length: usize| format!("bytes={}1-2", "0".repeat(length - 9));
        assert_eq!(ask(&[&line(LONGEST)], 10), ranges(&[(1, 2)]));
        assert_eq!(ask(&[&line(LONGEST + 1)], 10), Asked::Everything);
        // The longest that is of use.
        let most = u64::MAX;
        let many: Vec<_> = (0..MOST).map(|_| format!("{most}-{most}")).collect();
        assert_eq!(ask(&[&format!("bytes={}, 0-0", many[1..].join(", "))], 10), ranges(&[(0, 0)]));
    }

    #[test]
    fn ra4_ranges_of_unknown_length_begin_at_the_first_byte_asked_for() {
        for (lines, expected) in [
            (&["bytes=500-600"][..], 500),
            (&["bytes=500-"], 500),
            (&["bytes=900-910, 500-510"], 500),
            (&["Bytes=18446744073709551614-"], u64::MAX - 1),
            // Counted from an end that nobody knows.
            (&["bytes=-500"], 0),
            (&["bytes=500-600, -1"], 0),
            (&["bytes= -1"], 0),
            // What is ignored asks for everything.
            (&["bytes=500-400"], 0),
            (&["lines=500-600"], 0),
            (&["bytes=500-600,550-650"], 0),
            (&["bytes=18446744073709551615-"], 0),
            (&["bytes=500-600", "bytes=700-800"], 0),
            (&[], 0),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::RANGE, HeaderValue::from_static(line));
            }
            assert_eq!(begins_at(&headers), expected, "{lines:?}");
        }
    }

    #[test]
    fn ra1_ranges_are_resolved_against_the_length() {
        use Asked::{Everything, Unsatisfiable};
        // RFC 9110 14.1.2, 14.2.
        for (line, expected) in [
            ("bytes=0-0", ranges(&[(0, 0)])),
            ("bytes=0-9", ranges(&[(0, 9)])),
            ("bytes=0-", ranges(&[(0, 9)])),
            ("bytes=9-", ranges(&[(9, 9)])),
            ("bytes=2-5", ranges(&[(2, 5)])),
            ("bytes=2-99", ranges(&[(2, 9)])),
            ("bytes=-1", ranges(&[(9, 9)])),
            ("bytes=-10", ranges(&[(0, 9)])),
            ("bytes=-99", ranges(&[(0, 9)])),
            ("Bytes=0-1", ranges(&[(0, 1)])),
            ("BYTES=0-1", ranges(&[(0, 1)])),
            ("bytes= 0-1", ranges(&[(0, 1)])),
            ("bytes=0-1, 4-5", ranges(&[(0, 1), (4, 5)])),
            ("bytes=4-5,0-1", ranges(&[(4, 5), (0, 1)])),
            ("bytes=0-1,,4-5,", ranges(&[(0, 1), (4, 5)])),
            ("bytes=0-1,20-30", ranges(&[(0, 1)])),
            ("bytes=0-1, -1", ranges(&[(0, 1), (9, 9)])),
            ("bytes=00-01", ranges(&[(0, 1)])),
            ("bytes=0-18446744073709551615", ranges(&[(0, 9)])),
            ("bytes=0-99999999999999999999999999", ranges(&[(0, 9)])),
            ("bytes=-99999999999999999999999999", ranges(&[(0, 9)])),
            ("bytes=10-", Unsatisfiable),
            ("bytes=10-20", Unsatisfiable),
            ("bytes=99999999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=10-,20-", Unsatisfiable),
            ("", Everything),
            ("bytes", Everything),
            ("bytes=", Everything),
            ("bytes=,", Everything),
            ("bytes=-", Everything),
            ("bytes=5-2", Everything),
            ("bytes=0-1,5-2", Everything),
            ("bytes=a-b", Everything),
            ("bytes=0-b", Everything),
            ("bytes=+0-1", Everything),
            ("bytes=0x0-1", Everything),
            ("bytes=0 - 1", Everything),
            ("bytes=0-1;2-3", Everything),
            ("bytes=--1", Everything),
            ("bytes=1-2-3", Everything),
            ("bytes=1.0-2", Everything),
            ("bytes 0-1", Everything),
            ("items=0-1", Everything),
            ("bytes =0-1", Everything),
            ("=0-1", Everything),
            ("bytes=0-1,1-2", Everything),
            ("bytes=0-,0-", Everything),
            ("bytes=0-,-1", Everything),
            ("bytes=-18446744073709551615,0-0", Everything),
            ("bytes=1-1", ranges(&[(1, 1)])),
            ("bytes=9-9", ranges(&[(9, 9)])),
            ("bytes=9-10", ranges(&[(9, 9)])),
            ("bytes=-9", ranges(&[(1, 9)])),
            ("bytes=-5,0-4", ranges(&[(5, 9), (0, 4)])),
            ("bytes=0-4,5-9", ranges(&[(0, 4), (5, 9)])),
            ("bytes=0-5,5-9", Everything),
            ("bytes=10-,-0", Unsatisfiable),
            ("bytes=-0,0-0", ranges(&[(0, 0)])),
            ("bytes=\"0-1\"", Everything),
        ] {
            assert_eq!(ask(&[line], 10), expected, "{line:?}");
        }
        assert_eq!(ask(&["bytes=0-1", "bytes=0-1"], 10), Everything);
        assert_eq!(ask(&[], 10), Everything);
    }

    #[test]
    fn ra2_the_inner_service_gets_the_clients_range_or_the_missing_one() {
        use SentRange::{Clients, Missing, None};
        // RFC 9110 14.2: `Range` is defined for GET.
        for (method, has_range, is_completion, has_whole, expected) in [
            (Method::GET, true, false, false, Clients),
            (Method::GET, true, false, true, None),
            (Method::GET, false, false, false, None),
            (Method::GET, true, true, false, Missing),
            (Method::GET, false, true, false, Missing),
            (Method::HEAD, true, false, false, None),
            (Method::QUERY, true, false, false, None),
        ] {
            let found = SentRange::of(&method, has_range, is_completion, has_whole);
            assert_eq!(found, expected, "{method} {has_range} {is_completion} {has_whole}");
        }
    }

    #[test]
    fn ra1_no_range_of_empty_content_is_satisfiable() {
        for line in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            assert_eq!(ask(&[line], 0), Asked::Unsatisfiable, "{line}");
        }
    }

    #[test]
    fn a14_too_many_or_overlapping_ranges_are_ignored() {
        let many: Vec<_> = (0..10_000).map(|number| format!("{number}-{number}")).collect();
        let line = format!("bytes={}", many.join(","));
        assert_eq!(ask(&[&line], 1 << 40), Asked::Everything);
        let overlapping = format!("bytes={}", ["0-"; 60].join(","));
        assert_eq!(ask(&[&overlapping], 1 << 40), Asked::Everything);
        assert_eq!(ask(&["bytes=-18446744073709551615"], 5), ranges(&[(0, 4)]));
    }

    #[test]
    fn ra1_if_range_holds_for_a_strong_validator_only() {
        let modified = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let date = modified + Duration::from_secs(60);
        let text = "Sun, 06 Nov 1994 08:49:37 GMT";
        let holds = |line: &str, etag: Option<&str>, modified, date| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_RANGE, HeaderValue::from_str(line).expect("a value"));
            if_range_holds(&headers, etag.map(str::as_bytes), modified, date)
        };
        assert!(if_range_holds(&HeaderMap::new(), None, None, date));
        assert!(holds("\"a\"", Some("\"a\""), None, date));
        assert!(!holds("\"a\"", Some("\"b\""), None, date));
        assert!(!holds("\"a\"", None, None, date));
        assert!(!holds("W/\"a\"", Some("W/\"a\""), None, date));
        assert!(!holds("\"a\"", Some("W/\"a\""), None, date));
        assert!(holds(text, Some("\"a\""), Some(modified), date));
        assert!(!holds(text, None, Some(modified + Duration::from_secs(1)), date));
        assert!(!holds(text, None, Some(modified - Duration::from_secs(1)), date));
        assert!(!holds(text, None, None, date));
        assert!(!holds(text, None, Some(modified), modified), "a date of this second is weak");
        assert!(!holds("nonsense", Some("nonsense"), Some(modified), date));
    }

    proptest! {
        #[test]
        fn ra1_parsing_a_range_never_panics(lines in prop::collection::vec(any_value(), 0..3), etag in any_value(), length: u64) {
            let mut request: HeaderMap = lines.iter().cloned().map(|line| (header::RANGE, line)).collect();
            request.extend(lines.into_iter().map(|line| (header::IF_RANGE, line)));
            let _ = asked(&request, length);
            let _ = if_range_holds(&request, Some(etag.as_bytes()), Some(UNIX_EPOCH), UNIX_EPOCH);
        }

        #[test]
        fn ra1_any_range_is_read_as_given(first: u64, length: u64, wanted in 1u64..) {
            let length = length.max(1);
            let first = first % length;
            let last = first + wanted.min(length - first) - 1;
            prop_assert_eq!(ask(&[&format!("bytes={first}-{last}")], length), ranges(&[(first, last)]));
            prop_assert_eq!(ask(&[&format!("bytes={first}-")], length), ranges(&[(first, length - 1)]));
            let suffix = format!("bytes=-{}", length - first);
            prop_assert_eq!(ask(&[&suffix], length), ranges(&[(first, length - 1)]));
            prop_assert_eq!(ask(&[&format!("bytes={length}-")], length), Asked::Unsatisfiable);
        }

        #[test]
        fn ra3_ranges_lie_within_the_content_and_are_no_longer_than_it(line in "(bytes=)?[-0-9, a=]{0,40}", length in 0u64..100) {
            if let Asked::Ranges(list) = ask(&[&line], length) {
                prop_assert!(!list.is_empty());
                for range in &list {
                    prop_assert!(range.first <= range.last && range.last < length);
                }
                prop_assert!(list.iter().map(ByteRange::len).sum::<u64>() <= length);
            }
        }
    }
}
