//! What the rules put into a store and look for.

use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};

use crate::entry::key::{self, CacheKey};
use crate::entry::{Payload, ResponseHead, StoredResponse};
use crate::semantics::Rules;
use crate::semantics::hint::CacheHint;
use crate::semantics::reuse::Reuse;
use crate::semantics::vary::Selecting;
use crate::store::{PurgeMode, PurgeTarget};

/// A cache group in the scope of its origin.
const GROUP: &str = "http://example.com news";

pub(super) fn key_of(uri: &str) -> CacheKey {
    let key = Uri::try_from(uri).ok().and_then(|uri| CacheKey::of(&key::get(uri)).ok());
    key.unwrap_or_else(|| panic!("{uri} is not a key's URI"))
}

pub(crate) fn here() -> CacheKey {
    key_of("http://example.com/news/today?page=1")
}

/// Everything by which a response under [`here`] can be purged.
pub(crate) fn targets() -> Vec<PurgeTarget> {
    [key_targets(), group_targets()].concat()
}

/// What names a response under [`here`] by its key.
pub(super) fn key_targets() -> Vec<PurgeTarget> {
    vec![
        PurgeTarget::All,
        PurgeTarget::host("example.com"),
        PurgeTarget::Key(here()),
        PurgeTarget::path("/news/today?page=1"),
        PurgeTarget::path_prefix("/news/"),
        PurgeTarget::prefix("http://example.com/news/"),
        PurgeTarget::prefix("http://example.com/"),
        PurgeTarget::Uri(here().uri().into()),
    ]
}

/// What names the fixtures' responses by their group.
pub(super) fn group_targets() -> Vec<PurgeTarget> {
    vec![
        PurgeTarget::group("http://example.com", "news"),
        PurgeTarget::tag("news"),
        PurgeTarget::tag_any_case("NEWS"),
    ]
}

/// When all responses were received, unless a rule says otherwise.
pub(super) fn received_at() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

pub(super) fn purged_at() -> SystemTime {
    received_at() + Duration::from_secs(100)
}

/// Soft, with an end `seconds` after the purge.
pub(super) fn until(seconds: u64) -> PurgeMode {
    PurgeMode::ExpireUntil { at: purged_at(), until: purged_at() + Duration::from_secs(seconds) }
}

/// A head in the group, selected by the field `accept`.
pub(super) fn head(accept: &str) -> ResponseHead {
    let (mut vary, mut request) = (HeaderMap::new(), HeaderMap::new());
    vary.insert("vary", HeaderValue::from_static("accept"));
    request.extend(HeaderValue::try_from(accept).map(|accept| (http::header::ACCEPT, accept)));
    let time = received_at();
    let mut reuse = Reuse::new(time, time, Duration::from_secs(60), Selecting::default());
    reuse.initial_age = Duration::from_secs(7);
    reuse.selecting = Selecting::of(&vary, &request, &Rules::default()).unwrap_or_default();
    reuse.stale_while_revalidate = Duration::from_secs(5);
    let mut head = ResponseHead::new(StatusCode::OK, &vary, reuse);
    head.groups = Box::new([GROUP.into()]);
    head.counts_from_answers = true;
    head.hint = Some(Box::new(CacheHint::new().tag(GROUP)));
    let absent = [http::header::CACHE_CONTROL];
    head.of_origin(&HeaderMap::from_iter([(http::header::EXPIRES, HeaderValue::from_static("0"))]), &absent)
}

/// Asked for and generated at these seconds, all before any had come in.
pub(super) fn timed(generated: u64, asked: u64) -> ResponseHead {
    let mut head = head("x");
    let at = |second| received_at() + Duration::from_secs(second);
    (head.reuse.generated, head.reuse.request_time) = (at(generated), at(asked));
    head.reuse.response_time = at(30);
    head
}

pub(super) fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-trailer", HeaderValue::from_static("1"));
    trailers
}

/// [`head`] with content and trailers.
pub(crate) fn response(content: impl Into<Bytes>, accept: &str) -> StoredResponse {
    let payload = Payload::from_bytes(content.into()).with_trailers(Some(trailers()));
    StoredResponse::new(head(accept), payload)
}

/// [`response`] in no group.
pub(super) fn ungrouped(content: &'static str, accept: &str) -> StoredResponse {
    let mut head = head(accept);
    head.groups = Box::default();
    StoredResponse::new(head, Payload::from_bytes(content.into()))
}

/// [`ungrouped`], in this group.
pub(super) fn grouped(content: &'static str, group: &str) -> StoredResponse {
    let mut head = head("x");
    head.groups = Box::new([group.into()]);
    StoredResponse::new(head, Payload::from_bytes(content.into()))
}

/// So many bytes, in which no page is like the one before.
pub(super) fn bytes(length: usize) -> Bytes {
    let pattern: Vec<u8> = (0..=250).collect();
    let mut bytes = pattern.repeat(length / pattern.len() + 1);
    bytes.truncate(length);
    bytes.into()
}

/// Runs all of them at one time, to their ends.
pub(super) async fn together<'a>(futures: impl IntoIterator<Item = Pin<Box<dyn Future<Output = ()> + 'a>>>) {
    let mut running: Vec<_> = futures.into_iter().collect();
    std::future::poll_fn(|cx| {
        running.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
