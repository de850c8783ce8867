//! How the cache scales: memory for an entry, a second thread, many entries, and what storing costs.
//!
//! `cargo bench --bench scale` prints each figure with its goal, and fails when one is missed. What is compared takes
//! turns in short rounds of one run, and each ratio is the median over the rounds, so that whatever else the machine does
//! concerns all of them alike. Where the machine can't show a figure, the bench says so instead of judging it. When it is
//! not run by `cargo bench`, the rounds are short and nothing is judged: then it is a test that the bench runs.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::convert::Infallible;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{Empty, Full};
use larder::{CacheBuilder, CacheLayer, CachePolicy, CacheService, MemoryStore, RequestAction};
use tower::{Layer, Service};

/// A global allocator that counts while it is asked to. The library itself forbids unsafe code; an allocator can't be had
/// without.
#[allow(unsafe_code)]
mod counting {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

    pub(super) struct Counting;

    static IS_ON: AtomicBool = AtomicBool::new(false);
    static BLOCKS: AtomicU64 = AtomicU64::new(0);
    static LIVE: AtomicI64 = AtomicI64::new(0);

    fn count(blocks: u64, bytes: i64) {
        if IS_ON.load(Relaxed) {
            BLOCKS.fetch_add(blocks, Relaxed);
            LIVE.fetch_add(bytes, Relaxed);
        }
    }

    // SAFETY: every call goes to the system's allocator unchanged.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            count(1, layout.size() as i64);
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            count(0, -(layout.size() as i64));
            unsafe { System.dealloc(pointer, layout) }
        }

        unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            count(1, size as i64 - layout.size() as i64);
            unsafe { System.realloc(pointer, layout, size) }
        }
    }

    /// How many blocks `work` allocates, and how many bytes of them are left.
    pub(super) fn during<T>(work: impl FnOnce() -> T) -> (u64, i64, T) {
        let (blocks, live) = (BLOCKS.load(Relaxed), LIVE.load(Relaxed));
        IS_ON.store(true, Relaxed);
        let result = work();
        IS_ON.store(false, Relaxed);
        (BLOCKS.load(Relaxed) - blocks, LIVE.load(Relaxed) - live, result)
    }
}

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// The service: it builds a response with some fields, as a handler does.
#[derive(Clone)]
struct ByHand {
    content: Bytes,
    fields: &'static [(&'static str, &'static str)],
}

const TAG: &str = "\"33a64df551425fcc55e4d42a148795d9f25f89d4\"";
const SIX: &[(&str, &str)] = &[
    ("content-type", "text/html; charset=utf-8"),
    ("content-length", "1024"),
    ("cache-control", "max-age=3600"),
    ("etag", TAG),
    ("last-modified", "Mon, 21 Sep 2026 14:00:00 GMT"),
    ("vary", "accept-encoding"),
];
const FOUR: &[(&str, &str)] = &[
    ("content-type", "text/html; charset=utf-8"),
    ("cache-control", "max-age=3600"),
    ("etag", TAG),
    ("last-modified", "Mon, 21 Sep 2026 14:00:00 GMT"),
];

impl ByHand {
    fn new(fields: &'static [(&'static str, &'static str)], length: usize) -> Self {
        Self { content: Bytes::from(vec![b'x'; length]), fields }
    }
}

impl Service<Request<Empty<Bytes>>> for ByHand {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        drop(request);
        let mut response = Response::builder();
        for (name, value) in self.fields {
            response = response.header(*name, *value);
        }
        std::future::ready(Ok(response.body(Full::new(self.content.clone())).unwrap()))
    }
}

fn request(path: &str) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = path.parse().unwrap();
    let headers = request.headers_mut();
    headers.insert("host", HeaderValue::from_static("www.example.com"));
    headers.insert("accept", HeaderValue::from_static("*/*"));
    headers.insert("accept-encoding", HeaderValue::from_static("gzip, br"));
    headers.insert("user-agent", HeaderValue::from_static("bench/1.0"));
    request
}

/// Calls a service whose answer is there at once.
fn call<S>(service: &mut S, request: Request<Empty<Bytes>>) -> S::Response
where
    S: Service<Request<Empty<Bytes>>, Error = Infallible>,
{
    let mut future = std::pin::pin!(service.call(request));
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => response,
        _ => panic!("the answer is there at once"),
    }
}

fn run<S>(service: &mut S, path: &str)
where
    S: Service<Request<Empty<Bytes>>, Error = Infallible>,
{
    drop(black_box(call(service, request(path))));
}

/// Whether the figures count: only `cargo bench` says so.
struct Mode {
    is_short: bool,
    missed: Vec<&'static str>,
}

impl Mode {
    fn judge(&mut self, what: &'static str, figure: f64, goal: f64, is_met: bool) {
        println!("{what:<58} {figure:>10.2}   goal {goal:>8.2}   {}", if is_met { "met" } else { "MISSED" });
        if !is_met && !self.is_short {
            self.missed.push(what);
        }
    }

    fn at_most(&mut self, what: &'static str, figure: f64, goal: f64) {
        self.judge(what, figure, goal, figure <= goal);
    }

    fn at_least(&mut self, what: &'static str, figure: f64, goal: f64) {
        self.judge(what, figure, goal, figure >= goal);
    }

    /// A figure that there is no goal for.
    fn tell(what: &str, figure: f64) {
        println!("{what:<58} {figure:>10.2}");
    }
}

fn main() -> ExitCode {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let mut mode = Mode { is_short: !is_bench, missed: Vec::new() };
    let only: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let wants = |name: &str| only.is_empty() || only.iter().any(|wanted| wanted == name);
    if wants("memory") {
        memory(&mut mode);
    }
    if wants("allocations") {
        allocations(&mut mode);
    }
    if wants("calls") {
        calls(&mut mode);
    }
    if wants("entries") {
        entries(&mut mode);
    }
    if wants("threads") {
        threads(&mut mode);
    }
    for missed in &mode.missed {
        println!("missed: {missed}");
    }
    if mode.missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Bytes of memory that an entry takes beyond its key and its content, the store's own tables included.
fn memory(mode: &mut Mode) {
    const CONTENT: usize = 200;
    let count: usize = if mode.is_short { 2_000 } else { 100_000 };
    let (_, grown, (kept, keys)) = counting::during(|| {
        let store = MemoryStore::builder().capacity(1 << 30).max_object(1 << 20).build();
        let layer = CacheLayer::new(store);
        let handle = layer.handle();
        let mut keys = 0;
        for number in 0..count {
            let path = format!("/articles/{number}");
            keys += "http://www.example.com".len() + path.len();
            // Of its own, as from a connection.
            let service = ByHand::new(FOUR, CONTENT);
            run(&mut layer.layer(service), &path);
        }
        assert_eq!(handle.statistics().entries, count as u64);
        (layer, keys)
    });
    #[expect(clippy::cast_precision_loss)]
    let each = (grown as f64 - keys as f64) / count as f64 - CONTENT as f64;
    #[expect(clippy::cast_precision_loss)]
    let weighed = (kept.handle().statistics().bytes as f64 - keys as f64) / count as f64 - CONTENT as f64;
    mode.at_most("bytes for an entry beyond key and content, 4 fields", each, 900.0);
    Mode::tell("  of these, in the store's own account", weighed);
}

fn allocations(mode: &mut Mode) {
    let mut cache = CacheLayer::default().layer(ByHand::new(SIX, 1024));
    (0..4).for_each(|_| run(&mut cache, "/a"));
    let request = request("/a");
    let (blocks, _, response) = counting::during(|| call(&mut cache, request));
    assert!(response.headers()["cache-status"].to_str().unwrap().contains("hit"));
    #[expect(clippy::cast_precision_loss)]
    mode.at_most("allocations of a hit", blocks as f64, 3.0);
}

/// Bypasses everything.
struct Pass;

impl CachePolicy for Pass {
    fn request(&self, _: &mut http::request::Parts, _: &mut larder::PolicyData) -> RequestAction {
        RequestAction::bypass("bench")
    }
}

type Variant<'a> = Box<dyn FnMut() + 'a>;

/// The cost of a hit, of a miss that is stored and of a pass, in calls of the bare service.
fn calls(mode: &mut Mode) {
    const TINY: usize = 200;
    let origin = ByHand::new(FOUR, TINY);
    let mut bare = origin.clone();
    let mut one_more = origin.clone();
    let mut hit = CacheLayer::default().layer(origin.clone());
    let small = MemoryStore::builder().capacity(16 << 20).max_object(1 << 20).build();
    let mut miss = CacheLayer::new(small).layer(origin.clone());
    let mut pass = CacheBuilder::default().policy(Pass).build().layer(origin);
    run(&mut hit, "/a");
    let (mut number, mut other) = (0, 0);
    let mut variants: Vec<Variant<'_>> = vec![
        Box::new(|| {
            other += 1;
            run(&mut bare, &format!("/articles/{other}"));
        }),
        Box::new(|| {
            let mut response = call(&mut one_more, request("/a"));
            response.headers_mut().append("cache-status", HeaderValue::from_static("larder; fwd=bypass"));
            drop(black_box(response));
        }),
        Box::new(|| run(&mut hit, "/a")),
        Box::new(|| {
            number += 1;
            run(&mut miss, &format!("/articles/{number}"));
        }),
        Box::new(|| run(&mut pass, "/a")),
    ];
    let rounds = if mode.is_short { 3 } else { 300 };
    let mut times = vec![Vec::new(); variants.len()];
    for round in 0..rounds + 20 {
        for (run, times) in variants.iter_mut().zip(&mut times) {
            let begun = Instant::now();
            (0..300).for_each(|_| run());
            if round >= 20 {
                times.push(begun.elapsed().as_secs_f64());
            }
        }
    }
    let ratio = |of: usize, to: usize| {
        median(times[of].iter().zip(&times[to]).map(|(one, other)| one / other).collect())
    };
    Mode::tell("a hit, in calls of the bare service, 200 B", ratio(2, 0));
    mode.at_most("a miss that is stored, in calls of the bare service, 200 B", ratio(3, 0), 5.0);
    mode.at_most("a pass, in calls of the bare service with one more field", ratio(4, 1), 1.1);
}

/// Hits in stores with few and with many entries. A handful of keys is asked for, so that what is measured is the table
/// and not the processor's cache; then every key, which shows what that adds.
fn entries(mode: &mut Mode) {
    const HOT: usize = 64;
    let sizes: &[usize] = if mode.is_short { &[100, 1_000] } else { &[1_000, 10_000, 100_000, 1_000_000] };
    let mut caches: Vec<_> = sizes.iter().map(|size| filled(*size)).collect();
    let rounds = if mode.is_short { 2 } else { 100 };
    let (mut hot, mut spread) = (vec![Vec::new(); sizes.len()], vec![Vec::new(); sizes.len()]);
    let mut next = 1_usize;
    for round in 0..rounds + 5 {
        for (which, cache) in caches.iter_mut().enumerate() {
            let mut measure = |among: usize| {
                let paths: Vec<_> = (0..300)
                    .map(|_| {
                        next = next
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1_442_695_040_888_963_407);
                        let step = sizes[which] / among;
                        format!("/articles/{}", (next >> 33) % among * step)
                    })
                    .collect();
                let begun = Instant::now();
                paths.iter().for_each(|path| run(cache, path));
                begun.elapsed().as_secs_f64()
            };
            let (few, all) = (measure(HOT), measure(sizes[which]));
            if round >= 5 {
                hot[which].push(few);
                spread[which].push(all);
            }
        }
    }
    let ratio = |times: &[Vec<f64>], of: usize| {
        median(times[of].iter().zip(&times[0]).map(|(one, other)| one / other).collect())
    };
    let last = sizes.len() - 1;
    for (which, size) in sizes.iter().enumerate().skip(1) {
        let [few, all] = [&hot, &spread].map(|times| ratio(times, which));
        println!("  {size} entries against {}: {few:.2} for {HOT} hot keys, {all:.2} for all keys", sizes[0]);
        let [few, all] = [&hot, &spread].map(|times| median(times[which].clone()) * 1e9 / 300.0);
        println!("    {few:.0} ns and {all:.0} ns");
    }
    mode.at_most("a hit among the most entries against the fewest", ratio(&hot, last), 1.15);
}

fn filled(count: usize) -> CacheService<ByHand, MemoryStore> {
    let store = MemoryStore::builder().capacity(4 << 30).max_object(1 << 20).build();
    let mut cache = CacheLayer::new(store).layer(ByHand::new(FOUR, 64));
    for number in 0..count {
        run(&mut cache, &format!("/articles/{number}"));
    }
    cache
}

/// What a second thread adds to hits of one hot key, and to the bare service.
fn threads(mode: &mut Mode) {
    const ROUNDS: usize = 7;
    let origin = ByHand::new(SIX, 1024);
    let mut cache = CacheLayer::default().layer(origin.clone());
    run(&mut cache, "/articles/some-article?page=2");
    let slice = Duration::from_millis(if mode.is_short { 5 } else { 400 });
    let mut gains: [[Vec<f64>; 2]; 2] = Default::default();
    for _ in 0..ROUNDS {
        let bare = [1, 2].map(|threads| rate(&origin, threads, slice));
        let hits = [1, 2].map(|threads| rate(&cache, threads, slice));
        for (clock, gains) in gains.iter_mut().enumerate() {
            gains[0].push(bare[1][clock] / bare[0][clock]);
            gains[1].push(hits[1][clock] / hits[0][clock]);
        }
    }
    let [by_wall, by_processor] = gains.map(|[bare, hits]| {
        let ratios = hits.iter().zip(&bare).map(|(hits, bare)| hits / bare).collect();
        [bare, hits, ratios].map(median)
    });
    Mode::tell("gain of the bare service from a second thread", by_wall[0]);
    Mode::tell("gain of hits of one hot key from a second thread", by_wall[1]);
    println!(
        "  by the processor's time: {:.2} and {:.2}, ratio {:.3}",
        by_processor[0], by_processor[1], by_processor[2]
    );
    if by_wall[0] < 1.7 {
        println!("  not judged: this machine has no second core to give");
        Mode::tell("gain of hits against that of the bare service", by_wall[2]);
    } else {
        mode.at_least("gain of hits against that of the bare service", by_wall[2], 0.97);
    }
}

/// Calls in a second, over all threads: by the clock on the wall, and in a second of the processor's time for each
/// thread. Each has a clone of the service, as each connection of a server has.
fn rate<S>(service: &S, threads: usize, slice: Duration) -> [f64; 2]
where
    S: Service<Request<Empty<Bytes>>, Error = Infallible> + Clone + Send + Sync,
{
    let (start, is_over) = (Barrier::new(threads + 1), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let mut service = service.clone();
                let (start, is_over) = (&start, &is_over);
                scope.spawn(move || {
                    start.wait();
                    let (mut count, begun, spent) = (0_u32, Instant::now(), processor_time());
                    while !is_over.load(Ordering::Relaxed) {
                        (0..100).for_each(|_| run(&mut service, "/articles/some-article?page=2"));
                        count += 100;
                    }
                    let (elapsed, spent) = (begun.elapsed(), processor_time() - spent);
                    [elapsed, spent].map(|time| f64::from(count) / time.as_secs_f64())
                })
            })
            .collect();
        start.wait();
        std::thread::sleep(slice);
        is_over.store(true, Ordering::Relaxed);
        let rates: Vec<[f64; 2]> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        [0, 1].map(|clock| rates.iter().map(|rate| rate[clock]).sum())
    })
}

/// How long this thread has run; only Linux says so, elsewhere the clock on the wall does.
fn processor_time() -> Duration {
    static BEGUN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.as_deref().and_then(|told| told.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| BEGUN.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
