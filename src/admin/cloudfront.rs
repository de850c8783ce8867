//! Invalidation lists, as CloudFront's `CreateInvalidation` takes them in JSON.

use std::sync::Arc;

use http::{StatusCode, header};

use super::answer::{Answer, Refusal};
use super::call::Call;
use super::how::How;
use super::invalidations::{Batch, Done};
use super::purge::{MOST_NAMED, of_item, purge};
use super::state::State;
use crate::runtime::to_its_end;
use crate::store::Store;

/// The longest `CallerReference`.
const LONGEST_REFERENCE: usize = 256;

/// `POST /invalidation`.
pub(super) async fn create<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    const HELP: &str = "send {\"CallerReference\": \"unique\", \"Paths\": {\"Quantity\": 2, \"Items\": [\"/images/*\", \
                        \"#news\"]}}";
    let mut batch: Batch = call.json()?;
    let number = batch.paths.items.len();
    if batch.caller_reference.is_empty() || batch.caller_reference.len() > LONGEST_REFERENCE {
        return Err(Refusal::invalid("CallerReference has 1 to 256 bytes", HELP));
    }
    if batch.paths.quantity.is_some_and(|quantity| quantity != number) {
        return Err(Refusal::invalid(format!("Quantity is not the number of Items, {number}"), HELP));
    }
    if number == 0 || number > MOST_NAMED {
        return Err(Refusal::invalid(format!("a list has 1 to {MOST_NAMED} items, not {number}"), HELP));
    }
    batch.paths.quantity = Some(number);
    let targets: Vec<_> = batch.paths.items.iter().map(|item| of_item(item)).collect::<Result<_, _>>()?;
    let (handle, invalidations) = (state.handle.clone(), Arc::clone(&state.invalidations));
    let how = How::of(call);
    // To its end, also where the client leaves: what has taken effect is remembered.
    let created = to_its_end(async move {
        let carry_out = async {
            let receipt = purge(&handle, &targets, how).await?;
            let created = httpdate::fmt_http_date(handle.now());
            Ok(Done { created, id: receipt.number.to_string() })
        };
        let done = invalidations.once(&batch, how, carry_out).await?;
        Ok::<_, Refusal>((done.answer(&batch), done.id))
    });
    let (answer, id) = created.await.ok_or_else(Refusal::ending)??;
    let created = Answer::json(&answer).status(StatusCode::CREATED);
    let location = format!("invalidation/{id}").parse().ok();
    Ok(location.into_iter().fold(created, |created, location| created.field(header::LOCATION, location)))
}

/// `GET /invalidation/{id}`.
pub(super) async fn find<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    match state.invalidations.by_id(&call.rest_of_path()) {
        Some(answer) => Ok(Answer::json(&answer)),
        None => Err(Refusal::not_found("only the last 256 lists are remembered, each of them as completed")),
    }
}
