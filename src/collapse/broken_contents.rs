//! Stored contents that have broken off: nobody is given them again.
//!
//! A store that has found out what is wrong may have removed them. One that has not would have each answer break off at the same place.

use std::time::{Duration, SystemTime};

use quick_cache::sync::Cache;

use super::key_memory::Lasting;
use crate::entry::RemoteContent;
use crate::entry::key::{CacheKey, KeyNames};

/// How many contents are remembered; the least used are forgotten.
const MOST: usize = 4_096;
/// By then, the content was replaced, or may have been well.
const LASTING: Duration = Duration::from_secs(600);

/// A bounded memory of contents.
pub(crate) struct BrokenContents {
    contents: Cache<BrokenContent, Lasting>,
    names: KeyNames,
}

/// One content under one key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BrokenContent {
    id: u128,
    key: u128,
}

impl Default for BrokenContents {
    fn default() -> Self {
        Self { contents: Cache::new(MOST), names: KeyNames::default() }
    }
}

impl BrokenContents {
    pub(crate) fn name(&self, key: &CacheKey, content: RemoteContent) -> BrokenContent {
        BrokenContent { id: content.id, key: self.names.of(key) }
    }

    pub(crate) fn remember(&self, content: BrokenContent, now: SystemTime) {
        self.contents.insert(content, Lasting { span: LASTING, until: now + LASTING });
    }

    pub(crate) fn has(&self, content: BrokenContent, now: impl FnOnce() -> SystemTime) -> bool {
        // It is empty most of the time.
        !self.contents.is_empty() && self.contents.get(&content).is_some_and(|lasting| lasting.has(now()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn content_is_remembered_by_its_key_for_ten_minutes() {
        let memory = BrokenContents::default();
        let key = |path: &'static str| CacheKey::from_uri(&http::Uri::from_static(path)).expect("a key");
        let name = |path, id| memory.name(&key(path), RemoteContent::new(id, 1));
        memory.remember(name("http://a/1", 1), UNIX_EPOCH);
        for (name, seconds, expected) in [
            (name("http://a/1", 1), 0, true),
            (name("http://a/1", 1), 599, true),
            (name("http://a/1", 1), 600, false),
            (name("http://a/1", 2), 0, false),
            (name("http://a/2", 1), 0, false),
        ] {
            assert_eq!(memory.has(name, || UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}
