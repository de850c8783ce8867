//! The policy where it came from a file, as text.

use http::StatusCode;
use serde_json::json;

use super::answer::{Answer, Refusal};
use super::call::Call;
use super::state::{PolicySource, State};
use crate::store::Store;

fn source<S>(state: &State<S>) -> Result<&PolicySource, Refusal> {
    state.policy.as_ref().ok_or_else(|| Refusal::not_set_up("a policy as text", "Admin::policy"))
}

/// `GET /policy`.
pub(super) async fn read<S: Store>(state: &State<S>, _: &Call) -> Result<Answer, Refusal> {
    let text = source(state)?.text().await?.map_err(|error| {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Refusal::new(
            status,
            "policy",
            error,
            "make it readable and ask again; the policy in force is the one before",
        )
    })?;
    Ok(Answer::text("text/plain; charset=utf-8", text))
}

/// `PUT /policy`.
pub(super) async fn replace<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    let source = source(state)?;
    let text = std::str::from_utf8(&call.content)
        .map_err(|_| Refusal::invalid("the content is no UTF-8", "send the text of the policy"))?;
    let warnings = source.replace(text.to_owned()).await?.map_err(|error| {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Refusal::new(status, "policy", error, "correct the text; the policy in force is the one before")
    })?;
    Ok(Answer::json(&json!({ "status": "ok", "warnings": warnings })))
}
