//! Asking the origin whether a stored response is still valid, and freshening it (RFC 9111 4.3).

use std::time::SystemTime;

use http::HeaderValue;
use http::header::{self, HeaderMap, HeaderName};

use super::etag::EntityTag;
use super::fields::{kept_by_freshening, list, remove_hop_by_hop};
use super::preconditions::{self, Outcome, Representation};

/// The origin's own validators of a stored response; a tag that this cache generated is not one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Validators<'a> {
    /// `ETag` as received.
    pub(crate) etag: Option<&'a [u8]>,
    /// `Last-Modified` as received.
    pub(crate) last_modified: Option<&'a [u8]>,
}

impl<'a> Validators<'a> {
    /// The validators that identify it among other responses: its tag, if that is strong.
    #[must_use]
    pub(crate) fn strong(self) -> Self {
        let is_strong = |tag: &&'a [u8]| !EntityTag::new(tag).is_weak();
        Self { etag: self.etag.filter(is_strong), last_modified: None }
    }

    /// Whether another response has the validator by which a client may put parts of this one together: its tag, if that is
    /// strong, or its date, if it has no tag.
    pub(crate) fn is_shared_with(self, other: Self) -> bool {
        match (self.etag, other.etag) {
            (None, None) => self.last_modified.is_some() && self.last_modified == other.last_modified,
            (own, other) => own == other && self.strong().etag.is_some(),
        }
    }

    /// Whether there is any.
    pub(crate) fn any(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }
}

/// The most entity tags that one validation names: a bound on the field's size.
const MOST_TAGS: usize = 16;

/// Removes the client's conditions and range: a response that is to be stored must not depend on them. The cache
/// evaluates them on the result.
pub(crate) fn remove_conditions(headers: &mut HeaderMap) {
    // To look for each of them costs more than to look at what is there, which mostly is none of them.
    if !headers.keys().any(|name| name.as_str().starts_with("if-") || name == header::RANGE) {
        return;
    }
    for name in CONDITIONS.into_iter().chain([header::IF_RANGE, header::RANGE]) {
        headers.remove(name);
    }
}

/// The conditions on the representation (RFC 9110 13.1).
const CONDITIONS: [HeaderName; 4] =
    [header::IF_MATCH, header::IF_MODIFIED_SINCE, header::IF_NONE_MATCH, header::IF_UNMODIFIED_SINCE];

/// Turns a request into a validation (RFC 9111 4.3.1): its own conditions go, and it gets the tag and the date of the
/// `selected` response and the tags of all others that are given.
pub(crate) fn set_conditions<'a>(
    headers: &mut HeaderMap,
    selected: Option<Validators<'a>>,
    stored: impl Iterator<Item = Validators<'a>>,
) {
    remove_conditions(headers);
    let mut tags: Vec<&[u8]> = Vec::new();
    let own = selected.and_then(|validators| validators.etag);
    for tag in own.into_iter().chain(stored.filter_map(|validators| validators.etag)) {
        if tags.len() < MOST_TAGS && !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    if let Ok(list) = HeaderValue::from_bytes(&tags.join(&b", "[..]))
        && !tags.is_empty()
    {
        headers.insert(header::IF_NONE_MATCH, list);
    }
    let date = selected.and_then(|validators| HeaderValue::from_bytes(validators.last_modified?).ok());
    if let Some(date) = date {
        headers.insert(header::IF_MODIFIED_SINCE, date);
    }
}

/// Which stored response a 304 speaks of (RFC 9111 4.3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identified {
    /// This one, by its position: it can be freshened.
    Freshen(usize),
    /// None of them has the tag: nothing stored may change.
    Unknown,
}

/// Finds the stored response that a 304 identifies, among those whose validators were sent (RFC 9111 4.3.4): by a
/// strong comparison of tags; otherwise the one that was `selected` for validation, if its tag matches weakly (an
/// intermediary may have weakened it: nginx does when it compresses), or if its date alone was sent and the 304 has no
/// other; and if the 304 has no tag, the selected one, or the only one whose validators were sent.
pub(crate) fn identify<'a>(
    not_modified: &HeaderMap,
    selected: Option<usize>,
    sent: impl Iterator<Item = Validators<'a>> + Clone,
) -> Identified {
    let of_selected = selected.and_then(|index| Some((index, sent.clone().nth(index)?)));
    let Some(tag) = not_modified.get(header::ETAG) else {
        let mut all = of_selected.into_iter().chain(sent.enumerate()).filter(|(_, own)| own.any());
        return match (all.next(), all.next()) {
            (Some((index, _)), None) => Identified::Freshen(index),
            (Some((index, _)), Some(_)) if selected == Some(index) => Identified::Freshen(index),
            _ => Identified::Unknown,
        };
    };
    let tag = EntityTag::new(tag.as_bytes());
    let own = |validators: &Validators<'a>| validators.etag.map(EntityTag::new);
    // RFC 9110 13.1.3: the date counts only where no tag was sent.
    let is_by_date = |validators: &Validators<'a>| {
        let told = not_modified.get(header::LAST_MODIFIED).map(HeaderValue::as_bytes);
        validators.last_modified.is_some()
            && (told.is_none() || told == validators.last_modified)
            && sent.clone().all(|sent| sent.etag.is_none())
    };
    // The list has the newest response first; the selected one comes before all others.
    of_selected
        .into_iter()
        .chain(sent.clone().enumerate())
        .find(|(_, validators)| own(validators).is_some_and(|own| own.strong_eq(&tag)))
        .or_else(|| {
            of_selected.filter(|(_, validators)| {
                own(validators).map_or_else(|| is_by_date(validators), |own| own.weak_eq(&tag))
            })
        })
        .map_or(Identified::Unknown, |(index, _)| Identified::Freshen(index))
}

/// The conditions of a request, except for the one on its range.
pub(crate) fn conditions(request: &HeaderMap) -> HeaderMap {
    let mut conditions = HeaderMap::with_capacity(CONDITIONS.len());
    for name in CONDITIONS {
        for line in request.get_all(&name) {
            conditions.append(&name, line.clone());
        }
    }
    conditions
}

/// Whether a request has a condition that a 304 is an answer to (RFC 9110 13.1).
pub(crate) fn is_conditional(request: &HeaderMap) -> bool {
    // One pass costs less than to look for each.
    request.keys().any(|name| name == header::IF_NONE_MATCH || name == header::IF_MODIFIED_SINCE)
}

/// Whether a 304 meets a condition of the client's own, so that it is an answer for the client. One without the validator
/// that the condition names meets it, since nothing contradicts it.
pub(crate) fn meets_clients_condition(
    request: &HeaderMap,
    not_modified: &HeaderMap,
    now: SystemTime,
) -> bool {
    let theirs = Representation::of_received(not_modified, now);
    // RFC 9110 13.1.3: beside a tag, the date does not count.
    let is_bare = if request.contains_key(header::IF_NONE_MATCH) {
        theirs.etag.is_none()
    } else {
        theirs.last_modified.is_none()
    };
    is_conditional(request)
        && (is_bare || preconditions::evaluate(request, &theirs, now) == Outcome::NotModified)
}

/// The fields of a stored response after a 304 (RFC 9111 3.2): those of the 304 replace the stored
/// ones, all lines of them; fields that it omits stay.
///
/// `Content-Length`, `Content-Encoding`, `Content-Range`, digests of the content and connection-specific fields are not
/// taken over: the stored content depends on them, or they belong to that one connection. `Age` and `Date` are those of
/// the 304, or none: they say when the response was good, and that is now. `Vary` names the fields that either names:
/// the content was selected by what its own response said. A tag that equals the stored one except for its mark of
/// weakness leaves it unchanged, and if there is no stored tag, none is added: the new one may be that of another
/// coding, for which it is strong.
pub(crate) fn freshen(stored: &HeaderMap, not_modified: &HeaderMap) -> HeaderMap {
    let mut update = not_modified.clone();
    remove_hop_by_hop(&mut update);
    let mut fields = stored.clone();
    fields.remove(header::AGE);
    fields.remove(header::DATE);
    let own = stored.get(header::ETAG).map(|own| EntityTag::new(own.as_bytes()));
    let told = update.get(header::ETAG).map(|told| EntityTag::new(told.as_bytes()));
    let is_other_tag = own.zip(told).is_some_and(|(own, told)| !own.weak_eq(&told));
    let is_kept = |name: &HeaderName| kept_by_freshening(name) || (*name == header::ETAG && !is_other_tag);
    for name in update.keys().filter(|name| !is_kept(name)) {
        fields.remove(name);
        for value in update.get_all(name) {
            fields.append(name, value.clone());
        }
    }
    add_members(stored, &mut fields, &header::VARY);
    fields
}

/// Adds the members of one list of names to another.
fn add_members(from: &HeaderMap, to: &mut HeaderMap, name: &HeaderName) {
    let known: Vec<_> = list(to, name).map(<[u8]>::to_ascii_lowercase).collect();
    let added = list(from, name).filter(|member| !known.contains(&member.to_ascii_lowercase()));
    for value in added.filter_map(|member| HeaderValue::from_bytes(member).ok()) {
        to.append(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn validators(headers: &HeaderMap) -> Validators<'_> {
        let get = |name| headers.get(name).map(HeaderValue::as_bytes);
        Validators { etag: get(header::ETAG), last_modified: get(header::LAST_MODIFIED) }
    }

    const DATE: &str = "Tue, 01 Sep 2026 00:00:00 GMT";

    #[test]
    fn vl1_conditions_are_made_of_stored_validators() {
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
    fn vl2_a_304_identifies_the_response_that_it_freshens() {
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
        check(&[("last-modified", DATE)], Some(1), &[a, &[("last-modified", DATE)]], Freshen(1));
        check(&[], None, &[], Unknown);
        // None of its validators were sent, so the 304 is not about it.
        check(&[("last-modified", DATE)], Some(0), &[&[]], Unknown);
        check(&[], Some(0), &[&[], a], Freshen(1));
    }

    #[track_caller]
    fn check_condition(
        request: &[(&'static str, &'static str)],
        not_modified: &[(&'static str, &'static str)],
        expected: bool,
    ) {
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_790_000_000);
        let found = meets_clients_condition(&map(request), &map(not_modified), now);
        assert_eq!(found, expected, "{request:?} {not_modified:?}");
    }

    #[test]
    fn b07_a_304_goes_to_the_client_if_it_meets_the_clients_condition() {
        const LATER: &str = "Wed, 02 Sep 2026 00:00:00 GMT";
        let (tag, since) = (("if-none-match", "\"a\""), ("if-modified-since", DATE));
        // RFC 9110 13.1.2.
        check_condition(&[tag], &[("etag", "\"a\"")], true);
        check_condition(&[tag], &[("etag", "W/\"a\"")], true);
        check_condition(&[tag], &[("etag", "\"b\"")], false);
        check_condition(&[("if-none-match", "*")], &[("etag", "\"b\"")], true);
        check_condition(&[tag], &[], true);
        // RFC 9110 13.1.3.
        check_condition(&[since], &[("last-modified", DATE)], true);
        check_condition(&[since], &[("last-modified", LATER)], false);
        check_condition(&[since], &[], true);
        check_condition(&[since], &[("last-modified", "x")], true);
        check_condition(&[since], &[("etag", "\"b\"")], true);
        // With a tag the date does not count.
        check_condition(&[tag, since], &[("last-modified", LATER)], true);
        check_condition(&[tag, since], &[("etag", "\"b\""), ("last-modified", DATE)], false);
        // These are not answered with a 304.
        check_condition(&[], &[], false);
        check_condition(&[("if-match", "\"a\"")], &[("etag", "\"a\"")], false);
        check_condition(&[("if-unmodified-since", DATE)], &[], false);
    }

    #[test]
    fn b01_a_304_to_a_date_alone_identifies_the_selected_response() {
        use Identified::{Freshen, Unknown};
        let (dated, tagged): (&[_], &[_]) = (&[("last-modified", DATE)], &[("etag", "\"b\"")]);
        check(&[("etag", "\"a\"")], Some(0), &[dated], Freshen(0));
        check(&[("etag", "\"a\""), ("last-modified", DATE)], Some(0), &[dated], Freshen(0));
        check(&[("etag", "\"a\""), ("last-modified", "x")], Some(0), &[dated], Unknown);
        check(&[("etag", "\"a\"")], None, &[dated], Unknown);
        check(&[("etag", "\"a\"")], Some(0), &[dated, tagged], Unknown);
    }

    #[test]
    fn b01_a_weak_tag_identifies_the_selected_response_only() {
        use Identified::{Freshen, Unknown};
        let (strong, weak): (&[_], &[_]) = (&[("etag", "\"a\"")], &[("etag", "W/\"a\"")]);
        let other: &[_] = &[("etag", "\"b\"")];
        check(weak, Some(0), &[other, strong], Unknown);
        check(weak, Some(0), &[other, weak], Unknown);
        check(weak, None, &[strong, weak], Unknown);
        check(weak, Some(1), &[strong, weak], Freshen(1));
        check(strong, Some(1), &[strong, weak], Freshen(0));
    }

    #[test]
    fn b02_a_304_removes_no_names_from_the_stored_vary() {
        for (stored, not_modified, expected) in [
            ("accept, Cookie", "cookie", &["cookie", "accept"][..]),
            ("accept", "accept", &["accept"]),
            ("accept", "origin", &["origin", "accept"]),
            ("accept", "*", &["*", "accept"]),
        ] {
            let fields = freshen(&map(&[("vary", stored)]), &map(&[("vary", not_modified)]));
            let lines: Vec<_> = fields.get_all("vary").into_iter().collect();
            assert_eq!(lines, expected, "{stored} {not_modified}");
        }
        let fields = freshen(&map(&[("vary", "accept")]), &map(&[]));
        assert_eq!(fields, map(&[("vary", "accept")]));
    }

    #[test]
    fn b01_a_tag_that_differs_only_in_weakness_does_not_replace_the_stored_one() {
        for (stored, told, expected) in
            [("W/\"x\"", "\"x\"", "W/\"x\""), ("\"x\"", "W/\"x\"", "\"x\""), ("\"x\"", "\"y\"", "\"y\"")]
        {
            assert_eq!(freshen(&map(&[("etag", stored)]), &map(&[("etag", told)]))["etag"], expected);
        }
        assert_eq!(freshen(&map(&[]), &map(&[("etag", "\"x\"")])), map(&[]));
    }

    #[test]
    fn vl2_a_304_updates_the_stored_fields() {
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
