//! The store that docs/GUIDE.md shows as an example: it compiles, keeps the contract, and is in the guide as it is here.

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use larder::store::conformance::{Capabilities, check_all};
use tower::{Layer, Service};

use crate::support::bench::read;
use crate::support::elsewhere::Elsewhere;
use crate::support::{Origin, Reply};

// The example begins here.
use larder::semantics::range::ByteRange;
use larder::store::{
    BeginOutcome, Expected, Fence, Lookup, PurgeMode, PurgeScope, PurgeTarget, PutOutcome, RemoteContent,
    Store, StoreLimits, StoreStatistics, StoredBody, StoredId,
};
use larder::{CacheKey, CacheLayer, MemoryStore, ResponseHead, StoreError, StoredResponse};

struct SmallHeads<S>(S);

impl<S: Store> Store for SmallHeads<S> {
    // `None` means "ask `get`", not "nothing is there".
    fn try_get(&self, key: &CacheKey) -> Option<Lookup> {
        self.0.try_get(key)
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        self.0.get(key).await
    }

    async fn open(
        &self,
        key: &CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        self.0.open(key, content, range).await
    }

    fn expect(&self, key: &CacheKey) -> Expected {
        self.0.expect(key)
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        if response.head().headers().len() > 50 {
            return Ok(PutOutcome::TooLarge);
        }
        self.0.put(key, response, fence).await
    }

    // The head comes with `commit`, too late to refuse it here. So every response comes to `put`.
    async fn begin(&self, _: &CacheKey, _: Option<u64>, _: Fence) -> Result<BeginOutcome, StoreError> {
        Ok(BeginOutcome::PutWhole)
    }

    async fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        self.0.freshen(key, of, head, fence).await
    }

    async fn purged_since(
        &self,
        key: &CacheKey,
        since: Fence,
        scope: PurgeScope,
    ) -> Result<bool, StoreError> {
        self.0.purged_since(key, since, scope).await
    }

    async fn invalidate(&self, targets: &[PurgeTarget], mode: PurgeMode) -> Result<(), StoreError> {
        self.0.invalidate(targets, mode).await
    }

    fn limits(&self) -> StoreLimits {
        self.0.limits().takes_streams(false)
    }

    fn statistics(&self) -> StoreStatistics {
        self.0.statistics()
    }
}
// The example ends here.

#[tokio::test]
async fn the_store_in_the_guide_keeps_the_contract() {
    check_all(async || SmallHeads(MemoryStore::default()), Capabilities::all()).await;
    check_all(async || SmallHeads(Elsewhere::default()), Capabilities::all()).await;
}

#[tokio::test]
async fn the_store_in_the_guide_takes_no_large_heads() {
    let mut large = Reply::cc("x", "max-age=60");
    for number in 0..60 {
        large = large.field(&format!("x-field-{number}"), "1");
    }
    let mut cache = CacheLayer::new(SmallHeads(MemoryStore::default())).layer(Origin::new([large]));
    for _ in 0..2 {
        let request = Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap();
        let seen = read(cache.call(request).await.unwrap()).await;
        seen.told("larder; fwd=uri-miss; detail=\"too-large\"");
    }
}

#[test]
fn the_store_in_the_guide_is_this_one() {
    let here = include_str!("guide_store.rs");
    let example = here.split("// The example begins here.\n").nth(1).unwrap();
    let example = example.split("// The example ends here.").next().unwrap();
    let guide = include_str!("../../docs/GUIDE.md");
    assert!(guide.contains(example), "docs/GUIDE.md has another store than tests/it/guide_store.rs");
}
