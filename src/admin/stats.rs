//! What has happened, in numbers.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Refusal};
use super::bypass::rounded_up;
use super::call::Call;
use super::state::State;
use super::upstreams::UpstreamState;
use super::watch::{Count, Frequent, Latency, Point, STEP, Watch};
use crate::store::{Store, StoreStatistics};

/// The most points of one answer: four hours.
const MOST_POINTS: usize = 1_440;
/// How many keys `GET /hot` lists unless it is told otherwise, and at most.
const HOT: usize = 20;
const MOST_HOT: usize = 500;

/// `GET /stats`.
pub(super) async fn stats<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    let most = number(call, "points", MOST_POINTS, MOST_POINTS)?;
    let (store, limits) = (state.handle.statistics(), state.handle.store_limits());
    let fills = state.handle.fills();
    Ok(Answer::json(&json!({
        "cache": state.handle.name(),
        "store": {
            "bytes": store.bytes,
            "capacity": limits.capacity,
            "disk": state.disk.as_ref().map(|statistics| held(statistics())),
            "entries": store.entries,
            "evictions": store.evictions,
            "max_object": limits.max_object,
            "servers": state.store.as_ref().map(|store| store().json()),
        },
        "fills": {
            "abandoned": fills.abandoned,
            "collapsed": fills.collapsed,
            "detached": fills.detached,
            "detached_readers": fills.detached_readers,
            "fills": fills.fills,
            "held": fills.held,
            "in_flight": fills.in_flight,
            "unstored": fills.unstored,
            "waiting": fills.waiting,
        },
        "upstreams": state.upstreams.as_ref().map(|states| states().iter().map(UpstreamState::json).collect::<Vec<_>>()),
        "bypass": state.handle.bypass_left().map(|left| json!({ "seconds": rounded_up(left) })),
        "watch": state.watch.as_ref().map(|watch| watched(watch, most)),
    })))
}

fn held(StoreStatistics { bytes, entries, evictions }: StoreStatistics) -> Value {
    json!({ "bytes": bytes, "entries": entries, "evictions": evictions })
}

fn watched(watch: &Watch, most: usize) -> Value {
    let [hits, fetches] = watch.latencies();
    let outcomes: Map<_, _> = watch.outcomes().map(|(word, count)| (word.to_owned(), json!(count))).collect();
    let reasons = watch.reasons().into_iter().map(|(reason, count)| (reason.into_string(), json!(count)));
    let totals: Map<_, _> =
        Count::ALL.iter().map(|count| (count.name().to_owned(), json!(watch.total(*count)))).collect();
    // Of what is the cache's business, as on the dashboard.
    let requests = watch.total(Count::Requests).saturating_sub(watch.total(Count::Bypassed));
    let of_hits = watch.total(Count::Hits);
    json!({
        "seconds": watch.watched().as_secs(),
        "hit_ratio": (requests > 0).then(|| of_hits as f64 / requests as f64),
        "totals": totals,
        "outcomes": outcomes,
        "reasons": reasons.collect::<Map<_, _>>(),
        "purges": watch.purges(),
        "store_failures": watch.store_failures(),
        "latency": { "hit": latency(hits), "fetch": latency(fetches) },
        "series": {
            "step": STEP,
            "columns": std::iter::once("at").chain(Count::ALL.iter().map(|count| count.name())).collect::<Vec<_>>(),
            "points": watch.points(most).iter().map(point).collect::<Vec<_>>(),
        },
    })
}

fn latency(latency: Latency) -> Value {
    let Latency { count, p50, p90, p99 } = latency;
    // Of nothing, there is no half.
    let of = |time: f64| (count > 0).then_some(time);
    json!({ "count": count, "p50": of(p50), "p90": of(p90), "p99": of(p99) })
}

fn point(point: &Point) -> Vec<u64> {
    std::iter::once(point.at).chain(point.counts).collect()
}

/// `GET /hot`.
pub(super) async fn hot<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    let watch = state.watch.as_ref().ok_or_else(|| Refusal::not_set_up("an observer", "Admin::watch"))?;
    let [hits, misses] = watch.hot(number(call, "n", HOT, MOST_HOT)?);
    let list = |keys: Vec<Frequent>| -> Vec<Value> {
        let shown = |frequent: &Frequent| {
            let uri = String::from_utf8_lossy(&frequent.key);
            json!({ "url": uri, "count": frequent.count, "excess": frequent.excess })
        };
        keys.iter().map(shown).collect()
    };
    Ok(Answer::json(&json!({ "hits": list(hits), "misses": list(misses) })))
}

/// `GET /metrics`.
pub(super) async fn metrics<S: Store>(state: &State<S>, _: &Call) -> Result<Answer, Refusal> {
    let render = state.metrics.as_ref().ok_or_else(|| Refusal::not_set_up("metrics", "Admin::metrics"))?;
    Ok(Answer::text("text/plain; version=0.0.4; charset=utf-8", render()))
}

/// A parameter that is a number from 1 to `most`.
pub(super) fn number(call: &Call, name: &str, default: usize, most: usize) -> Result<usize, Refusal> {
    match call.parameter(name).map(|text| text.parse::<usize>()) {
        None => Ok(default),
        Some(Ok(number)) if (1..=most).contains(&number) => Ok(number),
        Some(_) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "invalid",
            format!("the parameter `{name}` is not a number from 1 to {most}"),
            format!("say ?{name}={default}"),
        )),
    }
}
