//! A live stream of what happens.

use http::{HeaderValue, StatusCode, header};

use super::answer::{Answer, Refusal};
use super::call::Call;
use super::events::Live;
use super::state::State;
use super::watch::MOST_READERS;
use crate::store::Store;

/// After so many seconds, somebody who found no place may ask again.
const AGAIN: HeaderValue = HeaderValue::from_static("10");

/// `GET /live`.
pub(super) async fn live<S: Store>(state: &State<S>, _: &Call) -> Result<Answer, Refusal> {
    let watch = state.watch.as_ref().ok_or_else(|| Refusal::not_set_up("an observer", "Admin::watch"))?;
    let reader = watch.live().ok_or_else(|| {
        let refusal = Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "readers",
            format!("{MOST_READERS} readers have a live stream already"),
            "close one of them",
        );
        refusal.field(header::RETRY_AFTER, AGAIN)
    })?;
    Ok(Answer::live(Live::of(reader)))
}
