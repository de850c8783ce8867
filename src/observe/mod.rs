//! What became of a request: the one place where it is reported.

use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::body::CacheBody;
use crate::semantics::cache_status::{CACHE_STATUS, Outcome, X_CACHE};

/// The longest URI that is reported whole.
const LONGEST_KEY: usize = 1024;

/// A response with what became of its request, which is not reported yet.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) response: Response<CacheBody>,
    pub(crate) upstream: Upstream,
}

/// Where an answer has the `Cache-Status` of caches nearer to the origin.
#[derive(Debug)]
pub(crate) enum Upstream {
    /// Among its fields, if anywhere.
    InFields,
    /// With the stored response, if anywhere.
    Stored(Option<HeaderValue>),
}

impl Answer {
    /// An answer with a status and fields, whose `Cache-Status` is among them if there is one.
    pub(crate) fn new(status: StatusCode, headers: HeaderMap, body: CacheBody, outcome: Outcome) -> Self {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Self { outcome, response, upstream: Upstream::InFields }
    }
}

/// How the cache speaks of itself in responses.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    /// Whether `Cache-Status` has the key's URI.
    pub(crate) key: bool,
    /// The cache's name: a token.
    pub(crate) name: Box<str>,
    /// Whether `X-Cache` is sent as well as `Cache-Status`.
    pub(crate) x_cache: bool,
}

impl Reporter {
    /// The number of fields that [`Reporter::report`] adds.
    pub(crate) fn fields(&self) -> usize {
        1 + usize::from(self.x_cache)
    }

    /// Reports an answer to its client. `key` is the URI of the request's key, if that is to be reported.
    #[inline]
    pub(crate) fn report(&self, answer: Answer, key: Option<&[u8]>) -> Response<CacheBody> {
        let Answer { outcome, mut response, upstream } = answer;
        let status = response.status();
        let headers = response.headers_mut();
        match upstream {
            Upstream::InFields => {
                headers.append(CACHE_STATUS, outcome.render(&self.name, None));
            }
            Upstream::Stored(upstream) => {
                headers.insert(CACHE_STATUS, outcome.render(&self.name, upstream.as_ref()));
            }
        }
        if self.x_cache {
            headers.insert(X_CACHE, HeaderValue::from_static(outcome.x_cache(status)));
        }
        if let Some(key) = key {
            add_key(key, headers);
        }
        response
    }

    /// Puts empty slots for what is reported later.
    pub(crate) fn reserve(&self, headers: &mut HeaderMap) {
        headers.insert(CACHE_STATUS, HeaderValue::from_static(""));
        if self.x_cache {
            headers.insert(X_CACHE, HeaderValue::from_static(""));
        }
    }
}

/// Adds the URI of the key to the last member of `Cache-Status` (RFC 9211 2.7).
fn add_key(uri: &[u8], headers: &mut HeaderMap) {
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
