//! Bytes that a store may give in place of a record. The fuzz target (`fuzz/fuzz_targets/record.rs`) and the tests share this
//! file, which therefore needs no other one.

use http::StatusCode;
use larder::store::record::{FORMAT, Record};
use larder::{CacheKey, ResponseHead, StoredResponse};
use twox_hash::XxHash3_64;

/// Magic, format, revision, length of the head.
const FIXED: usize = 20;
const CHECKSUM: usize = 8;

/// Whatever the bytes are, they are refused, or make responses that could have been stored. Behind the checksum, too.
pub fn check(bytes: &[u8]) {
    check_record(bytes);
    check_record(&sealed(bytes));
    let _ = CacheKey::from_bytes(bytes);
    if let Ok(head) = ResponseHead::from_bytes(bytes) {
        assert_eq!(ResponseHead::from_bytes(&head.to_bytes()), Ok(head));
    }
}

fn check_record(bytes: &[u8]) {
    let Ok((key, record)) = Record::decode_any(bytes.to_vec().into()) else {
        return;
    };
    let same = Record::decode(&key, bytes.to_vec().into()).expect("a record of its own key");
    assert_eq!((same.variants.len(), same.unread), (record.variants.len(), record.unread));
    record.variants.iter().for_each(|recorded| check_response(&recorded.response));
    let written = record.encode(&key).expect("it has been written");
    let (_, read) = Record::decode_any(written.clone().into()).expect("it was read before");
    assert_eq!((read.variants.len(), read.unread), (record.variants.len(), 0));
    assert_eq!(read.encode(&key).expect("it has been written"), written);
}

/// What would go wrong if it did not hold for what is stored.
fn check_response(response: &StoredResponse) {
    let (head, payload) = (response.head(), response.payload());
    assert_eq!(head.part().is_some(), head.status() == StatusCode::PARTIAL_CONTENT);
    assert!(!head.status().is_informational() && head.status() != StatusCode::NOT_MODIFIED);
    for (name, value) in &head.headers() {
        assert!(!["age", "cache-status", "connection", "transfer-encoding"].contains(&name.as_str()));
        if name == "content-length" {
            assert_eq!(value.to_str().expect("digits").parse(), Ok(payload.len()));
        }
    }
    for now in [head.reuse().date, head.reuse().response_time] {
        let _ = (head.reuse().ttl(now), head.reuse().age(now), response.weight());
    }
    let content: Option<u64> = payload.pieces().map(|pieces| pieces.map(|piece| piece.len() as u64).sum());
    assert!(content.is_none_or(|length| length == payload.len()));
}

/// The bytes as if they had been written so: magic, format, length and checksum are right.
pub fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().max(FIXED + CHECKSUM), 0);
    bytes[..6].copy_from_slice(b"larder");
    bytes[6..8].copy_from_slice(&FORMAT.to_le_bytes());
    let end = head_of(&bytes).clamp(FIXED + CHECKSUM, bytes.len());
    seal(&mut bytes, end);
    bytes
}

/// A record with more sections at the end of its head.
pub fn with_sections(record: &[u8], sections: &[u8]) -> Vec<u8> {
    let mut bytes = record.to_vec();
    let end = head_of(&bytes) - CHECKSUM;
    bytes.splice(end..end, sections.iter().copied());
    seal(&mut bytes, end + sections.len() + CHECKSUM);
    bytes
}

/// A record whose format is another number.
pub fn with_format(record: &[u8], format: u16) -> Vec<u8> {
    let mut bytes = record.to_vec();
    bytes[6..8].copy_from_slice(&format.to_le_bytes());
    let end = head_of(&bytes);
    seal(&mut bytes, end);
    bytes
}

/// Where the head of a record ends, as it says.
fn head_of(bytes: &[u8]) -> usize {
    u32::from_le_bytes(*bytes[16..].first_chunk().expect("it is long enough")) as usize
}

fn seal(bytes: &mut [u8], end: usize) {
    bytes[16..FIXED].copy_from_slice(&u32::try_from(end).expect("short").to_le_bytes());
    let checksum = XxHash3_64::oneshot(&bytes[..end - CHECKSUM]);
    bytes[end - CHECKSUM..end].copy_from_slice(&checksum.to_le_bytes());
}
