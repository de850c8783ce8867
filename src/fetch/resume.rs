//! A hit whose content may have to be completed: where the store can't give it to its end, the inner service is asked for the rest
//! (RFC 9110 13.1.5, 14.2).
//!
//! Invariant: no answer has bytes of two representations. What does not fit what was sent ends it with an error.

use std::sync::Arc;

use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use tower::ServiceExt;

use crate::body::incoming::{self, Incoming};
use crate::entry::ResponseHead;
use crate::entry::key;
use crate::entry::partial::Missing;
use crate::fetch::InnerService;
use crate::observe::span::{Cause, FetchSpan};
use crate::observe::{Answer, Event};
use crate::respond::open::Opened;
use crate::respond::request::CacheRequest;
use crate::runtime::moment;
use crate::semantics::framing;
use crate::semantics::reuse::Forward;
use crate::shared::Shared;
use crate::store::{Lookup, Store};

/// Why the inner service is called.
const FORWARD: Forward = Forward::Partial;

/// Answers with stored content that was opened, and holds what it takes to ask for the rest until that has come to its end.
pub(crate) fn hit<I, Q, S>(
    shared: &Arc<Shared<S>>,
    request: CacheRequest,
    lookup: &Lookup,
    index: usize,
    opened: Option<Opened>,
    (inner, body): (I, Q),
) -> Answer
where
    I: InnerService<Q>,
    Q: Send + 'static,
    S: Store,
{
    let stored = &lookup.variants[index];
    let missing = opened.as_ref().and_then(|opened| request.can_resume(opened, lookup, index));
    let Some(missing) = missing else {
        return request.hit(&shared.core, stored, None, opened);
    };
    let (request, length) = (Arc::new(request), missing.len());
    let resumption = Resumption {
        body,
        cause: Cause::current(),
        head: Arc::clone(&stored.response.head),
        inner,
        missing,
        request: Arc::clone(&request),
        shared: Arc::clone(shared),
    };
    let rest = move |sent| -> std::pin::Pin<Box<dyn Future<Output = Option<Incoming>> + Send>> {
        Box::pin(resumption.run(sent))
    };
    let opened = opened.map(|opened| opened.with_rest(length, Box::new(rest)));
    request.hit(&shared.core, stored, None, opened)
}

/// What it takes to ask for the rest of an answer.
struct Resumption<I, Q, S> {
    body: Q,
    cause: Cause,
    head: Arc<ResponseHead>,
    inner: I,
    /// All of the answer's content.
    missing: Missing,
    request: Arc<CacheRequest>,
    shared: Arc<Shared<S>>,
}

impl<I, Q, S> Resumption<I, Q, S>
where
    I: InnerService<Q>,
    Q: Send + 'static,
    S: Store,
{
    /// What follows the bytes that were sent; `None` where the inner service does not give that.
    async fn run(mut self, sent: u64) -> Option<Incoming> {
        self.missing = self.missing.after(sent);
        let (request, shared) = (Arc::clone(&self.request), Arc::clone(&self.shared));
        let rest = self.rest().await;
        let event = Event::Resumed { at: sent, key: &request.key, succeeded: rest.is_some() };
        shared.core.reporter.event(&event);
        rest
    }

    async fn rest(self) -> Option<Incoming> {
        let outgoing = self.outgoing();
        let Self { body, cause, head, inner, missing, request, shared } = self;
        let (core, key) = (&shared.core, &request.key);
        // It has just failed, and is left alone.
        if core.resting.has(key, core.clock.now()) {
            return None;
        }
        let permit = core.gauges.calls.begin(Some(key)).await?;
        let begun = core.reporter.measures().then(moment);
        let span = FetchSpan::begin(cause, &Method::GET, key.uri(), FORWARD, false);
        let response = span.around(inner.oneshot(Request::from_parts(outgoing, body))).await;
        let status = response.as_ref().ok().map(Response::status);
        span.end(status);
        if let Some(begun) = begun {
            let elapsed = moment().duration_since(begun);
            let fetched = Event::Fetched { elapsed, forward: FORWARD, is_background: false, key, status };
            core.reporter.event(&fetched);
        }
        let response = incoming::received(response.ok()?, &Method::GET, permit);
        let is_rest = response.status() == StatusCode::PARTIAL_CONTENT
            && missing.is_in(response.headers(), head.coding())
            && missing.is_named_in(response.headers());
        is_rest.then(|| response.into_body())
    }

    /// The client's request, for the rest.
    fn outgoing(&self) -> Parts {
        let Self { missing, request, shared, .. } = self;
        let mut parts = request.parts.clone();
        key::settle_authority(&mut parts);
        missing.ask(&mut parts.headers);
        request.policy.forward(&mut parts, FORWARD, false);
        framing::repair_request(&mut parts.headers);
        shared.core.mark(&mut parts);
        key::leave(&mut parts);
        parts
    }
}
