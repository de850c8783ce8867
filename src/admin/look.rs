//! What is stored for a request, and what would happen to it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::request::Parts;
use serde_json::{Value, json};

use super::answer::{Answer, Refusal};
use super::call::Call;
use super::state::State;
use crate::entry::key::{ShownPart, ShownValue};
use crate::handle::explain::ExplainedCall;
use crate::handle::inspect::{InspectedKey, InspectedVariant};
use crate::semantics::cache_status::Outcome;
use crate::store::Store;

/// `GET /explain`.
pub(super) async fn explain<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    let request = call.described()?;
    let explanation = state.handle.explain(&request).await;
    let (inner, is_conditional) = match explanation.call {
        ExplainedCall::Background => ("background", true),
        ExplainedCall::Foreground { is_conditional } => ("before-the-answer", is_conditional),
        ExplainedCall::None => ("none", false),
    };
    let steps: Vec<_> =
        explanation.steps.iter().map(|step| json!({ "step": step.name, "finding": step.finding })).collect();
    let status = explanation.outcome.as_ref().map(|outcome| {
        let value = outcome.render(state.handle.name(), None);
        String::from_utf8_lossy(value.as_bytes()).into_owned()
    });
    Ok(Answer::json(&json!({
        "request": asked(&request),
        "hit": explanation.outcome.as_ref().is_some_and(Outcome::is_hit),
        "cache_status": status,
        "status": explanation.status.map(|status| status.as_u16()),
        "call": inner,
        "conditional": is_conditional,
        "key": explanation.key.as_ref().map(|key| json!({
            "uri": String::from_utf8_lossy(key.uri()),
            "parts": parts(&explanation.parts),
        })),
        "steps": steps,
        "unknown": explanation.unknown,
    })))
}

/// `GET /inspect`.
pub(super) async fn inspect<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    let request = call.described()?;
    let inspection = state.handle.inspect(&request).await;
    let keys: Vec<_> = inspection.keys.iter().map(|key| of_key(key, state)).collect();
    Ok(Answer::json(&json!({ "request": asked(&request), "keys": keys })))
}

fn of_key<S>(inspected: &InspectedKey, state: &State<S>) -> Value {
    let uri = String::from_utf8_lossy(inspected.key.uri());
    let variants: Vec<_> = inspected.variants.iter().map(variant).collect();
    json!({
        "uri": uri,
        "parts": parts(&inspected.parts),
        "of_request": inspected.is_of_request,
        "store_failed": inspected.failed,
        "hits": state.watch.as_ref().and_then(|watch| watch.hits_of(&inspected.key)),
        "variants": variants,
    })
}

fn variant(variant: &InspectedVariant) -> Value {
    let pairs = |pairs: &[(String, ShownValue)]| -> Vec<Value> {
        pairs.iter().map(|(name, shown)| json!([name, value(shown)])).collect()
    };
    let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs());
    json!({
        "status": variant.status.as_u16(),
        "selected": variant.selected,
        "fresh": variant.ttl > 0,
        "age": seconds(variant.age),
        "lifetime": variant.lifetime.as_secs(),
        "ttl": variant.ttl,
        "stale_while_revalidate": variant.stale_while_revalidate.as_secs(),
        "stale_if_error": seconds(variant.stale_if_error),
        "purged_softly": variant.expired.map(|expired| unix(expired.at)),
        "gone_at": variant.expired.and_then(|expired| expired.until).map(unix),
        "must_revalidate": variant.must_revalidate,
        "no_cache": variant.no_cache,
        "requested": unix(variant.requested),
        "bytes": variant.size,
        "in_memory": !variant.is_remote,
        "part": variant.is_part,
        "selecting": pairs(&variant.selecting),
        "tags": variant.tags,
        "fields": pairs(&variant.fields),
    })
}

fn asked(request: &Parts) -> Value {
    json!({ "method": request.method.as_str(), "url": request.uri.to_string() })
}

fn parts(parts: &[ShownPart]) -> Vec<Value> {
    parts
        .iter()
        .map(|part| json!({ "kind": part.kind, "name": part.name, "value": value(&part.value) }))
        .collect()
}

/// A text, `null` for none, or `{"hidden": true}`.
fn value(value: &ShownValue) -> Value {
    match value {
        ShownValue::Absent => Value::Null,
        ShownValue::Hidden => json!({ "hidden": true }),
        ShownValue::Text(text) => json!(text),
    }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
