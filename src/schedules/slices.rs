//! A file in slices: readers of it, while it changes, is purged, and while one of them leaves.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use shuttle::future::JoinHandle;
use tower::{Layer, Service};

use super::origin::{Refused, pause};
use super::remote::Remote;
use super::stores::Kind;
use super::world::{Leaver, MOST_POLLS, World, is_empty, patient};
use super::{HAS_PANICKED, below, explore, one_of};
use crate::entry::key::CacheKey;
use crate::handle::CacheHandle;
use crate::layer::CacheLayer;
use crate::runtime::clock::{Clock, ClockHand};
use crate::runtime::{self, Mutex, lock};
use crate::semantics::parts::Extent;
use crate::service::CacheService;
use crate::shared::Shared;
use crate::slice::{SliceBody, SliceLayer, SliceService};
use crate::store::{BoxStore, MemoryStore, PurgeTarget};

/// Bytes in a slice: two frames of the origin.
const SIZE: u64 = 8;
const FRAME: u64 = 4;
/// Of the file, which has a short last slice.
const LENGTH: u64 = 2 * SIZE + 3;
const SLICES: usize = 3;

/// An origin of one file, each byte of which says of which version it is.
#[derive(Clone, Default)]
struct Film {
    calls: Arc<Mutex<Vec<Call>>>,
    version: Arc<AtomicU64>,
}

/// What the origin was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Call {
    first: u64,
    is_conditional: bool,
    version: u64,
}

impl Film {
    fn change(&self) -> u64 {
        self.version.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn calls(&self) -> Vec<Call> {
        lock(&self.calls).clone()
    }

    /// How often each slice was asked for.
    fn counts(&self) -> [usize; SLICES] {
        let calls = self.calls();
        std::array::from_fn(|index| calls.iter().filter(|call| call.first == index as u64 * SIZE).count())
    }

    async fn answer(self, request: Request<SliceBody<Empty<Bytes>>>) -> Result<Response<Reel>, Refused> {
        pause().await;
        let version = self.version.load(Ordering::SeqCst);
        let fields = request.headers();
        let text = |name| fields.get(name).map(|value| value.to_str().expect("text"));
        // A slice, or the whole where the client's own request is sent.
        let slice = text(header::RANGE).map(|range| {
            let (first, last) =
                range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).expect("a range");
            (
                first.parse::<u64>().expect("a number"),
                last.parse::<u64>().map_or(LENGTH, |last| LENGTH.min(last + 1)),
            )
        });
        let (first, end) = slice.unwrap_or((0, LENGTH));
        let tag = format!("\"{version}\"");
        let is_conditional = text(header::IF_NONE_MATCH).is_some();
        lock(&self.calls).push(Call { first, is_conditional, version });
        let response =
            Response::builder().header(header::ETAG, &tag).header(header::CACHE_CONTROL, "max-age=60");
        let response = if text(header::IF_NONE_MATCH) == Some(&tag) {
            response.status(StatusCode::NOT_MODIFIED).body(Reel::default())
        } else {
            let reel = Reel { at: first, end, has_paused: false, version };
            let told = format!("bytes {first}-{}/{LENGTH}", end - 1);
            match slice {
                Some(_) => response
                    .status(StatusCode::PARTIAL_CONTENT)
                    .header(header::CONTENT_RANGE, told)
                    .body(reel),
                None => response.body(reel),
            }
        };
        pause().await;
        Ok(response.expect("a response"))
    }
}

impl Service<Request<SliceBody<Empty<Bytes>>>> for Film {
    type Response = Response<Reel>;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Reel>, Refused>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<SliceBody<Empty<Bytes>>>) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}

/// Bytes of one version of the file.
#[derive(Default)]
struct Reel {
    at: u64,
    end: u64,
    has_paused: bool,
    version: u64,
}

impl Body for Reel {
    type Data = Bytes;
    type Error = Refused;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refused>>> {
        if !self.has_paused && one_of(&[false, true]) {
            self.has_paused = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_paused = false;
        let length = FRAME.min(self.end - self.at);
        self.at += length;
        let data = vec![letter(self.version); usize::try_from(length).expect("a few bytes")];
        Poll::Ready((length > 0).then(|| Ok(Frame::data(data.into()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.at)
    }
}

fn letter(version: u64) -> u8 {
    b'a' + u8::try_from(version).expect("few versions")
}

/// A cache that asks for slices, before the origin.
#[derive(Clone)]
struct Theatre {
    clock: ClockHand,
    film: Film,
    handle: CacheHandle<BoxStore>,
    /// What a purge has promised: nothing older is served from then on.
    promised: Arc<AtomicU64>,
    service: SliceService<CacheService<Film, BoxStore>>,
    shared: Arc<Shared<BoxStore>>,
}

/// What a reader got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// All of what it asked for, of this version.
    All(u64),
    /// An error after what was of one version.
    Broken,
}

impl Theatre {
    fn new() -> Self {
        let store =
            Kind::chosen().store(MemoryStore::builder().capacity(256 * 1024).max_object(1024).build());
        let (clock, hand) = Clock::manual();
        let layer = CacheLayer::builder(Remote::or(store)).fill_limits(patient()).clock(clock).build();
        let film = Film::default();
        Self {
            clock: hand,
            handle: layer.handle(),
            promised: Arc::default(),
            service: SliceLayer::new().size(SIZE).layer(layer.layer(film.clone())),
            shared: Arc::clone(&layer.shared),
            film,
        }
    }

    /// Reads the file from this byte on.
    async fn read(mut self, from: u64) -> Seen {
        let promised = self.promised.load(Ordering::SeqCst);
        let mut request = Request::get(World::uri());
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        let request = request.body(Empty::new()).expect("a request");
        let Ok(response) = self.service.call(request).await else {
            panic!("the origin refuses nothing");
        };
        let status = if from > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        assert_eq!(response.status(), status);
        if from > 0 {
            let extent = Extent::of(response.headers()).expect("a range");
            assert_eq!((extent.held(), extent.length()), (LENGTH - from, LENGTH));
        }
        let (mut body, mut content) = (response.into_body(), Vec::new());
        let is_broken = loop {
            match body.frame().await {
                Some(Ok(frame)) => content.extend_from_slice(&frame.into_data().expect("no trailers")),
                Some(Err(_)) => break true,
                None => break false,
            }
        };
        let version = content.first().map(|first| u64::from(first - b'a'));
        assert!(
            content.iter().all(|byte| *byte == content[0]),
            "bytes of several versions: {:?}",
            String::from_utf8_lossy(&content)
        );
        assert!(version.is_none_or(|version| version >= promised), "{version:?} is older than {promised}");
        match version {
            Some(version) if !is_broken => {
                assert_eq!(content.len() as u64, LENGTH - from, "a clean end of what is not whole");
                Seen::All(version)
            }
            _ => {
                assert!(is_broken, "a clean end of nothing");
                Seen::Broken
            }
        }
    }

    fn reader(&self, from: u64) -> JoinHandle<Seen> {
        shuttle::future::spawn(self.clone().read(from))
    }

    fn leaver(&self, from: u64) -> JoinHandle<Option<Seen>> {
        shuttle::future::spawn(Leaver::new(self.clone().read(from), below(2 * MOST_POLLS)))
    }

    /// Purges the file in some way.
    async fn purge(&self) {
        let key = CacheKey::from_uri(&World::uri()).expect("a key");
        let targets = [PurgeTarget::Uri(key.uri().into()), PurgeTarget::Key(key), PurgeTarget::All];
        let target = &targets[below(targets.len())];
        let purged = match one_of(&[false, true]) {
            true => self.handle.soft_purge_target(target).await,
            false => self.handle.purge_target(target).await,
        };
        purged.expect("the store in memory is sure");
    }

    async fn change_and_purge(self) {
        let version = self.film.change();
        self.purge().await;
        self.promised.fetch_max(version, Ordering::SeqCst);
    }

    /// Nothing is left over, and the next reader gets what there is.
    async fn settle(&self) -> Seen {
        runtime::all_ended().await;
        is_empty(&self.handle, &self.shared);
        let seen = self.clone().read(0).await;
        runtime::all_ended().await;
        is_empty(&self.handle, &self.shared);
        assert!(!HAS_PANICKED.get(), "there was a panic that nobody scripted");
        seen
    }
}

/// Where a reader begins: with a slice, or within one.
fn somewhere() -> u64 {
    one_of(&[0, 0, 3, SIZE, SIZE + 3, 2 * SIZE])
}

#[test]
fn readers_of_one_file_share_each_slice() {
    explore(|| async {
        let theatre = Theatre::new();
        for reader in [0, 0, somewhere()].map(|from| theatre.reader(from)) {
            assert_eq!(reader.await.expect("a reader"), Seen::All(0));
        }
        assert_eq!(theatre.film.counts(), [1; SLICES], "{:?}", theatre.film.calls());
        assert_eq!(theatre.settle().await, Seen::All(0));
        assert_eq!(theatre.film.counts(), [1; SLICES], "{:?}", theatre.film.calls());
    });
}

#[test]
fn no_answer_has_slices_of_two_versions_of_a_file() {
    explore(|| async {
        let theatre = Theatre::new();
        if one_of(&[false, true]) {
            theatre.clone().read(somewhere()).await;
        }
        let readers = [0, somewhere()].map(|from| theatre.reader(from));
        let change = shuttle::future::spawn({
            let theatre = theatre.clone();
            async move { theatre.film.change() }
        });
        let late = theatre.reader(somewhere());
        for reader in readers.into_iter().chain([late]) {
            reader.await.expect("a reader");
        }
        change.await.expect("a change");
        // What is stored may be fresh and old, and its rest new: that ends an answer once.
        let seen = theatre.settle().await;
        assert!(matches!(theatre.settle().await, Seen::All(_)), "after {seen:?}");
        assert!(theatre.film.calls().len() <= 6 * SLICES, "{:?}", theatre.film.calls());
    });
}

#[test]
fn a_purge_that_follows_a_change_reaches_each_slice() {
    explore(|| async {
        let theatre = Theatre::new();
        if one_of(&[false, true]) {
            theatre.clone().read(somewhere()).await;
        }
        let readers = [0, somewhere()].map(|from| theatre.reader(from));
        let purge = shuttle::future::spawn(theatre.clone().change_and_purge());
        let late = theatre.reader(somewhere());
        let leaver = theatre.leaver(somewhere());
        for reader in readers.into_iter().chain([late]) {
            reader.await.expect("a reader");
        }
        leaver.await.expect("a reader");
        purge.await.expect("a purge");
        assert_eq!(theatre.settle().await, Seen::All(1));
        assert!(theatre.film.calls().len() <= 7 * SLICES, "{:?}", theatre.film.calls());
    });
}

#[test]
fn a_purge_of_what_has_not_changed_breaks_no_answer() {
    explore(|| async {
        let theatre = Theatre::new();
        if one_of(&[false, true]) {
            theatre.clone().read(0).await;
        }
        let readers = [0, somewhere()].map(|from| theatre.reader(from));
        let purge = shuttle::future::spawn({
            let theatre = theatre.clone();
            async move { theatre.purge().await }
        });
        let late = theatre.reader(somewhere());
        for reader in readers.into_iter().chain([late]) {
            assert_eq!(reader.await.expect("a reader"), Seen::All(0));
        }
        purge.await.expect("a purge");
        assert_eq!(theatre.settle().await, Seen::All(0));
    });
}

#[test]
fn a_reader_that_leaves_in_the_middle_takes_no_slice_from_the_others() {
    explore(|| async {
        let theatre = Theatre::new();
        let leaver = theatre.leaver(somewhere());
        for reader in [0, somewhere()].map(|from| theatre.reader(from)) {
            assert_eq!(reader.await.expect("a reader"), Seen::All(0));
        }
        leaver.await.expect("a reader");
        // It may leave when nobody else waits for what it has asked for.
        let counts = theatre.film.counts();
        assert!(counts.iter().all(|count| *count <= 2), "{:?}", theatre.film.calls());
        assert_eq!(theatre.settle().await, Seen::All(0));
    });
}

#[test]
fn readers_of_a_stale_file_share_one_validation() {
    explore(|| async {
        let theatre = Theatre::new();
        theatre.clone().read(0).await;
        runtime::all_ended().await;
        theatre.clock.advance(Duration::from_secs(61));
        for reader in [0, 0, 3].map(|from| theatre.reader(from)) {
            assert_eq!(reader.await.expect("a reader"), Seen::All(0));
        }
        assert_eq!(theatre.settle().await, Seen::All(0));
        let calls = theatre.film.calls();
        let validations: Vec<_> = calls.iter().filter(|call| call.is_conditional).collect();
        assert_eq!((calls.len(), validations.len()), (SLICES + 1, 1), "{calls:?}");
    });
}
