//! Parts of a representation: which bytes a 206 brought, and what several brought together
//! (RFC 9110 14.4, 15.3.7; RFC 9111 3.3, 3.4).

use std::time::SystemTime;

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};

use super::etag::EntityTag;
use super::fields::trim;
use super::range::{ByteRange, SentRange, is_strong_date, number};

/// The most parts that are kept apart: only an attack makes more, and each look at them costs.
pub const MOST_PARTS: usize = 64;

/// Which bytes of a representation are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    length: u64,
    /// In ascending order, with a gap between any two.
    parts: Box<[ByteRange]>,
}

impl Extent {
    /// What `Content-Range` of a 206 says about its content; `None` if the field is not one line of the form
    /// `bytes first-last/length`: malformed, of another unit, or of unknown length.
    pub(crate) fn of(response: &HeaderMap) -> Option<Self> {
        let mut lines = response.get_all(header::CONTENT_RANGE).into_iter();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return None;
        };
        let line = trim(line.as_bytes());
        let (unit, rest) = line.split_at_checked(line.iter().position(|&byte| byte == b' ')?)?;
        if !unit.eq_ignore_ascii_case(b"bytes") {
            return None;
        }
        let rest = trim(rest);
        let slash = rest.iter().position(|&byte| byte == b'/')?;
        let (range, length) = (&rest[..slash], number(&rest[slash + 1..])?);
        let dash = range.iter().position(|&byte| byte == b'-')?;
        let range = ByteRange { first: number(&range[..dash])?, last: number(&range[dash + 1..])? };
        // Anything else is invalid (RFC 9110 14.4); the largest number may stand for a larger one.
        let is_valid = range.first <= range.last && range.last < length && length < u64::MAX;
        is_valid.then(|| Self { length, parts: Box::new([range]) })
    }

    /// These bytes of a representation of `length` bytes. `None` where there are none, or more than [`MOST_PARTS`] parts, or
    /// where they are not in order with a gap between any two, and within the representation.
    ///
    /// ```
    /// use larder::semantics::parts::Extent;
    /// use larder::semantics::range::ByteRange;
    /// let part = |first, last| ByteRange { first, last };
    /// assert_eq!(Extent::new(10, [part(0, 1), part(5, 9)]).unwrap().held(), 7);
    /// assert_eq!(Extent::new(10, [part(0, 1), part(2, 9)]), None);
    /// ```
    pub fn new(length: u64, parts: impl IntoIterator<Item = ByteRange>) -> Option<Self> {
        let parts: Box<[_]> = parts.into_iter().take(MOST_PARTS + 1).collect();
        let is_within = |part: &ByteRange| part.first <= part.last && part.last < length;
        let is_apart =
            |pair: &[ByteRange]| pair[0].last.checked_add(1).is_some_and(|next| next < pair[1].first);
        let is_valid = !parts.is_empty()
            && parts.len() <= MOST_PARTS
            && length < u64::MAX
            && parts.iter().all(is_within)
            && parts.windows(2).all(is_apart);
        is_valid.then_some(Self { length, parts })
    }

    /// Bytes of the whole representation.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes that are held.
    pub fn held(&self) -> u64 {
        self.parts.iter().map(ByteRange::len).sum()
    }

    /// The bytes that are held: in order, with a gap between any two.
    pub fn parts(&self) -> &[ByteRange] {
        &self.parts
    }

    /// Whether nothing is missing.
    pub(crate) fn is_complete(&self) -> bool {
        self.held() == self.length
    }

    /// Where a range begins in the concatenation of the parts; `None` if not all of it is held.
    pub(crate) fn position(&self, range: ByteRange) -> Option<u64> {
        let mut before = 0;
        for part in &self.parts {
            if part.first <= range.first && range.last <= part.last {
                return Some(before + (range.first - part.first));
            }
            before += part.len();
        }
        None
    }

    /// Where bytes of the concatenation of the parts are in the representation; `None` if they are not all of one part.
    pub(crate) fn range_at(&self, position: ByteRange) -> Option<ByteRange> {
        let mut before = 0;
        for part in &self.parts {
            if position.first < before + part.len() {
                let first = part.first + (position.first - before);
                let last = first.checked_add(position.len() - 1)?;
                return (last <= part.last).then_some(ByteRange { first, last });
            }
            before += part.len();
        }
        None
    }

    /// The part that has a byte.
    pub(crate) fn around(&self, byte: u64) -> Option<ByteRange> {
        self.parts.iter().find(|part| part.first <= byte && byte <= part.last).copied()
    }

    /// The range from the first missing byte of a range to the last one; `None` if nothing is missing.
    pub(crate) fn missing(&self, range: ByteRange) -> Option<ByteRange> {
        let first = match self.around(range.first) {
            None => range.first,
            Some(part) => part.last.checked_add(1).filter(|&first| first <= range.last)?,
        };
        let last = match self.around(range.last) {
            None => range.last,
            Some(part) => part.first.saturating_sub(1),
        };
        Some(ByteRange { first, last })
    }

    /// The bytes that two extents hold together; `None` if the lengths of their representations differ, or if there
    /// would be more than [`MOST_PARTS`] parts.
    #[must_use]
    pub(crate) fn join(&self, other: &Self) -> Option<Self> {
        if self.length != other.length {
            return None;
        }
        let mut all: Vec<_> = self.parts.iter().chain(&other.parts).copied().collect();
        all.sort_unstable_by_key(|part| part.first);
        let mut parts: Vec<ByteRange> = Vec::with_capacity(all.len());
        for part in all {
            match parts.last_mut() {
                Some(last) if part.first <= last.last.saturating_add(1) => {
                    last.last = last.last.max(part.last)
                }
                _ => parts.push(part),
            }
        }
        (parts.len() <= MOST_PARTS).then(|| Self { length: self.length, parts: parts.into_boxed_slice() })
    }

    /// Bytes of heap memory held.
    pub(crate) fn weight(&self) -> usize {
        size_of_val(&*self.parts)
    }
}

/// The validator that identifies parts of one representation (RFC 9111 3.4): a strong entity tag, or a `Last-Modified`
/// that is strong by RFC 9110 8.8.2.2. It can be used in `If-Range`.
pub(crate) fn strong_validator<'a>(
    etag: Option<&'a [u8]>,
    last_modified: Option<&'a [u8]>,
    date: SystemTime,
) -> Option<&'a [u8]> {
    if let Some(tag) = etag {
        // A tag without quotes would be read as a date in `If-Range`.
        let is_strong = tag.starts_with(b"\"") && !EntityTag::new(tag).is_weak();
        return Some(tag).filter(|_| is_strong);
    }
    let modified = last_modified?;
    let parsed = super::date::parse(modified, date)?;
    is_strong_date(parsed, date).then_some(modified)
}

/// What of a representation a stored 206 has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// These bytes, one after the other. `Content-Range` and `Content-Length` are made for each answer.
    Bytes(Extent),
    /// What is sent again for the very same `Range`, which is among the selecting fields, and for nothing else:
    /// several ranges, or one that can't be made out.
    Replay,
}

impl Part {
    /// What a response has, where it is a 206 that may be stored. `sent_method` and `sent_range` are those of the request as
    /// it was sent, `request` has the client's fields, and `length` is that of the content, where it is known.
    pub(crate) fn of(
        sent_method: &Method,
        sent_range: SentRange,
        request: &HeaderMap,
        (status, response): (StatusCode, &HeaderMap),
        length: Option<u64>,
    ) -> Option<Self> {
        /// Nobody sends a longer `Range` again.
        const LONGEST: usize = 256;
        let is_part = status == StatusCode::PARTIAL_CONTENT && *sent_method == Method::GET;
        // RFC 9110 15.3.7: to a client that has the rest, as `If-Range` says, the fields of the whole need not be sent.
        let is_sparse = sent_range == SentRange::Clients && request.contains_key(header::IF_RANGE);
        if is_sparse || !is_part {
            return None;
        }
        let has_its_length = |extent: &Extent| length.is_none_or(|length| length == extent.held());
        let extent = Extent::of(response).filter(has_its_length).map(Self::Bytes);
        match (sent_range, extent) {
            (SentRange::None, _) | (SentRange::Missing, None) => None,
            (_, Some(part)) => Some(part),
            (SentRange::Clients, None) => {
                let mut lines = request.get_all(header::RANGE).into_iter();
                let is_short = lines.next().is_some_and(|line| line.len() <= LONGEST);
                (is_short && lines.next().is_none()).then_some(Self::Replay)
            }
        }
    }

    /// Bytes of memory that it takes, its own included.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Bytes(extent) => extent.weight(),
                Self::Replay => 0,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::map;
    use http::HeaderValue;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::time::{Duration, UNIX_EPOCH};

    fn read(lines: &[&'static str]) -> Option<Extent> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::CONTENT_RANGE, HeaderValue::from_static(line));
        }
        Extent::of(&headers)
    }

    #[test]
    fn ra2_content_range_is_parsed() {
        // RFC 9110 14.4.
        for (line, expected) in [
            ("bytes 0-9/10", Some((0, 9, 10))),
            ("bytes 0-0/1", Some((0, 0, 1))),
            ("bytes 4-9/10", Some((4, 9, 10))),
            ("Bytes 4-9/10", Some((4, 9, 10))),
            ("bytes  4-9/10", Some((4, 9, 10))),
            ("bytes 04-09/010", Some((4, 9, 10))),
            ("bytes 0-9/18446744073709551614", Some((0, 9, u64::MAX - 1))),
            ("bytes 0-9/18446744073709551615", None),
            ("bytes 0-9/99999999999999999999999", None),
            ("bytes 0-9/*", None),
            ("bytes */10", None),
            ("bytes 4-10/10", None),
            ("bytes 9-4/10", None),
            ("bytes 10-10/10", None),
            ("bytes 0-0/0", None),
            ("bytes 4-/10", None),
            ("bytes -4/10", None),
            ("bytes 4/10", None),
            ("bytes 4-9", None),
            ("bytes 4-9/", None),
            ("bytes=4-9/10", None),
            ("bytes 4 - 9/10", None),
            ("bytes 4-9 /10", None),
            ("bytes 4-9/10, 1-2/10", None),
            ("bytes +4-9/10", None),
            ("bytes 0x4-9/10", None),
            ("lines 4-9/10", None),
            ("4-9/10", None),
            ("", None),
        ] {
            let extent = read(&[line]);
            let told = extent.map(|extent| (extent.parts[0].first, extent.parts[0].last, extent.length));
            assert_eq!(told, expected, "{line:?}");
        }
        assert_eq!(read(&["bytes 0-1/10", "bytes 0-1/10"]), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn ra2_a_strong_tag_or_an_old_enough_date_is_a_strong_validator() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777 + 60);
        let validator = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let get = |name| headers.get(name).map(HeaderValue::as_bytes);
            let own = strong_validator(get(header::ETAG), get(header::LAST_MODIFIED), now);
            own.map(|own| HeaderValue::from_bytes(own).expect("a value"))
        };
        let modified = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(validator(&[("etag", "\"a\"")]), Some(HeaderValue::from_static("\"a\"")));
        assert_eq!(validator(&[("last-modified", modified)]), Some(HeaderValue::from_static(modified)));
        assert_eq!(validator(&[("etag", "W/\"a\"")]), None);
        assert_eq!(validator(&[("etag", "a")]), None);
        assert_eq!(validator(&[("etag", "W/\"a\""), ("last-modified", modified)]), None);
        assert_eq!(validator(&[("last-modified", "Sun, 06 Nov 1994 08:50:37 GMT")]), None);
        assert_eq!(validator(&[("last-modified", "yesterday")]), None);
        assert_eq!(validator(&[]), None);
    }

    fn extent(length: u64, bytes: &BTreeSet<u64>) -> Option<Extent> {
        let mut whole: Option<Extent> = None;
        for &byte in bytes {
            let one = Extent { length, parts: Box::new([ByteRange { first: byte, last: byte }]) };
            whole = Some(whole.map_or(one.clone(), |whole| whole.join(&one).expect("one length")));
        }
        whole
    }

    #[test]
    fn a14_the_number_of_parts_is_bounded() {
        let one = |byte| Extent { length: 1000, parts: Box::new([ByteRange { first: byte, last: byte }]) };
        let mut all = one(0);
        for byte in 1..MOST_PARTS as u64 {
            all = all.join(&one(2 * byte)).expect("few enough parts");
        }
        assert_eq!(all.parts().len(), MOST_PARTS);
        assert_eq!(all.join(&one(2 * MOST_PARTS as u64)), None);
        assert!(all.join(&one(1)).is_some(), "what closes a gap");
    }

    #[track_caller]
    fn check_part(
        (method, sent_range): (Method, SentRange),
        request: &[(&'static str, &'static str)],
        (code, response): (u16, &[(&'static str, &'static str)]),
        length: Option<u64>,
        expected: Option<Part>,
    ) {
        let status = StatusCode::from_u16(code).expect("a status");
        let found = Part::of(&method, sent_range, &map(request), (status, &map(response)), length);
        assert_eq!(found, expected, "{method} {sent_range:?} {request:?} {code} {response:?} {length:?}");
    }

    #[test]
    fn ra2_a_206_gives_a_part_a_replay_or_nothing() {
        use SentRange::{Clients, Missing, None as Nothing};
        let asked = [("range", "bytes=0-4")];
        let part = [("content-range", "bytes 0-4/10")];
        let bytes = || Extent::of(&map(&part)).map(Part::Bytes);
        let get = |range| (Method::GET, range);
        // RFC 9110 15.3.7.
        check_part(get(Clients), &asked, (206, &part), None, bytes());
        check_part(get(Clients), &asked, (206, &part), Some(5), bytes());
        check_part(get(Missing), &asked, (206, &part), Some(5), bytes());
        // Nobody asked for a part.
        check_part(get(Nothing), &asked, (206, &part), Some(5), None);
        // It is not what it says.
        check_part(get(Missing), &asked, (206, &part), Some(4), None);
        check_part(get(Clients), &asked, (206, &part), Some(4), Some(Part::Replay));
        // Several ranges, and what can't be made out, are for the same field only.
        check_part(get(Clients), &asked, (206, &[]), None, Some(Part::Replay));
        check_part(
            get(Clients),
            &asked,
            (206, &[("content-range", "bytes 0-4/*")]),
            None,
            Some(Part::Replay),
        );
        check_part(get(Missing), &asked, (206, &[]), None, None);
        // RFC 9110 15.3.7: fields may be left out.
        let sparse = [("range", "bytes=0-4"), ("if-range", "\"a\"")];
        check_part(get(Clients), &sparse, (206, &part), None, None);
        check_part(get(Missing), &sparse, (206, &part), None, bytes());
        // RFC 9110 14.2, and no part at all.
        check_part((Method::HEAD, Clients), &asked, (206, &part), None, None);
        check_part((Method::QUERY, Clients), &asked, (206, &part), None, None);
        for code in [200, 404, 416] {
            check_part(get(Clients), &asked, (code, &part), None, None);
        }
    }

    #[test]
    fn ra2_only_a_206_to_one_short_range_line_is_replayed() {
        let replayed = |request: &[(&'static str, &'static str)], expected: bool| {
            let expected = expected.then_some(Part::Replay);
            check_part((Method::GET, SentRange::Clients), request, (206, &[]), None, expected);
        };
        replayed(&[("range", "bytes=0-1,4-5")], true);
        replayed(&[("range", "bytes=0-1"), ("range", "bytes=4-5")], false);
        replayed(&[], false);
        replayed(&[("range", "0".repeat(256).leak())], true);
        replayed(&[("range", "0".repeat(257).leak())], false);
    }

    proptest! {
        #[test]
        fn ra2_an_extent_behaves_like_a_set_of_bytes(
            one in prop::collection::btree_set(0u64..20, 1..12),
            other in prop::collection::btree_set(0u64..20, 1..12),
            first in 0u64..20,
            more in 0u64..20,
        ) {
            let (a, b) = (extent(20, &one).expect("bytes"), extent(20, &other).expect("bytes"));
            let both = a.join(&b).expect("one length");
            let union: BTreeSet<u64> = one.union(&other).copied().collect();
            prop_assert_eq!(both.held(), union.len() as u64);
            prop_assert_eq!(both.is_complete(), union.len() == 20);
            prop_assert!(both.parts().windows(2).all(|pair| pair[0].last + 1 < pair[1].first));
            for byte in 0..20 {
                prop_assert_eq!(both.around(byte).is_some(), union.contains(&byte));
            }
            let range = ByteRange { first, last: (first + more).min(19) };
            let lacking: Vec<u64> = (range.first..=range.last).filter(|byte| !union.contains(byte)).collect();
            let hull = lacking.first().zip(lacking.last()).map(|(&first, &last)| ByteRange { first, last });
            prop_assert_eq!(both.missing(range), hull);
            let position = union.iter().position(|&byte| byte == range.first).map(|at| at as u64);
            prop_assert_eq!(both.position(range), position.filter(|_| lacking.is_empty()));
        }

        #[test]
        fn a23_an_extent_is_made_only_of_ordered_and_separate_parts(
            parts in prop::collection::vec((0u64..12, 0u64..12), 0..4), length in prop_oneof![0u64..13, Just(u64::MAX)],
        ) {
            let parts: Vec<_> = parts.into_iter().map(|(first, last)| ByteRange { first, last }).collect();
            let bytes: BTreeSet<u64> = parts.iter().flat_map(|part| part.first..=part.last).collect();
            let own = extent(length, &bytes).filter(|own| {
                own.parts() == parts && length < u64::MAX && bytes.iter().all(|byte| *byte < length)
            });
            prop_assert_eq!(Extent::new(length, parts), own);
        }

        #[test]
        fn ra2_parsing_content_range_never_panics(
            line in prop_oneof!["(bytes )?[-0-9/* ]{0,30}", "bytes [0-9]{1,2}-[0-9]{1,3}/[0-9]{1,4}"],
        ) {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, HeaderValue::from_str(&line).expect("a value"));
            if let Some(extent) = Extent::of(&headers) {
                prop_assert!(extent.held() > 0 && extent.held() <= extent.length());
            }
        }
    }
}
