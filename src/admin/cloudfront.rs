//! Invalidation lists, as CloudFront's `CreateInvalidation` takes them in JSON.

use std::collections::VecDeque;

use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{Answer, Refusal};
use super::call::Call;
use super::purge::{How, MOST_TARGETS, of_item, purge};
use super::state::State;
use crate::runtime::{Mutex, lock};
use crate::store::Store;

/// The most lists that are remembered by their `CallerReference`.
const MOST_REMEMBERED: usize = 256;
/// The longest `CallerReference`.
const LONGEST_REFERENCE: usize = 256;
/// The most bytes of items that are remembered of a list; of a longer one, its number of items counts.
const MOST_ITEM_BYTES: usize = 16 * 1024;

/// An `InvalidationBatch`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Batch {
    caller_reference: String,
    paths: Paths,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Paths {
    items: Vec<String>,
    quantity: Option<usize>,
}

/// The lists of late, the newest last.
#[derive(Default)]
pub(super) struct Invalidations(Mutex<VecDeque<Done>>);

/// A list that has taken effect.
struct Done {
    answer: Value,
    items: Vec<String>,
    reference: String,
}

impl Invalidations {
    /// What became of the list of this reference; an error where that was another list.
    fn find(&self, batch: &Batch) -> Result<Option<Value>, Refusal> {
        let remembered = lock(&self.0);
        let Some(done) = remembered.iter().find(|done| done.reference == batch.caller_reference) else {
            return Ok(None);
        };
        if done.items == batch.paths.items {
            return Ok(Some(done.answer.clone()));
        }
        Err(Refusal::new(
            StatusCode::CONFLICT,
            "caller-reference",
            format!("CallerReference {:?} was used for another list", batch.caller_reference),
            "use a new one for each list; nothing was invalidated",
        ))
    }

    fn remember(&self, batch: Batch, answer: Value) {
        if batch.paths.items.iter().map(String::len).sum::<usize>() > MOST_ITEM_BYTES {
            return; // repeated, it is carried out once more, which changes nothing
        }
        let mut remembered = lock(&self.0);
        remembered.retain(|done| done.reference != batch.caller_reference);
        if remembered.len() == MOST_REMEMBERED {
            remembered.pop_front();
        }
        remembered.push_back(Done { answer, items: batch.paths.items, reference: batch.caller_reference });
    }
}

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
    let remembered = lock(&state.invalidations.0);
    let is_it = |done: &&Done| done.answer["Invalidation"]["Id"] == *call.rest;
    match remembered.iter().find(is_it) {
        Some(done) => Ok(Answer::json(&done.answer)),
        None => Err(Refusal::not_found("only the last 256 lists are remembered, each of them as completed")),
    }
}
