//! What bodies hold and the store does not: content in memory, and connections of the inner service.
//!
//! A client that stops reading keeps its body, and a server does not even poll a body for which the client has left it
//! no room. So whatever a body holds is in a place from which others can take it away: code that finds the bound
//! reached, and a task that looks for readers without progress. Small content is not counted, and costs nothing here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::entry::pieces::Large;
use crate::runtime::{Instant, Mutex, Runtime, lock, moment, pause};

/// The bound of what is held in memory if the store has no capacity to derive it from.
pub(crate) const UNKNOWN_CAPACITY: u64 = 256 * 1024 * 1024;

/// How much the bodies of responses may hold while their clients read, and for how long.
///
/// Content above 64 KiB is counted: content that has left the store while clients read it (once, however many read it),
/// content of a response in flight that its readers have not taken yet, and forwarded content that its client does not
/// take.
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
    /// ([`StoreLimits::capacity`]), or 256 MiB if the store has none. Beyond that, nothing above 64 KiB is stored, and
    /// the clients that have taken nothing for the longest time are cut off: a client that has never taken anything
    /// after a quarter of a second, any other one after a sixth of [`BodyLimits::stall`]. A body that is cut off ends
    /// with an error.
    ///
    /// [`StoreLimits::capacity`]: crate::store::StoreLimits::capacity
    #[must_use]
    pub fn held(mut self, bytes: u64) -> Self {
        self.held = Some(bytes);
        self
    }

    /// How long a client may take nothing, although there is something for it, before it is cut off; default 60 s. The
    /// time in which it waits for the inner service does not count. A client makes progress when its server takes the
    /// next frame for it, of up to 64 KiB. A server with a large socket buffer may do so only once for each megabyte.
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

    /// Cuts off the readers that have stood still since then or longer, and frees what only they hold.
    fn cut_off(&self, since: Instant);
}

/// What a reader does. A greater value is more active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pace {
    /// The reader holds nothing any more.
    Gone,
    /// The reader has existed since then, and has never taken anything.
    Begins(Instant),
    /// The reader took something then, and has taken nothing since.
    Stands(Instant),
    /// The reader asks for more than there is.
    Waits,
}

/// Counts what bodies hold, and knows their readers.
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
    /// Whether a task looks for readers that make no progress.
    is_watched: bool,
    /// When the readers were last searched for some to cut off because the bound was reached.
    looked: Option<Instant>,
    next: u64,
    readings: HashMap<u64, (Holder, Weak<dyn Reading>)>,
    /// Stored contents that are being read, by their addresses.
    shared: HashMap<Holder, SharedContent>,
}

/// The content that several readings share, by its address.
type Holder = usize;

struct SharedContent {
    content: Weak<Large>,
    /// The number of [`Shared`]. Each of them refers to the content twice: for itself, and for its reader.
    readers: usize,
}

impl SharedContent {
    /// Whether the store has the content as well, and counts it.
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

    /// Bytes that bodies hold, whether or not the store has them as well.
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

    /// Whether so much is held that nothing large should be stored, because storing could evict more of what is being
    /// read.
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

    /// Counts stored content, unless somebody reads it already.
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

    /// Watches a reading from now on, and makes room for it.
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

    /// Cuts off the readers that have stood still longest, until what is held is within the bound. Readers that have
    /// never taken anything come first, because a reader that makes progress, even slowly, has more to lose. A reader
    /// whose task has not run yet is not cut off, nor one whose content is in the store anyway. If several read the
    /// same content, the most active one counts.
    pub(crate) fn make_room(&self) {
        /// What a client needs to take the first of its answer, on a busy machine.
        const FIRST: Duration = Duration::from_millis(250);
        /// One that has taken something may be cut off after this part of the stall limit.
        const LATER: u32 = 6;
        /// Looking at all readers costs more than one frame is worth.
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

    /// Cuts off the readers that have stood still for too long. Returns whether any reader is left to watch; if not,
    /// the next reader starts a new task.
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

/// Identifies readers of the same content.
pub(crate) fn address<T>(content: &Arc<T>) -> Holder {
    Arc::as_ptr(content).cast::<()>() as usize
}

/// The task that looks for readers without progress, as long as anybody reads.
struct Watch {
    held: Arc<Held>,
    /// The task has ended because nobody reads any more; another one may have begun by now.
    is_over: bool,
}

impl Watch {
    fn begin(self) {
        /// How often it looks within the limit, which is therefore exceeded by at most a fourth.
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

/// If the task ends with its runtime, the next reader begins another one.
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

/// Stored content that is counted as being read.
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
