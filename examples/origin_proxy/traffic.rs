//! What was sent and received over a connection to the origin, and when.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// What was sent and received over one connection.
#[derive(Clone)]
pub struct Traffic(Arc<Counts>);

/// A turn is a request and its responses. It begins with the first byte that is written after a byte was read.
struct Counts {
    /// The last turn whose final response has come.
    answered: AtomicU64,
    /// Whether a byte was read in this turn.
    heard: AtomicBool,
    /// When a byte was last read or written.
    moved: Mutex<Instant>,
    /// The number of turns so far.
    turn: AtomicU64,
}

impl Traffic {
    fn new() -> Self {
        Self(Arc::new(Counts {
            answered: AtomicU64::new(0),
            heard: AtomicBool::new(false),
            moved: Mutex::new(Instant::now()),
            turn: AtomicU64::new(0),
        }))
    }

    /// When a byte was last read or written; at first, when the connection was made.
    pub fn moved(&self) -> Instant {
        *self.0.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn answered(&self) {
        self.0.answered.store(self.0.turn.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Whether the connection has answered before, but not in this turn. A connection that ends before the
    /// request is written has had no turn for it.
    pub fn is_unanswered(&self) -> bool {
        let (answered, turn) = (self.0.answered.load(Ordering::SeqCst), self.0.turn.load(Ordering::SeqCst));
        answered > 0 && (answered == turn || !self.0.heard.load(Ordering::SeqCst))
    }

    fn moves(&self) {
        *self.0.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn read(&self) {
        self.0.heard.store(true, Ordering::SeqCst);
        self.moves();
    }

    fn writes(&self) {
        if self.0.heard.swap(false, Ordering::SeqCst) || self.0.turn.load(Ordering::SeqCst) == 0 {
            self.0.turn.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The bytes of HTTP to and from the origin, which may be inside TLS.
pub type OriginStream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// A connection to the origin that keeps its [`Traffic`]. The bytes of TLS itself do not count: a handshake is no
/// request, and the alert that ends a connection is no response.
pub struct Watched {
    stream: TokioIo<OriginStream>,
    traffic: Traffic,
}

impl Watched {
    pub fn over(stream: OriginStream) -> TokioIo<Self> {
        TokioIo::new(Self { stream: TokioIo::new(stream), traffic: Traffic::new() })
    }
}

impl Connection for Watched {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.traffic.clone())
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.traffic.read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.traffic.writes();
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.traffic.moves();
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.traffic.writes();
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        self.traffic.moves();
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
