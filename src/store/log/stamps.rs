//! The stamps of the entries of a log: exact for recent entries, coarse for what remains of older ones.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::time::UNIX_EPOCH;

use super::MarkTable;
use super::mark::{Mark, Place, place_of};
use super::names::{Name, Names, Reach};
use super::prefixes::Prefixes;
use crate::entry::key::CacheKey;
use crate::store::stamp::{Stamp, Verdict};
use crate::store::{Expired, Purge, PurgeMode, PurgeScope, PurgeTarget};

/// What is hit by a soft mark, which keeps no time.
const SINCE_EVER: Expired = Expired { at: UNIX_EPOCH, until: None };
/// How many places there are for names of older entries.
const PLACES: usize = 1 << 16;

pub(super) struct Stamps {
    all: Stamp,
    coarse: Coarse,
    /// No record with this number or a greater one is concerned by any entry.
    latest: u64,
    /// The number of the latest entry that names a group.
    latest_group: u64,
    names: Names,
    prefixes: Prefixes,
    recent: HashMap<Name, Stamp>,
}

/// For each place, the number of the last hard and of the last soft entry; empty until there is one.
#[derive(Default)]
struct Coarse {
    hard: Box<[u64]>,
    latest: u64,
    soft: Box<[u64]>,
}

impl Coarse {
    fn add(&mut self, place: u16, is_hard: bool, number: u64) {
        let places = if is_hard { &mut self.hard } else { &mut self.soft };
        if places.is_empty() {
            *places = vec![0; PLACES].into_boxed_slice();
        }
        if let Some(known) = places.get_mut(usize::from(place)) {
            *known = number.max(*known);
        }
        self.latest = self.latest.max(number);
    }

    fn judge(&self, name: Name, fence: u64, so_far: Verdict) -> Verdict {
        let place = usize::from(place_of(name));
        let is_hit = |places: &[u64]| places.get(place).is_some_and(|number| *number > fence);
        match (is_hit(&self.hard), is_hit(&self.soft)) {
            (true, _) => Verdict::Removed,
            (_, true) => so_far.and(SINCE_EVER),
            _ => so_far,
        }
    }
}

/// The stamp of a mark.
fn coarse(is_hard: bool, number: u64) -> Stamp {
    Stamp::new(number, if is_hard { PurgeMode::Remove } else { PurgeMode::Expire(SINCE_EVER.at) })
}

/// Whether a mark of such a purge is hard: one that is not keeps no end.
fn is_hard(mode: PurgeMode) -> bool {
    !matches!(mode, PurgeMode::Expire(_))
}

/// What an entry says: everything was purged where nobody can read it.
pub(super) fn read(purge: &[u8]) -> Purge {
    Purge::from_bytes(purge).unwrap_or_else(|_| Purge::new(vec![PurgeTarget::All], PurgeMode::Remove))
}

impl Stamps {
    pub(super) fn new(names: Names) -> Self {
        Self {
            all: Stamp::default(),
            coarse: Coarse::default(),
            latest: 0,
            latest_group: 0,
            names,
            prefixes: Prefixes::default(),
            recent: HashMap::new(),
        }
    }

    /// As if there had been no entry.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.names.clone());
    }

    /// No record with this number or a greater one is concerned by any entry.
    pub(super) fn latest(&self) -> u64 {
        self.latest
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// The marks by which a table remembers a purge.
    pub(super) fn marks_of(&self, purge: &Purge) -> Vec<Mark> {
        let is_hard = is_hard(purge.mode);
        let mark = |target| match self.names.reach(target) {
            Reach::Everything => Some(Mark::everything(is_hard)),
            Reach::Name { name, .. } => Some(Mark::name(is_hard, name)),
            Reach::Nothing => None,
            Reach::Prefix(prefix) if !self.prefixes.are_full_for(&prefix) => {
                Some(Mark::prefix(is_hard, &prefix))
            }
            Reach::Prefix(prefix) => Some(match self.names.host_of(&prefix) {
                Some(host) => Mark::name(is_hard, host),
                // By a hard one the table gets rid of all prefixes.
                None => Mark::everything(true),
            }),
        };
        let mut marks: Vec<_> = purge.targets.iter().filter_map(mark).collect();
        marks.sort_unstable();
        marks.dedup();
        marks
    }

    /// Adds an entry.
    pub(super) fn add(&mut self, purge: &Purge, number: u64) {
        let stamp = Stamp::new(number, purge.mode);
        for target in &purge.targets {
            match self.names.reach(target) {
                Reach::Everything => self.add_to_all(&stamp, purge.mode, number),
                Reach::Name { is_group, name } => {
                    self.recent.entry(name).or_default().add(&stamp);
                    if is_group {
                        self.latest_group = self.latest_group.max(number);
                    }
                }
                Reach::Nothing => {}
                Reach::Prefix(prefix) => self.add_prefix(&prefix, &stamp),
            }
        }
        self.latest = self.latest.max(number);
    }

    fn add_to_all(&mut self, stamp: &Stamp, mode: PurgeMode, number: u64) {
        if mode == PurgeMode::Remove && number >= self.latest {
            self.clear(); // what all of it concerns is gone
        }
        self.all.add(stamp);
        self.latest = self.latest.max(number);
    }

    fn add_prefix(&mut self, prefix: &[u8], stamp: &Stamp) {
        if let Some((widened, stamp)) = self.prefixes.add(prefix, stamp) {
            match self.names.host_of(&widened) {
                Some(host) => stamp.numbers().for_each(|(number, is_hard)| {
                    self.coarse.add(place_of(host), is_hard, number);
                }),
                None => self.all.add(&stamp),
            }
        }
    }

    /// Makes what an entry has left coarse. Prefixes stay as they are: there is a bound for them.
    pub(super) fn fold(&mut self, purge: &Purge, number: u64) {
        for target in &purge.targets {
            if let Reach::Name { name, .. } = self.names.reach(target) {
                self.coarse.add(place_of(name), is_hard(purge.mode), number);
                if let Slot::Occupied(slot) = self.recent.entry(name)
                    && slot.get().latest() <= number
                {
                    slot.remove();
                }
            }
        }
    }

    /// Adds what a table says of entries up to number `until`. What it says of later ones is known exactly, but may stand where
    /// an earlier one has been.
    pub(super) fn merge(&mut self, table: &MarkTable, until: u64) {
        for (mark, number) in &table.marks {
            let number = until.min(*number);
            match &mark.place {
                Place::Everything => self.all.add(&coarse(mark.is_hard, number)),
                Place::Name(place) => self.coarse.add(*place, mark.is_hard, number),
                Place::Prefix(prefix) => self.add_prefix(prefix, &coarse(mark.is_hard, number)),
            }
            self.latest = self.latest.max(number);
        }
    }

    /// What the entries since number `fence` say about a response in these groups.
    pub(super) fn judge<'a>(
        &self,
        key: &CacheKey,
        groups: impl IntoIterator<Item = &'a str>,
        fence: u64,
    ) -> Verdict {
        if fence >= self.latest {
            return Verdict::Untouched;
        }
        let mut verdict = self.all.judge(fence, Verdict::Untouched);
        for uri in key.uris() {
            verdict = self.prefixes.judge(uri, fence, verdict);
        }
        let is_coarse = self.coarse.latest > fence;
        let mut judge = |name| {
            if let Some(stamp) = self.recent.get(&name) {
                verdict = stamp.judge(fence, verdict);
            }
            if is_coarse {
                verdict = self.coarse.judge(name, fence, verdict);
            }
        };
        self.names.of_key(key, &mut judge);
        self.names.of_groups(groups, judge);
        verdict
    }

    /// Whether an entry since number `fence` concerns a key.
    pub(super) fn concern(&self, key: &CacheKey, fence: u64, scope: PurgeScope) -> bool {
        let may_be_of_group = self.latest_group > fence || self.coarse.latest > fence;
        match scope {
            PurgeScope::Key => self.judge(key, [], fence) != Verdict::Untouched,
            PurgeScope::KeyOrAnyGroup => may_be_of_group || self.judge(key, [], fence) != Verdict::Untouched,
        }
    }
}
