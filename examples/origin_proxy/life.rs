//! How a client's connection goes on, and when it has to end.
//!
//! hyper drives a connection; what is here watches it from outside, and in the same way for HTTP/1 and HTTP/2, also
//! before it is known which of the two it is. [`LiveIo`] sees what is read and written, [`Answer`] sees which requests
//! are open, and [`watch`] ends a connection that
//!
//! - has not asked for anything in time (`head`), or sends no more of a head that it has begun,
//! - is idle for too long (`idle`): no request is open, and all that was answered is written,
//! - takes nothing of what is written to it (`stall`), whether or not there is more,
//! - is told to end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Version;
use hyper::body::{Body, Frame, SizeHint};
use hyper_util::server::graceful::GracefulConnection;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How long a connection without an open request, which was asked to end, may take to do so. HTTP/2 has a GOAWAY to
/// send; what has sent half a head is not waited for.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// What is written at once without a request: frames that keep an HTTP/2 connection alive are smaller.
const CONTROL: usize = 64;

/// How long a connection may be so.
#[derive(Clone, Copy)]
pub struct Patience {
    pub head: Duration,
    pub idle: Duration,
    pub stall: Duration,
}

impl Patience {
    /// No limit that begins now ends sooner.
    fn shortest(&self) -> Duration {
        self.head.min(self.idle).min(self.stall)
    }
}

/// What is known of one connection.
pub struct Life {
    state: Mutex<State>,
    told: Notify,
}

struct State {
    /// Since when nothing could be written, though there was something to write.
    blocked: Option<Instant>,
    /// When the connection came.
    came: Instant,
    /// Since when a head is coming; HTTP/1 only.
    head: Option<Instant>,
    /// Whether there was a request.
    is_asked: bool,
    /// Whether many requests share the connection, so that what is read need not be a head.
    is_shared: bool,
    /// Requests that are not answered to the end.
    open: usize,
    /// Whether to find out if the client has taken anything.
    probe: bool,
    /// The last time that something was done about a request.
    quiet: Instant,
    /// Whether and how the connection was told to end.
    told: Option<End>,
    /// Whether something is written and not yet flushed.
    unflushed: bool,
}

/// How a connection is told to end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// At once: its place is needed.
    Now,
    /// When its open requests are answered.
    WhenDone,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Close,
    Cut,
    /// Nothing is due before.
    Wait(Instant),
}

impl Life {
    pub fn new() -> Self {
        let now = Instant::now();
        let state = State {
            blocked: None,
            came: now,
            head: None,
            is_asked: false,
            is_shared: false,
            open: 0,
            probe: false,
            quiet: now,
            told: None,
            unflushed: false,
        };
        Self { state: Mutex::new(state), told: Notify::new() }
    }

    /// A request begins; it is open until what this returns is dropped.
    pub fn open(self: &Arc<Self>, version: Version) -> Open {
        let mut state = self.state();
        state.head = None;
        state.is_asked = true;
        state.is_shared |= version == Version::HTTP_2;
        state.open += 1;
        Open(Arc::clone(self))
    }

    /// Since when the connection has been idle; none if it is not.
    pub fn idle(&self) -> Option<Instant> {
        let state = self.state();
        (state.is_idle() && state.told.is_none()).then_some(state.quiet)
    }

    pub fn tell(&self, end: End) {
        let mut state = self.state();
        if state.told != Some(End::Now) {
            state.told = Some(end);
            self.told.notify_one();
        }
    }

    fn told(&self) -> Option<End> {
        self.state().told
    }

    /// The connection is watched no more: it has ended, or is a tunnel. Either is nothing that could be told to end.
    fn leave(&self) {
        self.state().open += 1;
    }

    fn is_blocked(&self) -> bool {
        self.state().blocked.is_some()
    }

    /// What is written next is offered to the system although it has not said that there is room.
    fn ask_to_probe(&self) {
        self.state().probe = true;
    }

    fn takes_probe(&self) -> bool {
        std::mem::take(&mut self.state().probe)
    }

    fn read(&self) {
        let mut state = self.state();
        if state.open == 0 && !state.is_shared && state.head.is_none() {
            state.head = Some(Instant::now());
        }
    }

    /// Something was to be written; whether that much was, or nothing could be.
    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        let mut state = self.state();
        state.unflushed = true;
        match written {
            Poll::Ready(Ok(length)) => {
                state.blocked = None;
                if *length > CONTROL {
                    state.quiet = Instant::now();
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                state.blocked.get_or_insert_with(Instant::now);
            }
        }
    }

    fn flushed(&self) {
        let mut state = self.state();
        if state.unflushed {
            state.blocked = None;
            state.unflushed = false;
            // The end of an answer. In HTTP/2 it may be a frame that keeps the connection alive.
            if !state.is_shared {
                state.quiet = Instant::now();
            }
        }
    }

    fn verdict(&self, patience: &Patience, closing: Option<Instant>) -> Verdict {
        let (state, now) = (self.state(), Instant::now());
        let or_wait = |due: Instant, verdict| {
            if due <= now { verdict } else { Verdict::Wait(due.min(now + patience.shortest())) }
        };
        if let Some(blocked) = state.blocked {
            return or_wait(blocked + patience.stall, Verdict::Cut);
        }
        if !state.is_idle() {
            return Verdict::Wait(now + patience.shortest());
        }
        match closing {
            Some(since) => or_wait(state.quiet.max(since) + LAST_WORDS, Verdict::Cut),
            None if !state.is_asked => or_wait(state.came + patience.head, Verdict::Cut),
            None => {
                let idle = state.quiet + patience.idle;
                let head = state.head.map_or(idle, |head| head + patience.head);
                or_wait(idle.min(head), Verdict::Close)
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.open == 0 && !self.unflushed
    }
}

/// A request that is not answered to the end.
pub struct Open(Arc<Life>);

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.open -= 1;
        state.quiet = Instant::now();
    }
}

pin_project! {
    /// The body of an answer; its request is open as long.
    pub struct Answer<B> {
        #[pin]
        pub body: B,
        pub open: Option<Open>,
    }
}

impl<B: Body> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Drives a connection to its end, or until it has to end.
pub async fn watch(connection: impl GracefulConnection, life: Arc<Life>, patience: Patience) {
    let mut connection = std::pin::pin!(connection);
    let mut closing = None;
    loop {
        match life.told() {
            Some(End::Now) => break,
            Some(End::WhenDone) if closing.is_none() => {
                closing = Some(Instant::now());
                connection.as_mut().graceful_shutdown();
            }
            _ => {}
        }
        let due = match life.verdict(&patience, closing) {
            Verdict::Wait(due) => due,
            Verdict::Close => {
                life.tell(End::WhenDone);
                continue;
            }
            Verdict::Cut => {
                let ended = probe(connection.as_mut(), &life).await;
                if ended || life.verdict(&patience, closing) == Verdict::Cut {
                    break;
                }
                continue;
            }
        };
        tokio::select! {
            biased;
            _ = connection.as_mut() => break,
            () = life.told.notified() => {}
            () = sleep_until(due) => {}
        }
    }
    life.leave();
}

/// Finds out whether a client that takes nothing, as it seems, has taken something after all: the system says that there
/// is room when a third of its buffer is free, which a slow client may need minutes for. Whether the connection ends.
async fn probe(mut connection: Pin<&mut impl GracefulConnection>, life: &Life) -> bool {
    life.ask_to_probe();
    let polled = std::future::poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx))).await;
    life.takes_probe();
    polled.is_ready()
}

/// A client's socket.
pub struct LiveIo {
    life: Arc<Life>,
    stream: TcpStream,
}

impl LiveIo {
    pub fn new(stream: TcpStream, life: Arc<Life>) -> Self {
        Self { life, stream }
    }

    /// Writes what there is room for, be it little.
    fn probe(&self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match write_now(&self.stream, bytes) {
            Ok(0) => Poll::Pending,
            Ok(length) => Poll::Ready(Ok(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

/// Writes to a socket without regard to what tokio knows of it.
#[cfg(unix)]
fn write_now(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    use std::io::Write;
    use std::os::fd::AsFd;
    std::net::TcpStream::from(stream.as_fd().try_clone_to_owned()?).write(bytes)
}

#[cfg(not(unix))]
fn write_now(_: &TcpStream, _: &[u8]) -> io::Result<usize> {
    Err(io::ErrorKind::WouldBlock.into())
}

impl Drop for LiveIo {
    fn drop(&mut self) {
        if self.life.is_blocked() {
            // What the client has not taken will not be taken: the system keeps nothing of it.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for LiveIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.life.read();
        }
        read
    }
}

impl AsyncWrite for LiveIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if written.is_pending() && self.life.takes_probe() {
            written = self.probe(bytes);
        }
        self.life.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if written.is_pending() && self.life.takes_probe() {
            written = self.probe(slices.iter().find(|slice| !slice.is_empty()).map_or(&[], |slice| slice));
        }
        self.life.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.life.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
