//! Purges that are in a log of this process, and do not count in both levels yet.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::runtime::{Mutex, lock};
use crate::store::Fence;

/// The fences before purges that are under way, the oldest purge first.
///
/// What is found while a purge is under way may be what it is to remove. Whoever gets it gets a fence from before that purge, and
/// can't store it again.
#[derive(Default)]
pub(super) struct PurgesUnderWay {
    count: AtomicUsize,
    fences: Mutex<Vec<Fence>>,
}

impl PurgesUnderWay {
    /// Costs a hit one look.
    pub(super) fn are_none(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// The fence before the oldest one.
    pub(super) fn first(&self) -> Option<Fence> {
        if self.are_none() {
            return None;
        }
        lock(&self.fences).first().copied()
    }
}

/// A purge that is under way until this is dropped.
pub(super) struct UnderWay<'a> {
    before: Fence,
    purges: &'a PurgesUnderWay,
}

impl<'a> UnderWay<'a> {
    pub(super) fn new(purges: &'a PurgesUnderWay, before: Fence) -> Self {
        lock(&purges.fences).push(before);
        purges.count.fetch_add(1, Ordering::SeqCst);
        Self { before, purges }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut fences = lock(&self.purges.fences);
        if let Some(at) = fences.iter().position(|fence| *fence == self.before) {
            fences.remove(at);
        }
        self.purges.count.fetch_sub(1, Ordering::SeqCst);
    }
}
