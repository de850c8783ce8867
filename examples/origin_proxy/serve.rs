//! A server for any tower service: HTTP/1.1 and HTTP/2 on one port, drained when it is told to stop.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use http::uri::Scheme;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tower::Service;

use crate::interim::{Connection, InterimIo, WithInterim};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long connections may finish what they are at, unless it is said otherwise.
pub const DRAIN: Duration = Duration::from_secs(10);

/// The address of the client, in the extensions of its requests.
#[derive(Clone, Copy)]
pub struct Client(pub SocketAddr);

/// In the extensions of requests. Who holds one when the request is answered keeps a drain waiting, within its limit.
#[derive(Clone)]
pub struct Open(#[expect(dead_code, reason = "what counts is when it is dropped")] mpsc::Sender<Infallible>);

pub async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("can't listen on {address}: {error}"))
}

/// Serves until `stop` is ready, then lets open requests end, for as long as `drain`.
pub async fn serve<S, B>(listener: TcpListener, service: S, drain: Duration, stop: impl Future<Output = ()>)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new());
    let draining = GracefulShutdown::new();
    let (open, mut closed) = mpsc::channel(1);
    let open = Open(open);
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(_) => {
                // Out of file descriptors, most likely: some will be free soon.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let connection = Connection::default();
        let io = InterimIo::new(TokioIo::new(stream), connection.clone());
        let service = WithInterim {
            connection,
            service: WithClient { address, open: open.clone(), service: service.clone() },
        };
        let served = builder.serve_connection_with_upgrades(io, TowerToHyperService::new(service));
        let served = served.into_owned();
        let served = draining.watch(served);
        // An error ends one connection; its client knows.
        tokio::spawn(async move { drop(served.await) });
    }
    drop((listener, open));
    let drained = async {
        draining.shutdown().await;
        closed.recv().await
    };
    let _ = tokio::time::timeout(drain, drained).await;
}

/// Ready on Ctrl-C, or when the process is asked to end.
pub async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else {
            let _ = tokio::signal::ctrl_c().await;
            return;
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    let _ = tokio::signal::ctrl_c().await;
}

/// Adds the client's address, the scheme by which it has come, and that it is open, to each request.
#[derive(Clone)]
struct WithClient<S> {
    address: SocketAddr,
    open: Open,
    service: S,
}

impl<S, B> Service<Request<B>> for WithClient<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        request.extensions_mut().insert(Client(self.address));
        request.extensions_mut().insert(Scheme::HTTP); // whatever the target says: there is no TLS here
        request.extensions_mut().insert(self.open.clone());
        self.service.call(request)
    }
}
