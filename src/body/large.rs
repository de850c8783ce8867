//! Stored content of more than one piece, on its way to a client.

use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::entry::pieces::{Large, Run};
use crate::error::{BodyError, Failure};
use crate::limits::held::{Held, Pace, Reading, Shared, Watched, address};
use crate::runtime::{Instant, Mutex, lock, moment};

/// Reads stored content of more than one piece.
pub(crate) struct LargeReader {
    left: u64,
    place: Arc<Place>,
    _watched: Watched,
}

/// Where stored content lies for one reader.
struct Place {
    held: Arc<Held>,
    state: Mutex<PlaceState>,
}

struct PlaceState {
    content: Option<(Run, Shared)>,
    since: Instant,
}

impl LargeReader {
    pub(crate) fn new(held: &Arc<Held>, content: &Arc<Large>, run: Run) -> Self {
        let left = run.len() as u64;
        let shared = held.share(content);
        let state = PlaceState { content: Some((run, shared)), since: moment() };
        let place = Arc::new(Place { held: Arc::clone(held), state: Mutex::new(state) });
        let watched = held.watch(address(content), Arc::downgrade(&place) as Weak<dyn Reading>);
        Self { left, place, _watched: watched }
    }

    /// The number of bytes that are left.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    pub(crate) fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        if self.left == 0 {
            return None;
        }
        let mut state = lock(&self.place.state);
        let Some((run, _)) = &mut state.content else {
            self.left = 0;
            return Some(Err(Failure::TooSlow.into()));
        };
        let piece = run.next().unwrap_or_default();
        self.left = run.len() as u64;
        let read = if self.left == 0 { state.content.take() } else { None };
        state.since = moment();
        drop(state);
        drop(read);
        Some(Ok(piece))
    }
}

impl Reading for Place {
    fn pace(&self) -> Pace {
        let state = lock(&self.state);
        match &state.content {
            None => Pace::Gone,
            Some((run, _)) if run.is_untouched() => Pace::Begins(state.since),
            Some(_) => Pace::Stands(state.since),
        }
    }

    fn cut_off(&self, since: Instant) {
        let mut state = lock(&self.state);
        if state.since <= since
            && let Some(content) = state.content.take()
        {
            drop(state);
            drop(content);
            self.held.count_cut_off();
        }
    }
}
