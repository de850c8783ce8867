//! Stored responses in Redis or Valkey: one server, a primary with Sentinel, or a Cluster.
//!
//! Each key has a record (`record`), which is judged when it is read by the purges since its fence (`log`). What is purged and what is
//! stored need no common step, so records may lie on any node of a Cluster.
//!
//! | file | what |
//! |---|---|
//! | `config.rs`, `advice.rs` | settings; risks in how the servers are set up |
//! | `clocks.rs` | how far the clock of this node is from that of the servers |
//! | `connect.rs`, `channel.rs`, `link.rs` | connections; one that is kept up; deadlines and the breaker |
//! | `scripts.rs`, `log_scripts.rs`, `log.rs` | scripts; those of the log of purges, and its layout; the log |
//! | `batches.rs`, `counter.rs` | purges, sent together; the state of the log, read once for all who ask |
//! | `content.rs`, `writer.rs` | content in chunks, and on its way into them |
//! | `gets.rs`, `inner.rs` | look-ups that are sent together; records: read, judged, written |
//! | `leases.rs` | one call for all nodes |

mod advice;
mod batches;
mod channel;
mod clocks;
mod config;
mod connect;
mod content;
mod counter;
mod error;
mod gets;
mod inner;
mod leases;
mod link;
mod log;
mod log_scripts;
mod scripts;
mod writer;

use std::fmt;
use std::sync::{Arc, Weak};

pub use self::advice::RedisAdvice;
pub use self::config::{InvalidRedisConfig, RedisConfig};
use self::error::LinkError;
use self::inner::{Inner, Replaces};
use self::leases::Desk;
pub use self::leases::RedisLeases;
use self::link::Unsent;
pub use self::log::RedisLog;
use self::writer::Writer;
use super::log::{Followed, Replica, Verdict};
use super::{
    BeginOutcome, Expected, Fence, Lookup, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget, PutOutcome,
    Store, StoreLimits, StoreStatistics, StoredBody, StoredId,
};
use crate::entry::key::CacheKey;
use crate::entry::{RemoteContent, ResponseHead, StoredResponse};
use crate::error::StoreError;
use crate::runtime::{Deadline, lock};
use crate::semantics::range::ByteRange;

/// Keeps responses in Redis or Valkey: one server, a primary with Sentinel, or a Cluster.
///
/// Nodes with stores of one namespace share everything: what one node has stored, the others serve, and what one node has purged, no
/// other one gives from then on. A purge costs one script whatever it hits. A hit costs one round trip: the record of its key, and with it
/// the number of the last purge. Look-ups of one moment are one command, except in a Cluster, where they share the second one.
///
/// Connections are made when they are needed. Calls have deadlines ([`RedisConfig::deadline`]), and a server that hangs or is gone is
/// left alone after eight failures, until it answers a probe: requests go to the origin meanwhile. A purge that may not have
/// arrived is an error, and is made again when the server answers, before anything is read.
///
/// docs/FLEET.md says what to set up, and what is promised. Clones share one store.
///
/// ```
/// use larder::CacheLayer;
/// use larder::store::{RedisConfig, RedisStore};
/// let config: RedisConfig = "redis://127.0.0.1:6379".parse()?;
/// let layer = CacheLayer::new(RedisStore::new(config.namespace("shop"))?);
/// # let _ = layer;
/// # Ok::<(), larder::store::InvalidRedisConfig>(())
/// ```
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

/// What a [`RedisStore`] has done, and whether it uses its servers now: [`RedisStore::health`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisHealth {
    /// How many commands were sent, since the store was made.
    pub commands: u64,
    /// How many connections were made.
    pub connections: u64,
    /// Whether the servers are left alone for a moment, because they have failed too often of late.
    pub is_open: bool,
    /// How many purges may not have arrived, and are made again when the servers answer.
    pub purges_to_repeat: usize,
}

impl RedisStore {
    /// A store with these settings. It connects when it is needed.
    ///
    /// # Errors
    ///
    /// Where the settings make no store: [`InvalidRedisConfig`] says which.
    pub fn new(config: RedisConfig) -> Result<Self, InvalidRedisConfig> {
        let inner = Arc::new(Inner::new(config)?);
        let weak = Arc::downgrade(&inner);
        inner.link.set_resend(Box::new(move || Box::pin(resend(weak.clone()))));
        Ok(Self(inner))
    }

    /// Leases in the same servers and namespace, for [`CacheBuilder::leases`](crate::CacheBuilder::leases).
    ///
    /// ```
    /// use larder::CacheLayer;
    /// use larder::store::RedisStore;
    /// let store = RedisStore::new("redis://127.0.0.1:6379".parse()?)?;
    /// let leases = store.leases();
    /// let layer = CacheLayer::builder(store).leases(leases).build();
    /// # let _ = layer;
    /// # Ok::<(), larder::store::InvalidRedisConfig>(())
    /// ```
    pub fn leases(&self) -> RedisLeases {
        let mut known = lock(&self.0.desk);
        let desk = known.upgrade().unwrap_or_else(|| {
            let desk = Arc::new(Desk::new(Arc::clone(&self.0)));
            *known = Arc::downgrade(&desk);
            desk
        });
        RedisLeases::new(desk)
    }

    /// What it has done, and whether it uses the servers now.
    pub fn health(&self) -> RedisHealth {
        let Inner { link, replica, .. } = &*self.0;
        RedisHealth {
            commands: link.sent(),
            connections: link.made(),
            is_open: link.is_open(),
            purges_to_repeat: replica.unsure(),
        }
    }
}

/// Makes the purges that may not have arrived.
async fn resend(inner: Weak<Inner>) -> Result<(), Unsent> {
    match inner.upgrade() {
        Some(inner) => {
            let sent = inner.replica.catch_up(&inner.log.anyway()).await;
            sent.map_err(|error| LinkError::of_store(&error).into())
        }
        None => Ok(()),
    }
}

/// The fence of a look-up that has failed stands before all purges: nothing is stored under it, so nothing need be asked.
fn says_nothing(fence: Fence) -> bool {
    fence == Fence::default()
}

impl RedisStore {
    /// A deadline around all steps of a read, so that a request loses no more than that.
    async fn in_time<T>(
        &self,
        action: &'static str,
        read: impl Future<Output = Result<T, LinkError>>,
    ) -> Result<T, StoreError> {
        let limit = self.0.config.deadline;
        let ended = match Deadline::new(limit).in_time(read).await {
            Some(ended) => ended,
            None => Err(self.0.link.was_slow(limit)),
        };
        ended.map_err(|error| error.to(action))
    }

    /// Content that does not fit into the record goes into chunks first.
    async fn put_whole(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, LinkError> {
        let Inner { config, counter, replica, .. } = &*self.0;
        let payload = response.payload();
        if payload.len() > config.max_object {
            return Ok(PutOutcome::TooLarge);
        }
        if says_nothing(fence) {
            return Ok(PutOutcome::Superseded);
        }
        // What another store keeps elsewhere is for that one to open.
        if payload.is_remote() || payload.len() <= config.inline {
            return self.0.write(key, response, fence, &Replaces::SameSelection).await;
        }
        // Nothing is sent that is refused anyway.
        self.0.catch_up(counter.read()).await?;
        if replica.judge(key, &response, fence) == Verdict::Removed {
            return Ok(PutOutcome::Superseded);
        }
        let mut writer = Writer::new(&self.0, key, fence);
        for piece in payload.pieces().into_iter().flatten() {
            writer.add(piece).await?;
        }
        writer.store(response.head().clone(), payload.trailers().cloned()).await
    }
}

/// Futures are boxed: those of a request have those of its store in them, and these are large.
impl Store for RedisStore {
    /// It has to be waited for.
    fn try_get(&self, _: &CacheKey) -> Option<Lookup> {
        None
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        self.in_time("look up", Box::pin(self.0.look_up(key))).await
    }

    async fn open(
        &self,
        key: &CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        let opened = Box::pin(self.0.contents(key).open(content, range)).await;
        opened.map(|body| body.map(StoredBody::new)).map_err(|error| error.to("open content"))
    }

    /// It forgets no purge.
    fn expect(&self, _: &CacheKey) -> Expected {
        Expected::default()
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        let whole = Box::pin(self.put_whole(key, response, fence));
        self.0.content_deadline().in_time(whole).await.map_err(|error| error.to("put"))
    }

    async fn begin(
        &self,
        key: &CacheKey,
        expected_length: Option<u64>,
        fence: Fence,
    ) -> Result<BeginOutcome, StoreError> {
        let Inner { config, replica, .. } = &*self.0;
        if expected_length.is_some_and(|length| length > config.max_object) {
            return Ok(BeginOutcome::Refused(PutOutcome::TooLarge));
        }
        // As far as this node knows, to which the default fence says nothing: what else was purged is found when it is committed.
        if replica.concerns(key, fence, PurgeScope::Key) {
            return Ok(BeginOutcome::Refused(PutOutcome::Superseded));
        }
        Ok(BeginOutcome::Writer(Box::new(Writer::new(&self.0, key, fence))))
    }

    async fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        if says_nothing(fence) {
            return Ok(PutOutcome::Superseded);
        }
        let whole = Box::pin(self.0.freshen(key, of, head, fence));
        self.0.content_deadline().in_time(whole).await.map_err(|error| error.to("freshen"))
    }

    async fn purged_since(
        &self,
        key: &CacheKey,
        since: Fence,
        scope: PurgeScope,
    ) -> Result<bool, StoreError> {
        if says_nothing(since) {
            return Ok(true);
        }
        let noted = self.in_time("look for purges", Box::pin(self.0.is_noted(key, since))).await?;
        Ok(noted || self.0.replica.concerns(key, since, scope))
    }

    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<PurgeNumber, StoreError> {
        Box::pin(self.0.replica.purge_announced(&self.0.log, targets, mode)).await
    }

    fn limits(&self) -> StoreLimits {
        let RedisConfig { max_object, max_variants, .. } = self.0.config;
        let limits = StoreLimits::new().max_object(max_object).max_variants(max_variants);
        limits.is_guarded(true).takes_streams(true).waits(true)
    }

    /// It would have to ask.
    fn statistics(&self) -> StoreStatistics {
        StoreStatistics::default()
    }
}

impl Followed for RedisStore {
    type Log = RedisLog;

    fn log(&self) -> Arc<RedisLog> {
        Arc::new(self.0.log.with_own_polls())
    }

    fn has_lease(&self, key: &CacheKey) -> bool {
        self.0.tokens.of(key) != 0
    }

    fn replica(&self) -> &Arc<Replica> {
        &self.0.replica
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("config", &self.0.config)
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}
