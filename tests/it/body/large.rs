//! Content of 1 GiB that is too large to be stored passes in little memory, which is counted in bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use larder::{CacheBody, CacheHandle, CacheLayer, MemoryStore};
use tower::{Layer, service_fn};

use crate::support::alloc;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const FRAME: usize = 64 * 1024;
const FRAMES: usize = (GIB / FRAME as u64) as usize;
const MAX_OBJECT: u64 = MIB;

/// 1 GiB. Each frame has memory of its own, so that what holds it shows; and none is there before the runtime has
/// been at other tasks, as from a socket.
struct Large {
    is_ready: bool,
    known_length: bool,
    made: Arc<AtomicUsize>,
}

impl Body for Large {
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
        let number = self.made.load(Ordering::Relaxed);
        if number == FRAMES {
            return Poll::Ready(None);
        }
        self.made.store(number + 1, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![0; FRAME])))))
    }

    fn size_hint(&self) -> SizeHint {
        if self.known_length { SizeHint::with_exact(GIB) } else { SizeHint::default() }
    }
}

/// What the origin's body has made, and the client's body.
type Sent = (Arc<AtomicUsize>, CacheBody);

async fn send(layer: &CacheLayer, cache_control: &'static str, known_length: bool) -> Sent {
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let origin = service_fn(move |_: Request<Empty<Bytes>>| {
        let body = Large { is_ready: false, known_length, made: Arc::clone(&counted) };
        let response = Response::builder().header("cache-control", cache_control).body(body);
        std::future::ready(response)
    });
    let request = Request::get("http://a.example/large").body(Empty::new()).unwrap();
    let response = tower::ServiceExt::oneshot(layer.layer(origin), request).await.unwrap();
    (made, response.into_body())
}

/// Reads all of it, and lets go of each frame before the next. How many frames the origin was ahead at most.
async fn read((made, mut body): Sent) -> usize {
    let (mut frames, mut ahead) = (0, 0);
    while let Some(frame) = body.frame().await {
        assert_eq!(frame.unwrap().into_data().unwrap().len(), FRAME);
        frames += 1;
        ahead = ahead.max(made.load(Ordering::Relaxed) - frames);
    }
    assert_eq!(frames, FRAMES);
    ahead
}

/// All in one thread, whose allocations are counted. Its time stands still while anybody has something to do: how long
/// the cache is patient with who is behind is not for the machine to say.
fn measured<T>(work: impl AsyncFnOnce(&CacheLayer) -> T) -> (u64, T, CacheHandle) {
    let store = MemoryStore::builder().capacity(16 * MIB).max_object(MAX_OBJECT).build();
    let layer = CacheLayer::new(store);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (peak, result) = alloc::peak(|| runtime.block_on(work(&layer)));
    let handle = layer.handle();
    assert_eq!((handle.statistics().entries, handle.fills().in_flight), (0, 0));
    (peak, result, handle)
}

#[test]
fn f13_1_gib_of_no_store_content_passes_frame_by_frame() {
    for known_length in [false, true] {
        let (peak, ahead, _) =
            measured(async |layer| read(send(layer, "no-store", known_length).await).await);
        assert_eq!(ahead, 0, "nothing is taken in before it is asked for");
        assert!(peak <= 4 * FRAME as u64, "{} KiB at one time", peak / KIB);
        println!("no-store, length known: {known_length}: {} KiB at one time", peak / KIB);
    }
}

#[test]
fn f13_1_gib_of_known_length_passes_frame_by_frame() {
    let (peak, ahead, _) = measured(async |layer| read(send(layer, "max-age=60", true).await).await);
    assert_eq!(ahead, 0, "nothing is taken in before it is asked for");
    assert!(peak <= 4 * FRAME as u64, "{} KiB at one time", peak / KIB);
    println!("too large by its length: {} KiB at one time", peak / KIB);
}

#[test]
fn f13_1_gib_of_unknown_length_passes_in_bounded_memory() {
    let (peak, ahead, _) = measured(async |layer| read(send(layer, "max-age=60", false).await).await);
    // What may be stored is kept; beyond that, what its reader may be behind.
    assert!(peak <= MAX_OBJECT + MIB, "{} KiB at one time", peak / KIB);
    assert!(ahead * FRAME <= (MAX_OBJECT + MIB) as usize, "{ahead} frames ahead");
    println!("too large by its bytes: {} KiB at one time, {ahead} frames ahead", peak / KIB);
}

#[test]
fn a16_f05_a_stalled_reader_of_1_gib_is_cut_off_and_takes_little_memory() {
    let (peak, stalled, handle) = measured(async |layer| {
        let first = send(layer, "max-age=60", false).await;
        let (not_asked, mut stalled) = send(layer, "max-age=60", false).await;
        stalled.frame().await.unwrap().unwrap();
        read(first).await;
        assert_eq!(not_asked.load(Ordering::Relaxed), 0, "it shares the other one's");
        let mut ends = None;
        while let Some(frame) = stalled.frame().await {
            ends = Some(frame.is_ok());
        }
        ends
    });
    assert_eq!(stalled, Some(false), "what it missed is gone, and it is told so");
    assert_eq!(handle.fills().detached_readers, 1);
    assert!(peak <= MAX_OBJECT + 3 * MIB, "{} KiB at one time", peak / KIB);
    println!("beside a reader that stalls: {} KiB at one time", peak / KIB);
}

#[test]
fn a16_a_reader_that_starts_a_moment_later_is_not_cut_off() {
    let (_, (quick, late), _) = measured(async |layer| {
        let (_, mut quick) = send(layer, "max-age=60", false).await;
        let (_, mut late) = send(layer, "max-age=60", false).await;
        // Another connection's task runs first, while its socket takes all that comes.
        let quick = async {
            let mut is_whole = true;
            while let Some(frame) = quick.frame().await {
                is_whole &= frame.is_ok();
            }
            is_whole
        };
        let late = async {
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            let mut is_whole = true;
            while let Some(frame) = late.frame().await {
                is_whole &= frame.is_ok();
            }
            is_whole
        };
        tokio::join!(quick, late)
    });
    assert!(quick, "the one that is ahead");
    assert!(late, "the one that is more than 1 MiB behind, and from then on as fast");
}

#[test]
fn the_counter_reports_the_peak_of_live_memory() {
    let (peak, _) = alloc::peak(|| {
        drop(vec![0_u8; 1000]);
        vec![0_u8; 700]
    });
    assert_eq!(peak, 1000);
}
