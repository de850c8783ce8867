//! Development mode: for a while, every request is forwarded.

use std::time::Duration;

use serde_json::json;

use super::answer::{Answer, Refusal};
use super::call::Call;
use super::state::State;
use crate::store::Store;

/// The longest time, in seconds: a day.
const LONGEST: u64 = 86_400;

/// `GET /bypass`.
pub(super) async fn read<S: Store>(state: &State<S>, _: &Call) -> Result<Answer, Refusal> {
    Ok(answer(state))
}

/// `POST /bypass?for=60`.
pub(super) async fn begin<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    let seconds = call.parameter("for").and_then(|text| text.parse::<u64>().ok());
    let Some(seconds) = seconds.filter(|seconds| (1..=LONGEST).contains(seconds)) else {
        return Err(Refusal::invalid("a bypass has an end", "say ?for=60, in seconds, from 1 to 86400"));
    };
    state.handle.bypass_for(Duration::from_secs(seconds));
    Ok(answer(state))
}

/// `DELETE /bypass`.
pub(super) async fn end<S: Store>(state: &State<S>, _: &Call) -> Result<Answer, Refusal> {
    state.handle.bypass_for(Duration::ZERO);
    Ok(answer(state))
}

fn answer<S: Store>(state: &State<S>) -> Answer {
    let left = state.handle.bypass_left();
    Answer::json(&json!({ "bypass": left.is_some(), "seconds": left.map(rounded_up) }))
}

/// In seconds; what has just begun is as long as it was asked for.
pub(super) fn rounded_up(left: Duration) -> u64 {
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}
