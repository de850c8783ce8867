//! The rules of HTTP caching as pure functions.
//!
//! One module for each part of the standards: nothing here knows of futures, stores or clocks, and time is
//! always an argument. The service carries out what these functions decide.
//!
//! | module | standard | what |
//! |---|---|---|
//! | [`accept`] | RFC 9110 12.5 | codings, languages and media types with weights |
//! | `bytes` | - | how values are written down |
//! | [`cache_control`] | RFC 9111 5.2 | directives of requests and responses |
//! | [`cache_status`] | RFC 9211 | telling what the cache did |
//! | `coding` | RFC 9110 8.4 | content codings, and which requests accept them |
//! | [`date`] | RFC 9110 5.6.7 | HTTP dates |
//! | [`etag`] | RFC 9110 8.8.3 | entity tags: comparison, generation |
//! | [`fields`] | RFC 9111 3.1 | which fields are stored |
//! | `framing` | RFC 9112 6 | the length and the transfer coding of a message |
//! | [`freshness`] | RFC 9111 4.2 | lifetime and age |
//! | [`groups`] | RFC 9875 | responses that are invalidated together |
//! | [`invalidation`] | RFC 9111 4.4 | what an unsafe request makes invalid |
//! | [`no_vary_search`] | draft-ietf-httpbis-no-vary-search | parts of a query that do not matter |
//! | [`parts`] | RFC 9111 3.3, 3.4 | partial content: what is held, and what is missing |
//! | [`preconditions`] | RFC 9110 13 | `If-None-Match` and its relatives |
//! | [`range`] | RFC 9110 14 | byte ranges |
//! | [`reuse`] | RFC 9111 4 | which stored response answers, and how |
//! | [`status`] | RFC 9110 15 | what a status says of caching |
//! | [`storing`] | RFC 9111 3 | whether a response may be stored |
//! | [`targeted`] | RFC 9213 | cache control for one class of caches |
//! | [`unkeyed`] | - | fields that services believe and that no key holds |
//! | [`validation`] | RFC 9111 4.3 | asking the origin, freshening what is stored |
//! | [`vary`] | RFC 9111 4.1 | selecting fields |

pub mod accept;
pub(crate) mod bytes;
pub mod cache_control;
pub mod cache_status;
mod coding;
pub mod date;
pub mod etag;
pub mod fields;
pub(crate) mod framing;
pub mod freshness;
pub mod groups;
pub mod invalidation;
pub mod no_vary_search;
pub mod parts;
pub mod preconditions;
pub mod range;
pub mod reuse;
pub mod status;
pub mod storing;
pub mod targeted;
pub mod unkeyed;
pub mod validation;
pub mod vary;

use std::time::Duration;

use http::Method;
use http::header::{self, HeaderMap, HeaderName};

/// The points at which RFC 9111 leaves a choice, or a careful cache takes a stricter reading.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rules {
    /// Whether a client may ask for something fresher than what is stored: by `no-cache`, `max-age`, `min-fresh` or
    /// `Pragma` (RFC 9111 5.2.1, 5.4). Off, a client forces neither a validation nor a new response for everybody.
    /// `no-store`, `only-if-cached`, `max-stale` and `stale-if-error` count either way.
    pub client_directives: bool,
    /// How `Accept-Encoding` matches. With [`accept::Codings::Known`], what is forwarded has to be normalised
    /// too, which `StandardPolicy` does.
    pub codings: accept::Codings,
    /// What must be said before a response is shared between people.
    pub credentials: Credentials,
    /// Whether an error is stored that one request can draw by its fields ([`status::is_drawn_by_request`]).
    pub drawn_errors: bool,
    /// Whether a HEAD for which nothing is stored is sent as a GET, so that the answer can be stored.
    pub head_as_get: bool,
    /// Freshness where the origin gives none; `None` for never.
    pub heuristic: Option<freshness::Heuristic>,
    /// Whether `immutable` (RFC 8246) outweighs a client's reload while the response is fresh.
    pub immutable: bool,
    /// How long a validation is waited for where the stale response may stand in for an error; then it is served,
    /// and the validation goes on behind. `None` for as long as it takes.
    pub latency_budget: Option<Duration>,
    /// How `Accept-Language` matches.
    pub languages: accept::Languages,
    /// The longest freshness lifetime of a 4xx or 5xx, whatever it says itself; `None` for no bound.
    pub max_error_lifetime: Option<Duration>,
    /// Whether `No-Vary-Search` lets a response answer for other queries than the one it was stored for.
    pub no_vary_search: bool,
    /// Whether partial content (206) is stored, combined, and completed by asking for what is missing
    /// (RFC 9111 3.3, 3.4).
    pub partial: bool,
    /// Whether the answer to a POST that has explicit freshness and names the target URI in
    /// `Content-Location` is stored for later GETs (RFC 9110 9.3.3).
    pub post: bool,
    /// Whether a response that is `private` may be stored where the key holds every credential of the
    /// request: then only the same person gets it. A deviation from RFC 9111 5.2.2.7; off by default.
    pub private_by_key: bool,
    /// How long before it becomes stale, at most half its lifetime, a response that is asked for is validated behind.
    /// `None` for not at all.
    pub refresh_ahead: Option<Duration>,
    /// How long past its lifetime a response stands in for an error where neither it nor the request says
    /// (RFC 5861 4, RFC 9111 4.2.4).
    pub stale_if_error: Duration,
    /// Targeted fields (RFC 9213) in the order in which they count, before `Cache-Control`.
    pub targets: Vec<HeaderName>,
    /// Request fields that the inner service does not get to see, and that select nothing for that reason. What is
    /// forwarded has to be stripped of them, which `StandardPolicy` does.
    pub unkeyed: unkeyed::UnkeyedFields,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            client_directives: false,
            codings: accept::Codings::default(),
            credentials: Credentials::Explicit,
            drawn_errors: false,
            head_as_get: true,
            heuristic: Some(freshness::Heuristic::default()),
            immutable: true,
            languages: accept::Languages::default(),
            latency_budget: None,
            max_error_lifetime: Some(Duration::from_secs(300)),
            no_vary_search: true,
            partial: false,
            post: false,
            private_by_key: false,
            refresh_ahead: None,
            stale_if_error: Duration::ZERO,
            targets: vec![targeted::CDN_CACHE_CONTROL],
            unkeyed: unkeyed::UnkeyedFields::default(),
        }
    }
}

/// Whether the answer to a request is what its target has to say to everybody: GET, and QUERY with its content
/// (RFC 10008 2).
pub(crate) fn is_retrieval(method: &Method) -> bool {
    *method == Method::GET || *method == Method::QUERY
}

/// What must be said before a response is shared between people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// `Authorization` as in RFC 9111 3.5, and `Cookie` and `Set-Cookie` in the same way: stored, and
    /// reused for requests that carry credentials, only where the response says `public` or `s-maxage` (for
    /// cookies, a targeted lifetime does too), or the key holds the credential.
    Explicit,
    /// RFC 9111 3.5 to the letter: it knows `Authorization` on the request that is stored, and nothing else.
    Rfc9111,
}

/// Kinds of credentials: those that a request carries, that a key holds, or that a response may be shared
/// in spite of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CredentialKinds {
    /// `Authorization`.
    pub authorization: bool,
    /// `Cookie`, the whole field.
    pub cookie: bool,
}

impl CredentialKinds {
    /// The kinds that a request carries.
    pub fn of(request: &HeaderMap) -> Self {
        Self {
            authorization: request.contains_key(header::AUTHORIZATION),
            cookie: request.contains_key(header::COOKIE),
        }
    }

    /// The kinds that are not among `others`.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self {
            authorization: self.authorization && !others.authorization,
            cookie: self.cookie && !others.cookie,
        }
    }

    /// Whether there is any.
    pub fn any(self) -> bool {
        self.authorization || self.cookie
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    /// Anything that can be the value of a field line.
    pub(super) fn any_value() -> impl Strategy<Value = HeaderValue> {
        let byte = prop_oneof![20 => b' '..=b'~', 4 => 0x80..=0xff_u8, 1 => Just(b'\t')];
        let bytes = prop::collection::vec(byte, 0..80);
        bytes.prop_map(|bytes| HeaderValue::from_bytes(&bytes).expect("a value"))
    }
}
