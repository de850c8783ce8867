//! HTTP/1.1 byte by byte, on both sides of the example proxy: an origin whose answers the test writes, and a client
//! that sees where a message ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use crate::example_proxy::process::Proxy;

/// A test that waits so long for a byte has failed.
pub const GUARD: Duration = Duration::from_secs(30);

/// An origin whose answers the test writes.
pub struct Origin {
    address: std::net::SocketAddr,
    requests: mpsc::Receiver<Asked>,
}

/// An address at which connections are refused. A socket holds the port without listening on it, so that nobody else
/// gets it.
pub struct Nobody {
    pub address: std::net::SocketAddr,
    _socket: tokio::net::TcpSocket,
}

impl Nobody {
    pub fn new() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self { address: socket.local_addr().unwrap(), _socket: socket }
    }

    /// The same, except that a process which the test starts may listen there.
    pub fn reserving() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self { address: socket.local_addr().unwrap(), _socket: socket }
    }
}

/// A request that the origin got, with its content.
pub struct Asked {
    pub message: Message,
    stream: TcpStream,
}

/// A head with its field names in lower case, and the content.
#[derive(Debug)]
pub struct Message {
    pub head: String,
    pub content: String,
}

impl Message {
    /// None at the end of the connection.
    pub fn read(from: &mut impl BufRead) -> Option<Self> {
        let head = read_head(from)?;
        let content = read_content(from, &head).ok()?;
        Some(Self { head, content: String::from_utf8(content).unwrap() })
    }

    #[track_caller]
    pub fn is(self, first_line: &str, content: &str) -> Self {
        assert_eq!(self.head.lines().next(), Some(first_line), "{self:?}");
        assert_eq!(self.content, content, "{self:?}");
        self
    }

    #[track_caller]
    pub fn has(self, text: &str) -> Self {
        assert!(self.head.contains(text), "{text} in {self:?}");
        self
    }

    #[track_caller]
    pub fn lacks(self, text: &str) -> Self {
        assert!(!self.head.contains(text), "{text} in {self:?}");
        self
    }
}

fn read_head(from: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if from.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// The content by `Transfer-Encoding` or `Content-Length`.
///
/// # Errors
///
/// What came of a message that is cut off.
fn read_content(from: &mut impl BufRead, head: &str) -> Result<Vec<u8>, Vec<u8>> {
    let mut content = Vec::new();
    if !head.contains("\r\ntransfer-encoding: chunked\r\n") {
        let length = head.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let length = length.map_or(0, |length| length.parse().unwrap());
        return if read_exactly(from, length, &mut content) { Ok(content) } else { Err(content) };
    }
    loop {
        match read_chunk(from, &mut content) {
            None => return Err(content),
            Some(0) => return Ok(content),
            Some(_) => {}
        }
    }
}

/// The next chunk's size; none where it is cut off.
fn read_chunk(from: &mut impl BufRead, into: &mut Vec<u8>) -> Option<u64> {
    let mut line = String::new();
    from.read_line(&mut line).ok()?;
    let size = u64::from_str_radix(line.strip_suffix("\r\n")?, 16).ok()?;
    (read_exactly(from, size, into) && read_exactly(from, 2, &mut Vec::new())).then_some(size)
}

fn read_exactly(from: &mut impl BufRead, length: u64, into: &mut Vec<u8>) -> bool {
    let before = into.len();
    // An error, such as a reset, keeps what came before it.
    let _ = from.take(length).read_to_end(into);
    (into.len() - before) as u64 == length
}

impl Origin {
    pub fn new() -> Self {
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

    pub fn proxy(&self, arguments: &[&str]) -> Proxy {
        Proxy::before(&self.upstream(), arguments)
    }

    pub fn upstream(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next request, which has to be for this path.
    #[track_caller]
    pub fn asked(&self, path: &str) -> Asked {
        let asked = self.any();
        let line = asked.message.head.lines().next().unwrap();
        assert_eq!(line.split(' ').nth(1), Some(path), "{line}");
        asked
    }

    /// The next request, whatever it is for.
    #[track_caller]
    pub fn any(&self) -> Asked {
        self.requests.recv_timeout(GUARD).expect("the origin is asked")
    }

    /// The next request, whenever it comes.
    pub fn next_or_none(&self) -> Option<Asked> {
        self.requests.recv().ok()
    }

    /// The next request for this path; others are dropped.
    #[track_caller]
    pub fn within(&self, path: &str) -> Asked {
        loop {
            let asked = self.any();
            if asked.message.head.lines().next().unwrap().split(' ').nth(1) == Some(path) {
                return asked;
            }
        }
    }

    /// Nobody has asked since.
    #[track_caller]
    pub fn was_not_asked(&self) {
        let asked = self.requests.try_recv().map(|asked| asked.message);
        assert!(asked.is_err(), "{asked:?}");
    }
}

impl Asked {
    pub fn answer(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).unwrap();
    }

    /// For whoever may have given up on it by now.
    pub fn try_answer(&mut self, bytes: &str) {
        let _ = self.stream.write_all(bytes.as_bytes());
    }

    /// The origin breaks the connection off.
    pub fn die(self) {
        self.stream.shutdown(Shutdown::Both).unwrap();
    }
}

/// One connection to the proxy.
pub struct Client(pub BufReader<TcpStream>);

impl Client {
    pub fn of(proxy: &Proxy) -> Self {
        Self::over(TcpStream::connect(proxy.address).unwrap())
    }

    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(GUARD)).unwrap();
        Self(BufReader::new(stream))
    }

    pub fn send(&mut self, bytes: &str) {
        self.0.get_mut().write_all(bytes.as_bytes()).unwrap();
    }

    /// Whether the connection takes it.
    pub fn try_send(&mut self, bytes: &str) -> bool {
        self.0.get_mut().write_all(bytes.as_bytes()).is_ok()
    }

    pub fn get(&mut self, path: &str) {
        self.send(&get(path));
    }

    #[track_caller]
    pub fn next(&mut self) -> Message {
        Message::read(&mut self.0).expect("the proxy answers")
    }

    /// None where the connection has ended.
    pub fn try_next(&mut self) -> Option<Message> {
        Message::read(&mut self.0)
    }

    /// The head of the next response; none where the connection has ended.
    pub fn try_head(&mut self) -> Option<String> {
        read_head(&mut self.0)
    }

    /// The head of the next response, which has to have this status.
    #[track_caller]
    pub fn head(&mut self, status: u16) -> String {
        let head = self.try_head().expect("the proxy answers");
        assert_eq!(head.split(' ').nth(1), Some(&*status.to_string()), "{head}");
        head
    }

    /// The content that comes after this head.
    ///
    /// # Errors
    ///
    /// What came of a message that is cut off.
    pub fn content(&mut self, head: &str) -> Result<Vec<u8>, Vec<u8>> {
        read_content(&mut self.0, head)
    }

    /// Reads whole chunks, of so many bytes together.
    pub fn chunks(&mut self, length: u64) -> bool {
        let mut content = Vec::new();
        while (content.len() as u64) < length {
            if read_chunk(&mut self.0, &mut content).is_none_or(|size| size == 0) {
                return false;
            }
        }
        content.len() as u64 == length
    }

    /// Whether the connection ends here, without another byte.
    pub fn is_closed(&mut self) -> bool {
        self.0.fill_buf().map_or(true, <[u8]>::is_empty)
    }
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a.example\r\n\r\n")
}
