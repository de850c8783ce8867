//! The servers: each is a process of its own, so that its processor time is its own.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fmt;
use std::future::{Ready, ready};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use larder::CacheBuilder;
use tokio::net::TcpListener;
use tower::{BoxError, Layer, Service};

use crate::{CONTENT, http1};

/// The core of the servers, and that of the clients.
const SERVERS: &str = "0";
const CLIENTS: &str = "1";

/// A server's process, which ends with this.
pub struct Server {
    pub address: SocketAddr,
    pub name: &'static str,
    process: Child,
}

impl Server {
    /// Starts a program that prints `http://ADDRESS` in its first line.
    pub fn start(name: &'static str, program: PathBuf, arguments: &[&str]) -> Self {
        // Each of these runs the rest of the command line in its own place.
        let mut words: Vec<OsString> = Vec::new();
        if is_pinned() {
            words.extend(["taskset", "--cpu-list", SERVERS].map(Into::into));
        }
        if has("setpriv") {
            words.extend(["setpriv", "--pdeathsig", "KILL"].map(Into::into)); // when this process is killed
        }
        words.push(program.into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        let mut process = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("http://"));
        Self { address: address.unwrap().parse().unwrap(), name, process }
    }

    /// The processor time of the process so far, in hundredths of a second; zero where the system does not say it.
    pub fn cpu_time(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap_or_default();
        // The fields after the name, which is in brackets, begin with the third: utime and stime are 14 and 15.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// This program.
pub fn this() -> PathBuf {
    std::env::current_exe().unwrap()
}

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
        "build the example first: cargo build --release --features admin,disk,metrics,redis,redis-tls,serde,viewer --example origin_proxy"
    );
    path
}

fn is_pinned() -> bool {
    std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) && has("taskset")
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Keeps the clients, and what is started from here on without a core of its own, on the clients' core.
pub fn pin_this_process() {
    let id = std::process::id().to_string();
    if is_pinned() {
        let mut taskset = Command::new("taskset");
        taskset.args(["--cpu-list", "--pid", CLIENTS, &id]).stdout(Stdio::null());
        assert!(taskset.status().unwrap().success(), "the clients have a core");
    }
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
    stream.write_all(&http1::request()).unwrap();
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
    serve(ByHand(Hit { content: Bytes::from_static(&[b'x'; CONTENT]), fields, status: StatusCode::OK }));
}

/// Answers as what is at `address`.
pub fn bare(address: SocketAddr) {
    serve(ByHand(hit(address)));
}

/// The cache alone, in front of a service that answers as what is at `address`.
pub fn layer(address: SocketAddr) {
    let mut hit = hit(address);
    let own = [header::AGE.as_str(), "cache-status", "x-cache"];
    hit.fields.retain(|(name, _)| !own.contains(&name.as_str()));
    serve(CacheBuilder::default().x_cache(true).build().layer(ByHand(hit)));
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

/// Serves with as many workers as the proxy has.
fn serve<S, B>(service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("http://{}", listener.local_addr().unwrap());
        let builder = Builder::new(TokioExecutor::new());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let service = TowerToHyperService::new(service.clone());
            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
            tokio::spawn(async move { drop(connection.await) });
        }
    });
}
