//! Hits over HTTP, against nginx that has the same in its cache: each server has one core and one worker.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ::http::{Request, Response};
use bytes::Bytes;
use http_body_util::Full;
use larder::CacheLayer;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tower::{Layer, Service};

use crate::file::TempFolder;
use crate::http1::{CONNECTIONS, Connection, Until};
use crate::process::{self, Server};
use crate::{Report, folder, median, open, ratios, runtime};

const PATH: &str = "/articles/some-article";
const ROUND: Duration = Duration::from_millis(400);

/// Answers with content from memory.
#[derive(Clone)]
struct Origin(Bytes);

impl<B> Service<Request<B>> for Origin {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let response = Response::builder()
            .header("content-type", "text/html; charset=utf-8")
            .header("cache-control", "max-age=86400")
            .header("etag", "\"33a64df551425fcc55e4d42a148795d9f25f89d4\"");
        ready(Ok(response.body(Full::new(self.0.clone())).unwrap()))
    }
}

/// What a server's process does: `memory` answers from memory, `disk` from a folder.
pub fn serve(kind: &str, kib: usize, folder: &[&str]) {
    let origin = Origin(vec![b'x'; kib * 1024].into());
    let runtime = runtime();
    match (kind, folder) {
        ("memory", []) => crate::serve::serve(&runtime, origin),
        ("disk", [folder]) => {
            let store = runtime.block_on(open(Path::new(folder), 1 << 30));
            crate::serve::serve(&runtime, CacheLayer::new(store).layer(origin));
        }
        other => panic!("{other:?} is no server"),
    }
}

/// nginx, which ends with this.
struct Nginx {
    address: SocketAddr,
    process: Child,
}

impl Nginx {
    /// `None` where it is not installed.
    fn start(folder: &Path, upstream: SocketAddr) -> Option<Self> {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let path = folder.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {path}/{what};\n"))
            .concat();
        let configuration = format!(
            "daemon off; master_process off; pid {path}/pid; error_log {path}/error.log;
             events {{ worker_connections 256; }}
             http {{
               access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; {temporary}
               proxy_cache_path {path}/cache levels=1:2 keys_zone=bench:10m max_size=1g inactive=1h use_temp_path=off;
               server {{
                 listen {address};
                 location / {{ proxy_pass http://{upstream}; proxy_cache bench; }}
               }}
             }}"
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, configuration).unwrap();
        let program = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/bin/nginx"].map(Path::new);
        let program = program.into_iter().find(|program| program.exists())?;
        let mut command = process::command(program.into());
        let log = folder.join("error.log");
        command.arg("-p").arg(folder).arg("-e").arg(&log).arg("-c").arg(file).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        while TcpStream::connect(address).is_err() {
            let ended = process.try_wait().unwrap();
            assert!(ended.is_none(), "nginx: {}", std::fs::read_to_string(log).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(1));
        }
        Some(Self { address, process })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Requests in a second over connections that stay open.
fn load(runtime: &Runtime, address: SocketAddr, kib: usize, time: Duration) -> f64 {
    runtime.block_on(async {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(Connection::open(address, PATH, kib * 1024).await);
        }
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for mut connection in connections {
            tasks.spawn(async move { connection.run(Until::Time(begun + time)).await });
        }
        let mut answered = 0;
        while let Some(ended) = tasks.join_next().await {
            answered += ended.unwrap();
        }
        answered as f64 / begun.elapsed().as_secs_f64()
    })
}

pub fn report(report: &mut Report) {
    process::pin_this_process();
    let clients = Builder::new_current_thread().enable_all().build().unwrap();
    for kib in [16, 1024] {
        let size = kib.to_string();
        let start = |name, words: &[&str]| {
            Server::start(name, process::this(), &[&["serve", name, &size], words].concat())
        };
        let own = folder();
        let memory = start("memory", &[]);
        let disk = start("disk", &[own.path().to_str().unwrap()]);
        let place: TempFolder = folder();
        let nginx = Nginx::start(place.path(), memory.address);
        let mut servers = vec![("disk", disk.address), ("memory", memory.address)];
        servers.extend(nginx.as_ref().map(|nginx| ("nginx", nginx.address)));
        let (rounds, time) = if report.is_quick { (1, Duration::from_millis(20)) } else { (15, ROUND) };
        let mut rates = vec![Vec::new(); servers.len()];
        for round in 0..rounds + 1 {
            for ((_, address), rates) in servers.iter().zip(&mut rates) {
                let rate = load(&clients, *address, kib, time);
                if round > 0 {
                    rates.push(rate);
                }
            }
        }
        let each = |rates: &[f64]| median(rates.iter().copied());
        for ((name, _), other) in servers.iter().zip(&rates).skip(1) {
            let ratio = ratios(other, &rates[0]);
            let figure = format!("{ratio:.2} ({:.0} and {:.0} a second)", each(&rates[0]), each(other));
            let of = if *name == "nginx" { "nginx from its cache" } else { "hyper from memory" };
            report.line(&format!("hits over HTTP, {kib} KiB, of {of}"), &figure, None);
        }
        if nginx.is_none() {
            println!("nginx is not installed");
        }
    }
}
