//! How long a response is fresh and how old it is (RFC 9111 4.2).

use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap};
use http::{HeaderValue, StatusCode};

use super::cache_control::ResponseDirectives;
use super::date;
use super::fields::{Members, delta_seconds};
use super::status::{is_error, is_heuristically_cacheable};

/// Freshness that the cache may assume if the origin states none (RFC 9111 4.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Heuristic {
    /// Whether responses with an error status (4xx and 5xx) may be given heuristic freshness.
    pub errors: bool,
    /// The longest lifetime that is ever assumed.
    pub most: Duration,
    /// The share of `Date - Last-Modified` that is assumed, in percent.
    pub percent: u32,
}

impl Default for Heuristic {
    /// 10 %, at most 24 hours, successful responses only.
    fn default() -> Self {
        Self { errors: false, most: Duration::from_secs(24 * 60 * 60), percent: 10 }
    }
}

impl Heuristic {
    /// Includes error statuses that RFC 9110 15.1 calls heuristically cacheable.
    #[must_use]
    pub fn with_errors(mut self) -> Self {
        self.errors = true;
        self
    }
}

/// Where a freshness lifetime comes from, in the order in which a shared cache looks (RFC 9111 4.2.1); or
/// whose word outweighs all of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LifetimeSource {
    /// A targeted field (RFC 9213).
    Targeted,
    /// `s-maxage`.
    SMaxage,
    /// `max-age`.
    MaxAge,
    /// `Expires` minus `Date`.
    Expires,
    /// RFC 9111 4.2.2.
    Heuristic,
    /// The [`CacheHint`](crate::CacheHint) of a handler, in place of the fields.
    Hint,
    /// A policy, in place of all others.
    Policy,
    /// Nothing says how long: not fresh at all.
    None,
}

impl LifetimeSource {
    /// Whether the origin said it, rather than the cache or a policy.
    pub fn is_explicit(self) -> bool {
        matches!(self, Self::Targeted | Self::SMaxage | Self::MaxAge | Self::Expires | Self::Hint)
    }
}

/// The freshness lifetime of a response for a shared cache (RFC 9111 4.2.1, 4.2.2).
///
/// `date` is the response's `Date`, or the time of reception if it has no valid one.
pub(crate) fn lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    directives: &ResponseDirectives,
    date: SystemTime,
    heuristic: Option<&Heuristic>,
) -> (Duration, LifetimeSource) {
    let source = |source| if directives.targeted { LifetimeSource::Targeted } else { source };
    if let Some(seconds) = directives.s_maxage {
        return (Duration::from_secs(seconds.into()), source(LifetimeSource::SMaxage));
    }
    if let Some(seconds) = directives.max_age {
        return (Duration::from_secs(seconds.into()), source(LifetimeSource::MaxAge));
    }
    // RFC 9213 2.1: with a targeted field, `Expires` is ignored.
    if headers.contains_key(header::EXPIRES) && !directives.targeted {
        let expires = single_date(headers, &header::EXPIRES, date);
        // RFC 9111 5.3: invalid, repeated or in the past means already expired.
        let lifetime = expires.and_then(|expires| expires.duration_since(date).ok());
        return (lifetime.unwrap_or_default(), LifetimeSource::Expires);
    }
    if let Some(heuristic) = heuristic
        && (is_heuristically_cacheable(status) || directives.public)
        && (heuristic.errors || status.as_u16() < 400)
        && let Some(modified) = single_date(headers, &header::LAST_MODIFIED, date)
        && let Ok(unchanged) = date.duration_since(modified)
    {
        let assumed = unchanged / 100 * heuristic.percent;
        return (assumed.min(heuristic.most), LifetimeSource::Heuristic);
    }
    (Duration::ZERO, LifetimeSource::None)
}

/// A lifetime within the bound that a cache sets for errors, where the status is one.
pub(crate) fn bounded(lifetime: Duration, status: StatusCode, most: Option<Duration>) -> Duration {
    match most {
        Some(most) if is_error(status) => lifetime.min(most),
        _ => lifetime,
    }
}

/// Seconds of freshness left at an age, negative when stale: the lifetime less the age that `Age` says. `None` is an age that
/// nobody knows.
pub(crate) fn ttl(lifetime: Duration, age: Option<Duration>) -> i64 {
    let whole = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    whole(lifetime).saturating_sub(whole(age.unwrap_or(Duration::MAX)))
}

/// The value of a date field that occurs exactly once and is valid.
pub(crate) fn single_date(
    headers: &HeaderMap,
    name: &header::HeaderName,
    now: SystemTime,
) -> Option<SystemTime> {
    let mut lines = headers.get_all(name).into_iter();
    let line = lines.next()?;
    match lines.next() {
        None => date::parse(line.as_bytes(), now),
        Some(_) => None,
    }
}

/// `Age` as received: the first member of the first line; `None` if that is not delta-seconds (RFC 9111 5.1).
pub(crate) fn received_age(headers: &HeaderMap) -> Option<Duration> {
    let line = headers.get(header::AGE)?;
    let first = Members::new(line.as_bytes()).next()?;
    delta_seconds(first).map(|seconds| Duration::from_secs(seconds.into()))
}

/// `corrected_initial_age` (RFC 9111 4.2.3): how old a response was when it arrived.
pub(crate) fn initial_age(
    received: Option<Duration>,
    date: SystemTime,
    request_time: SystemTime,
    response_time: SystemTime,
) -> Duration {
    let apparent_age = response_time.duration_since(date).unwrap_or_default();
    let response_delay = response_time.duration_since(request_time).unwrap_or_default();
    // `Date` has whole seconds: the fraction that it lacks does not count as age.
    let apparent_age = Duration::from_secs(apparent_age.as_secs());
    let corrected_age_value = received.unwrap_or_default().saturating_add(response_delay);
    apparent_age.max(corrected_age_value)
}

/// `current_age` (RFC 9111 4.2.3). `None` when the response was received in the future: the clock has been set back
/// since (by more than [`CLOCK_SKEW`]), and all that can be said is that it needs validation.
pub(crate) fn current_age(initial: Duration, response_time: SystemTime, now: SystemTime) -> Option<Duration> {
    match now.duration_since(response_time) {
        Ok(resident_time) => Some(initial.saturating_add(resident_time)),
        Err(ahead) if ahead.duration() <= CLOCK_SKEW => Some(initial),
        Err(_) => None,
    }
}

/// How far ahead another writer's clock, or this clock before a correction, may be without consequences.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(5);

/// An `Age` field value: whole seconds, at most 2^31. Does not allocate below 10,000 seconds.
pub(crate) fn age_value(age: Duration) -> HeaderValue {
    let seconds = age.as_secs().min(1 << 31);
    number_value(seconds).unwrap_or_else(|| HeaderValue::from(seconds))
}

/// A `Content-Length` field value. Does not allocate below 10,000 bytes.
pub(crate) fn length_value(length: u64) -> HeaderValue {
    number_value(length).unwrap_or_else(|| HeaderValue::from(length))
}

/// A number below 10,000 as a value that owns nothing.
#[inline]
pub(crate) fn number_value(number: u64) -> Option<HeaderValue> {
    number_text(number).map(HeaderValue::from_static)
}

/// A number below 10,000 in digits.
pub(crate) fn number_text(number: u64) -> Option<&'static str> {
    let zeros = match number {
        0..10 => 3,
        10..100 => 2,
        100..1_000 => 1,
        _ => 0,
    };
    let start = usize::try_from(number).ok().filter(|number| *number < SMALL)? * 4;
    SMALL_NUMBERS.get(start + zeros..start + 4)
}

/// Numbers below this one are there as text.
const SMALL: usize = 10_000;

/// The numbers below 10,000, each in four digits.
static SMALL_NUMBERS: &str = {
    static DIGITS: [u8; 4 * SMALL] = {
        let mut digits = [0; 4 * SMALL];
        let mut number = 0;
        while number < SMALL {
            digits[4 * number] = b'0' + (number / 1000) as u8;
            digits[4 * number + 1] = b'0' + (number / 100 % 10) as u8;
            digits[4 * number + 2] = b'0' + (number / 10 % 10) as u8;
            digits[4 * number + 3] = b'0' + (number % 10) as u8;
            number += 1;
        }
        digits
    };
    match std::str::from_utf8(&DIGITS) {
        Ok(digits) => digits,
        Err(_) => unreachable!(),
    }
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::any_value;
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    const DATE: &str = "Tue, 01 Sep 2026 00:00:00 GMT";

    fn date() -> SystemTime {
        date::parse(DATE.as_bytes(), UNIX_EPOCH).expect("a date")
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        headers
    }

    #[track_caller]
    fn check(status: u16, fields: &[(&'static str, &str)], expected: (u64, LifetimeSource)) {
        let headers = headers(fields);
        let status = StatusCode::from_u16(status).expect("a status");
        let directives = ResponseDirectives::of(&headers);
        let read = lifetime(status, &headers, &directives, date(), Some(&Heuristic::default().with_errors()));
        assert_eq!(read, (Duration::from_secs(expected.0), expected.1), "{fields:?}");
    }

    #[test]
    fn the_lifetime_comes_from_the_first_source_in_order() {
        use LifetimeSource::{Expires, Heuristic, MaxAge, None, SMaxage};
        const HOUR_LATER: &str = "Tue, 01 Sep 2026 01:00:00 GMT";
        const DAY_BEFORE: &str = "Mon, 31 Aug 2026 00:00:00 GMT";
        // RFC 9111 4.2.1: the order.
        check(200, &[("cache-control", "max-age=5, s-maxage=9"), ("expires", HOUR_LATER)], (9, SMaxage));
        check(200, &[("cache-control", "max-age=5"), ("expires", HOUR_LATER)], (5, MaxAge));
        check(200, &[("expires", HOUR_LATER)], (3600, Expires));
        check(200, &[("cache-control", "max-age=x"), ("expires", HOUR_LATER)], (0, MaxAge));
        check(200, &[("cache-control", "s-maxage=0, max-age=60")], (0, SMaxage));
        // RFC 9111 5.3: Expires.
        check(200, &[("expires", DATE)], (0, Expires));
        check(200, &[("expires", DAY_BEFORE)], (0, Expires));
        check(200, &[("expires", "0")], (0, Expires));
        check(200, &[("expires", "")], (0, Expires));
        check(200, &[("expires", HOUR_LATER), ("expires", HOUR_LATER)], (0, Expires));
        check(200, &[("expires", "0"), ("last-modified", DAY_BEFORE)], (0, Expires));
        check(200, &[("expires", "Tue, 01 Sep 2099 00:00:00 GMT")], (2_303_683_200, Expires));
        // RFC 9111 4.2.2: the heuristic.
        check(200, &[("last-modified", DAY_BEFORE)], (8640, Heuristic));
        check(200, &[("last-modified", "Sat, 01 Jan 2000 00:00:00 GMT")], (86_400, Heuristic));
        check(200, &[("last-modified", HOUR_LATER)], (0, None));
        check(200, &[("last-modified", "yesterday")], (0, None));
        check(404, &[("last-modified", DAY_BEFORE)], (8640, Heuristic));
        check(201, &[("last-modified", DAY_BEFORE)], (0, None));
        check(201, &[("last-modified", DAY_BEFORE), ("cache-control", "public")], (8640, Heuristic));
        check(200, &[], (0, None));
    }

    #[test]
    fn heuristic_freshness_applies_to_errors_only_by_option() {
        let headers = headers(&[("last-modified", "Mon, 31 Aug 2026 00:00:00 GMT")]);
        let directives = ResponseDirectives::default();
        let heuristic = Heuristic::default();
        let of = |status| lifetime(status, &headers, &directives, date(), Some(&heuristic)).1;
        assert_eq!(of(StatusCode::OK), LifetimeSource::Heuristic);
        assert_eq!(of(StatusCode::NOT_FOUND), LifetimeSource::None);
        assert_eq!(lifetime(StatusCode::OK, &headers, &directives, date(), None).1, LifetimeSource::None);
    }

    #[test]
    fn only_the_lifetime_of_an_error_is_bounded() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        for (code, lifetime, most, expected) in [
            (404, 10, Some(5), 5),
            (500, 10, Some(5), 5),
            (600, 10, Some(5), 5),
            (404, 3, Some(5), 3),
            (404, 10, None, 10),
            (404, 10, Some(0), 0),
            (200, 10, Some(5), 10),
            (301, 10, Some(5), 10),
        ] {
            let status = StatusCode::from_u16(code).expect("a status");
            let found = bounded(minutes(lifetime), status, most.map(minutes));
            assert_eq!(found, minutes(expected), "{code} {lifetime} {most:?}");
        }
    }

    #[test]
    fn the_remaining_freshness_is_in_whole_seconds() {
        // In whole seconds, as `Age` and `Cache-Status` have it (RFC 9111 5.1, RFC 9211 2.4).
        for (lifetime, age, expected) in [
            (60_000, Some(0), 60),
            (60_000, Some(60_000), 0),
            (60_000, Some(61_000), -1),
            (60_900, Some(100), 60),
            (60_000, Some(900), 60),
            (0, Some(0), 0),
            (60_000, None, 60 - i64::MAX),
        ] {
            let found = ttl(Duration::from_millis(lifetime), age.map(Duration::from_millis));
            assert_eq!(found, expected, "{lifetime} {age:?}");
        }
        assert_eq!(ttl(Duration::MAX, Some(Duration::ZERO)), i64::MAX);
    }

    #[test]
    fn the_first_member_of_age_counts() {
        // RFC 9111 5.1.
        for (lines, expected) in [
            (&["0"][..], Some(0)),
            (&["7200"], Some(7200)),
            (&["007200"], Some(7200)),
            (&["7200,0"], Some(7200)),
            (&["7200", "0"], Some(7200)),
            (&["0, 7200"], Some(0)),
            (&["0", "7200"], Some(0)),
            (&["99999999999999999999999"], Some(1 << 31)),
            (&["-1"], None),
            (&["1.0"], None),
            (&["abc"], None),
            (&["1a"], None),
            (&[""], None),
            (&["a, 5"], None),
            (&[], None),
            (&["1"], Some(1)),
            (&[" 5 "], Some(5)),
            (&["\t5"], Some(5)),
            (&["5,"], Some(5)),
            (&[",5"], Some(5)),
            (&[", ,5,6"], Some(5)),
            (&["5 , 6"], Some(5)),
            (&["5,6,7,8"], Some(5)),
            (&["5, a"], Some(5)),
            (&["5, -1"], Some(5)),
            (&["5", "a"], Some(5)),
            (&["5", "6", "7"], Some(5)),
            (&["5, 6", "7"], Some(5)),
            (&["0, 0"], Some(0)),
            (&["0", "0"], Some(0)),
            (&["00"], Some(0)),
            (&["0000000000000000000000000000005"], Some(5)),
            (&["2147483647"], Some((1 << 31) - 1)),
            (&["2147483648"], Some(1 << 31)),
            (&["2147483649"], Some(1 << 31)),
            (&["4294967295"], Some(1 << 31)),
            (&["4294967296"], Some(1 << 31)),
            (&["18446744073709551615"], Some(1 << 31)),
            (&["18446744073709551616"], Some(1 << 31)),
            (&["+1"], None),
            (&["--1"], None),
            (&["-0"], None),
            (&["1-"], None),
            (&["1 2"], None),
            (&["1;2"], None),
            (&["1;a=b"], None),
            (&["1."], None),
            (&[".5"], None),
            (&["0.5"], None),
            (&["1e3"], None),
            (&["0x10"], None),
            (&["\"5\""], None),
            (&["'5'"], None),
            (&["(5)"], None),
            (&["5s"], None),
            (&["NaN"], None),
            (&["a"], None),
            (&["a", "5"], None),
            (&["-1", "5"], None),
            (&["\u{663}"], None),
            (&["5\u{e9}"], None),
            (&["\"", "5"], None),
        ] {
            let fields: Vec<_> = lines.iter().map(|line| ("age", *line)).collect();
            let age = received_age(&headers(&fields));
            assert_eq!(age, expected.map(Duration::from_secs), "{lines:?}");
        }
    }

    #[test]
    fn the_initial_age_includes_age_and_delay() {
        // RFC 9111 4.2.3: (Age, seconds from Date to request, to response) -> corrected_initial_age.
        for (age, requested, responded, expected) in [
            (None, 0, 0, 0),
            (None, 10, 10, 10),
            (None, 0, 3, 3),
            (None, -10, -7, 3),
            (None, -10, -10, 0),
            (Some(5), 0, 0, 5),
            (Some(5), 0, 2, 7),
            (Some(5), 100, 100, 100),
            (Some(1 << 31), 0, 4, (1 << 31) + 4),
            (Some(5), 4, 2, 5),
        ] {
            let at = |seconds: i64| {
                let distance = Duration::from_secs(seconds.unsigned_abs());
                if seconds < 0 { date() - distance } else { date() + distance }
            };
            let initial = initial_age(age.map(Duration::from_secs), date(), at(requested), at(responded));
            assert_eq!(initial, Duration::from_secs(expected), "{age:?} {requested} {responded}");
        }
    }

    #[test]
    fn the_current_age_adds_the_resident_time() {
        let second = Duration::from_secs(1);
        assert_eq!(current_age(second, date(), date() + second), Some(second * 2));
        assert_eq!(current_age(second, date(), date() - second), Some(second));
        assert_eq!(current_age(second, date(), date() - Duration::from_secs(3600)), None);
        assert_eq!(current_age(Duration::MAX, date(), date() + second), Some(Duration::MAX));
    }

    #[test]
    fn an_age_is_written_in_whole_seconds() {
        for seconds in [0, 1, 9, 10, 99, 100, 999, 1000, 9999, 10_000, 123_456, 1 << 31] {
            let value = age_value(Duration::from_secs(seconds));
            assert_eq!(value, seconds.to_string().as_str());
        }
        assert_eq!(age_value(Duration::MAX), "2147483648");
    }

    proptest! {
        #[test]
        fn parsing_an_age_never_panics(lines in prop::collection::vec(any_value(), 0..3)) {
            let first = lines.first().cloned();
            let headers = lines.into_iter().map(|line| (header::AGE, line)).collect();
            let age = received_age(&headers);
            prop_assert!(age.is_none_or(|age| age <= Duration::from_secs(1 << 31)));
            if first.is_some_and(|line| !line.as_bytes().iter().any(u8::is_ascii_digit)) {
                prop_assert_eq!(age, None);
            }
        }

        #[test]
        fn a_written_age_is_read_back(seconds: u64, rest in any_value()) {
            let mut headers = HeaderMap::new();
            headers.append(header::AGE, age_value(Duration::from_secs(seconds)));
            headers.append(header::AGE, rest);
            prop_assert_eq!(received_age(&headers), Some(Duration::from_secs(seconds.min(1 << 31))));
        }

        #[test]
        fn text_that_is_no_number_is_no_age(text in "[0-9]{0,3}[-+.a-f:;\" ][0-9a-f]{0,3}") {
            prop_assume!(!text.trim().bytes().all(|byte| byte.is_ascii_digit()) || text.trim().is_empty());
            prop_assert_eq!(received_age(&headers(&[("age", &text)])), None);
        }

        #[test]
        fn no_response_is_younger_than_its_age_field_says(
            received in prop::option::of(0..=1u64 << 31),
            ahead in -100_000i64..100_000,
            delay in -10i64..100,
            resident in 0u64..100_000,
        ) {
            let at = |seconds: i64| {
                let distance = Duration::from_secs(seconds.unsigned_abs());
                if seconds < 0 { date() - distance } else { date() + distance }
            };
            let received = received.map(Duration::from_secs);
            let response_time = at(ahead + delay);
            let initial = initial_age(received, date(), at(ahead), response_time);
            prop_assert!(initial >= received.unwrap_or_default());
            prop_assert!(initial >= response_time.duration_since(date()).unwrap_or_default());
            let now = response_time + Duration::from_secs(resident);
            prop_assert_eq!(current_age(initial, response_time, now), Some(initial + Duration::from_secs(resident)));
        }

        #[test]
        fn calculating_a_lifetime_never_panics(
            status in 100u16..1000,
            control in any_value(),
            expires in prop::collection::vec(any_value(), 0..2),
            modified in any_value(),
        ) {
            let mut headers = HeaderMap::new();
            headers.insert(header::CACHE_CONTROL, control);
            headers.insert(header::LAST_MODIFIED, modified);
            headers.extend(expires.into_iter().map(|line| (header::EXPIRES, line)));
            let directives = ResponseDirectives::of(&headers);
            let status = StatusCode::from_u16(status).expect("a status");
            let (lifetime, source) = lifetime(status, &headers, &directives, date(), Some(&Heuristic::default()));
            prop_assert!(lifetime.is_zero() || source != LifetimeSource::None);
        }
    }
}
