//! Sizes and times as people write them, on the command line and in files.

use std::time::Duration;

/// A number of bytes, with the unit KiB, MiB or GiB (or k, m, g).
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err(format!("'{text}' is not a size; one looks like 64MiB")),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| format!("'{text}' is not a size; one looks like 64MiB"))
}

/// A number of seconds, or numbers with the units s, m, h, d and w, such as `90s` and `1h30m`.
pub fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a time; one looks like 90s or 1h30m");
    let (mut rest, mut seconds) = (text, 0u64);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = rest.split_at(digits);
        let unit_is_missing = unit.is_empty() && number.len() == text.len();
        let each = match unit.as_bytes().first() {
            None if unit_is_missing => 1,
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3_600,
            Some(b'd') => 86_400,
            Some(b'w') => 604_800,
            _ => return Err(wrong()),
        };
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(each));
        seconds = part.and_then(|part| seconds.checked_add(part)).ok_or_else(wrong)?;
        rest = unit.get(1..).unwrap_or_default();
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_secs(seconds)) }
}

/// A time as [`time`] reads it, in its largest units.
pub fn show_time(time: Duration) -> String {
    let mut rest = time.as_secs();
    let mut shown = String::new();
    for (unit, each) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        if rest >= each {
            shown.push_str(&format!("{}{unit}", rest / each));
            rest %= each;
        }
    }
    if shown.is_empty() { "0s".to_owned() } else { shown }
}

/// A size as [`size`] reads it.
pub fn show_size(size: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fits = |(_, shift): &(&str, u32)| size > 0 && size.trailing_zeros() >= *shift;
    units.into_iter().find(fits).map_or(size.to_string(), |(unit, shift)| format!("{}{unit}", size >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_as_they_are_shown() {
        for (text, seconds, shown) in [
            ("0", 0, "0s"),
            ("90", 90, "1m30s"),
            ("90s", 90, "1m30s"),
            ("1h30m", 5_400, "1h30m"),
            ("1w", 604_800, "7d"),
            ("1d1s", 86_401, "1d1s"),
        ] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
            assert_eq!(show_time(Duration::from_secs(seconds)), shown);
        }
        for text in ["", "s", "1x", "1h30", "-1", "1.5s", "99999999999999999999", "99999999999999999w", "1 s"]
        {
            assert!(time(text).is_err(), "{text}");
        }
        for (text, bytes, shown) in
            [("0", 0, "0"), ("1k", 1024, "1KiB"), ("64MiB", 64 << 20, "64MiB"), ("1025", 1025, "1025")]
        {
            assert_eq!(size(text), Ok(bytes));
            assert_eq!(show_size(bytes), shown);
        }
    }
}
