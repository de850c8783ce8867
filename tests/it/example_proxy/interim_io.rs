//! The I/O that writes interim responses, alone with hyper's server: the connection is a pipe with room for a few bytes, so
//! responses wait in hyper's buffer for as long as the test lets them.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::sync::{mpsc, oneshot};

use interim::{Connection, Exchange, InterimIo};

#[path = "../../../examples/origin_proxy/interim.rs"]
mod interim;

/// A test that waits so long for a byte has failed.
const GUARD: Duration = Duration::from_secs(30);

const ROOM: usize = 16;

/// More than fits into the pipe, less than hyper's buffer holds.
const LARGE: usize = 100_000;

/// A request that waits for the test's answer.
struct Asked {
    exchange: Exchange,
    final_response: oneshot::Sender<Full<Bytes>>,
}

impl Asked {
    fn hint(&self, link: &str) {
        hint(&self.exchange, HeaderValue::from_str(link).unwrap());
    }

    /// Gives back what late interim responses would come by.
    fn answer(self, content: impl Into<Bytes>) -> Exchange {
        self.final_response.send(Full::new(content.into())).unwrap();
        self.exchange
    }
}

fn hint(exchange: &Exchange, link: HeaderValue) {
    exchange.send(StatusCode::EARLY_HINTS, &HeaderMap::from_iter([(header::LINK, link)]));
}

async fn in_time<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(GUARD, event).await.expect("it goes on")
}

struct Bench {
    client: BufReader<DuplexStream>,
    requests: mpsc::UnboundedReceiver<Asked>,
}

impl Bench {
    /// `queue` chooses between hyper's two ways to buffer: pieces in a queue, or all in one.
    fn new(queue: bool) -> Self {
        let (client, server) = duplex(ROOM);
        let (sender, requests) = mpsc::unbounded_channel();
        let connection = Connection::default();
        let io = InterimIo::new(TokioIo::new(server), connection.clone());
        // The service is called as soon as hyper gives a request away, not when its future is polled.
        let service = service_fn(move |request: Request<Incoming>| {
            let exchange = connection.open();
            // Before hyper can do anything else.
            for link in request.headers().get_all(header::LINK) {
                hint(&exchange, link.clone());
            }
            let (final_response, answer) = oneshot::channel();
            sender.send(Asked { exchange: exchange.clone(), final_response }).ok().unwrap();
            // Nobody waits for the content, so that the answer can be there before it is.
            tokio::spawn(request.into_body().collect());
            async move {
                let content = answer.await.unwrap();
                exchange.close();
                Ok::<_, Infallible>(Response::new(content))
            }
        });
        let served = http1::Builder::new().writev(queue).serve_connection(io, service);
        tokio::spawn(async move { drop(served.await) });
        Self { client: BufReader::new(client), requests }
    }

    async fn send(&mut self, bytes: &str) {
        in_time(self.client.write_all(bytes.as_bytes())).await.unwrap();
    }

    async fn asked(&mut self) -> Asked {
        in_time(self.requests.recv()).await.unwrap()
    }

    /// The service is called for the second request while the first response waits in hyper's buffer.
    async fn second_before_the_first_is_out(&mut self) -> Asked {
        self.send("POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n1").await;
        self.asked().await.answer(vec![b'a'; LARGE]);
        // hyper encodes all of it before it writes.
        self.next_has_begun().await;
        self.send("2GET /2 HTTP/1.1\r\nhost: a\r\nlink: at once\r\n\r\n").await;
        self.asked().await
    }

    async fn next_has_begun(&mut self) {
        assert_eq!(in_time(self.client.fill_buf()).await.unwrap().first(), Some(&b'H'));
    }

    async fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(in_time(self.client.read_line(&mut head)).await.unwrap(), 0, "{head}");
        }
        head
    }

    async fn next_is_hint(&mut self, link: &str) {
        let head = self.head().await;
        assert!(head.starts_with("HTTP/1.1 103 ") && head.contains(&format!("link: {link}\r\n")), "{head}");
    }

    async fn next_is_final(&mut self, content: &[u8]) {
        let head = self.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let mut read = vec![0; content.len()];
        in_time(self.client.read_exact(&mut read)).await.unwrap();
        assert!(read == content, "{}", String::from_utf8_lossy(&read));
    }
}

#[tokio::test]
async fn eh_an_interim_response_waits_until_the_response_before_it_is_written() {
    for queue in [false, true] {
        let mut bench = Bench::new(queue);
        let second = bench.second_before_the_first_is_out().await;
        second.hint("2");
        bench.next_is_final(&[b'a'; LARGE]).await;
        bench.next_is_hint("at once").await;
        bench.next_is_hint("2").await;
        second.answer("second");
        bench.next_is_final(b"second").await;
    }
}

#[tokio::test]
async fn eh_an_interim_response_is_dropped_if_no_message_boundary_comes_before_its_final_one() {
    let mut bench = Bench::new(false);
    let second = bench.second_before_the_first_is_out().await;
    second.hint("2");
    // Both responses now lie in hyper's one buffer.
    second.answer("second");
    bench.next_is_final(&[b'a'; LARGE]).await;
    bench.next_is_final(b"second").await;
    // Nothing of it is left.
    bench.send("GET /3 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let third = bench.asked().await;
    third.hint("3");
    bench.next_is_hint("3").await;
    third.answer("third");
    bench.next_is_final(b"third").await;
}

#[tokio::test]
async fn eh_an_interim_response_after_the_final_one_is_dropped() {
    let mut bench = Bench::new(true);
    bench.send("GET /1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let first = bench.asked().await.answer("first");
    bench.next_is_final(b"first").await;
    first.send(StatusCode::EARLY_HINTS, &HeaderMap::new());
    bench.send("GET /2 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let second = bench.asked().await;
    first.send(StatusCode::EARLY_HINTS, &HeaderMap::new());
    second.hint("2");
    bench.next_is_hint("2").await;
    first.send(StatusCode::EARLY_HINTS, &HeaderMap::new());
    second.answer("second");
    bench.next_is_final(b"second").await;
}

#[tokio::test]
async fn eh_an_interim_response_just_before_the_final_one_reaches_the_client() {
    for queue in [false, true] {
        let mut bench = Bench::new(queue);
        bench.send("GET /1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let first = bench.asked().await;
        // The connection's task runs only after both.
        first.hint("1");
        first.answer("first");
        bench.next_is_hint("1").await;
        bench.next_is_final(b"first").await;
    }
}

#[tokio::test]
async fn eh_a_partly_written_interim_response_is_finished_before_the_final_one() {
    for queue in [false, true] {
        let mut bench = Bench::new(queue);
        bench.send("GET /1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let first = bench.asked().await;
        let long = "x".repeat(10 * ROOM);
        first.hint(&long);
        // The pipe is full, and most of it is still to come.
        bench.next_has_begun().await;
        first.hint("another");
        first.answer("first");
        bench.next_is_hint(&long).await;
        bench.next_is_hint("another").await;
        bench.next_is_final(b"first").await;
    }
}

#[tokio::test]
async fn eh_a_partly_written_100_continue_is_not_interrupted() {
    for queue in [false, true] {
        let mut bench = Bench::new(queue);
        bench.send("POST /1 HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n").await;
        let first = bench.asked().await;
        // The rest of hyper's own interim response does not fit into the pipe.
        bench.next_has_begun().await;
        first.hint("1");
        assert_eq!(bench.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        bench.next_is_hint("1").await;
        bench.send("1").await;
        first.answer("first");
        bench.next_is_final(b"first").await;
    }
}
