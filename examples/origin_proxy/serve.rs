//! A server for any tower service: HTTP/1.1 and HTTP/2 on one port, drained when it is told to stop.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::uri::Scheme;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use pin_project_lite::pin_project;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tower::Service;

use crate::accept::{Place, Places};
use crate::calls::{Calls, Turns};
use crate::interim::{Connection, InterimIo, WithInterim};
use crate::life::{self, Answer, Life, LiveIo};
use crate::limits::Limits;
use crate::stop::Stop;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long connections may finish what they are at, unless it is said otherwise.
pub const DRAIN: Duration = Duration::from_secs(10);

/// Who asks, in the extensions of requests.
#[derive(Clone)]
pub struct Client {
    pub address: IpAddr,
    /// Whether the request is answered. What goes on with it is done for others.
    answered: Arc<AtomicBool>,
    turns: Turns,
}

impl Client {
    /// By what the client gets its calls, as long as it waits for its answer.
    pub fn turns(&self) -> Option<&Turns> {
        (!self.answered.load(Ordering::SeqCst)).then_some(&self.turns)
    }
}

/// In the extensions of requests. Who holds one when the request is answered keeps a drain waiting, within its limit,
/// and the place of the connection taken.
#[derive(Clone)]
#[expect(dead_code, reason = "what counts is when it is dropped")]
pub struct Open(mpsc::Sender<Infallible>, Arc<Place>);

pub async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("can't listen on {address}: {error}"))
}

/// Serves until it is to stop, then lets open requests end, for as long as `drain` or until it is to stop at once.
pub async fn serve<S, B>(listener: TcpListener, service: S, limits: Limits, drain: Duration, mut stop: Stop)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let builder = builder(&limits);
    let places = Arc::new(Places::new(limits.connections, limits.connections_per_address));
    let calls = Calls::new(limits.calls);
    let (open, mut closed) = mpsc::channel(1);
    loop {
        let (stream, place) = tokio::select! {
            accepted = places.accept(&listener) => accepted,
            () = stop.asked() => break,
        };
        let _ = stream.set_nodelay(true);
        let connection = Connection::default();
        let life = Arc::clone(&place.life);
        let (address, turns) = (place.client, calls.of(place.address));
        let open = Open(open.clone(), Arc::new(place));
        let io = InterimIo::new(TokioIo::new(LiveIo::new(stream, Arc::clone(&life))), connection.clone());
        let service = WithInterim {
            connection,
            service: WithClient {
                address,
                life: Arc::clone(&life),
                open: open.clone(),
                service: service.clone(),
                turns,
            },
        };
        let served = builder.serve_connection_with_upgrades(io, TowerToHyperService::new(service));
        let served = served.into_owned();
        tokio::spawn(async move {
            // An error ends one connection; its client knows.
            life::watch(served, life, limits.patience).await;
            drop(open);
        });
    }
    drop((listener, open));
    places.drain();
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
        // A client that has ended its direction may still read.
        .half_close(true)
        // `life` has the time limits.
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

/// Adds who asks, the scheme by which it has come, and that it is open, to each request.
#[derive(Clone)]
struct WithClient<S> {
    address: IpAddr,
    life: Arc<Life>,
    open: Open,
    service: S,
    turns: Turns,
}

impl<S, B, C> Service<Request<B>> for WithClient<S>
where
    S: Service<Request<B>, Response = Response<C>>,
{
    type Response = Response<Answer<C>>;
    type Error = S::Error;
    type Future = Answered<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let open = Some(self.life.open(request.version()));
        let answered = Arc::new(AtomicBool::new(false));
        let client =
            Client { address: self.address, answered: Arc::clone(&answered), turns: self.turns.clone() };
        request.extensions_mut().insert(client);
        request.extensions_mut().insert(Scheme::HTTP); // whatever the target says: there is no TLS here
        request.extensions_mut().insert(self.open.clone());
        Answered { answered, future: self.service.call(request), open }
    }
}

pin_project! {
    /// An answer on its way; its request is open.
    struct Answered<F> {
        answered: Arc<AtomicBool>,
        #[pin]
        future: F,
        open: Option<life::Open>,
    }
}

impl<F, C, E> Future for Answered<F>
where
    F: Future<Output = Result<Response<C>, E>>,
{
    type Output = Result<Response<Answer<C>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.future.poll(cx))?;
        this.answered.store(true, Ordering::SeqCst);
        let mut open = this.open.take();
        if let Some(open) = &mut open {
            open.waits(false); // the answer's head is there
        }
        Poll::Ready(Ok(answer.map(|body| Answer { body, open })))
    }
}
