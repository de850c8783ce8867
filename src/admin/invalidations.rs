//! Invalidation lists that are remembered, so that each is carried out once.

use std::collections::VecDeque;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::Refusal;
use crate::runtime::{Mutex, lock};

/// The most lists that are remembered by their `CallerReference`.
const MOST_REMEMBERED: usize = 256;
/// The most bytes of items that are remembered of a list; a longer one is carried out each time it comes.
const MOST_ITEM_BYTES: usize = 16 * 1024;

/// An `InvalidationBatch`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Batch {
    pub(super) caller_reference: String,
    pub(super) paths: Paths,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Paths {
    pub(super) items: Vec<String>,
    pub(super) quantity: Option<usize>,
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
    pub(super) fn find(&self, batch: &Batch) -> Result<Option<Value>, Refusal> {
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

    pub(super) fn remember(&self, batch: Batch, answer: Value) {
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

    /// What became of the list with this id.
    pub(super) fn by_id(&self, id: &str) -> Option<Value> {
        let remembered = lock(&self.0);
        let done = remembered.iter().find(|done| done.answer["Invalidation"]["Id"] == id)?;
        Some(done.answer.clone())
    }
}
