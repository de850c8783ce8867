//! What is stored for a request, as an operator may see it.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::HeaderValue;
use http::request::Parts;

use super::CacheHandle;
use super::signpost::Classified;
use crate::entry::key::{self, CacheKey, ShownPart, ShownValue, is_secret};
use crate::respond::request::CacheRequest;
use crate::store::{Expired, Store, Stored};

/// What is stored for a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// The keys that were looked up: that of the request, and those of a plain GET of its URI where these are other ones.
    pub keys: Vec<InspectedKey>,
}

/// A key, and what is stored under it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InspectedKey {
    /// Whether the store could not say what it has.
    pub failed: bool,
    /// Whether it is the key of the request as it was given.
    pub is_of_request: bool,
    /// The key.
    pub key: CacheKey,
    /// Its further parts, without credentials.
    pub parts: Vec<ShownPart>,
    /// What is stored under it, the newest first.
    pub variants: Vec<InspectedVariant>,
}

/// A stored response, without its content and without secrets.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InspectedVariant {
    /// How old it is (RFC 9111 4.2.3); `None` where it comes from the future, because the clock was set back.
    pub age: Option<Duration>,
    /// What soft purges have made of it.
    pub expired: Option<Expired>,
    /// Its fields: names in lower case, and values. Those of `Set-Cookie`, and of fields whose names speak of credentials, are
    /// hidden.
    pub fields: Vec<(String, ShownValue)>,
    /// Whether it is a part of a representation, or the answer to a request for one.
    pub is_part: bool,
    /// Whether its content is elsewhere than in memory.
    pub is_remote: bool,
    /// Its freshness lifetime.
    pub lifetime: Duration,
    /// Whether it is never served stale.
    pub must_revalidate: bool,
    /// Whether each use needs a validation.
    pub no_cache: bool,
    /// When the request for it was sent.
    pub requested: SystemTime,
    /// Whether it is for the request that was given, fresh or not: its selecting fields match, and so do credentials.
    pub selected: bool,
    /// The request fields that select it (`Vary`), and the values that they had.
    pub selecting: Vec<(String, ShownValue)>,
    /// Bytes of content.
    pub size: u64,
    /// How long past its lifetime it may stand in for an error; `None` if neither it nor the policy's terms say.
    pub stale_if_error: Option<Duration>,
    /// How long past its lifetime it may be served while it is validated.
    pub stale_while_revalidate: Duration,
    /// Its status.
    pub status: StatusCode,
    /// The groups and tags by which it can be purged: origin, space, name.
    pub tags: Vec<String>,
    /// Seconds of freshness left, negative when stale.
    pub ttl: i64,
}

impl<S: Store> CacheHandle<S> {
    /// Looks at what is stored for a request: all variants, whether or not this request would get them. Nothing is fetched, and
    /// nothing of the content is read.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use http::Request;
    /// use larder::CacheLayer;
    /// let handle = CacheLayer::default().handle();
    /// let (request, ()) = Request::get("http://example.com/").body(()).unwrap().into_parts();
    /// let found = handle.inspect(&request).await;
    /// assert!(found.keys[0].variants.is_empty());
    /// # });
    /// ```
    pub async fn inspect(&self, request: &Parts) -> Inspection {
        let core = &self.shared.core;
        let (own, asked) = match self.classified(request.clone()) {
            Classified::LookUp(request) => (Some(request.key.clone()), Some(request)),
            Classified::Change { key, .. } => (Some(key), None),
            Classified::Pass { key, .. } => (key, None),
        };
        let others = key::absolute_uri(request).into_iter().flat_map(|uri| core.keys_of(uri));
        let others = others.filter(|key| own.as_ref() != Some(key));
        let mut keys = Vec::new();
        for (is_of_request, key) in
            own.clone().map(|key| (true, key)).into_iter().chain(others.map(|key| (false, key)))
        {
            let found = self.shared.get(&key).await;
            let (failed, lookup) = (found.is_none(), found.unwrap_or_default());
            let variants = lookup.variants.iter().map(|stored| {
                InspectedVariant::of(stored, core.clock.now(), asked.as_deref().filter(|_| is_of_request))
            });
            let (variants, parts) = (variants.collect(), key.shown_parts());
            keys.push(InspectedKey { failed, is_of_request, key, parts, variants });
        }
        Inspection { keys }
    }
}

impl InspectedVariant {
    pub(super) fn of(stored: &Stored, now: SystemTime, asked: Option<&CacheRequest>) -> Self {
        let (head, payload) = (stored.response.head(), stored.response.payload());
        let reuse = head.reuse();
        let age = reuse.age(now);
        let selecting = reuse.selecting.iter();
        let selecting = selecting
            .map(|(name, value)| (name.as_str().to_owned(), ShownValue::of_field(name.as_str(), value)));
        Self {
            age,
            expired: stored.expired,
            fields: head.headers().iter().map(|(name, value)| shown(name.as_str(), value)).collect(),
            is_part: head.part().is_some(),
            is_remote: payload.is_remote(),
            lifetime: reuse.lifetime,
            must_revalidate: reuse.must_revalidate,
            no_cache: reuse.no_cache,
            requested: reuse.request_time,
            selected: asked.is_some_and(|asked| asked.selects(head)),
            selecting: selecting.collect(),
            size: payload.len(),
            stale_if_error: reuse.stale_if_error,
            stale_while_revalidate: reuse.stale_while_revalidate,
            status: head.status(),
            tags: head.groups().map(str::to_owned).collect(),
            ttl: stored.ttl_at(age, now),
        }
    }
}

/// A field of a stored response.
fn shown(name: &str, value: &HeaderValue) -> (String, ShownValue) {
    let is_hidden = value.is_sensitive() || is_secret(name);
    let bytes = Some(value.as_bytes());
    (name.to_owned(), if is_hidden { ShownValue::hidden(bytes) } else { ShownValue::of(bytes) })
}
