//! What a client meets first and last: loops are refused, errors become answers, hop-by-hop fields end here.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::{self, HeaderMap};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use larder::semantics::fields::{list, remove_hop_by_hop};
use larder::{CacheBody, CacheService, QueryService};
use tower::Service;

use crate::upstream::{CDN_LOOP, OriginBody, Upstream, UpstreamError, append};

/// The cache before the origin, as a server sees it: it never fails.
#[derive(Clone)]
pub struct Edge {
    pub cache: QueryService<CacheService<Upstream>>,
    pub id: HeaderValue,
}

impl Edge {
    fn refusal(&self, request: &Request<Incoming>) -> Option<StatusCode> {
        // RFC 8586: our own name in the list means that the request has been here before.
        if list(request.headers(), &CDN_LOOP).any(|member| {
            let id = member.split(|&byte| byte == b';').next().unwrap_or_default();
            id.trim_ascii() == self.id.as_bytes()
        }) {
            return Some(StatusCode::LOOP_DETECTED);
        }
        // A reverse proxy is no tunnel.
        (request.method() == Method::CONNECT).then_some(StatusCode::METHOD_NOT_ALLOWED)
    }
}

impl Service<Request<Incoming>> for Edge {
    type Response = Response<CacheBody<OriginBody>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        if let Some(status) = self.refusal(&request) {
            return Box::pin(std::future::ready(Ok(error(status))));
        }
        tidy(request.headers_mut());
        let answer = self.cache.call(request);
        Box::pin(async move {
            let mut response = match answer.await {
                Ok(response) => response,
                Err(UpstreamError::TooSlow) => error(StatusCode::GATEWAY_TIMEOUT),
                Err(UpstreamError::Switches | UpstreamError::Unreachable(_)) => {
                    error(StatusCode::BAD_GATEWAY)
                }
            };
            let headers = response.headers_mut();
            remove_hop_by_hop(headers);
            append(headers, header::VIA, &HeaderValue::from_static("1.1 larder"));
            Ok(response)
        })
    }
}

/// What the origin will not see must not select what is stored: fields that `Connection` nominates go before
/// the cache looks. Cookies, which HTTP/2 may split, are one line again (RFC 9113 8.2.3).
fn tidy(headers: &mut HeaderMap) {
    // It tells the cache that there is content; the client of the origin makes its own.
    let coding = headers.get(header::TRANSFER_ENCODING).cloned();
    remove_hop_by_hop(headers);
    headers.extend(coding.map(|coding| (header::TRANSFER_ENCODING, coding)));
    let crumbs: Vec<_> = headers.get_all(header::COOKIE).into_iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, cookie);
    }
}

fn error(status: StatusCode) -> Response<CacheBody<OriginBody>> {
    let mut response = Response::new(CacheBody::default());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("x-cache", HeaderValue::from_static("Error from larder"));
    headers.insert("cache-status", HeaderValue::from_static("larder; fwd=miss"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}
