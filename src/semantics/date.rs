//! Dates of HTTP messages (RFC 9110 5.6.7).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads an HTTP date: IMF-fixdate, RFC 850 or asctime form.
///
/// Names of days, months and `GMT` match in any case. Everything else is exact: one space between
/// the parts, two-digit times, four-digit years (two in the RFC 850 form, where a year more than fifty
/// years after `now` is taken as the last one with these digits). Anything outside the grammar is `None`,
/// as is a date that no calendar has.
pub(crate) fn parse(text: &[u8], now: SystemTime) -> Option<SystemTime> {
    const LONGEST: usize = "Wednesday, 09-Nov-94 08:49:37 GMT".len();
    if text.len() > LONGEST {
        return None;
    }
    let mut reader = Reader(text);
    let weekday = reader.letters();
    match reader.byte()? {
        b',' if weekday.len() == 3 => imf_fixdate(reader, weekday),
        b',' => rfc850(reader, weekday, now),
        b' ' if weekday.len() == 3 => asctime(reader, weekday),
        _ => None,
    }
}

/// Writes an IMF-fixdate. Times before 1970 or after 9999, which HTTP dates hardly need, are clamped. Written by hand, for
/// each response without a `Date` gets one.
pub(crate) fn format(time: SystemTime) -> [u8; 29] {
    const LAST: u64 = 253_402_300_799;
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().min(LAST));
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_from_days(days);
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    text[..3].copy_from_slice(DAYS_FROM_1970[(days % 7) as usize]);
    text[8..11].copy_from_slice(MONTHS[month as usize]);
    let two = [
        (5, day),
        (12, year / 100),
        (14, year % 100),
        (17, second / 3600),
        (20, second / 60 % 60),
        (23, second % 60),
    ];
    for (at, number) in two {
        text[at..at + 2].copy_from_slice(&[b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]);
    }
    text
}

/// The days of the week, from that of 1970-01-01 on.
const DAYS_FROM_1970: [&[u8]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Year, month from 0 and day from 1 of a day after 1970-01-01, in the proleptic Gregorian calendar.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    // Counted from March of the year 0, so that the day that may be missing is the last one of a year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    (400 * era + year_of_era + u64::from(month < 2), month, day)
}

// Sun, 06 Nov 1994 08:49:37 GMT
fn imf_fixdate(mut reader: Reader<'_>, weekday: &[u8]) -> Option<SystemTime> {
    day_name(weekday, DayName::Short)?;
    reader.exactly(b" ")?;
    let day = reader.digits(2)?;
    reader.exactly(b" ")?;
    let month = reader.month()?;
    reader.exactly(b" ")?;
    let year = reader.digits(4)?;
    reader.exactly(b" ")?;
    let time = reader.time_of_day()?;
    reader.gmt_and_end()?;
    civil(year, month, day, time)
}

// Sunday, 06-Nov-94 08:49:37 GMT
fn rfc850(mut reader: Reader<'_>, weekday: &[u8], now: SystemTime) -> Option<SystemTime> {
    day_name(weekday, DayName::Long)?;
    reader.exactly(b" ")?;
    let day = reader.digits(2)?;
    reader.exactly(b"-")?;
    let month = reader.month()?;
    reader.exactly(b"-")?;
    let two = reader.digits(2)?;
    reader.exactly(b" ")?;
    let time = reader.time_of_day()?;
    reader.gmt_and_end()?;
    // The year with these two digits that lies at most fifty years ahead.
    let this_year = year_of(now);
    let mut year = this_year - this_year % 100 + 100 + two;
    while year > this_year + 50 {
        year -= 100;
    }
    civil(year, month, day, time)
}

// Sun Nov  6 08:49:37 1994
fn asctime(mut reader: Reader<'_>, weekday: &[u8]) -> Option<SystemTime> {
    day_name(weekday, DayName::Short)?;
    let month = reader.month()?;
    reader.exactly(b" ")?;
    let day = if reader.0.first() == Some(&b' ') {
        reader.byte()?;
        reader.digits(1)?
    } else {
        reader.digits(2)?
    };
    reader.exactly(b" ")?;
    let time = reader.time_of_day()?;
    reader.exactly(b" ")?;
    let year = reader.digits(4)?;
    if !reader.0.is_empty() {
        return None;
    }
    civil(year, month, day, time)
}

enum DayName {
    Short,
    Long,
}

fn day_name(name: &[u8], form: DayName) -> Option<()> {
    const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    DAYS.iter()
        .any(|day| match form {
            DayName::Short => day.as_bytes()[..3].eq_ignore_ascii_case(name),
            DayName::Long => day.as_bytes().eq_ignore_ascii_case(name),
        })
        .then_some(())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn letters(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(self.0.len());
        let (letters, rest) = self.0.split_at(end);
        self.0 = rest;
        letters
    }

    fn exactly(&mut self, expected: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        digits
            .iter()
            .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
    }

    fn month(&mut self) -> Option<i64> {
        let name = self.letters();
        let index = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(name))?;
        i64::try_from(index + 1).ok()
    }

    /// Seconds since midnight. Second 60, a leap second, is within the grammar and counts as the next minute.
    fn time_of_day(&mut self) -> Option<i64> {
        let hour = self.digits(2)?;
        self.exactly(b":")?;
        let minute = self.digits(2)?;
        self.exactly(b":")?;
        let second = self.digits(2)?;
        (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second)
    }

    fn gmt_and_end(&mut self) -> Option<()> {
        self.exactly(b" ")?;
        self.0.eq_ignore_ascii_case(b"GMT").then_some(())
    }
}

fn civil(year: i64, month: i64, day: i64, second_of_day: i64) -> Option<SystemTime> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if day < 1 || day > length {
        return None;
    }
    let seconds = days_from_civil(year, month, day) * 86_400 + second_of_day;
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
}

/// Days from 1970-01-01, negative before it, in the proleptic Gregorian calendar. Years start in
/// March here, so that the leap day is a year's last and each month's offset is the same every year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The year of a time; exact enough at the turn of the year for the two-digit rule.
fn year_of(time: SystemTime) -> i64 {
    let seconds =
        time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    1970 + seconds / 31_556_952
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: u64 = 784_111_777;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_790_000_000) // 2026
    }

    #[track_caller]
    fn check(text: &str, expected: Option<i64>) {
        let parsed = parse(text.as_bytes(), now()).map(|time| match time.duration_since(UNIX_EPOCH) {
            Ok(after) => after.as_secs() as i64,
            Err(before) => -(before.duration().as_secs() as i64),
        });
        assert_eq!(parsed, expected, "{text:?}");
    }

    #[test]
    fn the_three_forms_of_a_date_are_parsed() {
        // RFC 9110 5.6.7.
        let example = Some(EXAMPLE as i64);
        check("Sun, 06 Nov 1994 08:49:37 GMT", example);
        check("Sunday, 06-Nov-94 08:49:37 GMT", example);
        check("Sun Nov  6 08:49:37 1994", example);
        check("sUN, 06 nOV 1994 08:49:37 gmt", example);
        check("SUNDAY, 06-NOV-94 08:49:37 gmt", example);
        check("Thu, 01 Jan 1970 00:00:00 GMT", Some(0));
        check("Wed, 31 Dec 1969 23:59:59 GMT", Some(-1));
        check("Thu Jan 01 00:00:00 1970", Some(0));
        check("Thu, 29 Feb 2024 12:00:00 GMT", Some(1_709_208_000));
        check("Tue, 19 Jan 2038 03:14:08 GMT", Some(1 << 31));
        check("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799));
        check("Fri, 30 Jun 2017 23:59:60 GMT", Some(1_498_867_200));
        // A two-digit year up to fifty years ahead is ahead, further is behind.
        check("Wednesday, 01-Jan-76 00:00:00 GMT", Some(3_345_062_400));
        check("Saturday, 01-Jan-77 00:00:00 GMT", Some(220_924_800));
        check("Saturday, 01-Jan-00 00:00:00 GMT", Some(946_684_800));
    }

    #[test]
    fn a_date_outside_the_grammar_is_refused() {
        for text in [
            "",
            "0",
            "-1",
            "now",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            " Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT+1",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun,  06 Nov 1994 08:49:37 GMT",
            "Sun, 06  Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994  08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "Sun, 06 Nov 1994 08-49-37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:00 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Thu, 29 Feb 2023 12:00:00 GMT",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Foo, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Sunday, 06 Nov 94 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
            "Sun Nov  6 08:49:37 94",
            "Sun Nov  6 08:49:37 1994 GMT",
            "Sun Nov 006 08:49:37 1994",
            "1994-11-06T08:49:37Z",
            "Sun, 06 Nov 1994 08:49:37 G\u{fc}T",
            "Sun, 06 Nov 1994 08:49:37 EST",
            "Sun, 06 Nov 1994 08:49:37 Z",
            "Sun, 06 Nov 1994 08:49:37  GMT",
            "Sun, 06 Nov 1994 08:49:37GMT",
            "Sun, 06 Nov 01994 08:49:37 GMT",
            "Sun, 006 Nov 1994 08:49:37 GMT",
            "Sun, 06 November 1994 08:49:37 GMT",
            "Sunday, 06 Nov 1994 08:49:37 GMT",
            "784111777",
        ] {
            check(text, None);
        }
    }

    proptest! {
        #[test]
        fn a_date_is_written_as_imf_fixdate(seconds in prop_oneof![0u64..4_200_000_000, 0u64..253_402_300_799]) {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            let written = format(time);
            prop_assert_eq!(std::str::from_utf8(&written), Ok(&*httpdate::fmt_http_date(time)));
        }

        #[test]
        fn parsing_a_date_never_panics(text: Vec<u8>) {
            let _ = parse(&text, now());
        }

        #[test]
        fn the_three_forms_of_a_date_give_the_same_time(seconds in 0u64..4_102_444_800) {
            // Up to 2099; the two-digit form within fifty years of its reading.
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            let text = String::from_utf8(format(time).to_vec()).expect("ASCII");
            let [name, day, month, year, clock, _] = text.split(' ').collect::<Vec<_>>()[..] else {
                panic!("six parts: {text}")
            };
            let name = name.trim_end_matches(',');
            let asctime = format!("{name} {month} {:>2} {clock} {year}", day.trim_start_matches('0'));
            prop_assert_eq!(parse(asctime.as_bytes(), now()), Some(time), "{}", asctime);
            let long = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
            let long = long.iter().find(|long| long.starts_with(name)).expect("a day");
            let rfc850 = format!("{long}, {day}-{month}-{} {clock} GMT", &year[2..]);
            prop_assert_eq!(parse(rfc850.as_bytes(), time), Some(time), "{}", rfc850);
        }

        #[test]
        fn a_date_with_a_byte_more_or_less_is_refused(seconds in 0u64..253_402_300_800, at: prop::sample::Index, byte in b' '..=b'~') {
            let text = format(UNIX_EPOCH + Duration::from_secs(seconds)).to_vec();
            let at = at.index(text.len());
            let (mut more, mut less) = (text.clone(), text);
            more.insert(at, byte);
            less.remove(at);
            prop_assert_eq!(parse(&more, now()), None);
            prop_assert_eq!(parse(&less, now()), None);
        }

        #[test]
        fn a_written_date_is_read_back(seconds in 0u64..253_402_300_800) {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            prop_assert_eq!(parse(&format(time), now()), Some(time));
        }
    }
}
