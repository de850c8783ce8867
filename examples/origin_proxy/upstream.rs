//! The way to the origin: a pooled HTTP/1.1 client as a tower service.
//!
//! Where there are several upstreams, a request without content that could not be sent to one of them is sent to another.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{self, HeaderName};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};
use larder::admin::LARDER_ADMIN;
use larder::semantics::fields::{list, remove_hop_by_hop};
use larder::{QueryBody, SliceBody};
use rustls::ClientConfig;
use tower::Service;

use crate::client::Client;
use crate::client_calls::ClientCall;
use crate::content::RequestContent;
use crate::health::Failure;
use crate::host::{self, Host};
use crate::limits::Limits;
use crate::node_name::NodeName;
use crate::pool::{Sender, carries_content};
use crate::progress::{self, Progress, SentContent};
use crate::retry::copy;
use crate::upgrade;
use crate::upstream_error::UpstreamError;
use crate::upstreams::{Node, UpstreamCall, Upstreams};
use crate::via::{self, append};

pub const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A request body: the client's, or the stored content of a QUERY.
pub type RequestBody = QueryBody<SliceBody<RequestContent>>;

/// A body of the origin; the call is in progress until it ends.
pub type OriginBody = progress::OriginBody<(Option<ClientCall>, UpstreamCall)>;

/// Sends requests to the origin.
#[derive(Clone)]
pub struct Upstream(Arc<Inner>);

struct Inner {
    call_wait: Duration,
    host: Host,
    id: HeaderValue,
    name: NodeName,
    sender: Sender<SentContent<RequestBody>>,
    timeout: Duration,
    upstreams: Arc<Upstreams>,
}

impl Upstream {
    /// `id` names this proxy in `CDN-Loop`, and `name` in `Via`.
    pub fn new(
        upstreams: Arc<Upstreams>,
        tls: &Arc<ClientConfig>,
        host: Host,
        (id, name): (HeaderValue, NodeName),
        timeout: Duration,
        limits: &Limits,
    ) -> Self {
        let sender = Sender::new(timeout, limits.origin, tls);
        Self(Arc::new(Inner { call_wait: limits.call_wait, host, id, name, sender, timeout, upstreams }))
    }
}

impl Inner {
    /// The request as any upstream gets it.
    fn rewrite(&self, mut request: Request<RequestBody>) -> Request<RequestBody> {
        let named = host::of(&request);
        let received = std::mem::replace(request.version_mut(), Version::HTTP_11);
        let client = request.extensions().get::<Client>();
        // A request that no client has sent, as one that warms the cache, has only the scheme of its URI.
        let scheme = client.map(Client::scheme).or(request.uri().scheme());
        let is_secure = scheme == Some(&Scheme::HTTPS);
        let scheme = HeaderValue::from_static(if is_secure { "https" } else { "http" });
        let client = client.map(Client::address);
        let has_open_content =
            !request.body().is_end_stream() && request.body().size_hint().exact().is_none();
        let headers = request.headers_mut();
        // The edge leaves this field only if the client asks for a switch of protocols.
        let protocols = headers.remove(header::UPGRADE);
        remove_hop_by_hop(headers);
        if let Some(protocols) = protocols {
            upgrade::insert(headers, protocols);
        }
        if has_open_content && !headers.contains_key(header::CONTENT_LENGTH) {
            // Without this field, hyper would send a GET whose content has no known length without its content.
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        // The client's own value does not describe this hop.
        headers.remove(FORWARDED_HOST);
        if let Some(named) = &named {
            headers.insert(FORWARDED_HOST, named.clone());
        }
        headers.remove(header::HOST);
        if let Some(host) = named {
            headers.insert(header::HOST, host);
        }
        // The client's scheme, whatever the origin's is.
        headers.insert(FORWARDED_PROTO, scheme);
        if let Some(address) = client
            && let Ok(address) = HeaderValue::from_str(&address.ip().to_string())
        {
            append(headers, FORWARDED_FOR, &address);
        }
        via::add(headers, self.name, received);
        append(headers, CDN_LOOP, &self.id);
        request
    }

    /// Sends a request to the upstream whose turn it is, and while it can't be sent, to the others.
    async fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Progress, UpstreamCall), UpstreamError> {
        let again = self.upstreams.are_several() && !carries_content(&request);
        let again = again.then(|| copy(&request, RequestBody::default()));
        let mut next = Some(request);
        let (mut tried, mut failure) = (Vec::new(), None);
        while let Some(request) = next.take() {
            let (node, call) = match self.upstreams.begin(&tried, self.call_wait).await {
                Ok(begun) => begun,
                Err(none) => return Err(failure.unwrap_or(none)),
            };
            let asked = request.uri().clone();
            let progress = Progress::new(self.timeout);
            let request = self.addressed(request, node).map(|body| SentContent::new(body, progress.clone()));
            let answer = progress.limit(self.sender.send(request, &progress)).await;
            let error = match answer {
                Some(Ok(answer)) => {
                    node.answers();
                    return Ok((answer, progress, call));
                }
                Some(Err(error)) => UpstreamError::from(error),
                None => UpstreamError::TooSlow,
            };
            if error.is_unsent() {
                node.fails(Failure::Connecting, &error.to_string());
                tried.push(node);
                next = again.as_ref().map(|again| copy(again, RequestBody::default()));
            } else if error.is_origins() {
                node.fails(Failure::Answering(asked.path()), &error.to_string());
            }
            failure = Some(error);
        }
        Err(failure.unwrap_or(UpstreamError::Sick))
    }

    /// The request to this upstream.
    fn addressed(&self, mut request: Request<RequestBody>, node: &Node) -> Request<RequestBody> {
        let mut uri = node.uri.clone().into_parts();
        uri.path_and_query = request.uri().path_and_query().cloned().or(Some(PathAndQuery::from_static("/")));
        if let Ok(uri) = Uri::from_parts(uri) {
            *request.uri_mut() = uri;
        }
        let headers = request.headers_mut();
        // Which host is the origin's own, a shield knows.
        if (self.host == Host::Upstream && !node.is_shield()) || !headers.contains_key(header::HOST) {
            headers.insert(header::HOST, node.host.clone());
        }
        node.mark(headers);
        request
    }
}

/// A transfer coding that changes the content, and that the client of this proxy does not decode.
fn is_coding(member: &[u8]) -> bool {
    let name = member.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    ["compress", "deflate", "gzip", "x-compress", "x-gzip"]
        .iter()
        .any(|coding| name.eq_ignore_ascii_case(coding.as_bytes()))
}

impl Service<Request<RequestBody>> for Upstream {
    type Response = Response<OriginBody>;
    type Error = UpstreamError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<OriginBody>, UpstreamError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let upstream = Arc::clone(&self.0);
        let mut request = upstream.rewrite(request);
        let client = request.extensions().get::<Client>().cloned();
        if let Some(exchange) = client.as_ref().and_then(Client::exchange).cloned() {
            hyper::ext::on_informational(&mut request, move |interim| {
                exchange.send(interim.status(), interim.headers());
            });
        }
        let asked = request.headers().get(header::UPGRADE).cloned();
        Box::pin(async move {
            let call = match client.as_ref().and_then(Client::calls) {
                Some(calls) => Some(calls.begin(upstream.call_wait).await.ok_or(UpstreamError::Busy)?),
                None => None,
            };
            drop(client);
            let (mut answer, progress, upstream_call) = upstream.send(request).await?;
            let is_switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
            // RFC 9110 15.2.2: only to what was asked for.
            if is_switched && !upgrade::is_answer_to(asked.as_ref(), answer.headers()) {
                return Err(UpstreamError::Switches);
            }
            if is_switched {
                // RFC 9110 8.6, RFC 9112 6.1: a 1xx has neither.
                answer.headers_mut().remove(header::CONTENT_LENGTH);
                answer.headers_mut().remove(header::TRANSFER_ENCODING);
            }
            // RFC 9112 6.1, 7: such a coding belongs to this connection, and `TE` has not asked for one.
            if list(answer.headers(), &header::TRANSFER_ENCODING).any(is_coding) {
                return Err(UpstreamError::Coded);
            }
            answer.headers_mut().remove(LARDER_ADMIN); // no origin passes for an admin service
            // Before the cache stores it: a hit reports how its response was received. RFC 9110 2.5: the message that
            // leaves here has this proxy's version.
            let received = std::mem::replace(answer.version_mut(), Version::HTTP_11);
            via::add(answer.headers_mut(), upstream.name, received);
            Ok(answer.map(|body| OriginBody::new(body, progress, (call, upstream_call))))
        })
    }
}
