//! Which way a request takes, before anything is looked up for it.
//!
//! The service goes these ways, and [`CacheHandle::explain`](crate::CacheHandle::explain) says where they lead: both by this one
//! function, so that no explanation differs from what happens.

use std::sync::Arc;

use http::Method;
use http::request::Parts;
use http_body::Body;

use crate::entry::key::{self, CacheKey, KeyParts};
use crate::entry::slice::SliceRequest;
use crate::policy::words::{CONTENT, UPGRADE};
use crate::policy::{Reason, RequestAction, RequestPolicy};
use crate::respond::request::CacheRequest;
use crate::semantics::cache_status::Detail;
use crate::semantics::fields::RequestFields;
use crate::semantics::framing;
use crate::semantics::methods::is_unsafe;
use crate::semantics::reuse::{Decision, Forward};
use crate::shared::Core;

/// What there is to do with a request. One of the methods that consume it is called, once.
pub(crate) trait Ways: Sized {
    /// The content of the request.
    type Content: Body;
    /// What comes of it.
    type End;

    /// The content, of which nothing is read.
    fn content(&self) -> &Self::Content;

    /// The key is known, and reported whatever comes.
    fn keyed(&mut self, key: &CacheKey);

    /// An unsafe method: the request is forwarded, and its success invalidates what the key's URI names.
    fn change(
        self,
        key: CacheKey,
        request: Parts,
        bypass: Option<Reason>,
        policy: RequestPolicy,
    ) -> Self::End;

    /// The cache's business: what is stored decides.
    fn look_up(self, request: CacheRequest) -> Self::End;

    /// [`Ways::look_up`] for a request that may be answered by a slice.
    fn look_up_slice(self, request: CacheRequest, slice: Arc<SliceRequest>) -> Self::End;

    /// The request is forwarded, and nothing is stored.
    fn pass(
        self,
        request: Parts,
        forward: Forward,
        detail: Option<Detail>,
        policy: RequestPolicy,
    ) -> Self::End;
}

/// Sends a request its way.
#[inline(always)] // a hit would move the request's head and its key once more
pub(crate) fn classify<W: Ways>(core: &Core, mut parts: Parts, mut way: W) -> W::End {
    key::as_query(&mut parts);
    let (action, policy) = RequestPolicy::ask(&core.policy, &mut parts);
    let mut key = match action {
        RequestAction::Bypass(reason) => {
            // An unsafe request invalidates its target all the same (RFC 9111 4.4).
            if is_unsafe(&parts.method)
                && let Ok(key) = CacheKey::of(&parts)
            {
                return way.change(key, parts, Some(reason), policy);
            }
            return way.pass(parts, Forward::Bypass, Some(reason.into()), policy);
        }
        RequestAction::Cache(key) => key,
    };
    let further = parts.extensions.get::<KeyParts>().cloned();
    let has_content = further.as_ref().is_some_and(KeyParts::has_content);
    let is_query = parts.method == Method::QUERY && has_content;
    let is_read = parts.method == Method::GET || parts.method == Method::HEAD || is_query;
    let has_stored_options = !is_read && has_stored_options(&parts, &policy);
    if !is_read && !has_stored_options {
        let key = match further {
            None => key,
            // The answer to a POST may be stored.
            Some(further) => further.key_without_content(key),
        };
        way.keyed(&key);
        return if is_unsafe(&parts.method) {
            way.change(key, parts, None, policy)
        } else {
            way.pass(parts, Forward::Method, None, policy)
        };
    }
    let mut fields = RequestFields::of(&parts.headers);
    if has_stored_options {
        (fields.conditions, fields.range) = (false, false); // RFC 9110 13.2.1, 14.2
    }
    if let Some(reason) = kept_apart(&parts, fields, has_content, way.content()) {
        way.keyed(&key);
        return way.pass(parts, Forward::Bypass, Some(Reason::from(reason).into()), policy);
    }
    // In place: a key is moved by a copy of all its bytes.
    if let Some(further) = further {
        key = further.key(key, &parts.headers);
        if let Some(slice) = further.asked_slice().filter(|_| is_read && !is_query) {
            way.keyed(&key);
            let request = CacheRequest::new(parts, fields, key, core.clock.now(), policy);
            return way.look_up_slice(request, Arc::clone(slice));
        }
    }
    if has_stored_options {
        key = key.for_options();
    }
    way.keyed(&key);
    way.look_up(CacheRequest::new(parts, fields, key, core.clock.now(), policy))
}

/// Whether a request is an OPTIONS about a path whose answers the policy has stored.
#[cold]
fn has_stored_options(request: &Parts, policy: &RequestPolicy) -> bool {
    request.method == Method::OPTIONS && request.uri.path() != "*" && policy.rules(request).options
}

/// Why a GET, HEAD or QUERY is forwarded as it is; `None` where it is the cache's business. `has_known_content`: that of a
/// QUERY, which is part of what is asked.
#[inline]
pub(super) fn kept_apart<Q: Body>(
    request: &Parts,
    fields: RequestFields,
    has_known_content: bool,
    body: &Q,
) -> Option<&'static str> {
    if fields.upgrade {
        return Some(UPGRADE);
    }
    let (least, is_end) = (body.size_hint().lower(), body.is_end_stream());
    let has_content = framing::request_has_content(request.version, fields.content, least, is_end);
    (has_content && !has_known_content).then_some(CONTENT)
}

/// What is to be said of an answer from storage.
pub(crate) fn detail_of(decision: Decision) -> Option<Detail> {
    match decision {
        Decision::ServeStale(_) => Some(Detail::StaleWhileRevalidate),
        Decision::StandIn(_) => Some(Detail::StaleIfError),
        _ => None,
    }
}
