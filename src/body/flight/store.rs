//! The content of a flight on its way to the store: whole, or piece by piece while it comes.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::state::Stage;
use super::{Flight, PATIENCE};
use crate::entry::pieces::{PIECE, Pieces, PiecesMut};
use crate::runtime::{briefly, lock};

/// What all of the content has come to.
pub(crate) struct Complete {
    pub(crate) length: u64,
    /// The content, where all of it is in memory.
    pub(crate) pieces: Option<Pieces>,
    /// Bytes of memory that what the store gets takes beside the flight.
    pub(crate) weight: usize,
}

impl Flight {
    /// All of the content has come in, with what is held back; to be asked for only while it is to be stored.
    pub(crate) fn complete(&self, held: Option<&Bytes>) -> Complete {
        let (is_kept, received) = {
            let mut state = lock(&self.state);
            state.buffer.close();
            (state.stage == Stage::Keeping, state.buffer.received())
        };
        let length = received + held.map_or(0, Bytes::len) as u64;
        if is_kept {
            let pieces = self.content(held);
            let mut state = lock(&self.state);
            if state.written.is_some() && length > PIECE as u64 {
                state.rest = Some((0, pieces.clone()));
            }
            return Complete { length, weight: pieces.weight(), pieces: Some(pieces) };
        }
        let base = received - received % PIECE as u64;
        let mut last = PiecesMut::default();
        let mut state = lock(&self.state);
        let (chunks, _) = state.buffer.piece(base);
        chunks.iter().chain(held).for_each(|data| last.extend(data));
        let rest = last.freeze();
        let weight = rest.weight();
        state.rest = Some((base, rest));
        state.recount(&self.gauges);
        Complete { length, pieces: None, weight }
    }

    /// All that came in, and what is held back. Piece by piece it takes the place of what came in, so that no more than one of
    /// them is there twice.
    fn content(&self, held: Option<&Bytes>) -> Pieces {
        let mut pieces = Vec::new();
        let mut position = 0;
        let received = lock(&self.state).buffer.received();
        while position + (PIECE as u64) < received {
            pieces.push(self.piece(position));
            position += PIECE as u64;
        }
        // The last piece, and the frame that is held back.
        let (chunks, is_block) = lock(&self.state).buffer.piece(position);
        match (held, &chunks[..]) {
            (None, []) => {}
            (None, [only]) if is_block => pieces.push(only.clone()),
            (Some(only), []) if pieces.is_empty() => return Pieces::of(only.clone()).compacted(),
            _ => {
                let mut last = PiecesMut::default();
                chunks.iter().chain(held).for_each(|data| last.extend(data));
                pieces.extend(last.freeze().iter().cloned());
            }
        }
        Pieces::whole(pieces)
    }

    /// A piece that has come in whole, in one block, which takes the place of what came in.
    fn piece(&self, position: u64) -> Bytes {
        let (mut chunks, is_block) = lock(&self.state).buffer.piece(position);
        if is_block {
            return chunks.remove(0);
        }
        let piece: Bytes = chunks.concat().into();
        drop(chunks);
        let mut state = lock(&self.state);
        state.buffer.replace(position, piece.clone());
        state.recount(&self.gauges);
        piece
    }

    /// The piece from a position on, `Some(None)` after the last one; `None` where it is not there yet.
    fn piece_for_store(&self, position: u64) -> Option<Option<Bytes>> {
        {
            let state = lock(&self.state);
            if let Some((base, rest)) = &state.rest
                && position >= *base
            {
                let piece = rest.from(usize::try_from(position - base).unwrap_or(usize::MAX));
                return Some((!piece.is_empty()).then_some(piece));
            }
            // What is only passed on may be gone.
            if state.stage == Stage::Passing || position + PIECE as u64 > state.buffer.received() {
                return None;
            }
        }
        Some(Some(self.piece(position)))
    }

    /// Waits until the store has all but so many bytes of what has come in, or takes nothing any more. Whether that is the case
    /// before whoever reads has waited for too long.
    pub(super) async fn store_catches_up(&self, most: u64) -> bool {
        loop {
            let caught_up = std::future::poll_fn(|_| {
                if lock(&self.state).unwritten() <= most { Poll::Ready(()) } else { Poll::Pending }
            });
            if briefly(PATIENCE, caught_up).await.is_some() {
                return true;
            }
            if lock(&self.state).fastest().is_some() {
                return false;
            }
        }
    }

    /// Waits until the store has taken more, or takes nothing any more; see [`Flight::store_catches_up`].
    pub(crate) async fn store_takes_more(&self) -> bool {
        let unwritten = lock(&self.state).unwritten();
        self.store_catches_up(unwritten.saturating_sub(1)).await
    }
}

/// The store's place in a flight, where it takes content while it comes. The pump polls who holds it whenever there is more.
pub(crate) struct StoreSeat {
    flight: Arc<Flight>,
    /// How much it has been given.
    position: u64,
}

impl StoreSeat {
    pub(crate) fn new(flight: Arc<Flight>) -> Self {
        Self { flight, position: 0 }
    }

    /// Waits until there is more than one piece, so that it is worth while to begin.
    pub(crate) async fn large(&self) {
        self.when(|flight| {
            let state = lock(&flight.state);
            (state.is_large || state.rest.is_some()).then_some(())
        })
        .await;
    }

    /// What was given before has been taken. Gives the next piece; `None` when there is no more.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        self.taken();
        let position = self.position;
        let piece = self.when(|flight| flight.piece_for_store(position)).await;
        self.position += piece.as_ref().map_or(0, Bytes::len) as u64;
        piece
    }

    fn taken(&self) {
        let mut state = lock(&self.flight.state);
        if let Some(written) = &mut state.written {
            *written = self.position;
            state.drop_what_is_done(&self.flight.gauges);
        }
    }

    async fn when<T>(&self, there_is: impl Fn(&Flight) -> Option<T>) -> T {
        let poll = |_: &mut Context<'_>| there_is(&self.flight).map_or(Poll::Pending, Poll::Ready);
        std::future::poll_fn(poll).await
    }
}

/// Whoever holds it takes no more, be it that all is taken.
impl Drop for StoreSeat {
    fn drop(&mut self) {
        lock(&self.flight.state).let_go(&self.flight.gauges);
    }
}
