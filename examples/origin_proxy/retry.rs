//! A request that meets a connection which the origin has closed meanwhile is sent once more.
//!
//! An origin may close an idle connection at any time, also while a request is on its way (RFC 9112 9.3.1). The
//! client then reads the end of the connection in place of an answer, and cannot know whether the request was read.
//! So only an idempotent request (RFC 9110 9.2.2) without content is repeated, and only where the connection had
//! answered another request before and gave no byte to this one. It goes over a fresh connection, since the other
//! ones of the pool may be dead as well.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, Method, Request, Response, header};
use http_body_util::Empty;
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower::ServiceExt;
use tower::util::MapResponse;

type Connector = MapResponse<HttpConnector, fn(TokioIo<TcpStream>) -> TokioIo<Watched>>;

/// A client of the origin with a pool of connections.
pub struct Sender<B> {
    fresh: Client<Connector, Empty<Bytes>>,
    pooled: Client<Connector, B>,
}

impl<B> Clone for Sender<B> {
    fn clone(&self) -> Self {
        Self { fresh: self.fresh.clone(), pooled: self.pooled.clone() }
    }
}

impl<B> Sender<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// `timeout` is for connecting.
    pub fn new(timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(timeout));
        let connector: Connector = connector.map_response(Watched::over);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(60));
        let pooled = builder.build(connector.clone());
        // Without a pool, each request has a connection of its own.
        let fresh = builder.pool_max_idle_per_host(0).build(connector);
        Self { fresh, pooled }
    }

    pub async fn send(&self, request: Request<B>) -> Result<Response<Incoming>, Error> {
        let again = is_repeatable(&request).then(|| copy(&request));
        match self.pooled.request(request).await {
            Ok(mut response) => {
                if let Some(traffic) = response.extensions_mut().remove::<Traffic>() {
                    traffic.answered();
                }
                Ok(response)
            }
            Err(error) => match again {
                Some(again) if was_closed_meanwhile(&error) => self.fresh.request(again).await,
                _ => Err(error),
            },
        }
    }
}

fn is_repeatable<B: Body>(request: &Request<B>) -> bool {
    let is_idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    );
    is_idempotent
        && request.body().is_end_stream()
        && !request.headers().contains_key(header::TRANSFER_ENCODING)
}

fn copy<B>(request: &Request<B>) -> Request<Empty<Bytes>> {
    let mut copy = Request::new(Empty::new());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    copy
}

/// Whether the connection had answered before, and gave no byte to the request that failed.
fn was_closed_meanwhile(error: &Error) -> bool {
    let mut extras = Extensions::new();
    if let Some(connected) = error.connect_info() {
        connected.get_extras(&mut extras);
    }
    !error.is_connect() && extras.get::<Traffic>().is_some_and(Traffic::is_unanswered)
}

/// What went over one connection.
#[derive(Clone, Default)]
struct Traffic(Arc<Counts>);

/// A turn is a request and its responses; it begins with the first byte that is written after one was read.
#[derive(Default)]
struct Counts {
    /// The last turn whose final response came.
    answered: AtomicU64,
    /// Whether a byte was read in this turn.
    heard: AtomicBool,
    /// The turns so far.
    turn: AtomicU64,
}

impl Traffic {
    fn answered(&self) {
        self.0.answered.store(self.0.turn.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Whether the connection has answered before, but not in this turn. A connection that ends before the
    /// request is written has had no turn for it.
    fn is_unanswered(&self) -> bool {
        let (answered, turn) = (self.0.answered.load(Ordering::SeqCst), self.0.turn.load(Ordering::SeqCst));
        answered > 0 && (answered == turn || !self.0.heard.load(Ordering::SeqCst))
    }

    fn read(&self) {
        self.0.heard.store(true, Ordering::SeqCst);
    }

    fn writes(&self) {
        if self.0.heard.swap(false, Ordering::SeqCst) || self.0.turn.load(Ordering::SeqCst) == 0 {
            self.0.turn.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// A connection to the origin that keeps its [`Traffic`].
struct Watched {
    stream: TcpStream,
    traffic: Traffic,
}

impl Watched {
    fn over(stream: TokioIo<TcpStream>) -> TokioIo<Self> {
        TokioIo::new(Self { stream: stream.into_inner(), traffic: Traffic::default() })
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
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.traffic.writes();
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
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
