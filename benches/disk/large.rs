//! Content of 1 GiB through a proxy that streams, with the cache in it and without: an origin, a proxy and a client over loopback, each
//! in a process of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use ::http::{Request, Response, Uri};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use larder::CacheLayer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tower::{BoxError, Layer, service_fn};

use crate::http1::{head_length, request};
use crate::process::{Server, this};
use crate::{Report, folder, median, mib, open, ratios};

const LENGTH: u64 = 1 << 30;
const QUICK: u64 = 4 << 20;
const FRAME: usize = 64 << 10;
const GOAL: f64 = 0.9;

/// Content that is made while it is sent.
struct Made {
    frame: Bytes,
    left: u64,
}

impl Body for Made {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = self.left.min(FRAME as u64);
        self.left -= length;
        Poll::Ready(Some(Ok(Frame::data(self.frame.slice(..length as usize)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// What a process does: `origin`, or `proxy ORIGIN`, or `proxy ORIGIN FOLDER` with a cache.
pub fn serve(kind: &str, of: &[&str]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match (kind, of) {
        ("origin", []) => origin(&runtime),
        ("proxy", [origin, folder @ ..]) => proxy(&runtime, origin, folder.first()),
        other => panic!("{other:?} is no process"),
    }
}

/// `/BYTES/...`, not to be stored where the path says `passed`.
fn origin(runtime: &Runtime) {
    let frame = Bytes::from(vec![b'x'; FRAME]);
    crate::serve::serve(
        runtime,
        service_fn(move |request: Request<Incoming>| {
            let path = request.uri().path();
            let left = path.split('/').nth(1).unwrap().parse().unwrap();
            let control = if path.contains("passed") { "no-store" } else { "max-age=86400" };
            let response = Response::builder().header("cache-control", control).header("etag", "\"video\"");
            let body = Made { frame: frame.clone(), left };
            std::future::ready(Ok::<_, Infallible>(response.body(body).unwrap()))
        }),
    );
}

fn proxy(runtime: &Runtime, origin: &str, folder: Option<&&str>) {
    let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let origin = origin.to_owned();
    let upstream = service_fn(move |request: Request<Incoming>| {
        let (mut head, _) = request.into_parts();
        head.uri = format!("http://{origin}{}", head.uri.path()).parse::<Uri>().unwrap();
        let sent = client.request(Request::from_parts(head, Empty::new()));
        async move { sent.await.map_err(BoxError::from) }
    });
    match folder {
        None => crate::serve::serve(runtime, upstream),
        Some(folder) => {
            let store = runtime.block_on(open(Path::new(folder), 6 << 30));
            crate::serve::serve(runtime, CacheLayer::new(store).layer(upstream));
        }
    }
}

/// Reads all of it; seconds, and what the cache said.
async fn fetch(address: SocketAddr, path: &str, length: u64) -> (f64, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let begun = Instant::now();
    stream.write_all(&request(path)).await.unwrap();
    let mut buffer = vec![0; 256 << 10];
    let (mut filled, mut head) = (0, None);
    while head.is_none() {
        let read = stream.read(&mut buffer[filled..]).await.unwrap();
        assert!(read > 0, "there is an answer");
        filled += read;
        head = head_length(&buffer[..filled]);
    }
    let head = head.unwrap();
    let said = String::from_utf8_lossy(&buffer[..head]).into_owned();
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    let mut left = length - (filled - head) as u64;
    while left > 0 {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "the answer is whole: {left} of {length} bytes are missing");
        left -= read as u64;
    }
    let said = said.lines().find_map(|line| line.strip_prefix("cache-status: ")).unwrap_or_default();
    (begun.elapsed().as_secs_f64(), said.to_owned())
}

/// The most memory that a process has had; zero where the system does not say it.
fn peak(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_ascii_whitespace().next().map_or(0, |kib| kib.parse::<u64>().unwrap() << 10)
}

pub fn report(report: &mut Report) {
    let (length, rounds) = if report.is_quick { (QUICK, 1) } else { (LENGTH, 7) };
    let place = folder();
    let origin = Server::start("origin", this(), &["large", "origin"]);
    let upstream = origin.address.to_string();
    let bare = Server::start("bare", this(), &["large", "proxy", &upstream]);
    let words = ["large", "proxy", &upstream, place.path().to_str().unwrap()];
    let own = Server::start("own", this(), &words);
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut times = [const { Vec::new() }; 4];
    for round in 0..rounds {
        let ways = [
            (bare.address, format!("/{length}/passed"), ""),
            (own.address, format!("/{length}/passed"), "larder; fwd=uri-miss; "),
            (own.address, format!("/{length}/{round}"), "larder; fwd=uri-miss; stored"),
            (own.address, format!("/{length}/{round}"), "larder; hit"),
        ];
        for ((address, path, expected), times) in ways.iter().zip(&mut times) {
            let (time, said) = client.block_on(fetch(*address, path, length));
            assert!(said.starts_with(expected), "{said}");
            times.push(time);
            if expected.ends_with("stored") {
                // The end is written in the background.
                while !client.block_on(is_hit(own.address, path)) {}
            }
        }
    }
    let rate = |times: &[f64]| mib(length) / median(times.iter().copied());
    let [passed_bare, own_times @ ..] = &times;
    for (what, times) in ["that is not stored", "a miss that is stored", "a hit"].into_iter().zip(own_times) {
        let ratio = ratios(times, passed_bare);
        let figure = format!("{ratio:.2} ({:.0} and {:.0} MiB/s)", rate(times), rate(passed_bare));
        let what = format!("1 GiB, {what}, of a proxy without a cache");
        report.line(&what, &figure, Some((">= 0.9", ratio >= GOAL)));
    }
    let figure = format!("{:.0} MiB ({:.0} MiB without a cache)", mib(peak(&own)), mib(peak(&bare)));
    report.line("1 GiB, the most memory of the process", &figure, None);
}

/// Whether it is stored.
async fn is_hit(address: SocketAddr, path: &str) -> bool {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = String::from_utf8(request(path)).unwrap().replacen("GET", "HEAD", 1);
    let head = head.replacen("\r\n\r\n", "\r\nconnection: close\r\ncache-control: only-if-cached\r\n\r\n", 1);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.starts_with("HTTP/1.1 200")
}
