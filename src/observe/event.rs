//! What an operator can watch.

use std::time::Duration;

use http::{Method, StatusCode};

use crate::entry::key::CacheKey;
use crate::error::StoreError;
use crate::semantics::cache_status::Outcome;
use crate::semantics::outcome_kind::OutcomeKind;
use crate::semantics::reuse::Forward;
use crate::store::{PurgeMode, PurgeNumber, PurgeTarget, PutOutcome};

/// Gets every [`Event`] of a layer: for metrics, logs and traces.
///
/// It is called in the middle of requests, from every thread that serves them, so it must not block. A panic in it is a
/// panic of the request, except where the end of a request or of a body is reported, which goes on. Closures are
/// observers.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use larder::{CacheBuilder, Event};
///
/// let hits = Arc::new(AtomicU64::new(0));
/// let counted = Arc::clone(&hits);
/// let layer = CacheBuilder::default()
///     .observer(move |event: &Event<'_>| {
///         if let Event::Answered { outcome, .. } = event
///             && outcome.is_hit()
///         {
///             counted.fetch_add(1, Ordering::Relaxed);
///         }
///     })
///     .build();
/// # let _ = layer;
/// ```
pub trait Observer: Send + Sync + 'static {
    /// Something has happened.
    fn event(&self, event: &Event<'_>);
}

impl<F> Observer for F
where
    F: Fn(&Event<'_>) + Send + Sync + 'static,
{
    fn event(&self, event: &Event<'_>) {
        self(event);
    }
}

/// Something that has happened in a cache.
///
/// Each request of a client ends in exactly one of `Answered`, `Failed` and `Dropped`; what goes on in the background never
/// counts as a client, and neither does a request that meets the same layer again on its way. Times are from the request's arrival, or from the beginning of the call of the inner service.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A request got its answer; the content may still be on its way.
    #[non_exhaustive]
    Answered {
        /// From the arrival of the request to the head of the response.
        elapsed: Duration,
        /// Its key; `None` where the request bypasses the cache.
        key: Option<&'a CacheKey>,
        /// The request's method.
        method: &'a Method,
        /// What the cache did.
        outcome: &'a Outcome,
        /// The status of the answer.
        status: StatusCode,
    },
    /// The body of an answer was read to its end, broke off, or was dropped. [`Event::Answered`] came before.
    #[non_exhaustive]
    BodyEnded {
        /// Bytes of content that were read.
        bytes: u64,
        /// From the arrival of the request to the end of the body.
        elapsed: Duration,
        /// Whether all of it was read.
        is_whole: bool,
        /// The key of the request; `None` where it bypasses the cache.
        key: Option<&'a CacheKey>,
        /// What the cache did, in one word.
        kind: OutcomeKind,
        /// The request's method.
        method: &'a Method,
    },
    /// A client left before its request had an answer, or is to blame for there being none ([`FailedBy::Client`](crate::FailedBy)).
    #[non_exhaustive]
    Dropped {
        /// From the arrival of the request to the moment at which the client left.
        elapsed: Duration,
        /// The key of the request; `None` where it bypasses the cache.
        key: Option<&'a CacheKey>,
        /// The request's method.
        method: &'a Method,
    },
    /// A request got the error of the inner service.
    #[non_exhaustive]
    Failed {
        /// From the arrival of the request to the error.
        elapsed: Duration,
        /// The key of the request; `None` where it bypasses the cache.
        key: Option<&'a CacheKey>,
        /// The request's method.
        method: &'a Method,
        /// What the error is, in a word: by [`CacheBuilder::errors`](crate::CacheBuilder::errors), otherwise `service-failed`.
        reason: &'static str,
    },
    /// The inner service was called for the cache's sake, or for an answer that can get a tag where nothing is stored
    /// ([`CacheBuilder::tag_only`](crate::CacheBuilder::tag_only)), and answered or failed.
    #[non_exhaustive]
    Fetched {
        /// From the call to the head of the response, or to the error.
        elapsed: Duration,
        /// Why it was called.
        forward: Forward,
        /// Whether no client waits: a stored response is validated in the background.
        is_background: bool,
        /// The key of the request.
        key: &'a CacheKey,
        /// The status of the response; `None` where the call failed.
        status: Option<StatusCode>,
    },
    /// The store got a new head for a response that is still valid: what a 304 says of it, or that it is outdated.
    #[non_exhaustive]
    Freshened {
        /// The key of the response.
        key: &'a CacheKey,
        /// What the store made of it.
        outcome: PutOutcome,
    },
    /// Stored responses were purged, or may have been.
    #[non_exhaustive]
    Invalidated {
        /// On whose behalf.
        by: InvalidatedBy,
        /// How long the store took.
        elapsed: Duration,
        /// What was to be done with them.
        mode: PurgeMode,
        /// The number that the store gave the purge; the default one where it has failed.
        number: PurgeNumber,
        /// Whether the store said that it has taken effect; if not, [`Event::StoreFailed`] came before.
        succeeded: bool,
        /// What was named, as keys spell it, and the other spellings under which the policy stores it.
        targets: &'a [PurgeTarget],
    },
    /// The store got a response, or refused it before it had all of it.
    #[non_exhaustive]
    Put {
        /// Bytes of content: what the store got of it, or was announced.
        bytes: u64,
        /// The key of the response.
        key: &'a CacheKey,
        /// What the store made of it.
        outcome: PutOutcome,
    },
    /// Stored content broke off while it was sent, and the inner service was asked for the rest. [`Event::StoreFailed`] came before,
    /// and [`Event::Fetched`], unless no call could be made.
    #[non_exhaustive]
    Resumed {
        /// How many bytes of the answer's content had been sent.
        at: u64,
        /// The key of the request.
        key: &'a CacheKey,
        /// Whether the answer goes on; if not, it ends with an error.
        succeeded: bool,
    },
    /// A call of the store failed, or content that was opened there broke off. The request went on: reads fail open.
    #[non_exhaustive]
    StoreFailed {
        /// What the store was to do, and what went wrong.
        error: &'a StoreError,
    },
}

/// On whose behalf stored responses were invalidated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidatedBy {
    /// A [`CacheHandle`](crate::CacheHandle).
    Handle,
    /// The inner service: a response took back what was stored.
    Origin,
    /// Another node ([`CacheHandle::follow`](crate::CacheHandle::follow)): it knows of this purge already.
    Peer,
    /// An unsafe request whose outcome nobody knows.
    UnknownOutcome,
    /// An unsafe request that succeeded (RFC 9111 4.4).
    UnsafeRequest,
}

impl InvalidatedBy {
    /// It in a word or two, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Handle => "handle",
            Self::Origin => "origin",
            Self::Peer => "peer",
            Self::UnknownOutcome => "unknown-outcome",
            Self::UnsafeRequest => "unsafe-request",
        }
    }
}
