//! Counters, gauges and histograms, by the facade `metrics`.

mod names;
mod register;
mod requests;

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use metrics::{Counter, Gauge, Histogram, Recorder};

use self::register::{Register, Words};
use self::requests::{Ending, Requests};
use super::{Event, Observer};
use crate::entry::key::KeyError;
use crate::limits::FillStatistics;
use crate::policy::words;
use crate::semantics::cache_status::{Detail, ONLY_IF_CACHED, Outcome};
use crate::semantics::reuse::Forward;
use crate::semantics::storing::NotStored;
use crate::store::{PurgeMode, PurgeTarget, PutOutcome, StoreStatistics};

/// Counts what a layer does, by the facade of the crate `metrics` (0.24), for whichever recorder the program has installed.
///
/// ```
/// use larder::{CacheBuilder, MetricsObserver};
///
/// // After `metrics::set_global_recorder` or an exporter's `install`.
/// let metrics = MetricsObserver::new();
/// let layer = CacheBuilder::default().observer(metrics.clone()).build();
/// // Before each scrape, or now and then: what only the layer's handle knows.
/// layer.handle().record(&metrics);
/// ```
///
/// The names are those of Prometheus. OpenTelemetry has no conventions for caches; the last column is what they are called there,
/// by its rules. `cache` (`larder.cache.name`) is a label of all of them where [`MetricsBuilder::cache`] has given a name.
///
/// | name | kind | labels | OpenTelemetry |
/// |---|---|---|---|
/// | `larder_requests_total` | counter | `outcome`, `fwd`, `method` | `larder.requests`, `{request}`; `larder.outcome`, `larder.fwd`, `http.request.method` |
/// | `larder_request_duration_seconds` | histogram | `outcome` | `larder.request.duration`, `s` |
/// | `larder_response_body_size_bytes` | histogram | `outcome` | `larder.response.body.size`, `By` |
/// | `larder_not_stored_total` | counter | `reason` | `larder.not_stored`, `{response}`; `larder.reason` |
/// | `larder_details_total` | counter | `detail` | `larder.details`, `{response}`; `larder.detail` |
/// | `larder_fetch_duration_seconds` | histogram | `fwd`, `status` | `larder.fetch.duration`, `s`; `larder.fwd`, the class of `http.response.status_code` or `error` |
/// | `larder_puts_total` | counter | `result` | `larder.puts`, `{response}`; `larder.result` |
/// | `larder_purges_total` | counter | `target`, `how`, `result` | `larder.purges`, `{purge}`; `larder.target`, `larder.how`, `larder.result` |
/// | `larder_purge_duration_seconds` | histogram | | `larder.purge.duration`, `s` |
/// | `larder_resumptions_total` | counter | `result` | `larder.resumptions`, `{response}`; `larder.result` |
/// | `larder_store_failures_total` | counter | `operation` | `larder.store.failures`, `{failure}`; `larder.operation` |
/// | `larder_store_usage_bytes` | gauge | | `larder.store.usage`, `By` |
/// | `larder_store_limit_bytes` | gauge | | `larder.store.limit`, `By` |
/// | `larder_store_entries` | gauge | | `larder.store.entries`, `{entry}` |
/// | `larder_evictions_total` | counter | | `larder.evictions`, `{entry}` |
/// | `larder_fills`, `larder_fills_detached` | gauge | | `larder.fills`, `larder.fills.detached`, `{fill}` |
/// | `larder_fill_waiting` | gauge | | `larder.fill.waiting`, `{request}` |
/// | `larder_fill_in_flight_bytes` | gauge | | `larder.fill.in_flight`, `By` |
/// | `larder_body_held_bytes` | gauge | | `larder.body.held`, `By` |
/// | `larder_unstored_total` | counter | | `larder.unstored`, `{response}` |
///
/// - `outcome` is an [`OutcomeKind`](crate::OutcomeKind), or `abandoned` where the client has left before it had an answer;
///   the error of the inner service is an `error`, too. `fwd` is the word of `Cache-Status`, or `none`.
/// - `reason` and `detail` are the words that this crate puts into `Cache-Status` as `detail`, those of
///   [`MetricsBuilder::reasons`], and `other`.
///
/// All handles are registered when the observer is made, so that each series is there from the beginning and no request adds one. No
/// label has a URL, a key, a tag or an address, and no policy's word that was not named in advance. Buckets are the
/// recorder's affair; for times OpenTelemetry's are 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5
/// and 10 seconds.
#[derive(Clone)]
pub struct MetricsObserver(Arc<Handles>);

/// How a [`MetricsObserver`] counts.
///
/// ```
/// use larder::MetricsObserver;
/// // Two caches in one program, one of which has a policy that says `RequestAction::bypass("cart")`.
/// let (pages, images) = (
///     MetricsObserver::builder().cache("pages").reasons(["cart"]).build(),
///     MetricsObserver::builder().cache("images").build(),
/// );
/// # let _ = (pages, images);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "`build` makes the observer"]
pub struct MetricsBuilder {
    cache: Option<Box<str>>,
    reasons: Vec<Box<str>>,
}

impl MetricsBuilder {
    /// Gives each metric the label `cache`; by default there is none.
    pub fn cache(mut self, name: &str) -> Self {
        self.cache = Some(name.into());
        self
    }

    /// Words by which policies of yours bypass requests and refuse responses: each is counted by itself, and all others
    /// together as `other`. Default none.
    pub fn reasons<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
        self.reasons.extend(words.into_iter().map(Into::into));
        self
    }

    /// Registers everything at the global recorder, or at that of this thread. If there is none yet, nothing is ever counted.
    #[must_use]
    pub fn build(self) -> MetricsObserver {
        metrics::with_recorder(|recorder| self.build_with(recorder))
    }

    /// Registers everything at this recorder.
    #[must_use]
    pub fn build_with(self, recorder: &dyn Recorder) -> MetricsObserver {
        let Self { cache, reasons } = self;
        let register = Register { cache: cache.as_deref(), recorder };
        register.describe_all();
        MetricsObserver(Arc::new(Handles::register(&register, &reasons)))
    }
}

impl Default for MetricsObserver {
    fn default() -> Self {
        Self::new()
    }
}

impl MetricsObserver {
    /// [`MetricsBuilder::build`] with its defaults.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// With a name for the cache, or with words of policies.
    pub fn builder() -> MetricsBuilder {
        MetricsBuilder::default()
    }

    /// [`MetricsBuilder::build_with`] with its defaults.
    pub fn with_recorder(recorder: &dyn Recorder) -> Self {
        Self::builder().build_with(recorder)
    }

    /// Sets what is not an event: what the store holds and has room for, and what is being fetched.
    #[expect(clippy::cast_precision_loss, reason = "a gauge's values are floats")]
    pub(crate) fn record(&self, store: StoreStatistics, capacity: Option<u64>, fills: FillStatistics) {
        let Handles { levels, .. } = &*self.0;
        for (gauge, value) in [
            (&levels.body_held, fills.held),
            (&levels.fill_in_flight, fills.in_flight),
            (&levels.fill_waiting, fills.waiting),
            (&levels.fills, fills.fills),
            (&levels.fills_detached, fills.detached),
            (&levels.store_entries, store.entries),
            (&levels.store_usage, store.bytes),
        ] {
            gauge.set(value as f64);
        }
        if let Some(capacity) = capacity {
            levels.store_limit.set(capacity as f64);
        }
        levels.evictions.absolute(store.evictions);
        levels.unstored.absolute(fills.unstored);
    }
}

impl fmt::Debug for MetricsObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsObserver").field("reasons", &self.0.not_stored).finish_non_exhaustive()
    }
}

impl Observer for MetricsObserver {
    fn event(&self, event: &Event<'_>) {
        let Handles { requests, .. } = &*self.0;
        match event {
            Event::Answered { elapsed, method, outcome, .. } => {
                let ending = Ending::Answered(outcome.kind(), outcome.forward());
                requests.ended(method, ending, elapsed.as_secs_f64());
                self.0.detail(outcome);
            }
            Event::BodyEnded { bytes, kind, .. } => requests.sent(*kind, *bytes),
            Event::Dropped { elapsed, method, .. } => {
                requests.ended(method, Ending::Abandoned, elapsed.as_secs_f64());
            }
            Event::Failed { elapsed, method, .. } => {
                requests.ended(method, Ending::Failed, elapsed.as_secs_f64());
            }
            Event::Fetched { elapsed, forward, status, .. } => {
                self.0.fetches.of(*forward, *status).record(elapsed.as_secs_f64());
            }
            Event::Freshened { outcome, .. } | Event::Put { outcome, .. } => self.0.put(*outcome),
            Event::Invalidated { elapsed, mode, succeeded, targets, .. } => {
                for target in *targets {
                    self.0.purges.of(target, *mode, *succeeded).increment(1);
                }
                self.0.purge_duration.record(elapsed.as_secs_f64());
            }
            Event::Resumed { succeeded, .. } => self.0.resumptions[usize::from(!succeeded)].increment(1),
            Event::StoreFailed { error } => self.0.store_failures.count(error.action()),
        }
    }
}

/// Everything that is counted.
struct Handles {
    details: Words,
    fetches: Fetches,
    levels: Levels,
    not_stored: Words,
    purge_duration: Histogram,
    purges: Purges,
    puts: [Counter; 3],
    requests: Requests,
    /// Those that went on, and those that did not.
    resumptions: [Counter; 2],
    store_failures: Words,
}

impl Handles {
    fn register(register: &Register<'_>, reasons: &[Box<str>]) -> Self {
        let put = |result| register.counter(&names::PUTS, &[("result", result)]);
        let refused = NotStored::ALL.iter().map(|reason| reason.as_str());
        let without_key = KeyError::ALL.iter().map(|error| error.as_str());
        let of_policies = words::ALL.into_iter().chain(reasons.iter().map(|word| &**word));
        let details = Detail::PLAIN.iter().map(Detail::as_str).chain([ONLY_IF_CACHED]);
        Self {
            details: register.words(&names::DETAILS, "detail", details),
            fetches: Fetches::register(register),
            levels: Levels::register(register),
            not_stored: register.words(
                &names::NOT_STORED,
                "reason",
                refused.chain(without_key).chain(of_policies),
            ),
            purge_duration: register.histogram(&names::PURGE_DURATION, &[]),
            purges: Purges::register(register),
            puts: ["stored", "superseded", "too-large"].map(put),
            requests: Requests::register(register),
            resumptions: RESULTS.map(|result| register.counter(&names::RESUMPTIONS, &[("result", result)])),
            store_failures: register.words(&names::STORE_FAILURES, "operation", OPERATIONS),
        }
    }

    fn detail(&self, outcome: &Outcome) {
        let Some(word) = outcome.detail() else {
            return;
        };
        match outcome {
            Outcome::Forwarded(forwarding) if forwarding.detail.as_ref().is_some_and(is_why_not_stored) => {
                self.not_stored.count(&word);
            }
            _ => self.details.count(&word),
        }
    }

    fn put(&self, outcome: PutOutcome) {
        let [stored, superseded, too_large] = &self.puts;
        match outcome {
            PutOutcome::Stored => stored.increment(1),
            PutOutcome::Superseded => superseded.increment(1),
            PutOutcome::TooLarge => too_large.increment(1),
        }
    }
}

fn is_why_not_stored(detail: &Detail) -> bool {
    matches!(detail, Detail::Bypass(_) | Detail::NotStored(_) | Detail::Refused(_))
}

/// What a store is asked for, as [`StoreError::action`](crate::StoreError::action) has it.
const OPERATIONS: [&str; 11] = [
    "begin to put",
    "commit content",
    "freshen",
    "invalidate",
    "look for purges",
    "look up",
    "open content",
    "put",
    "read content",
    "take content",
    "write content",
];

/// What [`MetricsObserver::record`] sets.
struct Levels {
    body_held: Gauge,
    evictions: Counter,
    fill_in_flight: Gauge,
    fill_waiting: Gauge,
    fills: Gauge,
    fills_detached: Gauge,
    store_entries: Gauge,
    store_limit: Gauge,
    store_usage: Gauge,
    unstored: Counter,
}

impl Levels {
    fn register(register: &Register<'_>) -> Self {
        Self {
            body_held: register.gauge(&names::BODY_HELD),
            evictions: register.counter(&names::EVICTIONS, &[]),
            fill_in_flight: register.gauge(&names::FILL_IN_FLIGHT),
            fill_waiting: register.gauge(&names::FILL_WAITING),
            fills: register.gauge(&names::FILLS),
            fills_detached: register.gauge(&names::FILLS_DETACHED),
            store_entries: register.gauge(&names::STORE_ENTRIES),
            store_limit: register.gauge(&names::STORE_LIMIT),
            store_usage: register.gauge(&names::STORE_USAGE),
            unstored: register.counter(&names::UNSTORED, &[]),
        }
    }
}

/// How long the inner service took, by why it was called and what it said.
struct Fetches(Vec<Histogram>);

impl Fetches {
    const RESULTS: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "error"];

    fn register(register: &Register<'_>) -> Self {
        let histogram = |forward: &Forward, status| {
            register.histogram(&names::FETCH_DURATION, &[("fwd", forward.as_str()), ("status", status)])
        };
        let of = |forward| Self::RESULTS.into_iter().map(move |status| histogram(forward, status));
        Self(Forward::ALL.iter().flat_map(of).collect())
    }

    fn of(&self, forward: Forward, status: Option<StatusCode>) -> &Histogram {
        let forward = Forward::ALL.iter().position(|known| *known == forward).unwrap_or_default();
        let error = Self::RESULTS.len() - 1;
        // A status beyond 599 is as good as none (RFC 9110 15).
        let result = status.map_or(error, |status| usize::from(status.as_u16() / 100 - 1).min(error));
        &self.0[forward * Self::RESULTS.len() + result]
    }
}

/// What was done or not.
const RESULTS: [&str; 2] = ["done", "failed"];

/// Purged targets, by kind, mode and result.
struct Purges(Vec<Counter>);

impl Purges {
    const HOW: [&str; 2] = ["hard", "soft"];
    const TARGETS: [&str; 8] = ["all", "group", "host", "key", "path", "prefix", "tag", "url"];

    fn register(register: &Register<'_>) -> Self {
        let mut counters = Vec::new();
        for target in Self::TARGETS {
            for how in Self::HOW {
                for result in RESULTS {
                    let labels = [("target", target), ("how", how), ("result", result)];
                    counters.push(register.counter(&names::PURGES, &labels));
                }
            }
        }
        Self(counters)
    }

    fn of(&self, target: &PurgeTarget, mode: PurgeMode, succeeded: bool) -> &Counter {
        let target = match target {
            PurgeTarget::All => 0,
            PurgeTarget::Group(_) => 1,
            PurgeTarget::Host(_) => 2,
            PurgeTarget::Key(_) => 3,
            PurgeTarget::Path(_) | PurgeTarget::PathPrefix(_) => 4,
            PurgeTarget::Prefix(_) => 5,
            PurgeTarget::Tag(_) | PurgeTarget::TagAnyCase(_) => 6,
            PurgeTarget::Uri(_) => 7,
        };
        let is_soft = usize::from(mode != PurgeMode::Remove);
        &self.0[target * 4 + is_soft * 2 + usize::from(!succeeded)]
    }
}
