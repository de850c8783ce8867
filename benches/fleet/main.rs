//! What a fleet costs over Redis: hits, purges, and servers that are gone.
//!
//! `cargo bench --bench fleet --features redis` starts a `redis-server` on a free port of loopback and prints, for content of 1 and
//! 10 KiB, what a look-up of the store and a hit of the whole layer leave of the throughput of a bare `GET` of the same bytes over a
//! connection of the same settings, with 64 tasks, and what they add to its time with one; a hit in a near tier against one in
//! memory; how long a purge of one node takes to be in effect in the near tier of another one; purges in a second; what a look-up
//! costs while the breaker is open; and the slowest request while the server is killed under load. It has goals, each printed with
//! its figure, and fails if one is missed.
//!
//! Variants take turns in short rounds, in one process with one worker, and ratios are medians over the rounds.
//!
//! With `-- --quick`, or when it is not run by `cargo bench`, there are few rounds and no goals: then it is a test that all of it
//! works. `-- only NAME ROUNDS` (`memory`, `near`, `decode 1`, `decode 10`) runs one variant for callgrind, as `hit` does, and
//! `-- only-hits KIB TASKS bare|store|layer ROUNDS` one for a profiler.
#![allow(clippy::print_stdout, clippy::unwrap_used, unreachable_pub)]

#[path = "../../tests/it/support/file.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod file;
#[path = "../../tests/it/support/servers.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod servers;

mod failing;
mod hits;
mod near;
mod purges;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{Empty, Full};
use larder::CacheKey;
use larder::store::{RedisConfig, RedisStore};
use tokio::runtime::{Builder, Runtime};
use tower::Service;

use servers::{Kind, Server};

/// Figures, and how many of them miss their goals.
struct Report {
    is_quick: bool,
    missed: usize,
}

impl Report {
    /// A figure; `None` where it has no goal.
    fn line(&mut self, what: &str, figure: &str, goal: Option<(&str, bool)>) {
        let goal = goal.filter(|_| !self.is_quick);
        let said = match goal {
            None => String::new(),
            Some((goal, true)) => format!("goal {goal}"),
            Some((goal, false)) => format!("goal {goal}: MISSED"),
        };
        self.missed += usize::from(goal.is_some_and(|(_, is_met)| !is_met));
        println!("{what:<58} {figure:<40} {said}");
    }
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    share(values, 0.5)
}

/// The value that this share of them does not exceed.
fn share(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share) as usize;
    values[at.min(values.len() - 1)]
}

/// One worker, and this thread, which waits for it or does what is measured without waiting.
fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A store of a namespace of its own, where it is not given another one's.
fn store(server: &Server, namespace: &str) -> RedisStore {
    RedisStore::new(config(server, namespace)).unwrap()
}

fn config(server: &Server, namespace: &str) -> RedisConfig {
    // A machine that is busy with something else is no reason for misses.
    let config: RedisConfig = server.url().parse().unwrap();
    config.namespace(namespace).deadline(Duration::from_secs(5))
}

/// The service: a page of six fields, at once or after a while.
#[derive(Clone)]
struct Pages {
    content: Bytes,
    delay: Duration,
}

impl Pages {
    fn of(kib: usize) -> Self {
        Self { content: vec![b'x'; kib * 1024].into(), delay: Duration::ZERO }
    }
}

impl Service<Request<Empty<Bytes>>> for Pages {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        let response = Response::builder()
            .header("content-type", "text/html; charset=utf-8")
            .header("content-length", self.content.len())
            .header("cache-control", "max-age=3600")
            .header("etag", "\"33a64df551425fcc55e4d42a148795d9f25f89d4\"")
            .header("last-modified", "Mon, 21 Sep 2026 14:00:00 GMT")
            .header("vary", "accept-encoding")
            .body(Full::new(self.content.clone()))
            .unwrap();
        let delay = self.delay;
        Box::pin(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            Ok(response)
        })
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

/// That of a request for the path.
fn key(path: &str) -> CacheKey {
    CacheKey::from_uri(&format!("http://www.example.com{path}").parse().unwrap()).unwrap()
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    if let Some(at) = words.iter().position(|word| word.starts_with("only")) {
        let server = Server::start(Kind::Redis);
        match &words[at + 1..] {
            ["decode", kib, rounds] => hits::decode(&server, kib.parse().unwrap(), rounds.parse().unwrap()),
            [name, rounds] => near::only(&server, name, rounds.parse().unwrap()),
            [kib, tasks, name, rounds] => {
                let [kib, tasks, rounds] = [kib, tasks, rounds].map(|number| number.parse().unwrap());
                hits::only(&server, kib, tasks, name, rounds);
            }
            other => panic!("{other:?} is nothing to be run"),
        }
        return ExitCode::SUCCESS;
    }
    let is_quick = words.contains(&"--quick") || !words.contains(&"--bench");
    let mut report = Report { is_quick, missed: 0 };
    hits::report(&Server::start(Kind::Redis), &mut report);
    near::report(&Server::start(Kind::Redis), &mut report);
    purges::report(&Server::start(Kind::Redis), &mut report);
    failing::report(&mut report);
    match report.missed {
        0 => ExitCode::SUCCESS,
        missed => {
            println!("\n{missed} figures are off");
            ExitCode::FAILURE
        }
    }
}
