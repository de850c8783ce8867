//! The bytes of a client's connection: plain, or inside TLS.
//!
//! What tells whether a client takes what it is sent is the socket, not TLS around it, which keeps up to 64 KiB for a socket
//! that is full. So [`Tcp`] reports what was written, whatever is above it. A handshake happens when something is read or
//! written for the first time: until there is a request, it has the time of one (`head`).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use super::Activity;

/// A socket that reports what is written to it.
pub(super) struct Tcp {
    activity: Arc<Activity>,
    stream: TcpStream,
}

pub(super) enum Transport {
    Plain(Tcp),
    Shaking(Box<Accept<Tcp>>),
    Tls(Box<TlsStream<Tcp>>),
    /// The handshake has failed.
    Failed,
}

impl Transport {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>, tls: Option<&TlsAcceptor>) -> Self {
        let tcp = Tcp { activity, stream };
        match tls {
            Some(tls) => Self::Shaking(Box::new(tls.accept(tcp))),
            None => Self::Plain(tcp),
        }
    }

    /// What was not sent is not kept by the system when the connection is closed.
    pub(super) fn forget_unsent(&self) {
        let tcp = match self {
            Self::Plain(tcp) => Some(tcp),
            Self::Shaking(accept) => accept.get_ref(),
            Self::Tls(tls) => Some(tls.get_ref().0),
            Self::Failed => None,
        };
        if let Some(tcp) = tcp {
            let _ = tcp.stream.set_zero_linger();
        }
    }

    /// The stream that carries HTTP, after the handshake.
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut dyn Stream>>> {
        if let Self::Shaking(accept) = self {
            let accepted = ready!(Pin::new(accept.as_mut()).poll(cx));
            *self = Self::Failed;
            *self = Self::Tls(Box::new(accepted?));
        }
        Poll::Ready(match self {
            Self::Plain(tcp) => Ok(Pin::new(tcp)),
            Self::Tls(tls) => Ok(Pin::new(tls.as_mut())),
            Self::Shaking(_) | Self::Failed => Err(io::ErrorKind::NotConnected.into()),
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_stream(cx))?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_stream(cx))?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_stream(cx))?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true // so are sockets, and TLS takes what it is given
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_stream(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            // Nobody is there to be told that it ends.
            Self::Shaking(_) | Self::Failed => Poll::Ready(Ok(())),
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if written.is_pending() && self.activity.is_probing() {
            let bytes = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
            written = match write_now(&self.stream, bytes) {
                Ok(0) => Poll::Pending,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                written => Poll::Ready(written),
            };
        }
        self.activity.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.activity.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Writes what there is room for, even if tokio knows of none.
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Read;
    use std::time::Duration;

    use http::Version;
    use rustls::crypto::ring;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

    use super::super::{ObservedIo, Socket};
    use super::*;

    /// A server and a client who trusts it.
    fn configs() -> (TlsAcceptor, ClientConfig) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let provider = Arc::new(ring::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = server.with_single_cert(vec![certificate.clone()], key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder_with_provider(provider);
        let client = client.with_safe_default_protocol_versions().unwrap();
        (TlsAcceptor::from(Arc::new(server)), client.with_root_certificates(roots).with_no_client_auth())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_tls_keeps_for_a_full_socket_goes_out_when_there_is_room() {
        let (acceptor, config) = configs();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let activity = Arc::new(Activity::new());
        drop(activity.open_request(Version::HTTP_2));
        let accepted = TcpStream::from_std(accepted).unwrap();
        let socket = Socket::new(accepted, Arc::clone(&activity), Some(&acceptor));
        let mut io = ObservedIo::new(&socket);
        let (may_read, reads) = std::sync::mpsc::channel::<usize>();
        let client = std::thread::spawn(move || {
            let connection =
                ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
            let mut client = StreamOwned::new(connection, stream);
            let mut begin = [0; 1024];
            client.read_exact(&mut begin).unwrap(); // which makes the handshake
            let mut rest = vec![0; reads.recv().unwrap() - begin.len()];
            client.read_exact(&mut rest).unwrap();
        });
        let mut written = 0;
        poll_fn(|cx| {
            while !activity.is_blocked() {
                match Pin::new(&mut io).poll_write(cx, &[7; 1024]) {
                    Poll::Ready(length) => written += length.unwrap(),
                    Poll::Pending => return Poll::Pending,
                }
                assert!(!socket.has_failed_to_flush(cx));
                if socket.has_collected() {
                    return Poll::Pending; // the handshake
                }
            }
            Poll::Ready(())
        })
        .await;
        assert!(!socket.has_collected(), "TLS has it all");
        may_read.send(written).unwrap();
        // Nobody writes any more: only the task that drives the connection is there.
        let flushed = poll_fn(|cx| {
            assert!(!socket.has_failed_to_flush(cx));
            if activity.is_blocked() { Poll::Pending } else { Poll::Ready(()) }
        });
        tokio::time::timeout(Duration::from_secs(30), flushed).await.expect("all is flushed");
        tokio::task::spawn_blocking(move || client.join().unwrap()).await.unwrap();
    }
}
