//! What the rules say of a response, and what a policy makes of it.

use std::time::SystemTime;

use http::{HeaderMap, Method, StatusCode, request, response};

use super::{CachePolicy, PolicyData, PolicyExchange, RequestPolicy, ResponseEdits, Terms};
use crate::entry::key::CacheKey;
use crate::entry::slice::Sliced;
use crate::semantics::cache_control::RequestDirectives;
use crate::semantics::hint::CacheHint;
use crate::semantics::storing::{self, NotStored};
use crate::semantics::terms::{ResponseView, StandardTerms};

/// A request, as a response to it is judged.
#[derive(Clone, Copy)]
pub(crate) struct JudgedRequest<'a> {
    pub(crate) directives: &'a RequestDirectives,
    pub(crate) key: &'a CacheKey,
    /// When it was sent.
    pub(crate) now: SystemTime,
    pub(crate) parts: &'a request::Parts,
}

/// The request that a response answers, as far as rules and policy judge the response by it.
pub(crate) struct Judged<'a> {
    pub(crate) is_background: bool,
    /// The most bytes of content that the store takes.
    pub(crate) max_body: u64,
    /// As it was sent.
    pub(crate) method: &'a Method,
    pub(crate) names_target: bool,
    pub(crate) request: JudgedRequest<'a>,
    /// The fields of the request as it was sent, where the policy wants to see them.
    pub(crate) sent: Option<&'a HeaderMap>,
    /// Whether anything is stored at all.
    pub(crate) store: Result<(), NotStored>,
}

impl Judged<'_> {
    /// The terms of a response that was received at `received_at`.
    pub(crate) fn terms(
        &self,
        policy: &RequestPolicy,
        response: &response::Parts,
        received_at: SystemTime,
    ) -> (ResponseView, Terms) {
        self.terms_by(&*policy.hooks, &policy.data, response, received_at)
    }

    /// [`Judged::terms`] by a policy that has left this data for its later hooks.
    pub(crate) fn terms_by(
        &self,
        policy: &dyn CachePolicy,
        data: &PolicyData,
        response: &response::Parts,
        received_at: SystemTime,
    ) -> (ResponseView, Terms) {
        let JudgedRequest { directives, key, now, parts } = self.request;
        let rules = policy.rules(parts, data);
        let mut view = ResponseView::of(response.status, &response.headers, received_at, rules);
        let mut edits = ResponseEdits::new(&response.headers);
        let mut exchange = PolicyExchange::new(key, parts, response, rules, &view.directives, data);
        exchange.is_background = self.is_background;
        exchange.sent = self.sent;
        policy.receive(&exchange, &mut edits);
        let (edits, tags, unstored) = edits.into_parts();
        let received = response;
        let edited = edits.as_ref().and_then(|edits| Some(with_headers(response, edits.judged.clone()?)));
        let response = edited.as_ref().unwrap_or(response);
        if edited.is_some() {
            view = ResponseView::of(response.status, &response.headers, received_at, rules);
        }
        let age = view.initial_age(now, received_at);
        let hint = response.extensions.get::<CacheHint>();
        if let Some(hint) = hint {
            hint.outweigh(&mut view, response.status, age, rules);
        }
        let exchange = storing::Exchange {
            method: self.method,
            names_target: self.names_target,
            is_slice: response.status == StatusCode::PARTIAL_CONTENT
                && parts.extensions.get::<Sliced>().is_some(),
            request: &parts.headers,
            request_directives: directives,
            keyed: key.keyed_credentials(&parts.headers),
            is_identified: key.is_identified(),
            status: response.status,
            response: &response.headers,
            response_fields: view.fields,
            directives: &view.directives,
            source: view.source,
        };
        let mut standard = StandardTerms::of(&exchange, view.lifetime, key.uri(), rules);
        if let Some(hint) = hint {
            hint.add_to_terms(&mut standard);
        }
        standard.add_tags(tags.tags, tags.has_bad_tag);
        let unstored = view.directives.unstored().chain(&unstored);
        let mut terms = Terms::from_standard(standard, age, self.max_body, unstored);
        terms.edits = edits.map(Box::new);
        terms.browser_lifetime = hint.and_then(|hint| hint.browser_lifetime);
        terms.store = self.store.and(terms.store);
        let mut exchange = PolicyExchange::new(key, parts, response, rules, &view.directives, data);
        exchange.is_background = self.is_background;
        exchange.received = received;
        exchange.sent = self.sent;
        policy.response(&exchange, &mut terms);
        terms.settle(rules);
        (view, terms)
    }
}

/// The same response with other fields.
fn with_headers(response: &response::Parts, headers: HeaderMap) -> response::Parts {
    let mut edited = response.clone();
    edited.headers = headers;
    edited
}
