//! What a hit of the example proxy costs on the wire, against a bare hyper server, side by side in one run.
//!
//! `cargo bench --bench proxy` builds the example `origin_proxy`, has it store one response, and starts two more servers:
//!
//! - "bare": hyper-util's `auto` server with its defaults, whose service builds, for every request, a response by hand
//!   with the status, the fields and the content of the proxy's hit;
//! - "layer": the same server with the cache alone around that service, which answers with hits.
//!
//! Connections that stay open load one server at a time, over loopback: over HTTP/1.1 with one request at a time, over
//! HTTP/2 with several streams. The servers share one core and have one worker each; the clients have another core, if
//! there are two cores and `taskset`.
//!
//! The servers take turns in short rounds, and which one is first changes. For each server there is
//!
//! - "requests/s", and its "ratio" to the bare server's, each the median over the rounds. [`GOAL`] is for the proxy's
//!   ratio; a run that misses it fails.
//! - "us CPU": the processor time for a request, and its "ratio" to the bare server's, over all rounds.
//! - "busy": the share of the time in which the processor works for the server. If it is much below 1, other processes
//!   take the processors, and a run on a quieter machine says more.
//!
//! Instructions are steadier. For callgrind, run a server by hand, and load it with a number of requests:
//!
//! - `-- origin` prints the address of an origin.
//! - `-- bare ADDRESS` and `-- layer ADDRESS` print the address of a server that answers as the one at `ADDRESS` does.
//! - `-- load http1|http2 ADDRESS REQUESTS` sends that many requests.
#![allow(clippy::print_stdout, clippy::unwrap_used, unreachable_pub)]

#[path = "../support/http1.rs"]
mod http1;
mod http2;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/report.rs"]
#[allow(dead_code, reason = "another bench uses all of it")]
mod report;
#[path = "../support/serve.rs"]
mod serve;
mod servers;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::http1::Until;
use crate::process::Server;
use crate::report::median;

/// The least throughput of the proxy, in times of the bare server's.
const GOAL: f64 = 0.92;

/// The content of the response in bytes.
const CONTENT: usize = 1024;

/// The rounds that count, and how long each takes.
const ROUNDS: usize = 21;
const ROUND: Duration = Duration::from_millis(400);

/// What all clients ask for.
const PATH: &str = "/articles/some-article?page=2";

/// Connections of one version of HTTP to one server.
enum Connections {
    Http1(Vec<http1::Connection>),
    Http2(Vec<http2::Connection>),
}

impl Connections {
    async fn open(version: Version, address: SocketAddr) -> Self {
        match version {
            Version::Http1 => {
                let mut connections = Vec::new();
                for _ in 0..http1::CONNECTIONS {
                    connections.push(http1::Connection::open(address, PATH, CONTENT).await);
                }
                Self::Http1(connections)
            }
            Version::Http2 => {
                let mut connections = Vec::new();
                for _ in 0..http2::CONNECTIONS {
                    connections.push(http2::Connection::open(address).await);
                }
                Self::Http2(connections)
            }
        }
    }

    /// Loads the server; how many requests were answered.
    async fn run(&mut self, until: Until) -> u64 {
        match self {
            Self::Http1(connections) => {
                let mut tasks = JoinSet::new();
                for mut connection in connections.drain(..) {
                    tasks.spawn(async move { (connection.run(until).await, connection) });
                }
                join(tasks, connections).await
            }
            Self::Http2(connections) => {
                let mut tasks = JoinSet::new();
                for mut connection in connections.drain(..) {
                    tasks.spawn(async move { (connection.run(until).await, connection) });
                }
                join(tasks, connections).await
            }
        }
    }
}

async fn join<C: 'static>(mut tasks: JoinSet<(u64, C)>, connections: &mut Vec<C>) -> u64 {
    let mut requests = 0;
    while let Some(ended) = tasks.join_next().await {
        let (answered, connection) = ended.unwrap();
        requests += answered;
        connections.push(connection);
    }
    requests
}

#[derive(Clone, Copy)]
enum Version {
    Http1,
    Http2,
}

impl Version {
    fn named(name: &str) -> Self {
        if name == "http2" { Self::Http2 } else { Self::Http1 }
    }
}

/// What one server did in one round.
#[derive(Default)]
struct Round {
    /// Processor time of the server's process, in hundredths of a second.
    cpu: u64,
    requests: u64,
    took: Duration,
}

impl Round {
    fn throughput(&self) -> f64 {
        self.requests as f64 / self.took.as_secs_f64()
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["origin"] => servers::origin(),
        ["bare", address] => servers::bare(address.parse().unwrap()),
        ["layer", address] => servers::layer(address.parse().unwrap()),
        ["load", version, address, requests] => {
            load(Version::named(version), address.parse().unwrap(), requests.parse().unwrap());
        }
        _ => return compare(),
    }
    ExitCode::SUCCESS
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Sends a number of requests in all.
fn load(version: Version, address: SocketAddr, requests: u64) {
    let connections = match version {
        Version::Http1 => http1::CONNECTIONS,
        Version::Http2 => http2::CONNECTIONS,
    };
    let answered = runtime().block_on(async {
        let mut connections_to = Connections::open(version, address).await;
        connections_to.run(Until::Requests(requests / connections as u64)).await
    });
    println!("{answered}");
}

fn compare() -> ExitCode {
    process::pin_this_process();
    let origin = Server::start("origin", process::this(), &["origin"]);
    let upstream = format!("http://{}", origin.address);
    let proxy = ["proxy", "--workers", "1", "--listen", "127.0.0.1:0", "--upstream", &upstream];
    let proxy = Server::start("proxy", servers::example(), &proxy);
    let address = proxy.address.to_string();
    let [bare, layer] = ["bare", "layer"].map(|name| Server::start(name, process::this(), &[name, &address]));
    println!("{}\n", servers::hit(proxy.address));
    let servers = [bare, layer, proxy];
    println!(
        "{:<9} {:>6} {:>11} {:>8} {:>8} {:>6} {:>6}",
        "", "", "requests/s", "ratio", "us CPU", "ratio", "busy"
    );
    let mut is_reached = true;
    for (name, version) in [("HTTP/1.1", Version::Http1), ("HTTP/2", Version::Http2)] {
        let rounds = rounds(version, &servers);
        let (bare, mut ratio) = (cpu_time(&rounds[0]), 0.0);
        for (server, of_server) in servers.iter().zip(&rounds) {
            let throughput = median(of_server.iter().map(Round::throughput));
            let ratios =
                of_server.iter().zip(&rounds[0]).map(|(of, bare)| of.throughput() / bare.throughput());
            ratio = median(ratios);
            print!("{name:<9} {:>6} {throughput:>11.0} {ratio:>8.3}", server.name);
            let cpu = cpu_time(of_server);
            println!(" {cpu:>8.2} {:>6.2} {:>6.2}", cpu / bare, busy(of_server));
        }
        is_reached &= ratio >= GOAL; // the last one is the proxy
    }
    if is_reached {
        return ExitCode::SUCCESS;
    }
    println!("\nmissed: the proxy's throughput is to be at least {GOAL} of the bare server's");
    ExitCode::FAILURE
}

/// Microseconds of the processor for a request.
fn cpu_time(rounds: &[Round]) -> f64 {
    let requests: u64 = rounds.iter().map(|round| round.requests).sum();
    rounds.iter().map(|round| round.cpu).sum::<u64>() as f64 * 1e4 / requests as f64
}

fn busy(rounds: &[Round]) -> f64 {
    let took: f64 = rounds.iter().map(|round| round.took.as_secs_f64()).sum();
    rounds.iter().map(|round| round.cpu).sum::<u64>() as f64 / 100.0 / took
}

/// The rounds of each server.
fn rounds(version: Version, servers: &[Server; 3]) -> [Vec<Round>; 3] {
    const WARM_UP: usize = 3;
    runtime().block_on(async {
        let mut connections = Vec::new();
        for server in servers {
            connections.push(Connections::open(version, server.address).await);
        }
        let mut rounds = [const { Vec::new() }; 3];
        for round in 0..WARM_UP + ROUNDS {
            for turn in 0..servers.len() {
                let index = (round + turn) % servers.len();
                let of_server = run(&servers[index], &mut connections[index]).await;
                if round >= WARM_UP {
                    rounds[index].push(of_server);
                }
            }
        }
        rounds
    })
}

async fn run(server: &Server, connections: &mut Connections) -> Round {
    let (cpu, begun) = (server.cpu_time(), Instant::now());
    let requests = connections.run(Until::Time(begun + ROUND)).await;
    Round { cpu: server.cpu_time() - cpu, requests, took: begun.elapsed() }
}
