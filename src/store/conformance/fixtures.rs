//! What the rules put into a store and look for.

use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use http_body_util::BodyExt;

use crate::entry::key::{self, CacheKey};
use crate::entry::{Payload, RemoteContent, ResponseHead, StoredResponse};
use crate::error::StoreError;
use crate::semantics::Rules;
use crate::semantics::hint::CacheHint;
use crate::semantics::range::ByteRange;
use crate::semantics::reuse::Reuse;
use crate::semantics::vary::Selecting;
use crate::store::{Expected, Fence, Lookup, PurgeMode, PurgeScope, PurgeTarget, PutOutcome, Store, Stored};

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

/// What a store gives where it does not fail.
#[track_caller]
pub(super) fn sure<T>(result: Result<T, StoreError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

/// A look-up while nothing else goes on: what is found at once, if anything is, is what is found by waiting.
pub(super) async fn look_up<S: Store>(store: &S, key: &CacheKey) -> Lookup {
    let waited = sure(store.get(key).await);
    if let Some(at_once) = store.try_get(key) {
        let found = |lookup: &Lookup| {
            lookup.variants.iter().map(|stored| (stored.id, stored.expired)).collect::<Vec<_>>()
        };
        assert_eq!(found(&at_once), found(&waited), "try_get and get find the same");
    }
    waited
}

pub(super) async fn put<S: Store>(
    store: &S,
    key: &CacheKey,
    response: StoredResponse,
    fence: Fence,
) -> PutOutcome {
    sure(store.put(key, response, fence).await)
}

pub(super) async fn fill<S: Store>(store: &S, key: &CacheKey, content: &'static str, accept: &str) {
    let fence = look_up(store, key).await.fence;
    assert_eq!(put(store, key, response(content, accept), fence).await, PutOutcome::Stored, "{content}");
}

pub(super) async fn invalidate<S: Store>(store: &S, target: &PurgeTarget, mode: PurgeMode) {
    sure(store.invalidate(std::slice::from_ref(target), mode).await);
}

pub(super) async fn is_purged<S: Store>(store: &S, key: &CacheKey, since: Fence, scope: PurgeScope) -> bool {
    sure(store.purged_since(key, since, scope).await)
}

/// A response is on its way, and its fence.
pub(super) async fn expect<S: Store>(store: &S, key: &CacheKey) -> (Expected, Fence) {
    let fence = sure(store.get(key).await).fence;
    let expected = store.expect(key);
    let fence = expected.fence().unwrap_or(fence);
    (expected, fence)
}

/// The contents under a key.
pub(super) async fn contents<S: Store>(store: &S, key: &CacheKey) -> Vec<String> {
    let mut contents = Vec::new();
    for stored in look_up(store, key).await.variants.iter() {
        let content = content(store, key, stored).await;
        contents.push(String::from_utf8_lossy(&content).into_owned());
    }
    contents
}

/// The content of what a look-up found just now.
pub(super) async fn content<S: Store>(store: &S, key: &CacheKey, stored: &Stored) -> Bytes {
    let payload = stored.response.payload();
    let content = match payload.as_remote() {
        None => payload.to_bytes(),
        Some(remote) => opened(store, key, remote, None).await,
    };
    match content {
        Some(content) => {
            assert_eq!(content.len() as u64, payload.len(), "content is as long as its head says");
            content
        }
        None => panic!("what was found a moment ago is gone"),
    }
}

/// All of what is opened, or of a range of it.
pub(super) async fn opened<S: Store>(
    store: &S,
    key: &CacheKey,
    content: RemoteContent,
    range: Option<ByteRange>,
) -> Option<Bytes> {
    let body = sure(store.open(key, content, range).await)?;
    match body.collect().await {
        Ok(content) => Some(content.to_bytes()),
        Err(error) => panic!("opened content breaks off: {error}"),
    }
}

/// Lets others go on.
pub(super) async fn yield_now() {
    let mut has_yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
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
