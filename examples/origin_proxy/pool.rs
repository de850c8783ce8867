//! Connections to the origin: which request goes over which one.
//!
//! An origin may answer a request and leave its content unread. If its connection is then used again, the origin reads
//! that content as the next request, and its answer to what a client wrote there becomes the answer to another
//! client's request: response queue poisoning. A cache would store it under the other client's URI. So a connection
//! that carries content carries nothing else: it is made for one request, and closed after the answer to it. Requests
//! without content share connections, on which the origin has never found anything but requests of this proxy.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Empty;
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::client::legacy::{Builder, Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower::ServiceExt;
use tower::util::MapResponse;

use crate::progress::Progress;
use crate::retry::{copy, is_repeatable, was_closed_meanwhile};
use crate::traffic::{Traffic, Watched};

type Connector = MapResponse<HttpConnector, fn(TokioIo<TcpStream>) -> TokioIo<Watched>>;

/// How long a connection without a request is kept.
const IDLE: Duration = Duration::from_secs(60);

/// Of a connection that carries content. What the system has taken in but not sent looks like progress, so it may not
/// be much: an upload that the origin reads slowly is seen to go on by what is written of it.
const SEND_BUFFER: usize = 256 << 10;

/// A client of the origin.
pub struct Sender<B> {
    /// Has a connection for each request, which is closed after it.
    content: Client<Connector, B>,
    /// The same, for a request that is sent once more.
    fresh: Client<Connector, Empty<Bytes>>,
    /// Has connections that have carried no content.
    pooled: Client<Connector, B>,
}

/// Bounds on connections to the origin, and on what comes from there.
#[derive(Clone, Copy)]
pub struct Bounds {
    /// The fields of an answer.
    pub fields: usize,
    /// Connections that are kept without a request.
    pub idle: usize,
}

impl<B> Sender<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// `timeout` is for connecting.
    pub fn new(timeout: Duration, bounds: Bounds) -> Self {
        let one_each = |builder: &mut Builder| builder.pool_max_idle_per_host(0).clone();
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).http1_max_headers(bounds.fields);
        let pooled = builder.clone().pool_max_idle_per_host(bounds.idle).build(connector(timeout, None));
        let builder = one_each(&mut builder);
        let fresh = builder.build(connector(timeout, None));
        let content = builder.build(connector(timeout, Some(SEND_BUFFER)));
        Self { content, fresh, pooled }
    }

    /// `progress` gets to know the connection.
    pub async fn send(
        &self,
        mut request: Request<B>,
        progress: &Progress,
    ) -> Result<Response<Incoming>, Error> {
        if carries_content(&request) {
            // RFC 9112 9.6. A switch of protocols has this field already, and its connection is used for nothing else.
            request.headers_mut().entry(header::CONNECTION).or_insert(HeaderValue::from_static("close"));
            progress.is_of(capture_connection(&mut request));
            return self.content.request(request).await;
        }
        let again = is_repeatable(&request).then(|| copy(&request));
        progress.is_of(capture_connection(&mut request));
        match self.pooled.request(request).await {
            Ok(mut response) => {
                if let Some(traffic) = response.extensions_mut().remove::<Traffic>() {
                    traffic.answered();
                }
                Ok(response)
            }
            Err(error) => match again {
                Some(mut again) if was_closed_meanwhile(&error) => {
                    progress.is_of(capture_connection(&mut again));
                    self.fresh.request(again).await
                }
                _ => Err(error),
            },
        }
    }
}

fn connector(timeout: Duration, send_buffer: Option<usize>) -> Connector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(timeout));
    connector.set_send_buffer_size(send_buffer);
    connector.map_response(Watched::over)
}

/// Whether the origin could find anything behind the head of this request.
fn carries_content<B: Body>(request: &Request<B>) -> bool {
    let length = request.headers().get(header::CONTENT_LENGTH);
    !request.body().is_end_stream()
        || request.headers().contains_key(header::TRANSFER_ENCODING)
        || length.is_some_and(|length| length != "0")
}
