//! A store that several proxies share.

use std::hash::Hasher;
use std::path::{Path, PathBuf};

use larder::store::{InvalidRedisConfig, RedisConfig, RedisStore};
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::say::say;
use crate::tls;

/// The shortest secret.
const SHORTEST: usize = 16;

/// A store that several proxies share.
pub struct Shared {
    pub ca: Option<PathBuf>,
    pub config: RedisConfig,
    pub has_leases: bool,
    pub secret: Option<PathBuf>,
    /// Where it is, without a password.
    pub url: String,
}

impl Shared {
    /// Makes the store. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// One sentence: the options, or the files that they name, make no store.
    pub fn open(&self) -> Result<RedisStore, String> {
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
