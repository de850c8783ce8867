//! A new response of the inner service: assessed, taken in, stored and answered. What comes in while it is answered is in
//! `stream.rs`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap};
use http::{HeaderValue, Method, Response, StatusCode, response};
use http_body::Body;

use super::Fetch;
use super::assess::Assessment;
use super::write::{self, EntryWrite};
use crate::body::CacheBody;
use crate::body::incoming::Incoming;
use crate::body::prefetch::{self, Content, LONG, Prefetch, WaitFor};
use crate::collapse::{CallResult, NotShareable};
use crate::entry::pieces::PIECE;
use crate::entry::slice::Sliced;
use crate::entry::{Part, Payload, ResponseHead, StoredResponse};
use crate::observe::Answer;
use crate::respond::{self, Source};
use crate::runtime::Runtime;
use crate::semantics::answer::restore_unstored;
use crate::semantics::cache_status::{Detail, Forwarding};
use crate::semantics::collapse;
use crate::semantics::etag::TagKind;
use crate::semantics::incumbent::may_stand_in_for;
use crate::semantics::is_retrieval;
use crate::semantics::range::SentRange;
use crate::semantics::stored::AddedFields;
use crate::semantics::storing::{Effect, NotStored};
use crate::semantics::tagging::is_taggable;
use crate::store::{PutOutcome, Store};

/// A new response of the inner service, assessed.
pub(super) struct NewResponse {
    pub(super) assessment: Box<Assessment>,
    /// Less of it is taken in than could be stored.
    pub(super) is_capped: bool,
    pub(super) parts: response::Parts,
}

impl<S: Store> Fetch<S> {
    /// Answers the client with what the inner service answered, and stores it where that is allowed.
    ///
    /// Boxed apart from the call: an allocator is slow with blocks of more than 1 KiB, which both would be together. That
    /// costs 2,000 instructions, a twentieth of a miss.
    pub(super) fn receive(
        mut self,
        response: Response<Incoming>,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let received_at = self.core().clock.now();
        let (mut parts, body) = response.into_parts();
        let length = body.size_hint().exact();
        self.leave_slice_for(parts.status);
        self.sent.part = self.part_of(&parts, length, received_at);
        let mut assessment = Box::new(self.assess(&parts, received_at));
        self.refuse_for_slice(&mut assessment);
        self.admit(&mut assessment, length);
        let is_capped = self.bound(&mut assessment, length);
        // After all that may refuse it: what is not stored states no longer lifetime to clients.
        assessment.for_client(parts.status, &mut parts.headers, self.exchange.request.rules());
        let tag = self.tag_kind(&parts, &assessment);
        let received = NewResponse { assessment, is_capped, parts };
        match received.assessment.terms.store {
            Ok(()) => Box::pin(self.receive_storable(received, body, length, tag)),
            Err(reason) => Box::pin(self.receive_unstorable(received, body, length, tag, reason)),
        }
    }

    /// Becomes the client's request, where a slice was asked for and the response is an answer to that: it is stored, and
    /// answered, as if there had been no slice.
    fn leave_slice_for(&mut self, status: StatusCode) {
        let request = &mut self.exchange.request;
        if request.sliced().is_some_and(|sliced| sliced.is_left_for(status)) {
            request.leave_slice();
            self.sent.range = SentRange::None;
        }
    }

    /// Refuses what is not the slice that was asked for, and would be stored as if it were.
    fn refuse_for_slice(&self, assessment: &mut Assessment) {
        let is_other = |sliced: &Sliced| sliced.asked().index > 0 && self.sent.part.is_none();
        if assessment.terms.store.is_ok() && self.exchange.request.sliced().is_some_and(is_other) {
            assessment.terms.store = Err(NotStored::NotTheSlice);
        }
    }

    /// Refuses what there is no room for. Returns whether less of the content is taken in than could be stored.
    fn bound(&self, assessment: &mut Assessment, length: Option<u64>) -> bool {
        let (gauges, terms) = (&self.core().gauges, &mut assessment.terms);
        if terms.store.is_ok()
            && let Some(length) = length
        {
            if length > terms.max_body {
                terms.store = Err(NotStored::TooLarge);
            } else if length < terms.min_body {
                terms.store = Err(NotStored::TooSmall);
            }
        }
        let has_followers =
            || self.exchange.leader.as_ref().is_some_and(|leader| leader.call().interested() > 1);
        let is_wanted = self.exchange.request.parts.method != Method::HEAD || has_followers();
        // To store it may evict content that is being read.
        let is_large = length.is_none_or(|length| length > PIECE as u64);
        let is_full = terms.store.is_ok() && is_large && gauges.held.is_full();
        let is_capped = length.is_none() && (!is_wanted || is_full) && terms.max_body > PIECE as u64;
        if is_capped {
            // It may turn out to be too large for the store, and no client waits for it, or there is no room for more.
            terms.max_body = PIECE as u64;
        }
        let in_memory = length.unwrap_or(PIECE as u64).min(self.core().most_in_memory);
        let has_room = gauges.has_room(in_memory) && !(is_full && length.is_some());
        if terms.store.is_ok() && !self.is_small(length) && !has_room {
            terms.store = Err(NotStored::NoRoom);
        }
        is_capped
    }

    fn is_small(&self, length: Option<u64>) -> bool {
        length.is_some_and(|length| length <= self.core().small())
    }

    /// A response that may be stored: small content is taken in first, anything else is stored while the client gets it.
    fn receive_storable(
        mut self,
        received: NewResponse,
        mut body: Incoming,
        length: Option<u64>,
        tag: Option<TagKind>,
    ) -> impl Future<Output = Answer> + Send {
        let has_stand_in = self.exchange.stands_in() && may_stand_in_for(received.parts.status, Ok(()));
        // What an `async` block takes over has one place in it, an argument of an `async fn` has two.
        async move {
            if self.is_small(length) {
                let wait_for = self.wait_for(tag, has_stand_in);
                match prefetch::collect(body, self.core().small(), tag, wait_for).await {
                    Prefetch::Complete(content) => return self.store_at_once(received, content).await,
                    Prefetch::Failed(..) if has_stand_in => {
                        self.rest(None);
                        let detail = Some(Detail::StaleIfError);
                        let outcome = Forwarding { detail, ..Forwarding::new(self.exchange.plan.forward) };
                        let (request, stored) = (&self.exchange.request, self.exchange.selected());
                        return request.stand_in(self.core(), stored, outcome, self.exchange.opened.take());
                    }
                    Prefetch::Failed(content, error) => {
                        let body = CacheBody::broken(content, error);
                        return self.forward(received, body, NotStored::Incomplete);
                    }
                    Prefetch::Partial(begun) => body = begun,
                }
            }
            let Some(runtime) = Runtime::current() else {
                let body = CacheBody::passing(&self.core().gauges.held, body);
                return self.forward(received, body, NotStored::Runtime);
            };
            self.store_while_streaming(received, &runtime, body, length, tag).await
        }
    }

    /// A response that is not stored. Small content is taken in first where it can get an entity tag, or is an error for all
    /// that wait.
    pub(super) async fn receive_unstorable(
        mut self,
        received: NewResponse,
        body: Incoming,
        length: Option<u64>,
        tag: Option<TagKind>,
        reason: NotStored,
    ) -> Answer {
        let received_at = received.assessment.received_at;
        if self.exchange.selected().is_some() {
            Box::pin(self.heed_unstored(&received.parts, reason, received_at)).await;
        }
        let pass_for = received.assessment.terms.pass_for;
        let apart = NotShareable::of(reason, received.parts.status, received.assessment.terms.lifetime);
        let is_for_all = self.answers_all(&received.parts, reason);
        if !is_for_all {
            self.keep_apart(apart, received_at, pass_for);
        }
        let held = Arc::clone(&self.core().gauges.held);
        let is_taken_in = is_for_all || (self.is_small(length) && tag.is_some());
        if !is_taken_in {
            return self.forward(received, CacheBody::forwarded(&held, body), reason);
        }
        let wait_for = if is_for_all { WaitFor::Whole(LONG) } else { self.wait_for(tag, false) };
        match prefetch::collect(body, self.core().small(), tag, wait_for).await {
            Prefetch::Complete(content) => self.forward_whole(received, content, reason),
            Prefetch::Failed(content, error) => {
                self.forward(received, CacheBody::broken(content, error), reason)
            }
            Prefetch::Partial(body) => {
                self.keep_apart(apart, received_at, pass_for);
                self.forward(received, CacheBody::passing(&held, body), reason)
            }
        }
    }

    /// Applies what a response that is not stored means for the stored one that the inner service was asked about.
    async fn heed_unstored(&mut self, parts: &response::Parts, reason: NotStored, received_at: SystemTime) {
        // A HEAD need not be answered as a GET is.
        let validated = self.exchange.selected().cloned().filter(|_| is_retrieval(&self.sent.method));
        let Some(validated) = validated else {
            return;
        };
        let Err(reason) = self.word_of_origin(parts, received_at, Err(reason)) else {
            return;
        };
        let (shared, key) = (&self.exchange.shared, &self.exchange.request.key);
        let credentials = validated.response.head().reuse().shared;
        match reason.effect(parts.status, credentials, self.sent.is_completed) {
            Effect::Withdraw => drop(write::withdraw(shared, key).await),
            Effect::EndStaleUse => write::end_stale_use(shared, key, validated).await,
            Effect::Expire | Effect::None => {}
        }
    }

    /// How long small content is waited for. What is made of it for this request may need the whole; and where something
    /// stored stands in, a client is better off with that than with something broken.
    fn wait_for(&self, tag: Option<TagKind>, has_stand_in: bool) -> WaitFor {
        if Runtime::current().is_none() {
            return WaitFor::Whole(Duration::MAX); // there is no other way to store it
        }
        let request = &self.exchange.request;
        let needs_whole = request.needs_whole(tag.is_some()) || request.parts.method == Method::HEAD;
        if needs_whole || has_stand_in {
            WaitFor::whole(&self.core().gauges.limits)
        } else {
            WaitFor::FirstFrame
        }
    }

    /// Whether an error that is not stored is to answer all that have waited for it.
    fn answers_all(&self, response: &response::Parts, reason: NotStored) -> bool {
        self.core().gauges.limits.share_errors
            && self.exchange.leader.as_ref().is_some_and(|leader| {
                collapse::answers_all(response.status, &response.headers, reason, leader.has_credentials())
            })
    }

    /// What of the representation a 206 has, where it is one that may be stored.
    fn part_of(&self, response: &response::Parts, length: Option<u64>, now: SystemTime) -> Option<Part> {
        let (sent, request) = (&self.sent, &self.exchange.request);
        let sliced = request.sliced();
        if !request.rules().partial && sliced.is_none() {
            return None;
        }
        let answer = (response.status, &response.headers);
        let part = Part::of(&sent.method, sent.range, &request.parts.headers, answer, length)?;
        match sliced {
            // What completes a stored part is that part, and no slice yet.
            Some(sliced) if sent.completion.is_none() => sliced.asked().part_of(part, &response.headers, now),
            _ => Some(part),
        }
    }

    /// How to tag a response; `None` where it has a tag, or is of a kind that gets none.
    fn tag_kind(&self, parts: &response::Parts, assessment: &Assessment) -> Option<TagKind> {
        let (tagging, Assessment { directives, fields, terms, .. }) = (self.core().tagging?, assessment);
        is_taggable(&self.sent.method, parts.status, fields.etag, directives, terms.store)
            .then_some(tagging.kind)
    }

    /// Stores small content that has been taken in first, so that the first answer is as good as any later one.
    fn store_at_once(
        mut self,
        received: NewResponse,
        content: Content,
    ) -> impl Future<Output = Answer> + Send {
        let NewResponse { mut assessment, mut parts, .. } = received;
        let (received_at, sent_at) = (assessment.received_at, self.exchange.request.now);
        let ttl = assessment.ttl(sent_at);
        let (response, added) = complete(&mut assessment, parts.status, &parts.headers, sent_at, content);
        let is_as_received = self.exchange.request.is_plain_get()
            && parts.status != StatusCode::PARTIAL_CONTENT
            && response.head().upstream_status().is_none();
        if is_as_received {
            // It gets what came in, with what the cache has added to that.
            for (name, value) in added {
                parts.headers.insert(name, value);
            }
        }
        let put = self.put(response.clone());
        async move {
            let outcome = match put.await {
                PutOutcome::Stored => self.stored(ttl),
                PutOutcome::TooLarge => self.not_stored(Detail::NotStored(NotStored::TooLarge)),
                PutOutcome::Superseded => self.not_stored(Detail::NotStored(NotStored::Store)),
            };
            let (core, request) = (self.core(), &self.exchange.request);
            if is_as_received || parts.status == StatusCode::PARTIAL_CONTENT {
                // Of a 206, that is what the client asked for, or as much of it as the inner service gave.
                let body = CacheBody::stored(&core.gauges.held, response.payload());
                return self.respond_received(parts, body, outcome, received_at);
            }
            let mut answer = request.respond(core, Source::Stored(&response, None), outcome, received_at);
            let answered = &mut answer.response;
            let status = answered.status();
            restore_unstored((parts.status, &parts.headers), (status, answered.headers_mut()));
            *answered.extensions_mut() = parts.extensions;
            answer
        }
    }

    /// Publishes a response and stores it. Others can join the call until the store has it.
    fn put(&mut self, response: StoredResponse) -> impl Future<Output = PutOutcome> + Send + use<S> {
        let mut write = EntryWrite::of(&mut self.exchange);
        if let Some(leader) = &write.leader {
            // Also if a purge comes first: those that wait have asked before it.
            leader.publish(CallResult::Whole(response.clone()));
        }
        let (gauges, bytes) = (Arc::clone(&self.core().gauges), response.weight());
        let stored = Box::pin(async move { write.put(response).await });
        async move { write::soon(&gauges, bytes, None, stored).await }
    }

    /// Answers with a response that is not stored.
    fn forward(&self, received: NewResponse, body: CacheBody, reason: NotStored) -> Answer {
        let NewResponse { assessment, parts, .. } = received;
        let outcome = self.not_stored(assessment.detail(reason));
        self.respond_received(parts, body, outcome, assessment.received_at)
    }

    /// Answers with a response that is not stored, and whose small content is here. It may be an error for all that wait.
    fn forward_whole(mut self, received: NewResponse, content: Content, reason: NotStored) -> Answer {
        let NewResponse { mut assessment, mut parts, .. } = received;
        let (received_at, sent_at) = (assessment.received_at, self.exchange.request.now);
        let outcome = self.not_stored(assessment.detail(reason));
        let Content { pieces, tag, trailers } = content;
        if let Some(leader) = self.exchange.leader.take() {
            let content = Content { pieces: pieces.clone(), tag: tag.clone(), trailers: trailers.clone() };
            let (response, _) = complete(&mut assessment, parts.status, &parts.headers, sent_at, content);
            let why = Box::new(assessment.detail(reason));
            leader.publish(CallResult::Error(response, why));
        }
        if let Some(tag) = tag {
            parts.headers.insert(header::ETAG, tag);
        }
        let body = CacheBody::stored(&self.core().gauges.held, &Payload::new(pieces, trailers));
        self.respond_received(parts, body, outcome, received_at)
    }

    pub(super) fn respond_received(
        &self,
        parts: response::Parts,
        body: CacheBody,
        outcome: Forwarding,
        now: SystemTime,
    ) -> Answer {
        let is_evaluated = self.sent.range == SentRange::Clients;
        let received = respond::Received { body, is_evaluated, parts };
        self.exchange.request.respond(self.core(), Source::Received(received), outcome, now)
    }

    pub(super) fn stored(&self, ttl: i64) -> Forwarding {
        Forwarding { stored: true, ttl: Some(ttl), ..self.forwarding() }
    }

    fn not_stored(&self, detail: Detail) -> Forwarding {
        Forwarding { detail: Some(detail), ..self.forwarding() }
    }

    fn forwarding(&self) -> Forwarding {
        Forwarding { status: self.sent.answered, ..self.exchange.forwarding() }
    }
}

/// A whole response, compacted, and the fields that it has and the received one lacks.
fn complete(
    assessment: &mut Assessment,
    status: StatusCode,
    headers: &HeaderMap,
    sent_at: SystemTime,
    content: Content,
) -> (StoredResponse, AddedFields) {
    let Content { pieces, tag, trailers } = content;
    let length = Some(pieces.len());
    let (head, added) = head_to_store(assessment, status, headers, sent_at, length, tag, trailers.as_ref());
    (StoredResponse::new(head, Payload::new(pieces.compacted(), trailers)), added)
}

/// The head of a whole response, whose content has this length, and the fields that it has and the received one lacks.
pub(super) fn head_to_store(
    assessment: &mut Assessment,
    status: StatusCode,
    headers: &HeaderMap,
    sent_at: SystemTime,
    length: Option<usize>,
    tag: Option<HeaderValue>,
    trailers: Option<&HeaderMap>,
) -> (ResponseHead, AddedFields) {
    // With trailers the message has to be chunked, and may not have a length.
    let length = length.filter(|_| trailers.is_none() && status != StatusCode::NO_CONTENT);
    assessment.head(status, headers, sent_at, length, tag.into())
}
