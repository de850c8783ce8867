//! The purges of prefixes.

use super::names::is_prefix_of;
use crate::store::stamp::{Stamp, Verdict};

/// How many prefixes are kept apart, in a node's memory and in the table of marks. Beyond that, one counts for its whole host, or
/// for everything if it has no host.
pub(super) const PREFIXES: usize = 1_024;

/// Prefixes of URIs, or of paths, that were purged, the one that was first purged longest ago first.
#[derive(Default)]
pub(super) struct Prefixes(Vec<(Box<[u8]>, Stamp)>);

impl Prefixes {
    /// Adds a purge. What it gives had to make room, and has to be purged by a wider target.
    pub(super) fn add(&mut self, prefix: &[u8], stamp: &Stamp) -> Option<(Box<[u8]>, Stamp)> {
        if let Some((_, known)) = self.0.iter_mut().find(|(known, _)| **known == *prefix) {
            known.add(stamp);
            return None;
        }
        let widened = (self.0.len() >= PREFIXES).then(|| self.0.remove(0));
        self.0.push((prefix.into(), stamp.clone()));
        widened
    }

    /// Whether a prefix that is not known makes another one go.
    pub(super) fn are_full_for(&self, prefix: &[u8]) -> bool {
        self.0.len() >= PREFIXES && !self.0.iter().any(|(known, _)| **known == *prefix)
    }

    pub(super) fn judge(&self, uri: &[u8], fence: u64, so_far: Verdict) -> Verdict {
        let meant = self.0.iter().filter(|(prefix, _)| is_prefix_of(prefix, uri));
        meant.fold(so_far, |verdict, (_, stamp)| stamp.judge(fence, verdict))
    }
}
