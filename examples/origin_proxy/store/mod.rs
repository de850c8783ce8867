//! Where responses are stored: in memory, in a folder, in servers that several proxies share, or in some of these, the nearest
//! first.

mod disk;
mod parts;
mod shared;
mod snapshot;
mod url;

use std::path::PathBuf;
use std::time::Duration;

use larder::policy::Admission;
use larder::store::{DiskStore, RedisLeases, RedisStore, TierLimits, TieredStore};
use larder::{BoxStore, CacheHandle, FillStatistics, MemoryStore, Store};
use tokio::time::{sleep, timeout};

use self::disk::Disk;
pub use self::disk::metrics as disk_metrics;
pub use self::parts::StoreParts;
use self::shared::Shared;
pub use self::snapshot::Snapshot;
pub use self::url::without_password;
use crate::say::tell;
use crate::store_link::StoreLink;
use crate::units::show_size;

/// The handle of the proxy's cache, whichever its store is.
pub type Handle = CacheHandle<BoxStore>;

/// The largest object stored, unless an option says something else.
const MAX_OBJECT: u64 = 8 << 20;
/// Bytes held in memory, unless an option says something else.
const MEMORY: u64 = 256 << 20;
/// How long a request counts for the admission of its response, and among how many keys.
const DAY: Duration = Duration::from_secs(86_400);
const ADMITTED: u32 = 1 << 19;
/// How long the last responses may take to be stored when the process ends, and how often it is looked whether they are.
const LAST: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(5);

/// Where responses are stored: in one of these places at least.
pub struct StoreOptions {
    /// After how many requests a response is admitted, to what is behind memory if there is some.
    admit_after: Option<u8>,
    disk: Option<Disk>,
    max_object: u64,
    /// How much memory there is, alone or before other places.
    memory: Option<u64>,
    shared: Option<Shared>,
    /// Of memory alone.
    snapshot: Option<PathBuf>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            admit_after: None,
            disk: None,
            max_object: MAX_OBJECT,
            memory: Some(MEMORY),
            shared: None,
            snapshot: None,
        }
    }
}

/// A store that is ready to be used.
pub struct Opened {
    pub kept: Kept,
    /// What shares calls with other proxies.
    pub leases: Option<RedisLeases>,
    pub store: BoxStore,
}

/// What of a store is looked after until the process ends.
#[derive(Default)]
pub struct Kept {
    /// The folder, where there is one.
    pub disk: Option<DiskStore>,
    /// The link to the servers, where there are some.
    pub link: Option<StoreLink>,
    /// Where responses are, as it may be shown; `None` for memory alone.
    name: Option<String>,
    /// What is in memory, to be written down at the end.
    snapshot: Option<Snapshot>,
}

impl StoreOptions {
    /// Makes the store. Nothing is sent yet, except by what is before Redis, which begins to follow the purges of others.
    ///
    /// # Errors
    ///
    /// One sentence: the options, or the files and folders that they name, make no store.
    pub async fn open(&self) -> Result<Opened, String> {
        let memory = self.memory.map(|bytes| {
            MemoryStore::builder().capacity(bytes).max_object(self.max_object.min(bytes)).build()
        });
        let snapshot = self.snapshot.as_deref().zip(memory.as_ref());
        let snapshot = snapshot.map(|(file, memory)| Snapshot::read(file, memory));
        // Servers are not asked yet, a folder is taken.
        let redis = self.shared.as_ref().map(Shared::open).transpose()?;
        let disk = match &self.disk {
            Some(disk) => Some(disk.open(self.max_object).await?),
            None => None,
        };
        let has_leases = self.shared.as_ref().is_some_and(|shared| shared.has_leases);
        let leases = redis.as_ref().filter(|_| has_leases).map(|redis| redis.leases());
        // What is found in Redis comes onto the disk by the same rule.
        let promote_at = self.admit_after.filter(|_| disk.is_some()).unwrap_or(1);
        let (limits, shared_limits) = (TierLimits::new(), TierLimits::new().promote_at(promote_at.into()));
        let mut is_near_open = None;
        let store = match (memory, disk.clone(), redis.clone()) {
            (None, None, None) => return Err("there is no place to store responses in".to_owned()),
            (Some(memory), None, None) => BoxStore::new(memory),
            (None, Some(disk), None) => BoxStore::new(disk),
            (None, None, Some(redis)) => BoxStore::new(redis),
            (Some(memory), Some(disk), None) => BoxStore::new(TieredStore::new(memory, disk, limits)),
            (Some(memory), None, Some(redis)) => {
                tier_of(TieredStore::following(memory, redis, shared_limits), &mut is_near_open)
            }
            (None, Some(disk), Some(redis)) => {
                tier_of(TieredStore::following(disk, redis, shared_limits), &mut is_near_open)
            }
            (Some(memory), Some(disk), Some(redis)) => {
                let near = TieredStore::new(memory, disk, limits);
                tier_of(TieredStore::following(near, redis, shared_limits), &mut is_near_open)
            }
        };
        let name = self.to_string();
        let link = redis.map(|redis| StoreLink::new(redis, leases.clone(), name.clone(), is_near_open));
        let is_memory_alone = self.disk.is_none() && self.shared.is_none();
        let name = (!is_memory_alone).then_some(name);
        Ok(Opened { kept: Kept { disk, link, name, snapshot }, leases, store })
    }

    /// When a response is stored, or leaves memory for what is behind it.
    pub fn admission(&self) -> Option<Admission> {
        let admission = Admission::after(self.admit_after?).within(DAY).keys(ADMITTED);
        let is_memory_first = self.memory.is_some() && (self.disk.is_some() || self.shared.is_some());
        Some(if is_memory_first { admission.near_at_once() } else { admission })
    }

    /// The largest object stored.
    pub fn max_object(&self) -> u64 {
        self.max_object
    }

    /// Finds out whether a store can be made.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open), as far as it can be known without taking anything from a proxy that runs.
    pub fn check(&self) -> Result<(), String> {
        self.disk.as_ref().map(Disk::check).transpose()?;
        self.shared.as_ref().map(Shared::open).transpose()?;
        Ok(())
    }
}

/// Whether what is before the servers answers.
pub type IsNearOpen = Box<dyn Fn() -> bool + Send + Sync>;

/// A store before servers, and how to find out whether the near one answers.
fn tier_of<N: Store>(tier: TieredStore<N, RedisStore>, is_near_open: &mut Option<IsNearOpen>) -> BoxStore {
    let of_near = tier.clone();
    *is_near_open = Some(Box::new(move || of_near.is_near_open()));
    BoxStore::new(tier)
}

/// The nearest place first.
impl std::fmt::Display for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let memory = self.memory.map(|bytes| format!("{} of memory", show_size(bytes)));
        let disk = self.disk.as_ref().map(ToString::to_string);
        let shared = self.shared.as_ref().map(ToString::to_string);
        let places: Vec<_> = memory.into_iter().chain(disk).chain(shared).collect();
        f.write_str(&places.join(" before "))
    }
}

impl Kept {
    /// Says where responses are stored, and what of them is there already.
    pub fn report(&self) {
        if let Some(snapshot) = &self.snapshot {
            snapshot.report();
        }
        if let Some(name) = &self.name {
            tell(format_args!("stored in {name}"));
        }
        if let Some(link) = &self.link {
            link.watch();
        }
    }

    /// Lets the last responses be stored, and closes what is to be closed, after the last request.
    pub async fn end(self, fills: impl Fn() -> FillStatistics) {
        let Self { disk, link, snapshot, .. } = self;
        let is_waited_for = disk.is_some() || link.as_ref().is_some_and(StoreLink::is_well);
        if is_waited_for {
            let stored = async {
                while fills().fills > 0 {
                    sleep(STEP).await;
                }
                if let Some(link) = &link {
                    link.give_leases_back().await;
                }
            };
            _ = timeout(LAST, stored).await;
        }
        if let Some(link) = link {
            link.say_what_is_lost();
        }
        if let Some(disk) = disk {
            disk.close().await;
        }
        if let Some(snapshot) = snapshot {
            snapshot.write();
        }
    }
}
