//! `X-Cache` and its company: what caches sent before there was `Cache-Status`.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use quick_cache::sync::Cache;

use crate::entry::key::{CacheKey, KeyNames};
use crate::semantics::cache_status::{Outcome, Word};

pub(super) const X_CACHE_HITS: HeaderName = HeaderName::from_static("x-cache-hits");
pub(super) const X_SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");

/// In which form answers have an `X-Cache`. `true` is CloudFront's.
///
/// ```
/// use larder::{CacheBuilder, XCache};
/// let layer = CacheBuilder::default().name("edge-1").x_cache(XCache::Fastly).build();
/// # let _ = layer;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum XCache {
    /// CloudFront's: `X-Cache: Hit from larder`, `Miss`, `RefreshHit` (validated) or `Error` (a status of 400 and above). It replaces
    /// what a cache nearer to the origin has sent.
    CloudFront,
    /// Fastly's: lists to which each cache on the way adds a member, the nearest to the client last. `X-Cache` is `HIT` or
    /// `MISS`, which is also said of what passes and of what was validated. `X-Cache-Hits` counts the hits since this
    /// cache has fetched or validated the response, whoever has asked and whoever gets to know, 0 for none: of the 16,384 keys that
    /// were asked for last, and of all variants of a key together. `X-Served-By` has the name of the cache.
    ///
    /// Behind a shield, `X-Cache: MISS, HIT` and `X-Cache-Hits: 0, 1` say that the edge had it, and that the shield had not when the
    /// edge asked for it.
    Fastly,
    /// None of these fields. Those of a cache nearer to the origin are passed on.
    #[default]
    Off,
}

impl From<bool> for XCache {
    fn from(is_on: bool) -> Self {
        if is_on { Self::CloudFront } else { Self::Off }
    }
}

/// How often what is stored under a key has answered since it was fetched.
pub(crate) struct HitCounts {
    counts: Cache<u128, Arc<AtomicU64>>,
    names: KeyNames,
}

impl Default for HitCounts {
    fn default() -> Self {
        Self { counts: Cache::new(16_384), names: KeyNames::default() }
    }
}

impl HitCounts {
    /// How often it has answered, with this time.
    pub(super) fn count(&self, key: &CacheKey, outcome: &Outcome) -> u64 {
        if outcome.word() != Word::Hit {
            return 0;
        }
        let counted = self.counts.get_or_insert_with(&self.names.of(key), || Ok::<_, ()>(Arc::default()));
        counted.map_or(1, |count| count.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Something else is stored under the key from now on.
    pub(super) fn forget(&self, key: &CacheKey) {
        self.counts.remove(&self.names.of(key));
    }
}

/// Adds this cache's members to the lists of Fastly.
#[inline(never)] // it is rare, and a hit has room for what it inlines
pub(super) fn append(headers: &mut HeaderMap, outcome: &Outcome, name: &str, hits: Option<u64>) {
    let is_hit = outcome.word() == Word::Hit;
    push(headers, &super::X_CACHE, if is_hit { "HIT" } else { "MISS" });
    push(headers, &X_CACHE_HITS, hits.unwrap_or(u64::from(is_hit)));
    push(headers, &X_SERVED_BY, name);
}

/// Adds a member to the end of a list, in one line.
fn push(headers: &mut HeaderMap, name: &HeaderName, member: impl Display) {
    let mut value = Vec::new();
    for line in headers.get_all(name) {
        value.extend_from_slice(line.as_bytes());
        value.extend_from_slice(b", ");
    }
    value.extend_from_slice(member.to_string().as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&value) {
        headers.insert(name.clone(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cs2_a_member_comes_after_all_lines_of_the_caches_before() {
        let mut headers = HeaderMap::new();
        push(&mut headers, &X_CACHE_HITS, 0);
        assert_eq!(headers[X_CACHE_HITS], "0");
        headers.append(X_CACHE_HITS, HeaderValue::from_static("3, 4"));
        push(&mut headers, &X_CACHE_HITS, 1);
        assert_eq!(headers.get_all(X_CACHE_HITS).iter().collect::<Vec<_>>(), ["0, 3, 4, 1"]);
    }
}
