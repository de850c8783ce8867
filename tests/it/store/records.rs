//! Records: their bytes, hostile ones, and those of other versions.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use larder::semantics::Rules;
use larder::semantics::parts::Extent;
use larder::semantics::range::ByteRange;
use larder::semantics::reuse::Reuse;
use larder::semantics::vary::Selecting;
use larder::store::record::{Record, RecordNames, Recorded};
use larder::store::{Fence, RemoteContent, StoredId};
use larder::{
    BoxStore, CacheHint, CacheKey, CacheLayer, HeadParts, InvalidEntry, Part, Payload, ResponseHead,
    StoredResponse,
};

use crate::support::records::{Node, Records, Version};
use crate::support::{Bench, Reply, alloc, hostile, seed};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let lines = lines.iter();
    lines.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn key() -> CacheKey {
    let uri = Uri::from_static("https://example.com/page?q=1");
    CacheKey::from_uri(&uri).unwrap().with("device", b"phone")
}

fn recorded(id: u64, parts: HeadParts, payload: Payload) -> Recorded {
    let response = StoredResponse::from_parts(ResponseHead::from_parts(parts).unwrap(), payload).unwrap();
    Recorded::new(StoredId::from_bits(id), Fence::from_bits(u128::from(id) << 64 | 1), response)
}

fn parts(status: StatusCode, lines: &[(&'static str, &'static str)]) -> HeadParts {
    let reuse =
        Reuse::new(at(1_790_000_000), at(1_790_000_001), Duration::from_secs(60), Selecting::default());
    HeadParts::new(status, fields(lines), reuse)
}

/// One response of a few fields.
fn plain() -> Record {
    let parts = parts(StatusCode::OK, &[("content-type", "text/plain"), ("content-length", "5")]);
    Record::new(1, [recorded(2, parts, Payload::from_bytes("hello".into()))])
}

/// One response that has everything, a part of a representation, and one without content.
fn several() -> Record {
    let mut all = parts(StatusCode::OK, &[("etag", "\"a\""), ("set-cookie", "a=1"), ("set-cookie", "b=2")]);
    let sensitive = all.headers.entry("x-token").or_insert(HeaderValue::from_static("t"));
    sensitive.set_sensitive(true);
    let (vary, asked) =
        (fields(&[("vary", "accept-language")]), fields(&[("accept-language", "de, en;q=0.5")]));
    let selecting = Selecting::of(&vary, &asked, &Rules::default()).unwrap();
    let reuse = &mut all.reuse;
    (reuse.selecting, reuse.stale_if_error) = (selecting, Some(Duration::from_millis(1_500)));
    (reuse.immutable, reuse.must_revalidate, reuse.no_cache, reuse.outdated) = (true, true, true, true);
    (reuse.shared.authorization, reuse.shared.cookie) = (true, true);
    (reuse.date, reuse.stale_while_revalidate) =
        (UNIX_EPOCH - Duration::from_millis(1), Duration::from_secs(9));
    all.absent = vec![HeaderName::from_static("x-token")];
    (all.counts_from_answers, all.generated_tag) = (true, true);
    all.groups = vec!["https://example.com news".into(), "https://example.com ü".into()];
    all.hint = Some(CacheHint::new().lifetime(Duration::from_secs(60)).tag("news"));
    all.stripped = fields(&[("x-internal", "1")]);
    all.upstream_status = Some(HeaderValue::from_static("shield; hit"));
    let payload = Payload::from_bytes("all".into()).with_trailers(Some(fields(&[("x-checksum", "7")])));
    let mut first = recorded(3, all, payload);
    first.order = 17;
    let mut some = parts(StatusCode::PARTIAL_CONTENT, &[("etag", "\"b\"")]);
    let ranges = [ByteRange { first: 3, last: 4 }, ByteRange { first: 6, last: 6 }];
    some.part = Some(Part::Bytes(Extent::new(9, ranges).unwrap()));
    let nothing = parts(StatusCode::NO_CONTENT, &[]);
    let some = recorded(2, some, Payload::from_bytes("deg".into()));
    Record::new(u64::MAX, [first, some, recorded(1, nothing, Payload::default())])
}

/// One response whose content the store has elsewhere, and one whose content is here.
fn elsewhere() -> Record {
    let remote = Payload::remote(RemoteContent::new(u128::MAX - 1, 1 << 40));
    let small = Payload::from_bytes("small".into());
    let of = |field| parts(StatusCode::OK, &[("content-type", field)]);
    Record::new(0, [recorded(9, of("video/mp4"), remote), recorded(8, of("text/html"), small)])
}

fn written(record: &Record) -> Vec<u8> {
    record.encode(&key()).unwrap()
}

/// Bytes of a record that this version once wrote, as hexadecimal digits.
fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/records/{name}.hex"));
    std::fs::read_to_string(path).unwrap().split_whitespace().collect()
}

/// Should this fail, the format has to be raised: what is in stores out there is not read otherwise, or is misread.
#[test]
fn f14_records_are_written_and_read_as_they_were_when_the_format_was_made() {
    for (name, record) in [("plain", plain()), ("several", several()), ("elsewhere", elsewhere())] {
        let digits: String = written(&record).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digits, fixture(name), "{name}");
        let read = Record::decode(&key(), written(&record).into()).unwrap();
        assert_eq!((read.revision, read.unread), (record.revision, 0));
        for (read, record) in read.variants.iter().zip(&record.variants) {
            assert_eq!((read.id, read.fence, read.order), (record.id, record.fence, record.order));
            assert_eq!(read.response.head(), record.response.head());
            let content = |recorded: &Recorded| {
                let payload = recorded.response.payload();
                (payload.as_remote(), payload.to_bytes(), payload.trailers().cloned())
            };
            assert_eq!(content(read), content(record));
        }
        assert_eq!(read.variants.len(), record.variants.len());
    }
}

/// Numbers without much order, the same for each seed (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap()
    }

    /// One change: bytes flipped, set, taken out, put in or repeated, or a number that may be a length.
    fn change(&mut self, bytes: &mut Vec<u8>) {
        let (from, length) = (self.below(bytes.len()), self.below(12));
        let to = (from + length).min(bytes.len());
        match self.below(7) {
            0 if from < bytes.len() => bytes[from] ^= 1 << self.below(8),
            1 if from < bytes.len() => bytes[from] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
            2 => drop(bytes.drain(from..to)),
            3 => drop(bytes.splice(from..from, self.next().to_le_bytes())),
            4 => bytes.extend_from_within(from..to),
            5 => bytes.truncate(from),
            _ => {
                let number = [0, 1, 255, 65_536, 0x7fff_ffff, u32::MAX - 1, u32::MAX][self.below(7)];
                let number = if self.below(2) == 0 { number } else { self.below(300) as u32 };
                bytes.splice(from..to.min(from + 4), number.to_le_bytes());
            }
        }
    }
}

/// What the fuzz target does, without a fuzzer.
#[test]
fn a23_hostile_records_are_refused_or_make_responses_that_could_have_been_stored() {
    let mut numbers = Numbers(seed());
    for record in [plain(), several(), elsewhere()] {
        let whole = written(&record);
        for _ in 0..7_000 {
            let mut bytes = whole.clone();
            (0..=numbers.below(4)).for_each(|_| numbers.change(&mut bytes));
            hostile::check(&bytes);
        }
        let mut noise: Vec<u8> =
            std::iter::repeat_with(|| numbers.next().to_le_bytes()).take(40).flatten().collect();
        hostile::check(&noise);
        noise.truncate(numbers.below(noise.len()));
        hostile::check(&noise);
    }
}

/// A record of a few bytes can't make its reader hold much.
#[test]
fn a23_what_reading_a_hostile_record_takes_is_bounded_by_its_length() {
    let mut numbers = Numbers(seed());
    let mut most = 0;
    for record in [plain(), several(), elsewhere()] {
        let whole = written(&record);
        for _ in 0..3_000 {
            let mut bytes = whole.clone();
            (0..=numbers.below(4)).for_each(|_| numbers.change(&mut bytes));
            let bytes = bytes::Bytes::from(hostile::sealed(&bytes));
            let length = bytes.len() as u64;
            let (peak, _) = alloc::peak(|| Record::decode_any(bytes).map(drop));
            most = most.max(peak);
            assert!(peak < 16 * length + 16 * 1024, "{peak} bytes for a record of {length}");
        }
    }
    assert!(most > 1_000, "some were read");
}

#[test]
fn a23_a_name_of_a_record_says_nothing_of_its_key() {
    let names = RecordNames::new("shop");
    for uri in ["http://a/../../../etc/passwd", "http://a/%2e%2e/", "http://a/{b}", "http://a/*?[x]"] {
        let name =
            names.of(&CacheKey::from_uri(&uri.parse().unwrap_or(Uri::from_static("http://a/"))).unwrap());
        let (slot, digits) = name.strip_prefix("shop.1:e{").unwrap().split_once('}').unwrap();
        assert_eq!((slot.len(), digits.len()), (16, 32), "{name}");
        assert!([slot, digits].concat().bytes().all(|digit| digit.is_ascii_hexdigit()), "{name}");
    }
}

/// A cache over shared records, whose origin says who it is.
fn bench(records: &Arc<Records>, version: Version, content: &'static str) -> Bench {
    let store = BoxStore::new(Node::of(records, version));
    Bench::with(CacheLayer::builder(store), [Reply::cc(content, "max-age=60")])
}

const MISS: &str = "larder; fwd=uri-miss; stored; ttl=60";
const HIT: &str = "larder; hit; ttl=60";

#[tokio::test]
async fn nodes_of_one_version_share_what_they_store() {
    let records = Arc::default();
    let (one, other) = (bench(&records, Version::Current, "one"), bench(&records, Version::Current, "other"));
    one.get("/").await.told(MISS).has_body("one");
    other.get("/").await.told(HIT).has_body("one");
    one.handle.purge(&Uri::from_static("http://example.com/")).await.unwrap();
    other.get("/").await.told(MISS).has_body("other");
    one.get("/").await.told(HIT).has_body("other");
}

#[tokio::test]
async fn f14_a_record_of_another_format_under_the_same_name_is_a_miss_on_either_side() {
    for (first, second) in [(Version::Current, Version::Other), (Version::Other, Version::Current)] {
        let records = Arc::default();
        let (one, other) = (bench(&records, first, "one"), bench(&records, second, "other"));
        one.get("/").await.told(MISS).has_body("one");
        one.get("/").await.told(HIT).has_body("one");
        other.get("/").await.told(MISS).has_body("other");
        other.get("/").await.told(HIT).has_body("other");
        // It has written over the first one's.
        one.get("/").await.told(MISS).has_body("one");
        assert_eq!((one.origin.calls(), other.origin.calls()), (2, 1));
    }
}

#[tokio::test]
async fn f14_formats_with_names_of_their_own_live_side_by_side() {
    let records = Arc::default();
    let (old, new) = (bench(&records, Version::Current, "old"), bench(&records, Version::Renamed, "new"));
    for _ in 0..2 {
        old.get("/").await;
        new.get("/").await;
    }
    old.get("/").await.told(HIT).has_body("old");
    new.get("/").await.told(HIT).has_body("new");
    let names: BTreeSet<_> = records.all().into_keys().collect();
    assert_eq!(names.len(), 2);
    // Purges are of both.
    new.handle.purge(&Uri::from_static("http://example.com/")).await.unwrap();
    old.get("/").await.told(MISS);
    assert_eq!((old.origin.calls(), new.origin.calls()), (2, 1));
}

#[tokio::test]
async fn f14_what_a_later_version_adds_does_not_keep_an_older_one_from_reading_unless_it_must() {
    const OPTIONAL: &[u8] = &[3, 2, 0, 0, 0, 7, 7];
    const NEEDED: &[u8] = &[128 | 3, 2, 0, 0, 0, 7, 7];
    for (sections, expected) in [(OPTIONAL, HIT), (NEEDED, MISS)] {
        let records = Arc::default();
        let (old, new) =
            (bench(&records, Version::Current, "old"), bench(&records, Version::More(sections), "new"));
        new.get("/").await.told(MISS);
        old.get("/").await.told(expected).has_body(if expected == HIT { "new" } else { "old" });
    }
}

#[tokio::test]
async fn a23_whatever_is_found_in_place_of_a_record_is_a_miss_and_is_written_over() {
    let damages: [fn(&[u8]) -> Vec<u8>; 6] = [
        |_| Vec::new(),
        |_| vec![0xff; 10_000],
        |record| record[..record.len() - 1].to_vec(),
        |record| [record, b"!"].concat(),
        |record| record.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 40)).collect(),
        |record| {
            record.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == record.len() - 1)).collect()
        },
    ];
    for (number, damage) in damages.iter().enumerate() {
        let records = Arc::default();
        let bench = bench(&records, Version::Current, "page");
        bench.get("/").await.told(MISS);
        bench.get("/").await.told(HIT);
        records.overwrite(damage);
        bench.get("/").await.told(MISS).has_body("page");
        bench.get("/").await.told(HIT).has_body("page");
        assert_eq!(bench.origin.calls(), 2, "{number}");
    }
}

/// The store has mixed up two records.
#[tokio::test]
async fn a23_a_record_of_another_key_is_a_miss() {
    let records: Arc<Records> = Arc::default();
    let replies = ["first", "second", "third"].map(|content| Reply::cc(content, "max-age=60"));
    let bench =
        Bench::with(CacheLayer::builder(BoxStore::new(Node::of(&records, Version::Current))), replies);
    bench.get("/first").await.told(MISS);
    let first = records.all().into_values().next().unwrap();
    bench.get("/second").await.told(MISS);
    records.overwrite(|_| first.clone());
    bench.get("/first").await.told(HIT).has_body("first");
    bench.get("/second").await.told(MISS).has_body("third");
}

/// A hostile record can't say that a 304 or a response with a field of one connection was stored.
#[test]
fn a23_a_head_that_no_layer_stores_makes_that_response_a_miss() {
    let record = plain();
    let head = record.variants[0].response.head().to_bytes();
    let status = head.windows(7).position(|bytes| bytes == [129, 2, 0, 0, 0, 200, 0]).unwrap() + 5;
    let whole = written(&record);
    let at = whole.windows(head.len()).position(|bytes| bytes == head).unwrap() + status;
    for (status, unread) in [(200_u16, 0), (304, 1), (206, 1), (101, 1), (7, 1)] {
        let mut bytes = whole.clone();
        bytes[at..at + 2].copy_from_slice(&status.to_le_bytes());
        assert_eq!(
            Record::decode(&key(), bytes.clone().into()).map(drop).err(),
            (status != 200).then_some(InvalidEntry::Checksum)
        );
        let read = Record::decode(&key(), hostile::sealed(&bytes).into()).unwrap();
        assert_eq!((read.unread, read.variants.len()), (unread, 1 - unread), "{status}");
    }
}
