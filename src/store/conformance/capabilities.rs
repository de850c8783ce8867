//! What a store promises.

use std::time::Duration;

/// What a store promises. Rules about what it does not promise are not run, or wait as long as it may take.
///
/// ```
/// use larder::store::conformance::Capabilities;
/// use std::time::Duration;
/// // A near tier in memory, in front of a store that all nodes share.
/// let tiered = Capabilities::all().staleness(Duration::from_millis(250)).shared_replacements(false);
/// # let _ = tiered;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// What was stored before both nodes closed the store is there when they open it again.
    pub durable: bool,
    /// Fences from before both nodes closed the store judge when they open it again, and the numbers of purges go on. A store that one
    /// process has to itself need not promise that: no result that is on its way outlives the process.
    pub durable_fences: bool,
    /// What a write answers takes account of purges by other nodes. Without that, it may answer
    /// [`PutOutcome::Stored`](crate::store::PutOutcome::Stored) to what one of them has made go or go stale: it is never found, or
    /// found as stale, all the same.
    pub exact_outcomes: bool,
    /// Of how many purges of prefixes the store knows exactly what they named; default all. An older one may hit more.
    pub exact_prefixes: usize,
    /// A purge hits nothing but what its target names. A store that keeps coarse stamps of purges may hit more.
    pub exact_purges: bool,
    /// The store reads no clock: it drops nothing because time has passed. The rule for one that does takes three seconds.
    pub reads_no_clock: bool,
    /// What one node writes in the place of another response, the others find instead of that. A tier near to its node may give
    /// the other response until something makes that go.
    pub shared_replacements: bool,
    /// How long a node may go on to find what another node has purged or replaced, and not find what that has put. Zero for a
    /// store all of whose nodes see the same at all times. A node sees its own purges and writes at once.
    pub staleness: Duration,
    /// [`Store::statistics`](crate::store::Store::statistics) counts what is held.
    pub statistics: bool,
}

impl Capabilities {
    /// Everything.
    pub fn all() -> Self {
        Self {
            durable: true,
            durable_fences: true,
            exact_outcomes: true,
            exact_prefixes: usize::MAX,
            exact_purges: true,
            reads_no_clock: true,
            shared_replacements: true,
            staleness: Duration::ZERO,
            statistics: true,
        }
    }

    /// Sets [`Capabilities::durable`].
    #[must_use]
    pub fn durable(mut self, is_durable: bool) -> Self {
        self.durable = is_durable;
        self
    }

    /// Sets [`Capabilities::durable_fences`].
    #[must_use]
    pub fn durable_fences(mut self, are_durable: bool) -> Self {
        self.durable_fences = are_durable;
        self
    }

    /// Sets [`Capabilities::exact_outcomes`].
    #[must_use]
    pub fn exact_outcomes(mut self, are_exact: bool) -> Self {
        self.exact_outcomes = are_exact;
        self
    }

    /// Sets [`Capabilities::exact_prefixes`].
    #[must_use]
    pub fn exact_prefixes(mut self, count: usize) -> Self {
        self.exact_prefixes = count;
        self
    }

    /// Sets [`Capabilities::exact_purges`].
    #[must_use]
    pub fn exact_purges(mut self, are_exact: bool) -> Self {
        self.exact_purges = are_exact;
        self
    }

    /// Sets [`Capabilities::reads_no_clock`].
    #[must_use]
    pub fn reads_no_clock(mut self, reads_none: bool) -> Self {
        self.reads_no_clock = reads_none;
        self
    }

    /// Sets [`Capabilities::shared_replacements`].
    #[must_use]
    pub fn shared_replacements(mut self, are_shared: bool) -> Self {
        self.shared_replacements = are_shared;
        self
    }

    /// Sets [`Capabilities::staleness`].
    #[must_use]
    pub fn staleness(mut self, bound: Duration) -> Self {
        self.staleness = bound;
        self
    }

    /// Sets [`Capabilities::statistics`].
    #[must_use]
    pub fn statistics(mut self, are_kept: bool) -> Self {
        self.statistics = are_kept;
        self
    }
}
