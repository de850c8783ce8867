//! Interim responses through the example proxy: what the client's socket gets, byte for byte.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::Empty;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;

use crate::proxy::Proxy;
use crate::support::bench::read;

/// A test that waits so long for a byte has failed.
const GUARD: Duration = Duration::from_secs(30);

const HINT: &str = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n";
const FINAL: &str = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 5\r\n\r\nfinal";
const UNSTORED: &str = "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 5\r\n\r\nfinal";

/// An origin whose answers the test writes.
struct Origin {
    address: SocketAddr,
    requests: mpsc::Receiver<Asked>,
}

/// A request that the origin got, with its content.
struct Asked {
    message: Message,
    stream: TcpStream,
}

/// A head with its field names in lower case, and what `Content-Length` promises.
#[derive(Debug)]
struct Message {
    head: String,
    content: String,
}

impl Message {
    /// None at the end of the connection.
    fn read(from: &mut impl BufRead) -> Option<Self> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if from.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let length = head.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut content = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        from.read_exact(&mut content).ok()?;
        Some(Self { head, content: String::from_utf8(content).unwrap() })
    }

    #[track_caller]
    fn is(self, first_line: &str, content: &str) -> Self {
        assert_eq!(self.head.lines().next(), Some(first_line), "{self:?}");
        assert_eq!(self.content, content, "{self:?}");
        self
    }

    #[track_caller]
    fn has(self, text: &str) -> Self {
        assert!(self.head.contains(text), "{text} in {self:?}");
        self
    }

    #[track_caller]
    fn lacks(self, text: &str) -> Self {
        assert!(!self.head.contains(text), "{text} in {self:?}");
        self
    }
}

impl Origin {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, sender) = (stream.unwrap(), sender.clone());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    while let Some(message) = Message::read(&mut reader) {
                        let asked = Asked { message, stream: stream.try_clone().unwrap() };
                        if sender.send(asked).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, requests }
    }

    fn proxy(&self) -> Proxy {
        Proxy::before(&format!("http://{}", self.address), &[])
    }

    /// The next request, which has to be for this path.
    #[track_caller]
    fn asked(&self, path: &str) -> Asked {
        let asked = self.requests.recv_timeout(GUARD).expect("the origin is asked");
        let line = asked.message.head.lines().next().unwrap();
        assert_eq!(line.split(' ').nth(1), Some(path), "{line}");
        asked
    }
}

impl Asked {
    fn answer(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).unwrap();
    }
}

/// One connection to the proxy.
struct Client(BufReader<TcpStream>);

impl Client {
    fn of(proxy: &Proxy) -> Self {
        let stream = TcpStream::connect(proxy.address).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, bytes: &str) {
        self.0.get_mut().write_all(bytes.as_bytes()).unwrap();
    }

    fn get(&mut self, path: &str) {
        self.send(&get(path));
    }

    #[track_caller]
    fn next(&mut self) -> Message {
        Message::read(&mut self.0).expect("the proxy answers")
    }

    #[track_caller]
    fn next_is_hint(&mut self) {
        self.next().is("HTTP/1.1 103 Early Hints", "").has("\r\nlink: </style.css>; rel=preload\r\n");
    }

    #[track_caller]
    fn next_is_final(&mut self) -> Message {
        self.next().is("HTTP/1.1 200 OK", "final").lacks("link")
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a.example\r\n\r\n")
}

#[test]
fn eh_an_interim_response_comes_before_the_final_one_is_there() {
    let origin = Origin::new();
    let proxy = origin.proxy();
    let mut client = Client::of(&proxy);
    client.get("/x");
    let mut asked = origin.asked("/x");
    // The origin goes on only when the client has what came so far.
    asked.answer("HTTP/1.1 102 Processing\r\n\r\n");
    client.next().is("HTTP/1.1 102 Processing", "").has("\r\nvia: 1.1 larder\r\n");
    for _ in 0..2 {
        asked.answer(HINT);
        client.next_is_hint();
    }
    asked.answer("HTTP/1.1 199\r\n\r\n");
    client.next().is("HTTP/1.1 199 ", "");
    asked.answer(FINAL);
    client.next_is_final();
}

#[test]
fn eh_an_interim_response_leaves_no_field_and_no_trace_in_storage() {
    let origin = Origin::new();
    let proxy = origin.proxy();
    let mut client = Client::of(&proxy);
    for path in ["/x", "/y"] {
        client.get(path);
        // In one segment, so that the final response is there when the connection gets to the interim one.
        origin.asked(path).answer(&[HINT, FINAL].concat());
        client.next_is_hint();
        client.next_is_final().has("cache-status: larder; fwd=uri-miss; stored");
        client.get(path);
        client.next_is_final().has("cache-status: larder; hit");
    }
}

#[test]
fn eh_the_interim_response_to_a_validation_passes() {
    let origin = Origin::new();
    let proxy = origin.proxy();
    let mut client = Client::of(&proxy);
    client.get("/x");
    let stale = FINAL.replace("max-age=60", "no-cache").replace("\r\n\r\n", "\r\netag: \"a\"\r\n\r\n");
    origin.asked("/x").answer(&stale);
    client.next_is_final();
    for _ in 0..2 {
        client.get("/x");
        let mut asked = origin.asked("/x");
        asked.answer(HINT);
        client.next_is_hint();
        asked.answer("HTTP/1.1 304 Not Modified\r\ncache-control: no-cache\r\netag: \"a\"\r\n\r\n");
        client.next_is_final().has("fwd-status=304");
    }
}

#[test]
fn eh_a_validation_behind_hints_at_nothing() {
    let origin = Origin::new();
    let proxy = origin.proxy();
    let mut client = Client::of(&proxy);
    client.get("/x");
    origin.asked("/x").answer(&FINAL.replace("max-age=60", "max-age=0, stale-while-revalidate=60"));
    client.next_is_final();
    client.get("/x");
    client.next_is_final().has("cache-status: larder; hit");
    let mut behind = origin.asked("/x");
    client.get("/y");
    let mut asked = origin.asked("/y");
    behind.answer(&[&HINT.replace("style", "late"), FINAL].concat());
    asked.answer(HINT);
    client.next_is_hint();
    asked.answer(FINAL);
    client.next_is_final();
}

#[test]
fn eh_pipelined_requests_have_their_own() {
    let origin = Origin::new();
    let proxy = origin.proxy();
    let mut client = Client::of(&proxy);
    client.send(&["/1", "/2", "/3"].map(get).concat());
    for path in ["/1", "/2", "/3"] {
        origin.asked(path).answer(&[&HINT.replace("/style.css", path), UNSTORED].concat());
    }
    // Nothing was read until here: what is out of order shows.
    for path in ["/1", "/2", "/3"] {
        client.next().is("HTTP/1.1 103 Early Hints", "").has(&format!("link: <{path}>"));
        client.next_is_final();
    }
}

#[test]
fn eh_http10_gets_none() {
    let origin = Origin::new();
    let proxy = origin.proxy();
    let mut client = Client::of(&proxy);
    client.send("GET /x HTTP/1.0\r\nhost: a.example\r\nconnection: keep-alive\r\n\r\n");
    origin.asked("/x").answer(&[HINT, FINAL].concat());
    client.next().is("HTTP/1.0 200 OK", "final");
    // The next request of the connection may have its own.
    client.get("/y");
    origin.asked("/y").answer(&[HINT, FINAL].concat());
    client.next_is_hint();
    client.next_is_final();
}

#[tokio::test]
async fn eh_http2_gets_none() {
    let origin = Origin::new();
    let proxy = origin.proxy();
    let answers = tokio::task::spawn_blocking(move || {
        for path in ["/x", "/y"] {
            origin.asked(path).answer(&[HINT, FINAL].concat());
        }
    });
    let client = HttpClient::builder(TokioExecutor::new()).http2_only(true).build_http();
    for path in ["/x", "/y"] {
        let request = Request::get(format!("http://{}{path}", proxy.address));
        let response = client.request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        let seen = read(response).await.has_body("final");
        assert_eq!((seen.status.as_u16(), seen.field("link")), (200, None));
    }
    answers.await.unwrap();
}

#[test]
fn eh_100_is_the_proxys_own() {
    let origin = Origin::new();
    let proxy = origin.proxy();
    let mut client = Client::of(&proxy);
    for _ in 0..2 {
        client
            .send("POST /x HTTP/1.1\r\nhost: a.example\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
        client.next().is("HTTP/1.1 100 Continue", "");
        client.send("form");
        let mut asked = origin.asked("/x");
        assert_eq!(asked.message.content, "form");
        asked.answer("HTTP/1.1 100 Continue\r\n\r\n");
        asked.answer(HINT);
        client.next_is_hint();
        asked.answer(UNSTORED);
        client.next_is_final();
    }
}

#[test]
fn eh_protocols_are_not_switched() {
    let origin = Origin::new();
    let proxy = origin.proxy();
    let mut client = Client::of(&proxy);
    client.send("GET /x HTTP/1.1\r\nhost: a.example\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n");
    origin.asked("/x").answer(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\nother words",
    );
    client.next().is("HTTP/1.1 502 Bad Gateway", "");
    client.get("/y");
    origin.asked("/y").answer(FINAL);
    client.next_is_final();
}

#[test]
fn eh_fields_of_the_hop_before_end_there() {
    let origin = Origin::new();
    let proxy = origin.proxy();
    let mut client = Client::of(&proxy);
    client.get("/x");
    let fields = "connection: x-hop, close\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nvia: 1.1 inner\r\n\
                  content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n";
    origin.asked("/x").answer(&[&HINT.replace("\r\n\r\n", "\r\n"), fields, FINAL].concat());
    let hint =
        client.next().is("HTTP/1.1 103 Early Hints", "").has("\r\nlink: </style.css>; rel=preload\r\n");
    let hint = hint.has("\r\nvia: 1.1 inner\r\nvia: 1.1 larder\r\n");
    for name in ["connection", "x-hop", "keep-alive", "content-length", "transfer-encoding"] {
        assert!(!hint.head.contains(name), "{hint:?}");
    }
    client.next_is_final();
}

#[test]
fn eh_one_request_gets_so_many() {
    let origin = Origin::new();
    let proxy = origin.proxy();
    let mut client = Client::of(&proxy);
    client.get("/x");
    let mut asked = origin.asked("/x");
    asked.answer(&HINT.repeat(40));
    asked.answer(UNSTORED);
    for _ in 0..16 {
        client.next_is_hint();
    }
    client.next_is_final();
    // By bytes: the second does not fit.
    client.get("/y");
    let mut asked = origin.asked("/y");
    let large = HINT.replace("preload", &"x".repeat(9_000));
    asked.answer(&[&large, &large, HINT, UNSTORED].concat());
    client.next().is("HTTP/1.1 103 Early Hints", "").has("xxx");
    client.next_is_hint();
    client.next_is_final();
}
