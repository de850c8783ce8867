//! One response on its way in: its content goes to whoever reads it and, whole, to the store.
//!
//! Storing -> Complete | Failed, or Storing -> Passing -> Complete | Failed. A task of its own, the pump, moves frames from
//! the inner body into the flight; each reader takes them from there at its own pace.
//!
//! *Storing*: everything is kept from the first byte on, so a reader may join at any time, and the pump goes on at the
//! origin's pace whoever reads. *Passing*: the content turned out too large to store. Nobody joins any more, what all
//! have read is dropped, and the pump waits for the fastest reader; one that falls too far behind it, and does not catch
//! up in a moment, is cut off.
//!
//! Invariant: a reader sees the clean end of a body only after the inner body has come to its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use crate::error::{BodyError, Failure};
use crate::load::{Counted, Load};
use crate::slots::Slots;
use crate::sync::{Mutex, briefly, lock};

/// How many bytes the pump may be ahead of the fastest reader when content is only passed on.
const AHEAD: u64 = if cfg!(shuttle) { 4 } else { 256 * 1024 };
/// How many bytes a reader may be behind when content is only passed on and another one is faster; or as many as
/// were to be stored, for that much is held by then.
const BEHIND: u64 = if cfg!(shuttle) { 8 } else { 1024 * 1024 };
/// How long the others wait in any case for a reader that is further behind: its task may not have had its turn yet.
const TURN: Duration = Duration::from_millis(50);
/// How long they wait beyond that before it is cut off.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often they do that.
pub(crate) const MOST_WAITS: u32 = 8;
/// Frames smaller than this are copied together: one of a single byte takes the room of many.
const SMALL_FRAME: usize = 4096;

/// The buffer between the pump and its readers.
pub(crate) struct Flight {
    /// How far a reader may be behind.
    behind: u64,
    declared: Option<u64>,
    load: Arc<Load>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is held of the content, each piece with the position of its first byte.
    chunks: VecDeque<(u64, Bytes)>,
    /// Bytes in `chunks` that are counted as in flight.
    counted: usize,
    /// Nobody reads, and it goes on all the same.
    detached: Option<Counted>,
    end: Option<End>,
    /// Nothing is stored any more: the content is only passed on.
    passing: bool,
    pump: Option<Waker>,
    readers: Slots<ReaderState>,
    received: u64,
    /// How far it was when somebody last looked, and when it was first seen there.
    seen: Option<(u64, SystemTime)>,
}

#[derive(Clone)]
pub(crate) enum End {
    Complete(Option<Arc<HeaderMap>>),
    Failed(BodyError),
}

#[derive(Default)]
struct ReaderState {
    is_cut_off: bool,
    /// How much it has read.
    position: u64,
    waker: Option<Waker>,
}

impl State {
    fn push(&mut self, data: Bytes, load: &Load) {
        let mut start = self.received;
        self.received += data.len() as u64;
        if self.passing && self.readers.is_empty() {
            return; // nobody will ever take it from here
        }
        let within = load.take(data.len());
        self.counted += data.len();
        self.passing |= !within;
        let mut data = data;
        // Like a binary counter: each byte is copied a few times at most.
        while let Some((first, last)) = self.chunks.back()
            && last.len() < SMALL_FRAME
            && last.len() <= data.len()
            && data.len() < SMALL_FRAME
        {
            start = *first;
            let mut joined = BytesMut::with_capacity(last.len() + data.len());
            joined.extend_from_slice(last);
            joined.extend_from_slice(&data);
            data = joined.freeze();
            self.chunks.pop_back();
        }
        self.chunks.push_back((start, data));
        if self.passing {
            self.drop_what_was_read(load);
        }
    }

    /// Lets go of what no reader will ask for.
    fn drop_what_was_read(&mut self, load: &Load) {
        let slowest =
            self.readers.iter().filter(|reader| !reader.is_cut_off).map(|reader| reader.position).min();
        let slowest = slowest.unwrap_or(self.received);
        while let Some((start, data)) = self.chunks.front()
            && start + data.len() as u64 <= slowest
        {
            let counted = data.len().min(self.counted);
            load.give_back(counted);
            self.counted -= counted;
            self.chunks.pop_front();
        }
    }

    /// How much the fastest reader has read; `None` where nobody reads any more.
    fn fastest(&self) -> Option<u64> {
        self.readers.iter().filter(|reader| !reader.is_cut_off).map(|reader| reader.position).max()
    }

    /// Whether a reader is further than this behind the fastest.
    fn has_laggards(&self, behind: u64) -> bool {
        let fastest = self.fastest().unwrap_or_default();
        self.readers.iter().any(|reader| !reader.is_cut_off && fastest - reader.position > behind)
    }

    /// Cuts off whoever is far behind the fastest.
    fn cut_off_laggards(&mut self, behind: u64, load: &Load) -> Vec<Waker> {
        let fastest = self.fastest().unwrap_or_default();
        let mut wakers = Vec::new();
        for reader in self.readers.iter_mut() {
            if !reader.is_cut_off && fastest - reader.position > behind {
                reader.is_cut_off = true;
                load.reader_detached();
                wakers.extend(reader.waker.take());
            }
        }
        if !wakers.is_empty() {
            self.drop_what_was_read(load);
        }
        wakers
    }

    fn wake_readers(&mut self) -> Vec<Waker> {
        self.readers.iter_mut().filter_map(|reader| reader.waker.take()).collect()
    }

    /// The content from a position on, as far as it is in one piece.
    fn from(&self, position: u64) -> Option<Bytes> {
        let after = self.chunks.partition_point(|(start, _)| *start <= position);
        let (start, data) = self.chunks.get(after.checked_sub(1)?)?;
        let skipped = usize::try_from(position - start).ok()?;
        (skipped < data.len()).then(|| data.slice(skipped..))
    }

    fn reader(&self, number: Option<usize>) -> Option<&ReaderState> {
        self.readers.get(number?)
    }

    fn free(&mut self, load: &Load) {
        load.give_back(self.counted);
        self.counted = 0;
    }
}

impl Flight {
    /// A flight of `declared` bytes, if that is known, of which `most` are to be stored, and its first reader.
    pub(crate) fn new(declared: Option<u64>, most: u64, load: &Arc<Load>) -> (Arc<Self>, Reader) {
        let mut state = State::default();
        let number = Some(state.readers.add(ReaderState::default()));
        let (load, state) = (Arc::clone(load), Mutex::new(state));
        let flight = Arc::new(Self { behind: BEHIND.max(most), declared, load, state });
        let reader = Reader { flight: Arc::clone(&flight), number };
        (flight, reader)
    }

    pub(crate) fn declared(&self) -> Option<u64> {
        self.declared
    }

    pub(crate) fn has_ended(&self) -> bool {
        lock(&self.state).end.is_some()
    }

    pub(crate) fn push(&self, data: Bytes) {
        let mut state = lock(&self.state);
        state.push(data, &self.load);
        let wakers = state.wake_readers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// From now on the pump waits for its readers, and nobody joins.
    pub(crate) fn pass(&self) {
        let mut state = lock(&self.state);
        state.passing = true;
        state.drop_what_was_read(&self.load);
    }

    pub(crate) fn is_passing(&self) -> bool {
        lock(&self.state).passing
    }

    /// All that came in, and what is held back; to be asked for only while it is to be stored.
    pub(crate) fn content(&self, held: Option<&Bytes>) -> Bytes {
        let state = lock(&self.state);
        let mut pieces = state.chunks.iter().map(|(_, data)| data).chain(held);
        let (first, second) = (pieces.next(), pieces.next());
        let (Some(first), Some(second)) = (first, second) else {
            return first.cloned().unwrap_or_default();
        };
        let length = usize::try_from(state.received).unwrap_or_default() + held.map_or(0, Bytes::len);
        let mut whole = BytesMut::with_capacity(length);
        [first, second].into_iter().chain(pieces).for_each(|data| whole.extend_from_slice(data));
        whole.freeze()
    }

    /// `stored` is the content as the store has it, which readers share from now on.
    pub(crate) fn finish(&self, last: Option<Bytes>, end: End, stored: Option<Bytes>) {
        let mut state = lock(&self.state);
        if let Some(last) = last {
            state.push(last, &self.load);
        }
        if let Some(stored) = stored.filter(|stored| stored.len() as u64 == state.received && !state.passing)
        {
            state.chunks.clear();
            state.chunks.push_back((0, stored));
        }
        // What is complete is held by who reads it, as any answer is.
        state.free(&self.load);
        state.end = Some(end);
        state.detached = None;
        let wakers = state.wake_readers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether the pump is to go on at once.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Go> {
        let mut state = lock(&self.state);
        if self.is_abandoned(&mut state) {
            return Poll::Ready(Go::Stop);
        }
        if !state.passing {
            return Poll::Ready(Go::On);
        }
        let Some(fastest) = state.fastest() else {
            return Poll::Ready(Go::Stop);
        };
        if state.received - fastest > AHEAD {
            state.pump = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(if state.has_laggards(self.behind) { Go::AfterLaggards } else { Go::On })
    }

    /// Ready when nobody is even half as far behind any more.
    fn poll_caught_up(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        if !state.has_laggards(self.behind / 2) {
            return Poll::Ready(());
        }
        state.pump = Some(cx.waker().clone());
        Poll::Pending
    }

    fn cut_off_laggards(&self) {
        let mut state = lock(&self.state);
        let wakers = state.cut_off_laggards(self.behind, &self.load);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits until the pump is to go on, or to stop; `patience` is how often laggards may still be waited for.
    pub(crate) async fn room(&self, patience: &mut u32) -> Go {
        loop {
            let go = std::future::poll_fn(|cx| self.poll_room(cx)).await;
            if go != Go::AfterLaggards {
                return go;
            }
            let mut caught_up = std::future::poll_fn(|cx| self.poll_caught_up(cx));
            if briefly(TURN, &mut caught_up).await.is_some() {
                continue; // it only had not had its turn
            }
            // Each such wait counts, or a slow reader would hold the others to its pace for ever.
            let may_wait = *patience > 0;
            *patience = patience.saturating_sub(1);
            if !may_wait || briefly(PATIENCE, caught_up).await.is_none() {
                self.cut_off_laggards();
            }
        }
    }

    /// [`Flight::is_abandoned`], and the pump is woken when the last reader leaves.
    pub(crate) fn waits_for_nobody(&self, cx: &Context<'_>) -> bool {
        let mut state = lock(&self.state);
        state.pump = Some(cx.waker().clone());
        self.is_abandoned(&mut state)
    }

    /// Whether nobody reads, and it may not go on alone.
    fn is_abandoned(&self, state: &mut State) -> bool {
        if !state.readers.is_empty() {
            state.detached = None;
            return false;
        }
        if !state.passing && state.detached.is_none() {
            state.detached = self.load.detached();
        }
        let is_abandoned = state.passing || state.detached.is_none();
        if is_abandoned {
            // At once: whoever joined before the pump lets go would get a body that breaks.
            state.end = Some(End::Failed(Failure::Abandoned.into()));
            state.free(&self.load);
        }
        is_abandoned
    }

    /// A reader from the first byte on; `None` when that is gone, or never to be whole.
    pub(crate) fn join(self: &Arc<Self>) -> Option<Reader> {
        let mut state = lock(&self.state);
        if state.passing || matches!(state.end, Some(End::Failed(_))) {
            return None;
        }
        state.detached = None;
        let number = state.readers.add(ReaderState::default());
        Some(Reader { flight: Arc::clone(self), number: Some(number) })
    }

    /// Whether nothing has come in for longer than a request waits for another one's call, as far as those who look
    /// can tell.
    pub(crate) fn has_stalled(&self, now: SystemTime) -> bool {
        let mut state = lock(&self.state);
        let received = state.received;
        let since = match state.seen {
            Some((seen, since)) if seen == received => since,
            _ => state.seen.insert((received, now)).1,
        };
        state.end.is_none() && now.duration_since(since).is_ok_and(|still| still > self.load.limits.wait)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        lock(&self.state).free(&self.load);
    }
}

/// What the pump is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Go {
    /// Once the laggards have caught up, or have been cut off.
    AfterLaggards,
    On,
    Stop,
}

/// Reads a flight from its first byte on.
pub(crate) struct Reader {
    flight: Arc<Flight>,
    /// `None` when it has come to the end, good or bad.
    number: Option<usize>,
}

impl Reader {
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = lock(&self.flight.state);
        let state = &mut *state;
        let Some(number) = self.number else {
            return Poll::Ready(None);
        };
        let Some(reader) = state.readers.get(number) else {
            return Poll::Ready(None);
        };
        let last = if reader.is_cut_off {
            Some(Err(Failure::TooSlow.into()))
        } else if let Some(data) = state.from(reader.position) {
            if let Some(reader) = state.readers.get_mut(number) {
                reader.position += data.len() as u64;
            }
            if let Some(pump) = state.pump.take() {
                pump.wake();
            }
            return Poll::Ready(Some(Ok(Frame::data(data))));
        } else {
            match &state.end {
                None => {
                    if let Some(reader) = state.readers.get_mut(number) {
                        reader.waker = Some(cx.waker().clone());
                    }
                    return Poll::Pending;
                }
                Some(End::Complete(None)) => None,
                Some(End::Complete(Some(trailers))) => Some(Ok(Frame::trailers(trailers.as_ref().clone()))),
                Some(End::Failed(error)) => Some(Err(error.clone())),
            }
        };
        state.readers.remove(number);
        self.number = None;
        Poll::Ready(last)
    }

    /// Reads until all has come in, or nothing is stored any more. Whether it is whole.
    pub(crate) async fn settled(mut self) -> bool {
        while let Some(frame) = std::future::poll_fn(|cx| self.poll_frame(cx)).await {
            if frame.is_err() || self.flight.is_passing() {
                return false;
            }
        }
        true
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        let state = lock(&self.flight.state);
        match (state.reader(self.number), &state.end) {
            (None, _) => true,
            (Some(reader), Some(End::Complete(None))) => {
                !reader.is_cut_off && reader.position == state.received
            }
            _ => false,
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let Some(declared) = self.flight.declared else {
            return SizeHint::default();
        };
        let state = lock(&self.flight.state);
        match state.reader(self.number) {
            Some(reader) if !reader.is_cut_off && reader.position <= declared => {
                SizeHint::with_exact(declared - reader.position)
            }
            _ => SizeHint::default(),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = lock(&self.flight.state);
        if let Some(number) = self.number {
            state.readers.remove(number);
        }
        if state.passing {
            state.drop_what_was_read(&self.flight.load);
        }
        let pump = state.pump.take();
        drop(state);
        if let Some(pump) = pump {
            pump.wake();
        }
    }
}
