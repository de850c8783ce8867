//! A store that is down: reads fail open, purges fail closed.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Empty;
use larder::semantics::range::ByteRange;
use larder::store::{
    BeginOutcome, Expected, Fence, Lookup, PurgeMode, PurgeScope, PurgeTarget, PutOutcome, RemoteContent,
    Store, StoreLimits, StoreStatistics, StoredBody, StoredId,
};
use larder::{CacheKey, CacheLayer, CachePolicy, ForwardReason, ResponseHead, StoreError, StoredResponse};
use tower::{Layer, Service};

use crate::support::bench::read;
use crate::support::origin::always;
use crate::support::{Reply, Seen};

struct Down;

fn down<T>(action: &'static str) -> Result<T, StoreError> {
    Err(StoreError::new(action, "it is down"))
}

impl Store for Down {
    fn try_get(&self, _: &CacheKey) -> Option<Lookup> {
        None
    }
    async fn get(&self, _: &CacheKey) -> Result<Lookup, StoreError> {
        down("look up")
    }
    async fn open(
        &self,
        _: &CacheKey,
        _: RemoteContent,
        _: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        down("open")
    }
    fn expect(&self, _: &CacheKey) -> Expected {
        Expected::default()
    }
    async fn put(&self, _: &CacheKey, _: StoredResponse, _: Fence) -> Result<PutOutcome, StoreError> {
        down("put")
    }
    async fn begin(&self, _: &CacheKey, _: Option<u64>, _: Fence) -> Result<BeginOutcome, StoreError> {
        down("begin")
    }
    async fn freshen(
        &self,
        _: &CacheKey,
        _: StoredId,
        _: ResponseHead,
        _: Fence,
    ) -> Result<PutOutcome, StoreError> {
        down("freshen")
    }
    async fn purged_since(&self, _: &CacheKey, _: Fence, _: PurgeScope) -> Result<bool, StoreError> {
        down("look for purges")
    }
    async fn invalidate(&self, _: &[PurgeTarget], _: PurgeMode) -> Result<(), StoreError> {
        down("invalidate")
    }
    fn limits(&self) -> StoreLimits {
        StoreLimits::new().waits(true)
    }
    fn statistics(&self) -> StoreStatistics {
        StoreStatistics::default()
    }
}

struct Marks;

impl CachePolicy for Marks {
    fn forward(&self, request: &mut http::request::Parts, _: &ForwardReason<'_>) {
        request.headers.insert("x-marked", http::HeaderValue::from_static("1"));
    }
}

async fn ask(method: Method, fields: &[(&'static str, &'static str)]) -> (Seen, bool) {
    let origin = always(Reply::cc("x", "max-age=60"));
    let mut cache = CacheLayer::builder(Down).policy(Marks).build().layer(origin.clone());
    let mut request = Request::builder().method(method).uri("http://a/");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let seen = read(cache.call(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()).await;
    let marked = origin.calls() > 0 && origin.last().headers.contains_key("x-marked");
    (seen, marked)
}

#[tokio::test]
async fn reads_fail_open() {
    let (seen, marked) = ask(Method::GET, &[]).await;
    let seen = seen.has_body("x").told("larder; fwd=miss; detail=\"store\"");
    assert!(marked && seen.field("etag").is_some());
    let (seen, marked) = ask(Method::GET, &[("cache-control", "only-if-cached")]).await;
    assert_eq!((seen.status.as_u16(), marked), (504, false));
}

#[tokio::test]
async fn purges_fail_closed() {
    let (seen, _) = ask(Method::POST, &[]).await;
    seen.has_body("x").told("larder; fwd=method; detail=\"not-invalidated\"");
    let purged = CacheLayer::new(Down).handle().purge_target(&PurgeTarget::All).await;
    assert_eq!(purged.unwrap_err().to_string(), "the store failed to invalidate: it is down");
}
