//! What a node knows of a log, and what it makes of a page of it: no waiting, and no I/O.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use super::names::Names;
use super::stamps::{Stamps, read};
use super::{Appended, LogEntry, LogPage, LogState, Lost, MarkTable};
use crate::store::{Purge, PurgeMode, PurgeTarget};

/// How many entries are known exactly.
const ENTRIES: usize = 65_536;
/// How many bytes of entries, one of which may have many targets.
const BYTES: usize = 16 << 20;
/// How many purges are kept to be appended again, and how many bytes of them.
const UNSURE: (usize, usize) = (1_024, 4 << 20);
/// How many gaps between announcements are kept apart.
const GAPS: usize = 16;
/// How many changes are kept for those who follow them, and how many bytes of them.
const CHANGES: (usize, usize) = (4_096, 16 << 20);

/// A node's knowledge of a log.
///
/// Invariant: every entry of the log up to number `at` is in `stamps`, or its effect is covered by `gone_below`, or the node
/// `is_blind`.
pub(super) struct Known {
    /// Up to which number the log has been read. It goes back where the log has lost entries.
    pub(super) at: u64,
    bytes: usize,
    /// What has happened since the beginning; `None` stands for everything that can't be said.
    changes: VecDeque<Option<Bytes>>,
    /// How many bytes the changes have.
    changes_size: usize,
    /// The number of changes so far.
    changed: u64,
    /// The greatest clock of a state of the log in which nothing was missing here.
    clock: u64,
    entries: BTreeMap<u64, Entry>,
    /// The number of the last entry that is not known exactly any more.
    folded: u64,
    /// What was put under a smaller number is gone.
    gone_below: u64,
    incarnation: u64,
    /// The log has begun anew and was not read to its end since: nothing can be judged.
    is_blind: bool,
    /// The announcements that the log has lost: all gaps that any state had.
    lost: Vec<(u64, u64)>,
    /// The greatest `at` so far.
    reached: u64,
    pub(super) stamps: Stamps,
    /// Entries that the log has lost, or may not have got: to be appended.
    pub(super) to_append: VecDeque<Wanted>,
    /// Where entries were missed that only the table knows of, and it has not been read since: up to which number.
    pub(super) untabled: Option<u64>,
}

/// A purge that is to be in the log.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Only if it names what was announced.
    pub(super) asks: bool,
    /// It was in the log before a failover. So whatever is in the log that has lost it came later.
    pub(super) is_lost: bool,
    pub(super) purge: Bytes,
}

struct Entry {
    purge: Bytes,
    /// The number that its stamp has: another one than its own only where the log has given a number that is not greater than
    /// one that it has lost.
    stamp: u64,
}

/// How a page has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The log was known up to the state of the page.
    Complete,
    /// An entry that was known is not in the log.
    Lost,
    /// There is more to read.
    More,
}

impl Known {
    pub(super) fn new(names: Names) -> Self {
        Self {
            at: 0,
            bytes: 0,
            changes: VecDeque::new(),
            changes_size: 0,
            changed: 0,
            clock: 0,
            entries: BTreeMap::new(),
            folded: 0,
            gone_below: 0,
            incarnation: 0,
            is_blind: true,
            lost: Vec::new(),
            reached: 0,
            stamps: Stamps::new(names),
            to_append: VecDeque::new(),
            untabled: None,
        }
    }

    /// The incarnation, and from which number on a record is untouched whatever it is.
    pub(super) fn untouched_from(&self) -> (u64, u64) {
        let from = self.stamps.latest().max(self.gone_from());
        (self.incarnation, if self.is_blind { u64::MAX } else { from })
    }

    /// What was put under a smaller number is gone.
    pub(super) fn gone_from(&self) -> u64 {
        self.gone_below.max(self.untabled.unwrap_or_default())
    }

    pub(super) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub(super) fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// Whether nothing is missing that the log had in this state.
    pub(super) fn is_at(&self, state: LogState) -> bool {
        !self.is_blind
            && self.untabled.is_none()
            && state.incarnation == self.incarnation
            && state.base <= self.gone_from()
            && state.lost.gaps().all(|gap| self.lost.contains(&gap))
            && state.last == self.at
    }

    /// A number up to which all entries are known, and as great as that of any purge which is known to have returned.
    pub(super) fn clock(&self) -> u64 {
        self.clock.max(self.at)
    }

    /// Takes the clock of a state, where nothing of it is missing.
    pub(super) fn see(&mut self, state: LogState) {
        if self.is_at(state) {
            self.clock = self.clock.max(state.clock);
        }
    }

    /// Whether the log still has an announcement, as far as is known here.
    pub(super) fn is_announced(&self, number: u64) -> bool {
        !self.lost.iter().any(|&(after, until)| after < number && number <= until)
    }

    /// The greatest number of which [`Known::is_announced`] says that it may be lost.
    pub(super) fn lost_until(&self) -> u64 {
        self.lost.iter().map(|gap| gap.1).max().unwrap_or_default()
    }

    /// Takes the gaps of a state. What one state had is kept: another one may have been read before it. Whether there is a new one.
    fn lose_announcements(&mut self, lost: Lost) -> bool {
        let known = self.lost.len();
        for gap in lost.gaps() {
            if !self.lost.contains(&gap) {
                self.lost.push(gap);
            }
        }
        let is_new = self.lost.len() > known;
        if self.lost.len() > GAPS {
            // As one: more is gone than has to be.
            let after = self.lost.iter().map(|gap| gap.0).min().unwrap_or_default();
            let all = (after, self.lost_until());
            self.lost = lost.gaps().chain([all]).collect();
        }
        is_new
    }

    /// A greater number than that of any entry which was known once.
    pub(super) fn above(&self) -> u64 {
        self.reached.max(self.stamps.latest())
    }

    pub(super) fn changed(&self) -> u64 {
        self.changed
    }

    /// What has changed since there were so many changes, the earliest first; `None` where it can't be said.
    pub(super) fn changes_since(&self, seen: u64) -> Option<Vec<Bytes>> {
        let new = usize::try_from(self.changed.checked_sub(seen)?).ok()?;
        let start = self.changes.len().checked_sub(new)?;
        self.changes.range(start..).cloned().collect()
    }

    fn change(&mut self, purge: Option<Bytes>) {
        let size = |purge: &Option<Bytes>| purge.as_ref().map_or(0, Bytes::len);
        self.changes_size += size(&purge);
        self.changes.push_back(purge);
        self.changed += 1;
        let (most, bytes) = CHANGES;
        while self.changes.len() > most || self.changes_size > bytes {
            let Some(first) = self.changes.pop_front() else { break };
            self.changes_size -= size(&first);
        }
    }

    /// Looks at the state of the log: whether it has begun anew, and what its base is. Says whether it is another log.
    fn observe(&mut self, state: LogState) -> bool {
        let is_other = state.incarnation != self.incarnation;
        if is_other {
            self.incarnation = state.incarnation;
            self.is_blind = true;
            self.entries.clear();
            self.bytes = 0;
            self.stamps.clear();
            (self.at, self.reached, self.folded) = (state.base, state.base, state.base);
            (self.gone_below, self.untabled) = (state.base, None);
            self.clock = 0;
            self.lost.clear();
            self.lose_announcements(state.lost);
            self.change(None);
        } else if self.lose_announcements(state.lost) || state.base > self.gone_below {
            self.gone_below = state.base.max(self.gone_below);
            self.change(None);
        }
        is_other
    }

    /// Takes what was read after number `from`. An entry with the number `there`, where that is greater, was in the log before.
    pub(super) fn take(&mut self, page: &LogPage, from: u64, there: u64) -> Step {
        if self.observe(page.state) && from > self.at {
            return Step::More;
        }
        if page.state.last < from {
            return Step::Lost;
        }
        let mut before = from;
        for entry in &page.entries {
            if entry.predecessor < before {
                return Step::Lost;
            }
            // Another task may have read further meanwhile.
            if entry.predecessor > before && entry.predecessor > self.at {
                self.miss(entry.predecessor);
            }
            self.add(entry);
            before = entry.number;
        }
        if page.entries.is_empty() && there > from && there > self.at {
            self.miss(there);
        }
        if self.at < page.state.last {
            return Step::More;
        }
        self.is_blind = false;
        self.see(page.state);
        Step::Complete
    }

    /// Entries up to number `until` are not in the log any more.
    fn miss(&mut self, until: u64) {
        self.untabled = self.untabled.max(Some(until));
        (self.at, self.reached) = (until, self.reached.max(until));
        self.change(None);
    }

    /// Takes an entry that this node has appended.
    pub(super) fn take_appended(&mut self, purge: Bytes, appended: Appended) {
        let Appended { predecessor, state } = appended;
        let Some(predecessor) = predecessor else {
            self.observe(state);
            return self.see(state);
        };
        let entry = LogEntry::new(state.last, predecessor, purge);
        self.observe(state);
        if predecessor == self.at {
            self.take(&LogPage::new(vec![entry], state), predecessor, 0);
        } else {
            // What lies between has not been read yet.
            self.learn(&entry, entry.number);
        }
    }

    /// Adds an entry that was read.
    fn add(&mut self, entry: &LogEntry) {
        let known = self.entries.get(&entry.number);
        if entry.number > self.folded && known.is_none_or(|known| known.purge != entry.purge) {
            if entry.number > self.reached && known.is_none() {
                self.learn(entry, entry.number);
            } else {
                self.lose(entry.number);
                // Smaller than a number that the log has lost: what was put under that one would outlive this entry.
                self.learn(entry, self.above().saturating_add(1));
                self.append_later(Wanted { asks: false, is_lost: true, purge: entry.purge.clone() });
                self.change(None);
            }
        }
        self.at = self.at.max(entry.number);
        self.reached = self.reached.max(self.at);
    }

    fn learn(&mut self, entry: &LogEntry, stamp: u64) {
        // Another node has appended it again. Of a purge that may not have arrived nobody else knows: an equal one that is read now
        // may be an earlier one, before what has to be purged was stored.
        self.to_append.retain(|wanted| !(wanted.is_lost && wanted.purge == entry.purge));
        self.stamps.add(&read(&entry.purge), stamp);
        self.bytes += entry.purge.len();
        self.entries.insert(entry.number, Entry { purge: entry.purge.clone(), stamp });
        self.change(Some(entry.purge.clone()));
        while self.entries.len() > ENTRIES || self.bytes > BYTES {
            let Some((number, entry)) = self.entries.pop_first() else { break };
            self.bytes -= entry.purge.len();
            self.stamps.fold(&read(&entry.purge), entry.stamp);
            self.folded = self.folded.max(number);
        }
    }

    /// Keeps the effect of an entry that the log has lost, if it was known.
    fn lose(&mut self, number: u64) {
        if let Some(entry) = self.entries.remove(&number) {
            self.bytes -= entry.purge.len();
            self.stamps.fold(&read(&entry.purge), entry.stamp);
            self.append_later(Wanted { asks: false, is_lost: true, purge: entry.purge });
        }
    }

    /// Keeps a purge, to be appended when that is possible. Where there are too many, all of them are one purge of everything.
    pub(super) fn append_later(&mut self, wanted: Wanted) {
        if self.to_append.contains(&wanted) {
            return;
        }
        self.to_append.push_back(wanted);
        let (most, bytes) = UNSURE;
        let size: usize = self.to_append.iter().map(|wanted| wanted.purge.len()).sum();
        if self.to_append.len() > most || size > bytes {
            self.to_append.clear();
            let everything = Purge::new(vec![PurgeTarget::All], PurgeMode::Remove).to_bytes();
            self.to_append.push_back(Wanted { asks: false, is_lost: false, purge: everything.into() });
        }
    }

    /// Takes the table, which was read after the entries that follow those which were missed.
    pub(super) fn take_table(&mut self, table: Option<&MarkTable>) {
        let Some(until) = self.untabled.take() else {
            return;
        };
        match table.filter(|table| table.incarnation == self.incarnation) {
            Some(table) => self.stamps.merge(table, until),
            None => self.gone_below = self.gone_below.max(until),
        }
    }

    /// A number from which to look for what was lost: that of the entry so many before the last one that was read. Whether
    /// there is none before it.
    pub(super) fn back(&self, steps: usize) -> (u64, bool) {
        let start = self.gone_below.max(self.folded);
        match self.entries.range(..=self.at).rev().nth(steps) {
            Some((number, _)) if *number > start => (*number, false),
            _ => (start, true),
        }
    }

    /// Takes all that was read after number `from`, up to which nothing was lost.
    pub(super) fn take_again(&mut self, found: &LogPage, from: u64) -> Step {
        if self.observe(found.state) {
            return Step::More;
        }
        let there: HashSet<u64> = found.entries.iter().map(|entry| entry.number).collect();
        let lost: Vec<u64> = self
            .entries
            .range((Bound::Excluded(from), Bound::Unbounded))
            .map(|(number, _)| *number)
            .filter(|n| !there.contains(n))
            .collect();
        lost.into_iter().for_each(|number| self.lose(number));
        let from = found.entries.first().map_or(found.state.last, |entry| entry.predecessor).min(from);
        self.at = from;
        self.change(None);
        self.take(found, from, 0)
    }
}
