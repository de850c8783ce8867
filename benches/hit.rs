//! What a request costs with and without the cache, side by side in one run.
//!
//! `cargo bench --bench hit` prints, for content of 1 KiB and 64 KiB, the time of a bare service that builds a
//! six-field response by hand, and of a hit, a 304, a miss that stores and a pass, each as a ratio to it.
//! "bare + 1" is the bare service with one more field put into its response afterwards, as every cache that says what
//! it did has to: a table of six fields is full, and grows. A pass is to be compared with it.
//!
//! The variants take turns in short rounds, and each ratio is the median over the rounds: so what else the machine
//! does hits all of them alike.
//!
//! `-- only NAME ROUNDS` runs one variant a fixed number of times and measures nothing, for callgrind; see
//! docs/ARCHITECTURE.md.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{Empty, Full};
use larder::policy::cloudfront::{
    CacheCookieBehavior, CacheHeaderBehavior, CachePolicyConfig, CacheQueryStringBehavior, Distribution,
};
use larder::policy::{Fastly, KeyRules, Policies, QueryRules};
use larder::{
    CacheBuilder, CacheLayer, CachePolicy, Event, MemoryStore, Observer, RequestAction, StandardPolicy,
};
use tower::{Layer, Service};

/// The service: it builds a response with six fields, as a handler does.
#[derive(Clone)]
struct ByHand {
    cache_control: &'static str,
    content: Bytes,
    /// It has two fields more, for caches.
    is_tagged: bool,
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
        let mut response = Response::builder()
            .header("content-type", "text/html; charset=utf-8")
            .header("content-length", self.content.len())
            .header("cache-control", self.cache_control)
            .header("etag", "\"33a64df551425fcc55e4d42a148795d9f25f89d4\"")
            .header("last-modified", "Mon, 21 Sep 2026 14:00:00 GMT")
            .header("vary", "accept-encoding")
            .body(Full::new(self.content.clone()))
            .unwrap();
        if self.is_tagged {
            let tags = HeaderValue::from_static("all article article/4711 author/42");
            response.headers_mut().insert("surrogate-key", tags);
            let control = HeaderValue::from_static("max-age=3600, stale-while-revalidate=30");
            response.headers_mut().insert("surrogate-control", control);
        }
        std::future::ready(Ok(response))
    }
}

/// Bypasses everything.
struct Pass;

impl CachePolicy for Pass {
    fn request(&self, _: &mut http::request::Parts, _: &mut larder::PolicyData) -> RequestAction {
        RequestAction::bypass("bench")
    }
}

fn request(condition: bool, number: Option<u64>) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = match number {
        None => http::Uri::from_static("/articles/some-article?page=2"),
        Some(number) => format!("/articles/{number}").parse().unwrap(),
    };
    let headers = request.headers_mut();
    headers.insert("host", HeaderValue::from_static("www.example.com"));
    headers.insert("accept", HeaderValue::from_static("*/*"));
    headers.insert("accept-encoding", HeaderValue::from_static("gzip, br"));
    headers.insert("user-agent", HeaderValue::from_static("bench/1.0"));
    if condition {
        let tag = HeaderValue::from_static("\"33a64df551425fcc55e4d42a148795d9f25f89d4\"");
        headers.insert("if-none-match", tag);
    }
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

type Variant = (&'static str, Box<dyn FnMut()>);

/// A hit with another policy than the default.
fn hit_with(policy: impl CachePolicy, service: &ByHand) -> Box<dyn FnMut()> {
    let mut hit = CacheBuilder::default().policy(policy).build().layer(service.clone());
    drop(call(&mut hit, request(false, None)));
    Box::new(move || drop(black_box(call(&mut hit, request(false, None)))))
}

/// A hit that observers see.
fn hit_observed_by<const N: usize>(service: &ByHand, observers: [Arc<dyn Observer>; N]) -> Box<dyn FnMut()> {
    let observe = |layer: CacheBuilder, observer: Arc<dyn Observer>| {
        layer.observer(move |event: &Event<'_>| observer.event(event))
    };
    let layer = observers.into_iter().fold(CacheBuilder::default(), observe);
    let mut hit = layer.build().layer(service.clone());
    drop(call(&mut hit, request(false, None)));
    Box::new(move || drop(black_box(call(&mut hit, request(false, None)))))
}

/// What it costs to be seen: by nobody who does anything, and by the observers of the crate.
#[cfg(all(feature = "admin", feature = "metrics", feature = "tracing"))]
fn observed(service: &ByHand) -> Vec<Variant> {
    use larder::admin::Watch;
    use larder::{MetricsObserver, TracingObserver};

    // Buckets as an exporter is given them.
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new()
        .set_buckets(&[1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0, 1e3, 1e5, 1e7])
        .unwrap()
        .build_recorder();
    let metered = || -> Arc<dyn Observer> { Arc::new(MetricsObserver::with_recorder(&recorder)) };
    // As the example does every five seconds. The recorder keeps each value of a histogram until then.
    let kept_up = |mut hit: Box<dyn FnMut()>| -> Box<dyn FnMut()> {
        let (recorder, mut calls) = (recorder.handle(), 0);
        Box::new(move || {
            hit();
            calls += 1;
            if calls % 10_000 == 0 {
                recorder.run_upkeep();
            }
        })
    };
    let of_nobody = hit_observed_by(service, [Arc::new(|_: &Event<'_>| {})]);
    let of_watch = hit_observed_by(service, [Arc::new(Watch::new())]);
    let of_metrics = kept_up(hit_observed_by(service, [metered()]));
    let of_both = kept_up(hit_observed_by(service, [metered(), Arc::new(Watch::new())]));
    // Nobody has enabled the events: what every program pays that could.
    let of_tracing = hit_observed_by(service, [Arc::new(TracingObserver::new())]);
    vec![
        ("seen", of_nobody),
        ("watched", of_watch),
        ("metered", of_metrics),
        ("both", of_both),
        ("traced", of_tracing),
    ]
}

/// The query and a field are in the key, and so are two cookies.
fn distribution() -> Distribution {
    let cache_policy = CachePolicyConfig::new()
        .header_behavior(CacheHeaderBehavior::allow_list([http::header::ACCEPT]))
        .cookie_behavior(CacheCookieBehavior::allow_list(["theme", "ab"]))
        .query_string_behavior(CacheQueryStringBehavior::all())
        .enable_accept_encoding_gzip(true)
        .enable_accept_encoding_brotli(true);
    let optimized = CachePolicyConfig::caching_optimized();
    Distribution::new(optimized.clone())
        .behavior("/images/*", optimized)
        .behavior("/articles/*", cache_policy)
}

/// Four rows by path, of which the last one has the page.
fn table() -> Policies {
    let standard = StandardPolicy::default();
    ["/admin/*", "/images/*.png", "*.css", "/articles/*"]
        .into_iter()
        .fold(Policies::new(standard.clone()), |table, path| table.path(path, standard.clone()))
}

fn variants(content: &Bytes) -> Vec<Variant> {
    let stored = ByHand { cache_control: "max-age=3600", content: content.clone(), is_tagged: false };
    let private = ByHand { cache_control: "no-store", content: content.clone(), is_tagged: false };
    let mut bare = stored.clone();
    let mut hit = CacheLayer::default().layer(stored.clone());
    let mut not_modified = hit.clone();
    let small = MemoryStore::builder().capacity(16 << 20).max_object(1 << 20).build();
    let mut miss = CacheLayer::new(small).layer(stored.clone());
    let of_table = hit_with(table(), &stored);
    let of_cloudfront = hit_with(Distribution::new(CachePolicyConfig::caching_optimized()), &stored);
    let of_distribution = hit_with(distribution(), &stored);
    let of_fastly = hit_with(Fastly::new(), &stored);
    let rules = KeyRules::new().query(QueryRules::all().ignore_trackers().sorted());
    let of_key = hit_with(StandardPolicy::default().key(rules), &stored);
    let tagged = ByHand { is_tagged: true, ..stored.clone() };
    let of_tagged = hit_with(Fastly::new(), &tagged);
    #[cfg(all(feature = "admin", feature = "metrics", feature = "tracing"))]
    let observed = observed(&stored);
    #[cfg(not(all(feature = "admin", feature = "metrics", feature = "tracing")))]
    let observed = Vec::<Variant>::new();
    let of_tagged_by_default = hit_with(StandardPolicy::default(), &tagged);
    let mut pass = CacheBuilder::default().policy(Pass).build().layer(stored);
    let mut no_store = CacheLayer::default().layer(private);
    drop(call(&mut hit, request(false, None)));
    let mut number = 0;
    let mut one_more = bare.clone();
    let mut variants: Vec<Variant> = vec![
        ("bare", Box::new(move || drop(black_box(call(&mut bare, request(false, None)))))),
        (
            "bare + 1",
            Box::new(move || {
                let mut response = call(&mut one_more, request(false, None));
                response.headers_mut().append("cache-status", HeaderValue::from_static("larder; fwd=bypass"));
                drop(black_box(response));
            }),
        ),
        ("hit", Box::new(move || drop(black_box(call(&mut hit, request(false, None)))))),
        ("table", of_table),
        ("cloudfront", of_cloudfront),
        ("behavior", of_distribution),
        ("fastly", of_fastly),
        ("tagged", of_tagged),
        ("hit + 2", of_tagged_by_default),
        ("keyed", of_key),
        ("304", Box::new(move || drop(black_box(call(&mut not_modified, request(true, None)))))),
        (
            "miss",
            Box::new(move || {
                number += 1;
                drop(black_box(call(&mut miss, request(false, Some(number)))));
            }),
        ),
        ("pass", Box::new(move || drop(black_box(call(&mut pass, request(false, None)))))),
        ("no-store", Box::new(move || drop(black_box(call(&mut no_store, request(false, None)))))),
    ];
    variants.extend(observed);
    variants
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let Some(only) = arguments.iter().position(|argument| argument == "only") {
        let (name, rounds) = (&arguments[only + 1], arguments[only + 2].parse().unwrap());
        let mut variants = variants(&Bytes::from(vec![b'x'; 1024]));
        let (_, run) = variants.iter_mut().find(|(variant, _)| variant == name).unwrap();
        (0..rounds).for_each(|_: u64| run());
        return;
    }
    println!("{:<10} {:>9} {:>9} {:>14}", "content", "variant", "ns", "ratio to bare");
    for kib in [1, 64] {
        let mut variants = variants(&Bytes::from(vec![b'x'; kib * 1024]));
        for (name, nanoseconds, ratio) in measure(&mut variants) {
            println!("{:<10} {name:>9} {nanoseconds:>9.0} {ratio:>14.2}", format!("{kib} KiB"));
        }
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
    let bare = times[0].clone();
    variants
        .iter()
        .zip(times)
        .map(|((name, _), times)| {
            let ratios = times.iter().zip(&bare).map(|(time, bare)| time / bare).collect();
            (*name, median(times), median(ratios))
        })
        .collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
