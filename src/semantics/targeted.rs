//! Targeted cache control (RFC 9213): directives for one class of caches in a field of their own.

use http::HeaderMap;
use http::header::HeaderName;
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::cache_control::ResponseDirectives;
use super::fields::combined;

/// The field that RFC 9213 defines for CDNs and other caches on the origin's side.
pub(crate) const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// The targets of [`Rules::default`](super::Rules::default).
pub(crate) static DEFAULT_TARGETS: [HeaderName; 1] = [CDN_CACHE_CONTROL];

/// The directives of the first target that the response has in a valid form; otherwise those of `Cache-Control`.
///
/// A targeted field is a structured-fields dictionary. One that does not parse, is empty, or gives a known directive a
/// value of the wrong type is ignored completely (RFC 9213 2.1, 2.2).
pub(crate) fn directives(headers: &HeaderMap, targets: &[HeaderName]) -> ResponseDirectives {
    targets
        .iter()
        .find_map(|target| target_of(headers, target))
        .unwrap_or_else(|| ResponseDirectives::of(headers))
}

fn target_of(headers: &HeaderMap, target: &HeaderName) -> Option<ResponseDirectives> {
    let dictionary: Dictionary = Parser::new(&combined(headers, target)?).parse().ok()?;
    if dictionary.is_empty() {
        return None;
    }
    let mut directives = ResponseDirectives { targeted: true, ..ResponseDirectives::default() };
    for (name, entry) in &dictionary {
        let value = match entry {
            ListEntry::Item(item) => Some(&item.bare_item),
            ListEntry::InnerList(_) => None, // no known directive has such a value
        };
        set(&mut directives, name.as_str(), value)?;
    }
    Some(directives)
}

/// Sets one directive; `None` for a known one with a value of the wrong type.
fn set(directives: &mut ResponseDirectives, name: &str, value: Option<&BareItem>) -> Option<()> {
    let flag = || match value {
        Some(BareItem::Boolean(on)) => Some(*on),
        _ => None,
    };
    match name {
        "immutable" => directives.immutable = flag()?,
        "max-age" => directives.max_age = Some(seconds(value?)?),
        "must-revalidate" => directives.must_revalidate = flag()?,
        "must-understand" => directives.must_understand = flag()?,
        "no-cache" => qualify(value?, &mut directives.no_cache, &mut directives.no_cache_fields)?,
        "no-store" => directives.no_store = flag()?,
        "no-transform" => directives.no_transform = flag()?,
        "private" => qualify(value?, &mut directives.private, &mut directives.private_fields)?,
        "proxy-revalidate" => directives.proxy_revalidate = flag()?,
        "public" => directives.public = flag()?,
        "s-maxage" => directives.s_maxage = Some(seconds(value?)?),
        "stale-if-error" => directives.stale_if_error = Some(seconds(value?)?),
        "stale-while-revalidate" => directives.stale_while_revalidate = Some(seconds(value?)?),
        _ => {}
    }
    Some(())
}

/// An integer: negative reads as 0, more than 2^31 as 2^31.
fn seconds(value: &BareItem) -> Option<u32> {
    let BareItem::Integer(number) = value else {
        return None;
    };
    let number = i64::from(*number).clamp(0, 1 << 31);
    u32::try_from(number).ok()
}

/// `private` and `no-cache`: a flag, or a string of field names. A string that names none means all.
fn qualify(value: &BareItem, whole: &mut bool, fields: &mut Vec<HeaderName>) -> Option<()> {
    match value {
        BareItem::Boolean(on) => *whole = *on,
        BareItem::String(names) => {
            let names = names.as_str().split(',').map(str::trim).filter(|name| !name.is_empty());
            for name in names {
                match HeaderName::from_bytes(name.as_bytes()) {
                    Ok(name) => fields.push(name),
                    Err(_) => *whole = true,
                }
            }
            *whole |= fields.is_empty();
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::any_value;
    use http::{HeaderValue, header};
    use proptest::prelude::*;

    fn read(lines: &[&str]) -> ResponseDirectives {
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for line in lines {
            headers.append(CDN_CACHE_CONTROL, HeaderValue::from_bytes(line.as_bytes()).expect("a value"));
        }
        directives(&headers, &[CDN_CACHE_CONTROL])
    }

    #[test]
    fn tc1_valid_fields_replace_cache_control() {
        // RFC 9213 2.1.
        for (line, max_age) in [
            ("max-age=60", Some(60)),
            ("max-age=2147483648", Some(1 << 31)),
            ("max-age=99999999999", Some(1 << 31)),
            ("max-age=-1", Some(0)),
            ("max-age=0", Some(0)),
            ("foobar, max-age=60", Some(60)),
            ("foobar=(1 2), max-age=60", Some(60)),
            ("max-age=60;a=b", Some(60)),
            ("max-age=10, max-age=60", Some(60)),
            ("unknown", None),
        ] {
            let directives = read(&[line]);
            assert!(directives.targeted && !directives.no_store, "{line}");
            assert_eq!(directives.max_age, max_age, "{line}");
        }
        assert_eq!(read(&["a", "max-age=60"]).max_age, Some(60));
        assert!(read(&["private"]).private);
        assert!(read(&["no-cache"]).no_cache);
        assert!(!read(&["no-store=?0"]).no_store);
        assert_eq!(read(&["private=\"set-cookie\""]).private_fields, [header::SET_COOKIE]);
        assert!(read(&["private=\"\""]).private);
    }

    #[test]
    fn tc1_invalid_fields_are_ignored() {
        // RFC 9213 2.1, RFC 9651 4.2.
        for line in [
            "",
            "max-age=60, &&&&&",
            "max-age=\"60\"",
            "max-age=60.0",
            "max-age",
            "max-age=a60",
            "max-age=(60)",
            "max-age =60",
            "max-age= 60",
            "MaX-aGe=60",
            "no-store=1",
            "no-store=yes",
            "private=5",
            "max-age=9999999999999999",
            "max-age=60,",
        ] {
            let directives = read(&[line]);
            assert!(!directives.targeted && directives.no_store, "{line:?}");
        }
    }

    #[test]
    fn tc1_the_first_valid_target_counts() {
        let own = HeaderName::from_static("larder-cache-control");
        let mut headers = HeaderMap::new();
        headers.insert(&CDN_CACHE_CONTROL, HeaderValue::from_static("max-age=1"));
        let targets = [own.clone(), CDN_CACHE_CONTROL];
        assert_eq!(directives(&headers, &targets).max_age, Some(1));
        headers.insert(own.clone(), HeaderValue::from_static("&"));
        assert_eq!(directives(&headers, &targets).max_age, Some(1));
        headers.insert(own, HeaderValue::from_static("max-age=2"));
        assert_eq!(directives(&headers, &targets).max_age, Some(2));
        assert!(!directives(&headers, &[]).targeted);
    }

    proptest! {
        #[test]
        fn parsing_targeted_fields_never_panics(lines in prop::collection::vec(any_value(), 1..3)) {
            let mut headers: HeaderMap = lines.into_iter().map(|line| (CDN_CACHE_CONTROL, line)).collect();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            // Ignored as a whole, or `Cache-Control` is.
            let directives = directives(&headers, &[CDN_CACHE_CONTROL]);
            prop_assert!(directives.targeted || directives.no_store);
        }

        #[test]
        fn targeted_seconds_are_read_as_written(seconds in -999_999_999_999_999i64..=999_999_999_999_999) {
            let read = read(&[&format!("max-age={seconds}")]);
            prop_assert_eq!(read.max_age.map(i64::from), Some(seconds.clamp(0, 1 << 31)));
        }
    }
}
