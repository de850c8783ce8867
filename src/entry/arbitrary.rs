//! Heads and responses of every form, for tests.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, StatusCode};
use proptest::prelude::*;

use super::parts::HeadParts;
use super::written::read_time;
use super::{Levels, Part, Payload, RemoteContent, ResponseHead, StoredResponse};
use crate::semantics::CredentialKinds;
use crate::semantics::bytes::Reader;
use crate::semantics::hint::CacheHint;
use crate::semantics::parts::Extent;
use crate::semantics::range::ByteRange;
use crate::semantics::reuse::Reuse;
use crate::semantics::vary::Selecting;

pub(crate) fn any_value() -> impl Strategy<Value = HeaderValue> {
    let byte = prop_oneof![20 => b' '..=b'~', 4 => 0x80..=0xff_u8, 1 => Just(b'\t')];
    (prop::collection::vec(byte, 0..40), prop::bool::weighted(0.1)).prop_map(|(bytes, is_sensitive)| {
        let mut value = HeaderValue::from_bytes(&bytes).expect("a value");
        value.set_sensitive(is_sensitive);
        value
    })
}

pub(crate) fn any_headers() -> impl Strategy<Value = HeaderMap> {
    let name = prop_oneof![
        prop::sample::select(vec!["content-type", "cache-control", "date", "set-cookie", "link", "x-cache"])
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
        for made in [header::AGE, header::CONNECTION, header::CONTENT_LENGTH, header::UPGRADE, header::TE] {
            headers.remove(made);
        }
        headers
    })
}

pub(crate) fn any_time() -> impl Strategy<Value = SystemTime> {
    let seconds = prop_oneof![4 => 1_700_000_000..1_900_000_000_i64, 1 => any::<i32>().prop_map(i64::from), 1 => any::<i64>()];
    (seconds, prop_oneof![Just(0), 0..1_000_000_000_u32]).prop_map(|(seconds, nanoseconds)| {
        let mut bytes = seconds.to_le_bytes().to_vec();
        bytes.extend_from_slice(&nanoseconds.to_le_bytes());
        read_time(&mut Reader(&bytes)).unwrap_or(UNIX_EPOCH)
    })
}

pub(crate) fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![(0..100_000_u64).prop_map(Duration::from_secs), any::<Duration>(), Just(Duration::MAX)]
}

prop_compose! {
    pub(crate) fn any_reuse()(
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

pub(crate) fn any_part() -> impl Strategy<Value = Option<Part>> {
    let parts = prop::collection::btree_set(0u64..40, 1..6).prop_map(|bytes| {
        let part = |byte: &u64| ByteRange { first: byte * 10, last: byte * 10 + 4 };
        Extent::new(1000, bytes.iter().map(part)).map(Part::Bytes)
    });
    prop_oneof![3 => Just(None), 1 => parts, 1 => Just(Some(Part::Replay))]
}

prop_compose! {
    pub(crate) fn any_parts()(
        headers in any_headers(),
        stripped in any_headers(),
        groups in prop::collection::vec(any::<String>(), 0..3),
        part in any_part(),
        reuse in any_reuse(),
        status in prop::sample::select(vec![200_u16, 203, 204, 301, 404, 410, 500]),
        upstream in prop::option::of(any_value()),
        (absent, hint) in (prop::collection::vec("[a-z]{1,8}", 0..3), any::<[u32; 2]>()),
        levels in prop::sample::select(vec![Levels::Both, Levels::Far, Levels::Near]),
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
        parts.levels = levels;
        parts
    }
}

prop_compose! {
    pub(crate) fn any_response()(
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

pub(crate) fn check_same(read: &StoredResponse, written: &StoredResponse) {
    assert_eq!(read.head(), written.head());
    let parts = |response: &StoredResponse| {
        let payload = response.payload();
        (payload.as_remote(), payload.to_bytes(), payload.trailers().cloned())
    };
    assert_eq!(parts(read), parts(written));
}

/// What holds for every response that is stored, and would go wrong otherwise.
pub(crate) fn check_invariants(response: &StoredResponse) {
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
