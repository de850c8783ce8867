//! A live stream of what happens.

use http::StatusCode;

use super::answer::{Answer, Refusal};
use super::call::Call;
use super::events::Live;
use super::state::State;
use crate::store::Store;

/// How many readers there may be at one time.
const MOST_READERS: usize = 16;

/// `GET /live`.
pub(super) async fn live<S: Store>(state: &State<S>, _: &Call) -> Result<Answer, Refusal> {
    let watch = state.watch.as_ref().ok_or_else(|| Refusal::not_set_up("an observer", "Admin::watch"))?;
    if watch.live_readers() >= MOST_READERS {
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "readers",
            format!("{MOST_READERS} readers have a live stream already"),
            "close one of them",
        ));
    }
    Ok(Answer::live(Live::of(watch)))
}
