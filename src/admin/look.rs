//! What is stored for a request, and what would happen to it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::request::Parts;
use http::{HeaderValue, Uri, header};
use serde_json::{Value, json};

use super::answer::{Answer, Refusal};
use super::call::Call;
use super::state::State;
use crate::entry::key::{ShownPart, ShownValue};
use crate::handle::explain::{ExplainedCall, Explanation};
use crate::handle::inspect::{InspectedKey, InspectedVariant};
use crate::handle::target::uri_by_other_scheme;
use crate::policy::TrustedPeer;
use crate::semantics::cache_status::Outcome;
use crate::store::Store;

/// `GET /explain`.
pub(super) async fn explain<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    let request = described(call)?;
    let name = state.handle.name();
    let explanation = state.handle.explain(&request).await;
    let mut told = explained(&explanation, name);
    told["request"] = asked(&request);
    told["as_peer"] = explanation.as_peer.as_deref().map_or(Value::Null, |of_peer| explained(of_peer, name));
    told["other_scheme"] = Value::Null;
    if let Some((other, _)) = other_scheme(state, &request).await {
        let finding = format!(
            "something is stored for {}, with the other scheme: explain that URL, if a TLS server in front of this one takes the requests",
            other.uri
        );
        if let Value::Array(steps) = &mut told["steps"] {
            steps.push(json!({ "step": "scheme", "finding": finding }));
        }
        let explanation = state.handle.explain(&other).await;
        told["other_scheme"] = json!({
            "url": other.uri.to_string(),
            "cache_status": status(&explanation, name),
            "as_peer": explanation.as_peer.as_deref().map(|of_peer| status(of_peer, name)),
        });
    }
    Ok(Answer::json(&told))
}

/// What `Cache-Status` would say.
fn status(explanation: &Explanation, name: &str) -> Option<String> {
    let value = explanation.outcome.as_ref()?.render(name, None);
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn explained(explanation: &Explanation, name: &str) -> Value {
    let (inner, is_conditional) = match explanation.call {
        ExplainedCall::Background => ("background", true),
        ExplainedCall::Foreground { is_conditional } => ("before-the-answer", is_conditional),
        ExplainedCall::None => ("none", false),
        ExplainedCall::Shared => ("shared", false),
    };
    let steps = explanation.steps.iter().map(|step| json!({ "step": step.name, "finding": step.finding }));
    json!({
        "hit": explanation.outcome.as_ref().is_some_and(Outcome::is_hit),
        "cache_status": status(explanation, name),
        "status": explanation.status.map(|status| status.as_u16()),
        "call": inner,
        "conditional": is_conditional,
        "key": explanation.key.as_ref().map(|key| json!({
            "uri": String::from_utf8_lossy(key.uri()),
            "parts": parts(&explanation.parts),
        })),
        "steps": steps.collect::<Vec<_>>(),
        "unknown": explanation.unknown,
    })
}

/// The request that a call describes: of a client or, where it says so, of another cache of the same owner. Whoever has the token
/// may say so. No field says it, since a field could be a client's.
fn described(call: &Call) -> Result<Parts, Refusal> {
    let mut request = call.described()?;
    match call.parameter("peer").as_deref() {
        None | Some("0") => {}
        Some("1") => _ = request.extensions.insert(TrustedPeer::new()),
        Some(other) => {
            let help = "say &peer=1 for a request of another cache of the same owner";
            return Err(Refusal::invalid(format!("the parameter `peer` is {other:?}"), help));
        }
    }
    Ok(request)
}

/// `GET /inspect`.
pub(super) async fn inspect<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    let request = described(call)?;
    let inspection = state.handle.inspect(&request).await;
    let other = other_scheme(state, &request).await;
    let others = other.iter().flat_map(|(_, keys)| keys.iter().map(|key| of_key(key, true, state)));
    let keys: Vec<_> = inspection.keys.iter().map(|key| of_key(key, false, state)).chain(others).collect();
    Ok(Answer::json(&json!({ "request": asked(&request), "keys": keys })))
}

/// The request with the other one of `http` and `https`, and the keys that have something for it, if any have: behind a TLS server,
/// the keys of a site of `https` say `http`. Those that the request has itself are left out.
async fn other_scheme<S: Store>(state: &State<S>, request: &Parts) -> Option<(Parts, Vec<InspectedKey>)> {
    let mut other = request.clone();
    other.uri = uri_by_other_scheme(&request.uri)?;
    // As a client would write it: the default port of one scheme is not that of the other one.
    let host = |uri: &Uri| HeaderValue::from_str(uri.authority()?.as_str()).ok();
    if other.headers.get(header::HOST) == host(&request.uri).as_ref()
        && let Some(host) = host(&other.uri)
    {
        other.headers.insert(header::HOST, host);
    }
    let own = state.handle.inspect(request).await.keys;
    let found = state.handle.inspect(&other).await.keys.into_iter();
    let keys: Vec<_> = found
        .filter(|found| !found.variants.is_empty() && !own.iter().any(|own| own.key == found.key))
        .collect();
    (!keys.is_empty()).then_some((other, keys))
}

fn of_key<S>(inspected: &InspectedKey, has_other_scheme: bool, state: &State<S>) -> Value {
    let uri = String::from_utf8_lossy(inspected.key.uri());
    let variants: Vec<_> =
        inspected.variants.iter().map(|found| variant(found, found.selected && !has_other_scheme)).collect();
    json!({
        "uri": uri,
        "parts": parts(&inspected.parts),
        "of_request": inspected.is_of_request && !has_other_scheme,
        "for_peers": inspected.is_for_peers,
        "other_scheme": has_other_scheme,
        "store_failed": inspected.failed,
        "hits": state.watch.as_ref().and_then(|watch| watch.hits_of(&inspected.key)),
        "variants": variants,
    })
}

fn variant(variant: &InspectedVariant, is_selected: bool) -> Value {
    let pairs = |pairs: &[(String, ShownValue)]| -> Vec<Value> {
        pairs.iter().map(|(name, shown)| json!([name, value(shown)])).collect()
    };
    let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs());
    json!({
        "status": variant.status.as_u16(),
        "selected": is_selected,
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
        "levels": variant.levels.name(),
        "part": variant.is_part,
        "selecting": pairs(&variant.selecting),
        "tags": variant.tags,
        "fields": pairs(&variant.fields),
    })
}

fn asked(request: &Parts) -> Value {
    let is_peer = request.extensions.get::<TrustedPeer>().is_some();
    json!({ "method": request.method.as_str(), "url": request.uri.to_string(), "peer": is_peer })
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
