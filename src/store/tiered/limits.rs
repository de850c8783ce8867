//! The settings of a tier.

use std::time::Duration;

use crate::store::log::FollowLimits;

/// How two levels work together ([`TieredStore`](super::TieredStore)).
///
/// ```
/// use std::time::Duration;
/// use larder::store::TierLimits;
/// let limits = TierLimits::new().bound(Duration::from_millis(500)).promote_at(2).far_in_background(true);
/// # let _ = limits;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierLimits {
    pub(super) bound: Duration,
    pub(super) far_in_background: bool,
    pub(super) follow: FollowLimits,
    pub(super) near_lifetime: Option<Duration>,
    pub(super) near_object: u64,
    pub(super) promote_at: u32,
}

impl Default for TierLimits {
    fn default() -> Self {
        Self {
            bound: Duration::from_millis(250),
            far_in_background: false,
            follow: FollowLimits::new(),
            near_lifetime: None,
            near_object: u64::MAX,
            promote_at: 1,
        }
    }
}

impl TierLimits {
    /// 250 ms for purges of other nodes; each response goes near, up to what the near store takes.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long the near store may go on answering without having heard from the log; default 250 ms. A purge that has returned
    /// on another node is out of it by then. It has to be longer than a poll ([`FollowLimits::poll`]) and the way of its answer.
    #[must_use]
    pub fn bound(mut self, time: Duration) -> Self {
        self.bound = time;
        self
    }

    /// Puts into the far store in a task, and does not wait for it; default `false`. The last bytes of an answer that is stored do
    /// not wait for the far store then, and other nodes may miss it a little longer. Where other nodes wait for the call, as this node
    /// has its lease ([`CacheBuilder::leases`](crate::CacheBuilder::leases)), it is put far at once all the same.
    #[must_use]
    pub fn far_in_background(mut self, is_in_background: bool) -> Self {
        self.far_in_background = is_in_background;
        self
    }

    /// How the log is followed.
    #[must_use]
    pub fn follow(mut self, limits: FollowLimits) -> Self {
        self.follow = limits;
        self
    }

    /// How long a response may be answered from the near store before the far one is asked again; unlimited by default. It bounds
    /// for how long a node answers with what another one has replaced meanwhile: what is fresh is not purged by that.
    #[must_use]
    pub fn near_lifetime(mut self, time: Duration) -> Self {
        self.near_lifetime = Some(time);
        self
    }

    /// The most bytes of content in one response that are kept near; by default what the near store takes
    /// ([`StoreLimits::max_object`](super::super::StoreLimits::max_object)).
    #[must_use]
    pub fn near_object(mut self, bytes: u64) -> Self {
        self.near_object = bytes;
        self
    }

    /// A key's responses go near when they are found far for that many times; default 1, by which what is new goes near at once.
    /// Keys are counted in 4,096 places, so some are promoted earlier.
    #[must_use]
    pub fn promote_at(mut self, hits: u32) -> Self {
        self.promote_at = hits.max(1);
        self
    }
}
