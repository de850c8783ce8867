//! What a miss that is stored costs, against the same body passed on bare, side by side in one run.
//!
//! `cargo bench --bench miss` prints, for content of 1 KiB, 64 KiB and 1 MiB, the time until the first frame and until
//! the end, and the ratios to bare. The body's frames of 16 KiB become ready one after the other, in steps of one of
//! three kinds:
//!
//! - "sent": an origin elsewhere sends a frame every millisecond, or every 200 us, whoever waits for it;
//! - "made": this thread makes a frame in 200 us when it is asked for one, as a handler that compresses does: what the
//!   cache does meanwhile comes on top;
//! - "none": a frame is there after a yield to the runtime: what the cache takes is its bare cost.
//!
//! "known" is content whose length the response says. "ours" is content that the origin gives no entity tag, so that
//! the cache makes one of all its bytes.
//!
//! An origin that sends every millisecond is what [`GOALS`] are for; a run that misses one fails.
//!
//! Bare and cached take turns, and who is first changes; each ratio is the median over the rounds. The store is full, as
//! it is after a while.
//!
//! `-- only KIB bare|miss ROUNDS [tagged]` runs one variant of unknown length whose steps take no time, for callgrind;
//! see docs/ARCHITECTURE.md.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use larder::{CacheLayer, CacheService, MemoryStore};
use tower::{Layer, Service};

const FRAME: usize = 16 * 1024;
/// The most that the first frame and the end of a miss may take, in times of bare.
const GOALS: [f64; 2] = [1.05, 1.15];

/// What a frame of the body waits for, and for how long.
#[derive(Clone, Copy)]
enum Steps {
    Made(Duration),
    None,
    Sent(Duration),
}

/// A body whose frames become ready one after the other.
struct Stepped {
    /// When the next frame is sent.
    due: Instant,
    is_known: bool,
    is_ready: bool,
    left: Bytes,
    steps: Steps,
}

impl Stepped {
    /// Whether the next frame is there; once that many yields, or that much time, have passed.
    fn is_there(&mut self) -> bool {
        if let Steps::Sent(step) = self.steps {
            let is_there = self.due <= Instant::now();
            self.due += if is_there { step } else { Duration::ZERO };
            return is_there;
        }
        self.is_ready = !self.is_ready;
        if let (false, Steps::Made(step)) = (self.is_ready, self.steps) {
            let begun = Instant::now();
            while begun.elapsed() < step {
                std::hint::spin_loop();
            }
        }
        !self.is_ready
    }
}

impl Body for Stepped {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        if !self.is_there() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let length = self.left.len().min(FRAME);
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_known { SizeHint::with_exact(self.left.len() as u64) } else { SizeHint::default() }
    }
}

/// Answers at once with a stepped body.
#[derive(Clone)]
struct Origin {
    content: Bytes,
    has_tag: bool,
    is_known: bool,
    steps: Steps,
}

impl Service<Request<Empty<Bytes>>> for Origin {
    type Response = Response<Stepped>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        drop(request);
        let Self { content, has_tag, is_known, steps } = self.clone();
        let due = Instant::now();
        let due = if let Steps::Sent(step) = steps { due + step } else { due };
        let body = Stepped { due, is_known, is_ready: false, left: content, steps };
        let mut response = Response::builder()
            .header("content-type", "text/html; charset=utf-8")
            .header("cache-control", "max-age=3600")
            .header("last-modified", "Mon, 21 Sep 2026 14:00:00 GMT")
            .header("vary", "accept-encoding");
        if has_tag {
            response = response.header("etag", "\"33a64df551425fcc55e4d42a148795d9f25f89d4\"");
        }
        if is_known {
            response = response.header("content-length", self.content.len());
        }
        std::future::ready(Ok(response.body(body).unwrap()))
    }
}

fn request(number: u64) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = format!("/articles/{number}").parse().unwrap();
    let headers = request.headers_mut();
    headers.insert("host", HeaderValue::from_static("www.example.com"));
    headers.insert("accept", HeaderValue::from_static("*/*"));
    headers.insert("accept-encoding", HeaderValue::from_static("gzip, br"));
    headers.insert("user-agent", HeaderValue::from_static("bench/1.0"));
    request
}

/// Nanoseconds until the first frame, and until the end.
type Times = [f64; 2];

async fn read<S, B>(service: &mut S, number: u64) -> Times
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes>,
{
    let request = request(number);
    let begun = Instant::now();
    let response = service.call(request).await.unwrap();
    let mut body = pin!(response.into_body());
    let mut first = None;
    while let Some(frame) = body.frame().await {
        first.get_or_insert_with(|| begun.elapsed());
        drop(frame);
    }
    let end = begun.elapsed();
    [first.unwrap(), end].map(|time| time.as_secs_f64() * 1e9)
}

/// The same origin bare and behind the cache.
struct Pair {
    bare: Origin,
    cached: CacheService<Origin>,
    number: u64,
}

impl Pair {
    fn new(kib: usize, is_known: bool, has_tag: bool, steps: Steps) -> Self {
        let bare = Origin { content: vec![b'x'; kib * 1024].into(), has_tag, is_known, steps };
        let length = kib as u64 * 1024;
        let store = MemoryStore::builder().capacity(32 * length).max_object(2 * length).build();
        Self { cached: CacheLayer::new(store).layer(bare.clone()), bare, number: 0 }
    }

    async fn bare(&mut self) -> Times {
        self.number += 1;
        read(&mut self.bare, self.number).await
    }

    async fn miss(&mut self) -> Times {
        self.number += 1;
        read(&mut self.cached, self.number).await
    }

    /// For the first frame and for the end: bare, cached, and the ratio; medians.
    async fn measure(&mut self, rounds: u32) -> [[f64; 3]; 2] {
        let warm_up = if rounds == 1 { 0 } else { 64 };
        let mut found: [[Vec<f64>; 3]; 2] = Default::default();
        for round in 0..warm_up + rounds {
            let (bare, miss) = if round % 2 == 0 {
                let bare = self.bare().await;
                (bare, self.miss().await)
            } else {
                let miss = self.miss().await;
                (self.bare().await, miss)
            };
            if round >= warm_up {
                for (found, (bare, miss)) in found.iter_mut().zip(bare.into_iter().zip(miss)) {
                    for (values, value) in found.iter_mut().zip([bare, miss, miss / bare]) {
                        values.push(value);
                    }
                }
            }
        }
        found.map(|values| values.map(median))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Runs it as a task, as a server's connections are: what blocks on a runtime is not polled as often as its tasks.
fn in_task<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::spawn(work).await.unwrap() })
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    if let Some(only) = arguments.iter().position(|argument| argument == "only") {
        let (kib, rounds) = (arguments[only + 1].parse().unwrap(), arguments[only + 3].parse().unwrap());
        let has_tag = arguments.get(only + 4).is_some_and(|argument| argument == "tagged");
        let mut pair = Pair::new(kib, false, has_tag, Steps::None);
        let is_bare = arguments[only + 2] == "bare";
        in_task(async move {
            for _ in 0..rounds {
                let _: Times = if is_bare { pair.bare().await } else { pair.miss().await };
            }
        });
        return ExitCode::SUCCESS;
    }
    println!("{:<37} {:>32} {:>32}", "", "first frame", "end");
    println!(
        "{:<9} {:<8} {:<6} {:<11} {:>12} {:>12} {:>6} {:>12} {:>12} {:>6}",
        "content", "length", "tag", "step", "bare us", "miss us", "ratio", "bare us", "miss us", "ratio"
    );
    let (short, long) = (Duration::from_micros(200), Duration::from_millis(1));
    let kinds = [
        (Steps::Sent(long), 60, "sent 1 ms"),
        (Steps::Sent(short), 150, "sent 200 us"),
        (Steps::Made(short), 150, "made 200 us"),
        (Steps::None, 1_000, "none"),
    ];
    let mut is_met = true;
    // Times mean nothing without `cargo bench`, which passes `--bench`: it has only to run.
    let is_quick = !arguments.iter().any(|argument| argument == "--bench");
    for (steps, rounds, step) in kinds {
        let rounds = if is_quick { 1 } else { rounds };
        for kib in [1, 64, 1024] {
            for (is_known, length) in [(false, "unknown"), (true, "known")] {
                for (has_tag, tag) in [(true, "theirs"), (false, "ours")] {
                    let mut pair = Pair::new(kib, is_known, has_tag, steps);
                    let [first, end] = in_task(async move { pair.measure(rounds).await });
                    print!("{:<9} {length:<8} {tag:<6} {step:<11}", format!("{kib} KiB"));
                    for [bare, miss, ratio] in [first, end] {
                        print!(" {:>12.2} {:>12.2} {ratio:>6.3}", bare / 1e3, miss / 1e3);
                    }
                    println!();
                    let is_goal = matches!(steps, Steps::Sent(step) if step == long);
                    is_met &= !is_goal || (first[2] <= GOALS[0] && end[2] <= GOALS[1]);
                }
            }
        }
    }
    let (first, end) = (GOALS[0], GOALS[1]);
    let verdict = if is_quick {
        "not judged"
    } else if is_met {
        "met"
    } else {
        "missed"
    };
    println!("goals for {}: first frame {first}, end {end}: {verdict}", kinds[0].2);
    if is_met || is_quick { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
