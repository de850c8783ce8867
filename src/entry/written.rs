//! The head of a stored response as bytes. Records (`store/record`) hold it, with its content or without.
//!
//! ```text
//! u8   version: 3
//! sections (`sections.rs`):
//!   129  status: u16
//!   130  times: date, generated, request time, response time: each i64 seconds since 1970 | u32 nanoseconds
//!   131  durations: initial age, lifetime, stale-while-revalidate: each u64 seconds | u32 nanoseconds
//!   132  flags, u16: 1 immutable, 2 must-revalidate, 4 no-cache, 8 outdated, 16 shared in spite of `Authorization`,
//!                    32 shared in spite of `Cookie`, 64 the entity tag was generated, 128 answers count from themselves
//!   133  selecting fields, see `semantics/vary/written.rs`
//!   134  fields that are sent: lines
//!   135  stale-if-error: a duration
//!   136  not a whole: u8 1 parts | u64 bytes of the representation | u32 count | first and last byte of each part, u64
//!                     u8 2 what is sent again for the same `Range`
//!   137  fields that are not sent: lines
//!   138  fields that the origin has not sent: u32 count | names
//!   139  groups: u32 count | texts
//!   140  hint, see `semantics/hint/written.rs`
//!    13  `Cache-Status` of caches nearer to the origin: its bytes
//!    14  which levels of a tier keep it: u8 1 far, 2 near; anything else, both
//! ```
//!
//! From 135 on they are left out where there is nothing to say. Lines are `u32 count | name, value, u8 1 if it is sensitive`.
//! Names, values and texts have a `u32` with their length before them. Integers are little-endian, and the nanoseconds of a
//! time before 1970 count forwards. Another version, a flag that is not known, and a section that is not known and needed are
//! [`InvalidEntry::Version`], which a store takes for a miss.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{HeaderMap, HeaderName};
use http::{HeaderValue, StatusCode};

use super::parts::HeadParts;
use super::sections::{NEEDED, Sections, put_section};
use super::{InvalidEntry, Levels, Part, ResponseHead};
use crate::semantics::CredentialKinds;
use crate::semantics::bytes::{Reader, put, put_count, put_duration};
use crate::semantics::hint::CacheHint;
use crate::semantics::parts::Extent;
use crate::semantics::range::ByteRange;
use crate::semantics::reuse::Reuse;
use crate::semantics::vary::Selecting;

const VERSION: u8 = 3;

const STATUS: u8 = NEEDED | 1;
const TIMES: u8 = NEEDED | 2;
const DURATIONS: u8 = NEEDED | 3;
const FLAGS: u8 = NEEDED | 4;
const SELECTING: u8 = NEEDED | 5;
const FIELDS: u8 = NEEDED | 6;
const STALE_IF_ERROR: u8 = NEEDED | 7;
const PART: u8 = NEEDED | 8;
const STRIPPED: u8 = NEEDED | 9;
const ABSENT: u8 = NEEDED | 10;
const GROUPS: u8 = NEEDED | 11;
const HINT: u8 = NEEDED | 12;
const UPSTREAM_STATUS: u8 = 13;
const LEVELS: u8 = 14;
/// One more than the last number.
const KNOWN: usize = 15;

const PARTS: u8 = 1;
const REPLAY: u8 = 2;

const FAR: u8 = 1;
const NEAR: u8 = 2;

const IMMUTABLE: u16 = 1;
const MUST_REVALIDATE: u16 = 2;
const NO_CACHE: u16 = 4;
const OUTDATED: u16 = 8;
const SHARED_AUTHORIZATION: u16 = 16;
const SHARED_COOKIE: u16 = 32;
const GENERATED_TAG: u16 = 64;
const COUNTS_FROM_ANSWERS: u16 = 128;
const ALL_FLAGS: u16 = 255;

impl ResponseHead {
    /// The head as bytes, for stores that keep it apart from its content. The layout is documented with the source, in
    /// `src/entry/written.rs`; it begins with its version. It has no checksum: a [`Record`](crate::store::record::Record) has
    /// one.
    pub fn to_bytes(&self) -> Vec<u8> {
        let HeadParts {
            absent,
            counts_from_answers,
            generated_tag,
            groups,
            headers,
            hint,
            levels,
            part,
            reuse,
            status,
            stripped,
            upstream_status,
        } = self.to_parts();
        let flags = [
            (reuse.immutable, IMMUTABLE),
            (reuse.must_revalidate, MUST_REVALIDATE),
            (reuse.no_cache, NO_CACHE),
            (reuse.outdated, OUTDATED),
            (reuse.shared.authorization, SHARED_AUTHORIZATION),
            (reuse.shared.cookie, SHARED_COOKIE),
            (generated_tag, GENERATED_TAG),
            (counts_from_answers, COUNTS_FROM_ANSWERS),
        ];
        let flags = flags.iter().filter(|(is_set, _)| *is_set).fold(0, |flags, (_, flag)| flags | flag);
        let mut bytes = vec![VERSION];
        let mut section = |tag, write: &dyn Fn(&mut Vec<u8>)| put_section(&mut bytes, tag, write);
        section(STATUS, &|target| target.extend_from_slice(&status.as_u16().to_le_bytes()));
        section(TIMES, &|target| {
            let times = [reuse.date, reuse.generated, reuse.request_time, reuse.response_time];
            times.iter().for_each(|time| put_time(target, *time));
        });
        section(DURATIONS, &|target| {
            let durations = [reuse.initial_age, reuse.lifetime, reuse.stale_while_revalidate];
            durations.iter().for_each(|duration| put_duration(target, *duration));
        });
        section(FLAGS, &|target| target.extend_from_slice(&flags.to_le_bytes()));
        section(SELECTING, &|target| reuse.selecting.write(target));
        section(FIELDS, &|target| put_lines(target, &headers));
        if let Some(window) = reuse.stale_if_error {
            section(STALE_IF_ERROR, &|target| put_duration(target, window));
        }
        match &part {
            None => {}
            Some(Part::Bytes(extent)) => section(PART, &|target| {
                target.push(PARTS);
                target.extend_from_slice(&extent.length().to_le_bytes());
                put_count(target, extent.parts().len());
                for part in extent.parts() {
                    target.extend_from_slice(&part.first.to_le_bytes());
                    target.extend_from_slice(&part.last.to_le_bytes());
                }
            }),
            Some(Part::Replay) => section(PART, &|target| target.push(REPLAY)),
        }
        if !stripped.is_empty() {
            section(STRIPPED, &|target| put_lines(target, &stripped));
        }
        if !absent.is_empty() {
            section(ABSENT, &|target| put_texts(target, absent.iter().map(HeaderName::as_str)));
        }
        if !groups.is_empty() {
            section(GROUPS, &|target| put_texts(target, groups.iter().map(AsRef::as_ref)));
        }
        if let Some(hint) = &hint {
            section(HINT, &|target| target.extend_from_slice(&hint.to_bytes()));
        }
        if let Some(status) = &upstream_status {
            section(UPSTREAM_STATUS, &|target| target.extend_from_slice(status.as_bytes()));
        }
        match levels {
            Levels::Both => {}
            Levels::Far => section(LEVELS, &|target| target.push(FAR)),
            Levels::Near => section(LEVELS, &|target| target.push(NEAR)),
        }
        bytes
    }

    /// What [`ResponseHead::to_bytes`] has written.
    ///
    /// # Errors
    ///
    /// [`InvalidEntry`] where no layer has stored a head that is written so.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidEntry> {
        use InvalidEntry::{Fields, Hint, Part as NoPart, Selecting as NotSelecting, Time};
        let sections = match bytes.split_first() {
            None => return Err(InvalidEntry::Truncated),
            Some((&VERSION, rest)) => Sections::<KNOWN>::read(rest)?,
            Some(_) => return Err(InvalidEntry::Version),
        };
        let flags = sections.present(FLAGS, InvalidEntry::Sections, Reader::u16)?;
        if flags & !ALL_FLAGS != 0 {
            return Err(InvalidEntry::Version);
        }
        let has = |flag| flags & flag != 0;
        let status = |reader: &mut Reader<'_>| StatusCode::from_u16(reader.u16()?).ok();
        let status = sections.present(STATUS, NoPart, status)?;
        let times = |reader: &mut Reader<'_>| {
            Some([read_time(reader)?, read_time(reader)?, read_time(reader)?, read_time(reader)?])
        };
        let [date, generated, request_time, response_time] = sections.present(TIMES, Time, times)?;
        let durations =
            |reader: &mut Reader<'_>| Some([reader.duration()?, reader.duration()?, reader.duration()?]);
        let [initial_age, lifetime, stale_while_revalidate] = sections.present(DURATIONS, Time, durations)?;
        let reuse = Reuse {
            date,
            generated,
            immutable: has(IMMUTABLE),
            initial_age,
            lifetime,
            must_revalidate: has(MUST_REVALIDATE),
            no_cache: has(NO_CACHE),
            outdated: has(OUTDATED),
            request_time,
            response_time,
            selecting: sections.present(SELECTING, NotSelecting, Selecting::read)?,
            shared: CredentialKinds { authorization: has(SHARED_AUTHORIZATION), cookie: has(SHARED_COOKIE) },
            stale_if_error: sections.optional(STALE_IF_ERROR, Time, Reader::duration)?,
            stale_while_revalidate,
        };
        let name = |reader: &mut Reader<'_>| HeaderName::from_lowercase(reader.bytes()?).ok();
        let group = |reader: &mut Reader<'_>| std::str::from_utf8(reader.bytes()?).ok().map(Into::into);
        let hint = |reader: &mut Reader<'_>| CacheHint::from_bytes(reader.rest());
        let levels = |reader: &mut Reader<'_>| {
            Some(match reader.u8()? {
                FAR => Levels::Far,
                NEAR => Levels::Near,
                _ => Levels::Both,
            })
        };
        let value = |reader: &mut Reader<'_>| HeaderValue::from_bytes(reader.rest()).ok();
        Self::from_parts(HeadParts {
            absent: sections.optional(ABSENT, Fields, |reader| reader.list(name))?.unwrap_or_default(),
            counts_from_answers: has(COUNTS_FROM_ANSWERS),
            generated_tag: has(GENERATED_TAG),
            groups: sections.optional(GROUPS, Fields, |reader| reader.list(group))?.unwrap_or_default(),
            headers: sections.present(FIELDS, Fields, read_lines)?,
            hint: sections.optional(HINT, Hint, hint)?,
            levels: sections.optional(LEVELS, Fields, levels)?.unwrap_or_default(),
            part: sections.optional(PART, NoPart, read_part)?,
            reuse,
            status,
            stripped: sections.optional(STRIPPED, Fields, read_lines)?.unwrap_or_default(),
            upstream_status: sections.optional(UPSTREAM_STATUS, Fields, value)?,
        })
    }
}

fn read_part(reader: &mut Reader<'_>) -> Option<Part> {
    match reader.u8()? {
        PARTS => {
            let length = reader.u64()?;
            let part =
                |reader: &mut Reader<'_>| Some(ByteRange { first: reader.u64()?, last: reader.u64()? });
            Extent::new(length, reader.list(part)?).map(Part::Bytes)
        }
        REPLAY => Some(Part::Replay),
        _ => None,
    }
}

fn put_texts<'a>(target: &mut Vec<u8>, texts: impl ExactSizeIterator<Item = &'a str>) {
    put_count(target, texts.len());
    texts.for_each(|text| put(target, Some(text.as_bytes())));
}

pub(crate) fn put_lines(target: &mut Vec<u8>, headers: &HeaderMap) {
    put_count(target, headers.len());
    for (name, value) in headers {
        put(target, Some(name.as_str().as_bytes()));
        put(target, Some(value.as_bytes()));
        target.push(value.is_sensitive().into());
    }
}

pub(crate) fn read_lines(reader: &mut Reader<'_>) -> Option<HeaderMap> {
    let lines = reader.list(|reader| {
        let name = HeaderName::from_lowercase(reader.bytes()?).ok()?;
        let mut value = HeaderValue::from_bytes(reader.bytes()?).ok()?;
        value.set_sensitive(matches!(reader.u8()?, 1));
        Some((name, value))
    })?;
    let mut headers = HeaderMap::try_with_capacity(lines.len()).ok()?;
    for (name, value) in lines {
        headers.try_append(name, value).ok()?;
    }
    Some(headers)
}

fn put_time(target: &mut Vec<u8>, time: SystemTime) {
    let whole = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    let (seconds, nanoseconds) = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (whole(since.as_secs()), since.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let part = before.subsec_nanos();
            (-whole(before.as_secs()) - i64::from(part > 0), if part > 0 { 1_000_000_000 - part } else { 0 })
        }
    };
    target.extend_from_slice(&seconds.to_le_bytes());
    target.extend_from_slice(&nanoseconds.to_le_bytes());
}

pub(crate) fn read_time(reader: &mut Reader<'_>) -> Option<SystemTime> {
    let seconds = reader.array().map(i64::from_le_bytes)?;
    let nanoseconds = reader.u32().filter(|nanoseconds| *nanoseconds < 1_000_000_000)?;
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let whole = if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    whole?.checked_add(Duration::from_nanos(nanoseconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header;
    use proptest::prelude::*;

    use crate::entry::arbitrary::{any_parts, any_time};
    use crate::entry::{Payload, RemoteContent, StoredResponse};

    fn plain() -> ResponseHead {
        let reuse = Reuse::new(UNIX_EPOCH, UNIX_EPOCH, Duration::ZERO, Selecting::default());
        ResponseHead::from_parts(HeadParts::new(StatusCode::OK, HeaderMap::new(), reuse)).expect("a head")
    }

    /// Written by version 3. Should this fail, the version has to be raised.
    #[test]
    fn a_head_has_the_documented_bytes_of_version_3() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ETAG, HeaderValue::from_static("\"a\""));
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let mut reuse = Reuse::new(at(1), at(2), Duration::from_secs(60), Selecting::default());
        reuse.stale_if_error = Some(Duration::from_nanos(5));
        reuse.no_cache = true;
        let mut parts = HeadParts::new(StatusCode::PARTIAL_CONTENT, headers, reuse);
        let extent = Extent::new(9, [ByteRange { first: 3, last: 4 }]).expect("an extent");
        (parts.part, parts.groups) = (Some(Part::Bytes(extent)), vec!["g".into()]);
        parts.upstream_status = Some(HeaderValue::from_static("u"));
        parts.levels = Levels::Near;
        let head = ResponseHead::from_parts(parts).expect("the parts of a head");
        let expected = concat!(
            "03",             // version
            "8102000000ce00", // 206
            "8230000000",     // date, generated, request time, response time
            "010000000000000000000000",
            "010000000000000000000000",
            "020000000000000000000000",
            "020000000000000000000000",
            "8324000000", // durations
            "000000000000000000000000",
            "3c0000000000000000000000",
            "000000000000000000000000",
            "84020000000400",                                   // no-cache
            "85080000000000000000000000",                       // no selecting fields
            "861400000001000000040000006574616703000000226122", // etag: "a"
            "00",
            "870c000000000000000000000005000000", // stale-if-error
            "881d0000000109000000000000000100000003000000000000000400000000000000", // parts
            "8b09000000010000000100000067",       // groups
            "0d0100000075",                       // of caches nearer to the origin
            "0e0100000002",                       // near
        );
        let written: String = head.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(written, expected);
        assert_eq!(ResponseHead::from_bytes(&head.to_bytes()), Ok(head));
    }

    #[test]
    fn f14_a_head_of_another_version_is_refused_and_what_a_later_one_adds_is_skipped() {
        let bytes = plain().to_bytes();
        let read = |bytes: &[u8]| ResponseHead::from_bytes(bytes);
        for version in [0, 1, 2, 4, 255] {
            assert_eq!(read(&[&[version], &bytes[1..]].concat()), Err(InvalidEntry::Version));
        }
        let with = |tag| {
            let mut bytes = bytes.clone();
            put_section(&mut bytes, tag, |target| target.extend_from_slice(b"later"));
            bytes
        };
        assert_eq!(read(&with(15)), Ok(plain()));
        assert_eq!(read(&with(NEEDED | 15)), Err(InvalidEntry::Version));
        let mut flags = plain().to_bytes();
        let at = flags.windows(5).position(|bytes| bytes == [FLAGS, 2, 0, 0, 0]).expect("flags") + 6;
        flags[at] |= 1;
        assert_eq!(read(&flags), Err(InvalidEntry::Version));
    }

    #[test]
    fn a23_a_head_that_is_cut_short_is_refused() {
        let bytes = plain().to_bytes();
        for length in 0..bytes.len() {
            assert!(ResponseHead::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
        assert_eq!(ResponseHead::from_bytes(b""), Err(InvalidEntry::Truncated));
    }

    #[test]
    fn heads_that_no_layer_stores_are_refused() {
        let extent = |length, last| Extent::new(length, [ByteRange { first: 0, last }]).expect("an extent");
        let with = |status: u16, part: Option<Part>, field: Option<(&'static str, &'static str)>| {
            let reuse = Reuse::new(UNIX_EPOCH, UNIX_EPOCH, Duration::ZERO, Selecting::default());
            let headers =
                field.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            let status = StatusCode::from_u16(status).expect("a status");
            let mut parts = HeadParts::new(status, headers.into_iter().collect(), reuse);
            parts.part = part;
            ResponseHead::from_parts(parts)
        };
        let bytes = |length, last| Some(Part::Bytes(extent(length, last)));
        for (status, part, field, expected) in [
            (206, None, None, InvalidEntry::Part),
            (200, bytes(9, 4), None, InvalidEntry::Part),
            (206, bytes(9, 8), None, InvalidEntry::Part),
            (200, Some(Part::Replay), None, InvalidEntry::Part),
            (206, Some(Part::Replay), None, InvalidEntry::Part), // without `Range` among the selecting fields
            (304, None, None, InvalidEntry::Part),
            (101, None, None, InvalidEntry::Part),
            (206, bytes(9, 4), Some(("content-range", "bytes 0-4/9")), InvalidEntry::Fields),
            (206, bytes(9, 4), Some(("content-length", "5")), InvalidEntry::Fields),
            (200, None, Some(("age", "5")), InvalidEntry::Fields),
            (200, None, Some(("cache-status", "a; hit")), InvalidEntry::Fields),
            (200, None, Some(("transfer-encoding", "chunked")), InvalidEntry::Fields),
            (200, None, Some(("connection", "close")), InvalidEntry::Fields),
        ] {
            assert_eq!(with(status, part, field), Err(expected), "{status} {field:?}");
        }
        let head = || with(200, None, Some(("content-length", "5"))).expect("a head");
        assert!(StoredResponse::from_parts(head(), Payload::from_bytes("12345".into())).is_ok());
        assert!(StoredResponse::from_parts(head(), Payload::remote(RemoteContent::new(1, 5))).is_ok());
        let short = [Payload::from_bytes("1234".into()), Payload::remote(RemoteContent::new(1, 4))];
        let parts = || with(206, bytes(9, 4), None).expect("a head");
        for payload in short {
            for head in [head(), parts()] {
                let refused = StoredResponse::from_parts(head, payload.clone()).map(|_| ());
                assert_eq!(refused, Err(InvalidEntry::Content));
            }
        }
        let mut generated = head().to_parts();
        generated.generated_tag = true;
        assert_eq!(ResponseHead::from_parts(generated), Err(InvalidEntry::Fields));
    }

    proptest! {
        #[test]
        fn a_head_is_restored_from_its_parts(parts in any_parts()) {
            let head = ResponseHead::from_parts(parts.clone()).expect("the parts of a head");
            prop_assert_eq!(&head.to_parts(), &parts);
            prop_assert_eq!(&ResponseHead::from_parts(head.to_parts()).expect("its parts"), &head);
            prop_assert_eq!(ResponseHead::from_bytes(&head.to_bytes()), Ok(head));
        }

        #[test]
        fn a23_arbitrary_bytes_are_refused_or_make_a_head_that_is_written_again(bytes: Vec<u8>, at: prop::sample::Index) {
            let mut changed = plain().to_bytes();
            let at = at.index(changed.len());
            changed.splice(at.., bytes);
            if let Ok(head) = ResponseHead::from_bytes(&changed) {
                prop_assert_eq!(ResponseHead::from_bytes(&head.to_bytes()), Ok(head));
            }
        }

        #[test]
        fn a_time_is_restored_from_its_bytes(time in any_time()) {
            let mut bytes = Vec::new();
            put_time(&mut bytes, time);
            prop_assert_eq!(read_time(&mut Reader(&bytes)), Some(time));
        }
    }
}
