//! One response on its way in: its content goes to whoever reads it and to the store.
//!
//! Keeping -> Draining -> Passing, and from each of them to Complete | Failed. A task of its own, the pump, moves frames from
//! the inner body into the flight; each reader takes them from there at its own pace.
//!
//! *Keeping*: everything is kept from the first byte on, so a reader may join at any time, and the pump goes on at the
//! origin's pace whoever reads. *Draining*: the store takes the content while it comes, and more has come in than is kept.
//! Nobody joins any more, what the store and all readers have is dropped, and the pump waits for the store and for the fastest
//! reader. *Passing*: nothing is stored. As before, but for the readers alone. A reader that falls too far behind the fastest,
//! and does not catch up in a moment, is cut off; so is a store that takes too little of what is there.
//!
//! Invariant: a reader sees the clean end of a body only after the inner body has ended cleanly.

mod buffer;
mod reader;
mod state;
mod store;

use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

pub(crate) use self::reader::Reader;
pub(crate) use self::state::End;
use self::state::{ReaderState, Stage, State};
pub(crate) use self::store::{Complete, StoreSeat};
use crate::entry::pieces::{PIECE, Pieces};
use crate::error::Failure;
use crate::limits::Gauges;
use crate::limits::held::{Pace, Reading, address};
use crate::runtime::{Instant, Mutex, briefly, lock, moment};

/// How many bytes the pump may be ahead of the fastest reader when content is not kept.
const AHEAD: u64 = if cfg!(shuttle) { 4 } else { 256 * 1024 };
/// How many bytes a reader may be behind when content is not kept and another one is faster; or as many as
/// were kept, for that much is held by then.
const BEHIND: u64 = if cfg!(shuttle) { 8 } else { 1024 * 1024 };
/// How long the others wait in any case for a reader that is further behind: its task may not have run yet.
const TURN: Duration = Duration::from_millis(50);
/// How long they wait beyond that before it is cut off, and how long readers wait for a store that does not catch up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// How often they do that.
pub(crate) const MOST_WAITS: u32 = 8;

/// The buffer between the pump and its readers.
pub(crate) struct Flight {
    /// How far a reader may be behind.
    behind: u64,
    declared: Option<u64>,
    gauges: Arc<Gauges>,
    /// How much is kept where the store takes it while it comes, and how far the store may be behind.
    kept: u64,
    state: Mutex<State>,
}

impl Flight {
    /// A flight of `declared` bytes, if that is known, of which `kept` are kept, and its first reader. Where it `is_streamed`,
    /// the store takes it while it comes.
    pub(crate) fn new(
        declared: Option<u64>,
        kept: u64,
        is_streamed: bool,
        gauges: &Arc<Gauges>,
    ) -> (Arc<Self>, Reader) {
        let mut state = State::new(is_streamed);
        let number = state.readers.add(ReaderState::new());
        let (gauges, state) = (Arc::clone(gauges), Mutex::new(state));
        let flight = Arc::new(Self { behind: BEHIND.max(kept), declared, gauges, kept, state });
        let reader = Reader::new(Arc::clone(&flight), number);
        (flight, reader)
    }

    pub(crate) fn declared(&self) -> Option<u64> {
        self.declared
    }

    pub(crate) fn has_ended(&self) -> bool {
        lock(&self.state).end.is_some()
    }

    /// Takes content in. Returns what there is no room for, where the store may make some by taking what is there.
    pub(crate) fn push(self: &Arc<Self>, data: Bytes) -> Option<Bytes> {
        let mut state = lock(&self.state);
        let left = state.push(data, self.declared, self.kept, &self.gauges);
        let wakers = state.wake_readers();
        let (is_kept, is_watched) = (state.stage == Stage::Keeping, state.watched.is_some());
        drop(state);
        match (is_kept, is_watched) {
            (false, true) => self.gauges.held.make_room(),
            (false, false) => self.watch(),
            (true, _) => {}
        }
        wakers.into_iter().for_each(Waker::wake);
        left
    }

    /// Stops storing: the pump waits for the readers, and no reader joins.
    pub(crate) fn pass(self: &Arc<Self>) {
        lock(&self.state).pass(&self.gauges);
        self.watch();
    }

    /// Counts what the readers hold of complete content, and has them cut off if they make no progress.
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

    /// Has the readers cut off if they make no progress.
    fn watch(self: &Arc<Self>) {
        let reading = Arc::downgrade(self) as Weak<dyn Reading>;
        let watched = self.gauges.held.watch(address(self), reading);
        lock(&self.state).watched = Some(watched);
    }

    pub(crate) fn is_passing(&self) -> bool {
        lock(&self.state).stage == Stage::Passing
    }

    /// Whether it is to be stored, and its beginning is gone.
    pub(crate) fn is_draining(&self) -> bool {
        lock(&self.state).stage == Stage::Draining
    }

    /// `stored` is the content as it is stored, which readers share from now on.
    pub(crate) fn finish(self: &Arc<Self>, last: Option<Bytes>, end: End, stored: Option<Pieces>) {
        let mut state = lock(&self.state);
        let length = state.buffer.received() + last.as_ref().map_or(0, Bytes::len) as u64;
        match (stored, last) {
            (Some(stored), last) if stored.len() as u64 == length && state.stage == Stage::Keeping => {
                state.buffer.skip(last.map_or(0, |last| last.len()));
                state.buffer.clear();
                state.whole = Some((stored, None));
            }
            // The store has it from elsewhere.
            (_, Some(last)) if state.stage == Stage::Draining => state.push_on(last, &self.gauges),
            (_, Some(last)) => {
                let left = state.push(last, self.declared, self.kept, &self.gauges);
                if let Some(left) = left {
                    state.pass(&self.gauges);
                    state.push_on(left, &self.gauges);
                }
            }
            (_, None) => {}
        }
        // Complete content is held by its readers, like that of any answer.
        let is_large = length > PIECE as u64;
        state.end = Some(end);
        state.buffer.close();
        state.recount(&self.gauges);
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

    /// Whether the pump continues.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut state = lock(&self.state);
        if self.is_abandoned(&mut state) {
            return Poll::Ready(Next::Stop);
        }
        let fastest = state.fastest().filter(|_| state.stage != Stage::Keeping);
        if state.stage == Stage::Passing && fastest.is_none() {
            return Poll::Ready(Next::Stop);
        }
        if fastest.is_some_and(|fastest| state.buffer.received() - fastest > AHEAD) {
            state.pump = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let has_laggards = fastest.is_some() && state.has_laggards(self.behind);
        Poll::Ready(match has_laggards {
            _ if state.unwritten() > self.kept => Next::AfterStore,
            true => Next::AfterLaggards,
            false => Next::On,
        })
    }

    /// Ready when no reader is more than half as far behind any more.
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

    /// Waits until the pump may continue or has to stop; `wait_for` is how often it may still wait for laggards.
    pub(crate) async fn room(&self, wait_for: &mut u32) -> Go {
        loop {
            match std::future::poll_fn(|cx| self.poll_room(cx)).await {
                Next::AfterLaggards => {}
                Next::AfterStore if self.store_catches_up((self.kept / 2).max(PIECE as u64)).await => {
                    continue;
                }
                Next::AfterStore => return Go::WithoutStore,
                Next::On => return Go::On,
                Next::Stop => return Go::Stop,
            }
            let mut caught_up = std::future::poll_fn(|cx| self.poll_caught_up(cx));
            if briefly(TURN, &mut caught_up).await.is_some() {
                continue; // its task had only not run yet
            }
            // Each such wait counts; otherwise a slow reader would hold the others to its pace without end.
            let may_wait = *wait_for > 0;
            *wait_for = wait_for.saturating_sub(1);
            if !may_wait || briefly(PATIENCE, caught_up).await.is_none() {
                self.cut_off_laggards();
            }
        }
    }

    /// [`Flight::is_abandoned`]; and wakes the pump when the last reader leaves.
    pub(crate) fn waits_for_nobody(&self, cx: &Context<'_>) -> bool {
        let mut state = lock(&self.state);
        state.pump = Some(cx.waker().clone());
        self.is_abandoned(&mut state)
    }

    /// Whether there are no readers, and the flight may not continue without them.
    fn is_abandoned(&self, state: &mut State) -> bool {
        if state.active().next().is_some() {
            state.detached = None;
            return false;
        }
        let is_passing = state.stage == Stage::Passing;
        if !is_passing && state.detached.is_none() {
            state.detached = self.gauges.detached();
        }
        let is_abandoned = is_passing || state.detached.is_none();
        if is_abandoned {
            // At once: a reader that joined before the pump ends would get a body that breaks.
            state.end = Some(End::Failed(Failure::Abandoned.into()));
            state.buffer.close();
            state.recount(&self.gauges);
        }
        is_abandoned
    }

    /// A reader from the first byte on; `None` if the beginning is dropped, or the content has failed.
    pub(crate) fn join(self: &Arc<Self>) -> Option<Reader> {
        let mut state = lock(&self.state);
        if state.stage != Stage::Keeping || matches!(state.end, Some(End::Failed(_))) {
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

    /// Whether no content has arrived for longer than a request waits for another request's call, as far as calls of
    /// this function can tell. Nobody waits for what is drained, which goes on as its readers do.
    pub(crate) fn has_stalled(&self, now: SystemTime) -> bool {
        let mut state = lock(&self.state);
        if state.stage == Stage::Draining {
            return false;
        }
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
        // What is kept is held for any of them, and anything else for the slowest.
        let pace = if state.stage == Stage::Keeping { paces.max() } else { paces.min() };
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
        state.buffer.clear();
        state.recount(&self.gauges);
        let watched = state.watched.take();
        drop(state);
        drop(watched);
    }
}

/// What the pump has to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Go {
    On,
    Stop,
    /// The store takes too little of what is there.
    WithoutStore,
}

/// What is in the pump's way.
enum Next {
    /// Laggards, which have to catch up, or are cut off.
    AfterLaggards,
    /// The store, which has to catch up.
    AfterStore,
    /// Nothing.
    On,
    Stop,
}
