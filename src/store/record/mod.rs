//! Records: all that a store has under one key as bytes, for stores outside of this process's memory.
//!
//! ```text
//!     0  6  "larder"
//!     6  2  u16 format: 1
//!     8  8  u64 revision; a store that compares and swaps compares these first 16 bytes
//!    16  4  u32 length of the head of the record: where the content begins
//!    20     sections (`entry/sections.rs`: u8 number | u32 length | bytes):
//!             129  the key, once, first
//!             130  a response, any number of times, the newest first:
//!                    129  content: u64 bytes of it in this record | u8 where it is:
//!                           0 here:       u64 XXH3 of it
//!                           1 elsewhere:  u64 length | u128 which content it is, in the store's terms
//!                    130  u64 id | u128 fence | u64 order
//!                    131  head (`entry/written.rs`)
//!                    132  trailers, where there are any: lines
//!                    5    by how many microseconds the clock of its times is ahead, where that is known: i64
//!    -8  8  u64 XXH3 of all of the above: the end of the head
//!           content: that of the first response, of the second, and so on
//! ```
//!
//! Integers are little-endian; XXH3 is the one of 64 bits, without a seed. What came with a later version of the library:
//!
//! - another format: not this record's business, and a miss; names of records have the format, too ([`RecordNames`]);
//! - a section whose number is 128 or more, in the record: a miss; in a response: that response is a miss, the others are not;
//! - another section: skipped.
//!
//! A fence is a number of the store's log of purges, never a time, so a response is judged by the purges that its reader knows.
//! What purges have made of it is therefore no part of a record.

mod names;

use std::hash::Hasher as _;

use bytes::Bytes;
use http::HeaderMap;
use twox_hash::XxHash3_64;

pub use self::names::RecordNames;
use super::lookup::{Fence, Stored, StoredId};
use crate::entry::key::CacheKey;
use crate::entry::sections::{NEEDED, Sections, is_needed, next_section, put_section};
use crate::entry::written::{put_lines, read_lines};
use crate::entry::{InvalidEntry, Payload, RemoteContent, ResponseHead, StoredResponse};
use crate::semantics::bytes::Reader;

/// The format of the records that this version of the library writes, and reads.
pub const FORMAT: u16 = 1;

const MAGIC: [u8; 6] = *b"larder";
/// Magic, format, revision, and the length of the head.
const FIXED: usize = 20;
const CHECKSUM: usize = 8;

const KEY: u8 = NEEDED | 1;
const RESPONSE: u8 = NEEDED | 2;

const CONTENT: u8 = NEEDED | 1;
const PLACE: u8 = NEEDED | 2;
const HEAD: u8 = NEEDED | 3;
const TRAILERS: u8 = NEEDED | 4;
const AHEAD: u8 = 5;
/// One more than the last number of a response's sections.
const KNOWN: usize = 6;

const HERE: u8 = 0;
const ELSEWHERE: u8 = 1;

/// All that a store has under one key.
///
/// ```
/// # use std::time::{Duration, UNIX_EPOCH};
/// # use http::{HeaderMap, StatusCode, Uri};
/// # use larder::semantics::reuse::Reuse;
/// # use larder::semantics::vary::Selecting;
/// # use larder::{CacheKey, HeadParts, InvalidEntry, Payload, ResponseHead, StoredResponse};
/// use larder::store::record::{Record, Recorded};
/// use larder::store::{Fence, StoredId};
/// # let reuse = Reuse::new(UNIX_EPOCH, UNIX_EPOCH, Duration::from_secs(60), Selecting::default());
/// # let parts = HeadParts::new(StatusCode::OK, HeaderMap::new(), reuse);
/// # let head = ResponseHead::from_parts(parts).unwrap();
/// # let response = StoredResponse::from_parts(head, Payload::from_bytes("hello".into())).unwrap();
///
/// let key = CacheKey::from_uri(&Uri::from_static("http://example.com/")).unwrap();
/// let recorded = Recorded::new(StoredId::from_bits(7), Fence::from_bits(3), response);
/// let bytes = Record::new(1, [recorded]).encode(&key).unwrap();
///
/// let read = Record::decode(&key, bytes.clone().into()).unwrap();
/// assert_eq!(read.variants[0].response.payload().to_bytes().unwrap(), "hello");
/// assert_eq!(read.variants[0].fence, Fence::from_bits(3));
/// // Bytes that are found under another name are not taken for that one's.
/// let other = CacheKey::from_uri(&Uri::from_static("http://example.com/other")).unwrap();
/// assert_eq!(Record::decode(&other, bytes.into()).unwrap_err(), InvalidEntry::Key);
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Record {
    /// Another number in each record that replaces one under the same key: random, or counted. It is in the first
    /// 16 bytes, by which a store can compare and swap.
    pub revision: u64,
    /// How many responses were there that can't be read, each of which is a miss: a later version wrote them, or they have
    /// changed. They are not written again.
    pub unread: usize,
    /// The responses, the newest first.
    pub variants: Vec<Recorded>,
}

/// One response in a record.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recorded {
    /// By how many microseconds the clock of its times is ahead of one that all nodes compare theirs with; `None` where that is not
    /// known. Whoever reads it knows by that what its times are by another clock.
    pub ahead: Option<i64>,
    /// The fence under which it was put: a number of the store's log of purges, by which it is judged when it is read.
    pub fence: Fence,
    /// Its identity.
    pub id: StoredId,
    /// A number by which a store orders the calls that have put responses under this key, 0 where it has none: an older call does
    /// not overwrite what a newer one has put.
    pub order: u64,
    /// The response, with its content or without ([`Payload::is_remote`]).
    pub response: StoredResponse,
}

impl Recorded {
    /// A response, put under a fence, with order 0, by a clock of which nothing is known.
    pub fn new(id: StoredId, fence: Fence, response: StoredResponse) -> Self {
        Self { ahead: None, fence, id, order: 0, response }
    }
}

impl From<&Stored> for Recorded {
    fn from(stored: &Stored) -> Self {
        Self::new(stored.id, stored.fence, stored.response.clone())
    }
}

/// As it is found until it has been judged: no purge is known to have made it stale.
impl From<Recorded> for Stored {
    fn from(recorded: Recorded) -> Self {
        Self::new(recorded.id, recorded.fence, recorded.response)
    }
}

impl Record {
    /// A record of these responses, the newest first.
    pub fn new(revision: u64, variants: impl IntoIterator<Item = Recorded>) -> Self {
        Self { revision, unread: 0, variants: variants.into_iter().collect() }
    }

    /// The record as bytes, with the content that is in memory. The layout is documented with the source, in
    /// `src/store/record/mod.rs`.
    ///
    /// # Errors
    ///
    /// [`InvalidEntry::TooLarge`] where all but the content is more than 4 GiB.
    pub fn encode(&self, key: &CacheKey) -> Result<Vec<u8>, InvalidEntry> {
        let payloads = || self.variants.iter().map(|recorded| recorded.response.payload());
        let pieces = || payloads().filter_map(Payload::pieces).flatten();
        let length: usize = pieces().map(Bytes::len).sum();
        let mut bytes = Vec::with_capacity(FIXED + key.as_bytes().len() + self.variants.len() * 512 + length);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&self.revision.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        put_section(&mut bytes, KEY, |target| target.extend_from_slice(key.as_bytes()));
        for recorded in &self.variants {
            put_section(&mut bytes, RESPONSE, |target| recorded.write(target));
        }
        let head = u32::try_from(bytes.len() + CHECKSUM).map_err(|_| InvalidEntry::TooLarge)?;
        if let Some(place) = bytes.get_mut(FIXED - 4..FIXED) {
            place.copy_from_slice(&head.to_le_bytes());
        }
        let checksum = XxHash3_64::oneshot(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        pieces().for_each(|piece| bytes.extend_from_slice(piece));
        Ok(bytes)
    }

    /// What [`Record::encode`] has written for this key. Content is not copied: it is slices of `bytes`, all of which it keeps in
    /// memory, until it is [compacted](StoredResponse::compacted); [`MemoryStore`](crate::MemoryStore) does that itself.
    ///
    /// # Errors
    ///
    /// [`InvalidEntry`] where `bytes` are no record of this key that this version can read. That is a miss.
    pub fn decode(key: &CacheKey, bytes: Bytes) -> Result<Self, InvalidEntry> {
        let sealed = Sealed::of(&bytes)?;
        if sealed.key != key.as_bytes() {
            return Err(InvalidEntry::Key);
        }
        sealed.record(&bytes)
    }

    /// [`Record::decode`] for a store that looks through its records, and has no key to compare: the record says whose it is.
    ///
    /// # Errors
    ///
    /// Those of [`Record::decode`].
    pub fn decode_any(bytes: Bytes) -> Result<(CacheKey, Self), InvalidEntry> {
        let sealed = Sealed::of(&bytes)?;
        let key = CacheKey::from_bytes(sealed.key)?;
        Ok((key, sealed.record(&bytes)?))
    }
}

impl Recorded {
    fn write(&self, target: &mut Vec<u8>) {
        let payload = self.response.payload();
        put_section(target, CONTENT, |target| match payload.as_remote() {
            None => {
                target.extend_from_slice(&payload.len().to_le_bytes());
                target.push(HERE);
                target.extend_from_slice(&checksum_of(payload).to_le_bytes());
            }
            Some(remote) => {
                target.extend_from_slice(&0u64.to_le_bytes());
                target.push(ELSEWHERE);
                target.extend_from_slice(&remote.length.to_le_bytes());
                target.extend_from_slice(&remote.id.to_le_bytes());
            }
        });
        put_section(target, PLACE, |target| {
            target.extend_from_slice(&self.id.bits().to_le_bytes());
            target.extend_from_slice(&self.fence.bits().to_le_bytes());
            target.extend_from_slice(&self.order.to_le_bytes());
        });
        put_section(target, HEAD, |target| target.extend_from_slice(&self.response.head().to_bytes()));
        if let Some(trailers) = payload.trailers() {
            put_section(target, TRAILERS, |target| put_lines(target, trailers));
        }
        if let Some(ahead) = self.ahead {
            put_section(target, AHEAD, |target| target.extend_from_slice(&ahead.to_le_bytes()));
        }
    }

    fn read(sections: &Sections<'_, KNOWN>, content: &Content, here: &Bytes) -> Result<Self, InvalidEntry> {
        let payload = match content.place {
            Place::Elsewhere(_) if !here.is_empty() => return Err(InvalidEntry::Content),
            Place::Elsewhere(remote) => Payload::remote(remote),
            Place::Here(checksum) if XxHash3_64::oneshot(here) != checksum => {
                return Err(InvalidEntry::Checksum);
            }
            Place::Here(_) => Payload::slice_of(here),
            Place::Unknown => return Err(InvalidEntry::Version),
        };
        let place = |reader: &mut Reader<'_>| {
            let (id, fence) = (reader.u64()?, reader.array().map(u128::from_le_bytes)?);
            Some((StoredId::from_bits(id), Fence::from_bits(fence), reader.u64()?))
        };
        let (id, fence, order) = sections.present(PLACE, InvalidEntry::Sections, place)?;
        let head = sections.present(HEAD, InvalidEntry::Sections, |reader| Some(reader.rest()))?;
        let trailers: Option<HeaderMap> = sections.optional(TRAILERS, InvalidEntry::Fields, read_lines)?;
        let ahead =
            sections.optional(AHEAD, InvalidEntry::Time, |reader| reader.array().map(i64::from_le_bytes))?;
        let payload = payload.with_trailers(trailers);
        let response = StoredResponse::from_parts(ResponseHead::from_bytes(head)?, payload)?;
        Ok(Self { ahead, fence, id, order, response })
    }
}

fn checksum_of(payload: &Payload) -> u64 {
    let mut hasher = XxHash3_64::new();
    payload.pieces().into_iter().flatten().for_each(|piece| hasher.write(piece));
    hasher.finish()
}

/// Where the content of a response is.
struct Content {
    /// Bytes of it in the record. It is the same whatever the place, so that those that follow are found.
    here: u64,
    place: Place,
}

enum Place {
    Elsewhere(RemoteContent),
    Here(u64),
    /// A later version has it somewhere else.
    Unknown,
}

impl Content {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let here = reader.u64()?;
        let place = match reader.u8()? {
            HERE => Place::Here(reader.u64()?),
            ELSEWHERE => {
                let length = reader.u64()?;
                Place::Elsewhere(RemoteContent::new(reader.array().map(u128::from_le_bytes)?, length))
            }
            _ => {
                reader.rest();
                Place::Unknown
            }
        };
        Some(Self { here, place })
    }
}

/// A record whose head is as it was written.
struct Sealed<'a> {
    /// Where the content begins.
    content: usize,
    key: &'a [u8],
    revision: u64,
    /// What follows the key.
    sections: Reader<'a>,
}

impl<'a> Sealed<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, InvalidEntry> {
        let mut fixed = Reader(bytes);
        let (magic, format) = (fixed.array(), fixed.u16());
        if magic.is_some_and(|magic| magic != MAGIC) || format.is_some_and(|format| format != FORMAT) {
            return Err(InvalidEntry::Version);
        }
        let revision = fixed.u64().ok_or(InvalidEntry::Truncated)?;
        let content = fixed.u32().and_then(|length| usize::try_from(length).ok());
        let head = content.and_then(|length| bytes.get(..length)).ok_or(InvalidEntry::Truncated)?;
        let (checked, checksum) = head.split_last_chunk().ok_or(InvalidEntry::Truncated)?;
        let sections = checked.get(FIXED..).ok_or(InvalidEntry::Truncated)?;
        if XxHash3_64::oneshot(checked) != u64::from_le_bytes(*checksum) {
            return Err(InvalidEntry::Checksum);
        }
        let mut sections = Reader(sections);
        match next_section(&mut sections)? {
            (KEY, key) => Ok(Self { content: head.len(), key, revision, sections }),
            _ => Err(InvalidEntry::Sections),
        }
    }

    fn record(mut self, bytes: &Bytes) -> Result<Record, InvalidEntry> {
        let mut content = bytes.slice(self.content..);
        let mut record = Record::new(self.revision, []);
        while !self.sections.is_empty() {
            match next_section(&mut self.sections)? {
                (RESPONSE, response) => match read_response(response, &mut content)? {
                    Ok(recorded) => record.variants.push(recorded),
                    Err(_) => record.unread += 1,
                },
                (KEY, _) => return Err(InvalidEntry::Sections),
                (tag, _) if is_needed(tag) => return Err(InvalidEntry::Version),
                _ => {}
            }
        }
        if content.is_empty() { Ok(record) } else { Err(InvalidEntry::Trailing) }
    }
}

/// A response, or why it is none, and what follows its content.
fn read_response(
    response: &[u8],
    content: &mut Bytes,
) -> Result<Result<Recorded, InvalidEntry>, InvalidEntry> {
    // It comes first, and is found whatever else is there.
    let described = match next_section(&mut Reader(response))? {
        (CONTENT, section) => Content::read(&mut Reader(section)).ok_or(InvalidEntry::Content)?,
        _ => return Err(InvalidEntry::Sections),
    };
    let here = usize::try_from(described.here).ok().filter(|here| *here <= content.len());
    let here = content.split_to(here.ok_or(InvalidEntry::Truncated)?);
    Ok(Sections::read(response).and_then(|sections| Recorded::read(&sections, &described, &here)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    use crate::entry::arbitrary::{any_response, check_invariants, check_same};
    use crate::entry::pieces::PIECE;

    fn key(uri: &str) -> CacheKey {
        CacheKey::from_uri(&uri.parse().expect("a URI")).expect("a key")
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let recorded = (any::<Option<i64>>(), any::<u64>(), any::<u128>(), any::<u64>(), any_response());
        let recorded = recorded.prop_map(|(ahead, id, fence, order, response)| Recorded {
            ahead,
            order,
            ..Recorded::new(StoredId::from_bits(id), Fence::from_bits(fence), response)
        });
        let responses = prop::collection::vec(recorded, 0..4);
        (any::<u64>(), responses).prop_map(|(revision, responses)| Record::new(revision, responses))
    }

    fn check(read: &Record, written: &Record) {
        assert_eq!((read.revision, read.unread), (written.revision, 0));
        assert_eq!(read.variants.len(), written.variants.len());
        for (read, written) in read.variants.iter().zip(&written.variants) {
            assert_eq!((read.fence, read.id, read.order), (written.fence, written.id, written.order));
            assert_eq!(read.ahead, written.ahead);
            check_same(&read.response, &written.response);
            check_invariants(&read.response);
        }
    }

    /// A record with a head of these sections after the key, as if it had been written so.
    fn sealed(key: &[u8], sections: &[u8], content: &[u8]) -> Bytes {
        let mut bytes = [&MAGIC[..], &FORMAT.to_le_bytes(), &[0; 12]].concat();
        put_section(&mut bytes, KEY, |target| target.extend_from_slice(key));
        bytes.extend_from_slice(sections);
        let length = u32::try_from(bytes.len() + CHECKSUM).expect("short");
        bytes[FIXED - 4..FIXED].copy_from_slice(&length.to_le_bytes());
        let checksum = XxHash3_64::oneshot(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.extend_from_slice(content);
        bytes.into()
    }

    fn plain(content: &[u8]) -> Recorded {
        use crate::entry::HeadParts;
        use crate::semantics::reuse::Reuse;
        use crate::semantics::vary::Selecting;
        use std::time::{Duration, UNIX_EPOCH};

        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("text/plain"));
        let reuse = Reuse::new(UNIX_EPOCH, UNIX_EPOCH, Duration::from_secs(60), Selecting::default());
        let head = ResponseHead::from_parts(HeadParts::new(http::StatusCode::OK, headers, reuse));
        let payload = Payload::from_bytes(Bytes::copy_from_slice(content));
        let response = StoredResponse::from_parts(head.expect("a head"), payload).expect("a response");
        Recorded::new(StoredId::from_bits(1), Fence::from_bits(2), response)
    }

    /// The sections of a response, with more behind them.
    fn response_with(recorded: &Recorded, more: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_section(&mut bytes, RESPONSE, |target| {
            recorded.write(target);
            for (tag, section) in more {
                put_section(target, *tag, |target| target.extend_from_slice(section));
            }
        });
        bytes
    }

    fn contents(record: &Record) -> Vec<Bytes> {
        let content = |recorded: &Recorded| recorded.response.payload().to_bytes().unwrap_or_default();
        record.variants.iter().map(content).collect()
    }

    #[test]
    fn content_is_a_slice_of_the_record_whatever_its_length_until_it_is_compacted() {
        for length in [1, 1_000, PIECE, PIECE + 1, 3 * PIECE] {
            let written: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let bytes =
                Bytes::from(Record::new(1, [plain(&written)]).encode(&key("http://a/")).expect("a record"));
            let read = Record::decode(&key("http://a/"), bytes.clone()).expect("a record");
            let within = bytes.as_ptr_range();
            let payload = read.variants[0].response.payload();
            for piece in payload.pieces().expect("it is in memory") {
                assert!(within.contains(&piece.as_ptr()), "{length}");
                assert!(piece.len() <= PIECE);
            }
            assert_eq!(payload.to_bytes().expect("it is in memory"), written);
            let compacted = read.variants[0].response.clone().compacted();
            for piece in compacted.payload().pieces().expect("it is in memory") {
                assert!(!within.contains(&piece.as_ptr()), "{length}");
            }
            assert_eq!(compacted.payload().to_bytes().expect("it is in memory"), written);
        }
    }

    #[test]
    fn a_response_without_content_keeps_no_record() {
        let bytes = Bytes::from(Record::new(1, [plain(b"")]).encode(&key("http://a/")).expect("a record"));
        let read = Record::decode(&key("http://a/"), bytes.clone()).expect("a record");
        assert!(bytes.is_unique(), "{read:?}");
    }

    #[test]
    fn a23_a_record_under_another_key_is_refused() {
        let bytes = Bytes::from(Record::new(1, [plain(b"a")]).encode(&key("http://a/")).expect("a record"));
        let read = |uri: &str| Record::decode(&key(uri), bytes.clone()).map(|record| record.variants.len());
        assert_eq!(read("http://a/"), Ok(1));
        for other in ["http://a/b", "https://a/", "http://b/", "http://a/?"] {
            assert_eq!(read(other), Err(InvalidEntry::Key), "{other}");
        }
        let (own, record) = Record::decode_any(bytes.clone()).expect("a record");
        assert_eq!((own, record.variants.len()), (key("http://a/"), 1));
        assert!(Record::decode_any(sealed(b"no key", &[], b"")).is_err());
    }

    #[test]
    fn f14_another_format_is_refused_whatever_else_the_record_says() {
        let bytes = Record::new(1, [plain(b"a")]).encode(&key("http://a/")).expect("a record");
        let read = |bytes: &[u8]| Record::decode(&key("http://a/"), Bytes::copy_from_slice(bytes)).map(drop);
        for format in [0, FORMAT + 1, u16::MAX] {
            let mut other = bytes.clone();
            other[6..8].copy_from_slice(&format.to_le_bytes());
            assert_eq!(read(&other), Err(InvalidEntry::Version));
            assert_eq!(read(&other[..8]), Err(InvalidEntry::Version));
        }
        assert_eq!(read(b"something else"), Err(InvalidEntry::Version));
        assert_eq!(read(b""), Err(InvalidEntry::Truncated));
    }

    #[test]
    fn f14_what_a_later_version_adds_is_skipped_unless_it_is_needed() {
        let (key, first, second) = (key("http://a/"), plain(b"first"), plain(b"second"));
        let read = |sections: &[Vec<u8>]| {
            let record = Record::decode(&key, sealed(key.as_bytes(), &sections.concat(), b"firstsecond"))?;
            Ok((contents(&record), record.unread))
        };
        let both = |first: &[(u8, &[u8])], more: &[u8]| {
            read(&[response_with(&plain(b"first"), first), more.to_vec(), response_with(&second, &[])])
        };
        let added = |tag| {
            let mut bytes = Vec::new();
            put_section(&mut bytes, tag, |target| target.extend_from_slice(b"later"));
            bytes
        };
        let (one, two) = (Bytes::from_static(b"first"), Bytes::from_static(b"second"));
        assert_eq!(both(&[], b""), Ok((vec![one.clone(), two.clone()], 0)));
        assert_eq!(both(&[], &added(3)), Ok((vec![one.clone(), two.clone()], 0)));
        assert_eq!(both(&[], &added(NEEDED | 3)), Err(InvalidEntry::Version));
        assert_eq!(both(&[(6, b"later")], b""), Ok((vec![one, two.clone()], 0)));
        assert_eq!(both(&[(NEEDED | 6, b"later")], b""), Ok((vec![two.clone()], 1)));
        // Content in a place that is not known, some of it in the record.
        let mut elsewhere = response_with(&first, &[]);
        let at =
            elsewhere.windows(9).position(|bytes| bytes == [5, 0, 0, 0, 0, 0, 0, 0, HERE]).expect("a place");
        elsewhere[at + 8] = 9;
        assert_eq!(read(&[elsewhere, response_with(&second, &[])]), Ok((vec![two], 1)));
    }

    #[test]
    fn a23_content_that_has_changed_is_a_miss_and_the_other_responses_are_not() {
        let key = key("http://a/");
        let mut bytes = Record::new(1, [plain(b"first"), plain(b"second")]).encode(&key).expect("a record");
        let at = bytes.len() - 8;
        bytes[at] ^= 1; // in `first`
        let read = Record::decode(&key, bytes.into()).expect("a record");
        assert_eq!((contents(&read), read.unread), (vec![Bytes::from_static(b"second")], 1));
    }

    #[test]
    fn a23_sections_that_nobody_writes_are_refused() {
        let key = key("http://a/");
        let response = response_with(&plain(b"first"), &[]);
        let read = |sections: &[u8], content: &[u8]| {
            Record::decode(&key, sealed(key.as_bytes(), sections, content)).map(|record| record.unread)
        };
        assert_eq!(read(&response, b"first"), Ok(0));
        assert_eq!(read(&response, b"firs"), Err(InvalidEntry::Truncated));
        assert_eq!(read(&response, b"first!"), Err(InvalidEntry::Trailing));
        let mut second_key = response.clone();
        put_section(&mut second_key, KEY, |target| target.extend_from_slice(key.as_bytes()));
        assert_eq!(read(&second_key, b"first"), Err(InvalidEntry::Sections));
        let of = |sections: &[(u8, &[u8])]| {
            let mut bytes = Vec::new();
            put_section(&mut bytes, RESPONSE, |target| {
                for (tag, section) in sections {
                    put_section(target, *tag, |target| target.extend_from_slice(section));
                }
            });
            bytes
        };
        let nowhere = [&[0; 8][..], &[ELSEWHERE], &[0; 24]].concat();
        assert_eq!(read(&of(&[]), b""), Err(InvalidEntry::Truncated));
        assert_eq!(read(&of(&[(PLACE, &[0; 32])]), b""), Err(InvalidEntry::Sections));
        assert_eq!(read(&of(&[(CONTENT, &[0; 7])]), b""), Err(InvalidEntry::Content));
        // A response that lacks a section is a miss.
        assert_eq!(read(&of(&[(CONTENT, &nowhere), (PLACE, &[0; 32])]), b""), Ok(1));
        assert_eq!(read(&of(&[(CONTENT, &nowhere), (HEAD, &[3])]), b""), Ok(1));
    }

    /// Each length in a record, too large by any measure: nothing is allocated by what it says, and nothing overflows.
    #[test]
    fn a23_lengths_without_bounds_are_refused() {
        let key = key("http://a/");
        let bytes = Record::new(1, [plain(b"first"), plain(b"second")]).encode(&key).expect("a record");
        let head = u32::from_le_bytes(*bytes[16..].first_chunk().expect("a length")) as usize;
        for at in 0..head - CHECKSUM {
            for length in [&[0xff; 4][..], &[0xff, 0xff, 0xff, 0x7f], &[0xff; 8], &[0xfe, 0xff, 0xff, 0xff]] {
                let mut changed = bytes.clone();
                let end = (at + length.len()).min(head - CHECKSUM);
                changed[at..end].copy_from_slice(&length[..end - at]);
                let checksum = XxHash3_64::oneshot(&changed[..head - CHECKSUM]);
                changed[head - CHECKSUM..head].copy_from_slice(&checksum.to_le_bytes());
                if let Ok((_, read)) = Record::decode_any(changed.into()) {
                    read.variants.iter().for_each(|recorded| check_invariants(&recorded.response));
                }
            }
        }
    }

    proptest! {
        // Each case goes through all offsets.
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn a_record_is_restored_from_its_bytes(record in any_record()) {
            let key = key("http://a/");
            let bytes = record.encode(&key).expect("a record");
            check(&Record::decode(&key, bytes.clone().into()).expect("its bytes"), &record);
            let (own, read) = Record::decode_any(bytes.clone().into()).expect("its bytes");
            check(&read, &record);
            prop_assert_eq!((own, read.encode(&key).expect("a record")), (key, bytes));
        }

        #[test]
        fn a23_a_record_that_is_cut_at_any_offset_is_refused(record in any_record()) {
            let key = key("http://a/");
            let bytes = Bytes::from(record.encode(&key).expect("a record"));
            for length in 0..bytes.len() {
                prop_assert!(Record::decode(&key, bytes.slice(..length)).is_err(), "{}", length);
            }
            prop_assert!(Record::decode(&key, [&bytes[..], b"!"].concat().into()).is_err());
        }

        #[test]
        fn a23_a_record_that_has_changed_at_any_offset_is_refused_or_lacks_the_response(
            record in any_record(), bits in 1..=255_u8,
        ) {
            let key = key("http://a/");
            let mut bytes = record.encode(&key).expect("a record");
            let head = u32::from_le_bytes(*bytes[16..].first_chunk().expect("a length")) as usize;
            for at in 0..bytes.len() {
                bytes[at] ^= bits;
                match Record::decode(&key, bytes.clone().into()) {
                    Ok(read) => prop_assert!(at >= head && read.unread == 1, "{}", at),
                    Err(_) => prop_assert!(at < head, "{}", at),
                }
                bytes[at] ^= bits;
            }
        }
    }
}
