//! A client's socket.
//!
//! hyper's HTTP/2 server writes and flushes each DATA frame by itself: a system call for each small response, although
//! many are ready at once. Here such writes are collected, and the task that drives the connection flushes them when
//! hyper has nothing more to write. HTTP/1 writes pass as they come: one is a whole response anyway, and after a switch
//! of protocols nobody drives the connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::Activity;
use super::transport::Transport;

/// The most bytes that are collected. A larger write saves little by being part of another one, and is not copied.
const COLLECTED: usize = 32 << 10;

/// A client's socket that reports what it reads and writes. hyper has one handle of it, the task that drives hyper has
/// the other one.
pub struct Socket {
    activity: Arc<Activity>,
    state: Mutex<State>,
}

struct State {
    /// What was taken from hyper, of which `written` bytes are written. It has no memory while it is empty.
    collected: Vec<u8>,
    /// Whether what was collected is written, and TLS has not written all of it.
    is_flushing: bool,
    stream: Transport,
    written: usize,
}

impl Socket {
    /// A connection that speaks TLS if there is an acceptor.
    pub fn new(stream: TcpStream, activity: Arc<Activity>, tls: Option<&TlsAcceptor>) -> Arc<Self> {
        let stream = Transport::new(stream, Arc::clone(&activity), tls);
        let state = State { collected: Vec::new(), is_flushing: false, stream, written: 0 };
        Arc::new(Self { activity, state: Mutex::new(state) })
    }

    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    pub(super) fn has_collected(&self) -> bool {
        !self.state().collected.is_empty()
    }

    /// Writes what was collected, as far as there is room; whether the connection is broken.
    pub(super) fn has_failed_to_flush(&self, cx: &mut Context<'_>) -> bool {
        if !self.activity.is_http2() {
            return false;
        }
        let mut state = self.state();
        if state.collected.is_empty() && !state.is_flushing {
            return false;
        }
        match state.poll_write_collected(cx) {
            Poll::Ready(Ok(())) => {
                let flushed = state.poll_flush(cx);
                state.is_flushing = flushed.is_pending();
                matches!(flushed, Poll::Ready(Err(_)))
            }
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        activity: &Activity,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !activity.is_http2() {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        }
        let length = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if self.collected.len() + length > COLLECTED {
            ready!(self.poll_write_collected(cx))?;
        }
        if length > COLLECTED {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        }
        if self.collected.is_empty() {
            self.collected.reserve_exact(COLLECTED);
        }
        slices.iter().for_each(|slice| self.collected.extend_from_slice(slice));
        activity.collected();
        Poll::Ready(Ok(length))
    }

    fn poll_write_collected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.collected.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        (self.collected, self.written) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

/// hyper's handle of a socket.
pub struct ObservedIo(Arc<Socket>);

impl ObservedIo {
    pub fn new(socket: &Arc<Socket>) -> Self {
        Self(Arc::clone(socket))
    }
}

impl Drop for ObservedIo {
    fn drop(&mut self) {
        if self.0.activity.is_blocked() {
            // The client will not take what it has not taken, so the system need not keep it.
            self.0.state().stream.forget_unsent();
        }
    }
}

impl AsyncRead for ObservedIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.0.state().stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.0.activity.read();
        }
        read
    }
}

impl AsyncWrite for ObservedIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.state().poll_write(cx, &self.0.activity, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.state().poll_write(cx, &self.0.activity, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.state().stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.state();
        if !state.collected.is_empty() {
            return Poll::Ready(Ok(())); // the task that drives the connection flushes in a moment
        }
        state.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.state();
        ready!(state.poll_write_collected(cx))?;
        Pin::new(&mut state.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Read;

    use http::Version;
    use tokio::io::AsyncWriteExt;

    use super::*;

    struct Bench {
        client: std::net::TcpStream,
        io: ObservedIo,
        socket: Arc<Socket>,
    }

    impl Bench {
        /// A connection on which a request has come.
        async fn new(version: Version) -> Self {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            client.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
            let (stream, _) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            let activity = Arc::new(Activity::new());
            drop(activity.open_request(version));
            let socket = Socket::new(TcpStream::from_std(stream).unwrap(), activity, None);
            Self { client, io: ObservedIo::new(&socket), socket }
        }

        /// Writes as hyper does.
        async fn write(&mut self, bytes: &[u8]) {
            self.io.write_all(bytes).await.unwrap();
            self.io.flush().await.unwrap();
        }

        async fn flush(&self) {
            let flushed = |cx: &mut Context<'_>| {
                assert!(!self.socket.has_failed_to_flush(cx));
                if self.socket.has_collected() { Poll::Pending } else { Poll::Ready(()) }
            };
            poll_fn(flushed).await;
        }

        #[track_caller]
        fn client_reads(&mut self, bytes: &[u8]) {
            let mut read = vec![0; bytes.len()];
            self.client.read_exact(&mut read).unwrap();
            assert!(read == bytes, "in order");
        }

        /// How many bytes wait for the flush.
        fn collected(&self) -> usize {
            self.socket.state().collected.len()
        }
    }

    #[tokio::test]
    async fn small_http2_writes_wait_for_the_task_that_drives_the_connection() {
        let mut bench = Bench::new(Version::HTTP_2).await;
        for bytes in [b"one", b"two"] {
            bench.write(bytes).await;
        }
        assert_eq!(bench.collected(), 6);
        assert_eq!(bench.socket.activity.idle_since(), None, "not all is written");
        bench.flush().await;
        assert!(bench.socket.activity.idle_since().is_some());
        assert_eq!(bench.socket.state().collected.capacity(), 0, "an idle connection has no buffer");
        bench.client_reads(b"onetwo");
    }

    #[tokio::test]
    async fn http1_writes_go_out_at_once() {
        let mut bench = Bench::new(Version::HTTP_11).await;
        bench.write(b"one").await;
        assert_eq!(bench.collected(), 0);
        bench.client_reads(b"one");
    }

    #[tokio::test]
    async fn http2_writes_keep_their_order_whatever_their_size() {
        for large in [COLLECTED - 1, COLLECTED, COLLECTED + 1] {
            let mut bench = Bench::new(Version::HTTP_2).await;
            let large = vec![b'x'; large];
            for bytes in [b"one", &large[..], b"two"] {
                bench.write(bytes).await;
                assert!(bench.collected() <= COLLECTED);
            }
            bench.flush().await;
            bench.client_reads(&[b"one", &large[..], b"two"].concat());
        }
    }

    #[tokio::test]
    async fn collected_writes_go_out_before_the_connection_is_shut_down() {
        let mut bench = Bench::new(Version::HTTP_2).await;
        bench.write(b"one").await;
        bench.io.shutdown().await.unwrap();
        bench.client_reads(b"one");
        assert_eq!(bench.client.read(&mut [0]).unwrap(), 0);
    }
}
