//! Finds a stored response for a query that differs from its own only in what does not matter (`No-Vary-Search`).
//!
//! A memory in addition to the store, consulted on a miss only. It may forget anything at any time, which costs a
//! fetch. What it remembers is a hint: the response that is found decides by its own field.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::entry::ResponseHead;
use crate::entry::key::CacheKey;
use crate::semantics::no_vary_search::NoVarySearch;

/// How many bytes each of the two memories holds.
const CAPACITY: u64 = 4 * 1024 * 1024;
/// A response with a longer URI is found under that URI only.
const LONGEST: usize = 2048;
/// How many rules are remembered for one path; the oldest is dropped.
const MOST_RULES: usize = 4;

/// What stored responses have said about queries.
pub(crate) struct QueryAliases {
    /// Whether there is anything at all: most origins never send the field.
    any: AtomicBool,
    /// The rules for a URI without its query, the newest first.
    rules: Cache<Box<[u8]>, Arc<[NoVarySearch]>, ByLength>,
    /// The URI under which the latest response with this meaning is stored.
    stored: Cache<Meaning, Box<[u8]>, ByLength>,
}

/// A URI without its query, and what the query means by a rule.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Meaning {
    base: Box<[u8]>,
    canonical: Vec<u8>,
    rule: NoVarySearch,
}

#[derive(Clone)]
struct ByLength;

/// What an entry takes in addition to its bytes, roughly.
const ENTRY: usize = 256;

impl Weighter<Box<[u8]>, Arc<[NoVarySearch]>> for ByLength {
    fn weight(&self, base: &Box<[u8]>, rules: &Arc<[NoVarySearch]>) -> u64 {
        (ENTRY + base.len() + rules.iter().map(NoVarySearch::weight).sum::<usize>()) as u64
    }
}

impl Weighter<Meaning, Box<[u8]>> for ByLength {
    fn weight(&self, meaning: &Meaning, uri: &Box<[u8]>) -> u64 {
        (ENTRY + meaning.base.len() + meaning.canonical.len() + meaning.rule.weight() + uri.len()) as u64
    }
}

impl Default for QueryAliases {
    fn default() -> Self {
        const ITEMS: usize = 8 * 1024;
        Self {
            any: AtomicBool::new(false),
            rules: Cache::with_weighter(ITEMS, CAPACITY, ByLength),
            stored: Cache::with_weighter(ITEMS, CAPACITY, ByLength),
        }
    }
}

impl QueryAliases {
    /// Remembers what a response that is stored under `key` says about queries.
    pub(crate) fn record(&self, key: &CacheKey, response: &ResponseHead) {
        let Some(rule) = response.no_vary_search().filter(|_| key.uri().len() <= LONGEST) else {
            return;
        };
        let (base, query) = split(key.uri());
        let known = self.rules.get(base);
        if known.as_ref().is_none_or(|rules| rules.first() != Some(&rule)) {
            let others = known.iter().flat_map(|rules| rules.iter()).filter(|known| **known != rule);
            let rules: Vec<_> = std::iter::once(&rule).chain(others).take(MOST_RULES).cloned().collect();
            self.rules.insert(base.into(), rules.into());
        }
        let canonical = rule.canonical(query);
        self.stored.insert(Meaning { base: base.into(), canonical, rule }, key.uri().into());
        self.any.store(true, Ordering::Release);
    }

    /// The key under which a response for the same meaning was stored last, if it is another one.
    pub(crate) fn lookup(&self, key: &CacheKey) -> Option<CacheKey> {
        Some(key.clone().with_uri(&self.lookup_uri(key.uri())?))
    }

    /// The URI of that key.
    pub(crate) fn lookup_uri(&self, uri: &[u8]) -> Option<Box<[u8]>> {
        if !self.any.load(Ordering::Acquire) || uri.len() > LONGEST {
            return None;
        }
        let (base, query) = split(uri);
        let rules = self.rules.get(base)?;
        let stored = rules.iter().find_map(|rule| {
            let canonical = rule.canonical(query);
            self.stored.get(&Meaning { base: base.into(), canonical, rule: rule.clone() })
        })?;
        (*stored != *uri).then_some(stored)
    }
}

/// Whether a response that is stored under one URI says that it answers for another, which differs in the query.
pub(crate) fn answers(response: &ResponseHead, stored: &[u8], presented: &[u8]) -> bool {
    let ((base, one), (other_base, other)) = (split(stored), split(presented));
    base == other_base
        && response.no_vary_search().is_some_and(|rule| rule.canonical(one) == rule.canonical(other))
}

/// A URI before and after the first `?`.
fn split(uri: &[u8]) -> (&[u8], &[u8]) {
    match uri.iter().position(|&byte| byte == b'?') {
        Some(mark) => (&uri[..mark], &uri[mark + 1..]),
        None => (uri, &[]),
    }
}
