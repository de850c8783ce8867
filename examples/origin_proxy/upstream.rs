//! The way to the origin: a pooled HTTP/1.1 client as a tower service.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use larder::QueryBody;
use larder::semantics::fields::remove_hop_by_hop;
use thiserror::Error;
use tower::Service;
use tower_http::timeout::TimeoutBody;

use crate::interim::Exchange;
use crate::serve;

pub const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

#[derive(Debug, Error)]
pub enum UpstreamError {
    #[error("the origin can't be reached: {0}")]
    Unreachable(#[from] hyper_util::client::legacy::Error),
    #[error("the origin switches protocols, unasked")]
    Switches,
    #[error("the origin takes too long")]
    TooSlow,
}

/// A client's body, that of a QUERY taken in.
pub type RequestBody = QueryBody<Incoming>;

/// A body of the origin's, each frame of which has to come in time.
pub type OriginBody = TimeoutBody<Incoming>;

/// Sends requests to one origin.
#[derive(Clone)]
pub struct Upstream {
    client: Client<HttpConnector, RequestBody>,
    host: HeaderValue,
    id: HeaderValue,
    origin: Uri,
    timeout: Duration,
}

impl Upstream {
    /// `origin` is `http://HOST[:PORT]/`; `id` tells this proxy from all others in `CDN-Loop`.
    pub fn new(origin: Uri, id: HeaderValue, timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(timeout));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .build(connector);
        let host = origin.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
        Self { client, host: host.unwrap_or(HeaderValue::from_static("")), id, origin, timeout }
    }

    /// The request as the origin gets it.
    fn rewrite(&self, mut request: Request<RequestBody>) -> Request<RequestBody> {
        let mut uri = self.origin.clone().into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.path_and_query = request.uri().path_and_query().cloned().or(Some(PathAndQuery::from_static("/")));
        let authority = request.uri().authority().map(|host| host.as_str().to_owned());
        *request.version_mut() = Version::HTTP_11;
        let client = request.extensions().get::<serve::Client>().copied();
        let has_open_content =
            !request.body().is_end_stream() && request.body().size_hint().exact().is_none();
        let headers = request.headers_mut();
        remove_hop_by_hop(headers);
        if has_open_content && !headers.contains_key(header::CONTENT_LENGTH) {
            // Unless it is told, hyper takes a GET whose content has no length for one without content.
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let named = authority.and_then(|host| HeaderValue::from_str(&host).ok());
        if let Some(host) = named.or_else(|| headers.get(header::HOST).cloned()) {
            headers.insert(FORWARDED_HOST, host);
        }
        headers.insert(header::HOST, self.host.clone());
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
        if let Some(serve::Client(address)) = client
            && let Ok(address) = HeaderValue::from_str(&address.ip().to_string())
        {
            append(headers, FORWARDED_FOR, &address);
        }
        append(headers, header::VIA, &HeaderValue::from_static("1.1 larder"));
        append(headers, CDN_LOOP, &self.id);
        if let Ok(uri) = Uri::from_parts(uri) {
            *request.uri_mut() = uri;
        }
        request
    }
}

/// Appends a member to a list field, in one line.
pub fn append(headers: &mut HeaderMap, name: HeaderName, member: &HeaderValue) {
    if !headers.contains_key(&name) {
        headers.insert(name, member.clone());
        return;
    }
    let lines: Vec<_> =
        headers.get_all(&name).into_iter().chain([member]).map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b", "[..])) {
        headers.insert(name, joined);
    }
}

impl Service<Request<RequestBody>> for Upstream {
    type Response = Response<OriginBody>;
    type Error = UpstreamError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<OriginBody>, UpstreamError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let mut request = self.rewrite(request);
        if let Some(exchange) = request.extensions().get::<Exchange>().cloned() {
            hyper::ext::on_informational(&mut request, move |interim| {
                exchange.send(interim.status(), interim.headers());
            });
        }
        let answer = self.client.request(request);
        let timeout = self.timeout;
        Box::pin(async move {
            let answer = match tokio::time::timeout(timeout, answer).await {
                Ok(answer) => answer?,
                Err(_) => return Err(UpstreamError::TooSlow),
            };
            // hyper takes it for a final response. No request leaves here with `Upgrade` (RFC 9110 15.2.2).
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Err(UpstreamError::Switches);
            }
            Ok(answer.map(|body| TimeoutBody::new(timeout, body)))
        })
    }
}
