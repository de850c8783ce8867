//! What would happen to a request now, and why: by the functions that decide about requests, without carrying anything out.

use std::fmt;
use std::sync::Arc;

use http::request::Parts;
use http::{Method, StatusCode};

use super::CacheHandle;
use super::inspect::InspectedVariant;
use super::lease;
use super::signpost::{Classified, is_of_peer, of_peer};
use crate::collapse::Prospect;
use crate::collapse::background::ValidationProspect;
use crate::entry::Levels;
use crate::entry::key::{CacheKey, KeyParts, ShownPart, ShownValue};
use crate::entry::partial::Needed;
use crate::fetch::Fetch;
use crate::fetch::collapsed::CollapsedFetch;
use crate::fetch::exchange::{Exchange, FetchPlan, Goal};
use crate::policy::Reason;
use crate::respond::request::CacheRequest;
use crate::semantics::cache_status::{Detail, Forwarding, Outcome};
use crate::semantics::fields::RequestFields;
use crate::semantics::reuse::{Decision, Fallback, Forward};
use crate::service::classify::detail_of;
use crate::service::{alias_for, equivalent, invalidate};
use crate::shared::Core;
use crate::store::{LeaseState, Lookup, PurgeScope, PurgeTarget, Store, Stored};

/// What would happen to a request now, step by step.
///
/// It is true of this moment: a purge, another request or a second more may change it. [`Explanation::unknown`] says what only
/// the request itself can show.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// What would happen to the same request of another cache of the same owner, where the policy keeps apart what those get
    /// ([`CachePolicyExt::with_peers`](crate::CachePolicyExt::with_peers)), as at a shield. `None` where it does not, and for a
    /// request that has a [`TrustedPeer`](crate::policy::TrustedPeer) among its extensions.
    pub as_peer: Option<Box<Explanation>>,
    /// Whether the inner service would be called.
    pub call: ExplainedCall,
    /// The key under which it would be looked up; `None` where it has none.
    pub key: Option<CacheKey>,
    /// What `Cache-Status` would say, as far as that does not depend on the inner service's answer; `None` where the layer is
    /// switched off, or stores nothing.
    pub outcome: Option<Outcome>,
    /// The further parts of the key, without credentials.
    pub parts: Vec<ShownPart>,
    /// The status of the answer, where it needs no call.
    pub status: Option<StatusCode>,
    /// How it comes to that.
    pub steps: Vec<ExplainedStep>,
    /// What can't be known from here.
    pub unknown: Vec<String>,
}

/// Whether the inner service would be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExplainedCall {
    /// After the answer, to validate what was served.
    Background,
    /// Before the answer.
    Foreground {
        /// Whether it is asked if what is stored is still valid.
        is_conditional: bool,
    },
    /// Not at all.
    None,
    /// Before the answer, by another request, of this node or of one that has the lease, whose call is under way. If its answer can't
    /// be shared, this one makes a call of its own.
    Shared,
}

/// A step on the way to an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExplainedStep {
    /// Which one, in a word: `policy`, `key`, `store`, `variant`, `decision`, `call`, `lease`, `answer` or `peers`.
    pub name: &'static str,
    /// What was found. It may quote what clients and origins have sent.
    pub finding: String,
}

impl fmt::Display for ExplainedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.finding)
    }
}

impl<S: Store> CacheHandle<S> {
    /// Says what would happen to a request now, step by step, and why. Nothing is fetched, nothing is stored, and nothing is
    /// counted, except that a store may take the look-up for a use of what it finds.
    ///
    /// The request is one as it would reach the layer, without content: what layers in front of it put into its extensions
    /// ([`KeyParts`], an identity) has to be there to count. The policy's hook `request` is asked, as for any
    /// request.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use http::Request;
    /// use larder::CacheLayer;
    /// let handle = CacheLayer::default().handle();
    /// let (request, ()) = Request::get("http://example.com/").body(()).unwrap().into_parts();
    /// let explanation = handle.explain(&request).await;
    /// assert_eq!(explanation.outcome.unwrap().render("larder", None), "larder; fwd=uri-miss");
    /// for step in &explanation.steps {
    ///     println!("{step}"); // store: nothing is stored under the key
    /// }
    /// # });
    /// ```
    pub async fn explain(&self, request: &Parts) -> Explanation {
        let mut explanation = self.explain_one(request).await;
        if !is_of_peer(request) {
            let peers = of_peer(request);
            let key = |request: &Parts| Some(self.classified(request.clone()).keyed()?.0);
            if key(request) != key(&peers) {
                let of_peers = self.explain_one(&peers).await;
                let status = of_peers.outcome.as_ref().map(|outcome| outcome.render(self.name(), None));
                let status = status.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
                explanation.says(
                    "peers",
                    format!(
                        "what other caches of the same owner get is kept apart: such a request would be {}",
                        status.as_deref().unwrap_or("forwarded")
                    ),
                );
                explanation.as_peer = Some(Box::new(of_peers));
            }
        }
        explanation
    }

    async fn explain_one(&self, request: &Parts) -> Explanation {
        let core = &self.shared.core;
        let mut explanation = Explanation::of(request);
        if !core.enabled {
            explanation.says("decision", "the layer is switched off: the request is forwarded as it is");
            return explanation;
        }
        if !core.storing {
            explanation.is_tagged_only(request);
            explanation.waits_for_room(core, None);
            return explanation;
        }
        if core.is_nested(request) {
            explanation.says("decision", "the request has passed this layer before: it is forwarded");
            explanation.forwarded(Forward::Bypass, Some(Detail::Nested));
            return explanation;
        }
        match self.classified(request.clone()) {
            Classified::Change { bypass, key, request } => {
                self.explain_change(explanation, bypass, key, &request)
            }
            Classified::LookUp(request) => self.explain_look_up(explanation, *request).await,
            Classified::Pass { detail, forward, key } => {
                if let Some(key) = &key {
                    explanation.has_key(key);
                }
                let because = match &detail {
                    Some(Detail::Bypass(reason)) => format!("the request bypasses the cache: {reason}"),
                    _ => format!("a {} is forwarded, and its answer is not stored", request.method),
                };
                explanation.says("policy", because);
                explanation.waits_for_room(core, None);
                explanation.forwarded(forward, detail);
                explanation
            }
        }
    }

    fn explain_change(
        &self,
        mut explanation: Explanation,
        bypass: Option<Reason>,
        key: CacheKey,
        request: &Parts,
    ) -> Explanation {
        explanation.has_key(&key);
        if let Some(reason) = &bypass {
            explanation.says("policy", format!("the request bypasses the cache: {}", reason.as_str()));
        }
        explanation
            .says("decision", format!("a {} is forwarded: it may change what is stored", request.method));
        explanation.waits_for_room(&self.shared.core, Some(&key));
        let targets = invalidate::own_targets(&self.shared.core, key, request);
        explanation.says(
            "answer",
            format!(
                "a 2xx or 3xx invalidates what is stored for {}, and what Location, Content-Location and \
                 Cache-Group-Invalidation of the same origin name",
                listed(targets.iter().filter_map(shown_target))
            ),
        );
        let forward = if bypass.is_some() { Forward::Bypass } else { Forward::Method };
        explanation.forwarded(forward, bypass.map(Detail::from));
        explanation
    }

    async fn explain_look_up(&self, mut explanation: Explanation, mut request: CacheRequest) -> Explanation {
        let (shared, core) = (&self.shared, &self.shared.core);
        explanation.says("policy", "the request is the cache's business");
        explanation.has_key(&request.key);
        let found = shared.get(&request.key).await;
        request.now = core.clock.now();
        match &found {
            None => explanation.says("store", "the store fails: that counts as a miss"),
            Some(found) if found.variants.is_empty() => {
                explanation.says("store", "nothing is stored under the key");
            }
            Some(found) => {
                let number = found.variants.len();
                explanation.says("store", format!("responses stored under the key: {number}"));
            }
        }
        let asked_for_range = request.fields.range;
        let (lookup, decision) = request.decide_on(core, found);
        if asked_for_range && !request.fields.range {
            explanation
                .says("decision", "Range is left aside: it may be one of another coding than what is stored");
        }
        for stored in lookup.variants.iter() {
            explanation.has_variant(&InspectedVariant::of(stored, request.now, Some(&request)));
        }
        let decision = request.as_tasks_allow(core, &lookup, decision);
        if let Some(key) = alias_for(core, &request, &lookup, decision) {
            let uri = String::from_utf8_lossy(key.uri()).into_owned();
            if let Some(stored) = equivalent(shared, &mut request, &key).await {
                explanation.says("store", format!("what is stored for {uri} answers by its No-Vary-Search"));
                explanation.answered(core, &request, &stored, Decision::Serve(0));
                return explanation;
            }
            explanation.says("store", format!("what is stored for {uri} does not answer it"));
        }
        match decision {
            Decision::Serve(index)
            | Decision::ServeAhead(index)
            | Decision::ServeStale(index)
            | Decision::StandIn(index) => {
                explanation.answered(core, &request, &lookup.variants[index], decision);
                explanation
            }
            decision => match FetchPlan::of(decision, &lookup) {
                Some(plan) => self.explain_fetch(explanation, request, lookup, plan).await,
                None => {
                    explanation.says("decision", "only-if-cached, and nothing stored may answer");
                    explanation.outcome = Some(Outcome::Unsatisfiable);
                    explanation.status = Some(StatusCode::GATEWAY_TIMEOUT);
                    explanation.call = ExplainedCall::None;
                    explanation
                }
            },
        }
    }

    async fn explain_fetch(
        &self,
        mut explanation: Explanation,
        request: CacheRequest,
        lookup: Lookup,
        plan: FetchPlan,
    ) -> Explanation {
        let core = &self.shared.core;
        explanation.says("decision", format!("{}: {}", plan.forward.as_str(), why_forwarded(plan.forward)));
        match plan.fallback {
            Fallback::None => {}
            Fallback::Forbidden => {
                explanation.says("decision", "nothing stale may stand in if the inner service fails");
            }
            Fallback::StaleIfError => {
                explanation
                    .says("decision", "what is stored stands in if the inner service fails (stale-if-error)");
            }
        }
        if matches!(plan.goal, Goal::Complete(_)) {
            explanation.says("call", "it is asked for the bytes that the stored part lacks");
        }
        let (has_credentials, now) = (request.unkeyed().any(), request.now);
        let exchange = Exchange::new(Arc::clone(&self.shared), request, lookup, plan);
        let purged = exchange.purged();
        let fetch = CollapsedFetch::new(exchange);
        let ticket = fetch.ticket();
        let exchange = fetch.into_exchange();
        let prospect = match &ticket {
            None => None,
            Some(ticket) => Some(match core.collapser.prospect(ticket, has_credentials, purged, now) {
                Prospect::Outdated(fence)
                    if self.shared.is_untouched(&ticket.key, fence, PurgeScope::KeyOrAnyGroup).await =>
                {
                    Prospect::UnderWay
                }
                prospect => prospect,
            }),
        };
        explanation.says("call", why_called(prospect));
        explanation.forwarded(plan.forward, None);
        if prospect == Some(Prospect::UnderWay) {
            explanation.call = ExplainedCall::Shared;
            explanation
                .unknown
                .push("whether that answer can be shared: if not, it makes a call of its own".to_owned());
            return explanation;
        }
        if exchange.stands_in() && core.gauges.calls.is_full(Some(&exchange.request.key)) {
            explanation.says("call", "as many calls as may be are under way: what is stored stands in");
            explanation.stands_in(&exchange, Detail::CallLimit);
            return explanation;
        }
        if let (Some(ticket), Some(prospect)) = (&ticket, prospect)
            && let Some(state) = lease::state_of(&self.shared, ticket, prospect, has_credentials).await
        {
            explanation.says("lease", lease::finding(state));
            match state {
                LeaseState::Held => {
                    explanation.call = ExplainedCall::Shared;
                    return explanation;
                }
                LeaseState::Resting(_) if exchange.stands_in() => {
                    explanation.stands_in(&exchange, Detail::StaleIfError);
                    return explanation;
                }
                _ => {}
            }
        }
        explanation.waits_for_room(core, Some(&exchange.request.key));
        let is_conditional = Fetch::new(exchange).asks_conditionally();
        if is_conditional {
            explanation.says("call", "the inner service is asked whether what is stored is still valid");
        }
        explanation.call = ExplainedCall::Foreground { is_conditional };
        explanation.unknown.push("whether the answer is stored: that depends on what it says".to_owned());
        explanation
    }
}

impl Explanation {
    fn of(request: &Parts) -> Self {
        let mut unknown = Vec::new();
        if request.extensions.len() == usize::from(is_of_peer(request)) {
            unknown.push(
                "what layers in front of the cache would add to the request, or change of it".to_owned(),
            );
        }
        let has_content = request.extensions.get::<KeyParts>().is_some_and(KeyParts::has_content);
        if request.method.as_str() == "QUERY" && !has_content {
            unknown.push("the content, which a QueryLayer would make part of the key of a QUERY".to_owned());
        }
        if request.method == Method::POST && !has_content {
            unknown.push(
                "the content, by which a QueryLayer may take a POST for a query: then it would be looked up"
                    .to_owned(),
            );
        }
        Self {
            as_peer: None,
            call: ExplainedCall::Foreground { is_conditional: false },
            key: None,
            outcome: None,
            parts: Vec::new(),
            status: None,
            steps: Vec::new(),
            unknown,
        }
    }

    /// The layer stores nothing, and what is known of the request is little.
    fn is_tagged_only(&mut self, request: &Parts) {
        self.says("decision", "the layer stores nothing: the request is forwarded");
        let is_read = matches!(request.method, Method::GET | Method::HEAD | Method::QUERY);
        if !is_read {
            return;
        }
        self.unknown.push(
            "whether the answer gets an entity tag: that depends on its status, its fields and its content"
                .to_owned(),
        );
        if RequestFields::of(&request.headers).conditions {
            self.unknown.push(
                "whether the client's condition makes it a 304 or 412: it is evaluated on the answer's own tag".to_owned(),
            );
        }
    }

    pub(super) fn says(&mut self, name: &'static str, finding: impl Into<String>) {
        self.steps.push(ExplainedStep { name, finding: finding.into() });
    }

    fn has_key(&mut self, key: &CacheKey) {
        self.parts = key.shown_parts();
        let uri = String::from_utf8_lossy(key.uri());
        let further = match self.parts.is_empty() {
            true => String::new(),
            false => format!(" with {}", listed(self.parts.iter().map(shown_part))),
        };
        self.says("key", format!("{uri}{further}"));
        for part in &self.parts {
            // What a request has in its fields is known; what a layer makes of it is not.
            if part.value == ShownValue::Absent && matches!(part.kind, "identity" | "part") {
                self.unknown.push(format!(
                    "the key's {} {:?}: nothing in this request gives it, but an extension by a layer in front may",
                    part.kind, part.name
                ));
            }
        }
        self.key = Some(key.clone());
    }

    fn has_variant(&mut self, variant: &InspectedVariant) {
        let InspectedVariant { age, expired, levels, lifetime, selected, status, ttl, .. } = variant;
        let age = age.map_or("from the future".to_owned(), |age| format!("{} s old", age.as_secs()));
        let state = match expired {
            Some(_) => "purged softly",
            None if *ttl > 0 => "fresh",
            None => "stale",
        };
        let fields =
            listed(variant.selecting.iter().map(|(name, value)| format!("{name} {}", shown_value(value))));
        let fields = if variant.selecting.is_empty() { String::new() } else { format!(", for {fields}") };
        let levels = match levels {
            Levels::Both => "",
            Levels::Far => ", kept far alone",
            Levels::Near => ", kept near alone",
        };
        let selected = if *selected { "it is for this request" } else { "it is not for this request" };
        self.says(
            "variant",
            format!(
                "{}, {age}, lifetime {} s, {state}{levels}{fields}: {selected}",
                status.as_u16(),
                lifetime.as_secs()
            ),
        );
    }

    /// It is answered from storage.
    fn answered(&mut self, core: &Core, request: &CacheRequest, stored: &Stored, decision: Decision) {
        self.says("decision", why_served(decision));
        let answer = request.hit(core, stored, detail_of(decision), None);
        let status = match request.has_to_open(&stored.response) {
            false => answer.response.status(),
            // Nothing has been opened, so there is no answer to look at.
            true => match request.needed(&stored.response, request.now) {
                Needed::Ranges(_) => StatusCode::PARTIAL_CONTENT,
                Needed::Nothing | Needed::Whole => stored.response.head().status(),
            },
        };
        let is_due = matches!(decision, Decision::ServeAhead(_) | Decision::ServeStale(_));
        self.call = if is_due { self.validates(core, request) } else { ExplainedCall::None };
        if request.has_to_open(&stored.response) {
            self.unknown.push("whether the store still has the content, which it keeps elsewhere".to_owned());
        }
        let says = match status {
            StatusCode::NOT_MODIFIED => "304: the client has it already",
            StatusCode::PARTIAL_CONTENT => "206: the range that is asked for",
            StatusCode::PRECONDITION_FAILED => "412: the client's condition does not hold",
            StatusCode::RANGE_NOT_SATISFIABLE => "416: the content has no such range",
            _ if request.parts.method == Method::HEAD => "the stored head",
            _ => "the stored response",
        };
        self.says("answer", says);
        self.outcome = Some(answer.outcome);
        self.status = Some(status);
    }

    /// The call in the background is one that nodes share.
    fn leases(&mut self) {
        self.says(
            "call",
            "nodes share their calls by leases: where another one makes this call, its result is waited for",
        );
        self.unknown.push("whether another node has the lease of this call: nobody is asked".to_owned());
    }

    /// A validation in the background is due.
    fn validates(&mut self, core: &Core, request: &CacheRequest) -> ExplainedCall {
        let (key, now) = (&request.key, request.now);
        let prospect = match core.resting.has(key, now) {
            true => ValidationProspect::Resting,
            false => core.background.prospect(key, now),
        };
        let why_not = match prospect {
            ValidationProspect::Begins if core.gauges.calls.is_full(Some(key)) => {
                "as many calls of the inner service as may be are under way: there is no validation now"
            }
            ValidationProspect::Begins => {
                if core.leases.is_some() {
                    self.leases();
                }
                return ExplainedCall::Background;
            }
            ValidationProspect::Full => {
                "as many validations in the background as may be are under way: there is none now"
            }
            ValidationProspect::Resting => {
                "the inner service has just failed, and is left alone for a while: there is no validation now"
            }
            ValidationProspect::Running => "a validation in the background is under way already",
        };
        self.says("call", why_not);
        ExplainedCall::None
    }

    /// What is stored answers, since no call can be made, or none is to be.
    fn stands_in<S: Store>(&mut self, exchange: &Exchange<S>, why: Detail) {
        let answer = exchange.stand_in(why, None);
        let remote = exchange.selected().filter(|stored| exchange.request.has_to_open(&stored.response));
        self.status = Some(match remote {
            None => answer.response.status(),
            Some(stored) => stored.response.head().status(), // nothing has been opened
        });
        self.outcome = Some(answer.outcome);
        self.call = ExplainedCall::None;
    }

    /// Says it where as many calls are under way as may be.
    fn waits_for_room(&mut self, core: &Core, key: Option<&CacheKey>) {
        let calls = &core.gauges.calls;
        if !calls.is_full(key) {
            return;
        }
        let seconds = calls.wait_limit().as_secs_f64();
        self.says(
            "call",
            format!(
                "as many calls as may be are under way: it waits up to {seconds} s for one of them to end, and then gets a 503"
            ),
        );
        self.unknown.push("whether a call ends in time for this one to be made".to_owned());
    }

    fn forwarded(&mut self, forward: Forward, detail: Option<Detail>) {
        self.outcome = Some(Forwarding { detail, ..Forwarding::new(forward) }.into());
    }
}

fn why_served(decision: Decision) -> &'static str {
    match decision {
        Decision::ServeAhead(_) => {
            "it is fresh, but not for long: it answers, and a validation in the background is due"
        }
        Decision::ServeStale(_) => {
            "it is stale, within stale-while-revalidate: it answers, and a validation in the background is due"
        }
        Decision::StandIn(_) => "it is stale, and stands in because the inner service has just failed",
        _ => "it may be served as it is",
    }
}

fn why_called(prospect: Option<Prospect>) -> &'static str {
    match prospect {
        None => "nobody could share its answer: it makes a call of its own",
        Some(Prospect::First) => "it makes a call, and requests that come meanwhile wait for its answer",
        Some(Prospect::NotShared) => {
            "answers for the key could not be shared lately: it makes a call of its own (hit-for-pass)"
        }
        Some(Prospect::Outdated(_)) => {
            "a call for the same was made before a purge: it does not wait for that, and makes a call of its own"
        }
        Some(Prospect::UnderWay) => "a call for the same is under way: it waits for that answer",
    }
}

fn why_forwarded(forward: Forward) -> &'static str {
    match forward {
        Forward::Bypass => "it is not the cache's business",
        Forward::Method => "its method demands it",
        Forward::Miss => "nothing usable was found",
        Forward::Partial => "a part is stored, and not all that is asked for",
        Forward::Request => "the request does not allow the use of what is stored",
        Forward::Stale => "what is stored is stale, or has to be validated",
        Forward::UriMiss => "nothing is stored under the key",
        Forward::VaryMiss => "what is stored is for requests with other selecting fields",
    }
}

fn listed(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

fn shown_target(target: &PurgeTarget) -> Option<String> {
    match target {
        PurgeTarget::Uri(uri) => Some(String::from_utf8_lossy(uri).into_owned()),
        _ => None,
    }
}

fn shown_part(part: &ShownPart) -> String {
    format!("{} {} {}", part.kind, part.name, shown_value(&part.value))
}

fn shown_value(value: &ShownValue) -> String {
    match value {
        ShownValue::Absent => "(absent)".to_owned(),
        ShownValue::Hidden => "(hidden)".to_owned(),
        ShownValue::Text(text) => format!("{text:?}"),
    }
}
