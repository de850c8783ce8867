//! Connections to the origin: which request goes over which one.
//!
//! An origin may answer a request and leave its content unread. If the connection is then used again, the origin reads
//! that content as the next request, and its response to bytes that one client wrote becomes the response to another
//! client's request: response queue poisoning. A cache would store it under the other client's URI. So a connection
//! that carries content carries nothing else: it is made for one request and closed after the response. Requests
//! without content share connections, on which the origin never reads anything but requests of this proxy.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Empty;
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{Builder, Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

use crate::connector::Connector;
use crate::progress::Progress;
use crate::retry::{copy, is_repeatable, was_closed_meanwhile};
use crate::traffic::Traffic;

/// How long a connection without a request is kept.
const IDLE: Duration = Duration::from_secs(60);

/// The send buffer of a connection that carries content. Bytes that the system has buffered but not sent look like
/// progress, so the buffer is small: of an upload that the origin reads slowly, the writes show the progress.
const SEND_BUFFER: usize = 256 << 10;

/// An HTTP client of the origin.
pub struct Sender<B> {
    /// Makes a connection for each request, and closes it after the response.
    content: Client<Connector, B>,
    /// The same, for a request that is retried.
    fresh: Client<Connector, Empty<Bytes>>,
    /// Keeps connections open, none of which has carried content.
    pooled: Client<Connector, B>,
}

/// Bounds on connections to the origin, and on its responses.
#[derive(Clone, Copy)]
pub struct Bounds {
    /// The most fields of a response.
    pub fields: usize,
    /// The most idle connections that are kept.
    pub idle: usize,
}

impl<B> Sender<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// `timeout` limits how long connecting takes, with the handshake of TLS.
    pub fn new(timeout: Duration, bounds: Bounds, tls: &Arc<ClientConfig>) -> Self {
        let connector = |send_buffer| Connector::new(timeout, send_buffer, tls);
        let one_each = |builder: &mut Builder| builder.pool_max_idle_per_host(0).clone();
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).http1_max_headers(bounds.fields);
        let pooled = builder.clone().pool_max_idle_per_host(bounds.idle).build(connector(None));
        let builder = one_each(&mut builder);
        let fresh = builder.build(connector(None));
        let content = builder.build(connector(Some(SEND_BUFFER)));
        Self { content, fresh, pooled }
    }

    /// `progress` observes the connection that the request is sent over.
    pub async fn send(
        &self,
        mut request: Request<B>,
        progress: &Progress,
    ) -> Result<Response<Incoming>, Error> {
        if carries_content(&request) {
            // RFC 9112 9.6. A switch of protocols has this field already, and its connection is used for nothing else.
            request.headers_mut().entry(header::CONNECTION).or_insert(HeaderValue::from_static("close"));
            progress.observe(capture_connection(&mut request));
            return self.content.request(request).await;
        }
        let again = is_repeatable(&request).then(|| copy(&request, Empty::new()));
        progress.observe(capture_connection(&mut request));
        match self.pooled.request(request).await {
            Ok(mut response) => {
                if let Some(traffic) = response.extensions_mut().remove::<Traffic>() {
                    traffic.answered();
                }
                Ok(response)
            }
            Err(error) => match again {
                Some(mut again) if was_closed_meanwhile(&error) => {
                    progress.observe(capture_connection(&mut again));
                    self.fresh.request(again).await
                }
                _ => Err(error),
            },
        }
    }
}

/// Whether anything can follow the head of this request on its connection.
pub fn carries_content<B: Body>(request: &Request<B>) -> bool {
    let length = request.headers().get(header::CONTENT_LENGTH);
    !request.body().is_end_stream()
        || request.headers().contains_key(header::TRANSFER_ENCODING)
        || length.is_some_and(|length| length != "0")
}
