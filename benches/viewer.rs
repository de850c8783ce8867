//! What the fields about a client add to a hit: the time, and its ratio to a hit without the layer, in one run.
//!
//! `-- only NAME ROUNDS` runs one variant a fixed number of times and measures nothing, for callgrind; see
//! docs/ARCHITECTURE.md.
#![allow(clippy::print_stdout, clippy::unwrap_used, unreachable_pub)]

#[allow(dead_code)]
#[path = "../tests/it/support/mmdb.rs"]
mod mmdb;

use std::convert::Infallible;
use std::hint::black_box;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{Empty, Full};
use larder::viewer::{Database, ViewerField};
use larder::{CacheLayer, ViewerLayer};
use tower::{Layer, Service, service_fn};

use mmdb::{Mmdb, Value, map, named, text};

fn database() -> Database {
    let record = map([
        ("city", map([("names", named("Los Angeles"))])),
        ("country", map([("iso_code", text("US")), ("names", named("United States"))])),
        (
            "location",
            map([
                ("latitude", Value::Double(34.1931)),
                ("longitude", Value::Double(-118.1383)),
                ("metro_code", Value::U16(803)),
                ("time_zone", text("America/Los_Angeles")),
            ]),
        ),
        ("postal", map([("code", text("91001"))])),
        ("subdivisions", Value::List(vec![map([("iso_code", text("CA")), ("names", named("California"))])])),
        ("autonomous_system_number", Value::U32(64_496)),
    ]);
    Database::from_bytes(Mmdb::new("Bench").network("198.51.100.0/24", record).bytes()).unwrap()
}

fn request() -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = http::Uri::from_static("/articles/some-article?page=2");
    request.extensions_mut().insert(SocketAddr::from(([198, 51, 100, 10], 46532)));
    let headers = request.headers_mut();
    headers.insert("host", HeaderValue::from_static("www.example.com"));
    headers.insert("accept", HeaderValue::from_static("*/*"));
    headers.insert("accept-encoding", HeaderValue::from_static("gzip, br"));
    let user_agent = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36";
    headers.insert("user-agent", HeaderValue::from_static(user_agent));
    request
}

/// Calls a service whose answer is there at once.
fn call<S>(service: &mut S)
where
    S: Service<Request<Empty<Bytes>>, Error = Infallible>,
{
    let mut future = std::pin::pin!(service.call(request()));
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => drop(black_box(response)),
        _ => panic!("the answer is there at once"),
    }
}

type Variant = (&'static str, Box<dyn FnMut()>);

fn variants() -> Vec<Variant> {
    let service = service_fn(|_: Request<Empty<Bytes>>| {
        let response = Response::builder().header("cache-control", "max-age=3600");
        std::future::ready(Ok::<_, Infallible>(
            response.body(Full::new(Bytes::from_static(&[b'x'; 1024]))).unwrap(),
        ))
    });
    let cache = CacheLayer::default().layer(service);
    let layer = || ViewerLayer::new().database(database());
    let with = |layer: ViewerLayer| -> Box<dyn FnMut()> {
        let mut service = layer.layer(cache.clone());
        call(&mut service);
        Box::new(move || call(&mut service))
    };
    let mut bare = cache.clone();
    vec![
        ("hit", Box::new(move || call(&mut bare)) as Box<dyn FnMut()>),
        ("nothing", with(layer().only([]))),
        ("mobile", with(layer().only([ViewerField::IsMobile]))),
        ("country", with(layer().only([ViewerField::Country]))),
        ("device", with(layer().only(ViewerField::DEVICE.iter().copied()))),
        ("connection", with(layer().only(ViewerField::CONNECTION.iter().copied()))),
        ("geography", with(layer().only(ViewerField::GEOGRAPHY.iter().copied()))),
        ("all", with(layer())),
    ]
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let mut variants = variants();
    if let Some(only) = arguments.iter().position(|argument| argument == "only") {
        let (name, rounds) = (&arguments[only + 1], arguments[only + 2].parse().unwrap());
        let (_, run) = variants.iter_mut().find(|(variant, _)| variant == name).unwrap();
        (0..rounds).for_each(|_: u64| run());
        return;
    }
    println!("{:>11} {:>9} {:>14}", "fields", "ns", "ratio to none");
    for (name, nanoseconds, ratio) in measure(&mut variants) {
        println!("{name:>11} {nanoseconds:>9.0} {ratio:>14.2}");
    }
}

/// For each variant the median time of a call, and the median of its ratio to the first variant's.
fn measure(variants: &mut [Variant]) -> Vec<(&'static str, f64, f64)> {
    const ROUNDS: usize = 300;
    const CALLS: u32 = 500;
    let mut times = vec![Vec::with_capacity(ROUNDS); variants.len()];
    for round in 0..ROUNDS + 20 {
        for ((_, run), times) in variants.iter_mut().zip(&mut times) {
            let begun = Instant::now();
            (0..CALLS).for_each(|_| run());
            if round >= 20 {
                times.push(begun.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS));
            }
        }
    }
    let first = times[0].clone();
    let ratio = |times: &[f64]| median(times.iter().zip(&first).map(|(time, first)| time / first).collect());
    variants
        .iter()
        .zip(&times)
        .map(|((name, _), times)| (*name, median(times.clone()), ratio(times)))
        .collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
