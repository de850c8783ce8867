//! Invalidation lists, as CloudFront's `CreateInvalidation` takes them in JSON.

use http::{StatusCode, header};
use serde_json::json;

use super::answer::{Answer, Refusal};
use super::call::Call;
use super::invalidations::Batch;
use super::purge::{How, MOST_TARGETS, of_item, purge};
use super::state::State;
use crate::store::Store;

/// The longest `CallerReference`.
const LONGEST_REFERENCE: usize = 256;

/// `POST /invalidation`.
pub(super) async fn create<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    const HELP: &str = "send {\"CallerReference\": \"unique\", \"Paths\": {\"Quantity\": 2, \"Items\": [\"/images/*\", \
                        \"#news\"]}}";
    let batch: Batch = call.json()?;
    let number = batch.paths.items.len();
    if batch.caller_reference.is_empty() || batch.caller_reference.len() > LONGEST_REFERENCE {
        return Err(Refusal::invalid("CallerReference has 1 to 256 bytes", HELP));
    }
    if batch.paths.quantity.is_some_and(|quantity| quantity != number) {
        return Err(Refusal::invalid(format!("Quantity is not the number of Items, {number}"), HELP));
    }
    if number == 0 || number > MOST_TARGETS {
        return Err(Refusal::invalid(format!("a list has 1 to {MOST_TARGETS} items, not {number}"), HELP));
    }
    let answer = match state.invalidations.find(&batch)? {
        Some(answer) => answer,
        None => {
            let targets: Vec<_> =
                batch.paths.items.iter().map(|item| of_item(item)).collect::<Result<_, _>>()?;
            let receipt = purge(&state.handle, &targets, How::of(call)).await?;
            let now = state.handle.now();
            let answer = json!({ "Invalidation": {
                "Id": receipt.number.to_string(),
                "Status": "Completed",
                "CreateTime": httpdate::fmt_http_date(now),
                "InvalidationBatch": batch,
            }});
            state.invalidations.remember(batch, answer.clone());
            answer
        }
    };
    let created = Answer::json(&answer).status(StatusCode::CREATED);
    let id = answer["Invalidation"]["Id"].as_str().and_then(|id| format!("invalidation/{id}").parse().ok());
    Ok(id.map_or(created, |location| {
        Answer::json(&answer).status(StatusCode::CREATED).field(header::LOCATION, location)
    }))
}

/// `GET /invalidation/{id}`.
pub(super) async fn find<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    match state.invalidations.by_id(&call.rest) {
        Some(answer) => Ok(Answer::json(&answer)),
        None => Err(Refusal::not_found("only the last 256 lists are remembered, each of them as completed")),
    }
}
