//! A request for a slice: looked up, or fetched, and what [`SliceLayer`](crate::SliceLayer) is told of the answer.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Body;

use super::CacheService;
use crate::body::CacheBody;
use crate::collapse::slices::Confirmation;
use crate::entry::key::CacheKey;
use crate::entry::partial::may_mix_codings;
use crate::entry::slice::{SliceAnswer, SliceFound, SliceRequest, Sliced, validator_of};
use crate::fetch::InnerService;
use crate::observe::{InvalidatedBy, KeptOutcome, RequestReport};
use crate::respond::open::as_a_miss;
use crate::respond::request::CacheRequest;
use crate::runtime::to_its_end;
use crate::semantics::cache_status::{Detail, Forwarding, Outcome};
use crate::semantics::parts::Extent;
use crate::semantics::reuse::Decision;
use crate::semantics::storing::NotStored;
use crate::service::future::ResponseFuture;
use crate::shared::Shared;
use crate::store::{Fence, Lookup, PurgeMode, PurgeTarget, Store};

impl<I, S: Store> CacheService<I, S> {
    /// Looks for a slice, unless a whole response is stored that answers the client's request.
    #[cold]
    pub(super) fn look_up_slice<Q>(
        &self,
        request: CacheRequest,
        asked: Arc<SliceRequest>,
        body: Q,
        report: RequestReport,
    ) -> ResponseFuture<I, Q, S>
    where
        I: InnerService<Q>,
        Q: Body + Send + 'static,
    {
        let (service, mut request) = (self.clone(), request.lasting());
        ResponseFuture::boxed(async move {
            let core = &service.shared.core;
            let is_first = asked.is_first();
            if is_first && service.is_whole(&request) {
                return service.look_up(request, body, report).await;
            }
            if is_first && asked.index > 0 {
                let found = find(&service.shared, &mut request).await;
                if found.as_ref().is_some_and(|found| request.finds_whole(found)) {
                    let (lookup, decision) = request.decide_on(core, found);
                    return service.carry_out(decision, request, body, lookup, report).await;
                }
            }
            let mut sliced = request.slice(&asked);
            let found = find(&service.shared, &mut sliced).await;
            request.now = sliced.now;
            if is_first && asked.index == 0 && found.as_ref().is_some_and(|found| request.finds_whole(found))
            {
                request.calls_ended = sliced.calls_ended;
                let (lookup, decision) = request.decide_on(core, found);
                return service.carry_out(decision, request, body, lookup, report).await;
            }
            let is_lost = found.is_none();
            let lookup = found.unwrap_or_default();
            let heads = lookup.variants.iter().map(|stored| stored.response.head());
            let may_mix = request.fields.range && may_mix_codings(heads, &request.parts.headers);
            let lookup = sliced.of_slice(&service.shared, lookup).await;
            let decision = sliced.decide(core, &lookup);
            let decision = if is_lost { as_a_miss(decision) } else { decision };
            let decision = match decision {
                // The first one is being validated, for all.
                Decision::ServeAhead(index) | Decision::ServeStale(index) if !is_first => {
                    Decision::Serve(index)
                }
                decision => decision,
            };
            let is_stored = matches!(
                decision,
                Decision::Serve(_) | Decision::ServeAhead(_) | Decision::ServeStale(_) | Decision::StandIn(_)
            );
            if request.parts.method == Method::HEAD && !is_stored && !request.rules().head_as_get {
                return service.look_up(request, body, report).await;
            }
            let Some(state) = sliced.sliced().cloned() else {
                return service.look_up(request, body, report).await;
            };
            let question = Question {
                fence: lookup.fence,
                has_credentials: request.unkeyed().any(),
                may_mix_codings: may_mix,
                remembered_as: remembered_as(&request),
                sliced: state,
            };
            let mut report = report.keeping_outcome(&request.parts.method);
            report.set_key(&sliced.key);
            drop(request);
            let response = service.carry_out(decision, sliced, body, lookup, report).await?;
            Ok(question.answer(&service.shared, response))
        })
    }

    /// Whether the representation is asked for as a whole: slices of it were of no use, or it may be stored for another query.
    fn is_whole(&self, request: &CacheRequest) -> bool {
        let core = &self.shared.core;
        core.slices.is_whole(&remembered_as(request), request.unkeyed().any(), request.now)
            || core.aliases.lookup(&request.key).is_some()
    }
}

/// Under what it is remembered that slices are of no use. An origin may have no ranges of what it codes for one client, and have
/// them for all others.
fn remembered_as(request: &CacheRequest) -> CacheKey {
    request.key.clone().with_field(&header::ACCEPT_ENCODING, &request.parts.headers)
}

/// What the store has for a request, which has waited for that.
async fn find<S: Store>(shared: &Shared<S>, request: &mut CacheRequest) -> Option<Lookup> {
    request.calls_ended = Some(shared.core.collapser.ended(&request.key));
    let found = shared.get(&request.key).await;
    request.now = shared.core.clock.now();
    found.map(|found| found.living(request.now))
}

/// A request for a slice that has been answered.
struct Question {
    fence: Fence,
    has_credentials: bool,
    may_mix_codings: bool,
    remembered_as: CacheKey,
    sliced: Sliced,
}

impl Question {
    /// The answer, with what it is.
    fn answer<S: Store>(
        &self,
        shared: &Arc<Shared<S>>,
        mut response: Response<CacheBody>,
    ) -> Response<CacheBody> {
        let outcome = response.extensions_mut().remove::<KeptOutcome>().map(|kept| kept.0);
        if self.sliced.is_left() {
            return response;
        }
        let is_clients_doing = outcome.as_ref().is_some_and(is_clients_doing);
        let answer = match response.status() {
            StatusCode::PARTIAL_CONTENT => self.found(shared, response.headers(), outcome),
            StatusCode::OK => None,
            StatusCode::RANGE_NOT_SATISFIABLE => match self.unsatisfiable() {
                Unsatisfiable::ByClient => return response,
                Unsatisfiable::BySlice => Some(SliceAnswer::Whole),
                Unsatisfiable::Empty => None,
            },
            _ => return response,
        };
        if answer.is_none() && self.sliced.asked().is_first() && !is_clients_doing {
            let slices = &shared.core.slices;
            slices.keep_whole(&self.remembered_as, self.has_credentials, shared.core.clock.now());
        }
        response.extensions_mut().insert(answer.unwrap_or(SliceAnswer::Whole));
        response
    }

    /// What is known of the slice; `None` where it can't be joined with others.
    fn found<S: Store>(
        &self,
        shared: &Arc<Shared<S>>,
        headers: &HeaderMap,
        outcome: Option<Outcome>,
    ) -> Option<SliceAnswer> {
        let (core, asked) = (&shared.core, self.sliced.asked());
        let extent = Extent::of(headers).filter(|extent| asked.is(extent))?;
        let now = core.clock.now();
        let validator = validator_of(headers, now);
        let is_of_use =
            extent.is_complete() || (validator.is_some() && outcome.as_ref().is_none_or(may_go_on));
        if asked.is_first() && !is_of_use {
            return None;
        }
        let fence = match (&validator, outcome) {
            (Some(validator), Some(outcome)) if asked.is_first() => {
                self.confirm(shared, headers, validator.as_bytes(), &outcome, now)
            }
            _ => Fence::default(),
        };
        let (shared, key) = (Arc::clone(shared), self.remembered_as.clone());
        Some(SliceAnswer::Slice(Arc::new(SliceFound {
            changed: Box::new(move || changed(Arc::clone(&shared), key.clone())),
            fence: fence.bits(),
            length: extent.length(),
            may_mix_codings: self.may_mix_codings,
            now,
            validator,
        })))
    }

    /// Notes for how long the representation is fresh. Returns the fence of the origin's word.
    fn confirm<S: Store>(
        &self,
        shared: &Shared<S>,
        headers: &HeaderMap,
        validator: &[u8],
        outcome: &Outcome,
        now: SystemTime,
    ) -> Fence {
        let (is_word, ttl) = match outcome {
            Outcome::Hit { ttl, detail: None } => (false, *ttl),
            Outcome::Forwarded(Forwarding { stored: true, ttl: Some(ttl), .. }) => (true, *ttl),
            _ => return Fence::default(),
        };
        let age = headers.get(header::AGE).and_then(|age| age.to_str().ok()?.parse().ok());
        let age = Duration::from_secs(age.unwrap_or_default());
        let left = Duration::from_secs(u64::try_from(ttl).unwrap_or_default());
        let until = now.checked_add(left).unwrap_or(now);
        let (slices, whole) = (&shared.core.slices, self.sliced.whole());
        if is_word {
            slices.confirm(whole, validator, Confirmation { age, fence: self.fence, noted: now, until });
            return self.fence;
        }
        slices.find(whole, validator, Confirmation { age, fence: Fence::default(), noted: now, until })
    }

    /// Why there is no such slice.
    fn unsatisfiable(&self) -> Unsatisfiable {
        let (asked, own) = (self.sliced.asked(), self.sliced.own_fields());
        let is_single = || {
            own.len() == 1 && own.get(header::RANGE).is_some_and(|range| !range.as_bytes().contains(&b','))
        };
        match asked.index {
            _ if !asked.is_first() => Unsatisfiable::BySlice,
            // No byte at all.
            0 => Unsatisfiable::Empty,
            _ if is_single() => Unsatisfiable::ByClient,
            _ => Unsatisfiable::BySlice,
        }
    }
}

/// Why there is nothing in a slice.
enum Unsatisfiable {
    /// The client has asked for nothing else.
    ByClient,
    /// The client's request is another one: it has conditions, or asks for more.
    BySlice,
    /// The representation is empty.
    Empty,
}

/// Whether further slices are worth while after one with this outcome: it is stored, or might be at another time.
fn may_go_on(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Forwarded(Forwarding { stored: false, detail: Some(detail), .. }) => matches!(
            detail,
            Detail::NotStored(
                NotStored::Admission | NotStored::NoRoom | NotStored::Runtime | NotStored::Store
            ) | Detail::StaleIfError
                | Detail::LatencyBudget
                | Detail::CallLimit
        ),
        _ => true,
    }
}

/// Whether a response is not stored because of what its client has sent, which says nothing of what others get.
fn is_clients_doing(outcome: &Outcome) -> bool {
    let Outcome::Forwarded(Forwarding { detail: Some(Detail::NotStored(reason)), .. }) = outcome else {
        return false;
    };
    matches!(reason, NotStored::RequestNoStore | NotStored::LongFields)
}

/// Purges all slices of a representation that has changed between two of them.
fn changed<S: Store>(shared: Arc<Shared<S>>, key: CacheKey) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let core = &shared.core;
    core.slices.change(&key, core.clock.now());
    Box::pin(async move {
        let purged = to_its_end(async move {
            let targets = [PurgeTarget::Uri(key.uri().into())];
            // Where the store fails, the next transfer finds the same, and purges again.
            shared.invalidate(&targets, PurgeMode::Remove, InvalidatedBy::Origin).await.is_ok()
        });
        purged.await;
    })
}
