//! A client of HTTP/2 that costs as little as it can: it looks at the heads of frames only.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::PATH;
use crate::http1::{AUTHORITY, Until};

pub const CONNECTIONS: usize = 4;
const STREAMS: u64 = 16;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const WINDOW: u32 = (1 << 31) - 1;
/// What both sides begin with (RFC 9113 6.9.2).
const FIRST_WINDOW: u32 = (1 << 16) - 1;

/// RFC 9113 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const FRAME_HEAD: usize = 9;

/// A connection with [`STREAMS`] requests at a time.
pub struct Connection {
    buffer: Vec<u8>,
    filled: usize,
    /// What is to be written.
    output: Vec<u8>,
    /// What the server may still send.
    window: u32,
    stream: TcpStream,
    /// The next stream's number.
    next: u32,
}

fn frame(output: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    output.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    output.extend_from_slice(&[kind, flags]);
    output.extend_from_slice(&stream.to_be_bytes());
    output.extend_from_slice(payload);
}

/// The fields of the first request of a connection (RFC 7541 6.2.1): the server keeps them in its table.
fn first_fields() -> Vec<u8> {
    let mut block = vec![0x82, 0x86]; // :method GET, :scheme http
    for (index, value) in [(4, PATH), (1, AUTHORITY), (19, "*/*"), (58, "bench/1.0")] {
        block.extend_from_slice(&[0x40 | index, value.len() as u8]);
        block.extend_from_slice(value.as_bytes());
    }
    block.push(0x90); // accept-encoding: gzip, deflate
    block
}

/// The same fields in later ones (RFC 7541 6.1): the last that was put into the table has the number 62.
const LATER_FIELDS: [u8; 7] = [0x82, 0x86, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62, 0x90];

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut hello = PREFACE.to_vec();
        let [a, b, c, d] = WINDOW.to_be_bytes();
        frame(&mut hello, SETTINGS, 0, 0, &[0, 4, a, b, c, d]); // SETTINGS_INITIAL_WINDOW_SIZE
        frame(&mut hello, WINDOW_UPDATE, 0, 0, &(WINDOW - FIRST_WINDOW).to_be_bytes());
        stream.write_all(&hello).await.unwrap();
        Self { buffer: vec![0; 256 << 10], filled: 0, output: Vec::new(), window: WINDOW, stream, next: 1 }
    }

    /// Sends requests, each when one is answered; how many were answered.
    pub async fn run(&mut self, until: Until) -> u64 {
        let (mut sent, mut answered) = (0, 0);
        while sent < STREAMS && until.goes_on(sent) {
            self.request();
            sent += 1;
        }
        while answered < sent {
            self.stream.write_all(&self.output).await.unwrap();
            self.output.clear();
            let read = self.stream.read(&mut self.buffer[self.filled..]).await.unwrap();
            assert!(read > 0, "the server has ended a connection");
            self.filled += read;
            for _ in 0..self.take_frames() {
                answered += 1;
                if until.goes_on(sent) {
                    self.request();
                    sent += 1;
                }
            }
        }
        self.stream.write_all(&self.output).await.unwrap();
        self.output.clear();
        answered
    }

    fn request(&mut self) {
        let flags = END_STREAM | END_HEADERS;
        match self.next {
            1 => frame(&mut self.output, HEADERS, flags, 1, &first_fields()),
            stream => frame(&mut self.output, HEADERS, flags, stream, &LATER_FIELDS),
        }
        self.next += 2;
    }

    /// Takes the whole frames that have come; how many responses ended.
    fn take_frames(&mut self) -> usize {
        let (mut at, mut ended) = (0, 0);
        while let Some(&[a, b, c, kind, flags]) = self.buffer[at..self.filled].first_chunk() {
            let length = u32::from_be_bytes([0, a, b, c]);
            let end = at + FRAME_HEAD + length as usize;
            if end > self.filled {
                break;
            }
            match kind {
                SETTINGS if flags & ACK == 0 => frame(&mut self.output, SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => {
                    let payload = &self.buffer[at + FRAME_HEAD..end];
                    frame(&mut self.output, PING, ACK, 0, payload);
                }
                GOAWAY | RST_STREAM => {
                    panic!("the server gives up: {:?}", &self.buffer[at..end]);
                }
                DATA => self.window -= length,
                _ => {}
            }
            ended += usize::from(matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0);
            at = end;
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        if self.window < WINDOW / 2 {
            frame(&mut self.output, WINDOW_UPDATE, 0, 0, &(WINDOW - self.window).to_be_bytes());
            self.window = WINDOW;
        }
        ended
    }
}
