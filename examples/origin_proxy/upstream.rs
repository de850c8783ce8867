//! The way to the origin: a pooled HTTP/1.1 client as a tower service.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{self, HeaderName};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::body::Body;
use larder::QueryBody;
use larder::semantics::fields::{list, remove_hop_by_hop};
use rustls::ClientConfig;
use tower::Service;

use crate::client::Client;
use crate::client_calls::ClientCall;
use crate::content::RequestContent;
use crate::host::{self, Host};
use crate::limits::Limits;
use crate::pool::Sender;
use crate::progress::{self, Progress, SentContent};
use crate::upgrade;
use crate::upstream_error::UpstreamError;
use crate::via::{self, append};

pub const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A request body: the client's, or the stored content of a QUERY.
pub type RequestBody = QueryBody<RequestContent>;

/// A body of the origin; the call is in progress until it ends.
pub type OriginBody = progress::OriginBody<Option<ClientCall>>;

/// Sends requests to one origin.
#[derive(Clone)]
pub struct Upstream(Arc<Inner>);

struct Inner {
    call_wait: Duration,
    host: Host,
    id: HeaderValue,
    origin: Uri,
    own_host: HeaderValue,
    sender: Sender<SentContent<RequestBody>>,
    timeout: Duration,
}

impl Upstream {
    /// `origin` is `http://HOST[:PORT]/` or the same with `https`; `id` names this proxy in `CDN-Loop`.
    pub fn new(
        origin: Uri,
        tls: &Arc<ClientConfig>,
        host: Host,
        id: HeaderValue,
        timeout: Duration,
        limits: &Limits,
    ) -> Self {
        let own_host = origin.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
        let own_host = own_host.unwrap_or(HeaderValue::from_static(""));
        let sender = Sender::new(timeout, limits.origin, tls);
        Self(Arc::new(Inner { call_wait: limits.call_wait, host, id, origin, own_host, sender, timeout }))
    }
}

impl Inner {
    /// The request as the origin gets it.
    fn rewrite(&self, mut request: Request<RequestBody>) -> Request<RequestBody> {
        let mut uri = self.origin.clone().into_parts();
        uri.path_and_query = request.uri().path_and_query().cloned().or(Some(PathAndQuery::from_static("/")));
        let named = host::of(&request);
        let received = std::mem::replace(request.version_mut(), Version::HTTP_11);
        let client = request.extensions().get().map(Client::address);
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
        let host = named.filter(|_| self.host == Host::Client).unwrap_or_else(|| self.own_host.clone());
        headers.insert(header::HOST, host);
        // The client's scheme, whatever the origin's is.
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
        if let Some(address) = client
            && let Ok(address) = HeaderValue::from_str(&address.ip().to_string())
        {
            append(headers, FORWARDED_FOR, &address);
        }
        via::add(headers, received);
        append(headers, CDN_LOOP, &self.id);
        if let Ok(uri) = Uri::from_parts(uri) {
            *request.uri_mut() = uri;
        }
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
            let progress = Progress::new(upstream.timeout);
            let request = request.map(|body| SentContent::new(body, progress.clone()));
            let answer = progress.limit(upstream.sender.send(request, &progress)).await;
            let mut answer = answer.ok_or(UpstreamError::TooSlow)??;
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
            // Before the cache stores it: a hit reports how its response was received. RFC 9110 2.5: the message that
            // leaves here has this proxy's version.
            let received = std::mem::replace(answer.version_mut(), Version::HTTP_11);
            via::add(answer.headers_mut(), received);
            Ok(answer.map(|body| OriginBody::new(body, progress, call)))
        })
    }
}
