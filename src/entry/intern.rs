//! One copy for field values that many responses share.
//!
//! `Content-Type: text/html` stands in thousands of stored heads. As a static string it costs no memory in them,
//! and cloning it for an answer touches no reference count, which all cores that serve one hot response would
//! otherwise write to. The pool only takes fields whose values hardly differ, and only so many; what it took it
//! keeps for the life of the process.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use http::HeaderValue;
use http::header::{self, HeaderName};

use crate::semantics::freshness::number_value;

/// The most values in the pool, and the most bytes in one: together at most 64 KiB.
const VALUES: usize = 1_024;
const BYTES: usize = 64;

const FIELDS: [HeaderName; 13] = [
    header::ACCEPT_RANGES,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_TYPE,
    header::REFERRER_POLICY,
    header::SERVER,
    header::STRICT_TRANSPORT_SECURITY,
    header::VARY,
    header::VIA,
    header::X_CONTENT_TYPE_OPTIONS,
    header::X_FRAME_OPTIONS,
];

static POOL: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);

/// A copy of the value that owns nothing, where there is one.
pub(crate) fn intern(name: &HeaderName, value: &HeaderValue) -> Option<HeaderValue> {
    let text = value.to_str().ok().filter(|text| text.len() <= BYTES)?;
    if *name == header::CONTENT_LENGTH {
        let number = text.parse().ok().filter(|_| !text.starts_with(['0', '+']) || text == "0")?;
        return number_value(number);
    }
    if value.is_sensitive() || !FIELDS.contains(name) {
        return None;
    }
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let interned = match pool.get(text) {
        Some(interned) => interned,
        None if pool.len() < VALUES => {
            let kept: &'static str = Box::leak(text.into());
            pool.insert(kept);
            kept
        }
        None => return None,
    };
    Some(HeaderValue::from_static(interned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_equal_and_shared() {
        let value = HeaderValue::from_static("text/x-interned");
        let one = intern(&header::CONTENT_TYPE, &value).expect("interned");
        let other = intern(&header::CONTENT_TYPE, &value.clone()).expect("interned");
        assert_eq!(one, value);
        assert!(std::ptr::eq(one.as_bytes(), other.as_bytes()));
    }

    #[test]
    fn what_differs_from_response_to_response_is_not() {
        let value = |text: &str| HeaderValue::from_str(text).expect("a value");
        assert_eq!(intern(&header::ETAG, &value("\"a\"")), None);
        assert_eq!(intern(&header::SET_COOKIE, &value("a=b")), None);
        assert_eq!(intern(&header::CONTENT_TYPE, &value(&"x".repeat(65))), None);
        let mut secret = value("x");
        secret.set_sensitive(true);
        assert_eq!(intern(&header::SERVER, &secret), None);
        for text in ["0", "7", "9999"] {
            assert_eq!(intern(&header::CONTENT_LENGTH, &value(text)), Some(value(text)));
        }
        for text in ["10000", "007", "+7", "x", ""] {
            assert_eq!(intern(&header::CONTENT_LENGTH, &value(text)), None, "{text}");
        }
    }
}
