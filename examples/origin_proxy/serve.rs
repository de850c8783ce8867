//! A server for HTTP/1.1 and HTTP/2 on one port, with TLS or without. When it is asked to stop, it drains its connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::uri::Scheme;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use pin_project_lite::pin_project;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::accept::{Slot, Slots};
use crate::client::{Client, ClientConnection};
use crate::client_calls::ClientCalls;
use crate::client_tls::ClientTls;
use crate::connection::{self, Activity, ObservedBody, ObservedIo, OpenRequest, Socket};
use crate::interim::{self, InterimIo};
use crate::limits::Limits;
use crate::local_reply::Manner;
use crate::service_manager;
use crate::stop::Stop;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long open requests may take to end, unless an option sets it.
pub const DRAIN: Duration = Duration::from_secs(10);

/// Holds up a drain, up to its time limit, and keeps the slot of its connection.
#[expect(dead_code, reason = "what counts is when it is dropped")]
pub struct DrainGuard(mpsc::Sender<Infallible>, Slot);

pub async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("can't listen on {address}: {error}"))
}

/// Where clients connect, and how.
pub struct Entrance {
    pub listener: TcpListener,
    /// What is said to a connection for which there is no room.
    pub manner: Manner,
    /// `None` for plain connections.
    pub tls: Option<ClientTls>,
}

impl From<TcpListener> for Entrance {
    fn from(listener: TcpListener) -> Self {
        Self { listener, manner: Manner::default(), tls: None }
    }
}

/// Serves until it is asked to stop. Then it lets open requests end, for as long as `drain` or until it is asked again.
pub async fn serve<S, B>(entrance: Entrance, service: S, limits: Limits, drain: Duration, mut stop: Stop)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let builder = builder(&limits);
    let Entrance { listener, manner, tls } = entrance;
    let scheme = if tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    // Nothing can be said to a client of TLS before the handshake.
    let busy = tls.is_none().then_some(manner);
    let slots = Arc::new(Slots::new(limits.connections, limits.connections_per_address, busy));
    let calls = ClientCalls::new(limits.calls);
    let (open, mut closed) = mpsc::channel(1);
    loop {
        let (stream, slot) = tokio::select! {
            accepted = slots.accept(&listener) => accepted,
            () = stop.asked() => break,
        };
        let _ = stream.set_nodelay(true);
        let activity = Arc::clone(&slot.activity);
        let (address, calls) = (slot.client, calls.connection(slot.address));
        let drain_guard = Arc::new(DrainGuard(open.clone(), slot));
        let (scheme, guard) = (scheme.clone(), Arc::downgrade(&drain_guard));
        let client = ClientConnection { address, calls, drain_guard: guard, scheme };
        let acceptor = tls.as_ref().map(ClientTls::acceptor);
        let interim = interim::Connection::default();
        let socket = Socket::new(stream, Arc::clone(&activity), acceptor.as_ref());
        let io = InterimIo::new(TokioIo::new(ObservedIo::new(&socket)), interim.clone());
        let service =
            ConnectionService { activity, client: Arc::new(client), interim, service: service.clone() };
        let served = builder.serve_connection_with_upgrades(io, service).into_owned();
        tokio::spawn(async move {
            // An error ends one connection, which its client notices.
            connection::drive(served, socket, limits.timeouts).await;
            drop(drain_guard);
        });
    }
    drop((listener, open));
    service_manager::stopping();
    slots.drain();
    tokio::select! {
        _ = closed.recv() => {}
        () = tokio::time::sleep(drain) => {}
        () = stop.asked() => {}
    }
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    let head_size = limits.head_size as usize;
    builder
        .http1()
        .timer(TokioTimer::new())
        // A client that has shut down its direction may still read.
        .half_close(true)
        // `connection` has the timeouts.
        .header_read_timeout(None)
        .max_buf_size(head_size)
        .max_headers(limits.fields);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.ping)
        .keep_alive_timeout(limits.ping)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.head_size);
    builder
}

/// The service of one connection. It gives each request its client, and observes it until its response is complete.
struct ConnectionService<S> {
    activity: Arc<Activity>,
    client: Arc<ClientConnection>,
    interim: interim::Connection,
    service: S,
}

impl<S, B> Service<Request<Incoming>> for ConnectionService<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
{
    type Response = Response<ObservedBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let open = self.activity.open_request(request.version());
        let exchange = (request.version() == Version::HTTP_11).then(|| self.interim.open());
        let client = Client::new(&self.client, exchange);
        request.extensions_mut().insert(client.clone());
        // The connection says it, whatever the target does.
        let (scheme, named) = (&self.client.scheme, request.uri().scheme());
        if *scheme == Scheme::HTTPS || named.is_some_and(|named| named != scheme) {
            request.extensions_mut().insert(scheme.clone());
        }
        ResponseFuture { client, future: self.service.call(request), open: Some(open) }
    }
}

pin_project! {
    /// A response on its way; its request is open.
    struct ResponseFuture<F> {
        client: Client,
        #[pin]
        future: F,
        open: Option<OpenRequest>,
    }

    impl<F> PinnedDrop for ResponseFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            // The connection may end first.
            if this.open.is_some() {
                this.client.end_exchange();
            }
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ObservedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.future.poll(cx))?;
        // hyper writes the response only after this: no interim response follows it.
        this.client.set_answered();
        let mut open = this.open.take();
        if let Some(open) = &mut open {
            open.set_waiting(false); // there is a head to take
        }
        Poll::Ready(Ok(response.map(|body| ObservedBody::new(body, open))))
    }
}
