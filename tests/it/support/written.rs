//! A store that writes down what it is given, and keeps what it reads of that.

use std::sync::Arc;

use larder::store::record::{Record, Recorded};
use larder::store::{Fence, PutOutcome, Store, StoredId};
use larder::{CacheKey, ResponseHead, StoreError, StoredResponse};

use super::forward::forward;

pub struct Written<S>(Arc<S>);

impl<S: Store> Written<S> {
    pub fn of(store: S) -> Self {
        Self(Arc::new(store))
    }
}

impl<S: Store> Store for Written<S> {
    forward!(0: try_get, get, open, expect, begin, purged_since, invalidate, limits, statistics);

    async fn put(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        let recorded = Recorded::new(StoredId::from_bits(1), fence, response.clone());
        let bytes = Record::new(1, [recorded]).encode(key).expect("a head of less than 4 GiB");
        let record = Record::decode(key, bytes.into()).expect("what a layer stores");
        assert_eq!((record.unread, record.variants.len()), (0, 1));
        let read = record.variants[0].response.clone();
        assert_eq!(read.head(), response.head());
        let content = |response: &StoredResponse| {
            let payload = response.payload();
            (payload.as_remote(), payload.to_bytes(), payload.trailers().cloned())
        };
        assert_eq!(content(&read), content(&response));
        self.0.put(&written(key), read, fence).await
    }

    async fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        let read = ResponseHead::from_bytes(&head.to_bytes()).expect("what a layer stores");
        assert_eq!(read, head);
        self.0.freshen(&written(key), of, read, fence).await
    }
}

fn written(key: &CacheKey) -> CacheKey {
    let read = CacheKey::from_bytes(key.as_bytes()).expect("what a layer stores under");
    assert_eq!(&read, key);
    read
}
