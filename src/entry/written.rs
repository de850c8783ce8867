//! Stored responses as bytes, for stores that keep them outside of this process's memory.
//!
//! A response, version 2:
//!
//! ```text
//! u8   version: 2
//! u8   where the content is: 0 at the end, 1 elsewhere
//! u64  length of the content in bytes
//! u128 which content it is, where that is elsewhere
//! head: u32 length | version and fields of the head, see below
//! trailers: u32 length | lines, or absent
//! content, where it is not elsewhere
//! ```
//!
//! A head, version 2:
//!
//! ```text
//! u8   version: 2
//! u16  status
//! u8   flags: 1 immutable, 2 must-revalidate, 4 no-cache, 8 outdated, 16 shared in spite of `Authorization`,
//!             32 shared in spite of `Cookie`, 64 the entity tag was generated, 128 answers count from themselves
//! times: date, generated, request time, response time: each i64 seconds since 1970 | u32 nanoseconds
//! durations: initial age, lifetime, stale-while-revalidate: each u64 seconds | u32 nanoseconds
//! u8   0, or 1 | duration: stale-if-error
//! u8   0 a whole, 1 parts, 2 what is sent again for the same `Range`
//! parts: u64 bytes of the representation | u32 count | first and last byte of each part, u64
//! selecting fields: u32 length | bytes, see `semantics/vary/written.rs`
//! fields that are sent: lines
//! fields that are not sent: lines
//! fields that the origin has not sent: u32 count | names
//! groups: u32 count | texts
//! `Cache-Status` of caches nearer to the origin, or absent
//! hint: u32 length | bytes, see `semantics/hint/written.rs`; or absent
//! ```
//!
//! Lines are `u32 count | name, value, u8 1 if it is sensitive`. Names, values and texts have a `u32` with their length
//! before them; 0xffffffff is that of an absent one. Integers are little-endian, and the nanoseconds of a time before 1970
//! count forwards. There is no checksum: a store on media that can lose a write has one of its own. What was written by
//! another version is [`InvalidEntry::Version`], which a store takes for a miss.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};
use http::{HeaderValue, StatusCode};

use super::parts::HeadParts;
use super::{InvalidEntry, Part, Payload, RemoteContent, ResponseHead, StoredResponse};
use crate::semantics::CredentialKinds;
use crate::semantics::bytes::{Reader, put, put_count, put_duration};
use crate::semantics::hint::CacheHint;
use crate::semantics::parts::Extent;
use crate::semantics::range::ByteRange;
use crate::semantics::reuse::Reuse;
use crate::semantics::vary::Selecting;

const VERSION: u8 = 2;

const AT_THE_END: u8 = 0;
const ELSEWHERE: u8 = 1;

const WHOLE: u8 = 0;
const PARTS: u8 = 1;
const REPLAY: u8 = 2;

const IMMUTABLE: u8 = 1;
const MUST_REVALIDATE: u8 = 2;
const NO_CACHE: u8 = 4;
const OUTDATED: u8 = 8;
const SHARED_AUTHORIZATION: u8 = 16;
const SHARED_COOKIE: u8 = 32;
const GENERATED_TAG: u8 = 64;
const COUNTS_FROM_ANSWERS: u8 = 128;

impl StoredResponse {
    /// The response as bytes, its content included unless that is remote. The layout is documented with the source, in
    /// `src/entry/written.rs`; it begins with its version.
    pub fn to_bytes(&self) -> Vec<u8> {
        let payload = self.payload();
        let mut bytes = vec![VERSION];
        match payload.as_remote() {
            None => {
                bytes.push(AT_THE_END);
                bytes.extend_from_slice(&payload.len().to_le_bytes());
            }
            Some(remote) => {
                bytes.push(ELSEWHERE);
                bytes.extend_from_slice(&remote.length.to_le_bytes());
                bytes.extend_from_slice(&remote.id.to_le_bytes());
            }
        }
        put(&mut bytes, Some(&self.head().to_bytes()));
        match payload.trailers() {
            None => put(&mut bytes, None),
            Some(trailers) => {
                let mut lines = Vec::new();
                put_lines(&mut lines, trailers);
                put(&mut bytes, Some(&lines));
            }
        }
        payload.pieces().into_iter().flatten().for_each(|piece| bytes.extend_from_slice(piece));
        bytes
    }

    /// What [`StoredResponse::to_bytes`] has written. The content is copied, so nothing keeps `bytes` in memory.
    ///
    /// ```
    /// # use std::time::{Duration, UNIX_EPOCH};
    /// # use http::{HeaderMap, StatusCode};
    /// # use larder::semantics::reuse::Reuse;
    /// # use larder::semantics::vary::Selecting;
    /// use larder::{HeadParts, Payload, ResponseHead, StoredResponse};
    /// # let reuse = Reuse::new(UNIX_EPOCH, UNIX_EPOCH, Duration::from_secs(60), Selecting::default());
    /// # let parts = HeadParts::new(StatusCode::OK, HeaderMap::new(), reuse);
    /// let head = ResponseHead::from_parts(parts).unwrap();
    /// let response = StoredResponse::from_parts(head, Payload::from_bytes("hello".into())).unwrap();
    /// let written = response.to_bytes();
    /// let read = StoredResponse::from_bytes(written.into()).unwrap();
    /// assert_eq!(read.head(), response.head());
    /// assert_eq!(read.payload().to_bytes().unwrap(), "hello");
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidEntry`] where no layer has stored a response that is written so.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, InvalidEntry> {
        let mut reader = versioned(&bytes)?;
        let place = reader.u8().ok_or(InvalidEntry::Truncated)?;
        let length = reader.u64().ok_or(InvalidEntry::Truncated)?;
        let remote = match place {
            AT_THE_END => None,
            ELSEWHERE => {
                let id = reader.array().map(u128::from_le_bytes).ok_or(InvalidEntry::Truncated)?;
                Some(RemoteContent::new(id, length))
            }
            _ => return Err(InvalidEntry::Content),
        };
        let head = ResponseHead::from_bytes(reader.bytes().ok_or(InvalidEntry::Truncated)?)?;
        let trailers = match reader.optional().ok_or(InvalidEntry::Truncated)? {
            None => None,
            Some(lines) => {
                let mut lines = Reader(lines);
                Some(read_lines(&mut lines).filter(|_| lines.is_empty()).ok_or(InvalidEntry::Fields)?)
            }
        };
        let left = reader.0.len();
        let payload = match remote {
            Some(_) if left > 0 => return Err(InvalidEntry::Trailing),
            Some(remote) => Payload::remote(remote),
            None if (left as u64) < length => return Err(InvalidEntry::Truncated),
            None if (left as u64) > length => return Err(InvalidEntry::Trailing),
            None => Payload::from_bytes(bytes.slice(bytes.len() - left..)),
        };
        Self::from_parts(head, payload.with_trailers(trailers))
    }
}

impl ResponseHead {
    /// The head as bytes, for stores that keep it apart from its content. The layout is documented with the source, in
    /// `src/entry/written.rs`; it begins with its version.
    pub fn to_bytes(&self) -> Vec<u8> {
        let HeadParts {
            absent,
            counts_from_answers,
            generated_tag,
            groups,
            headers,
            hint,
            part,
            reuse,
            status,
            stripped,
            upstream_status,
        } = self.to_parts();
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&status.as_u16().to_le_bytes());
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
        bytes.push(flags.iter().filter(|(is_set, _)| *is_set).fold(0, |flags, (_, flag)| flags | flag));
        for time in [reuse.date, reuse.generated, reuse.request_time, reuse.response_time] {
            put_time(&mut bytes, time);
        }
        for duration in [reuse.initial_age, reuse.lifetime, reuse.stale_while_revalidate] {
            put_duration(&mut bytes, duration);
        }
        bytes.push(reuse.stale_if_error.is_some().into());
        if let Some(window) = reuse.stale_if_error {
            put_duration(&mut bytes, window);
        }
        match &part {
            None => bytes.push(WHOLE),
            Some(Part::Bytes(extent)) => {
                bytes.push(PARTS);
                bytes.extend_from_slice(&extent.length().to_le_bytes());
                put_count(&mut bytes, extent.parts().len());
                for part in extent.parts() {
                    bytes.extend_from_slice(&part.first.to_le_bytes());
                    bytes.extend_from_slice(&part.last.to_le_bytes());
                }
            }
            Some(Part::Replay) => bytes.push(REPLAY),
        }
        put(&mut bytes, Some(&reuse.selecting.to_bytes()));
        put_lines(&mut bytes, &headers);
        put_lines(&mut bytes, &stripped);
        put_count(&mut bytes, absent.len());
        absent.iter().for_each(|name| put(&mut bytes, Some(name.as_str().as_bytes())));
        put_count(&mut bytes, groups.len());
        groups.iter().for_each(|group| put(&mut bytes, Some(group.as_bytes())));
        put(&mut bytes, upstream_status.as_ref().map(HeaderValue::as_bytes));
        put(&mut bytes, hint.map(|hint| hint.to_bytes()).as_deref());
        bytes
    }

    /// What [`ResponseHead::to_bytes`] has written.
    ///
    /// # Errors
    ///
    /// [`InvalidEntry`] where no layer has stored a head that is written so.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidEntry> {
        use InvalidEntry::{Fields, Part as NoPart, Selecting as NotSelecting, Time, Trailing, Truncated};
        let mut reader = versioned(bytes)?;
        let status = reader.u16().ok_or(Truncated)?;
        let status = StatusCode::from_u16(status).map_err(|_| NoPart)?;
        let flags = reader.u8().ok_or(Truncated)?;
        let has = |flag| flags & flag != 0;
        let mut time = || read_time(&mut reader).ok_or(Time);
        let (date, generated, request_time, response_time) = (time()?, time()?, time()?, time()?);
        let mut duration = || reader.duration().ok_or(Time);
        let (initial_age, lifetime, stale_while_revalidate) = (duration()?, duration()?, duration()?);
        let stale_if_error = match reader.u8().ok_or(Truncated)? {
            0 => None,
            1 => Some(reader.duration().ok_or(Time)?),
            _ => return Err(Time),
        };
        let part = match reader.u8().ok_or(Truncated)? {
            WHOLE => None,
            PARTS => {
                let length = reader.u64().ok_or(Truncated)?;
                let part =
                    |reader: &mut Reader<'_>| Some(ByteRange { first: reader.u64()?, last: reader.u64()? });
                let parts = reader.list(part).ok_or(Truncated)?;
                Some(Part::Bytes(Extent::new(length, parts).ok_or(NoPart)?))
            }
            REPLAY => Some(Part::Replay),
            _ => return Err(NoPart),
        };
        let selecting = Selecting::from_bytes(reader.bytes().ok_or(Truncated)?).ok_or(NotSelecting)?;
        let headers = read_lines(&mut reader).ok_or(Fields)?;
        let stripped = read_lines(&mut reader).ok_or(Fields)?;
        let name = |reader: &mut Reader<'_>| HeaderName::from_lowercase(reader.bytes()?).ok();
        let absent = reader.list(name).ok_or(Fields)?;
        let group = |reader: &mut Reader<'_>| std::str::from_utf8(reader.bytes()?).ok().map(Into::into);
        let groups = reader.list(group).ok_or(Fields)?;
        let upstream_status = reader.optional().ok_or(Truncated)?;
        let upstream_status = upstream_status.map(HeaderValue::from_bytes).transpose().map_err(|_| Fields)?;
        let hint = match reader.optional().ok_or(Truncated)? {
            None => None,
            Some(hint) => Some(CacheHint::from_bytes(hint).ok_or(InvalidEntry::Hint)?),
        };
        if !reader.is_empty() {
            return Err(Trailing);
        }
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
            selecting,
            shared: CredentialKinds { authorization: has(SHARED_AUTHORIZATION), cookie: has(SHARED_COOKIE) },
            stale_if_error,
            stale_while_revalidate,
        };
        let (counts_from_answers, generated_tag) = (has(COUNTS_FROM_ANSWERS), has(GENERATED_TAG));
        Self::from_parts(HeadParts {
            absent,
            counts_from_answers,
            generated_tag,
            groups,
            headers,
            hint,
            part,
            reuse,
            status,
            stripped,
            upstream_status,
        })
    }
}

fn versioned(bytes: &[u8]) -> Result<Reader<'_>, InvalidEntry> {
    match bytes.split_first() {
        None => Err(InvalidEntry::Truncated),
        Some((&VERSION, rest)) => Ok(Reader(rest)),
        Some(_) => Err(InvalidEntry::Version),
    }
}

fn put_lines(target: &mut Vec<u8>, headers: &HeaderMap) {
    put_count(target, headers.len());
    for (name, value) in headers {
        put(target, Some(name.as_str().as_bytes()));
        put(target, Some(value.as_bytes()));
        target.push(value.is_sensitive().into());
    }
}

fn read_lines(reader: &mut Reader<'_>) -> Option<HeaderMap> {
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

fn read_time(reader: &mut Reader<'_>) -> Option<SystemTime> {
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

    fn any_value() -> impl Strategy<Value = HeaderValue> {
        let byte = prop_oneof![20 => b' '..=b'~', 4 => 0x80..=0xff_u8, 1 => Just(b'\t')];
        (prop::collection::vec(byte, 0..40), prop::bool::weighted(0.1)).prop_map(|(bytes, is_sensitive)| {
            let mut value = HeaderValue::from_bytes(&bytes).expect("a value");
            value.set_sensitive(is_sensitive);
            value
        })
    }

    fn any_headers() -> impl Strategy<Value = HeaderMap> {
        let name = prop_oneof![
            prop::sample::select(vec![
                "content-type",
                "cache-control",
                "date",
                "set-cookie",
                "link",
                "x-cache"
            ])
            .prop_map(str::to_owned),
            "[a-z][a-z0-9-]{0,12}[a-z]",
        ];
        let value = prop_oneof![
            any_value(),
            prop::sample::select(vec!["text/html", "max-age=60", "gzip", "0", "9999", "10000", "007", ""])
                .prop_map(HeaderValue::from_static),
        ];
        prop::collection::vec((name, value), 0..8).prop_map(|lines| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(HeaderName::from_bytes(name.as_bytes()).expect("a name"), value);
            }
            for made in [header::AGE, header::CONNECTION, header::CONTENT_LENGTH, header::UPGRADE, header::TE]
            {
                headers.remove(made);
            }
            headers
        })
    }

    fn any_time() -> impl Strategy<Value = SystemTime> {
        let seconds = prop_oneof![4 => 1_700_000_000..1_900_000_000_i64, 1 => any::<i32>().prop_map(i64::from), 1 => any::<i64>()];
        (seconds, prop_oneof![Just(0), 0..1_000_000_000_u32]).prop_map(|(seconds, nanoseconds)| {
            let mut bytes = seconds.to_le_bytes().to_vec();
            bytes.extend_from_slice(&nanoseconds.to_le_bytes());
            read_time(&mut Reader(&bytes)).unwrap_or(UNIX_EPOCH)
        })
    }

    fn any_duration() -> impl Strategy<Value = Duration> {
        prop_oneof![(0..100_000_u64).prop_map(Duration::from_secs), any::<Duration>(), Just(Duration::MAX)]
    }

    prop_compose! {
        fn any_reuse()(
            [date, generated, request_time, response_time] in
                [any_time(), any_time(), any_time(), any_time()],
            [initial_age, lifetime, stale_while_revalidate] in [any_duration(), any_duration(), any_duration()],
            stale_if_error in prop::option::of(any_duration()),
            [immutable, must_revalidate, no_cache, outdated, authorization, cookie]: [bool; 6],
            accepted in prop::option::of("[a-z, ;=.0-9]{0,12}"),
        ) -> Reuse {
            let mut selecting = Selecting::default();
            if let Some(accepted) = accepted {
                let (mut response, mut request) = (HeaderMap::new(), HeaderMap::new());
                response.insert(header::VARY, HeaderValue::from_static("accept-language, x-a"));
                request.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_str(&accepted).expect("a value"));
                let rules = crate::semantics::Rules::default();
                selecting = Selecting::of(&response, &request, &rules).expect("a Vary that can match");
            }
            Reuse {
                date, generated, immutable, initial_age, lifetime, must_revalidate, no_cache, outdated, request_time,
                response_time, selecting, shared: CredentialKinds { authorization, cookie }, stale_if_error,
                stale_while_revalidate,
            }
        }
    }

    fn any_part() -> impl Strategy<Value = Option<Part>> {
        let parts = prop::collection::btree_set(0u64..40, 1..6).prop_map(|bytes| {
            let part = |byte: &u64| ByteRange { first: byte * 10, last: byte * 10 + 4 };
            Extent::new(1000, bytes.iter().map(part)).map(Part::Bytes)
        });
        prop_oneof![3 => Just(None), 1 => parts, 1 => Just(Some(Part::Replay))]
    }

    prop_compose! {
        fn any_parts()(
            headers in any_headers(),
            stripped in any_headers(),
            groups in prop::collection::vec(any::<String>(), 0..3),
            part in any_part(),
            reuse in any_reuse(),
            status in prop::sample::select(vec![200_u16, 203, 204, 301, 404, 410, 500]),
            upstream in prop::option::of(any_value()),
            (absent, hint) in (prop::collection::vec("[a-z]{1,8}", 0..3), any::<[u32; 2]>()),
            [has_tag, generated_tag, counts_from_answers, has_hint]: [bool; 4],
        ) -> HeadParts {
            let status = if part.is_some() { 206 } else { status };
            let mut reuse = reuse;
            if part == Some(Part::Replay) {
                reuse.selecting = reuse.selecting.with_field(&HeaderMap::new(), header::RANGE);
            }
            let mut parts = HeadParts::new(StatusCode::from_u16(status).expect("a status"), headers, reuse);
            if has_tag {
                parts.headers.insert(header::ETAG, HeaderValue::from_static("\"a\""));
            }
            parts.generated_tag = generated_tag && has_tag;
            parts.groups = groups.into_iter().map(Into::into).collect();
            (parts.part, parts.stripped, parts.upstream_status) = (part, stripped, upstream);
            let name = |name: String| HeaderName::from_bytes(name.as_bytes()).expect("a name");
            parts.absent = absent.into_iter().map(name).collect();
            parts.counts_from_answers = counts_from_answers && !parts.headers.contains_key(header::DATE);
            let [lifetime, tag] = hint;
            let hint = CacheHint::new().lifetime(Duration::from_secs(lifetime.into())).tag(tag.to_string());
            parts.hint = has_hint.then_some(hint);
            parts
        }
    }

    prop_compose! {
        fn any_response()(
            parts in any_parts(), content in prop::collection::vec(any::<u8>(), 0..50), is_remote: bool, id: u128,
            trailers in prop::option::of(any_headers()), has_length: bool,
        ) -> StoredResponse {
            let length = match &parts.part {
                Some(Part::Bytes(extent)) => extent.held(),
                _ => content.len() as u64,
            };
            let mut parts = parts;
            if has_length && !matches!(parts.part, Some(Part::Bytes(_))) {
                parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
            let payload = if is_remote {
                Payload::remote(RemoteContent::new(id, length))
            } else {
                let content = content.into_iter().cycle().chain(std::iter::repeat(0));
                Payload::from_bytes(content.take(usize::try_from(length).expect("short")).collect())
            };
            let head = ResponseHead::from_parts(parts).expect("the parts of a head");
            StoredResponse::from_parts(head, payload.with_trailers(trailers)).expect("content as long as the head says")
        }
    }

    fn check(read: &StoredResponse, written: &StoredResponse) {
        assert_eq!(read.head(), written.head());
        let parts = |response: &StoredResponse| {
            let payload = response.payload();
            (payload.as_remote(), payload.to_bytes(), payload.trailers().cloned())
        };
        assert_eq!(parts(read), parts(written));
    }

    /// What holds for every response that is stored, and would go wrong otherwise.
    fn check_invariants(response: &StoredResponse) {
        let (head, payload) = (response.head(), response.payload());
        assert_eq!(head.part().is_some(), head.status() == StatusCode::PARTIAL_CONTENT);
        if let Some(Part::Bytes(extent)) = head.part() {
            assert!(extent.held() == payload.len() && !extent.is_complete());
        }
        let fields = head.headers();
        for (name, value) in &fields {
            assert!(
                ![header::AGE, header::TRANSFER_ENCODING, header::CONNECTION].contains(name),
                "{name}: {value:?}"
            );
        }
        if let Some(length) = fields.get(header::CONTENT_LENGTH) {
            assert_eq!(length.to_str().expect("digits").parse(), Ok(payload.len()));
        }
        for now in [UNIX_EPOCH, head.reuse().response_time, head.reuse().date] {
            let _ = (head.reuse().ttl(now), head.reuse().age(now), head.reuse().is_older_than(head.reuse()));
        }
        assert!(response.weight() >= payload.to_bytes().unwrap_or_default().len());
    }

    /// Written by version 2. Should this fail, the version has to be raised.
    #[test]
    fn a_response_has_the_documented_bytes_of_version_2() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ETAG, HeaderValue::from_static("\"a\""));
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let mut reuse = Reuse::new(at(1), at(2), Duration::from_secs(60), Selecting::default());
        reuse.stale_if_error = Some(Duration::from_nanos(5));
        reuse.no_cache = true;
        let mut parts = HeadParts::new(StatusCode::PARTIAL_CONTENT, headers, reuse);
        let extent = Extent::new(9, [ByteRange { first: 3, last: 4 }]).expect("an extent");
        (parts.part, parts.groups) = (Some(Part::Bytes(extent)), vec!["g".into()]);
        let head = ResponseHead::from_parts(parts).expect("the parts of a head");
        let response = StoredResponse::from_parts(head, Payload::from_bytes("de".into())).expect("two bytes");
        let head = concat!(
            "02",
            "ce00",
            "04", // version, 206, no-cache
            "010000000000000000000000",
            "010000000000000000000000", // date, generated
            "020000000000000000000000",
            "020000000000000000000000", // request time, response time
            "000000000000000000000000",
            "3c0000000000000000000000",
            "000000000000000000000000", // durations
            "01",
            "000000000000000005000000", // stale-if-error
            "01",
            "0900000000000000",
            "01000000",
            "0300000000000000",
            "0400000000000000", // parts
            "08000000",
            "00000000",
            "00000000", // selecting fields
            "01000000",
            "04000000",
            "65746167",
            "03000000",
            "226122",
            "00",       // etag: "a"
            "00000000", // nothing stripped
            "00000000", // nothing of the policy's own
            "01000000",
            "01000000",
            "67",       // groups
            "ffffffff", // nothing from caches nearer to the origin
            "ffffffff", // no hint
        );
        let length = format!("{:02x}000000", head.len() / 2);
        let expected = ["02", "00", "0200000000000000", &length, head, "ffffffff", "6465"].concat();
        let written: String = response.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(written, expected);
        check(&StoredResponse::from_bytes(response.to_bytes().into()).expect("a response"), &response);
    }

    #[test]
    fn bytes_of_another_version_and_truncated_bytes_are_refused() {
        let reuse = Reuse::new(UNIX_EPOCH, UNIX_EPOCH, Duration::ZERO, Selecting::default());
        let head = ResponseHead::from_parts(HeadParts::new(StatusCode::OK, HeaderMap::new(), reuse))
            .expect("a head");
        let bytes = StoredResponse::from_parts(head, Payload::from_bytes("abc".into()))
            .expect("a response")
            .to_bytes();
        let read = |bytes: &[u8]| StoredResponse::from_bytes(Bytes::copy_from_slice(bytes)).map(|_| ());
        assert_eq!(read(&bytes), Ok(()));
        assert_eq!(read(&[&[1], &bytes[1..]].concat()), Err(InvalidEntry::Version));
        assert_eq!(read(&[&bytes[..], b"d"].concat()), Err(InvalidEntry::Trailing));
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{length}");
        }
        assert_eq!(read(&bytes[..bytes.len() - 1]), Err(InvalidEntry::Truncated));
        assert_eq!(ResponseHead::from_bytes(&[7]), Err(InvalidEntry::Version));
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
        fn a_response_is_restored_from_its_bytes(response in any_response()) {
            let read = StoredResponse::from_bytes(response.to_bytes().into()).expect("its bytes");
            check(&read, &response);
            check_invariants(&read);
        }

        #[test]
        fn a23_changed_or_truncated_bytes_are_refused_or_give_a_valid_response(
            response in any_response(), at: prop::sample::Index, bits in 1..=255_u8, cut: prop::sample::Index,
        ) {
            let mut bytes = response.to_bytes();
            prop_assert!(StoredResponse::from_bytes(bytes[..cut.index(bytes.len())].to_vec().into()).is_err());
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
            if let Ok(read) = StoredResponse::from_bytes(bytes.clone().into()) {
                check_invariants(&read);
                check(&StoredResponse::from_bytes(read.to_bytes().into()).expect("its bytes"), &read);
            }
        }

        #[test]
        fn a23_arbitrary_bytes_are_refused_or_give_a_valid_response(bytes: Vec<u8>, head: Vec<u8>) {
            let _ = ResponseHead::from_bytes(&[&[VERSION][..], &head].concat());
            if let Ok(read) = StoredResponse::from_bytes([&[VERSION, 0][..], &bytes].concat().into()) {
                check_invariants(&read);
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
