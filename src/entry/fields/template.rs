//! Maps that have the names of an answer, without its values.
//!
//! To hash and place nine names costs more than the rest of an answer, and few sets of names occur in one site. So each
//! thread keeps a map for each of them, with empty values: a clone of it needs no hashing.

use std::cell::RefCell;

use http::HeaderValue;
use http::header::{self, HeaderMap};

use super::{Names, Purpose};
use crate::semantics::cache_status::{CACHE_STATUS, X_CACHE};
use crate::semantics::fields::is_in_not_modified;

/// The most maps that a thread keeps, and the most bytes of names that one has: together some 200 KiB.
const TEMPLATES: usize = 64;
const LONGEST: usize = 256;

thread_local! {
    static KEPT: RefCell<[Slot; TEMPLATES]> =
        const { RefCell::new([const { Slot { missed: 0, template: None } }; TEMPLATES]) };
}

struct Slot {
    /// The hash of what was looked for here last and not found. What is looked for twice in a row is kept.
    missed: u64,
    template: Option<Box<Template>>,
}

pub(super) struct Template {
    /// Which lines are in the map; `None` for all of them.
    pub(super) kept: Option<Box<[bool]>>,
    /// Its time and what is reported later; then the kept lines.
    pub(super) map: HeaderMap,
    names: Box<[u8]>,
    purpose: Purpose,
    /// How many fields come before the kept lines.
    pub(super) reported: usize,
}

impl Template {
    /// The template for these names.
    #[inline]
    pub(super) fn with<T>(names: &[u8], purpose: Purpose, fill: impl Fn(&Self) -> T) -> T {
        // Where the thread ends, its maps are gone.
        let filled = KEPT.try_with(|kept| {
            let mut slots = kept.try_borrow_mut().ok()?;
            let hash = hash(names);
            let slot = &mut slots[(hash >> 32) as usize % TEMPLATES];
            let is_found = |template: &&Self| template.purpose == purpose && *template.names == *names;
            if slot.template.as_deref().filter(is_found).is_none() {
                if std::mem::replace(&mut slot.missed, hash) != hash || names.len() > LONGEST {
                    return None;
                }
                slot.template = Some(Box::new(Self::new(names, purpose)));
            }
            slot.template.as_deref().map(&fill)
        });
        filled.ok().flatten().unwrap_or_else(|| fill(&Self::new(names, purpose)))
    }

    fn new(names: &[u8], purpose: Purpose) -> Self {
        let has_tag = Names(names).any(|name| name.is(&header::ETAG));
        let keeps = |name: &str| {
            let is_sent = !purpose.not_modified || is_in_not_modified(name, has_tag);
            is_sent && !(purpose.x_cache && name == X_CACHE.as_str())
        };
        let kept: Box<[_]> = Names(names).map(|name| keeps(name.as_str())).collect();
        let mut map = HeaderMap::with_capacity(kept.len() + 3);
        let empty = HeaderValue::from_static("");
        map.append(purpose.time(), empty.clone());
        if purpose.cache_status {
            map.append(CACHE_STATUS, empty.clone());
        }
        if purpose.x_cache {
            map.append(X_CACHE, empty.clone());
        }
        let reported = map.len();
        let own = Names(names).zip(&kept).filter(|(_, is_kept)| **is_kept);
        for name in own.filter_map(|(name, _)| name.parsed()) {
            map.append(name, empty.clone());
        }
        let kept = (!kept.iter().all(|is_kept| *is_kept)).then_some(kept);
        // A clone has no room to spare, which would be copied again and again.
        Self { kept, map: map.clone(), names: names.into(), purpose, reported }
    }
}

/// Names come from origins, and a bad choice of them costs no more than to make the map anew.
fn hash(names: &[u8]) -> u64 {
    names.chunks(8).fold(names.len() as u64, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (hash.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}
