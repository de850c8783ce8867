//! The secret of those who look for a fault: only they are told what the cache did.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use larder::{CacheBuilder, CacheHandle};

/// The field that shows it.
const DEBUG: HeaderName = HeaderName::from_static("larder-debug");

/// The fewest characters of a secret.
const SHORTEST: usize = 16;

/// The secret of a file, which can be read again while the proxy runs.
#[derive(Clone)]
pub struct DebugToken {
    file: PathBuf,
    secret: Arc<ArcSwap<String>>,
}

impl DebugToken {
    /// The first line of a file.
    ///
    /// # Errors
    ///
    /// One sentence: the file can't be read, or has no secret.
    pub fn load(file: PathBuf) -> Result<Self, String> {
        let secret = read(&file)?;
        Ok(Self { file, secret: Arc::new(ArcSwap::from_pointee(secret)) })
    }

    /// The cache that tells nobody else.
    pub fn limit(&self, cache: CacheBuilder) -> CacheBuilder {
        cache.debug_token(&self.secret.load())
    }

    /// Reads the file again: from now on, what it has counts. Returns its name.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load). Then nothing has changed.
    pub fn reload(&self, handle: &CacheHandle) -> Result<&Path, String> {
        let secret = read(&self.file)?;
        handle.set_debug_token(&secret);
        self.secret.store(Arc::new(secret));
        Ok(&self.file)
    }

    /// Shows the secret, for a request of the proxy's own.
    pub fn show(&self, headers: &mut HeaderMap) {
        if let Ok(mut secret) = HeaderValue::from_str(&self.secret.load()) {
            secret.set_sensitive(true);
            headers.insert(DEBUG, secret);
        }
    }
}

fn read(file: &Path) -> Result<String, String> {
    let wrong = |why: &str| format!("--debug-token-file {}: {why}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&format!("can't be read: {error}")))?;
    let token = text.lines().next().unwrap_or_default().trim();
    match token.len() >= SHORTEST && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(token.to_owned()),
        false => Err(wrong("the first line has to be 16 or more letters, digits and signs")),
    }
}
