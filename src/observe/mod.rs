//! Telling what happened: everything about an outcome goes through here.

use http::{HeaderMap, HeaderValue, StatusCode};

use crate::semantics::cache_status::{CACHE_STATUS, Outcome, X_CACHE};

/// The longest URI that is told whole.
const LONGEST_KEY: usize = 1024;

/// How the cache speaks of itself in responses.
#[derive(Debug)]
pub(crate) struct CacheStatusWriter {
    /// Whether `Cache-Status` has the key's URI.
    pub(crate) key: bool,
    /// The cache's name: a token.
    pub(crate) name: Box<str>,
    /// Whether `X-Cache` is sent beside `Cache-Status`.
    pub(crate) x_cache: bool,
}

impl CacheStatusWriter {
    /// The number of fields that [`CacheStatusWriter::tell`] adds.
    pub(crate) fn fields(&self) -> usize {
        1 + usize::from(self.x_cache)
    }

    /// Tells a client, in the fields of a response with `status`. A forwarded response has the members of
    /// caches nearer to the origin already; a stored one has a slot, which `upstream` and ours fill.
    pub(crate) fn tell(
        &self,
        outcome: &Outcome,
        status: StatusCode,
        headers: &mut HeaderMap,
        place: Place<'_>,
    ) {
        match place {
            Place::Append => {
                headers.append(CACHE_STATUS, outcome.render(&self.name, None));
            }
            Place::Slot { upstream } => {
                headers.insert(CACHE_STATUS, outcome.render(&self.name, upstream));
            }
        }
        if self.x_cache {
            headers.insert(X_CACHE, HeaderValue::from_static(outcome.x_cache(status)));
        }
    }

    /// Adds the URI of the key to the member that was told last (RFC 9211 2.7).
    pub(crate) fn tell_key(uri: &[u8], headers: &mut HeaderMap) {
        let mut lines: Vec<HeaderValue> = headers.get_all(CACHE_STATUS).into_iter().cloned().collect();
        let Some(last) = lines.pop() else {
            return;
        };
        let mut line = last.as_bytes().to_vec();
        line.extend_from_slice(b"; key=\"");
        for &byte in uri.iter().take(LONGEST_KEY) {
            match byte {
                b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
                b' '..=b'~' => line.push(byte),
                _ => line.push(b'-'),
            }
        }
        line.push(b'"');
        lines.extend(HeaderValue::from_bytes(&line));
        headers.remove(CACHE_STATUS);
        for line in lines {
            headers.append(CACHE_STATUS, line);
        }
    }

    /// Puts empty slots for what is told later.
    pub(crate) fn reserve(&self, headers: &mut HeaderMap) {
        headers.insert(CACHE_STATUS, HeaderValue::from_static(""));
        if self.x_cache {
            headers.insert(X_CACHE, HeaderValue::from_static(""));
        }
    }
}

/// Where `Cache-Status` goes.
pub(crate) enum Place<'a> {
    Append,
    Slot { upstream: Option<&'a HeaderValue> },
}
