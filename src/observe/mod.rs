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
    /// caches nearer to the origin already; those of a stored one are `upstream`.
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
            Place::Stored { upstream } => {
                headers.insert(CACHE_STATUS, outcome.render(&self.name, upstream));
            }
        }
        if self.x_cache {
            headers.insert(X_CACHE, HeaderValue::from_static(outcome.x_cache(status)));
        }
    }

    /// What is told with a stored response: the parts of `Cache-Status`, and `X-Cache`.
    #[inline]
    pub(crate) fn told<T>(
        &self,
        outcome: &Outcome,
        status: StatusCode,
        upstream: Option<&[u8]>,
        with: impl FnOnce([&[u8]; 3], &'static str) -> T,
    ) -> T {
        let member = outcome.line(&self.name);
        let (upstream, separator): (_, &[u8]) = match upstream {
            None => (&b""[..], b""),
            Some(upstream) => (upstream, b", "),
        };
        with([upstream, separator, member.as_bytes()], outcome.x_cache(status))
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
}

/// Where `Cache-Status` goes.
pub(crate) enum Place<'a> {
    Append,
    /// The members of caches nearer to the origin are not among the fields.
    Stored {
        upstream: Option<&'a [u8]>,
    },
}
