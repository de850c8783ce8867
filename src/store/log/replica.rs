//! What one node knows of a log of purges.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex as Turns;

use super::known::{Known, Step, Wanted};
use super::names::Names;
use super::stamps::read;
use super::{Announced, Appended, LogPage, LogState, NewEntry, PurgeLog, Verdict};
use crate::entry::StoredResponse;
use crate::entry::key::CacheKey;
use crate::error::StoreError;
use crate::runtime::{Instant, RwLock, moment};
use crate::store::places::{read as reading, write};
use crate::store::{Fence, Purge, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget};

/// How often a node reads what a log has left while other tasks learn of new entries. A purge that counts as lost, and is not, is made
/// once more.
const READINGS: u32 = 4;

/// What one node knows of a [`PurgeLog`]: the stamps of its entries, by which it judges records.
///
/// Of the 65,536 last entries it knows exactly what they named. Of older ones it knows 65,536 places, in which names share, and
/// 1,024 prefixes; so it may take for purged what was not, and never the other way round.
///
/// All nodes need the same secret, which is that of [`RecordNames`](super::super::record::RecordNames): places are hashes of names.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use larder::CacheKey;
/// use larder::store::log::{MemoryLog, Replica};
/// use larder::store::{PurgeMode, PurgeScope, PurgeTarget};
///
/// let log = MemoryLog::default();
/// let (here, there) = (Replica::new([7; 16]), Replica::new([7; 16]));
/// here.catch_up(&log).await?;
/// there.catch_up(&log).await?;
/// let key = CacheKey::from_uri(&"http://example.com/".parse().unwrap()).unwrap();
/// let fence = there.fence();
///
/// here.purge(&log, &[PurgeTarget::host("example.com")], PurgeMode::Remove).await?;
/// there.catch_up(&log).await?;
/// assert!(there.concerns(&key, fence, PurgeScope::Key));
/// assert!(!there.concerns(&key, there.fence(), PurgeScope::Key));
/// # Ok::<(), larder::StoreError>(()) }).unwrap();
/// ```
pub struct Replica {
    known: RwLock<Known>,
    published: Published,
    /// Since when time is counted here.
    start: Instant,
    /// One task at a time reads what others wait for.
    turns: Turns<()>,
}

/// What is read without a lock. Whoever writes does so under the lock of `known`.
#[derive(Default)]
struct Published {
    at: AtomicU64,
    changed: AtomicU64,
    clock: AtomicU64,
    incarnation: AtomicU64,
    lost_until: AtomicU64,
    /// Nanoseconds from the start to the moment for which the replica was proven complete, and one; 0 where it never was.
    proven: AtomicU64,
    untouched_from: AtomicU64,
}

/// What a replica has learned since somebody looked ([`Replica::changes_since`]).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// The purges, the earliest first; `None` where it can't be said what was purged, or there were too many.
    pub purges: Option<Vec<Purge>>,
    /// How many changes there have been, to ask for those after them.
    pub seen: u64,
}

impl Replica {
    /// A node that knows nothing yet: everything is gone for it, until it has [caught up](Self::catch_up).
    pub fn new(secret: [u8; 16]) -> Self {
        let names = Names::new(secret);
        let published = Published { untouched_from: AtomicU64::new(u64::MAX), ..Published::default() };
        Self { known: RwLock::new(Known::new(names)), published, start: moment(), turns: Turns::new(()) }
    }

    /// Knows a log that has no entries yet.
    pub(in crate::store) fn begin(&self, state: LogState) {
        self.change(|known| known.take(&LogPage::new(Vec::new(), state), state.base, 0));
    }

    /// Up to which number the log has been read.
    pub fn number(&self) -> u64 {
        self.published.at.load(Ordering::SeqCst)
    }

    /// Whether nothing is missing that the log had in this state.
    pub fn is_at(&self, state: LogState) -> bool {
        reading(&self.known).is_at(state)
    }

    /// [`Replica::is_at`]; and if so, [fences](Replica::fence) are no older than that state from now on. Whoever has read the state
    /// that a look-up judges by calls this: what was only noted is in the clock of the state and in no entry.
    pub fn sees(&self, state: LogState) -> bool {
        let (is_at, is_newer) = {
            let known = reading(&self.known);
            (known.is_at(state), state.clock > known.clock())
        };
        if is_at && is_newer {
            self.change(|known| known.see(state));
        }
        is_at
    }

    /// The fence of what is fetched from now on: the default one, under which nothing is stored, until it has caught up once.
    pub fn fence(&self) -> Fence {
        // Written in another order: whoever finds the same incarnation twice has a number of it.
        let incarnation = self.published.incarnation.load(Ordering::SeqCst);
        let is_blind = self.published.untouched_from.load(Ordering::SeqCst) == u64::MAX;
        let number = self.published.clock.load(Ordering::SeqCst);
        if is_blind || incarnation != self.published.incarnation.load(Ordering::SeqCst) {
            return Fence::default();
        }
        fence(incarnation, number)
    }

    /// Whether the log still has an announcement that it gave this number ([`Announced::state`](super::Announced::state)), as far as
    /// is known here. Where it has not, what was stored after it is gone.
    pub fn is_announced(&self, number: u64) -> bool {
        number > self.published.lost_until.load(Ordering::SeqCst) || reading(&self.known).is_announced(number)
    }

    /// What the log says about a response that was put under a fence, as far as it has been read.
    pub fn judge(&self, key: &CacheKey, response: &StoredResponse, since: Fence) -> Verdict {
        let (incarnation, number) = parts(since);
        if self.is_certainly_untouched(incarnation, number) {
            return Verdict::Untouched;
        }
        let known = reading(&self.known);
        match is_gone(&known, since) {
            true => Verdict::Removed,
            false => known.stamps.judge(key, response.head().groups(), number),
        }
    }

    /// Whether an entry since the fence concerns a response under the key: [`Store::purged_since`](crate::Store::purged_since).
    pub fn concerns(&self, key: &CacheKey, since: Fence, scope: PurgeScope) -> bool {
        let (incarnation, number) = parts(since);
        if self.is_certainly_untouched(incarnation, number) {
            return false;
        }
        let known = reading(&self.known);
        is_gone(&known, since) || known.stamps.concern(key, number, scope)
    }

    fn is_certainly_untouched(&self, incarnation: u64, number: u64) -> bool {
        let Published { incarnation: known, untouched_from, .. } = &self.published;
        known.load(Ordering::SeqCst) == incarnation
            && number >= untouched_from.load(Ordering::SeqCst)
            && known.load(Ordering::SeqCst) == incarnation
            && number != u64::MAX
    }

    /// Whether a fence is one of the log as it is now.
    pub(crate) fn has_given(&self, fence: Fence) -> bool {
        let (incarnation, _) = parts(fence);
        incarnation != 0 && incarnation == self.published.incarnation.load(Ordering::SeqCst)
    }

    /// Reads the log to its end, and appends what it lacks. One task reads, and the others wait for it: whoever has seen a state
    /// that this replica is not [at](Self::is_at) calls this.
    ///
    /// # Errors
    ///
    /// Those of the log.
    pub async fn catch_up<L: PurgeLog>(&self, log: &L) -> Result<(), StoreError> {
        let _turn = self.turns.lock().await;
        self.read_on(log, Duration::ZERO).await?;
        self.append_again(log).await
    }

    /// Reads to the end, and waits for so long where there is nothing new.
    pub(super) async fn read_on<L: PurgeLog>(&self, log: &L, wait: Duration) -> Result<(), StoreError> {
        // A node that knows nothing does not wait for an entry.
        let (mut wait, mut there) = (if self.is_blind() { Duration::ZERO } else { wait }, 0);
        let mut has_recovered = false;
        loop {
            let (from, sent) = (self.number(), moment());
            let page = log.read_after(from, wait).await?;
            let mut step = self.change(|known| known.take(&page, from, there));
            if step == Step::Lost {
                // Somebody else has written into it, or it loses more all the time.
                if std::mem::replace(&mut has_recovered, true) {
                    return Err(StoreError::new(
                        "read the log of purges",
                        "its entries do not follow each other",
                    ));
                }
                step = self.recover(log).await?;
            }
            if step == Step::Complete {
                if self.has_missed() {
                    self.read_table(log).await?;
                }
                self.prove(sent);
                return Ok(());
            }
            // What is there by now is found by the next call, unless it was trimmed.
            there = if step == Step::More { page.state.last } else { 0 };
            wait = Duration::ZERO;
        }
    }

    fn is_blind(&self) -> bool {
        reading(&self.known).is_blind()
    }

    fn has_missed(&self) -> bool {
        reading(&self.known).untabled.is_some()
    }

    /// The table is newer than what it is needed for: the entries since then have been read.
    async fn read_table<L: PurgeLog>(&self, log: &L) -> Result<(), StoreError> {
        let (incarnation, until) = {
            let known = reading(&self.known);
            (known.incarnation(), known.untabled)
        };
        let table = log.table().await?;
        self.change(|known| {
            // Meanwhile another task may have missed more.
            if (known.incarnation(), known.untabled) == (incarnation, until) {
                known.take_table(table.as_ref());
            }
        });
        Ok(())
    }

    /// Finds out what the log has lost, and takes what it has instead.
    async fn recover<L: PurgeLog>(&self, log: &L) -> Result<Step, StoreError> {
        let (mut steps, mut attempts) = (1, 0);
        loop {
            let ((from, is_first), changed) = {
                let known = reading(&self.known);
                (known.back(steps), known.changed())
            };
            let mut page = log.read_after(from, Duration::ZERO).await?;
            let is_there = match page.entries.first() {
                Some(entry) => entry.predecessor == from,
                None => page.state.last == from,
            };
            if is_first || is_there || page.state.incarnation != reading(&self.known).incarnation() {
                read_to_end(log, &mut page).await?;
                attempts += 1;
                // What another task has learned meanwhile may be newer than what was read, and would count as lost: it is read, too.
                let taken = self.change(|known| {
                    let is_whole = known.changed() == changed || attempts >= READINGS;
                    is_whole.then(|| known.take_again(&page, from))
                });
                match taken {
                    Some(step) => return Ok(step),
                    None => continue,
                }
            }
            steps = steps.saturating_mul(8);
        }
    }

    /// Purges: appends an entry, and knows it at once.
    ///
    /// # Errors
    ///
    /// Those of the log. The entry may have arrived or not, and is appended again when the log can be read next.
    pub async fn purge<L: PurgeLog>(
        &self,
        log: &L,
        targets: &[PurgeTarget],
        mode: PurgeMode,
    ) -> Result<PurgeNumber, StoreError> {
        if targets.is_empty() {
            return Ok(PurgeNumber::default());
        }
        let purge = Purge::new(targets.to_vec(), mode).to_bytes().into();
        self.append(log, Wanted { asks: false, is_lost: false, purge }).await
    }

    /// The entry by which a log remembers a purge.
    #[cfg(feature = "disk")]
    pub(in crate::store) fn entry(&self, purge: bytes::Bytes) -> NewEntry {
        let known = reading(&self.known);
        let marks = known.stamps.marks_of(&read(&purge));
        NewEntry { above: known.above(), asks: Vec::new(), marks, purge }
    }

    /// Takes an entry that was appended. Of several ones the first comes first.
    pub(in crate::store) fn take_appended(&self, purge: bytes::Bytes, appended: Appended) {
        self.change(|known| known.take_appended(purge, appended));
    }

    /// [`Replica::purge`] for a store that announces what it stores ([`Replica::announce`]): a purge of URIs under which nothing is
    /// stored, or about to be, adds no entry.
    ///
    /// # Errors
    ///
    /// Those of [`Replica::purge`].
    pub async fn purge_announced<L: PurgeLog>(
        &self,
        log: &L,
        targets: &[PurgeTarget],
        mode: PurgeMode,
    ) -> Result<PurgeNumber, StoreError> {
        if targets.is_empty() {
            return Ok(PurgeNumber::default());
        }
        let purge = Purge::new(targets.to_vec(), mode).to_bytes().into();
        self.append(log, Wanted { asks: true, is_lost: false, purge }).await
    }

    async fn append<L: PurgeLog>(&self, log: &L, wanted: Wanted) -> Result<PurgeNumber, StoreError> {
        let entry = {
            let (known, purge) = (reading(&self.known), read(&wanted.purge));
            let (marks, names) = (known.stamps.marks_of(&purge), known.stamps.names());
            let asks = if wanted.asks { names.asked(&purge.targets) } else { Vec::new() };
            NewEntry { above: known.above(), asks, marks, purge: wanted.purge.clone() }
        };
        // Also where nobody waits for the call any more.
        let unsure = Unsure { replica: self, wanted: Some(wanted) };
        let appended = log.append(&entry).await?;
        unsure.has_arrived(appended);
        Ok(PurgeNumber::new(appended.state.clock))
    }

    /// Announces a response that is going to be stored under a key, with what it was asked for under a fence, and kept for so long at
    /// most. `None` where it is not to be stored, as a purge came meanwhile. Otherwise the number of the announcement:
    /// what is stored says it, and is gone where [`Replica::is_announced`] says so.
    ///
    /// # Errors
    ///
    /// Those of the log. Then nothing is to be stored.
    pub async fn announce<L: PurgeLog>(
        &self,
        log: &L,
        key: &CacheKey,
        response: &StoredResponse,
        fence: Fence,
        time: Duration,
    ) -> Result<Option<u64>, StoreError> {
        let uris = self.uris(key, response.may_answer_for_other_queries());
        let announced = log.announce(&uris, Some(time)).await?;
        if !self.sees(announced.state) {
            self.catch_up(log).await?;
        }
        let is_refused = is_noted(&announced, fence) || self.judge(key, response, fence) == Verdict::Removed;
        Ok((!is_refused).then_some(announced.state.clock))
    }

    /// Whether a purge since the fence that is no entry of the log may concern a response under the key which is on its way. With
    /// [`Replica::concerns`], it is what a store that announces says to [`Store::purged_since`](crate::Store::purged_since).
    ///
    /// # Errors
    ///
    /// Those of the log.
    pub async fn is_noted<L: PurgeLog>(
        &self,
        log: &L,
        key: &CacheKey,
        since: Fence,
    ) -> Result<bool, StoreError> {
        let announced = log.announce(&self.uris(key, false), None).await?;
        if !self.sees(announced.state) {
            self.catch_up(log).await?;
        }
        Ok(is_noted(&announced, since))
    }

    /// The names under which a log is told of a response under a key ([`PurgeLog::announce`]).
    pub(crate) fn uris(&self, key: &CacheKey, answers_for_other_queries: bool) -> Vec<u64> {
        reading(&self.known).stamps.names().announced(key, answers_for_other_queries)
    }

    /// Appends what the log has lost or may not have got.
    pub(super) async fn append_again<L: PurgeLog>(&self, log: &L) -> Result<(), StoreError> {
        let count = reading(&self.known).to_append.len();
        for _ in 0..count {
            let next = self.change(|known| known.to_append.pop_front());
            let Some(wanted) = next else { break };
            self.append(log, wanted).await?;
        }
        Ok(())
    }

    /// How many entries are to be appended again.
    pub fn unsure(&self) -> usize {
        reading(&self.known).to_append.len()
    }

    /// How many changes there have been: entries, and events that make it distrust what it knew.
    pub fn changed(&self) -> u64 {
        self.published.changed.load(Ordering::SeqCst)
    }

    /// What has changed since there were so many changes.
    pub fn changes_since(&self, seen: u64) -> Changes {
        let known = reading(&self.known);
        let purges = known.changes_since(seen).map(|purges| purges.iter().map(|purge| read(purge)).collect());
        Changes { purges, seen: known.changed() }
    }

    /// Says that the log was seen in a state that this replica is [at](Self::is_at), by a call that began at that moment.
    pub(crate) fn prove(&self, sent: Instant) {
        let since = sent.saturating_duration_since(self.start).as_nanos();
        let since = u64::try_from(since).unwrap_or(u64::MAX - 1) + 1;
        self.published.proven.fetch_max(since, Ordering::SeqCst);
    }

    /// Whether nothing was missing at some moment after another one.
    #[cfg(feature = "redis")]
    pub(crate) fn was_complete_after(&self, moment: Instant) -> bool {
        let proven = self.published.proven.load(Ordering::SeqCst);
        proven > 0 && Duration::from_nanos(proven - 1) > moment.saturating_duration_since(self.start)
    }

    /// Whether nothing was missing at some moment within `bound` of now.
    pub fn is_proven(&self, bound: Duration) -> bool {
        self.is_proven_at(moment(), bound)
    }

    /// [`Replica::is_proven`] for who has read the clock.
    pub(in crate::store) fn is_proven_at(&self, now: Instant, bound: Duration) -> bool {
        let proven = self.published.proven.load(Ordering::SeqCst);
        if proven == 0 {
            return false;
        }
        let now = now.saturating_duration_since(self.start);
        now.saturating_sub(Duration::from_nanos(proven - 1)) <= bound
    }

    fn change<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = write(&self.known);
        let changed = change(&mut known);
        let Published { at, changed: changes, clock, incarnation, lost_until, untouched_from, .. } =
            &self.published;
        let (new, from) = known.untouched_from();
        if incarnation.load(Ordering::SeqCst) != new {
            untouched_from.store(u64::MAX, Ordering::SeqCst);
            at.store(0, Ordering::SeqCst);
            clock.store(0, Ordering::SeqCst);
            incarnation.store(new, Ordering::SeqCst);
        }
        untouched_from.store(from, Ordering::SeqCst);
        at.store(known.at, Ordering::SeqCst);
        clock.store(known.clock(), Ordering::SeqCst);
        lost_until.store(known.lost_until(), Ordering::SeqCst);
        changes.store(known.changed(), Ordering::SeqCst);
        changed
    }
}

/// A purge that may have arrived or not. Dropped as that, it is kept, to be appended again.
struct Unsure<'a> {
    replica: &'a Replica,
    wanted: Option<Wanted>,
}

impl Unsure<'_> {
    fn has_arrived(mut self, appended: Appended) {
        if let Some(wanted) = self.wanted.take() {
            self.replica.take_appended(wanted.purge, appended);
        }
    }
}

impl Drop for Unsure<'_> {
    fn drop(&mut self) {
        if let Some(wanted) = self.wanted.take() {
            self.replica.change(|known| known.append_later(wanted));
        }
    }
}

/// Whether a purge that was only noted came after a fence, or may have.
pub(crate) fn is_noted(announced: &Announced, since: Fence) -> bool {
    let (incarnation, number) = parts(since);
    incarnation != announced.state.incarnation || number < announced.noted
}

/// Reads what follows a page.
async fn read_to_end<L: PurgeLog>(log: &L, page: &mut LogPage) -> Result<(), StoreError> {
    while let Some(last) = page.entries.last().map(|entry| entry.number)
        && last < page.state.last
    {
        let next = log.read_after(last, Duration::ZERO).await?;
        if next.entries.is_empty() || next.state.incarnation != page.state.incarnation {
            break; // the next call of `take` sees to it
        }
        page.entries.extend(next.entries);
        page.state = next.state;
    }
    Ok(())
}

fn fence(incarnation: u64, number: u64) -> Fence {
    Fence::from_bits((u128::from(incarnation) << 64) | u128::from(number))
}

/// The incarnation and the number of a fence.
fn parts(fence: Fence) -> (u64, u64) {
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
    (half(fence.bits() >> 64), half(fence.bits()))
}

fn is_gone(known: &Known, since: Fence) -> bool {
    let (incarnation, number) = parts(since);
    known.is_blind() || incarnation != known.incarnation() || number < known.gone_from()
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("number", &self.number()).finish_non_exhaustive()
    }
}
