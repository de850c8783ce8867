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

mod buffer;
mod reader;

use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;

use self::buffer::Buffer;
pub(crate) use self::reader::Reader;
use crate::entry::pieces::{PIECE, Pieces, PiecesMut};
use crate::error::{BodyError, Failure};
use crate::limits::held::{Pace, Reading, Shared, Watched, address};
use crate::limits::{GaugeGuard, Gauges};
use crate::runtime::slab::Slab;
use crate::runtime::{Instant, Mutex, briefly, lock, moment};

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
    gauges: Arc<Gauges>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is held of the content while it comes in.
    buffer: Buffer,
    /// Nobody reads, and it goes on all the same.
    detached: Option<GaugeGuard>,
    end: Option<End>,
    counted: Account,
    /// Nothing is stored any more: the content is only passed on.
    passing: bool,
    pump: Option<Waker>,
    readers: Slab<ReaderState>,
    /// How far it was when somebody last looked, and when it was first seen there.
    seen: Option<(u64, SystemTime)>,
    /// As long as readers hold it, or it is only passed on.
    watched: Option<Watched>,
    /// The content as it is stored, which takes the buffer's place.
    whole: Option<(Pieces, Option<Shared>)>,
}

#[derive(Clone)]
pub(crate) enum End {
    Complete(Option<Arc<HeaderMap>>),
    Failed(BodyError),
}

/// Where the memory of a buffer is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Account {
    /// As held for readers.
    Held,
    /// As that of content which is to be stored.
    #[default]
    InFlight,
    Nowhere,
}

struct ReaderState {
    is_cut_off: bool,
    /// How much it has read.
    position: u64,
    /// Since when it has not taken what is there; `None` while it waits for more.
    since: Option<Instant>,
    waker: Option<Waker>,
}

impl ReaderState {
    fn new() -> Self {
        Self { is_cut_off: false, position: 0, since: Some(moment()), waker: None }
    }

    fn cut_off(&mut self, gauges: &Gauges) -> Option<Waker> {
        self.is_cut_off = true;
        gauges.reader_detached();
        self.waker.take()
    }
}

impl State {
    fn push(&mut self, data: Bytes, declared: Option<u64>, gauges: &Gauges) {
        if self.passing && self.active().next().is_none() {
            self.buffer.skip(data.len()); // nobody will ever take it from here
            return;
        }
        let mut data = Some(data);
        if !self.passing {
            let left = declared.map(|declared| declared.saturating_sub(self.buffer.received()));
            data = data.and_then(|data| self.buffer.copy(data, left, |bytes| gauges.take(bytes)));
            if data.is_some() {
                self.pass(gauges);
            }
        }
        if let Some(data) = data {
            let before = self.buffer.charge();
            if data.len() < SMALL_FRAME {
                self.buffer.copy(data, None, |_| true); // one of a single byte takes the room of many
            } else {
                self.buffer.push(data);
            }
            gauges.held.take((self.buffer.charge() - before) as u64);
            self.drop_what_was_read(gauges);
        }
        let now = moment();
        for reader in self.readers.iter_mut().filter(|reader| !reader.is_cut_off) {
            reader.since.get_or_insert(now);
        }
    }

    /// From now on nothing is stored: what is held is held for its readers.
    fn pass(&mut self, gauges: &Gauges) {
        self.passing = true;
        self.hold_for_readers(gauges);
        self.drop_what_was_read(gauges);
    }

    /// What is held is not to be stored, or is stored by now.
    fn hold_for_readers(&mut self, gauges: &Gauges) {
        if self.counted == Account::InFlight {
            self.buffer.close();
            gauges.give_back(self.buffer.charge());
            self.counted = Account::Nowhere;
        }
        // Small content that is complete is not counted.
        if self.counted == Account::Nowhere && (self.passing || self.buffer.charge() > PIECE) {
            gauges.held.take(self.buffer.charge() as u64);
            self.counted = Account::Held;
        }
    }

    /// The readers that are not cut off.
    fn active(&self) -> impl Iterator<Item = &ReaderState> {
        self.readers.iter().filter(|reader| !reader.is_cut_off)
    }

    /// Lets go of what no reader will ask for, where nobody can join any more.
    fn drop_what_was_read(&mut self, gauges: &Gauges) {
        if self.passing {
            let slowest = self.active().map(|reader| reader.position).min();
            let freed = match slowest {
                Some(position) => self.buffer.drop_before(position),
                None => self.buffer.clear(),
            };
            if self.counted == Account::Held {
                gauges.held.give_back(freed as u64);
            }
        }
    }

    /// How much the fastest reader has read; `None` where nobody reads any more.
    fn fastest(&self) -> Option<u64> {
        self.active().map(|reader| reader.position).max()
    }

    /// Whether a reader is further than this behind the fastest.
    fn has_laggards(&self, behind: u64) -> bool {
        let fastest = self.fastest().unwrap_or_default();
        self.active().any(|reader| fastest - reader.position > behind)
    }

    /// Cuts off whoever is meant, and returns their wakers.
    fn cut_off(&mut self, gauges: &Gauges, is_meant: impl Fn(&ReaderState) -> bool) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let mut any = false;
        for reader in self.readers.iter_mut().filter(|reader| !reader.is_cut_off) {
            if is_meant(reader) {
                wakers.extend(reader.cut_off(gauges));
                any = true;
            }
        }
        if any {
            if self.counted != Account::InFlight && self.active().next().is_none() {
                self.passing = true;
                self.whole = None;
            }
            self.drop_what_was_read(gauges);
            wakers.extend(self.pump.take());
        }
        wakers
    }

    fn wake_readers(&mut self) -> Vec<Waker> {
        self.readers.iter_mut().filter_map(|reader| reader.waker.take()).collect()
    }

    /// The content from a position on, as far as it is in one piece.
    fn from(&mut self, position: u64) -> Option<Bytes> {
        match &self.whole {
            Some((whole, _)) => {
                let data = whole.from(usize::try_from(position).ok()?);
                (!data.is_empty()).then_some(data)
            }
            None => self.buffer.from(position),
        }
    }
}

impl Flight {
    /// A flight of `declared` bytes, if that is known, of which `most` are to be stored, and its first reader.
    pub(crate) fn new(declared: Option<u64>, most: u64, gauges: &Arc<Gauges>) -> (Arc<Self>, Reader) {
        let mut state = State::default();
        let number = state.readers.add(ReaderState::new());
        let (gauges, state) = (Arc::clone(gauges), Mutex::new(state));
        let flight = Arc::new(Self { behind: BEHIND.max(most), declared, gauges, state });
        let reader = Reader::new(Arc::clone(&flight), number);
        (flight, reader)
    }

    pub(crate) fn declared(&self) -> Option<u64> {
        self.declared
    }

    pub(crate) fn has_ended(&self) -> bool {
        lock(&self.state).end.is_some()
    }

    pub(crate) fn push(self: &Arc<Self>, data: Bytes) {
        let mut state = lock(&self.state);
        state.push(data, self.declared, &self.gauges);
        let wakers = state.wake_readers();
        let (is_passing, is_watched) = (state.passing, state.watched.is_some());
        drop(state);
        match (is_passing, is_watched) {
            (true, true) => self.gauges.held.make_room(),
            (true, false) => self.watch(),
            (false, _) => {}
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// From now on the pump waits for its readers, and nobody joins.
    pub(crate) fn pass(self: &Arc<Self>) {
        lock(&self.state).pass(&self.gauges);
        self.watch();
    }

    /// Counts what its readers hold of complete content, and has them cut off when they make no progress.
    fn watch_complete(self: &Arc<Self>) {
        let (large, is_watched) = {
            let state = lock(&self.state);
            let large = state.whole.as_ref().and_then(|(whole, _)| whole.large().map(Arc::clone));
            (large, state.watched.is_some())
        };
        if is_watched {
            return;
        }
        let shared = large.map(|large| self.gauges.held.share(&large));
        if let Some((_, own)) = &mut lock(&self.state).whole {
            *own = shared;
        }
        self.watch();
    }

    /// Has its readers cut off when they make no progress.
    fn watch(self: &Arc<Self>) {
        let reading = Arc::downgrade(self) as Weak<dyn Reading>;
        let watched = self.gauges.held.watch(address(self), reading);
        lock(&self.state).watched = Some(watched);
    }

    pub(crate) fn is_passing(&self) -> bool {
        lock(&self.state).passing
    }

    /// All that came in, and what is held back; to be asked for only while it is to be stored. Piece by piece it takes
    /// the place of what came in, so that no more than one of them is there twice.
    pub(crate) fn content(&self, held: Option<&Bytes>) -> Pieces {
        let mut pieces = Vec::new();
        let mut position = 0;
        loop {
            let (mut chunks, is_block, is_last) = {
                let mut state = lock(&self.state);
                let (chunks, is_block) = state.buffer.piece(position);
                (chunks, is_block, position + PIECE as u64 >= state.buffer.received())
            };
            if is_last {
                break;
            }
            let piece = if is_block { chunks.remove(0) } else { chunks.concat().into() };
            drop(chunks);
            pieces.push(piece.clone());
            if !is_block {
                let freed = lock(&self.state).buffer.replace(position, piece);
                self.gauges.give_back(freed);
            }
            position += PIECE as u64;
        }
        // The last piece, and what is held back.
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

    /// `stored` is the content as the store has it, which readers share from now on.
    pub(crate) fn finish(self: &Arc<Self>, last: Option<Bytes>, end: End, stored: Option<Pieces>) {
        let mut state = lock(&self.state);
        let length = state.buffer.received() + last.as_ref().map_or(0, Bytes::len) as u64;
        match (stored, last) {
            (Some(stored), last) if stored.len() as u64 == length && !state.passing => {
                state.buffer.skip(last.map_or(0, |last| last.len()));
                let freed = state.buffer.clear();
                self.gauges.give_back(freed);
                state.whole = Some((stored, None));
            }
            (_, Some(last)) => state.push(last, self.declared, &self.gauges),
            (_, None) => {}
        }
        // What is complete is held by who reads it, as any answer is.
        let is_large = length > PIECE as u64;
        state.hold_for_readers(&self.gauges);
        state.end = Some(end);
        state.detached = None;
        let now = moment();
        for reader in state.readers.iter_mut() {
            reader.since.get_or_insert(now);
        }
        let has_readers = state.active().next().is_some();
        let wakers = state.wake_readers();
        drop(state);
        if has_readers && is_large {
            self.watch_complete();
        }
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
        if state.buffer.received() - fastest > AHEAD {
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
        let fastest = state.fastest().unwrap_or_default();
        let wakers = state.cut_off(&self.gauges, |reader| fastest - reader.position > self.behind);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits until the pump is to go on, or to stop; `wait_for` is how often laggards may still be waited for.
    pub(crate) async fn room(&self, wait_for: &mut u32) -> Go {
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
            let may_wait = *wait_for > 0;
            *wait_for = wait_for.saturating_sub(1);
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
        if state.active().next().is_some() {
            state.detached = None;
            return false;
        }
        if !state.passing && state.detached.is_none() {
            state.detached = self.gauges.detached();
        }
        let is_abandoned = state.passing || state.detached.is_none();
        if is_abandoned {
            // At once: whoever joined before the pump lets go would get a body that breaks.
            state.end = Some(End::Failed(Failure::Abandoned.into()));
            state.hold_for_readers(&self.gauges);
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
        let number = state.readers.add(ReaderState::new());
        let is_large = state.end.is_some() && state.buffer.received() > PIECE as u64;
        drop(state);
        if is_large {
            self.watch_complete();
        }
        Some(Reader::new(Arc::clone(self), number))
    }

    /// Whether nothing has come in for longer than a request waits for another one's call, as far as those who look
    /// can tell.
    pub(crate) fn has_stalled(&self, now: SystemTime) -> bool {
        let mut state = lock(&self.state);
        let received = state.buffer.received();
        let since = match state.seen {
            Some((seen, since)) if seen == received => since,
            _ => state.seen.insert((received, now)).1,
        };
        state.end.is_none() && now.duration_since(since).is_ok_and(|still| still > self.gauges.limits.wait)
    }
}

impl Reading for Flight {
    fn pace(&self) -> Pace {
        let state = lock(&self.state);
        let paces = state.active().map(|reader| match reader.since {
            None => Pace::Waits,
            Some(since) if reader.position == 0 => Pace::Begins(since),
            Some(since) => Pace::Stands(since),
        });
        // What is only passed on is held for the slowest of them, and all of the content for any.
        let pace = if state.passing { paces.min() } else { paces.max() };
        pace.unwrap_or(Pace::Gone)
    }

    fn cut_off(&self, since: Instant) {
        let mut state = lock(&self.state);
        let stands = |reader: &ReaderState| reader.since.is_some_and(|stands| stands <= since);
        let wakers = state.cut_off(&self.gauges, stands);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        let charge = state.buffer.clear();
        match state.counted {
            Account::Held => self.gauges.held.give_back(charge as u64),
            Account::InFlight => self.gauges.give_back(charge),
            Account::Nowhere => {}
        }
        let watched = state.watched.take();
        drop(state);
        drop(watched);
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
