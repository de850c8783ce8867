//! The rules of HTTP caching as pure functions.
//!
//! There is one module for each part of the standards. Nothing here knows about futures, stores or clocks, and time is
//! always an argument. The service carries out what these functions decide.
//!
//! Public is what a policy, a store or somebody who reads outcomes has to name: [`Rules`] with the types of its choices,
//! [`NotStored`](storing::NotStored), [`Outcome`](cache_status::Outcome) and what they are made of.
//!
//! | module | standard | what |
//! |---|---|---|
//! | [`accept`] | RFC 9110 12.5 | codings, languages and media types with weights |
//! | `answer` | RFC 9110 14.6, 15 | the fields of a 206, 304 or 416, and what only the first client gets |
//! | `browser` | - | a lifetime for clients that is not this cache's |
//! | `bytes` | - | how values are written down |
//! | `cache_control` | RFC 9111 5.2 | directives of requests and responses |
//! | [`cache_status`] | RFC 9211 | reporting what the cache did |
//! | `collapse` | RFC 9111 4 | which requests one call may answer |
//! | `coding` | RFC 9110 8.4 | content codings, and which requests accept them |
//! | `credentials` | RFC 9111 3.5 | who may share a response |
//! | `date` | RFC 9110 5.6.7 | HTTP dates |
//! | `deception` | - | paths that look like those of static files, and are not |
//! | [`etag`] | RFC 9110 8.8.3 | entity tags: comparison, generation |
//! | [`fields`] | RFC 9111 3.1 | which fields are stored |
//! | `framing` | RFC 9112 6 | the length and the transfer coding of a message |
//! | [`freshness`] | RFC 9111 4.2 | lifetime and age |
//! | [`groups`] | RFC 9875 | responses that are invalidated together |
//! | `head` | RFC 9111 4.3.5 | the answer to a HEAD, and the stored response that it is about |
//! | `hint` | - | what a handler says of its own response, apart from the fields |
//! | `incumbent` | RFC 9111 4.3.3 | a stored success that an error must not replace |
//! | `invalidation` | RFC 9111 4.4 | what an unsafe request makes invalid |
//! | `methods` | RFC 9110 9 | what a method says of caching |
//! | `no_vary_search` | draft-ietf-httpbis-no-vary-search | parts of a query that do not matter |
//! | `outcome_kind` | | outcomes in one word, for counting |
//! | `outgoing` | RFC 9111 4.3.1 | what is asked in place of the client's conditions |
//! | [`parts`] | RFC 9111 3.3, 3.4 | partial content: what is held, and what is missing |
//! | `preconditions` | RFC 9110 13 | `If-None-Match` and its relatives |
//! | [`range`] | RFC 9110 14 | byte ranges |
//! | `received` | RFC 9111 3.4, 4.3 | what a response is to the request that brought it |
//! | [`reuse`] | RFC 9111 4 | which stored response answers, and how |
//! | `rules` | RFC 9111 | the choices that it leaves |
//! | `status` | RFC 9110 15 | what a status says of caching |
//! | `stored` | RFC 9111 3.1 | the fields of a stored response |
//! | [`storing`] | RFC 9111 3 | whether a response may be stored |
//! | `tagging` | RFC 9110 8.8.3 | which responses get an entity tag here |
//! | `targeted` | RFC 9213 | cache control for one class of caches |
//! | `terms` | RFC 9111 3, 4, 5 | the terms of a response, and what no policy lifts |
//! | `token` | | tokens that a request shows in a field, compared in constant time |
//! | [`unkeyed`] | - | fields that services believe and that no key holds |
//! | `uri` | RFC 3986 3.1 | what a scheme is |
//! | `validation` | RFC 9111 4.3 | asking the origin, freshening what is stored |
//! | [`vary`] | RFC 9111 4.1 | selecting fields |

pub mod accept;
pub(crate) mod answer;
pub(crate) mod browser;
pub(crate) mod bytes;
pub(crate) mod cache_control;
pub mod cache_status;
pub(crate) mod coding;
pub(crate) mod collapse;
pub(crate) mod credentials;
pub(crate) mod date;
pub(crate) mod deception;
pub mod etag;
pub mod fields;
pub(crate) mod framing;
pub mod freshness;
pub mod groups;
pub(crate) mod head;
pub(crate) mod hint;
pub(crate) mod incumbent;
pub(crate) mod invalidation;
pub(crate) mod methods;
pub(crate) mod no_vary_search;
pub(crate) mod outcome_kind;
pub(crate) mod outgoing;
pub mod parts;
pub(crate) mod preconditions;
pub mod range;
pub(crate) mod received;
pub(crate) mod rest;
pub mod reuse;
mod rules;
pub(crate) mod status;
pub(crate) mod stored;
pub mod storing;
pub(crate) mod tagging;
pub(crate) mod targeted;
pub(crate) mod terms;
pub(crate) mod token;
pub mod unkeyed;
pub(crate) mod uri;
pub(crate) mod validation;
pub mod vary;

/// A dependency of this test is no part of what the schedule explorer compiles.
#[cfg(all(test, not(shuttle)))]
mod differential;

pub(crate) use self::methods::is_retrieval;

pub use self::credentials::{CredentialKinds, Credentials};
pub use self::rest::FailureRest;
pub use self::rules::Rules;

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};
    use proptest::prelude::*;

    /// Fields by name and value, in their order.
    #[track_caller]
    pub(super) fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let mut headers = HeaderMap::new();
        for (name, value) in fields.iter().map(field) {
            headers.append(name, value);
        }
        headers
    }

    /// Anything that can be the value of a field line.
    pub(super) fn any_value() -> impl Strategy<Value = HeaderValue> {
        let byte = prop_oneof![20 => b' '..=b'~', 4 => 0x80..=0xff_u8, 1 => Just(b'\t')];
        let bytes = prop::collection::vec(byte, 0..80);
        bytes.prop_map(|bytes| HeaderValue::from_bytes(&bytes).expect("a value"))
    }
}
