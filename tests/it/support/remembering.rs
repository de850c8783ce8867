//! A store that forgets no purge, as remote ones do: it is told of nothing that is on its way.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use larder::store::{Expected, Lookup, Store};
use larder::{CacheKey, StoreError};

use super::forward::forward;
use super::seed;

/// [`Expected::default`] for some keys. For each of these it keeps what the store inside expects, and gives the fence of that
/// with what it finds.
pub struct Remembering<S> {
    expected: Mutex<Vec<Expected>>,
    /// For half of the keys, by this seed; for all without.
    seed: Option<u64>,
    store: Arc<S>,
}

impl<S: Store> Remembering<S> {
    /// For all keys.
    pub fn of(store: S) -> Self {
        Self { expected: Mutex::default(), seed: None, store: Arc::new(store) }
    }

    /// For half of the keys, by the seed in `LARDER_SEED`.
    pub fn half_of(store: S) -> Self {
        Self { seed: Some(seed()), ..Self::of(store) }
    }

    fn remembers(&self, key: &CacheKey) -> bool {
        self.seed.is_none_or(|seed| {
            let mut hasher = DefaultHasher::new();
            (seed, key.as_bytes()).hash(&mut hasher);
            hasher.finish().is_multiple_of(2)
        })
    }

    /// From now on no purge of a key is forgotten.
    fn remember(&self, key: &CacheKey) -> Option<Expected> {
        let expected = self.remembers(key).then(|| self.store.expect(key))?;
        self.expected.lock().unwrap().push(expected.clone());
        Some(expected)
    }
}

fn under(found: Lookup, expected: Option<Expected>) -> Lookup {
    let fence = expected.and_then(|expected| expected.fence());
    Lookup::new(fence.unwrap_or(found.fence), found.variants)
}

impl<S: Store> Store for Remembering<S> {
    forward!(store: open, put, begin, freshen, purged_since, invalidate, limits, statistics);

    fn try_get(&self, key: &CacheKey) -> Option<Lookup> {
        let expected = self.remember(key);
        Some(under(self.store.try_get(key)?, expected))
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        let expected = self.remember(key);
        Ok(under(self.store.get(key).await?, expected))
    }

    fn expect(&self, key: &CacheKey) -> Expected {
        if self.remembers(key) { Expected::default() } else { self.store.expect(key) }
    }
}
