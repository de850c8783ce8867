//! The policy where it came from a file, as text.

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use serde_json::json;

use super::answer::{Answer, Refusal};
use super::call::Call;
use super::state::State;
use crate::store::Store;

/// How the text of the policy is read and replaced.
pub(super) struct PolicySource {
    read: Arc<dyn Fn() -> String + Send + Sync>,
    replace: Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>,
}

impl PolicySource {
    pub(super) fn new(
        read: impl Fn() -> String + Send + Sync + 'static,
        replace: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { read: Arc::new(read), replace: Arc::new(replace) }
    }
}

impl fmt::Debug for PolicySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicySource").finish_non_exhaustive()
    }
}

fn source<S>(state: &State<S>) -> Result<&PolicySource, Refusal> {
    state.policy.as_ref().ok_or_else(|| Refusal::not_set_up("a policy as text", "Admin::policy"))
}

/// `GET /policy`.
pub(super) async fn read<S: Store>(state: &State<S>, _: &Call) -> Result<Answer, Refusal> {
    Ok(Answer::text("text/plain; charset=utf-8", (source(state)?.read)()))
}

/// `PUT /policy`.
pub(super) async fn replace<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    let source = source(state)?;
    let text = std::str::from_utf8(&call.content)
        .map_err(|_| Refusal::invalid("the content is no UTF-8", "send the text of the policy"))?;
    (source.replace)(text).map_err(|error| {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Refusal::new(status, "policy", error, "correct the text; the policy in force is the one before")
    })?;
    Ok(Answer::json(&json!({ "status": "ok" })))
}
