//! What a purge costs where much is stored, and what tags cost the hits on what has them.
//!
//! `cargo bench --bench purge` stores 1,000,000 responses, 100,000 of them under one tag, and prints how long purges of that tag,
//! of a URI, of a prefix and of everything take (p50 and p99 of 3,000 each); and, in turns, hits on a response without tags, with
//! three tags, and with three groups of `Cache-Groups`, which clients get as a field, and hits with a purge of something else before
//! each of them, of which what the purge costs is subtracted. It has goals, each printed with its figure, and fails if one is missed.
//!
//! With `-- --quick`, or when it is not run by `cargo bench`, little is stored and times have no goals: then it is a test that a
//! purge reaches what it names and nothing else.
//!
//! `-- only NAME ROUNDS` runs one variant (`untagged`, `3 tags`, `3 groups`, `purge`, `purge + ...`) for callgrind, as `hit` does.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::convert::Infallible;
use std::fmt::Display;
use std::hint::black_box;
use std::process::ExitCode;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{Empty, Full};
use larder::store::PurgeTarget;
use larder::{CacheHandle, CacheHint, CacheLayer, CacheService, MemoryStore};
use tower::{Layer, Service};

/// Which responses have the tag that is purged: one of so many.
const TAGGED: u32 = 10;
/// The goals: how long a purge may take, and what three tags may add to a hit.
const PURGE: Duration = Duration::from_millis(1);
const THREE_TAGS: f64 = 1.10;

/// What the service says of its responses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tags {
    /// In `Cache-Groups`, which clients get.
    Groups,
    /// By a hint, which no client sees.
    Hinted,
    None,
    /// By a hint: the page's own, its section's, and for one page of [`TAGGED`] the tag that is purged.
    Numbered,
}

/// The service: a page of six fields, with tags or without.
#[derive(Clone)]
struct Pages {
    content: Bytes,
    tags: Tags,
}

impl Service<Request<Empty<Bytes>>> for Pages {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        let mut response = Response::builder()
            .header("content-type", "text/html; charset=utf-8")
            .header("content-length", self.content.len())
            .header("cache-control", "max-age=3600")
            .header("etag", "\"33a64df551425fcc55e4d42a148795d9f25f89d4\"")
            .header("last-modified", "Mon, 21 Sep 2026 14:00:00 GMT")
            .header("vary", "accept-encoding")
            .body(Full::new(self.content.clone()))
            .unwrap();
        match self.tags {
            Tags::None => {}
            Tags::Groups => {
                let groups = HeaderValue::from_static("\"all\", \"article\", \"article-4711\"");
                response.headers_mut().insert("cache-groups", groups);
            }
            Tags::Hinted => {
                let hint = CacheHint::new().tags(["all", "article", "article/4711"]);
                hint.add_to(response.extensions_mut());
            }
            Tags::Numbered => {
                let number: u32 = request.uri().path()[1..].parse().unwrap();
                let mut hint =
                    CacheHint::new().tags([format!("page-{number}"), format!("section-{}", number % 97)]);
                if number.is_multiple_of(TAGGED) {
                    hint = hint.tag("news");
                }
                hint.add_to(response.extensions_mut());
            }
        }
        std::future::ready(Ok(response))
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

/// What is there at once: the answer of a service in memory, or a purge of a store in memory.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing has to wait"),
    }
}

fn get(cache: &mut CacheService<Pages>, path: &str) -> Response<larder::CacheBody> {
    at_once(cache.call(request(path))).unwrap()
}

/// Whether a page comes from the store; if not, it is stored again.
fn is_stored(cache: &mut CacheService<Pages>, number: u32) -> bool {
    let response = get(cache, &format!("/{number}"));
    response.headers()["cache-status"].to_str().unwrap().contains("; hit")
}

struct Report {
    missed: u32,
}

impl Report {
    /// Prints a figure, and counts it as missed if it is not `good`.
    fn line(&mut self, what: &str, figure: &str, goal: &str, good: bool) {
        println!("{what:<44} {figure:>32}   {goal} {}", if good { "" } else { "MISSED" });
        self.missed += u32::from(!good);
    }
}

/// Purges what is stored, and looks whether it has gone.
fn purges(count: u32, rounds: u32, goal: Option<Duration>, report: &mut Report) {
    let store = MemoryStore::builder().capacity(16 << 30).max_object(1 << 20).build();
    let layer = CacheLayer::new(store);
    let pages = Pages { content: Bytes::from_static(&[b'x'; 128]), tags: Tags::Numbered };
    let (mut cache, handle) = (layer.layer(pages), layer.handle());
    let begun = Instant::now();
    (0..count).for_each(|number| drop(get(&mut cache, &format!("/{number}"))));
    let statistics = handle.statistics();
    println!(
        "{} responses, {} of them tagged \"news\", {} MiB, stored in {:.1} s",
        statistics.entries,
        count / TAGGED,
        statistics.bytes >> 20,
        begun.elapsed().as_secs_f64()
    );
    report.line("stored", &statistics.entries.to_string(), "all", statistics.entries == u64::from(count));

    let news = PurgeTarget::tag("news");
    // The first purge of the tag, with all of it stored and fresh.
    let first = timed(&handle, &news);
    let is_short = |time: Duration| goal.is_none_or(|goal| time < goal);
    let of_goal = if goal.is_some() { "< 1 ms" } else { "" };
    report.line("a tag of many responses, once", &format!("{first:.1?}"), of_goal, is_short(first));
    let gone = (0..count).step_by(TAGGED as usize).filter(|number| !is_stored(&mut cache, *number)).count();
    report.line("gone of them", &gone.to_string(), "all", gone == (count / TAGGED) as usize);
    let others = (0..count).filter(|number| number % TAGGED != 0);
    let lost = others.filter(|number| !is_stored(&mut cache, *number)).count();
    report.line("gone of the others", &lost.to_string(), "none", lost == 0);

    let url = |path: &dyn Display| PurgeTarget::uri(format!("http://www.example.com/{path}"));
    let targets: [(&str, &dyn Fn(u32) -> PurgeTarget); 7] = [
        ("the tag", &|_| news.clone()),
        ("a URI", &|_| url(&1)),
        ("a URI, each another one", &|round| url(&round)),
        ("a prefix", &|_| PurgeTarget::prefix("http://www.example.com/2")),
        ("a path on every host", &|_| PurgeTarget::path("/3")),
        ("a path, each another one", &|round| PurgeTarget::path(format!("/4/{round}"))),
        ("everything, softly", &|_| PurgeTarget::All),
    ];
    for (name, target) in targets {
        let mut times: Vec<_> = (0..rounds)
            .map(|round| match target(round) {
                target @ PurgeTarget::All => softly(&handle, &target),
                target => timed(&handle, &target),
            })
            .collect();
        times.sort();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        let figure = format!("p50 {:.1?}, p99 {:.1?}", at(50), at(99));
        report.line(&format!("purge of {name}"), &figure, of_goal, is_short(at(99)));
    }
    let all = timed(&handle, &PurgeTarget::All);
    report.line("purge of everything, once", &format!("{all:.1?}"), of_goal, is_short(all));
}

fn timed(handle: &CacheHandle, target: &PurgeTarget) -> Duration {
    let begun = Instant::now();
    at_once(handle.purge_target(target)).unwrap();
    begun.elapsed()
}

fn softly(handle: &CacheHandle, target: &PurgeTarget) -> Duration {
    let begun = Instant::now();
    at_once(handle.soft_purge_target(target)).unwrap();
    begun.elapsed()
}

type Variant = (&'static str, Box<dyn FnMut()>);

/// Purges of something that is stored and is not asked for.
fn purges_alone() -> Box<dyn FnMut()> {
    let layer = CacheLayer::default();
    let mut cache = layer.layer(Pages { content: Bytes::from_static(&[b'x'; 1024]), tags: Tags::None });
    let (handle, other) = (layer.handle(), PurgeTarget::uri("http://www.example.com/other"));
    drop(get(&mut cache, "/other"));
    Box::new(move || drop(black_box(at_once(handle.soft_purge_target(&other)).unwrap())))
}

/// Hits on one page. With `is_judged`, something else that is stored is purged before each of them, so that each hit has to look
/// whether it was meant.
fn hits(tags: Tags, is_judged: bool) -> Box<dyn FnMut()> {
    let layer = CacheLayer::default();
    let mut cache = layer.layer(Pages { content: Bytes::from_static(&[b'x'; 1024]), tags });
    let (page, other) = ("/articles/some-article?page=2", PurgeTarget::uri("http://www.example.com/other"));
    let handle = layer.handle();
    drop(get(&mut cache, page));
    if is_judged {
        drop(get(&mut cache, "/other"));
    }
    Box::new(move || {
        if is_judged {
            at_once(handle.soft_purge_target(&other)).unwrap();
        }
        drop(black_box(get(&mut cache, page)));
    })
}

fn variants() -> Vec<Variant> {
    vec![
        ("untagged", hits(Tags::None, false)),
        ("3 tags", hits(Tags::Hinted, false)),
        ("3 groups", hits(Tags::Groups, false)),
        ("purge", purges_alone()),
        ("purge + untagged", hits(Tags::None, true)),
        ("purge + 3 tags", hits(Tags::Hinted, true)),
    ]
}

/// Hits on what has tags, in turns with hits on what has none.
fn tagged(rounds: usize, has_goal: bool, report: &mut Report) {
    const CALLS: u32 = 500;
    let mut variants = variants();
    let mut times = vec![Vec::with_capacity(rounds); variants.len()];
    for round in 0..rounds + rounds / 10 {
        for ((_, run), times) in variants.iter_mut().zip(&mut times) {
            let begun = Instant::now();
            (0..CALLS).for_each(|_| run());
            if round >= rounds / 10 {
                times.push(begun.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS));
            }
        }
    }
    let of = |wanted: &str| &times[variants.iter().position(|(name, _)| *name == wanted).unwrap()];
    let none = vec![0.0; rounds];
    for (name, _) in &variants {
        // The purges before hits are no part of them.
        let (to, apart) = match *name {
            "purge" => continue,
            name if name.starts_with("purge + ") => ("purge + untagged", of("purge")),
            _ => ("untagged", &none),
        };
        let hits =
            |times: &[f64]| -> Vec<_> { times.iter().zip(apart).map(|(all, apart)| all - apart).collect() };
        let (own, others) = (hits(of(name)), hits(of(to)));
        let ratio = median(own.iter().zip(&others).map(|(own, other)| own / other).collect());
        let figure = format!("{:.0} ns, {ratio:.3} of {to}", median(own));
        let (goal, good) = match *name {
            "3 tags" | "purge + 3 tags" if has_goal => ("<= 1.10", ratio <= THREE_TAGS),
            _ => ("", true),
        };
        report.line(&format!("a hit: {name}"), &figure, goal, good);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    if let Some(only) = arguments.iter().position(|argument| argument == "only") {
        let (name, rounds) = (&arguments[only + 1], arguments[only + 2].parse().unwrap());
        let mut variants = variants();
        let (_, run) = variants.iter_mut().find(|(variant, _)| variant == name).unwrap();
        (0..rounds).for_each(|_: u64| run());
        return ExitCode::SUCCESS;
    }
    let is_quick = arguments.iter().any(|argument| argument == "--quick")
        || !arguments.iter().any(|argument| argument == "--bench");
    let mut report = Report { missed: 0 };
    if is_quick {
        purges(2_000, 10, None, &mut report);
        tagged(2, false, &mut report);
    } else {
        tagged(300, true, &mut report);
        purges(1_000_000, 3_000, Some(PURGE), &mut report);
    }
    match report.missed {
        0 => ExitCode::SUCCESS,
        missed => {
            println!("\n{missed} figures are off");
            ExitCode::FAILURE
        }
    }
}
