//! What a purge that has taken effect leaves in the hand of whoever asked for it.

use std::fmt;

use super::{PurgeMode, PurgeTarget};

/// The number of a purge in its store. Each purge has its own; of two purges, the one that began when the other had taken effect
/// has the greater one.
///
/// A store in memory counts from 1 in each process, and all layers over it share its numbers. A store with a log of its own gives
/// the number of that log, by which all nodes know the purge. 0, the default, is the number of no purge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PurgeNumber(u64);

impl PurgeNumber {
    /// A number from a store's own count, which starts at 1.
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// What [`PurgeNumber::new`] was given.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for PurgeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A purge that has taken effect: whoever has the receipt gets nothing any more that the purge has named, and neither does anybody
/// who asks from now on. [`Event::Invalidated`](crate::Event::Invalidated) reports the same targets and number.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use larder::CacheLayer;
/// use larder::store::{PurgeMode, PurgeTarget};
///
/// let handle = CacheLayer::default().handle();
/// let receipt = handle.purge_target(&PurgeTarget::host("Example.com")).await?;
/// assert_eq!(receipt.targets, [PurgeTarget::host("example.com")]); // as keys spell it
/// assert_eq!(receipt.mode, PurgeMode::Remove);
/// let again = handle.purge_target(&PurgeTarget::host("Example.com")).await?;
/// assert!(again.number > receipt.number); // a purge of its own, which changes nothing
/// # Ok::<(), larder::PurgeError>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PurgeReceipt {
    /// What was done with what the targets name.
    pub mode: PurgeMode,
    /// The number of the purge; the default one where there was no target, so that nothing was purged.
    pub number: PurgeNumber,
    /// What was purged, as keys spell it: what was named, and the other spellings under which the policy stores it.
    pub targets: Vec<PurgeTarget>,
}
