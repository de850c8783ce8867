//! What a herd of clients costs the origin: many requests for one key at once, and many clients that leave.
//!
//! `cargo bench --bench herd` prints the figures, each with its goal, and fails when one is missed. With `-- --quick`,
//! or when it is not run by `cargo bench`, the herds are small: then it is a test.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty};
use larder::{CacheBody, CacheHandle, CacheLayer, CacheService, FillStatistics};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tower::{Layer, Service};

/// How long the origin takes to answer.
const LATENCY: Duration = Duration::from_millis(100);
/// What has not come to rest by then never will.
const GUARD: Duration = Duration::from_secs(20);
/// Small: what is measured is not how fast content is copied.
const FRAMES: [&[u8]; 4] = [&[b'a'; 256], &[b'b'; 256], &[b'c'; 256], &[b'd'; 256]];

/// Answers after a while, with content of unknown length.
#[derive(Clone)]
struct Origin {
    cache_control: &'static str,
    counts: Arc<Counts>,
    /// Whether it answers; till then, calls wait.
    is_open: watch::Receiver<bool>,
}

#[derive(Default)]
struct Counts {
    calls: AtomicUsize,
    /// Calls and bodies that are there now.
    live: AtomicUsize,
}

/// One call or body that is there.
struct Live(Arc<Counts>);

impl Live {
    fn new(counts: &Arc<Counts>) -> Self {
        counts.live.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counts))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A frame each time it is polled again.
struct Stepped {
    _live: Live,
    is_ready: bool,
    left: std::slice::Iter<'static, &'static [u8]>,
}

impl Body for Stepped {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.is_ready = !self.is_ready;
        if self.is_ready {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.left.next().map(|frame| Ok(Frame::data(Bytes::from_static(frame)))))
    }
}

impl Service<Request<Empty<Bytes>>> for Origin {
    type Response = Response<Stepped>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        let Self { cache_control, counts, mut is_open } = self.clone();
        counts.calls.fetch_add(1, Ordering::Relaxed);
        let live = Live::new(&counts);
        Box::pin(async move {
            let latency = tokio::time::sleep(LATENCY);
            is_open.wait_for(|is_open| *is_open).await.unwrap();
            latency.await;
            let body = Stepped { _live: live, is_ready: false, left: FRAMES.iter() };
            Ok(Response::builder().header("cache-control", cache_control).body(body).unwrap())
        })
    }
}

/// A cache before an origin.
struct Bench {
    cache: CacheService<Origin>,
    counts: Arc<Counts>,
    gate: watch::Sender<bool>,
    handle: CacheHandle,
}

impl Bench {
    fn new(cache_control: &'static str) -> Self {
        let counts = Arc::<Counts>::default();
        let layer = CacheLayer::default();
        let (gate, is_open) = watch::channel(true);
        let origin = Origin { cache_control, counts: Arc::clone(&counts), is_open };
        Self { cache: layer.layer(origin), counts, gate, handle: layer.handle() }
    }

    fn call(&self, path: &str) -> <CacheService<Origin> as Service<Request<Empty<Bytes>>>>::Future {
        let request = Request::get(format!("http://example.com{path}")).body(Empty::new()).unwrap();
        self.cache.clone().call(request)
    }

    /// As many requests at once, each a task; all have to get the same content.
    async fn wave(&self, herd: usize) -> Wave {
        let calls = self.counts.calls.load(Ordering::Relaxed);
        let begun = Instant::now();
        let clients: Vec<_> = (0..herd)
            .map(|_| {
                let answer = self.call("/herd");
                tokio::spawn(async move { content(answer.await.unwrap()).await })
            })
            .collect();
        let mut equal = 0;
        let expected = FRAMES.concat();
        for client in clients {
            equal += usize::from(client.await.unwrap() == expected);
        }
        let calls = self.counts.calls.load(Ordering::Relaxed) - calls;
        Wave { calls, equal, took: begun.elapsed() }
    }

    /// How long it takes until nothing is under way, here or at the origin; none if that never comes.
    async fn rest(&self, tasks: usize) -> Option<Duration> {
        let begun = Instant::now();
        while begun.elapsed() < GUARD {
            let FillStatistics { detached, fills, in_flight, waiting, .. } = self.handle.fills();
            let live = self.counts.live.load(Ordering::Relaxed);
            if (detached, fills, in_flight, waiting, live) == (0, 0, 0, 0, 0) && alive() <= tasks {
                return Some(begun.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        println!(
            "{:?}, {} live at the origin",
            self.handle.fills(),
            self.counts.live.load(Ordering::Relaxed)
        );
        None
    }
}

struct Wave {
    calls: usize,
    equal: usize,
    took: Duration,
}

async fn content(response: Response<CacheBody>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

fn alive() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Prints figures and remembers whether one was off.
#[derive(Default)]
struct Report {
    missed: usize,
}

impl Report {
    fn figure(&mut self, what: &str, figure: impl std::fmt::Display, goal: &str, is_met: bool) {
        self.missed += usize::from(!is_met);
        let mark = if is_met { ' ' } else { '!' };
        println!("{mark} {what:<58} {figure:>12}   {goal}");
    }

    fn latencies(&mut self, took: Duration, most: f64) {
        let latencies = took.as_secs_f64() / LATENCY.as_secs_f64();
        let goal = format!("under {most}");
        self.figure("  time, in latencies of the origin", format!("{latencies:.2}"), &goal, latencies < most);
    }

    fn count(&mut self, what: &str, count: usize, expected: usize) {
        self.figure(what, count, &format!("{expected}"), count == expected);
    }

    fn at_most(&mut self, what: &str, count: usize, most: usize) {
        self.figure(what, count, &format!("at most {most}"), count <= most);
    }

    fn rest(&mut self, took: Option<Duration>) {
        let figure = took.map_or("never".to_owned(), |took| format!("{} ms", took.as_millis()));
        self.figure("  until counters, calls, bodies and tasks are back", figure, "ever", took.is_some());
    }
}

async fn run(herd: usize) -> Report {
    let mut report = Report::default();
    println!("{herd} requests at once, an origin that answers after {} ms\n", LATENCY.as_millis());
    let tasks = alive();

    let bench = Bench::new("max-age=60");
    let wave = bench.wave(herd).await;
    report.count("a cold key: calls", wave.calls, 1);
    report.count("  equal answers", wave.equal, herd);
    report.latencies(wave.took, 3.0);
    report.rest(bench.rest(tasks).await);

    let bench = Bench::new("no-store");
    let wave = bench.wave(herd).await;
    report.at_most("a key that is never stored: calls", wave.calls, herd);
    report.count("  answers", wave.equal, herd);
    report.latencies(wave.took, 3.0);
    let wave = bench.wave(herd).await;
    report.count("  again, which is remembered: calls", wave.calls, herd);
    // Nobody waits for another one's answer.
    report.latencies(wave.took, 2.0);
    report.rest(bench.rest(tasks).await);

    leaving(&mut report, herd, tasks, "one key", |_| "/one".to_owned(), 1).await;
    // So many may go on with nobody waiting; the others are cancelled.
    let most = 256;
    leaving(&mut report, herd, tasks, "a key each", |number| format!("/{number}"), most).await;
    report
}

/// Clients that leave while they wait for an answer, and others that leave in the content.
async fn leaving(
    report: &mut Report,
    herd: usize,
    tasks: usize,
    keys: &str,
    path: impl Fn(usize) -> String,
    most: usize,
) {
    let bench = Bench::new("max-age=60");
    bench.gate.send_replace(false);
    let mut clients: Vec<_> = (0..herd).map(|number| Box::pin(bench.call(&path(number)))).collect();
    std::future::poll_fn(|cx| {
        clients.iter_mut().for_each(|client| assert!(client.as_mut().poll(cx).is_pending()));
        Poll::Ready(())
    })
    .await;
    drop(clients);
    // What is cancelled is so when its task runs; the origin answers only after that.
    let begun = Instant::now();
    let mut live = bench.counts.live.load(Ordering::Relaxed);
    while live > most && begun.elapsed() < GUARD {
        tokio::task::yield_now().await;
        live = bench.counts.live.load(Ordering::Relaxed);
    }
    bench.gate.send_replace(true);
    report.at_most(&format!("{herd} clients leave, {keys}: calls that go on"), live, most);
    report.rest(bench.rest(tasks).await);
    report.at_most("  stored all the same", bench.handle.statistics().entries as usize, most);

    let bench = Bench::new("max-age=60");
    let begun = Instant::now();
    let clients: Vec<_> = (0..herd)
        .map(|number| {
            let answer = bench.call(&path(number));
            tokio::spawn(async move {
                let mut body = pin!(answer.await.unwrap().into_body());
                drop(body.frame().await);
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let took = begun.elapsed().as_millis();
    report.figure(&format!("{herd} clients leave in the content, {keys}"), format!("{took} ms"), "", true);
    report.rest(bench.rest(tasks).await);
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    let is_quick = arguments.iter().any(|argument| argument == "--quick")
        || !arguments.iter().any(|argument| argument == "--bench");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    let report = runtime.block_on(run(if is_quick { 500 } else { 10_000 }));
    match report.missed {
        0 => ExitCode::SUCCESS,
        missed => {
            println!("\n{missed} figures are off");
            ExitCode::FAILURE
        }
    }
}
