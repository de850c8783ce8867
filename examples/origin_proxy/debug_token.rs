//! The token of those who look for a fault: the cache reports what it did to them alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use larder::{BoxStore, CacheBuilder};

use crate::store::Handle;

/// The field that shows it.
const DEBUG: HeaderName = HeaderName::from_static("larder-debug");

/// The fewest characters of a token.
const SHORTEST: usize = 16;

/// The token of a file, which can be read again while the proxy runs.
#[derive(Clone)]
pub struct DebugToken {
    file: PathBuf,
    token: Arc<ArcSwap<String>>,
}

impl DebugToken {
    /// The first line of a file.
    ///
    /// # Errors
    ///
    /// One sentence: the file can't be read, or has no token.
    pub fn load(file: PathBuf) -> Result<Self, String> {
        let token = read(&file)?;
        Ok(Self { file, token: Arc::new(ArcSwap::from_pointee(token)) })
    }

    /// The cache that reports to nobody else.
    pub fn limit(&self, cache: CacheBuilder<BoxStore>) -> CacheBuilder<BoxStore> {
        cache.debug_token(&self.token.load())
    }

    /// Reads the file again: from now on, what it has counts. Returns its name.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load). Then nothing has changed.
    pub fn reload(&self, handle: &Handle) -> Result<&Path, String> {
        let token = read(&self.file)?;
        handle.set_debug_token(&token);
        self.token.store(Arc::new(token));
        Ok(&self.file)
    }

    /// Shows the token, for a request of the proxy's own.
    pub fn show(&self, headers: &mut HeaderMap) {
        if let Ok(mut token) = HeaderValue::from_str(&self.token.load()) {
            token.set_sensitive(true);
            headers.insert(DEBUG, token);
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
