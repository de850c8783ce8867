//! What was done with one key at one time, and whether one order of it explains what everybody saw.
//!
//! Each write has a version of its own, so it is known which write a look-up has found, and no order has to be guessed. What is
//! checked is what Gibbons and Korach show for such histories ("Testing Shared Memories", 1997): from the first end of anything
//! that was done with a version to the last beginning, that version was there, and nothing else can have been. It takes time in
//! the order of n log n. A look-up that finds nothing says nothing: a store may drop what it wants.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// Numbers by which what ended before something else began can be told: the beginning and the end of an operation.
pub(super) type Span = Range<u64>;

/// Distinguishes the writes of a key.
pub(super) type Version = u64;

/// A response that was put, or a head that was freshened.
#[derive(Clone, Debug)]
pub(super) struct Write {
    /// When its fence was taken.
    pub(super) asked: Span,
    pub(super) is_stored: bool,
    /// What it freshened.
    pub(super) of: Option<Version>,
    pub(super) span: Span,
}

/// A look-up that found something.
#[derive(Clone, Debug)]
pub(super) struct Read {
    /// What the content says of itself, unless that was gone.
    pub(super) content: Option<Version>,
    pub(super) is_expired: bool,
    pub(super) span: Span,
    pub(super) version: Version,
}

#[derive(Clone, Debug)]
pub(super) struct PurgeOfKey {
    pub(super) is_soft: bool,
    pub(super) span: Span,
}

/// All that was done with a key.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) purges: Vec<PurgeOfKey>,
    pub(super) reads: Vec<Read>,
    pub(super) writes: HashMap<Version, Write>,
}

/// What holds of the store, besides that nothing from before a purge is fresh after it.
#[derive(Clone, Copy)]
pub(super) struct Held {
    /// Nothing is expired without a soft purge of it.
    pub(super) exact_purges: bool,
    /// A replacement is seen by everybody once it was made.
    pub(super) replacements: bool,
}

/// When a version was there for certain.
struct Zone {
    /// The first end of anything that was done with it.
    first_end: u64,
    /// The last beginning.
    last_begin: u64,
    version: Version,
}

impl History {
    /// What no order explains, if there is anything.
    pub(super) fn check(&self, held: Held) -> Result<(), String> {
        self.check_that_reads_have_writes()?;
        self.check_that_each_is_freshened_once()?;
        self.check_purges(true)?;
        self.check_purges(false)?;
        if held.exact_purges {
            self.check_that_expired_was_purged()?;
        }
        if held.replacements {
            self.check_order()?;
        }
        Ok(())
    }

    fn check_that_reads_have_writes(&self) -> Result<(), String> {
        for Read { content, span, version, .. } in &self.reads {
            match self.writes.get(version) {
                None => return Err(format!("version {version} is found, which nobody has put")),
                Some(write) if !write.is_stored => {
                    return Err(format!("version {version} is found, which was refused"));
                }
                Some(write) if write.span.start > span.end => {
                    return Err(format!("version {version} is found before it was put"));
                }
                Some(_) if content.is_some_and(|content| content != self.put_as(*version)) => {
                    return Err(format!("version {version} is found with the content of {content:?}"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The version whose content one has that may have been freshened.
    fn put_as(&self, mut version: Version) -> Version {
        // Whoever freshened a version had seen it, so that the numbers get smaller.
        while let Some(of) = self.writes.get(&version).and_then(|write| write.of).filter(|of| *of < version) {
            version = of;
        }
        version
    }

    fn freshenings(&self) -> impl Iterator<Item = (Version, &Write)> {
        self.writes.values().filter(|write| write.is_stored).filter_map(|write| Some((write.of?, write)))
    }

    fn check_that_each_is_freshened_once(&self) -> Result<(), String> {
        let mut freshened = HashMap::new();
        for (of, write) in self.freshenings() {
            if let Some(earlier) = freshened.insert(of, &write.span) {
                return Err(format!("version {of} is freshened twice: in {earlier:?} and {:?}", write.span));
            }
        }
        Ok(())
    }

    /// When each version was seen last: fresh, or at all.
    fn last_seen(&self, only_fresh: bool) -> HashMap<Version, u64> {
        let mut last = HashMap::new();
        let mut see = |version, begin: u64| {
            let seen = last.entry(version).or_default();
            *seen = begin.max(*seen);
        };
        for read in self.reads.iter().filter(|read| !(only_fresh && read.is_expired)) {
            see(read.version, read.span.start);
        }
        if !only_fresh {
            self.freshenings().for_each(|(of, write)| see(of, write.span.start));
        }
        last
    }

    /// No version is seen after a purge that began after its call had begun: neither fresh after a soft one, nor at all after a
    /// hard one.
    fn check_purges(&self, soft: bool) -> Result<(), String> {
        // By their beginnings, the earliest end of all that begin then or later.
        let mut purges: Vec<_> = self.purges.iter().filter(|purge| purge.is_soft == soft).collect();
        purges.sort_by_key(|purge| purge.span.start);
        let mut ends = vec![u64::MAX; purges.len() + 1];
        for (at, purge) in purges.iter().enumerate().rev() {
            ends[at] = purge.span.end.min(ends[at + 1]);
        }
        for (version, seen) in self.last_seen(soft) {
            let Some(write) = self.writes.get(&version) else { continue };
            let later = purges.partition_point(|purge| purge.span.start <= write.asked.end);
            if ends[later] < seen {
                let (kind, how) = if soft { ("soft purge", "fresh") } else { ("purge", "there") };
                return Err(format!(
                    "version {version}, asked for in {:?}, is {how} at {seen}, after a {kind} that ended at {}",
                    write.asked, ends[later]
                ));
            }
        }
        Ok(())
    }

    fn check_that_expired_was_purged(&self) -> Result<(), String> {
        for read in self.reads.iter().filter(|read| read.is_expired) {
            let Some(write) = self.writes.get(&read.version) else { continue };
            let is_purged = self.purges.iter().any(|purge| {
                purge.is_soft && purge.span.end > write.asked.start && purge.span.start < read.span.end
            });
            if !is_purged {
                return Err(format!("version {} is expired, and no soft purge was of it", read.version));
            }
        }
        Ok(())
    }

    /// There is an order of all writes and reads in which each read finds what was written last before it.
    fn check_order(&self) -> Result<(), String> {
        let mut zones: BTreeMap<Version, Zone> = BTreeMap::new();
        let stored = self.writes.iter().filter(|(_, write)| write.is_stored);
        let writes = stored.map(|(version, write)| (*version, &write.span));
        let reads = self.reads.iter().map(|read| (read.version, &read.span));
        let freshenings = self.freshenings().map(|(of, write)| (of, &write.span));
        for (version, span) in writes.chain(reads).chain(freshenings) {
            let zone = zones.entry(version).or_insert(Zone { first_end: u64::MAX, last_begin: 0, version });
            zone.first_end = zone.first_end.min(span.end);
            zone.last_begin = zone.last_begin.max(span.start);
        }
        let (mut lasting, passing): (Vec<_>, Vec<_>) =
            zones.into_values().partition(|zone| zone.first_end < zone.last_begin);
        lasting.sort_by_key(|zone| zone.first_end);
        for pair in lasting.windows(2) {
            if pair[1].first_end < pair[0].last_begin {
                return Err(format!(
                    "versions {} and {} are both there between {} and {}",
                    pair[0].version, pair[1].version, pair[1].first_end, pair[0].last_begin
                ));
            }
        }
        for Zone { first_end, last_begin, version } in passing {
            let before = lasting.partition_point(|zone| zone.first_end < last_begin);
            let around = before.checked_sub(1).map(|at| &lasting[at]);
            if let Some(around) = around.filter(|around| first_end < around.last_begin) {
                return Err(format!(
                    "version {} is there before and after version {version} replaces it, in {last_begin}..{first_end}",
                    around.version
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Held = Held { exact_purges: true, replacements: true };

    #[derive(Clone, Copy)]
    enum Op {
        /// Version, asked for, written.
        Put(Version, (u64, u64), (u64, u64)),
        Refused(Version, (u64, u64), (u64, u64)),
        /// Version, the version that it freshens, asked for, written.
        Freshened(Version, Version, (u64, u64), (u64, u64)),
        Found(Version, (u64, u64)),
        FoundExpired(Version, (u64, u64)),
        Purged((u64, u64)),
        Expired((u64, u64)),
    }

    use Op::{Expired, Found, FoundExpired, Freshened, Purged, Put, Refused};

    fn history(ops: &[Op]) -> History {
        let mut history = History::default();
        let span = |(start, end)| start..end;
        for op in ops {
            let write =
                |asked, at, is_stored, of| Write { asked: span(asked), is_stored, of, span: span(at) };
            match *op {
                Put(version, asked, at) => {
                    history.writes.insert(version, write(asked, at, true, None));
                }
                Refused(version, asked, at) => {
                    history.writes.insert(version, write(asked, at, false, None));
                }
                Freshened(version, of, asked, at) => {
                    history.writes.insert(version, write(asked, at, true, Some(of)));
                }
                Found(version, at) => {
                    history.reads.push(Read { content: None, is_expired: false, span: span(at), version });
                }
                FoundExpired(version, at) => {
                    history.reads.push(Read { content: None, is_expired: true, span: span(at), version });
                }
                Purged(at) => history.purges.push(PurgeOfKey { is_soft: false, span: span(at) }),
                Expired(at) => history.purges.push(PurgeOfKey { is_soft: true, span: span(at) }),
            }
        }
        history
    }

    #[track_caller]
    fn explained(ops: &[Op]) {
        assert_eq!(history(ops).check(ALL), Ok(()));
    }

    #[track_caller]
    fn wrong(ops: &[Op], message: &str) {
        let error = history(ops).check(ALL).expect_err(message);
        assert!(error.contains(message), "{error}");
    }

    const FIRST: Op = Put(1, (0, 1), (2, 3));

    #[test]
    fn what_one_order_explains_is_right() {
        explained(&[]);
        explained(&[FIRST, Found(1, (4, 5)), Put(2, (4, 6), (7, 9)), Found(2, (10, 11))]);
        // While a write goes on, some see it and some do not.
        explained(&[
            FIRST,
            Put(2, (4, 5), (6, 20)),
            Found(2, (7, 12)),
            Found(1, (8, 13)),
            Found(2, (14, 15)),
        ]);
        // A purge that began before the call says nothing of it.
        explained(&[Purged((0, 5)), Put(1, (4, 6), (7, 8)), Found(1, (9, 10))]);
        // While a purge goes on, what it purges may be there.
        explained(&[FIRST, Purged((4, 20)), Found(1, (5, 6)), Found(1, (18, 22))]);
        explained(&[
            FIRST,
            Expired((4, 5)),
            FoundExpired(1, (6, 7)),
            Freshened(2, 1, (8, 9), (10, 11)),
            Found(2, (12, 13)),
        ]);
        explained(&[FIRST, Refused(2, (4, 5), (6, 7)), Found(1, (8, 9))]);
    }

    #[test]
    fn what_nobody_has_put_is_not_found() {
        wrong(&[Found(1, (0, 1))], "nobody has put");
        wrong(&[Refused(1, (0, 1), (2, 3)), Found(1, (4, 5))], "refused");
        wrong(&[Put(1, (0, 1), (6, 7)), Found(1, (4, 5))], "before it was put");
    }

    #[test]
    fn what_was_replaced_does_not_come_back() {
        wrong(&[FIRST, Put(2, (4, 5), (6, 7)), Found(1, (8, 9))], "before and after version 2");
        let back = [FIRST, Put(2, (4, 5), (6, 20)), Found(2, (7, 8)), Found(1, (9, 10)), Found(2, (11, 12))];
        wrong(&back, "both there");
    }

    #[test]
    fn what_was_purged_does_not_come_back() {
        wrong(&[FIRST, Purged((4, 5)), Found(1, (6, 7))], "after a purge that ended at 5");
        // Not even if it is put afterwards.
        wrong(&[Purged((4, 5)), Put(1, (0, 1), (6, 7)), Found(1, (8, 9))], "after a purge");
        wrong(
            &[FIRST, Purged((4, 5)), Freshened(2, 1, (6, 7), (8, 9))],
            "version 1, asked for in 0..1, is there at 8",
        );
        wrong(&[FIRST, Freshened(2, 1, (4, 5), (6, 9)), Purged((7, 8)), Found(2, (10, 11))], "version 2");
        wrong(&[FIRST, Expired((4, 5)), Found(1, (6, 7))], "after a soft purge");
        wrong(&[FIRST, FoundExpired(1, (6, 7))], "no soft purge");
    }

    #[test]
    fn a_head_is_freshened_once() {
        wrong(&[FIRST, Freshened(2, 1, (4, 5), (6, 9)), Freshened(3, 1, (4, 5), (7, 8))], "freshened twice");
    }
}
