//! Asking the origin whether a stored response still holds, and freshening it (RFC 9111 4.3).

use http::HeaderValue;
use http::header::{self, HeaderMap};

use super::etag::EntityTag;
use super::fields::{kept_by_freshening, remove_hop_by_hop};

/// The origin's own validators of a stored response; a tag that this cache generated is not one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Validators<'a> {
    /// `ETag` as it came.
    pub etag: Option<&'a HeaderValue>,
    /// `Last-Modified` as it came.
    pub last_modified: Option<&'a HeaderValue>,
}

/// How many entity tags one validation names, at most: a bound on the field's size.
const MOST_TAGS: usize = 16;

/// Removes everything by which the client narrows the answer to what it has: what is to be stored must
/// not depend on that. The cache evaluates it on the result.
pub fn remove_conditions(headers: &mut HeaderMap) {
    for name in [
        header::IF_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_NONE_MATCH,
        header::IF_RANGE,
        header::IF_UNMODIFIED_SINCE,
        header::RANGE,
    ] {
        headers.remove(name);
    }
}

/// Turns a request into a validation (RFC 9111 4.3.1): its own conditions go, and it gets the tags of all
/// `stored` responses and the date of the `selected` one.
pub fn set_conditions<'a>(
    headers: &mut HeaderMap,
    selected: Option<Validators<'a>>,
    stored: impl Iterator<Item = Validators<'a>>,
) {
    remove_conditions(headers);
    let mut tags: Vec<&HeaderValue> = Vec::new();
    let own = selected.and_then(|validators| validators.etag);
    for tag in own.into_iter().chain(stored.filter_map(|validators| validators.etag)) {
        if tags.len() < MOST_TAGS && !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    let list = match tags.as_slice() {
        [] => None,
        [tag] => Some((*tag).clone()),
        tags => {
            let list = tags.iter().map(|tag| tag.as_bytes()).collect::<Vec<_>>().join(&b", "[..]);
            HeaderValue::from_bytes(&list).ok()
        }
    };
    if let Some(list) = list {
        headers.insert(header::IF_NONE_MATCH, list);
    }
    if let Some(date) = selected.and_then(|validators| validators.last_modified) {
        headers.insert(header::IF_MODIFIED_SINCE, date.clone());
    }
}

/// Which stored response a 304 speaks of (RFC 9111 4.3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identified {
    /// This one, by its position: it can be freshened.
    Freshen(usize),
    /// A tag that none of them has: nothing stored may be changed by it.
    Unknown,
}

/// Finds the stored response that a 304 identifies: by a strong tag, compared strongly (or weakly with the
/// selected one, whose tag an intermediary may have weakened: nginx does when it compresses); by a weak one or
/// `Last-Modified`, the one that was `selected` for validation, or the newest; and where the 304 has no
/// validator, the selected one.
pub fn identify<'a>(
    not_modified: &HeaderMap,
    selected: Option<usize>,
    stored: impl Iterator<Item = Validators<'a>> + Clone,
) -> Identified {
    if let Some(tag) = not_modified.get(header::ETAG) {
        let tag = EntityTag::new(tag.as_bytes());
        let matches = |validators: &Validators<'_>| {
            validators
                .etag
                .map(|own| EntityTag::new(own.as_bytes()))
                .is_some_and(|own| if tag.is_weak() { own.weak_eq(&tag) } else { own.strong_eq(&tag) })
        };
        let own = selected.filter(|&index| stored.clone().nth(index).is_some_and(|v| matches(&v)));
        let weakened = selected.filter(|&index| {
            let etag = stored.clone().nth(index).and_then(|validators| validators.etag);
            etag.is_some_and(|own| EntityTag::new(own.as_bytes()).weak_eq(&tag))
        });
        // Stored responses come newest first.
        return own
            .or_else(|| stored.clone().position(|validators| matches(&validators)))
            .or(weakened)
            .map_or(Identified::Unknown, Identified::Freshen);
    }
    if let Some(index) = selected {
        return Identified::Freshen(index);
    }
    let last_modified = not_modified.get(header::LAST_MODIFIED);
    let mut found = stored
        .enumerate()
        .filter(|(_, validators)| last_modified.is_none() || validators.last_modified == last_modified);
    match (found.next(), found.next()) {
        (Some((index, _)), None) => Identified::Freshen(index),
        (Some((index, _)), Some(_)) if last_modified.is_some() => Identified::Freshen(index),
        _ => Identified::Unknown,
    }
}

/// The fields of a stored response after a 304 (RFC 9111 3.2): those of the 304 replace the stored
/// ones, all lines of them; fields that it omits stay.
///
/// `Content-Length`, `Content-Encoding`, `Content-Range` and connection-specific fields are not taken over:
/// the stored content depends on them, or they are of that one connection. `Age` and `Date` are the 304's or
/// none: they tell when the response was good, and that is now.
pub fn freshen(stored: &HeaderMap, not_modified: &HeaderMap) -> HeaderMap {
    let mut update = not_modified.clone();
    remove_hop_by_hop(&mut update);
    let mut fields = stored.clone();
    fields.remove(header::AGE);
    fields.remove(header::DATE);
    for name in update.keys().filter(|name| !kept_by_freshening(name)) {
        fields.remove(name);
        for value in update.get_all(name) {
            fields.append(name, value.clone());
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn validators(headers: &HeaderMap) -> Validators<'_> {
        Validators { etag: headers.get(header::ETAG), last_modified: headers.get(header::LAST_MODIFIED) }
    }

    const DATE: &str = "Tue, 01 Sep 2026 00:00:00 GMT";

    #[test]
    fn vl1_conditions() {
        let stored = [
            map(&[("etag", "\"a\""), ("last-modified", DATE)]),
            map(&[("etag", "W/\"b\"")]),
            map(&[("etag", "\"a\"")]),
            map(&[]),
            map(&[("etag", "unquoted")]),
        ];
        let mut headers = map(&[
            ("if-none-match", "\"client\""),
            ("if-modified-since", "x"),
            ("if-match", "x"),
            ("if-unmodified-since", "x"),
            ("if-range", "x"),
            ("range", "bytes=0-"),
            ("accept", "text/html"),
        ]);
        set_conditions(&mut headers, Some(validators(&stored[0])), stored.iter().map(validators));
        assert_eq!(
            headers,
            map(&[
                ("accept", "text/html"),
                ("if-none-match", "\"a\", W/\"b\", unquoted"),
                ("if-modified-since", DATE),
            ])
        );
        set_conditions(&mut headers, None, std::iter::empty());
        assert_eq!(headers, map(&[("accept", "text/html")]));
    }

    #[test]
    fn vl1_the_list_of_tags_is_bounded() {
        let stored: Vec<_> = (0..1000)
            .map(|number| {
                let mut headers = HeaderMap::new();
                headers.insert(header::ETAG, HeaderValue::from(number));
                headers
            })
            .collect();
        let mut headers = HeaderMap::new();
        set_conditions(&mut headers, None, stored.iter().map(validators));
        let line = headers[header::IF_NONE_MATCH].to_str().expect("ASCII");
        assert_eq!(line.split(',').count(), MOST_TAGS);
    }

    #[track_caller]
    fn check(
        not_modified: &[(&'static str, &'static str)],
        selected: Option<usize>,
        stored: &[&[(&'static str, &'static str)]],
        expected: Identified,
    ) {
        let stored: Vec<_> = stored.iter().map(|fields| map(fields)).collect();
        let identified = identify(&map(not_modified), selected, stored.iter().map(validators));
        assert_eq!(identified, expected, "{not_modified:?}");
    }

    #[test]
    fn vl2_identification() {
        use Identified::{Freshen, Unknown};
        // RFC 9111 4.3.4.
        let (a, b): (&[_], &[_]) = (&[("etag", "\"a\"")], &[("etag", "\"b\"")]);
        check(a, Some(0), &[a, b], Freshen(0));
        check(b, Some(0), &[a, b], Freshen(1));
        check(b, None, &[a, b], Freshen(1));
        check(&[("etag", "\"c\"")], Some(0), &[a, b], Unknown);
        check(&[("etag", "W/\"a\"")], Some(0), &[a, b], Freshen(0));
        check(a, Some(0), &[&[("etag", "W/\"a\"")]], Freshen(0));
        check(a, None, &[&[("etag", "W/\"a\"")]], Unknown);
        check(a, Some(0), &[&[("etag", "W/\"a\"")], a], Freshen(1));
        check(&[], Some(1), &[a, b], Freshen(1));
        check(&[], None, &[a, b], Unknown);
        check(&[], None, &[a], Freshen(0));
        check(&[("last-modified", DATE)], None, &[a, &[("last-modified", DATE)]], Freshen(1));
        check(&[("last-modified", DATE)], Some(0), &[&[]], Freshen(0));
        check(&[], None, &[], Unknown);
    }

    #[test]
    fn vl2_freshening() {
        let fields = freshen(
            &map(&[
                ("date", "old"),
                ("age", "100"),
                ("content-type", "text/plain"),
                ("content-length", "5"),
                ("content-encoding", "gzip"),
                ("x-stays", "1"),
                ("x-many", "1"),
                ("x-many", "2"),
            ]),
            &map(&[
                ("date", "new"),
                ("content-type", "text/html"),
                ("content-length", "0"),
                ("content-encoding", "br"),
                ("content-range", "bytes 0-1/2"),
                ("connection", "x-hop"),
                ("x-hop", "1"),
                ("transfer-encoding", "chunked"),
                ("x-many", "3"),
                ("set-cookie", "a=b"),
                ("set-cookie", "c=d"),
            ]),
        );
        let expected = map(&[
            ("content-length", "5"),
            ("content-encoding", "gzip"),
            ("x-stays", "1"),
            ("date", "new"),
            ("content-type", "text/html"),
            ("x-many", "3"),
            ("set-cookie", "a=b"),
            ("set-cookie", "c=d"),
        ]);
        assert_eq!(fields, expected);
    }
}
