//! What the hooks of a policy get to see, and what they say.

use std::borrow::Cow;
use std::fmt;
use std::time::SystemTime;

use http::{HeaderMap, StatusCode, request, response};

use super::PolicyData;
use crate::entry::key::CacheKey;
use crate::runtime::clock::Clock;
use crate::semantics::Rules;
use crate::semantics::cache_control::ResponseDirectives;
use crate::semantics::cache_status::{Detail, Outcome};
use crate::semantics::reuse::Forward;

/// A policy's reason, as `Cache-Status` has it: a short word in lower case, of which 64 bytes count.
#[derive(Clone, PartialEq, Eq)]
pub struct Reason(Cow<'static, str>);

impl Reason {
    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl From<&'static str> for Reason {
    fn from(word: &'static str) -> Self {
        Self(word.into())
    }
}

impl From<String> for Reason {
    fn from(word: String) -> Self {
        Self(word.into())
    }
}

impl From<Reason> for Detail {
    /// Why a request bypasses the cache.
    fn from(reason: Reason) -> Self {
        Self::Bypass(reason.0)
    }
}

/// What the cache does with a request.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "a request is the cache's business or not")]
pub enum RequestAction {
    /// Forwards it and stores nothing. `Cache-Status` reports the reason.
    Bypass(Reason),
    /// Answers it from what is stored under the key, or stores the answer there.
    Cache(CacheKey),
}

impl RequestAction {
    /// Forwards the request, for this reason.
    pub fn bypass(reason: impl Into<Reason>) -> Self {
        Self::Bypass(reason.into())
    }

    /// The key of the request's URI, or a bypass where it has none.
    pub fn of(request: &request::Parts) -> Self {
        match CacheKey::of(request) {
            Ok(key) => Self::Cache(key),
            Err(error) => Self::bypass(error.as_str()),
        }
    }
}

/// Why a request is forwarded.
#[non_exhaustive]
pub struct ForwardReason<'a> {
    /// As `Cache-Status` has it.
    pub forward: Forward,
    /// Whether no client waits: a stored response is validated in the background.
    pub is_background: bool,
    pub(super) data: &'a PolicyData,
}

impl<'a> ForwardReason<'a> {
    pub(crate) fn new(forward: Forward, is_background: bool, data: &'a PolicyData) -> Self {
        Self { forward, is_background, data }
    }

    /// What `request` has left.
    pub fn data<T: Send + Sync + 'static>(&self) -> Option<&'a T> {
        self.data.get()
    }
}

/// A response of the inner service, and the request that it answers.
#[non_exhaustive]
pub struct PolicyExchange<'a> {
    /// What the response says of caches, as the rules read it and a hint outweighs it.
    pub(crate) directives: &'a ResponseDirectives,
    /// Whether no client waits for it.
    pub is_background: bool,
    /// The key under which it would be stored.
    pub key: &'a CacheKey,
    /// The response as it came, before [`CachePolicy::receive`](crate::CachePolicy::receive).
    pub received: &'a response::Parts,
    /// The request as the client sent it and [`CachePolicy::request`](crate::CachePolicy::request) has left it.
    pub request: &'a request::Parts,
    /// The response, as [`CachePolicy::receive`](crate::CachePolicy::receive) has left it.
    pub response: &'a response::Parts,
    /// The fields of the request that was sent to the inner service, where
    /// [`CachePolicy::needs_sent_fields`](crate::CachePolicy::needs_sent_fields).
    pub sent: Option<&'a HeaderMap>,
    /// The readings of RFC 9111 by which the terms were filled in.
    pub rules: &'a Rules,
    pub(super) data: &'a PolicyData,
}

impl<'a> PolicyExchange<'a> {
    pub(crate) fn new(
        key: &'a CacheKey,
        request: &'a request::Parts,
        response: &'a response::Parts,
        rules: &'a Rules,
        directives: &'a ResponseDirectives,
        data: &'a PolicyData,
    ) -> Self {
        let (is_background, received, sent) = (false, response, None);
        Self { directives, is_background, key, received, request, response, rules, sent, data }
    }

    /// What `request` has left.
    pub fn data<T: Send + Sync + 'static>(&self) -> Option<&'a T> {
        self.data.get()
    }
}

/// An answer on its way to the client: from storage, from the inner service, or the cache's own.
#[non_exhaustive]
pub struct Delivery<'a> {
    /// The cache's name, as `Cache-Status` has it.
    pub cache: &'a str,
    clock: &'a Clock,
    /// The fields of the answer, with `Cache-Status` among them.
    pub headers: &'a mut HeaderMap,
    /// What the cache did.
    pub outcome: &'a Outcome,
    /// The status of the answer.
    pub status: StatusCode,
    pub(super) data: &'a PolicyData,
}

impl<'a> Delivery<'a> {
    pub(crate) fn new(
        (cache, clock): (&'a str, &'a Clock),
        status: StatusCode,
        headers: &'a mut HeaderMap,
        outcome: &'a Outcome,
        data: &'a PolicyData,
    ) -> Self {
        Self { cache, clock, headers, outcome, status, data }
    }

    /// The time now, by the clock of the layer.
    pub fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// What `request` has left.
    pub fn data<T: Send + Sync + 'static>(&self) -> Option<&'a T> {
        self.data.get()
    }
}
