//! The fields of an answer from those of an entry, and its content.
//!
//! What many answers have in common has a reference count, and where many cores answer from one entry, all of them write
//! to that. So each thread has its own copy of what it answers with often, and nothing else of an answer is shared.

use std::cell::RefCell;

use bytes::Bytes;
use http::HeaderValue;
use http::header::HeaderMap;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Purpose {
    /// Those of a 304, else all of them.
    pub(crate) not_modified: bool,
    /// Whether `X-Cache` is the cache's own.
    pub(crate) x_cache: bool,
}

/// What an answer has besides the stored fields.
pub(crate) struct Told<'a> {
    pub(crate) age: HeaderValue,
    /// The parts of `Cache-Status`, one after the other.
    pub(crate) status: [&'a [u8]; 3],
    pub(crate) x_cache: &'static str,
}

impl FieldLines {
    /// The fields of an answer, and its content.
    #[inline]
    pub(crate) fn to_answer(
        &self,
        purpose: Purpose,
        told: Told<'_>,
        content: Option<&Bytes>,
    ) -> (HeaderMap, Option<Bytes>) {
        // Where the thread ends, what it has kept is gone.
        let hot = KEPT.try_with(|kept| {
            kept.try_borrow_mut().ok()?[self.id as usize % HOT].find(self, purpose, content)
        });
        let (mut map, content) = hot.ok().flatten().unwrap_or_else(|| self.to_cold_answer(purpose, content));
        let length = told.status.iter().map(|part| part.len()).sum();
        let status = HeaderValue::from_maybe_shared(block(length, told.status.into_iter()));
        let mut places = map.values_mut();
        if let (Some(age), Some(place), Ok(status)) = (places.next(), places.next(), status) {
            *age = told.age;
            *place = status;
        }
        if let Some(place) = places.next().filter(|_| purpose.x_cache) {
            *place = HeaderValue::from_static(told.x_cache);
        }
        (map, content)
    }

    /// An answer with places for what is told, which is kept if it is asked for often.
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
        let told = 2 + usize::from(template.purpose.x_cache);
        for (place, value) in map.values_mut().skip(told).zip(values()) {
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
