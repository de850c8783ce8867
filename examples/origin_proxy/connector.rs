//! Makes connections to the origin, over TLS if its URL says so.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::time;
use tower::{BoxError, Service};

use crate::traffic::Watched;

#[derive(Clone)]
pub struct Connector {
    inner: HttpsConnector<HttpConnector>,
    timeout: Duration,
}

impl Connector {
    /// `timeout` limits how long connecting takes, with the handshake of TLS; the latter has no limit of its own.
    pub fn new(timeout: Duration, send_buffer: Option<usize>, tls: &Arc<ClientConfig>) -> Self {
        let mut tcp = HttpConnector::new();
        // The scheme is for the layer around it.
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(timeout));
        tcp.set_send_buffer_size(send_buffer);
        Self { inner: HttpsConnector::from((tcp, Arc::clone(tls))), timeout }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Watched>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Watched>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, origin: Uri) -> Self::Future {
        let connected = time::timeout(self.timeout, self.inner.call(origin));
        Box::pin(async move {
            let stream = connected.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Ok(Watched::over(stream))
        })
    }
}
