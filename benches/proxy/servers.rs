//! What the servers are.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode, header};
use http_body_util::Full;
use larder::CacheBuilder;
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service};

use crate::process::this;
use crate::serve::serve;
use crate::{CONTENT, PATH, http1};

/// The example proxy, built anew where cargo has started this bench.
pub fn example() -> PathBuf {
    if let Some(cargo) = std::env::var_os("CARGO") {
        let build = ["build", "--quiet", "--release", "--all-features", "--example", "origin_proxy"];
        assert!(Command::new(cargo).args(build).status().unwrap().success(), "the example is built");
    }
    // target/release/deps/proxy-... -> target/release/examples/origin_proxy
    let mut path = this();
    path.pop();
    path.set_file_name("examples");
    path.push("origin_proxy");
    assert!(
        path.exists(),
        "build the example first: cargo build --release --features admin,metrics,redis,redis-tls,serde,viewer --example origin_proxy"
    );
    path
}

/// A response as it was read.
#[derive(Clone)]
pub struct Hit {
    pub content: Bytes,
    pub fields: Vec<(HeaderName, &'static str)>,
    pub status: StatusCode,
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<_> = self.fields.iter().map(|(name, _)| name.as_str()).collect();
        write!(f, "{} with {} and {} bytes", self.status, fields.join(", "), self.content.len())
    }
}

/// The second answer of a server to the clients' request.
pub fn hit(address: SocketAddr) -> Hit {
    let mut stream = TcpStream::connect(address).unwrap();
    let first = ask(&mut stream);
    let hit = ask(&mut stream);
    assert_eq!((first.status, hit.status), (StatusCode::OK, StatusCode::OK));
    hit
}

fn ask(stream: &mut TcpStream) -> Hit {
    stream.write_all(&http1::request(PATH)).unwrap();
    let mut response = Vec::new();
    let head = loop {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "there is an answer");
        response.extend_from_slice(&buffer[..read]);
        if let Some(head) = http1::head_length(&response).filter(|head| response.len() == head + CONTENT) {
            break head;
        }
    };
    let content = Bytes::from_static(response.split_off(head).leak());
    let head = String::from_utf8(response).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let fields = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| {
        // What is static is cloned without counting references.
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), &*value.to_owned().leak())
    });
    Hit { content, fields: fields.collect(), status }
}

/// An origin whose response is fresh for as long as anybody measures.
pub fn origin() {
    let fields = [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "max-age=86400"),
        ("etag", "\"33a64df551425fcc55e4d42a148795d9f25f89d4\""),
        ("last-modified", "Mon, 21 Sep 2026 14:00:00 GMT"),
        ("vary", "accept-encoding"),
    ];
    let fields = fields.map(|(name, value)| (HeaderName::from_static(name), value)).to_vec();
    serve(
        &one_worker(),
        ByHand(Hit { content: Bytes::from_static(&[b'x'; CONTENT]), fields, status: StatusCode::OK }),
    );
}

/// Answers as what is at `address`.
pub fn bare(address: SocketAddr) {
    serve(&one_worker(), ByHand(hit(address)));
}

/// The cache alone, in front of a service that answers as what is at `address`.
pub fn layer(address: SocketAddr) {
    let mut hit = hit(address);
    let own = [header::AGE.as_str(), "cache-status", "x-cache"];
    hit.fields.retain(|(name, _)| !own.contains(&name.as_str()));
    serve(&one_worker(), CacheBuilder::default().x_cache(true).build().layer(ByHand(hit)));
}

/// The service: it builds its response anew each time, as a handler does.
#[derive(Clone)]
struct ByHand(Hit);

impl<B> Service<Request<B>> for ByHand {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let Hit { content, fields, status } = &self.0;
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(name, *value);
        }
        ready(Ok(response.body(Full::new(content.clone())).unwrap()))
    }
}

/// As many workers as the proxy has.
fn one_worker() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}
