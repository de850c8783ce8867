//! What a 304, or the 200 to a HEAD, means for a stored response (RFC 9111 4.3.3 to 4.3.5).

use std::sync::Arc;
use std::time::Duration;

use http::header;
use http::{Method, Response, StatusCode, response};

use super::Fetch;
use crate::body::CacheBody;
use crate::collapse::CallResult;
use crate::entry::StoredResponse;
use crate::fetch::assess::{Tag, assess, word_of_origin};
use crate::fetch::write;
use crate::observe::Place;
use crate::runtime::to_its_end;
use crate::semantics::answer;
use crate::semantics::cache_status::{Detail, Forwarding, Outcome};
use crate::semantics::collapse::NotShareable;
use crate::semantics::head::{self, Agreement};
use crate::semantics::storing::{Effect, NotStored};
use crate::semantics::validation::{self, Identified};
use crate::store::{PutOutcome, Store};

impl<S: Store> Fetch<S> {
    pub(super) fn agreement<B>(&self, response: &Response<B>) -> Agreement {
        self.selected().map(|stored| stored.response.head()).map_or(Agreement::Silent, |stored| {
            head::agreement(&stored.headers, stored.validators(), response.headers())
        })
    }

    /// Takes the selected response out of use where the 200 to a HEAD has fields under which a GET could not be stored, and
    /// makes it stale where the two contradict each other.
    pub(super) async fn heed_head<B>(&mut self, agreement: Agreement, response: Response<B>) -> Response<B> {
        let (parts, body) = response.into_parts();
        let (max_object, now) = (self.store.max_object(), self.core.clock.now());
        let sent_method = std::mem::replace(&mut self.ask.sent_method, Method::GET);
        let terms = assess(&self.core, &self.ask, &parts, max_object, now).terms.store;
        let word = word_of_origin(&self.core, &mut self.ask, &parts, max_object, now, terms);
        self.ask.sent_method = sent_method;
        let shared = self.selected().map(|stored| stored.response.head().reuse().shared).unwrap_or_default();
        match agreement.effect(word, shared) {
            Effect::Withdraw => drop(write::withdraw(&self.store, &self.ask.query.key).await),
            Effect::Expire => self.expire_selected().await,
            Effect::EndStaleUse | Effect::None => {}
        }
        Response::from_parts(parts, body)
    }

    /// Makes the selected response stale, if it is still the one that is stored.
    async fn expire_selected(&self) {
        let Some(stored) = self.selected().cloned() else {
            return;
        };
        let mut head = stored.response.head().clone();
        head.reuse.lifetime = Duration::ZERO;
        let expired = StoredResponse::new(head, stored.response.payload().clone());
        let (store, key) = (Arc::clone(&self.store), self.ask.query.key.clone());
        // Where that fails, it is as fresh as it was.
        let freshened = to_its_end(async move {
            let _ = store.freshen(&key, stored.id, expired, stored.fence).await;
        });
        freshened.await;
    }

    /// Freshens the stored response that a 304 speaks of, and answers with it (RFC 9111 4.3.4).
    pub(super) async fn freshen<B>(self, response: Response<B>) -> Response<CacheBody<B>> {
        let (not_modified, body) = response.into_parts();
        match validation::identify(&not_modified.headers, self.selected, self.validators()) {
            Identified::Freshen(index) => self.update(index, not_modified).await,
            Identified::Unknown => self.not_modified_unexpectedly(not_modified, body),
        }
    }

    /// Answers a 304 that is about none of the responses that were asked about, or that nobody asked for. It changes nothing
    /// that is stored (RFC 9111 4.3.4).
    pub(super) fn not_modified_unexpectedly<B>(
        mut self,
        mut not_modified: response::Parts,
        body: B,
    ) -> Response<CacheBody<B>> {
        let core = &self.core;
        let now = core.clock.now();
        if self.asks_conditionally() {
            // The next requests go out without conditions.
            core.unreliable.validations.remember(&self.ask.query.key, now);
        }
        if let Some(leader) = self.ask.leader.take() {
            leader.not_shareable(NotShareable::Chance { says_so: false }, now);
        }
        let outcome = Outcome::Forwarded(Forwarding {
            detail: Some(Detail::UnexpectedNotModified),
            status: Some(StatusCode::NOT_MODIFIED),
            ..Forwarding::new(self.ask.forward)
        });
        let request = &self.ask.query.request.headers;
        if !validation::meets_clients_condition(request, &not_modified.headers, now) {
            return core.no_content(StatusCode::BAD_GATEWAY, &outcome);
        }
        let mut assessment = assess(core, &self.ask, &not_modified, self.store.max_object(), now);
        assessment.strip(&mut not_modified.headers);
        core.status_writer.tell(&outcome, not_modified.status, &mut not_modified.headers, Place::Append);
        drop(body);
        Response::from_parts(not_modified, CacheBody::empty())
    }

    /// Freshens the selected response with what a HEAD told of it.
    pub(super) async fn freshen_selected<B>(self, response: Response<B>) -> Response<CacheBody<B>> {
        let (head, _) = response.into_parts();
        let index = self.selected.unwrap_or_default();
        self.update(index, head).await
    }

    /// Gives a stored response the fields of a newer one about the same content, and answers with it.
    async fn update<B>(self, index: usize, mut news: response::Parts) -> Response<CacheBody<B>> {
        let core = &self.core;
        let received_at = core.clock.now();
        let old = &self.lookup.variants[index];
        let head = old.response.head();
        let stored_fields = head.own_fields();
        let carried = news.headers.clone();
        let tag = if head.tag_is_ours {
            news.headers.remove(header::ETAG); // nobody has asked about one
            Tag::Ours
        } else {
            Tag::Theirs
        };
        news.headers = validation::freshen(&stored_fields, &news.headers);
        let status = std::mem::replace(&mut news.status, head.status);
        let max_object = self.store.max_object();
        let mut ask = self.ask;
        ask.sent_method = Method::GET; // whose response it is that is stored
        ask.part = head.part.clone();
        let assessment = assess(core, &ask, &news, max_object, received_at);
        let terms = assessment.terms.store;
        let word = word_of_origin(core, &mut ask, &news, max_object, received_at, terms);
        let unsent = assessment.terms.strip.clone();
        let head = assessment.head(core, head.status, news.headers, ask.query.now, None, tag);
        let ttl = head.reuse.ttl(received_at);
        let response = StoredResponse::new(head, old.response.payload().clone());
        let (store, key) = (&self.store, &ask.query.key);
        let mut detail = terms.err().map(Detail::NotStored);
        let shared = old.response.head().reuse().shared;
        if word.is_err_and(|reason| reason.withdraws(shared)) {
            // From now on nobody else gets it, neither fresh nor stale.
            if !write::withdraw(store, key).await {
                detail = Some(Detail::NotInvalidated);
            }
        } else if terms.is_ok() {
            if core.policy.rules().no_vary_search {
                core.aliases.record(key, response.head().headers());
            }
            match store.freshen(key, old.id, response.clone(), ask.fence).await {
                Ok(PutOutcome::Stored) => {}
                _ => detail = Some(Detail::NotStored(NotStored::Store)),
            }
        }
        if let Some(leader) = ask.leader.take() {
            match terms {
                // Whether or not a purge came first: who waits has asked before it.
                Ok(()) => leader.publish(CallResult::Validated(response.clone())),
                Err(reason) => leader.not_shareable(
                    NotShareable::of(reason, status, response.head().reuse.lifetime),
                    received_at,
                ),
            }
        }
        let outcome = Outcome::Forwarded(Forwarding {
            collapsed: ask.collapsed,
            detail,
            status: (status != StatusCode::OK).then_some(status),
            stored: detail.is_none(),
            ttl: Some(ttl),
            ..Forwarding::new(ask.forward)
        });
        let mut answered =
            core.answer(&response, &ask.query.request, ask.query.fields, &outcome, received_at);
        // What is not stored, this client gets all the same: it was sent for it.
        if carried.contains_key(header::SET_COOKIE) && !unsent.contains(&header::SET_COOKIE) {
            answer::take_over(&carried, answered.headers_mut(), &header::SET_COOKIE);
        }
        answered
    }
}
