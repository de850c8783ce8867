//! How a client's connection goes on, and when it has to end.
//!
//! hyper drives a connection; what is here watches it from outside, and in the same way for HTTP/1 and HTTP/2, also
//! before it is known which of the two it is. [`LiveIo`] sees what is read and written, [`Answer`] sees which requests
//! are open, and [`watch`] ends a connection that
//!
//! - has not asked for anything in time (`head`), or sends no more of a head that it has begun,
//! - is idle for too long (`idle`): no request is open, and all that was answered is written,
//! - takes nothing of what is written to it (`stall`), whether or not there is more,
//! - has answers to take, leaves no room for them in HTTP/2, and waits for nothing else (`stall`),
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

/// How long a connection without an open request, which was asked to end, may take to do so. What has sent half a head
/// is not waited for.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// The same in HTTP/2, from the last frame that was written: the end of an answer may wait there until the client makes
/// room for it, and GOAWAY is to be acknowledged.
const LAST_FRAMES: Duration = Duration::from_secs(2);

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
    /// How often to look. What begins in between is seen in time: no limit ends sooner.
    fn step(&self) -> Duration {
        self.head.min(self.idle).min(self.stall) / 4
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
    /// Those of them that wait for the origin.
    waiting: usize,
    /// Whether to find out if the client has taken anything.
    probes: bool,
    /// The last time that something was done about a request.
    quiet: Instant,
    /// Whether and how the connection was told to end.
    told: Option<End>,
    /// Whether the system was offered more than it has asked for since nothing could be written.
    topped: bool,
    /// Whether something is written and not yet flushed.
    unflushed: bool,
}

/// How a connection is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    Probe,
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
            waiting: 0,
            probes: false,
            quiet: now,
            told: None,
            topped: false,
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
        state.waiting += 1;
        Open { is_waiting: true, life: Arc::clone(self) }
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

    /// Whether what is written is offered to the system although it has not said that there is room.
    fn probes(&self) -> bool {
        self.state().probes
    }

    fn set_probes(&self, probes: bool) {
        let mut state = self.state();
        state.probes = probes;
        state.topped = true;
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
                state.topped &= state.probes;
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
            if due <= now { verdict } else { Verdict::Wait(due.min(now + patience.step())) }
        };
        if let Some(blocked) = state.blocked {
            return match state.topped {
                true => or_wait(blocked + patience.stall, Verdict::Cut),
                false => or_wait(blocked + patience.step(), Verdict::Probe),
            };
        }
        if state.is_shared && state.open > 0 && state.waiting == 0 {
            return or_wait(state.quiet + patience.stall, Verdict::Cut);
        }
        if !state.is_idle() {
            return Verdict::Wait(now + patience.step());
        }
        match closing {
            Some(since) => {
                let last = if state.is_shared { LAST_FRAMES } else { LAST_WORDS };
                or_wait(state.quiet.max(since) + last, Verdict::Cut)
            }
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
pub struct Open {
    /// There is nothing that the client could take.
    is_waiting: bool,
    life: Arc<Life>,
}

impl Open {
    /// Whether the client has to wait for what comes next.
    pub fn waits(&mut self, is_waiting: bool) {
        let was_waiting = std::mem::replace(&mut self.is_waiting, is_waiting);
        let mut state = self.life.state();
        state.waiting -= usize::from(was_waiting);
        state.waiting += usize::from(is_waiting);
        state.quiet = Instant::now();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.waits(false);
        self.life.state().open -= 1;
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
        let this = self.project();
        let frame = this.body.poll_frame(cx);
        if let Some(open) = this.open {
            open.waits(frame.is_pending());
        }
        frame
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
            Verdict::Probe | Verdict::Cut => {
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

/// Fills the system's buffer to the brim. The system says that there is room when a third of it is free, which a slow
/// client may need minutes for; but what was full and can be filled again shows that something was taken meanwhile.
/// Whether the connection ends.
async fn probe(mut connection: Pin<&mut impl GracefulConnection>, life: &Life) -> bool {
    life.set_probes(true);
    let polled = std::future::poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx))).await;
    life.set_probes(false);
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
        if written.is_pending() && self.life.probes() {
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
        if written.is_pending() && self.life.probes() {
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

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PATIENCE: Patience = Patience {
        head: Duration::from_secs(20),
        idle: Duration::from_secs(60),
        stall: Duration::from_secs(30),
    };

    /// Moves the time until something is to be done; how many seconds that takes.
    async fn until_due(life: &Life, closing: Option<Instant>) -> (u64, Verdict) {
        let begun = Instant::now();
        loop {
            match life.verdict(&PATIENCE, closing) {
                Verdict::Wait(due) if begun.elapsed() > Duration::from_secs(1000) => {
                    return (1000, Verdict::Wait(due));
                }
                Verdict::Wait(due) => advance(due - Instant::now()).await,
                verdict => return (begun.elapsed().as_secs(), verdict),
            }
        }
    }

    fn wrote(life: &Life, length: usize) {
        life.wrote(&Poll::Ready(Ok(length)));
        life.flushed();
    }

    #[tokio::test(start_paused = true)]
    async fn f18_a_connection_has_so_long_for_its_first_head_whatever_else_it_does() {
        let life = Arc::new(Life::new());
        advance(5 * SECOND).await;
        life.read();
        wrote(&life, 100);
        assert_eq!(until_due(&life, None).await, (15, Verdict::Cut));
    }

    #[tokio::test(start_paused = true)]
    async fn f18_a_connection_is_idle_when_its_answers_are_written() {
        let life = Arc::new(Life::new());
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let open = life.open(version);
            assert_eq!(until_due(&life, None).await.0, 1000, "an open request may take as long as it takes");
            life.wrote(&Poll::Ready(Ok(100)));
            drop(open);
            assert_eq!(until_due(&life, None).await.0, 1000, "not all is written");
            life.flushed();
            let open = life.open(version);
            drop(open);
            assert!(life.idle().is_some());
            assert_eq!(until_due(&life, None).await, (60, Verdict::Close));
        }
        // Frames that keep a connection alive are nothing that is done for a request, others are.
        drop(life.open(Version::HTTP_2));
        for length in [17, 1000] {
            advance(50 * SECOND).await;
            wrote(&life, length);
        }
        assert_eq!(life.verdict(&PATIENCE, None), Verdict::Wait(Instant::now() + PATIENCE.step()));
        assert_eq!(until_due(&life, None).await, (60, Verdict::Close));
    }

    #[tokio::test(start_paused = true)]
    async fn f18_a_later_head_has_its_time_from_its_first_byte() {
        let life = Arc::new(Life::new());
        drop(life.open(Version::HTTP_11));
        advance(10 * SECOND).await;
        life.read();
        advance(5 * SECOND).await;
        life.read();
        assert_eq!(until_due(&life, None).await, (15, Verdict::Close));
        // What an HTTP/2 client sends need not be a head.
        drop(life.open(Version::HTTP_2));
        life.read();
        assert_eq!(until_due(&life, None).await, (60, Verdict::Close));
    }

    #[tokio::test(start_paused = true)]
    async fn f18_a_client_that_takes_nothing_is_cut_off_and_one_that_takes_little_is_not() {
        let life = Arc::new(Life::new());
        let _open = life.open(Version::HTTP_11);
        for _ in 0..100 {
            life.wrote(&Poll::Ready(Ok(1)));
            life.wrote(&Poll::Pending);
            advance(29 * SECOND).await;
            assert_ne!(life.verdict(&PATIENCE, None), Verdict::Cut);
        }
        life.wrote(&Poll::Ready(Ok(1)));
        life.wrote(&Poll::Pending);
        let (first, verdict) = until_due(&life, None).await;
        assert_eq!(verdict, Verdict::Probe);
        life.set_probes(true);
        life.wrote(&Poll::Pending);
        life.set_probes(false);
        let (second, verdict) = until_due(&life, None).await;
        assert_eq!((first + second, verdict), (30, Verdict::Cut));
        // There is room, although the system has not said so.
        life.set_probes(true);
        life.wrote(&Poll::Ready(Ok(1)));
        life.wrote(&Poll::Pending);
        life.set_probes(false);
        assert_eq!(until_due(&life, None).await, (30, Verdict::Cut));
    }

    #[tokio::test(start_paused = true)]
    async fn f18_answers_that_nobody_takes_hold_no_connection() {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let life = Life::new();
            let life = Arc::new(life);
            let mut opens = [life.open(version), life.open(version)];
            opens[0].waits(false);
            let waiting = life.verdict(&PATIENCE, None);
            assert!(matches!(waiting, Verdict::Wait(_)), "the other one waits for the origin");
            tokio::time::advance(PATIENCE.stall * 4).await;
            assert!(matches!(life.verdict(&PATIENCE, None), Verdict::Wait(_)));
            opens[1].waits(false);
            tokio::time::advance(PATIENCE.stall).await;
            // HTTP/1 writes into its socket, which says whether that is taken.
            assert_eq!(life.verdict(&PATIENCE, None) == Verdict::Cut, version == Version::HTTP_2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f18_what_has_no_open_request_holds_no_drain() {
        let life = Arc::new(Life::new());
        let open = life.open(Version::HTTP_11);
        life.tell(End::WhenDone);
        let closing = Some(Instant::now());
        assert_eq!(until_due(&life, closing).await.0, 1000);
        drop(open);
        life.read();
        assert_eq!(until_due(&life, closing).await, (0, Verdict::Cut));
        // An HTTP/2 client has time to take the rest of an answer.
        drop(life.open(Version::HTTP_2));
        for _ in 0..10 {
            assert_eq!(life.verdict(&PATIENCE, closing), Verdict::Wait(Instant::now() + LAST_FRAMES));
            advance(SECOND).await;
            wrote(&life, 1000);
        }
        assert_eq!(until_due(&life, closing).await, (2, Verdict::Cut));
        assert_eq!((life.idle(), life.told()), (None, Some(End::WhenDone)));
        life.tell(End::Now);
        life.tell(End::WhenDone);
        assert_eq!(life.told(), Some(End::Now));
    }
}
