//! What a request with the debug token gets to know.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use http::header::{self, HeaderMap, HeaderName};

use crate::entry::key::CacheKey;
use crate::policy::Delivery;
use crate::semantics::cache_status::Outcome;
use crate::semantics::fields::delta_seconds;

pub(super) const FASTLY_DEBUG: HeaderName = HeaderName::from_static("fastly-debug");

const DIGEST: HeaderName = HeaderName::from_static("fastly-debug-digest");
const PATH: HeaderName = HeaderName::from_static("fastly-debug-path");
const TTL: HeaderName = HeaderName::from_static("fastly-debug-ttl");

/// The digest of a request's key, in 64 hexadecimal digits: BLAKE3 of its bytes. `None` without the feature `blake3`.
#[derive(Clone, Debug)]
pub(super) struct KeyDigest(Option<Box<str>>);

impl KeyDigest {
    #[cfg(feature = "blake3")]
    pub(super) fn of(key: &CacheKey) -> Self {
        Self(Some(blake3::hash(key.as_bytes()).to_hex().as_str().into()))
    }

    #[cfg(not(feature = "blake3"))]
    pub(super) fn of(_: &CacheKey) -> Self {
        Self(None)
    }
}

/// Adds what Fastly tells, in its forms, before what caches nearer to the origin have told.
pub(super) fn add(delivery: &mut Delivery<'_>, digest: Option<&KeyDigest>) {
    let (cache, now) = (delivery.cache, delivery.now());
    let age = age(delivery.headers);
    let is_hit = delivery.outcome.is_hit();
    let fetched_at = if is_hit { age.and_then(|age| now.checked_sub(age)) } else { Some(now) };
    let fetched = fetched_at.map(|at| format!(" (F {cache} {})", seconds(at))).unwrap_or_default();
    prepend(delivery.headers, PATH, format!("(D {cache} {}){fetched}", seconds(now)));
    prepend(delivery.headers, TTL, ttl(cache, delivery.outcome, age));
    if let Some(digest) = digest.and_then(|digest| digest.0.as_deref())
        && let Ok(digest) = HeaderValue::from_str(digest)
    {
        delivery.headers.insert(DIGEST, digest);
    }
}

/// `(H cache 299.000 - 12)`: a hit, the lifetime left, the time left to stand in for an error, which is not known here, and
/// the age. For a miss: `(M cache - - -)`.
fn ttl(cache: &str, outcome: &Outcome, age: Option<Duration>) -> String {
    match outcome {
        Outcome::Hit { ttl, .. } => {
            let age = age.map_or("-".to_owned(), |age| age.as_secs().to_string());
            format!("(H {cache} {ttl}.000 - {age})")
        }
        _ => format!("(M {cache} - - -)"),
    }
}

fn age(headers: &HeaderMap) -> Option<Duration> {
    let seconds = delta_seconds(headers.get(header::AGE)?.as_bytes())?;
    Some(Duration::from_secs(seconds.into()))
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The newest comes first.
fn prepend(headers: &mut HeaderMap, name: HeaderName, newest: String) {
    let value = match headers.get(&name).and_then(|earlier| earlier.to_str().ok()) {
        Some(earlier) => format!("{newest} {earlier}"),
        None => newest,
    };
    if let Ok(value) = HeaderValue::from_str(&value) {
        headers.insert(name, value);
    }
}
