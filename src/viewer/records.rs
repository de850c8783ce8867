//! What a database says of an address, as fields.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use http::HeaderValue;
use maxminddb::{LookupResult, MaxMindDbError, PathElement, Reader};
use quick_cache::sync::Cache;

use super::fields::ViewerField;

/// The fields of a record, with their values.
pub(super) type Record = Arc<[(ViewerField, HeaderValue)]>;

/// A database in memory.
pub(super) struct Records {
    reader: Reader<Vec<u8>>,
    /// By the place of a record: to read one takes as long as the whole rest of a hit.
    read: Cache<usize, Record>,
    has_failed: AtomicBool,
}

/// So many records are kept as fields: about 4 MB if all of them are of cities.
const MOST_READ: usize = 4096;

/// A longer text is in no address.
const LONGEST: usize = 256;

impl Records {
    /// Reads a database, all of it if it is to be verified.
    pub(super) fn new(bytes: Vec<u8>, is_verified: bool) -> Result<Self, MaxMindDbError> {
        let reader = Reader::from_source(bytes)?;
        if is_verified {
            reader.verify()?;
        }
        Ok(Self { reader, read: Cache::new(MOST_READ), has_failed: AtomicBool::new(false) })
    }

    pub(super) fn built(&self) -> Option<SystemTime> {
        self.reader.metadata().build_time().ok()
    }

    /// The fields of an address. Calls `fail` with the first error of this database: others would be of the same kind.
    pub(super) fn find(&self, address: IpAddr, fail: impl FnOnce(MaxMindDbError)) -> Option<Record> {
        if address.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return None;
        }
        let mut failure = None;
        let record = match self.reader.lookup(address) {
            Ok(found) => found.offset().map(|place| {
                self.read.get(&place).unwrap_or_else(|| {
                    let record = fields(&found, &mut failure);
                    self.read.insert(place, Arc::clone(&record));
                    record
                })
            }),
            Err(error) => {
                failure = Some(error);
                None
            }
        };
        if let Some(error) = failure
            && !self.has_failed.swap(true, Ordering::Relaxed)
        {
            fail(error);
        }
        record
    }
}

type Found<'a> = LookupResult<'a, Vec<u8>>;

use PathElement::{Index, Key};

/// Where MaxMind's databases have texts.
const TEXTS: [(ViewerField, &[PathElement<'static>]); 7] = [
    (ViewerField::City, &[Key("city"), Key("names"), Key("en")]),
    (ViewerField::Country, &[Key("country"), Key("iso_code")]),
    (ViewerField::CountryName, &[Key("country"), Key("names"), Key("en")]),
    // The first is the largest.
    (ViewerField::CountryRegion, &[Key("subdivisions"), Index(0), Key("iso_code")]),
    (ViewerField::CountryRegionName, &[Key("subdivisions"), Index(0), Key("names"), Key("en")]),
    (ViewerField::PostalCode, &[Key("postal"), Key("code")]),
    (ViewerField::TimeZone, &[Key("location"), Key("time_zone")]),
];

fn fields(found: &Found<'_>, failure: &mut Option<MaxMindDbError>) -> Record {
    let mut fields = Vec::new();
    let mut add = |field, text: Option<String>| {
        let value = text.and_then(|text| HeaderValue::try_from(text).ok());
        fields.extend(value.map(|value| (field, value)));
    };
    for (field, path) in TEXTS {
        let text = known(found.decode_path::<&str>(path), failure).map(str::trim);
        add(field, text.filter(|text| !text.is_empty() && text.len() <= LONGEST).map(encoded));
    }
    for (field, name) in [(ViewerField::Latitude, "latitude"), (ViewerField::Longitude, "longitude")] {
        let value = known(found.decode_path(&[Key("location"), Key(name)]), failure);
        add(field, value.and_then(degrees));
    }
    let country = known(found.decode_path(&[Key("country"), Key("iso_code")]), failure);
    if country == Some("US") {
        let code = known(found.decode_path::<u16>(&[Key("location"), Key("metro_code")]), failure);
        add(ViewerField::MetroCode, code.map(|code| code.to_string()));
    }
    let number = known(found.decode_path::<u32>(&[Key("autonomous_system_number")]), failure);
    add(ViewerField::Asn, number.map(|number| number.to_string()));
    fields.into()
}

fn known<T>(value: Result<Option<T>, MaxMindDbError>, failure: &mut Option<MaxMindDbError>) -> Option<T> {
    value.unwrap_or_else(|error| {
        *failure = Some(error);
        None
    })
}

/// With five decimals.
fn degrees(degrees: f64) -> Option<String> {
    // Adding zero takes the sign from a zero.
    let rounded = (degrees * 1e5).round() / 1e5 + 0.0;
    (rounded.abs() <= 180.0).then(|| format!("{rounded:.5}"))
}

/// As a field has it: what is not printable ASCII is percent-encoded, as UTF-8, and so is `%`.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.extend(['%', hex(byte >> 4), hex(byte & 15)]),
        }
    }
    encoded
}

fn hex(digit: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(digit)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cf5_characters_outside_ascii_are_percent_encoded() {
        for (text, expected) in [
            ("Los Angeles", "Los Angeles"),
            ("S\u{e3}o Paulo", "S%C3%A3o Paulo"),
            ("K\u{f8}benhavn", "K%C3%B8benhavn"),
            ("100% \t\r\n\u{7f}", "100%25 %09%0D%0A%7F"),
        ] {
            assert_eq!(encoded(text), expected);
        }
    }

    #[test]
    fn cf5_degrees_have_five_decimals() {
        for (value, expected) in [
            (34.1931, Some("34.19310")),
            (-118.1383, Some("-118.13830")),
            (0.0, Some("0.00000")),
            (-0.000_001, Some("0.00000")),
            (180.0, Some("180.00000")),
            (180.1, None),
            (f64::NAN, None),
            (f64::NEG_INFINITY, None),
        ] {
            assert_eq!(degrees(value).as_deref(), expected, "{value}");
        }
    }
}
