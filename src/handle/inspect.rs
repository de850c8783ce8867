//! What is stored for a request, as an operator may see it.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::HeaderValue;
use http::request::Parts;

use super::CacheHandle;
use super::signpost::{is_of_peer, of_client, of_peer};
use crate::entry::Levels;
use crate::entry::key::{self, CacheKey, ShownPart, ShownValue, is_secret};
use crate::respond::request::CacheRequest;
use crate::store::{Expired, Store, Stored};

/// What is stored for a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// The keys that were looked up: that of the request; that of the same request by another cache of the same owner, where the
    /// policy keeps apart what those get; and those of a plain GET of its URI, where these are other ones. Other keys by which the
    /// policy says that it is stored ([`CachePolicy::spellings`](crate::CachePolicy::spellings)) are there if they have anything.
    pub keys: Vec<InspectedKey>,
}

/// A key, and what is stored under it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InspectedKey {
    /// Whether the store could not say what it has.
    pub failed: bool,
    /// Whether it is for other caches of the same owner, which ask this one, and not for clients.
    pub is_for_peers: bool,
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
    /// Which levels of a tier keep it.
    pub levels: Levels,
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
        let now = || self.shared.core.clock.now();
        let mut keys = Vec::new();
        for Candidate { asked, is_for_peers, is_of_request, is_spelling, key } in self.candidates(request) {
            let found = self.shared.get(&key).await;
            let (failed, lookup) = (found.is_none(), found.unwrap_or_default());
            if is_spelling && lookup.variants.is_empty() {
                continue;
            }
            let of = |stored| InspectedVariant::of(stored, now(), asked.as_deref());
            let (variants, parts) = (lookup.variants.iter().map(of).collect(), key.shown_parts());
            keys.push(InspectedKey { failed, is_for_peers, is_of_request, key, parts, variants });
        }
        Inspection { keys }
    }

    /// The keys under which something may be stored for a request, each of them once.
    fn candidates(&self, request: &Parts) -> Vec<Candidate> {
        let core = &self.shared.core;
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut add = |candidate: Candidate| {
            if candidates.iter().all(|known| known.key != candidate.key) {
                candidates.push(candidate);
            }
        };
        let is_peers = is_of_peer(request);
        let [own, other] = match is_peers {
            false => [request.clone(), of_peer(request)],
            true => [request.clone(), of_client(request)],
        }
        .map(|request| self.classified(request).keyed());
        let key = |keyed: &Option<(CacheKey, _)>| keyed.as_ref().map(|(key, _)| key.clone());
        let (own_key, are_apart) = (key(&own), key(&own) != key(&other));
        for (keyed, is_of_request) in [(own, true), (other, false)] {
            if let Some((key, asked)) = keyed {
                let is_for_peers = are_apart && is_of_request == is_peers;
                add(Candidate { asked, is_for_peers, is_of_request, ..Candidate::plain(key) });
            }
        }
        let uri = key::absolute_uri(request);
        for key in uri.iter().flat_map(|uri| core.keys_of(uri.clone())) {
            add(Candidate::plain(key));
        }
        for key in uri.into_iter().filter_map(|uri| core.key_for_peers(uri)) {
            add(Candidate { is_for_peers: true, ..Candidate::plain(key) });
        }
        for key in own_key.iter().flat_map(|key| core.spellings_of(key)) {
            add(Candidate { is_spelling: true, ..Candidate::plain(key) });
        }
        candidates
    }
}

/// A key under which something may be stored for a request.
struct Candidate {
    /// The request that has it.
    asked: Option<Box<CacheRequest>>,
    is_for_peers: bool,
    is_of_request: bool,
    /// It is another spelling, of interest only if something is there.
    is_spelling: bool,
    key: CacheKey,
}

impl Candidate {
    /// Of a plain GET.
    fn plain(key: CacheKey) -> Self {
        Self { asked: None, is_for_peers: false, is_of_request: false, is_spelling: false, key }
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
            levels: head.levels(),
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
