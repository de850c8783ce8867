//! What a policy changes of a response before it is judged.

use http::HeaderValue;
use http::header::{HeaderMap, HeaderName};

use crate::policy::TagField;
use crate::semantics::groups;

/// Changes of a response before it is judged: by [`CachePolicy::receive`](crate::CachePolicy::receive). Without any, nothing is
/// copied.
///
/// Each change says for whom it is. What the origin has sent still counts when the response is validated: a 304 brings new
/// fields, and is edited in the same way.
#[derive(Debug)]
pub struct ResponseEdits<'a> {
    edits: Edits,
    has_bad_tag: bool,
    received: &'a HeaderMap,
    tags: Vec<Box<str>>,
    unstored: Vec<HeaderName>,
}

/// What is left of the changes once the response was judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edits {
    /// Fields that every client gets so, or not at all.
    pub(crate) for_clients: Vec<(HeaderName, Option<HeaderValue>)>,
    /// The fields as the response is judged by them; `None` for those that were received.
    pub(crate) judged: Option<HeaderMap>,
}

impl<'a> ResponseEdits<'a> {
    /// Of a response with these fields.
    pub(crate) fn new(received: &'a HeaderMap) -> Self {
        Self { edits: Edits::default(), has_bad_tag: false, received, tags: Vec::new(), unstored: Vec::new() }
    }

    /// The fields as they are so far.
    pub fn headers(&self) -> &HeaderMap {
        self.edits.judged.as_ref().unwrap_or(self.received)
    }

    /// The fields as they came.
    pub(super) fn received(&self) -> &HeaderMap {
        self.received
    }

    /// Sets a field for everybody: this cache and all clients, in place of all lines that it has.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.edits.for_clients.push((name.clone(), Some(value.clone())));
        self.set_here(name, value);
    }

    /// Removes a field for everybody, also where it has been removed for this cache, or for all but the first client, before.
    pub fn remove(&mut self, name: &HeaderName) {
        if self.received.contains_key(name) || self.headers().contains_key(name) {
            self.edits.for_clients.push((name.clone(), None));
            self.remove_here(name);
        }
    }

    /// Sets a field for this cache only: clients get what the origin has sent.
    pub fn set_here(&mut self, name: HeaderName, value: HeaderValue) {
        self.judged().insert(name, value);
    }

    /// Removes a field for this cache only.
    pub fn remove_here(&mut self, name: &HeaderName) {
        if self.headers().contains_key(name) {
            self.judged().remove(name);
        }
    }

    /// Removes a field for everybody but the client whose request has brought the response. Requests that share the call, and
    /// later ones, get nothing of it.
    pub fn keep_for_first_client(&mut self, name: &HeaderName) {
        if self.headers().contains_key(name) {
            self.unstored.push(name.clone());
            self.remove_here(name);
        }
    }

    /// Leaves these fields as the origin has sent them, for those who get the answer.
    pub(in crate::policy) fn show(&mut self, names: &[HeaderName]) {
        self.edits.for_clients.retain(|(name, _)| !names.contains(name));
    }

    /// Adds a tag by which the response can be purged, whatever its origin. A response with a tag that has a control character, or
    /// looks like the group of an origin, is not stored (`detail="bad-tag"`), nor is one with too many of them. An empty one
    /// does not count.
    pub fn tag(&mut self, tag: impl Into<Box<str>>) {
        let tag = tag.into();
        self.has_bad_tag |= !tag.is_empty() && !groups::is_tag(&tag);
        // One more than it may have says that there are too many.
        if !tag.is_empty() && self.tags.len() <= groups::MOST_STORED {
            self.tags.push(tag);
        }
    }

    /// Adds the tags of a field, without white space around them.
    pub(super) fn tag_by(&mut self, field: &TagField) {
        let lines: Vec<_> = self.headers().get_all(field.name()).iter().cloned().collect();
        for tag in lines.iter().flat_map(|line| field.split(line.as_bytes())) {
            match std::str::from_utf8(tag) {
                Ok(tag) if tag.is_ascii() => self.tag(tag.trim()),
                _ => self.has_bad_tag = true, // nobody could name it
            }
        }
    }

    /// The tags, whether one is none, and which fields the first client alone gets; and all else.
    pub(crate) fn into_parts(self) -> (Option<Edits>, EditedTags, Vec<HeaderName>) {
        let Self { edits, has_bad_tag, tags, unstored, .. } = self;
        let edits = edits.judged.is_some().then_some(edits);
        (edits, EditedTags { has_bad_tag, tags }, unstored)
    }

    fn judged(&mut self) -> &mut HeaderMap {
        self.edits.judged.get_or_insert_with(|| self.received.clone())
    }
}

/// Tags that a policy has derived.
pub(crate) struct EditedTags {
    pub(crate) has_bad_tag: bool,
    pub(crate) tags: Vec<Box<str>>,
}

impl Edits {
    /// Whether no client gets a field.
    pub(crate) fn removes(&self, name: &HeaderName) -> bool {
        let last = self.for_clients.iter().rev().find(|(own, _)| own == name);
        last.is_some_and(|(_, value)| value.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header;

    fn received() -> HeaderMap {
        [("cache-control", "private"), ("set-cookie", "a=b"), ("vary", "x")]
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .into_iter()
            .collect()
    }

    #[test]
    fn kx2_without_a_change_nothing_is_copied() {
        let headers = received();
        let mut edits = ResponseEdits::new(&headers);
        edits.remove(&header::ETAG);
        edits.remove_here(&header::ETAG);
        edits.keep_for_first_client(&header::ETAG);
        edits.tag("");
        assert!(std::ptr::eq(edits.headers(), &headers));
        let (edits, tags, unstored) = edits.into_parts();
        assert!(edits.is_none() && tags.tags.is_empty() && !tags.has_bad_tag && unstored.is_empty());
    }

    #[test]
    fn kx2_a_change_says_for_whom_it_is() {
        let headers = received();
        let mut edits = ResponseEdits::new(&headers);
        edits.set(header::CACHE_CONTROL, HeaderValue::from_static("public"));
        edits.set_here(header::AGE, HeaderValue::from_static("5"));
        edits.remove_here(&header::VARY);
        edits.keep_for_first_client(&header::SET_COOKIE);
        assert_eq!(edits.headers()[header::CACHE_CONTROL], "public");
        let (edits, _, unstored) = edits.into_parts();
        let edits = edits.expect("changes");
        assert_eq!(unstored, [header::SET_COOKIE]);
        assert_eq!(edits.judged.as_ref().map(HeaderMap::len), Some(2));
        assert_eq!(edits.for_clients, [(header::CACHE_CONTROL, Some(HeaderValue::from_static("public")))]);
        assert!(!edits.removes(&header::CACHE_CONTROL) && !edits.removes(&header::VARY));
        let mut edits = ResponseEdits::new(&headers);
        edits.remove(&header::VARY);
        assert!(edits.into_parts().0.is_some_and(|edits| edits.removes(&header::VARY)));
    }

    #[test]
    fn a20_tags_of_a_field_are_bounded_and_those_that_are_none_are_noticed() {
        let tags = |separator, lines: &[&[u8]]| {
            let line = |line: &&[u8]| (header::VIA, HeaderValue::from_bytes(line).expect("a value"));
            let headers = lines.iter().map(line).collect();
            let mut edits = ResponseEdits::new(&headers);
            edits.tag_by(&TagField::listed(header::VIA).separated_by(separator));
            let (_, EditedTags { has_bad_tag, tags }, _) = edits.into_parts();
            (tags.iter().map(ToString::to_string).collect::<Vec<_>>(), has_bad_tag)
        };
        assert_eq!(
            tags(',', &[b" a, b b,,c ", b"d"]),
            (vec!["a".into(), "b b".into(), "c".into(), "d".into()], false)
        );
        assert_eq!(tags(' ', &[b"a  b\tc"]), (vec!["a".into(), "b".into(), "c".into()], false));
        assert_eq!(tags(',', &[b"a,b\tc"]), (vec!["a".into(), "b\tc".into()], true));
        assert_eq!(tags(',', &[b"a,\xff"]), (vec!["a".into()], true));
        let (found, is_bad) = tags(',', &["x,".repeat(100_000).as_bytes()]);
        assert_eq!((found.len(), is_bad), (groups::MOST_STORED + 1, false));
    }
}
