//! Methods of a store around another one that only pass a call on.

/// `forward!(field: get, put)` in an `impl Store`: these methods call the store in the field.
macro_rules! forward {
    ($field:tt: $($method:ident),+) => { $($crate::support::forward::forward!(@ $field $method);)+ };
    (@ $field:tt try_get) => {
        fn try_get(&self, key: &larder::CacheKey) -> Option<larder::store::Lookup> {
            larder::Store::try_get(&*self.$field, key)
        }
    };
    (@ $field:tt get) => {
        async fn get(&self, key: &larder::CacheKey) -> Result<larder::store::Lookup, larder::StoreError> {
            larder::Store::get(&*self.$field, key).await
        }
    };
    (@ $field:tt open) => {
        async fn open(
            &self,
            key: &larder::CacheKey,
            content: larder::store::RemoteContent,
            range: Option<larder::semantics::range::ByteRange>,
        ) -> Result<Option<larder::store::StoredBody>, larder::StoreError> {
            larder::Store::open(&*self.$field, key, content, range).await
        }
    };
    (@ $field:tt expect) => {
        fn expect(&self, key: &larder::CacheKey) -> larder::store::Expected {
            larder::Store::expect(&*self.$field, key)
        }
    };
    (@ $field:tt put) => {
        async fn put(
            &self,
            key: &larder::CacheKey,
            response: larder::StoredResponse,
            fence: larder::store::Fence,
        ) -> Result<larder::store::PutOutcome, larder::StoreError> {
            larder::Store::put(&*self.$field, key, response, fence).await
        }
    };
    (@ $field:tt begin) => {
        async fn begin(
            &self,
            key: &larder::CacheKey,
            expected_length: Option<u64>,
            fence: larder::store::Fence,
        ) -> Result<larder::store::BeginOutcome, larder::StoreError> {
            larder::Store::begin(&*self.$field, key, expected_length, fence).await
        }
    };
    (@ $field:tt freshen) => {
        async fn freshen(
            &self,
            key: &larder::CacheKey,
            of: larder::store::StoredId,
            head: larder::ResponseHead,
            fence: larder::store::Fence,
        ) -> Result<larder::store::PutOutcome, larder::StoreError> {
            larder::Store::freshen(&*self.$field, key, of, head, fence).await
        }
    };
    (@ $field:tt purged_since) => {
        async fn purged_since(
            &self,
            key: &larder::CacheKey,
            since: larder::store::Fence,
            scope: larder::store::PurgeScope,
        ) -> Result<bool, larder::StoreError> {
            larder::Store::purged_since(&*self.$field, key, since, scope).await
        }
    };
    (@ $field:tt invalidate) => {
        async fn invalidate(
            &self,
            targets: &[larder::store::PurgeTarget],
            mode: larder::store::PurgeMode,
        ) -> Result<larder::store::PurgeNumber, larder::StoreError> {
            larder::Store::invalidate(&*self.$field, targets, mode).await
        }
    };
    (@ $field:tt limits) => {
        fn limits(&self) -> larder::store::StoreLimits {
            larder::Store::limits(&*self.$field)
        }
    };
    (@ $field:tt statistics) => {
        fn statistics(&self) -> larder::store::StoreStatistics {
            larder::Store::statistics(&*self.$field)
        }
    };
}

pub(crate) use forward;
