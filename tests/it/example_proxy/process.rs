//! The example as a process, as a user runs it: its options, real sockets and signals.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::{any, get};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::support::bench::read;
use crate::support::file::TempFile;
use crate::support::raw::{GUARD, Nobody};
use crate::support::wire;

pub fn example() -> Command {
    // target/<profile>/deps/it-... -> target/<profile>/examples/origin_proxy
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path.push("origin_proxy");
    assert!(
        path.exists(),
        "build the example first: cargo build --features admin,disk,metrics,redis,redis-tls,serde,viewer --example origin_proxy"
    );
    Command::new(path)
}

/// Runs the example to its end. One that goes on, where it should have said what is wrong, is ended.
pub fn run(arguments: &[&str]) -> Output {
    let mut command = example();
    let mut process = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdout, mut stderr) = (process.stdout.take().unwrap(), process.stderr.take().unwrap());
    let (sender, read) = mpsc::channel();
    std::thread::spawn(move || {
        let of_errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).map(|_| text)
        });
        let mut text = Vec::new();
        let of_output = stdout.read_to_end(&mut text).map(|_| text);
        sender.send((of_output, of_errors.join().unwrap()))
    });
    let Ok((stdout, stderr)) = read.recv_timeout(GUARD) else {
        process.kill().unwrap();
        process.wait().unwrap();
        panic!("{arguments:?} has no end");
    };
    Output { status: process.wait().unwrap(), stdout: stdout.unwrap(), stderr: stderr.unwrap() }
}

/// The example's origin in a process of its own, which ends with the test.
pub struct SampleOrigin {
    process: Child,
    pub url: String,
}

impl SampleOrigin {
    pub fn start() -> Self {
        let mut command = example();
        command.args(["origin", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Self { process, url: line.strip_prefix("origin: ").unwrap().trim().to_owned() }
    }

    pub fn signal(&self, name: &str) {
        signal(&self.process, name);
    }
}

impl Drop for SampleOrigin {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The proxy alone in a process of its own, which ends with the test.
pub struct Proxy {
    process: Child,
    pub address: SocketAddr,
}

impl Proxy {
    pub fn before(upstream: &str, arguments: &[&str]) -> Self {
        Self::started(example(), upstream, arguments)
    }

    /// A proxy that may have so many descriptors.
    pub fn with_descriptors(descriptors: usize, upstream: &str, arguments: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n \"$1\"; shift; exec \"$@\"", "sh", &descriptors.to_string()]);
        shell.arg(example().get_program());
        Self::started(shell, upstream, arguments)
    }

    /// A proxy on a system that trusts the certificates of this file.
    pub fn trusting(roots: &TempFile, upstream: &str, arguments: &[&str]) -> Self {
        let mut command = example();
        command.env("SSL_CERT_FILE", roots.path()).env_remove("SSL_CERT_DIR");
        Self::started(command, upstream, arguments)
    }

    /// A proxy, and the lines that it prints after the first one.
    pub fn with_lines(upstream: &str, arguments: &[&str]) -> (Self, mpsc::Receiver<String>) {
        Self::printing(&["--upstream", upstream], arguments)
    }

    /// The same for a proxy that asks a shield.
    pub fn behind_with_lines(shield: &str, arguments: &[&str]) -> (Self, mpsc::Receiver<String>) {
        Self::printing(&["--shield", shield], arguments)
    }

    fn printing(before: &[&str], arguments: &[&str]) -> (Self, mpsc::Receiver<String>) {
        let mut command = example();
        command.arg("proxy").args(before).args(arguments);
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        Self::of_command_with_lines(&mut command)
    }

    /// The same for a command that is not only the example.
    pub fn of_command_with_lines(command: &mut Command) -> (Self, mpsc::Receiver<String>) {
        let mut proxy = Self::spawned(command.stderr(Stdio::piped()));
        let (sender, lines) = mpsc::channel();
        let (out, err) = (proxy.process.stdout.take().unwrap(), proxy.process.stderr.take().unwrap());
        let streams: [Box<dyn Read + Send>; 2] = [Box::new(out), Box::new(err)];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
            });
        }
        (proxy, lines)
    }

    /// A proxy that asks a shield.
    pub fn behind(shield: &str, arguments: &[&str]) -> Self {
        let mut command = example();
        command.args(["proxy", "--listen", "127.0.0.1:0", "--shield", shield]).args(arguments);
        Self::spawned(&mut command)
    }

    /// A proxy that listens here; `None` where somebody else does.
    pub fn at(address: SocketAddr, arguments: &[&str]) -> Option<Self> {
        let mut command = example();
        command.args(["proxy", "--listen", &address.to_string()]).args(arguments).stdout(Stdio::piped());
        let mut proxy = Self { process: command.spawn().unwrap(), address };
        let mut line = String::new();
        BufReader::new(proxy.process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        (!line.is_empty()).then_some(proxy)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A proxy whose options are all in a file.
    pub fn by_config(file: &TempFile) -> Self {
        let mut command = example();
        command.args(["proxy", "--config", file.name()]);
        Self::spawned(&mut command)
    }

    /// A proxy that reports its state to this socket, as systemd has it.
    pub fn notifying(socket: &Path, upstream: &str) -> Self {
        let mut command = example();
        command.env("NOTIFY_SOCKET", socket);
        Self::started(command, upstream, &[])
    }

    fn started(mut command: Command, upstream: &str, arguments: &[&str]) -> Self {
        command.args(["proxy", "--listen", "127.0.0.1:0", "--upstream", upstream]).args(arguments);
        Self::spawned(&mut command)
    }

    fn spawned(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        // Byte by byte: whoever reads the next lines gets all of them.
        BufReader::with_capacity(1, process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("://").nth(1).unwrap().split(' ').next().unwrap();
        Self { address: address.parse().unwrap(), process }
    }

    /// Of the process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// `HUP`, `INT` or `TERM`.
    pub fn signal(&self, name: &str) {
        signal(&self.process, name);
    }

    /// Returns when nobody listens any more: the signal has arrived. The test holds a connection open, so that the
    /// system gives the port to nobody else.
    #[track_caller]
    pub fn listens_no_more(&self) {
        in_time("the proxy stops listening", || TcpStream::connect(self.address).err());
    }

    /// Waits for the process to end by itself, no longer than `GUARD`. Whether it ended well.
    #[track_caller]
    pub fn ends_well(mut self) -> bool {
        in_time("the proxy ends", || self.process.try_wait().unwrap()).success()
    }
}

fn signal(process: &Child, name: &str) {
    let id = process.id().to_string();
    assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What comes of `ask` as soon as there is something.
#[track_caller]
pub fn in_time<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < GUARD, "{what} in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Answers with the request's method and fields, storable.
fn echo() -> Router {
    let answer = |method: Method, headers: HeaderMap| async move {
        let fields: String =
            headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
        (
            [("cache-control", "max-age=60"), ("connection", "x-hop"), ("x-hop", "1")],
            format!("{method}\n{fields}"),
        )
    };
    Router::new().fallback(any(answer))
}

#[test]
fn the_walk_prints_the_expected_rows() {
    let output = run(&["--once"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("47 of 47 rows as expected"), "{text}");
}

#[test]
fn an_invalid_command_line_is_reported_in_one_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (taken, address.to_string())).unwrap();
    let upstream = "--upstream=http://127.0.0.1:1";
    for (arguments, said) in [
        (&["frob"][..], "there is no command 'frob'"),
        (&["--frob"], "there is no option 'frob'"),
        (&["--once", "proxy"], "--once goes without a command"),
        (&["proxy"], "the proxy needs --upstream"),
        (&["proxy", "--upstream"], "--upstream needs a value"),
        (&["proxy", "--upstream", "not a url"], "'not a url' is not an upstream URL"),
        (
            &["proxy", upstream, "--upstream-ca", "/no/such.pem"],
            "--upstream-ca goes with an upstream of https",
        ),
        (&["proxy", "--upstream", "http://user@a.example"], "user information"),
        (&["proxy", "--upstream", "http://a.example/path"], "has to end after the host"),
        (&["proxy", "--upstream", "ftp://a.example"], "has to start with http:// or https://"),
        (&["proxy", upstream, "--listen", "8080"], "'8080' is not an address"),
        (&["proxy", upstream, "--listen", &taken.1], "can't listen on"),
        (&["origin", "--listen", &taken.1], "can't listen on"),
        (&["proxy", upstream, "--host", "x"], "there is no host 'x' to send"),
        (&["proxy", upstream, "--host"], "--host needs a value"),
        (&["proxy", upstream, "--profile", "x"], "there is no profile 'x'"),
        (&["proxy", upstream, "--name", "an edge"], "'an edge' is not a name"),
        (&["proxy", upstream, "--memory", "lots"], "'lots' is not a size"),
        (&["proxy", upstream, "--max-object", "99999999999GiB"], "is not a size"),
        (&["proxy", upstream, "--memory", "1MiB", "--max-object", "2MiB"], "--max-object is above --memory"),
        (&["proxy", upstream, "--max-object", "300MiB"], "--max-object is above --memory"),
        (
            &[
                "proxy",
                upstream,
                "--admin",
                "127.0.0.1:1",
                "--admin-token-file",
                "x",
                "--listen",
                "127.0.0.1:1",
            ],
            "--admin and --listen are the same address, 127.0.0.1:1",
        ),
        (&["proxy", upstream, upstream], "--upstream http://127.0.0.1:1/ is given twice"),
        (&["proxy", upstream, "--timeout", "1", "--timeout", "1"], "--timeout is given twice"),
        (&["fleet", "extra"], "'extra' is an argument too many"),
        (&["proxy", "--profile", "fastly", "--profile", "fastly"], "--profile is given twice"),
        (&["proxy", "--viewer-headers", "--viewer-headers"], "--viewer-headers is given twice"),
        (&["check-policy", "--profile", "fastly", "a", "--profile", "fastly"], "--profile is given twice"),
        (&["origin", "--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"], "--listen is given twice"),
        (&["proxy", upstream, "--timeout", "-1"], "'-1' is not a time limit"),
        (&["proxy", upstream, "--drain", "x"], "'x' is not a time limit"),
        (&["proxy", upstream, "--workers", "0"], "'0' is not a number of workers"),
        (&["proxy", upstream, "--server-timing", "101"], "'101' is not a share"),
        (&["proxy", upstream, "--stall", "0"], "'0' is not a time limit"),
        (&["proxy", upstream, "--max-connections", "0"], "'0' is not a number for a limit"),
        (&["proxy", upstream, "--max-streams", "99999999999"], "'99999999999' is not a number for a limit"),
        (&["proxy", upstream, "--max-calls-per-address"], "--max-calls-per-address needs a value"),
        (&["proxy", upstream, "--head-size", "1KiB"], "'1KiB' is not a size of a head"),
        (&["proxy", upstream, "extra"], "'extra' is an argument too many"),
    ] {
        let output = run(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
    let help = run(&["--help"]);
    let text = String::from_utf8_lossy(&help.stdout);
    assert!(help.status.success() && text.contains("--upstream URL"));
    for option in [
        "call-wait SECONDS",
        "config FILE",
        "drain SECONDS",
        "drain-wait SECONDS",
        "edge URL",
        "head SECONDS",
        "head-size SIZE",
        "health-interval SECONDS",
        "health-path PATH",
        "idle SECONDS",
        "lease  ",
        "max-answer-fields N",
        "max-calls-per-address N",
        "max-calls-per-connection N",
        "max-calls-per-upstream N",
        "max-connections N",
        "max-connections-per-address N",
        "max-fields N",
        "max-query SIZE",
        "max-streams N",
        "name NAME",
        "near SIZE",
        "peer-token-file FILE",
        "ping SECONDS",
        "server-timing PERCENT",
        "shield URL",
        "snapshot FILE",
        "stall SECONDS",
        "store STORE",
        "store-ca FILE",
        "store-deadline SECONDS",
        "store-namespace NAME",
        "store-replicas N",
        "store-secret-file FILE",
        "timeout SECONDS",
        "tls-cert FILE",
        "tls-key FILE",
    ] {
        assert!(text.contains(&format!("    --{option}")), "{option}");
    }
}

#[tokio::test]
async fn the_proxy_adds_forwarding_fields_and_removes_hop_by_hop_fields() {
    let origin = wire::serve_router(echo()).await;
    let proxy = Proxy::before(&format!("http://{origin}"), &[]);
    let sent =
        [("x-forwarded-for", "192.0.2.7"), ("connection", "x-mine"), ("x-mine", "1"), ("te", "trailers")];
    let seen = wire::get(proxy.address, "/x", &sent).await;
    let expected = [
        format!("host: {}\n", proxy.address),
        format!("x-forwarded-host: {}\n", proxy.address),
        "x-forwarded-proto: http\n".to_owned(),
        "x-forwarded-for: 192.0.2.7, 127.0.0.1\n".to_owned(),
        "via: 1.1 larder\n".to_owned(),
        "cdn-loop: larder-".to_owned(),
    ];
    for expected in expected {
        assert!(seen.body.contains(&expected), "{expected} in {}", seen.body);
    }
    assert!(!seen.body.contains("x-mine") && !seen.body.contains("te:"), "{}", seen.body);
    assert_eq!(seen.field("via"), Some("1.1 larder"));
    assert_eq!((seen.field("x-hop"), seen.field("x-cache")), (None, Some("Miss from larder")));
    let hit = wire::get(proxy.address, "/x", &[]).await;
    assert_eq!((hit.field("via"), hit.field("x-cache")), (Some("1.1 larder"), Some("Hit from larder")));
}

#[tokio::test]
async fn any_method_is_forwarded() {
    let origin = wire::serve_router(echo()).await;
    let proxy = Proxy::before(&format!("http://{origin}"), &[]);
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PURGE", "FROB"] {
        let request = Request::builder().method(method).uri(format!("http://{}/x", proxy.address));
        let body = Full::new(Bytes::from_static(b"content"));
        let response = wire::client().request(request.body(body).unwrap()).await.unwrap();
        let seen = read(response).await;
        assert!(seen.body.starts_with(&format!("{method}\n")), "{seen:?}");
        assert_eq!(seen.cache_status(), "larder; fwd=method");
    }
}

#[tokio::test]
async fn a_client_may_speak_http2_with_prior_knowledge() {
    let origin = wire::serve_router(echo()).await;
    let proxy = Proxy::before(&format!("http://{origin}"), &[]);
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    for hit in [false, true] {
        let request =
            Request::get(format!("http://{}/x", proxy.address)).body(Empty::<Bytes>::new()).unwrap();
        let response = client.request(request).await.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        let seen = read(response).await;
        assert_eq!(seen.is_hit(), hit);
        assert!(seen.body.contains(&format!("x-forwarded-host: {}\n", proxy.address)), "{}", seen.body);
    }
    // Both versions find the same entry.
    assert!(wire::get(proxy.address, "/x", &[]).await.is_hit());
}

#[tokio::test]
async fn an_origin_that_is_away_gives_502_and_a_slow_one_504() {
    let nobody = Nobody::new();
    let proxy = Proxy::before(&format!("http://{}", nobody.address), &[]);
    let seen = wire::get(proxy.address, "/x", &[]).await;
    assert_eq!((seen.status.as_u16(), seen.field("x-cache")), (502, Some("Error from larder")));

    let never = get(std::future::pending::<()>);
    let origin = wire::serve_router(Router::new().route("/x", never)).await;
    let proxy = Proxy::before(&format!("http://{origin}"), &["--timeout", "0.2"]);
    let seen = wire::get(proxy.address, "/x", &[]).await;
    assert_eq!((seen.status.as_u16(), seen.field("x-cache")), (504, Some("Error from larder")));
}

/// A proxy whose upstream is itself: its port has to be chosen beforehand. None where somebody else takes the port
/// meanwhile, so that the proxy can't start.
fn before_itself() -> Option<Proxy> {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    Proxy::at(address, &["--upstream", &format!("http://{address}")])
}

#[tokio::test]
async fn a_loop_is_refused() {
    let proxy = (0..100).find_map(|_| before_itself()).expect("one port of a hundred stays free");
    assert_eq!(wire::get(proxy.address, "/x", &[]).await.status, 508);
    // Two proxies in a row are no loop.
    let origin = wire::serve_router(echo()).await;
    let inner = Proxy::before(&format!("http://{origin}"), &[]);
    let outer = Proxy::before(&format!("http://{}", inner.address), &[]);
    let seen = wire::get(outer.address, "/x", &[]).await;
    assert_eq!(seen.status, 200);
    assert!(seen.body.contains("via: 1.1 larder, 1.1 larder"), "{}", seen.body);
}

#[tokio::test]
async fn large_bodies_stream_both_ways() {
    let length = any(|body: Body| async move {
        let received = body.collect().await.unwrap().to_bytes().len();
        ([("cache-control", "no-store")], vec![b'x'; received])
    });
    let origin = wire::serve_router(
        Router::new().route("/x", length.layer(axum::extract::DefaultBodyLimit::disable())),
    )
    .await;
    let proxy = Proxy::before(&format!("http://{origin}"), &["--max-object", "1k"]);
    let body = Full::new(Bytes::from(vec![b'y'; 20 << 20]));
    let request = Request::post(format!("http://{}/x", proxy.address)).body(body).unwrap();
    let response = wire::client().request(request).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 20 << 20);
}

#[tokio::test]
async fn the_profiles_differ_in_what_they_reuse() {
    let origin = wire::serve_router(echo()).await;
    for (profile, hit) in [("default", false), ("rfc9111", true)] {
        let proxy = Proxy::before(&format!("http://{origin}"), &["--profile", profile]);
        wire::get(proxy.address, "/x", &[]).await;
        assert_eq!(wire::get(proxy.address, "/x", &[("cookie", "a=b")]).await.is_hit(), hit, "{profile}");
    }
}

#[tokio::test]
async fn ctrl_c_lets_open_requests_finish() {
    let (begun, has_begun) = mpsc::channel();
    let release = std::sync::Arc::new(tokio::sync::Notify::new());
    let released = std::sync::Arc::clone(&release);
    let slow = get(move || {
        let (begun, released) = (begun.clone(), released.clone());
        async move {
            begun.send(()).unwrap();
            released.notified().await;
            "done"
        }
    });
    let origin = wire::serve_router(Router::new().route("/x", slow)).await;
    let proxy = Proxy::before(&format!("http://{origin}"), &[]);
    let address = proxy.address;
    let open = tokio::spawn(async move { wire::get(address, "/x", &[]).await });
    tokio::task::spawn_blocking(move || has_begun.recv_timeout(GUARD).unwrap()).await.unwrap();
    proxy.signal("INT");
    // New connections are refused before the open request is answered.
    proxy.listens_no_more();
    release.notify_one();
    open.await.unwrap().has_body("done");
    assert!(tokio::task::spawn_blocking(move || proxy.ends_well()).await.unwrap());
}

#[tokio::test]
async fn a_malformed_request_gets_400_and_harms_no_other() {
    let origin = wire::serve_router(echo()).await;
    let proxy = Proxy::before(&format!("http://{origin}"), &[]);
    let address = proxy.address;
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nno field\r\n\r\n").unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    });
    assert!(answer.await.unwrap().starts_with("HTTP/1.1 400"));
    assert_eq!(wire::get(address, "/x", &[]).await.status, 200);
}

#[tokio::test]
async fn a21_a_field_that_connection_removes_does_not_select() {
    let vary = get(|headers: HeaderMap| async move {
        let language =
            headers.get("accept-language").map_or("none", |value| value.to_str().unwrap()).to_owned();
        ([("cache-control", "max-age=60"), ("vary", "accept-language")], language)
    });
    let origin = wire::serve_router(Router::new().route("/x", vary)).await;
    let proxy = Proxy::before(&format!("http://{origin}"), &[]);
    let poison = [("accept-language", "de"), ("connection", "accept-language")];
    wire::get(proxy.address, "/x", &poison).await.has_body("none");
    wire::get(proxy.address, "/x", &[("accept-language", "de")]).await.has_body("de");
}

#[tokio::test]
async fn a_get_with_chunked_content_bypasses_the_cache() {
    let origin = wire::serve_router(echo()).await;
    let proxy = Proxy::before(&format!("http://{origin}"), &[]);
    for _ in 0..2 {
        let body =
            http_body_util::StreamBody::new(futures_util::stream::iter([Ok::<_, std::convert::Infallible>(
                http_body::Frame::data(Bytes::from_static(b"content")),
            )]));
        let request =
            Request::get(format!("http://{}/x", proxy.address)).header("transfer-encoding", "chunked");
        let request = request.body(body).unwrap();
        let response = Client::builder(TokioExecutor::new()).build_http().request(request).await.unwrap();
        read(response).await.told("larder; fwd=bypass; detail=\"content\"");
    }
}

#[tokio::test]
async fn eh_early_hints_leave_no_field_in_the_stored_response() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = BufReader::new(stream.try_clone().unwrap()).lines();
            while request.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let answer = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n\
                          HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 5\r\n\r\nfinal";
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let proxy = Proxy::before(&format!("http://{origin}"), &[]);
    for hit in [false, true] {
        let seen = wire::get(proxy.address, "/x", &[]).await.has_body("final");
        assert_eq!((seen.status.as_u16(), seen.field("link"), seen.is_hit()), (200, None, hit));
    }
}

#[tokio::test]
async fn cf15_server_timing_says_what_the_cache_did_if_an_option_asks_for_it() {
    let origin = wire::serve_router(echo()).await;
    for (arguments, miss, hit) in [
        (&[][..], None, None),
        (&["--server-timing", "100"], Some("cache;desc=miss, origin;dur="), Some("cache;desc=hit")),
    ] {
        let proxy = Proxy::before(&format!("http://{origin}"), arguments);
        for expected in [miss, hit] {
            let seen = wire::get(proxy.address, "/x", &[]).await;
            let timing = seen.field("server-timing");
            assert_eq!(timing.is_some(), expected.is_some(), "{seen:?}");
            assert!(timing.unwrap_or_default().starts_with(expected.unwrap_or_default()), "{timing:?}");
        }
    }
}
