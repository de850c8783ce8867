//! A second policy that is asked and counted, and never acted on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Response, request, response};
use quick_cache::sync::Cache;
use smallvec::SmallVec;

use crate::entry::key::{CacheKey, KeyNames, asked_path};
use crate::policy::judge::{Judged, JudgedRequest};
use crate::policy::{CachePolicy, Delivery, PolicyData, PolicyExchange, RequestAction, Terms};
use crate::runtime::clock::Clock;
use crate::semantics::cache_control::RequestDirectives;
use crate::semantics::fields::ResponseFields;
use crate::semantics::incumbent::Incumbent;
use crate::semantics::range::SentRange;
use crate::semantics::storing::NotStored;
use crate::semantics::terms::Fetched;
use crate::semantics::{Rules, deception, framing, is_retrieval};

/// How many keys the report remembers as stored; the least used are forgotten.
const MOST_KEYS: usize = 65_536;

/// A policy, and a candidate for its place that is only asked what it would do.
///
/// The candidate gets copies of each request and response, so nothing that it does has an effect. What it would have stored
/// is remembered by key, for up to 65,536 keys and for as long as it would have been fresh; a later request for that key
/// counts as a hit. Each GET, HEAD and QUERY costs a copy of its head.
///
/// Answers that bypass the cache now are judged by the fields that clients get. What the candidate gets as
/// [`PolicyExchange::sent`] is what the policy in force has sent.
///
/// The figures are estimates. What the candidate would have stored is told from heads: by its terms, by `Vary`, by
/// `Content-Length` and by [`Rules::deception_guard`](crate::semantics::Rules::deception_guard). Not looked at are
/// [`Terms::admission`], [`Terms::max_variants`], the length of content without a `Content-Length`, whether the store has room, what
/// it evicts, and purges; and the variants of one key count as one. So there may be fewer hits with the candidate than
/// [`ReportCounts::hits`] says.
///
/// ```
/// use std::time::Duration;
/// use larder::{CacheBuilder, CachePolicyExt, StandardPolicy};
///
/// let policy = StandardPolicy::default().report_only(StandardPolicy::rfc9111());
/// let report = policy.report();
/// let layer = CacheBuilder::default().policy(policy).build();
/// // After a day of traffic:
/// let counts = report.counts();
/// println!("{} hits now, {} more with the candidate", counts.hits + counts.lost - counts.gained, counts.gained);
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
pub struct ReportOnly<P, C> {
    candidate: C,
    clock: Clock,
    policy: P,
    report: Report,
}

/// What became of requests, had the candidate of a [`ReportOnly`] decided. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Report(Arc<Counters>);

/// A count of requests, since the [`ReportOnly`] was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReportCounts {
    /// The candidate would have kept them from the cache.
    pub bypassed: u64,
    /// Not answered from storage, and the candidate would have had an answer there.
    pub gained: u64,
    /// The candidate would have answered them from storage.
    pub hits: u64,
    /// Answered from storage, and the candidate would have had nothing there.
    pub lost: u64,
    /// The candidate would have forwarded them.
    pub misses: u64,
    /// Responses that the candidate would have fetched and not stored, by the word that `Cache-Status` has for the reason.
    pub not_stored: BTreeMap<&'static str, u64>,
    /// Answered in all: the sum of bypassed, hits and misses.
    pub requests: u64,
    /// Responses that the candidate would have fetched and stored.
    pub stored: u64,
}

#[derive(Debug, Default)]
struct Counters {
    bypassed: AtomicU64,
    gained: AtomicU64,
    hits: AtomicU64,
    lost: AtomicU64,
    misses: AtomicU64,
    not_stored: Mutex<BTreeMap<&'static str, u64>>,
    remembered: Remembered,
    stored: AtomicU64,
}

/// Until when the candidate would have had something fresh, by key.
struct Remembered {
    keys: Cache<u128, SystemTime>,
    names: KeyNames,
}

impl Default for Remembered {
    fn default() -> Self {
        Self { keys: Cache::new(MOST_KEYS), names: KeyNames::default() }
    }
}

impl std::fmt::Debug for Remembered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remembered").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Report {
    /// The counts so far.
    pub fn counts(&self) -> ReportCounts {
        let Counters { bypassed, gained, hits, lost, misses, not_stored, stored, .. } = &*self.0;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (bypassed, hits, misses) = (read(bypassed), read(hits), read(misses));
        ReportCounts {
            bypassed,
            gained: read(gained),
            hits,
            lost: read(lost),
            misses,
            not_stored: not_stored.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            requests: bypassed + hits + misses,
            stored: read(stored),
        }
    }

    fn has(&self, key: &CacheKey, now: SystemTime) -> bool {
        let Remembered { keys, names } = &self.0.remembered;
        keys.get(&names.of(key)).is_some_and(|until| now < until)
    }

    /// Counts what the candidate says of a response.
    fn count(&self, key: &CacheKey, terms: &Terms, fresh_for: Duration, now: SystemTime) {
        match terms.store {
            Ok(()) => {
                add(&self.0.stored);
                let Remembered { keys, names } = &self.0.remembered;
                let until = now.checked_add(fresh_for).filter(|_| !terms.no_cache);
                keys.insert(names.of(key), until.unwrap_or(now));
            }
            Err(reason) => {
                let mut counts = self.0.not_stored.lock().unwrap_or_else(PoisonError::into_inner);
                *counts.entry(reason.as_str()).or_default() += 1;
            }
        }
    }
}

/// What the candidate gets to know of a response, beside its head.
struct Seen<'a> {
    is_background: bool,
    max_body: u64,
    /// As the policy in force has sent the request.
    sent: Option<&'a HeaderMap>,
}

/// What the candidate would do with a request.
struct Would {
    data: PolicyData,
    is_hit: bool,
    is_judged: AtomicBool,
    /// `None` where it would bypass the cache.
    key: Option<CacheKey>,
    /// The request as the candidate has left it.
    request: request::Parts,
}

/// For each report that counts a request, since one may be within another: what its candidate would do.
#[derive(Clone, Default)]
struct Asked(SmallVec<[(Report, Arc<Would>); 1]>);

impl Asked {
    fn find(&self, report: &Report) -> Option<&Would> {
        self.0.iter().find(|(own, _)| Arc::ptr_eq(&own.0, &report.0)).map(|(_, would)| &**would)
    }
}

impl<P: CachePolicy, C: CachePolicy> ReportOnly<P, C> {
    pub(super) fn new(policy: P, candidate: C) -> Self {
        Self { candidate, clock: Clock::system(), policy, report: Report::default() }
    }

    /// Where the time comes from; default the system's clock. Give it the one of the layer in tests.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// What is counted.
    pub fn report(&self) -> Report {
        self.report.clone()
    }

    /// Asks the candidate about a request.
    fn ask(&self, request: &request::Parts) -> Would {
        let (mut request, mut data) = (request.clone(), PolicyData::default());
        let key = match self.candidate.request(&mut request, &mut data) {
            RequestAction::Bypass(_) => None,
            RequestAction::Cache(key) => Some(key),
        };
        let is_hit = key.as_ref().is_some_and(|key| self.report.has(key, self.clock.now()));
        Would { data, is_hit, is_judged: AtomicBool::new(false), key, request }
    }

    /// Asks the candidate about a response, unless it has been asked about the one to this request, or would not have asked for
    /// one.
    fn judge(&self, would: &Would, response: &response::Parts, seen: Seen<'_>) {
        let Some(key) = would.key.as_ref().filter(|_| !would.is_hit) else {
            return;
        };
        if would.is_judged.swap(true, Ordering::Relaxed) {
            return;
        }
        let Would { data, request, .. } = would;
        let now = self.clock.now();
        // A HEAD is forwarded as a GET where the answer is to be stored.
        let method = if request.method == Method::HEAD { &Method::GET } else { &request.method };
        let judged = Judged {
            is_background: seen.is_background,
            max_body: seen.max_body,
            method,
            names_target: false,
            request: JudgedRequest {
                directives: &RequestDirectives::of(&request.headers),
                key,
                now,
                parts: request,
            },
            sent: seen.sent,
            store: Ok(()),
        };
        let (view, mut terms) = judged.terms_by(&self.candidate, data, response, now);
        if terms.store.is_ok() {
            let rules = self.candidate.rules(request, data);
            terms.store = bounded(&terms, response, view.fields, method, request, rules);
        }
        let fresh_for = terms.lifetime.saturating_sub(terms.age_on_arrival());
        self.report.count(key, &terms, fresh_for, now);
    }
}

impl<P: CachePolicy, C: CachePolicy> CachePolicy for ReportOnly<P, C> {
    fn request(&self, request: &mut request::Parts, data: &mut PolicyData) -> RequestAction {
        if is_retrieval(&request.method) || request.method == Method::HEAD {
            let asked = (self.report.clone(), Arc::new(self.ask(request)));
            match data.get_mut::<Asked>() {
                Some(others) => others.0.push(asked),
                None => data.insert(Asked(SmallVec::from_iter([asked]))),
            }
        }
        self.policy.request(request, data)
    }

    fn response(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        if let Some(would) = exchange.data().and_then(|asked: &Asked| asked.find(&self.report)) {
            let PolicyExchange { is_background, sent, .. } = *exchange;
            self.judge(would, exchange.received, Seen { is_background, max_body: terms.max_body, sent });
        }
        self.policy.response(exchange, terms);
    }

    fn deliver(&self, delivery: &mut Delivery<'_>) {
        self.policy.deliver(delivery);
        let Some(would) = delivery.data().and_then(|asked: &Asked| asked.find(&self.report)) else {
            return;
        };
        let (counters, is_hit) = (&*self.report.0, delivery.outcome.is_hit());
        match (&would.key, would.is_hit) {
            (None, _) => add(&counters.bypassed),
            (_, true) => add(&counters.hits),
            (_, false) => add(&counters.misses),
        }
        match (would.is_hit, is_hit) {
            (true, false) => add(&counters.gained),
            (false, true) => add(&counters.lost),
            _ => {}
        }
        // The candidate would have fetched what storage has given, and looked at what has bypassed the cache: from now on it
        // would have it, too. An answer that is not the whole response says too little.
        let is_whole = !matches!(delivery.status.as_u16(), 206 | 304 | 412 | 416);
        if (is_hit || delivery.outcome.is_bypass()) && is_whole {
            let seen = Seen { is_background: false, max_body: u64::MAX, sent: None };
            self.judge(would, &stored(delivery.status, delivery.headers), seen);
        }
    }

    fn needs_sent_fields(&self) -> bool {
        self.policy.needs_sent_fields() || self.candidate.needs_sent_fields()
    }

    pass_on!(rules, receive, forward, spellings);
}

/// What no policy lifts, as far as it can be told from both heads.
fn bounded(
    terms: &Terms,
    response: &response::Parts,
    fields: ResponseFields,
    method: &Method,
    request: &request::Parts,
    rules: &Rules,
) -> Result<(), NotStored> {
    let (status, headers) = (response.status, &response.headers);
    let judged = terms.edits.as_ref().and_then(|edits| edits.judged.as_ref()).unwrap_or(headers);
    let unselectable = terms.vary.selecting(judged, &request.headers, rules).err();
    let fetched = Fetched {
        group_bytes: terms.groups.iter().map(|group| group.len()).sum(),
        groups: terms.groups.len(),
        has_transfer_coding: framing::has_transfer_coding(headers),
        has_validator: fields.has_validator(),
        incumbent: Incumbent::None,
        is_known_part: true, // the cache finds that out by what is stored
        method,
        names_target: false,
        sent_range: SentRange::None,
        status,
    };
    terms.of_reuse().enforce_invariants(&fetched, unselectable, rules)?;
    if rules.deception_guard {
        deception::check(&asked_path(request), status, headers)?;
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length > terms.max_body => Err(NotStored::TooLarge),
        Some(length) if length < terms.min_body => Err(NotStored::TooSmall),
        _ => Ok(()),
    }
}

/// A response as it is stored, by the answer that was made of it.
fn stored(status: http::StatusCode, headers: &HeaderMap) -> response::Parts {
    let (mut parts, ()) = Response::new(()).into_parts();
    (parts.status, parts.headers) = (status, headers.clone());
    parts
}
