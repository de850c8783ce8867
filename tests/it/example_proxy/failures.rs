//! An origin that is away, breaks off, or closes an idle connection: what is reported, and which requests are repeated (B19).

use std::io::{BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;

use crate::example_proxy::process::Proxy;
use crate::support::file::TempFile;
use crate::support::raw::{Client, GUARD, Message, Nobody, Origin, get};

const FINAL: &str = "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 5\r\n\r\nfinal";

#[test]
fn b19_each_failure_of_the_origin_is_reported_by_name() {
    let nobody = Nobody::new();
    let away = Proxy::before(&format!("http://{}", nobody.address), &[]);
    let unknown = Proxy::before("http://no-such-host.invalid", &[]);
    for (method, forward) in
        [("GET", "uri-miss"), ("HEAD", "uri-miss"), ("POST", "method"), ("OPTIONS", "method")]
    {
        for proxy in [&away, &unknown] {
            let mut client = Client::of(proxy);
            client.send(&get("/x").replace("GET", method));
            let head = client.head(502);
            let told = format!("\r\ncache-status: larder; fwd={forward}; detail=\"origin-unreachable\"\r\n");
            assert!(head.contains(&told) && head.contains("\r\nvia: 1.1 larder\r\n"), "{head}");
        }
    }

    let origin = Origin::new();
    let proxy = origin.proxy(&["--timeout", "0.2"]);
    let mut client = Client::of(&proxy);
    client.get("/x");
    let asked = origin.asked("/x");
    let told = "\r\ncache-status: larder; fwd=uri-miss; detail=\"origin-timeout\"\r\n";
    client.next().is("HTTP/1.1 504 Gateway Timeout", "").has(told).has("\r\nvia: 1.1 larder\r\n");
    drop(asked);

    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    for (answer, detail) in [
        ("", "origin-broken"),
        ("HTTP/1.1 200 OK\r\n", "origin-broken"),
        ("SMTP\r\n\r\n", "origin-invalid"),
        ("HTTP/1.1 200 OK\r\nno field\r\n\r\n", "origin-invalid"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "origin-invalid"),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "origin-switches"),
    ] {
        client.get("/x");
        let mut asked = origin.asked("/x");
        asked.answer(answer);
        asked.die();
        let told = format!("\r\ncache-status: larder; fwd=uri-miss; detail=\"{detail}\"\r\n");
        client.next().is("HTTP/1.1 502 Bad Gateway", "").has(&told);
    }
}

#[test]
fn a_failure_says_why_the_cache_had_forwarded_the_request() {
    const STORED: &str =
        "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\nvary: x-lang\r\ncontent-length: 5\r\n\r\nfinal";
    for profile in ["default", "rfc9111", "fastly"] {
        let policy = TempFile::new("toml", "[[behavior]]\nmatch = '/bypass'\nbypass = 'x'");
        let origin = Origin::new();
        let proxy = origin.proxy(&["--profile", profile, "--policy", policy.name()]);
        let mut client = Client::of(&proxy);
        let ask =
            |path: &str, fields: &str| format!("GET {path} HTTP/1.1\r\nhost: a.example\r\n{fields}\r\n\r\n");
        client.send(&ask("/x", "x-lang: de"));
        origin.asked("/x").answer(STORED);
        client.next().is("HTTP/1.1 200 OK", "final");
        for (path, fields, forward) in [
            ("/x", "x-lang: fr", "vary-miss"),
            ("/y", "x-lang: de", "uri-miss"),
            ("/bypass", "x-lang: de", "bypass"),
        ] {
            client.send(&ask(path, fields));
            let mut asked = origin.asked(path);
            asked.answer("SMTP\r\n\r\n");
            asked.die();
            let told = format!("\r\ncache-status: larder; fwd={forward}; detail=\"origin-invalid\"\r\n");
            client.next().is("HTTP/1.1 502 Bad Gateway", "").has(&told);
        }
    }
}

/// An origin that counts its connections, and gives away what is asked on each.
struct Counting {
    address: SocketAddr,
    /// The number of the connection and the request on it.
    requests: mpsc::Receiver<(usize, Message, TcpStream)>,
}

impl Counting {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::channel();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (stream, sender) = (stream.unwrap(), sender.clone());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    while let Some(message) = Message::read(&mut reader) {
                        if sender.send((number, message, stream.try_clone().unwrap())).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, requests }
    }

    fn proxy(&self) -> Proxy {
        // With one worker, a connection is idle again before the next request comes.
        Proxy::before(&format!("http://{}", self.address), &["--workers", "1"])
    }

    #[track_caller]
    fn asked(&self, first_line: &str) -> (usize, TcpStream) {
        let (number, message, stream) = self.requests.recv_timeout(GUARD).expect("the origin is asked");
        assert_eq!(message.head.lines().next(), Some(first_line));
        (number, stream)
    }

    #[track_caller]
    fn was_not_asked(&self) {
        assert!(self.requests.try_recv().is_err());
    }
}

/// Answers, or writes what it has, and closes.
fn answer(mut stream: &TcpStream, bytes: &str) {
    stream.write_all(bytes.as_bytes()).unwrap();
}

fn close(stream: &TcpStream) {
    stream.shutdown(Shutdown::Both).unwrap();
}

/// A connection that has answered and is idle.
#[track_caller]
fn warm(client: &mut Client, origin: &Counting) -> (usize, TcpStream) {
    client.get("/warm");
    let (number, stream) = origin.asked("GET /warm HTTP/1.1");
    answer(&stream, FINAL);
    client.next().is("HTTP/1.1 200 OK", "final");
    (number, stream)
}

#[test]
fn b19_an_idempotent_request_on_a_closed_connection_is_sent_once_more() {
    let origin = Counting::new();
    let proxy = origin.proxy();
    let mut client = Client::of(&proxy);
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        let length = if method == "PUT" { "content-length: 0\r\n" } else { "" };
        let (first, _) = warm(&mut client, &origin);
        client.send(&format!("{method} /{method} HTTP/1.1\r\nhost: a.example\r\nx-note: 1\r\n{length}\r\n"));
        // The cache asks with GET for what may then be stored.
        let sent = if method == "HEAD" { "GET" } else { method };
        let line = format!("{sent} /{method} HTTP/1.1");
        let (number, stream) = origin.asked(&line);
        assert_eq!(number, first, "the connection is used again");
        close(&stream);
        let (number, stream) = origin.asked(&line);
        assert!(number > first, "{method}");
        answer(&stream, FINAL);
        client.head(200);
        if method != "HEAD" {
            assert_eq!(client.content("\r\ncontent-length: 5\r\n").unwrap(), b"final");
        }
        // Once more is not twice more. The origin leaves this connection open, and it is not used again.
        origin.was_not_asked();
    }
}

#[test]
fn b19_a_repeated_request_is_not_sent_a_third_time() {
    let origin = Counting::new();
    let proxy = origin.proxy();
    let mut client = Client::of(&proxy);
    warm(&mut client, &origin);
    client.get("/x");
    for _ in 0..2 {
        close(&origin.asked("GET /x HTTP/1.1").1);
    }
    client.next().is("HTTP/1.1 502 Bad Gateway", "").has("detail=\"origin-broken\"");
    origin.was_not_asked();
}

#[test]
fn b19_a_repeated_request_uses_a_new_connection() {
    let origin = Counting::new();
    let proxy = origin.proxy();
    // Two connections at a time, both idle then.
    let mut clients = [Client::of(&proxy), Client::of(&proxy)];
    let streams = ["/1", "/2"].map(|path| {
        clients[usize::from(path == "/2")].get(path);
        origin.asked(&format!("GET {path} HTTP/1.1"))
    });
    for (client, (_, stream)) in clients.iter_mut().zip(&streams) {
        answer(stream, FINAL);
        client.next().is("HTTP/1.1 200 OK", "final");
    }
    let [client, _] = &mut clients;
    client.get("/x");
    close(&origin.asked("GET /x HTTP/1.1").1);
    let (number, stream) = origin.asked("GET /x HTTP/1.1");
    assert!(streams.iter().all(|(idle, _)| *idle != number), "{number}");
    // What comes is the client's as ever, interim responses too.
    answer(&stream, &["HTTP/1.1 103 Early Hints\r\n\r\n", FINAL].concat());
    client.head(103);
    client.next().is("HTTP/1.1 200 OK", "final");
}

#[test]
fn b19_a_connection_that_is_closed_after_its_response_costs_no_request() {
    let origin = Counting::new();
    let proxy = origin.proxy();
    let mut client = Client::of(&proxy);
    for _ in 0..50 {
        let (_, stream) = warm(&mut client, &origin);
        close(&stream);
    }
    origin.was_not_asked();
}

#[test]
fn b19_a_request_with_content_or_a_non_idempotent_one_is_not_repeated() {
    let origin = Counting::new();
    let proxy = origin.proxy();
    let mut client = Client::of(&proxy);
    let content = "content-length: 4\r\n\r\nform";
    for (request, part) in [
        ("POST /x HTTP/1.1\r\n", ""),
        ("PATCH /x HTTP/1.1\r\n", ""),
        ("FROB /x HTTP/1.1\r\n", ""),
        ("PUT /x HTTP/1.1\r\n", content),
        ("GET /x HTTP/1.1\r\n", content),
        ("DELETE /x HTTP/1.1\r\n", "transfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ] {
        warm(&mut client, &origin);
        let end = if part.is_empty() { "\r\n" } else { part };
        client.send(&format!("{request}host: a.example\r\n{end}"));
        close(&origin.asked(request.trim_end()).1);
        client.next().is("HTTP/1.1 502 Bad Gateway", "").has("detail=\"origin-broken\"");
        origin.was_not_asked();
    }
    // After a byte of an answer, be it interim.
    for begun in ["H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
        let (first, _) = warm(&mut client, &origin);
        client.get("/x");
        let (number, stream) = origin.asked("GET /x HTTP/1.1");
        assert_eq!(number, first);
        answer(&stream, begun);
        close(&stream);
        if begun.contains("103") {
            client.head(103);
        }
        client.next().is("HTTP/1.1 502 Bad Gateway", "");
        origin.was_not_asked();
    }
    // On a connection that has answered nothing yet.
    client.get("/x");
    close(&origin.asked("GET /x HTTP/1.1").1);
    client.next().is("HTTP/1.1 502 Bad Gateway", "");
    origin.was_not_asked();
}
