//! The options about the store, and which of them go together.

use std::path::PathBuf;
use std::time::Duration;

use larder::store::{InvalidRedisConfig, RedisConfig};

use super::disk::{self, Disk};
use super::shared::Shared;
use super::url::without_password;
use super::{MAX_OBJECT, MEMORY, StoreOptions};
use crate::args::{number, seconds};
use crate::config::Given;
use crate::units::{show_size, size};

/// How long a look-up or a purge in Redis may take.
const DEADLINE: Duration = Duration::from_millis(100);

/// The options as they are given.
#[derive(Default)]
pub struct StoreParts {
    admit_after: Option<u8>,
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

/// After how many requests a response is admitted.
fn requests(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => Err(format!("'{text}' is not a number of requests; it is 1 to {}", u8::MAX)),
    }
}

/// One of the stores, the nearest first.
enum Level {
    Memory,
    Disk(Disk),
    Redis { config: Box<RedisConfig>, url: String },
}

impl Level {
    fn of(given: &Given) -> Result<Self, String> {
        let text = given.text()?;
        if text == "memory" {
            return Ok(Self::Memory);
        }
        if let Some(folder) = text.strip_prefix(disk::PREFIX) {
            return Ok(Self::Disk(Disk::of(folder, given)?));
        }
        match text.parse() {
            Ok(config) => Ok(Self::Redis { config: Box::new(config), url: without_password(text) }),
            // What was given is not repeated: it may have a password.
            Err(InvalidRedisConfig::Scheme(_)) => {
                Err("--store is memory, disk:PATH or disk:PATH,SIZE, or a URL that begins with redis://, \
                redis-sentinel:// or redis-cluster://, or with rediss for TLS"
                    .to_owned())
            }
            Err(error) => Err(format!("--store: {error}")),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk(_) => "disk",
            Self::Redis { .. } => "Redis",
        }
    }

    /// How far away it is.
    fn distance(&self) -> u8 {
        match self {
            Self::Memory => 0,
            Self::Disk(_) => 1,
            Self::Redis { .. } => 2,
        }
    }
}

/// The stores that were named.
#[derive(Default)]
struct Named {
    disk: Option<Disk>,
    has_memory: bool,
    redis: Option<(RedisConfig, String)>,
}

impl Named {
    /// One of each kind at most, the nearest first.
    fn of(levels: Vec<Level>) -> Result<Self, String> {
        for pair in levels.windows(2) {
            let (one, other) = (&pair[0], &pair[1]);
            if one.distance() == other.distance() {
                return Err(match one {
                    Level::Memory => "--store memory is given twice".to_owned(),
                    Level::Disk(_) => "there is one --store disk at most".to_owned(),
                    Level::Redis { .. } => "there is one --store in Redis at most".to_owned(),
                });
            }
            if one.distance() > other.distance() {
                let (near, far) = (other.name(), one.name());
                return Err(format!("--store {near} is nearer than {far}: give it first"));
            }
        }
        let mut named = Self::default();
        for level in levels {
            match level {
                Level::Memory => named.has_memory = true,
                Level::Disk(disk) => named.disk = Some(disk),
                Level::Redis { config, url } => named.redis = Some((*config, url)),
            }
        }
        Ok(named)
    }
}

impl StoreParts {
    /// Takes an option; whether it is one of these.
    pub fn set(&mut self, name: &str, given: &Given) -> Result<bool, String> {
        match name {
            "admit-after" => self.admit_after = Some(requests(given.text()?)?),
            "lease" => self.has_leases = true,
            "max-object" => self.max_object = Some(size(given.text()?)?),
            "memory" => self.memory = Some(size(given.text()?)?),
            "near" => self.near = Some(size(given.text()?)?),
            "snapshot" => self.snapshot = Some(given.path()),
            "store" => self.levels.push(Level::of(given)?),
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
    pub fn options(mut self) -> Result<StoreOptions, String> {
        let Named { disk, has_memory, redis } = Named::of(std::mem::take(&mut self.levels))?;
        if redis.is_none() {
            self.check_alone()?;
        }
        let is_memory_alone = disk.is_none() && redis.is_none();
        self.check_memory(is_memory_alone, disk.is_some())?;
        let memory = if is_memory_alone {
            Some(self.memory.unwrap_or(MEMORY))
        } else {
            self.near.or(has_memory.then_some(MEMORY))
        };
        let max_object =
            self.max_object(memory.filter(|_| is_memory_alone), disk.as_ref(), redis.is_some())?;
        let shared = redis.map(|(config, url)| self.shared(config, url, max_object)).transpose()?;
        Ok(StoreOptions {
            admit_after: self.admit_after,
            disk,
            max_object,
            memory,
            shared,
            snapshot: self.snapshot,
        })
    }

    /// Finds options that mean nothing where no proxies share a store.
    fn check_alone(&self) -> Result<(), String> {
        for (is_given, name, why) in [
            (self.has_leases, "lease", "the proxies share it by that"),
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
        Ok(())
    }

    /// Finds options about memory that are for another place of it.
    fn check_memory(&self, is_alone: bool, has_disk: bool) -> Result<(), String> {
        if is_alone {
            return match self.near {
                Some(_) => {
                    Err("--near goes with a --store on disk or in Redis: it is the memory before that"
                        .to_owned())
                }
                None => Ok(()),
            };
        }
        if self.memory.is_some() {
            return Err(
                "--memory is for --store memory alone; --near says how much of it is before another store"
                    .to_owned(),
            );
        }
        let why = match self.snapshot {
            None => return Ok(()),
            Some(_) if has_disk => "what is on the disk is there after a restart by itself",
            Some(_) => "Redis is there all the time, and knows of purges meanwhile",
        };
        Err(format!("--snapshot is for --store memory alone: {why}"))
    }

    /// The largest object stored, which has to fit into memory where there is nothing else, and onto the disk.
    fn max_object(&self, memory: Option<u64>, disk: Option<&Disk>, has_redis: bool) -> Result<u64, String> {
        if let (Some(size), Some(memory)) = (self.max_object, memory)
            && size > memory
        {
            return Err("--max-object is above --memory, in which the object has to fit".to_owned());
        }
        if let (Some(size), Some(disk)) = (self.max_object, disk)
            && size > disk.most_object()
        {
            let most = show_size(disk.most_object());
            return Err(format!("--max-object is above {most}, the most that --store disk takes of {disk}"));
        }
        let most = memory.or(disk.map(Disk::default_object)).unwrap_or(u64::MAX);
        let is_on_disk_alone = disk.is_some() && !has_redis;
        let usual = if is_on_disk_alone { most } else { MAX_OBJECT.min(most) };
        Ok(self.max_object.unwrap_or(usual))
    }

    fn shared(&mut self, config: RedisConfig, url: String, max_object: u64) -> Result<Shared, String> {
        if self.ca.is_some() && !url.starts_with("rediss") {
            return Err("--store-ca goes with a --store of rediss, which speaks TLS".to_owned());
        }
        let deadline = self.deadline.unwrap_or(DEADLINE);
        let mut config = config.deadline(deadline).max_object(max_object);
        if let Some(namespace) = &self.namespace {
            config = config.namespace(namespace);
        }
        if let Some(replicas) = self.replicas {
            config = config.wait_for_replicas(replicas, deadline);
        }
        let (ca, secret) = (self.ca.take(), self.secret.take());
        Ok(Shared { ca, config, has_leases: self.has_leases, secret, url })
    }
}
