//! What bodies hold beyond the store: content in memory, and the inner service's connections.
//!
//! A client that stops reading keeps its body, and a server does not even poll a body for which the client has left it
//! no room. So whatever a body holds lies where others can take it away: whoever finds the bound reached, and a task
//! that looks for readers without progress. Small content is not counted, and costs nothing here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::entry::pieces::Large;
use crate::runtime::{Instant, Mutex, Runtime, lock, moment, pause};

/// The bound of what is held in memory where a store has no capacity to derive it from.
pub(crate) const UNKNOWN_CAPACITY: u64 = 256 * 1024 * 1024;

/// How much the bodies of responses may hold while their clients read, and for how long.
///
/// Counted is content above 64 KiB: what has left the store while it was being read, once, however many read it; what a
/// response on its way to somebody has left behind its readers; and what is passed on, while its client does not take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    pub(crate) held: Option<u64>,
    pub(crate) stall: Duration,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { held: None, stall: Duration::from_secs(60) }
    }
}

impl BodyLimits {
    /// As many bytes as the store's capacity, and 60 s without progress.
    pub fn new() -> Self {
        Self::default()
    }

    /// The most bytes of content that bodies hold and the store does not; default as many as the store's capacity
    /// ([`StoreLimits::capacity`]), or 256 MiB where the store has none. Beyond that, nothing above 64 KiB is stored, and whoever
    /// has taken nothing for the longest time is cut off: who has never taken anything after a quarter of a second, and
    /// anybody else after a sixth of [`BodyLimits::stall`]. A body that is cut off ends with an error.
    ///
    /// [`StoreLimits::capacity`]: crate::store::StoreLimits::capacity
    #[must_use]
    pub fn held(mut self, bytes: u64) -> Self {
        self.held = Some(bytes);
        self
    }

    /// How long a client may take nothing of what is there for it before it is cut off; default 60 s. Who waits for
    /// the inner service does not count. A client is seen to make progress when its server takes the next frame, of up to
    /// 64 KiB, for it. A server with a large socket buffer may do so only once for each megabyte.
    #[must_use]
    pub fn stall(mut self, limit: Duration) -> Self {
        self.stall = limit;
        self
    }
}

/// Something that clients read, and that can be taken away from them.
pub(crate) trait Reading: Send + Sync {
    /// What its most active reader does.
    fn pace(&self) -> Pace;

    /// Cuts off the readers that have stood since then or longer, and frees what only they hold.
    fn cut_off(&self, since: Instant);
}

/// What a reader does. The greater one is the more active one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pace {
    /// It holds nothing any more.
    Gone,
    /// It has existed since then, and has never taken anything.
    Begins(Instant),
    /// It took something then, and has taken nothing since.
    Stands(Instant),
    /// It asks for more than there is.
    Waits,
}

/// Counts what bodies hold, and knows who reads.
#[derive(Default)]
pub(crate) struct Held {
    bytes: AtomicU64,
    cut_off: AtomicU64,
    limit: u64,
    stall: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether a task looks after those who make no progress.
    is_watched: bool,
    /// When somebody last looked for readers to cut off because the bound was reached.
    looked: Option<Instant>,
    next: u64,
    readings: HashMap<u64, (Holder, Weak<dyn Reading>)>,
    /// Stored contents that are being read, by their addresses.
    shared: HashMap<Holder, SharedContent>,
}

/// What readings hold in common, by its address.
type Holder = usize;

struct SharedContent {
    content: Weak<Large>,
    /// How many [`Shared`] there are. Each of them has the content twice: by itself, and for its reader.
    readers: usize,
}

impl SharedContent {
    /// Whether the store has it, too, which counts it then.
    fn is_elsewhere(&self) -> bool {
        self.content.strong_count() > 2 * self.readers
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Held {
    /// `capacity` is that of the store.
    pub(crate) fn new(limits: &BodyLimits, capacity: Option<u64>) -> Arc<Self> {
        let limit = limits.held.or(capacity).unwrap_or(UNKNOWN_CAPACITY);
        Arc::new(Self { limit, stall: limits.stall, ..Self::default() })
    }

    /// Bytes that bodies hold, be they in the store, too, or not.
    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes that bodies hold and the store does not.
    pub(crate) fn beyond_the_store(&self) -> u64 {
        let state = lock(&self.state);
        let elsewhere = state.shared.values().filter(|shared| shared.is_elsewhere());
        let stored: u64 = elsewhere.filter_map(|shared| Some(shared.content.upgrade()?.len() as u64)).sum();
        self.bytes().saturating_sub(stored)
    }

    /// Whether so much is held that nothing large should be stored. That could evict more of what is being read.
    pub(crate) fn is_full(&self) -> bool {
        if self.bytes() <= self.limit {
            return false; // as it is most of the time
        }
        self.make_room();
        self.beyond_the_store() > self.limit
    }

    /// How many readers have been cut off.
    pub(crate) fn cut_off(&self) -> u64 {
        self.cut_off.load(Ordering::Relaxed)
    }

    pub(crate) fn count_cut_off(&self) {
        self.cut_off.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn take(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts a stored content, unless somebody reads it already.
    pub(crate) fn share(self: &Arc<Self>, content: &Arc<Large>) -> Shared {
        let mut state = lock(&self.state);
        let new = || SharedContent { content: Arc::downgrade(content), readers: 0 };
        let shared = state.shared.entry(address(content)).or_insert_with(new);
        shared.readers += 1;
        if shared.readers == 1 {
            self.take(content.len() as u64);
        }
        drop(state);
        Shared { content: Arc::clone(content), held: Arc::clone(self) }
    }

    /// Has a reading watched from now on, and makes room for it.
    pub(crate) fn watch(self: &Arc<Self>, holder: Holder, reading: Weak<dyn Reading>) -> Watched {
        let mut state = lock(&self.state);
        let number = state.next;
        state.next += 1;
        state.readings.insert(number, (holder, reading));
        let is_new = !std::mem::replace(&mut state.is_watched, true);
        drop(state);
        if is_new {
            Watch { held: Arc::clone(self), is_over: false }.begin();
        }
        self.make_room();
        Watched { held: Arc::clone(self), number }
    }

    /// Cuts off those who stand longest until what is held is within the bound: first those who have never taken anything, for
    /// whoever reads, and be it slowly, has more to lose. Nobody is cut off who has only not had its turn yet, or whose
    /// content is in the store anyway. Where several read the same content, the most active of them counts.
    pub(crate) fn make_room(&self) {
        /// What a client needs to take the first of its answer, on a busy machine.
        const FIRST: Duration = Duration::from_millis(250);
        /// One that has taken something may be cut off after this part of the stall limit.
        const LATER: u32 = 6;
        /// To look at all readers costs more than one frame is worth.
        const REST: Duration = Duration::from_millis(50);
        if self.bytes() <= self.limit {
            return;
        }
        let (bytes, beyond) = (self.bytes(), self.beyond_the_store());
        if beyond <= self.limit {
            return;
        }
        let now = moment();
        // `pace` and `cut_off` take locks of their own, so they are called after this one is released.
        let readings: Vec<_> = {
            let mut state = lock(&self.state);
            if state.looked.is_some_and(|looked| now.duration_since(looked) < REST) {
                return;
            }
            state.looked = Some(now);
            let is_stored = |holder| state.shared.get(holder).is_some_and(SharedContent::is_elsewhere);
            let readings = state.readings.values().filter(|(holder, _)| !is_stored(holder));
            readings.filter_map(|(holder, reading)| Some((*holder, reading.upgrade()?))).collect()
        };
        let mut paces: HashMap<Holder, (Pace, Vec<Arc<dyn Reading>>)> = HashMap::new();
        for (holder, reading) in readings {
            let pace = reading.pace();
            let (fastest, readings) = paces.entry(holder).or_insert((pace, Vec::new()));
            *fastest = pace.max(*fastest);
            readings.push(reading);
        }
        let mut paces: Vec<_> = paces.into_values().collect();
        paces.sort_unstable_by_key(|(pace, _)| *pace);
        for (pace, readings) in paces {
            let freed = bytes.saturating_sub(self.bytes());
            let (since, wait_for) = match pace {
                Pace::Begins(since) => (since, FIRST.min(self.stall)),
                Pace::Stands(since) => (since, self.stall / LATER),
                Pace::Gone | Pace::Waits => continue,
            };
            if beyond.saturating_sub(freed) > self.limit && now.duration_since(since) >= wait_for {
                readings.iter().for_each(|reading| reading.cut_off(since));
            }
        }
    }

    /// Cuts off who has stood for too long. Whether anybody is left to look after; if not, the next reader begins a task.
    fn cut_off_stalled(&self) -> bool {
        let (readings, is_watched): (Vec<_>, bool) = {
            let mut state = lock(&self.state);
            state.is_watched = !state.readings.is_empty();
            let readings = state.readings.values().filter_map(|(_, reading)| reading.upgrade());
            (readings.collect(), state.is_watched)
        };
        if let Some(since) = moment().checked_sub(self.stall) {
            readings.iter().for_each(|reading| reading.cut_off(since));
        }
        is_watched
    }
}

/// By which those who read the same know each other.
pub(crate) fn address<T>(content: &Arc<T>) -> Holder {
    Arc::as_ptr(content).cast::<()>() as usize
}

/// The task that looks after those who make no progress, as long as anybody reads.
struct Watch {
    held: Arc<Held>,
    /// It has ended because nobody reads any more; another one may have begun by now.
    is_over: bool,
}

impl Watch {
    fn begin(self) {
        /// How often it looks while somebody may stand: the limit is overrun by a fourth at most.
        const LOOKS: u32 = 4;
        const SHORTEST: Duration = Duration::from_millis(10);
        let Some(runtime) = Runtime::current().filter(|_| !cfg!(shuttle)) else {
            return;
        };
        drop(runtime.spawn(async move {
            let mut watch = self;
            let interval = (watch.held.stall / LOOKS).max(SHORTEST);
            while pause(interval).await {
                if !watch.held.cut_off_stalled() {
                    watch.is_over = true;
                    break;
                }
            }
        }));
    }
}

/// Where it ends otherwise, with its runtime, the next reader begins another one.
impl Drop for Watch {
    fn drop(&mut self) {
        if !self.is_over {
            lock(&self.held.state).is_watched = false;
        }
    }
}

/// A reading that is watched until this is dropped.
pub(crate) struct Watched {
    held: Arc<Held>,
    number: u64,
}

impl Drop for Watched {
    fn drop(&mut self) {
        lock(&self.held.state).readings.remove(&self.number);
    }
}

/// A stored content that is counted as being read.
pub(crate) struct Shared {
    content: Arc<Large>,
    held: Arc<Held>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let holder = address(&self.content);
        let mut state = lock(&self.held.state);
        if let Some(shared) = state.shared.get_mut(&holder) {
            shared.readers -= 1;
            if shared.readers == 0 {
                state.shared.remove(&holder);
                self.held.give_back(self.content.len() as u64);
            }
        }
    }
}
