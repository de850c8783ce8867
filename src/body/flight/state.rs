//! What a flight holds, for its readers and for the store, and how that is counted.

use std::sync::Arc;
use std::task::Waker;
use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderMap;

use super::buffer::Buffer;
use crate::entry::pieces::{PIECE, Pieces};
use crate::error::BodyError;
use crate::limits::held::{Shared, Watched};
use crate::limits::{GaugeGuard, Gauges};
use crate::runtime::slab::Slab;
use crate::runtime::{Instant, moment};

/// Frames smaller than this are copied together: a frame of a single byte takes as much memory as a larger one.
const SMALL_FRAME: usize = 4096;

#[derive(Default)]
pub(super) struct State {
    /// The received content that is kept.
    pub(super) buffer: Buffer,
    counted: Counted,
    /// Counts a flight that continues without readers.
    pub(super) detached: Option<GaugeGuard>,
    pub(super) end: Option<End>,
    /// The content is of more than one piece, whatever follows.
    pub(super) is_large: bool,
    pub(super) pump: Option<Waker>,
    pub(super) readers: Slab<ReaderState>,
    /// What the store gets from a position on, where all has come in.
    pub(super) rest: Option<(u64, Pieces)>,
    /// How much had been received at the last look, and when that amount was first seen.
    pub(super) seen: Option<(u64, SystemTime)>,
    pub(super) stage: Stage,
    /// As long as readers hold it, or it is not kept.
    pub(super) watched: Option<Watched>,
    /// The content as it is stored, which replaces the buffer.
    pub(super) whole: Option<(Pieces, Option<Shared>)>,
    /// How much the store has taken, where it takes content while it comes.
    pub(super) written: Option<u64>,
}

/// What becomes of what has come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// All of it is kept.
    #[default]
    Keeping,
    /// It is let go of when the store and all readers have it.
    Draining,
    /// Nothing is stored. It is let go of when all readers have it.
    Passing,
}

#[derive(Clone)]
pub(crate) enum End {
    Complete(Option<Arc<HeaderMap>>),
    Failed(BodyError),
}

/// Bytes of memory that the buffer takes, as they are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    /// For readers.
    held: usize,
    /// For the store.
    in_flight: usize,
}

pub(super) struct ReaderState {
    pub(super) is_cut_off: bool,
    /// How much it has read.
    pub(super) position: u64,
    /// Since when the reader has not taken the content that is there; `None` while it waits for more.
    pub(super) since: Option<Instant>,
    pub(super) waker: Option<Waker>,
}

impl ReaderState {
    pub(super) fn new() -> Self {
        Self { is_cut_off: false, position: 0, since: Some(moment()), waker: None }
    }

    fn cut_off(&mut self, gauges: &Gauges) -> Option<Waker> {
        self.is_cut_off = true;
        gauges.reader_detached();
        self.waker.take()
    }
}

impl State {
    /// Where it `is_streamed`, the store takes the content while it comes.
    pub(super) fn new(is_streamed: bool) -> Self {
        Self { written: is_streamed.then_some(0), ..Self::default() }
    }

    /// Takes content in, of which `kept` bytes are kept. Returns what there is no room for, where the store may make some by
    /// taking what is there.
    pub(super) fn push(
        &mut self,
        data: Bytes,
        declared: Option<u64>,
        kept: u64,
        gauges: &Gauges,
    ) -> Option<Bytes> {
        let mut left = Some(data);
        if self.stage != Stage::Passing {
            left = left.and_then(|data| self.copy(data, declared, gauges));
            let has_begun = self.stage == Stage::Keeping && self.written.is_some_and(|written| written > 0);
            if has_begun && (left.is_some() || self.buffer.received() > kept) {
                self.stage = Stage::Draining;
                self.drop_what_is_done(gauges);
                left = left.and_then(|data| self.copy(data, declared, gauges));
            }
            if left.is_some() && self.unwritten() < PIECE as u64 {
                self.pass(gauges);
            }
            self.is_large = left.is_some() || self.buffer.received() > PIECE as u64;
        }
        if self.stage == Stage::Passing {
            left.take().into_iter().for_each(|data| self.push_on(data, gauges));
        }
        let now = moment();
        for reader in self.readers.iter_mut().filter(|reader| !reader.is_cut_off) {
            reader.since.get_or_insert(now);
        }
        left
    }

    /// Copies what there is room for.
    fn copy(&mut self, data: Bytes, declared: Option<u64>, gauges: &Gauges) -> Option<Bytes> {
        let left = declared.map(|declared| declared.saturating_sub(self.buffer.received()));
        let counted = &mut self.counted.in_flight;
        let left = self.buffer.copy(data, left, |bytes| {
            let has_room = gauges.take(bytes);
            *counted += if has_room { bytes } else { 0 };
            has_room
        });
        self.recount(gauges);
        left
    }

    /// Takes in what only readers get.
    pub(super) fn push_on(&mut self, data: Bytes, gauges: &Gauges) {
        if self.active().next().is_none() {
            self.buffer.skip(data.len()); // no reader will take it
        } else if data.len() < SMALL_FRAME {
            self.buffer.copy(data, None, |_| true);
        } else {
            self.buffer.push(data);
        }
        self.drop_what_is_done(gauges);
    }

    /// Stops storing: what is kept from now on is held for the readers.
    pub(super) fn pass(&mut self, gauges: &Gauges) {
        self.stage = Stage::Passing;
        self.written = None;
        self.buffer.close();
        self.drop_what_is_done(gauges);
    }

    /// The store takes nothing more from here. What it has not got is not stored.
    pub(super) fn let_go(&mut self, gauges: &Gauges) {
        self.written = None;
        let is_complete = self.rest.take().is_some();
        if self.stage == Stage::Draining && !is_complete && self.end.is_none() {
            self.pass(gauges);
        } else {
            self.drop_what_is_done(gauges);
        }
    }

    /// What the buffer holds for the store: from one position to another.
    fn for_store(&self) -> Option<(u64, u64)> {
        let end = self.rest.as_ref().map_or(u64::MAX, |(rest, _)| *rest);
        self.written.map(|written| (written, end)).filter(|(written, end)| written < end)
    }

    /// How much has come in that the store has not taken, where it takes content while it comes.
    pub(super) fn unwritten(&self) -> u64 {
        self.written.map_or(0, |written| self.buffer.received().saturating_sub(written))
    }

    /// Counts anew: what is to be stored is in flight, and anything else is held.
    pub(super) fn recount(&mut self, gauges: &Gauges) {
        let charge = self.buffer.charge();
        let in_flight = match self.stage {
            Stage::Keeping if self.end.is_none() => charge,
            Stage::Passing => 0,
            Stage::Draining | Stage::Keeping => {
                self.for_store().map_or(0, |(start, end)| self.buffer.charge_between(start, end))
            }
        };
        // Small content that is complete is not counted.
        let is_small = self.stage == Stage::Keeping && charge <= PIECE;
        let held = if is_small { 0 } else { charge - in_flight };
        let before = std::mem::replace(&mut self.counted, Counted { held, in_flight });
        // Never less than there is at any moment: others would take the room.
        match in_flight.checked_sub(before.in_flight) {
            None => gauges.give_back(before.in_flight - in_flight),
            Some(0) => {}
            Some(more) => gauges.add(more),
        }
        match held.checked_sub(before.held) {
            None => gauges.held.give_back((before.held - held) as u64),
            Some(0) => {}
            Some(more) => gauges.held.take(more as u64),
        }
    }

    /// The readers that are not cut off.
    pub(super) fn active(&self) -> impl Iterator<Item = &ReaderState> {
        self.readers.iter().filter(|reader| !reader.is_cut_off)
    }

    /// Lets go of what neither the store nor a reader will ask for, where nobody can join any more.
    pub(super) fn drop_what_is_done(&mut self, gauges: &Gauges) {
        let slowest = self.active().map(|reader| reader.position).min();
        let next = match self.stage {
            Stage::Keeping => Some(0),
            Stage::Draining => slowest.into_iter().chain(self.for_store().map(|(written, _)| written)).min(),
            Stage::Passing => slowest,
        };
        match next {
            Some(position) => self.buffer.drop_before(position),
            None => self.buffer.clear(),
        };
        self.recount(gauges);
    }

    /// How much the fastest reader has read; `None` if there are no readers any more.
    pub(super) fn fastest(&self) -> Option<u64> {
        self.active().map(|reader| reader.position).max()
    }

    /// Whether a reader is more than `behind` bytes behind the fastest.
    pub(super) fn has_laggards(&self, behind: u64) -> bool {
        let fastest = self.fastest().unwrap_or_default();
        self.active().any(|reader| fastest - reader.position > behind)
    }

    /// Cuts off the readers for which `is_meant` holds, and returns wakers to wake.
    pub(super) fn cut_off(&mut self, gauges: &Gauges, is_meant: impl Fn(&ReaderState) -> bool) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let mut any = false;
        for reader in self.readers.iter_mut().filter(|reader| !reader.is_cut_off) {
            if is_meant(reader) {
                wakers.extend(reader.cut_off(gauges));
                any = true;
            }
        }
        if any {
            // What is complete is kept for its readers alone.
            let is_kept = self.stage == Stage::Keeping && self.end.is_none();
            if !is_kept && self.stage != Stage::Draining && self.active().next().is_none() {
                self.stage = Stage::Passing;
                self.whole = None;
            }
            self.drop_what_is_done(gauges);
            wakers.extend(self.pump.take());
        }
        wakers
    }

    pub(super) fn wake_readers(&mut self) -> Vec<Waker> {
        self.readers.iter_mut().filter_map(|reader| reader.waker.take()).collect()
    }

    /// The content from a position on, as far as it is in one piece.
    pub(super) fn from(&mut self, position: u64) -> Option<Bytes> {
        match &self.whole {
            Some((whole, _)) => {
                let data = whole.from(usize::try_from(position).ok()?);
                (!data.is_empty()).then_some(data)
            }
            None => self.buffer.from(position),
        }
    }
}
