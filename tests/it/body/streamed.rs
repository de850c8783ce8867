//! What is far larger than the memory is stored where the store takes it while it comes: counted in bytes, not timed.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use larder::semantics::range::ByteRange;
use larder::store::{
    BeginOutcome, ContentWriter, Fence, PutOutcome, RemoteContent, Store, StoreLimits, StoredBody,
};
use larder::{
    CacheBody, CacheKey, CacheLayer, FillLimits, MemoryStore, Payload, ResponseHead, StoreError,
    StoredResponse,
};
use tower::{Layer, service_fn};

use crate::support::alloc;
use crate::support::forward::forward;

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;
const FRAME: u64 = 48 * 1024;

/// So many zeros, each frame in memory of its own, and none before the runtime has been at other tasks, as from a socket.
struct Zeros {
    is_ready: bool,
    left: u64,
    says_its_length: bool,
}

impl Zeros {
    fn new(length: u64, says_its_length: bool) -> Self {
        Self { is_ready: true, left: length, says_its_length }
    }
}

impl Body for Zeros {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.is_ready = !self.is_ready;
        if self.is_ready {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let length = self.left.min(FRAME);
        self.left -= length;
        Poll::Ready((length > 0).then(|| Ok(Frame::data(vec![0; length as usize].into()))))
    }

    fn size_hint(&self) -> SizeHint {
        if self.says_its_length { SizeHint::with_exact(self.left) } else { SizeHint::default() }
    }
}

/// A store of 10 GiB that counts what it is given and gives as many zeros back. Its heads are in memory.
#[derive(Clone)]
struct Counting {
    heads: Arc<MemoryStore>,
    written: Arc<AtomicU64>,
}

impl Store for Counting {
    forward!(heads: try_get, get, expect, put, freshen, purged_since, invalidate, statistics);

    async fn open(
        &self,
        _: &CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> Result<Option<StoredBody>, StoreError> {
        let length = range.map_or(content.length, |range| range.len());
        Ok(Some(StoredBody::new(Zeros::new(length, true))))
    }

    async fn begin(&self, key: &CacheKey, _: Option<u64>, fence: Fence) -> Result<BeginOutcome, StoreError> {
        let writer = CountingWriter { fence, key: key.clone(), length: 0, store: self.clone() };
        Ok(BeginOutcome::Writer(Box::new(writer)))
    }

    fn limits(&self) -> StoreLimits {
        StoreLimits::new().max_object(10 * GIB).takes_streams(true)
    }
}

struct CountingWriter {
    fence: Fence,
    key: CacheKey,
    length: u64,
    store: Counting,
}

type OfWriter<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

impl ContentWriter for CountingWriter {
    fn write(&mut self, data: Bytes) -> OfWriter<'_, ControlFlow<PutOutcome>> {
        self.length += data.len() as u64;
        self.store.written.fetch_add(data.len() as u64, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(ControlFlow::Continue(()))))
    }

    fn commit(
        self: Box<Self>,
        head: ResponseHead,
        trailers: Option<HeaderMap>,
    ) -> OfWriter<'static, PutOutcome> {
        let payload = Payload::remote(RemoteContent::new(1, self.length)).with_trailers(trailers);
        let response = StoredResponse::new(head, payload);
        Box::pin(async move { self.store.heads.put(&self.key, response, self.fence).await })
    }
}

/// Asks for content of that length.
async fn get(layer: &CacheLayer<Counting>, length: u64, says_its_length: bool) -> CacheBody {
    let origin = service_fn(move |_: Request<Empty<Bytes>>| {
        let response = Response::builder().header("cache-control", "max-age=60");
        std::future::ready(response.body(Zeros::new(length, says_its_length)))
    });
    let request = Request::get("http://a.example/video").body(Empty::new()).unwrap();
    tower::ServiceExt::oneshot(layer.layer(origin), request).await.unwrap().into_body()
}

/// Reads all of it, and lets go of each frame before the next.
async fn read(mut body: CacheBody) -> u64 {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().into_data().unwrap().len() as u64;
    }
    length
}

/// All in one thread, whose allocations are counted: the most bytes at one time, and what the store has got.
fn measured(work: impl AsyncFnOnce(&CacheLayer<Counting>)) -> (u64, u64) {
    // It goes by the length of content, wherever that is.
    let heads = MemoryStore::builder().capacity(14 * GIB).max_object(10 * GIB).build();
    let store = Counting { heads: Arc::new(heads), written: Arc::default() };
    let limits = FillLimits::new().in_flight(64 * MIB);
    let layer = CacheLayer::builder(store.clone()).fill_limits(limits).without_tagging().build();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (peak, ()) = alloc::peak(|| runtime.block_on(work(&layer)));
    let fills = layer.handle().fills();
    assert_eq!((fills.fills, fills.in_flight, fills.held, fills.unstored), (0, 0, 0, 0), "{fills:?}");
    assert_eq!(layer.handle().statistics().entries, 1);
    (peak, store.written.load(Ordering::Relaxed))
}

#[test]
fn f13_1_gib_is_stored_in_little_memory() {
    for says_its_length in [true, false] {
        let (peak, written) = measured(async |layer| {
            assert_eq!(read(get(layer, GIB, says_its_length).await).await, GIB);
            // From the store: this origin would give less.
            assert_eq!(read(get(layer, 1, true).await).await, GIB);
        });
        assert_eq!(written, GIB);
        // What is kept for those who come in the beginning, and what its reader may be behind.
        assert!(peak <= 10 * MIB, "{} KiB at one time", peak / 1024);
        println!("length known: {says_its_length}: {} KiB at one time", peak / 1024);
    }
}

#[test]
fn f13_1_gib_is_stored_in_little_memory_when_nobody_reads_it() {
    let (peak, written) = measured(async |layer| {
        drop(get(layer, GIB, true).await);
        while layer.handle().fills().fills > 0 {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(written, GIB);
    assert!(peak <= 10 * MIB, "{} KiB at one time", peak / 1024);
}
