//! Where responses are stored: in memory, in servers that several proxies share, or in one before the other.

use std::hash::Hasher;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use larder::store::{
    InvalidRedisConfig, RedisConfig, RedisLeases, RedisStore, SnapshotCounts, TierLimits, TieredStore,
};
use larder::{BoxStore, CacheHandle, MemoryStore};
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::args::{number, seconds};
use crate::config::Given;
use crate::say::{say, tell};
use crate::store_link::StoreLink;
use crate::tls;
use crate::units::{show_size, size};

/// The handle of the proxy's cache, whichever its store is.
pub type Handle = CacheHandle<BoxStore>;

/// The largest object stored, unless an option says something else.
const MAX_OBJECT: u64 = 8 << 20;
/// Bytes held in memory, unless an option says something else.
const MEMORY: u64 = 256 << 20;
/// The shortest secret.
const SHORTEST: usize = 16;

/// Where responses are stored.
pub struct StoreOptions {
    kind: Kind,
    max_object: u64,
}

enum Kind {
    Memory { capacity: u64, snapshot: Option<PathBuf> },
    Shared(Box<Shared>),
}

/// A store that several proxies share.
struct Shared {
    ca: Option<PathBuf>,
    config: RedisConfig,
    has_leases: bool,
    /// How much memory is before it, if any is.
    near: Option<u64>,
    secret: Option<PathBuf>,
    /// Where it is, without a password.
    url: String,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { kind: Kind::Memory { capacity: MEMORY, snapshot: None }, max_object: MAX_OBJECT }
    }
}

/// The options as they are given.
#[derive(Default)]
pub struct StoreParts {
    ca: Option<PathBuf>,
    deadline: Option<Duration>,
    has_leases: bool,
    levels: Vec<Level>,
    max_object: Option<u64>,
    memory: Option<u64>,
    namespace: Option<String>,
    near: Option<u64>,
    replicas: Option<usize>,
    secret: Option<PathBuf>,
    snapshot: Option<PathBuf>,
}

enum Level {
    Memory,
    Redis { config: Box<RedisConfig>, url: String },
}

impl Level {
    fn of(text: &str) -> Result<Self, String> {
        if text == "memory" {
            return Ok(Self::Memory);
        }
        match text.parse() {
            Ok(config) => Ok(Self::Redis { config: Box::new(config), url: without_password(text) }),
            // What was given is not repeated: it may have a password.
            Err(InvalidRedisConfig::Scheme(_)) => {
                Err("--store is memory, or a URL that begins with redis://, \
                redis-sentinel:// or redis-cluster://, or with rediss for TLS"
                    .to_owned())
            }
            Err(error) => Err(format!("--store: {error}")),
        }
    }
}

impl StoreParts {
    /// Takes an option; whether it is one of these.
    pub fn set(&mut self, name: &str, given: &Given) -> Result<bool, String> {
        match name {
            "lease" => self.has_leases = true,
            "max-object" => self.max_object = Some(size(given.text()?)?),
            "memory" => self.memory = Some(size(given.text()?)?),
            "near" => self.near = Some(size(given.text()?)?),
            "snapshot" => self.snapshot = Some(given.path()),
            "store" => self.levels.push(Level::of(given.text()?)?),
            "store-ca" => self.ca = Some(given.path()),
            "store-deadline" => self.deadline = Some(seconds(given.text()?)?),
            "store-namespace" => self.namespace = Some(given.text()?.to_owned()),
            "store-replicas" => self.replicas = Some(number(given.text()?)?),
            "store-secret-file" => self.secret = Some(given.path()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What all of them together say.
    ///
    /// # Errors
    ///
    /// One sentence: which of them do not go together.
    pub fn options(self) -> Result<StoreOptions, String> {
        let mut levels = self.levels.into_iter();
        let (has_memory, redis) = match (levels.next(), levels.next(), levels.next()) {
            (None, ..) | (Some(Level::Memory), None, _) => (true, None),
            (Some(Level::Redis { config, url }), None, _) => (false, Some((config, url))),
            (Some(Level::Memory), Some(Level::Redis { config, url }), None) => (true, Some((config, url))),
            (Some(Level::Memory), Some(Level::Memory), _) => {
                return Err("--store memory is given twice".to_owned());
            }
            (Some(Level::Redis { .. }), Some(Level::Memory), _) => {
                return Err("--store memory is nearer than Redis: give it first".to_owned());
            }
            _ => return Err("there is one --store in Redis at most".to_owned()),
        };
        let Some((config, url)) = redis else {
            for (is_given, name, why) in [
                (self.has_leases, "lease", "the proxies share it by that"),
                (self.near.is_some(), "near", "it is the memory before that"),
                (self.ca.is_some(), "store-ca", "it is for that"),
                (self.deadline.is_some(), "store-deadline", "it is for that"),
                (self.namespace.is_some(), "store-namespace", "it is for that"),
                (self.replicas.is_some(), "store-replicas", "they are of that"),
                (self.secret.is_some(), "store-secret-file", "it is for that"),
            ] {
                if is_given {
                    return Err(format!("--{name} goes with a --store in Redis: {why}"));
                }
            }
            let capacity = self.memory.unwrap_or(MEMORY);
            if self.max_object.is_some_and(|size| size > capacity) {
                return Err("--max-object is above --memory, in which the object has to fit".to_owned());
            }
            let max_object = self.max_object.unwrap_or(MAX_OBJECT.min(capacity));
            return Ok(StoreOptions { kind: Kind::Memory { capacity, snapshot: self.snapshot }, max_object });
        };
        if self.memory.is_some() {
            return Err(
                "--memory is for --store memory alone; --near says how much of it is before Redis".to_owned()
            );
        }
        if self.snapshot.is_some() {
            return Err("--snapshot is for --store memory alone: Redis is there all the time, and knows of purges meanwhile"
                .to_owned());
        }
        if self.ca.is_some() && !url.starts_with("rediss") {
            return Err("--store-ca goes with a --store of rediss, which speaks TLS".to_owned());
        }
        let max_object = self.max_object.unwrap_or(MAX_OBJECT);
        let deadline = self.deadline.unwrap_or(DEADLINE);
        let mut config = config.deadline(deadline).max_object(max_object);
        if let Some(namespace) = &self.namespace {
            config = config.namespace(namespace);
        }
        if let Some(replicas) = self.replicas {
            config = config.wait_for_replicas(replicas, deadline);
        }
        let near = self.near.or(has_memory.then_some(MEMORY));
        let shared =
            Shared { ca: self.ca, config, has_leases: self.has_leases, near, secret: self.secret, url };
        Ok(StoreOptions { kind: Kind::Shared(Box::new(shared)), max_object })
    }
}

/// How long a look-up or a purge in Redis may take.
const DEADLINE: Duration = Duration::from_millis(100);

/// A store that is ready to be used.
pub struct Opened {
    /// What shares calls with other proxies.
    pub leases: Option<RedisLeases>,
    /// The link to the servers, where there are some.
    pub link: Option<StoreLink>,
    /// What is in memory, to be written down at the end.
    pub snapshot: Option<Snapshot>,
    pub store: BoxStore,
}

/// A file for what is in memory between two processes.
pub struct Snapshot {
    file: PathBuf,
    read: io::Result<SnapshotCounts>,
    store: MemoryStore,
}

impl Snapshot {
    /// Reads what the last process has left.
    fn read(file: &Path, store: &MemoryStore) -> Self {
        Self { file: file.to_owned(), read: store.load_snapshot(file), store: store.clone() }
    }

    /// Says what was read.
    pub fn report(&self) {
        match &self.read {
            Ok(counts) if counts.bytes == 0 => {}
            Ok(counts) => tell(format!("{} responses from {}", counts.responses, self.file.display())),
            Err(error) => say(format!("nothing more from {}: {error}", self.file.display())),
        }
    }

    /// Writes it for the next process.
    pub fn write(&self) {
        match self.store.save_snapshot(&self.file) {
            Ok(counts) => tell(format!("{} responses into {}", counts.responses, self.file.display())),
            Err(error) => say(format!("nothing is kept in {}: {error}", self.file.display())),
        }
    }
}

impl StoreOptions {
    /// Makes the store. Nothing is sent yet, except by memory before Redis, which begins to follow the purges of others.
    ///
    /// # Errors
    ///
    /// One sentence: the options, or the files that they name, make no store.
    pub fn open(&self) -> Result<Opened, String> {
        let memory = |capacity: u64| {
            MemoryStore::builder().capacity(capacity).max_object(self.max_object.min(capacity)).build()
        };
        let shared = match &self.kind {
            Kind::Memory { capacity, snapshot } => {
                let store = memory(*capacity);
                let snapshot = snapshot.as_deref().map(|file| Snapshot::read(file, &store));
                return Ok(Opened { leases: None, link: None, snapshot, store: BoxStore::new(store) });
            }
            Kind::Shared(shared) => shared,
        };
        let redis = shared.redis()?;
        let leases = shared.has_leases.then(|| redis.leases());
        let Some(near) = shared.near else {
            let link = StoreLink::new(redis.clone(), leases.clone(), shared.to_string(), None);
            return Ok(Opened { leases, link: Some(link), snapshot: None, store: BoxStore::new(redis) });
        };
        let tier = TieredStore::following(memory(near), redis.clone(), TierLimits::new());
        let of_near = tier.clone();
        let is_near_open = move || of_near.is_near_open();
        let link = StoreLink::new(redis, leases.clone(), shared.to_string(), Some(Box::new(is_near_open)));
        Ok(Opened { leases, link: Some(link), snapshot: None, store: BoxStore::new(tier) })
    }

    /// Finds out whether a store can be made.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn check(&self) -> Result<(), String> {
        match &self.kind {
            Kind::Memory { .. } => Ok(()),
            Kind::Shared(shared) => shared.redis().map(drop),
        }
    }
}

impl Shared {
    fn redis(&self) -> Result<RedisStore, String> {
        let mut config = self.config.clone().on_advice(|advice| say(format_args!("warning: {advice}")));
        if let Some(file) = &self.secret {
            config = config.secret(secret(file)?);
        }
        if let Some(file) = &self.ca {
            tls::roots("store-ca", file)?;
            let wrong = |error| format!("--store-ca {}: can't be read: {error}", file.display());
            config = config.root_certificates(&std::fs::read(file).map_err(wrong)?);
        }
        RedisStore::new(config).map_err(|error| match error {
            InvalidRedisConfig::Namespace(_) => format!("--store-namespace: {error}"),
            InvalidRedisConfig::Zero("the largest object") => "--max-object is zero".to_owned(),
            _ => format!("--store: {error}"),
        })
    }
}

impl std::fmt::Display for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(near) = self.near {
            write!(f, "{} of memory before ", show_size(near))?;
        }
        f.write_str(&self.url)?;
        f.write_str(if self.has_leases { ", with leases" } else { "" })
    }
}

/// The first line of a file, in the length that the store wants. Whoever knows neither can't find one for the other.
fn secret(file: &Path) -> Result<[u8; 16], String> {
    let wrong = |why: &str| format!("--store-secret-file {}: {why}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&format!("can't be read: {error}")))?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.len() < SHORTEST {
        return Err(wrong("the first line has to be 16 characters or more"));
    }
    let mut hasher = SipHasher24::new();
    hasher.write(line.as_bytes());
    Ok(hasher.finish128().as_bytes())
}

/// A URL as it may be shown.
pub fn without_password(url: &str) -> String {
    let begin = url.find("://").map_or(0, |at| at + 3);
    let Some(end) = url.rfind('@').filter(|end| *end >= begin) else {
        return url.to_owned();
    };
    let account = &url[begin..end];
    let user = account.split_once(':').map_or(account, |(user, _)| user);
    let mask = if user.len() < account.len() { ":***" } else { "" };
    format!("{}{user}{mask}{}", &url[..begin], &url[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, shown) in [
            ("memory", "memory"),
            ("redis://a:1/2", "redis://a:1/2"),
            ("redis://me@a", "redis://me@a"),
            ("redis://me:secret@a", "redis://me:***@a"),
            ("redis://:secret@a", "redis://:***@a"),
            ("redis-cluster://me:se:cr@et@a,b:1", "redis-cluster://me:***@a,b:1"),
            ("redis://me:se/cr@et@a", "redis://me:***@a"),
            ("me:secret@a", "me:***@a"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
