//! Interim responses of the origin (RFC 9110 15.2), written to the client past hyper, whose HTTP/1 server sends final
//! responses only.
//!
//! A tower service returns one response, so interim ones take another way: the server opens an [`Exchange`] for each
//! request, the client of the origin hands them to it, and [`InterimIo`], the connection's I/O, writes them where one
//! message has ended and the next one has not begun.
//!
//! # Where that is
//!
//! Interim responses are written only while `State::boundary` holds. It begins when hyper flushes its I/O while
//! an exchange is open, that is, while its request is called and not yet answered. It ends when hyper writes, and when
//! the next exchange is opened. While it holds, the wire is between two messages:
//!
//! 1. hyper flushes its I/O only when it has written all that it has encoded (`Buffered::poll_flush`).
//! 2. It calls the service for a request only when the response before is encoded to its end
//!    (`State::idle`). That response may still wait in hyper's buffer: a client can send the end of its
//!    content, and its next request, before it reads. So it is the flush after the call that makes the
//!    boundary, not the call.
//! 3. It encodes the final response only when the service has answered. All that it may encode before is
//!    `100 Continue`, a message by itself.
//! 4. What it encodes after the flush reaches the wire by a write. Interim responses go before that write or
//!    wait for the next boundary.
//!
//! An interim response may be lost, but must never be in the wrong place. So it is dropped when its request is
//! answered already or is not the connection's last one, when the answer is encoded before there was a
//! boundary, and beyond `MAX_HEADS` and `MAX_BYTES`.
//!
//! A 101 is a final response here: hyper writes it, and its request is answered then. Since no request comes after
//! it, there is no boundary any more, and what the tunnel writes passes untouched.
//!
//! An HTTP/1.0 client must not get any (RFC 9110 15.2), and for an HTTP/2 client hyper would have to frame
//! them: for their requests no [`Exchange`] is opened.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use http::header::{self, HeaderMap};
use hyper::rt::{Read, ReadBufCursor, Write};
use larder::semantics::fields::remove_hop_by_hop;

/// How many interim responses one request gets.
const MAX_HEADS: usize = 16;

/// How many bytes they have in all.
const MAX_BYTES: usize = 16 << 10;

/// What the service and the I/O of one connection share.
#[derive(Clone, Default)]
pub struct Connection(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Whether the I/O has anything to look for: an exchange that is open, or a boundary. Most exchanges end without an
    /// interim response before hyper writes or flushes, and in HTTP/2 there is none.
    is_active: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of the last request.
    allowance: Allowance,
    /// Whether the wire is where interim responses of the last request may go.
    boundary: bool,
    /// Whether the service has been called for the last request and has not answered.
    open: bool,
    /// Whole heads, of the last request only.
    queued: BytesMut,
    /// Counts the requests; it is the name of the last one.
    request: u64,
    /// Wakes the task that flushes.
    task: Option<Waker>,
}

#[derive(Default)]
struct Allowance {
    bytes: usize,
    heads: usize,
}

impl Connection {
    /// The service is called for the next request.
    pub fn open(&self) -> Exchange {
        let mut state = self.state();
        self.0.is_active.store(true, Ordering::Release);
        state.request += 1;
        state.allowance = Allowance { bytes: MAX_BYTES, heads: MAX_HEADS };
        state.boundary = false;
        state.open = true;
        state.queued.clear();
        Exchange { connection: self.clone(), request: state.request }
    }

    /// hyper flushes: it has written all that it has. Returns what may be written now.
    fn flushes(&self, cx: &Context<'_>) -> Bytes {
        let mut state = self.state();
        state.boundary |= state.open;
        if !state.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            state.task = Some(cx.waker().clone());
        }
        state.due()
    }

    /// hyper writes, after what this returns.
    fn writes(&self) -> Bytes {
        let mut state = self.state();
        let due = state.due();
        state.boundary &= !due.is_empty();
        self.rests(&state);
        due
    }

    /// Lets the I/O pass if nothing can become due before the next exchange.
    fn rests(&self, state: &State) {
        if !state.open && !state.boundary {
            self.0.is_active.store(false, Ordering::Release);
        }
    }

    fn is_active(&self) -> bool {
        self.0.is_active.load(Ordering::Acquire)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What may be written now.
    fn due(&mut self) -> Bytes {
        if self.boundary && !self.queued.is_empty() { self.queued.split().freeze() } else { Bytes::new() }
    }
}

/// A request and its responses, by which interim ones are sent.
#[derive(Clone)]
pub struct Exchange {
    connection: Connection,
    request: u64,
}

impl Exchange {
    /// Sends an interim response, if there is still a place for it.
    pub fn send(&self, status: StatusCode, fields: &HeaderMap) {
        let Some(head) = head(status, fields) else {
            return;
        };
        let mut state = self.connection.state();
        let fits = state.allowance.heads > 0 && state.allowance.bytes >= head.len();
        if state.request != self.request || !state.open || !fits {
            return;
        }
        state.allowance.heads -= 1;
        state.allowance.bytes -= head.len();
        state.queued.extend_from_slice(&head);
        // Without one, the flush is yet to come.
        let task = state.task.clone();
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// The request is answered, or will not be.
    pub fn close(&self) {
        let mut state = self.connection.state();
        if state.request == self.request {
            state.open = false;
            self.connection.rests(&state);
        }
    }
}

/// An interim response as it is forwarded; none if it ends at this hop.
fn head(status: StatusCode, fields: &HeaderMap) -> Option<Vec<u8>> {
    // hyper answers `Expect` itself, and a switch of protocols is the last response of its connection.
    let own = status == StatusCode::CONTINUE || status == StatusCode::SWITCHING_PROTOCOLS;
    if own || !status.is_informational() {
        return None;
    }
    let mut fields = fields.clone();
    remove_hop_by_hop(&mut fields);
    // RFC 9110 8.6, RFC 9112 6.1: neither is in a 1xx, and a recipient that believed one would read the final
    // response as content.
    fields.remove(header::CONTENT_LENGTH);
    fields.remove(header::TRANSFER_ENCODING);
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    for (name, value) in &fields {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    // RFC 9110 7.6.3: in each message that is forwarded.
    head.extend_from_slice(b"via: 1.1 larder\r\n\r\n");
    Some(head)
}

/// I/O of a connection that writes interim responses between those of hyper.
pub struct InterimIo<I> {
    connection: Connection,
    io: I,
    /// Begun, so it goes before all else.
    rest: Bytes,
}

impl<I: Write + Unpin> InterimIo<I> {
    pub fn new(io: I, connection: Connection) -> Self {
        Self { connection, io, rest: Bytes::new() }
    }

    /// Writes interim responses until `next` has no more.
    fn poll_interim(
        &mut self,
        cx: &mut Context<'_>,
        next: impl Fn(&Connection, &Context<'_>) -> Bytes,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() && !self.connection.is_active() {
            return Poll::Ready(Ok(()));
        }
        loop {
            while !self.rest.is_empty() {
                match ready!(Pin::new(&mut self.io).poll_write(cx, &self.rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => self.rest.advance(written),
                }
            }
            self.rest = next(&self.connection, cx);
            if self.rest.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// What goes before a write of hyper.
    fn poll_before_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_interim(cx, |connection, _| connection.writes())
    }
}

impl<I: Read + Unpin> Read for InterimIo<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<I: Write + Unpin> Write for InterimIo<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_before_write(cx))?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_before_write(cx))?;
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interim(cx, Connection::flushes))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
