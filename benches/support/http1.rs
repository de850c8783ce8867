//! A client of HTTP/1.1 that costs as little as it can: it knows what comes.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Whom all clients ask.
pub const AUTHORITY: &str = "www.example.com";
pub const CONNECTIONS: usize = 32;

/// When a connection stops sending requests.
#[derive(Clone, Copy)]
pub enum Until {
    Requests(u64),
    Time(Instant),
}

impl Until {
    /// Whether one more request is to be sent after so many.
    pub fn goes_on(self, sent: u64) -> bool {
        match self {
            Self::Requests(requests) => sent < requests,
            Self::Time(end) => Instant::now() < end,
        }
    }
}

/// A connection with one request at a time.
pub struct Connection {
    buffer: Vec<u8>,
    content: usize,
    request: Vec<u8>,
    stream: TcpStream,
}

/// The request that all clients send.
pub fn request(path: &str) -> Vec<u8> {
    let fields = "accept: */*\r\naccept-encoding: gzip, deflate\r\nuser-agent: bench/1.0\r\n";
    format!("GET {path} HTTP/1.1\r\nhost: {AUTHORITY}\r\n{fields}\r\n").into_bytes()
}

/// Where the content begins, if the head has come to its end.
pub fn head_length(response: &[u8]) -> Option<usize> {
    response.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|position| position + 4)
}

impl Connection {
    /// For a path of which so many bytes of content come.
    pub async fn open(address: SocketAddr, path: &str, content: usize) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { buffer: vec![0; content + (15 << 10)], content, request: request(path), stream }
    }

    /// Sends requests one after the other; how many were answered.
    pub async fn run(&mut self, until: Until) -> u64 {
        let mut answered = 0;
        while until.goes_on(answered) {
            self.stream.write_all(&self.request).await.unwrap();
            self.read_response().await;
            answered += 1;
        }
        answered
    }

    async fn read_response(&mut self) {
        let (mut filled, mut expected) = (0, None);
        while expected.is_none_or(|expected| filled < expected) {
            let read = self.stream.read(&mut self.buffer[filled..]).await.unwrap();
            assert!(read > 0, "the server has ended a connection");
            filled += read;
            expected =
                expected.or_else(|| head_length(&self.buffer[..filled]).map(|head| head + self.content));
        }
        assert_eq!(Some(filled), expected, "one response comes for one request");
        assert!(self.buffer.starts_with(b"HTTP/1.1 200 "), "what is stored is answered");
    }
}
