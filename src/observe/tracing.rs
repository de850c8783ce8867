//! Events of the crate `tracing`.

use std::fmt;
use std::time::Duration;

use http::{Method, StatusCode};
use tracing::{debug, trace, warn};

use super::{ABANDONED, Event, Observer};
use crate::entry::key::CacheKey;
use crate::semantics::cache_status::Outcome;
use crate::semantics::outcome_kind::OutcomeKind;
use crate::store::PurgeMode;

/// The target of every event and span.
pub(super) const TARGET: &str = "larder";

/// Reports what a layer does by the crate `tracing`, with the target `larder`.
///
/// ```
/// use larder::{CacheBuilder, TracingObserver};
/// let layer = CacheBuilder::default().observer(TracingObserver::new()).build();
/// # let _ = layer;
/// ```
///
/// | level | what | fields |
/// |---|---|---|
/// | DEBUG | each request of a client, once, when it has its answer | `larder.outcome`; what `Cache-Status` says: `larder.fwd`, `larder.fwd_status`, `larder.stored`, `larder.collapsed`, `larder.ttl`, `larder.detail`; `larder.cache`, `larder.seconds`, `http.request.method`, `http.response.status_code` |
/// | DEBUG | a purge | `larder.by`, `larder.how`, `larder.targets` (how many), `larder.succeeded`, `larder.seconds` |
/// | DEBUG | stored content that broke off, of which the rest was asked for | `larder.at` (bytes that had been sent), `larder.succeeded` |
/// | WARN | a call of the store that failed | `error` |
/// | TRACE | the URL of a request or of such content, and the names that a purge is about | `url.full`, `larder.target` |
///
/// `larder.outcome` is an [`OutcomeKind`], or `abandoned` where the client has left. Of a request that got the error of the inner service,
/// `larder.detail` is the error's word ([`CacheBuilder::errors`](crate::CacheBuilder::errors)). URLs and names, which may have
/// secrets in them, are only in events of the level TRACE, and what is not printable ASCII is escaped in them.
///
/// The calls of the inner service are spans `larder.fetch` of the level DEBUG, whether or not there is this observer: a child of the
/// span in which the request was made that has led to the call. The span of each request that waits for another one's call follows from
/// (`follows_from`, a link in OpenTelemetry) that of the call. A validation in the background is a root, which follows from the
/// request that has set it off. Requests that pass, and unsafe ones, have no such span: what their service does is in theirs.
#[derive(Clone, Debug)]
pub struct TracingObserver {
    cache: Box<str>,
}

impl Default for TracingObserver {
    fn default() -> Self {
        Self::new()
    }
}

impl TracingObserver {
    /// Reports a cache of the name `larder`.
    pub fn new() -> Self {
        Self { cache: TARGET.into() }
    }

    /// The name of the cache, as `larder.cache`.
    #[must_use]
    pub fn cache(mut self, name: &str) -> Self {
        self.cache = name.into();
        self
    }

    fn ended(&self, ending: &Ending<'_>) {
        let Ending { elapsed, key, method, outcome, reason, status, word } = *ending;
        let forwarding = match outcome {
            Some(Outcome::Forwarded(forwarding)) => Some(forwarding),
            _ => None,
        };
        debug!(
            target: TARGET,
            {
                larder.cache = &*self.cache,
                larder.outcome = word,
                larder.fwd = forwarding.map(|forwarding| forwarding.forward.as_str()),
                larder.fwd_status = forwarding.and_then(|forwarding| forwarding.status).map(|status| status.as_u16()),
                larder.stored = forwarding.map(|forwarding| forwarding.stored),
                larder.collapsed = forwarding.and_then(|forwarding| forwarding.collapsed),
                larder.ttl = outcome.and_then(Outcome::ttl),
                larder.detail = outcome.and_then(Outcome::detail).as_deref().or(reason),
                larder.seconds = elapsed.as_secs_f64(),
                http.request.method = method.as_str(),
                http.response.status_code = status.map(|status| status.as_u16()),
            },
            "request"
        );
        if let Some(key) = key {
            trace!(target: TARGET, { url.full = %key.uri().escape_ascii() }, "request");
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy)]
struct Ending<'a> {
    elapsed: Duration,
    key: Option<&'a CacheKey>,
    method: &'a Method,
    outcome: Option<&'a Outcome>,
    /// What the error of the inner service is.
    reason: Option<&'static str>,
    status: Option<StatusCode>,
    word: &'static str,
}

impl Observer for TracingObserver {
    fn event(&self, event: &Event<'_>) {
        match *event {
            Event::Answered { elapsed, key, method, outcome, status, .. } => {
                let (word, outcome, status) = (outcome.kind().as_str(), Some(outcome), Some(status));
                self.ended(&Ending { elapsed, key, method, outcome, reason: None, status, word });
            }
            Event::Dropped { elapsed, key, method, .. } => {
                let (outcome, status, word) = (None, None, ABANDONED);
                self.ended(&Ending { elapsed, key, method, outcome, reason: None, status, word });
            }
            Event::Failed { elapsed, key, method, reason, .. } => {
                let (outcome, reason, word) = (None, Some(reason), OutcomeKind::Error.as_str());
                self.ended(&Ending { elapsed, key, method, outcome, reason, status: None, word });
            }
            Event::Invalidated { by, elapsed, mode, succeeded, targets, .. } => {
                debug!(
                    target: TARGET,
                    {
                        larder.cache = &*self.cache,
                        larder.by = by.name(),
                        larder.how = how(mode),
                        larder.targets = targets.len(),
                        larder.succeeded = succeeded,
                        larder.seconds = elapsed.as_secs_f64(),
                    },
                    "purge"
                );
                for target in targets {
                    trace!(target: TARGET, { larder.target = %Escaped(target) }, "purge");
                }
            }
            Event::Resumed { at, key, succeeded, .. } => {
                debug!(
                    target: TARGET,
                    { larder.cache = &*self.cache, larder.at = at, larder.succeeded = succeeded },
                    "resumption"
                );
                trace!(target: TARGET, { url.full = %key.uri().escape_ascii() }, "resumption");
            }
            Event::StoreFailed { error, .. } => {
                warn!(
                    target: TARGET,
                    {
                        larder.cache = &*self.cache,
                        error = %Escaped(error),
                    },
                    "the store has failed"
                );
            }
            // The span of a call reports what came of it.
            Event::BodyEnded { .. } | Event::Fetched { .. } | Event::Freshened { .. } | Event::Put { .. } => {
            }
        }
    }
}

/// A text in printable ASCII. Where nobody looks at the event, it is not made.
struct Escaped<T>(T);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.to_string().as_bytes().escape_ascii().fmt(f)
    }
}

/// A purge is hard or soft.
fn how(mode: PurgeMode) -> &'static str {
    if mode == PurgeMode::Remove { "hard" } else { "soft" }
}
