//! What the dearest heads cost that a client can send.
//!
//! `cargo bench --bench heads` stores 64 variants under one key, and looks among them for an answer to requests with one
//! costly field: each kind that a look-up reads, at sizes up to what servers let through. It prints the median time of
//! such a request in microseconds, answered from storage or, where nothing matches, by a 504 to `only-if-cached`; so the
//! origin has no part in it. A request that takes a millisecond is a failure: one client could keep a core busy with a
//! few hundred of them a second. `cargo test --bench heads` does the same once each, and judges nothing.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::convert::Infallible;
use std::hint::black_box;
use std::process::ExitCode;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{Empty, Full};
use larder::semantics::accept::{Codings, Languages};
use larder::{CacheBody, CacheBuilder, StandardPolicy};
use tower::{Layer, Service, service_fn};

const VARIANTS: usize = 64;

/// The last is what one head may have in hyper, by default.
const SIZES: [usize; 4] = [500, 4 << 10, 64 << 10, 400 << 10];

const MOST: Duration = Duration::from_millis(1);

/// A costly head: what the 64 variants are stored for, and what is asked then.
struct Head {
    name: &'static str,
    policy: StandardPolicy,
    /// Fields of the stored responses.
    response: Vec<(HeaderName, &'static str)>,
    /// Of the request that stores the variant of this number.
    stored: Box<dyn Fn(usize, usize) -> HeaderMap>,
    /// Of about so many bytes.
    asked: Box<dyn Fn(usize) -> HeaderMap>,
}

impl Head {
    fn new(name: &'static str, asked: impl Fn(usize) -> HeaderMap + 'static) -> Self {
        Self {
            name,
            policy: StandardPolicy::rfc9111(),
            response: vec![(header::ETAG, "\"a\"")],
            stored: Box::new(|number, _| line(&SELECT, &format!("{number}"))),
            asked: Box::new(asked),
        }
        .selected_by("x-select")
    }

    /// The variants differ in a field, which is the costly one.
    fn selected(
        name: &'static str,
        field: &'static HeaderName,
        asked: impl Fn(usize) -> HeaderMap + 'static,
    ) -> Self {
        let mut head = Self::new(name, asked);
        head.response.clear();
        head.stored = Box::new(|number, _| line(field, &format!("a{number}")));
        head.selected_by(field.as_str())
    }

    fn selected_by(mut self, vary: &str) -> Self {
        self.response.retain(|(name, _)| *name != header::VARY);
        self.response.push((header::VARY, vary.to_owned().leak()));
        self
    }

    fn by(mut self, policy: StandardPolicy) -> Self {
        self.policy = policy;
        self
    }

    fn stored(mut self, stored: impl Fn(usize, usize) -> HeaderMap + 'static) -> Self {
        self.stored = Box::new(stored);
        self
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.response.push((name, value));
        self
    }

    /// The median time of a request with a field of `size` bytes.
    fn measure(&self, size: usize, calls: usize) -> Duration {
        let response = self.response.clone();
        let origin = service_fn(move |request: Request<Empty<Bytes>>| {
            let mut answer = Response::new(Full::new(Bytes::from_static(b"content")));
            answer
                .headers_mut()
                .insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=600"));
            for (name, value) in &response {
                answer.headers_mut().append(name, HeaderValue::from_static(value));
            }
            if answer.headers().contains_key(header::CONTENT_RANGE) {
                *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            }
            drop(request);
            std::future::ready(Ok::<_, Infallible>(answer))
        });
        let mut cache = CacheBuilder::default().policy(self.policy.clone()).build().layer(origin);
        for number in 0..VARIANTS {
            drop(call(&mut cache, request((self.stored)(number, size))));
        }
        let mut asked = (self.asked)(size);
        if !asked.contains_key(header::PRAGMA) {
            asked.append(header::CACHE_CONTROL, HeaderValue::from_static("only-if-cached"));
        }
        asked.insert(&SELECT, HeaderValue::from_static("0"));
        let mut times: Vec<_> = (0..calls)
            .map(|_| {
                let request = request(asked.clone());
                let begun = Instant::now();
                let answer = black_box(call(&mut cache, request));
                let took = begun.elapsed();
                drop(answer);
                took
            })
            .collect();
        times.sort_unstable();
        times[times.len() / 2]
    }
}

static SELECT: HeaderName = HeaderName::from_static("x-select");

fn request(fields: HeaderMap) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = http::Uri::from_static("/articles/some-article?page=2");
    *request.headers_mut() = fields;
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("www.example.com"));
    request
}

/// Calls a service whose answer is there at once.
fn call<S>(service: &mut S, request: Request<Empty<Bytes>>) -> Response<CacheBody>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<CacheBody>, Error = Infallible>,
{
    let mut future = std::pin::pin!(service.call(request));
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => response,
        _ => panic!("the answer is there at once"),
    }
}

fn line(name: &HeaderName, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(name.clone(), HeaderValue::from_str(value).unwrap())])
}

/// One line of `size` bytes.
fn repeated(
    name: &'static HeaderName,
    start: &'static str,
    member: &'static str,
) -> impl Fn(usize) -> HeaderMap {
    move |size| {
        line(name, &format!("{start}{}", member.repeat(size.saturating_sub(start.len()) / member.len())))
    }
}

/// A hundred lines of `size` bytes in all: no more get past hyper.
fn lines(name: &'static HeaderName, member: &'static str) -> impl Fn(usize) -> HeaderMap {
    move |size| {
        let value = HeaderValue::from_str(&member.repeat((size / 100 / member.len()).max(1))).unwrap();
        (0..100).map(|_| (name.clone(), value.clone())).collect()
    }
}

fn heads() -> Vec<Head> {
    use header::{
        ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, COOKIE,
        IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, ORIGIN, PRAGMA, RANGE, REFERER, USER_AGENT,
    };
    let (careful, lenient) = (StandardPolicy::default, StandardPolicy::rfc9111);
    let known = || careful().codings(Codings::known(["zstd", "br", "gzip"]));
    let negotiated = || lenient().languages(Languages::Negotiated);
    // Each variant as long as what is asked, and different in its last byte.
    let alike = |name: &'static HeaderName| {
        move |number: usize, size: usize| {
            let end = char::from(b'0' + u8::try_from(number).unwrap());
            line(name, &format!("{}{end}", "a".repeat(size - 1)))
        }
    };
    let both = |size: usize| {
        let mut fields = repeated(&ACCEPT_ENCODING, "", "a-name-16-bytes,")(size);
        fields.extend(repeated(&ACCEPT_LANGUAGE, "", "a-name-16-bytes,")(size));
        fields
    };
    vec![
        Head::selected("Accept-Encoding, one member", &ACCEPT_ENCODING, repeated(&ACCEPT_ENCODING, "", "a"))
            .by(careful()),
        Head::selected(
            "Accept-Encoding, many members",
            &ACCEPT_ENCODING,
            repeated(&ACCEPT_ENCODING, "", "a,"),
        )
        .by(careful()),
        Head::selected("Accept-Encoding, commas", &ACCEPT_ENCODING, repeated(&ACCEPT_ENCODING, "", ","))
            .by(careful()),
        Head::selected("Accept-Encoding, many lines", &ACCEPT_ENCODING, lines(&ACCEPT_ENCODING, "a,"))
            .by(careful()),
        Head::selected(
            "Accept-Encoding, negotiated",
            &ACCEPT_ENCODING,
            repeated(&ACCEPT_ENCODING, "", "a-name-16-bytes,"),
        )
        .by(lenient()),
        Head::selected("Accept-Encoding, negotiated, lines", &ACCEPT_ENCODING, lines(&ACCEPT_ENCODING, ","))
            .by(lenient()),
        Head::selected("Accept-Encoding, known", &ACCEPT_ENCODING, repeated(&ACCEPT_ENCODING, "", "a,"))
            .by(known()),
        Head::new("Accept-Encoding, coded content", repeated(&ACCEPT_ENCODING, "", "a,"))
            .with(CONTENT_ENCODING, "gzip"),
        Head::new("Accept-Encoding, coded, lines", lines(&ACCEPT_ENCODING, "a,"))
            .with(CONTENT_ENCODING, "gzip"),
        Head::selected(
            "Accept-Language, as sent",
            &ACCEPT_LANGUAGE,
            repeated(&ACCEPT_LANGUAGE, "", "a-name-16-bytes,"),
        )
        .by(careful()),
        Head::selected(
            "Accept-Language, negotiated",
            &ACCEPT_LANGUAGE,
            repeated(&ACCEPT_LANGUAGE, "", "a-name-16-bytes,"),
        )
        .by(negotiated()),
        Head::selected("both, negotiated", &ACCEPT_LANGUAGE, both)
            .by(negotiated())
            .stored(|number, _| {
                let mut fields = line(&ACCEPT_ENCODING, &"a-name-16-bytes,".repeat(500 / 16));
                fields.extend(line(&ACCEPT_LANGUAGE, &format!("a{number}")));
                fields
            })
            .selected_by("accept-encoding, accept-language"),
        Head::selected("Accept", &ACCEPT, repeated(&ACCEPT, "", "a/b,")),
        Head::selected("Origin", &ORIGIN, repeated(&ORIGIN, "https://", "a")),
        Head::selected("User-Agent, many lines", &USER_AGENT, lines(&USER_AGENT, " a")),
        Head::selected("Referer, stored alike", &REFERER, repeated(&REFERER, "", "a"))
            .stored(alike(&REFERER)),
        Head::selected("Cookie, stored alike", &COOKIE, repeated(&COOKIE, "", "a")).stored(alike(&COOKIE)),
        Head::new("Cookie, keyed", repeated(&COOKIE, "", "a")).by(careful().key_field(COOKIE)),
        Head::new("Cookie", repeated(&COOKIE, "", "a")),
        Head::new("Cache-Control", repeated(&CACHE_CONTROL, "", "a,")).by(careful()),
        Head::new("Cache-Control, quotes", repeated(&CACHE_CONTROL, "a=\"", "\\a")).by(careful()),
        Head::new("Cache-Control, many lines", lines(&CACHE_CONTROL, "a,")).by(careful()),
        Head::new("Pragma", repeated(&PRAGMA, "", "a,")).by(careful()),
        Head::new("If-None-Match", repeated(&IF_NONE_MATCH, "", "\"\",")),
        Head::new("If-None-Match, many lines", lines(&IF_NONE_MATCH, "\"\",")),
        Head::new("If-None-Match, quotes", repeated(&IF_NONE_MATCH, "\"", ",")),
        Head::new("If-Match", repeated(&IF_MATCH, "", "\"\",")),
        Head::new("If-Modified-Since", repeated(&IF_MODIFIED_SINCE, "", "a")),
        Head::new("Range", repeated(&RANGE, "bytes=", "0")),
        Head::new("Range, commas", repeated(&RANGE, "bytes=", ",")),
        Head::new("Range, of parts", |size| repeated(&RANGE, "bytes=", "0")(size))
            .with(CONTENT_RANGE, "bytes 0-6/1000")
            .stored(|number, _| {
                let mut fields = line(&SELECT, &format!("{number}"));
                fields.extend(line(&RANGE, "bytes=0-6"));
                fields
            }),
        Head::new("If-Range, of parts", |size| {
            let mut fields = repeated(&IF_RANGE, "", "a")(size);
            fields.extend(line(&RANGE, "bytes=0-6"));
            fields
        })
        .with(CONTENT_RANGE, "bytes 0-6/1000")
        .stored(|number, _| {
            let mut fields = line(&SELECT, &format!("{number}"));
            fields.extend(line(&RANGE, "bytes=0-6"));
            fields
        }),
        Head::new("100 fields", |size| {
            let name = |number| HeaderName::try_from(format!("x-{number}")).unwrap();
            let value = HeaderValue::try_from("a".repeat(size / 100)).unwrap();
            (0..100).map(|number| (name(number), value.clone())).collect()
        }),
    ]
}

fn main() -> ExitCode {
    // Only `cargo bench` says so.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let calls = if is_bench { 101 } else { 1 };
    println!("{:<40} {:>9} {:>9} {:>9} {:>9}  us", "field, bytes", SIZES[0], SIZES[1], SIZES[2], SIZES[3]);
    let mut dearest = Duration::ZERO;
    for head in heads() {
        let times = SIZES.map(|size| head.measure(size, calls));
        let shown = times.map(|time| format!("{:>9.1}", time.as_secs_f64() * 1e6));
        println!("{:<40} {}", head.name, shown.join(" "));
        dearest = times.into_iter().fold(dearest, Duration::max);
    }
    if is_bench && dearest >= MOST {
        println!("FAILED: the dearest head costs {dearest:?}, which is not less than {MOST:?}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
