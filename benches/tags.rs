//! What entity tags cost a service that stores nothing: `CacheBuilder::tag_only` against the same service bare, over the wire.
//!
//! `cargo bench --bench tags --all-features` prints, for content of 1, 16 and 64 KiB, how many requests a second each
//! variant answers, the ratio to bare, the processor time of the server for a request, and the ratio of those times. Bare is
//! a hyper service that answers from memory; "layer" is the layer without tags; "weak" and "strong" are its tags.
//!
//! The server is a process of its own with one thread, and 32 connections over loopback keep it busy. Where `taskset` is
//! there, the server has one core and the clients have another. The variants take turns in short rounds; each figure is the
//! median over the rounds. Only where the server is what everybody waits for ("busy" is near 1) does the ratio of requests
//! say what a tag costs; the ratio of processor times says it in any case.
//!
//! The goals are for weak tags. A run that misses one fails. Where others use the machine, `chrt -r 5 <bench binary>
//! --bench` runs before them on Linux; the pauses between rounds are theirs.
//!
//! With `LARDER_FASTIFY=<folder>`, in which `npm install fastify @fastify/etag` has been run, Fastify without and with its
//! plugin is measured in the same way, against itself.
//!
//! `-- only tag weak|strong BYTES ROUNDS` tags content and `-- only call bare|layer|weak|strong BYTES ROUNDS` calls a
//! service in this process, for callgrind; see docs/ARCHITECTURE.md.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::cell::Cell;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use larder::semantics::etag::{TagKind, Tagger};
use larder::{CacheBuilder, CacheLayer, Tagging};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer, Service};

const CONNECTIONS: usize = 32;
/// KiB of content, and the least that weak tags may leave of the requests a second.
const GOALS: [(usize, f64); 3] = [(1, 0.90), (16, 0.75), (64, 0.60)];

/// Answers from memory: `/16` has 16 KiB.
#[derive(Clone)]
struct Origin {
    contents: Arc<[Bytes; 3]>,
}

impl Origin {
    fn new() -> Self {
        Self { contents: Arc::new(GOALS.map(|(kib, _)| content(kib * 1024))) }
    }
}

impl<Q> Service<Request<Q>> for Origin {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let kib = request.uri().path()[1..].parse().unwrap_or(1);
        let index = GOALS.iter().position(|(goal, _)| *goal == kib).unwrap_or_default();
        let mut response = Response::new(Full::new(self.contents[index].clone()));
        let headers = response.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert("cache-control", HeaderValue::from_static("no-cache"));
        std::future::ready(Ok(response))
    }
}

fn content(length: usize) -> Bytes {
    (0..length).map(|at| b' ' + (at % 89) as u8).collect()
}

/// The variants with tags, and the layer of each.
fn variants() -> Vec<(&'static str, CacheLayer)> {
    let layer = || CacheBuilder::default().tag_only();
    vec![
        ("layer", layer().without_tagging().build()),
        ("weak", layer().tagging(Tagging::weak()).build()),
        #[cfg(feature = "blake3")]
        ("strong", layer().tagging(Tagging::strong()).build()),
    ]
}

/// Serves each variant at a port of its own, and prints the ports, until the standard input is closed.
fn serve() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    on_one_thread(async {
        let mut ports = format!("bare {}", listen(Origin::new()).await);
        for (name, layer) in variants() {
            ports += &format!(" {name} {}", listen(layer.layer(Origin::new())).await);
        }
        println!("{ports}");
        std::future::pending().await
    })
}

/// Serves at a port, in tasks.
async fn listen<S, B>(service: S) -> u16
where
    S: Service<Request<hyper::body::Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            let _ = stream.set_nodelay(true);
            tokio::spawn(async move {
                let builder = hyper::server::conn::http1::Builder::new();
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    port
}

fn on_one_thread<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// A server in a process of its own, which ends with this one.
struct Server {
    process: Child,
    /// The name and the port of each variant, bare first.
    variants: Vec<(String, u16)>,
}

impl Server {
    /// `command` prints the variants and their ports in one line.
    fn start(mut command: Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        let variants = words.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].parse().unwrap())).collect();
        Self { process, variants }
    }

    /// The processor time that it has taken, where the system says.
    fn time(&self) -> Option<Duration> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).ok()?;
        let nanoseconds = tasks.filter_map(|task| {
            let line = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            line.split(' ').next()?.parse::<u64>().ok()
        });
        Some(Duration::from_nanos(nanoseconds.sum())).filter(|time| !time.is_zero())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A command that runs on one core, if that can be arranged.
fn on_core(core: &str, program: &Path, is_pinned: bool) -> Command {
    if !is_pinned {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(program);
    command
}

/// Leaves the second core to the server. Whether that works.
fn pin_to_first_core() -> bool {
    let own = std::process::id().to_string();
    std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1)
        && Command::new("taskset")
            .args(["-acp", "0", &own])
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

/// The plugin's default, SHA-1, and its FNV-1a, which is the same work as a weak tag.
const FASTIFY: &str = r"
const fastify = require('fastify');
const etag = require('@fastify/etag');
process.stdin.on('end', () => process.exit()).resume();
async function serve(name, options) {
  const app = fastify();
  if (options) await app.register(etag, options);
  for (const kib of [1, 16, 64]) {
    const content = Buffer.alloc(kib * 1024, 'x');
    app.get('/' + kib, (request, reply) => {
      reply.header('content-type', 'text/html; charset=utf-8').header('cache-control', 'no-cache').send(content);
    });
  }
  await app.listen({ port: 0, host: '127.0.0.1' });
  return name + ' ' + app.server.address().port;
}
(async () => {
  const variants = [
    await serve('fastify'),
    await serve('sha1', { algorithm: 'sha1' }),
    await serve('fnv1a', { hashFn: etag.fnv1a, weak: true }),
  ];
  console.log(variants.join(' '));
})();
";

/// One connection that asks again and again until the time is over. Counts the answers.
async fn ask(port: u16, kib: usize, until: Instant, answers: Rc<Cell<u64>>) {
    let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let request = format!(
        "GET /{kib} HTTP/1.1\r\nhost: www.example.com\r\nuser-agent: bench/1.0\r\naccept: */*\r\n\r\n"
    );
    let mut buffer = vec![0; 256 * 1024];
    // All answers are of one length.
    let mut whole = None;
    while Instant::now() < until {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut received = 0;
        while received < whole.unwrap_or(usize::MAX) {
            let count = stream.read(&mut buffer[received..]).await.unwrap();
            assert!(count > 0, "the server has closed a connection");
            received += count;
            whole = whole.or_else(|| length_of(&buffer[..received], kib * 1024));
        }
        answers.set(answers.get() + 1);
    }
}

/// The length of a whole answer, by its head.
fn length_of(received: &[u8], content: usize) -> Option<usize> {
    let head = received.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let fields = String::from_utf8_lossy(&received[..head]).to_ascii_lowercase();
    assert!(fields.starts_with("http/1.1 200"), "{fields}");
    assert!(fields.contains(&format!("content-length: {content}\r\n")), "{fields}");
    Some(head + content)
}

/// What one round has shown.
#[derive(Clone, Copy)]
struct Round {
    /// Requests a second.
    rate: f64,
    /// Microseconds of the server's processor time for a request.
    time: f64,
    /// The share of the time in which the server had work.
    busy: f64,
}

fn round(server: &Server, port: u16, kib: usize, time: Duration) -> Round {
    std::thread::sleep(time);
    let answers = Rc::new(Cell::new(0));
    let counted = Rc::clone(&answers);
    let (begun, time_before) = (Instant::now(), server.time());
    on_one_thread(tokio::task::LocalSet::new().run_until(async move {
        let ask = |_| tokio::task::spawn_local(ask(port, kib, begun + time, Rc::clone(&counted)));
        let clients: Vec<_> = (0..CONNECTIONS).map(ask).collect();
        // To wake a core that sleeps would cost the server more the longer it takes for an answer.
        let awake = tokio::task::spawn_local(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        for client in clients {
            client.await.unwrap();
        }
        awake.abort();
    }));
    let (elapsed, count) = (begun.elapsed().as_secs_f64(), answers.get() as f64);
    let taken =
        server.time().zip(time_before).map_or(f64::NAN, |(after, before)| (after - before).as_secs_f64());
    Round { rate: count / elapsed, time: taken * 1e6 / count, busy: taken / elapsed }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures all variants of a server by turns, and prints them. The ratios of requests of the variant `judged`, and the
/// least share of the time in which the server had work.
fn compare(server: &Server, rounds: usize, time: Duration, judged: &str) -> (Vec<f64>, f64) {
    let (mut ratios, mut least_busy) = (Vec::new(), f64::INFINITY);
    for (kib, _) in GOALS {
        let count = server.variants.len();
        let mut found = vec![Vec::new(); count];
        for number in 0..rounds {
            for turn in 0..count {
                let variant = (number + turn) % count;
                found[variant].push(round(server, server.variants[variant].1, kib, time));
            }
        }
        for ((name, _), rounds) in server.variants.iter().zip(&found) {
            let to_bare = |share: fn(&Round, &Round) -> f64| {
                median(rounds.iter().zip(&found[0]).map(|(round, bare)| share(round, bare)))
            };
            let ratio = to_bare(|round, bare| round.rate / bare.rate);
            let busy = median(rounds.iter().map(|round| round.busy));
            least_busy = least_busy.min(busy);
            println!(
                "{:<8} {name:<8} {:>9.0} {ratio:>7.3} {:>9.2} {:>7.3} {busy:>6.2}",
                format!("{kib} KiB"),
                median(rounds.iter().map(|round| round.rate)),
                median(rounds.iter().map(|round| round.time)),
                to_bare(|round, bare| bare.time / round.time),
            );
            if name == judged {
                ratios.push(ratio);
            }
        }
    }
    (ratios, least_busy)
}

/// Runs one thing again and again in this process.
fn only(arguments: &[String]) {
    let (kind, bytes, rounds) =
        (&*arguments[1], arguments[2].parse().unwrap(), arguments[3].parse().unwrap());
    let layer = variants().into_iter().find(|(name, _)| *name == kind).map(|(_, layer)| layer);
    match &*arguments[0] {
        "tag" => {
            let content = content(bytes);
            for _ in 0..rounds {
                let mut tagger = Tagger::new(tag_kind(kind));
                tagger.update(std::hint::black_box(&content));
                std::hint::black_box(tagger.finish());
            }
        }
        _ => on_one_thread(async {
            let contents = Arc::new(GOALS.map(|_| content(bytes)));
            let origin = Origin { contents };
            match layer {
                None => call(origin, rounds).await,
                Some(layer) => call(layer.layer(origin), rounds).await,
            }
        }),
    }
}

fn tag_kind(name: &str) -> TagKind {
    match name {
        #[cfg(feature = "blake3")]
        "strong" => TagKind::Blake3,
        _ => TagKind::Fnv1a,
    }
}

async fn call<S, B>(mut service: S, rounds: usize)
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: Body,
    B::Error: std::fmt::Debug,
{
    for _ in 0..rounds {
        let request = Request::get("/1").header("host", "www.example.com").header("accept", "*/*");
        let response = service.call(request.body(Empty::new()).unwrap()).await.unwrap();
        std::hint::black_box(response.into_body().collect().await.unwrap());
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    if arguments.get(1).is_some_and(|argument| argument == "serve") {
        serve();
        return ExitCode::SUCCESS;
    }
    if let Some(at) = arguments.iter().position(|argument| argument == "only") {
        only(&arguments[at + 1..]);
        return ExitCode::SUCCESS;
    }
    // Times mean nothing without `cargo bench`, which passes `--bench`: it has only to run.
    let is_quick = !arguments.iter().any(|argument| argument == "--bench");
    let (rounds, time) = if is_quick { (1, 20) } else { (15, 150) };
    let time = Duration::from_millis(time);
    let is_pinned = pin_to_first_core();
    if !is_pinned {
        println!("without taskset, or a second core: server and clients get in each other's way");
    }
    println!(
        "{:<8} {:<8} {:>9} {:>7} {:>9} {:>7} {:>6}",
        "content", "variant", "requests", "ratio", "cpu us", "ratio", "busy"
    );
    let mut own = on_core("1", &std::env::current_exe().unwrap(), is_pinned);
    own.arg("serve");
    let (ratios, least_busy) = compare(&Server::start(own), rounds, time, "weak");
    if let Some(folder) = std::env::var_os("LARDER_FASTIFY") {
        let mut node = on_core("1", Path::new("node"), is_pinned);
        node.args(["-e", FASTIFY]).current_dir(folder);
        compare(&Server::start(node), rounds, time, "");
    }
    let is_met = ratios.iter().zip(GOALS).all(|(ratio, (_, goal))| *ratio >= goal);
    let verdict = match (is_quick, is_met) {
        (true, _) => "not judged",
        (false, true) => "met",
        (false, false) => "missed",
    };
    let [one, two, three] = GOALS.map(|(_, goal)| goal);
    println!("goals for weak tags: {one}, {two}, {three}: {verdict}");
    if least_busy < 0.9 && !is_quick {
        println!(
            "The server was not always busy: others use the machine. Try `chrt -r 5 <this binary> --bench`."
        );
    }
    if is_quick || is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
