//! Telling what happened: everything about an outcome goes through here.

use http::{HeaderMap, HeaderValue, StatusCode};

use crate::semantics::cache_status::{CACHE_STATUS, Outcome, X_CACHE};

/// How the cache speaks of itself in responses.
#[derive(Debug)]
pub(crate) struct Voice {
    /// The cache's name: a token.
    pub(crate) name: Box<str>,
    /// Whether `X-Cache` is sent beside `Cache-Status`.
    pub(crate) x_cache: bool,
}

impl Voice {
    /// The number of fields that [`Voice::tell`] adds.
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
