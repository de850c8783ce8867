//! The metrics: names, units and what they count.

use metrics::Unit;

/// A metric, by its name in the form of Prometheus.
pub(super) struct Metric {
    pub(super) about: &'static str,
    pub(super) kind: Kind,
    pub(super) name: &'static str,
    pub(super) unit: Unit,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

const fn counter(name: &'static str, about: &'static str) -> Metric {
    Metric { about, kind: Kind::Counter, name, unit: Unit::Count }
}

const fn gauge(name: &'static str, unit: Unit, about: &'static str) -> Metric {
    Metric { about, kind: Kind::Gauge, name, unit }
}

const fn histogram(name: &'static str, unit: Unit, about: &'static str) -> Metric {
    Metric { about, kind: Kind::Histogram, name, unit }
}

pub(super) const BODY_HELD: Metric = gauge(
    "larder_body_held_bytes",
    Unit::Bytes,
    "Content that bodies hold for their clients and the store has dropped",
);
pub(super) const DETAILS: Metric =
    counter("larder_details_total", "Answers with a detail other than that they are not stored");
pub(super) const EVICTIONS: Metric =
    counter("larder_evictions_total", "Keys that the store has dropped to make room");
pub(super) const FETCH_DURATION: Metric = histogram(
    "larder_fetch_duration_seconds",
    Unit::Seconds,
    "From the call of the inner service to the head of its response, or to its error",
);
pub(super) const FILLS: Metric =
    gauge("larder_fills", Unit::Count, "Calls under way for which other requests can wait");
pub(super) const FILLS_DETACHED: Metric =
    gauge("larder_fills_detached", Unit::Count, "Calls under way for which nobody waits");
pub(super) const FILL_IN_FLIGHT: Metric =
    gauge("larder_fill_in_flight_bytes", Unit::Bytes, "Content that is to be stored and is not stored yet");
pub(super) const FILL_WAITING: Metric =
    gauge("larder_fill_waiting", Unit::Count, "Requests that wait for the call of another one");
pub(super) const NOT_STORED: Metric = counter(
    "larder_not_stored_total",
    "Answers of the inner service that are not stored, and why: a word of Cache-Status",
);
pub(super) const PURGES: Metric = counter("larder_purges_total", "Targets of purges");
pub(super) const PURGE_DURATION: Metric = histogram(
    "larder_purge_duration_seconds",
    Unit::Seconds,
    "From a purge to the moment at which the store says that it has taken effect",
);
pub(super) const PUTS: Metric =
    counter("larder_puts_total", "Responses and new heads that the store was given, and what became of them");
pub(super) const REQUESTS: Metric =
    counter("larder_requests_total", "Requests of clients, and what became of them");
pub(super) const REQUEST_DURATION: Metric = histogram(
    "larder_request_duration_seconds",
    Unit::Seconds,
    "From the arrival of a request to the head of its response",
);
pub(super) const RESPONSE_BODY_SIZE: Metric = histogram(
    "larder_response_body_size_bytes",
    Unit::Bytes,
    "Content that a client has been given with one answer",
);
pub(super) const RESUMPTIONS: Metric = counter(
    "larder_resumptions_total",
    "Answers whose stored content broke off and whose rest the inner service was asked for",
);
pub(super) const STORE_ENTRIES: Metric = gauge("larder_store_entries", Unit::Count, "Keys that are stored");
pub(super) const STORE_FAILURES: Metric =
    counter("larder_store_failures_total", "Calls of the store that have failed");
pub(super) const STORE_LIMIT: Metric =
    gauge("larder_store_limit_bytes", Unit::Bytes, "What the store has room for, where it has a bound");
pub(super) const STORE_USAGE: Metric = gauge("larder_store_usage_bytes", Unit::Bytes, "What the store holds");
pub(super) const UNSTORED: Metric = counter(
    "larder_unstored_total",
    "Responses that were reported as stored when their content began to come, and were not stored in the end",
);

/// Each of them.
pub(super) const ALL: [&Metric; 21] = [
    &BODY_HELD,
    &DETAILS,
    &EVICTIONS,
    &FETCH_DURATION,
    &FILLS,
    &FILLS_DETACHED,
    &FILL_IN_FLIGHT,
    &FILL_WAITING,
    &NOT_STORED,
    &PURGES,
    &PURGE_DURATION,
    &PUTS,
    &REQUESTS,
    &REQUEST_DURATION,
    &RESPONSE_BODY_SIZE,
    &RESUMPTIONS,
    &STORE_ENTRIES,
    &STORE_FAILURES,
    &STORE_LIMIT,
    &STORE_USAGE,
    &UNSTORED,
];
