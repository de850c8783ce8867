//! Counts that many threads add to.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// One thread in so many has the same place as another.
const PLACES: usize = 16;

/// A count in several places, so that threads which add to it at once do not wait for one another's cache line.
#[derive(Debug, Default)]
pub(crate) struct Count([Place; PLACES]);

/// Two lines: a processor may fetch the next one along.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Place(AtomicU64);

thread_local! {
    static OWN: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % PLACES
    };
}

impl Count {
    #[inline]
    pub(crate) fn add(&self, number: u64) {
        let own = OWN.try_with(|own| *own).unwrap_or_default();
        self.0[own].0.fetch_add(number, Ordering::Relaxed);
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(|place| place.0.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_threads_add_is_counted() {
        let count = Count::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * PLACES {
                scope.spawn(|| (0..100).for_each(|_| count.add(2)));
            }
        });
        assert_eq!(count.total(), 2 * 2 * 100 * PLACES as u64);
    }
}
