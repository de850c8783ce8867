//! The fields of a stored response (RFC 9111 3.1).

use std::time::SystemTime;

use http::HeaderValue;
use http::header::{self, HeaderMap, HeaderName};
use smallvec::SmallVec;

use super::cache_status::CACHE_STATUS;
use super::fields::{CONTENT_DIGESTS, ResponseFields, combined, hop_by_hop, remove_hop_by_hop};
use super::no_vary_search::NO_VARY_SEARCH;
use super::{date, freshness};

/// Removes what must not be stored: the fields of one connection, and those that are named, as by `private` or `no-cache`
/// (RFC 9111 3.1, 5.2.2.4, 5.2.2.7).
pub(crate) fn remove_unstored<'a>(headers: &mut HeaderMap, named: impl IntoIterator<Item = &'a HeaderName>) {
    remove_hop_by_hop(headers);
    for name in named {
        headers.remove(name);
    }
}

/// Fields that the cache adds to a response: a date, a length, an entity tag.
pub(crate) type AddedFields = SmallVec<[(HeaderName, HeaderValue); 3]>;

/// The fields of a stored response: those that were received, by reference, without some of them, and others. A second map
/// for them takes 4,500 instructions, a twelfth of a miss.
#[derive(Debug)]
pub(crate) struct StoredFields<'a> {
    added: AddedFields,
    received: &'a HeaderMap,
    received_fields: ResponseFields,
    unstored: Vec<HeaderName>,
}

impl<'a> StoredFields<'a> {
    /// All that were received.
    pub(crate) fn all(received: &'a HeaderMap, fields: ResponseFields) -> Self {
        Self { added: AddedFields::new(), received, received_fields: fields, unstored: Vec::new() }
    }

    /// Those that may be stored: see [`remove_unstored`].
    pub(crate) fn of(received: &'a HeaderMap, fields: ResponseFields, named: &[HeaderName]) -> Self {
        let mut stored = Self::all(received, fields);
        if fields.hop_by_hop {
            stored.unstored = hop_by_hop(received);
        }
        stored.unstored.extend_from_slice(named);
        stored
    }

    /// Stores a field in any case: its value is no longer the origin's.
    pub(crate) fn keep(&mut self, name: &HeaderName) {
        self.unstored.retain(|own| own != name);
    }

    /// Does not store a field: each answer has one of its own.
    pub(crate) fn leave_out(&mut self, name: HeaderName) {
        self.unstored.push(name);
    }

    /// Adds what a stored response has that the received one may lack: a `Date`, and the `Content-Length` of the whole
    /// content, where it is known.
    pub(crate) fn add_missing(
        &mut self,
        date: Option<SystemTime>,
        received_at: SystemTime,
        length: Option<usize>,
    ) {
        // RFC 9110 6.6.1: a response without a valid date gets the time of its reception.
        if date.is_none()
            && let Ok(date) = HeaderValue::from_bytes(&date::format(received_at))
        {
            self.set_over(self.received_fields.date, header::DATE, date);
        }
        if let Some(length) = length {
            let length = freshness::length_value(length as u64);
            self.set_over(self.received_fields.content_length, header::CONTENT_LENGTH, length);
        }
    }

    /// Removes what is made for each answer from a stored part, of what that answer has.
    pub(crate) fn remove_fields_of_part(&mut self) {
        let made = [header::CONTENT_RANGE, header::CONTENT_LENGTH];
        for name in made.into_iter().chain(CONTENT_DIGESTS) {
            self.added.retain(|(own, _)| *own != name);
            self.unstored.push(name);
        }
    }

    /// Sets the entity tag. Returns whether there was none.
    pub(crate) fn set_tag(&mut self, tag: HeaderValue) -> bool {
        let had_none = !self.received_fields.etag || self.get_all(&header::ETAG).next().is_none();
        self.set_over(self.received_fields.etag, header::ETAG, tag);
        had_none
    }

    /// Sets a field, once, in place of all lines of it that were received.
    fn set_over(&mut self, was_received: bool, name: HeaderName, value: HeaderValue) {
        if !was_received || !self.is_only(&name, &value) {
            self.added.push((name, value));
        }
    }

    fn is_only(&self, name: &HeaderName, value: &HeaderValue) -> bool {
        let mut lines = self.get_all(name);
        lines.next() == Some(value) && lines.next().is_none()
    }

    /// `Last-Modified`, where it has one line.
    pub(crate) fn last_modified(&self) -> Option<&HeaderValue> {
        if !self.received_fields.last_modified {
            return None;
        }
        let mut lines = self.get_all(&header::LAST_MODIFIED);
        lines.next().filter(|_| lines.next().is_none())
    }

    /// Whether `No-Vary-Search` is among them.
    pub(crate) fn has_no_vary_search(&self) -> bool {
        self.received_fields.no_vary_search && self.get_all(&NO_VARY_SEARCH).next().is_some()
    }

    fn is_as_received(&self, name: &HeaderName) -> bool {
        // Both are told in other ways than by their lines.
        let ResponseFields { age, cache_status, .. } = self.received_fields;
        let is_told_apart = (age && name == header::AGE) || (cache_status && name == CACHE_STATUS);
        let is_replaced = self.added.iter().any(|(added, _)| added == name);
        !is_told_apart && !is_replaced && !self.unstored.contains(name)
    }

    /// The lines of `Cache-Status`, joined; each answer adds its own member after them.
    pub(crate) fn upstream_status(&self) -> Option<Box<[u8]>> {
        if !self.received_fields.cache_status || self.unstored.contains(&CACHE_STATUS) {
            return None;
        }
        combined(self.received, &CACHE_STATUS).map(|status| status.into_owned().into_boxed_slice())
    }

    /// The values of all lines of a field.
    pub(crate) fn get_all<'b>(&'b self, name: &'b HeaderName) -> impl Iterator<Item = &'b HeaderValue> {
        let received = self.received.iter().filter(move |(own, _)| *own == name && self.is_as_received(own));
        let added = self.added.iter().filter(move |(own, _)| own == name);
        received.map(|(_, value)| value).chain(added.map(|(_, value)| value))
    }

    /// Names and values, line by line.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let received = self.received.iter().filter(|(name, _)| self.is_as_received(name));
        received.chain(self.added.iter().map(|(name, value)| (name, value)))
    }

    /// What was added. The first client gets it in place of what was received, as all later ones do.
    pub(crate) fn into_added(self) -> AddedFields {
        self.added
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::cache_control::ResponseDirectives;
    use crate::semantics::tests::map;
    use std::time::UNIX_EPOCH;

    type Fields = [(&'static str, &'static str)];

    #[track_caller]
    fn check_unstored(fields: &Fields, expected: &Fields) {
        let mut headers = map(fields);
        let directives = ResponseDirectives::of(&headers);
        let named: Vec<_> = directives.unstored().cloned().collect();
        assert_eq!(stored(&headers, &named, |_| {}), map(expected), "{fields:?}");
        remove_unstored(&mut headers, &named);
        assert_eq!(headers, map(expected), "{fields:?}");
    }

    /// The map of what is stored.
    fn stored(
        headers: &HeaderMap,
        named: &[HeaderName],
        edit: impl FnOnce(&mut StoredFields<'_>),
    ) -> HeaderMap {
        let mut stored = StoredFields::of(headers, ResponseFields::of(headers, &[]), named);
        edit(&mut stored);
        let mut found = HeaderMap::new();
        for (name, value) in stored.iter() {
            assert!(stored.get_all(name).any(|own| own == value), "{name}");
            found.append(name, value.clone());
        }
        found
    }

    #[test]
    fn a_tag_that_is_set_takes_the_place_of_all_its_lines() {
        let (own, tag) = (("x-own", "1"), ("etag", "\"a\""));
        let headers = map(&[own, tag, ("etag", "\"b\""), ("age", "1"), ("cache-status", "x")]);
        for value in ["\"a\"", "\"d\""] {
            // What must not be stored as it came may be set all the same.
            for (named, is_first) in [(&[][..], false), (&[header::ETAG], true)] {
                let found = stored(&headers, named, |stored| {
                    assert_eq!(stored.set_tag(HeaderValue::from_static(value)), is_first);
                });
                assert_eq!(found, map(&[own, ("etag", value)]), "{value} {named:?}");
            }
        }
        assert_eq!(stored(&headers, &[header::ETAG], |_| {}), map(&[own]));
        let untagged =
            stored(&map(&[own]), &[], |stored| assert!(stored.set_tag(HeaderValue::from_static("x"))));
        assert_eq!(untagged, map(&[own, ("etag", "x")]));
    }

    #[test]
    fn what_is_read_of_stored_fields_is_what_is_stored() {
        let date = ("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT");
        let search = ("no-vary-search", "key-order");
        for (fields, named, has_date, has_search) in [
            (&[date, search][..], &[][..], true, true),
            (&[date, date], &[], false, false),
            (&[("x-own", "1")], &[], false, false),
            (&[date, search], &[header::LAST_MODIFIED], false, true),
            (&[date, search], &[NO_VARY_SEARCH], true, false),
        ] {
            let headers = map(fields);
            let stored = StoredFields::of(&headers, ResponseFields::of(&headers, &[]), named);
            assert_eq!(stored.last_modified().is_some(), has_date, "{fields:?} {named:?}");
            assert_eq!(stored.has_no_vary_search(), has_search, "{fields:?} {named:?}");
        }
    }

    #[test]
    fn what_the_cache_has_added_is_known_and_what_is_as_it_came_was_not_added() {
        // RFC 9110 6.6.1, 8.6.
        let check = |received: &Fields, has_date: bool, expected: &Fields| {
            let headers = map(received);
            let mut stored = StoredFields::all(&headers, ResponseFields::of(&headers, &[]));
            stored.add_missing(has_date.then_some(UNIX_EPOCH), UNIX_EPOCH, Some(5));
            let added: HeaderMap = stored.into_added().into_iter().collect();
            assert_eq!(added, map(expected), "{received:?}");
        };
        let (length, date) = (("content-length", "5"), ("date", "Thu, 01 Jan 1970 00:00:00 GMT"));
        check(&[("x-own", "1")], false, &[length, date]);
        check(&[length, date], false, &[]);
        check(&[("content-length", "6")], true, &[length]);
        check(&[("date", "yesterday"), ("date", "yesterday"), length], false, &[date]);
    }

    #[test]
    fn age_and_cache_status_have_no_lines_among_the_stored_fields() {
        let headers = map(&[("age", "5"), ("cache-status", "a; hit"), ("cache-status", "b"), ("x", "1")]);
        let fields = ResponseFields::of(&headers, &[]);
        assert_eq!(stored(&headers, &[], |_| {}), map(&[("x", "1")]));
        let status = |named: &[HeaderName]| StoredFields::of(&headers, fields, named).upstream_status();
        assert_eq!(status(&[]).as_deref(), Some(&b"a; hit, b"[..]));
        assert_eq!(status(&[CACHE_STATUS]), None);
    }

    #[test]
    fn a_field_whose_value_is_not_the_origins_is_stored_in_any_case() {
        let (own, named) = (("x-own", "1"), HeaderName::from_static("x-own"));
        let headers = map(&[own, ("connection", "x-own")]);
        assert_eq!(stored(&headers, std::slice::from_ref(&named), |_| {}), map(&[]));
        let kept = stored(&headers, std::slice::from_ref(&named), |stored| stored.keep(&named));
        assert_eq!(kept, map(&[own]));
    }

    #[test]
    fn st7_connection_specific_and_qualified_fields_are_not_stored() {
        let own = ("x-own", "1");
        check_unstored(&[own, ("set-cookie", "a=b")], &[own, ("set-cookie", "a=b")]);
        // RFC 9110 7.6.1.
        check_unstored(&[own, ("connection", "x-hop"), ("x-hop", "1"), ("keep-alive", "timeout=5")], &[own]);
        // RFC 9111 5.2.2.4, 5.2.2.7.
        for control in ["private=\"set-cookie\"", "no-cache=\"x, Set-Cookie\"", "private=\"set-cookie, x\""] {
            let control = ("cache-control", control);
            check_unstored(&[control, own, ("set-cookie", "a=b"), ("set-cookie", "c=d")], &[control, own]);
        }
        for control in ["private", "no-cache"] {
            let control = ("cache-control", control);
            check_unstored(&[control, own], &[control, own]);
        }
    }

    #[track_caller]
    fn check_missing(fields: &Fields, has_date: bool, length: Option<usize>, expected: &Fields) {
        let received_at = UNIX_EPOCH + std::time::Duration::from_secs(784_111_777);
        let date = has_date.then_some(UNIX_EPOCH);
        let found = stored(&map(fields), &[], |stored| stored.add_missing(date, received_at, length));
        assert_eq!(found, map(expected), "{fields:?}");
    }

    #[test]
    fn fr2_a_stored_response_has_a_date_and_its_known_length() {
        // RFC 9110 6.6.1, 8.6.
        let (sent, received) =
            (("date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("date", "Sun, 06 Nov 1994 08:49:37 GMT"));
        check_missing(&[], false, None, &[received]);
        check_missing(&[sent], true, None, &[sent]);
        check_missing(&[("date", "yesterday")], false, None, &[received]);
        check_missing(&[sent, sent], false, None, &[received]);
        check_missing(&[sent], true, Some(5), &[sent, ("content-length", "5")]);
        check_missing(&[sent, ("content-length", "4")], true, Some(5), &[sent, ("content-length", "5")]);
        check_missing(&[sent, ("content-length", "4")], true, None, &[sent, ("content-length", "4")]);
    }

    #[test]
    fn ra2_a_stored_part_has_no_fields_about_its_single_message() {
        // RFC 9110 14.4, 15.3.7; RFC 9530 2.
        let headers = map(&[
            ("content-range", "bytes 0-1/2"),
            ("content-length", "2"),
            ("content-digest", "x"),
            ("content-md5", "x"),
            ("repr-digest", "x"),
            ("content-type", "text/plain"),
        ]);
        let found = stored(&headers, &[], |stored| {
            stored.add_missing(Some(UNIX_EPOCH), UNIX_EPOCH, Some(3));
            stored.remove_fields_of_part();
        });
        assert_eq!(found, map(&[("repr-digest", "x"), ("content-type", "text/plain")]));
    }
}
