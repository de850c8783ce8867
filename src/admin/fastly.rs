//! The purges of Fastly's API, so that what speaks to that works by another host name.

use serde::Deserialize;
use serde_json::{Map, json};

use super::answer::{Answer, Refusal};
use super::call::Call;
use super::how::How;
use super::purge::{done, of_tag, of_url, purge};
use super::state::State;
use crate::store::{PurgeTarget, Store};

/// The most keys of one request, as at Fastly.
const MOST_KEYS: usize = 256;

/// The content of `POST /service/{id}/purge`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    surrogate_keys: Vec<String>,
}

/// `POST /purge/{url}`: one URL, with or without a scheme.
pub(super) async fn url<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    let receipt = purge(&state.handle, &of_url(&state.handle, &call.rest)?, How::of(call)).await?;
    Ok(Answer::json(&done(&receipt)))
}

/// `POST /service/{id}/purge/{key}`: what has one surrogate key.
pub(super) async fn key<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    let target = of_key(&call.rest_of_path())?;
    let receipt = purge(&state.handle, &[target], How::of(call)).await?;
    Ok(Answer::json(&done(&receipt)))
}

/// `POST /service/{id}/purge`: up to 256 surrogate keys, in JSON or in the field `Surrogate-Key`.
pub(super) async fn keys<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    let keys = match call.field("surrogate-key") {
        Some(field) if call.content.is_empty() => field.split_ascii_whitespace().map(str::to_owned).collect(),
        _ => call.json::<Keys>()?.surrogate_keys,
    };
    if keys.is_empty() || keys.len() > MOST_KEYS {
        return Err(Refusal::invalid(
            format!("the request names {} surrogate keys", keys.len()),
            "name 1 to 256, in the field Surrogate-Key or as {\"surrogate_keys\": [\"a\", \"b\"]}",
        ));
    }
    let targets: Vec<_> = keys.iter().map(|key| of_key(key)).collect::<Result<_, _>>()?;
    let receipt = purge(&state.handle, &targets, How::of(call)).await?;
    let id = receipt.number.to_string();
    let ids: Map<_, _> = keys.into_iter().map(|key| (key, json!(id))).collect();
    Ok(Answer::json(&ids.into()))
}

/// `POST /service/{id}/purge_all`: everything, and always hard, as at Fastly.
pub(super) async fn all<S: Store>(state: &State<S>, _: &Call) -> Result<Answer, Refusal> {
    purge(&state.handle, &[PurgeTarget::All], How::Hard).await?;
    Ok(Answer::json(&json!({ "status": "ok" })))
}

/// What a surrogate key names: they are separated by spaces.
fn of_key(key: &str) -> Result<PurgeTarget, Refusal> {
    of_tag(key, |char| char.is_ascii_graphic())
}
