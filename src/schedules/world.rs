//! A cache before a scripted origin, and its clients.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use shuttle::future::{JoinHandle, yield_now};
use tower::{Layer, Service};

use super::HAS_PANICKED;
use super::desk::Desk;
use super::origin::{FRAMES, Origin, Refused, Script, Scripted};
use super::remote::Remote;
use super::stores::{Kind, Streams};
use crate::handle::CacheHandle;
use crate::layer::{CacheBuilder, CacheLayer};
use crate::limits::{FillLimits, FillStatistics};
use crate::policy::StandardPolicy;
use crate::runtime;
use crate::runtime::clock::{Clock, ClockHand};
use crate::service::CacheService;
use crate::shared::Shared;
use crate::store::{BoxStore, MemoryStore};

const URI: &str = "http://a/";
/// How often a client is polled at most before it leaves: enough for a whole answer, if it comes soon.
pub(super) const MOST_POLLS: usize = 16;

#[derive(Clone)]
pub(super) struct World {
    cache: CacheService<Origin, BoxStore>,
    clock: ClockHand,
    shared: Arc<Shared<BoxStore>>,
    pub(super) handle: CacheHandle<BoxStore>,
    /// Whether its store answers nothing at once.
    pub(super) is_slow: bool,
    pub(super) origin: Origin,
    /// The version that a purge has promised: nothing older is served from then on.
    promised: Arc<AtomicU64>,
}

/// Nobody waits too little.
pub(super) fn patient() -> FillLimits {
    FillLimits::new().wait(Duration::MAX)
}

impl World {
    pub(super) fn new(script: Script) -> Self {
        Self::with(script, patient(), 1024)
    }

    /// `max_object`: what is larger is only passed on.
    pub(super) fn with(script: Script, limits: FillLimits, max_object: u64) -> Self {
        Self::under(StandardPolicy::default(), script, limits, max_object, Kind::chosen())
    }

    /// Its store takes content while it comes, and less than an answer is kept.
    pub(super) fn streaming(script: Script, streams: Streams) -> Self {
        let kind = Kind { streams, ..Kind::chosen() };
        Self::under(StandardPolicy::default(), script.streaming(), patient().in_flight(64), 1024, kind)
    }

    /// What is stale stands in for an error, and for an answer that is late.
    pub(super) fn standing_in(script: Script, budget: Option<Duration>) -> Self {
        let policy = StandardPolicy::default().stale_if_error(Duration::from_secs(60));
        Self::under(policy.latency_budget(budget), script, patient(), 1024, Kind::chosen())
    }

    /// Its store can't be read at times.
    pub(super) fn unreadable(script: Script) -> Self {
        let policy = StandardPolicy::default();
        Self::over(Remote::failing, policy, script, patient(), 1024, Kind::chosen())
    }

    fn under(
        policy: StandardPolicy,
        script: Script,
        limits: FillLimits,
        max_object: u64,
        kind: Kind,
    ) -> Self {
        Self::over(Remote::or, policy, script, limits, max_object, kind)
    }

    fn over(
        remote: fn(BoxStore) -> BoxStore,
        policy: StandardPolicy,
        script: Script,
        limits: FillLimits,
        max_object: u64,
        kind: Kind,
    ) -> Self {
        // Small, for there is one for each schedule.
        let store = MemoryStore::builder().capacity(256 * 1024).max_object(max_object).build();
        let builder = CacheLayer::builder(remote(kind.store(store))).policy(policy).fill_limits(limits);
        let (clock, hand) = Clock::manual();
        Self::node(builder.clock(clock), &Origin::new(script), hand, kind)
    }

    /// Nodes over one store, which ask for leases.
    pub(super) fn fleet<const N: usize>(script: Script, leases: &Desk) -> [Self; N] {
        let kind = Kind::chosen();
        let store = kind.store(MemoryStore::builder().capacity(256 * 1024).max_object(1024).build());
        let ((clock, hand), origin) = (Clock::manual(), Origin::new(script));
        [(); N].map(|()| {
            let builder = CacheLayer::builder(store.clone()).fill_limits(patient()).leases(leases.clone());
            Self::node(builder.clock(clock.clone()), &origin, hand.clone(), kind)
        })
    }

    fn node(builder: CacheBuilder<BoxStore>, origin: &Origin, clock: ClockHand, kind: Kind) -> Self {
        let layer = builder.build();
        Self {
            cache: layer.layer(origin.clone()),
            clock,
            shared: Arc::clone(&layer.shared),
            handle: layer.handle(),
            is_slow: kind.is_slow,
            origin: origin.clone(),
            promised: Arc::default(),
        }
    }

    pub(super) fn later(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(super) fn uri() -> Uri {
        Uri::from_static(URI)
    }

    /// From now on nothing older than this version is right.
    pub(super) fn promise(&self, version: u64) {
        self.promised.fetch_max(version, Ordering::SeqCst);
    }

    /// Asks once, reads everything, and judges what came.
    pub(super) async fn ask(self) -> Seen {
        self.ask_in("any").await
    }

    pub(super) async fn ask_in(self, language: &'static str) -> Seen {
        self.ask_with(language, 0).await
    }

    /// Waits for so many turns of the scheduler before it reads on.
    pub(super) async fn ask_slowly(self, turns: usize) -> Seen {
        self.ask_with("any", turns).await
    }

    async fn ask_with(mut self, language: &'static str, turns: usize) -> Seen {
        let promised = self.promised.load(Ordering::SeqCst);
        let request = Request::get(URI).header(header::ACCEPT_LANGUAGE, language);
        let request = request.body(Empty::new()).expect("a request");
        let seen = Caught(Box::pin(async move {
            match self.cache.call(request).await {
                Ok(response) => read(response.status(), response.into_body(), turns).await,
                Err(Refused) => Seen::Failed,
            }
        }));
        let seen = seen.await;
        if let Seen::Whole { version, language: answered, .. } = &seen {
            assert!(*version >= promised, "older than {promised}, which a purge has promised: {seen:?}");
            assert!(answered == "any" || answered == language, "for another: {seen:?}");
        }
        seen
    }

    /// Changes the content by an unsafe request.
    pub(super) async fn post(mut self) {
        let request = Request::builder().method(Method::POST).uri(URI).body(Empty::new());
        let answer = self.cache.call(request.expect("a request")).await.expect("no fault was scripted");
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    }

    /// [`World::post`] by a client that leaves when its future has been polled so often.
    pub(super) fn post_leaver(&self, polls: usize) -> JoinHandle<Option<()>> {
        shuttle::future::spawn(Leaver::new(self.clone().post(), polls))
    }

    /// A client in a task of its own.
    pub(super) fn client(&self) -> JoinHandle<Seen> {
        shuttle::future::spawn(self.clone().ask())
    }

    /// A client that leaves when its future has been polled so often, if it has no answer by then.
    pub(super) fn leaver(&self, polls: usize) -> JoinHandle<Option<Seen>> {
        shuttle::future::spawn(Leaver::new(self.clone().ask(), polls))
    }

    /// After everything has finished: nothing is left of it, and the next client gets a right answer.
    pub(super) async fn settle(&self) {
        runtime::all_ended().await;
        is_empty(&self.handle, &self.shared);
        let last = self.clone().ask().await;
        assert!(last.is_whole(), "the last client got {last:?}");
        runtime::all_ended().await;
        is_empty(&self.handle, &self.shared);
        assert!(!HAS_PANICKED.get(), "there was a panic that nobody scripted");
    }
}

/// Nothing is on its way.
pub(super) fn is_empty(handle: &CacheHandle<BoxStore>, shared: &Shared<BoxStore>) {
    // Not what is held for readers: shuttle keeps the output of a task that nobody joins, which may be a reader.
    let FillStatistics { abandoned, detached, fills, in_flight, waiting, .. } = handle.fills();
    assert_eq!([abandoned, detached, fills, in_flight, waiting], [0; 5], "{:?}", handle.fills());
    assert_eq!(shared.core.collapser.open(), 0, "calls that can be joined");
}

/// What a client got.
#[derive(Debug)]
pub(super) enum Seen {
    /// A body that ended early, with an error.
    Broken,
    /// An error instead of a response.
    Failed,
    /// The origin's panic.
    Panicked,
    /// The content of one call, all of it.
    Whole { call: u64, language: String, version: u64 },
}

impl Seen {
    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole { .. })
    }

    /// Which call it is the answer of.
    pub(super) fn call(&self) -> u64 {
        match self {
            Self::Whole { call, .. } => *call,
            other => panic!("nothing was to fail, but a client got {other:?}"),
        }
    }
}

async fn read<B>(status: StatusCode, mut body: B, turns: usize) -> Seen
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    assert_eq!(status, StatusCode::OK);
    let mut text = String::new();
    while let Some(frame) = body.frame().await {
        for _ in 0..turns {
            yield_now().await;
        }
        match frame.map(|frame| frame.into_data()) {
            Ok(Ok(data)) => text.push_str(std::str::from_utf8(&data).expect("text")),
            Ok(Err(_)) => {}
            Err(_) => {
                assert!(pieces(&text).is_some(), "wrong content before an error: {text}");
                return Seen::Broken;
            }
        }
    }
    whole(&text).unwrap_or_else(|| panic!("a clean end of content that is not whole: {text:?}"))
}

fn whole(text: &str) -> Option<Seen> {
    let pieces = pieces(text)?;
    let mut words = pieces.first().filter(|_| pieces.len() == FRAMES)?.split('.');
    let (version, call) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Seen::Whole { call, language: words.next()?.to_owned(), version })
}

/// What there is of one answer; `None` where bytes are missing in it, or are of another.
fn pieces(text: &str) -> Option<Vec<&str>> {
    let pieces: Vec<_> = text.split_inclusive(';').collect();
    let is_one = pieces.iter().all(|piece| piece.ends_with(';') && *piece == pieces[0]);
    (is_one && pieces.len() <= FRAMES).then(|| pieces.iter().map(|piece| &piece[..piece.len() - 1]).collect())
}

/// A client whose server catches the panic of its service.
struct Caught<F>(Pin<Box<F>>);

impl<F: Future<Output = Seen>> Future for Caught<F> {
    type Output = Seen;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Seen> {
        let future = &mut self.0;
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(panic) if panic.is::<Scripted>() => Poll::Ready(Seen::Panicked),
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// A client that leaves when its future has been polled so often.
pub(super) struct Leaver<F> {
    future: Option<Pin<Box<F>>>,
    polls: usize,
}

impl<F> Leaver<F> {
    pub(super) fn new(future: F, polls: usize) -> Self {
        Self { future: Some(Box::pin(future)), polls }
    }
}

impl<F: Future> Future for Leaver<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(future) = this.future.as_mut().filter(|_| this.polls > 0) else {
            this.future = None;
            return Poll::Ready(None);
        };
        this.polls -= 1;
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        // It leaves when the schedule comes to it, not when there is something new.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
