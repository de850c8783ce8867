//! What a 304, or the 200 to a HEAD, means for a stored response (RFC 9111 4.3.3 to 4.3.5).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header;
use http::{Method, Response, StatusCode, response};

use super::Fetch;
use super::assess::Tag;
use super::exchange::Exchange;
use super::write::{self, EntryWrite};
use crate::body::CacheBody;
use crate::body::incoming::Incoming;
use crate::collapse::{CallResult, NotShareable};
use crate::entry::StoredResponse;
use crate::observe::Answer;
use crate::respond::open::Opened;
use crate::respond::{Source, no_content};
use crate::runtime::to_its_end;
use crate::semantics::answer::take_over;
use crate::semantics::cache_status::{Detail, Forwarding};
use crate::semantics::head::{self, Agreement};
use crate::semantics::stored;
use crate::semantics::storing::{Effect, NotStored};
use crate::semantics::validation::{self, Identified};
use crate::store::{PutOutcome, Store};

impl<S: Store> Fetch<S> {
    pub(super) fn agreement(&self, response: &Response<Incoming>) -> Agreement {
        let selected = self.exchange.selected().map(|stored| stored.response.head());
        selected.map_or(Agreement::Silent, |stored| {
            let length = stored.fields().get(&header::CONTENT_LENGTH);
            head::agreement(stored.validators(), length, response.headers())
        })
    }

    /// Takes the selected response out of use where the 200 to a HEAD has fields under which a GET could not be stored, and
    /// makes it stale where the two contradict each other.
    pub(super) async fn heed_head(
        &mut self,
        agreement: Agreement,
        response: Response<Incoming>,
    ) -> Response<Incoming> {
        let (parts, body) = response.into_parts();
        let now = self.core().clock.now();
        let method = std::mem::replace(&mut self.sent.method, Method::GET);
        let terms = self.assess(&parts, now).terms.store;
        let word = self.word_of_origin(&parts, now, terms);
        self.sent.method = method;
        let selected = self.exchange.selected();
        let shared = selected.map(|stored| stored.response.head().reuse().shared).unwrap_or_default();
        match agreement.effect(word, shared) {
            Effect::Withdraw => {
                write::withdraw(&self.exchange.shared, &self.exchange.request.key).await;
            }
            Effect::Expire => self.expire_selected().await,
            Effect::EndStaleUse | Effect::None => {}
        }
        Response::from_parts(parts, body)
    }

    /// Makes the selected response stale, if it is still the one that is stored.
    async fn expire_selected(&self) {
        let Some(stored) = self.exchange.selected().cloned() else {
            return;
        };
        let mut head = stored.response.head().clone();
        head.reuse.lifetime = Duration::ZERO;
        let (shared, key) = (Arc::clone(&self.exchange.shared), self.exchange.request.key.clone());
        // Where that fails, it is as fresh as it was.
        let freshened = to_its_end(async move {
            shared.freshen(&key, stored.id, head, stored.fence).await;
        });
        freshened.await;
    }

    /// Freshens the stored response that a 304 speaks of, and answers with it (RFC 9111 4.3.4).
    pub(super) async fn freshen(self, response: Response<Incoming>) -> Answer {
        let (not_modified, _) = response.into_parts();
        let selected = self.exchange.plan.selected();
        match validation::identify(&not_modified.headers, selected, self.validators()) {
            Identified::Freshen(index) => self.update(index, not_modified).await,
            Identified::Unknown => self.not_modified_unexpectedly(not_modified),
        }
    }

    /// Answers a 304 that is about none of the responses that were asked about, or that nobody asked for. It changes nothing
    /// that is stored (RFC 9111 4.3.4).
    pub(super) fn not_modified_unexpectedly(mut self, mut not_modified: response::Parts) -> Answer {
        let now = self.core().clock.now();
        if self.asks_conditionally() {
            // The next requests go out without conditions.
            self.core().unreliable.validations.remember(&self.exchange.request.key, now);
        }
        self.keep_apart(NotShareable::Chance { says_so: false }, now, Duration::ZERO);
        let outcome = Forwarding {
            detail: Some(Detail::UnexpectedNotModified),
            status: Some(StatusCode::NOT_MODIFIED),
            ..Forwarding::new(self.exchange.plan.forward)
        };
        let request = &self.exchange.request.parts.headers;
        if !validation::meets_clients_condition(request, &not_modified.headers, now) {
            return no_content(StatusCode::BAD_GATEWAY, outcome);
        }
        let mut assessment = self.assess(&not_modified, now);
        let rules = self.exchange.request.rules();
        assessment.for_client(not_modified.status, &mut not_modified.headers, rules);
        let response = Response::from_parts(not_modified, CacheBody::empty());
        Answer::received(response, outcome)
    }

    /// Freshens the selected response with what a HEAD has said of it.
    pub(super) async fn freshen_selected(self, response: Response<Incoming>) -> Answer {
        let (head, _) = response.into_parts();
        let index = self.exchange.plan.selected().unwrap_or_default();
        self.update(index, head).await
    }

    /// Gives a stored response the fields of a newer one about the same content, and answers with it.
    async fn update(mut self, index: usize, mut news: response::Parts) -> Answer {
        let received_at = self.core().clock.now();
        let old = self.exchange.lookup.variants[index].clone();
        let head = old.response.head();
        let carried = news.headers.clone();
        let tag = if head.tag_is_ours {
            news.headers.remove(header::ETAG); // nobody has asked about one
            Tag::Ours
        } else {
            Tag::Theirs
        };
        news.headers = validation::freshen(&head.own_fields(), &news.headers);
        if let Some(hint) = &head.hint {
            let hint = hint.freshened(news.extensions.get());
            news.extensions.insert(hint);
        }
        let status = std::mem::replace(&mut news.status, head.status);
        self.sent.method = Method::GET; // of the response that is stored
        self.sent.part = head.part.as_deref().cloned();
        let mut assessment = self.assess(&news, received_at);
        self.admit_freshened(&mut assessment, head);
        let terms = assessment.terms.store;
        let word = self.word_of_origin(&news, received_at, terms);
        let is_cookie_sent = !assessment.terms.takes(&header::SET_COOKIE);
        let mut detail = terms.err().map(|reason| assessment.detail(reason));
        let sent_at = self.exchange.request.now;
        stored::remove_unstored(&mut news.headers, &assessment.terms.unstored);
        assessment.for_client(news.status, &mut news.headers, self.exchange.request.rules());
        let (head, _) = assessment.head(head.status, &news.headers, sent_at, None, tag);
        let ttl = head.reuse.ttl(received_at);
        let response = StoredResponse::new(head, old.response.payload().clone());
        let is_background = self.exchange.background.is_some();
        let shared = Arc::clone(&self.exchange.shared);
        let credentials = old.response.head().reuse().shared;
        if word.is_err_and(|reason| reason.withdraws(credentials)) {
            // From now on nobody else gets it, neither fresh nor stale.
            if !write::withdraw(&shared, &self.exchange.request.key).await {
                detail = Some(Detail::NotInvalidated);
            }
        } else if terms.is_ok() {
            if self.exchange.request.rules().no_vary_search {
                shared.core.aliases.record(&self.exchange.request.key, response.head());
            }
            let write = EntryWrite::of(&mut self.exchange);
            if let Some(leader) = &write.leader {
                // Also if a purge comes first: those that wait have asked before it.
                leader.publish(CallResult::Validated(response.clone()));
            }
            let (head, bytes) = (response.head().clone(), response.head().weight());
            let freshened = Box::pin(async move { write.freshen(old.id, head).await });
            if write::soon(&shared.core.gauges, bytes, None, freshened).await != PutOutcome::Stored {
                detail = Some(Detail::NotStored(NotStored::Store));
            }
        }
        if let Some(leader) = self.exchange.leader.take() {
            match terms {
                // Whether or not a purge came first: those that wait have asked before it.
                Ok(()) => leader.publish(CallResult::Validated(response.clone())),
                Err(reason) => {
                    let lifetime = response.head().reuse.lifetime;
                    let pass_for = assessment.terms.pass_for;
                    leader.not_shareable(NotShareable::of(reason, status, lifetime), received_at, pass_for);
                }
            }
        }
        let outcome = Forwarding {
            stored: detail.is_none(),
            detail,
            status: (status != StatusCode::OK).then_some(status),
            ttl: Some(ttl),
            ..self.exchange.forwarding()
        };
        // Nobody gets the answer to a validation in the background.
        let opened = if is_background { None } else { self.reopened(&response, received_at).await };
        let (source, request) = (Source::Stored(&response, opened), &self.exchange.request);
        let mut answer = request.respond(self.core(), source, outcome, received_at);
        // What is not stored, this client gets all the same: it was sent for it.
        if carried.contains_key(header::SET_COOKIE) && is_cookie_sent {
            take_over(&carried, answer.response.headers_mut(), &header::SET_COOKIE);
        }
        answer
    }

    /// The content that was opened before the call. Where the new fields make it another part that is needed, that is opened
    /// now, and where it is gone there is nothing to answer with.
    async fn reopened(&self, response: &StoredResponse, now: SystemTime) -> Option<Opened> {
        let Exchange { opened, request, shared, .. } = &*self.exchange;
        if !response.payload().is_remote() {
            return None;
        }
        let needed = request.needed(response, now);
        match opened.take() {
            Some(opened) if opened.is_for(&needed) => Some(opened),
            _ => request.open(shared, response).await.ok().flatten(),
        }
    }
}
