//! An origin that leaves the content of requests unread and takes it for the next request (A31).

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;

use bytes::Bytes;
use http::{Method, Request, Version};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::example_proxy::process::Proxy;
use crate::support::Seen;
use crate::support::bench::read;
use crate::support::raw::{GUARD, get};
use crate::support::wire::HttpClient;

/// What the attacker sends as content.
const EVIL: &str = "GET /evil HTTP/1.1\r\nhost: a.example\r\n\r\n";

/// What an origin that reads no content saw.
#[derive(Debug, PartialEq, Eq)]
enum Saw {
    /// The number of the connection, and the first line.
    Request(usize, String),
    End(usize),
}

/// An origin that answers each head at once with its target, and reads what comes next as the next head.
struct Unread {
    address: SocketAddr,
    saw: mpsc::Receiver<Saw>,
}

impl Unread {
    /// `waits`: what was content is answered only when somebody has sent a request after it.
    fn new(waits: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, saw) = mpsc::channel();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (stream, sender) = (stream.unwrap(), sender.clone());
                std::thread::spawn(move || {
                    let _ = serve(&stream, waits, |line| {
                        let _ = sender.send(Saw::Request(number, line));
                    });
                    let _ = sender.send(Saw::End(number));
                });
            }
        });
        Self { address, saw }
    }

    fn proxy(&self, arguments: &[&str]) -> Proxy {
        Proxy::before(&format!("http://{}", self.address), arguments)
    }

    #[track_caller]
    fn next(&self) -> Saw {
        self.saw.recv_timeout(GUARD).expect("the origin sees something")
    }

    /// The connection on which this request comes next.
    #[track_caller]
    fn asked(&self, first_line: &str) -> usize {
        match self.next() {
            Saw::Request(number, line) if line == first_line => number,
            other => panic!("{other:?} in place of {first_line}"),
        }
    }
}

/// Ends with the connection.
fn serve(mut stream: &TcpStream, waits: bool, mut asked: impl FnMut(String)) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
            // What is no head, such as the size of a chunk.
            if head.lines().next().is_some_and(|line| !line.ends_with("HTTP/1.1")) {
                head.clear();
            }
        }
        let line = head.lines().next().unwrap_or_default().to_owned();
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        asked(line);
        if waits && target == "/evil" && reader.fill_buf()?.is_empty() {
            return Ok(());
        }
        let fields = "cache-control: max-age=60\r\nallow: GET, QUERY";
        let length = target.len();
        // In one piece, so that no part of it waits for the acknowledgement of another.
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\ncontent-length: {length}\r\n\r\n{target}");
        stream.write_all(answer.as_bytes())?;
    }
}

fn client(version: Version) -> HttpClient<Full<Bytes>> {
    Client::builder(TokioExecutor::new()).http2_only(version == Version::HTTP_2).build_http()
}

async fn send(
    client: &HttpClient<Full<Bytes>>,
    proxy: &Proxy,
    method: &Method,
    path: &str,
    content: &str,
) -> Seen {
    let request = Request::builder().method(method).uri(format!("http://{}{path}", proxy.address));
    let content = Full::new(Bytes::copy_from_slice(content.as_bytes()));
    read(client.request(request.body(content).unwrap()).await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a31_request_content_that_the_origin_leaves_unread_poisons_no_response() {
    const VICTIMS: usize = 6;
    for waits in [false, true] {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let origin = Unread::new(waits);
            // By this profile, more is stored.
            let proxy = origin.proxy(&["--profile", "rfc9111", "--workers", "1"]);
            let (attacker, victim) = (client(version), client(version));
            for number in 0..VICTIMS {
                for method in [Method::POST, Method::GET, Method::HEAD, Method::QUERY, Method::PUT] {
                    let path = format!("/{method}/{number}");
                    send(&attacker, &proxy, &method, "/attack", EVIL).await;
                    for _ in 0..2 {
                        let seen = send(&victim, &proxy, &Method::GET, &path, "").await;
                        assert_eq!(seen.body, path, "{version:?}, {waits}");
                    }
                }
            }
            // The same at the same time.
            let attacks = (0..VICTIMS).map(|_| send(&attacker, &proxy, &Method::POST, "/attack", EVIL));
            let paths: Vec<_> = (0..VICTIMS).map(|number| format!("/together/{number}")).collect();
            let asked = paths.iter().map(|path| send(&victim, &proxy, &Method::GET, path, ""));
            let (_, seen) =
                tokio::join!(futures_util::future::join_all(attacks), futures_util::future::join_all(asked));
            for (path, seen) in paths.iter().zip(seen) {
                assert_eq!(&seen.body, path, "{version:?}, {waits}");
                assert_eq!(send(&victim, &proxy, &Method::GET, path, "").await.body, *path);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a31_a_connection_that_carries_content_carries_no_other_request() {
    let origin = Unread::new(true);
    let proxy = origin.proxy(&["--workers", "1"]);
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let client = client(version);
        let name = if version == Version::HTTP_2 { "2" } else { "1" };
        send(&client, &proxy, &Method::GET, &format!("/first{name}"), "").await;
        let shared = origin.asked(&format!("GET /first{name} HTTP/1.1"));
        for method in [Method::GET, Method::HEAD, Method::QUERY, Method::POST, Method::PUT, Method::DELETE] {
            let path = format!("/{method}{name}");
            // Content that is no request: the connection ends for having carried it.
            send(&client, &proxy, &method, &path, "content\r\n").await;
            let own = origin.asked(&format!("{method} {path} HTTP/1.1"));
            assert_ne!(own, shared, "{method} with content has a connection of its own");
            assert_eq!(origin.next(), Saw::End(own), "{method}");
            // Without content, the shared one is used on.
            let path = format!("/none/{method}{name}");
            send(&client, &proxy, &method, &path, "").await;
            let sent = if method == Method::HEAD { Method::GET } else { method };
            assert_eq!(origin.asked(&format!("{sent} {path} HTTP/1.1")), shared, "{sent} without content");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a31_content_of_unknown_length_has_its_own_connection() {
    let origin = Unread::new(true);
    let proxy = origin.proxy(&["--workers", "1"]);
    let address = proxy.address;
    let seen = tokio::task::spawn_blocking(move || {
        let mut client = crate::support::raw::Client::over(TcpStream::connect(address).unwrap());
        let chunked = "transfer-encoding: chunked\r\n\r\n";
        for method in ["GET", "QUERY", "POST"] {
            client.send(&get("/x").replace("GET", method).replace("\r\n\r\n", &format!("\r\n{chunked}")));
            client.send(&format!("{:x}\r\n{EVIL}\r\n0\r\n\r\n", EVIL.len()));
            client.next().is("HTTP/1.1 200 OK", "/x");
            client.get(&format!("/victim/{method}"));
            client.next().is("HTTP/1.1 200 OK", &format!("/victim/{method}"));
        }
    });
    seen.await.unwrap();
    drop(proxy);
    let mut connections: Vec<usize> = Vec::new();
    while let Ok(saw) = origin.saw.try_recv() {
        if let Saw::Request(number, line) = saw
            && line.contains(" /x ")
        {
            assert!(!connections.contains(&number), "{line} shares a connection");
            connections.push(number);
        }
    }
    assert_eq!(connections.len(), 3);
}
