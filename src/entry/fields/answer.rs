//! The fields of an answer from those of an entry, and its content.
//!
//! What many answers have in common has a reference count, and where many cores answer from one entry, all of them write
//! to that. So each thread has its own copy of what it answers with often, and nothing else of an answer is shared.

use std::cell::RefCell;

use bytes::Bytes;
use http::HeaderValue;
use http::header::{self, HeaderMap, HeaderName};

use super::block::block;
use super::template::Template;
use super::{FieldLines, Value};

/// The most entries of which a thread has such a copy. They may outlive the entries, until others take their place: some
/// 100 KiB of fields in all, and 1 MiB of content.
const HOT: usize = 64;
/// How often a thread looks for an entry in a row before it keeps a copy.
const LOOKS: u8 = 3;
/// The longest fields and content that are kept so: with longer ones, other things cost more.
const LONGEST_FIELDS: usize = 1024;
const LONGEST_CONTENT: usize = 16 * 1024;

thread_local! {
    static KEPT: RefCell<[Slot; HOT]> = const { RefCell::new([const { Slot { missed: 0, looks: 0, hot: None } }; HOT]) };
}

struct Slot {
    /// The lines that were looked for here last and not found.
    missed: u64,
    /// How often in a row; what is stored, and then answers twice, is kept.
    looks: u8,
    hot: Option<Box<Hot>>,
}

struct Hot {
    content: Option<Handle>,
    /// See [`FieldLines::id`].
    id: u64,
    map: HeaderMap,
    purpose: Purpose,
}

/// Content with a reference count of this thread's own.
struct Handle {
    own: Bytes,
    shared: Bytes,
}

impl Handle {
    fn new(shared: &Bytes) -> Self {
        Self { own: Bytes::from_owner(shared.clone()), shared: shared.clone() }
    }

    /// Whether it is this very content: while the handle is there, nothing else has its place in memory.
    fn is(&self, content: &Bytes) -> bool {
        std::ptr::eq::<[u8]>(&*self.shared, &**content)
    }
}

/// Which fields an answer has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Purpose {
    /// Whether there is a place for `Cache-Status`.
    pub(crate) cache_status: bool,
    /// Whether it has a `Date` of its own and no `Age`.
    pub(crate) counts_from_itself: bool,
    /// The fields of a 304, else all of them.
    pub(crate) not_modified: bool,
    /// Whether there is a place for `X-Cache`, which is the cache's own then.
    pub(crate) x_cache: bool,
}

impl Purpose {
    /// The field that says how old an answer is.
    #[inline]
    pub(crate) fn time(self) -> HeaderName {
        if self.counts_from_itself { header::DATE } else { header::AGE }
    }
}

impl FieldLines {
    /// The fields of an answer, and its content. `time` comes first, which is `Age`, or the `Date` of an answer that counts from
    /// itself; then empty places for what is reported later.
    #[inline]
    pub(crate) fn to_answer(
        &self,
        purpose: Purpose,
        time: HeaderValue,
        content: Option<&Bytes>,
    ) -> (HeaderMap, Option<Bytes>) {
        // Where the thread ends, what it has kept is gone.
        let hot = KEPT
            .try_with(|kept| kept.try_borrow().ok()?[self.id as usize % HOT].find(self, purpose, content));
        let (mut map, content) = hot.ok().flatten().unwrap_or_else(|| self.to_cold_answer(purpose, content));
        if let Some(place) = map.values_mut().next() {
            *place = time;
        }
        (map, content)
    }

    /// An answer without its time, which is kept if it is asked for often.
    #[inline(never)]
    fn to_cold_answer(&self, purpose: Purpose, content: Option<&Bytes>) -> (HeaderMap, Option<Bytes>) {
        let map = Template::with(self.names(), purpose, |template| self.fill(template));
        let is_small = self.bytes.len() <= LONGEST_FIELDS;
        let _ = KEPT.try_with(|kept| {
            if is_small && let Ok(mut slots) = kept.try_borrow_mut() {
                let slot = &mut slots[self.id as usize % HOT];
                slot.looks = if slot.missed == self.id { slot.looks.saturating_add(1) } else { 1 };
                slot.missed = self.id;
                if slot.looks >= LOOKS {
                    let content = content.filter(|content| content.len() <= LONGEST_CONTENT).map(Handle::new);
                    slot.hot = Some(Box::new(Hot { content, id: self.id, map: map.clone(), purpose }));
                }
            }
        });
        (map, content.cloned())
    }

    /// Puts the values into the map of a template.
    fn fill(&self, template: &Template) -> HeaderMap {
        let mut map = template.map.clone();
        let is_kept = |at: usize| template.kept.as_ref().is_none_or(|kept| kept.get(at) == Some(&true));
        let values = || self.values().enumerate().filter(|(at, _)| is_kept(*at)).map(|(_, value)| value);
        let length = values().map(|value| value.text().len()).sum();
        let mut block = block(length, values().map(Value::text));
        for (place, value) in map.values_mut().skip(template.reported).zip(values()) {
            if let Some(value) = value.parsed(&mut block) {
                *place = value;
            }
        }
        map
    }
}

impl Slot {
    #[inline]
    fn find(
        &self,
        lines: &FieldLines,
        purpose: Purpose,
        content: Option<&Bytes>,
    ) -> Option<(HeaderMap, Option<Bytes>)> {
        let hot = self.hot.as_ref().filter(|hot| hot.id == lines.id && hot.purpose == purpose)?;
        let content = content.map(|content| match &hot.content {
            Some(handle) if handle.is(content) => handle.own.clone(),
            _ => content.clone(),
        });
        Some((hot.map.clone(), content))
    }
}
